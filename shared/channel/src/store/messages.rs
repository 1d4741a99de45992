//! Items of the table `messages`: what customers wrote, what we sent, and what was remarked on either.

use std::time::Duration;

use domain::conversation::{Conversation, Span};
use domain::customer::Customer;
use domain::ids::{AgentId, ConnectionId, ConversationId, MessageId, MessageKey, NumberId, Wamid};
use domain::message::Event;
use domain::refusal::Retry;
use domain::status::{Fault, History, Phase, Pricing, State, Step, Steps};
use domain::template::{Language, TemplateName};
use domain::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::outbox::Fence;

use super::dynamo::{Condition, Range, Read, Update, Written};
use super::keys::{self, Table};
use super::{FileItem, RACES, Store, StoreError};

/// Words up to this many bytes lie in the message's own item, so that the item stays within one write unit (1 KB) with all its statuses.
///
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html>
const INLINE: usize = 350;
/// What stands around the words of a message of ours, as JSON: names.
const INLINE_CONTENT: usize = INLINE + 50;
/// What stands around the words of a customer's message: names, its id and time.
const INLINE_EVENT: usize = INLINE + 200;
/// So long are the names of most templates and campaigns together; what is longer takes the room of the words.
const NAMES: usize = 100;

/// To whom a customer's message was handed over when it was kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandedOver {
    /// To this agent.
    Agent(AgentId),
    /// To this agent, once it can be.
    Owed(AgentId),
    /// To nobody.
    Nobody,
}

/// Something that a customer sent, or that Meta told of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbound {
    /// The connection.
    pub connection: ConnectionId,
    /// The number that it came to.
    pub number: NumberId,
    /// The event as JSON; empty if it lies beside, or was erased.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    event: String,
    /// To whom it was handed over.
    pub handed: HandedOver,
    /// When it arrived.
    pub heard_at: Timestamp,
    /// The customer deleted it: there is no content any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub erased: bool,
    /// Since when it is owed, if it was handed over and its agent's endpoint did not take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owed_at: Option<Timestamp>,
    /// The message in whose turn it was told too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_with: Option<MessageId>,
    /// What became of its file, which lies beside: where several messages are read.
    #[serde(skip)]
    pub file: Option<FileItem>,
}

impl Inbound {
    /// A message to keep. What was deleted before it came has no content.
    ///
    /// # Errors
    /// [`StoreError::Unwritable`].
    pub fn new(
        connection: ConnectionId,
        number: NumberId,
        event: &Event,
        handed: HandedOver,
        heard_at: Timestamp,
        erased: bool,
    ) -> Result<Self, StoreError> {
        let event = if erased { String::new() } else { json(event)? };
        Ok(Self { connection, number, event, handed, heard_at, erased, owed_at: None, told_with: None, file: None })
    }

    /// The event, unless it was erased.
    #[must_use]
    pub fn event(&self) -> Option<Event> {
        serde_json::from_str(&self.event).ok()
    }
}

/// Who wrote a message of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Writer {
    /// An agent.
    Agent(AgentId),
    /// A person, by the name that the platform gave.
    Person(String),
    /// A campaign.
    Campaign,
}

/// The template that a message was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TemplateUsed {
    /// Its name.
    pub name: TemplateName,
    /// Its language.
    pub language: Language,
}

/// Whose a step of a campaign is, for one customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct OnceItem {
    /// The message that has it.
    message: MessageId,
}

/// One attempt to send a message, and what Meta told of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Attempt {
    /// When it was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed_at: Option<Timestamp>,
    /// When Meta took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_at: Option<Timestamp>,
    /// Meta's id of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wamid: Option<Wamid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sent: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delivered: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    read: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    played: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failed: Option<Timestamp>,
    /// Meta's reason for `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

impl Attempt {
    /// When Meta told of a step, by its own clock.
    #[must_use]
    pub fn told(&self, step: Step) -> Option<Timestamp> {
        match step {
            Step::Sent => self.sent,
            Step::Delivered => self.delivered,
            Step::Read => self.read,
            Step::Played => self.played,
            Step::Failed => self.failed,
        }
    }

    fn steps(&self) -> Steps {
        Step::ALL.into_iter().filter_map(|step| Some((step, self.told(step)?))).collect()
    }
}

/// A message of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbound {
    /// The connection.
    pub connection: ConnectionId,
    /// The number that it goes out from; none if it was refused before one was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<NumberId>,
    /// What it is: `text`, `image`, ….
    pub kind: String,
    /// The content as JSON; empty if it lies beside.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    content: String,
    /// Who wrote it.
    pub author: Writer,
    /// The template that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateUsed>,
    /// The campaign's own words for itself, which come back on every event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaign: Option<String>,
    /// The hash of the campaign's step that it holds for this customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<String>,
    /// The message that it is sent again for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resends: Option<MessageKey>,
    /// It is a template that went out without an open window.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub template_badge: bool,
    /// To whom it goes, as they were known when it was claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Customer>,
    /// Where it stands by our own doing.
    pub phase: Phase,
    /// The number of attempts, from 1; 0 if it was never tried.
    pub attempt: u8,
    /// How often Meta told us to slow down, since the last attempt.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub throttled: u32,
    /// Drawn by the call that claimed it: a call that is repeated, because its answer was lost, finds its own claim by this.
    #[serde(default)]
    claim: u64,
    /// The first attempt.
    #[serde(default)]
    attempt_1: Attempt,
    /// The second attempt, made after an unknown outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attempt_2: Option<Attempt>,
    /// The code of the refusal or of Meta's fault that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What a person is told of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Whether to send the same again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// When it ended by our own doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// What Meta charges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pricing: Option<Pricing>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(it: &u32) -> bool {
    *it == 0
}

impl Outbound {
    /// A message of ours that has not been tried yet: to be [claimed](Self::claimed), or [ended](Self::ended).
    #[must_use]
    pub fn draft(connection: ConnectionId, kind: &str, content: String, author: Writer) -> Self {
        Self {
            connection,
            number: None,
            kind: kind.to_owned(),
            content,
            author,
            template: None,
            campaign: None,
            once: None,
            resends: None,
            template_badge: false,
            to: None,
            phase: Phase::Sending,
            attempt: 0,
            throttled: 0,
            claim: 0,
            attempt_1: Attempt::default(),
            attempt_2: None,
            ended_at: None,
            code: None,
            note: None,
            retry: None,
            pricing: None,
        }
    }

    /// The same, with this content, as JSON.
    #[must_use]
    pub fn with_content(self, content: String) -> Self {
        Self { content, ..self }
    }

    /// The same, on its way from a number to a customer with attempt 1.
    #[must_use]
    pub fn claimed(self, number: NumberId, to: Customer, at: Timestamp) -> Self {
        let attempt_1 = Attempt { claimed_at: Some(at), ..Attempt::default() };
        Self { attempt: 1, number: Some(number), to: Some(to), attempt_1, ..self }
    }

    /// The same, refused before it was tried.
    #[must_use]
    pub fn ended(self, ending: Ending, at: Timestamp) -> Self {
        let Ending { code, note, retry } = ending;
        Self { phase: Phase::Failed, ended_at: code.as_ref().map(|_| at), code, note, retry, ..self }
    }

    /// A message that a person wrote in the WhatsApp Business app, as Meta echoes it.
    #[must_use]
    pub fn echoed(
        connection: ConnectionId,
        number: NumberId,
        kind: &str,
        content: String,
        to: Customer,
        wamid: Wamid,
        at: Timestamp,
    ) -> Self {
        let author = Writer::Person("WhatsApp Business app".to_owned());
        let mut it = Self::draft(connection, kind, content, author).claimed(number, to, at);
        it.phase = Phase::Accepted;
        it.attempt_1.accepted_at = Some(at);
        it.attempt_1.wamid = Some(wamid);
        it
    }

    /// The content as JSON, where it lies in the item; empty if it was erased.
    #[must_use]
    pub fn content(&self) -> &str {
        &self.content
    }

    /// The attempt of this number, from 1.
    #[must_use]
    pub fn attempt(&self, attempt: u8) -> Option<&Attempt> {
        match attempt {
            1 => Some(&self.attempt_1),
            2 => self.attempt_2.as_ref(),
            _ => None,
        }
    }

    /// The newest attempt.
    #[must_use]
    pub fn newest_attempt(&self) -> &Attempt {
        self.attempt_2.as_ref().unwrap_or(&self.attempt_1)
    }

    /// What is known of what became of it.
    #[must_use]
    pub fn history(&self) -> History {
        let attempts = std::iter::once(&self.attempt_1).chain(&self.attempt_2).map(Attempt::steps).collect();
        History { phase: self.phase, attempts }
    }

    /// What became of it.
    #[must_use]
    pub fn state(&self) -> State {
        self.history().state()
    }

    /// Does one of its attempts bear this id of Meta's?
    #[must_use]
    pub fn attempt_of(&self, wamid: &Wamid) -> Option<u8> {
        (1..=2).find(|it| self.attempt(*it).and_then(|it| it.wamid.as_ref()) == Some(wamid))
    }
}

/// How a message ended by our own doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ending {
    /// The code of the refusal or fault.
    pub code: Option<String>,
    /// What a person is told.
    pub note: Option<String>,
    /// Whether to send the same again.
    pub retry: Option<Retry>,
}

/// Which way a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the customer.
    Inbound,
    /// To the customer.
    Outbound,
}

/// How often an agent's endpoint did not take a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct TurnUntaken {
    /// How often by now.
    #[serde(rename = "untaken_times")]
    pub times: u32,
    /// Since when.
    #[serde(rename = "untaken_since")]
    pub since: Timestamp,
}

/// One item under a message's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "direction", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "items come one by one or in tens; a box would be unpacked wherever one is read")]
pub enum MessageItem {
    /// A customer's.
    Inbound(Inbound),
    /// Ours.
    Outbound(Outbound),
    /// Content that was too long for the item beside it.
    Body {
        /// As JSON.
        json: String,
    },
    /// What became of the customer's file in the message beside it.
    File(Box<FileItem>),
    /// The shell of a message whose data were erased: that there was one, so that no repeat of Meta's makes it anew.
    Shell,
}

impl MessageItem {
    fn json_mut(&mut self) -> Option<(&mut String, usize)> {
        match self {
            Self::Inbound(it) => Some((&mut it.event, INLINE_EVENT)),
            Self::Outbound(it) => {
                let names = it.campaign.as_ref().map_or(0, String::len) + it.template.as_ref().map_or(0, |it| it.name.as_str().len());
                Some((&mut it.content, INLINE_CONTENT.saturating_sub(names.saturating_sub(NAMES))))
            }
            Self::Body { .. } | Self::File(_) | Self::Shell => None,
        }
    }

    /// Is it a customer's message with a file, which may lie beside it or be on its way?
    #[must_use]
    pub fn has_file(&self) -> bool {
        match self {
            Self::Inbound(it) => it.file.is_some() || it.event().is_some_and(|it| it.media().is_some()),
            Self::Outbound(_) | Self::Body { .. } | Self::File(_) | Self::Shell => false,
        }
    }

    /// Which way it went.
    #[must_use]
    pub fn direction(&self) -> Direction {
        match self {
            Self::Inbound(_) | Self::File(_) => Direction::Inbound,
            Self::Outbound(_) | Self::Body { .. } | Self::Shell => Direction::Outbound,
        }
    }
}

/// A place in the history of a conversation: what is older lies before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// The time of the message that stands there.
    pub at: Timestamp,
    /// The message that stands there.
    pub id: MessageId,
}

/// A message with its key.
pub type Sorted = (MessageKey, MessageItem);

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// It is ours: the message may go out.
    Ours,
    /// The message is there already, and decides.
    Existing(Box<Outbound>),
}

/// A step that Meta told of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeardStep {
    /// The attempt, from 1.
    pub attempt: u8,
    /// The step.
    pub step: Step,
    /// Meta's time of it.
    pub at: Timestamp,
    /// Meta's id of the attempt.
    pub wamid: Wamid,
    /// What Meta charges.
    pub pricing: Option<Pricing>,
    /// Meta's reason for `failed`.
    pub fault: Option<Fault>,
}

/// What became of steps that Meta told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Merged: the message as it is now.
    Merged(Box<Outbound>),
    /// There is no such message of this number and connection.
    Foreign,
}

/// What was remarked on a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remark {
    /// Meta's time of it.
    pub at: Timestamp,
    /// The emoji of a reaction, or the new content of an edit as JSON; nothing where a reaction was taken off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
}

/// The kinds of remark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemarkKind {
    /// An emoji.
    Reaction,
    /// New content.
    Edit,
    /// Deleted for everyone.
    Revoke,
}

/// A remark, and on what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remarked {
    /// The hash of number and wamid of what it is on: for a customer's message that is the message's id.
    pub target: String,
    /// What it is.
    pub kind: RemarkKind,
    /// The remark.
    pub remark: Remark,
}

impl RemarkKind {
    const ALL: [Self; 3] = [Self::Reaction, Self::Edit, Self::Revoke];

    fn name(self) -> &'static str {
        match self {
            Self::Reaction => "reaction",
            Self::Edit => "edit",
            Self::Revoke => "revoke",
        }
    }
}

impl Store {
    /// Keeps a message unless it is there; then what is there. Long content is written first, beside it.
    ///
    /// TTL takes it away, with what lies beside it, within days after its time: that is cleaning up, and nothing here relies on it. What a
    /// connection's retention is changed to holds for what is kept from then on.
    async fn put_message(&self, key: &MessageKey, mut item: MessageItem, kept_for: Duration) -> Result<Written<MessageItem>, StoreError> {
        let expires_at = Some(expires_at(key.at, kept_for));
        let long = item.json_mut().filter(|(json, inline)| json.len() > *inline).map(|(json, _)| std::mem::take(json));
        let Some(json) = long else { return self.dynamo.put(&keys::message(key), &item, None, expires_at, Condition::Absent).await };
        // A repeat with other words must not change those of the message that is there.
        let body = MessageItem::Body { json };
        let beside: Written<MessageItem> = self.dynamo.put(&keys::body(key), &body, None, expires_at, Condition::Absent).await?;
        let written = self.dynamo.put(&keys::message(key), &item, None, expires_at, Condition::Absent).await?;
        if let (Written::Done, Written::Lost(Some(left))) = (&written, beside)
            && left != body
        {
            // Somebody stopped between the two writes: their words were never sent.
            let _: Written<MessageItem> = self.dynamo.put(&keys::body(key), &body, None, expires_at, Condition::Always).await?;
        }
        Ok(written)
    }

    /// Keeps a customer's message: false if it was there already. Only this creates one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_inbound(&self, key: &MessageKey, inbound: Inbound, kept_for: Duration) -> Result<bool, StoreError> {
        Ok(matches!(self.put_message(key, MessageItem::Inbound(inbound), kept_for).await?, Written::Done))
    }

    /// Claims a message of ours, or keeps one that ended before it was tried.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim(&self, key: &MessageKey, outbound: Outbound, kept_for: Duration) -> Result<Claim, StoreError> {
        let claim = drawn();
        match self.put_message(key, MessageItem::Outbound(Outbound { claim, ..outbound }), kept_for).await? {
            Written::Done => Ok(Claim::Ours),
            Written::Lost(Some(MessageItem::Outbound(it))) if it.claim == claim => Ok(Claim::Ours),
            Written::Lost(Some(MessageItem::Outbound(it))) => Ok(Claim::Existing(Box::new(it))),
            Written::Lost(_) => Err(StoreError::Contended { what: "message" }),
        }
    }

    /// Claims a message again after a definite no. False if somebody else was first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reclaim(
        &self,
        key: &MessageKey,
        attempt: u8,
        number: &NumberId,
        to: &Customer,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let update = Update::existing()
            .when("phase", &Phase::Released)?
            .set("phase", &Phase::Sending)?
            .set("number", number)?
            .set("to", to)?
            .set(&format!("attempt_{attempt}.claimed_at"), &at)?;
        self.claimed(key, update).await
    }

    /// Claims the second attempt of a reply whose first one may or may not have been sent. False if somebody else was first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim_second(&self, key: &MessageKey, to: &Customer, at: Timestamp) -> Result<bool, StoreError> {
        let update = Update::existing()
            .when("phase", &Phase::Sending)?
            .when("attempt", &1)?
            .set("attempt", &2)?
            .set("to", to)?
            .set("attempt_2", &Attempt { claimed_at: Some(at), ..Attempt::default() })?;
        self.claimed(key, update).await
    }

    async fn claimed(&self, key: &MessageKey, update: Update) -> Result<bool, StoreError> {
        let claim = drawn();
        let updated: Result<MessageItem, Option<MessageItem>> =
            self.dynamo.update(&keys::message(key), update.set("claim", &claim)?).await?;
        Ok(match updated {
            Ok(_) => true,
            Err(there) => matches!(there, Some(MessageItem::Outbound(it)) if it.claim == claim),
        })
    }

    /// Meta took it. A status may have told so before: what was seen first stays. The message as it is now; `None` if it is gone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn accepted(
        &self,
        key: &MessageKey,
        attempt: u8,
        wamid: &Wamid,
        held: bool,
        at: Timestamp,
    ) -> Result<Option<Outbound>, StoreError> {
        let phase = if held { Phase::Held } else { Phase::Accepted };
        let update = Update::existing()
            .when("direction", &"outbound")?
            .set("phase", &phase)?
            .set_first(&format!("attempt_{attempt}.accepted_at"), &at)?
            .set_first(&format!("attempt_{attempt}.wamid"), wamid)?;
        let updated: Result<MessageItem, Option<MessageItem>> = self.dynamo.update(&keys::message(key), update).await?;
        Ok(match updated {
            Ok(MessageItem::Outbound(it)) => Some(it),
            Ok(_) | Err(_) => None,
        })
    }

    /// Meta definitely did not take it; it may be tried again. Nothing is done if it has been claimed anew since.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn released(&self, key: &MessageKey, fence: Fence, throttled: bool) -> Result<(), StoreError> {
        let update = Update::existing().when("phase", &Phase::Sending)?.set("phase", &Phase::Released)?;
        let update = fenced(update, fence)?;
        let update = if throttled { update.add("throttled", 1) } else { update };
        self.updated(key, update).await.map(|_| ())
    }

    /// It ended by our own doing: failed, or nobody knows. The message as it is now; `None` if it had ended before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ended(
        &self,
        key: &MessageKey,
        (from, fence): (Phase, Option<Fence>),
        to: Phase,
        ending: &Ending,
        at: Timestamp,
    ) -> Result<Option<Outbound>, StoreError> {
        let mut update = Update::existing().when("phase", &from)?.set("phase", &to)?.set("ended_at", &at)?;
        if let Some(fence) = fence {
            update = fenced(update, fence)?;
        }
        if let Some(it) = &ending.code {
            update = update.set("code", it)?;
        }
        if let Some(it) = &ending.note {
            update = update.set("note", it)?;
        }
        if let Some(it) = &ending.retry {
            update = update.set("retry", it)?;
        }
        let updated: Result<MessageItem, Option<MessageItem>> = self.dynamo.update(&keys::message(key), update).await?;
        Ok(match updated {
            Ok(MessageItem::Outbound(it)) => Some(it),
            // It was this very call, repeated because its answer was lost.
            Err(Some(MessageItem::Outbound(it))) if it.phase == to && it.ended_at == Some(at) && it.code == ending.code => Some(it),
            Ok(_) | Err(_) => None,
        })
    }

    /// Takes a step of a campaign for a message, wherever in the parts of the conversation the step may lie. False if another message has it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take_once(&self, conversation: &Conversation, step: &str, message: &MessageId) -> Result<bool, StoreError> {
        for part in &conversation.parts {
            if let Some(holder) = self.once_in(part, step).await? {
                return Ok(holder == *message);
            }
        }
        let item = OnceItem { message: message.clone() };
        match self.dynamo.put(&keys::once(&conversation.id, step), &item, None, None, Condition::Absent).await? {
            Written::Done => Ok(true),
            Written::Lost(there) => Ok(there.is_some_and(|it: OnceItem| it.message == *message)),
        }
    }

    /// The message that has a step of a campaign, wherever in the parts of the conversation that may lie.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn once(&self, conversation: &Conversation, step: &str) -> Result<Option<MessageId>, StoreError> {
        for part in conversation.everywhere() {
            if let Some(holder) = self.once_in(part, step).await? {
                return Ok(Some(holder));
            }
        }
        Ok(None)
    }

    async fn once_in(&self, part: &ConversationId, step: &str) -> Result<Option<MessageId>, StoreError> {
        Ok(self.dynamo.get::<OnceItem>(&keys::once(part, step), Read::Strong).await?.map(|it| it.value.message))
    }

    /// Gives a step back that a message took, if it still has it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn give_once_back(&self, conversation: &Conversation, step: &str, message: &MessageId) -> Result<(), StoreError> {
        for part in conversation.everywhere() {
            self.dynamo.delete_when(&keys::once(part, step), "message", message).await?;
        }
        Ok(())
    }

    async fn updated(&self, key: &MessageKey, update: Update) -> Result<bool, StoreError> {
        let updated: Result<MessageItem, Option<MessageItem>> = self.dynamo.update(&keys::message(key), update).await?;
        Ok(updated.is_ok())
    }

    /// Merges steps that Meta told into a message, if it is of this number and connection: in any order, any number of times.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn hear(
        &self,
        key: &MessageKey,
        connection: &ConnectionId,
        number: &NumberId,
        steps: &[HeardStep],
    ) -> Result<Heard, StoreError> {
        let mut update = Update::existing().when("direction", &"outbound")?.when("connection", connection)?.when("number", number)?;
        let mut seen = Vec::new();
        for it in steps {
            let attempt = format!("attempt_{}", it.attempt);
            for (name, value) in [("wamid", Value::Wamid(&it.wamid)), (it.step.name(), Value::Time(it.at))] {
                let path = format!("{attempt}.{name}");
                // DynamoDB refuses an update that names a path twice.
                if !seen.contains(&path) {
                    update = update.set_first(&path, &value)?;
                    seen.push(path);
                }
            }
            if let Some(fault) = it.fault.as_ref().filter(|_| it.step == Step::Failed) {
                let path = format!("{attempt}.fault");
                if !seen.contains(&path) {
                    update = update.set_first(&path, fault)?;
                    seen.push(path);
                }
            }
            if let Some(pricing) = it.pricing.as_ref().filter(|_| !seen.iter().any(|it| it == "pricing")) {
                update = update.set_first("pricing", pricing)?;
                seen.push("pricing".to_owned());
            }
            update = update.when_present(&attempt);
        }
        let updated: Result<MessageItem, Option<MessageItem>> = self.dynamo.update(&keys::message(key), update).await?;
        Ok(match updated {
            Ok(MessageItem::Outbound(it)) => Heard::Merged(Box::new(it)),
            Ok(_) | Err(_) => Heard::Foreign,
        })
    }

    /// A message, wherever in the parts of a conversation it lies.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn message(
        &self,
        parts: impl IntoIterator<Item = &ConversationId>,
        at: Timestamp,
        id: &MessageId,
    ) -> Result<Option<Sorted>, StoreError> {
        for part in parts {
            let key = MessageKey { conversation: part.clone(), at, id: id.clone() };
            if let Some(it) = self.dynamo.get::<MessageItem>(&keys::message(&key), Read::Strong).await? {
                return Ok(Some((key, it.value)));
            }
        }
        Ok(None)
    }

    /// The messages of a conversation and its parts between two times, both included, in order; long content is joined in.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn messages(
        &self,
        parts: impl IntoIterator<Item = &ConversationId>,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<Sorted>, StoreError> {
        let (from, to) = (format!("{}#", from.sortable()), format!("{}#~", to.sortable()));
        self.sorted(parts, Range { from: &from, to: &to, newest_first: false, limit: None }).await
    }

    /// The first messages of a span, wherever in the parts of a conversation they lie, in order; long content is joined in.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn first_messages(
        &self,
        parts: impl IntoIterator<Item = &ConversationId>,
        span: &Span,
        limit: usize,
    ) -> Result<Vec<Sorted>, StoreError> {
        let (from, to) = (span.first.sort_key(), format!("{}#~", span.last.sort_key()));
        // A message may have its content and its file beside it: at most three times as many items.
        let range = Range { from: &from, to: &to, newest_first: false, limit: Some(limit * 3) };
        let mut found = self.sorted(parts, range).await?;
        found.truncate(limit);
        Ok(found)
    }

    /// The newest messages of a conversation and its parts, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn newest_messages(&self, parts: impl IntoIterator<Item = &ConversationId>, limit: usize) -> Result<Vec<Sorted>, StoreError> {
        // A message may have its content and its file beside it: at most three times as many items.
        let range = Range { from: "0000000000000#", to: "9999999999999#~", newest_first: true, limit: Some(limit * 3) };
        let mut found = self.sorted(parts, range).await?;
        found.reverse();
        found.truncate(limit);
        Ok(found)
    }

    /// The messages of a conversation and its parts that are older than this place, newest first; long content is joined in.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn messages_before(
        &self,
        parts: impl IntoIterator<Item = &ConversationId>,
        before: Option<&Before>,
        limit: usize,
    ) -> Result<Vec<Sorted>, StoreError> {
        let to = before.map_or_else(|| "9999999999999#~".to_owned(), |it| format!("{}#{}", it.at.sortable(), it.id));
        // The message at the end of the range was seen before; each may have its content and its file beside it.
        let range = Range { from: "0000000000000#", to: &to, newest_first: true, limit: Some(limit * 3 + 1) };
        let mut found = self.sorted(parts, range).await?;
        found.retain(|it| before.is_none_or(|before| (it.0.at, &it.0.id) != (before.at, &before.id)));
        found.reverse();
        found.truncate(limit);
        Ok(found)
    }

    /// Everything that was remarked in a conversation and its parts. The latest of Meta's times is the last of its kind on its target.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remarks(&self, parts: impl IntoIterator<Item = &ConversationId>) -> Result<Vec<Remarked>, StoreError> {
        let mut found = Vec::new();
        for part in parts {
            let range = Range { from: "ABOUT#", to: "ABOUT#~", newest_first: false, limit: None };
            let items: Vec<(String, Remark)> = self.dynamo.query(Table::Messages, &keys::messages(part), range).await?;
            found.extend(items.into_iter().filter_map(|(sk, remark)| {
                let (target, kind) = sk.strip_prefix("ABOUT#")?.split_once('#')?;
                let kind = RemarkKind::ALL.into_iter().find(|it| it.name() == kind)?;
                Some(Remarked { target: target.to_owned(), kind, remark })
            }));
        }
        found.sort_by_key(|it| it.remark.at);
        Ok(found)
    }

    async fn sorted(&self, parts: impl IntoIterator<Item = &ConversationId>, range: Range<'_>) -> Result<Vec<Sorted>, StoreError> {
        let mut found = Vec::new();
        let (mut bodies, mut files) = (Vec::new(), Vec::new());
        for part in parts {
            let items: Vec<(String, MessageItem)> = self.dynamo.query(Table::Messages, &keys::messages(part), range).await?;
            for (sk, item) in items {
                let own = sk.strip_suffix("#BODY").or_else(|| sk.strip_suffix("#FILE")).unwrap_or(&sk);
                let Some(key) = message_key(part, own) else { continue };
                match item {
                    MessageItem::Body { json } => bodies.push((key, json)),
                    MessageItem::File(it) => files.push((key, *it)),
                    MessageItem::Shell => {}
                    item => found.push((key, item)),
                }
            }
        }
        found.sort_by(|one: &Sorted, other: &Sorted| (one.0.at, &one.0.id).cmp(&(other.0.at, &other.0.id)));
        for (key, body) in bodies {
            let message = found.iter_mut().find(|it| it.0 == key);
            if let Some((json, _)) = message.and_then(|it| it.1.json_mut()).filter(|it| it.0.is_empty()) {
                *json = body;
            }
        }
        for (key, file) in files {
            if let Some((_, MessageItem::Inbound(it))) = found.iter_mut().find(|it| it.0 == key) {
                it.file = Some(file);
            }
        }
        Ok(found)
    }

    /// Erases a customer's message, as they asked; that there was one stays.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn erase(&self, key: &MessageKey) -> Result<(), StoreError> {
        let update = Update::existing().when("direction", &"inbound")?.set("erased", &true)?.remove("event");
        self.updated(key, update).await?;
        self.dynamo.delete(&keys::body(key)).await
    }

    /// A customer's message that was handed over is owed again, since its agent's endpoint did not take it. False if it is not here yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn owe(&self, key: &MessageKey, agent: &AgentId, at: Timestamp) -> Result<bool, StoreError> {
        let update = Update::existing().when("direction", &"inbound")?;
        let update = update.set("handed", &HandedOver::Owed(agent.clone()))?.set("owed_at", &at)?.remove("told_with");
        self.updated(key, update).await
    }

    /// The turn of a customer's message was not taken once more: how often by now, and since when; nothing if it is not here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn turn_untaken(&self, key: &MessageKey, at: Timestamp) -> Result<Option<TurnUntaken>, StoreError> {
        let update = Update::existing().when("direction", &"inbound")?.add("untaken_times", 1).set_first("untaken_since", &at)?;
        Ok(self.dynamo.update(&keys::message(key), update).await?.ok())
    }

    /// A customer's message is told in the turn of another one. False if it is not here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tell_with(&self, key: &MessageKey, other: &MessageId) -> Result<bool, StoreError> {
        self.updated(key, Update::existing().when("direction", &"inbound")?.set("told_with", other)?).await
    }

    /// Keeps a remark on a message, whether the message is here yet or not; the latest of Meta's times wins.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remark(
        &self,
        conversation: &ConversationId,
        number: &NumberId,
        target: &Wamid,
        kind: RemarkKind,
        remark: &Remark,
        kept_for: Duration,
    ) -> Result<(), StoreError> {
        let expires_at = Some(expires_at(remark.at, kept_for));
        let key = keys::remark(conversation, number, target, kind.name());
        let version = |it: &Remark| u64::try_from(it.at.as_millis()).unwrap_or(0);
        let mut condition = Condition::Absent;
        for _ in 0..RACES {
            let written: Written<Remark> = self.dynamo.put(&key, remark, Some(version(remark)), expires_at, condition).await?;
            match written {
                Written::Lost(Some(there)) if there.at < remark.at => condition = Condition::Version(version(&there)),
                Written::Lost(None) => condition = Condition::Absent,
                Written::Lost(Some(_)) | Written::Done => return Ok(()),
            }
        }
        Err(StoreError::Contended { what: "remark" })
    }

    /// Erases a remark.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn erase_remark(
        &self,
        conversation: &ConversationId,
        number: &NumberId,
        target: &Wamid,
        kind: RemarkKind,
    ) -> Result<(), StoreError> {
        self.dynamo.delete(&keys::remark(conversation, number, target, kind.name())).await
    }

    /// What was remarked on a message of a customer or of ours.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remark_on(
        &self,
        conversation: &ConversationId,
        number: &NumberId,
        target: &Wamid,
        kind: RemarkKind,
    ) -> Result<Option<Remark>, StoreError> {
        let key = keys::remark(conversation, number, target, kind.name());
        Ok(self.dynamo.get(&key, Read::Strong).await?.map(|it| it.value))
    }
}

/// Never zero, which is nobody's.
fn drawn() -> u64 {
    Uuid::new_v4().as_u64_pair().0 | 1
}

/// When what is from `at` may go, in seconds, as TTL wants it.
pub(super) fn expires_at(at: Timestamp, kept_for: Duration) -> i64 {
    at.plus(kept_for).as_millis() / 1_000
}

/// Only while the message is claimed as it was for this send.
fn fenced(update: Update, fence: Fence) -> Result<Update, StoreError> {
    update.when(&format!("attempt_{}.claimed_at", fence.attempt), &fence.claimed_at)
}

#[derive(Serialize)]
#[serde(untagged)]
enum Value<'a> {
    Wamid(&'a Wamid),
    Time(Timestamp),
}

pub(super) fn message_key(conversation: &ConversationId, sort_key: &str) -> Option<MessageKey> {
    let (at, id) = sort_key.split_once('#')?;
    let at = Timestamp::from_millis(at.parse().ok()?);
    Some(MessageKey { conversation: conversation.clone(), at, id: MessageId::parse(id).ok()? })
}

fn json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|source| StoreError::Unwritable { source: Box::new(source) })
}
