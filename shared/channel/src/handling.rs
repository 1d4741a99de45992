//! Who answers: a person takes a conversation, and gives it back.

use domain::conversation::{Answerer, Conversation};
use domain::ids::{ConnectionId, ConversationId, TenantId};
use domain::time::Timestamp;

use crate::SendError;
use crate::feed;
use crate::jobs::Happened;
use crate::queues::{QueueError, Queues};
use crate::store::Store;

/// A person takes the conversation, as of `at`, unless a later word was said. The conversation as it stands; `None` if there is none.
///
/// # Errors
/// [`SendError`].
pub async fn take(
    store: &Store,
    queues: &Queues,
    tenant: &TenantId,
    id: &ConversationId,
    at: Timestamp,
) -> Result<Option<Conversation>, SendError> {
    handle(store, queues, tenant, id, Answerer::Person, at).await
}

/// The conversation goes back to the agent, as of `at`, unless a later word was said. The conversation as it stands; `None` if there is none.
///
/// # Errors
/// [`SendError`].
pub async fn release(
    store: &Store,
    queues: &Queues,
    tenant: &TenantId,
    id: &ConversationId,
    at: Timestamp,
) -> Result<Option<Conversation>, SendError> {
    handle(store, queues, tenant, id, Answerer::Agent, at).await
}

async fn handle(
    store: &Store,
    queues: &Queues,
    tenant: &TenantId,
    id: &ConversationId,
    by: Answerer,
    at: Timestamp,
) -> Result<Option<Conversation>, SendError> {
    let change = |it: &mut Conversation| match by {
        Answerer::Person => it.take(at),
        Answerer::Agent => it.release(at),
    };
    let Some(conversation) = store.change_conversation(id, change).await? else { return Ok(None) };
    // Told again on a repeat, as the same event; what a later word has overtaken is not told.
    if conversation.handling.is_some_and(|it| it.by == by && it.at == at) {
        tell(queues, tenant, &conversation.connection, &conversation.id, by, at).await?;
    }
    Ok(Some(conversation))
}

/// Tells the platform who answers.
pub(crate) async fn tell(
    queues: &Queues,
    tenant: &TenantId,
    connection: &ConnectionId,
    conversation: &ConversationId,
    by: Answerer,
    at: Timestamp,
) -> Result<(), QueueError> {
    let name = match by {
        Answerer::Agent => "agent",
        Answerer::Person => "person",
    };
    let (id, time) = (conversation.to_string(), at.sortable());
    let what = Happened::Handling { conversation: conversation.clone(), by };
    feed::tell(queues, tenant, connection, at, &["handling", id.as_str(), time.as_str(), name], what).await
}
