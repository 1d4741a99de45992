//! What a message costs, from DynamoDB's own `ConsumedCapacity`: the targets of a write unit or two, held for every shape of customer and text.
//!
//! An inbound is two writes (the conversation, the message), a reply two (the claim, its acceptance), a status one. On top come one for
//! content over 350 bytes, one for the mark of a conversation's hour, and two for a new address and its state; nothing else.
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html>

use std::collections::BTreeMap;
use std::time::Duration;

use channel::jobs::TemplateSend;
use meta_sim::{Inbound, Mode};
use serde_json::json;
use world::dynamo::Units;
use world::story::campaigns::OFFER;
use world::story::{ANA, NUMBER, OTHER_NUMBER, WABA, World, answer};

/// The functions, as their calls are booked.
const FUNCTIONS: [&str; 5] = ["webhook", "inbound", "replies", "templates", "statuses"];

/// What a story has cost each function.
#[derive(Debug)]
struct Bill {
    units: BTreeMap<&'static str, Units>,
    /// Calls of SQS by the function itself; the mapping's receiving and deleting is Lambda's.
    sqs: BTreeMap<&'static str, BTreeMap<String, u64>>,
}

impl Bill {
    fn write(&self, function: &str) -> f64 {
        self.units[function].write
    }

    fn read(&self, function: &str) -> f64 {
        self.units[function].read
    }

    /// Nobody pays for a write that was refused; DynamoDB would charge it, so nothing of the usual way may be refused.
    fn refused(&self) -> u64 {
        self.units.values().map(|it| it.refused).sum()
    }
}

/// What `act` and all that follows from it cost.
async fn bill(world: &World, act: impl FnOnce()) -> Bill {
    world.dynamo.reset_units();
    world.sqs.faults().reset_calls();
    act();
    world.settle().await;
    Bill {
        units: FUNCTIONS.into_iter().map(|it| (it, world.dynamo.units(it))).collect(),
        sqs: FUNCTIONS.into_iter().map(|it| (it, world.sqs.faults().calls_by(it))).collect(),
    }
}

/// A customer whom Meta names by phone only, by user id only, or by both.
fn customer(world: &World, named_by: &str) -> &'static str {
    let (who, customer) = match named_by {
        "phone" => ("34600111001", json!({ "phone": "34600111001" })),
        "user id" => ("ES.9007199254740001", json!({ "user_id": "ES.9007199254740001", "username": "rosa" })),
        _ => ("34600111003", json!({ "phone": "34600111003", "user_id": "ES.9007199254740003" })),
    };
    world.meta.add_customer(serde_json::from_value(customer).expect("a customer"));
    who
}

const NAMED_BY: [&str; 3] = ["phone", "user id", "both"];

/// A conversation in its course: the customer and the business have written this hour, and all that is remembered is warm.
async fn in_its_course(world: &World, who: &str) {
    world.writes(who, "hello");
    world.settle().await;
    world.clock.advance(Duration::from_secs(2));
    world.settle().await;
}

#[tokio::test]
async fn an_inbound_costs_two_writes_a_reply_two_and_a_status_one() {
    for named_by in NAMED_BY {
        let world = World::new().await;
        let who = customer(&world, named_by);
        in_its_course(&world, who).await;
        let bill = bill(&world, || drop(world.writes(who, "and again"))).await;
        let statuses = 2.0;
        assert_eq!((bill.write("inbound"), bill.write("replies"), bill.write("statuses")), (2.0, 2.0, statuses), "{named_by}: {bill:#?}");
        assert_eq!((bill.write("webhook"), bill.refused()), (0.0, 0), "{named_by}");
        // One eventual look at the address, one strong one at the conversation; a reply has the conversation's id.
        assert_eq!((bill.read("inbound"), bill.read("replies")), (1.5, 1.0), "{named_by}: {bill:#?}");
        assert_eq!((bill.read("webhook"), bill.read("statuses")), (0.0, 0.0), "{named_by}: {bill:#?}");
        println!("SQS calls of the functions for an inbound, its reply and two statuses, customer named by {named_by}: {:?}", bill.sqs);
    }
}

#[tokio::test]
async fn the_first_message_costs_a_mark_its_addresses_and_the_lookups_on_top() {
    for (named_by, addresses) in NAMED_BY.into_iter().zip([1.0, 1.0, 2.0]) {
        let world = World::new().await;
        world.agent_is_silent();
        let who = customer(&world, named_by);
        let bill = bill(&world, || drop(world.writes(who, "hello"))).await;
        assert_eq!(bill.write("inbound"), 2.0 + 1.0 + addresses, "{named_by}: {bill:#?}");
        assert!(bill.write("inbound") <= 2.0 + 1.0 + 2.0, "the target is a mark, and two for a new address and its state");
    }
}

#[tokio::test]
async fn a_new_hour_costs_one_mark_and_only_once() {
    let world = World::new().await;
    world.agent_is_silent();
    in_its_course(&world, ANA).await;
    world.sleep(Duration::from_hours(1)).await;
    let first = bill(&world, || drop(world.writes(ANA, "an hour later"))).await;
    world.clock.advance(Duration::from_secs(2));
    let second = bill(&world, || drop(world.writes(ANA, "and at once again"))).await;
    assert_eq!((first.write("inbound"), second.write("inbound")), (3.0, 2.0));
}

#[tokio::test]
async fn text_of_350_bytes_lies_in_the_message_and_only_longer_text_costs_one_more() {
    for named_by in NAMED_BY {
        for (text, more) in [("x".repeat(350), 0.0), ("ñ".repeat(175), 0.0), ("x".repeat(700), 1.0)] {
            let world = World::new().await;
            let who = customer(&world, named_by);
            in_its_course(&world, who).await;
            let said = text.clone();
            world.agent_answers(move |turn| vec![answer(turn, 0, &said)]);
            let inbound = bill(&world, || drop(world.writes(who, &text))).await;
            let bytes = text.len();
            assert_eq!(inbound.write("inbound"), 2.0 + more, "inbound of {bytes} bytes, customer named by {named_by}");
            assert_eq!(inbound.write("replies"), 2.0 + more, "reply of {bytes} bytes, customer named by {named_by}");
            assert_eq!(inbound.write("statuses"), 2.0, "statuses of {bytes} bytes, customer named by {named_by}");
            let read = bill(&world, || assert_eq!(world.meta.phone(who).reads(), Ok(2))).await;
            assert_eq!(read.write("statuses"), 2.0, "both messages are read, customer named by {named_by}");
        }
    }
}

#[tokio::test]
async fn twenty_five_messages_in_one_envelope_cost_no_more_each_and_their_statuses_less() {
    let world = World::new().await;
    in_its_course(&world, ANA).await;
    world.sleep(Duration::from_mins(1)).await;
    world.writes(ANA, "hello again");
    world.settle().await;
    world.sleep(Duration::from_secs(30)).await;
    world.meta.set_mode(Mode { batch: 1_000, ..Mode::default() });
    let bill = bill(&world, || {
        for second in (0..25).rev() {
            let text = Inbound::text(&format!("line {second}"));
            world.meta.customer_writes(ANA, NUMBER, meta_sim::Written::from(text).ago(second)).expect("writes");
        }
    })
    .await;
    assert_eq!(world.turns().len(), 27);
    assert_eq!((bill.write("inbound"), bill.write("replies")), (50.0, 50.0), "{bill:#?}");
    assert!(bill.write("statuses") <= 50.0 && bill.write("statuses") >= 25.0, "{bill:#?}");
    assert_eq!(bill.refused(), 0);
    // The number with its connection and its agent, the address, the conversation; for replies the connection with its app, and the attachment.
    assert_eq!((bill.read("inbound"), bill.read("replies")), (3.0 + 1.5, 3.0 + 25.0), "{bill:#?}");
    println!("SQS calls of the functions for 25 messages in one envelope, their replies and 50 statuses: {:?}", bill.sqs);
}

#[tokio::test]
async fn a_customer_of_two_numbers_costs_no_more() {
    for named_by in NAMED_BY {
        let world = World::new().await;
        let who = customer(&world, named_by);
        in_its_course(&world, who).await;
        world.meta.customer_writes(who, OTHER_NUMBER, "the other number").expect("writes");
        world.settle().await;
        world.clock.advance(Duration::from_secs(2));
        let bill = bill(&world, || drop(world.writes(who, "back again"))).await;
        let units = (bill.write("inbound"), bill.write("replies"), bill.write("statuses"));
        assert_eq!(units, (2.0, 2.0, 2.0), "{named_by}: {bill:#?}");
    }
}

#[tokio::test]
async fn what_is_remembered_of_a_connection_is_read_again_after_some_seconds_once_for_a_batch() {
    let world = World::new().await;
    in_its_course(&world, ANA).await;
    world.sleep(Duration::from_mins(2)).await;
    world.meta.set_mode(Mode { batch: 1_000, ..Mode::default() });
    world.agent_is_silent();
    let bill = bill(&world, || {
        for text in ["one", "two", "three"] {
            world.writes(ANA, text);
        }
    })
    .await;
    // The number, its connection and its agent, strongly; then the address and the conversation; the second and third message bear the second of the first.
    assert_eq!(bill.read("inbound"), 3.0 + 1.5 + 2.0, "{bill:#?}");
    assert_eq!(bill.write("inbound"), 6.0);
}

/// What a batch of 25 templates to these customers costs, all that is remembered being warm.
async fn bill_of_templates(world: &World, customers: &[String]) -> Bill {
    bill_of_campaign(world, customers, None).await
}

async fn bill_of_campaign(world: &World, customers: &[String], campaign: Option<&str>) -> Bill {
    let serials = 1_u32..;
    let label = || campaign.map(|it| it.to_owned().try_into().expect("a label"));
    let jobs: Vec<_> =
        customers.iter().zip(serials).map(|(who, serial)| TemplateSend { campaign: label(), ..world.offer(who, serial) }).collect();
    world.campaigns_all(&jobs).await;
    let bill = bill(world, || {}).await;
    assert!(customers.iter().all(|it| world.meta.received(it).len() == 1), "all went out");
    bill
}

/// A world whose templates are listed, and whose function has sent some.
async fn campaigning() -> World {
    let world = World::new().await;
    let before: Vec<String> = (0..10).map(|it| format!("34699000{it:03}")).collect();
    bill_of_templates(&world, &before).await;
    world.clock.advance(Duration::from_secs(1));
    world
}

#[tokio::test]
async fn a_template_costs_three_writes_and_its_share_of_the_leases() {
    let customers: Vec<String> = (0..25).map(|it| format!("34611000{it:03}")).collect();
    let world = campaigning().await;
    for (who, number) in customers.iter().zip([NUMBER, OTHER_NUMBER].into_iter().cycle()) {
        world.begins_conversation(who, number).await;
    }
    let known = bill_of_templates(&world, &customers).await;
    // One for the slots of each of the two numbers.
    assert_eq!(known.write("templates"), 3.0 * 25.0 + 2.0, "{known:#?}");
    assert_eq!(known.read("templates"), 1.5 * 25.0, "{known:#?}");
    // What shows that a number is idle is one refused write; a campaign that runs keeps it busy.
    assert!(known.units["templates"].refused <= 2, "{known:#?}");
    println!("25 templates to known customers: {:?}", known.units);
    let world = campaigning().await;
    let new = bill_of_templates(&world, &customers).await;
    // The address on top: its state is what reserves. One more for places in the rotation.
    assert_eq!(new.write("templates"), 4.0 * 25.0 + 3.0, "{new:#?}");
    println!("25 templates to new customers: {:?}", new.units);
}

#[tokio::test]
async fn a_long_text_of_a_campaign_with_a_long_name_costs_one_write_more() {
    let customers: Vec<String> = (0..25).map(|it| format!("34611000{it:03}")).collect();
    let world = campaigning().await;
    let text = format!("Hello {{{{1}}}}, {}.", "this is new ".repeat(25));
    world.meta.put_template(WABA, meta_sim::Template::of_body("9001", OFFER, "en_US", &text));
    assert!(world.meta.set_template_status(WABA, OFFER, "en_US", "APPROVED"));
    world.pass(Duration::from_mins(1)).await;
    for (who, number) in customers.iter().zip([NUMBER, OTHER_NUMBER].into_iter().cycle()) {
        world.begins_conversation(who, number).await;
    }
    let bill = bill_of_campaign(&world, &customers, Some(&"n".repeat(200))).await;
    assert_eq!(bill.write("templates"), 4.0 * 25.0 + 2.0, "{bill:#?}");
    // A status is one write, and the first one tells the customer's user id: its address and the conversation.
    assert_eq!(bill.write("statuses"), 4.0 * 25.0, "{bill:#?}");
}
