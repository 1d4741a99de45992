//! No secret is told: not by an answer of the API, a refusal or an error, nor by a log line, an event, a turn, or what is kept.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use channel::signup::ServerApp;
use channel::vault::Secret;
use lambda_http::{Body, http};
use meta_sim::{Account, App, Fault, Number, Token};
use serde_json::{Value, json};
use world::story::{ANA, Answer, World};
use world::wire::{Fault as Trouble, Rule};

const NUMBER: &str = "100000000000009";
const APP_ID: &str = "200000000000009";
const ACCOUNT: &str = "300000000000009";
const SERVER_APP: &str = "200000000000008";

/// Each of them is recognised wherever it turns up, whole or in part.
const TOKEN: &str = "EAAGmarkedtokenone0001";
const NEXT_TOKEN: &str = "EAAGmarkedtokentwo0002";
const UNKNOWN_TOKEN: &str = "EAAGmarkedtokenbad0003";
const SIGNED_TOKEN: &str = "EAAGmarkedtokensgn0004";
const SECRET: &str = "markedappsecretone0005";
const NEXT_SECRET: &str = "markedappsecrettwo0006";
const SERVER_SECRET: &str = "markedappsecretsrv0007";
const CODE: &str = "markedsignupcode0008";
const PIN: &str = "909192";
const BEARER: &str = "markedbearertoken0009";

/// What a reader would see of them; of a secret only the last four characters may be shown.
const MARKS: [&str; 5] = ["markedtoken", "markedappsecret", "markedsignupcode", PIN, "markedbearer"];

/// Everything that is logged, at the level of every detail.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Who asks the API, and writes down every answer.
struct Caller<'a> {
    world: &'a World,
    answers: RefCell<Vec<String>>,
}

impl Caller<'_> {
    async fn asks(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Value, expected: u16) -> Answer {
        let answer = self.world.api_of("demo", method, path, headers, (!body.is_null()).then_some(body)).await;
        assert_eq!(answer.status, expected, "{method} {path}: {answer:?}");
        self.answers.borrow_mut().push(format!("{method} {path}: {answer:?}"));
        answer
    }

    async fn edits(&self, connection: &str, body: Value, expected: u16) {
        let tag = self.asks("GET", connection, &[], Value::Null, 200).await.headers["etag"].to_str().expect("text").to_owned();
        self.asks("PATCH", connection, &[("if-match", &tag)], body, expected).await;
    }

    /// Stops and starts a connection, and looks at all that is told of it.
    async fn starts_anew(&self, connection: &str) -> String {
        self.asks("POST", &format!("{connection}/stop"), &[], Value::Null, 202).await;
        self.asks("POST", &format!("{connection}/start"), &[], json!({}), 202).await;
        self.world.pass(Duration::from_mins(1)).await;
        self.looks(connection).await
    }

    async fn looks(&self, connection: &str) -> String {
        for rest in ["/logs", "/numbers", "/agents", "/templates"] {
            self.asks("GET", &format!("{connection}{rest}"), &[], Value::Null, 200).await;
        }
        self.asks("GET", "/v1/connections", &[], Value::Null, 200).await;
        let health = self.asks("GET", &format!("{connection}/health"), &[], Value::Null, 200).await;
        health.body["state"].as_str().expect("a state").to_owned()
    }
}

fn assets(world: &World) {
    world.meta.put_app(App::new(APP_ID, SECRET));
    world.meta.put_app(App::new(SERVER_APP, SERVER_SECRET));
    let mut account = Account::new(ACCOUNT, APP_ID);
    account.subscribed.clear();
    world.meta.put_account(account);
    world.meta.put_number(Number::new(NUMBER, ACCOUNT, "+1 555-010-0009"));
    for token in [TOKEN, NEXT_TOKEN] {
        world.meta.put_token(Token::new(token, APP_ID, &[ACCOUNT]));
    }
    world.meta.put_token(Token::new(SIGNED_TOKEN, SERVER_APP, &[ACCOUNT]));
}

/// A connection's whole life, with everything going wrong that can.
async fn course(world: &World, caller: &Caller<'_>) {
    let new = json!({
        "name": "Acme", "app_id": APP_ID, "app_secret": SECRET, "access_token": UNKNOWN_TOKEN, "phone_number_ids": [NUMBER],
        "business_account_id": ACCOUNT, "attach": { "agent": "example" }, "start": true,
    });
    // What cannot be is refused without being said back.
    let wrong =
        json!({ "name": "", "access_token": format!("{TOKEN} {TOKEN}"), "app_secret": SECRET.repeat(200), "business_account_id": TOKEN });
    caller.asks("POST", "/v1/connections", &[], wrong, 422).await;
    let misplaced = json!({ "name": [TOKEN], "app_id": SECRET, "access_token": { "token": TOKEN }, "attach": TOKEN });
    caller.asks("POST", "/v1/connections", &[], misplaced, 422).await;
    let bearer = http::Request::post("/v1/connections").header("authorization", format!("Bearer {BEARER}"));
    let stranger = world.asks_api("demo", bearer.body(Body::Text(new.to_string())).expect("a request")).await;
    assert_eq!(stranger.status, 401);
    let broken =
        http::Request::post("/v1/connections").header("authorization", "Bearer token-of-demo").header("content-type", "application/json");
    let broken = world.asks_api("demo", broken.body(Body::Text(format!("{{\"access_token\":\"{TOKEN}"))).expect("a request")).await;
    assert_eq!(broken.status, 400);
    caller.answers.borrow_mut().extend([format!("{stranger:?}"), format!("{broken:?}")]);
    // The token is nobody's; then it is good, and the secret is another app's; then all is well.
    let made = caller.asks("POST", "/v1/connections", &[], new, 201).await;
    let connection = format!("/v1/connections/{}", made.body["id"].as_str().expect("an id"));
    world.pass(Duration::from_mins(1)).await;
    assert_eq!(caller.looks(&connection).await, "ERROR");
    caller.edits(&connection, json!({ "access_token": TOKEN, "app_secret": NEXT_SECRET }), 200).await;
    assert_eq!(caller.starts_anew(&connection).await, "ERROR");
    caller.edits(&connection, json!({ "app_secret": SECRET }), 200).await;
    assert_eq!(caller.starts_anew(&connection).await, "RUNNING");
    caller
        .edits(&connection, json!({ "app_id": APP_ID, "access_token": { "set": true, "hint": "0001" }, "app_secret": "****0005" }), 200)
        .await;
    // A number's set-up, with Meta's silence and its refusals.
    let number = format!("{connection}/numbers/{NUMBER}");
    caller.asks("POST", &format!("{number}/register"), &[], json!({ "pin": PIN }), 204).await;
    world.meta.fail_calls(&format!("{NUMBER}/verify_code"), None, 1);
    for status in [503, 409] {
        caller.asks("POST", &format!("{number}/verify-code"), &[], json!({ "code": PIN }), status).await;
    }
    caller.asks("POST", &format!("{number}/register"), &[], json!({ "pin": format!("{PIN}{PIN}") }), 422).await;
    // Traffic, while the token dies, another comes, and the secret is rotated.
    world.writes_to(NUMBER, ANA, "hello");
    world.settle().await;
    world.meta.expire_token(TOKEN);
    world.writes_to(NUMBER, ANA, "are you there?");
    world.pass(Duration::from_mins(3)).await;
    assert_eq!(caller.looks(&connection).await, "ERROR");
    world.meta.put_app(App::new(APP_ID, NEXT_SECRET));
    caller.edits(&connection, json!({ "access_token": NEXT_TOKEN, "app_secret": NEXT_SECRET }), 200).await;
    assert_eq!(caller.starts_anew(&connection).await, "RUNNING");
    world.writes_to(NUMBER, ANA, "and now?");
    world.pass(Duration::from_mins(1)).await;
    for code in [190, 131_031, 100, 131_056] {
        world.meta.fail_next(None, Some(1), Fault::Error { code, subcode: None });
        world.writes_to(NUMBER, ANA, "once more");
        world.pass(Duration::from_mins(3)).await;
        caller.starts_anew(&connection).await;
    }
    // Failures of ours on the way of a secret.
    for rule in
        [Rule::every(Trouble::InternalError).by("control").of("GetItem"), Rule::every(Trouble::InternalError).by("control").of("PutItem")]
    {
        world.dynamo.faults().add(rule.times(9));
        let body =
            json!({ "name": "Other", "access_token": TOKEN, "app_id": APP_ID, "app_secret": SECRET, "business_account_id": ACCOUNT });
        let answer = world.api_of("demo", "POST", "/v1/connections", &[], Some(body)).await;
        caller.answers.borrow_mut().push(format!("{answer:?}"));
        world.dynamo.faults().clear();
    }
    // Sign-in: the code is good once.
    world.has_app(ServerApp::new(SERVER_APP, Secret::new(SERVER_SECRET), Duration::from_hours(24)).expect("an id"));
    caller.asks("DELETE", &connection, &[], Value::Null, 204).await;
    world.pass(Duration::from_mins(3)).await;
    world.meta.put_code(CODE, SERVER_APP, SIGNED_TOKEN);
    let sign_in = json!({ "name": "Signed in", "code": CODE, "business_account_id": ACCOUNT });
    let made = caller.asks("POST", "/v1/connections/embedded-signup", &[], sign_in.clone(), 201).await;
    caller.asks("POST", "/v1/connections/embedded-signup", &[], sign_in, 422).await;
    world.pass(Duration::from_mins(1)).await;
    caller.looks(&format!("/v1/connections/{}", made.body["id"].as_str().expect("an id"))).await;
}

#[tokio::test]
async fn no_secret_is_in_an_answer_a_log_line_an_event_a_turn_or_a_table() {
    let logged = Logged::default();
    let written = logged.clone();
    let subscriber = lambda::logging::subscriber(tracing::Level::TRACE, move || written.clone());
    let _capturing = tracing::subscriber::set_default(subscriber);
    let world = World::new().await;
    world.may_leave_messages();
    assets(&world);
    let caller = Caller { world: &world, answers: RefCell::default() };
    course(&world, &caller).await;

    let log = String::from_utf8(logged.0.lock().expect("no panic").clone()).expect("text");
    let told = [
        ("an answer", caller.answers.into_inner()),
        ("the log", log.lines().map(str::to_owned).collect()),
        ("an event", world.every_event().iter().map(|it| serde_json::to_string(it).expect("JSON")).collect()),
        ("a turn", world.turns().iter().map(|it| serde_json::to_string(it).expect("JSON")).collect()),
        ("a table or a queue", world.everything()),
        ("a group or a deduplication id", world.sqs.labels().into_iter().flatten().collect()),
    ];
    for (place, texts) in &told {
        assert!(texts.len() > 2, "{place}: there is something to search");
        for mark in MARKS {
            let found = texts.iter().find(|it| it.contains(mark));
            assert!(found.is_none(), "{place} holds {mark}: {}", found.map(String::as_str).unwrap_or_default());
        }
    }
    // The last four characters are shown, so that a person recognises what was entered.
    assert!(told[0].1.iter().any(|it| it.contains("0002")) && told[0].1.iter().any(|it| it.contains("0006")));
}
