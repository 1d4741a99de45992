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
mod errors;
mod faults;
mod graph;
mod outbox;
mod phones;
mod rules;
mod sends;
mod server;
mod templates;
mod ticks;
mod webhooks;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use assets::SMS_CODE;
pub use book::{
    Account, App, Author, Customer, FIELDS, Failure, MANAGEMENT, MESSAGING, Message, Number, Override, PORTFOLIO, Pace, Setup, Token,
};
pub use clock::{Clock, ManualClock, SystemClock};
pub use customers::{File, Impossible, Inbound, Line, Written};
pub use delivery::loopback_client;
pub use errors::Refusal;
pub use faults::{Fault, Rule};
pub use outbox::{FIRST_PAUSE_MS, LONGEST_PAUSE_MS, Mode, REPEATED_FOR_MS, UNANSWERED_FOR_MS, Webhook, signature};
pub use phones::Phone;
pub use sends::{PAIR_BURST, PAIR_PAUSE_MS, WINDOW_MS};
pub use templates::Template;

use book::Book;

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
            if let Some(customer) = book.customers.get_mut(&key) {
                change(customer);
            }
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
        self.change(|book, _| drop(book.accounts.insert(account.id.clone(), account)));
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
            let found = book.templates.iter_mut().find(|(owner, it)| owner == account && it.name == name && it.language == language);
            let Some((_, template)) = found else { return false };
            template.status = status.into();
            let value = json!({ "event": status, "message_template_id": template.id.parse::<u64>().unwrap_or_default(), "message_template_name": name,
                "message_template_language": language, "message_template_category": template.category, "reason": "NONE" });
            book.tell(account, None, "message_template_status_update", &value, now_ms);
            true
        })
    }

    /// Ends Meta's hold on messages of held templates: they are delivered, or fail with 132015. Gives how many there were.
    pub fn release_held(&self, delivered: bool) -> usize {
        self.change(|book, now_ms| {
            let held: Vec<String> = book.messages.values().filter(|it| it.held).map(|it| it.id.clone()).collect();
            for id in &held {
                if delivered {
                    book.start_delivery(id, now_ms);
                } else {
                    book.fail(id, &Refusal::with(132_015, "The template was paused while the message was held."), now_ms);
                }
            }
            held.len()
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
        self.change(|book, _| book.faults.add(number, times, fault))
    }

    /// Forgets one fault, or all.
    pub fn clear_faults(&self, id: Option<u64>) {
        self.change(|book, _| book.faults.clear(id));
    }

    /// How often a send was accepted, by its `biz_opaque_callback_data`, or by its wamid if it had none.
    pub fn accepted(&self, opaque_or_wamid: &str) -> u32 {
        self.look(|book, _| book.accepted.get(opaque_or_wamid).copied().unwrap_or_default())
    }

    /// Every send that was accepted, and how often.
    pub fn all_accepted(&self) -> std::collections::BTreeMap<String, u32> {
        self.look(|book, _| book.accepted.clone())
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
