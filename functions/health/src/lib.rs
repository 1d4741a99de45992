//! `probes`: reads again from Meta what Meta says has changed, and what may have; erases customers' data.

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use channel::aws::Aws;
use channel::counts::Counts;
use channel::directory::Directory;
use channel::health::{Health, Turns};
use channel::jobs::Probe;
use channel::queues::{Queue, QueueUrls, Queues};
use channel::store::{Store, Tables};
use channel::vault::Vault;
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
    vault: Vault,
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
        let config = environment.required("TABLE_CONFIG");
        let conversations = environment.required("TABLE_CONVERSATIONS");
        let messages = environment.required("TABLE_MESSAGES");
        let probes = environment.required("QUEUE_PROBES");
        let dead_letters = environment.required("DEAD_LETTERS_PROBES");
        let events = environment.required("QUEUE_EVENTS");
        let vault = environment.vault();
        let graph = environment.graph();
        environment.finish(|| {
            let queues =
                QueueUrls::new().with(Queue::Probes, probes?).with_dead_letters(Queue::Probes, dead_letters?).with(Queue::Events, events?);
            let tables = Tables { config: config?, conversations: conversations?, messages: messages? };
            Some(Self { log_level: log_level?, aws: aws?, tables, queues, vault: vault?, graph: graph? })
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
        Ok(Self::over(Store::over(&aws, config.tables), Queues::new(aws.sqs(), config.queues), config.vault, graph))
    }

    /// Over a store, queues, a vault and the Graph API.
    #[must_use]
    pub fn over(store: Store, queues: Queues, vault: Vault, graph: Graph) -> Self {
        let directory = Directory::new(store.clone(), vault);
        Self { store, queues, directory, graph }
    }
}

/// Runs one batch. Meta is asked once for what several of its probes are reasons for.
pub async fn handle(handles: &Handles, event: SqsEvent, now: Timestamp, deadline: Option<Deadline<'_>>) -> SqsBatchResponse {
    let Handles { store, queues, directory, graph } = handles;
    let counts = Counts::new();
    let health = Health { store, queues, directory, graph, counts: &counts, turns: &Turns::default() };
    let job = async |it: Probe, delivery: &_| Box::pin(health.look(&it, delivery, now)).await;
    let response = lambda::batches::each(queues, Queue::Probes, event, deadline, job).await;
    lambda::metrics::publish(&counts);
    response
}
