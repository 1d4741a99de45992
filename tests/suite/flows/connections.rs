//! *Connections*: made, started, watched, edited, stopped and deleted, checked with Meta all along.

use channel::connections::{self, ConnectionDraft, ConnectionEdit, Edited, Field, NewConnection, StartOptions, Started};
use channel::numbers::{self, SetUp, Step};
use channel::report::{self, HealthReport};
use channel::signup::{self, NOT_CONFIGURED, ServerApp, SignUp, SignedUp};
use channel::store::{Callback, NumberItem, StoredConnection};
use channel::vault::{AdditionalData, Secret};
use domain::connection::State;
use domain::ids::{AppId, ConnectionId, NumberId, TenantId, WabaId};
use meta_sim::{Account, App, Number, Token};
use serde_json::json;
use world::story::{ANA, APP, APP_SECRET, NUMBER, OTHER_NUMBER, WABA, World, connection_id, demo, vault};

use super::{DAY, HOUR, MINUTE, SECOND};
use crate::in_each_way;

const NEW_NUMBER: &str = "100000000000009";
const NEW_APP: &str = "200000000000009";
const NEW_WABA: &str = "300000000000009";
const NEW_SECRET: &str = "new-app-secret-0123";
const NEW_TOKEN: &str = "new-access-token-0123";

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).expect("an id")
}

fn number_id(id: &str) -> NumberId {
    NumberId::parse(id).expect("an id")
}

/// An app, an account with one number, and a token at Meta.
fn assets(world: &World) {
    world.meta.put_app(App::new(NEW_APP, NEW_SECRET));
    let mut account = Account::new(NEW_WABA, NEW_APP);
    account.subscribed.clear();
    world.meta.put_account(account);
    world.meta.put_number(Number::new(NEW_NUMBER, NEW_WABA, "+1 555-010-0009"));
    world.meta.put_token(Token::new(NEW_TOKEN, NEW_APP, &[NEW_WABA]));
}

/// What a person enters for them.
fn draft() -> ConnectionDraft {
    ConnectionDraft {
        tenant: tenant("acme"),
        name: "Acme".to_owned(),
        description: "Of the branch in Lima".to_owned(),
        app: NEW_APP.to_owned(),
        app_secret: Some(Secret::new(NEW_SECRET)),
        access_token: Some(Secret::new(NEW_TOKEN)),
        numbers: vec![NEW_NUMBER.to_owned()],
        waba: NEW_WABA.to_owned(),
        marketing_messages: false,
        utility_exempt: false,
        message_days: None,
        file_days: None,
    }
}

async fn created(world: &World, draft: &ConnectionDraft) -> StoredConnection {
    connections::create(&world.store, &vault(), draft, world.now()).await.expect("the store answers").expect("the fields are good")
}

async fn started(world: &World, id: &ConnectionId) -> State {
    assert_eq!(world.starts(id, StartOptions::default()).await, Started::Starting);
    world.pass(MINUTE).await;
    world.state(id).await
}

async fn edited(world: &World, connection: &StoredConnection, edit: ConnectionEdit) -> Edited {
    let (tenant, id) = (&connection.connection.tenant, &connection.connection.id);
    connections::edit((&world.store, &world.queues, &vault()), (tenant, id), None, &edit, world.now()).await.expect("the store answers")
}

async fn holder(world: &World, number: &str) -> Option<NumberItem> {
    world.store.number(&number_id(number), true).await.expect("the store answers")
}

/// The states that the feed told of a connection.
fn states(world: &World, id: &ConnectionId) -> Vec<String> {
    let told = world.events().into_iter().filter(|it| it.connection == *id).map(|it| serde_json::to_value(it).expect("JSON"));
    told.filter(|it| it["type"] == "connection.state").map(|it| it["state"].as_str().expect("a state").to_owned()).collect()
}

#[tokio::test]
async fn a_connection_is_made_stopped_and_a_start_has_it_checked_and_running() {
    in_each_way(async |world: &World| {
        assets(world);
        let made = created(world, &draft()).await;
        let id = &made.connection.id;
        assert_eq!(world.state(id).await, State::Stopped);
        assert_eq!(holder(world, NEW_NUMBER).await, None, "nothing changes hands before the start");
        assert!(world.store.app(&AppId::parse(NEW_APP).expect("an id")).await.expect("answers").is_none());
        assert_eq!(world.starts(id, StartOptions::default()).await, Started::Starting);
        assert_eq!(world.state(id).await, State::Starting);
        world.pass(MINUTE).await;
        assert_eq!(world.state(id).await, State::Running, "{:?}", world.logs(id).await);
        assert_eq!(states(world, id), ["STARTING", "RUNNING"]);
        assert_eq!(holder(world, NEW_NUMBER).await.expect("claimed").connection, *id);
        let expected = [
            "STARTING: It is being checked with Meta.".to_owned(),
            format!("The App secret is that of app {NEW_APP}."),
            "The access token holds, may manage and send, and covers the account.".to_owned(),
        ];
        let lines: Vec<String> = world.logs(id).await.into_iter().rev().collect();
        assert_eq!(lines[1..4], expected, "{lines:?}");
        let stored = world.store.connection(id).await.expect("answers").expect("there");
        assert!(stored.pending_app_secret.is_none(), "the secret is the app's now");
        // Meta calls us from now on, with all that we read.
        assert_eq!(world.store.checked(id).await.expect("answers").expect("checked").callback, Some(Callback::Ours));
        world.writes_to(NEW_NUMBER, ANA, "hello, Acme");
        world.settle().await;
        assert!(world.store.number(&number_id(NEW_NUMBER), true).await.expect("answers").is_some());
        assert_eq!(world.meta.phone(ANA).screen().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn every_field_that_cannot_be_so_is_told_at_once_with_what_to_do() {
    let world = World::new().await;
    let draft = ConnectionDraft {
        name: "  ".to_owned(),
        description: "d".repeat(501),
        app: "my app".to_owned(),
        app_secret: Some(Secret::new("with a blank")),
        access_token: None,
        numbers: vec!["1, 2, x".to_owned(), "1".to_owned()],
        waba: String::new(),
        message_days: Some(13),
        file_days: Some(0),
        ..draft()
    };
    let problems = connections::create(&world.store, &vault(), &draft, world.now()).await.expect("answers").expect_err("is refused");
    let told: Vec<(Field, &str)> = problems.iter().map(|it| (it.field, it.code)).collect();
    let expected = [
        (Field::Name, "missing"),
        (Field::Description, "too_long"),
        (Field::App, "malformed"),
        (Field::AppSecret, "malformed"),
        (Field::Numbers, "malformed"),
        (Field::Numbers, "repeated"),
        (Field::Waba, "missing"),
        (Field::MessageDays, "out_of_range"),
        (Field::FileDays, "out_of_range"),
        (Field::AccessToken, "missing"),
    ];
    assert_eq!(told, expected);
    assert!(problems.iter().all(|it| !it.problem.is_empty() && !it.advice.is_empty() && !it.problem.contains("blank ")));
}

#[tokio::test]
async fn secrets_are_shown_by_their_last_four_and_a_masked_one_changes_nothing() {
    let world = World::new().await;
    assets(&world);
    let made = created(&world, &draft()).await;
    let view = connections::view(&world.store, &vault(), &made).await.expect("answers");
    assert_eq!((view.access_token.hint.as_deref(), view.app_secret.hint.as_deref()), (Some("0123"), Some("0123")));
    assert!(view.app_secret_is_pending && !format!("{view:?}").contains(NEW_TOKEN));
    let masked = ConnectionEdit {
        access_token: Some(Secret::new("••••0123")),
        app_secret: Some(Secret::new("****0123")),
        name: Some("Acme Lima".to_owned()),
        ..ConnectionEdit::default()
    };
    let Edited::Done(after) = edited(&world, &made, masked).await else { panic!("edited") };
    assert_eq!((after.connection.name.as_str(), after.connection.token_generation), ("Acme Lima", 1));
    assert_eq!(started(&world, &made.connection.id).await, State::Running, "its secrets are what they were");
}

#[tokio::test]
async fn an_edit_of_what_somebody_else_has_changed_changes_nothing() {
    let world = World::new().await;
    let made = created(&world, &draft()).await;
    let (tenant, id) = (&made.connection.tenant, &made.connection.id);
    let rename = |name: &str| ConnectionEdit { name: Some(name.to_owned()), ..ConnectionEdit::default() };
    let edit = async |version, name: &str| {
        connections::edit((&world.store, &world.queues, &vault()), (tenant, id), version, &rename(name), world.now())
            .await
            .expect("answers")
    };
    assert!(matches!(edit(Some(made.version), "one").await, Edited::Done(_)));
    assert!(matches!(edit(Some(made.version), "two").await, Edited::Moved));
    let stored = connections::get(&world.store, tenant, id).await.expect("answers").expect("there");
    assert_eq!((stored.connection.name.as_str(), stored.version), ("one", made.version + 1));
    assert!(connections::get(&world.store, &self::tenant("other"), id).await.expect("answers").is_none());
    let other = self::tenant("other");
    let foreign = connections::edit((&world.store, &world.queues, &vault()), (&other, id), None, &rename("mine"), world.now())
        .await
        .expect("answers");
    assert!(matches!(foreign, Edited::Unknown));
}

#[tokio::test]
async fn a_tenants_connections_are_listed_page_by_page() {
    let world = World::new().await;
    let mut made = Vec::new();
    for number in 0..5 {
        let draft = ConnectionDraft { name: format!("Number {number}"), ..draft() };
        made.push(created(&world, &draft).await.connection.id);
    }
    made.sort();
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = connections::list(&world.store, &tenant("acme"), after.as_ref(), 2).await.expect("answers");
        assert!(page.connections.len() <= 2);
        listed.extend(page.connections.into_iter().map(|it| it.connection.id));
        after = page.after;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(listed, made);
}

#[tokio::test]
async fn what_meta_refuses_at_the_start_is_an_error_that_says_what_to_do() {
    type Break = fn(&World, &mut ConnectionDraft);
    let table: [(&str, Break); 10] = [
        ("The App secret is not that of app", |_, draft| draft.app_secret = Some(Secret::new("another-secret"))),
        ("Meta refuses the access token: Error validating access token", |world, _| assert!(world.meta.expire_token(NEW_TOKEN))),
        ("Meta refuses the access token: Error validating access token", |world, _| assert!(world.meta.revoke_token(NEW_TOKEN, 460))),
        ("was made for app", |world, _| {
            world.meta.put_app(App::new("200000000000008", "secret"));
            world.meta.put_token(Token::new(NEW_TOKEN, "200000000000008", &[NEW_WABA]));
        }),
        ("lacks the permission whatsapp_business_messaging", |world, _| {
            world.meta.change_token(NEW_TOKEN, |it| it.scopes.retain(|it| it != "whatsapp_business_messaging"));
        }),
        ("has no whatsapp_business_management for account", |world, _| {
            world.meta.change_token(NEW_TOKEN, |it| it.accounts = ["300000000000008".to_owned()].into());
        }),
        ("Meta shows no account", |world, draft| {
            draft.waba = "300000000000008".to_owned();
            world.meta.change_token(NEW_TOKEN, |it| it.accounts.extend(["300000000000008".to_owned()]));
        }),
        ("has no number 100000000000008. Enter one or more of its numbers: 100000000000009 (Example Clinic).", |_, draft| {
            draft.numbers = vec!["100000000000008".to_owned()];
        }),
        ("Number 100000000000009 is not connected: Meta says DISCONNECTED.", |world, _| {
            world.meta.change_number(NEW_NUMBER, |it| it.registered = false).expect("there");
        }),
        (
            "No phone number is entered. Enter one or more of its numbers: 100000000000008 (Example Clinic), 100000000000009",
            |world, draft| {
                world.meta.put_number(Number::new("100000000000008", NEW_WABA, "+1 555-010-0008"));
                draft.numbers = Vec::new();
            },
        ),
    ];
    for (expected, breaks) in table {
        let world = World::new().await;
        assets(&world);
        let mut draft = draft();
        breaks(&world, &mut draft);
        let id = created(&world, &draft).await.connection.id;
        assert_eq!(started(&world, &id).await, State::Error, "{expected}");
        let newest = &world.logs(&id).await[0];
        assert!(newest.starts_with("ERROR: ") && newest.contains(expected), "{newest}");
        assert_eq!(holder(&world, NEW_NUMBER).await, None, "{expected}: nothing changed hands");
    }
}

#[tokio::test]
async fn an_account_with_one_number_needs_none_entered() {
    let world = World::new().await;
    assets(&world);
    let id = created(&world, &ConnectionDraft { numbers: Vec::new(), ..draft() }).await.connection.id;
    assert_eq!(started(&world, &id).await, State::Running);
    let stored = world.store.connection(&id).await.expect("answers").expect("there");
    assert_eq!(stored.connection.numbers, [number_id(NEW_NUMBER)]);
}

#[tokio::test]
async fn without_an_app_id_or_its_secret_it_runs_and_says_what_does_not_come_in() {
    let table = [(String::new(), "No App ID is entered"), (NEW_APP.to_owned(), "No App secret is entered")];
    for (app, expected) in table {
        let world = World::new().await;
        assets(&world);
        let id = created(&world, &ConnectionDraft { app, app_secret: None, ..draft() }).await.connection.id;
        assert_eq!(started(&world, &id).await, State::Running);
        let logs = world.logs(&id).await;
        assert!(logs.iter().any(|it| it.contains(expected)), "{logs:?}");
        assert_eq!(world.meta.app(NEW_APP).expect("there").callback, None, "nobody touched the app");
    }
}

#[tokio::test]
async fn what_meta_does_not_answer_keeps_it_starting_until_it_does() {
    for path in ["debug_token", NEW_WABA, &format!("{NEW_WABA}/phone_numbers"), &format!("{NEW_WABA}/subscribed_apps"), NEW_APP] {
        for code in [None, Some(2), Some(80_007), Some(131_000)] {
            let world = World::new().await;
            assets(&world);
            world.meta.fail_calls(path, code, 3);
            let id = created(&world, &draft()).await.connection.id;
            assert_eq!(world.starts(&id, StartOptions::default()).await, Started::Starting);
            world.settle().await;
            assert_eq!(world.state(&id).await, State::Starting, "{path} {code:?}");
            assert!(world.logs(&id).await.iter().any(|it| it.starts_with("Meta does not answer as it should")));
            world.pass(MINUTE).await;
            assert_eq!(world.state(&id).await, State::Running, "{path} {code:?}: {:?}", world.logs(&id).await);
            assert_eq!(states(&world, &id), ["STARTING", "RUNNING"]);
        }
    }
}

#[tokio::test]
async fn a_stop_wins_over_a_check_under_way() {
    let world = World::new().await;
    assets(&world);
    world.meta.fail_calls("debug_token", None, 1);
    let id = created(&world, &draft()).await.connection.id;
    world.starts(&id, StartOptions::default()).await;
    world.settle().await;
    connections::stop(&world.store, &world.queues, &id, world.now()).await.expect("answers");
    world.pass(MINUTE * 20).await;
    assert_eq!(world.state(&id).await, State::Stopped);
    assert_eq!(states(&world, &id), ["STARTING", "STOPPED"]);
    assert_eq!(started(&world, &id).await, State::Running, "and it can be started again");
}

#[tokio::test]
async fn an_app_that_points_elsewhere_is_left_alone_until_a_person_says_so() {
    let world = World::new().await;
    assets(&world);
    let elsewhere = App { callback: Some("https://old.example.com/hook?key=secret".to_owned()), ..App::new(NEW_APP, NEW_SECRET) };
    world.meta.put_app(elsewhere.clone());
    let id = created(&world, &draft()).await.connection.id;
    assert_eq!(started(&world, &id).await, State::Running);
    assert_eq!(world.meta.app(NEW_APP).expect("there").callback, elsewhere.callback, "nothing was changed");
    let logs = world.logs(&id).await;
    assert!(logs.iter().any(|it| it.contains("go to old.example.com today")) && !logs.concat().contains("key=secret"), "{logs:?}");
    connections::stop(&world.store, &world.queues, &id, world.now()).await.expect("answers");
    world.pass(SECOND * 6).await;
    world.starts(&id, StartOptions { replace_callback: true }).await;
    world.pass(MINUTE).await;
    let callback = world.meta.app(NEW_APP).expect("there").callback.expect("set");
    assert!(callback.ends_with(&format!("/webhooks/{NEW_APP}")), "{callback}");
    assert_eq!(world.state(&id).await, State::Running);
    // It was said of that start: who points the app elsewhere later is left alone.
    world.meta.put_app(elsewhere.clone());
    world.sleep(HOUR * 2).await;
    world.schedule_all().await;
    world.settle().await;
    assert_eq!(world.meta.app(NEW_APP).expect("there").callback, elsewhere.callback);
    assert!(not_well(&reported(&world, &id).await).iter().any(|(name, why)| *name == "callback" && why.contains("old.example.com")));
    // Said while it is being started, it counts too.
    connections::stop(&world.store, &world.queues, &id, world.now()).await.expect("answers");
    world.pass(SECOND * 6).await;
    world.starts(&id, StartOptions::default()).await;
    world.starts(&id, StartOptions { replace_callback: true }).await;
    world.pass(MINUTE).await;
    assert_eq!(world.meta.app(NEW_APP).expect("there").callback, Some(callback));
}

#[tokio::test]
async fn what_meta_does_not_take_of_a_check_stops_no_connection_that_runs() {
    let world = World::new().await;
    assets(&world);
    let id = created(&world, &draft()).await.connection.id;
    assert_eq!(started(&world, &id).await, State::Running);
    for path in [NEW_WABA.to_owned(), format!("{NEW_WABA}/phone_numbers"), NEW_APP.to_owned()] {
        world.meta.fail_calls(&path, Some(100), 1);
        world.sleep(HOUR * 2).await;
        world.schedule_all().await;
        world.settle().await;
        assert_eq!(world.state(&id).await, State::Running, "{path}: {:?}", world.logs(&id).await);
        assert!(world.logs(&id).await.iter().any(|it| it.starts_with("It could not be checked with Meta, and runs on.")), "{path}");
    }
}

#[tokio::test]
async fn what_was_checked_of_other_credentials_is_not_reported_of_these() {
    let world = World::new().await;
    assets(&world);
    let made = created(&world, &draft()).await;
    let id = made.connection.id.clone();
    assert_eq!(started(&world, &id).await, State::Running);
    let edit = ConnectionEdit { access_token: Some(Secret::new("another-token-0123")), ..ConnectionEdit::default() };
    assert!(matches!(edited(&world, &made, edit).await, Edited::Done(_)));
    let report = reported(&world, &id).await;
    let names: Vec<&str> = not_well(&report).iter().filter(|it| it.1.contains("Not checked")).map(|it| it.0).collect();
    assert!(names.contains(&"access_token") && names.contains(&"account"), "{report:?}");
    // A start that Meta does not answer leaves what was read before.
    let edit = ConnectionEdit { access_token: Some(Secret::new(NEW_TOKEN)), ..ConnectionEdit::default() };
    assert!(matches!(edited(&world, &made, edit).await, Edited::Done(_)));
    connections::stop(&world.store, &world.queues, &id, world.now()).await.expect("answers");
    world.pass(SECOND * 6).await;
    assert_eq!(started(&world, &id).await, State::Running);
    connections::stop(&world.store, &world.queues, &id, world.now()).await.expect("answers");
    world.pass(SECOND * 6).await;
    world.meta.fail_calls("", None, 1);
    world.starts(&id, StartOptions::default()).await;
    world.settle().await;
    assert_eq!(world.state(&id).await, State::Starting);
    assert!(!not_well(&reported(&world, &id).await).iter().any(|it| it.0 == "account"), "it was read before");
    world.pass(MINUTE).await;
}

#[tokio::test]
async fn a_number_is_one_connections_and_an_app_one_tenants_and_a_refusal_names_nobody() {
    let world = World::new().await;
    assets(&world);
    let holder_before = holder(&world, NUMBER).await;
    // Another tenant with a token of its own that Meta lets see the demo's account.
    world.meta.put_token(Token::new("shared-token-0123", NEW_APP, &[WABA]));
    let token = Some(Secret::new("shared-token-0123"));
    let takes_number = ConnectionDraft { access_token: token, waba: WABA.to_owned(), numbers: vec![NUMBER.to_owned()], ..draft() };
    let id = created(&world, &takes_number).await.connection.id;
    assert_eq!(started(&world, &id).await, State::Error);
    let why = world.logs(&id).await[0].clone();
    assert!(why.contains(&format!("Number {NUMBER} is connected already")) && !why.contains("demo") && !why.contains("Demo"), "{why}");
    assert_eq!(holder(&world, NUMBER).await, holder_before, "nothing changed for its holder");
    // The demo's app with its true secret, as whoever knows it might try.
    world.meta.put_token(Token::new("app-token-0123", APP, &[NEW_WABA]));
    let (app_secret, access_token) = (Some(Secret::new(APP_SECRET)), Some(Secret::new("app-token-0123")));
    for app_secret in [app_secret, None] {
        let takes_app = ConnectionDraft { app: APP.to_owned(), app_secret, access_token: access_token.clone(), ..draft() };
        let id = created(&world, &takes_app).await.connection.id;
        assert_eq!(started(&world, &id).await, State::Error);
        let why = world.logs(&id).await[0].clone();
        assert!(why.contains(&format!("App {APP} cannot be used here")) && !why.contains("demo"), "{why}");
        assert_eq!(holder(&world, NEW_NUMBER).await, None, "all or nothing");
    }
    world.writes(ANA, "hello");
    world.settle().await;
    assert_eq!(world.screen(ANA), ["> hello", "< You said: hello"], "its holder goes on");
}

#[tokio::test]
async fn a_released_number_rests_for_two_minutes_before_another_connection_has_it() {
    let world = World::new().await;
    assets(&world);
    world.meta.put_number(Number::new("100000000000008", NEW_WABA, "+1 555-010-0008"));
    let first = created(&world, &draft()).await;
    assert_eq!(started(&world, &first.connection.id).await, State::Running);
    let elsewhere = ConnectionEdit { numbers: Some(vec!["100000000000008".to_owned()]), ..ConnectionEdit::default() };
    assert!(matches!(edited(&world, &first, elsewhere.clone()).await, Edited::StopFirst));
    connections::stop(&world.store, &world.queues, &first.connection.id, world.now()).await.expect("answers");
    assert!(matches!(edited(&world, &first, elsewhere).await, Edited::Done(_)));
    assert_eq!(holder(&world, NEW_NUMBER).await, None);
    let second = created(&world, &draft()).await.connection.id;
    world.starts(&second, StartOptions::default()).await;
    world.pass(SECOND * 110).await;
    assert_eq!(world.state(&second).await, State::Starting);
    world.pass(SECOND * 30).await;
    assert_eq!(world.state(&second).await, State::Running, "{:?}", world.logs(&second).await);
    assert_eq!(holder(&world, NEW_NUMBER).await.expect("claimed").connection, second);
}

#[tokio::test]
async fn a_dead_token_is_an_error_and_a_new_one_brings_everything_back_in_order() {
    in_each_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.settle().await;
        world.meta.expire_token(world::story::ACCESS_TOKEN);
        world.schedule_all().await;
        world.settle().await;
        assert_eq!(world.state(&connection_id()).await, State::Error, "the schedule found it");
        assert!(world.logs(&connection_id()).await.iter().any(|it| it.contains("Meta refuses the access token")));
        world.sleep(SECOND * 6).await;
        for text in ["one", "two", "three"] {
            world.sleep(SECOND * 2).await;
            world.writes(ANA, text);
            world.settle().await;
        }
        assert_eq!(world.words_told(), ["hello"], "what comes in is kept");
        world.meta.put_token(Token::new("second-token-0123", APP, &[WABA]));
        world.replace_token("second-token-0123").await;
        connections::stop(&world.store, &world.queues, &connection_id(), world.now()).await.expect("answers");
        assert_eq!(started(world, &connection_id()).await, State::Running, "{:?}", world.logs(&connection_id()).await);
        world.pass(MINUTE).await;
        assert_eq!(world.words_told(), ["hello", "one", "two", "three"], "the start hands over what is owed, in order");
    })
    .await;
}

#[tokio::test]
async fn a_token_that_expires_within_a_week_is_warned_of_once_a_day() {
    let world = World::new().await;
    let expires_at_ms = world.now().plus(DAY * 3).as_millis();
    world.meta.change_token(world::story::ACCESS_TOKEN, |it| it.expires_at_ms = Some(expires_at_ms));
    for _ in 0..3 {
        world.schedule_all().await;
        world.settle().await;
        world.sleep(HOUR).await;
    }
    let warnings = |world: &World| {
        let told = world.events().into_iter().map(|it| serde_json::to_value(it).expect("JSON"));
        told.filter(|it| it["type"] == "connection.warning").map(|it| it["note"].as_str().expect("a note").to_owned()).collect::<Vec<_>>()
    };
    let expected = "The access token expires within 3 days. Replace it, then stop and start the connection.";
    assert_eq!(warnings(&world), [expected]);
    assert_eq!(world.logs(&connection_id()).await.iter().filter(|it| it.contains("expires within")).count(), 1);
    world.sleep(DAY).await;
    world.schedule_all().await;
    world.settle().await;
    assert_eq!(warnings(&world).len(), 2);
    assert_eq!(world.state(&connection_id()).await, State::Running);
}

#[tokio::test]
async fn silence_and_trouble_at_meta_never_stop_a_connection_that_runs() {
    for code in [None, Some(2), Some(4), Some(80_007), Some(131_000)] {
        let world = World::new().await;
        world.meta.fail_calls("", code, 3);
        world.schedule_all().await;
        world.pass(MINUTE).await;
        assert_eq!(world.state(&connection_id()).await, State::Running, "{code:?}");
    }
}

#[tokio::test]
async fn a_number_that_its_account_lists_no_more_is_marked_and_the_others_go_on() {
    let world = World::new().await;
    world.meta.put_number(Number::new(OTHER_NUMBER, "300000000000007", "+1 555-010-0002"));
    world.schedule_all().await;
    world.settle().await;
    assert_eq!(world.state(&connection_id()).await, State::Running);
    assert!(!holder(&world, OTHER_NUMBER).await.expect("ours still").can_send());
    world.sleep(HOUR).await;
    world.meta.change_number(NUMBER, |it| it.status = "BANNED".to_owned()).expect("there");
    world.schedule_all().await;
    world.settle().await;
    assert_eq!(world.state(&connection_id()).await, State::Error, "no usable number is left");
}

#[tokio::test]
async fn a_subscription_that_was_lost_is_made_again_by_the_schedule() {
    let world = World::new().await;
    world.meta.change_account(WABA, |it| it.subscribed.clear()).expect("there");
    world.schedule_all().await;
    world.settle().await;
    assert!(world.meta.account(WABA).expect("there").subscribed.contains_key(APP));
    assert!(world.logs(&connection_id()).await.iter().any(|it| it.contains("was subscribed to account")));
}

#[tokio::test]
async fn a_start_whose_probe_was_lost_goes_on_with_the_schedule() {
    let world = World::new().await;
    assets(&world);
    let made = created(&world, &draft()).await;
    let (id, now) = (&made.connection.id, world.now());
    // As if the start had crashed before it could ask for the check.
    world.store.change_connection(id, |it| Some(it.starting(now))).await.expect("answers");
    world.pass(MINUTE * 3).await;
    assert_eq!(world.state(id).await, State::Starting);
    world.schedule_all().await;
    world.settle().await;
    assert_eq!(world.state(id).await, State::Running);
}

#[tokio::test]
async fn each_connection_is_checked_about_once_an_hour() {
    let world = World::new().await;
    let mut checks = 0;
    let mut last = None;
    for _ in 0..36 {
        world.schedule().await;
        world.settle().await;
        let checked = world.store.checked(&connection_id()).await.expect("answers").map(|it| it.checked_at);
        if checked != last {
            (checks, last) = (checks + 1, checked);
        }
        world.sleep(MINUTE * 5).await;
    }
    assert_eq!(checks, 3, "in three hours");
    connections::stop(&world.store, &world.queues, &connection_id(), world.now()).await.expect("answers");
    world.schedule_all().await;
    world.settle().await;
    assert_eq!(
        world.store.checked(&connection_id()).await.expect("answers").map(|it| it.checked_at),
        last,
        "what is STOPPED is left alone"
    );
}

#[tokio::test]
async fn a_secret_is_rotated_under_a_stream_of_webhooks_and_none_is_refused() {
    in_each_way(async |world: &World| {
        world.agent_is_silent();
        let mut said = Vec::new();
        let mut says = async |world: &World, count: usize| {
            for _ in 0..count {
                let text = format!("word {}", said.len());
                world.writes(ANA, &text);
                world.settle().await;
                world.sleep(SECOND * 2).await;
                said.push(text);
            }
        };
        says(world, 3).await;
        // A person resets the secret at Meta. Meta signs with the old one until the new one is confirmed there, then with the new one.
        let edit = ConnectionEdit { app_secret: Some(Secret::new("rotated-secret-0123")), ..ConnectionEdit::default() };
        assert!(matches!(world.edits(&edit).await, Edited::Done(_)));
        says(world, 3).await;
        world.meta.put_app(App { secret: "rotated-secret-0123".to_owned(), ..world.meta.app(APP).expect("there") });
        world.stop().await;
        assert_eq!(started(world, &connection_id()).await, State::Running, "{:?}", world.logs(&connection_id()).await);
        says(world, 3).await;
        // What was signed before comes late, with the old signature.
        let late = serde_json::json!({ "object": "whatsapp_business_account", "entry": [] }).to_string().into_bytes();
        let path = format!("/webhooks/{APP}");
        assert_eq!(world.post_bytes(&path, &late, Some(&meta_sim::signature(APP_SECRET, &late))).await, 200);
        assert_eq!(world.webhooks_refused(), 0);
        let mut told = world.words_told();
        told.sort();
        said.sort();
        assert_eq!(told, said);
        world.sleep(DAY).await;
        assert_eq!(world.post_bytes(&path, &late, Some(&meta_sim::signature(APP_SECRET, &late))).await, 403, "for a day");
        let sign = |secret: &str| meta_sim::signature(secret, &late);
        assert_eq!(world.post_bytes(&path, &late, Some(&sign("rotated-secret-0123"))).await, 200);
    })
    .await;
}

async fn reported(world: &World, id: &ConnectionId) -> HealthReport {
    let stored = world.store.connection(id).await.expect("answers").expect("there");
    report::report(&world.store, &stored, world.now()).await.expect("answers")
}

/// What a report finds not well, with what it says.
fn not_well(report: &HealthReport) -> Vec<(&'static str, &str)> {
    report.checks.iter().filter(|it| !it.ok).map(|it| (it.name, it.why.as_str())).collect()
}

#[tokio::test]
async fn the_report_names_what_is_not_well_and_what_to_do() {
    let world = World::new().await;
    assets(&world);
    let id = created(&world, &draft()).await.connection.id;
    let names: Vec<&str> = not_well(&reported(&world, &id).await).iter().map(|it| it.0).collect();
    let expected =
        ["state", "access_token", "app_secret", "account", "subscription", "callback", "number", "agent", "inbound", "templates"];
    assert_eq!(names, expected);
    world.meta.change_number(NEW_NUMBER, |it| it.quality_rating = "RED".to_owned()).expect("there");
    let expires_at_ms = world.now().plus(DAY * 2).as_millis();
    world.meta.change_token(NEW_TOKEN, |it| it.expires_at_ms = Some(expires_at_ms));
    assert_eq!(started(&world, &id).await, State::Running);
    let report = reported(&world, &id).await;
    let names: Vec<&str> = not_well(&report).iter().map(|it| it.0).collect();
    assert_eq!(names, ["token_expiry", "number", "agent", "inbound"], "{report:?}");
    assert!(report.checks.iter().all(|it| it.ok == it.what_to_do.is_none() && !it.why.is_empty()));
    assert_eq!(report.numbers[0].number.display.as_deref(), Some("+1 555-010-0009"));
    assert!(report.checked_at.is_some() && report.state == State::Running);
    // The demo connection has its agent, and nothing of its own to mend once it was checked.
    world.schedule_all().await;
    world.settle().await;
    assert_eq!(not_well(&reported(&world, &connection_id()).await), []);
    world.meta.expire_token(world::story::ACCESS_TOKEN);
    world.sleep(HOUR).await;
    world.schedule_all().await;
    world.settle().await;
    let report = reported(&world, &connection_id()).await;
    let (name, why) = not_well(&report)[0];
    assert!(name == "state" && why.starts_with("ERROR: Meta refuses the access token"), "{why}");
    assert_eq!(not_well(&report)[1].0, "access_token");
}

#[tokio::test]
async fn a_deleted_connection_is_gone_at_once_and_meta_is_told() {
    in_each_way(async |world: &World| {
        assets(world);
        let made = created(world, &draft()).await;
        let (id, acme) = (&made.connection.id, tenant("acme"));
        assert_eq!(started(world, id).await, State::Running);
        // Meta does not answer at first.
        world.meta.fail_calls(&format!("{NEW_WABA}/subscribed_apps"), None, 2);
        let deleted = connections::delete(&world.store, &world.queues, &tenant("other"), id, world.now()).await.expect("answers");
        assert!(!deleted, "another tenant has no such connection");
        assert!(connections::delete(&world.store, &world.queues, &acme, id, world.now()).await.expect("answers"));
        assert!(connections::get(&world.store, &acme, id).await.expect("answers").is_none());
        assert!(connections::list(&world.store, &acme, None, 10).await.expect("answers").connections.is_empty());
        assert_eq!(holder(world, NEW_NUMBER).await, None);
        assert_eq!(world.starts(id, StartOptions::default()).await, Started::Unknown);
        world.pass(MINUTE * 5).await;
        assert!(world.meta.account(NEW_WABA).expect("there").subscribed.is_empty(), "Meta was told");
        let tables = world.outcome()["tables"].clone();
        let items = tables.as_object().expect("tables").values().flat_map(|it| it.as_array().cloned().unwrap_or_default());
        let left: Vec<String> = items.filter(|it| it.to_string().contains(id.as_str())).map(|it| it["pk"]["S"].to_string()).collect();
        assert_eq!(left, [format!("\"NUMBER#{NEW_NUMBER}\"")], "nothing of it is left but when the number was released");
        assert!(world.store.app(&AppId::parse(NEW_APP).expect("an id")).await.expect("answers").is_none(), "its secrets are gone");
        assert!(!connections::delete(&world.store, &world.queues, &acme, id, world.now()).await.expect("answers"));
    })
    .await;
}

#[tokio::test]
async fn a_deletion_leaves_the_app_and_the_subscription_that_another_connection_needs() {
    let world = World::new().await;
    assets(&world);
    world.meta.put_number(Number::new("100000000000008", NEW_WABA, "+1 555-010-0008"));
    let first = created(&world, &draft()).await.connection.id;
    let second = created(&world, &ConnectionDraft { numbers: vec!["100000000000008".to_owned()], ..draft() }).await.connection.id;
    assert_eq!((started(&world, &first).await, started(&world, &second).await), (State::Running, State::Running));
    assert!(connections::delete(&world.store, &world.queues, &tenant("acme"), &first, world.now()).await.expect("answers"));
    world.pass(MINUTE * 3).await;
    assert!(world.meta.account(NEW_WABA).expect("there").subscribed.contains_key(NEW_APP));
    assert!(world.store.app(&AppId::parse(NEW_APP).expect("an id")).await.expect("answers").is_some());
}

#[tokio::test]
async fn an_app_that_a_connection_leaves_is_forgotten_unless_another_connection_needs_it() {
    let world = World::new().await;
    assets(&world);
    world.meta.put_number(Number::new("100000000000008", NEW_WABA, "+1 555-010-0008"));
    let first = created(&world, &draft()).await.connection.id;
    let second = created(&world, &ConnectionDraft { numbers: vec!["100000000000008".to_owned()], ..draft() }).await.connection.id;
    assert_eq!((started(&world, &first).await, started(&world, &second).await), (State::Running, State::Running));
    for (id, is_there) in [(&first, true), (&second, false)] {
        connections::stop(&world.store, &world.queues, id, world.now()).await.expect("answers");
        let edit = ConnectionEdit { app: Some("200000000000077".to_owned()), ..ConnectionEdit::default() };
        let (handles, of) = ((&world.store, &world.queues, &vault()), (&tenant("acme"), id));
        assert!(matches!(connections::edit(handles, of, None, &edit, world.now()).await.expect("answers"), Edited::Done(_)));
        let app = world.store.app(&AppId::parse(NEW_APP).expect("an id")).await.expect("answers");
        assert_eq!(app.is_some(), is_there);
    }
}

#[tokio::test]
async fn what_came_in_while_a_start_waited_for_meta_is_erased_with_its_connection() {
    let world = World::new().await;
    assets(&world);
    const SECOND_NUMBER: &str = "100000000000008";
    world.meta.put_number(Number::new(SECOND_NUMBER, NEW_WABA, "+1 555-010-0008"));
    let first = created(&world, &draft()).await.connection.id;
    assert_eq!(started(&world, &first).await, State::Running);
    // Meta tells of the account by way of the first connection, and falls silent when the second has claimed its number.
    let second = created(&world, &ConnectionDraft { numbers: vec![SECOND_NUMBER.to_owned()], ..draft() }).await.connection.id;
    world.meta.fail_calls(&format!("{NEW_WABA}/subscribed_apps"), None, 99);
    assert_eq!(started(&world, &second).await, State::Starting);
    assert!(world.store.checked(&second).await.expect("answers").is_none(), "else this story shows nothing");
    world.writes_to(SECOND_NUMBER, ANA, meta_sim::Inbound::text("hello"));
    world.settle().await;
    let of_ana = |world: &World| world.everything().into_iter().filter(|it| it.contains(ANA)).count();
    assert!(of_ana(&world) > 0, "else this story shows nothing");
    assert!(connections::delete(&world.store, &world.queues, &tenant("acme"), &second, world.now()).await.expect("answers"));
    world.pass(HOUR).await;
    assert_eq!(world.everything().into_iter().filter(|it| it.contains(ANA)).collect::<Vec<_>>(), Vec::<String>::new());
    world.may_leave_messages();
}

const SERVER_SECRET: &str = "server-secret-0123";

async fn signed_up(world: &World, code: &str, numbers: &[&str]) -> SignedUp {
    let app = ServerApp::new(NEW_APP, Secret::new(SERVER_SECRET), DAY).expect("an id");
    let sign_up = SignUp {
        tenant: tenant("acme"),
        name: "Acme".to_owned(),
        code: Secret::new(code),
        waba: domain::ids::WabaId::parse(NEW_WABA).expect("an id"),
        numbers: numbers.iter().map(|it| number_id(it)).collect(),
    };
    let (store, queues, now) = (&world.store, &world.queues, world.now());
    signup::sign_up(store, queues, &vault(), &world.graph(), Some(&app), &sign_up, now).await.expect("answers")
}

#[tokio::test]
async fn who_signs_in_with_meta_has_a_connection_that_runs_and_its_new_numbers_registered_once() {
    let world = World::new().await;
    assets(&world);
    world.meta.put_app(App::new(NEW_APP, SERVER_SECRET));
    world.meta.change_number(NEW_NUMBER, |it| it.registered = false).expect("there");
    world.meta.put_code("code-1", NEW_APP, NEW_TOKEN);
    let SignedUp::Starting(made) = signed_up(&world, "code-1", &[NEW_NUMBER]).await else { panic!("starts") };
    world.pass(MINUTE).await;
    let id = &made.connection.id;
    assert_eq!(world.state(id).await, State::Running, "{:?}", world.logs(id).await);
    let number = world.meta.number(NEW_NUMBER).expect("there");
    assert_eq!((number.registered, number.registrations_ms.len()), (true, 1));
    let stored = world.store.connection(id).await.expect("answers").expect("there");
    let field = channel::vault::AdditionalData::of_number(NEW_NUMBER, "pin");
    let pin = vault().open(&stored.pins[&number_id(NEW_NUMBER)], &field).await.expect("opens");
    assert_eq!(number.pin.as_deref(), Some(pin.expose()), "the PIN is kept");
    connections::stop(&world.store, &world.queues, id, world.now()).await.expect("answers");
    assert_eq!(started(&world, id).await, State::Running);
    assert_eq!(world.meta.number(NEW_NUMBER).expect("there").registrations_ms.len(), 1, "a start never registers");
    // The server's app serves another tenant too, and nobody takes it for their own.
    world.meta.put_token(Token::new("own-token-0123", NEW_APP, &[NEW_WABA]));
    let takes = ConnectionDraft { tenant: tenant("thief"), app_secret: Some(Secret::new(SERVER_SECRET)), ..draft() };
    let takes = ConnectionDraft { access_token: Some(Secret::new("own-token-0123")), ..takes };
    let id = created(&world, &takes).await.connection.id;
    assert_eq!(started(&world, &id).await, State::Error);
}

#[tokio::test]
async fn a_sign_in_that_cannot_be_proved_makes_nothing() {
    let world = World::new().await;
    assets(&world);
    world.meta.put_app(App::new(NEW_APP, SERVER_SECRET));
    let none = connections::list(&world.store, &tenant("acme"), None, 10).await.expect("answers");
    assert!(none.connections.is_empty());
    assert!(matches!(signed_up(&world, "never-made", &[NEW_NUMBER]).await, SignedUp::CodeRefused(_)));
    world.meta.put_code("code-1", NEW_APP, NEW_TOKEN);
    assert!(matches!(signed_up(&world, "code-1", &[NUMBER]).await, SignedUp::Unproven(_)), "the number is another account's");
    assert!(matches!(signed_up(&world, "code-1", &[NEW_NUMBER]).await, SignedUp::CodeRefused(_)), "a code is good once");
    world.meta.put_code("code-2", NEW_APP, NEW_TOKEN);
    world.sleep(SECOND * 31).await;
    assert!(matches!(signed_up(&world, "code-2", &[NEW_NUMBER]).await, SignedUp::CodeRefused(_)), "and for thirty seconds");
    world.meta.put_token(Token::new("narrow-token", NEW_APP, &["300000000000007"]));
    world.meta.put_code("code-3", NEW_APP, "narrow-token");
    assert!(matches!(signed_up(&world, "code-3", &[NEW_NUMBER]).await, SignedUp::Unproven(_)), "the account was not granted");
    world.meta.fail_calls("oauth/access_token", None, 1);
    assert!(matches!(signed_up(&world, "code-4", &[NEW_NUMBER]).await, SignedUp::Unanswered(_)));
    let none = connections::list(&world.store, &tenant("acme"), None, 10).await.expect("answers");
    assert!(none.connections.is_empty());
    assert_eq!(NOT_CONFIGURED, "Meta App ID and App Secret are not configured on the server");
}

#[tokio::test]
async fn a_number_is_verified_with_its_code_and_registered_with_its_pin() {
    let world = World::new().await;
    assets(&world);
    world
        .meta
        .change_number(NEW_NUMBER, |it| (it.registered, it.code_verification_status) = (false, "NOT_VERIFIED".to_owned()))
        .expect("there");
    let made = created(&world, &draft()).await;
    let id = &made.connection.id;
    assert_eq!(started(&world, id).await, State::Error);
    let does = async |step: Step| {
        let stored = world.store.connection(id).await.expect("answers").expect("there");
        let at = (&world.store, &world.queues, &vault(), &world.graph());
        numbers::set_up(at, &stored, &number_id(NEW_NUMBER), &step, world.now()).await.expect("answers")
    };
    let pin = || Step::Register { pin: Some(Secret::new("246810")) };
    assert!(matches!(does(pin()).await, SetUp::Refused { code: 133_006, .. }), "it is not verified");
    assert_eq!(does(Step::RequestCode { by_voice: false, language: "es".to_owned() }).await, SetUp::Done);
    assert!(matches!(does(Step::VerifyCode { code: Secret::new("246810") }).await, SetUp::Refused { code: 136_025, .. }));
    assert_eq!(does(Step::VerifyCode { code: Secret::new(meta_sim::SMS_CODE) }).await, SetUp::Done);
    assert_eq!(does(Step::Register { pin: None }).await, SetUp::NoPin);
    assert_eq!(does(pin()).await, SetUp::Done);
    assert_eq!(started(&world, id).await, State::Running);
    world.meta.fail_calls(&format!("{NEW_NUMBER}/deregister"), None, 1);
    assert!(matches!(does(Step::Deregister).await, SetUp::Later { .. }));
    assert_eq!(does(Step::Deregister).await, SetUp::Done);
    assert!(!world.meta.number(NEW_NUMBER).expect("there").registered);
    world.settle().await;
    assert_eq!(world.state(id).await, State::Error, "it was checked, and no number is left: {:?}", world.logs(id).await);
}

#[tokio::test]
async fn connections_that_nobody_can_read_keep_the_schedule_from_no_other() {
    let world = World::new().await;
    // Enough that some are looked at together with the good one, and before it.
    for it in 10..40 {
        let id = ConnectionId::parse(format!("spoilt-{it}")).expect("an id");
        let app = AppId::parse(format!("2000000000000{it}")).expect("an id");
        let waba = WabaId::parse(format!("3000000000000{it}")).expect("an id");
        let number = NumberId::parse(format!("1000000000000{it}")).expect("an id");
        assert!(world.install(&NewConnection { id, app, waba, numbers: vec![number], ..demo() }).await);
        world.spoils("ConfigTable", &format!("CONNECTION#spoilt-{it}"), "META").await;
    }
    let checked_at = async || world.store.checked(&connection_id()).await.expect("the store answers").map(|it| it.checked_at);
    let before = checked_at().await;
    world.pass(HOUR).await;
    world.schedule_all().await;
    world.settle().await;
    assert!(checked_at().await > before);
    world.may_leave_messages();
}

#[tokio::test]
async fn a_secret_that_opens_no_more_hides_no_connection_and_keeps_none_from_being_deleted() {
    let world = World::new().await;
    // As if somebody had written over it.
    let elsewhere = AdditionalData::of_app(APP, "secret");
    let sealed = vault().seal(&Secret::new("of something else"), &elsewhere, world.now()).await.expect("seals");
    let spoil = |it: &StoredConnection| Some(StoredConnection { access_token: sealed.clone(), ..it.clone() });
    world.store.change_connection(&connection_id(), spoil).await.expect("the store answers").expect("it is there");
    let (status, listed) = world.api("GET", "/v1/connections", None).await;
    assert_eq!((status, &listed["items"][0]["access_token"]), (200, &json!({ "set": true })), "{listed}");
    assert_eq!(world.api("DELETE", "/v1/connections/demo", None).await.0, 204);
    world.pass(HOUR).await;
    assert!(!world.everything().iter().any(|it| it.contains("access_token")), "it is cleared away");
    world.may_leave_messages();
}
