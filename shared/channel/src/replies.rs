//! A free-form reply of an agent or a person: sent if the window and the one who answers allow it, once.
//!
//! Meta has no idempotency key. So a reply is claimed before it is sent, our key travels with it, and what may have been sent is looked for
//! before it is sent again, once, marked as the second attempt.

use std::borrow::Cow;
use std::time::Duration;

use domain::connection::Sending;
use domain::conversation::{Author as Who, Conversation};
use domain::customer::Customer;
use domain::ids::{MessageId, MessageKey, NumberId, reply_time};
use domain::outgoing::{Outgoing, Source};
use domain::refusal::Refusal;
use domain::status::{Fault, Phase};
use domain::time::Timestamp;
use meta::fault::Class;
use meta::graph::{Graph, Sent, Unread};
use meta::outgoing::{check, request};

use crate::blobs::Blobs;
use crate::connections;
use crate::counts::Counts;
use crate::directory::{Directory, KnownConnection};
use crate::endings;
use crate::feed::{self, body};
use crate::handling;
use crate::jobs::{Author, Happened, Reply};
use crate::opaque;
use crate::outbox::{AHEAD, Draft, Fence, Looked, Outbox, Outcome, SendError, credentials, pause, recipient, writer};
use crate::queues::Queues;
use crate::redelivery::{Delivery, Progress, Retryable};
use crate::store::{Claim, Outbound, Store};
use crate::uploads::{self, Taken, Uploads};

/// After an unknown outcome its status is looked for so long after the send; after the last of these the reply goes out once more.
const LOOKS_AFTER: [Duration; 4] = [Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(30), Duration::from_mins(1)];
/// A file that Meta has trouble with is taken there so often, which is half an hour: what is behind it waits.
const UPLOAD_TRIES: u32 = 12;
/// The parts of a long text go out one after the other for this long; the rest goes with the next delivery, well within the function's time.
const PARTS_WITHIN: Duration = Duration::from_secs(4);

/// Meta's codes that a file which it does not know can be meant by: a parameter, its value, and what became of the file.
const OF_FILES: [u32; 4] = [100, 131_009, 131_052, 131_053];

/// Why a reply did not end.
#[derive(Debug, thiserror::Error)]
pub enum ReplyError {
    /// Nobody knows the connection that the reply names: there is nobody to tell.
    #[error("the reply names a connection that does not exist")]
    NoConnection,
    /// A part of it did not end.
    #[error("a reply could not be sent")]
    Send {
        /// The cause.
        #[source]
        source: SendError,
    },
}

impl<E: Into<SendError>> From<E> for ReplyError {
    fn from(source: E) -> Self {
        Self::Send { source: source.into() }
    }
}

impl Retryable for ReplyError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::NoConnection => false,
            Self::Send { source } => source.is_retryable(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NoConnection => "no_connection",
            Self::Send { source } => source.code(),
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
    /// Where files lie.
    pub blobs: &'a Blobs,
    /// Meta.
    pub graph: &'a Graph,
    /// What is counted.
    pub counts: &'a Counts,
    /// The time, read before each part and each attempt: a send takes seconds.
    pub clock: &'a dyn Fn() -> Timestamp,
}

/// One part, and what is needed to send it.
struct Part<'a> {
    reply: &'a Reply,
    content: &'a Outgoing,
    /// May it be sent at all, while the connection is as it is?
    sending: Sending,
    draft: Draft<'a>,
    /// How often the job was delivered.
    receive_count: u32,
}

/// What goes out, from where and to whom.
struct Addressed<'a> {
    number: NumberId,
    to: Customer,
    /// With Meta's id in place of a file of ours.
    content: Cow<'a, Outgoing>,
    /// The hash under which its file is remembered, if it was taken to Meta before.
    remembered: Option<String>,
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
            Some(message) => self.send_parts(&known, reply, conversation, message, (id, at), (sending, refusal), delivery, started).await?,
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
        (sending, mut refusal): (Sending, Option<Refusal>),
        delivery: &Delivery,
        started: Timestamp,
    ) -> Result<Progress, ReplyError> {
        for (index, content) in message.clone().parts().into_iter().enumerate() {
            if index > 0 {
                if (self.clock)().since(started) > PARTS_WITHIN {
                    return Ok(Progress::Wait(Duration::ZERO));
                }
                // A person may have taken it, or the window may have ended, between two parts.
                conversation = self.store.conversation(&conversation.id).await?.map_or(conversation, |it| it.conversation);
            }
            let key = self.outbox().key_of(&conversation.id, &conversation.parts, at, &id.part(index)).await?;
            let content = &uploads::put_down(self.blobs, &known.connection.id, &key, content).await?;
            let mut message = Outbound::draft(known.connection.id.clone(), content.kind(), body(content), writer(&reply.author));
            message.resends = reply.resends.as_deref().and_then(|it| MessageKey::parse(it).ok());
            let draft = Draft { known, key, message, looks_after: &LOOKS_AFTER };
            let part = Part { reply, content, sending, draft, receive_count: delivery.receive_count };
            match self.send_part(&part, &conversation, refusal.clone()).await? {
                Outcome::Sent => {}
                Outcome::Ended => refusal = refusal.or(Some(Refusal::PartFailed)),
                Outcome::Wait(again) => return Ok(Progress::Wait(again)),
            }
        }
        Ok(Progress::Done)
    }

    async fn send_part(&self, part: &Part<'_>, conversation: &Conversation, refusal: Option<Refusal>) -> Result<Outcome, ReplyError> {
        let (outbox, draft, now) = (self.outbox(), &part.draft, (self.clock)());
        let refusal = match (refusal, part.sending) {
            (Some(it), _) => Some(it),
            (None, Sending::Refused) => Some(Refusal::NotRunning),
            (None, Sending::Waits) => return Ok(outbox.wait_for_connection(draft, now).await?),
            (None, Sending::Allowed) => None,
        };
        let admitted = match refusal {
            Some(it) => Err(it),
            None => conversation
                .admit_reply(who(&part.reply.author), &draft.known.connection.numbers, now)
                .and_then(|number| Ok((number, conversation.customer().ok_or(Refusal::NoAddress)?))),
        };
        let (number, to) = match admitted {
            Ok(it) => it,
            Err(refusal) => return Ok(outbox.refuse(draft, &refusal, &endings::of_refusal(&refusal), now).await?),
        };
        let it = match self.addressed(part, number, to, now).await? {
            Ok(it) => it,
            Err(outcome) => return Ok(outcome),
        };
        // Taking a file to Meta takes its time.
        let now = (self.clock)();
        let (claimed, kept_for) =
            (draft.message.clone().claimed(it.number.clone(), it.to.clone(), now), draft.known.connection.messages_kept_for());
        let existing = match self.store.claim(&draft.key, claimed, kept_for).await? {
            Claim::Ours => return self.send(part, &it, 1, 0, now).await,
            Claim::Existing(it) => it,
        };
        match existing.phase {
            Phase::Released => {
                let attempt = existing.attempt.max(1);
                if self.store.reclaim(&draft.key, attempt, &it.number, &it.to, now).await? {
                    self.send(part, &it, attempt, existing.throttled, now).await
                } else {
                    Ok(Outcome::Wait(Duration::from_secs(1)))
                }
            }
            Phase::Sending => match outbox.look(draft, &existing, now).await? {
                Looked::Is(outcome) => Ok(outcome),
                Looked::Unknown if existing.attempt == 1 => {
                    if self.store.claim_second(&draft.key, &it.to, now).await? {
                        self.counts.one("send.second_attempt");
                        self.send(part, &it, 2, 0, now).await
                    } else {
                        Ok(Outcome::Wait(Duration::from_secs(1)))
                    }
                }
                Looked::Unknown => Ok(outbox.give_up(draft, now).await?),
            },
            Phase::Accepted | Phase::Held | Phase::Failed | Phase::Unconfirmed => Ok(outbox.known(draft, &existing).await?),
        }
    }

    /// What goes out of a part, with its file at Meta; or what becomes of the part without it.
    async fn addressed<'a>(
        &self,
        part: &'a Part<'_>,
        number: NumberId,
        to: Customer,
        now: Timestamp,
    ) -> Result<Result<Addressed<'a>, Outcome>, ReplyError> {
        let (outbox, draft, Part { content, .. }) = (self.outbox(), &part.draft, part);
        let refused = async |refusal: Refusal| Ok(Err(outbox.refuse(draft, &refusal, &endings::of_refusal(&refusal), now).await?));
        let file = match uploads::find(self.blobs, &draft.known.connection.id, content).await? {
            Ok(Some(it)) => it,
            Ok(None) => return Ok(Ok(Addressed { number, to, content: Cow::Borrowed(*content), remembered: None })),
            Err(refusal) => return refused(refusal).await,
        };
        let Self { store, blobs, directory, graph, counts, .. } = *self;
        match (Uploads { store, blobs, directory, graph, counts }).take(draft.known, &number, &file, now).await? {
            Taken::There { id, remembered } => {
                let content = Cow::Owned((*content).clone().with_source(Source::Id(id)));
                Ok(Ok(Addressed { number, to, content, remembered }))
            }
            Taken::Gone => refused(Refusal::FileNotFound).await,
            Taken::Not { unread, fresh } => self.not_taken(part, fresh.as_deref().unwrap_or(draft.known), &unread, &number).await.map(Err),
        }
    }

    /// Meta did not take a file. Nothing was sent to the customer.
    async fn not_taken(&self, part: &Part<'_>, known: &KnownConnection, unread: &Unread, number: &NumberId) -> Result<Outcome, ReplyError> {
        let (outbox, draft, now) = (self.outbox(), &part.draft, (self.clock)());
        let Unread { class, fault, http } = unread;
        outbox.refused_by_meta(draft, fault, *http);
        match class {
            Class::NotSent | Class::Pair => return Ok(Outcome::Wait(pause(*class, part.receive_count))),
            Class::Unknown if part.receive_count < UPLOAD_TRIES => return Ok(Outcome::Wait(pause(*class, part.receive_count))),
            Class::Credentials | Class::Account => return Ok(outbox.connection_failed(known, *class, fault).await?),
            Class::Number => connections::mark_number(self.store, self.queues, &known.connection, number, fault, now, now).await?,
            Class::Unknown
            | Class::Window
            | Class::OptedOut
            | Class::Permanent
            | Class::Later
            | Class::MarketingLimit
            | Class::TemplateMissing
            | Class::TemplatePaused
            | Class::TemplateDisabled
            | Class::Fix => {}
        }
        // Nothing reached the customer, whatever Meta made of it: the same may be sent again.
        let class = if *class == Class::Unknown { Class::Later } else { *class };
        Ok(outbox.end_unsent(draft, &endings::of_fault(class, fault, now), now).await?)
    }

    async fn send(
        &self,
        part: &Part<'_>,
        it: &Addressed<'_>,
        attempt: u8,
        throttled: u32,
        claimed_at: Timestamp,
    ) -> Result<Outcome, ReplyError> {
        let (outbox, draft) = (self.outbox(), &part.draft);
        // A long text quotes once, with its first part.
        let quote = part.reply.quote.as_ref().filter(|_| !draft.key.id.as_str().contains('.'));
        let request = request(&recipient(&it.to), &it.content, quote, &opaque::print(&draft.key, attempt));
        let posted = outbox.attempt(draft, async |known| self.graph.send(&it.number, &credentials(known), &request).await).await?;
        let known = posted.fresh.as_deref().unwrap_or(draft.known);
        match posted.sent {
            Sent::Accepted { wamid, customer, held } => Ok(outbox.accepted(draft, attempt, &wamid, customer, held).await?),
            Sent::Unknown { why } => Ok(outbox.unknown(draft, why)),
            Sent::Refused { class, fault, http } => {
                outbox.refused_by_meta(draft, &fault, http);
                let fence = Fence { attempt, claimed_at };
                self.refused_by_meta(draft, known, class, &fault, it, throttled, fence).await
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what Meta refused, and what it refused it to; a struct for it would be used once")]
    async fn refused_by_meta(
        &self,
        draft: &Draft<'_>,
        known: &KnownConnection,
        class: Class,
        fault: &Fault,
        it: &Addressed<'_>,
        throttled: u32,
        fence: Fence,
    ) -> Result<Outcome, ReplyError> {
        let (outbox, now, number) = (self.outbox(), (self.clock)(), &it.number);
        if let (Class::Permanent, Some(hash)) = (class, it.remembered.as_ref().filter(|_| OF_FILES.contains(&fault.code))) {
            // Meta may have forgotten the file before its time: it is taken there once more.
            self.store.forget_file_at_meta(number, hash).await?;
            self.store.released(&draft.key, fence, false).await?;
            return Ok(Outcome::Wait(Duration::ZERO));
        }
        match class {
            Class::NotSent | Class::Pair => return Ok(outbox.throttled(draft, class, throttled, fence).await?),
            Class::Unknown => return Ok(outbox.unknown(draft, "Meta had trouble with the request")),
            Class::Credentials | Class::Account => return Ok(outbox.connection_refused(draft, known, class, fault, fence).await?),
            Class::Window => {
                self.store.change_conversation(&draft.key.conversation, |it| it.refused(number, fence.claimed_at)).await?;
            }
            Class::Number => connections::mark_number(self.store, self.queues, &known.connection, number, fault, now, now).await?,
            Class::OptedOut => outbox.opted_out(draft, now).await?,
            Class::Permanent
            | Class::Later
            | Class::MarketingLimit
            | Class::TemplateMissing
            | Class::TemplatePaused
            | Class::TemplateDisabled
            | Class::Fix => {}
        }
        Ok(outbox.fail(draft, endings::of_fault(class, fault, now), fence).await?)
    }

    fn outbox(&self) -> Outbox<'_> {
        Outbox { store: self.store, queues: self.queues, directory: self.directory, counts: self.counts, clock: self.clock }
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
            conversation: Some(reply.conversation.clone()),
            message: name,
            code: refusal.code().to_owned(),
            note: refusal.note(),
            closed_at: None,
            retry: refusal.retry(),
            campaign: None,
        };
        let job = body(reply);
        feed::tell(self.queues, &known.connection.tenant, &known.connection.id, now, &["unkept", job.as_str()], what).await?;
        Ok(Progress::Done)
    }
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
