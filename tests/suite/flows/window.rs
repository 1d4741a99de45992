//! *The window*: free-form within 24 hours of the customer's own last message, by Meta's time, and the refusals outside it.

use meta_sim::{Fault, Inbound, Mode, Written};
use world::story::{ANA, NUMBER, World};

use super::{CLOSED, DAY, HOUR, MINUTE, SECOND};
use crate::in_every_way;

#[tokio::test]
async fn free_form_goes_out_until_24_hours_after_the_customers_last_message_and_then_no_more() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        let closes_at = world.now().plus(DAY);
        world.writes(ANA, "hello");
        world.settle().await;
        let conversation = world.conversation(ANA).await.id;
        world.sleep(DAY - SECOND).await;
        world.sends(&world.of_agent(&conversation, "just in time", 1)).await;
        world.settle().await;
        world.sleep(SECOND).await;
        world.sends(&world.of_agent(&conversation, "too late", 2)).await;
        world.settle().await;
        assert_eq!(world.screen(ANA), ["> hello", "< just in time"]);
        let refusals = world.refusals();
        assert_eq!(refusals.len(), 1);
        assert_eq!((refusals[0].code.as_str(), refusals[0].note.as_str()), ("template_only", CLOSED));
        assert_eq!(refusals[0].closed_at, Some(closes_at));
        assert_eq!(world.history(ANA).await[2], "< too late (example, Failed)", "and the refusal is kept with the message");
    })
    .await;
}

#[tokio::test]
async fn a_person_too_is_refused_outside_the_window() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.sleep(DAY).await;
        world.settle().await;
        let conversation = world.conversation(ANA).await.id;
        world.sends(&world.of_person(&conversation, "good morning", 1)).await;
        world.settle().await;
        assert_eq!((world.screen(ANA), world.codes()), (vec!["> hello".to_owned()], vec!["template_only".to_owned()]));
    })
    .await;
}

#[tokio::test]
async fn the_window_goes_by_metas_time_of_the_message_and_never_by_its_arrival() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.meta.set_mode(Mode { delay_ms: 10 * 60 * 60 * 1_000, ..Mode::default() });
        world.writes(ANA, "hello");
        world.pass(HOUR * 10).await;
        assert_eq!(world.words_told(), ["hello"]);
        world.meta.set_mode(Mode::default());
        let conversation = world.conversation(ANA).await.id;
        world.sleep(HOUR * 14 - SECOND).await;
        world.sends(&world.of_agent(&conversation, "just in time", 1)).await;
        world.settle().await;
        world.sleep(SECOND).await;
        world.sends(&world.of_agent(&conversation, "too late", 2)).await;
        world.settle().await;
        assert_eq!(world.screen(ANA), ["> hello", "< just in time"]);
        assert_eq!(world.codes(), ["template_only"]);
    })
    .await;
}

#[tokio::test]
async fn a_late_webhook_never_opens_a_window_that_is_already_over() {
    in_every_way(async |world: &World| {
        let closes_at = world.now().plus(DAY);
        world.meta.set_mode(Mode { delay_ms: 25 * 60 * 60 * 1_000, ..Mode::default() });
        world.writes(ANA, "hello");
        world.pass(HOUR * 25).await;
        assert!(!world.is_open(ANA, NUMBER).await);
        let turns = world.turns();
        assert!(turns[0].late, "the agent is told all the same, as late");
        assert_eq!(turns[0].standing, channel::jobs::StandingNow::TemplateOnly { closed_at: Some(closes_at) });
        assert_eq!(world.screen(ANA), ["> hello"], "its answer is refused");
        assert_eq!(world.refusals()[0].closed_at, Some(closes_at));
    })
    .await;
}

#[tokio::test]
async fn a_late_webhook_never_shortens_a_window() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.sleep(DAY).await;
        world.writes(ANA, "new");
        world.settle().await;
        world.writes_to(NUMBER, ANA, Written::from("old").ago(20 * 60 * 60));
        world.settle().await;
        world.sleep(HOUR * 23).await;
        assert!(world.is_open(ANA, NUMBER).await);
        assert_eq!(world.words_told(), ["new", "old"]);
        assert_eq!(world.history(ANA).await, ["> old", "> new"], "kept in the order of Meta's times");
    })
    .await;
}

#[tokio::test]
async fn a_refusal_of_metas_closes_the_window_as_of_the_refused_send_until_the_customer_writes_again() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.sleep(HOUR).await;
        let (conversation, refused_at) = (world.conversation(ANA).await.id, world.now());
        world.meta.fail_next(None, Some(1), Fault::Error { code: 131_047, subcode: None });
        world.sends(&world.of_agent(&conversation, "one", 1)).await;
        world.settle().await;
        world.sends(&world.of_agent(&conversation, "two", 2)).await;
        world.settle().await;
        assert_eq!(world.codes(), ["131047", "template_only"], "Meta's word is the truth, though by our book there were 23 hours left");
        assert_eq!(world.refusals()[0].closed_at, Some(refused_at));
        world.sleep(SECOND).await;
        world.writes(ANA, "still there?");
        world.settle().await;
        world.sends(&world.of_agent(&conversation, "three", 3)).await;
        world.settle().await;
        assert_eq!(world.screen(ANA), ["> hello", "> still there?", "< three"]);
    })
    .await;
}

#[tokio::test]
async fn a_refusal_of_metas_that_is_heard_after_the_customer_wrote_again_closes_nothing() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.sleep(HOUR).await;
        let conversation = world.conversation(ANA).await.id;
        world.meta.fail_next(None, Some(1), Fault::FailLater { code: 131_047 });
        world.meta.set_mode(Mode { delay_ms: 60_000, ..Mode::default() });
        world.sends(&world.of_agent(&conversation, "one", 1)).await;
        world.settle().await;
        world.meta.set_mode(Mode::default());
        world.sleep(SECOND * 30).await;
        world.writes(ANA, "still there?");
        world.settle().await;
        assert_eq!(world.codes(), [""; 0], "the refusal is not heard yet");
        world.pass(MINUTE).await;
        assert_eq!(world.codes(), ["131047"]);
        world.sends(&world.of_agent(&conversation, "two", 2)).await;
        world.settle().await;
        assert_eq!(world.screen(ANA), ["> hello", "> still there?", "< two"]);
    })
    .await;
}

#[tokio::test]
async fn the_window_is_checked_decisively_when_the_reply_is_sent() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.sleep(DAY - MINUTE * 5).await;
        world.stop().await;
        let conversation = world.conversation(ANA).await.id;
        world.sends(&world.of_agent(&conversation, "just in time, and then it waits", 1)).await;
        world.pass(MINUTE * 6).await;
        world.run().await;
        world.pass(MINUTE).await;
        assert_eq!((world.screen(ANA), world.codes()), (vec!["> hello".to_owned()], vec!["template_only".to_owned()]));
    })
    .await;
}

#[tokio::test]
async fn business_that_wrote_first_waits_for_the_customers_answer() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.sleep(DAY * 2).await;
        world.business_has_written_first(ANA).await;
        let conversation = world.conversation(ANA).await.id;
        world.sends(&world.of_person(&conversation, "did you see it?", 1)).await;
        world.settle().await;
        let refused = &world.refusals()[0];
        assert_eq!(refused.code, "awaiting_reply");
        assert_eq!(refused.note, "Waiting for customer reply. Messaging will be available once they respond.");
        world.sleep(HOUR).await;
        world.writes_to(NUMBER, ANA, Inbound::Button { text: "Yes".to_owned(), payload: "YES".to_owned() });
        world.settle().await;
        world.sends(&world.of_person(&conversation, "thank you", 2)).await;
        world.settle().await;
        assert_eq!(world.screen(ANA), ["> hello", "> Yes", "< thank you"]);
        assert_eq!(world.codes(), ["awaiting_reply"]);
    })
    .await;
}

#[tokio::test]
async fn business_that_wrote_first_and_had_no_answer_in_24_hours_may_send_a_template_only() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.sleep(DAY * 2).await;
        world.business_has_written_first(ANA).await;
        world.sleep(DAY).await;
        let conversation = world.conversation(ANA).await.id;
        world.sends(&world.of_person(&conversation, "did you see it?", 1)).await;
        world.settle().await;
        assert_eq!(world.refusals()[0].note, CLOSED);
    })
    .await;
}
