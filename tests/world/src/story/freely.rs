//! The world runs by itself: everything that can happen happens at once, and the clock is turned whenever nothing goes on.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;

use channel::queues::{Entry, Queue};
use futures::FutureExt;
use futures::future::{LocalBoxFuture, join};
use meta_sim::Webhook;

use super::World;
use crate::mapping::{Beside, Freely};
use crate::sqs::Chance;

impl World {
    /// Lets the world run beside `story` until it ends: functions are invoked by the mappings, webhooks are posted as they fall due, the
    /// agent takes its turns, the feed is heard. Whenever nothing goes on, the clock is turned to what happens next, be it that somebody
    /// wakes who sleeps by [`Clock::until`](crate::clock::Clock::until), the story too. What goes on when the story ends is dropped,
    /// as by a crash.
    ///
    /// Trouble is as [`Freely::trouble`] says; webhooks meet it too. [`Delivery`](crate::mapping::Delivery) is for worlds that are stepped.
    ///
    /// # Panics
    /// When nothing is left to happen and the story still waits.
    pub async fn run_until<T>(&self, freely: Freely, story: impl Future<Output = T>) -> T {
        let ended = self.mappings.run(freely, story, &Neighbours::new(self, freely)).await;
        ended.unwrap_or_else(|| panic!("nothing is left to happen, and the story has not ended; {:?}", self.sqs.depths()))
    }

    /// Lets the world run until nothing is left to happen.
    pub async fn run_out(&self, freely: Freely) {
        self.mappings.run(freely, std::future::pending::<()>(), &Neighbours::new(self, freely)).await;
    }

    /// Returns once this is true, before the clock is turned any further: for a story beside which the world runs. It is looked at whenever
    /// nothing goes on.
    pub async fn comes_true(&self, is_true: impl Fn(&Self) -> bool) {
        self.mappings.activity().comes_true(|| is_true(self)).await;
    }

    /// Puts these bodies into a standard queue, in the group that makes it fair.
    pub async fn enqueue(&self, queue: Queue, group: Option<&str>, bodies: Vec<String>) {
        let entry = |body| Entry { body, group: group.map(str::to_owned), deduplication: None };
        self.queues.send(queue, bodies.into_iter().map(entry).collect()).await.expect("the queue takes them");
    }
}

/// What goes on beside the mappings: Meta's webhooks, the agent, the feed.
struct Neighbours<'a> {
    world: &'a World,
    agent_is_busy: Rc<Cell<bool>>,
    feed_is_busy: Rc<Cell<bool>>,
    chance: RefCell<Option<Chance>>,
}

impl<'a> Neighbours<'a> {
    fn new(world: &'a World, freely: Freely) -> Self {
        let chance = RefCell::new(freely.trouble.map(|it| Chance(it.wrapping_add(1))));
        Self { world, agent_is_busy: Rc::default(), feed_is_busy: Rc::default(), chance }
    }

    /// The webhooks that are due: in trouble in any order, and one in eight twice at once.
    fn webhooks(&self) -> Vec<LocalBoxFuture<'a, ()>> {
        let world = self.world;
        if world.meta.next_webhook_at_ms().is_none_or(|it| it > world.clock.now_ms()) {
            return Vec::new();
        }
        let mut due = world.meta.take_webhooks();
        let mut chance = self.chance.borrow_mut();
        let mut is_twice = vec![false; due.len()];
        if let Some(chance) = chance.as_mut() {
            for last in (1..due.len()).rev() {
                due.swap(last, chance.below(last + 1));
            }
            is_twice.iter_mut().for_each(|it| *it = chance.below(8) == 0);
        }
        due.into_iter().zip(is_twice).map(|(webhook, is_twice)| world.meta_posts(webhook, is_twice).boxed_local()).collect()
    }

    /// What the agent or the feed does, unless it is at it or there is nothing in its queue.
    fn consumer(&self, queue: &str, is_busy: &Rc<Cell<bool>>, work: impl Future<Output = ()> + 'a) -> Option<LocalBoxFuture<'a, ()>> {
        if is_busy.get() || !self.world.sqs.has_visible(&self.world.template.queue(queue).name) {
            return None;
        }
        is_busy.set(true);
        let is_busy = Rc::clone(is_busy);
        Some(work.map(move |()| is_busy.set(false)).boxed_local())
    }
}

impl<'a> Beside<'a> for Neighbours<'a> {
    fn begin(&self) -> Vec<LocalBoxFuture<'a, ()>> {
        let world = self.world;
        let mut begun = self.webhooks();
        begun.extend(self.consumer("TurnsQueue", &self.agent_is_busy, world.agent_takes_turns().map(drop)));
        begun.extend(self.consumer("EventsQueue", &self.feed_is_busy, world.hear_events()));
        begun
    }

    fn next_ms(&self) -> Option<i64> {
        self.world.meta.next_webhook_at_ms()
    }
}

impl World {
    async fn meta_posts(&self, webhook: Webhook, is_twice: bool) {
        let status = if is_twice { join(self.post(&webhook), self.post(&webhook)).await.1 } else { self.post(&webhook).await };
        self.meta.answered(webhook.id, status);
        self.posted.borrow_mut().push(webhook);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::clock::START_MS;
    use crate::story::{ANA, APP};

    #[tokio::test]
    async fn a_busy_world_in_trouble_answers_each_customer_once() {
        for seed in [1, 2] {
            let world = World::new().await;
            let customers: Vec<String> = (0..20).map(|it| format!("346001{it:05}")).collect();
            for who in &customers {
                world.writes(who, "hi");
            }
            world.run_out(Freely { workers: 8, trouble: Some(seed) }).await;
            assert_eq!(world.accepted(), (1, customers.len()));
            for who in &customers {
                assert_eq!(world.screen(who), ["> hi", "< You said: hi"]);
            }
            assert_eq!(world.meta.unsent_webhooks(), 0);
            assert!(world.times_told() >= customers.len());
        }
    }

    #[tokio::test]
    async fn a_story_runs_beside_the_world_and_ends_before_the_clock_is_turned_further() {
        let world = World::new().await;
        let freely = Freely { workers: 8, trouble: None };
        let answered = world.run_until(freely, async {
            world.clock.until(START_MS + 90_000).await;
            world.writes(ANA, "hi");
            world.comes_true(|it| it.accepted() == (1, 1)).await;
            world.clock.now_ms()
        });
        assert_eq!(answered.await, START_MS + 90_000);
        world.pass(Duration::from_secs(60)).await;
        assert_eq!(world.screen(ANA), ["> hi", "< You said: hi"]);
    }

    #[tokio::test]
    async fn what_is_enqueued_is_handled() {
        let world = World::new().await;
        let bodies = (0..25).map(|it| json!({ "neither": APP, "nor": it }).to_string()).collect();
        world.enqueue(Queue::Statuses, Some("demo"), bodies).await;
        world.run_out(Freely { workers: 2, trouble: None }).await;
        assert_eq!(world.lying_in("StatusesDeadLetters").len(), 25);
        world.may_leave_messages();
    }
}
