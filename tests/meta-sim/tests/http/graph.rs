//! Numbers, templates, tokens, subscriptions and files over Graph.

use axum::extract::Query;
use axum::{Router, routing::get};
use meta_sim::{Inbound, SMS_CODE, Setup, Template, smallest_file};
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::net::TcpListener;

use crate::{ACCOUNT, ANA, APP, APP_TOKEN, Meta, ONE, START, TOKEN, TWO, text};

#[tokio::test]
async fn numbers_are_listed_with_the_fields_asked_for() {
    let meta = Meta::new().await;
    let (status, answer) =
        meta.get(&format!("/v26.0/{ACCOUNT}/phone_numbers?fields=id,display_phone_number,status,quality_rating,throughput")).await;
    let sample = json!({ "id": ONE, "display_phone_number": "+1 555-010-0001", "status": "CONNECTED", "quality_rating": "GREEN", "throughput": { "level": "STANDARD" } });
    assert_eq!((status, &answer["data"][0], answer["data"].as_array().unwrap().len()), (200, &sample, 2));
    assert!(answer["paging"]["cursors"]["after"].is_string() && answer["paging"].get("next").is_none());
    let (_, one) = meta.get(&format!("/v26.0/{TWO}?fields=health_status")).await;
    assert_eq!(one["health_status"]["can_send_message"], "AVAILABLE");
    assert_eq!(meta.get("/v26.0/42").await.1["error"]["error_subcode"], 33);
    assert_eq!(meta.get(&format!("/latest/{TWO}")).await.1["error"]["code"], 2500);
}

#[tokio::test]
async fn templates_are_paged_by_cursor_and_filtered() {
    let template = |index: u32| (ACCOUNT.to_owned(), Template::of_body(&index.to_string(), &format!("t{index}"), "en_US", "Hello."));
    let meta = Meta::with(Setup { templates: (0..5).map(template).collect(), ..Setup::demo() }).await;
    let (mut after, mut names) = (String::new(), Vec::new());
    loop {
        let (_, page) = meta.get(&format!("/v25.0/{ACCOUNT}/message_templates?limit=2{after}")).await;
        names.extend(page["data"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()));
        if page["paging"].get("next").is_none() {
            break;
        }
        after = format!("&after={}", page["paging"]["cursors"]["after"].as_str().unwrap());
    }
    assert_eq!(names, ["t0", "t1", "t2", "t3", "t4"]);
    let (_, one) = meta.get(&format!("/v25.0/{ACCOUNT}/message_templates?name=t3&status=approved")).await;
    assert_eq!(
        one["data"],
        json!([{ "id": "3", "name": "t3", "language": "en_US", "status": "APPROVED", "category": "UTILITY",
        "parameter_format": "POSITIONAL", "components": [{ "type": "BODY", "text": "Hello." }] }])
    );
    assert_eq!(meta.get(&format!("/v25.0/{ACCOUNT}/message_templates?after=nonsense")).await.1["error"]["code"], 131_059);
}

#[tokio::test]
async fn debug_token_tells_validity_scopes_and_accounts() {
    let meta = Meta::new().await;
    let path = format!("/v25.0/debug_token?input_token={TOKEN}");
    let (status, answer) = meta.call(Method::GET, &path, APP_TOKEN, None).await;
    let scopes = ["whatsapp_business_management", "whatsapp_business_messaging"];
    let sample = json!({ "data": { "app_id": APP, "type": "SYSTEM_USER", "application": format!("App {APP}"), "is_valid": true, "expires_at": 0,
        "data_access_expires_at": 0, "issued_at": 0, "scopes": scopes, "granular_scopes": scopes.map(|it| json!({ "scope": it, "target_ids": [ACCOUNT] })) } });
    assert_eq!((status, answer), (200, sample));
    meta.simulator.expire_token(TOKEN);
    let (status, answer) = meta.call(Method::GET, &path, APP_TOKEN, None).await;
    assert_eq!((status, &answer["data"]["is_valid"], &answer["data"]["error"]["subcode"]), (200, &json!(false), &json!(463)));
}

#[tokio::test]
async fn the_secret_proof_is_checked_when_given_and_when_required() {
    let meta = Meta::new().await;
    let proof = meta_sim::signature("local-app-secret", TOKEN.as_bytes()).replace("sha256=", "");
    let code = async |query: &str| meta.get(&format!("/v25.0/{ONE}{query}")).await.1["error"]["code"].as_u64();
    assert_eq!(code(&format!("?appsecret_proof={proof}")).await, None);
    assert_eq!(code(&format!("?appsecret_proof={}", proof.replace(|it: char| it.is_ascii_digit(), "0"))).await, Some(100));
    let mut app = meta_sim::App::new(APP, "local-app-secret");
    app.requires_secret_proof = true;
    meta.simulator.put_app(app);
    assert_eq!(code("").await, Some(100));
}

#[tokio::test]
async fn a_token_in_the_query_is_none() {
    let meta = Meta::new().await;
    let answer = meta.request(Method::GET, &format!("/v25.0/{ONE}?access_token={TOKEN}")).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 403);
}

async fn challenge(Query(query): Query<BTreeMap<String, String>>) -> String {
    if query["hub.mode"] == "subscribe" && query["hub.verify_token"] == "word" { query["hub.challenge"].clone() } else { "no".into() }
}

#[tokio::test]
async fn a_callback_must_pass_the_handshake() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, Router::new().route("/hook", get(challenge))).await });
    let meta = Meta::new().await;
    let subscribe = async |word: &str| {
        let body = json!({ "object": "whatsapp_business_account", "callback_url": url, "verify_token": word, "fields": "messages,calls" });
        meta.call(Method::POST, &format!("/v25.0/{APP}/subscriptions"), APP_TOKEN, Some(body)).await
    };
    assert_eq!(subscribe("wrong").await.1["error"]["code"], 2200);
    assert_eq!(subscribe("word").await, (200, json!({ "success": true })));
    let (_, answer) = meta.call(Method::GET, &format!("/v25.0/{APP}/subscriptions"), APP_TOKEN, None).await;
    assert_eq!((&answer["data"][0]["callback_url"], &answer["data"][0]["fields"][0]["name"]), (&json!(url), &json!("calls")));
    let (status, _) = meta.call(Method::GET, &format!("/v25.0/{APP}/subscriptions"), TOKEN, None).await;
    assert_eq!(status, 400);

    let overriding = json!({ "override_callback_uri": url, "verify_token": "word" });
    assert_eq!(meta.post(&format!("/v25.0/{ACCOUNT}/subscribed_apps"), overriding.clone()).await.0, 200);
    let (_, apps) = meta.get(&format!("/v25.0/{ACCOUNT}/subscribed_apps")).await;
    assert_eq!(
        (&apps["data"][0]["whatsapp_business_api_data"]["id"], &apps["data"][0]["override_callback_uri"]),
        (&json!(APP), &json!(url))
    );
    assert_eq!(meta.post(&format!("/v25.0/{ONE}"), json!({ "webhook_configuration": overriding })).await.0, 200);
    meta.simulator.customer_writes(ANA, ONE, "hola").unwrap();
    let webhooks = meta.settle();
    assert_eq!((webhooks[0].path.as_str(), webhooks[0].url.as_deref()), ("/hook", Some(url.as_str())));
    server.abort();
}

#[tokio::test]
async fn registering_wants_the_pin_and_is_counted() {
    let meta = Meta::new().await;
    let register =
        async |pin: &str| meta.post(&format!("/v25.0/{ONE}/register"), json!({ "messaging_product": "whatsapp", "pin": pin })).await;
    assert_eq!(register("12").await.1["error"]["code"], 100);
    assert_eq!(register("123456").await, (200, json!({ "success": true })));
    assert_eq!(register("654321").await.1["error"]["code"], 133_005);
    assert_eq!(meta.post(&format!("/v25.0/{ONE}/deregister"), json!({})).await.0, 200);
    assert_eq!(meta.say(ANA, "deregistered").await, Err(133_010));
    for _ in 0..7 {
        assert_eq!(register("123456").await.0, 200);
    }
    assert_eq!(register("123456").await.1["error"]["code"], 133_016);
    meta.turn(72 * 3600);
    assert_eq!(register("123456").await.0, 200);
}

#[tokio::test]
async fn a_number_is_verified_by_code() {
    let meta = Meta::new().await;
    meta.simulator.change_number(ONE, |it| (it.registered, it.code_verification_status) = (false, "NOT_VERIFIED".into())).unwrap();
    let post = async |verb: &str, body: Value| meta.post(&format!("/v25.0/{ONE}/{verb}"), body).await.0;
    let register = json!({ "messaging_product": "whatsapp", "pin": "123456" });
    assert_eq!(post("register", register.clone()).await, 400);
    assert_eq!(post("request_code", json!({ "code_method": "SMS", "language": "es" })).await, 200);
    assert_eq!(post("verify_code", json!({ "code": "000000" })).await, 400);
    assert_eq!(post("verify_code", json!({ "code": SMS_CODE })).await, 200);
    assert_eq!(post("register", register).await, 200);
}

#[tokio::test]
async fn files_are_uploaded_fetched_sent_and_deleted() {
    let meta = Meta::open().await;
    let form = Form::new()
        .text("messaging_product", "whatsapp")
        .part("file", Part::bytes(b"%PDF".to_vec()).file_name("a.pdf").mime_str("application/pdf").unwrap());
    let answer = meta.request(Method::POST, &format!("/v25.0/{ONE}/media")).bearer_auth(TOKEN).multipart(form).send().await.unwrap();
    let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let id = answer["id"].as_str().unwrap();

    let (_, medium) = meta.get(&format!("/v25.0/{id}?phone_number_id={ONE}")).await;
    assert_eq!(
        (&medium["mime_type"], &medium["file_size"], medium["sha256"].as_str().unwrap().len()),
        (&json!("application/pdf"), &json!("4"), 64)
    );
    assert_eq!(meta.get(&format!("/v25.0/{id}?phone_number_id={TWO}")).await.0, 400);
    let fetch = async |token: &str| {
        let answer = meta.client.get(medium["url"].as_str().unwrap()).bearer_auth(token).send().await.unwrap();
        (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
    };
    assert_eq!(fetch(TOKEN).await, (200, b"%PDF".to_vec()));
    assert_eq!(fetch("wrong").await.0, 401);
    meta.turn(5 * 60);
    assert_eq!(fetch(TOKEN).await.0, 404);

    let document = |number: &str| json!({ "to": format!("+{ANA}"), "type": "document", "document": { "id": id, "filename": number } });
    assert_eq!(meta.send(ONE, &document(ONE)).await.0, 200);
    let image = json!({ "to": format!("+{ANA}"), "type": "image", "image": { "id": id } });
    meta.settle();
    meta.send(ONE, &image).await;
    assert_eq!(meta.statuses()[0]["errors"][0]["code"], 131_053);
    meta.simulator.customer_writes(ANA, TWO, "hola").unwrap();
    assert_eq!(meta.send(TWO, &document(TWO)).await.1["error"]["code"], 131_009);
    assert_eq!(meta.call(Method::DELETE, &format!("/v25.0/{id}"), TOKEN, None).await, (200, json!({ "success": true })));
    assert_eq!(meta.send(ONE, &document(ONE)).await.1["error"]["code"], 131_009);
}

#[tokio::test]
async fn a_file_that_is_not_what_it_says_is_accepted_and_fails() {
    let meta = Meta::open().await;
    let code = async |kind: &str, mime_type: &str, bytes: Vec<u8>, voice: bool| {
        let part = Part::bytes(bytes).file_name("file").mime_str(mime_type).unwrap();
        let form = Form::new().text("messaging_product", "whatsapp").part("file", part);
        let answer = meta.request(Method::POST, &format!("/v25.0/{ONE}/media")).bearer_auth(TOKEN).multipart(form).send().await.unwrap();
        let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        let mut sent = json!({ "to": format!("+{ANA}"), "type": kind, kind: { "id": answer["id"] } });
        if voice {
            sent[kind]["voice"] = true.into();
        }
        meta.settle();
        assert_eq!(meta.send(ONE, &sent).await.0, 200, "{kind} {mime_type}");
        meta.statuses()[0]["errors"][0]["code"].as_u64()
    };
    let (ogg, webp) = ("audio/ogg; codecs=opus", "image/webp");
    let moving = || [b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x02".to_vec(), vec![0; 200 << 10]].concat();
    let still = || [smallest_file(webp), vec![0; 100 << 10]].concat();
    for (kind, mime_type, bytes, voice, expected) in [
        ("image", "image/png", smallest_file("image/png"), false, None),
        ("image", "image/png", smallest_file("image/jpeg"), false, Some(131_053)),
        ("image", webp, smallest_file(webp), false, Some(131_053)),
        ("sticker", webp, smallest_file(webp), false, None),
        ("sticker", webp, moving(), false, None),
        ("sticker", webp, still(), false, Some(131_053)),
        ("audio", ogg, smallest_file(ogg), true, None),
        ("audio", ogg, b"OggS but no opus, which is looked for further on".to_vec(), true, Some(131_053)),
        ("audio", "audio/mpeg", b"ID3".to_vec(), false, None),
        ("audio", "audio/mpeg", b"ID3".to_vec(), true, Some(131_053)),
        ("document", "text/plain", b"words".to_vec(), false, None),
        ("document", "application/pdf", b"words".to_vec(), false, Some(131_053)),
    ] {
        assert_eq!(code(kind, mime_type, bytes, voice).await, expected, "{kind} {mime_type} {voice}");
    }
    assert_eq!((meta.simulator.uploads(ONE), meta.simulator.uploads(TWO)), (12, 0));
}

#[tokio::test]
async fn a_voice_message_is_fetched_by_the_url_of_its_webhook_within_five_minutes_and_by_id_for_a_week() {
    let meta = Meta::new().await;
    meta.simulator.customer_writes(ANA, ONE, Inbound::Audio(meta_sim::File::default())).unwrap();
    let audio = meta.values()[0]["messages"][0]["audio"].clone();
    let status = async |url: &str| meta.client.get(url).bearer_auth(TOKEN).send().await.unwrap().status().as_u16();
    assert_eq!(status(audio["url"].as_str().unwrap()).await, 200);
    meta.turn(300);
    assert_eq!(status(audio["url"].as_str().unwrap()).await, 404);
    let path = format!("/v25.0/{}", audio["id"].as_str().unwrap());
    assert_eq!(status(meta.get(&path).await.1["url"].as_str().unwrap()).await, 200);
    meta.clock.set_ms(START + 7 * 24 * 60 * 60 * 1000);
    assert_eq!(meta.get(&path).await.0, 400);
}

#[tokio::test]
async fn the_books_outlive_a_restart() {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("books-outlive.json");
    let _absent = std::fs::remove_file(&file);
    let clock = meta_sim::ManualClock::new(START);
    let open = || meta_sim::Simulator::open(clock.clone(), Setup::demo(), &file).unwrap();
    let meta = Meta::serving(open(), clock.clone()).await;
    meta.simulator.customer_writes(ANA, ONE, "hola").unwrap();
    let first = meta.say(ANA, "m:1").await.unwrap();
    let taken = meta.simulator.take_webhooks();
    meta.simulator.answered(taken[0].id, 200);
    meta.simulator.expire_token(TOKEN);
    meta.simulator.save().unwrap();
    let screen = meta.simulator.phone(ANA).screen();
    drop(meta);

    let meta = Meta::serving(open(), clock.clone()).await;
    assert_eq!((meta.simulator.phone(ANA).screen(), meta.simulator.accepted("m:1"), meta.simulator.unsent_webhooks()), (screen, 1, 2));
    // Whoever had taken webhooks is gone: they are due at once.
    assert_eq!(
        meta.simulator.take_webhooks().iter().map(|it| it.body.clone()).collect::<Vec<_>>(),
        taken[1..].iter().map(|it| it.body.clone()).collect::<Vec<_>>()
    );
    assert_eq!(meta.say(ANA, "m:2").await, Err(190));
    meta.simulator.put_token(meta_sim::Token::new(TOKEN, APP, &[ACCOUNT]));
    let second = meta.say(ANA, "m:2").await.unwrap();
    assert_ne!(first, second);

    std::fs::write(&file, "{").unwrap();
    assert!(meta_sim::Simulator::open(clock, Setup::demo(), &file).is_err());
}

#[tokio::test]
async fn wamids_are_unique() {
    let meta = Meta::open().await;
    let mut seen = std::collections::BTreeSet::new();
    for turn in 0..30 {
        assert!(seen.insert(meta.send(ONE, &text(ANA, "m")).await.1["messages"][0]["id"].as_str().unwrap().to_owned()), "{turn}");
        assert!(seen.insert(meta.simulator.customer_writes(ANA, ONE, "hola").unwrap()), "{turn}");
    }
}
