//! Templates: how Meta lists them, names them in webhooks, and takes them filled.
//!
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/overview>
//! This file must not know whether a template may be sent, or how it travels.

#[cfg(test)]
mod tests;

use domain::template::{
    Button, Card, Category, Component, Filled, FilledButton, FilledCard, FilledHeader, FilledInput, FilledText, HeaderFormat, Language,
    ParameterFormat, Place, Problem, Status, Template, TemplateName,
};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::outgoing::{Recipient, addressed, file, json_or_text, with};
use crate::wire::Object;

/// What stands for the kind of a part that cannot be read.
const UNREADABLE: &str = "UNREADABLE";

/// The body of the request that sends a template.
///
/// `opaque` (at most [`OPAQUE_LIMIT`](crate::outgoing::OPAQUE_LIMIT) characters) comes back in every status of the message; every app on the
/// account reads it.
#[must_use]
pub fn request(to: &Recipient, filled: &Filled, opaque: &str) -> Value {
    addressed(to, "template", part(filled), opaque)
}

/// The body of the request to `/{phone-number-id}/marketing_messages` that sends a marketing template. What Meta cannot send this way goes
/// out as from `/messages`.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/marketing-messages/send-marketing-messages>
#[must_use]
pub fn marketing_request(to: &Recipient, filled: &Filled, opaque: &str) -> Value {
    let mut body = request(to, filled, opaque);
    body["product_policy"] = Value::from("CLOUD_API_FALLBACK");
    body
}

/// What stands under `template` in the body of a request.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/components>
#[must_use]
pub fn part(filled: &Filled) -> Value {
    let mut components = components(filled.message());
    if let Some(at) = filled.expires_at() {
        let offer = json!({ "type": "limited_time_offer", "limited_time_offer": { "expiration_time_ms": at.as_millis() } });
        components.push(json!({ "type": "limited_time_offer", "parameters": [offer] }));
    }
    if !filled.cards().is_empty() {
        let card = |(index, it): (usize, &FilledCard)| json!({ "card_index": index, "components": self::components(it) });
        components.push(json!({ "type": "carousel", "cards": filled.cards().iter().enumerate().map(card).collect::<Vec<_>>() }));
    }
    let mut part = json!({ "name": filled.name().as_str(), "language": { "code": filled.language().as_str() } });
    if !components.is_empty() {
        part["components"] = Value::from(components);
    }
    part
}

/// What Meta would not take of a filled template, beyond what [`Template::fill`] finds: the data of a flow's first screen is a JSON object.
///
/// <https://developers.facebook.com/docs/whatsapp/flows/guides/sendingaflow>
#[must_use]
pub fn check(filled: &Filled) -> Vec<Problem> {
    let of_cards = filled.cards().iter().enumerate().map(|(index, it)| (Some(index), it));
    let mut problems = Vec::new();
    for (card, it) in [(None, filled.message())].into_iter().chain(of_cards) {
        for FilledButton { index, input } in &it.buttons {
            if let FilledInput::Flow { data: Some(data), .. } = input
                && serde_json::from_str::<serde_json::Map<String, Value>>(data).is_err()
            {
                let advice = "has data that is no JSON object; give the data of the first screen as one".to_owned();
                problems.push(Problem { place: Place::button(card, *index), code: 131_009, advice });
            }
        }
    }
    problems
}

/// What fills a message or a card, as components.
fn components(filled: &FilledCard) -> Vec<Value> {
    let header = filled.header.iter().map(|it| json!({ "type": "header", "parameters": [header(it)] }));
    let texts: Vec<Value> = filled.body.iter().map(text).collect();
    let body = (!texts.is_empty()).then(|| json!({ "type": "body", "parameters": texts }));
    header.chain(body).chain(filled.buttons.iter().map(button)).collect()
}

fn text(filled: &FilledText) -> Value {
    with(json!({ "type": "text", "text": filled.text }), "parameter_name", filled.name.as_deref())
}

fn header(header: &FilledHeader) -> Value {
    match header {
        FilledHeader::Text(filled) => text(filled),
        FilledHeader::Image(source) => json!({ "type": "image", "image": file(source) }),
        FilledHeader::Video(source) => json!({ "type": "video", "video": file(source) }),
        FilledHeader::Document { source, filename } => {
            json!({ "type": "document", "document": with(file(source), "filename", filename.as_deref()) })
        }
        FilledHeader::Location { latitude, longitude, name, address } => {
            let location = with(json!({ "latitude": latitude, "longitude": longitude }), "name", name.as_deref());
            json!({ "type": "location", "location": with(location, "address", address.as_deref()) })
        }
    }
}

fn button(FilledButton { index, input }: &FilledButton) -> Value {
    let (kind, parameter) = match input {
        // A login code's button opens a page, as Meta sees it.
        FilledInput::Url(text) | FilledInput::LoginCode(text) => ("url", json!({ "type": "text", "text": text })),
        FilledInput::Payload(payload) => ("quick_reply", json!({ "type": "payload", "payload": payload })),
        FilledInput::CopyCode(code) => ("copy_code", json!({ "type": "coupon_code", "coupon_code": code })),
        // Meta wants the button named even if there is nothing to say, and then calls the token so itself:
        // <https://developers.facebook.com/docs/whatsapp/flows/guides/sendingaflow>
        FilledInput::Flow { token, data } => {
            let mut action = json!({ "flow_token": token.as_deref().unwrap_or("unused") });
            if let Some(data) = data {
                action["flow_action_data"] = json_or_text(data);
            }
            ("flow", json!({ "type": "action", "action": action }))
        }
    };
    json!({ "type": "button", "sub_type": kind, "index": index.to_string(), "parameters": [parameter] })
}

/// A page of a list of templates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The templates, in Meta's order.
    pub templates: Vec<Template>,
    /// The cursor of the next page, if there is one. Meta's own link to it is not kept: it holds the access token.
    pub after: Option<String>,
    /// How many entries could not be read.
    pub skipped: usize,
}

/// The answer of `GET /{waba-id}/message_templates`; nothing if it is no list at all. An entry that cannot be read harms only itself.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/template-management>
#[must_use]
pub fn page(body: &[u8]) -> Option<Page> {
    let body = String::from_utf8_lossy(body);
    let body = Object::parse(&body)?;
    body.get("data")?;
    let entries = body.elements("data");
    let templates: Vec<Template> = entries.iter().filter_map(|it| template(it)).collect();
    let skipped = entries.len() - templates.len();
    let paging = body.object("paging").filter(|it| it.get("next").is_some());
    let after = paging.and_then(|it| it.object("cursors")).and_then(|it| it.words("after"));
    Some(Page { templates, after, skipped })
}

/// Which template the value of a template's webhook is about, if it says so.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/message_template_status_update>
#[must_use]
pub fn named(value: &str) -> Option<(TemplateName, Language)> {
    let value = Object::parse(value)?;
    let name = TemplateName::parse(value.words("message_template_name")?).ok()?;
    let language = Language::parse(value.words("message_template_language")?).ok()?;
    Some((name, language))
}

fn template(raw: &RawValue) -> Option<Template> {
    let it = Object::read(raw)?;
    let category = match word(&it, "category")?.as_str() {
        "MARKETING" => Category::Marketing,
        "UTILITY" => Category::Utility,
        "AUTHENTICATION" => Category::Authentication,
        other => Category::Other(other.to_owned()),
    };
    it.get("components")?;
    Some(Template {
        id: it.words("id")?,
        name: TemplateName::parse(it.words("name")?).ok()?,
        language: Language::parse(it.words("language")?).ok()?,
        status: match word(&it, "status")?.as_str() {
            "APPROVED" => Status::Approved,
            "PAUSED" => Status::Paused,
            "DISABLED" => Status::Disabled,
            other => Status::Other(other.to_owned()),
        },
        quality: it.object("quality_score").and_then(|it| word(&it, "score")),
        format: match word(&it, "parameter_format").as_deref() {
            Some("NAMED") => ParameterFormat::Named,
            _ => ParameterFormat::Positional,
        },
        is_hidden: word(&it, "source").as_deref() == Some("AUTO_GENERATED"),
        components: it.elements("components").into_iter().map(|it| component(it, &category)).collect(),
        category,
    })
}

/// A word of Meta's, in capitals: it writes them either way.
fn word(object: &Object<'_>, name: &str) -> Option<String> {
    object.words(name).map(|it| it.to_ascii_uppercase())
}

fn component(raw: &RawValue, category: &Category) -> Component {
    let Some(it) = Object::read(raw) else { return Component::Unknown { kind: UNREADABLE.to_owned() } };
    let kind = word(&it, "type").unwrap_or_else(|| UNREADABLE.to_owned());
    match (kind.as_str(), it.words("text")) {
        ("HEADER", text) => header_of(word(&it, "format").as_deref().unwrap_or("TEXT"), text),
        ("BODY", Some(text)) => Component::Body { text },
        // The words around a login code are Meta's own, and may be left out.
        ("BODY", None) if *category == Category::Authentication => Component::Body { text: "{{1}}".to_owned() },
        // A login code's footer may say only for how many minutes the code is good.
        ("FOOTER", text) => Component::Footer { text: text.unwrap_or_default() },
        ("BUTTONS", _) => Component::Buttons { buttons: it.elements("buttons").into_iter().map(|it| button_of(it, category)).collect() },
        ("CAROUSEL", _) => {
            let card = |raw: &RawValue| {
                let components = Object::read(raw).map(|it| it.elements("components")).unwrap_or_default();
                Card { components: components.into_iter().map(|it| component(it, category)).collect() }
            };
            Component::Carousel { cards: it.elements("cards").into_iter().map(card).collect() }
        }
        ("LIMITED_TIME_OFFER", _) => {
            let offer = it.object("limited_time_offer").unwrap_or_default();
            Component::LimitedTimeOffer { text: offer.words("text").unwrap_or_default(), has_expiration: offer.is_true("has_expiration") }
        }
        _ => Component::Unknown { kind },
    }
}

fn header_of(format: &str, text: Option<String>) -> Component {
    let format = match (format, text) {
        ("TEXT", Some(text)) => return Component::TextHeader { text },
        ("IMAGE", _) => HeaderFormat::Image,
        ("VIDEO", _) => HeaderFormat::Video,
        ("DOCUMENT", _) => HeaderFormat::Document,
        ("GIF", _) => HeaderFormat::Gif,
        ("LOCATION", _) => HeaderFormat::Location,
        (other, _) => return Component::Unknown { kind: format!("HEADER {other}") },
    };
    Component::MediaHeader { format }
}

fn button_of(raw: &RawValue, category: &Category) -> Button {
    let Some(it) = Object::read(raw) else { return Button::Other { kind: UNREADABLE.to_owned(), text: None } };
    let kind = word(&it, "type").unwrap_or_else(|| UNREADABLE.to_owned());
    let label = it.words("text");
    let text = label.clone().unwrap_or_default();
    match (kind.as_str(), it.words("url")) {
        // Made as `OTP`, and listed as an address of Meta's own:
        // <https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/authentication-templates/copy-code-authentication-templates>
        ("URL", Some(url)) if *category == Category::Authentication && url.contains("whatsapp.com/otp/") => Button::Otp { text },
        ("URL", Some(url)) => Button::Url { text, url },
        ("OTP", _) => Button::Otp { text },
        ("COPY_CODE", _) if *category == Category::Authentication => Button::Otp { text },
        ("COPY_CODE", _) => Button::CopyCode,
        ("QUICK_REPLY", _) => Button::QuickReply { text },
        ("PHONE_NUMBER", _) => Button::PhoneNumber { text },
        ("FLOW", _) => Button::Flow { text },
        _ => Button::Other { kind, text: label },
    }
}
