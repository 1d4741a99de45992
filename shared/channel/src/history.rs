//! What was said in a conversation, as people read it: messages with what was remarked on them, notes, and the story of each message.

use std::time::Duration;

use domain::conversation::Conversation;
use domain::ids::{AgentId, MessageKey, NumberId, Wamid, hash};
use domain::message::{Call, Content, Event, Message};
use domain::refusal::Retry;
use domain::status::{Fault, Phase, Pricing, State, Step};
use domain::time::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::endings;
use crate::jobs::{Missing, Transcript};
use crate::store::{
    Before, HandedOver, Inbound, MessageItem, Outbound, RemarkKind, Remarked, Sorted, Store, StoreError, TemplateUsed, Writer,
};

/// Meta's times are whole seconds: what it tells as of a second may have happened at its end, after what we did in it.
const SECOND: Duration = Duration::from_millis(999);

/// A page of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// What was said, newest first.
    pub lines: Vec<Line>,
    /// Where to go on; nothing if there is no more.
    pub next: Option<Before>,
}

/// A message, or a note.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "HistoryLine")]
pub struct Line {
    /// Its id.
    pub id: MessageKey,
    /// Meta's time of a customer's message, the job's own time of ours; in milliseconds since the Unix epoch.
    pub at: Timestamp,
    /// The number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<NumberId>,
    /// What it is.
    #[serde(flatten)]
    pub said: Said,
    /// The customer's emoji on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reaction: Option<Reaction>,
}

/// An emoji on a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Reaction {
    /// The emoji.
    pub emoji: String,
    /// Meta's time of it.
    pub at: Timestamp,
}

/// Who said what.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Said {
    /// The customer.
    Customer(Theirs),
    /// The business.
    Business(Ours),
    /// Nobody: something happened.
    Note {
        /// Meta's name for it, or `changed`.
        what: String,
        /// Is it about a call?
        is_call: bool,
        /// Meta's words, if there are any.
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
}

/// A message of the customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Theirs {
    /// What they sent, as they last edited it; nothing if they deleted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// Meta's id of it: to quote it or react to it. Nothing once it is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wamid: Option<Wamid>,
    /// Meta's id of the message that they quoted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quoted: Option<Wamid>,
    /// Passed on from another chat.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forwarded: bool,
    /// Written in a group.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_group: bool,
    /// Written while another responder had the thread.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub standby: bool,
    /// Meta's time of the last edit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edited_at: Option<Timestamp>,
    /// Why the file is not here, if it could not be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_missing: Option<Missing>,
    /// What was said in a voice message, where it was made out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transcript: Option<Transcript>,
    /// They deleted it for everyone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_deleted: bool,
}

/// A message of ours.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Ours {
    /// What it is: `text`, `template`, ….
    pub kind: String,
    /// What was sent: free-form as its job said it, a template as the customer sees it.
    pub content: Value,
    /// Who wrote it.
    pub author: Writer,
    /// What became of it.
    pub state: State,
    /// When each step was first told, by Meta's clock; `accepted` by ours, before which Meta tells nothing.
    pub steps: Vec<StepAt>,
    /// How often it was tried.
    pub attempts: u8,
    /// Meta's id of the newest attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wamid: Option<Wamid>,
    /// What Meta charges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pricing: Option<Pricing>,
    /// The code of the refusal or of Meta's fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What a person is told of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Whether to send the same again.
    #[serde(flatten)]
    pub retry: Option<Retry>,
    /// The template that it was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateUsed>,
    /// It is a template that went out without an open window.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub template_badge: bool,
    /// The campaign's own words for itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign: Option<String>,
    /// The message that it was sent again for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resends: Option<MessageKey>,
}

/// A step, and when it was first told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StepAt {
    /// `accepted`, or Meta's word.
    pub step: &'static str,
    /// Milliseconds since the Unix epoch.
    pub at: Timestamp,
}

/// A page ends before it is larger, in bytes of JSON, unless it is one message: Lambda's answers end at six megabytes.
const PAGE_BYTES: usize = 4 << 20;

/// The newest of what was said in a conversation, or what was said before the place where the page before ended.
///
/// # Errors
/// [`StoreError`].
pub async fn page(store: &Store, conversation: &Conversation, before: Option<&Before>, limit: usize) -> Result<Page, StoreError> {
    let mut found = store.messages_before(conversation.everywhere(), before, limit + 1).await?;
    let mut has_more = found.len() > limit;
    found.truncate(limit);
    // In one reading per part: Meta's remarks are few, and name their message by its wamid only.
    let remarks = store.remarks(conversation.everywhere()).await?;
    let (mut lines, mut last, mut bytes) = (Vec::new(), None, 0);
    for it in found {
        let key = it.0.clone();
        let line = line(it, &remarks);
        bytes += line.as_ref().and_then(|it| serde_json::to_vec(it).ok()).map_or(0, |it| it.len());
        if bytes > PAGE_BYTES && last.is_some() {
            has_more = true;
            break;
        }
        lines.extend(line);
        last = Some(Before { at: key.at, id: key.id });
    }
    Ok(Page { lines, next: last.filter(|_| has_more) })
}

/// One message of a conversation, wherever in its parts it lies, with long content joined in.
///
/// # Errors
/// [`StoreError`].
pub async fn message(store: &Store, conversation: &Conversation, key: &MessageKey) -> Result<Option<Sorted>, StoreError> {
    let found = store.messages(conversation.everywhere(), key.at, key.at).await?;
    Ok(found.into_iter().find(|it| it.0.id == key.id))
}

fn line((key, item): Sorted, remarks: &[Remarked]) -> Option<Line> {
    let targets = targets(&key, &item);
    let latest = |kind| remarks.iter().rfind(|it| it.kind == kind && targets.contains(&it.target)).map(|it| &it.remark);
    let reaction = latest(RemarkKind::Reaction).and_then(|it| Some(Reaction { emoji: it.what.clone()?, at: it.at }));
    let (number, said) = match item {
        MessageItem::Inbound(it) => {
            let edit = latest(RemarkKind::Edit).and_then(|it| Some((it.at, serde_json::from_str(it.what.as_deref()?).ok()?)));
            (Some(it.number.clone()), theirs(&it, edit, latest(RemarkKind::Revoke).is_some()))
        }
        MessageItem::Outbound(it) => (it.number.clone(), Said::Business(ours(it))),
        MessageItem::Body { .. } | MessageItem::File(_) | MessageItem::Shell => return None,
    };
    Some(Line { at: key.at, id: key, number, said, reaction })
}

/// By which hashes remarks name a message: each attempt of ours has a wamid of its own.
fn targets(key: &MessageKey, item: &MessageItem) -> Vec<String> {
    match item {
        MessageItem::Inbound(_) => vec![key.id.to_string()],
        MessageItem::Outbound(it) => {
            let wamids = [1, 2].into_iter().filter_map(|attempt| it.attempt(attempt)?.wamid.as_ref());
            let number = it.number.iter().flat_map(|number| wamids.clone().map(move |it| hash(&["inbound", number.as_str(), it.as_str()])));
            number.collect()
        }
        MessageItem::Body { .. } | MessageItem::File(_) | MessageItem::Shell => Vec::new(),
    }
}

fn theirs(it: &Inbound, edit: Option<(Timestamp, Content)>, is_revoked: bool) -> Said {
    let is_deleted = is_revoked || it.erased;
    let (message, standby) = match it.event() {
        Some(Event::Message(message)) => (Some(message), false),
        Some(Event::Standby(message)) => (Some(message), true),
        Some(Event::Call { call, what, .. }) => {
            let text = (call == Call::ByCustomer).then(|| "by the customer".to_owned());
            return Said::Note { what, is_call: true, text };
        }
        Some(Event::Changed { body, .. }) => return Said::Note { what: "changed".to_owned(), is_call: false, text: body },
        Some(Event::Note { what, body, .. }) => return Said::Note { what, is_call: false, text: body },
        // None of these is kept as an item of its own.
        Some(
            Event::Reaction { .. }
            | Event::Edit { .. }
            | Event::Revoke { .. }
            | Event::Preference { .. }
            | Event::Echo(_)
            | Event::Handover { .. },
        )
        | None => (None, false),
    };
    let Some(message) = message.filter(|_| !is_deleted) else {
        let nothing = Theirs {
            content: None,
            wamid: None,
            quoted: None,
            forwarded: false,
            in_group: false,
            standby,
            edited_at: None,
            file_missing: None,
            transcript: None,
            is_deleted: true,
        };
        return Said::Customer(nothing);
    };
    let Message { wamid, content, quoted, forwarded, in_group, .. } = message;
    let file = it.file.as_ref();
    let (edited_at, content) = edit.map_or((None, content), |(at, content)| (Some(at), content));
    Said::Customer(Theirs {
        content: Some(content),
        wamid: Some(wamid),
        quoted: quoted.map(|it| it.wamid),
        forwarded,
        in_group,
        standby,
        edited_at,
        file_missing: file.and_then(|it| it.missing.clone()),
        transcript: file.and_then(|it| it.transcript.clone()),
        is_deleted,
    })
}

fn ours(it: Outbound) -> Ours {
    let (history, state) = (it.history(), it.state());
    let accepted = [1, 2].into_iter().filter_map(|attempt| it.attempt(attempt)?.accepted_at).min();
    let accepted = accepted.map(|at| StepAt { step: "accepted", at });
    let told = Step::ALL.into_iter().filter_map(|step| Some(StepAt { step: step.name(), at: history.first(step)? }));
    let steps = accepted.into_iter().chain(told).collect();
    let (code, note, retry) = match state {
        State::Failed | State::Unconfirmed => ending(&it),
        State::Queued | State::Sending | State::Accepted | State::Held | State::Sent | State::Delivered | State::Read => (None, None, None),
    };
    Ours {
        content: serde_json::from_str(it.content()).unwrap_or_default(),
        state,
        steps,
        attempts: it.attempt,
        wamid: it.newest_attempt().wamid.clone(),
        code,
        note,
        retry,
        kind: it.kind,
        author: it.author,
        pricing: it.pricing,
        template: it.template,
        template_badge: it.template_badge,
        campaign: it.campaign,
        resends: it.resends,
    }
}

/// Why a message ended: by Meta's status if one told of its failure, else by what ended it here.
fn ending(it: &Outbound) -> (Option<String>, Option<String>, Option<Retry>) {
    let attempt = it.newest_attempt();
    match (&attempt.fault, attempt.told(Step::Failed)) {
        (Some(fault), Some(at)) => {
            let class = meta::fault::classify_failed(fault);
            (Some(fault.code.to_string()), Some(endings::note(fault)), Some(endings::retry(class, at)))
        }
        (_, _) => (it.code.clone(), it.note.clone(), it.retry),
    }
}

/// One thing that happened to a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Happening {
    /// When, in milliseconds since the Unix epoch: by Meta's clock what Meta told, by ours what we did.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened to a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "what", rename_all = "snake_case")]
#[schemars(rename = "WhatHappened")]
pub enum What {
    /// The customer sent it.
    Written,
    /// Meta's webhook came in.
    Heard,
    /// It went to this agent.
    HandedOver {
        /// The agent.
        agent: AgentId,
    },
    /// It was to go to this agent, once that could be.
    Owed {
        /// The agent.
        agent: AgentId,
    },
    /// Whoever sent it made it.
    Made,
    /// An attempt was begun.
    Tried {
        /// Which, from 1.
        attempt: u8,
        /// How often Meta told us to slow down before it came through; of the newest attempt only.
        throttled: u32,
    },
    /// Meta took an attempt.
    Accepted {
        /// Which, from 1.
        attempt: u8,
        /// Held for a check of quality.
        held: bool,
    },
    /// Meta told of a step.
    Told {
        /// The attempt, from 1.
        attempt: u8,
        /// Meta's word.
        step: Step,
        /// Why it failed.
        #[serde(skip_serializing_if = "Option::is_none")]
        fault: Option<Fault>,
    },
    /// It ended by our own doing: refused before it was tried, refused by Meta at once, or given up.
    Ended {
        /// As what.
        state: State,
        /// The code.
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<String>,
        /// What a person is told.
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        /// Whether to send the same again.
        #[serde(flatten)]
        retry: Option<Retry>,
    },
}

/// Everything that happened to a message, in order, from its own item alone.
#[must_use]
pub fn story(key: &MessageKey, item: &MessageItem) -> Vec<Happening> {
    let mut all = match item {
        MessageItem::Inbound(it) => story_of_theirs(key, it),
        MessageItem::Outbound(it) => story_of_ours(key, it),
        MessageItem::Body { .. } | MessageItem::File(_) | MessageItem::Shell => Vec::new(),
    };
    // What bears one time stays as it is put here, which is how it happened.
    all.sort_by_key(|it| match it.what {
        What::Told { .. } => it.at.plus(SECOND),
        What::Written
        | What::Heard
        | What::HandedOver { .. }
        | What::Owed { .. }
        | What::Made
        | What::Tried { .. }
        | What::Accepted { .. }
        | What::Ended { .. } => it.at,
    });
    all
}

fn story_of_theirs(key: &MessageKey, it: &Inbound) -> Vec<Happening> {
    let happening = |at, what| Happening { at, what };
    let mut all = vec![happening(key.at, What::Written), happening(it.heard_at, What::Heard)];
    match &it.handed {
        HandedOver::Agent(agent) => all.push(happening(it.heard_at, What::HandedOver { agent: agent.clone() })),
        HandedOver::Owed(agent) => all.push(happening(it.heard_at, What::Owed { agent: agent.clone() })),
        HandedOver::Nobody => {}
    }
    all
}

fn story_of_ours(key: &MessageKey, it: &Outbound) -> Vec<Happening> {
    // The time of an answer to a turn is derived from the turn's, and is a moment late where the answer came at once.
    let tried_at = it.attempt(1).and_then(|it| it.claimed_at);
    let mut all = vec![Happening { at: tried_at.map_or(key.at, |it| it.min(key.at)), what: What::Made }];
    let attempts = (1..=2).filter_map(|number| Some((number, it.attempt(number)?)));
    for (number, attempt) in attempts {
        let is_newest = number == it.attempt;
        let throttled = if is_newest { it.throttled } else { 0 };
        let tried = attempt.claimed_at.map(|at| Happening { at, what: What::Tried { attempt: number, throttled } });
        let held = is_newest && it.phase == Phase::Held;
        let accepted = attempt.accepted_at.map(|at| Happening { at, what: What::Accepted { attempt: number, held } });
        all.extend(tried.into_iter().chain(accepted));
        all.extend(Step::ALL.into_iter().filter_map(|step| {
            let fault = attempt.fault.clone().filter(|_| step == Step::Failed);
            Some(Happening { at: attempt.told(step)?, what: What::Told { attempt: number, step, fault } })
        }));
    }
    if let Some(at) = it.ended_at {
        let state = if it.phase == Phase::Unconfirmed { State::Unconfirmed } else { State::Failed };
        all.push(Happening { at, what: What::Ended { state, code: it.code.clone(), note: it.note.clone(), retry: it.retry } });
    }
    all
}
