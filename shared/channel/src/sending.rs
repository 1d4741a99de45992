//! What people and programs ask to have sent: looked at when they ask, with the rules that decide when it is sent, and put into its queue.
//!
//! Whoever asks is told at once what cannot be sent. What is accepted may still be refused when it is sent: the feed says so.

use std::collections::BTreeMap;

use domain::connection::{Connection, Sending};
use domain::conversation::{Author as Who, Conversation, TemplateSend as Wish};
use domain::customer::Customer;
use domain::ids::{ConversationId, MessageId, MessageKey, Wamid};
use domain::outgoing::Outgoing;
use domain::refusal::Refusal;
use domain::template::{Filled, Language, Problem, Template, TemplateName, Values};
use domain::time::Timestamp;
use meta::outgoing::check;

use crate::feed::body;
use crate::jobs::{Author, Reply, Scalar, TemplateSend, To, V1};
use crate::queues::{Entry, Queue, Queues};
use crate::store::Store;
use crate::{SendError, catalogue, handling, people};

/// A free-form message of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonMessage {
    /// Who writes, by the name that the platform knows them under.
    pub person: String,
    /// What is sent.
    pub message: Outgoing,
    /// The message that is quoted.
    pub quote: Option<Wamid>,
}

/// May a person's message go out now?
///
/// # Errors
/// The refusal that the person is told.
pub fn admit_message(connection: &Connection, conversation: &Conversation, message: &Outgoing, now: Timestamp) -> Result<(), Refusal> {
    check(message).map_err(|it| Refusal::Invalid { problems: it.iter().map(ToString::to_string).collect() })?;
    if connection.lifecycle.sending(now) == Sending::Refused {
        return Err(Refusal::NotRunning);
    }
    conversation.admit_reply(Who::Person, &connection.numbers, now)?;
    conversation.customer().map(drop).ok_or(Refusal::NoAddress)
}

/// Takes a person's message: from now on the conversation is theirs. Doing it twice under the same id does no more. The message's key.
///
/// # Errors
/// [`SendError`].
pub async fn accept_message(
    store: &Store,
    queues: &Queues,
    connection: &Connection,
    conversation: &ConversationId,
    message: &PersonMessage,
    (id, at): (&MessageId, Timestamp),
) -> Result<MessageKey, SendError> {
    handling::take(store, queues, &connection.tenant, conversation, at).await?;
    let reply = Reply {
        v: V1,
        connection: connection.id.clone(),
        conversation: conversation.clone(),
        author: Author::Person(message.person.clone()),
        turn: None,
        index: 0,
        id: Some(id.to_string()),
        message: Some(message.message.clone()),
        quote: message.quote.clone(),
        read: None,
        handover: false,
        resends: None,
    };
    let entry = Entry { body: body(&reply), group: Some(conversation.to_string()), deduplication: Some(id.to_string()) };
    queues.send(Queue::Replies, vec![entry]).await?;
    Ok(MessageKey { conversation: conversation.clone(), at, id: id.clone() })
}

/// A template that a person sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonTemplate {
    /// Who sends it.
    pub person: String,
    /// To whom.
    pub to: To,
    /// The template's name.
    pub template: TemplateName,
    /// Its language.
    pub language: Language,
    /// The values for its variables.
    pub values: Values,
    /// The fields that values name.
    pub participant: BTreeMap<String, Scalar>,
}

/// Why a template is not sent, and the conversation that there is already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
    /// The conversation with the customer, if there is one.
    pub conversation: Option<ConversationId>,
}

/// May a person's template, under this id, go out now?
///
/// # Errors
/// [`SendError`]; inside, the refusal that the person is told.
pub async fn admit_template(
    store: &Store,
    connection: &Connection,
    template: &PersonTemplate,
    (id, at): (&MessageId, Timestamp),
    now: Timestamp,
) -> Result<Result<(), Refused>, SendError> {
    let found = found(store, connection, &template.to).await?;
    let conversation = found.as_ref().map(|it| it.id.clone());
    let refused = |refusal| Ok(Err(Refused { refusal, conversation: conversation.clone() }));
    if matches!(template.to, To::Conversation(_)) && found.is_none() {
        return refused(Refusal::UnknownConversation);
    }
    if connection.lifecycle.sending(now) == Sending::Refused {
        return refused(Refusal::NotRunning);
    }
    let Some(item) = store.template(&connection.id, &template.template, &template.language).await? else {
        return refused(Refusal::TemplateMissing);
    };
    if let Some(status) = item.refused_status() {
        return refused(Refusal::TemplateNotApproved { status });
    }
    let participant = template.participant.iter().map(|(name, it)| (name.clone(), it.0.clone())).collect();
    if let Err(problems) = fill(&item.template, &template.values, &participant, now) {
        return refused(Refusal::Invalid { problems: problems.iter().map(ToString::to_string).collect() });
    }
    let Some(found) = found else { return Ok(Ok(())) };
    let numbers = store.numbers_held(connection).await?;
    let usable: Vec<_> = numbers.into_iter().filter(|it| it.can_send()).map(|it| it.id).collect();
    let message = MessageKey { conversation: found.id.clone(), at, id: id.clone() };
    let utility_exempt = connection.utility_exempt;
    let wish = Wish { message: &message, category: &item.template.category, utility_exempt, resends: None };
    match found.admit_template(&wish, &usable, now) {
        Ok(_) => Ok(Ok(())),
        Err(refusal) => refused(refusal),
    }
}

/// Fills a template as the sender does, with all that Meta would refuse.
///
/// # Errors
/// Everything that is wrong.
pub fn fill(template: &Template, values: &Values, participant: &BTreeMap<String, String>, now: Timestamp) -> Result<Filled, Vec<Problem>> {
    let filled = template.fill(values, participant, now)?;
    let problems = meta::templates::check(&filled);
    if problems.is_empty() { Ok(filled) } else { Err(problems) }
}

async fn found(store: &Store, connection: &Connection, to: &To) -> Result<Option<Conversation>, SendError> {
    let found = match to {
        To::Conversation(id) => store.conversation(id).await?.map(|it| it.conversation),
        To::Phone(_) | To::Bsuid(_) => match customer(to) {
            Some(it) => people::find(store, &connection.id, &it).await?,
            None => None,
        },
    };
    Ok(found.filter(|it| it.connection == connection.id))
}

fn customer(to: &To) -> Option<Customer> {
    match to {
        To::Phone(it) => Customer::known_by(Some(it.clone()), None),
        To::Bsuid(it) => Customer::known_by(None, Some(it.clone())),
        To::Conversation(_) => None,
    }
}

/// Takes a person's template, and remembers its values for the next who fills it. Doing it twice under the same id does no more. The
/// message's key, in the conversation that it begins if there was none.
///
/// # Errors
/// [`SendError`].
pub async fn accept_template(
    store: &Store,
    queues: &Queues,
    connection: &Connection,
    template: &PersonTemplate,
    (id, at): (&MessageId, Timestamp),
) -> Result<MessageKey, SendError> {
    // The address leads to a conversation from now on; the message of this id begins it, as the sender's would.
    let begun = match customer(&template.to) {
        Some(it) => people::home(store, &connection.id, &it, id.as_str(), at, Timestamp::default()).await?,
        None => None,
    };
    let conversation = match (&template.to, begun) {
        (To::Conversation(it), _) => it.clone(),
        (_, Some(it)) => it.conversation.id,
        // It was erased a moment ago: the sender says so.
        (_, None) => ConversationId::derived(&connection.id, id.as_str()),
    };
    let job = TemplateSend {
        v: V1,
        id: id.to_string(),
        tenant: connection.tenant.clone(),
        connection: connection.id.clone(),
        to: template.to.clone(),
        template: template.template.clone(),
        language: template.language.clone(),
        values: template.values.clone(),
        participant: template.participant.clone(),
        not_after: None,
        once: None,
        campaign: None,
        author: Some(Author::Person(template.person.clone())),
        resends: None,
    };
    let entry = Entry { body: body(&job), group: Some(connection.id.to_string()), deduplication: None };
    queues.send(Queue::TemplateSends, vec![entry]).await?;
    if let Some(mapping) = template.values.mapping() {
        catalogue::remember_mapping(store, &connection.id, &template.template, &template.language, &mapping).await?;
    }
    Ok(MessageKey { conversation, at, id: id.clone() })
}
