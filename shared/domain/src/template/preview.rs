//! What the customer sees of a template.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::variables::{body, buttons};
use super::{Button, Component, HeaderFormat, Template};
use crate::outgoing::Source;
use crate::time::Timestamp;

/// A template as the customer sees it. WhatsApp's marks for bold, italic, … stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "TemplatePreview")]
pub struct Preview {
    /// Above the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<PreviewHeader>,
    /// The text.
    pub body: String,
    /// Under the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub footer: Option<String>,
    /// The offer that ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<PreviewOffer>,
    /// The buttons, by position.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buttons: Vec<PreviewButton>,
    /// The cards, side by side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cards: Vec<PreviewCard>,
}

/// The head of a preview.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum PreviewHeader {
    /// A line of text.
    Text {
        /// The line.
        text: String,
    },
    /// A file.
    File {
        /// What it is.
        format: HeaderFormat,
        /// Which, once it is given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<Source>,
        /// The name that the customer sees.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        filename: Option<String>,
    },
    /// A place.
    Location {
        /// Degrees north, once it is given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        latitude: Option<String>,
        /// Degrees east.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        longitude: Option<String>,
        /// What it is called.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Its address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<String>,
    },
}

/// The offer of a preview.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PreviewOffer {
    /// What it says.
    pub text: String,
    /// When it ends, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// A button of a preview.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PreviewButton {
    /// What it is: `url`, `quick_reply`, `copy_code`, ….
    pub kind: String,
    /// What it says; what copies a code says that in the customer's language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The page that it opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The code that it copies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// A card of a preview.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PreviewCard {
    /// Above the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<PreviewHeader>,
    /// The text.
    pub body: String,
    /// The buttons, by position.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buttons: Vec<PreviewButton>,
}

impl Preview {
    /// The one text that a list of conversations shows.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.body
    }
}

impl Template {
    /// The template before anything is filled in: its variables stand as `{{1}}`.
    #[must_use]
    pub fn blank_preview(&self) -> Preview {
        let PreviewCard { header, body, buttons } = blank(&self.components);
        let footer = self.components.iter().find_map(|it| match it {
            Component::Footer { text } if !text.is_empty() => Some(text.clone()),
            _ => None,
        });
        let offer = self.components.iter().find_map(|it| match it {
            Component::LimitedTimeOffer { text, .. } => Some(PreviewOffer { text: text.clone(), expires_at: None }),
            _ => None,
        });
        let cards = self.cards().iter().map(|it| blank(&it.components)).collect();
        Preview { header, body, footer, offer, buttons, cards }
    }
}

/// What a message and a card have alike.
pub(super) fn blank(components: &[Component]) -> PreviewCard {
    let header = components.iter().find_map(|it| match it {
        Component::TextHeader { text } => Some(PreviewHeader::Text { text: text.clone() }),
        Component::MediaHeader { format: HeaderFormat::Location } => {
            Some(PreviewHeader::Location { latitude: None, longitude: None, name: None, address: None })
        }
        Component::MediaHeader { format } => Some(PreviewHeader::File { format: *format, source: None, filename: None }),
        _ => None,
    });
    let body = body(components).unwrap_or_default().to_owned();
    PreviewCard { header, body, buttons: buttons(components).iter().map(button).collect() }
}

fn button(button: &Button) -> PreviewButton {
    let (kind, text) = match button {
        Button::QuickReply { text } => ("quick_reply", Some(text)),
        Button::Url { text, .. } => ("url", Some(text)),
        Button::PhoneNumber { text } => ("phone_number", Some(text)),
        Button::CopyCode => ("copy_code", None),
        Button::Otp { text } => ("otp", Some(text)),
        Button::Flow { text } => ("flow", Some(text)),
        Button::Other { kind, text } => (kind.as_str(), text.as_ref()),
    };
    let url = if let Button::Url { url, .. } = button { Some(url.clone()) } else { None };
    PreviewButton { kind: kind.to_ascii_lowercase(), text: text.cloned(), url, code: None }
}
