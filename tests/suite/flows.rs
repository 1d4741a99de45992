//! Stories: what the product promises, told from the customer's phone, the agent's turns and the platform's feed.
//!
//! Each is run plainly, with every delivery doubled, shuffled, and with a crash before each acknowledgement; all must end in the same state.

use world::mapping::Delivery;
use world::story::{ANA, World};

use crate::in_every_way;

#[tokio::test]
async fn a_customer_writes_and_the_agent_answers() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        world.settle().await;
        assert_eq!(world.screen(ANA), ["> hello", "< You said: hello"]);
    })
    .await;
}

#[tokio::test]
async fn the_harness_sees_a_difference() {
    let world = World::with(Delivery::Once).await;
    let before = world.outcome();
    world.writes(ANA, "hello");
    world.settle().await;
    assert_ne!(world.outcome(), before);
}
