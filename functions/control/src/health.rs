//! How a connection stands: `/v1/connections/{connection}/health`, and what its app's webhook settings must say: `…/webhook`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Method;
use channel::connections::webhook;
use channel::report::{HealthReport, ReportedCheck, report};
use domain::connection::State as Standing;
use domain::ids::{AppId, NumberId};
use domain::time::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::access::{Caller, Manage, Read};
use crate::answers::Found;
use crate::connections::{OfConnection, stored};
use crate::document::{Api, Route};
use crate::fields::Path;
use crate::numbers::ShownNumber;
use crate::problems::Problem;
use crate::{Handles, Now};

const HEALTH: &str = "/v1/connections/{connection}/health";
const WEBHOOK: &str = "/v1/connections/{connection}/webhook";

/// The routes.
pub(crate) fn routes(api: Api) -> Api {
    let route = |path, id, summary| Route { method: Method::GET, path, id, summary, refusals: &[] };
    api.route(route(HEALTH, "getHealth", "Reports what is well with a connection, what is not and why, and what to do."), health).route(
        route(WEBHOOK, "getWebhook", "Shows what to enter in the webhook settings of a connection's app, where a start does not."),
        of_app,
    )
}

/// How a connection stands. Meta is asked at its start and about once an hour.
#[derive(Debug, Serialize, JsonSchema)]
struct Health {
    /// Where it stands.
    state: Standing,
    /// When Meta was last asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checked_at: Option<Timestamp>,
    /// How many customers the business may write to first within 24 hours, over all of its numbers, in Meta's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    messaging_limit: Option<String>,
    /// Its numbers.
    numbers: Vec<ShownNumber>,
    /// Everything that was looked at.
    checks: Vec<Check>,
}

impl Health {
    fn of(it: HealthReport) -> Self {
        Self {
            state: it.state,
            checked_at: it.checked_at,
            messaging_limit: it.messaging_limit,
            numbers: it.numbers.into_iter().map(ShownNumber::of).collect(),
            checks: it.checks.into_iter().map(Check::of).collect(),
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Serialize, JsonSchema)]
struct Check {
    /// What: `state`, `access_token`, `token_expiry`, `app_secret`, `account`, `subscription`, `callback`, `number`, `messaging_limit`,
    /// `agent`, `inbound`, `agent_endpoint`, `speech_to_text` or `templates`.
    name: String,
    /// Of which number, if it is one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    number: Option<NumberId>,
    /// Is it well?
    ok: bool,
    /// How it stands.
    why: String,
    /// What a person does about it, if it is not well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    what_to_do: Option<String>,
}

impl Check {
    fn of(it: ReportedCheck) -> Self {
        Self { name: it.name.to_owned(), number: it.number, ok: it.ok, why: it.why, what_to_do: it.what_to_do }
    }
}

/// What to enter in the webhook settings of a connection's app.
#[derive(Debug, Serialize, JsonSchema)]
struct Webhook {
    /// The app; none is entered if there is none here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    app_id: Option<AppId>,
    /// The callback URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    callback_url: Option<String>,
    /// The verify token; none before the first start, nor for the server's own app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verify_token: Option<String>,
    /// The fields of `whatsapp_business_account` to subscribe to.
    fields: Vec<String>,
    /// How it stands: `app_secret`, `subscription` and `callback`.
    checks: Vec<Check>,
}

async fn health(
    caller: Caller<Read>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConnection>,
) -> Result<Found<Health>, Problem> {
    let stored = stored(&handles, &caller.tenant, &it.connection).await?;
    Ok(Found(Health::of(report(&handles.store, &stored, now.0).await?)))
}

/// For those who may change a connection: whoever has the verify token may answer Meta in our place.
async fn of_app(
    caller: Caller<Manage>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConnection>,
) -> Result<Found<Webhook>, Problem> {
    let stored = stored(&handles, &caller.tenant, &it.connection).await?;
    let reported = report(&handles.store, &stored, now.0).await?.checks;
    let checks = reported.into_iter().filter(|it| matches!(it.name, "app_secret" | "subscription" | "callback")).map(Check::of).collect();
    let Some(it) = webhook(&handles.store, &handles.vault, &handles.meta.webhook_url, &stored).await? else {
        return Ok(Found(Webhook { app_id: None, callback_url: None, verify_token: None, fields: Vec::new(), checks }));
    };
    Ok(Found(Webhook {
        app_id: Some(it.app),
        callback_url: Some(it.callback),
        verify_token: it.verify_token.map(|it| it.expose().to_owned()),
        fields: it.fields.iter().map(|it| (*it).to_owned()).collect(),
        checks,
    }))
}
