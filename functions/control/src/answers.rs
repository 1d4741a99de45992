//! What is answered when something is done.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde_json::Value;

use crate::document::{Described, Operation};

/// It is this.
pub(crate) struct Found<T>(pub(crate) T);

/// It was made.
pub(crate) struct Created<T>(pub(crate) T);

/// It will be done.
pub(crate) struct Accepted<T>(pub(crate) T);

/// It was done, and there is no more to say.
pub(crate) struct Done;

macro_rules! answers {
    ($($name:ident $status:ident $words:literal),*) => {$(
        impl<T: Serialize> IntoResponse for $name<T> {
            fn into_response(self) -> Response {
                (StatusCode::$status, Json(self.0)).into_response()
            }
        }

        impl<T: JsonSchema> Described for $name<T> {
            fn describe(operation: &mut Operation, schemas: &mut SchemaGenerator) {
                let schema = schemas.subschema_for::<T>().to_value();
                operation.answer(StatusCode::$status, $words, Some(schema), &Value::Null);
            }
        }
    )*};
}
answers!(Found OK "It is this.", Created CREATED "It was made.", Accepted ACCEPTED "It will be done.");

impl IntoResponse for Done {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

impl Described for Done {
    fn describe(operation: &mut Operation, _: &mut SchemaGenerator) {
        operation.answer(StatusCode::NO_CONTENT, "It was done.", None, &Value::Null);
    }
}
