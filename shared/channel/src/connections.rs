//! The lifecycle of a connection: what starts it, stops it, and what puts it into ERROR.

mod deleting;
mod fields;
mod webhook;

pub(crate) use deleting::clear_away;
pub use deleting::delete;
pub(crate) use fields::{ACCESS_TOKEN, APP_SECRET, create_as, masked, of_connection, wrong_name};
pub use fields::{
    ConnectionDraft, ConnectionEdit, ConnectionPage, ConnectionView, DAYS_LIMIT, Edited, Field, FieldProblem, MaskedSecret, check, create,
    edit, get, list, view,
};
pub(crate) use webhook::callback;
pub use webhook::{WebhookSetUp, webhook};

use std::collections::BTreeMap;

use domain::connection::{Connection, Lifecycle, State};
use domain::ids::{AgentId, AppId, ConnectionId, NumberId, TenantId, WabaId};
use domain::status::Fault;
use domain::time::Timestamp;
use meta::fault::Class;
use meta::graph::Credentials;

use crate::catalogue;
use crate::endings;
use crate::feed::{self, body};
use crate::jobs::{Happened, Probe, V1};
use crate::queues::{Entry, Queue, QueueError, Queues};
use crate::redelivery::Retryable;
use crate::store::{App, AppOwner, Attachment, NumberItem, Store, StoreError, StoredConnection};
use crate::vault::{AdditionalData, Secret, Vault, VaultError};

/// Why a connection could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The store failed.
    #[error("a connection could not be written")]
    Store {
        /// The cause.
        #[from]
        source: StoreError,
    },
    /// The feed did not take the event.
    #[error("a connection's state could not be told")]
    Feed {
        /// The cause.
        #[from]
        source: QueueError,
    },
    /// A secret could not be sealed.
    #[error("a connection's secrets could not be sealed")]
    Vault {
        /// The cause.
        #[from]
        source: VaultError,
    },
}

impl Retryable for ConnectionError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Store { source } => source.is_retryable(),
            Self::Feed { source } => source.is_retryable(),
            Self::Vault { source } => source.is_retryable(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Store { source } => source.code(),
            Self::Feed { source } => source.code(),
            Self::Vault { source } => source.code(),
        }
    }
}

/// What a connection is made of.
#[derive(Debug, Clone)]
pub struct NewConnection {
    /// Its id.
    pub id: ConnectionId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What people call it.
    pub name: String,
    /// The Meta app.
    pub app: AppId,
    /// The secret that signs the app's webhooks.
    pub app_secret: Secret,
    /// What Meta says when it checks the app's callback.
    pub verify_token: Secret,
    /// The WhatsApp Business account.
    pub waba: WabaId,
    /// Its numbers, in order.
    pub numbers: Vec<NumberId>,
    /// What sends.
    pub access_token: Secret,
    /// The agent that has Inbound on its numbers.
    pub agent: Option<AgentId>,
}

/// Writes a connection that runs from `now` on, with its app, its numbers and its agent, and has its templates listed. False if any of it
/// is there already.
///
/// # Errors
/// [`ConnectionError`].
pub async fn install(store: &Store, queues: &Queues, vault: &Vault, new: &NewConnection, now: Timestamp) -> Result<bool, ConnectionError> {
    let of_app = |field| AdditionalData::of_app(new.app.as_str(), field);
    let app = App {
        id: new.app.clone(),
        owner: AppOwner::Tenant(new.tenant.clone()),
        secret: Some(vault.seal(&new.app_secret, &of_app("secret"), now).await?),
        previous_secret: None,
        previous_until: None,
        verify_token: vault.seal(&new.verify_token, &of_app("verify_token"), now).await?,
    };
    let connection = StoredConnection {
        connection: Connection {
            id: new.id.clone(),
            tenant: new.tenant.clone(),
            name: new.name.clone(),
            description: String::new(),
            app: Some(new.app.clone()),
            waba: new.waba.clone(),
            numbers: new.numbers.clone(),
            lifecycle: Lifecycle::running(now),
            token_generation: 1,
            marketing_messages: false,
            utility_exempt: false,
            message_days: None,
            file_days: None,
        },
        access_token: vault.seal(&new.access_token, &of_connection(&new.id, ACCESS_TOKEN), now).await?,
        pending_app_secret: None,
        replaces_callback: false,
        problem: None,
        pins: BTreeMap::new(),
        deleted_at: None,
        version: 1,
    };
    let number = |id: &NumberId| NumberItem::claimed(id.clone(), new.id.clone(), new.agent.clone(), now);
    let numbers: Vec<NumberItem> = new.numbers.iter().map(number).collect();
    let attachment = |agent: &AgentId| Attachment::new(new.id.clone(), agent.clone(), true);
    let attachments: Vec<Attachment> = new.agent.iter().map(attachment).collect();
    let is_new = store.install(&connection, &app, &numbers, &attachments).await?;
    if is_new {
        catalogue::ask(queues, &connection.connection, now).await?;
    }
    Ok(is_new)
}

/// What a person says as they start a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StartOptions {
    /// The app is pointed at us though it points elsewhere today.
    pub replace_callback: bool,
}

/// What came of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// It is STARTING: a check with Meta is on its way.
    Starting,
    /// It runs already.
    Running,
    /// There is no such connection.
    Unknown,
}

/// Starts a connection that is STOPPED or in ERROR: it is STARTING from `now` on, and a check with Meta decides what it is then. Whoever
/// starts it again meanwhile has it checked again.
///
/// # Errors
/// [`ConnectionError`].
pub async fn start(
    store: &Store,
    queues: &Queues,
    id: &ConnectionId,
    options: StartOptions,
    now: Timestamp,
) -> Result<Started, ConnectionError> {
    let changed = store
        .change_connection(id, |it| {
            let replaces_callback = options.replace_callback;
            match it.connection.lifecycle.state {
                _ if it.deleted_at.is_some() => None,
                State::Stopped | State::Error => Some(StoredConnection { replaces_callback, problem: None, ..it.starting(now) }),
                // The check that is asked for below goes by it.
                State::Starting => {
                    (replaces_callback && !it.replaces_callback).then(|| StoredConnection { replaces_callback, ..it.clone() })
                }
                State::Running => None,
            }
        })
        .await?;
    let Some(stored) = changed.map(|it| it.connection).filter(|it| it.deleted_at.is_none()) else { return Ok(Started::Unknown) };
    let connection = &stored.connection;
    if connection.lifecycle.state == State::Running {
        return Ok(Started::Running);
    }
    tell(store, queues, connection, "It is being checked with Meta.", now).await?;
    probe(queues, connection, START, connection.lifecycle.since.unwrap_or(now)).await?;
    Ok(Started::Starting)
}

/// The field of the probe that has a connection that is STARTING checked, or tells once more that it runs.
pub(crate) const START: &str = "connection_start";
/// The field of the probe that has a connection that runs checked again.
pub(crate) const CHECK: &str = "connection_check";
/// The field of the probe that hands over what is owed.
pub(crate) const OWED: &str = "owed_turns";
/// The field of the probe that clears away what is left of a deleted connection.
pub(crate) const DELETED: &str = "connection_deleted";

/// Has `health` look at a connection, for a reason of ours that arose at `heard_at`.
pub(crate) async fn probe(queues: &Queues, connection: &Connection, field: &str, heard_at: Timestamp) -> Result<(), QueueError> {
    probe_of(queues, connection, field, String::new(), heard_at).await
}

/// The same, of one thing of the connection.
pub(crate) async fn probe_of(
    queues: &Queues,
    connection: &Connection,
    field: &str,
    value: String,
    heard_at: Timestamp,
) -> Result<(), QueueError> {
    let probe = Probe {
        v: V1,
        tenant: connection.tenant.clone(),
        connection: connection.id.clone(),
        heard_at,
        field: field.to_owned(),
        waba: Some(connection.waba.clone()),
        number: None,
        value,
    };
    queues.send(Queue::Probes, vec![Entry { body: body(&probe), group: None, deduplication: None }]).await
}

/// What a connection shows to Meta: its access token, and the proof of its app's secret where there is one.
pub(crate) async fn credentials(store: &Store, vault: &Vault, stored: &StoredConnection) -> Result<Credentials, ConnectionError> {
    let connection = &stored.connection;
    let access_token = vault.open(&stored.access_token, &of_connection(&connection.id, ACCESS_TOKEN)).await?;
    let app = match &connection.app {
        Some(id) => store.app(id).await?.filter(|it| it.may_be_used_by(&connection.tenant)),
        None => None,
    };
    let app_secret = match app {
        Some(App { id, secret: Some(sealed), .. }) => Some(vault.open(&sealed, &AdditionalData::of_app(id.as_str(), "secret")).await?),
        _ => None,
    };
    Ok(Credentials::new(access_token.expose(), app_secret.map(|it| it.expose().to_owned())))
}

/// Stops a connection: it sends nothing from `now` on.
///
/// # Errors
/// [`ConnectionError`].
pub async fn stop(store: &Store, queues: &Queues, id: &ConnectionId, now: Timestamp) -> Result<(), ConnectionError> {
    let changed =
        store.change_connection(id, |it| (it.connection.lifecycle.state != State::Stopped).then(|| it.ended(State::Stopped, now))).await?;
    match changed {
        Some(it) => tell(store, queues, &it.connection.connection, "Stopped.", now).await,
        None => Ok(()),
    }
}

/// A connection that is STARTING since `began` runs from `now` on: Meta has confirmed it. False if it was stopped, or started anew, meanwhile.
///
/// # Errors
/// [`ConnectionError`].
pub async fn run(store: &Store, queues: &Queues, id: &ConnectionId, began: Timestamp, now: Timestamp) -> Result<bool, ConnectionError> {
    let changed = store.change_connection(id, |it| it.is_starting_since(began).then(|| it.started(now))).await?;
    let Some(it) = changed.filter(|it| it.changed) else { return Ok(false) };
    tell_running(store, queues, &it.connection.connection, now).await?;
    Ok(true)
}

/// Says that a connection runs, and has its templates listed anew: while it did not run, nobody read them. Saying it twice does no harm.
pub(crate) async fn tell_running(store: &Store, queues: &Queues, connection: &Connection, now: Timestamp) -> Result<(), ConnectionError> {
    catalogue::ask(queues, connection, now).await?;
    tell(store, queues, connection, "Running.", now).await
}

/// Meta refused what a connection that is STARTING since `began` was given: it is in ERROR, unless it was stopped, or started anew.
///
/// # Errors
/// [`ConnectionError`].
pub(crate) async fn refuse_start(
    store: &Store,
    queues: &Queues,
    id: &ConnectionId,
    began: Timestamp,
    why: &str,
    now: Timestamp,
) -> Result<(), ConnectionError> {
    let changed = store.change_connection(id, |it| it.is_starting_since(began).then(|| it.failed(why, now))).await?;
    match changed.filter(|it| it.changed) {
        Some(it) => tell_error(store, queues, &it.connection, now).await,
        None => Ok(()),
    }
}

/// Says why a connection is in ERROR. Saying it twice does no harm: whoever put it there may have crashed before saying it.
pub(crate) async fn tell_error(store: &Store, queues: &Queues, stored: &StoredConnection, now: Timestamp) -> Result<(), ConnectionError> {
    tell(store, queues, &stored.connection, stored.problem.as_deref().unwrap_or("Meta refused it."), now).await
}

/// Meta refused a connection's credentials or account: it goes to ERROR, if it ran, and with the token that was refused.
///
/// # Errors
/// [`ConnectionError`].
pub async fn fail(
    store: &Store,
    queues: &Queues,
    id: &ConnectionId,
    token_generation: u64,
    why: &str,
    now: Timestamp,
) -> Result<(), ConnectionError> {
    let changed = store
        .change_connection(id, |it| {
            let concerns = it.connection.lifecycle.state == State::Running && it.connection.token_generation == token_generation;
            concerns.then(|| it.failed(why, now))
        })
        .await?;
    // Told again if it is in ERROR already: whoever put it there may have crashed before telling.
    let Some(it) = changed.filter(|it| it.connection.connection.lifecycle.state == State::Error) else { return Ok(()) };
    let connection = it.connection.connection;
    // The same for the same ERROR, however often it is told.
    let heard_at = connection.lifecycle.since.or(connection.lifecycle.stopped_at).unwrap_or(now);
    probe(queues, &connection, "connection_error", heard_at).await?;
    tell(store, queues, &connection, why, now).await
}

/// A number cannot send, as of `at`: it is marked, the Logs and the feed say so. Its neighbours go on; if none is left, the connection is in ERROR.
///
/// # Errors
/// [`ConnectionError`].
pub async fn mark_number(
    store: &Store,
    queues: &Queues,
    connection: &Connection,
    number: &NumberId,
    fault: &Fault,
    at: Timestamp,
    now: Timestamp,
) -> Result<(), ConnectionError> {
    store.mark_number(number, &connection.id, fault.code).await?;
    let note = format!("Number {number} cannot send: {} (code {}). Look at it in WhatsApp Manager.", endings::note(fault), fault.code);
    // Many sends of one minute meet the same fault: it is told once.
    let at = Timestamp::from_millis(at.as_millis() - at.as_millis().rem_euclid(60_000));
    store.log(&connection.id, at, &note).await?;
    let (time, code) = (at.sortable(), fault.code.to_string());
    let parts = ["number", number.as_str(), code.as_str(), time.as_str()];
    let what = Happened::NumberFault { number: number.clone(), code: fault.code, note };
    feed::tell(queues, &connection.tenant, &connection.id, at, &parts, what).await?;
    fail_without_numbers(store, queues, connection, now).await
}

/// A connection of which no number can send is in ERROR.
///
/// # Errors
/// [`ConnectionError`].
pub(crate) async fn fail_without_numbers(
    store: &Store,
    queues: &Queues,
    connection: &Connection,
    now: Timestamp,
) -> Result<(), ConnectionError> {
    for it in &connection.numbers {
        let usable = store.number(it, true).await?.is_some_and(|it| it.connection == connection.id && it.can_send());
        if usable {
            return Ok(());
        }
    }
    fail(store, queues, &connection.id, connection.token_generation, "No number can send. Look at them in WhatsApp Manager.", now).await
}

/// What a person does about a fault that stops a connection.
pub(crate) fn what_to_do(class: Class) -> &'static str {
    match class {
        Class::Account => "Look into the account in Meta's Business Manager, then start the connection again.",
        _ => "Replace the access token, then stop and start the connection.",
    }
}

/// A line in the Logs and an event on the feed: the same for the same change, however often it is told.
async fn tell(store: &Store, queues: &Queues, connection: &Connection, why: &str, now: Timestamp) -> Result<(), ConnectionError> {
    let lifecycle = connection.lifecycle;
    let since = match lifecycle.state {
        State::Running | State::Starting => lifecycle.running_since,
        State::Stopped | State::Error => lifecycle.stopped_at,
    };
    let at = lifecycle.since.or(since).unwrap_or(now);
    let name = match lifecycle.state {
        State::Stopped => "STOPPED",
        State::Starting => "STARTING",
        State::Running => "RUNNING",
        State::Error => "ERROR",
    };
    store.log(&connection.id, at, &format!("{name}: {why}")).await?;
    let what = Happened::ConnectionState { state: lifecycle.state, note: why.to_owned() };
    let time = at.sortable();
    Ok(feed::tell(queues, &connection.tenant, &connection.id, at, &["connection", name, time.as_str()], what).await?)
}
