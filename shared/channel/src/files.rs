//! Customers' files as people and programs reach them: by fresh links.

use std::time::Duration;

use domain::connection::{Connection, State};
use domain::conversation::Conversation;
use domain::ids::MessageKey;
use domain::message::Media;
use domain::time::Timestamp;

use crate::blobs::{BlobError, Blobs};
use crate::jobs::{MediaTask, Missing};
use crate::queues::{QueueError, Queues};
use crate::store::{MessageItem, StoredFile};
use crate::turns::{MediaOf, have_media};

/// How long a link to a file is good.
const LINK_FOR: Duration = Duration::from_mins(15);
/// A customer's file, for whoever looks at the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileOf {
    /// It is here.
    Here {
        /// A link that saves it under its name.
        url: String,
        /// Until when the link is good.
        expires_at: Timestamp,
        /// What it is.
        file: StoredFile,
    },
    /// It is not here.
    Missing(Missing),
    /// It is being fetched, or was never tried.
    Awaited,
    /// The message has none.
    None,
}

/// The file of a customer's message, with a fresh link.
///
/// # Errors
/// [`BlobError`].
pub async fn of(blobs: &Blobs, item: &MessageItem, now: Timestamp) -> Result<FileOf, BlobError> {
    let MessageItem::Inbound(inbound) = item else { return Ok(FileOf::None) };
    Ok(match &inbound.file {
        Some(it) => match (&it.file, &it.missing) {
            (Some(file), _) => {
                let url = blobs.link(&file.key, LINK_FOR, Some(&file.filename)).await?;
                FileOf::Here { url, expires_at: now.plus(LINK_FOR), file: file.clone() }
            }
            (None, Some(missing)) => FileOf::Missing(missing.clone()),
            (None, None) => FileOf::None,
        },
        None if media(item).is_some() => FileOf::Awaited,
        None => FileOf::None,
    })
}

/// What came of the wish to have a file fetched again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchedAgain {
    /// It is asked for.
    Asked,
    /// It is here already.
    Here,
    /// The connection's token is refused: there is nothing to ask with.
    NotRunning,
    /// The message has none.
    None,
}

/// Has a customer's file fetched that is not here: Meta keeps it for seven days.
///
/// # Errors
/// [`QueueError`].
pub async fn fetch_again(
    queues: &Queues,
    connection: &Connection,
    conversation: &Conversation,
    (key, item): (&MessageKey, &MessageItem),
    now: Timestamp,
) -> Result<FetchedAgain, QueueError> {
    let (Some(media), MessageItem::Inbound(inbound)) = (media(item), item) else { return Ok(FetchedAgain::None) };
    if inbound.file.as_ref().is_some_and(|it| it.file.is_some()) {
        return Ok(FetchedAgain::Here);
    }
    if connection.lifecycle.state == State::Error {
        return Ok(FetchedAgain::NotRunning);
    }
    let of = MediaOf { tenant: &connection.tenant, connection: &conversation.connection, number: &inbound.number };
    have_media(queues, of, key, MediaTask::Fetch { media }, now).await?;
    Ok(FetchedAgain::Asked)
}

/// What Meta says of a customer's file, if it can be fetched.
fn media(item: &MessageItem) -> Option<Media> {
    let MessageItem::Inbound(it) = item else { return None };
    it.event().and_then(|it| it.media().cloned()).filter(|it| it.id.is_some())
}
