//! Data keys, wrapped and unwrapped by a key that never leaves KMS: <https://docs.aws.amazon.com/kms/latest/developerguide/overview.html>.

use std::error::Error;

use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::DataKeySpec;
use zeroize::Zeroizing;

use super::VaultError;

/// Bound to every wrapped key: one that is put in another's place does not open there.
/// <https://docs.aws.amazon.com/kms/latest/developerguide/encrypt_context.html>.
const CONTEXT: &str = "data_key";

/// A key of KMS.
#[derive(Debug, Clone)]
pub struct Kms {
    client: Client,
    key: String,
}

impl Kms {
    /// The key of this ARN or id.
    #[must_use]
    pub fn new(config: aws_sdk_kms::Config, key: impl Into<String>) -> Self {
        Self { client: Client::from_conf(config), key: key.into() }
    }

    /// A new data key of 256 bits, wrapped; KMS does not show it.
    ///
    /// <https://docs.aws.amazon.com/kms/latest/APIReference/API_GenerateDataKeyWithoutPlaintext.html>
    pub(super) async fn new_data_key(&self, id: &str) -> Result<Vec<u8>, VaultError> {
        let request = self.client.generate_data_key_without_plaintext().key_id(&self.key).encryption_context(CONTEXT, id);
        let made = request.key_spec(DataKeySpec::Aes256).send().await.map_err(failed)?;
        made.ciphertext_blob.map(Blob::into_inner).ok_or(VaultError::Malformed)
    }

    /// A data key, unwrapped.
    ///
    /// <https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html>
    pub(super) async fn unwrap(&self, id: &str, wrapped: Vec<u8>) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let request = self.client.decrypt().key_id(&self.key).encryption_context(CONTEXT, id).ciphertext_blob(Blob::new(wrapped));
        let opened = request.send().await.map_err(failed)?;
        opened.plaintext.map(|it| Zeroizing::new(it.into_inner())).ok_or(VaultError::Malformed)
    }
}

fn failed(error: impl Error + Send + Sync + 'static) -> VaultError {
    VaultError::Kms(Box::new(error))
}
