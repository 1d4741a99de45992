//! The store: what is kept of connections, conversations and messages, in three DynamoDB tables.
//!
//! Read an item, decide in Rust, write it only if it has not moved; a lost race decides again. Merges that are true in any order are single
//! updates without a read. Keys are built in `keys` alone; the SDK is known to `dynamo` alone.

mod agents;
mod checks;
mod claims;
mod config;
mod conversations;
mod data_keys;
mod dynamo;
mod erasures;
mod files;
mod idempotency;
mod keys;
mod leases;
mod messages;
mod templates;

pub use agents::Room;
pub use checks::{Callback, Checked, CheckedNumber, CheckedSubject, Verdict};
pub use claims::{AppClaim, Claimed, RESTS_FOR};
pub use config::{
    App, AppOwner, Attachment, Changed, DownBecause, Endpoint, LogLine, NumberItem, STANDARD_THROUGHPUT, SpeechToText, StoredConnection,
    can_send_as,
};
pub use conversations::{Active, Addressed, ContactItem, Found, Lead, Stored};
pub use dynamo::Tables;
pub use erasures::{ErasingAll, Wiped};
pub use files::{FileAtMeta, FileItem, StoredFile};
pub use idempotency::Asked;
pub(crate) use keys::{ObjectKind, inbound_object, is_object_of, objects, objects_of, sent_object, uploaded_object};
pub use leases::Leased;
pub use messages::{
    Attempt, Before, Claim, Direction, Ending, HandedOver, Heard, HeardStep, Inbound, MessageItem, Outbound, Remark, RemarkKind, Remarked,
    Sorted, TemplateUsed, TurnUntaken, Writer,
};

pub use templates::{CatalogueItem, Stopped, TemplateItem};

use crate::aws::Aws;
use crate::redelivery::Retryable;

/// How often a lost race is decided again before the job is left to its next delivery.
pub(crate) const RACES: usize = 8;

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where it ended, if there is more: the next part is after that.
    pub ended_at: Option<String>,
}

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// DynamoDB did not answer, or answered that it could not.
    #[error("DynamoDB's {action} failed{}", code.as_deref().map(|it| format!(" with {it}")).unwrap_or_default())]
    Unavailable {
        /// The action.
        action: &'static str,
        /// DynamoDB's error code, if it answered.
        code: Option<String>,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An item does not have the shape that this version knows.
    #[error("item `{key}` does not decode")]
    Corrupt {
        /// Its key, which holds no address.
        key: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A value cannot be written as an item, or DynamoDB never takes what it was asked to do with it.
    #[error("a value cannot be written as an item")]
    Unwritable {
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Others wrote the same item again and again.
    #[error("item of `{what}` moved under every try to write it")]
    Contended {
        /// What kind of item.
        what: &'static str,
    },
}

impl Retryable for StoreError {
    fn is_retryable(&self) -> bool {
        match self {
            // An item that a newer version wrote is readable again once that version runs here.
            Self::Unavailable { .. } | Self::Contended { .. } | Self::Corrupt { .. } => true,
            Self::Unwritable { .. } => false,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "store_unavailable",
            Self::Corrupt { .. } => "item_corrupt",
            Self::Unwritable { .. } => "item_unwritable",
            Self::Contended { .. } => "item_contended",
        }
    }
}

/// The store.
#[derive(Debug, Clone)]
pub struct Store {
    dynamo: dynamo::Dynamo,
}

impl Store {
    /// The store over these tables.
    #[must_use]
    pub fn new(client: dynamo::Client, tables: Tables) -> Self {
        Self { dynamo: dynamo::Dynamo::new(client, tables) }
    }

    /// The store over these tables, by the environment's credentials and endpoint.
    #[must_use]
    pub fn over(aws: &Aws, tables: Tables) -> Self {
        Self::new(dynamo::Client::from_conf(aws.dynamodb()), tables)
    }
}
