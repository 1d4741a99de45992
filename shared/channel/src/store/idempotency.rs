//! Requests that must not be done twice, by the keys that callers give them.

use std::time::Duration;

use domain::ids::TenantId;
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::dynamo::{Condition, Read, Versioned, Written};
use super::{RACES, Store, StoreError, keys};

/// A key is remembered for so long.
pub(crate) const REMEMBERED_FOR: Duration = Duration::from_hours(24);

/// A request under a caller's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The hash of the request: under one key there is one.
    pub request: String,
    /// The id of the message that it makes.
    pub message: String,
    /// When it came first.
    pub at: Timestamp,
    /// What was answered, in JSON, once all of it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

impl Store {
    /// Writes a request down under its key, unless one is there that came within a day: then that one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ask_once(&self, tenant: &TenantId, key: &str, asked: &Asked) -> Result<Asked, StoreError> {
        let at = keys::idempotency(tenant, key);
        for _ in 0..RACES {
            let found: Option<Versioned<Asked>> = self.dynamo.get(&at, Read::Strong).await?;
            let condition = match found {
                Some(it) if asked.at.since(it.value.at) < REMEMBERED_FOR => return Ok(it.value),
                Some(it) => Condition::Version(it.version),
                None => Condition::Absent,
            };
            let version = match condition {
                Condition::Version(it) => it + 1,
                Condition::Absent | Condition::Always => 1,
            };
            let written: Written<Asked> = self.dynamo.put(&at, asked, Some(version), Some(expires_at(asked)), condition).await?;
            if matches!(written, Written::Done) {
                return Ok(asked.clone());
            }
        }
        Err(StoreError::Contended { what: "idempotency key" })
    }

    /// The request that came under a key within a day.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn asked(&self, tenant: &TenantId, key: &str, now: Timestamp) -> Result<Option<Asked>, StoreError> {
        let found: Option<Versioned<Asked>> = self.dynamo.get(&keys::idempotency(tenant, key), Read::Strong).await?;
        Ok(found.map(|it| it.value).filter(|it| now.since(it.at) < REMEMBERED_FOR))
    }

    /// Notes what was answered to a request that was done.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn answered(&self, tenant: &TenantId, key: &str, asked: &Asked, answer: &str) -> Result<(), StoreError> {
        let answered = Asked { answer: Some(answer.to_owned()), ..asked.clone() };
        let at = keys::idempotency(tenant, key);
        let found: Option<Versioned<Asked>> = self.dynamo.get(&at, Read::Strong).await?;
        let Some(found) = found.filter(|it| it.value == *asked) else { return Ok(()) };
        let (version, condition) = (Some(found.version + 1), Condition::Version(found.version));
        let _: Written<Asked> = self.dynamo.put(&at, &answered, version, Some(expires_at(asked)), condition).await?;
        Ok(())
    }
}

fn expires_at(asked: &Asked) -> i64 {
    asked.at.plus(REMEMBERED_FOR).as_millis() / 1_000
}
