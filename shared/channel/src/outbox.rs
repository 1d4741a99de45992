//! A message of ours from its claim to its end, whoever wrote it and whatever is in it.
//!
//! Meta has no idempotency key. So a message is claimed before it is sent, our key travels with it, and what may have been sent is looked for
//! before anything else is done about it.

use std::sync::Arc;
use std::time::Duration;

use domain::customer::Customer;
use domain::ids::{ConversationId, MessageId, MessageKey, Wamid};
use domain::message::Preference;
use domain::refusal::{Refusal, Retry};
use domain::status::{Fault, Phase, State};
use domain::time::Timestamp;
use meta::fault::Class;
use meta::graph::{Credentials, Sent};
use meta::outgoing::Recipient;

use crate::blobs::BlobError;
use crate::connections::{self, ConnectionError};
use crate::counts::Counts;
use crate::directory::{Directory, DirectoryError, KnownConnection};
use crate::endings::{self, Stepped};
use crate::feed;
use crate::jobs::{Author, Happened};
use crate::people;
use crate::queues::{QueueError, Queues};
use crate::redelivery::Retryable;
use crate::store::{Claim, Ending, MessageItem, Outbound, Store, StoreError, Writer};

/// A connection that does not run is looked at again after this long.
pub(crate) const NOT_RUNNING_AGAIN: Duration = Duration::from_secs(30);
/// A job's own time may be ahead of ours by so much: clocks differ.
pub(crate) const AHEAD: Duration = Duration::from_mins(5);
/// The longest pause after a definite no.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// Why a message of ours did not end.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The store failed.
    #[error("a message of ours could not be kept")]
    Store {
        /// The cause.
        #[from]
        source: StoreError,
    },
    /// The connection could not be looked up.
    #[error("the connection of a message could not be looked up")]
    Directory {
        /// The cause.
        #[from]
        source: DirectoryError,
    },
    /// The connection could not be changed.
    #[error("the connection of a message could not be changed")]
    Connection {
        /// The cause.
        #[from]
        source: ConnectionError,
    },
    /// A file could not be looked at, or put where it stays.
    #[error("the file of a message could not be read or kept")]
    Blob {
        /// The cause.
        #[from]
        source: BlobError,
    },
    /// The feed did not take an event.
    #[error("what became of a message could not be told")]
    Feed {
        /// The cause.
        #[from]
        source: QueueError,
    },
}

impl SendError {
    fn cause(&self) -> &dyn Retryable {
        match self {
            Self::Store { source } => source,
            Self::Directory { source } => source,
            Self::Connection { source } => source,
            Self::Blob { source } => source,
            Self::Feed { source } => source,
        }
    }
}

impl Retryable for SendError {
    fn is_retryable(&self) -> bool {
        self.cause().is_retryable()
    }

    fn code(&self) -> &'static str {
        self.cause().code()
    }
}

/// The claim under which a send was made. What a repeated call does late must not undo a newer claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    /// The attempt, from 1.
    pub attempt: u8,
    /// When it was claimed.
    pub claimed_at: Timestamp,
}

/// What a message is sent with.
#[derive(Clone, Copy)]
pub(crate) struct Outbox<'a> {
    pub(crate) store: &'a Store,
    pub(crate) queues: &'a Queues,
    pub(crate) directory: &'a Directory,
    pub(crate) counts: &'a Counts,
    /// The time, read before each attempt and after each answer: a send takes seconds.
    pub(crate) clock: &'a dyn Fn() -> Timestamp,
}

/// A message that wants to go out.
pub(crate) struct Draft<'a> {
    pub(crate) known: &'a KnownConnection,
    pub(crate) key: MessageKey,
    /// As it will be kept, but for what the claim adds.
    pub(crate) message: Outbound,
    /// After an unknown outcome its status is looked for so long after the send; after the last of these nothing is expected any more.
    pub(crate) looks_after: &'static [Duration],
}

/// What came of a message, for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It went out, or may have.
    Sent,
    /// It did not, and will not.
    Ended,
    /// To be looked at again after a while.
    Wait(Duration),
}

/// What is known of a send of unknown outcome.
pub(crate) enum Looked {
    Is(Outcome),
    /// Time is up, and nothing was heard.
    Unknown,
}

/// What Meta answered to an attempt, and the connection as it was by then.
pub(crate) struct Posted {
    pub(crate) sent: Sent,
    /// Read afresh, if other credentials were used in the end.
    pub(crate) fresh: Option<Arc<KnownConnection>>,
}

impl Outbox<'_> {
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Where a message lies: in the part of the conversation in which it was claimed before a merge, else in the conversation itself.
    pub(crate) async fn key_of(
        &self,
        conversation: &ConversationId,
        parts: &[ConversationId],
        at: Timestamp,
        id: &MessageId,
    ) -> Result<MessageKey, SendError> {
        let here = MessageKey { conversation: conversation.clone(), at, id: id.clone() };
        if parts.is_empty() {
            return Ok(here);
        }
        Ok(self.store.message(parts, at, id).await?.map_or(here, |it| it.0))
    }

    /// One try at Meta; credentials that were replaced since they were read are read again and tried once.
    pub(crate) async fn attempt(&self, draft: &Draft<'_>, post: impl AsyncFn(&KnownConnection) -> Sent) -> Result<Posted, SendError> {
        let sent = post(draft.known).await;
        let Sent::Refused { class: Class::Credentials | Class::Account, .. } = &sent else {
            return Ok(Posted { sent, fresh: None });
        };
        let fresh = self.directory.connection_afresh(&draft.known.connection.id, self.now()).await?;
        match fresh.filter(|it| it.has_other_credentials(draft.known)) {
            Some(fresh) => Ok(Posted { sent: post(&fresh).await, fresh: Some(fresh) }),
            None => Ok(Posted { sent, fresh: None }),
        }
    }

    /// Meta took it.
    pub(crate) async fn accepted(
        &self,
        draft: &Draft<'_>,
        attempt: u8,
        wamid: &Wamid,
        customer: Option<Customer>,
        held: bool,
    ) -> Result<Outcome, SendError> {
        let now = self.now();
        self.counts.one("send.accepted");
        let Some(message) = self.store.accepted(&draft.key, attempt, wamid, held, now).await? else { return Ok(Outcome::Sent) };
        self.tell(draft, &message, attempt, if held { "held" } else { "accepted" }, now).await?;
        // Usually Meta names the address that was dialled; another one is evidence that both are one person's.
        let Some(dialled) = &message.to else { return Ok(Outcome::Sent) };
        let known = dialled.addresses();
        if let Some(told) = customer.filter(|it| it.addresses().iter().any(|it| !known.contains(it))) {
            people::reached(self.store, &draft.key.conversation, dialled, &told, now).await?;
        }
        Ok(Outcome::Sent)
    }

    /// Nobody knows yet whether it was sent.
    pub(crate) fn unknown(&self, draft: &Draft<'_>, why: &'static str) -> Outcome {
        let id = &draft.key.id;
        tracing::warn!(connection.id = %draft.known.connection.id, message.id = %id, why, "nobody knows whether message `{id}` was sent");
        self.counts.one("send.unknown");
        Outcome::Wait(draft.looks_after[0])
    }

    /// Meta refused it; what follows is for whoever sent it to decide.
    pub(crate) fn refused_by_meta(&self, draft: &Draft<'_>, fault: &Fault, http: u16) {
        let id = &draft.key.id;
        tracing::info!(connection.id = %draft.known.connection.id, message.id = %id, meta.code = fault.code, http, "Meta refused message `{id}` with {}", fault.code);
        self.counts.one("send.refused_by_meta");
    }

    /// Definitely not sent, and to be tried again after a pause: 4^n seconds for a pair, as Meta advises, 2^n otherwise.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/throughput>
    pub(crate) async fn throttled(&self, draft: &Draft<'_>, class: Class, n: u32, fence: Fence) -> Result<Outcome, SendError> {
        self.store.released(&draft.key, fence, true).await?;
        Ok(Outcome::Wait(pause(class, n)))
    }

    /// Meta refused the credentials or the account: the connection is in ERROR, and the message waits for it.
    pub(crate) async fn connection_refused(
        &self,
        draft: &Draft<'_>,
        known: &KnownConnection,
        class: Class,
        fault: &Fault,
        fence: Fence,
    ) -> Result<Outcome, SendError> {
        // Released first: Meta's no is definite, whatever becomes of the rest. A repeat is refused again, and does the rest again.
        self.store.released(&draft.key, fence, false).await?;
        self.connection_failed(known, class, fault).await
    }

    /// The connection is in ERROR, and what wants to go out waits for it.
    pub(crate) async fn connection_failed(&self, known: &KnownConnection, class: Class, fault: &Fault) -> Result<Outcome, SendError> {
        let connection = &known.connection;
        let why = format!("Meta refused to send: {} (code {}). {}", endings::note(fault), fault.code, connections::what_to_do(class));
        connections::fail(self.store, self.queues, &connection.id, connection.token_generation, &why, self.now()).await?;
        Ok(Outcome::Wait(NOT_RUNNING_AGAIN))
    }

    /// Meta says that the customer wants no marketing.
    pub(crate) async fn opted_out(&self, draft: &Draft<'_>, at: Timestamp) -> Result<(), SendError> {
        let (stop, connection) = (Preference::Stop, &draft.known.connection);
        if let Some(it) = self.store.change_conversation(&draft.key.conversation, |it| it.prefer(stop, at)).await? {
            feed::tell_preference(self.queues, &connection.tenant, &connection.id, &it.id, stop, at).await?;
        }
        Ok(())
    }

    /// It was tried, and will not be again.
    pub(crate) async fn fail(&self, draft: &Draft<'_>, ending: Ending, fence: Fence) -> Result<Outcome, SendError> {
        if let Some(it) = self.store.ended(&draft.key, (Phase::Sending, Some(fence)), Phase::Failed, &ending, self.now()).await? {
            self.tell_ended(draft, &it, None).await?;
        }
        Ok(Outcome::Ended)
    }

    /// What has ended already decides; it is told again, in case a crash kept it from being told.
    pub(crate) async fn known(&self, draft: &Draft<'_>, existing: &Outbound) -> Result<Outcome, SendError> {
        match existing.phase {
            Phase::Accepted | Phase::Held => {
                let step = if existing.phase == Phase::Held { "held" } else { "accepted" };
                let at = existing.newest_attempt().accepted_at.unwrap_or(draft.key.at);
                self.tell(draft, existing, existing.attempt, step, at).await?;
                let failed = existing.state() == State::Failed;
                Ok(if failed { Outcome::Ended } else { Outcome::Sent })
            }
            Phase::Unconfirmed => {
                self.tell(draft, existing, existing.attempt, "unconfirmed", existing.ended_at.unwrap_or(draft.key.at)).await?;
                Ok(Outcome::Sent)
            }
            Phase::Failed | Phase::Sending | Phase::Released => {
                self.tell_ended(draft, existing, None).await?;
                Ok(Outcome::Ended)
            }
        }
    }

    /// A send of unknown outcome: has a status told of it? If not, is it time to look again?
    pub(crate) async fn look(&self, draft: &Draft<'_>, existing: &Outbound, now: Timestamp) -> Result<Looked, SendError> {
        if existing.history().is_witnessed(usize::from(existing.attempt)) {
            self.counts.one("send.witnessed");
            return Ok(Looked::Is(self.witnessed(draft, existing, now).await?));
        }
        let since = now.since(existing.newest_attempt().claimed_at.unwrap_or(now));
        Ok(draft.looks_after.iter().find(|it| **it > since).map_or(Looked::Unknown, |it| Looked::Is(Outcome::Wait(*it - since))))
    }

    /// A status has told of a send whose answer was lost: Meta took it.
    async fn witnessed(&self, draft: &Draft<'_>, existing: &Outbound, now: Timestamp) -> Result<Outcome, SendError> {
        let attempt = existing.newest_attempt();
        let Some(wamid) = &attempt.wamid else { return Ok(Outcome::Sent) };
        let at = attempt.claimed_at.unwrap_or(now);
        match self.store.accepted(&draft.key, existing.attempt, wamid, false, at).await? {
            Some(accepted) => self.known(draft, &accepted).await,
            None => Ok(Outcome::Sent),
        }
    }

    /// Nobody knows whether it was sent, and it may not be tried again.
    pub(crate) async fn give_up(&self, draft: &Draft<'_>, now: Timestamp) -> Result<Outcome, SendError> {
        self.counts.one("send.unconfirmed");
        if let Some(it) = self.store.ended(&draft.key, (Phase::Sending, None), Phase::Unconfirmed, &endings::unconfirmed(), now).await? {
            self.tell(draft, &it, it.attempt, "unconfirmed", now).await?;
        }
        Ok(Outcome::Sent)
    }

    /// Before any refusal is told, the message itself is looked for: if it exists, it decides.
    pub(crate) async fn refuse(&self, draft: &Draft<'_>, refusal: &Refusal, ending: &Ending, now: Timestamp) -> Result<Outcome, SendError> {
        self.end(draft, Some(refusal), ending, now).await
    }

    /// As [`Self::refuse`], where Meta refused before it was sent.
    pub(crate) async fn end_unsent(&self, draft: &Draft<'_>, ending: &Ending, now: Timestamp) -> Result<Outcome, SendError> {
        self.end(draft, None, ending, now).await
    }

    async fn end(&self, draft: &Draft<'_>, refusal: Option<&Refusal>, ending: &Ending, now: Timestamp) -> Result<Outcome, SendError> {
        let outbound = draft.message.clone().ended(ending.clone(), now);
        let existing = match self.store.claim(&draft.key, outbound.clone(), draft.known.connection.messages_kept_for()).await? {
            Claim::Ours => {
                self.counts.one("send.refused");
                self.tell_ended(draft, &outbound, refusal).await?;
                return Ok(Outcome::Ended);
            }
            Claim::Existing(it) => it,
        };
        match existing.phase {
            Phase::Released => {
                if let Some(it) = self.store.ended(&draft.key, (Phase::Released, None), Phase::Failed, ending, now).await? {
                    self.counts.one("send.refused");
                    self.tell_ended(draft, &it, refusal).await?;
                }
                Ok(Outcome::Ended)
            }
            Phase::Sending => match self.look(draft, &existing, now).await? {
                Looked::Is(outcome) => Ok(outcome),
                Looked::Unknown => self.give_up(draft, now).await,
            },
            Phase::Failed if existing.code == ending.code => {
                self.tell_ended(draft, &existing, refusal).await?;
                Ok(Outcome::Ended)
            }
            Phase::Accepted | Phase::Held | Phase::Failed | Phase::Unconfirmed => self.known(draft, &existing).await,
        }
    }

    /// The connection does not run now: what may have been sent is looked for, the rest waits.
    pub(crate) async fn wait_for_connection(&self, draft: &Draft<'_>, now: Timestamp) -> Result<Outcome, SendError> {
        let found = self.store.message([&draft.key.conversation], draft.key.at, &draft.key.id).await?;
        let Some((_, MessageItem::Outbound(existing))) = found else { return Ok(Outcome::Wait(NOT_RUNNING_AGAIN)) };
        match existing.phase {
            Phase::Released => Ok(Outcome::Wait(NOT_RUNNING_AGAIN)),
            Phase::Sending => match self.look(draft, &existing, now).await? {
                Looked::Is(outcome) => Ok(outcome),
                // What may be done about it is done when the connection runs again.
                Looked::Unknown => Ok(Outcome::Wait(NOT_RUNNING_AGAIN)),
            },
            Phase::Accepted | Phase::Held | Phase::Failed | Phase::Unconfirmed => self.known(draft, &existing).await,
        }
    }

    async fn tell(&self, draft: &Draft<'_>, message: &Outbound, attempt: u8, step: &str, at: Timestamp) -> Result<(), SendError> {
        let tenant = &draft.known.connection.tenant;
        Ok(endings::tell(self.queues, Stepped { tenant, key: &draft.key, message, attempt, step, at }).await?)
    }

    /// A refusal of ours is told as such; what Meta refused is a step of the message.
    async fn tell_ended(&self, draft: &Draft<'_>, message: &Outbound, refusal: Option<&Refusal>) -> Result<(), SendError> {
        let at = message.ended_at.unwrap_or(draft.key.at);
        let is_ours = message.code.as_deref().is_some_and(|it| it.parse::<u32>().is_err());
        if !is_ours {
            return self.tell(draft, message, message.attempt, "failed", at).await;
        }
        let what = Happened::SendRefused {
            conversation: Some(draft.key.conversation.clone()),
            message: draft.key.to_string(),
            code: message.code.clone().unwrap_or_default(),
            note: message.note.clone().unwrap_or_default(),
            closed_at: refusal.and_then(Refusal::closed_at),
            retry: message.retry.unwrap_or(Retry::Never),
            campaign: message.campaign.clone(),
        };
        let connection = &draft.known.connection;
        Ok(feed::tell(
            self.queues,
            &connection.tenant,
            &connection.id,
            at,
            &["refused", draft.key.id.as_str(), message.code.as_deref().unwrap_or_default()],
            what,
        )
        .await?)
    }
}

/// What opens the Graph API for a connection.
pub(crate) fn credentials(known: &KnownConnection) -> Credentials {
    Credentials::new(known.access_token.expose(), known.app_secret.as_ref().map(|it| it.expose().to_owned()))
}

/// Where a message goes: to the user id if it is known, since a phone number may have been given away.
pub(crate) fn recipient(to: &Customer) -> Recipient {
    to.bsuid().map_or_else(|| Recipient::of(to), |it| Recipient::Bsuid(it.clone()))
}

pub(crate) fn writer(author: &Author) -> Writer {
    match author {
        Author::Agent(it) => Writer::Agent(it.clone()),
        Author::Person(it) => Writer::Person(it.clone()),
    }
}

pub(crate) fn pause(class: Class, n: u32) -> Duration {
    let base: u64 = if class == Class::Pair { 4 } else { 2 };
    Duration::from_secs(base.saturating_pow(n.min(16))).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        assert_eq!(pause(Class::Pair, 0), Duration::from_secs(1));
        assert_eq!(pause(Class::Pair, 3), Duration::from_secs(64));
        assert_eq!(pause(Class::NotSent, 3), Duration::from_secs(8));
        assert_eq!(pause(Class::Pair, 99), LONGEST_PAUSE);
    }
}
