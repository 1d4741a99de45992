//! Stories of what goes out: every kind of answer that Meta may give to a send, and the statuses that come back.
//!
//! Told from the customer's screen and the platform's feed. What is asserted of a feed is what it told, whatever the order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use channel::connections::NewConnection;
use channel::jobs::{FeedEvent, Reply};
use channel::vault::Secret;
use domain::ids::{AppId, ConnectionId, ConversationId, NumberId, TenantId, WabaId};
use domain::outgoing::Outgoing;
use meta_sim::{Account, App, Fault, Mode, Number, Token};
use serde_json::{Value, json};
use world::mapping::Delivery;
use world::story::{ACCESS_TOKEN, ANA, APP, NUMBER, OTHER_NUMBER, WABA, World, answer, connection_id, demo};
use world::wire::Rule;

use crate::{in_each_way, in_every_way};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
/// A customer of the demo connection's other number.
const LUIS: &str = "34600333444";
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// Meta refuses a send with this code.
pub(crate) fn refusal(code: u32) -> Fault {
    Fault::Error { code, subcode: None }
}

/// Events as the platform reads them.
fn read(events: &[FeedEvent]) -> Vec<Value> {
    events.iter().map(|it| serde_json::to_value(it).expect("JSON")).collect()
}

/// What the feed told beside the messages that are kept, one line each, whatever the order: a step with the attempt if it is not the first,
/// and for failures and refusals the code and whether to send again.
pub(crate) fn told(world: &World) -> BTreeSet<String> {
    let line = |it: &Value| {
        let attempt = if it["attempt"] == 2 { "second " } else { "" };
        let words = [&it["step"], &it["code"], &it["retry"]].into_iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
        match it["type"].as_str() {
            Some("message.state") => Some(format!("{attempt}{words}")),
            Some("send.refused") => Some(format!("refused {words}")),
            Some("connection.state") => Some(it["state"].as_str().expect("a state").to_owned()),
            Some("opt_out") => Some(format!("opt-out {}", it["preference"].as_str().expect("a word"))),
            Some("number.fault") => Some(format!("number {} {}", it["number"].as_str().expect("a number"), it["code"])),
            _ => None,
        }
    };
    read(&world.events()).iter().filter_map(line).collect()
}

/// These lines.
pub(crate) fn lines<const N: usize>(lines: [&str; N]) -> BTreeSet<String> {
    lines.map(str::to_owned).into()
}

/// What has become of each of our messages: the word of the last event of each.
pub(crate) fn states(world: &World) -> Vec<String> {
    let mut states = BTreeMap::new();
    for it in read(&world.every_event()).iter().filter(|it| it["type"] == "message.state") {
        states.insert(it["message"].to_string(), it["state"].as_str().expect("a state").to_owned());
    }
    states.into_values().collect()
}

/// The event of this step, or of this refusal.
fn event(world: &World, name: &str) -> Value {
    let mut events = read(&world.events());
    events.retain(|it| it["step"] == name || it["code"] == name);
    events.pop().unwrap_or_else(|| panic!("the feed told nothing of {name}: {:?}", told(world)))
}

/// The name of a queue of the template.
fn queue<'a>(world: &'a World, name: &str) -> &'a str {
    &world.template.queue(name).name
}

/// In how many seconds the next message of any queue comes back.
fn comes_back_after(world: &World) -> i64 {
    (world.sqs.next_visible_ms().expect("something waits") - world.clock.now_ms()) / 1_000
}

/// Meta's webhooks are under way for this long from now on.
pub(crate) fn webhooks_take(world: &World, time: Duration) {
    let delay_ms = i64::try_from(time.as_millis()).expect("a time in a story");
    world.meta.set_mode(Mode { delay_ms, ..Mode::default() });
}

/// What a customer was sent last, by Meta's id of it, whether it has arrived or not.
pub(crate) fn last_sent(world: &World, who: &str) -> String {
    let lines = world.meta.phone(who).screen();
    let of_business = lines.into_iter().rev().find(|it| it.from == meta_sim::Author::Business);
    of_business.expect("something was sent").id
}

/// A status that Meta tells of one of our messages, so many seconds after now; `more` is put over it.
pub(crate) fn status(world: &World, wamid: &str, step: &str, after: i64, more: &Value) {
    let message = world.meta.message(wamid).expect("Meta took it");
    let timestamp = (world.clock.now_ms() / 1_000 + after).to_string();
    let mut status = json!({ "id": wamid, "status": step, "timestamp": timestamp, "recipient_id": ANA });
    if let Some(opaque) = message.opaque {
        status["biz_opaque_callback_data"] = opaque.into();
    }
    for (name, value) in more.as_object().into_iter().flatten() {
        status[name] = value.clone();
    }
    let metadata = json!({ "display_phone_number": "15550100001", "phone_number_id": message.number });
    world.meta.tell_account(WABA, "messages", &json!({ "messaging_product": "whatsapp", "metadata": metadata, "statuses": [status] }));
}

/// A customer writes to the demo connection's other number.
fn writes_to_the_other_number(world: &World, text: &str) {
    world.meta.customer_writes(LUIS, OTHER_NUMBER, text).expect("the customer can write");
}

// What Meta answers.

#[tokio::test]
async fn what_meta_throttles_is_definitely_not_sent_and_goes_out_once() {
    for code in [4, 17, 32, 613, 80_007, 130_429, 131_056, 131_057, 133_004, 2_494_100] {
        in_each_way(async |world: &World| {
            world.meta.fail_next(None, Some(3), refusal(code));
            world.writes(ANA, "hello");
            world.settle().await;
            assert!(states(world).is_empty(), "{code}: nothing is told while it waits");
            world.pass(10 * MINUTE).await;
            assert_eq!(world.screen(ANA), ["> hello", "< You said: hello"], "{code}");
            assert_eq!(told(world), lines(["accepted", "sent", "delivered"]), "{code}");
            assert_eq!(world.accepted(), (1, 1), "{code}");
        })
        .await;
    }
}

#[tokio::test]
async fn each_throttle_is_waited_out_longer_than_the_one_before() {
    for (code, pauses) in [(131_056, [1, 4, 16, 64]), (130_429, [1, 2, 4, 8])] {
        let world = World::new().await;
        world.meta.fail_next(None, Some(4), refusal(code));
        world.writes(ANA, "hello");
        world.settle().await;
        for pause in pauses {
            assert_eq!(comes_back_after(&world), pause, "{code}");
            assert_eq!(world.screen(ANA), ["> hello"]);
            world.pass(SECOND * u32::try_from(pause).expect("small")).await;
        }
        assert_eq!(world.screen(ANA), ["> hello", "< You said: hello"], "{code}");
    }
}

/// Answers after which nobody knows whether Meta took the message. It did not.
fn unknown_outcomes() -> Vec<Fault> {
    let codes = [1, 2, 131_000, 131_016].map(refusal);
    let answers = [Fault::Server { status: 503, accepted: false }, Fault::Html { status: 502, accepted: false }, Fault::CutBefore];
    codes.into_iter().chain(answers).collect()
}

#[tokio::test]
async fn what_may_have_been_sent_goes_out_once_more_after_a_minute_and_is_marked() {
    for fault in unknown_outcomes() {
        in_every_way(async |world: &World| {
            world.meta.fail_next(None, Some(1), fault.clone());
            world.writes(ANA, "hello");
            world.pass(59 * SECOND).await;
            assert_eq!(world.screen(ANA), ["> hello"], "{fault:?}");
            world.pass(2 * SECOND).await;
            assert_eq!(world.screen(ANA), ["> hello", "< You said: hello"], "{fault:?}");
            assert_eq!(told(world), lines(["second accepted", "second sent", "second delivered"]), "{fault:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_unknown_a_second_time_is_unconfirmed_and_never_sent_again() {
    for fault in unknown_outcomes() {
        in_every_way(async |world: &World| {
            world.meta.fail_next(None, Some(2), fault.clone());
            world.writes(ANA, "hello");
            world.pass(119 * SECOND).await;
            assert_eq!(told(world), lines([]), "{fault:?}");
            world.pass(10 * MINUTE).await;
            assert_eq!(world.screen(ANA), ["> hello"], "{fault:?}");
            assert_eq!(told(world), lines(["second unconfirmed unconfirmed never"]), "{fault:?}");
            assert_eq!(states(world), ["unconfirmed"], "{fault:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_send_of_unknown_outcome_is_looked_for_after_5_15_30_and_60_seconds() {
    let world = World::new().await;
    world.meta.fail_next(None, Some(1), Fault::CutBefore);
    world.writes(ANA, "hello");
    world.settle().await;
    for pause in [5, 10, 15, 30] {
        assert_eq!(comes_back_after(&world), pause);
        assert_eq!(world.accepted(), (0, 0));
        world.pass(SECOND * u32::try_from(pause).expect("small")).await;
    }
    assert_eq!(world.accepted(), (1, 1));
}

/// Answers after which nobody knows whether Meta took the message. It did.
fn accepted_all_the_same() -> [Fault; 3] {
    [Fault::CutAfter, Fault::Server { status: 500, accepted: true }, Fault::Html { status: 502, accepted: true }]
}

#[tokio::test]
async fn the_status_that_comes_settles_what_was_unknown_without_a_second_send() {
    for fault in accepted_all_the_same() {
        in_every_way(async |world: &World| {
            world.meta.fail_next(None, Some(1), fault.clone());
            world.writes(ANA, "hello");
            world.pass(10 * MINUTE).await;
            assert_eq!(world.screen(ANA), ["> hello", "< You said: hello"], "{fault:?}");
            assert_eq!(world.accepted(), (1, 1), "{fault:?}");
            assert_eq!(told(world), lines(["accepted", "sent", "delivered"]), "{fault:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_leaves_the_outcome_unknown() {
    let world = World::impatient(Delivery::Once).await;
    world.meta.fail_next(None, Some(1), Fault::Slow { millis: 3_600_000 });
    world.writes(ANA, "hello");
    world.settle().await;
    assert_eq!(told(&world), lines(["sent", "delivered"]), "that Meta took it is known by the status only");
    world.pass(10 * MINUTE).await;
    assert_eq!(world.screen(ANA), ["> hello", "< You said: hello"]);
    assert_eq!(told(&world), lines(["accepted", "sent", "delivered"]));
    assert_eq!(world.accepted(), (1, 1));
}

#[tokio::test]
async fn a_status_that_comes_before_the_minute_is_over_is_soon_enough() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        webhooks_take(world, 50 * SECOND);
        world.meta.fail_next(None, Some(1), Fault::CutAfter);
        world.pass(49 * SECOND).await;
        assert_eq!(told(world), lines([]));
        world.pass(10 * MINUTE).await;
        assert_eq!(world.screen(ANA), ["> hello", "< You said: hello"]);
        assert_eq!(told(world), lines(["accepted", "sent", "delivered"]));
    })
    .await;
}

#[tokio::test]
async fn a_status_that_comes_after_the_minute_finds_both_attempts_each_under_its_name() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        webhooks_take(world, 2 * MINUTE);
        world.meta.fail_next(None, Some(1), Fault::CutAfter);
        world.pass(10 * MINUTE).await;
        assert_eq!(world.screen(ANA), ["> hello", "< You said: hello", "< You said: hello"], "that may happen, and is counted by name");
        assert_eq!(told(world), lines(["sent", "delivered", "second accepted", "second sent", "second delivered"]));
        assert_eq!(states(world), ["delivered"]);
    })
    .await;
}

#[tokio::test]
async fn a_window_that_meta_says_is_closed_is_closed_as_of_the_refused_send() {
    in_every_way(async |world: &World| {
        world.meta.fail_next(None, Some(1), refusal(131_047));
        world.writes(ANA, "hello");
        world.settle().await;
        let refused_at = world.clock.now_ms();
        assert_eq!(told(world), lines(["failed 131047 never"]));
        world.pass(MINUTE).await;
        let conversation = world.conversation(ANA).await.id;
        world.sends(&world.of_agent(&conversation, "are you there?", 1)).await;
        world.settle().await;
        let refused = event(world, "template_only");
        assert_eq!(refused["closed_at"], refused_at);
        assert_eq!(refused["note"], "It's been over 24 hours since the last reply. Select a WhatsApp template to continue.");
        world.writes(ANA, "I am");
        world.settle().await;
        assert_eq!(world.screen(ANA), ["> hello", "> I am", "< You said: I am"]);
    })
    .await;
}

#[tokio::test]
async fn a_closed_window_that_a_status_tells_closes_ours_as_of_the_refused_send() {
    for echo_on_failed in [true, false] {
        in_every_way(async |world: &World| {
            world.meta.set_mode(Mode { echo_on_failed, ..Mode::default() });
            world.meta.fail_next(None, Some(1), Fault::FailLater { code: 131_047 });
            world.writes(ANA, "hello");
            world.settle().await;
            let refused_at = world.clock.now_ms();
            assert_eq!(told(world), lines(["accepted", "failed 131047 never"]));
            assert_eq!(states(world), ["failed"]);
            world.pass(MINUTE).await;
            let conversation = world.conversation(ANA).await.id;
            world.sends(&world.of_agent(&conversation, "are you there?", 1)).await;
            world.settle().await;
            assert_eq!(event(world, "template_only")["closed_at"], refused_at);
        })
        .await;
    }
}

#[tokio::test]
async fn a_closed_window_that_is_heard_after_the_customer_wrote_again_closes_nothing() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        webhooks_take(world, 2 * MINUTE);
        world.meta.fail_next(None, Some(1), Fault::FailLater { code: 131_047 });
        world.settle().await;
        webhooks_take(world, Duration::ZERO);
        world.pass(MINUTE).await;
        world.writes(ANA, "still there?");
        world.pass(5 * MINUTE).await;
        assert!(told(world).contains("failed 131047 never"), "it was heard");
        let conversation = world.conversation(ANA).await.id;
        world.sends(&world.of_agent(&conversation, "yes", 1)).await;
        world.settle().await;
        assert_eq!(world.screen(ANA), ["> hello", "> still there?", "< You said: still there?", "< yes"]);
    })
    .await;
}

#[tokio::test]
async fn what_meta_never_takes_fails_with_metas_words_and_is_not_sent_again() {
    for code in [100, 130_497, 131_009, 131_021, 131_026, 131_030, 131_051, 131_053, 131_062, 135_000, 424_242] {
        in_every_way(async |world: &World| {
            world.meta.fail_next(None, Some(1), refusal(code));
            world.writes(ANA, "hello");
            world.pass(10 * MINUTE).await;
            assert_eq!(told(world), BTreeSet::from([format!("failed {code} never")]));
            assert_eq!(states(world), ["failed"]);
            let note = event(world, "failed")["note"].as_str().expect("a note").to_owned();
            assert!(!note.is_empty() && !note.contains(&code.to_string()), "the code is told beside it: {note}");
            assert_eq!(world.screen(ANA), ["> hello"]);
        })
        .await;
    }
}

#[tokio::test]
async fn what_meta_takes_later_fails_with_a_time_to_send_it_again() {
    for code in [131_048, 131_064, 132_069] {
        in_every_way(async |world: &World| {
            world.meta.fail_next(None, Some(1), refusal(code));
            world.writes(ANA, "hello");
            world.settle().await;
            assert_eq!(told(world), BTreeSet::from([format!("failed {code} later")]));
            let retry_at = event(world, "failed")["retry_at"].as_i64().expect("a time");
            assert!(retry_at > world.clock.now_ms(), "{code}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_customer_who_wants_no_more_marketing_is_told_to_the_platform() {
    for fault in [refusal(131_050), Fault::FailLater { code: 131_050 }] {
        in_every_way(async |world: &World| {
            world.meta.fail_next(None, Some(1), fault.clone());
            world.writes(ANA, "hello");
            world.settle().await;
            assert!(told(world).is_superset(&lines(["failed 131050 never", "opt-out stop"])), "{:?}", told(world));
        })
        .await;
    }
}

#[tokio::test]
async fn a_number_that_cannot_send_is_marked_and_its_neighbours_go_on() {
    for code in [33, 131_037, 131_045, 133_010] {
        in_every_way(async |world: &World| {
            world.meta.fail_next(Some(NUMBER), None, refusal(code));
            world.writes(ANA, "hello");
            writes_to_the_other_number(world, "hello too");
            world.pass(MINUTE).await;
            assert_eq!(world.screen(ANA), ["> hello"]);
            assert_eq!(world.screen(LUIS), ["> hello too", "< You said: hello too"]);
            let expected = [format!("failed {code} fix"), format!("number {NUMBER} {code}")];
            assert!(told(world).is_superset(&expected.into()), "{:?}", told(world));
            assert!(!told(world).contains("ERROR"), "the connection goes on");
            let number = NumberId::parse(NUMBER).expect("an id");
            assert_eq!(world.store.number(&number, true).await.expect("it answers").expect("it is there").fault, Some(code));
        })
        .await;
    }
}

#[tokio::test]
async fn a_number_that_meta_does_not_know_is_marked_too() {
    in_every_way(async |world: &World| {
        world.meta.fail_next(Some(NUMBER), None, Fault::Error { code: 100, subcode: Some(33) });
        world.writes(ANA, "hello");
        world.settle().await;
        assert_eq!(told(world), BTreeSet::from(["failed 100 fix".to_owned(), format!("number {NUMBER} 100")]));
    })
    .await;
}

// Credentials, and the account.

#[tokio::test]
async fn a_fault_of_credentials_or_account_stops_the_connection_and_the_reply_goes_out_once_it_runs() {
    for code in [0, 3, 10, 104, 190, 200, 299, 131_005, 131_031, 131_042, 368] {
        in_every_way(async |world: &World| {
            let fault = world.meta.fail_next(None, None, refusal(code));
            world.writes(ANA, "hello");
            world.pass(MINUTE).await;
            assert_eq!(told(world), lines(["ERROR"]), "{code}: the reply waits");
            world.meta.clear_faults(Some(fault));
            world.pass(MINUTE).await;
            assert_eq!(world.screen(ANA), ["> hello"], "{code}: nobody has started it");
            world.run().await;
            world.pass(MINUTE).await;
            assert_eq!(world.screen(ANA), ["> hello", "< You said: hello"], "{code}");
            assert_eq!(world.accepted(), (1, 1), "{code}");
        })
        .await;
    }
}

#[tokio::test]
async fn an_expired_token_is_replaced_within_ten_minutes_and_nothing_is_lost() {
    in_every_way(async |world: &World| {
        world.meta.expire_token(ACCESS_TOKEN);
        world.writes(ANA, "hello");
        world.pass(5 * MINUTE).await;
        assert_eq!(told(world), lines(["ERROR"]));
        world.meta.put_token(Token::new("another-token", APP, &[WABA]));
        world.replace_token("another-token").await;
        world.run().await;
        world.pass(MINUTE).await;
        assert_eq!(world.screen(ANA), ["> hello", "< You said: hello"]);
        assert_eq!(told(world), lines(["ERROR", "RUNNING", "accepted", "sent", "delivered"]));
    })
    .await;
}

#[tokio::test]
async fn what_waits_for_a_connection_longer_than_ten_minutes_is_refused() {
    in_every_way(async |world: &World| {
        world.meta.expire_token(ACCESS_TOKEN);
        world.writes(ANA, "hello");
        world.pass(9 * MINUTE).await;
        assert_eq!(told(world), lines(["ERROR"]));
        world.pass(2 * MINUTE).await;
        assert_eq!(told(world), lines(["ERROR", "refused not_running fix"]));
    })
    .await;
}

#[tokio::test]
async fn a_token_that_was_replaced_meanwhile_is_tried_once_and_stops_nothing() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        world.settle().await;
        world.meta.put_token(Token::new("another-token", APP, &[WABA]));
        world.replace_token("another-token").await;
        world.meta.expire_token(ACCESS_TOKEN);
        // The old token is remembered still.
        world.writes(ANA, "and again");
        world.settle().await;
        assert_eq!(world.screen(ANA), ["> hello", "< You said: hello", "> and again", "< You said: and again"]);
        assert!(!told(world).contains("ERROR"));
    })
    .await;
}

#[tokio::test]
async fn a_replaced_token_that_does_not_hold_either_stops_the_connection() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        world.settle().await;
        world.replace_token("nobodys-token").await;
        world.meta.expire_token(ACCESS_TOKEN);
        world.writes(ANA, "and again");
        world.settle().await;
        assert!(told(world).contains("ERROR"));
        assert_eq!(world.screen(ANA), ["> hello", "< You said: hello", "> and again"]);
        world.may_leave_messages();
    })
    .await;
}

#[tokio::test]
async fn a_payment_fault_that_a_status_tells_stops_the_connection() {
    in_every_way(async |world: &World| {
        world.meta.fail_next(None, Some(1), Fault::FailLater { code: 131_042 });
        world.writes(ANA, "hello");
        world.settle().await;
        assert_eq!(told(world), lines(["accepted", "failed 131042 fix", "ERROR"]));
    })
    .await;
}

#[tokio::test]
async fn a_fault_of_a_send_from_before_the_connection_last_began_to_run_stops_nothing() {
    for code in [190, 131_042] {
        in_every_way(async |world: &World| {
            world.writes(ANA, "hello");
            webhooks_take(world, 2 * MINUTE);
            world.meta.fail_next(None, Some(1), Fault::FailLater { code });
            world.settle().await;
            world.stop().await;
            world.pass(MINUTE).await;
            world.run().await;
            world.pass(5 * MINUTE).await;
            let expected = lines(["accepted", "STOPPED", "RUNNING"]).into_iter().chain([format!("failed {code} fix")]).collect();
            assert_eq!(told(world), expected);
        })
        .await;
    }
}

#[tokio::test]
async fn what_statuses_remember_of_a_connection_does_not_stop_it_after_it_was_started() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        writes_to_the_other_number(world, "hello too");
        world.meta.fail_next(None, Some(2), Fault::FailLater { code: 131_042 });
        webhooks_take(world, MINUTE);
        world.settle().await;
        world.stop().await;
        // The first of the two failures is heard while it is stopped, the second a second after it runs again.
        let wamid = last_sent(world, ANA);
        webhooks_take(world, Duration::ZERO);
        world.clock.advance(30 * SECOND);
        status(world, &wamid, "failed", 0, &json!({ "errors": [{ "code": 131_042, "title": "Business eligibility payment issue" }] }));
        world.settle().await;
        world.run().await;
        world.clock.advance(SECOND);
        status(world, &wamid, "failed", 0, &json!({ "errors": [{ "code": 131_042, "title": "Business eligibility payment issue" }] }));
        world.settle().await;
        assert!(!told(world).contains("ERROR"), "{:?}", told(world));
    })
    .await;
}

#[tokio::test]
async fn a_send_that_may_have_happened_is_looked_for_though_the_connection_was_stopped() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        webhooks_take(world, 20 * SECOND);
        world.meta.fail_next(None, Some(1), Fault::CutAfter);
        world.settle().await;
        world.stop().await;
        world.pass(MINUTE).await;
        assert_eq!(told(world), lines(["STOPPED", "accepted", "sent", "delivered"]));
    })
    .await;
}

#[tokio::test]
async fn a_send_that_may_have_happened_and_was_not_found_goes_out_again_once_the_connection_runs() {
    in_every_way(async |world: &World| {
        world.meta.fail_next(None, Some(1), Fault::CutBefore);
        world.writes(ANA, "hello");
        world.settle().await;
        world.stop().await;
        world.pass(5 * MINUTE).await;
        assert_eq!(world.screen(ANA), ["> hello"]);
        world.run().await;
        world.pass(MINUTE).await;
        assert_eq!(world.screen(ANA), ["> hello", "< You said: hello"]);
        assert!(told(world).contains("second accepted"));
    })
    .await;
}

#[tokio::test]
async fn a_send_that_may_have_happened_is_unconfirmed_and_not_refused_when_nobody_starts_the_connection() {
    in_every_way(async |world: &World| {
        world.meta.fail_next(None, Some(1), Fault::CutBefore);
        world.writes(ANA, "hello");
        world.settle().await;
        world.stop().await;
        world.pass(15 * MINUTE).await;
        assert_eq!(told(world), lines(["STOPPED", "unconfirmed unconfirmed never"]));
    })
    .await;
}

// Long texts.

/// A text of three parts, told apart by their letters.
fn in_three_parts() -> String {
    ["a", "b", "c"].map(|it| it.repeat(4_000)).join("\n\n")
}

fn with_text(reply: Reply, text: String) -> Reply {
    Reply { message: Some(Outgoing::Text { text, preview_url: false }), ..reply }
}

/// The first letters of what has arrived from the business.
fn letters(world: &World) -> String {
    world.screen(ANA).iter().filter_map(|it| it.strip_prefix("< ")?.chars().next()).collect()
}

#[tokio::test]
async fn a_part_of_unknown_outcome_holds_the_rest_and_what_was_sent_is_not_sent_again() {
    in_every_way(async |world: &World| {
        world.agent_answers(|turn| vec![with_text(answer(turn, 0, ""), in_three_parts())]);
        world.meta.fail_next(None, Some(1), Fault::CutBefore);
        world.writes(ANA, "hello");
        world.settle().await;
        assert_eq!(letters(world), "");
        world.pass(5 * MINUTE).await;
        assert_eq!(letters(world), "abc");
        assert_eq!(world.accepted(), (1, 3));
    })
    .await;
}

#[tokio::test]
async fn when_a_part_is_refused_the_rest_is_not_sent_and_says_so() {
    in_every_way(async |world: &World| {
        world.agent_answers(|turn| vec![with_text(answer(turn, 0, ""), in_three_parts())]);
        world.meta.fail_next(None, Some(1), refusal(131_051));
        world.writes(ANA, "hello");
        world.settle().await;
        assert_eq!(letters(world), "");
        assert_eq!(told(world), lines(["failed 131051 never", "refused part_failed never"]));
        let refused = read(&world.events()).iter().filter(|it| it["code"] == "part_failed").count();
        assert_eq!(refused, 2, "each of the two");
    })
    .await;
}

#[tokio::test]
async fn a_person_who_takes_the_conversation_between_two_parts_is_not_talked_over() {
    in_each_way(async |world: &World| {
        world.agent_answers(|turn| vec![with_text(answer(turn, 0, ""), in_three_parts())]);
        // The number may send one message more in this second: the second part waits.
        world.meta.change_number(NUMBER, |it| it.throughput = 2).expect("a number");
        world.writes(ANA, "hello");
        world.settle().await;
        assert_eq!(letters(world), "a");
        world.hand(ANA, true).await;
        world.pass(5 * MINUTE).await;
        assert_eq!(letters(world), "a");
        assert!(told(world).contains("refused taken_by_person never"), "{:?}", told(world));
    })
    .await;
}

// Statuses.

#[tokio::test]
async fn statuses_come_in_any_order_and_any_number_and_end_the_same() {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let mut outcomes = BTreeSet::new();
    for order in orders {
        let world = World::new().await;
        world.writes(ANA, "hello");
        webhooks_take(&world, Duration::from_millis(u64::try_from(DAY_MS).expect("positive")));
        world.settle().await;
        webhooks_take(&world, Duration::ZERO);
        let wamid = last_sent(&world, ANA);
        let steps = [("sent", 1), ("delivered", 2), ("read", 3)];
        for at in order.into_iter().chain(order) {
            let (step, after) = steps[at];
            status(&world, &wamid, step, after, &Value::Null);
            world.settle().await;
            if order[0] == 2 {
                assert_eq!(states(&world), ["read"], "{order:?}: it never goes back");
            }
        }
        assert_eq!(states(&world), ["read"], "{order:?}");
        assert_eq!(told(&world), lines(["accepted", "sent", "delivered", "read"]), "{order:?}");
        outcomes.insert(world.outcome().to_string());
    }
    assert_eq!(outcomes.len(), 1, "all orders end the same");
}

#[tokio::test]
async fn the_ticks_of_the_phone_come_to_the_feed_with_the_phones_times() {
    in_every_way(async |world: &World| {
        world.meta.phone(ANA).goes_offline().expect("a phone");
        world.writes(ANA, "hello");
        world.settle().await;
        assert_eq!(states(world), ["sent"]);
        world.pass(MINUTE).await;
        world.meta.phone(ANA).comes_online().expect("a phone");
        world.settle().await;
        assert_eq!(states(world), ["delivered"]);
        world.pass(MINUTE).await;
        world.meta.phone(ANA).reads().expect("a customer");
        world.settle().await;
        assert_eq!(states(world), ["read"]);
        let line = world.meta.phone(ANA).screen().pop().expect("the answer");
        for (step, at) in [("sent", line.sent), ("delivered", line.delivered), ("read", line.read)] {
            assert_eq!(event(world, step)["at"].as_i64(), at, "{step}");
        }
    })
    .await;
}

#[tokio::test]
async fn steps_may_be_missing() {
    in_every_way(async |world: &World| {
        enters_with_the_chat_open(world);
        world.writes(ANA, "hello");
        world.settle().await;
        assert_eq!(told(world), lines(["accepted", "sent", "read"]), "with the chat open Meta tells no delivery");
        assert_eq!(states(world), ["read"]);
    })
    .await;
}

fn enters_with_the_chat_open(world: &World) {
    world.meta.add_customer(meta_sim::Customer { chat_open: true, ..meta_sim::Customer::with_phone(ANA) });
}

#[tokio::test]
async fn a_status_that_comes_before_our_own_write_is_taken_in() {
    in_every_way(async |world: &World| {
        let lost = Rule::every(world::wire::Fault::CutBefore).by("replies").of("UpdateItem").times(1);
        world.dynamo.faults().add(lost);
        world.writes(ANA, "hello");
        world.settle().await;
        assert!(told(world).is_superset(&lines(["sent", "delivered"])), "{:?}", told(world));
        world.pass(5 * MINUTE).await;
        assert_eq!(told(world), lines(["accepted", "sent", "delivered"]));
        assert_eq!(world.accepted(), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn a_voice_message_that_is_played_counts_as_read() {
    in_every_way(async |world: &World| {
        world.agent_answers(|turn| {
            let mut reply = answer(turn, 0, "");
            let voice = json!({ "type": "audio", "source": { "link": "https://example.com/voice.ogg" }, "voice": true });
            reply.message = Some(serde_json::from_value::<Outgoing>(voice).expect("a message"));
            vec![reply]
        });
        world.writes(ANA, "hello");
        world.settle().await;
        world.meta.phone(ANA).plays(&last_sent(world, ANA)).expect("it has arrived");
        world.settle().await;
        assert_eq!(told(world), lines(["accepted", "sent", "delivered", "played"]));
        assert_eq!(states(world), ["read"]);
    })
    .await;
}

#[tokio::test]
async fn delivered_outranks_a_failure_that_is_told_after_it() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        world.settle().await;
        status(world, &last_sent(world, ANA), "failed", 5, &json!({ "errors": [{ "code": 131_026, "title": "Message undeliverable" }] }));
        world.settle().await;
        assert_eq!(told(world), lines(["accepted", "sent", "delivered", "failed 131026 never"]));
        assert_eq!(states(world), ["delivered"]);
    })
    .await;
}

#[tokio::test]
async fn failed_outranks_sent_and_tells_metas_code_title_and_details() {
    for echo_on_failed in [true, false] {
        in_every_way(async |world: &World| {
            world.meta.set_mode(Mode { echo_on_failed, ..Mode::default() });
            world.meta.phone(ANA).goes_offline().expect("a phone");
            world.writes(ANA, "hello");
            world.settle().await;
            assert_eq!(states(world), ["sent"]);
            let errors = json!([{ "code": 131_053, "title": "Media upload error", "error_data": { "details": "The file is too long." } }]);
            let more =
                if echo_on_failed { json!({ "errors": errors }) } else { json!({ "errors": errors, "biz_opaque_callback_data": null }) };
            status(world, &last_sent(world, ANA), "failed", 5, &more);
            world.settle().await;
            assert_eq!(states(world), ["failed"]);
            let failed = event(world, "failed");
            assert_eq!((&failed["code"], &failed["retry"]), (&json!("131053"), &json!("never")));
            assert_eq!(failed["note"], "Media upload error: The file is too long.");
        })
        .await;
    }
}

#[tokio::test]
async fn what_meta_charges_is_on_the_feed() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        world.settle().await;
        let pricing = json!({ "billable": true, "pricing_model": "PMP", "type": "regular", "category": "service" });
        assert_eq!(event(world, "delivered")["pricing"], pricing);
    })
    .await;
}

#[tokio::test]
async fn a_failure_without_our_data_settles_the_only_send_of_unknown_outcome() {
    in_every_way(async |world: &World| {
        world.meta.phone(ANA).writes(NUMBER, "hello").expect("the customer can write");
        world.meta.phone(ANA).blocks(NUMBER).expect("a customer");
        world.meta.fail_next(None, Some(1), Fault::CutAfter);
        world.pass(10 * MINUTE).await;
        assert_eq!(told(world), lines(["accepted", "failed 131026 never"]));
        assert_eq!(states(world), ["failed"]);
        assert_eq!(world.accepted(), (1, 1), "it was not sent again");
    })
    .await;
}

#[tokio::test]
async fn of_two_sends_of_unknown_outcome_a_failure_without_our_data_settles_neither() {
    in_every_way(async |world: &World| {
        world.agent_answers(|turn| vec![answer(turn, 0, "one"), answer(turn, 1, "two")]);
        world.writes(ANA, "hello");
        world.meta.fail_next(None, Some(1), Fault::CutBefore);
        world.settle().await;
        assert_eq!(states(world), Vec::<String>::new());
        world.pass(10 * MINUTE).await;
        assert_eq!(world.screen(ANA), ["> hello", "< one", "< two"]);
    })
    .await;
}

#[tokio::test]
async fn a_status_of_somebody_elses_message_is_dropped() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        world.settle().await;
        let before = world.outcome();
        let wamid = last_sent(world, ANA);
        for (step, more) in [
            ("delivered", json!({ "id": "wamid.another", "biz_opaque_callback_data": null })),
            ("read", json!({ "biz_opaque_callback_data": "another app's data" })),
            ("failed", json!({ "id": "wamid.another", "biz_opaque_callback_data": null, "errors": [{ "code": 131_026 }] })),
        ] {
            status(world, &wamid, step, 1, &more);
        }
        world.pass(10 * MINUTE).await;
        assert_eq!(world.outcome(), before);
    })
    .await;
}

/// A second connection, of another tenant, with an app, an account and a number of its own.
async fn install_another(world: &World) {
    let (app, account, number) = ("200000000000002", "300000000000002", "100000000000003");
    world.meta.put_app(App::new(app, "another-secret"));
    world.meta.put_account(Account::new(account, app));
    world.meta.put_number(Number::new(number, account, "+1 555-010-0003"));
    world.meta.put_token(Token::new("anothers-token", app, &[account]));
    let another = NewConnection {
        id: ConnectionId::parse("another").expect("an id"),
        tenant: TenantId::parse("other").expect("an id"),
        app: AppId::parse(app).expect("an id"),
        app_secret: Secret::new("another-secret"),
        waba: WabaId::parse(account).expect("an id"),
        numbers: vec![NumberId::parse(number).expect("an id")],
        access_token: Secret::new("anothers-token"),
        ..demo()
    };
    assert!(world.install(&another).await, "nothing of it is there yet");
}

#[tokio::test]
async fn a_status_that_another_connection_forges_with_our_message_key_changes_nothing() {
    in_every_way(async |world: &World| {
        install_another(world).await;
        world.writes(ANA, "hello");
        world.settle().await;
        let before = world.outcome();
        let message = world.meta.message(&last_sent(world, ANA)).expect("it was sent");
        for number in ["100000000000003", NUMBER] {
            for step in ["read", "failed"] {
                let errors = json!([{ "code": 190, "title": "Invalid OAuth access token." }]);
                let status = json!({ "id": "wamid.forged", "status": step, "timestamp": "1772442005", "recipient_id": ANA,
                    "biz_opaque_callback_data": message.opaque, "errors": errors });
                let metadata = json!({ "display_phone_number": "15550100003", "phone_number_id": number });
                let value = json!({ "messaging_product": "whatsapp", "metadata": metadata, "statuses": [status] });
                world.meta.tell_account("300000000000002", "messages", &value);
            }
        }
        world.pass(10 * MINUTE).await;
        assert_eq!(world.outcome(), before);
    })
    .await;
}

#[tokio::test]
async fn another_connection_is_not_harmed_by_ours() {
    in_every_way(async |world: &World| {
        install_another(world).await;
        world.meta.expire_token(ACCESS_TOKEN);
        world.writes(ANA, "hello");
        world.meta.customer_writes(LUIS, "100000000000003", "hello you").expect("the customer can write");
        world.pass(MINUTE).await;
        assert_eq!(world.screen(LUIS), ["> hello you", "< You said: hello you"]);
        assert_eq!(world.screen(ANA), ["> hello"]);
        world.may_leave_messages();
    })
    .await;
}

#[tokio::test]
async fn what_is_told_again_is_the_same_event() {
    in_every_way(async |world: &World| {
        world.meta.fail_next(None, Some(1), Fault::CutAfter);
        world.writes(ANA, "hello");
        world.pass(5 * MINUTE).await;
        world.meta.phone(ANA).reads().expect("a customer");
        world.meta.fail_next(None, Some(1), refusal(131_051));
        world.writes(ANA, "and this?");
        world.settle().await;
        let conversation = world.conversation(ANA).await.id;
        world.pass(Duration::from_hours(25)).await;
        world.sends(&world.of_agent(&conversation, "too late", 1)).await;
        world.settle().await;
        world.meta_repeats_all().await;
        let mut named: BTreeMap<String, String> = BTreeMap::new();
        for it in read(&world.every_event()) {
            let what = ["type", "at", "message", "step", "attempt", "code", "note", "retry", "closed_at"]
                .map(|name| it[name].to_string())
                .join(" ");
            let id = it["id"].to_string();
            let known = named.entry(id).or_insert_with(|| what.clone());
            assert_eq!(*known, what, "one id, one event");
        }
        let distinct: BTreeSet<&String> = named.values().collect();
        assert_eq!(distinct.len(), named.len(), "one event, one id");
    })
    .await;
}

// Jobs that are wrong.

#[tokio::test]
async fn a_reply_of_a_connection_that_does_not_exist_goes_to_the_dead_letters_and_harms_nobody() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        world.settle().await;
        let conversation = world.conversation(ANA).await.id;
        let stray = Reply { connection: ConnectionId::parse("nobodys").expect("an id"), ..world.of_agent(&conversation, "stray", 1) };
        world.sends(&stray).await;
        world.sends(&world.of_agent(&conversation, "neighbour", 2)).await;
        world.settle().await;
        assert_eq!(world.screen(ANA), ["> hello", "< You said: hello", "< neighbour"]);
        assert_eq!(world.sqs.dead_letters(queue(world, "RepliesQueue")).len(), 1);
        world.may_leave_messages();
    })
    .await;
}

#[tokio::test]
async fn a_body_that_does_not_decode_goes_to_the_dead_letters_and_harms_no_neighbour() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        world.settle().await;
        let conversation = world.conversation(ANA).await.id.to_string();
        let groups = [("RepliesQueue", Some(conversation.as_str())), ("InboundQueue", Some("a-group")), ("StatusesQueue", None)];
        for (name, group) in groups {
            for (serial, body) in ["no JSON", "{}", r#"{"v":2}"#].into_iter().enumerate() {
                let dedupe_id = group.map(|_| format!("{name}-{serial}"));
                world.sqs.seed(queue(world, name), body, group, dedupe_id.as_deref()).expect("the queue takes it");
            }
        }
        world.writes(ANA, "and again");
        world.settle().await;
        assert_eq!(world.screen(ANA), ["> hello", "< You said: hello", "> and again", "< You said: and again"]);
        for name in ["RepliesQueue", "InboundQueue"] {
            assert_eq!(world.sqs.dead_letters(queue(world, name)).len(), 3, "{name}");
        }
        // A standard queue has no deduplication: what was delivered twice is buried twice.
        let buried: BTreeSet<String> = world.sqs.dead_letters(queue(world, "StatusesQueue")).into_iter().map(|it| it.body).collect();
        assert_eq!(buried.len(), 3);
        world.may_leave_messages();
    })
    .await;
}

#[tokio::test]
async fn a_reply_that_names_no_turn_no_id_or_nothing_to_send_is_refused_by_name() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        world.settle().await;
        let conversation = world.conversation(ANA).await.id;
        let good = world.of_agent(&conversation, "good", 1);
        let wrong = [
            ("turn", Reply { turn: Some("no turn".to_owned()), ..good.clone() }),
            ("id", Reply { id: Some("no UUID".to_owned()), ..good.clone() }),
            ("id", Reply { id: Some("3f1b0c62-8f5e-4a53-9d43-0a4f0f6a2b11".to_owned()), ..good.clone() }),
            ("turn", Reply { id: None, ..good.clone() }),
            ("message", Reply { message: None, ..good.clone() }),
        ];
        for (serial, (name, reply)) in wrong.into_iter().enumerate() {
            let refusals = |world: &World| read(&world.events()).into_iter().filter(|it| it["code"] == "invalid").collect::<Vec<_>>();
            let entry = serde_json::to_string(&reply).expect("JSON");
            world
                .sqs
                .seed(queue(world, "RepliesQueue"), &entry, Some(conversation.as_str()), Some(&format!("wrong-{serial}")))
                .expect("it takes it");
            world.settle().await;
            let refused = refusals(world);
            assert_eq!(refused.len(), serial + 1, "{name}");
            assert!(refused[serial]["note"].as_str().expect("a note").starts_with(name), "{refused:?}");
            assert_eq!(refused[serial]["retry"], "fix");
        }
        world.sends(&good).await;
        world.settle().await;
        assert_eq!(world.screen(ANA), ["> hello", "< You said: hello", "< good"]);
    })
    .await;
}

#[tokio::test]
async fn content_that_meta_would_not_take_is_refused_by_the_name_of_what_is_wrong() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        world.settle().await;
        let conversation = world.conversation(ANA).await.id;
        let wrong = [
            Outgoing::Text { text: String::new(), preview_url: false },
            serde_json::from_value(json!({ "type": "location", "latitude": "north", "longitude": "2.17" })).expect("a message"),
            serde_json::from_value(json!({ "type": "interactive", "body": "Which?", "action": "buttons", "buttons": [] }))
                .expect("a message"),
        ];
        for (serial, message) in wrong.into_iter().enumerate() {
            let serial = u32::try_from(serial).expect("small") + 1;
            world.sends(&Reply { message: Some(message), ..world.of_agent(&conversation, "", serial) }).await;
        }
        world.settle().await;
        let refused = read(&world.events()).into_iter().filter(|it| it["code"] == "invalid").collect::<Vec<_>>();
        assert_eq!(refused.len(), 3, "{:?}", told(world));
        assert!(refused.iter().all(|it| it["retry"] == "fix"));
        assert_eq!(world.screen(ANA), ["> hello", "< You said: hello"]);
    })
    .await;
}

#[tokio::test]
async fn a_reply_to_a_conversation_that_is_not_the_connections_is_refused() {
    in_every_way(async |world: &World| {
        install_another(world).await;
        world.meta.customer_writes(LUIS, "100000000000003", "hello you").expect("the customer can write");
        world.settle().await;
        let theirs = world.turns().pop().expect("a turn").conversation;
        let nobodys = ConversationId::derived(&connection_id(), "nobody");
        for (serial, conversation) in [theirs, nobodys].into_iter().enumerate() {
            world.sends(&world.of_agent(&conversation, "hello", u32::try_from(serial).expect("small"))).await;
        }
        world.settle().await;
        let refused = read(&world.events()).into_iter().filter(|it| it["code"] == "unknown_conversation").count();
        assert_eq!(refused, 2);
        assert_eq!(world.screen(LUIS), ["> hello you", "< You said: hello you"]);
    })
    .await;
}

// Many.

const WAVES: u64 = 20;
const IN_A_WAVE: u64 = 12;

/// A third of the sends lose their answer, and the statuses of a third of those come too late to be looked for.
async fn hundreds_of_replies_with_cuts(world: &World) {
    for wave in 0..WAVES {
        for customer in 0..IN_A_WAVE {
            world.writes(&customer_of(wave, customer), "hello");
        }
        webhooks_take(world, if wave % 3 == 0 { 90 * SECOND } else { Duration::ZERO });
        world.meta.fail_next(None, Some(4), Fault::CutAfter);
        world.settle().await;
        webhooks_take(world, Duration::ZERO);
        world.pass(10 * SECOND).await;
    }
    world.pass(10 * MINUTE).await;
}

#[tokio::test]
async fn of_hundreds_of_replies_none_is_lost_and_none_doubled_but_second_attempts_by_name() {
    let replies = usize::try_from(WAVES * IN_A_WAVE).expect("small");
    for way in [Delivery::Once, Delivery::Shuffled(7)] {
        let world = World::with(way).await;
        hundreds_of_replies_with_cuts(&world).await;
        let accepted = world.meta.all_accepted();
        assert!(accepted.values().all(|it| *it == 1), "no attempt was accepted twice");
        let second = read(&world.events()).iter().filter(|it| it["step"] == "accepted" && it["attempt"] == 2).count();
        assert_eq!(second, 28, "four of every third wave");
        assert_eq!(accepted.len(), replies + second, "none doubled but by name");
        for (wave, customer) in (0..WAVES).flat_map(|wave| (0..IN_A_WAVE).map(move |it| (wave, it))) {
            let screen = world.screen(&customer_of(wave, customer));
            assert!(matches!(screen.len(), 2 | 3), "{wave}/{customer}: {screen:?}");
        }
        assert_eq!(states(&world), vec!["delivered"; replies]);
    }
}

fn customer_of(wave: u64, customer: u64) -> String {
    format!("346{:08}", wave * 100 + customer)
}

#[tokio::test]
async fn a_number_fault_of_a_send_from_before_the_connection_last_began_to_run_marks_nothing() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        webhooks_take(world, 2 * MINUTE);
        world.meta.fail_next(None, Some(1), Fault::FailLater { code: 131_037 });
        world.settle().await;
        world.stop().await;
        world.pass(MINUTE).await;
        world.run().await;
        world.pass(5 * MINUTE).await;
        assert_eq!(told(world), lines(["accepted", "STOPPED", "RUNNING", "failed 131037 fix"]));
    })
    .await;
}

#[tokio::test]
async fn a_failure_of_another_apps_message_settles_no_reply_that_was_sent_later() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        webhooks_take(world, Duration::from_millis(u64::try_from(DAY_MS).expect("positive")));
        world.meta.fail_next(None, Some(1), Fault::CutAfter);
        world.settle().await;
        // Another app's template failed ten minutes ago, and Meta tells every app on the account only now.
        webhooks_take(world, Duration::ZERO);
        let fault =
            json!({ "id": "wamid.of.another.app", "biz_opaque_callback_data": null, "errors": [{ "code": 131_042, "title": "Payment" }] });
        let message = last_sent(world, ANA);
        status(world, &message, "failed", -600, &fault);
        world.settle().await;
        world.pass(10 * MINUTE).await;
        assert!(!told(world).contains("ERROR"), "{:?}", told(world));
        assert!(!states(world).contains(&"failed".to_owned()), "{:?}", told(world));
    })
    .await;
}

#[tokio::test]
async fn a_job_whose_time_lies_ahead_is_refused_and_takes_nothing() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.settle().await;
        let conversation = world.conversation(ANA).await.id;
        world.clock.advance(Duration::from_hours(1));
        let ahead = world.of_person(&conversation, "from the future", 1);
        world.clock.set(world.clock.now_ms() - 60 * 60 * 1_000);
        world.sends(&ahead).await;
        world.settle().await;
        assert_eq!(world.screen(ANA), ["> hello"]);
        assert!(!world.conversation(ANA).await.has_person(world.now()));
        assert_eq!(told(world), lines(["refused invalid fix"]));
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_is_not_attached_puts_nothing_before_people() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.settle().await;
        let conversation = world.conversation(ANA).await.id;
        let mut reply = world.of_agent(&conversation, "", 1);
        reply.author = channel::jobs::Author::Agent(domain::ids::AgentId::parse("stranger").expect("an id"));
        reply.message = None;
        reply.handover = true;
        world.sends(&reply).await;
        world.settle().await;
        assert!(!world.conversation(ANA).await.has_person(world.now()));
        assert_eq!(told(world), lines(["refused not_attached fix"]));
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_asks_for_a_person_after_a_release_gets_one_though_the_message_was_before_it() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.settle().await;
        world.clock.advance(SECOND);
        world.hand(ANA, true).await;
        world.clock.advance(SECOND);
        world.hand(ANA, false).await;
        world.clock.advance(SECOND);
        let turn = world.turns().remove(0);
        let mut reply = answer(&turn, 0, "");
        reply.message = None;
        reply.handover = true;
        world.sends(&reply).await;
        world.settle().await;
        assert!(world.conversation(ANA).await.has_person(world.now()));
    })
    .await;
}
