//! What else happens in a thread: calls, preferences, handovers, and the history of a number.

use domain::ids::Wamid;
use domain::message::{Call, Event, Handover, Preference};
use serde_json::value::RawValue;

use super::people::{Contacts, Named};
use super::{COMMON, Change, Reason, What, common};
use crate::fault;
use crate::wire::{Object, kept};

/// What Meta documents of a call. What is said in it, and the session that carries it, do not concern us.
const CALL: [&str; 19] = [
    "id",
    "from",
    "from_user_id",
    "from_parent_user_id",
    "to",
    "to_user_id",
    "to_parent_user_id",
    "event",
    "timestamp",
    "direction",
    "session",
    "status",
    "start_time",
    "end_time",
    "duration",
    "biz_opaque_callback_data",
    "cta_payload",
    "deeplink_payload",
    "errors",
];

/// What Meta documents of the status of a call.
const CALL_STATUS: [&str; 9] = [
    "id",
    "type",
    "status",
    "timestamp",
    "recipient_id",
    "recipient_user_id",
    "recipient_parent_user_id",
    "biz_opaque_callback_data",
    "errors",
];

/// `calls`: <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/calls>.
pub(super) fn calls(it: &mut Change<'_, '_>, value: &Object<'_>) {
    let contacts = common(it, value);
    for raw in value.elements("calls") {
        if let Err(reason) = call(it, raw, &contacts) {
            it.ignore(reason, "calls", raw);
        }
    }
    for raw in value.elements("statuses") {
        if let Err(reason) = call_status(it, raw, &contacts) {
            it.ignore(reason, "statuses", raw);
        }
    }
    let [a, b, c, d] = COMMON;
    it.ignore_others(value, &[a, b, c, d, "calls", "statuses"], "");
}

fn call(it: &mut Change<'_, '_>, raw: &RawValue, contacts: &Contacts) -> Result<(), Reason> {
    let object = Object::read(raw).ok_or(Reason::Unreadable)?;
    let what = object.words("event").ok_or(Reason::Unreadable)?;
    let direction = object.text("direction").unwrap_or_default();
    let is_ours = direction == "BUSINESS_INITIATED";
    let customer = if is_ours {
        Named::of(&object, "to", "to_user_id", &["to_parent_user_id"])
    } else {
        Named::of(&object, "from", "from_user_id", &["from_parent_user_id"])
    };
    // The customer's own calls count for the window, answered or not.
    let is_by_customer = direction == "USER_INITIATED" && matches!(what.as_str(), "connect" | "terminate");
    let call = if is_by_customer { Call::ByCustomer } else { Call::Other };
    tell_call(it, &object, customer, contacts, call, what)?;
    it.ignore_others(&object, &CALL, "calls.");
    Ok(())
}

fn call_status(it: &mut Change<'_, '_>, raw: &RawValue, contacts: &Contacts) -> Result<(), Reason> {
    let object = Object::read(raw).ok_or(Reason::Unreadable)?;
    let what = object.words("status").ok_or(Reason::Unreadable)?;
    let customer = Named::of(&object, "recipient_id", "recipient_user_id", &["recipient_parent_user_id"]);
    // That the customer takes our call counts for the window, that it rings does not.
    let call = if what == "ACCEPTED" { Call::ByCustomer } else { Call::Other };
    tell_call(it, &object, customer, contacts, call, what)?;
    it.ignore_others(&object, &CALL_STATUS, "statuses.");
    Ok(())
}

fn tell_call(
    it: &mut Change<'_, '_>,
    object: &Object<'_>,
    customer: Named,
    contacts: &Contacts,
    call: Call,
    what: String,
) -> Result<(), Reason> {
    // One call tells several things under one id.
    let id = object.words("id").and_then(|id| Wamid::parse(format!("{id}/{what}")).ok()).ok_or(Reason::NoId)?;
    let at = object.time("timestamp").ok_or(Reason::NoTime)?;
    let (customer, profile) = contacts.complete(customer, false).ok_or(Reason::Nobody)?;
    it.tell(What::Customer { customer, profile, event: Event::Call { id, at, call, what } });
    Ok(())
}

/// `user_preferences`: <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/user_preferences>.
pub(super) fn preferences(it: &mut Change<'_, '_>, value: &Object<'_>) {
    let contacts = common(it, value);
    let elements = value.elements("user_preferences");
    for raw in &elements {
        if let Err(reason) = preference(it, raw, &contacts, elements.len() == 1) {
            it.ignore(reason, "user_preferences", raw);
        }
    }
    let [a, b, c, d] = COMMON;
    it.ignore_others(value, &[a, b, c, d, "user_preferences"], "");
}

fn preference(it: &mut Change<'_, '_>, raw: &RawValue, contacts: &Contacts, alone: bool) -> Result<(), Reason> {
    let object = Object::read(raw).ok_or(Reason::Unreadable)?;
    let is_of_marketing = object.text("category").is_none_or(|it| it == "marketing_messages");
    let preference = match object.text("value").unwrap_or_default().as_ref() {
        "stop" => Preference::Stop,
        "resume" | "signup" => Preference::Resume,
        _ => return Err(Reason::Value),
    };
    if !is_of_marketing {
        return Err(Reason::Value);
    }
    let at = object.time("timestamp").ok_or(Reason::NoTime)?;
    let named = Named::of(&object, "wa_id", "user_id", &["parent_user_id"]);
    let (customer, profile) = contacts.complete(named, alone).ok_or(Reason::Nobody)?;
    let known = ["wa_id", "user_id", "parent_user_id", "detail", "category", "value", "timestamp", "signup_id"];
    it.ignore_others(&object, &known, "user_preferences.");
    it.tell(What::Customer { customer, profile, event: Event::Preference { at, preference } });
    Ok(())
}

/// `messaging_handovers`: <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messaging-handovers>.
pub(super) fn handover(it: &mut Change<'_, '_>, value: &Object<'_>) {
    let contacts = common(it, value);
    let told = value.words("type");
    let what = ["control_passed", "control_taken"].into_iter().find(|name| match &told {
        Some(told) => told == name,
        None => value.get(name).is_some(),
    });
    let handover = match what {
        Some("control_passed") => Handover::Passed,
        Some(_) => Handover::Taken,
        None => return it.ignore(Reason::Value, "value", it.raw),
    };
    let Some(at) = value.time("timestamp") else {
        return it.ignore(Reason::NoTime, "value", it.raw);
    };
    let sender = value.object("sender").unwrap_or_default();
    let by_phone_number = Named::of(&sender, "phone_number", "user_id", &["parent_user_id"]);
    let by_wa_id = Named::of(&sender, "wa_id", "user_id", &["parent_user_id"]);
    let Some((customer, profile)) = contacts.complete(by_phone_number, false).or_else(|| contacts.complete(by_wa_id, true)) else {
        return it.ignore(Reason::Nobody, "value", it.raw);
    };
    let raw = what.and_then(|name| value.get(name)).map(kept).unwrap_or_default();
    let [a, b, c, d] = COMMON;
    it.ignore_others(value, &[a, b, c, d, "sender", "recipient", "type", "timestamp", "control_passed", "control_taken"], "");
    it.tell(What::Customer { customer, profile, event: Event::Handover { at, handover, raw } });
}

/// `history`: counted, since it is told once, late, and by the business's own consent.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/history>
pub(super) fn history(it: &mut Change<'_, '_>, value: &Object<'_>) {
    common(it, value);
    let mut messages = value.elements("messages").len();
    for chunk in value.elements("history").into_iter().filter_map(Object::read) {
        // The business may decline to share it, which Meta tells as an error.
        for raw in chunk.elements("errors") {
            it.tell(What::Lost(fault::read(raw)));
        }
        let threads = chunk.elements("threads");
        messages += threads.into_iter().filter_map(Object::read).map(|it| it.elements("messages").len()).sum::<usize>();
    }
    it.tell(What::History { messages });
}
