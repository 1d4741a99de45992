//! What the guide's screens do, done through the JSON API.

use serde_json::{Value, json};
use world::story::World;

use super::MINUTE;

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
