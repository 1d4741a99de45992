//! Connections: `/v1/connections`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{Method, StatusCode};
use channel::agents::{AgentEdit, QUIET_LIMIT, check};
use channel::connections::{
    self, ConnectionDraft, ConnectionEdit, ConnectionView, DAYS_LIMIT, Edited, Field, FieldProblem, MaskedSecret, StartOptions, Started,
};
use channel::store::{LogLine, StoredConnection};
use channel::vault::Secret;
use domain::connection::{Connection, FILE_DAYS, LEAST_DAYS, MESSAGE_DAYS, State as Standing};
use domain::ids::{AgentId, AppId, ConnectionId, NumberId, TenantId, WabaId};
use domain::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::access::{Caller, Manage, Read};
use crate::agents::{self, AttachedAgent, Delivery, Settings, SpeechToText, attached};
use crate::answers::{Accepted, Created, Done, Found};
use crate::document::{Api, Route};
use crate::fields::{Body, Entered, Path, Query, fields};
use crate::paging::{Page, Paging};
use crate::problems::{FieldError, Problem};
use crate::versions::{IfMatch, Tagged};
use crate::{Handles, Now};

const LIST: &str = "/v1/connections";
const ONE: &str = "/v1/connections/{connection}";
const START: &str = "/v1/connections/{connection}/start";
const STOP: &str = "/v1/connections/{connection}/stop";
const LOGS: &str = "/v1/connections/{connection}/logs";

/// The routes.
pub(crate) fn routes(api: Api) -> Api {
    let route = |method, path, id, summary, refusals| Route { method, path, id, summary, refusals };
    api.route(route(Method::GET, LIST, "listConnections", "Lists the tenant's connections.", &[]), list)
        .route(route(Method::POST, LIST, "createConnection", CREATES, &[]), create)
        .route(route(Method::GET, ONE, "getConnection", "Shows a connection, its secrets masked.", &[]), get)
        .route(route(Method::PATCH, ONE, "editConnection", EDITS, &[(StatusCode::CONFLICT, "It must be stopped first.")]), edit)
        .route(route(Method::DELETE, ONE, "deleteConnection", DELETES, &[]), delete)
        .route(
            route(
                Method::POST,
                START,
                "startConnection",
                STARTS,
                &[(StatusCode::CONFLICT, "It runs, and its callback is replaced by a start.")],
            ),
            start,
        )
        .route(route(Method::POST, STOP, "stopConnection", STOPS, &[]), stop)
        .route(route(Method::GET, LOGS, "listLogs", "Lists what happened to a connection in the last 30 days, newest first.", &[]), logs)
}

const CREATES: &str = "Makes a connection. It is STOPPED, or STARTING if `start` says so; `attach` attaches an agent in the same call.";
const EDITS: &str = "Changes a connection; what is absent stays. A secret that is masked or absent stays too.";
const DELETES: &str = "Deletes a connection with its secrets and its conversations; its numbers are free after two minutes.";
const STARTS: &str = "Starts a connection: Meta is asked about it, and its Logs say what came of that.";
const STOPS: &str = "Stops a connection: it sends nothing until it is started again. What customers write is kept.";

/// Names a connection.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct OfConnection {
    /// The connection.
    pub(crate) connection: ConnectionId,
}

/// A secret: its text, or the mask under which it was shown, which leaves it as it is.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum EditedSecret {
    /// Another one.
    Text(String),
    /// The same.
    #[expect(dead_code, reason = "a mask says nothing")]
    Mask(Mask),
}

impl EditedSecret {
    pub(crate) fn secret(self) -> Option<Secret> {
        match self {
            Self::Text(it) => Some(Secret::new(it)),
            Self::Mask(_) => None,
        }
    }
}

/// A secret, as it is shown.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Mask {
    /// Is there one?
    set: bool,
    /// Its last four characters, if it is long enough to show them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// It waits for the next start, which has Meta confirm it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pending: bool,
}

impl Mask {
    pub(crate) fn of(it: MaskedSecret, pending: bool) -> Self {
        Self { set: it.is_set, hint: it.hint, pending }
    }
}

/// An agent to attach to a new connection.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Attach {
    /// The agent.
    agent: AgentId,
    /// Does it take the turns? True if nothing is said.
    #[serde(default)]
    inbound: Option<bool>,
    /// How its turns reach it: over `turns.fifo` if nothing is said.
    #[serde(default)]
    delivery: Option<Delivery>,
    /// What turns voice messages into words for it.
    #[serde(default)]
    speech_to_text: Option<SpeechToText>,
    /// For how many milliseconds it is waited whether the customer goes on writing: 0 to 3000; 0 if nothing is said.
    #[serde(default)]
    #[schemars(range(max = QUIET_LIMIT))]
    quiet_ms: Option<u64>,
}

impl Attach {
    fn edit(self) -> (AgentId, AgentEdit) {
        let Self { agent, inbound, delivery, speech_to_text, quiet_ms } = self;
        (agent, Settings { inbound, delivery, speech_to_text: speech_to_text.map(Some), quiet_ms, rotate_secret: None }.edit())
    }
}

fields! {
    /// A connection to make.
    NewConnection {
        /// What people call it: at most 100 characters.
        name: Entered,
        /// What people say of it: at most 500 characters.
        description: Option<String>,
        /// The Meta app; without one it sends, and nothing comes in.
        app_id: Option<String>,
        /// The app's secret, which proves webhooks. Empty, none is entered: the app's own stays, if the tenant has entered it before.
        app_secret: Option<String>,
        /// What sends.
        access_token: Entered,
        /// The phone numbers, in the order in which first sends rotate; none to have the account's only one taken at the start.
        phone_number_ids: Option<Vec<String>>,
        /// The WhatsApp Business account.
        business_account_id: Entered,
        /// Marketing templates go out through Meta's Marketing Messages API.
        marketing_messages: Option<bool>,
        /// Utility templates are exempt from the repeat guard.
        utility_exempt: Option<bool>,
        /// For how many days messages are kept: 14 to 3650; 365 if nothing is said.
        #[schemars(range(min = LEAST_DAYS, max = DAYS_LIMIT))]
        message_days: Option<u16>,
        /// For how many days files are kept: 1 to 3650; 90 if nothing is said.
        #[schemars(range(min = 1, max = DAYS_LIMIT))]
        file_days: Option<u16>,
        /// An agent to attach.
        attach: Option<Attach>,
        /// Start it at once.
        start: Option<bool>,
    }
}

fields! {
    /// What is changed of a connection.
    ChangedConnection {
        /// What people call it.
        name: Option<String>,
        /// What people say of it.
        description: Option<String>,
        /// The Meta app; empty to have none.
        app_id: Option<String>,
        /// The app's secret.
        app_secret: Option<EditedSecret>,
        /// What sends.
        access_token: Option<EditedSecret>,
        /// The phone numbers.
        phone_number_ids: Option<Vec<String>>,
        /// The WhatsApp Business account.
        business_account_id: Option<String>,
        /// Marketing templates go out through Meta's Marketing Messages API.
        marketing_messages: Option<bool>,
        /// Utility templates are exempt from the repeat guard.
        utility_exempt: Option<bool>,
        /// For how many days messages are kept that come from now on.
        #[schemars(range(min = LEAST_DAYS, max = DAYS_LIMIT))]
        message_days: Option<u16>,
        /// For how many days files are kept that come from now on.
        #[schemars(range(min = 1, max = DAYS_LIMIT))]
        file_days: Option<u16>,
    }
}

fields! {
    /// How a connection is started.
    HowToStart {
        /// Point the app's webhooks at us though they point elsewhere today.
        replace_callback: Option<bool>,
    }
}

/// A connection.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ShownConnection {
    /// Its id.
    id: ConnectionId,
    /// What people call it.
    name: String,
    /// What people say of it.
    description: String,
    /// The Meta app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    app_id: Option<AppId>,
    /// The app's secret.
    app_secret: Mask,
    /// What sends.
    access_token: Mask,
    /// The phone numbers, in the order in which first sends rotate.
    phone_number_ids: Vec<NumberId>,
    /// The WhatsApp Business account.
    business_account_id: WabaId,
    /// Marketing templates go out through Meta's Marketing Messages API.
    marketing_messages: bool,
    /// Utility templates are exempt from the repeat guard.
    utility_exempt: bool,
    /// For how many days messages are kept.
    message_days: u16,
    /// For how many days files are kept.
    file_days: u16,
    /// Where it stands.
    state: Standing,
    /// When it last began to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    running_since: Option<Timestamp>,
    /// When it last ceased to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stopped_at: Option<Timestamp>,
}

impl ShownConnection {
    fn of(it: ConnectionView) -> Self {
        let connection = it.connection;
        Self {
            id: connection.id,
            name: connection.name,
            description: connection.description,
            app_id: connection.app,
            app_secret: Mask::of(it.app_secret, it.app_secret_is_pending),
            access_token: Mask::of(it.access_token, false),
            phone_number_ids: connection.numbers,
            business_account_id: connection.waba,
            marketing_messages: connection.marketing_messages,
            utility_exempt: connection.utility_exempt,
            message_days: connection.message_days.unwrap_or(MESSAGE_DAYS),
            file_days: connection.file_days.unwrap_or(FILE_DAYS),
            state: connection.lifecycle.state,
            running_since: connection.lifecycle.running_since,
            stopped_at: connection.lifecycle.stopped_at,
        }
    }
}

/// A connection that was made.
#[derive(Debug, Serialize, JsonSchema)]
struct MadeConnection {
    /// The connection.
    #[serde(flatten)]
    connection: ShownConnection,
    /// The agent that was attached in the same call; the secret of one that listens on HTTPS is shown here only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attached: Option<AttachedAgent>,
}

/// Where a connection stands.
#[derive(Debug, Serialize, JsonSchema)]
struct ConnectionStanding {
    /// The connection.
    id: ConnectionId,
    /// Where it stands.
    state: Standing,
}

/// A line of a connection's Logs.
#[derive(Debug, Serialize, JsonSchema)]
struct Line {
    /// When it was written down.
    at: Timestamp,
    /// What happened.
    text: String,
}

/// A connection, if it is this tenant's.
pub(crate) async fn stored(handles: &Handles, tenant: &TenantId, id: &ConnectionId) -> Result<StoredConnection, Problem> {
    connections::get(&handles.store, tenant, id).await?.ok_or_else(Problem::not_found)
}

/// The same, without its secrets.
pub(crate) async fn owned(handles: &Handles, tenant: &TenantId, id: &ConnectionId) -> Result<Connection, Problem> {
    stored(handles, tenant, id).await.map(|it| it.connection)
}

/// What is wrong, as the API names it.
pub(crate) fn invalid(problems: Vec<FieldProblem>) -> Problem {
    Problem::invalid(errors(problems))
}

/// Fields of the use-case as the API names them.
fn errors(problems: Vec<FieldProblem>) -> Vec<FieldError> {
    let error = |it: FieldProblem| {
        let field = match it.field {
            Field::Name => "name",
            Field::Description => "description",
            Field::App => "app_id",
            Field::AppSecret => "app_secret",
            Field::AccessToken => "access_token",
            Field::Numbers => "phone_number_ids",
            Field::Waba => "business_account_id",
            Field::MessageDays => "message_days",
            Field::FileDays => "file_days",
        };
        let code = if it.code == "missing" { "required" } else { it.code };
        FieldError::new(field, code, format!("{} {}", it.problem, it.advice))
    };
    problems.into_iter().map(error).collect()
}

pub(crate) async fn shown(handles: &Handles, stored: &StoredConnection) -> Result<ShownConnection, Problem> {
    Ok(ShownConnection::of(connections::view(&handles.store, &handles.vault, stored).await?))
}

async fn list(
    caller: Caller<Read>,
    State(handles): State<Arc<Handles>>,
    Query(paging): Query<Paging>,
) -> Result<Found<Page<ShownConnection>>, Problem> {
    let after: Option<ConnectionId> = paging.after()?;
    let found = connections::list(&handles.store, &caller.tenant, after.as_ref(), paging.limit()).await?;
    let mut items = Vec::with_capacity(found.connections.len());
    for it in &found.connections {
        items.push(shown(&handles, it).await?);
    }
    Ok(Found(Page::new(items, found.after)))
}

async fn create(
    caller: Caller<Manage>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Body(new): Body<NewConnection>,
) -> Result<Created<MadeConnection>, Problem> {
    let attach = new.attach.map(Attach::edit);
    let draft = ConnectionDraft {
        tenant: caller.tenant.clone(),
        name: new.name.0,
        description: new.description.unwrap_or_default(),
        app: new.app_id.unwrap_or_default(),
        app_secret: new.app_secret.map(Secret::new),
        access_token: Some(Secret::new(new.access_token.0)),
        numbers: new.phone_number_ids.unwrap_or_default(),
        waba: new.business_account_id.0,
        marketing_messages: new.marketing_messages.unwrap_or_default(),
        utility_exempt: new.utility_exempt.unwrap_or_default(),
        message_days: new.message_days,
        file_days: new.file_days,
    };
    let of_agent = attach.as_ref().map(|it| check(&it.1, handles.allow_loopback)).unwrap_or_default();
    if !of_agent.is_empty() {
        let of_connection = errors(connections::check(&draft));
        return Err(Problem::invalid(of_connection.into_iter().chain(agents::errors(of_agent, "attach.")).collect()));
    }
    let made = connections::create(&handles.store, &handles.vault, &draft, now.0).await?.map_err(invalid)?;
    let agent = match &attach {
        Some((agent, edit)) => Some(attached(&handles, &made.connection, agent, edit, now.0).await?),
        None => None,
    };
    if new.start.unwrap_or_default() {
        connections::start(&handles.store, &handles.queues, &made.connection.id, StartOptions::default(), now.0).await?;
    }
    let made = stored(&handles, &caller.tenant, &made.connection.id).await?;
    Ok(Created(MadeConnection { connection: shown(&handles, &made).await?, attached: agent }))
}

async fn get(
    caller: Caller<Read>,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConnection>,
) -> Result<Tagged<ShownConnection>, Problem> {
    let found = stored(&handles, &caller.tenant, &it.connection).await?;
    Ok(Tagged(found.version, shown(&handles, &found).await?))
}

async fn edit(
    caller: Caller<Manage>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConnection>,
    version: IfMatch,
    Body(changed): Body<ChangedConnection>,
) -> Result<Tagged<ShownConnection>, Problem> {
    let edit = ConnectionEdit {
        name: changed.name,
        description: changed.description,
        app: changed.app_id,
        app_secret: changed.app_secret.and_then(EditedSecret::secret),
        access_token: changed.access_token.and_then(EditedSecret::secret),
        numbers: changed.phone_number_ids,
        waba: changed.business_account_id,
        marketing_messages: changed.marketing_messages,
        utility_exempt: changed.utility_exempt,
        message_days: changed.message_days,
        file_days: changed.file_days,
    };
    let of = (&caller.tenant, &it.connection);
    match connections::edit((&handles.store, &handles.queues, &handles.vault), of, version.0, &edit, now.0).await? {
        Edited::Done(it) => Ok(Tagged(it.version, shown(&handles, &it).await?)),
        Edited::Invalid(problems) => Err(invalid(problems)),
        Edited::Moved => Err(IfMatch::moved()),
        Edited::StopFirst => {
            let problem = Problem::new(StatusCode::CONFLICT, "stop_first", "The connection is not stopped.");
            Err(problem.saying("App, account and numbers change while it is STOPPED or in ERROR. Stop it, edit it, and start it again."))
        }
        Edited::Unknown => Err(Problem::not_found()),
    }
}

async fn delete(
    caller: Caller<Manage>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConnection>,
) -> Result<Done, Problem> {
    let was_there = connections::delete(&handles.store, &handles.queues, &caller.tenant, &it.connection, now.0).await?;
    was_there.then_some(Done).ok_or_else(Problem::not_found)
}

async fn start(
    caller: Caller<Manage>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConnection>,
    Body(how): Body<HowToStart>,
) -> Result<Accepted<ConnectionStanding>, Problem> {
    owned(&handles, &caller.tenant, &it.connection).await?;
    let options = StartOptions { replace_callback: how.replace_callback.unwrap_or_default() };
    match connections::start(&handles.store, &handles.queues, &it.connection, options, now.0).await? {
        Started::Running if options.replace_callback => {
            let problem = Problem::new(StatusCode::CONFLICT, "stop_first", "The connection runs.");
            Err(problem.saying("The callback is replaced by a start. Stop the connection, then start it with replace_callback."))
        }
        Started::Starting | Started::Running => standing(&handles, &caller.tenant, &it.connection).await,
        Started::Unknown => Err(Problem::not_found()),
    }
}

async fn stop(
    caller: Caller<Manage>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConnection>,
) -> Result<Accepted<ConnectionStanding>, Problem> {
    owned(&handles, &caller.tenant, &it.connection).await?;
    connections::stop(&handles.store, &handles.queues, &it.connection, now.0).await?;
    standing(&handles, &caller.tenant, &it.connection).await
}

async fn standing(handles: &Handles, tenant: &TenantId, id: &ConnectionId) -> Result<Accepted<ConnectionStanding>, Problem> {
    let connection = owned(handles, tenant, id).await?;
    Ok(Accepted(ConnectionStanding { id: connection.id, state: connection.lifecycle.state }))
}

async fn logs(
    caller: Caller<Read>,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConnection>,
    Query(paging): Query<Paging>,
) -> Result<Found<Page<Line>>, Problem> {
    let connection = owned(&handles, &caller.tenant, &it.connection).await?;
    let found = handles.store.logs(&connection.id, paging.after::<String>()?.as_deref(), paging.limit()).await?;
    let lines = found.items.into_iter().map(|LogLine { at, text }| Line { at, text }).collect();
    Ok(Found(Page::new(lines, found.ended_at)))
}
