//! A connection: the credentials of one WhatsApp Business account with its numbers, and its lifecycle.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{AppId, ConnectionId, NumberId, TenantId, WabaId};
use crate::time::Timestamp;

/// How long a send waits for a connection that stopped: long enough to replace a token.
pub const WAITS_FOR: Duration = Duration::from_mins(10);

/// For how many days messages are kept if nothing is said.
pub const MESSAGE_DAYS: u16 = 365;
/// For how many days files are kept if nothing is said.
pub const FILE_DAYS: u16 = 90;
/// Messages are kept for at least so many days: longer than Meta repeats a webhook, which would bring back what has gone.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/overview>
pub const LEAST_DAYS: u16 = 14;

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schemars(rename = "ConnectionState")]
pub enum State {
    /// Does not send.
    Stopped,
    /// Being checked with Meta.
    Starting,
    /// Sends.
    Running,
    /// Does not send: Meta refused its credentials or its account.
    Error,
}

/// Where a connection stands, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// Where it stands.
    pub state: State,
    /// When it last began to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_since: Option<Timestamp>,
    /// When it last ceased to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Timestamp>,
    /// When it came to where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// What a job that wants to send does about the lifecycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// Goes on.
    Allowed,
    /// Comes back later: the connection may run again soon.
    Waits,
    /// Ends, as `not_running`.
    Refused,
}

impl Lifecycle {
    /// A connection that was made at `at` and never ran.
    #[must_use]
    pub fn new(at: Timestamp) -> Self {
        Self { state: State::Stopped, running_since: None, stopped_at: None, since: Some(at) }
    }

    /// A connection that runs from `at` on.
    #[must_use]
    pub fn running(at: Timestamp) -> Self {
        Self { state: State::Running, running_since: Some(at), stopped_at: None, since: Some(at) }
    }

    /// STARTING from `at` on: being checked.
    #[must_use]
    pub fn starting(self, at: Timestamp) -> Self {
        Self { state: State::Starting, since: Some(at), ..self }
    }

    /// RUNNING from `at` on.
    #[must_use]
    pub fn started(self, at: Timestamp) -> Self {
        Self { state: State::Running, running_since: Some(at), since: Some(at), ..self }
    }

    /// STOPPED or ERROR from `at` on. What is not running keeps the time at which it ceased to.
    #[must_use]
    pub fn ended(self, state: State, at: Timestamp) -> Self {
        let stopped_at = if self.state == State::Running { Some(at) } else { self.stopped_at.or(Some(at)) };
        Self { state, stopped_at, since: Some(at), ..self }
    }

    /// Does the schedule look at it? One that ever ran has customers, of whom data may have to be erased.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.state != State::Stopped || self.running_since.is_some()
    }

    /// May a job send at `now`?
    #[must_use]
    pub fn sending(&self, now: Timestamp) -> Sending {
        if self.state == State::Running {
            return Sending::Allowed;
        }
        match self.stopped_at {
            Some(at) if now >= at.plus(WAITS_FOR) => Sending::Refused,
            Some(_) => Sending::Waits,
            // It never ran: there is nothing to wait for.
            None => Sending::Refused,
        }
    }
}

/// A connection without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Its id.
    pub id: ConnectionId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What people call it.
    pub name: String,
    /// What people say of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The Meta app whose webhooks carry its messages; without one it sends, and nothing comes in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppId>,
    /// The WhatsApp Business account.
    pub waba: WabaId,
    /// Its numbers, in the order in which first sends rotate. None before the first start: that takes the account's only one.
    pub numbers: Vec<NumberId>,
    /// Where it stands.
    pub lifecycle: Lifecycle,
    /// Grows with every replacement of the access token.
    pub token_generation: u64,
    /// Marketing templates go out through Meta's Marketing Messages API.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub marketing_messages: bool,
    /// Utility templates are exempt from the repeat guard.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub utility_exempt: bool,
    /// For how many days messages are kept; [`MESSAGE_DAYS`] if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_days: Option<u16>,
    /// For how many days files are kept; [`FILE_DAYS`] if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_days: Option<u16>,
}

impl Connection {
    /// For how long messages are kept: at least for [`LEAST_DAYS`].
    #[must_use]
    pub fn messages_kept_for(&self) -> Duration {
        days(self.message_days.unwrap_or(MESSAGE_DAYS).max(LEAST_DAYS))
    }

    /// For how long files are kept.
    #[must_use]
    pub fn files_kept_for(&self) -> Duration {
        days(self.file_days.unwrap_or(FILE_DAYS).max(1))
    }
}

fn days(days: u16) -> Duration {
    Duration::from_hours(24 * u64::from(days))
}

/// How Meta judges a number by what customers did with its messages in the last days.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/phone-numbers>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Quality {
    /// High.
    Green,
    /// Medium.
    Yellow,
    /// Low: first sends go out from better numbers while there are any.
    Red,
    /// Not judged.
    #[serde(other)]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    #[test]
    fn what_waits_for_a_stopped_connection_waits_ten_minutes() {
        let it = Lifecycle::running(NOW).ended(State::Error, NOW.plus(Duration::from_mins(1)));
        assert_eq!(it.sending(NOW.plus(Duration::from_mins(2))), Sending::Waits);
        assert_eq!(it.sending(NOW.plus(Duration::from_secs(11 * 60 - 1))), Sending::Waits);
        assert_eq!(it.sending(NOW.plus(Duration::from_mins(11))), Sending::Refused);
        assert_eq!(it.started(NOW.plus(Duration::from_mins(12))).sending(NOW.plus(Duration::from_mins(12))), Sending::Allowed);
    }

    #[test]
    fn a_second_stop_does_not_prolong_the_wait() {
        let it = Lifecycle::running(NOW).ended(State::Error, NOW).ended(State::Stopped, NOW.plus(Duration::from_mins(9)));
        assert_eq!(it.sending(NOW.plus(Duration::from_mins(10))), Sending::Refused);
    }
}
