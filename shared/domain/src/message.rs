//! What customers send, and what Meta tells of them: content, and the kinds of event with what each does.
//!
//! The table of effects (kept, window, turn) is [`Event::effect`]; nothing else in the system decides it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::customer::{Customer, Phone};
use crate::ids::Wamid;
use crate::status::Fault;
use crate::time::Timestamp;

/// A file at Meta. Its id lives seven days: <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/media>.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Media {
    /// Meta's media id; absent if Meta could not take the customer's file (more than 100 MB, say).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// MIME type with its parameters, as Meta names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// SHA-256 of the file, as Meta writes it (base64 or hex).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The customer's words under it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
    /// The customer's name for the file: their text, not a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
    /// Recorded in WhatsApp as a voice message.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub voice: bool,
    /// A sticker that moves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub animated: bool,
}

/// What a customer sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Content {
    /// Words.
    Text {
        /// The words, of any length.
        text: String,
    },
    /// A picture.
    Image(Media),
    /// A film.
    Video(Media),
    /// Sound; [`Media::voice`] tells a voice message from a file.
    Audio(Media),
    /// A document.
    Document(Media),
    /// A sticker.
    Sticker(Media),
    /// A quick reply of a template was tapped.
    Button {
        /// What the button says.
        text: String,
        /// What the template's sender gave the button.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payload: Option<String>,
    },
    /// A reply button of an interactive message was tapped.
    ButtonReply {
        /// The id that the button was given.
        id: String,
        /// What the button says.
        title: String,
    },
    /// A row of a list was chosen.
    ListReply {
        /// The id that the row was given.
        id: String,
        /// What the row says.
        title: String,
        /// The row's second line.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        description: Option<String>,
    },
    /// A flow was completed.
    FlowReply {
        /// Meta's name for the kind of answer (`flow`, `address_message`).
        name: String,
        /// What the chat shows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<String>,
        /// The answers, as the JSON text that Meta sends; not always an object.
        response_json: String,
    },
    /// The customer shared their phone number when asked for it.
    ContactShared {
        /// The number, which is an address of theirs from now on; absent if the card held none that can be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        phone: Option<Phone>,
    },
    /// Anything that the channel does not support or does not know: kept by its name.
    Unsupported {
        /// Meta's name for it: `location`, `contacts`, `order`, `poll`, or whatever it was.
        r#type: String,
        /// What Meta sent for it, as JSON text, so that nothing is lost; empty if nothing.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        raw: String,
    },
}

impl Content {
    /// The name of the kind, as in JSON.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text { .. } => "text",
            Self::Image(_) => "image",
            Self::Video(_) => "video",
            Self::Audio(_) => "audio",
            Self::Document(_) => "document",
            Self::Sticker(_) => "sticker",
            Self::Button { .. } => "button",
            Self::ButtonReply { .. } => "button_reply",
            Self::ListReply { .. } => "list_reply",
            Self::FlowReply { .. } => "flow_reply",
            Self::ContactShared { .. } => "contact_shared",
            Self::Unsupported { .. } => "unsupported",
        }
    }

    /// The file in it, if it is one.
    #[must_use]
    pub fn media(&self) -> Option<&Media> {
        match self {
            Self::Image(it) | Self::Video(it) | Self::Audio(it) | Self::Document(it) | Self::Sticker(it) => Some(it),
            Self::Text { .. }
            | Self::Button { .. }
            | Self::ButtonReply { .. }
            | Self::ListReply { .. }
            | Self::FlowReply { .. }
            | Self::ContactShared { .. }
            | Self::Unsupported { .. } => None,
        }
    }
}

/// The message that a customer quoted. It may be one that we never saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quoted {
    /// Meta's id of the quoted message.
    pub wamid: Wamid,
}

/// The ad or post that led the customer here.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages>
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Referral {
    /// Where the ad or post is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_url: Option<String>,
    /// Meta's id of the ad or post.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_id: Option<String>,
    /// `ad` or `post`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_type: Option<String>,
    /// Its headline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headline: Option<String>,
    /// Its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Meta's click id, for the ad account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctwa_clid: Option<String>,
    /// What else Meta sent of it (media links, welcome message), as JSON text; empty if nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub raw: String,
}

/// One message by a customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Message {
    /// Meta's id.
    pub wamid: Wamid,
    /// Meta's time of it.
    pub at: Timestamp,
    /// What was sent.
    pub content: Content,
    /// The message that was quoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quoted: Option<Quoted>,
    /// The ad that led here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub referral: Option<Referral>,
    /// Passed on from another chat.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forwarded: bool,
    /// Written in a group: kept, never answered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_group: bool,
    /// What Meta could not do with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// Members of the message that we do not know, by name, as JSON text; empty if none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unknown: String,
}

/// What a call is to the window: <https://developers.facebook.com/documentation/business-messaging/whatsapp/calling/pricing>.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// The customer calls, answered or not, or accepts our call: it opens the window.
    ByCustomer,
    /// Anything else about a call (ringing, rejected, our own): a note only.
    Other,
}

/// A customer's word on marketing messages: <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/user_preferences>.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preference {
    /// No more marketing.
    Stop,
    /// Marketing again.
    Resume,
}

/// Who owns the thread now, when several responders are set up on a number.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messaging-handovers>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Handover {
    /// Control was passed to us.
    Passed,
    /// Control was taken from us.
    Taken,
}

/// One thing that happened between a customer and a number, as Meta told it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The customer wrote to us.
    Message(Message),
    /// The customer wrote while another responder has the thread.
    Standby(Message),
    /// The customer put an emoji on a message, or took it off.
    Reaction {
        /// Meta's id of the reaction itself.
        wamid: Wamid,
        /// Meta's time of it.
        at: Timestamp,
        /// The message it is on.
        target: Wamid,
        /// The emoji; nothing takes it off.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        emoji: Option<String>,
    },
    /// The customer changed a message.
    Edit {
        /// Meta's id of the change itself.
        wamid: Wamid,
        /// Meta's time of it.
        at: Timestamp,
        /// The message that was changed.
        target: Wamid,
        /// What it says now.
        content: Content,
    },
    /// The customer deleted a message for everyone.
    Revoke {
        /// Meta's id of the deletion itself.
        wamid: Wamid,
        /// Meta's time of it.
        at: Timestamp,
        /// The message that was deleted.
        target: Wamid,
    },
    /// A call.
    Call {
        /// Meta's id of the call and what of it this tells: unique per thing told.
        id: Wamid,
        /// Meta's time of it.
        at: Timestamp,
        /// What it is to the window.
        call: Call,
        /// Meta's name for what happened (`connect`, `terminate`, `ACCEPTED`).
        what: String,
    },
    /// The customer's word on marketing messages.
    Preference {
        /// Meta's time of it.
        at: Timestamp,
        /// The word.
        preference: Preference,
    },
    /// A person of the business wrote in the WhatsApp Business app.
    Echo(Message),
    /// Control of the thread was passed or taken.
    Handover {
        /// Meta's time of it.
        at: Timestamp,
        /// Which.
        handover: Handover,
        /// A summary or metadata that came with it, as JSON text; empty if none.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        raw: String,
    },
    /// The customer's number or user id changed: who they were.
    Changed {
        /// Meta's id of the notice.
        wamid: Wamid,
        /// Meta's time of it.
        at: Timestamp,
        /// As they were known before, as far as the notice says.
        previous: Customer,
        /// Meta's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<String>,
    },
    /// Something worth a note (`request_welcome`, other system messages), by Meta's name for it.
    Note {
        /// Meta's id of it.
        wamid: Wamid,
        /// Meta's time of it.
        at: Timestamp,
        /// Meta's name for it.
        what: String,
        /// Meta's words or members of it, as text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<String>,
    },
}

/// What an event does to the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opens {
    /// It opens the window for certain, or at a guess which Meta's 131047 corrects.
    Yes,
    /// It does not move the window.
    No,
}

/// Whether an event becomes a turn of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turns {
    /// Always.
    Yes,
    /// Only to say that something unsupported came, at most once an hour per conversation.
    Hourly,
    /// Never.
    No,
}

/// How an event is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// As a message of the customer.
    AsMessage,
    /// As a message by a person of the business.
    AsPersons,
    /// On the message it speaks of, whether that is here yet or not.
    OnTarget,
    /// As a line in the conversation.
    AsNote,
    /// In the conversation's state only.
    AsState,
}

/// What an event does: one row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// How it is kept.
    pub kept: Kept,
    /// What it does to the window.
    pub opens: Opens,
    /// Whether it becomes a turn.
    pub turns: Turns,
}

impl Event {
    /// The row of the table for this event.
    #[must_use]
    pub fn effect(&self) -> Effect {
        let row = |kept, opens, turns| Effect { kept, opens, turns };
        match self {
            Self::Message(it) if it.in_group => row(Kept::AsMessage, Opens::No, Turns::No),
            Self::Message(it) => match it.content {
                Content::Unsupported { .. } => row(Kept::AsMessage, Opens::Yes, Turns::Hourly),
                Content::Text { .. }
                | Content::Image(_)
                | Content::Video(_)
                | Content::Audio(_)
                | Content::Document(_)
                | Content::Sticker(_)
                | Content::Button { .. }
                | Content::ButtonReply { .. }
                | Content::ListReply { .. }
                | Content::FlowReply { .. }
                | Content::ContactShared { .. } => row(Kept::AsMessage, Opens::Yes, Turns::Yes),
            },
            Self::Standby(it) if it.in_group => row(Kept::AsMessage, Opens::No, Turns::No),
            Self::Standby(_) => row(Kept::AsMessage, Opens::Yes, Turns::No),
            Self::Reaction { .. } => row(Kept::OnTarget, Opens::Yes, Turns::No),
            Self::Edit { .. } | Self::Revoke { .. } => row(Kept::OnTarget, Opens::No, Turns::No),
            Self::Call { call: Call::ByCustomer, .. } => row(Kept::AsNote, Opens::Yes, Turns::No),
            Self::Call { call: Call::Other, .. } | Self::Changed { .. } | Self::Note { .. } => row(Kept::AsNote, Opens::No, Turns::No),
            Self::Echo(_) => row(Kept::AsPersons, Opens::No, Turns::No),
            Self::Preference { .. } | Self::Handover { .. } => row(Kept::AsState, Opens::No, Turns::No),
        }
    }

    /// The customer's file in it, if it is one.
    #[must_use]
    pub fn media(&self) -> Option<&Media> {
        match self {
            Self::Message(it) | Self::Standby(it) => it.content.media(),
            Self::Echo(_)
            | Self::Reaction { .. }
            | Self::Edit { .. }
            | Self::Revoke { .. }
            | Self::Call { .. }
            | Self::Preference { .. }
            | Self::Handover { .. }
            | Self::Changed { .. }
            | Self::Note { .. } => None,
        }
    }

    /// Meta's time of it.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Message(it) | Self::Standby(it) | Self::Echo(it) => it.at,
            Self::Reaction { at, .. }
            | Self::Edit { at, .. }
            | Self::Revoke { at, .. }
            | Self::Call { at, .. }
            | Self::Preference { at, .. }
            | Self::Handover { at, .. }
            | Self::Changed { at, .. }
            | Self::Note { at, .. } => *at,
        }
    }

    /// Meta's id of it, where it has one.
    #[must_use]
    pub fn wamid(&self) -> Option<&Wamid> {
        match self {
            Self::Message(it) | Self::Standby(it) | Self::Echo(it) => Some(&it.wamid),
            Self::Reaction { wamid, .. }
            | Self::Edit { wamid, .. }
            | Self::Revoke { wamid, .. }
            | Self::Changed { wamid, .. }
            | Self::Note { wamid, .. } => Some(wamid),
            Self::Call { id, .. } => Some(id),
            Self::Preference { .. } | Self::Handover { .. } => None,
        }
    }
}

/// What Meta tells of the person beside a message.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Profile {
    /// The name the customer shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The username, without a leading `@`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::customer::Bsuid;

    const AT: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    fn wamid(text: &str) -> Wamid {
        Wamid::parse(text).expect("not empty")
    }

    fn message(content: Content) -> Message {
        Message {
            wamid: wamid("wamid.1"),
            at: AT,
            content,
            quoted: None,
            referral: None,
            forwarded: false,
            in_group: false,
            faults: Vec::new(),
            unknown: String::new(),
        }
    }

    fn text() -> Message {
        message(Content::Text { text: "hello".to_owned() })
    }

    fn unsupported(kind: &str) -> Content {
        Content::Unsupported { r#type: kind.to_owned(), raw: "{}".to_owned() }
    }

    /// One of each kind that is a turn of its own.
    fn supported() -> Vec<Content> {
        let (id, title) = ("yes".to_owned(), "Yes".to_owned());
        vec![
            Content::Text { text: "hello".to_owned() },
            Content::Image(Media::default()),
            Content::Video(Media::default()),
            Content::Audio(Media::default()),
            Content::Document(Media::default()),
            Content::Sticker(Media::default()),
            Content::Button { text: title.clone(), payload: None },
            Content::ButtonReply { id: id.clone(), title: title.clone() },
            Content::ListReply { id, title, description: None },
            Content::FlowReply { name: "flow".to_owned(), body: None, response_json: "{}".to_owned() },
            Content::ContactShared { phone: None },
        ]
    }

    /// The events that Meta tells, by the names of the table in which the product says what each does.
    fn rows() -> Vec<(&'static str, Event, Kept, Opens, Turns)> {
        let target = || wamid("wamid.target");
        let call = |call| Event::Call { id: wamid("wacid.1"), at: AT, call, what: "connect".to_owned() };
        let note = |what: &str| Event::Note { wamid: wamid("wamid.1"), at: AT, what: what.to_owned(), body: None };
        let previous = Customer::known_by(None, Bsuid::parse("ES.1").ok()).expect("has an address");
        let changed = Event::Changed { wamid: wamid("wamid.1"), at: AT, previous, body: None };
        let group = |content| Message { in_group: true, ..message(content) };
        let mut rows: Vec<_> =
            supported().into_iter().map(|it| (it.kind(), Event::Message(message(it)), Kept::AsMessage, Opens::Yes, Turns::Yes)).collect();
        for kind in ["location", "contacts", "order", "unsupported", "a kind of tomorrow"] {
            rows.push((kind, Event::Message(message(unsupported(kind))), Kept::AsMessage, Opens::Yes, Turns::Hourly));
        }
        rows.extend([
            (
                "reaction",
                Event::Reaction { wamid: wamid("wamid.1"), at: AT, target: target(), emoji: Some("👍".to_owned()) },
                Kept::OnTarget,
                Opens::Yes,
                Turns::No,
            ),
            (
                "edit",
                Event::Edit { wamid: wamid("wamid.1"), at: AT, target: target(), content: unsupported("text") },
                Kept::OnTarget,
                Opens::No,
                Turns::No,
            ),
            ("revoke", Event::Revoke { wamid: wamid("wamid.1"), at: AT, target: target() }, Kept::OnTarget, Opens::No, Turns::No),
            ("call by the customer, or accepted by them", call(Call::ByCustomer), Kept::AsNote, Opens::Yes, Turns::No),
            ("any other word on a call", call(Call::Other), Kept::AsNote, Opens::No, Turns::No),
            ("system: number or id changed", changed, Kept::AsNote, Opens::No, Turns::No),
            ("request_welcome", note("request_welcome"), Kept::AsNote, Opens::No, Turns::No),
            ("group message", Event::Message(group(unsupported("text"))), Kept::AsMessage, Opens::No, Turns::No),
            ("group message with words", Event::Message(group(text().content)), Kept::AsMessage, Opens::No, Turns::No),
            ("standby", Event::Standby(text()), Kept::AsMessage, Opens::Yes, Turns::No),
            ("standby, unsupported", Event::Standby(message(unsupported("order"))), Kept::AsMessage, Opens::Yes, Turns::No),
            ("standby in a group", Event::Standby(group(text().content)), Kept::AsMessage, Opens::No, Turns::No),
            ("echo of the business app", Event::Echo(text()), Kept::AsPersons, Opens::No, Turns::No),
            ("preference", Event::Preference { at: AT, preference: Preference::Stop }, Kept::AsState, Opens::No, Turns::No),
            ("handover", Event::Handover { at: AT, handover: Handover::Taken, raw: String::new() }, Kept::AsState, Opens::No, Turns::No),
        ]);
        rows
    }

    #[test]
    fn every_kind_of_event_does_what_its_row_says() {
        for (name, event, kept, opens, turns) in rows() {
            assert_eq!(event.effect(), Effect { kept, opens, turns }, "{name}");
        }
    }

    #[test]
    fn every_event_tells_its_time_and_what_has_an_id_tells_it() {
        for (name, event, ..) in rows() {
            assert_eq!(event.at(), AT, "{name}");
            let has_id = !matches!(event, Event::Preference { .. } | Event::Handover { .. });
            assert_eq!(event.wamid().is_some(), has_id, "{name}");
        }
    }

    #[test]
    fn every_event_reads_back_as_it_was() {
        for (name, event, ..) in rows() {
            let text = serde_json::to_string(&event).expect("it has text keys only");
            assert_eq!(serde_json::from_str::<Event>(&text).expect("it reads back"), event, "{name}");
        }
    }

    #[test]
    fn a_kind_is_named_as_in_json_and_only_files_are_files() {
        for content in supported().into_iter().chain([unsupported("order")]) {
            let json = serde_json::to_value(&content).expect("it has text keys only");
            assert_eq!(json["kind"], content.kind());
            let is_file = matches!(content.kind(), "image" | "video" | "audio" | "document" | "sticker");
            assert_eq!(content.media().is_some(), is_file, "{}", content.kind());
        }
    }
}
