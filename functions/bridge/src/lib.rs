//! `bridge.fifo`: tells turns to agents that listen on HTTPS, and hands on what they answer.

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use channel::bridge::Bridge;
use channel::clock::Clock;
use channel::counts::Counts;
use channel::directory::Directory;
use channel::jobs::Turn;
use channel::queues::{Queue, Queues};
use channel::store::Store;
use channel::vault::{KeySource, Vault};
use channel::web::{SetUpError, Web, WebSettings};
use lambda::batches::Deadline;
use lambda::configuration::{Environment, Installation, Misconfigured};
use meta::graph::{Graph, Settings};

/// What the function is told by its environment.
pub struct Config {
    /// What every function is told.
    pub installation: Installation,
    vault: KeySource,
    graph: Settings,
    web: WebSettings,
}

impl Config {
    /// Reads it.
    ///
    /// # Errors
    /// Every variable that is missing or malformed, together.
    pub fn read(mut environment: Environment) -> Result<Self, Misconfigured> {
        let tables = environment.tables();
        let installation = environment.installation(tables, Some(Queue::Bridge), &[Queue::Replies, Queue::Probes, Queue::Events]);
        let vault = environment.vault();
        let graph = environment.graph();
        let web = environment.web();
        environment.finish(|| Some(Self { installation: installation?, vault: vault?, graph: graph?, web }))
    }
}

/// What the function holds between invocations.
pub struct Handles {
    store: Store,
    queues: Queues,
    directory: Directory,
    vault: Vault,
    graph: Graph,
    web: Web,
}

impl Handles {
    /// Builds them, once.
    ///
    /// # Errors
    /// [`SetUpError`].
    pub fn new(config: Config) -> Result<Self, SetUpError> {
        let (aws, store, queues) = config.installation.connect();
        let vault = config.vault.vault(&aws, &store);
        Ok(Self::over(store, queues, vault, Graph::new(&config.graph)?, Web::new(&config.web)?))
    }

    /// Over a store, queues, a vault, the Graph API and the web of tenants.
    #[must_use]
    pub fn over(store: Store, queues: Queues, vault: Vault, graph: Graph, web: Web) -> Self {
        let directory = Directory::new(store.clone(), vault.clone());
        Self { store, queues, directory, vault, graph, web }
    }
}

/// Runs one batch. The clock is read and slept by while an agent thinks.
pub async fn handle(handles: &Handles, event: SqsEvent, clock: Clock<'_>, deadline: Option<Deadline<'_>>) -> SqsBatchResponse {
    let Handles { store, queues, directory, vault, graph, web } = handles;
    let counts = Counts::new();
    let bridge = Bridge { store, queues, directory, vault, graph, web, counts: &counts, clock };
    let job = async |it: Turn, delivery: &_| Box::pin(bridge.tell(&it, delivery)).await;
    let response = lambda::batches::each(queues, Queue::Bridge, event, deadline, job).await;
    lambda::metrics::publish(&counts);
    response
}
