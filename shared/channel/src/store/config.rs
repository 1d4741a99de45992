//! Items of the table `config`: connections, apps, numbers, attachments, log lines.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::connection::{Connection, Quality, State};
use domain::conversation::Listener;
use domain::ids::{AgentId, AppId, ConnectionId, NumberId, TenantId, WabaId};
use domain::time::Timestamp;
use meta::numbers::NumberState;
use serde::{Deserialize, Serialize};

use super::dynamo::{Condition, Range, Read, Update, Versioned, Write, Written};
use super::keys::{self, Table};
use super::{RACES, Slice, Store, StoreError};
use crate::vault::Sealed;

/// Log lines are kept for this long, in seconds: 30 days.
const LOG_SECONDS: i64 = 30 * 24 * 60 * 60;

/// What a number may send and receive together in a second, unless Meta has raised it:
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/throughput>.
pub const STANDARD_THROUGHPUT: u32 = 80;

/// A connection with its sealed secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredConnection {
    /// What is no secret.
    #[serde(flatten)]
    pub connection: Connection,
    /// The access token.
    pub access_token: Sealed,
    /// An app secret that Meta has not confirmed yet: it becomes the app's at the next start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_app_secret: Option<Sealed>,
    /// The next check may point the app at us though it points elsewhere.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replaces_callback: bool,
    /// Why it is in ERROR, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The two-step PINs with which we registered numbers of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pins: BTreeMap<NumberId, Sealed>,
    /// It was deleted, and what is left of it is going.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
    /// How often it was written, as it was when it was read.
    #[serde(default, skip_serializing)]
    pub version: u64,
}

impl StoredConnection {
    /// Is it being checked for the start of `began`?
    #[must_use]
    pub fn is_starting_since(&self, began: Timestamp) -> bool {
        let lifecycle = &self.connection.lifecycle;
        lifecycle.state == State::Starting && lifecycle.since == Some(began) && self.deleted_at.is_none()
    }

    fn is_watched(&self) -> bool {
        self.connection.lifecycle.is_watched() || self.deleted_at.is_some()
    }
}

/// Whose an app is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppOwner {
    /// One tenant's.
    Tenant(TenantId),
    /// The server's, for everybody who signs in with Meta.
    Server,
}

/// A Meta app, with what proves that a webhook is from it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct App {
    /// Its id.
    pub id: AppId,
    /// Whose it is.
    pub owner: AppOwner,
    /// The secret that signs its webhooks; without one inbound is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Sealed>,
    /// The secret before it, accepted during a rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_secret: Option<Sealed>,
    /// Until when it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_until: Option<Timestamp>,
    /// What Meta says back when it checks the callback.
    pub verify_token: Sealed,
}

impl App {
    /// Is it this tenant's own?
    #[must_use]
    pub fn is_of_tenant(&self, tenant: &TenantId) -> bool {
        self.owner == AppOwner::Tenant(tenant.clone())
    }

    /// May a tenant's connection use it?
    #[must_use]
    pub fn may_be_used_by(&self, tenant: &TenantId) -> bool {
        match &self.owner {
            AppOwner::Tenant(it) => it == tenant,
            AppOwner::Server => true,
        }
    }

    /// The secret before the current one, while it is accepted.
    #[must_use]
    pub fn previous_at(&self, now: Timestamp) -> Option<&Sealed> {
        self.previous_secret.as_ref().filter(|_| self.previous_until.is_none_or(|it| now < it))
    }

    /// The same with another secret from `now` on, the one before accepted beside it for so long.
    #[must_use]
    pub fn rotated(self, secret: Sealed, overlap: Duration, now: Timestamp) -> Self {
        let previous_until = self.secret.is_some().then(|| now.plus(overlap));
        Self { previous_secret: self.secret, previous_until, secret: Some(secret), ..self }
    }
}

/// A number, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberItem {
    /// Meta's id.
    pub id: NumberId,
    /// The connection that holds it.
    pub connection: ConnectionId,
    /// When that connection claimed it.
    pub claimed_at: Timestamp,
    /// When that connection let go of it: it is nobody's now, and no other's for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_at: Option<Timestamp>,
    /// The agent that has Inbound on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// Meta's code of the fault that keeps it from sending, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<u32>,
    /// How many messages a second it may send and receive together, if Meta has said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput: Option<u32>,
    /// Meta's judgement, if it has said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// Meta's word for how it stands, if it has said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// When that was read from Meta.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_at: Option<Timestamp>,
}

/// The words for a number that can neither send nor receive. A number that is `FLAGGED` or `RESTRICTED` still answers, and of a word that
/// is new to us Meta's answer to a send says what it means.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/phone-numbers>
const OUT_OF_USE: [&str; 6] = ["DISCONNECTED", "PENDING", "BANNED", "MIGRATED", "DELETED", "UNVERIFIED"];

/// Can a number of this status send, as far as is known?
#[must_use]
pub fn can_send_as(status: Option<&str>) -> bool {
    status.is_none_or(|it| !OUT_OF_USE.contains(&it))
}

impl NumberItem {
    /// A number that a connection claims at `claimed_at`.
    #[must_use]
    pub fn claimed(id: NumberId, connection: ConnectionId, agent: Option<AgentId>, claimed_at: Timestamp) -> Self {
        Self {
            id,
            connection,
            claimed_at,
            released_at: None,
            agent,
            fault: None,
            throughput: None,
            quality: None,
            status: None,
            read_at: None,
        }
    }

    /// Can it send, as far as is known?
    #[must_use]
    pub fn can_send(&self) -> bool {
        self.fault.is_none() && can_send_as(self.status.as_deref())
    }

    /// How many messages a second it may send and receive together.
    #[must_use]
    pub fn per_second(&self) -> u32 {
        self.throughput.unwrap_or(STANDARD_THROUGHPUT)
    }
}

/// An agent on a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The connection.
    pub connection: ConnectionId,
    /// The agent.
    pub agent: AgentId,
    /// Does it take turns? If not, it may only send.
    pub inbound: bool,
    /// Where it listens on HTTPS; without one its turns go to `turns.fifo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// What turns voice messages into words for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speech_to_text: Option<SpeechToText>,
    /// For how long it is waited whether the customer goes on writing, in milliseconds; 0: not at all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub quiet_ms: u16,
    /// How often its endpoint has failed since it last took a turn; none once it is down and that is told.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u16,
    /// Since when its endpoint is down: its turns are owed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_since: Option<Timestamp>,
    /// Why it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_because: Option<DownBecause>,
    /// When its endpoint was last asked whether it answers again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probed_at: Option<Timestamp>,
    /// Since when it answers again, until that is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_since: Option<Timestamp>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(it: &u16) -> bool {
    *it == 0
}

impl Attachment {
    /// An agent on a connection, without more.
    #[must_use]
    pub fn new(connection: ConnectionId, agent: AgentId, inbound: bool) -> Self {
        Self {
            connection,
            agent,
            inbound,
            endpoint: None,
            speech_to_text: None,
            quiet_ms: 0,
            failures: 0,
            down_since: None,
            down_because: None,
            probed_at: None,
            up_since: None,
        }
    }

    /// The agent, as far as the way of a message to it goes.
    #[must_use]
    pub fn listener(&self) -> Listener {
        Listener { agent: self.agent.clone(), over_https: self.endpoint.is_some(), gathers: self.quiet_ms > 0 }
    }
}

/// Why an agent's endpoint is down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownBecause {
    /// What it failed with last.
    pub code: String,
    /// The same, as a person is told: `it answers with 500`.
    pub why: String,
}

/// Where an agent listens on HTTPS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its address.
    pub url: String,
    /// What its turns are signed with.
    pub secret: Sealed,
    /// The secret before it, with which they are signed as well until that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<(Sealed, Timestamp)>,
}

/// An OpenAI-compatible transcription endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpeechToText {
    /// Its address.
    pub url: String,
    /// The model that is asked for.
    pub model: String,
    /// The language that is spoken, as ISO 639-1 has it; without one the endpoint finds out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// The key that opens it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Sealed>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Pointer {
    pub(super) connection: ConnectionId,
}

#[derive(Serialize, Deserialize)]
struct LogText {
    text: String,
}

/// A line of a connection's Logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub text: String,
}

impl Store {
    /// A connection, as it is now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn connection(&self, id: &ConnectionId) -> Result<Option<StoredConnection>, StoreError> {
        Ok(self.dynamo.get(&keys::connection(id), Read::Strong).await?.map(|it| it.value))
    }

    /// An app, as it is now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn app(&self, id: &AppId) -> Result<Option<App>, StoreError> {
        Ok(self.dynamo.get(&keys::app(id), Read::Strong).await?.map(|it| it.value))
    }

    /// A number; strongly if `fresh`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn number(&self, id: &NumberId, fresh: bool) -> Result<Option<NumberItem>, StoreError> {
        let found: Option<Versioned<NumberItem>> = self.dynamo.get(&keys::number(id), read(fresh)).await?;
        Ok(found.map(|it| it.value).filter(|it| it.released_at.is_none()))
    }

    /// An agent on a connection, as it is now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn attachment(&self, connection: &ConnectionId, agent: &AgentId) -> Result<Option<Attachment>, StoreError> {
        Ok(self.dynamo.get(&keys::attachment(connection, agent), Read::Strong).await?.map(|it| it.value))
    }

    /// The agents on a connection.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn attachments(&self, connection: &ConnectionId) -> Result<Vec<Attachment>, StoreError> {
        let range = Range { from: "AGENT#", to: "AGENT#~", newest_first: false, limit: None };
        let found: Vec<(String, Attachment)> = self.dynamo.query(Table::Config, &keys::connection(connection).pk, range).await?;
        Ok(found.into_iter().map(|it| it.1).collect())
    }

    /// The connections that the schedule looks at, of one of [`Self::watched_parts`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn watched(&self, part: u8) -> Result<Vec<ConnectionId>, StoreError> {
        let range = Range { from: "CONNECTION#", to: "CONNECTION#~", newest_first: false, limit: None };
        let found: Vec<(String, Pointer)> = self.dynamo.query(Table::Config, &keys::watched_in(part), range).await?;
        Ok(found.into_iter().map(|it| it.1.connection).collect())
    }

    /// The parts over which the watched connections are spread.
    #[must_use]
    pub fn watched_parts() -> std::ops::Range<u8> {
        0..keys::SHARDS
    }

    /// A tenant's connections in the order of their ids: at most `limit`, from behind `after` on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn connections_of_tenant(
        &self,
        tenant: &TenantId,
        after: Option<&ConnectionId>,
        limit: usize,
    ) -> Result<Vec<ConnectionId>, StoreError> {
        // No id holds a blank, and every character that an id may hold comes behind it.
        let from = after.map_or_else(|| "CONNECTION#".to_owned(), |it| format!("CONNECTION#{it} "));
        let range = Range { from: &from, to: "CONNECTION#~", newest_first: false, limit: Some(limit) };
        let found: Vec<(String, Pointer)> = self.dynamo.query(Table::Config, &keys::tenant(tenant), range).await?;
        Ok(found.into_iter().map(|it| it.1.connection).collect())
    }

    /// The connections that use a WhatsApp Business account.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn connections_of_waba(&self, waba: &WabaId) -> Result<Vec<ConnectionId>, StoreError> {
        let range = Range { from: "CONNECTION#", to: "CONNECTION#~", newest_first: false, limit: None };
        let found: Vec<(String, Pointer)> = self.dynamo.query(Table::Config, &keys::waba(waba), range).await?;
        Ok(found.into_iter().map(|it| it.1.connection).collect())
    }

    /// Writes a connection with everything that leads to it, in one transaction: the lists, its app, its numbers and its attachments.
    ///
    /// False if one of them is there already: then nothing is written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn install(
        &self,
        connection: &StoredConnection,
        app: &App,
        numbers: &[NumberItem],
        attachments: &[Attachment],
    ) -> Result<bool, StoreError> {
        let it = &connection.connection;
        let pointer = Pointer { connection: it.id.clone() };
        let mut writes = vec![
            Write::put(keys::connection(&it.id), connection, Some(1), Condition::Absent)?,
            Write::put(keys::connection_of_tenant(&it.tenant, &it.id), &pointer, None, Condition::Always)?,
            Write::put(keys::connection_of_waba(&it.waba, &it.id), &pointer, None, Condition::Always)?,
            Write::put(keys::watched(&it.id), &pointer, None, Condition::Always)?,
            Write::put(keys::app(&app.id), app, Some(1), Condition::Absent)?,
        ];
        for number in numbers {
            writes.push(Write::put(keys::number(&number.id), number, Some(1), Condition::Absent)?);
        }
        for attachment in attachments {
            writes.push(Write::put(keys::attachment(&attachment.connection, &attachment.agent), attachment, None, Condition::Always)?);
            if attachment.inbound {
                let update = Update::of_any().set("agent", &attachment.agent)?;
                writes.push(Write::Update { key: keys::inbound_agent(&attachment.connection), update });
            }
        }
        self.dynamo.transact(writes).await
    }

    /// Changes a connection as it is now; what `change` answers `None` for is left as it is. The connection as it stands afterwards.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn change_connection(
        &self,
        id: &ConnectionId,
        change: impl Fn(&StoredConnection) -> Option<StoredConnection>,
    ) -> Result<Option<Changed>, StoreError> {
        for _ in 0..RACES {
            let Some(Versioned { version, value }) = self.dynamo.get::<StoredConnection>(&keys::connection(id), Read::Strong).await? else {
                return Ok(None);
            };
            let Some(mut next) = change(&value) else { return Ok(Some(Changed { connection: value, changed: false })) };
            next.version = version + 1;
            let (key, condition) = (keys::connection(id), Condition::Version(version));
            let is_done = if value.is_watched() == next.is_watched() {
                let written: Written<StoredConnection> = self.dynamo.put(&key, &next, Some(next.version), None, condition).await?;
                written_done(&written)
            } else {
                let watched = keys::watched(id);
                let list = match next.is_watched() {
                    true => Write::put(watched, &Pointer { connection: id.clone() }, None, Condition::Always)?,
                    false => Write::Delete { key: watched },
                };
                self.dynamo.transact(vec![Write::put(key, &next, Some(next.version), condition)?, list]).await?
            };
            if is_done {
                return Ok(Some(Changed { connection: next, changed: true }));
            }
        }
        Err(StoreError::Contended { what: "connection" })
    }

    /// A tenant's list names a connection no more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unlist_connection(&self, tenant: &TenantId, connection: &ConnectionId) -> Result<(), StoreError> {
        self.dynamo.delete(&keys::connection_of_tenant(tenant, connection)).await
    }

    /// Forgets a tenant's app with its secrets.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_app(&self, app: &AppId, tenant: &TenantId) -> Result<(), StoreError> {
        self.dynamo.delete_when(&keys::app(app), "owner", &AppOwner::Tenant(tenant.clone())).await
    }

    /// Wipes everything that the config table holds of a connection, itself last.
    ///
    /// # Errors
    /// [`StoreError`]: what is left is wiped by the next try.
    pub async fn wipe_connection(&self, connection: &ConnectionId) -> Result<(), StoreError> {
        let itself = keys::connection(connection);
        let range = Range { from: " ", to: "~", newest_first: false, limit: None };
        let found: Vec<(String, serde::de::IgnoredAny)> = self.dynamo.query(Table::Config, &itself.pk, range).await?;
        for (sk, _) in found.into_iter().filter(|it| it.0 != itself.sk) {
            self.dynamo.delete(&keys::Key { sk, ..itself.clone() }).await?;
        }
        self.dynamo.delete(&keys::rotation(connection)).await?;
        self.dynamo.delete(&keys::watched(connection)).await?;
        self.dynamo.delete(&itself).await
    }

    /// Changes an app as it is now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn change_app(&self, id: &AppId, change: impl Fn(App) -> App) -> Result<Option<App>, StoreError> {
        for _ in 0..RACES {
            let Some(Versioned { version, value }) = self.dynamo.get::<App>(&keys::app(id), Read::Strong).await? else { return Ok(None) };
            let next = change(value);
            let written: Written<App> =
                self.dynamo.put(&keys::app(id), &next, Some(version + 1), None, Condition::Version(version)).await?;
            if written_done(&written) {
                return Ok(Some(next));
            }
        }
        Err(StoreError::Contended { what: "app" })
    }

    /// Marks a number with the fault that keeps it from sending, while it is the connection's.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mark_number(&self, number: &NumberId, connection: &ConnectionId, fault: u32) -> Result<(), StoreError> {
        let update = Update::existing().set("fault", &fault)?.when("connection", connection)?;
        let _: Result<NumberItem, Option<NumberItem>> = self.dynamo.update(&keys::number(number), update).await?;
        Ok(())
    }

    /// Notes how a number stands at Meta, while it is the connection's and unless a later reading is noted. What Meta did not say stays.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_number(
        &self,
        number: &NumberId,
        connection: &ConnectionId,
        state: &NumberState,
        read_at: Timestamp,
    ) -> Result<(), StoreError> {
        let mut update = Update::existing().set("read_at", &read_at)?.when("connection", connection)?;
        update = update.when_absent_or_below("read_at", read_at.as_millis());
        if let Some(it) = state.per_second {
            update = update.set("throughput", &it)?;
        }
        if let Some(it) = &state.quality {
            update = update.set("quality", it)?;
        }
        if let Some(it) = &state.status {
            update = update.set("status", it)?;
        }
        let _: Result<NumberItem, Option<NumberItem>> = self.dynamo.update(&keys::number(number), update).await?;
        Ok(())
    }

    /// Forgets what keeps a number from sending, while it is the connection's.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn clear_number(&self, number: &NumberId, connection: &ConnectionId) -> Result<(), StoreError> {
        let update = Update::existing().remove("fault").remove("status").remove("read_at").when("connection", connection)?;
        let _: Result<NumberItem, Option<NumberItem>> = self.dynamo.update(&keys::number(number), update).await?;
        Ok(())
    }

    /// Writes a line to the connection's Logs: for people, without content, addresses or secrets.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn log(&self, connection: &ConnectionId, at: Timestamp, text: &str) -> Result<(), StoreError> {
        let line = LogText { text: text.to_owned() };
        let expires_at = at.as_millis() / 1_000 + LOG_SECONDS;
        let _: Written<LogText> =
            self.dynamo.put(&keys::log_line(connection, at, text), &line, None, Some(expires_at), Condition::Always).await?;
        Ok(())
    }

    /// Lines of the connection's Logs, newest first, after those of a page before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn logs(&self, connection: &ConnectionId, after: Option<&str>, limit: usize) -> Result<Slice<LogLine>, StoreError> {
        let key = keys::connection(connection);
        let range = Range { from: "LOG#", to: "LOG#~", newest_first: true, limit: Some(limit) };
        let found: Slice<(String, LogText)> = self.dynamo.slice(Table::Config, &key.pk, range, after).await?;
        let at = |key: &str| key.split('#').nth(1).and_then(|it| it.parse().ok()).map(Timestamp::from_millis).unwrap_or_default();
        let items = found.items.into_iter().map(|(key, it)| LogLine { at: at(&key), text: it.text }).collect();
        Ok(Slice { items, ended_at: found.ended_at })
    }

    /// What the newest lines of the connection's Logs say.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn log_lines(&self, connection: &ConnectionId, limit: usize) -> Result<Vec<String>, StoreError> {
        let found = self.logs(connection, None, limit).await?;
        Ok(found.items.into_iter().map(|it| it.text).collect())
    }
}

/// A connection after a change was decided on.
#[derive(Debug, Clone)]
pub struct Changed {
    /// As it stands.
    pub connection: StoredConnection,
    /// Was anything changed?
    pub changed: bool,
}

impl StoredConnection {
    /// The same, in another state from `at` on.
    #[must_use]
    pub fn ended(&self, state: State, at: Timestamp) -> Self {
        let mut it = Self { problem: None, ..self.clone() };
        it.connection.lifecycle = it.connection.lifecycle.ended(state, at);
        it
    }

    /// The same, in ERROR from `at` on for this reason.
    #[must_use]
    pub fn failed(&self, why: &str, at: Timestamp) -> Self {
        Self { problem: Some(why.to_owned()), ..self.ended(State::Error, at) }
    }

    /// The same, STARTING from `at` on.
    #[must_use]
    pub fn starting(&self, at: Timestamp) -> Self {
        let mut it = self.clone();
        it.connection.lifecycle = it.connection.lifecycle.starting(at);
        it
    }

    /// The same, RUNNING from `at` on.
    #[must_use]
    pub fn started(&self, at: Timestamp) -> Self {
        let mut it = self.clone();
        it.connection.lifecycle = it.connection.lifecycle.started(at);
        it
    }
}

fn read(fresh: bool) -> Read {
    if fresh { Read::Strong } else { Read::Eventual }
}

fn written_done<T>(written: &Written<T>) -> bool {
    matches!(written, Written::Done)
}
