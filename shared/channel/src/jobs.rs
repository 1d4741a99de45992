//! The jobs that travel over the queues, one struct per queue, as versioned JSON.
//!
//! A JSON Schema of each is committed under `schemas/`, and samples that must decode for ever under `samples/`.

use std::collections::BTreeMap;

use domain::connection;
use domain::conversation::{Answerer, Standing};
use domain::customer::{Bsuid, Customer, Phone};
use domain::ids::{AgentId, AppId, ConnectionId, ConversationId, Malformed, MessageKey, NumberId, TenantId, WabaId, Wamid};
use domain::message::{Content, Event, Media, Preference, Profile, Referral};
use domain::outgoing::Outgoing;
use domain::refusal::Retry;
use domain::status::{Fault, Pricing, State, Step};
use domain::template::{Category, Language, Status, TemplateName, Values};
use domain::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of a job: always 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct V1;

impl Serialize for V1 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(1)
    }
}

impl<'de> Deserialize<'de> for V1 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            1 => Ok(Self),
            other => Err(serde::de::Error::custom(format!("version {other} is not known here; this is version 1"))),
        }
    }
}

impl JsonSchema for V1 {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Version".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "const": 1 })
    }
}

/// `inbound.fifo`: what Meta told of one customer on one number, in order. The connection is the number's owner as the webhook found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Written {
    /// The version.
    pub v: V1,
    /// Whose connection it is.
    pub tenant: TenantId,
    /// The connection that holds the number.
    pub connection: ConnectionId,
    /// The number.
    pub number: NumberId,
    /// The customer, as the webhook names them.
    pub customer: Customer,
    /// What the webhook says of the customer.
    #[serde(default)]
    pub profile: Profile,
    /// When the webhook arrived, in milliseconds since the Unix epoch.
    pub heard_at: Timestamp,
    /// What happened.
    pub events: Vec<Event>,
}

/// One status that Meta told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusTold {
    /// Meta's id of the message.
    pub wamid: Wamid,
    /// The step.
    pub step: Step,
    /// Meta's time of it.
    pub at: Timestamp,
    /// Whom the message was for, as far as Meta says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<Customer>,
    /// What we sent along, if it came back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opaque: Option<String>,
    /// What Meta charges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pricing: Option<Pricing>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
}

/// `statuses`: what Meta told of messages that went out from one number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Told {
    /// The version.
    pub v: V1,
    /// Whose connection it is.
    pub tenant: TenantId,
    /// The connection that holds the number.
    pub connection: ConnectionId,
    /// The number.
    pub number: NumberId,
    /// When the webhook arrived, in milliseconds since the Unix epoch.
    pub heard_at: Timestamp,
    /// The statuses.
    pub statuses: Vec<StatusTold>,
}

/// What may be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "standing", rename_all = "snake_case")]
pub enum StandingNow {
    /// Free-form messages, until this time (milliseconds since the Unix epoch).
    Open {
        /// When the window closes.
        until: Timestamp,
    },
    /// Nothing: the business wrote first and has no answer yet.
    AwaitingReply {
        /// When the business wrote.
        since: Timestamp,
    },
    /// A template.
    TemplateOnly {
        /// When the window closed, if it was ever open.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        closed_at: Option<Timestamp>,
    },
}

impl std::convert::From<Standing> for StandingNow {
    fn from(it: Standing) -> Self {
        match it {
            Standing::Open { until } => Self::Open { until },
            Standing::AwaitingReply { since } => Self::AwaitingReply { since },
            Standing::TemplateOnly { closed_at } => Self::TemplateOnly { closed_at },
        }
    }
}

/// The message that the customer quoted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QuotedMessage {
    /// Meta's id of it.
    pub wamid: Wamid,
    /// `customer` or `business`; absent if the message is not known here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<From>,
    /// What it is, if it is known here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its words, if it has any and is known here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Which side a message is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum From {
    /// The customer.
    Customer,
    /// The business.
    Business,
}

/// A message that the agent missed while a person had the conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MissedMessage {
    /// Milliseconds since the Unix epoch.
    pub at: Timestamp,
    /// Which side it is from.
    pub from: From,
    /// What it is.
    pub kind: String,
    /// Its words, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// `turns.fifo` and `bridge.fifo`: one message of a customer, handed to an agent.
///
/// Message group: the conversation. Deduplication id: the message's id. The same turn may come twice: derive reply ids from it, as [`Reply`] does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Turn {
    /// The version.
    pub v: V1,
    /// The turn's id, from which replies derive theirs.
    pub turn: String,
    /// Whose connection it is.
    pub tenant: TenantId,
    /// The agent that this is for.
    pub agent: AgentId,
    /// The connection.
    pub connection: ConnectionId,
    /// The conversation: give it back in the reply.
    pub conversation: ConversationId,
    /// The number that the customer wrote to.
    pub number: NumberId,
    /// The customer, as far as known.
    pub customer: Customer,
    /// The customer's name and username, as they show it.
    #[serde(default)]
    pub profile: Profile,
    /// Meta's id of the message: to quote it, react to it, or mark it as read.
    pub wamid: Wamid,
    /// Meta's time of the message, in milliseconds since the Unix epoch.
    pub at: Timestamp,
    /// What the customer sent.
    pub content: Content,
    /// The message that was quoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quoted: Option<QuotedMessage>,
    /// The ad that led here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub referral: Option<Referral>,
    /// Passed on from another chat.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forwarded: bool,
    /// What may be sent now.
    #[serde(flatten)]
    pub standing: StandingNow,
    /// Handed over more than five minutes after Meta's time of the message.
    pub late: bool,
    /// What the agent missed while a person had the conversation: on the first turn after the release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missed: Vec<MissedMessage>,
    /// The customer's file, or why it is not here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<TurnFile>,
    /// The words of a voice message, where the agent has speech-to-text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcript: Option<Transcript>,
    /// The messages that became this one turn, where the customer wrote several shortly after one another: the words of all are in `content`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gathered: Vec<GatheredMessage>,
}

/// Why something is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Missing {
    /// The code.
    pub code: String,
    /// What a person is told.
    pub note: String,
}

/// A customer's file: the link to it, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TurnFile {
    /// Where it can be fetched, by whoever has this link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Until when the link is good, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// MIME type, as Meta names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// In bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// SHA-256 of the file as it is here, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// A name that is safe for a file, made of the customer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
    /// It is not the file that Meta announced: the hashes differ.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub differs: bool,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
}

/// What was said in a voice message, or why that is not known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Transcript {
    /// The words; empty if none were heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Why there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
}

/// One of several messages that became one turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GatheredMessage {
    /// Meta's id of it.
    pub wamid: Wamid,
    /// Meta's time of it, in milliseconds since the Unix epoch.
    pub at: Timestamp,
}

/// `media.fifo`: a customer's file to be fetched or forgotten, and the turns that wait for it or behind it.
///
/// Message group: the conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MediaJob {
    /// The version.
    pub v: V1,
    /// Whose connection it is.
    pub tenant: TenantId,
    /// The connection.
    pub connection: ConnectionId,
    /// The number that the customer wrote to.
    pub number: NumberId,
    /// The message.
    pub message: MessageKey,
    /// When it was queued, in milliseconds since the Unix epoch.
    pub queued_at: Timestamp,
    /// What is to be done.
    #[serde(flatten)]
    pub task: MediaTask,
}

/// What is to be done with a message of a customer that has a file, or waits behind one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "task", rename_all = "snake_case")]
pub enum MediaTask {
    /// Fetch its file, if it has one, and hand its turn over.
    HandOver {
        /// The turn, all but the file.
        turn: Box<Turn>,
        /// Since when it was owed, where its agent's endpoint had not taken it: it goes out under another deduplication id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owed_at: Option<Timestamp>,
    },
    /// Fetch its file: nobody is told of it now, and people see it.
    Fetch {
        /// The file at Meta.
        media: Media,
    },
    /// The customer deleted it: its file goes.
    Erase,
}

/// Who wants to send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Author {
    /// An agent that is attached to the connection.
    Agent(AgentId),
    /// A person, by the name that the platform knows them under.
    Person(String),
}

/// Marks a message of the customer, and those before it, as read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MarkRead {
    /// Meta's id of the message, from the turn.
    pub wamid: Wamid,
    /// Show that an answer is being written: until it comes, or for 25 seconds.
    #[serde(default)]
    pub typing: bool,
}

/// `replies.fifo`: what an agent or a person sends back, free-form.
///
/// Message group: the conversation. Deduplication id: `id`, or `turn` with `/` and `index`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reply {
    /// The version.
    pub v: V1,
    /// The connection.
    pub connection: ConnectionId,
    /// The conversation, from the turn.
    pub conversation: ConversationId,
    /// Who sends.
    pub author: Author,
    /// The turn that this answers: with `index` it makes the reply's id, so that a turn told twice is answered once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<String>,
    /// Which of the answers to the turn this is, from 0.
    #[serde(default)]
    pub index: u16,
    /// A UUIDv7 of the sender's own, where there is no turn: the idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What to send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Outgoing>,
    /// The message to quote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<Wamid>,
    /// A message of the customer to mark as read, before anything is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<MarkRead>,
    /// Put the conversation before people, after anything is sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub handover: bool,
    /// The message, as the feed names it, that did not arrive and is sent again by this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resends: Option<String>,
}

/// To whom a template goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum To {
    /// A phone number with its country code.
    Phone(Phone),
    /// Meta's business-scoped user id.
    Bsuid(Bsuid),
    /// The customer of a conversation.
    Conversation(ConversationId),
}

/// A text of 1 to 200 characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

impl Label {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Label {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        let is_well = (1..=200).contains(&text.chars().count());
        if is_well { Ok(Self(text)) } else { Err(Malformed { what: "label", expected: "1 to 200 characters" }) }
    }
}

impl std::convert::From<Label> for String {
    fn from(it: Label) -> Self {
        it.0
    }
}

impl JsonSchema for Label {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Label".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "minLength": 1, "maxLength": 200 })
    }
}

/// A field of a participant: a text, a number, or true or false. It is kept as the text that a message shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Scalar(pub String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(it) => Ok(Self(it)),
            serde_json::Value::Number(it) => Ok(Self(it.to_string())),
            serde_json::Value::Bool(it) => Ok(Self(it.to_string())),
            _ => Err(serde::de::Error::custom("expected a text, a number, or true or false")),
        }
    }
}

impl JsonSchema for Scalar {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Scalar".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["string", "number", "boolean"] })
    }
}

/// `template-sends`: an approved template for one customer, from a campaign engine or from a person who begins or continues a conversation.
///
/// Fair queue: message group (optional) the connection. The same `id` is sent once, however often it is queued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TemplateSend {
    /// The version.
    pub v: V1,
    /// A UUIDv7 of the sender's own: the idempotency key. Its time is the job's own time.
    #[schemars(extend("pattern" = "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"))]
    pub id: String,
    /// Whose connection it is.
    pub tenant: TenantId,
    /// The connection.
    pub connection: ConnectionId,
    /// To whom.
    pub to: To,
    /// The template's name.
    pub template: TemplateName,
    /// Its language: `es_MX` or `es-MX`.
    pub language: Language,
    /// The values for its variables.
    #[serde(default, skip_serializing_if = "is_default")]
    pub values: Values,
    /// The fields that values of the form `{"field": "…"}` name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub participant: BTreeMap<String, Scalar>,
    /// After this time (milliseconds since the Unix epoch) it is not worth sending; without it, 24 hours after the job's own time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
    /// A step of a campaign: a second job for the same customer and step is refused as `duplicate`, whatever its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<Label>,
    /// The engine's own words for the campaign: they come back on every event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaign: Option<Label>,
    /// The person or agent who sends it; without it, a campaign does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<Author>,
    /// The message, as the feed names it, that failed or ended `unconfirmed` and is sent again by this: the reservation of an `unconfirmed` one lets this
    /// one pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resends: Option<String>,
}

fn is_default<T: Default + PartialEq>(it: &T) -> bool {
    *it == T::default()
}

/// `events`: what the platform must know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeedEvent {
    /// The version.
    pub v: V1,
    /// The same whenever the same thing is told again.
    pub id: String,
    /// When it happened, in milliseconds since the Unix epoch.
    pub at: Timestamp,
    /// Whose connection it is.
    pub tenant: TenantId,
    /// The connection.
    pub connection: ConnectionId,
    /// What happened.
    #[serde(flatten)]
    pub what: Happened,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type")]
pub enum Happened {
    /// A message is kept: the customer's, or one that a person wrote in the WhatsApp Business app.
    #[serde(rename = "message.kept")]
    MessageKept {
        /// The conversation.
        conversation: ConversationId,
        /// The message; for a customer's it is the id of its turn too.
        message: String,
        /// The number.
        number: NumberId,
        /// Which side it is from.
        from: From,
        /// What it is.
        kind: String,
    },
    /// A message of ours came a step further.
    #[serde(rename = "message.state")]
    MessageState {
        /// The conversation.
        conversation: ConversationId,
        /// The message.
        message: String,
        /// The number, if one was chosen.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        number: Option<NumberId>,
        /// What this event tells: a step of Meta's or of ours.
        step: String,
        /// What has become of the message, all told.
        state: State,
        /// The attempt, from 1.
        attempt: u8,
        /// The code of the refusal or of Meta's fault.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
        /// What a person is told of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        /// Whether to send the same again: on failures and refusals.
        #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
        retry: Option<Retry>,
        /// What Meta charges.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pricing: Option<Pricing>,
        /// The campaign's own words for itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        campaign: Option<String>,
        /// It is a template that went out without an open window.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        template_badge: bool,
    },
    /// A send was refused, with what to do instead.
    #[serde(rename = "send.refused")]
    SendRefused {
        /// The conversation: of an `awaiting_reply`, the one that waits. Absent where the job led to none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        conversation: Option<ConversationId>,
        /// The message; the job's id where it became none.
        message: String,
        /// The code.
        code: String,
        /// What a person is told.
        note: String,
        /// When the window closed, where that is the reason.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        closed_at: Option<Timestamp>,
        /// Whether to send the same again.
        #[serde(flatten)]
        retry: Retry,
        /// The campaign's own words for itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        campaign: Option<String>,
    },
    /// A connection changed its state.
    #[serde(rename = "connection.state")]
    ConnectionState {
        /// `STOPPED`, `STARTING`, `RUNNING` or `ERROR`.
        state: connection::State,
        /// Why.
        note: String,
    },
    /// A connection runs, and somebody is to see to something of it.
    #[serde(rename = "connection.warning")]
    ConnectionWarning {
        /// To what: `token_expires`.
        code: String,
        /// What to do.
        note: String,
    },
    /// A number cannot send.
    #[serde(rename = "number.fault")]
    NumberFault {
        /// The number.
        number: NumberId,
        /// Meta's code.
        code: u32,
        /// What to do.
        note: String,
    },
    /// Meta judges a number otherwise, or lets it send otherwise.
    #[serde(rename = "number.quality")]
    NumberQuality {
        /// The number.
        number: NumberId,
        /// What customers make of its messages, if Meta has said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        quality: Option<connection::Quality>,
        /// How many messages a second it may send and receive together, if Meta has said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        throughput: Option<u32>,
    },
    /// Whether a template may be sent has changed.
    #[serde(rename = "template.status")]
    TemplateStatus {
        /// Its name.
        template: TemplateName,
        /// Its language.
        language: Language,
        /// Meta's word; only `APPROVED` may be sent. `DELETED` if Meta lists it no more.
        status: Status,
        /// The word before it; absent for a template that is new.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        previous: Option<Status>,
    },
    /// Meta has put a template into another category, which has another price.
    #[serde(rename = "template.category")]
    TemplateCategory {
        /// Its name.
        template: TemplateName,
        /// Its language.
        language: Language,
        /// The category.
        category: Category,
        /// The category before it.
        previous: Category,
    },
    /// Meta judges a template otherwise.
    #[serde(rename = "template.quality")]
    TemplateQuality {
        /// Its name.
        template: TemplateName,
        /// Its language.
        language: Language,
        /// `GREEN`, `YELLOW`, `RED` or `UNKNOWN`.
        quality: String,
        /// The judgement before it, if there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        previous: Option<String>,
    },
    /// A customer's word on marketing.
    #[serde(rename = "opt_out")]
    OptOut {
        /// The conversation.
        conversation: ConversationId,
        /// The word.
        preference: Preference,
    },
    /// Whether templates may be sent to a customer has changed.
    #[serde(rename = "do_not_contact")]
    DoNotContact {
        /// The conversation.
        conversation: ConversationId,
        /// May none be sent?
        is_set: bool,
    },
    /// Who answers has changed.
    #[serde(rename = "handling")]
    Handling {
        /// The conversation.
        conversation: ConversationId,
        /// `agent` or `person`.
        by: Answerer,
    },
    /// An agent's HTTPS endpoint takes no turns any more, or takes them again.
    #[serde(rename = "agent.endpoint")]
    AgentEndpoint {
        /// The agent.
        agent: AgentId,
        /// `down` or `up`.
        state: EndpointState,
        /// What it failed with last: of `down`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
        /// What a person is told of it.
        note: String,
    },
    /// An agent's endpoint did not take a turn for half an hour, though it takes others or answers pings: the next turn names it as missed.
    #[serde(rename = "agent.turn_given_up")]
    AgentTurnGivenUp {
        /// The agent.
        agent: AgentId,
        /// The conversation.
        conversation: ConversationId,
        /// The turn.
        turn: String,
        /// What it failed with last.
        code: String,
        /// What a person is told of it.
        note: String,
    },
    /// An agent's endpoint took a turn, and what it answered was not all sent.
    #[serde(rename = "agent.answer_refused")]
    AgentAnswerRefused {
        /// The agent.
        agent: AgentId,
        /// The conversation.
        conversation: ConversationId,
        /// The turn.
        turn: String,
        /// What is wrong with the answer.
        problems: Vec<AnswerProblem>,
    },
}

/// How an agent's HTTPS endpoint stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    /// It takes no turns: they are owed.
    Down,
    /// It takes turns.
    Up,
}

/// What is wrong with an agent's answer to a turn. It repeats nothing of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AnswerProblem {
    /// Where in the answer: `replies[1].message.text`; empty if it is all of it.
    pub place: String,
    /// What to do.
    pub note: String,
}

/// `probes`: a reason to ask Meta how a connection stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Probe {
    /// The version.
    pub v: V1,
    /// Whose connection it is.
    pub tenant: TenantId,
    /// The connection.
    pub connection: ConnectionId,
    /// When the reason arose, in milliseconds since the Unix epoch.
    pub heard_at: Timestamp,
    /// The webhook's field that is the reason (`account_update`, `phone_number_quality_update`, …), or one of ours: `connection_error`,
    /// `connection_start`, `connection_check`, `connection_deleted`, `owed_turns`, `message_templates` (the list of templates may be out of
    /// date), `message_templates_asked_for` (a person wants it read again), `agent_endpoint` (an agent's endpoint is down), `erase` and
    /// `erase_all` (customers' data are being erased).
    pub field: String,
    /// The account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waba: Option<WabaId>,
    /// The number, where it is one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<NumberId>,
    /// What Meta sent, as JSON text: a hint only, since such webhooks come late and out of order. Of `erase` the conversation, of
    /// `agent_endpoint` the agent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
}

/// `quarantine`: what a signed webhook held that was not understood, for a person to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quarantined {
    /// The version.
    pub v: V1,
    /// The app that signed it.
    pub app: AppId,
    /// When it arrived, in milliseconds since the Unix epoch.
    pub heard_at: Timestamp,
    /// Why it is here, and how often: by name.
    pub reasons: BTreeMap<String, u64>,
    /// Which piece this is, from 1.
    pub piece: usize,
    /// Of how many.
    pub pieces: usize,
    /// The piece: base64 of the bytes.
    pub body: String,
}

#[cfg(test)]
mod tests;
