//! One element of `messages` or of an echo: what it is to the conversation.
//!
//! Kinds that we do not support or do not know are kept by their name; members that we do not know are kept beside what we do.
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages>

use domain::customer::{Bsuid, Customer, Phone};
use domain::ids::Wamid;
use domain::message::{Content, Event, Media, Message, Profile, Quoted, Referral};
use domain::time::Timestamp;
use serde_json::value::RawValue;

use super::people::{Contacts, Named};
use super::{Change, Reason, What};
use crate::fault;
use crate::wire::{Object, kept};

/// The members that every message may have.
const KNOWN: [&str; 13] = [
    "from",
    "from_user_id",
    "from_parent_user_id",
    "to",
    "to_user_id",
    "to_parent_user_id",
    "id",
    "timestamp",
    "type",
    "context",
    "referral",
    "group_id",
    "errors",
];

/// Members that we do not know, by their names below the message.
type Others<'a> = Vec<(String, &'a RawValue)>;

/// What every element has, whatever it tells.
struct Element<'a> {
    object: Object<'a>,
    wamid: Wamid,
    at: Timestamp,
    /// Meta's name of the kind.
    kind: String,
    /// What stands under the name of the kind.
    body: Option<&'a RawValue>,
}

impl<'a> Element<'a> {
    fn read(raw: &'a RawValue) -> Result<Self, Reason> {
        let object = Object::read(raw).ok_or(Reason::Unreadable)?;
        let wamid = object.text("id").and_then(|it| Wamid::parse(it).ok()).ok_or(Reason::NoId)?;
        let at = object.time("timestamp").ok_or(Reason::NoTime)?;
        let kind = object.words("type").unwrap_or_else(|| "unknown".to_owned());
        // A recording of the older spelling `voice` may stand under either name.
        let body = object.get(&kind).or_else(|| if kind == "voice" { object.get("audio") } else { None });
        Ok(Self { object, wamid, at, kind, body })
    }

    /// What stands under the name of the kind, if it is an object.
    fn inner(&self) -> Object<'a> {
        self.body.and_then(Object::read).unwrap_or_default()
    }

    /// The members beside those that every message has.
    fn others(&self) -> Others<'a> {
        let is_body = |name: &str| name == self.kind || (self.kind == "voice" && name == "audio");
        let others = self.object.others(&KNOWN).filter(|(name, _)| !is_body(name));
        others.map(|(name, raw)| (name.to_owned(), raw)).collect()
    }

    fn target(&self, member: &str) -> Result<Wamid, Reason> {
        self.inner().text(member).and_then(|it| Wamid::parse(it).ok()).ok_or(Reason::NoTarget)
    }

    fn note(&self, what: String, body: Option<String>) -> Event {
        Event::Note { wamid: self.wamid.clone(), at: self.at, what, body }
    }
}

/// What one element told.
struct Told<'a> {
    customer: Customer,
    profile: Profile,
    event: Event,
    others: Others<'a>,
}

impl<'a> Told<'a> {
    fn new(element: &Element<'a>, (customer, profile): (Customer, Profile), mut event: Event, mut others: Others<'a>) -> Self {
        if let Event::Message(message) | Event::Standby(message) | Event::Echo(message) = &mut event {
            message.unknown = json_object(&others);
            others.clear();
        } else {
            // Other events have no place for what can stand on any message.
            let unused = ["context", "referral", "errors"];
            others.extend(unused.into_iter().filter_map(|name| Some((name.to_owned(), element.object.get(name)?))));
        }
        Self { customer, profile, event, others }
    }
}

/// Tells what an element of `list` told, or keeps the element.
fn tell(it: &mut Change<'_, '_>, list: &str, raw: &RawValue, told: Result<Told<'_>, Reason>) {
    match told {
        Ok(Told { customer, profile, event, others }) => {
            for (name, raw) in others {
                it.ignore(Reason::Member, &format!("{list}.{name}"), raw);
            }
            it.tell(What::Customer { customer, profile, event });
        }
        Err(reason) => it.ignore(reason, list, raw),
    }
}

/// The elements of a list of messages by customers; `wrap` tells whether the thread is ours.
pub(super) fn inbound(it: &mut Change<'_, '_>, elements: &[&RawValue], contacts: &Contacts, wrap: fn(Message) -> Event) {
    for raw in elements {
        let told = Element::read(raw).and_then(|element| by_customer(&element, contacts, elements.len() == 1, wrap));
        tell(it, "messages", raw, told);
    }
}

/// One message that a person of the business wrote in the WhatsApp Business app.
pub(super) fn echo_of_app(it: &mut Change<'_, '_>, raw: &RawValue, contacts: &Contacts) {
    let told = Element::read(raw).and_then(|element| {
        let mut others = element.others();
        let named = Named::of(&element.object, "to", "to_user_id", &["to_parent_user_id"]);
        let who = contacts.complete(named, false).ok_or(Reason::Nobody)?;
        let event = match element.kind.as_str() {
            // What the business does to its own messages is no message of a person.
            "edit" | "revoke" | "reaction" | "system" | "request_welcome" => echo_note(&element),
            _ => Event::Echo(message(&element, &mut others)),
        };
        Ok(Told::new(&element, who, event, others))
    });
    tell(it, "message_echoes", raw, told);
}

/// One message that another responder (a program, Meta's own agent) sent: a note, since no person of the business wrote it. It holds the body
/// of the request with which it was sent, or the message itself.
pub(super) fn echo_of_responder(it: &mut Change<'_, '_>, raw: &RawValue, contacts: &Contacts) {
    let told = Element::read(raw).and_then(|mut element| {
        let mut named = Named::of(&element.object, "to", "to_user_id", &["to_parent_user_id"]);
        let mut others = element.others();
        if let Some(sent) = element.object.object("message") {
            others.retain(|(name, _)| name != "message");
            named = Named::of(&sent, "to", "recipient", &[]);
            element.kind = sent.words("type").unwrap_or_else(|| "text".to_owned());
            element.body = sent.get(&element.kind).or_else(|| element.object.get("message"));
        }
        let who = contacts.complete(named, true).ok_or(Reason::Nobody)?;
        Ok(Told::new(&element, who, echo_note(&element), others))
    });
    tell(it, "message_echoes", raw, told);
}

fn echo_note(element: &Element<'_>) -> Event {
    let words = if element.kind == "text" { element.inner().words("body") } else { None };
    element.note(format!("echo_{}", element.kind), words.or_else(|| element.body.map(kept)))
}

fn by_customer<'a>(element: &Element<'a>, contacts: &Contacts, alone: bool, wrap: fn(Message) -> Event) -> Result<Told<'a>, Reason> {
    let mut others = element.others();
    let named = Named::of(&element.object, "from", "from_user_id", &["from_parent_user_id"]);
    let is_in_group = element.object.get("group_id").is_some();
    if element.kind == "system" && !is_in_group {
        return system(element, named, contacts, others);
    }
    let who = contacts.complete(named.clone(), alone).ok_or(Reason::Nobody)?;
    let (wamid, at) = (element.wamid.clone(), element.at);
    let event = match element.kind.as_str() {
        // Whatever it is: it is not said to us.
        _ if is_in_group => {
            wrap(Message { content: unsupported(&element.kind, element.body), in_group: true, ..message(element, &mut others) })
        }
        "reaction" => {
            keep_others(&mut others, &element.inner(), "reaction", &["message_id", "emoji"]);
            Event::Reaction { wamid, at, target: element.target("message_id")?, emoji: element.inner().words("emoji") }
        }
        "edit" => {
            keep_others(&mut others, &element.inner(), "edit", &["original_message_id", "message"]);
            Event::Edit { wamid, at, target: element.target("original_message_id")?, content: edited(element, &mut others) }
        }
        "revoke" => {
            keep_others(&mut others, &element.inner(), "revoke", &["original_message_id"]);
            Event::Revoke { wamid, at, target: element.target("original_message_id")? }
        }
        "request_welcome" => element.note(element.kind.clone(), element.body.map(kept)),
        "contacts" if is_someone_else(element, &named) => {
            let message = message(element, &mut others);
            wrap(Message { content: unsupported(&element.kind, element.body), ..message })
        }
        _ => wrap(message(element, &mut others)),
    };
    Ok(Told::new(element, who, event, others))
}

/// A notice that a customer's number or id changed, or any other notice of WhatsApp.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages/system>
fn system<'a>(element: &Element<'a>, sender: Named, contacts: &Contacts, mut others: Others<'a>) -> Result<Told<'a>, Reason> {
    let notice = element.inner();
    let what = notice.words("type").unwrap_or_else(|| element.kind.clone());
    let body = notice.words("body");
    let is_change = matches!(what.as_str(), "user_changed_number" | "customer_changed_number" | "user_changed_user_id");
    if is_change && let Some((now, previous)) = changed(&notice, &sender) {
        let known =
            ["type", "body", "wa_id", "new_wa_id", "customer", "user_id", "parent_user_id", "previous_user_id", "previous_parent_user_id"];
        keep_others(&mut others, &notice, "system", &known);
        let event = Event::Changed { wamid: element.wamid.clone(), at: element.at, previous, body };
        return Ok(Told::new(element, (now, Profile::default()), event, others));
    }
    let told = Named::of(&notice, "wa_id", "user_id", &["parent_user_id"]);
    let customer = Named::of(&notice, "customer", "user_id", &[]);
    let named = [sender, told, customer].into_iter().find_map(|it| contacts.complete(it, false));
    let event = element.note(what, body.or_else(|| element.body.map(kept)));
    Ok(Told::new(element, named.ok_or(Reason::Nobody)?, event, others))
}

/// Who they are now and who they were, if the notice tells both.
fn changed(notice: &Object<'_>, sender: &Named) -> Option<(Customer, Customer)> {
    let phone = |name: &str| notice.text(name).and_then(|it| Phone::parse(&it).ok());
    let bsuid = |name: &str| notice.text(name).and_then(|it| Bsuid::parse(&it).ok());
    // Older payloads have `new_wa_id` for the new number and `customer` for the old one.
    let now_phone = phone("wa_id").or_else(|| phone("new_wa_id"));
    let now_bsuid = bsuid("user_id").or_else(|| bsuid("wa_id")).or_else(|| bsuid("parent_user_id"));
    let was_phone = sender.phone().cloned().or_else(|| phone("customer")).filter(|it| now_phone.as_ref() != Some(it));
    let was_bsuid = bsuid("previous_user_id").or_else(|| sender.bsuid().cloned()).or_else(|| bsuid("previous_parent_user_id"));
    let was_bsuid = was_bsuid.filter(|it| now_bsuid.as_ref() != Some(it));
    Some((Customer::known_by(now_phone, now_bsuid)?, Customer::known_by(was_phone, was_bsuid)?))
}

/// Keeps the members of a part of a message that we do not know.
fn keep_others<'a>(others: &mut Others<'a>, part: &Object<'a>, name: &str, known: &[&str]) {
    others.extend(part.others(known).map(|(member, raw)| (format!("{name}.{member}"), raw)));
}

fn message<'a>(element: &Element<'a>, others: &mut Others<'a>) -> Message {
    let context = element.object.object("context").unwrap_or_default();
    keep_others(others, &context, "context", &["from", "from_user_id", "from_parent_user_id", "id", "forwarded", "frequently_forwarded"]);
    Message {
        wamid: element.wamid.clone(),
        at: element.at,
        content: content(&element.kind, element.body, others),
        quoted: context.text("id").and_then(|it| Wamid::parse(it).ok()).map(|wamid| Quoted { wamid }),
        referral: element.object.object("referral").map(|it| referral(&it)),
        forwarded: context.is_true("forwarded") || context.is_true("frequently_forwarded"),
        in_group: element.object.get("group_id").is_some(),
        faults: element.object.elements("errors").into_iter().map(fault::read).collect(),
        unknown: String::new(),
    }
}

fn referral(object: &Object<'_>) -> Referral {
    let known = ["source_url", "source_id", "source_type", "headline", "body", "ctwa_clid"];
    let others: Others<'_> = object.others(&known).map(|(name, raw)| (name.to_owned(), raw)).collect();
    Referral {
        source_url: object.words("source_url"),
        source_id: object.words("source_id"),
        source_type: object.words("source_type"),
        headline: object.words("headline"),
        body: object.words("body"),
        ctwa_clid: object.words("ctwa_clid"),
        raw: json_object(&others),
    }
}

/// What a message says now.
fn edited<'a>(element: &Element<'a>, others: &mut Others<'a>) -> Content {
    let Some(inner) = element.inner().object("message") else {
        return unsupported("edit", element.body);
    };
    let kind = inner.words("type").unwrap_or_else(|| "unknown".to_owned());
    keep_others(others, &inner, "edit.message", &["context", "type", "id", "timestamp", &kind]);
    content(&kind, inner.get(&kind), others)
}

fn content<'a>(kind: &str, body: Option<&'a RawValue>, others: &mut Others<'a>) -> Content {
    let read = match (kind, body.and_then(Object::read)) {
        ("text", Some(it)) => text(&it, others),
        ("button", Some(it)) => button(&it, others),
        ("interactive", Some(it)) => return interactive(&it, body, others),
        ("contacts", _) => shared_contact(body),
        ("unsupported", Some(it)) => it.words("type").map(|named| unsupported(&named, body)),
        // A file that Meta could not take may have no body at all; the message's faults say why.
        (_, it) if body.is_none() || it.is_some() => media(kind, &it.unwrap_or_default(), others),
        _ => None,
    };
    read.unwrap_or_else(|| unsupported(kind, body))
}

fn unsupported(kind: &str, body: Option<&RawValue>) -> Content {
    Content::Unsupported { r#type: kind.to_owned(), raw: body.map(kept).unwrap_or_default() }
}

/// Words. Meta has been seen to send a text without any, and an error beside it.
fn text<'a>(object: &Object<'a>, others: &mut Others<'a>) -> Option<Content> {
    let text = object.words("body")?;
    keep_others(others, object, "text", &["body"]);
    Some(Content::Text { text })
}

fn button<'a>(object: &Object<'a>, others: &mut Others<'a>) -> Option<Content> {
    let (text, payload) = (object.words("text"), object.words("payload"));
    if text.is_none() && payload.is_none() {
        return None;
    }
    keep_others(others, object, "button", &["text", "payload"]);
    Some(Content::Button { text: text.unwrap_or_default(), payload })
}

fn media<'a>(kind: &str, object: &Object<'a>, others: &mut Others<'a>) -> Option<Content> {
    let wrap = match kind {
        "image" => Content::Image,
        "video" => Content::Video,
        "audio" | "voice" => Content::Audio,
        "document" => Content::Document,
        "sticker" => Content::Sticker,
        _ => return None,
    };
    // The `url` lives five minutes and can be asked for again by the id: it is of no use later.
    keep_others(others, object, kind, &["id", "mime_type", "sha256", "caption", "filename", "voice", "animated", "url"]);
    Some(wrap(Media {
        id: object.words("id"),
        mime_type: object.words("mime_type"),
        sha256: object.words("sha256"),
        caption: object.words("caption"),
        filename: object.words("filename"),
        voice: kind == "voice" || object.is_true("voice"),
        animated: object.is_true("animated"),
    }))
}

/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages/interactive>
fn interactive<'a>(object: &Object<'a>, body: Option<&'a RawValue>, others: &mut Others<'a>) -> Content {
    let Some(kind) = object.words("type") else {
        return unsupported("interactive", body);
    };
    let answer = object.object(&kind).unwrap_or_default();
    let (known, content): (&[&str], _) = match kind.as_str() {
        "button_reply" => (&["id", "title"], button_reply(&answer)),
        "list_reply" => (&["id", "title", "description"], list_reply(&answer)),
        "nfm_reply" => (&["name", "body", "response_json"], flow_reply(&answer)),
        _ => (&[], None),
    };
    let Some(content) = content else {
        return unsupported(&kind, body);
    };
    keep_others(others, object, "interactive", &["type", &kind]);
    keep_others(others, &answer, &kind, known);
    content
}

fn button_reply(answer: &Object<'_>) -> Option<Content> {
    Some(Content::ButtonReply { id: answer.words("id")?, title: answer.words("title").unwrap_or_default() })
}

fn list_reply(answer: &Object<'_>) -> Option<Content> {
    let description = answer.words("description");
    Some(Content::ListReply { id: answer.words("id")?, title: answer.words("title").unwrap_or_default(), description })
}

/// The answers are documented as text that holds JSON, but need not be an object, and have been seen as JSON itself.
fn flow_reply(answer: &Object<'_>) -> Option<Content> {
    let response = answer.get("response_json")?;
    let response_json = answer.words("response_json").unwrap_or_else(|| kept(response));
    Some(Content::FlowReply { name: answer.words("name").unwrap_or_default(), body: answer.words("body"), response_json })
}

/// The card with which a customer answers our request for their number; other cards are not supported.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages/contacts>
fn shared_contact(body: Option<&RawValue>) -> Option<Content> {
    let phones = requested_phones(body?)?;
    let number = |it: &Object<'_>| ["wa_id", "phone"].into_iter().find_map(|name| Phone::parse(&it.text(name)?).ok());
    Some(Content::ContactShared { phone: phones.iter().find_map(number) })
}

/// The phones on the card that answers our request, if there is one.
fn requested_phones(body: &RawValue) -> Option<Vec<Object<'_>>> {
    let mut cards = crate::wire::elements(body).into_iter().filter_map(Object::read);
    let card = cards.find(|it| it.text("origin").as_deref() == Some("contact_request"))?;
    Some(card.elements("phones").into_iter().filter_map(Object::read).collect())
}

/// Does the card that answers our request name another person than its sender? Then its number must not become an address of the sender.
fn is_someone_else(element: &Element<'_>, sender: &Named) -> bool {
    let phones = element.body.and_then(requested_phones).unwrap_or_default();
    let ids: Vec<Bsuid> = phones.iter().filter_map(|it| Bsuid::parse(&it.text("user_id")?).ok()).collect();
    sender.bsuid().is_some() && !ids.is_empty() && !ids.iter().any(|it| sender.has(it))
}

/// Members as the JSON text of an object; empty if there are none.
fn json_object(members: &[(String, &RawValue)]) -> String {
    if members.is_empty() {
        return String::new();
    }
    let member = |(name, raw): &(String, &RawValue)| format!("{}:{}", serde_json::Value::from(name.as_str()), kept(raw));
    format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
}
