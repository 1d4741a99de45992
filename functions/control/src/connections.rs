//! Connections: `/v1/connections`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Method;
use channel::connections;
use channel::store::LogLine;
use domain::connection::{Connection, State as Standing};
use domain::ids::{ConnectionId, TenantId};
use domain::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::access::{Caller, Manage, Read};
use crate::answers::{Accepted, Found};
use crate::document::{Api, Route};
use crate::fields::{Path, Query};
use crate::paging::{Page, Paging};
use crate::problems::Problem;
use crate::{Handles, Now};

/// The routes.
pub(crate) fn routes(api: Api) -> Api {
    api.route(
        Route {
            method: Method::POST,
            path: "/v1/connections/{connection}/stop",
            id: "stopConnection",
            summary: "Stops a connection: it sends nothing until it is started again. What customers write is kept.",
            refusals: &[],
        },
        stop,
    )
    .route(
        Route {
            method: Method::GET,
            path: "/v1/connections/{connection}/logs",
            id: "listLogs",
            summary: "Lists what happened to a connection in the last 30 days, newest first.",
            refusals: &[],
        },
        logs,
    )
}

/// Names a connection.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct OfConnection {
    /// The connection.
    pub(crate) connection: ConnectionId,
}

/// Where a connection stands.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ConnectionStanding {
    /// The connection.
    id: ConnectionId,
    /// Where it stands.
    state: Standing,
    /// When it last began to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    running_since: Option<Timestamp>,
    /// When it last ceased to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stopped_at: Option<Timestamp>,
}

impl ConnectionStanding {
    pub(crate) fn of(connection: &Connection) -> Self {
        let lifecycle = connection.lifecycle;
        let (running_since, stopped_at) = (lifecycle.running_since, lifecycle.stopped_at);
        Self { id: connection.id.clone(), state: lifecycle.state, running_since, stopped_at }
    }
}

/// A line of a connection's Logs.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Line {
    /// When it was written down.
    at: Timestamp,
    /// What happened.
    text: String,
}

/// A connection, if it is this tenant's.
pub(crate) async fn owned(handles: &Handles, tenant: &TenantId, id: &ConnectionId) -> Result<Connection, Problem> {
    let found = handles.store.connection(id).await?.map(|it| it.connection);
    found.filter(|it| it.tenant == *tenant).ok_or_else(Problem::not_found)
}

async fn stop(
    caller: Caller<Manage>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConnection>,
) -> Result<Accepted<ConnectionStanding>, Problem> {
    owned(&handles, &caller.tenant, &it.connection).await?;
    connections::stop(&handles.store, &handles.queues, &it.connection, now.0).await?;
    let connection = owned(&handles, &caller.tenant, &it.connection).await?;
    Ok(Accepted(ConnectionStanding::of(&connection)))
}

async fn logs(
    caller: Caller<Read>,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConnection>,
    Query(paging): Query<Paging>,
) -> Result<Found<Page<Line>>, Problem> {
    let connection = owned(&handles, &caller.tenant, &it.connection).await?;
    let found = handles.store.logs(&connection.id, paging.after()?.as_deref(), paging.limit()).await?;
    let lines = found.items.into_iter().map(|LogLine { at, text }| Line { at, text }).collect();
    Ok(Found(Page::new(lines, found.ended_at)))
}
