//! The bucket: customers' files, and what is uploaded to be sent. Whole files never lie in memory.
//!
//! Must not know what a file is of, nor read the environment or the clock. The only file that speaks S3.

use std::error::Error;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::operation::head_object::HeadObjectError;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier};
use bytes::Bytes;
use futures::stream::{self, Stream};

use crate::redelivery::Retryable;

/// How much of a file is held in memory and sent at once, in bytes: S3 wants five MiB at least for every part but the last.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
pub const PART: usize = 8 << 20;

/// What S3 deletes in one call.
const DELETED_AT_ONCE: usize = 1_000;

/// Why the bucket did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// S3 could not be asked, or answered that it could not.
    #[error("S3 did not {action}")]
    Unavailable {
        /// What it was asked to do.
        action: &'static str,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// S3 did some of it.
    #[error("S3 did not {action} all")]
    Partly {
        /// What it was asked to do.
        action: &'static str,
    },
}

impl Retryable for BlobError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::Partly { .. } => true,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "bucket_unavailable",
            Self::Partly { .. } => "bucket_partly",
        }
    }
}

fn unavailable(action: &'static str) -> impl Fn(SdkFailure) -> BlobError {
    move |source| BlobError::Unavailable { action, source: source.0 }
}

/// Any of the SDK's errors, each of which has a type of its own.
struct SdkFailure(Box<dyn Error + Send + Sync>);

impl<E: Error + Send + Sync + 'static> From<E> for SdkFailure {
    fn from(it: E) -> Self {
        Self(Box::new(it))
    }
}

/// What is known of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// In bytes.
    pub size: u64,
    /// MIME type, as whoever put it there said.
    pub content_type: Option<String>,
    /// S3's name of what is in it: another content has another one.
    pub etag: Option<String>,
}

/// An object that is being read.
#[derive(Debug)]
pub struct Blob {
    /// What it is.
    pub head: Head,
    body: ByteStream,
}

impl Blob {
    /// The next piece of it; nothing at its end.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, BlobError> {
        self.body.try_next().await.map_err(|it| unavailable("give an object")(it.into()))
    }

    /// All of it, piece by piece.
    pub fn stream(self) -> impl Stream<Item = Result<Bytes, BlobError>> + Send + 'static {
        stream::try_unfold(self, |mut it| async move { Ok(it.chunk().await?.map(|chunk| (chunk, it))) })
    }
}

/// The bucket of this installation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Blobs {
    client: Client,
    bucket: String,
}

impl Blobs {
    /// The bucket of this name, over a client of this configuration, such as [`crate::aws::Aws::s3`] makes.
    #[must_use]
    pub fn new(config: aws_sdk_s3::Config, bucket: impl Into<String>) -> Self {
        Self { client: Client::from_conf(config), bucket: bucket.into() }
    }

    /// Puts a small object there, instead of what is there.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn put(&self, key: &str, content_type: &str, bytes: impl Into<Bytes>) -> Result<(), BlobError> {
        let body = ByteStream::from(bytes.into());
        let put = self.client.put_object().bucket(&self.bucket).key(key).content_type(content_type).body(body);
        put.send().await.map_err(|it| unavailable("take an object")(it.into()))?;
        Ok(())
    }

    /// Begins to put an object there piece by piece. Nothing is seen of it before it is finished; what never is goes by the bucket's lifecycle.
    #[must_use]
    pub fn begin(&self, key: &str, content_type: &str) -> Upload {
        Upload {
            blobs: self.clone(),
            key: key.to_owned(),
            content_type: content_type.to_owned(),
            part: Vec::new(),
            size: 0,
            id: None,
            done: Vec::new(),
        }
    }

    /// An object, to be read piece by piece; nothing if it is not there.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn get(&self, key: &str) -> Result<Option<Blob>, BlobError> {
        self.read(key, None).await
    }

    /// The first bytes of an object, at most so many; nothing if it is not there.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn first(&self, key: &str, bytes: usize) -> Result<Option<Vec<u8>>, BlobError> {
        let Some(mut blob) = self.read(key, Some(format!("bytes=0-{}", bytes.saturating_sub(1)))).await? else { return Ok(None) };
        let mut first = Vec::new();
        while let Some(it) = blob.chunk().await? {
            first.extend_from_slice(&it);
        }
        first.truncate(bytes);
        Ok(Some(first))
    }

    async fn read(&self, key: &str, range: Option<String>) -> Result<Option<Blob>, BlobError> {
        let got = match self.client.get_object().bucket(&self.bucket).key(key).set_range(range).send().await {
            Ok(it) => it,
            Err(SdkError::ServiceError(it)) if matches!(it.err(), GetObjectError::NoSuchKey(_)) => return Ok(None),
            // Of an empty object S3 refuses any range.
            Err(SdkError::ServiceError(it)) if it.err().code() == Some("InvalidRange") => {
                return Ok(Some(Blob { head: Head { size: 0, content_type: None, etag: None }, body: ByteStream::default() }));
            }
            Err(it) => return Err(unavailable("give an object")(it.into())),
        };
        let head = Head { size: size(got.content_length), content_type: got.content_type, etag: got.e_tag };
        Ok(Some(Blob { head, body: got.body }))
    }

    /// What is known of an object; nothing if it is not there.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn head(&self, key: &str) -> Result<Option<Head>, BlobError> {
        match self.client.head_object().bucket(&self.bucket).key(key).send().await {
            Ok(it) => Ok(Some(Head { size: size(it.content_length), content_type: it.content_type, etag: it.e_tag })),
            Err(SdkError::ServiceError(it)) if matches!(it.err(), HeadObjectError::NotFound(_)) => Ok(None),
            Err(it) => Err(unavailable("tell of an object")(it.into())),
        }
    }

    /// A link by which anybody can fetch an object for a while; with a name, browsers save it under that and show nothing of it.
    ///
    /// It is good no longer than the credentials that signed it: those of a function's role live some hours.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html>
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn link(&self, key: &str, valid: Duration, filename: Option<&str>) -> Result<String, BlobError> {
        let signing = presigning("sign a link", valid)?;
        let get = self.client.get_object().bucket(&self.bucket).key(key).set_response_content_disposition(filename.map(attachment));
        let link = get.presigned(signing).await.map_err(|it| unavailable("sign a link")(it.into()))?;
        Ok(link.uri().to_owned())
    }

    /// A link by which anybody can put an object there for a while, of this type and exactly this many bytes.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn upload_link(&self, key: &str, content_type: &str, size: u64, valid: Duration) -> Result<String, BlobError> {
        let signing = presigning("sign a link", valid)?;
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        let put = self.client.put_object().bucket(&self.bucket).key(key).content_type(content_type).content_length(size);
        let link = put.presigned(signing).await.map_err(|it| unavailable("sign a link")(it.into()))?;
        Ok(link.uri().to_owned())
    }

    /// Deletes objects; those that are not there are no error.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn delete(&self, keys: &[String]) -> Result<(), BlobError> {
        for keys in keys.chunks(DELETED_AT_ONCE) {
            let named = keys.iter().map(|it| ObjectIdentifier::builder().key(it).build()).collect::<Result<Vec<_>, _>>();
            let delete = named.and_then(|it| Delete::builder().set_objects(Some(it)).quiet(true).build());
            let delete = delete.map_err(|it| unavailable("delete objects")(it.into()))?;
            let answer = self.client.delete_objects().bucket(&self.bucket).delete(delete).send().await;
            let answer = answer.map_err(|it| unavailable("delete objects")(it.into()))?;
            if !answer.errors().is_empty() {
                return Err(BlobError::Partly { action: "delete" });
            }
        }
        Ok(())
    }

    /// The keys that begin so, in their order, after this one; at most so many, and never more than a thousand.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>, BlobError> {
        let limit = i32::try_from(limit.min(DELETED_AT_ONCE)).unwrap_or(i32::MAX);
        let list = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).max_keys(limit);
        let listed = list.set_start_after(after.map(str::to_owned)).send().await;
        let listed = listed.map_err(|it| unavailable("list objects")(it.into()))?;
        Ok(listed.contents.unwrap_or_default().into_iter().filter_map(|it| it.key).collect())
    }
}

fn size(length: Option<i64>) -> u64 {
    length.and_then(|it| u64::try_from(it).ok()).unwrap_or_default()
}

fn presigning(action: &'static str, valid: Duration) -> Result<PresigningConfig, BlobError> {
    PresigningConfig::expires_in(valid).map_err(|it| unavailable(action)(it.into()))
}

/// The value of `Content-Disposition` that names a file: once as old readers take it, once in UTF-8. What steers a terminal, a line or a path
/// is in neither.
///
/// <https://www.rfc-editor.org/rfc/rfc6266>, <https://www.rfc-editor.org/rfc/rfc8187>
fn attachment(filename: &str) -> String {
    let filename: String = filename.chars().map(|it| if it.is_control() || "/\\".contains(it) { '_' } else { it }).collect();
    let plain: String = filename.chars().map(|it| if it.is_ascii_alphanumeric() || "-_. ".contains(it) { it } else { '_' }).collect();
    let coded: String = filename.bytes().fold(String::new(), |text, it| match it {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => text + char::from(it).encode_utf8(&mut [0; 4]),
        _ => text + &format!("%{it:02X}"),
    });
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{coded}")
}

/// An object that is being put there piece by piece.
#[derive(Debug)]
pub struct Upload {
    blobs: Blobs,
    key: String,
    content_type: String,
    /// What is not sent yet: less than a [`PART`].
    part: Vec<u8>,
    size: u64,
    /// S3's id of it, once a part was sent.
    id: Option<String>,
    done: Vec<CompletedPart>,
}

impl Upload {
    /// Takes the next piece; what makes a part is sent.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn push(&mut self, chunk: &[u8]) -> Result<(), BlobError> {
        self.size += chunk.len() as u64;
        let mut rest = chunk;
        while !rest.is_empty() {
            // All at once: what grows step by step ends at up to twice as much. Memory that is not written to is not taken from the machine.
            self.part.reserve_exact(PART - self.part.len());
            let (fits, later) = rest.split_at(rest.len().min(PART - self.part.len()));
            self.part.extend_from_slice(fits);
            if self.part.len() == PART {
                let part = std::mem::take(&mut self.part);
                self.send(part.into()).await?;
            }
            rest = later;
        }
        Ok(())
    }

    /// Puts the object there, whole. Its size in bytes.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn finish(mut self) -> Result<u64, BlobError> {
        let rest = Bytes::from(std::mem::take(&mut self.part));
        let Some(id) = self.id.clone() else {
            self.blobs.put(&self.key, &self.content_type, rest).await?;
            return Ok(self.size);
        };
        if !rest.is_empty() {
            self.send(rest).await?;
        }
        let parts = CompletedMultipartUpload::builder().set_parts(Some(std::mem::take(&mut self.done))).build();
        let Blobs { client, bucket } = &self.blobs;
        let finish = client.complete_multipart_upload().bucket(bucket).key(&self.key).upload_id(id).multipart_upload(parts);
        finish.send().await.map_err(|it| unavailable("put an object together")(it.into()))?;
        Ok(self.size)
    }

    /// Gives it up.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn abort(self) -> Result<(), BlobError> {
        let Some(id) = self.id else { return Ok(()) };
        let Blobs { client, bucket } = &self.blobs;
        let abort = client.abort_multipart_upload().bucket(bucket).key(&self.key).upload_id(id);
        abort.send().await.map_err(|it| unavailable("give up an object")(it.into()))?;
        Ok(())
    }

    async fn send(&mut self, part: Bytes) -> Result<(), BlobError> {
        let id = self.id().await?;
        let Blobs { client, bucket } = &self.blobs;
        let number = i32::try_from(self.done.len() + 1).unwrap_or(i32::MAX);
        let send = client.upload_part().bucket(bucket).key(&self.key).upload_id(id).part_number(number).body(ByteStream::from(part));
        let sent = send.send().await.map_err(|it| unavailable("take a part of an object")(it.into()))?;
        self.done.push(CompletedPart::builder().set_e_tag(sent.e_tag).part_number(number).build());
        Ok(())
    }

    async fn id(&mut self) -> Result<String, BlobError> {
        if let Some(it) = &self.id {
            return Ok(it.clone());
        }
        let Blobs { client, bucket } = &self.blobs;
        let begin = client.create_multipart_upload().bucket(bucket).key(&self.key).content_type(&self.content_type);
        let begun = begin.send().await.map_err(|it| unavailable("begin an object")(it.into()))?;
        let id = begun.upload_id.ok_or(BlobError::Partly { action: "begin an object" })?;
        self.id = Some(id.clone());
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn a_name_that_anybody_chose_breaks_no_header() {
        assert_eq!(attachment("quote 7.pdf"), "attachment; filename=\"quote 7.pdf\"; filename*=UTF-8''quote%207.pdf");
        let odd = attachment("\"; x=\r\n/ü.pdf");
        assert_eq!(odd, "attachment; filename=\"__ x_____.pdf\"; filename*=UTF-8''%22%3B%20x%3D___%C3%BC.pdf");
        assert!(!odd.contains(['\r', '\n']));
    }

    #[test]
    fn what_is_not_sent_yet_never_takes_more_than_a_part() {
        let config = aws_sdk_s3::Config::builder().behavior_version(aws_sdk_s3::config::BehaviorVersion::latest()).build();
        let mut upload = Blobs::new(config, "bucket").begin("demo/file", "application/pdf");
        for chunk in vec![7; PART - 1].chunks(100_000) {
            upload.push(chunk).now_or_never().expect("it waits for nothing").expect("nothing is sent yet");
            assert!(upload.part.capacity() <= PART, "{}", upload.part.capacity());
        }
    }
}
