//! A connection from its credentials to its end, through the JSON API: created, set up, started, reported on, deleted; or signed in with Meta.

use channel::signup::{self, NOT_CONFIGURED, ServerApp};
use channel::vault::Secret;
use meta_sim::{Account, App, Number, Token};
use serde_json::{Value, json};
use world::story::{World, vault};

use super::{DAY, MINUTE};

const NUMBER: &str = "100000000000009";
const APP_ID: &str = "200000000000009";
const ACCOUNT: &str = "300000000000009";
const SECRET: &str = "new-app-secret-0123";
const TOKEN: &str = "new-access-token-0123";

/// An app, an account and a token at Meta, and a number that nobody has verified yet.
fn assets(world: &World) {
    world.meta.put_app(App::new(APP_ID, SECRET));
    let mut account = Account::new(ACCOUNT, APP_ID);
    account.subscribed.clear();
    world.meta.put_account(account);
    let mut number = Number::new(NUMBER, ACCOUNT, "+1 555-010-0009");
    (number.registered, number.code_verification_status) = (false, "NOT_VERIFIED".to_owned());
    world.meta.put_number(number);
    world.meta.put_token(Token::new(TOKEN, APP_ID, &[ACCOUNT]));
}

async fn asks(world: &World, method: &str, path: &str, body: Value, expected: u16) -> Value {
    let (status, answer) = world.api(method, path, (!body.is_null()).then_some(body)).await;
    assert_eq!(status, expected, "{method} {path}: {answer}");
    answer
}

/// The path of a connection that was made of the assets.
async fn created(world: &World) -> String {
    let body = json!({
        "name": "Acme", "app_id": APP_ID, "app_secret": SECRET, "access_token": TOKEN, "phone_number_ids": [NUMBER],
        "business_account_id": ACCOUNT, "message_days": 30,
    });
    let made = asks(world, "POST", "/v1/connections", body, 201).await;
    assert_eq!((&made["state"], &made["message_days"], &made["file_days"]), (&json!("STOPPED"), &json!(30), &json!(90)));
    format!("/v1/connections/{}", made["id"].as_str().expect("an id"))
}

/// What a report finds not well.
fn not_well(report: &Value) -> Vec<&str> {
    let checks = report["checks"].as_array().expect("a list");
    let bad = checks.iter().filter(|it| it["ok"] == false);
    bad.inspect(|it| assert!(it["why"].is_string() && it["what_to_do"].is_string(), "{it}")).filter_map(|it| it["name"].as_str()).collect()
}

#[tokio::test]
async fn a_number_is_verified_and_registered_and_its_connection_runs_until_it_is_deleted() {
    let world = World::new().await;
    assets(&world);
    let connection = created(&world).await;
    let at = |rest: &str| format!("{connection}{rest}");
    let report = asks(&world, "GET", &at("/health"), Value::Null, 200).await;
    assert!(not_well(&report).contains(&"number") && report.get("checked_at").is_none(), "{report}");
    let webhook = asks(&world, "GET", &at("/webhook"), Value::Null, 200).await;
    assert!(webhook["callback_url"].as_str().is_some_and(|it| it.ends_with(&format!("/webhooks/{APP_ID}"))), "{webhook}");
    assert!(webhook.get("verify_token").is_none() && webhook["fields"].as_array().expect("a list").contains(&json!("messages")));
    // It is not verified, so it cannot be registered; and a code is no PIN.
    let number = |step: &str| format!("{connection}/numbers/{NUMBER}/{step}");
    let early = asks(&world, "POST", &number("register"), json!({ "pin": "246810" }), 409).await;
    assert!(early["code"] == "meta_refused" && early["detail"].as_str().expect("a text").contains("133006"), "{early}");
    asks(&world, "POST", &number("request-code"), json!({ "method": "voice", "language": "es" }), 204).await;
    let wrong = asks(&world, "POST", &number("verify-code"), json!({ "code": "24681" }), 422).await;
    assert_eq!(wrong["errors"][0], json!({ "field": "code", "code": "invalid", "detail": "It must be as this: six digits." }));
    asks(&world, "POST", &number("verify-code"), json!({ "code": "246810" }), 409).await;
    asks(&world, "POST", &number("verify-code"), json!({ "code": meta_sim::SMS_CODE }), 204).await;
    assert_eq!(asks(&world, "POST", &number("register"), json!({}), 422).await["errors"][0]["field"], "pin");
    asks(&world, "POST", &number("register"), json!({ "pin": "246810" }), 204).await;
    world.meta.fail_calls(&format!("{NUMBER}/deregister"), None, 1);
    assert_eq!(asks(&world, "POST", &number("deregister"), Value::Null, 503).await["code"], "meta_silent");
    // "Too often in 72 hours" is an answer: whoever asked is not told to ask again soon.
    world.meta.fail_calls(&format!("{NUMBER}/register"), Some(133_016), 1);
    let often = asks(&world, "POST", &number("register"), json!({ "pin": "246810" }), 409).await;
    assert!(often["code"] == "meta_refused" && often["detail"].as_str().expect("a text").contains("133016"), "{often}");
    assert_eq!(asks(&world, "POST", &at("/numbers/1/deregister"), Value::Null, 404).await["code"], "not_found");
    // Now it starts.
    assert_eq!(asks(&world, "POST", &at("/start"), json!({}), 202).await["state"], "STARTING");
    world.pass(MINUTE).await;
    let report = asks(&world, "GET", &at("/health"), Value::Null, 200).await;
    assert_eq!((&report["state"], not_well(&report)), (&json!("RUNNING"), vec!["agent", "inbound"]), "{report}");
    assert!(report["messaging_limit"].is_string() && report["numbers"][0]["quality"] == "GREEN", "{report}");
    let listed = asks(&world, "GET", &at("/numbers"), Value::Null, 200).await;
    assert_eq!(listed["items"], report["numbers"]);
    let shown = &listed["items"][0];
    assert_eq!(
        (&shown["held"], &shown["display_number"], &shown["status"]),
        (&json!(true), &json!("+1 555-010-0009"), &json!("CONNECTED"))
    );
    assert!(shown["throughput"] == 80 && shown["display_name"].is_string(), "{shown}");
    // Whoever holds the verify token answers Meta's question as we do.
    let webhook = asks(&world, "GET", &at("/webhook"), Value::Null, 200).await;
    let token = webhook["verify_token"].as_str().expect("it is known from the start on");
    let asked = world.meta.app(APP_ID).expect("there");
    assert_eq!(asked.verify_token, token, "it is what Meta was told");
    // A number that is taken from the Cloud API is noticed at once, and not within the hour.
    asks(&world, "POST", &number("deregister"), Value::Null, 204).await;
    world.settle().await;
    let report = asks(&world, "GET", &at("/health"), Value::Null, 200).await;
    assert_eq!((&report["state"], &not_well(&report)[..2]), (&json!("ERROR"), &["state", "number"][..]), "{report}");
    // Its end.
    asks(&world, "DELETE", &connection, Value::Null, 204).await;
    for rest in ["", "/health", "/webhook", "/numbers", "/logs"] {
        asks(&world, "GET", &at(rest), Value::Null, 404).await;
    }
    asks(&world, "DELETE", &connection, Value::Null, 404).await;
    world.pass(MINUTE * 3).await;
    assert!(world.meta.account(ACCOUNT).expect("there").subscribed.is_empty(), "Meta was told");
}

#[tokio::test]
async fn for_how_long_things_are_kept_is_within_limits_and_what_is_not_said_stays() {
    let world = World::new().await;
    assets(&world);
    let connection = created(&world).await;
    let tag = world.api_of("demo", "GET", &connection, &[], None).await.headers["etag"].to_str().expect("text").to_owned();
    let edit = async |body: Value| world.api_of("demo", "PATCH", &connection, &[("if-match", &tag)], Some(body)).await;
    let refused = edit(json!({ "message_days": 13, "file_days": 4_000 })).await;
    let told: Vec<&Value> = refused.body["errors"].as_array().expect("a list").iter().map(|it| &it["field"]).collect();
    assert_eq!((refused.status, told), (422, vec![&json!("file_days"), &json!("message_days")]));
    let edited = edit(json!({ "file_days": 7 })).await;
    assert_eq!((&edited.body["message_days"], &edited.body["file_days"]), (&json!(30), &json!(7)), "{edited:?}");
}

#[tokio::test]
async fn who_signs_in_with_meta_has_a_connection_where_the_server_has_an_app() {
    let world = World::new().await;
    assets(&world);
    world.meta.change_number(NUMBER, |it| it.code_verification_status = "VERIFIED".to_owned()).expect("there");
    let body = |code: &str| json!({ "name": "Acme", "code": code, "business_account_id": ACCOUNT, "phone_number_ids": [NUMBER] });
    let path = "/v1/connections/embedded-signup";
    let none = asks(&world, "POST", path, body("code-1"), 409).await;
    assert_eq!((&none["code"], &none["title"]), (&json!("server_app_missing"), &json!(NOT_CONFIGURED)));
    world.has_app(ServerApp::new(APP_ID, Secret::new(SECRET), DAY).expect("an id"));
    world.meta.put_code("code-1", APP_ID, TOKEN);
    // What can be seen to be wrong does not spend the code.
    let mut nameless = body("code-1");
    nameless["name"] = json!(" ");
    assert_eq!(asks(&world, "POST", path, nameless, 422).await["errors"][0]["field"], "name");
    let other = asks(&world, "POST", path, body("never-made"), 422).await;
    assert_eq!((&other["errors"][0]["field"], &other["errors"][0]["code"]), (&json!("code"), &json!("refused")));
    world.meta.fail_calls("oauth/access_token", None, 1);
    assert_eq!(asks(&world, "POST", path, body("code-1"), 503).await["code"], "meta_silent");
    let made = asks(&world, "POST", path, body("code-1"), 201).await;
    assert_eq!((&made["state"], &made["app_secret"]["set"]), (&json!("STARTING"), &json!(false)), "{made}");
    world.pass(MINUTE).await;
    let connection = format!("/v1/connections/{}", made["id"].as_str().expect("an id"));
    assert_eq!(asks(&world, "GET", &connection, Value::Null, 200).await["state"], "RUNNING");
    assert_eq!(world.meta.number(NUMBER).expect("there").registrations_ms.len(), 1);
    let webhook = asks(&world, "GET", &format!("{connection}/webhook"), Value::Null, 200).await;
    assert!(webhook.get("verify_token").is_none(), "the server's app is no tenant's to point anywhere");
    // The PIN that was made is kept: a person who never saw it registers the number once more.
    let number = format!("{connection}/numbers/{NUMBER}");
    asks(&world, "POST", &format!("{number}/deregister"), Value::Null, 204).await;
    asks(&world, "POST", &format!("{number}/register"), json!({}), 204).await;
    assert!(world.meta.number(NUMBER).expect("there").registered);
    // The operator deploys another secret, which the schedule takes however often: the one before is accepted for a day.
    let next = ServerApp::new(APP_ID, Secret::new("next-server-secret-01"), DAY).expect("an id");
    for _ in 0..2 {
        assert!(signup::keep_app(&world.store, &vault(), &next, world.now()).await.expect("the store answers"));
        world.clock.advance(MINUTE * 2);
    }
    let posts =
        async |secret: &str| world.post_bytes(&format!("/webhooks/{APP_ID}"), b"{}", Some(&meta_sim::signature(secret, b"{}"))).await;
    assert_eq!((posts(SECRET).await, posts("next-server-secret-01").await), (200, 200));
    world.clock.advance(DAY);
    assert_eq!((posts(SECRET).await, posts("next-server-secret-01").await), (403, 200));
    // What another account's sign-in claims of this one is not believed.
    world.meta.put_token(Token::new("narrow-token", APP_ID, &["300000000000007"]));
    world.meta.put_code("code-2", APP_ID, "narrow-token");
    world.has_app(next);
    world.meta.put_app(App::new(APP_ID, "next-server-secret-01"));
    let unproven = asks(&world, "POST", path, body("code-2"), 422).await;
    assert_eq!((&unproven["errors"][0]["field"], &unproven["errors"][0]["code"]), (&json!("business_account_id"), &json!("unproven")));
    world.settle().await;
}
