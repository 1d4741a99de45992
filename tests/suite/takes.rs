//! A person takes a conversation in the middle of the agent's answer, through the API. Each order stops whoever runs before each call about
//! the customer; the phone and Meta's books say what went out.

use std::cell::Cell;
use std::time::Duration;

use futures::FutureExt;
use serde_json::json;
use world::orders::by_chance;
use world::story::{ANA, World, answer};

const MINUTE: Duration = Duration::from_mins(1);
/// How many orders are tried by chance beside those in which what the person does is not interrupted.
const SEEDS: u64 = 30;
const PERSONS_WORDS: &str = "I am Eva, let me see";

/// An answer of three parts, each of which begins with a letter of its own.
fn long() -> String {
    ["A", "B", "C"].map(|it| it.repeat(3_000)).join("\n\n")
}

/// What lies on the customer's phone of ours: the first letters of the agent's parts, and the person's words.
fn arrived(world: &World) -> Vec<String> {
    let texts = world.meta.received(ANA).into_iter().map(|it| it.text.unwrap_or_default());
    texts.map(|it| if it == PERSONS_WORDS { it } else { it.chars().take(1).collect() }).collect()
}

/// Ana has asked, and the agent's long answer and two more lie in the queue.
async fn being_answered() -> World {
    let world = World::new().await;
    world.agent_is_silent();
    world.writes(ANA, "hello");
    world.settle().await;
    let turn = world.turns().remove(0);
    for (index, text) in [long(), "D, the second answer".to_owned(), "E, the third".to_owned()].iter().enumerate() {
        world.sends(&answer(&turn, u16::try_from(index).expect("few"), text)).await;
    }
    world.clock.advance(Duration::from_secs(1));
    world
}

/// A person takes it beside the agent's answer, in this order; whether they send a message, or take it only.
async fn is_taken(choose: &mut dyn FnMut(usize) -> usize, is_message: bool, order: &str) {
    let world = being_answered().await;
    let conversation = world.conversation(ANA).await.id;
    let at_acceptance = Cell::new(0);
    let person = async {
        if is_message {
            let body = json!({ "message": { "type": "text", "text": PERSONS_WORDS }, "person": "Eva" });
            let path = format!("/v1/conversations/{conversation}/messages");
            let sent = world.api_of("demo", "POST", &path, &[("idempotency-key", "k")], Some(body)).await;
            assert_eq!(sent.status, 202, "{order}: {sent:?}");
        } else {
            let (status, body) = world.api("POST", &format!("/v1/conversations/{conversation}/take"), None).await;
            assert_eq!(status, 200, "{order}: {body}");
        }
        at_acceptance.set(world.accepted().1);
    };
    let agent = async {
        for _ in 0..3 {
            world.hands_over("RepliesQueue").await;
        }
    };
    world.race(vec![agent.boxed_local(), person.boxed_local()], choose).await;
    world.pass(MINUTE * 3).await;
    let arrived = arrived(&world);
    let of_agent: Vec<&str> = arrived.iter().map(String::as_str).take_while(|it| *it != PERSONS_WORDS).collect();
    let behind = &arrived[of_agent.len()..];
    assert_eq!(of_agent, ["A", "B", "C", "D", "E"][..of_agent.len()], "{order}: in its order");
    assert_eq!(behind.len(), usize::from(is_message), "{order}: nothing of the agent's comes behind the person's words: {arrived:?}");
    // What was let through before the acceptance may be on its way to Meta, one part at most.
    assert!(of_agent.len() <= at_acceptance.get() + 1, "{order}: {} had gone out, and then {arrived:?}", at_acceptance.get());
    // The rest is refused, and told: a reply once.
    let codes = world.codes();
    assert!(codes.iter().all(|it| ["taken_by_person", "part_failed"].contains(&it.as_str())), "{order}: {codes:?}");
    assert_eq!(of_agent.len() + codes.len(), 5, "{order}: {codes:?}");

    world.writes(ANA, "are you there?");
    world.pass(MINUTE).await;
    assert_eq!(world.words_told(), ["hello"], "{order}: a person has it");
    let (status, body) = world.api("POST", &format!("/v1/conversations/{conversation}/release"), None).await;
    assert_eq!(status, 200, "{order}: {body}");
    world.pass(MINUTE).await;
    for text in ["and now?", "good"] {
        world.writes(ANA, text);
        world.pass(MINUTE).await;
    }
    let missed: Vec<Vec<String>> = world.turns().iter().map(|it| it.missed.iter().filter_map(|it| it.text.clone()).collect()).collect();
    assert_eq!(world.words_told(), ["hello", "and now?", "good"], "{order}");
    assert!(missed[1].contains(&"are you there?".to_owned()), "{order}: the first turn names what was missed: {missed:?}");
    assert_eq!((missed[0].len(), missed[2].len()), (0, 0), "{order}: and no other: {missed:?}");
}

async fn is_taken_in_every_order(is_message: bool) {
    for place in 0.. {
        let mut chosen = 0;
        let mut choose = |left: usize| {
            chosen += 1;
            left - 1 - usize::from(left == 2 && chosen <= place)
        };
        is_taken(&mut choose, is_message, &format!("after {place} calls")).await;
        if chosen < place {
            println!("after each of {place} calls");
            break;
        }
    }
    for seed in 0..SEEDS {
        is_taken(&mut by_chance(seed), is_message, &format!("by chance, {seed}")).await;
    }
}

#[tokio::test]
async fn once_a_persons_message_is_accepted_nothing_more_of_the_agents_answer_goes_out() {
    is_taken_in_every_order(true).await;
}

#[tokio::test]
async fn once_a_person_has_taken_it_nothing_more_of_the_agents_answer_goes_out() {
    is_taken_in_every_order(false).await;
}
