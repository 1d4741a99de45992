//! Erasing a customer's data: at once for whoever looks, within minutes in the tables, and so that nothing of Meta's repeats brings it back.
//!
//! First the conversation is listed as being erased, then its addresses are marked, then its state becomes an empty shell: from there on it
//! is gone for every use-case. What is queued for it finds no conversation and is refused (a reply, a template) or dropped (what the customer
//! or Meta said before). What comes later begins a new conversation. Then its items are wiped, slice by slice, those of its parts too; and
//! once more when no function runs any longer that had read the conversation before. Whoever was not answered asks again; the schedule goes
//! on with what is listed too, whether the connection runs or not.
//!
//! Not in reach: a turn that lies in `turns.fifo` and what an agent made of it are the agent runtime's; `quarantine` and the dead letters
//! hold what came for up to fourteen days; the feed holds ids only.

use std::time::Duration;

use domain::conversation::Erased;
use domain::ids::{ConnectionId, ConversationId, TenantId};
use domain::time::Timestamp;

use crate::SendError;
use crate::blobs::{BlobError, Blobs};
use crate::feed::body;
use crate::jobs::{Probe, V1};
use crate::queues::{Entry, Queue, Queues};
use crate::redelivery::{Progress, Retryable};
use crate::store::{Found, RACES, Store, StoreError, Stored, inbound_object, sent_object};

/// The field of a probe that goes on with an erasure; its value is the conversation.
pub const FIELD: &str = "erase";
/// The field of a probe that goes on with the erasure of all conversations of a connection.
pub const FIELD_OF_ALL: &str = "erase_all";
/// No function runs for longer: what one that had read the conversation before still wrote is there by then.
const SETTLED_FOR: Duration = Duration::from_mins(10);
/// So many items are erased in one go, which is well within the function's time.
const ITEMS: usize = 500;
/// So many slices of the table of conversations are looked through in one go, of all tenants: with a thousand deliveries that is a table of
/// 20 million items.
const SLICES: usize = 40;
/// Of them so many are begun in one go, at ten calls each.
const CONVERSATIONS_BEGUN: usize = 200;

/// Why an erasure did not go on.
#[derive(Debug, thiserror::Error)]
pub enum ErasureError {
    /// The store failed.
    #[error("a customer's items could not be erased")]
    Store {
        /// The cause.
        #[from]
        source: StoreError,
    },
    /// The bucket failed.
    #[error("a customer's files could not be erased")]
    Blob {
        /// The cause.
        #[from]
        source: BlobError,
    },
}

impl Retryable for ErasureError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Store { source } => source.is_retryable(),
            Self::Blob { source } => source.is_retryable(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Store { source } => source.code(),
            Self::Blob { source } => source.code(),
        }
    }
}

/// What became of the wish to erase a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// It is gone for whoever looks; its items follow.
    Erased,
    /// There is no such conversation, or nothing is left of it.
    NoConversation,
}

/// Erases a conversation as of now. Asked again, it goes on with what it began.
///
/// # Errors
/// [`SendError`]: asked again, it goes on; and so does the schedule, once it is listed.
pub async fn begin(store: &Store, queues: &Queues, tenant: &TenantId, id: &ConversationId, now: Timestamp) -> Result<Begun, SendError> {
    let (stored, at) = match store.find_conversation(id).await? {
        Found::Live(it) => (it, now),
        Found::Shell(it, erased) => (it, erased.at),
        Found::Nothing => return Ok(Begun::NoConversation),
    };
    let (connection, id) = (&stored.conversation.connection, &stored.conversation.id);
    let at = store.list_erasing(connection, id, at).await?;
    shut(store, id, at).await?;
    probe(queues, tenant, connection, FIELD, id.to_string(), now).await?;
    Ok(Begun::Erased)
}

/// Erases all conversations of a connection that is deleted, those too that a campaign began and nobody answered. Its numbers must be
/// nobody's by now, or what comes in begins new ones.
///
/// # Errors
/// [`SendError`]: asked again, it goes on.
pub async fn begin_all(
    store: &Store,
    queues: &Queues,
    tenant: &TenantId,
    connection: &ConnectionId,
    now: Timestamp,
) -> Result<(), SendError> {
    store.list_erasing_all(connection).await?;
    probe(queues, tenant, connection, FIELD_OF_ALL, String::new(), now).await
}

/// Goes on with the erasure of all conversations of a connection: begins that of some more. What is not on the list is done.
///
/// # Errors
/// [`SendError`]: the next delivery goes on.
pub async fn go_on_all(
    store: &Store,
    queues: &Queues,
    tenant: &TenantId,
    connection: &ConnectionId,
    now: Timestamp,
) -> Result<Progress, SendError> {
    let mut begun = 0;
    for _ in 0..SLICES {
        let Some(at) = store.erasing_all(connection).await? else { return Ok(Progress::Done) };
        let (found, next) = store.addressed(connection, at).await?;
        for id in &found {
            match begin_live(store, queues, tenant, id, now).await {
                Ok(it) => begun += usize::from(it),
                Err(error) => {
                    // Those behind it do not wait for it: it is listed, and the schedule tries again.
                    tracing::error!(connection.id = %connection, conversation.id = %id, error.code = error.code(), "an erasure cannot begin: {error}");
                    store.list_erasing(connection, id, now).await?;
                }
            }
        }
        store.note_erasing_all(connection, next.as_ref()).await?;
        if next.is_none() {
            return Ok(Progress::Done);
        }
        if begun >= CONVERSATIONS_BEGUN {
            break;
        }
    }
    Ok(Progress::Wait(Duration::ZERO))
}

/// Begins the erasure of a conversation, unless it has begun.
async fn begin_live(store: &Store, queues: &Queues, tenant: &TenantId, id: &ConversationId, now: Timestamp) -> Result<bool, SendError> {
    let Found::Live(_) = store.find_conversation(id).await? else { return Ok(false) };
    begin(store, queues, tenant, id, now).await?;
    Ok(true)
}

async fn probe(
    queues: &Queues,
    tenant: &TenantId,
    connection: &ConnectionId,
    field: &str,
    value: String,
    now: Timestamp,
) -> Result<(), SendError> {
    let probe = Probe {
        v: V1,
        tenant: tenant.clone(),
        connection: connection.clone(),
        heard_at: now,
        field: field.to_owned(),
        waba: None,
        number: None,
        value,
    };
    Ok(queues.send(Queue::Probes, vec![Entry { body: body(&probe), group: None, deduplication: None }]).await?)
}

/// Marks the addresses of a conversation, and leaves a shell of its state; what is a shell already stays as it is.
async fn shut(store: &Store, id: &ConversationId, at: Timestamp) -> Result<(), StoreError> {
    for _ in 0..RACES {
        let Found::Live(stored) = store.find_conversation(id).await? else { return Ok(()) };
        let Some(erased) = stored.conversation.clone().shell(at).erased else { return Ok(()) };
        mark_addresses(store, &stored, &erased).await?;
        if store.keep_shell(&stored, &erased).await? {
            return Ok(());
        }
    }
    Err(StoreError::Contended { what: "conversation" })
}

/// Before the shell is written, which does not name them any more.
async fn mark_addresses(store: &Store, stored: &Stored, erased: &Erased) -> Result<(), StoreError> {
    for it in &stored.conversation.addresses {
        store.erase_address(stored, &it.address, erased).await?;
    }
    Ok(())
}

/// Goes on with an erasure: a slice of it, or the last look at it. What is not on the list is done.
///
/// # Errors
/// [`ErasureError`]: the next delivery, or the schedule, goes on.
pub async fn go_on(
    store: &Store,
    blobs: &Blobs,
    connection: &ConnectionId,
    id: &ConversationId,
    now: Timestamp,
) -> Result<Progress, ErasureError> {
    let Some(at) = store.erasing(connection, id).await? else { return Ok(Progress::Done) };
    shut(store, id, at).await?;
    let parts = match store.find_conversation(id).await? {
        Found::Live(it) | Found::Shell(it, _) => it.conversation.everywhere().cloned().collect(),
        Found::Nothing => vec![id.clone()],
    };
    let mut left = ITEMS;
    for part in &parts {
        let wiped = store.wipe(part, at, left).await?;
        left -= wiped.items;
        if !wiped.is_all {
            return Ok(Progress::Wait(Duration::ZERO));
        }
        // Whether a file of theirs, or one that was sent to them, was kept or was about to be: where it would lie follows from its message.
        let keys = store.message_keys(part).await?;
        let objects: Vec<String> = keys.iter().flat_map(|it| [inbound_object(connection, it), sent_object(connection, it)]).collect();
        blobs.delete(&objects).await?;
        store.expire_part(part, at).await?;
    }
    let settles_at = at.plus(SETTLED_FOR);
    if now < settles_at {
        return Ok(Progress::Wait(settles_at.since(now)));
    }
    store.unlist_erasing(connection, id, at).await?;
    Ok(Progress::Done)
}
