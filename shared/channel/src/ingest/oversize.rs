//! What is too large for a queue is made small enough to travel beside its neighbours, and what it was is given back for the quarantine.
//!
//! A webhook has up to 3 MB, a message of a queue 1 MiB: without this, one piece would have Meta repeat the whole body for days.
//! Must not know of queues or stores.
//!
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/overview>
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>

use domain::message::{Content, Event, Message, Profile};
use serde::Serialize;

use crate::feed::body;
use crate::jobs::StatusTold;

/// The largest event or status, and the most of them that travel together, in bytes of JSON.
pub(super) const PIECE_BYTES: usize = 200 * 1_024;
/// The largest value of a notice, in bytes: it is a hint only.
const VALUE_BYTES: usize = 100 * 1_024;
/// The largest profile, in bytes of JSON: WhatsApp's names have a few dozen characters.
const PROFILE_BYTES: usize = 4 * 1_024;
/// The longest name of an unknown kind, in characters.
const KIND_CHARACTERS: usize = 100;

/// What did not fit, as it was.
pub(super) struct Oversize {
    /// What it is.
    pub(super) name: String,
    /// All of it, as JSON.
    pub(super) raw: String,
}

/// Takes what does not fit, for the quarantine.
#[derive(Default)]
pub(super) struct Cut(pub(super) Vec<Oversize>);

impl Cut {
    /// The event, if it fits or is a message: a message is kept even if nothing of its content can be.
    pub(super) fn event(&mut self, name: &str, event: Event) -> Option<Event> {
        if !self.takes(name, &event, PIECE_BYTES) {
            return Some(event);
        }
        match event {
            Event::Message(it) => Some(Event::Message(unburdened(it))),
            Event::Standby(it) => Some(Event::Standby(unburdened(it))),
            Event::Echo(it) => Some(Event::Echo(unburdened(it))),
            Event::Reaction { .. }
            | Event::Edit { .. }
            | Event::Revoke { .. }
            | Event::Call { .. }
            | Event::Preference { .. }
            | Event::Handover { .. }
            | Event::Changed { .. }
            | Event::Note { .. } => None,
        }
    }

    /// The profile, or an empty one.
    pub(super) fn profile(&mut self, profile: Profile) -> Profile {
        if self.takes("profile", &profile, PROFILE_BYTES) { Profile::default() } else { profile }
    }

    /// The status, in the end with nothing but what it tells of which message. We never sent data that is so long.
    pub(super) fn status(&mut self, status: StatusTold) -> StatusTold {
        if !self.takes("status", &status, PIECE_BYTES) {
            return status;
        }
        StatusTold { opaque: None, pricing: None, faults: status.faults.into_iter().take(1).collect(), ..status }
    }

    /// The value of a notice, or nothing.
    pub(super) fn value(&mut self, field: &str, value: String) -> String {
        if value.len() <= VALUE_BYTES {
            return value;
        }
        self.set_aside(field, value);
        String::new()
    }

    fn takes(&mut self, name: &str, it: &impl Serialize, limit: usize) -> bool {
        let raw = body(it);
        let is_over = raw.len() > limit;
        if is_over {
            self.set_aside(name, raw);
        }
        is_over
    }

    /// Once, however often it stands there: a profile comes with each message of its customer.
    fn set_aside(&mut self, name: &str, raw: String) {
        if self.0.iter().all(|it| it.raw != raw) {
            self.0.push(Oversize { name: name.to_owned(), raw });
        }
    }
}

/// The message without what is beside its content, and if that is not enough, without its content.
fn unburdened(message: Message) -> Message {
    let bare = Message { referral: None, faults: Vec::new(), unknown: String::new(), ..message };
    if body(&bare).len() <= PIECE_BYTES {
        return bare;
    }
    let kind = match &bare.content {
        Content::Unsupported { r#type, .. } => r#type.chars().take(KIND_CHARACTERS).collect(),
        other => other.kind().to_owned(),
    };
    Message { content: Content::Unsupported { r#type: kind, raw: String::new() }, ..bare }
}
