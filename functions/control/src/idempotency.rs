//! What is sent is sent once, however often it is asked for: <https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/>.
//!
//! The key is written down before anything is queued. What was refused was not done: its key is free still.

use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use channel::store::Asked;
use domain::ids::{MessageId, TenantId, hash};
use domain::time::Timestamp;
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::Handles;
use crate::document::{Described, Operation};
use crate::fields::{Body, FromFields, body_of};
use crate::problems::Problem;

const HEADER: &str = "idempotency-key";
/// The longest key, in characters.
const LIMIT: usize = 255;

/// A request that is done once.
pub(crate) struct Once<T> {
    /// What it says.
    pub(crate) body: T,
    key: String,
    request: String,
}

impl<S: Send + Sync, T: FromFields> FromRequest<S> for Once<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let key = request.headers().get(HEADER).and_then(|it| it.to_str().ok()).map(str::trim).unwrap_or_default().to_owned();
        if !(1..=LIMIT).contains(&key.len()) || !key.bytes().all(|it| it.is_ascii_graphic()) {
            let problem = Problem::new(StatusCode::BAD_REQUEST, "idempotency_key_required", "What sends must have a key of its own.");
            return Err(problem.saying("Send a new UUID with the header `Idempotency-Key`, and the same again if you ask again."));
        }
        let path = request.uri().path().to_owned();
        let (body, text) = body_of(request).await?;
        Ok(Self { body, key, request: hash(&[&path, &text]) })
    }
}

impl<T: JsonSchema> Described for Once<T> {
    fn describe(operation: &mut Operation, schemas: &mut SchemaGenerator) {
        // Not required by the description, for the answer to its absence is a documented one.
        let schema = json!({ "type": "string", "minLength": 1, "maxLength": LIMIT, "pattern": "^[!-~]+$" });
        operation.header("Idempotency-Key", false, "A new one for each message; the same for the same, for a day. Required.", &schema);
        Body::<T>::describe(operation, schemas);
        operation.problem(StatusCode::BAD_REQUEST, "The header `Idempotency-Key` is missing.");
        operation.problem(StatusCode::UNPROCESSABLE_ENTITY, "The key was used for another request.");
    }
}

/// What a key stands for.
pub(crate) enum Known<A> {
    /// A request that was done: this was answered, and is answered again.
    Answered(A),
    /// A request that is to be done, or to be done again to its end.
    Open(Claim),
}

/// A request under its key.
pub(crate) struct Claim {
    asked: Asked,
    /// The id of the message that it makes.
    pub(crate) id: MessageId,
    /// The message's own time.
    pub(crate) at: Timestamp,
    /// It is to be looked at whether it may be done: it was not begun before.
    pub(crate) is_new: bool,
}

impl<T> Once<T> {
    /// What the key stands for.
    pub(crate) async fn known<A: DeserializeOwned>(
        &self,
        handles: &Handles,
        tenant: &TenantId,
        now: Timestamp,
    ) -> Result<Known<A>, Problem> {
        let Some(asked) = handles.store.asked(tenant, &self.key, now).await? else {
            let id = MessageId::of_request(tenant, &self.key, now);
            let asked = Asked { request: self.request.clone(), message: id.to_string(), at: now, answer: None };
            return Ok(Known::Open(Claim { asked, id, at: now, is_new: true }));
        };
        self.is_same(&asked)?;
        if let Some(answer) = asked.answer.as_deref().and_then(|it| serde_json::from_str(it).ok()) {
            return Ok(Known::Answered(answer));
        }
        Claim::of(asked).map(Known::Open)
    }

    /// Writes down that the request is begun: from now on it is done to its end, under its id.
    pub(crate) async fn begin(&self, handles: &Handles, tenant: &TenantId, claim: Claim) -> Result<Claim, Problem> {
        if !claim.is_new {
            return Ok(claim);
        }
        let asked = handles.store.ask_once(tenant, &self.key, &claim.asked).await?;
        self.is_same(&asked)?;
        Claim::of(asked)
    }

    /// Writes down what is answered.
    pub(crate) async fn answered(
        &self,
        handles: &Handles,
        tenant: &TenantId,
        claim: &Claim,
        answer: &impl Serialize,
    ) -> Result<(), Problem> {
        Ok(handles.store.answered(tenant, &self.key, &claim.asked, &json!(answer).to_string()).await?)
    }

    fn is_same(&self, asked: &Asked) -> Result<(), Problem> {
        if asked.request == self.request {
            return Ok(());
        }
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", "The key was used for another request.");
        Err(problem.saying("Take a new key for a new request."))
    }
}

impl Claim {
    fn of(asked: Asked) -> Result<Self, Problem> {
        let (id, at) = MessageId::of_job(&asked.message).map_err(|_| Problem::unavailable())?;
        Ok(Self { asked, id, at, is_new: false })
    }
}
