//! The end of a connection: at once nobody sees it or sends through it, and its numbers are free; then Meta is told, and what is left goes.

use domain::connection::State;
use domain::ids::{ConnectionId, TenantId};
use domain::time::Timestamp;
use meta::graph::Graph;

use super::{ConnectionError, DELETED, credentials, get, probe, tell};
use crate::health::is_passing;
use crate::queues::Queues;
use crate::redelivery::Retryable as _;
use crate::store::{Store, StoredConnection};
use crate::vault::Vault;

/// Meta is told this often that the app need not hear of the account any more; then the secrets go all the same.
const TRIES: u32 = 10;

/// Deletes a tenant's connection: it is STOPPED and out of sight from `now` on, and its numbers are released. False if there is none.
///
/// # Errors
/// [`ConnectionError`].
pub async fn delete(store: &Store, queues: &Queues, tenant: &TenantId, id: &ConnectionId, now: Timestamp) -> Result<bool, ConnectionError> {
    if get(store, tenant, id).await?.is_none() {
        return Ok(false);
    }
    let changed = store
        .change_connection(id, |it| {
            it.deleted_at.is_none().then(|| StoredConnection { deleted_at: Some(now), ..it.ended(State::Stopped, now) })
        })
        .await?;
    let Some(stored) = changed.map(|it| it.connection) else { return Ok(false) };
    release(store, &stored, now).await?;
    tell(store, queues, &stored.connection, "Deleted.", now).await?;
    // If this is not reached, the schedule asks for it.
    probe(queues, &stored.connection, DELETED, now).await?;
    Ok(true)
}

/// Lets go of what leads to a deleted connection.
async fn release(store: &Store, stored: &StoredConnection, now: Timestamp) -> Result<(), ConnectionError> {
    let connection = &stored.connection;
    store.unlist_connection(&connection.tenant, &connection.id).await?;
    for number in &connection.numbers {
        store.release_number(connection, number, now).await?;
    }
    Ok(store.release_waba(connection, &connection.waba).await?)
}

/// Unsubscribes a deleted connection's app from its account, unless another connection needs it, and wipes what is left: its secrets last but
/// for the item that says that it was deleted. False if Meta is to be told again later.
///
/// # Errors
/// [`ConnectionError`]: the next delivery goes on.
pub(crate) async fn clear_away(
    store: &Store,
    vault: &Vault,
    graph: &Graph,
    stored: &StoredConnection,
    tries: u32,
    now: Timestamp,
) -> Result<bool, ConnectionError> {
    let connection = &stored.connection;
    release(store, stored, now).await?;
    let app = connection.app.as_ref();
    let is_shared = app.is_none() || is_subscription_shared(store, stored).await?;
    if !is_shared {
        // A token that does not hold any more, or cannot be opened, unsubscribes nothing: a person removes the app in Meta's Business settings.
        match credentials(store, vault, stored).await {
            Ok(credentials) => match graph.unsubscribe(&connection.waba, &credentials).await {
                Err(unread) if is_passing(&unread) && tries < TRIES => return Ok(false),
                _ => {}
            },
            Err(error) if error.is_retryable() && tries < TRIES => return Err(error),
            Err(error) => tracing::error!(connection.id = %connection.id, error.code = error.code(), "an app is not unsubscribed: {error}"),
        }
    }
    forget_unused_app(store, stored).await?;
    store.wipe_connection(&connection.id).await?;
    Ok(true)
}

/// Does another connection, of whomever, hear of the account through the same app?
async fn is_subscription_shared(store: &Store, stored: &StoredConnection) -> Result<bool, ConnectionError> {
    let connection = &stored.connection;
    for id in store.connections_of_waba(&connection.waba).await? {
        let other = store.connection(&id).await?.filter(|it| it.deleted_at.is_none() && it.connection.id != connection.id);
        if other.is_some_and(|it| it.connection.app == connection.app && it.connection.waba == connection.waba) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Forgets the app that a connection had, with its secrets, unless another of the tenant's connections uses it.
pub(super) async fn forget_unused_app(store: &Store, of: &StoredConnection) -> Result<(), ConnectionError> {
    if let Some(app) = &of.connection.app
        && !is_app_shared(store, of).await?
    {
        store.forget_app(app, &of.connection.tenant).await?;
    }
    Ok(())
}

/// Does another of the tenant's connections use the same app?
async fn is_app_shared(store: &Store, stored: &StoredConnection) -> Result<bool, ConnectionError> {
    let connection = &stored.connection;
    for id in store.connections_of_tenant(&connection.tenant, None, usize::MAX).await? {
        let other = get(store, &connection.tenant, &id).await?.filter(|it| it.connection.id != connection.id);
        if other.is_some_and(|it| it.connection.app == connection.app) {
            return Ok(true);
        }
    }
    Ok(false)
}
