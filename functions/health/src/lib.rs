//! `probes`: checks connections, reads again from Meta what Meta says has changed, and what may have, asks agents' endpoints that are down,
//! hands over owed turns, and erases customers' data.

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use channel::blobs::Blobs;
use channel::checks::CheckSettings;
use channel::counts::Counts;
use channel::directory::Directory;
use channel::health::{Health, Turns};
use channel::jobs::Probe;
use channel::queues::{Queue, Queues};
use channel::redelivery::Retryable as _;
use channel::signup::{self, ServerApp};
use channel::store::Store;
use channel::vault::{KeySource, Vault};
use channel::watch;
use channel::web::{SetUpError, Web, WebSettings};
use domain::time::Timestamp;
use lambda::batches::Deadline;
use lambda::configuration::{Environment, Installation, Misconfigured};
use meta::graph::{Graph, Settings};
use serde::Deserialize;

/// What the function is told by its environment.
pub struct Config {
    /// What every function is told.
    pub installation: Installation,
    vault: KeySource,
    graph: Settings,
    bucket: String,
    web: WebSettings,
    checks: CheckSettings,
    server_app: Option<ServerApp>,
}

impl Config {
    /// Reads it.
    ///
    /// # Errors
    /// Every variable that is missing or malformed, together.
    pub fn read(mut environment: Environment) -> Result<Self, Misconfigured> {
        let tables = environment.tables();
        let installation =
            environment.installation(tables, Some(Queue::Probes), &[Queue::Media, Queue::Turns, Queue::Bridge, Queue::Events]);
        let vault = environment.vault();
        let graph = environment.graph();
        let bucket = environment.bucket();
        let web = environment.web();
        let webhook_url = environment.required("WEBHOOK_URL");
        let secret_overlap = environment.secret_overlap();
        let server_app = environment.server_app();
        environment.finish(|| {
            Some(Self {
                installation: installation?,
                vault: vault?,
                graph: graph?,
                bucket: bucket?,
                web,
                checks: CheckSettings { webhook_url: webhook_url?, secret_overlap: secret_overlap? },
                server_app: server_app?,
            })
        })
    }
}

/// What the function holds between invocations.
pub struct Handles {
    store: Store,
    queues: Queues,
    blobs: Blobs,
    directory: Directory,
    vault: Vault,
    graph: Graph,
    web: Web,
    checks: CheckSettings,
    server_app: Option<ServerApp>,
}

impl Handles {
    /// Builds them, once.
    ///
    /// # Errors
    /// [`SetUpError`].
    pub fn new(config: Config) -> Result<Self, SetUpError> {
        let (aws, store, queues) = config.installation.connect();
        let clients = (Graph::new(&config.graph)?, Web::new(&config.web)?);
        let vault = config.vault.vault(&aws, &store);
        let blobs = Blobs::new(aws.s3(), config.bucket);
        Ok(Self::over((store, queues, blobs), vault, clients, (config.checks, config.server_app)))
    }

    /// Over a store, queues, a bucket, a vault, the Graph API and the web of tenants, and what this installation is to Meta.
    #[must_use]
    pub fn over(
        (store, queues, blobs): (Store, Queues, Blobs),
        vault: Vault,
        (graph, web): (Graph, Web),
        (checks, server_app): (CheckSettings, Option<ServerApp>),
    ) -> Self {
        let directory = Directory::new(store.clone(), vault.clone());
        Self { store, queues, blobs, directory, vault, graph, web, checks, server_app }
    }
}

/// What the function is invoked with.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Event {
    /// Probes.
    Probes(SqsEvent),
    /// The schedule, with what the template has it say.
    Schedule(Schedule),
}

/// What the schedule has the function do.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(tag = "schedule", rename_all = "snake_case")]
pub enum Schedule {
    /// Look at the connections that are due.
    Look,
}

/// Answers one invocation. Of a look that fails nothing comes back: the next slice is due in a few minutes.
pub async fn answer(handles: &Handles, event: Event, now: Timestamp, deadline: Option<Deadline<'_>>) -> SqsBatchResponse {
    match event {
        Event::Probes(event) => handle(handles, event, now, deadline).await,
        Event::Schedule(Schedule::Look) => {
            let Handles { store, queues, blobs, vault, server_app, .. } = handles;
            if let Err(error) = watch::look(store, queues, blobs, now).await {
                let chain = lambda::logging::chain(&error);
                tracing::error!(error.code = error.code(), error.chain = chain, "the connections that are due are not looked at");
            }
            // A deployment may have brought another secret of the server's app.
            let kept = match server_app {
                Some(it) => signup::keep_app(store, vault, it, now).await,
                None => Ok(true),
            };
            match kept {
                Ok(true) => {}
                Ok(false) => tracing::error!("the app of META_APP_ID is a tenant's: nobody can sign in with Meta"),
                Err(error) => {
                    let chain = lambda::logging::chain(&error);
                    tracing::error!(error.code = error.code(), error.chain = chain, "the server's app is not kept");
                }
            }
            SqsBatchResponse::default()
        }
    }
}

/// Runs one batch. Meta is asked once for what several of its probes are reasons for.
pub async fn handle(handles: &Handles, event: SqsEvent, now: Timestamp, deadline: Option<Deadline<'_>>) -> SqsBatchResponse {
    let Handles { store, queues, blobs, directory, vault, graph, web, checks, .. } = handles;
    let counts = Counts::new();
    let health = Health { store, queues, blobs, directory, vault, graph, web, settings: checks, counts: &counts, turns: &Turns::default() };
    let job = async |it: Probe, delivery: &_| Box::pin(health.look(&it, delivery, now)).await;
    let response = lambda::batches::each(queues, Queue::Probes, event, deadline, job).await;
    lambda::metrics::publish(&counts);
    response
}
