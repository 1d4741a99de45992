//! A webhook: proved to be Meta's, taken apart, and queued whole. No DynamoDB write and no Graph call happens here.

mod oversize;

use std::collections::{BTreeMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::connection::Connection;
use domain::customer::Customer;
use domain::ids::{AppId, ConnectionId, NumberId, WabaId, hash};
use domain::message::{Event, Profile};
use domain::time::Timestamp;
use meta::signature::{Verified, is_same_secret};
use meta::webhook::{self, Heard, Ignored, Notice, StatusHeard, Update, What};
use serde::Serialize;

use self::oversize::{Cut, Oversize, PIECE_BYTES};
use crate::counts::Counts;
use crate::directory::{Directory, DirectoryError, Owner, Owners, REMEMBERED};
use crate::feed::body;
use crate::jobs::{Probe, Quarantined, StatusTold, Told, V1, Written};
use crate::queues::{Entry, Queue, QueueError, Queues};
use crate::redelivery::Retryable;
use crate::store::StoreError;

/// At most so many events of one customer travel together.
const EVENTS: usize = 25;
/// At most so many statuses travel together.
const STATUSES: usize = 100;
/// A piece of what was not understood, before base64: SQS takes 1 MiB.
const QUARANTINED_BYTES: usize = 600 * 1_024;

/// At most so many names of what was not understood travel with it: a body could hold thousands.
const REASONS: usize = 100;

/// What Meta is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// All of it is kept: 200.
    Kept,
    /// It is not Meta who speaks, or nobody's app: one and the same empty answer, whatever the reason.
    Refused,
}

/// Why a webhook could not be kept: Meta repeats it.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// Whose app it is, or whose number, could not be looked up.
    #[error("the owner of a webhook could not be looked up")]
    Directory {
        /// The cause.
        #[from]
        source: DirectoryError,
    },
    /// Whose number it is could not be looked up.
    #[error("the owner of a number could not be looked up")]
    Owner {
        /// The cause.
        #[from]
        source: StoreError,
    },
    /// A queue did not take all of it.
    #[error("a webhook could not be queued whole")]
    Queue {
        /// The cause.
        #[from]
        source: QueueError,
    },
}

impl Retryable for IngestError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Directory { source } => source.is_retryable(),
            Self::Owner { source } => source.is_retryable(),
            Self::Queue { source } => source.is_retryable(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Directory { source } => source.code(),
            Self::Owner { source } => source.code(),
            Self::Queue { source } => source.code(),
        }
    }
}

/// The handles of the webhook.
pub struct Ingest<'a> {
    /// Sends.
    pub queues: &'a Queues,
    /// Apps.
    pub directory: &'a Directory,
    /// Whose numbers are.
    pub owners: &'a Owners,
    /// What is counted.
    pub counts: &'a Counts,
}

/// Meta checks the callback: does it say what it must?
///
/// <https://developers.facebook.com/docs/graph-api/webhooks/getting-started#verification-requests>
///
/// # Errors
/// [`IngestError`] if the app could not be looked up.
pub async fn proves_subscription(directory: &Directory, app: &str, verify_token: &str, now: Timestamp) -> Result<bool, IngestError> {
    let Ok(app) = AppId::parse(app) else { return Ok(false) };
    let holds = |it: &crate::directory::KnownApp| is_same_secret(it.verify_token.expose().as_bytes(), verify_token.as_bytes());
    if directory.app(&app, now).await?.is_some_and(|it| holds(&it)) {
        return Ok(true);
    }
    Ok(directory.app_afresh(&app, now).await?.is_some_and(|it| holds(&it)))
}

impl Ingest<'_> {
    /// Takes in the raw bytes of a webhook.
    ///
    /// # Errors
    /// [`IngestError`]: not all of it is kept, and Meta must repeat it.
    pub async fn receive(&self, app: &str, signature: Option<&str>, bytes: &[u8], now: Timestamp) -> Result<Answer, IngestError> {
        let Ok(app) = AppId::parse(app) else {
            self.counts.one("webhook.refused");
            return Ok(Answer::Refused);
        };
        let Some(verified) = self.verify(&app, signature, bytes, now).await? else {
            self.counts.one("webhook.refused");
            return Ok(Answer::Refused);
        };
        match webhook::parse(&verified) {
            Ok(heard) => self.keep(&app, heard, now).await?,
            Err(_) => self.quarantine(&app, BTreeMap::from([("not_json".to_owned(), 1)]), bytes, now).await?,
        }
        self.counts.one("webhook.kept");
        Ok(Answer::Kept)
    }

    /// A signature that fails is checked once more with what is read afresh: the secret may have been replaced since.
    async fn verify<'b>(
        &self,
        app: &AppId,
        signature: Option<&str>,
        bytes: &'b [u8],
        now: Timestamp,
    ) -> Result<Option<Verified<'b>>, IngestError> {
        let check = |it: &crate::directory::KnownApp| it.secrets.as_ref().and_then(|it| it.verify(bytes, signature).ok());
        if let Some(it) = self.directory.app(app, now).await?.and_then(|it| check(&it)) {
            return Ok(Some(it));
        }
        Ok(self.directory.app_afresh(app, now).await?.and_then(|it| check(&it)))
    }

    async fn keep(&self, app: &AppId, heard: Heard, now: Timestamp) -> Result<(), IngestError> {
        let mut sorted = Sorted::default();
        for update in heard.updates {
            self.sort(app, update, &mut sorted, now).await?;
        }
        let inbound = sorted.customers.into_values().flat_map(|it| it.entries(now)).collect();
        self.send(Queue::Inbound, inbound).await?;
        let statuses = sorted.statuses.into_values().flat_map(|it| it.entries(now)).collect();
        self.send(Queue::Statuses, statuses).await?;
        self.send(Queue::Probes, sorted.probes.iter().map(entry).collect()).await?;
        self.set_aside(app, &heard.ignored, &sorted.cut.0, now).await
    }

    /// What was not understood, and what was too large, goes to the quarantine: a line each.
    async fn set_aside(&self, app: &AppId, ignored: &[Ignored], oversize: &[Oversize], now: Timestamp) -> Result<(), IngestError> {
        let ignored = ignored.iter().map(|it| (it.reason.name(), &it.field, &it.raw));
        let oversize = oversize.iter().map(|it| ("oversize", &it.name, &it.raw));
        let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
        let mut lines = Vec::new();
        for (reason, field, raw) in ignored.chain(oversize) {
            let name = format!("{reason}:{field}");
            let name = if reasons.len() < REASONS || reasons.contains_key(&name) { name } else { "others".to_owned() };
            *reasons.entry(name).or_default() += 1;
            lines.extend_from_slice(raw.as_bytes());
            lines.push(b'\n');
            self.counts.one_of("webhook.ignored", reason);
        }
        if reasons.is_empty() {
            return Ok(());
        }
        self.quarantine(app, reasons, &lines, now).await
    }

    async fn sort(&self, app: &AppId, update: Update, sorted: &mut Sorted, now: Timestamp) -> Result<(), IngestError> {
        let Update { waba, number, what } = update;
        match what {
            What::Customer { customer, profile, event } => {
                if let Some(owner) = self.owner(app, number.as_ref(), now).await? {
                    sorted.customer(owner, customer, profile, event);
                }
            }
            What::Status(status) => {
                if let Some(owner) = self.owner(app, number.as_ref(), now).await? {
                    sorted.status(owner, status);
                }
            }
            What::Account(notice) => self.probes(app, waba, number, notice, sorted, now).await?,
            What::Lost(fault) => {
                self.counts.one("webhook.lost_by_meta");
                let value = body(&fault);
                let notice = Notice { field: "errors".to_owned(), at: None, value };
                self.probes(app, waba, number, notice, sorted, now).await?;
            }
            What::History { messages } => self.counts.add("webhook.history_messages", "", messages as u64),
        }
        Ok(())
    }

    /// Whose a number is, if that connection uses this app: nobody may sign for another's number.
    async fn owner(&self, app: &AppId, number: Option<&NumberId>, now: Timestamp) -> Result<Option<Owner>, IngestError> {
        let owner = match number {
            Some(it) => self.owner_by_app(app, it, now).await?,
            None => None,
        };
        if owner.is_none() {
            self.counts.one("webhook.foreign");
        }
        Ok(owner)
    }

    /// What is remembered with another app is looked at once more: the connection's app may have been replaced since.
    async fn owner_by_app(&self, app: &AppId, number: &NumberId, now: Timestamp) -> Result<Option<Owner>, IngestError> {
        let uses_app = |it: &Owner| it.connection.app.as_ref() == Some(app);
        match self.owners.of(number, REMEMBERED, now).await? {
            Some(it) if !uses_app(&it) => Ok(self.owners.once_more(number, now).await?.filter(uses_app)),
            other => Ok(other),
        }
    }

    /// A notice is a reason to read again from Meta, for each connection that it concerns and that uses this app.
    async fn probes(
        &self,
        app: &AppId,
        waba: Option<WabaId>,
        number: Option<NumberId>,
        mut notice: Notice,
        sorted: &mut Sorted,
        now: Timestamp,
    ) -> Result<(), IngestError> {
        let mut connections = Vec::new();
        if let Some(number) = &number {
            connections.extend(self.owner_by_app(app, number, now).await?.map(|it| it.connection));
        } else if let Some(waba) = &waba {
            let use_app = |it: &Connection| it.app.as_ref() == Some(app);
            connections = self.owners.of_account(waba, now).await?.into_iter().filter(use_app).collect();
            if connections.is_empty() {
                connections = self.owners.of_account_once_more(waba, now).await?.into_iter().filter(use_app).collect();
            }
        }
        if connections.is_empty() {
            self.counts.one("webhook.foreign");
            return Ok(());
        }
        notice.value = sorted.cut.value(&notice.field, notice.value);
        for it in connections {
            sorted.probes.push(Probe {
                v: V1,
                tenant: it.tenant,
                connection: it.id,
                heard_at: now,
                field: notice.field.clone(),
                waba: waba.clone(),
                number: number.clone(),
                value: notice.value.clone(),
            });
        }
        Ok(())
    }

    async fn quarantine(&self, app: &AppId, reasons: BTreeMap<String, u64>, bytes: &[u8], now: Timestamp) -> Result<(), IngestError> {
        self.counts.one("webhook.quarantined");
        let pieces = bytes.len().div_ceil(QUARANTINED_BYTES).max(1);
        let piece = |at: usize| &bytes[(at * QUARANTINED_BYTES).min(bytes.len())..((at + 1) * QUARANTINED_BYTES).min(bytes.len())];
        let jobs = (0..pieces).map(|it| Quarantined {
            v: V1,
            app: app.clone(),
            heard_at: now,
            reasons: reasons.clone(),
            piece: it + 1,
            pieces,
            body: STANDARD.encode(piece(it)),
        });
        self.send(Queue::Quarantine, jobs.map(|it| entry(&it)).collect()).await
    }

    async fn send(&self, queue: Queue, entries: Vec<Entry>) -> Result<(), IngestError> {
        if entries.is_empty() {
            return Ok(());
        }
        Ok(self.queues.send(queue, entries).await?)
    }
}

fn entry(job: &impl Serialize) -> Entry {
    Entry { body: body(job), group: None, deduplication: None }
}

/// The updates of one webhook, sorted by where they go.
#[derive(Default)]
struct Sorted {
    customers: BTreeMap<(NumberId, Customer), OfCustomer>,
    statuses: BTreeMap<NumberId, OfNumber>,
    probes: Vec<Probe>,
    cut: Cut,
}

struct OfCustomer {
    owner: Owner,
    customer: Customer,
    profile: Profile,
    events: Vec<Event>,
}

struct OfNumber {
    owner: Owner,
    statuses: Vec<StatusTold>,
}

impl Sorted {
    fn customer(&mut self, owner: Owner, customer: Customer, profile: Profile, event: Event) {
        let profile = self.cut.profile(profile);
        let Some(event) = self.cut.event(kind(&event), event) else { return };
        let key = (owner.number.id.clone(), customer.clone());
        let it =
            self.customers.entry(key).or_insert_with(|| OfCustomer { owner, customer, profile: Profile::default(), events: Vec::new() });
        it.profile.name = profile.name.or(it.profile.name.take());
        it.profile.username = profile.username.or(it.profile.username.take());
        it.events.push(event);
    }

    fn status(&mut self, owner: Owner, status: StatusHeard) {
        let StatusHeard { wamid, step, at, recipient, opaque, pricing, faults } = status;
        let status = self.cut.status(StatusTold { wamid, step, at, recipient, opaque, pricing, faults });
        let it = self.statuses.entry(owner.number.id.clone()).or_insert_with(|| OfNumber { owner, statuses: Vec::new() });
        it.statuses.push(status);
    }
}

/// In order, in pieces of at most so many and at most [`PIECE_BYTES`], of which each fits one.
fn pieces<T: Serialize>(items: impl IntoIterator<Item = T>, most: usize) -> Vec<Vec<T>> {
    let mut pieces: Vec<Vec<T>> = Vec::new();
    let mut room = 0;
    for item in items {
        let bytes = body(&item).len();
        match pieces.last_mut().filter(|it| it.len() < most && bytes <= room) {
            Some(piece) => piece.push(item),
            None => {
                pieces.push(vec![item]);
                room = PIECE_BYTES;
            }
        }
        room = room.saturating_sub(bytes);
    }
    pieces
}

impl OfCustomer {
    /// In order, in pieces: group is the number and customer, deduplication id the hash of all that is in it.
    fn entries(self, now: Timestamp) -> Vec<Entry> {
        let group = group(&self.owner.connection.id, &self.owner.number.id, &self.customer);
        let job = |events| Written {
            v: V1,
            tenant: self.owner.connection.tenant.clone(),
            connection: self.owner.connection.id.clone(),
            number: self.owner.number.id.clone(),
            customer: self.customer.clone(),
            profile: self.profile.clone(),
            heard_at: now,
            events,
        };
        let entry = |events: Vec<Event>| {
            let ids: Vec<String> = events.iter().map(identity).collect();
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            Entry { deduplication: Some(hash(&ids)), group: Some(group.clone()), body: body(&job(events)) }
        };
        pieces(self.events, EVENTS).into_iter().map(entry).collect()
    }
}

/// By which the same event told again is known: Meta's id of it, or all of it where there is none.
fn identity(event: &Event) -> String {
    event.wamid().map_or_else(|| body(event), |it| format!("{} {}", it.as_str(), kind(event)))
}

/// A reaction or an edit has a wamid of its own, but in echoes and repeats one id may stand for two kinds.
fn kind(event: &Event) -> &'static str {
    match event {
        Event::Message(_) => "message",
        Event::Standby(_) => "standby",
        Event::Echo(_) => "echo",
        Event::Reaction { .. } => "reaction",
        Event::Edit { .. } => "edit",
        Event::Revoke { .. } => "revoke",
        Event::Call { .. } => "call",
        Event::Preference { .. } => "preference",
        Event::Handover { .. } => "handover",
        Event::Changed { .. } => "changed",
        Event::Note { .. } => "note",
    }
}

/// The FIFO group of a customer's messages to a number: by the address that outranks the other.
fn group(connection: &ConnectionId, number: &NumberId, customer: &Customer) -> String {
    hash(&["group", number.as_str(), &customer.address().hash(connection)])
}

impl OfNumber {
    fn entries(self, now: Timestamp) -> Vec<Entry> {
        let job = |statuses| Told {
            v: V1,
            tenant: self.owner.connection.tenant.clone(),
            connection: self.owner.connection.id.clone(),
            number: self.owner.number.id.clone(),
            heard_at: now,
            statuses,
        };
        let mut seen = HashSet::new();
        let distinct = self.statuses.into_iter().filter(|it| seen.insert(body(it)));
        // A failure without our data may have to wait for its message: it keeps nobody else waiting.
        let (alone, together): (Vec<_>, Vec<_>) = distinct.partition(|it| it.opaque.is_none());
        let alone = alone.into_iter().map(|it| job(vec![it]));
        let together = pieces(together, STATUSES).into_iter().map(job);
        alone.chain(together).map(|it| Entry { body: body(&it), group: Some(it.connection.to_string()), deduplication: None }).collect()
    }
}
