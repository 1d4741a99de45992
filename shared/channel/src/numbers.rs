//! How a connection's numbers stand at Meta: their quality, their throughput, and whether they are in use at all.

use domain::connection::Connection;
use domain::ids::NumberId;
use domain::time::Timestamp;
use meta::fault::Class;
use meta::graph::{Graph, Unread};
use meta::numbers::NumberState;

use crate::connections::{self, ConnectionError};
use crate::directory::KnownConnection;
use crate::feed::{self, body};
use crate::jobs::Happened;
use crate::outbox::credentials;
use crate::queues::Queues;
use crate::store::{NumberItem, Store};

/// Reads a connection's numbers anew for a reason that was heard at `heard_at`, but for those that were read since, and tells what has
/// changed. The first that cannot be read ends it; the next try goes on there.
///
/// # Errors
/// [`ConnectionError`].
pub async fn read(
    store: &Store,
    queues: &Queues,
    graph: &Graph,
    known: &KnownConnection,
    heard_at: Timestamp,
    now: Timestamp,
) -> Result<Result<(), Unread>, ConnectionError> {
    let connection = &known.connection;
    for number in &connection.numbers {
        let item = store.number(number, true).await?.filter(|it| it.connection == connection.id);
        let Some(item) = item.filter(|it| it.read_at.is_none_or(|it| it < heard_at)) else { continue };
        match graph.number(number, &credentials(known)).await {
            Ok(state) => {
                tell(queues, connection, &item, &state, now).await?;
                store.note_number(number, &connection.id, &state, now).await?;
            }
            Err(Unread { class: Class::Number, fault, .. }) => {
                connections::mark_number(store, queues, connection, number, &fault, now, now).await?;
            }
            Err(unread) => return Ok(Err(unread)),
        }
    }
    connections::fail_without_numbers(store, queues, connection, now).await?;
    Ok(Ok(()))
}

/// Keeps how a number of a connection stands, and tells what has changed.
///
/// # Errors
/// [`ConnectionError`].
pub(crate) async fn note(
    store: &Store,
    queues: &Queues,
    connection: &Connection,
    number: &NumberId,
    state: &NumberState,
    now: Timestamp,
) -> Result<(), ConnectionError> {
    let Some(item) = store.number(number, true).await?.filter(|it| it.connection == connection.id) else { return Ok(()) };
    tell(queues, connection, &item, state, now).await?;
    Ok(store.note_number(number, &connection.id, state, now).await?)
}

/// What Meta says otherwise than before: told before it is written, and the same event until it is.
async fn tell(
    queues: &Queues,
    connection: &Connection,
    item: &NumberItem,
    state: &NumberState,
    now: Timestamp,
) -> Result<(), ConnectionError> {
    let (quality, throughput) = (state.quality.or(item.quality), state.per_second.or(item.throughput));
    if (quality, throughput) == (item.quality, item.throughput) {
        return Ok(());
    }
    let number: NumberId = item.id.clone();
    let (word, read_at) = (body(&(quality, throughput)), item.read_at.unwrap_or_default().sortable());
    let parts = ["number.quality", item.id.as_str(), word.as_str(), read_at.as_str()];
    let what = Happened::NumberQuality { number, quality, throughput };
    Ok(feed::tell(queues, &connection.tenant, &connection.id, now, &parts, what).await?)
}
