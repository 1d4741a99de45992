//! What Meta tells us: one signed body becomes a list of what was heard and a list of what was not understood.
//!
//! Every entry, change and element of a body ends in exactly one [`Update`] or [`Ignored`]; a member that we do not know of something that
//! we do understand is kept beside it (in the message, or as an [`Ignored`] with [`Reason::Member`]). No JSON is an error.
//! This file must not know what happens with any of it.
//!
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/overview>

mod fields;
mod messages;
mod notices;
mod people;
mod statuses;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use domain::customer::Customer;
use domain::ids::{NumberId, WabaId, Wamid};
use domain::message::{Event, Profile};
use domain::status::{Fault, Pricing, Step};
use domain::time::Timestamp;
use serde_json::value::RawValue;

use self::fields::Use;
use self::people::Contacts;
use crate::fault;
use crate::signature::Verified;
use crate::wire::{Object, kept};

/// Longest name of something ignored, in characters: names go into logs and counts.
const NAME_LIMIT: usize = 120;

/// All that one body told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heard {
    /// What was understood, in the order of the body.
    pub updates: Vec<Update>,
    /// What was not.
    pub ignored: Vec<Ignored>,
}

/// One thing that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The WhatsApp Business account that it concerns.
    pub waba: Option<WabaId>,
    /// The business number that it concerns. Never guessed from a display number, whose form varies.
    pub number: Option<NumberId>,
    /// What it is.
    pub what: What,
}

/// What an update is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly every update is of the large kind")]
pub enum What {
    /// Something happened between a customer and a number.
    Customer {
        /// Who, as far as the body names them.
        customer: Customer,
        /// What else the body tells of them.
        profile: Profile,
        /// What happened.
        event: Event,
    },
    /// Something became of a message of ours.
    Status(StatusHeard),
    /// Something about an account, a number or a template. A reason to look, not a fact: these come late and out of order.
    Account(Notice),
    /// The history of a number that is also used in the WhatsApp Business app.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/history>
    History {
        /// How many messages it holds.
        messages: usize,
    },
    /// What Meta could not do or deliver: 131035 tells that messages to us were lost.
    Lost(Fault),
}

/// What became of a message of ours.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages/status>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusHeard {
    /// Meta's id of the message.
    pub wamid: Wamid,
    /// What became of it.
    pub step: Step,
    /// Meta's time of it.
    pub at: Timestamp,
    /// To whom it went, if that is told.
    pub recipient: Option<Customer>,
    /// What we gave the message as `biz_opaque_callback_data`. Whoever holds the app's secret can forge it.
    pub opaque: Option<String>,
    /// What Meta charges.
    pub pricing: Option<Pricing>,
    /// Why it failed.
    pub faults: Vec<Fault>,
}

/// A notice about an account, a number or a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Meta's name of the kind of notice.
    pub field: String,
    /// Meta's time of it.
    pub at: Option<Timestamp>,
    /// What it says, as JSON text.
    pub value: String,
}

/// What the value of a notice calls its event (`DISABLED_UPDATE`), or its decision: a word of Meta's and nothing that was written by
/// anybody.
#[must_use]
pub fn event_word(value: &str) -> Option<String> {
    let value = Object::parse(value)?;
    let word = value.words("event").or_else(|| value.words("decision"))?;
    let is_word = word.len() <= 64 && word.bytes().all(|it| it.is_ascii_uppercase() || it == b'_');
    is_word.then_some(word)
}

/// One thing that was not understood, or is of no use to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// Why.
    pub reason: Reason,
    /// What it is, by Meta's names, outermost first: `messages.statuses.status=deleted`. At most 120 characters.
    pub field: String,
    /// The thing itself, as JSON text.
    pub raw: String,
}

/// Why something was ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The body is not about a WhatsApp Business account.
    Object,
    /// A change under a field that we do not know.
    Field,
    /// A change under a field that Meta documents and that we have no use for.
    NotUsed,
    /// A member that we do not know, of something that was understood otherwise.
    Member,
    /// A value that we do not know, where Meta documents a few.
    Value,
    /// What became of a message to a group: we write to none.
    GroupStatus,
    /// What became of a message of another responder.
    StandbyStatus,
    /// Nobody is named, so it belongs to no conversation.
    Nobody,
    /// It has no id.
    NoId,
    /// It has no time.
    NoTime,
    /// The message that it speaks of is not named.
    NoTarget,
    /// It has another shape than documented.
    Unreadable,
    /// There is nothing in it.
    Empty,
}

impl Reason {
    /// The name, for logs and counts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Field => "unknown_field",
            Self::NotUsed => "not_used",
            Self::Member => "unknown_member",
            Self::Value => "unknown_value",
            Self::GroupStatus => "group_status",
            Self::StandbyStatus => "standby_status",
            Self::Nobody => "nobody",
            Self::NoId => "no_id",
            Self::NoTime => "no_time",
            Self::NoTarget => "no_target",
            Self::Unreadable => "unreadable",
            Self::Empty => "empty",
        }
    }
}

/// The body is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is not JSON")]
pub struct NotJson;

/// Reads a signed body.
///
/// # Errors
/// [`NotJson`], and nothing else.
pub fn parse(verified: &Verified<'_>) -> Result<Heard, NotJson> {
    // A broken byte inside a string must not cost the whole batch.
    let body = String::from_utf8_lossy(verified.body());
    let mut heard = Heard::default();
    match Object::parse(&body) {
        Some(it) => envelope(&it, &body, &mut heard),
        // Only an object can be from Meta. What else is JSON is kept, what is not is told.
        None => {
            let raw: &RawValue = serde_json::from_str(&body).map_err(|_| NotJson)?;
            heard.ignored.push(Ignored { reason: Reason::Unreadable, field: "body".to_owned(), raw: kept(raw) });
        }
    }
    Ok(heard)
}

/// Where something stands in a body, and where what it tells goes.
struct Change<'a, 'h> {
    heard: &'h mut Heard,
    waba: Option<WabaId>,
    number: Option<NumberId>,
    /// Time of the entry.
    at: Option<Timestamp>,
    field: Cow<'a, str>,
    /// The whole change, or its value if it has one.
    raw: &'a RawValue,
}

impl Change<'_, '_> {
    fn tell(&mut self, what: What) {
        self.heard.updates.push(Update { waba: self.waba.clone(), number: self.number.clone(), what });
    }

    /// Keeps what was not understood, under its name below the change's field.
    fn ignore(&mut self, reason: Reason, name: &str, raw: &RawValue) {
        let field = if name.is_empty() { self.field.to_string() } else { format!("{}.{name}", self.field) };
        self.heard.ignored.push(ignored(reason, &field, raw.get()));
    }

    /// Keeps the members that we do not know of something that was understood otherwise.
    fn ignore_others(&mut self, of: &Object<'_>, known: &[&str], prefix: &str) {
        for (name, raw) in of.others(known) {
            self.ignore(Reason::Member, &format!("{prefix}{name}"), raw);
        }
    }

    /// How much was told so far.
    fn told(&self) -> usize {
        self.heard.updates.len() + self.heard.ignored.len()
    }
}

fn ignored(reason: Reason, field: &str, raw: &str) -> Ignored {
    let raw = serde_json::from_str(raw).map_or_else(|_| raw.to_owned(), kept);
    Ignored { reason, field: field.chars().take(NAME_LIMIT).collect(), raw }
}

fn envelope(body: &Object<'_>, text: &str, heard: &mut Heard) {
    let object = body.text("object").unwrap_or_default();
    if object != "whatsapp_business_account" {
        heard.ignored.push(ignored(Reason::Object, &format!("object={object}"), text));
        return;
    }
    for (name, raw) in body.others(&["object", "entry"]) {
        heard.ignored.push(ignored(Reason::Member, name, raw.get()));
    }
    let entries = body.elements("entry");
    if entries.is_empty() {
        heard.ignored.push(ignored(Reason::Empty, "entry", text));
    }
    for raw in entries {
        match Object::read(raw) {
            Some(it) => entry(&it, raw, heard),
            None => heard.ignored.push(ignored(Reason::Unreadable, "entry", raw.get())),
        }
    }
}

fn entry(entry: &Object<'_>, raw: &RawValue, heard: &mut Heard) {
    // Some documented examples have the field one level up.
    for (name, raw) in entry.others(&["id", "time", "uid", "field", "changes"]) {
        heard.ignored.push(ignored(Reason::Member, &format!("entry.{name}"), raw.get()));
    }
    let changes = entry.elements("changes");
    if changes.is_empty() {
        heard.ignored.push(ignored(Reason::Empty, "entry.changes", raw.get()));
    }
    for raw in changes {
        let Some(object) = Object::read(raw) else {
            heard.ignored.push(ignored(Reason::Unreadable, "entry.changes", raw.get()));
            continue;
        };
        let it = Change {
            waba: entry.text("id").and_then(|it| WabaId::parse(it).ok()),
            number: None,
            at: entry.time("time"),
            field: object.text("field").or_else(|| entry.text("field")).unwrap_or_default(),
            raw: object.get("value").unwrap_or(raw),
            heard,
        };
        change(it, &object, raw);
    }
}

fn change(mut it: Change<'_, '_>, object: &Object<'_>, raw: &RawValue) {
    it.ignore_others(object, &["field", "value"], "");
    let Some(value_raw) = object.get("value") else {
        return it.ignore(Reason::Empty, "value", raw);
    };
    let value = Object::read(value_raw);
    if let Some(value) = &value {
        it.number = number(value);
        // Under a partner's event the entry may be the partner's portfolio.
        let waba = value.object("waba_info").and_then(|it| it.text("waba_id"));
        it.waba = waba.and_then(|id| WabaId::parse(id).ok()).or(it.waba.take());
    }
    let usage = fields::usage(&it.field);
    match (usage, value) {
        (Use::Notice, _) => {
            let notice = Notice { field: it.field.to_string(), at: it.at, value: kept(value_raw) };
            it.tell(What::Account(notice));
        }
        (Use::None, _) => it.ignore(Reason::NotUsed, "", value_raw),
        (Use::Unknown, _) => it.ignore(Reason::Field, "", value_raw),
        (Use::Thread(_), None) => it.ignore(Reason::Unreadable, "value", value_raw),
        (Use::Thread(read), Some(value)) => {
            let before = it.told();
            read(&mut it, &value);
            if it.told() == before {
                it.ignore(Reason::Empty, "value", value_raw);
            }
        }
    }
}

/// The number that a value concerns.
fn number(value: &Object<'_>) -> Option<NumberId> {
    let told = |member: &str| value.object(member)?.text("phone_number_id");
    let id = told("metadata").or_else(|| told("recipient")).or_else(|| value.text("phone_number_id"))?;
    NumberId::parse(id).ok()
}

/// What every value with messages, statuses or the like has, beside what it is named for.
const COMMON: [&str; 4] = ["messaging_product", "metadata", "contacts", "errors"];

/// Tells what Meta could not do, and gives the contacts by which elements name people.
fn common(it: &mut Change<'_, '_>, value: &Object<'_>) -> Contacts {
    for raw in value.elements("errors") {
        it.tell(What::Lost(fault::read(raw)));
    }
    Contacts::read(&value.elements("contacts"))
}

/// `messages`: <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages>.
fn messages(it: &mut Change<'_, '_>, value: &Object<'_>) {
    let contacts = common(it, value);
    messages::inbound(it, &value.elements("messages"), &contacts, Event::Message);
    for raw in value.elements("statuses") {
        statuses::read(it, raw, &contacts);
    }
    let [a, b, c, d] = COMMON;
    it.ignore_others(value, &[a, b, c, d, "messages", "statuses"], "");
}

/// `standby`: copies of a thread that another responder has.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/standby>
fn standby(it: &mut Change<'_, '_>, value: &Object<'_>) {
    let inner = value.object("standby");
    let value = inner.as_ref().unwrap_or(value);
    let contacts = common(it, value);
    messages::inbound(it, &value.elements("messages"), &contacts, Event::Standby);
    for raw in value.elements("message_echoes") {
        messages::echo_of_responder(it, raw, &contacts);
    }
    for raw in value.elements("statuses") {
        statuses::read_standby(it, raw, &contacts);
    }
    let [a, b, c, d] = COMMON;
    it.ignore_others(value, &[a, b, c, d, "messages", "message_echoes", "statuses"], "");
}

/// `smb_message_echoes`: what people of the business write in the WhatsApp Business app.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/smb_message_echoes>
fn app_echoes(it: &mut Change<'_, '_>, value: &Object<'_>) {
    let contacts = common(it, value);
    for raw in value.elements("message_echoes") {
        messages::echo_of_app(it, raw, &contacts);
    }
    let [a, b, c, d] = COMMON;
    it.ignore_others(value, &[a, b, c, d, "message_echoes"], "");
}

/// `message_echoes`: what other programs, or Meta's own agent, send through the API. No person of the business wrote it.
fn api_echoes(it: &mut Change<'_, '_>, value: &Object<'_>) {
    let contacts = common(it, value);
    for raw in value.elements("message_echoes") {
        messages::echo_of_responder(it, raw, &contacts);
    }
    let [a, b, c, d] = COMMON;
    it.ignore_others(value, &[a, b, c, d, "message_echoes"], "");
}
