//! SQS for one test: queues in memory with AWS's semantics, by the clock of the world.
//!
//! Reached in process through a [`Wire`] or over HTTP, by the AWS JSON 1.0 protocol both times; the AWS SDK talks to it as
//! to AWS. One mutex guards all queues: a request is atomic. It must not know what any body means.
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_Operations.html>

mod message;
mod queue;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region, SharedHttpClient, retry::RetryConfig};
use axum::body::{Body, Bytes};
use axum::extract::State as Shared;
use axum::http::{HeaderMap, Response, StatusCode};
use futures::future::BoxFuture;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;

pub use self::message::SqsError;
use self::message::{Attributes, Draft, LARGEST_MESSAGE, as_json, md5_of_attributes, md5_of_body, number, text, wanted};
pub(crate) use self::queue::{Chance, Order};
use self::queue::{Handed, Message, Queue, Sent};
use crate::clock::Clock;
use crate::template::{self, ACCOUNT, REGION};
use crate::wire::{Answer, Call, Fault, Faults, Head, Service, Wire};

/// The queues of one test, with their faults. Clones are the same queues.
#[derive(Clone, Debug)]
pub struct Queues {
    wire: Wire<Engine>,
}

/// A message as a test sees it, without receiving it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// SQS's message id.
    pub id: String,
    /// The body.
    pub body: String,
    /// FIFO group, or on a standard queue the group for fairness.
    pub group: Option<String>,
    /// Deduplication id, of FIFO queues.
    pub dedupe_id: Option<String>,
    /// How often it was received.
    pub receives: u32,
    /// Whether somebody has it now.
    pub is_in_flight: bool,
    /// Whether it can be received now, as far as it depends on itself and not on its group.
    pub is_visible: bool,
}

impl Queues {
    /// No queue yet; time goes by `clock`.
    #[must_use]
    pub fn new(clock: &Clock) -> Self {
        let engine = Engine { clock: clock.clone(), state: Mutex::default(), changed: Notify::new() };
        Self { wire: Wire::new(engine, clock.clone()) }
    }

    /// Creates the queues of the template, dead letters first.
    ///
    /// # Errors
    /// When an attribute is not one that AWS would take.
    pub fn create_queues<'a>(&self, queues: impl IntoIterator<Item = &'a template::Queue>) -> Result<(), SqsError> {
        let mut queues: Vec<_> = queues.into_iter().collect();
        queues.sort_by_key(|queue| queue.attributes.contains_key("RedrivePolicy"));
        queues.into_iter().try_for_each(|queue| self.create(&queue.name, &queue.attributes))
    }

    /// Creates a queue with AWS's attributes; those not given have AWS's defaults.
    ///
    /// # Errors
    /// When AWS would refuse it.
    pub fn create(&self, name: &str, attributes: &BTreeMap<String, String>) -> Result<(), SqsError> {
        let request = json!({ "QueueName": name, "Attributes": attributes });
        self.engine().answer("CreateQueue", &request, &[]).map(|_| ())
    }

    /// Listens on a free port of 127.0.0.1 until the runtime ends, and returns the endpoint for SDKs.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn listen(&self) -> std::io::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = axum::Router::new().fallback(over_http).with_state(self.wire.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(format!("http://{address}"))
    }

    /// What is to go wrong, and what was called.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        self.wire.faults()
    }

    /// The HTTP client for an SDK configuration made elsewhere; its calls are counted under the name `who`.
    #[must_use]
    pub fn http_client(&self, who: &str) -> SharedHttpClient {
        self.wire.http_client(who)
    }

    /// A configuration for the SDK's client, in process and without retries, so that a test sees each fault.
    #[must_use]
    pub fn sdk_config(&self, who: &str) -> aws_sdk_sqs::config::Builder {
        aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .credentials_provider(Credentials::from_keys("local", "local", None))
            .endpoint_url("http://sqs.invalid")
            .retry_config(RetryConfig::disabled())
            .http_client(self.http_client(who))
    }

    /// A client made of [`Self::sdk_config`].
    #[must_use]
    pub fn client(&self, who: &str) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::from_conf(self.sdk_config(who).build())
    }

    /// The names of all queues.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.engine().with(|state| state.queues.keys().cloned().collect())
    }

    /// All messages of a queue, oldest first, whether they can be received or not.
    ///
    /// # Panics
    /// When there is no such queue, as everywhere here that a test names one: it would look at nothing.
    #[must_use]
    pub fn messages(&self, queue: &str) -> Vec<Seen> {
        let now_ms = self.engine().clock.now_ms();
        self.look(queue, |queue| queue.messages().map(|(_, message)| seen(message, now_ms)).collect())
    }

    /// The bodies of all messages of a queue, oldest first, whether they can be received or not.
    #[must_use]
    pub fn bodies(&self, queue: &str) -> Vec<String> {
        self.messages(queue).into_iter().map(|it| it.body).collect()
    }

    /// Queue, group and deduplication id (or nothing) of everything that was ever sent, whether it is there still or not.
    #[must_use]
    pub fn labels(&self) -> Vec<[String; 3]> {
        self.engine().with(|state| state.labels.clone())
    }

    /// Messages that can be received now; those of a locked FIFO group too.
    #[must_use]
    pub fn visible(&self, queue: &str) -> Vec<Seen> {
        self.messages(queue).into_iter().filter(|it| it.is_visible).collect()
    }

    /// Messages that somebody has received and neither deleted nor lost again.
    #[must_use]
    pub fn in_flight(&self, queue: &str) -> Vec<Seen> {
        self.messages(queue).into_iter().filter(|it| it.is_in_flight).collect()
    }

    /// How many messages somebody has received and neither deleted nor lost again.
    #[must_use]
    pub fn in_flight_count(&self, queue: &str) -> usize {
        self.look(queue, |queue| queue.in_flight_count())
    }

    /// What has gone to the dead letters of `queue`; nothing if it has none.
    #[must_use]
    pub fn dead_letters(&self, queue: &str) -> Vec<Seen> {
        let target = self.look(queue, |queue| redrive(queue).map(|it| it.target));
        target.map(|it| self.messages(&it)).unwrap_or_default()
    }

    /// How many messages each queue holds that holds any.
    #[must_use]
    pub fn depths(&self) -> BTreeMap<String, usize> {
        let depths = self.names().into_iter().map(|name| (self.messages(&name).len(), name));
        depths.filter(|(depth, _)| *depth > 0).map(|(depth, name)| (name, depth)).collect()
    }

    /// Whether a queue holds a message that can be received now; one of a locked FIFO group too.
    #[must_use]
    pub fn has_visible(&self, queue: &str) -> bool {
        self.look(queue, |queue| queue.has_visible())
    }

    /// When the next hidden message of any queue becomes visible, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn next_visible_ms(&self) -> Option<i64> {
        let now_ms = self.engine().clock.now_ms();
        self.engine().with(|state| state.queues.values().filter_map(|it| it.next_visible_ms(now_ms)).min())
    }

    /// Puts a message into a queue, past all faults and counters. A FIFO queue wants a group and an id.
    ///
    /// # Errors
    /// When SQS would refuse it.
    pub fn seed(&self, queue: &str, body: &str, group: Option<&str>, dedupe_id: Option<&str>) -> Result<(), SqsError> {
        let request = json!({
            "QueueUrl": template::queue_url(queue), "MessageBody": body,
            "MessageGroupId": group, "MessageDeduplicationId": dedupe_id,
        });
        self.engine().answer("SendMessage", &request, &[]).map(|_| ())
    }

    /// The next `count` messages received from a standard queue leave a copy behind, which is received once more under the
    /// same id: <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/standard-queues-at-least-once-delivery.html>.
    pub fn duplicate(&self, queue: &str, count: usize) {
        self.look(queue, |queue| {
            assert!(!queue.is_fifo(), "{} is a FIFO queue: it delivers no duplicates", queue.name);
            queue.duplicates_due += count;
        });
    }

    /// Receives as an event source mapping does, with all attributes, past all faults and counters.
    pub(crate) fn receive(&self, queue: &str, most: usize, order: Order) -> Vec<Value> {
        let visibility_s = self.look(queue, |queue| queue.number("VisibilityTimeout"));
        let handed = self.engine().with(|state| state.receive(queue, most, visibility_s, order, self.engine().clock.now_ms()));
        let everything = Wanted { system: vec!["All"], own: vec!["All"] };
        handed.iter().map(|it| received(it, &everything)).collect()
    }

    /// Deletes by receipt in tens, as an event source mapping does, and says how many were refused.
    pub(crate) fn delete(&self, queue: &str, receipts: &[String]) -> usize {
        let now_ms = self.engine().clock.now_ms();
        let refused = self.look(queue, |queue| receipts.iter().filter(|it| queue.delete(it, now_ms).is_err()).count());
        self.engine().changed.notify_waiters();
        refused
    }

    /// Lets messages be received again at once, as if their visibility timeout had passed.
    pub(crate) fn release(&self, queue: &str, receipts: &[String]) {
        let now_ms = self.engine().clock.now_ms();
        self.look(queue, |queue| {
            for receipt in receipts {
                // What the handler has deleted or let go itself need not be released.
                let _ = queue.change_visibility(receipt, 0, now_ms);
            }
        });
        self.engine().changed.notify_waiters();
    }

    /// Leaves a visible copy of each of these received messages under the same id, as [`Self::duplicate`] does.
    pub(crate) fn copy(&self, queue: &str, messages: &[Value]) {
        self.engine().with(|state| {
            for receipt in messages.iter().filter_map(|it| it["ReceiptHandle"].as_str()) {
                let sequence = state.next();
                state.queues.get_mut(queue).into_iter().for_each(|it| it.copy(receipt, sequence));
            }
        });
        self.engine().changed.notify_waiters();
    }

    /// The clock of these queues.
    pub(crate) fn clock(&self) -> &Clock {
        &self.engine().clock
    }

    fn engine(&self) -> &Engine {
        self.wire.service()
    }

    fn look<T>(&self, name: &str, look: impl FnOnce(&mut Queue) -> T) -> T {
        self.engine().with(|state| match state.queues.get_mut(name) {
            Some(queue) => look(queue),
            None => panic!("there is no queue {name}"),
        })
    }
}

fn seen(message: &Message, now_ms: i64) -> Seen {
    Seen {
        id: message.id.clone(),
        body: message.body.clone(),
        group: message.group.clone(),
        dedupe_id: message.dedupe_id.clone(),
        receives: message.receives,
        is_in_flight: message.is_in_flight(now_ms),
        is_visible: message.is_visible(now_ms),
    }
}

async fn over_http(Shared(wire): Shared<Wire<Engine>>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let target = headers.get("x-amz-target").and_then(|it| it.to_str().ok()).unwrap_or_default();
    let action = target.strip_prefix("AmazonSQS.").unwrap_or_default().to_owned();
    let call = Call { who: "http".to_owned(), action, body: body.to_vec(), head: Head::default(), failing_entries: Vec::new() };
    let Ok(answer) = wire.call(call).await else { return cut() };
    let mut response = Response::builder().status(answer.status).header("content-type", "application/x-amz-json-1.0");
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(answer.body.into()).unwrap_or_else(|_| status(StatusCode::INTERNAL_SERVER_ERROR))
}

/// A body that breaks off makes the server close the connection.
fn cut() -> Response<Body> {
    Response::new(Body::from_stream(futures::stream::iter([Err::<Bytes, _>(crate::wire::Cut)])))
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

struct Engine {
    clock: Clock,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    queues: BTreeMap<String, Queue>,
    move_tasks: Vec<Value>,
    /// Numbers all messages of all queues by arrival.
    sequence: u64,
    /// Queue, group and deduplication id of everything that was ever sent.
    labels: Vec<[String; 3]>,
}

impl Service for Engine {
    fn execute(&self, call: Call) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            let outcome = match serde_json::from_slice(&call.body) {
                Ok(request) if call.action == "ReceiveMessage" => self.receive(&request).await,
                Ok(request) => self.answer(&call.action, &request, &call.failing_entries),
                Err(error) => Err(SqsError::new("SerializationException", error.to_string())),
            };
            match outcome {
                Ok(body) => Answer { status: 200, headers: Vec::new(), body: body.to_string().into_bytes() },
                Err(error) => refusal(&error),
            }
        })
    }

    /// A batch needs the permission of the single action:
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-api-permissions-reference.html>.
    fn needs(&self, call: &Call) -> Vec<(String, String)> {
        let request: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        let url = text(&request, "QueueUrl").unwrap_or_default();
        let action = call.action.trim_end_matches("Batch");
        vec![(format!("sqs:{action}"), template::queue_arn(url.rsplit('/').next().unwrap_or_default()))]
    }

    fn fault(&self, _: &Call, fault: &Fault) -> Answer {
        refusal(&match fault {
            Fault::Throttled => SqsError::new("RequestThrottled", "Request is throttled."),
            Fault::AccessDenied => SqsError { code: "AccessDenied", status: 403, message: "Access to the resource is denied.".to_owned() },
            Fault::InternalError
            | Fault::TransactionConflict
            | Fault::CutBefore
            | Fault::CutAfter
            | Fault::Delayed(_)
            | Fault::Stale
            | Fault::FailedEntries(_)
            | Fault::Unconditional => internal_error(),
        })
    }
}

fn internal_error() -> SqsError {
    SqsError { code: "InternalFailure", status: 500, message: "The request processing has failed because of an unknown error.".to_owned() }
}

/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-json-faqs.html>
fn refusal(error: &SqsError) -> Answer {
    let fault = if error.is_senders_fault() { "Sender" } else { "Receiver" };
    let body = json!({ "__type": format!("com.amazonaws.sqs#{}", error.shape()), "message": error.message });
    let headers = vec![("x-amzn-query-error".to_owned(), format!("{};{fault}", error.code))];
    Answer { status: error.status, headers, body: body.to_string().into_bytes() }
}

impl Engine {
    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = self.clock.now_ms();
        state.queues.values_mut().for_each(|queue| queue.look_at(now_ms));
        look(&mut state)
    }

    /// Every action but `ReceiveMessage`, which may wait.
    fn answer(&self, action: &str, request: &Value, failing_entries: &[usize]) -> Result<Value, SqsError> {
        let now_ms = self.clock.now_ms();
        let outcome = self.with(|state| match action {
            "CreateQueue" => state.create(request, now_ms),
            "GetQueueUrl" => state.queue_named(&text(request, "QueueName").unwrap_or_default()).map(|it| url_answer(&it.name)),
            "GetQueueAttributes" => state.attributes(request, now_ms),
            "SetQueueAttributes" => state.set_attributes(request),
            "ListQueues" => Ok(state.list(request)),
            "SendMessage" => state.send(request, now_ms),
            "SendMessageBatch" => state.send_batch(request, failing_entries, now_ms),
            "DeleteMessage" => state.delete(request, now_ms).map(|()| json!({})),
            "DeleteMessageBatch" => {
                state.each_entry(request, failing_entries, |state, entry| state.delete(entry, now_ms).map(|()| json!({})))
            }
            "ChangeMessageVisibility" => state.change_visibility(request, now_ms).map(|()| json!({})),
            "ChangeMessageVisibilityBatch" => {
                state.each_entry(request, failing_entries, |state, entry| state.change_visibility(entry, now_ms).map(|()| json!({})))
            }
            "PurgeQueue" => state.purge(request, now_ms),
            "StartMessageMoveTask" => state.start_move_task(request, now_ms),
            "ListMessageMoveTasks" => state.list_move_tasks(request),
            _ => Err(SqsError::new("InvalidAction", format!("{action} is not among the actions of this engine."))),
        });
        self.changed.notify_waiters();
        outcome
    }

    /// Receives; if nothing is there, waits for as long as is asked, by the world's clock.
    async fn receive(&self, request: &Value) -> Result<Value, SqsError> {
        let most = number(request, "MaxNumberOfMessages", 1..=10)?.unwrap_or(1);
        let visibility_s = number(request, "VisibilityTimeout", 0..=43_200)?;
        let wait_s = number(request, "WaitTimeSeconds", 0..=20)?;
        let asked_ms = self.clock.now_ms();
        loop {
            // Registered before looking, so that what arrives in between is not missed.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let now_ms = self.clock.now_ms();
            let (handed, until_ms, next_ms) = self.with(|state| {
                let queue = state.queue(request)?;
                let (name, own_wait_s) = (queue.name.clone(), queue.number("ReceiveMessageWaitTimeSeconds"));
                let visibility_s = visibility_s.unwrap_or_else(|| queue.number("VisibilityTimeout"));
                let most = usize::try_from(most).unwrap_or(1);
                let handed = state.receive(&name, most, visibility_s, Order::Arrival, now_ms);
                let until_ms = asked_ms + wait_s.unwrap_or(own_wait_s) * 1_000;
                Ok::<_, SqsError>((handed, until_ms, state.queue(request)?.next_visible_ms(now_ms)))
            })?;
            if !handed.is_empty() || now_ms >= until_ms {
                let wanted = Wanted::read(request);
                let messages: Vec<Value> = handed.iter().map(|it| received(it, &wanted)).collect();
                return Ok(if messages.is_empty() { json!({}) } else { json!({ "Messages": messages }) });
            }
            tokio::select! {
                () = changed => {}
                () = self.clock.reached(next_ms.map_or(until_ms, |it| it.min(until_ms))) => {}
            }
        }
    }
}

/// Where a queue's dead letters go, and after how many receives.
struct Redrive {
    target: String,
    max_receives: u32,
}

fn redrive(queue: &Queue) -> Option<Redrive> {
    let policy: Value = serde_json::from_str(queue.attributes.get("RedrivePolicy")?).ok()?;
    let target = policy["deadLetterTargetArn"].as_str()?.rsplit(':').next()?.to_owned();
    // AWS takes the number as text too.
    let max_receives = policy["maxReceiveCount"].as_u64().or_else(|| policy["maxReceiveCount"].as_str()?.parse().ok())?;
    Some(Redrive { target, max_receives: u32::try_from(max_receives).ok()? })
}

impl State {
    fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn queue_named(&mut self, name: &str) -> Result<&mut Queue, SqsError> {
        let missing = || SqsError::new("AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist.");
        self.queues.get_mut(name).ok_or_else(missing)
    }

    fn queue(&mut self, request: &Value) -> Result<&mut Queue, SqsError> {
        let url = text(request, "QueueUrl").ok_or_else(|| SqsError::missing("QueueUrl"))?;
        self.queue_named(url.rsplit('/').next().unwrap_or_default())
    }

    fn queue_of_arn(&mut self, request: &Value, parameter: &str) -> Result<&mut Queue, SqsError> {
        let arn = text(request, parameter).ok_or_else(|| SqsError::missing(parameter))?;
        let missing = SqsError::new(
            "ResourceNotFoundException",
            format!("The resource that you specified for the {parameter} parameter doesn't exist."),
        );
        self.queue_named(arn.rsplit(':').next().unwrap_or_default()).map_err(|_| missing)
    }

    fn create(&mut self, request: &Value, now_ms: i64) -> Result<Value, SqsError> {
        let name = text(request, "QueueName").ok_or_else(|| SqsError::missing("QueueName"))?;
        let stem = name.strip_suffix(".fifo").unwrap_or(&name);
        let is_named_well = stem.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_'));
        if !is_named_well || stem.is_empty() || name.len() > 80 {
            return Err(SqsError::invalid("Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"));
        }
        let given = attributes_of(request);
        if name.ends_with(".fifo") != (given.get("FifoQueue").map(String::as_str) == Some("true")) {
            return Err(SqsError::invalid("The name of a FIFO queue ends in .fifo, and no other queue's does."));
        }
        self.check_attributes(&name, &given)?;
        if let Some(queue) = self.queues.get(&name) {
            let is_same = given.iter().all(|(attribute, value)| queue.attributes.get(attribute) == Some(value));
            let differs =
                SqsError::new("QueueAlreadyExists", "A queue already exists with the same name and a different value for an attribute.");
            return if is_same { Ok(url_answer(&name)) } else { Err(differs) };
        }
        let mut attributes = default_attributes(name.ends_with(".fifo"));
        attributes.extend(given);
        self.queues.insert(name.clone(), Queue::new(name.clone(), attributes, now_ms));
        Ok(url_answer(&name))
    }

    fn set_attributes(&mut self, request: &Value) -> Result<Value, SqsError> {
        let given = attributes_of(request);
        let name = self.queue(request)?.name.clone();
        self.check_attributes(&name, &given)?;
        self.queue_named(&name)?.attributes.extend(given);
        Ok(json!({}))
    }

    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html>
    fn check_attributes(&self, name: &str, given: &BTreeMap<String, String>) -> Result<(), SqsError> {
        let is_fifo = name.ends_with(".fifo");
        for (attribute, value) in given {
            let is_right = match attribute.as_str() {
                "VisibilityTimeout" => is_within(value, 0..=43_200),
                "MessageRetentionPeriod" => is_within(value, 60..=1_209_600),
                "DelaySeconds" => is_within(value, 0..=900),
                "MaximumMessageSize" => is_within(value, 1_024..=1_048_576),
                "ReceiveMessageWaitTimeSeconds" => is_within(value, 0..=20),
                "RedrivePolicy" => self.is_redrive_policy(value, is_fifo),
                "FifoQueue" => is_fifo && value == "true",
                "ContentBasedDeduplication" => is_fifo && matches!(value.as_str(), "true" | "false"),
                "DeduplicationScope" => is_fifo && matches!(value.as_str(), "queue" | "messageGroup"),
                "FifoThroughputLimit" => is_fifo && matches!(value.as_str(), "perQueue" | "perMessageGroupId"),
                "Policy" | "RedriveAllowPolicy" | "KmsMasterKeyId" | "KmsDataKeyReusePeriodSeconds" | "SqsManagedSseEnabled" => true,
                _ => return Err(SqsError::new("InvalidAttributeName", format!("Unknown Attribute {attribute}."))),
            };
            if !is_right {
                return Err(SqsError::new("InvalidAttributeValue", format!("Invalid value for the parameter {attribute}.")));
            }
        }
        Ok(())
    }

    /// Dead letters go to a queue that exists and is of the same kind.
    fn is_redrive_policy(&self, policy: &str, is_fifo: bool) -> bool {
        let attributes = BTreeMap::from([("RedrivePolicy".to_owned(), policy.to_owned())]);
        redrive(&Queue::new(String::new(), attributes, 0))
            .and_then(|it| Some((self.queues.get(&it.target)?.is_fifo(), it.max_receives)))
            .is_some_and(|(kind, max_receives)| kind == is_fifo && (1..=1_000).contains(&max_receives))
    }

    fn attributes(&mut self, request: &Value, now_ms: i64) -> Result<Value, SqsError> {
        let names = names(request, "AttributeNames");
        let queue = self.queue(request)?;
        let count = |is_counted: &dyn Fn(&Message) -> bool| queue.messages().filter(|(_, it)| is_counted(it)).count().to_string();
        let mut attributes = queue.attributes.clone();
        attributes.extend([
            ("QueueArn".to_owned(), template::queue_arn(&queue.name)),
            ("CreatedTimestamp".to_owned(), (queue.created_ms / 1_000).to_string()),
            ("ApproximateNumberOfMessages".to_owned(), count(&|it| it.is_visible(now_ms))),
            ("ApproximateNumberOfMessagesNotVisible".to_owned(), count(&|it| it.is_in_flight(now_ms))),
            ("ApproximateNumberOfMessagesDelayed".to_owned(), count(&|it| !it.is_visible(now_ms) && !it.is_in_flight(now_ms))),
        ]);
        if !names.contains(&"All") {
            attributes.retain(|name, _| names.contains(&name.as_str()));
        }
        Ok(json!({ "Attributes": attributes }))
    }

    fn list(&self, request: &Value) -> Value {
        let prefix = text(request, "QueueNamePrefix").unwrap_or_default();
        let urls: Vec<String> = self.queues.keys().filter(|it| it.starts_with(&prefix)).map(|it| template::queue_url(it)).collect();
        if urls.is_empty() { json!({}) } else { json!({ "QueueUrls": urls }) }
    }

    fn send(&mut self, request: &Value, now_ms: i64) -> Result<Value, SqsError> {
        let draft = Draft::parse(request)?;
        let sequence = self.next();
        let queue = self.queue(request)?;
        let draft = queue.check(draft)?;
        let label = [queue.name.clone(), draft.group.clone().unwrap_or_default(), draft.dedupe_id.clone().unwrap_or_default()];
        let (body_digest, attributes) = (md5_of_body(&draft.body), draft.attributes.clone());
        let sent = queue.send(draft, sequence, now_ms);
        let answer = sent_answer(&sent, body_digest, &attributes, queue.is_fifo());
        self.labels.push(label);
        Ok(answer)
    }

    fn send_batch(&mut self, request: &Value, failing_entries: &[usize], now_ms: i64) -> Result<Value, SqsError> {
        let size: usize = entries(request)?.iter().filter_map(|it| Draft::parse(it).ok()).map(|it| it.size()).sum();
        if size > LARGEST_MESSAGE {
            return Err(SqsError::new(
                "AWS.SimpleQueueService.BatchRequestTooLong",
                format!("Batch requests cannot be longer than {LARGEST_MESSAGE} bytes. You have sent {size} bytes."),
            ));
        }
        self.each_entry(request, failing_entries, |state, entry| state.send(entry, now_ms))
    }

    /// Runs a batch entry by entry; each succeeds or fails by itself, and the answer is 200 either way.
    fn each_entry(
        &mut self,
        request: &Value,
        failing_entries: &[usize],
        run: impl Fn(&mut Self, &Value) -> Result<Value, SqsError>,
    ) -> Result<Value, SqsError> {
        self.queue(request)?;
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for (position, mut entry) in entries(request)?.into_iter().enumerate() {
            let id = entry["Id"].take();
            entry["QueueUrl"] = request["QueueUrl"].clone();
            let outcome = if failing_entries.contains(&position) { Err(internal_error()) } else { run(self, &entry) };
            match outcome {
                Ok(mut answer) => {
                    answer["Id"] = id;
                    successful.push(answer);
                }
                Err(error) => failed.push(json!({
                    "Id": id, "Code": error.code, "Message": error.message, "SenderFault": error.is_senders_fault(),
                })),
            }
        }
        Ok(json!({ "Successful": successful, "Failed": failed }))
    }

    fn receive(&mut self, name: &str, most: usize, visibility_s: i64, order: Order, now_ms: i64) -> Vec<Handed> {
        let mut sequence = self.sequence;
        let Some(queue) = self.queues.get_mut(name) else { return Vec::new() };
        let redrive = redrive(queue);
        let max_receives = redrive.as_ref().map(|it| it.max_receives);
        let (handed, dead) = queue.receive(most, visibility_s * 1_000, max_receives, order, now_ms);
        let mut next = || {
            sequence += 1;
            sequence
        };
        queue.leave_duplicates(&handed, &mut next, now_ms);
        let target = redrive.and_then(|it| self.queues.get_mut(&it.target));
        if let Some(target) = target {
            for mut message in dead {
                message.dead_letter_source = Some(template::queue_arn(name));
                target.take_in(message, next(), now_ms);
            }
        }
        self.sequence = sequence;
        handed
    }

    fn delete(&mut self, request: &Value, now_ms: i64) -> Result<(), SqsError> {
        let receipt = text(request, "ReceiptHandle").ok_or_else(|| SqsError::missing("ReceiptHandle"))?;
        self.queue(request)?.delete(&receipt, now_ms)
    }

    fn change_visibility(&mut self, request: &Value, now_ms: i64) -> Result<(), SqsError> {
        let receipt = text(request, "ReceiptHandle").ok_or_else(|| SqsError::missing("ReceiptHandle"))?;
        let seconds = number(request, "VisibilityTimeout", 0..=43_200)?.ok_or_else(|| SqsError::missing("VisibilityTimeout"))?;
        self.queue(request)?.change_visibility(&receipt, seconds, now_ms)
    }

    fn purge(&mut self, request: &Value, now_ms: i64) -> Result<Value, SqsError> {
        let queue = self.queue(request)?;
        if queue.purged_ms.is_some_and(|it| it + 60_000 > now_ms) {
            return Err(SqsError {
                status: 403,
                ..SqsError::new("AWS.SimpleQueueService.PurgeQueueInProgress", "Only one PurgeQueue operation is allowed every 60 seconds.")
            });
        }
        queue.purged_ms = Some(now_ms);
        queue.clear();
        Ok(json!({}))
    }

    /// Moves all at once, whatever rate is asked for.
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html>
    fn start_move_task(&mut self, request: &Value, now_ms: i64) -> Result<Value, SqsError> {
        let source = self.queue_of_arn(request, "SourceArn")?.name.clone();
        if !self.queues.values().filter_map(redrive).any(|it| it.target == source) {
            return Err(SqsError::invalid("Source queue must be configured as a Dead Letter Queue."));
        }
        let destination = match text(request, "DestinationArn") {
            Some(_) => Some(self.queue_of_arn(request, "DestinationArn")?.name.clone()),
            None => None,
        };
        let moved = self.queue_named(&source)?.give_up(now_ms);
        let count = moved.len();
        for mut message in moved {
            let origin = message.dead_letter_source.take().and_then(|arn| arn.rsplit(':').next().map(str::to_owned));
            let target = destination.clone().or(origin).filter(|it| self.queues.contains_key(it));
            let sequence = self.next();
            // What did not come by redrive has no origin to go back to, and stays.
            self.queue_named(&target.unwrap_or_else(|| source.clone()))?.take_in(message, sequence, now_ms);
        }
        let handle = format!("move-{}", self.move_tasks.len() + 1);
        self.move_tasks.push(json!({
            "TaskHandle": handle, "Status": "COMPLETED", "SourceArn": template::queue_arn(&source),
            "DestinationArn": destination.as_deref().map(template::queue_arn), "StartedTimestamp": now_ms,
            "ApproximateNumberOfMessagesMoved": count, "ApproximateNumberOfMessagesToMove": count,
        }));
        Ok(json!({ "TaskHandle": handle }))
    }

    fn list_move_tasks(&mut self, request: &Value) -> Result<Value, SqsError> {
        let arn = template::queue_arn(&self.queue_of_arn(request, "SourceArn")?.name);
        let most = usize::try_from(number(request, "MaxResults", 1..=10)?.unwrap_or(1)).unwrap_or(1);
        let own = self.move_tasks.iter().rev().filter(|it| it["SourceArn"] == arn.as_str());
        Ok(json!({ "Results": own.take(most).collect::<Vec<_>>() }))
    }
}

fn url_answer(name: &str) -> Value {
    json!({ "QueueUrl": template::queue_url(name) })
}

fn is_within(value: &str, limits: std::ops::RangeInclusive<u32>) -> bool {
    value.parse().is_ok_and(|it| limits.contains(&it))
}

fn attributes_of(request: &Value) -> BTreeMap<String, String> {
    let given = request["Attributes"].as_object().into_iter().flatten();
    given.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html>
fn default_attributes(is_fifo: bool) -> BTreeMap<String, String> {
    let common = [
        ("VisibilityTimeout", "30"),
        ("MessageRetentionPeriod", "345600"),
        ("DelaySeconds", "0"),
        ("MaximumMessageSize", "1048576"),
        ("ReceiveMessageWaitTimeSeconds", "0"),
        ("SqsManagedSseEnabled", "true"),
    ];
    let fifo = [("ContentBasedDeduplication", "false"), ("DeduplicationScope", "queue"), ("FifoThroughputLimit", "perQueue")];
    let fifo = fifo.into_iter().filter(|_| is_fifo);
    common.into_iter().chain(fifo).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The entries of a batch, if the batch as a whole is acceptable.
fn entries(request: &Value) -> Result<Vec<Value>, SqsError> {
    let refused = |code, message: &str| Err(SqsError::new(code, message));
    let entries = request["Entries"].as_array().cloned().unwrap_or_default();
    let ids: Vec<&str> = entries.iter().map(|it| it["Id"].as_str().unwrap_or_default()).collect();
    let is_id = |id: &&str| (1..=80).contains(&id.len()) && id.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_'));
    match entries.len() {
        0 => return refused("AWS.SimpleQueueService.EmptyBatchRequest", "There should be at least one entry in the request."),
        1..=10 => {}
        _ => return refused("AWS.SimpleQueueService.TooManyEntriesInBatchRequest", "Maximum number of entries per request are 10."),
    }
    if !ids.iter().all(is_id) {
        return refused(
            "AWS.SimpleQueueService.InvalidBatchEntryId",
            "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long.",
        );
    }
    if ids.iter().collect::<BTreeSet<_>>().len() < ids.len() {
        return refused("AWS.SimpleQueueService.BatchEntryIdsNotDistinct", "Two or more batch entries in the request have the same Id.");
    }
    Ok(entries)
}

fn sent_answer(sent: &Sent, body_digest: String, attributes: &Attributes, is_fifo: bool) -> Value {
    let mut answer = json!({ "MessageId": sent.id, "MD5OfMessageBody": body_digest });
    if !attributes.is_empty() {
        answer["MD5OfMessageAttributes"] = md5_of_attributes(attributes).into();
    }
    if is_fifo {
        answer["SequenceNumber"] = sequence_number(sent.sequence).into();
    }
    answer
}

/// Twenty digits, as SQS's are.
fn sequence_number(sequence: u64) -> String {
    format!("{sequence:020}")
}

/// Which attributes a receiver asks for.
struct Wanted<'a> {
    system: Vec<&'a str>,
    own: Vec<&'a str>,
}

impl<'a> Wanted<'a> {
    fn read(request: &'a Value) -> Self {
        let mut system = names(request, "AttributeNames");
        system.extend(names(request, "MessageSystemAttributeNames"));
        Self { system, own: names(request, "MessageAttributeNames") }
    }
}

fn names<'a>(request: &'a Value, parameter: &str) -> Vec<&'a str> {
    request[parameter].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// A message in the form of `ReceiveMessage`'s answer.
fn received(handed: &Handed, asked: &Wanted<'_>) -> Value {
    let Handed { message, receipt, sequence } = handed;
    let mut answer = json!({
        "MessageId": message.id, "ReceiptHandle": receipt, "Body": message.body, "MD5OfBody": md5_of_body(&message.body),
    });
    let system = system_attributes(message, *sequence);
    let is_asked = |name: &str| asked.system.iter().any(|it| *it == "All" || *it == name);
    let system: Map<_, _> =
        system.into_iter().filter(|(name, _)| is_asked(name)).map(|(name, value)| (name.to_owned(), value.into())).collect();
    if !system.is_empty() {
        answer["Attributes"] = system.into();
    }
    let own = wanted(&message.attributes, &asked.own);
    if !own.is_empty() {
        answer["MD5OfMessageAttributes"] = md5_of_attributes(&own).into();
        answer["MessageAttributes"] = as_json(&own).into();
    }
    answer
}

/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html>
fn system_attributes(message: &Message, sequence: u64) -> Vec<(&'static str, String)> {
    let first_received_ms = message.first_received_ms.unwrap_or(message.sent_ms);
    let mut attributes = vec![
        ("SenderId", ACCOUNT.to_owned()),
        ("SentTimestamp", message.sent_ms.to_string()),
        ("ApproximateReceiveCount", message.receives.to_string()),
        ("ApproximateFirstReceiveTimestamp", first_received_ms.to_string()),
    ];
    let optional = [
        ("MessageGroupId", &message.group),
        ("MessageDeduplicationId", &message.dedupe_id),
        ("AWSTraceHeader", &message.trace_header),
        ("DeadLetterQueueSourceArn", &message.dead_letter_source),
    ];
    attributes.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
    if message.dedupe_id.is_some() {
        attributes.push(("SequenceNumber", sequence_number(sequence)));
    }
    attributes
}
