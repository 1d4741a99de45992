//! The books: everything Meta would know. One value, kept behind one lock and in one JSON file.
//!
//! Here are the records, how they are found, and what the book may ask of itself. What Graph does with them is in
//! [`crate::sends`] and [`crate::assets`], what customers do in [`crate::customers`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::dialling;
use crate::directory::Directory;
use crate::errors::Refusal;
use crate::faults::Faults;
use crate::limits::{Counts, Limits};
use crate::outbox::{Destination, Outbox, hex};
use crate::templates::{self, Edit, Template, demo_templates};

/// Every webhook field an app can subscribe to that the simulator sends.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/overview#webhook-fields>
pub const FIELDS: &[&str] = &[
    "messages",
    "standby",
    "messaging_handovers",
    "calls",
    "user_preferences",
    "smb_message_echoes",
    "smb_app_state_sync",
    "history",
    "message_echoes",
    "message_template_status_update",
    "message_template_quality_update",
    "message_template_components_update",
    "template_category_update",
    "phone_number_quality_update",
    "phone_number_name_update",
    "account_update",
    "account_alerts",
    "account_review_update",
    "account_settings_update",
    "business_capability_update",
    "security",
    "flows",
];

/// Fields that follow an override of the callback URL; all others always go to the app's own callback.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/override>
const OVERRIDABLE: &[&str] = &[
    "messages",
    "message_echoes",
    "calls",
    "messaging_handovers",
    "smb_message_echoes",
    "smb_app_state_sync",
    "history",
    "account_settings_update",
];

/// An app: who is called, and whose secret signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// App id, digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// App secret.
    pub secret: String,
    /// Callback URL; without one its webhooks can only be stepped.
    pub callback: Option<String>,
    /// The word of the verification handshake.
    pub verify_token: String,
    /// The webhook fields it takes.
    pub fields: BTreeSet<String>,
    /// Whether calls need `appsecret_proof`.
    #[serde(default)]
    pub requires_secret_proof: bool,
}

impl App {
    /// An app that takes every field, without a callback.
    pub fn new(id: &str, secret: &str) -> Self {
        Self {
            id: id.into(),
            name: format!("App {id}"),
            secret: secret.into(),
            callback: None,
            verify_token: String::new(),
            fields: FIELDS.iter().map(|it| (*it).to_owned()).collect(),
            requires_secret_proof: false,
        }
    }
}

/// A callback that takes the place of the app's for one account or number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// The URL.
    pub url: String,
    /// The word of its handshake.
    pub verify_token: String,
}

/// A WhatsApp Business Account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// WABA id, digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The business portfolio it belongs to, to which user ids are scoped.
    pub portfolio: String,
    /// `APPROVED`, `PENDING` or `REJECTED`.
    #[serde(default = "approved")]
    pub account_review_status: String,
    /// The subscribed apps, with their override if they have one.
    pub subscribed: BTreeMap<String, Option<Override>>,
    /// `ONBOARDED` if it may use `/marketing_messages`.
    #[serde(default = "eligible")]
    pub marketing_messages_lite_api_status: String,
    /// Whether `/messages` refuses marketing templates.
    #[serde(default)]
    pub disable_marketing_messages_on_cloud_api: bool,
}

fn approved() -> String {
    "APPROVED".into()
}

fn eligible() -> String {
    "ELIGIBLE".into()
}

/// The portfolio of accounts that name none.
pub const PORTFOLIO: &str = "900000000000001";

impl Account {
    /// An account of the default portfolio, to which `app_id` is subscribed.
    pub fn new(id: &str, app_id: &str) -> Self {
        Self {
            id: id.into(),
            name: format!("Account {id}"),
            portfolio: PORTFOLIO.into(),
            account_review_status: approved(),
            subscribed: [(app_id.to_owned(), None)].into(),
            marketing_messages_lite_api_status: eligible(),
            disable_marketing_messages_on_cloud_api: false,
        }
    }
}

/// A business phone number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Number {
    /// Phone number id, digits.
    pub id: String,
    /// The WABA it belongs to.
    pub account: String,
    /// As Meta shows it: `+1 555-010-0001`.
    pub display_phone_number: String,
    /// The display name.
    pub verified_name: String,
    /// `CONNECTED` if it may send and receive.
    pub status: String,
    /// `GREEN`, `YELLOW`, `RED` or `UNKNOWN`.
    pub quality_rating: String,
    /// `VERIFIED`, `NOT_VERIFIED` or `EXPIRED`.
    pub code_verification_status: String,
    /// Messages per second, in and out together.
    pub throughput: usize,
    /// The two-step verification PIN, once set.
    pub pin: Option<String>,
    /// Whether it was registered for the Cloud API.
    pub registered: bool,
    /// When it was registered or deregistered, milliseconds.
    pub registrations_ms: Vec<i64>,
    /// A callback of its own.
    pub webhook: Option<Override>,
}

impl Number {
    /// A registered, verified number in good standing, `display_phone_number` as Meta shows it.
    pub fn new(id: &str, account: &str, display_phone_number: &str) -> Self {
        Self {
            id: id.into(),
            account: account.into(),
            display_phone_number: display_phone_number.into(),
            verified_name: "Example Clinic".into(),
            status: "CONNECTED".into(),
            quality_rating: "GREEN".into(),
            code_verification_status: "VERIFIED".into(),
            throughput: 80,
            pin: None,
            registered: true,
            registrations_ms: Vec::new(),
            webhook: None,
        }
    }

    /// The display phone number's digits, as webhooks show it.
    pub fn digits(&self) -> String {
        dialling::digits(&self.display_phone_number)
    }
}

/// An access token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The token itself.
    pub token: String,
    /// The app that it was made for.
    pub app_id: String,
    /// The WABAs it may touch.
    pub accounts: BTreeSet<String>,
    /// What it may do there.
    pub scopes: BTreeSet<String>,
    /// When it was made, milliseconds.
    pub issued_at_ms: i64,
    /// When it ends, milliseconds; never if absent.
    pub expires_at_ms: Option<i64>,
    /// The subcode of 190 under which it was taken away, if it was: 458, 460, 467, …
    pub revoked: Option<u32>,
}

/// A code of Embedded Signup, which is exchanged for a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignupCode {
    /// The app that it was made for.
    pub app_id: String,
    /// The token that it brings.
    pub token: String,
    /// When it ends, milliseconds.
    pub expires_at_ms: i64,
    /// Whether it was exchanged.
    pub used: bool,
}

/// Calls other than sends that fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailingCall {
    /// Those whose path, without the version, begins so.
    pub path: String,
    /// Meta's code, or the status where it is a file that is downloaded; a plain 503 without one.
    pub code: Option<u32>,
    /// How many of the next ones.
    pub times: u32,
}

/// A call other than a send whose answer is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutCall {
    /// So many are answered before it.
    pub after: u32,
    /// It is done, and only its answer is lost.
    pub is_done: bool,
    /// It is this one, which is made again once the callback has passed the handshake.
    pub is_in_handshake: bool,
}

/// The permission to send and to receive `messages`.
pub const MESSAGING: &str = "whatsapp_business_messaging";
/// The permission to read and change numbers, templates and subscriptions.
pub const MANAGEMENT: &str = "whatsapp_business_management";

impl Token {
    /// A system user's token with both permissions, that does not expire.
    pub fn new(token: &str, app_id: &str, accounts: &[&str]) -> Self {
        Self {
            token: token.into(),
            app_id: app_id.into(),
            accounts: accounts.iter().map(|it| (*it).to_owned()).collect(),
            scopes: [MESSAGING, MANAGEMENT].map(str::to_owned).into(),
            issued_at_ms: 0,
            expires_at_ms: None,
            revoked: None,
        }
    }
}

/// A WhatsApp user and the phone in their hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Customer {
    /// The simulator's own name of the person, which no change of phone or user id touches.
    #[serde(default)]
    pub key: String,
    /// The `wa_id`, digits; none if the person gave the telephone number up, or nobody knows it.
    #[serde(default)]
    pub phone: Option<String>,
    /// The business-scoped user id in the default portfolio.
    #[serde(default)]
    pub user_id: Option<String>,
    /// The username, without `@`.
    #[serde(default)]
    pub username: Option<String>,
    /// The profile name.
    #[serde(default = "nameless")]
    pub name: String,
    /// Whether businesses are told the phone number.
    #[serde(default = "yes")]
    pub shows_phone: bool,
    /// Whether the phone is reachable.
    #[serde(default = "yes")]
    pub online: bool,
    /// Whether the person reads at once what arrives.
    #[serde(default)]
    pub auto_read: bool,
    /// Whether businesses hear that something was read.
    #[serde(default = "yes")]
    pub read_receipts: bool,
    /// Whether the chat stands open: messages are read at once and Meta tells no `delivered`.
    #[serde(default)]
    pub chat_open: bool,
    /// Whether there is still a WhatsApp account.
    #[serde(default = "yes")]
    pub on_whatsapp: bool,
    /// The phone number ids this person has blocked.
    #[serde(default)]
    pub blocked: BTreeSet<String>,
    /// The portfolios whose marketing this person has stopped, on any of their numbers.
    #[serde(default)]
    pub stopped_marketing_of: BTreeSet<String>,
    /// Whether the person is part of an experiment of Meta's, and gets no marketing.
    #[serde(default)]
    pub in_experiment: bool,
}

fn nameless() -> String {
    "Customer".into()
}

fn yes() -> bool {
    true
}

impl Customer {
    /// A person known by telephone only.
    pub fn with_phone(phone: &str) -> Self {
        Self { phone: Some(dialling::digits(phone)), ..Self::nobody() }
    }

    /// A person with a username and a user id, whose telephone nobody knows.
    pub fn with_user_id(user_id: &str, username: &str) -> Self {
        Self { user_id: Some(user_id.into()), username: Some(username.trim_start_matches('@').into()), ..Self::nobody() }
    }

    /// The same person, known by a user id too.
    #[must_use]
    pub fn and_user_id(self, user_id: &str) -> Self {
        Self { user_id: Some(user_id.into()), ..self }
    }

    /// The same person, under this profile name.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: name.into(), ..self }
    }

    /// The same person, whose phone is only reachable when told.
    #[must_use]
    pub fn offline(self) -> Self {
        Self { online: false, ..self }
    }

    /// Blocks a number, or unblocks it.
    pub fn set_blocked(&mut self, number: &str, blocked: bool) {
        if blocked {
            self.blocked.insert(number.to_owned());
        } else {
            self.blocked.remove(number);
        }
    }

    fn nobody() -> Self {
        Self {
            key: String::new(),
            phone: None,
            user_id: None,
            username: None,
            name: nameless(),
            shows_phone: true,
            online: true,
            auto_read: false,
            read_receipts: true,
            chat_open: false,
            on_whatsapp: true,
            blocked: BTreeSet::new(),
            stopped_marketing_of: BTreeSet::new(),
            in_experiment: false,
        }
    }
}

/// Who wrote a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Author {
    /// The person.
    #[default]
    Customer,
    /// The business number.
    Business,
}

/// Why a message was not delivered, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Meta's error code.
    pub code: u32,
    /// Meta's title of it.
    pub title: String,
    /// Milliseconds.
    pub at: i64,
}

/// One message between a number and a customer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The wamid.
    pub id: String,
    /// Counts all messages, in the order in which Meta took them.
    pub sequence: u64,
    /// Phone number id.
    pub number: String,
    /// [`Customer::key`].
    pub customer: String,
    /// Who wrote it.
    pub author: Author,
    /// Its `type`.
    pub kind: String,
    /// The member named as the type.
    pub content: Value,
    /// The words a person sees, if it has any.
    pub text: Option<String>,
    /// When it was written, milliseconds.
    pub at_ms: i64,
    /// The wamid it answers.
    pub quote: Option<String>,
    /// Our data, which comes back in statuses.
    pub opaque: Option<String>,
    /// Pricing category: `service`, `utility`, ….
    pub category: String,
    /// Name and language of the template, if it is one.
    #[serde(default)]
    pub template: Option<(String, String)>,
    /// Whether Meta holds it to judge its template first.
    pub held: bool,
    /// First tick, milliseconds. May lie ahead: then it has not happened yet.
    pub sent_ms: Option<i64>,
    /// Second tick, likewise.
    pub delivered_ms: Option<i64>,
    /// Blue ticks, likewise.
    pub read_ms: Option<i64>,
    /// When a voice message was first played, likewise.
    pub played_ms: Option<i64>,
    /// Why and when it failed.
    pub failure: Option<Failure>,
    /// The emoji put on it by the other side.
    pub reaction: Option<String>,
    /// Whether it was edited.
    pub edited: bool,
    /// Whether it was deleted by its author.
    pub deleted: bool,
}

/// What Meta counts for one number and one customer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Thread {
    /// When the customer last wrote or called, by the message's own time: the window is open for 24 hours from here.
    pub opened_at_ms: Option<i64>,
    /// When the present burst began.
    pub burst_at_ms: i64,
    /// Messages in the present burst; each borrows six seconds.
    pub burst: i64,
    /// Until when the customer sees that the business is typing.
    pub typing_until_ms: i64,
}

/// A file that Meta keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Medium {
    /// Media id.
    pub id: String,
    /// The number it was sent to or uploaded for.
    pub number: String,
    /// MIME type.
    pub mime_type: String,
    /// The name under which it was uploaded.
    #[serde(default)]
    pub name: Option<String>,
    /// The bytes in base64.
    pub bytes: String,
    /// When it is forgotten, milliseconds.
    pub kept_until_ms: i64,
}

impl Medium {
    /// The file itself.
    pub(crate) fn content(&self) -> Vec<u8> {
        STANDARD.decode(&self.bytes).expect("the books keep base64")
    }

    /// Its SHA-256.
    pub(crate) fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.content()).into()
    }
}

/// How long after the step before it a phone does each step, milliseconds. All zero: at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// From acceptance to the first tick.
    pub sent_ms: i64,
    /// From there to the second.
    pub delivered_ms: i64,
    /// From there to the blue ones.
    pub read_ms: i64,
}

/// What the simulator starts with.
#[derive(Debug, Clone, PartialEq)]
pub struct Setup {
    /// Apps.
    pub apps: Vec<App>,
    /// WhatsApp Business Accounts.
    pub accounts: Vec<Account>,
    /// Business phone numbers.
    pub numbers: Vec<Number>,
    /// Access tokens.
    pub tokens: Vec<Token>,
    /// Templates, with the WABA they belong to.
    pub templates: Vec<(String, Template)>,
    /// Customers who exist from the start; all others appear when they write or are written to.
    pub customers: Vec<Customer>,
    /// Whether customers that appear have a business-scoped user id, as today's all have.
    pub user_ids: bool,
    /// Whether customers that appear read at once.
    pub auto_read: bool,
    /// How fast phones are.
    pub pace: Pace,
}

impl Setup {
    /// One app, one account with the [demo templates](demo_templates), one token, and numbers from +1 555-010-0001 on.
    pub fn of(app: App, account: &str, token: &str, numbers: &[&str]) -> Self {
        let number = |(index, id): (usize, &&str)| Number::new(id, account, &format!("+1 555-010-{:04}", index + 1));
        Self {
            accounts: vec![Account::new(account, &app.id)],
            numbers: numbers.iter().enumerate().map(number).collect(),
            tokens: vec![Token::new(token, &app.id, &[account])],
            apps: vec![app],
            templates: demo_templates().map(|it| (account.to_owned(), it)).into(),
            customers: Vec::new(),
            user_ids: true,
            auto_read: false,
            pace: Pace::default(),
        }
    }

    /// The demo connection: app 200000000000001, WABA 300000000000001, numbers 100000000000001 and 100000000000002.
    pub fn demo() -> Self {
        let mut app = App::new("200000000000001", "local-app-secret");
        app.verify_token = "local-verify-token".into();
        Self::of(app, "300000000000001", "local-access-token", &["100000000000001", "100000000000002"])
    }
}

/// Everything Meta knows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Book {
    pub(crate) apps: BTreeMap<String, App>,
    pub(crate) accounts: BTreeMap<String, Account>,
    pub(crate) numbers: BTreeMap<String, Number>,
    pub(crate) tokens: BTreeMap<String, Token>,
    pub(crate) templates: Vec<(String, Template)>,
    pub(crate) customers: Directory,
    pub(crate) messages: BTreeMap<String, Message>,
    /// The wamids of each customer's messages.
    #[serde(skip)]
    wamids: BTreeMap<String, Vec<String>>,
    threads: BTreeMap<String, Thread>,
    pub(crate) media: BTreeMap<String, Medium>,
    /// How often a file was uploaded for each number.
    #[serde(default)]
    pub(crate) uploads: BTreeMap<String, u32>,
    /// Times of the messages of the last second, per number.
    pub(crate) traffic_ms: BTreeMap<String, VecDeque<i64>>,
    /// How often a send was accepted, by our opaque data.
    pub(crate) accepted: BTreeMap<String, u32>,
    #[serde(default)]
    pub(crate) limits: Limits,
    #[serde(default)]
    pub(crate) counts: Counts,
    pub(crate) faults: Faults,
    /// How many of the next cursors have expired.
    #[serde(default)]
    pub(crate) expired_cursors: u32,
    /// Which calls other than sends fail.
    #[serde(default)]
    pub(crate) failing_calls: Vec<FailingCall>,
    /// So many of the next files that are downloaded are not what was announced.
    #[serde(default)]
    pub(crate) altered_files: u32,
    /// The next call whose answer is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cut_call: Option<CutCall>,
    /// The codes of Embedded Signup.
    #[serde(default)]
    pub(crate) codes: BTreeMap<String, SignupCode>,
    pub(crate) outbox: Outbox,
    pub(crate) user_ids: bool,
    pub(crate) auto_read: bool,
    pub(crate) pace: Pace,
    /// Where the simulator itself is reached, for media URLs.
    #[serde(skip)]
    pub(crate) base_url: Option<String>,
    counter: u64,
}

impl Book {
    /// Enters what `setup` names. What is there already keeps what happened to it, but takes the app's secret, and its callback if it names
    /// one, so that a book outlives a change of configuration.
    pub(crate) fn enter(&mut self, setup: Setup) {
        for app in setup.apps {
            let known = self.apps.entry(app.id.clone()).or_insert_with(|| app.clone());
            known.secret = app.secret;
            if app.callback.is_some() {
                (known.callback, known.verify_token) = (app.callback, app.verify_token);
            }
        }
        for account in setup.accounts {
            self.accounts.entry(account.id.clone()).or_insert(account);
        }
        self.index();
        for number in setup.numbers {
            self.numbers.entry(number.id.clone()).or_insert(number);
        }
        for token in setup.tokens {
            self.tokens.entry(token.token.clone()).or_insert(token);
        }
        for (account, template) in setup.templates {
            if self.template(&account, &template.name, &template.language).is_none() {
                self.put_template(&account, template);
            }
        }
        for customer in setup.customers {
            self.add_customer(customer);
        }
        (self.user_ids, self.auto_read, self.pace) = (setup.user_ids, setup.auto_read, setup.pace);
        self.outbox.forget_takers();
    }

    /// Makes ready what is not kept in the file: who is called what, and whose each message is.
    fn index(&mut self) {
        self.customers.set_portfolios(self.portfolios());
        self.wamids.clear();
        for message in self.messages.values() {
            self.wamids.entry(message.customer.clone()).or_default().push(message.id.clone());
        }
    }

    fn portfolios(&self) -> BTreeSet<String> {
        self.accounts.values().map(|it| it.portfolio.clone()).chain([PORTFOLIO.to_owned()]).collect()
    }

    /// Adds an account, or replaces it.
    pub(crate) fn put_account(&mut self, account: Account) {
        self.accounts.insert(account.id.clone(), account);
        self.customers.set_portfolios(self.portfolios());
    }

    /// Keeps a new message.
    pub(crate) fn put_message(&mut self, message: Message) {
        self.wamids.entry(message.customer.clone()).or_default().push(message.id.clone());
        self.messages.insert(message.id.clone(), message);
    }

    /// A number that no other call gave.
    pub(crate) fn count(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// A made-up number of fifteen digits, new each time.
    pub(crate) fn fresh_id(&mut self) -> String {
        format!("{}", 700_000_000_000_000 + self.count())
    }

    /// Graph's `fbtrace_id`.
    pub(crate) fn trace_id(&mut self) -> String {
        let digest = Sha256::digest(self.count().to_be_bytes());
        format!("A{}", URL_SAFE_NO_PAD.encode(&digest[..16]))
    }

    /// A wamid, which as Meta's do holds the customer's telephone number.
    pub(crate) fn wamid(&mut self, customer: &str, author: Author, now_ms: i64) -> String {
        let customer = &self.customers[customer];
        let name = customer.phone.clone().or_else(|| customer.user_id.clone()).unwrap_or_default();
        let digest = Sha256::digest(format!("{name} {now_ms} {}", self.count()));
        let unique: String = hex(&digest).to_uppercase().chars().take(18).collect();
        let direction = match author {
            Author::Business => 0x11,
            Author::Customer => 0x12,
        };
        let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
        let bytes =
            [&[0x1c, 0x18, length], name.as_bytes(), &[0x15, 0x02, 0x00, direction, 0x18, 0x12], unique.as_bytes(), &[0x00]].concat();
        format!("wamid.{}", STANDARD.encode(bytes))
    }

    /// What Meta counts for this number and customer.
    pub(crate) fn thread(&mut self, number: &str, customer: &str) -> &mut Thread {
        self.threads.entry(format!("{number}/{customer}")).or_default()
    }

    /// The threads of a customer, by phone number id.
    pub(crate) fn numbers_of(&self, customer: &str) -> Vec<String> {
        self.numbers.keys().filter(|it| self.threads.contains_key(&format!("{it}/{customer}"))).cloned().collect()
    }

    /// Forgets a customer's windows: those of a new telephone number begin closed.
    pub(crate) fn close_windows(&mut self, customer: &str) {
        for number in self.numbers_of(customer) {
            self.thread(&number, customer).opened_at_ms = None;
        }
    }

    /// The customer whom `who` names: a telephone in any form, a user id of any portfolio, a username, or a key.
    pub(crate) fn find_customer(&self, who: &str) -> Option<&Customer> {
        self.customers.find(who)
    }

    /// The customer whom `who` names, who comes into being if it is a telephone number that nobody has yet.
    pub(crate) fn customer(&mut self, who: &str) -> Option<String> {
        if let Some(customer) = self.find_customer(who) {
            return Some(customer.key.clone());
        }
        let phone = dialling::wa_id(&dialling::dialled(&format!("+{}", who.trim_start_matches('+')), "")?);
        Some(self.add_customer(Customer { auto_read: self.auto_read, ..Customer::with_phone(&phone) }.and_user_id_if(self.user_ids)))
    }

    /// Enters a customer, or changes the one with the same telephone or user id, and gives the key.
    pub(crate) fn add_customer(&mut self, mut customer: Customer) -> String {
        customer.phone = customer.phone.map(|it| dialling::digits(&it));
        let names = customer.user_id.iter().chain(&customer.phone);
        let known = names.filter_map(|it| self.find_customer(it)).map(|it| it.key.clone()).next();
        customer.key = known.unwrap_or_else(|| format!("c{}", self.count()));
        let key = customer.key.clone();
        self.customers.insert(customer);
        key
    }

    /// The customer's business-scoped user id for a portfolio: another one in each.
    pub(crate) fn user_id_in(portfolio: &str, customer: &Customer) -> Option<String> {
        let own = customer.user_id.as_ref()?;
        if portfolio == PORTFOLIO {
            return Some(own.clone());
        }
        let country = own.split('.').next().unwrap_or("US");
        Some(format!("{country}.{}", decimal(&format!("{portfolio} {own}"))))
    }

    /// The number, or Graph's refusal.
    pub(crate) fn number(&self, method: &str, id: &str) -> Result<&Number, Refusal> {
        self.numbers.get(id).ok_or_else(|| Refusal::no_object(method, id))
    }

    /// The account a number belongs to.
    pub(crate) fn account_of(&self, number: &str) -> Option<&Account> {
        self.accounts.get(&self.numbers.get(number)?.account)
    }

    /// The messages between a customer and, if named, one number, oldest first.
    pub(crate) fn messages_of(&self, customer: &str, number: Option<&str>) -> Vec<&Message> {
        let wamids = self.wamids.get(customer).into_iter().flatten();
        let messages = wamids.filter_map(|it| self.messages.get(it)).filter(|it| number.is_none_or(|number| it.number == number));
        let mut messages: Vec<&Message> = messages.collect();
        messages.sort_by_key(|it| (it.at_ms, it.sequence));
        messages
    }

    /// Adds or replaces a template of an account, by name and language.
    pub(crate) fn put_template(&mut self, account: &str, template: Template) {
        let template = Template { language: templates::as_listed(&template.language), ..template };
        match self.template(account, &template.name, &template.language) {
            Some(known) => *known = template,
            None => self.templates.push((account.to_owned(), template)),
        }
    }

    /// A template of an account; `en-US` is `en_US`.
    pub(crate) fn template(&mut self, account: &str, name: &str, language: &str) -> Option<&mut Template> {
        let language = templates::as_listed(language);
        let is_same = |(owner, it): &&mut (String, Template)| owner == account && it.name == name && it.language == language;
        self.templates.iter_mut().find(is_same).map(|(_, it)| it)
    }

    /// Changes a template and tells it; whether there is one.
    pub(crate) fn edit_template(&mut self, now_ms: i64, account: &str, name: &str, language: &str, edit: &Edit) -> bool {
        let Some(template) = self.template(account, name, language) else { return false };
        let (field, value) = template.edit(edit, now_ms);
        self.templates.retain(|(_, it)| it.status != "DELETED");
        self.tell(account, None, field, &value, now_ms);
        true
    }

    /// Decides on the templates whose messages are held, and so on the messages; how many these were.
    pub(crate) fn release_held(&mut self, now_ms: i64, delivered: bool) -> usize {
        let held: Vec<Message> = self.messages.values().filter(|it| it.held).cloned().collect();
        let mut judged = BTreeSet::new();
        for message in &held {
            if delivered {
                self.start_delivery(&message.id, now_ms);
            } else {
                self.fail(&message.id, &Refusal::with(132_015, "The template was paused while the message was held."), now_ms);
            }
            let account = self.numbers.get(&message.number).map(|it| it.account.clone());
            judged.extend(account.zip(message.template.clone()));
        }
        for (account, (name, language)) in judged {
            let Some(template) = self.template(&account, &name, &language) else { continue };
            if delivered {
                (template.held, template.hold_after) = (false, None);
                continue;
            }
            template.status = "PAUSED".into();
            let mut value = template.status_told("PAUSED");
            value["other_info"] =
                json!({ "title": "RATE_LIMITING_PAUSE", "description": "Your template was paused while its messages were held." });
            self.tell(&account, None, "message_template_status_update", &value, now_ms);
        }
        held.len()
    }

    /// Sets the limits, and tells every account of another messaging limit.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/business_capability_update>
    pub(crate) fn set_limits(&mut self, now_ms: i64, limits: Limits) {
        let before = std::mem::replace(&mut self.limits, limits);
        if before.tier() == self.limits.tier() {
            return;
        }
        let value = json!({ "max_daily_conversations_per_business": self.limits.tier(), "max_phone_numbers_per_business": 20 });
        for account in self.accounts.keys().cloned().collect::<Vec<_>>() {
            self.tell(&account, None, "business_capability_update", &value, now_ms);
        }
    }

    /// Sends a change of an account, or of one of its numbers, to the apps that are subscribed to it.
    pub(crate) fn tell(&mut self, account: &str, number: Option<&str>, field: &str, value: &Value, at_ms: i64) {
        let Some(subscribed) = self.accounts.get(account).map(|it| &it.subscribed) else { return };
        let of_number = number.and_then(|it| self.numbers.get(it)).and_then(|it| it.webhook.as_ref());
        let mut destinations = Vec::new();
        for (app_id, of_account) in subscribed {
            let Some(app) = self.apps.get(app_id).filter(|it| it.fields.contains(field)) else { continue };
            let overriding = of_number.or(of_account.as_ref()).filter(|_| OVERRIDABLE.contains(&field));
            destinations
                .push(Destination { app_id: app_id.clone(), url: overriding.map(|it| it.url.clone()).or_else(|| app.callback.clone()) });
        }
        self.outbox.push(&destinations, account, field, value, at_ms);
    }
}

impl Customer {
    /// With a user id made from the telephone number, if asked.
    fn and_user_id_if(self, asked: bool) -> Self {
        match &self.phone {
            Some(phone) if asked => {
                let user_id = user_id_of(phone);
                self.and_user_id(&user_id)
            }
            _ => self,
        }
    }
}

/// A business-scoped user id made from a telephone number that it does not show.
pub(crate) fn user_id_of(phone: &str) -> String {
    format!("{}.{}", dialling::country(phone), decimal(phone))
}

/// Sixteen digits made from `text`.
fn decimal(text: &str) -> String {
    let digest = Sha256::digest(text);
    let number = digest.iter().take(8).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    format!("{}", 1_000_000_000_000_000 + number % 9_000_000_000_000_000)
}
