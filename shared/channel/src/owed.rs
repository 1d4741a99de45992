//! Owed turns: what could not be handed over when it came, and is handed over, in order, once it can be.

use domain::conversation::{Conversation, LATE_AFTER, Span};
use domain::ids::{ConnectionId, TenantId};
use domain::message::{Event, Profile};
use domain::time::Timestamp;

use crate::queues::Queues;
use crate::store::{HandedOver, MessageItem, Sorted, Store, StoreError};
use crate::turns::{HandOver, TurnError, hand_over};

/// A listed conversation without a note is taken off the list after this long: an inbound may be about to write its note.
const LISTED_FOR: std::time::Duration = std::time::Duration::from_mins(1);

/// What a walk over the owed turns did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Walked {
    /// Conversations that were listed.
    pub conversations: usize,
    /// Turns that were handed over.
    pub turns: usize,
    /// Conversations that the next walk must look at again.
    pub left: usize,
}

/// Hands over what is owed on a connection that runs again, conversation by conversation, each in order.
///
/// It may run beside inbound messages and beside itself: a turn that is handed over twice has the same id.
///
/// # Errors
/// [`TurnError`]: then the rest is owed still.
pub async fn walk(
    store: &Store,
    queues: &Queues,
    tenant: &TenantId,
    connection: &ConnectionId,
    now: Timestamp,
) -> Result<Walked, TurnError> {
    let mut walked = Walked::default();
    for (id, listed_at) in store.listed_owed(connection).await? {
        walked.conversations += 1;
        let Some(mut stored) = store.conversation(&id).await? else {
            walked.left += usize::from(!unlist(store, connection, &id, listed_at, now).await?);
            continue;
        };
        let Some(span) = stored.conversation.owed.clone() else {
            walked.left += usize::from(!unlist(store, connection, &id, listed_at, now).await?);
            continue;
        };
        let mut is_whole = true;
        if stored.conversation.has_person(now) {
            stored.conversation.owed_is_missed();
        } else {
            let handed = hand_over_span(store, queues, tenant, &stored.conversation, &span, now).await?;
            walked.turns += handed.turns;
            is_whole = handed.is_whole;
            handed.settle(&mut stored.conversation);
        }
        // If it has moved, something more may be owed: the next walk sees it again.
        if !is_whole || !store.keep_conversation(&mut stored).await? {
            walked.left += 1;
        }
    }
    Ok(walked)
}

async fn unlist(
    store: &Store,
    connection: &ConnectionId,
    id: &domain::ids::ConversationId,
    listed_at: Timestamp,
    now: Timestamp,
) -> Result<bool, StoreError> {
    if now.since(listed_at) < LISTED_FOR {
        return Ok(false);
    }
    store.unlist_owed(connection, id, listed_at).await?;
    Ok(true)
}

/// What came of handing over a span.
pub(crate) struct Handed {
    turns: usize,
    /// Were both ends of the span there? A message whose put is still to come is not.
    pub(crate) is_whole: bool,
}

impl Handed {
    /// Takes away the note of what was owed, and of what the first of these turns named as missed.
    pub(crate) fn settle(&self, conversation: &mut Conversation) {
        conversation.owed = None;
        if self.turns > 0 {
            conversation.missed = None;
        }
    }
}

/// Hands over the owed messages of a span, in order; the first turn names what the agent missed before.
pub(crate) async fn hand_over_span(
    store: &Store,
    queues: &Queues,
    tenant: &TenantId,
    conversation: &Conversation,
    span: &Span,
    now: Timestamp,
) -> Result<Handed, TurnError> {
    let found = store.messages(conversation.everywhere(), span.first.at, span.last.at).await?;
    let mut turns = 0;
    for (key, item) in &found {
        let MessageItem::Inbound(inbound) = item else { continue };
        let HandedOver::Owed(agent) = &inbound.handed else { continue };
        let Some(Event::Message(message)) = inbound.event() else { continue };
        let it = HandOver {
            tenant,
            agent,
            number: &inbound.number,
            profile: &Profile::default(),
            key,
            message: &message,
            is_late: now.since(message.at) > LATE_AFTER,
            missed: conversation.missed.as_ref().filter(|_| turns == 0),
        };
        hand_over(store, queues, conversation, it, now).await?;
        turns += 1;
    }
    let is_there = |end: &domain::ids::MessageKey| found.iter().any(|it: &Sorted| it.0.id == end.id);
    Ok(Handed { turns, is_whole: is_there(&span.first) && is_there(&span.last) })
}
