//! The catalogue: what Meta has of templates and numbers is what we have of them, soon after it says so.

use channel::catalogue;
use channel::jobs::Happened;
use channel::store::{NumberItem, TemplateItem};
use domain::connection::{Quality, State};
use domain::ids::NumberId;
use domain::template::{Category, Component, Language, Status, TemplateName};
use meta_sim::{Edit, Limits, Setup, Template, Token, demo_templates};
use serde_json::json;
use world::mapping::Delivery;
use world::story::campaigns::{LANGUAGE, OFFER, REMINDER};
use world::story::{ACCESS_TOKEN, ANA, APP, NUMBER, OTHER_NUMBER, WABA, World, connection_id};
use world::wire::{Fault, Rule};

use super::{HOUR, MINUTE, SECOND};
use crate::{in_each_way, in_every_way};

/// A template as the catalogue has it.
async fn known(world: &World, name: &str) -> Option<TemplateItem> {
    let (name, language) = (TemplateName::parse(name).expect("a name"), Language::parse(LANGUAGE).expect("a language"));
    world.store.template(&connection_id(), &name, &language).await.expect("the store answers")
}

async fn number(world: &World, number: &str) -> NumberItem {
    let id = NumberId::parse(number).expect("an id");
    world.store.number(&id, true).await.expect("the store answers").expect("it is the connection's")
}

async fn state(world: &World) -> State {
    world.store.connection(&connection_id()).await.expect("the store answers").expect("it is there").connection.lifecycle.state
}

async fn logs(world: &World) -> Vec<String> {
    world.store.log_lines(&connection_id(), 10).await.expect("the store answers")
}

/// What the feed told of templates and numbers, in order.
fn told(world: &World) -> Vec<String> {
    let told = world.events().into_iter().filter_map(|it| match it.what {
        Happened::TemplateStatus { template, status, previous, .. } => Some(format!("{template} {status:?} after {previous:?}")),
        Happened::TemplateCategory { template, category, previous, .. } => Some(format!("{template} {category:?} after {previous:?}")),
        Happened::TemplateQuality { template, quality, previous, .. } => Some(format!("{template} {quality} after {previous:?}")),
        Happened::NumberQuality { number, quality, throughput } => Some(format!("{number} {quality:?} {throughput:?}")),
        _ => None,
    });
    told.collect()
}

/// The list is asked for, as by whoever finds it a day old, or by a person.
async fn asks(world: &World, is_person: bool) {
    world.pass(SECOND).await;
    let connection = world.store.connection(&connection_id()).await.expect("the store answers").expect("it is there").connection;
    let asked = if is_person {
        catalogue::ask_for_person(&world.queues, &connection, world.now()).await
    } else {
        catalogue::ask(&world.queues, &connection, world.now()).await
    };
    asked.expect("the queue takes it");
    world.pass(MINUTE).await;
}

/// Meta changes a template, tells so, and time passes.
async fn edits(world: &World, name: &str, edit: &Edit) {
    world.pass(SECOND).await;
    assert!(world.meta.edit_template(WABA, name, LANGUAGE, edit), "it is there");
    world.pass(MINUTE).await;
}

/// Meta gives a template another status, tells so, and time passes.
async fn becomes(world: &World, name: &str, status: &str) {
    world.pass(SECOND).await;
    assert!(world.meta.set_template_status(WABA, name, LANGUAGE, status), "it is there");
    world.pass(MINUTE).await;
}

/// The same, and nobody is told.
fn becomes_silently(world: &World, status: &str) {
    world.meta.put_template(WABA, Template { status: status.to_owned(), ..demo_templates()[0].clone() });
}

/// An offer is sent to a customer; whether it was shown.
async fn is_offered(world: &World, who: &str, serial: u32) -> bool {
    world.campaigns(&world.offer(who, serial)).await;
    world.pass(MINUTE).await;
    !world.screen(who).is_empty()
}

/// How many calls of the Graph API this cost.
async fn calls(world: &World, act: impl Future<Output = ()>) -> u64 {
    let before = world.meta.requests().begun;
    act.await;
    world.meta.requests().begun - before
}

fn many(count: usize) -> Vec<Template> {
    (0..count).map(|it| Template::of_body(&format!("82{it:03}"), &format!("notice_{it:03}"), LANGUAGE, "Hello.")).collect()
}

/// A world in whose demo account there are so many templates beside the three, before the connection is there.
async fn with_many(count: usize) -> World {
    let mut setup = Setup::demo();
    setup.templates.extend(many(count).into_iter().map(|it| (WABA.to_owned(), it)));
    World::of(Delivery::Once, setup).await
}

async fn all_known(world: &World) -> usize {
    world.store.templates(&connection_id()).await.expect("the store answers").len()
}

#[tokio::test]
async fn a_new_connections_templates_are_listed_page_by_page_and_are_no_news() {
    let world = with_many(203).await;
    world.settle().await;
    assert_eq!((all_known(&world).await, world.meta.requests().begun), (206, 3));
    assert_eq!(told(&world), [""; 0]);
    // What comes later is.
    world.meta.put_template(WABA, Template::of_body("9001", "later", LANGUAGE, "Hello."));
    asks(&world, false).await;
    assert_eq!(told(&world), ["later Approved after None"]);
    assert_eq!(all_known(&world).await, 207);
}

#[tokio::test]
async fn a_template_that_meta_pauses_is_not_sent_until_meta_says_so() {
    in_every_way(async |world: &World| {
        becomes(world, OFFER, "PAUSED").await;
        assert_eq!(known(world, OFFER).await.expect("listed").status(), Status::Paused);
        assert!(!is_offered(world, ANA, 1).await);
        assert_eq!(world.codes(), ["template_not_approved"]);
        becomes(world, OFFER, "APPROVED").await;
        assert!(is_offered(world, ANA, 2).await);
        assert_eq!(told(world), ["spring_offer Paused after Some(Approved)", "spring_offer Approved after Some(Paused)"]);
    })
    .await;
}

#[tokio::test]
async fn what_meta_changes_of_a_template_is_known_and_told() {
    in_every_way(async |world: &World| {
        edits(world, REMINDER, &Edit::Category { category: "MARKETING".to_owned() }).await;
        edits(world, REMINDER, &Edit::Quality { score: "RED".to_owned() }).await;
        let components = vec![json!({ "type": "BODY", "text": "Hello {{1}}, at {{2}}." })];
        edits(world, REMINDER, &Edit::Components { components }).await;
        let item = known(world, REMINDER).await.expect("listed");
        assert_eq!((item.template.category, item.template.quality.as_deref()), (Category::Marketing, Some("RED")));
        assert_eq!(item.template.components, [Component::Body { text: "Hello {{1}}, at {{2}}.".to_owned() }]);
        assert_eq!(told(world), ["visit_reminder Marketing after Utility", "visit_reminder RED after Some(\"UNKNOWN\")"]);
    })
    .await;
}

#[tokio::test]
async fn a_template_that_is_deleted_is_gone() {
    in_every_way(async |world: &World| {
        edits(world, OFFER, &Edit::Deleted).await;
        assert_eq!(known(world, OFFER).await, None);
        assert_eq!(told(world), ["spring_offer Other(\"DELETED\") after Some(Approved)"]);
        assert!(known(world, REMINDER).await.is_some());
    })
    .await;
}

#[tokio::test]
async fn beside_what_cannot_be_read_nothing_is_taken_for_gone() {
    in_every_way(async |world: &World| {
        world.meta.put_template(WABA, Template::of_body("9001", "No Name At All", LANGUAGE, "Hello."));
        edits(world, OFFER, &Edit::Deleted).await;
        assert!(known(world, OFFER).await.is_some());
        assert_eq!(told(world), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn what_was_stopped_by_a_refused_send_goes_on_when_meta_or_a_person_says_so() {
    in_each_way(async |world: &World| {
        let stopped = ["spring_offer Paused after Some(Approved)", "spring_offer Approved after Some(Paused)"];
        becomes_silently(world, "PAUSED");
        assert!(!is_offered(world, ANA, 1).await);
        assert_eq!(world.codes(), ["132015"]);
        assert_eq!(told(world), stopped[..1]);
        // The list has it as approved, and has had it so all the time: it may not know yet.
        becomes_silently(world, "APPROVED");
        asks(world, false).await;
        edits(world, REMINDER, &Edit::Quality { score: "GREEN".to_owned() }).await;
        assert_eq!(known(world, OFFER).await.expect("listed").status(), Status::Paused);
        assert!(!is_offered(world, ANA, 2).await);
        // Meta's word on the status of another template is none on this one.
        becomes(world, REMINDER, "APPROVED").await;
        assert_eq!(known(world, OFFER).await.expect("listed").status(), Status::Paused);
        becomes(world, OFFER, "APPROVED").await;
        assert!(is_offered(world, ANA, 3).await);
        assert_eq!(told(world).iter().filter(|it| it.starts_with(OFFER)).collect::<Vec<_>>(), stopped);

        // And once more: a person has it read.
        world.pass(SECOND).await;
        becomes_silently(world, "PAUSED");
        assert!(!is_offered(world, "34600111300", 4).await);
        becomes_silently(world, "APPROVED");
        asks(world, true).await;
        assert!(is_offered(world, "34600111300", 5).await);
        assert_eq!(told(world).iter().filter(|it| it.starts_with(OFFER)).count(), 4);
    })
    .await;
}

#[tokio::test]
async fn what_was_stopped_goes_on_when_the_list_has_had_it_otherwise_in_between() {
    in_each_way(async |world: &World| {
        becomes_silently(world, "PAUSED");
        assert!(!is_offered(world, ANA, 1).await);
        asks(world, false).await;
        becomes_silently(world, "APPROVED");
        asks(world, false).await;
        assert!(is_offered(world, ANA, 2).await);
        assert_eq!(told(world), ["spring_offer Paused after Some(Approved)", "spring_offer Approved after Some(Paused)"]);
    })
    .await;
}

#[tokio::test]
async fn several_reasons_at_once_are_one_reading() {
    in_each_way(async |world: &World| {
        world.pass(SECOND).await;
        let calls = calls(world, async {
            for score in ["YELLOW", "RED", "YELLOW", "RED", "GREEN"] {
                assert!(world.meta.edit_template(WABA, OFFER, LANGUAGE, &Edit::Quality { score: score.to_owned() }));
            }
            world.pass(MINUTE).await;
        });
        assert_eq!(calls.await, 1);
        assert_eq!(told(world), ["spring_offer GREEN after Some(\"UNKNOWN\")"]);
    })
    .await;
}

#[tokio::test]
async fn what_was_told_and_not_written_is_told_again_as_the_same() {
    in_each_way(async |world: &World| {
        world.dynamo.faults().add(Rule::every(Fault::InternalError).by("health").of("PutItem"));
        becomes(world, OFFER, "PAUSED").await;
        assert_eq!(known(world, OFFER).await.expect("listed").status(), Status::Approved);
        world.dynamo.faults().clear();
        world.pass(HOUR).await;
        assert_eq!(known(world, OFFER).await.expect("listed").status(), Status::Paused);
        assert_eq!(told(world), ["spring_offer Paused after Some(Approved)"]);
        assert!(world.every_event().len() > 1, "it was told more than once");
    })
    .await;
}

#[tokio::test]
async fn a_list_whose_cursor_expires_is_begun_again() {
    let world = with_many(150).await;
    world.meta.put_template(WABA, Template::of_body("9001", "later", LANGUAGE, "Hello."));
    world.meta.expire_cursors(1);
    assert_eq!(calls(&world, asks(&world, false)).await, 4, "two, and two from the start");
    assert_eq!(all_known(&world).await, 154);
    // It is not begun for ever: the next delivery does.
    world.meta.put_template(WABA, Template::of_body("9002", "last", LANGUAGE, "Hello."));
    world.meta.expire_cursors(4);
    assert_eq!(calls(&world, asks(&world, false)).await, 10);
    assert_eq!(all_known(&world).await, 155);
}

#[tokio::test]
async fn a_list_that_is_not_read_to_its_end_changes_nothing() {
    let world = with_many(150).await;
    for status in ["PAUSED", "APPROVED"] {
        becomes_silently(&world, status);
        if status == "PAUSED" {
            world.meta.set_limits(Limits { calls_per_hour: Some(1), ..Limits::default() });
        } else {
            world.meta.set_limits(Limits::default());
        }
        asks(&world, false).await;
        assert_eq!((all_known(&world).await, told(&world).len()), (153, 0), "{status}");
        assert_eq!(known(&world, OFFER).await.expect("listed").status(), Status::Approved);
        world.pass(HOUR).await;
    }
}

#[tokio::test]
async fn what_meta_throttles_is_read_later() {
    in_every_way(async |world: &World| {
        world.meta.set_limits(Limits { calls_per_hour: Some(0), ..Limits::default() });
        becomes(world, OFFER, "PAUSED").await;
        world.pass(MINUTE * 20).await;
        assert_eq!(known(world, OFFER).await.expect("listed").status(), Status::Approved);
        assert_eq!(state(world).await, State::Running);
        world.meta.set_limits(Limits::default());
        world.pass(MINUTE * 15).await;
        assert_eq!(known(world, OFFER).await.expect("listed").status(), Status::Paused);
    })
    .await;
}

#[tokio::test]
async fn a_token_that_meta_refuses_stops_the_connection_and_the_start_reads_the_list() {
    in_each_way(async |world: &World| {
        assert!(world.meta.expire_token(ACCESS_TOKEN));
        becomes(world, OFFER, "PAUSED").await;
        assert_eq!(state(world).await, State::Error);
        let logs = logs(world).await;
        assert!(logs.iter().any(|it| it.starts_with("ERROR: Meta refused to be read: ") && it.contains("(code 190)")), "{logs:?}");
        // What does not run is not read.
        let while_stopped = calls(world, async { becomes(world, OFFER, "APPROVED").await });
        assert_eq!(while_stopped.await, 0);
        world.meta.put_token(Token::new("another-token", APP, &[WABA]));
        world.replace_token("another-token").await;
        becomes_silently(world, "DISABLED");
        world.pass(MINUTE).await;
        world.run().await;
        world.pass(MINUTE).await;
        assert_eq!(known(world, OFFER).await.expect("listed").status(), Status::Disabled);
    })
    .await;
}

#[tokio::test]
async fn a_token_that_was_replaced_a_moment_ago_is_read_again_before_anything_is_concluded() {
    in_every_way(async |world: &World| {
        world.pass(SECOND).await;
        world.meta.put_token(Token::new("another-token", APP, &[WABA]));
        world.replace_token("another-token").await;
        assert!(world.meta.expire_token(ACCESS_TOKEN));
        becomes(world, OFFER, "PAUSED").await;
        assert_eq!(known(world, OFFER).await.expect("listed").status(), Status::Paused);
        assert_eq!(state(world).await, State::Running);
    })
    .await;
}

#[tokio::test]
async fn what_meta_says_of_an_account_is_in_the_logs_by_its_name_alone() {
    in_every_way(async |world: &World| {
        world.pass(SECOND).await;
        let calls = calls(world, async {
            world.meta.tell_account(WABA, "security", &json!({ "event": "call +34 600 111 222" }));
            world.pass(MINUTE).await;
        });
        assert_eq!(calls.await, 0);
        assert_eq!(logs(world).await, ["To be looked at: security."]);
    })
    .await;
}

#[tokio::test]
async fn what_changes_at_an_account_has_its_connection_checked_once_for_all_of_it() {
    in_each_way(async |world: &World| {
        world.pass(SECOND).await;
        // The first finds the app's callback not set yet.
        let mut one = 0;
        for _ in 0..2 {
            let told = calls(world, async {
                world.meta.tell_account(WABA, "account_review_update", &json!({ "decision": "APPROVED" }));
                world.pass(MINUTE).await;
            });
            one = told.await;
        }
        let all = calls(world, async {
            world.meta.tell_account(WABA, "account_update", &json!({ "event": "DISABLED_UPDATE", "ban_info": { "waba_ban_state": "X" } }));
            world.meta.tell_account(WABA, "account_alerts", &json!({ "alert_type": "X" }));
            world.meta.tell_account(WABA, "business_capability_update", &json!({ "max_phone_numbers_per_waba": 25 }));
            world.pass(MINUTE).await;
        });
        assert_eq!((one > 0, all.await), (true, one), "three reasons, one reading");
        assert!(logs(world).await.contains(&"To be looked at: account_update DISABLED_UPDATE.".to_owned()));
        // What was taken away is noticed before anything is sent.
        world.meta.expire_token(world::story::ACCESS_TOKEN);
        world.meta.tell_account(WABA, "account_update", &json!({ "event": "PARTNER_REMOVED" }));
        world.pass(MINUTE).await;
        assert_eq!(state(world).await, State::Error);
    })
    .await;
}

#[tokio::test]
async fn how_meta_judges_a_number_is_known_and_told() {
    in_every_way(async |world: &World| {
        world.pass(SECOND).await;
        let change = |it: &mut meta_sim::Number| (it.quality_rating, it.throughput) = ("RED".to_owned(), 1_000);
        world.meta.change_number(NUMBER, change).expect("a number");
        let told_of = json!({ "display_phone_number": "15550100001", "event": "THROUGHPUT_UPGRADE" });
        world.meta.tell_account(WABA, "phone_number_quality_update", &told_of);
        world.pass(MINUTE).await;
        let item = number(world, NUMBER).await;
        assert_eq!((item.quality, item.per_second(), item.status.as_deref()), (Some(Quality::Red), 1_000, Some("CONNECTED")));
        let expected = [(NUMBER, "Some(Red) Some(1000)"), (OTHER_NUMBER, "Some(Green) Some(80)")];
        assert_eq!(told(world), expected.map(|(number, judged)| format!("{number} {judged}")));
        // Nothing new is no news.
        world.meta.tell_account(WABA, "phone_number_name_update", &json!({ "decision": "APPROVED" }));
        world.pass(MINUTE).await;
        assert_eq!(told(world).len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_number_that_is_out_of_use_sends_nothing_and_without_numbers_there_is_no_connection() {
    in_each_way(async |world: &World| {
        for (number, then) in [(NUMBER, State::Running), (OTHER_NUMBER, State::Error)] {
            world.pass(SECOND).await;
            world.meta.change_number(number, |it| it.status = "BANNED".to_owned()).expect("a number");
            world.meta.tell_account(WABA, "phone_number_quality_update", &json!({ "event": "FLAGGED" }));
            world.pass(MINUTE).await;
            assert_eq!(state(world).await, then);
            if then == State::Running {
                assert!(is_offered(world, ANA, 1).await && is_offered(world, "34600111300", 2).await);
                assert_eq!((world.meta.sends_of(NUMBER).len(), world.meta.sends_of(OTHER_NUMBER).len()), (0, 2));
            }
        }
    })
    .await;
}
