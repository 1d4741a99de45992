//! The lifecycle of a connection: what starts it, stops it, and what puts it into ERROR.

use domain::connection::{Connection, Lifecycle, State};
use domain::ids::{AgentId, AppId, ConnectionId, NumberId, TenantId, WabaId};
use domain::status::Fault;
use domain::time::Timestamp;
use meta::fault::Class;

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
        secret: Some(vault.seal(&new.app_secret, &of_app("secret"))?),
        previous_secret: None,
        verify_token: vault.seal(&new.verify_token, &of_app("verify_token"))?,
    };
    let connection = StoredConnection {
        connection: Connection {
            id: new.id.clone(),
            tenant: new.tenant.clone(),
            name: new.name.clone(),
            app: new.app.clone(),
            waba: new.waba.clone(),
            numbers: new.numbers.clone(),
            lifecycle: Lifecycle::running(now),
            token_generation: 1,
            marketing_messages: false,
            utility_exempt: false,
            message_days: None,
            file_days: None,
        },
        access_token: vault.seal(&new.access_token, &AdditionalData::of_connection(new.id.as_str(), "access_token"))?,
    };
    let number = |id: &NumberId| NumberItem::claimed(id.clone(), new.id.clone(), new.agent.clone(), now);
    let numbers: Vec<NumberItem> = new.numbers.iter().map(number).collect();
    let attachment = |agent: &AgentId| Attachment { connection: new.id.clone(), agent: agent.clone(), inbound: true };
    let attachments: Vec<Attachment> = new.agent.iter().map(attachment).collect();
    let is_new = store.install(&connection, &app, &numbers, &attachments).await?;
    if is_new {
        catalogue::ask(queues, &connection.connection, now).await?;
    }
    Ok(is_new)
}

/// Puts another access token in the place of the one before: its generation grows, so that nobody goes on with the old one for long.
///
/// # Errors
/// [`ConnectionError`].
pub async fn replace_token(store: &Store, vault: &Vault, id: &ConnectionId, token: &Secret) -> Result<bool, ConnectionError> {
    let sealed = vault.seal(token, &AdditionalData::of_connection(id.as_str(), "access_token"))?;
    let changed = store
        .change_connection(id, |it| {
            let mut it = it.clone();
            it.access_token = sealed.clone();
            it.connection.token_generation += 1;
            Some(it)
        })
        .await?;
    Ok(changed.is_some())
}

/// Puts another secret in the place of an app's, which is accepted beside it from now on.
///
/// # Errors
/// [`ConnectionError`].
pub async fn rotate_app_secret(store: &Store, vault: &Vault, app: &AppId, secret: &Secret) -> Result<bool, ConnectionError> {
    let sealed = vault.seal(secret, &AdditionalData::of_app(app.as_str(), "secret"))?;
    let change = |it: App| App { previous_secret: it.secret, secret: Some(sealed.clone()), ..it };
    Ok(store.change_app(app, change).await?.is_some())
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

/// A connection runs from `now` on: Meta has confirmed it and its numbers, so what was held against them is forgotten. Its templates are
/// listed anew: while it did not run, nobody read them.
///
/// # Errors
/// [`ConnectionError`].
pub async fn run(store: &Store, queues: &Queues, id: &ConnectionId, now: Timestamp) -> Result<(), ConnectionError> {
    let changed = store.change_connection(id, |it| (it.connection.lifecycle.state != State::Running).then(|| it.started(now))).await?;
    let Some(it) = changed else { return Ok(()) };
    let connection = it.connection.connection;
    for number in &connection.numbers {
        store.clear_number(number, &connection.id).await?;
    }
    catalogue::ask(queues, &connection, now).await?;
    tell(store, queues, &connection, "Running.", now).await
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
            concerns.then(|| it.ended(State::Error, now))
        })
        .await?;
    // Told again if it is in ERROR already: whoever put it there may have crashed before telling.
    let Some(it) = changed.filter(|it| it.connection.connection.lifecycle.state == State::Error) else { return Ok(()) };
    let connection = it.connection.connection;
    let probe = Probe {
        v: V1,
        tenant: connection.tenant.clone(),
        connection: connection.id.clone(),
        // The same for the same ERROR, however often it is told.
        heard_at: connection.lifecycle.stopped_at.unwrap_or(now),
        field: "connection_error".to_owned(),
        waba: Some(connection.waba.clone()),
        number: None,
        value: String::new(),
    };
    queues.send(Queue::Probes, vec![Entry { body: body(&probe), group: None, deduplication: None }]).await?;
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
    let at = since.unwrap_or(now);
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
