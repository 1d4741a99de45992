//! Turns: one message of a customer, handed to an agent.

use domain::conversation::{Conversation, Span, Through};
use domain::ids::{AgentId, ConnectionId, MessageId, MessageKey, NumberId, TenantId, Wamid};
use domain::message::{Content, Event, Message, Profile};
use domain::status::State;
use domain::time::Timestamp;

use crate::feed::body;
use crate::jobs::{From, MediaJob, MediaTask, MissedMessage, Missing, QuotedMessage, Turn, TurnFile, V1};
use crate::queues::{Entry, Queue, QueueError, Queues};
use crate::redelivery::Retryable;
use crate::store::{Direction, MessageItem, Sorted, Store, StoreError, Writer};

/// A quote, a deletion, or what was missed is looked for among this many of the newest messages.
pub(crate) const LOOKS_BACK: usize = 200;
/// At most this many of the messages that an agent missed are told, the newest of them.
const MISSED_TOLD: usize = 20;

/// Why a turn was not handed over.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// What belongs to the turn could not be read.
    #[error("a turn could not be put together")]
    Store {
        /// The cause.
        #[from]
        source: StoreError,
    },
    /// The queue did not take it.
    #[error("a turn could not be handed over")]
    Queue {
        /// The cause.
        #[from]
        source: QueueError,
    },
}

impl Retryable for TurnError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Store { source } => source.is_retryable(),
            Self::Queue { source } => source.is_retryable(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Store { source } => source.code(),
            Self::Queue { source } => source.code(),
        }
    }
}

/// One message, and to whom it goes.
pub(crate) struct HandOver<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) agent: &'a AgentId,
    pub(crate) number: &'a NumberId,
    pub(crate) profile: &'a Profile,
    pub(crate) key: &'a MessageKey,
    pub(crate) message: &'a Message,
    pub(crate) is_late: bool,
    pub(crate) missed: Option<&'a Span>,
    pub(crate) through: Through,
    /// Since when it was owed, if it had been handed over before.
    pub(crate) owed_at: Option<Timestamp>,
}

/// Hands a message over to an agent, the way that was decided.
pub(crate) async fn hand_over(
    store: &Store,
    queues: &Queues,
    conversation: &Conversation,
    it: HandOver<'_>,
    now: Timestamp,
) -> Result<(), TurnError> {
    let Some(turn) = turn(store, conversation, &it, now).await? else { return Ok(()) };
    match it.through {
        Through::Turns => send(queues, Queue::Turns, &turn, it.key, it.owed_at).await?,
        Through::Bridge => send(queues, Queue::Bridge, &turn, it.key, it.owed_at).await?,
        Through::Media => {
            let task = MediaTask::HandOver { turn: Box::new(turn), owed_at: it.owed_at };
            let of = MediaOf { tenant: it.tenant, connection: &conversation.connection, number: it.number };
            have_media(queues, of, it.key, task, now).await?;
        }
    }
    Ok(())
}

/// Puts a turn into an agent's queue: the group is the conversation, the deduplication id the message's. What its agent's endpoint did not take
/// goes out under another one, since SQS remembers the first.
pub(crate) async fn send(
    queues: &Queues,
    queue: Queue,
    turn: &Turn,
    key: &MessageKey,
    owed_at: Option<Timestamp>,
) -> Result<(), QueueError> {
    let deduplication = Some(deduplication(key, owed_at));
    queues.send(queue, vec![Entry { body: body(turn), group: Some(turn.conversation.to_string()), deduplication }]).await
}

fn deduplication(key: &MessageKey, owed_at: Option<Timestamp>) -> String {
    match owed_at {
        Some(at) => format!("{}-{}", key.id, at.sortable()),
        None => key.id.to_string(),
    }
}

/// Whose message `media` is to see to.
pub(crate) struct MediaOf<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) connection: &'a ConnectionId,
    pub(crate) number: &'a NumberId,
}

/// Has `media` see to a message.
pub(crate) async fn have_media(
    queues: &Queues,
    of: MediaOf<'_>,
    message: &MessageKey,
    task: MediaTask,
    now: Timestamp,
) -> Result<(), QueueError> {
    let deduplication = match &task {
        MediaTask::HandOver { owed_at, .. } => deduplication(message, *owed_at),
        // Whoever wants it again within five minutes is not taken for a repeat; a second fetch lands on the first.
        MediaTask::Fetch { .. } => format!("{}-fetch-{}", message.id, now.as_millis()),
        MediaTask::Erase => format!("{}-erase", message.id),
    };
    let job = MediaJob {
        v: V1,
        tenant: of.tenant.clone(),
        connection: of.connection.clone(),
        number: of.number.clone(),
        message: message.clone(),
        queued_at: now,
        task,
    };
    let group = Some(message.conversation.to_string());
    queues.send(Queue::Media, vec![Entry { body: body(&job), group, deduplication: Some(deduplication) }]).await
}

/// The turn that a message is, as far as it is known before its file is fetched; nothing if there is nobody whom it is from.
async fn turn(store: &Store, conversation: &Conversation, it: &HandOver<'_>, now: Timestamp) -> Result<Option<Turn>, StoreError> {
    let Some(customer) = conversation.customer() else { return Ok(None) };
    let quoted = match &it.message.quoted {
        Some(quoted) => Some(quote(store, conversation, it.number, &quoted.wamid).await?),
        None => None,
    };
    let missed = match it.missed {
        Some(span) => missed(store, conversation, span).await?,
        None => Vec::new(),
    };
    Ok(Some(Turn {
        v: V1,
        turn: it.key.to_string(),
        tenant: it.tenant.clone(),
        agent: it.agent.clone(),
        connection: conversation.connection.clone(),
        conversation: conversation.id.clone(),
        number: it.number.clone(),
        customer,
        profile: it.profile.clone(),
        wamid: it.message.wamid.clone(),
        at: it.message.at,
        content: it.message.content.clone(),
        quoted,
        referral: it.message.referral.clone(),
        forwarded: it.message.forwarded,
        standing: conversation.standing(now).into(),
        late: it.is_late,
        missed,
        file: untaken(it.message),
        transcript: None,
        gathered: Vec::new(),
    }))
}

/// Why there is no file, where Meta itself could not take it: it has no id, and there is nothing to fetch.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes>
fn untaken(message: &Message) -> Option<TurnFile> {
    let media = message.content.media().filter(|it| it.id.is_none())?;
    let note = "Meta could not take this file from the customer: larger than 100 MB, or broken off. Ask for a smaller one, or a link.";
    let missing = Missing { code: "media_not_taken".to_owned(), note: note.to_owned() };
    Some(TurnFile { mime_type: media.mime_type.clone(), missing: Some(missing), ..TurnFile::default() })
}

/// The message that a customer quoted, as far as it is known here.
async fn quote(store: &Store, conversation: &Conversation, number: &NumberId, wamid: &Wamid) -> Result<QuotedMessage, StoreError> {
    let newest = store.newest_messages(conversation.everywhere(), LOOKS_BACK).await?;
    let found = newest.iter().find(|it| is_message(it, number, wamid));
    let (from, kind, text) = match found {
        Some(it) => {
            let (kind, text) = words(&it.1);
            (Some(side(&it.1)), Some(kind), text)
        }
        None => (None, None, None),
    };
    Ok(QuotedMessage { wamid: wamid.clone(), from, kind, text })
}

/// Is this the message that Meta calls by this wamid on this number?
pub(crate) fn is_message(sorted: &Sorted, number: &NumberId, wamid: &Wamid) -> bool {
    match &sorted.1 {
        MessageItem::Inbound(it) => it.number == *number && sorted.0.id == MessageId::of_inbound(number, wamid),
        MessageItem::Outbound(it) => it.number.as_ref() == Some(number) && it.attempt_of(wamid).is_some(),
        MessageItem::Body { .. } | MessageItem::File(_) | MessageItem::Shell => false,
    }
}

/// What an agent missed, oldest first: what the customer wrote, and what others said to them since; at most the newest [`MISSED_TOLD`].
async fn missed(store: &Store, conversation: &Conversation, span: &Span) -> Result<Vec<MissedMessage>, StoreError> {
    let mut all: Vec<MissedMessage> = store
        .newest_messages(conversation.everywhere(), LOOKS_BACK)
        .await?
        .iter()
        .rev()
        .filter(|it| it.0.at >= span.first.at)
        .filter(|it| match &it.1 {
            // What came later is a turn of its own.
            MessageItem::Inbound(_) => it.0.at <= span.last.at,
            // What an agent says it knows, and what was refused was never said.
            MessageItem::Outbound(it) => !matches!(it.author, Writer::Agent(_)) && it.state() != State::Failed,
            MessageItem::Body { .. } | MessageItem::File(_) | MessageItem::Shell => false,
        })
        .map(|it| {
            let (kind, text) = words(&it.1);
            MissedMessage { at: it.0.at, from: side(&it.1), kind, text }
        })
        .collect();
    let surplus = all.len().saturating_sub(MISSED_TOLD);
    all.drain(..surplus);
    Ok(all)
}

fn side(item: &MessageItem) -> From {
    match item.direction() {
        Direction::Inbound => From::Customer,
        Direction::Outbound => From::Business,
    }
}

/// What a message is, and its words if it has any.
fn words(item: &MessageItem) -> (String, Option<String>) {
    match item {
        MessageItem::Inbound(it) => match it.event() {
            Some(Event::Message(it) | Event::Standby(it)) => (it.content.kind().to_owned(), text(&it.content)),
            Some(_) => ("note".to_owned(), None),
            None => ("erased".to_owned(), None),
        },
        MessageItem::Outbound(it) => {
            let content: Option<serde_json::Value> = serde_json::from_str(it.content()).ok();
            let member = |name: &str| content.as_ref().and_then(|it| it.get(name)).and_then(|it| it.as_str()).map(str::to_owned);
            (it.kind.clone(), member("text").or_else(|| member("body")).or_else(|| member("caption")))
        }
        MessageItem::Body { .. } | MessageItem::File(_) | MessageItem::Shell => (String::new(), None),
    }
}

fn text(content: &Content) -> Option<String> {
    match content {
        Content::Text { text } | Content::Button { text, .. } => Some(text.clone()),
        Content::ButtonReply { title, .. } | Content::ListReply { title, .. } => Some(title.clone()),
        Content::FlowReply { body, .. } => body.clone(),
        Content::Image(it) | Content::Video(it) | Content::Audio(it) | Content::Document(it) | Content::Sticker(it) => it.caption.clone(),
        Content::ContactShared { .. } | Content::Unsupported { .. } => None,
    }
}
