//! The JSON API as a whole: its description, who is let in, and what everything that is not done is answered.

use lambda_http::{Body, http};
use serde_json::Value;
use world::story::{Answer, World};
use world::wire::{Fault, Rule};

/// The tenants of other people.
const STRANGER: &str = "stranger";

/// The description of the API, as it is committed.
fn committed() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../functions/control/openapi.json");
    let current = format!("{}\n", serde_json::to_string_pretty(&control::openapi()).expect("JSON"));
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(path, &current).expect("the document can be written");
    }
    std::fs::read_to_string(path).expect("the document is committed")
}

/// One operation of the description.
struct Operation {
    method: String,
    path: String,
    described: Value,
}

fn operations() -> Vec<Operation> {
    let document = control::openapi();
    let paths = document["paths"].as_object().expect("paths").clone();
    let of_path = |(path, methods): (String, Value)| {
        let methods = methods.as_object().expect("methods").clone();
        methods.into_iter().map(move |(method, described)| Operation { method: method.to_uppercase(), path: path.clone(), described })
    };
    paths.into_iter().flat_map(of_path).collect()
}

impl Operation {
    /// The path with these in the places of its parameters.
    fn at(&self, mut value: impl FnMut(&str) -> String) -> String {
        let parts = self.path.split('/').map(|it| match it.strip_prefix('{').and_then(|it| it.strip_suffix('}')) {
            Some(name) => value(name),
            None => it.to_owned(),
        });
        parts.collect::<Vec<_>>().join("/")
    }

    fn scope(&self) -> &str {
        self.described["security"][0]["bearer"][0].as_str().expect("a scope")
    }
}

fn is_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.body["status"].as_u64()), (status, Some(u64::from(status))), "{answer:?}");
    assert_eq!(answer.body["code"], code, "{answer:?}");
    assert_eq!(answer.body["type"], format!("urn:whatsapp-channel:problem:{code}"), "{answer:?}");
    assert!(answer.body["title"].as_str().is_some_and(|it| !it.is_empty()), "{answer:?}");
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    is_safe(answer);
}

fn is_safe(answer: &Answer) {
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
}

#[test]
fn the_description_that_is_committed_is_the_one_that_is_served() {
    let committed: Value = serde_json::from_str(&committed()).expect("JSON");
    assert_eq!(committed, control::openapi(), "run the test again with UPDATE_OPENAPI=1, and look at what has changed");
    assert_eq!(committed["openapi"], "3.1.0");
}

#[test]
fn every_reference_of_the_description_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|it| references(it, found));
            }
            Value::Array(items) => items.iter().for_each(|it| references(it, found)),
            _ => {}
        }
    }
    let document = control::openapi();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(!found.is_empty());
    for it in found {
        assert!(document.pointer(it.strip_prefix('#').expect("of this document")).is_some(), "{it}");
    }
}

#[test]
fn operations_are_named_once_and_say_all_of_their_path() {
    let mut names: Vec<String> = operations().iter().map(|it| it.described["operationId"].as_str().expect("a name").to_owned()).collect();
    names.sort();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
    for it in operations() {
        let parameters = it.described["parameters"].as_array().expect("a list");
        let named = parameters.iter().filter(|it| it["in"] == "path").map(|it| it["name"].as_str().expect("a name"));
        let mut named: Vec<String> = named.map(str::to_owned).collect();
        let mut in_path = Vec::new();
        it.at(|name| {
            in_path.extend((!in_path.contains(&name.to_owned())).then(|| name.to_owned()));
            String::new()
        });
        in_path.sort();
        named.sort();
        assert_eq!(named, in_path, "{}", it.path);
    }
}

#[tokio::test]
async fn the_description_is_served_to_everybody() {
    let world = World::new().await;
    let request = http::Request::get("/v1/openapi.json").body(Body::Empty).expect("a request");
    let answer = world.asks_api("demo", request).await;
    assert_eq!((answer.status, answer.body.clone()), (200, control::openapi()));
    is_safe(&answer);
}

#[tokio::test]
async fn nobody_is_let_in_without_a_token_that_is_good() {
    let world = World::new().await;
    for it in operations() {
        for authorization in [None, Some("Bearer token-of-stranger"), Some("Basic ZGVtbzpkZW1v"), Some("Bearer ")] {
            let mut request = http::Request::builder().method(it.method.as_str()).uri(it.at(|_| "demo".to_owned()));
            if let Some(value) = authorization {
                request = request.header("authorization", value);
            }
            let answer = world.asks_api("demo", request.body(Body::Empty).expect("a request")).await;
            is_problem(&answer, 401, "unauthorized");
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
        }
    }
}

#[tokio::test]
async fn what_is_nowhere_or_is_not_done_is_a_problem_too() {
    let world = World::new().await;
    for path in ["/v1", "/v1/", "/v1/nothing", "/v1/connections/demo/nothing", "/", "/v2/connections"] {
        is_problem(&world.api_of("demo", "GET", path, &[], None).await, 404, "not_found");
    }
    is_problem(&world.api_of("demo", "PATCH", "/v1/connections/demo/logs", &[], None).await, 405, "method_not_allowed");
}

#[tokio::test]
async fn a_failure_says_that_it_happened_and_no_more() {
    let world = World::new().await;
    world.dynamo.faults().add(Rule::every(Fault::InternalError).by("control").of("GetItem"));
    let answer = world.api_of("demo", "GET", "/v1/connections/demo/logs", &[], None).await;
    is_problem(&answer, 503, "unavailable");
    assert_eq!(answer.body.as_object().expect("an object").len(), 4, "{answer:?}");
    assert_eq!(answer.headers["retry-after"], "5");
}
