//! What a request says in its path, query and body, with every wrong field told at once, and no value repeated: some are secrets.

use std::borrow::Cow;

use axum::body::{HttpBody as _, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Path as AxumPath, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use crate::document::{Described, Operation};
use crate::problems::{FieldError, Problem};

/// The largest body that is read, in bytes: a message with a file of 512 KiB in base64, which fits into a queue's message of 1 MiB.
const BODY_BYTES: usize = 768 * 1024;

/// Fields that are read one after the other, with what is wrong about them.
pub(crate) struct Fields {
    values: Map<String, Value>,
    errors: Vec<FieldError>,
    /// Values are texts, whatever they should be.
    are_texts: bool,
}

impl Fields {
    fn new(values: Map<String, Value>, are_texts: bool) -> Self {
        Self { values, errors: Vec::new(), are_texts }
    }

    /// A field. What is absent is null; if that is no value of it, the field is required.
    pub(crate) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let value = self.values.remove(name).unwrap_or_default();
        let is_absent = value.is_null();
        let decoded = match (&value, self.are_texts) {
            (Value::String(text), true) => decode(value.clone()).or_else(|error| match serde_json::from_str::<Value>(text) {
                Ok(it @ (Value::Number(_) | Value::Bool(_))) => decode(it),
                _ => Err(error),
            }),
            _ => decode(value),
        };
        match decoded {
            Ok(it) => Some(it),
            Err(_) if is_absent => {
                self.errors.push(FieldError::new(name, "required", "It is missing."));
                None
            }
            Err((path, detail)) => {
                let field = if path == "." { name.to_owned() } else { format!("{name}.{path}") };
                self.errors.push(FieldError::new(field, "invalid", detail));
                None
            }
        }
    }

    /// Is anything said of a field, be it null?
    pub(crate) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// What was built of the fields, if nothing is wrong and none is left.
    fn finish<T>(mut self, built: Option<T>) -> Result<T, Vec<FieldError>> {
        let unknown =
            self.values.keys().map(|it| FieldError::new(it.chars().take(100).collect::<String>(), "unknown", "There is no such field."));
        self.errors.extend(unknown);
        match built {
            Some(it) if self.errors.is_empty() => Ok(it),
            _ => Err(self.errors),
        }
    }
}

/// A value, or where in it what is wrong. The words say what was expected, and never what was there.
fn decode<T: DeserializeOwned>(value: Value) -> Result<T, (String, String)> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let words = error.inner().to_string();
        let detail = match (words.find("expected "), words.starts_with("missing field")) {
            (_, true) => format!("It has a {words}."),
            (Some(at), false) => format!("It must be as this: {}.", in_english(words[at..].trim_start_matches("expected "))),
            (None, false) => "It is not as the description of the API says.".to_owned(),
        };
        (error.path().to_string(), detail)
    })
}

/// What the decoder calls a kind of value, as people call it.
fn in_english(kind: &str) -> &str {
    match kind {
        "u16" | "u32" | "u64" => "a whole number",
        "a sequence" => "a list",
        "a map" | "struct variant" => "an object",
        "unit variant" => "a word",
        other => other,
    }
}

/// What is read field by field.
pub(crate) trait FromFields: Sized + JsonSchema {
    /// Reads it; `None` if a field is wrong, which the fields remember.
    fn from_fields(fields: &mut Fields) -> Option<Self>;
}

/// Declares what a body or a query holds. Fields of an `Option` may be absent. It cannot be printed: it may hold secrets.
macro_rules! fields {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $field:ident: $type:ty),* $(,)? }) => {
        $(#[$about])*
        #[derive(schemars::JsonSchema)]
        #[schemars(deny_unknown_fields)]
        pub(crate) struct $name { $($(#[$doc])* pub(crate) $field: $type),* }

        impl $crate::fields::FromFields for $name {
            fn from_fields(fields: &mut $crate::fields::Fields) -> Option<Self> {
                $(let $field = fields.take(stringify!($field));)*
                Some(Self { $($field: $field?),* })
            }
        }
    };
}
pub(crate) use fields;

/// A text that must be there, of which the use-case says what is wrong with it, an empty one included.
pub(crate) struct Entered(pub(crate) String);

impl<'de> Deserialize<'de> for Entered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Option::<String>::deserialize(deserializer)?.unwrap_or_default()))
    }
}

impl JsonSchema for Entered {
    fn schema_name() -> Cow<'static, str> {
        "Entered".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

/// The body of a request, in JSON.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: FromFields> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        body_of(request).await.map(|it| Self(it.0))
    }
}

/// What a request's body says, and its text, which is the same for the same.
pub(crate) async fn body_of<T: FromFields>(request: Request) -> Result<(T, String), Problem> {
    let fields = object(request).await?;
    let text = json!(fields).to_string();
    let mut fields = Fields::new(fields, false);
    let built = T::from_fields(&mut fields);
    Ok((fields.finish(built).map_err(Problem::invalid)?, text))
}

/// The object that a request's body is.
async fn object(request: Request) -> Result<Map<String, Value>, Problem> {
    if request.body().size_hint().exact() == Some(0) {
        // Whoever says nothing is told which fields are missing, if any are.
        return Ok(Map::new());
    }
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let problem = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", "The body is not JSON.");
        return Err(problem.saying("Send it with the header `Content-Type: application/json`."));
    }
    let Ok(bytes) = to_bytes(request.into_body(), BODY_BYTES).await else {
        let problem = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "The body is too large.");
        return Err(problem.saying(format!("Send at most {BODY_BYTES} bytes.")));
    };
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(it)) => Ok(it),
        Ok(_) => Err(malformed("The body is JSON, but no object. Send an object with the fields that the description of the API names.")),
        Err(_) => Err(malformed("The body does not parse as JSON.")),
    }
}

fn malformed(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "malformed", "The body cannot be read.").saying(detail)
}

impl<T: JsonSchema> Described for Body<T> {
    fn describe(operation: &mut Operation, schemas: &mut SchemaGenerator) {
        let schema = schemas.subschema_for::<T>();
        // Where no field is required, nothing need be said.
        let is_required = T::json_schema(schemas).get("required").is_some();
        operation.body(json!({ "required": is_required, "content": { "application/json": { "schema": schema } } }));
        for (status, why) in [
            (StatusCode::BAD_REQUEST, "The body is not JSON."),
            (StatusCode::PAYLOAD_TOO_LARGE, "The body is too large."),
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body is said not to be JSON."),
            (StatusCode::UNPROCESSABLE_ENTITY, "Fields are wrong; all of them are named."),
        ] {
            operation.problem(status, why);
        }
    }
}

/// The query of a request.
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: FromFields> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let (mut values, mut repeated) = (Map::new(), Vec::new());
        for (name, value) in pairs(parts.uri.query().unwrap_or_default()) {
            if values.insert(name.clone(), Value::String(value)).is_some() {
                repeated.push(FieldError::new(name, "repeated", "It is there more than once."));
            }
        }
        let mut fields = Fields::new(values, true);
        fields.errors = repeated;
        let built = T::from_fields(&mut fields);
        fields.finish(built).map(Self).map_err(Problem::invalid)
    }
}

/// The names and values of a query: <https://url.spec.whatwg.org/#urlencoded-parsing>.
fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let text = |it: &str| percent_encoding::percent_decode_str(&it.replace('+', " ")).decode_utf8_lossy().into_owned();
    query.split('&').filter(|it| !it.is_empty()).map(move |it| {
        let (name, value) = it.split_once('=').unwrap_or((it, ""));
        (text(name), text(value))
    })
}

impl<T: JsonSchema> Described for Query<T> {
    fn describe(operation: &mut Operation, schemas: &mut SchemaGenerator) {
        operation.parameters::<T>("query", schemas);
        operation.problem(StatusCode::UNPROCESSABLE_ENTITY, "Parameters are wrong; all of them are named.");
    }
}

/// What the path names. What cannot be a name is the name of nothing.
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        AxumPath::from_request_parts(parts, state).await.map(|it: AxumPath<T>| Self(it.0)).map_err(|_| Problem::not_found())
    }
}

impl<T: JsonSchema> Described for Path<T> {
    fn describe(operation: &mut Operation, schemas: &mut SchemaGenerator) {
        operation.parameters::<T>("path", schemas);
        operation.problem(StatusCode::NOT_FOUND, "This tenant has no such thing.");
    }
}
