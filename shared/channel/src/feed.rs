//! The feed: what the platform must know, told on the queue `events`.

use domain::ids::{ConnectionId, ConversationId, TenantId, hash};
use domain::message::Preference;
use domain::time::Timestamp;

use crate::jobs::{FeedEvent, Happened, V1};
use crate::queues::{Entry, Queue, QueueError, Queues};

/// Tells the platform what happened. `parts` make the event's id: the same parts, the same event, however often it is told.
///
/// # Errors
/// [`QueueError`]: then it was not told.
pub(crate) async fn tell(
    queues: &Queues,
    tenant: &TenantId,
    connection: &ConnectionId,
    at: Timestamp,
    parts: &[&str],
    what: Happened,
) -> Result<(), QueueError> {
    let mut all = vec!["event", connection.as_str()];
    all.extend(parts);
    let event = FeedEvent { v: V1, id: hash(&all), at, tenant: tenant.clone(), connection: connection.clone(), what };
    queues.send(Queue::Events, vec![Entry { body: body(&event), group: None, deduplication: None }]).await
}

/// Tells the platform a customer's word on marketing.
///
/// # Errors
/// [`QueueError`]: then it was not told.
pub(crate) async fn tell_preference(
    queues: &Queues,
    tenant: &TenantId,
    connection: &ConnectionId,
    conversation: &ConversationId,
    preference: Preference,
    at: Timestamp,
) -> Result<(), QueueError> {
    let (id, time) = (conversation.to_string(), at.sortable());
    // Two words of one second are two events.
    let word = match preference {
        Preference::Stop => "stop",
        Preference::Resume => "resume",
    };
    let what = Happened::OptOut { conversation: conversation.clone(), preference };
    tell(queues, tenant, connection, at, &["opt_out", id.as_str(), time.as_str(), word], what).await
}

/// A job as the body of a message.
///
/// # Panics
/// Never: jobs have text keys and no failing parts.
pub(crate) fn body(job: &impl serde::Serialize) -> String {
    serde_json::to_string(job).expect("a job is made of what JSON can say")
}
