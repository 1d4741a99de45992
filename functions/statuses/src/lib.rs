//! `statuses`: merges what Meta says of our messages.

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use channel::aws::Aws;
use channel::counts::Counts;
use channel::directory::Owners;
use channel::jobs::Told;
use channel::queues::{Queue, QueueUrls, Queues};
use channel::statuses::Statuses;
use channel::store::{Store, Tables};
use domain::time::Timestamp;
use lambda::batches::Deadline;
use lambda::configuration::{Environment, Misconfigured};

/// What the function is told by its environment.
pub struct Config {
    /// From which severity on it logs.
    pub log_level: tracing::Level,
    aws: channel::aws::Environment,
    tables: Tables,
    queues: QueueUrls,
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
        let statuses = environment.required("QUEUE_STATUSES");
        let dead_letters = environment.required("DEAD_LETTERS_STATUSES");
        let events = environment.required("QUEUE_EVENTS");
        let probes = environment.required("QUEUE_PROBES");
        environment.finish(|| {
            let queues = QueueUrls::new()
                .with(Queue::Statuses, statuses?)
                .with_dead_letters(Queue::Statuses, dead_letters?)
                .with(Queue::Events, events?)
                .with(Queue::Probes, probes?);
            Some(Self { log_level: log_level?, aws: aws?, tables: tables?, queues })
        })
    }
}

/// What the function holds between invocations.
pub struct Handles {
    store: Store,
    queues: Queues,
    owners: Owners,
}

impl Handles {
    /// Builds them, once.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let aws = Aws::new(config.aws);
        Self::over(Store::over(&aws, config.tables), Queues::new(aws.sqs(), config.queues))
    }

    /// Over a store and queues.
    #[must_use]
    pub fn over(store: Store, queues: Queues) -> Self {
        let owners = Owners::new(store.clone());
        Self { store, queues, owners }
    }
}

/// Runs one batch.
pub async fn handle(handles: &Handles, event: SqsEvent, now: Timestamp, deadline: Option<Deadline<'_>>) -> SqsBatchResponse {
    let Handles { store, queues, owners } = handles;
    let counts = Counts::new();
    let statuses = Statuses { store, queues, owners, counts: &counts };
    let response =
        lambda::batches::each(queues, Queue::Statuses, event, deadline, async |it: Told, _: &_| Box::pin(statuses.hear(&it, now)).await)
            .await;
    lambda::metrics::publish(&counts);
    response
}
