//! What a connection is made of, as people enter it: checked whole, kept with its secrets sealed, shown with its secrets masked.
//!
//! Nothing here asks Meta anything, and nothing of an app or a number changes hands: that is the start's.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::connection::{Connection, LEAST_DAYS, Lifecycle, State};
use domain::ids::{AppId, ConnectionId, NumberId, TenantId, WabaId};
use domain::time::Timestamp;

use super::deleting::forget_unused_app;
use super::{ConnectionError, START, probe};
use crate::queues::Queues;
use crate::redelivery::Retryable as _;
use crate::store::{Store, StoredConnection};
use crate::vault::{AdditionalData, Sealed, Secret, Vault, VaultError};

/// Longest name, in characters.
const NAME_LIMIT: usize = 100;
/// Longest description, in characters.
const DESCRIPTION_LIMIT: usize = 500;
/// Longest secret, in bytes: Meta's tokens have some hundreds.
const SECRET_LIMIT: usize = 2_048;
/// Longest that anything is kept, in days: ten years.
pub const DAYS_LIMIT: u16 = 3_650;
/// Most numbers of a connection: all of them are claimed at once.
const NUMBERS_LIMIT: usize = 50;

/// A connection as a person enters it, not yet looked at.
#[derive(Debug, Clone)]
pub struct ConnectionDraft {
    /// Whose it is to be.
    pub tenant: TenantId,
    /// Name: required.
    pub name: String,
    /// Description.
    pub description: String,
    /// App ID; empty if there is none.
    pub app: String,
    /// App secret.
    pub app_secret: Option<Secret>,
    /// Access token: required.
    pub access_token: Option<Secret>,
    /// Phone number IDs in order, each entry one of them or several with commas between; none to have the start take the account's only one.
    pub numbers: Vec<String>,
    /// Business account ID: required.
    pub waba: String,
    /// Marketing templates go out through Meta's Marketing Messages API.
    pub marketing_messages: bool,
    /// Utility templates are exempt from the repeat guard.
    pub utility_exempt: bool,
    /// For how many days messages are kept.
    pub message_days: Option<u16>,
    /// For how many days files are kept.
    pub file_days: Option<u16>,
}

/// What a person changes of a connection; what is absent stays. A secret that is masked is absent.
#[derive(Debug, Clone, Default)]
pub struct ConnectionEdit {
    /// Name.
    pub name: Option<String>,
    /// Description.
    pub description: Option<String>,
    /// App ID; empty to have none.
    pub app: Option<String>,
    /// App secret.
    pub app_secret: Option<Secret>,
    /// Access token.
    pub access_token: Option<Secret>,
    /// Phone number IDs, as in a draft.
    pub numbers: Option<Vec<String>>,
    /// Business account ID.
    pub waba: Option<String>,
    /// Marketing templates go out through Meta's Marketing Messages API.
    pub marketing_messages: Option<bool>,
    /// Utility templates are exempt from the repeat guard.
    pub utility_exempt: Option<bool>,
    /// For how many days messages are kept that come from now on.
    pub message_days: Option<u16>,
    /// For how many days files are kept.
    pub file_days: Option<u16>,
}

/// A field that a person fills in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// Name.
    Name,
    /// Description.
    Description,
    /// App ID.
    App,
    /// App secret.
    AppSecret,
    /// Access token.
    AccessToken,
    /// Phone number ID.
    Numbers,
    /// Business account ID.
    Waba,
    /// For how many days messages are kept.
    MessageDays,
    /// For how many days files are kept.
    FileDays,
}

impl Field {
    /// What people call it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Name => "Name",
            Self::Description => "Description",
            Self::App => "App ID",
            Self::AppSecret => "App secret",
            Self::AccessToken => "Access token",
            Self::Numbers => "Phone number ID",
            Self::Waba => "Business account ID",
            Self::MessageDays => "Days that messages are kept",
            Self::FileDays => "Days that files are kept",
        }
    }
}

/// A field that cannot be as it was entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldProblem {
    /// The field.
    pub field: Field,
    /// The kind of problem: `missing`, `malformed`, `too_long`, `too_many`, `out_of_range` or `repeated`.
    pub code: &'static str,
    /// What is wrong with it.
    pub problem: String,
    /// What to do about it.
    pub advice: &'static str,
}

/// What came of an edit.
#[derive(Debug, Clone)]
pub enum Edited {
    /// Changed.
    Done(Box<StoredConnection>),
    /// Some fields cannot be so: nothing was changed.
    Invalid(Vec<FieldProblem>),
    /// It was changed by somebody else since it was read: nothing was changed.
    Moved,
    /// Its app, its account and its numbers change only while it is STOPPED or in ERROR: nothing was changed.
    StopFirst,
    /// The tenant has no such connection.
    Unknown,
}

/// A secret as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MaskedSecret {
    /// Is there one?
    pub is_set: bool,
    /// Its last four characters, if it is long enough to show them.
    pub hint: Option<String>,
}

/// A connection as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionView {
    /// What is no secret.
    pub connection: Connection,
    /// The access token.
    pub access_token: MaskedSecret,
    /// The app secret: the one that waits for the next start, or the app's.
    pub app_secret: MaskedSecret,
    /// The app secret waits for the next start to be confirmed.
    pub app_secret_is_pending: bool,
    /// Why it is in ERROR, if it is.
    pub problem: Option<String>,
    /// How often it was written: an edit names it.
    pub version: u64,
}

/// Some of a tenant's connections.
#[derive(Debug, Clone)]
pub struct ConnectionPage {
    /// In the order of their ids.
    pub connections: Vec<StoredConnection>,
    /// Behind which the next ones come, if there are more.
    pub after: Option<ConnectionId>,
}

/// Makes a connection, STOPPED, or says of every field that cannot be so why.
///
/// # Errors
/// [`ConnectionError`].
pub async fn create(
    store: &Store,
    vault: &Vault,
    draft: &ConnectionDraft,
    now: Timestamp,
) -> Result<Result<StoredConnection, Vec<FieldProblem>>, ConnectionError> {
    let id = ConnectionId::parse(Secret::generate()?.expose()).expect("what is generated is made of the characters of an id");
    create_as(store, vault, draft, &id, now).await
}

/// The same, under an id that was chosen before.
pub(crate) async fn create_as(
    store: &Store,
    vault: &Vault,
    draft: &ConnectionDraft,
    id: &ConnectionId,
    now: Timestamp,
) -> Result<Result<StoredConnection, Vec<FieldProblem>>, ConnectionError> {
    let LookedAt { name, description, app, app_secret, access_token, numbers, waba, message_days, file_days } = match looked_at(draft) {
        Ok(it) => it,
        Err(problems) => return Ok(Err(problems)),
    };
    let connection = Connection {
        id: id.clone(),
        tenant: draft.tenant.clone(),
        name,
        description,
        app,
        waba,
        numbers,
        lifecycle: Lifecycle::new(now),
        token_generation: 1,
        marketing_messages: draft.marketing_messages,
        utility_exempt: draft.utility_exempt,
        message_days,
        file_days,
    };
    let stored = StoredConnection {
        access_token: vault.seal(access_token, &of_connection(id, ACCESS_TOKEN), now).await?,
        pending_app_secret: vault.seal_any(app_secret, &of_connection(id, APP_SECRET), now).await?,
        replaces_callback: false,
        problem: None,
        pins: BTreeMap::new(),
        deleted_at: None,
        version: 1,
        connection,
    };
    if !store.create_connection(&stored).await? {
        // Made before under this id: by a try whose answer was lost.
        return Ok(Ok(store.connection(id).await?.unwrap_or(stored)));
    }
    store.log(id, now, "Created. Start it to have it checked with Meta.").await?;
    Ok(Ok(stored))
}

/// What of a draft cannot be so.
#[must_use]
pub fn check(draft: &ConnectionDraft) -> Vec<FieldProblem> {
    looked_at(draft).err().unwrap_or_default()
}

/// A draft that was looked at, and can be.
struct LookedAt<'a> {
    name: String,
    description: String,
    app: Option<AppId>,
    app_secret: Option<&'a Secret>,
    access_token: &'a Secret,
    numbers: Vec<NumberId>,
    waba: WabaId,
    message_days: Option<u16>,
    file_days: Option<u16>,
}

fn looked_at(draft: &ConnectionDraft) -> Result<LookedAt<'_>, Vec<FieldProblem>> {
    let mut problems = Problems::default();
    let name = problems.name(&draft.name);
    let description = problems.description(&draft.description);
    let app = problems.app(&draft.app);
    let app_secret = problems.secret(Field::AppSecret, draft.app_secret.as_ref());
    let access_token = problems.secret(Field::AccessToken, draft.access_token.as_ref());
    let numbers = problems.numbers(&draft.numbers);
    let waba = problems.waba(&draft.waba);
    let message_days = problems.message_days(draft.message_days);
    let file_days = problems.file_days(draft.file_days);
    if access_token.is_none() {
        problems.missing(Field::AccessToken, "Make one for a system user in Meta's Business settings.");
    }
    if app_secret.is_some() && draft.app.trim().is_empty() {
        problems.missing(Field::App, "Enter the App ID that the App secret belongs to.");
    }
    match (access_token, waba) {
        (Some(access_token), Some(waba)) if problems.0.is_empty() => {
            Ok(LookedAt { name, description, app, app_secret, access_token, numbers, waba, message_days, file_days })
        }
        _ => Err(problems.0),
    }
}

/// A tenant's connection, unless it was deleted.
///
/// # Errors
/// [`ConnectionError`].
pub async fn get(store: &Store, tenant: &TenantId, id: &ConnectionId) -> Result<Option<StoredConnection>, ConnectionError> {
    Ok(store.connection(id).await?.filter(|it| it.connection.tenant == *tenant && it.deleted_at.is_none()))
}

/// At most `limit` of a tenant's connections, from behind `after` on.
///
/// # Errors
/// [`ConnectionError`].
pub async fn list(store: &Store, tenant: &TenantId, after: Option<&ConnectionId>, limit: usize) -> Result<ConnectionPage, ConnectionError> {
    let ids = store.connections_of_tenant(tenant, after, limit).await?;
    let after = ids.last().filter(|_| ids.len() >= limit).cloned();
    let mut connections = Vec::with_capacity(ids.len());
    for id in &ids {
        connections.extend(get(store, tenant, id).await?);
    }
    Ok(ConnectionPage { connections, after })
}

/// A connection as it is shown.
///
/// # Errors
/// [`ConnectionError`].
pub async fn view(store: &Store, vault: &Vault, stored: &StoredConnection) -> Result<ConnectionView, ConnectionError> {
    let (connection, id) = (&stored.connection, &stored.connection.id);
    let app_secret = match (&stored.pending_app_secret, &connection.app) {
        (Some(sealed), _) => masked(vault, Some(sealed), &of_connection(id, APP_SECRET)).await?,
        (None, Some(app)) => {
            let sealed = store.app(app).await?.filter(|it| it.is_of_tenant(&connection.tenant)).and_then(|it| it.secret);
            masked(vault, sealed.as_ref(), &AdditionalData::of_app(app.as_str(), "secret")).await?
        }
        (None, None) => MaskedSecret::default(),
    };
    Ok(ConnectionView {
        connection: connection.clone(),
        access_token: masked(vault, Some(&stored.access_token), &of_connection(id, ACCESS_TOKEN)).await?,
        app_secret,
        app_secret_is_pending: stored.pending_app_secret.is_some(),
        problem: stored.problem.clone(),
        version: stored.version,
    })
}

/// A secret as it is shown: without a hint if it can be opened no more, since a person can replace it all the same.
pub(crate) async fn masked(vault: &Vault, sealed: Option<&Sealed>, of: &AdditionalData) -> Result<MaskedSecret, VaultError> {
    match vault.open_any(sealed, of).await {
        Ok(secret) => Ok(MaskedSecret { is_set: secret.is_some(), hint: secret.and_then(|it| it.hint()) }),
        Err(error) if error.is_retryable() => Err(error),
        Err(error) => {
            tracing::error!(error.code = error.code(), "a secret cannot be shown: {error}");
            Ok(MaskedSecret { is_set: true, hint: None })
        }
    }
}

/// Changes a tenant's connection, if it is at `version` still; without one, as it is now.
///
/// Another access token is used at once; another app secret from the next start on, which has Meta confirm it.
///
/// # Errors
/// [`ConnectionError`].
pub async fn edit(
    (store, queues, vault): (&Store, &Queues, &Vault),
    (tenant, id): (&TenantId, &ConnectionId),
    version: Option<u64>,
    edit: &ConnectionEdit,
    now: Timestamp,
) -> Result<Edited, ConnectionError> {
    let Some(before) = get(store, tenant, id).await? else { return Ok(Edited::Unknown) };
    if version.is_some_and(|it| it != before.version) {
        return Ok(Edited::Moved);
    }
    let next = match changed(vault, &before, edit, now).await? {
        Ok(next) => next,
        Err(problems) => return Ok(Edited::Invalid(problems)),
    };
    let (was, is) = (&before.connection, &next.connection);
    let is_elsewhere = (&was.app, &was.waba, &was.numbers) != (&is.app, &is.waba, &is.numbers);
    if is_elsewhere && matches!(was.lifecycle.state, State::Starting | State::Running) {
        return Ok(Edited::StopFirst);
    }
    // A check that is under way has the former credentials in hand: what was entered is checked anew.
    let is_checked_anew = was.lifecycle.state == State::Starting
        && (was.token_generation != is.token_generation || before.pending_app_secret != next.pending_app_secret);
    let next =
        if is_checked_anew { next.starting(now.max(was.lifecycle.since.unwrap_or(now).plus(Duration::from_millis(1)))) } else { next };
    let (was, is) = (&before.connection, &next.connection);
    let written = store.change_connection(id, |it| (it.version == before.version).then(|| next.clone())).await?;
    let Some(written) = written.filter(|it| it.changed) else { return Ok(Edited::Moved) };
    for number in was.numbers.iter().filter(|it| !is.numbers.contains(it)) {
        store.release_number(was, number, now).await?;
    }
    if was.waba != is.waba {
        store.release_waba(was, &was.waba).await?;
    }
    if was.app != is.app {
        forget_unused_app(store, &before).await?;
    }
    store.log(id, now, "Edited.").await?;
    if is_checked_anew {
        // If this is not reached, the schedule asks for it.
        probe(queues, is, START, is.lifecycle.since.unwrap_or(now)).await?;
    }
    Ok(Edited::Done(Box::new(written.connection)))
}

/// The connection with its changes, or what cannot be so.
async fn changed(
    vault: &Vault,
    before: &StoredConnection,
    edit: &ConnectionEdit,
    now: Timestamp,
) -> Result<Result<StoredConnection, Vec<FieldProblem>>, ConnectionError> {
    let mut next = before.clone();
    let mut problems = Problems::default();
    let connection = &mut next.connection;
    if let Some(it) = &edit.name {
        connection.name = problems.name(it);
    }
    if let Some(it) = &edit.description {
        connection.description = problems.description(it);
    }
    if let Some(it) = &edit.numbers {
        connection.numbers = problems.numbers(it);
    }
    if let Some(it) = edit.waba.as_ref().and_then(|it| problems.waba(it)) {
        connection.waba = it;
    }
    if let Some(it) = &edit.app {
        let app = problems.app(it);
        if app != connection.app {
            // A secret that waits is that of the app before.
            next.pending_app_secret = None;
        }
        connection.app = app;
    }
    connection.marketing_messages = edit.marketing_messages.unwrap_or(connection.marketing_messages);
    connection.utility_exempt = edit.utility_exempt.unwrap_or(connection.utility_exempt);
    connection.message_days = problems.message_days(edit.message_days).or(connection.message_days);
    connection.file_days = problems.file_days(edit.file_days).or(connection.file_days);
    if let Some(it) = problems.secret(Field::AccessToken, edit.access_token.as_ref()) {
        next.access_token = vault.seal(it, &of_connection(&connection.id, ACCESS_TOKEN), now).await?;
        connection.token_generation += 1;
    }
    if let Some(it) = problems.secret(Field::AppSecret, edit.app_secret.as_ref()) {
        next.pending_app_secret = Some(vault.seal(it, &of_connection(&connection.id, APP_SECRET), now).await?);
        if connection.app.is_none() && !problems.concern(Field::App) {
            problems.missing(Field::App, "Enter the App ID that the App secret belongs to.");
        }
    }
    Ok(if problems.0.is_empty() { Ok(next) } else { Err(problems.0) })
}

/// Of which field of a connection a sealed secret is.
pub(crate) const ACCESS_TOKEN: &str = "access_token";
pub(crate) const APP_SECRET: &str = "app_secret";

pub(crate) fn of_connection(id: &ConnectionId, field: &'static str) -> AdditionalData {
    AdditionalData::of_connection(id.as_str(), field)
}

/// What is wrong with a name.
pub(crate) fn wrong_name(name: &str) -> Vec<FieldProblem> {
    let mut problems = Problems::default();
    problems.name(name);
    problems.0
}

/// What was found wrong so far.
#[derive(Default)]
struct Problems(Vec<FieldProblem>);

impl Problems {
    fn add(&mut self, field: Field, code: &'static str, problem: String, advice: &'static str) {
        self.0.push(FieldProblem { field, code, problem, advice });
    }

    fn missing(&mut self, field: Field, advice: &'static str) {
        self.add(field, "missing", format!("{} is required.", field.label()), advice);
    }

    fn concern(&self, field: Field) -> bool {
        self.0.iter().any(|it| it.field == field)
    }

    fn text(&mut self, field: Field, text: &str, limit: usize) -> String {
        let text = text.trim();
        if text.chars().count() > limit {
            self.add(field, "too_long", format!("{} is longer than {limit} characters.", field.label()), "Shorten it.");
        }
        text.to_owned()
    }

    fn name(&mut self, text: &str) -> String {
        if text.trim().is_empty() {
            self.missing(Field::Name, "Enter what people call this connection.");
        }
        self.text(Field::Name, text, NAME_LIMIT)
    }

    fn description(&mut self, text: &str) -> String {
        self.text(Field::Description, text, DESCRIPTION_LIMIT)
    }

    /// An id of Meta's: digits. What is none is not said back: it may be a secret in the wrong field.
    fn id<T>(&mut self, field: Field, entry: &str, parsed: Option<T>) -> Option<T> {
        if parsed.is_none() {
            self.add(field, "malformed", format!("{}{entry} is no id of Meta's.", field.label()), "Enter the digits that Meta shows.");
        }
        parsed
    }

    fn app(&mut self, text: &str) -> Option<AppId> {
        let text = text.trim();
        (!text.is_empty()).then(|| self.id(Field::App, "", AppId::parse(text).ok())).flatten()
    }

    fn waba(&mut self, text: &str) -> Option<WabaId> {
        let text = text.trim();
        if text.is_empty() {
            self.missing(Field::Waba, "Copy the WhatsApp Business account ID from Meta's Business settings.");
            return None;
        }
        self.id(Field::Waba, "", WabaId::parse(text).ok())
    }

    fn numbers(&mut self, entries: &[String]) -> Vec<NumberId> {
        let mut numbers: Vec<NumberId> = Vec::new();
        let entries = entries.iter().flat_map(|it| it.split(',')).map(str::trim).filter(|it| !it.is_empty());
        for (position, text) in (1..).zip(entries) {
            let entry = format!(", entry {position},");
            let Some(number) = self.id(Field::Numbers, &entry, NumberId::parse(text).ok()) else { continue };
            if numbers.contains(&number) {
                self.add(Field::Numbers, "repeated", format!("Phone number ID {number} is entered twice."), "Enter each number once.");
            } else {
                numbers.push(number);
            }
        }
        if numbers.len() > NUMBERS_LIMIT {
            let problem = format!("More than {NUMBERS_LIMIT} numbers are entered.");
            self.add(Field::Numbers, "too_many", problem, "Spread them over several connections.");
        }
        numbers
    }

    fn message_days(&mut self, days: Option<u16>) -> Option<u16> {
        self.days(Field::MessageDays, days, LEAST_DAYS)
    }

    fn file_days(&mut self, days: Option<u16>) -> Option<u16> {
        self.days(Field::FileDays, days, 1)
    }

    fn days(&mut self, field: Field, days: Option<u16>, least: u16) -> Option<u16> {
        if days.is_some_and(|it| !(least..=DAYS_LIMIT).contains(&it)) {
            let problem = format!("{} are {least} to {DAYS_LIMIT}.", field.label());
            self.add(field, "out_of_range", problem, "Enter a number of days between them.");
        }
        days
    }

    /// A secret that was entered: not one that is absent or masked.
    fn secret<'a>(&mut self, field: Field, secret: Option<&'a Secret>) -> Option<&'a Secret> {
        let secret = secret.filter(|it| !it.expose().trim().is_empty() && !it.is_masked())?;
        let text = secret.expose();
        if text.len() > SECRET_LIMIT {
            self.add(field, "too_long", format!("{} is longer than {SECRET_LIMIT} bytes.", field.label()), "Copy it again.");
        } else if !text.bytes().all(|it| it.is_ascii_graphic()) {
            let problem = format!("{} holds blanks or characters that no secret of Meta's has.", field.label());
            self.add(field, "malformed", problem, "Copy it again, without anything around it.");
        }
        Some(secret)
    }
}
