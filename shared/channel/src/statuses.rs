//! What Meta says of our messages: merged into them, in any order, and what follows from it.
//!
//! One update per message. What follows (the window, an opt-out, the connection) does not depend on newness: it is idempotent, and done again
//! on a repeat, so a crash between the two loses nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::customer::Customer;
use domain::ids::MessageKey;
use domain::message::Preference;
use domain::status::{Fault, Phase, Step};
use domain::time::Timestamp;
use meta::fault::{Class, classify_failed};

use crate::connections::{self, ConnectionError};
use crate::counts::Counts;
use crate::directory::{Owner, Owners};
use crate::endings::{self, Stepped};
use crate::feed;
use crate::jobs::{StatusTold, Told};
use crate::opaque;
use crate::outbox::SendError;
use crate::people;
use crate::queues::{QueueError, Queues};
use crate::redelivery::{Progress, Retryable};
use crate::store::{Heard, HeardStep, MessageItem, Outbound, Store, StoreError};
use crate::templates::{Failed, settle};

/// A failure without our data is looked for among so many of the customer's newest messages.
const LOOKS_BACK: usize = 50;
/// It may come before the send that it speaks of is settled: it is looked for again for this long…
const UNMATCHED_FOR: Duration = Duration::from_mins(2);
/// …each time after this long.
const UNMATCHED_AGAIN: Duration = Duration::from_secs(15);

/// Why statuses could not be taken in.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The store failed.
    #[error("a status could not be kept")]
    Store {
        /// The cause.
        #[from]
        source: StoreError,
    },
    /// The feed did not take an event.
    #[error("a status could not be told")]
    Feed {
        /// The cause.
        #[from]
        source: QueueError,
    },
    /// What follows from a template's failure could not be kept.
    #[error("what follows from a failed template could not be kept")]
    Template {
        /// The cause.
        #[from]
        source: SendError,
    },
    /// The connection could not be changed.
    #[error("the connection of a status could not be changed")]
    Connection {
        /// The cause.
        #[from]
        source: ConnectionError,
    },
}

impl Retryable for StatusError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Store { source } => source.is_retryable(),
            Self::Feed { source } => source.is_retryable(),
            Self::Template { source } => source.is_retryable(),
            Self::Connection { source } => source.is_retryable(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Store { source } => source.code(),
            Self::Feed { source } => source.code(),
            Self::Template { source } => source.code(),
            Self::Connection { source } => source.code(),
        }
    }
}

/// Meta's times are whole seconds: a failure that is told as of a second may have happened at its end.
const SECOND: Duration = Duration::from_millis(999);
/// A failure without our data speaks of a send of unknown outcome that was made at most so long before it.
const SETTLED_WITHIN: Duration = Duration::from_hours(24);

/// The handles of statuses.
pub struct Statuses<'a> {
    /// Messages and conversations.
    pub store: &'a Store,
    /// The feed.
    pub queues: &'a Queues,
    /// Whose numbers are.
    pub owners: &'a Owners,
    /// What is counted.
    pub counts: &'a Counts,
}

/// Where a status belongs.
enum Place {
    Found(MessageKey, u8),
    /// Its message may be about to be written.
    NotYet,
    /// It is not of a message of ours.
    Nowhere,
}

impl Statuses<'_> {
    /// Takes in statuses of messages from one number.
    ///
    /// # Errors
    /// [`StatusError`]: all of it is done again by the next delivery.
    pub async fn hear(&self, told: &Told, now: Timestamp) -> Result<Progress, StatusError> {
        let mut progress = Progress::Done;
        let mut of_message: BTreeMap<MessageKey, Vec<(u8, &StatusTold)>> = BTreeMap::new();
        for status in &told.statuses {
            match self.place(told, status).await? {
                Place::Found(key, attempt) => of_message.entry(key).or_default().push((attempt, status)),
                Place::NotYet if now.since(told.heard_at) < UNMATCHED_FOR => progress = Progress::Wait(UNMATCHED_AGAIN),
                Place::NotYet | Place::Nowhere => self.counts.one("status.unmatched"),
            }
        }
        for (key, statuses) in of_message {
            self.merge(told, &key, &statuses, now).await?;
        }
        Ok(progress)
    }

    async fn place(&self, told: &Told, status: &StatusTold) -> Result<Place, StatusError> {
        match status.opaque.as_deref().map(opaque::parse) {
            Some(Some((key, attempt))) => Ok(Place::Found(key, attempt)),
            Some(None) => Ok(Place::Nowhere),
            // Only failures are known to come without our data; anything else without it is another app's.
            None if status.step == Step::Failed => self.search(told, status).await,
            None => Ok(Place::Nowhere),
        }
    }

    /// A failure without our data: by Meta's id among the customer's newest messages, else it settles the only send of unknown outcome.
    async fn search(&self, told: &Told, status: &StatusTold) -> Result<Place, StatusError> {
        let Some(recipient) = &status.recipient else { return Ok(Place::NotYet) };
        let Some(conversation) = people::find(self.store, &told.connection, recipient).await? else { return Ok(Place::NotYet) };
        let newest = self.store.newest_messages(conversation.everywhere(), LOOKS_BACK).await?;
        let ours: Vec<(&MessageKey, &Outbound)> = newest
            .iter()
            .filter_map(|(key, it)| match it {
                MessageItem::Outbound(it) if it.number.as_ref() == Some(&told.number) => Some((key, it)),
                MessageItem::Outbound(_)
                | MessageItem::Inbound(_)
                | MessageItem::Body { .. }
                | MessageItem::File(_)
                | MessageItem::Shell => None,
            })
            .collect();
        if let Some((key, attempt)) = ours.iter().find_map(|(key, it)| Some((*key, it.attempt_of(&status.wamid)?))) {
            return Ok(Place::Found(key.clone(), attempt));
        }
        // Every app on the account hears every failure: one of another time is another's.
        let is_of_its_time = |it: &Outbound| {
            let claimed_at = it.newest_attempt().claimed_at;
            claimed_at.is_some_and(|it| it <= status.at.plus(SECOND) && status.at.since(it) <= SETTLED_WITHIN)
        };
        let is_unknown = |it: &Outbound| {
            let is_open = matches!(it.phase, Phase::Sending | Phase::Unconfirmed);
            is_open && is_of_its_time(it) && !it.history().is_witnessed(usize::from(it.attempt))
        };
        let unknown: Vec<_> = ours.into_iter().filter(|(_, it)| is_unknown(it)).collect();
        match unknown.as_slice() {
            [(key, it)] => Ok(Place::Found((*key).clone(), it.attempt)),
            [] | [_, _, ..] => Ok(Place::NotYet),
        }
    }

    async fn merge(&self, told: &Told, key: &MessageKey, statuses: &[(u8, &StatusTold)], now: Timestamp) -> Result<(), StatusError> {
        let steps: Vec<HeardStep> = statuses
            .iter()
            .map(|(attempt, it)| HeardStep {
                attempt: *attempt,
                step: it.step,
                at: it.at,
                wamid: it.wamid.clone(),
                pricing: it.pricing.clone(),
                fault: it.faults.first().cloned(),
            })
            .collect();
        let message = match self.store.hear(key, &told.connection, &told.number, &steps).await? {
            Heard::Merged(it) => it,
            Heard::Foreign => {
                self.counts.one("status.foreign");
                return Ok(());
            }
        };
        for (attempt, status) in statuses {
            if message.attempt(*attempt).and_then(|it| it.wamid.as_ref()).is_some_and(|it| *it != status.wamid) {
                self.counts.one("send.duplicate_detected");
            }
            self.correct(told, key, &message, *attempt, status, now).await?;
            let stepped =
                Stepped { tenant: &told.tenant, key, message: &message, attempt: *attempt, step: status.step.name(), at: status.at };
            endings::tell(self.queues, stepped).await?;
            self.counts.one("status.merged");
        }
        Ok(())
    }

    /// What follows from a status, whether it is new or a repeat.
    async fn correct(
        &self,
        told: &Told,
        key: &MessageKey,
        message: &Outbound,
        attempt: u8,
        status: &StatusTold,
        now: Timestamp,
    ) -> Result<(), StatusError> {
        if let Some((dialled, reached)) = reached(message, status) {
            people::reached(self.store, &key.conversation, dialled, &reached, status.at).await?;
        }
        let Some(fault) = status.faults.first().filter(|_| status.step == Step::Failed) else { return Ok(()) };
        let claimed_at = message.attempt(attempt).and_then(|it| it.claimed_at).unwrap_or(key.at);
        let class = classify_failed(fault);
        if message.template.is_some() {
            let (tenant, connection) = (&told.tenant, &told.connection);
            let failed = Failed { tenant, connection, key, message, fault: Some((class, fault.code)), at: status.at };
            settle(self.store, self.queues, failed).await?;
        }
        match class {
            Class::Window => {
                self.store.change_conversation(&key.conversation, |it| it.refused(&told.number, claimed_at)).await?;
            }
            Class::OptedOut => {
                let stop = Preference::Stop;
                if let Some(it) = self.store.change_conversation(&key.conversation, |it| it.prefer(stop, status.at)).await? {
                    feed::tell_preference(self.queues, &told.tenant, &told.connection, &it.id, stop, status.at).await?;
                }
            }
            class @ (Class::Credentials | Class::Account) => self.fail_connection(told, class, fault, claimed_at, now).await?,
            Class::Number => {
                if let Some(owner) = self.concerned(told, claimed_at, now).await? {
                    connections::mark_number(self.store, self.queues, &owner.connection, &told.number, fault, status.at, now).await?;
                }
            }
            Class::NotSent
            | Class::Pair
            | Class::Unknown
            | Class::Permanent
            | Class::Later
            | Class::MarketingLimit
            | Class::TemplateMissing
            | Class::TemplatePaused
            | Class::TemplateDisabled
            | Class::Fix => {}
        }
        Ok(())
    }

    async fn fail_connection(
        &self,
        told: &Told,
        class: Class,
        fault: &Fault,
        claimed_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), StatusError> {
        let Some(owner) = self.concerned(told, claimed_at, now).await? else { return Ok(()) };
        let why = format!("Meta failed a message: {} (code {}). {}", endings::note(fault), fault.code, connections::what_to_do(class));
        connections::fail(self.store, self.queues, &owner.connection.id, owner.connection.token_generation, &why, now).await?;
        Ok(())
    }

    /// The connection that a fault of a send concerns. A send from before it last began to run was made under what has been mended since.
    async fn concerned(&self, told: &Told, claimed_at: Timestamp, now: Timestamp) -> Result<Option<Owner>, StatusError> {
        // What is remembered may be from before that.
        let owner = self.owners.afresh(&told.number, now).await?;
        let is_later = |it: &Owner| it.connection.lifecycle.running_since.is_some_and(|it| claimed_at >= it);
        Ok(owner.filter(|it| it.connection.id == told.connection && is_later(it)))
    }
}

/// Whom a message was for, and by the user id whom it reached, if the message did not know that.
fn reached<'a>(message: &'a Outbound, status: &StatusTold) -> Option<(&'a Customer, Customer)> {
    let told = status.recipient.as_ref()?.bsuid()?;
    let dialled = message.to.as_ref().filter(|it| it.bsuid() != Some(told))?;
    Some((dialled, Customer::known_by(None, Some(told.clone()))?))
}
