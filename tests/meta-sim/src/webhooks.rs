//! The `value` of each webhook, in Meta's shapes. Pure functions of the records.
//!
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages> and its neighbours;
//! the members of business-scoped user ids:
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-scoped-user-ids>.

use serde_json::{Value, json};

use crate::book::{Account, Book, Customer, Message, Number};
use crate::errors::Refusal;

/// A customer as one portfolio may know them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// `wa_id`; absent if the customer does not show it.
    pub wa_id: Option<String>,
    /// Business-scoped user id.
    pub user_id: Option<String>,
    /// Profile name.
    pub name: String,
    /// Username.
    pub username: Option<String>,
}

impl Identity {
    /// `customer` as the portfolio of `account` knows them.
    pub(crate) fn of(customer: &Customer, account: &Account) -> Self {
        Self {
            wa_id: customer.phone.clone().filter(|_| customer.shows_phone),
            user_id: Book::user_id_in(&account.portfolio, customer),
            name: customer.name.clone(),
            username: customer.username.clone(),
        }
    }

    /// The member of `contacts`.
    pub(crate) fn contact(&self) -> Value {
        let mut profile = json!({ "name": self.name });
        put(&mut profile, "username", self.username.as_deref());
        let mut contact = json!({ "profile": profile });
        put(&mut contact, "wa_id", self.wa_id.as_deref());
        put(&mut contact, "user_id", self.user_id.as_deref());
        contact
    }
}

/// Sets a member, unless there is nothing to set: Meta leaves out what it does not tell.
pub(crate) fn put(value: &mut Value, name: &str, text: Option<&str>) {
    if let Some(text) = text {
        value[name] = text.into();
    }
}

/// Seconds as a string, as in messages and statuses.
pub(crate) fn seconds(at_ms: i64) -> String {
    (at_ms.div_euclid(1000)).to_string()
}

/// The beginning of every value that belongs to a number.
pub(crate) fn of_number(number: &Number) -> Value {
    json!({ "messaging_product": "whatsapp", "metadata": { "display_phone_number": number.digits(), "phone_number_id": number.id } })
}

/// `messages[0]`, with the sender as far as told.
pub(crate) fn message(identity: &Identity, id: &str, at_ms: i64, kind: &str, content: Value) -> Value {
    let mut message = json!({ "id": id, "timestamp": seconds(at_ms), "type": kind });
    put(&mut message, "from", identity.wa_id.as_deref());
    put(&mut message, "from_user_id", identity.user_id.as_deref());
    if !content.is_null() {
        message[kind] = content;
    }
    message
}

/// The value of a message that has arrived.
pub(crate) fn arrived(number: &Number, identity: &Identity, message: Value) -> Value {
    let mut value = of_number(number);
    // Meta tells no contacts with system messages.
    if message["type"] != "system" {
        value["contacts"] = json!([identity.contact()]);
    }
    value["messages"] = json!([message]);
    value
}

/// The same as a copy for an app that does not own the thread.
pub(crate) fn standby(number: &Number, identity: &Identity, message: Value) -> Value {
    let mut value = of_number(number);
    value["standby"] = json!({ "contacts": [identity.contact()], "messages": [message] });
    value
}

/// A step of a message of ours, as told in `statuses`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step<'a> {
    /// `sent`, `delivered`, `read`, `played` or `failed`.
    pub status: &'a str,
    /// When, milliseconds.
    pub at_ms: i64,
    /// Whether Meta prices this step: `sent`, and the first of delivered and read.
    pub priced: bool,
    /// Why it failed.
    pub refusal: Option<&'a Refusal>,
    /// Whether our opaque data comes back.
    pub echoed: bool,
}

/// The value of a status.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages/status>
pub(crate) fn status(number: &Number, identity: &Identity, message: &Message, step: Step<'_>) -> Value {
    let mut status = json!({ "id": message.id, "status": step.status, "timestamp": seconds(step.at_ms) });
    put(&mut status, "recipient_id", identity.wa_id.as_deref());
    put(&mut status, "recipient_user_id", identity.user_id.as_deref());
    put(&mut status, "biz_opaque_callback_data", message.opaque.as_deref().filter(|_| step.echoed));
    if step.priced {
        status["pricing"] = json!({ "billable": true, "pricing_model": "PMP", "type": "regular", "category": message.category });
    }
    let mut value = of_number(number);
    match step.refusal {
        Some(refusal) => status["errors"] = json!([refusal.in_status()]),
        None => value["contacts"] = json!([identity.contact()]),
    }
    value["statuses"] = json!([status]);
    value
}

/// The value of `user_preferences`: the customer stops or resumes marketing.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/user_preferences>
pub(crate) fn preference(number: &Number, identity: &Identity, choice: &str, at_ms: i64) -> Value {
    let detail = if choice == "stop" { "User requested to stop marketing messages" } else { "User requested to resume marketing messages" };
    let mut preference =
        json!({ "detail": detail, "category": "marketing_messages", "value": choice, "timestamp": at_ms.div_euclid(1000) });
    put(&mut preference, "wa_id", identity.wa_id.as_deref());
    put(&mut preference, "user_id", identity.user_id.as_deref());
    let mut value = of_number(number);
    value["contacts"] = json!([identity.contact()]);
    value["user_preferences"] = json!([preference]);
    value
}

/// The value of `calls`: the customer calls, or the call has ended.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/calling/user-initiated-calls>
pub(crate) fn call(number: &Number, identity: &Identity, id: &str, event: &str, at_ms: i64) -> Value {
    let mut call = json!({ "id": id, "to": number.digits(), "event": event, "direction": "USER_INITIATED", "timestamp": seconds(at_ms) });
    put(&mut call, "from", identity.wa_id.as_deref());
    put(&mut call, "from_user_id", identity.user_id.as_deref());
    if event == "terminate" {
        call["status"] = "COMPLETED".into();
    }
    let mut value = of_number(number);
    value["contacts"] = json!([identity.contact()]);
    value["calls"] = json!([call]);
    value
}

/// The value of `messaging_handovers`: `control_passed` to us or `control_taken` from us.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messaging_handovers>
pub(crate) fn handover(number: &Number, identity: &Identity, kind: &str, roles: (&str, &str), at_ms: i64) -> Value {
    let mut sender = json!({});
    put(&mut sender, "phone_number", identity.wa_id.as_deref());
    put(&mut sender, "user_id", identity.user_id.as_deref());
    json!({ "messaging_product": "whatsapp", "sender": sender,
            "recipient": { "phone_number_id": number.id, "display_phone_number": number.digits() },
            "type": kind, "timestamp": seconds(at_ms), kind: { "previous_owner_role": roles.0, "new_owner_role": roles.1 } })
}

/// The value of `smb_message_echoes`: a person wrote in the WhatsApp Business app.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/smb_message_echoes>
pub(crate) fn echo(number: &Number, identity: &Identity, id: &str, text: &str, at_ms: i64) -> Value {
    let mut echo = json!({ "from": number.digits(), "id": id, "timestamp": seconds(at_ms), "type": "text", "text": { "body": text } });
    put(&mut echo, "to", identity.wa_id.as_deref());
    put(&mut echo, "to_user_id", identity.user_id.as_deref());
    let mut value = of_number(number);
    value["message_echoes"] = json!([echo]);
    value
}
