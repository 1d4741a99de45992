//! Campaigns at scale, in a world that runs by itself: thousands of jobs, many workers, and all that goes wrong at once.
//!
//! What came of them is judged by Meta's books: what lies on the customers' phones, and when each number sent.

use std::collections::{BTreeMap, BTreeSet};

use channel::jobs::TemplateSend;
use meta_sim::Fault;
use serde_json::Value;
use world::mapping::Freely;
use world::story::{World, number};


/// What campaigns may send from one number in a second: three quarters of Meta's 80.
const CAMPAIGN_RATE: usize = 60;

/// A telephone of a customer.
fn phone(serial: u32) -> String {
    format!("3461{serial:07}")
}

/// An offer to so many customers, one each.
fn offers(world: &World, customers: std::ops::Range<u32>) -> Vec<TemplateSend> {
    customers.map(|it| world.offer(&phone(it), it)).collect()
}

/// The most that was sent in any second, given the times of all sends in order.
fn most_in_a_second(sends_ms: &[i64]) -> usize {
    let mut first = 0;
    let within = sends_ms.iter().enumerate().map(|(last, at_ms)| {
        while sends_ms[first] + 1_000 <= *at_ms {
            first += 1;
        }
        last + 1 - first
    });
    within.max().unwrap_or(0)
}

/// What our books say of each message of ours: its conversation, and its phase.
fn phases(world: &World) -> Vec<(String, String)> {
    let items = world.dynamo.items(&world.template.tables["MessagesTable"].name).expect("the engine answers");
    let text = |it: &Value| it["S"].as_str().unwrap_or_default().to_owned();
    items.iter().filter(|it| !it["phase"].is_null()).map(|it| (text(&it["pk"]), text(&it["phase"]))).collect()
}

/// Places in the connection's rotation that were ever leased.
fn places_leased(world: &World) -> usize {
    let items = world.dynamo.items(&world.template.tables["ConversationsTable"].name).expect("the engine answers");
    let rotation = items.iter().find(|it| it["sk"]["S"] == "ROTATION").expect("there is a rotation");
    rotation["next"]["N"].as_str().and_then(|it| it.parse().ok()).expect("a number")
}

/// The numbers from which each customer received something, in order, by telephone.
fn received(world: &World) -> BTreeMap<String, Vec<String>> {
    let all = world.meta.all_received();
    all.into_iter().map(|(phone, received)| (phone, received.into_iter().map(|it| it.number).collect())).collect()
}

#[tokio::test]
async fn a_campaign_in_every_trouble_reaches_each_customer_once() {
    let customers: u32 = std::env::var("JOBS").ok().and_then(|it| it.parse().ok()).unwrap_or(2_000);
    let t0 = std::time::Instant::now();
    let world = World::with_numbers(4).await;
    world.meta.fail_share(None, 0.3, Fault::CutAfter);
    world.meta.fail_share(None, 0.05, Fault::Error { code: 130_429, subcode: None });
    world.meta.fail_share(None, 0.005, Fault::Server { status: 503, accepted: true });
    let lost = world.meta.fail_share(None, 0.005, Fault::Server { status: 500, accepted: false });
    world.campaigns_all(&offers(&world, 0..customers)).await;
    eprintln!("queued {:?}", t0.elapsed());
    let from = world.clock.now_ms();
    world.run_out(Freely { workers: 50, trouble: Some(1) }).await;
    eprintln!("run {:?} virtual {} s", t0.elapsed(), (world.clock.now_ms() - from) / 1000);

    let received = received(&world);
    assert!(received.values().all(|it| it.len() == 1), "somebody received two");
    let unreached: BTreeSet<String> = (0..customers).map(phone).filter(|it| !received.contains_key(it)).collect();
    assert_eq!(u64::try_from(unreached.len()), Ok(world.meta.met(lost)), "only who met a lost send received nothing");
    let mut phases_of: BTreeMap<String, usize> = BTreeMap::new();
    phases(&world).into_iter().for_each(|it| *phases_of.entry(it.1).or_default() += 1);
    let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
    received.values().flatten().for_each(|it| *shares.entry(it).or_default() += 1);
    eprintln!("{phases_of:?} {shares:?} leased {} unused {} unreached {}", places_leased(&world), world.unused_places(), unreached.len());
    for position in 1..=4 {
        let mut sends = world.meta.sends_of(&number(position));
        sends.sort_unstable();
        eprintln!("{} {} throttled {}", sends.len(), most_in_a_second(&sends), world.meta.throttled_of(&number(position)));
        assert!(most_in_a_second(&sends) <= CAMPAIGN_RATE);
    }
    for who in ["webhook", "inbound", "templates", "statuses", "test"] {
        eprintln!("{who} {:?} {:?}", world.dynamo.faults().calls_by(who), world.sqs.faults().calls_by(who));
    }
    eprintln!("{:?} {:?}", t0.elapsed(), world.codes().len());
}
