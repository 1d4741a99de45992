//! Refusals: what the system will not do, why, and what to do instead. A refusal is an outcome, not an error.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Whether it makes sense to send the same again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "retry", rename_all = "snake_case")]
pub enum Retry {
    /// Never as it is.
    Never,
    /// Once what the note says is mended.
    Fix,
    /// Not before this time.
    Later {
        /// Milliseconds since the Unix epoch.
        retry_at: Timestamp,
    },
}

/// Why a message is not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The window is closed (or never opened).
    TemplateOnly {
        /// When it closed.
        closed_at: Option<Timestamp>,
    },
    /// The business wrote first, and the customer has not answered yet.
    AwaitingReply {
        /// When the business wrote.
        since: Timestamp,
    },
    /// A person has the conversation.
    TakenByPerson,
    /// Another responder has the thread.
    HandledElsewhere,
    /// The agent is not attached to the connection.
    NotAttached,
    /// The connection has not been running for ten minutes or more.
    NotRunning,
    /// The number that the customer knows is no longer the connection's.
    SenderGone,
    /// There is no such conversation under this connection.
    UnknownConversation,
    /// The job contradicts itself or names what cannot be sent: what is wrong and what to do, per member.
    Invalid {
        /// Each as `member: what is wrong; what to do`.
        problems: Vec<String>,
    },
    /// An earlier part of the same long text failed.
    PartFailed,
    /// The customer's address cannot be sent to any more.
    NoAddress,
    /// There is no such connection of this tenant.
    UnknownConnection,
    /// The customer has opted out of marketing.
    OptedOut,
    /// The business was told not to contact the customer.
    DoNotContact,
    /// Meta takes no marketing for this customer for a time.
    MarketingLimit {
        /// Until when.
        until: Timestamp,
    },
    /// The customer has had this step of the campaign.
    Duplicate,
    /// The job came too late.
    Expired,
    /// Meta lists no such template.
    TemplateMissing,
    /// The template is not approved, or not any more.
    TemplateNotApproved {
        /// Meta's word for its status.
        status: String,
    },
    /// A login code needs a phone number.
    PhoneRequired,
    /// The file is not one of the sender's own connection, if it is one at all.
    FileNotYours,
    /// There is no such file.
    FileNotFound,
    /// The file is larger than Meta takes.
    FileTooLarge {
        /// What it takes, in bytes.
        limit: u64,
    },
    /// The file is of a type that Meta does not take, or not as this.
    FileType {
        /// What is wrong with it, and what to do: "is empty; give …".
        advice: String,
    },
    /// The customer's data were erased after the job was made.
    Erased,
}

impl Refusal {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TemplateOnly { .. } => "template_only",
            Self::AwaitingReply { .. } => "awaiting_reply",
            Self::TakenByPerson => "taken_by_person",
            Self::HandledElsewhere => "handled_elsewhere",
            Self::NotAttached => "not_attached",
            Self::NotRunning => "not_running",
            Self::SenderGone => "sender_gone",
            Self::UnknownConversation => "unknown_conversation",
            Self::Invalid { .. } => "invalid",
            Self::PartFailed => "part_failed",
            Self::NoAddress => "no_address",
            Self::UnknownConnection => "unknown_connection",
            Self::OptedOut => "opted_out",
            Self::DoNotContact => "do_not_contact",
            Self::MarketingLimit { .. } => "marketing_limit",
            Self::Duplicate => "duplicate",
            Self::Expired => "expired",
            Self::TemplateMissing => "template_missing",
            Self::TemplateNotApproved { .. } => "template_not_approved",
            Self::PhoneRequired => "phone_required",
            Self::FileNotYours => "file_not_yours",
            Self::FileNotFound => "file_not_found",
            Self::FileTooLarge { .. } => "file_too_large",
            Self::FileType { .. } => "file_type",
            Self::Erased => "erased",
        }
    }

    /// What a person is told: what is wrong and the next step.
    #[must_use]
    pub fn note(&self) -> String {
        match self {
            Self::TemplateOnly { .. } => "It's been over 24 hours since the last reply. Select a WhatsApp template to continue.".to_owned(),
            Self::AwaitingReply { .. } => "Waiting for customer reply. Messaging will be available once they respond.".to_owned(),
            Self::TakenByPerson => "A person has this conversation. The agent may answer again once it is released.".to_owned(),
            Self::HandledElsewhere => {
                "Another app answers this customer now. Wait until control is passed or the customer writes to us again.".to_owned()
            }
            Self::NotAttached => "The agent is not attached to this connection. Attach it, then send again.".to_owned(),
            Self::NotRunning => "The connection is not running. Start it, then send again.".to_owned(),
            Self::SenderGone => {
                "The number that this customer knows is no longer connected. Send a template, or wait until they write.".to_owned()
            }
            Self::UnknownConversation => {
                "There is no such conversation under this connection. Take the conversation from the turn.".to_owned()
            }
            Self::Invalid { problems } => problems.join(" "),
            Self::PartFailed => {
                "An earlier part of this text was not sent, so this one was not either. Send the rest again if it is still wanted."
                    .to_owned()
            }
            Self::NoAddress => "No address of this customer can be sent to. Wait until they write.".to_owned(),
            Self::UnknownConnection => "This tenant has no such connection. Take its id from the list of connections.".to_owned(),
            Self::OptedOut => "The customer has opted out of marketing. Utility templates may still be sent.".to_owned(),
            Self::DoNotContact => "The customer must not be contacted with templates. Wait until they write.".to_owned(),
            Self::MarketingLimit { .. } => {
                "WhatsApp delivers no more marketing to this customer for now. Send it again later, or wait until they write.".to_owned()
            }
            Self::Duplicate => "This customer has had this step of the campaign. Nothing was sent again.".to_owned(),
            Self::Expired => {
                "The job came after the time until which it was worth sending. Send it under a new id, with a later `not_after`.".to_owned()
            }
            Self::TemplateMissing => {
                "There is no such template in this language. Check name and language in WhatsApp Manager, then send again.".to_owned()
            }
            Self::TemplateNotApproved { status } => {
                format!("The template cannot be sent: WhatsApp says {status}. Look at it in WhatsApp Manager, or choose another.")
            }
            Self::PhoneRequired => {
                "Login codes go to phone numbers only, and of this customer only a user id is known. Ask for the number.".to_owned()
            }
            Self::FileNotYours => "The file is none of this connection's. Upload it, and give the key that you are told.".to_owned(),
            Self::FileNotFound => "There is no such file, or not any more. Upload it, then send again.".to_owned(),
            Self::FileTooLarge { limit } => {
                format!("The file is larger than WhatsApp takes: at most {limit} bytes. Make it smaller, or send a link to it as text.")
            }
            Self::FileType { advice } => format!("The file {advice}."),
            Self::Erased => "The customer's data were erased after this was asked for, so it was not sent.".to_owned(),
        }
    }

    /// Whether to send the same again.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::NotAttached
            | Self::NotRunning
            | Self::Invalid { .. }
            | Self::UnknownConversation
            | Self::UnknownConnection
            | Self::TemplateMissing
            | Self::TemplateNotApproved { .. }
            | Self::Expired
            | Self::PhoneRequired
            | Self::FileNotYours
            | Self::FileNotFound
            | Self::FileTooLarge { .. }
            | Self::FileType { .. } => Retry::Fix,
            Self::MarketingLimit { until } => Retry::Later { retry_at: *until },
            Self::OptedOut | Self::DoNotContact | Self::Duplicate | Self::Erased => Retry::Never,
            Self::TemplateOnly { .. }
            | Self::AwaitingReply { .. }
            | Self::TakenByPerson
            | Self::HandledElsewhere
            | Self::SenderGone
            | Self::PartFailed
            | Self::NoAddress => Retry::Never,
        }
    }

    /// When the window closed, where that is the reason.
    #[must_use]
    pub fn closed_at(&self) -> Option<Timestamp> {
        match self {
            Self::TemplateOnly { closed_at } => *closed_at,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const AT: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    /// Every refusal, with the code that agents and the platform match on and whether the same may be sent again.
    fn all() -> Vec<(Refusal, &'static str, Retry)> {
        vec![
            (Refusal::TemplateOnly { closed_at: Some(AT) }, "template_only", Retry::Never),
            (Refusal::AwaitingReply { since: AT }, "awaiting_reply", Retry::Never),
            (Refusal::TakenByPerson, "taken_by_person", Retry::Never),
            (Refusal::HandledElsewhere, "handled_elsewhere", Retry::Never),
            (Refusal::NotAttached, "not_attached", Retry::Fix),
            (Refusal::NotRunning, "not_running", Retry::Fix),
            (Refusal::SenderGone, "sender_gone", Retry::Never),
            (Refusal::UnknownConversation, "unknown_conversation", Retry::Fix),
            (Refusal::Invalid { problems: vec!["id: no UUIDv7; send one.".to_owned()] }, "invalid", Retry::Fix),
            (Refusal::PartFailed, "part_failed", Retry::Never),
            (Refusal::NoAddress, "no_address", Retry::Never),
            (Refusal::UnknownConnection, "unknown_connection", Retry::Fix),
            (Refusal::OptedOut, "opted_out", Retry::Never),
            (Refusal::DoNotContact, "do_not_contact", Retry::Never),
            (Refusal::MarketingLimit { until: AT }, "marketing_limit", Retry::Later { retry_at: AT }),
            (Refusal::Duplicate, "duplicate", Retry::Never),
            (Refusal::Expired, "expired", Retry::Fix),
            (Refusal::TemplateMissing, "template_missing", Retry::Fix),
            (Refusal::TemplateNotApproved { status: "PAUSED".to_owned() }, "template_not_approved", Retry::Fix),
            (Refusal::PhoneRequired, "phone_required", Retry::Fix),
            (Refusal::FileNotYours, "file_not_yours", Retry::Fix),
            (Refusal::FileNotFound, "file_not_found", Retry::Fix),
            (Refusal::FileTooLarge { limit: 5 << 20 }, "file_too_large", Retry::Fix),
            (Refusal::FileType { advice: "is empty; give another".to_owned() }, "file_type", Retry::Fix),
            (Refusal::Erased, "erased", Retry::Never),
        ]
    }

    #[test]
    fn every_refusal_has_a_code_of_its_own_a_note_and_a_word_on_sending_again() {
        let mut codes = BTreeSet::new();
        let mut notes = BTreeSet::new();
        for (refusal, code, retry) in all() {
            assert_eq!((refusal.code(), refusal.retry()), (code, retry));
            assert!(codes.insert(code), "{code} twice");
            assert!(refusal.note().ends_with('.') && notes.insert(refusal.note()), "{code}: {}", refusal.note());
        }
    }

    #[test]
    fn the_window_is_explained_in_the_words_that_people_know() {
        let closed = Refusal::TemplateOnly { closed_at: None };
        assert_eq!(closed.note(), "It's been over 24 hours since the last reply. Select a WhatsApp template to continue.");
        let waiting = Refusal::AwaitingReply { since: AT };
        assert_eq!(waiting.note(), "Waiting for customer reply. Messaging will be available once they respond.");
    }

    #[test]
    fn what_is_wrong_with_a_job_is_told_whole() {
        let problems = vec!["id: no UUIDv7; send one.".to_owned(), "message: missing; say what to send.".to_owned()];
        let note = Refusal::Invalid { problems: problems.clone() }.note();
        assert!(problems.iter().all(|it| note.contains(it)), "{note}");
    }

    #[test]
    fn only_a_closed_window_tells_when_it_closed() {
        for (refusal, code, _) in all() {
            assert_eq!(refusal.closed_at(), (code == "template_only").then_some(AT), "{code}");
        }
        assert_eq!(Refusal::TemplateOnly { closed_at: None }.closed_at(), None, "it never opened");
    }

    #[test]
    fn retry_is_a_word_and_for_later_a_time() {
        for (retry, json) in [
            (Retry::Never, r#"{"retry":"never"}"#),
            (Retry::Fix, r#"{"retry":"fix"}"#),
            (Retry::Later { retry_at: AT }, r#"{"retry":"later","retry_at":1790000000000}"#),
        ] {
            assert_eq!(serde_json::to_string(&retry).expect("it has text keys only"), json);
            assert_eq!(serde_json::from_str::<Retry>(json).expect("it reads back"), retry);
        }
    }
}
