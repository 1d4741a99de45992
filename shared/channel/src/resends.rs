//! Sending again, by a person, what did not arrive: a new message that names the old one.
//!
//! What was free-form goes out as that person's reply, with the same content but without the quote, which is not kept; a template is filled
//! anew with the values that it had. The rules of the window and of the guard are asked again, as for any message.

use domain::conversation::Conversation;
use domain::ids::{ConversationId, MessageId, MessageKey, TenantId};
use domain::outgoing::Outgoing;
use domain::status::State;
use domain::template::{Preview, Values};
use serde::{Deserialize, Serialize};

use crate::SendError;
use crate::feed::body;
use crate::history;
use crate::jobs::{Author, Reply, TemplateSend, To, V1};
use crate::queues::{Entry, Queue, Queues};
use crate::store::{Asked, MessageItem, Outbound, Store, TemplateUsed};

/// What is kept of a template that was sent: what the customer sees, and the values that made it so, with every field as its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptTemplate {
    #[serde(flatten)]
    pub(crate) preview: Preview,
    /// None of a login code: nobody sends it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) values: Option<Values>,
}

/// What became of the wish to send a message again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resend {
    /// It is queued, as this message.
    Queued(MessageKey),
    /// There is no such message of ours in the conversation.
    NoMessage,
    /// It did not fail, or may arrive still: it stands so.
    Underway(State),
    /// Its content or its values are not kept: a new one is to be written.
    NotKept,
    /// It was sent again within a day, as another message.
    Again,
    /// The new message's id is no UUIDv7.
    BadId,
}

/// Queues a failed or unconfirmed message once more, as this person's, under the id `id` (a UUIDv7): the same id, the same message.
///
/// # Errors
/// [`SendError`]: it may have been queued; the same id queues nothing twice.
pub async fn resend(
    store: &Store,
    queues: &Queues,
    tenant: &TenantId,
    conversation: &ConversationId,
    old: &MessageKey,
    person: &str,
    id: &str,
) -> Result<Resend, SendError> {
    let Ok((new, at)) = MessageId::of_job(id) else { return Ok(Resend::BadId) };
    let Some(stored) = store.conversation(conversation).await? else { return Ok(Resend::NoMessage) };
    let conversation = stored.conversation;
    let Some((old, MessageItem::Outbound(message))) = history::message(store, &conversation, old).await? else {
        return Ok(Resend::NoMessage);
    };
    match message.state() {
        State::Failed | State::Unconfirmed => {}
        other @ (State::Queued | State::Sending | State::Accepted | State::Held | State::Sent | State::Delivered | State::Read) => {
            return Ok(Resend::Underway(other));
        }
    }
    let again = Again { tenant, conversation: &conversation, old: &old, person, id };
    let Some((queue, entry)) = (match &message.template {
        Some(template) => again.template(&message, template).map(|it| (Queue::TemplateSends, it)),
        None => again.reply(&message).map(|it| (Queue::Replies, it)),
    }) else {
        return Ok(Resend::NotKept);
    };
    // Two who ask for it at once, each with a key of their own, mean one message.
    let asked = Asked { request: old.to_string(), message: id.to_owned(), at, answer: None };
    if store.ask_once(tenant, &format!("resend {old}"), &asked).await?.message != id {
        return Ok(Resend::Again);
    }
    queues.send(queue, vec![entry]).await?;
    Ok(Resend::Queued(MessageKey { conversation: conversation.id, at, id: new }))
}

struct Again<'a> {
    tenant: &'a TenantId,
    conversation: &'a Conversation,
    old: &'a MessageKey,
    person: &'a str,
    id: &'a str,
}

impl Again<'_> {
    fn reply(&self, message: &Outbound) -> Option<Entry> {
        let content: Outgoing = serde_json::from_str(message.content()).ok()?;
        let reply = Reply {
            v: V1,
            connection: self.conversation.connection.clone(),
            conversation: self.conversation.id.clone(),
            author: Author::Person(self.person.to_owned()),
            turn: None,
            index: 0,
            id: Some(self.id.to_owned()),
            message: Some(content),
            quote: None,
            read: None,
            handover: false,
            resends: Some(self.old.to_string()),
        };
        let (group, deduplication) = (Some(self.conversation.id.to_string()), Some(self.id.to_owned()));
        Some(Entry { body: body(&reply), group, deduplication })
    }

    fn template(&self, message: &Outbound, template: &TemplateUsed) -> Option<Entry> {
        let kept: KeptTemplate = serde_json::from_str(message.content()).ok()?;
        let job = TemplateSend {
            v: V1,
            id: self.id.to_owned(),
            tenant: self.tenant.clone(),
            connection: self.conversation.connection.clone(),
            to: To::Conversation(self.conversation.id.clone()),
            template: template.name.clone(),
            language: template.language.clone(),
            values: kept.values?,
            participant: std::collections::BTreeMap::new(),
            not_after: None,
            // Only the hash of its step is kept. Who asks for it again asks a second time for the same step.
            once: None,
            campaign: message.campaign.clone().and_then(|it| it.try_into().ok()),
            author: Some(Author::Person(self.person.to_owned())),
            resends: Some(self.old.to_string()),
        };
        Some(Entry { body: body(&job), group: Some(self.conversation.connection.to_string()), deduplication: None })
    }
}
