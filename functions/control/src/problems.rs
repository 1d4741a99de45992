//! What is answered when something is not done: a problem document with a stable code, <https://www.rfc-editor.org/rfc/rfc9457>.
//!
//! A refusal says what is wrong and what to do. A failure is logged here, once, and says nothing but that it happened.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use channel::redelivery::Retryable;
use domain::ids::{AgentId, ConversationId};
use domain::refusal::{Refusal, Retry};
use domain::time::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// The type of a problem's body.
pub(crate) const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");
/// What stands before the code in a problem's type.
const TYPE: &str = "urn:whatsapp-channel:problem:";

/// What is wrong with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub(crate) struct FieldError {
    /// The field, as `name` or `message.text`; a parameter by its name.
    pub(crate) field: String,
    /// Stable: `required`, `invalid`, `unknown`, `repeated`, or one of the rule that was broken.
    pub(crate) code: String,
    /// What is wrong, and what to do.
    pub(crate) detail: String,
}

impl FieldError {
    pub(crate) fn new(field: impl Into<String>, code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: field.into(), code: code.into(), detail: detail.into() }
    }

    /// From `member: what is wrong`.
    fn of_refusal(problem: &str) -> Self {
        let (member, advice) = problem.split_once(": ").unwrap_or(("", problem));
        Self::new(member, "invalid", advice)
    }
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem(Box<Document>);

/// What is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(crate) struct Document {
    /// Names the kind of problem, as a URI.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The kind of problem, for people.
    pub(crate) title: String,
    /// The status of the answer.
    pub(crate) status: u16,
    /// What is wrong this time, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
    /// Stable: what programs match on.
    pub(crate) code: String,
    /// Every field that is wrong, at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) errors: Vec<FieldError>,
    /// The agent that holds what was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) holder: Option<String>,
    /// The conversation that there is already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) conversation: Option<String>,
    /// When the window closed, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) closed_at: Option<Timestamp>,
    /// Whether to send the same again, where a message was refused.
    #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) retry: Option<Retry>,
    /// The request, as the logs name it, where the failure is ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<String>,
}

impl Problem {
    /// A problem of this kind.
    pub(crate) fn new(status: StatusCode, code: &str, title: &str) -> Self {
        Self(Box::new(Document {
            kind: format!("{TYPE}{code}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: None,
            code: code.to_owned(),
            errors: Vec::new(),
            holder: None,
            conversation: None,
            closed_at: None,
            retry: None,
            request: None,
        }))
    }

    /// The same, with what is wrong this time and what to do.
    #[must_use]
    pub(crate) fn saying(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// The same, with the agent that holds what was asked for.
    #[must_use]
    pub(crate) fn held_by(mut self, agent: &AgentId) -> Self {
        self.0.holder = Some(agent.to_string());
        self
    }

    /// The same, with the conversation that there is already.
    #[must_use]
    pub(crate) fn of_conversation(mut self, conversation: Option<ConversationId>) -> Self {
        self.0.conversation = conversation.map(|it| it.to_string());
        self
    }

    /// Nothing of this tenant has this name.
    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is no such thing.")
            .saying("One of the ids, in the path or beside it, is of nothing that this tenant has.")
    }

    /// Fields that are wrong.
    pub(crate) fn invalid(mut errors: Vec<FieldError>) -> Self {
        errors.sort();
        let mut problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "Some fields are not as they must be.");
        problem.0.errors = errors;
        problem
    }

    /// A message that is not sent.
    pub(crate) fn refused(refusal: &Refusal) -> Self {
        let status = match refusal {
            Refusal::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::UnknownConversation | Refusal::UnknownConnection => return Self::not_found(),
            Refusal::TemplateOnly { .. }
            | Refusal::AwaitingReply { .. }
            | Refusal::TakenByPerson
            | Refusal::HandledElsewhere
            | Refusal::NotAttached
            | Refusal::NotRunning
            | Refusal::SenderGone
            | Refusal::PartFailed
            | Refusal::Erased
            | Refusal::NoAddress
            | Refusal::OptedOut
            | Refusal::DoNotContact
            | Refusal::MarketingLimit { .. }
            | Refusal::Duplicate
            | Refusal::Expired
            | Refusal::TemplateMissing
            | Refusal::TemplateNotApproved { .. }
            | Refusal::PhoneRequired
            | Refusal::FileNotYours
            | Refusal::FileNotFound
            | Refusal::FileTooLarge { .. }
            | Refusal::FileType { .. } => StatusCode::CONFLICT,
        };
        let mut problem = Self::new(status, refusal.code(), "The message is not sent.").saying(refusal.note());
        if let Refusal::Invalid { problems } = refusal {
            problem.0.errors = problems.iter().map(|it| FieldError::of_refusal(it)).collect();
        }
        problem.0.closed_at = refusal.closed_at();
        problem.0.retry = Some(refusal.retry());
        problem
    }

    /// Of what lies in a field of the request: its members are named by their place in the whole.
    pub(crate) fn within(mut self, field: &str) -> Self {
        for it in &mut self.0.errors {
            it.field = format!("{field}.{}", it.field);
        }
        self
    }

    fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The body of the answer. Our own failures name the request, by which the logs tell what happened.
    pub(crate) fn body(&self, request: &str) -> Value {
        let is_failure = self.status().is_server_error() && !request.is_empty();
        let mut document = self.0.clone();
        document.request = is_failure.then(|| request.to_owned());
        serde_json::to_value(document).unwrap_or_default()
    }
}

/// A failure, of which the caller learns no more than that it happened and whether it may pass.
impl<E: Retryable + std::error::Error> From<E> for Problem {
    fn from(error: E) -> Self {
        let chain = lambda::logging::chain(&error);
        tracing::error!(error.code = error.code(), error.chain = chain, "a request could not be done");
        match error.is_retryable() {
            true => Self::unavailable(),
            false => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "This should not have happened."),
        }
    }
}

impl Problem {
    /// Meta does not answer, or not now.
    pub(crate) fn meta_silent(why: &str) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "meta_silent", "Meta does not do it at the moment.");
        problem.saying(format!("{why} Try again soon."))
    }

    /// Something that we need does not answer.
    pub(crate) fn unavailable() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "This cannot be done at the moment. Try again soon.")
    }
}

/// The answer without a body: that is written at the end, where the request's id is known.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
        match self.status() {
            StatusCode::UNAUTHORIZED => drop(headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            StatusCode::SERVICE_UNAVAILABLE => drop(headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"))),
            _ => {}
        }
        let mut response = (self.status(), headers).into_response();
        response.extensions_mut().insert(self);
        response
    }
}
