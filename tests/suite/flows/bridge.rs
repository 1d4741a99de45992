//! Agents that listen on HTTPS: what they are told, what becomes of what they answer, and of what they do not.

use std::time::Duration;

use channel::jobs::{AnswerProblem, EndpointState, Happened};
use channel::queues::Queue;
use channel::store::Endpoint;
use serde_json::{Value, json};
use world::mapping::Freely;
use world::story::{ANA, AgentAnswer, NUMBER, World, connection_id, texts};
use world::wire::{Fault, Rule};

use super::neighbours::{THEIR_NUMBER, neighbour};
use super::{DAY, HOUR, MINUTE, SECOND};
use crate::{in_each_way, in_every_way};

const AGENT: &str = "/v1/connections/demo/agents/example";
const FREELY: Freely = Freely { workers: 10, trouble: None };

/// What the feed told of the agent's endpoint.
fn told(world: &World) -> Vec<(EndpointState, Option<String>)> {
    let states = world.events().into_iter().filter_map(|it| match it.what {
        Happened::AgentEndpoint { state, code, .. } => Some((state, code)),
        _ => None,
    });
    states.collect()
}

/// The lines on the phone of a customer that are the business's.
fn answers(world: &World, who: &str) -> Vec<String> {
    world.screen(who).iter().filter_map(|it| it.strip_prefix("< ").map(str::to_owned)).collect()
}

/// The agent's answers that were not all sent: what the feed told is wrong with them.
fn refused(world: &World) -> Vec<Vec<AnswerProblem>> {
    let problems = world.events().into_iter().filter_map(|it| match it.what {
        Happened::AgentAnswerRefused { problems, .. } => Some(problems),
        _ => None,
    });
    problems.collect()
}

fn places(problems: &[AnswerProblem]) -> Vec<&str> {
    problems.iter().map(|it| it.place.as_str()).collect()
}

#[tokio::test]
async fn an_agent_on_https_is_told_a_signed_turn_and_its_answer_goes_out_once() {
    in_every_way(async |world: &World| {
        let agent = world.agent_listens_on_https().await;
        agent.answers(|it| AgentAnswer::Says(200, texts(&[&format!("You said: {}", it.words()), "And now?"])));
        world.writes(ANA, "hello");
        world.settle().await;
        assert_eq!(answers(world, ANA), ["You said: hello", "And now?"]);
        let asked = agent.asked();
        assert!(asked.iter().all(|it| it.is_turn() && it.id == asked[0].id), "told again, it has the same id: {asked:?}");
        let turn = &asked[0].json()["data"];
        assert_eq!((&turn["agent"], &turn["connection"], &turn["late"]), (&json!("example"), &json!("demo"), &json!(false)));
        assert!(turn["turn"].as_str().is_some_and(|it| it.ends_with(&format!("/{}", asked[0].id))), "{turn}");
        let seconds: i64 = asked[0].timestamp.parse().expect("a number");
        assert_eq!(seconds, asked[0].at_ms / 1_000);
        assert_eq!(world.turns(), [], "nothing goes to the other agents' queue");
        assert_eq!(world.codes(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_says_nothing_is_asked_once_and_a_handover_or_a_mark_needs_no_words() {
    in_each_way(async |world: &World| {
        let agent = world.agent_listens_on_https().await;
        for silence in ["", " \n", "{}", r#"{"replies":[]}"#] {
            agent.says(if silence.is_empty() { 204 } else { 200 }, silence);
            world.writes(ANA, "hello");
            world.settle().await;
        }
        assert_eq!(agent.words().len(), 4);
        assert_eq!(answers(world, ANA), [""; 0]);
        agent.says(200, r#"{"replies":[{"handover":true}]}"#);
        world.writes(ANA, "a person, please");
        world.settle().await;
        assert!(world.conversation(ANA).await.has_person(world.now()));
        assert_eq!(world.codes(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn what_an_endpoint_does_not_take_is_told_again_in_order() {
    in_each_way(async |world: &World| {
        let agent = world.agent_listens_on_https().await;
        agent.says(500, "");
        world.writes(ANA, "one");
        world.settle().await;
        world.writes(ANA, "two");
        world.settle().await;
        assert_eq!(agent.words(), ["one"], "the second waits for the first");
        agent.says_back();
        world.pass(MINUTE).await;
        assert_eq!(agent.words(), ["one", "two"]);
        assert_eq!(answers(world, ANA), ["You said: one", "You said: two"]);
        assert_eq!(told(world), [], "a failure or two is nothing to tell");
        let attachment = world.attachment().await;
        assert_eq!((attachment.failures, attachment.down_since), (0, None), "they are forgotten");
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_goes_on_failing_is_down_until_it_answers_a_ping() {
    in_each_way(async |world: &World| {
        let agent = world.agent_listens_on_https().await;
        agent.says(503, "");
        world.writes(ANA, "one");
        world.settle().await;
        world.pass(MINUTE).await;
        assert_eq!(told(world), [(EndpointState::Down, Some("http_503".to_owned()))]);
        assert!(world.attachment().await.down_since.is_some());
        let asked = agent.turns().len();
        world.writes(ANA, "two");
        world.pass(MINUTE * 10).await;
        assert_eq!(agent.turns().len(), asked, "nothing is told to an endpoint that is down");
        assert!(agent.asked().len() > asked, "it is asked how it is");
        agent.says_back();
        world.pass(MINUTE * 20).await;
        assert_eq!(told(world).last(), Some(&(EndpointState::Up, None)));
        assert_eq!(told(world).len(), 2);
        assert_eq!(agent.words(), ["one", "two"]);
        assert_eq!(answers(world, ANA), ["You said: one", "You said: two"]);
        let late: Vec<Value> = agent.turns().iter().skip(asked).map(|it| it.json()["data"]["late"].clone()).collect();
        assert!(late.iter().all(|it| *it == json!(true)), "{late:?}");
        assert!(world.conversation(ANA).await.owed.is_none());
        let attachment = world.attachment().await;
        assert_eq!((attachment.failures, attachment.down_since, attachment.probed_at, attachment.up_since), (0, None, None, None));
        let logs = world.logs(&connection_id()).await;
        let of_agent: Vec<&String> = logs.iter().filter(|it| it.contains("turns")).collect();
        assert_eq!(of_agent.len(), 2, "{of_agent:?}");
        assert!(of_agent[1].contains("it answers with 503") && of_agent[0].contains("takes its turns again"), "{of_agent:?}");
        world.writes(ANA, "three");
        world.settle().await;
        assert_eq!(answers(world, ANA).last().map(String::as_str), Some("You said: three"));
    })
    .await;
}

#[tokio::test]
async fn messages_that_meet_an_endpoint_as_it_fails_and_recovers_are_told_in_order() {
    in_each_way(async |world: &World| {
        let agent = world.agent_listens_on_https().await;
        agent.says(500, "");
        for words in ["one", "two", "three", "four"] {
            world.writes(ANA, words);
            world.pass(SECOND * 9).await;
        }
        agent.says_back();
        world.pass(MINUTE * 10).await;
        world.writes(ANA, "five");
        world.pass(MINUTE).await;
        assert_eq!(agent.words(), ["one", "two", "three", "four", "five"]);
        assert_eq!(answers(world, ANA), ["one", "two", "three", "four", "five"].map(|it| format!("You said: {it}")));
    })
    .await;
}

#[tokio::test]
async fn a_turn_that_is_stuck_while_its_endpoint_fails_and_recovers_does_not_overtake() {
    /// How often the bridge reads before the turn of the first message is owed.
    async fn reads_of_the_first() -> u64 {
        let world = World::new().await;
        let agent = world.agent_listens_on_https().await;
        agent.says(410, "");
        world.writes(ANA, "one");
        world.settle().await;
        world.may_leave_messages();
        world.dynamo.faults().calls_by("bridge")["GetItem"]
    }
    let world = World::new().await;
    let agent = world.agent_listens_on_https().await;
    agent.says(410, "");
    // DynamoDB fails the bridge from the second turn on, until the endpoint is well again.
    world.dynamo.faults().add(Rule::every(Fault::InternalError).by("bridge").of("GetItem").after(reads_of_the_first().await));
    world.writes(ANA, "one");
    // Meta's times are whole seconds.
    world.clock.advance(SECOND);
    world.writes(ANA, "two");
    world.pass(SECOND * 5).await;
    assert_eq!((agent.words(), world.lying_in("BridgeQueue").len()), (vec!["one".to_owned()], 1));
    agent.says_back();
    world.pass(MINUTE).await;
    assert_eq!(told(&world).last(), Some(&(EndpointState::Up, None)));
    world.dynamo.faults().clear();
    world.pass(MINUTE * 5).await;
    assert_eq!(answers(&world, ANA), ["You said: one", "You said: two"]);
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_down_at_once() {
    in_each_way(async |world: &World| {
        let agent = world.agent_listens_on_https().await;
        agent.says(410, "");
        world.writes(ANA, "hello");
        world.settle().await;
        assert_eq!(told(world), [(EndpointState::Down, Some("http_410".to_owned()))]);
        agent.says_back();
        world.pass(MINUTE * 20).await;
        assert_eq!(answers(world, ANA), ["You said: hello"]);
    })
    .await;
}

#[tokio::test]
async fn an_agent_has_25_seconds_and_the_customer_sees_it_think() {
    let world = World::new().await;
    let agent = world.agent_listens_on_https().await;
    agent.answers(|_| AgentAnswer::After(SECOND * 24, 200, texts(&["I thought about it"])));
    world.writes(ANA, "hello");
    let typing = async |after_s: i64| {
        let began = world.clock.now_ms();
        world.comes_true(|_| !agent.turns().is_empty()).await;
        world.clock.until(began + after_s * 1_000).await;
        let phone = world.meta.phone(ANA);
        (phone.screen()[0].read.is_some(), phone.sees_typing())
    };
    // It is shown for 25 seconds, and anew after 20.
    let seen = world.run_until(FREELY, async { (typing(1).await, typing(23).await) }).await;
    assert_eq!(seen, ((true, Ok(vec![NUMBER.to_owned()])), (true, Ok(vec![NUMBER.to_owned()]))));
    world.pass(MINUTE * 5).await;
    let phone = world.meta.phone(ANA);
    assert_eq!((answers(&world, ANA), phone.sees_typing()), (vec!["I thought about it".to_owned()], Ok(vec![])));
    agent.answers(|_| AgentAnswer::Never);
    world.writes(ANA, "and this?");
    world.pass(MINUTE * 5).await;
    assert_eq!(told(&world), [(EndpointState::Down, Some("timeout".to_owned()))]);
    agent.says_back();
    world.pass(MINUTE * 20).await;
    assert_eq!(answers(&world, ANA).last().map(String::as_str), Some("You said: and this?"));
}

#[tokio::test]
async fn a_customer_of_a_connection_that_does_not_run_sees_nobody_type() {
    let world = World::new().await;
    let agent = world.agent_listens_on_https().await;
    agent.says(500, "");
    world.writes(ANA, "hello");
    world.settle().await;
    world.stop().await;
    let shown = world.meta.requests().begun;
    agent.says(200, "");
    world.pass(MINUTE).await;
    assert!(agent.turns().len() > 1, "what is handed over is told");
    assert_eq!(world.meta.requests().begun, shown, "and Meta is asked nothing");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let world = World::new().await;
    let agent = world.agent_listens_on_https().await;
    let elsewhere = format!("{}/elsewhere", agent.url);
    agent.answers(move |_| AgentAnswer::Redirects(elsewhere.clone()));
    world.writes(ANA, "hello");
    world.pass(MINUTE * 2).await;
    assert_eq!(told(&world), [(EndpointState::Down, Some("http_302".to_owned()))]);
    world.may_leave_messages();
}

#[tokio::test]
async fn another_tenants_dead_endpoint_delays_nobody() {
    let world = World::new().await;
    neighbour(&world, Some("their-agent")).await;
    let theirs = world.listens_on_https("neighbour", "/v1/connections/theirs/agents/their-agent").await;
    let ours = world.agent_listens_on_https().await;
    theirs.answers(|_| AgentAnswer::Never);
    let began = world.clock.now_ms();
    // More of theirs than are asked at once, whose answers would keep more than a quarter of the functions waiting.
    let mapping = world.template.mappings.values().find(|it| it.function == "BridgeFunction").expect("it is in the template");
    assert!(mapping.max_concurrency.is_some_and(|it| it >= 4 * 50));
    let theirs_at_once = 60;
    for who in 0..theirs_at_once {
        world.writes_to(THEIR_NUMBER, &format!("34600{who:06}"), "to them");
    }
    let (told_ms, asked) = world
        .run_until(Freely { workers: theirs_at_once, ..FREELY }, async {
            world.comes_true(|_| theirs.turns().len() >= 25).await;
            world.writes(ANA, "to you");
            world.comes_true(|_| !ours.turns().is_empty()).await;
            (world.clock.now_ms(), theirs.turns().len())
        })
        .await;
    assert!(told_ms - began < 5_000, "ours was told after {} ms, while theirs hang", told_ms - began);
    assert!(asked <= 50, "{asked} are asked at once");
    world.pass(MINUTE * 15).await;
    assert_eq!(answers(&world, ANA), ["You said: to you"]);
    let of: Vec<String> =
        world.events().into_iter().filter(|it| matches!(it.what, Happened::AgentEndpoint { .. })).map(|it| it.tenant.to_string()).collect();
    assert_eq!(of, ["neighbour"]);
    theirs.says_back();
    world.pass(MINUTE * 20).await;
    assert_eq!(theirs.words().len(), theirs_at_once);
}

#[tokio::test]
async fn of_an_answer_that_is_not_all_good_the_good_replies_go_out() {
    in_every_way(async |world: &World| {
        let agent = world.agent_listens_on_https().await;
        let answer = json!({ "replies": [
            { "message": { "type": "text", "text": "first" } },
            { "message": { "type": "text", "text": " " } },
            { "message": { "type": "song", "text": "la la la" } },
            { "quote": "wamid.1" },
            { "message": { "type": "text", "text": "last" }, "colour": "red" },
            { "message": { "type": "text", "text": "second" } },
        ] });
        agent.says(200, &answer.to_string());
        world.writes(ANA, "hello");
        world.settle().await;
        assert_eq!(answers(world, ANA), ["first", "second"]);
        let problems = refused(world);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(places(&problems[0]), ["replies[1].message.text", "replies[2].message.type", "replies[3]", "replies[4].colour"]);
        assert!(problems[0].iter().all(|it| !it.note.contains("la la") && !it.note.contains("red")), "{problems:?}");
        let logs = world.logs(&connection_id()).await;
        assert!(logs[0].contains("replies[1].message.text It is empty; write something."), "{logs:?}");
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_is_none_ends_the_turn_and_is_told() {
    in_each_way(async |world: &World| {
        let agent = world.agent_listens_on_https().await;
        for (nth, body) in ["OK", "[]", r#"{"reply":"hello"}"#, r#"{"replies":"hello"}"#, "\u{fffd}", "{"].into_iter().enumerate() {
            agent.says(200, body);
            world.writes(ANA, "hello");
            world.settle().await;
            let problems = refused(world);
            assert_eq!((problems.len(), places(&problems[nth])), (nth + 1, vec![""]), "{body:?}");
        }
        world.pass(MINUTE * 2).await;
        assert_eq!(agent.words().len(), 6, "the agent has seen each");
        assert_eq!((answers(world, ANA).len(), told(world)), (0, vec![]));
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_a_failure() {
    let world = World::new().await;
    let agent = world.agent_listens_on_https().await;
    agent.says(200, &texts(&[&"x".repeat(70_000)]));
    world.writes(ANA, "hello");
    world.pass(MINUTE * 2).await;
    assert_eq!(told(&world), [(EndpointState::Down, Some("answer_too_long".to_owned()))]);
    agent.says_back();
    world.pass(MINUTE * 20).await;
    assert_eq!(answers(&world, ANA), ["You said: hello"]);
}

#[tokio::test]
async fn a_secret_is_replaced_under_traffic_and_no_request_fails() {
    let world = World::new().await;
    let agent = world.agent_listens_on_https().await;
    let mut said = Vec::new();
    let mut say = async |words: &str| {
        world.writes(ANA, words);
        world.settle().await;
        said.push(format!("You said: {words}"));
        assert_eq!(answers(&world, ANA), said);
        agent.asked().pop().expect("it was asked")
    };
    assert_eq!(say("before").await.signatures(), 1);
    let (status, rotated) = world.api("PUT", AGENT, Some(json!({ "rotate_secret": true }))).await;
    let secret = rotated["signing_secret"]["text"].as_str().expect("it is shown once").to_owned();
    assert_eq!((status, rotated["signing_secret"]["set"].as_bool()), (200, Some(true)), "{rotated}");
    assert_eq!(rotated["signing_secret"]["previous_until"], json!(world.clock.now_ms() + 24 * 60 * 60 * 1_000));
    // The agent knows the old one still, then the new one.
    let beside = say("beside").await;
    assert_eq!((beside.signatures(), beside.is_signed_with(&secret)), (2, true));
    agent.learns(&secret);
    say("with the new one").await;
    world.pass(DAY + HOUR).await;
    world.writes(ANA, "a day later");
    world.settle().await;
    let last = agent.asked().pop().expect("it was asked");
    assert_eq!((last.signatures(), last.is_signed_with(&secret)), (1, true));
    let shown = world.api("GET", "/v1/connections/demo/agents", None).await.1;
    assert_eq!(shown["items"][0]["signing_secret"]["text"], Value::Null, "it is shown once: {shown}");
    assert_eq!(shown["items"][0]["signing_secret"]["hint"], json!(secret[secret.len() - 4..]));
}

#[tokio::test]
async fn a_person_who_takes_the_conversation_while_the_agent_thinks_has_it() {
    let world = World::new().await;
    let agent = world.agent_listens_on_https().await;
    agent.answers(|_| AgentAnswer::After(SECOND * 10, 200, texts(&["I thought about it"])));
    world
        .run_until(FREELY, async {
            world.writes(ANA, "hello");
            world.comes_true(|_| !agent.turns().is_empty()).await;
            world.hand(ANA, true).await;
            world.comes_true(|it| !it.codes().is_empty()).await;
        })
        .await;
    assert_eq!((world.codes(), answers(&world, ANA)), (vec!["taken_by_person".to_owned()], vec![]));
    world.pass(MINUTE * 5).await;
}

#[tokio::test]
async fn a_turn_that_meets_a_person_on_its_way_is_named_as_missed() {
    in_each_way(async |world: &World| {
        let agent = world.agent_listens_on_https().await;
        agent.says(500, "");
        world.writes(ANA, "is anybody there?");
        world.settle().await;
        world.hand(ANA, true).await;
        let asked = agent.turns().len();
        world.pass(MINUTE).await;
        assert_eq!(agent.turns().len(), asked, "the person has it");
        world.hand(ANA, false).await;
        agent.says_back();
        world.writes(ANA, "hello?");
        world.settle().await;
        let last = agent.turns().pop().expect("a turn").json();
        assert_eq!((&last["data"]["content"]["text"], &last["data"]["missed"][0]["text"]), (&json!("hello?"), &json!("is anybody there?")));
    })
    .await;
}

#[tokio::test]
async fn turns_on_their_way_go_the_way_that_the_agent_has_by_then() {
    in_each_way(async |world: &World| {
        let agent = world.agent_listens_on_https().await;
        agent.says(500, "");
        world.writes(ANA, "hello?");
        world.settle().await;
        let (status, _) = world.api("PUT", AGENT, Some(json!({ "delivery": "turns" }))).await;
        assert_eq!(status, 200);
        world.pass(MINUTE * 5).await;
        world.writes(ANA, "hello again");
        world.settle().await;
        assert_eq!(world.words_told(), ["hello?", "hello again"]);
    })
    .await;
}

#[tokio::test]
async fn what_is_owed_to_an_agent_that_is_detached_goes_to_the_next() {
    in_each_way(async |world: &World| {
        let agent = world.agent_listens_on_https().await;
        agent.says(410, "");
        world.writes(ANA, "one");
        world.settle().await;
        world.clock.advance(SECOND);
        world.writes(ANA, "two");
        world.settle().await;
        assert_eq!(world.api("DELETE", AGENT, None).await.0, 204);
        assert_eq!(world.api("POST", "/v1/connections/demo/agents", Some(json!({ "agent": "second" }))).await.0, 201);
        world.pass(MINUTE).await;
        assert_eq!(world.words_told(), ["one", "two"]);
        assert!(world.turns().iter().all(|it| it.agent.as_str() == "second"));
    })
    .await;
}

#[tokio::test]
async fn turns_of_an_agent_whose_inbound_is_off_are_missed() {
    in_each_way(async |world: &World| {
        let agent = world.agent_listens_on_https().await;
        agent.says(500, "");
        world.writes(ANA, "hello?");
        world.settle().await;
        let asked = agent.turns().len();
        assert_eq!(world.api("PUT", AGENT, Some(json!({ "inbound": false }))).await.0, 200);
        agent.says_back();
        world.pass(MINUTE * 5).await;
        assert_eq!(agent.turns().len(), asked);
        assert!(world.conversation(ANA).await.missed.is_some(), "it is named in the next turn");
    })
    .await;
}

#[tokio::test]
async fn what_is_erased_before_it_is_told_is_not_told() {
    let world = World::new().await;
    let agent = world.agent_listens_on_https().await;
    agent.says(500, "");
    world.writes(ANA, "forget this");
    world.settle().await;
    let asked = agent.turns().len();
    let conversation = world.conversation(ANA).await.id;
    assert_eq!(world.api("DELETE", &format!("/v1/conversations/{conversation}"), None).await.0, 202);
    agent.says_back();
    world.pass(HOUR).await;
    assert_eq!(agent.turns().len(), asked);
}

#[tokio::test]
async fn what_is_owed_goes_to_the_address_that_the_agent_is_given() {
    in_each_way(async |world: &World| {
        let agent = world.agent_listens_on_https().await;
        agent.says(410, "");
        world.writes(ANA, "one");
        world.settle().await;
        world.writes(ANA, "two");
        world.settle().await;
        let other = world.agent_listens_on_https_elsewhere(&agent).await;
        world.pass(MINUTE).await;
        assert_eq!((other.words(), told(world).len()), (vec!["one".to_owned(), "two".to_owned()], 1));
        assert_eq!(answers(world, ANA), ["You said: one", "You said: two"]);
        let attachment = world.attachment().await;
        assert_eq!((attachment.down_since, attachment.down_because, attachment.failures), (None, None, 0));
        world.pass(HOUR).await;
    })
    .await;
}

#[tokio::test]
async fn what_a_customer_deletes_before_it_is_told_is_not_told() {
    let world = World::new().await;
    let agent = world.agent_listens_on_https().await;
    agent.says(500, "");
    let wamid = world.writes(ANA, "my card is 4111 1111 1111 1111");
    world.settle().await;
    let asked = agent.turns().len();
    world.writes_to(NUMBER, ANA, meta_sim::Inbound::Revoke { message_id: wamid });
    agent.says_back();
    world.pass(MINUTE).await;
    assert_eq!(agent.turns().len(), asked);
}

#[tokio::test]
async fn an_address_is_judged_again_when_it_is_asked() {
    let world = World::new().await;
    world.agent_listens_on_https().await;
    let before = world.attachment().await;
    let url = "https://169.254.169.254/latest/meta-data".to_owned();
    let endpoint = before.endpoint.clone().map(|it| Endpoint { url, ..it });
    let connection = world.store.connection(&connection_id()).await.expect("answers").expect("there").connection;
    let next = channel::store::Attachment { endpoint, ..before.clone() };
    assert!(world.store.attach(&connection, &next, Some(&before)).await.expect("the store answers"));
    world.writes(ANA, "hello");
    world.pass(MINUTE * 2).await;
    assert_eq!(told(&world), [(EndpointState::Down, Some("private_address".to_owned()))]);
    world.may_leave_messages();
}

#[tokio::test]
async fn a_probe_that_was_lost_is_sent_again_by_the_schedule() {
    let world = World::new().await;
    let agent = world.agent_listens_on_https().await;
    agent.says(410, "");
    world.writes(ANA, "hello");
    world.settle().await;
    world.clock.advance(MINUTE);
    let lost = world.queues.receive(Queue::Probes, 10, Duration::ZERO).await.expect("the queue answers");
    assert_eq!(lost.len(), 1);
    world.queues.delete(Queue::Probes, &lost[0].receipt_handle).await.expect("the queue answers");
    agent.says_back();
    world.pass(MINUTE * 10).await;
    assert_eq!(answers(&world, ANA), [""; 0], "nobody asks");
    world.schedule_all().await;
    world.pass(MINUTE).await;
    assert_eq!(answers(&world, ANA), ["You said: hello"]);
}

#[tokio::test]
async fn while_an_endpoint_is_down_nobody_looks_for_what_it_is_owed() {
    let world = World::new().await;
    let agent = world.agent_listens_on_https().await;
    agent.says(410, "");
    world.writes(ANA, "one");
    world.pass(HOUR).await;
    let looks = async || {
        world.dynamo.faults().reset_calls();
        world.schedule_all().await;
        world.pass(HOUR * 2).await;
        world.dynamo.faults().calls_by("health").values().sum::<u64>()
    };
    let calls = looks().await;
    assert!(calls < 1_000, "health makes {calls} calls in two hours");
    agent.says_back();
    world.pass(HOUR).await;
    assert_eq!(answers(&world, ANA), ["You said: one"]);
}

#[tokio::test]
async fn a_turn_that_its_endpoint_never_takes_is_given_up_and_keeps_nobody() {
    // Of a busy agent the endpoint is never down; of a quiet one it fails, answers the ping, and fails again.
    for is_busy in [true, false] {
        let world = World::new().await;
        let agent = world.agent_listens_on_https().await;
        agent.answers(|it| match it.words().as_str() {
            "" => AgentAnswer::Says(200, String::new()),
            "poison" => AgentAnswer::Says(500, String::new()),
            words => AgentAnswer::Says(200, texts(&[&format!("You said: {words}")])),
        });
        world.writes(ANA, "poison");
        world.clock.advance(SECOND);
        world.writes(ANA, "and this?");
        for _ in 0..90 {
            if is_busy {
                world.writes("34611000001", "hello");
            }
            world.pass(SECOND * 30).await;
        }
        assert_eq!(answers(&world, ANA), ["You said: and this?"], "busy: {is_busy}");
        let given_up = world.events().into_iter().filter_map(|it| match it.what {
            Happened::AgentTurnGivenUp { code, note, .. } => Some((code, note)),
            _ => None,
        });
        let note = "Agent example did not take a turn for half an hour: it answers with 500. The next one names it as missed.";
        assert_eq!(given_up.collect::<Vec<_>>(), [("http_500".to_owned(), note.to_owned())], "busy: {is_busy}");
        assert!(world.logs(&connection_id()).await.iter().any(|it| it == note));
        world.writes(ANA, "and now?");
        world.settle().await;
        let after = agent.turns().into_iter().find(|it| it.words() == "and now?").expect("it is told").json();
        assert_eq!(after["data"]["missed"][0]["text"], "poison", "busy: {is_busy}");
        let told = told(&world).len();
        world.pass(HOUR).await;
        assert_eq!(self::told(&world).len(), told, "it is well from then on");
    }
}

#[tokio::test]
async fn whoever_writes_as_an_endpoint_recovers_is_answered_at_once() {
    let world = World::new().await;
    let agent = world.agent_listens_on_https().await;
    agent.says(410, "");
    world.writes(ANA, "one");
    world.settle().await;
    agent.says_back();
    // Whoever takes it in has read a moment before that the endpoint is down.
    world.pass(SECOND * 28).await;
    world.writes("34611000001", "two");
    world.settle().await;
    world.pass(SECOND * 3).await;
    assert_eq!(told(&world).last(), Some(&(EndpointState::Up, None)));
    world.writes("34611000002", "three");
    world.pass(SECOND).await;
    assert_eq!(agent.words(), ["one", "two", "three"]);
}

#[tokio::test]
async fn an_answer_of_thousands_of_faults_is_told_in_short() {
    let world = World::new().await;
    let agent = world.agent_listens_on_https().await;
    let long = "x".repeat(5_000);
    let faults: Vec<Value> = (0..3_000).map(|_| json!(1)).chain([json!({ long: 1 })]).collect();
    let good = json!({ "message": { "type": "text", "text": "the first" } });
    let replies = [vec![good], faults].concat();
    agent.says(200, &json!({ "replies": replies }).to_string());
    world.writes(ANA, "hello");
    world.settle().await;
    assert_eq!(answers(&world, ANA), ["the first"]);
    let told = refused(&world);
    assert_eq!((told.len(), told[0].len(), told[0][0].place.as_str()), (1, 20, "replies"));
    let unheard_of = "x".repeat(5_000);
    agent.says(200, &json!({ "replies": [{ unheard_of: 1 }] }).to_string());
    world.writes(ANA, "hello again");
    world.settle().await;
    assert!(refused(&world)[1].iter().all(|it| it.place.len() <= 100));
}

#[tokio::test]
async fn a_secret_that_is_replaced_twice_leaves_the_one_that_the_agent_knows() {
    let world = World::new().await;
    let agent = world.agent_listens_on_https().await;
    for _ in 0..2 {
        assert_eq!(world.api("PUT", AGENT, Some(json!({ "rotate_secret": true }))).await.0, 200);
    }
    world.writes(ANA, "hello");
    world.settle().await;
    assert_eq!(answers(&world, ANA), ["You said: hello"], "its answer to the first was lost");
    assert_eq!(agent.asked().pop().expect("it was asked").signatures(), 2);
}

#[tokio::test]
async fn of_several_messages_that_became_one_turn_the_customer_may_delete_some() {
    for deleted in 0..3 {
        let world = World::new().await;
        let agent = world.agent_listens_on_https().await;
        assert_eq!(world.api("PUT", AGENT, Some(json!({ "quiet_ms": 2_000 }))).await.0, 200);
        agent.says(503, "");
        let mut wamids = Vec::new();
        for words in ["one", "two", "three"] {
            wamids.push(world.writes(ANA, words));
            world.pass(SECOND).await;
        }
        world.pass(SECOND * 3).await;
        assert_eq!(agent.words(), ["one\ntwo\nthree"]);
        let asked = agent.turns().len();
        world.writes_to(NUMBER, ANA, meta_sim::Inbound::Revoke { message_id: wamids[deleted].clone() });
        agent.says_back();
        world.pass(MINUTE * 5).await;
        let told: Vec<String> = agent.turns().iter().skip(asked).map(world::story::Asked::words).collect();
        let left: Vec<&str> = ["one", "two", "three"].into_iter().enumerate().filter(|it| it.0 != deleted).map(|it| it.1).collect();
        assert_eq!(told, left, "{deleted}");
    }
}

#[tokio::test]
async fn no_word_of_a_burst_is_lost_that_was_gathered_and_could_not_be_handed_over() {
    for is_taken in [true, false] {
        let world = World::new().await;
        let agent = world.agent_listens_on_https().await;
        assert_eq!(world.api("PUT", AGENT, Some(json!({ "quiet_ms": 2_000 }))).await.0, 200);
        for words in ["one", "two", "three"] {
            world.writes(ANA, words);
            world.pass(SECOND).await;
        }
        world.sqs.faults().add(Rule::every(Fault::InternalError).by("media"));
        world.pass(SECOND * 3).await;
        if is_taken {
            world.hand(ANA, true).await;
        } else {
            assert_eq!(world.api("PUT", AGENT, Some(json!({ "inbound": false }))).await.0, 200);
        }
        world.sqs.faults().clear();
        world.pass(HOUR).await;
        assert_eq!(agent.turns().len(), 0, "{is_taken}");
        if is_taken {
            world.hand(ANA, false).await;
        } else {
            assert_eq!(world.api("PUT", AGENT, Some(json!({ "inbound": true }))).await.0, 200);
        }
        world.writes(ANA, "four");
        world.pass(MINUTE).await;
        let told = agent.turns().pop().expect("a turn").json()["data"].clone();
        let missed: Vec<&Value> = told["missed"].as_array().expect("some were missed").iter().map(|it| &it["text"]).collect();
        assert_eq!(missed, ["one", "two", "three"], "{is_taken}");
    }
}
