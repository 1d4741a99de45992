//! Who asks: a tenant, and what they may do, by a bearer token that the issuer signed: <https://www.rfc-editor.org/rfc/rfc9068>.
//!
//! API Gateway checks the token before us; it is checked here too, so that nothing hangs on how a route was set up. On one machine a token
//! of the environment takes its place.

use std::marker::PhantomData;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use channel::vault::Secret;
use domain::ids::TenantId;
use domain::time::Timestamp;
use schemars::SchemaGenerator;
use serde::Deserialize;
use serde_json::Value;

use crate::Handles;
use crate::document::{Described, Operation};
use crate::issuer::{Algorithm, Issuer, Keys};
use crate::problems::Problem;

/// How far two clocks may be apart.
const LEEWAY_SECONDS: i64 = 60;
/// The longest token that is looked at, in bytes.
const TOKEN_BYTES: usize = 16 * 1024;

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// See.
    Read,
    /// Send to customers, and say who answers them.
    Send,
    /// Change connections and agents.
    Manage,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Read, Self::Send, Self::Manage];

    /// Its name in a token.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Send => "send",
            Self::Manage => "manage",
        }
    }
}

/// How callers prove who they are.
pub enum Access {
    /// By this token, on one machine only.
    Token {
        /// The token.
        token: Secret,
        /// The tenant that whoever has it is.
        tenant: TenantId,
    },
    /// By tokens of an issuer.
    Issuer {
        /// Whose keys they are signed with.
        issuer: Issuer,
        /// For whom they must be.
        audience: String,
        /// The claim that names the tenant.
        tenant_claim: String,
    },
    /// Not at all.
    Closed,
}

/// Who asks, and is allowed to do what `S` says.
pub(crate) struct Caller<S> {
    /// The tenant.
    pub(crate) tenant: TenantId,
    /// The person or program, as the token names them.
    pub(crate) subject: String,
    scope: PhantomData<S>,
}

/// A scope as a type, so that a handler's arguments say what it asks for.
pub(crate) trait Allows {
    /// The scope.
    const SCOPE: Scope;
}

macro_rules! scopes {
    ($($name:ident),*) => {$(
        /// May do what the scope of this name allows.
        pub(crate) struct $name;

        impl Allows for $name {
            const SCOPE: Scope = Scope::$name;
        }
    )*};
}
scopes!(Read, Send, Manage);

impl<S: Allows> FromRequestParts<Arc<Handles>> for Caller<S> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, handles: &Arc<Handles>) -> Result<Self, Problem> {
        let now = parts.extensions.get::<Timestamp>().copied().unwrap_or_default();
        let token = bearer(parts).ok_or_else(unauthorized)?;
        let proven = handles.access.prove(token, now).await?;
        if !proven.scopes.contains(&S::SCOPE) {
            let problem = Problem::new(StatusCode::FORBIDDEN, "scope_missing", "The token does not allow this.");
            return Err(problem.saying(format!("It takes a token with the scope `{}`.", S::SCOPE.name())));
        }
        Ok(Self { tenant: proven.tenant, subject: proven.subject, scope: PhantomData })
    }
}

impl<S: Allows> Described for Caller<S> {
    fn describe(operation: &mut Operation, _: &mut SchemaGenerator) {
        operation.scope(S::SCOPE.name());
        operation.problem(StatusCode::UNAUTHORIZED, "There is no token, or it is not good (any more).");
        operation.problem(StatusCode::FORBIDDEN, "The token does not have the scope.");
    }
}

fn unauthorized() -> Problem {
    let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "Nobody knows who asks.");
    problem.saying("Send a token that is in force with the header `Authorization: Bearer …`.")
}

fn bearer(parts: &Parts) -> Option<&str> {
    let (scheme, token) = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && token.len() <= TOKEN_BYTES).then(|| token.trim())
}

/// What a token proves.
#[derive(Debug, PartialEq, Eq)]
struct Proven {
    tenant: TenantId,
    subject: String,
    scopes: Vec<Scope>,
}

impl Access {
    async fn prove(&self, token: &str, now: Timestamp) -> Result<Proven, Problem> {
        match self {
            Self::Closed => Err(unauthorized()),
            Self::Token { token: expected, tenant } if Secret::new(token) == *expected => {
                Ok(Proven { tenant: tenant.clone(), subject: "local".to_owned(), scopes: Scope::ALL.to_vec() })
            }
            Self::Token { .. } => Err(unauthorized()),
            Self::Issuer { issuer, audience, tenant_claim } => {
                let token = Token::read(token).ok_or_else(unauthorized)?;
                let keys = issuer.keys(token.key_id.as_deref(), now).await.map_err(|error| {
                    tracing::error!(error.chain = lambda::logging::chain(&error), "the issuer's keys cannot be had");
                    Problem::unavailable()
                })?;
                let claims = token.claims(&keys).ok_or_else(unauthorized)?;
                let expected = Expected { issuer: issuer.name(), audience, tenant_claim };
                expected.prove(&claims, now).ok_or_else(unauthorized)
            }
        }
    }
}

/// A signed token, taken apart: <https://www.rfc-editor.org/rfc/rfc7515#section-3.1>.
struct Token<'a> {
    algorithm: Algorithm,
    key_id: Option<String>,
    signed: &'a str,
    claims: &'a str,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    /// Extensions that must be understood: we understand none.
    #[serde(default)]
    crit: Option<Value>,
}

impl<'a> Token<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        if header.crit.is_some() {
            return None;
        }
        let algorithm = Algorithm::named(&header.alg)?;
        Some(Self { algorithm, key_id: header.kid, signed, claims, signature: URL_SAFE_NO_PAD.decode(signature).ok()? })
    }

    /// What it says, if one of the keys signed it.
    fn claims(&self, keys: &Keys) -> Option<Value> {
        let is_signed = keys.verify(self.algorithm, self.key_id.as_deref(), self.signed.as_bytes(), &self.signature);
        is_signed.then(|| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(self.claims).ok()?).ok()).flatten()
    }
}

/// What a token must say.
struct Expected<'a> {
    issuer: &'a str,
    audience: &'a str,
    tenant_claim: &'a str,
}

impl Expected<'_> {
    fn prove(&self, claims: &Value, now: Timestamp) -> Option<Proven> {
        let seconds = now.as_millis() / 1_000;
        let is_issued = claims["iss"] == self.issuer;
        // Some issuers (Amazon Cognito) name the client in place of an audience, as API Gateway takes it too:
        // https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-jwt-authorizer.html
        let audience = if claims["aud"].is_null() { &claims["client_id"] } else { &claims["aud"] };
        let is_for_us = texts(audience).contains(&self.audience);
        let is_in_force = claims["exp"].as_f64().is_some_and(|it| it > (seconds - LEEWAY_SECONDS) as f64)
            && claims["nbf"].as_f64().is_none_or(|it| it <= (seconds + LEEWAY_SECONDS) as f64);
        if !(is_issued && is_for_us && is_in_force) {
            return None;
        }
        let names: Vec<&str> = texts(&claims["scope"]).into_iter().chain(texts(&claims["scp"])).flat_map(str::split_whitespace).collect();
        Some(Proven {
            tenant: TenantId::parse(claims[self.tenant_claim].as_str()?).ok()?,
            subject: claims["sub"].as_str().unwrap_or_default().to_owned(),
            scopes: Scope::ALL.into_iter().filter(|it| names.contains(&it.name())).collect(),
        })
    }
}

/// A text, or a list of them.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(it) => vec![it],
        Value::Array(it) => it.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    fn claims() -> Value {
        json!({ "iss": "https://issuer.example", "aud": ["other", "channel"], "exp": 1_790_000_100, "nbf": 1_789_999_000, "tenant": "acme",
                "sub": "eva", "scope": "openid read send" })
    }

    fn prove(claims: &Value) -> Option<Proven> {
        Expected { issuer: "https://issuer.example", audience: "channel", tenant_claim: "tenant" }.prove(claims, NOW)
    }

    fn without(member: &str) -> Value {
        let mut claims = claims();
        claims.as_object_mut().expect("an object").remove(member);
        claims
    }

    fn with(member: &str, value: Value) -> Value {
        let mut claims = claims();
        claims[member] = value;
        claims
    }

    #[test]
    fn a_token_says_the_tenant_and_the_scopes() {
        let proven = prove(&claims()).expect("it is good");
        assert_eq!((proven.tenant.as_str(), proven.subject.as_str()), ("acme", "eva"));
        assert_eq!(proven.scopes, [Scope::Read, Scope::Send]);
        let listed = with("scp", json!(["manage"]));
        assert_eq!(prove(&listed).expect("it is good").scopes, Scope::ALL);
        assert_eq!(prove(&without("scope")).expect("it is good").scopes, []);
    }

    #[test]
    fn a_token_of_another_issuer_audience_or_time_proves_nothing() {
        for wrong in [
            with("iss", json!("https://other.example")),
            with("aud", json!("other")),
            with("exp", json!(1_789_999_940)),
            with("exp", json!("1790000100")),
            with("nbf", json!(1_790_000_061)),
            with("tenant", json!("a/b")),
            without("iss"),
            without("aud"),
            without("exp"),
            without("tenant"),
        ] {
            assert_eq!(prove(&wrong), None, "{wrong}");
        }
        assert!(prove(&with("exp", json!(1_789_999_941))).is_some(), "clocks differ by some seconds");
        let mut cognito = without("aud");
        cognito["client_id"] = json!("channel");
        assert!(prove(&cognito).is_some());
    }

    #[test]
    fn a_token_without_a_signature_of_a_kind_that_we_take_is_none() {
        let token = |header: &str| format!("{}.{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode("{}"), "AAAA");
        assert!(Token::read(&token(r#"{"alg":"RS256"}"#)).is_some());
        for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS256"}"#, r#"{"alg":"RS256","crit":["b64"]}"#, "{}", "x"] {
            assert!(Token::read(&token(header)).is_none(), "{header}");
        }
        assert!(Token::read("x").is_none() && Token::read("..").is_none());
    }
}
