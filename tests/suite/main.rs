//! One test binary for all of it: stories, contracts, the template's wiring.

mod api;
mod campaigns;
mod contracts;
mod crashes;
mod flows;
mod infra;
mod leases;
mod local_stack;
mod meta_contract;
mod person;
mod races;
mod secrets;
mod sends;
mod speech;
mod starts;
mod takes;
mod templates;
mod tidy;
mod units;
mod webhooks;

use std::ops::AsyncFn;

use serde_json::Value;
use world::mapping::Delivery;
use world::story::World;

/// The four ways in which queues may deliver.
const WAYS: [Delivery; 4] = [Delivery::Once, Delivery::Twice, Delivery::Shuffled(7), Delivery::CrashBeforeAck];

/// Tells a story in each of the four ways; every one must end in the same state, and accept no send twice.
async fn in_every_way(story: impl AsyncFn(&World)) {
    let mut plain: Option<Value> = None;
    for way in WAYS {
        let world = World::with(way).await;
        story(&world).await;
        let outcome = world.outcome();
        assert!(world.accepted().0 <= 1, "{way:?}: a send was accepted twice");
        match &plain {
            None => plain = Some(outcome),
            Some(plain) => assert_same(plain, &outcome, way),
        }
    }
}

/// Tells a story in each of the four ways, where the ways rightly end differently: how often a job was run decides when it goes on.
async fn in_each_way(story: impl AsyncFn(&World)) {
    for way in WAYS {
        let world = World::with(way).await;
        story(&world).await;
        assert!(world.accepted().0 <= 1, "{way:?}: a send was accepted twice");
    }
}

/// Compares two outcomes, and names the first place where they differ.
fn assert_same(plain: &Value, other: &Value, way: Delivery) {
    if let Some(place) = difference(plain, other, String::new()) {
        panic!("{way:?} ends otherwise than plain delivery at {place}");
    }
}

fn difference(one: &Value, other: &Value, at: String) -> Option<String> {
    match (one, other) {
        (Value::Object(left), Value::Object(right)) => {
            let names: std::collections::BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            names.into_iter().find_map(|name| {
                let (left, right) = (left.get(name).unwrap_or(&Value::Null), right.get(name).unwrap_or(&Value::Null));
                difference(left, right, format!("{at}/{name}"))
            })
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            left.iter().zip(right).enumerate().find_map(|(index, (left, right))| difference(left, right, format!("{at}/{index}")))
        }
        (one, other) if one == other => None,
        (Value::Array(left), Value::Array(right)) => {
            let only = |one: &[Value], other: &[Value]| Value::Array(one.iter().filter(|it| !other.contains(it)).cloned().collect());
            Some(format!("{at}: only there {}, only here {}", only(left, right), only(right, left)))
        }
        (one, other) => Some(format!("{at}: {one} and {other}")),
    }
}
