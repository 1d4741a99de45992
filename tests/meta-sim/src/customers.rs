//! What customers do: write, read, play, call, block, change their telephone, and what their screen shows.
//!
//! The bodies of inbound messages:
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages>.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::book::{Account, Author, Book, Failure, Medium, Message, Number};
use crate::dialling;
use crate::errors::Refusal;
use crate::sends::words;
use crate::webhooks::{self, Identity, put};

/// How long Meta keeps a file that a customer sent.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/media>
const INBOUND_MEDIA_MS: i64 = 7 * 24 * 60 * 60 * 1000;

/// What a customer sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Inbound {
    /// Words.
    Text {
        /// The words.
        text: String,
    },
    /// A photo.
    Image(File),
    /// A film.
    Video(File),
    /// A voice message.
    Audio(File),
    /// A document.
    Document(File),
    /// A sticker.
    Sticker(File),
    /// A place.
    Location {
        /// Degrees north.
        latitude: f64,
        /// Degrees east.
        longitude: f64,
        /// Its name.
        #[serde(default)]
        name: Option<String>,
    },
    /// Contact cards.
    Contacts {
        /// The cards, in Meta's form.
        contacts: Value,
    },
    /// A tapped quick reply of a template.
    Button {
        /// What is written on it.
        text: String,
        /// What the template put behind it.
        payload: String,
    },
    /// A tapped reply button.
    ButtonReply {
        /// The button's id.
        id: String,
        /// The button's title.
        title: String,
    },
    /// A chosen row of a list.
    ListReply {
        /// The row's id.
        id: String,
        /// The row's title.
        title: String,
        /// The row's description.
        #[serde(default)]
        description: Option<String>,
    },
    /// A completed Flow.
    FlowReply {
        /// The answers: a text that should be JSON.
        response_json: String,
    },
    /// A shopping basket.
    Order {
        /// The catalogue.
        catalog_id: String,
        /// The items, in Meta's form.
        product_items: Value,
    },
    /// An emoji on a message.
    Reaction {
        /// The message.
        message_id: String,
        /// The emoji; absent, it is taken back.
        #[serde(default)]
        emoji: Option<String>,
    },
    /// A changed text.
    Edit {
        /// The message that is changed.
        message_id: String,
        /// Its new words.
        text: String,
    },
    /// A deleted message.
    Revoke {
        /// The message that is deleted.
        message_id: String,
    },
    /// Something that the Cloud API does not carry, such as a poll.
    Unsupported {
        /// What it was.
        kind: String,
    },
    /// The chat was opened for the first time.
    RequestWelcome,
    /// A text written in a group.
    Group {
        /// The group.
        group_id: String,
        /// The words.
        text: String,
    },
    /// Any other kind, carried as given.
    Other {
        /// The `type` on the wire.
        kind: String,
        /// The member of that name.
        content: Value,
    },
}

/// A file that a customer sends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// The bytes in base64; a few made-up ones if absent.
    #[serde(default)]
    pub base64: Option<String>,
    /// MIME type; a usual one of the kind if absent.
    #[serde(default)]
    pub mime_type: Option<String>,
    /// The words below it.
    #[serde(default)]
    pub caption: Option<String>,
    /// Its name, of a document.
    #[serde(default)]
    pub filename: Option<String>,
}

impl Inbound {
    /// Words.
    pub fn text(text: &str) -> Self {
        Self::Text { text: text.into() }
    }

    /// The `type` on the wire.
    pub fn kind(&self) -> &str {
        match self {
            Self::Text { .. } | Self::Group { .. } => "text",
            Self::Image(_) => "image",
            Self::Video(_) => "video",
            Self::Audio(_) => "audio",
            Self::Document(_) => "document",
            Self::Sticker(_) => "sticker",
            Self::Location { .. } => "location",
            Self::Contacts { .. } => "contacts",
            Self::Button { .. } => "button",
            Self::ButtonReply { .. } | Self::ListReply { .. } | Self::FlowReply { .. } => "interactive",
            Self::Order { .. } => "order",
            Self::Reaction { .. } => "reaction",
            Self::Edit { .. } => "edit",
            Self::Revoke { .. } => "revoke",
            Self::Unsupported { .. } => "unsupported",
            Self::RequestWelcome => "request_welcome",
            Self::Other { kind, .. } => kind,
        }
    }

    /// Whether it opens the customer service window. Meta's words are "messages you"; edits, deletions and opened chats are no messages,
    /// and a group has no window of one customer.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/send-messages#customer-service-windows>
    fn opens_window(&self) -> bool {
        !matches!(self, Self::Edit { .. } | Self::Revoke { .. } | Self::RequestWelcome | Self::Group { .. })
    }

    fn file(&self) -> Option<(&File, &'static str)> {
        match self {
            Self::Image(file) => Some((file, "image/jpeg")),
            Self::Video(file) => Some((file, "video/mp4")),
            Self::Audio(file) => Some((file, "audio/ogg; codecs=opus")),
            Self::Document(file) => Some((file, "application/pdf")),
            Self::Sticker(file) => Some((file, "image/webp")),
            _ => None,
        }
    }
}

/// Something written, and what goes with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// What it is.
    #[serde(flatten)]
    pub inbound: Inbound,
    /// The wamid it answers.
    #[serde(default)]
    pub quote: Option<String>,
    /// The ad or post that led here, in Meta's form.
    #[serde(default)]
    pub referral: Option<Value>,
    /// How many seconds ago it was written.
    #[serde(default)]
    pub ago: i64,
    /// Whether it was forwarded.
    #[serde(default)]
    pub forwarded: bool,
    /// Whether another app owns the thread, so that it comes as a copy under `standby`.
    #[serde(default)]
    pub standby: bool,
}

impl From<Inbound> for Written {
    fn from(inbound: Inbound) -> Self {
        Self { inbound, quote: None, referral: None, ago: 0, forwarded: false, standby: false }
    }
}

impl From<&str> for Written {
    fn from(text: &str) -> Self {
        Inbound::text(text).into()
    }
}

impl Written {
    /// The same, in answer to `wamid`.
    #[must_use]
    pub fn quoting(self, wamid: &str) -> Self {
        Self { quote: Some(wamid.into()), ..self }
    }

    /// The same, written `seconds` ago.
    #[must_use]
    pub fn ago(self, seconds: i64) -> Self {
        Self { ago: seconds, ..self }
    }

    /// The same, as a copy: another app owns the thread.
    #[must_use]
    pub fn on_standby(self) -> Self {
        Self { standby: true, ..self }
    }
}

/// Why something cannot be done with a phone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// No such customer, and the name is no telephone number from which to make one.
    #[error("`{0}` is neither a known customer nor a telephone number of 7 to 15 digits")]
    NoCustomer(String),
    /// No such phone number id.
    #[error("there is no phone number with the id `{0}`")]
    NoNumber(String),
    /// No such account.
    #[error("there is no account with the id `{0}`")]
    NoAccount(String),
    /// The number is not registered or not connected, so that nothing reaches it.
    #[error("the number `{0}` is not registered or not connected")]
    NotConnected(String),
    /// No such message.
    #[error("there is no message `{0}`")]
    NoMessage(String),
}

/// One line of a customer's screen.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// The wamid.
    pub id: String,
    /// Who wrote it.
    pub from: Author,
    /// Phone number id.
    pub number: String,
    /// Its `type`.
    pub kind: String,
    /// Its words, if it has any.
    pub text: Option<String>,
    /// When it was written, milliseconds.
    pub at: i64,
    /// First tick, milliseconds.
    pub sent: Option<i64>,
    /// Second tick, milliseconds.
    pub delivered: Option<i64>,
    /// Blue ticks, milliseconds.
    pub read: Option<i64>,
    /// First played, milliseconds.
    pub played: Option<i64>,
    /// Why it never came.
    pub failed: Option<Failure>,
    /// The wamid it answers.
    pub quote: Option<String>,
    /// The emoji on it.
    pub reaction: Option<String>,
    /// Whether it was edited.
    pub edited: bool,
    /// Whether it was deleted.
    pub deleted: bool,
    /// Everything that was sent under its `type`.
    pub content: Value,
}

impl Line {
    fn of(message: &Message, now_ms: i64) -> Self {
        let happened = |at_ms: Option<i64>| at_ms.filter(|it| *it <= now_ms);
        Self {
            id: message.id.clone(),
            from: message.author,
            number: message.number.clone(),
            kind: message.kind.clone(),
            text: message.text.clone().filter(|_| !message.deleted),
            at: message.at_ms,
            sent: happened(message.sent_ms),
            delivered: happened(message.delivered_ms),
            read: happened(message.read_ms),
            played: happened(message.played_ms),
            failed: message.failure.clone().filter(|it| it.at <= now_ms),
            quote: message.quote.clone(),
            reaction: message.reaction.clone(),
            edited: message.edited,
            deleted: message.deleted,
            content: message.content.clone(),
        }
    }
}

impl Book {
    /// The customer writes to a number; gives the wamid.
    ///
    /// # Errors
    ///
    /// [`Impossible`], and nothing is written.
    pub(crate) fn customer_writes(&mut self, now_ms: i64, who: &str, number: &str, written: &Written) -> Result<String, Impossible> {
        let (customer, number, account) = self.both(who, number)?;
        let at_ms = now_ms - written.ago * 1000;
        let id = self.wamid(&customer, Author::Customer, now_ms);
        let content = self.inbound_content(now_ms, &number, &written.inbound);
        self.traffic_ms.entry(number.id.clone()).or_default().push_back(now_ms);
        if written.inbound.opens_window() {
            self.open_window(&number.id, &customer, at_ms);
        } else {
            self.thread(&number.id, &customer);
        }
        self.apply(&written.inbound);
        self.keep(Message {
            id: id.clone(),
            number: number.id.clone(),
            customer: customer.clone(),
            author: Author::Customer,
            kind: written.inbound.kind().into(),
            content: content.clone(),
            at_ms,
            quote: written.quote.clone(),
            ..Message::default()
        });

        let identity = Identity::of(&self.customers[&customer], &account);
        let message = wire_message(&identity, &id, at_ms, &number, written, content);
        let (field, value) = match written.standby {
            true => ("standby", webhooks::standby(&number, &identity, message)),
            false => ("messages", webhooks::arrived(&number, &identity, message)),
        };
        self.tell(&account.id, Some(&number.id), field, &value, now_ms);
        Ok(id)
    }

    fn both(&mut self, who: &str, number: &str) -> Result<(String, Number, Account), Impossible> {
        let number = self.numbers.get(number).cloned().ok_or_else(|| Impossible::NoNumber(number.into()))?;
        let account = self.account_of(&number.id).cloned();
        let account = account
            .filter(|_| number.registered && number.status == "CONNECTED")
            .ok_or_else(|| Impossible::NotConnected(number.id.clone()))?;
        let customer = self.customer(who).ok_or_else(|| Impossible::NoCustomer(who.into()))?;
        Ok((customer, number, account))
    }

    /// The key of a customer who exists already.
    pub(crate) fn known_customer(&self, who: &str) -> Result<String, Impossible> {
        self.find_customer(who).map(|it| it.key.clone()).ok_or_else(|| Impossible::NoCustomer(who.into()))
    }

    /// A message or call opens the window from its own time on; one that is older than the last changes nothing.
    fn open_window(&mut self, number: &str, customer: &str, at_ms: i64) {
        let thread = self.thread(number, customer);
        thread.opened_at_ms = thread.opened_at_ms.max(Some(at_ms));
        self.counts.answered(customer);
    }

    /// The member named as the type.
    fn inbound_content(&mut self, now_ms: i64, number: &Number, inbound: &Inbound) -> Value {
        if let Some((file, usual)) = inbound.file() {
            return self.file_content(now_ms, number, inbound.kind(), file, usual);
        }
        match inbound {
            Inbound::Text { text } | Inbound::Group { text, .. } => json!({ "body": text }),
            Inbound::Location { latitude, longitude, name } => {
                let mut content = json!({ "latitude": latitude, "longitude": longitude });
                put(&mut content, "name", name.as_deref());
                content
            }
            Inbound::Contacts { contacts } => contacts.clone(),
            Inbound::Button { text, payload } => json!({ "payload": payload, "text": text }),
            Inbound::ButtonReply { id, title } => json!({ "type": "button_reply", "button_reply": { "id": id, "title": title } }),
            Inbound::ListReply { id, title, description } => {
                let mut row = json!({ "id": id, "title": title });
                put(&mut row, "description", description.as_deref());
                json!({ "type": "list_reply", "list_reply": row })
            }
            Inbound::FlowReply { response_json } => {
                json!({ "type": "nfm_reply", "nfm_reply": { "name": "flow", "body": "Sent", "response_json": response_json } })
            }
            Inbound::Order { catalog_id, product_items } => json!({ "catalog_id": catalog_id, "text": "", "product_items": product_items }),
            Inbound::Reaction { message_id, emoji } => {
                let mut content = json!({ "message_id": message_id });
                put(&mut content, "emoji", emoji.as_deref());
                content
            }
            Inbound::Edit { message_id, text } => {
                json!({ "original_message_id": message_id, "message": { "type": "text", "text": { "body": text } } })
            }
            Inbound::Revoke { message_id } => json!({ "original_message_id": message_id }),
            Inbound::Unsupported { kind } => json!({ "type": kind }),
            Inbound::Other { content, .. } => content.clone(),
            _ => Value::Null,
        }
    }

    fn file_content(&mut self, now_ms: i64, number: &Number, kind: &str, file: &File, usual: &str) -> Value {
        let id = self.fresh_id();
        let bytes = file.base64.clone().filter(|it| STANDARD.decode(it).is_ok()).unwrap_or_else(|| STANDARD.encode(format!("{kind} {id}")));
        let mime_type = file.mime_type.clone().unwrap_or_else(|| usual.into());
        let medium =
            Medium { id: id.clone(), number: number.id.clone(), mime_type, name: None, bytes, kept_until_ms: now_ms + INBOUND_MEDIA_MS };
        let mut content = json!({ "id": id, "mime_type": medium.mime_type, "sha256": STANDARD.encode(medium.sha256()), "url": self.media_url(&medium, now_ms) });
        put(&mut content, "caption", file.caption.as_deref());
        match kind {
            "audio" => content["voice"] = true.into(),
            "sticker" => content["animated"] = false.into(),
            "document" => content["filename"] = file.filename.as_deref().unwrap_or("document.pdf").into(),
            _ => {}
        }
        self.media.insert(id, medium);
        content
    }

    /// What it does to other messages of the chat.
    fn apply(&mut self, inbound: &Inbound) {
        match inbound {
            Inbound::Reaction { message_id, emoji } => {
                if let Some(target) = self.messages.get_mut(message_id) {
                    target.reaction = emoji.clone().filter(|it| !it.is_empty());
                }
            }
            Inbound::Edit { message_id, text } => {
                if let Some(target) = self.messages.get_mut(message_id) {
                    (target.text, target.edited) = (Some(text.clone()), true);
                }
            }
            Inbound::Revoke { message_id } => {
                if let Some(target) = self.messages.get_mut(message_id) {
                    target.deleted = true;
                }
            }
            _ => {}
        }
    }

    /// Keeps a message that is on the customer's phone from the start.
    fn keep(&mut self, message: Message) {
        let (sequence, at_ms) = (self.count(), Some(message.at_ms));
        let text = words(&message.kind, &message.content);
        self.put_message(Message { sequence, text, sent_ms: at_ms, delivered_ms: at_ms, ..message });
    }

    /// The customer opens the chat with one number, or all chats, and reads everything there; gives how many messages were new.
    pub(crate) fn customer_reads(&mut self, now_ms: i64, who: &str, number: Option<&str>) -> Result<usize, Impossible> {
        let customer = self.known_customer(who)?;
        let is_new = |it: &&Message| {
            it.author == Author::Business
                && it.delivered_ms.is_some_and(|it| it <= now_ms)
                && it.read_ms.is_none_or(|it| it > now_ms)
                && it.kind != "reaction"
        };
        let new: Vec<String> = self.messages_of(&customer, number).into_iter().filter(is_new).map(|it| it.id.clone()).collect();
        new.iter().for_each(|id| self.read(id, now_ms));
        Ok(new.len())
    }

    /// The customer plays a voice message.
    pub(crate) fn customer_plays(&mut self, now_ms: i64, who: &str, message: &str) -> Result<(), Impossible> {
        let customer = self.known_customer(who)?;
        let is_voice = |it: &Message| it.kind == "audio" && it.content["voice"] == true;
        let is_theirs = self.messages.get(message).is_some_and(|it| it.customer == customer && is_voice(it) && it.delivered_ms.is_some());
        if !is_theirs {
            return Err(Impossible::NoMessage(message.into()));
        }
        self.play(message, now_ms);
        Ok(())
    }

    /// The phone comes online, and what waited arrives; or it goes offline.
    pub(crate) fn set_online(&mut self, now_ms: i64, who: &str, online: bool) -> Result<(), Impossible> {
        let customer = self.customer(who).ok_or_else(|| Impossible::NoCustomer(who.into()))?;
        self.customers.change(&customer, |it| it.online = online);
        if online {
            self.deliver_waiting(&customer, now_ms);
        }
        Ok(())
    }

    /// The customer calls the number, which opens the window whether or not anybody answers.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/calling/pricing>
    pub(crate) fn customer_calls(&mut self, now_ms: i64, who: &str, number: &str, ago: i64) -> Result<String, Impossible> {
        let (customer, number, account) = self.both(who, number)?;
        let at_ms = now_ms - ago * 1000;
        self.open_window(&number.id, &customer, at_ms);
        let id = self.wamid(&customer, Author::Customer, now_ms).replace("wamid.", "wacid.");
        let identity = Identity::of(&self.customers[&customer], &account);
        for event in ["connect", "terminate"] {
            let value = webhooks::call(&number, &identity, &id, event, at_ms);
            self.tell(&account.id, Some(&number.id), "calls", &value, now_ms);
        }
        Ok(id)
    }

    /// The customer stops or resumes marketing messages.
    pub(crate) fn customer_prefers(&mut self, now_ms: i64, who: &str, number: &str, choice: &str) -> Result<(), Impossible> {
        let (customer, number, account) = self.both(who, number)?;
        self.customers.change(&customer, |it| {
            if choice == "stop" {
                it.stopped_marketing_of.insert(account.portfolio.clone());
            } else {
                it.stopped_marketing_of.remove(&account.portfolio);
            }
        });
        let identity = Identity::of(&self.customers[&customer], &account);
        let value = webhooks::preference(&number, &identity, choice, now_ms);
        self.tell(&account.id, Some(&number.id), "user_preferences", &value, now_ms);
        Ok(())
    }

    /// The thread with a customer passes to us (`control_passed`) or from us (`control_taken`).
    pub(crate) fn hand_over(&mut self, now_ms: i64, who: &str, number: &str, kind: &str) -> Result<(), Impossible> {
        let (customer, number, account) = self.both(who, number)?;
        let identity = Identity::of(&self.customers[&customer], &account);
        let roles = if kind == "control_passed" { ("ai_agent", "customer_service") } else { ("customer_service", "escalation") };
        let value = webhooks::handover(&number, &identity, kind, roles, now_ms);
        self.tell(&account.id, Some(&number.id), "messaging_handovers", &value, now_ms);
        Ok(())
    }

    /// A person of the business writes to the customer in the WhatsApp Business app.
    pub(crate) fn person_writes(&mut self, now_ms: i64, who: &str, number: &str, text: &str) -> Result<String, Impossible> {
        let (customer, number, account) = self.both(who, number)?;
        let id = self.wamid(&customer, Author::Business, now_ms);
        let identity = Identity::of(&self.customers[&customer], &account);
        self.keep(Message {
            id: id.clone(),
            number: number.id.clone(),
            customer,
            author: Author::Business,
            kind: "text".into(),
            content: json!({ "body": text }),
            at_ms: now_ms,
            ..Message::default()
        });
        let value = webhooks::echo(&number, &identity, &id, text, now_ms);
        self.tell(&account.id, Some(&number.id), "smb_message_echoes", &value, now_ms);
        Ok(id)
    }

    /// The customer moves to another telephone number, and with it to another user id. Whoever had that number has it no longer.
    pub(crate) fn customer_changes_phone(&mut self, now_ms: i64, who: &str, phone: &str) -> Result<(), Impossible> {
        let customer = self.known_customer(who)?;
        let new =
            dialling::dialled(&format!("+{}", phone.trim_start_matches('+')), "").ok_or_else(|| Impossible::NoCustomer(phone.into()))?;
        let new = dialling::wa_id(&new);
        if let Some(former) = self.find_customer(&new).map(|it| it.key.clone()).filter(|it| *it != customer) {
            self.customers.change(&former, |it| it.phone = None);
        }
        let user_id = self.customers[&customer].user_id.is_some().then(|| crate::book::user_id_of(&format!("{new} {}", self.count())));
        self.tell_system(now_ms, &customer, "user_changed_number", Some(&new), user_id.as_deref());
        self.customers.change(&customer, |it| (it.phone, it.user_id) = (Some(new.clone()), user_id.clone()));
        self.close_windows(&customer);
        Ok(())
    }

    /// The customer gets another user id and keeps the telephone number.
    pub(crate) fn customer_changes_user_id(&mut self, now_ms: i64, who: &str, user_id: &str) -> Result<(), Impossible> {
        let customer = self.known_customer(who)?;
        self.tell_system(now_ms, &customer, "user_changed_user_id", None, Some(user_id));
        self.customers.change(&customer, |it| it.user_id = Some(user_id.into()));
        Ok(())
    }

    /// Tells a change of a customer to every number that has a thread with them.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages/system>
    fn tell_system(&mut self, now_ms: i64, customer: &str, kind: &str, phone: Option<&str>, user_id: Option<&str>) {
        for number in self.numbers_of(customer) {
            let (Some(number), Some(account)) = (self.numbers.get(&number).cloned(), self.account_of(&number).cloned()) else { continue };
            let person = self.customers[customer].clone();
            let (before, id) = (Identity::of(&person, &account), self.wamid(customer, Author::Customer, now_ms));
            let changed = crate::book::Customer {
                user_id: user_id.map(str::to_owned),
                phone: phone.map(str::to_owned).or(person.phone.clone()),
                ..person
            };
            let after = Identity::of(&changed, &account);
            let what = if phone.is_some() { "changed their phone number" } else { "changed their user ID" };
            let mut content = json!({ "type": kind, "body": format!("User {} {what}", before.name) });
            put(&mut content, "wa_id", after.wa_id.as_deref());
            put(&mut content, "user_id", after.user_id.as_deref());
            put(&mut content, "previous_user_id", before.user_id.as_deref().filter(|_| before.user_id != after.user_id));
            let message = webhooks::message(&before, &id, now_ms, "system", content);
            let value = webhooks::arrived(&number, &before, message);
            self.tell(&account.id, Some(&number.id), "messages", &value, now_ms);
        }
    }

    /// What the customer's screen shows at `now_ms`, oldest first.
    pub(crate) fn screen(&self, now_ms: i64, who: &str) -> Result<Vec<Line>, Impossible> {
        let customer = self.known_customer(who)?;
        let is_shown = |it: &&Message| !matches!(it.kind.as_str(), "edit" | "revoke" | "request_welcome");
        Ok(self.messages_of(&customer, None).into_iter().filter(is_shown).map(|it| Line::of(it, now_ms)).collect())
    }
}

/// `messages[0]` as Meta tells it.
fn wire_message(identity: &Identity, id: &str, at_ms: i64, number: &Number, written: &Written, content: Value) -> Value {
    let mut message = webhooks::message(identity, id, at_ms, written.inbound.kind(), content);
    match &written.inbound {
        Inbound::Group { group_id, .. } => message["group_id"] = group_id.as_str().into(),
        Inbound::Unsupported { .. } => {
            message["errors"] = json!([Refusal::with(131_051, "Message type is currently not supported.").in_message()])
        }
        _ => {}
    }
    if let Some(quote) = &written.quote {
        message["context"] = json!({ "from": number.digits(), "id": quote });
    }
    if written.forwarded {
        message["context"]["forwarded"] = true.into();
    }
    if let Some(referral) = &written.referral {
        message["referral"] = referral.clone();
    }
    message
}
