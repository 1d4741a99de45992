//! Nobody's edit is lost: what is read says its version, and an edit says which it is of: <https://www.rfc-editor.org/rfc/rfc9110#section-13.1.1>.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde_json::json;

use crate::document::{Described, Operation};
use crate::problems::Problem;

/// It is this, in this version.
pub(crate) struct Tagged<T>(pub(crate) u64, pub(crate) T);

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        ([(header::ETAG, format!("\"{}\"", self.0))], Json(self.1)).into_response()
    }
}

impl<T: JsonSchema> Described for Tagged<T> {
    fn describe(operation: &mut Operation, schemas: &mut SchemaGenerator) {
        let schema = schemas.subschema_for::<T>().to_value();
        let headers = json!({ "ETag": { "description": "Its version, for `If-Match`.", "schema": { "type": "string" } } });
        operation.answer(StatusCode::OK, "It is this.", Some(schema), &headers);
    }
}

/// The version that an edit is of; none where it is of whichever there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IfMatch(pub(crate) Option<u64>);

impl IfMatch {
    /// What is answered if it has moved since.
    pub(crate) fn moved() -> Problem {
        let problem = Problem::new(StatusCode::PRECONDITION_FAILED, "moved", "Somebody has changed it since.");
        problem.saying("Read it again, and send the edit with its new `ETag`.")
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else {
            let problem = Problem::new(StatusCode::PRECONDITION_REQUIRED, "version_required", "An edit says which version it is of.");
            return Err(problem.saying("Send the `ETag` of what you read with the header `If-Match`."));
        };
        let value = value.to_str().unwrap_or_default().trim();
        if value == "*" {
            return Ok(Self(None));
        }
        let strong = value.strip_prefix("W/").unwrap_or(value);
        let tag = strong.strip_prefix('"').and_then(|it| it.strip_suffix('"')).filter(|it| !it.contains('"'));
        let Some(tag) = tag else {
            let problem = Problem::new(StatusCode::BAD_REQUEST, "malformed_version", "The header `If-Match` holds no version.");
            return Err(problem.saying("Send one `ETag` as you read it, quotes included, or `*` for whichever version there is."));
        };
        // A weak tag matches nothing, and a tag that we never gave is of no version that there is.
        tag.parse().ok().filter(|_| strong == value).map(|it| Self(Some(it))).ok_or_else(Self::moved)
    }
}

impl Described for IfMatch {
    fn describe(operation: &mut Operation, _: &mut SchemaGenerator) {
        // Not required by the description, for the answer to its absence is a documented one.
        operation.header("If-Match", false, "The `ETag` of what was read, or `*`.", &json!({ "type": "string" }));
        operation.problem(StatusCode::BAD_REQUEST, "The header `If-Match` holds no version.");
        operation.problem(StatusCode::PRECONDITION_REQUIRED, "The header `If-Match` is missing.");
        operation.problem(StatusCode::PRECONDITION_FAILED, "Somebody has changed it since.");
    }
}
