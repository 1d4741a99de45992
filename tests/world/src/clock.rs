//! The one clock of a test's world: every engine and every handler of a test reads time here.
//!
//! A turned clock stands still until the test moves it, so that a visibility timeout of a minute or a window of a day
//! passes in no time and at a chosen moment. It knows who sleeps on it, so that whoever turns it can stop where the next one wakes. A real
//! clock follows the machine's. It must not know who reads it.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, watch};

/// Where a turned clock starts: Monday 2 March 2026, 09:00:00 UTC, in milliseconds since the Unix epoch.
pub const START_MS: i64 = 1_772_442_000_000;

/// A shared source of time; clones read and turn the same clock.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Turned(Arc<Turned>),
    Real,
}

#[derive(Debug)]
struct Turned {
    now_ms: watch::Sender<i64>,
    /// Who sleeps on this clock, by the time of waking.
    sleepers: Mutex<BTreeMap<(i64, u64), Waker>>,
    somebody_sleeps: Notify,
    /// How often anything went on at the engines and sleepers of this clock.
    stirs: AtomicU64,
    /// How many calls an engine answers that works on other threads.
    at_work: AtomicU64,
}

impl Turned {
    fn with<T>(&self, look: impl FnOnce(&mut BTreeMap<(i64, u64), Waker>) -> T) -> T {
        look(&mut self.sleepers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn turn(&self, turn: impl FnOnce(&mut i64)) {
        self.now_ms.send_modify(turn);
        self.stirs.fetch_add(1, Ordering::Relaxed);
        let now_ms = *self.now_ms.borrow();
        let woken = self.with(|sleepers| {
            let still_sleeping = sleepers.split_off(&(now_ms.saturating_add(1), 0));
            std::mem::replace(sleepers, still_sleeping)
        });
        woken.into_values().for_each(Waker::wake);
    }
}

/// See [`Clock::work`].
pub(crate) struct AtWork(Clock);

impl Drop for AtWork {
    fn drop(&mut self) {
        if let Source::Turned(turned) = &self.0.0 {
            turned.at_work.fetch_sub(1, Ordering::Relaxed);
        }
        self.0.stir();
    }
}

/// One sleeper, who is forgotten when it wakes or is dropped.
struct Sleeper {
    clock: Arc<Turned>,
    key: (i64, u64),
}

impl Sleeper {
    fn poll(&self, context: &Context<'_>) -> Poll<()> {
        if *self.clock.now_ms.borrow() >= self.key.0 {
            return Poll::Ready(());
        }
        let known = self.clock.with(|sleepers| sleepers.insert(self.key, context.waker().clone()));
        if known.is_none() {
            self.clock.stirs.fetch_add(1, Ordering::Relaxed);
            self.clock.somebody_sleeps.notify_waiters();
        }
        Poll::Pending
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.clock.with(|sleepers| sleepers.remove(&self.key));
        self.clock.stirs.fetch_add(1, Ordering::Relaxed);
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::turned()
    }
}

impl Clock {
    /// A clock that stands at [`START_MS`] until it is turned.
    #[must_use]
    pub fn turned() -> Self {
        let turned = Turned {
            now_ms: watch::Sender::new(START_MS),
            sleepers: Mutex::default(),
            somebody_sleeps: Notify::new(),
            stirs: AtomicU64::new(0),
            at_work: AtomicU64::new(0),
        };
        Self(Source::Turned(Arc::new(turned)))
    }

    /// A clock that follows the machine's and cannot be turned.
    #[must_use]
    pub fn real() -> Self {
        Self(Source::Real)
    }

    /// Whether tests turn this clock, as opposed to one that runs by itself.
    #[must_use]
    pub fn is_turned(&self) -> bool {
        matches!(self.0, Source::Turned(_))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Source::Turned(turned) => *turned.now_ms.borrow(),
            Source::Real => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis),
        }
    }

    /// Sets the time, in milliseconds since the Unix epoch; it may go backwards, as a machine's can.
    ///
    /// # Panics
    /// On a clock that follows the machine's.
    pub fn set(&self, now_ms: i64) {
        self.source().turn(|it| *it = now_ms);
    }

    /// Turns the clock on.
    ///
    /// # Panics
    /// On a clock that follows the machine's.
    pub fn advance(&self, by: Duration) {
        self.source().turn(|it| *it += millis(by));
    }

    /// Returns once the time is `at_ms` or later: at once, when the clock is turned so far, or when that much time has passed.
    pub async fn reached(&self, at_ms: i64) {
        match &self.0 {
            Source::Turned(turned) => {
                let reached = turned.now_ms.subscribe().wait_for(|now| *now >= at_ms).await.map(|_| ());
                reached.expect("this clock holds the sender for as long as it is awaited");
            }
            Source::Real => tokio::time::sleep(Duration::from_millis(u64::try_from(at_ms - self.now_ms()).unwrap_or_default())).await,
        }
    }

    /// As [`Self::reached`], for what is at work and cannot go on before: a clock that runs by itself is turned for its sake.
    pub async fn until(&self, at_ms: i64) {
        match &self.0 {
            Source::Turned(turned) => {
                let sleeper = Sleeper { clock: Arc::clone(turned), key: (at_ms, turned.stirs.fetch_add(1, Ordering::Relaxed)) };
                poll_fn(|context| sleeper.poll(context)).await;
            }
            Source::Real => self.reached(at_ms).await,
        }
    }

    /// When the first of those who sleep by [`Self::until`] is to wake, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn next_wake_ms(&self) -> Option<i64> {
        match &self.0 {
            Source::Turned(turned) => turned.with(|sleepers| sleepers.first_key_value().map(|((at_ms, _), _)| *at_ms)),
            Source::Real => None,
        }
    }

    /// Returns once somebody sleeps by [`Self::until`].
    pub(crate) async fn somebody_sleeps(&self) {
        let somebody_sleeps = &self.source().somebody_sleeps;
        loop {
            // Registered before looking, so that who falls asleep in between is not missed.
            let notified = somebody_sleeps.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.next_wake_ms().is_some() {
                return;
            }
            notified.await;
        }
    }

    /// While this is held, something goes on that nobody else counts.
    pub(crate) fn work(&self) -> AtWork {
        if let Source::Turned(turned) = &self.0 {
            turned.at_work.fetch_add(1, Ordering::Relaxed);
        }
        AtWork(self.clone())
    }

    /// Does something go on that nobody else counts?
    pub(crate) fn is_at_work(&self) -> bool {
        self.source().at_work.load(Ordering::Relaxed) > 0
    }

    /// Notes that something went on.
    pub(crate) fn stir(&self) {
        if let Source::Turned(turned) = &self.0 {
            turned.stirs.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often anything went on so far.
    pub(crate) fn stirs(&self) -> u64 {
        self.source().stirs.load(Ordering::Relaxed)
    }

    fn source(&self) -> &Turned {
        match &self.0 {
            Source::Turned(turned) => turned,
            Source::Real => panic!("this clock follows the machine's: only a turned clock can be set"),
        }
    }
}

/// Lets the embedded DynamoDB engine expire items and stamp streams by the same time.
impl dynoxide::storage_backend::Clock for Clock {
    fn now_unix_secs(&self) -> u64 {
        u64::try_from(self.now_ms() / 1_000).unwrap_or_default()
    }

    fn now_unix_secs_f64(&self) -> f64 {
        self.now_ms() as f64 / 1_000.0
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).expect("no test spans 500 million years")
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_turned_clock_moves_only_when_it_is_turned() {
        let clock = Clock::turned();
        let other = clock.clone();
        assert_eq!(clock.now_ms(), START_MS);
        other.advance(Duration::from_secs(90));
        assert_eq!(clock.now_ms(), START_MS + 90_000);
        other.set(5);
        assert_eq!(clock.now_ms(), 5);
    }

    #[tokio::test]
    async fn waiting_ends_when_the_clock_is_turned_far_enough() {
        let clock = Clock::turned();
        let mut waiting = Box::pin(clock.reached(START_MS + 1_000));
        assert!((&mut waiting).now_or_never().is_none());
        clock.advance(Duration::from_millis(999));
        assert!((&mut waiting).now_or_never().is_none());
        clock.advance(Duration::from_millis(1));
        waiting.await;
    }

    #[tokio::test]
    async fn a_sleeper_is_known_until_it_wakes_or_is_dropped() {
        let clock = Clock::turned();
        let [mut early, mut late, mut dropped] = [3_000, 7_000, 5_000].map(|after_ms| Box::pin(clock.until(START_MS + after_ms)));
        assert_eq!(clock.next_wake_ms(), None);
        for sleeper in [&mut late, &mut early, &mut dropped] {
            assert!(sleeper.now_or_never().is_none());
        }
        assert_eq!(clock.next_wake_ms(), Some(START_MS + 3_000));
        clock.advance(Duration::from_secs(3));
        early.await;
        assert_eq!(clock.next_wake_ms(), Some(START_MS + 5_000));
        drop(dropped);
        assert_eq!(clock.next_wake_ms(), Some(START_MS + 7_000));
        clock.advance(Duration::from_millis(3_999));
        assert!((&mut late).now_or_never().is_none());
        clock.advance(Duration::from_millis(1));
        late.await;
        clock.until(START_MS).await;
        assert_eq!(clock.next_wake_ms(), None);
    }

    #[tokio::test]
    async fn a_real_clock_runs_by_itself() {
        let clock = Clock::real();
        let before = clock.now_ms();
        assert!(before > START_MS, "the machine's clock is set");
        clock.reached(before + 2).await;
        assert!(clock.now_ms() >= before + 2);
    }

    #[test]
    #[should_panic(expected = "only a turned clock can be set")]
    fn a_real_clock_cannot_be_turned() {
        Clock::real().set(1);
    }
}
