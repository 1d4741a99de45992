//! The running mode: webhooks POSTed to the callbacks by the clock, the books saved after each change, callbacks verified.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::outbox::{Webhook, hmac_hex};
use crate::{FileError, Simulator};

/// How long an app may take to answer a webhook.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The longest wait before looking at the clock again, which a test may have turned.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How long changes are gathered before the books are saved.
const GATHER: Duration = Duration::from_millis(200);

/// A client for the loopback: plain HTTP only, so it trusts no certificate at all, and no proxy stands between.
pub fn loopback_client() -> reqwest::Client {
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring speaks the default TLS versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy();
    client.build().expect("a client without certificates needs nothing of the machine")
}

impl Simulator {
    /// Sends webhooks as they become due, until the future is dropped.
    pub async fn deliver(&self) {
        let mut changes = self.0.changes.subscribe();
        let mut posts = JoinSet::new();
        loop {
            changes.mark_unchanged();
            for webhook in self.take_if_due() {
                let simulator = self.clone();
                posts.spawn(async move {
                    let status = simulator.post(&webhook).await;
                    simulator.answered(webhook.id, status);
                });
            }
            let wait = self.next_webhook_at_ms().map_or(LOOK_AGAIN, |it| Duration::from_millis((it - self.now_ms()).max(1).unsigned_abs()));
            tokio::select! {
                _ = changes.changed() => {}
                Some(_) = posts.join_next() => {}
                () = tokio::time::sleep(wait.min(LOOK_AGAIN)) => {}
            }
        }
    }

    /// Taking is a change of the books: it is left alone while nothing is due.
    fn take_if_due(&self) -> Vec<Webhook> {
        match self.next_webhook_at_ms() {
            Some(due_ms) if due_ms <= self.now_ms() => self.take_webhooks(),
            _ => Vec::new(),
        }
    }

    /// The status that came back; 503 if nothing did.
    async fn post(&self, webhook: &Webhook) -> u16 {
        let Some(url) = &webhook.url else { return 503 };
        let request = self.0.http.post(url).header("Content-Type", "application/json").header("X-Hub-Signature-256", &webhook.signature);
        let request = request.header("User-Agent", "facebookexternalua").timeout(ANSWER_WITHIN);
        request.body(webhook.body.clone()).send().await.map_or(503, |it| it.status().as_u16())
    }

    /// Meta's question whether a callback is meant for it.
    ///
    /// <https://developers.facebook.com/docs/graph-api/webhooks/getting-started#verification-requests>
    pub(crate) async fn handshake(&self, url: &str, verify_token: &str) -> Result<(), String> {
        let proof = hmac_hex(verify_token.as_bytes(), &self.now_ms().to_be_bytes());
        let challenge: String = proof.chars().map(|it| if it.is_ascii_digit() { it } else { '7' }).take(10).collect();
        let query = [("hub.mode", "subscribe"), ("hub.challenge", &challenge), ("hub.verify_token", verify_token)];
        let answer = self
            .0
            .http
            .get(url)
            .query(&query)
            .timeout(ANSWER_WITHIN)
            .send()
            .await
            .map_err(|_| "the URL could not be reached".to_owned())?;
        let status = answer.status().as_u16();
        let body = answer.text().await.map_err(|_| "the answer could not be read".to_owned())?;
        match status {
            200 if body == challenge => Ok(()),
            200 => Err("the answer is not the challenge".into()),
            _ => Err(format!("HTTP Status Code = {status}")),
        }
    }

    /// Saves the books a moment after each change, until the future is dropped.
    ///
    /// # Errors
    ///
    /// The first [`FileError`].
    pub async fn keep_saved(&self) -> Result<(), FileError> {
        let mut changes = self.0.changes.subscribe();
        while changes.changed().await.is_ok() {
            tokio::time::sleep(GATHER).await;
            changes.mark_unchanged();
            self.save()?;
        }
        Ok(())
    }
}
