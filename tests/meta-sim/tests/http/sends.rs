//! What `POST /{phone_number_id}/messages` accepts and refuses: window, rates, recipients, faults.

use meta_sim::{Author, Customer, Fault, Inbound, Mode, PAIR_BURST, Setup, Template, Written};
use serde_json::{Value, json};

use crate::{ACCOUNT, ANA, Meta, ONE, TOKEN, TWO, names, text};

const DAY: u64 = 24 * 60 * 60;

#[tokio::test]
async fn an_accepted_send_is_answered_as_in_metas_sample() {
    let meta = Meta::open().await;
    let (status, mut answer) = meta.send(ONE, &text(ANA, "m:1")).await;
    let id = answer["messages"][0]["id"].take();
    assert!(id.as_str().unwrap().starts_with("wamid.HBg"), "{id}");
    let sample = json!({ "messaging_product": "whatsapp", "contacts": [{ "input": format!("+{ANA}"), "wa_id": ANA }], "messages": [{ "id": null }] });
    assert_eq!((status, answer), (200, sample));
}

#[tokio::test]
async fn the_window_is_open_for_24_hours_from_the_messages_own_time_on_its_own_number() {
    let meta = Meta::new().await;
    assert_eq!(meta.say(ANA, "before any word").await, Err(131_047));
    meta.simulator.customer_writes(ANA, ONE, Written::from("hola").ago(3600)).unwrap();
    meta.simulator.customer_writes(ANA, ONE, Written::from("written before, heard after").ago(20 * 3600)).unwrap();
    assert!(meta.say(ANA, "open").await.is_ok());
    let (_, other) = meta.send(TWO, &text(ANA, "other number")).await;
    assert_eq!(other["error"]["code"], 131_047);
    meta.turn(DAY - 3600 - 1);
    assert!(meta.say(ANA, "last second").await.is_ok());
    meta.turn(1);
    assert_eq!(meta.say(ANA, "over").await, Err(131_047));
    meta.simulator.customer_writes(ANA, ONE, Written::from("late webhook").ago(30 * 3600)).unwrap();
    assert_eq!(meta.say(ANA, "still over").await, Err(131_047));
    assert_eq!((meta.simulator.accepted("open"), meta.simulator.accepted("over")), (1, 0));
}

#[tokio::test]
async fn edits_and_opened_chats_open_no_window_and_calls_do() {
    let meta = Meta::new().await;
    let other = meta.simulator.customer_writes(ANA, TWO, "hola").unwrap();
    for inbound in
        [Inbound::RequestWelcome, Inbound::Revoke { message_id: other.clone() }, Inbound::Edit { message_id: other, text: "x".into() }]
    {
        meta.simulator.customer_writes(ANA, ONE, inbound).unwrap();
    }
    assert_eq!(meta.say(ANA, "1").await, Err(131_047));
    meta.simulator.phone(ANA).calls(ONE).unwrap();
    assert!(meta.say(ANA, "2").await.is_ok());
}

#[tokio::test]
async fn a_window_refusal_may_come_late() {
    let meta = Meta::new().await;
    meta.simulator.set_mode(Mode { late_window_refusals: true, ..Mode::default() });
    meta.say(ANA, "m:1").await.unwrap();
    let statuses = meta.statuses();
    assert_eq!((names(&statuses), &statuses[0]["errors"][0]["code"]), (vec!["failed"], &json!(131_047)));
}

#[tokio::test]
async fn the_pair_limit_lends_a_burst_and_wants_it_back() {
    let meta = Meta::open().await;
    for turn in 0..PAIR_BURST {
        assert!(meta.say(ANA, &turn.to_string()).await.is_ok(), "{turn}");
    }
    assert_eq!(meta.say(ANA, "too many").await, Err(131_056));
    meta.turn(45 * 6 - 1);
    assert_eq!(meta.say(ANA, "not yet").await, Err(131_056));
    meta.turn(1);
    assert!(meta.say(ANA, "again").await.is_ok());
    meta.turn(6);
    assert!(meta.say(ANA, "sustained").await.is_ok());
}

#[tokio::test]
async fn throughput_counts_what_comes_in_and_what_goes_out() {
    let meta = Meta::open().await;
    meta.turn(1);
    meta.simulator.change_number(ONE, |it| it.throughput = 3).unwrap();
    meta.simulator.customer_writes(ANA, ONE, "one").unwrap();
    assert!(meta.say(ANA, "two").await.is_ok());
    assert!(meta.say(ANA, "three").await.is_ok());
    assert_eq!(meta.say(ANA, "four").await, Err(130_429));
    meta.turn(1);
    assert!(meta.say(ANA, "next second").await.is_ok());
}

#[tokio::test]
async fn the_wa_id_of_the_answer_may_differ_from_what_was_dialled() {
    for (dialled, wa_id) in [("525512345678", ANA), ("5531987654321", "553187654321"), ("541123456789", "5491123456789")] {
        let meta = Meta::new().await;
        meta.simulator.customer_writes(wa_id, ONE, "hola").unwrap();
        let (status, answer) = meta.send(ONE, &text(dialled, "m:1")).await;
        assert_eq!((status, &answer["contacts"][0]), (200, &json!({ "input": format!("+{dialled}"), "wa_id": wa_id })));
        assert_eq!(meta.simulator.phone(wa_id).screen().len(), 2);
    }
}

#[tokio::test]
async fn recipients_by_user_id() {
    let id = "MX.9007199254740993";
    let meta = Meta::with(Setup { customers: vec![Customer::with_user_id(id, "@ana.ruiz")], ..Setup::demo() }).await;
    meta.simulator.customer_writes(id, ONE, "hola").unwrap();
    meta.settle();

    let (_, answer) = meta.send(ONE, &json!({ "recipient": id, "text": { "body": "hi" } })).await;
    assert_eq!(answer["contacts"][0], json!({ "input": id, "user_id": id }));
    let statuses = meta.statuses();
    assert_eq!(names(&statuses), ["sent", "delivered"]);
    assert_eq!((&statuses[0]["recipient_user_id"], &statuses[0]["recipient_id"]), (&json!(id), &Value::Null));

    let (status, answer) = meta.send(ONE, &json!({ "to": id, "text": { "body": "hi" } })).await;
    assert_eq!((status, &answer["contacts"][0]["wa_id"]), (200, &json!("9007199254740993")));
    let statuses = meta.statuses();
    assert_eq!((names(&statuses), &statuses[0]["errors"][0]["code"]), (vec!["failed"], &json!(131_026)));
}

#[tokio::test]
async fn to_wins_if_both_are_given() {
    let meta = Meta::open().await;
    let (status, answer) = meta.send(ONE, &json!({ "to": format!("+{ANA}"), "recipient": "BR.1", "text": { "body": "hi" } })).await;
    assert_eq!((status, &answer["contacts"][0]["wa_id"]), (200, &json!(ANA)));
}

#[tokio::test]
async fn a_number_cannot_write_to_itself_and_reaches_another_number_as_unsupported() {
    let meta = Meta::new().await;
    assert_eq!(meta.say("15550100001", "1").await, Err(131_021));
    meta.simulator.customer_writes("15550100002", ONE, "from our other number").unwrap();
    meta.settle();
    meta.say("15550100002", "2").await.unwrap();
    let kinds: Vec<_> = meta.values().into_iter().filter_map(|it| it["messages"][0]["type"].as_str().map(str::to_owned)).collect();
    assert_eq!(kinds, ["unsupported"]);
}

#[tokio::test]
async fn who_blocks_us_fails_later() {
    let meta = Meta::open().await;
    meta.simulator.phone(ANA).blocks(ONE).unwrap();
    meta.say(ANA, "blocked").await.unwrap();
    assert_eq!(meta.statuses()[0]["errors"][0]["code"], 131_026);
    meta.simulator.phone(ANA).unblocks(ONE).unwrap();
    meta.say(ANA, "unblocked").await.unwrap();
    assert_eq!(names(&meta.statuses()), ["sent", "delivered"]);
}

#[tokio::test]
async fn reactions_get_only_sent_and_need_a_target() {
    let meta = Meta::open().await;
    let target = meta.simulator.phone(ANA).screen()[0].id.clone();
    let reaction = |id: &str| json!({ "to": format!("+{ANA}"), "type": "reaction", "reaction": { "message_id": id, "emoji": "👍" } });
    meta.send(ONE, &reaction(&target)).await;
    assert_eq!(names(&meta.statuses()), ["sent"]);
    assert_eq!(meta.simulator.phone(ANA).screen()[0].reaction.as_deref(), Some("👍"));
    meta.send(ONE, &reaction("wamid.unknown")).await;
    assert_eq!(meta.statuses()[0]["errors"][0]["code"], 131_009);
}

#[tokio::test]
async fn mark_as_read_reads_all_before_and_shows_typing() {
    let meta = Meta::open().await;
    let last = meta.simulator.customer_writes(ANA, ONE, "¿hay alguien?").unwrap();
    let body = json!({ "status": "read", "message_id": last, "typing_indicator": { "type": "text" } });
    assert_eq!(meta.send(ONE, &body).await, (200, json!({ "success": true })));
    assert!(meta.simulator.phone(ANA).screen().iter().all(|it| it.read == Some(meta.simulator.now_ms())));
    let typing = async || meta.get(&format!("/sim/phones/{ANA}")).await.1["typing"].clone();
    assert_eq!(typing().await, json!([ONE]));
    meta.turn(25);
    assert_eq!(typing().await, json!([]));
    let unknown = json!({ "status": "read", "message_id": "wamid.unknown" });
    assert_eq!(meta.send(ONE, &unknown).await.1["error"]["code"], 100);
}

#[tokio::test]
async fn tokens_and_numbers_are_checked_before_the_body() {
    let meta = Meta::open().await;
    let path = format!("/v25.0/{ONE}/messages");
    let code = async |path: &str, token: &str| {
        let (status, answer) = meta.call(reqwest::Method::POST, path, token, Some(json!({}))).await;
        (status, answer["error"]["code"].as_u64().unwrap(), answer["error"]["error_subcode"].as_u64())
    };
    assert_eq!(code(&path, "wrong").await, (401, 190, None));
    assert_eq!(code("/v25.0/42/messages", TOKEN).await, (400, 100, Some(33)));
    let mut token = meta_sim::Token::new("elsewhere", crate::APP, &["1"]);
    meta.simulator.put_token(token.clone());
    assert_eq!(code(&path, "elsewhere").await, (403, 200, None));
    (token.token, token.accounts, token.scopes) = ("narrow".into(), [ACCOUNT.to_owned()].into(), [meta_sim::MANAGEMENT.to_owned()].into());
    meta.simulator.put_token(token);
    assert_eq!(code(&path, "narrow").await, (403, 10, None));
    meta.simulator.change_number(ONE, |it| it.registered = false).unwrap();
    assert_eq!(code(&path, TOKEN).await, (400, 133_010, None));
    meta.simulator.expire_token(TOKEN);
    assert_eq!(code(&path, TOKEN).await, (401, 190, Some(463)));
    meta.simulator.revoke_token(TOKEN, 460);
    assert_eq!(code(&path, TOKEN).await, (401, 190, Some(460)));
}

#[tokio::test]
async fn a_doubled_send_is_seen_in_the_books() {
    let meta = Meta::open().await;
    meta.say(ANA, "m:1").await.unwrap();
    meta.say(ANA, "m:1").await.unwrap();
    assert_eq!((meta.simulator.accepted("m:1"), meta.simulator.accepted("m:2")), (2, 0));
    let heard = meta.simulator.phone(ANA).screen().iter().filter(|it| it.from == Author::Business).count();
    assert_eq!(heard, 2);
}

#[tokio::test]
async fn templates_go_out_at_any_time_if_they_are_filled_as_made() {
    let template = Template::of_body("812345678901234", "visit_reminder", "es_MX", "Su cita es el {{1}} a las {{2}}.");
    let meta = Meta::with(Setup { templates: vec![(ACCOUNT.into(), template)], ..Setup::demo() }).await;
    let send = |name: &str, language: &str, values: &[&str]| {
        let parameters: Vec<Value> = values.iter().map(|it| json!({ "type": "text", "text": it })).collect();
        json!({ "to": format!("+{ANA}"), "type": "template",
            "template": { "name": name, "language": { "code": language }, "components": [{ "type": "body", "parameters": parameters }] } })
    };
    let (status, answer) = meta.send(ONE, &send("visit_reminder", "es_MX", &["3 de mayo", "10:30"])).await;
    assert_eq!((status, &answer["messages"][0]["message_status"]), (200, &json!("accepted")));
    assert_eq!(meta.statuses()[0]["pricing"]["category"], "utility");
    assert_eq!(meta.simulator.phone(ANA).screen()[0].text.as_deref(), Some("Su cita es el 3 de mayo a las 10:30."));
    for (name, language, values, expected) in [
        ("visit_reminder", "en_US", &["a", "b"][..], 132_001),
        ("visit", "es_MX", &["a", "b"], 132_001),
        ("visit_reminder", "es_MX", &["a"], 132_000),
    ] {
        assert_eq!(meta.send(ONE, &send(name, language, values)).await.1["error"]["code"], expected, "{name} {language} {values:?}");
    }
    assert!(meta.simulator.set_template_status(ACCOUNT, "visit_reminder", "es_MX", "PAUSED"));
    assert_eq!(meta.values()[0]["event"], "PAUSED");
    assert_eq!(meta.send(ONE, &send("visit_reminder", "es_MX", &["a", "b"])).await.1["error"]["code"], 132_015);
}

#[tokio::test]
async fn a_cut_connection_looks_broken_and_only_one_kind_of_it_has_accepted() {
    for (fault, expected) in [(Fault::CutAfter, 1), (Fault::CutBefore, 0)] {
        let meta = Meta::open().await;
        meta.simulator.fail_next(Some(ONE), Some(1), fault.clone());
        let request = meta.request(reqwest::Method::POST, &format!("/v25.0/{ONE}/messages")).bearer_auth(TOKEN);
        let error = request.header("Content-Type", "application/json").body(text(ANA, "m:1").to_string()).send().await.unwrap_err();
        assert!(error.is_request() && !error.is_timeout() && error.status().is_none(), "{error:?}");
        assert_eq!(meta.simulator.accepted("m:1"), expected, "{fault:?}");
        assert_eq!(names(&meta.statuses()).len(), usize::try_from(expected).unwrap() * 2, "{fault:?}");
        assert!(meta.say(ANA, "m:2").await.is_ok(), "{fault:?}");
    }
}

#[tokio::test]
async fn faults_answer_as_they_are_told() {
    let meta = Meta::open().await;
    let answer = async |fault: Fault, opaque: &str| {
        meta.simulator.fail_next(None, Some(1), fault);
        let request = meta.request(reqwest::Method::POST, &format!("/v25.0/{ONE}/messages")).bearer_auth(TOKEN);
        let answer = request.header("Content-Type", "application/json").body(text(ANA, opaque).to_string()).send().await.unwrap();
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        (answer.status().as_u16(), kind, answer.text().await.unwrap())
    };
    let (status, _, body) = answer(Fault::Error { code: 131_016, subcode: None }, "a").await;
    assert_eq!((status, &serde_json::from_str::<Value>(&body).unwrap()["error"]["code"]), (500, &json!(131_016)));
    let (status, kind, body) = answer(Fault::Server { status: 502, accepted: false }, "b").await;
    assert_eq!((status, kind.as_str(), serde_json::from_str::<Value>(&body).is_err()), (502, "text/plain", true));
    let (status, kind, body) = answer(Fault::Html { status: 503, accepted: true }, "c").await;
    assert!(status == 503 && kind.starts_with("text/html") && body.starts_with("<!DOCTYPE html>"), "{status} {kind} {body}");
    assert_eq!(["a", "b", "c"].map(|it| meta.simulator.accepted(it)), [0, 0, 1]);
    meta.settle();
    answer(Fault::FailLater { code: 131_049 }, "d").await;
    assert_eq!(meta.statuses()[0]["errors"][0]["code"], 131_049);
}

#[tokio::test]
async fn a_slow_answer_has_accepted_when_the_caller_gives_up() {
    let meta = Meta::open().await;
    meta.simulator.fail_next(None, Some(1), Fault::Slow { millis: 600_000 });
    let request = meta
        .request(reqwest::Method::POST, &format!("/v25.0/{ONE}/messages"))
        .bearer_auth(TOKEN)
        .timeout(std::time::Duration::from_millis(500));
    let error = request.header("Content-Type", "application/json").body(text(ANA, "m:1").to_string()).send().await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    assert_eq!(meta.simulator.accepted("m:1"), 1);
}

#[tokio::test]
async fn typing_uses_up_no_fault() {
    let meta = Meta::open().await;
    let inbound = meta.simulator.phone(ANA).screen()[0].id.clone();
    meta.simulator.fail_next(None, Some(1), Fault::Error { code: 131_016, subcode: None });
    assert_eq!(meta.send(ONE, &json!({ "status": "read", "message_id": inbound })).await.0, 200);
    assert_eq!(meta.say(ANA, "m:1").await, Err(131_016));
}
