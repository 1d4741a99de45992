//! When nothing goes on in a world but waiting, so that the clock may be turned to the next thing that happens.
//!
//! It must not know what goes on, only that something does.

use std::future::Future;

use meta_sim::Simulator;

use crate::clock::Clock;

/// How often all other tasks run in vain before nothing is taken to go on.
const TURNS: u32 = 32;

/// What goes on around a turned clock: calls to its engines, its sleepers, and requests to the simulator of Meta, if there is one.
///
/// Nothing is asked of the machine's clock. All of a test runs on one thread, and whatever goes on there is one of these:
///
/// - *A call to an engine* is executed in the poll that makes it, DynamoDB's too (it has no threads of its own), and is counted.
/// - *A sleeper* is counted when it falls asleep and when it wakes.
/// - *A request to Meta* crosses the loopback. At the simulator it is known exactly: begun, and not yet ended. On the way there and back
///   nobody counts it; but the kernel hands over what is written to the loopback before the writing returns, so the next look at the
///   sockets finds it. `yield_now` comes back only after tokio has run what was ready and has looked at the sockets, without waiting.
///   Opening a connection, asking and reading the answer each take a few such turns: four at most were seen between two counts.
///
/// - *A call of S3* is answered by threads that read and write files: it counts as work until it is answered.
///
/// So when 32 turns in a row count nothing, and no request is with the simulator or the bucket, all that is left sleeps. Should this ever err, because
/// the kernel was late, then the clock is turned while an answer is on its way: that is a slow network, and production code must
/// stand it anyway.
#[derive(Clone, Debug)]
pub struct Activity {
    clock: Clock,
    meta: Option<Simulator>,
}

impl Activity {
    /// Around this clock; requests go to this simulator.
    #[must_use]
    pub fn new(clock: &Clock, meta: Option<Simulator>) -> Self {
        Self { clock: clock.clone(), meta }
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Returns once nothing goes on any more but sleeping.
    pub async fn ends(&self) {
        self.is_quiet_for(TURNS).await;
    }

    async fn is_quiet_for(&self, enough: u32) {
        let (mut seen, mut turns) = (self.counted(), 0);
        while turns < enough {
            tokio::task::yield_now().await;
            let now = self.counted();
            turns = if now == seen && !self.is_meta_busy() && !self.clock.is_at_work() { turns + 1 } else { 0 };
            seen = now;
        }
    }

    /// Returns once this is true, before the clock is turned any further. It is looked at whenever nothing goes on.
    pub async fn comes_true(&self, is_true: impl Fn() -> bool) {
        loop {
            // Whoever turns the clock waits for longer.
            self.is_quiet_for(TURNS / 2).await;
            if is_true() {
                return;
            }
            let seen = self.counted();
            while self.counted() == seen {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Does the work. Whenever somebody sleeps and nothing else goes on, the clock is turned to the next who is to wake, and no further.
    pub async fn turning<T>(&self, work: impl Future<Output = T>) -> T {
        if !self.clock.is_turned() {
            return work.await;
        }
        tokio::pin!(work);
        loop {
            let idle = async {
                self.clock.somebody_sleeps().await;
                self.ends().await;
            };
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = idle => self.clock.next_wake_ms().into_iter().for_each(|it| self.clock.set(it)),
            }
        }
    }

    fn counted(&self) -> (u64, u64) {
        (self.clock.stirs(), self.meta.as_ref().map_or(0, |it| it.requests().begun + it.requests().ended))
    }

    fn is_meta_busy(&self) -> bool {
        self.meta.as_ref().is_some_and(|it| it.requests().begun > it.requests().ended)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::join_all;
    use meta_sim::{Fault, ManualClock, Setup};

    use super::*;
    use crate::clock::START_MS;
    use crate::story::{ACCESS_TOKEN, NUMBER};

    async fn meta() -> (Simulator, String) {
        let meta = Simulator::new(ManualClock::new(START_MS), Setup::demo());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port on this machine");
        let url = format!("http://{}/v25.0/{NUMBER}/messages", listener.local_addr().expect("bound"));
        let served = meta.clone();
        tokio::spawn(async move { served.serve(listener).await });
        (meta, url)
    }

    async fn send(client: &reqwest::Client, url: &str) -> u16 {
        let request = client.post(url).bearer_auth(ACCESS_TOKEN).header("Content-Type", "application/json");
        request.body("{}").send().await.expect("is answered").status().as_u16()
    }

    #[tokio::test]
    async fn the_clock_is_not_turned_while_meta_is_asked() {
        let (clock, (meta, url)) = (Clock::turned(), meta().await);
        let asking = async {
            for _ in 0..40 {
                // Each client opens connections of its own.
                let client = meta_sim::loopback_client();
                assert_eq!(send(&client, &url).await, 400);
                assert_eq!(join_all((0..3).map(|_| send(&client, &url))).await, [400; 3]);
            }
            clock.now_ms()
        };
        let sleeping = async {
            clock.until(START_MS + 7_000).await;
            clock.now_ms()
        };
        let activity = Activity::new(&clock, Some(meta.clone()));
        let (asked_ms, woken_ms) = activity.turning(async { tokio::join!(asking, sleeping) }).await;
        assert_eq!((asked_ms, woken_ms), (START_MS, START_MS + 7_000));
        assert_eq!(meta.requests(), meta_sim::Requests { begun: 160, ended: 160 });
    }

    #[tokio::test]
    async fn a_slow_answer_of_meta_is_waited_for() {
        let (clock, (meta, url)) = (Clock::turned(), meta().await);
        meta.fail_next(None, None, Fault::Slow { millis: 50 });
        let client = meta_sim::loopback_client();
        let asking = async {
            let text = format!(r#"{{"messaging_product":"whatsapp","to":"{}","type":"text","text":{{"body":"hi"}}}}"#, crate::story::ANA);
            let request = client.post(&url).bearer_auth(ACCESS_TOKEN).header("Content-Type", "application/json");
            let status = request.body(text).send().await.expect("is answered").status().as_u16();
            (status, clock.now_ms())
        };
        meta.customer_writes(crate::story::ANA, NUMBER, "hi").expect("the customer can write");
        let activity = Activity::new(&clock, Some(meta.clone()));
        let sleeping = clock.until(START_MS + 7_000);
        let (asked, ()) = activity.turning(async { tokio::join!(asking, sleeping) }).await;
        assert_eq!(asked, (200, START_MS));
    }

    #[tokio::test]
    async fn the_clock_is_turned_from_sleeper_to_sleeper_until_the_work_is_done() {
        let clock = Clock::turned();
        let activity = Activity::new(&clock, None);
        let sleepers = [7_000, 3_000, 9_000].map(|after_ms| {
            let clock = &clock;
            async move {
                clock.until(START_MS + after_ms).await;
                clock.now_ms() - START_MS
            }
        });
        let ahead = clock.until(START_MS + 60_000);
        let woken = activity.turning(async {
            tokio::select! {
                woken = join_all(sleepers) => woken,
                () = ahead => unreachable!("the work is done before"),
            }
        });
        assert_eq!(woken.await, [7_000, 3_000, 9_000]);
        assert_eq!(clock.now_ms(), START_MS + 9_000);
        clock.advance(Duration::from_secs(1));
        assert_eq!(activity.turning(std::future::ready(1)).await, 1);
    }
}
