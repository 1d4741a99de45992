//! A template to one customer: approved, filled, from the right number, in its slot, once.
//!
//! A batch goes in two steps. Each job is prepared alone (its connection, its template, its customer's conversation), then places in the
//! rotation and slots of the numbers are leased for all of them together, then each is finished alone, at its slot: the conversation is
//! reserved in one write, the message claimed, and sent once. Nothing of free text is in reach here: the handle on Meta takes templates only.

mod planning;
mod preparing;
mod sending;
mod settling;
mod submitted;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use domain::conversation::{AWAITS_FOR, Conversation, TemplateSend as Wish};
use domain::customer::Customer;
use domain::ids::{MessageKey, NumberId};
use domain::refusal::{Refusal, Retry};
use domain::status::{Fault, Phase, State};
use domain::template::{Category, Filled};
use domain::time::Timestamp;
use meta::fault::Class;
pub use meta::graph::TemplateGraph;

use crate::catalogue::Catalogue;
use crate::clock::Clock;
use crate::counts::Counts;
use crate::directory::{Directory, KnownConnection};
use crate::endings;
use crate::jobs::{Author, TemplateSend};
use crate::leases::Leases;
use crate::outbox::{Draft, Looked, Outbox, Outcome, SendError};
use crate::queues::Queues;
use crate::redelivery::{Prepared, Progress, Retryable};
use crate::store::{Ending, NumberItem, Outbound, Store, Stored};

pub(crate) use settling::{Failed, settle};
pub use submitted::{Broken, Submitted};

/// After an unknown outcome its status is looked for so long after the send; then it is `unconfirmed`, and never sent again.
const LOOKS_AFTER: [Duration; 5] =
    [Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(30), Duration::from_mins(1), Duration::from_mins(2)];

/// Why a template send did not end.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The body breaks the schema. Whoever sent it has been told.
    #[error("a template send breaks the schema")]
    Malformed,
    /// It could not be sent.
    #[error("a template could not be sent")]
    Send {
        /// The cause.
        #[source]
        source: SendError,
    },
    /// Others wrote the same conversation again and again.
    #[error("the conversation of a template moved under every try to reserve it")]
    Contended,
}

impl<E: Into<SendError>> From<E> for TemplateError {
    fn from(source: E) -> Self {
        Self::Send { source: source.into() }
    }
}

impl Retryable for TemplateError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Malformed => false,
            Self::Contended => true,
            Self::Send { source } => source.is_retryable(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Contended => "item_contended",
            Self::Send { source } => source.code(),
        }
    }
}

/// The handles of template sends.
pub struct Templates<'a> {
    /// Conversations, messages and leases.
    pub store: &'a Store,
    /// The feed, and the probes that ask for a reading of the catalogue.
    pub queues: &'a Queues,
    /// Connections with their tokens, and their numbers.
    pub directory: &'a Directory,
    /// The templates.
    pub catalogue: &'a Catalogue,
    /// Meta, for templates only.
    pub graph: &'a TemplateGraph,
    /// What this container has leased and not used.
    pub leases: &'a Leases,
    /// What is counted.
    pub counts: &'a Counts,
    /// The time, and the sleep until a slot.
    pub clock: Clock<'a>,
    /// Which part of a number's throughput campaigns may use, above 0 and at most 1: the rest is for replies and for what comes in.
    pub share: f64,
    /// Whether a job of this batch waits for its connection: false at first.
    pub is_held_back: Cell<bool>,
}

/// A job that may go out, once it has a slot.
pub struct Ready {
    job: Box<TemplateSend>,
    known: Arc<KnownConnection>,
    key: MessageKey,
    message: Outbound,
    filled: Filled,
    resends: Option<MessageKey>,
    stored: Stored,
    numbers: Arc<Vec<NumberItem>>,
    receive_count: u32,
}

/// A job with its number and its slot.
pub struct Planned {
    ready: Ready,
    slot: Option<Slot>,
}

struct Slot {
    number: NumberId,
    at: Timestamp,
    /// The place in the rotation that it takes, if its customer has no number yet.
    place: Option<u64>,
}

impl Ready {
    fn wish(&self) -> Wish<'_> {
        let utility_exempt = self.known.connection.utility_exempt;
        Wish { message: &self.key, category: self.filled.category(), utility_exempt, resends: self.resends.as_ref() }
    }

    fn usable(&self) -> Vec<NumberId> {
        self.numbers.iter().filter(|it| it.can_send()).map(|it| it.id.clone()).collect()
    }

    fn draft(&self) -> Draft<'_> {
        Draft { known: &self.known, key: self.key.clone(), message: self.message.clone(), looks_after: &LOOKS_AFTER }
    }

    fn is_of_person(&self) -> bool {
        matches!(self.job.author, Some(Author::Person(_)))
    }
}

impl Templates<'_> {
    fn outbox<'b>(&'b self, now: &'b dyn Fn() -> Timestamp) -> Outbox<'b> {
        Outbox { store: self.store, queues: self.queues, directory: self.directory, counts: self.counts, clock: now }
    }

    /// The message is there, and decides; it is never sent a second time.
    async fn existing(&self, draft: &Draft<'_>, existing: &Outbound, now: Timestamp) -> Result<Outcome, TemplateError> {
        let clock = || self.clock.now();
        let outbox = self.outbox(&clock);
        match existing.phase {
            Phase::Sending => match outbox.look(draft, existing, now).await? {
                Looked::Is(outcome) => Ok(outcome),
                Looked::Unknown => Ok(outbox.give_up(draft, now).await?),
            },
            Phase::Released | Phase::Accepted | Phase::Held | Phase::Failed | Phase::Unconfirmed => {
                // Whoever ended it may have died before what follows from that; and a job that is queued again has taken it all anew.
                if existing.state() == State::Failed {
                    self.settle(draft, existing, why_failed(existing)).await?;
                }
                Ok(outbox.known(draft, existing).await?)
            }
        }
    }

    async fn settle(&self, draft: &Draft<'_>, message: &Outbound, fault: Option<(Class, u32)>) -> Result<(), TemplateError> {
        let connection = &draft.known.connection;
        let (tenant, at) = (&connection.tenant, message.ended_at.unwrap_or_else(|| self.clock.now()));
        let failed = Failed { tenant, connection: &connection.id, key: &draft.key, message, fault, at };
        settle(self.store, self.queues, failed).await?;
        if matches!(fault, Some((Class::TemplatePaused | Class::TemplateDisabled, _)))
            && let Some(it) = &message.template
        {
            self.catalogue.forget(&connection.id, &it.name, &it.language);
        }
        Ok(())
    }

    /// A refusal of ours: the message itself decides if it is there; what ends unsent gives back what it holds.
    async fn refuse(&self, draft: &Draft<'_>, refusal: &Refusal, now: Timestamp) -> Result<Outcome, TemplateError> {
        let clock = || self.clock.now();
        let ending = Ending { retry: Some(retry(refusal, now)), ..endings::of_refusal(refusal) };
        let outcome = self.outbox(&clock).refuse(draft, refusal, &ending, now).await?;
        if outcome == Outcome::Ended {
            if matches!(refusal, Refusal::AwaitingReply { .. }) {
                self.counts.one("guard.blocked");
            }
            self.settle(draft, &draft.message, None).await?;
        }
        Ok(outcome)
    }
}

fn ended(outcome: Outcome) -> Prepared<Ready> {
    Prepared::Ended(progress(outcome))
}

fn progress(outcome: Outcome) -> Progress {
    match outcome {
        Outcome::Sent | Outcome::Ended => Progress::Done,
        Outcome::Wait(again) => Progress::Wait(again),
    }
}

/// The customer, if the template can go to them. Login codes go to phone numbers only:
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-scoped-user-ids>.
fn reachable(ready: &Ready, conversation: &Conversation) -> Result<Customer, Refusal> {
    let customer = conversation.customer().ok_or(Refusal::NoAddress)?;
    let is_code = *ready.filled.category() == Category::Authentication;
    if is_code && customer.phone().is_none() { Err(Refusal::PhoneRequired) } else { Ok(customer) }
}

/// Why Meta refused a message that has failed, by what it told of it later, or by the code that was kept.
fn why_failed(message: &Outbound) -> Option<(Class, u32)> {
    let told = message.newest_attempt().fault.as_ref().map(|it| it.code);
    let code = told.or_else(|| message.code.as_deref()?.parse().ok())?;
    let fault = Fault { code, title: None, details: None };
    Some((meta::fault::classify_failed(&fault), code))
}

/// An unanswered template lets the next one begin the conversation after its day, and Meta ends most pauses of a template by itself.
fn retry(refusal: &Refusal, now: Timestamp) -> Retry {
    match refusal {
        Refusal::AwaitingReply { since } => Retry::Later { retry_at: since.plus(AWAITS_FOR) },
        Refusal::TemplateNotApproved { status } if status == "PAUSED" => endings::retry(Class::TemplatePaused, now),
        other => other.retry(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unanswered_template_says_when_the_next_may_follow() {
        let since = Timestamp::from_millis(1_790_000_000_000);
        assert_eq!(retry(&Refusal::AwaitingReply { since }, since), Retry::Later { retry_at: since.plus(AWAITS_FOR) });
        assert_eq!(retry(&Refusal::OptedOut, since), Retry::Never);
        let of_status = |status: &str| retry(&Refusal::TemplateNotApproved { status: status.into() }, since);
        assert_eq!(of_status("PAUSED"), Retry::Later { retry_at: since.plus(Duration::from_hours(1)) });
        assert_eq!(of_status("REJECTED"), Retry::Fix);
    }
}
