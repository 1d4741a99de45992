//! Agents on connections: which may send through them, and which of them takes the turns.

use domain::connection::Connection;
use domain::ids::{AgentId, ConnectionId};
use domain::time::Timestamp;

use crate::store::{Attachment, RACES, Store, StoreError};

/// What came of the wish to attach an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attached {
    /// It is attached so.
    Done(Attachment),
    /// Another agent has Inbound: nothing has changed.
    Held {
        /// Which.
        holder: AgentId,
    },
}

/// Attaches an agent to a connection, or switches its Inbound. Without Inbound it may only send.
///
/// # Errors
/// [`StoreError`].
pub async fn attach(
    store: &Store,
    connection: &Connection,
    agent: &AgentId,
    inbound: bool,
    now: Timestamp,
) -> Result<Attached, StoreError> {
    for _ in 0..RACES {
        let is_written = match inbound {
            true => store.attach_with_inbound(connection, agent).await?,
            false => store.attach_without_inbound(connection, agent, true).await?,
        };
        if is_written {
            let word = if inbound { "with Inbound" } else { "without Inbound" };
            settle_inbound(store, &connection.id).await?;
            store.log(&connection.id, now, &format!("Agent {agent} is attached {word}.")).await?;
            let attachment = store.attachment(&connection.id, agent).await?;
            return Ok(Attached::Done(attachment.unwrap_or_else(|| Attachment::new(connection.id.clone(), agent.clone(), inbound))));
        }
        if let Some(holder) = store.inbound_agent(&connection.id).await?.filter(|it| inbound && it != agent) {
            return Ok(Attached::Held { holder });
        }
    }
    Err(StoreError::Contended { what: "attachment" })
}

/// Takes an agent off a connection: it may send no more, and takes no turns. False if it was not attached.
///
/// # Errors
/// [`StoreError`].
pub async fn detach(store: &Store, connection: &Connection, agent: &AgentId, now: Timestamp) -> Result<bool, StoreError> {
    for _ in 0..RACES {
        if store.attachment(&connection.id, agent).await?.is_none() {
            return Ok(false);
        }
        if store.attach_without_inbound(connection, agent, false).await? {
            settle_inbound(store, &connection.id).await?;
            store.log(&connection.id, now, &format!("Agent {agent} is detached.")).await?;
            return Ok(true);
        }
    }
    Err(StoreError::Contended { what: "attachment" })
}

/// Has the numbers follow that a start has claimed while the agent with Inbound changed.
async fn settle_inbound(store: &Store, id: &ConnectionId) -> Result<(), StoreError> {
    for _ in 0..RACES {
        let Some(connection) = store.connection(id).await?.map(|it| it.connection) else { return Ok(()) };
        if store.settle_inbound(&connection).await? {
            return Ok(());
        }
    }
    Err(StoreError::Contended { what: "attachment" })
}
