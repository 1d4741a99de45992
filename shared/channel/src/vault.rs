//! Secrets at rest: sealed with AES-256-GCM under a key that has a name, which travels with every sealed value.
//!
//! On AWS the keys are data keys that KMS has wrapped and the store keeps: a new one every 30 days, and one call of KMS per container and key,
//! where a call per secret would cost by the secret. On one machine it is one key that the environment gives.
//! <https://docs.aws.amazon.com/kms/latest/developerguide/data-keys.html>

mod kms;

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use aes_gcm::aead::{Aead, Generate, Payload};
use aes_gcm::aes::cipher::consts::{U12, U24};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::aws::Aws;
use crate::redelivery::Retryable;
use crate::store::{Store, StoreError};

pub use kms::Kms;

/// The nonce's length in bytes, the one for which GCM is made:
/// <https://nvlpubs.nist.gov/nistpubs/Legacy/SP/nistspecialpublication800-38d.pdf>. Random nonces are good for 2³² values under
/// one key, far more than tokens are ever set.
const NONCE_BYTES: usize = 12;

/// A secret has a hint only from this many characters on: of less, four would tell too much.
const HINT_FROM: usize = 12;

/// The id of the master key that the environment gives: what is sealed says under which key.
pub const MASTER_KEY_ID: &str = "master";

/// A token, an app secret or another text that nobody may see: not printed, wiped from memory when dropped, compared in
/// constant time.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// From plain text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself: for the one place that needs it, never for logs or errors.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// One that nobody can guess: 24 random bytes as 32 letters, digits, `-` and `_`.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate() -> Result<Self, VaultError> {
        let bytes = Nonce::<U24>::try_generate().map_err(|source| VaultError::Randomness(Box::new(source)))?;
        Ok(Self::new(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// One that webhooks are signed with: `whsec_` and 24 random bytes in base64.
    /// <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate_signing() -> Result<Self, VaultError> {
        let bytes = Nonce::<U24>::try_generate().map_err(|source| VaultError::Randomness(Box::new(source)))?;
        Ok(Self::new(format!("whsec_{}", STANDARD.encode(bytes))))
    }

    /// A two-step PIN that nobody can guess: six digits.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate_pin() -> Result<Self, VaultError> {
        let bytes = Nonce::<U24>::try_generate().map_err(|source| VaultError::Randomness(Box::new(source)))?;
        let number = bytes.iter().fold(0_u64, |sum, it| (sum * 256 + u64::from(*it)) % 1_000_000);
        Ok(Self::new(format!("{number:06}")))
    }

    /// Is it what a person is shown in the place of a secret, and not one?
    pub fn is_masked(&self) -> bool {
        self.0.starts_with(['*', '•', '…'])
    }

    /// The last four characters, by which a person recognises it. None if it is shorter than 12.
    pub fn hint(&self) -> Option<String> {
        let length = self.0.chars().count();
        (length >= HINT_FROM).then(|| self.0.chars().skip(length - 4).collect())
    }
}

/// Prints that there is one.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// In constant time for equal lengths; a length is no secret.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::new(text))
    }
}

/// Whose secret it is and which: a sealed value opens only under the same, so nobody can move it to another item or field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdditionalData {
    owner: String,
    field: &'static str,
}

impl AdditionalData {
    /// A secret of a connection.
    pub fn of_connection(connection: &str, field: &'static str) -> Self {
        Self { owner: format!("connection {connection}"), field }
    }

    /// A secret of a number.
    pub fn of_number(number: &str, field: &'static str) -> Self {
        Self { owner: format!("number {number}"), field }
    }

    /// A secret of an agent on a connection.
    pub fn of_attachment(connection: &str, agent: &str, field: &'static str) -> Self {
        Self { owner: format!("attachment {connection} {agent}"), field }
    }

    /// A secret of an app.
    pub fn of_app(app: &str, field: &'static str) -> Self {
        Self { owner: format!("app {app}"), field }
    }

    /// Lengths first, so that no two lists of parts have the same bytes.
    fn bytes(&self, key_id: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in [key_id, &self.owner, self.field] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}

/// A sealed secret as it is stored: `v1.<key id>.<base64url of nonce, ciphertext and tag>`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sealed {
    key_id: String,
    /// Nonce, ciphertext, tag.
    bytes: Vec<u8>,
}

impl fmt::Display for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v1.{}.{}", self.key_id, URL_SAFE_NO_PAD.encode(&self.bytes))
    }
}

/// Prints under which key it is sealed.
impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed(v1.{}.…)", self.key_id)
    }
}

impl FromStr for Sealed {
    type Err = VaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('.');
        let (Some("v1"), Some(key_id), Some(encoded), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(VaultError::Malformed);
        };
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| VaultError::Malformed)?;
        if !is_key_id(key_id) || bytes.len() < NONCE_BYTES {
            return Err(VaultError::Malformed);
        }
        Ok(Self { key_id: key_id.to_owned(), bytes })
    }
}

impl TryFrom<String> for Sealed {
    type Error = VaultError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Sealed> for String {
    fn from(sealed: Sealed) -> Self {
        sealed.to_string()
    }
}

/// Why something was not sealed or not opened. Says nothing of any secret.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The master key is no base64 of 32 bytes.
    #[error("the master key is not 32 bytes of base64")]
    MasterKey,
    /// A key id is 1 to 64 letters, digits, `-` and `_`.
    #[error("the key id `{0}` has other characters than letters, digits, `-` and `_`, or is empty or too long")]
    KeyId(String),
    /// Sealed under a key that this vault does not hold.
    #[error("sealed under key `{sealed_under}`, and the vault holds `{held}`")]
    OtherKey {
        /// The key that would open it.
        sealed_under: String,
        /// The key that is here.
        held: String,
    },
    /// Not what was sealed under this key for this owner and field.
    #[error("the sealed value was tampered with, or belongs to another owner or field")]
    Tampered,
    /// Not in the form in which sealed values are stored.
    #[error("the sealed value is not of the form `v1.<key id>.<base64url>`")]
    Malformed,
    /// The operating system gave no randomness.
    #[error("no randomness for a nonce")]
    Randomness(#[source] Box<dyn Error + Send + Sync>),
    /// The key under which it was sealed is not kept any more.
    #[error("the data key `{0}` is not in the store")]
    NoKey(String),
    /// The wrapped key could not be read or kept.
    #[error("the data key could not be read or kept")]
    Store {
        /// The cause.
        #[from]
        source: StoreError,
    },
    /// KMS did not wrap or unwrap the key.
    #[error("KMS did not give the data key")]
    Kms(#[source] Box<dyn Error + Send + Sync>),
}

impl Retryable for VaultError {
    fn is_retryable(&self) -> bool {
        match self {
            // A deployment with the right key mends these.
            Self::MasterKey | Self::KeyId(_) | Self::OtherKey { .. } | Self::Randomness(_) | Self::NoKey(_) | Self::Kms(_) => true,
            Self::Store { source } => source.is_retryable(),
            Self::Tampered | Self::Malformed => false,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::MasterKey => "vault_master_key",
            Self::KeyId(_) => "vault_key_id",
            Self::OtherKey { .. } => "vault_other_key",
            Self::Tampered => "vault_tampered",
            Self::Malformed => "vault_malformed",
            Self::Randomness(_) => "vault_randomness",
            Self::NoKey(_) => "vault_no_key",
            Self::Store { source } => source.code(),
            Self::Kms(_) => "vault_kms",
        }
    }
}

/// Seals and opens secrets.
#[derive(Clone)]
pub struct Vault(Arc<Keys>);

/// Where a vault's keys come from.
#[derive(Debug)]
pub enum KeySource {
    /// The environment of one machine.
    Master(Vault),
    /// KMS, which wraps them with this key.
    Kms(String),
}

impl KeySource {
    /// The vault.
    #[must_use]
    pub fn vault(self, aws: &Aws, store: &Store) -> Vault {
        match self {
            Self::Master(it) => it,
            Self::Kms(key) => Vault::wrapped(Kms::new(aws.kms(), key), store.clone()),
        }
    }
}

/// The keys, or how to come by them.
enum Keys {
    /// One key, from the environment.
    One { id: String, cipher: Arc<Aes256Gcm> },
    /// Data keys that KMS has wrapped.
    Wrapped(DataKeys),
}

/// Data keys, wrapped in the store, and those that were unwrapped here.
struct DataKeys {
    kms: Kms,
    store: Store,
    unwrapped: Mutex<HashMap<String, Arc<Aes256Gcm>>>,
}

/// Prints where the keys come from.
impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = match &*self.0 {
            Keys::One { id, .. } => id.as_str(),
            Keys::Wrapped(_) => "wrapped by KMS",
        };
        f.debug_struct("Vault").field("keys", &keys).finish_non_exhaustive()
    }
}

/// A data key is used for this long; then a new one seals, and the old one opens what it has sealed.
const PERIOD_MS: i64 = 30 * 24 * 60 * 60 * 1_000;

impl Vault {
    /// With a key of 32 bytes in standard base64, and the name under which it is known.
    ///
    /// # Errors
    /// When the key or its name is not of that form.
    pub fn new(key_id: &str, master_key: &Secret) -> Result<Self, VaultError> {
        if !is_key_id(key_id) {
            return Err(VaultError::KeyId(key_id.to_owned()));
        }
        let key = Zeroizing::new(STANDARD.decode(master_key.expose().trim()).map_err(|_| VaultError::MasterKey)?);
        Ok(Self(Arc::new(Keys::One { id: key_id.to_owned(), cipher: cipher(&key)? })))
    }

    /// With data keys that this key of KMS wraps and the store keeps.
    #[must_use]
    pub fn wrapped(kms: Kms, store: Store) -> Self {
        Self(Arc::new(Keys::Wrapped(DataKeys { kms, store, unwrapped: Mutex::default() })))
    }

    /// Seals a secret for its owner and field, under the key of `now`, with a new random nonce each time.
    ///
    /// # Errors
    /// When there is no key, or the operating system gives no randomness.
    pub async fn seal(&self, secret: &Secret, field: &AdditionalData, now: Timestamp) -> Result<Sealed, VaultError> {
        let (key_id, cipher) = match &*self.0 {
            Keys::One { id, cipher } => (id.clone(), cipher.clone()),
            Keys::Wrapped(keys) => {
                let id = format!("data-{}", now.as_millis().div_euclid(PERIOD_MS));
                // Rare, and large: what is not boxed makes every future that opens a secret as large.
                let cipher = Box::pin(keys.current(&id)).await?;
                (id, cipher)
            }
        };
        let nonce = Nonce::<U12>::try_generate().map_err(|source| VaultError::Randomness(Box::new(source)))?;
        let payload = Payload { msg: secret.expose().as_bytes(), aad: &field.bytes(&key_id) };
        let ciphertext = cipher.encrypt(&nonce, payload).expect("a secret is far shorter than GCM's 64 GiB");
        Ok(Sealed { key_id, bytes: [nonce.as_slice(), &ciphertext].concat() })
    }

    /// Seals a secret if there is one.
    ///
    /// # Errors
    /// As [`Vault::seal`].
    pub async fn seal_any(&self, secret: Option<&Secret>, field: &AdditionalData, now: Timestamp) -> Result<Option<Sealed>, VaultError> {
        match secret {
            Some(it) => self.seal(it, field, now).await.map(Some),
            None => Ok(None),
        }
    }

    /// Opens what was sealed for this owner and field.
    ///
    /// # Errors
    /// When its key is not to be had, or it is not what was sealed.
    pub async fn open(&self, sealed: &Sealed, field: &AdditionalData) -> Result<Secret, VaultError> {
        let cipher = match &*self.0 {
            Keys::One { id, cipher } if *id == sealed.key_id => cipher.clone(),
            Keys::One { id, .. } => return Err(VaultError::OtherKey { sealed_under: sealed.key_id.clone(), held: id.clone() }),
            Keys::Wrapped(keys) => Box::pin(keys.named(&sealed.key_id)).await?.ok_or_else(|| VaultError::NoKey(sealed.key_id.clone()))?,
        };
        let (nonce, ciphertext) = sealed.bytes.split_first_chunk::<NONCE_BYTES>().ok_or(VaultError::Malformed)?;
        let payload = Payload { msg: ciphertext, aad: &field.bytes(&sealed.key_id) };
        let text = cipher.decrypt(&Nonce::<U12>::from(*nonce), payload).map_err(|_| VaultError::Tampered)?;
        // Only texts are sealed, so what the tag vouches for is a text.
        String::from_utf8(text).map(Secret::new).map_err(|_| VaultError::Tampered)
    }

    /// Opens a sealed secret if there is one.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub async fn open_any(&self, sealed: Option<&Sealed>, field: &AdditionalData) -> Result<Option<Secret>, VaultError> {
        match sealed {
            Some(it) => self.open(it, field).await.map(Some),
            None => Ok(None),
        }
    }
}

impl DataKeys {
    /// The key of this name, if it is kept.
    async fn named(&self, id: &str) -> Result<Option<Arc<Aes256Gcm>>, VaultError> {
        let known = self.unwrapped.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let Some(wrapped) = self.store.data_key(id).await? else { return Ok(None) };
        let wrapped = STANDARD.decode(wrapped).map_err(|_| VaultError::Malformed)?;
        let cipher = cipher(&self.kms.unwrap(id, wrapped).await?)?;
        self.unwrapped.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), cipher.clone());
        Ok(Some(cipher))
    }

    /// The key of this name, made if there is none. Of several that are made at once one is kept, and all take that.
    async fn current(&self, id: &str) -> Result<Arc<Aes256Gcm>, VaultError> {
        if let Some(it) = self.named(id).await? {
            return Ok(it);
        }
        let wrapped = self.kms.new_data_key(id).await?;
        self.store.keep_data_key(id, &STANDARD.encode(wrapped)).await?;
        self.named(id).await?.ok_or_else(|| VaultError::NoKey(id.to_owned()))
    }
}

fn cipher(key: &[u8]) -> Result<Arc<Aes256Gcm>, VaultError> {
    Aes256Gcm::new_from_slice(key).map(Arc::new).map_err(|_| VaultError::MasterKey)
}

fn is_key_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-' || it == b'_')
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use proptest::prelude::*;

    use super::*;

    fn vault(key_id: &str, key: u8) -> Vault {
        Vault::new(key_id, &Secret::new(STANDARD.encode([key; 32]))).expect("a good key")
    }

    fn seal(vault: &Vault, text: &str, field: &AdditionalData) -> Sealed {
        block_on(vault.seal(&Secret::new(text), field, Timestamp::default())).expect("seals")
    }

    fn open(vault: &Vault, sealed: &Sealed, field: &AdditionalData) -> Result<Secret, VaultError> {
        block_on(vault.open(sealed, field))
    }

    fn field() -> AdditionalData {
        AdditionalData::of_connection("demo", "access_token")
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_also_after_storage(text in any::<String>(), key in any::<u8>()) {
            let vault = vault("local", key);
            let sealed = seal(&vault, &text, &field());
            let stored = serde_json::to_string(&sealed).expect("stores");
            let read: Sealed = serde_json::from_str(&stored).expect("reads");
            let opened = open(&vault, &read, &field()).expect("opens");
            prop_assert_eq!(opened.expose(), text);
        }

        #[test]
        fn any_flipped_bit_is_noticed(text in any::<String>(), position in any::<prop::sample::Index>(), bit in 0_u32..8) {
            let vault = vault("local", 7);
            let mut sealed = seal(&vault, &text, &field());
            let position = position.index(sealed.bytes.len());
            sealed.bytes[position] ^= 1_u8 << bit;
            prop_assert!(matches!(open(&vault, &sealed, &field()), Err(VaultError::Tampered)));
        }

        #[test]
        fn another_owner_or_field_does_not_open(owner in any::<String>(), other in any::<String>()) {
            prop_assume!(owner != other);
            let vault = vault("local", 7);
            let sealed = seal(&vault, "x", &AdditionalData::of_connection(&owner, "token"));
            for wrong in [
                AdditionalData::of_connection(&other, "token"),
                AdditionalData::of_connection(&owner, "app_secret"),
                AdditionalData::of_app(&owner, "token"),
            ] {
                prop_assert!(matches!(open(&vault, &sealed, &wrong), Err(VaultError::Tampered)));
            }
        }

        #[test]
        fn additional_data_never_collide(a in any::<[String; 2]>(), b in any::<[String; 2]>()) {
            let bytes = |it: &[String; 2]| AdditionalData::of_app(&it[1], "token").bytes(&it[0]);
            prop_assert_eq!(bytes(&a) == bytes(&b), a == b);
        }

        #[test]
        fn secrets_are_equal_as_their_texts(a in "[ab]{0,2}", b in "[ab]{0,2}") {
            prop_assert_eq!(Secret::new(a.clone()) == Secret::new(b.clone()), a == b);
        }

        #[test]
        fn reading_a_stored_value_never_panics(text in any::<String>()) {
            let _ = text.parse::<Sealed>();
        }
    }

    #[test]
    fn additional_data_have_borders() {
        let split = |key_id: &str, owner: &str| AdditionalData { owner: owner.into(), field: "f" }.bytes(key_id);
        assert_ne!(split("ab", "c"), split("a", "bc"));
    }

    #[test]
    fn a_nonce_is_never_used_twice() {
        let vault = vault("local", 7);
        let sealed: std::collections::HashSet<String> = (0..100).map(|_| seal(&vault, "same", &field()).to_string()).collect();
        assert_eq!(sealed.len(), 100);
    }

    #[test]
    fn another_key_is_told_by_its_name_or_noticed() {
        let sealed = seal(&vault("2026-11", 1), "x", &field());
        let error = open(&vault("2026-12", 2), &sealed, &field()).expect_err("another key");
        assert_eq!(error.to_string(), "sealed under key `2026-11`, and the vault holds `2026-12`");
        assert!(matches!(open(&vault("2026-11", 2), &sealed, &field()), Err(VaultError::Tampered)));
    }

    #[test]
    fn keys_and_sealed_values_have_one_form() {
        for key in ["", "AAAA", "not base64!", &STANDARD.encode([0; 31]), &STANDARD.encode([0; 33])] {
            assert!(matches!(Vault::new("local", &Secret::new(key)), Err(VaultError::MasterKey)), "{key}");
        }
        let good = Secret::new(STANDARD.encode([0; 32]));
        for key_id in ["", "a.b", "ü", &"a".repeat(65)] {
            assert!(matches!(Vault::new(key_id, &good), Err(VaultError::KeyId(_))), "{key_id}");
        }
        let bytes = URL_SAFE_NO_PAD.encode([0; 28]);
        assert!(format!("v1.local.{bytes}").parse::<Sealed>().is_ok());
        for text in ["", "v1.local", "v1.local.AAAA", &format!("v2.local.{bytes}"), &format!("v1.local.{bytes}.x"), "v1.local.!"] {
            assert!(matches!(text.parse::<Sealed>(), Err(VaultError::Malformed)), "{text}");
        }
    }

    #[test]
    fn a_hint_is_four_of_at_least_twelve() {
        assert_eq!(Secret::new("abcdefghijk").hint(), None);
        assert_eq!(Secret::new("abcdefghijkl").hint().as_deref(), Some("ijkl"));
        assert_eq!(Secret::new("ääääääääöüßé").hint().as_deref(), Some("öüßé"));
    }

    #[test]
    fn what_is_generated_is_new_each_time_and_what_is_masked_is_no_secret() {
        let (one, other) = (Secret::generate().expect("randomness"), Secret::generate().expect("randomness"));
        assert!(one != other && one.expose().len() == 32 && !one.is_masked());
        let pin = Secret::generate_pin().expect("randomness");
        assert!(pin.expose().len() == 6 && pin.expose().bytes().all(|it| it.is_ascii_digit()));
        assert!(["****abcd", "••••abcd", "…abcd"].iter().all(|it| Secret::new(*it).is_masked()));
    }

    #[test]
    fn nothing_prints_a_secret() {
        let secret = Secret::new("example-token-0123456789");
        let vault = vault("local", b'k');
        let sealed = seal(&vault, secret.expose(), &field());
        assert_eq!(format!("{secret:?} {sealed:?}"), "Secret(…) Sealed(v1.local.…)");
        assert_eq!(format!("{vault:?}"), "Vault { keys: \"local\", .. }");
    }
}
