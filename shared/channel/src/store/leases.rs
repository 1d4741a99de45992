//! What senders share out among themselves: places in a connection's rotation, and the slots of a number.
//!
//! Both are single updates without a read, leased for a whole batch at once: two senders never get the same.

use domain::ids::{ConnectionId, NumberId};
use serde::{Deserialize, Serialize};

use super::dynamo::Update;
use super::{Store, StoreError, keys};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct RotationItem {
    #[serde(default)]
    next: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct PaceItem {
    free_at_us: i64,
}

/// What became of the wish for slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leased {
    /// They begin here, in microseconds since the Unix epoch.
    From(i64),
    /// The number is free at another time than was thought.
    FreeAt(Option<i64>),
}

impl Store {
    /// Takes so many places in a connection's rotation: the first of them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lease_places(&self, connection: &ConnectionId, count: u64) -> Result<u64, StoreError> {
        let update = Update::of_any().add("next", i64::try_from(count).unwrap_or(i64::MAX));
        let leased: Result<RotationItem, Option<RotationItem>> = self.dynamo.update(&keys::rotation(connection), update).await?;
        Ok(leased.map_or(0, |it| it.next.saturating_sub(count)))
    }

    /// Takes the next `length_us` microseconds of a number that is busy: if it is free again between `now_us` and `latest_us`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lease_after_others(&self, number: &NumberId, now_us: i64, latest_us: i64, length_us: i64) -> Result<Leased, StoreError> {
        let update = Update::of_any().add("free_at_us", length_us).when_between("free_at_us", now_us, latest_us);
        let leased: Result<PaceItem, Option<PaceItem>> = self.dynamo.update(&keys::pace(number), update).await?;
        Ok(match leased {
            Ok(it) => Leased::From(it.free_at_us - length_us),
            Err(it) => Leased::FreeAt(it.map(|it| it.free_at_us)),
        })
    }

    /// Takes `length_us` microseconds from `now_us` on of a number that is idle: if it was free before that.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lease_from_now(&self, number: &NumberId, now_us: i64, length_us: i64) -> Result<Leased, StoreError> {
        let until = now_us.saturating_add(length_us);
        let update = Update::of_any().set("free_at_us", &until)?.when_absent_or_below("free_at_us", now_us);
        let leased: Result<PaceItem, Option<PaceItem>> = self.dynamo.update(&keys::pace(number), update).await?;
        Ok(match leased {
            Ok(_) => Leased::From(now_us),
            Err(it) => Leased::FreeAt(it.map(|it| it.free_at_us)),
        })
    }

    /// A number sends nothing before this time, in microseconds since the Unix epoch, whoever sends.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn pause(&self, number: &NumberId, until_us: i64) -> Result<(), StoreError> {
        let update = Update::of_any().set("free_at_us", &until_us)?.when_absent_or_below("free_at_us", until_us);
        let _: Result<PaceItem, Option<PaceItem>> = self.dynamo.update(&keys::pace(number), update).await?;
        Ok(())
    }
}
