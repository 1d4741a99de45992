//! A template to one customer: approved, filled, from the right number, in its slot, once.
//!
//! A batch goes in two steps. Each job is prepared alone (its connection, its template, its customer's conversation), then places in the
//! rotation and slots of the numbers are leased for all of them together, then each is finished alone, at its slot: the conversation is
//! reserved in one write, the message claimed, and sent once. Nothing of free text is in reach here: the handle on Meta takes templates only.

mod settling;
mod submitted;

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use domain::connection::Sending;
use domain::conversation::{AWAITS_FOR, Admitted, Conversation, TemplateSend as Wish};
use domain::customer::Customer;
use domain::ids::{ConnectionId, MessageId, MessageKey, NumberId, hash};
use domain::refusal::{Refusal, Retry};
use domain::rotation::{Candidate, Pace, number_at, rotating};
use domain::status::{Fault, Phase, State};
use domain::template::{Category, Filled};
use domain::time::Timestamp;
use futures::future::join_all;
use meta::fault::Class;
pub use meta::graph::TemplateGraph;
use meta::graph::{Endpoint, Sent};
use meta::outgoing::Recipient;

use crate::catalogue::{Catalogue, Found};
use crate::clock::Clock;
use crate::connections;
use crate::counts::Counts;
use crate::directory::{Directory, KnownConnection};
use crate::endings;
use crate::feed::{self, body};
use crate::handling;
use crate::jobs::{Author, Happened, TemplateSend, To};
use crate::leases::{Leases, counted};
use crate::opaque;
use crate::outbox::{AHEAD, Draft, Fence, Looked, NOT_RUNNING_AGAIN, Outbox, Outcome, SendError, credentials, recipient, writer};
use crate::people;
use crate::queues::{QueueError, Queues};
use crate::redelivery::{Delivery, Prepared, Progress, Retryable};
use crate::store::{Claim, Ending, MessageItem, NumberItem, Outbound, RACES, Store, StoreError, Stored, TemplateUsed, Writer};

pub(crate) use settling::{Failed, settle};
pub use submitted::{Broken, Submitted};

/// A job without a word on it is worth sending for so long after its own time.
const WORTH_FOR: Duration = Duration::from_hours(24);
/// After an unknown outcome its status is looked for so long after the send; then it is `unconfirmed`, and never sent again.
const LOOKS_AFTER: [Duration; 5] =
    [Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(30), Duration::from_mins(1), Duration::from_mins(2)];
/// Meta's code for a number that sends faster than it may: <https://developers.facebook.com/documentation/business-messaging/whatsapp/throughput>.
const TOO_FAST: u32 = 130_429;
/// How long a number that sent too fast is left alone, by everybody.
const PAUSE: Duration = Duration::from_secs(2);
/// Without a slot a job comes back after this long for each time it was received…
const NO_SLOT_AGAIN: Duration = Duration::from_secs(10);
/// …and at most after this long.
const NO_SLOT_AT_MOST: Duration = Duration::from_mins(1);
/// A batch in which nothing can be sent now rests for so long, so that polling slows.
const NAP: Duration = Duration::from_secs(10);
/// A template that is not known here is looked for again after this long for each time the job was received, while the list is being read…
const UNLISTED_AGAIN: Duration = Duration::from_secs(5);
/// …and counts as missing once the job has waited for so long in vain.
const UNLISTED_FOR: Duration = Duration::from_mins(10);

/// Why a template send did not end.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The body breaks the schema. Whoever sent it has been told.
    #[error("a template send breaks the schema")]
    Malformed,
    /// It could not be sent.
    #[error("a template could not be sent")]
    Send {
        /// The cause.
        #[source]
        source: SendError,
    },
    /// Others wrote the same conversation again and again.
    #[error("the conversation of a template moved under every try to reserve it")]
    Contended,
}

impl<E: Into<SendError>> From<E> for TemplateError {
    fn from(source: E) -> Self {
        Self::Send { source: source.into() }
    }
}

impl Retryable for TemplateError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Malformed => false,
            Self::Contended => true,
            Self::Send { source } => source.is_retryable(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Contended => "item_contended",
            Self::Send { source } => source.code(),
        }
    }
}

/// The handles of template sends.
pub struct Templates<'a> {
    /// Conversations, messages and leases.
    pub store: &'a Store,
    /// The feed, and the probes that ask for a reading of the catalogue.
    pub queues: &'a Queues,
    /// Connections with their tokens, and their numbers.
    pub directory: &'a Directory,
    /// The templates.
    pub catalogue: &'a Catalogue,
    /// Meta, for templates only.
    pub graph: &'a TemplateGraph,
    /// What this container has leased and not used.
    pub leases: &'a Leases,
    /// What is counted.
    pub counts: &'a Counts,
    /// The time, and the sleep until a slot.
    pub clock: Clock<'a>,
    /// Which part of a number's throughput campaigns may use, above 0 and at most 1: the rest is for replies and for what comes in.
    pub share: f64,
    /// Whether a job of this batch waits for its connection: false at first.
    pub is_held_back: Cell<bool>,
}

/// A job that may go out, once it has a slot.
pub struct Ready {
    job: Box<TemplateSend>,
    known: Arc<KnownConnection>,
    key: MessageKey,
    message: Outbound,
    filled: Filled,
    resends: Option<MessageKey>,
    stored: Stored,
    numbers: Arc<Vec<NumberItem>>,
    receive_count: u32,
}

/// A job with its number and its slot.
pub struct Planned {
    ready: Ready,
    slot: Option<Slot>,
}

struct Slot {
    number: NumberId,
    at: Timestamp,
    /// The place in the rotation that it takes, if its customer has no number yet.
    place: Option<u64>,
}

impl Ready {
    fn wish(&self) -> Wish<'_> {
        let utility_exempt = self.known.connection.utility_exempt;
        Wish { message: &self.key, category: self.filled.category(), utility_exempt, resends: self.resends.as_ref() }
    }

    fn usable(&self) -> Vec<NumberId> {
        self.numbers.iter().filter(|it| it.can_send()).map(|it| it.id.clone()).collect()
    }

    fn draft(&self) -> Draft<'_> {
        Draft { known: &self.known, key: self.key.clone(), message: self.message.clone(), looks_after: &LOOKS_AFTER }
    }

    fn is_of_person(&self) -> bool {
        matches!(self.job.author, Some(Author::Person(_)))
    }

    fn step(&self) -> Option<&str> {
        self.message.once.as_deref()
    }
}

impl Templates<'_> {
    fn outbox<'b>(&'b self, now: &'b dyn Fn() -> Timestamp) -> Outbox<'b> {
        Outbox { store: self.store, queues: self.queues, directory: self.directory, counts: self.counts, clock: now }
    }

    /// Checks a job, and finds its template, its customer's conversation and its numbers; what cannot go out ends here.
    ///
    /// # Errors
    /// [`TemplateError`]: the next delivery goes on, but for a body that breaks the schema.
    pub async fn prepare(&self, submitted: Submitted, delivery: &Delivery) -> Result<Prepared<Ready>, TemplateError> {
        let job = match submitted {
            Submitted::Job(it) => it,
            Submitted::Broken(it) => {
                self.refuse_broken(&it).await?;
                return Err(TemplateError::Malformed);
            }
        };
        let now = self.clock.now();
        let known = self.directory.connection(&job.connection, now).await?.filter(|it| it.connection.tenant == job.tenant);
        let Some(mut known) = known else { return self.refuse_unkept(&job, &Refusal::UnknownConnection, now).await };
        if known.connection.lifecycle.sending(now) != Sending::Allowed
            && let Some(fresh) = self.directory.connection_afresh(&job.connection, now).await?
        {
            known = fresh;
        }
        let (id, at) = match identify(&job, now) {
            Ok(it) => it,
            Err(refusal) => return self.refuse_unkept(&job, &refusal, now).await,
        };
        let checked = match self.check(&job, &known, at, delivery, now).await? {
            Checked::Wait(again) => return Ok(Prepared::Ended(Progress::Wait(again))),
            Checked::Filled(it) => Ok(*it),
            Checked::Refused(it) => Err(it),
        };
        let Some(stored) = self.conversation(&job, &id, checked.is_ok()).await? else {
            let refusal = checked.err().unwrap_or(Refusal::UnknownConversation);
            return self.refuse_unkept(&job, &refusal, now).await;
        };
        self.admit(job, known, (id, at), checked, stored, delivery).await
    }

    async fn admit(
        &self,
        job: Box<TemplateSend>,
        known: Arc<KnownConnection>,
        (id, at): (MessageId, Timestamp),
        checked: Result<(Filled, String), Refusal>,
        stored: Stored,
        delivery: &Delivery,
    ) -> Result<Prepared<Ready>, TemplateError> {
        let clock = || self.clock.now();
        let (outbox, now) = (self.outbox(&clock), clock());
        let conversation = &stored.conversation;
        let key = match conversation.unanswered.as_ref().map(|it| &it.message).filter(|it| (it.at, &it.id) == (at, &id)) {
            // A reservation names the part of the conversation in which its claim lies.
            Some(own) => own.clone(),
            None => outbox.key_of(&conversation.id, &conversation.parts, at, &id).await?,
        };
        let mut message = self.draft(&job);
        if let Ok((_, content)) = &checked {
            message = message.with_content(content.clone());
        }
        let draft = Draft { known: &known, key: key.clone(), message: message.clone(), looks_after: &LOOKS_AFTER };
        let filled = match (checked, known.connection.lifecycle.sending(now)) {
            (Err(refusal), _) => Err(refusal),
            (Ok(_), Sending::Refused) => Err(Refusal::NotRunning),
            (Ok(_), Sending::Waits) => {
                self.is_held_back.set(true);
                return Ok(ended(outbox.wait_for_connection(&draft, now).await?));
            }
            (Ok(it), Sending::Allowed) => Ok(it),
        };
        let filled = match filled {
            Ok((it, _)) => it,
            Err(refusal) => return Ok(ended(self.refuse(&draft, &refusal, now).await?)),
        };
        // Most jobs are delivered once: only a later delivery may find a message of its own.
        if delivery.receive_count > 1
            && let Some(outcome) = self.found(&draft, now).await?
        {
            return Ok(ended(outcome));
        }
        let resends = self.resends(&job).await?;
        let numbers = self.directory.numbers(&known.connection, now).await?;
        let ready = Ready { job, key, message, filled, resends, stored, numbers, known, receive_count: delivery.receive_count };
        let usable = ready.usable();
        if usable.is_empty() {
            // Whoever marked the last of them may have died before saying so.
            connections::fail_without_numbers(self.store, self.queues, &ready.known.connection, now).await?;
            self.is_held_back.set(true);
            return Ok(Prepared::Ended(Progress::Wait(NOT_RUNNING_AGAIN)));
        }
        let admitted = ready.stored.conversation.admit_template(&ready.wish(), &usable, now).map(drop);
        if let Err(refusal) = admitted.and_then(|()| reachable(&ready, &ready.stored.conversation).map(drop)) {
            return Ok(ended(self.refuse(&ready.draft(), &refusal, now).await?));
        }
        Ok(Prepared::Ready(ready))
    }

    /// Everything that can be said without the customer's conversation.
    async fn check(
        &self,
        job: &TemplateSend,
        known: &KnownConnection,
        at: Timestamp,
        delivery: &Delivery,
        now: Timestamp,
    ) -> Result<Checked, TemplateError> {
        let connection = &known.connection;
        if now > job.not_after.unwrap_or_else(|| at.plus(WORTH_FOR)) {
            return Ok(Checked::Refused(Refusal::Expired));
        }
        if let Some(Author::Agent(agent)) = &job.author
            && !self.directory.is_attached(&connection.id, agent, now).await?
        {
            return Ok(Checked::Refused(Refusal::NotAttached));
        }
        let found = self.catalogue.find(&connection.id, &job.template, &job.language, now).await?;
        let template = match found {
            Found::Known(it) => it,
            // What is newer than the list may have been made since: the list is read once more before anybody is refused.
            Found::Unlisted { listed_at } if listed_at.is_none_or(|it| it < at) => {
                return match connection.lifecycle.sending(now) {
                    Sending::Allowed if delivery.sent_at_ms.is_some_and(|it| now.since(Timestamp::from_millis(it)) > UNLISTED_FOR) => {
                        Ok(Checked::Refused(Refusal::TemplateMissing))
                    }
                    Sending::Allowed => {
                        self.catalogue.ask(self.queues, connection, now).await?;
                        self.is_held_back.set(delivery.receive_count > 1);
                        Ok(Checked::Wait(UNLISTED_AGAIN.saturating_mul(delivery.receive_count.max(1)).min(NO_SLOT_AT_MOST)))
                    }
                    Sending::Waits => {
                        self.is_held_back.set(true);
                        Ok(Checked::Wait(NOT_RUNNING_AGAIN))
                    }
                    Sending::Refused => Ok(Checked::Refused(Refusal::NotRunning)),
                };
            }
            Found::Unlisted { .. } => return Ok(Checked::Refused(Refusal::TemplateMissing)),
        };
        if connection.lifecycle.sending(now) == Sending::Allowed {
            self.catalogue.keep_fresh(self.queues, connection, now).await?;
        }
        if let Some(status) = template.refused_status() {
            return Ok(Checked::Refused(Refusal::TemplateNotApproved { status }));
        }
        let participant = job.participant.iter().map(|(name, it)| (name.clone(), it.0.clone())).collect();
        Ok(match template.template.fill(&job.values, &participant, now) {
            Ok(filled) => {
                // Nobody reads a login code later on.
                let is_code = *filled.category() == Category::Authentication;
                let content = if is_code { body(&template.template.blank_preview()) } else { body(filled.preview()) };
                Checked::Filled(Box::new((filled, content)))
            }
            Err(problems) => Checked::Refused(Refusal::Invalid { problems: problems.iter().map(ToString::to_string).collect() }),
        })
    }

    /// The customer's conversation; begun if there is none and `begins`.
    async fn conversation(&self, job: &TemplateSend, id: &MessageId, begins: bool) -> Result<Option<Stored>, StoreError> {
        let customer = match &job.to {
            To::Conversation(id) => {
                let found = self.store.conversation(id).await?;
                return Ok(found.filter(|it| it.conversation.connection == job.connection));
            }
            To::Phone(it) => Customer::known_by(Some(it.clone()), None),
            To::Bsuid(it) => Customer::known_by(None, Some(it.clone())),
        };
        let Some(customer) = customer else { return Ok(None) };
        if begins {
            // Our own wish to write is no evidence of Meta's that the address is theirs: any of that is newer.
            return people::home(self.store, &job.connection, &customer, id.as_str(), Timestamp::default()).await.map(Some);
        }
        people::find_stored(self.store, &job.connection, &customer).await
    }

    fn draft(&self, job: &TemplateSend) -> Outbound {
        let author = job.author.as_ref().map_or(Writer::Campaign, writer);
        let mut message = Outbound::draft(job.connection.clone(), "template", String::new(), author);
        message.template = Some(TemplateUsed { name: job.template.clone(), language: job.language.clone() });
        message.campaign = job.campaign.as_ref().map(|it| it.as_str().to_owned());
        message.once = job.once.as_ref().map(|it| hash(&["once", it.as_str()]));
        message
    }

    /// The message that this one is sent again for, if nobody knows what became of that.
    async fn resends(&self, job: &TemplateSend) -> Result<Option<MessageKey>, TemplateError> {
        let Some(key) = job.resends.as_deref().and_then(|it| MessageKey::parse(it).ok()) else { return Ok(None) };
        let found = self.store.message([&key.conversation], key.at, &key.id).await?;
        Ok(match found {
            Some((key, MessageItem::Outbound(it))) if it.state() == State::Unconfirmed && it.connection == job.connection => Some(key),
            Some(_) | None => None,
        })
    }

    /// What became of the job's own message, if it has one that does not want to be sent (again).
    async fn found(&self, draft: &Draft<'_>, now: Timestamp) -> Result<Option<Outcome>, TemplateError> {
        let found = self.store.message([&draft.key.conversation], draft.key.at, &draft.key.id).await?;
        let Some((_, MessageItem::Outbound(existing))) = found else { return Ok(None) };
        match existing.phase {
            Phase::Released => Ok(None),
            Phase::Sending | Phase::Accepted | Phase::Held | Phase::Failed | Phase::Unconfirmed => {
                self.existing(draft, &existing, now).await.map(Some)
            }
        }
    }

    /// The message is there, and decides; it is never sent a second time.
    async fn existing(&self, draft: &Draft<'_>, existing: &Outbound, now: Timestamp) -> Result<Outcome, TemplateError> {
        let clock = || self.clock.now();
        let outbox = self.outbox(&clock);
        match existing.phase {
            Phase::Sending => match outbox.look(draft, existing, now).await? {
                Looked::Is(outcome) => Ok(outcome),
                Looked::Unknown => Ok(outbox.give_up(draft, now).await?),
            },
            Phase::Released | Phase::Accepted | Phase::Held | Phase::Failed | Phase::Unconfirmed => {
                // Whoever ended it may have died before what follows from that; and a job that is queued again has taken it all anew.
                if existing.state() == State::Failed {
                    self.settle(draft, existing, why_failed(existing)).await?;
                }
                Ok(outbox.known(draft, existing).await?)
            }
        }
    }

    /// Gives each job its number and its slot, as far as there are any; a batch in which nothing can be sent now takes a nap.
    pub async fn plan(&self, ready: Vec<Ready>) -> Vec<Planned> {
        let now = self.clock.now();
        let mut places = self.places(&ready).await;
        let wishes: Vec<Option<(NumberId, Option<u64>)>> = ready
            .iter()
            .map(|it| {
                let usable = it.usable();
                if let Some(sender) = it.stored.conversation.sender_among(&usable) {
                    return Some((sender.clone(), None));
                }
                let place = places.get_mut(&it.known.connection.id)?.next()?;
                Some((number_at(place, &rotating_among(&it.numbers))?.clone(), Some(place)))
            })
            .collect();
        let mut slots = self.slots(&ready, &wishes, now).await;
        let planned: Vec<Planned> = ready
            .into_iter()
            .zip(wishes)
            .map(|(ready, wish)| {
                let slot = wish.and_then(|(number, place)| match slots.get_mut(&number).and_then(Iterator::next) {
                    Some(at) => Some(Slot { number, at, place }),
                    None => {
                        self.give_back(&ready.known.connection.id, place);
                        None
                    }
                });
                Planned { ready, slot }
            })
            .collect();
        let has_slot = planned.iter().any(|it| it.slot.is_some());
        if !has_slot && (self.is_held_back.get() || !planned.is_empty()) {
            self.counts.one("batch.nap");
            self.clock.until(now.plus(NAP)).await;
        }
        planned
    }

    /// Places in the rotation for the customers who have no number yet, by connection.
    async fn places(&self, ready: &[Ready]) -> HashMap<ConnectionId, std::vec::IntoIter<u64>> {
        let unpinned = ready.iter().filter(|it| it.stored.conversation.sender_among(&it.usable()).is_none());
        let mut places = HashMap::new();
        for (connection, count) in counted(unpinned.map(|it| it.known.connection.id.clone())) {
            match self.leases.places(self.store, &connection, count).await {
                Ok(it) => drop(places.insert(connection, it.into_iter())),
                Err(error) => self.not_leased(&error),
            }
        }
        places
    }

    /// Slots of the numbers that are asked for.
    async fn slots(
        &self,
        ready: &[Ready],
        wishes: &[Option<(NumberId, Option<u64>)>],
        now: Timestamp,
    ) -> HashMap<NumberId, std::vec::IntoIter<Timestamp>> {
        // All at once: a number whose lease takes long must not let the slots of another pass.
        let leased = counted(wishes.iter().flatten().map(|it| it.0.clone())).into_iter().map(async |(number, count)| {
            let item = ready.iter().flat_map(|it| it.numbers.iter()).find(|it| it.id == number);
            let pace = Pace::new(item.map_or(1, NumberItem::per_second), self.share);
            (self.leases.slots(self.store, &number, pace, count, now).await, number)
        });
        let mut slots = HashMap::new();
        for (leased, number) in join_all(leased).await {
            match leased {
                Ok(it) => drop(slots.insert(number, it.into_iter())),
                Err(error) => self.not_leased(&error),
            }
        }
        slots
    }

    /// The jobs concerned come back, as they do when there is no slot.
    fn not_leased(&self, error: &StoreError) {
        tracing::warn!(error.code = error.code(), "places and slots could not be leased; their jobs come back");
        self.counts.one("lease.failed");
    }

    fn give_back(&self, connection: &ConnectionId, place: Option<u64>) {
        if let Some(place) = place {
            self.leases.give_back(connection, place);
        }
    }

    /// At its slot: reserves the conversation, claims the message, sends it once.
    ///
    /// # Errors
    /// [`TemplateError`]: the next delivery goes on.
    pub async fn finish(&self, planned: Planned) -> Result<Progress, TemplateError> {
        let Planned { ready, slot } = planned;
        let Some(slot) = slot else {
            self.counts.one("gcra.full");
            return Ok(Progress::Wait(no_slot_again(ready.receive_count, &ready.key.id)));
        };
        self.clock.until(slot.at).await;
        let (connection, place, now) = (ready.known.connection.id.clone(), slot.place, self.clock.now());
        if self.leases.is_paused(&slot.number, now) {
            self.give_back(&connection, place);
            return Ok(Progress::Wait(PAUSE));
        }
        let sent = self.send(ready, &slot, now).await;
        if !matches!(sent, Ok((_, Used::Place))) {
            self.give_back(&connection, place);
            self.counts.one("slot.wasted");
        }
        Ok(progress(sent?.0))
    }

    async fn send(&self, mut ready: Ready, slot: &Slot, now: Timestamp) -> Result<(Outcome, Used), TemplateError> {
        if let Some(step) = ready.step().map(str::to_owned)
            && !self.store.take_once(&ready.stored.conversation, &step, &ready.key.id).await?
        {
            return Ok((self.refuse(&ready.draft(), &Refusal::Duplicate, now).await?, Used::Nothing));
        }
        let reserved = match self.reserve(&mut ready, &slot.number, now).await? {
            Ok(it) => it,
            Err(refusal) => return Ok((self.refuse(&ready.draft(), &refusal, now).await?, Used::Nothing)),
        };
        let used = if reserved.number == slot.number { Used::Place } else { Used::Nothing };
        // Nothing that can fail stands between the claim and the send.
        self.taken_by_author(&ready).await?;
        ready.message.template_badge = reserved.admitted.has_badge;
        let draft = ready.draft();
        let claimed = draft.message.clone().claimed(reserved.number.clone(), reserved.to.clone(), now);
        let throttled = match self.store.claim(&draft.key, claimed).await? {
            Claim::Ours => 0,
            Claim::Existing(it) if it.phase == Phase::Released => {
                if !self.store.reclaim(&draft.key, 1, &reserved.number, &reserved.to, now).await? {
                    return Ok((Outcome::Wait(Duration::from_secs(1)), Used::Nothing));
                }
                it.throttled
            }
            Claim::Existing(it) => return Ok((self.existing(&draft, &it, now).await?, Used::Nothing)),
        };
        Ok((self.post(&ready, &draft, &reserved, (throttled, now)).await?, used))
    }

    /// Guard, sender and badge in one conditional write; whoever loses the race reads again, and decides again.
    async fn reserve(&self, ready: &mut Ready, candidate: &NumberId, now: Timestamp) -> Result<Result<Reserved, Refusal>, TemplateError> {
        let usable = ready.usable();
        for _ in 0..RACES {
            let mut next = ready.stored.clone();
            let admitted = match next.conversation.reserve(&ready.wish(), &usable, candidate, now) {
                Ok(it) => it,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let to = match reachable(ready, &next.conversation) {
                Ok(it) => it,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let number = next.conversation.sender_among(&usable).unwrap_or(candidate).clone();
            // What a person begins is in the inbox at once; a campaign is not, until somebody answers.
            if ready.is_of_person() {
                self.store.mark_active(&mut next.conversation, now).await?;
            }
            if next.conversation == ready.stored.conversation || self.store.keep_conversation(&mut next).await? {
                match &ready.stored.conversation.sender {
                    None => self.counts.one("sticky.assigned"),
                    Some(it) if it.number != number => self.counts.one("sticky.reassigned"),
                    Some(_) => {}
                }
                ready.stored = next;
                return Ok(Ok(Reserved { admitted, number, to }));
            }
            // A merge may have moved the conversation; the message lies where it was claimed, or will lie where the customer is now.
            let clock = || self.clock.now();
            if let Some(moved) = self.store.conversation(&ready.stored.conversation.id).await? {
                let it = &moved.conversation;
                ready.key = self.outbox(&clock).key_of(&it.id, &it.parts, ready.key.at, &ready.key.id).await?;
                ready.stored = moved;
            }
        }
        Err(TemplateError::Contended)
    }

    /// A person's message takes the conversation, as of the job's own time.
    async fn taken_by_author(&self, ready: &Ready) -> Result<(), TemplateError> {
        if ready.is_of_person() {
            let (tenant, id) = (&ready.known.connection.tenant, &ready.stored.conversation.id);
            handling::take(self.store, self.queues, tenant, id, ready.key.at).await?;
        }
        Ok(())
    }

    async fn post(&self, ready: &Ready, draft: &Draft<'_>, reserved: &Reserved, claim: (u32, Timestamp)) -> Result<Outcome, TemplateError> {
        let clock = || self.clock.now();
        let outbox = self.outbox(&clock);
        let to = match ready.filled.category() {
            Category::Authentication => Recipient::of(&reserved.to),
            Category::Marketing | Category::Utility | Category::Other(_) => recipient(&reserved.to),
        };
        let through = match ready.filled.category() {
            Category::Marketing if ready.known.connection.marketing_messages => Endpoint::MarketingMessages,
            _ => Endpoint::Messages,
        };
        let opaque = opaque::print(&draft.key, 1);
        let post = async |known: &KnownConnection| {
            self.graph.send(through, &reserved.number, &credentials(known), &to, &ready.filled, &opaque).await
        };
        let posted = outbox.attempt(draft, post).await?;
        let known = posted.fresh.as_deref().unwrap_or(draft.known);
        match posted.sent {
            Sent::Accepted { wamid, customer, held } => Ok(outbox.accepted(draft, 1, &wamid, customer, held).await?),
            Sent::Unknown { why } => Ok(outbox.unknown(draft, why)),
            Sent::Refused { class, fault, http } => {
                outbox.refused_by_meta(draft, &fault, http);
                self.refused_by_meta(draft, known, class, &fault, &reserved.number, claim).await
            }
        }
    }

    async fn refused_by_meta(
        &self,
        draft: &Draft<'_>,
        known: &KnownConnection,
        class: Class,
        fault: &Fault,
        number: &NumberId,
        (throttled, claimed_at): (u32, Timestamp),
    ) -> Result<Outcome, TemplateError> {
        let clock = || self.clock.now();
        let (outbox, now) = (self.outbox(&clock), clock());
        let fence = Fence { attempt: 1, claimed_at };
        match class {
            Class::NotSent => {
                // Too fast for this number: whoever else sends from it is told, by its pace.
                if fault.code == TOO_FAST {
                    self.leases.pause(self.store, number, now.plus(PAUSE)).await?;
                }
                return Ok(outbox.throttled(draft, class, throttled, fence).await?);
            }
            Class::Pair => return Ok(outbox.throttled(draft, class, throttled, fence).await?),
            Class::Unknown => return Ok(outbox.unknown(draft, "Meta had trouble with the request")),
            Class::Credentials | Class::Account => return Ok(outbox.connection_refused(draft, known, class, fault, fence).await?),
            Class::Number => {
                // Definitely not sent, and the next number may: nothing of a campaign is lost with a number.
                self.store.released(&draft.key, fence, false).await?;
                connections::mark_number(self.store, self.queues, &known.connection, number, fault, now, now).await?;
                self.directory.forget_numbers(&known.connection.id);
                return Ok(Outcome::Wait(Duration::from_secs(1)));
            }
            Class::OptedOut => outbox.opted_out(draft, now).await?,
            Class::TemplateMissing => self.catalogue.ask(self.queues, &known.connection, now).await?,
            Class::Window
            | Class::Permanent
            | Class::Later
            | Class::MarketingLimit
            | Class::TemplatePaused
            | Class::TemplateDisabled
            | Class::Fix => {}
        }
        let outcome = outbox.fail(draft, endings::of_fault(class, fault, now), fence).await?;
        self.settle(draft, &draft.message, Some((class, fault.code))).await?;
        Ok(outcome)
    }

    async fn settle(&self, draft: &Draft<'_>, message: &Outbound, fault: Option<(Class, u32)>) -> Result<(), TemplateError> {
        let connection = &draft.known.connection;
        let (tenant, at) = (&connection.tenant, message.ended_at.unwrap_or_else(|| self.clock.now()));
        let failed = Failed { tenant, connection: &connection.id, key: &draft.key, message, fault, at };
        settle(self.store, self.queues, failed).await?;
        if matches!(fault, Some((Class::TemplatePaused | Class::TemplateDisabled, _)))
            && let Some(it) = &message.template
        {
            self.catalogue.forget(&connection.id, &it.name, &it.language);
        }
        Ok(())
    }

    /// A refusal of ours: the message itself decides if it is there; what ends unsent gives back what it holds.
    async fn refuse(&self, draft: &Draft<'_>, refusal: &Refusal, now: Timestamp) -> Result<Outcome, TemplateError> {
        let clock = || self.clock.now();
        let ending = Ending { retry: Some(retry(refusal, now)), ..endings::of_refusal(refusal) };
        let outcome = self.outbox(&clock).refuse(draft, refusal, &ending, now).await?;
        if outcome == Outcome::Ended {
            if matches!(refusal, Refusal::AwaitingReply { .. }) {
                self.counts.one("guard.blocked");
            }
            self.settle(draft, &draft.message, None).await?;
        }
        Ok(outcome)
    }

    /// A refusal of a job that leads to no conversation.
    async fn refuse_unkept(&self, job: &TemplateSend, refusal: &Refusal, now: Timestamp) -> Result<Prepared<Ready>, TemplateError> {
        self.counts.one("send.refused");
        let conversation = match &job.to {
            To::Conversation(it) => Some(it.clone()),
            To::Phone(_) | To::Bsuid(_) => None,
        };
        let what = Happened::SendRefused {
            conversation,
            message: job.id.clone(),
            code: refusal.code().to_owned(),
            note: refusal.note(),
            closed_at: None,
            retry: retry(refusal, now),
            campaign: job.campaign.as_ref().map(|it| it.as_str().to_owned()),
        };
        feed::tell(self.queues, &job.tenant, &job.connection, now, &["refused", job.id.as_str(), refusal.code()], what).await?;
        Ok(Prepared::Ended(Progress::Done))
    }

    async fn refuse_broken(&self, broken: &Broken) -> Result<(), QueueError> {
        self.counts.one("send.refused");
        let refusal = Refusal::Invalid { problems: vec![broken.problem.clone()] };
        let what = Happened::SendRefused {
            conversation: None,
            message: broken.id.clone(),
            code: refusal.code().to_owned(),
            note: refusal.note(),
            closed_at: None,
            retry: refusal.retry(),
            campaign: broken.campaign.clone(),
        };
        feed::tell(self.queues, &broken.tenant, &broken.connection, self.clock.now(), &["broken", broken.id.as_str()], what).await
    }
}

/// What a look at the job and its template says.
enum Checked {
    /// The template, and what of it is kept.
    Filled(Box<(Filled, String)>),
    Refused(Refusal),
    Wait(Duration),
}

/// A conversation that waits for this template to go out.
struct Reserved {
    admitted: Admitted,
    number: NumberId,
    to: Customer,
}

/// What a send used of its slot.
#[derive(PartialEq, Eq)]
enum Used {
    /// The number that the rotation gave, or the customer's own.
    Place,
    Nothing,
}

fn ended(outcome: Outcome) -> Prepared<Ready> {
    Prepared::Ended(progress(outcome))
}

fn progress(outcome: Outcome) -> Progress {
    match outcome {
        Outcome::Sent | Outcome::Ended => Progress::Done,
        Outcome::Wait(again) => Progress::Wait(again),
    }
}

/// The job's id and own time. A time ahead of ours would stand at the end of its conversation until then.
fn identify(job: &TemplateSend, now: Timestamp) -> Result<(MessageId, Timestamp), Refusal> {
    let invalid = |problem: &str| Refusal::Invalid { problems: vec![problem.to_owned()] };
    let (id, at) =
        MessageId::of_job(&job.id).map_err(|_| invalid("id: is no UUIDv7; make one, and use it again only for the same template send."))?;
    if at > now.plus(AHEAD) {
        return Err(invalid("id: its time is more than five minutes ahead; set the sender's clock."));
    }
    Ok((id, at))
}

/// The customer, if the template can go to them. Login codes go to phone numbers only:
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-scoped-user-ids>.
fn reachable(ready: &Ready, conversation: &Conversation) -> Result<Customer, Refusal> {
    let customer = conversation.customer().ok_or(Refusal::NoAddress)?;
    let is_code = *ready.filled.category() == Category::Authentication;
    if is_code && customer.phone().is_none() { Err(Refusal::PhoneRequired) } else { Ok(customer) }
}

fn rotating_among(numbers: &[NumberItem]) -> Vec<NumberId> {
    let candidate = |it: &NumberItem| Candidate { number: it.id.clone(), can_send: it.can_send(), quality: it.quality };
    rotating(&numbers.iter().map(candidate).collect::<Vec<_>>())
}

/// Why Meta refused a message that has failed, by what it told of it later, or by the code that was kept.
fn why_failed(message: &Outbound) -> Option<(Class, u32)> {
    let told = message.newest_attempt().fault.as_ref().map(|it| it.code);
    let code = told.or_else(|| message.code.as_deref()?.parse().ok())?;
    let fault = Fault { code, title: None, details: None };
    Some((meta::fault::classify_failed(&fault), code))
}

/// An unanswered template lets the next one begin the conversation after its day, and Meta ends most pauses of a template by itself.
fn retry(refusal: &Refusal, now: Timestamp) -> Retry {
    match refusal {
        Refusal::AwaitingReply { since } => Retry::Later { retry_at: since.plus(AWAITS_FOR) },
        Refusal::TemplateNotApproved { status } if status == "PAUSED" => endings::retry(Class::TemplatePaused, now),
        other => other.retry(),
    }
}

/// Half as long up to half as long again, told apart by the message: those that found no slot together do not come back together.
fn no_slot_again(receive_count: u32, id: &MessageId) -> Duration {
    let about = NO_SLOT_AGAIN.saturating_mul(receive_count.max(1)).min(NO_SLOT_AT_MOST);
    let spread =
        hash(&["spread", id.as_str(), &receive_count.to_string()]).bytes().fold(0_u32, |sum, it| (sum * 31 + u32::from(it)) % 1_000);
    about / 2 + about.mul_f64(f64::from(spread) / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_slot_a_job_comes_back_later_each_time_and_never_with_all_others() {
        let id = |it: u32| MessageId::parse(format!("job-{it}")).expect("an id");
        for (receives, about) in [(1, 10), (3, 30), (6, 60), (500, 60)] {
            let waits: Vec<u64> = (0..200).map(|it| no_slot_again(receives, &id(it)).as_secs()).collect();
            assert!(waits.iter().all(|it| (about / 2..=about * 3 / 2).contains(it)), "{receives}: {waits:?}");
            let (least, most) = (waits.iter().min().expect("some"), waits.iter().max().expect("some"));
            assert!(most - least > about / 2, "spread over {least} to {most}");
        }
    }

    #[test]
    fn an_unanswered_template_says_when_the_next_may_follow() {
        let since = Timestamp::from_millis(1_790_000_000_000);
        assert_eq!(retry(&Refusal::AwaitingReply { since }, since), Retry::Later { retry_at: since.plus(AWAITS_FOR) });
        assert_eq!(retry(&Refusal::OptedOut, since), Retry::Never);
        let of_status = |status: &str| retry(&Refusal::TemplateNotApproved { status: status.into() }, since);
        assert_eq!(of_status("PAUSED"), Retry::Later { retry_at: since.plus(Duration::from_hours(1)) });
        assert_eq!(of_status("REJECTED"), Retry::Fix);
    }
}
