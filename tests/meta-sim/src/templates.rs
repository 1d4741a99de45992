//! Message templates: which there are, and whether a send fills one as it was made. Pure.
//!
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/components>

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::errors::Refusal;

/// A template as `GET /{waba}/message_templates` lists it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Template {
    /// Its id, digits.
    pub id: String,
    /// Its name, `[a-z0-9_]`.
    pub name: String,
    /// Its language, such as `es_MX`. Name and language together identify it.
    pub language: String,
    /// `APPROVED` if it may be sent; `PAUSED`, `DISABLED`, `PENDING`, `REJECTED`, … otherwise.
    #[serde(default = "approved")]
    pub status: String,
    /// `MARKETING`, `UTILITY` or `AUTHENTICATION`.
    #[serde(default = "utility")]
    pub category: String,
    /// `POSITIONAL` or `NAMED`.
    #[serde(default = "positional")]
    pub parameter_format: String,
    /// `HEADER`, `BODY`, `FOOTER` and `BUTTONS`, as Meta lists them.
    pub components: Vec<Value>,
    /// Whether Meta holds further sends to judge the template's quality first.
    #[serde(default)]
    pub held: bool,
}

fn approved() -> String {
    "APPROVED".into()
}

fn utility() -> String {
    "UTILITY".into()
}

fn positional() -> String {
    "POSITIONAL".into()
}

impl Template {
    /// An approved utility template that has only a body.
    pub fn of_body(id: &str, name: &str, language: &str, text: &str) -> Self {
        Self {
            id: id.into(),
            name: name.into(),
            language: language.into(),
            status: approved(),
            category: utility(),
            parameter_format: positional(),
            components: vec![json!({ "type": "BODY", "text": text })],
            held: false,
        }
    }

    /// As listed by Graph.
    pub fn listed(&self) -> Value {
        json!({ "id": self.id, "name": self.name, "language": self.language, "status": self.status, "category": self.category,
                "parameter_format": self.parameter_format, "components": self.components })
    }

    fn component(&self, kind: &str) -> Option<&Value> {
        self.components.iter().find(|it| it["type"].as_str().is_some_and(|it| it.eq_ignore_ascii_case(kind)))
    }

    /// The body with its values in place, as the customer reads it.
    pub fn filled_body(&self, sent: &Value) -> String {
        let mut text = self.component("BODY").and_then(|it| it["text"].as_str()).unwrap_or_default().to_owned();
        for (index, parameter) in parameters(sent, "body").iter().enumerate() {
            let name = parameter["parameter_name"].as_str().map_or_else(|| (index + 1).to_string(), str::to_owned);
            text = text.replace(&format!("{{{{{name}}}}}"), parameter["text"].as_str().unwrap_or_default());
        }
        text
    }

    /// Checks the `template` member of a send against this template.
    ///
    /// # Errors
    ///
    /// 132001, 132015, 132016 by status; 132000, 132012, 132018, 132005 and 131008 by the values.
    pub fn check(&self, sent: &Value) -> Result<(), Refusal> {
        match self.status.as_str() {
            "APPROVED" => {}
            "PAUSED" => return Err(Refusal::with(132_015, format!("Template {} is paused due to low quality.", self.name))),
            "DISABLED" => return Err(Refusal::with(132_016, format!("Template {} is disabled.", self.name))),
            _ => return Err(absent(&self.name, &self.language)),
        }
        self.check_header(sent)?;
        self.check_texts("BODY", "body", sent)?;
        self.check_buttons(sent)?;
        if self.filled_body(sent).chars().count() > 1024 {
            return Err(Refusal::with(132_005, "Translated text is too long."));
        }
        Ok(())
    }

    fn check_header(&self, sent: &Value) -> Result<(), Refusal> {
        let format = self.component("HEADER").and_then(|it| it["format"].as_str()).unwrap_or("TEXT").to_ascii_lowercase();
        if format == "text" {
            return self.check_texts("HEADER", "header", sent);
        }
        match parameters(sent, "header").as_slice() {
            [parameter] if parameter["type"] == format.as_str() && !parameter[&format].is_null() => Ok(()),
            [parameter] => Err(Refusal::with(
                132_012,
                format!("header: Format mismatch, expected {}, received {}", format.to_uppercase(), parameter["type"]),
            )),
            given => Err(count_mismatch("header", given.len(), 1)),
        }
    }

    fn check_texts(&self, kind: &str, sent_kind: &str, sent: &Value) -> Result<(), Refusal> {
        let text = self.component(kind).and_then(|it| it["text"].as_str()).unwrap_or_default();
        let wanted = variables(text);
        let given = parameters(sent, sent_kind);
        if wanted.len() != given.len() {
            return Err(count_mismatch(sent_kind, given.len(), wanted.len()));
        }
        for parameter in given {
            self.check_text(sent_kind, parameter, &wanted)?;
        }
        Ok(())
    }

    fn check_text(&self, sent_kind: &str, parameter: &Value, wanted: &BTreeSet<String>) -> Result<(), Refusal> {
        let text = match parameter["type"].as_str() {
            Some("text") => parameter["text"].as_str(),
            Some(typed @ ("currency" | "date_time")) => parameter[typed]["fallback_value"].as_str(),
            other => {
                return Err(Refusal::with(
                    132_012,
                    format!("{sent_kind}: Format mismatch, expected TEXT, received {}", other.unwrap_or("nothing")),
                ));
            }
        };
        let Some(text) = text.filter(|it| !it.is_empty()) else { return Err(Refusal::missing("text")) };
        if text.contains(['\n', '\t']) || text.contains("     ") {
            return Err(Refusal::with(132_018, "Param text cannot have new-line/tab characters or more than 4 consecutive spaces"));
        }
        let name = parameter["parameter_name"].as_str();
        match (self.parameter_format.as_str(), name) {
            ("NAMED", Some(name)) if wanted.contains(name) => Ok(()),
            ("NAMED", _) => Err(Refusal::with(132_012, "Parameter name is missing or invalid")),
            (_, Some(_)) => Err(Refusal::with(132_012, "Parameter name is given for a positional template")),
            (_, None) => Ok(()),
        }
    }

    fn check_buttons(&self, sent: &Value) -> Result<(), Refusal> {
        let none = Vec::new();
        let buttons = self.component("BUTTONS").and_then(|it| it["buttons"].as_array()).unwrap_or(&none);
        let sent_buttons: Vec<&Value> = components(sent).iter().filter(|it| is_kind(it, "button")).collect();
        let index_of = |it: &Value| it["index"].as_u64().or_else(|| it["index"].as_str().and_then(|it| it.parse().ok()));
        for (index, button) in buttons.iter().enumerate() {
            let given = sent_buttons.iter().find(|it| index_of(it) == u64::try_from(index).ok());
            let count = given.and_then(|it| it["parameters"].as_array()).map_or(0, Vec::len);
            let kind = button["type"].as_str().unwrap_or_default();
            let needs_value = match kind {
                "URL" => !variables(button["url"].as_str().unwrap_or_default()).is_empty(),
                "COPY_CODE" => true,
                _ => false,
            };
            if needs_value && count == 0 {
                return Err(Refusal::with(131_008, format!("buttons: Button at index {index} of type {kind} requires a parameter")));
            }
            if let Some(given) = given
                && !given["sub_type"].as_str().is_some_and(|it| it.eq_ignore_ascii_case(kind))
            {
                return Err(Refusal::with(132_012, format!("buttons: Button at index {index} is of type {kind}")));
            }
        }
        if sent_buttons.iter().any(|it| index_of(it).is_none_or(|index| usize::try_from(index).map_or(true, |it| it >= buttons.len()))) {
            return Err(Refusal::with(132_018, "buttons: Button index is out of range"));
        }
        Ok(())
    }
}

/// The refusal of a template that is not there, or not in this language, or not approved.
pub(crate) fn absent(name: &str, language: &str) -> Refusal {
    Refusal::with(132_001, format!("template name ({name}) does not exist in {language}"))
}

fn count_mismatch(component: &str, given: usize, wanted: usize) -> Refusal {
    Refusal::with(
        132_000,
        format!("{component}: number of localizable_params ({given}) does not match the expected number of params ({wanted})"),
    )
}

fn components(sent: &Value) -> &[Value] {
    sent["components"].as_array().map_or(&[], Vec::as_slice)
}

fn is_kind(component: &Value, kind: &str) -> bool {
    component["type"].as_str().is_some_and(|it| it.eq_ignore_ascii_case(kind))
}

fn parameters<'a>(sent: &'a Value, kind: &str) -> Vec<&'a Value> {
    let component = components(sent).iter().find(|it| is_kind(it, kind));
    component.and_then(|it| it["parameters"].as_array()).map(|it| it.iter().collect()).unwrap_or_default()
}

/// The distinct names or numbers in `{{…}}`.
fn variables(text: &str) -> BTreeSet<String> {
    text.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")).map(|(name, _)| name.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reminder() -> Template {
        let mut template = Template::of_body("812345678901234", "visit_reminder", "es_MX", "Su cita es el {{1}} a las {{2}}. Sí: {{1}}.");
        template.components.push(json!({ "type": "HEADER", "format": "TEXT", "text": "Hola {{1}}" }));
        template.components.push(json!({ "type": "BUTTONS", "buttons": [
            { "type": "QUICK_REPLY", "text": "Confirmar" }, { "type": "URL", "text": "Cambiar", "url": "https://example.org/c/{{1}}" }] }));
        template
    }

    fn texts(values: &[&str]) -> Value {
        values.iter().map(|it| json!({ "type": "text", "text": it })).collect()
    }

    fn sent(header: &[&str], body: &[&str], buttons: &[Value]) -> Value {
        let mut components =
            vec![json!({ "type": "header", "parameters": texts(header) }), json!({ "type": "body", "parameters": texts(body) })];
        components.extend_from_slice(buttons);
        json!({ "name": "visit_reminder", "language": { "code": "es_MX" }, "components": components })
    }

    fn url_button() -> Value {
        json!({ "type": "button", "sub_type": "url", "index": "1", "parameters": texts(&["88"]) })
    }

    #[test]
    fn values_are_counted_per_component() {
        let good = sent(&["Ana"], &["3 de mayo", "10:30"], &[url_button()]);
        assert_eq!(reminder().check(&good), Ok(()));
        assert_eq!(reminder().filled_body(&good), "Su cita es el 3 de mayo a las 10:30. Sí: 3 de mayo.");
        let code = |it: Value| reminder().check(&it).map_err(|it| it.code);
        assert_eq!(code(sent(&["Ana"], &["3 de mayo"], &[url_button()])), Err(132_000));
        assert_eq!(code(sent(&[], &["3 de mayo", "10:30"], &[url_button()])), Err(132_000));
        assert_eq!(code(sent(&["Ana"], &["3 de mayo", "10:30", "one too many"], &[url_button()])), Err(132_000));
        assert_eq!(code(sent(&["Ana"], &["3 de mayo", "10:30"], &[])), Err(131_008));
        assert_eq!(code(sent(&["Ana"], &["3\nde mayo", "10:30"], &[url_button()])), Err(132_018));
        assert_eq!(code(sent(&["Ana"], &["3     de mayo", "10:30"], &[url_button()])), Err(132_018));
        assert_eq!(code(sent(&["Ana"], &["", "10:30"], &[url_button()])), Err(131_008));
        assert_eq!(code(sent(&["Ana"], &["x".repeat(1024).as_str(), "10:30"], &[url_button()])), Err(132_005));
        let wrong_kind =
            json!({ "type": "button", "sub_type": "quick_reply", "index": 1, "parameters": [{ "type": "payload", "payload": "x" }] });
        assert_eq!(code(sent(&["Ana"], &["3 de mayo", "10:30"], &[wrong_kind])), Err(132_012));
        let no_such = json!({ "type": "button", "sub_type": "url", "index": 2, "parameters": [] });
        assert_eq!(code(sent(&["Ana"], &["3 de mayo", "10:30"], &[url_button(), no_such])), Err(132_018));
    }

    #[test]
    fn only_approved_templates_are_sent() {
        let good = sent(&["Ana"], &["3 de mayo", "10:30"], &[url_button()]);
        for (status, code) in [("PAUSED", 132_015), ("DISABLED", 132_016), ("PENDING", 132_001), ("REJECTED", 132_001)] {
            let template = Template { status: status.into(), ..reminder() };
            assert_eq!(template.check(&good).map_err(|it| it.code), Err(code), "{status}");
        }
    }

    #[test]
    fn named_and_positional_are_not_mixed() {
        let named = Template { parameter_format: "NAMED".into(), ..Template::of_body("1", "hello", "en_US", "Hello {{first_name}}.") };
        let with = |parameter: Value| json!({ "components": [{ "type": "body", "parameters": [parameter] }] });
        assert_eq!(named.check(&with(json!({ "type": "text", "parameter_name": "first_name", "text": "Ana" }))), Ok(()));
        assert_eq!(named.check(&with(json!({ "type": "text", "text": "Ana" }))).map_err(|it| it.code), Err(132_012));
        let positional = Template::of_body("1", "hello", "en_US", "Hello {{1}}.");
        assert_eq!(
            positional.check(&with(json!({ "type": "text", "parameter_name": "first_name", "text": "Ana" }))).map_err(|it| it.code),
            Err(132_012)
        );
    }

    #[test]
    fn a_media_header_needs_its_medium() {
        let mut template = Template::of_body("1", "promo", "en_US", "Look.");
        template.components.push(json!({ "type": "HEADER", "format": "IMAGE" }));
        let with = |parameters: Value| json!({ "components": [{ "type": "header", "parameters": parameters }] });
        assert_eq!(template.check(&with(json!([{ "type": "image", "image": { "id": "9100" } }]))), Ok(()));
        assert_eq!(template.check(&with(json!([{ "type": "text", "text": "x" }]))).map_err(|it| it.code), Err(132_012));
        assert_eq!(template.check(&with(json!([]))).map_err(|it| it.code), Err(132_000));
    }
}
