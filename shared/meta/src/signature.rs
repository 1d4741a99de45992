//! Is it Meta who speaks? The signature over a webhook's bytes, the verify token of a subscription, and the proof that we hold a secret.
//!
//! [`Verified`] can be made here only, and only a [`Verified`] can be parsed. This file must not know what is in a body.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Bytes in an HMAC-SHA256.
const TAG: usize = 32;

/// The secrets with which an app's webhooks are signed: the current one and, during a rotation, the one before.
///
/// Made once per app: it holds the keyed state, not the secret, and prints nothing of it.
#[derive(Clone)]
pub struct AppSecrets {
    keys: Vec<Hmac<Sha256>>,
}

impl AppSecrets {
    /// From the app's secret and, while it is being replaced, its predecessor. An empty secret verifies nothing: whoever knows that it is
    /// empty could sign with it.
    #[must_use]
    pub fn new(current: &[u8], previous: Option<&[u8]>) -> Self {
        let secrets = std::iter::once(current).chain(previous);
        Self { keys: secrets.filter(|it| !it.is_empty()).map(keyed).collect() }
    }

    /// Proves that `body` (the raw bytes as received, never decoded and encoded again) was signed with one of the secrets.
    ///
    /// `header` is the value of `X-Hub-Signature-256`: `sha256=` and 64 hexadecimal digits, of any case.
    /// <https://developers.facebook.com/docs/graph-api/webhooks/getting-started#validate-payloads>
    ///
    /// # Errors
    /// [`Refused`], which says nothing but that: what was expected must not reach whoever asks.
    pub fn verify<'a>(&self, body: &'a [u8], header: Option<&str>) -> Result<Verified<'a>, Refused> {
        let tag = header.and_then(tag).ok_or(Refused)?;
        // Each comparison takes constant time, and all keys are tried, so that time does not tell which one signed.
        let is_signed = self.keys.iter().fold(false, |signed, key| {
            let matches = key.clone().chain_update(body).verify_slice(&tag).is_ok();
            signed | matches
        });
        if is_signed { Ok(Verified { body }) } else { Err(Refused) }
    }
}

impl fmt::Debug for AppSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AppSecrets(…)")
    }
}

/// The body of a webhook whose signature holds.
#[derive(Clone, Copy)]
pub struct Verified<'a> {
    body: &'a [u8],
}

impl<'a> Verified<'a> {
    /// The bytes as received.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.body
    }
}

impl fmt::Debug for Verified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verified({} bytes)", self.body.len())
    }
}

/// The signature does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not hold")]
pub struct Refused;

/// `appsecret_proof`: shows Meta that whoever uses `token` holds the app's secret too.
///
/// <https://developers.facebook.com/docs/graph-api/guides/secure-requests#appsecret_proof>
#[must_use]
pub fn appsecret_proof(app_secret: &[u8], token: &str) -> String {
    let tag = keyed(app_secret).chain_update(token).finalize().into_bytes();
    tag.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Are two secrets equal? Takes the same time wherever they differ: for verify tokens.
///
/// <https://developers.facebook.com/docs/graph-api/webhooks/getting-started#verification-requests>
#[must_use]
pub fn is_same_secret(expected: &[u8], given: &[u8]) -> bool {
    let tag = |secret: &[u8]| keyed(b"compare").chain_update(secret).finalize();
    tag(expected) == tag(given)
}

fn keyed(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).expect("an HMAC takes a key of any length")
}

fn tag(header: &str) -> Option<[u8; TAG]> {
    let digits = header.strip_prefix("sha256=")?.as_bytes();
    if digits.len() != 2 * TAG {
        return None;
    }
    let mut tag = [0_u8; TAG];
    for (byte, pair) in tag.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (nibble(pair[0])? << 4) | nibble(pair[1])?;
    }
    Some(tag)
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|it| u8::try_from(it).ok())
}

/// The header that Meta would send with `body`: for tests and for the simulator of Meta.
#[must_use]
pub fn header(app_secret: &[u8], body: &[u8]) -> String {
    let tag = keyed(app_secret).chain_update(body).finalize().into_bytes();
    let digits: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={digits}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &[u8] = b"an-app-secret";

    fn is_accepted(secrets: &AppSecrets, body: &[u8], header: &str) -> bool {
        secrets.verify(body, Some(header)).is_ok()
    }

    #[test]
    fn a_known_answer() {
        // RFC 4231, test case 2: https://www.rfc-editor.org/rfc/rfc4231#section-4.3
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let body = b"what do ya want for nothing?";
        assert_eq!(header(b"Jefe", body), format!("sha256={expected}"));
        assert!(is_accepted(&AppSecrets::new(b"Jefe", None), body, &format!("sha256={expected}")));
        assert_eq!(appsecret_proof(b"Jefe", "what do ya want for nothing?"), expected);
    }

    #[test]
    fn the_escapes_on_the_wire_are_what_is_signed() {
        let wire = br#"{"text":"\u00a1hola\/\ud83d\udc4b"}"#;
        let decoded = "{\"text\":\"¡hola/👋\"}".as_bytes();
        let secrets = AppSecrets::new(SECRET, None);
        assert!(is_accepted(&secrets, wire, &header(SECRET, wire)));
        assert!(!is_accepted(&secrets, decoded, &header(SECRET, wire)));
    }

    #[test]
    fn upper_case_digits_are_digits() {
        let digits = header(SECRET, b"{}")["sha256=".len()..].to_uppercase();
        assert!(is_accepted(&AppSecrets::new(SECRET, None), b"{}", &format!("sha256={digits}")));
    }

    #[test]
    fn headers_of_another_form_are_refused() {
        let secrets = AppSecrets::new(SECRET, None);
        let good = header(SECRET, b"{}");
        let digits = &good["sha256=".len()..];
        let bad = [
            String::new(),
            digits.to_owned(),
            format!("sha1={digits}"),
            format!("SHA256={digits}"),
            format!("sha256={}", &digits[1..]),
            format!("{good}0"),
            format!(" {good}"),
            format!("{good} "),
            format!("sha256={}é", &digits[2..]),
            format!("sha256=+{}", &digits[1..]),
            "sha256=".to_owned(),
        ];
        for header in bad {
            assert!(!is_accepted(&secrets, b"{}", &header), "{header}");
        }
        assert_eq!(secrets.verify(b"{}", None).map(|_| ()), Err(Refused));
    }

    #[test]
    fn both_secrets_of_a_rotation_hold_and_no_third() {
        let secrets = AppSecrets::new(b"new", Some(b"old"));
        assert!(is_accepted(&secrets, b"{}", &header(b"new", b"{}")));
        assert!(is_accepted(&secrets, b"{}", &header(b"old", b"{}")));
        assert!(!is_accepted(&secrets, b"{}", &header(b"older", b"{}")));
    }

    #[test]
    fn an_empty_secret_verifies_nothing() {
        assert!(!is_accepted(&AppSecrets::new(b"", None), b"{}", &header(b"", b"{}")));
        assert!(!is_accepted(&AppSecrets::new(SECRET, Some(b"")), b"{}", &header(b"", b"{}")));
    }

    #[test]
    fn nothing_is_printed_of_secrets_and_bodies() {
        let secrets = AppSecrets::new(SECRET, None);
        let verified = secrets.verify(b"words", Some(&header(SECRET, b"words"))).expect("signed");
        assert_eq!(format!("{secrets:?} {verified:?}"), "AppSecrets(…) Verified(5 bytes)");
    }

    proptest! {
        #[test]
        fn one_flipped_bit_refuses(
            body in proptest::collection::vec(any::<u8>(), 1..200),
            secret in proptest::collection::vec(any::<u8>(), 1..100),
            at in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let good = header(&secret, &body);
            prop_assert!(is_accepted(&AppSecrets::new(&secret, None), &body, &good));

            let flipped = |bytes: &[u8]| {
                let mut bytes = bytes.to_vec();
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
                bytes
            };
            prop_assert!(!is_accepted(&AppSecrets::new(&secret, None), &flipped(&body), &good));
            prop_assert!(!is_accepted(&AppSecrets::new(&flipped(&secret), None), &body, &good));
            if let Ok(bad) = String::from_utf8(flipped(good.as_bytes())) {
                // A flipped bit may turn a hexadecimal digit into the same digit of the other case.
                prop_assume!(!bad.eq_ignore_ascii_case(&good));
                prop_assert!(!is_accepted(&AppSecrets::new(&secret, None), &body, &bad));
            }
        }

        #[test]
        fn any_header_is_answered(header in "\\PC{0,80}") {
            prop_assert!(!is_accepted(&AppSecrets::new(SECRET, None), b"body", &header));
        }

        #[test]
        fn secrets_are_equal_when_their_bytes_are(a in proptest::collection::vec(any::<u8>(), 0..9), b in proptest::collection::vec(any::<u8>(), 0..9)) {
            prop_assert_eq!(is_same_secret(&a, &b), a == b);
            prop_assert!(is_same_secret(&a, &a));
        }
    }
}
