//! An agent that listens on HTTPS: a server on this machine that answers as the story says, and keeps what it got.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::response::IntoResponse as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use channel::store::Attachment;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{World, agent_id, connection_id};
use crate::clock::Clock;

/// What an agent answers.
#[derive(Debug, Clone)]
pub enum AgentAnswer {
    /// At once: this status and body.
    Says(u16, String),
    /// The same, after so long by the world's clock.
    After(Duration, u16, String),
    /// A redirect to this address.
    Redirects(String),
    /// Nothing, ever.
    Never,
}

/// A request that an agent got.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// When, by the world's clock, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// `webhook-id`.
    pub id: String,
    /// `webhook-timestamp`.
    pub timestamp: String,
    /// `webhook-signature`.
    pub signatures: String,
    /// The body, as it came.
    pub body: String,
}

impl Asked {
    /// Is it signed with this secret? By the words of the specification alone:
    /// <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#verifying-webhook-authenticity>
    #[must_use]
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").expect("a secret's prefix")).expect("base64");
        let signed = format!("{}.{}.{}", self.id, self.timestamp, self.body);
        let expected = STANDARD.encode(hmac_sha256(&key, signed.as_bytes()));
        self.signatures.split(' ').filter_map(|it| it.strip_prefix("v1,")).any(|it| it == expected)
    }

    /// How many signatures it has.
    #[must_use]
    pub fn signatures(&self) -> usize {
        self.signatures.split(' ').count()
    }

    /// What it says: a ping, or a turn.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// Is it a turn?
    #[must_use]
    pub fn is_turn(&self) -> bool {
        self.json()["type"] == "turn"
    }

    /// The customer's words, of a turn.
    #[must_use]
    pub fn words(&self) -> String {
        self.json()["data"]["content"]["text"].as_str().unwrap_or_default().to_owned()
    }
}

/// <https://www.rfc-editor.org/rfc/rfc2104>, for keys that are no longer than a block.
fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0_u8; 64];
    block[..key.len()].copy_from_slice(key);
    let padded = |with: u8| block.map(|it| it ^ with);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().into()
}

type Answers = Box<dyn Fn(&Asked) -> AgentAnswer + Send>;

struct Book {
    secret: String,
    asked: Vec<Asked>,
    answers: Answers,
}

/// An agent that listens on HTTPS. Clones are the same agent.
#[derive(Clone)]
pub struct HttpsAgent {
    /// Where it listens.
    pub url: String,
    book: Arc<Mutex<Book>>,
}

impl fmt::Debug for HttpsAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsAgent").field("url", &self.url).finish_non_exhaustive()
    }
}

impl HttpsAgent {
    /// One that knows no secret yet, and says back what it is told.
    pub(crate) async fn new(clock: &Clock) -> Self {
        let answers: Answers = Box::new(|it| AgentAnswer::Says(200, texts(&[&format!("You said: {}", it.words())])));
        let book = Arc::new(Mutex::new(Book { secret: String::new(), asked: Vec::new(), answers }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port on this machine");
        let url = format!("http://{}/turns", listener.local_addr().expect("bound"));
        let agent = Self { url, book };
        let (served, clock) = (agent.clone(), clock.clone());
        let answer = move |headers: HeaderMap, body: Bytes| {
            let (served, clock) = (served.clone(), clock.clone());
            async move {
                // The clock must not be turned while it is asked.
                clock.stir();
                let answer = served.is_asked(&headers, &body, &clock);
                clock.stir();
                answered(answer, &clock).await
            }
        };
        let router = axum::Router::new().route("/turns", axum::routing::post(answer));
        tokio::spawn(async move { axum::serve(listener, router).await });
        agent
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a request, and says what is answered. One that is not signed with the agent's secret is refused, as any agent should.
    fn is_asked(&self, headers: &HeaderMap, body: &Bytes, clock: &Clock) -> AgentAnswer {
        let header = |name: &str| headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default().to_owned();
        let body = String::from_utf8(body.to_vec()).expect("text");
        let asked = Asked {
            at_ms: clock.now_ms(),
            id: header("webhook-id"),
            timestamp: header("webhook-timestamp"),
            signatures: header("webhook-signature"),
            body,
        };
        let mut book = self.book();
        let is_signed = asked.is_signed_with(&book.secret);
        let answer = if is_signed { (book.answers)(&asked) } else { AgentAnswer::Says(401, String::new()) };
        book.asked.push(asked);
        answer
    }

    /// The agent answers so from now on.
    pub fn answers(&self, answers: impl Fn(&Asked) -> AgentAnswer + Send + 'static) {
        self.book().answers = Box::new(answers);
    }

    /// The agent answers every turn with this from now on.
    pub fn says(&self, status: u16, body: &str) {
        let body = body.to_owned();
        self.answers(move |_| AgentAnswer::Says(status, body.clone()));
    }

    /// The agent says back what it is told, as it did at first.
    pub fn says_back(&self) {
        self.answers(|it| AgentAnswer::Says(200, texts(&[&format!("You said: {}", it.words())])));
    }

    /// The agent knows this secret from now on.
    pub fn learns(&self, secret: &str) {
        secret.clone_into(&mut self.book().secret);
    }

    /// Everything that it was asked.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.book().asked.clone()
    }

    /// The turns that it was asked, repeats included.
    #[must_use]
    pub fn turns(&self) -> Vec<Asked> {
        self.asked().into_iter().filter(Asked::is_turn).collect()
    }

    /// The customers' words of the turns, each turn once, in the order in which it was first told.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let mut seen = std::collections::BTreeSet::new();
        self.turns().iter().filter(|it| seen.insert(it.id.clone())).map(Asked::words).collect()
    }
}

async fn answered(answer: AgentAnswer, clock: &Clock) -> axum::response::Response {
    let status = |it: u16| axum::http::StatusCode::from_u16(it).expect("a status");
    match answer {
        AgentAnswer::Says(code, body) => (status(code), body).into_response(),
        AgentAnswer::After(time, code, body) => {
            clock.until(clock.now_ms() + i64::try_from(time.as_millis()).expect("short")).await;
            (status(code), body).into_response()
        }
        AgentAnswer::Redirects(to) => (status(302), [("location", to)]).into_response(),
        AgentAnswer::Never => std::future::pending().await,
    }
}

/// An answer of so many texts.
#[must_use]
pub fn texts(texts: &[&str]) -> String {
    let replies: Vec<Value> = texts.iter().map(|it| json!({ "message": { "type": "text", "text": it } })).collect();
    json!({ "replies": replies }).to_string()
}

impl World {
    /// The demo connection's agent listens on HTTPS from now on.
    ///
    /// # Panics
    /// When the API does not take it.
    pub async fn agent_listens_on_https(&self) -> HttpsAgent {
        self.listens_on_https("demo", "/v1/connections/demo/agents/example").await
    }

    /// The demo connection's agent, which listens there, listens elsewhere from now on.
    ///
    /// # Panics
    /// When the API does not take it.
    pub async fn agent_listens_on_https_elsewhere(&self, there: &HttpsAgent) -> HttpsAgent {
        let agent = HttpsAgent::new(&self.clock).await;
        agent.learns(&there.book().secret.clone());
        let body = json!({ "delivery": { "https": { "url": agent.url } } });
        let (status, answer) = self.api("PUT", "/v1/connections/demo/agents/example", Some(body)).await;
        assert_eq!((status, &answer["signing_secret"]["text"]), (200, &Value::Null), "the secret stays: {answer}");
        self.clock.advance(Duration::from_mins(2));
        agent
    }

    /// How the demo connection's agent is attached.
    ///
    /// # Panics
    /// When it is not.
    pub async fn attachment(&self) -> Attachment {
        self.store.attachment(&connection_id(), &agent_id()).await.expect("the store answers").expect("it is attached")
    }

    /// A tenant's agent listens on HTTPS from now on.
    ///
    /// # Panics
    /// When the API does not take it.
    pub async fn listens_on_https(&self, tenant: &str, path: &str) -> HttpsAgent {
        let agent = HttpsAgent::new(&self.clock).await;
        let body = json!({ "delivery": { "https": { "url": agent.url } } });
        let answer = self.api_of(tenant, "PUT", path, &[], Some(body)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        agent.learns(answer.body["signing_secret"]["text"].as_str().expect("it is shown once"));
        // What functions remember of connections is some seconds old.
        self.clock.advance(Duration::from_mins(2));
        agent
    }
}
