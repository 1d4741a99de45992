//! Replies: long texts in parts, marks of reading, and the signs of typing.

use channel::jobs::MarkRead;
use channel::store::{Claim, Outbound, Writer};
use domain::ids::{MessageId, MessageKey, NumberId};
use meta_sim::Fault;
use world::story::{ANA, NUMBER, World, agent_id, answer, connection_id};
use world::wire::{self, Rule};

use super::{DAY, HOUR, MINUTE, SECOND};
use crate::{in_each_way, in_every_way};

/// A text of three parts.
fn long() -> String {
    ["one ".repeat(1_000), "two ".repeat(1_000), "three ".repeat(600)].join("\n\n")
}

/// The first word of each message of ours on the screen.
fn first_words(world: &World) -> Vec<String> {
    let lines = world.screen(ANA);
    lines.iter().filter_map(|it| it.strip_prefix("< ")).map(|it| it.split(' ').next().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn a_long_reply_goes_out_in_parts_in_order() {
    in_every_way(async |world: &World| {
        world.agent_answers(|turn| vec![answer(turn, 0, &long()), answer(turn, 1, "bye")]);
        world.writes(ANA, "tell me everything");
        world.settle().await;
        assert_eq!(first_words(world), ["one", "two", "three", "bye"]);
    })
    .await;
}

#[tokio::test]
async fn a_failed_part_is_resumed_and_not_the_whole() {
    in_each_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "tell me everything");
        world.settle().await;
        world.sleep(SECOND * 5).await;
        // Meta takes one message a second now, and asks for a pause at each further one.
        world.meta.change_number(NUMBER, |it| it.throughput = 1).expect("the number is there");
        world.sends(&answer(&world.turns()[0], 0, &long())).await;
        world.settle().await;
        assert_eq!(first_words(world), ["one"]);
        world.pass(MINUTE).await;
        assert_eq!(first_words(world), ["one", "two", "three"]);
        assert_eq!(world.accepted(), (1, 3), "each part is accepted once");
        assert_eq!(world.codes(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn when_a_part_is_refused_for_good_the_rest_does_not_follow() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "tell me everything");
        world.settle().await;
        world.meta.fail_next(None, Some(1), Fault::Error { code: 131_009, subcode: None });
        world.sends(&answer(&world.turns()[0], 0, &long())).await;
        world.settle().await;
        assert_eq!(first_words(world), [""; 0]);
        assert_eq!(world.codes(), ["131009", "part_failed", "part_failed"]);
        world.sends(&answer(&world.turns()[0], 1, "sorry")).await;
        world.settle().await;
        assert_eq!(first_words(world), ["sorry"], "another reply is not held");
    })
    .await;
}

#[tokio::test]
async fn the_customers_message_is_marked_as_read_and_typing_is_shown_until_the_answer_comes() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.settle().await;
        let turn = world.turns()[0].clone();
        let mut reads = answer(&turn, 0, "");
        (reads.message, reads.read) = (None, Some(MarkRead { wamid: turn.wamid.clone(), typing: true }));
        world.sleep(SECOND * 5).await;
        world.sends(&reads).await;
        world.settle().await;
        let phone = world.meta.phone(ANA);
        assert!(phone.screen()[0].read.is_some());
        assert_eq!(phone.sees_typing(), Ok(vec![NUMBER.to_owned()]));
        world.sends(&answer(&turn, 1, "hello Ana")).await;
        world.settle().await;
        assert_eq!(phone.sees_typing(), Ok(vec![]));
        assert_eq!(world.history(ANA).await, ["> hello", "< hello Ana (example, Delivered)"], "a mark of reading is no message");
    })
    .await;
}

#[tokio::test]
async fn one_reply_marks_as_read_and_answers() {
    in_every_way(async |world: &World| {
        world.agent_answers(|turn| {
            let mut reply = answer(turn, 0, "hello Ana");
            reply.read = Some(MarkRead { wamid: turn.wamid.clone(), typing: false });
            vec![reply]
        });
        world.writes(ANA, "hello");
        world.settle().await;
        assert!(world.meta.phone(ANA).screen()[0].read.is_some());
        assert_eq!(world.screen(ANA), ["> hello", "< hello Ana"]);
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_may_not_answer_does_not_mark_as_read() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.settle().await;
        world.hand(ANA, true).await;
        let turn = world.turns()[0].clone();
        let mut reads = answer(&turn, 0, "");
        (reads.message, reads.read) = (None, Some(MarkRead { wamid: turn.wamid.clone(), typing: true }));
        world.sends(&reads).await;
        world.settle().await;
        assert!(world.meta.phone(ANA).screen()[0].read.is_none());
        assert_eq!(world.meta.phone(ANA).sees_typing(), Ok(vec![]));
    })
    .await;
}

#[tokio::test]
async fn several_answers_to_one_turn_arrive_in_order_and_each_once() {
    in_every_way(async |world: &World| {
        world.agent_answers(|turn| ["one", "two", "three"].iter().zip(0..).map(|(text, index)| answer(turn, index, text)).collect());
        world.writes(ANA, "count");
        world.settle().await;
        world.sleep(HOUR).await;
        for (index, text) in [(0, "one"), (1, "two"), (2, "three")] {
            world.sends(&answer(&world.turns()[0], index, text)).await;
        }
        world.settle().await;
        assert_eq!(world.screen(ANA), ["> count", "< one", "< two", "< three"]);
    })
    .await;
}

#[tokio::test]
async fn a_reply_quotes_the_message_that_it_answers() {
    in_every_way(async |world: &World| {
        world.agent_answers(|turn| {
            let mut reply = answer(turn, 0, &long());
            reply.quote = Some(turn.wamid.clone());
            vec![reply]
        });
        let wamid = world.writes(ANA, "hello");
        world.settle().await;
        let quotes: Vec<Option<String>> = world.meta.phone(ANA).screen().into_iter().skip(1).map(|it| it.quote).collect();
        assert_eq!(quotes, [Some(wamid), None, None], "a long text quotes with its first part");
    })
    .await;
}

#[tokio::test]
async fn a_turn_that_is_answered_again_in_other_words_keeps_those_that_were_sent() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.settle().await;
        let (sent, other) = ("sent ".repeat(200), "other ".repeat(200));
        world.sends(&answer(&world.turns()[0], 0, &sent)).await;
        world.settle().await;
        // The queue has forgotten the first one.
        world.sleep(MINUTE * 10).await;
        world.sends(&answer(&world.turns()[0], 0, &other)).await;
        world.settle().await;
        assert_eq!(world.screen(ANA), ["> hello".to_owned(), format!("< {sent}")]);
        let history = world.history(ANA).await;
        assert!(history[1].starts_with("< sent sent"), "what is kept is what was sent: {history:?}");
    })
    .await;
}

#[tokio::test]
async fn words_that_were_written_by_a_sender_that_died_are_not_kept_for_those_of_the_next() {
    let world = World::new().await;
    world.agent_is_silent();
    world.writes(ANA, "hello");
    world.settle().await;
    let conversation = world.conversation(ANA).await;
    let key = MessageKey { conversation: conversation.id.clone(), at: world.now(), id: MessageId::parse("reply").expect("an id") };
    let claim = async |word: &str| {
        let content = serde_json::json!({ "text": word.repeat(200) }).to_string();
        let (number, to) = (NumberId::parse(NUMBER).expect("an id"), conversation.customer().expect("a customer"));
        let draft = Outbound::draft(connection_id(), "text", content, Writer::Agent(agent_id()));
        let message = draft.claimed(number, to, world.now());
        world.store.claim(&key, message, DAY).await
    };
    // The words are written beside the message, the message is not.
    world.dynamo.faults().add(Rule::every(wire::Fault::AccessDenied).of("PutItem").by("test").after(1).times(1));
    assert!(claim("first ").await.is_err());
    assert_eq!(claim("second ").await.expect("the store answers"), Claim::Ours);
    let history = world.history(ANA).await;
    assert!(history[1].starts_with("< second second"), "{history:?}");
}
