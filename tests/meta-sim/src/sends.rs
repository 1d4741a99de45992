//! `POST /{phone_number_id}/messages` and `/marketing_messages`: who may send, what, to whom, how often, and when.
//!
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/send-messages>

use serde_json::{Value, json};

use crate::book::{Author, Book, Customer, MESSAGING, Message, Number};
use crate::dialling;
use crate::errors::Refusal;
use crate::filling;
use crate::graph::Credentials;
use crate::rules::{self, MEDIA_KINDS, Request, Send, Target};
use crate::templates;

/// How long a customer's message or call keeps the window open.
pub const WINDOW_MS: i64 = 24 * 60 * 60 * 1000;
/// What each message to the same customer costs of the pair's quota.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/about-the-platform#pair-rate-limits>
pub const PAIR_PAUSE_MS: i64 = 6_000;
/// How many messages to the same customer may be sent at once, borrowing from later quota.
pub const PAIR_BURST: i64 = 45;
/// How old a message may be that is marked as read or reacted to.
const REACHABLE_MS: i64 = 30 * 24 * 60 * 60 * 1000;
/// How long the customer sees that the business is typing.
const TYPING_MS: i64 = 25_000;

/// The two endpoints that send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// `/messages`.
    Messages,
    /// `/marketing_messages`, for marketing templates only.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/marketing-messages/send-marketing-messages>
    MarketingMessages,
}

/// What a send says, once it is checked.
struct Content {
    /// The member named as the type; of a template also what the customer sees of it, as `shown`.
    content: Value,
    /// The words a person sees.
    text: Option<String>,
    /// Price category.
    category: String,
    is_marketing: bool,
    /// Whether Meta holds it to judge its template first.
    held: bool,
    /// Name and language of the template.
    template: Option<(String, String)>,
}

/// The customer of a send, and what is already known to go wrong with it.
struct Recipient {
    customer: String,
    /// `contacts[0]` of the answer.
    contact: Value,
    failure: Option<Refusal>,
}

impl Book {
    /// Whether this caller may use this number at all.
    ///
    /// # Errors
    ///
    /// 190, 200 or 10 by the token, 100 with subcode 33 for an unknown number, 133010 for one that is not registered.
    pub(crate) fn admit_sender(&self, now_ms: i64, number: &str, credentials: Credentials<'_>) -> Result<Number, Refusal> {
        self.check_token(now_ms, credentials)?;
        let number = self.number("post", number)?;
        self.check_access(credentials, &number.account, MESSAGING)?;
        if !number.registered || number.status != "CONNECTED" {
            return Err(Refusal::with(133_010, "The account is not registered"));
        }
        Ok(number.clone())
    }

    /// Sends a message, or marks one as read, for a caller who was admitted. A `forced` failure follows the acceptance.
    ///
    /// # Errors
    ///
    /// Meta's refusals of the body, the rates and the window.
    pub(crate) fn post_message(
        &mut self,
        now_ms: i64,
        number: &Number,
        way: Way,
        body: &Value,
        forced: Option<Refusal>,
    ) -> Result<Value, Refusal> {
        if way == Way::MarketingMessages {
            rules::marketing_members(body)?;
        }
        match rules::request(body)? {
            Request::MarkRead { message_id, typing } => self.mark_read(now_ms, number, &message_id, typing),
            Request::Send(send) => self.send(now_ms, number, way, send, forced),
        }
    }

    fn mark_read(&mut self, now_ms: i64, number: &Number, message_id: &str, typing: bool) -> Result<Value, Refusal> {
        let is_inbound = |it: &&Message| it.number == number.id && it.author == Author::Customer && now_ms - it.at_ms <= REACHABLE_MS;
        let Some(message) = self.messages.get(message_id).filter(is_inbound) else {
            return Err(Refusal::with(100, "Message ID is invalid"));
        };
        let (customer, at_ms) = (message.customer.clone(), message.at_ms);
        let is_earlier = |it: &&Message| it.author == Author::Customer && it.at_ms <= at_ms && it.read_ms.is_none();
        let earlier = self.messages_of(&customer, Some(&number.id)).into_iter().filter(is_earlier);
        for id in earlier.map(|it| it.id.clone()).collect::<Vec<_>>() {
            self.messages.get_mut(&id).into_iter().for_each(|it| it.read_ms = Some(now_ms));
        }
        if typing {
            self.thread(&number.id, &customer).typing_until_ms = now_ms + TYPING_MS;
        }
        Ok(json!({ "success": true }))
    }

    fn send(&mut self, now_ms: i64, number: &Number, way: Way, send: Send, forced: Option<Refusal>) -> Result<Value, Refusal> {
        let Content { content, text, category, is_marketing, held, template } = self.check_content(now_ms, number, way, &send)?;
        let mut recipient = self.recipient(number, &send.target)?;
        self.check_throughput(now_ms, number)?;
        let is_open = self.check_window(now_ms, number, &send, &mut recipient)?;
        self.check_pair(now_ms, number, &recipient.customer)?;
        self.traffic_ms.entry(number.id.clone()).or_default().push_back(now_ms);
        self.counts.sends_ms.entry(number.id.clone()).or_default().push(now_ms);
        if let Some((name, language)) = &template {
            self.template(&number.account, name, language).into_iter().for_each(|it| it.accepted += 1);
        }

        let customer = recipient.customer.clone();
        let failure = recipient.failure.take().or_else(|| self.late_failure(now_ms, number, &send, &customer));
        let failure = failure.or_else(|| if is_marketing { self.marketing_failure(now_ms, number, &customer, is_open) } else { None });
        let failure = failure.or_else(|| if is_open { None } else { self.limit_failure(now_ms, number, &customer) }).or(forced);
        if failure.is_none() && !is_open {
            self.count_reached(now_ms, number, &customer, is_marketing);
        }
        let held = held && failure.is_none();
        let id = self.wamid(&recipient.customer, Author::Business, now_ms);
        let sequence = self.count();
        let message = Message {
            id: id.clone(),
            sequence,
            number: number.id.clone(),
            customer: recipient.customer.clone(),
            author: Author::Business,
            kind: send.kind.clone(),
            content,
            text,
            template,
            at_ms: now_ms,
            quote: send.quote,
            opaque: send.opaque.clone(),
            category,
            held,
            ..Message::default()
        };
        self.put_message(message);
        *self.accepted.entry(send.opaque.unwrap_or_else(|| id.clone())).or_default() += 1;
        self.thread(&number.id, &recipient.customer).typing_until_ms = 0;
        match failure {
            Some(refusal) => self.fail(&id, &refusal, now_ms + self.pace.sent_ms),
            None if held => {}
            None => self.arrive(now_ms, number, &id, &send.kind, &send.content),
        }
        let mut accepted = json!({ "id": id });
        if send.kind == "template" {
            accepted["message_status"] = if held { "held_for_quality_assessment" } else { "accepted" }.into();
        }
        Ok(json!({ "messaging_product": "whatsapp", "contacts": [recipient.contact], "messages": [accepted] }))
    }

    fn arrive(&mut self, now_ms: i64, number: &Number, id: &str, kind: &str, content: &Value) {
        if kind == "reaction"
            && let Some(target) = content["message_id"].as_str().and_then(|it| self.messages.get_mut(it))
        {
            target.reaction = content["emoji"].as_str().filter(|it| !it.is_empty()).map(str::to_owned);
        }
        self.start_delivery(id, now_ms);
        self.reach_other_number(now_ms, number, id);
    }

    /// A message to another business number arrives there as an unsupported one.
    fn reach_other_number(&mut self, now_ms: i64, number: &Number, id: &str) {
        let phone = self.customers[&self.messages[id].customer].phone.clone();
        let Some(other) = self.numbers.values().find(|it| Some(it.digits()) == phone).map(|it| it.id.clone()) else { return };
        let written = crate::customers::Written::from(crate::customers::Inbound::Unsupported { kind: "unknown".into() });
        // A number that may not receive hears nothing, as nobody else does.
        let _refused = self.customer_writes(now_ms, &number.digits(), &other, &written);
    }

    fn check_content(&mut self, now_ms: i64, number: &Number, way: Way, send: &Send) -> Result<Content, Refusal> {
        let content = match send.kind.as_str() {
            "template" => self.check_template(now_ms, number, way, send)?,
            kind => Content {
                content: send.content.clone(),
                text: words(kind, &send.content),
                category: "service".into(),
                is_marketing: false,
                held: false,
                template: None,
            },
        };
        for (_, id) in media(send) {
            if !self.media.get(id).is_some_and(|it| it.number == number.id && it.kept_until_ms > now_ms) {
                return Err(Refusal::invalid(format!("Media ID {id} does not exist or does not belong to this phone number.")));
            }
        }
        Ok(content)
    }

    fn check_template(&mut self, now_ms: i64, number: &Number, way: Way, send: &Send) -> Result<Content, Refusal> {
        let (name, language) =
            (send.content["name"].as_str().unwrap_or_default(), send.content["language"]["code"].as_str().unwrap_or_default());
        let account = self.accounts.get(&number.account).cloned();
        let template = self.template(&number.account, name, language).ok_or_else(|| templates::absent(name, language))?;
        template.check_status()?;
        let is_marketing = template.is("MARKETING");
        match way {
            Way::MarketingMessages if !is_marketing => return Err(Refusal::with(134_100, "Only marketing templates are sent here.")),
            Way::MarketingMessages if account.as_ref().is_none_or(|it| it.marketing_messages_lite_api_status != "ONBOARDED") => {
                return Err(Refusal::with(134_102, "The account is not onboarded to the Marketing Messages API."));
            }
            Way::Messages if is_marketing && account.as_ref().is_some_and(|it| it.disable_marketing_messages_on_cloud_api) => {
                return Err(Refusal::new(131_063));
            }
            Way::Messages | Way::MarketingMessages => {}
        }
        if template.is("AUTHENTICATION") && matches!(send.target, Target::Recipient(_)) {
            return Err(Refusal::with(131_062, "Authentication templates go to a phone number only."));
        }
        let shown = filling::fill(template, &send.content, now_ms)?;
        let mut content = send.content.clone();
        let text = shown["body"].as_str().map(str::to_owned);
        content["shown"] = shown;
        let category = if way == Way::MarketingMessages { "marketing_lite".into() } else { template.category.to_lowercase() };
        let named = (template.name.clone(), template.language.clone());
        Ok(Content { content, text, category, is_marketing, held: template.holds(), template: Some(named) })
    }

    fn recipient(&mut self, number: &Number, target: &Target) -> Result<Recipient, Refusal> {
        let input = target.input();
        match target {
            Target::Recipient(user_id) => {
                let contact = json!({ "input": input, "user_id": input });
                Ok(self.person(user_id).map_or_else(
                    || self.nobody(user_id, contact.clone()),
                    |customer| Recipient { customer, contact: contact.clone(), failure: None },
                ))
            }
            // The letters of a user id are dropped, the rest is no one's number, and that shows only later.
            Target::To(to) if dialling::is_user_id(to) => {
                let digits = dialling::digits(to);
                Ok(self.nobody(&digits, json!({ "input": input, "wa_id": digits })))
            }
            Target::To(to) => {
                let known = self.find_customer(to).filter(|it| it.phone.is_some()).map(|it| it.key.clone());
                let Some(dialled) = dialling::dialled(to, &number.digits()) else {
                    return Err(Refusal::invalid("The recipient phone number is not a valid WhatsApp phone number."));
                };
                if dialled == number.digits() {
                    return Err(Refusal::with(131_021, "Recipient phone number cannot be the sender phone number."));
                }
                let customer = known.or_else(|| self.customer(&dialled)).ok_or_else(|| Refusal::invalid("Invalid phone number."))?;
                let wa_id = self.customers[&customer].phone.clone().unwrap_or(dialled);
                Ok(Recipient { customer, contact: json!({ "input": input, "wa_id": wa_id }), failure: None })
            }
        }
    }

    fn person(&self, user_id: &str) -> Option<String> {
        self.find_customer(user_id).map(|it| it.key.clone())
    }

    /// Somebody who is not on WhatsApp, under the name that was dialled.
    fn nobody(&mut self, name: &str, contact: Value) -> Recipient {
        let mut nobody = match dialling::is_user_id(name) {
            true => Customer { phone: None, ..Customer::with_phone("") }.and_user_id(name),
            false => Customer::with_phone(name),
        };
        nobody.on_whatsapp = false;
        let is_same = |it: &&Customer| !it.on_whatsapp && it.phone == nobody.phone && it.user_id == nobody.user_id;
        let known = self.customers.all_named(name).find(is_same).map(|it| it.key.clone());
        let customer = known.unwrap_or_else(|| {
            nobody.key = format!("c{}", self.count());
            let key = nobody.key.clone();
            self.customers.insert(nobody);
            key
        });
        Recipient { customer, contact, failure: Some(Refusal::with(131_026, "Message Undeliverable.")) }
    }

    /// Messages of the last second, in and out together.
    fn check_throughput(&mut self, now_ms: i64, number: &Number) -> Result<(), Refusal> {
        let traffic = self.traffic_ms.entry(number.id.clone()).or_default();
        while traffic.front().is_some_and(|at_ms| now_ms - at_ms >= 1000) {
            traffic.pop_front();
        }
        if traffic.len() >= number.throughput {
            *self.counts.throttled.entry(number.id.clone()).or_default() += 1;
            return Err(Refusal::with(130_429, "Cloud API message throughput has been reached."));
        }
        Ok(())
    }

    /// Whether the window is open.
    fn check_window(&mut self, now_ms: i64, number: &Number, send: &Send, recipient: &mut Recipient) -> Result<bool, Refusal> {
        let opened_at_ms = self.thread(&number.id, &recipient.customer).opened_at_ms;
        let is_open = opened_at_ms.is_some_and(|it| now_ms < it + WINDOW_MS);
        if is_open || send.kind == "template" || recipient.failure.is_some() {
            return Ok(is_open);
        }
        let refusal = Refusal::with(
            131_047,
            "Message failed to send because more than 24 hours have passed since the customer last replied to this number.",
        );
        if !self.outbox.mode.late_window_refusals {
            return Err(refusal);
        }
        recipient.failure = Some(refusal);
        Ok(is_open)
    }

    /// One message per six seconds; up to 45 at once, after which the borrowed time must pass first.
    fn check_pair(&mut self, now_ms: i64, number: &Number, customer: &str) -> Result<(), Refusal> {
        let thread = self.thread(&number.id, customer);
        let is_same_burst = now_ms - thread.burst_at_ms < PAIR_PAUSE_MS && thread.burst > 0;
        if is_same_burst && thread.burst < PAIR_BURST {
            thread.burst += 1;
            return Ok(());
        }
        if !is_same_burst && now_ms >= thread.burst_at_ms + thread.burst * PAIR_PAUSE_MS {
            (thread.burst_at_ms, thread.burst) = (now_ms, 1);
            return Ok(());
        }
        Err(Refusal::with(131_056, "Too many messages sent from this phone number to the same phone number in a short period of time."))
    }

    /// What Meta accepts and only then finds it cannot deliver.
    fn late_failure(&self, now_ms: i64, number: &Number, send: &Send, customer: &str) -> Option<Refusal> {
        let customer = &self.customers[customer];
        if !customer.on_whatsapp || customer.blocked.contains(&number.id) {
            return Some(Refusal::with(131_026, "Message Undeliverable."));
        }
        if send.kind == "reaction" {
            let target = send.content["message_id"].as_str().and_then(|it| self.messages.get(it));
            let is_reachable = target.is_some_and(|it| it.kind != "reaction" && !it.deleted && now_ms - it.at_ms <= REACHABLE_MS);
            return (!is_reachable).then(|| Refusal::invalid("The message that is reacted to is too old, deleted or itself a reaction."));
        }
        media(send).into_iter().find_map(|(kind, id)| self.media.get(id)?.misfit(kind, send.content["voice"] == true))
    }

    /// Why this customer gets no marketing now.
    fn marketing_failure(&mut self, now_ms: i64, number: &Number, customer: &str, is_open: bool) -> Option<Refusal> {
        let portfolio = self.account_of(&number.id)?.portfolio.clone();
        let person = &self.customers[customer];
        if person.stopped_marketing_of.contains(&portfolio) {
            return Some(Refusal::new(131_050));
        }
        if is_open {
            return None;
        }
        if person.in_experiment {
            return Some(Refusal::new(130_472));
        }
        let most = self.limits.marketing_per_customer?;
        (self.counts.marketing_of(now_ms, customer) >= most)
            .then(|| Refusal::with(131_049, "This message was not delivered to maintain healthy ecosystem engagement."))
    }

    /// Whether the portfolio has reached all the customers that it may.
    fn limit_failure(&mut self, now_ms: i64, number: &Number, customer: &str) -> Option<Refusal> {
        let portfolio = self.account_of(&number.id)?.portfolio.clone();
        let may_reach = self.counts.may_reach(now_ms, &portfolio, customer, self.limits.customers_per_day?);
        (!may_reach).then(|| Refusal::with(131_048, "The messaging limit of the business portfolio is reached."))
    }

    fn count_reached(&mut self, now_ms: i64, number: &Number, customer: &str, is_marketing: bool) {
        let Some(portfolio) = self.account_of(&number.id).map(|it| it.portfolio.clone()) else { return };
        self.counts.reaches(now_ms, &portfolio, customer);
        if is_marketing {
            self.counts.markets(now_ms, customer);
        }
    }
}

/// The files that a send names by media id, and as what.
fn media(send: &Send) -> Vec<(&str, &str)> {
    match send.kind.as_str() {
        "template" => filling::media(&send.content),
        kind if MEDIA_KINDS.contains(&kind) => send.content["id"].as_str().map(|id| (kind, id)).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// The words that a person sees of a message, if it has any.
pub(crate) fn words(kind: &str, content: &Value) -> Option<String> {
    let text = match kind {
        "text" => &content["body"],
        "reaction" => &content["emoji"],
        "button" => &content["text"],
        "interactive" => ["button_reply", "list_reply"]
            .iter()
            .map(|it| &content[*it]["title"])
            .find(|it| it.is_string())
            .unwrap_or(&content["body"]["text"]),
        "system" => &content["body"],
        _ => &content["caption"],
    };
    text.as_str().map(str::to_owned)
}
