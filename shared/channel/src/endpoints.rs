//! Where agents listen on HTTPS: what is sent there is signed by Standard Webhooks, and an endpoint that takes nothing is down for a while.
//!
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::connection::Connection;
use domain::ids::AgentId;
use domain::time::Timestamp;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::connections::{self, ConnectionError};
use crate::feed;
use crate::jobs::{EndpointState, Happened};
use crate::queues::Queues;
use crate::redelivery::Retryable as _;
use crate::store::{Attachment, DownBecause, Endpoint, Store};
use crate::vault::{AdditionalData, Secret, Vault, VaultError};
use crate::web::{Answer, Web, WebError};

/// After another secret was made, requests are signed with the one before as well for this long.
pub(crate) const SECRET_OVERLAP: Duration = Duration::from_hours(24);
/// The field of the probe that asks an endpoint that is down whether it answers again.
pub(crate) const FIELD: &str = "agent_endpoint";
/// An endpoint that is down is not asked before it has rested.
pub(crate) const RESTS_FOR: Duration = Duration::from_secs(30);
/// How long an endpoint has to answer such a question.
const PING_WITHIN: Duration = Duration::from_secs(5);

/// Of which field of an attachment the secret of its endpoint is.
pub(crate) fn of_secret(attachment: &Attachment) -> AdditionalData {
    AdditionalData::of_attachment(attachment.connection.as_str(), attachment.agent.as_str(), "endpoint_secret")
}

/// Why an endpoint did not take what was sent there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Untaken {
    /// It answered with a status that is none of success.
    Status(u16),
    /// It did not answer.
    Unanswered(WebError),
}

impl Untaken {
    /// Does it say that it never will again? <https://www.rfc-editor.org/rfc/rfc9110#section-15.5.11>
    pub(crate) fn is_for_good(self) -> bool {
        self == Self::Status(410)
    }

    /// What is kept and told of it.
    pub(crate) fn because(self) -> DownBecause {
        let (code, why) = match self {
            Self::Status(it @ 300..400) => (format!("http_{it}"), format!("it answers with {it}, and redirects are not followed")),
            Self::Status(it) => (format!("http_{it}"), format!("it answers with {it}")),
            Self::Unanswered(it @ WebError::Address(cause)) => (it.code().to_owned(), format!("its address is not asked, since {cause}")),
            Self::Unanswered(it) => (it.code().to_owned(), it.to_string()),
        };
        DownBecause { code, why }
    }
}

/// Posts JSON to an agent's endpoint, signed. The same `id` marks what is sent again.
///
/// # Errors
/// [`VaultError`] if its secret cannot be opened.
pub(crate) async fn post(
    (web, vault): (&Web, &Vault),
    (attachment, endpoint): (&Attachment, &Endpoint),
    id: &str,
    body: String,
    timeout: Duration,
    now: Timestamp,
) -> Result<Result<Answer, Untaken>, VaultError> {
    let timestamp = now.as_millis().div_euclid(1_000).to_string();
    let previous = endpoint.previous.as_ref().filter(|it| now < it.1).map(|it| &it.0);
    let mut signatures = Vec::new();
    for sealed in std::iter::once(&endpoint.secret).chain(previous) {
        let secret = vault.open(sealed, &of_secret(attachment)).await?;
        signatures.push(signature(&secret, id, &timestamp, &body).ok_or(VaultError::Malformed)?);
    }
    let signatures = signatures.join(" ");
    let headers = [("webhook-id", id), ("webhook-timestamp", timestamp.as_str()), ("webhook-signature", signatures.as_str())];
    let unanswered = |it| Ok(Err(Untaken::Unanswered(it)));
    let address = match web.address(&endpoint.url) {
        Ok(it) => it,
        Err(it) => return unanswered(WebError::Address(it)),
    };
    match web.post_json(&address, &headers, body.into_bytes(), timeout).await {
        Ok(it) if (200..300).contains(&it.status) => Ok(Ok(it)),
        Ok(it) => Ok(Err(Untaken::Status(it.status))),
        Err(it) => unanswered(it),
    }
}

/// Signs a message; nothing if the secret is none of the form `whsec_<base64>`.
fn signature(secret: &Secret, id: &str, timestamp: &str, body: &str) -> Option<String> {
    let key = STANDARD.decode(secret.expose().strip_prefix("whsec_")?).ok()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("an HMAC takes a key of any length");
    for part in [id, ".", timestamp, ".", body] {
        mac.update(part.as_bytes());
    }
    Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

/// Has `health` ask an endpoint that is down since then whether it answers again.
pub(crate) async fn probe(queues: &Queues, connection: &Connection, agent: &AgentId, since: Timestamp) -> Result<(), ConnectionError> {
    Ok(connections::probe_of(queues, connection, FIELD, agent.to_string(), since).await?)
}

/// Says that an agent's endpoint is down, and has it asked whether it answers again: once, and again if whoever did it died over it.
pub(crate) async fn tell_down(
    store: &Store,
    queues: &Queues,
    connection: &Connection,
    attachment: &Attachment,
) -> Result<(), ConnectionError> {
    let (agent, Some(since)) = (&attachment.agent, attachment.down_since.filter(|_| attachment.failures > 0)) else { return Ok(()) };
    let note = format!("{} {}", down_note(attachment), DOWN_ADVICE);
    let code = attachment.down_because.as_ref().map(|it| it.code.clone());
    tell(store, queues, connection, agent, (EndpointState::Down, since), (since, code, note)).await?;
    probe(queues, connection, agent, since).await?;
    store.endpoint_down_told(attachment, since).await?;
    Ok(())
}

/// What a person is told of an endpoint that is down…
pub(crate) fn down_note(attachment: &Attachment) -> String {
    let why = attachment.down_because.as_ref().map(|it| format!(": {}", it.why)).unwrap_or_default();
    format!("Agent {} does not take its turns{why}.", attachment.agent)
}

/// …and what to do about it.
pub(crate) const DOWN_ADVICE: &str = "They are kept, and handed over in order once its endpoint answers a ping with a status of success: \
     look into it there, or give the agent another address.";

/// Asks an endpoint that is down whether it answers again. If it does, that is told, and what its agent is owed is handed over. Is there
/// nothing left to ask?
///
/// # Errors
/// [`ConnectionError`].
pub(crate) async fn ask(
    (store, queues, vault, web): (&Store, &Queues, &Vault, &Web),
    connection: &Connection,
    agent: &AgentId,
    now: Timestamp,
) -> Result<bool, ConnectionError> {
    let Some(attachment) = store.attachment(&connection.id, agent).await? else { return Ok(true) };
    let (Some(endpoint), Some(since)) = (&attachment.endpoint, attachment.down_since) else { return Ok(true) };
    if attachment.up_since.is_none() {
        store.endpoint_probed(&attachment, since, now).await?;
        let (id, body) = (format!("ping-{}", now.as_millis()), r#"{"type":"ping"}"#.to_owned());
        if post((web, vault), (&attachment, endpoint), &id, body, PING_WITHIN, now).await?.is_err() {
            return Ok(false);
        }
    }
    let Some(up_since) = store.endpoint_up(&attachment, since, now).await?.and_then(|it| it.up_since) else { return Ok(true) };
    let note = format!("Agent {agent} takes its turns again.");
    tell(store, queues, connection, agent, (EndpointState::Up, since), (up_since, None, note)).await?;
    // While it is not written that the endpoint is up, this waits.
    connections::probe(queues, connection, connections::OWED, up_since).await?;
    store.endpoint_up_told(&attachment, since).await?;
    Ok(true)
}

/// A line in the Logs and an event on the feed: the same for the same change, however often it is told.
async fn tell(
    store: &Store,
    queues: &Queues,
    connection: &Connection,
    agent: &AgentId,
    (state, since): (EndpointState, Timestamp),
    (at, code, note): (Timestamp, Option<String>, String),
) -> Result<(), ConnectionError> {
    store.log(&connection.id, at, &note).await?;
    let word = match state {
        EndpointState::Down => "down",
        EndpointState::Up => "up",
    };
    let time = since.sortable();
    let what = Happened::AgentEndpoint { agent: agent.clone(), state, code, note };
    let parts = ["endpoint", agent.as_str(), word, time.as_str()];
    Ok(feed::tell(queues, &connection.tenant, &connection.id, at, &parts, what).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_specification() {
        // <https://github.com/standard-webhooks/standard-webhooks/blob/main/libraries/python/tests/test_webhooks.py>
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signed = |id| signature(&secret, id, "1614265330", r#"{"test": 2432232314}"#);
        assert_eq!(signed("msg_p5jXN8AQM9LWM0D4loKWxJek").as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
        assert_ne!(signed("msg_p5jXN8AQM9LWM0D4loKWxJel"), signed("msg_p5jXN8AQM9LWM0D4loKWxJek"));
        assert_eq!(signature(&Secret::new("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), "id", "1", ""), None);
    }

    #[test]
    fn a_secret_is_24_bytes_under_its_prefix_and_another_each_time() {
        let secret = Secret::generate_signing().expect("randomness");
        let bytes = STANDARD.decode(secret.expose().strip_prefix("whsec_").expect("the prefix")).expect("base64");
        assert_eq!(bytes.len(), 24);
        assert_ne!(secret, Secret::generate_signing().expect("randomness"));
    }
}
