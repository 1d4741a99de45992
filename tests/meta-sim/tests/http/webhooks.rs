//! The shapes of webhooks against Meta's documented samples, what causes statuses, and how webhooks are delivered.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use meta_sim::{Customer, Fault, File, Inbound, ManualClock, Mode, Setup, Simulator, Written, signature};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::{ACCOUNT, ANA, APP, Meta, ONE, START, TWO, names};

const USER_ID: &str = "MX.9007199254740993";

/// Ana, known by telephone, user id and username.
fn ana() -> Setup {
    let customer = Customer { username: Some("ana.ruiz".into()), ..Customer::with_phone(ANA).and_user_id(USER_ID).named("Ana Ruiz") };
    Setup { customers: vec![customer], ..Setup::demo() }
}

/// Replaces what is made up by the simulator, wherever it stands.
fn masked(value: &Value) -> Value {
    match value {
        Value::Object(members) => members.iter().map(|(name, it)| (name.clone(), mask(name, it))).collect::<serde_json::Map<_, _>>().into(),
        Value::Array(items) => items.iter().map(masked).collect(),
        other => other.clone(),
    }
}

fn mask(name: &str, value: &Value) -> Value {
    match (name, value) {
        ("id", Value::String(id)) if id.starts_with("wamid.") => "wamid".into(),
        ("id", Value::String(id)) if id.len() == 15 && id.starts_with('7') => "media".into(),
        ("sha256" | "url", Value::String(_)) => name.into(),
        _ => masked(value),
    }
}

fn envelope(value: Value) -> Value {
    json!({ "object": "whatsapp_business_account", "entry": [{ "id": ACCOUNT, "changes": [{ "field": "messages", "value": value }] }] })
}

fn of_number() -> Value {
    json!({ "messaging_product": "whatsapp", "metadata": { "display_phone_number": "15550100001", "phone_number_id": ONE } })
}

fn contact() -> Value {
    json!({ "profile": { "name": "Ana Ruiz", "username": "ana.ruiz" }, "wa_id": ANA, "user_id": USER_ID })
}

/// The body of an inbound message, whole.
fn inbound(message: Value) -> Value {
    let mut value = of_number();
    value["contacts"] = json!([contact()]);
    let mut whole = json!({ "from": ANA, "from_user_id": USER_ID, "id": "wamid", "timestamp": "1790000000" });
    for (name, member) in message.as_object().unwrap() {
        whole[name] = member.clone();
    }
    value["messages"] = json!([whole]);
    envelope(value)
}

fn bodies(meta: &Meta) -> Vec<Value> {
    meta.settle().iter().map(|it| masked(&serde_json::from_slice(&it.body).unwrap())).collect()
}

/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages>
#[tokio::test]
async fn inbound_messages_have_the_shape_of_metas_samples() {
    let meta = Meta::with(ana()).await;
    let file = File { caption: Some("mi perro".into()), ..File::default() };
    let media = |mime_type: &str| json!({ "id": "media", "mime_type": mime_type, "sha256": "sha256", "url": "url" });
    let with = |mut value: Value, name: &str, member: Value| {
        value[name] = member;
        value
    };
    let order = json!([{ "product_retailer_id": "sku1", "quantity": 2, "item_price": 10.5, "currency": "EUR" }]);
    let table: Vec<(Written, Value)> = vec![
        ("hola".into(), json!({ "type": "text", "text": { "body": "hola" } })),
        (
            Written::from("sí").quoting("wamid.Q"),
            json!({ "type": "text", "text": { "body": "sí" }, "context": { "from": "15550100001", "id": "wamid" } }),
        ),
        (
            Written { referral: Some(json!({ "source_type": "ad", "source_id": "1" })), ..Written::from("hola") },
            json!({ "type": "text", "text": { "body": "hola" }, "referral": { "source_type": "ad", "source_id": "1" } }),
        ),
        (
            Written { forwarded: true, ..Written::from("fwd") },
            json!({ "type": "text", "text": { "body": "fwd" }, "context": { "forwarded": true } }),
        ),
        (Inbound::Image(file).into(), json!({ "type": "image", "image": with(media("image/jpeg"), "caption", json!("mi perro")) })),
        (
            Inbound::Audio(File::default()).into(),
            json!({ "type": "audio", "audio": with(media("audio/ogg; codecs=opus"), "voice", json!(true)) }),
        ),
        (
            Inbound::Document(File::default()).into(),
            json!({ "type": "document", "document": with(media("application/pdf"), "filename", json!("document.pdf")) }),
        ),
        (
            Inbound::Sticker(File::default()).into(),
            json!({ "type": "sticker", "sticker": with(media("image/webp"), "animated", json!(false)) }),
        ),
        (
            Inbound::Location { latitude: 19.43, longitude: -99.13, name: None }.into(),
            json!({ "type": "location", "location": { "latitude": 19.43, "longitude": -99.13 } }),
        ),
        (
            Inbound::Contacts { contacts: json!([{ "name": { "formatted_name": "Eva" }, "origin": "contact_request" }]) }.into(),
            json!({ "type": "contacts", "contacts": [{ "name": { "formatted_name": "Eva" }, "origin": "contact_request" }] }),
        ),
        (
            Inbound::Button { text: "Yes".into(), payload: "yes-1".into() }.into(),
            json!({ "type": "button", "button": { "payload": "yes-1", "text": "Yes" } }),
        ),
        (
            Inbound::ButtonReply { id: "b1".into(), title: "Yes".into() }.into(),
            json!({ "type": "interactive", "interactive": { "type": "button_reply", "button_reply": { "id": "b1", "title": "Yes" } } }),
        ),
        (
            Inbound::ListReply { id: "r1".into(), title: "Row".into(), description: Some("more".into()) }.into(),
            json!({ "type": "interactive", "interactive": { "type": "list_reply", "list_reply": { "id": "r1", "title": "Row", "description": "more" } } }),
        ),
        (
            Inbound::FlowReply { response_json: "{\"day\":1}".into() }.into(),
            json!({ "type": "interactive", "interactive": { "type": "nfm_reply", "nfm_reply": { "name": "flow", "body": "Sent", "response_json": "{\"day\":1}" } } }),
        ),
        (
            Inbound::Order { catalog_id: "c".into(), product_items: order.clone() }.into(),
            json!({ "type": "order", "order": { "catalog_id": "c", "text": "", "product_items": order } }),
        ),
        (
            Inbound::Reaction { message_id: "wamid.R".into(), emoji: Some("👍".into()) }.into(),
            json!({ "type": "reaction", "reaction": { "message_id": "wamid.R", "emoji": "👍" } }),
        ),
        (
            Inbound::Reaction { message_id: "wamid.R".into(), emoji: None }.into(),
            json!({ "type": "reaction", "reaction": { "message_id": "wamid.R" } }),
        ),
        (
            Inbound::Edit { message_id: "wamid.E".into(), text: "new".into() }.into(),
            json!({ "type": "edit", "edit": { "original_message_id": "wamid.E", "message": { "type": "text", "text": { "body": "new" } } } }),
        ),
        (
            Inbound::Revoke { message_id: "wamid.E".into() }.into(),
            json!({ "type": "revoke", "revoke": { "original_message_id": "wamid.E" } }),
        ),
        (Inbound::RequestWelcome.into(), json!({ "type": "request_welcome" })),
        (
            Inbound::Group { group_id: "g1".into(), text: "all".into() }.into(),
            json!({ "type": "text", "text": { "body": "all" }, "group_id": "g1" }),
        ),
        (
            Inbound::Other { kind: "telepathy".into(), content: json!({ "x": 1 }) }.into(),
            json!({ "type": "telepathy", "telepathy": { "x": 1 } }),
        ),
    ];
    for (written, expected) in table {
        meta.simulator.customer_writes(ANA, ONE, written.clone()).unwrap();
        assert_eq!(bodies(&meta), [inbound(expected)], "{written:?}");
    }
    meta.simulator.customer_writes(ANA, ONE, Inbound::Unsupported { kind: "poll".into() }).unwrap();
    let message = &meta.values()[0]["messages"][0];
    assert_eq!(
        (&message["type"], &message["unsupported"], &message["errors"][0]["code"]),
        (&json!("unsupported"), &json!({ "type": "poll" }), &json!(131_051))
    );
}

#[tokio::test]
async fn a_customer_without_a_phone_has_no_phone_members_at_all() {
    let meta = Meta::with(Setup { customers: vec![Customer::with_user_id(USER_ID, "ana.ruiz")], ..Setup::demo() }).await;
    meta.simulator.customer_writes("@ana.ruiz", ONE, "hola").unwrap();
    let mut value = of_number();
    value["contacts"] = json!([{ "profile": { "name": "Customer", "username": "ana.ruiz" }, "user_id": USER_ID }]);
    value["messages"] =
        json!([{ "from_user_id": USER_ID, "id": "wamid", "timestamp": "1790000000", "type": "text", "text": { "body": "hola" } }]);
    assert_eq!(bodies(&meta), [envelope(value)]);
}

#[tokio::test]
async fn a_customer_may_hide_the_phone_and_show_it_again() {
    let meta = Meta::with(ana()).await;
    let told = |shows_phone: bool| {
        meta.simulator.change_customer(ANA, |it| it.shows_phone = shows_phone).unwrap();
        meta.simulator.customer_writes(ANA, ONE, "hola").unwrap();
        let value = meta.values().remove(0);
        (
            value["messages"][0].get("from").cloned(),
            value["contacts"][0].get("wa_id").cloned(),
            value["messages"][0]["from_user_id"].clone(),
        )
    };
    assert_eq!(told(false), (None, None, json!(USER_ID)));
    assert_eq!(told(true), (Some(json!(ANA)), Some(json!(ANA)), json!(USER_ID)));
}

#[tokio::test]
async fn another_portfolio_knows_the_same_person_by_another_user_id() {
    let meta = Meta::with(ana()).await;
    meta.simulator.put_account(meta_sim::Account { portfolio: "1".into(), ..meta_sim::Account::new("399", APP) });
    meta.simulator.put_number(meta_sim::Number::new("199", "399", "+1 555-010-0199"));
    meta.simulator.customer_writes(ANA, "199", "hola").unwrap();
    let told = meta.values()[0]["messages"][0]["from_user_id"].clone();
    assert!(told.as_str().unwrap().starts_with("MX.") && told != USER_ID, "{told}");
    meta.simulator.customer_writes(told.as_str().unwrap(), "199", "the same").unwrap();
    assert_eq!(meta.simulator.phone(ANA).screen().len(), 2);
}

/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages/status>
#[tokio::test]
async fn statuses_have_the_shape_of_metas_samples() {
    let meta = Meta::with(ana()).await;
    meta.simulator.customer_writes(ANA, ONE, "hola").unwrap();
    meta.settle();
    meta.say(ANA, "m:01J9Z").await.unwrap();
    meta.turn(10);
    meta.simulator.phone(ANA).reads().unwrap();
    let pricing = json!({ "billable": true, "pricing_model": "PMP", "type": "regular", "category": "service" });
    let status = |status: &str, timestamp: &str, priced: bool| {
        let mut told = json!({ "id": "wamid", "status": status, "timestamp": timestamp, "recipient_id": ANA, "recipient_user_id": USER_ID, "biz_opaque_callback_data": "m:01J9Z" });
        if priced {
            told["pricing"] = pricing.clone();
        }
        let mut value = of_number();
        (value["contacts"], value["statuses"]) = (json!([contact()]), json!([told]));
        envelope(value)
    };
    assert_eq!(
        bodies(&meta),
        [status("sent", "1790000000", true), status("delivered", "1790000000", true), status("read", "1790000010", false)]
    );
}

#[tokio::test]
async fn a_failed_status_has_errors_but_neither_contacts_nor_by_default_our_data() {
    let meta = Meta::with(ana()).await;
    meta.simulator.customer_writes(ANA, ONE, "hola").unwrap();
    meta.settle();
    meta.simulator.fail_next(None, None, Fault::FailLater { code: 131_049 });
    meta.say(ANA, "m:1").await.unwrap();
    let mut value = of_number();
    value["statuses"] = json!([{ "id": "wamid", "status": "failed", "timestamp": "1790000000", "recipient_id": ANA, "recipient_user_id": USER_ID,
        "errors": [{ "code": 131_049, "title": "Meta chose not to deliver", "message": "Meta chose not to deliver",
            "error_data": { "details": "Meta chose not to deliver." },
            "href": "https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes" }] }]);
    assert_eq!(bodies(&meta), [envelope(value)]);
    meta.simulator.set_mode(Mode { echo_on_failed: true, ..Mode::default() });
    meta.say(ANA, "m:2").await.unwrap();
    assert_eq!(meta.statuses()[0]["biz_opaque_callback_data"], "m:2");
}

#[tokio::test]
async fn phones_cause_the_statuses() {
    let meta = Meta::open().await;
    let phone = meta.simulator.phone(ANA);
    phone.goes_offline().unwrap();
    meta.say(ANA, "1").await.unwrap();
    assert_eq!((names(&meta.statuses()), phone.reads()), (vec!["sent"], Ok(0)));
    phone.comes_online().unwrap();
    assert_eq!(names(&meta.statuses()), ["delivered"]);
    assert_eq!((phone.reads(), phone.reads()), (Ok(1), Ok(0)));
    assert_eq!(names(&meta.statuses()), ["read"]);

    meta.simulator.change_customer(ANA, |it| it.chat_open = true).unwrap();
    meta.say(ANA, "2").await.unwrap();
    let statuses = meta.statuses();
    assert_eq!((names(&statuses), statuses[1]["pricing"]["category"].as_str()), (vec!["sent", "read"], Some("service")));

    meta.simulator.change_customer(ANA, |it| (it.chat_open, it.auto_read, it.read_receipts) = (false, true, false)).unwrap();
    meta.say(ANA, "3").await.unwrap();
    assert_eq!(names(&meta.statuses()), ["sent", "delivered"]);
    assert!(phone.screen().iter().all(|it| it.from == meta_sim::Author::Customer || it.read.is_some()));
}

#[tokio::test]
async fn a_played_voice_message_is_told_once() {
    let meta = Meta::open().await;
    let voice = json!({ "to": format!("+{ANA}"), "type": "audio", "audio": { "link": "https://example.org/a.ogg", "voice": true } });
    let id = meta.send(ONE, &voice).await.1["messages"][0]["id"].as_str().unwrap().to_owned();
    meta.settle();
    meta.simulator.phone(ANA).plays(&id).unwrap();
    meta.simulator.phone(ANA).plays(&id).unwrap();
    assert_eq!(names(&meta.statuses()), ["played"]);
    assert!(meta.simulator.phone(ANA).plays("wamid.unknown").is_err());
}

#[tokio::test]
async fn a_new_telephone_is_told_to_every_number_and_may_have_been_anothers() {
    let meta = Meta::with(ana()).await;
    let new = "5215598765432";
    meta.simulator.customer_writes(new, ONE, "I am another").unwrap();
    for number in [ONE, TWO] {
        meta.simulator.customer_writes(ANA, number, "hola").unwrap();
    }
    meta.settle();
    meta.simulator.phone(ANA).changes_phone(new).unwrap();
    let values = meta.values();
    assert_eq!(values.len(), 2);
    let message = &values[0]["messages"][0];
    assert_eq!((values[0].get("contacts"), &message["from"], &message["system"]["wa_id"]), (None, &json!(ANA), &json!(new)));
    assert_eq!((&message["system"]["type"], &message["system"]["previous_user_id"]), (&json!("user_changed_number"), &json!(USER_ID)));
    assert_ne!(message["system"]["user_id"], USER_ID);
    assert_eq!(meta.simulator.phone(new).customer().unwrap().name, "Ana Ruiz");
    assert_eq!(meta.say(new, "the window does not move").await, Err(131_047));

    meta.simulator.customer_writes(new, ONE, "me again").unwrap();
    meta.settle();
    meta.simulator.phone(new).changes_user_id("MX.1").unwrap();
    assert_eq!(meta.values()[0]["messages"][0]["system"]["type"], "user_changed_user_id");
}

#[tokio::test]
async fn the_other_fields_are_told_too() {
    let meta = Meta::with(ana()).await;
    let field = |meta: &Meta| {
        meta.settle()
            .iter()
            .map(|it| serde_json::from_slice::<Value>(&it.body).unwrap()["entry"][0]["changes"][0].clone())
            .collect::<Vec<_>>()
    };
    meta.simulator.customer_writes(ANA, ONE, Written::from("copy").on_standby()).unwrap();
    let [standby] = field(&meta).try_into().unwrap();
    assert_eq!((&standby["field"], &standby["value"]["standby"]["messages"][0]["text"]["body"]), (&json!("standby"), &json!("copy")));
    assert!(standby["value"].get("messages").is_none());

    meta.simulator.hand_over(ANA, ONE, "control_passed").unwrap();
    let [handover] = field(&meta).try_into().unwrap();
    assert_eq!(
        (&handover["field"], &handover["value"]["type"], &handover["value"]["control_passed"]["new_owner_role"]),
        (&json!("messaging_handovers"), &json!("control_passed"), &json!("customer_service"))
    );

    meta.simulator.phone(ANA).calls(ONE).unwrap();
    let events: Vec<_> = field(&meta).iter().map(|it| (it["field"].clone(), it["value"]["calls"][0]["event"].clone())).collect();
    assert_eq!(events, [(json!("calls"), json!("connect")), (json!("calls"), json!("terminate"))]);

    meta.simulator.phone(ANA).prefers(ONE, "stop").unwrap();
    let [preference] = field(&meta).try_into().unwrap();
    assert_eq!(
        (
            &preference["field"],
            &preference["value"]["user_preferences"][0]["value"],
            &preference["value"]["user_preferences"][0]["timestamp"]
        ),
        (&json!("user_preferences"), &json!("stop"), &json!(1_790_000_000))
    );

    meta.simulator.person_writes(ANA, ONE, "I take over").unwrap();
    let [echo] = field(&meta).try_into().unwrap();
    assert_eq!((&echo["field"], &echo["value"]["message_echoes"][0]["to"]), (&json!("smb_message_echoes"), &json!(ANA)));

    let ban = json!({ "event": "DISABLED_UPDATE", "ban_info": { "waba_ban_state": "DISABLE" } });
    meta.simulator.tell_account(ACCOUNT, "account_update", &ban);
    let [body] = meta.settle().iter().map(|it| serde_json::from_slice::<Value>(&it.body).unwrap()).collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(body["entry"], json!([{ "id": ACCOUNT, "time": 1_790_000_000, "changes": [{ "field": "account_update", "value": ban }] }]));
}

#[tokio::test]
async fn bodies_are_ascii_and_signed_with_the_secret_of_the_app() {
    let meta = Meta::new().await;
    meta.simulator.customer_writes(ANA, ONE, "¿Sí? 👍 a/b").unwrap();
    let [webhook] = meta.simulator.take_webhooks().try_into().unwrap();
    let body = String::from_utf8(webhook.body.clone()).unwrap();
    assert!(body.is_ascii() && body.contains(r"\u00bfS\u00ed? \ud83d\udc4d a\/b"), "{body}");
    assert_eq!(webhook.signature, signature("local-app-secret", &webhook.body));
    assert_eq!((webhook.path.as_str(), webhook.app_id.as_str()), ("/webhooks/200000000000001", APP));
}

#[tokio::test]
async fn without_a_subscription_nothing_is_sent() {
    let meta = Meta::new().await;
    let (status, _) = meta.call(reqwest::Method::DELETE, &format!("/v25.0/{ACCOUNT}/subscribed_apps"), crate::TOKEN, None).await;
    meta.simulator.customer_writes(ANA, ONE, "does anybody hear me?").unwrap();
    assert_eq!((status, meta.simulator.unsent_webhooks()), (200, 0));
}

/// What a callback was sent, and how it answers.
#[derive(Clone)]
struct Callback {
    heard: mpsc::UnboundedSender<(String, String)>,
    answers: std::sync::Arc<std::sync::Mutex<Vec<StatusCode>>>,
}

async fn hear(State(callback): State<Callback>, headers: axum::http::HeaderMap, body: String) -> StatusCode {
    callback.heard.send((headers["x-hub-signature-256"].to_str().unwrap().to_owned(), body)).unwrap();
    callback.answers.lock().unwrap().pop().unwrap_or(StatusCode::OK)
}

#[tokio::test]
async fn the_running_simulator_posts_and_repeats_by_its_clock() {
    let (heard, mut hearing) = mpsc::unbounded_channel();
    let callback = Callback { heard, answers: std::sync::Arc::new(std::sync::Mutex::new(vec![StatusCode::INTERNAL_SERVER_ERROR])) };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut setup = Setup::demo();
    setup.apps[0].callback = Some(format!("http://{}/webhooks/{APP}", listener.local_addr().unwrap()));
    let router = Router::new().route("/webhooks/{app}", post(hear)).with_state(callback);
    let server = tokio::spawn(async move { axum::serve(listener, router).await });

    let clock = ManualClock::new(START);
    let simulator = Simulator::new(clock.clone(), setup);
    let delivery = tokio::spawn({
        let simulator = simulator.clone();
        async move { simulator.deliver().await }
    });
    simulator.customer_writes(ANA, ONE, "hola").unwrap();
    let first = hearing.recv().await.unwrap();
    assert_eq!(first.0, signature("local-app-secret", first.1.as_bytes()));
    // The clock stands, so nothing is repeated until it is turned past the pause.
    while simulator.next_webhook_at_ms() != Some(START + meta_sim::FIRST_PAUSE_MS) {
        assert!(simulator.unsent_webhooks() > 0, "a webhook that was answered with 500 is settled");
        tokio::task::yield_now().await;
    }
    assert!(hearing.try_recv().is_err());
    clock.advance(std::time::Duration::from_secs(10));
    assert_eq!(hearing.recv().await.unwrap(), first);
    while simulator.unsent_webhooks() > 0 {
        tokio::task::yield_now().await;
    }
    delivery.abort();
    server.abort();
}
