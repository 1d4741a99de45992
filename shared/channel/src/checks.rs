//! The check of a connection with Meta: of a start, which decides whether it runs, and of the schedule, which sees that it still may.
//!
//! Each step may be repeated: a start that crashed goes on from its beginning, and nothing that it does twice is done twice. Whatever Meta
//! does not answer is asked again later; only what it refuses is an error.

use std::time::Duration;

use domain::connection::{Connection, State};
use domain::ids::{AppId, NumberId};
use domain::status::Fault;
use domain::time::Timestamp;
use meta::account::{MANAGEMENT, MESSAGING, NumberRecord, TokenState};
use meta::fault::Class;
use meta::graph::{Credentials, Graph, Unread};

use crate::connections::{self, ACCESS_TOKEN, APP_SECRET, ConnectionError, of_connection};
use crate::endings;
use crate::feed;
use crate::health::{is_passing, is_refusal};
use crate::jobs::Happened;
use crate::numbers;
use crate::queues::Queues;
use crate::store::{
    App, AppClaim, AppOwner, Callback, Checked, CheckedNumber, CheckedSubject, Claimed, Store, StoreError, StoredConnection, Verdict,
    can_send_as,
};
use crate::vault::{AdditionalData, Secret, Vault};

/// A token that expires within this time is warned of, once a day.
const WARNS_BEFORE: Duration = Duration::from_hours(7 * 24);
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// What a check is told of this installation.
#[derive(Debug, Clone)]
pub struct CheckSettings {
    /// Where Meta reaches the webhook: an app's callback is this, a slash and its id.
    pub webhook_url: String,
    /// How long the app secret before is accepted beside a new one.
    pub secret_overlap: Duration,
}

/// The handles of a check.
#[derive(Clone, Copy)]
pub struct Checks<'a> {
    /// Connections, apps, numbers and the Logs.
    pub store: &'a Store,
    /// The feed, and the probes.
    pub queues: &'a Queues,
    /// What opens the secrets.
    pub vault: &'a Vault,
    /// Meta.
    pub graph: &'a Graph,
    /// What is told of this installation.
    pub settings: &'a CheckSettings,
}

/// What came of a check.
#[derive(Debug)]
pub enum Outcome {
    /// It ended: whatever was found is written and told.
    Ended,
    /// The connection runs, as far as was found.
    Runs,
    /// Meta did not answer, or not now: to be asked again.
    Later,
    /// A number may not be claimed before this time.
    Rests(Timestamp),
}

/// Why a check goes no further.
enum Stop {
    /// Meta, or who holds what, says no.
    Refused {
        why: String,
        /// Is it about the credentials, the account or what a person entered? Anything else may be Meta's own trouble.
        is_theirs: bool,
    },
    /// Meta does not say.
    Unread(Unread),
    Rests(Timestamp),
    /// The connection is not being started any more, or anew.
    Overtaken,
    Failed(ConnectionError),
}

impl From<ConnectionError> for Stop {
    fn from(error: ConnectionError) -> Self {
        Self::Failed(error)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<crate::vault::VaultError> for Stop {
    fn from(error: crate::vault::VaultError) -> Self {
        Self::Failed(error.into())
    }
}

/// Did Meta say no, rather than nothing?
fn unless_refused<T>(read: Result<T, Unread>, refusal: impl FnOnce(&str) -> String) -> Result<T, Stop> {
    read.map_err(|unread| match is_passing(&unread) {
        true => Stop::Unread(unread),
        // An object that is not there, or not for this token, is of a number's class.
        false => Stop::Refused { why: refusal(&said(&unread.fault)), is_theirs: is_refusal(&unread) || unread.class == Class::Number },
    })
}

impl Stop {
    fn refused(why: String) -> Self {
        Self::Refused { why, is_theirs: true }
    }
}

fn said(fault: &Fault) -> String {
    format!("{} (code {})", endings::note(fault), fault.code)
}

impl Checks<'_> {
    /// Checks a connection that is STARTING, and has it run, or puts it into ERROR.
    ///
    /// # Errors
    /// [`ConnectionError`]: the next delivery begins again.
    pub async fn start(&self, stored: &StoredConnection, now: Timestamp) -> Result<Outcome, ConnectionError> {
        let Some(began) = stored.connection.lifecycle.since else { return Ok(Outcome::Ended) };
        let mut check = Check::of(*self, stored, began, now).await?;
        let outcome = check.start().await;
        if let Ok(_) | Err(Stop::Refused { .. }) = outcome {
            // What was not read to its end says less than what was read before.
            self.store.note_checked(&stored.connection.id, &check.checked).await?;
        }
        // What comes of the steps comes after them, though no time has passed.
        let now = now.max(began.plus(Duration::from_millis(check.lines + 1)));
        match outcome {
            Ok(connection) => {
                // What was held against its numbers before is forgotten: Meta has just shown them.
                for number in &connection.numbers {
                    self.store.clear_number(number, &connection.id).await?;
                }
                check.note_numbers(&connection).await?;
                check.warn_of_expiry().await?;
                let runs = connections::run(self.store, self.queues, &connection.id, began, now).await?;
                Ok(if runs { Outcome::Runs } else { Outcome::Ended })
            }
            Err(Stop::Refused { why, .. }) => {
                connections::refuse_start(self.store, self.queues, &stored.connection.id, began, &why, now).await?;
                Ok(Outcome::Ended)
            }
            Err(Stop::Unread(unread)) => {
                let line = format!("Meta does not answer as it should: {}. It is asked again.", said(&unread.fault));
                self.store.log(&stored.connection.id, began.plus(Duration::from_secs(1)), &line).await?;
                Ok(Outcome::Later)
            }
            Err(Stop::Rests(until)) => Ok(Outcome::Rests(until)),
            Err(Stop::Overtaken) => Ok(Outcome::Ended),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    /// Checks a connection that runs, for a reason that arose at `heard_at`: it goes into ERROR if its credentials or its account do not hold any more, or no number can send.
    ///
    /// # Errors
    /// [`ConnectionError`]: the next delivery begins again.
    pub async fn look_again(&self, stored: &StoredConnection, heard_at: Timestamp, now: Timestamp) -> Result<Outcome, ConnectionError> {
        let mut check = Check::of(*self, stored, heard_at, now).await?;
        let outcome = check.look_again().await;
        let connection = &stored.connection;
        match outcome {
            Ok(()) => {
                check.note_numbers(connection).await?;
                check.warn_of_expiry().await?;
                self.store.note_checked(&connection.id, &check.checked).await?;
                connections::fail_without_numbers(self.store, self.queues, connection, now).await?;
                Ok(Outcome::Runs)
            }
            Err(Stop::Refused { why, is_theirs: false }) => {
                self.store.note_checked(&connection.id, &check.checked).await?;
                self.store.log(&connection.id, heard_at, &format!("It could not be checked with Meta, and runs on. {why}")).await?;
                Ok(Outcome::Ended)
            }
            Err(Stop::Refused { why, is_theirs: true }) => {
                self.store.note_checked(&connection.id, &check.checked).await?;
                connections::fail(self.store, self.queues, &connection.id, connection.token_generation, &why, now).await?;
                Ok(Outcome::Ended)
            }
            Err(Stop::Unread(_)) => Ok(Outcome::Later),
            Err(Stop::Rests(_) | Stop::Overtaken) => Ok(Outcome::Ended),
            Err(Stop::Failed(error)) => Err(error),
        }
    }
}

/// One check under way.
struct Check<'a> {
    handles: Checks<'a>,
    connection: Connection,
    access_token: Secret,
    app: Option<App>,
    /// The secret that was entered and waits to be confirmed.
    pending: Option<Secret>,
    /// The secret that the app has.
    current: Option<Secret>,
    replaces_callback: bool,
    is_start: bool,
    /// When the start, or the reason to look again, arose: the same however often it is delivered.
    began: Timestamp,
    now: Timestamp,
    lines: u64,
    /// What the check before read.
    before: Checked,
    checked: Checked,
    records: Vec<NumberRecord>,
}

impl<'a> Check<'a> {
    async fn of(handles: Checks<'a>, stored: &StoredConnection, began: Timestamp, now: Timestamp) -> Result<Self, ConnectionError> {
        let (connection, Checks { store, vault, .. }) = (stored.connection.clone(), handles);
        let app = match &connection.app {
            Some(it) => store.app(it).await?.filter(|it| it.may_be_used_by(&connection.tenant)),
            None => None,
        };
        let secret_of = |it: &App| AdditionalData::of_app(it.id.as_str(), "secret");
        let current = match &app {
            Some(it) => vault.open_any(it.secret.as_ref(), &secret_of(it)).await?,
            None => None,
        };
        let before = store.checked(&connection.id).await?.unwrap_or_default();
        let is_start = connection.lifecycle.state == State::Starting;
        Ok(Self {
            handles,
            access_token: vault.open(&stored.access_token, &of_connection(&connection.id, ACCESS_TOKEN)).await?,
            current,
            pending: vault.open_any(stored.pending_app_secret.as_ref(), &of_connection(&connection.id, APP_SECRET)).await?,
            // A person said it of the start, and not for ever.
            replaces_callback: is_start && stored.replaces_callback,
            is_start,
            checked: Checked {
                checked_at: now,
                warned_at: before.warned_at,
                subject: Some(CheckedSubject::of(&connection)),
                ..Checked::default()
            },
            before,
            app,
            connection,
            began,
            now,
            lines: 0,
            records: Vec::new(),
        })
    }

    async fn start(&mut self) -> Result<Connection, Stop> {
        self.check_app_secret().await?;
        self.check_token().await?;
        self.check_account().await?;
        self.check_numbers().await?;
        self.claim().await?;
        self.subscribe().await?;
        self.point().await?;
        Ok(self.connection.clone())
    }

    async fn look_again(&mut self) -> Result<(), Stop> {
        // A secret that was entered meanwhile is the next start's.
        self.pending = None;
        self.check_app_secret().await?;
        self.check_token().await?;
        self.check_account().await?;
        self.list_numbers().await?;
        self.subscribe().await?;
        self.point().await
    }

    /// A line of a start. A start that is repeated writes the same lines at the same times, in their order.
    async fn say(&mut self, text: &str) -> Result<(), Stop> {
        if self.is_start {
            self.lines += 1;
            let at = self.began.plus(Duration::from_millis(self.lines));
            self.handles.store.log(&self.connection.id, at, text).await?;
        }
        Ok(())
    }

    /// A line of what differs from the check before; of a start always.
    async fn say_changed(&mut self, has_changed: bool, text: &str) -> Result<(), Stop> {
        if !self.is_start && has_changed {
            self.handles.store.log(&self.connection.id, self.began, text).await?;
        }
        self.say(text).await
    }

    fn secret(&self) -> Option<&Secret> {
        self.pending.as_ref().or(self.current.as_ref())
    }

    fn of_app(&self) -> Option<(AppId, Credentials, &Secret)> {
        let (app, secret) = (self.connection.app.clone()?, self.secret()?);
        let credentials = Credentials::of_app(&app, secret.expose());
        Some((app, credentials, secret))
    }

    fn credentials(&self) -> Credentials {
        Credentials::new(self.access_token.expose(), self.secret().map(|it| it.expose().to_owned()))
    }

    async fn check_app_secret(&mut self) -> Result<(), Stop> {
        let Some((app, credentials, _)) = self.of_app() else { return Ok(()) };
        let confirmed = unless_refused(self.handles.graph.app(&app, &credentials).await, |it| {
            format!(
                "The App secret is not that of app {app}: {it}. Copy it from the app's basic settings, then start the connection again."
            )
        });
        self.checked.app_secret = verdict(&confirmed);
        confirmed?;
        self.say(&format!("The App secret is that of app {app}.")).await
    }

    async fn check_token(&mut self) -> Result<(), Stop> {
        let state = self.read_token().await;
        let judged = state.and_then(|it| self.judge(it));
        self.checked.token = verdict(&judged);
        let state = judged?;
        self.checked.expires_at = [state.expires_at, state.data_access_expires_at].into_iter().flatten().min();
        self.say("The access token holds, may manage and send, and covers the account.").await
    }

    async fn read_token(&self) -> Result<TokenState, Stop> {
        let graph = self.handles.graph;
        let read = match graph.token(&self.credentials()).await {
            // The proof is by another app's secret: without it Meta says whose the token is.
            Err(unread) if !is_passing(&unread) => graph.token(&Credentials::new(self.access_token.expose(), None)).await,
            other => other,
        };
        unless_refused(read, |it| format!("Meta refuses the access token: {it}. {REPLACE_TOKEN}"))
    }

    fn judge(&self, state: TokenState) -> Result<TokenState, Stop> {
        let refused = |why: String| Err(Stop::refused(format!("{why} {REPLACE_TOKEN}")));
        if !state.is_valid {
            let problem = state.problem.as_deref().unwrap_or("Meta does not say why");
            return refused(format!("The access token does not hold any more: {}.", problem.trim_end_matches('.')));
        }
        if let (Some(entered), Some(told)) = (&self.connection.app, &state.app)
            && entered != told
        {
            return refused(format!("The access token was made for app {told}, and the App ID is {entered}."));
        }
        for scope in [MANAGEMENT, MESSAGING] {
            if !state.has(scope) {
                return refused(format!("The access token lacks the permission {scope}."));
            }
            if !state.covers(scope, &self.connection.waba) {
                return refused(format!("The access token has no {scope} for account {}.", self.connection.waba));
            }
        }
        Ok(state)
    }

    async fn check_account(&mut self) -> Result<(), Stop> {
        let waba = self.connection.waba.clone();
        let read = unless_refused(self.handles.graph.account(&waba, &self.credentials()).await, |it| {
            format!("Meta shows no account {waba} to this token: {it}. Correct the Business account ID, then start the connection again.")
        });
        self.checked.account = verdict(&read);
        let account = read?;
        let name = account.name.clone().unwrap_or_default();
        self.checked.account_name = account.name;
        self.checked.account_review = account.review;
        self.checked.messaging_limit = account.messaging_limit;
        self.say(&format!("Account {waba} is there: {name}.")).await
    }

    async fn list_numbers(&mut self) -> Result<(), Stop> {
        let waba = self.connection.waba.clone();
        let listed = self.handles.graph.numbers(&waba, &self.credentials()).await;
        self.records = unless_refused(listed, |it| format!("Meta does not list the numbers of account {waba}: {it}. {REPLACE_TOKEN}"))?;
        let ours = |it: &&NumberRecord| self.connection.numbers.contains(&it.id);
        self.checked.numbers = self.records.iter().filter(ours).map(checked_number).collect();
        Ok(())
    }

    async fn check_numbers(&mut self) -> Result<(), Stop> {
        self.list_numbers().await?;
        if self.connection.numbers.is_empty() {
            self.adopt().await?;
        }
        for id in self.connection.numbers.clone() {
            let Some(record) = self.record(&id) else {
                return Err(Stop::refused(format!("Account {} has no number {id}. {}", self.connection.waba, self.choice())));
            };
            let (status, state) = (record.state.status.clone().unwrap_or_default(), record.state.clone());
            if !can_send_as(state.status.as_deref()) {
                return Err(Stop::refused(format!(
                    "Number {id} is not connected: Meta says {status}. Verify and register it, then start the connection again."
                )));
            }
            let name = record.verified_name.clone().unwrap_or_else(|| "no name".to_owned());
            let quality = state.quality.map_or("not judged", quality_word);
            self.say(&format!("Number {id} is there: {status}, {name}, quality {quality}.")).await?;
        }
        Ok(())
    }

    fn record(&self, id: &NumberId) -> Option<&NumberRecord> {
        self.records.iter().find(|it| it.id == *id)
    }

    /// The numbers that a person may enter.
    fn choice(&self) -> String {
        if self.records.is_empty() {
            return "It has none: add one in WhatsApp Manager.".to_owned();
        }
        let named = |it: &NumberRecord| format!("{} ({})", it.id, it.verified_name.as_deref().unwrap_or("no name"));
        let names: Vec<String> = self.records.iter().map(named).collect();
        format!("Enter one or more of its numbers: {}.", names.join(", "))
    }

    /// Takes the account's only number.
    async fn adopt(&mut self) -> Result<(), Stop> {
        let [only] = self.records.as_slice() else {
            return Err(Stop::refused(format!("No phone number is entered. {}", self.choice())));
        };
        let (number, began) = (only.id.clone(), self.began);
        self.checked.numbers = vec![checked_number(only)];
        let changed = self
            .handles
            .store
            .change_connection(&self.connection.id, |it| {
                let mut next = it.clone();
                next.connection.numbers = vec![number.clone()];
                it.is_starting_since(began).then_some(next)
            })
            .await?;
        if !changed.is_some_and(|it| it.changed) {
            return Err(Stop::Overtaken);
        }
        self.connection.numbers = vec![number.clone()];
        self.say(&format!("No phone number is entered; the account's only one is {number}.")).await
    }

    /// Makes the numbers, the app and its secret the connection's.
    async fn claim(&mut self) -> Result<(), Stop> {
        let Checks { store, vault, settings, .. } = self.handles;
        let app = match &self.connection.app {
            None => None,
            Some(id) => {
                let of_app = |field| AdditionalData::of_app(id.as_str(), field);
                // What the app has already is not rotated into itself.
                let new = self.pending.as_ref().filter(|it| self.current.as_ref() != Some(it));
                Some(AppClaim {
                    id: id.clone(),
                    secret: vault.seal_any(new, &of_app("secret"), self.now).await?,
                    verify_token: vault.seal(&Secret::generate()?, &of_app("verify_token"), self.now).await?,
                    overlap: settings.secret_overlap,
                })
            }
        };
        match store.claim_for_start(&self.connection, self.began, app.as_ref(), self.now).await? {
            Claimed::Done => {}
            Claimed::Overtaken => return Err(Stop::Overtaken),
            Claimed::NumberHeld(number) => {
                let why =
                    format!("Number {number} is connected already. Take it from the connection that has it, then start this one again.");
                return Err(Stop::refused(why));
            }
            Claimed::NumberRests { number, until } => {
                self.say(&format!("Number {number} was released a moment ago: the start goes on within two minutes.")).await?;
                return Err(Stop::Rests(until));
            }
            Claimed::AppHeld => {
                let app = app.map(|it| it.id.to_string()).unwrap_or_default();
                return Err(Stop::refused(format!("App {app} cannot be used here: it is in use elsewhere. Enter an app of your own.")));
            }
        }
        let began = self.began;
        let settle = |it: &StoredConnection| StoredConnection { pending_app_secret: None, ..it.clone() };
        let is_pending = |it: &StoredConnection| it.is_starting_since(began) && it.pending_app_secret.is_some();
        store.change_connection(&self.connection.id, |it| is_pending(it).then(|| settle(it))).await?;
        if let Some(id) = &self.connection.app {
            self.app = store.app(id).await?.filter(|it| it.may_be_used_by(&self.connection.tenant));
        }
        Ok(())
    }

    /// Has our app told of the account, if it is not.
    async fn subscribe(&mut self) -> Result<(), Stop> {
        let Some(app) = self.connection.app.clone() else {
            return self.say("No App ID is entered: messages can be sent, and none come in.").await;
        };
        let (waba, credentials, graph) = (self.connection.waba.clone(), self.credentials(), self.handles.graph);
        let refused = |it: &str| format!("Meta does not subscribe app {app} to account {waba}: {it}. {REPLACE_TOKEN}");
        let apps = unless_refused(graph.subscribed_apps(&waba, &credentials).await, refused)?;
        let subscriber = apps.into_iter().find(|it| it.app == app);
        let ours = connections::callback(&self.handles.settings.webhook_url, &app);
        let elsewhere = subscriber.as_ref().and_then(|it| it.callback.clone()).filter(|it| *it != ours);
        let is_told = subscriber.is_some() && (elsewhere.is_none() || !self.replaces_callback);
        if !is_told {
            unless_refused(graph.subscribe(&waba, &credentials).await, refused)?;
            self.say_changed(true, &format!("App {app} was subscribed to account {waba}.")).await?;
        } else if let Some(address) = elsewhere {
            let callback = Callback::Elsewhere { host: host(&address) };
            let has_changed = self.before.callback.as_ref() != Some(&callback);
            self.say_changed(has_changed, &points_elsewhere(&host(&address))).await?;
            self.checked.callback = Some(callback);
        }
        self.checked.is_subscribed = Some(true);
        Ok(())
    }

    /// Points the app at us, unless it points elsewhere and nobody has said that it may be changed.
    async fn point(&mut self) -> Result<(), Stop> {
        let Some(app_id) = self.connection.app.clone() else { return Ok(()) };
        if self.checked.callback.is_some() {
            return Ok(());
        }
        let ours = connections::callback(&self.handles.settings.webhook_url, &app_id);
        let Some(((_, credentials, _), app)) = self.of_app().zip(self.app.clone()) else {
            let line = format!(
                "No App secret is entered: signatures cannot be checked, so messages that come in are refused. Enter it, then stop and start: \
                 the app is pointed at {ours} then."
            );
            self.checked.callback = Some(Callback::ByHand);
            return self.say(&line).await;
        };
        let graph = self.handles.graph;
        let pointed = match graph.subscription(&app_id, &credentials).await {
            Ok(Some(it)) if it.is_whole(&ours) => Ok(Callback::Ours),
            Ok(Some(it)) if it.callback != ours && !(self.replaces_callback && app.owner != AppOwner::Server) => {
                Ok(Callback::Elsewhere { host: host(&it.callback) })
            }
            Ok(_) => {
                let of_app = AdditionalData::of_app(app_id.as_str(), "verify_token");
                let verify_token = self.handles.vault.open(&app.verify_token, &of_app).await?;
                graph.point(&app_id, &credentials, &ours, verify_token.expose()).await.map(|()| Callback::Ours)
            }
            Err(unread) => Err(unread),
        };
        let callback = match pointed {
            Ok(it) => it,
            Err(unread) if is_passing(&unread) => return Err(Stop::Unread(unread)),
            Err(unread) => Callback::Refused { why: said(&unread.fault) },
        };
        let line = match &callback {
            Callback::Elsewhere { host } => points_elsewhere(host),
            Callback::Refused { why } => format!("Meta does not take the callback {ours}: {why}. Messages do not come in."),
            Callback::Ours | Callback::ByHand => format!("App {app_id} tells us of all that happens."),
        };
        let has_changed = self.before.callback.as_ref() != Some(&callback);
        self.checked.callback = Some(callback);
        self.say_changed(has_changed, &line).await
    }

    /// Keeps how each of the connection's numbers stands; one that its account does not list any more is marked.
    async fn note_numbers(&self, connection: &Connection) -> Result<(), ConnectionError> {
        let Checks { store, queues, .. } = self.handles;
        for id in &connection.numbers {
            match self.record(id) {
                Some(record) => numbers::note(store, queues, connection, id, &record.state, self.now).await?,
                None => {
                    let title = Some("its account does not list it any more".to_owned());
                    let fault = Fault { code: 33, title, details: None };
                    connections::mark_number(store, queues, connection, id, &fault, self.now, self.now).await?;
                }
            }
        }
        Ok(())
    }

    /// Warns once a day of a token that expires soon.
    async fn warn_of_expiry(&mut self) -> Result<(), ConnectionError> {
        let Some(expires_at) = self.checked.expires_at.filter(|it| *it <= self.now.plus(WARNS_BEFORE)) else { return Ok(()) };
        let day = |it: Timestamp| it.as_millis().div_euclid(DAY_MS);
        if self.checked.warned_at.is_some_and(|it| day(it) == day(self.now)) {
            return Ok(());
        }
        let Checks { store, queues, .. } = self.handles;
        let days = expires_at.since(self.now).as_secs().div_ceil(24 * 60 * 60);
        let left = if days == 1 { "one day".to_owned() } else { format!("{days} days") };
        let note = format!("The access token expires within {left}. Replace it, then stop and start the connection.");
        store.log(&self.connection.id, self.began, &note).await?;
        let (id, day) = (self.connection.id.clone(), day(self.now).to_string());
        let what = Happened::ConnectionWarning { code: "token_expires".to_owned(), note };
        feed::tell(queues, &self.connection.tenant, &id, self.began, &["warning", "token_expires", day.as_str()], what).await?;
        self.checked.warned_at = Some(self.now);
        store.note_checked(&id, &self.checked).await?;
        Ok(())
    }
}

const REPLACE_TOKEN: &str = "Replace the access token, then stop and start the connection.";

fn points_elsewhere(host: &str) -> String {
    format!(
        "The app's messages go to {host} today, and nothing was changed. To have them come here, stop the connection and start it with \
         replace_callback."
    )
}

/// What a person is told of a step; nothing of one that Meta did not answer.
fn verdict<T>(step: &Result<T, Stop>) -> Option<Verdict> {
    match step {
        Ok(_) => Some(Verdict::Good),
        Err(Stop::Refused { why, .. }) => Some(Verdict::Bad { why: why.clone() }),
        Err(_) => None,
    }
}

fn checked_number(it: &NumberRecord) -> CheckedNumber {
    CheckedNumber {
        id: it.id.clone(),
        display: it.display.clone(),
        verified_name: it.verified_name.clone(),
        name_status: it.name_status.clone(),
        code_verification: it.code_verification.clone(),
        platform: it.platform.clone(),
        is_official: it.is_official,
        status: it.state.status.clone(),
        quality: it.state.quality,
        throughput: it.state.per_second,
    }
}

fn quality_word(quality: domain::connection::Quality) -> &'static str {
    use domain::connection::Quality;
    match quality {
        Quality::Green => "GREEN",
        Quality::Yellow => "YELLOW",
        Quality::Red => "RED",
        Quality::Unknown => "not judged",
    }
}

/// The host of an address, for people: nothing of its path or query, which may hold a secret.
fn host(address: &str) -> String {
    let behind_scheme = address.split_once("://").map_or(address, |(_, it)| it);
    let authority = behind_scheme.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_address_people_see_the_host() {
        let table = [
            ("https://hooks.example.com/a?token=secret", "hooks.example.com"),
            ("https://user:secret@hooks.example.com:8443/", "hooks.example.com:8443"),
            ("hooks.example.com", "hooks.example.com"),
        ];
        for (address, expected) in table {
            assert_eq!(host(address), expected);
        }
    }
}
