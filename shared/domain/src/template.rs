//! A message template as Meta approved it, the values for its variables, and what the two make together.
//!
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/components>

mod fill;
mod prefill;
mod preview;
#[cfg(test)]
mod tests;
mod variables;

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::Malformed;
pub use crate::ids::TemplateName;
use crate::outgoing::Source;
use crate::time::Timestamp;

pub use self::fill::{Filled, FilledButton, FilledCard, FilledHeader, FilledInput, FilledText, Problem};
pub use self::preview::{Preview, PreviewButton, PreviewCard, PreviewHeader, PreviewOffer};
pub use self::variables::{Kind, Part, Place, Variable};

/// The language of a template, as Meta lists it: `es_MX`. Its webhooks write `es-MX`, which is the same.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/supported-languages>
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[A-Za-z0-9_-]{2,16}$"))]
pub struct Language(String);

impl Language {
    /// From text, with a hyphen or an underscore.
    ///
    /// # Errors
    /// [`Malformed`] unless it is 2 to 16 letters, digits and underscores.
    pub fn parse(text: impl Into<String>) -> Result<Self, Malformed> {
        let text = text.into().replace('-', "_");
        let is_language = (2..=16).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_');
        let malformed = Malformed { what: "language", expected: "a code such as `es_MX`" };
        if is_language { Ok(Self(text)) } else { Err(malformed) }
    }

    /// The code, with an underscore.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Language {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        Self::parse(text)
    }
}

impl From<Language> for String {
    fn from(it: Language) -> Self {
        it.0
    }
}

/// Whether a template may be sent. Only an approved one may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schemars(rename = "TemplateStatus")]
pub enum Status {
    /// May be sent.
    Approved,
    /// Paused for its quality: for hours, or, when Meta's pacing paused it, until a person lifts it.
    Paused,
    /// Disabled for good.
    Disabled,
    /// In review, refused, archived, …: Meta's word for it.
    #[serde(untagged)]
    Other(String),
}

/// What a template is for. It decides the price and what the customer may have refused.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/template-categorization>
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schemars(rename = "TemplateCategory")]
pub enum Category {
    /// Offers, news, invitations.
    Marketing,
    /// About something that the customer ordered or agreed to.
    Utility,
    /// Login codes.
    Authentication,
    /// Meta's word for another.
    #[serde(untagged)]
    Other(String),
}

/// How the variables of a template are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ParameterFormat {
    /// `{{1}}`, `{{2}}`, …, beginning anew in every component.
    #[default]
    Positional,
    /// `{{first_name}}`.
    Named,
}

/// A template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// Meta's id of it.
    pub id: String,
    /// Its name.
    pub name: TemplateName,
    /// Its language.
    pub language: Language,
    /// Whether it may be sent.
    pub status: Status,
    /// What it is for.
    pub category: Category,
    /// Meta's judgement: `GREEN`, `YELLOW`, `RED`, `UNKNOWN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<String>,
    /// How its variables are called.
    #[serde(default)]
    pub format: ParameterFormat,
    /// Made by Meta behind a message without a template: not for people to choose.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_hidden: bool,
    /// What it is made of, in its order.
    pub components: Vec<Component>,
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Component {
    /// A line above the text: at most 60 characters, at most one variable.
    TextHeader {
        /// The line.
        text: String,
    },
    /// A file or a place above the text, given with every send.
    MediaHeader {
        /// What it must be.
        format: HeaderFormat,
    },
    /// The text: at most 1,024 characters once it is filled.
    Body {
        /// The text.
        text: String,
    },
    /// A line under the text, without variables.
    Footer {
        /// The line.
        text: String,
    },
    /// The buttons, by position.
    Buttons {
        /// The buttons.
        buttons: Vec<Button>,
    },
    /// Cards side by side, whose number is fixed.
    Carousel {
        /// The cards.
        cards: Vec<Card>,
    },
    /// An offer that ends.
    LimitedTimeOffer {
        /// What it says.
        text: String,
        /// Must a send say when it ends?
        has_expiration: bool,
    },
    /// A part that is not known here, by Meta's name.
    Unknown {
        /// The name.
        kind: String,
    },
}

/// A card of a carousel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// Header, body, buttons.
    pub components: Vec<Component>,
}

/// What a header shows that is no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeaderFormat {
    /// A picture.
    Image,
    /// A film.
    Video,
    /// A document.
    Document,
    /// A short film without sound, of the Marketing Messages API only: it cannot be sent here yet.
    Gif,
    /// A place.
    Location,
}

/// A button.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Button {
    /// Answers with its payload, or with its text.
    QuickReply {
        /// What it says.
        text: String,
    },
    /// Opens a page; a variable stands at the end of the address, if at all.
    Url {
        /// What it says.
        text: String,
        /// The address.
        url: String,
    },
    /// Calls a number.
    PhoneNumber {
        /// What it says.
        text: String,
    },
    /// Copies a code that is given with the send.
    CopyCode,
    /// Takes over a login code, which is given once and stands in the body and here.
    Otp {
        /// What it says.
        text: String,
    },
    /// Opens a flow.
    Flow {
        /// What it says.
        text: String,
    },
    /// A kind that needs nothing, or is not known here, by Meta's name.
    Other {
        /// The name.
        kind: String,
        /// What it says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
}

/// A value for a variable: the text itself, or the name of a field of the participant that is sent along.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Value {
    /// The text.
    Literal(String),
    /// The participant's field of this name.
    Field {
        /// The name.
        field: String,
    },
}

/// Values for the variables of a text: a list for positional ones, an object for named ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Texts {
    /// For `{{1}}`, `{{2}}`, ….
    Positional(Vec<Value>),
    /// For `{{first_name}}`, ….
    Named(BTreeMap<String, Value>),
}

impl Default for Texts {
    fn default() -> Self {
        Self::Positional(Vec::new())
    }
}

impl Texts {
    fn mapped(&self) -> Self {
        let mapped = |it: &Value| match it {
            Value::Literal(_) => Value::Literal(String::new()),
            Value::Field { .. } => it.clone(),
        };
        match self {
            Self::Positional(it) => Self::Positional(it.iter().map(mapped).collect()),
            Self::Named(it) => Self::Named(it.iter().map(|(name, it)| (name.clone(), mapped(it))).collect()),
        }
    }

    fn names_fields(&self) -> bool {
        let is_field = |it: &Value| matches!(it, Value::Field { .. });
        match self {
            Self::Positional(it) => it.iter().any(is_field),
            Self::Named(it) => it.values().any(is_field),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Positional(it) => it.is_empty(),
            Self::Named(it) => it.is_empty(),
        }
    }
}

/// The value of a header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeaderValue {
    /// For the variable of a line of text.
    Text(Value),
    /// A picture: by Meta's id of an uploaded file, or by a public https link.
    Image(Source),
    /// A film.
    Video(Source),
    /// A document.
    Document {
        /// The file.
        source: Source,
        /// The name that the customer sees.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        filename: Option<String>,
    },
    /// A place.
    Location {
        /// Degrees north.
        latitude: String,
        /// Degrees east.
        longitude: String,
        /// What it is called.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Its address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<String>,
    },
}

/// The value of a button.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ButtonValue {
    /// Which button, from 0.
    pub index: usize,
    /// Its value.
    #[serde(flatten)]
    pub value: ButtonInput,
}

impl ButtonValue {
    fn mapped(&self) -> Option<Self> {
        match &self.value {
            ButtonInput::Url(Value::Field { .. }) | ButtonInput::Payload(Value::Field { .. }) | ButtonInput::Code(Value::Field { .. }) => {
                Some(self.clone())
            }
            ButtonInput::Url(_) | ButtonInput::Payload(_) | ButtonInput::Code(_) | ButtonInput::Flow { .. } => None,
        }
    }
}

/// What a button is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ButtonInput {
    /// The end of a page's address. What cannot stand in one is percent-encoded; `/`, `?`, `&` and what is encoded already stay.
    Url(Value),
    /// What a quick reply comes back with, instead of its text.
    Payload(Value),
    /// The code that is copied.
    Code(Value),
    /// A flow's token, and data for its first screen as JSON text.
    Flow {
        /// Ours, comes back with the answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<String>,
        /// JSON text of an object.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        data: Option<String>,
    },
}

/// The values for a template.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TemplateValues")]
pub struct Values {
    /// For the header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderValue>,
    /// For the text.
    #[serde(default, skip_serializing_if = "Texts::is_empty")]
    pub body: Texts,
    /// For the buttons that need or take one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buttons: Vec<ButtonValue>,
    /// The code of an authentication template: given once, placed in the text and in the button.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Value>,
    /// For the cards of a carousel, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cards: Vec<CardValues>,
    /// When a limited-time offer ends, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl Values {
    /// Where the values were taken from: the names of fields, with nothing in the place of what was written for one customer, which must not
    /// outlive them. Nothing if no field is named.
    #[must_use]
    pub fn mapping(&self) -> Option<Self> {
        let header = |it: &HeaderValue| match it {
            HeaderValue::Text(it @ Value::Field { .. }) => Some(HeaderValue::Text(it.clone())),
            _ => None,
        };
        let cards = self.cards.iter().map(|it| CardValues {
            header: it.header.as_ref().and_then(header),
            body: it.body.mapped(),
            buttons: it.buttons.iter().filter_map(ButtonValue::mapped).collect(),
        });
        let mapping = Self {
            header: self.header.as_ref().and_then(header),
            body: self.body.mapped(),
            buttons: self.buttons.iter().filter_map(ButtonValue::mapped).collect(),
            code: None,
            cards: cards.collect(),
            expires_at: None,
        };
        let names_fields = |header: &Option<HeaderValue>, body: &Texts, buttons: &[ButtonValue]| {
            header.is_some() || body.names_fields() || !buttons.is_empty()
        };
        let has_fields = names_fields(&mapping.header, &mapping.body, &mapping.buttons)
            || mapping.cards.iter().any(|it| names_fields(&it.header, &it.body, &it.buttons));
        has_fields.then_some(mapping)
    }
}

/// The values for a card of a carousel.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CardValues {
    /// For its header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderValue>,
    /// For its text.
    #[serde(default, skip_serializing_if = "Texts::is_empty")]
    pub body: Texts,
    /// For its buttons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buttons: Vec<ButtonValue>,
}
