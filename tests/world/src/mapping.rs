//! The event source mapping: takes batches from a queue to a function's handler and acknowledges them as Lambda does.
//!
//! Either stepped by hand, one batch at a time and with what may go wrong on the way, or running until a story ends.
//! It must not know what any record means.
//! <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html>

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, pending};
use std::rc::Rc;

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use meta_sim::Simulator;
use serde_json::{Map, Value, json};

use crate::idle::Activity;
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

/// How the mappings run by themselves.
#[derive(Clone, Copy, Debug)]
pub struct Freely {
    /// Of each queue up to this many batches are handled at a time, fewer if the template says so.
    pub workers: usize,
    /// By this seed, batches of any size come in any order that the kind of queue allows, one in eight is handled and then delivered
    /// again, and of a standard queue one in eight is delivered to two workers.
    pub trouble: Option<u64>,
}

/// One batch in so many meets each kind of trouble.
const TROUBLE: usize = 8;

/// What goes on beside the mappings while they run by themselves.
pub(crate) trait Beside<'a> {
    /// What begins now.
    fn begin(&self) -> Vec<LocalBoxFuture<'a, ()>>;

    /// When the next thing begins, in milliseconds since the Unix epoch.
    fn next_ms(&self) -> Option<i64>;
}

/// Nothing goes on beside.
impl Beside<'_> for () {
    fn begin(&self) -> Vec<LocalBoxFuture<'static, ()>> {
        Vec::new()
    }

    fn next_ms(&self) -> Option<i64> {
        None
    }
}

/// The mappings of a template, each with its function's handler. Names of queues are logical ids here.
pub struct Mappings {
    queues: Queues,
    mappings: Vec<Mapped>,
    activity: Activity,
    steps: Cell<u64>,
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
        Self { queues: queues.clone(), mappings: mapped, activity: Activity::new(queues.clock(), None), steps: Cell::new(0) }
    }

    /// The handlers send requests to this simulator: the clock must not be turned while one is answered.
    #[must_use]
    pub fn beside_meta(mut self, meta: &Simulator) -> Self {
        self.activity = Activity::new(self.queues.clock(), Some(meta.clone()));
        self
    }

    /// What goes on around these mappings.
    #[must_use]
    pub fn activity(&self) -> &Activity {
        &self.activity
    }

    /// The logical ids of the queues that have a mapping.
    pub fn queues(&self) -> impl Iterator<Item = &str> {
        self.mappings.iter().map(|it| it.mapping.queue.as_str())
    }

    /// Delivers one batch of this queue, if there is anything to receive, and returns how many records were handed over;
    /// those handed over twice count twice. If the handler sleeps, the clock is turned to its waking.
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

    /// Runs all mappings beside `story` until it ends. Whenever nothing goes on, the clock is turned to what happens next: a sleeper
    /// wakes, a message becomes visible, a batch has been gathered for long enough. What is being handled when the story ends is
    /// dropped, as by a crash; what is only gathered is let go.
    ///
    /// # Panics
    /// When nothing is left to happen and the story still waits.
    pub async fn run_until<T>(&self, freely: Freely, story: impl Future<Output = T>) -> T {
        self.run(freely, story, &()).await.expect("the story ends before nothing is left to happen")
    }

    /// Runs all mappings until nothing is left to happen.
    pub async fn run_out(&self, freely: Freely) {
        self.run(freely, pending::<()>(), &()).await;
    }

    /// What the story ended with; nothing if nothing was left to happen before.
    pub(crate) async fn run<'a, T>(&'a self, freely: Freely, story: impl Future<Output = T>, beside: &dyn Beside<'a>) -> Option<T> {
        let chance = Rc::new(RefCell::new(freely.trouble.map(Chance)));
        let pollers: Vec<Poller<'a>> = self.mappings.iter().map(|it| Poller::new(self, it, freely.workers, &chance)).collect();
        let mut work = FuturesUnordered::new();
        let begin = |work: &FuturesUnordered<LocalBoxFuture<'a, ()>>| {
            let batches = pollers.iter().flat_map(Poller::begin);
            let begun: Vec<LocalBoxFuture<'a, ()>> = batches.chain(beside.begin()).collect();
            let is_any = !begun.is_empty();
            begun.into_iter().for_each(|it| work.push(it));
            is_any
        };
        tokio::pin!(story);
        loop {
            begin(&work);
            tokio::select! {
                biased;
                ended = &mut story => {
                    pollers.iter().for_each(Poller::release);
                    return Some(ended);
                }
                Some(()) = work.next() => {}
                () = self.activity.ends() => {
                    if !begin(&work) {
                        let clock = self.activity.clock();
                        let gathered = pollers.iter().filter_map(Poller::gathered_ms).min();
                        let next = [clock.next_wake_ms(), self.queues.next_visible_ms(), gathered, beside.next_ms()];
                        let next = next.into_iter().flatten().filter(|it| *it > clock.now_ms()).min();
                        clock.set(next?);
                    }
                }
            }
        }
    }

    async fn once(&self, mapped: &Mapped, order: Order, most: usize) -> usize {
        let messages = self.fill(mapped, Vec::new(), order, most);
        if messages.is_empty() {
            return 0;
        }
        let done = self.invoke(mapped, &messages).await;
        self.queues.delete(&mapped.queue_name, &done);
        messages.len()
    }

    async fn twice(&self, mapped: &Mapped) -> usize {
        let messages = self.fill(mapped, Vec::new(), Order::Arrival, mapped.mapping.batch_size);
        if messages.is_empty() {
            return 0;
        }
        self.invoke(mapped, &messages).await;
        let done = self.invoke(mapped, &messages).await;
        self.queues.delete(&mapped.queue_name, &done);
        2 * messages.len()
    }

    async fn crashing(&self, mapped: &Mapped) -> usize {
        let messages = self.fill(mapped, Vec::new(), Order::Arrival, mapped.mapping.batch_size);
        if messages.is_empty() {
            return 0;
        }
        let lost = self.invoke(mapped, &messages).await;
        self.queues.release(&mapped.queue_name, &lost);
        messages.len() + self.once(mapped, Order::Arrival, mapped.mapping.batch_size).await
    }

    /// Invokes the handler, and turns the clock for it when it sleeps.
    async fn invoke(&self, mapped: &Mapped, messages: &[Value]) -> Vec<String> {
        self.activity.turning(mapped.invoke(messages)).await
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

/// One mapping while it runs by itself.
struct Poller<'a> {
    mappings: &'a Mappings,
    mapped: &'a Mapped,
    workers: usize,
    busy: Rc<Cell<usize>>,
    chance: Rc<RefCell<Option<Chance>>>,
    /// What has been received for the next batch, until when it is gathered, and how much it may be.
    gathering: RefCell<(Vec<Value>, i64, usize)>,
}

impl<'a> Poller<'a> {
    fn new(mappings: &'a Mappings, mapped: &'a Mapped, workers: usize, chance: &Rc<RefCell<Option<Chance>>>) -> Self {
        let most = mapped.mapping.max_concurrency.and_then(|it| usize::try_from(it).ok()).unwrap_or(usize::MAX);
        Self { mappings, mapped, workers: workers.min(most), busy: Rc::default(), chance: Rc::clone(chance), gathering: RefCell::default() }
    }

    /// The batches that are handled from now on.
    fn begin(&self) -> Vec<LocalBoxFuture<'a, ()>> {
        let mut begun = Vec::new();
        while self.busy.get() < self.workers
            && let Some(messages) = self.next()
        {
            self.busy.set(self.busy.get() + 1);
            let (mappings, mapped, busy) = (self.mappings, self.mapped, Rc::clone(&self.busy));
            let is_lost = self.is_troubled();
            let handled = async move {
                let done = mapped.invoke(&messages).await;
                if is_lost {
                    mappings.queues.release(&mapped.queue_name, &done);
                } else {
                    mappings.queues.delete(&mapped.queue_name, &done);
                }
                busy.set(busy.get() - 1);
            };
            begun.push(handled.boxed_local());
        }
        begun
    }

    /// The next batch, if it is full, or has been gathered for the mapping's window.
    fn next(&self) -> Option<Vec<Value>> {
        let mut gathering = self.gathering.borrow_mut();
        let (messages, until_ms, most) = &mut *gathering;
        if !self.mappings.queues.has_visible(&self.mapped.queue_name) && messages.is_empty() {
            return None;
        }
        let now_ms = self.mappings.activity.clock().now_ms();
        if messages.is_empty() {
            let window_ms = self.mapped.mapping.window_s.saturating_mul(1_000);
            *until_ms = now_ms.saturating_add_unsigned(window_ms);
            *most = self.below(self.mapped.mapping.batch_size).map_or(self.mapped.mapping.batch_size, |it| it + 1);
        }
        let order = self.below(usize::MAX).map_or(Order::Arrival, |it| Order::Shuffled(u64::try_from(it).unwrap_or_default()));
        *messages = self.mappings.fill(self.mapped, std::mem::take(messages), order, *most);
        let is_due = messages.len() >= *most || now_ms >= *until_ms;
        if messages.is_empty() || !is_due {
            return None;
        }
        if !self.mapped.queue_name.ends_with(".fifo") && self.is_troubled() {
            self.mappings.queues.copy(&self.mapped.queue_name, messages);
        }
        Some(std::mem::take(messages))
    }

    /// Lets go what has been gathered and is not handled yet.
    fn release(&self) {
        let messages = std::mem::take(&mut self.gathering.borrow_mut().0);
        let receipts: Vec<String> = messages.iter().filter_map(|it| Some(it["ReceiptHandle"].as_str()?.to_owned())).collect();
        self.mappings.queues.release(&self.mapped.queue_name, &receipts);
    }

    /// Until when the next batch is gathered, if it has begun.
    fn gathered_ms(&self) -> Option<i64> {
        let gathering = self.gathering.borrow();
        (!gathering.0.is_empty()).then_some(gathering.1)
    }

    /// Does the next batch meet a trouble?
    fn is_troubled(&self) -> bool {
        self.below(TROUBLE) == Some(0)
    }

    /// A number below `limit` by chance, if there is to be trouble.
    fn below(&self, limit: usize) -> Option<usize> {
        self.chance.borrow_mut().as_mut().map(|it| it.below(limit))
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
    use crate::clock::{Clock, START_MS};

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

    /// Notes at which second each batch began and ended, and sleeps between as long as `seconds` says, given the batch's position.
    fn sleepy(seconds: impl Fn(usize) -> i64 + 'static) -> (Test, Rc<RefCell<Vec<String>>>) {
        let mut test = all_good();
        let log: Rc<RefCell<Vec<String>>> = Rc::default();
        let (clock, noted, batches, count) = (test.clock.clone(), Rc::clone(&log), Rc::clone(&test.batches), Cell::new(0));
        let handler: Handler = Rc::new(move |event: SqsEvent| {
            batches.borrow_mut().push(event.records.into_iter().filter_map(|it| it.body).collect());
            let (clock, noted, batch) = (clock.clone(), Rc::clone(&noted), count.get());
            count.set(batch + 1);
            let until_ms = clock.now_ms() + seconds(batch) * 1_000;
            async move {
                let note = |what| noted.borrow_mut().push(format!("{}s {what} {batch}", (clock.now_ms() - START_MS) / 1_000));
                note("begins");
                clock.until(until_ms).await;
                note("ends");
                Ok(json!({ "batchItemFailures": [] }))
            }
            .boxed_local()
        });
        let template = Template::parse(TEMPLATE).expect("is understood");
        test.mappings = Mappings::new(&test.queues, &template, BTreeMap::from([("Work".to_owned(), handler)]));
        (test, log)
    }

    const FREELY: Freely = Freely { workers: 5, trouble: None };

    #[tokio::test]
    async fn a_handler_that_sleeps_is_stepped_through_its_sleep_and_no_further() {
        let (test, log) = sleepy(|_| 2);
        test.seed(0..30);
        assert_eq!(test.mappings.step("Standard", Delivery::Once).await, 25);
        assert_eq!(test.clock.now_ms(), START_MS + 2_000);
        assert_eq!(test.mappings.settle(Delivery::CrashBeforeAck).await, 10);
        assert_eq!(test.clock.now_ms(), START_MS + 6_000);
        let expected = ["0s begins 0", "2s ends 0", "2s begins 1", "4s ends 1", "4s begins 2", "6s ends 2"];
        assert_eq!(*log.borrow(), expected);
    }

    #[tokio::test]
    async fn sleeps_of_workers_interleave_and_only_the_longest_counts() {
        let (test, log) = sleepy(|batch| [3, 7, 5, 1][batch]);
        test.seed(0..100);
        test.mappings.run_out(Freely { workers: 2, trouble: None }).await;
        let expected = ["0s begins 0", "0s begins 1", "3s ends 0", "3s begins 2", "7s ends 1", "7s begins 3", "8s ends 2", "8s ends 3"];
        assert_eq!(*log.borrow(), expected);
        assert_eq!(test.clock.now_ms(), START_MS + 8_000);
        assert!(test.queues.depths().is_empty());
    }

    #[tokio::test]
    async fn running_freely_handles_what_arrives_until_the_story_ends() {
        let (test, log) = sleepy(|_| 10);
        let Test { clock, mappings, .. } = &test;
        mappings
            .run_until(FREELY, async {
                test.seed_fifo("a1");
                clock.until(START_MS + 4_000).await;
                test.seed_fifo("b1");
                clock.until(START_MS + 12_000).await;
            })
            .await;
        assert_eq!(*log.borrow(), ["0s begins 0", "4s begins 1", "10s ends 0"]);
        assert_eq!(test.queues.bodies("jobs.fifo"), ["b1"], "what is being handled when the story ends is dropped");
    }

    #[tokio::test]
    async fn a_batch_that_is_not_full_is_gathered_for_its_window() {
        let (test, log) = sleepy(|_| 0);
        let Test { clock, mappings, .. } = &test;
        mappings
            .run_until(FREELY, async {
                test.seed(0..3);
                clock.until(START_MS + 500).await;
                test.seed(3..5);
                clock.until(START_MS + 1_500).await;
                test.seed(5..30);
                clock.until(START_MS + 1_501).await;
            })
            .await;
        assert_eq!(test.batches().iter().map(Vec::len).collect::<Vec<_>>(), [5, 25]);
        assert_eq!(log.borrow()[0], "1s begins 0");
    }

    #[tokio::test]
    async fn what_comes_back_is_waited_for_and_then_nothing_is_left_to_happen() {
        let test = test(|_| Err(anyhow::anyhow!("out of memory")));
        test.seed_fifo("a1");
        let Test { clock, queues, mappings, batches } = &test;
        mappings.run_until(FREELY, mappings.activity().comes_true(|| batches.borrow().len() == 2)).await;
        assert_eq!(clock.now_ms(), START_MS + 60_000);
        queues.delete("jobs.fifo", &["jobs.fifo/1/2".to_owned()]);
        assert_eq!(mappings.run(FREELY, pending::<()>(), &()).await, None);
        assert_eq!(clock.now_ms(), START_MS + 60_000);
    }

    #[tokio::test]
    async fn trouble_repeats_and_disorders_and_loses_nothing_the_same_way_for_the_same_seed() {
        let run = async |seed| {
            let (test, log) = sleepy(|_| 1);
            test.seed(0..200);
            for group in "abcdefghij".chars() {
                (1..=3).for_each(|it| test.seed_fifo(&format!("{group}{it}")));
            }
            test.mappings.run_out(Freely { workers: 3, trouble: Some(seed) }).await;
            assert!(test.queues.depths().is_empty(), "all is handled and deleted");
            let log = log.borrow().clone();
            (test.batches(), log)
        };
        let (batches, log) = run(1).await;
        assert_eq!(run(1).await, (batches.clone(), log.clone()));
        assert_ne!(run(2).await.0, batches);
        let handled = batches.concat();
        assert_eq!(handled.iter().collect::<BTreeSet<_>>().len(), 230, "none is lost");
        let (fifo, standard): (Vec<&String>, Vec<&String>) = handled.iter().partition(|it| it.starts_with(char::is_alphabetic));
        assert!(fifo.len() > 30, "some are handled again");
        let mut first = BTreeSet::new();
        let firsts: Vec<&String> = fifo.into_iter().filter(|it| first.insert(it.as_str())).collect();
        for group in "abcdefghij".chars() {
            let own: Vec<&&String> = firsts.iter().filter(|it| it.starts_with(group)).collect();
            assert!(own.is_sorted() && own.len() == 3, "a group keeps its order: {own:?}");
        }
        let begun: Vec<&String> = log.iter().filter(|it| it.contains("begins")).collect();
        let second = |batch: usize| begun[batch].split(' ').next();
        let are_twice =
            |one: usize, other: usize| second(one) == second(other) && batches[one].iter().any(|it| batches[other].contains(it));
        assert!((1..batches.len()).any(|other| (0..other).any(|one| are_twice(one, other))), "some are handled twice at once");
        assert!(!standard.is_sorted_by_key(|it| it.parse::<u32>().unwrap_or_default()), "a standard queue has none");
    }
}
