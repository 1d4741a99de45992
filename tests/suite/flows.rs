//! Stories: what the product promises, told from the customer's phone, the agent's turns and the platform's feed.
//!
//! Each is run plainly, with every delivery doubled, shuffled, and with a crash before each acknowledgement; all must end in the same state.

mod api;
mod bridge;
mod catalogue;
mod connections;
mod erasure;
mod files;
mod guide;
mod inbound;
mod inbox;
mod media;
mod neighbours;
mod numbers;
mod people;
mod replies;
mod setup;
mod stops;
pub(crate) mod templates;
mod traffic;
mod window;

use std::time::Duration;

use world::mapping::Delivery;
use world::story::{ANA, World};

use crate::in_every_way;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// What a person is told when the window is closed.
const CLOSED: &str = "It's been over 24 hours since the last reply. Select a WhatsApp template to continue.";

#[tokio::test]
async fn a_customer_writes_and_the_agent_answers() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        world.settle().await;
        assert_eq!(world.screen(ANA), ["> hello", "< You said: hello"]);
        assert_eq!(world.history(ANA).await, ["> hello", "< You said: hello (example, Delivered)"]);
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
