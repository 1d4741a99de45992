//! Whether a send fills a template as it was made, and what the customer then sees. Pure.
//!
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/components>. Where Meta's pages leave a code
//! open, README.md of this crate says which one was chosen.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::errors::Refusal;
use crate::rules;
use crate::templates::Template;

/// The longest body, filled.
const BODY: usize = 1024;
/// The longest body of a limited-time offer.
const OFFER_BODY: usize = 600;
/// The longest body of a carousel's card.
const CARD_BODY: usize = 160;
/// The longest text header, filled.
const HEADER: usize = 60;
/// The longest address behind a button, filled.
const URL: usize = 2000;
/// The longest payload behind a quick reply.
const PAYLOAD: usize = 256;
/// The longest coupon code.
const COUPON: usize = 20;
/// The longest code of an authentication template.
const CODE: usize = 15;

/// Checks the `template` member of a send, and gives what the customer sees: header, body, footer, buttons, cards.
///
/// # Errors
///
/// 132000, 132005, 132012, 132018, 131008 or 131009 by the part that does not fit.
pub(crate) fn fill(template: &Template, sent: &Value, now_ms: i64) -> Result<Value, Refusal> {
    let sent = sent["components"].as_array().map_or(&[][..], Vec::as_slice);
    check_kinds(sent, &["header", "body", "footer", "button", "carousel", "limited_time_offer"])?;
    let offer = one(&template.components, "limited_time_offer");
    let mut shown = fill_parts(template, &template.components, sent, if offer.is_some() { OFFER_BODY } else { BODY })?;
    match (one(&template.components, "carousel"), one(sent, "carousel")) {
        (Some(made), given) => shown["cards"] = fill_cards(template, made, given)?,
        (None, Some(_)) => return Err(surplus("carousel")),
        (None, None) => {}
    }
    match (offer, one(sent, "limited_time_offer")) {
        (Some(made), given) => shown["limited_time_offer"] = fill_offer(made, given, now_ms)?,
        (None, Some(_)) => return Err(surplus("limited_time_offer")),
        (None, None) => {}
    }
    Ok(shown)
}

/// The files that the headers name by media id, with the kind of message that each must fit.
pub(crate) fn media(sent: &Value) -> Vec<(&str, &str)> {
    let top = sent["components"].as_array().into_iter().flatten();
    let cards = top.clone().flat_map(|it| it["cards"].as_array().into_iter().flatten());
    let of_cards = cards.flat_map(|it| it["components"].as_array().into_iter().flatten());
    let headers = top.chain(of_cards).filter(|it| is_kind(it, "header"));
    let parameters = headers.flat_map(|it| it["parameters"].as_array().into_iter().flatten());
    let named = |it: &'static str| {
        parameters.clone().filter(move |given| is_kind(given, it)).filter_map(move |given| Some((it, given[it]["id"].as_str()?)))
    };
    ["image", "video", "document", "gif"].into_iter().flat_map(named).collect()
}

/// Only these kinds of component, and each but `button` once.
fn check_kinds(sent: &[Value], known: &[&str]) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    for component in sent {
        let kind = component["type"].as_str().unwrap_or_default().to_ascii_lowercase();
        if !known.contains(&kind.as_str()) {
            return Err(Refusal::with(132_018, format!("There is no component of type '{kind}'.")));
        }
        if kind != "button" && !seen.insert(kind.clone()) {
            return Err(Refusal::with(132_018, format!("The component {kind} is given twice.")));
        }
    }
    if parameters(sent, "footer").is_empty() { Ok(()) } else { Err(surplus("footer")) }
}

/// Header, body, footer and buttons of a template or of one card.
fn fill_parts(template: &Template, made: &[Value], sent: &[Value], longest_body: usize) -> Result<Value, Refusal> {
    let mut shown = json!({ "body": fill_body(template, made, sent, longest_body)? });
    if let Some(header) = fill_header(template, made, sent)? {
        shown["header"] = header;
    }
    if let Some(footer) = one(made, "footer") {
        shown["footer"] = footer["text"].clone();
    }
    let buttons = fill_buttons(template, made, sent)?;
    if !buttons.is_empty() {
        shown["buttons"] = buttons.into();
    }
    Ok(shown)
}

fn fill_body(template: &Template, made: &[Value], sent: &[Value], longest: usize) -> Result<String, Refusal> {
    let text = one(made, "body").and_then(|it| it["text"].as_str());
    // The words of an authentication template are Meta's own, and it need not name them.
    let usual = if template.is("AUTHENTICATION") { "*{{1}}* is your verification code." } else { "" };
    let filled = fill_text(template, "body", text.unwrap_or(usual), sent)?;
    if template.is("AUTHENTICATION") && code(sent).is_some_and(|it| it.chars().count() > CODE) {
        return Err(Refusal::with(132_018, format!("body: The code has more than {CODE} characters")));
    }
    at_most(filled, longest, "body")
}

fn fill_header(template: &Template, made: &[Value], sent: &[Value]) -> Result<Option<Value>, Refusal> {
    let header = one(made, "header");
    let format = header.and_then(|it| it["format"].as_str()).unwrap_or("TEXT").to_ascii_lowercase();
    if format == "text" {
        let text = header.and_then(|it| it["text"].as_str()).unwrap_or_default();
        let filled = at_most(fill_text(template, "header", text, sent)?, HEADER, "header")?;
        return Ok(header.map(|_| json!({ "type": "text", "text": filled })));
    }
    let parameter = match parameters(sent, "header") {
        [parameter] if is_kind(parameter, &format) => parameter,
        [parameter] => return Err(wrong_kind("header", &format.to_ascii_uppercase(), parameter)),
        given => return Err(wrong_count("header", given.len(), 1)),
    };
    let content = &parameter[&format];
    match format.as_str() {
        _ if content.is_null() => return Err(Refusal::missing(&format!("header.{format}"))),
        "location" => rules::location(content)?,
        "image" | "video" | "document" | "gif" => rules::medium(&format, content)?,
        _ => {}
    }
    Ok(Some(json!({ "type": format, format: content })))
}

/// The text with its values in place; names and numbers begin anew in every component.
fn fill_text(template: &Template, kind: &str, text: &str, sent: &[Value]) -> Result<String, Refusal> {
    let (wanted, given) = (variables(text), parameters(sent, kind));
    if wanted.len() != given.len() {
        return Err(wrong_count(kind, given.len(), wanted.len()));
    }
    let is_named = template.parameter_format.eq_ignore_ascii_case("NAMED");
    let mut values = BTreeMap::new();
    for (index, parameter) in given.iter().enumerate() {
        let value = text_value(kind, parameter)?;
        let name = match parameter["parameter_name"].as_str() {
            Some(name) if is_named && wanted.contains(name) => name.to_owned(),
            None if !is_named => (index + 1).to_string(),
            Some(_) if !is_named => return Err(Refusal::with(132_012, "Parameter name is given for a positional template")),
            _ => return Err(Refusal::with(132_012, "Parameter name is missing or invalid")),
        };
        if values.insert(name, value).is_some() {
            return Err(Refusal::with(132_018, format!("{kind}: A parameter name is given twice")));
        }
    }
    Ok(filled(text, &values))
}

/// The words of a parameter.
fn text_value<'a>(kind: &str, parameter: &'a Value) -> Result<&'a str, Refusal> {
    let text = match ["text", "currency", "date_time"].into_iter().find(|it| is_kind(parameter, it)) {
        Some("text") => parameter["text"].as_str(),
        Some(typed) => parameter[typed]["fallback_value"].as_str(),
        None => return Err(wrong_kind(kind, "TEXT", parameter)),
    };
    let text = text.filter(|it| !it.is_empty()).ok_or_else(|| Refusal::missing("text"))?;
    if text.contains(['\n', '\r', '\t']) || text.contains("     ") {
        return Err(Refusal::with(132_018, "Param text cannot have new-line/tab characters or more than 4 consecutive spaces"));
    }
    Ok(text)
}

fn fill_buttons(template: &Template, made: &[Value], sent: &[Value]) -> Result<Vec<Value>, Refusal> {
    let buttons = one(made, "buttons").and_then(|it| it["buttons"].as_array()).map_or(&[][..], Vec::as_slice);
    let given = by_index(sent.iter().filter(|it| is_kind(it, "button")), "index", buttons.len())?;
    let fill = |(index, button): (usize, &Value)| fill_button(template, index, button, given.get(&index).copied(), sent);
    buttons.iter().enumerate().map(fill).collect()
}

fn fill_button(template: &Template, index: usize, button: &Value, given: Option<&Value>, sent: &[Value]) -> Result<Value, Refusal> {
    let kind = button["type"].as_str().unwrap_or_default().to_ascii_uppercase();
    let sub_type = match kind.as_str() {
        "QUICK_REPLY" | "COPY_CODE" | "FLOW" => kind.to_ascii_lowercase(),
        "URL" | "OTP" => "url".into(),
        "PHONE_NUMBER" if given.is_none() => return Ok(button.clone()),
        "PHONE_NUMBER" => return Err(surplus(&format!("buttons: Button at index {index} of type {kind}"))),
        // What a catalogue, a call or a contact request takes is not looked at.
        _ => return Ok(button.clone()),
    };
    if given.is_some_and(|it| !it["sub_type"].as_str().is_some_and(|it| it.eq_ignore_ascii_case(&sub_type))) {
        return Err(Refusal::with(132_012, format!("buttons: Button at index {index} is of type {kind}")));
    }
    let parameter = match given.and_then(|it| it["parameters"].as_array()).map_or(&[][..], Vec::as_slice) {
        [] => None,
        [parameter] => Some(parameter),
        _ => return Err(Refusal::with(132_018, format!("buttons: Button at index {index} takes one parameter"))),
    };
    let needed =
        || parameter.ok_or_else(|| Refusal::with(131_008, format!("buttons: Button at index {index} of type {kind} requires a parameter")));
    let mut shown = button.clone();
    match kind.as_str() {
        "QUICK_REPLY" => {
            if let Some(parameter) = parameter {
                shown["payload"] = text_of(parameter, "payload", PAYLOAD)?.into();
            }
        }
        "COPY_CODE" => shown["coupon_code"] = text_of(needed()?, "coupon_code", COUPON)?.into(),
        "FLOW" => {
            let parameter = needed()?;
            if !is_kind(parameter, "action") || !parameter["action"].is_object() {
                return Err(wrong_kind("button", "ACTION", parameter));
            }
            shown["action"] = parameter["action"].clone();
        }
        _ => {
            let url = button["url"].as_str().unwrap_or_default();
            let Some(variable) = variables(url).into_iter().next().or_else(|| (kind == "OTP").then(|| "1".to_owned())) else {
                return if parameter.is_none() {
                    Ok(shown)
                } else {
                    Err(surplus(&format!("buttons: Button at index {index} of type {kind}")))
                };
            };
            let value = text_value("button", needed()?)?;
            if template.is("AUTHENTICATION") && code(sent) != Some(value) {
                return Err(Refusal::with(132_018, format!("buttons: The code of the button at index {index} is not that of the body")));
            }
            shown["url"] = at_most(filled(url, &[(variable, value)].into()), URL, "button")?.into();
        }
    }
    Ok(shown)
}

fn fill_cards(template: &Template, made: &Value, given: Option<&Value>) -> Result<Value, Refusal> {
    let made = made["cards"].as_array().map_or(&[][..], Vec::as_slice);
    let given = given.and_then(|it| it["cards"].as_array()).map_or(&[][..], Vec::as_slice);
    if given.len() != made.len() {
        return Err(wrong_count("carousel", given.len(), made.len()));
    }
    let given = by_index(given.iter(), "card_index", made.len())?;
    let fill = |(card, made): (&Value, &Value)| {
        let (sent, made) = (card["components"].as_array(), made["components"].as_array());
        let (sent, made) = (sent.map_or(&[][..], Vec::as_slice), made.map_or(&[][..], Vec::as_slice));
        check_kinds(sent, &["header", "body", "button"])?;
        fill_parts(template, made, sent, CARD_BODY)
    };
    given.into_values().zip(made).map(fill).collect()
}

/// When the offer ends, if it was made to end.
fn fill_offer(made: &Value, given: Option<&Value>, now_ms: i64) -> Result<Value, Refusal> {
    let mut shown = made["limited_time_offer"].clone();
    if shown["has_expiration"] != true {
        return Ok(shown);
    }
    let ends_at_ms =
        &given.ok_or_else(|| Refusal::missing("limited_time_offer"))?["parameters"][0]["limited_time_offer"]["expiration_time_ms"];
    match ends_at_ms.as_i64() {
        Some(at_ms) if at_ms > now_ms => shown["expiration_time_ms"] = at_ms.into(),
        Some(_) => return Err(Refusal::with(132_018, "limited_time_offer: expiration_time_ms lies in the past")),
        None if ends_at_ms.is_null() => return Err(Refusal::missing("expiration_time_ms")),
        None => return Err(Refusal::with(132_012, "limited_time_offer: expiration_time_ms is not a number of milliseconds")),
    }
    Ok(shown)
}

/// What is given by its place, each place below `length` at most once.
fn by_index<'a>(given: impl Iterator<Item = &'a Value>, name: &str, length: usize) -> Result<BTreeMap<usize, &'a Value>, Refusal> {
    let mut places = BTreeMap::new();
    for item in given {
        let index = item[name].as_u64().or_else(|| item[name].as_str()?.parse().ok()).and_then(|it| usize::try_from(it).ok());
        let Some(index) = index.filter(|it| *it < length) else {
            return Err(Refusal::with(132_018, format!("{name} is missing or out of range")));
        };
        if places.insert(index, item).is_some() {
            return Err(Refusal::with(132_018, format!("{name} {index} is given twice")));
        }
    }
    Ok(places)
}

/// The text of a parameter that is named as its type.
fn text_of<'a>(parameter: &'a Value, kind: &str, longest: usize) -> Result<&'a str, Refusal> {
    if !is_kind(parameter, kind) {
        return Err(wrong_kind("button", &kind.to_ascii_uppercase(), parameter));
    }
    let text = parameter[kind].as_str().filter(|it| !it.is_empty()).ok_or_else(|| Refusal::missing(kind))?;
    if text.chars().count() > longest {
        return Err(Refusal::with(132_018, format!("{kind} has more than {longest} characters")));
    }
    Ok(text)
}

/// The code of an authentication template: the only value of its body.
fn code(sent: &[Value]) -> Option<&str> {
    parameters(sent, "body").first().and_then(|it| it["text"].as_str())
}

fn at_most(text: String, longest: usize, part: &str) -> Result<String, Refusal> {
    if text.chars().count() > longest {
        return Err(Refusal::with(132_005, format!("{part}: Translated text is too long.")));
    }
    Ok(text)
}

fn wrong_count(part: &str, given: usize, wanted: usize) -> Refusal {
    Refusal::with(
        132_000,
        format!("{part}: number of localizable_params ({given}) does not match the expected number of params ({wanted})"),
    )
}

fn wrong_kind(part: &str, wanted: &str, parameter: &Value) -> Refusal {
    Refusal::with(
        132_012,
        format!("{part}: Format mismatch, expected {wanted}, received {}", parameter["type"].as_str().unwrap_or("nothing")),
    )
}

fn surplus(part: &str) -> Refusal {
    Refusal::with(132_018, format!("{part}: takes no parameters in this template"))
}

fn is_kind(component: &Value, kind: &str) -> bool {
    component["type"].as_str().is_some_and(|it| it.eq_ignore_ascii_case(kind))
}

fn one<'a>(components: &'a [Value], kind: &str) -> Option<&'a Value> {
    components.iter().find(|it| is_kind(it, kind))
}

fn parameters<'a>(sent: &'a [Value], kind: &str) -> &'a [Value] {
    one(sent, kind).and_then(|it| it["parameters"].as_array()).map_or(&[], Vec::as_slice)
}

/// The distinct names or numbers in `{{…}}`.
fn variables(text: &str) -> BTreeSet<String> {
    text.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")).map(|(name, _)| name.trim().to_owned()).collect()
}

/// The text with each `{{…}}` replaced; what a value holds is not filled again.
fn filled(text: &str, values: &BTreeMap<String, &str>) -> String {
    let mut parts = text.split("{{");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once("}}").map(|(name, rest)| (values.get(name.trim()), rest)) {
            Some((Some(value), rest)) => filled.extend([*value, rest]),
            _ => filled.extend(["{{", part]),
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_790_000_000_000;

    fn reminder() -> Template {
        let mut template = Template::of_body("812345678901234", "visit_reminder", "es_MX", "Su cita es el {{1}} a las {{2}}. Sí: {{1}}.");
        template.components.push(json!({ "type": "HEADER", "format": "TEXT", "text": "Hola {{1}}" }));
        template.components.push(json!({ "type": "FOOTER", "text": "Clínica Sur" }));
        template.components.push(json!({ "type": "BUTTONS", "buttons": [
            { "type": "QUICK_REPLY", "text": "Confirmar" }, { "type": "URL", "text": "Cambiar", "url": "https://example.org/c/{{1}}" },
            { "type": "URL", "text": "Web", "url": "https://example.org" }, { "type": "PHONE_NUMBER", "text": "Llamar", "phone_number": "+525512345678" },
            { "type": "CATALOG", "text": "Ver" }] }));
        template
    }

    fn texts(values: &[&str]) -> Value {
        values.iter().map(|it| json!({ "type": "text", "text": it })).collect()
    }

    fn header(values: &[&str]) -> Value {
        json!({ "type": "header", "parameters": texts(values) })
    }

    fn body(values: &[&str]) -> Value {
        json!({ "type": "body", "parameters": texts(values) })
    }

    fn button(sub_type: &str, index: Value, parameters: Value) -> Value {
        json!({ "type": "button", "sub_type": sub_type, "index": index, "parameters": parameters })
    }

    fn url() -> Value {
        button("url", "1".into(), texts(&["88"]))
    }

    fn with(components: &[Value]) -> Value {
        json!({ "components": components })
    }

    fn code_of(template: &Template, components: &[Value]) -> Result<(), u32> {
        fill(template, &with(components), NOW).map(drop).map_err(|it| it.code)
    }

    /// A template with a body and one more component.
    fn also(component: Value) -> Template {
        let mut template = Template::of_body("1", "promo", "en_US", "Look.");
        template.components.push(component);
        template
    }

    #[test]
    fn what_is_filled_is_shown() {
        let payload = button("QUICK_REPLY", 0.into(), json!([{ "type": "payload", "payload": "ok-88" }]));
        let shown = fill(&reminder(), &with(&[header(&["Ana"]), body(&["3 de {{2}}", "10:30"]), payload, url()]), NOW).expect("it fits");
        assert_eq!(shown["body"], "Su cita es el 3 de {{2}} a las 10:30. Sí: 3 de {{2}}.");
        assert_eq!((&shown["header"], &shown["footer"]), (&json!({ "type": "text", "text": "Hola Ana" }), &json!("Clínica Sur")));
        assert_eq!((&shown["buttons"][0]["payload"], &shown["buttons"][1]["url"]), (&json!("ok-88"), &json!("https://example.org/c/88")));
        assert_eq!(shown["buttons"][3]["text"], "Llamar");
    }

    #[test]
    fn values_are_counted_and_judged_per_component() {
        let (hello, good) = (header(&["Ana"]), body(&["3 de mayo", "10:30"]));
        let table = [
            (vec![hello.clone(), good.clone(), url()], Ok(())),
            (vec![hello.clone(), body(&["3 de mayo"]), url()], Err(132_000)),
            (vec![header(&[]), good.clone(), url()], Err(132_000)),
            (vec![good.clone(), url()], Err(132_000)),
            (vec![hello.clone(), body(&["3 de mayo", "10:30", "one too many"]), url()], Err(132_000)),
            (vec![hello.clone(), body(&["3\nde mayo", "10:30"]), url()], Err(132_018)),
            (vec![hello.clone(), body(&["3\tde mayo", "10:30"]), url()], Err(132_018)),
            (vec![hello.clone(), body(&["3     de mayo", "10:30"]), url()], Err(132_018)),
            (vec![hello.clone(), body(&["3    de mayo", "10:30"]), url()], Ok(())),
            (vec![hello.clone(), body(&["", "10:30"]), url()], Err(131_008)),
            (vec![hello.clone(), body(&["x".repeat(1024).as_str(), "10:30"]), url()], Err(132_005)),
            (vec![header(&["x".repeat(55).as_str()]), good.clone(), url()], Ok(())),
            (vec![header(&["x".repeat(56).as_str()]), good.clone(), url()], Err(132_005)),
            (vec![hello.clone(), good.clone(), url(), good.clone()], Err(132_018)),
            (vec![hello.clone(), good.clone(), url(), json!({ "type": "footer", "parameters": texts(&["x"]) })], Err(132_018)),
            (vec![hello.clone(), good.clone(), url(), json!({ "type": "dance" })], Err(132_018)),
            (vec![hello.clone(), good.clone(), url(), json!({ "type": "carousel", "cards": [] })], Err(132_018)),
            (vec![hello, good, url(), json!({ "type": "limited_time_offer" })], Err(132_018)),
        ];
        for (components, expected) in table {
            assert_eq!(code_of(&reminder(), &components), expected, "{components:?}");
        }
        let typed = json!({ "type": "BODY", "parameters": [{ "type": "CURRENCY", "currency": { "fallback_value": "$5", "code": "USD", "amount_1000": 5000 } }] });
        let shown = fill(&Template::of_body("1", "pay", "en_US", "Pay {{1}} now."), &with(&[typed]), NOW).expect("it fits");
        assert_eq!(shown["body"], "Pay $5 now.");
    }

    #[test]
    fn buttons_take_what_their_kind_takes() {
        let code = |buttons: &[Value]| code_of(&reminder(), &[&[header(&["Ana"]), body(&["3 de mayo", "10:30"])], buttons].concat());
        let payload = |it: &str| button("quick_reply", 0.into(), json!([{ "type": "payload", "payload": it }]));
        let table = [
            (vec![], Err(131_008)),
            (vec![url(), payload("x".repeat(256).as_str())], Ok(())),
            (vec![url(), payload("x".repeat(257).as_str())], Err(132_018)),
            (vec![url(), payload("")], Err(131_008)),
            (vec![url(), button("quick_reply", 0.into(), texts(&["x"]))], Err(132_012)),
            (vec![button("quick_reply", 1.into(), texts(&["x"]))], Err(132_012)),
            (vec![button("url", 1.into(), texts(&["8", "9"]))], Err(132_018)),
            (vec![button("url", 1.into(), texts(&["x".repeat(1979).as_str()]))], Err(132_005)),
            (vec![button("url", 1.into(), texts(&["x".repeat(1978).as_str()]))], Ok(())),
            (vec![button("url", 1.into(), texts(&[" \n"]))], Err(132_018)),
            (vec![url(), button("url", 2.into(), texts(&["8"]))], Err(132_018)),
            (vec![url(), button("url", 3.into(), texts(&["8"]))], Err(132_018)),
            (vec![url(), button("catalog", 4.into(), json!([{ "type": "action", "action": {} }]))], Ok(())),
            (vec![url(), button("url", 5.into(), json!([]))], Err(132_018)),
            (vec![url(), button("url", Value::Null, json!([]))], Err(132_018)),
            (vec![url(), url()], Err(132_018)),
        ];
        for (buttons, expected) in table {
            assert_eq!(code(&buttons), expected, "{buttons:?}");
        }
        let coupon =
            also(json!({ "type": "BUTTONS", "buttons": [{ "type": "COPY_CODE", "text": "Copy" }, { "type": "FLOW", "text": "Book" }] }));
        let flow = button("flow", 1.into(), json!([{ "type": "action", "action": { "flow_token": "t" } }]));
        let copy = |it: &str| button("copy_code", 0.into(), json!([{ "type": "coupon_code", "coupon_code": it }]));
        assert_eq!(code_of(&coupon, &[copy(&"x".repeat(20)), flow.clone()]), Ok(()));
        assert_eq!(code_of(&coupon, &[copy(&"x".repeat(21)), flow.clone()]), Err(132_018));
        assert_eq!(code_of(&coupon, &[button("copy_code", 0.into(), texts(&["x"])), flow.clone()]), Err(132_012));
        assert_eq!(code_of(&coupon, &[flow]), Err(131_008));
        assert_eq!(code_of(&coupon, &[copy("x")]), Err(131_008));
        assert_eq!(code_of(&coupon, &[copy("x"), button("flow", 1.into(), texts(&["x"]))]), Err(132_012));
    }

    #[test]
    fn named_values_have_exactly_the_names() {
        let named = Template { parameter_format: "named".into(), ..Template::of_body("1", "hello", "en_US", "{{first_name}}, {{day}}.") };
        let given = |names: &[Option<&str>]| {
            let parameter = |it: &Option<&str>| match it {
                Some(name) => json!({ "type": "text", "parameter_name": name, "text": *name }),
                None => json!({ "type": "text", "text": "x" }),
            };
            json!({ "type": "body", "parameters": names.iter().map(parameter).collect::<Vec<_>>() })
        };
        assert_eq!(fill(&named, &with(&[given(&[Some("day"), Some("first_name")])]), NOW).expect("it fits")["body"], "first_name, day.");
        assert_eq!(code_of(&named, &[given(&[Some("day")])]), Err(132_000));
        assert_eq!(code_of(&named, &[given(&[Some("day"), Some("day")])]), Err(132_018));
        assert_eq!(code_of(&named, &[given(&[Some("day"), Some("month")])]), Err(132_012));
        assert_eq!(code_of(&named, &[given(&[Some("day"), None])]), Err(132_012));
        let positional = Template::of_body("1", "hello", "en_US", "Hello {{1}}.");
        assert_eq!(code_of(&positional, &[given(&[Some("1")])]), Err(132_012));
    }

    #[test]
    fn a_header_takes_the_medium_or_place_of_its_format() {
        let given = |parameters: Value| [json!({ "type": "header", "parameters": parameters })];
        for format in ["IMAGE", "VIDEO", "DOCUMENT"] {
            let (template, kind) = (also(json!({ "type": "HEADER", "format": format })), format.to_lowercase());
            let code = |content: Value| code_of(&template, &given(json!([{ "type": kind, (kind.as_str()): content }])));
            assert_eq!(code(json!({ "id": "9100" })), Ok(()), "{format}");
            let upper = [json!({ "type": "HEADER", "parameters": [{ "type": format, (kind.as_str()): { "id": "9100" } }] })];
            assert_eq!(code_of(&template, &upper), Ok(()), "{format}");
            assert_eq!(media(&with(&upper)), [(kind.as_str(), "9100")]);
            assert_eq!(code(json!({ "link": "https://example.org/a" })), Ok(()), "{format}");
            assert_eq!(code(json!({ "link": "ftp://example.org/a" })), Err(131_009), "{format}");
            assert_eq!(code(json!({ "id": "9100", "link": "https://example.org/a" })), Err(131_009), "{format}");
            assert_eq!(code(json!({})), Err(131_008), "{format}");
            assert_eq!(code(Value::Null), Err(131_008), "{format}");
            assert_eq!(code_of(&template, &given(texts(&["x"]))), Err(132_012), "{format}");
            assert_eq!(code_of(&template, &[]), Err(132_000), "{format}");
        }
        let place = also(json!({ "type": "HEADER", "format": "LOCATION" }));
        let at = |content: Value| code_of(&place, &given(json!([{ "type": "location", "location": content }])));
        assert_eq!(at(json!({ "latitude": "19.4", "longitude": "-99.1", "name": "Clinic" })), Ok(()));
        assert_eq!(at(json!({ "latitude": "19.4" })), Err(131_008));
        assert_eq!(code_of(&also(json!({ "type": "FOOTER", "text": "x" })), &[header(&["x"])]), Err(132_000));
    }

    #[test]
    fn an_authentication_template_takes_its_code_twice() {
        let mut template = Template { category: "AUTHENTICATION".into(), ..Template::of_body("1", "login", "en_US", "") };
        template.components = vec![
            json!({ "type": "BODY", "add_security_recommendation": true }),
            json!({ "type": "BUTTONS", "buttons": [{ "type": "OTP", "otp_type": "COPY_CODE", "text": "Copy code" }] }),
        ];
        let sent = |one: &str, other: &str| [body(&[one]), button("url", "0".into(), texts(&[other]))];
        assert_eq!(fill(&template, &with(&sent("123456", "123456")), NOW).expect("it fits")["body"], "*123456* is your verification code.");
        assert_eq!(code_of(&template, &sent("123456", "654321")), Err(132_018));
        assert_eq!(code_of(&template, &sent("1234567890123456", "1234567890123456")), Err(132_018));
        assert_eq!(code_of(&template, &[body(&["123456"])]), Err(131_008));
        let as_listed = json!({ "type": "URL", "text": "Copy code", "url": "https://www.whatsapp.com/otp/code/?code=otp{{1}}" });
        template.components[1]["buttons"] = json!([as_listed]);
        assert_eq!(code_of(&template, &sent("123456", "123456")), Ok(()));
        assert_eq!(code_of(&template, &sent("123456", "654321")), Err(132_018));
    }

    #[test]
    fn every_card_is_filled_once() {
        let made = json!({ "components": [{ "type": "HEADER", "format": "IMAGE" }, { "type": "BODY", "text": "Only {{1}}." },
            { "type": "BUTTONS", "buttons": [{ "type": "URL", "text": "Buy", "url": "https://example.org/{{1}}" }] }] });
        let template = also(json!({ "type": "CAROUSEL", "cards": [made.clone(), made] }));
        let card = |index: u32, words: &str| {
            let image = json!({ "type": "header", "parameters": [{ "type": "image", "image": { "id": format!("91{index}") } }] });
            json!({ "card_index": index, "components": [image, body(&[words]), button("url", 0.into(), texts(&["a"]))] })
        };
        let sent = |cards: &[Value]| vec![json!({ "type": "carousel", "cards": cards })];
        let good = with(&sent(&[card(1, "two"), card(0, "one")]));
        let shown = fill(&template, &good, NOW).expect("it fits");
        assert_eq!((&shown["cards"][0]["body"], &shown["cards"][1]["body"]), (&json!("Only one."), &json!("Only two.")));
        assert_eq!(media(&good), [("image", "911"), ("image", "910")]);
        let mut bare = card(1, "two");
        bare["components"] = json!([body(&["two"])]);
        for (cards, expected) in [
            (vec![card(0, "one")], 132_000),
            (vec![card(0, "one"), card(0, "two")], 132_018),
            (vec![card(0, "one"), card(2, "two")], 132_018),
            (vec![card(0, "one"), card(1, &"x".repeat(160))], 132_005),
            (vec![card(0, "one"), bare], 132_000),
        ] {
            assert_eq!(code_of(&template, &sent(&cards)), Err(expected), "{cards:?}");
        }
        assert_eq!(code_of(&template, &[]), Err(132_000));
    }

    #[test]
    fn an_offer_ends_in_the_future() {
        let offer = |ends: bool| {
            also(json!({ "type": "LIMITED_TIME_OFFER", "limited_time_offer": { "text": "Soon over", "has_expiration": ends } }))
        };
        let sent = |at: Value| {
            let offer = json!({ "type": "limited_time_offer", "limited_time_offer": { "expiration_time_ms": at } });
            [json!({ "type": "limited_time_offer", "parameters": [offer] })]
        };
        assert_eq!(code_of(&offer(true), &sent((NOW + 1).into())), Ok(()));
        assert_eq!(code_of(&offer(true), &sent(NOW.into())), Err(132_018));
        assert_eq!(code_of(&offer(true), &sent("soon".into())), Err(132_012));
        assert_eq!(code_of(&offer(true), &sent(Value::Null)), Err(131_008));
        assert_eq!(code_of(&offer(true), &[]), Err(131_008));
        assert_eq!(code_of(&offer(false), &[]), Ok(()));
    }
}
