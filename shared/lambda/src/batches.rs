//! A batch of SQS records, worked through so that one bad record harms only itself.
//!
//! Must not know what a job means. What is decided (which records come back, and when) is decided by functions without I/O.

use std::collections::HashMap;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use channel::queues::{Queue, Queues};
use channel::redelivery::{Delivery, Prepared, Progress, Retryable};
use futures::future::join_all;
use futures::{FutureExt, StreamExt};
use serde::de::DeserializeOwned;
use tracing::{Instrument, Span};

use crate::logging;
use crate::metrics::{self, Dimension};

/// How many records of a standard queue are worked on at once.
const AT_ONCE: usize = 16;

/// Before the deadline, in milliseconds, in which no record is begun: a few calls still end in it, and the answer goes out.
const MARGIN_MS: i64 = 3_000;

/// Before the deadline, in milliseconds, in which no plan is begun: its last steps wait for their times, and each may make two requests of
/// ten seconds, with the store around them.
const PLAN_MARGIN_MS: i64 = 30_000;

/// The longest back-off between two tries of a record, in seconds.
const BACK_OFF_SECONDS: u64 = 60;

/// When Lambda ends the invocation, and the clock by which that comes nearer.
#[derive(Clone, Copy)]
pub struct Deadline<'a> {
    at_ms: i64,
    clock: &'a dyn Fn() -> i64,
}

impl<'a> Deadline<'a> {
    /// At this time, in milliseconds since the Unix epoch as the clock tells it. One that has passed already is none: cargo-lambda's
    /// emulator gives an instant of 1970.
    pub fn new(at_ms: i64, clock: &'a dyn Fn() -> i64) -> Option<Self> {
        (at_ms > clock()).then_some(Self { at_ms, clock })
    }

    fn is_within(&self, margin_ms: i64) -> bool {
        self.at_ms - (self.clock)() <= margin_ms
    }
}

/// Runs `job` on each record of `queue`'s batch, and names to SQS the records to deliver again.
///
/// - Records of a FIFO queue run in order. Once one of a group is to come back, so is the rest of the group, unrun, to keep its
///   order. Records of a standard queue run 16 at a time; the group that a fair queue has holds nothing.
/// - A [`Progress::Wait`] comes back after its time; a retryable failure or a panic after 2ⁿ s, n being the receive count, at
///   most 60 s. What is held comes back with the record that holds it, since a group stays shut while any of it is invisible:
///   <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html>.
/// - Three seconds before the `deadline` no more records are begun. They come back at once, and what is settled by then stays settled:
///   an invocation that is ended returns all of its records, the done ones too.
/// - A failure that no delivery mends, and a body that does not decode, go to the queue's dead letters. The record is
///   acknowledged when they are there, and comes back when they could not be sent.
///
/// The answer is a partial batch response, so the event source mapping must have `ReportBatchItemFailures`:
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html#services-sqs-batchfailurereporting>.
pub async fn each<J, E>(
    queues: &Queues,
    queue: Queue,
    event: SqsEvent,
    deadline: Option<Deadline<'_>>,
    job: impl AsyncFn(J, &Delivery) -> Result<Progress, E>,
) -> SqsBatchResponse
where
    J: DeserializeOwned,
    E: Retryable,
{
    let is_fifo = event.records.iter().any(is_from_fifo);
    let Some(records) = read(event) else {
        return refuse_all(queue);
    };
    let work = async |record: &Record| {
        let work = async {
            let verdict = match begin(queue, record, deadline) {
                Ok(decoded) => last_step(queue, record, async { job(decoded, &record.delivery).await }).await,
                Err(verdict) => verdict,
            };
            conclude(queues, queue, record, verdict).await
        };
        work.instrument(span(queue, record)).await
    };
    let outcomes = if is_fifo { in_order(queue, &records, work).await } else { at_once(&records, work).await };
    answer(queues, queue, &records, &outcomes).await
}

/// Runs a batch of a standard queue in two steps: `prepare` on each record alone, `plan` once over what is ready, then `finish` on each
/// alone, with its own part of the plan.
///
/// - Records are prepared 16 at a time and finished all at once: they may sleep until their times.
/// - `plan` answers one part for each that is ready, in order. It is asked when none is ready too, since it may slow the polling down by
///   a nap. If it panics or answers more or fewer, all that were ready come back.
/// - Three seconds before the `deadline` no record is prepared, and thirty before it no plan is begun: what was ready comes back at once.
///
/// In all else it is as with [`each`]: a step that waits, fails or panics harms only its own record.
pub async fn planned<J, P, Q, E>(
    queues: &Queues,
    queue: Queue,
    event: SqsEvent,
    deadline: Option<Deadline<'_>>,
    prepare: impl AsyncFn(J, &Delivery) -> Result<Prepared<P>, E>,
    plan: impl AsyncFnOnce(Vec<P>) -> Vec<Q>,
    finish: impl AsyncFn(Q) -> Result<Progress, E>,
) -> SqsBatchResponse
where
    J: DeserializeOwned,
    E: Retryable,
{
    let Some(records) = read(event) else {
        return refuse_all(queue);
    };
    let prepared = at_once(&records, async |record: &Record| {
        let work = async {
            let prepared = match begin(queue, record, deadline) {
                Ok(decoded) => step(queue, record, async { prepare(decoded, &record.delivery).await }).await,
                Err(verdict) => Err(verdict),
            };
            match prepared {
                Ok(Prepared::Ready(ready)) => Ok(ready),
                Ok(Prepared::Ended(progress)) => Err(conclude(queues, queue, record, from_progress(progress)).await),
                Err(verdict) => Err(conclude(queues, queue, record, verdict).await),
            }
        };
        work.instrument(span(queue, record)).await
    })
    .await;
    let (mut ready, mut ended) = (Vec::new(), Vec::with_capacity(records.len()));
    for prepared in prepared {
        ended.push(prepared.map(|it| ready.push(it)).err());
    }
    let is_late = is_within(deadline, PLAN_MARGIN_MS);
    let mut parts = if is_late { Vec::new() } else { parts(queue, ready, plan).await }.into_iter();
    let finishing = records.iter().zip(ended).map(|(record, ended)| {
        let part = if ended.is_none() { parts.next() } else { None };
        let finish = &finish;
        let work = async move {
            let verdict = match (ended, part) {
                (Some(outcome), _) => return outcome,
                (None, _) if is_late => Verdict::Unbegun,
                (None, Some(part)) => last_step(queue, record, async { finish(part).await }).await,
                (None, None) => Verdict::Retry(back_off(record)),
            };
            conclude(queues, queue, record, verdict).await
        };
        work.instrument(span(queue, record))
    });
    let outcomes = join_all(finishing).await;
    answer(queues, queue, &records, &outcomes).await
}

/// One record, with what the runner needs of it.
struct Record {
    body: String,
    receipt_handle: Option<String>,
    /// In a FIFO queue it keeps the record in order with others; in a fair one it holds nothing.
    group: Option<String>,
    is_fifo: bool,
    delivery: Delivery,
}

impl Record {
    /// None if it has no message id.
    fn read(message: SqsMessage) -> Option<Self> {
        let is_fifo = is_from_fifo(&message);
        let number = |name| message.attributes.get(name).and_then(|it| it.parse::<i64>().ok());
        let delivery = Delivery {
            receive_count: number("ApproximateReceiveCount").and_then(|it| u32::try_from(it).ok()).unwrap_or(1),
            sent_at_ms: number("SentTimestamp"),
            message_id: message.message_id.filter(|it| !it.is_empty())?,
        };
        Some(Self {
            body: message.body.unwrap_or_default(),
            receipt_handle: message.receipt_handle,
            group: message.attributes.get("MessageGroupId").cloned(),
            is_fifo,
            delivery,
        })
    }
}

/// Fair standard queues deliver a group too, so only the name of the queue tells:
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues.html>.
fn is_from_fifo(message: &SqsMessage) -> bool {
    message.event_source_arn.as_deref().is_some_and(|it| it.ends_with(".fifo"))
}

/// None if one of them has no message id.
fn read(event: SqsEvent) -> Option<Vec<Record>> {
    event.records.into_iter().map(Record::read).collect()
}

/// The span in whose lines the record is named.
fn span(queue: Queue, record: &Record) -> Span {
    tracing::info_span!("record", queue = queue.name(), sqs.message_id = record.delivery.message_id)
}

fn is_within(deadline: Option<Deadline<'_>>, margin_ms: i64) -> bool {
    deadline.is_some_and(|it| it.is_within(margin_ms))
}

/// What became of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It may be deleted.
    Settled,
    /// It comes back after this long.
    Returns(Duration),
}

/// A record that is to come back.
#[derive(Debug, PartialEq, Eq)]
struct Return {
    message_id: String,
    receipt_handle: Option<String>,
    after: Duration,
}

/// A record without a message id can be neither named nor, since an answer acknowledges whatever it does not name,
/// acknowledged alone. An empty name has Lambda take the whole batch as failed, so nothing is run.
fn refuse_all(queue: Queue) -> SqsBatchResponse {
    tracing::error!(queue = queue.name(), "a record of queue `{queue}` has no message id; the whole batch is refused unrun");
    count(queue, "unnamed");
    let mut response = SqsBatchResponse::default();
    response.add_failure("");
    response
}

async fn in_order(queue: Queue, records: &[Record], work: impl AsyncFn(&Record) -> Outcome) -> Vec<Outcome> {
    let mut held: HashMap<&str, Duration> = HashMap::new();
    let mut outcomes = Vec::with_capacity(records.len());
    for record in records {
        // Always told; if it ever were not, such records would keep their order among themselves.
        let group = record.group.as_deref().unwrap_or_default();
        if let Some(&after) = held.get(group) {
            count(queue, "held");
            outcomes.push(Outcome::Returns(after));
            continue;
        }
        let outcome = work(record).await;
        if let Outcome::Returns(after) = outcome {
            held.insert(group, after);
        }
        outcomes.push(outcome);
    }
    outcomes
}

async fn at_once<T>(records: &[Record], work: impl AsyncFn(&Record) -> T) -> Vec<T> {
    futures::stream::iter(records).map(|record| work(record)).buffered(AT_ONCE).collect().await
}

/// Makes wait what comes back, and names it.
async fn answer(queues: &Queues, queue: Queue, records: &[Record], outcomes: &[Outcome]) -> SqsBatchResponse {
    let returns = returns(records, outcomes);
    delay(queues, queue, &returns).await;
    let mut response = SqsBatchResponse::default();
    for record in returns {
        response.add_failure(record.message_id);
    }
    response
}

fn returns(records: &[Record], outcomes: &[Outcome]) -> Vec<Return> {
    let mut returns = Vec::new();
    for (record, outcome) in records.iter().zip(outcomes) {
        if let Outcome::Returns(after) = *outcome {
            returns.push(Return { message_id: record.delivery.message_id.clone(), receipt_handle: record.receipt_handle.clone(), after });
        }
    }
    returns
}

/// Sets when each comes back. If that fails they come back when the queue's own visibility timeout is over.
async fn delay(queues: &Queues, queue: Queue, returns: &[Return]) {
    let changes: Vec<(String, Duration)> = returns.iter().filter_map(|it| Some((it.receipt_handle.clone()?, it.after))).collect();
    if changes.is_empty() {
        return;
    }
    if let Err(error) = queues.change_visibility(queue, &changes).await {
        tracing::warn!(
            queue = queue.name(),
            error.code = error.code(),
            error.chain = logging::chain(&error),
            "records of queue `{queue}` come back later than they should"
        );
    }
}

/// What is to be done with a record.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Done,
    Wait(Duration),
    /// Failed or panicked, and may be mended by another delivery.
    Retry(Duration),
    /// To the dead letters, for this reason.
    Bury(&'static str),
    /// The deadline is too near for it.
    Unbegun,
}

/// Decodes the body, unless the deadline is near.
fn begin<J: DeserializeOwned>(queue: Queue, record: &Record, deadline: Option<Deadline<'_>>) -> Result<J, Verdict> {
    if is_within(deadline, MARGIN_MS) {
        return Err(Verdict::Unbegun);
    }
    serde_json::from_str(&record.body).map_err(|error| {
        // Not the error's own words: they quote the body.
        let place = logging::place(&error);
        tracing::error!(error.place = place, "a body of queue `{queue}` does not decode; it goes to the dead letters");
        Verdict::Bury("undecodable")
    })
}

/// Runs a step of the job, and logs what it met: this is where its failures are handled.
async fn step<T, E: Retryable>(queue: Queue, record: &Record, step: impl Future<Output = Result<T, E>>) -> Result<T, Verdict> {
    // A job owns what it changes or writes it under conditions, so a panic leaves nothing half-done in memory.
    match AssertUnwindSafe(step).catch_unwind().await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(error)) => {
            log_failure(queue, record, &error);
            Err(from_failure(&error, record))
        }
        Err(_panic) => {
            tracing::error!("a job of queue `{queue}` panicked; it is tried again");
            count_panic(queue);
            Err(Verdict::Retry(back_off(record)))
        }
    }
}

async fn last_step<E: Retryable>(queue: Queue, record: &Record, last: impl Future<Output = Result<Progress, E>>) -> Verdict {
    match step(queue, record, last).await {
        Ok(progress) => from_progress(progress),
        Err(verdict) => verdict,
    }
}

/// One part of the plan for each that is ready, or no part at all.
async fn parts<P, Q>(queue: Queue, ready: Vec<P>, plan: impl AsyncFnOnce(Vec<P>) -> Vec<Q>) -> Vec<Q> {
    let expected = ready.len();
    match AssertUnwindSafe(async { plan(ready).await }).catch_unwind().await {
        Ok(parts) if parts.len() == expected => parts,
        Ok(parts) => {
            tracing::error!("a plan for {expected} records of queue `{queue}` has {} parts; they are tried again", parts.len());
            Vec::new()
        }
        Err(_panic) => {
            tracing::error!("the plan for {expected} records of queue `{queue}` panicked; they are tried again");
            count_panic(queue);
            Vec::new()
        }
    }
}

async fn conclude(queues: &Queues, queue: Queue, record: &Record, verdict: Verdict) -> Outcome {
    match verdict {
        Verdict::Done => {
            count(queue, "done");
            Outcome::Settled
        }
        Verdict::Wait(after) => {
            count(queue, "waiting");
            Outcome::Returns(after)
        }
        Verdict::Retry(after) => {
            count(queue, "retried");
            Outcome::Returns(after)
        }
        Verdict::Bury(reason) => bury(queues, queue, record, reason).await,
        Verdict::Unbegun => {
            count(queue, "unbegun");
            Outcome::Returns(Duration::ZERO)
        }
    }
}

fn from_progress(progress: Progress) -> Verdict {
    match progress {
        Progress::Done => Verdict::Done,
        Progress::Wait(after) => Verdict::Wait(after),
    }
}

fn from_failure(error: &impl Retryable, record: &Record) -> Verdict {
    if error.is_retryable() { Verdict::Retry(back_off(record)) } else { Verdict::Bury(error.code()) }
}

fn log_failure(queue: Queue, record: &Record, error: &impl Retryable) {
    let code = error.code();
    let chain = logging::chain(error);
    let receive_count = record.delivery.receive_count;
    if error.is_retryable() {
        tracing::warn!(
            error.code = code,
            error.chain = chain,
            sqs.receive_count = receive_count,
            "a job of queue `{queue}` failed; it is tried again"
        );
    } else {
        tracing::error!(
            error.code = code,
            error.chain = chain,
            sqs.receive_count = receive_count,
            "a job of queue `{queue}` failed for good; it goes to the dead letters"
        );
    }
}

async fn bury(queues: &Queues, queue: Queue, record: &Record, reason: &'static str) -> Outcome {
    match queues.bury(queue, &record.body, record.group.as_deref(), reason).await {
        Ok(()) => {
            count(queue, if reason == "undecodable" { "undecodable" } else { "buried" });
            Outcome::Settled
        }
        Err(error) => {
            tracing::error!(
                error.code = error.code(),
                error.chain = logging::chain(&error),
                "the dead letters of queue `{queue}` could not be sent; the record comes back"
            );
            count(queue, "unburied");
            Outcome::Returns(back_off(record))
        }
    }
}

/// 2ⁿ s for the n-th delivery, at most 60 s. Records of a standard queue are spread over the second half of it, each by its own
/// id, so that what failed together does not come back together; a FIFO group comes back alone anyway.
fn back_off(record: &Record) -> Duration {
    let seconds = 2_u64.saturating_pow(record.delivery.receive_count).min(BACK_OFF_SECONDS);
    if record.is_fifo {
        return Duration::from_secs(seconds);
    }
    let mut hasher = DefaultHasher::new();
    (&record.delivery.message_id, record.delivery.receive_count).hash(&mut hasher);
    Duration::from_secs(seconds - hasher.finish() % (seconds / 2 + 1))
}

fn count_panic(queue: Queue) {
    metrics::count("panics", 1, &[(Dimension::Kind, queue.name())]);
}

fn count(queue: Queue, outcome: &str) {
    metrics::count("records", 1, &[(Dimension::Kind, queue.name()), (Dimension::Outcome, outcome)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    use futures::executor::block_on;

    const FIFO: &str = "arn:aws:sqs:eu-central-1:000000000000:inbound.fifo";
    const FAIR: &str = "arn:aws:sqs:eu-central-1:000000000000:statuses";

    fn message(id: &str, group: &str, arn: &str) -> SqsMessage {
        let mut message = SqsMessage::default();
        message.message_id = Some(id.into());
        message.receipt_handle = Some(format!("receipt of {id}"));
        message.body = Some("{}".into());
        message.event_source_arn = Some(arn.into());
        message.attributes = HashMap::from([
            ("MessageGroupId".to_owned(), group.to_owned()),
            ("ApproximateReceiveCount".to_owned(), "3".to_owned()),
            ("SentTimestamp".to_owned(), "1795000000000".to_owned()),
        ]);
        message
    }

    fn record(id: &str, group: &str, arn: &str) -> Record {
        Record::read(message(id, group, arn)).expect("has an id")
    }

    fn delivered(receive_count: u32, id: &str, arn: &str) -> Record {
        let mut record = record(id, "g", arn);
        record.delivery.receive_count = receive_count;
        record
    }

    #[derive(Debug, thiserror::Error)]
    #[error("failed")]
    struct Failure {
        is_retryable: bool,
    }

    impl Retryable for Failure {
        fn is_retryable(&self) -> bool {
            self.is_retryable
        }
        fn code(&self) -> &'static str {
            "failure"
        }
    }

    /// Queues at an address where nobody listens: no test here reaches it.
    fn queues() -> Queues {
        let aws = channel::aws::Aws::new(channel::aws::Environment {
            region: "eu-central-1".into(),
            access_key_id: "test".into(),
            secret_access_key: "test".into(),
            session_token: None,
            endpoint_url_dynamodb: Some("http://127.0.0.1:9".into()),
            endpoint_url_sqs: Some("http://127.0.0.1:9".into()),
            endpoint_url_kms: None,
            endpoint_url_s3: None,
        });
        Queues::new(aws.sqs(), channel::queues::QueueUrls::new())
    }

    /// Runs records `id group` in order; `bad` come back after their seconds. Tells what ran, and what returns after how long.
    fn ordered(ids: &[&str], bad: &[(&str, u64)]) -> (String, String) {
        let records: Vec<Record> = ids.iter().map(|id| record(id, &id[..1], FIFO)).collect();
        let ran = RefCell::new(Vec::new());
        let outcomes = block_on(in_order(Queue::Inbound, &records, async |it: &Record| {
            let id = it.delivery.message_id.clone();
            let outcome = bad.iter().find(|(bad, _)| *bad == id);
            ran.borrow_mut().push(id);
            outcome.map_or(Outcome::Settled, |(_, seconds)| Outcome::Returns(Duration::from_secs(*seconds)))
        }));
        let returns: Vec<String> =
            returns(&records, &outcomes).iter().map(|it| format!("{} {}s", it.message_id, it.after.as_secs())).collect();
        (ran.into_inner().join(" "), returns.join(", "))
    }

    #[test]
    fn a_group_is_held_from_its_first_return_on() {
        for (ids, bad, ran, returned) in [
            (&["a1", "b1", "a2", "b2"][..], &[][..], "a1 b1 a2 b2", ""),
            (&["a1", "b1", "a2", "b2", "a3"], &[("a1", 5)], "a1 b1 b2", "a1 5s, a2 5s, a3 5s"),
            (&["a1", "a2", "a3"], &[("a2", 15)], "a1 a2", "a2 15s, a3 15s"),
            (&["a1", "b1", "b2", "a2"], &[("a1", 2), ("b1", 60)], "a1 b1", "a1 2s, b1 60s, b2 60s, a2 2s"),
            (&["a1", "b1"], &[("b1", 0)], "a1 b1", "b1 0s"),
        ] {
            assert_eq!(ordered(ids, bad), (ran.to_owned(), returned.to_owned()), "{ids:?} {bad:?}");
        }
    }

    #[test]
    fn fifo_records_without_a_group_keep_their_order_too() {
        let bare = |id| {
            let mut message = message(id, "", FIFO);
            message.attributes.clear();
            Record::read(message).expect("has an id")
        };
        let records = [bare("1"), bare("2")];
        let ran = Cell::new(0);
        let outcomes = block_on(in_order(Queue::Inbound, &records, async |_: &Record| {
            ran.set(ran.get() + 1);
            Outcome::Returns(Duration::ZERO)
        }));
        assert_eq!((ran.get(), outcomes.len()), (1, 2));
        let delivery = &records[0].delivery;
        assert_eq!((delivery.receive_count, delivery.sent_at_ms), (1, None));
        assert_eq!(records[0].group, None);
    }

    #[test]
    fn a_fair_queue_holds_nothing() {
        let records: Vec<Record> = ["1", "2", "3"].map(|id| record(id, "same group", FAIR)).into();
        let ran = Cell::new(0);
        let outcomes = block_on(at_once(&records, async |it: &Record| {
            ran.set(ran.get() + 1);
            if it.delivery.message_id == "1" { Outcome::Returns(Duration::from_secs(1)) } else { Outcome::Settled }
        }));
        assert_eq!(ran.get(), 3);
        let expected = Return { message_id: "1".into(), receipt_handle: Some("receipt of 1".into()), after: Duration::from_secs(1) };
        assert_eq!(returns(&records, &outcomes), [expected]);
        assert_eq!(records[0].group.as_deref(), Some("same group"));
    }

    /// Gives the others their turn, as a call to AWS does.
    async fn others_run() {
        let mut polled = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut polled, true) {
                return std::task::Poll::Ready(());
            }
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
    }

    #[test]
    fn records_of_a_standard_queue_run_together_and_not_too_many() {
        let records: Vec<Record> = (0..40).map(|id| record(&id.to_string(), "g", FAIR)).collect();
        let (running, most) = (Cell::new(0), Cell::new(0));
        let outcomes = block_on(at_once(&records, async |_: &Record| {
            running.set(running.get() + 1);
            most.set(most.get().max(running.get()));
            others_run().await;
            running.set(running.get() - 1);
            Outcome::Settled
        }));
        assert_eq!((outcomes.len(), most.get()), (40, AT_ONCE));
    }

    #[test]
    fn a_job_is_judged_by_how_it_ends() {
        let record = record("1", "g", FIFO);
        assert_eq!((record.delivery.receive_count, record.delivery.sent_at_ms), (3, Some(1_795_000_000_000)));
        let judged = |ended: fn() -> Result<Progress, Failure>| block_on(last_step(Queue::Inbound, &record, async { ended() }));
        let wait = Duration::from_secs(7);
        assert_eq!(judged(|| Ok(Progress::Done)), Verdict::Done);
        assert_eq!(judged(|| Ok(Progress::Wait(Duration::from_secs(7)))), Verdict::Wait(wait));
        assert_eq!(judged(|| Err(Failure { is_retryable: true })), Verdict::Retry(Duration::from_secs(8)));
        assert_eq!(judged(|| Err(Failure { is_retryable: false })), Verdict::Bury("failure"));
        assert_eq!(judged(|| panic!("made by this test")), Verdict::Retry(Duration::from_secs(8)));
    }

    #[test]
    fn a_body_that_does_not_decode_goes_to_the_dead_letters() {
        let mut record = record("1", "g", FIFO);
        for body in ["", "no JSON", "{\"v\":", "[1]"] {
            record.body = body.to_owned();
            let begun: Result<HashMap<String, String>, Verdict> = begin(Queue::Inbound, &record, None);
            assert_eq!(begun, Err(Verdict::Bury("undecodable")), "{body}");
        }
    }

    #[test]
    fn what_cannot_be_buried_comes_back() {
        let outcome = block_on(bury(&queues(), Queue::Inbound, &record("1", "g", FIFO), "failure"));
        assert_eq!(outcome, Outcome::Returns(Duration::from_secs(8)));
    }

    #[test]
    fn one_record_without_a_name_fails_the_whole_batch_unrun() {
        for id in [None, Some(String::new())] {
            let mut event = SqsEvent::default();
            event.records = vec![message("1", "g", FIFO), message("2", "g", FIFO)];
            event.records[1].message_id = id;
            let response = block_on(each(
                &queues(),
                Queue::Inbound,
                event,
                None,
                async |_: serde_json::Value, _: &Delivery| -> Result<Progress, Failure> { unreachable!("it must not run") },
            ));
            assert_eq!(named(response), [""]);
        }
    }

    #[test]
    fn a_batch_that_went_well_names_nothing() {
        for arn in [FIFO, FAIR] {
            let ran = Cell::new(0);
            let mut event = SqsEvent::default();
            event.records = vec![message("1", "g", arn), message("2", "g", arn)];
            let response = block_on(each(
                &queues(),
                Queue::Inbound,
                event,
                None,
                async |_: serde_json::Value, _: &Delivery| -> Result<Progress, Failure> {
                    ran.set(ran.get() + 1);
                    Ok(Progress::Done)
                },
            ));
            assert_eq!((ran.get(), response.batch_item_failures.len()), (2, 0));
        }
    }

    #[test]
    fn near_the_deadline_no_record_is_begun_and_what_is_settled_stays_so() {
        for (arn, deadline_ms, expected_ran, expected_named) in [
            // Each job takes four seconds, of ten.
            (FIFO, 10_000, 2, &["3", "4"][..]),
            (FAIR, 3_000, 0, &["1", "2", "3", "4"]),
            (FIFO, 0, 4, &[]),
            (FIFO, -1, 4, &[]),
        ] {
            let (now, ran) = (Cell::new(0), Cell::new(0));
            let clock = || now.get();
            let mut event = SqsEvent::default();
            event.records = ["1", "2", "3", "4"].map(|id| message(id, id, arn)).into();
            let deadline = Deadline::new(deadline_ms, &clock);
            let response = block_on(each(
                &queues(),
                Queue::Inbound,
                event,
                deadline,
                async |_: serde_json::Value, _: &Delivery| -> Result<Progress, Failure> {
                    ran.set(ran.get() + 1);
                    now.set(now.get() + 4_000);
                    Ok(Progress::Done)
                },
            ));
            assert_eq!(
                (ran.get(), named(response)),
                (expected_ran, expected_named.iter().map(|it| (*it).to_owned()).collect()),
                "{deadline_ms} {arn}"
            );
        }
    }

    /// A batch of a fair queue whose bodies are these, as text, and are the message ids too.
    fn fair_batch<'a>(bodies: impl IntoIterator<Item = &'a str>) -> SqsEvent {
        let mut event = SqsEvent::default();
        for body in bodies {
            let mut message = message(body, "g", FAIR);
            message.body = Some(format!("\"{body}\""));
            event.records.push(message);
        }
        event
    }

    fn named(response: SqsBatchResponse) -> Vec<String> {
        response.batch_item_failures.into_iter().map(|it| it.item_identifier).collect()
    }

    #[test]
    fn what_is_ready_is_planned_once_and_each_record_harms_only_itself() {
        let mut event = fair_batch(["done", "waits", "fails", "panics", "ready", "panics later", "waits later", "ready too"]);
        let mut unreadable = message("unreadable", "g", FAIR);
        unreadable.body = Some("{".into());
        event.records.push(unreadable);
        let (planned_for, finished) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
        let response = block_on(planned(
            &queues(),
            Queue::Statuses,
            event,
            None,
            async |it: String, delivery: &Delivery| {
                assert_eq!(it, delivery.message_id);
                match it.as_str() {
                    "done" => Ok(Prepared::Ended(Progress::Done)),
                    "waits" => Ok(Prepared::Ended(Progress::Wait(Duration::from_secs(1)))),
                    "fails" => Err(Failure { is_retryable: true }),
                    "panics" => panic!("made by this test"),
                    _ => Ok(Prepared::Ready(it)),
                }
            },
            async |ready: Vec<String>| {
                planned_for.borrow_mut().push(ready.clone());
                ready.into_iter().map(|it| (it, "its slot")).collect()
            },
            async |(it, slot): (String, &str)| {
                finished.borrow_mut().push(format!("{it}: {slot}"));
                match it.as_str() {
                    "panics later" => panic!("made by this test"),
                    "waits later" => Ok(Progress::Wait(Duration::from_secs(1))),
                    _ => Ok::<_, Failure>(Progress::Done),
                }
            },
        ));
        assert_eq!(planned_for.into_inner(), [["ready", "panics later", "waits later", "ready too"]]);
        let expected = ["ready: its slot", "panics later: its slot", "waits later: its slot", "ready too: its slot"];
        assert_eq!(finished.into_inner(), expected);
        assert_eq!(named(response), ["waits", "fails", "panics", "panics later", "waits later", "unreadable"]);
    }

    #[test]
    fn without_a_part_for_each_all_that_is_ready_comes_back_unfinished() {
        let plans: [fn(Vec<String>) -> Vec<String>; 3] =
            [|_| panic!("made by this test"), |ready| ready[1..].into(), |ready| [ready.clone(), ready].concat()];
        for plan in plans {
            let finished = Cell::new(0);
            let response = block_on(planned(
                &queues(),
                Queue::Statuses,
                fair_batch(["done", "1", "2"]),
                None,
                async |it: String, _: &Delivery| Ok(if it == "done" { Prepared::Ended(Progress::Done) } else { Prepared::Ready(it) }),
                async |ready| plan(ready),
                async |_: String| {
                    finished.set(finished.get() + 1);
                    Ok::<_, Failure>(Progress::Done)
                },
            ));
            assert_eq!((finished.get(), named(response)), (0, vec!["1".to_owned(), "2".to_owned()]));
        }
    }

    #[test]
    fn a_plan_is_asked_for_when_nothing_is_ready() {
        let asked = Cell::new(0);
        let response = block_on(planned(
            &queues(),
            Queue::Statuses,
            fair_batch(["1"]),
            None,
            async |_: String, _: &Delivery| Ok::<Prepared<()>, Failure>(Prepared::Ended(Progress::Done)),
            async |ready| {
                asked.set(asked.get() + 1);
                ready
            },
            async |()| unreachable!("nothing is ready"),
        ));
        assert_eq!((asked.get(), named(response).len()), (1, 0));
    }

    #[test]
    fn near_the_deadline_no_step_is_begun() {
        // Preparing each of the two takes three seconds, planning four.
        for (deadline_ms, steps) in [(3_000, ""), (6_000, "p"), (9_000, "pp"), (36_000, "pp"), (37_000, "pp plan ff")] {
            let (now, ran) = (Cell::new(0), RefCell::new(String::new()));
            let clock = || now.get();
            let response = block_on(planned(
                &queues(),
                Queue::Statuses,
                fair_batch(["1", "2"]),
                Deadline::new(deadline_ms, &clock),
                async |it: String, _: &Delivery| {
                    ran.borrow_mut().push('p');
                    now.set(now.get() + 3_000);
                    Ok(Prepared::Ready(it))
                },
                async |ready| {
                    ran.borrow_mut().push_str(" plan ");
                    now.set(now.get() + 4_000);
                    ready
                },
                async |_: String| {
                    ran.borrow_mut().push('f');
                    Ok::<_, Failure>(Progress::Done)
                },
            ));
            assert_eq!(ran.borrow().trim(), steps, "{deadline_ms}");
            let returned: &[&str] = if steps.ends_with("ff") { &[] } else { &["1", "2"] };
            assert_eq!(named(response), returned, "{deadline_ms}");
        }
    }

    #[test]
    fn all_are_finished_at_once() {
        let bodies: Vec<String> = (0..40).map(|it| it.to_string()).collect();
        let (running, most) = (Cell::new(0), Cell::new(0));
        let response = block_on(planned(
            &queues(),
            Queue::Statuses,
            fair_batch(bodies.iter().map(String::as_str)),
            None,
            async |it: String, _: &Delivery| Ok(Prepared::Ready(it)),
            async |ready| ready,
            async |_: String| {
                running.set(running.get() + 1);
                most.set(most.get().max(running.get()));
                others_run().await;
                running.set(running.get() - 1);
                Ok::<_, Failure>(Progress::Done)
            },
        ));
        assert_eq!((named(response).len(), most.get()), (0, 40));
    }

    #[test]
    fn a_record_without_a_name_fails_the_whole_plan_unrun() {
        let response = block_on(planned(
            &queues(),
            Queue::Statuses,
            fair_batch(["1", ""]),
            None,
            async |_: String, _: &Delivery| -> Result<Prepared<()>, Failure> { unreachable!("it must not run") },
            async |ready| ready,
            async |()| Ok(Progress::Done),
        ));
        assert_eq!(named(response), [""]);
    }

    #[test]
    fn back_off_doubles_up_to_a_minute() {
        for (receive_count, seconds) in [(1, 2), (2, 4), (5, 32), (6, 60), (7, 60), (u32::MAX, 60)] {
            assert_eq!(back_off(&delivered(receive_count, "1", FIFO)), Duration::from_secs(seconds));
        }
    }

    #[test]
    fn back_off_of_a_standard_queue_is_spread() {
        let mut found: Vec<u64> = (0..1000).map(|id| back_off(&delivered(9, &id.to_string(), FAIR)).as_secs()).collect();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found, (30..=60).collect::<Vec<u64>>());
        assert_eq!(back_off(&delivered(4, "x", FAIR)), back_off(&delivered(4, "x", FAIR)));
    }
}
