//! The simulator speaks as Meta documents it: its webhooks and answers have the members and JSON types of Meta's own samples, and it takes
//! every request that we send.
//!
//! Ids, texts and times are masked; where the simulator leaves something out or says more, it stands here with the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::ids::{NumberId, Wamid};
use meta::fault::Class;
use meta::fixtures::{ANSWERS, REQUESTS, WEBHOOKS, named};
use meta::graph::{Credentials, DownloadError, FileHash, Graph, NewFile, Sent, Settings};
use meta_sim::{Fault, File, Inbound, ManualClock, Override, Setup, Simulator, Template, Token, Written, loopback_client};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use world::story::{ACCESS_TOKEN, APP, APP_SECRET, NUMBER, OTHER_NUMBER, WABA};

/// As in Meta's samples: with a telephone, a user id and a username.
const ANA: &str = "5215512345678";
const ANA_ID: &str = "MX.9007199254740993";
/// Without a username, as the samples of statuses have it.
const BEN: &str = "5215511112222";
/// Known by the telephone alone, as the samples that are older than user ids have it.
const EVA: &str = "5215511113333";
/// Shows no telephone.
const ROSA: &str = "MX.9007199254740994";

/// Where the simulator may differ from a sample: the place, and why.
type Allowed = &'static [(&'static str, &'static str)];

/// The simulator, served, with a clock to turn.
struct Meta {
    simulator: Simulator,
    clock: ManualClock,
    base: String,
    graph: Graph,
}

impl Meta {
    async fn new() -> Self {
        let clock = ManualClock::new(1_790_000_000_000);
        let simulator = Simulator::new(clock.clone(), Setup::demo());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port on this machine");
        let base = format!("http://{}", listener.local_addr().expect("bound"));
        simulator.reachable_at(&base);
        let served = simulator.clone();
        tokio::spawn(async move { served.serve(listener).await });
        let settings = Settings { base_url: base.clone(), allow_loopback: true, ..Settings::meta("v25.0") };
        let graph = Graph::new(&settings).expect("settings on this machine");
        for customer in [
            json!({ "phone": ANA, "user_id": ANA_ID, "username": "ana.ruiz", "name": "Ana Ruiz" }),
            json!({ "phone": BEN, "user_id": "MX.9007199254740995", "name": "Ben" }),
            json!({ "phone": EVA, "name": "Eva" }),
            json!({ "user_id": ROSA, "name": "Rosa", "username": "rosa" }),
        ] {
            simulator.add_customer(serde_json::from_value(customer).expect("a customer"));
        }
        Self { simulator, clock, base, graph }
    }

    /// The bodies of all webhooks that are due.
    fn webhooks(&self) -> Vec<Value> {
        let due = self.simulator.take_webhooks();
        due.iter().for_each(|it| self.simulator.answered(it.id, 200));
        due.iter().map(|it| serde_json::from_slice(&it.body).expect("JSON")).collect()
    }

    async fn get(&self, path: &str) -> Value {
        self.get_as(ACCESS_TOKEN, path).await
    }

    async fn get_as(&self, token: &str, path: &str) -> Value {
        let answer = loopback_client().get(format!("{}/v25.0/{path}", self.base)).bearer_auth(token).send().await;
        serde_json::from_str(&answer.expect("an answer").text().await.expect("a body")).expect("JSON")
    }

    async fn post(&self, token: &str, path: &str, body: &Value) -> Value {
        let request = loopback_client().post(format!("{}/v25.0/{path}", self.base)).bearer_auth(token);
        let answer = request.header("content-type", "application/json").body(body.to_string()).send().await;
        serde_json::from_str(&answer.expect("an answer").text().await.expect("a body")).expect("JSON")
    }

    async fn send(&self, body: &Value) -> Value {
        self.post(ACCESS_TOKEN, &format!("{NUMBER}/messages"), body).await
    }

    /// Says something to a customer who has just written; Meta's id of it.
    async fn says(&self, to: &str, kind: &str, content: Value) -> String {
        self.simulator.customer_writes(to, NUMBER, "hello").expect("writes");
        self.webhooks();
        let address = if to.contains('.') { ("recipient", to.to_owned()) } else { ("to", format!("+{to}")) };
        let body = json!({ "messaging_product": "whatsapp", address.0: address.1, "type": kind, kind: content, "biz_opaque_callback_data": "1/x/1" });
        let answer = self.send(&body).await;
        answer["messages"][0]["id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    async fn upload(&self, mime_type: &str) -> Value {
        let file = Part::bytes(meta_sim::smallest_file(mime_type)).file_name("file").mime_str(mime_type).expect("a type");
        let form = Form::new().text("messaging_product", "whatsapp").text("type", mime_type.to_owned()).part("file", file);
        let request = loopback_client().post(format!("{}/v25.0/{NUMBER}/media", self.base)).bearer_auth(ACCESS_TOKEN).multipart(form);
        serde_json::from_str(&request.send().await.expect("an answer").text().await.expect("a body")).expect("JSON")
    }
}

fn sample(list: &[meta::fixtures::Fixture], name: &str) -> Value {
    serde_json::from_str(named(list, name)).expect("JSON")
}

/// Where `ours` has other members or other types than `sample`.
fn differences(sample: &Value, ours: &Value, at: &str, found: &mut BTreeSet<String>) {
    match (sample, ours) {
        (Value::Object(sample), Value::Object(ours)) => {
            let names: BTreeSet<&String> = sample.keys().chain(ours.keys()).collect();
            for name in names {
                let place = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                match (sample.get(name), ours.get(name)) {
                    (Some(sample), Some(ours)) => differences(sample, ours, &place, found),
                    _ => drop(found.insert(place)),
                }
            }
        }
        (Value::Array(sample), Value::Array(ours)) => {
            // Elements of one list may be of several forms: each of ours must be of one of them.
            for it in ours {
                let compared = sample.iter().map(|sample| {
                    let mut of_element = BTreeSet::new();
                    differences(sample, it, &format!("{at}[]"), &mut of_element);
                    of_element
                });
                found.extend(compared.min_by_key(BTreeSet::len).unwrap_or_default());
            }
            if ours.is_empty() && !sample.is_empty() {
                found.insert(at.to_owned());
            }
        }
        (sample, ours) if std::mem::discriminant(sample) == std::mem::discriminant(ours) => {}
        _ => drop(found.insert(at.to_owned())),
    }
}

/// Holds what the simulator said to a sample; what is allowed must be needed.
fn hold(name: &str, sample: &Value, ours: &Value, allowed: Allowed) {
    let mut found = BTreeSet::new();
    differences(sample, ours, "", &mut found);
    let expected: BTreeSet<String> = allowed.iter().map(|it| it.0.to_owned()).collect();
    assert_eq!(found, expected, "{name}: the simulator says {ours:#}");
}

#[test]
fn another_type_a_missing_and_a_surplus_member_are_noticed() {
    let sample = json!({ "a": 1, "list": [{ "id": "1", "more": true }, { "id": "2" }], "gone": null });
    let ours = json!({ "a": "1", "list": [{ "id": "1", "less": true }, {}, { "id": "3", "more": false }], "new": null });
    let mut found = BTreeSet::new();
    differences(&sample, &ours, "", &mut found);
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a", "gone", "list[].id", "list[].less", "new"]);
}

/// What a customer does, and the sample that Meta documents of it.
fn inbound() -> Vec<(&'static str, Written, Allowed)> {
    let quoting = |it: Inbound| Written::from(it).quoting("wamid.quoted");
    let content = |name: &str| {
        let body = sample(WEBHOOKS, name);
        body["entry"][0]["changes"][0]["value"]["messages"][0].clone()
    };
    let file = || File { caption: Some("words".into()), filename: Some("file.pdf".into()), ..File::default() };
    let bare = File::default;
    let target = || "wamid.target".to_owned();
    let title = || ("id".to_owned(), "title".to_owned());
    let ((id, name), (row, words)) = (title(), title());
    vec![
        ("messages_text", "hello".into(), &[]),
        ("messages_text_quoting", quoting(Inbound::text("hello")), &[]),
        (
            "messages_text_forwarded",
            Written { forwarded: true, ..Written::from("hello") },
            &[
                ("entry[].changes[].value.messages[].context.forwarded", "Meta documents both: forwarded, and forwarded often"),
                ("entry[].changes[].value.messages[].context.frequently_forwarded", "likewise"),
            ],
        ),
        (
            "messages_text_from_ad",
            Written { referral: Some(content("messages_text_from_ad")["referral"].clone()), ..Written::from("hello") },
            &[],
        ),
        ("messages_text_in_group", Inbound::Group { group_id: "g".into(), text: "hello".into() }.into(), &[]),
        ("messages_image", Inbound::Image(file()).into(), &[]),
        ("messages_video", Inbound::Video(bare()).into(), &[]),
        ("messages_audio", Inbound::Audio(bare()).into(), &[]),
        ("messages_document", Inbound::Document(file()).into(), &[]),
        ("messages_sticker", Inbound::Sticker(bare()).into(), &[]),
        (
            "messages_location",
            Inbound::Location { latitude: 1.5, longitude: 2.5, name: Some("place".into()) }.into(),
            &[
                ("entry[].changes[].value.messages[].location.address", "a place that is not in a directory has none"),
                ("entry[].changes[].value.messages[].location.url", "likewise"),
            ],
        ),
        ("messages_contacts", Inbound::Contacts { contacts: content("messages_contacts")["contacts"].clone() }.into(), &[]),
        (
            "messages_contacts_requested",
            Inbound::Contacts { contacts: content("messages_contacts_requested")["contacts"].clone() }.into(),
            &[],
        ),
        ("messages_button", quoting(Inbound::Button { text: "Yes".into(), payload: "yes".into() }), &[]),
        ("messages_button_reply", quoting(Inbound::ButtonReply { id, title: name }), &[]),
        ("messages_list_reply", quoting(Inbound::ListReply { id: row, title: words, description: Some("more".into()) }), &[]),
        ("messages_flow_reply", quoting(Inbound::FlowReply { response_json: "{}".into() }), &[]),
        (
            "messages_order",
            {
                let order = content("messages_order")["order"].clone();
                Inbound::Order { catalog_id: "1".into(), product_items: order["product_items"].clone() }.into()
            },
            &[],
        ),
        ("messages_reaction", Inbound::Reaction { message_id: target(), emoji: Some("👍".into()) }.into(), &[]),
        ("messages_reaction_removed", Inbound::Reaction { message_id: target(), emoji: None }.into(), &[]),
        (
            "messages_edit",
            Inbound::Edit { message_id: target(), text: "other words".into() }.into(),
            &[(
                "entry[].changes[].value.messages[].edit.message.context",
                "the sample's holds a made-up id of the app, of no use to anybody",
            )],
        ),
        ("messages_revoke", Inbound::Revoke { message_id: target() }.into(), &[]),
        ("messages_unsupported", Inbound::Unsupported { kind: "poll".into() }.into(), &[]),
        ("messages_request_welcome", Inbound::RequestWelcome.into(), &[]),
    ]
}

#[tokio::test]
async fn what_customers_send_comes_as_in_metas_samples() {
    for (name, written, allowed) in inbound() {
        let meta = Meta::new().await;
        meta.simulator.customer_writes(ANA, NUMBER, written).expect("writes");
        hold(name, &sample(WEBHOOKS, name), &meta.webhooks()[0], allowed);
    }
}

#[tokio::test]
async fn a_customer_without_a_telephone_comes_as_in_metas_samples() {
    let meta = Meta::new().await;
    meta.simulator.customer_writes(ROSA, NUMBER, "hello").expect("writes");
    let parents: Allowed = &[
        ("entry[].changes[].value.contacts[].parent_user_id", "only of a business that is linked to a parent portfolio"),
        ("entry[].changes[].value.messages[].from_parent_user_id", "likewise"),
    ];
    hold("messages_text_without_phone", &sample(WEBHOOKS, "messages_text_without_phone"), &meta.webhooks()[0], parents);
}

#[tokio::test]
async fn changes_of_a_customer_come_as_in_metas_samples() {
    let meta = Meta::new().await;
    for who in [ANA, ROSA] {
        meta.simulator.customer_writes(who, NUMBER, "hello").expect("writes");
    }
    meta.webhooks();
    meta.simulator.phone(ANA).changes_phone("5215599998888").expect("changes");
    hold("number", &sample(WEBHOOKS, "messages_system_number_changed"), &meta.webhooks()[0], &[]);
    meta.simulator.phone(ROSA).changes_user_id("MX.9007199254740999").expect("changes");
    hold("user id", &sample(WEBHOOKS, "messages_system_user_id_changed"), &meta.webhooks()[0], &[]);
}

#[tokio::test]
async fn what_else_happens_in_a_thread_comes_as_in_metas_samples() {
    let meta = Meta::new().await;
    let phone = meta.simulator.phone(ANA);
    phone.writes(NUMBER, "hello").expect("writes");
    meta.webhooks();
    let next = || meta.webhooks().remove(0);

    phone.prefers(NUMBER, "stop").expect("says");
    hold("user_preferences", &sample(WEBHOOKS, "user_preferences"), &next(), &[]);
    phone.calls(NUMBER).expect("calls");
    let calls = meta.webhooks();
    let connect: Allowed = &[("entry[].changes[].value.calls[].session", "no sound is simulated")];
    hold("call_connect", &sample(WEBHOOKS, "call_connect"), &calls[0], connect);
    let terminate: Allowed = &[
        ("entry[].changes[].value.calls[].start_time", "nobody takes the simulator's calls"),
        ("entry[].changes[].value.calls[].end_time", "likewise"),
        ("entry[].changes[].value.calls[].duration", "likewise"),
    ];
    hold("call_terminate", &sample(WEBHOOKS, "call_terminate"), &calls[1], terminate);
    let optional: Allowed = &[
        ("entry[].changes[].value.control_passed.metadata", "only if the responder gives it"),
        ("entry[].changes[].value.control_passed.conversation_context", "likewise"),
    ];
    meta.simulator.hand_over(ANA, NUMBER, "control_passed").expect("passes");
    hold("handover_passed", &sample(WEBHOOKS, "handover_passed"), &next(), optional);
    meta.simulator.hand_over(ANA, NUMBER, "control_taken").expect("takes");
    hold("handover_taken", &sample(WEBHOOKS, "handover_taken"), &next(), &[]);
    meta.simulator.person_writes(ANA, NUMBER, "from the app").expect("writes");
    hold("smb_message_echoes", &sample(WEBHOOKS, "smb_message_echoes"), &next(), &[]);
    meta.simulator.customer_writes(EVA, NUMBER, Written::from("hello").on_standby()).expect("writes");
    hold("standby_message", &sample(WEBHOOKS, "standby_message"), &next(), &[]);
}

#[tokio::test]
async fn what_becomes_of_our_messages_comes_as_in_metas_samples() {
    let meta = Meta::new().await;
    let text = json!({ "body": "hello" });
    meta.says(BEN, "text", text.clone()).await;
    let told = meta.webhooks();
    hold("status_sent", &sample(WEBHOOKS, "status_sent"), &told[0], &[]);
    hold("status_delivered", &sample(WEBHOOKS, "status_delivered"), &told[1], &[]);
    meta.simulator.phone(BEN).reads().expect("reads");
    hold("status_read", &sample(WEBHOOKS, "status_read"), &meta.webhooks()[0], &[]);

    let id = meta.upload("audio/ogg").await["id"].clone();
    let voice = meta.says(BEN, "audio", json!({ "id": id, "voice": true })).await;
    meta.webhooks();
    meta.simulator.phone(BEN).plays(&voice).expect("plays");
    hold("status_played", &sample(WEBHOOKS, "status_played"), &meta.webhooks()[0], &[]);

    meta.simulator.fail_next(None, Some(1), Fault::FailLater { code: 131_047 });
    meta.says(BEN, "text", text.clone()).await;
    hold("status_failed", &sample(WEBHOOKS, "status_failed"), &meta.webhooks()[0], &[]);

    meta.says(ROSA, "text", text).await;
    let more: Allowed = &[
        ("entry[].changes[].value.contacts", "Meta's other samples of delivered messages have it"),
        ("entry[].changes[].value.statuses[].pricing", "likewise"),
    ];
    hold("status_to_user_id", &sample(WEBHOOKS, "status_to_user_id"), &meta.webhooks()[1], more);
}

#[tokio::test]
async fn notices_of_an_account_come_in_metas_envelope() {
    let notices = WEBHOOKS.iter().map(|(name, _)| (*name, sample(WEBHOOKS, name)));
    let notices: Vec<_> = notices.filter(|(_, it)| it["entry"][0]["time"].is_number() && it["entry"][0]["field"].is_null()).collect();
    assert!(notices.len() > 10, "the samples of accounts, templates and numbers");
    for (name, sample) in notices {
        let meta = Meta::new().await;
        let change = &sample["entry"][0]["changes"][0];
        let field = change["field"].as_str().expect("a field");
        // What nobody can subscribe to here is not sent.
        if meta_sim::FIELDS.contains(&field) {
            meta.simulator.tell_account(WABA, field, &change["value"]);
            hold(name, &sample, &meta.webhooks()[0], &[]);
        }
    }
    let meta = Meta::new().await;
    meta.simulator.put_template(WABA, template("visit_reminder"));
    meta.simulator.set_template_status(WABA, "visit_reminder", "es_MX", "PAUSED");
    let plain: Allowed = &[
        ("entry[].changes[].value.other_info", "the simulator gives no reason in words"),
        ("entry[].changes[].value.reason", "Meta has `NONE` or null where nothing was rejected"),
    ];
    hold("template_status", &sample(WEBHOOKS, "template_status"), &meta.webhooks()[0], plain);
}

/// The template of Meta's sample.
fn template(name: &str) -> Template {
    let mut listed = sample(ANSWERS, "templates")["data"][0].clone();
    listed["name"] = name.into();
    serde_json::from_value(listed).expect("a template")
}

#[tokio::test]
async fn graph_answers_as_in_metas_samples() {
    let meta = Meta::new().await;
    let wamid = meta.simulator.customer_writes(ANA, NUMBER, "hello").expect("writes");
    meta.simulator.put_template(WABA, template("visit_reminder"));
    meta.simulator.put_template(WABA, Template { held: true, id: "2".into(), ..template("held_reminder") });
    let app = meta_sim::App { callback: Some("https://hooks.example.com/webhooks/1".into()), ..Setup::demo().apps.remove(0) };
    meta.simulator.put_app(app);
    let overriding = Override { url: "https://hooks.example.com/webhooks/1".into(), verify_token: "word".into() };
    let account = meta_sim::Account { subscribed: [(APP.to_owned(), Some(overriding))].into(), ..meta_sim::Account::new(WABA, APP) };
    meta.simulator.put_account(account);
    let request = |name: &str| sample(REQUESTS, name);
    let templated = |name: &str| {
        let mut it = request("template");
        it["template"]["name"] = name.into();
        it
    };
    let app_token = format!("{APP}|{APP_SECRET}");
    let media = meta.upload("audio/ogg").await;
    let fields = "display_phone_number,verified_name,status,quality_rating,code_verification_status,name_status,platform_type,throughput,account_mode";
    let read = json!({ "messaging_product": "whatsapp", "status": "read", "message_id": wamid });
    let said = [
        ("sent", meta.send(&request("text")).await),
        ("sent_to_user_id", meta.send(&request("text_to_user_id")).await),
        ("sent_template", meta.send(&templated("visit_reminder")).await),
        ("sent_template_held", meta.send(&templated("held_reminder")).await),
        ("success", meta.send(&read).await),
        ("media_uploaded", media.clone()),
        ("media", meta.get(media["id"].as_str().expect("an id")).await),
        ("phone_numbers", meta.get(&format!("{WABA}/phone_numbers?fields={fields}")).await),
        ("health_status", meta.get(&format!("{NUMBER}?fields=health_status")).await),
        ("templates", meta.get(&format!("{WABA}/message_templates?limit=1")).await),
        ("subscribed_apps", meta.get(&format!("{WABA}/subscribed_apps")).await),
        ("subscriptions", meta.get_as(&app_token, &format!("{APP}/subscriptions")).await),
        ("debug_token", meta.get_as(&app_token, &format!("debug_token?input_token={ACCESS_TOKEN}")).await),
    ];
    for (name, ours) in said {
        hold(name, &sample(ANSWERS, name), &ours, &[]);
    }
    assert_eq!(meta.send(&templated("held_reminder")).await["messages"][0]["message_status"], "held_for_quality_assessment");
}

#[tokio::test]
async fn graph_refuses_as_in_metas_samples() {
    let meta = Meta::new().await;
    meta.simulator.customer_writes(ANA, NUMBER, "hello").expect("writes");
    let text = sample(REQUESTS, "text");
    let app_token = format!("{APP}|{APP_SECRET}");
    let held = |name: &str, ours: &Value, code: u32, allowed: Allowed| {
        assert_eq!(ours["error"]["code"].as_u64().or(ours["data"]["error"]["code"].as_u64()), Some(code.into()), "{name}: {ours}");
        hold(name, &sample(ANSWERS, name), ours, allowed);
    };

    held("error_number_unknown", &meta.post(ACCESS_TOKEN, "999/messages", &text).await, 100, &[]);
    let mut nobody = text.clone();
    nobody["to"] = "+12".into();
    held("error_parameter", &meta.send(&nobody).await, 131_009, &[]);
    held("error_template_missing", &meta.send(&sample(REQUESTS, "template")).await, 132_001, &[]);
    meta.simulator.fail_next(None, Some(1), Fault::Error { code: 131_016, subcode: None });
    held("error_unavailable", &meta.send(&text).await, 131_016, &[]);
    meta.simulator.change_number(NUMBER, |it| it.throughput = 1).expect("changes");
    held("error_throughput", &meta.send(&text).await, 130_429, &[]);
    meta.simulator.change_number(NUMBER, |it| it.throughput = 80).expect("changes");
    for _ in 0..45 {
        assert!(meta.send(&text).await["error"].is_null());
    }
    held("error_pair", &meta.send(&text).await, 131_056, &[]);
    meta.clock.advance(Duration::from_hours(25));
    held("error_window", &meta.send(&text).await, 131_047, &[]);
    let mut token = Token::new("a-token-of-old", APP, &[WABA]);
    token.expires_at_ms = Some(1_790_000_000_000);
    meta.simulator.put_token(token);
    held("error_token_expired", &meta.post("a-token-of-old", &format!("{NUMBER}/messages"), &text).await, 190, &[]);
    let known: Allowed = &[
        ("data.application", "the simulator tells of an expired token what it told of it before"),
        ("data.data_access_expires_at", "likewise"),
        ("data.expires_at", "likewise"),
        ("data.granular_scopes", "likewise"),
        ("data.issued_at", "likewise"),
        ("data.type", "likewise"),
    ];
    held("debug_token_invalid", &meta.get_as(&app_token, "debug_token?input_token=a-token-of-old").await, 190, known);
}

/// The same request with ids that exist here.
fn with_ids(request: Value, ids: &BTreeMap<&str, String>) -> Value {
    match request {
        Value::String(text) => ids.get(text.as_str()).cloned().unwrap_or(text).into(),
        Value::Array(all) => all.into_iter().map(|it| with_ids(it, ids)).collect(),
        Value::Object(all) => all.into_iter().map(|(name, it)| (name, with_ids(it, ids))).collect(),
        other => other,
    }
}

#[tokio::test]
async fn metas_rules_take_every_request_that_we_send() {
    let meta = Meta::new().await;
    let wamid = meta.simulator.customer_writes(ANA, NUMBER, "hello").expect("writes");
    meta.simulator.put_template(WABA, template("visit_reminder"));
    let mut ids = BTreeMap::from([("wamid.HBgNNTIxNTUxMjM0NTY3OBUCABIYFtextAA==", wamid.clone())]);
    for (id, mime_type) in [
        ("1003383421387256", "image/jpeg"),
        ("1003383421387257", "audio/ogg"),
        ("1003383421387258", "application/pdf"),
        ("1003383421387259", "image/webp"),
    ] {
        ids.insert(id, meta.upload(mime_type).await["id"].as_str().expect("an id").to_owned());
    }
    let (number, credentials) = (NumberId::parse(NUMBER).expect("an id"), Credentials::new(ACCESS_TOKEN, Some(APP_SECRET.to_owned())));
    for (name, json) in REQUESTS {
        let request = with_ids(serde_json::from_str(json).expect("JSON"), &ids);
        if request["status"] == "read" {
            let (wamid, typing) = (Wamid::parse(wamid.clone()).expect("an id"), !request["typing_indicator"].is_null());
            assert_eq!(meta.graph.mark_read(&number, &credentials, &wamid, typing).await, Ok(()), "{name}");
        } else {
            let sent = meta.graph.send(&number, &credentials, &request).await;
            assert!(matches!(sent, Sent::Accepted { .. }), "{name}: {sent:?}");
        }
    }
    let screen = meta.simulator.phone(ANA).screen();
    let failed: Vec<_> = screen.iter().filter(|it| it.failed.is_some()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(screen.len(), REQUESTS.len() - 2 + 1, "all but two marks of reading, and the customer's own words");
}

/// The file at this address, or what kept it away.
async fn fetched(graph: &Graph, credentials: &Credentials, url: &str) -> Result<Vec<u8>, DownloadError> {
    let mut download = graph.download(credentials, url).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = download.chunk().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[tokio::test]
async fn a_file_goes_to_meta_and_comes_back_the_same() {
    let meta = Meta::new().await;
    let (number, credentials) = (NumberId::parse(NUMBER).expect("an id"), Credentials::new(ACCESS_TOKEN, Some(APP_SECRET.to_owned())));
    // More than one read of either side.
    let mut bytes = meta_sim::smallest_file("audio/ogg");
    bytes.extend((0..1_000_000_u32).map(|it| it.to_le_bytes()[0]));
    let pieces: Vec<std::io::Result<_>> = bytes.chunks(70_000).map(|it| Ok(it.to_vec().into())).collect();
    let file = NewFile { name: "voice.ogg", mime_type: "audio/ogg; codecs=opus", size: bytes.len() as u64 };
    let id = meta.graph.upload(&number, &credentials, &file, futures::stream::iter(pieces)).await.expect("it is taken");
    let kept = meta.simulator.file(&id).expect("it is kept");
    assert_eq!((kept.mime_type.as_str(), kept.name.as_deref()), ("audio/ogg; codecs=opus", Some("voice.ogg")));

    let record = meta.graph.media(&number, &credentials, &id).await.expect("it is found");
    assert_eq!(record.size, Some(file.size));
    let hash = ring::digest::digest(&ring::digest::SHA256, &bytes);
    let hash = FileHash::new(hash.as_ref().try_into().expect("32 bytes"));
    assert_eq!(record.sha256, Some(hash), "in hex");
    assert!(fetched(&meta.graph, &credentials, &record.url).await.is_ok_and(|it| it == bytes));
    let nobody = Credentials::new("another-token", None);
    assert_eq!(fetched(&meta.graph, &nobody, &record.url).await, Err(DownloadError::Credentials));
    meta.clock.advance(Duration::from_mins(5));
    assert_eq!(fetched(&meta.graph, &credentials, &record.url).await, Err(DownloadError::Gone));
    let again = meta.graph.media(&number, &credentials, &id).await.expect("it is found again").url;
    assert!(fetched(&meta.graph, &credentials, &again).await.is_ok());

    let other = NumberId::parse(OTHER_NUMBER).expect("an id");
    assert!(meta.graph.media(&other, &credentials, &id).await.is_err(), "it is another number's");
    meta.clock.advance(Duration::from_hours(30 * 24));
    assert!(meta.graph.media(&number, &credentials, &id).await.is_err(), "it is forgotten");
}

#[tokio::test]
async fn a_customers_file_comes_with_the_hash_of_its_webhook() {
    let meta = Meta::new().await;
    meta.simulator.customer_writes(ANA, NUMBER, Inbound::Image(File::default())).expect("writes");
    let image = meta.webhooks()[0]["entry"][0]["changes"][0]["value"]["messages"][0]["image"].clone();
    let announced = FileHash::parse(image["sha256"].as_str().expect("a hash"));
    assert_eq!(image["sha256"].as_str().map(str::len), Some(44), "in base64");
    let (number, credentials) = (NumberId::parse(NUMBER).expect("an id"), Credentials::new(ACCESS_TOKEN, Some(APP_SECRET.to_owned())));
    let record = meta.graph.media(&number, &credentials, image["id"].as_str().expect("an id")).await.expect("it is found");
    assert!(announced.is_some() && announced == record.sha256);
}

#[tokio::test]
async fn trouble_with_files_is_told_as_trouble() {
    let meta = Meta::new().await;
    let (number, credentials) = (NumberId::parse(NUMBER).expect("an id"), Credentials::new(ACCESS_TOKEN, None));
    let id = meta.upload("image/png").await["id"].as_str().expect("an id").to_owned();
    let url = meta.graph.media(&number, &credentials, &id).await.expect("it is found").url;
    for (code, expected) in [(Some(404), Some(DownloadError::Gone)), (Some(403), Some(DownloadError::Credentials)), (None, None)] {
        meta.simulator.fail_calls("whatsapp_business/attachments", code, 1);
        let error = fetched(&meta.graph, &credentials, &url).await.expect_err("no file");
        assert!(expected.map_or(matches!(error, DownloadError::Trouble { .. }), |it| it == error), "{error}");
    }
    assert!(fetched(&meta.graph, &credentials, &url).await.is_ok());
    meta.simulator.fail_calls(&id, None, 1);
    let unread = meta.graph.media(&number, &credentials, &id).await.expect_err("no answer");
    assert_eq!((unread.class, unread.http), (Class::Unknown, 503));
}
