//! `replies.fifo`: sends an agent's or a person's free-form reply if the window allows.

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use channel::counts::Counts;
use channel::directory::Directory;
use channel::jobs::Reply;
use channel::queues::{Queue, Queues};
use channel::replies::Replies;
use channel::store::Store;
use channel::vault::{KeySource, Vault};
use domain::time::Timestamp;
use lambda::batches::Deadline;
use lambda::configuration::{Environment, Installation, Misconfigured};
use meta::graph::{Graph, Settings, SettingsError};

/// What the function is told by its environment.
pub struct Config {
    /// What every function is told.
    pub installation: Installation,
    vault: KeySource,
    graph: Settings,
}

impl Config {
    /// Reads it.
    ///
    /// # Errors
    /// Every variable that is missing or malformed, together.
    pub fn read(mut environment: Environment) -> Result<Self, Misconfigured> {
        let tables = environment.tables();
        let installation = environment.installation(tables, Some(Queue::Replies), &[Queue::Events, Queue::Probes]);
        let vault = environment.vault();
        let graph = environment.graph();
        environment.finish(|| Some(Self { installation: installation?, vault: vault?, graph: graph? }))
    }
}

/// What the function holds between invocations.
pub struct Handles {
    store: Store,
    queues: Queues,
    directory: Directory,
    graph: Graph,
}

impl Handles {
    /// Builds them, once.
    ///
    /// # Errors
    /// [`SettingsError`] if the Graph API's address or version cannot be.
    pub fn new(config: Config) -> Result<Self, SettingsError> {
        let (aws, store, queues) = config.installation.connect();
        let graph = Graph::new(&config.graph)?;
        let vault = config.vault.vault(&aws, &store);
        Ok(Self::over(store, queues, vault, graph))
    }

    /// Over a store, queues, a vault and the Graph API.
    #[must_use]
    pub fn over(store: Store, queues: Queues, vault: Vault, graph: Graph) -> Self {
        let directory = Directory::new(store.clone(), vault);
        Self { store, queues, directory, graph }
    }
}

/// Runs one batch. The clock is read before each part and each attempt: a send takes seconds.
pub async fn handle(handles: &Handles, event: SqsEvent, clock: &dyn Fn() -> Timestamp, deadline: Option<Deadline<'_>>) -> SqsBatchResponse {
    let Handles { store, queues, directory, graph } = handles;
    let counts = Counts::new();
    let replies = Replies { store, queues, directory, graph, counts: &counts, clock };
    let job = async |it: Reply, delivery: &_| Box::pin(replies.dispatch(&it, delivery)).await;
    let response = lambda::batches::each(queues, Queue::Replies, event, deadline, job).await;
    lambda::metrics::publish(&counts);
    response
}
