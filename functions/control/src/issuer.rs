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
/// While the issuer does not answer, keys are believed for this long.
const HELD_FOR: Duration = Duration::from_hours(24);

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
    known: Mutex<Option<Known>>,
}

/// The keys that are known.
#[derive(Debug)]
struct Known {
    read_at: Timestamp,
    /// When the issuer was last asked, whether it answered or not.
    asked_at: Timestamp,
    keys: Arc<Keys>,
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
        if let Some(it) = known.as_ref() {
            let is_fresh = it.keys.knows(key_id) && now.since(it.read_at) < REMEMBERED;
            if is_fresh || now.since(it.asked_at) < ASKED_EVERY {
                return Ok(it.keys.clone());
            }
        }
        match self.fetch().await {
            Ok(keys) => Ok(known.insert(Known { read_at: now, asked_at: now, keys: Arc::new(keys) }).keys.clone()),
            Err(error) => match known.as_mut() {
                // What is known holds meanwhile, for a day at most: a key may have been withdrawn.
                Some(it) if now.since(it.read_at) < HELD_FOR => {
                    it.asked_at = now;
                    Ok(it.keys.clone())
                }
                _ => Err(error),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The public half of a key that was made for this test, and its signature of `header.claims`.
    const MODULUS: &str = concat!(
        "rSb5zG3Oz0RflLY46ml4prjcKHImeaEIIDm39evMso3Wg6UPGPIziX04LzDwb2VR-xtLMEwcEJE9Aivx2ecQ9dac65zkHcmXYTGX8aNXvsI8na",
        "0NPxeCLg5_0w1Fp4NFmf-YvkolvRdSZoQoIryWl2KqWUL33QTkiZ1ubw9XyzA4LkiblfJOXIepTB5pIGKO9ihu08joXZpXGIPWx4SZgf8yrqQg",
        "vvscaO1rU_59_HzgPEdbmNgBQ0FXmdQBZJkLFxg7E7QIs7eRy9f6uPCOacEurBrGNYCZwn6Dh0XH_QA-PZLwO8pzEMFoe3vZqzOwde23bfjrPJ",
        "ygwCvew04RSw",
    );
    const SIGNATURE: &str = concat!(
        "WQbwfu9FF0bH0akoWV1dhzoqT9-8ZFhMaIIm3equ6Vf5XjPTQPH0NimNE-2PtrR10H9o0EoO8nf2oE1ZclPnrXM1WFQE2yDKTajhWFdzp5y214",
        "wxRMioY2UL86Oe7LxRZDPzM8OPav6UtJ6Ok218R5XMYdt8kAfK3xwskSMnf1Ko234w6OGXonbj3v9NjJqGG78KVP2vU2MAPU8ESdLsJdhkrOLk",
        "U4K0nG6hq_5ZmCft0-MwKsNtyOFntSqonaNSogG9ZRlaLz1O6twIWB1Adw8p9kIR41pPaQ_gMbYH8xhNce1YeqEHOmra7hYu1_iFDLm5AQgei4",
        "Ow9YGU1sDsOw",
    );

    fn keys(text: &str) -> Keys {
        serde_json::from_str(text).expect("keys")
    }

    fn verify(keys: &Keys, algorithm: Algorithm, key_id: Option<&str>, signed: &[u8]) -> bool {
        keys.verify(algorithm, key_id, signed, &URL_SAFE_NO_PAD.decode(SIGNATURE).expect("base64"))
    }

    #[test]
    fn the_key_that_is_named_signed_it_and_no_other() {
        let rsa = format!(r#"{{"kty":"RSA","kid":"a","use":"sig","n":"{MODULUS}","e":"AQAB"}}"#);
        let known = keys(&format!(r#"{{"keys":[{rsa},{{"kty":"oct","kid":"b","k":"AAAA"}}]}}"#));
        for key_id in [Some("a"), None] {
            assert!(verify(&known, Algorithm::Rs256, key_id, b"header.claims"), "{key_id:?}");
        }
        assert!(!verify(&known, Algorithm::Rs256, Some("b"), b"header.claims"));
        assert!(!verify(&known, Algorithm::Rs256, Some("c"), b"header.claims"));
        assert!(!verify(&known, Algorithm::Es256, Some("a"), b"header.claims"));
        assert!(!verify(&known, Algorithm::Rs256, Some("a"), b"header.claimz"));
        let to_encrypt = keys(&format!(r#"{{"keys":[{}]}}"#, rsa.replace("sig", "enc")));
        assert!(!verify(&to_encrypt, Algorithm::Rs256, None, b"header.claims"), "a key for something else signs nothing");
    }

    #[test]
    fn an_issuer_is_reached_over_tls_or_on_this_machine_where_that_is_allowed() {
        assert!(Issuer::new("https://issuer.example", false).is_ok());
        for (name, allow_loopback) in
            [("http://issuer.example", true), ("http://127.0.0.1:1", false), ("issuer", true), ("ftp://127.0.0.1", true)]
        {
            assert!(matches!(Issuer::new(name, allow_loopback), Err(IssuerError::Address)), "{name}");
        }
        assert!(Issuer::new("http://127.0.0.1:1", true).is_ok());
    }
}
