//! `/webhooks/{app_id}`: GET proves the subscription; POST verifies, takes apart, queues, and answers 200 when all is kept.

use channel::counts::Counts;
use channel::directory::{Directory, Owners};
use channel::ingest::{Answer, Ingest, IngestError, proves_subscription};
use channel::queues::{Queue, Queues};
use channel::redelivery::Retryable as _;
use channel::store::{Store, Tables};
use channel::vault::{KeySource, Vault};
use domain::time::Timestamp;
use lambda::configuration::{Environment, Installation, Misconfigured};
use lambda_http::http::{Method, StatusCode, header};
use lambda_http::{Body, Request, RequestExt as _, Response};

/// Where Meta puts the signature: <https://developers.facebook.com/docs/graph-api/webhooks/getting-started#validate-payloads>.
const SIGNATURE: &str = "x-hub-signature-256";

/// What the function is told by its environment.
pub struct Config {
    /// What every function is told.
    pub installation: Installation,
    vault: KeySource,
}

impl Config {
    /// Reads it.
    ///
    /// # Errors
    /// Every variable that is missing or malformed, together.
    pub fn read(mut environment: Environment) -> Result<Self, Misconfigured> {
        // The webhook reads the config, and no other table.
        let config = environment.required("TABLE_CONFIG");
        let tables = config.map(|config| Tables { config, conversations: String::new(), messages: String::new() });
        let installation = environment.installation(tables, None, &[Queue::Inbound, Queue::Statuses, Queue::Probes, Queue::Quarantine]);
        let vault = environment.vault();
        environment.finish(|| Some(Self { installation: installation?, vault: vault? }))
    }
}

/// What the function holds between invocations.
pub struct Handles {
    queues: Queues,
    directory: Directory,
    owners: Owners,
}

impl Handles {
    /// Builds them, once.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let (aws, store, queues) = config.installation.connect();
        let vault = config.vault.vault(&aws, &store);
        Self::over(store, queues, vault)
    }

    /// Over a store, queues and a vault.
    #[must_use]
    pub fn over(store: Store, queues: Queues, vault: Vault) -> Self {
        let directory = Directory::new(store.clone(), vault);
        let owners = Owners::new(store);
        Self { queues, directory, owners }
    }
}

/// Answers one request. Every refusal is the same empty answer, whatever its reason; nothing is acknowledged before it is kept.
pub async fn handle(handles: &Handles, request: Request, now: Timestamp) -> Response<Body> {
    let answer = match *request.method() {
        Method::GET => prove(handles, &request, now).await,
        Method::POST => receive(handles, &request, now).await,
        _ => Ok(empty(StatusCode::FORBIDDEN)),
    };
    answer.unwrap_or_else(|error| {
        let chain = lambda::logging::chain(&error);
        tracing::error!(error.code = error.code(), error.chain = chain, "a webhook is not kept; Meta will repeat it");
        empty(StatusCode::SERVICE_UNAVAILABLE)
    })
}

async fn prove(handles: &Handles, request: &Request, now: Timestamp) -> Result<Response<Body>, IngestError> {
    let query = request.query_string_parameters();
    let (mode, token, challenge) = (query.first("hub.mode"), query.first("hub.verify_token"), query.first("hub.challenge"));
    let (Some("subscribe"), Some(token), Some(challenge)) = (mode, token, challenge) else {
        return Ok(empty(StatusCode::FORBIDDEN));
    };
    if !proves_subscription(&handles.directory, app(request), token, now).await? {
        return Ok(empty(StatusCode::FORBIDDEN));
    }
    let mut response = Response::new(Body::from(challenge));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    Ok(response)
}

async fn receive(handles: &Handles, request: &Request, now: Timestamp) -> Result<Response<Body>, IngestError> {
    let Handles { queues, directory, owners } = handles;
    let counts = Counts::new();
    let ingest = Ingest { queues, directory, owners, counts: &counts };
    let signature = request.headers().get(SIGNATURE).and_then(|it| it.to_str().ok());
    let answer = ingest.receive(app(request), signature, request.body(), now).await;
    lambda::metrics::publish(&counts);
    Ok(empty(match answer? {
        Answer::Kept => StatusCode::OK,
        Answer::Refused => StatusCode::FORBIDDEN,
    }))
}

/// The app in the path, which chooses the secret before anything is read.
fn app(request: &Request) -> &str {
    request.uri().path().trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    response
}
