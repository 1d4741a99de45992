//! What became of our messages.
//!
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages/status>

use domain::ids::Wamid;
use domain::status::{Pricing, Step};
use serde_json::value::RawValue;

use super::people::{Contacts, Named};
use super::{Change, Reason, StatusHeard, What};
use crate::fault;
use crate::wire::Object;

/// What Meta documents of a status. `conversation`, `message`, `template_id` and the hash of the identity are of no use to us: the object
/// `conversation` does not tell when the window closes.
const KNOWN: [&str; 15] = [
    "id",
    "status",
    "timestamp",
    "recipient_id",
    "recipient_user_id",
    "recipient_parent_user_id",
    "parent_recipient_user_id",
    "recipient_type",
    "recipient_identity_key_hash",
    "biz_opaque_callback_data",
    "conversation",
    "errors",
    "message",
    "pricing",
    "template_id",
];

/// The step of that name.
fn step(name: &str) -> Option<Step> {
    Step::ALL.into_iter().find(|it| it.name() == name)
}

/// One status of a message of ours.
pub(super) fn read(it: &mut Change<'_, '_>, raw: &RawValue, contacts: &Contacts) {
    let Some(object) = Object::read(raw) else {
        return it.ignore(Reason::Unreadable, "statuses", raw);
    };
    if object.text("recipient_type").as_deref() == Some("group") {
        return it.ignore(Reason::GroupStatus, "statuses", raw);
    }
    let Some(wamid) = object.text("id").and_then(|it| Wamid::parse(it).ok()) else {
        return it.ignore(Reason::NoId, "statuses", raw);
    };
    let name = object.text("status").unwrap_or_default();
    let Some(step) = step(&name) else {
        return it.ignore(Reason::Value, &format!("statuses.status={name}"), raw);
    };
    let Some(at) = object.time("timestamp") else {
        return it.ignore(Reason::NoTime, "statuses", raw);
    };
    let recipient = Named::of(&object, "recipient_id", "recipient_user_id", &["recipient_parent_user_id", "parent_recipient_user_id"]);
    it.ignore_others(&object, &KNOWN, "statuses.");
    let pricing = object.object("pricing");
    if let Some(pricing) = &pricing {
        it.ignore_others(pricing, &["billable", "pricing_model", "type", "category"], "statuses.pricing.");
    }
    it.tell(What::Status(StatusHeard {
        wamid,
        step,
        at,
        recipient: contacts.complete(recipient, false).map(|(customer, _)| customer),
        opaque: object.words("biz_opaque_callback_data"),
        pricing: pricing.as_ref().map(read_pricing),
        faults: object.elements("errors").into_iter().map(fault::read).collect(),
    }));
}

/// One status of a thread that another responder has. Only what carries our own data is ours; of a stranger's failure nothing follows.
pub(super) fn read_standby(it: &mut Change<'_, '_>, raw: &RawValue, contacts: &Contacts) {
    let is_ours = Object::read(raw).is_some_and(|it| it.words("biz_opaque_callback_data").is_some());
    if is_ours { read(it, raw, contacts) } else { it.ignore(Reason::StandbyStatus, "statuses", raw) }
}

fn read_pricing(object: &Object<'_>) -> Pricing {
    let billable = object.get("billable").and_then(|it| match it.get() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    });
    Pricing { billable, pricing_model: object.words("pricing_model"), kind: object.words("type"), category: object.words("category") }
}
