//! The Meta simulator as a program, and the few lines of its control API that the played conversation needs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::children::Program;
use crate::settings::Settings;
use crate::state::State;

/// The simulator as a program.
pub(crate) fn program(settings: &Settings, state: &State) -> Program {
    let demo = &settings.demo;
    let environment: BTreeMap<String, String> = [
        ("META_SIM_ADDRESS", settings.meta_sim.to_string()),
        ("META_SIM_STATE", state.file("meta-sim.json").display().to_string()),
        ("DEMO_APP_ID", demo.app_id.clone()),
        ("DEMO_APP_SECRET", demo.app_secret.clone()),
        ("DEMO_WABA_ID", demo.waba_id.clone()),
        ("DEMO_NUMBERS", demo.numbers.join(",")),
        ("DEMO_ACCESS_TOKEN", demo.access_token.clone()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    Program {
        name: "meta-sim",
        path: settings.places.binaries.join("meta-sim"),
        arguments: Vec::new(),
        environment,
        directory: settings.places.workspace.clone(),
        patience: Duration::from_secs(10),
    }
}

/// A customer's phone in the simulator.
pub(crate) struct Phone<'a> {
    http: &'a reqwest::Client,
    address: SocketAddr,
    phone: &'a str,
}

impl<'a> Phone<'a> {
    /// The phone of the number `phone` (international, digits only).
    pub(crate) fn new(http: &'a reqwest::Client, address: SocketAddr, phone: &'a str) -> Self {
        Self { http, address, phone }
    }

    /// Whether the simulator answers.
    pub(crate) async fn is_there(&self) -> bool {
        let health = self.http.get(format!("http://{}/sim/health", self.address)).send().await;
        health.is_ok_and(|it| it.status().is_success())
    }

    /// Writes `text` to the business number `number`.
    ///
    /// # Errors
    /// The simulator does not answer, or refuses.
    pub(crate) async fn write(&self, number: &str, text: &str) -> Result<()> {
        self.post("messages", &json!({ "to": number, "text": text })).await
    }

    /// What the phone shows, oldest first; nothing for a phone that never wrote and was never written to.
    ///
    /// # Errors
    /// The simulator does not answer, or with something else.
    pub(crate) async fn screen(&self) -> Result<Vec<Value>> {
        let response = self.http.get(self.url("")).send().await.context("the Meta simulator does not answer")?;
        if response.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(Vec::new());
        }
        let screen: Value = serde_json::from_str(&response.error_for_status()?.text().await?)?;
        screen["messages"].as_array().cloned().context("the phone shows no messages")
    }

    async fn post(&self, what: &str, body: &Value) -> Result<()> {
        let response = self
            .http
            .post(self.url(&format!("/{what}")))
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await
            .context("the Meta simulator does not answer")?;
        let status = response.status();
        if !status.is_success() {
            bail!("The Meta simulator refuses {what} ({status}): {}", response.text().await?);
        }
        Ok(())
    }

    fn url(&self, rest: &str) -> String {
        format!("http://{}/sim/phones/{}{rest}", self.address, self.phone)
    }
}
