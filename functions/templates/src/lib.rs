//! `template-sends`: sends approved templates, and nothing else.
//!
//! Free text is out of this crate's reach. Its handle on Meta takes filled templates only, and it depends on no crate that has another one:
//!
//! ```
//! fn compiles(_: &channel::templates::TemplateGraph) {}
//! ```
//! ```compile_fail
//! fn does_not(_: &meta::graph::Graph) {}
//! ```
//! ```compile_fail
//! fn does_not(_: &domain::outgoing::Outgoing) {}
//! ```
//!
//! That the handle refuses free text is shown at [`TemplateGraph`].

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use channel::catalogue::Catalogue;
use channel::clock::Clock;
use channel::counts::Counts;
use channel::directory::Directory;
use channel::leases::Leases;
use channel::queues::{Queue, Queues};
use channel::store::Store;
use channel::templates::{TemplateGraph, Templates};
use channel::vault::{KeySource, Vault};
use channel::{GraphSettings, GraphSettingsError};
use lambda::batches::Deadline;
use lambda::configuration::{Environment, Installation, Misconfigured};

/// Which part of a number's throughput campaigns may use, if nothing else is said: a quarter is left for replies and for what comes in.
const SHARE: f64 = 0.75;

/// What the function is told by its environment.
pub struct Config {
    /// What every function is told.
    pub installation: Installation,
    vault: KeySource,
    graph: GraphSettings,
    share: f64,
}

impl Config {
    /// Reads it.
    ///
    /// # Errors
    /// Every variable that is missing or malformed, together.
    pub fn read(mut environment: Environment) -> Result<Self, Misconfigured> {
        let tables = environment.tables();
        let installation = environment.installation(tables, Some(Queue::TemplateSends), &[Queue::Events, Queue::Probes]);
        let vault = environment.vault();
        let graph = environment.graph();
        let share = environment.parsed_or("CAMPAIGN_SHARE", SHARE);
        if share.is_some_and(|it| !(it > 0.0 && it <= 1.0)) {
            environment.malformed("CAMPAIGN_SHARE");
        }
        environment.finish(|| Some(Self { installation: installation?, vault: vault?, graph: graph?, share: share? }))
    }
}

/// What the function holds between invocations.
pub struct Handles {
    store: Store,
    queues: Queues,
    directory: Directory,
    catalogue: Catalogue,
    graph: TemplateGraph,
    leases: Leases,
    share: f64,
}

impl Handles {
    /// Builds them, once.
    ///
    /// # Errors
    /// If the Graph API's address or version cannot be.
    pub fn new(config: Config) -> Result<Self, GraphSettingsError> {
        let (aws, store, queues) = config.installation.connect();
        let graph = TemplateGraph::new(&config.graph)?;
        let vault = config.vault.vault(&aws, &store);
        Ok(Self::over(store, queues, vault, graph, config.share))
    }

    /// Over a store, queues, a vault and the Graph API; campaigns use this share of a number's throughput.
    #[must_use]
    pub fn over(store: Store, queues: Queues, vault: Vault, graph: TemplateGraph, share: f64) -> Self {
        let directory = Directory::new(store.clone(), vault);
        let catalogue = Catalogue::new(store.clone());
        Self { store, queues, directory, catalogue, graph, leases: Leases::new(), share }
    }

    /// Places in rotations that were leased and not used yet.
    #[must_use]
    pub fn unused_places(&self) -> usize {
        self.leases.unused()
    }
}

/// Runs one batch: each job is prepared alone, slots are leased for all of them, and each goes out at its slot.
pub async fn handle(handles: &Handles, event: SqsEvent, clock: Clock<'_>, deadline: Option<Deadline<'_>>) -> SqsBatchResponse {
    let Handles { store, queues, directory, catalogue, graph, leases, share } = handles;
    let counts = Counts::new();
    let templates =
        Templates { store, queues, directory, catalogue, graph, leases, counts: &counts, clock, share: *share, is_held_back: false.into() };
    let response = lambda::batches::planned(
        queues,
        Queue::TemplateSends,
        event,
        deadline,
        async |job, delivery: &_| Box::pin(templates.prepare(job, delivery)).await,
        async |ready| Box::pin(templates.plan(ready)).await,
        async |planned| Box::pin(templates.finish(planned)).await,
    )
    .await;
    lambda::metrics::publish(&counts);
    response
}
