//! The schedule: every connection that is not STOPPED, or ever ran, is looked at four times an hour; those that run are checked with Meta once.
//!
//! Which slice a connection is in follows from its id, so that they are spread over the hour and none is forgotten. This file asks Meta
//! nothing: it has `health` do it, by probes; agents' endpoints that are down too.

use std::time::Duration;

use domain::connection::State;
use domain::ids::{AgentId, ConnectionId, ConversationId, hash};
use domain::time::Timestamp;

use crate::blobs::Blobs;
use crate::connections::{self, CHECK, ConnectionError, DELETED, START};
use crate::endpoints;
use crate::erasure;
use crate::queues::Queues;
use crate::redelivery::Retryable as _;
use crate::retention;
use crate::store::{Store, StoreError, StoredConnection};

/// How often the schedule looks, as the template says.
pub const EVERY: Duration = Duration::from_mins(5);
/// In how many slices all connections are looked at once, at [`EVERY`]: a quarter of an hour.
const LOOKS: i64 = 3;
/// In how many they are checked with Meta once: an hour.
const CHECKS: i64 = 12;
/// In how many hours old files are looked for once.
const HOURS: i64 = 24;
/// An endpoint that is down, and was not asked for this long, has lost its probe.
const ASKED_WITHIN: Duration = Duration::from_mins(30);
/// An erasure that is younger has its own probe under way.
const ERASED_WITHIN: Duration = Duration::from_mins(30);
/// So many are gone on with in an hour, of one connection.
const ERASURES: usize = 1_000;
/// A start that is younger has its own probe under way.
const STARTS_WITHIN: Duration = Duration::from_mins(2);

/// Looks at the slice of connections that is due: has those that run checked with Meta, and goes on with what a crash left. How many probes
/// that took.
///
/// # Errors
/// [`ConnectionError`].
pub async fn look(store: &Store, queues: &Queues, blobs: &Blobs, now: Timestamp) -> Result<usize, ConnectionError> {
    let every = i64::try_from(EVERY.as_millis()).unwrap_or(i64::MAX);
    let turn = now.as_millis().div_euclid(every);
    let mut probes = 0;
    for part in Store::watched_parts() {
        for id in store.watched(part).await? {
            let slice = slice(&id);
            if slice.rem_euclid(LOOKS) != turn.rem_euclid(LOOKS) {
                continue;
            }
            let is_checked = slice.rem_euclid(CHECKS) == turn.rem_euclid(CHECKS);
            match look_at(store, queues, blobs, &id, is_checked, now).await {
                Ok(it) => probes += it,
                // Those behind it are looked at all the same.
                Err(error) => tracing::error!(connection.id = %id, error.code = error.code(), "a connection cannot be looked at: {error}"),
            }
        }
    }
    Ok(probes)
}

async fn look_at(
    store: &Store,
    queues: &Queues,
    blobs: &Blobs,
    id: &ConnectionId,
    is_checked: bool,
    now: Timestamp,
) -> Result<usize, ConnectionError> {
    let Some(stored) = store.connection(id).await? else { return Ok(0) };
    let connection = &stored.connection;
    let mut probes = 0;
    if let Some((field, heard_at)) = reason(&stored, is_checked, now) {
        connections::probe(queues, connection, field, heard_at).await?;
        probes += 1;
    }
    for (agent, since) in lost_endpoints(store, id, now).await? {
        endpoints::probe(queues, connection, &agent, since).await?;
        probes += 1;
    }
    if is_checked {
        for conversation in lost_erasures(store, id, now).await? {
            connections::probe_of(queues, connection, erasure::FIELD, conversation.to_string(), now).await?;
            probes += 1;
        }
    }
    if is_checked && is_swept(id, now) {
        // What fails, or is too much for once, is swept the next day.
        if let Err(error) = retention::sweep(blobs, connection, now).await {
            tracing::error!(connection.id = %id, error.code = error.code(), "old files of a connection cannot be deleted: {error}");
        }
    }
    Ok(probes)
}

/// Why a connection is looked at by `health`, if it is.
fn reason(stored: &StoredConnection, is_checked: bool, now: Timestamp) -> Option<(&'static str, Timestamp)> {
    if stored.deleted_at.is_some() {
        return Some((DELETED, now));
    }
    let lifecycle = &stored.connection.lifecycle;
    match lifecycle.state {
        State::Starting => lifecycle.since.filter(|it| now.since(*it) >= STARTS_WITHIN).map(|it| (START, it)),
        State::Running => is_checked.then_some((CHECK, now)),
        State::Stopped | State::Error => None,
    }
}

/// The agents of a connection whose endpoints are down, and of which nobody asks whether they answer again.
async fn lost_endpoints(store: &Store, id: &ConnectionId, now: Timestamp) -> Result<Vec<(AgentId, Timestamp)>, StoreError> {
    let down = store.attachments(id).await?.into_iter().filter_map(|it| Some((it.agent, it.down_since?, it.probed_at)));
    let lost = down.filter(|(_, since, probed_at)| now.since(probed_at.unwrap_or(*since)) >= ASKED_WITHIN);
    Ok(lost.map(|(agent, since, _)| (agent, since)).collect())
}

/// The conversations whose erasure should have ended, and has not: whoever was at it may have died.
async fn lost_erasures(store: &Store, id: &ConnectionId, now: Timestamp) -> Result<Vec<ConversationId>, StoreError> {
    let listed = store.listed_erasing(id).await?.into_iter();
    Ok(listed.filter(|(_, at)| now.since(*at) >= ERASED_WITHIN).map(|it| it.0).take(ERASURES).collect())
}

/// Is this the hour of the day in which the connection's old files are deleted?
fn is_swept(id: &ConnectionId, now: Timestamp) -> bool {
    let hour = hash(&["swept", id.as_str()]).bytes().fold(0, |sum, it| (sum * 31 + i64::from(it)) % HOURS);
    now.as_millis().div_euclid(60 * 60 * 1_000).rem_euclid(HOURS) == hour
}

fn slice(id: &ConnectionId) -> i64 {
    hash(&["slice", id.as_str()]).bytes().fold(0, |sum, it| (sum * 31 + i64::from(it)) % CHECKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_spread_over_the_hour() {
        let mut counts = [0; 12];
        for number in 0..1_200 {
            let id = ConnectionId::parse(format!("connection-{number}")).expect("an id");
            counts[usize::try_from(slice(&id)).expect("small")] += 1;
        }
        assert!(counts.iter().all(|it| (60..140).contains(it)), "{counts:?}");
    }
}
