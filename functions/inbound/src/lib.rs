//! `inbound.fifo`: keeps what customers wrote once, opens the window, hands the turn over.

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use channel::counts::Counts;
use channel::directory::Owners;
use channel::inbound::receive;
use channel::jobs::Written;
use channel::queues::{Queue, Queues};
use channel::store::Store;
use domain::time::Timestamp;
use lambda::batches::Deadline;
use lambda::configuration::{Environment, Installation, Misconfigured};

/// What the function is told by its environment.
pub struct Config {
    /// What every function is told.
    pub installation: Installation,
}

impl Config {
    /// Reads it.
    ///
    /// # Errors
    /// Every variable that is missing or malformed, together.
    pub fn read(mut environment: Environment) -> Result<Self, Misconfigured> {
        let tables = environment.tables();
        let installation =
            environment.installation(tables, Some(Queue::Inbound), &[Queue::Media, Queue::Turns, Queue::Bridge, Queue::Events]);
        environment.finish(|| Some(Self { installation: installation? }))
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
        let (_, store, queues) = config.installation.connect();
        Self::over(store, queues)
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
    let job = async |it: Written, _: &_| Box::pin(receive(store, queues, owners, &counts, &it, now)).await;
    let response = lambda::batches::each(queues, Queue::Inbound, event, deadline, job).await;
    lambda::metrics::publish(&counts);
    response
}
