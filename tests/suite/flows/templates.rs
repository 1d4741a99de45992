//! Templates: from the right number, once, and never a second unanswered one within a day.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use channel::Fence;
use channel::jobs::{Author, Happened, TemplateSend, To};
use channel::store::{Claim, Ending, MessageItem, Outbound, Store, StoredConnection, Tables, Writer};
use domain::connection::Connection;
use domain::conversation::Standing;
use domain::customer::{Bsuid, Customer, Phone};
use domain::ids::{ConversationId, MessageId, MessageKey, NumberId};
use domain::message::Preference;
use domain::refusal::Retry;
use domain::status::Phase;
use domain::template::{TemplateName, Texts, Value, Values};
use meta_sim::{Fault, Limits, Mode, demo_templates};
use world::mapping::Freely;
use world::story::{ANA, NUMBER, OTHER_NUMBER, WABA, World, connection_id};
use world::wire::{self, Rule};

use super::{DAY, HOUR, MINUTE, SECOND};
use crate::{in_each_way, in_every_way};

const OFFERED: &str = "< Hello Ana, everything is half price today.";

async fn standing(world: &World) -> Standing {
    world.conversation(ANA).await.standing(world.now())
}

#[tokio::test]
async fn a_template_goes_out_and_its_ticks_come_back() {
    in_every_way(async |world: &World| {
        let job = TemplateSend { campaign: Some("spring".to_owned().try_into().expect("a label")), ..world.offer(ANA, 1) };
        world.campaigns(&job).await;
        world.settle().await;
        world.pass(MINUTE).await;
        assert_eq!(world.screen(ANA), [OFFERED]);
        assert_eq!(world.history(ANA).await, ["< Hello Ana, everything is half price today. (campaign, Delivered)"]);
        assert!(matches!(standing(world).await, Standing::AwaitingReply { .. }));
        let told: BTreeSet<(String, Option<String>, bool)> = world
            .events()
            .into_iter()
            .filter_map(|it| match it.what {
                Happened::MessageState { step, campaign, template_badge, .. } => Some((step, campaign, template_badge)),
                _ => None,
            })
            .collect();
        let campaign = Some("spring".to_owned());
        let expected = ["accepted", "delivered", "sent"].map(|it| (it.to_owned(), campaign.clone(), true));
        assert_eq!(told, BTreeSet::from(expected));
    })
    .await;
}

#[tokio::test]
async fn nobody_gets_a_second_unanswered_template_within_a_day() {
    in_each_way(async |world: &World| {
        world.agent_is_silent();
        world.campaigns(&world.offer(ANA, 1)).await;
        world.pass(MINUTE).await;
        let began_at = world.conversation(ANA).await.unanswered.expect("it waits for an answer").since;
        world.campaigns(&world.offer(ANA, 2)).await;
        world.campaigns(&world.reminder(ANA, 3)).await;
        world.pass(MINUTE).await;
        assert_eq!(world.codes(), ["awaiting_reply"; 2]);
        let conversation = world.conversation(ANA).await.id;
        assert!(world.refused_templates().iter().all(|it| it.1 == Some(conversation.clone())), "the refusal names the conversation");
        let retry_at = began_at.plus(DAY);
        assert!(world.refusals().iter().all(|it| it.retry == Retry::Later { retry_at }));
        // A day later it may begin again.
        world.pass(DAY).await;
        world.campaigns(&world.offer(ANA, 4)).await;
        world.pass(MINUTE).await;
        assert_eq!(world.screen(ANA), [OFFERED; 2]);
        // An answer opens it at once, and what goes out in the open window begins nothing.
        world.writes(ANA, "which ones?");
        world.settle().await;
        for serial in 5..7 {
            world.campaigns(&world.offer(ANA, serial)).await;
        }
        world.pass(MINUTE).await;
        assert_eq!(world.screen(ANA).len(), 5);
        assert!(matches!(standing(world).await, Standing::Open { .. }));
        assert_eq!(world.codes().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_definite_no_opens_the_guard_and_an_unknown_keeps_it() {
    in_each_way(async |world: &World| {
        world.meta.fail_next(None, Some(1), Fault::Error { code: 132_007, subcode: None });
        world.campaigns(&world.offer(ANA, 1)).await;
        world.pass(MINUTE).await;
        assert_eq!(world.codes(), ["132007"]);
        assert_eq!(world.conversation(ANA).await.unanswered, None);
        assert!(world.conversation(ANA).await.sender.is_some(), "the sender stays");

        // Meta takes the next one and hangs up, and its statuses do not come.
        world.meta.set_mode(Mode { delay_ms: 6 * 60 * 60 * 1_000, ..Mode::default() });
        world.meta.fail_next(None, Some(1), Fault::CutAfter);
        let step = |serial| TemplateSend { once: Some("welcome".to_owned().try_into().expect("a label")), ..world.offer(ANA, serial) };
        world.campaigns(&step(2)).await;
        world.pass(MINUTE * 3).await;
        assert_eq!(world.codes(), ["132007", "unconfirmed"]);
        world.campaigns(&world.offer(ANA, 3)).await;
        world.pass(MINUTE).await;
        assert_eq!(world.codes()[2..], ["awaiting_reply"]);

        // Whoever saw that nothing arrived sends it again, as a new message that names the old one.
        let unconfirmed = world.conversation(ANA).await.unanswered.expect("kept").message;
        let resend = TemplateSend { resends: Some(unconfirmed.to_string()), ..step(4) };
        world.campaigns(&resend).await;
        world.pass(MINUTE).await;
        assert_eq!(world.codes().len(), 3);
        assert_eq!(world.accepted().1, 2);
        let held_by = world.conversation(ANA).await.unanswered.expect("kept").message;
        assert_ne!(held_by, unconfirmed);
        // The late failure of the old one does not open the new one's guard.
        world.pass(HOUR * 7).await;
        assert_eq!(world.conversation(ANA).await.unanswered.map(|it| it.message), Some(held_by));
    })
    .await;
}

#[tokio::test]
async fn a_late_failure_opens_the_guard() {
    in_each_way(async |world: &World| {
        world.meta.fail_next(None, Some(1), Fault::FailLater { code: 131_026 });
        world.campaigns(&world.offer(ANA, 1)).await;
        world.pass(MINUTE).await;
        assert_eq!(world.codes(), ["131026"]);
        assert_eq!(world.conversation(ANA).await.unanswered, None);
        world.campaigns(&world.offer(ANA, 2)).await;
        world.pass(MINUTE).await;
        assert_eq!(world.screen(ANA), [OFFERED]);
    })
    .await;
}

#[tokio::test]
async fn a_job_that_is_queued_again_after_its_late_failure_holds_nothing() {
    in_each_way(async |world: &World| {
        let step = |serial| TemplateSend { once: Some("welcome".to_owned().try_into().expect("a label")), ..world.offer(ANA, serial) };
        let job = step(1);
        world.meta.fail_next(None, Some(1), Fault::FailLater { code: 131_026 });
        for _ in 0..2 {
            world.campaigns(&job).await;
            world.pass(MINUTE).await;
            assert_eq!((world.codes(), world.conversation(ANA).await.unanswered), (vec!["131026".to_owned()], None));
        }
        world.campaigns(&step(2)).await;
        world.pass(MINUTE).await;
        assert_eq!(world.screen(ANA), [OFFERED]);
    })
    .await;
}

#[tokio::test]
async fn what_was_delivered_after_all_is_not_sent_again() {
    in_each_way(async |world: &World| {
        world.agent_is_silent();
        world.meta.set_mode(Mode { delay_ms: 5 * 60 * 1_000, ..Mode::default() });
        world.meta.fail_next(None, Some(1), Fault::CutAfter);
        world.campaigns(&world.offer(ANA, 1)).await;
        world.pass(MINUTE * 3).await;
        assert_eq!(world.codes(), ["unconfirmed"]);
        let message = world.conversation(ANA).await.unanswered.expect("kept").message;
        world.pass(MINUTE * 5).await;
        world.campaigns(&TemplateSend { resends: Some(message.to_string()), ..world.offer(ANA, 2) }).await;
        world.pass(MINUTE).await;
        assert_eq!(world.codes(), ["unconfirmed", "awaiting_reply"]);
        assert_eq!(world.screen(ANA), [OFFERED]);
    })
    .await;
}

#[tokio::test]
async fn a_second_login_code_passes_and_neither_counts() {
    in_each_way(async |world: &World| {
        for serial in 1..3 {
            world.campaigns(&world.login_code(ANA, serial)).await;
            world.pass(MINUTE).await;
        }
        assert_eq!(world.screen(ANA), ["< *123456* is your verification code."; 2]);
        assert_eq!(world.conversation(ANA).await.unanswered, None);
        world.campaigns(&world.offer(ANA, 3)).await;
        world.campaigns(&world.login_code(ANA, 4)).await;
        world.pass(MINUTE).await;
        assert_eq!(world.screen(ANA).len(), 4, "an unanswered campaign keeps no login code back");
        assert_eq!(world.codes(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_login_code_needs_a_phone_number() {
    let world = World::new().await;
    let to = To::Bsuid(Bsuid::parse("MX.9007199254740993").expect("an id"));
    world.campaigns(&TemplateSend { to: to.clone(), ..world.login_code(ANA, 1) }).await;
    world.campaigns(&TemplateSend { to, ..world.reminder(ANA, 2) }).await;
    world.pass(MINUTE).await;
    assert_eq!(world.codes(), ["phone_required", "131026"], "nobody on WhatsApp has this id");
}

#[tokio::test]
async fn who_opted_out_of_marketing_gets_none_until_they_opt_in() {
    in_each_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "stop");
        world.settle().await;
        world.meta.phone(ANA).prefers(NUMBER, "stop").expect("a word of Meta's");
        world.pass(DAY * 2).await;
        world.campaigns(&world.offer(ANA, 1)).await;
        world.campaigns(&world.reminder(ANA, 2)).await;
        world.pass(MINUTE).await;
        assert_eq!(world.codes(), ["opted_out"]);
        assert_eq!(world.screen(ANA).len(), 2, "a reminder is no marketing");
        world.pass(DAY * 2).await;
        world.meta.phone(ANA).prefers(NUMBER, "resume").expect("a word of Meta's");
        world.pass(MINUTE).await;
        world.campaigns(&world.offer(ANA, 3)).await;
        world.pass(MINUTE).await;
        assert_eq!(world.screen(ANA).len(), 3);
        // An operator was told otherwise; the newest word wins.
        world.sets_marketing(ANA, Preference::Stop).await;
        world.pass(DAY * 2).await;
        world.campaigns(&world.offer(ANA, 4)).await;
        world.pass(MINUTE).await;
        assert_eq!(world.codes(), ["opted_out"; 2]);
    })
    .await;
}

#[tokio::test]
async fn who_must_not_be_contacted_gets_no_template_at_all() {
    in_each_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "leave me alone");
        world.settle().await;
        world.sets_do_not_contact(ANA, true).await;
        world.campaigns(&world.offer(ANA, 1)).await;
        world.campaigns(&world.reminder(ANA, 2)).await;
        world.campaigns(&world.login_code(ANA, 3)).await;
        world.pass(MINUTE).await;
        assert_eq!(world.codes(), ["do_not_contact"; 3]);
        world.sets_do_not_contact(ANA, false).await;
        world.campaigns(&world.reminder(ANA, 4)).await;
        world.pass(MINUTE).await;
        assert_eq!(world.screen(ANA).len(), 2);
        let told = world.events().into_iter().filter(|it| matches!(it.what, Happened::DoNotContact { .. })).count();
        assert_eq!(told, 2);
    })
    .await;
}

#[tokio::test]
async fn metas_limit_of_marketing_is_kept_for_a_day_and_opens_the_guard() {
    for code in [131_049, 130_472] {
        for is_late in [false, true] {
            let world = World::new().await;
            let fault = if is_late { Fault::FailLater { code } } else { Fault::Error { code, subcode: None } };
            world.meta.fail_next(None, Some(1), fault);
            world.campaigns(&world.offer(ANA, 1)).await;
            world.pass(MINUTE).await;
            assert_eq!(world.codes(), [code.to_string()]);
            let conversation = world.conversation(ANA).await;
            let until = conversation.marketing_limited_until.expect("it is remembered");
            assert!(conversation.unanswered.is_none() && until <= world.now().plus(DAY));
            world.campaigns(&world.offer(ANA, 2)).await;
            world.campaigns(&world.reminder(ANA, 3)).await;
            world.pass(MINUTE).await;
            assert_eq!(world.codes()[1..], ["marketing_limit"]);
            assert_eq!(world.refusals()[0].retry, Retry::Later { retry_at: until });
            assert_eq!(world.screen(ANA).len(), 1, "the reminder");
        }
    }
}

#[tokio::test]
async fn an_opt_out_that_meta_knows_and_we_do_not_is_learnt_from_its_refusal() {
    let world = World::new().await;
    world.meta.fail_next(None, Some(1), Fault::Error { code: 131_050, subcode: None });
    world.campaigns(&world.offer(ANA, 1)).await;
    world.pass(MINUTE).await;
    world.campaigns(&world.offer(ANA, 2)).await;
    world.pass(MINUTE).await;
    assert_eq!(world.codes(), ["131050", "opted_out"]);
    assert_eq!(world.opt_outs(), [Preference::Stop]);
}

#[tokio::test]
async fn a_step_of_a_campaign_reaches_a_customer_once_whatever_the_job() {
    in_each_way(async |world: &World| {
        let step = |serial| TemplateSend { once: Some("welcome".to_owned().try_into().expect("a label")), ..world.reminder(ANA, serial) };
        // What was definitely not sent gives the step back.
        world.meta.fail_next(None, Some(1), Fault::Error { code: 132_007, subcode: None });
        world.campaigns(&step(1)).await;
        world.pass(MINUTE).await;
        world.campaigns(&step(2)).await;
        world.pass(MINUTE).await;
        world.campaigns(&step(4)).await;
        world.pass(MINUTE).await;
        assert_eq!(world.codes(), ["132007", "duplicate"], "a step that was had is no matter of waiting");
        world.agent_is_silent();
        world.writes(ANA, "thank you");
        world.settle().await;
        world.campaigns(&step(3)).await;
        world.pass(MINUTE).await;
        assert_eq!(world.codes(), ["132007", "duplicate", "duplicate"]);
        assert_eq!(world.screen(ANA).len(), 2);
    })
    .await;
}

#[tokio::test]
async fn what_comes_too_late_is_not_sent() {
    let world = World::new().await;
    let (old, limited) = (world.offer(ANA, 1), TemplateSend { not_after: Some(world.now().plus(HOUR)), ..world.offer(ANA, 2) });
    world.sleep(HOUR + SECOND).await;
    world.campaigns(&limited).await;
    world.settle().await;
    assert_eq!(world.codes(), ["expired"]);
    world.sleep(DAY).await;
    world.campaigns(&old).await;
    world.settle().await;
    assert_eq!(world.codes(), ["expired"; 2]);
    assert_eq!(world.accepted().1, 0);
}

#[tokio::test]
async fn first_sends_rotate_and_every_customer_keeps_their_number() {
    in_each_way(async |world: &World| {
        let phones: Vec<String> = (0..10).map(|it| format!("3460011{it:04}")).collect();
        for (serial, phone) in phones.iter().enumerate() {
            world.campaigns(&world.offer(phone, u32::try_from(serial).expect("few"))).await;
        }
        world.pass(MINUTE).await;
        let number_of = |phone: &str| world.meta.received(phone).iter().map(|it| it.number.clone()).collect::<BTreeSet<_>>();
        let first: Vec<BTreeSet<String>> = phones.iter().map(|it| number_of(it)).collect();
        assert!(first.iter().all(|it| it.len() == 1));
        let from_first = first.iter().filter(|it| it.contains(NUMBER)).count();
        assert_eq!(from_first, 5, "two numbers take turns");
        world.pass(DAY * 2).await;
        for (serial, phone) in phones.iter().enumerate() {
            world.campaigns(&world.offer(phone, 100 + u32::try_from(serial).expect("few"))).await;
        }
        world.pass(MINUTE).await;
        assert_eq!(phones.iter().map(|it| number_of(it)).collect::<Vec<_>>(), first);
        assert!(phones.iter().all(|it| world.meta.received(it).len() == 2));
    })
    .await;
}

#[tokio::test]
async fn a_customer_who_writes_to_another_number_is_answered_by_that_one() {
    in_each_way(async |world: &World| {
        world.agent_is_silent();
        world.campaigns(&world.offer(ANA, 1)).await;
        world.pass(MINUTE).await;
        let from = world.meta.received(ANA)[0].number.clone();
        let other = if from == NUMBER { OTHER_NUMBER } else { NUMBER };
        world.writes_to(other, ANA, "hello?");
        world.settle().await;
        world.pass(DAY * 2).await;
        world.campaigns(&world.offer(ANA, 2)).await;
        world.pass(MINUTE).await;
        assert_eq!(world.meta.received(ANA).last().map(|it| it.number.clone()), Some(other.to_owned()));
    })
    .await;
}

#[tokio::test]
async fn a_number_that_cannot_send_is_left_and_nothing_is_lost_with_it() {
    in_each_way(async |world: &World| {
        world.meta.fail_next(Some(NUMBER), None, Fault::Error { code: 131_045, subcode: None });
        for serial in 0..4 {
            world.campaigns(&world.offer(&format!("346001110{serial:02}"), serial)).await;
        }
        world.pass(MINUTE * 2).await;
        let all = world.meta.all_received();
        assert_eq!(all.values().map(Vec::len).sum::<usize>(), 4);
        assert!(all.values().flatten().all(|it| it.number == OTHER_NUMBER));
        assert_eq!(world.codes(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_number_that_is_told_to_slow_down_pauses_and_loses_nothing() {
    in_each_way(async |world: &World| {
        world.meta.fail_next(None, Some(3), Fault::Error { code: 130_429, subcode: None });
        for serial in 0..6 {
            world.campaigns(&world.offer(&format!("346001110{serial:02}"), serial)).await;
        }
        world.pass(MINUTE * 5).await;
        assert_eq!(world.meta.all_received().values().map(Vec::len).sum::<usize>(), 6);
        assert_eq!(world.codes(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn slots_from_before_a_pause_are_void() {
    let world = World::new().await;
    world.meta.fail_next(Some(NUMBER), Some(1), Fault::Error { code: 130_429, subcode: None });
    let jobs: Vec<TemplateSend> = (0..20).map(|it| world.offer(&format!("346001110{it:02}"), it)).collect();
    let began_at = world.now().as_millis();
    world.campaigns_all(&jobs).await;
    world.pass(MINUTE * 2).await;
    let (paused, other) = (world.meta.sends_of(NUMBER), world.meta.sends_of(OTHER_NUMBER));
    assert_eq!((paused.len(), other.len()), (10, 10));
    assert!(paused.iter().all(|it| *it >= began_at + 2_000), "{paused:?}");
    assert!(other.iter().all(|it| *it < began_at + 2_000), "the other number goes on: {other:?}");
}

#[tokio::test]
async fn a_template_that_meta_paused_is_not_tried_again() {
    let world = World::new().await;
    world.meta.fail_next(None, Some(1), Fault::Error { code: 132_015, subcode: None });
    world.campaigns(&world.offer(ANA, 1)).await;
    world.pass(MINUTE).await;
    world.campaigns(&world.offer("34600111333", 2)).await;
    world.campaigns(&world.reminder("34600111444", 3)).await;
    world.pass(MINUTE).await;
    assert_eq!(world.codes(), ["132015", "template_not_approved"]);
    assert_eq!(world.accepted().1, 1, "the other template goes out");
}

#[tokio::test]
async fn what_meta_holds_is_told_as_held() {
    for is_delivered in [true, false] {
        let world = World::new().await;
        world.meta.put_template(WABA, meta_sim::Template { held: true, ..demo_templates()[0].clone() });
        world.campaigns(&world.offer(ANA, 1)).await;
        world.pass(MINUTE * 3).await;
        assert_eq!(world.history(ANA).await, ["< Hello Ana, everything is half price today. (campaign, Held)"]);
        assert!(world.conversation(ANA).await.unanswered.is_some());
        world.meta.release_held(is_delivered);
        world.pass(MINUTE).await;
        let (state, waits) = if is_delivered { ("Delivered", true) } else { ("Failed", false) };
        assert_eq!(world.history(ANA).await, [format!("{OFFERED} (campaign, {state})")]);
        assert_eq!(world.conversation(ANA).await.unanswered.is_some(), waits);
    }
}

#[tokio::test]
async fn a_body_that_breaks_the_schema_is_told_with_its_place_and_kept() {
    let world = World::new().await;
    world.may_leave_messages();
    let mut body = serde_json::to_value(world.offer(ANA, 1)).expect("JSON");
    body["values"]["body"] = serde_json::json!("not a list");
    body["campaign"] = serde_json::json!("spring");
    let mut other = serde_json::to_value(world.offer(ANA, 2)).expect("JSON");
    other["id"] = serde_json::json!("8c1f8d0e-7f3b-4c2a-9a55-0d7c4ea2f001");
    world.enqueue(channel::queues::Queue::TemplateSends, None, vec![body.to_string(), "{}".to_owned(), other.to_string()]).await;
    world.settle().await;
    let mut notes: Vec<String> = world.refusals().into_iter().map(|it| format!("{} {}", it.code, it.note)).collect();
    notes.sort();
    assert!(notes[0].starts_with("invalid id: ") && notes[1].starts_with("invalid values.body: ") && notes.len() == 2, "{notes:?}");
    assert_eq!(world.lying_in("TemplateSendsDeadLetters").len(), 3);
}

#[tokio::test]
async fn what_leads_nowhere_is_refused_with_its_reason() {
    let world = World::new().await;
    let connection = domain::ids::ConnectionId::parse("elsewhere").expect("an id");
    let conversation = ConversationId::parse("n".repeat(22)).expect("22 characters");
    let mut missing = world.offer(ANA, 3);
    missing.values.body = Texts::Positional(vec![Value::Field { field: "first_name".to_owned() }]);
    for job in [
        TemplateSend { connection, ..world.offer(ANA, 1) },
        TemplateSend { tenant: domain::ids::TenantId::parse("other").expect("an id"), ..world.offer(ANA, 2) },
        missing,
        TemplateSend { to: To::Conversation(conversation), ..world.offer(ANA, 4) },
        TemplateSend { resends: Some("7".to_owned()), ..world.offer(ANA, 5) },
        TemplateSend { author: Some(Author::Agent(domain::ids::AgentId::parse("stranger").expect("an id"))), ..world.offer(ANA, 6) },
    ] {
        world.campaigns(&job).await;
        world.settle().await;
    }
    assert_eq!(world.codes(), ["unknown_connection", "unknown_connection", "invalid", "unknown_conversation", "invalid", "not_attached"]);
    assert!(world.refusals()[2].note.contains("first_name"), "{}", world.refusals()[2].note);
    assert_eq!(world.find(ANA).await, None, "and no conversation is begun");
}

#[tokio::test]
async fn while_the_connection_does_not_run_a_template_waits_ten_minutes() {
    in_each_way(async |world: &World| {
        world.stop().await;
        world.campaigns(&world.offer(ANA, 1)).await;
        world.pass(MINUTE * 5).await;
        assert_eq!((world.codes().len(), world.accepted().1), (0, 0));
        world.run().await;
        world.pass(MINUTE * 2).await;
        assert_eq!(world.screen(ANA), [OFFERED]);
        world.stop().await;
        world.campaigns(&world.offer("34600111333", 2)).await;
        world.pass(MINUTE * 12).await;
        assert_eq!(world.codes(), ["not_running"]);
        assert_eq!(world.find("34600111333").await.and_then(|it| it.unanswered), None);
    })
    .await;
}

#[tokio::test]
async fn a_person_who_begins_a_conversation_has_it() {
    let world = World::new().await;
    world.campaigns(&TemplateSend { author: Some(Author::Person("Eva".to_owned())), ..world.reminder(ANA, 1) }).await;
    world.pass(MINUTE).await;
    assert_eq!(world.history(ANA).await, ["< Hello Ana, we see you tomorrow. (Eva, Delivered)"]);
    world.writes(ANA, "hello Eva");
    world.settle().await;
    assert_eq!(world.turns().len(), 0, "the agent is not told");
}

/// The connection is set otherwise, and what is remembered of it is some seconds old.
async fn sets(world: &World, change: impl Fn(&mut Connection)) {
    let other = |it: &StoredConnection| {
        let mut it = it.clone();
        change(&mut it.connection);
        Some(it)
    };
    let changed = world.store.change_connection(&connection_id(), other).await;
    assert!(changed.expect("the store answers").is_some(), "the connection is there");
    world.clock.advance(SECOND * 6);
}

#[tokio::test]
async fn marketing_goes_its_own_way_where_the_connection_says_so() {
    let world = World::new().await;
    let closed = world.meta.change_account(WABA, |it| {
        it.marketing_messages_lite_api_status = "ONBOARDED".to_owned();
        it.disable_marketing_messages_on_cloud_api = true;
    });
    closed.expect("the account is there");
    world.campaigns(&world.offer(ANA, 1)).await;
    world.pass(MINUTE).await;
    assert_eq!(world.codes(), ["131063"], "Meta takes no marketing on the other endpoint");
    assert_eq!(world.conversation(ANA).await.unanswered, None);
    sets(&world, |it| it.marketing_messages = true).await;
    world.campaigns(&world.offer(ANA, 2)).await;
    world.campaigns(&world.login_code(ANA, 3)).await;
    world.pass(MINUTE).await;
    assert_eq!(world.screen(ANA).len(), 2, "and what is no marketing goes as before");
    let priced: BTreeSet<String> = world
        .events()
        .into_iter()
        .filter_map(|it| match it.what {
            Happened::MessageState { pricing, .. } => pricing?.category,
            _ => None,
        })
        .collect();
    assert_eq!(priced, BTreeSet::from(["marketing_lite".to_owned(), "authentication".to_owned()]));
}

#[tokio::test]
async fn utility_passes_the_guard_where_the_connection_says_so() {
    let world = World::new().await;
    world.campaigns(&world.offer(ANA, 1)).await;
    world.campaigns(&world.reminder(ANA, 2)).await;
    world.pass(MINUTE).await;
    assert_eq!(world.codes(), ["awaiting_reply"]);
    sets(&world, |it| it.utility_exempt = true).await;
    world.campaigns(&world.reminder(ANA, 3)).await;
    world.campaigns(&world.offer(ANA, 4)).await;
    world.pass(MINUTE).await;
    assert_eq!(world.codes(), ["awaiting_reply"; 2], "marketing does not");
    assert_eq!(world.screen(ANA).len(), 2);
}

#[tokio::test]
async fn customers_of_a_number_that_was_removed_get_another_with_their_next_template() {
    let world = World::new().await;
    world.agent_is_silent();
    world.writes(ANA, "hello");
    world.settle().await;
    sets(&world, |it| it.numbers.retain(|it| it.as_str() != NUMBER)).await;
    let conversation = world.conversation(ANA).await.id;
    world.sends(&world.of_agent(&conversation, "free-form", 1)).await;
    world.pass(MINUTE).await;
    assert_eq!(world.codes(), ["sender_gone"]);
    world.campaigns(&world.offer(ANA, 2)).await;
    world.pass(MINUTE).await;
    assert_eq!(world.meta.received(ANA).last().map(|it| it.number.clone()), Some(OTHER_NUMBER.to_owned()));
    assert!(world.conversation(ANA).await.unanswered.is_some(), "the window is on a number that is gone: this begins anew");
}

#[tokio::test]
async fn a_template_made_a_moment_ago_is_looked_for_before_anybody_is_refused() {
    let world = World::new().await;
    world.clock.advance(MINUTE);
    let name = TemplateName::parse("made_today").expect("a name");
    world.meta.put_template(WABA, meta_sim::Template::of_body("9001", name.as_str(), "en_US", "Hello {{1}}, this is new."));
    world.campaigns(&TemplateSend { template: name, ..world.offer(ANA, 1) }).await;
    world.campaigns(&TemplateSend { template: TemplateName::parse("made_never").expect("a name"), ..world.offer(ANA, 2) }).await;
    world.pass(MINUTE).await;
    assert_eq!(world.screen(ANA), ["< Hello Ana, this is new."]);
    assert_eq!(world.codes(), ["template_missing"]);
}

#[tokio::test]
async fn a_template_of_which_meta_does_not_say_whether_it_is_there_is_waited_for_ten_minutes() {
    let world = World::new().await;
    world.clock.advance(MINUTE);
    world.meta.set_limits(Limits { calls_per_hour: Some(0), ..Limits::default() });
    let job = TemplateSend { template: TemplateName::parse("made_today").expect("a name"), ..world.offer(ANA, 1) };
    world.campaigns(&job).await;
    world.pass(MINUTE * 9).await;
    assert_eq!(world.codes(), [""; 0]);
    world.pass(MINUTE * 3).await;
    assert_eq!(world.codes(), ["template_missing"]);
    // Once it is there the same job may go out; and whatever it meets then is news.
    world.meta.set_limits(Limits::default());
    world.campaigns(&world.reminder(ANA, 2)).await;
    world.campaigns(&TemplateSend { values: Values::default(), ..world.offer(ANA, 1) }).await;
    world.pass(MINUTE).await;
    assert_eq!(world.codes(), ["template_missing", "invalid"]);
    world.pass(HOUR).await;
}

#[tokio::test]
async fn without_a_number_a_template_waits_ten_minutes() {
    let world = World::new().await;
    for number in [NUMBER, OTHER_NUMBER] {
        let number = NumberId::parse(number).expect("an id");
        world.store.mark_number(&number, &connection_id(), 131_045).await.expect("the store answers");
    }
    world.clock.advance(SECOND * 6);
    // Whoever marked the last one died before saying that the connection is in ERROR.
    world.campaigns(&world.offer(ANA, 1)).await;
    world.pass(MINUTE).await;
    assert_eq!(world.codes(), [""; 0]);
    world.pass(MINUTE * 11).await;
    assert_eq!(world.codes(), ["not_running"]);
}

#[tokio::test]
async fn a_release_that_comes_late_undoes_no_newer_claim() {
    let world = World::new().await;
    let (number, customer) = (NumberId::parse(NUMBER).expect("an id"), Customer::known_by(Phone::parse(ANA).ok(), None).expect("known"));
    let (id, at) = MessageId::of_job(&world.job_id(1)).expect("a job's id");
    let key = MessageKey { conversation: ConversationId::parse("c".repeat(22)).expect("22 characters"), at, id };
    let fence = |claimed_at| Fence { attempt: 1, claimed_at };
    let (first, second) = (world.now(), world.now().plus(SECOND));
    let draft = Outbound::draft(connection_id(), "template", "{}".to_owned(), Writer::Campaign);
    let claimed = draft.claimed(number.clone(), customer.clone(), first);
    assert!(matches!(world.store.claim(&key, claimed, DAY).await, Ok(Claim::Ours)));
    world.store.released(&key, fence(first), true).await.expect("the store answers");
    assert!(world.store.reclaim(&key, 1, &number, &customer, second).await.expect("the store answers"));
    for (late, phase) in [(first, Phase::Sending), (second, Phase::Released)] {
        world.store.released(&key, fence(late), true).await.expect("the store answers");
        let found = world.store.message([&key.conversation], key.at, &key.id).await.expect("the store answers");
        assert!(matches!(found, Some((_, MessageItem::Outbound(it))) if it.phase == phase), "{phase:?}");
    }
}

#[tokio::test]
async fn a_hundred_campaigns_for_one_customer_are_one_send() {
    let world = World::new().await;
    let jobs: Vec<TemplateSend> = (0..100)
        .map(|it| TemplateSend { campaign: Some(format!("campaign {it}").try_into().expect("a label")), ..world.offer(ANA, it) })
        .collect();
    world.campaigns_all(&jobs).await;
    world.run_out(Freely { workers: 50, trouble: None }).await;
    assert_eq!(world.meta.received(ANA).len(), 1);
    let conversation = world.conversation(ANA).await.id;
    let refused = world.refused_templates();
    assert_eq!(refused.len(), 99);
    assert!(refused.iter().all(|it| it.1 == Some(conversation.clone()) && it.2 == "awaiting_reply"));
    let kept = world.store.newest_messages([&conversation], 200).await.expect("the store answers");
    assert_eq!(kept.iter().filter(|it| matches!(&it.1, MessageItem::Outbound(it) if it.number.is_some())).count(), 1);
}

#[tokio::test]
async fn what_was_reserved_and_never_sent_is_given_back_with_its_refusal() {
    let world = World::new().await;
    // The address and the conversation are written; the claim is not.
    world.dynamo.faults().add(Rule::every(wire::Fault::InternalError).by("templates").of("PutItem").after(2));
    world.campaigns(&world.offer(ANA, 1)).await;
    world.settle().await;
    assert!(world.conversation(ANA).await.unanswered.is_some(), "it is reserved");
    world.dynamo.faults().clear();
    world.stop().await;
    world.pass(MINUTE * 12).await;
    assert_eq!(world.codes(), ["not_running"]);
    assert_eq!((world.conversation(ANA).await.unanswered, world.accepted().1), (None, 0));
}

#[tokio::test]
async fn a_claim_that_the_client_repeats_because_its_answer_was_lost_is_its_own() {
    let world = World::new().await;
    let config = world.dynamo.sdk_config("test").retry_config(RetryConfig::standard().with_initial_backoff(Duration::ZERO)).build();
    let name = |id: &str| world.template.tables[id].name.clone();
    let tables = Tables { config: name("ConfigTable"), conversations: name("ConversationsTable"), messages: name("MessagesTable") };
    let store = Store::new(Client::from_conf(config), tables);
    let (number, customer) = (NumberId::parse(NUMBER).expect("an id"), Customer::known_by(Phone::parse(ANA).ok(), None).expect("known"));
    let (id, at) = MessageId::of_job(&world.job_id(1)).expect("a job's id");
    let key = MessageKey { conversation: ConversationId::parse("c".repeat(22)).expect("22 characters"), at, id };
    let fence = |claimed_at| Fence { attempt: 1, claimed_at };
    let lost = |action| world.dynamo.faults().add(Rule::every(wire::Fault::CutAfter).by("test").of(action).times(1));
    let (first, second) = (world.now(), world.now().plus(SECOND));
    let claimed =
        || Outbound::draft(connection_id(), "template", "{}".to_owned(), Writer::Campaign).claimed(number.clone(), customer.clone(), first);
    lost("PutItem");
    assert!(matches!(store.claim(&key, claimed(), DAY).await, Ok(Claim::Ours)));
    assert!(matches!(store.claim(&key, claimed(), DAY).await, Ok(Claim::Existing(_))), "another's is another's");
    store.released(&key, fence(first), true).await.expect("the store answers");
    lost("UpdateItem");
    assert!(store.reclaim(&key, 1, &number, &customer, second).await.expect("the store answers"));
    assert!(!store.reclaim(&key, 1, &number, &customer, second).await.expect("the store answers"));
    lost("UpdateItem");
    let ending = Ending { code: Some("132007".to_owned()), note: None, retry: Some(Retry::Fix) };
    for has_ended in [true, false] {
        let at = if has_ended { second } else { second.plus(SECOND) };
        let ended = store.ended(&key, (Phase::Sending, Some(fence(second))), Phase::Failed, &ending, at).await;
        assert_eq!(ended.expect("the store answers").is_some(), has_ended, "what has ended is told once");
    }
}
