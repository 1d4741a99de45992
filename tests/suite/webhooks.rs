//! Webhooks, hostile and otherwise: what is not Meta's is refused without a word, what is Meta's is kept whole, and nothing harms its neighbours.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use channel::connections::{ConnectionEdit, Edited, NewConnection, StartOptions, Started};
use channel::vault::Secret;
use domain::connection::State;
use domain::ids::{AppId, ConnectionId, NumberId, TenantId, WabaId};
use domain::message::Content;
use lambda_http::http::{Method, Request, StatusCode};
use lambda_http::{Body, RequestExt as _};
use meta_sim::{Account, App, Mode, Setup, Simulator, Token};
use proptest::prelude::*;
use serde_json::{Value, json};
use world::mapping::Delivery;
use world::story::{
    ACCESS_TOKEN, ANA, APP, APP_SECRET, NUMBER, OTHER_NUMBER, SECRET_OVERLAP, VERIFY_TOKEN, WABA, World, connection_id, demo,
};
use world::wire::{Fault, Rule};

use crate::{in_each_way, in_every_way};

const BEN: &str = "34600333444";
/// Of another tenant: its app, account and number.
const FOREIGN_APP: &str = "200000000000009";
const FOREIGN_SECRET: &str = "another-app-secret";
const FOREIGN_TOKEN: &str = "another-access-token";
const FOREIGN_NUMBER: &str = "100000000000009";
/// A number that no connection holds.
const NOBODYS_NUMBER: &str = "100000000000077";
/// Meta's time of what these tests make up, in seconds.
const AT: i64 = 1_772_442_000;

/// The other tenant's connection, on an account of its own or on one that the demo connection uses too.
fn foreign(waba: &str) -> NewConnection {
    NewConnection {
        id: ConnectionId::parse("other").expect("an id"),
        tenant: TenantId::parse("other").expect("an id"),
        app: AppId::parse(FOREIGN_APP).expect("an id"),
        app_secret: Secret::new(FOREIGN_SECRET),
        waba: WabaId::parse(waba).expect("an id"),
        numbers: vec![NumberId::parse(FOREIGN_NUMBER).expect("an id")],
        access_token: Secret::new(FOREIGN_TOKEN),
        ..demo()
    }
}

/// The other tenant's connection runs: Meta knows its token for that account.
async fn install_foreign(world: &World, waba: &str) {
    world.meta.put_app(App::new(FOREIGN_APP, FOREIGN_SECRET));
    if waba != WABA {
        world.meta.put_account(Account::new(waba, FOREIGN_APP));
    }
    world.meta.put_token(Token::new(FOREIGN_TOKEN, FOREIGN_APP, &[waba]));
    assert!(world.install(&foreign(waba)).await, "nothing of it is there yet");
}

fn signed(secret: &str, body: &[u8]) -> String {
    meta_sim::signature(secret, body)
}

fn entry(changes: &[Value]) -> Value {
    json!({ "id": WABA, "time": AT, "changes": changes })
}

fn envelope(changes: &[Value]) -> Value {
    json!({ "object": "whatsapp_business_account", "entry": [entry(changes)] })
}

fn change(field: &str, value: &Value) -> Value {
    json!({ "field": field, "value": value })
}

/// A change under `messages` of a number.
fn of_number(number: &str, list: &str, elements: &[Value]) -> Value {
    let metadata = json!({ "display_phone_number": "15550100001", "phone_number_id": number });
    change("messages", &json!({ "messaging_product": "whatsapp", "metadata": metadata, list: elements }))
}

fn text(id: &str, from: &str, words: &str) -> Value {
    json!({ "id": id, "from": from, "timestamp": AT.to_string(), "type": "text", "text": { "body": words } })
}

/// What was kept in the quarantine: its reasons, and the bytes joined again.
fn quarantined(world: &World) -> (BTreeMap<String, u64>, Vec<u8>) {
    let mut pieces = world.lying_in("QuarantineQueue");
    pieces.sort_by_key(|it| it["piece"].as_u64());
    let reasons = pieces.first().map_or_else(BTreeMap::new, |it| serde_json::from_value(it["reasons"].clone()).expect("reasons"));
    let bytes = pieces.iter().flat_map(|it| STANDARD.decode(it["body"].as_str().expect("a piece")).expect("base64")).collect();
    (reasons, bytes)
}

/// All that a refusal lets whoever asks see.
async fn seen(world: &World, request: Request<Body>) -> (StatusCode, Vec<(String, String)>, Vec<u8>) {
    let response = world.asks(request).await;
    let headers = response.headers().iter().map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned())).collect();
    (response.status(), headers, response.body().to_vec())
}

fn post(path: &str, headers: &[(&str, &str)], body: &[u8]) -> Request<Body> {
    let request = headers.iter().fold(Request::post(path), |it, (name, value)| it.header(*name, *value));
    request.body(Body::from(body.to_vec())).expect("a request")
}

fn get(path: &str, query: &[(&str, &str)]) -> Request<Body> {
    let parameters: std::collections::HashMap<String, Vec<String>> =
        query.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()])).collect();
    Request::get(path).body(Body::Empty).expect("a request").with_query_string_parameters(parameters)
}

#[tokio::test]
async fn every_refusal_is_the_same_empty_answer() {
    let world = World::new().await;
    install_foreign(&world, "300000000000009").await;
    let before = world.sqs.labels();
    let body = envelope(&[of_number(NUMBER, "messages", &[text("wamid.1", ANA, "hello")])]).to_string().into_bytes();
    let path = format!("/webhooks/{APP}");
    let good = signed(APP_SECRET, &body);
    let header = "X-Hub-Signature-256";
    let mut hostile = vec![
        ("another secret", post(&path, &[(header, &signed("guess", &body))], &body)),
        ("another app's secret", post(&path, &[(header, &signed(FOREIGN_SECRET, &body))], &body)),
        ("another body's signature", post(&path, &[(header, &signed(APP_SECRET, b"{}"))], &body)),
        ("no signature", post(&path, &[], &body)),
        ("an empty signature", post(&path, &[(header, "")], &body)),
        ("no digits", post(&path, &[(header, "sha256=")], &body)),
        ("digits without a prefix", post(&path, &[(header, &good[7..])], &body)),
        ("too few digits", post(&path, &[(header, &good[..70])], &body)),
        ("no hexadecimal digits", post(&path, &[(header, &format!("sha256={}", "g".repeat(64)))], &body)),
        ("bytes that are no text", post(&path, &[(header, "sha256=ñ")], &body)),
        ("the older signature only", post(&path, &[("X-Hub-Signature", &format!("sha1={}", "0".repeat(40)))], &body)),
        ("the older name", post(&path, &[("X-Hub-Signature", &good)], &body)),
        ("an app that nobody has", post("/webhooks/999", &[(header, &good)], &body)),
        ("another tenant's app", post(&format!("/webhooks/{FOREIGN_APP}"), &[(header, &good)], &body)),
        ("an app that is no number", post("/webhooks/..%2F..%2Fetc", &[(header, &good)], &body)),
        ("an app that is a key", post("/webhooks/APP%23200000000000001", &[(header, &good)], &body)),
        ("an endless app", post(&format!("/webhooks/{}", "1".repeat(4_000)), &[(header, &good)], &body)),
        ("no app", post("/webhooks/", &[(header, &good)], &body)),
        ("no path", post("/", &[(header, &good)], &body)),
        ("a path beyond", post(&format!("{path}/more"), &[(header, &good)], &body)),
        ("no body", post(&path, &[(header, &good)], b"")),
        ("a handshake without parameters", get(&path, &[])),
        ("a wrong verify token", get(&path, &[("hub.mode", "subscribe"), ("hub.verify_token", "guess"), ("hub.challenge", "1")])),
        ("no verify token", get(&path, &[("hub.mode", "subscribe"), ("hub.challenge", "1")])),
        ("an empty verify token", get(&path, &[("hub.mode", "subscribe"), ("hub.verify_token", ""), ("hub.challenge", "1")])),
        ("no challenge", get(&path, &[("hub.mode", "subscribe"), ("hub.verify_token", VERIFY_TOKEN)])),
        ("another mode", get(&path, &[("hub.mode", "unsubscribe"), ("hub.verify_token", VERIFY_TOKEN), ("hub.challenge", "1")])),
        (
            "nobody's handshake",
            get("/webhooks/999", &[("hub.mode", "subscribe"), ("hub.verify_token", VERIFY_TOKEN), ("hub.challenge", "1")]),
        ),
    ];
    for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::CONNECT] {
        let request = Request::builder().method(method).uri(&path).header(header, &good);
        hostile.push(("another method", request.body(Body::from(body.clone())).expect("a request")));
    }
    for (what, request) in hostile {
        assert_eq!(seen(&world, request).await, (StatusCode::FORBIDDEN, Vec::new(), Vec::new()), "{what}");
        // So that the next one is not spared a look into the store.
        world.clock.advance(Duration::from_secs(2));
    }
    assert_eq!(world.sqs.labels(), before, "nothing of it is kept");
    assert_eq!(seen(&world, post(&path, &[(header, &good)], &body)).await, (StatusCode::OK, Vec::new(), Vec::new()), "and Meta is heard");
    world.settle().await;
    assert_eq!(world.words_told(), ["hello"]);
}

#[tokio::test]
async fn one_flipped_bit_anywhere_is_refused() {
    let world = World::new().await;
    let before = world.sqs.labels();
    let body = envelope(&[of_number(NUMBER, "messages", &[text("wamid.1", ANA, "hello")])]).to_string().into_bytes();
    let (path, good) = (format!("/webhooks/{APP}"), signed(APP_SECRET, &body));
    for bit in 0..body.len() * 8 {
        let mut flipped = body.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(world.post_bytes(&path, &flipped, Some(&good)).await, 403, "bit {bit} of the body");
    }
    for at in 7..good.len() {
        let mut flipped = good.clone().into_bytes();
        flipped[at] = if flipped[at] == b'0' { b'1' } else { b'0' };
        let flipped = String::from_utf8(flipped).expect("ASCII");
        assert_eq!(world.post_bytes(&path, &body, Some(&flipped)).await, 403, "digit {at} of the signature");
    }
    assert_eq!(world.sqs.labels(), before);
    assert_eq!(world.post_bytes(&path, &body, Some(&good.to_uppercase().replace("SHA256", "sha256"))).await, 200, "digits of either case");
    world.settle().await;
}

#[tokio::test]
async fn metas_check_of_the_callback_gets_its_challenge_back_as_plain_text() {
    let world = World::new().await;
    let query = [("hub.mode", "subscribe"), ("hub.verify_token", VERIFY_TOKEN), ("hub.challenge", "1158201444<b>")];
    let (status, headers, body) = seen(&world, get(&format!("/webhooks/{APP}"), &query)).await;
    assert_eq!((status, body.as_slice()), (StatusCode::OK, b"1158201444<b>".as_slice()));
    // Else a browser that was led here would run what the address says.
    assert_eq!(headers, [("content-type".to_owned(), "text/plain; charset=utf-8".to_owned())]);
    assert_eq!(world.checks_callback(&format!("/webhooks/{APP}"), &query).await, (200, "1158201444<b>".to_owned()));
}

#[tokio::test]
async fn three_megabytes_with_a_thousand_updates_of_several_numbers_and_customers_are_kept_whole() {
    let world = World::new().await;
    world.agent_is_silent();
    let customers: Vec<String> = (0..8).map(|it| format!("3460055500{it}")).collect();
    world.meta.set_mode(Mode { batch: 1_000, ..Mode::default() });
    let mut written: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for serial in 0..1_000 {
        let (who, number) = (&customers[serial % 8], [NUMBER, OTHER_NUMBER][serial / 8 % 2]);
        let words = format!("{serial} {}", "x".repeat(2_750));
        world.meta.customer_writes(who, number, words.as_str()).expect("writes");
        written.entry(format!("{who} {number}")).or_default().push(serial.to_string());
    }
    let webhooks = world.meta.take_webhooks();
    let [webhook] = webhooks.as_slice() else { panic!("{} bodies", webhooks.len()) };
    assert!((2_900_000..=3 << 20).contains(&webhook.body.len()), "{} bytes", webhook.body.len());
    assert_eq!(world.post(webhook).await, 200);
    world.meta.answered(webhook.id, 200);
    world.settle().await;
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for turn in world.turns() {
        let serial = world::story::words(&turn.content).split(' ').next().unwrap_or_default().to_owned();
        told.entry(format!("{} {}", turn.customer.phone().expect("a phone").digits(), turn.number)).or_default().push(serial);
    }
    assert_eq!(told, written, "every customer's words, in order, each once");
}

#[tokio::test]
async fn what_is_not_known_is_kept_by_name_and_answered_200_and_harms_no_neighbour() {
    let world = World::new().await;
    let status = |step: &str| json!({ "id": "wamid.out", "status": step, "timestamp": AT.to_string(), "recipient_id": ANA });
    let body = json!({ "object": "whatsapp_business_account", "signed_by": "Meta", "entry": [
        { "id": WABA, "mood": "good", "changes": [
            change("message_dreams", &json!({ "dreams": [1] })),
            of_number(NUMBER, "messages", &[
                json!({ "id": "wamid.kind", "from": ANA, "timestamp": AT.to_string(), "type": "hologram", "hologram": { "size": 3 } }),
                json!({ "from": ANA, "timestamp": AT.to_string(), "type": "text", "text": { "body": "without an id" } }),
                json!({ "id": "wamid.nobody", "timestamp": AT.to_string(), "type": "text", "text": { "body": "from nobody" } }),
                json!("not even an object"),
            ]),
            of_number(NUMBER, "statuses", &[status("sent"), status("teleported"), json!({ "id": "wamid.out" })]),
            of_number(NUMBER, "telegrams", &[json!({})]),
            change("messages", &json!("a text")),
            change("messages", &Value::Null),
            json!(7),
        ] },
        "not an entry",
        entry(&[of_number(NUMBER, "messages", &[text("wamid.good", BEN, "hello")])]),
    ] });
    assert_eq!(world.posts(&body).await, 200);
    let (reasons, bytes) = quarantined(&world);
    let named: Vec<(&str, u64)> = reasons.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    let expected = [
        ("empty:messages.value", 1),
        ("no_id:messages.messages", 1),
        ("nobody:messages.messages", 1),
        ("unknown_field:message_dreams", 1),
        ("unknown_member:entry.mood", 1),
        ("unknown_member:messages.telegrams", 1),
        ("unknown_member:signed_by", 1),
        ("unknown_value:messages.statuses.status=", 1),
        ("unknown_value:messages.statuses.status=teleported", 1),
        ("unreadable:entry", 1),
        ("unreadable:entry.changes", 1),
        ("unreadable:messages.messages", 1),
        ("unreadable:messages.value", 1),
    ];
    assert_eq!(named, expected);
    let kept = String::from_utf8(bytes).expect("text");
    for raw in ["{\"dreams\":[1]}", "without an id", "from nobody", "not even an object", "teleported", "good", "not an entry"] {
        assert!(kept.contains(raw), "{raw} is not kept: {kept}");
    }
    world.settle().await;
    let mut words = world.words_told();
    words.sort();
    assert_eq!(words, ["hello", "unsupported"], "a kind that nobody knows is told as such, the neighbour as ever");
}

#[tokio::test]
async fn a_signed_body_that_is_no_json_is_kept_in_pieces_whose_bytes_join_to_it() {
    for bytes in [b"<html>".to_vec(), Vec::new(), (0..3_000_000_u32).flat_map(|it| it.to_le_bytes()).take(3_000_000).collect()] {
        let world = World::new().await;
        let answer = world.post_bytes(&format!("/webhooks/{APP}"), &bytes, Some(&signed(APP_SECRET, &bytes))).await;
        assert_eq!(answer, 200, "repeating it would bring the same");
        let (reasons, kept) = quarantined(&world);
        assert_eq!((reasons, kept == bytes), (BTreeMap::from([("not_json".to_owned(), 1)]), true), "{} bytes", bytes.len());
        let pieces = world.lying_in("QuarantineQueue");
        assert!(pieces.iter().all(|it| it["pieces"] == pieces.len() && it["app"] == APP));
        assert_eq!(pieces.len(), bytes.len().div_ceil(600 * 1_024).max(1));
    }
}

/// The lines of the quarantine's bytes that hold this mark.
fn quarantined_lines(bytes: &[u8], mark: &str) -> Vec<String> {
    let text = std::str::from_utf8(bytes).expect("text");
    text.lines().filter(|it| it.contains(mark)).map(str::to_owned).collect()
}

#[tokio::test]
async fn what_no_queue_takes_is_kept_by_name_and_in_the_quarantine_and_refuses_no_neighbour() {
    let world = World::new().await;
    let huge = "x".repeat(1_500_000);
    let profile = json!({ "profile": { "name": huge }, "wa_id": BEN });
    let mut of_ben = of_number(NUMBER, "messages", &[text("wamid.ben", BEN, "from ben")]);
    of_ben["value"]["contacts"] = json!([profile]);
    let status = |id: &str, data: &str| json!({ "id": id, "status": "sent", "timestamp": AT.to_string(), "recipient_id": ANA, "biz_opaque_callback_data": data });
    let edit = json!({ "id": "wamid.edit", "from": ANA, "timestamp": AT.to_string(), "type": "edit",
        "edit": { "original_message_id": "wamid.2", "message": { "type": "text", "text": { "body": huge } } } });
    let mut unknown = text("wamid.unknown", ANA, "with a strange member");
    unknown["strange"] = json!(huge);
    let body = envelope(&[
        of_number(
            NUMBER,
            "messages",
            &[
                text("wamid.1", ANA, "before"),
                text("wamid.2", ANA, &format!("huge {huge} end")),
                text("wamid.3", ANA, "after"),
                edit,
                unknown,
            ],
        ),
        of_ben,
        of_number(NUMBER, "statuses", &[status("wamid.o1", "a"), status("wamid.o2", &huge), status("wamid.o3", "c")]),
        change("account_update", &json!({ "event": "DISABLED_UPDATE", "about": huge })),
    ]);
    assert_eq!(world.posts(&body).await, 200);

    let (reasons, bytes) = quarantined(&world);
    let named: Vec<(&str, u64)> = reasons.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    let expected =
        [("oversize:account_update", 1), ("oversize:edit", 1), ("oversize:message", 2), ("oversize:profile", 1), ("oversize:status", 1)];
    assert_eq!(named, expected);
    for mark in ["wamid.2", "wamid.edit", "wamid.unknown", "wamid.o2", "DISABLED_UPDATE"] {
        let lines = quarantined_lines(&bytes, &format!("{mark}\""));
        assert!(lines.iter().any(|it| it.contains(&huge)), "{mark} is not kept whole");
    }
    let probes = world.lying_in("ProbesQueue");
    assert_eq!(probes.iter().map(|it| (&it["field"], it.get("value"))).collect::<Vec<_>>(), [(&json!("account_update"), None)]);
    let told = world.lying_in("StatusesQueue");
    let mut heard: Vec<&str> =
        told.iter().flat_map(|it| it["statuses"].as_array().expect("statuses")).filter_map(|it| it["wamid"].as_str()).collect();
    heard.sort_unstable();
    assert_eq!(heard, ["wamid.o1", "wamid.o2", "wamid.o3"]);

    world.settle().await;
    let mut words = world.words_told();
    words.sort();
    assert_eq!(words, ["after", "before", "from ben", "unsupported", "with a strange member"]);
    let turn = world.turns().into_iter().find(|it| it.wamid.as_str() == "wamid.2").expect("a turn of the large one");
    assert_eq!(turn.content, Content::Unsupported { r#type: "text".to_owned(), raw: String::new() });
}

#[tokio::test]
async fn statuses_travel_in_pieces_that_a_queue_takes() {
    let world = World::new().await;
    let data = "d".repeat(50_000);
    let statuses: Vec<Value> = (0..60)
        .map(|it| {
            json!({ "id": format!("wamid.{it}"), "status": "sent", "timestamp": AT.to_string(), "recipient_id": ANA,
                "biz_opaque_callback_data": data })
        })
        .collect();
    assert_eq!(world.posts(&envelope(&[of_number(NUMBER, "statuses", &statuses)])).await, 200);
    let told = world.lying_in("StatusesQueue");
    let heard: BTreeSet<String> =
        told.iter().flat_map(|it| it["statuses"].as_array().expect("statuses")).map(|it| it["wamid"].to_string()).collect();
    assert_eq!(heard.len(), 60, "each is there");
    assert!(told.iter().all(|it| it.to_string().len() <= 256 * 1_024));
    world.settle().await;
}

#[tokio::test]
async fn nobody_can_sign_for_anothers_number() {
    in_every_way(async |world: &World| {
        // What these customers write does not stand in Meta's books, so it would refuse the agent's answers.
        world.agent_is_silent();
        install_foreign(world, "300000000000009").await;
        let change = |number: &str, id: &str, words: &str| of_number(number, "messages", &[text(id, ANA, words)]);
        let status = json!({ "id": "wamid.out", "status": "failed", "timestamp": AT.to_string(), "recipient_id": ANA });
        let body = envelope(&[
            change(FOREIGN_NUMBER, "wamid.1", "to another tenant"),
            change(NUMBER, "wamid.2", "hello"),
            change(NOBODYS_NUMBER, "wamid.3", "to nobody"),
            change("not a number", "wamid.4", "to nothing"),
            of_number(FOREIGN_NUMBER, "statuses", &[status]),
            json!({ "field": "messages", "value": { "messages": [text("wamid.5", ANA, "to no number")] } }),
            // Another customer: which of two first messages begins a conversation is as the queues deliver them.
            of_number(OTHER_NUMBER, "messages", &[text("wamid.6", BEN, "hello too")]),
        ]);
        assert_eq!(world.posts(&body).await, 200, "dropped, not repeated");
        world.settle().await;
        let mut words = world.words_told();
        words.sort();
        assert_eq!(words, ["hello", "hello too"]);
    })
    .await;
}

#[tokio::test]
async fn account_template_and_number_webhooks_are_reasons_to_ask_for_the_connections_that_they_concern() {
    let world = World::new().await;
    // The same account, used by another tenant under another app: Meta tells each app, and each hears of itself alone.
    install_foreign(&world, WABA).await;
    let notices = [
        ("account_update", json!({ "event": "DISABLED_UPDATE" })),
        ("message_template_status_update", json!({ "event": "PAUSED", "message_template_name": "visit_reminder" })),
        ("phone_number_quality_update", json!({ "display_phone_number": "15550100001", "event": "FLAGGED" })),
        ("security", json!({ "event": "PIN_CHANGED" })),
    ];
    for (field, value) in &notices {
        world.meta.tell_account(WABA, field, value);
    }
    let lost = json!([{ "code": 131_035, "title": "Messages were lost" }]);
    let value = json!({ "messaging_product": "whatsapp", "metadata": { "phone_number_id": OTHER_NUMBER }, "errors": lost });
    assert_eq!(world.posts(&envelope(&[change("messages", &value)])).await, 200);
    let elsewhere = json!({ "object": "whatsapp_business_account",
        "entry": [{ "id": "300000000000008", "time": AT, "changes": [change("account_update", &json!({ "event": "DISABLED_UPDATE" }))] }] });
    assert_eq!(world.posts(&elsewhere).await, 200, "nobody's account is nobody's probe");
    for webhook in world.meta.take_webhooks() {
        assert_eq!(world.post(&webhook).await, 200);
        world.meta.answered(webhook.id, 200);
    }
    let probes = world.lying_in("ProbesQueue");
    let mut fields: Vec<&str> = probes.iter().map(|it| it["field"].as_str().expect("a field")).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["account_update", "errors", "message_template_status_update", "phone_number_quality_update", "security"]);
    assert!(probes.iter().all(|it| it["connection"] == "demo" && it["tenant"] == "demo" && it["waba"] == WABA), "{probes:?}");
    let numbers: BTreeSet<&str> = probes.iter().filter_map(|it| it["number"].as_str()).collect();
    assert_eq!(numbers, BTreeSet::from([OTHER_NUMBER]));
    world.settle().await;
    assert!(world.turns().is_empty());
}

#[tokio::test]
async fn what_the_queues_refuse_meta_repeats_and_everything_comes_once() {
    let refusals = [
        Rule::every(Fault::Throttled).times(1),
        Rule::every(Fault::InternalError).times(1),
        Rule::every(Fault::CutBefore).times(1),
        // SQS has kept it, and the answer is lost.
        Rule::every(Fault::CutAfter).times(1),
        // The second of several calls: what the first one brought is there already.
        Rule::every(Fault::InternalError).after(1).times(1),
        // Single entries, also when they are sent once more.
        Rule::every(Fault::FailedEntries(vec![0, 2])).times(2),
        Rule::every(Fault::FailedEntries((0..10).collect())).times(2),
        Rule::every(Fault::AccessDenied).times(1),
    ];
    for refusal in refusals {
        let rule = &refusal.by("webhook").of("SendMessageBatch");
        in_every_way(async |world: &World| {
            // Meta's ids of answers go by the order of sends, which differs from customer to customer.
            world.agent_is_silent();
            world.meta.set_mode(Mode { batch: 1_000, ..Mode::default() });
            let customers: Vec<String> = (0..12).map(|it| format!("346007770{it:02}")).collect();
            customers.iter().for_each(|who| drop(world.writes(who, "hello")));
            world.sqs.faults().add(rule.clone());
            let webhooks = world.meta.take_webhooks();
            let [webhook] = webhooks.as_slice() else { panic!("{} bodies", webhooks.len()) };
            let answer = world.post(webhook).await;
            assert_eq!(answer, 503, "{rule:?}");
            world.meta.answered(webhook.id, answer);
            world.pass(Duration::from_mins(2)).await;
            let mut told: Vec<String> = world.turns().iter().map(|it| it.customer.phone().expect("a phone").digits().to_owned()).collect();
            told.sort();
            assert_eq!(told, customers, "{rule:?}");
            assert_eq!(world.meta.unsent_webhooks(), 0);
        })
        .await;
    }
}

#[tokio::test]
async fn a_single_entry_that_fails_once_is_sent_once_more_and_nothing_is_repeated() {
    let world = World::new().await;
    world.sqs.faults().add(Rule::every(Fault::FailedEntries(vec![0])).by("webhook").of("SendMessageBatch").times(1));
    world.writes(ANA, "hello");
    let webhooks = world.meta.take_webhooks();
    assert_eq!(world.post(&webhooks[0]).await, 200);
    world.meta.answered(webhooks[0].id, 200);
    world.settle().await;
    assert_eq!(world.words_told(), ["hello"]);
}

#[tokio::test]
async fn with_dynamodb_down_a_webhook_goes_by_what_it_remembers_and_is_repeated_where_it_remembers_nothing() {
    in_every_way(async |world: &World| {
        let before = world.sqs.labels();
        let down = || Rule::every(Fault::InternalError).by("webhook");
        world.dynamo.faults().add(down());
        world.writes(ANA, "cold");
        let webhooks = world.meta.take_webhooks();
        let answer = world.post(&webhooks[0]).await;
        assert_eq!((answer, world.sqs.labels()), (503, before), "nothing is known of this app");
        world.meta.answered(webhooks[0].id, answer);
        world.dynamo.faults().clear();
        world.pass(Duration::from_secs(30)).await;
        assert_eq!(world.words_told(), ["cold"], "Meta has repeated it");

        world.dynamo.faults().add(down());
        world.writes(ANA, "warm");
        world.settle().await;
        assert_eq!(world.words_told(), ["cold", "warm"], "app and owner are remembered for a minute");
        world.clock.advance(Duration::from_mins(1));
        world.writes(ANA, "cold again");
        world.settle().await;
        assert_eq!(world.words_told(), ["cold", "warm"]);
        world.dynamo.faults().clear();
        world.pass(Duration::from_mins(1)).await;
        assert_eq!(world.words_told(), ["cold", "warm", "cold again"]);
    })
    .await;
}

/// Meta signs with another secret from now on.
fn meta_signs_with(meta: &Simulator, secret: &str) {
    let mut app = Setup::demo().apps.remove(0);
    app.secret = secret.to_owned();
    meta.put_app(app);
}

#[tokio::test]
async fn while_a_secret_is_replaced_no_webhook_is_refused() {
    in_every_way(async |world: &World| {
        // Here it is about what Meta signs; the proof beside what we send has a story of its own.
        world.agent_is_silent();
        let mut expected = Vec::new();
        for second in 0..90 {
            match second {
                30 => world.rotate_app_secret("the-new-secret").await,
                // Meta's own servers do not all change at one time.
                40..50 => meta_signs_with(&world.meta, if second % 2 == 0 { "the-new-secret" } else { APP_SECRET }),
                50 => meta_signs_with(&world.meta, "the-new-secret"),
                _ => {}
            }
            if second % 5 == 0 {
                expected.push(second.to_string());
                world.writes(ANA, &second.to_string());
            } else {
                let body = envelope(&[]).to_string().into_bytes();
                let secret = if second < 30 { APP_SECRET } else { ["the-new-secret", APP_SECRET][second % 2] };
                assert_eq!(
                    world.post_bytes(&format!("/webhooks/{APP}"), &body, Some(&signed(secret, &body))).await,
                    200,
                    "second {second}"
                );
            }
            for webhook in world.meta.take_webhooks() {
                let answer = world.post(&webhook).await;
                assert_eq!(answer, 200, "second {second}");
                world.meta.answered(webhook.id, answer);
            }
            world.settle().await;
            world.clock.advance(Duration::from_secs(1));
        }
        assert_eq!(world.words_told(), expected);
    })
    .await;
}

#[tokio::test]
async fn a_secret_that_was_replaced_seconds_ago_stops_no_reply() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        world.settle().await;
        world.clock.advance(Duration::from_secs(2));
        meta_signs_with(&world.meta, "the-new-secret");
        world.rotate_app_secret("the-new-secret").await;
        // The sender remembers the old secret still, and proves with it that we hold the app's.
        world.writes(ANA, "are you there?");
        world.settle().await;
        assert_eq!(world.screen(ANA), ["> hello", "< You said: hello", "> are you there?", "< You said: are you there?"]);
        assert!(world.codes().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_rotation_that_is_not_remembered_yet_is_noticed_at_once_and_the_secret_before_last_is_refused() {
    let world = World::new().await;
    world.writes(ANA, "hello");
    world.settle().await;
    world.clock.advance(Duration::from_secs(1));
    world.rotate_app_secret("second").await;
    let body = envelope(&[]).to_string().into_bytes();
    let path = format!("/webhooks/{APP}");
    let mut answers = Vec::new();
    for secret in ["second", APP_SECRET] {
        answers.push(world.post_bytes(&path, &body, Some(&signed(secret, &body))).await);
    }
    world.clock.advance(Duration::from_secs(1));
    world.rotate_app_secret("third").await;
    for secret in ["third", "second", APP_SECRET] {
        answers.push(world.post_bytes(&path, &body, Some(&signed(secret, &body))).await);
        world.clock.advance(Duration::from_secs(2));
    }
    assert_eq!(answers, [200, 200, 200, 200, 403]);
}

#[tokio::test]
async fn after_the_overlap_the_old_secret_is_refused() {
    let world = World::new().await;
    let (path, body) = (format!("/webhooks/{APP}"), envelope(&[]).to_string().into_bytes());
    let posts = async |secret: &str| world.post_bytes(&path, &body, Some(&signed(secret, &body))).await;
    assert_eq!(posts(APP_SECRET).await, 200);
    world.rotate_app_secret("the-new-secret").await;
    // To the minute: for so long an app is remembered.
    world.clock.advance(SECRET_OVERLAP - Duration::from_mins(1));
    assert_eq!((posts("the-new-secret").await, posts(APP_SECRET).await), (200, 200));
    world.clock.advance(Duration::from_mins(1));
    assert_eq!((posts("the-new-secret").await, posts(APP_SECRET).await), (200, 403));
}

#[tokio::test]
async fn a_connection_that_goes_over_to_another_app_loses_no_webhook_of_it() {
    in_each_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "under the old app");
        world.settle().await;
        world.stop().await;
        world.meta.put_app(App::new(FOREIGN_APP, FOREIGN_SECRET));
        world.meta.put_token(Token::new(FOREIGN_TOKEN, FOREIGN_APP, &[WABA]));
        let edit = ConnectionEdit {
            app: Some(FOREIGN_APP.to_owned()),
            app_secret: Some(Secret::new(FOREIGN_SECRET)),
            access_token: Some(Secret::new(FOREIGN_TOKEN)),
            ..ConnectionEdit::default()
        };
        assert!(matches!(world.edits(&edit).await, Edited::Done(_)));
        assert_eq!(world.starts(&connection_id(), StartOptions::default()).await, Started::Starting);
        world.settle().await;
        assert_eq!(world.state(&connection_id()).await, State::Running, "{:?}", world.logs(&connection_id()).await);
        world.meta.change_account(WABA, |it| it.subscribed.retain(|it, _| it != APP)).expect("there");
        // The owner of the number is remembered with the app before still.
        for text in ["one", "two"] {
            world.writes(ANA, text);
            world.meta.tell_account(WABA, "account_update", &json!({ "event": "X" }));
            world.settle().await;
            world.clock.advance(Duration::from_secs(1));
        }
        assert_eq!(world.words_told(), ["under the old app", "one", "two"]);
        let logs = world.logs(&connection_id()).await;
        assert_eq!(logs.iter().filter(|it| it.contains("account_update")).count(), 2, "so of its account: {logs:?}");
        // The app before signs for nobody any more.
        let forged = envelope(&[of_number(NUMBER, "messages", &[text("wamid.forged", ANA, "forged")])]);
        assert_eq!(world.posts(&forged).await, 200, "dropped, not repeated");
        world.settle().await;
        assert_eq!(world.words_told().len(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_stranger_cannot_make_us_look_more_than_once_a_second() {
    let world = World::new().await;
    let before = world.sqs.labels();
    let looks = || world.dynamo.faults().calls_by("webhook").values().sum::<u64>();
    let asked = async |what: &str, path: &str, body: &[u8], secret: &str| {
        world.dynamo.faults().reset_calls();
        for _ in 0..5 {
            for _ in 0..20 {
                world.post_bytes(path, body, Some(&signed(secret, body))).await;
            }
            world.clock.advance(Duration::from_secs(1));
        }
        (what.to_owned(), looks())
    };
    let nobodys = envelope(&[of_number(NOBODYS_NUMBER, "messages", &[text("wamid.1", ANA, "hello")])]).to_string().into_bytes();
    let account = json!({ "object": "whatsapp_business_account",
        "entry": [{ "id": "300000000000008", "changes": vec![change("account_update", &json!({ "event": "X" })); 50] }] });
    let path = format!("/webhooks/{APP}");
    assert_eq!(asked("an app that nobody has", "/webhooks/999", b"{}", "guess").await.1, 5);
    assert_eq!(asked("a wrong signature", &path, b"{}", "guess").await.1, 5);
    assert_eq!(asked("a number that nobody has", &path, &nobodys, APP_SECRET).await.1, 5, "the app is remembered from before");
    assert_eq!(asked("an account that nobody has", &path, account.to_string().as_bytes(), APP_SECRET).await.1, 5);
    assert_eq!(world.sqs.labels(), before);
    install_foreign(&world, "300000000000009").await;
    let before = world.sqs.labels();
    let anothers = envelope(&[of_number(FOREIGN_NUMBER, "messages", &[text("wamid.1", ANA, "hello")])]).to_string().into_bytes();
    assert_eq!(asked("a number of another app", &path, &anothers, APP_SECRET).await.1, 10, "the number and its connection");
    assert_eq!(world.sqs.labels(), before);
}

#[tokio::test]
async fn apps_and_owners_are_read_once_a_minute_and_nothing_is_written() {
    let world = World::new().await;
    world.agent_is_silent();
    for second in 0..60 {
        world.writes(ANA, &second.to_string());
        // One that has nothing checked: Meta would ask about the callback, which reads the app once more.
        world.meta.tell_account(WABA, "security", &json!({ "event": "X" }));
        world.settle().await;
        world.clock.advance(Duration::from_secs(1));
    }
    let calls = world.dynamo.faults().calls_by("webhook");
    // The app, the number, its connection; the account's connections with that one connection.
    assert_eq!(calls, BTreeMap::from([("GetItem".to_owned(), 4), ("Query".to_owned(), 1)]));
}

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

#[tokio::test]
async fn no_log_line_key_group_or_deduplication_id_holds_a_secret_an_address_a_wamid_or_a_word() {
    let logged = Logged::default();
    let written = logged.clone();
    let subscriber = lambda::logging::subscriber(tracing::Level::TRACE, move || written.clone());
    let _capturing = tracing::subscriber::set_default(subscriber);
    let world = World::new().await;
    world.may_leave_messages();
    let mut wamids = vec![world.writes(ANA, "the customer's words")];
    world.settle().await;
    // Everything that can go wrong on the way, once.
    world.sqs.faults().add(Rule::every(Fault::InternalError).of("SendMessageBatch").times(2));
    world.dynamo.faults().add(Rule::every(Fault::Throttled).times(2));
    wamids.push(world.writes(ANA, "the customer's words"));
    world.pass(Duration::from_mins(3)).await;
    world.meta.fail_next(None, Some(1), meta_sim::Fault::CutAfter);
    wamids.push(world.writes(ANA, "the customer's words"));
    world.pass(Duration::from_mins(3)).await;
    for code in [131_047, 131_056, 131_026, 131_050, 190] {
        world.meta.fail_next(None, Some(1), meta_sim::Fault::Error { code, subcode: None });
        wamids.push(world.writes(ANA, "the customer's words"));
        world.pass(Duration::from_mins(3)).await;
    }
    let body = format!("{{\"v\":1,\"customer\":\"{ANA}\",\"events\":\"the customer's words\"}}");
    for queue in ["InboundQueue", "RepliesQueue"] {
        world.sqs.seed(&world.template.queue(queue).name, &body, Some("g"), Some("d")).expect("is seeded");
    }
    world.sqs.seed(&world.template.queue("StatusesQueue").name, &body, None, None).expect("is seeded");
    world.settle().await;
    world.post_bytes("/webhooks/999", body.as_bytes(), Some("sha256=00")).await;
    world.post_bytes(&format!("/webhooks/{APP}"), body.as_bytes(), Some(&signed("guess", body.as_bytes()))).await;

    let bsuid = world.meta.phone(ANA).usual_user_id();
    let lines = world.meta.phone(ANA).screen();
    wamids.extend(lines.into_iter().map(|it| it.id));
    let mut private = vec![APP_SECRET, VERIFY_TOKEN, ACCESS_TOKEN, ANA, &bsuid, "customer's words", "Customer"];
    private.extend(wamids.iter().map(String::as_str));
    let log = String::from_utf8(logged.0.lock().expect("no panic").clone()).expect("text");
    assert!(log.lines().count() > 2, "the story has failures to tell: {log}");
    let labels = world.sqs.labels().into_iter().flatten().collect::<Vec<_>>().join("\n");
    let tables = world.dynamo.dump().expect("the engine answers");
    let keys: Vec<String> = tables.values().flatten().map(|it| format!("{} {}", it["pk"], it["sk"])).collect();
    assert!(keys.len() > 10 && labels.lines().count() > 10);
    for (where_, told) in [("the log", log), ("groups and deduplication ids", labels), ("keys", keys.join("\n"))] {
        for it in &private {
            assert!(!told.contains(it), "{where_} holds {it}:\n{}", told.lines().find(|line| line.contains(it)).unwrap_or_default());
        }
    }
}

/// One element of a made-up envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    Text,
    UnknownKind,
    Reaction,
    NoId,
    NoTime,
    Nobody,
    Status,
    UnknownStatus,
}

/// One change of a made-up envelope.
#[derive(Debug, Clone)]
enum Change {
    /// Messages and statuses of one number: of ours, another tenant's, nobody's.
    OfNumber(&'static str, Vec<Element>),
    /// Something about the account.
    Notice(&'static str),
    /// A field that nobody knows, or that we have no use for.
    Ignored(&'static str),
    Preference(&'static str),
    Call(&'static str),
    Echo(&'static str),
}

const NUMBERS: [&str; 4] = [NUMBER, OTHER_NUMBER, FOREIGN_NUMBER, NOBODYS_NUMBER];

fn element() -> impl Strategy<Value = Element> {
    use Element::*;
    proptest::sample::select(vec![Text, Text, Text, UnknownKind, Reaction, NoId, NoTime, Nobody, Status, Status, UnknownStatus])
}

fn a_change() -> impl Strategy<Value = Change> {
    let number = || proptest::sample::select(NUMBERS.to_vec());
    prop_oneof![
        4 => (number(), proptest::collection::vec(element(), 1..8)).prop_map(|(number, elements)| Change::OfNumber(number, elements)),
        1 => proptest::sample::select(vec!["account_update", "security", "template_category_update"]).prop_map(Change::Notice),
        1 => proptest::sample::select(vec!["message_dreams", "tracking_events"]).prop_map(Change::Ignored),
        1 => number().prop_map(Change::Preference),
        1 => number().prop_map(Change::Call),
        1 => number().prop_map(Change::Echo),
    ]
}

/// What an envelope must become.
#[derive(Debug, Default, PartialEq, Eq)]
struct Expected {
    events: BTreeSet<String>,
    statuses: BTreeSet<String>,
    /// Preferences have no id.
    preferences: usize,
    probes: usize,
    quarantined: u64,
}

/// Writes envelopes and, by rules of its own, what must become of them.
#[derive(Default)]
struct Author {
    serial: u32,
    expected: Expected,
}

impl Author {
    fn id(&mut self) -> String {
        self.serial += 1;
        format!("wamid.{}", self.serial)
    }

    fn element(&mut self, element: Element, is_ours: bool) -> Value {
        let id = self.id();
        let from = ["34600111222", "34600333444", "34600555666"][self.serial as usize % 3];
        let mut it = text(&id, from, "hello");
        match element {
            Element::Text => {}
            Element::UnknownKind => it["type"] = "hologram".into(),
            Element::Reaction => (it["type"], it["reaction"]) = ("reaction".into(), json!({ "message_id": "wamid.0", "emoji": "👍" })),
            Element::NoId => it["id"] = Value::Null,
            Element::NoTime => it["timestamp"] = "soon".into(),
            Element::Nobody => it["from"] = Value::Null,
            Element::Status => it = json!({ "id": id, "status": "read", "timestamp": AT.to_string(), "recipient_id": from }),
            Element::UnknownStatus => it = json!({ "id": id, "status": "teleported", "timestamp": AT.to_string(), "recipient_id": from }),
        }
        match element {
            Element::Text | Element::UnknownKind if is_ours => drop(self.expected.events.insert(id)),
            // What stands beside a reaction has no place in it, and is kept aside.
            Element::Reaction => {
                self.expected.quarantined += 1;
                self.expected.events.extend(is_ours.then_some(id));
            }
            Element::Status if is_ours => drop(self.expected.statuses.insert(id)),
            Element::Text | Element::UnknownKind | Element::Status => {}
            Element::NoId | Element::NoTime | Element::Nobody | Element::UnknownStatus => self.expected.quarantined += 1,
        }
        // The words stand under `text`, whatever the kind: a member that another kind does not know.
        it
    }

    fn change(&mut self, it: &Change) -> Value {
        let is_ours = |number: &str| [NUMBER, OTHER_NUMBER].contains(&number);
        let metadata = |number: &str| json!({ "phone_number_id": number });
        match it {
            Change::OfNumber(number, elements) => {
                let (statuses, messages): (Vec<Element>, Vec<Element>) =
                    elements.iter().partition(|it| matches!(it, Element::Status | Element::UnknownStatus));
                let messages: Vec<Value> = messages.into_iter().map(|it| self.element(it, is_ours(number))).collect();
                let statuses: Vec<Value> = statuses.into_iter().map(|it| self.element(it, is_ours(number))).collect();
                change("messages", &json!({ "metadata": metadata(number), "messages": messages, "statuses": statuses }))
            }
            Change::Notice(field) => {
                self.expected.probes += 1;
                change(field, &json!({ "event": "X" }))
            }
            Change::Ignored(field) => {
                self.expected.quarantined += 1;
                change(field, &json!({ "event": "X" }))
            }
            Change::Preference(number) => {
                self.expected.preferences += usize::from(is_ours(number));
                self.serial += 1;
                let preference =
                    json!({ "wa_id": ANA, "category": "marketing_messages", "value": "stop", "timestamp": AT + i64::from(self.serial) });
                change("user_preferences", &json!({ "metadata": metadata(number), "user_preferences": [preference] }))
            }
            Change::Call(number) => {
                let id = self.id();
                let call = json!({ "id": id, "from": ANA, "event": "connect", "direction": "USER_INITIATED", "timestamp": AT.to_string() });
                self.expected.events.extend(is_ours(number).then(|| format!("{id}/connect")));
                change("calls", &json!({ "metadata": metadata(number), "calls": [call] }))
            }
            Change::Echo(number) => {
                let id = self.id();
                let echo = json!({ "id": id, "to": ANA, "type": "text", "timestamp": AT.to_string(), "text": { "body": "hello" } });
                self.expected.events.extend(is_ours(number).then_some(id));
                change("smb_message_echoes", &json!({ "metadata": metadata(number), "message_echoes": [echo] }))
            }
        }
    }
}

/// What has become of an envelope.
fn became(world: &World) -> Expected {
    let list = |queue: &str, member: &str| -> Vec<Value> {
        world.lying_in(queue).iter().flat_map(|it| it[member].as_array().cloned().unwrap_or_default()).collect()
    };
    let events = list("InboundQueue", "events");
    let id = |it: &Value| it["wamid"].as_str().or(it["id"].as_str()).map(str::to_owned);
    let ids: Vec<String> = events.iter().filter_map(id).collect();
    let statuses: Vec<String> = list("StatusesQueue", "statuses").iter().filter_map(id).collect();
    let distinct = |all: &[String]| all.iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!((ids.len(), statuses.len()), (distinct(&ids).len(), distinct(&statuses).len()), "nothing twice");
    Expected {
        preferences: events.len() - ids.len(),
        events: distinct(&ids),
        statuses: distinct(&statuses),
        probes: world.lying_in("ProbesQueue").len(),
        quarantined: quarantined(world).0.values().sum(),
    }
}

/// Runs a property's asynchronous part to its end.
fn run<T>(what: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(what)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn events_out_are_events_in(entries in proptest::collection::vec(proptest::collection::vec(a_change(), 1..6), 1..5)) {
        run(async {
            let world = World::new().await;
            world.may_leave_messages();
            install_foreign(&world, "300000000000009").await;
            let mut author = Author::default();
            let entries: Vec<Value> = entries.iter().map(|it| entry(&it.iter().map(|it| author.change(it)).collect::<Vec<_>>())).collect();
            let body = json!({ "object": "whatsapp_business_account", "entry": entries });
            assert_eq!(world.posts(&body).await, 200);
            assert_eq!(became(&world), author.expected, "{body:#}");
        });
    }

    #[test]
    fn whatever_stands_beside_it_a_message_is_kept(strange in any_json(), place in 0_usize..6) {
        run(async {
            let world = World::with(Delivery::Once).await;
            world.may_leave_messages();
            let good = of_number(NUMBER, "messages", &[text("wamid.good", ANA, "hello")]);
            let mut body = json!({ "object": "whatsapp_business_account", "entry": [entry(&[Value::Null, good.clone()]), Value::Null] });
            match place {
                0 => body["entry"][1] = strange,
                1 => body["entry"][0]["changes"][0] = strange,
                2 => body["entry"][0]["changes"][0] = change("messages", &strange),
                3 => body["entry"][0]["changes"][0] = of_number(NUMBER, "messages", &[strange]),
                4 => body["entry"][0]["changes"][1]["value"]["statuses"] = json!([strange]),
                _ => body["entry"][0]["changes"][1]["value"]["messages"].as_array_mut().expect("a list").insert(0, strange),
            }
            assert_eq!(world.posts(&body).await, 200, "{body}");
            assert!(became(&world).events.contains("wamid.good"), "{body}");
        });
    }
}

/// Any JSON, with the names that Meta uses among its members.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        proptest::sample::select(vec!["messages", "text", "wamid.x", ANA, "1772442000", "read", "ES.9007"]).prop_map(Value::from),
    ];
    let names = [
        "id",
        "from",
        "to",
        "type",
        "timestamp",
        "text",
        "body",
        "messages",
        "statuses",
        "status",
        "field",
        "value",
        "changes",
        "errors",
        "context",
        "contacts",
        "metadata",
        "phone_number_id",
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        let member = (proptest::sample::select(names.to_vec()), inner.clone()).prop_map(|(name, value)| (name.to_owned(), value));
        prop_oneof![
            proptest::collection::vec(inner, 0..5).prop_map(Value::from),
            proptest::collection::vec(member, 0..6).prop_map(|it| Value::Object(it.into_iter().collect())),
        ]
    })
}
