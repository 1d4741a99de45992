//! What Meta says of our messages, and how it merges: in any order, twice, late, with steps missing.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// What Meta says went wrong: <https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes>.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fault {
    /// Meta's code.
    pub code: u32,
    /// Meta's title for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Meta's details.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
}

/// A step that Meta tells of one of our messages.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages/status>
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// WhatsApp took it for delivery.
    Sent,
    /// It reached a device. May be skipped.
    Delivered,
    /// It was opened.
    Read,
    /// A voice message was played: counts as read.
    Played,
    /// It will not be delivered.
    Failed,
}

impl Step {
    /// All steps.
    pub const ALL: [Self; 5] = [Self::Sent, Self::Delivered, Self::Read, Self::Played, Self::Failed];

    /// Meta's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::Played => "played",
            Self::Failed => "failed",
        }
    }
}

/// What Meta charges for a message: <https://developers.facebook.com/documentation/business-messaging/whatsapp/pricing>.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Pricing {
    /// Charged or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billable: Option<bool>,
    /// `PMP` or, for old messages, `CBP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pricing_model: Option<String>,
    /// `regular`, `free_customer_service`, `free_entry_point`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// `service`, `utility`, `marketing`, `authentication`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
}

/// Where one attempt to send stands by our own doing, before Meta's statuses are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Claimed: it may be on its way.
    Sending,
    /// Definitely not sent; may be tried again.
    Released,
    /// Meta took it.
    Accepted,
    /// Meta holds it for a check of quality.
    Held,
    /// Definitely not sent, and will not be.
    Failed,
    /// It may have been sent; nobody knows, and it will not be tried again.
    Unconfirmed,
}

/// What became of a message, as people see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// In a queue of ours.
    Queued,
    /// Being sent, or being looked for after an unknown outcome.
    Sending,
    /// Meta took it.
    Accepted,
    /// Meta holds it for a check of quality.
    Held,
    /// WhatsApp took it for delivery.
    Sent,
    /// It reached a device.
    Delivered,
    /// It was opened, or played.
    Read,
    /// It will not be delivered.
    Failed,
    /// It may have been sent; nobody knows.
    Unconfirmed,
}

/// First-seen times of the steps of one attempt.
pub type Steps = BTreeMap<Step, Timestamp>;

/// The history of a message: our own phase, and Meta's steps of each attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Our own doing.
    pub phase: Phase,
    /// Meta's steps per attempt, from attempt 1.
    pub attempts: Vec<Steps>,
}

impl History {
    /// Nothing heard of it yet.
    #[must_use]
    pub fn new(phase: Phase) -> Self {
        Self { phase, attempts: vec![Steps::new()] }
    }

    /// Takes in a step of an attempt (from 1): the first time seen stays, so any order and any repetition end the same.
    ///
    /// Meta repeats a status with the same time; should two times ever differ, the earlier one is kept, which is again true in any order.
    #[must_use]
    pub fn heard(mut self, attempt: usize, step: Step, at: Timestamp) -> Self {
        let attempt = attempt.max(1);
        if self.attempts.len() < attempt {
            self.attempts.resize(attempt, Steps::new());
        }
        self.attempts[attempt - 1].entry(step).and_modify(|it| *it = at.min(*it)).or_insert(at);
        self
    }

    /// The state: delivered or read of any attempt wins, else what the newest attempt says, where `failed` outranks `sent`.
    #[must_use]
    pub fn state(&self) -> State {
        let any = |step| self.attempts.iter().any(|it| it.contains_key(&step));
        if any(Step::Read) || any(Step::Played) {
            return State::Read;
        }
        if any(Step::Delivered) {
            return State::Delivered;
        }
        let newest = self.attempts.last();
        let told = |step| newest.is_some_and(|it| it.contains_key(&step));
        if told(Step::Failed) {
            return State::Failed;
        }
        if told(Step::Sent) {
            return State::Sent;
        }
        match self.phase {
            Phase::Sending | Phase::Released => State::Sending,
            Phase::Accepted => State::Accepted,
            Phase::Held => State::Held,
            Phase::Failed => State::Failed,
            Phase::Unconfirmed => State::Unconfirmed,
        }
    }

    /// When a step was first seen in any attempt; `delivered` takes the time of `read` if it was skipped, and `read` that of `played`.
    #[must_use]
    pub fn first(&self, step: Step) -> Option<Timestamp> {
        let seen = |step| self.attempts.iter().filter_map(|it| it.get(&step)).min().copied();
        match step {
            Step::Delivered => seen(Step::Delivered).or_else(|| self.first(Step::Read)),
            Step::Read => seen(Step::Read).or_else(|| seen(Step::Played)),
            Step::Sent | Step::Played | Step::Failed => seen(step),
        }
    }

    /// Has Meta told of this attempt at all? Then its outcome is known: Meta took it.
    #[must_use]
    pub fn is_witnessed(&self, attempt: usize) -> bool {
        attempt > 0 && self.attempts.get(attempt - 1).is_some_and(|it| !it.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn step() -> impl Strategy<Value = Step> {
        proptest::sample::select(Step::ALL.to_vec())
    }

    fn told() -> impl Strategy<Value = Vec<(usize, Step, Timestamp)>> {
        proptest::collection::vec((1_usize..3, step(), (1_i64..9).prop_map(Timestamp::from_millis)), 0..12)
    }

    fn history(told: &[(usize, Step, Timestamp)]) -> History {
        let mut all = History::new(Phase::Accepted);
        all.attempts.resize(2, Steps::new());
        told.iter().fold(all, |it, (attempt, step, at)| it.heard(*attempt, *step, *at))
    }

    proptest! {
        #[test]
        fn any_order_and_any_repetition_end_the_same((told, shuffled) in told().prop_flat_map(|it| {
            let doubled: Vec<_> = it.iter().chain(it.iter()).copied().collect();
            (Just(it), Just(doubled).prop_shuffle())
        })) {
            prop_assert_eq!(history(&told), history(&shuffled));
        }

        #[test]
        fn a_told_read_is_never_untold(told in told(), more in told()) {
            let before = history(&told);
            let after = more.iter().fold(before.clone(), |it, (attempt, step, at)| it.heard(*attempt, *step, *at));
            if before.state() == State::Read { prop_assert_eq!(after.state(), State::Read); }
            if before.state() == State::Delivered { prop_assert!(matches!(after.state(), State::Delivered | State::Read)); }
        }
    }

    #[test]
    fn delivered_outranks_failed_and_failed_outranks_sent() {
        let at = Timestamp::from_millis(1);
        let it = History::new(Phase::Accepted).heard(1, Step::Sent, at).heard(1, Step::Failed, at);
        assert_eq!(it.state(), State::Failed);
        assert_eq!(it.clone().heard(1, Step::Delivered, at).state(), State::Delivered);
        assert_eq!(it.heard(1, Step::Played, at).state(), State::Read, "played counts as read");
    }

    #[test]
    fn a_skipped_delivery_takes_the_time_of_the_reading() {
        let it = History::new(Phase::Accepted).heard(1, Step::Read, Timestamp::from_millis(7));
        assert_eq!(it.first(Step::Delivered), Some(Timestamp::from_millis(7)));
        assert_eq!(it.first(Step::Sent), None);
    }

    #[test]
    fn the_newest_attempt_speaks_unless_an_older_one_arrived() {
        let at = Timestamp::from_millis(1);
        let it = History::new(Phase::Sending).heard(1, Step::Failed, at).heard(2, Step::Sent, at);
        assert_eq!(it.state(), State::Sent);
        assert_eq!(it.heard(1, Step::Delivered, at).state(), State::Delivered);
    }
}
