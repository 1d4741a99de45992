//! Races for one conversation: whatever the order of calls about a customer, at most one template of theirs waits for an answer.
//!
//! Two are run in every order there is, more in orders by chance. A sister of each, in which a template's writes forget their
//! condition, shows that the orders find what they are to find.

use std::time::Duration;

use channel::store::MessageItem;
use domain::conversation::Standing;
use domain::status::Phase;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use world::orders::{Orders, by_chance};
use world::story::{NUMBER, OTHER_NUMBER, World};
use world::wire::{Fault, Rule};

/// How many orders are tried where there are too many to try all.
const SEEDS: u32 = 60;

/// A world in which all that is remembered is warm, and nobody answers.
async fn warm() -> World {
    let world = World::new().await;
    world.agent_is_silent();
    for (customer, number) in [("34699000001", NUMBER), ("34699000002", OTHER_NUMBER)] {
        world.campaigns(&world.offer(customer, 1)).await;
        world.writes_to(number, customer, "hello");
        world.pass(Duration::from_secs(20)).await;
    }
    world
}

/// The customer of an order.
fn customer(order: u32) -> String {
    format!("3462{order:07}")
}

/// One invocation for one template of its own.
fn campaign<'a>(world: &'a World, who: &'a str, serial: u32) -> LocalBoxFuture<'a, ()> {
    async move {
        world.campaigns(&world.offer(who, serial)).await;
        world.hands_over("TemplateSendsQueue").await;
    }
    .boxed_local()
}

/// One invocation for what the customer wrote.
fn inbound(world: &World) -> LocalBoxFuture<'_, ()> {
    world.hands_over("InboundQueue").boxed_local()
}

/// Tries every order; how many there were.
async fn in_every_order(world: &World, mut story: impl AsyncFnMut(&World, u32, &mut Orders)) -> u32 {
    let (mut orders, mut order) = (Orders::default(), 0);
    loop {
        // So that the slots of one order are not those of the next.
        world.clock.advance(Duration::from_secs(1));
        story(world, order, &mut orders).await;
        order += 1;
        if !orders.advance() {
            return order;
        }
    }
}

/// Of all templates for this customer one went out, and the conversation says so; each other one was refused because of it.
async fn one_of(count: usize, world: &World, who: &str) {
    settles(world).await;
    let received = world.meta.received(who);
    assert_eq!(received.len(), 1, "{who}: one template");
    let conversation = world.conversation(who).await;
    let kept = world.store.newest_messages(conversation.everywhere(), 10).await.expect("the store answers");
    let phases = |phase| kept.iter().filter(|it| matches!(&it.1, MessageItem::Outbound(it) if it.phase == phase)).count();
    assert_eq!((phases(Phase::Accepted), phases(Phase::Failed)), (1, count - 1), "{who}: {kept:#?}");
    let sent = kept.iter().find(|it| matches!(&it.1, MessageItem::Outbound(it) if it.phase == Phase::Accepted)).expect("one was sent");
    assert_eq!(conversation.unanswered.as_ref().map(|it| &it.message), Some(&sent.0), "{who}: it is the one that waits for an answer");
    assert_eq!(conversation.sender.as_ref().map(|it| it.number.as_str()), Some(received[0].number.as_str()), "{who}");
    assert!(matches!(conversation.standing(world.now()), Standing::AwaitingReply { .. }));
}

/// Lets everything happen; whoever lost every race for the conversation is delivered again.
async fn settles(world: &World) {
    world.settle().await;
    if !world.sqs.depths().is_empty() {
        world.pass(Duration::from_mins(5)).await;
    }
}

async fn campaigns_to_a_known_customer(world: &World) {
    let orders = in_every_order(world, async |world: &World, order, orders: &mut Orders| {
        let who = customer(order);
        world.begins_conversation(&who, NUMBER).await;
        world.race(vec![campaign(world, &who, 2 * order), campaign(world, &who, 2 * order + 1)], |it| orders.choose(it)).await;
        one_of(2, world, &who).await;
    });
    println!("two campaigns: {} orders", orders.await);
}

#[tokio::test]
async fn of_two_campaigns_one_writes_to_a_known_customer() {
    campaigns_to_a_known_customer(&warm().await).await;
}

/// A template's writes forget their condition from now on.
fn forget_conditions(world: &World) {
    world.dynamo.faults().add(Rule::every(Fault::Unconditional).by("templates"));
}

#[tokio::test]
#[should_panic(expected = "one template")]
async fn the_orders_of_two_campaigns_find_a_careless_one() {
    let world = warm().await;
    forget_conditions(&world);
    campaigns_to_a_known_customer(&world).await;
}

/// So many campaigns for one customer of whom nothing is known yet, in orders by chance: all orders of two are thousands.
async fn campaigns_to_a_new_customer(world: &World, count: u32) {
    for order in 0..SEEDS {
        world.clock.advance(Duration::from_secs(1));
        let who = customer(order);
        let runners = (0..count).map(|it| campaign(world, &who, count * order + it)).collect();
        world.race(runners, by_chance(order.into())).await;
        one_of(count as usize, world, &who).await;
    }
}

#[tokio::test]
async fn of_two_campaigns_one_writes_to_a_new_customer() {
    campaigns_to_a_new_customer(&warm().await, 2).await;
}

#[tokio::test]
async fn of_three_campaigns_one_writes_to_a_new_customer() {
    campaigns_to_a_new_customer(&warm().await, 3).await;
}

#[tokio::test]
#[should_panic(expected = "one template")]
async fn the_orders_of_three_campaigns_find_a_careless_one() {
    let world = warm().await;
    forget_conditions(&world);
    campaigns_to_a_new_customer(&world, 3).await;
}

/// The customer has written to the other number, beside which these ran: they are answered there, and nothing waits for an answer of theirs.
async fn the_customer_has_spoken(world: &World, who: &str, campaigns: usize) {
    settles(world).await;
    let conversation = world.conversation(who).await;
    assert_eq!(conversation.sender.as_ref().map(|it| it.number.as_str()), Some(OTHER_NUMBER), "{who}: answered where they wrote");
    assert!(world.is_open(who, OTHER_NUMBER).await, "{who}");
    assert!(!world.is_open(who, NUMBER).await, "{who}");
    assert!(matches!(conversation.standing(world.now()), Standing::Open { .. }), "{who}");
    assert_eq!(conversation.unanswered, None, "{who}: they have answered");
    // Only what was sent before their word was taken in may have come from the number that they knew.
    let received = world.meta.received(who);
    let from_known = received.iter().filter(|it| it.number == NUMBER).count();
    assert!(from_known <= 1 && (1..=campaigns).contains(&received.len()), "{who}: {received:?}");
}

/// A customer who was written to from one number writes to the other; their word is in the queue.
async fn writes_to_other(world: &World, who: &str) {
    world.begins_conversation(who, NUMBER).await;
    world.meta.add_customer(meta_sim::Customer::with_phone(who));
    world.writes_to(OTHER_NUMBER, who, "hello");
    world.hears_meta().await;
}

async fn a_campaign_beside_a_word(world: &World) {
    let orders = in_every_order(world, async |world: &World, order, orders: &mut Orders| {
        let who = customer(order);
        writes_to_other(world, &who).await;
        world.race(vec![campaign(world, &who, order), inbound(world)], |it| orders.choose(it)).await;
        the_customer_has_spoken(world, &who, 1).await;
    });
    println!("a campaign beside a word of the customer: {} orders", orders.await);
}

#[tokio::test]
async fn a_campaign_beside_a_word_of_the_customer_undoes_none_of_it() {
    a_campaign_beside_a_word(&warm().await).await;
}

#[tokio::test]
#[should_panic(expected = "answered where they wrote")]
async fn the_orders_of_a_campaign_beside_a_word_find_a_careless_one() {
    let world = warm().await;
    forget_conditions(&world);
    a_campaign_beside_a_word(&world).await;
}

#[tokio::test]
async fn two_campaigns_beside_a_word_of_the_customer_undo_none_of_it() {
    let world = warm().await;
    for order in 0..SEEDS {
        world.clock.advance(Duration::from_secs(1));
        let who = customer(order);
        writes_to_other(&world, &who).await;
        let runners = vec![campaign(&world, &who, 2 * order), inbound(&world), campaign(&world, &who, 2 * order + 1)];
        world.race(runners, by_chance(order.into())).await;
        the_customer_has_spoken(&world, &who, 2).await;
    }
}
