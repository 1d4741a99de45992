//! Owed turns: what could not be handed over when it came, and is handed over, in order, once it can be.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use domain::conversation::{Conversation, LATE_AFTER, Span, TURN_WITHIN, Through};
use domain::ids::{AgentId, ConnectionId, ConversationId, MessageId, MessageKey, NumberId, TenantId};
use domain::message::{Event, Message};
use domain::time::Timestamp;

use crate::jobs::{GatheredMessage, Turn};
use crate::queues::Queues;
use crate::redelivery::Retryable;
use crate::store::{Attachment, HandedOver, MessageItem, Sorted, Store, StoreError};
use crate::turns::{HandOver, TurnError, hand_over};

/// A listed conversation without a note is taken off the list after this long: an inbound may be about to write its note.
const LISTED_FOR: Duration = Duration::from_mins(1);
/// At most this many conversations are looked at in one walk.
const CONVERSATIONS: usize = 100;
/// At most this many messages of a conversation are gone through at once.
const MESSAGES: usize = 50;

/// What a walk over the owed turns did. While something is left or has failed, the caller walks again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Walked {
    /// Conversations that were looked at.
    pub conversations: usize,
    /// Turns that were handed over.
    pub turns: usize,
    /// Conversations that the next walk must look at again, or for the first time; those that failed not among them.
    pub left: usize,
    /// Conversations that could not be handed over: they are listed still, behind the others.
    pub failed: usize,
}

/// Hands over what is owed on a connection that runs again, slice by slice: of each of the conversations that were listed first, the first
/// of its messages, in order.
///
/// It may run beside inbound messages and beside itself: a turn that is handed over twice has the same id. A conversation that fails harms
/// no other.
///
/// # Errors
/// [`StoreError`]: the list could not be read.
pub async fn walk(
    store: &Store,
    queues: &Queues,
    tenant: &TenantId,
    connection: &ConnectionId,
    now: Timestamp,
) -> Result<Walked, StoreError> {
    if let Some(agent) = store.inbound_agent(connection).await?
        && let Some(it) = store.attachment(connection, &agent).await?
        && it.down_since.is_some()
    {
        // What is owed to it is handed over when its endpoint is well. While that is being told, this is waited for.
        return Ok(Walked { left: usize::from(it.up_since.is_some()), ..Walked::default() });
    }
    let mut listed = store.listed_owed(connection).await?;
    // What is not done is listed anew: so each has its turn, however many of them fail.
    listed.sort_by_key(|it| it.1);
    let mut walked = Walked { left: listed.len().saturating_sub(CONVERSATIONS), ..Walked::default() };
    for (id, listed_at) in listed.into_iter().take(CONVERSATIONS) {
        walked.conversations += 1;
        match look_at(store, queues, tenant, connection, &id, listed_at, now).await {
            Ok(it) => {
                walked.turns += it.turns;
                walked.left += usize::from(!it.is_done);
            }
            Err(error) => {
                let code = error.code();
                tracing::warn!(connection.id = %connection, conversation.id = %id, code, "what is owed in conversation `{id}` could not be handed over: {code}");
                walked.failed += 1;
                // If this fails too, it is merely looked at first again.
                drop(store.list_owed(connection, &id, now).await);
            }
        }
    }
    Ok(walked)
}

/// What came of looking at one conversation.
struct Looked {
    turns: usize,
    is_done: bool,
}

async fn look_at(
    store: &Store,
    queues: &Queues,
    tenant: &TenantId,
    connection: &ConnectionId,
    id: &ConversationId,
    listed_at: Timestamp,
    now: Timestamp,
) -> Result<Looked, TurnError> {
    let noted = store.conversation(id).await?.and_then(|it| Some((it.conversation.owed.clone()?, it)));
    let Some((span, mut stored)) = noted else {
        let is_done = now.since(listed_at) >= LISTED_FOR;
        if is_done {
            store.unlist_owed(connection, id, listed_at).await?;
        }
        return Ok(Looked { turns: 0, is_done });
    };
    let (mut turns, mut is_whole) = (0, true);
    if stored.conversation.has_person(now) {
        stored.conversation.owed_is_missed();
    } else {
        let slice = slice(store, &stored.conversation, &span, now).await?;
        let handed = hand_over_slice(store, queues, tenant, &stored.conversation, slice, now).await?;
        (turns, is_whole) = (handed.turns, handed.is_whole);
        handed.settle(&mut stored.conversation);
    }
    // If it has moved, something more may be owed: the next walk sees it again.
    let is_kept = is_whole && store.keep_conversation(&mut stored).await?;
    let is_done = is_kept && stored.conversation.owed.is_none();
    if !is_done {
        store.list_owed(connection, id, now).await?;
    }
    Ok(Looked { turns, is_done })
}

/// The first messages of what is owed.
pub(crate) struct Slice {
    messages: Vec<Sorted>,
    /// The first one behind them.
    next: Option<MessageKey>,
    /// Are the ends of the span there, as far as it reaches? A message whose put is still to come is not.
    is_whole: bool,
}

impl Slice {
    /// Is more owed than this?
    pub(crate) fn has_more(&self) -> bool {
        self.next.is_some()
    }

    /// Is a file among it? What is handed over after it must not overtake it.
    pub(crate) fn has_file(&self) -> bool {
        self.messages.iter().filter_map(|it| owed_message(&it.1)).any(|it| has_file(&it))
    }
}

/// Reads the first messages of what is owed.
pub(crate) async fn slice(store: &Store, conversation: &Conversation, span: &Span, now: Timestamp) -> Result<Slice, StoreError> {
    let mut messages = store.first_messages(conversation.everywhere(), span, MESSAGES + 1).await?;
    let next = if messages.len() > MESSAGES { messages.pop().map(|it| it.0) } else { None };
    // What is not there by the time at which it would be no turn any more is given up.
    let is_there = |end: &MessageKey| messages.iter().any(|it: &Sorted| it.0.id == end.id) || now.since(end.at) > TURN_WITHIN;
    let is_whole = is_there(&span.first) && (next.is_some() || is_there(&span.last));
    Ok(Slice { messages, next, is_whole })
}

/// What came of handing over a slice.
pub(crate) struct Handed {
    turns: usize,
    next: Option<MessageKey>,
    /// What no agent takes any more.
    unheard: Vec<MessageKey>,
    /// The last of them that went by way of its file, or behind one.
    in_media: Option<MessageKey>,
    /// See [`Slice`].
    pub(crate) is_whole: bool,
}

impl Handed {
    /// Moves the note of what is owed behind these turns, and takes away that of what the first of them named as missed.
    pub(crate) fn settle(&self, conversation: &mut Conversation) {
        conversation.owed_from(self.next.clone());
        if self.turns > 0 {
            conversation.missed = None;
        }
        // What was decided since goes behind it, by the same way.
        conversation.in_media = conversation.in_media.take().max(self.in_media.clone());
        for it in &self.unheard {
            conversation.miss(it);
        }
    }
}

/// Hands over the owed messages of a slice, in order, each to the agent that its number has now; the first turn names what the agent missed
/// before.
pub(crate) async fn hand_over_slice(
    store: &Store,
    queues: &Queues,
    tenant: &TenantId,
    conversation: &Conversation,
    slice: Slice,
    now: Timestamp,
) -> Result<Handed, TurnError> {
    let mut agents: BTreeMap<&NumberId, Option<Attachment>> = BTreeMap::new();
    let (mut turns, mut unheard, mut is_whole) = (0, Vec::new(), slice.is_whole);
    let mut in_media = conversation.in_media.clone();
    let profile = conversation.profile.as_ref().map(|it| it.profile.clone()).unwrap_or_default();
    for (key, item) in &slice.messages {
        let (MessageItem::Inbound(inbound), Some(message)) = (item, owed_message(item)) else { continue };
        let agent = match agents.entry(&inbound.number) {
            Entry::Occupied(it) => it.into_mut(),
            Entry::Vacant(it) => it.insert(agent_of(store, &conversation.connection, &inbound.number).await?),
        };
        let Some(agent) = agent else {
            unheard.push(key.clone());
            continue;
        };
        if agent.down_since.is_some() {
            // Its endpoint takes nothing yet: the rest stays owed.
            is_whole = false;
            break;
        }
        if has_file(&message) || in_media.is_some() {
            in_media = Some(key.clone());
        }
        let through = match (&in_media, &agent.endpoint) {
            (Some(_), _) => Through::Media,
            (None, Some(_)) => Through::Bridge,
            (None, None) => Through::Turns,
        };
        let it = HandOver {
            tenant,
            agent: &agent.agent,
            number: &inbound.number,
            profile: &profile,
            key,
            message: &message,
            is_late: now.since(message.at) > LATE_AFTER,
            missed: conversation.missed.as_ref().filter(|_| turns == 0),
            through,
            owed_at: inbound.owed_at,
        };
        hand_over(store, queues, conversation, it, now).await?;
        turns += 1;
    }
    Ok(Handed { turns, next: slice.next, unheard, in_media, is_whole })
}

/// Messages of a turn that was to be handed over, and cannot be now, are owed, each by itself. False if one of them is not kept yet: it is to be
/// tried again.
///
/// # Errors
/// [`StoreError`].
pub(crate) async fn owe(
    store: &Store,
    conversation: &Conversation,
    agent: &AgentId,
    messages: &[MessageKey],
    now: Timestamp,
) -> Result<bool, StoreError> {
    for it in messages {
        if !store.owe(it, agent, now).await? {
            return Ok(false);
        }
    }
    store.list_owed(&conversation.connection, &conversation.id, now).await?;
    store.change_conversation(&conversation.id, |conversation| messages.iter().for_each(|it| conversation.owe(it, now))).await?;
    Ok(true)
}

/// Of the messages that a turn is made of, those that the customer did not delete, as they lie in the conversation's parts. One that is not
/// kept yet is among them.
///
/// # Errors
/// [`StoreError`].
pub(crate) async fn left_of(store: &Store, conversation: &Conversation, turn: &Turn) -> Result<Vec<MessageKey>, StoreError> {
    let mut left = Vec::new();
    for key in messages_of(turn) {
        match store.message(conversation.everywhere(), key.at, &key.id).await? {
            Some((_, item)) if is_deleted(&item) => {}
            Some((key, _)) => left.push(key),
            None => left.push(key),
        }
    }
    Ok(left)
}

/// Did the customer delete the message?
pub(crate) fn is_deleted(item: &MessageItem) -> bool {
    match item {
        MessageItem::Inbound(it) => it.erased,
        MessageItem::Shell => true,
        MessageItem::Outbound(_) | MessageItem::Body { .. } | MessageItem::File(_) => false,
    }
}

/// The messages that a turn is made of, in their order; none if it names none.
pub(crate) fn messages_of(turn: &Turn) -> Vec<MessageKey> {
    let Ok(first) = MessageKey::parse(&turn.turn) else { return Vec::new() };
    let of = |it: &GatheredMessage| MessageId::of_inbound(&turn.number, &it.wamid);
    let behind = turn.gathered.iter().skip(1).map(|it| MessageKey { at: it.at, id: of(it), ..first.clone() });
    std::iter::once(first.clone()).chain(behind).collect()
}

/// Must a turn that was queued at `queued_at` wait, since something before it is owed? What has become owed since then is queued behind it, if
/// it is handed over already: it must wait for that too.
///
/// # Errors
/// [`StoreError`].
pub(crate) async fn must_wait(
    store: &Store,
    conversation: &Conversation,
    key: &MessageKey,
    item: Option<&MessageItem>,
    queued_at: Timestamp,
) -> Result<bool, StoreError> {
    if conversation.owes_before(key) && !item.is_some_and(is_owed) {
        return Ok(true);
    }
    let Some(back) = conversation.turned_back.filter(|it| it.last >= queued_at && it.first <= key.at) else { return Ok(false) };
    let before = store.messages(conversation.everywhere(), back.first, key.at).await?;
    let is_before = |other: &MessageKey| (other.at, &other.id) < (key.at, &key.id);
    // What became owed together with it, or before, is queued before it too.
    let own = item.and_then(owed_at);
    Ok(before.iter().any(|(other, item)| is_before(other) && owed_at(item) >= Some(queued_at) && owed_at(item) > own))
}

/// Is the turn of this message owed?
pub(crate) fn is_owed(item: &MessageItem) -> bool {
    matches!(item, MessageItem::Inbound(it) if matches!(it.handed, HandedOver::Owed(_)))
}

fn owed_at(item: &MessageItem) -> Option<Timestamp> {
    match item {
        MessageItem::Inbound(it) => it.owed_at,
        MessageItem::Outbound(_) | MessageItem::Body { .. } | MessageItem::File(_) | MessageItem::Shell => None,
    }
}

/// The message that an item is, if its turn is owed.
fn owed_message(item: &MessageItem) -> Option<Message> {
    let MessageItem::Inbound(inbound) = item else { return None };
    match (&inbound.handed, inbound.event()) {
        (HandedOver::Owed(_), Some(Event::Message(it))) => Some(it),
        _ => None,
    }
}

fn has_file(message: &Message) -> bool {
    message.content.media().is_some_and(|it| it.id.is_some())
}

/// The agent that takes the turns of a number now, while the number is the connection's.
async fn agent_of(store: &Store, connection: &ConnectionId, number: &NumberId) -> Result<Option<Attachment>, StoreError> {
    let agent = store.number(number, true).await?.filter(|it| it.connection == *connection).and_then(|it| it.agent);
    match agent {
        Some(agent) => store.attachment(connection, &agent).await,
        None => Ok(None),
    }
}
