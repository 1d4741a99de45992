//! The keys under which secrets are sealed, each wrapped by KMS.

use serde::{Deserialize, Serialize};

use super::dynamo::{Condition, Read, Versioned, Written};
use super::{Store, StoreError, keys};

#[derive(Serialize, Deserialize)]
struct DataKey {
    /// As KMS gave it, in base64.
    wrapped: String,
}

impl Store {
    /// The wrapped key of this name, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn data_key(&self, id: &str) -> Result<Option<String>, StoreError> {
        let found: Option<Versioned<DataKey>> = self.dynamo.get(&keys::data_key(id), Read::Strong).await?;
        Ok(found.map(|it| it.value.wrapped))
    }

    /// Keeps a wrapped key for ever, unless there is one of this name: what was sealed under that opens under no other.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn keep_data_key(&self, id: &str, wrapped: &str) -> Result<(), StoreError> {
        let key = DataKey { wrapped: wrapped.to_owned() };
        let _: Written<DataKey> = self.dynamo.put(&keys::data_key(id), &key, None, None, Condition::Absent).await?;
        Ok(())
    }
}
