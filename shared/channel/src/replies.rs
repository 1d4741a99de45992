//! A free-form reply of an agent or a person: sent if the window and the one who answers allow it, once.
//!
//! Meta has no idempotency key. So a reply is claimed before it is sent, our key travels with it, and what may have been sent is looked for
//! before it is sent again, once, marked as the second attempt.

use std::time::Duration;

use domain::connection::Sending;
use domain::conversation::{Author as Who, Conversation};
use domain::customer::Customer;
use domain::ids::{MessageId, MessageKey, NumberId, Wamid, reply_time};
use domain::message::Preference;
use domain::outgoing::Outgoing;
use domain::refusal::Refusal;
use domain::status::{Fault, Phase, State};
use domain::time::Timestamp;
use meta::fault::Class;
use meta::graph::{Credentials, Graph, Sent};
use meta::outgoing::{Recipient, check, request};

use crate::connections::{self, ConnectionError};
use crate::counts::Counts;
use crate::directory::{Directory, DirectoryError, KnownConnection};
use crate::endings::{self, Stepped};
use crate::feed::{self, body};
use crate::handling::{self, HandlingError};
use crate::jobs::{Author, Happened, Reply};
use crate::opaque;
use crate::people;
use crate::queues::{QueueError, Queues};
use crate::redelivery::{Delivery, Progress, Retryable};
use crate::store::{Claim, Ending, MessageItem, Outbound, Store, StoreError, Writer};

/// After an unknown outcome its status is looked for so long after the send; after the last of these the reply goes out once more.
const LOOKS_AFTER: [Duration; 4] = [Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(30), Duration::from_mins(1)];
/// A connection that does not run is looked at again after this long.
const NOT_RUNNING_AGAIN: Duration = Duration::from_secs(30);
/// The parts of a long text go out one after the other for this long; the rest goes with the next delivery, well within the function's time.
const PARTS_WITHIN: Duration = Duration::from_secs(4);
/// A job's own time may be ahead of ours by so much: clocks differ.
const AHEAD: Duration = Duration::from_mins(5);
/// The longest pause after a definite no.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// Why a reply did not end.
#[derive(Debug, thiserror::Error)]
pub enum ReplyError {
    /// Nobody knows the connection that the reply names: there is nobody to tell.
    #[error("the reply names a connection that does not exist")]
    NoConnection,
    /// The store failed.
    #[error("a reply could not be kept")]
    Store {
        /// The cause.
        #[from]
        source: StoreError,
    },
    /// The connection could not be looked up.
    #[error("the connection of a reply could not be looked up")]
    Directory {
        /// The cause.
        #[from]
        source: DirectoryError,
    },
    /// Who answers could not be kept.
    #[error("who answers could not be kept")]
    Handling {
        /// The cause.
        #[from]
        source: HandlingError,
    },
    /// The connection could not be changed.
    #[error("the connection of a reply could not be changed")]
    Connection {
        /// The cause.
        #[from]
        source: ConnectionError,
    },
    /// The feed did not take an event.
    #[error("what became of a reply could not be told")]
    Feed {
        /// The cause.
        #[from]
        source: QueueError,
    },
}

impl Retryable for ReplyError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::NoConnection => false,
            Self::Store { source } => source.is_retryable(),
            Self::Directory { source } => source.is_retryable(),
            Self::Handling { source } => source.is_retryable(),
            Self::Connection { source } => source.is_retryable(),
            Self::Feed { source } => source.is_retryable(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NoConnection => "no_connection",
            Self::Store { source } => source.code(),
            Self::Directory { source } => source.code(),
            Self::Handling { source } => source.code(),
            Self::Connection { source } => source.code(),
            Self::Feed { source } => source.code(),
        }
    }
}

/// The handles of a reply.
pub struct Replies<'a> {
    /// Conversations and messages.
    pub store: &'a Store,
    /// The feed.
    pub queues: &'a Queues,
    /// Connections with their tokens.
    pub directory: &'a Directory,
    /// Meta.
    pub graph: &'a Graph,
    /// What is counted.
    pub counts: &'a Counts,
    /// The time, read before each part and each attempt: a send takes seconds.
    pub clock: &'a dyn Fn() -> Timestamp,
}

/// What came of one part of a reply.
enum Part {
    /// It went out, or may have: the next one may follow.
    Sent,
    /// It did not, and will not: the rest does not follow either.
    Ended,
    /// To be looked at again after a while.
    Wait(Duration),
}

/// One part, and what is needed to send it.
struct Job<'a> {
    known: &'a KnownConnection,
    reply: &'a Reply,
    key: MessageKey,
    content: &'a Outgoing,
    /// May it be sent at all, while the connection is as it is?
    sending: Sending,
}

impl Replies<'_> {
    /// Sends a reply, or says why not.
    ///
    /// # Errors
    /// [`ReplyError`]: the next delivery goes on.
    pub async fn dispatch(&self, reply: &Reply, delivery: &Delivery) -> Result<Progress, ReplyError> {
        let started = (self.clock)();
        let mut known = self.directory.connection(&reply.connection, started).await?.ok_or(ReplyError::NoConnection)?;
        if known.connection.lifecycle.sending(started) != Sending::Allowed {
            known = self.directory.connection_afresh(&reply.connection, started).await?.ok_or(ReplyError::NoConnection)?;
        }
        let sending = known.connection.lifecycle.sending(started);
        let (id, at) = match identify(reply, started) {
            Ok(it) => it,
            Err(refusal) => return self.refuse_unkept(&known, reply, &refusal, started).await,
        };
        let found = self.store.conversation(&reply.conversation).await?;
        let Some(conversation) = found.map(|it| it.conversation).filter(|it| it.connection == reply.connection) else {
            return self.refuse_unkept(&known, reply, &Refusal::UnknownConversation, started).await;
        };
        let refusal = self.refusal_of_author(&known, reply, started).await?;
        if let (Some(refusal), None) = (&refusal, &reply.message) {
            return self.refuse_unkept(&known, reply, refusal, started).await;
        }
        let conversation = self.taken_by_author(&known, reply, conversation, at).await?;
        // Once is enough: a later delivery would show an agent that is writing when it has written.
        if refusal.is_none() && sending == Sending::Allowed && delivery.receive_count <= 1 {
            self.mark_read(&known, reply, &conversation, started).await;
        }
        let may_hand_over = refusal != Some(Refusal::NotAttached);
        let progress = match &reply.message {
            Some(message) => self.send_parts(&known, reply, conversation, message, (id, at), sending, refusal, started).await?,
            None => Progress::Done,
        };
        if progress == Progress::Done && reply.handover && may_hand_over {
            // The agent asks for a person when it puts the job into the queue: a release that came after the turn was before that.
            let asked_at = delivery.sent_at_ms.map_or(at, Timestamp::from_millis);
            handling::take(self.store, self.queues, &known.connection.tenant, &reply.conversation, asked_at).await?;
        }
        Ok(progress)
    }

    /// A person's message takes the conversation, as of the job's own time.
    async fn taken_by_author(
        &self,
        known: &KnownConnection,
        reply: &Reply,
        conversation: Conversation,
        at: Timestamp,
    ) -> Result<Conversation, ReplyError> {
        if !matches!(reply.author, Author::Person(_)) || reply.message.is_none() {
            return Ok(conversation);
        }
        let taken = handling::take(self.store, self.queues, &known.connection.tenant, &conversation.id, at).await?;
        Ok(taken.unwrap_or(conversation))
    }

    async fn refusal_of_author(&self, known: &KnownConnection, reply: &Reply, now: Timestamp) -> Result<Option<Refusal>, ReplyError> {
        if let Author::Agent(agent) = &reply.author
            && !self.directory.is_attached(&known.connection.id, agent, now).await?
        {
            return Ok(Some(Refusal::NotAttached));
        }
        let problems = reply.message.as_ref().map_or(Ok(()), check);
        Ok(problems.err().map(|it| Refusal::Invalid { problems: it.iter().map(ToString::to_string).collect() }))
    }

    /// Marks the customer's message as read. It is a courtesy: if Meta does not take it, nothing is lost, and the reply goes out.
    async fn mark_read(&self, known: &KnownConnection, reply: &Reply, conversation: &Conversation, now: Timestamp) {
        let (Some(read), Some(sender)) = (&reply.read, &conversation.sender) else { return };
        if conversation.admit_reply(who(&reply.author), &known.connection.numbers, now).is_err() {
            return;
        }
        if self.graph.mark_read(&sender.number, &credentials(known), &read.wamid, read.typing).await.is_err() {
            self.counts.one("read.not_marked");
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what one reply is made of; a struct for it would be used once")]
    async fn send_parts(
        &self,
        known: &KnownConnection,
        reply: &Reply,
        mut conversation: Conversation,
        message: &Outgoing,
        (id, at): (MessageId, Timestamp),
        sending: Sending,
        refusal: Option<Refusal>,
        started: Timestamp,
    ) -> Result<Progress, ReplyError> {
        let parts = message.clone().parts();
        let mut refusal = refusal;
        for (index, content) in parts.iter().enumerate() {
            if index > 0 {
                if (self.clock)().since(started) > PARTS_WITHIN {
                    return Ok(Progress::Wait(Duration::ZERO));
                }
                // A person may have taken it, or the window may have ended, between two parts.
                conversation = self.store.conversation(&conversation.id).await?.map_or(conversation, |it| it.conversation);
            }
            let id = id.part(index);
            let key = self.key_of(&conversation, at, &id).await?;
            let job = Job { known, reply, key, content, sending };
            match self.send_part(&job, &conversation, refusal.clone()).await? {
                Part::Sent => {}
                Part::Ended => refusal = refusal.or(Some(Refusal::PartFailed)),
                Part::Wait(again) => return Ok(Progress::Wait(again)),
            }
        }
        Ok(Progress::Done)
    }

    /// Where the message lies: in the part of the conversation in which it was claimed before a merge, else here.
    async fn key_of(&self, conversation: &Conversation, at: Timestamp, id: &MessageId) -> Result<MessageKey, ReplyError> {
        let here = MessageKey { conversation: conversation.id.clone(), at, id: id.clone() };
        if conversation.parts.is_empty() {
            return Ok(here);
        }
        Ok(self.store.message(&conversation.parts, at, id).await?.map_or(here, |it| it.0))
    }

    async fn send_part(&self, job: &Job<'_>, conversation: &Conversation, refusal: Option<Refusal>) -> Result<Part, ReplyError> {
        let now = (self.clock)();
        let refusal = match (refusal, job.sending) {
            (Some(it), _) => Some(it),
            (None, Sending::Refused) => Some(Refusal::NotRunning),
            (None, Sending::Waits) => return self.wait_for_connection(job, now).await,
            (None, Sending::Allowed) => None,
        };
        let admitted = match refusal {
            Some(it) => Err(it),
            None => conversation
                .admit_reply(who(&job.reply.author), &job.known.connection.numbers, now)
                .and_then(|number| Ok((number, conversation.customer().ok_or(Refusal::NoAddress)?))),
        };
        let (number, to) = match admitted {
            Ok(it) => it,
            Err(refusal) => return self.refuse(job, &refusal, now).await,
        };
        let outbound = Outbound::claimed(
            job.known.connection.id.clone(),
            number.clone(),
            job.content.kind(),
            body(job.content),
            writer(&job.reply.author),
            to.clone(),
            now,
        );
        let existing = match self.store.claim(&job.key, outbound).await? {
            Claim::Ours => return self.send(job, 1, &number, &to, 0, now).await,
            Claim::Existing(it) => it,
        };
        match existing.phase {
            Phase::Released => {
                let attempt = existing.attempt.max(1);
                if self.store.reclaim(&job.key, attempt, &number, &to, now).await? {
                    self.send(job, attempt, &number, &to, existing.throttled, now).await
                } else {
                    Ok(Part::Wait(Duration::from_secs(1)))
                }
            }
            Phase::Sending => match self.look(job, &existing, now).await? {
                Looked::Is(part) => Ok(part),
                Looked::Unknown if existing.attempt == 1 => {
                    if self.store.claim_second(&job.key, &to, now).await? {
                        self.counts.one("send.second_attempt");
                        self.send(job, 2, &number, &to, 0, now).await
                    } else {
                        Ok(Part::Wait(Duration::from_secs(1)))
                    }
                }
                Looked::Unknown => self.give_up(job, now).await,
            },
            Phase::Accepted | Phase::Held | Phase::Failed | Phase::Unconfirmed => self.known(job, &existing).await,
        }
    }

    /// What has ended already decides; it is told again, in case a crash kept it from being told.
    async fn known(&self, job: &Job<'_>, existing: &Outbound) -> Result<Part, ReplyError> {
        match existing.phase {
            Phase::Accepted | Phase::Held => {
                let step = if existing.phase == Phase::Held { "held" } else { "accepted" };
                let at = existing.newest_attempt().accepted_at.unwrap_or(job.key.at);
                self.tell(job, existing, existing.attempt, step, at).await?;
                let failed = existing.state() == State::Failed;
                Ok(if failed { Part::Ended } else { Part::Sent })
            }
            Phase::Unconfirmed => {
                self.tell(job, existing, existing.attempt, "unconfirmed", existing.ended_at.unwrap_or(job.key.at)).await?;
                Ok(Part::Sent)
            }
            Phase::Failed | Phase::Sending | Phase::Released => {
                self.tell_ended(job, existing, None).await?;
                Ok(Part::Ended)
            }
        }
    }

    /// A send of unknown outcome: has a status told of it? If not, is it time to look again?
    async fn look(&self, job: &Job<'_>, existing: &Outbound, now: Timestamp) -> Result<Looked, ReplyError> {
        if existing.history().is_witnessed(usize::from(existing.attempt)) {
            self.counts.one("send.witnessed");
            return Ok(Looked::Is(self.witnessed(job, existing, now).await?));
        }
        let since = now.since(existing.newest_attempt().claimed_at.unwrap_or(now));
        Ok(LOOKS_AFTER.iter().find(|it| **it > since).map_or(Looked::Unknown, |it| Looked::Is(Part::Wait(*it - since))))
    }

    /// A status has told of a send whose answer was lost: Meta took it.
    async fn witnessed(&self, job: &Job<'_>, existing: &Outbound, now: Timestamp) -> Result<Part, ReplyError> {
        let attempt = existing.newest_attempt();
        let Some(wamid) = &attempt.wamid else { return Ok(Part::Sent) };
        let at = attempt.claimed_at.unwrap_or(now);
        match self.store.accepted(&job.key, existing.attempt, wamid, false, at).await? {
            Some(accepted) => self.known(job, &accepted).await,
            None => Ok(Part::Sent),
        }
    }

    /// Nobody knows whether it was sent, and it may not be tried again.
    async fn give_up(&self, job: &Job<'_>, now: Timestamp) -> Result<Part, ReplyError> {
        self.counts.one("send.unconfirmed");
        if let Some(it) = self.store.ended(&job.key, Phase::Sending, Phase::Unconfirmed, &endings::unconfirmed(), now).await? {
            self.tell(job, &it, it.attempt, "unconfirmed", now).await?;
        }
        Ok(Part::Sent)
    }

    /// Before any refusal is told, the message itself is looked for: if it exists, it decides.
    async fn refuse(&self, job: &Job<'_>, refusal: &Refusal, now: Timestamp) -> Result<Part, ReplyError> {
        let ending = endings::of_refusal(refusal);
        let outbound = Outbound::ended(
            job.known.connection.id.clone(),
            job.content.kind(),
            body(job.content),
            writer(&job.reply.author),
            ending.clone(),
            now,
        );
        let existing = match self.store.claim(&job.key, outbound.clone()).await? {
            Claim::Ours => {
                self.counts.one("send.refused");
                self.tell_ended(job, &outbound, Some(refusal)).await?;
                return Ok(Part::Ended);
            }
            Claim::Existing(it) => it,
        };
        match existing.phase {
            Phase::Released => {
                if let Some(it) = self.store.ended(&job.key, Phase::Released, Phase::Failed, &ending, now).await? {
                    self.counts.one("send.refused");
                    self.tell_ended(job, &it, Some(refusal)).await?;
                }
                Ok(Part::Ended)
            }
            Phase::Sending => match self.look(job, &existing, now).await? {
                Looked::Is(part) => Ok(part),
                Looked::Unknown => self.give_up(job, now).await,
            },
            Phase::Failed if existing.code == ending.code => {
                self.tell_ended(job, &existing, Some(refusal)).await?;
                Ok(Part::Ended)
            }
            Phase::Accepted | Phase::Held | Phase::Failed | Phase::Unconfirmed => self.known(job, &existing).await,
        }
    }

    /// The connection does not run now: what may have been sent is looked for, the rest waits.
    async fn wait_for_connection(&self, job: &Job<'_>, now: Timestamp) -> Result<Part, ReplyError> {
        let found = self.store.message([&job.key.conversation], job.key.at, &job.key.id).await?;
        let Some((_, MessageItem::Outbound(existing))) = found else { return Ok(Part::Wait(NOT_RUNNING_AGAIN)) };
        match existing.phase {
            Phase::Released => Ok(Part::Wait(NOT_RUNNING_AGAIN)),
            Phase::Sending => match self.look(job, &existing, now).await? {
                Looked::Is(part) => Ok(part),
                // It may go out once more when the connection runs again.
                Looked::Unknown => Ok(Part::Wait(NOT_RUNNING_AGAIN)),
            },
            Phase::Accepted | Phase::Held | Phase::Failed | Phase::Unconfirmed => self.known(job, &existing).await,
        }
    }

    /// One attempt at Meta; a token or an app's secret that was replaced since it was read is read again and tried once.
    async fn send(
        &self,
        job: &Job<'_>,
        attempt: u8,
        number: &NumberId,
        to: &Customer,
        throttled: u32,
        claimed_at: Timestamp,
    ) -> Result<Part, ReplyError> {
        let sent = self.post(job, job.known, attempt, number, to).await;
        let Sent::Refused { class: Class::Credentials | Class::Account, .. } = &sent else {
            return self.outcome(job, sent, attempt, number, throttled, claimed_at).await;
        };
        let fresh = self.directory.connection_afresh(&job.known.connection.id, claimed_at).await?;
        match fresh.filter(|it| it.has_other_credentials(job.known)) {
            Some(fresh) => {
                let sent = self.post(job, &fresh, attempt, number, to).await;
                let again = Job { known: &fresh, key: job.key.clone(), ..*job };
                self.outcome(&again, sent, attempt, number, throttled, claimed_at).await
            }
            None => self.outcome(job, sent, attempt, number, throttled, claimed_at).await,
        }
    }

    async fn post(&self, job: &Job<'_>, known: &KnownConnection, attempt: u8, number: &NumberId, to: &Customer) -> Sent {
        let recipient = match (to.bsuid(), to.phone()) {
            (Some(it), _) => Recipient::Bsuid(it.clone()),
            (None, _) => Recipient::of(to),
        };
        // A long text quotes once, with its first part.
        let quote = job.reply.quote.as_ref().filter(|_| !job.key.id.as_str().contains('.'));
        let request = request(&recipient, job.content, quote, &opaque::print(&job.key, attempt));
        self.graph.send(number, &credentials(known), &request).await
    }

    async fn outcome(
        &self,
        job: &Job<'_>,
        sent: Sent,
        attempt: u8,
        number: &NumberId,
        throttled: u32,
        claimed_at: Timestamp,
    ) -> Result<Part, ReplyError> {
        let now = (self.clock)();
        match sent {
            Sent::Accepted { wamid, customer, held } => {
                self.accepted(job, attempt, &wamid, customer, held, now).await?;
                Ok(Part::Sent)
            }
            Sent::Unknown { why } => {
                tracing::warn!(connection.id = %job.known.connection.id, message.id = %job.key.id, why, "nobody knows whether message `{}` was sent", job.key.id);
                self.counts.one("send.unknown");
                Ok(Part::Wait(LOOKS_AFTER[0]))
            }
            Sent::Refused { class, fault, http } => {
                tracing::info!(connection.id = %job.known.connection.id, message.id = %job.key.id, meta.code = fault.code, http, "Meta refused message `{}` with {}", job.key.id, fault.code);
                self.counts.one("send.refused_by_meta");
                self.refused_by_meta(job, class, &fault, number, throttled, claimed_at).await
            }
        }
    }

    async fn accepted(
        &self,
        job: &Job<'_>,
        attempt: u8,
        wamid: &Wamid,
        customer: Option<Customer>,
        held: bool,
        now: Timestamp,
    ) -> Result<(), ReplyError> {
        self.counts.one("send.accepted");
        let Some(message) = self.store.accepted(&job.key, attempt, wamid, held, now).await? else { return Ok(()) };
        self.tell(job, &message, attempt, if held { "held" } else { "accepted" }, now).await?;
        // Usually Meta names the address that was dialled; another one is evidence that both are one person's.
        let Some(dialled) = &message.to else { return Ok(()) };
        let known = dialled.addresses();
        if let Some(told) = customer.filter(|it| it.addresses().iter().any(|it| !known.contains(it))) {
            people::reached(self.store, &job.key.conversation, dialled, &told, now).await?;
        }
        Ok(())
    }

    async fn refused_by_meta(
        &self,
        job: &Job<'_>,
        class: Class,
        fault: &Fault,
        number: &NumberId,
        throttled: u32,
        claimed_at: Timestamp,
    ) -> Result<Part, ReplyError> {
        let now = (self.clock)();
        match class {
            Class::NotSent | Class::Pair => {
                self.store.released(&job.key, true).await?;
                Ok(Part::Wait(pause(class, throttled)))
            }
            Class::Unknown => {
                self.counts.one("send.unknown");
                Ok(Part::Wait(LOOKS_AFTER[0]))
            }
            Class::Credentials | Class::Account => {
                let connection = &job.known.connection;
                let why =
                    format!("Meta refused to send: {} (code {}). {}", endings::note(fault), fault.code, connections::what_to_do(class));
                // Released first: Meta's no is definite, whatever becomes of the rest. A repeat is refused again, and does the rest again.
                self.store.released(&job.key, false).await?;
                connections::fail(self.store, self.queues, &connection.id, connection.token_generation, &why, now).await?;
                Ok(Part::Wait(NOT_RUNNING_AGAIN))
            }
            Class::Window => {
                self.store.change_conversation(&job.key.conversation, |it| it.refused(number, claimed_at)).await?;
                self.fail(job, endings::of_fault(class, fault, now), now).await
            }
            Class::Number => {
                connections::mark_number(self.store, self.queues, &job.known.connection, number, fault, now, now).await?;
                self.fail(job, endings::of_fault(class, fault, now), now).await
            }
            Class::OptedOut => {
                let (stop, connection) = (Preference::Stop, &job.known.connection);
                if let Some(it) = self.store.change_conversation(&job.key.conversation, |it| it.prefer(stop, now)).await? {
                    feed::tell_preference(self.queues, &connection.tenant, &connection.id, &it.id, stop, now).await?;
                }
                self.fail(job, endings::of_fault(class, fault, now), now).await
            }
            Class::Permanent
            | Class::Later
            | Class::MarketingLimit
            | Class::TemplateMissing
            | Class::TemplatePaused
            | Class::TemplateDisabled
            | Class::Fix => self.fail(job, endings::of_fault(class, fault, now), now).await,
        }
    }

    async fn fail(&self, job: &Job<'_>, ending: Ending, now: Timestamp) -> Result<Part, ReplyError> {
        if let Some(it) = self.store.ended(&job.key, Phase::Sending, Phase::Failed, &ending, now).await? {
            self.tell_ended(job, &it, None).await?;
        }
        Ok(Part::Ended)
    }

    async fn tell(&self, job: &Job<'_>, message: &Outbound, attempt: u8, step: &str, at: Timestamp) -> Result<(), ReplyError> {
        let tenant = &job.known.connection.tenant;
        Ok(endings::tell(self.queues, Stepped { tenant, key: &job.key, message, attempt, step, at }).await?)
    }

    /// A refusal of ours is told as such; what Meta refused is a step of the message.
    async fn tell_ended(&self, job: &Job<'_>, message: &Outbound, refusal: Option<&Refusal>) -> Result<(), ReplyError> {
        let at = message.ended_at.unwrap_or(job.key.at);
        let is_ours = message.code.as_deref().is_some_and(|it| it.parse::<u32>().is_err());
        if !is_ours {
            return self.tell(job, message, message.attempt, "failed", at).await;
        }
        let what = Happened::SendRefused {
            conversation: job.key.conversation.clone(),
            message: job.key.to_string(),
            code: message.code.clone().unwrap_or_default(),
            note: message.note.clone().unwrap_or_default(),
            closed_at: refusal.and_then(Refusal::closed_at),
            retry: message.retry.unwrap_or(domain::refusal::Retry::Never),
        };
        let connection = &job.known.connection;
        Ok(feed::tell(self.queues, &connection.tenant, &connection.id, at, &["refused", job.key.id.as_str()], what).await?)
    }

    /// A refusal of a job that cannot even be kept: it names no message of a conversation.
    async fn refuse_unkept(
        &self,
        known: &KnownConnection,
        reply: &Reply,
        refusal: &Refusal,
        now: Timestamp,
    ) -> Result<Progress, ReplyError> {
        self.counts.one("send.refused");
        let name = reply.id.clone().or_else(|| reply.turn.as_ref().map(|it| format!("{it}/{}", reply.index))).unwrap_or_default();
        let what = Happened::SendRefused {
            conversation: reply.conversation.clone(),
            message: name,
            code: refusal.code().to_owned(),
            note: refusal.note(),
            closed_at: None,
            retry: refusal.retry(),
        };
        let job = body(reply);
        feed::tell(self.queues, &known.connection.tenant, &known.connection.id, now, &["unkept", job.as_str()], what).await?;
        Ok(Progress::Done)
    }
}

enum Looked {
    Is(Part),
    /// Time is up, and nothing was heard.
    Unknown,
}

/// The id and time of a reply. A time ahead of ours would take the conversation, and stand at the end of it, until then.
fn identify(reply: &Reply, now: Timestamp) -> Result<(MessageId, Timestamp), Refusal> {
    let (id, at) = named(reply)?;
    if at > now.plus(AHEAD) {
        let problem = "id: its time is more than five minutes ahead; set the sender's clock, and give a turn's `turn` back as it came.";
        return Err(Refusal::Invalid { problems: vec![problem.to_owned()] });
    }
    Ok((id, at))
}

fn named(reply: &Reply) -> Result<(MessageId, Timestamp), Refusal> {
    let invalid = |problem: &str| Refusal::Invalid { problems: vec![problem.to_owned()] };
    if reply.message.is_none() && reply.read.is_none() && !reply.handover {
        return Err(invalid("message: is missing; give `message`, `read` or `handover`."));
    }
    match (&reply.turn, &reply.id) {
        (Some(turn), _) => {
            let turn = MessageKey::parse(turn).map_err(|_| invalid("turn: is no turn's id; give back the turn's `turn` as it came."))?;
            Ok((MessageId::of_reply(&turn, reply.index), reply_time(turn.at, reply.index)))
        }
        (None, Some(id)) => {
            MessageId::of_job(id).map_err(|_| invalid("id: is no UUIDv7; make one, and use it again only for the same reply."))
        }
        (None, None) => Err(invalid("turn: is missing; give `turn` with `index`, or an `id` of your own.")),
    }
}

fn who(author: &Author) -> Who {
    match author {
        Author::Agent(_) => Who::Agent,
        Author::Person(_) => Who::Person,
    }
}

fn writer(author: &Author) -> Writer {
    match author {
        Author::Agent(it) => Writer::Agent(it.clone()),
        Author::Person(it) => Writer::Person(it.clone()),
    }
}

fn credentials(known: &KnownConnection) -> Credentials {
    Credentials::new(known.access_token.expose(), known.app_secret.as_ref().map(|it| it.expose().to_owned()))
}

/// How long to pause after the `n`-th definite no: 4^n seconds for a pair, as Meta advises, 2^n otherwise.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/throughput>
fn pause(class: Class, n: u32) -> Duration {
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
