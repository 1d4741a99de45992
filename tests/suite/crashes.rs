//! Crashes: each call that a function makes to DynamoDB, SQS or S3 is in turn the last that it lives to make, and its job is delivered again.
//!
//! A call that is executed and whose answer is lost is the crash right after it; the crash before it is the one after the call before, except
//! in `replies` and `bridge`, where a call to Meta or to an agent may lie between the two: there each call is lost on its way too. However a
//! function died, the story must end the same.

use std::collections::BTreeSet;
use std::time::Duration;

use channel::connections::{ConnectionEdit, Edited, StartOptions, Started};
use channel::jobs::Reply;
use channel::store::MessageItem;
use channel::vault::Secret;
use domain::connection::State;
use domain::outgoing::Outgoing;
use domain::status::Phase;
use futures::future::LocalBoxFuture;
use meta_sim::{App, Edit, File, Inbound};
use serde_json::{Value, json};
use world::story::campaigns::{LANGUAGE, LOGIN, OFFER, REMINDER};
use world::story::{ACCESS_TOKEN, ANA, APP, AgentAnswer, NUMBER, OTHER_NUMBER, WABA, World, answer, connection_id, texts};
use world::wire::{Fault, Faults, Rule};

use crate::difference;
use crate::person::{ANAS_ID, BEAS_ID, NEW_PHONE, Tells, bea_gets_anas_number, enters, writes_as};
use crate::sends::states;

/// Long enough for whatever died to be delivered again, and for a send of unknown outcome to be looked for.
const A_WHILE: Duration = Duration::from_mins(3);

/// A story whose every step takes [`A_WHILE`].
type Story = for<'a> fn(&'a World) -> LocalBoxFuture<'a, ()>;

/// Which engine's calls are the places to die.
#[derive(Clone, Copy, Debug)]
enum Engine {
    DynamoDb,
    Sqs,
    S3,
}

impl Engine {
    fn faults(self, world: &World) -> &Faults {
        match self {
            Self::DynamoDb => world.dynamo.faults(),
            Self::Sqs => world.sqs.faults(),
            Self::S3 => world.s3.faults(),
        }
    }
}

/// Tells the story with a crash after each call in turn, of each of these functions to each engine; all must end as without one.
async fn dies_everywhere(functions: &[&str], story: Story) {
    let told = World::new().await;
    story(&told).await;
    let plain = seen(&told);
    for function in functions {
        let mut engines = vec![Engine::DynamoDb, Engine::Sqs];
        // Most stories have no files.
        engines.extend((!told.s3.faults().calls_by(function).is_empty()).then_some(Engine::S3));
        for engine in engines {
            let asks_others = ["replies", "bridge"].contains(function);
            let faults: &[Fault] = if asks_others { &[Fault::CutBefore, Fault::CutAfter] } else { &[Fault::CutAfter] };
            for (call, fault) in (0..).flat_map(|call| faults.iter().map(move |fault| (call, fault))) {
                let world = World::new().await;
                engine.faults(&world).reset_calls();
                engine.faults(&world).add(Rule::every(fault.clone()).by(function).after(call).times(1));
                story(&world).await;
                let calls: u64 = engine.faults(&world).calls_by(function).values().sum();
                if calls <= call {
                    assert!(call > 0, "{function} does not call {engine:?}: there is no place to die");
                    break;
                }
                assert!(world.accepted().0 <= 1, "{function} died at call {call} to {engine:?}, {fault:?}: a send was accepted twice");
                if let Some(place) = difference(&plain, &seen(&world), String::new()) {
                    panic!("{function} died at call {call} to {engine:?}, {fault:?}, and it ended otherwise at {place}");
                }
            }
        }
    }
}

/// How the world stands, but for when ticks came and which attempt came through: a death between claim and send costs an attempt.
fn seen(world: &World) -> Value {
    let mut outcome = world.outcome();
    let tables = outcome["tables"].as_object_mut().expect("tables");
    for it in tables.values_mut().filter_map(Value::as_array_mut) {
        // When a line was written is a time of our own clock, what it says is not.
        for line in it.iter_mut().filter_map(|it| it["sk"].get_mut("S")).filter(|it| it.as_str().is_some_and(|it| it.starts_with("LOG#"))) {
            *line = line.as_str().and_then(|it| it.rsplit('#').next()).map(|it| format!("LOG#{it}")).into();
        }
        it.sort_by_key(|it| format!("{} {}", it["pk"]["S"], it["sk"]["S"]));
    }
    for it in tables.values_mut().filter_map(Value::as_array_mut).flatten() {
        let Some(item) = it.as_object_mut() else { continue };
        // When a conversation was listed as active, or as having owed turns, is a time of our own clock.
        let is_mark = item["sk"]["S"].as_str().is_some_and(|it| it.starts_with("ACTIVE#") || it.starts_with("OWED#"));
        let is_ours = item.contains_key("phase");
        item.retain(|name, _| !(is_mark && name == "at" || is_ours && name.starts_with("attempt")));
    }
    let events = outcome["events"].as_array_mut().expect("events");
    events.retain(|it| !it.as_str().expect("text").contains("message.state"));
    let mut states = states(world);
    states.sort();
    outcome["states"] = json!(states);
    outcome
}

async fn passes(world: &World) {
    world.pass(A_WHILE).await;
}

#[tokio::test]
async fn wherever_a_function_dies_a_file_is_handed_over_in_its_place() {
    dies_everywhere(&["inbound", "media"], |world| {
        Box::pin(async {
            world.writes(ANA, "look at this");
            passes(world).await;
            let bytes = Some("YSBwaG90bw==".to_owned());
            let photo = File { base64: bytes, mime_type: None, caption: None, filename: None };
            let wamid = world.writes_to(NUMBER, ANA, Inbound::Image(photo));
            passes(world).await;
            world.writes(ANA, "do you see it?");
            passes(world).await;
            assert_eq!(world.told_of(ANA).await, ["look at this", "image", "do you see it?"]);
            let file = world.turns()[1].file.clone().expect("a file");
            assert!(file.url.is_some(), "{file:?}");
            assert_eq!(world.s3.keys().len(), 1);
            world.writes_to(NUMBER, ANA, Inbound::Revoke { message_id: wamid });
            passes(world).await;
            assert_eq!(world.s3.keys(), Vec::<String>::new());
        })
    })
    .await;
}

#[tokio::test]
async fn wherever_a_function_dies_a_file_of_ours_reaches_the_customer_once() {
    dies_everywhere(&["replies"], |world| {
        Box::pin(async {
            world.agent_answers(|turn| {
                let source = json!({ "content": { "base64": "JVBERi0xLjQK", "mime_type": "application/pdf" } });
                let document = json!({ "type": "document", "source": source, "caption": "Your quote" });
                let message: Outgoing = serde_json::from_value(document).expect("a message");
                [0, 1].map(|index| Reply { message: Some(message.clone()), ..answer(turn, index, "") }).to_vec()
            });
            world.writes(ANA, "hello");
            passes(world).await;
            assert_eq!(world.screen(ANA), ["> hello", "< Your quote", "< Your quote"]);
            assert_eq!(world.s3.keys().len(), 2, "each message keeps its own");
            assert!(!world.s3.faults().calls_by("replies").is_empty());
        })
    })
    .await;
}

#[tokio::test]
async fn wherever_a_function_dies_a_customer_is_answered_once() {
    dies_everywhere(&["webhook", "inbound", "replies", "statuses"], |world| {
        Box::pin(async {
            enters(world, ANA, ANAS_ID);
            writes_as(world, ANA, Tells::Both, "hello");
            passes(world).await;
            world.meta.phone(ANA).reads().expect("a customer");
            writes_as(world, ANA, Tells::Both, "and thank you");
            passes(world).await;
            assert_eq!(world.screen(ANA), ["> hello", "< You said: hello", "> and thank you", "< You said: and thank you"]);
        })
    })
    .await;
}

#[tokio::test]
async fn wherever_a_function_dies_one_person_is_in_one_conversation() {
    dies_everywhere(&["inbound"], |world| {
        Box::pin(async {
            world.agent_is_silent();
            enters(world, ANA, ANAS_ID);
            writes_as(world, ANA, Tells::Phone, "by phone");
            passes(world).await;
            writes_as(world, ANA, Tells::UserId, "by user id");
            passes(world).await;
            writes_as(world, ANA, Tells::Both, "by both");
            passes(world).await;
            assert_eq!(world.conversation(ANA).await.id, world.conversation(ANAS_ID).await.id);
            assert_eq!(world.words_told(), ["by phone", "by user id", "by both"]);
        })
    })
    .await;
}

#[tokio::test]
async fn wherever_a_function_dies_a_status_makes_one_of_two_conversations() {
    dies_everywhere(&["replies", "statuses"], |world| {
        Box::pin(async {
            world.agent_is_silent();
            enters(world, ANA, ANAS_ID);
            writes_as(world, ANA, Tells::UserId, "by user id");
            passes(world).await;
            writes_as(world, ANA, Tells::Phone, "by phone");
            passes(world).await;
            let by_phone = world.conversation(ANA).await.id;
            world.sends(&world.of_agent(&by_phone, "who are you?", 1)).await;
            passes(world).await;
            assert_eq!(world.conversation(ANA).await.id, world.conversation(ANAS_ID).await.id);
        })
    })
    .await;
}

#[tokio::test]
async fn wherever_a_function_dies_a_number_that_was_given_away_is_its_new_owners() {
    dies_everywhere(&["inbound"], |world| {
        Box::pin(async {
            enters(world, ANA, ANAS_ID);
            writes_as(world, ANA, Tells::Both, "I am Ana");
            passes(world).await;
            bea_gets_anas_number(world);
            writes_as(world, BEAS_ID, Tells::Both, "I am Bea");
            passes(world).await;
            assert_eq!(world.conversation(ANA).await.id, world.conversation(BEAS_ID).await.id);
            assert_eq!(world.screen(ANAS_ID), ["> I am Ana", "< You said: I am Ana"]);
            assert_eq!(world.screen(BEAS_ID), ["> I am Bea", "< You said: I am Bea"]);
        })
    })
    .await;
}

#[tokio::test]
async fn wherever_a_function_dies_a_notice_of_change_is_taken_in_whole() {
    dies_everywhere(&["inbound"], |world| {
        Box::pin(async {
            world.agent_is_silent();
            enters(world, ANA, ANAS_ID);
            writes_as(world, ANA, Tells::Both, "from the old number");
            world.meta.add_customer(meta_sim::Customer::with_phone(NEW_PHONE));
            world.writes(NEW_PHONE, "from the new number");
            passes(world).await;
            world.meta.phone(ANAS_ID).changes_phone(NEW_PHONE).expect("a customer");
            passes(world).await;
            world.writes(NEW_PHONE, "all of it me");
            passes(world).await;
            assert_eq!(world.conversation(NEW_PHONE).await.id, world.conversation(ANAS_ID).await.id);
            assert!(world.find(ANA).await.is_none(), "the old number is free");
        })
    })
    .await;
}

#[tokio::test]
async fn wherever_a_function_dies_owed_turns_come_in_order_before_the_next() {
    dies_everywhere(&["inbound"], |world| {
        Box::pin(async {
            enters(world, ANA, ANAS_ID);
            world.stop().await;
            writes_as(world, ANA, Tells::Phone, "one");
            passes(world).await;
            writes_as(world, ANA, Tells::Both, "two");
            passes(world).await;
            world.run().await;
            writes_as(world, ANA, Tells::Both, "three");
            passes(world).await;
            // The schedule goes on with what a crash left.
            world.walk().await;
            passes(world).await;
            assert_eq!(world.walk().await.left, 0);
            passes(world).await;
            assert_eq!(world.words_told(), ["one", "two", "three"]);
            assert_eq!(world.screen(ANA).len(), 6);
        })
    })
    .await;
}

#[tokio::test]
async fn wherever_a_function_dies_corrections_echoes_and_calls_are_kept_once() {
    dies_everywhere(&["inbound"], |world| {
        Box::pin(async {
            enters(world, ANA, ANAS_ID);
            let wamid = writes_as(world, ANA, Tells::Both, "hello");
            passes(world).await;
            writes_as(world, ANA, Tells::Both, Inbound::Edit { message_id: wamid.clone(), text: "hallo".to_owned() });
            writes_as(world, ANA, Tells::Both, Inbound::Reaction { message_id: wamid.clone(), emoji: Some("👍".to_owned()) });
            passes(world).await;
            writes_as(world, ANA, Tells::Both, Inbound::Revoke { message_id: wamid });
            world.meta.phone(ANA).calls(OTHER_NUMBER).expect("the customer can call");
            world.meta.phone(ANA).prefers(NUMBER, "stop").expect("the customer can choose");
            world.meta.person_writes(ANA, NUMBER, "I take this").expect("a person can write");
            passes(world).await;
            writes_as(world, ANA, Tells::Both, "who is this?");
            passes(world).await;
            assert_eq!(world.words_told(), ["hello"], "a person has it");
        })
    })
    .await;
}

#[tokio::test]
async fn wherever_a_function_dies_what_an_agent_on_https_answers_goes_out_once() {
    dies_everywhere(&["bridge"], |world| {
        Box::pin(async {
            let agent = world.agent_listens_on_https().await;
            agent.answers(|it| AgentAnswer::Says(200, texts(&[&format!("You said: {}", it.words()), "And now?"])));
            enters(world, ANA, ANAS_ID);
            writes_as(world, ANA, Tells::Both, "hello");
            passes(world).await;
            writes_as(world, ANA, Tells::Both, "bye");
            passes(world).await;
            assert_eq!(world.screen(ANA), ["> hello", "< You said: hello", "< And now?", "> bye", "< You said: bye", "< And now?"]);
            let mut ids: Vec<String> = agent.turns().into_iter().map(|it| it.id).collect();
            ids.dedup();
            assert_eq!(ids.len(), 2, "told again, a turn has the same id");
        })
    })
    .await;
}

#[tokio::test]
async fn wherever_a_function_dies_an_endpoint_goes_down_and_comes_back_and_its_turns_come_in_order() {
    dies_everywhere(&["bridge", "health"], |world| {
        Box::pin(async {
            let agent = world.agent_listens_on_https().await;
            agent.says(410, "");
            enters(world, ANA, ANAS_ID);
            writes_as(world, ANA, Tells::Both, "one");
            passes(world).await;
            writes_as(world, ANA, Tells::Both, "two");
            passes(world).await;
            agent.says_back();
            for _ in 0..8 {
                passes(world).await;
            }
            // What the list of owed turns names still goes with the schedule.
            world.walk().await;
            let said = world.screen(ANA);
            assert_eq!(said.iter().filter(|it| it.starts_with('<')).collect::<Vec<_>>(), ["< You said: one", "< You said: two"]);
            assert_eq!(world.attachment().await.down_since, None);
        })
    })
    .await;
}

/// Long enough for a template's queue to deliver again what was being handled, and for a send of unknown outcome to be looked for.
const A_LONGER_WHILE: Duration = Duration::from_mins(12);

/// How one template to one customer ended, however its function died and whatever became of its one send: the state of its message, how
/// many reached the customer, and whether it waits for an answer.
async fn template_ends(world: &World, engine: Engine, call: u64, fault: Fault, met: Option<meta_sim::Fault>) -> (Phase, usize, bool) {
    if let Some(met) = met {
        world.meta.fail_next(None, Some(1), met);
    }
    engine.faults(world).reset_calls();
    engine.faults(world).add(Rule::every(fault).by("templates").after(call).times(1));
    world.campaigns(&world.offer(ANA, 1)).await;
    world.pass(A_LONGER_WHILE).await;
    let conversation = world.conversation(ANA).await;
    let kept = world.store.newest_messages(conversation.everywhere(), 10).await.expect("the store answers");
    let [(_, MessageItem::Outbound(message))] = kept.as_slice() else { panic!("one message, but {kept:?}") };
    (message.phase, world.meta.received(ANA).len(), conversation.unanswered.is_some())
}

#[tokio::test]
async fn wherever_the_function_dies_a_template_goes_out_once_and_keeps_or_gives_back_its_reservation() {
    let refused = meta_sim::Fault::Error { code: 132_007, subcode: None };
    let mut endings = BTreeSet::new();
    for met in [None, Some(meta_sim::Fault::CutBefore), Some(meta_sim::Fault::CutAfter), Some(refused)] {
        for engine in [Engine::DynamoDb, Engine::Sqs] {
            for (call, fault) in (0..).flat_map(|call| [Fault::CutBefore, Fault::CutAfter].map(|fault| (call, fault))) {
                let world = World::new().await;
                let at = format!("at call {call} to {engine:?}, {fault:?}, with {met:?} at Meta");
                let ended = template_ends(&world, engine, call, fault, met.clone()).await;
                let is_right = match ended.0 {
                    Phase::Accepted => ended.1 == 1 && ended.2,
                    // Nobody knows, so nobody writes again.
                    Phase::Unconfirmed => ended.1 == 0 && ended.2,
                    Phase::Failed => ended.1 == 0 && !ended.2,
                    Phase::Sending | Phase::Held | Phase::Released => false,
                };
                assert!(is_right, "{at}, it ended as {ended:?}");
                assert!(world.accepted().0 <= 1, "{at}: a send was accepted twice");
                endings.insert(format!("{met:?}: {:?}", ended.0));
                let calls: u64 = engine.faults(&world).calls_by("templates").values().sum();
                if calls <= call {
                    assert!(call > 0, "there is no place to die");
                    break;
                }
            }
        }
    }
    // A death between claim and send leaves a send of which nobody knows; nothing else costs one.
    println!("{endings:#?}");
}

#[tokio::test]
async fn wherever_a_function_dies_what_meta_changes_of_templates_is_known_and_told() {
    dies_everywhere(&["health"], |world| {
        Box::pin(async {
            world.clock.advance(Duration::from_secs(1));
            assert!(world.meta.edit_template(WABA, REMINDER, LANGUAGE, &Edit::Category { category: "MARKETING".to_owned() }));
            assert!(world.meta.edit_template(WABA, LOGIN, LANGUAGE, &Edit::Deleted));
            assert!(world.meta.set_template_status(WABA, OFFER, LANGUAGE, "PAUSED"));
            passes(world).await;
            let told = world.events().into_iter().map(|it| serde_json::to_value(it).expect("JSON")["type"].to_string());
            let told: Vec<String> = told.filter(|it| it.starts_with("\"template")).collect();
            assert_eq!(told.len(), 3, "each once, however often it is told: {told:?}");
        })
    })
    .await;
}

/// Longer than the last look of an erasure waits for.
const AN_ERASURE: Duration = Duration::from_mins(15);

#[tokio::test]
async fn wherever_a_function_dies_an_erasure_ends_and_what_is_written_later_is_kept() {
    dies_everywhere(&["health"], |world| {
        Box::pin(async {
            world.agent_is_silent();
            enters(world, ANA, ANAS_ID);
            writes_as(world, ANA, Tells::Phone, "an old word");
            passes(world).await;
            writes_as(world, ANA, Tells::UserId, "another");
            passes(world).await;
            writes_as(world, ANA, Tells::Both, "and one that makes them one");
            passes(world).await;
            let id = world.conversation(ANA).await.id;
            world.erases(&id).await;
            passes(world).await;
            writes_as(world, ANA, Tells::Both, "a new word");
            world.pass(AN_ERASURE).await;
            assert_eq!(world.store.listed_erasing(&connection_id()).await.expect("the store answers"), []);
            world.meta_repeats_all().await;
            let words = ["old word", "another", "makes them one"];
            let found = world.everything().into_iter().find(|it| words.iter().any(|word| it.contains(word)));
            assert_eq!(found, None);
            assert_eq!(world.history(ANA).await, ["> a new word"]);
        })
    })
    .await;
}

#[tokio::test]
async fn wherever_a_function_dies_a_start_goes_on_and_claims_what_it_confirmed_once() {
    dies_everywhere(&["health"], |world| {
        Box::pin(async {
            world.agent_is_silent();
            world.writes(ANA, "hello");
            world.pass(Duration::from_secs(10)).await;
            world.stop().await;
            world.writes(ANA, "are you there?");
            world.settle().await;
            let numbers = |ids: &[&str]| ConnectionEdit {
                numbers: Some(ids.iter().map(|it| (*it).to_owned()).collect()),
                app_secret: Some(Secret::new("rotated-secret-0123")),
                ..ConnectionEdit::default()
            };
            assert!(matches!(world.edits(&numbers(&[OTHER_NUMBER])).await, Edited::Done(_)));
            assert!(matches!(world.edits(&numbers(&[NUMBER, OTHER_NUMBER])).await, Edited::Done(_)));
            world.meta.put_app(App { secret: "rotated-secret-0123".to_owned(), ..world.meta.app(APP).expect("there") });
            assert_eq!(world.starts(&connection_id(), StartOptions::default()).await, Started::Starting);
            passes(world).await;
            // The schedule takes off the list what is owed no more; a look that dies is made up for by the next.
            for _ in 0..2 {
                world.schedule_all().await;
                passes(world).await;
            }
            assert_eq!(world.state(&connection_id()).await, State::Running);
            assert_eq!(world.words_told(), ["hello", "are you there?"]);
        })
    })
    .await;
}

#[tokio::test]
async fn wherever_whoever_erases_dies_asking_again_erases() {
    let whole = |world: &World| world.everything().iter().any(|it| it.contains("an old word") || it.contains(ANA));
    for engine in [Engine::DynamoDb, Engine::Sqs] {
        for (call, fault) in (0..).flat_map(|call| [Fault::CutBefore, Fault::CutAfter].map(|fault| (call, fault))) {
            let world = World::new().await;
            world.writes(ANA, "an old word");
            passes(&world).await;
            let id = world.conversation(ANA).await.id;
            assert!(whole(&world));
            engine.faults(&world).reset_calls();
            engine.faults(&world).add(Rule::every(fault).by("test").after(call).times(1));
            world.erases(&id).await;
            let calls: u64 = engine.faults(&world).calls_by("test").values().sum();
            if calls <= call {
                assert!(call > 0, "there is no place to die");
                world.may_leave_messages();
                break;
            }
            world.pass(AN_ERASURE).await;
            world.meta_repeats_all().await;
            assert!(!whole(&world), "it died at call {call} to {engine:?}");
        }
    }
}

#[tokio::test]
async fn wherever_a_function_dies_a_start_that_meta_refuses_is_told_as_such() {
    dies_everywhere(&["health"], |world| {
        Box::pin(async {
            world.stop().await;
            world.meta.expire_token(ACCESS_TOKEN);
            world.starts(&connection_id(), StartOptions::default()).await;
            passes(world).await;
            assert_eq!(world.state(&connection_id()).await, State::Error);
            let told = world.events().into_iter().map(|it| serde_json::to_value(it).expect("JSON"));
            assert_eq!(told.filter(|it| it["state"] == "ERROR").count(), 1, "told once, and told");
        })
    })
    .await;
}

#[tokio::test]
async fn wherever_a_function_dies_the_schedule_finds_what_has_changed() {
    dies_everywhere(&["health"], |world| {
        Box::pin(async {
            world.clock.advance(Duration::from_secs(10));
            let expires_at_ms = world.now().plus(Duration::from_hours(50)).as_millis();
            world.meta.change_token(ACCESS_TOKEN, |it| it.expires_at_ms = Some(expires_at_ms));
            world.meta.change_account(WABA, |it| it.subscribed.clear()).expect("there");
            // A look of the schedule that dies is made up for by the next.
            for _ in 0..2 {
                world.schedule_all().await;
                passes(world).await;
            }
            assert_eq!(world.state(&connection_id()).await, State::Running);
            let told = world.events().into_iter().map(|it| serde_json::to_value(it).expect("JSON"));
            assert_eq!(told.filter(|it| it["type"] == "connection.warning").count(), 1);
        })
    })
    .await;
}
