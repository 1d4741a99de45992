//! The JSON API, as programs of tenants call it.

use channel::signup::ServerApp;
use channel::vault::Secret;
use control::{Access, Handles, Meta};
use domain::ids::TenantId;
use lambda_http::{Body, http};
use serde_json::Value;

use super::{Parts, World, vault};

/// What an answer of the API says.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Its headers.
    pub headers: http::HeaderMap,
    /// The body; null if there is none.
    pub body: Value,
}

impl World {
    /// The demo tenant asks; the status, and the body of the answer.
    pub async fn api(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let answer = self.api_of("demo", method, path, &[], body).await;
        (answer.status, answer.body)
    }

    /// A tenant asks, with these headers beside its token.
    ///
    /// # Panics
    /// When there can be no such request, or the answer is not JSON.
    pub async fn api_of(&self, tenant: &str, method: &str, path: &str, headers: &[(&str, &str)], body: Option<Value>) -> Answer {
        let mut request = http::Request::builder().method(method).uri(path).header("authorization", format!("Bearer token-of-{tenant}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = match body {
            Some(it) => {
                request = request.header("content-type", "application/json");
                Body::Text(it.to_string())
            }
            None => Body::Empty,
        };
        self.asks_api(tenant, request.body(body).expect("a request")).await
    }

    /// Anybody asks anything of the API that takes the token of this tenant; the whole answer.
    ///
    /// # Panics
    /// When the answer is not JSON.
    pub async fn asks_api(&self, tenant: &str, request: http::Request<Body>) -> Answer {
        let router = self.apis.borrow_mut().entry(tenant.to_owned()).or_insert_with(|| control::router(self.handles(tenant))).clone();
        let response = control::handle(&router, request, self.now()).await;
        let (parts, body) = response.into_parts();
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") };
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    fn handles(&self, tenant: &str) -> Handles {
        let tenant_id = TenantId::parse(tenant).expect("a tenant");
        self.control(Access::Token { token: Secret::new(format!("token-of-{tenant}")), tenant: tenant_id })
    }

    /// What the API's function holds, with these proofs of who asks.
    #[must_use]
    pub fn control(&self, access: Access) -> Handles {
        let Self { template, dynamo, sqs: engine, s3: bucket, clock, .. } = self;
        let parts = Parts {
            template,
            dynamo,
            engine,
            bucket,
            clock,
            graph_url: "",
            graph_timeout: std::time::Duration::ZERO,
            webhook_url: String::new(),
        };
        let server_app = self.server_app.borrow().clone();
        let meta = Meta { graph: self.graph.clone(), webhook_url: self.webhook_url.clone(), server_app };
        Handles::over((parts.store("control"), parts.queues("control"), parts.bucket.blobs("control")), vault(), meta, access)
            .allowing_loopback()
    }

    /// The installation has an app of its own, by which tenants sign in with Meta.
    pub fn has_app(&self, app: ServerApp) {
        *self.server_app.borrow_mut() = Some(app);
        self.apis.borrow_mut().clear();
    }
}
