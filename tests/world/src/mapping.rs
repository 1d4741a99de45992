//! The event source mapping: takes batches from a queue to a function's handler and acknowledges them as Lambda does.
//!
//! Either stepped by hand, one batch at a time and with what may go wrong on the way, or running until a story ends.
//! It must not know what any record means.
//! <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html>

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::rc::Rc;

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use futures::FutureExt;
use futures::future::{LocalBoxFuture, join_all};
use serde_json::{Map, Value, json};

use crate::sqs::{Chance, Order, Queues};
use crate::template::{self, Mapping, REGION, Template};

/// What Lambda invokes: an event in, the answer's JSON out. It need not be `Send`.
pub type Handler = Rc<dyn Fn(SqsEvent) -> LocalBoxFuture<'static, anyhow::Result<Value>>>;

/// A handler from a function that answers with the failures of its batch, as ours do.
pub fn handler<F, R, E>(run: F) -> Handler
where
    F: Fn(SqsEvent) -> R + 'static,
    R: Future<Output = Result<SqsBatchResponse, E>> + 'static,
    E: Into<anyhow::Error>,
{
    Rc::new(move |event| {
        let answer = run(event);
        async move { Ok(serde_json::to_value(answer.await.map_err(Into::into)?)?) }.boxed_local()
    })
}

/// How a batch is delivered when the mapping is stepped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Each batch once, in the queue's order.
    Once,
    /// The handler runs twice on each batch before what it has done is deleted; the second answer counts.
    Twice,
    /// Batches of any size in any order that the kind of queue allows, the same for the same seed: of a standard queue all
    /// is mixed, of a FIFO queue the groups, each in its order.
    Shuffled(u64),
    /// The handler runs, and all is lost before anything is deleted: the visibility timeout passes, without the clock being
    /// turned, and the batch is received and run again. What the handler itself made wait goes on waiting.
    CrashBeforeAck,
}

/// The mappings of a template, each with its function's handler. Names of queues are logical ids here.
pub struct Mappings {
    queues: Queues,
    mappings: Vec<Mapped>,
    steps: std::cell::Cell<u64>,
}

struct Mapped {
    id: String,
    mapping: Mapping,
    queue_name: String,
    handler: Handler,
}

impl std::fmt::Debug for Mappings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.mappings.iter().map(|it| &it.id)).finish()
    }
}

impl Mappings {
    /// The template's mappings over these queues; `handlers` are by the function's logical id.
    ///
    /// # Panics
    /// When a mapped function has no handler, or a handler no mapping: the world would leave a queue unread.
    #[must_use]
    pub fn new(queues: &Queues, template: &Template, mut handlers: BTreeMap<String, Handler>) -> Self {
        let mapped: Vec<Mapped> = template
            .mappings
            .iter()
            .map(|(id, mapping)| Mapped {
                id: id.clone(),
                queue_name: template.queue(&mapping.queue).name.clone(),
                handler: handlers.get(&mapping.function).unwrap_or_else(|| panic!("{} has no handler", mapping.function)).clone(),
                mapping: mapping.clone(),
            })
            .collect();
        handlers.retain(|function, _| !mapped.iter().any(|it| it.mapping.function == *function));
        assert!(handlers.is_empty(), "no queue is mapped to {:?}", handlers.keys());
        Self { queues: queues.clone(), mappings: mapped, steps: std::cell::Cell::new(0) }
    }

    /// The logical ids of the queues that have a mapping.
    pub fn queues(&self) -> impl Iterator<Item = &str> {
        self.mappings.iter().map(|it| it.mapping.queue.as_str())
    }

    /// Delivers one batch of this queue, if there is anything to receive, and returns how many records were handed over;
    /// those handed over twice count twice.
    ///
    /// # Panics
    /// When no mapping reads this queue.
    pub async fn step(&self, queue: &str, delivery: Delivery) -> usize {
        let mapped = self.mappings.iter().find(|it| it.mapping.queue == queue);
        let mapped = mapped.unwrap_or_else(|| panic!("no mapping reads {queue}"));
        self.steps.set(self.steps.get() + 1);
        match delivery {
            Delivery::Once => self.once(mapped, Order::Arrival, mapped.mapping.batch_size).await,
            Delivery::Twice => self.twice(mapped).await,
            Delivery::Shuffled(seed) => {
                let seed = seed.wrapping_mul(1_000_003).wrapping_add(self.steps.get());
                let most = 1 + Chance(seed).below(mapped.mapping.batch_size);
                self.once(mapped, Order::Shuffled(seed), most).await
            }
            Delivery::CrashBeforeAck => self.crashing(mapped).await,
        }
    }

    /// Delivers batches of all mapped queues in turns until none has anything to receive now, and returns how many records
    /// were handed over.
    ///
    /// # Panics
    /// After 10,000 batches: something is handed over for ever.
    pub async fn settle(&self, delivery: Delivery) -> usize {
        let mut records = 0;
        for _ in 0..10_000 {
            let mut in_this_turn = 0;
            for mapped in &self.mappings {
                in_this_turn += self.step(&mapped.mapping.queue, delivery).await;
            }
            if in_this_turn == 0 {
                return records;
            }
            records += in_this_turn;
        }
        panic!("the queues do not settle: {:?}", self.queues.depths());
    }

    /// Runs all mappings beside `story` until it ends: up to five batches of a queue at a time, fewer if the template says
    /// so, without gathering for a window. What is being handled when the story ends is dropped, as by a crash.
    pub async fn run_until<T>(&self, story: impl Future<Output = T>) -> T {
        let pollers = self.mappings.iter().flat_map(|mapped| {
            let pollers = mapped.mapping.max_concurrency.unwrap_or(5).min(5);
            (0..pollers).map(|_| self.poll(mapped))
        });
        tokio::select! {
            ended = story => ended,
            _ = join_all(pollers) => unreachable!("pollers do not end"),
        }
    }

    async fn poll(&self, mapped: &Mapped) {
        loop {
            let first = self.queues.receive_next(&mapped.queue_name, mapped.mapping.batch_size.min(10)).await;
            let messages = self.fill(mapped, first, Order::Arrival, mapped.mapping.batch_size);
            let done = mapped.invoke(&messages).await;
            self.queues.delete(&mapped.queue_name, &done);
        }
    }

    async fn once(&self, mapped: &Mapped, order: Order, most: usize) -> usize {
        let messages = self.fill(mapped, Vec::new(), order, most);
        if messages.is_empty() {
            return 0;
        }
        let done = mapped.invoke(&messages).await;
        self.queues.delete(&mapped.queue_name, &done);
        messages.len()
    }

    async fn twice(&self, mapped: &Mapped) -> usize {
        let messages = self.fill(mapped, Vec::new(), Order::Arrival, mapped.mapping.batch_size);
        if messages.is_empty() {
            return 0;
        }
        mapped.invoke(&messages).await;
        let done = mapped.invoke(&messages).await;
        self.queues.delete(&mapped.queue_name, &done);
        2 * messages.len()
    }

    async fn crashing(&self, mapped: &Mapped) -> usize {
        let messages = self.fill(mapped, Vec::new(), Order::Arrival, mapped.mapping.batch_size);
        if messages.is_empty() {
            return 0;
        }
        let lost = mapped.invoke(&messages).await;
        self.queues.release(&mapped.queue_name, &lost);
        messages.len() + self.once(mapped, Order::Arrival, mapped.mapping.batch_size).await
    }

    /// Receives until a batch is full or nothing is left. A FIFO queue's batch is one receive.
    fn fill(&self, mapped: &Mapped, mut messages: Vec<Value>, order: Order, most: usize) -> Vec<Value> {
        while messages.len() < most {
            let more = self.queues.receive(&mapped.queue_name, (most - messages.len()).min(10), order);
            if more.is_empty() {
                break;
            }
            messages.extend(more);
        }
        messages
    }
}

impl Mapped {
    /// Invokes the handler and returns the receipts of what is to be deleted.
    async fn invoke(&self, messages: &[Value]) -> Vec<String> {
        let answer = (self.handler)(event(&self.queue_name, messages)).await;
        let text = |message: &Value, name: &str| message[name].as_str().unwrap_or_default().to_owned();
        let ids: BTreeSet<String> = messages.iter().map(|it| text(it, "MessageId")).collect();
        let failed = match answer {
            Err(_) => ids.clone(),
            Ok(_) if !self.mapping.reports_failures => BTreeSet::new(),
            Ok(answer) => failed(&answer, &ids),
        };
        let done = messages.iter().filter(|it| !failed.contains(&text(it, "MessageId")));
        done.map(|it| text(it, "ReceiptHandle")).collect()
    }
}

/// Which messages of a batch an answer leaves in the queue. Nothing reported: none. An id that is empty, missing or not of
/// the batch, or an answer of another form: all of them.
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html#services-sqs-batchfailurereporting>
#[must_use]
pub fn failed(answer: &Value, batch: &BTreeSet<String>) -> BTreeSet<String> {
    let reported = match answer {
        Value::Null => return BTreeSet::new(),
        Value::Object(members) => match members.get("batchItemFailures") {
            Some(Value::Array(reported)) => reported,
            None | Some(Value::Null) if members.keys().all(|it| it == "batchItemFailures") => return BTreeSet::new(),
            _ => return batch.clone(),
        },
        _ => return batch.clone(),
    };
    let ids: Option<BTreeSet<String>> = reported.iter().map(|it| it["itemIdentifier"].as_str().map(str::to_owned)).collect();
    ids.filter(|ids| ids.is_subset(batch)).unwrap_or_else(|| batch.clone())
}

/// The event for a function, from messages in the form of `ReceiveMessage`'s answer.
/// <https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html#example-standard-queue-message-event>
#[must_use]
pub fn event(queue_name: &str, messages: &[Value]) -> SqsEvent {
    let records: Vec<Value> = messages.iter().map(|message| record(queue_name, message)).collect();
    serde_json::from_value(json!({ "Records": records })).expect("the records have the event's form")
}

fn record(queue_name: &str, message: &Value) -> Value {
    let own = message["MessageAttributes"].as_object().into_iter().flatten();
    let own: Map<String, Value> = own.map(|(name, value)| (name.clone(), record_attribute(value))).collect();
    json!({
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "messageAttributes": own,
        "md5OfBody": message["MD5OfBody"],
        "md5OfMessageAttributes": message["MD5OfMessageAttributes"],
        "eventSource": "aws:sqs",
        "eventSourceARN": template::queue_arn(queue_name),
        "awsRegion": REGION,
    })
}

fn record_attribute(value: &Value) -> Value {
    json!({
        "stringValue": value["StringValue"],
        "binaryValue": value["BinaryValue"],
        "stringListValues": [],
        "binaryListValues": [],
        "dataType": value["DataType"],
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::clock::Clock;

    const TEMPLATE: &str = r#"
Resources:
  Dead: { Type: "AWS::SQS::Queue", Properties: { QueueName: dead, MessageRetentionPeriod: 1209600 } }
  Standard: { Type: "AWS::SQS::Queue", Properties: { QueueName: standard, VisibilityTimeout: 60 } }
  Fifo: { Type: "AWS::SQS::Queue", Properties: { QueueName: jobs.fifo, FifoQueue: true, VisibilityTimeout: 60 } }
  Work: { Type: "AWS::Serverless::Function", Properties: { Timeout: 10 } }
  StandardMapping:
    Type: AWS::Lambda::EventSourceMapping
    Properties:
      FunctionName: !Ref Work
      EventSourceArn: !GetAtt Standard.Arn
      BatchSize: 25
      MaximumBatchingWindowInSeconds: 1
      FunctionResponseTypes: [ReportBatchItemFailures]
  FifoMapping:
    Type: AWS::Lambda::EventSourceMapping
    Properties:
      FunctionName: !Ref Work
      EventSourceArn: !GetAtt Fifo.Arn
      FunctionResponseTypes: [ReportBatchItemFailures]
"#;

    type Batches = Rc<RefCell<Vec<Vec<String>>>>;

    struct Test {
        clock: Clock,
        queues: Queues,
        mappings: Mappings,
        batches: Batches,
    }

    /// Notes each batch, and answers as `answer` says, given the ids of the batch.
    fn test(answer: impl Fn(&[String]) -> anyhow::Result<Value> + 'static) -> Test {
        let clock = Clock::turned();
        let queues = Queues::new(&clock);
        let template = Template::parse(TEMPLATE).expect("is understood");
        queues.create_queues(template.queues.values()).expect("are created");
        let batches = Batches::default();
        let noted = Rc::clone(&batches);
        let handler: Handler = Rc::new(move |event: SqsEvent| {
            noted.borrow_mut().push(event.records.iter().filter_map(|it| it.body.clone()).collect());
            let ids: Vec<String> = event.records.into_iter().filter_map(|it| it.message_id).collect();
            futures::future::ready(answer(&ids)).boxed_local()
        });
        let mappings = Mappings::new(&queues, &template, BTreeMap::from([("Work".to_owned(), handler)]));
        Test { clock, queues, mappings, batches }
    }

    fn all_good() -> Test {
        test(|_| Ok(json!({ "batchItemFailures": [] })))
    }

    impl Test {
        fn seed(&self, bodies: std::ops::Range<u32>) {
            bodies.for_each(|it| self.queues.seed("standard", &it.to_string(), None, None).expect("is seeded"));
        }

        fn seed_fifo(&self, body: &str) {
            self.queues.seed("jobs.fifo", body, Some(&body[..1]), Some(body)).expect("is seeded");
        }

        fn batches(&self) -> Vec<Vec<String>> {
            self.batches.borrow().clone()
        }
    }

    #[tokio::test]
    async fn a_batch_of_more_than_ten_is_gathered_and_deleted() {
        let test = all_good();
        test.seed(0..30);
        assert_eq!(test.mappings.step("Standard", Delivery::Once).await, 25);
        assert_eq!(test.queues.messages("standard").len(), 5);
        assert_eq!(test.mappings.settle(Delivery::Once).await, 5);
        assert!(test.queues.depths().is_empty());
        assert_eq!(test.batches().iter().map(Vec::len).collect::<Vec<_>>(), [25, 5]);
    }

    #[tokio::test]
    async fn twice_runs_the_same_batch_again_before_it_is_deleted() {
        let test = all_good();
        test.seed(0..3);
        assert_eq!(test.mappings.step("Standard", Delivery::Twice).await, 6);
        assert_eq!(test.batches(), vec![vec!["0", "1", "2"]; 2]);
        assert!(test.queues.depths().is_empty());
    }

    #[tokio::test]
    async fn a_crash_before_the_acknowledgement_brings_the_batch_again_without_turning_the_clock() {
        let test = all_good();
        ["a1", "a2"].into_iter().for_each(|it| test.seed_fifo(it));
        let before_ms = test.clock.now_ms();
        assert_eq!(test.mappings.step("Fifo", Delivery::CrashBeforeAck).await, 4);
        assert_eq!(test.batches(), vec![vec!["a1", "a2"]; 2]);
        assert!(test.queues.depths().is_empty());
        assert_eq!(test.clock.now_ms(), before_ms);
    }

    #[tokio::test]
    async fn shuffled_mixes_groups_and_keeps_the_order_in_each() {
        let mut orders = BTreeSet::new();
        for seed in 0..20 {
            let test = all_good();
            ["a1", "a2", "a3", "b1", "b2", "b3"].into_iter().for_each(|it| test.seed_fifo(it));
            test.mappings.settle(Delivery::Shuffled(seed)).await;
            let order = test.batches().concat();
            for group in ["a", "b"] {
                let own: Vec<_> = order.iter().filter(|it| it.starts_with(group)).cloned().collect();
                assert_eq!(own, [format!("{group}1"), format!("{group}2"), format!("{group}3")]);
            }
            orders.insert(order);
        }
        assert!(orders.len() > 5, "seeds give different orders: {orders:?}");
    }

    #[tokio::test]
    async fn shuffled_disorders_a_standard_queue_the_same_way_for_the_same_seed() {
        let run = async |seed| {
            let test = all_good();
            test.seed(0..30);
            assert_eq!(test.mappings.settle(Delivery::Shuffled(seed)).await, 30);
            test.batches()
        };
        assert_eq!(run(1).await, run(1).await);
        assert_ne!(run(1).await, run(2).await);
        assert!(!run(1).await.concat().is_sorted_by_key(|it| it.parse::<u32>().unwrap_or_default()));
    }

    #[tokio::test]
    async fn a_failed_invocation_leaves_its_batch_for_the_visibility_timeout() {
        let test = test(|_| Err(anyhow::anyhow!("out of memory")));
        test.seed(0..2);
        assert_eq!(test.mappings.step("Standard", Delivery::Once).await, 2);
        assert_eq!(test.mappings.step("Standard", Delivery::Once).await, 0);
        assert_eq!(test.queues.in_flight("standard").len(), 2);
        test.clock.advance(std::time::Duration::from_secs(60));
        assert_eq!(test.mappings.step("Standard", Delivery::Once).await, 2);
    }

    #[tokio::test]
    async fn only_reported_records_stay() {
        let test = test(|ids| Ok(json!({ "batchItemFailures": [{ "itemIdentifier": ids[1] }] })));
        test.seed(0..3);
        test.mappings.step("Standard", Delivery::Once).await;
        assert_eq!(test.queues.bodies("standard"), ["1"]);
    }

    #[test]
    fn answers_are_read_as_lambda_reads_them() {
        let batch = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        let left = |answer: Value| failed(&answer, &batch).into_iter().collect::<Vec<_>>();
        for nothing in [json!(null), json!({}), json!({ "batchItemFailures": [] }), json!({ "batchItemFailures": null })] {
            assert!(left(nothing.clone()).is_empty(), "{nothing}");
        }
        assert_eq!(left(json!({ "batchItemFailures": [{ "itemIdentifier": "b" }] })), ["b"]);
        for all in [
            json!({ "batchItemFailures": [{ "itemIdentifier": "" }] }),
            json!({ "batchItemFailures": [{ "itemIdentifier": null }] }),
            json!({ "batchItemFailures": [{ "itemIdentifier": "a" }, { "itemIdentifier": "unknown" }] }),
            json!({ "batchItemFailures": [{ "id": "a" }] }),
            json!({ "failures": [] }),
            json!("done"),
        ] {
            assert_eq!(left(all.clone()), ["a", "b"], "{all}");
        }
    }

    #[tokio::test]
    async fn records_have_the_form_of_lambdas_event() {
        let clock = Clock::turned();
        let queues = Queues::new(&clock);
        let fifo = BTreeMap::from([("FifoQueue".to_owned(), "true".to_owned())]);
        queues.create("jobs.fifo", &fifo).expect("is created");
        let kind = aws_sdk_sqs::types::MessageAttributeValue::builder().data_type("String").string_value("turn").build();
        let send = queues.client("test").send_message().queue_url(template::queue_url("jobs.fifo")).message_body("{}");
        let send = send.message_group_id("g").message_deduplication_id("d").message_attributes("kind", kind.expect("is complete"));
        let sent = send.send().await.expect("is sent");
        let event = event("jobs.fifo", &queues.receive("jobs.fifo", 10, Order::Arrival));
        let record = &event.records[0];
        assert_eq!((record.message_id.as_deref(), record.body.as_deref()), (sent.message_id(), Some("{}")));
        assert_eq!(record.md5_of_body.as_deref(), sent.md5_of_message_body());
        assert_eq!(record.md5_of_message_attributes.as_deref(), sent.md5_of_message_attributes());
        assert_eq!(record.message_attributes["kind"].string_value.as_deref(), Some("turn"));
        assert_eq!(record.event_source_arn, Some(template::queue_arn("jobs.fifo")));
        let now = clock.now_ms().to_string();
        for (name, value) in [
            ("MessageGroupId", "g"),
            ("MessageDeduplicationId", "d"),
            ("ApproximateReceiveCount", "1"),
            ("SentTimestamp", now.as_str()),
            ("SequenceNumber", sent.sequence_number().unwrap_or_default()),
        ] {
            assert_eq!(record.attributes.get(name).map(String::as_str), Some(value), "{name}");
        }
    }

    #[tokio::test]
    async fn running_freely_handles_what_arrives_until_the_story_ends() {
        let test = all_good();
        test.mappings
            .run_until(async {
                test.seed(0..3);
                test.seed_fifo("a1");
                while !test.queues.depths().is_empty() {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        assert_eq!(test.batches().concat().len(), 4);
        test.seed(3..4);
        tokio::task::yield_now().await;
        assert_eq!(test.queues.bodies("standard"), ["3"], "nothing is handled after the story");
    }
}
