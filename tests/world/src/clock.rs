//! The one clock of a test's world: every engine and every handler of a test reads time here.
//!
//! A turned clock stands still until the test moves it, so that a visibility timeout of a minute or a window of a day
//! passes in no time and at a chosen moment. A real clock follows the machine's. It must not know who reads it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// Where a turned clock starts: Monday 2 March 2026, 09:00:00 UTC, in milliseconds since the Unix epoch.
pub const START_MS: i64 = 1_772_442_000_000;

/// A shared source of time; clones read and turn the same clock.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Turned(Arc<watch::Sender<i64>>),
    Real,
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
        Self(Source::Turned(Arc::new(watch::Sender::new(START_MS))))
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
            Source::Turned(now) => *now.borrow(),
            Source::Real => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis),
        }
    }

    /// Sets the time, in milliseconds since the Unix epoch; it may go backwards, as a machine's can.
    ///
    /// # Panics
    /// On a clock that follows the machine's.
    pub fn set(&self, now_ms: i64) {
        self.sender().send_replace(now_ms);
    }

    /// Turns the clock on.
    ///
    /// # Panics
    /// On a clock that follows the machine's.
    pub fn advance(&self, by: Duration) {
        self.sender().send_modify(|now| *now += millis(by));
    }

    /// Returns once the time is `at_ms` or later: at once, when the clock is turned so far, or when that much time has passed.
    pub async fn reached(&self, at_ms: i64) {
        match &self.0 {
            Source::Turned(now) => {
                let turned = now.subscribe().wait_for(|now| *now >= at_ms).await.map(|_| ());
                turned.expect("this clock holds the sender for as long as it is awaited");
            }
            Source::Real => tokio::time::sleep(Duration::from_millis(u64::try_from(at_ms - self.now_ms()).unwrap_or_default())).await,
        }
    }

    fn sender(&self) -> &watch::Sender<i64> {
        match &self.0 {
            Source::Turned(now) => now,
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
