//! What is kept of files: of a customer's, beside its message, where it lies, or why it is not here, and what was said in it; of ours, Meta's
//! id of it for each number.

use std::time::Duration;

use domain::ids::{MessageKey, NumberId};
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::dynamo::{Condition, Read, Written};
use super::keys;
use super::messages::{MessageItem, expires_at};
use super::{Store, StoreError};
use crate::jobs::{Missing, Transcript};

/// A file that lies in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// The object's key.
    pub key: String,
    /// MIME type, as Meta names it.
    pub mime_type: String,
    /// In bytes.
    pub size: u64,
    /// SHA-256, in hex.
    pub sha256: String,
    /// A name that is safe for a file, made of the customer's.
    pub filename: String,
    /// It is not the file that Meta announced: the hashes differ.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub differs: bool,
}

/// What became of a customer's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileItem {
    /// When it was fetched, or given up.
    pub at: Timestamp,
    /// Where it lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<StoredFile>,
    /// Why it is not here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
    /// What was said in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcript: Option<Transcript>,
}

/// A file that was taken to Meta for a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileAtMeta {
    /// Meta's id of it.
    pub media_id: String,
    /// When Meta may forget it, or sooner.
    pub kept_until: Timestamp,
}

impl Store {
    /// A file that was taken to Meta for `number` and is there still, by the hash of what it is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn file_at_meta(&self, number: &NumberId, hash: &str, now: Timestamp) -> Result<Option<FileAtMeta>, StoreError> {
        let found = self.dynamo.get::<FileAtMeta>(&keys::file_at_meta(number, hash), Read::Strong).await?;
        Ok(found.map(|it| it.value).filter(|it| now < it.kept_until))
    }

    /// Remembers a file that was taken to Meta for `number`, instead of what was remembered before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_file_at_meta(&self, number: &NumberId, hash: &str, file: &FileAtMeta) -> Result<(), StoreError> {
        let key = keys::file_at_meta(number, hash);
        let expires_at = Some(file.kept_until.as_millis() / 1_000);
        let _: Written<FileAtMeta> = self.dynamo.put(&key, file, None, expires_at, Condition::Always).await?;
        Ok(())
    }

    /// Forgets a file that Meta does not know any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_file_at_meta(&self, number: &NumberId, hash: &str) -> Result<(), StoreError> {
        self.dynamo.delete(&keys::file_at_meta(number, hash)).await
    }

    /// Keeps what became of a customer's file, instead of what was kept before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_file(&self, message: &MessageKey, file: &FileItem, kept_for: Duration) -> Result<(), StoreError> {
        let item = MessageItem::File(Box::new(file.clone()));
        let expires_at = Some(expires_at(message.at, kept_for));
        let _: Written<MessageItem> = self.dynamo.put(&keys::file(message), &item, None, expires_at, Condition::Always).await?;
        Ok(())
    }

    /// What became of a customer's file, if anything has yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn file(&self, message: &MessageKey) -> Result<Option<FileItem>, StoreError> {
        let found = self.dynamo.get::<MessageItem>(&keys::file(message), Read::Strong).await?;
        Ok(found.and_then(|it| match it.value {
            MessageItem::File(it) => Some(*it),
            MessageItem::Inbound(_) | MessageItem::Outbound(_) | MessageItem::Body { .. } | MessageItem::Shell => None,
        }))
    }

    /// Forgets a customer's file; the object is the caller's to delete, before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_file(&self, message: &MessageKey) -> Result<(), StoreError> {
        self.dynamo.delete(&keys::file(message)).await
    }
}
