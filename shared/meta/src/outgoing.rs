//! What we send: the bodies of requests to `/{phone-number-id}/messages`, and Meta's limits on what may stand in them.
//!
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/send-messages>
//! This file must not know whether a message may be sent, or how it travels.

pub mod files;

use std::collections::HashSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::customer::{Bsuid, Customer, Phone};
use domain::ids::Wamid;
use domain::outgoing::{Action, FileKind, Header, Outgoing, ReplyButton, Section, Source, is_degrees, is_web_address};
use serde_json::{Value, json};

/// Longest `biz_opaque_callback_data`, in characters.
pub const OPAQUE_LIMIT: usize = 512;

/// Longest caption of a file, in characters.
const CAPTION_LIMIT: usize = 1_024;

/// To whom a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipient {
    /// To a phone number. It goes out with its plus: without one Meta may put the business's own country before it.
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/phone-numbers>
    Phone(Phone),
    /// To a business-scoped user id. It must not stand where a phone number does: Meta would take its digits for one.
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-scoped-user-ids>
    Bsuid(Bsuid),
}

impl Recipient {
    /// The customer: by phone number where it is known, since not every kind of message can go to an id.
    #[must_use]
    pub fn of(customer: &Customer) -> Self {
        match (customer.phone(), customer.bsuid()) {
            (Some(phone), _) => Self::Phone(phone.clone()),
            (None, Some(bsuid)) => Self::Bsuid(bsuid.clone()),
            (None, None) => unreachable!("a customer has an address"),
        }
    }

    fn member(&self) -> (&'static str, String) {
        match self {
            Self::Phone(phone) => ("to", format!("+{}", phone.digits())),
            Self::Bsuid(bsuid) => ("recipient", bsuid.as_str().to_owned()),
        }
    }
}

/// The body of the request that sends `content`.
///
/// `quote` is the message that it answers. `opaque` (at most [`OPAQUE_LIMIT`] characters) comes back in every status of the message; every
/// app on the account reads it.
#[must_use]
pub fn request(to: &Recipient, content: &Outgoing, quote: Option<&Wamid>, opaque: &str) -> Value {
    let (kind, part) = part(content);
    let mut body = addressed(to, kind, part, opaque);
    // A reaction names its message itself.
    if let (Some(wamid), false) = (quote, kind == "reaction") {
        body["context"] = json!({ "message_id": wamid.as_str() });
    }
    body
}

/// The body of a request for any kind of message, whose `part` stands under the name of its `kind`: for what is no free-form content.
#[must_use]
pub fn addressed(to: &Recipient, kind: &str, part: Value, opaque: &str) -> Value {
    let (member, address) = to.member();
    let mut body = json!({
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "type": kind,
        "biz_opaque_callback_data": opaque,
    });
    body[member] = Value::from(address);
    body[kind] = part;
    body
}

/// The body of the request that marks a message, and all before it, as read; with `typing` the customer sees that an answer is being
/// written, until it comes or for 25 seconds.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/typing-indicators>
#[must_use]
pub fn read(wamid: &Wamid, typing: bool) -> Value {
    let mut body = json!({ "messaging_product": "whatsapp", "status": "read", "message_id": wamid.as_str() });
    if typing {
        body["typing_indicator"] = json!({ "type": "text" });
    }
    body
}

/// Meta's name of the kind, and what stands under it.
fn part(content: &Outgoing) -> (&'static str, Value) {
    let part = match content {
        Outgoing::Text { text, preview_url } => json!({ "body": text, "preview_url": preview_url }),
        Outgoing::Image { source, caption } | Outgoing::Video { source, caption } => with(file(source), "caption", caption.as_deref()),
        Outgoing::Audio { source, voice } => {
            let mut part = file(source);
            if *voice {
                part["voice"] = Value::from(true);
            }
            part
        }
        Outgoing::Document { source, caption, filename } => {
            with(with(file(source), "caption", caption.as_deref()), "filename", filename.as_deref())
        }
        Outgoing::Sticker { source } => file(source),
        Outgoing::Reaction { message, emoji } => json!({ "message_id": message.as_str(), "emoji": emoji }),
        Outgoing::Interactive { header, body, footer, action } => interactive(header.as_ref(), body, footer.as_deref(), action),
        Outgoing::Contacts { contacts } => json_or_text(contacts),
        Outgoing::Location { latitude, longitude, name, address } => {
            let part = json!({ "latitude": latitude, "longitude": longitude });
            with(with(part, "name", name.as_deref()), "address", address.as_deref())
        }
    };
    (content.kind(), part)
}

pub(crate) fn with(mut part: Value, member: &str, text: Option<&str>) -> Value {
    if let Some(text) = text {
        part[member] = Value::from(text);
    }
    part
}

pub(crate) fn file(source: &Source) -> Value {
    match source {
        Source::Id(id) => json!({ "id": id }),
        Source::Link(link) => json!({ "link": link }),
        // Ours has an id of Meta's by the time it is sent; without one Meta says what is missing.
        Source::File(_) | Source::Content { .. } => json!({}),
    }
}

/// What is no JSON goes out as text, and Meta says what is wrong with it; [`check`] has said so before.
pub(crate) fn json_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

fn interactive(header: Option<&Header>, body: &str, footer: Option<&str>, action: &Action) -> Value {
    let (kind, action) = match action {
        Action::Buttons { buttons } => {
            let button = |it: &ReplyButton| json!({ "type": "reply", "reply": { "id": it.id, "title": it.title } });
            ("button", json!({ "buttons": buttons.iter().map(button).collect::<Vec<_>>() }))
        }
        Action::List { button, sections } => {
            ("list", json!({ "button": button, "sections": sections.iter().map(section).collect::<Vec<_>>() }))
        }
        Action::CtaUrl { display_text, url } => {
            ("cta_url", json!({ "name": "cta_url", "parameters": { "display_text": display_text, "url": url } }))
        }
        Action::Flow { flow_id, flow_cta, flow_token, screen, data } => {
            let parameters = json!({ "flow_message_version": "3", "flow_id": flow_id, "flow_cta": flow_cta });
            let mut parameters = with(parameters, "flow_token", flow_token.as_deref());
            if let Some(screen) = screen {
                parameters["flow_action"] = Value::from("navigate");
                parameters["flow_action_payload"] = json!({ "screen": screen });
                if let Some(data) = data {
                    parameters["flow_action_payload"]["data"] = json_or_text(data);
                }
            }
            ("flow", json!({ "name": "flow", "parameters": parameters }))
        }
    };
    let mut part = json!({ "type": kind, "body": { "text": body }, "action": action });
    if let Some(header) = header {
        part["header"] = match header {
            Header::Text(text) => json!({ "type": "text", "text": text }),
            Header::Image(source) => json!({ "type": "image", "image": file(source) }),
            Header::Video(source) => json!({ "type": "video", "video": file(source) }),
            Header::Document(source) => json!({ "type": "document", "document": file(source) }),
        };
    }
    if let Some(footer) = footer {
        part["footer"] = json!({ "text": footer });
    }
    part
}

fn section(section: &Section) -> Value {
    let row = |it: &domain::outgoing::Row| with(json!({ "id": it.id, "title": it.title }), "description", it.description.as_deref());
    with(json!({ "rows": section.rows.iter().map(row).collect::<Vec<_>>() }), "title", section.title.as_deref())
}

/// One thing that Meta would refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it is: `action.sections[1].rows[0].title`.
    pub member: String,
    /// What is wrong with it, and what to do.
    pub advice: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.member, self.advice)
    }
}

/// Would Meta take this? Lengths are counted in Unicode characters; a text longer than one message is no problem, since it is split.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/send-messages>
///
/// # Errors
/// Every [`Problem`] that there is.
pub fn check(content: &Outgoing) -> Result<(), Vec<Problem>> {
    let mut problems = Problems(Vec::new());
    if let Some((kind, source)) = content.file() {
        let member = if matches!(content, Outgoing::Interactive { .. }) { "header" } else { "source" };
        problems.file(member, kind, source);
    }
    match content {
        Outgoing::Text { text, .. } => problems.unless(!text.trim().is_empty(), "text", "is empty; write something"),
        Outgoing::Image { caption, .. } | Outgoing::Video { caption, .. } => {
            problems.optional("caption", caption.as_deref(), CAPTION_LIMIT);
        }
        Outgoing::Audio { .. } | Outgoing::Sticker { .. } => {}
        Outgoing::Document { caption, filename, .. } => {
            problems.optional("caption", caption.as_deref(), CAPTION_LIMIT);
            problems.unless(filename.as_deref() != Some(""), "filename", "is empty; leave it out");
        }
        // The message is a parsed id, and an empty emoji takes the reaction off.
        Outgoing::Reaction { .. } => {}
        Outgoing::Interactive { header, body, footer, action } => problems.interactive(header.as_ref(), body, footer.as_deref(), action),
        Outgoing::Contacts { contacts } => problems.contacts(contacts),
        Outgoing::Location { latitude, longitude, .. } => {
            problems.degrees("latitude", latitude, 90.0);
            problems.degrees("longitude", longitude, 180.0);
        }
    }
    if problems.0.is_empty() { Ok(()) } else { Err(problems.0) }
}

struct Problems(Vec<Problem>);

impl Problems {
    fn push(&mut self, member: impl Into<String>, advice: impl Into<String>) {
        self.0.push(Problem { member: member.into(), advice: advice.into() });
    }

    fn unless(&mut self, is_well: bool, member: &str, advice: &str) {
        if !is_well {
            self.push(member, advice);
        }
    }

    fn required(&mut self, member: &str, text: &str, limit: usize) {
        if text.trim().is_empty() {
            self.push(member, "is empty; it is needed");
        }
        self.at_most(member, text, limit);
    }

    fn optional(&mut self, member: &str, text: Option<&str>, limit: usize) {
        if let Some(text) = text {
            self.unless(!text.is_empty(), member, "is empty; leave it out");
            self.at_most(member, text, limit);
        }
    }

    fn at_most(&mut self, member: &str, text: &str, limit: usize) {
        let length = text.chars().count();
        if length > limit {
            self.push(member, format!("has {length} characters; shorten it to {limit}"));
        }
    }

    fn count(&mut self, member: &str, count: usize, limit: usize) {
        if count == 0 || count > limit {
            self.push(member, format!("has {count}; give 1 to {limit}"));
        }
    }

    fn different<'a>(&mut self, member: &str, what: &str, texts: impl Iterator<Item = &'a str>) {
        let mut seen = HashSet::new();
        if texts.into_iter().any(|it| !seen.insert(it)) {
            self.push(member, format!("has the same {what} twice; make them differ"));
        }
    }

    fn file(&mut self, member: &str, kind: FileKind, source: &Source) {
        match (source.problem(), source) {
            (Some(advice), _) => self.push(member, advice),
            (None, Source::Content { base64, mime_type }) => self.content(member, kind, base64, mime_type),
            // What lies elsewhere is looked at where it lies.
            (None, Source::Id(_) | Source::Link(_) | Source::File(_)) => {}
        }
    }

    fn content(&mut self, member: &str, kind: FileKind, base64: &str, mime_type: &str) {
        let too_large = format!("has more than {} bytes; upload the file, and give its key", files::CONTENT_LIMIT);
        // Four characters are three bytes: what is far too long is not decoded.
        if base64.len() > files::CONTENT_LIMIT / 3 * 4 + 4 {
            return self.push(member, too_large);
        }
        let Ok(bytes) = STANDARD.decode(base64) else {
            return self.push(member, "is no base64; give the file's bytes in base64, with its padding");
        };
        if bytes.len() > files::CONTENT_LIMIT {
            return self.push(member, too_large);
        }
        let size = bytes.len() as u64;
        let misfit = files::check_file(kind, mime_type, size).and_then(|()| files::check_inside(kind, mime_type, size, &bytes)).err();
        if let Some(misfit) = misfit {
            self.push(member, misfit.advice());
        }
    }

    fn degrees(&mut self, member: &str, text: &str, limit: f64) {
        if !is_degrees(text, limit) {
            self.push(member, format!("is no number from -{limit} to {limit}; give decimal degrees"));
        }
    }

    fn contacts(&mut self, contacts: &str) {
        let Ok(Value::Array(cards)) = serde_json::from_str(contacts) else {
            return self.push("contacts", "is no JSON list; give a list of contact cards");
        };
        self.unless(!cards.is_empty(), "contacts", "is empty; give at least one contact card");
        for (at, card) in cards.iter().enumerate() {
            let has_name = card["name"]["formatted_name"].as_str().is_some_and(|it| !it.trim().is_empty());
            if !has_name {
                self.push(format!("contacts[{at}].name.formatted_name"), "is missing; every card needs a name");
            }
        }
    }

    fn interactive(&mut self, header: Option<&Header>, body: &str, footer: Option<&str>, action: &Action) {
        let is_list = matches!(action, Action::List { .. });
        self.required("body", body, if is_list { 4_096 } else { 1_024 });
        self.optional("footer", footer, 60);
        match header {
            Some(Header::Text(text)) => self.required("header", text, 60),
            Some(Header::Image(_) | Header::Video(_) | Header::Document(_)) if is_list => {
                self.push("header", "is a file; a list can have a line of text only");
            }
            Some(Header::Image(_) | Header::Video(_) | Header::Document(_)) | None => {}
        }
        self.action(action);
    }

    fn action(&mut self, action: &Action) {
        match action {
            Action::Buttons { buttons } => self.buttons(buttons),
            Action::List { button, sections } => {
                self.required("action.button", button, 20);
                self.sections(sections);
            }
            Action::CtaUrl { display_text, url } => {
                self.required("action.display_text", display_text, 20);
                self.unless(is_web_address(url, &["https://", "http://"]), "action.url", "is no web address; begin it with https://");
            }
            Action::Flow { flow_id, flow_cta, screen, data, .. } => {
                self.required("action.flow_id", flow_id, usize::MAX);
                self.required("action.flow_cta", flow_cta, 30);
                if let Some(data) = data {
                    let is_object = matches!(serde_json::from_str(data), Ok(Value::Object(_)));
                    self.unless(is_object, "action.data", "is no JSON object; give the data of the first screen as one");
                    self.unless(screen.is_some(), "action.screen", "is missing; data needs the screen that it is for");
                }
            }
        }
    }

    fn buttons(&mut self, buttons: &[ReplyButton]) {
        self.count("action.buttons", buttons.len(), 3);
        for (at, button) in buttons.iter().enumerate() {
            self.required(&format!("action.buttons[{at}].id"), &button.id, 256);
            self.required(&format!("action.buttons[{at}].title"), &button.title, 20);
        }
        self.different("action.buttons", "id", buttons.iter().map(|it| it.id.as_str()));
        self.different("action.buttons", "title", buttons.iter().map(|it| it.title.as_str()));
    }

    fn sections(&mut self, sections: &[Section]) {
        self.count("action.sections", sections.len(), 10);
        let rows: usize = sections.iter().map(|it| it.rows.len()).sum();
        if rows > 10 {
            self.push("action.sections", format!("have {rows} rows; give at most 10 in all"));
        }
        for (at, section) in sections.iter().enumerate() {
            let member = format!("action.sections[{at}]");
            match &section.title {
                Some(title) => self.optional(&format!("{member}.title"), Some(title), 24),
                None => self.unless(sections.len() < 2, &format!("{member}.title"), "is missing; several sections need titles"),
            }
            self.unless(!section.rows.is_empty(), &format!("{member}.rows"), "is empty; give at least one row");
            for (at, row) in section.rows.iter().enumerate() {
                self.required(&format!("{member}.rows[{at}].id"), &row.id, 200);
                self.required(&format!("{member}.rows[{at}].title"), &row.title, 24);
                self.optional(&format!("{member}.rows[{at}].description"), row.description.as_deref(), 72);
            }
        }
        self.different("action.sections", "row id", sections.iter().flat_map(|it| &it.rows).map(|it| it.id.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use domain::outgoing::Row;
    use proptest::prelude::*;

    use super::*;
    use crate::fixtures::{REQUESTS, named};

    fn phone() -> Recipient {
        Recipient::Phone(Phone::parse("5215512345678").expect("a phone number"))
    }

    fn wamid() -> Wamid {
        Wamid::parse("wamid.HBgNNTIxNTUxMjM0NTY3OBUCABIYFtextAA==").expect("an id")
    }

    fn id(text: &str) -> Source {
        Source::Id(text.to_owned())
    }

    fn link(text: &str) -> Source {
        Source::Link(text.to_owned())
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn row(id: &str, title: &str, description: Option<&str>) -> Row {
        Row { id: id.to_owned(), title: title.to_owned(), description: description.map(str::to_owned) }
    }

    fn button(id: &str, title: &str) -> ReplyButton {
        ReplyButton { id: id.to_owned(), title: title.to_owned() }
    }

    fn text(text: &str) -> Outgoing {
        Outgoing::Text { text: text.to_owned(), preview_url: false }
    }

    fn interactive(header: Option<Header>, body: &str, footer: Option<&str>, action: Action) -> Outgoing {
        Outgoing::Interactive { header, body: body.to_owned(), footer: footer.map(str::to_owned), action }
    }

    fn buttons(buttons: Vec<ReplyButton>) -> Outgoing {
        interactive(None, "Which?", None, Action::Buttons { buttons })
    }

    /// What each documented request is made from.
    fn documented() -> Vec<(&'static str, Outgoing)> {
        let list = Action::List {
            button: "Ver horas".into(),
            sections: vec![
                Section { title: some("Lunes"), rows: vec![row("slot-3", "10:30", Some("Dra. Mora")), row("slot-4", "11:00", None)] },
                Section { title: some("Martes"), rows: vec![row("slot-9", "9:00", None)] },
            ],
        };
        let flow = Action::Flow {
            flow_id: "6627390910605886".into(),
            flow_cta: "Empezar".into(),
            flow_token: some("t-1"),
            screen: some("START"),
            data: some(r#"{"visit":"88"}"#),
        };
        let cta_url = Action::CtaUrl { display_text: "Abrir agenda".into(), url: "https://example.com/agenda".into() };
        let tarifas = Header::Document(link("https://example.com/tarifas.pdf"));
        let confirm = Action::Buttons { buttons: vec![button("ok-88", "Confirmar"), button("no-88", "Cancelar")] };
        let picture = Header::Image(id("1003383421387256"));
        vec![
            ("text", text("Su cita es mañana.")),
            ("image", Outgoing::Image { source: id("1003383421387256"), caption: some("El consultorio") }),
            ("image_by_link", Outgoing::Image { source: link("https://example.com/consultorio.jpg"), caption: None }),
            ("video", Outgoing::Video { source: link("https://example.com/camino.mp4"), caption: some("Cómo llegar") }),
            ("audio", Outgoing::Audio { source: id("1003383421387257"), voice: true }),
            ("document", Outgoing::Document { source: id("1003383421387258"), caption: some("Su receta"), filename: some("receta.pdf") }),
            ("sticker", Outgoing::Sticker { source: id("1003383421387259") }),
            (
                "location",
                Outgoing::Location {
                    latitude: "19.4326".into(),
                    longitude: "-99.1332".into(),
                    name: some("Clínica Sur"),
                    address: some("Calle 5, Ciudad de México"),
                },
            ),
            (
                "contacts",
                Outgoing::Contacts {
                    contacts: r#"[{"name":{"formatted_name":"Dra. Mora","first_name":"Elena"},"phones":[{"phone":"+525587654321","type":"WORK"}]}]"#.into(),
                },
            ),
            ("reaction", Outgoing::Reaction { message: wamid(), emoji: "👍".into() }),
            ("reaction_removed", Outgoing::Reaction { message: wamid(), emoji: String::new() }),
            ("buttons", interactive(Some(picture), "¿Confirma su cita?", Some("Clínica Sur"), confirm)),
            ("list", interactive(Some(Header::Text("Horas libres".into())), "¿Cuándo le viene bien?", Some("Clínica Sur"), list)),
            ("cta_url", interactive(Some(tarifas), "Elija día y hora.", None, cta_url)),
            ("flow", interactive(None, "Unas preguntas antes de su cita.", None, flow)),
        ]
    }

    fn expected(name: &str) -> Value {
        serde_json::from_str(named(REQUESTS, name)).expect("JSON")
    }

    #[test]
    fn requests_are_as_meta_documents_them() {
        for (name, content) in documented() {
            assert_eq!(request(&phone(), &content, None, "1/example/1"), expected(name), "{name}");
            assert_eq!(check(&content), Ok(()), "{name}");
        }
    }

    #[test]
    fn a_quote_stands_beside_the_content() {
        let content = Outgoing::Text { text: "Sí: https://example.com/cita".into(), preview_url: true };
        assert_eq!(request(&phone(), &content, Some(&wamid()), "1/example/1"), expected("text_quoting"));
        let reaction = Outgoing::Reaction { message: wamid(), emoji: "👍".into() };
        assert_eq!(request(&phone(), &reaction, Some(&wamid()), "1/example/1"), expected("reaction"), "a reaction quotes by itself");
    }

    #[test]
    fn an_id_never_stands_where_a_phone_number_does() {
        let bsuid = Bsuid::parse("MX.9007199254740993").expect("an id");
        let customer =
            |phone: Option<&str>| Customer::known_by(phone.and_then(|it| Phone::parse(it).ok()), Some(bsuid.clone())).expect("known");
        let by_id = Recipient::of(&customer(None));
        assert_eq!(request(&by_id, &text("Su cita es mañana."), None, "1/example/1"), expected("text_to_user_id"));
        assert_eq!(Recipient::of(&customer(Some("5215512345678"))), phone());
    }

    #[test]
    fn reading_may_show_that_we_type() {
        assert_eq!(read(&wamid(), false), expected("read"));
        assert_eq!(read(&wamid(), true), expected("read_typing"));
    }

    #[test]
    fn a_template_is_addressed_like_any_message() {
        let template = expected("template");
        assert_eq!(addressed(&phone(), "template", template["template"].clone(), "1/example/1"), template);
    }

    /// What is wrong with `content`, as people read it.
    fn problems(content: &Outgoing) -> Vec<String> {
        check(content).err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_limit_holds_at_its_edge() {
        let long = |length: usize| "é".repeat(length);
        let image = |caption: usize| Outgoing::Image { source: id("1"), caption: Some(long(caption)) };
        let body = |length: usize| interactive(None, &long(length), None, Action::Buttons { buttons: vec![button("a", "A")] });
        let list = |body: usize, button: usize, title: usize, id: usize, row: usize, description: usize| {
            let rows = vec![Row { id: long(id), title: long(row), description: Some(long(description)) }];
            let sections = vec![Section { title: Some(long(title)), rows }];
            interactive(None, &long(body), None, Action::List { button: long(button), sections })
        };
        let flow = |cta: usize| {
            let action = Action::Flow { flow_id: "1".into(), flow_cta: long(cta), flow_token: None, screen: None, data: None };
            interactive(None, "?", None, action)
        };
        let cta = |length: usize| interactive(None, "?", None, Action::CtaUrl { display_text: long(length), url: "http://a".into() });
        let edges = interactive(Some(Header::Text(long(60))), "?", Some(&long(60)), Action::Buttons { buttons: vec![button("a", "A")] });
        let beyond = interactive(Some(Header::Text(long(61))), "?", Some(&long(61)), Action::Buttons { buttons: vec![button("a", "A")] });
        let pairs = [
            (image(1_024), image(1_025), "caption: has 1025 characters; shorten it to 1024"),
            (body(1_024), body(1_025), "body: has 1025 characters; shorten it to 1024"),
            (edges, beyond, "footer: has 61 characters; shorten it to 60"),
            (
                buttons(vec![button(&long(256), "A")]),
                buttons(vec![button(&long(257), "A")]),
                "action.buttons[0].id: has 257 characters; shorten it to 256",
            ),
            (
                buttons(vec![button("a", &long(20))]),
                buttons(vec![button("a", &long(21))]),
                "action.buttons[0].title: has 21 characters; shorten it to 20",
            ),
            (list(4_096, 20, 24, 200, 24, 72), list(4_097, 20, 24, 200, 24, 72), "body: has 4097 characters; shorten it to 4096"),
            (list(1, 20, 1, 1, 1, 1), list(1, 21, 1, 1, 1, 1), "action.button: has 21 characters; shorten it to 20"),
            (list(1, 1, 24, 1, 1, 1), list(1, 1, 25, 1, 1, 1), "action.sections[0].title: has 25 characters; shorten it to 24"),
            (list(1, 1, 1, 200, 1, 1), list(1, 1, 1, 201, 1, 1), "action.sections[0].rows[0].id: has 201 characters; shorten it to 200"),
            (list(1, 1, 1, 1, 24, 1), list(1, 1, 1, 1, 25, 1), "action.sections[0].rows[0].title: has 25 characters; shorten it to 24"),
            (
                list(1, 1, 1, 1, 1, 72),
                list(1, 1, 1, 1, 1, 73),
                "action.sections[0].rows[0].description: has 73 characters; shorten it to 72",
            ),
            (flow(30), flow(31), "action.flow_cta: has 31 characters; shorten it to 30"),
            (cta(20), cta(21), "action.display_text: has 21 characters; shorten it to 20"),
        ];
        for (good, bad, problem) in pairs {
            assert_eq!(problems(&good), Vec::<String>::new(), "{problem}");
            assert_eq!(problems(&bad).first().map(String::as_str), Some(problem));
        }
    }

    #[test]
    fn a_file_that_comes_along_is_looked_at_whole() {
        let content = |mime_type: &str, base64: String| Source::Content { base64, mime_type: mime_type.to_owned() };
        let of = |length: usize| STANDARD.encode(vec![b'a'; length]);
        let image = |source| Outgoing::Image { source, caption: None };
        let document = |length| Outgoing::Document { source: content("text/plain", of(length)), caption: None, filename: None };
        let voice = |bytes: &[u8]| Outgoing::Audio { source: content("audio/ogg", STANDARD.encode(bytes)), voice: true };
        let opus = [b"OggS".as_slice(), &[0; 24], b"OpusHead"].concat();
        let picture_head =
            interactive(Some(Header::Image(content("image/gif", of(1)))), "?", None, Action::Buttons { buttons: vec![button("a", "A")] });
        let too_large = "source: has more than 524288 bytes; upload the file, and give its key";
        let no_picture = "is of no type that can be sent as a picture; give one of image/jpeg, image/png";
        for (content, expected) in [
            (image(content("image/png", of(1))), None),
            (document(files::CONTENT_LIMIT), None),
            (voice(&opus), None),
            (image(content("image/png", String::new())), Some("source: is an empty file; give its bytes in base64".to_owned())),
            (
                image(content("image/png", "no base64".to_owned())),
                Some("source: is no base64; give the file's bytes in base64, with its padding".to_owned()),
            ),
            (document(files::CONTENT_LIMIT + 1), Some(too_large.to_owned())),
            (document(2 * files::CONTENT_LIMIT), Some(too_large.to_owned())),
            (image(content("image/gif", of(1))), Some(format!("source: {no_picture}"))),
            (picture_head, Some(format!("header: {no_picture}"))),
            (
                voice(b"OggS and something else that is no opus"),
                Some("source: is no Opus in Ogg, the only sound in Ogg that WhatsApp plays; convert it".to_owned()),
            ),
            (image(Source::File(" ".to_owned())), Some("source: is an empty key; upload the file first".to_owned())),
            (image(Source::File("main/uploads/20000/a".to_owned())), None),
        ] {
            assert_eq!(problems(&content), expected.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn every_problem_is_named_with_what_to_do() {
        let list = |sections| interactive(Some(Header::Image(id("1"))), "?", None, Action::List { button: "B".into(), sections });
        let rows = |count: usize| (0..count).map(|at| row(&at.to_string(), "T", None)).collect::<Vec<_>>();
        let flow = Action::Flow { flow_id: String::new(), flow_cta: "Go".into(), flow_token: None, screen: None, data: some("[]") };
        let location = |latitude: &str, longitude: &str| Outgoing::Location {
            latitude: latitude.into(),
            longitude: longitude.into(),
            name: None,
            address: None,
        };
        let contacts = |contacts: &str| Outgoing::Contacts { contacts: contacts.into() };
        let cases: Vec<(Outgoing, &[&str])> = vec![
            (text(" \n"), &["text: is empty; write something"]),
            (
                Outgoing::Image { source: link("http://example.com/a.jpg"), caption: some("") },
                &["source: is no public https link; give one that anybody can open", "caption: is empty; leave it out"],
            ),
            (Outgoing::Sticker { source: link("https:///a") }, &["source: is no public https link; give one that anybody can open"]),
            (Outgoing::Audio { source: id(""), voice: false }, &["source: is an empty id; upload the file first"]),
            (Outgoing::Document { source: id("1"), caption: None, filename: some("") }, &["filename: is empty; leave it out"]),
            (buttons(vec![]), &["action.buttons: has 0; give 1 to 3"]),
            (buttons(["a", "b", "c", "d"].map(|it| button(it, it)).to_vec()), &["action.buttons: has 4; give 1 to 3"]),
            (
                buttons(vec![button("a", "Yes"), button("a", "Yes")]),
                &["action.buttons: has the same id twice; make them differ", "action.buttons: has the same title twice; make them differ"],
            ),
            (
                list(vec![Section { title: None, rows: rows(11) }]),
                &["header: is a file; a list can have a line of text only", "action.sections: have 11 rows; give at most 10 in all"],
            ),
            (
                list(vec![Section { title: None, rows: rows(1) }, Section { title: some("B"), rows: vec![] }]),
                &[
                    "header: is a file; a list can have a line of text only",
                    "action.sections[0].title: is missing; several sections need titles",
                    "action.sections[1].rows: is empty; give at least one row",
                ],
            ),
            (
                list(vec![Section { title: None, rows: [rows(1), rows(1)].concat() }]),
                &["header: is a file; a list can have a line of text only", "action.sections: has the same row id twice; make them differ"],
            ),
            (
                interactive(None, "", None, Action::CtaUrl { display_text: "Go".into(), url: "example.com".into() }),
                &["body: is empty; it is needed", "action.url: is no web address; begin it with https://"],
            ),
            (
                interactive(None, "?", None, flow),
                &[
                    "action.flow_id: is empty; it is needed",
                    "action.data: is no JSON object; give the data of the first screen as one",
                    "action.screen: is missing; data needs the screen that it is for",
                ],
            ),
            (contacts("{}"), &["contacts: is no JSON list; give a list of contact cards"]),
            (contacts("[]"), &["contacts: is empty; give at least one contact card"]),
            (
                contacts(r#"[{"name":{"formatted_name":"A"}},{}]"#),
                &["contacts[1].name.formatted_name: is missing; every card needs a name"],
            ),
            (
                location("90.1", "-181"),
                &[
                    "latitude: is no number from -90 to 90; give decimal degrees",
                    "longitude: is no number from -180 to 180; give decimal degrees",
                ],
            ),
            (location("NaN", "180"), &["latitude: is no number from -90 to 90; give decimal degrees"]),
        ];
        for (content, expected) in cases {
            assert_eq!(problems(&content), expected, "{content:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_goes_out_as_it_is(words in "\\PC{1,300}", opaque in "[a-z0-9/]{0,40}") {
            let body = request(&phone(), &text(&words), None, &opaque);
            prop_assert_eq!(body["text"]["body"].as_str(), Some(words.as_str()));
            prop_assert_eq!(body["biz_opaque_callback_data"].as_str(), Some(opaque.as_str()));
        }

        #[test]
        fn what_is_checked_never_panics(contacts in "\\PC{0,40}", latitude in "\\PC{0,8}", url in "\\PC{0,30}") {
            let _ = check(&Outgoing::Contacts { contacts });
            let _ = check(&Outgoing::Location { latitude: latitude.clone(), longitude: latitude, name: None, address: None });
            let _ = check(&interactive(None, &url, None, Action::CtaUrl { display_text: url.clone(), url: url.clone() }));
        }
    }
}
