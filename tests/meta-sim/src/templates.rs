//! Message templates: which there are, how Graph lists them, and what a webhook tells of a change. Pure.
//!
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/template-management>

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::errors::Refusal;
use crate::webhooks::put;

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
    /// `HEADER`, `BODY`, `FOOTER`, `BUTTONS`, `CAROUSEL` and `LIMITED_TIME_OFFER`, as Meta lists them.
    pub components: Vec<Value>,
    /// What customers make of it.
    #[serde(default)]
    pub quality_score: Quality,
    /// `CUSTOM`, `ORDER_DETAILS`, ….
    #[serde(default)]
    pub sub_category: Option<String>,
    /// The category before Meta put it into another.
    #[serde(default)]
    pub previous_category: Option<String>,
    /// The category into which Meta is about to put it.
    #[serde(default)]
    pub correct_category: Option<String>,
    /// `AUTO_GENERATED` if nobody made it by hand.
    #[serde(default)]
    pub source: Option<String>,
    /// Why Meta does not approve of it.
    #[serde(default)]
    pub rejected_reason: Option<String>,
    /// Whether Meta holds further sends to judge the template's quality first.
    #[serde(default)]
    pub held: bool,
    /// After how many accepted sends Meta holds the next ones.
    #[serde(default)]
    pub hold_after: Option<u32>,
    /// How many sends of it were accepted.
    #[serde(default)]
    pub accepted: u32,
}

/// A template's quality score.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quality {
    /// `GREEN`, `YELLOW`, `RED` or `UNKNOWN`.
    pub score: String,
    /// Since when, in seconds.
    #[serde(default)]
    pub date: i64,
}

impl Default for Quality {
    fn default() -> Self {
        Self { score: "UNKNOWN".into(), date: 0 }
    }
}

/// What happens to a template after it was made. Each is told by a webhook of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "edit", rename_all = "snake_case")]
pub enum Edit {
    /// Its parts are others: `message_template_components_update`.
    Components {
        /// The new ones.
        components: Vec<Value>,
    },
    /// Meta announces another category: `template_category_update`.
    CategoryAnnounced {
        /// The category to come.
        category: String,
        /// When it comes, in seconds.
        #[serde(default)]
        at: i64,
    },
    /// Meta has put it into another category: `template_category_update`.
    Category {
        /// The new one.
        category: String,
    },
    /// Its quality has changed: `message_template_quality_update`.
    Quality {
        /// `GREEN`, `YELLOW`, `RED` or `UNKNOWN`.
        score: String,
    },
    /// It is deleted: `message_template_status_update`.
    Deleted,
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

/// The templates that an account has from the start: an offer, a reminder, and a login code, in English.
#[must_use]
pub fn demo_templates() -> [Template; 3] {
    let mut login = Template::of_body("8103", "login_code", "en_US", "*{{1}}* is your verification code.").in_category("AUTHENTICATION");
    login.components.push(json!({ "type": "BUTTONS", "buttons": [
        { "type": "URL", "text": "Copy code", "url": "https://www.whatsapp.com/otp/code/?otp_type=COPY_CODE&code=otp{{1}}" }] }));
    [
        Template::of_body("8101", "spring_offer", "en_US", "Hello {{1}}, everything is half price today.").in_category("MARKETING"),
        Template::of_body("8102", "visit_reminder", "en_US", "Hello {{1}}, we see you tomorrow."),
        login,
    ]
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
            quality_score: Quality::default(),
            sub_category: None,
            previous_category: None,
            correct_category: None,
            source: None,
            rejected_reason: None,
            held: false,
            hold_after: None,
            accepted: 0,
        }
    }

    /// The same in another category: `MARKETING`, `UTILITY` or `AUTHENTICATION`.
    #[must_use]
    pub fn in_category(self, category: &str) -> Self {
        Self { category: category.into(), ..self }
    }

    /// As listed by Graph.
    pub fn listed(&self) -> Value {
        let mut listed = json!({ "id": self.id, "name": self.name, "language": self.language, "status": self.status,
            "category": self.category, "parameter_format": self.parameter_format, "components": self.components,
            "quality_score": self.quality_score, "rejected_reason": self.rejected_reason.as_deref().unwrap_or("NONE") });
        put(&mut listed, "sub_category", self.sub_category.as_deref());
        put(&mut listed, "previous_category", self.previous_category.as_deref());
        put(&mut listed, "correct_category", self.correct_category.as_deref());
        put(&mut listed, "source", self.source.as_deref());
        listed
    }

    /// Whether it is of this category.
    pub(crate) fn is(&self, category: &str) -> bool {
        self.category.eq_ignore_ascii_case(category)
    }

    /// Whether Meta would hold the next send.
    pub(crate) fn holds(&self) -> bool {
        self.held || self.hold_after.is_some_and(|it| self.accepted >= it)
    }

    /// Whether it may be sent at all.
    ///
    /// # Errors
    ///
    /// 132015 while paused, 132016 once disabled, else 132001.
    pub(crate) fn check_status(&self) -> Result<(), Refusal> {
        match self.status.as_str() {
            "APPROVED" => Ok(()),
            "PAUSED" => Err(Refusal::with(132_015, format!("Template {} is paused due to low quality.", self.name))),
            "DISABLED" => Err(Refusal::with(132_016, format!("Template {} is disabled.", self.name))),
            _ => Err(absent(&self.name, &self.language)),
        }
    }

    /// `message_template_status_update`.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/message_template_status_update>
    pub(crate) fn status_told(&self, event: &str) -> Value {
        let mut told = self.told();
        told["event"] = event.into();
        told["message_template_category"] = self.category.as_str().into();
        told["reason"] = self.rejected_reason.as_deref().unwrap_or("NONE").into();
        told
    }

    /// Changes what `edit` says, and gives the webhook's field and value.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/message_template_components_update>
    /// and its neighbours.
    pub(crate) fn edit(&mut self, edit: &Edit, now_ms: i64) -> (&'static str, Value) {
        let mut told = self.told();
        match edit {
            Edit::Components { components } => {
                self.components.clone_from(components);
                self.tell_components(&mut told);
                ("message_template_components_update", told)
            }
            Edit::CategoryAnnounced { category, at } => {
                self.correct_category = Some(category.clone());
                told["correct_category"] = category.as_str().into();
                told["new_category"] = self.category.as_str().into();
                told["category_update_timestamp"] = (*at).into();
                ("template_category_update", told)
            }
            Edit::Category { category } => {
                let before = std::mem::replace(&mut self.category, category.clone());
                told["previous_category"] = before.as_str().into();
                told["new_category"] = category.as_str().into();
                (self.previous_category, self.correct_category) = (Some(before), None);
                ("template_category_update", told)
            }
            Edit::Quality { score } => {
                told["previous_quality_score"] = self.quality_score.score.as_str().into();
                told["new_quality_score"] = score.as_str().into();
                self.quality_score = Quality { score: score.clone(), date: now_ms / 1000 };
                ("message_template_quality_update", told)
            }
            Edit::Deleted => {
                self.status = "DELETED".into();
                ("message_template_status_update", self.status_told("DELETED"))
            }
        }
    }

    fn tell_components(&self, told: &mut Value) {
        for component in &self.components {
            let name = match component["type"].as_str().unwrap_or_default().to_ascii_uppercase().as_str() {
                "BODY" => "message_template_element",
                "HEADER" => "message_template_title",
                "FOOTER" => "message_template_footer",
                "BUTTONS" => {
                    let buttons = component["buttons"].as_array().into_iter().flatten().map(button_told);
                    told["message_template_buttons"] = buttons.collect();
                    continue;
                }
                _ => continue,
            };
            put(told, name, component["text"].as_str());
        }
    }

    /// How every webhook names it: the id as a number, the language with a hyphen.
    fn told(&self) -> Value {
        json!({ "message_template_id": self.id.parse::<u64>().unwrap_or_default(), "message_template_name": self.name,
                "message_template_language": self.language.replace('_', "-") })
    }
}

fn button_told(button: &Value) -> Value {
    let mut told = json!({ "message_template_button_type": button["type"], "message_template_button_text": button["text"] });
    put(&mut told, "message_template_button_url", button["url"].as_str());
    put(&mut told, "message_template_button_phone_number", button["phone_number"].as_str());
    told
}

/// The language as Graph lists it: webhooks write `en-US`, and a send may too.
pub(crate) fn as_listed(language: &str) -> String {
    language.replace('-', "_")
}

/// The refusal of a template that is not there, or not in this language, or not approved.
pub(crate) fn absent(name: &str, language: &str) -> Refusal {
    Refusal::with(132_001, format!("template name ({name}) does not exist in {language}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_approved_templates_are_sent() {
        for (status, code) in [("APPROVED", None), ("PAUSED", Some(132_015)), ("DISABLED", Some(132_016)), ("PENDING", Some(132_001))] {
            let template = Template { status: status.into(), ..Template::of_body("1", "t", "en_US", "Hi.") };
            assert_eq!(template.check_status().err().map(|it| it.code), code, "{status}");
        }
    }

    #[test]
    fn the_first_sends_are_not_held() {
        let template = Template { hold_after: Some(2), ..Template::of_body("1", "t", "en_US", "Hi.") };
        let holds: Vec<bool> = (0..4).map(|accepted| Template { accepted, ..template.clone() }.holds()).collect();
        assert_eq!(holds, [false, false, true, true]);
    }

    #[test]
    fn an_edit_changes_the_template_and_is_told() {
        let mut template = Template::of_body("7", "t", "en_US", "Hi.");
        let components = vec![
            json!({ "type": "HEADER", "format": "TEXT", "text": "Hello" }),
            json!({ "type": "BODY", "text": "Hi {{1}}." }),
            json!({ "type": "FOOTER", "text": "Bye" }),
            json!({ "type": "BUTTONS", "buttons": [{ "type": "URL", "text": "Go", "url": "https://example.org" }] }),
        ];
        let told = |it: Value| {
            let mut all = json!({ "message_template_id": 7, "message_template_name": "t", "message_template_language": "en-US" });
            it.as_object().expect("members").iter().for_each(|(name, value)| all[name] = value.clone());
            all
        };
        let parts = json!({ "message_template_element": "Hi {{1}}.", "message_template_title": "Hello", "message_template_footer": "Bye",
            "message_template_buttons": [{ "message_template_button_type": "URL", "message_template_button_text": "Go",
                "message_template_button_url": "https://example.org" }] });
        let category = || "MARKETING".to_owned();
        let table = [
            (Edit::Components { components: components.clone() }, "message_template_components_update", parts),
            (
                Edit::CategoryAnnounced { category: category(), at: 1_790_000_000 },
                "template_category_update",
                json!({ "correct_category": "MARKETING", "new_category": "UTILITY", "category_update_timestamp": 1_790_000_000 }),
            ),
            (
                Edit::Category { category: category() },
                "template_category_update",
                json!({ "previous_category": "UTILITY", "new_category": "MARKETING" }),
            ),
            (
                Edit::Quality { score: "RED".into() },
                "message_template_quality_update",
                json!({ "previous_quality_score": "UNKNOWN", "new_quality_score": "RED" }),
            ),
            (
                Edit::Deleted,
                "message_template_status_update",
                json!({ "event": "DELETED", "message_template_category": "MARKETING", "reason": "NONE" }),
            ),
        ];
        for (edit, field, value) in table {
            assert_eq!(template.edit(&edit, 5_000), (field, told(value)));
        }
        let listed = template.listed();
        assert_eq!(template.components, components);
        assert_eq!((&listed["previous_category"], &listed["correct_category"]), (&json!("UTILITY"), &Value::Null));
        assert_eq!(listed["quality_score"], json!({ "score": "RED", "date": 5 }));
    }
}
