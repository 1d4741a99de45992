//! Conversations: `/v1/conversations`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{Method, StatusCode};
use channel::contacts;
use channel::erasure::{self, Begun};
use channel::handling;
use channel::history::{self, Happening, Line};
use channel::inbox::{self, Filter, Listed, StandingKind};
use channel::jobs::{Scalar, StandingNow, To};
use channel::resends::{self, Resend};
use channel::sending::{self, PersonMessage, PersonTemplate};
use channel::store::{Active, Before};
use channel::uploads;
use domain::connection::Connection;
use domain::conversation::{Answerer, Conversation};
use domain::customer::{Bsuid, Phone};
use domain::ids::{ConnectionId, ConversationId, MessageId, MessageKey, NumberId, TenantId, Wamid};
use domain::message::Profile;
use domain::outgoing::Outgoing;
use domain::status::State as SendState;
use domain::template::{Language, TemplateName, Values};
use domain::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::access::{Caller, Manage, Read, Send};
use crate::answers::{Accepted, Found};
use crate::connections::owned;
use crate::document::{Api, Route};
use crate::fields::{Path, Query, fields};
use crate::idempotency::{Known, Once};
use crate::paging::{Limit, Page, Paging};
use crate::problems::Problem;
use crate::{Handles, Now};

const LIST: &str = "/v1/conversations";
const ONE: &str = "/v1/conversations/{conversation}";
const MESSAGES: &str = "/v1/conversations/{conversation}/messages";
const STORY: &str = "/v1/conversations/{conversation}/messages/{at}/{message}/story";
const TEMPLATES: &str = "/v1/conversations/{conversation}/templates";
const TAKE: &str = "/v1/conversations/{conversation}/take";
const RELEASE: &str = "/v1/conversations/{conversation}/release";
const RESEND: &str = "/v1/conversations/{conversation}/messages/{at}/{message}/resend";
const READ: &str = "/v1/conversations/{conversation}/read";

const REFUSED: (StatusCode, &str) = (StatusCode::CONFLICT, "It may not be sent now; `code` and `detail` say why, `retry` whether later.");

/// The routes.
pub(crate) fn routes(api: Api) -> Api {
    let route = |method, path, id, summary, refusals| Route { method, path, id, summary, refusals };
    api.route(route(Method::GET, LIST, "listConversations", LISTS, &[NOT_FOUND]), list)
        .route(route(Method::POST, LIST, "startConversation", STARTS, &[REFUSED, NOT_FOUND]), begin)
        .route(route(Method::GET, ONE, "getConversation", "Shows a conversation, and what may be sent now.", &[]), get)
        .route(route(Method::GET, MESSAGES, "listMessages", "Lists what was said, newest first.", &[]), messages)
        .route(route(Method::POST, MESSAGES, "sendMessage", SENDS, &[REFUSED]), send)
        .route(route(Method::GET, STORY, "getStory", "Tells everything that happened to a message, in order.", &[]), story)
        .route(route(Method::POST, RESEND, "resendMessage", RESENDS, &[UNDERWAY]), resend)
        .route(route(Method::DELETE, ONE, "eraseConversation", ERASES, &[]), erase)
        .route(route(Method::POST, TEMPLATES, "sendTemplate", "Sends a template in a conversation.", &[REFUSED]), send_template)
        .route(route(Method::POST, TAKE, "takeConversation", "A person takes the conversation: the agent is silent.", &[]), take)
        .route(route(Method::POST, RELEASE, "releaseConversation", "The conversation goes back to the agent.", &[]), release)
        .route(route(Method::POST, READ, "readConversation", "A person has read it, and the customer sees that.", &[]), read)
}

const LISTS: &str = "Lists a connection's conversations, newest hour first. A page may be short, even empty, and have a `next`.";
const STARTS: &str =
    "Starts a conversation with a template. One that waits for an answer already comes back as `conversation` of the conflict.";
const SENDS: &str = "Sends a person's free-form message. The conversation is theirs from now on.";
const RESENDS: &str =
    "Sends a message again that failed, or of which nobody knows whether it arrived: as a new one, with the same content.";
const ERASES: &str = "Erases a conversation with all that is known of its customer. It takes some seconds, and nothing brings it back.";
const UNDERWAY: (StatusCode, &str) = (StatusCode::CONFLICT, "It did not fail, or its content is not kept.");
const NOT_FOUND: (StatusCode, &str) = (StatusCode::NOT_FOUND, "This tenant has no such connection.");

/// Names a conversation.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct OfConversation {
    /// The conversation.
    pub(crate) conversation: ConversationId,
}

/// Names a message, as the feed and the list of messages do: `<conversation>/<at>/<message>`.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct OfMessage {
    /// The conversation.
    pub(crate) conversation: ConversationId,
    /// The time in the message's id.
    pub(crate) at: Timestamp,
    /// The last part of the message's id.
    pub(crate) message: MessageId,
}

impl OfMessage {
    pub(crate) fn key(&self) -> MessageKey {
        MessageKey { conversation: self.conversation.clone(), at: self.at, id: self.message.clone() }
    }
}

/// What may be sent now.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Standing")]
pub(crate) enum WantedStanding {
    Open,
    AwaitingReply,
    TemplateOnly,
}

impl WantedStanding {
    fn kind(self) -> StandingKind {
        match self {
            Self::Open => StandingKind::Open,
            Self::AwaitingReply => StandingKind::AwaitingReply,
            Self::TemplateOnly => StandingKind::TemplateOnly,
        }
    }
}

fields! {
    /// Which conversations are wanted.
    Wanted {
        /// The connection.
        connection: ConnectionId,
        /// Those of this standing.
        standing: Option<WantedStanding>,
        /// Those whose customer knows this number.
        number: Option<NumberId>,
        /// Those that are answered by the agent, or by a person.
        answered_by: Option<Answerer>,
        /// How many items a page holds at most: 1 to 100, 50 if nothing is said.
        limit: Option<Limit>,
        /// `next` of the page before; without it, the first page.
        cursor: Option<String>,
    }
}

/// A conversation.
#[derive(Debug, Serialize, JsonSchema)]
struct ShownConversation {
    /// Its id.
    id: ConversationId,
    /// The connection.
    connection: ConnectionId,
    /// The customer's phone number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    phone: Option<Phone>,
    /// The customer's business-scoped user id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bsuid: Option<Bsuid>,
    /// What the customer shows of themselves.
    profile: Profile,
    /// The number that they know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    number: Option<NumberId>,
    /// What may be sent now.
    #[serde(flatten)]
    standing: StandingNow,
    /// Who answers.
    answered_by: Answerer,
    /// Meta's time of the customer's newest message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_inbound_at: Option<Timestamp>,
    /// When the hour began in which it was last active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    active_since: Option<Timestamp>,
    /// Did the customer write something that no person has read?
    unread: bool,
}

impl ShownConversation {
    fn of(it: Listed) -> Self {
        Self {
            id: it.conversation,
            connection: it.connection,
            phone: it.customer.as_ref().and_then(|it| it.phone().cloned()),
            bsuid: it.customer.as_ref().and_then(|it| it.bsuid().cloned()),
            profile: it.profile,
            number: it.number,
            standing: it.standing.into(),
            answered_by: it.answered_by,
            last_inbound_at: it.last_inbound_at,
            active_since: it.active_since,
            unread: it.is_unread,
        }
    }
}

/// To whom a conversation is started.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Recipient {
    /// A phone number with its country code.
    Phone(Phone),
    /// Meta's business-scoped user id.
    Bsuid(Bsuid),
}

/// A name of 1 to 200 characters.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct PersonName(String);

impl TryFrom<String> for PersonName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_well = (1..=200).contains(&text.chars().count());
        if is_well { Ok(Self(text)) } else { Err("expected 1 to 200 characters") }
    }
}

impl JsonSchema for PersonName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PersonName".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "minLength": 1, "maxLength": 200 })
    }
}

fields! {
    /// A free-form message.
    NewMessage {
        /// What is sent.
        message: Outgoing,
        /// Meta's id of the message that is quoted.
        quote: Option<Wamid>,
        /// Who writes, by the name that the platform knows them under; the token's subject, if nothing is said.
        person: Option<PersonName>,
    }
}

fields! {
    /// A template for the customer of a conversation.
    NewTemplate {
        /// The template's name.
        template: TemplateName,
        /// Its language.
        language: Language,
        /// The values for its variables.
        values: Option<Values>,
        /// The customer's fields, which values name; without them, those of the conversation's contact.
        fields: Option<BTreeMap<String, Scalar>>,
        /// Who sends, by the name that the platform knows them under; the token's subject, if nothing is said.
        person: Option<PersonName>,
    }
}

fields! {
    /// A conversation to start.
    NewConversation {
        /// The connection.
        connection: ConnectionId,
        /// To whom.
        to: Recipient,
        /// The template's name.
        template: TemplateName,
        /// Its language.
        language: Language,
        /// The values for its variables.
        values: Option<Values>,
        /// The customer's fields, which values name.
        fields: Option<BTreeMap<String, Scalar>>,
        /// Who sends, by the name that the platform knows them under; the token's subject, if nothing is said.
        person: Option<PersonName>,
    }
}

fields! {
    /// Who sends a message again.
    NewResend {
        /// Who sends, by the name that the platform knows them under; the token's subject, if nothing is said.
        person: Option<PersonName>,
    }
}

/// A conversation that is being erased.
#[derive(Debug, Serialize, JsonSchema)]
struct Erasing {
    /// The conversation.
    conversation: ConversationId,
}

/// A message that will be sent: the feed tells what becomes of it.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct AcceptedMessage {
    /// The message.
    message: MessageKey,
    /// Its conversation.
    conversation: ConversationId,
}

/// A conversation of this tenant, with its connection.
pub(crate) async fn of_tenant(handles: &Handles, tenant: &TenantId, id: &ConversationId) -> Result<(Connection, Conversation), Problem> {
    let found = handles.store.conversation(id).await?.map(|it| it.conversation).ok_or_else(Problem::not_found)?;
    let connection = owned(handles, tenant, &found.connection).await?;
    Ok((connection, found))
}

/// Who writes.
fn person<S>(caller: &Caller<S>, named: Option<PersonName>) -> String {
    named.map_or_else(|| caller.subject.clone(), |it| it.0)
}

async fn list(
    caller: Caller<Read>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Query(wanted): Query<Wanted>,
) -> Result<Found<Page<ShownConversation>>, Problem> {
    let connection = owned(&handles, &caller.tenant, &wanted.connection).await?;
    let filter = Filter { standing: wanted.standing.map(WantedStanding::kind), number: wanted.number, answered_by: wanted.answered_by };
    let paging = Paging { limit: wanted.limit, cursor: wanted.cursor };
    let before: Option<Active> = paging.after()?;
    let page = inbox::list(&handles.store, &connection.id, &filter, before, paging.limit(), now.0).await?;
    Ok(Found(Page::new(page.conversations.into_iter().map(ShownConversation::of).collect(), page.next)))
}

async fn get(
    caller: Caller<Read>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConversation>,
) -> Result<Found<ShownConversation>, Problem> {
    let (_, conversation) = of_tenant(&handles, &caller.tenant, &it.conversation).await?;
    Ok(Found(ShownConversation::of(inbox::summary(&conversation, now.0))))
}

async fn messages(
    caller: Caller<Read>,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConversation>,
    Query(paging): Query<Paging>,
) -> Result<Found<Page<Line>>, Problem> {
    let (_, conversation) = of_tenant(&handles, &caller.tenant, &it.conversation).await?;
    let before: Option<Before> = paging.after()?;
    let page = history::page(&handles.store, &conversation, before.as_ref(), paging.limit()).await?;
    Ok(Found(Page::new(page.lines, page.next)))
}

async fn story(
    caller: Caller<Read>,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfMessage>,
) -> Result<Found<Vec<Happening>>, Problem> {
    let (_, conversation) = of_tenant(&handles, &caller.tenant, &it.conversation).await?;
    let found = history::message(&handles.store, &conversation, &it.key()).await?;
    let (key, item) = found.ok_or_else(Problem::not_found)?;
    Ok(Found(history::story(&key, &item)))
}

async fn send(
    caller: Caller<Send>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConversation>,
    once: Once<NewMessage>,
) -> Result<Accepted<AcceptedMessage>, Problem> {
    let (connection, conversation) = of_tenant(&handles, &caller.tenant, &it.conversation).await?;
    let new = &once.body;
    let message = PersonMessage { person: person(&caller, new.person.clone()), message: new.message.clone(), quote: new.quote.clone() };
    let claim = match once.known(&handles, &caller.tenant, now.0).await? {
        Known::Answered(it) => return Ok(Accepted(it)),
        Known::Open(it) => it,
    };
    if claim.is_new {
        sending::admit_message(&connection, &conversation, &message.message, now.0)
            .map_err(|it| Problem::refused(&it).within("message"))?;
        let admitted = uploads::admit(&handles.blobs, &connection.id, &message.message).await?;
        admitted.map_err(|it| Problem::refused(&it).within("message"))?;
    }
    let claim = once.begin(&handles, &caller.tenant, claim).await?;
    let of = (&claim.id, claim.at);
    let key = sending::accept_message(&handles.store, &handles.queues, &connection, &conversation.id, &message, of).await?;
    let answer = AcceptedMessage { conversation: key.conversation.clone(), message: key };
    once.answered(&handles, &caller.tenant, &claim, &answer).await?;
    Ok(Accepted(answer))
}

async fn send_template(
    caller: Caller<Send>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConversation>,
    once: Once<NewTemplate>,
) -> Result<Accepted<AcceptedMessage>, Problem> {
    let (connection, conversation) = of_tenant(&handles, &caller.tenant, &it.conversation).await?;
    let new = &once.body;
    let template = PersonTemplate {
        person: person(&caller, new.person.clone()),
        to: To::Conversation(conversation.id),
        template: new.template.clone(),
        language: new.language.clone(),
        values: new.values.clone().unwrap_or_default(),
        participant: match new.fields.clone() {
            Some(it) => it,
            // As the preview fills it.
            None => {
                let contact = contacts::get(&handles.store, &it.conversation).await?.unwrap_or_default().contact;
                contact.fields().iter().map(|(name, value)| (name.clone(), Scalar(value.clone()))).collect()
            }
        },
    };
    accept_template(&handles, &caller, &connection, &once, &template, now.0).await
}

async fn begin(
    caller: Caller<Send>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    once: Once<NewConversation>,
) -> Result<Accepted<AcceptedMessage>, Problem> {
    let new = &once.body;
    let connection = owned(&handles, &caller.tenant, &new.connection).await?;
    let to = match new.to.clone() {
        Recipient::Phone(it) => To::Phone(it),
        Recipient::Bsuid(it) => To::Bsuid(it),
    };
    let template = PersonTemplate {
        person: person(&caller, new.person.clone()),
        to,
        template: new.template.clone(),
        language: new.language.clone(),
        values: new.values.clone().unwrap_or_default(),
        participant: new.fields.clone().unwrap_or_default(),
    };
    accept_template(&handles, &caller, &connection, &once, &template, now.0).await
}

async fn accept_template<T>(
    handles: &Handles,
    caller: &Caller<Send>,
    connection: &Connection,
    once: &Once<T>,
    template: &PersonTemplate,
    now: Timestamp,
) -> Result<Accepted<AcceptedMessage>, Problem> {
    let claim = match once.known(handles, &caller.tenant, now).await? {
        Known::Answered(it) => return Ok(Accepted(it)),
        Known::Open(it) => it,
    };
    if claim.is_new {
        let admitted = sending::admit_template(&handles.store, connection, template, (&claim.id, claim.at), now).await?;
        admitted.map_err(|it| Problem::refused(&it.refusal).of_conversation(it.conversation))?;
    }
    let claim = once.begin(handles, &caller.tenant, claim).await?;
    let key = sending::accept_template(&handles.store, &handles.queues, connection, template, (&claim.id, claim.at)).await?;
    let answer = AcceptedMessage { conversation: key.conversation.clone(), message: key };
    once.answered(handles, &caller.tenant, &claim, &answer).await?;
    Ok(Accepted(answer))
}

async fn resend(
    caller: Caller<Send>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfMessage>,
    once: Once<NewResend>,
) -> Result<Accepted<AcceptedMessage>, Problem> {
    let (_, conversation) = of_tenant(&handles, &caller.tenant, &it.conversation).await?;
    let claim = match once.known(&handles, &caller.tenant, now.0).await? {
        Known::Answered(it) => return Ok(Accepted(it)),
        Known::Open(it) => it,
    };
    let claim = once.begin(&handles, &caller.tenant, claim).await?;
    let (person, id) = (person(&caller, once.body.person.clone()), claim.id.to_string());
    let (store, queues) = (&handles.store, &handles.queues);
    let resent = resends::resend(store, queues, &caller.tenant, &conversation.id, &it.key(), &person, &id).await?;
    let conflict = |code, title, detail: &str| Err(Problem::new(StatusCode::CONFLICT, code, title).saying(detail));
    match resent {
        Resend::Queued(key) => {
            let answer = AcceptedMessage { conversation: key.conversation.clone(), message: key };
            once.answered(&handles, &caller.tenant, &claim, &answer).await?;
            Ok(Accepted(answer))
        }
        Resend::NoMessage => Err(Problem::not_found()),
        Resend::Underway(SendState::Delivered | SendState::Read) => {
            conflict("arrived", "The message has arrived.", "Nothing is to be sent again.")
        }
        Resend::Underway(_) => conflict("underway", "The message did not fail.", "Wait for what becomes of it."),
        Resend::Again => {
            conflict("sent_again", "It was sent again already.", "See what became of that message; if it failed, send that one again.")
        }
        Resend::NotKept => conflict("not_kept", "The content of the message is not kept.", "Write a new one."),
        Resend::BadId => Err(Problem::unavailable()),
    }
}

async fn erase(
    caller: Caller<Manage>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConversation>,
) -> Result<Accepted<Erasing>, Problem> {
    let (_, conversation) = of_tenant(&handles, &caller.tenant, &it.conversation).await?;
    match erasure::begin(&handles.store, &handles.queues, &caller.tenant, &conversation.id, now.0).await? {
        Begun::NoConversation => Err(Problem::not_found()),
        Begun::Erased => Ok(Accepted(Erasing { conversation: it.conversation })),
    }
}

async fn take(
    caller: Caller<Send>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConversation>,
) -> Result<Found<ShownConversation>, Problem> {
    let (connection, conversation) = of_tenant(&handles, &caller.tenant, &it.conversation).await?;
    let taken = handling::take(&handles.store, &handles.queues, &connection.tenant, &conversation.id, now.0).await?;
    shown(taken, now.0)
}

async fn release(
    caller: Caller<Send>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConversation>,
) -> Result<Found<ShownConversation>, Problem> {
    let (connection, conversation) = of_tenant(&handles, &caller.tenant, &it.conversation).await?;
    let released = handling::release(&handles.store, &handles.queues, &connection.tenant, &conversation.id, now.0).await?;
    shown(released, now.0)
}

async fn read(
    caller: Caller<Send>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConversation>,
) -> Result<Found<ShownConversation>, Problem> {
    let (_, conversation) = of_tenant(&handles, &caller.tenant, &it.conversation).await?;
    let read = inbox::read(&handles.store, &handles.queues, &conversation.id, &caller.subject).await?;
    shown(read, now.0)
}

fn shown(conversation: Option<Conversation>, now: Timestamp) -> Result<Found<ShownConversation>, Problem> {
    let conversation = conversation.ok_or_else(Problem::not_found)?;
    Ok(Found(ShownConversation::of(inbox::summary(&conversation, now))))
}
