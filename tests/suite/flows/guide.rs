//! The guide's table of the 24-hour window and its *Common issues*, done and read through the JSON API; and what keeps them apart from others'.

use serde_json::{Value, json};
use world::story::campaigns::{LANGUAGE, OFFER};
use world::story::{ANA, Answer, World};

use super::{CLOSED, DAY, HOUR, MINUTE};

const LUIS: &str = "34600333444";
const WAITING: &str = "Waiting for customer reply. Messaging will be available once they respond.";

#[track_caller]
fn done(answer: Answer, expected: u16) -> Value {
    assert_eq!(answer.status, expected, "{answer:?}");
    answer.body
}

async fn gets(world: &World, path: &str) -> Value {
    done(world.api_of("demo", "GET", path, &[], None).await, 200)
}

async fn posts(world: &World, key: &str, path: &str, body: Value) -> Answer {
    world.api_of("demo", "POST", path, &[("idempotency-key", key)], Some(body)).await
}

fn text(words: &str) -> Value {
    json!({ "message": { "type": "text", "text": words }, "person": "Eva" })
}

fn template(name: &str) -> Value {
    json!({ "template": OFFER, "language": LANGUAGE, "values": { "body": [name] }, "person": "Eva" })
}

fn start(phone: &str) -> Value {
    let mut body = template("Luis");
    body["connection"] = "demo".into();
    body["to"] = json!({ "phone": phone });
    body
}

async fn path(world: &World, who: &str, rest: &str) -> String {
    format!("/v1/conversations/{}{rest}", world.conversation(who).await.id)
}

#[tokio::test]
async fn what_you_can_send_by_the_table_of_the_window() {
    let world = World::new().await;
    // The customer wrote within the last 24 hours: free-form messages.
    world.writes(ANA, "hello");
    world.settle().await;
    done(posts(&world, "k1", &path(&world, ANA, "/messages").await, text("Good morning")).await, 202);
    world.settle().await;
    assert_eq!(world.screen(ANA).last().map(String::as_str), Some("< Good morning"));
    // More than 24 hours since the customer's last message: approved templates only.
    world.pass(DAY + HOUR).await;
    let closed = done(posts(&world, "k2", &path(&world, ANA, "/messages").await, text("Are you there?")).await, 409);
    assert_eq!((&closed["code"], &closed["detail"]), (&json!("template_only"), &json!(CLOSED)));
    assert!(closed["closed_at"].is_i64(), "{closed}");
    let before = world.screen(ANA).len();
    done(posts(&world, "k3", &path(&world, ANA, "/templates").await, template("Ana")).await, 202);
    world.settle().await;
    assert_eq!(world.screen(ANA).len(), before + 1, "{:?}", world.screen(ANA));
    // No conversation yet, your business writes first: approved templates only, and nothing else until they answer.
    done(posts(&world, "k4", "/v1/conversations", start(LUIS)).await, 202);
    world.settle().await;
    let listed = gets(&world, &path(&world, LUIS, "/messages").await).await;
    assert_eq!(listed["items"][0]["template_badge"], true, "{listed}");
    let waiting = done(posts(&world, "k5", &path(&world, LUIS, "/messages").await, text("Well?")).await, 409);
    assert_eq!((&waiting["code"], &waiting["detail"]), (&json!("awaiting_reply"), &json!(WAITING)));
    // As soon as the customer replies, normal messaging resumes.
    world.writes(LUIS, "tell me more");
    world.settle().await;
    done(posts(&world, "k6", &path(&world, LUIS, "/messages").await, text("With pleasure")).await, 202);
    world.settle().await;
    assert_eq!(world.screen(LUIS).last().map(String::as_str), Some("< With pleasure"));
}

#[tokio::test]
async fn the_channel_is_running_but_the_agent_does_not_reply() {
    let world = World::new().await;
    const AGENTS: &str = "/v1/connections/demo/agents";
    let wrong = async |name: &str| {
        let report = gets(&world, "/v1/connections/demo/health").await;
        let checks = report["checks"].as_array().expect("a list").clone();
        checks.into_iter().find(|it| it["name"] == name && it["ok"] == false)
    };
    assert_eq!((wrong("agent").await, wrong("inbound").await), (None, None));
    // Inbound is off.
    done(world.api_of("demo", "PUT", &format!("{AGENTS}/example"), &[], Some(json!({ "inbound": false }))).await, 200);
    assert_eq!(wrong("inbound").await.expect("told")["what_to_do"], "Switch Inbound on for an agent of this connection.");
    // It is not attached.
    done(world.api_of("demo", "DELETE", &format!("{AGENTS}/example"), &[], None).await, 204);
    assert_eq!(wrong("agent").await.expect("told")["what_to_do"], "Attach an agent to the connection.");
    world.pass(MINUTE).await;
    world.writes(ANA, "hello");
    world.settle().await;
    assert_eq!(world.screen(ANA), ["> hello"]);
    // It is attached: whoever writes is answered.
    done(world.api_of("demo", "POST", AGENTS, &[], Some(json!({ "agent": "example" }))).await, 201);
    assert_eq!((wrong("agent").await, wrong("inbound").await), (None, None));
    world.pass(MINUTE).await;
    world.writes(ANA, "anybody?");
    world.settle().await;
    assert!(world.screen(ANA).contains(&"< You said: anybody?".to_owned()), "{:?}", world.screen(ANA));
}

#[tokio::test]
async fn a_cursor_and_a_message_lead_nowhere_but_where_they_are_of() {
    let world = World::new().await;
    for (who, words) in [(ANA, "a secret of Ana's"), (LUIS, "hello")] {
        world.writes(who, words);
        world.settle().await;
        world.pass(MINUTE).await;
    }
    let first = gets(&world, "/v1/conversations?connection=demo&limit=1").await;
    let cursor = first["next"].as_str().expect("more follow");
    let others = world.api_of("stranger", "GET", &format!("/v1/conversations?connection=demo&limit=1&cursor={cursor}"), &[], None).await;
    assert_eq!((others.status, &others.body["code"]), (404, &json!("not_found")), "{others:?}");
    let page = gets(&world, &path(&world, ANA, "/messages?limit=1").await).await;
    let cursor = page["next"].as_str().expect("more follow");
    let of_luis = world.api_of("demo", "GET", &path(&world, LUIS, &format!("/messages?cursor={cursor}")).await, &[], None).await;
    assert!(!of_luis.body.to_string().contains("Ana's"), "{of_luis:?}");
    let message = page["items"][0]["id"].as_str().expect("an id").split_once('/').expect("a key").1.to_owned();
    gets(&world, &path(&world, ANA, &format!("/messages/{message}/story")).await).await;
    let of_luis = world.api_of("demo", "GET", &path(&world, LUIS, &format!("/messages/{message}/story")).await, &[], None).await;
    assert_eq!((of_luis.status, &of_luis.body["code"]), (404, &json!("not_found")), "{of_luis:?}");
    // A key is its tenant's own: whoever else uses the same is told of nothing.
    let messages = path(&world, ANA, "/messages").await;
    done(posts(&world, "k", &messages, text("Good morning")).await, 202);
    let stranger = world.api_of("stranger", "POST", &messages, &[("idempotency-key", "k")], Some(text("Good morning"))).await;
    assert_eq!((stranger.status, &stranger.body["code"]), (404, &json!("not_found")), "{stranger:?}");
    world.settle().await;
}
