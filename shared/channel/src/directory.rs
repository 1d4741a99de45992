//! Who holds which app, number and connection, with a memory of seconds: most webhooks and jobs need no read of the config.
//!
//! What is read is remembered for [`REMEMBERED`]; what decides against somebody (a signature that fails, a number that nobody holds,
//! a connection that does not run) is looked at once more, afresh, at most once a second per thing, so that a stranger cannot make us read.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::connection::Connection;
use domain::ids::{AgentId, AppId, ConnectionId, NumberId, WabaId};
use domain::time::Timestamp;
use meta::signature::AppSecrets;

use crate::redelivery::Retryable;
use crate::store::{Attachment, NumberItem, Store, StoreError};
use crate::vault::{AdditionalData, Sealed, Secret, Vault, VaultError};

/// Apps and owners are remembered for this long by the webhook.
pub const REMEMBERED: Duration = Duration::from_mins(1);
/// Connections are remembered for this long by whoever sends.
pub const REMEMBERED_TO_SEND: Duration = Duration::from_secs(5);
/// What was not found is not looked for again for this long.
const REFUSED_FOR: Duration = Duration::from_secs(1);
/// More is not remembered: what is out of date goes first.
const MOST: usize = 10_000;

/// Why the directory could not tell.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The store failed.
    #[error("the directory could not be read")]
    Store {
        /// The cause.
        #[from]
        source: StoreError,
    },
    /// A secret could not be opened.
    #[error("a secret of {what} could not be opened")]
    Vault {
        /// Whose secret.
        what: &'static str,
        /// The cause.
        source: VaultError,
    },
}

impl Retryable for DirectoryError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Store { source } => source.is_retryable(),
            // Another key generation may be on its way to this container.
            Self::Vault { .. } => true,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Store { source } => source.code(),
            Self::Vault { .. } => "vault",
        }
    }
}

/// An app, with its secrets ready for use.
#[derive(Debug)]
pub struct KnownApp {
    /// Checks signatures; without a secret nothing can be checked.
    pub secrets: Option<AppSecrets>,
    /// What Meta must say when it checks the callback.
    pub verify_token: Secret,
}

/// A connection, with its token ready for use.
#[derive(Debug)]
pub struct KnownConnection {
    /// The connection.
    pub connection: Connection,
    /// The access token.
    pub access_token: Secret,
    /// The secret of its app, for the proof beside the token.
    pub app_secret: Option<Secret>,
}

impl KnownConnection {
    /// Was its token or its app's secret replaced since `before` was read?
    #[must_use]
    pub fn has_other_credentials(&self, before: &Self) -> bool {
        let (now, then) = (self.app_secret.as_ref().map(Secret::expose), before.app_secret.as_ref().map(Secret::expose));
        self.connection.token_generation > before.connection.token_generation || now != then
    }
}

/// Whose a number is.
#[derive(Debug, Clone)]
pub struct Owner {
    /// The number.
    pub number: NumberItem,
    /// Its connection.
    pub connection: Connection,
}

#[derive(Debug)]
pub(crate) struct Memory<K, V>(Mutex<HashMap<K, (Timestamp, Option<V>)>>);

impl<K: Hash + Eq + Clone, V: Clone> Memory<K, V> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    /// What was found at most `age` ago; `Some(None)` if it was not found, less than a second ago.
    pub(crate) fn recall(&self, key: &K, age: Duration, now: Timestamp) -> Option<Option<V>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, value) = known.get(key)?;
        let holds = if value.is_some() { age } else { REFUSED_FOR };
        (now.since(*at) < holds && now >= *at).then(|| value.clone())
    }

    pub(crate) fn remember(&self, key: &K, value: Option<V>, now: Timestamp) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            // A stranger's made-up ids make room first: what was not found holds for a second only.
            known.retain(|_, (at, value)| now.since(*at) < if value.is_some() { REMEMBERED } else { REFUSED_FOR });
        }
        if known.len() < MOST {
            known.insert(key.clone(), (now, value));
        }
    }

    pub(crate) fn forget(&self, key: &K) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// What is known of whose numbers are: no secrets.
#[derive(Debug)]
pub struct Owners {
    store: Store,
    owners: Memory<NumberId, Owner>,
    accounts: Memory<WabaId, Vec<Connection>>,
    attachments: Memory<(ConnectionId, AgentId), Attachment>,
}

impl Owners {
    /// Over this store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, owners: Memory::new(), accounts: Memory::new(), attachments: Memory::new() }
    }

    /// Whose a number is, as it was within `age`; what nobody holds is looked up afresh, at most once a second per number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn of(&self, number: &NumberId, age: Duration, now: Timestamp) -> Result<Option<Owner>, StoreError> {
        if let Some(it) = self.owners.recall(number, age, now) {
            return Ok(it);
        }
        let owner = match self.store.number(number, true).await? {
            None => None,
            Some(item) => {
                let connection = self.store.connection(&item.connection).await?;
                connection.map(|it| Owner { number: item, connection: it.connection })
            }
        };
        self.owners.remember(number, owner.clone(), now);
        Ok(owner)
    }

    /// The connections that use an account, as they were within a minute; what nobody uses is looked up afresh, at most once a second.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn of_account(&self, account: &WabaId, now: Timestamp) -> Result<Vec<Connection>, StoreError> {
        if let Some(it) = self.accounts.recall(account, REMEMBERED, now) {
            return Ok(it.unwrap_or_default());
        }
        let mut connections = Vec::new();
        for id in self.store.connections_of_waba(account).await? {
            connections.extend(self.store.connection(&id).await?.map(|it| it.connection).filter(|it| it.waba == *account));
        }
        self.accounts.remember(account, Some(connections.clone()).filter(|it| !it.is_empty()), now);
        Ok(connections)
    }

    /// Whose a number is, as it is now, if it was not looked at in the last second: then `None`, since the answer would be the same.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn once_more(&self, number: &NumberId, now: Timestamp) -> Result<Option<Owner>, StoreError> {
        if self.owners.recall(number, REFUSED_FOR, now).is_some() {
            return Ok(None);
        }
        self.afresh(number, now).await
    }

    /// The connections that use an account, as they are now, if they were not looked at in the last second: then none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn of_account_once_more(&self, account: &WabaId, now: Timestamp) -> Result<Vec<Connection>, StoreError> {
        if self.accounts.recall(account, REFUSED_FOR, now).is_some() {
            return Ok(Vec::new());
        }
        self.accounts.forget(account);
        self.of_account(account, now).await
    }

    /// How an agent is attached to a connection, as it was some seconds ago.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn attachment(&self, connection: &ConnectionId, agent: &AgentId, now: Timestamp) -> Result<Option<Attachment>, StoreError> {
        let key = (connection.clone(), agent.clone());
        if let Some(it) = self.attachments.recall(&key, REMEMBERED_TO_SEND, now) {
            return Ok(it);
        }
        let attachment = self.store.attachment(connection, agent).await?;
        self.attachments.remember(&key, attachment.clone(), now);
        Ok(attachment)
    }

    /// Whose a number is, as it is now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn afresh(&self, number: &NumberId, now: Timestamp) -> Result<Option<Owner>, StoreError> {
        self.owners.forget(number);
        self.of(number, REMEMBERED, now).await
    }
}

/// What is known of apps and connections, with their secrets opened.
#[derive(Debug)]
pub struct Directory {
    store: Store,
    vault: Vault,
    apps: Memory<AppId, Arc<KnownApp>>,
    connections: Memory<ConnectionId, Arc<KnownConnection>>,
    attachments: Memory<(ConnectionId, AgentId), bool>,
    numbers: Memory<ConnectionId, Arc<Vec<NumberItem>>>,
}

impl Directory {
    /// Over this store and vault.
    #[must_use]
    pub fn new(store: Store, vault: Vault) -> Self {
        Self { store, vault, apps: Memory::new(), connections: Memory::new(), attachments: Memory::new(), numbers: Memory::new() }
    }

    /// An app as it was within the last minute.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn app(&self, id: &AppId, now: Timestamp) -> Result<Option<Arc<KnownApp>>, DirectoryError> {
        match self.apps.recall(id, REMEMBERED, now) {
            Some(it) => Ok(it),
            None => self.read_app(id, now).await,
        }
    }

    /// An app as it is, if it was not looked at in the last second: then `None`, since the answer would be the same.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn app_afresh(&self, id: &AppId, now: Timestamp) -> Result<Option<Arc<KnownApp>>, DirectoryError> {
        if self.apps.recall(id, REFUSED_FOR, now).is_some() {
            return Ok(None);
        }
        self.read_app(id, now).await
    }

    async fn read_app(&self, id: &AppId, now: Timestamp) -> Result<Option<Arc<KnownApp>>, DirectoryError> {
        let app = self.store.app(id).await?;
        let known = match app {
            None => None,
            Some(it) => {
                let of_app = |field| AdditionalData::of_app(id.as_str(), field);
                let unopened = |source| DirectoryError::Vault { what: "app", source };
                let current = self.vault.open_any(it.secret.as_ref(), &of_app("secret")).await.map_err(unopened)?;
                let previous = self.vault.open_any(it.previous_at(now), &of_app("secret")).await.map_err(unopened)?;
                let verify_token = self.open(&it.verify_token, &of_app("verify_token"), "app").await?;
                let secrets = current.map(|it| AppSecrets::new(it.expose().as_bytes(), previous.as_ref().map(|it| it.expose().as_bytes())));
                Some(Arc::new(KnownApp { secrets, verify_token }))
            }
        };
        self.apps.remember(id, known.clone(), now);
        Ok(known)
    }

    async fn open(&self, sealed: &Sealed, field: &AdditionalData, what: &'static str) -> Result<Secret, DirectoryError> {
        self.vault.open(sealed, field).await.map_err(|source| DirectoryError::Vault { what, source })
    }

    /// A connection as it was some seconds ago, with its token.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn connection(&self, id: &ConnectionId, now: Timestamp) -> Result<Option<Arc<KnownConnection>>, DirectoryError> {
        match self.connections.recall(id, REMEMBERED_TO_SEND, now) {
            Some(it) => Ok(it),
            None => self.connection_afresh(id, now).await,
        }
    }

    /// A connection as it is now, with its token.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn connection_afresh(&self, id: &ConnectionId, now: Timestamp) -> Result<Option<Arc<KnownConnection>>, DirectoryError> {
        let known = match self.store.connection(id).await? {
            None => None,
            Some(it) => {
                let access_token =
                    self.open(&it.access_token, &AdditionalData::of_connection(id.as_str(), "access_token"), "connection").await?;
                let app = match &it.connection.app {
                    Some(id) => self.store.app(id).await?.filter(|app| app.may_be_used_by(&it.connection.tenant)),
                    None => None,
                };
                let app_secret = match app.and_then(|it| Some((it.secret?, it.id))) {
                    Some((sealed, id)) => Some(self.open(&sealed, &AdditionalData::of_app(id.as_str(), "secret"), "app").await?),
                    None => None,
                };
                Some(Arc::new(KnownConnection { connection: it.connection, access_token, app_secret }))
            }
        };
        self.connections.remember(id, known.clone(), now);
        Ok(known)
    }

    /// A connection's numbers, in its order, as they were some seconds ago.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn numbers(&self, connection: &Connection, now: Timestamp) -> Result<Arc<Vec<NumberItem>>, StoreError> {
        if let Some(Some(it)) = self.numbers.recall(&connection.id, REMEMBERED_TO_SEND, now) {
            return Ok(it);
        }
        let mut numbers = Vec::with_capacity(connection.numbers.len());
        for id in &connection.numbers {
            numbers.extend(self.store.number(id, true).await?.filter(|it| it.connection == connection.id));
        }
        let numbers = Arc::new(numbers);
        self.numbers.remember(&connection.id, Some(numbers.clone()), now);
        Ok(numbers)
    }

    /// One of a connection's numbers has changed: they are read again when they are needed.
    pub fn forget_numbers(&self, connection: &ConnectionId) {
        self.numbers.forget(connection);
    }

    /// May this agent send through this connection? A no is looked at afresh, at most once a second.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn is_attached(&self, connection: &ConnectionId, agent: &AgentId, now: Timestamp) -> Result<bool, DirectoryError> {
        let key = (connection.clone(), agent.clone());
        if let Some(it) = self.attachments.recall(&key, REMEMBERED_TO_SEND, now) {
            return Ok(it.is_some());
        }
        let attached = self.store.attachment(connection, agent).await?.map(|_| true);
        self.attachments.remember(&key, attached, now);
        Ok(attached.is_some())
    }
}
