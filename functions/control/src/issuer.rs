//! The issuer's keys: found where its metadata says, fetched and remembered: <https://www.rfc-editor.org/rfc/rfc8414>.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::time::Timestamp;
use futures::lock::Mutex;
use reqwest::{Client, Url, redirect};
use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Longest wait for the issuer's answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer that is read, in bytes.
const ANSWER_BYTES: usize = 256 * 1024;
/// Keys are fetched again after this long…
const REMEMBERED: Duration = Duration::from_hours(1);
/// …or when a token names another one, at most so often.
const ASKED_EVERY: Duration = Duration::from_mins(1);

/// How a token may be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA with P-256 and SHA-256.
    Es256,
}

impl Algorithm {
    /// By its name: <https://www.rfc-editor.org/rfc/rfc7518#section-3.1>.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            _ => None,
        }
    }
}

/// Why the keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The address is not one to ask.
    #[error("the issuer's address is not https")]
    Address,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// There is no client to ask with.
    #[error("there is no HTTP client for the issuer")]
    Client {
        /// The cause.
        #[source]
        source: reqwest::Error,
    },
    /// It does not answer.
    #[error("the issuer does not answer")]
    Unavailable {
        /// The cause.
        #[source]
        source: reqwest::Error,
    },
    /// Its answer is too long.
    #[error("the issuer's answer is too long")]
    TooLong,
    /// Its answer is not what it should be.
    #[error("the issuer's answer is not what it should be")]
    NotUnderstood {
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// It says that it is another one.
    #[error("the issuer's metadata are of another one")]
    Other,
}

/// The keys of an issuer, by their names.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Keys {
    keys: Vec<Key>,
}

/// One key: <https://www.rfc-editor.org/rfc/rfc7517#section-4>.
#[derive(Debug, Clone, Deserialize)]
struct Key {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default, rename = "use")]
    usage: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
}

impl Keys {
    fn knows(&self, key_id: Option<&str>) -> bool {
        self.keys.iter().any(|it| it.is_meant(key_id))
    }

    /// Did the key of that name sign this, or any of them, if none is named?
    pub(crate) fn verify(&self, algorithm: Algorithm, key_id: Option<&str>, signed: &[u8], signature: &[u8]) -> bool {
        let meant = self.keys.iter().filter(|it| it.is_meant(key_id) && it.usage.as_deref().is_none_or(|it| it == "sig"));
        meant.into_iter().any(|it| it.verify(algorithm, signed, signature).is_some())
    }
}

impl Key {
    fn is_meant(&self, key_id: Option<&str>) -> bool {
        key_id.is_none() || self.kid.as_deref() == key_id
    }

    fn verify(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> Option<()> {
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        match (algorithm, self.kty.as_str(), self.crv.as_deref()) {
            (Algorithm::Rs256, "RSA", _) => {
                let key = RsaPublicKeyComponents { n: bytes(&self.n)?, e: bytes(&self.e)? };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature).ok()
            }
            (Algorithm::Es256, "EC", Some("P-256")) => {
                let point = [vec![4], bytes(&self.x)?, bytes(&self.y)?].concat();
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature).ok()
            }
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

/// An issuer of tokens.
pub struct Issuer {
    name: String,
    client: Client,
    allow_loopback: bool,
    known: Mutex<Option<(Timestamp, Arc<Keys>)>>,
}

impl Issuer {
    /// The issuer of this name, which is its address.
    ///
    /// # Errors
    /// [`IssuerError::Address`] if that is not https (or, where `allow_loopback`, on this machine); [`IssuerError::Client`].
    pub fn new(name: impl Into<String>, allow_loopback: bool) -> Result<Self, IssuerError> {
        let name = name.into();
        let client = Client::builder()
            .tls_backend_preconfigured(meta::graph::tls().map_err(IssuerError::Tls)?)
            .timeout(TIMEOUT)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .retry(reqwest::retry::never())
            .user_agent("whatsapp-channel")
            .build()
            .map_err(|source| IssuerError::Client { source })?;
        let it = Self { name, client, allow_loopback, known: Mutex::new(None) };
        it.metadata_url().map(|_| it)
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn metadata_url(&self) -> Result<Url, IssuerError> {
        self.checked(&format!("{}/.well-known/openid-configuration", self.name.trim_end_matches('/')))
    }

    fn checked(&self, address: &str) -> Result<Url, IssuerError> {
        let url = Url::parse(address).map_err(|_| IssuerError::Address)?;
        let is_here = self.allow_loopback && url.scheme() == "http" && matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"));
        if url.scheme() == "https" || is_here { Ok(url) } else { Err(IssuerError::Address) }
    }

    /// Its keys, among which is the one of that name, if it has one.
    ///
    /// # Errors
    /// [`IssuerError`], if they are not known from before.
    pub(crate) async fn keys(&self, key_id: Option<&str>, now: Timestamp) -> Result<Arc<Keys>, IssuerError> {
        let mut known = self.known.lock().await;
        if let Some((at, keys)) = known.as_ref() {
            let again = if keys.knows(key_id) { REMEMBERED } else { ASKED_EVERY };
            if now.since(*at) < again {
                return Ok(keys.clone());
            }
        }
        match self.fetch().await {
            Ok(keys) => Ok(known.insert((now, Arc::new(keys))).1.clone()),
            Err(error) => match known.as_mut() {
                // What is known holds meanwhile, and the issuer is left in peace for a while.
                Some((at, keys)) => {
                    *at = now;
                    Ok(keys.clone())
                }
                None => Err(error),
            },
        }
    }

    async fn fetch(&self) -> Result<Keys, IssuerError> {
        let metadata: Metadata = self.read(self.metadata_url()?).await?;
        if metadata.issuer != self.name {
            return Err(IssuerError::Other);
        }
        self.read(self.checked(&metadata.jwks_uri)?).await
    }

    async fn read<T: DeserializeOwned>(&self, url: Url) -> Result<T, IssuerError> {
        let unavailable = |source: reqwest::Error| IssuerError::Unavailable { source: source.without_url() };
        let response = self.client.get(url).send().await.and_then(reqwest::Response::error_for_status);
        let mut response = response.map_err(unavailable)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unavailable)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > ANSWER_BYTES {
                return Err(IssuerError::TooLong);
            }
        }
        serde_json::from_slice(&bytes).map_err(|source| IssuerError::NotUnderstood { source })
    }
}
