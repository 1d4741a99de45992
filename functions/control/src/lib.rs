//! `/v1`: the JSON API. Each handler decodes, calls one use-case, and encodes what it answers.
//!
//! The routes and their description (`openapi.json`) are made from the same types.

mod access;
mod agents;
mod answers;
mod connections;
mod contacts;
mod conversations;
mod document;
mod fields;
mod files;
mod health;
mod idempotency;
mod issuer;
mod numbers;
mod paging;
mod problems;
mod signup;
mod templates;
mod versions;

use std::sync::Arc;
use std::time::Duration;

use ::meta::graph::{Graph, Settings, SettingsError};
use axum::Router;
use axum::body::to_bytes;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::IntoResponse as _;
use channel::blobs::Blobs;
use channel::queues::{Queue, Queues};
use channel::signup::ServerApp;
use channel::store::Store;
use channel::vault::{KeySource, Secret, Vault};
use domain::ids::TenantId;
use domain::time::Timestamp;
use lambda::configuration::{Environment, Installation, Misconfigured};
use lambda_http::{Body, Request, RequestExt as _, Response};
use schemars::SchemaGenerator;
use serde_json::Value;
use tower::ServiceExt as _;

pub use access::{Access, Scope};
use document::{Api, Described, Operation};
pub use issuer::{Issuer, IssuerError};
use problems::Problem;

/// The largest answer, in bytes; Lambda takes six megabytes:
/// <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>.
const ANSWER_BYTES: usize = 5 << 20;

/// Longest wait for an answer of Meta's: a sign-in takes four, and API Gateway waits 30 seconds.
const META_ANSWERS_WITHIN: Duration = Duration::from_secs(6);

/// What the function is told by its environment.
pub struct Config {
    /// What every function is told.
    pub installation: Installation,
    vault: KeySource,
    graph: Settings,
    webhook_url: String,
    server_app: Option<ServerApp>,
    access: Access,
    bucket: String,
    allow_loopback: bool,
}

impl Config {
    /// Reads it.
    ///
    /// # Errors
    /// Every variable that is missing or malformed, together.
    pub fn read(mut environment: Environment) -> Result<Self, Misconfigured> {
        let tables = environment.tables();
        let sends = [Queue::Replies, Queue::TemplateSends, Queue::Media, Queue::Probes, Queue::Events];
        let installation = environment.installation(tables, None, &sends);
        let vault = environment.vault();
        let graph = environment.graph();
        let webhook_url = environment.required("WEBHOOK_URL");
        let server_app = environment.server_app();
        let access = access(&mut environment);
        let bucket = environment.bucket();
        let allow_loopback = environment.web().allow_loopback;
        environment.finish(|| {
            Some(Self {
                installation: installation?,
                vault: vault?,
                graph: graph?,
                webhook_url: webhook_url?,
                server_app: server_app?,
                access: access?,
                bucket: bucket?,
                allow_loopback,
            })
        })
    }
}

/// By `JWT_ISSUER`, `JWT_AUDIENCE` and `JWT_TENANT_CLAIM`; where there is no issuer, by `API_TOKEN` for the tenant `API_TENANT`, which only a
/// stack on one machine has; without either nobody is let in.
fn access(environment: &mut Environment) -> Option<Access> {
    let Some(issuer) = environment.optional("JWT_ISSUER") else {
        let token = environment.optional("API_TOKEN").filter(|_| environment.is_local());
        let Some(token) = token else { return Some(Access::Closed) };
        let tenant = environment.required("API_TENANT")?;
        let tenant = TenantId::parse(tenant).ok();
        if tenant.is_none() {
            environment.malformed("API_TENANT");
        }
        return Some(Access::Token { token: Secret::new(token), tenant: tenant? });
    };
    let audience = environment.required("JWT_AUDIENCE");
    let tenant_claim = environment.optional("JWT_TENANT_CLAIM").unwrap_or_else(|| "tenant".to_owned());
    let issuer = Issuer::new(issuer, environment.is_local()).ok();
    if issuer.is_none() {
        environment.malformed("JWT_ISSUER");
    }
    Some(Access::Issuer { issuer: issuer?, audience: audience?, tenant_claim })
}

/// What the function holds between invocations.
pub struct Handles {
    store: Store,
    queues: Queues,
    blobs: Blobs,
    vault: Vault,
    meta: Meta,
    access: Access,
    /// May tenants name addresses of this machine? Only where all of the stack is on it.
    allow_loopback: bool,
}

/// What there is between Meta and this installation.
pub struct Meta {
    /// The Graph API.
    pub graph: Graph,
    /// Where Meta reaches the webhook.
    pub webhook_url: String,
    /// The server's own app, if it has one.
    pub server_app: Option<ServerApp>,
}

impl Handles {
    /// Builds them, once.
    ///
    /// # Errors
    /// [`SettingsError`] if the Graph API's address or version cannot be.
    pub fn new(config: Config) -> Result<Self, SettingsError> {
        let (aws, store, queues) = config.installation.connect();
        let meta = Meta {
            graph: Graph::new(&Settings { timeout: META_ANSWERS_WITHIN, ..config.graph })?,
            webhook_url: config.webhook_url,
            server_app: config.server_app,
        };
        let vault = config.vault.vault(&aws, &store);
        let blobs = Blobs::new(aws.s3(), config.bucket);
        Ok(Self { allow_loopback: config.allow_loopback, ..Self::over((store, queues, blobs), vault, meta, config.access) })
    }

    /// Over a store, queues, a bucket, a vault, Meta, and what callers prove themselves by.
    #[must_use]
    pub fn over((store, queues, blobs): (Store, Queues, Blobs), vault: Vault, meta: Meta, access: Access) -> Self {
        Self { store, queues, blobs, vault, meta, access, allow_loopback: false }
    }

    /// The same, for a stack all of which is on this machine: tenants may name addresses of it.
    #[must_use]
    pub fn allowing_loopback(self) -> Self {
        Self { allow_loopback: true, ..self }
    }
}

fn api() -> Api {
    let api = connections::routes(Api::new());
    let api = health::routes(api);
    let api = numbers::routes(api);
    let api = signup::routes(api);
    let api = agents::routes(api);
    let api = templates::routes(api);
    let api = conversations::routes(api);
    let api = files::routes(api);
    contacts::routes(api)
}

/// The description of the API.
#[must_use]
pub fn openapi() -> Value {
    api().finish().1
}

/// The API.
pub fn router(handles: Handles) -> Router {
    let (routes, document) = api().finish();
    let document = async move || axum::Json(document);
    routes
        .route(document::PATH, axum::routing::get(document))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .with_state(Arc::new(handles))
}

async fn no_route() -> Problem {
    Problem::not_found().saying(format!("Nothing is at this address. What there is, {} says.", document::PATH))
}

async fn no_method(method: Method) -> Problem {
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "This is not done to such a thing.");
    problem.saying(format!("The method {method} means nothing here. What there is, {} says.", document::PATH))
}

/// When the request came.
pub(crate) struct Now(pub(crate) Timestamp);

impl<S: Send + Sync> FromRequestParts<S> for Now {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self(parts.extensions.get().copied().unwrap_or_default()))
    }
}

impl Described for Now {
    fn describe(_: &mut Operation, _: &mut SchemaGenerator) {}
}

/// Answers one request.
pub async fn handle(router: &Router, mut request: Request, now: Timestamp) -> Response<Body> {
    let id = request.lambda_context_ref().map(|it| it.request_id.clone()).unwrap_or_default();
    request.extensions_mut().insert(now);
    let request = request.map(|it| axum::body::Body::from(it.to_vec()));
    let response = router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
    let (mut parts, body) = response.into_parts();
    let body = match parts.extensions.remove::<Problem>() {
        Some(problem) => Body::Text(problem.body(&id).to_string()),
        None => match to_bytes(body, ANSWER_BYTES).await.ok().and_then(|it| String::from_utf8(it.to_vec()).ok()) {
            Some(text) if text.is_empty() => Body::Empty,
            Some(text) => Body::Text(text),
            None => {
                tracing::error!("an answer is too large");
                let problem = Problem::unavailable();
                parts = problem.clone().into_response().into_parts().0;
                Body::Text(problem.body(&id).to_string())
            }
        },
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    // What is answered is one tenant's, and data.
    parts.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    parts.headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let (Ok(it), false) = (HeaderValue::from_str(&id), id.is_empty()) {
        parts.headers.insert("x-request-id", it);
    }
    Response::from_parts(parts, body)
}
