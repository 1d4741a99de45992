//! Files of ours in what we send: put where they stay, looked at where they lie, taken to Meta once for each number, and sent by Meta's id.
//!
//! A key that comes from outside is good only under the sender's own connection. What is taken to Meta reaches nobody before it is sent, so
//! taking it there again does no harm.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::ids::{ConnectionId, MessageKey, NumberId, hash};
use domain::outgoing::{FileKind, Outgoing, Source};
use domain::refusal::Refusal;
use domain::time::Timestamp;
use meta::fault::Class;
use meta::graph::{Graph, NewFile, Unread};
use meta::outgoing::files::{self, FIRST_BYTES, Misfit};
use uuid::Uuid;

use crate::SendError;
use crate::blobs::{BlobError, Blobs, Head};
use crate::counts::Counts;
use crate::directory::{Directory, KnownConnection};
use crate::outbox::credentials;
use crate::store::{FileAtMeta, Store, is_object_of, sent_object, uploaded_object};

/// How long a file may be put into its place.
pub const PLACE_FOR: Duration = Duration::from_mins(15);

/// Meta keeps what was taken there for 30 days; we rely on it for one less.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/media>
const KEPT_AT_META_FOR: Duration = Duration::from_hours(29 * 24);

/// Longest MIME type that a place is asked for with, in bytes.
const TYPE_LIMIT: usize = 255;

/// Where a file is to be put so that it can be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The key by which it is sent.
    pub key: String,
    /// Where it is put, by whoever has this link.
    pub url: String,
    /// Until when.
    pub expires_at: Timestamp,
}

/// A place for a file of this type and exactly so many bytes.
///
/// # Errors
/// [`BlobError`]; inside, why such a file cannot be sent.
pub async fn place(
    blobs: &Blobs,
    connection: &ConnectionId,
    content_type: &str,
    size: u64,
    now: Timestamp,
) -> Result<Result<Place, Refusal>, BlobError> {
    let is_plain = content_type.len() <= TYPE_LIMIT && content_type.bytes().all(|it| it == b' ' || it.is_ascii_graphic());
    // What is no MIME type at all is told as one that Meta does not take.
    if let Err(misfit) = files::check_upload(if is_plain { content_type } else { "" }, size) {
        return Ok(Err(refusal(misfit)));
    }
    let key = uploaded_object(connection, now, &Uuid::new_v4().to_string());
    let url = blobs.upload_link(&key, content_type, size, PLACE_FOR).await?;
    Ok(Ok(Place { key, url, expires_at: now.plus(PLACE_FOR) }))
}

/// May the file of ours in this be sent, if there is one?
///
/// # Errors
/// [`BlobError`]; inside, why not.
pub async fn admit(blobs: &Blobs, connection: &ConnectionId, content: &Outgoing) -> Result<Result<(), Refusal>, BlobError> {
    Ok(find(blobs, connection, content).await?.map(drop))
}

/// A file of ours that may be sent.
pub(crate) struct Found {
    kind: FileKind,
    key: String,
    head: Head,
}

impl Found {
    fn mime_type(&self) -> &str {
        self.head.content_type.as_deref().unwrap_or_default()
    }
}

/// The file of ours in this, looked at where it lies; nothing if there is none.
pub(crate) async fn find(
    blobs: &Blobs,
    connection: &ConnectionId,
    content: &Outgoing,
) -> Result<Result<Option<Found>, Refusal>, BlobError> {
    let Some((kind, Source::File(key))) = content.file() else { return Ok(Ok(None)) };
    if !is_object_of(connection, key) {
        return Ok(Err(Refusal::FileNotYours));
    }
    let Some(head) = blobs.head(key).await? else { return Ok(Err(Refusal::FileNotFound)) };
    let found = Found { kind, key: key.clone(), head };
    let mut fits = files::check_file(kind, found.mime_type(), found.head.size);
    if fits.is_ok() && files::looks_inside(kind) {
        let Some(first) = blobs.first(key, FIRST_BYTES).await? else { return Ok(Err(Refusal::FileNotFound)) };
        fits = files::check_inside(kind, found.mime_type(), found.head.size, &first);
    }
    Ok(fits.map(|()| Some(found)).map_err(refusal))
}

fn refusal(misfit: Misfit) -> Refusal {
    match misfit {
        Misfit::Type { advice } => Refusal::FileType { advice },
        Misfit::Size { limit } => Refusal::FileTooLarge { limit },
    }
}

/// The same with the file that came along put into the bucket and named by its key: what is kept of a message holds no file. Doing it twice
/// does no more.
pub(crate) async fn put_down(
    blobs: &Blobs,
    connection: &ConnectionId,
    message: &MessageKey,
    content: Outgoing,
) -> Result<Outgoing, BlobError> {
    let Some((kind, Source::Content { base64, mime_type })) = content.file() else { return Ok(content) };
    let key = sent_object(connection, message);
    // What is no file that can be sent is refused anyway, and lies nowhere.
    let bytes = STANDARD.decode(base64).ok().filter(|it| files::check_file(kind, mime_type, it.len() as u64).is_ok());
    if let Some(bytes) = bytes
        && blobs.head(&key).await?.is_none()
    {
        blobs.put(&key, &files::told(kind, mime_type).1, bytes).await?;
    }
    Ok(content.with_source(Source::File(key)))
}

/// What became of taking a file to Meta.
pub(crate) enum Taken {
    /// It is there.
    There {
        /// Meta's id of it.
        id: String,
        /// It was taken there before, and is remembered under this hash.
        remembered: Option<String>,
    },
    /// It lies here no more.
    Gone,
    /// Meta did not take it.
    Not {
        /// Why.
        unread: Unread,
        /// The connection, read afresh, if other credentials were used in the end.
        fresh: Option<Arc<KnownConnection>>,
    },
}

/// The handles of what takes files to Meta.
pub(crate) struct Uploads<'a> {
    pub(crate) store: &'a Store,
    pub(crate) blobs: &'a Blobs,
    pub(crate) directory: &'a Directory,
    pub(crate) graph: &'a Graph,
    pub(crate) counts: &'a Counts,
}

impl Uploads<'_> {
    /// Takes a file to Meta for `number`, unless it is there.
    pub(crate) async fn take(&self, known: &KnownConnection, number: &NumberId, file: &Found, now: Timestamp) -> Result<Taken, SendError> {
        let (name, mime_type) = files::told(file.kind, file.mime_type());
        let content = file.head.etag.as_deref().unwrap_or(&file.key);
        let hash = hash(&["file at meta", known.connection.id.as_str(), content, &file.head.size.to_string(), &name, &mime_type]);
        if let Some(it) = self.store.file_at_meta(number, &hash, now).await? {
            return Ok(Taken::There { id: it.media_id, remembered: Some(hash) });
        }
        let new = NewFile { name: &name, mime_type: &mime_type, size: file.head.size };
        let Some(mut taken) = self.upload(known, number, file, &new).await? else { return Ok(Taken::Gone) };
        let mut fresh = None;
        if matches!(&taken, Err(Unread { class: Class::Credentials | Class::Account, .. })) {
            let read = self.directory.connection_afresh(&known.connection.id, now).await?;
            fresh = read.filter(|it| it.has_other_credentials(known));
            if let Some(fresh) = &fresh {
                let Some(again) = self.upload(fresh, number, file, &new).await? else { return Ok(Taken::Gone) };
                taken = again;
            }
        }
        match taken {
            Ok(id) => {
                self.counts.one("upload.taken");
                let file = FileAtMeta { media_id: id.clone(), kept_until: now.plus(KEPT_AT_META_FOR) };
                self.store.keep_file_at_meta(number, &hash, &file).await?;
                Ok(Taken::There { id, remembered: None })
            }
            Err(unread) => Ok(Taken::Not { unread, fresh }),
        }
    }

    /// One try; nothing if the file lies here no more.
    async fn upload(
        &self,
        known: &KnownConnection,
        number: &NumberId,
        file: &Found,
        new: &NewFile<'_>,
    ) -> Result<Option<Result<String, Unread>>, SendError> {
        let Some(blob) = self.blobs.get(&file.key).await? else { return Ok(None) };
        Ok(Some(self.graph.upload(number, &credentials(known), new, blob.stream()).await))
    }
}
