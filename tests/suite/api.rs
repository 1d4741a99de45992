//! The JSON API as a whole: its description, who is let in, and what everything that is not done is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::{Access, Issuer, Scope};
use lambda_http::{Body, http};
use meta_sim::{File, Inbound};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use world::story::campaigns::{LANGUAGE, OFFER};
use world::story::{ANA, Answer, NUMBER, WABA, World};
use world::wire::{Fault, Rule};

/// The description of the API, as it is committed.
fn committed() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../functions/control/openapi.json");
    let current = format!("{}\n", serde_json::to_string_pretty(&control::openapi()).expect("JSON"));
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(path, &current).expect("the document can be written");
    }
    std::fs::read_to_string(path).expect("the document is committed")
}

/// One operation of the description.
struct Operation {
    method: String,
    path: String,
    described: Value,
}

fn operations() -> Vec<Operation> {
    let document = control::openapi();
    let paths = document["paths"].as_object().expect("paths").clone();
    let of_path = |(path, methods): (String, Value)| {
        let methods = methods.as_object().expect("methods").clone();
        methods.into_iter().map(move |(method, described)| Operation { method: method.to_uppercase(), path: path.clone(), described })
    };
    paths.into_iter().flat_map(of_path).collect()
}

impl Operation {
    /// The path with these in the places of its parameters.
    fn at(&self, mut value: impl FnMut(&str) -> String) -> String {
        let parts = self.path.split('/').map(|it| match it.strip_prefix('{').and_then(|it| it.strip_suffix('}')) {
            Some(name) => value(name),
            None => it.to_owned(),
        });
        parts.collect::<Vec<_>>().join("/")
    }

    fn scope(&self) -> &str {
        self.described["security"][0]["bearer"][0].as_str().expect("a scope")
    }
}

fn is_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.body["status"].as_u64()), (status, Some(u64::from(status))), "{answer:?}");
    assert_eq!(answer.body["code"], code, "{answer:?}");
    assert_eq!(answer.body["type"], format!("urn:whatsapp-channel:problem:{code}"), "{answer:?}");
    assert!(answer.body["title"].as_str().is_some_and(|it| !it.is_empty()), "{answer:?}");
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    is_safe(answer);
}

fn is_safe(answer: &Answer) {
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
}

#[test]
fn the_description_that_is_committed_is_the_one_that_is_served() {
    let committed: Value = serde_json::from_str(&committed()).expect("JSON");
    assert_eq!(committed, control::openapi(), "run the test again with UPDATE_OPENAPI=1, and look at what has changed");
    assert_eq!(committed["openapi"], "3.1.0");
}

#[test]
fn every_reference_of_the_description_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|it| references(it, found));
            }
            Value::Array(items) => items.iter().for_each(|it| references(it, found)),
            _ => {}
        }
    }
    let document = control::openapi();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(!found.is_empty());
    for it in found {
        assert!(document.pointer(it.strip_prefix('#').expect("of this document")).is_some(), "{it}");
    }
}

#[test]
fn operations_are_named_once_and_say_all_of_their_path() {
    let mut names: Vec<String> = operations().iter().map(|it| it.described["operationId"].as_str().expect("a name").to_owned()).collect();
    names.sort();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
    for it in operations() {
        let parameters = it.described["parameters"].as_array().expect("a list");
        let named = parameters.iter().filter(|it| it["in"] == "path").map(|it| it["name"].as_str().expect("a name"));
        let mut named: Vec<String> = named.map(str::to_owned).collect();
        let mut in_path = Vec::new();
        it.at(|name| {
            in_path.extend((!in_path.contains(&name.to_owned())).then(|| name.to_owned()));
            String::new()
        });
        in_path.sort();
        named.sort();
        assert_eq!(named, in_path, "{}", it.path);
    }
}

#[tokio::test]
async fn the_description_is_served_to_everybody() {
    let world = World::new().await;
    let request = http::Request::get("/v1/openapi.json").body(Body::Empty).expect("a request");
    let answer = world.asks_api("demo", request).await;
    assert_eq!((answer.status, answer.body.clone()), (200, control::openapi()));
    is_safe(&answer);
}

#[tokio::test]
async fn nobody_is_let_in_without_a_token_that_is_good() {
    let world = World::new().await;
    for it in operations() {
        for authorization in [None, Some("Bearer token-of-stranger"), Some("Basic ZGVtbzpkZW1v"), Some("Bearer ")] {
            let mut request = http::Request::builder().method(it.method.as_str()).uri(it.at(|_| "demo".to_owned()));
            if let Some(value) = authorization {
                request = request.header("authorization", value);
            }
            let answer = world.asks_api("demo", request.body(Body::Empty).expect("a request")).await;
            is_problem(&answer, 401, "unauthorized");
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
        }
    }
}

#[tokio::test]
async fn what_is_nowhere_or_is_not_done_is_a_problem_too() {
    let world = World::new().await;
    for path in ["/v1", "/v1/", "/v1/nothing", "/v1/connections/demo/nothing", "/", "/v2/connections"] {
        is_problem(&world.api_of("demo", "GET", path, &[], None).await, 404, "not_found");
    }
    is_problem(&world.api_of("demo", "PATCH", "/v1/connections/demo/logs", &[], None).await, 405, "method_not_allowed");
}

#[tokio::test]
async fn a_failure_says_that_it_happened_and_no_more() {
    let world = World::new().await;
    world.dynamo.faults().add(Rule::every(Fault::InternalError).by("control").of("GetItem"));
    let answer = world.api_of("demo", "GET", "/v1/connections/demo/logs", &[], None).await;
    is_problem(&answer, 503, "unavailable");
    assert_eq!(answer.body.as_object().expect("an object").len(), 4, "{answer:?}");
    assert_eq!(answer.headers["retry-after"], "5");
}

/// What of the demo tenant's is named in the places of parameters.
struct Own {
    conversation: String,
    at: String,
    message: String,
    /// The customer's message that has a file.
    with_file: (String, String),
}

impl Own {
    async fn of(world: &World) -> Self {
        world.writes(ANA, "hello");
        world.settle().await;
        let conversation = world.conversation(ANA).await.id.to_string();
        let (_, page) = world.api("GET", &format!("/v1/conversations/{conversation}/messages"), None).await;
        let key = page["items"][0]["id"].as_str().expect("a message").to_owned();
        let parts = |key: &str| {
            let mut parts = key.splitn(3, '/').skip(1).map(str::to_owned);
            (parts.next().expect("a time"), parts.next().expect("an id"))
        };
        let (at, message) = parts(&key);
        world.agent_is_silent();
        world.writes_to(NUMBER, ANA, Inbound::Image(File::default()));
        world.settle().await;
        let with_file = parts(&world.turns().last().expect("a turn").turn);
        Self { conversation, at, message, with_file }
    }

    /// The same, of a message with a file, where an operation is about files.
    fn named_for(&self, operation: &Operation, parameter: &str) -> String {
        match parameter {
            "at" if operation.path.ends_with("/media") => self.with_file.0.clone(),
            "message" if operation.path.ends_with("/media") => self.with_file.1.clone(),
            other => self.named(other),
        }
    }

    fn named(&self, parameter: &str) -> String {
        match parameter {
            "connection" => "demo".to_owned(),
            "agent" => "example".to_owned(),
            "number" => NUMBER.to_owned(),
            "template" => OFFER.to_owned(),
            "language" => LANGUAGE.to_owned(),
            "conversation" => self.conversation.clone(),
            "at" => self.at.clone(),
            "message" => self.message.clone(),
            other => panic!("a new parameter: say what the demo tenant has of `{other}`"),
        }
    }

    /// The query and the body with which an operation is done; nothing where it takes none.
    fn asked(operation: &Operation) -> (&'static str, Option<Value>) {
        let id = operation.described["operationId"].as_str().expect("a name");
        let text = json!({ "type": "text", "text": "Good morning" });
        let template = json!({ "template": OFFER, "language": LANGUAGE, "values": { "body": ["Ana"] } });
        let body = match id {
            "createConnection" => json!({ "name": "Shop", "access_token": "EAAG0000000000", "business_account_id": "300000000000009" }),
            "editConnection" => json!({ "description": "of the shop" }),
            "makeUpload" => json!({ "content_type": "application/pdf", "size": 20481 }),
            "attachAgent" => json!({ "agent": "example" }),
            "changeAgent" => json!({ "inbound": true, "quiet_ms": 500, "delivery": { "https": { "url": "https://agent.example/turns" } } }),
            "startConversation" => {
                let mut body = template;
                body["connection"] = "demo".into();
                body["to"] = json!({ "phone": "34600999888" });
                body
            }
            "sendMessage" => json!({ "message": text }),
            "sendTemplate" => template,
            "previewTemplate" => json!({ "values": { "body": ["Ana"] } }),
            "startConnection" | "resendMessage" => json!({}),
            "embeddedSignup" => json!({ "name": "Shop", "code": "code-1", "business_account_id": WABA }),
            "requestCode" => json!({ "language": "es" }),
            "verifyCode" => json!({ "code": meta_sim::SMS_CODE }),
            "registerNumber" => json!({ "pin": "246810" }),
            "putContact" => json!({ "fields": { "name": "Ana" } }),
            "putWishes" => json!({ "opt_out": true }),
            "listConversations" => return ("?connection=demo", None),
            _ => {
                assert!(operation.described.get("requestBody").is_none(), "a new body: say what {id} is asked with");
                return ("", None);
            }
        };
        ("", Some(body))
    }
}

async fn ask(world: &World, tenant: &str, own: &Own, it: &Operation) -> Answer {
    let (query, body) = Own::asked(it);
    let path = format!("{}{query}", it.at(|name| own.named_for(it, name)));
    let tagged = if it.path.ends_with("/contact") { it.at(|name| own.named(name)) } else { "/v1/connections/demo".to_owned() };
    let version = world.api_of("demo", "GET", &tagged, &[], None).await.headers["etag"].to_str().expect("text").to_owned();
    let key = format!("{}-{}", it.path, it.method);
    world.api_of(tenant, &it.method, &path, &[("if-match", &version), ("idempotency-key", &key)], body).await
}

#[tokio::test]
async fn nothing_of_another_tenant_is_there_on_any_route() {
    let world = World::new().await;
    let own = Own::of(&world).await;
    for it in operations() {
        let id = it.described["operationId"].as_str().expect("a name");
        let before = world.dynamo.dump().expect("the engine answers");
        let answer = ask(&world, "stranger", &own, &it).await;
        match id {
            "listConnections" => assert_eq!((answer.status, &answer.body), (200, &json!({ "items": [] }))),
            "createConnection" => assert_eq!(answer.status, 201, "{answer:?}"),
            "embeddedSignup" => is_problem(&answer, 409, "server_app_missing"),
            _ => {
                is_problem(&answer, 404, "not_found");
                assert_eq!(world.dynamo.dump().expect("the engine answers"), before, "{id} has changed something");
            }
        }
        assert!(!answer.body.to_string().contains("example"), "{answer:?}");
    }
    // The same by whom it belongs to: so it was not refused for anything else.
    for it in operations() {
        let id = it.described["operationId"].as_str().expect("a name");
        // What ends what the others need comes in a world of its own.
        let world = World::new().await;
        let own = Own::of(&world).await;
        if id == "requestCode" {
            world.meta.change_number(NUMBER, |it| it.code_verification_status = "NOT_VERIFIED".to_owned()).expect("there");
        }
        let answer = ask(&world, "demo", &own, &it).await;
        world.may_leave_messages();
        if id == "embeddedSignup" {
            is_problem(&answer, 409, "server_app_missing");
            continue;
        }
        if id == "resendMessage" {
            // What is named has arrived, and only what failed is sent again.
            is_problem(&answer, 409, "arrived");
            continue;
        }
        assert!((200..300).contains(&answer.status), "{id}: {answer:?}");
        assert!(
            it.described["responses"].get(answer.status.to_string()).is_some(),
            "{id} answers {}, which is not described",
            answer.status
        );
        is_safe(&answer);
    }
    world.may_leave_messages();
}

#[tokio::test]
async fn every_wrong_field_of_a_body_is_named_at_once_and_none_is_repeated() {
    let world = World::new().await;
    let body = json!({
        "name": "  ", "app_id": "an app", "app_secret": "has a blank", "phone_number_ids": ["1,1"], "business_account_id": 7, "colour": "red",
    });
    let answer = world.api_of("demo", "POST", "/v1/connections", &[], Some(body)).await;
    is_problem(&answer, 422, "invalid");
    let expected = json!([
        { "field": "business_account_id", "code": "invalid", "detail": "It must be as this: a string." },
        { "field": "colour", "code": "unknown", "detail": "There is no such field." },
    ]);
    assert_eq!(answer.body["errors"], expected);
    let body = json!({ "app_id": "an app", "app_secret": "has a blank", "phone_number_ids": ["1,1"] });
    let answer = world.api_of("demo", "POST", "/v1/connections", &[], Some(body)).await;
    is_problem(&answer, 422, "invalid");
    let told: Vec<String> =
        answer.body["errors"].as_array().expect("a list").iter().map(|it| format!("{} {}", it["field"], it["code"])).collect();
    let expected = [
        r#""access_token" "required""#,
        r#""app_id" "malformed""#,
        r#""app_secret" "malformed""#,
        r#""business_account_id" "required""#,
        r#""name" "required""#,
        r#""phone_number_ids" "repeated""#,
    ];
    assert_eq!(told, expected, "{answer:?}");
    assert!(!answer.body.to_string().contains("has a blank"), "a secret is not said back");
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_a_problem() {
    let world = World::new().await;
    let bodies: [(&str, Body, u16, &str); 5] = [
        ("application/json", Body::Text("{".to_owned()), 400, "malformed"),
        ("application/json", Body::Text("[]".to_owned()), 400, "malformed"),
        ("application/json", Body::Binary(vec![0xff, 0xfe]), 400, "malformed"),
        ("text/plain", Body::Text("{}".to_owned()), 415, "not_json"),
        ("application/json", Body::Text(format!("\"{}\"", "x".repeat(800_000))), 413, "too_large"),
    ];
    for (kind, body, status, code) in bodies {
        let request = http::Request::post("/v1/connections").header("authorization", "Bearer token-of-demo").header("content-type", kind);
        is_problem(&world.asks_api("demo", request.body(body).expect("a request")).await, status, code);
    }
}

/// An issuer of tokens on this machine, with one key.
struct IssuerHere {
    name: String,
    key: EcdsaKeyPair,
    /// How often its keys were asked for.
    asked: Arc<AtomicUsize>,
    /// It answers with failures only.
    is_down: Arc<AtomicBool>,
}

impl IssuerHere {
    async fn new() -> Self {
        let random = ring::rand::SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).expect("a key");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port on this machine");
        let name = format!("http://{}", listener.local_addr().expect("bound"));
        let point = key.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|it| URL_SAFE_NO_PAD.encode(it));
        let keys = json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": "one", "use": "sig", "x": x, "y": y }] });
        let metadata = json!({ "issuer": name, "jwks_uri": format!("{name}/keys") });
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let is_down = Arc::new(AtomicBool::new(false));
        let down = is_down.clone();
        let served_keys = async move || {
            count.fetch_add(1, Ordering::Relaxed);
            match down.load(Ordering::Relaxed) {
                true => Err(http::StatusCode::INTERNAL_SERVER_ERROR),
                false => Ok(axum::Json(keys)),
            }
        };
        let routes = axum::Router::new()
            .route("/.well-known/openid-configuration", axum::routing::get(async move || axum::Json(metadata)))
            .route("/keys", axum::routing::get(served_keys));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { name, key, asked, is_down }
    }

    fn access(&self) -> Access {
        let issuer = Issuer::new(self.name.as_str(), true).expect("an address on this machine");
        Access::Issuer { issuer, audience: "channel".to_owned(), tenant_claim: "tenant".to_owned() }
    }

    /// A token for the demo tenant with these scopes, an hour in force, signed under this name of a key.
    fn token(&self, world: &World, scope: &str, key_id: &str) -> String {
        let encode = |it: Value| URL_SAFE_NO_PAD.encode(it.to_string());
        let expires_at = world.clock.now_ms() / 1_000 + 3_600;
        let claims = json!({ "iss": self.name, "aud": "channel", "exp": expires_at, "tenant": "demo", "scope": scope, "sub": "eva" });
        let signed = format!("{}.{}", encode(json!({ "alg": "ES256", "kid": key_id })), encode(claims));
        let signature = self.key.sign(&ring::rand::SystemRandom::new(), signed.as_bytes()).expect("it can sign");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

async fn with_token(world: &World, router: &axum::Router, method: &str, path: &str, token: &str) -> (u16, Value) {
    let request = http::Request::builder().method(method).uri(path).header("authorization", format!("Bearer {token}"));
    let response = control::handle(router, request.body(Body::Empty).expect("a request"), world.now()).await;
    (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap_or_default())
}

#[tokio::test]
async fn every_route_asks_for_its_scope() {
    let world = World::new().await;
    let issuer = IssuerHere::new().await;
    let router = control::router(world.control(issuer.access()));
    for it in operations() {
        let path = it.at(|_| "0".to_owned());
        for scope in Scope::ALL {
            let (status, body) = with_token(&world, &router, &it.method, &path, &issuer.token(&world, scope.name(), "one")).await;
            let is_let_in = (status, &body["code"]) != (403, &json!("scope_missing"));
            assert_eq!(is_let_in, scope.name() == it.scope(), "{} {path} with {scope:?}: {body}", it.method);
            assert_ne!(status, 401, "{body}");
        }
    }
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 1, "the keys are remembered");
}

#[tokio::test]
async fn a_token_that_another_signed_is_refused_and_the_issuer_is_asked_once_a_minute() {
    let world = World::new().await;
    let (issuer, stranger) = (IssuerHere::new().await, IssuerHere::new().await);
    let router = control::router(world.control(issuer.access()));
    let forged = IssuerHere { name: issuer.name.clone(), ..stranger };
    let ask = async |token: String| with_token(&world, &router, "GET", "/v1/connections", &token).await.0;
    assert_eq!(ask(issuer.token(&world, "read", "one")).await, 200);
    assert_eq!(ask(forged.token(&world, "read", "one")).await, 401);
    for _ in 0..5 {
        assert_eq!(ask(issuer.token(&world, "read", "two")).await, 401, "there is no such key");
    }
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 1);
    world.clock.advance(std::time::Duration::from_mins(2));
    assert_eq!(ask(issuer.token(&world, "read", "two")).await, 401);
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 2, "the key may be new");
    let early = issuer.token(&world, "read", "one");
    world.clock.advance(std::time::Duration::from_hours(2));
    assert_eq!(ask(early).await, 401, "it is not in force any more");
}

#[tokio::test]
async fn keys_hold_for_a_day_while_their_issuer_does_not_answer() {
    let world = World::new().await;
    let issuer = IssuerHere::new().await;
    let router = control::router(world.control(issuer.access()));
    let ask = async || with_token(&world, &router, "GET", "/v1/connections", &issuer.token(&world, "read", "one")).await.0;
    assert_eq!(ask().await, 200);
    issuer.is_down.store(true, Ordering::Relaxed);
    world.clock.advance(std::time::Duration::from_hours(2));
    for _ in 0..5 {
        assert_eq!(ask().await, 200);
    }
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 2, "it is left in peace for a minute");
    world.clock.advance(std::time::Duration::from_hours(23));
    assert_eq!(ask().await, 503, "a key may have been withdrawn");
    issuer.is_down.store(false, Ordering::Relaxed);
    assert_eq!(ask().await, 200);
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_is_a_failure_and_no_refusal() {
    let world = World::new().await;
    let issuer = IssuerHere::new().await;
    let elsewhere = IssuerHere { name: "http://127.0.0.1:1".to_owned(), ..issuer };
    let router = control::router(world.control(elsewhere.access()));
    let (status, body) = with_token(&world, &router, "GET", "/v1/connections", &elsewhere.token(&world, "read", "one")).await;
    assert_eq!((status, &body["code"]), (503, &json!("unavailable")));
}
