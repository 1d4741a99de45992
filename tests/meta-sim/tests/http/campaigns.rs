//! Templates as a campaign sends them: what Meta refuses, holds back, limits and lists, and what the books say afterwards.

use std::time::Duration;

use meta_sim::{Customer, Edit, Fault, Limits, Setup, Template};
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::{ACCOUNT, ANA, Meta, ONE, START, TOKEN, TWO, names};

const EVA: &str = "5215587654321";
const LEO: &str = "5215500000001";
const DAY: u64 = 24 * 60 * 60;

/// A marketing, a utility and an authentication template.
fn setup() -> Setup {
    let of = |id: &str, name: &str, category: &str, text: &str| {
        (ACCOUNT.to_owned(), Template::of_body(id, name, "en_US", text).in_category(category))
    };
    let mut code = of("3", "code", "AUTHENTICATION", "Your code is {{1}}.");
    code.1.components.push(json!({ "type": "BUTTONS", "buttons": [{ "type": "OTP", "otp_type": "COPY_CODE", "text": "Copy" }] }));
    let templates = vec![of("1", "news", "MARKETING", "News of the clinic."), of("2", "visit", "UTILITY", "Come tomorrow."), code];
    Setup { templates, ..Setup::demo() }
}

fn template(to: &str, name: &str) -> Value {
    json!({ "messaging_product": "whatsapp", "to": format!("+{to}"), "type": "template", "template": { "name": name, "language": { "code": "en_US" } } })
}

impl Meta {
    /// Sends a template from the first number: Meta's code if it is refused, or fails at once by a status.
    async fn campaign(&self, to: &str, name: &str) -> Result<(), u64> {
        let (_, answer) = self.send(ONE, &template(to, name)).await;
        let failed = self.statuses().into_iter().find(|it| it["status"] == "failed").map(|it| it["errors"][0]["code"].clone());
        match answer["error"]["code"].as_u64().or(failed.and_then(|it| it.as_u64())) {
            Some(code) => Err(code),
            None => Ok(()),
        }
    }

    async fn file(&self, number: &str, mime_type: &str) -> String {
        let part = Part::bytes(meta_sim::smallest_file(mime_type)).file_name("file").mime_str(mime_type).unwrap();
        let form = Form::new().text("messaging_product", "whatsapp").text("type", mime_type.to_owned()).part("file", part);
        let request = self.request(Method::POST, &format!("/v25.0/{number}/media")).bearer_auth(TOKEN).multipart(form);
        let answer: Value = serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap();
        answer["id"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_header_takes_a_file_of_this_number_that_fits() {
    let meta = Meta::with(setup()).await;
    let mut photo = Template::of_body("9", "photo", "en_US", "Look, {{1}}.");
    photo.components.push(json!({ "type": "HEADER", "format": "IMAGE" }));
    meta.simulator.put_template(ACCOUNT, photo);
    let code = async |id: &str| {
        let mut body = template(ANA, "photo");
        body["template"]["language"]["code"] = "en-US".into();
        body["template"]["components"] = json!([{ "type": "HEADER", "parameters": [{ "type": "image", "image": { "id": id } }] },
            { "type": "body", "parameters": [{ "type": "text", "text": "Ana" }] }]);
        let (_, answer) = meta.send(ONE, &body).await;
        (answer["error"]["code"].clone(), meta.statuses().first().map(|it| it["errors"][0]["code"].clone()).unwrap_or_default())
    };
    let (fits, elsewhere, other) =
        (meta.file(ONE, "image/png").await, meta.file(TWO, "image/png").await, meta.file(ONE, "application/pdf").await);
    assert_eq!(code(&fits).await, (Value::Null, Value::Null));
    assert_eq!(code(&elsewhere).await, (json!(131_009), Value::Null));
    assert_eq!(code("123").await, (json!(131_009), Value::Null));
    assert_eq!(code(&other).await, (Value::Null, json!(131_053)));
    let line = &meta.simulator.phone(ANA).screen()[0];
    assert_eq!((line.text.as_deref(), &line.content["shown"]["header"]["image"]["id"]), (Some("Look, Ana."), &json!(fits)));
}

#[tokio::test]
async fn a_code_goes_to_a_telephone_only() {
    let id = "MX.9007199254740993";
    let meta = Meta::with(Setup { customers: vec![Customer::with_phone(ANA).and_user_id(id)], ..setup() }).await;
    let parameters = json!([{ "type": "text", "text": "123456" }]);
    let mut body = template(ANA, "code");
    body["template"]["components"] = json!([{ "type": "body", "parameters": parameters },
        { "type": "button", "sub_type": "url", "index": "0", "parameters": parameters }]);
    assert_eq!(meta.send(ONE, &body).await.0, 200);
    body.as_object_mut().unwrap().remove("to");
    body["recipient"] = id.into();
    assert_eq!(meta.send(ONE, &body).await.1["error"]["code"], 131_062);
    let mut visit = template(ANA, "visit");
    visit.as_object_mut().unwrap().remove("to");
    visit["recipient"] = id.into();
    assert_eq!(meta.send(ONE, &visit).await.0, 200);
}

#[tokio::test]
async fn who_stops_marketing_gets_none_from_any_number_until_they_resume() {
    let meta = Meta::with(setup()).await;
    meta.simulator.customer_writes(ANA, ONE, "hola").unwrap();
    meta.simulator.phone(ANA).prefers(TWO, "stop").unwrap();
    meta.settle();
    assert_eq!(meta.campaign(ANA, "news").await, Err(131_050), "in an open window too");
    assert_eq!(meta.campaign(ANA, "visit").await, Ok(()));
    assert_eq!(meta.campaign(EVA, "news").await, Ok(()));
    meta.simulator.phone(ANA).prefers(ONE, "resume").unwrap();
    meta.settle();
    assert_eq!(meta.campaign(ANA, "news").await, Ok(()));
}

#[tokio::test]
async fn marketing_per_customer_is_limited_until_an_answer_or_a_day_later() {
    let meta = Meta::with(setup()).await;
    meta.simulator.set_limits(Limits { marketing_per_customer: Some(2), ..Limits::default() });
    let news = async || meta.campaign(ANA, "news").await;
    assert_eq!([news().await, news().await, news().await], [Ok(()), Ok(()), Err(131_049)]);
    assert_eq!(meta.campaign(ANA, "visit").await, Ok(()));
    meta.turn(DAY);
    assert_eq!(news().await, Ok(()));
    assert_eq!([news().await, news().await], [Ok(()), Err(131_049)]);
    meta.simulator.customer_writes(ANA, ONE, "what is new?").unwrap();
    meta.settle();
    for _ in 0..3 {
        assert_eq!(news().await, Ok(()), "an open window does not count");
    }
    let (_, other) = meta.send(TWO, &template(ANA, "news")).await;
    assert_eq!((&other["error"], names(&meta.statuses())), (&Value::Null, vec!["sent", "delivered"]));
}

#[tokio::test]
async fn who_is_in_an_experiment_gets_no_marketing_outside_the_window() {
    let meta = Meta::with(setup()).await;
    meta.simulator.change_customer(ANA, |it| it.in_experiment = true).unwrap();
    assert_eq!(meta.campaign(ANA, "news").await, Err(130_472));
    assert_eq!(meta.campaign(ANA, "visit").await, Ok(()));
    meta.simulator.customer_writes(ANA, ONE, "hola").unwrap();
    meta.settle();
    assert_eq!(meta.campaign(ANA, "news").await, Ok(()));
}

#[tokio::test]
async fn a_portfolio_reaches_so_many_customers_a_day() {
    let meta = Meta::with(setup()).await;
    meta.simulator.set_limits(Limits { customers_per_day: Some(2), ..Limits::default() });
    assert_eq!(meta.values(), [json!({ "max_daily_conversations_per_business": "TIER_2", "max_phone_numbers_per_business": 20 })]);
    assert_eq!([meta.campaign(ANA, "visit").await, meta.campaign(EVA, "visit").await], [Ok(()), Ok(())]);
    assert_eq!(meta.campaign(LEO, "visit").await, Err(131_048));
    assert_eq!(meta.campaign(ANA, "news").await, Ok(()), "she was reached already");
    meta.simulator.customer_writes(LEO, ONE, "hola").unwrap();
    meta.settle();
    assert_eq!(meta.campaign(LEO, "visit").await, Ok(()), "in the window he does not count");
    let (_, told) = meta.get(&format!("/v25.0/{ACCOUNT}?fields=whatsapp_business_manager_messaging_limit")).await;
    assert_eq!(told, json!({ "id": ACCOUNT, "whatsapp_business_manager_messaging_limit": "TIER_2" }));
    meta.turn(DAY);
    assert_eq!(meta.campaign("5215500000002", "visit").await, Ok(()));
}

#[tokio::test]
async fn held_messages_wait_for_metas_judgement_of_their_template() {
    let meta = Meta::with(setup()).await;
    let hold = || meta.simulator.put_template(ACCOUNT, Template { hold_after: Some(1), ..setup().templates[0].1.clone() });
    let status = async |to: &str| meta.send(ONE, &template(to, "news")).await.1["messages"][0]["message_status"].clone();
    hold();
    assert_eq!([status(ANA).await, status(EVA).await], ["accepted", "held_for_quality_assessment"]);
    assert_eq!(names(&meta.statuses()), ["sent", "delivered"], "only the first");
    assert_eq!(meta.simulator.release_held(true), 1);
    assert_eq!(names(&meta.statuses()), ["sent", "delivered"]);
    assert_eq!(status(LEO).await, "accepted", "it was judged good");
    meta.settle();

    hold();
    assert_eq!([status("5215500000002").await, status("5215500000003").await], ["accepted", "held_for_quality_assessment"]);
    meta.settle();
    assert_eq!(meta.simulator.release_held(false), 1);
    let told = meta.values();
    assert_eq!((&told[0]["statuses"][0]["errors"][0]["code"], &told[1]["event"]), (&json!(132_015), &json!("PAUSED")));
    assert_eq!(told[1]["message_template_language"], "en-US");
    assert_eq!(meta.send(ONE, &template(ANA, "news")).await.1["error"]["code"], 132_015);
}

#[tokio::test]
async fn marketing_messages_are_a_way_of_their_own() {
    let meta = Meta::with(setup()).await;
    let post = async |body: &Value| {
        let (status, answer) = meta.post(&format!("/v25.0/{ONE}/marketing_messages"), body.clone()).await;
        (status, answer["error"]["code"].as_u64())
    };
    let mut news = template(ANA, "news");
    news["product_policy"] = "STRICT".into();
    news["message_activity_sharing"] = true.into();
    assert_eq!(post(&news).await, (500, Some(134_102)));
    meta.simulator.change_account(ACCOUNT, |it| it.marketing_messages_lite_api_status = "ONBOARDED".into()).unwrap();
    assert_eq!(post(&news).await, (200, None));
    assert_eq!(meta.statuses()[0]["pricing"]["category"], "marketing_lite");
    assert_eq!(post(&template(ANA, "visit")).await, (400, Some(134_100)));
    assert_eq!(post(&crate::text(ANA, "m:1")).await, (400, Some(131_055)));
    for (name, value) in [("product_policy", json!("LOOSE")), ("product_policy", json!(1)), ("message_activity_sharing", json!("yes"))] {
        let mut body = news.clone();
        body[name] = value;
        assert_eq!(post(&body).await, (400, Some(100)), "{name}");
    }
    meta.simulator.fail_next(None, Some(1), Fault::Error { code: 131_016, subcode: None });
    assert_eq!(post(&news).await, (500, Some(131_016)));

    assert_eq!(meta.campaign(ANA, "news").await, Ok(()));
    meta.simulator.change_account(ACCOUNT, |it| it.disable_marketing_messages_on_cloud_api = true).unwrap();
    assert_eq!(meta.campaign(ANA, "news").await, Err(131_063));
    assert_eq!((meta.campaign(ANA, "visit").await, post(&news).await), (Ok(()), (200, None)));
    let (_, told) = meta.get(&format!("/v25.0/{ACCOUNT}?fields=marketing_messages_lite_api_status")).await;
    assert_eq!(told["marketing_messages_lite_api_status"], "ONBOARDED");
}

#[tokio::test]
async fn a_listing_tells_what_it_is_asked_and_no_token_follows_the_last_page() {
    let mut generated = Template { source: Some("AUTO_GENERATED".into()), ..Template::of_body("4", "auto_generated_1", "en-US", "Hi.") };
    generated.sub_category = Some("CUSTOM".into());
    let meta = Meta::with(setup()).await;
    meta.simulator.put_template(ACCOUNT, generated);
    assert!(meta.simulator.edit_template(ACCOUNT, "visit", "en-US", &Edit::Category { category: "MARKETING".into() }));
    assert!(meta.simulator.edit_template(ACCOUNT, "news", "en_US", &Edit::Quality { score: "YELLOW".into() }));
    assert!(!meta.simulator.edit_template(ACCOUNT, "news", "es_MX", &Edit::Deleted));
    assert_eq!(meta.values().len(), 2);
    let path = format!("/v25.0/{ACCOUNT}/message_templates");
    let fields = "fields=name,language,category,previous_category,quality_score,source,sub_category,rejected_reason,correct_category";
    let (_, first) = meta.get(&format!("{path}?{fields}&limit=3")).await;
    let listed = |index: usize| first["data"][index].clone();
    assert_eq!((&listed(0)["quality_score"]["score"], &listed(0)["rejected_reason"]), (&json!("YELLOW"), &json!("NONE")));
    assert_eq!((&listed(1)["previous_category"], &listed(1)["category"]), (&json!("UTILITY"), &json!("MARKETING")));
    assert!(first["paging"]["next"].as_str().unwrap().contains(&format!("access_token={TOKEN}")));
    let after = first["paging"]["cursors"]["after"].as_str().unwrap();
    let (_, last) = meta.get(&format!("{path}?{fields}&limit=3&after={after}")).await;
    let auto = json!({ "id": "4", "name": "auto_generated_1", "language": "en_US", "category": "UTILITY", "source": "AUTO_GENERATED",
        "sub_category": "CUSTOM", "quality_score": { "score": "UNKNOWN", "date": 0 }, "rejected_reason": "NONE" });
    assert_eq!((&last["data"], &last["paging"]["next"]), (&json!([auto]), &Value::Null));
    assert!(meta.simulator.edit_template(ACCOUNT, "news", "en_US", &Edit::Deleted));
    assert_eq!(meta.campaign(ANA, "news").await, Err(132_001));
    assert_eq!(meta.get(&format!("{path}?name=news&language=en_US")).await.1["data"], json!([]));
}

#[tokio::test]
async fn management_calls_are_limited_per_hour_if_asked() {
    let meta = Meta::with(setup()).await;
    meta.simulator.set_limits(Limits { calls_per_hour: Some(2), ..Limits::default() });
    let templates = format!("/v25.0/{ACCOUNT}/message_templates");
    let code = async |path: &str| meta.get(path).await.1["error"]["code"].as_u64();
    assert_eq!([code(&templates).await, code(&format!("/v25.0/{ONE}")).await, code(&templates).await], [None, None, Some(80007)]);
    assert_eq!(code(&format!("/v25.0/{ACCOUNT}")).await, Some(80007));
    assert_eq!(meta.campaign(ANA, "visit").await, Ok(()), "sends are no management");
    meta.turn(60 * 60);
    assert_eq!(code(&templates).await, None);
}

#[tokio::test]
async fn the_books_tell_who_received_what_from_which_number_and_when_it_was_sent() {
    let meta = Meta::with(setup()).await;
    meta.simulator.customer_writes(ANA, ONE, "hola").unwrap();
    let mut visit = template(ANA, "visit");
    visit["biz_opaque_callback_data"] = "job-1".into();
    meta.send(TWO, &visit).await;
    meta.turn(3);
    meta.say(ANA, "m:1").await.unwrap();
    meta.simulator.phone(EVA).blocks(ONE).unwrap();
    meta.send(ONE, &template(EVA, "visit")).await;
    let received = meta.simulator.received(ANA);
    let told: Vec<_> = received.iter().map(|it| (it.number.as_str(), it.opaque.as_deref(), it.kind.as_str(), it.at_ms)).collect();
    assert_eq!(told, [(TWO, Some("job-1"), "template", START), (ONE, Some("m:1"), "text", START + 3000)]);
    assert_eq!(received[0].template, Some(("visit".into(), "en_US".into())));
    assert_eq!(received[0].text.as_deref(), Some("Come tomorrow."));
    assert_eq!(meta.simulator.all_received(), [(ANA.to_owned(), received)].into());
    assert_eq!(meta.simulator.sends_of(ONE), [START + 3000, START + 3000], "also what failed later");

    meta.turn(1);
    meta.simulator.change_number(TWO, |it| it.throughput = 1).unwrap();
    let codes = [meta.send(TWO, &visit).await, meta.send(TWO, &visit).await].map(|(_, it)| it["error"]["code"].as_u64());
    assert_eq!((codes, meta.simulator.throttled_of(TWO), meta.simulator.throttled_of(ONE)), ([None, Some(130_429)], 1, 0));
    let (_, sends) = meta.get(&format!("/sim/numbers/{TWO}/sends")).await;
    assert_eq!(sends, json!({ "sends": [START, START + 4000], "throttled": 1 }));
}

#[tokio::test]
async fn a_share_of_the_sends_meets_a_fault_and_the_others_none() {
    let meta = Meta::with(setup()).await;
    meta.simulator.sow(7);
    let throttled = meta.simulator.fail_share(None, 0.2, Fault::Error { code: 130_429, subcode: None });
    let lost = meta.simulator.fail_share(Some(ONE), 0.3, Fault::Server { status: 503, accepted: true });
    meta.simulator.change_number(ONE, |it| it.throughput = 1000).unwrap();
    let mut statuses = Vec::new();
    for index in 0..200 {
        let request = meta.request(Method::POST, &format!("/v25.0/{ONE}/messages")).bearer_auth(TOKEN);
        let body = template(&format!("52155{:08}", 10_000_000 + index), "news").to_string();
        statuses.push(request.header("Content-Type", "application/json").body(body).send().await.unwrap().status().as_u16());
    }
    let count = |status: u16| u64::try_from(statuses.iter().filter(|it| **it == status).count()).unwrap();
    assert_eq!((count(400), count(503)), (meta.simulator.met(throttled), meta.simulator.met(lost)));
    assert!((20..=60).contains(&count(400)) && (40..=80).contains(&count(503)), "{} {}", count(400), count(503));
    let accepted = u64::try_from(meta.simulator.sends_of(ONE).len()).unwrap();
    assert_eq!((accepted, meta.simulator.throttled_of(ONE)), (200 - count(400), 0));
    meta.simulator.clear_faults(None);
    assert_eq!(meta.campaign(ANA, "news").await, Ok(()));
}

#[test]
fn ten_thousand_customers_get_one_template_each() {
    let clock = meta_sim::ManualClock::new(START);
    let meta = meta_sim::Simulator::new(clock.clone(), setup());
    meta.change_number(ONE, |it| it.throughput = 1000).unwrap();
    for index in 0..10_000_u32 {
        let body = template(&format!("52155{:08}", 10_000_000 + index), "news");
        meta.send(ONE, TOKEN, &body).unwrap();
        if index % 1000 == 999 {
            clock.advance(Duration::from_secs(1));
        }
    }
    let mut told = 0;
    for webhook in meta.take_webhooks() {
        meta.answered(webhook.id, 200);
        told += 1;
    }
    assert_eq!((told, meta.unsent_webhooks()), (20_000, 0));
    let received = meta.all_received();
    assert_eq!((received.len(), received.values().all(|it| it.len() == 1 && it[0].number == ONE)), (10_000, true));
    let sends = meta.sends_of(ONE);
    assert!(sends.windows(1001).all(|it| it[1000] - it[0] >= 1000), "never more than 1000 in a second");
}

#[tokio::test]
async fn all_of_it_by_curl() {
    let meta = Meta::with(setup()).await;
    let sim = async |method: Method, path: &str, body: Value| {
        let answer = meta.request(method, path).body(body.to_string()).send().await.unwrap();
        (answer.status().as_u16(), serde_json::from_str::<Value>(&answer.text().await.unwrap()).unwrap())
    };
    let limits = json!({ "marketing_per_customer": 1, "customers_per_day": null, "calls_per_hour": null });
    let told = json!({ "limits": limits });
    assert_eq!(sim(Method::POST, "/sim/limits", json!({ "marketing_per_customer": 1 })).await, (200, told.clone()));
    assert_eq!(sim(Method::GET, "/sim/limits", json!({})).await, (200, told));
    assert_eq!(sim(Method::POST, "/sim/limits", json!({ "marketing": 1 })).await.0, 400);
    assert_eq!([meta.campaign(ANA, "news").await, meta.campaign(ANA, "news").await], [Ok(()), Err(131_049)]);
    let (_, one) = sim(Method::GET, &format!("/sim/received?who={ANA}"), json!({})).await;
    let (_, all) = sim(Method::GET, "/sim/received", json!({})).await;
    assert_eq!((&one["received"][0]["number"], &one["received"]), (&json!(ONE), &all["received"][ANA]));
    assert_eq!(sim(Method::GET, "/sim/received?who=nobody", json!({})).await.0, 404);
    assert_eq!(sim(Method::GET, "/sim/numbers/42/sends", json!({})).await.0, 404);

    let edits = format!("/sim/accounts/{ACCOUNT}/templates/edit");
    for edit in [
        json!({ "edit": "components", "components": [{ "type": "BODY", "text": "Other news." }] }),
        json!({ "edit": "category_announced", "category": "UTILITY", "at": 1_790_000_000 }),
        json!({ "edit": "category", "category": "UTILITY" }),
        json!({ "edit": "quality", "score": "GREEN" }),
        json!({ "edit": "deleted" }),
    ] {
        let mut body = edit.clone();
        (body["name"], body["language"]) = ("news".into(), "en_US".into());
        assert_eq!(sim(Method::POST, &edits, body).await.0, 200, "{edit}");
        assert_eq!(meta.settle().len(), 1, "{edit}");
    }
    assert_eq!(sim(Method::POST, &edits, json!({ "edit": "deleted", "name": "news", "language": "en_US" })).await.0, 404);

    let account = format!("/sim/accounts/{ACCOUNT}");
    let (status, changed) = sim(Method::POST, &account, json!({ "disable_marketing_messages_on_cloud_api": true })).await;
    assert_eq!((status, &changed["account"]["disable_marketing_messages_on_cloud_api"]), (200, &json!(true)));
    assert_eq!(sim(Method::POST, "/sim/accounts/42", json!({})).await.1["error"]["code"], "unknown_account");

    let fault = json!({ "fault": "error", "code": 131_016, "share": 1.0, "number": ONE });
    assert_eq!(sim(Method::POST, "/sim/faults/seed", json!({ "seed": 7 })).await.0, 200);
    assert_eq!(sim(Method::POST, "/sim/faults", fault).await.0, 200);
    assert_eq!(meta.campaign(ANA, "visit").await, Err(131_016));
    let (_, faults) = sim(Method::GET, "/sim/faults", json!({})).await;
    assert_eq!((&faults["faults"][0]["share"], &faults["faults"][0]["met"]), (&json!(1.0), &json!(1)));
    assert_eq!(sim(Method::POST, "/sim/faults", json!({ "fault": "cut_after", "share": 1.5 })).await.0, 400);
}
