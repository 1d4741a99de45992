//! What the guide's screens do, done through the JSON API.

use serde_json::{Value, json};
use world::story::campaigns::{LANGUAGE, OFFER};
use world::story::{ANA, Answer, World};

use super::{CLOSED, DAY, HOUR, MINUTE, SECOND};

const LUIS: &str = "34600333444";

/// A tenant asks; the body, if it was done with this status.
#[track_caller]
fn done((status, body): (u16, Value), expected: u16) -> Value {
    assert_eq!(status, expected, "{body}");
    body
}

#[tokio::test]
async fn the_logs_are_read_page_by_page_newest_first() {
    let world = World::new().await;
    world.stop().await;
    world.pass(MINUTE).await;
    world.run().await;
    world.pass(MINUTE).await;
    done(world.api("POST", "/v1/connections/demo/stop", None).await, 202);
    let all = done(world.api("GET", "/v1/connections/demo/logs", None).await, 200);
    let lines: Vec<Value> = all["items"].as_array().expect("a list").clone();
    let texts: Vec<&str> = lines.iter().map(|it| it["text"].as_str().expect("a text")).collect();
    assert_eq!(texts, ["STOPPED: Stopped.", "RUNNING: Running.", "STOPPED: Stopped."]);
    assert!(lines.iter().all(|it| it["at"].as_i64().is_some_and(|it| it > 0)) && all["next"].is_null());
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = done(world.api("GET", &format!("/v1/connections/demo/logs?limit=2{cursor}"), None).await, 200);
        seen.extend(page["items"].as_array().expect("a list").clone());
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, lines);
    let refused = done(world.api("GET", "/v1/connections/demo/logs?limit=0&cursor=%21&more=1", None).await, 422);
    let errors = json!([
        { "field": "limit", "code": "invalid", "detail": "It must be as this: a number from 1 to 100." },
        { "field": "more", "code": "unknown", "detail": "There is no such field." },
    ]);
    assert_eq!(refused["errors"], errors);
}

/// The demo tenant posts, under this key of its own.
async fn posts(world: &World, key: &str, path: &str, body: Value) -> Answer {
    world.api_of("demo", "POST", path, &[("idempotency-key", key)], Some(body)).await
}

fn text(words: &str) -> Value {
    json!({ "message": { "type": "text", "text": words }, "person": "Eva" })
}

/// Path of the conversation with a customer.
async fn path(world: &World, who: &str, rest: &str) -> String {
    format!("/v1/conversations/{}{rest}", world.conversation(who).await.id)
}

#[tokio::test]
async fn a_person_answers_and_gives_the_conversation_back() {
    let world = World::new().await;
    world.writes(ANA, "hello");
    world.settle().await;
    let messages = path(&world, ANA, "/messages").await;
    let accepted = posts(&world, "k1", &messages, text("Good morning")).await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    // The conversation is hers from that moment on, before anything is sent.
    let shown = done(world.api("GET", &path(&world, ANA, "").await, None).await, 200);
    assert_eq!((&shown["answered_by"], &shown["standing"]), (&json!("person"), &json!("open")));
    // Whoever does not know whether it was taken asks again.
    assert_eq!(posts(&world, "k1", &messages, text("Good morning")).await.body, accepted.body);
    let reused = posts(&world, "k1", &messages, text("Good night")).await;
    assert_eq!((reused.status, &reused.body["code"]), (422, &json!("idempotency_key_reused")));
    assert_eq!(world.api("POST", &messages, Some(text("x"))).await.1["code"], "idempotency_key_required");
    assert_eq!(posts(&world, "k 2", &messages, text("x")).await.body["code"], "idempotency_key_required");
    world.settle().await;
    assert_eq!(world.screen(ANA), ["> hello", "< You said: hello", "< Good morning"]);
    world.writes(ANA, "are you there?");
    world.settle().await;
    assert_eq!(world.screen(ANA).len(), 4, "the agent is silent");
    world.pass(MINUTE).await;
    let released = done(world.api("POST", &path(&world, ANA, "/release").await, None).await, 200);
    assert_eq!(released["answered_by"], "agent");
    world.writes(ANA, "hello?");
    world.settle().await;
    assert_eq!(world.screen(ANA).last().map(String::as_str), Some("< You said: hello?"));
    let missed: Vec<Option<String>> = world.turns().last().expect("a turn").missed.iter().map(|it| it.text.clone()).collect();
    assert!(missed.contains(&Some("are you there?".to_owned())), "{missed:?}");
    // What was said is read back, and what became of it.
    let listed = done(world.api("GET", &messages, None).await, 200);
    let of_eva =
        listed["items"].as_array().expect("a list").iter().find(|it| it["author"] == json!({ "person": "Eva" })).expect("hers").clone();
    assert_eq!((&of_eva["id"], &of_eva["state"]), (&accepted.body["message"], &json!("delivered")));
    let story = of_eva["id"].as_str().expect("an id").split_once('/').expect("a key").1.to_owned();
    let told = done(world.api("GET", &path(&world, ANA, &format!("/messages/{story}/story")).await, None).await, 200);
    assert!(told.as_array().expect("a list").len() >= 3, "{told}");
}

#[tokio::test]
async fn of_two_requests_at_once_with_one_key_one_message_goes_out() {
    for later in 0..16 {
        let world = World::new().await;
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.settle().await;
        let messages = path(&world, ANA, "/messages").await;
        // The second begins some calls after the first, and from then on they take turns.
        world.dynamo.faults().yield_before_each(1);
        let second = async {
            for _ in 0..later {
                tokio::task::yield_now().await;
            }
            world.clock.advance(SECOND);
            posts(&world, "k", &messages, text("Good morning")).await
        };
        let (first, second) = tokio::join!(posts(&world, "k", &messages, text("Good morning")), second);
        world.dynamo.faults().yield_before_each(0);
        assert_eq!((first.status, second.status), (202, 202), "{later}: {first:?} {second:?}");
        assert_eq!(first.body, second.body, "{later}");
        world.settle().await;
        assert_eq!(world.screen(ANA), ["> hello", "< Good morning"], "{later}");
    }
}

#[tokio::test]
async fn a_page_that_would_be_too_large_ends_earlier_and_the_next_goes_on_there() {
    let world = World::new().await;
    world.agent_is_silent();
    for second in 0..60 {
        world.writes(ANA, &format!("{second} {}", "long ".repeat(20_000)));
        world.pass(SECOND).await;
    }
    let (mut seconds, mut pages, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let page = done(world.api("GET", &path(&world, ANA, &format!("/messages?limit=100{cursor}")).await, None).await, 200);
        let texts = page["items"].as_array().expect("a list").iter().filter_map(|it| it["content"]["text"].as_str());
        seconds.extend(texts.filter_map(|it| it.split(' ').next()?.parse::<u32>().ok()));
        pages += 1;
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!((pages, seconds), (2, (0..60).rev().collect()));
}

#[tokio::test]
async fn what_may_not_be_sent_is_said_at_once_and_its_key_is_free_still() {
    let world = World::new().await;
    world.writes(ANA, "hello");
    world.settle().await;
    let messages = path(&world, ANA, "/messages").await;
    let empty = posts(&world, "k", &messages, json!({ "message": { "type": "text", "text": " " } })).await;
    assert_eq!((empty.status, &empty.body["errors"][0]["field"]), (422, &json!("message.text")), "{empty:?}");
    world.pass(DAY + HOUR).await;
    let closed = posts(&world, "k", &messages, text("Good morning")).await;
    assert_eq!((closed.status, &closed.body["code"], &closed.body["detail"]), (409, &json!("template_only"), &json!(CLOSED)));
    assert!(closed.body["closed_at"].is_i64() && closed.body["retry"] == "never", "{closed:?}");
    assert_eq!(world.conversation(ANA).await.handling, None, "nobody has taken it");
    world.writes(ANA, "here I am");
    world.settle().await;
    assert_eq!(posts(&world, "k", &messages, text("Good morning")).await.status, 202, "what was refused was not done");
    world.settle().await;
    assert_eq!(world.screen(ANA).last().map(String::as_str), Some("< Good morning"));
}

#[tokio::test]
async fn a_conversation_is_started_once_until_the_customer_answers() {
    let world = World::new().await;
    let start = json!({
        "connection": "demo", "to": { "phone": LUIS }, "template": OFFER, "language": LANGUAGE,
        "values": { "body": [{ "field": "name" }] }, "fields": { "name": "Luis" }, "person": "Eva",
    });
    let accepted = posts(&world, "k1", "/v1/conversations", start.clone()).await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    assert_eq!(posts(&world, "k1", "/v1/conversations", start.clone()).await.body, accepted.body);
    world.settle().await;
    assert_eq!(world.screen(LUIS).len(), 1, "{:?}", world.screen(LUIS));
    let conversation = world.conversation(LUIS).await.id.to_string();
    assert_eq!(accepted.body["conversation"], conversation.as_str());
    let again = posts(&world, "k2", "/v1/conversations", start.clone()).await;
    assert_eq!((again.status, &again.body["code"], &again.body["conversation"]), (409, &json!("awaiting_reply"), &json!(conversation)));
    let shown = done(world.api("GET", &format!("/v1/conversations/{conversation}"), None).await, 200);
    assert_eq!(shown["standing"], "awaiting_reply");
    world.writes(LUIS, "tell me more");
    world.settle().await;
    let template = json!({ "template": OFFER, "language": LANGUAGE, "values": { "body": ["Luis"] } });
    assert_eq!(posts(&world, "k3", &format!("/v1/conversations/{conversation}/templates"), template).await.status, 202);
    world.settle().await;
    assert_eq!(world.screen(LUIS).len(), 3, "Eva has the conversation: {:?}", world.screen(LUIS));
    // What was mapped is offered to the next who fills it; what was written for Luis is not.
    let one = format!("/v1/connections/demo/templates/{OFFER}/{LANGUAGE}");
    assert_eq!(done(world.api("GET", &one, None).await, 200)["mapping"], json!({ "body": [{ "field": "name" }] }));
    let filled = done(world.api("POST", &format!("{one}/preview"), Some(json!({ "fields": { "name": "Rosa" } }))).await, 200);
    assert!(filled["preview"]["body"].as_str().expect("a text").contains("Rosa") && filled["problems"] == json!([]), "{filled}");
    let missing = done(world.api("POST", &format!("{one}/preview"), Some(json!({ "fields": {} }))).await, 200);
    assert!(missing["preview"].is_null() && missing["problems"][0]["component"] == "body", "{missing}");
    let wrong = json!({ "connection": "demo", "to": { "phone": LUIS }, "template": OFFER, "language": LANGUAGE });
    let wrong = posts(&world, "k4", "/v1/conversations", wrong).await;
    assert_eq!((wrong.status, &wrong.body["code"]), (422, &json!("invalid")), "{wrong:?}");
    assert!(wrong.body["errors"][0]["field"].as_str().expect("a place").starts_with("body"), "{wrong:?}");
}

#[tokio::test]
async fn one_agent_takes_the_turns_and_whoever_wants_to_is_told_which() {
    let world = World::new().await;
    const AGENTS: &str = "/v1/connections/demo/agents";
    let items = async || done(world.api("GET", AGENTS, None).await, 200)["items"].clone();
    let shown = |agent: &str, inbound: bool| json!({ "agent": agent, "inbound": inbound, "delivery": "turns", "quiet_ms": 0 });
    assert_eq!(items().await, json!([shown("example", true)]));
    let held = world.api("POST", AGENTS, Some(json!({ "agent": "sales" }))).await;
    assert_eq!((held.0, &held.1["code"], &held.1["holder"]), (409, &json!("inbound_held"), &json!("example")));
    done(world.api("POST", AGENTS, Some(json!({ "agent": "sales", "inbound": false }))).await, 201);
    assert_eq!(items().await, json!([shown("example", true), shown("sales", false)]));
    assert_eq!(world.api("PUT", &format!("{AGENTS}/sales"), Some(json!({ "inbound": true }))).await.0, 409);
    done(world.api("PUT", &format!("{AGENTS}/example"), Some(json!({ "inbound": false }))).await, 200);
    world.pass(MINUTE).await;
    world.writes(ANA, "hello");
    world.settle().await;
    assert!(world.turns().is_empty(), "nobody takes the turns");
    done(world.api("PUT", &format!("{AGENTS}/sales"), Some(json!({ "inbound": true }))).await, 200);
    world.pass(MINUTE).await;
    world.writes(ANA, "anybody?");
    world.settle().await;
    assert_eq!(world.turns().iter().map(|it| it.agent.to_string()).collect::<Vec<_>>(), ["sales"]);
    done(world.api("DELETE", &format!("{AGENTS}/sales"), None).await, 204);
    assert_eq!(world.api("DELETE", &format!("{AGENTS}/sales"), None).await.0, 404);
    assert_eq!(world.api("PUT", &format!("{AGENTS}/sales"), Some(json!({ "inbound": true }))).await.0, 404);
    assert_eq!(items().await, json!([shown("example", false)]));
    done(world.api("PUT", &format!("{AGENTS}/example"), Some(json!({ "inbound": true }))).await, 200);
    world.settle().await;
}

#[tokio::test]
async fn an_edit_names_what_it_was_made_of_and_shows_no_secret() {
    let world = World::new().await;
    const ONE: &str = "/v1/connections/demo";
    let read = world.api_of("demo", "GET", ONE, &[], None).await;
    let version = read.headers["etag"].to_str().expect("text").to_owned();
    assert_eq!(read.body["access_token"], json!({ "set": true, "hint": "oken" }));
    let edit = async |version: &[(&str, &str)], body: Value| world.api_of("demo", "PATCH", ONE, version, Some(body)).await;
    let without = edit(&[], json!({ "name": "Shop" })).await;
    assert_eq!((without.status, &without.body["code"]), (428, &json!("version_required")));
    let of_this = [("if-match", version.as_str())];
    // What was shown is sent back with one change: the masks leave the secrets as they are.
    let mask = read.body["access_token"].clone();
    let edited = edit(&of_this, json!({ "name": "Shop", "access_token": mask, "app_secret": read.body["app_secret"] })).await;
    assert_eq!((edited.status, &edited.body["name"]), (200, &json!("Shop")), "{edited:?}");
    let moved = edit(&of_this, json!({ "name": "Other shop" })).await;
    assert_eq!((moved.status, &moved.body["code"]), (412, &json!("moved")));
    let version = edited.headers["etag"].to_str().expect("text").to_owned();
    for (tag, status, code) in [
        ("7", 400, "malformed_version"),
        ("\"7", 400, "malformed_version"),
        ("\"6\", \"7\"", 400, "malformed_version"),
        (&format!("W/{version}"), 412, "moved"),
        ("\"of something else\"", 412, "moved"),
    ] {
        let refused = edit(&[("if-match", tag)], json!({ "name": "Other shop" })).await;
        assert_eq!((refused.status, &refused.body["code"]), (status, &json!(code)), "{tag}");
    }
    let whichever = edit(&[("if-match", "*")], json!({ "name": "Any shop" })).await;
    assert_eq!((whichever.status, &whichever.body["name"]), (200, &json!("Any shop")), "{whichever:?}");
    let version = whichever.headers["etag"].to_str().expect("text").to_owned();
    let running = edit(&[("if-match", &version)], json!({ "phone_number_ids": ["100000000000001"] })).await;
    assert_eq!((running.status, &running.body["code"]), (409, &json!("stop_first")));
    world.writes(ANA, "hello");
    world.settle().await;
    assert_eq!(world.screen(ANA), ["> hello", "< You said: hello"], "the token is the same");
}

#[tokio::test]
async fn what_is_saved_of_a_customer_fills_the_next_template() {
    let world = World::new().await;
    world.writes(ANA, "hello");
    world.settle().await;
    let (conversation, contact) = (world.conversation(ANA).await.id.to_string(), path(&world, ANA, "/contact").await);
    let read = world.api_of("demo", "GET", &contact, &[], None).await;
    let version = read.headers["etag"].to_str().expect("text").to_owned();
    assert_eq!(read.body, json!({ "fields": {} }));
    let put = async |name: &str| {
        world.api_of("demo", "PUT", &contact, &[("if-match", &version)], Some(json!({ "fields": { "name": name } }))).await.status
    };
    assert_eq!((put("Ana").await, put("Anna").await), (200, 412), "nobody's edit is lost");
    let filling = json!({ "conversation": conversation, "values": { "body": [{ "field": "name" }] } });
    let filled = done(world.api("POST", &format!("/v1/connections/demo/templates/{OFFER}/{LANGUAGE}/preview"), Some(filling)).await, 200);
    assert!(filled["preview"]["body"].as_str().expect("a text").contains("Ana"), "{filled}");
}

#[tokio::test]
async fn what_a_customer_wants_is_noted_and_held_to() {
    let world = World::new().await;
    world.writes(ANA, "no more offers");
    world.settle().await;
    let wishes = path(&world, ANA, "/wishes").await;
    assert_eq!(done(world.api("GET", &wishes, None).await, 200), json!({ "opt_out": false, "do_not_contact": false }));
    done(world.api("PUT", &wishes, Some(json!({ "opt_out": true }))).await, 200);
    let template = json!({ "template": OFFER, "language": LANGUAGE, "values": { "body": ["Ana"] } });
    let templates = path(&world, ANA, "/templates").await;
    assert_eq!(posts(&world, "k1", &templates, template.clone()).await.body["code"], "opted_out");
    world.pass(MINUTE).await;
    assert_eq!(done(world.api("PUT", &wishes, Some(json!({ "opt_out": false }))).await, 200)["opt_out"], false);
    assert_eq!(posts(&world, "k1", &templates, template).await.status, 202);
    world.settle().await;
}

#[tokio::test]
async fn what_is_erased_is_there_for_nobody() {
    let world = World::new().await;
    world.writes(ANA, "hello");
    world.settle().await;
    let one = path(&world, ANA, "").await;
    done(world.api("DELETE", &one, None).await, 202);
    world.pass(HOUR).await;
    assert_eq!(world.api("GET", &one, None).await.0, 404);
    assert_eq!(world.api("GET", &format!("{one}/messages"), None).await.0, 404);
}

#[tokio::test]
async fn what_failed_is_sent_again_once_whoever_asks_for_it() {
    let world = World::new().await;
    world.writes(ANA, "hello");
    world.settle().await;
    let messages = path(&world, ANA, "/messages").await;
    world.meta.fail_next(None, Some(1), meta_sim::Fault::Error { code: 131_026, subcode: None });
    let failed = posts(&world, "k1", &messages, text("Good morning")).await.body["message"].as_str().expect("a key").to_owned();
    world.pass(MINUTE).await;
    let again = path(&world, ANA, &format!("/messages/{}/resend", failed.split_once('/').expect("a key").1)).await;
    // Two people at once; and the first once more, who was not answered.
    let first = posts(&world, "k2", &again, json!({ "person": "Eva" })).await;
    let second = posts(&world, "k3", &again, json!({ "person": "Max" })).await;
    assert_eq!((first.status, second.status, &second.body["code"]), (202, 409, &json!("sent_again")), "{first:?} {second:?}");
    assert_eq!(posts(&world, "k2", &again, json!({ "person": "Eva" })).await.body, first.body);
    world.settle().await;
    let late = posts(&world, "k4", &again, json!({})).await;
    assert_eq!((late.status, &late.body["code"]), (409, &json!("sent_again")));
    let screen = world.screen(ANA);
    assert_eq!(screen.iter().filter(|it| it.contains("Good morning")).count(), 1, "{screen:?}");
    let key = first.body["message"].as_str().expect("a key").split_once('/').expect("a key").1.to_owned();
    let arrived = posts(&world, "k5", &path(&world, ANA, &format!("/messages/{key}/resend")).await, json!({})).await;
    assert_eq!((arrived.status, &arrived.body["code"]), (409, &json!("arrived")));
}

#[tokio::test]
async fn a_template_takes_the_contacts_fields_as_its_preview_does() {
    let world = World::new().await;
    world.writes(ANA, "hello");
    world.settle().await;
    let contact = path(&world, ANA, "/contact").await;
    let tag = world.api_of("demo", "GET", &contact, &[], None).await.headers["etag"].to_str().expect("text").to_owned();
    let saved = world.api_of("demo", "PUT", &contact, &[("if-match", &tag)], Some(json!({ "fields": { "first_name": "Ana" } }))).await;
    assert_eq!(saved.status, 200, "{saved:?}");
    let body = json!({ "template": OFFER, "language": LANGUAGE, "values": { "body": [{ "field": "first_name" }] } });
    let sent = posts(&world, "k1", &path(&world, ANA, "/templates").await, body).await;
    assert_eq!(sent.status, 202, "{sent:?}");
    world.settle().await;
    let screen = world.screen(ANA);
    assert!(screen.last().expect("a message").contains("Ana"), "{screen:?}");
}

#[tokio::test]
async fn an_agent_is_given_an_address_and_its_secret_is_shown_once() {
    let world = World::new().await;
    const AGENTS: &str = "/v1/connections/demo/agents";
    let example = format!("{AGENTS}/example");
    let secret_of = |it: &Value| it["signing_secret"]["text"].as_str().map(str::to_owned);
    let listens = json!({ "delivery": { "https": { "url": " https://Agent.Example/turns?key=1 " } }, "quiet_ms": 1_500 });
    let made = done(world.api("PUT", &example, Some(listens.clone())).await, 200);
    let secret = secret_of(&made).expect("it was made just now");
    assert!(secret.starts_with("whsec_") && made["inbound"] == true, "what is absent stays: {made}");
    assert_eq!(made["delivery"], json!({ "https": { "url": "https://agent.example/turns?key=1" } }));
    let shown = done(world.api("GET", AGENTS, None).await, 200)["items"][0].clone();
    assert_eq!(shown["signing_secret"], json!({ "set": true, "hint": secret[secret.len() - 4..] }));
    assert_eq!((&shown["delivery"], &shown["quiet_ms"]), (&made["delivery"], &json!(1_500)));
    let again = done(world.api("PUT", &example, Some(listens)).await, 200);
    assert_eq!(secret_of(&again), None, "it stays: {again}");
    let rotated = done(world.api("PUT", &example, Some(json!({ "rotate_secret": true }))).await, 200);
    assert_ne!(secret_of(&rotated).expect("another"), secret);
    let back = done(world.api("PUT", &example, Some(json!({ "delivery": "turns" }))).await, 200);
    assert_eq!((&back["delivery"], &back["signing_secret"]), (&json!("turns"), &Value::Null));
    let none = done(world.api("PUT", &example, Some(json!({ "rotate_secret": true }))).await, 422);
    assert_eq!((&none["errors"][0]["field"], &none["errors"][0]["code"]), (&json!("rotate_secret"), &json!("not_https")));
    let lines = done(world.api("GET", "/v1/connections/demo/logs", None).await, 200).to_string();
    assert!(lines.contains("is attached with Inbound, over HTTPS.") && !lines.contains("agent.example"), "{lines}");
}

#[tokio::test]
async fn speech_to_text_is_set_kept_and_taken_away_and_its_key_goes_nowhere_else() {
    let world = World::new().await;
    let example = "/v1/connections/demo/agents/example";
    let put = async |speech: Value| world.api("PUT", example, Some(json!({ "speech_to_text": speech }))).await;
    let url = "https://speech.example/v1/audio/transcriptions";
    let set = done(put(json!({ "url": url, "model": "whisper-1", "language": "es", "key": "sk-0123456789abcdef" })).await, 200);
    let key = json!({ "set": true, "hint": "cdef" });
    assert_eq!(set["speech_to_text"], json!({ "url": url, "model": "whisper-1", "language": "es", "key": key }));
    for unchanged in [json!({ "url": url, "model": "whisper-2" }), json!({ "url": url, "model": "whisper-2", "key": key })] {
        let kept = done(put(unchanged).await, 200);
        assert_eq!(kept["speech_to_text"], json!({ "url": url, "model": "whisper-2", "key": key }));
    }
    let elsewhere = done(put(json!({ "url": "https://other.example/", "model": "whisper-2", "key": key })).await, 422);
    assert_eq!((&elsewhere["errors"][0]["field"], &elsewhere["errors"][0]["code"]), (&json!("speech_to_text.key"), &json!("required")));
    let report = async || done(world.api("GET", "/v1/connections/demo/health", None).await, 200)["checks"].to_string();
    assert!(report().await.contains("is told the words of voice messages"));
    // Nothing else that is changed takes it away; null does.
    done(world.api("PUT", example, Some(json!({ "quiet_ms": 0 }))).await, 200);
    assert!(done(world.api("GET", "/v1/connections/demo/agents", None).await, 200)["items"][0]["speech_to_text"].is_object());
    assert_eq!(done(put(Value::Null).await, 200)["speech_to_text"], Value::Null);
    assert!(report().await.contains("Voice messages arrive without transcription. Configure speech-to-text for agent example"));
}

#[tokio::test]
async fn every_wrong_field_of_an_agent_is_named_at_once_alone_or_with_its_connection() {
    let world = World::new().await;
    let wrong = json!({
        "delivery": { "https": { "url": "https://10.0.0.1/turns" } },
        "speech_to_text": { "url": "http://speech.example/", "model": " ", "language": "Spanish", "key": "has a blank" },
        "quiet_ms": 3_001,
    });
    let expected = [
        ("delivery.https.url", "private_address"),
        ("quiet_ms", "out_of_range"),
        ("speech_to_text.key", "malformed"),
        ("speech_to_text.language", "malformed"),
        ("speech_to_text.model", "malformed"),
        ("speech_to_text.url", "not_https"),
    ];
    let named = |body: &Value| {
        let errors = body["errors"].as_array().expect("a list").iter();
        errors.map(|it| format!("{} {}", it["field"].as_str().expect("text"), it["code"].as_str().expect("text"))).collect::<Vec<_>>()
    };
    let put = done(world.api("PUT", "/v1/connections/demo/agents/example", Some(wrong.clone())).await, 422);
    assert_eq!(named(&put), expected.map(|(field, code)| format!("{field} {code}")));
    assert!(!put.to_string().contains("has a blank") && !put.to_string().contains("10.0.0.1"), "nothing is said back: {put}");
    let mut attach = wrong;
    attach["agent"] = "sales".into();
    let made = done(world.api("POST", "/v1/connections", Some(json!({ "name": "", "attach": attach }))).await, 422);
    let of_connection = ["access_token required", "business_account_id required", "name required"].map(str::to_owned);
    let mut of_both: Vec<String> = expected.iter().map(|(field, code)| format!("attach.{field} {code}")).chain(of_connection).collect();
    of_both.sort();
    assert_eq!(named(&made), of_both);
    assert_eq!(done(world.api("GET", "/v1/connections", None).await, 200)["items"].as_array().map(Vec::len), Some(1), "none was made");
}

#[tokio::test]
async fn no_agent_listens_where_the_public_does_not() {
    let world = World::new().await;
    let refused = [
        ("http://agent.example/", "not_https"),
        ("https://127.0.0.1:8443@agent.example/", "has_user"),
        ("https://agent.example:8443/", "not_port_443"),
        ("https://192.168.1.1/", "private_address"),
        ("https://169.254.169.254/latest/meta-data", "private_address"),
        ("https://100.64.0.1/", "private_address"),
        ("https://0xA000001/", "private_address"),
        ("https://012.0.0.1/", "private_address"),
        ("https://[fd00::1]/", "private_address"),
        ("https://[::ffff:10.0.0.1]/", "private_address"),
        ("https://agent/", "private_address"),
        ("agent.example", "not_an_address"),
    ];
    for (url, code) in refused {
        let body = json!({ "delivery": { "https": { "url": url } } });
        let answer = done(world.api("PUT", "/v1/connections/demo/agents/example", Some(body)).await, 422);
        assert_eq!((&answer["errors"][0]["field"], &answer["errors"][0]["code"]), (&json!("delivery.https.url"), &json!(code)), "{url}");
    }
    assert_eq!(world.attachment().await.endpoint, None);
}

#[tokio::test]
async fn a_connection_is_made_with_an_agent_that_listens_on_https_in_one_call() {
    let world = World::new().await;
    let body = json!({
        "name": "Shop", "access_token": "EAAG0000000000", "business_account_id": "300000000000009",
        "attach": { "agent": "sales", "delivery": { "https": { "url": "https://agent.example/" } }, "quiet_ms": 500 },
    });
    let made = done(world.api("POST", "/v1/connections", Some(body)).await, 201);
    assert!(made["attached"]["signing_secret"]["text"].as_str().is_some_and(|it| it.starts_with("whsec_")), "{made}");
    assert_eq!((&made["attached"]["agent"], &made["attached"]["quiet_ms"]), (&json!("sales"), &json!(500)));
    let shown = done(world.api("GET", &format!("/v1/connections/{}", made["id"].as_str().expect("an id")), None).await, 200);
    assert!(!shown.to_string().contains("whsec_"), "{shown}");
    let report = done(world.api("GET", "/v1/connections/demo/health", None).await, 200);
    assert!(!report["checks"].to_string().contains("agent_endpoint"), "this one has none: {report}");
    world.settle().await;
}

#[tokio::test]
async fn the_health_report_tells_of_an_endpoint_that_is_down() {
    let world = World::new().await;
    let agent = world.agent_listens_on_https().await;
    let check = async || {
        let report = done(world.api("GET", "/v1/connections/demo/health", None).await, 200);
        let found = report["checks"].as_array().expect("a list").iter().find(|it| it["name"] == "agent_endpoint").cloned();
        found.expect("it is looked at")
    };
    assert_eq!(check().await["ok"], json!(true));
    agent.says(410, "");
    world.writes(ANA, "hello");
    world.settle().await;
    let down = check().await;
    assert_eq!((&down["ok"], &down["why"]), (&json!(false), &json!("Agent example does not take its turns: it answers with 410.")));
    assert!(down["what_to_do"].as_str().is_some_and(|it| it.contains("give the agent another address")), "{down}");
    assert!(done(world.api("GET", "/v1/connections/demo/agents", None).await, 200)["items"][0]["down_since"].is_i64());
    // Whoever has mended it need not wait for the next ping.
    agent.says_back();
    let same = json!({ "delivery": { "https": { "url": agent.url } } });
    done(world.api("PUT", "/v1/connections/demo/agents/example", Some(same)).await, 200);
    world.pass(MINUTE).await;
    assert_eq!((check().await["ok"].clone(), world.screen(ANA).len()), (json!(true), 2));
    world.pass(HOUR).await;
}
