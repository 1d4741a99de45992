//! The inbox: the conversations of a connection as people look through them, newest hour first.
//!
//! A conversation has a mark for each hour in which it was active, and its state names the newest of them: that mark lists it, the older
//! ones are passed over. So it is listed once, whatever page it comes on, without an index and without reading what was listed before.
//! Within an hour the order is that of ids. What becomes active while somebody pages stands above their place: they see it when they
//! begin anew. A campaign that nobody has answered is not in the inbox.

use domain::conversation::{Answerer, Conversation, Standing};
use domain::customer::Customer;
use domain::ids::{ConnectionId, ConversationId, NumberId};
use domain::message::{Event, Profile};
use domain::time::Timestamp;
use futures::future::try_join_all;

use crate::SendError;
use crate::feed::body;
use crate::jobs::{Author, MarkRead, Reply, V1};
use crate::queues::{Entry, Queue, Queues};
use crate::store::{Active, MessageItem, Store, StoreError};
use crate::turns::LOOKS_BACK;

/// So many marks are looked at together.
const TOGETHER: usize = 25;
/// At most so many marks are looked at for one page: where few conversations pass the filter, a page is short, and says where to go on.
const LOOKED_AT: usize = 400;

/// Which of the standings, without its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandingKind {
    /// Free-form may be sent.
    Open,
    /// The business wrote first and waits.
    AwaitingReply,
    /// A template may be sent.
    TemplateOnly,
}

impl StandingKind {
    fn of(standing: Standing) -> Self {
        match standing {
            Standing::Open { .. } => Self::Open,
            Standing::AwaitingReply { .. } => Self::AwaitingReply,
            Standing::TemplateOnly { .. } => Self::TemplateOnly,
        }
    }
}

/// Which conversations are wanted: all, if nothing is said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Those of this standing.
    pub standing: Option<StandingKind>,
    /// Those whose customer knows this number.
    pub number: Option<NumberId>,
    /// Those that are answered by the agent, or by a person.
    pub answered_by: Option<Answerer>,
}

/// A conversation in the inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub conversation: ConversationId,
    /// The connection.
    pub connection: ConnectionId,
    /// The customer; nothing if no address of theirs can be sent to.
    pub customer: Option<Customer>,
    /// What they show of themselves.
    pub profile: Profile,
    /// The number that they know.
    pub number: Option<NumberId>,
    /// What may be sent now.
    pub standing: Standing,
    /// Who answers.
    pub answered_by: Answerer,
    /// Meta's time of the customer's newest message.
    pub last_inbound_at: Option<Timestamp>,
    /// When the hour began in which it was last active.
    pub active_since: Option<Timestamp>,
    /// Did the customer write something that no person has read?
    pub is_unread: bool,
}

/// A page of the inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The conversations, newest hour first.
    pub conversations: Vec<Listed>,
    /// Where to go on; nothing if there is no more. A page may be short, even empty, and have more behind it.
    pub next: Option<Active>,
}

/// The newest conversations of a connection, or those behind the place where the page before ended.
///
/// # Errors
/// [`StoreError`].
pub async fn list(
    store: &Store,
    connection: &ConnectionId,
    filter: &Filter,
    before: Option<Active>,
    limit: usize,
    now: Timestamp,
) -> Result<Page, StoreError> {
    let (mut before, mut conversations) = (before, Vec::new());
    for _ in 0..LOOKED_AT.div_ceil(TOGETHER) {
        let marks = store.active(connection, before.as_ref(), TOGETHER).await?;
        let is_last = marks.len() < TOGETHER;
        let found = try_join_all(marks.iter().map(|it| listed_by(store, connection, it))).await?;
        for (mark, conversation) in marks.into_iter().zip(found) {
            before = Some(mark);
            conversations.extend(conversation.map(|it| summary(&it, now)).filter(|it| passes(it, filter)));
            if conversations.len() == limit {
                return Ok(Page { conversations, next: before });
            }
        }
        if is_last {
            return Ok(Page { conversations, next: None });
        }
    }
    Ok(Page { conversations, next: before })
}

/// The conversation that a mark lists: the mark is its newest, and of several that a merge left for one hour the first.
async fn listed_by(store: &Store, connection: &ConnectionId, mark: &Active) -> Result<Option<Conversation>, StoreError> {
    let found = store.conversation(&mark.conversation).await?.map(|it| it.conversation);
    let Some(conversation) = found.filter(|it| it.active_hour == Some(mark.hour)) else { return Ok(None) };
    for part in conversation.everywhere().take_while(|it| **it != mark.conversation) {
        if store.is_marked(connection, mark.hour, part).await? {
            return Ok(None);
        }
    }
    Ok(Some(conversation))
}

/// A conversation as the inbox shows it.
#[must_use]
pub fn summary(it: &Conversation, now: Timestamp) -> Listed {
    Listed {
        conversation: it.id.clone(),
        connection: it.connection.clone(),
        customer: it.customer(),
        profile: it.profile.as_ref().map(|it| it.profile.clone()).unwrap_or_default(),
        number: it.sender.as_ref().map(|it| it.number.clone()),
        standing: it.standing(now),
        answered_by: if it.has_person(now) { Answerer::Person } else { Answerer::Agent },
        last_inbound_at: it.last_inbound_at,
        active_since: it.active_hour.map(|it| Timestamp::from_millis(it * 60 * 60 * 1_000)),
        is_unread: it.is_unread(),
    }
}

fn passes(it: &Listed, filter: &Filter) -> bool {
    filter.standing.is_none_or(|wanted| StandingKind::of(it.standing) == wanted)
        && filter.number.as_ref().is_none_or(|wanted| it.number.as_ref() == Some(wanted))
        && filter.answered_by.is_none_or(|wanted| it.answered_by == wanted)
}

/// A person has read a conversation: it is unread no more, and the customer sees the blue ticks, if Meta takes it.
///
/// Only the ticks need Meta: they travel as a person's reply without a message, which neither takes the conversation nor waits for its
/// window. The conversation as it stands; `None` if there is none.
///
/// # Errors
/// [`SendError`].
pub async fn read(store: &Store, queues: &Queues, id: &ConversationId, person: &str) -> Result<Option<Conversation>, SendError> {
    let Some(stored) = store.conversation(id).await? else { return Ok(None) };
    let conversation = stored.conversation;
    let newest = store.newest_messages(conversation.everywhere(), LOOKS_BACK).await?;
    let theirs = newest.into_iter().find_map(|(key, it)| match it {
        MessageItem::Inbound(it) => match it.event() {
            Some(Event::Message(message) | Event::Standby(message)) => Some((key, message.wamid)),
            Some(_) | None => None,
        },
        MessageItem::Outbound(_) | MessageItem::Body { .. } | MessageItem::File(_) | MessageItem::Shell => None,
    });
    if let Some((key, wamid)) = theirs {
        let reply = Reply {
            v: V1,
            connection: conversation.connection.clone(),
            conversation: conversation.id.clone(),
            author: Author::Person(person.to_owned()),
            turn: Some(key.to_string()),
            index: 0,
            id: None,
            message: None,
            quote: None,
            read: Some(MarkRead { wamid, typing: false }),
            handover: false,
            resends: None,
        };
        // Not the id of an answer to the same turn, which SQS would take for a repeat of this.
        let deduplication = Some(format!("read-{}", key.id));
        let entry = Entry { body: body(&reply), group: Some(conversation.id.to_string()), deduplication };
        queues.send(Queue::Replies, vec![entry]).await?;
    }
    let read_to = conversation.last_inbound_at;
    Ok(store.change_conversation(id, |it| read_to.into_iter().for_each(|at| it.read(at))).await?)
}
