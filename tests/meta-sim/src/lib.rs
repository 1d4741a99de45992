//! A simulator of Meta's WhatsApp Cloud API: Graph over HTTP, signed webhooks, and customers with phones.
//!
//! An oracle, not a stub: it validates, counts, refuses and remembers as Meta documents it, in books of its own. It must not
//! depend on any other crate of this workspace: Meta's rules are written here a second time, by another hand, so that the two can
//! be compared.
//!
//! [`Simulator`] is the library's handle; the program `meta-sim` adds the machine's clock, a file, and `/sim` for people and curl.

mod assets;
mod book;
mod clock;
mod control;
mod customers;
mod delivery;
mod dialling;
mod directory;
mod errors;
mod faults;
mod files;
mod filling;
mod graph;
mod limits;
mod outbox;
mod phones;
mod received;
mod rules;
mod sends;
mod server;
mod templates;
mod ticks;
mod webhooks;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use assets::{CODE_MS, SMS_CODE};
pub use book::{
    Account, App, Author, Customer, CutCall, FIELDS, FailingCall, Failure, MANAGEMENT, MESSAGING, Message, Number, Override, PORTFOLIO,
    Pace, Setup, SignupCode, Token,
};
pub use clock::{Clock, ManualClock, SystemClock};
pub use customers::{File, Impossible, Inbound, Line, Written};
pub use delivery::loopback_client;
pub use errors::Refusal;
pub use faults::{Fault, Rule};
pub use files::smallest_file;
pub use limits::Limits;
pub use outbox::{FIRST_PAUSE_MS, LONGEST_PAUSE_MS, Mode, REPEATED_FOR_MS, UNANSWERED_FOR_MS, Webhook, signature};
pub use phones::Phone;
pub use received::Received;
pub use sends::{PAIR_BURST, PAIR_PAUSE_MS, WINDOW_MS};
pub use templates::demo_templates;
pub use templates::{Edit, Quality, Template};

use book::Book;
use graph::Credentials;
use sends::Way;

/// The simulated Meta. Clones are handles on the same books.
#[derive(Clone)]
pub struct Simulator(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    book: Mutex<Book>,
    file: Option<PathBuf>,
    /// Counts changes, so that whoever saves or delivers knows when to look.
    changes: watch::Sender<u64>,
    http: reqwest::Client,
    /// HTTP requests that have arrived, and those of them that were answered or given up.
    begun: AtomicU64,
    ended: AtomicU64,
}

/// The HTTP requests that a simulator has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requests {
    /// How many have arrived.
    pub begun: u64,
    /// How many of them were answered or given up.
    pub ended: u64,
}

impl std::fmt::Debug for Simulator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Simulator").field("file", &self.0.file).finish_non_exhaustive()
    }
}

/// Why the books could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system refused.
    #[error("the books in `{path}` could not be read or written")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What is in the file are no books.
    #[error("`{path}` does not hold a simulator's books")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// A file that Meta keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFile {
    /// The number it was sent to or uploaded for.
    pub number: String,
    /// MIME type.
    pub mime_type: String,
    /// The name under which it was uploaded.
    pub name: Option<String>,
    /// The file itself.
    pub bytes: Vec<u8>,
}

impl Simulator {
    /// A simulator whose books live in memory.
    pub fn new(clock: impl Clock, setup: Setup) -> Self {
        Self::with_book(clock, setup, Book::default(), None)
    }

    /// A simulator whose books live in `file`, continued from there if it exists.
    ///
    /// # Errors
    ///
    /// [`FileError`] if the file exists and cannot be read.
    pub fn open(clock: impl Clock, setup: Setup, file: &Path) -> Result<Self, FileError> {
        let book = match std::fs::read(file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| FileError::Corrupt { path: file.into(), source })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Book::default(),
            Err(source) => return Err(FileError::Io { path: file.into(), source }),
        };
        Ok(Self::with_book(clock, setup, book, Some(file.into())))
    }

    fn with_book(clock: impl Clock, setup: Setup, mut book: Book, file: Option<PathBuf>) -> Self {
        book.enter(setup);
        let changes = watch::Sender::new(0);
        let (begun, ended) = (AtomicU64::new(0), AtomicU64::new(0));
        let http = delivery::loopback_client();
        Self(Arc::new(Inner { clock: Arc::new(clock), book: Mutex::new(book), file, changes, http, begun, ended }))
    }

    /// Writes the books to their file, if they have one: whole or not at all.
    ///
    /// # Errors
    ///
    /// [`FileError::Io`].
    pub fn save(&self) -> Result<(), FileError> {
        let Some(path) = &self.0.file else { return Ok(()) };
        let text = self.look(|book, _| serde_json::to_vec(book)).map_err(|source| FileError::Corrupt { path: path.clone(), source })?;
        let beside = path.with_extension("writing");
        let written = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path));
        written.map_err(|source| FileError::Io { path: path.clone(), source })
    }

    /// Answers HTTP on `listener`, Graph and `/sim`, until the future is dropped.
    ///
    /// # Errors
    ///
    /// What the listener says when it breaks.
    pub async fn serve(&self, listener: TcpListener) -> io::Result<()> {
        self.reachable_at(&format!("http://{}", listener.local_addr()?));
        server::serve(self.clone(), listener).await
    }

    /// How many HTTP requests have arrived, and how many are over.
    pub fn requests(&self) -> Requests {
        Requests { begun: self.0.begun.load(Ordering::Relaxed), ended: self.0.ended.load(Ordering::Relaxed) }
    }

    /// Says where this simulator is reached, for the URLs of media. [`Simulator::serve`] does so too.
    pub fn reachable_at(&self, base_url: &str) {
        self.change(|book, _| book.base_url = Some(base_url.trim_end_matches('/').into()));
    }

    /// Now, by the simulator's clock, in milliseconds.
    pub fn now_ms(&self) -> i64 {
        self.0.clock.now_ms()
    }

    /// A customer writes to a number; gives the wamid. A telephone number that nobody has becomes a customer.
    ///
    /// # Errors
    ///
    /// See [`Impossible`].
    pub fn customer_writes(&self, who: &str, number: &str, written: impl Into<Written>) -> Result<String, Impossible> {
        let written = written.into();
        self.change(|book, now_ms| book.customer_writes(now_ms, who, number, &written))
    }

    /// The phone of a customer: a telephone number in any form, a user id, or a username.
    pub fn phone(&self, who: &str) -> Phone {
        Phone::new(self.clone(), who)
    }

    /// Enters a customer, or changes the one with the same telephone or user id.
    pub fn add_customer(&self, customer: Customer) {
        self.change(|book, _| drop(book.add_customer(customer)));
    }

    /// Changes a customer, who comes into being if `who` is a telephone number that nobody has.
    ///
    /// # Errors
    ///
    /// [`Impossible::NoCustomer`].
    pub fn change_customer(&self, who: &str, change: impl FnOnce(&mut Customer)) -> Result<(), Impossible> {
        self.change(|book, _| {
            let key = book.customer(who).ok_or_else(|| Impossible::NoCustomer(who.into()))?;
            book.customers.change(&key, change);
            Ok(())
        })
    }

    /// Changes a number: throughput, status, registration, ….
    ///
    /// # Errors
    ///
    /// [`Impossible::NoNumber`].
    pub fn change_number(&self, id: &str, change: impl FnOnce(&mut Number)) -> Result<(), Impossible> {
        self.change(|book, _| {
            change(book.numbers.get_mut(id).ok_or_else(|| Impossible::NoNumber(id.into()))?);
            Ok(())
        })
    }

    /// Adds an app, or replaces it.
    pub fn put_app(&self, app: App) {
        self.change(|book, _| drop(book.apps.insert(app.id.clone(), app)));
    }

    /// Adds an account, or replaces it.
    pub fn put_account(&self, account: Account) {
        self.change(|book, _| book.put_account(account));
    }

    /// Changes an account: whether it may use `/marketing_messages`, whether `/messages` takes its marketing templates, ….
    ///
    /// # Errors
    ///
    /// [`Impossible::NoAccount`].
    pub fn change_account(&self, id: &str, change: impl FnOnce(&mut Account)) -> Result<(), Impossible> {
        self.change(|book, _| {
            let mut account = book.accounts.get(id).cloned().ok_or_else(|| Impossible::NoAccount(id.into()))?;
            change(&mut account);
            book.put_account(account);
            Ok(())
        })
    }

    /// Adds a number, or replaces it.
    pub fn put_number(&self, number: Number) {
        self.change(|book, _| drop(book.numbers.insert(number.id.clone(), number)));
    }

    /// Adds a token, or replaces it.
    pub fn put_token(&self, token: Token) {
        self.change(|book, _| drop(book.tokens.insert(token.token.clone(), token)));
    }

    /// Ends a token now: 190 with subcode 463. Tells whether there is such a token.
    pub fn expire_token(&self, token: &str) -> bool {
        self.change(|book, now_ms| book.tokens.get_mut(token).map(|it| it.expires_at_ms = Some(now_ms)).is_some())
    }

    /// Takes a token away: 190 with `subcode` (458 app removed, 460 password changed, 467 invalid). Tells whether there is such a token.
    pub fn revoke_token(&self, token: &str, subcode: u32) -> bool {
        self.change(|book, _| book.tokens.get_mut(token).map(|it| it.revoked = Some(subcode)).is_some())
    }

    /// Adds a template, or replaces the one of the same name and language, without a webhook.
    pub fn put_template(&self, account: &str, template: Template) {
        self.change(|book, _| book.put_template(account, template));
    }

    /// Changes a template's status and tells it by `message_template_status_update`. Tells whether there is such a template.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/message_template_status_update>
    pub fn set_template_status(&self, account: &str, name: &str, language: &str, status: &str) -> bool {
        self.change(|book, now_ms| {
            let Some(template) = book.template(account, name, language) else { return false };
            template.status = status.into();
            let value = template.status_told(status);
            book.tell(account, None, "message_template_status_update", &value, now_ms);
            true
        })
    }

    /// Changes a template and tells it by the webhook of that change. Tells whether there is such a template.
    pub fn edit_template(&self, account: &str, name: &str, language: &str, edit: &Edit) -> bool {
        self.change(|book, now_ms| book.edit_template(now_ms, account, name, language, edit))
    }

    /// Meta decides on what it holds. Well: the messages go out, and those templates are held no more. Badly: they fail with 132015,
    /// and the templates are paused, which is told by webhook. Gives how many messages there were.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/template-pacing>
    pub fn release_held(&self, delivered: bool) -> usize {
        self.change(|book, now_ms| book.release_held(now_ms, delivered))
    }

    /// Sets Meta's limits; another messaging limit is told to every account by `business_capability_update`.
    pub fn set_limits(&self, limits: Limits) {
        self.change(|book, now_ms| book.set_limits(now_ms, limits));
    }

    /// What Graph answers to a send, without HTTP and therefore without faults.
    ///
    /// # Errors
    ///
    /// Meta's refusals.
    pub fn send(&self, number: &str, token: &str, body: &Value) -> Result<Value, Refusal> {
        self.change(|book, now_ms| {
            let number = book.admit_sender(now_ms, number, Credentials { token: Some(token), proof: None })?;
            book.post_message(now_ms, &number, Way::Messages, body, None)
        })
    }

    /// Sends a webhook of an account with any field and value: account, template and quality notices, history, ….
    pub fn tell_account(&self, account: &str, field: &str, value: &Value) {
        self.change(|book, now_ms| book.tell(account, None, field, value, now_ms));
    }

    /// Passes the thread to us (`control_passed`) or takes it from us (`control_taken`).
    ///
    /// # Errors
    ///
    /// See [`Impossible`].
    pub fn hand_over(&self, who: &str, number: &str, kind: &str) -> Result<(), Impossible> {
        self.change(|book, now_ms| book.hand_over(now_ms, who, number, kind))
    }

    /// A person of the business writes in the WhatsApp Business app, told by `smb_message_echoes`; gives the wamid.
    ///
    /// # Errors
    ///
    /// See [`Impossible`].
    pub fn person_writes(&self, who: &str, number: &str, text: &str) -> Result<String, Impossible> {
        self.change(|book, now_ms| book.person_writes(now_ms, who, number, text))
    }

    /// The next `times` sends of `number`, or of any, meet this fault; until cleared if `times` is absent. Gives the rule's id.
    pub fn fail_next(&self, number: Option<&str>, times: Option<u32>, fault: Fault) -> u64 {
        let number = number.map(str::to_owned);
        self.change(|book, _| book.faults.add(Rule { id: 0, number, times, share: None, fault }))
    }

    /// This share (0 to 1) of all sends of `number`, or of any, meets this fault, until cleared. The shares of several rules add up; which
    /// sends they meet follows from [`Simulator::sow`] and the order of sends alone. Gives the rule's id.
    pub fn fail_share(&self, number: Option<&str>, share: f64, fault: Fault) -> u64 {
        let number = number.map(str::to_owned);
        self.change(|book, _| book.faults.add(Rule { id: 0, number, times: None, share: Some(share), fault }))
    }

    /// Begins the draws of [`Simulator::fail_share`] anew, from this seed; from 0 if never called.
    pub fn sow(&self, seed: u64) {
        self.change(|book, _| book.faults.sow(seed));
    }

    /// How many sends a fault has met so far.
    pub fn met(&self, fault: u64) -> u64 {
        self.look(|book, _| book.faults.met(fault))
    }

    /// The next `times` calls other than sends whose path (without the version) begins with `path` fail: with Meta's `code`, or with a
    /// plain 503. Fetching a file is a call of the path `whatsapp_business/attachments`, whose code is an HTTP status.
    pub fn fail_calls(&self, path: &str, code: Option<u32>, times: u32) {
        self.change(|book, _| book.failing_calls.push(FailingCall { path: path.into(), code, times }));
    }

    /// The next so many files that are downloaded hold something else than was announced.
    pub fn alter_files(&self, times: u32) {
        self.change(|book, _| book.altered_files = times);
    }

    /// After so many more calls other than sends the connection is lost once: before the call is done, or after it.
    pub fn cut_call(&self, after: u32, is_done: bool) {
        self.change(|book, _| book.cut_call = Some(CutCall { after, is_done, is_in_handshake: false }));
    }

    /// Is the call of [`Simulator::cut_call`] still to come?
    pub fn will_cut(&self) -> bool {
        self.look(|book, _| book.cut_call.is_some())
    }

    /// A person has signed in with Meta for `app_id`: the code is good for 30 seconds, and brings `token`.
    pub fn put_code(&self, code: &str, app_id: &str, token: &str) {
        self.change(|book, now_ms| {
            let code_of = SignupCode { app_id: app_id.into(), token: token.into(), expires_at_ms: now_ms + CODE_MS, used: false };
            book.codes.insert(code.into(), code_of);
        });
    }

    /// An app as it stands.
    pub fn app(&self, id: &str) -> Option<App> {
        self.look(|book, _| book.apps.get(id).cloned())
    }

    /// An account as it stands.
    pub fn account(&self, id: &str) -> Option<Account> {
        self.look(|book, _| book.accounts.get(id).cloned())
    }

    /// A number as it stands.
    pub fn number(&self, id: &str) -> Option<Number> {
        self.look(|book, _| book.numbers.get(id).cloned())
    }

    /// Changes a token. Tells whether there is such a token.
    pub fn change_token(&self, token: &str, change: impl FnOnce(&mut Token)) -> bool {
        self.change(|book, _| book.tokens.get_mut(token).map(change).is_some())
    }

    /// The next `times` cursors with which a list of templates is read have expired.
    pub fn expire_cursors(&self, times: u32) {
        self.change(|book, _| book.expired_cursors = times);
    }

    /// Forgets one fault, or all.
    pub fn clear_faults(&self, id: Option<u64>) {
        self.change(|book, _| book.faults.clear(id));
    }

    /// How often a file was uploaded for a number.
    pub fn uploads(&self, number: &str) -> u32 {
        self.look(|book, _| book.uploads.get(number).copied().unwrap_or_default())
    }

    /// A file that Meta keeps, by its media id.
    pub fn file(&self, id: &str) -> Option<KeptFile> {
        self.look(|book, now_ms| {
            let medium = book.media.get(id).filter(|it| it.kept_until_ms > now_ms)?;
            let (number, mime_type, name) = (medium.number.clone(), medium.mime_type.clone(), medium.name.clone());
            Some(KeptFile { number, mime_type, name, bytes: medium.content() })
        })
    }

    /// Forgets a file before its time. Tells whether there is one.
    pub fn forget_file(&self, id: &str) -> bool {
        self.change(|book, _| book.media.remove(id).is_some())
    }

    /// How often a send was accepted, by its `biz_opaque_callback_data`, or by its wamid if it had none.
    pub fn accepted(&self, opaque_or_wamid: &str) -> u32 {
        self.look(|book, _| book.accepted.get(opaque_or_wamid).copied().unwrap_or_default())
    }

    /// Every send that was accepted, and how often.
    pub fn all_accepted(&self) -> BTreeMap<String, u32> {
        self.look(|book, _| book.accepted.clone())
    }

    /// What has arrived on a customer's phone from any number, oldest first; nothing if there is no such customer.
    pub fn received(&self, who: &str) -> Vec<Received> {
        self.look(|book, now_ms| book.find_customer(who).map_or_else(Vec::new, |it| book.received(now_ms, &it.key)))
    }

    /// The same for every customer, by telephone, or by user id if there is no telephone. Customers who received nothing are left out.
    pub fn all_received(&self) -> BTreeMap<String, Vec<Received>> {
        self.look(|book, now_ms| book.all_received(now_ms))
    }

    /// When each accepted send of a number was accepted, in order, milliseconds.
    pub fn sends_of(&self, number: &str) -> Vec<i64> {
        self.look(|book, _| book.counts.sends_ms.get(number).cloned().unwrap_or_default())
    }

    /// How many sends of a number were refused with 130429 for their rate. Those that a fault refused are not among them.
    pub fn throttled_of(&self, number: &str) -> u64 {
        self.look(|book, _| book.counts.throttled.get(number).copied().unwrap_or_default())
    }

    /// A message by its wamid.
    pub fn message(&self, wamid: &str) -> Option<Message> {
        self.look(|book, _| book.messages.get(wamid).cloned())
    }

    /// Whether Meta's own books hold the window open now.
    pub fn is_window_open(&self, who: &str, number: &str) -> bool {
        self.change(|book, now_ms| {
            let Some(key) = book.find_customer(who).map(|it| it.key.clone()) else { return false };
            book.thread(number, &key).opened_at_ms.is_some_and(|it| now_ms < it + WINDOW_MS)
        })
    }

    /// Sets how webhooks are made and sent out.
    pub fn set_mode(&self, mode: Mode) {
        self.change(|book, _| book.outbox.mode = mode);
    }

    /// The webhooks that are due now. Report each by [`Simulator::answered`]; one that is not counts as failed after a while.
    pub fn take_webhooks(&self) -> Vec<Webhook> {
        self.change(|book, now_ms| {
            let apps = &book.apps;
            let secret_of = |app_id: &str| apps.get(app_id).map(|it| it.secret.clone()).unwrap_or_default();
            book.outbox.take(now_ms, secret_of)
        })
    }

    /// Tells what a webhook was answered with: 200 settles it, everything else has it repeated.
    pub fn answered(&self, id: u64, status: u16) {
        self.change(|book, now_ms| book.outbox.answered(id, status, now_ms));
    }

    /// How many updates and webhooks were not yet answered with 200.
    pub fn unsent_webhooks(&self) -> usize {
        self.look(|book, _| book.outbox.unsent())
    }

    /// When the next webhook is due, in milliseconds.
    pub fn next_webhook_at_ms(&self) -> Option<i64> {
        self.look(|book, _| book.outbox.next_due_ms())
    }

    /// Changes the books.
    fn change<R>(&self, change: impl FnOnce(&mut Book, i64) -> R) -> R {
        let now_ms = self.now_ms();
        let result = change(&mut self.lock(), now_ms);
        self.0.changes.send_modify(|it| *it += 1);
        result
    }

    /// Looks into the books.
    fn look<R>(&self, look: impl FnOnce(&Book, i64) -> R) -> R {
        let now_ms = self.now_ms();
        look(&self.lock(), now_ms)
    }

    /// A test that panicked while it held the lock leaves books that are still whole enough to look at.
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
