//! Points in time, as milliseconds since the Unix epoch. Nothing here reads a clock.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A point in time: milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The latest time that fits a message key's thirteen digits (the year 2286).
    pub const MAX: Self = Self(9_999_999_999_999);

    /// From milliseconds since the Unix epoch, kept between 1970 and [`Self::MAX`].
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        if millis < 0 {
            Self(0)
        } else if millis > Self::MAX.0 {
            Self::MAX
        } else {
            Self(millis)
        }
    }

    /// From what Meta sends: seconds, but milliseconds have been seen; a value above 10^11 (the year 5138 in seconds) is taken as such.
    #[must_use]
    pub const fn from_meta(value: i64) -> Self {
        if value > 100_000_000_000 { Self::from_millis(value) } else { Self::from_millis(value.saturating_mul(1_000)) }
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Thirteen digits, so that text sorts as time does.
    #[must_use]
    pub fn sortable(self) -> String {
        format!("{:013}", self.0)
    }

    /// This time and `later`.
    #[must_use]
    pub fn plus(self, later: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(i64::try_from(later.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This time less `earlier`.
    #[must_use]
    pub fn minus(self, earlier: Duration) -> Self {
        Self::from_millis(self.0.saturating_sub(i64::try_from(earlier.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; nothing if it is not after.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_sends_seconds_and_sometimes_milliseconds() {
        assert_eq!(Timestamp::from_meta(1_790_000_001).as_millis(), 1_790_000_001_000);
        assert_eq!(Timestamp::from_meta(1_790_000_001_234).as_millis(), 1_790_000_001_234);
        assert_eq!(Timestamp::from_meta(-5).as_millis(), 0);
        assert_eq!(Timestamp::from_meta(i64::MAX), Timestamp::MAX);
    }

    #[test]
    fn text_sorts_as_time_does() {
        assert!(Timestamp::from_millis(999).sortable() < Timestamp::from_millis(1_790_000_000_000).sortable());
        assert_eq!(Timestamp::MAX.sortable().len(), 13);
    }
}
