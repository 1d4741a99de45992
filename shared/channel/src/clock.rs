//! The time, and the only sleep of the system.
//!
//! Waiting is done by message visibility ([`Progress::Wait`](crate::redelivery::Progress)). Only a template send sleeps, for the two
//! seconds at most until its slot, and it sleeps here: the function gives the machine's clock, the tests give one that they turn.

use std::fmt;

use domain::time::Timestamp;
use futures::future::LocalBoxFuture;

/// A clock to read and to sleep by. Copies are the same clock.
#[derive(Clone, Copy)]
pub struct Clock<'a> {
    now_ms: &'a dyn Fn() -> i64,
    reached: &'a dyn Fn(i64) -> LocalBoxFuture<'static, ()>,
}

impl<'a> Clock<'a> {
    /// Of what tells the milliseconds since the Unix epoch, and what ends once they are reached: at once, if they have passed.
    #[must_use]
    pub fn new(now_ms: &'a dyn Fn() -> i64, reached: &'a dyn Fn(i64) -> LocalBoxFuture<'static, ()>) -> Self {
        Self { now_ms, reached }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_millis((self.now_ms)())
    }

    /// Sleeps until then; not at all, if that has passed.
    pub async fn until(&self, at: Timestamp) {
        (self.reached)(at.as_millis()).await;
    }
}

impl fmt::Debug for Clock<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Clock").field(&self.now()).finish()
    }
}
