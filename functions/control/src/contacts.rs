//! What is known of a customer beside the conversation, and what they want: `/v1/conversations/{conversation}/contact`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::Method;
use channel::contacts::{self, Known, Saved};
use channel::preferences;
use domain::contact::Contact;
use domain::conversation::Conversation;
use domain::message::Preference;
use domain::refusal::Refusal;
use schemars::JsonSchema;
use serde::Serialize;

use crate::access::{Caller, Read, Send};
use crate::answers::Found;
use crate::conversations::{OfConversation, of_tenant};
use crate::document::{Api, Route};
use crate::fields::{Body, Path, fields};
use crate::problems::Problem;
use crate::versions::{IfMatch, Tagged};
use crate::{Handles, Now};

const CONTACT: &str = "/v1/conversations/{conversation}/contact";
const WISHES: &str = "/v1/conversations/{conversation}/wishes";

/// The routes.
pub(crate) fn routes(api: Api) -> Api {
    let route = |method, path, id, summary| Route { method, path, id, summary, refusals: &[] };
    api.route(route(Method::GET, CONTACT, "getContact", "Shows the fields that are saved of a customer."), get)
        .route(route(Method::PUT, CONTACT, "putContact", "Saves the fields of a customer in the place of those before."), put)
        .route(route(Method::GET, WISHES, "getWishes", "Shows whether a customer wants marketing, or any template at all."), wishes)
        .route(route(Method::PUT, WISHES, "putWishes", "Notes what a customer told an operator or an agent; the newest word wins."), wish)
}

fields! {
    /// The fields of a customer.
    NewContact {
        /// The fields, by name.
        fields: BTreeMap<String, String>,
    }
}

/// The fields of a customer.
#[derive(Debug, Serialize, JsonSchema)]
struct ShownContact {
    /// The fields, by name.
    fields: BTreeMap<String, String>,
}

impl ShownContact {
    fn of(it: &Known) -> Tagged<Self> {
        Tagged(it.version, Self { fields: it.contact.fields().clone() })
    }
}

fields! {
    /// What a customer told; what is absent stays.
    NewWishes {
        /// They want no marketing.
        opt_out: Option<bool>,
        /// They want no templates at all.
        do_not_contact: Option<bool>,
    }
}

/// What a customer wants.
#[derive(Debug, Serialize, JsonSchema)]
struct Wishes {
    /// They want no marketing.
    opt_out: bool,
    /// They want no templates at all.
    do_not_contact: bool,
}

impl Wishes {
    fn of(it: &Conversation) -> Self {
        Self {
            opt_out: it.opt_out.is_some_and(|it| it.preference == Preference::Stop),
            do_not_contact: it.do_not_contact.is_some_and(|it| it.is_set),
        }
    }
}

async fn get(
    caller: Caller<Read>,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConversation>,
) -> Result<Tagged<ShownContact>, Problem> {
    let (_, conversation) = of_tenant(&handles, &caller.tenant, &it.conversation).await?;
    let known = contacts::get(&handles.store, &conversation.id).await?.ok_or_else(Problem::not_found)?;
    Ok(ShownContact::of(&known))
}

async fn put(
    caller: Caller<Send>,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConversation>,
    version: IfMatch,
    Body(new): Body<NewContact>,
) -> Result<Tagged<ShownContact>, Problem> {
    let (_, conversation) = of_tenant(&handles, &caller.tenant, &it.conversation).await?;
    let contact = Contact::of(new.fields).map_err(|problems| Problem::refused(&Refusal::Invalid { problems }))?;
    match contacts::put(&handles.store, &conversation.id, contact, version.0).await? {
        Saved::Saved(it) => Ok(ShownContact::of(&it)),
        Saved::Moved(_) => Err(IfMatch::moved()),
        Saved::NoConversation => Err(Problem::not_found()),
    }
}

async fn wishes(
    caller: Caller<Read>,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConversation>,
) -> Result<Found<Wishes>, Problem> {
    let (_, conversation) = of_tenant(&handles, &caller.tenant, &it.conversation).await?;
    Ok(Found(Wishes::of(&conversation)))
}

async fn wish(
    caller: Caller<Send>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConversation>,
    Body(told): Body<NewWishes>,
) -> Result<Found<Wishes>, Problem> {
    let (_, conversation) = of_tenant(&handles, &caller.tenant, &it.conversation).await?;
    let (store, queues, id) = (&handles.store, &handles.queues, &conversation.id);
    let mut conversation = Some(conversation.clone());
    if let Some(is_out) = told.opt_out {
        let preference = if is_out { Preference::Stop } else { Preference::Resume };
        conversation = preferences::set_marketing(store, queues, &caller.tenant, id, preference, now.0).await?;
    }
    if let Some(is_set) = told.do_not_contact {
        conversation = preferences::set_do_not_contact(store, queues, &caller.tenant, id, is_set, now.0).await?;
    }
    conversation.map(|it| Found(Wishes::of(&it))).ok_or_else(Problem::not_found)
}
