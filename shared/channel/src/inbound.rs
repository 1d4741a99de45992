//! What a customer wrote, or what Meta told of them: kept once, the window opened, the turn handed over.
//!
//! The order is the proof that nothing is lost: the conversation's one write records what was decided, then the turn is handed over, then the
//! message itself is put, last. A crash anywhere before that put repeats the hand-over under the same ids.

use std::time::Duration;

use domain::connection::MESSAGE_DAYS;
use domain::conversation::{Answerer, Conversation, Decided, Facts, HandTo, Handling};
use domain::customer::{Address, Customer};
use domain::ids::{MessageId, MessageKey, Wamid, hash};
use domain::message::{Content, Event, Kept, Message, Opens};
use domain::time::Timestamp;

use crate::counts::Counts;
use crate::directory::{Owner, Owners, REMEMBERED_TO_SEND};
use crate::feed;
use crate::handling;
use crate::jobs::{From, Happened, MediaTask, Written};
use crate::owed::{Handed, Slice, hand_over_slice, slice};
use crate::people;
use crate::queues::{QueueError, Queues};
use crate::redelivery::{Progress, Retryable};
use crate::store::{Attachment, Found, HandedOver, Inbound, Outbound, RACES, Remark, RemarkKind, Store, StoreError, Stored};
use crate::turns::{HandOver, LOOKS_BACK, MediaOf, TurnError, hand_over, have_media, is_message};

/// Why an inbound job did not end.
#[derive(Debug, thiserror::Error)]
pub enum InboundError {
    /// The store failed.
    #[error("what a customer wrote could not be kept")]
    Store {
        /// The cause.
        #[from]
        source: StoreError,
    },
    /// A turn could not be handed over.
    #[error("what a customer wrote could not be handed over")]
    Turn {
        /// The cause.
        #[from]
        source: TurnError,
    },
    /// The feed did not take an event.
    #[error("what a customer wrote could not be told")]
    Feed {
        /// The cause.
        #[from]
        source: QueueError,
    },
}

impl Retryable for InboundError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Store { source } => source.is_retryable(),
            Self::Turn { source } => source.is_retryable(),
            Self::Feed { source } => source.is_retryable(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Store { source } => source.code(),
            Self::Turn { source } => source.code(),
            Self::Feed { source } => source.code(),
        }
    }
}

/// For how long a message is kept whose number is another connection's by now.
const KEPT_FOR: Duration = Duration::from_hours(24 * MESSAGE_DAYS as u64);

/// The handles, and what one job has in common for all its events.
struct Receiving<'a> {
    store: &'a Store,
    queues: &'a Queues,
    counts: &'a Counts,
    written: &'a Written,
    facts: Facts,
    kept_for: Duration,
    now: Timestamp,
}

/// Takes in what Meta told of one customer on one number, event by event.
///
/// # Errors
/// [`InboundError`]: what is not done yet is done by the next delivery.
pub async fn receive(
    store: &Store,
    queues: &Queues,
    owners: &Owners,
    counts: &Counts,
    written: &Written,
    now: Timestamp,
) -> Result<Progress, InboundError> {
    let Some((facts, kept_for)) = facts(store, owners, written, now).await? else {
        // What still comes for a connection that was deleted has nobody who could ever look at it.
        counts.one("inbound.deleted");
        return Ok(Progress::Done);
    };
    let it = Receiving { store, queues, counts, written, facts, kept_for, now };
    let mut home: Option<Stored> = None;
    for event in &written.events {
        home = it.event(home, event).await?;
    }
    Ok(Progress::Done)
}

/// What must be known to decide, and for how long messages are kept; nothing if the connection was deleted. One that seems not to run is
/// looked at afresh: its turns would be owed for nothing.
async fn facts(store: &Store, owners: &Owners, written: &Written, now: Timestamp) -> Result<Option<(Facts, Duration)>, StoreError> {
    let runs = |it: &Owner| it.connection.lifecycle.sending(now) == domain::connection::Sending::Allowed;
    let mut owner = owners.of(&written.number, REMEMBERED_TO_SEND, now).await?;
    if !owner.as_ref().is_some_and(|it| it.connection.id == written.connection && runs(it)) {
        owner = owners.afresh(&written.number, now).await?;
    }
    // The number may have gone to another connection since the webhook: what is older than that is kept, and is nobody's turn.
    let owner = owner.filter(|it| it.connection.id == written.connection);
    let Some(it) = owner else {
        let is_there = store.connection(&written.connection).await?.is_some_and(|it| it.deleted_at.is_none());
        return Ok(is_there.then_some((Facts::nobodys(), KEPT_FOR)));
    };
    let kept_for = it.connection.messages_kept_for();
    let attachment = match &it.number.agent {
        Some(agent) => match owners.attachment(&written.connection, agent, now).await? {
            // It may be well again: what is owed after that has nobody to hand it over.
            Some(it) if it.down_since.is_some() => store.attachment(&written.connection, agent).await?,
            it => it,
        },
        None => None,
    };
    let facts = Facts {
        is_running: runs(&it) && attachment.as_ref().is_none_or(|it| it.down_since.is_none()),
        agent: attachment.as_ref().map(Attachment::listener),
        may_fetch: true,
        claimed_at: it.number.claimed_at,
        ..Facts::nobodys()
    };
    Ok(Some((facts, kept_for)))
}

impl Receiving<'_> {
    /// The conversation as the event leaves it; nothing if it was said in one whose data were erased since.
    async fn event(&self, home: Option<Stored>, event: &Event) -> Result<Option<Stored>, InboundError> {
        let seed = match event.wamid() {
            Some(it) => MessageId::of_inbound(&self.written.number, it).to_string(),
            // Preferences and handovers have no id: they are merges, and begin a conversation at most once.
            None => hash(&["event", self.written.number.as_str(), &feed::body(event)]),
        };
        let home = match (event, home) {
            (Event::Changed { at, previous, .. }, _) => {
                people::changed(self.store, &self.written.connection, previous, &self.written.customer, &seed, *at).await?
            }
            (_, Some(it)) => Some(it).filter(|it| !it.conversation.is_erased_before(event.at())),
            (_, None) => {
                let (connection, customer, at) = (&self.written.connection, &self.written.customer, event.at());
                people::home(self.store, connection, customer, &seed, at, at).await?
            }
        };
        let Some(home) = home else {
            self.counts.one("inbound.erased");
            return Ok(None);
        };
        let home = self.share_contact(home, event).await?;
        let home = match event.effect().kept {
            Kept::AsMessage | Kept::AsNote => self.keep(home, event).await?,
            Kept::AsPersons => self.keep_persons(home, event).await?,
            Kept::OnTarget => self.keep_on_target(home, event).await?,
            Kept::AsState => self.keep_state(home, event).await?,
        };
        Ok(Some(home))
    }

    /// A phone that the customer shared when asked is an address of theirs.
    async fn share_contact(&self, home: Stored, event: &Event) -> Result<Stored, InboundError> {
        let Event::Message(Message { content: Content::ContactShared { phone: Some(phone) }, at, .. }) = event else { return Ok(home) };
        Ok(people::belong(self.store, home, &Address::Phone(phone.clone()), *at).await?)
    }

    /// The usual way: a message, or a note.
    async fn keep(&self, mut home: Stored, event: &Event) -> Result<Stored, InboundError> {
        let Some(wamid) = event.wamid() else { return Ok(home) };
        let id = MessageId::of_inbound(&self.written.number, wamid);
        // What is newer than all before it cannot be a repeat; anything else is looked for.
        let cannot_be_repeat = event.effect().opens == Opens::Yes && home.conversation.is_newer(event.at());
        if !cannot_be_repeat && self.is_kept(&home, event, &id).await? {
            self.counts.one("inbound.repeated");
            return Ok(home);
        }
        let is_revoked = home.conversation.revoked.iter().any(|it| *it == *id.as_str());
        let facts = match is_revoked {
            true => Facts { agent: None, may_fetch: false, ..self.facts.clone() },
            false => self.facts.clone(),
        };
        for _ in 0..RACES {
            let key = MessageKey { conversation: home.conversation.id.clone(), at: event.at(), id: id.clone() };
            let before = home.conversation.clone();
            let owed = self.owed(&home.conversation, event).await?;
            let is_behind_media = owed.as_ref().is_some_and(Slice::has_file);
            let facts = Facts { is_behind: owed.as_ref().is_some_and(Slice::has_more), is_behind_media, ..facts.clone() };
            let decided = home.conversation.receive(&self.written.number, &key, event, &facts, self.now);
            if event.effect().opens == Opens::Yes {
                home.conversation.show(&self.written.profile, event.at());
            }
            if event.effect().kept == Kept::AsMessage {
                self.store.mark_active(&mut home.conversation, self.now).await?;
            }
            self.tell_given_back(&before, &home.conversation).await?;
            if before.owed.is_none() && home.conversation.owed.is_some() {
                self.store.list_owed(&self.written.connection, &home.conversation.id, self.now).await?;
            }
            if home.conversation == before && home.version != 0 || self.store.keep_conversation(&mut home).await? {
                // A repeat after a merge finds its own record under the part in which it was decided.
                let key = decided.message.clone();
                let handed_before = self.hand_over(&home, event, &decided, owed).await?;
                self.have_fetched(event, &decided).await?;
                self.tell_kept(&home.conversation, &key, event).await?;
                let handed = match decided.to {
                    HandTo::Agent(it) => HandedOver::Agent(it),
                    HandTo::Owed(it) => HandedOver::Owed(it),
                    HandTo::Nobody => HandedOver::Nobody,
                };
                let inbound = Inbound::new(
                    self.written.connection.clone(),
                    self.written.number.clone(),
                    event,
                    handed,
                    self.written.heard_at,
                    is_revoked,
                )?;
                self.store.keep_inbound(&key, inbound, self.kept_for).await?;
                self.counts.one("inbound.kept");
                return self.settle(home, handed_before, is_revoked.then_some(&key.id)).await;
            }
            home = self.again(home).await?;
        }
        Err(StoreError::Contended { what: "conversation" }.into())
    }

    async fn is_kept(&self, home: &Stored, event: &Event, id: &MessageId) -> Result<bool, StoreError> {
        Ok(self.store.message(home.conversation.everywhere(), event.at(), id).await?.is_some())
    }

    /// The conversation as it is now. If it was erased meanwhile, the next delivery finds out what that means for the event.
    async fn again(&self, home: Stored) -> Result<Stored, StoreError> {
        let id = home.conversation.id.clone();
        match self.store.find_conversation(&id).await? {
            Found::Live(it) => Ok(it),
            Found::Shell(..) => Err(StoreError::Contended { what: "conversation" }),
            Found::Nothing => Ok(Stored::unwritten(id, self.written.connection.clone())),
        }
    }

    /// What is handed over before a message, if something is owed and can be handed over now.
    async fn owed(&self, conversation: &Conversation, event: &Event) -> Result<Option<Slice>, StoreError> {
        match (&conversation.owed, event) {
            (Some(span), Event::Message(_)) if self.facts.is_running => Ok(Some(slice(self.store, conversation, span, self.now).await?)),
            _ => Ok(None),
        }
    }

    /// Hands a message over as decided, what is owed before it; tells what came of what was owed.
    async fn hand_over(
        &self,
        home: &Stored,
        event: &Event,
        decided: &Decided,
        owed: Option<Slice>,
    ) -> Result<Option<Handed>, InboundError> {
        let Event::Message(message) = event else { return Ok(None) };
        let goes_on = match &decided.to {
            HandTo::Agent(_) => true,
            HandTo::Owed(_) => owed.as_ref().is_some_and(Slice::has_more),
            HandTo::Nobody => false,
        };
        let handed_before = match owed.filter(|_| goes_on) {
            Some(it) => Some(hand_over_slice(self.store, self.queues, &self.written.tenant, &home.conversation, it, self.now).await?),
            None => None,
        };
        let HandTo::Agent(agent) = &decided.to else { return Ok(handed_before) };
        let it = HandOver {
            tenant: &self.written.tenant,
            agent,
            number: &self.written.number,
            profile: &self.written.profile,
            key: &decided.message,
            message,
            is_late: decided.is_late,
            missed: decided.missed.as_ref(),
            through: decided.through,
            owed_at: None,
        };
        hand_over(self.store, self.queues, &home.conversation, it, self.now).await?;
        self.counts.one("turn.handed_over");
        Ok(handed_before)
    }

    /// Has a file fetched that nobody is told of now.
    async fn have_fetched(&self, event: &Event, decided: &Decided) -> Result<(), QueueError> {
        let Some(media) = event.media().filter(|_| decided.fetches) else { return Ok(()) };
        have_media(self.queues, self.media_of(), &decided.message, MediaTask::Fetch { media: media.clone() }, self.now).await
    }

    fn media_of(&self) -> MediaOf<'_> {
        MediaOf { tenant: &self.written.tenant, connection: &self.written.connection, number: &self.written.number }
    }

    /// Takes away the note of what was owed, as far as it is handed over, and of a deletion whose message is here now; if the conversation
    /// has moved, the next one does.
    async fn settle(&self, mut home: Stored, handed: Option<Handed>, revoked: Option<&MessageId>) -> Result<Stored, InboundError> {
        let handed = handed.filter(|it| it.is_whole);
        if handed.is_none() && revoked.is_none() {
            return Ok(home);
        }
        if let Some(handed) = handed {
            handed.settle(&mut home.conversation);
        }
        if let Some(id) = revoked {
            home.conversation.forget_revoked(id.as_str());
        }
        if self.store.keep_conversation(&mut home).await? { Ok(home) } else { Ok(self.again(home).await?) }
    }

    /// What a person of the business wrote in the WhatsApp Business app.
    async fn keep_persons(&self, home: Stored, event: &Event) -> Result<Stored, InboundError> {
        let Event::Echo(message) = event else { return Ok(home) };
        let id = MessageId::of_inbound(&self.written.number, &message.wamid);
        let home = self.change(home, event).await?;
        if self.is_kept(&home, event, &id).await? {
            return Ok(home);
        }
        let key = MessageKey { conversation: home.conversation.id.clone(), at: message.at, id };
        let (tenant, connection) = (&self.written.tenant, &self.written.connection);
        // What a later word has overtaken is not told.
        if home.conversation.handling == Some(Handling { by: Answerer::Person, at: message.at }) {
            handling::tell(self.queues, tenant, connection, &home.conversation.id, Answerer::Person, message.at).await?;
        }
        self.tell_kept(&home.conversation, &key, event).await?;
        let to: Customer = home.conversation.customer().unwrap_or_else(|| self.written.customer.clone());
        let outbound = Outbound::echoed(
            self.written.connection.clone(),
            self.written.number.clone(),
            message.content.kind(),
            feed::body(&message.content),
            to,
            message.wamid.clone(),
            message.at,
        );
        self.store.claim(&key, outbound, self.kept_for).await?;
        Ok(home)
    }

    /// Reactions, edits and deletions: kept on their message, whether it is here yet or not.
    async fn keep_on_target(&self, home: Stored, event: &Event) -> Result<Stored, InboundError> {
        let (target, at, kind, what) = match event {
            Event::Reaction { target, at, emoji, .. } => (target, *at, RemarkKind::Reaction, emoji.clone()),
            Event::Edit { target, at, content, .. } => (target, *at, RemarkKind::Edit, Some(feed::body(content))),
            Event::Revoke { target, at, .. } => (target, *at, RemarkKind::Revoke, None),
            _ => return Ok(home),
        };
        let mut home = self.change(home, event).await?;
        if kind == RemarkKind::Revoke {
            home = self.revoke(home, target).await?;
        }
        let remark = Remark { at, what };
        self.store.remark(&home.conversation.id, &self.written.number, target, kind, &remark, self.kept_for).await?;
        if kind != RemarkKind::Reaction {
            self.erase_edit_of_revoked(&home.conversation, target).await?;
        }
        Ok(home)
    }

    /// What was deleted keeps no words, whichever of edit and deletion came first.
    async fn erase_edit_of_revoked(&self, conversation: &Conversation, target: &Wamid) -> Result<(), StoreError> {
        let mut is_revoked = false;
        for part in conversation.everywhere() {
            is_revoked |= self.store.remark_on(part, &self.written.number, target, RemarkKind::Revoke).await?.is_some();
        }
        if is_revoked {
            for part in conversation.everywhere() {
                self.store.erase_remark(part, &self.written.number, target, RemarkKind::Edit).await?;
            }
        }
        Ok(())
    }

    /// Erases a message that the customer deleted; one that is not here yet is remembered, so that it comes without content.
    async fn revoke(&self, home: Stored, target: &Wamid) -> Result<Stored, InboundError> {
        let id = MessageId::of_inbound(&self.written.number, target);
        let remembered = self.store.change_conversation(&home.conversation.id, |it| it.remember_revoked(id.as_str())).await?;
        let newest = self.store.newest_messages(home.conversation.everywhere(), LOOKS_BACK).await?;
        if let Some((key, item)) = newest.iter().find(|it| is_message(it, &self.written.number, target)) {
            // Its file may still be on its way: it is behind it in the queue.
            if item.has_file() {
                have_media(self.queues, self.media_of(), key, MediaTask::Erase, self.now).await?;
            }
            self.store.erase(key).await?;
            self.store.change_conversation(&home.conversation.id, |it| it.forget_revoked(id.as_str())).await?;
        }
        match remembered {
            Some(_) => Ok(self.again(home).await?),
            None => Ok(home),
        }
    }

    /// The customer's word on marketing, and whose the thread is.
    async fn keep_state(&self, home: Stored, event: &Event) -> Result<Stored, InboundError> {
        let home = self.change(home, event).await?;
        if let Event::Preference { preference, at } = event {
            let (tenant, connection) = (&self.written.tenant, &self.written.connection);
            feed::tell_preference(self.queues, tenant, connection, &home.conversation.id, *preference, *at).await?;
        }
        Ok(home)
    }

    /// Takes an event into the conversation's state.
    async fn change(&self, mut home: Stored, event: &Event) -> Result<Stored, InboundError> {
        for _ in 0..RACES {
            let before = home.conversation.clone();
            let key = MessageKey {
                conversation: home.conversation.id.clone(),
                at: event.at(),
                id: MessageId::of_inbound(&self.written.number, event.wamid().unwrap_or(&self.no_wamid())),
            };
            home.conversation.receive(&self.written.number, &key, event, &self.facts, self.now);
            self.tell_given_back(&before, &home.conversation).await?;
            if home.conversation == before && home.version != 0 || self.store.keep_conversation(&mut home).await? {
                return Ok(home);
            }
            home = self.again(home).await?;
        }
        Err(StoreError::Contended { what: "conversation" }.into())
    }

    /// Tells that the end of the window gave the conversation back, before that is written: a crash between the two tells it again.
    async fn tell_given_back(&self, before: &Conversation, after: &Conversation) -> Result<(), QueueError> {
        match after.handling {
            Some(Handling { by: by @ Answerer::Agent, at }) if before.handling != after.handling => {
                handling::tell(self.queues, &self.written.tenant, &self.written.connection, &after.id, by, at).await
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Events without an id are merges: nothing is recorded under their key.
    fn no_wamid(&self) -> Wamid {
        Wamid::parse("none").expect("a text that is not empty")
    }

    async fn tell_kept(&self, conversation: &Conversation, key: &MessageKey, event: &Event) -> Result<(), InboundError> {
        let (from, kind) = match event {
            Event::Message(it) | Event::Standby(it) => (From::Customer, it.content.kind()),
            Event::Echo(it) => (From::Business, it.content.kind()),
            _ => return Ok(()),
        };
        let what = Happened::MessageKept {
            conversation: conversation.id.clone(),
            message: key.to_string(),
            number: self.written.number.clone(),
            from,
            kind: kind.to_owned(),
        };
        let parts = ["kept", key.id.as_str()];
        Ok(feed::tell(self.queues, &self.written.tenant, &self.written.connection, key.at, &parts, what).await?)
    }
}
