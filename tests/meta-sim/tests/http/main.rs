//! The simulator over real HTTP, with a clock turned by hand.

#![expect(clippy::unwrap_used, reason = "in a test a missing value is a failed test")]

mod campaigns;
mod control;
mod graph;
mod program;
mod sends;
mod webhooks;

use std::time::Duration;

use meta_sim::{ManualClock, Setup, Simulator, Webhook};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The two numbers, the account, the app and the token of [`Setup::demo`].
const ONE: &str = "100000000000001";
const TWO: &str = "100000000000002";
const ACCOUNT: &str = "300000000000001";
const APP: &str = "200000000000001";
const TOKEN: &str = "local-access-token";
const APP_TOKEN: &str = "200000000000001|local-app-secret";
/// A customer's telephone.
const ANA: &str = "5215512345678";
/// When the clock starts, milliseconds.
const START: i64 = 1_790_000_000_000;

/// A simulator that is served, and the client that asks it.
struct Meta {
    simulator: Simulator,
    clock: ManualClock,
    base: String,
    client: Client,
    server: JoinHandle<std::io::Result<()>>,
}

impl Drop for Meta {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Meta {
    async fn new() -> Self {
        Self::with(Setup::demo()).await
    }

    async fn with(setup: Setup) -> Self {
        let clock = ManualClock::new(START);
        Self::serving(Simulator::new(clock.clone(), setup), clock).await
    }

    async fn serving(simulator: Simulator, clock: ManualClock) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        simulator.reachable_at(&base);
        let server = tokio::spawn({
            let simulator = simulator.clone();
            async move { simulator.serve(listener).await }
        });
        Self { simulator, clock, base, client: meta_sim::loopback_client(), server }
    }

    fn turn(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    async fn call(&self, method: Method, path: &str, token: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.request(method, path).bearer_auth(token);
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), serde_json::from_str(&answer.text().await.unwrap()).unwrap())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.call(Method::GET, path, TOKEN, None).await
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.call(Method::POST, path, TOKEN, Some(body)).await
    }

    async fn send(&self, number: &str, body: &Value) -> (u16, Value) {
        let mut body = body.clone();
        body["messaging_product"] = "whatsapp".into();
        self.post(&format!("/v25.0/{number}/messages"), body).await
    }

    /// Sends words from the first number, with our id `opaque`; gives the wamid, or Meta's code.
    async fn say(&self, to: &str, opaque: &str) -> Result<String, u64> {
        let (_, answer) = self.send(ONE, &text(to, opaque)).await;
        match answer["messages"][0]["id"].as_str() {
            Some(id) => Ok(id.to_owned()),
            None => Err(answer["error"]["code"].as_u64().unwrap()),
        }
    }

    /// Ana has written to the first number, so its window is open.
    async fn open() -> Self {
        let meta = Self::new().await;
        meta.simulator.customer_writes(ANA, ONE, "hola").unwrap();
        meta.settle();
        meta
    }

    /// Every webhook that is due, answered with 200.
    fn settle(&self) -> Vec<Webhook> {
        let webhooks = self.simulator.take_webhooks();
        webhooks.iter().for_each(|it| self.simulator.answered(it.id, 200));
        webhooks
    }

    /// The `value` of every change that is due, answered with 200.
    fn values(&self) -> Vec<Value> {
        let bodies = self.settle().into_iter().map(|it| serde_json::from_slice::<Value>(&it.body).unwrap());
        let changes =
            bodies.flat_map(|it| it["entry"].as_array().unwrap().clone()).flat_map(|it| it["changes"].as_array().unwrap().clone());
        changes.map(|it| it["value"].clone()).collect()
    }

    /// The `statuses` that are due.
    fn statuses(&self) -> Vec<Value> {
        self.values().into_iter().filter_map(|it| it["statuses"].as_array().cloned()).flatten().collect()
    }
}

fn text(to: &str, opaque: &str) -> Value {
    json!({ "messaging_product": "whatsapp", "to": format!("+{to}"), "type": "text", "text": { "body": "Good day" }, "biz_opaque_callback_data": opaque })
}

fn names(statuses: &[Value]) -> Vec<&str> {
    statuses.iter().map(|it| it["status"].as_str().unwrap()).collect()
}
