//! Sign in with Meta (Embedded Signup): a code, an account and its numbers become a connection that starts.
//!
//! What the browser says is proved with the token that the code brings: nothing is believed.
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/embedded-signup/overview>

use std::collections::BTreeMap;
use std::time::Duration;

use domain::ids::{AppId, ConnectionId, NumberId, TenantId, WabaId};
use domain::time::Timestamp;
use meta::account::{MANAGEMENT, MESSAGING, NumberRecord};
use meta::graph::{Credentials, Graph, Unread};

use crate::connections::{self, ConnectionDraft, ConnectionError, FieldProblem, StartOptions, create_as, wrong_name};
use crate::endings;
use crate::health::is_passing;
use crate::queues::Queues;
use crate::store::{AppClaim, AppOwner, Store, StoredConnection};
use crate::vault::{AdditionalData, Secret, Vault};

/// What a person is told where the server has no app of its own.
pub const NOT_CONFIGURED: &str = "Meta App ID and App Secret are not configured on the server";

/// The server's own Meta app.
#[derive(Debug, Clone)]
pub struct ServerApp {
    /// Its id.
    pub id: AppId,
    /// Its secret.
    pub secret: Secret,
    /// How long the secret before is accepted beside it.
    pub overlap: Duration,
}

impl ServerApp {
    /// An app by its id; nothing if that is none.
    #[must_use]
    pub fn new(id: &str, secret: Secret, overlap: Duration) -> Option<Self> {
        Some(Self { id: AppId::parse(id).ok()?, secret, overlap })
    }
}

/// Has webhooks that are signed with the server's app's secret accepted: what is told of a new one is the operator's word. False if a tenant
/// holds the app.
///
/// # Errors
/// [`ConnectionError`].
pub async fn keep_app(store: &Store, vault: &Vault, app: &ServerApp, now: Timestamp) -> Result<bool, ConnectionError> {
    let of_app = |field| AdditionalData::of_app(app.id.as_str(), field);
    if let Some(known) = store.app(&app.id).await? {
        if known.owner != AppOwner::Server {
            return Ok(false);
        }
        if vault.open_any(known.secret.as_ref(), &of_app("secret")).await?.as_ref() == Some(&app.secret) {
            return Ok(true);
        }
    }
    let secret = vault.seal(&app.secret, &of_app("secret"), now).await?;
    let verify_token = vault.seal(&Secret::generate()?, &of_app("verify_token"), now).await?;
    Ok(store.keep_server_app(&AppClaim { id: app.id.clone(), secret: Some(secret), verify_token, overlap: app.overlap }, now).await?)
}

/// What the browser brings back from Meta.
#[derive(Debug, Clone)]
pub struct SignUp {
    /// Whose connection it is to be.
    pub tenant: TenantId,
    /// What people are to call it.
    pub name: String,
    /// The code: good for 30 seconds, and once.
    pub code: Secret,
    /// The account.
    pub waba: WabaId,
    /// Its numbers, in order; none to have the start take the account's only one.
    pub numbers: Vec<NumberId>,
}

/// What came of a sign-in.
#[derive(Debug)]
pub enum SignedUp {
    /// The connection is made, and is being started.
    Starting(Box<StoredConnection>),
    /// The server has no app: see [`NOT_CONFIGURED`].
    NotConfigured,
    /// The name cannot be so.
    Invalid(Vec<FieldProblem>),
    /// Meta does not take the code: it is older than 30 seconds, or was used. The person signs in again.
    CodeRefused(String),
    /// The token that the code brought does not open this account or these numbers.
    Unproven(String),
    /// Meta does not answer: the person signs in again.
    Unanswered(String),
}

/// Makes a connection of a sign-in with Meta, registers those of its numbers that are not registered, once, and starts it.
///
/// # Errors
/// [`ConnectionError`].
pub async fn sign_up(
    store: &Store,
    queues: &Queues,
    vault: &Vault,
    graph: &Graph,
    app: Option<&ServerApp>,
    sign_up: &SignUp,
    now: Timestamp,
) -> Result<SignedUp, ConnectionError> {
    let Some(app) = app else { return Ok(SignedUp::NotConfigured) };
    // Before the code is spent.
    let problems = wrong_name(&sign_up.name);
    if !problems.is_empty() {
        return Ok(SignedUp::Invalid(problems));
    }
    let token = match graph.exchange(&app.id, app.secret.expose(), sign_up.code.expose()).await {
        Ok(it) => Secret::new(it),
        Err(unread) if is_passing(&unread) && unread.fault.code != 1 => return Ok(unanswered(&unread)),
        Err(unread) => return Ok(SignedUp::CodeRefused(said(&unread))),
    };
    let credentials = Credentials::new(token.expose(), Some(app.secret.expose().to_owned()));
    let records = match prove(graph, app, sign_up, &credentials).await {
        Ok(records) => records,
        Err(refused) => return Ok(refused),
    };
    if !keep_app(store, vault, app, now).await? {
        return Ok(SignedUp::NotConfigured);
    }
    let draft = ConnectionDraft {
        tenant: sign_up.tenant.clone(),
        name: sign_up.name.clone(),
        description: String::new(),
        app: app.id.to_string(),
        app_secret: None,
        access_token: Some(token),
        numbers: sign_up.numbers.iter().map(ToString::to_string).collect(),
        waba: sign_up.waba.to_string(),
        marketing_messages: false,
        utility_exempt: false,
        message_days: None,
        file_days: None,
    };
    let id = ConnectionId::parse(Secret::generate()?.expose()).expect("what is generated is made of the characters of an id");
    if let Err(problems) = create_as(store, vault, &draft, &id, now).await? {
        return Ok(SignedUp::Invalid(problems));
    }
    register(store, vault, graph, &id, &records, &credentials, now).await?;
    connections::start(store, queues, &id, StartOptions::default(), now).await?;
    let stored = store.connection(&id).await?;
    Ok(stored.map_or(SignedUp::NotConfigured, |it| SignedUp::Starting(Box::new(it))))
}

/// Shows with the token that the account and the numbers are what the browser says; the numbers that are meant.
async fn prove(graph: &Graph, app: &ServerApp, sign_up: &SignUp, credentials: &Credentials) -> Result<Vec<NumberRecord>, SignedUp> {
    let refused = |unread: Unread| if is_passing(&unread) { unanswered(&unread) } else { SignedUp::Unproven(said(&unread)) };
    let state = graph.token(credentials).await.map_err(refused)?;
    if !state.is_valid || state.app.as_ref().is_some_and(|it| *it != app.id) {
        return Err(SignedUp::Unproven("Meta's token is not for this app.".to_owned()));
    }
    let waba = &sign_up.waba;
    if let Some(scope) = [MANAGEMENT, MESSAGING].into_iter().find(|it| !state.covers(it, waba)) {
        return Err(SignedUp::Unproven(format!("The sign-in does not grant {scope} for account {waba}.")));
    }
    let records = graph.numbers(waba, credentials).await.map_err(refused)?;
    if let Some(number) = sign_up.numbers.iter().find(|it| !records.iter().any(|record| record.id == **it)) {
        return Err(SignedUp::Unproven(format!("Account {waba} has no number {number}.")));
    }
    let is_meant = |it: &NumberRecord| sign_up.numbers.contains(&it.id) || (sign_up.numbers.is_empty() && records.len() == 1);
    Ok(records.iter().filter(|it| is_meant(it)).cloned().collect())
}

/// Registers each number that is not, once. Its PIN is kept before Meta is told it: a PIN that is lost locks the number's owner out.
async fn register(
    store: &Store,
    vault: &Vault,
    graph: &Graph,
    id: &ConnectionId,
    records: &[NumberRecord],
    credentials: &Credentials,
    now: Timestamp,
) -> Result<(), ConnectionError> {
    let new: Vec<&NumberRecord> = records.iter().filter(|it| it.platform.as_deref() != Some("CLOUD_API")).collect();
    let mut pins = BTreeMap::new();
    let mut sealed = BTreeMap::new();
    for record in &new {
        let pin = Secret::generate_pin()?;
        sealed.insert(record.id.clone(), vault.seal(&pin, &AdditionalData::of_number(record.id.as_str(), "pin"), now).await?);
        pins.insert(record.id.clone(), pin);
    }
    if !sealed.is_empty() {
        store.change_connection(id, |it| Some(StoredConnection { pins: sealed.clone(), ..it.clone() })).await?;
    }
    for (number, pin) in &pins {
        let line = match graph.register(number, credentials, pin.expose()).await {
            Ok(()) => format!("Number {number} was registered, with a two-step PIN that is kept here."),
            Err(unread) => {
                format!("Number {number} could not be registered: {} Register it, then start the connection again.", said(&unread))
            }
        };
        store.log(id, now, &line).await?;
    }
    Ok(())
}

fn unanswered(unread: &Unread) -> SignedUp {
    SignedUp::Unanswered(said(unread))
}

fn said(unread: &Unread) -> String {
    format!("{} (code {}).", endings::note(&unread.fault), unread.fault.code)
}
