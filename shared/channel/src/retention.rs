//! How long files lie in the bucket: as long as their connection says, and no longer than it is there.
//!
//! Items of the tables go by their own time to live; of objects the bucket knows no connection's wish. Their keys begin with the day that they
//! are from, so what is too old is what is listed first.

use domain::connection::Connection;
use domain::ids::ConnectionId;
use domain::time::Timestamp;

use crate::blobs::{BlobError, Blobs};
use crate::store::{ObjectKind, objects, objects_of};

/// So many objects are listed and deleted together.
const TOGETHER: usize = 1_000;
/// So often in one go, which is well within a function's time.
const ROUNDS: usize = 20;

/// Deletes the files that are older than their connection keeps them. False if there may be more.
///
/// # Errors
/// [`BlobError`]: the next go goes on.
pub async fn sweep(blobs: &Blobs, connection: &Connection, now: Timestamp) -> Result<bool, BlobError> {
    let oldest_kept = now.minus(connection.files_kept_for());
    let mut is_all = true;
    for kind in [ObjectKind::Inbound, ObjectKind::Uploads] {
        let kept_from = objects_of(&connection.id, kind, oldest_kept);
        is_all &= delete(blobs, &format!("{}{}/", objects(&connection.id), kind.name()), |it| it < kept_from.as_str()).await?;
    }
    Ok(is_all)
}

/// Deletes all files of a connection. False if there may be more.
///
/// # Errors
/// [`BlobError`]: asked again, it goes on.
pub async fn clear(blobs: &Blobs, connection: &ConnectionId) -> Result<bool, BlobError> {
    delete(blobs, &objects(connection), |_| true).await
}

/// Deletes the first objects with this prefix, as long as they are to go.
async fn delete(blobs: &Blobs, prefix: &str, goes: impl Fn(&str) -> bool) -> Result<bool, BlobError> {
    for _ in 0..ROUNDS {
        let listed = blobs.list(prefix, None, TOGETHER).await?;
        let (count, goes) = (listed.len(), listed.into_iter().take_while(|it| goes(it)).collect::<Vec<_>>());
        blobs.delete(&goes).await?;
        if goes.len() < count || count < TOGETHER {
            return Ok(true);
        }
    }
    Ok(false)
}
