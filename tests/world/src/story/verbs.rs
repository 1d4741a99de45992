//! More of what happens in stories, and more of what they look at: the history that is kept, the window in both books, refusals.

use aws_sdk_dynamodb::types::AttributeValue;
use channel::erasure::{self, Begun};
use channel::jobs::Happened;
use channel::store::{Attachment, MessageItem, Outbound, RemarkKind, Writer};
use domain::conversation::{Answerer, Unanswered};
use domain::ids::{AgentId, ConversationId, MessageId, MessageKey, NumberId, TenantId, Wamid};
use domain::message::{Content, Event, Preference};
use domain::refusal::Retry;
use domain::time::Timestamp;
use futures::future::LocalBoxFuture;
use meta_sim::{Webhook, Written};
use serde_json::{Value, json};

use crate::mapping::Delivery;
use crate::orders;
use crate::wire::Call;

use super::{APP, APP_SECRET, World, connection_id, words};

/// More often than any story lets the store fail.
const ASKED_AT_MOST: usize = 5;

/// A refusal that the feed told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its code.
    pub code: String,
    /// What a person is told.
    pub note: String,
    /// When the window closed, if that is the reason.
    pub closed_at: Option<Timestamp>,
    /// Whether to send the same again.
    pub retry: Retry,
}

impl World {
    /// A customer sends anything to a number; Meta's id of it.
    ///
    /// # Panics
    /// When the customer or the number cannot be.
    pub fn writes_to(&self, number: &str, who: &str, written: impl Into<Written>) -> String {
        self.meta.customer_writes(who, number, written).expect("the customer can write")
    }

    /// Delivers one batch of this queue of the template, if there is anything to receive, to its function.
    pub async fn hands_over(&self, queue: &str) {
        self.mappings.step(queue, Delivery::Once).await;
    }

    /// Posts what Meta has to tell now; nothing more happens.
    pub async fn hears_meta(&self) {
        self.deliver_webhooks().await;
    }

    /// Runs all of these to their ends. Each is stopped before each of its calls about a customer: `choose` says, given how many are
    /// left, which of them goes on.
    pub async fn race(&self, runners: Vec<LocalBoxFuture<'_, ()>>, choose: impl FnMut(usize) -> usize) {
        orders::race(self.dynamo.faults(), is_about_customer, runners, choose).await;
    }

    /// The same, stopped before each call about connections, numbers and apps.
    pub async fn race_over_connections(&self, runners: Vec<LocalBoxFuture<'_, ()>>, choose: impl FnMut(usize) -> usize) {
        orders::race(self.dynamo.faults(), is_about_connection, runners, choose).await;
    }

    /// What is kept of a conversation, oldest first: `>` the customer's, `<` ours with its author and what became of it, `·` notes.
    pub async fn history(&self, who: &str) -> Vec<String> {
        let conversation = self.conversation(who).await;
        let kept = self.store.messages(conversation.everywhere(), Timestamp::from_millis(0), Timestamp::MAX).await;
        kept.expect("the store answers").iter().map(|it| line(&it.1)).collect()
    }

    /// What is kept of the customer's remark on a message; inside, nothing if the remark was taken back or has no words.
    pub async fn remark(&self, who: &str, on: &str, kind: RemarkKind) -> Option<Option<String>> {
        let conversation = self.conversation(who).await.id;
        let (number, target) = (NumberId::parse(super::NUMBER).expect("an id"), Wamid::parse(on).expect("an id"));
        self.store.remark_on(&conversation, &number, &target, kind).await.expect("the store answers").map(|it| it.what)
    }

    /// Is the window on this number open? Meta's own book must agree.
    pub async fn is_open(&self, who: &str, number: &str) -> bool {
        let ours = self.conversation(who).await.window(&NumberId::parse(number).expect("an id")).is_open(self.now());
        assert_eq!(ours, self.meta.is_window_open(who, number), "our window and Meta's differ for {who}");
        ours
    }

    /// The words in the turns of one customer's conversation, in order.
    pub async fn told_of(&self, who: &str) -> Vec<String> {
        let conversation = self.conversation(who).await;
        let turns = self.turns();
        turns.iter().filter(|it| conversation.everywhere().any(|part| *part == it.conversation)).map(|it| words(&it.content)).collect()
    }

    /// An operator erases a customer's data.
    pub async fn erases(&self, id: &ConversationId) -> Begun {
        let tenant = TenantId::parse("demo").expect("an id");
        // Asked again until it is taken, as whoever is asked to erase somebody would.
        for _ in 0..ASKED_AT_MOST {
            if let Ok(it) = erasure::begin(&self.store, &self.queues, &tenant, id, self.now()).await {
                return it;
            }
        }
        panic!("the store does not answer");
    }

    /// Everything that lies in tables and queues, dead letters too, as text.
    ///
    /// # Panics
    /// When the engine's tables cannot be read.
    #[must_use]
    pub fn everything(&self) -> Vec<String> {
        let tables = self.dynamo.dump().expect("the engine answers");
        let items = tables.into_values().flatten().map(|it| it.to_string());
        let bodies = self.sqs.names().into_iter().flat_map(|it| self.sqs.bodies(&it));
        items.chain(bodies).collect()
    }

    /// The refusals that the feed told, in order.
    #[must_use]
    pub fn refusals(&self) -> Vec<Refused> {
        let told = self.events().into_iter().filter_map(|it| match it.what {
            Happened::SendRefused { code, note, closed_at, retry, .. } => Some(Refused { code, note, closed_at, retry }),
            _ => None,
        });
        told.collect()
    }

    /// Who answers, as the feed told it, in order.
    #[must_use]
    pub fn handlings(&self) -> Vec<Answerer> {
        let told = self.events().into_iter().filter_map(|it| match it.what {
            Happened::Handling { by, .. } => Some(by),
            _ => None,
        });
        told.collect()
    }

    /// The customers' words on marketing, as the feed told them, in order.
    #[must_use]
    pub fn opt_outs(&self) -> Vec<Preference> {
        let told = self.events().into_iter().filter_map(|it| match it.what {
            Happened::OptOut { preference, .. } => Some(preference),
            _ => None,
        });
        told.collect()
    }

    /// The business has written first, with a template that is not answered yet.
    pub async fn business_has_written_first(&self, who: &str) {
        let (id, now) = (self.conversation(who).await.id, self.now());
        let message = MessageKey { conversation: id.clone(), at: now, id: MessageId::parse("template").expect("an id") };
        let unanswered = Unanswered { message, since: now };
        let changed = self.store.change_conversation(&id, |it| it.unanswered = Some(unanswered.clone())).await;
        changed.expect("the store answers").expect("there is a conversation");
    }

    /// An agent is attached to the connection with Inbound off: it may only send.
    pub async fn attaches_sender(&self, agent: &AgentId) {
        let text = |it: &str| AttributeValue::S(it.to_owned());
        let put = self.dynamo.client("test").put_item().table_name(&self.template.tables["ConfigTable"].name);
        let put = put.item("pk", text(&format!("CONNECTION#{}", connection_id()))).item("sk", text(&format!("AGENT#{agent}")));
        let put = put.item("connection", text(connection_id().as_str())).item("agent", text(agent.as_str()));
        put.item("inbound", AttributeValue::Bool(false)).send().await.expect("the engine answers");
    }

    /// An item of a table, named by its logical id, becomes one that nobody can read.
    pub async fn spoils(&self, table: &str, pk: &str, sk: &str) {
        let text = |it: &str| AttributeValue::S(it.to_owned());
        let update = self.dynamo.client("test").update_item().table_name(&self.template.tables[table].name);
        let update = update.key("pk", text(pk)).key("sk", text(sk)).update_expression("SET #a = :spoilt, #b = :spoilt");
        let update = update.expression_attribute_names("#a", "connection").expression_attribute_names("#b", "lifecycle");
        update.expression_attribute_values(":spoilt", AttributeValue::Bool(true)).send().await.expect("the engine answers");
    }

    /// Another agent has Inbound on a number, or none.
    pub async fn gives_number_to(&self, number: &str, agent: Option<&str>) {
        if let Some(agent) = agent.and_then(|it| AgentId::parse(it).ok()) {
            let connection = self.store.connection(&connection_id()).await.expect("the store answers").expect("it is there").connection;
            // It may be attached already.
            self.store.attach(&connection, &Attachment::new(connection_id(), agent, false), None).await.expect("the store answers");
        }
        let text = |it: &str| AttributeValue::S(it.to_owned());
        let update = self.dynamo.client("test").update_item().table_name(&self.template.tables["ConfigTable"].name);
        let update = update.key("pk", text(&format!("NUMBER#{number}"))).key("sk", text("META"));
        let update = match agent {
            Some(agent) => update.update_expression("SET #agent = :agent").expression_attribute_values(":agent", text(agent)),
            None => update.update_expression("REMOVE #agent"),
        };
        update.expression_attribute_names("#agent", "agent").send().await.expect("the engine answers");
    }

    /// A number is taken out of the connection.
    pub async fn removes_number(&self, number: &str) {
        let change = |it: &channel::store::StoredConnection| {
            let mut it = it.clone();
            it.connection.numbers.retain(|it| it.as_str() != number);
            Some(it)
        };
        let changed = self.store.change_connection(&connection_id(), change).await.expect("the store answers");
        assert!(changed.is_some_and(|it| it.changed), "the connection is there");
    }

    /// Meta sends all that it has sent so far once more, in one body, as it may after it had no answer.
    pub async fn meta_repeats_all_in_one(&self) {
        let posted = self.posted.borrow().clone();
        self.post_in_one(&posted).await;
    }

    /// Meta sends what is due now only in one body with all that it has sent before.
    pub async fn meta_joins_what_is_due_with_all_before(&self) {
        let due = self.meta.take_webhooks();
        due.iter().for_each(|it| self.meta.answered(it.id, 200));
        let all: Vec<Webhook> = self.posted.borrow().iter().chain(&due).cloned().collect();
        self.post_in_one(&all).await;
    }

    async fn post_in_one(&self, webhooks: &[Webhook]) {
        let bodies = webhooks.iter().map(|it| serde_json::from_slice::<Value>(&it.body).expect("JSON"));
        let entries: Vec<Value> = bodies.flat_map(|it| it["entry"].as_array().cloned().unwrap_or_default()).collect();
        let body = json!({ "object": "whatsapp_business_account", "entry": entries }).to_string();
        let signature = meta_sim::signature(APP_SECRET, body.as_bytes());
        let status = self.post_bytes(&format!("/webhooks/{APP}"), body.as_bytes(), Some(&signature)).await;
        assert_eq!(status, 200, "a repeat is taken");
        self.settle().await;
    }
}

/// Is this call about a customer's address, conversation or messages?
fn is_about_customer(call: &Call) -> bool {
    let has = |part: &str| call.body.windows(part.len()).any(|it| it == part.as_bytes());
    has("\"CONVERSATION#") || has("\"ADDRESS#")
}

/// Is this call about a connection, a number, an app, or the list of an account's connections?
fn is_about_connection(call: &Call) -> bool {
    let has = |part: &str| call.body.windows(part.len()).any(|it| it == part.as_bytes());
    // A line of the Logs changes nothing for anybody.
    ["\"CONNECTION#", "\"NUMBER#", "\"APP#", "\"WABA#"].into_iter().any(has) && !has("\"LOG#")
}

/// A message as a person would read it in the history.
fn line(item: &MessageItem) -> String {
    match item {
        MessageItem::Inbound(it) => match it.event() {
            Some(Event::Message(it) | Event::Standby(it)) => format!("> {}", content(&it.content)),
            Some(Event::Call { what, .. }) => format!("· call {what}"),
            Some(Event::Note { what, .. }) => format!("· {what}"),
            Some(Event::Changed { .. }) => "· changed".to_owned(),
            Some(other) => format!("· {other:?}"),
            None if it.erased => "> [erased]".to_owned(),
            None => "> [unreadable]".to_owned(),
        },
        MessageItem::Outbound(it) => format!("< {} ({}, {:?})", ours(it), author(&it.author), it.state()),
        MessageItem::Body { .. } | MessageItem::File(_) | MessageItem::Shell => "[body]".to_owned(),
    }
}

fn content(content: &Content) -> String {
    match content {
        Content::Unsupported { r#type, .. } => format!("[unsupported {type}]", type = r#type),
        other if words(other) == other.kind() => format!("[{}]", other.kind()),
        other => words(other),
    }
}

fn ours(message: &Outbound) -> String {
    let content: Value = serde_json::from_str(message.content()).unwrap_or_default();
    content["text"].as_str().or(content["body"].as_str()).map_or_else(|| format!("[{}]", message.kind), str::to_owned)
}

fn author(author: &Writer) -> &str {
    match author {
        Writer::Agent(it) => it.as_str(),
        Writer::Person(it) => it,
        Writer::Campaign => "campaign",
    }
}
