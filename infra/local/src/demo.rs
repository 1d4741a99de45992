//! The demo connection: made through the JSON API, as any client of it would, and found there again by the next run.

use anyhow::{Context as _, Result, bail};
use reqwest::Method;
use serde_json::{Value, json};

use crate::settings::Settings;
use crate::{LOOK, entry};

/// A connection, as the API shows it.
#[derive(Debug, PartialEq)]
pub(crate) struct Shown {
    /// Its id, which the API gave it.
    pub(crate) id: String,
    /// `STOPPED`, `STARTING`, `RUNNING` or `ERROR`.
    pub(crate) state: String,
}

impl Shown {
    /// Whether it sends and hands over.
    pub(crate) fn is_running(&self) -> bool {
        self.state == "RUNNING"
    }

    fn is_starting(&self) -> bool {
        self.state == "STARTING"
    }
}

/// The JSON API, called as the demo tenant.
pub(crate) struct Api<'a> {
    http: &'a reqwest::Client,
    settings: &'a Settings,
}

impl<'a> Api<'a> {
    /// At the gateway, with the token of the settings.
    pub(crate) fn new(http: &'a reqwest::Client, settings: &'a Settings) -> Self {
        Self { http, settings }
    }

    /// Finds the connection that has the demo's numbers, or makes and starts it, with the example agent attached; waits until its start has
    /// come to an end. One that a person stopped, or that is in ERROR, stays as it is.
    ///
    /// # Errors
    /// The API does not answer, or refuses.
    pub(crate) async fn demo(&self) -> Result<Shown> {
        let id = match find(&self.connections().await?, &self.settings.demo.numbers) {
            Some(it) => {
                self.go_on(&it).await?;
                it.id
            }
            None => shown(&self.call(Method::POST, "/v1/connections", Some(&self.draft())).await?)?.id,
        };
        loop {
            let connection = shown(&self.call(Method::GET, &format!("/v1/connections/{id}"), None).await?)?;
            if !connection.is_starting() {
                return Ok(connection);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Has a start that the last run was stopped in checked anew, and Meta told where we are, if that has changed.
    async fn go_on(&self, it: &Shown) -> Result<()> {
        let path = format!("/v1/connections/{}", it.id);
        if it.is_running() && self.callback().await?.is_some_and(|it| it != entry::callback(self.settings)) {
            self.call(Method::POST, &format!("{path}/stop"), None).await?;
            self.call(Method::POST, &format!("{path}/start"), Some(&json!({ "replace_callback": true }))).await?;
        } else if it.is_starting() {
            self.call(Method::POST, &format!("{path}/start"), Some(&json!({}))).await?;
        }
        Ok(())
    }

    /// Where Meta sends the demo app's webhooks.
    /// <https://developers.facebook.com/docs/graph-api/reference/app/subscriptions/>
    async fn callback(&self) -> Result<Option<String>> {
        let Settings { meta_sim, demo, .. } = self.settings;
        let request = self.http.get(format!("http://{meta_sim}/v25.0/{}/subscriptions", demo.app_id));
        let response = request.bearer_auth(format!("{}|{}", demo.app_id, demo.app_secret)).send().await?.error_for_status()?;
        let subscriptions: Value = serde_json::from_str(&response.text().await?)?;
        Ok(subscriptions["data"][0]["callback_url"].as_str().map(str::to_owned))
    }

    /// What its Logs said last.
    ///
    /// # Errors
    /// The API does not answer, or refuses.
    pub(crate) async fn last_line(&self, id: &str) -> Result<String> {
        let page = self.call(Method::GET, &format!("/v1/connections/{id}/logs?limit=1"), None).await?;
        Ok(page["items"][0]["text"].as_str().unwrap_or("Its Logs are empty.").to_owned())
    }

    /// All connections of the tenant.
    async fn connections(&self) -> Result<Vec<Value>> {
        let (mut all, mut path) = (Vec::new(), "/v1/connections".to_owned());
        loop {
            let page = self.call(Method::GET, &path, None).await?;
            all.extend(page["items"].as_array().context("the API lists no connections")?.iter().cloned());
            match page["next"].as_str() {
                Some(it) => path = format!("/v1/connections?cursor={it}"),
                None => return Ok(all),
            }
        }
    }

    fn draft(&self) -> Value {
        let demo = &self.settings.demo;
        json!({
            "name": "Demo",
            "app_id": demo.app_id,
            "app_secret": demo.app_secret,
            "access_token": demo.access_token,
            "phone_number_ids": demo.numbers,
            "business_account_id": demo.waba_id,
            "attach": { "agent": demo.agent },
            "start": true,
        })
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let Settings { gateway, api_token, .. } = self.settings;
        let mut request = self.http.request(method.clone(), format!("http://{gateway}{path}")).bearer_auth(api_token);
        if let Some(it) = body {
            request = request.header("content-type", "application/json").body(it.to_string());
        }
        let response = request.send().await.with_context(|| format!("the API does not answer {method} {path}"))?;
        let status = response.status();
        let text = response.text().await?;
        if !status.is_success() {
            bail!("The API answers {method} {path} with {status}: {text}");
        }
        serde_json::from_str(&text).with_context(|| format!("the API answers {method} {path} with no JSON"))
    }
}

fn shown(it: &Value) -> Result<Shown> {
    let text = |name: &str| it[name].as_str().map(str::to_owned).with_context(|| format!("the API shows a connection without `{name}`"));
    Ok(Shown { id: text("id")?, state: text("state")? })
}

/// Of the connections that name one of these numbers the one that runs: one alone can hold a number. If none runs, the first.
fn find(connections: &[Value], numbers: &[String]) -> Option<Shown> {
    let names_ours = |it: &&Value| {
        let theirs = it["phone_number_ids"].as_array().into_iter().flatten();
        theirs.filter_map(Value::as_str).any(|number| numbers.iter().any(|it| it == number))
    };
    let ours: Vec<Shown> = connections.iter().filter(names_ours).filter_map(|it| shown(it).ok()).collect();
    let at = ours.iter().position(Shown::is_running).unwrap_or_default();
    ours.into_iter().nth(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_connection_is_known_by_its_numbers_and_the_running_one_goes_first() {
        let numbers = ["1".to_owned(), "2".to_owned()];
        let connection = |id: &str, state: &str, number: &str| json!({ "id": id, "state": state, "phone_number_ids": [number] });
        let foreign = connection("a", "RUNNING", "3");
        assert_eq!(find(std::slice::from_ref(&foreign), &numbers), None);
        let (stopped, running) = (connection("b", "STOPPED", "1"), connection("c", "RUNNING", "2"));
        let id = |connections: &[Value]| find(connections, &numbers).map(|it| it.id);
        assert_eq!(id(&[foreign.clone(), stopped.clone()]).as_deref(), Some("b"));
        assert_eq!(id(&[foreign, stopped, running]).as_deref(), Some("c"));
    }
}
