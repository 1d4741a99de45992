//! What arrived on the customers' phones: the evidence on which a test judges what was sent.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::book::{Author, Book, Message};

/// A message of a business that has arrived on a customer's phone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Received {
    /// Phone number id that sent it.
    pub number: String,
    /// The wamid.
    pub wamid: String,
    /// `biz_opaque_callback_data` of the send.
    pub opaque: Option<String>,
    /// Its `type`.
    pub kind: String,
    /// Name and language of the template, if it is one.
    pub template: Option<(String, String)>,
    /// When it arrived, milliseconds.
    pub at_ms: i64,
    /// Its words, if it has any; of a template the body with its values in place.
    pub text: Option<String>,
}

impl Received {
    fn of(message: &Message, now_ms: i64) -> Option<Self> {
        // A reaction only ever gets `sent`.
        let arrived_ms = if message.kind == "reaction" { message.sent_ms } else { message.delivered_ms };
        let at_ms = arrived_ms.filter(|it| message.author == Author::Business && *it <= now_ms)?;
        Some(Self {
            number: message.number.clone(),
            wamid: message.id.clone(),
            opaque: message.opaque.clone(),
            kind: message.kind.clone(),
            template: message.template.clone(),
            at_ms,
            text: message.text.clone(),
        })
    }
}

impl Book {
    /// What the customer of this key has received, oldest first.
    pub(crate) fn received(&self, now_ms: i64, customer: &str) -> Vec<Received> {
        let messages = self.messages_of(customer, None);
        let mut received: Vec<Received> = messages.into_iter().filter_map(|it| Received::of(it, now_ms)).collect();
        received.sort_by_key(|it| it.at_ms);
        received
    }

    /// What every customer has received, by telephone or else user id.
    pub(crate) fn all_received(&self, now_ms: i64) -> BTreeMap<String, Vec<Received>> {
        let received = self.customers.values().map(|it| {
            let name = it.phone.clone().or_else(|| it.user_id.clone()).unwrap_or_else(|| it.key.clone());
            (name, self.received(now_ms, &it.key))
        });
        received.filter(|(_, it)| !it.is_empty()).collect()
    }
}
