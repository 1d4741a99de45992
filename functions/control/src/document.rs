//! The description of the API, OpenAPI 3.1, made from the handlers' own types: <https://spec.openapis.org/oas/v3.1.1.html>.
//!
//! Each argument of a handler and each answer says of itself what callers must know, so that no route is described otherwise than it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::handler::Handler;
use axum::http::{Method, StatusCode};
use axum::routing::{MethodFilter, on};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::Handles;
use crate::problems::{self, Problem};

/// Where the document is.
pub(crate) const PATH: &str = "/v1/openapi.json";

/// What an argument or an answer of a handler says of itself.
pub(crate) trait Described {
    /// Adds it to the description of the operation.
    fn describe(operation: &mut Operation, schemas: &mut SchemaGenerator);
}

impl<S> Described for State<S> {
    fn describe(_: &mut Operation, _: &mut SchemaGenerator) {}
}

/// A handler all of whose arguments, and whose answer, say something of themselves.
pub(crate) trait DescribedHandler<Types> {
    /// Describes the operation.
    fn describe(operation: &mut Operation, schemas: &mut SchemaGenerator);
}

macro_rules! described_handlers {
    ($(($($argument:ident),*))*) => {$(
        impl<F, Answering, Answer, $($argument),*> DescribedHandler<(Answer, $($argument),*)> for F
        where
            F: Fn($($argument),*) -> Answering,
            Answering: Future<Output = Result<Answer, Problem>>,
            Answer: Described,
            $($argument: Described),*
        {
            fn describe(operation: &mut Operation, schemas: &mut SchemaGenerator) {
                $($argument::describe(operation, schemas);)*
                Answer::describe(operation, schemas);
            }
        }
    )*};
}
described_handlers!((A)(A, B)(A, B, C)(A, B, C, D)(A, B, C, D, E)(A, B, C, D, E, G)(A, B, C, D, E, G, H)(A, B, C, D, E, G, H, I));

/// One operation, as it is described.
#[derive(Default)]
pub(crate) struct Operation {
    members: Map<String, Value>,
    parameters: Vec<Value>,
    responses: BTreeMap<u16, Value>,
    security: Vec<Value>,
}

impl Operation {
    /// The body that it takes.
    pub(crate) fn body(&mut self, body: Value) {
        self.members.insert("requestBody".to_owned(), body);
    }

    /// The scope that it asks for.
    pub(crate) fn scope(&mut self, scope: &str) {
        self.security.push(json!({ "bearer": [scope] }));
    }

    /// A header that it takes.
    pub(crate) fn header(&mut self, name: &str, is_required: bool, description: &str, schema: &Value) {
        self.parameters
            .push(json!({ "name": name, "in": "header", "required": is_required, "description": description, "schema": schema }));
    }

    /// Each field of `T` as a parameter.
    pub(crate) fn parameters<T: JsonSchema>(&mut self, place: &str, schemas: &mut SchemaGenerator) {
        let mut schema = T::json_schema(schemas).to_value();
        let required: Vec<String> = serde_json::from_value(schema["required"].take()).unwrap_or_default();
        for (name, mut schema) in schema["properties"].as_object().cloned().unwrap_or_default() {
            let description = schema.as_object_mut().and_then(|it| it.remove("description")).unwrap_or_default();
            let is_required = required.contains(&name);
            self.parameters
                .push(json!({ "name": name, "in": place, "required": is_required, "description": description, "schema": schema }));
        }
    }

    /// What is answered if it is done.
    pub(crate) fn answer(&mut self, status: StatusCode, description: &str, schema: Option<Value>, headers: &Value) {
        let mut answer = json!({ "description": description });
        if let Some(it) = schema {
            answer["content"] = json!({ "application/json": { "schema": it } });
        }
        if headers.is_object() {
            answer["headers"] = headers.clone();
        }
        self.responses.insert(status.as_u16(), answer);
    }

    /// Why it may not be done.
    pub(crate) fn problem(&mut self, status: StatusCode, why: &str) {
        let response = self.responses.entry(status.as_u16()).or_insert_with(|| {
            json!({ "description": "", "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } } })
        });
        let before = response["description"].as_str().unwrap_or_default();
        let said = if before.is_empty() || before == why { why.to_owned() } else { format!("{before} {why}") };
        response["description"] = said.into();
    }

    fn finish(mut self) -> Value {
        let responses: Map<String, Value> = self.responses.into_iter().map(|(status, it)| (status.to_string(), it)).collect();
        self.members.insert("responses".to_owned(), responses.into());
        self.members.insert("parameters".to_owned(), self.parameters.into());
        self.members.insert("security".to_owned(), self.security.into());
        self.members.into()
    }
}

/// The routes of the API, and their description.
pub(crate) struct Api {
    router: Router<Arc<Handles>>,
    paths: Map<String, Value>,
    schemas: SchemaGenerator,
}

/// One route: what people and programs call it, and why it may be refused beside what its arguments say.
pub(crate) struct Route {
    /// The method.
    pub(crate) method: Method,
    /// The path, from `/v1` on.
    pub(crate) path: &'static str,
    /// The operation's name, for generated clients.
    pub(crate) id: &'static str,
    /// What it does, in one sentence.
    pub(crate) summary: &'static str,
    /// Other refusals.
    pub(crate) refusals: &'static [(StatusCode, &'static str)],
}

impl Api {
    pub(crate) fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|it| it.definitions_path = "/components/schemas".into());
        Self { router: Router::new(), paths: Map::new(), schemas: settings.into_generator() }
    }

    /// Adds a route.
    #[must_use]
    pub(crate) fn route<H, Arguments, Types>(mut self, route: Route, handler: H) -> Self
    where
        H: Handler<Arguments, Arc<Handles>> + DescribedHandler<Types>,
        Arguments: 'static,
    {
        let mut operation = Operation::default();
        H::describe(&mut operation, &mut self.schemas);
        for (status, why) in route.refusals {
            operation.problem(*status, why);
        }
        operation.problem(StatusCode::INTERNAL_SERVER_ERROR, "A failure of ours.");
        operation.problem(StatusCode::SERVICE_UNAVAILABLE, "Something that we need does not answer. Try again soon.");
        // Paths are `/v1/<resource>/…`.
        let tag = route.path.split('/').nth(2).unwrap_or_default();
        operation.members.insert("operationId".to_owned(), route.id.into());
        operation.members.insert("summary".to_owned(), route.summary.into());
        operation.members.insert("tags".to_owned(), json!([tag]));
        let filter = MethodFilter::try_from(route.method.clone()).unwrap_or(MethodFilter::GET);
        self.paths.entry(route.path).or_insert_with(|| json!({}))[route.method.as_str().to_ascii_lowercase()] = operation.finish();
        self.router = self.router.route(route.path, on(filter, handler));
        self
    }

    /// The routes, and the document of them.
    pub(crate) fn finish(mut self) -> (Router<Arc<Handles>>, Value) {
        self.schemas.subschema_for::<problems::Document>();
        let schemas = self.schemas.take_definitions(true);
        let document = json!({
            "openapi": "3.1.0",
            "info": {
                "title": "WhatsApp channel",
                "version": "1",
                "description": "Connections, agents, templates and conversations. Times are milliseconds since the Unix epoch. \
                    Lists are read page by page: `next` of one page is the `cursor` of the next. What is not done is answered by a problem \
                    document (RFC 9457) with a stable `code`.",
                "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            },
            "servers": [{ "url": "/" }],
            "paths": self.paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" } },
            },
        });
        (self.router, document)
    }
}
