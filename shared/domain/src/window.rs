//! The customer service window: 24 hours from the customer's own last message, per number and customer.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// How long a window stays open: <https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/send-messages>.
pub const OPEN_FOR: Duration = Duration::from_hours(24);

/// The window between one number and one customer.
///
/// It is two times and nothing else, each only ever moving forward: so any order of arrivals, and any repetition, gives the same window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Window {
    /// Meta's time of the customer's last message on this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_inbound_at: Option<Timestamp>,
    /// When Meta last refused a send of ours as outside the window (131047), or told that the customer changed: what came before no longer counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused_at: Option<Timestamp>,
}

impl Window {
    /// Open from `at`, Meta's time of the customer's message, unless a later one has already opened it.
    ///
    /// A time in the future counts as `now`: a clock ahead of ours opens nothing for longer.
    #[must_use]
    pub fn opened_at(self, at: Timestamp, now: Timestamp) -> Self {
        Self { last_inbound_at: self.last_inbound_at.max(Some(at.min(now))), ..self }
    }

    /// Closed as of `at`: messages before or at it no longer count, a later one does.
    #[must_use]
    pub fn refused_at(self, at: Timestamp) -> Self {
        Self { refused_at: self.refused_at.max(Some(at)), ..self }
    }

    /// Both windows in one, as when two conversations turn out to be with one person.
    #[must_use]
    pub fn joined(self, other: Self) -> Self {
        Self { last_inbound_at: self.last_inbound_at.max(other.last_inbound_at), refused_at: self.refused_at.max(other.refused_at) }
    }

    /// May free-form go out at `now`?
    #[must_use]
    pub fn is_open(self, now: Timestamp) -> bool {
        self.closes_at().is_some_and(|it| now < it)
    }

    /// When the window closes or closed: never, if it never opened.
    #[must_use]
    pub fn closes_at(self) -> Option<Timestamp> {
        let opened = self.last_inbound_at?;
        match self.refused_at {
            Some(refused) if refused >= opened => Some(refused),
            Some(_) | None => Some(opened.plus(OPEN_FOR)),
        }
    }

    /// Meta's time of the customer's last message on this number.
    #[must_use]
    pub fn last_inbound_at(self) -> Option<Timestamp> {
        self.last_inbound_at
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    #[test]
    fn it_is_open_to_the_last_millisecond() {
        let it = Window::default().opened_at(NOW, NOW);
        assert!(it.is_open(NOW.plus(OPEN_FOR).minus(Duration::from_millis(1))));
        assert!(!it.is_open(NOW.plus(OPEN_FOR)));
        assert!(!Window::default().is_open(NOW));
    }

    #[test]
    fn a_late_webhook_opens_nothing_that_is_over_and_shortens_nothing() {
        let late = NOW.minus(Duration::from_hours(30));
        assert!(!Window::default().opened_at(late, NOW).is_open(NOW));
        assert!(Window::default().opened_at(NOW, NOW).opened_at(late, NOW).is_open(NOW));
    }

    #[test]
    fn a_refusal_closes_what_came_before_it_and_nothing_after() {
        let it = Window::default().opened_at(NOW, NOW).refused_at(NOW.plus(Duration::from_secs(5)));
        assert!(!it.is_open(NOW.plus(Duration::from_secs(6))));
        let wrote_again = it.opened_at(NOW.plus(Duration::from_secs(7)), NOW.plus(Duration::from_secs(8)));
        assert!(wrote_again.is_open(NOW.plus(Duration::from_secs(8))));
        assert!(wrote_again.refused_at(NOW.plus(Duration::from_secs(5))).is_open(NOW.plus(Duration::from_secs(9))), "heard late");
    }

    #[test]
    fn a_time_in_the_future_counts_as_now() {
        let it = Window::default().opened_at(NOW.plus(Duration::from_hours(9)), NOW);
        assert_eq!(it.closes_at(), Some(NOW.plus(OPEN_FOR)));
    }

    proptest! {
        #[test]
        fn any_order_and_repetition_gives_the_same_window(
            (told, shuffled) in proptest::collection::vec((any::<bool>(), 0_i64..200_000_000), 0..9).prop_flat_map(|it| {
                let doubled: Vec<_> = it.iter().chain(&it).copied().collect();
                (Just(it), Just(doubled).prop_shuffle())
            })
        ) {
            let now = Timestamp::from_millis(300_000_000);
            let all = |told: &[(bool, i64)]| told.iter().fold(Window::default(), |it, (opens, at)| {
                let at = Timestamp::from_millis(*at);
                if *opens { it.opened_at(at, now) } else { it.refused_at(at) }
            });
            prop_assert_eq!(all(&told), all(&shuffled));
        }

        #[test]
        fn opening_never_closes(first in 0_i64..1_000_000_000, second in 0_i64..1_000_000_000, now in 0_i64..1_000_000_000) {
            let (first, second, now) = (Timestamp::from_millis(first), Timestamp::from_millis(second), Timestamp::from_millis(now));
            let it = Window::default().opened_at(first, now);
            if it.is_open(now) { prop_assert!(it.opened_at(second, now).is_open(now)); }
        }
    }
}
