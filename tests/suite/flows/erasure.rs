//! Erasing a customer's data: nothing of them is found anywhere, nothing brings it back, and what they did not want holds.

use channel::contacts::{self, Saved};
use channel::erasure::{self, Begun};
use channel::inbox::{self, Filter};
use channel::jobs::TemplateSend;
use channel::store::{HandedOver, Inbound as KeptInbound, StoredConnection};
use domain::contact::Contact;
use domain::ids::{ConversationId, MessageId, MessageKey, NumberId, TenantId, Wamid};
use domain::message::{Content, Event, Message, Preference};
use meta_sim::{File, Inbound};
use world::story::{ANA, NUMBER, World, connection_id};
use world::wire::{Fault, Rule};

use super::{DAY, HOUR, MINUTE, SECOND};
use crate::person::{ANAS_ID, Tells, enters, writes_as};
use crate::{in_each_way, in_every_way};

/// Longer than the last look of an erasure waits for.
const A_WHILE: std::time::Duration = std::time::Duration::from_mins(11);
/// What the customer, the agent and the campaign say in these stories.
const MARK: &str = "xyzzy";

/// What of the customer lies anywhere: addresses, name, words, Meta's ids of messages.
fn left(world: &World, who: &str) -> Vec<String> {
    let name = world.meta.phone(who).customer().map(|it| it.name).expect("a customer");
    let needles = [ANA, ANAS_ID, MARK, "wamid.", name.as_str()];
    world.everything().into_iter().filter(|it| needles.iter().any(|needle| it.contains(needle))).collect()
}

/// Ana has a conversation in which everything happened that leaves something behind.
async fn much_happens(world: &World) -> ConversationId {
    enters(world, ANA, ANAS_ID);
    world
        .meta
        .change_customer(&world.meta.phone(ANA).customer().expect("a customer").key, |it| it.name = "Anastasia Q".to_owned())
        .expect("hers");
    let once = Some(format!("{MARK} step").try_into().expect("a label"));
    world.campaigns(&TemplateSend { once, ..world.offer(ANA, 1) }).await;
    world.pass(MINUTE).await;
    let greeting = writes_as(world, ANA, Tells::Both, format!("{MARK} hello").as_str());
    world.pass(MINUTE).await;
    let caption = Some(MARK.to_owned());
    let document = File { caption, filename: Some(format!("{MARK}.pdf")), ..File::default() };
    let edit = Inbound::Edit { message_id: greeting.clone(), text: format!("{MARK} hallo") };
    let reaction = Inbound::Reaction { message_id: greeting, emoji: Some("👍".to_owned()) };
    for said in [Inbound::Document(document), edit, reaction, Inbound::text(&format!("{MARK} ").repeat(200))] {
        world.writes_to(NUMBER, ANA, said);
        world.pass(SECOND * 2).await;
    }
    world.meta.phone(ANA).calls(NUMBER).expect("the customer can call");
    world.pass(MINUTE).await;
    let id = world.conversation(ANA).await.id;
    let contact = Contact::of([("note".to_owned(), MARK.to_owned())].into()).expect("well");
    assert!(matches!(contacts::put(&world.store, &id, contact, Some(0)).await.expect("the store answers"), Saved::Saved(_)));
    id
}

#[tokio::test]
async fn nothing_of_an_erased_customer_is_found_and_metas_repeats_bring_nothing_back() {
    in_every_way(async |world: &World| {
        let id = much_happens(world).await;
        assert!(left(world, ANA).len() > 10 && !world.s3.keys().is_empty(), "else this story shows nothing");
        assert_eq!(world.erases(&id).await, Begun::Erased);
        assert!(world.find(ANA).await.is_none() && world.find(ANAS_ID).await.is_none(), "it is gone at once");
        world.settle().await;
        assert_eq!(left(world, ANA), Vec::<String>::new());
        let screen = world.screen(ANA);
        world.meta_repeats_all().await;
        world.meta_repeats_all_in_one().await;
        // What becomes of our messages now finds shells, which take no status.
        assert!(world.meta.phone(ANA).reads().expect("a customer") > 0);
        world.pass(A_WHILE).await;
        assert_eq!((left(world, ANA), world.s3.keys()), (Vec::<String>::new(), Vec::new()));
        assert_eq!(world.screen(ANA), screen, "and nobody wrote to them");
        let page = inbox::list(&world.store, &connection_id(), &Filter::default(), None, 9, world.now()).await.expect("the store answers");
        assert!(page.conversations.is_empty());
        assert!(!world.everything().iter().any(|it| it.contains("ERASING#")), "nothing is left to be done");
    })
    .await;
}

#[tokio::test]
async fn shells_and_addresses_go_after_fourteen_days() {
    let world = World::new().await;
    let id = much_happens(&world).await;
    world.erases(&id).await;
    world.pass(A_WHILE).await;
    let of_customer = |world: &World| {
        let all = world.everything();
        all.into_iter().filter(|it| it.contains("\"ADDRESS#") || it.contains(&format!("\"CONVERSATION#{id}"))).count()
    };
    assert!(of_customer(&world) > 5);
    world.pass(DAY * 13).await;
    world.dynamo.sweep_expired().expect("the engine answers");
    assert!(of_customer(&world) > 5, "Meta may repeat still what was erased");
    world.pass(DAY * 2).await;
    world.dynamo.sweep_expired().expect("the engine answers");
    assert_eq!(of_customer(&world), 0);
}

#[tokio::test]
async fn what_the_customer_writes_later_begins_a_new_conversation_and_brings_nothing_old_along() {
    in_every_way(async |world: &World| {
        let id = much_happens(world).await;
        world.erases(&id).await;
        world.pass(SECOND * 2).await;
        world.agent_is_silent();
        writes_as(world, ANA, Tells::Phone, "a new start");
        world.pass(SECOND * 2).await;
        writes_as(world, ANA, Tells::Both, "with both addresses");
        world.pass(A_WHILE).await;
        world.meta_repeats_all().await;
        world.meta_repeats_all_in_one().await;
        let new = world.conversation(ANA).await;
        assert_ne!(new.id, id);
        assert_eq!(world.conversation(ANAS_ID).await.id, new.id);
        assert_eq!(world.history(ANA).await, ["> a new start", "> with both addresses"]);
        assert!(!world.everything().iter().any(|it| it.contains(MARK)));
        let told: Vec<String> = world.words_told().into_iter().filter(|it| !it.contains(MARK)).collect();
        assert_eq!(told.iter().rev().take(2).rev().collect::<Vec<_>>(), ["a new start", "with both addresses"]);
    })
    .await;
}

#[tokio::test]
async fn what_is_queued_for_an_erased_customer_is_never_sent() {
    in_each_way(async |world: &World| {
        world.agent_is_silent();
        enters(world, ANA, ANAS_ID);
        writes_as(world, ANA, Tells::Both, "hello");
        world.pass(SECOND).await;
        let id = world.conversation(ANA).await.id;
        world.stop().await;
        world.sends(&world.of_agent(&id, MARK, 1)).await;
        world.campaigns(&world.offer(ANA, 2)).await;
        world.settle().await;
        world.clock.advance(SECOND);
        world.erases(&id).await;
        world.run().await;
        world.pass(A_WHILE).await;
        assert_eq!(world.screen(ANA), ["> hello"]);
        let mut codes = world.codes();
        codes.sort();
        assert_eq!(codes, ["erased", "unknown_conversation"]);
        assert_eq!(left(world, ANA), Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn an_opt_out_outlives_the_data_for_good_and_holds_for_whatever_begins_later() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        enters(world, ANA, ANAS_ID);
        writes_as(world, ANA, Tells::Both, "no more offers");
        world.pass(SECOND).await;
        world.sets_marketing(ANA, Preference::Stop).await;
        let id = world.conversation(ANA).await.id;
        world.erases(&id).await;
        world.pass(DAY * 20).await;
        world.dynamo.sweep_expired().expect("the engine answers");
        assert_eq!(left(world, ANA), Vec::<String>::new());
        world.campaigns(&world.offer(ANA, 1)).await;
        world.pass(MINUTE).await;
        assert_eq!(world.codes(), ["opted_out"]);
        writes_as(world, ANA, Tells::UserId, "hello again");
        world.pass(MINUTE).await;
        assert_eq!(world.conversation(ANAS_ID).await.opt_out.map(|it| it.preference), Some(Preference::Stop));
    })
    .await;
}

#[tokio::test]
async fn the_parts_of_a_conversation_are_erased_with_it() {
    in_every_way(async |world: &World| {
        enters(world, ANA, ANAS_ID);
        writes_as(world, ANA, Tells::Phone, MARK);
        world.pass(SECOND).await;
        writes_as(world, ANA, Tells::UserId, MARK);
        world.pass(SECOND).await;
        let part = world.conversation(ANA).await.id;
        writes_as(world, ANA, Tells::Both, MARK);
        world.pass(SECOND).await;
        assert_eq!(world.erases(&part).await, Begun::Erased);
        world.settle().await;
        assert_eq!(left(world, ANA), Vec::<String>::new());
        // SQS has forgotten by then what it would take for a repeat.
        world.pass(A_WHILE).await;
        world.meta_repeats_all().await;
        world.pass(MINUTE).await;
        assert_eq!(left(world, ANA), Vec::<String>::new());
        let nobody = ConversationId::parse("n".repeat(22)).expect("an id");
        assert_eq!(world.erases(&nobody).await, Begun::NoConversation);
    })
    .await;
}

#[tokio::test]
async fn what_a_function_still_writes_that_had_read_the_conversation_before_is_erased_in_the_end() {
    let world = World::new().await;
    world.writes(ANA, MARK);
    world.settle().await;
    let id = world.conversation(ANA).await.id;
    world.erases(&id).await;
    world.settle().await;
    let (number, wamid) = (NumberId::parse(NUMBER).expect("an id"), Wamid::parse("wamid.late").expect("an id"));
    let key = MessageKey { conversation: id, at: world.now(), id: MessageId::of_inbound(&number, &wamid) };
    let message = Message {
        wamid,
        at: world.now(),
        content: Content::Text { text: MARK.to_owned() },
        quoted: None,
        referral: None,
        forwarded: false,
        in_group: false,
        faults: Vec::new(),
        unknown: String::new(),
    };
    let late = KeptInbound::new(connection_id(), number, &Event::Message(message), HandedOver::Nobody, world.now(), false)
        .expect("it can be kept");
    assert!(world.store.keep_inbound(&key, late, DAY).await.expect("the store answers"));
    assert_eq!(left(&world, ANA).len(), 1);
    world.pass(A_WHILE).await;
    assert_eq!(left(&world, ANA), Vec::<String>::new());
}

#[tokio::test]
async fn what_a_connection_keeps_no_longer_goes_and_what_it_keeps_stays() {
    let world = World::new().await;
    let twenty = |it: &StoredConnection| {
        let mut it = it.clone();
        it.connection.message_days = Some(20);
        Some(it)
    };
    world.writes(ANA, "kept for a year");
    world.settle().await;
    assert!(world.store.change_connection(&connection_id(), twenty).await.expect("the store answers").is_some());
    // What is remembered of connections is some minutes old at most.
    world.sleep(DAY).await;
    world.writes(ANA, "kept for twenty days");
    world.writes(ANA, &"and much of it ".repeat(60));
    world.settle().await;
    world.sleep(DAY * 19).await;
    world.dynamo.sweep_expired().expect("the engine answers");
    assert_eq!(world.history(ANA).await.len(), 6);
    world.sleep(DAY * 2).await;
    world.dynamo.sweep_expired().expect("the engine answers");
    assert_eq!(world.history(ANA).await, ["> kept for a year", "< You said: kept for a year (example, Delivered)"]);
    assert!(!world.everything().iter().any(|it| it.contains("twenty") || it.contains("much of it")));
    world.sleep(DAY * 340).await;
    world.dynamo.sweep_expired().expect("the engine answers");
    assert_eq!(world.history(ANA).await.len(), 2);
    world.sleep(DAY * 10).await;
    world.dynamo.sweep_expired().expect("the engine answers");
    assert_eq!(world.history(ANA).await, Vec::<String>::new());
}

#[tokio::test]
async fn with_a_connection_all_its_conversations_are_erased_those_that_nobody_answered_too() {
    in_each_way(async |world: &World| {
        world.agent_is_silent();
        enters(world, ANA, ANAS_ID);
        let campaign: Vec<TemplateSend> = (1..4).map(|it| world.offer(&format!("3461100000{it}"), it)).collect();
        world.campaigns_all(&campaign).await;
        writes_as(world, ANA, Tells::Both, MARK);
        world.pass(MINUTE).await;
        let tenant = TenantId::parse("demo").expect("an id");
        let is_of_somebody = |it: &String| it.contains("3461100000") || it.contains(MARK) || it.contains(ANA);
        assert!(world.everything().iter().filter(|it| is_of_somebody(it)).count() > 4);
        erasure::begin_all(&world.store, &world.queues, &tenant, &connection_id(), world.now()).await.expect("the store answers");
        world.pass(A_WHILE).await;
        assert_eq!(world.everything().into_iter().find(is_of_somebody), None);
        assert!(!world.everything().iter().any(|it| it.contains("ERASING")), "nothing is left to be done");
    })
    .await;
}

#[tokio::test]
async fn what_still_comes_for_a_connection_that_is_deleted_is_kept_for_nobody() {
    in_each_way(async |world: &World| {
        world.writes(ANA, MARK);
        world.settle().await;
        // One message is under way as it is deleted; two come while webhooks remember whose the number was, one of somebody new.
        world.writes(ANA, MARK);
        assert_eq!(world.api("DELETE", "/v1/connections/demo", None).await.0, 204);
        world.settle().await;
        world.pass(SECOND * 20).await;
        world.writes(ANA, MARK);
        world.writes("34611999999", MARK);
        world.settle().await;
        world.pass(A_WHILE * 2).await;
        let is_of_somebody = |it: &String| it.contains("34611999999") || it.contains(MARK) || it.contains(ANA);
        assert_eq!(world.everything().into_iter().find(is_of_somebody), None);
        world.may_leave_messages();
    })
    .await;
}

#[tokio::test]
async fn an_erasure_that_was_left_goes_on_by_the_schedule_though_the_connection_is_stopped() {
    let world = World::new().await;
    world.writes(ANA, MARK);
    world.settle().await;
    let id = world.conversation(ANA).await.id;
    world.stop().await;
    // Whoever asks dies before health is told, and asks no more.
    world.sqs.faults().add(Rule::every(Fault::CutBefore).by("control"));
    assert_eq!(world.api("DELETE", &format!("/v1/conversations/{id}"), None).await.0, 503);
    world.sqs.faults().clear();
    world.pass(HOUR).await;
    assert_ne!(left(&world, ANA), Vec::<String>::new(), "else this story shows nothing");
    world.schedule_all().await;
    world.settle().await;
    assert_eq!(left(&world, ANA), Vec::<String>::new());
}

#[tokio::test]
async fn a_conversation_that_nobody_can_read_keeps_no_other_from_being_erased_with_its_connection() {
    let world = World::new().await;
    let others = ["34611000001", "34611000002", "34611000003", "34611000004"];
    for who in [ANA].into_iter().chain(others) {
        world.writes(who, MARK);
    }
    world.settle().await;
    let id = world.conversation(ANA).await.id;
    world.spoils("ConversationsTable", &format!("CONVERSATION#{id}"), "STATE").await;
    let tenant = TenantId::parse("demo").expect("an id");
    erasure::begin_all(&world.store, &world.queues, &tenant, &connection_id(), world.now()).await.expect("the store answers");
    world.pass(A_WHILE).await;
    assert_eq!(world.everything().into_iter().find(|it| others.iter().any(|who| it.contains(who))), None);
    let listed = world.store.listed_erasing(&connection_id()).await.expect("the store answers");
    assert_eq!(listed.into_iter().map(|it| it.0).collect::<Vec<_>>(), [id], "it is not forgotten");
    world.may_leave_messages();
}

#[tokio::test]
async fn what_is_stuck_until_its_connection_is_deleted_and_erased_is_kept_for_nobody() {
    let world = World::new().await;
    world.writes("34611999999", "hello");
    world.settle().await;
    world.dynamo.faults().add(Rule::every(Fault::InternalError).by("inbound"));
    world.writes(ANA, MARK);
    world.settle().await;
    assert_eq!(world.api("DELETE", "/v1/connections/demo", None).await.0, 204);
    world.pass(HOUR).await;
    let tables = |world: &World| {
        world.dynamo.dump().expect("the engine answers").into_values().flatten().map(|it| it.to_string()).collect::<Vec<_>>()
    };
    assert!(!tables(&world).iter().any(|it| it.contains("34611999999")), "what was there is erased");
    world.dynamo.faults().clear();
    world.pass(HOUR).await;
    assert!(world.lying_in("InboundQueue").is_empty());
    assert_eq!(left(&world, ANA), Vec::<String>::new());
    world.may_leave_messages();
}
