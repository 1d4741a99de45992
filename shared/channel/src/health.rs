//! A reason to look at how a connection stands with Meta, and what is read again from Meta for it.
//!
//! Meta's webhooks on accounts, templates and numbers come late and out of order: what they say is a reason to read, never what is kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::connection::{Connection, State};
use domain::ids::{AgentId, ConnectionId, ConversationId};
use domain::time::Timestamp;
use meta::fault::Class;
use meta::graph::{Graph, Unread};
use meta::{templates, webhook};

use crate::blobs::{BlobError, Blobs};
use crate::catalogue::{self, CatalogueError, Refreshed, Why};
use crate::checks::{CheckSettings, Checks, Outcome};
use crate::connections::{self, ConnectionError};
use crate::counts::Counts;
use crate::directory::{Directory, DirectoryError, KnownConnection};
use crate::endings;
use crate::endpoints;
use crate::erasure::{self, ErasureError};
use crate::jobs::Probe;
use crate::numbers;
use crate::outbox::SendError;
use crate::owed;
use crate::queues::Queues;
use crate::redelivery::{Delivery, Progress, Retryable};
use crate::retention;
use crate::store::{RESTS_FOR, Store, StoreError, StoredConnection};
use crate::vault::Vault;
use crate::web::Web;

/// What Meta did not answer is asked again after this long, doubled with every delivery…
const AGAIN: Duration = Duration::from_secs(5);
/// …and at most after this long: Meta counts an account's calls by the hour.
const AGAIN_AT_MOST: Duration = Duration::from_mins(15);

/// What is left of the owed turns is handed over after this long.
const OWED_AGAIN: Duration = Duration::from_secs(5);

/// Why a probe did not end.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// The connection could not be looked up.
    #[error("the connection of a probe could not be looked up")]
    Directory {
        /// The cause.
        #[from]
        source: DirectoryError,
    },
    /// The connection or its numbers could not be changed.
    #[error("how a connection stands could not be kept")]
    Connection {
        /// The cause.
        #[from]
        source: ConnectionError,
    },
    /// The templates could not be kept.
    #[error("what was read of templates could not be kept")]
    Catalogue {
        /// The cause.
        #[from]
        source: CatalogueError,
    },
    /// The Logs could not be written.
    #[error("the Logs of a connection could not be written")]
    Logs {
        /// The cause.
        #[from]
        source: StoreError,
    },
    /// The customers' data of a connection could not be erased.
    #[error("the customers' data of a connection could not be erased")]
    EraseAll {
        /// The cause.
        #[source]
        source: SendError,
    },
    /// An agent's endpoint could not be asked, or what came of it be kept.
    #[error("how an agent's endpoint stands could not be kept")]
    Endpoint {
        /// The cause.
        #[source]
        source: ConnectionError,
    },
    /// A customer's data could not be erased.
    #[error("a customer's data could not be erased")]
    Erasure {
        /// The cause.
        #[source]
        source: ErasureError,
    },
    /// A connection's files could not be deleted.
    #[error("the files of a connection could not be deleted")]
    Files {
        /// The cause.
        #[from]
        source: BlobError,
    },
}

impl HealthError {
    fn cause(&self) -> &dyn Retryable {
        match self {
            Self::Directory { source } => source,
            Self::Connection { source } | Self::Endpoint { source } => source,
            Self::Catalogue { source } => source,
            Self::EraseAll { source } => source,
            Self::Logs { source } => source,
            Self::Erasure { source } => source,
            Self::Files { source } => source,
        }
    }
}

impl Retryable for HealthError {
    fn is_retryable(&self) -> bool {
        self.cause().is_retryable()
    }

    fn code(&self) -> &'static str {
        self.cause().code()
    }
}

/// The handles of the checks.
pub struct Health<'a> {
    /// Templates, numbers, connections and their Logs.
    pub store: &'a Store,
    /// The feed, and the probes.
    pub queues: &'a Queues,
    /// Customers' files.
    pub blobs: &'a Blobs,
    /// Connections with their tokens.
    pub directory: &'a Directory,
    /// What opens the secrets of a connection that starts.
    pub vault: &'a Vault,
    /// Meta.
    pub graph: &'a Graph,
    /// Where agents listen.
    pub web: &'a Web,
    /// What a check is told of this installation.
    pub settings: &'a CheckSettings,
    /// What is counted.
    pub counts: &'a Counts,
    /// Of the probes of a batch, those of one connection are looked at one by one: what the first reads is known to the next.
    pub turns: &'a Turns,
}

/// Whose turn it is, by connection.
#[derive(Debug, Default)]
pub struct Turns(Mutex<HashMap<ConnectionId, Arc<futures::lock::Mutex<()>>>>);

impl Turns {
    fn of(&self, connection: &ConnectionId) -> Arc<futures::lock::Mutex<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(connection.clone()).or_default().clone()
    }
}

/// What a probe is a reason for.
enum Subject {
    Templates(Why),
    Numbers,
    /// The connection is to run.
    Start,
    /// The connection runs: may it still?
    Check,
    /// What could not be handed over.
    Owed,
    /// What is left of a connection that was deleted.
    Deleted,
    /// The account, or what it may do, has changed: a reason to check the connection, and a line for a person.
    Account,
    /// A line for a person.
    Person,
}

impl Subject {
    fn of(probe: &Probe) -> Self {
        match probe.field.as_str() {
            connections::START => Self::Start,
            connections::CHECK => Self::Check,
            connections::OWED => Self::Owed,
            connections::DELETED => Self::Deleted,
            catalogue::ASKED_FOR => Self::Templates(Why::Person),
            "message_template_status_update" => {
                let named = templates::named(&probe.value);
                Self::Templates(named.map_or(Why::Outdated, |(name, language)| Why::Status(name, language)))
            }
            catalogue::FIELD
            | "message_template_quality_update"
            | "message_template_components_update"
            | "template_category_update"
            | "template_correct_category_detection" => Self::Templates(Why::Outdated),
            "phone_number_quality_update" => Self::Numbers,
            "account_update"
            | "account_alerts"
            | "account_review_update"
            | "account_settings_update"
            | "business_capability_update"
            | "phone_number_name_update" => Self::Account,
            _ => Self::Person,
        }
    }
}

impl Health<'_> {
    /// Looks at a connection for this reason.
    ///
    /// # Errors
    /// [`HealthError`]: the next delivery goes on.
    pub async fn look(&self, probe: &Probe, delivery: &Delivery, now: Timestamp) -> Result<Progress, HealthError> {
        if probe.field == erasure::FIELD {
            let Ok(conversation) = ConversationId::parse(probe.value.as_str()) else { return Ok(Progress::Done) };
            let erased = erasure::go_on(self.store, self.blobs, &probe.connection, &conversation, now).await;
            return erased.map_err(|source| HealthError::Erasure { source });
        }
        if probe.field == erasure::FIELD_OF_ALL {
            let erased = erasure::go_on_all(self.store, self.queues, &probe.tenant, &probe.connection, now).await;
            return erased.map_err(|source| HealthError::EraseAll { source });
        }
        if probe.field == endpoints::FIELD {
            return self.ask_endpoint(probe, delivery, now).await;
        }
        let subject = Subject::of(probe);
        if matches!(subject, Subject::Start | Subject::Check | Subject::Owed | Subject::Deleted) {
            return self.check(&subject, probe, delivery, now).await;
        }
        let known = self.directory.connection(&probe.connection, now).await?.filter(|it| it.connection.tenant == probe.tenant);
        let Some(known) = known else { return Ok(Progress::Done) };
        if let Subject::Person | Subject::Account = subject {
            self.store.log(&probe.connection, probe.heard_at, &line(probe)).await?;
            return match subject {
                Subject::Account => self.check(&subject, probe, delivery, now).await,
                _ => Ok(Progress::Done),
            };
        }
        let turn = self.turns.of(&probe.connection);
        let _turn = turn.lock().await;
        // What does not run is not read: the start reads it.
        let Some(known) = self.running(known, now).await? else { return Ok(Progress::Done) };
        let Err(unread) = self.read(&known, &subject, probe, now).await? else { return Ok(Progress::Done) };
        if !is_refusal(&unread) {
            return self.unread(&known, &unread, delivery, now).await;
        }
        // Credentials that were replaced since they were read are read again and tried once.
        let fresh = self.directory.connection_afresh(&probe.connection, now).await?.filter(|it| it.has_other_credentials(&known));
        let Some(fresh) = fresh else { return self.unread(&known, &unread, delivery, now).await };
        match self.read(&fresh, &subject, probe, now).await? {
            Ok(()) => Ok(Progress::Done),
            Err(unread) => self.unread(&fresh, &unread, delivery, now).await,
        }
    }

    /// Asks an agent's endpoint that is down whether it answers again, until it does.
    async fn ask_endpoint(&self, probe: &Probe, delivery: &Delivery, now: Timestamp) -> Result<Progress, HealthError> {
        let asked_from = probe.heard_at.plus(endpoints::RESTS_FOR);
        if now < asked_from {
            return Ok(Progress::Wait(asked_from.since(now)));
        }
        let (stored, agent) = (self.store.connection(&probe.connection).await?, AgentId::parse(probe.value.as_str()));
        let stored = stored.filter(|it| it.connection.tenant == probe.tenant && it.deleted_at.is_none());
        let (Some(stored), Ok(agent)) = (stored, agent) else { return Ok(Progress::Done) };
        let handles = (self.store, self.queues, self.vault, self.web);
        let is_settled =
            endpoints::ask(handles, &stored.connection, &agent, now).await.map_err(|source| HealthError::Endpoint { source })?;
        Ok(if is_settled { Progress::Done } else { Progress::Wait(endpoint_pause(delivery.receive_count)) })
    }

    /// Looks at the connection itself, as it is now.
    async fn check(&self, subject: &Subject, probe: &Probe, delivery: &Delivery, now: Timestamp) -> Result<Progress, HealthError> {
        let turn = self.turns.of(&probe.connection);
        let _turn = turn.lock().await;
        let stored = self.store.connection(&probe.connection).await?;
        let Some(stored) = stored.filter(|it| it.connection.tenant == probe.tenant) else { return Ok(Progress::Done) };
        let Self { store, queues, blobs, vault, graph, settings, .. } = *self;
        if let Some(deleted_at) = stored.deleted_at {
            // Whoever knew it may still write for a while; what comes later finds it deleted. Told again, it begins anew, and ends the same.
            let rests_until = deleted_at.plus(RESTS_FOR);
            if now < rests_until {
                return Ok(Progress::Wait(rests_until.since(now)));
            }
            let Connection { tenant, id, .. } = &stored.connection;
            // One that never held a number has no conversations, and to find some those of all tenants are looked through.
            if stored.connection.lifecycle.running_since.is_some() || store.has_claimed(id).await? {
                erasure::begin_all(store, queues, tenant, id, now).await.map_err(|source| HealthError::EraseAll { source })?;
            }
            if !retention::clear(blobs, id).await? {
                return Ok(Progress::Wait(Duration::ZERO));
            }
            let is_away = connections::clear_away(store, vault, graph, &stored, delivery.receive_count, now).await?;
            return Ok(if is_away { Progress::Done } else { Progress::Wait(pause(delivery.receive_count)) });
        }
        let checks = Checks { store, queues, vault, graph, settings };
        let outcome = match (subject, stored.connection.lifecycle.state) {
            (Subject::Start, State::Starting) => checks.start(&stored, now).await?,
            // It was started, and whoever did it may have crashed before telling.
            (Subject::Start, State::Running) => {
                connections::tell_running(store, queues, &stored.connection, now).await?;
                Outcome::Runs
            }
            // So of one that it put into ERROR.
            (Subject::Start | Subject::Check, State::Error) => {
                connections::tell_error(store, queues, &stored, now).await?;
                Outcome::Ended
            }
            // Several reasons are one reading.
            (Subject::Account, State::Running) if self.was_checked_since(probe).await? => Outcome::Ended,
            (Subject::Check | Subject::Account, State::Running) => checks.look_again(&stored, probe.heard_at, now).await?,
            (Subject::Owed, State::Running) => return self.hand_over(&stored, now).await,
            _ => Outcome::Ended,
        };
        match outcome {
            Outcome::Ended => Ok(Progress::Done),
            Outcome::Runs => {
                connections::probe(queues, &stored.connection, connections::OWED, now).await.map_err(ConnectionError::from)?;
                Ok(Progress::Done)
            }
            Outcome::Later => {
                self.counts.one("health.unread");
                Ok(Progress::Wait(pause(delivery.receive_count)))
            }
            Outcome::Rests(until) => Ok(Progress::Wait(until.since(now).max(AGAIN))),
        }
    }

    async fn was_checked_since(&self, probe: &Probe) -> Result<bool, StoreError> {
        Ok(self.store.checked(&probe.connection).await?.is_some_and(|it| it.checked_at >= probe.heard_at))
    }

    /// Hands over a slice of what is owed.
    async fn hand_over(&self, stored: &StoredConnection, now: Timestamp) -> Result<Progress, HealthError> {
        let Connection { tenant, id, .. } = &stored.connection;
        let walked = owed::walk(self.store, self.queues, tenant, id, now).await?;
        let is_done = walked.left == 0 && walked.failed == 0;
        Ok(if is_done { Progress::Done } else { Progress::Wait(OWED_AGAIN) })
    }

    /// The connection, if it runs: a no is looked at afresh.
    async fn running(&self, known: Arc<KnownConnection>, now: Timestamp) -> Result<Option<Arc<KnownConnection>>, DirectoryError> {
        let runs = |it: &Arc<KnownConnection>| it.connection.lifecycle.state == State::Running;
        if runs(&known) {
            return Ok(Some(known));
        }
        Ok(self.directory.connection_afresh(&known.connection.id, now).await?.filter(runs))
    }

    async fn read(
        &self,
        known: &KnownConnection,
        subject: &Subject,
        probe: &Probe,
        now: Timestamp,
    ) -> Result<Result<(), Unread>, HealthError> {
        match subject {
            Subject::Templates(why) => {
                match catalogue::refresh(self.store, self.queues, self.graph, known, (why, probe.heard_at), now).await? {
                    Refreshed::Known => self.counts.one("health.templates_known"),
                    Refreshed::Listed => self.counts.one("health.templates_listed"),
                    Refreshed::Unread(unread) => return Ok(Err(unread)),
                }
                Ok(Ok(()))
            }
            Subject::Numbers => Ok(numbers::read(self.store, self.queues, self.graph, known, probe.heard_at, now).await?),
            Subject::Start | Subject::Check | Subject::Owed | Subject::Deleted | Subject::Account | Subject::Person => Ok(Ok(())),
        }
    }

    /// Meta did not let us read: later if that may help, else a person is told.
    async fn unread(&self, known: &KnownConnection, unread: &Unread, delivery: &Delivery, now: Timestamp) -> Result<Progress, HealthError> {
        let (connection, Unread { class, fault, http }) = (&known.connection, unread);
        tracing::info!(connection.id = %connection.id, meta.code = fault.code, http, "Meta did not let us read, with {}", fault.code);
        self.counts.one("health.unread");
        let why = format!("{} (code {}).", endings::note(fault), fault.code);
        if is_refusal(unread) {
            let why = format!("Meta refused to be read: {why} {}", connections::what_to_do(*class));
            connections::fail(self.store, self.queues, &connection.id, connection.token_generation, &why, now).await?;
            return Ok(Progress::Done);
        }
        if is_passing(unread) {
            return Ok(Progress::Wait(pause(delivery.receive_count)));
        }
        self.store.log(&connection.id, now, &format!("Meta does not say how templates and numbers stand: {why}")).await?;
        Ok(Progress::Done)
    }
}

/// Does Meta refuse the token or the account?
pub(crate) fn is_refusal(unread: &Unread) -> bool {
    matches!(unread.class, Class::Credentials | Class::Account)
}

/// May the same be read later?
pub(crate) fn is_passing(unread: &Unread) -> bool {
    match unread.class {
        Class::NotSent | Class::Pair | Class::Unknown | Class::Later => true,
        Class::Window
        | Class::Permanent
        | Class::MarketingLimit
        | Class::OptedOut
        | Class::TemplateMissing
        | Class::TemplatePaused
        | Class::TemplateDisabled
        | Class::Number
        | Class::Credentials
        | Class::Account
        | Class::Fix => unread.is_of_cursor(),
    }
}

/// An endpoint that is down is asked again after half a minute, doubled with every time, and at most after a quarter of an hour.
fn endpoint_pause(receive_count: u32) -> Duration {
    Duration::from_secs(30).saturating_mul(1 << receive_count.saturating_sub(1).min(10)).min(AGAIN_AT_MOST)
}

fn pause(receive_count: u32) -> Duration {
    AGAIN.saturating_mul(1 << receive_count.saturating_sub(1).min(10)).min(AGAIN_AT_MOST)
}

/// What a person reads in the Logs: the field and its event, nothing of what Meta sent beside.
fn line(probe: &Probe) -> String {
    let event = webhook::event_word(&probe.value).map(|it| format!(" {it}")).unwrap_or_default();
    format!("To be looked at: {}{event}.", probe.field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_quarter_of_an_hour() {
        let pauses = [1, 2, 3, 8, 9, 1_000].map(|it| pause(it).as_secs());
        assert_eq!(pauses, [5, 10, 20, 640, 900, 900]);
        assert_eq!([1, 2, 5, 6, 1_000].map(|it| endpoint_pause(it).as_secs()), [30, 60, 480, 900, 900]);
    }
}
