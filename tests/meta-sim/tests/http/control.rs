//! `/sim`, as README.md tells it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{ACCOUNT, ANA, APP, Meta, ONE, TOKEN};

impl Meta {
    /// A control call, without any token.
    async fn sim(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let answer = self.request(method, path).body(body.to_string()).send().await.unwrap();
        (answer.status().as_u16(), serde_json::from_str(&answer.text().await.unwrap()).unwrap())
    }
}

#[tokio::test]
async fn a_conversation_by_curl() {
    let meta = Meta::new().await;
    let phone = format!("/sim/phones/{ANA}");
    let (status, written) = meta.sim(Method::POST, &format!("{phone}/messages"), json!({ "to": ONE, "text": "hola", "ago": 60 })).await;
    assert_eq!(status, 200);
    meta.say(ANA, "m:1").await.unwrap();
    meta.turn(5);
    assert_eq!(meta.sim(Method::POST, &format!("{phone}/read"), json!({})).await, (200, json!({ "read": 1 })));
    let (_, screen) = meta.sim(Method::GET, &phone, json!({})).await;
    let now = meta.simulator.now_ms();
    let lines: Vec<_> = screen["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| json!([it["from"], it["text"], it["number"], it["sent"], it["delivered"], it["read"]]))
        .collect();
    let asked = now - 65_000;
    assert_eq!(
        lines,
        [json!(["customer", "hola", ONE, asked, asked, null]), json!(["business", "Good day", ONE, now - 5000, now - 5000, now])]
    );
    assert_eq!(screen["messages"][0]["id"], written["id"]);
    assert_eq!(meta.sim(Method::GET, "/sim/accepted?id=m:1", json!({})).await.1, json!({ "accepted": 1 }));
}

#[tokio::test]
async fn every_kind_can_be_written() {
    let meta = Meta::new().await;
    let bodies = [
        json!({ "type": "image", "caption": "c" }),
        json!({ "type": "audio" }),
        json!({ "type": "document", "filename": "a.pdf" }),
        json!({ "type": "location", "latitude": 19.43, "longitude": -99.13 }),
        json!({ "type": "contacts", "contacts": [{ "name": { "formatted_name": "Eva" } }] }),
        json!({ "type": "button", "text": "Yes", "payload": "y" }),
        json!({ "type": "button_reply", "id": "b", "title": "Yes" }),
        json!({ "type": "list_reply", "id": "r", "title": "Row" }),
        json!({ "type": "flow_reply", "response_json": "{}" }),
        json!({ "type": "order", "catalog_id": "c", "product_items": [] }),
        json!({ "type": "reaction", "message_id": "wamid.A", "emoji": "👍" }),
        json!({ "type": "edit", "message_id": "wamid.A", "text": "new" }),
        json!({ "type": "revoke", "message_id": "wamid.A" }),
        json!({ "type": "unsupported", "kind": "poll" }),
        json!({ "type": "request_welcome" }),
        json!({ "type": "group", "group_id": "g", "text": "all" }),
        json!({ "type": "other", "kind": "telepathy", "content": {} }),
        json!({ "text": "quoting", "quote": "wamid.A", "referral": { "source_type": "ad" }, "standby": true, "forwarded": true }),
    ];
    for mut body in bodies {
        body["to"] = ONE.into();
        let (status, answer) = meta.sim(Method::POST, &format!("/sim/phones/{ANA}/messages"), body.clone()).await;
        assert_eq!(status, 200, "{body} {answer}");
        assert_eq!(meta.settle().len(), 1, "{body}");
    }
}

#[tokio::test]
async fn refusals_are_told_in_json() {
    let meta = Meta::new().await;
    let messages = format!("/sim/phones/{ANA}/messages");
    let table = [
        (Method::POST, messages.as_str(), json!({ "text": "hi" }), 400, "invalid_body"),
        (Method::POST, &messages, json!({ "to": "42", "text": "hi" }), 404, "unknown_number"),
        (Method::POST, &messages, json!({ "to": ONE, "type": "dance" }), 400, "invalid_body"),
        (Method::POST, "/sim/phones/nobody/messages", json!({ "to": ONE, "text": "hi" }), 404, "unknown_customer"),
        (Method::GET, "/sim/phones/5210000", json!({}), 404, "unknown_customer"),
        (Method::POST, "/sim/phones/5215512345678/fly", json!({}), 404, "not_found"),
        (Method::POST, "/sim/faults", json!({ "fault": "gremlins" }), 400, "invalid_body"),
        (Method::POST, "/sim/webhooks/mode", json!({ "batch": 0 }), 400, "invalid_body"),
        (Method::POST, "/sim/webhooks/mode", json!({ "bach": 2 }), 400, "invalid_body"),
        (Method::POST, "/sim/tokens/expire", json!({ "token": "unknown" }), 404, "not_found"),
        (Method::GET, "/sim/nowhere", json!({}), 404, "not_found"),
        (Method::DELETE, "/sim/health", json!({}), 404, "not_found"),
    ];
    for (method, path, body, status, code) in table {
        let (told, answer) = meta.sim(method, path, body.clone()).await;
        assert_eq!((told, answer["error"]["code"].as_str()), (status, Some(code)), "{path} {body}");
    }
}

#[tokio::test]
async fn people_numbers_tokens_templates_and_faults_are_set() {
    let meta = Meta::new().await;
    let done = async |path: &str, body: Value| {
        let (status, answer) = meta.sim(Method::POST, path, body).await;
        assert_eq!(status, 200, "{path} {answer}");
        answer
    };
    assert_eq!(meta.sim(Method::GET, "/sim/health", json!({})).await.0, 200);
    done("/sim/customers", json!({ "user_id": "MX.1", "username": "ana" })).await;
    done("/sim/phones/MX.1/messages", json!({ "to": ONE, "text": "hola" })).await;
    let phone = format!("/sim/phones/{ANA}");
    done(&phone, json!({ "auto_read": true, "online": false })).await;
    assert!(meta.simulator.phone(ANA).customer().is_some_and(|it| it.auto_read && !it.online));
    done(&format!("{phone}/online"), json!({})).await;
    done(&format!("{phone}/block"), json!({ "to": ONE })).await;
    done(&format!("{phone}/unblock"), json!({ "to": ONE })).await;
    done(&format!("{phone}/call"), json!({ "to": ONE })).await;
    done(&format!("{phone}/preference"), json!({ "to": ONE, "value": "stop" })).await;
    done(&format!("{phone}/change-user-id"), json!({ "user_id": "MX.2" })).await;
    done(&format!("{phone}/change-phone"), json!({ "phone": "5215598765432" })).await;
    done(&format!("/sim/numbers/{ONE}/echoes"), json!({ "to": "5215598765432", "text": "me" })).await;
    done(&format!("/sim/numbers/{ONE}/handovers"), json!({ "to": "5215598765432", "type": "control_taken" })).await;
    done(&format!("/sim/accounts/{ACCOUNT}/webhooks"), json!({ "field": "account_alerts", "value": {} })).await;
    meta.settle();
    done(&format!("/sim/numbers/{ONE}"), json!({ "throughput": 2, "quality_rating": "RED" })).await;
    assert_eq!(meta.values()[0]["event"], "FLAGGED");
    done("/sim/apps", json!({ "id": "299", "secret": "another" })).await;
    done("/sim/accounts", json!({ "id": "399", "app_id": "299" })).await;
    done("/sim/numbers", json!({ "id": "199", "account": "399", "display_phone_number": "+1 555-010-0199" })).await;
    done("/sim/tokens", json!({ "token": "short", "app_id": APP, "accounts": [ACCOUNT], "expires_in": 60 })).await;
    meta.turn(60);
    assert_eq!(meta.call(Method::GET, &format!("/v25.0/{ONE}"), "short", None).await.1["error"]["error_subcode"], 463);
    done("/sim/tokens/expire", json!({ "token": TOKEN, "subcode": 467 })).await;
    assert_eq!(meta.get(&format!("/v25.0/{ONE}")).await.1["error"]["error_subcode"], 467);
    let template = json!({ "id": "1", "name": "t", "language": "en_US", "components": [{ "type": "BODY", "text": "Hi." }] });
    done(&format!("/sim/accounts/{ACCOUNT}/templates"), template).await;
    done(&format!("/sim/accounts/{ACCOUNT}/templates/status"), json!({ "name": "t", "language": "en_US", "status": "PAUSED" })).await;
    assert_eq!(done("/sim/held", json!({ "delivered": true })).await, json!({ "released": 0 }));
    let mode = done("/sim/webhooks/mode", json!({ "batch": 10, "shuffle": true })).await;
    assert_eq!((&mode["mode"]["batch"], &mode["mode"]["shuffle"]), (&json!(10), &json!(true)));
    assert_eq!(meta.sim(Method::GET, "/sim/webhooks", json!({})).await.1["unsent"], 1);
    let id = done("/sim/faults", json!({ "fault": "error", "code": 131_016, "number": ONE, "times": 1 })).await["id"].clone();
    let told = json!({ "faults": [{ "id": id, "fault": "error", "code": 131_016, "subcode": null, "number": ONE, "times": 1, "met": 0 }] });
    assert_eq!(meta.sim(Method::GET, "/sim/faults", json!({})).await.1, told);
    assert_eq!(meta.sim(Method::DELETE, &format!("/sim/faults?id={id}"), json!({})).await.0, 200);
    assert_eq!(meta.sim(Method::GET, "/sim/faults", json!({})).await.1, json!({ "faults": [] }));
}
