//! *Numbers*: each customer keeps the number that they know, and moves it by writing to another.

use world::story::{ANA, NUMBER, OTHER_NUMBER, World};

use super::{DAY, HOUR, SECOND};
use crate::in_every_way;

/// From which numbers the customer's screen shows our messages, in order.
fn senders(world: &World) -> Vec<String> {
    let lines = world.meta.phone(ANA).screen();
    lines.into_iter().filter(|it| it.from == meta_sim::Author::Business).map(|it| it.number).collect()
}

#[tokio::test]
async fn a_customer_who_writes_to_another_number_is_answered_from_there() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        world.settle().await;
        world.sleep(HOUR).await;
        world.writes_to(OTHER_NUMBER, ANA, "hello, other number");
        world.settle().await;
        let conversation = world.conversation(ANA).await.id;
        world.sends(&world.of_agent(&conversation, "one more thing", 1)).await;
        world.settle().await;
        assert_eq!(senders(world), [NUMBER, OTHER_NUMBER, OTHER_NUMBER]);
        let turns = world.turns();
        assert_eq!(turns[0].conversation, turns[1].conversation, "it is one conversation");
        assert_eq!((turns[0].number.as_str(), turns[1].number.as_str()), (NUMBER, OTHER_NUMBER));
    })
    .await;
}

#[tokio::test]
async fn each_number_has_a_window_of_its_own() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes_to(OTHER_NUMBER, ANA, "hello, other number");
        world.settle().await;
        world.sleep(HOUR * 20).await;
        world.writes(ANA, "hello");
        world.settle().await;
        world.sleep(HOUR * 5).await;
        assert!(!world.is_open(ANA, OTHER_NUMBER).await);
        assert!(world.is_open(ANA, NUMBER).await);
        world.sends(&world.of_agent(&world.conversation(ANA).await.id, "hello Ana", 1)).await;
        world.settle().await;
        assert_eq!(senders(world), [NUMBER]);
    })
    .await;
}

#[tokio::test]
async fn a_late_message_to_the_old_number_does_not_move_the_customer_back() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.sleep(DAY).await;
        world.writes_to(OTHER_NUMBER, ANA, "hello, other number");
        world.settle().await;
        world.writes_to(NUMBER, ANA, meta_sim::Written::from("hello").ago(60 * 60));
        world.settle().await;
        world.sends(&world.of_agent(&world.conversation(ANA).await.id, "hello Ana", 1)).await;
        world.settle().await;
        assert_eq!(senders(world), [OTHER_NUMBER]);
    })
    .await;
}

#[tokio::test]
async fn free_form_to_a_customer_of_a_removed_number_is_refused_with_the_reason_until_they_write() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.settle().await;
        world.removes_number(NUMBER).await;
        world.sleep(SECOND * 6).await;
        let conversation = world.conversation(ANA).await.id;
        world.sends(&world.of_agent(&conversation, "hello Ana", 1)).await;
        world.settle().await;
        let refused = &world.refusals()[0];
        assert_eq!(refused.code, "sender_gone");
        assert_eq!(refused.note, "The number that this customer knows is no longer connected. Send a template, or wait until they write.");
        world.sleep(HOUR).await;
        world.writes_to(OTHER_NUMBER, ANA, "are you there?");
        world.settle().await;
        world.sends(&world.of_agent(&conversation, "we are", 2)).await;
        world.settle().await;
        assert_eq!(senders(world), [OTHER_NUMBER]);
    })
    .await;
}

#[tokio::test]
async fn a_number_of_poor_standing_answers_still() {
    in_every_way(async |world: &World| {
        world.meta.change_number(NUMBER, |it| it.quality_rating = "RED".to_owned()).expect("the number is there");
        world.writes(ANA, "hello");
        world.settle().await;
        assert_eq!(world.screen(ANA), ["> hello", "< You said: hello"]);
    })
    .await;
}
