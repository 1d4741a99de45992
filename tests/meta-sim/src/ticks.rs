//! What becomes of an accepted message: sent, delivered, read, played or failed on the customer's phone, and told by statuses.

use serde_json::Value;

use crate::book::{Author, Book, Failure, Message};
use crate::errors::Refusal;
use crate::webhooks::{self, Identity, Step};

impl Book {
    /// Meta has taken the message for delivery: one tick, then what the phone does by itself.
    pub(crate) fn start_delivery(&mut self, id: &str, now_ms: i64) {
        let sent_ms = now_ms + self.pace.sent_ms;
        let Some(message) = self.messages.get_mut(id) else { return };
        (message.sent_ms, message.held) = (Some(sent_ms), false);
        // A reaction only ever gets `sent`.
        let (is_reaction, customer) = (message.kind == "reaction", message.customer.clone());
        self.tell_step(id, "sent", sent_ms, true);
        if !is_reaction && self.customers[&customer].online {
            self.deliver(id, sent_ms);
        }
    }

    /// The message reaches the phone. With the chat open Meta tells only `read`.
    pub(crate) fn deliver(&mut self, id: &str, after_ms: i64) {
        let at_ms = after_ms + self.pace.delivered_ms;
        let Some(message) = self.messages.get_mut(id) else { return };
        message.delivered_ms = Some(at_ms);
        let customer = self.customers[&message.customer].clone();
        if !customer.chat_open {
            self.tell_step(id, "delivered", at_ms, true);
        }
        if customer.chat_open || customer.auto_read {
            self.read(id, at_ms + self.pace.read_ms);
        }
    }

    /// The customer has read the message; the business hears it if the phone gives receipts.
    pub(crate) fn read(&mut self, id: &str, at_ms: i64) {
        let Some(message) = self.messages.get_mut(id) else { return };
        message.read_ms = Some(at_ms);
        let customer = &self.customers[&message.customer];
        if customer.read_receipts {
            let priced = customer.chat_open;
            self.tell_step(id, "read", at_ms, priced);
        }
    }

    /// The customer has played a voice message for the first time.
    pub(crate) fn play(&mut self, id: &str, at_ms: i64) {
        if let Some(message) = self.messages.get_mut(id).filter(|it| it.played_ms.is_none()) {
            message.played_ms = Some(at_ms);
            self.tell_step(id, "played", at_ms, false);
        }
    }

    /// The message will not arrive.
    pub(crate) fn fail(&mut self, id: &str, refusal: &Refusal, at_ms: i64) {
        let Some(message) = self.messages.get_mut(id) else { return };
        message.held = false;
        message.failure = Some(Failure { code: refusal.code, title: refusal.title.clone(), at: at_ms });
        let echoed = self.outbox.mode.echo_on_failed;
        self.tell_status(id, Step { status: "failed", at_ms, priced: false, refusal: Some(refusal), echoed });
    }

    /// What waited for this phone arrives.
    pub(crate) fn deliver_waiting(&mut self, customer: &str, now_ms: i64) {
        let is_waiting = |it: &&Message| {
            it.author == Author::Business
                && it.sent_ms.is_some()
                && it.delivered_ms.is_none()
                && it.failure.is_none()
                && it.kind != "reaction"
        };
        let waiting: Vec<String> = self.messages_of(customer, None).into_iter().filter(is_waiting).map(|it| it.id.clone()).collect();
        waiting.iter().for_each(|id| self.deliver(id, now_ms));
    }

    fn tell_step(&mut self, id: &str, status: &str, at_ms: i64, priced: bool) {
        self.tell_status(id, Step { status, at_ms, priced, refusal: None, echoed: true });
    }

    fn tell_status(&mut self, id: &str, step: Step<'_>) {
        let Some((account, number, value)) = self.status_value(id, step) else { return };
        self.tell(&account, Some(&number), "messages", &value, step.at_ms);
    }

    fn status_value(&self, id: &str, step: Step<'_>) -> Option<(String, String, Value)> {
        let message = self.messages.get(id)?;
        let number = self.numbers.get(&message.number)?;
        let account = self.accounts.get(&number.account)?;
        let identity = Identity::of(self.customers.get(&message.customer)?, account);
        Some((account.id.clone(), number.id.clone(), webhooks::status(number, &identity, message, step)))
    }
}
