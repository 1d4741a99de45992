//! Agents on a connection: `/v1/connections/{connection}/agents`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{Method, StatusCode};
use channel::agents::{self, AgentEdit, AgentField, AgentProblem, AgentView, Attached, QUIET_LIMIT, SpeechToTextEdit};
use domain::connection::Connection;
use domain::ids::{AgentId, ConnectionId};
use domain::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::access::{Caller, Manage, Read};
use crate::answers::{Created, Done, Found};
use crate::connections::{EditedSecret, Mask, OfConnection, owned};
use crate::document::{Api, Route};
use crate::fields::{Body, Fields, FromFields, Path, Query, fields};
use crate::paging::{Page, Paging};
use crate::problems::{FieldError, Problem};
use crate::{Handles, Now};

const LIST: &str = "/v1/connections/{connection}/agents";
const ONE: &str = "/v1/connections/{connection}/agents/{agent}";
const HELD: (StatusCode, &str) = (StatusCode::CONFLICT, "Another agent has Inbound; `holder` names it.");
const ATTACHES: &str = "Attaches an agent to a connection. The secret of one that listens on HTTPS is shown in this answer only.";
const CHANGES: &str = "Changes how an agent is attached; what is absent stays. Another secret is shown in this answer only.";

/// The routes.
pub(crate) fn routes(api: Api) -> Api {
    let route = |method, path, id, summary, refusals| Route { method, path, id, summary, refusals };
    api.route(route(Method::GET, LIST, "listAgents", "Lists the agents that are attached to a connection.", &[]), list)
        .route(route(Method::POST, LIST, "attachAgent", ATTACHES, &[HELD]), attach)
        .route(route(Method::PUT, ONE, "changeAgent", CHANGES, &[HELD]), change)
        .route(route(Method::DELETE, ONE, "detachAgent", "Detaches an agent: it sends no more, and takes no turns.", &[]), detach)
}

/// Names an agent on a connection.
#[derive(Debug, Deserialize, JsonSchema)]
struct OfAgent {
    /// The connection.
    connection: ConnectionId,
    /// The agent.
    agent: AgentId,
}

/// How an agent's turns reach it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Delivery {
    /// Over the queue `turns.fifo`.
    Turns,
    /// As signed requests: <https://www.standardwebhooks.com>.
    Https {
        /// The address: https, at port 443 of a public host.
        url: String,
    },
}

/// An OpenAI-compatible transcription endpoint.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SpeechToText {
    /// Its address, whole: `https://api.example/v1/audio/transcriptions`.
    url: String,
    /// The model that is asked for.
    model: String,
    /// The language that is spoken, in two letters as `es`; without one the endpoint finds out.
    #[serde(default)]
    language: Option<String>,
    /// The key that opens it. Masked or absent, it stays as it is.
    #[serde(default)]
    key: Option<EditedSecret>,
}

impl SpeechToText {
    fn edit(self) -> SpeechToTextEdit {
        let key = self.key.and_then(EditedSecret::secret);
        SpeechToTextEdit { url: self.url, model: self.model, language: self.language, key }
    }
}

/// How an agent is attached, as it is entered.
#[derive(Default)]
pub(crate) struct Settings {
    pub(crate) inbound: Option<bool>,
    pub(crate) delivery: Option<Delivery>,
    pub(crate) speech_to_text: Option<Option<SpeechToText>>,
    pub(crate) quiet_ms: Option<u64>,
    pub(crate) rotate_secret: Option<bool>,
}

impl Settings {
    pub(crate) fn edit(self) -> AgentEdit {
        AgentEdit {
            inbound: self.inbound,
            delivery: self.delivery.map(|it| match it {
                Delivery::Turns => agents::Delivery::Turns,
                Delivery::Https { url } => agents::Delivery::Https { url },
            }),
            speech_to_text: self.speech_to_text.map(|it| it.map(SpeechToText::edit)),
            quiet_ms: self.quiet_ms,
            rotate_secret: self.rotate_secret.unwrap_or_default(),
        }
    }
}

fields! {
    /// An agent to attach.
    NewAttachment {
        /// The agent.
        agent: AgentId,
        /// Does it take the turns? If not, it may only send. True if nothing is said; one agent of a connection may.
        inbound: Option<bool>,
        /// How its turns reach it: over `turns.fifo` if nothing is said.
        delivery: Option<Delivery>,
        /// What turns voice messages into words for it.
        speech_to_text: Option<SpeechToText>,
        /// For how many milliseconds it is waited whether the customer goes on writing: 0 to 3000; 0 if nothing is said.
        #[schemars(range(max = QUIET_LIMIT))]
        quiet_ms: Option<u64>,
    }
}

/// What is changed of how an agent is attached.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ChangedAttachment {
    /// Does the agent take the turns?
    inbound: Option<bool>,
    /// How its turns reach it.
    delivery: Option<Delivery>,
    /// What turns voice messages into words for it; null to have it without.
    #[schemars(with = "Option<SpeechToText>")]
    speech_to_text: Option<Option<SpeechToText>>,
    /// For how many milliseconds it is waited whether the customer goes on writing: 0 to 3000.
    #[schemars(range(max = QUIET_LIMIT))]
    quiet_ms: Option<u64>,
    /// Make another secret for its endpoint. For a day its turns are signed with the one before as well.
    rotate_secret: Option<bool>,
}

impl FromFields for ChangedAttachment {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let inbound = fields.take("inbound");
        let delivery = fields.take("delivery");
        let speech_to_text = if fields.has("speech_to_text") { fields.take("speech_to_text").map(Some) } else { Some(None) };
        let quiet_ms = fields.take("quiet_ms");
        let rotate_secret = fields.take("rotate_secret");
        Some(Self {
            inbound: inbound?,
            delivery: delivery?,
            speech_to_text: speech_to_text?,
            quiet_ms: quiet_ms?,
            rotate_secret: rotate_secret?,
        })
    }
}

/// An agent on a connection.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AttachedAgent {
    /// The agent.
    agent: AgentId,
    /// Does it take the turns? If not, it may only send.
    inbound: bool,
    /// How its turns reach it.
    delivery: Delivery,
    /// What its turns are signed with, if it listens on HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signing_secret: Option<SigningSecret>,
    /// What turns voice messages into words for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    speech_to_text: Option<ShownSpeechToText>,
    /// For how many milliseconds it is waited whether the customer goes on writing.
    quiet_ms: u16,
    /// Since when its endpoint is down: its turns are kept meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    down_since: Option<Timestamp>,
}

/// The secret of an agent's endpoint.
#[derive(Debug, Serialize, JsonSchema)]
struct SigningSecret {
    /// That there is one, and its last four characters.
    #[serde(flatten)]
    mask: Mask,
    /// The secret itself: in the answer to the request that had it made, and never again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Until when turns are signed with the secret before as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous_until: Option<Timestamp>,
}

/// A transcription endpoint as it is shown.
#[derive(Debug, Serialize, JsonSchema)]
struct ShownSpeechToText {
    /// Its address.
    url: String,
    /// The model that is asked for.
    model: String,
    /// The language that is spoken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    language: Option<String>,
    /// The key that opens it.
    key: Mask,
}

impl AttachedAgent {
    fn of(it: AgentView) -> Self {
        let AgentView { attachment, signing_secret, new_secret, speech_key } = it;
        let signing_secret = attachment.endpoint.as_ref().map(|endpoint| SigningSecret {
            mask: Mask::of(signing_secret, false),
            text: new_secret.map(|it| it.expose().to_owned()),
            previous_until: endpoint.previous.as_ref().map(|it| it.1),
        });
        let speech_to_text = attachment.speech_to_text.map(|it| ShownSpeechToText {
            url: it.url,
            model: it.model,
            language: it.language,
            key: Mask::of(speech_key, false),
        });
        Self {
            agent: attachment.agent,
            inbound: attachment.inbound,
            delivery: attachment.endpoint.map_or(Delivery::Turns, |it| Delivery::Https { url: it.url }),
            signing_secret,
            speech_to_text,
            quiet_ms: attachment.quiet_ms,
            down_since: attachment.down_since,
        }
    }
}

async fn list(
    caller: Caller<Read>,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConnection>,
    Query(paging): Query<Paging>,
) -> Result<Found<Page<AttachedAgent>>, Problem> {
    let connection = owned(&handles, &caller.tenant, &it.connection).await?;
    let found = handles.store.agents(&connection.id, paging.after::<String>()?.as_deref(), paging.limit()).await?;
    let mut items = Vec::with_capacity(found.items.len());
    for it in found.items {
        items.push(AttachedAgent::of(agents::view(&handles.vault, it).await?));
    }
    Ok(Found(Page::new(items, found.ended_at)))
}

async fn attach(
    caller: Caller<Manage>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConnection>,
    Body(new): Body<NewAttachment>,
) -> Result<Created<AttachedAgent>, Problem> {
    let connection = owned(&handles, &caller.tenant, &it.connection).await?;
    let NewAttachment { agent, inbound, delivery, speech_to_text, quiet_ms } = new;
    let settings = Settings { inbound, delivery, speech_to_text: speech_to_text.map(Some), quiet_ms, rotate_secret: None };
    attached(&handles, &connection, &agent, &settings.edit(), now.0).await.map(Created)
}

async fn change(
    caller: Caller<Manage>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfAgent>,
    Body(to): Body<ChangedAttachment>,
) -> Result<Found<AttachedAgent>, Problem> {
    let connection = owned(&handles, &caller.tenant, &it.connection).await?;
    handles.store.attachment(&connection.id, &it.agent).await?.ok_or_else(Problem::not_found)?;
    let ChangedAttachment { inbound, delivery, speech_to_text, quiet_ms, rotate_secret } = to;
    let settings = Settings { inbound, delivery, speech_to_text, quiet_ms, rotate_secret };
    attached(&handles, &connection, &it.agent, &settings.edit(), now.0).await.map(Found)
}

async fn detach(caller: Caller<Manage>, now: Now, State(handles): State<Arc<Handles>>, Path(it): Path<OfAgent>) -> Result<Done, Problem> {
    let connection = owned(&handles, &caller.tenant, &it.connection).await?;
    let was_attached = agents::detach(&handles.store, &connection, &it.agent, now.0).await?;
    was_attached.then_some(Done).ok_or_else(Problem::not_found)
}

pub(crate) async fn attached(
    handles: &Handles,
    connection: &Connection,
    agent: &AgentId,
    edit: &AgentEdit,
    now: Timestamp,
) -> Result<AttachedAgent, Problem> {
    let Handles { store, queues, vault, .. } = handles;
    match agents::attach((store, queues, vault), (connection, agent), edit, handles.allow_loopback, now).await? {
        Attached::Done(it) => Ok(AttachedAgent::of(*it)),
        Attached::Held { holder } => {
            let problem = Problem::new(StatusCode::CONFLICT, "inbound_held", "Another agent has Inbound on this connection's numbers.");
            Err(problem.saying(format!("Switch Inbound of agent {holder} off first, or attach this one without.")).held_by(&holder))
        }
        Attached::Invalid(problems) => Err(Problem::invalid(errors(problems, ""))),
    }
}

/// Fields of the use-case as the API names them, within the field of this name and a dot.
pub(crate) fn errors(problems: Vec<AgentProblem>, within: &str) -> Vec<FieldError> {
    let error = |it: AgentProblem| {
        let field = match it.field {
            AgentField::Url => "delivery.https.url",
            AgentField::SpeechUrl => "speech_to_text.url",
            AgentField::SpeechModel => "speech_to_text.model",
            AgentField::SpeechLanguage => "speech_to_text.language",
            AgentField::SpeechKey => "speech_to_text.key",
            AgentField::Quiet => "quiet_ms",
            AgentField::Rotate => "rotate_secret",
        };
        FieldError::new(format!("{within}{field}"), it.code, it.problem)
    };
    problems.into_iter().map(error).collect()
}
