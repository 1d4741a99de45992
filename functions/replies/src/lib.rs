//! `replies.fifo`: sends an agent's or a person's free-form reply if the window allows.

use std::time::Duration;

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use channel::blobs::Blobs;
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

/// Longest wait until Meta has taken a file: 100 MB at five a second. A crash holds the conversation up for six times the function's own time.
const TAKEN_WITHIN: Duration = Duration::from_secs(20);

/// What the function is told by its environment.
pub struct Config {
    /// What every function is told.
    pub installation: Installation,
    vault: KeySource,
    graph: Settings,
    bucket: String,
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
        let bucket = environment.bucket();
        environment.finish(|| Some(Self { installation: installation?, vault: vault?, graph: graph?, bucket: bucket? }))
    }
}

/// What the function holds between invocations.
pub struct Handles {
    store: Store,
    queues: Queues,
    blobs: Blobs,
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
        let graph = Graph::new(&Settings { file_timeout: TAKEN_WITHIN, ..config.graph })?;
        let vault = config.vault.vault(&aws, &store);
        Ok(Self::over((store, queues, Blobs::new(aws.s3(), config.bucket)), vault, graph))
    }

    /// Over a store, queues, a bucket, a vault and the Graph API.
    #[must_use]
    pub fn over((store, queues, blobs): (Store, Queues, Blobs), vault: Vault, graph: Graph) -> Self {
        let directory = Directory::new(store.clone(), vault);
        Self { store, queues, blobs, directory, graph }
    }
}

/// Runs one batch. The clock is read before each part and each attempt: a send takes seconds.
pub async fn handle(handles: &Handles, event: SqsEvent, clock: &dyn Fn() -> Timestamp, deadline: Option<Deadline<'_>>) -> SqsBatchResponse {
    let Handles { store, queues, blobs, directory, graph } = handles;
    let counts = Counts::new();
    let replies = Replies { store, queues, blobs, directory, graph, counts: &counts, clock };
    let job = async |it: Reply, delivery: &_| Box::pin(replies.dispatch(&it, delivery)).await;
    let response = lambda::batches::each(queues, Queue::Replies, event, deadline, job).await;
    lambda::metrics::publish(&counts);
    response
}
