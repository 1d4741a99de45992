//! Campaigns at scale, in a world that runs by itself: thousands of jobs, many workers, and all that goes wrong at once.
//!
//! What came of them is judged by Meta's books: what lies on the customers' phones, and when each number sent.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use channel::jobs::TemplateSend;
use channel::store::MessageItem;
use domain::status::Phase;
use meta_sim::Fault;
use serde_json::Value;
use world::mapping::Freely;
use world::story::{ANA, NUMBER, World, number};

/// What campaigns may send from one number in a second: three quarters of Meta's 80.
const CAMPAIGN_RATE: usize = 60;
/// So many customers a campaign in trouble is for.
const CUSTOMERS: u32 = 1_000;
/// So many customers each number knows where a slow one is beside fast ones.
const EACH: u32 = 500;
/// So long they are watched.
const SECONDS: u32 = 12;

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

/// The phase of each message of ours, by our books.
fn phases(world: &World) -> Vec<String> {
    let items = world.dynamo.items(&world.template.tables["MessagesTable"].name).expect("the engine answers");
    let text = |it: &Value| it["S"].as_str().unwrap_or_default().to_owned();
    items.iter().filter(|it| !it["phase"].is_null()).map(|it| text(&it["phase"])).collect()
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

/// When each send of this number was accepted, in order.
fn sends_of(world: &World, number: &str) -> Vec<i64> {
    let mut sends = world.meta.sends_of(number);
    sends.sort_unstable();
    sends
}

#[tokio::test]
async fn a_campaign_in_every_trouble_reaches_each_customer_once() {
    let (world, numbers) = (World::with_numbers(4).await, (1..=4).map(number).collect::<Vec<_>>());
    world.meta.fail_share(None, 0.3, Fault::CutAfter);
    world.meta.fail_share(None, 0.05, Fault::Error { code: 130_429, subcode: None });
    let kept = world.meta.fail_share(None, 0.005, Fault::Server { status: 503, accepted: true });
    let lost = world.meta.fail_share(None, 0.005, Fault::Server { status: 500, accepted: false });
    world.campaigns_all(&offers(&world, 0..CUSTOMERS)).await;
    world.run_out(Freely { workers: 50, trouble: Some(1) }).await;

    let received = received(&world);
    assert!(received.values().all(|it| it.len() == 1), "somebody received two");
    let unreached: BTreeSet<String> = (0..CUSTOMERS).map(phone).filter(|it| !received.contains_key(it)).collect();
    let lost = usize::try_from(world.meta.met(lost)).expect("few");
    assert!(lost > 0 && world.meta.met(kept) > 0, "some sends met a 5xx of either kind");
    assert_eq!(unreached.len(), lost, "only whose send was lost by a 5xx received nothing");
    let mut phases_of: BTreeMap<String, usize> = BTreeMap::new();
    phases(&world).into_iter().for_each(|it| *phases_of.entry(it).or_default() += 1);
    for who in &unreached {
        let conversation = world.conversation(who).await;
        let messages = world.store.newest_messages(conversation.everywhere(), 10).await.expect("the store answers");
        assert!(matches!(messages.as_slice(), [(_, MessageItem::Outbound(it))] if it.phase == Phase::Unconfirmed), "{who}: {messages:?}");
    }
    let accepted = CUSTOMERS as usize - lost;
    assert_eq!(phases_of, BTreeMap::from([("accepted".to_owned(), accepted), ("unconfirmed".to_owned(), lost)]));
    assert_eq!(world.codes(), vec!["unconfirmed"; lost], "nobody was refused");

    // First sends rotate: what the numbers differ by was leased and not used, or used for nothing.
    let mut shares: BTreeMap<&str, usize> = numbers.iter().map(|it| (it.as_str(), 0)).collect();
    received.values().flatten().for_each(|it| *shares.entry(it).or_default() += 1);
    let (least, most) = (shares.values().min().expect("four"), shares.values().max().expect("four"));
    let (leased, unspent) = (places_leased(&world), world.unused_places());
    let wasted = leased - unspent - CUSTOMERS as usize;
    println!("{shares:?}: {leased} places leased, {unspent} unspent, {wasted} wasted, {lost} sends lost; {:?}", phases_of);
    assert!(most - least <= 1 + unspent + wasted + lost, "{shares:?}");
    for number in &numbers {
        let sends = sends_of(&world, number);
        assert!(most_in_a_second(&sends) <= CAMPAIGN_RATE, "{number} sent {} in a second", most_in_a_second(&sends));
        assert_eq!(world.meta.throttled_of(number), 0, "{number} was never too fast by Meta's count");
    }
}

/// How many workers a campaign has.
const FREELY: Freely = Freely { workers: 50, trouble: None };

/// Four fast numbers and one slow one, whose customers know them: jobs of one connection, so that the queue's own fairness, which goes by
/// connection, cannot keep them apart. As many workers for a number's rate as 50 are for numbers of 80 a second; and no longer than all
/// have jobs that nobody has looked at yet, after which jobs without a slot come back by and by.
#[tokio::test]
async fn a_slow_number_with_a_backlog_takes_nothing_from_fast_ones() {
    let world = World::with_numbers(5).await;
    let (slow, fast) = (number(5), (1..=4).map(number).collect::<Vec<_>>());
    for it in &fast {
        world.sets_throughput(it, 20).await;
    }
    world.sets_throughput(&slow, 4).await;
    for serial in 0..5 * EACH {
        world.begins_conversation(&phone(serial), &number(1 + serial as usize % 5)).await;
    }
    // The slow number's backlog is as long as what is to be sent from each of the fast ones.
    world.queue_up((0..5 * EACH).map(|it| world.offer(&phone(it), it)));
    let queue = world.template.queue("TemplateSendsQueue").name.clone();
    let (began_ms, in_flight) = (world.clock.now_ms(), Cell::new(0));
    let freely = Freely { workers: 12, trouble: None };
    let sampled = async {
        for _ in 0..10 * SECONDS {
            world.clock.until(world.clock.now_ms() + 100).await;
            in_flight.set(in_flight.get().max(world.sqs.in_flight_count(&queue)));
        }
    };
    world.run_until(freely, sampled).await;
    assert_eq!(world.clock.now_ms(), began_ms + i64::from(SECONDS) * 1_000);
    assert!(world.sqs.has_visible(&queue), "all had work all the time");
    for number in &fast {
        let sends = sends_of(&world, number);
        let share = sends.len() as f64 / f64::from(SECONDS) / 15.0;
        println!("{number}: {share:.3} of its share");
        assert!(share >= 0.9, "{number} had {share} of its share");
        assert!(most_in_a_second(&sends) <= 15);
    }
    let share = sends_of(&world, &slow).len() as f64 / f64::from(SECONDS) / 3.0;
    println!("the slow one: {share:.3} of its share; in flight at most {}", in_flight.get());
    assert!(share >= 0.9, "the slow number had {share} of its share");
    assert!(in_flight.get() <= 25_000);
    assert!(world.lying_in("TemplateSendsDeadLetters").is_empty());
    assert_eq!(world.codes(), [""; 0]);
    world.may_leave_messages();
}

#[tokio::test]
async fn an_agents_reply_does_not_wait_behind_a_hundred_thousand_templates() {
    let world = World::new().await;
    world.agent_is_silent();
    world.writes(ANA, "are you there?");
    world.settle().await;
    let conversation = world.conversation(ANA).await.id;
    world.queue_up((0..100_000).map(|it| world.offer(&phone(it), it)));
    let reply_ms = world.clock.now_ms() + 3_003;
    world
        .run_until(FREELY, async {
            world.clock.until(reply_ms).await;
            world.sends(&world.of_agent(&conversation, "yes", 1)).await;
            world.clock.until(reply_ms + 1_000).await;
        })
        .await;
    let line = world.meta.phone(ANA).screen().pop().expect("the reply");
    assert_eq!(line.text.as_deref(), Some("yes"));
    let sends = sends_of(&world, NUMBER);
    let (before, after) = (sends.iter().filter(|it| **it < line.at).count(), sends.iter().filter(|it| **it > line.at).count());
    println!("the reply went out {} ms after it was queued, after {before} and before {after} sends of its number", line.at - reply_ms);
    assert!(line.at - reply_ms <= 34, "two slots of a campaign are 34 ms");
    assert!(before > 60 && after > 30, "it went out between the campaign's: {before} before, {after} after");
    world.may_leave_messages();
}
