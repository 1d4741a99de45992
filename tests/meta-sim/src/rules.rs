//! Meta's validation of the body of `POST /{phone_number_id}/messages`: pure functions of the body alone.
//!
//! Limits: <https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/send-messages> and the page of each
//! message type. Lengths are counted in Unicode code points. What needs the books (windows, rates, templates, media) is not decided here.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::errors::Refusal;

/// What a body asks for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Request {
    /// A message to a customer.
    Send(Send),
    /// Marks a customer's message, and all before it, as read.
    MarkRead {
        /// Id of the customer's message.
        message_id: String,
        /// Whether the customer is to see that the business is typing.
        typing: bool,
    },
}

/// A message that is well formed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Send {
    /// Whom it is for.
    pub target: Target,
    /// Its `type`.
    pub kind: String,
    /// The member named as the type.
    pub content: Value,
    /// `context.message_id`: the message it answers.
    pub quote: Option<String>,
    /// `biz_opaque_callback_data`, which comes back in the statuses.
    pub opaque: Option<String>,
}

/// The customer as named in the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// `to`, as written.
    To(String),
    /// `recipient`: a business-scoped user id.
    Recipient(String),
}

impl Target {
    /// As written in the body; `contacts[].input` of the answer.
    pub(crate) fn input(&self) -> &str {
        match self {
            Self::To(text) | Self::Recipient(text) => text,
        }
    }
}

/// Media messages that the Cloud API takes by id or by link.
pub(crate) const MEDIA_KINDS: [&str; 5] = ["image", "video", "audio", "document", "sticker"];

/// Checks `body` as Meta does on arrival.
///
/// # Errors
///
/// 100, 131008, 131009 or 131051, with the parameter in the details.
pub(crate) fn request(body: &Value) -> Result<Request, Refusal> {
    let Some(fields) = body.as_object() else { return Err(Refusal::with(100, "The request body is not a JSON object.")) };
    match fields.get("messaging_product").and_then(Value::as_str) {
        Some("whatsapp") => {}
        Some(_) => return Err(Refusal::with(100, "Param messaging_product must be one of {WHATSAPP}")),
        None => return Err(Refusal::with(100, "The parameter messaging_product is required.")),
    }
    if fields.contains_key("status") {
        return mark_read(body);
    }
    send(body).map(Request::Send)
}

/// What `POST /{phone_number_id}/marketing_messages` takes besides: only templates, a policy, and whether activity is shared.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/marketing-messages/send-marketing-messages>
pub(crate) fn marketing_members(body: &Value) -> Result<(), Refusal> {
    if body["type"] != "template" {
        return Err(Refusal::with(131_055, "Only messages of type template are sent here."));
    }
    if !matches!(body["product_policy"].as_str(), Some("CLOUD_API_FALLBACK" | "STRICT")) && !body["product_policy"].is_null() {
        return Err(Refusal::with(100, "Param product_policy must be one of {CLOUD_API_FALLBACK, STRICT}"));
    }
    match &body["message_activity_sharing"] {
        Value::Null | Value::Bool(_) => Ok(()),
        _ => Err(Refusal::with(100, "Param message_activity_sharing must be a boolean.")),
    }
}

fn mark_read(body: &Value) -> Result<Request, Refusal> {
    if text(body, "status")? != "read" {
        return Err(Refusal::with(100, "Param status must be one of {READ}"));
    }
    let typing = match &body["typing_indicator"] {
        Value::Null => false,
        it if it["type"] == "text" => true,
        _ => return Err(Refusal::invalid("typing_indicator.type must be one of {TEXT}")),
    };
    Ok(Request::MarkRead { message_id: text(body, "message_id")?.to_owned(), typing })
}

fn send(body: &Value) -> Result<Send, Refusal> {
    let kind = match &body["type"] {
        Value::Null => "text",
        Value::String(kind) => kind.as_str(),
        _ => return Err(Refusal::invalid("Param type must be a string")),
    };
    match body["recipient_type"].as_str() {
        None if body["recipient_type"].is_null() => {}
        Some("individual" | "INDIVIDUAL") => {}
        Some("group") => return Err(Refusal::with(131_041, "The group does not exist.")),
        _ => return Err(Refusal::invalid("Param recipient_type must be one of {INDIVIDUAL, GROUP}")),
    }
    match body["category"].as_str() {
        None | Some("service") => {}
        Some(_) => return Err(Refusal::with(100, "Direct Send is not enabled for this WhatsApp Business Account.")),
    }
    let target = target(body)?;
    let content = &body[kind];
    if !is_known_kind(kind) {
        return Err(Refusal::with(131_051, format!("Message type {kind} is not currently supported.")));
    }
    if content.is_null() {
        return Err(Refusal::missing(kind));
    }
    check_content(kind, content)?;
    Ok(Send { target, kind: kind.to_owned(), content: content.clone(), quote: quote(body)?, opaque: opaque(body)? })
}

fn is_known_kind(kind: &str) -> bool {
    MEDIA_KINDS.contains(&kind) || ["text", "location", "contacts", "reaction", "interactive", "template"].contains(&kind)
}

/// `to` wins if both are present.
fn target(body: &Value) -> Result<Target, Refusal> {
    match (&body["to"], &body["recipient"]) {
        (Value::String(to), _) if !to.is_empty() => Ok(Target::To(to.clone())),
        (Value::Number(to), _) => Ok(Target::To(to.to_string())),
        (Value::Null, Value::String(recipient)) if crate::dialling::is_user_id(recipient) => Ok(Target::Recipient(recipient.clone())),
        (Value::Null, Value::Null) => Err(Refusal::with(100, "The parameter to is required.")),
        (Value::Null, _) => Err(Refusal::invalid("recipient must be a business-scoped user ID.")),
        _ => Err(Refusal::invalid("Param to must be a phone number.")),
    }
}

fn quote(body: &Value) -> Result<Option<String>, Refusal> {
    match &body["context"] {
        Value::Null => Ok(None),
        it => Ok(Some(text_in(it, "context", "message_id")?.to_owned())),
    }
}

fn opaque(body: &Value) -> Result<Option<String>, Refusal> {
    match &body["biz_opaque_callback_data"] {
        Value::Null => Ok(None),
        Value::String(data) => {
            at_most(data, 512, "biz_opaque_callback_data")?;
            Ok(Some(data.clone()))
        }
        _ => Err(Refusal::with(100, "Param biz_opaque_callback_data must be a string.")),
    }
}

fn check_content(kind: &str, content: &Value) -> Result<(), Refusal> {
    match kind {
        "text" => {
            let body = text_in(content, "text", "body")?;
            boolean(content, "text", "preview_url")?;
            at_most(body, 4096, "text.body")
        }
        "location" => location(content),
        "contacts" => contacts(content),
        "reaction" => reaction(content),
        "interactive" => interactive(content),
        "template" => template(content),
        media => medium(media, content),
    }
}

/// A file: by `id` or by `link`, with what may go with one of its kind.
pub(crate) fn medium(kind: &str, content: &Value) -> Result<(), Refusal> {
    match (content["id"].as_str(), content["link"].as_str()) {
        (Some(id), None) if !id.is_empty() => {}
        (None, Some(link)) if link.starts_with("https://") || link.starts_with("http://") => {}
        (None, Some(_)) => return Err(Refusal::invalid(format!("{kind}.link is not a valid URL."))),
        (Some(_), Some(_)) => return Err(Refusal::invalid(format!("Only one of {kind}.id and {kind}.link may be present."))),
        _ => return Err(Refusal::missing(&format!("{kind}.id or {kind}.link"))),
    }
    if let Some(caption) = optional_text(content, kind, "caption")? {
        if matches!(kind, "audio" | "sticker") {
            return Err(Refusal::with(100, format!("Unexpected key \"caption\" on param \"{kind}\".")));
        }
        at_most(caption, 1024, &format!("{kind}.caption"))?;
    }
    if optional_text(content, kind, "filename")?.is_some() && kind != "document" {
        return Err(Refusal::with(100, format!("Unexpected key \"filename\" on param \"{kind}\".")));
    }
    boolean(content, kind, "voice")
}

/// A place: both degrees, as numbers or texts, within their range.
pub(crate) fn location(content: &Value) -> Result<(), Refusal> {
    for (name, limit) in [("latitude", 90.0), ("longitude", 180.0)] {
        let degrees = match &content[name] {
            Value::Null => return Err(Refusal::missing(&format!("location.{name}"))),
            Value::String(text) => text.parse::<f64>().ok(),
            other => other.as_f64(),
        };
        if degrees.is_none_or(|it| it.abs() > limit) {
            return Err(Refusal::invalid(format!("location.{name} is out of range.")));
        }
    }
    Ok(())
}

fn contacts(content: &Value) -> Result<(), Refusal> {
    let Some(cards) = content.as_array().filter(|it| !it.is_empty()) else {
        return Err(Refusal::invalid("contacts must be a non-empty array."));
    };
    cards.iter().try_for_each(|card| {
        if card["name"].is_null() {
            return Err(Refusal::missing("contacts[].name"));
        }
        text_in(&card["name"], "contacts[].name", "formatted_name").map(drop)
    })
}

fn reaction(content: &Value) -> Result<(), Refusal> {
    text_in(content, "reaction", "message_id")?;
    match &content["emoji"] {
        // The empty text takes the reaction back.
        Value::String(emoji) if emoji.chars().count() <= 16 && !emoji.chars().any(|it| it.is_ascii_alphanumeric()) => Ok(()),
        Value::Null => Err(Refusal::missing("reaction.emoji")),
        _ => Err(Refusal::invalid("reaction.emoji must be a single emoji.")),
    }
}

fn interactive(content: &Value) -> Result<(), Refusal> {
    let kind = text_in(content, "interactive", "type")?;
    let action = &content["action"];
    if action.is_null() {
        return Err(Refusal::missing("interactive.action"));
    }
    match kind {
        "button" => {
            header_and_footer(content, true)?;
            body(content, 1024)?;
            buttons(action)
        }
        "list" => {
            header_and_footer(content, false)?;
            body(content, 4096)?;
            list(action)
        }
        "cta_url" => {
            header_and_footer(content, true)?;
            body(content, 1024)?;
            call_to_action(action)
        }
        "flow" => {
            header_and_footer(content, true)?;
            body(content, 1024)?;
            flow(action)
        }
        "location_request_message" | "contact_request" | "call_permission_request" | "address_message" | "voice_call" => {
            body(content, 1024)
        }
        "catalog_message" | "order_details" | "order_status" => body(content, 1024),
        "product" | "product_list" | "carousel" => Ok(()),
        other => Err(Refusal::invalid(format!("interactive.type {other} is not supported."))),
    }
}

fn header_and_footer(content: &Value, media_header: bool) -> Result<(), Refusal> {
    let header = &content["header"];
    if !header.is_null() {
        match text_in(header, "interactive.header", "type")? {
            "text" => at_most(text_in(header, "interactive.header", "text")?, 60, "interactive.header.text")?,
            kind @ ("image" | "video" | "document") if media_header => medium(kind, &header[kind])?,
            other => return Err(Refusal::invalid(format!("interactive.header.type {other} is not allowed here."))),
        }
    }
    match &content["footer"] {
        Value::Null => Ok(()),
        footer => at_most(text_in(footer, "interactive.footer", "text")?, 60, "interactive.footer.text"),
    }
}

fn body(content: &Value, limit: usize) -> Result<(), Refusal> {
    if content["body"].is_null() {
        return Err(Refusal::missing("interactive.body"));
    }
    at_most(text_in(&content["body"], "interactive.body", "text")?, limit, "interactive.body.text")
}

fn buttons(action: &Value) -> Result<(), Refusal> {
    let buttons = array(action, "interactive.action", "buttons", 1, 3)?;
    let (mut ids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    for button in buttons {
        if button["type"] != "reply" {
            return Err(Refusal::invalid("interactive.action.buttons[].type must be one of {REPLY}"));
        }
        let id = text_in(&button["reply"], "interactive.action.buttons[].reply", "id")?;
        let title = text_in(&button["reply"], "interactive.action.buttons[].reply", "title")?;
        at_most(id, 256, "interactive.action.buttons[].reply.id")?;
        at_most(title, 20, "interactive.action.buttons[].reply.title")?;
        if !ids.insert(id) || !titles.insert(title) {
            return Err(Refusal::invalid("Duplicated button ids or titles."));
        }
    }
    Ok(())
}

fn list(action: &Value) -> Result<(), Refusal> {
    at_most(text_in(action, "interactive.action", "button")?, 20, "interactive.action.button")?;
    let sections = array(action, "interactive.action", "sections", 1, 10)?;
    let mut ids = BTreeSet::new();
    for section in sections {
        let title = optional_text(section, "interactive.action.sections[]", "title")?;
        if title.is_none() && sections.len() > 1 {
            return Err(Refusal::missing("interactive.action.sections[].title"));
        }
        at_most(title.unwrap_or_default(), 24, "interactive.action.sections[].title")?;
        for row in array(section, "interactive.action.sections[]", "rows", 1, 10)? {
            let id = text_in(row, "rows[]", "id")?;
            at_most(id, 200, "rows[].id")?;
            at_most(text_in(row, "rows[]", "title")?, 24, "rows[].title")?;
            at_most(optional_text(row, "rows[]", "description")?.unwrap_or_default(), 72, "rows[].description")?;
            if !ids.insert(id) {
                return Err(Refusal::invalid("Duplicated row ids."));
            }
        }
    }
    if ids.len() > 10 {
        return Err(Refusal::invalid("Total row count exceeds 10."));
    }
    Ok(())
}

fn call_to_action(action: &Value) -> Result<(), Refusal> {
    if action["name"] != "cta_url" {
        return Err(Refusal::invalid("interactive.action.name must be cta_url."));
    }
    let parameters = &action["parameters"];
    at_most(text_in(parameters, "interactive.action.parameters", "display_text")?, 20, "interactive.action.parameters.display_text")?;
    let url = text_in(parameters, "interactive.action.parameters", "url")?;
    if url.starts_with("https://") || url.starts_with("http://") {
        Ok(())
    } else {
        Err(Refusal::invalid("interactive.action.parameters.url is not a valid URL."))
    }
}

fn flow(action: &Value) -> Result<(), Refusal> {
    if action["name"] != "flow" {
        return Err(Refusal::invalid("interactive.action.name must be flow."));
    }
    let parameters = &action["parameters"];
    text_in(parameters, "interactive.action.parameters", "flow_message_version")?;
    at_most(text_in(parameters, "interactive.action.parameters", "flow_cta")?, 30, "interactive.action.parameters.flow_cta")?;
    match (parameters["flow_id"].as_str(), parameters["flow_name"].as_str()) {
        (Some(_), None) | (None, Some(_)) => Ok(()),
        (None, None) => Err(Refusal::missing("interactive.action.parameters.flow_id")),
        (Some(_), Some(_)) => Err(Refusal::invalid("Only one of flow_id and flow_name may be present.")),
    }
}

/// The form of a template message; whether there is such a template is for [`crate::templates`].
fn template(content: &Value) -> Result<(), Refusal> {
    text_in(content, "template", "name")?;
    if content["language"].is_null() {
        return Err(Refusal::missing("template.language"));
    }
    text_in(&content["language"], "template.language", "code")?;
    if content["components"].is_null() || content["components"].is_array() {
        Ok(())
    } else {
        Err(Refusal::invalid("template.components must be an array."))
    }
}

fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str, Refusal> {
    match &value[name] {
        Value::Null => Err(Refusal::missing(name)),
        Value::String(text) if text.is_empty() => Err(Refusal::missing(name)),
        Value::String(text) => Ok(text),
        _ => Err(Refusal::with(100, format!("Param {name} must be a string."))),
    }
}

fn text_in<'a>(value: &'a Value, parent: &str, name: &str) -> Result<&'a str, Refusal> {
    match &value[name] {
        Value::Null => Err(Refusal::missing(&format!("{parent}.{name}"))),
        Value::String(text) if text.is_empty() => Err(Refusal::missing(&format!("{parent}.{name}"))),
        Value::String(text) => Ok(text),
        _ => Err(Refusal::with(100, format!("Param {parent}.{name} must be a string."))),
    }
}

fn optional_text<'a>(value: &'a Value, parent: &str, name: &str) -> Result<Option<&'a str>, Refusal> {
    match &value[name] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        _ => Err(Refusal::with(100, format!("Param {parent}.{name} must be a string."))),
    }
}

fn boolean(value: &Value, parent: &str, name: &str) -> Result<(), Refusal> {
    match &value[name] {
        Value::Null | Value::Bool(_) => Ok(()),
        _ => Err(Refusal::with(100, format!("Param {parent}.{name} must be a boolean."))),
    }
}

fn array<'a>(value: &'a Value, parent: &str, name: &str, least: usize, most: usize) -> Result<&'a Vec<Value>, Refusal> {
    let Some(items) = value[name].as_array() else { return Err(Refusal::missing(&format!("{parent}.{name}"))) };
    if (least..=most).contains(&items.len()) {
        Ok(items)
    } else {
        Err(Refusal::invalid(format!("{parent}.{name} must have {least} to {most} items.")))
    }
}

fn at_most(text: &str, limit: usize, name: &str) -> Result<(), Refusal> {
    if text.chars().count() <= limit {
        Ok(())
    } else {
        Err(Refusal::with(100, format!("Param {name} must be at most {limit} characters long.")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(kind: &str, content: Value) -> Value {
        json!({ "messaging_product": "whatsapp", "to": "+5215512345678", "type": kind, kind: content })
    }

    fn code(body: &Value) -> Option<u32> {
        request(body).err().map(|it| it.code)
    }

    fn button(id: &str, title: &str) -> Value {
        json!({ "type": "reply", "reply": { "id": id, "title": title } })
    }

    fn list_of(rows: usize) -> Value {
        let rows: Vec<Value> = (0..rows).map(|it| json!({ "id": it.to_string(), "title": "Row" })).collect();
        let sections: Vec<Value> = rows.chunks(6).map(|it| json!({ "title": "Part", "rows": it })).collect();
        json!({ "type": "list", "body": { "text": "Choose" }, "action": { "button": "Open", "sections": sections } })
    }

    #[test]
    fn documented_samples_are_accepted() {
        let samples = [
            message("text", json!({ "body": "Your visit is tomorrow.", "preview_url": false })),
            message("text", json!({ "body": "é".repeat(4096) })),
            message("image", json!({ "id": "9100", "caption": "c" })),
            message("audio", json!({ "link": "https://example.org/a.ogg", "voice": true })),
            message("document", json!({ "id": "9100", "filename": "quote.pdf" })),
            message("sticker", json!({ "id": "9100" })),
            message("location", json!({ "latitude": "19.43", "longitude": -99.13 })),
            message("contacts", json!([{ "name": { "formatted_name": "Ana Ruiz" }, "phones": [] }])),
            message("reaction", json!({ "message_id": "wamid.A", "emoji": "👍" })),
            message("reaction", json!({ "message_id": "wamid.A", "emoji": "" })),
            message(
                "interactive",
                json!({ "type": "button", "body": { "text": "Confirm?" }, "action": { "buttons": [button("ok", "Confirm"), button("no", "Cancel")] } }),
            ),
            message("interactive", list_of(10)),
            message(
                "interactive",
                json!({ "type": "cta_url", "body": { "text": "See" }, "action": { "name": "cta_url", "parameters": { "display_text": "Open", "url": "https://example.org" } } }),
            ),
            message(
                "interactive",
                json!({ "type": "flow", "body": { "text": "Book" }, "action": { "name": "flow", "parameters": { "flow_message_version": "3", "flow_id": "1", "flow_cta": "Book" } } }),
            ),
            message("template", json!({ "name": "visit_reminder", "language": { "code": "es_MX" } })),
        ];
        for sample in samples {
            assert_eq!(code(&sample), None, "{sample}");
        }
    }

    #[test]
    fn what_meta_refuses() {
        let without_to = json!({ "messaging_product": "whatsapp", "type": "text", "text": { "body": "hi" } });
        let table = [
            (json!([]), 100),
            (json!({ "to": "+5215512345678", "type": "text", "text": { "body": "hi" } }), 100),
            (json!({ "messaging_product": "facebook", "to": "+52", "text": { "body": "hi" } }), 100),
            (without_to, 100),
            (json!({ "messaging_product": "whatsapp", "recipient": "5215512345678", "text": { "body": "hi" } }), 131_009),
            (json!({ "messaging_product": "whatsapp", "to": "+5215512345678", "type": "text" }), 131_008),
            (
                json!({ "messaging_product": "whatsapp", "to": "+5215512345678", "type": "text", "text": { "body": "hi" }, "context": {} }),
                131_008,
            ),
            (
                json!({ "messaging_product": "whatsapp", "to": "+5215512345678", "text": { "body": "hi" }, "biz_opaque_callback_data": "x".repeat(513) }),
                100,
            ),
            (json!({ "messaging_product": "whatsapp", "to": "+5215512345678", "text": { "body": "hi" }, "category": "utility" }), 100),
            (message("poll", json!({})), 131_051),
            (message("text", json!({ "body": "" })), 131_008),
            (message("text", json!({ "body": 7 })), 100),
            (message("text", json!({ "body": "é".repeat(4097) })), 100),
            (message("image", json!({})), 131_008),
            (message("image", json!({ "id": "1", "link": "https://example.org" })), 131_009),
            (message("image", json!({ "link": "ftp://example.org" })), 131_009),
            (message("image", json!({ "id": "1", "caption": "x".repeat(1025) })), 100),
            (message("audio", json!({ "id": "1", "caption": "x" })), 100),
            (message("image", json!({ "id": "1", "filename": "x" })), 100),
            (message("location", json!({ "latitude": 1.0 })), 131_008),
            (message("location", json!({ "latitude": 91.0, "longitude": 0 })), 131_009),
            (message("contacts", json!([])), 131_009),
            (message("contacts", json!([{ "phones": [] }])), 131_008),
            (message("reaction", json!({ "emoji": "👍" })), 131_008),
            (message("reaction", json!({ "message_id": "wamid.A", "emoji": "yes" })), 131_009),
            (message("interactive", json!({ "type": "button", "body": { "text": "?" }, "action": { "buttons": [] } })), 131_009),
            (
                message(
                    "interactive",
                    json!({ "type": "button", "body": { "text": "?" }, "action": { "buttons": [button("1", "a"), button("2", "b"), button("3", "c"), button("4", "d")] } }),
                ),
                131_009,
            ),
            (
                message(
                    "interactive",
                    json!({ "type": "button", "body": { "text": "?" }, "action": { "buttons": [button("1", "same"), button("2", "same")] } }),
                ),
                131_009,
            ),
            (
                message(
                    "interactive",
                    json!({ "type": "button", "body": { "text": "?" }, "action": { "buttons": [button("1", &"x".repeat(21))] } }),
                ),
                100,
            ),
            (
                message(
                    "interactive",
                    json!({ "type": "button", "body": { "text": "x".repeat(1025) }, "action": { "buttons": [button("1", "a")] } }),
                ),
                100,
            ),
            (message("interactive", json!({ "type": "button", "action": { "buttons": [button("1", "a")] } })), 131_008),
            (
                message(
                    "interactive",
                    json!({ "type": "button", "body": { "text": "?" }, "footer": { "text": "x".repeat(61) }, "action": { "buttons": [button("1", "a")] } }),
                ),
                100,
            ),
            (
                message(
                    "interactive",
                    json!({ "type": "list", "header": { "type": "image", "image": { "id": "1" } }, "body": { "text": "?" }, "action": {} }),
                ),
                131_009,
            ),
            (message("interactive", list_of(11)), 131_009),
            (message("interactive", json!({ "type": "dance", "action": {} })), 131_009),
            (message("template", json!({ "name": "visit_reminder" })), 131_008),
            (message("template", json!({ "language": { "code": "es_MX" } })), 131_008),
            (json!({ "messaging_product": "whatsapp", "status": "read" }), 131_008),
            (json!({ "messaging_product": "whatsapp", "status": "seen", "message_id": "wamid.A" }), 100),
        ];
        for (body, expected) in table {
            assert_eq!(code(&body), Some(expected), "{body}");
        }
    }

    #[test]
    fn to_wins_over_recipient() {
        let mut body = message("text", json!({ "body": "hi" }));
        body["recipient"] = "MX.9007199254740993".into();
        let Ok(Request::Send(both)) = request(&body) else { panic!("refused") };
        assert_eq!(both.target, Target::To("+5215512345678".into()));
        body.as_object_mut().expect("an object").remove("to");
        let Ok(Request::Send(alone)) = request(&body) else { panic!("refused") };
        assert_eq!(alone.target, Target::Recipient("MX.9007199254740993".into()));
    }

    #[test]
    fn mark_as_read_with_and_without_typing() {
        let mut body = json!({ "messaging_product": "whatsapp", "status": "read", "message_id": "wamid.A" });
        assert_eq!(request(&body), Ok(Request::MarkRead { message_id: "wamid.A".into(), typing: false }));
        body["typing_indicator"] = json!({ "type": "text" });
        assert_eq!(request(&body), Ok(Request::MarkRead { message_id: "wamid.A".into(), typing: true }));
    }
}
