//! What we send in an open window: free-form content. Templates are another type, in another crate's reach.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::Wamid;
use crate::internet::is_public_link;

/// Longest text that Meta takes, in characters: <https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/text-messages>.
pub const TEXT_LIMIT: usize = 4_096;

/// A file to send: one that Meta holds, a link that Meta fetches, or one of ours, which is taken to Meta before it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Meta's id of an uploaded file.
    Id(String),
    /// A public https address.
    Link(String),
    /// The key of a file that lies here under the sender's own connection: one that was uploaded to be sent, or that a customer sent.
    File(String),
    /// A small file itself: at most 512 KiB.
    Content {
        /// Its bytes, in base64.
        base64: String,
        /// MIME type.
        mime_type: String,
    },
}

/// What a file is sent as: each takes other types and sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A picture.
    Image,
    /// A film.
    Video,
    /// Sound.
    Audio,
    /// Sound that plays as a voice message.
    Voice,
    /// A document.
    Document,
    /// A sticker.
    Sticker,
}

impl Source {
    /// What is wrong with it and what to do, if it can be seen from here: Meta fetches a link only when it sends.
    #[must_use]
    pub fn problem(&self) -> Option<&'static str> {
        match self {
            Self::Id(id) => id.trim().is_empty().then_some("is an empty id; upload the file first"),
            Self::Link(link) => (!is_public_link(link)).then_some("is no public https link; give one that anybody can open"),
            Self::File(key) => key.trim().is_empty().then_some("is an empty key; upload the file first"),
            Self::Content { base64, .. } => base64.is_empty().then_some("is an empty file; give its bytes in base64"),
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

impl Header {
    /// The file in it, and what it is sent as.
    #[must_use]
    pub fn file(&self) -> Option<(FileKind, &Source)> {
        match self {
            Self::Text(_) => None,
            Self::Image(source) => Some((FileKind::Image, source)),
            Self::Video(source) => Some((FileKind::Video, source)),
            Self::Document(source) => Some((FileKind::Document, source)),
        }
    }
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

    /// The file in it, and what it is sent as.
    #[must_use]
    pub fn file(&self) -> Option<(FileKind, &Source)> {
        match self {
            Self::Image { source, .. } => Some((FileKind::Image, source)),
            Self::Video { source, .. } => Some((FileKind::Video, source)),
            Self::Audio { source, voice } => Some((if *voice { FileKind::Voice } else { FileKind::Audio }, source)),
            Self::Document { source, .. } => Some((FileKind::Document, source)),
            Self::Sticker { source } => Some((FileKind::Sticker, source)),
            Self::Interactive { header, .. } => header.as_ref().and_then(Header::file),
            Self::Text { .. } | Self::Reaction { .. } | Self::Contacts { .. } | Self::Location { .. } => None,
        }
    }

    /// The same with its file from elsewhere.
    #[must_use]
    pub fn with_source(mut self, from: Source) -> Self {
        match &mut self {
            Self::Image { source, .. }
            | Self::Video { source, .. }
            | Self::Audio { source, .. }
            | Self::Document { source, .. }
            | Self::Sticker { source }
            | Self::Interactive { header: Some(Header::Image(source) | Header::Video(source) | Header::Document(source)), .. } => {
                *source = from
            }
            Self::Text { .. } | Self::Reaction { .. } | Self::Interactive { .. } | Self::Contacts { .. } | Self::Location { .. } => {}
        }
        self
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

    #[test]
    fn a_file_is_found_wherever_it_stands_and_taken_from_elsewhere() {
        let link = || Source::Link("https://example.com/a".to_owned());
        let headed = |header| Outgoing::Interactive {
            header: Some(header),
            body: "Which?".to_owned(),
            footer: None,
            action: Action::Buttons { buttons: Vec::new() },
        };
        for (content, kind) in [
            (Outgoing::Image { source: link(), caption: None }, Some(FileKind::Image)),
            (Outgoing::Video { source: link(), caption: None }, Some(FileKind::Video)),
            (Outgoing::Audio { source: link(), voice: false }, Some(FileKind::Audio)),
            (Outgoing::Audio { source: link(), voice: true }, Some(FileKind::Voice)),
            (Outgoing::Document { source: link(), caption: None, filename: None }, Some(FileKind::Document)),
            (Outgoing::Sticker { source: link() }, Some(FileKind::Sticker)),
            (headed(Header::Image(link())), Some(FileKind::Image)),
            (headed(Header::Video(link())), Some(FileKind::Video)),
            (headed(Header::Document(link())), Some(FileKind::Document)),
            (headed(Header::Text("Hours".to_owned())), None),
            (Outgoing::Text { text: "hello".to_owned(), preview_url: false }, None),
        ] {
            let (here, there) = (link(), Source::Id("1".to_owned()));
            assert_eq!(content.file(), kind.map(|it| (it, &here)), "{content:?}");
            let moved = content.clone().with_source(there.clone());
            assert_eq!(moved.file(), kind.map(|it| (it, &there)), "{content:?}");
            assert_eq!(moved.with_source(link()), content, "nothing else has changed");
        }
    }

    #[test]
    fn a_source_is_one_member_of_json() {
        let content = Source::Content { base64: "QQ==".to_owned(), mime_type: "image/png".to_owned() };
        for (source, json) in [
            (Source::Id("1".to_owned()), r#"{"id":"1"}"#),
            (Source::Link("https://example.com/a".to_owned()), r#"{"link":"https://example.com/a"}"#),
            (Source::File("main/uploads/20000/a".to_owned()), r#"{"file":"main/uploads/20000/a"}"#),
            (content, r#"{"content":{"base64":"QQ==","mime_type":"image/png"}}"#),
        ] {
            assert_eq!(serde_json::to_string(&source).expect("it has text keys only"), json);
            assert_eq!(serde_json::from_str::<Source>(json).expect("it reads back"), source);
        }
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
