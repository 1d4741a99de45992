//! What we send in an open window: free-form content. Templates are another type, in another crate's reach.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::Wamid;

/// Longest text that Meta takes, in characters: <https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/text-messages>.
pub const TEXT_LIMIT: usize = 4_096;

/// A file to send: one that Meta holds, or a link that Meta fetches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Meta's id of an uploaded file.
    Id(String),
    /// A public https address.
    Link(String),
}

impl Source {
    /// What is wrong with it and what to do, if it can be seen from here: Meta fetches a link only when it sends.
    #[must_use]
    pub fn problem(&self) -> Option<&'static str> {
        match self {
            Self::Id(id) => id.trim().is_empty().then_some("is an empty id; upload the file first"),
            Self::Link(link) => (!is_web_address(link, &["https://"])).then_some("is no https link; give one that anybody can open"),
        }
    }
}

/// Does the text look like an address with a host, under one of these schemes?
#[must_use]
pub fn is_web_address(text: &str, schemes: &[&str]) -> bool {
    let host = schemes.iter().find_map(|it| text.strip_prefix(it)).map(|it| it.split(['/', '?', '#']).next().unwrap_or_default());
    host.is_some_and(|it| !it.is_empty()) && !text.contains(|it: char| it.is_whitespace() || it.is_control())
}

/// Is the text a number from `-limit` to `limit`?
#[must_use]
pub fn is_degrees(text: &str, limit: f64) -> bool {
    text.trim().parse::<f64>().is_ok_and(|it| it.abs() <= limit)
}

/// A button that answers with its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplyButton {
    /// What comes back when it is tapped: at most 256 characters.
    pub id: String,
    /// What it says: at most 20 characters, unlike the others.
    pub title: String,
}

/// A row of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    /// What comes back when it is chosen: at most 200 characters.
    pub id: String,
    /// What it says: at most 24 characters.
    pub title: String,
    /// Its second line: at most 72 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A section of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Section {
    /// Its heading: at most 24 characters; needed when there are several sections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Its rows: at most ten in all sections together.
    pub rows: Vec<Row>,
}

/// The head of an interactive message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Header {
    /// A line of at most 60 characters.
    Text(String),
    /// A picture.
    Image(Source),
    /// A film.
    Video(Source),
    /// A document.
    Document(Source),
}

/// What an interactive message asks of the customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// One to three buttons.
    Buttons {
        /// The buttons.
        buttons: Vec<ReplyButton>,
    },
    /// A list to choose from.
    List {
        /// What opens the list: at most 20 characters.
        button: String,
        /// One to ten sections.
        sections: Vec<Section>,
    },
    /// A button that opens a page.
    CtaUrl {
        /// What it says: at most 20 characters.
        display_text: String,
        /// The page.
        url: String,
    },
    /// A button that opens a flow.
    Flow {
        /// Meta's id of the flow.
        flow_id: String,
        /// What the button says: at most 30 characters.
        flow_cta: String,
        /// Ours, comes back with the answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        flow_token: Option<String>,
        /// The first screen.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        screen: Option<String>,
        /// Data for the first screen, as JSON text of an object.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        data: Option<String>,
    },
}

/// Free-form content of one message.
///
/// Limits: <https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/send-messages>.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Outgoing {
    /// Words. Longer ones than [`TEXT_LIMIT`] go out as several messages.
    Text {
        /// The words.
        text: String,
        /// Show a preview of the first link in it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        preview_url: bool,
    },
    /// A picture.
    Image {
        /// Which.
        source: Source,
        /// Words under it: at most 1,024 characters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caption: Option<String>,
    },
    /// A film.
    Video {
        /// Which.
        source: Source,
        /// Words under it: at most 1,024 characters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caption: Option<String>,
    },
    /// Sound.
    Audio {
        /// Which.
        source: Source,
        /// Plays as a voice message: ogg with opus only.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        voice: bool,
    },
    /// A document.
    Document {
        /// Which.
        source: Source,
        /// Words under it: at most 1,024 characters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caption: Option<String>,
        /// The name that the customer sees.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        filename: Option<String>,
    },
    /// A sticker.
    Sticker {
        /// Which.
        source: Source,
    },
    /// An emoji on a message of the customer.
    Reaction {
        /// Which message.
        message: Wamid,
        /// The emoji; empty takes it off.
        emoji: String,
    },
    /// A message with buttons, a list, a link or a flow.
    Interactive {
        /// Its head.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        header: Option<Header>,
        /// Its words: at most 1,024 characters, in a list 4,096.
        body: String,
        /// Its last line: at most 60 characters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        footer: Option<String>,
        /// What it asks of the customer.
        #[serde(flatten)]
        action: Action,
    },
    /// Contact cards, as JSON text of the list that Meta documents.
    Contacts {
        /// The list.
        contacts: String,
    },
    /// A place.
    Location {
        /// Degrees north, as text, so that no digit is lost.
        latitude: String,
        /// Degrees east.
        longitude: String,
        /// What it is called.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Where it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<String>,
    },
}

impl Outgoing {
    /// The name of the kind, as in JSON.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text { .. } => "text",
            Self::Image { .. } => "image",
            Self::Video { .. } => "video",
            Self::Audio { .. } => "audio",
            Self::Document { .. } => "document",
            Self::Sticker { .. } => "sticker",
            Self::Reaction { .. } => "reaction",
            Self::Interactive { .. } => "interactive",
            Self::Contacts { .. } => "contacts",
            Self::Location { .. } => "location",
        }
    }

    /// The messages in which this goes out: a text longer than Meta takes is split at sensible places, everything else is one message.
    #[must_use]
    pub fn parts(self) -> Vec<Self> {
        match self {
            Self::Text { text, preview_url } => split(&text, TEXT_LIMIT).into_iter().map(|text| Self::Text { text, preview_url }).collect(),
            other => vec![other],
        }
    }
}

/// Cuts `text` into pieces of at most `limit` characters, each at the last paragraph, line, sentence or word that fits, so that the pieces read on.
///
/// White space at a cut is dropped; nothing else is.
#[must_use]
pub fn split(text: &str, limit: usize) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((end, _)) = rest.char_indices().nth(limit) {
        let head = &rest[..end];
        // A boundary in the first half would make crumbs.
        let half = head.char_indices().nth(limit / 2).map_or(0, |(at, _)| at);
        let cut = ["\n\n", "\n", ". ", "! ", "? ", " "]
            .iter()
            .filter_map(|it| head.rfind(it).map(|at| at + it.len()))
            .find(|at| *at > half)
            .unwrap_or(end);
        let piece = rest[..cut].trim_end();
        if !piece.is_empty() {
            pieces.push(piece.to_owned());
        }
        rest = rest[cut..].trim_start();
    }
    if !rest.is_empty() || pieces.is_empty() {
        pieces.push(rest.to_owned());
    }
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_short_text_is_one_piece() {
        assert_eq!(split("hello", 4_096), ["hello"]);
        assert_eq!(split("", 4_096), [""]);
    }

    #[test]
    fn cuts_are_made_where_a_reader_would_make_them() {
        let text = format!("{}\n\n{}", "a".repeat(30), "b".repeat(30));
        assert_eq!(split(&text, 40), ["a".repeat(30), "b".repeat(30)]);
        assert_eq!(split("One sentence. And another one here", 25), ["One sentence.", "And another one here"]);
        assert_eq!(split(&"x".repeat(10), 4), ["xxxx", "xxxx", "xx"]);
    }

    proptest! {
        #[test]
        fn nothing_but_white_space_is_lost_and_no_piece_is_too_long(text in "[a-zà-ü😀 .\\n]{0,200}", limit in 4_usize..40) {
            let pieces = split(&text, limit);
            let squeeze = |it: &str| it.chars().filter(|it| !it.is_whitespace()).collect::<String>();
            prop_assert_eq!(squeeze(&pieces.concat()), squeeze(&text));
            for piece in &pieces {
                prop_assert!(piece.chars().count() <= limit);
            }
        }
    }
}
