//! A conversation: what is known between one connection and one customer, and what each thing that happens does to it.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::customer::{Address, Bsuid, Customer, Phone};
use crate::ids::{AgentId, ConnectionId, ConversationId, MessageKey, NumberId};
use crate::message::{Event, Handover, Kept, Opens, Preference, Profile, Turns};
use crate::refusal::Refusal;
use crate::template::Category;
use crate::time::Timestamp;
use crate::window::Window;

/// A turn that is handed over longer than this after Meta's time of the message is late.
pub const LATE_AFTER: Duration = Duration::from_mins(5);
/// What is older than this when it arrives is kept, and is never a turn: Meta repeats webhooks for seven days.
pub const TURN_WITHIN: Duration = Duration::from_hours(8 * 24);
/// How often an agent is told that something unsupported came.
pub const UNSUPPORTED_EVERY: Duration = Duration::from_hours(1);
/// How long a template that began the conversation waits for an answer before the conversation is merely closed.
pub const AWAITS_FOR: Duration = Duration::from_hours(24);
/// Meta's times are whole seconds: something told as of a second may have happened at its end.
const SECOND: Duration = Duration::from_millis(999);
/// So many characters are kept of a name that a customer shows: a long one must not swell the conversation.
const SHOWN_AT_MOST: usize = 35;
/// How many deletions whose message is not here yet are remembered.
const REVOKED_KEPT: usize = 20;

/// An address of the customer, and since when it is theirs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The address.
    pub address: Address,
    /// Meta's time of the newest evidence that it is theirs.
    pub at: Timestamp,
    /// An old user id, which receives and is never sent to, or a phone that was given up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retired: bool,
}

/// The number that this customer knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    /// The number.
    pub number: NumberId,
    /// Meta's time of the customer's message that made it the sender; the beginning of time if a template did, so that any word of the
    /// customer's outranks it: only the number that they wrote to has a window.
    pub at: Timestamp,
}

/// A template that began the conversation and has not been answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unanswered {
    /// Its message, in the part of the conversation in which it lies.
    pub message: MessageKey,
    /// When it was reserved.
    pub since: Timestamp,
}

impl Unanswered {
    /// Is it this message's? A merge since may have changed the conversation in its key, but not the rest of it.
    #[must_use]
    pub fn is_of(&self, message: &MessageKey) -> bool {
        (self.message.at, &self.message.id) == (message.at, &message.id)
    }

    fn is_passed_by(&self, send: &TemplateSend<'_>) -> bool {
        self.is_of(send.message) || send.resends.is_some_and(|it| self.is_of(it))
    }
}

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answerer {
    /// The agent.
    Agent,
    /// A person.
    Person,
}

/// Who answers, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handling {
    /// Who.
    pub by: Answerer,
    /// Since when; the latest word wins.
    pub at: Timestamp,
}

/// Whether the thread is ours, where several responders are set up on a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// Ours, or another responder's.
    pub is_ours: bool,
    /// Meta's time of the newest word on it.
    pub at: Timestamp,
}

/// The customer's newest word on marketing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptOut {
    /// The word.
    pub preference: Preference,
    /// Its time.
    pub at: Timestamp,
}

/// The business was told never to contact the customer with a template, or that it may again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoNotContact {
    /// May no template be sent?
    pub is_set: bool,
    /// When that was said; the latest word wins.
    pub at: Timestamp,
}

/// What the customer shows of themselves, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Name and username.
    #[serde(flatten)]
    pub profile: Profile,
    /// Meta's time of the message that it came with; the latest wins.
    pub at: Timestamp,
}

/// What outlives a customer's data, which were erased as of a time: that they were, and what the customer does not want.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// What is not newer than this is not taken in again.
    pub at: Timestamp,
    /// They had opted out of marketing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opt_out: Option<OptOut>,
    /// The business was told not to contact them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub do_not_contact: Option<DoNotContact>,
}

impl Erased {
    /// Does it hold a word against templates? Then it is kept for good, else for as long as Meta may repeat what was erased.
    #[must_use]
    pub fn holds_a_word(&self) -> bool {
        self.opt_out.is_some() || self.do_not_contact.is_some()
    }
}

/// Turns that became owed on their way to the agent: what was queued behind them may be told only after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnedBack {
    /// Meta's time of the first of their messages.
    pub first: Timestamp,
    /// When the last of them became owed.
    pub last: Timestamp,
}

/// From one message to another, both included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The first.
    pub first: MessageKey,
    /// The last.
    pub last: MessageKey,
}

impl Span {
    fn of(key: &MessageKey) -> Self {
        Self { first: key.clone(), last: key.clone() }
    }

    fn joined(self, other: Self) -> Self {
        let order = |it: &MessageKey| (it.at, it.id.clone());
        let first = if order(&other.first) < order(&self.first) { other.first } else { self.first };
        let last = if order(&other.last) > order(&self.last) { other.last } else { self.last };
        Self { first, last }
    }

    fn extend(span: &mut Option<Self>, key: &MessageKey) {
        let more = Self::of(key);
        *span = Some(match span.take() {
            Some(it) => it.joined(more),
            None => more,
        });
    }
}

/// To whom a message was decided to go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandTo {
    /// To the agent, now.
    Agent(AgentId),
    /// To the agent, once it can be.
    Owed(AgentId),
    /// To nobody: it is kept for people.
    Nobody,
}

/// The way a message goes to its agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Through {
    /// Straight to the agent's runtime.
    #[default]
    Turns,
    /// Straight to the agent's HTTPS endpoint.
    Bridge,
    /// By way of its file, or behind one that is still being fetched, so that it does not overtake it.
    Media,
}

impl Through {
    /// It goes to the agent's runtime, as most do.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// What was decided for one message, recorded in the same write that moved the window, so that a repeat decides nothing anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// The message.
    pub message: MessageKey,
    /// To whom.
    pub to: HandTo,
    /// Which way.
    #[serde(default, skip_serializing_if = "Through::is_usual")]
    pub through: Through,
    /// Nobody is told of it now, and its file is fetched all the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fetches: bool,
    /// Handed over long after Meta's time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_late: bool,
    /// What the agent missed while a person had the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<Span>,
}

/// The agent that has Inbound on a number, as far as the way of a message to it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The agent.
    pub agent: AgentId,
    /// Does it listen on HTTPS?
    pub over_https: bool,
    /// Is it waited whether the customer goes on writing, so that several messages become one turn?
    pub gathers: bool,
}

/// What must be known beside the conversation to decide on a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The agent that has Inbound on this number.
    pub agent: Option<Listener>,
    /// May turns be handed over: does the connection run, and its agent take them?
    pub is_running: bool,
    /// Is more owed than is handed over before this message? Then it is owed too, and overtakes nothing.
    pub is_behind: bool,
    /// Is something handed over before this message that goes by way of its file?
    pub is_behind_media: bool,
    /// May files be fetched from Meta with the connection's token?
    pub may_fetch: bool,
    /// When the connection claimed the number.
    pub claimed_at: Timestamp,
}

impl Facts {
    /// Of a number that is nobody's any more: what came on it is kept, and is no turn.
    #[must_use]
    pub fn nobodys() -> Self {
        Self { agent: None, is_running: false, is_behind: false, is_behind_media: false, may_fetch: false, claimed_at: Timestamp::MAX }
    }
}

/// What may be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Free-form.
    Open {
        /// When the window closes.
        until: Timestamp,
    },
    /// Nothing: the business wrote first and has no answer yet.
    AwaitingReply {
        /// When the business wrote.
        since: Timestamp,
    },
    /// A template.
    TemplateOnly {
        /// When the window closed, if it was ever open.
        closed_at: Option<Timestamp>,
    },
}

/// A template that wants to go out, as far as the rules of a conversation go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplateSend<'a> {
    /// Its message.
    pub message: &'a MessageKey,
    /// What the template is for.
    pub category: &'a Category,
    /// Are utility templates exempt from the repeat guard?
    pub utility_exempt: bool,
    /// The message of unknown outcome that it is sent again for.
    pub resends: Option<&'a MessageKey>,
}

impl TemplateSend<'_> {
    /// Does the repeat guard concern it? A second login code is no second campaign.
    fn is_guarded(&self) -> bool {
        match self.category {
            Category::Authentication => false,
            Category::Utility => !self.utility_exempt,
            Category::Marketing | Category::Other(_) => true,
        }
    }

    /// May customers have refused it? What is not known here counts as marketing.
    fn is_marketing(&self) -> bool {
        match self.category {
            Category::Authentication | Category::Utility => false,
            Category::Marketing | Category::Other(_) => true,
        }
    }
}

/// How a template goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// There was no open window: it is shown as what began the conversation.
    pub has_badge: bool,
    /// The guard is its own: until an answer, its failure or 24 hours no other template begins the conversation.
    pub reserves: bool,
}

/// Who wants to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author {
    /// The attached agent.
    Agent,
    /// A person of the business.
    Person,
}

/// Everything between one connection and one customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// Whose it is.
    pub connection: ConnectionId,
    /// Under what the customer is known.
    #[serde(default)]
    pub addresses: Vec<Known>,
    /// The number that the customer knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<Sender>,
    /// The window per number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub windows: BTreeMap<NumberId, Window>,
    /// Meta's raw time of the customer's newest message on any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_inbound_at: Option<Timestamp>,
    /// The template that began it and is not answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unanswered: Option<Unanswered>,
    /// Who answers; the agent, if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handling: Option<Handling>,
    /// Whose the thread is; ours, if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Control>,
    /// The newest word on marketing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opt_out: Option<OptOut>,
    /// The newest word on templates of any kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub do_not_contact: Option<DoNotContact>,
    /// Until then Meta takes no marketing for this customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marketing_limited_until: Option<Timestamp>,
    /// What the customer shows of themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Shown>,
    /// Meta's time of the newest message of the customer that a person has read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_at: Option<Timestamp>,
    /// What the agent missed while a person had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<Span>,
    /// Turns that could not be handed over yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owed: Option<Span>,
    /// What became owed on its way to the agent, when that happened last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turned_back: Option<TurnedBack>,
    /// The last message that went by way of its file, or behind one: what comes after it goes the same way until it is handed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_media: Option<MessageKey>,
    /// What was decided last on each number: messages of two numbers are not held for one another.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub decided: BTreeMap<NumberId, Decided>,
    /// Meta's time of the last unsupported message that the agent was told of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsupported_told_at: Option<Timestamp>,
    /// Ids of deleted messages that are not here yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revoked: Vec<String>,
    /// The hour (since 1970) of its newest activity mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_hour: Option<i64>,
    /// Conversations that turned out to be with the same person: their messages lie there still.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<ConversationId>,
    /// The conversation that this one was merged into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<ConversationId>,
    /// The customer's data up to this time were erased before this conversation began: what is not newer is not taken in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nothing_before: Option<Timestamp>,
    /// The data were erased: this is an empty shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased: Option<Erased>,
}

impl Conversation {
    /// A conversation in which nothing has happened.
    #[must_use]
    pub fn new(id: ConversationId, connection: ConnectionId) -> Self {
        Self {
            id,
            connection,
            addresses: Vec::new(),
            sender: None,
            windows: BTreeMap::new(),
            last_inbound_at: None,
            unanswered: None,
            handling: None,
            control: None,
            opt_out: None,
            do_not_contact: None,
            marketing_limited_until: None,
            profile: None,
            read_at: None,
            missed: None,
            owed: None,
            turned_back: None,
            in_media: None,
            decided: BTreeMap::new(),
            unsupported_told_at: None,
            revoked: Vec::new(),
            active_hour: None,
            parts: Vec::new(),
            moved_to: None,
            nothing_before: None,
            erased: None,
        }
    }

    /// The empty shell that is left when the customer's data are erased as of `at`: where its messages lie, and what the customer does
    /// not want.
    #[must_use]
    pub fn shell(self, at: Timestamp) -> Self {
        let erased = Erased {
            at,
            opt_out: self.opt_out.filter(|it| it.preference == Preference::Stop),
            do_not_contact: self.do_not_contact.filter(|it| it.is_set),
        };
        Self { erased: Some(erased), parts: self.parts, ..Self::new(self.id, self.connection) }
    }

    /// It begins after the data of the same address were erased, or takes over such an address: what the customer did not want holds.
    pub fn begin_after(&mut self, erased: &Erased) {
        self.nothing_before = self.nothing_before.max(Some(erased.at));
        self.opt_out = later(self.opt_out, erased.opt_out, opt_out_order);
        self.do_not_contact = later(self.do_not_contact, erased.do_not_contact, do_not_contact_order);
    }

    /// Is what was said at `at` among what was erased before this conversation began?
    #[must_use]
    pub fn is_erased_before(&self, at: Timestamp) -> bool {
        self.nothing_before.is_some_and(|it| at <= it)
    }

    /// Where its messages may lie: here, and in the conversations that were merged into it.
    pub fn everywhere(&self) -> impl Iterator<Item = &ConversationId> {
        std::iter::once(&self.id).chain(&self.parts)
    }

    /// The customer, by the newest addresses that may be sent to.
    #[must_use]
    pub fn customer(&self) -> Option<Customer> {
        Customer::known_by(self.phone().cloned(), self.bsuid().cloned())
    }

    /// The newest phone number.
    #[must_use]
    pub fn phone(&self) -> Option<&Phone> {
        let phones = self.addresses.iter().filter_map(|it| match &it.address {
            Address::Phone(phone) if !it.retired => Some((it.at, phone)),
            Address::Phone(_) | Address::Bsuid(_) => None,
        });
        phones.max().map(|it| it.1)
    }

    /// The newest user id that is still in use.
    #[must_use]
    pub fn bsuid(&self) -> Option<&Bsuid> {
        let ids = self.addresses.iter().filter_map(|it| match &it.address {
            Address::Bsuid(bsuid) if !it.retired => Some((it.at, bsuid)),
            Address::Phone(_) | Address::Bsuid(_) => None,
        });
        ids.max().map(|it| it.1)
    }

    /// What is known of an address here.
    #[must_use]
    pub fn known(&self, address: &Address) -> Option<&Known> {
        self.addresses.iter().find(|it| it.address == *address)
    }

    /// Adds an address, or newer evidence of it.
    pub fn add_address(&mut self, address: &Address, at: Timestamp) {
        match self.addresses.iter_mut().find(|it| it.address == *address) {
            Some(it) if at > it.at => {
                it.at = at;
                // A user id that was replaced stays so; a phone may come back.
                it.retired = it.retired && matches!(address, Address::Bsuid(_));
            }
            Some(_) => {}
            None => self.addresses.push(Known { address: address.clone(), at, retired: false }),
        }
    }

    /// The window on a number.
    #[must_use]
    pub fn window(&self, number: &NumberId) -> Window {
        self.windows.get(number).copied().unwrap_or_default()
    }

    /// Is a message of this time newer than any before it? Then it cannot be a repeat.
    #[must_use]
    pub fn is_newer(&self, at: Timestamp) -> bool {
        self.last_inbound_at.is_none_or(|it| at > it)
    }

    /// Does a person have the conversation? They lose it with the end of the window in which they had it.
    #[must_use]
    pub fn has_person(&self, now: Timestamp) -> bool {
        self.handling.is_some_and(|it| it.by == Answerer::Person) && self.person_lost_it_at(now).is_none()
    }

    /// When the window ended in which a person had the conversation, if it has.
    fn person_lost_it_at(&self, now: Timestamp) -> Option<Timestamp> {
        let Some(Handling { by: Answerer::Person, at }) = self.handling else { return None };
        let ends_at = self.windows.values().filter_map(|it| it.closes_at()).max();
        ends_at.filter(|it| *it > at && *it <= now)
    }

    /// A person takes the conversation, unless a later word was said.
    ///
    /// What was owed to the agent is the person's now: the agent is told of it as missed.
    pub fn take(&mut self, at: Timestamp) {
        let before = self.handling;
        self.handle(Handling { by: Answerer::Person, at });
        if self.handling != before {
            self.owed_is_missed();
        }
    }

    /// What was owed to the agent will be no turn, but is named as missed in the next one.
    pub fn owed_is_missed(&mut self) {
        self.missed = joined_spans(self.missed.take(), self.owed.take());
    }

    /// The turn of this message, which was on its way to the agent, is owed from now on.
    pub fn owe(&mut self, message: &MessageKey, now: Timestamp) {
        self.take_back_missed(message);
        Span::extend(&mut self.owed, message);
        let before = self.turned_back.take().filter(|it| now.since(it.last) <= TURN_WITHIN);
        let first = before.map_or(message.at, |it| it.first.min(message.at));
        self.turned_back = Some(TurnedBack { first, last: now });
    }

    /// Is something owed that comes before this message? Then it must not be handed over yet.
    #[must_use]
    pub fn owes_before(&self, message: &MessageKey) -> bool {
        self.owed.as_ref().is_some_and(|it| (it.first.at, &it.first.id) < (message.at, &message.id))
    }

    /// What went by way of its file is handed over up to this message: if nothing has followed it, what comes next goes straight to the agent.
    pub fn out_of_media(&mut self, message: &MessageKey) {
        if self.in_media.as_ref().is_some_and(|it| (it.at, &it.id) == (message.at, &message.id)) {
            self.in_media = None;
        }
    }

    /// What was owed is handed over up to `next`, from which on it is owed still.
    pub fn owed_from(&mut self, next: Option<MessageKey>) {
        self.owed = self.owed.take().zip(next).map(|(it, first)| Span { first, last: it.last });
    }

    /// The agent missed this message.
    pub fn miss(&mut self, message: &MessageKey) {
        self.take_back_missed(message);
        Span::extend(&mut self.missed, message);
    }

    /// What the turn of this message named as missed is not told with it: the next turn names it.
    fn take_back_missed(&mut self, message: &MessageKey) {
        let told = self.decided.values_mut().find(|it| it.message == *message).and_then(|it| it.missed.take());
        self.missed = joined_spans(self.missed.take(), told);
    }

    /// The conversation goes back to the agent, unless a later word was said.
    pub fn release(&mut self, at: Timestamp) {
        self.handle(Handling { by: Answerer::Agent, at });
    }

    fn handle(&mut self, handling: Handling) {
        self.handling = later(self.handling, Some(handling), handling_order);
    }

    fn control(&mut self, is_ours: bool, at: Timestamp) {
        self.control = later(self.control, Some(Control { is_ours, at }), control_order);
    }

    /// The newest word on marketing wins.
    pub fn prefer(&mut self, preference: Preference, at: Timestamp) {
        self.opt_out = later(self.opt_out, Some(OptOut { preference, at }), opt_out_order);
    }

    /// Meta refused a send of `at` on this number as outside the window.
    pub fn refused(&mut self, number: &NumberId, at: Timestamp) {
        let it = self.window(number).refused_at(at);
        self.windows.insert(number.clone(), it);
    }

    /// Says whether templates may be sent at all; the newest word wins.
    pub fn set_do_not_contact(&mut self, is_set: bool, at: Timestamp) {
        self.do_not_contact = later(self.do_not_contact, Some(DoNotContact { is_set, at }), do_not_contact_order);
    }

    /// Meta takes no marketing for this customer until then.
    pub fn limit_marketing(&mut self, until: Timestamp) {
        self.marketing_limited_until = self.marketing_limited_until.max(Some(until));
    }

    /// Takes in what the customer shows of themselves, unless something newer is known; long names are cut.
    pub fn show(&mut self, profile: &Profile, at: Timestamp) {
        let cut = |it: &Option<String>| it.as_ref().map(|it| it.chars().take(SHOWN_AT_MOST).collect());
        let profile = Profile { name: cut(&profile.name), username: cut(&profile.username) };
        if profile != Profile::default() {
            self.profile = later(self.profile.take(), Some(Shown { profile, at }), shown_order);
        }
    }

    /// A person has read what the customer wrote up to `at`.
    pub fn read(&mut self, at: Timestamp) {
        self.read_at = self.read_at.max(Some(at));
    }

    /// Did the customer write something that no person has read?
    #[must_use]
    pub fn is_unread(&self) -> bool {
        self.last_inbound_at > self.read_at
    }

    /// The number that the customer knows, if it is one of these.
    #[must_use]
    pub fn sender_among(&self, usable: &[NumberId]) -> Option<&NumberId> {
        self.sender.as_ref().map(|it| &it.number).filter(|it| usable.contains(it))
    }

    /// May this template go out now? `usable` are the numbers that can send.
    ///
    /// # Errors
    /// The refusal that whoever sends it is told.
    pub fn admit_template(&self, send: &TemplateSend<'_>, usable: &[NumberId], now: Timestamp) -> Result<Admitted, Refusal> {
        if self.do_not_contact.is_some_and(|it| it.is_set) {
            return Err(Refusal::DoNotContact);
        }
        if send.is_marketing() {
            if self.opt_out.is_some_and(|it| it.preference == Preference::Stop) {
                return Err(Refusal::OptedOut);
            }
            if let Some(until) = self.marketing_limited_until.filter(|it| now < *it) {
                return Err(Refusal::MarketingLimit { until });
            }
        }
        let is_open = matches!(self.standing(now), Standing::Open { .. }) && self.sender_among(usable).is_some();
        if is_open || !send.is_guarded() {
            return Ok(Admitted { has_badge: !is_open, reserves: false });
        }
        match &self.unanswered {
            Some(it) if now < it.since.plus(AWAITS_FOR) && !it.is_passed_by(send) => Err(Refusal::AwaitingReply { since: it.since }),
            Some(_) | None => Ok(Admitted { has_badge: true, reserves: true }),
        }
    }

    /// Takes the guard for this template if it needs it, and makes `number` the sender if the customer has none that can send.
    ///
    /// # Errors
    /// As [`Self::admit_template`]; then nothing is changed.
    pub fn reserve(
        &mut self,
        send: &TemplateSend<'_>,
        usable: &[NumberId],
        number: &NumberId,
        now: Timestamp,
    ) -> Result<Admitted, Refusal> {
        let admitted = self.admit_template(send, usable, now)?;
        if self.sender_among(usable).is_none() {
            self.sender = Some(Sender { number: number.clone(), at: Timestamp::default() });
        }
        let is_its_own = self.unanswered.as_ref().is_some_and(|it| it.is_of(send.message));
        if admitted.reserves && !is_its_own {
            self.unanswered = Some(Unanswered { message: send.message.clone(), since: now });
        }
        Ok(admitted)
    }

    /// Takes back the reservation of this message, and of no other.
    pub fn release_reservation(&mut self, message: &MessageKey) {
        if self.unanswered.as_ref().is_some_and(|it| it.is_of(message)) {
            self.unanswered = None;
        }
    }

    /// Remembers a deletion whose message is not here.
    pub fn remember_revoked(&mut self, id: &str) {
        if !self.revoked.iter().any(|it| it == id) {
            self.revoked.push(id.to_owned());
            let surplus = self.revoked.len().saturating_sub(REVOKED_KEPT);
            self.revoked.drain(..surplus);
        }
    }

    /// The message of a deletion is here: there is nothing left to remember.
    pub fn forget_revoked(&mut self, id: &str) {
        self.revoked.retain(|it| it != id);
    }

    /// What may be sent now.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> Standing {
        let window = self.sender.as_ref().map(|it| self.window(&it.number)).unwrap_or_default();
        match (window.closes_at(), &self.unanswered) {
            (Some(until), _) if now < until => Standing::Open { until },
            (_, Some(it)) if now < it.since.plus(AWAITS_FOR) => Standing::AwaitingReply { since: it.since },
            (closed_at, _) => Standing::TemplateOnly { closed_at },
        }
    }

    /// The number from which a free-form message of this author may go out now.
    ///
    /// # Errors
    /// The refusal that the author is told.
    pub fn admit_reply(&self, author: Author, numbers: &[NumberId], now: Timestamp) -> Result<NumberId, Refusal> {
        if author == Author::Agent {
            if self.has_person(now) {
                return Err(Refusal::TakenByPerson);
            }
            if self.control.is_some_and(|it| !it.is_ours) {
                return Err(Refusal::HandledElsewhere);
            }
        }
        match self.standing(now) {
            Standing::AwaitingReply { since } => return Err(Refusal::AwaitingReply { since }),
            Standing::TemplateOnly { closed_at } => return Err(Refusal::TemplateOnly { closed_at }),
            Standing::Open { .. } => {}
        }
        match &self.sender {
            Some(it) if numbers.contains(&it.number) => Ok(it.number.clone()),
            Some(_) | None => Err(Refusal::SenderGone),
        }
    }

    /// Takes in what Meta told of this customer on a number, and decides to whom it goes.
    ///
    /// A repeat of the message that was decided last on the number gets that decision again.
    pub fn receive(&mut self, number: &NumberId, key: &MessageKey, event: &Event, facts: &Facts, now: Timestamp) -> Decided {
        // A merge since may have changed the conversation in the key, but not the rest of it.
        if let Some(it) = self.decided.get(number).filter(|it| (it.message.at, &it.message.id) == (key.at, &key.id)) {
            return it.clone();
        }
        let person_had_it = self.has_person(now);
        self.settle_handling(now);
        self.apply(number, event, now);
        let decided = self.decide(key, event, facts, person_had_it, now);
        if matches!(event.effect().kept, Kept::AsMessage) {
            self.decided.insert(number.clone(), decided.clone());
        }
        decided
    }

    /// Writes down that the end of the window gave the conversation back: as of that end, so that a later word of a person holds though it
    /// is heard only now.
    fn settle_handling(&mut self, now: Timestamp) {
        if let Some(at) = self.person_lost_it_at(now) {
            self.handling = Some(Handling { by: Answerer::Agent, at });
        }
    }

    fn apply(&mut self, number: &NumberId, event: &Event, now: Timestamp) {
        let at = event.at();
        if event.effect().opens == Opens::Yes {
            let opened = self.window(number).opened_at(at, now);
            self.windows.insert(number.clone(), opened);
            self.sender = later(self.sender.take(), Some(Sender { number: number.clone(), at }), sender_order);
            self.last_inbound_at = self.last_inbound_at.max(Some(at));
            self.answered(at);
        }
        match event {
            Event::Message(it) if !it.in_group => self.control(true, at),
            Event::Standby(it) if !it.in_group => self.control(false, at),
            Event::Handover { handover, .. } => self.control(*handover == Handover::Passed, at),
            Event::Preference { preference, .. } => self.prefer(*preference, at),
            Event::Echo(_) => self.take(at),
            Event::Message(_)
            | Event::Standby(_)
            | Event::Reaction { .. }
            | Event::Edit { .. }
            | Event::Revoke { .. }
            | Event::Call { .. }
            | Event::Changed { .. }
            | Event::Note { .. } => {}
        }
    }

    /// The customer wrote at `at`: a template that is not newer waits for its answer no more.
    fn answered(&mut self, at: Timestamp) {
        if self.unanswered.as_ref().is_some_and(|it| at.plus(SECOND) >= it.since) {
            self.unanswered = None;
        }
    }

    fn decide(&mut self, key: &MessageKey, event: &Event, facts: &Facts, person_had_it: bool, now: Timestamp) -> Decided {
        let at = event.at();
        let has_file = event.media().is_some_and(|it| it.id.is_some());
        let mut decided = Decided {
            message: key.clone(),
            to: HandTo::Nobody,
            through: Through::Turns,
            fetches: has_file && facts.may_fetch && event.effect().kept == Kept::AsMessage,
            is_late: now.since(at) > LATE_AFTER,
            missed: None,
        };
        let is_hourly = event.effect().turns == Turns::Hourly;
        let is_turn = match event.effect().turns {
            Turns::Yes => true,
            Turns::Hourly => self.unsupported_told_at.is_none_or(|it| at >= it.plus(UNSUPPORTED_EVERY)),
            Turns::No => false,
        };
        let is_ours = at.plus(SECOND) >= facts.claimed_at;
        let Some(listener) = facts.agent.as_ref().filter(|_| is_turn && is_ours && now.since(at) <= TURN_WITHIN) else {
            return decided;
        };
        let agent = listener.agent.clone();
        if person_had_it {
            self.miss(key);
            return decided;
        }
        if is_hourly {
            self.unsupported_told_at = self.unsupported_told_at.max(Some(at));
        }
        if facts.is_running && !facts.is_behind {
            // What is owed is handed over before: the first turn of that names what was missed.
            decided.missed = if self.owed.is_none() { self.missed.take() } else { None };
            decided.to = HandTo::Agent(agent);
            decided.fetches = false;
            decided.through = match has_file || listener.gathers || self.in_media.is_some() || facts.is_behind_media {
                true => Through::Media,
                false if listener.over_https => Through::Bridge,
                false => Through::Turns,
            };
            if decided.through == Through::Media {
                self.in_media = Some(key.clone());
            }
        } else {
            Span::extend(&mut self.owed, key);
            decided.to = HandTo::Owed(agent);
        }
        decided
    }

    /// Takes the other conversation into this one: they are with one person. The latest of Meta's times decides each thing.
    #[must_use]
    pub fn merged(mut self, other: Self) -> Self {
        for it in other.addresses {
            self.join_address(it);
        }
        for (number, window) in other.windows {
            let joined = self.window(&number).joined(window);
            self.windows.insert(number, joined);
        }
        self.sender = later(self.sender, other.sender, sender_order);
        self.unanswered = later(self.unanswered, other.unanswered, |it| (it.since, it.message.clone()));
        self.handling = later(self.handling, other.handling, handling_order);
        self.control = later(self.control, other.control, control_order);
        self.opt_out = later(self.opt_out, other.opt_out, opt_out_order);
        self.do_not_contact = later(self.do_not_contact, other.do_not_contact, do_not_contact_order);
        self.marketing_limited_until = self.marketing_limited_until.max(other.marketing_limited_until);
        self.nothing_before = self.nothing_before.max(other.nothing_before);
        for (number, decided) in other.decided {
            let latest = later(self.decided.remove(&number), Some(decided), |it| (it.message.at, it.message.clone()));
            self.decided.extend(latest.map(|it| (number, it)));
        }
        self.profile = later(self.profile, other.profile, shown_order);
        self.read_at = self.read_at.max(other.read_at);
        self.missed = joined_spans(self.missed, other.missed);
        self.owed = joined_spans(self.owed, other.owed);
        self.turned_back = match (self.turned_back, other.turned_back) {
            (Some(a), Some(b)) => Some(TurnedBack { first: a.first.min(b.first), last: a.last.max(b.last) }),
            (a, b) => a.or(b),
        };
        self.in_media = later(self.in_media, other.in_media, MessageKey::clone);
        self.last_inbound_at = self.last_inbound_at.max(other.last_inbound_at);
        if let Some(at) = self.last_inbound_at {
            self.answered(at);
        }
        self.unsupported_told_at = self.unsupported_told_at.max(other.unsupported_told_at);
        self.active_hour = self.active_hour.max(other.active_hour);
        for it in &other.revoked {
            self.remember_revoked(it);
        }
        for it in std::iter::once(other.id).chain(other.parts) {
            if it != self.id && !self.parts.contains(&it) {
                self.parts.push(it);
            }
        }
        self
    }

    /// Takes in what the other conversation knows of an address: of a phone the newer evidence says whether it is in use.
    fn join_address(&mut self, other: Known) {
        let Some(it) = self.addresses.iter_mut().find(|it| it.address == other.address) else {
            self.addresses.push(other);
            return;
        };
        it.retired = match it.address {
            // A user id that was replaced stays so.
            Address::Bsuid(_) => it.retired || other.retired,
            Address::Phone(_) => (it.at, it.retired).max((other.at, other.retired)).1,
        };
        it.at = it.at.max(other.at);
    }

    /// What is left of a conversation that was merged into another: the way there.
    #[must_use]
    pub fn moved(self, to: ConversationId) -> Self {
        Self { moved_to: Some(to), ..Self::new(self.id, self.connection) }
    }

    /// An old user id: it receives still, and is never sent to.
    pub fn retire(&mut self, address: &Address) {
        if let Some(it) = self.addresses.iter_mut().find(|it| it.address == *address) {
            it.retired = true;
        }
    }

    /// The customer gave this phone up as of `at`: it is not sent to, and older evidence does not bring it back.
    pub fn give_up(&mut self, address: &Address, at: Timestamp) {
        if let Some(it) = self.addresses.iter_mut().find(|it| it.address == *address) {
            it.at = at;
            it.retired = true;
        }
    }

    /// The address is somebody else's now.
    pub fn forget(&mut self, address: &Address) {
        self.addresses.retain(|it| it.address != *address);
    }

    /// The customer changed: what Meta thinks of the windows is unknown, so they count as closed as of `at`.
    pub fn close_windows(&mut self, at: Timestamp) {
        for it in self.windows.values_mut() {
            *it = it.refused_at(at);
        }
    }
}

/// The later of two by `order`, which tells any two apart that differ: else what is told in another order would end otherwise.
fn later<T, O: Ord>(one: Option<T>, other: Option<T>, order: impl Fn(&T) -> O) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if order(&other) > order(&one) { other } else { one }),
        (one, other) => one.or(other),
    }
}

/// Of two numbers that were written to in one second either may answer: it is the same one in any order.
fn sender_order(it: &Sender) -> (Timestamp, NumberId) {
    (it.at, it.number.clone())
}

/// Of two words of one time the person's wins: an agent must not talk over a person.
fn handling_order(it: &Handling) -> (Timestamp, bool) {
    (it.at, it.by == Answerer::Person)
}

/// Of two words of one second the one that silences us wins: two responders must not answer.
fn control_order(it: &Control) -> (Timestamp, bool) {
    (it.at, !it.is_ours)
}

/// Of two words of one time the one against marketing wins.
fn opt_out_order(it: &OptOut) -> (Timestamp, bool) {
    (it.at, it.preference == Preference::Stop)
}

/// Of two names of one second either may stand: it is the same one in any order.
fn shown_order(it: &Shown) -> (Timestamp, Option<String>, Option<String>) {
    (it.at, it.profile.name.clone(), it.profile.username.clone())
}

/// Of two words of one time the one that forbids wins.
fn do_not_contact_order(it: &DoNotContact) -> (Timestamp, bool) {
    (it.at, it.is_set)
}

fn joined_spans(one: Option<Span>, other: Option<Span>) -> Option<Span> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.joined(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod guard_tests;
#[cfg(test)]
mod tests;
