//! What campaign engines and people do with templates, and what came of it.

use aws_sdk_dynamodb::types::AttributeValue;
use channel::jobs::{Happened, TemplateSend, To, V1};
use channel::queues::{Entry, Queue};
use channel::{people, preferences};
use domain::conversation::Sender;
use domain::customer::{Customer, Phone};
use domain::ids::{ConversationId, NumberId, TenantId};
use domain::message::Preference;
use domain::template::{Language, TemplateName, Texts, Value, Values};
use domain::time::Timestamp;

use super::{World, connection_id};

/// The template that stories send if they say nothing else: marketing, with one variable in its text.
pub const OFFER: &str = "spring_offer";
/// A template for something that the customer ordered.
pub const REMINDER: &str = "visit_reminder";
/// A login code.
pub const LOGIN: &str = "login_code";
/// The language of all of them.
pub const LANGUAGE: &str = "en_US";

impl World {
    /// A send of [`OFFER`] to a phone number, with an id of its own.
    #[must_use]
    pub fn offer(&self, phone: &str, serial: u32) -> TemplateSend {
        TemplateSend {
            v: V1,
            id: self.job_id(serial),
            tenant: TenantId::parse("demo").expect("an id"),
            connection: connection_id(),
            to: To::Phone(Phone::parse(phone).expect("a phone number")),
            template: TemplateName::parse(OFFER).expect("a name"),
            language: Language::parse(LANGUAGE).expect("a language"),
            values: Values { body: Texts::Positional(vec![Value::Literal("Ana".to_owned())]), ..Values::default() },
            participant: std::collections::BTreeMap::new(),
            not_after: None,
            once: None,
            campaign: None,
            author: None,
            resends: None,
        }
    }

    /// The same, of [`REMINDER`].
    #[must_use]
    pub fn reminder(&self, phone: &str, serial: u32) -> TemplateSend {
        TemplateSend { template: TemplateName::parse(REMINDER).expect("a name"), ..self.offer(phone, serial) }
    }

    /// The same, of [`LOGIN`].
    #[must_use]
    pub fn login_code(&self, phone: &str, serial: u32) -> TemplateSend {
        let values = Values { code: Some(Value::Literal("123456".to_owned())), ..Values::default() };
        TemplateSend { template: TemplateName::parse(LOGIN).expect("a name"), values, ..self.offer(phone, serial) }
    }

    /// A campaign engine puts a job into its queue.
    pub async fn campaigns(&self, job: &TemplateSend) {
        self.campaigns_all(std::slice::from_ref(job)).await;
    }

    /// A campaign engine puts jobs into their queue.
    pub async fn campaigns_all(&self, jobs: &[TemplateSend]) {
        let entry = |job: &TemplateSend| Entry {
            body: serde_json::to_string(job).expect("a job"),
            group: Some(job.connection.to_string()),
            deduplication: None,
        };
        self.queues.send(Queue::TemplateSends, jobs.iter().map(entry).collect()).await.expect("the queue takes them");
    }

    /// The refusals and failures of templates that the feed told, by job: the conversation that it names, and the code.
    #[must_use]
    pub fn refused_templates(&self) -> Vec<(String, Option<ConversationId>, String)> {
        let told = self.events().into_iter().filter_map(|it| match it.what {
            Happened::SendRefused { conversation, message, code, .. } => Some((message, conversation, code)),
            _ => None,
        });
        told.collect()
    }

    /// An operator writes down a customer's word on marketing.
    pub async fn sets_marketing(&self, who: &str, preference: Preference) {
        let (id, tenant) = (self.conversation(who).await.id, TenantId::parse("demo").expect("an id"));
        let set = preferences::set_marketing(&self.store, &self.queues, &tenant, &id, preference, self.now()).await;
        assert!(set.expect("the store and the feed answer").is_some(), "there is a conversation");
    }

    /// An operator writes down whether a customer may be contacted with templates.
    pub async fn sets_do_not_contact(&self, who: &str, is_set: bool) {
        let (id, tenant) = (self.conversation(who).await.id, TenantId::parse("demo").expect("an id"));
        let set = preferences::set_do_not_contact(&self.store, &self.queues, &tenant, &id, is_set, self.now()).await;
        assert!(set.expect("the store and the feed answer").is_some(), "there is a conversation");
    }

    /// The demo connection has a conversation with this customer, from this number, in which nothing was said yet.
    pub async fn begins_conversation(&self, phone: &str, number: &str) {
        let customer = Customer::known_by(Some(Phone::parse(phone).expect("a phone number")), None).expect("an address");
        let mut stored = people::home(&self.store, &connection_id(), &customer, phone, self.now(), Timestamp::default())
            .await
            .expect("the store answers");
        let stored = stored.as_mut().expect("nothing was erased");
        stored.conversation.sender = Some(Sender { number: NumberId::parse(number).expect("an id"), at: Timestamp::default() });
        assert!(self.store.keep_conversation(stored).await.expect("the store answers"), "it is new");
    }

    /// A number may send so many messages a second, as Meta says and as we remember.
    pub async fn sets_throughput(&self, number: &str, per_second: u32) {
        self.meta.change_number(number, |it| it.throughput = per_second as usize).expect("a number");
        let update = self.dynamo.client("test").update_item().table_name(&self.template.tables["ConfigTable"].name);
        let update = update.key("pk", AttributeValue::S(format!("NUMBER#{number}"))).key("sk", AttributeValue::S("META".to_owned()));
        let update = update.update_expression("SET #throughput = :it").expression_attribute_names("#throughput", "throughput");
        let update = update.expression_attribute_values(":it", AttributeValue::N(per_second.to_string()));
        update.send().await.expect("the engine answers");
    }

    /// Puts jobs into their queue past SQS's interface: for more of them than a story has patience for.
    pub fn queue_up(&self, jobs: impl Iterator<Item = TemplateSend>) {
        let queue = &self.template.queue("TemplateSendsQueue").name;
        for job in jobs {
            let body = serde_json::to_string(&job).expect("a job");
            self.sqs.seed(queue, &body, Some(job.connection.as_str()), None).expect("the queue takes it");
        }
    }

    /// Places in rotations that were leased and not used.
    #[must_use]
    pub fn unused_places(&self) -> usize {
        self.templates.unused_places()
    }
}
