//! The inbox, the history of a conversation as people read it, and the story of each message.

use std::collections::BTreeMap;

use channel::contacts::{self, Saved};
use channel::history::{self, Line, Ours, Said, Theirs, What};
use channel::inbox::{self, Filter, Listed, StandingKind};
use channel::jobs::{Scalar, TemplateSend};
use channel::resends::{self, Resend};
use channel::store::Active;
use domain::contact::Contact;
use domain::conversation::{Answerer, Conversation};
use domain::ids::{ConversationId, MessageKey, TenantId};
use domain::message::Content;
use domain::status::{State, Step};
use domain::template::{Texts, Value, Values};
use meta_sim::{Author, Customer, Fault, Inbound};
use world::story::{ANA, NUMBER, OTHER_NUMBER, World, connection_id};

use super::{DAY, HOUR, MINUTE, SECOND};
use crate::in_every_way;
use crate::person::{ANAS_ID, Tells, enters, writes_as};
use crate::sends::refusal;

const LUIS: &str = "34600333444";
const ROSA: &str = "34600555666";

/// Pages through the inbox, so many at a time; the customers' phones, in order.
async fn paged(world: &World, filter: &Filter, limit: usize) -> Vec<String> {
    all(world, filter, limit)
        .await
        .iter()
        .map(|it| it.customer.as_ref().and_then(|it| it.phone()).expect("a phone").digits().to_owned())
        .collect()
}

async fn all(world: &World, filter: &Filter, limit: usize) -> Vec<Listed> {
    let (mut found, mut before): (Vec<Listed>, Option<Active>) = (Vec::new(), None);
    loop {
        let page = inbox::list(&world.store, &connection_id(), filter, before, limit, world.now()).await.expect("the store answers");
        assert!(page.conversations.len() <= limit, "no more than was asked for");
        found.extend(page.conversations);
        match page.next {
            Some(next) => before = Some(next),
            None => return found,
        }
    }
}

/// The newest lines of a conversation, page by page of this size.
async fn read(conversation: &Conversation, world: &World, limit: usize) -> Vec<Line> {
    let (mut lines, mut before) = (Vec::new(), None);
    loop {
        let page = history::page(&world.store, conversation, before.as_ref(), limit).await.expect("the store answers");
        assert!(page.lines.len() <= limit, "no more than was asked for");
        lines.extend(page.lines);
        match page.next {
            Some(next) => before = Some(next),
            None => return lines,
        }
    }
}

/// A line as a person reads it.
fn shown(line: &Line) -> String {
    let text = |it: &Content| match it {
        Content::Text { text } => text.clone(),
        other => other.kind().to_owned(),
    };
    let said = match &line.said {
        Said::Customer(Theirs { is_deleted: true, .. }) => "> [deleted]".to_owned(),
        Said::Customer(it) => {
            let edited = if it.edited_at.is_some() { " (edited)" } else { "" };
            format!("> {}{edited}", it.content.as_ref().map(text).expect("it was not deleted"))
        }
        Said::Business(it) => format!("< {}", it.content["text"].as_str().or(it.content["body"].as_str()).expect("words")),
        Said::Note { what, .. } => format!("· {what}"),
    };
    match &line.reaction {
        Some(it) => format!("{said} {}", it.emoji),
        None => said,
    }
}

#[tokio::test]
async fn the_inbox_lists_each_conversation_once_newest_hour_first_however_often_it_was_active() {
    in_every_way(async |world: &World| {
        for who in [ANA, LUIS, ROSA, LUIS, ANA] {
            world.writes(who, "hello");
            world.settle().await;
            world.pass(HOUR).await;
        }
        for limit in [1, 2, 50] {
            assert_eq!(paged(world, &Filter::default(), limit).await, [ANA, LUIS, ROSA], "{limit} at a time");
        }
        let listed = all(world, &Filter::default(), 50).await;
        assert_eq!(listed[0].last_inbound_at, Some(world.now().minus(HOUR)));
        assert_eq!(listed[0].profile.name, world.meta.phone(ANA).customer().map(|it| it.name));
    })
    .await;
}

#[tokio::test]
async fn the_inbox_is_filtered_by_standing_by_number_and_by_who_answers() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.settle().await;
        world.pass(DAY).await;
        world.meta.customer_writes(LUIS, OTHER_NUMBER, "hello").expect("writes");
        world.writes(ROSA, "hello");
        world.settle().await;
        world.pass(SECOND).await;
        world.hand(ROSA, true).await;
        let of = async |filter: Filter| {
            let mut found = paged(world, &filter, 2).await;
            found.sort();
            found
        };
        assert_eq!(of(Filter { standing: Some(StandingKind::Open), ..Filter::default() }).await, [LUIS, ROSA]);
        assert_eq!(of(Filter { standing: Some(StandingKind::TemplateOnly), ..Filter::default() }).await, [ANA]);
        let other = domain::ids::NumberId::parse(OTHER_NUMBER).expect("an id");
        assert_eq!(of(Filter { number: Some(other), ..Filter::default() }).await, [LUIS]);
        assert_eq!(of(Filter { answered_by: Some(Answerer::Person), ..Filter::default() }).await, [ROSA]);
        assert_eq!(of(Filter { answered_by: Some(Answerer::Agent), ..Filter::default() }).await, [ANA, LUIS]);
    })
    .await;
}

#[tokio::test]
async fn two_conversations_that_became_one_are_listed_once() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        enters(world, ANA, ANAS_ID);
        writes_as(world, ANA, Tells::Phone, "by phone");
        world.pass(SECOND).await;
        writes_as(world, ANA, Tells::UserId, "by user id");
        world.pass(SECOND).await;
        assert_eq!(all(world, &Filter::default(), 1).await.len(), 2);
        writes_as(world, ANA, Tells::Both, "by both");
        world.settle().await;
        assert_eq!(paged(world, &Filter::default(), 1).await, [ANA]);
        let lines = read(&world.conversation(ANA).await, world, 2).await;
        let said: Vec<String> = lines.iter().map(shown).collect();
        assert_eq!(said, ["> by both", "> by user id", "> by phone"]);
    })
    .await;
}

#[tokio::test]
async fn what_a_person_has_read_is_unread_no_more_and_the_customer_sees_the_blue_ticks() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.settle().await;
        world.pass(SECOND).await;
        assert!(all(world, &Filter::default(), 9).await[0].is_unread);
        let id = world.conversation(ANA).await.id;
        for _ in 0..2 {
            inbox::read(&world.store, &world.queues, &id, "Eva").await.expect("the store answers").expect("there is a conversation");
        }
        world.settle().await;
        assert!(!all(world, &Filter::default(), 9).await[0].is_unread);
        let ticks = |world: &World| world.meta.phone(ANA).screen().iter().map(|it| it.read.is_some()).collect::<Vec<_>>();
        assert_eq!(ticks(world), [true]);
        assert!(!world.conversation(ANA).await.has_person(world.now()), "to read is not to take");
        world.writes(ANA, "are you there?");
        world.settle().await;
        assert!(all(world, &Filter::default(), 9).await[0].is_unread);
        assert_eq!(ticks(world), [true, false]);
    })
    .await;
}

#[tokio::test]
async fn a_conversation_is_read_newest_first_with_what_was_remarked_on_each_message() {
    in_every_way(async |world: &World| {
        let long = "long ".repeat(200);
        let greeting = world.writes(ANA, "helo");
        world.settle().await;
        world.pass(MINUTE).await;
        let ours = world.meta.phone(ANA).screen().into_iter().find(|it| it.from == Author::Business).expect("an answer").id;
        world.writes_to(NUMBER, ANA, Inbound::Edit { message_id: greeting.clone(), text: "hello".to_owned() });
        world.writes_to(NUMBER, ANA, Inbound::Reaction { message_id: ours, emoji: Some("👍".to_owned()) });
        let regretted = world.writes(ANA, "what I regret");
        world.pass(MINUTE).await;
        world.writes_to(NUMBER, ANA, Inbound::Revoke { message_id: regretted });
        world.pass(MINUTE).await;
        world.agent_is_silent();
        world.writes(ANA, &long);
        world.meta.phone(ANA).calls(NUMBER).expect("the customer can call");
        world.pass(MINUTE).await;
        let conversation = world.conversation(ANA).await;
        let whole = read(&conversation, world, 50).await;
        let said: Vec<String> = whole.iter().map(shown).collect();
        let calls = said.iter().take_while(|it| it.starts_with('·')).count();
        assert!(calls > 0, "{said:?}");
        let expected = [&format!("> {long}"), "< You said: what I regret", "> [deleted]", "< You said: helo 👍", "> hello (edited)"];
        let rest: Vec<&String> = said.iter().filter(|it| !it.starts_with('·')).collect();
        assert_eq!(rest, expected);
        for limit in 1..4 {
            assert_eq!(read(&conversation, world, limit).await, whole, "{limit} at a time");
        }
    })
    .await;
}

#[tokio::test]
async fn a_message_tells_its_state_with_the_exact_time_of_each_step_and_its_story() {
    in_every_way(async |world: &World| {
        world.meta.add_customer(Customer::with_phone(ANA));
        world.writes(ANA, "hello");
        world.pass(MINUTE).await;
        assert_eq!(world.meta.phone(ANA).reads(), Ok(1));
        world.pass(MINUTE).await;
        let conversation = world.conversation(ANA).await;
        let lines = read(&conversation, world, 9).await;
        let Said::Business(ours) = &lines[0].said else { panic!("an answer: {lines:?}") };
        let on_screen = world.meta.phone(ANA).screen().into_iter().find(|it| it.from == Author::Business).expect("an answer");
        let seconds = |it: Option<i64>| it.map(|it| it / 1_000 * 1_000);
        let at = |step: &str| ours.steps.iter().find(|it| it.step == step).map(|it| it.at.as_millis());
        assert_eq!((ours.state, ours.attempts), (State::Read, 1));
        assert_eq!(at("sent"), seconds(on_screen.sent));
        assert_eq!(at("delivered"), seconds(on_screen.delivered));
        assert_eq!(at("read"), seconds(on_screen.read));
        assert!(at("accepted").is_some() && ours.pricing.is_some(), "{ours:?}");
        let (key, item) =
            history::message(&world.store, &conversation, &lines[0].id).await.expect("the store answers").expect("it is kept");
        let story: Vec<String> = history::story(&key, &item).iter().map(|it| told(&it.what)).collect();
        assert_eq!(story, ["made", "tried 1", "accepted 1", "sent 1", "delivered 1", "read 1"]);
        let theirs = history::message(&world.store, &conversation, &lines[1].id).await.expect("the store answers").expect("it is kept");
        let story: Vec<String> = history::story(&theirs.0, &theirs.1).iter().map(|it| told(&it.what)).collect();
        assert_eq!(story, ["written", "heard", "handed over to example"]);
    })
    .await;
}

#[tokio::test]
async fn a_message_that_failed_tells_why_and_its_story_how() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.settle().await;
        world.pass(SECOND).await;
        let conversation = world.conversation(ANA).await;
        world.meta.fail_next(None, Some(1), refusal(131_026));
        world.sends(&world.of_agent(&conversation.id, "can you read me?", 1)).await;
        world.pass(MINUTE).await;
        let lines = read(&conversation, world, 9).await;
        let Said::Business(ours) = &lines[0].said else { panic!("an answer: {lines:?}") };
        assert_eq!((ours.state, ours.code.as_deref()), (State::Failed, Some("131026")));
        assert!(ours.note.is_some() && ours.retry.is_some(), "{ours:?}");
        let (key, item) =
            history::message(&world.store, &conversation, &lines[0].id).await.expect("the store answers").expect("it is kept");
        let story: Vec<String> = history::story(&key, &item).iter().map(|it| told(&it.what)).collect();
        assert_eq!(story, ["made", "tried 1", "ended Failed 131026"]);
    })
    .await;
}

fn told(what: &What) -> String {
    match what {
        What::Written => "written".to_owned(),
        What::Heard => "heard".to_owned(),
        What::HandedOver { agent } => format!("handed over to {agent}"),
        What::Owed { agent } => format!("owed to {agent}"),
        What::Made => "made".to_owned(),
        What::Tried { attempt, .. } => format!("tried {attempt}"),
        What::Accepted { attempt, .. } => format!("accepted {attempt}"),
        What::Told { attempt, step, .. } => format!("{} {attempt}", Step::name(*step)),
        What::Ended { state, code, .. } => format!("ended {state:?} {}", code.as_deref().unwrap_or_default()),
    }
}

/// Eva sends a message again, under an id of now.
async fn resends(world: &World, conversation: &ConversationId, old: &MessageKey, serial: u32) -> Resend {
    let tenant = TenantId::parse("demo").expect("an id");
    let id = world.job_id(serial);
    let again = resends::resend(&world.store, &world.queues, &tenant, conversation, old, "Eva", &id).await;
    again.expect("the store and the queue answer")
}

/// The newest of our messages.
fn newest_of_ours(lines: &[Line]) -> (MessageKey, Ours) {
    let ours = lines.iter().find_map(|it| match &it.said {
        Said::Business(ours) => Some((it.id.clone(), ours.clone())),
        Said::Customer(_) | Said::Note { .. } => None,
    });
    ours.expect("a message of ours")
}

#[tokio::test]
async fn a_reply_that_failed_is_sent_again_by_a_person_as_a_new_message_that_names_the_old() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.pass(SECOND).await;
        let conversation = world.conversation(ANA).await;
        world.meta.fail_next(None, Some(1), refusal(131_026));
        world.sends(&world.of_agent(&conversation.id, "can you read me?", 1)).await;
        world.pass(MINUTE).await;
        let (old, _) = newest_of_ours(&read(&conversation, world, 9).await);
        for _ in 0..2 {
            assert!(matches!(resends(world, &conversation.id, &old, 2).await, Resend::Queued(_)));
        }
        world.pass(MINUTE).await;
        assert_eq!(world.screen(ANA), ["> hello", "< can you read me?"]);
        let (new, ours) = newest_of_ours(&read(&conversation, world, 9).await);
        assert_eq!((ours.resends.as_ref(), ours.state), (Some(&old), State::Delivered));
        assert_eq!(resends(world, &conversation.id, &new, 3).await, Resend::Underway(State::Delivered), "what arrived is not sent again");
        let unknown = MessageKey { at: world.now(), ..old };
        assert_eq!(resends(world, &conversation.id, &unknown, 4).await, Resend::NoMessage);
    })
    .await;
}

#[tokio::test]
async fn a_template_of_which_nobody_knows_is_sent_again_with_the_values_that_it_had() {
    in_every_way(async |world: &World| {
        world.meta.fail_next(None, Some(1), Fault::CutBefore);
        let values = Values { body: Texts::Positional(vec![Value::Field { field: "name".to_owned() }]), ..Values::default() };
        let participant = BTreeMap::from([("name".to_owned(), Scalar("Rosa".to_owned()))]);
        world.campaigns(&TemplateSend { values, participant, ..world.offer(ROSA, 1) }).await;
        world.pass(MINUTE * 5).await;
        let conversation = world.conversation(ROSA).await;
        let (old, ours) = newest_of_ours(&read(&conversation, world, 9).await);
        assert_eq!(ours.state, State::Unconfirmed);
        assert!(matches!(resends(world, &conversation.id, &old, 2).await, Resend::Queued(_)));
        world.pass(MINUTE).await;
        let (_, again) = newest_of_ours(&read(&conversation, world, 9).await);
        assert_eq!((again.state, again.resends.as_ref()), (State::Delivered, Some(&old)));
        assert_eq!(again.content, ours.content, "word for word");
        assert_eq!(world.meta.received(ROSA).len(), 1);
    })
    .await;
}

fn contact(fields: &[(&str, &str)]) -> Contact {
    Contact::of(fields.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()).expect("well")
}

#[tokio::test]
async fn a_contact_is_saved_over_what_was_read_and_over_nothing_newer() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        world.pass(SECOND).await;
        let id = world.conversation(ANA).await.id;
        let before = contacts::get(&world.store, &id).await.expect("the store answers").expect("a conversation");
        assert_eq!((before.version, before.contact.fields().len()), (0, 0));
        let saved =
            contacts::put(&world.store, &id, contact(&[("city", "Madrid")]), Some(before.version)).await.expect("the store answers");
        let Saved::Saved(saved) = saved else { panic!("{saved:?}") };
        let late = contacts::put(&world.store, &id, contact(&[("city", "Bilbao")]), Some(before.version)).await.expect("the store answers");
        assert_eq!(late, Saved::Moved(saved.clone()));
        assert_eq!(contacts::get(&world.store, &id).await.expect("the store answers"), Some(saved));
        let nobody = ConversationId::parse("n".repeat(22)).expect("an id");
        let none = contacts::put(&world.store, &nobody, contact(&[]), Some(0)).await.expect("the store answers");
        assert_eq!(none, Saved::NoConversation);
    })
    .await;
}

#[tokio::test]
async fn when_two_conversations_become_one_so_do_their_contacts_and_what_is_saved_then_holds() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        enters(world, ANA, ANAS_ID);
        for (tells, who, fields) in [
            (Tells::Phone, ANA, contact(&[("name", "Ana"), ("city", "Madrid")])),
            (Tells::UserId, ANAS_ID, contact(&[("name", "Anna"), ("clinic", "North")])),
        ] {
            writes_as(world, ANA, tells, "hello");
            world.pass(SECOND).await;
            let id = world.conversation(who).await.id;
            let saved = contacts::put(&world.store, &id, fields, Some(0)).await.expect("the store answers");
            assert!(matches!(saved, Saved::Saved(_)), "{saved:?}");
        }
        let by_id = world.conversation(ANAS_ID).await.id;
        writes_as(world, ANA, Tells::Both, "hello");
        world.pass(SECOND).await;
        let id = world.conversation(ANA).await.id;
        let joined = contacts::get(&world.store, &id).await.expect("the store answers").expect("a conversation");
        let name = if id == by_id { "Anna" } else { "Ana" };
        assert_eq!(joined.contact, contact(&[("name", name), ("city", "Madrid"), ("clinic", "North")]));
        let stale = contacts::put(&world.store, &id, contact(&[]), Some(1)).await.expect("the store answers");
        assert!(matches!(stale, Saved::Moved(_)), "a merge is a change");
        let fields = contact(&[("name", "Ana María")]);
        let saved = contacts::put(&world.store, &id, fields.clone(), Some(joined.version)).await.expect("the store answers");
        assert!(matches!(saved, Saved::Saved(_)), "{saved:?}");
        let after = contacts::get(&world.store, &id).await.expect("the store answers").expect("a conversation");
        assert_eq!(after.contact, fields, "what was taken out does not come back from a part");
    })
    .await;
}
