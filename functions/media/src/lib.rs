//! `media.fifo`: fetches customers' files into the bucket, has voice messages transcribed, and hands the turns over in their order.

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use channel::blobs::Blobs;
use channel::counts::Counts;
use channel::directory::Directory;
use channel::jobs::MediaJob;
use channel::media::Files;
use channel::queues::{Queue, Queues};
use channel::store::Store;
use channel::vault::{KeySource, Vault};
use channel::web::{SetUpError, Web, WebSettings};
use domain::time::Timestamp;
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
    bucket: String,
}

impl Config {
    /// Reads it.
    ///
    /// # Errors
    /// Every variable that is missing or malformed, together.
    pub fn read(mut environment: Environment) -> Result<Self, Misconfigured> {
        let tables = environment.tables();
        let installation = environment.installation(tables, Some(Queue::Media), &[Queue::Turns, Queue::Bridge, Queue::Probes]);
        let vault = environment.vault();
        let graph = environment.graph();
        let web = environment.web();
        let bucket = environment.bucket();
        environment.finish(|| Some(Self { installation: installation?, vault: vault?, graph: graph?, web, bucket: bucket? }))
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
}

impl Handles {
    /// Builds them, once.
    ///
    /// # Errors
    /// [`SetUpError`].
    pub fn new(config: Config) -> Result<Self, SetUpError> {
        let (aws, store, queues) = config.installation.connect();
        let blobs = Blobs::new(aws.s3(), config.bucket);
        let vault = config.vault.vault(&aws, &store);
        Ok(Self::over((store, queues, blobs), vault, Graph::new(&config.graph)?, Web::new(&config.web)?))
    }

    /// Over a store, queues, a bucket, a vault, the Graph API and the web of tenants.
    #[must_use]
    pub fn over((store, queues, blobs): (Store, Queues, Blobs), vault: Vault, graph: Graph, web: Web) -> Self {
        let directory = Directory::new(store.clone(), vault.clone());
        Self { store, queues, blobs, directory, vault, graph, web }
    }
}

/// Runs one batch.
pub async fn handle(handles: &Handles, event: SqsEvent, now: Timestamp, deadline: Option<Deadline<'_>>) -> SqsBatchResponse {
    let Handles { store, queues, blobs, directory, vault, graph, web } = handles;
    let counts = Counts::new();
    let files = Files { store, queues, blobs, directory, vault, graph, web, counts: &counts };
    let job = async |it: MediaJob, delivery: &_| Box::pin(files.see_to(&it, delivery, now)).await;
    let response = lambda::batches::each(queues, Queue::Media, event, deadline, job).await;
    lambda::metrics::publish(&counts);
    response
}
