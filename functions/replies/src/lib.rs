//! `replies.fifo`: sends an agent's or a person's free-form reply if the window allows.

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use channel::aws::Aws;
use channel::counts::Counts;
use channel::directory::Directory;
use channel::jobs::Reply;
use channel::queues::{Queue, QueueUrls, Queues};
use channel::replies::Replies;
use channel::store::{Store, Tables};
use channel::vault::{KeySource, Vault};
use domain::time::Timestamp;
use lambda::batches::Deadline;
use lambda::configuration::{Environment, Misconfigured};
use meta::graph::{Graph, Settings, SettingsError};

/// What the function is told by its environment.
pub struct Config {
    /// From which severity on it logs.
    pub log_level: tracing::Level,
    aws: channel::aws::Environment,
    tables: Tables,
    queues: QueueUrls,
    vault: KeySource,
    graph: Settings,
}

impl Config {
    /// Reads it.
    ///
    /// # Errors
    /// Every variable that is missing or malformed, together.
    pub fn read(mut environment: Environment) -> Result<Self, Misconfigured> {
        let log_level = environment.log_level();
        let aws = environment.aws();
        let tables = environment.tables();
        let replies = environment.required("QUEUE_REPLIES");
        let dead_letters = environment.required("DEAD_LETTERS_REPLIES");
        let events = environment.required("QUEUE_EVENTS");
        let probes = environment.required("QUEUE_PROBES");
        let vault = environment.vault();
        let graph = environment.graph();
        environment.finish(|| {
            let queues = QueueUrls::new()
                .with(Queue::Replies, replies?)
                .with_dead_letters(Queue::Replies, dead_letters?)
                .with(Queue::Events, events?)
                .with(Queue::Probes, probes?);
            Some(Self { log_level: log_level?, aws: aws?, tables: tables?, queues, vault: vault?, graph: graph? })
        })
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
        let aws = Aws::new(config.aws);
        let graph = Graph::new(&config.graph)?;
        let store = Store::over(&aws, config.tables);
        let vault = config.vault.vault(&aws, &store);
        Ok(Self::over(store, Queues::new(aws.sqs(), config.queues), vault, graph))
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
