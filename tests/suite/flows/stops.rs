//! *Not running* and *Owed turns*: what waits for a connection that has stopped, and what comes when it runs again.

use aws_sdk_dynamodb::types::AttributeValue;
use channel::jobs::Turn;
use channel::owed;
use domain::conversation::{Conversation, Span};
use domain::ids::{ConversationId, MessageId, MessageKey, TenantId};
use domain::refusal::Retry;
use meta_sim::{Inbound, Written};
use world::mapping::Delivery;
use world::story::{ANA, NUMBER, OTHER_NUMBER, World, answer, connection_id, words};
use world::wire::{Fault, Rule};

use super::{DAY, HOUR, MINUTE, SECOND};
use crate::in_every_way;

/// Words and lateness of the turns, in the order in which they were told.
fn told(world: &World) -> Vec<(String, bool)> {
    world.turns().iter().map(|it: &Turn| (words(&it.content), it.late)).collect()
}

fn late(texts: &[&str]) -> Vec<(String, bool)> {
    texts.iter().map(|it| ((*it).to_owned(), true)).collect()
}

#[tokio::test]
async fn a_reply_that_meets_a_stopped_connection_goes_out_after_a_restart_within_ten_minutes() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.settle().await;
        world.stop().await;
        world.sends(&answer(&world.turns()[0], 0, "hello Ana")).await;
        world.pass(MINUTE * 9).await;
        assert_eq!((world.screen(ANA), world.codes()), (vec!["> hello".to_owned()], vec![]));
        world.run().await;
        world.pass(MINUTE).await;
        assert_eq!(world.screen(ANA), ["> hello", "< hello Ana"]);
        assert_eq!(world.accepted(), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn a_reply_that_meets_a_stopped_connection_is_refused_ten_minutes_after_the_stop() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.settle().await;
        world.stop().await;
        world.sends(&answer(&world.turns()[0], 0, "hello Ana")).await;
        world.pass(MINUTE * 11).await;
        let refused = &world.refusals()[0];
        assert_eq!((refused.code.as_str(), refused.retry), ("not_running", Retry::Fix));
        assert_eq!(refused.note, "The connection is not running. Start it, then send again.");
        world.run().await;
        world.pass(MINUTE).await;
        assert_eq!(world.screen(ANA), ["> hello"], "it is for a person or the agent to send again");
        world.sends(&answer(&world.turns()[0], 1, "hello Ana, once more")).await;
        world.settle().await;
        assert_eq!(world.screen(ANA), ["> hello", "< hello Ana, once more"]);
        assert_eq!(world.history(ANA).await[1], "< hello Ana (example, Failed)");
    })
    .await;
}

#[tokio::test]
async fn replies_wait_in_their_order_and_a_later_one_does_not_overtake() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.settle().await;
        world.stop().await;
        for (index, text) in ["one", "two", "three"].into_iter().enumerate() {
            world.sends(&answer(&world.turns()[0], u16::try_from(index).expect("small"), text)).await;
            world.pass(SECOND * 20).await;
        }
        world.run().await;
        world.pass(MINUTE).await;
        assert_eq!(world.screen(ANA), ["> hello", "< one", "< two", "< three"]);
    })
    .await;
}

#[tokio::test]
async fn what_customers_write_to_a_stopped_connection_is_kept_and_handed_over_in_order_and_late_when_it_runs_again() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        world.settle().await;
        world.stop().await;
        for text in ["one", "two", "three"] {
            world.sleep(MINUTE).await;
            world.writes(ANA, text);
            world.settle().await;
        }
        assert_eq!(world.words_told(), ["hello"]);
        assert_eq!(world.history(ANA).await[2..], ["> one", "> two", "> three"]);
        world.sleep(HOUR).await;
        world.run().await;
        let walked = world.walk().await;
        world.settle().await;
        assert_eq!((walked.conversations, walked.turns, walked.left), (1, 3, 0));
        assert_eq!(told(world)[1..], late(&["one", "two", "three"]));
        assert_eq!(world.screen(ANA)[5..], ["< You said: one", "< You said: two", "< You said: three"]);
        assert_eq!(world.walk().await.turns, 0, "nothing is owed any more");
        world.sleep(MINUTE * 2).await;
        world.walk().await;
        assert_eq!(world.walk().await.conversations, 0, "and nothing is listed");
    })
    .await;
}

#[tokio::test]
async fn what_is_owed_for_less_than_five_minutes_is_not_late() {
    in_every_way(async |world: &World| {
        world.stop().await;
        world.writes(ANA, "hello");
        world.settle().await;
        world.sleep(MINUTE * 4).await;
        world.run().await;
        world.walk().await;
        world.settle().await;
        assert_eq!(told(world), [("hello".to_owned(), false)]);
    })
    .await;
}

#[tokio::test]
async fn what_is_owed_comes_before_the_customers_next_message() {
    in_every_way(async |world: &World| {
        world.stop().await;
        for text in ["one", "two"] {
            world.sleep(MINUTE).await;
            world.writes(ANA, text);
            world.settle().await;
        }
        world.sleep(HOUR).await;
        world.run().await;
        world.writes(ANA, "three");
        world.settle().await;
        assert_eq!(told(world), [late(&["one", "two"]), vec![("three".to_owned(), false)]].concat());
        assert_eq!(world.screen(ANA)[3..], ["< You said: one", "< You said: two", "< You said: three"]);
        assert_eq!(world.walk().await.turns, 0, "the customer's message has settled it");
    })
    .await;
}

#[tokio::test]
async fn a_walk_and_a_message_that_both_hand_over_tell_the_same_turns_and_each_is_answered_once() {
    in_every_way(async |world: &World| {
        world.stop().await;
        for text in ["one", "two"] {
            world.sleep(MINUTE).await;
            world.writes(ANA, text);
            world.settle().await;
        }
        world.run().await;
        // The walk has handed over, and stops before it takes the note away.
        world.dynamo.faults().add(Rule::every(Fault::CutBefore).of("PutItem").by("test"));
        let tenant = TenantId::parse("demo").expect("an id");
        let walked = owed::walk(&world.store, &world.queues, &tenant, &connection_id(), world.now()).await.expect("the list is read");
        assert_eq!((walked.conversations, walked.failed), (1, 1));
        world.dynamo.faults().clear();
        world.settle().await;
        // SQS has forgotten by now what it has seen.
        world.sleep(MINUTE * 10).await;
        world.writes(ANA, "three");
        world.settle().await;
        assert_eq!(world.words_told(), ["one", "two", "three"]);
        assert_eq!(world.times_told(), 5, "two of them twice");
        assert_eq!(world.screen(ANA)[2..], ["< You said: one", "< You said: two", "> three", "< You said: three"]);
        assert_eq!(world.accepted(), (1, 3));
    })
    .await;
}

#[tokio::test]
async fn a_crash_anywhere_in_the_handing_over_loses_no_turn_and_doubles_no_answer() {
    for (action, who) in [("SendMessageBatch", "test"), ("SendMessageBatch", "inbound")] {
        for fault in [Fault::CutBefore, Fault::CutAfter] {
            for calls in 0..6 {
                let world = World::with(Delivery::Once).await;
                world.stop().await;
                for text in ["one", "two", "three"] {
                    world.sleep(MINUTE).await;
                    world.writes(ANA, text);
                    world.settle().await;
                }
                world.sleep(MINUTE * 10).await;
                world.run().await;
                world.sqs.faults().add(Rule::every(fault.clone()).of(action).by(who).after(calls).times(1));
                let tenant = TenantId::parse("demo").expect("an id");
                if who == "test" {
                    drop(owed::walk(&world.store, &world.queues, &tenant, &connection_id(), world.now()).await);
                    world.sqs.faults().clear();
                }
                world.writes(ANA, "four");
                world.settle().await;
                world.pass(MINUTE * 10).await;
                world.sqs.faults().clear();
                world.walk().await;
                world.settle().await;
                let what = format!("{fault:?} after {calls} calls of {who}");
                assert_eq!(world.words_told(), ["one", "two", "three", "four"], "{what}");
                assert_eq!(world.accepted(), (1, 4), "{what}");
            }
        }
    }
}

#[tokio::test]
async fn a_connection_that_stops_again_before_the_walk_owes_the_rest_too() {
    in_every_way(async |world: &World| {
        world.stop().await;
        world.writes(ANA, "one");
        world.settle().await;
        world.run().await;
        world.sleep(MINUTE).await;
        world.stop().await;
        world.sleep(MINUTE).await;
        world.writes(ANA, "two");
        world.settle().await;
        assert_eq!(world.words_told(), [""; 0]);
        world.sleep(MINUTE).await;
        world.run().await;
        world.walk().await;
        world.settle().await;
        assert_eq!(world.words_told(), ["one", "two"]);
        assert_eq!(world.screen(ANA)[2..], ["< You said: one", "< You said: two"]);
    })
    .await;
}

#[tokio::test]
async fn each_conversation_is_handed_over_by_itself() {
    in_every_way(async |world: &World| {
        let others = ["34600000001", "34600000002", "34600000003"];
        world.stop().await;
        for who in others {
            world.writes(who, &format!("I am {who}"));
            world.settle().await;
        }
        world.run().await;
        assert_eq!(world.walk().await.conversations, 3);
        world.settle().await;
        for who in others {
            assert_eq!(world.screen(who), [format!("> I am {who}"), format!("< You said: I am {who}")]);
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_customer_wrote_to_two_numbers_is_handed_over_in_the_order_of_metas_times() {
    in_every_way(async |world: &World| {
        world.stop().await;
        for (number, text) in [(OTHER_NUMBER, "one"), (NUMBER, "two"), (OTHER_NUMBER, "three")] {
            world.sleep(MINUTE).await;
            world.writes_to(number, ANA, text);
            world.settle().await;
        }
        world.run().await;
        world.walk().await;
        world.settle().await;
        assert_eq!(world.words_told(), ["one", "two", "three"]);
        let numbers: Vec<String> = world.turns().iter().map(|it| it.number.to_string()).collect();
        assert_eq!(numbers, [OTHER_NUMBER, NUMBER, OTHER_NUMBER]);
    })
    .await;
}

#[tokio::test]
async fn a_reply_that_waits_is_refused_if_a_person_has_taken_the_conversation_meanwhile() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.settle().await;
        world.stop().await;
        world.sends(&answer(&world.turns()[0], 0, "hello Ana")).await;
        world.pass(MINUTE).await;
        world.hand(ANA, true).await;
        world.run().await;
        world.pass(MINUTE).await;
        assert_eq!((world.screen(ANA), world.codes()), (vec!["> hello".to_owned()], vec!["taken_by_person".to_owned()]));
    })
    .await;
}

#[tokio::test]
async fn what_a_person_has_taken_and_given_back_before_the_start_is_not_handed_over_either() {
    in_every_way(async |world: &World| {
        world.stop().await;
        world.writes(ANA, "one");
        world.settle().await;
        for to_person in [true, false] {
            world.sleep(MINUTE).await;
            world.hand(ANA, to_person).await;
        }
        world.sleep(MINUTE).await;
        world.run().await;
        assert_eq!(world.walk().await.turns, 0);
        world.writes(ANA, "two");
        world.settle().await;
        assert_eq!(world.words_told(), ["two"]);
        assert_eq!(world.turns()[0].missed.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn what_a_person_has_taken_since_is_not_handed_over_but_named_as_missed() {
    in_every_way(async |world: &World| {
        world.stop().await;
        world.writes(ANA, "one");
        world.settle().await;
        world.sleep(MINUTE).await;
        world.hand(ANA, true).await;
        world.sleep(MINUTE).await;
        world.run().await;
        world.walk().await;
        world.settle().await;
        assert_eq!(world.words_told(), [""; 0], "a person has it");
        world.sleep(MINUTE).await;
        world.hand(ANA, false).await;
        world.sleep(MINUTE).await;
        world.writes(ANA, "two");
        world.settle().await;
        assert_eq!(world.words_told(), ["two"]);
        let missed: Vec<Option<String>> = world.turns()[0].missed.iter().map(|it| it.text.clone()).collect();
        assert_eq!(missed, [Some("one".to_owned())]);
    })
    .await;
}

#[tokio::test]
async fn the_first_turn_after_a_release_names_what_was_missed_also_when_it_is_owed() {
    for inbound_hands_over in [false, true] {
        in_every_way(async |world: &World| {
            world.agent_is_silent();
            world.writes(ANA, "hello");
            world.settle().await;
            world.sleep(MINUTE).await;
            world.hand(ANA, true).await;
            world.sleep(MINUTE).await;
            world.writes(ANA, "to Eva");
            world.settle().await;
            world.sleep(MINUTE).await;
            world.hand(ANA, false).await;
            world.stop().await;
            world.sleep(MINUTE).await;
            world.writes(ANA, "one");
            world.settle().await;
            world.sleep(MINUTE).await;
            world.run().await;
            if !inbound_hands_over {
                world.walk().await;
                world.settle().await;
            }
            world.writes(ANA, "two");
            world.settle().await;
            let missed: Vec<(String, Vec<String>)> =
                world.turns().iter().map(|it| (words(&it.content), it.missed.iter().filter_map(|it| it.text.clone()).collect())).collect();
            let expected = [("hello", vec![]), ("one", vec!["to Eva".to_owned()]), ("two", vec![])];
            assert_eq!(missed, expected.map(|(text, missed)| (text.to_owned(), missed)));
        })
        .await;
    }
}

#[tokio::test]
async fn what_the_customer_deleted_meanwhile_is_not_handed_over() {
    in_every_way(async |world: &World| {
        world.stop().await;
        let first = world.writes(ANA, "a slip");
        world.settle().await;
        world.sleep(MINUTE).await;
        world.writes(ANA, "what I mean");
        world.settle().await;
        world.sleep(MINUTE).await;
        world.writes_to(NUMBER, ANA, Inbound::Revoke { message_id: first });
        world.settle().await;
        world.run().await;
        let walked = world.walk().await;
        world.settle().await;
        assert_eq!((walked.turns, walked.left), (1, 0));
        assert_eq!(world.words_told(), ["what I mean"]);
    })
    .await;
}

#[tokio::test]
async fn an_owed_turn_tells_what_may_be_sent_when_it_is_handed_over() {
    in_every_way(async |world: &World| {
        let closes_at = world.now().plus(DAY + SECOND * 6);
        world.stop().await;
        world.writes(ANA, "one");
        world.settle().await;
        world.sleep(DAY * 2).await;
        world.run().await;
        world.walk().await;
        world.settle().await;
        assert_eq!(world.turns()[0].standing, channel::jobs::StandingNow::TemplateOnly { closed_at: Some(closes_at) });
        assert_eq!((world.screen(ANA), world.codes()), (vec!["> one".to_owned()], vec!["template_only".to_owned()]));
    })
    .await;
}

#[tokio::test]
async fn what_is_no_turn_is_not_owed_either() {
    in_every_way(async |world: &World| {
        world.stop().await;
        let first = world.writes_to(NUMBER, ANA, Written::from("before the number was ours").ago(60));
        world.settle().await;
        world.writes_to(NUMBER, ANA, Inbound::Reaction { message_id: first, emoji: Some("👍".to_owned()) });
        world.writes_to(NUMBER, ANA, Inbound::RequestWelcome);
        world.settle().await;
        world.run().await;
        assert_eq!(world.walk().await.conversations, 0);
        world.settle().await;
        assert_eq!(world.words_told(), [""; 0]);
    })
    .await;
}

/// Ana writes so many lines to a stopped connection, a second apart, and the connection runs again an hour later.
async fn owes_lines(world: &World, lines: u32) {
    world.agent_is_silent();
    world.writes(ANA, "hello");
    world.settle().await;
    world.stop().await;
    world.sleep(SECOND * lines).await;
    for line in 0..lines {
        world.writes_to(NUMBER, ANA, Written::from(format!("line {line}").as_str()).ago(i64::from(lines - line)));
    }
    world.settle().await;
    assert_eq!(world.words_told(), ["hello"]);
    world.sleep(HOUR).await;
    world.run().await;
}

fn lines(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|it| format!("line {it}")).collect()
}

#[tokio::test]
async fn many_owed_turns_are_handed_over_in_several_walks_each_once() {
    let world = World::new().await;
    owes_lines(&world, 120).await;
    for (turns, left) in [(50, 1), (50, 1), (20, 0), (0, 0)] {
        let walked = world.walk().await;
        world.settle().await;
        assert_eq!((walked.conversations, walked.turns, walked.left, walked.failed), (1, turns, left, 0));
        world.sleep(MINUTE).await;
    }
    assert_eq!(world.words_told()[1..], lines(0..120));
    assert_eq!(world.times_told(), 121, "each once");
    assert_eq!(world.conversation(ANA).await.owed, None);
}

#[tokio::test]
async fn a_message_does_not_overtake_more_than_is_handed_over_before_it() {
    in_every_way(async |world: &World| {
        owes_lines(world, 70).await;
        world.writes(ANA, "one more");
        world.settle().await;
        assert_eq!(world.words_told()[1..], lines(0..50), "as many as are handed over at once; the message is owed too");
        world.sleep(MINUTE).await;
        world.writes(ANA, "and another");
        world.settle().await;
        let all = [lines(0..70), vec!["one more".to_owned(), "and another".to_owned()]].concat();
        assert_eq!(world.words_told()[1..], all);
        assert_eq!(world.walk().await.turns, 0, "nothing is owed any more");
        assert_eq!(world.conversation(ANA).await.owed, None);
    })
    .await;
}

#[tokio::test]
async fn a_conversation_that_cannot_be_handed_over_harms_no_other() {
    let world = World::new().await;
    world.agent_is_silent();
    world.stop().await;
    let ben = "34600111555";
    world.meta.add_customer(serde_json::from_value(serde_json::json!({ "phone": ben })).expect("a customer"));
    for who in [ANA, ben] {
        world.writes(who, "hello");
        world.settle().await;
        world.sleep(MINUTE).await;
    }
    world.run().await;
    // The first of them cannot be read: nothing but its own item is wrong.
    let bad = world.conversation(ANA).await.id;
    let damage = async |owed: AttributeValue| {
        let text = |it: &str| AttributeValue::S(it.to_owned());
        let update = world.dynamo.client("test").update_item().table_name(&world.template.tables["ConversationsTable"].name);
        let update = update.key("pk", text(&format!("CONVERSATION#{bad}"))).key("sk", text("STATE"));
        let update = update.update_expression("SET handling = :handling").expression_attribute_values(":handling", owed);
        update.send().await.expect("the engine answers");
    };
    damage(AttributeValue::S("no such thing".to_owned())).await;
    let walked = world.walk().await;
    world.settle().await;
    assert_eq!((walked.conversations, walked.turns, walked.left, walked.failed), (2, 1, 0, 1));
    assert_eq!(world.turns().len(), 1);
    damage(AttributeValue::Null(true)).await;
    let walked = world.walk().await;
    world.settle().await;
    assert_eq!((walked.turns, walked.failed, world.turns().len()), (1, 0, 2), "mended, it is handed over");
}

#[tokio::test]
async fn a_walk_looks_at_a_hundred_conversations_and_the_next_one_at_the_rest() {
    let world = World::new().await;
    for index in 0..103 {
        let id = ConversationId::parse(format!("{index:022}")).expect("22 characters");
        world.store.list_owed(&connection_id(), &id, world.now().minus(HOUR)).await.expect("the store answers");
    }
    let walks = [world.walk().await, world.walk().await, world.walk().await];
    assert_eq!(walks.map(|it| (it.conversations, it.left)), [(100, 3), (3, 0), (0, 0)]);
}

#[tokio::test]
async fn an_end_of_what_is_owed_that_never_came_is_given_up_after_eight_days() {
    let world = World::new().await;
    world.agent_is_silent();
    world.stop().await;
    world.writes(ANA, "hello");
    world.settle().await;
    let id = world.conversation(ANA).await.id;
    let never_came =
        MessageKey { conversation: id.clone(), at: world.now().minus(SECOND), id: MessageId::parse("nothere").expect("an id") };
    let lose = |it: &mut Conversation| it.owed = it.owed.clone().map(|owed| Span { first: never_came.clone(), ..owed });
    world.store.change_conversation(&id, lose).await.expect("the store answers").expect("it is there");
    world.run().await;
    world.sleep(DAY * 7).await;
    assert_eq!(world.walk().await.left, 1, "its put may be still to come");
    world.sleep(DAY).await;
    assert_eq!(world.walk().await.left, 0);
    assert_eq!(world.conversation(ANA).await.owed, None);
    world.settle().await;
    assert_eq!(world.words_told(), ["hello"]);
}

#[tokio::test]
async fn what_is_owed_goes_to_the_agent_that_the_number_has_by_then() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.stop().await;
        world.writes(ANA, "hello");
        world.settle().await;
        world.gives_number_to(NUMBER, Some("other")).await;
        world.run().await;
        assert_eq!(world.walk().await.turns, 1);
        world.settle().await;
        assert_eq!(world.turns()[0].agent.as_str(), "other");
    })
    .await;
}

#[tokio::test]
async fn what_is_owed_on_a_number_without_an_agent_is_kept_for_people_and_named_as_missed_later() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.stop().await;
        world.writes(ANA, "hello");
        world.settle().await;
        world.gives_number_to(NUMBER, None).await;
        world.run().await;
        let walked = world.walk().await;
        assert_eq!((walked.turns, walked.left), (0, 0));
        world.settle().await;
        assert_eq!(world.words_told(), [""; 0]);
        world.gives_number_to(NUMBER, Some("other")).await;
        world.sleep(MINUTE).await;
        world.writes(ANA, "is anybody there?");
        world.settle().await;
        let turn = &world.turns()[0];
        assert_eq!((world.turns().len(), turn.agent.as_str(), words(&turn.content)), (1, "other", "is anybody there?".to_owned()));
        assert_eq!(turn.missed.iter().map(|it| it.text.clone()).collect::<Vec<_>>(), [Some("hello".to_owned())]);
    })
    .await;
}

#[tokio::test]
async fn what_was_decided_on_one_number_holds_though_the_customer_writes_to_another_meanwhile() {
    let world = World::new().await;
    world.agent_is_silent();
    world.writes(ANA, "hello");
    world.settle().await;
    world.hand(ANA, true).await;
    world.sleep(MINUTE).await;
    world.writes(ANA, "to Eva");
    world.settle().await;
    world.sleep(MINUTE).await;
    world.hand(ANA, false).await;
    world.sleep(MINUTE).await;
    // The first message is decided on, and not handed over before the second one is.
    world.sqs.faults().add(Rule::every(Fault::AccessDenied).of("SendMessageBatch").by("inbound").times(1));
    world.writes(ANA, "one");
    world.settle().await;
    world.writes_to(OTHER_NUMBER, ANA, "two");
    world.settle().await;
    assert_eq!(world.words_told(), ["hello", "two"], "the first one is still to come");
    world.pass(MINUTE * 10).await;
    assert_eq!(world.words_told(), ["hello", "two", "one"]);
    let missed: Vec<Vec<Option<String>>> = world.turns().iter().map(|it| it.missed.iter().map(|it| it.text.clone()).collect()).collect();
    assert_eq!(missed, [vec![], vec![], vec![Some("to Eva".to_owned())]]);
}
