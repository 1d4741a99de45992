//! Agents on a connection: `/v1/connections/{connection}/agents`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{Method, StatusCode};
use channel::agents::{self, Attached};
use channel::store::Attachment;
use domain::connection::Connection;
use domain::ids::{AgentId, ConnectionId};
use domain::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::access::{Caller, Manage, Read};
use crate::answers::{Created, Done, Found};
use crate::connections::{OfConnection, owned};
use crate::document::{Api, Route};
use crate::fields::{Body, Path, Query, fields};
use crate::paging::{Page, Paging};
use crate::problems::Problem;
use crate::{Handles, Now};

const LIST: &str = "/v1/connections/{connection}/agents";
const ONE: &str = "/v1/connections/{connection}/agents/{agent}";
const HELD: (StatusCode, &str) = (StatusCode::CONFLICT, "Another agent has Inbound; `holder` names it.");

/// The routes.
pub(crate) fn routes(api: Api) -> Api {
    let route = |method, path, id, summary, refusals| Route { method, path, id, summary, refusals };
    api.route(route(Method::GET, LIST, "listAgents", "Lists the agents that are attached to a connection.", &[]), list)
        .route(route(Method::POST, LIST, "attachAgent", "Attaches an agent to a connection.", &[HELD]), attach)
        .route(route(Method::PUT, ONE, "switchInbound", "Switches an agent's Inbound on or off.", &[HELD]), switch)
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

fields! {
    /// An agent to attach.
    NewAttachment {
        /// The agent.
        agent: AgentId,
        /// Does it take the turns? If not, it may only send. True if nothing is said; one agent of a connection may.
        inbound: Option<bool>,
    }
}

fields! {
    /// The Inbound switch.
    InboundSwitch {
        /// Does the agent take the turns?
        inbound: bool,
    }
}

/// An agent on a connection.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AttachedAgent {
    /// The agent.
    agent: AgentId,
    /// Does it take the turns? If not, it may only send.
    inbound: bool,
}

impl AttachedAgent {
    fn of(it: Attachment) -> Self {
        Self { agent: it.agent, inbound: it.inbound }
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
    Ok(Found(Page::new(found.items.into_iter().map(AttachedAgent::of).collect(), found.ended_at)))
}

async fn attach(
    caller: Caller<Manage>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConnection>,
    Body(new): Body<NewAttachment>,
) -> Result<Created<AttachedAgent>, Problem> {
    let connection = owned(&handles, &caller.tenant, &it.connection).await?;
    attached(&handles, &connection, &new.agent, new.inbound.unwrap_or(true), now.0).await.map(Created)
}

async fn switch(
    caller: Caller<Manage>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfAgent>,
    Body(to): Body<InboundSwitch>,
) -> Result<Found<AttachedAgent>, Problem> {
    let connection = owned(&handles, &caller.tenant, &it.connection).await?;
    handles.store.attachment(&connection.id, &it.agent).await?.ok_or_else(Problem::not_found)?;
    attached(&handles, &connection, &it.agent, to.inbound, now.0).await.map(Found)
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
    inbound: bool,
    now: Timestamp,
) -> Result<AttachedAgent, Problem> {
    match agents::attach(&handles.store, connection, agent, inbound, now).await? {
        Attached::Done(it) => Ok(AttachedAgent::of(it)),
        Attached::Held { holder } => {
            let problem = Problem::new(StatusCode::CONFLICT, "inbound_held", "Another agent has Inbound on this connection's numbers.");
            Err(problem.saying(format!("Switch Inbound of agent {holder} off first, or attach this one without.")).held_by(&holder))
        }
    }
}
