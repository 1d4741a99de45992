//! The templates of a connection's account: `/v1/connections/{connection}/templates`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::Method;
use channel::jobs::Scalar;
use channel::store::TemplateItem;
use channel::{catalogue, contacts, sending};
use domain::contact::Contact;
use domain::ids::{ConnectionId, ConversationId};
use domain::template::{Category, Language, Preview, Problem as ValueProblem, Status, TemplateName, Values, Variable};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::access::{Caller, Manage, Read};
use crate::answers::{Accepted, Found};
use crate::connections::{OfConnection, owned};
use crate::conversations::of_tenant;
use crate::document::{Api, Route};
use crate::fields::{Body, Path, Query, fields};
use crate::paging::{Page, Paging};
use crate::problems::Problem;
use crate::{Handles, Now};

const LIST: &str = "/v1/connections/{connection}/templates";
const ONE: &str = "/v1/connections/{connection}/templates/{template}/{language}";
const PREVIEW: &str = "/v1/connections/{connection}/templates/{template}/{language}/preview";
const REFRESH: &str = "/v1/connections/{connection}/templates/refresh";

/// The routes.
pub(crate) fn routes(api: Api) -> Api {
    let route = |method, path, id, summary| Route { method, path, id, summary, refusals: &[] };
    api.route(route(Method::GET, LIST, "listTemplates", "Lists the templates of a connection's account, by name."), list)
        .route(
            route(Method::GET, ONE, "getTemplate", "Shows a template, what it asks for, and the values that were last mapped to it."),
            get,
        )
        .route(
            route(Method::POST, PREVIEW, "previewTemplate", "Shows a template as the customer would see it, and what Meta would refuse."),
            preview,
        )
        .route(
            route(Method::POST, REFRESH, "refreshTemplates", "Has the templates read from Meta again, which takes some seconds."),
            refresh,
        )
}

/// Names a template.
#[derive(Debug, Deserialize, JsonSchema)]
struct OfTemplate {
    /// The connection.
    connection: ConnectionId,
    /// The template's name.
    template: TemplateName,
    /// Its language.
    language: Language,
}

/// A template.
#[derive(Debug, Serialize, JsonSchema)]
struct ShownTemplate {
    /// Its name.
    name: TemplateName,
    /// Its language: name and language together say which is meant.
    language: Language,
    /// Whether it may be sent, in Meta's words: only APPROVED ones are.
    status: Status,
    /// What it is for.
    category: Category,
    /// Meta's judgement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quality: Option<String>,
    /// The text, with its variables in braces.
    preview: Preview,
    /// What a send gives to it.
    variables: Vec<Variable>,
    /// The fields that were last mapped to its variables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mapping: Option<Values>,
}

impl ShownTemplate {
    fn of(it: TemplateItem) -> Self {
        Self {
            status: it.status(),
            preview: it.template.blank_preview(),
            variables: it.template.variables(),
            name: it.template.name,
            language: it.template.language,
            category: it.template.category,
            quality: it.template.quality,
            mapping: it.mapping,
        }
    }
}

fields! {
    /// What is filled into a template.
    Filling {
        /// The values; without them, those that were last mapped to it.
        values: Option<Values>,
        /// The customer's fields, which values name; without them, those of the conversation's contact.
        fields: Option<BTreeMap<String, Scalar>>,
        /// The conversation with the customer.
        conversation: Option<ConversationId>,
    }
}

/// A template with its values.
#[derive(Debug, Serialize, JsonSchema)]
struct Filled {
    /// The values that were filled in.
    values: Values,
    /// What the customer sees; absent while Meta would refuse it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    preview: Option<Preview>,
    /// What Meta would refuse, each with its place.
    problems: Vec<ValueProblem>,
}

/// That it was asked for.
#[derive(Debug, Serialize, JsonSchema)]
struct Asked {
    /// The connection whose templates are read.
    connection: ConnectionId,
}

async fn list(
    caller: Caller<Read>,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConnection>,
    Query(paging): Query<Paging>,
) -> Result<Found<Page<ShownTemplate>>, Problem> {
    let connection = owned(&handles, &caller.tenant, &it.connection).await?;
    let found = handles.store.templates_after(&connection.id, paging.after::<String>()?.as_deref(), paging.limit()).await?;
    let shown = found.items.into_iter().filter(|it| !it.template.is_hidden).map(ShownTemplate::of).collect();
    Ok(Found(Page::new(shown, found.ended_at)))
}

async fn item(handles: &Handles, caller: &Caller<Read>, it: &OfTemplate) -> Result<TemplateItem, Problem> {
    let connection = owned(handles, &caller.tenant, &it.connection).await?;
    handles.store.template(&connection.id, &it.template, &it.language).await?.ok_or_else(Problem::not_found)
}

async fn get(
    caller: Caller<Read>,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfTemplate>,
) -> Result<Found<ShownTemplate>, Problem> {
    item(&handles, &caller, &it).await.map(ShownTemplate::of).map(Found)
}

async fn preview(
    caller: Caller<Read>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfTemplate>,
    Body(filling): Body<Filling>,
) -> Result<Found<Filled>, Problem> {
    let item = item(&handles, &caller, &it).await?;
    let contact = match &filling.conversation {
        Some(id) => {
            let (connection, conversation) = of_tenant(&handles, &caller.tenant, id).await?;
            if connection.id != it.connection {
                return Err(Problem::not_found());
            }
            contacts::get(&handles.store, &conversation.id).await?.unwrap_or_default().contact
        }
        None => Contact::default(),
    };
    let values = filling.values.unwrap_or_else(|| contacts::prefill(&contact, &item.template, item.mapping.as_ref()));
    let fields = match filling.fields {
        Some(it) => it.into_iter().map(|(name, it)| (name, it.0)).collect(),
        None => contact.fields().clone(),
    };
    Ok(Found(match sending::fill(&item.template, &values, &fields, now.0) {
        Ok(it) => Filled { values, preview: Some(it.preview().clone()), problems: Vec::new() },
        Err(problems) => Filled { values, preview: None, problems },
    }))
}

async fn refresh(
    caller: Caller<Manage>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConnection>,
) -> Result<Accepted<Asked>, Problem> {
    let connection = owned(&handles, &caller.tenant, &it.connection).await?;
    catalogue::ask_for_person(&handles.queues, &connection, now.0).await?;
    Ok(Accepted(Asked { connection: connection.id }))
}
