//! The queues: what may be sent to which, in batches whose every result is read.
//!
//! Must not know what a body means, nor read the environment or the clock. The only file that speaks SQS.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, MessageAttributeValue, MessageSystemAttributeName,
    SendMessageBatchRequestEntry,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::redelivery::{Delivery, Retryable};

/// What SQS takes in one message, attributes included, and in all messages of one batch together, in bytes:
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>.
pub const MESSAGE_BYTES: usize = 1_048_576;

/// How full we pack a batch, in bytes of bodies: under [`MESSAGE_BYTES`], so that nothing hangs on how SQS counts the rest.
const BATCH_BYTES: usize = 1_000_000;

/// What SQS takes in one batch call of any kind.
const BATCH_ENTRIES: usize = 10;

/// The longest that a message can be invisible, in seconds:
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html>.
const VISIBILITY_SECONDS: u64 = 43_200;

/// How much longer than its own wait a long poll may take.
const POLL_SLACK: Duration = Duration::from_secs(5);

/// The queues of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Queue {
    /// What customers wrote, in order per number and customer.
    Inbound,
    /// What agents and people answer, in order per conversation.
    Replies,
    /// Templates that campaigns and people send.
    TemplateSends,
    /// What Meta says became of our messages.
    Statuses,
    /// Customers' files to fetch, and what waits behind them, in order per conversation.
    Media,
    /// Customers' turns for the agent runtime, in order per conversation.
    Turns,
    /// Customers' turns for agents that listen on HTTPS, in order per conversation.
    Bridge,
    /// What happened, for the platform.
    Events,
    /// Connections to look after.
    Probes,
    /// Signed webhooks, or parts of them, that we could not read.
    Quarantine,
}

impl Queue {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Inbound,
        Self::Replies,
        Self::TemplateSends,
        Self::Statuses,
        Self::Media,
        Self::Turns,
        Self::Bridge,
        Self::Events,
        Self::Probes,
        Self::Quarantine,
    ];

    /// Its name in documents, logs and metrics; a deployment may put a prefix before it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inbound => "inbound.fifo",
            Self::Replies => "replies.fifo",
            Self::TemplateSends => "template-sends",
            Self::Statuses => "statuses",
            Self::Media => "media.fifo",
            Self::Turns => "turns.fifo",
            Self::Bridge => "bridge.fifo",
            Self::Events => "events",
            Self::Probes => "probes",
            Self::Quarantine => "quarantine",
        }
    }

    /// Whether it keeps order within a group, and needs a group and a deduplication id with every message.
    pub const fn is_fifo(self) -> bool {
        match self {
            Self::Inbound | Self::Replies | Self::Media | Self::Turns | Self::Bridge => true,
            Self::TemplateSends | Self::Statuses | Self::Events | Self::Probes | Self::Quarantine => false,
        }
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where the queues are that one function uses. A queue that is not named here cannot be used.
#[derive(Clone, Debug, Default)]
pub struct QueueUrls {
    queues: BTreeMap<Queue, String>,
    dead_letters: BTreeMap<Queue, String>,
}

impl QueueUrls {
    /// Knows no queue yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Knows `queue` too, by its URL.
    #[must_use]
    pub fn with(mut self, queue: Queue, url: impl Into<String>) -> Self {
        self.queues.insert(queue, url.into());
        self
    }

    /// Knows where the dead letters of `queue` go, by the URL of that queue of its own kind.
    #[must_use]
    pub fn with_dead_letters(mut self, queue: Queue, url: impl Into<String>) -> Self {
        self.dead_letters.insert(queue, url.into());
        self
    }
}

/// One message to send.
///
/// What SQS asks of group and deduplication ids (1 to 128 of the characters it names) is told at
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatchRequestEntry.html>.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// A JSON document. Characters that SQS refuses are escaped on the way, which in JSON strings means the same.
    pub body: String,
    /// In a FIFO queue (required) messages of one group keep their order; in a standard queue (optional) groups share the
    /// consumer fairly: <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues.html>.
    pub group: Option<String>,
    /// In a FIFO queue (required) a message with the id of one sent within five minutes is swallowed. None for standard queues,
    /// which refuse it.
    pub deduplication: Option<String>,
}

/// One message as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// As it was sent, but for the escapes of [`Entry::body`].
    pub body: String,
    /// By which this delivery of it is deleted or kept invisible.
    pub receipt_handle: String,
    /// Its group, if it was sent with one.
    pub group: Option<String>,
    /// What SQS says of this delivery.
    pub delivery: Delivery,
}

/// Why a queue did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The function was given no URL for it.
    #[error("queue `{queue}` has no URL here")]
    NoUrl {
        /// Which.
        queue: Queue,
    },
    /// The function was given no URL for its dead letters.
    #[error("the dead letters of queue `{queue}` have no URL here")]
    NoDeadLettersUrl {
        /// Whose.
        queue: Queue,
    },
    /// No queue takes so long a message. Nothing was sent.
    #[error("a message of {bytes} bytes is too long for queue `{queue}`")]
    Oversize {
        /// Which.
        queue: Queue,
        /// How long it is as it would be sent, attributes included.
        bytes: usize,
    },
    /// The queue answered, and refused some entries twice, or once if that was their own fault. What came after them was not
    /// sent.
    #[error("queue `{queue}` kept {kept} of {sent} messages and refused others as `{code}`")]
    Refused {
        /// Which.
        queue: Queue,
        /// How many it kept.
        kept: usize,
        /// How many it should have kept.
        sent: usize,
        /// SQS's code of the first refusal.
        code: String,
        /// Whether SQS says that an entry itself is wrong: then it will be so the next time.
        is_sender_fault: bool,
    },
    /// The queue could not be asked, or gave no usable answer: it may or may not have done it.
    #[error("queue `{queue}` did not {action}")]
    Unavailable {
        /// Which.
        queue: Queue,
        /// What it was asked to do.
        action: &'static str,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl Retryable for QueueError {
    fn is_retryable(&self) -> bool {
        match self {
            // A deployment mends these; the job is sound and must wait for it.
            Self::NoUrl { .. } | Self::NoDeadLettersUrl { .. } | Self::Unavailable { .. } => true,
            Self::Oversize { .. } => false,
            Self::Refused { is_sender_fault, .. } => !is_sender_fault,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NoUrl { .. } => "queue_without_url",
            Self::NoDeadLettersUrl { .. } => "dead_letters_without_url",
            Self::Oversize { .. } => "message_too_long",
            Self::Refused { .. } => "queue_refused",
            Self::Unavailable { .. } => "queue_unavailable",
        }
    }
}

/// The queues of one function, over one client.
#[derive(Clone, Debug)]
pub struct Queues {
    client: Client,
    urls: QueueUrls,
}

impl Queues {
    /// The queues at `urls`, over a client of this configuration, such as [`crate::aws::Aws::sqs`] makes.
    pub fn new(config: aws_sdk_sqs::Config, urls: QueueUrls) -> Self {
        Self { client: Client::from_conf(config), urls }
    }

    /// Sends all entries, in their order. All are kept, or it is an error; entries before the refused one may have been kept.
    ///
    /// What is refused through no fault of its own is sent once more. In a FIFO queue it then stands behind entries of its
    /// group in the same batch that were kept at once: consumers judge by the times in the messages, not by this order.
    ///
    /// # Errors
    /// [`QueueError::Oversize`] before anything is sent; else what became of it.
    pub async fn send(&self, queue: Queue, entries: Vec<Entry>) -> Result<(), QueueError> {
        let url = self.url(queue)?;
        let sent = entries.len();
        let mut kept = 0;
        for batch in batches(queue, entries)? {
            let refusals = self.send_batch(queue, url, &batch).await?;
            kept += batch.len() - refusals.len();
            let Some(first) = refusals.into_iter().next() else {
                continue;
            };
            return Err(QueueError::Refused { queue, kept, sent, code: first.code, is_sender_fault: first.is_sender_fault });
        }
        Ok(())
    }

    /// The refusals that stand after a second try.
    async fn send_batch(&self, queue: Queue, url: &str, batch: &[Entry]) -> Result<Vec<Refusal>, QueueError> {
        let all: Vec<usize> = (0..batch.len()).collect();
        let refusals = self.send_once(queue, url, batch, &all).await?;
        if refusals.is_empty() || refusals.iter().any(|it| it.is_sender_fault) {
            return Ok(refusals);
        }
        let again: Vec<usize> = refusals.iter().map(|it| it.index).collect();
        self.send_once(queue, url, batch, &again).await
    }

    async fn send_once(&self, queue: Queue, url: &str, batch: &[Entry], indices: &[usize]) -> Result<Vec<Refusal>, QueueError> {
        let entries = indices
            .iter()
            .map(|&index| {
                SendMessageBatchRequestEntry::builder()
                    .id(index.to_string())
                    .message_body(&batch[index].body)
                    .set_message_group_id(batch[index].group.clone())
                    .set_message_deduplication_id(batch[index].deduplication.clone())
                    .build()
                    .expect("an id and a body are all that an entry requires")
            })
            .collect();
        let answer = self
            .client
            .send_message_batch()
            .queue_url(url)
            .set_entries(Some(entries))
            .send()
            .await
            .map_err(|source| unavailable(queue, "take messages", source))?;
        let kept: Vec<&str> = answer.successful().iter().map(|it| it.id()).collect();
        Ok(refusals(indices, &kept, answer.failed()))
    }

    /// Sends a message to the dead letters of `queue`, with the attribute `reason`, for people to look at.
    ///
    /// A repeat within five minutes is swallowed if the queue is FIFO. `group` is the message's own; a message of a FIFO queue
    /// without one goes to a group by itself.
    ///
    /// # Errors
    /// [`QueueError::Oversize`] if body and reason are too long together: it is then left to the queue's own redrive.
    pub async fn bury(&self, queue: Queue, body: &str, group: Option<&str>, reason: &str) -> Result<(), QueueError> {
        let url = self.urls.dead_letters.get(&queue).ok_or(QueueError::NoDeadLettersUrl { queue })?;
        let body = sendable(body);
        let bytes = body.len() + "reasonString".len() + reason.len();
        if bytes > MESSAGE_BYTES {
            return Err(QueueError::Oversize { queue, bytes });
        }
        let hash = queue.is_fifo().then(|| URL_SAFE_NO_PAD.encode(Sha256::digest(body.as_bytes())));
        let reason = MessageAttributeValue::builder()
            .data_type("String")
            .string_value(reason)
            .build()
            .expect("a data type is all that an attribute requires");
        self.client
            .send_message()
            .queue_url(url)
            .message_body(body)
            .set_message_group_id(group.map(str::to_owned).or_else(|| hash.clone()))
            .set_message_deduplication_id(hash)
            .message_attributes("reason", reason)
            .send()
            .await
            .map_err(|source| unavailable(queue, "take a dead letter", source))?;
        Ok(())
    }

    /// Receives up to `max` messages (SQS gives at most ten), waiting up to `wait` (at most 20 s) for the first. For programs
    /// that poll; a function's messages come to it.
    ///
    /// # Errors
    /// When the queue does not answer.
    pub async fn receive(&self, queue: Queue, max: usize, wait: Duration) -> Result<Vec<Received>, QueueError> {
        // A long poll outlives the timeouts that are right for every other call.
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(wait + POLL_SLACK).operation_timeout(wait + POLL_SLACK).build();
        let answer = self
            .client
            .receive_message()
            .queue_url(self.url(queue)?)
            .max_number_of_messages(i32::try_from(max.clamp(1, BATCH_ENTRIES)).expect("it is at most ten"))
            .wait_time_seconds(i32::try_from(wait.as_secs().min(20)).expect("it is at most twenty"))
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .customize()
            .config_override(aws_sdk_sqs::config::Config::builder().timeout_config(timeouts))
            .send()
            .await
            .map_err(|source| unavailable(queue, "give messages", source))?;
        Ok(answer.messages.unwrap_or_default().into_iter().map(received).collect())
    }

    /// Deletes one delivery of a message. A receipt handle that is no longer the newest may be accepted without deleting.
    ///
    /// # Errors
    /// When the queue refuses it or does not answer.
    pub async fn delete(&self, queue: Queue, receipt_handle: &str) -> Result<(), QueueError> {
        self.client
            .delete_message()
            .queue_url(self.url(queue)?)
            .receipt_handle(receipt_handle)
            .send()
            .await
            .map_err(|source| unavailable(queue, "delete a message", source))?;
        Ok(())
    }

    /// Keeps each message, named by its receipt handle, invisible for its time from now on, in whole seconds rounded up, at
    /// most 12 hours.
    ///
    /// One that the queue refuses (its receipt has expired, mostly) is logged and not an error: it comes back on its own.
    ///
    /// # Errors
    /// When the queue does not answer. Later messages are then not changed; they come back when their old time is over.
    pub async fn change_visibility(&self, queue: Queue, changes: &[(String, Duration)]) -> Result<(), QueueError> {
        let url = self.url(queue)?;
        for batch in changes.chunks(BATCH_ENTRIES) {
            let entries = (0..batch.len()).map(|index| visibility_entry(index, &batch[index])).collect();
            let answer = self
                .client
                .change_message_visibility_batch()
                .queue_url(url)
                .set_entries(Some(entries))
                .send()
                .await
                .map_err(|source| unavailable(queue, "change visibility", source))?;
            let indices: Vec<usize> = (0..batch.len()).collect();
            let kept: Vec<&str> = answer.successful().iter().map(|it| it.id()).collect();
            for refusal in refusals(&indices, &kept, answer.failed()) {
                tracing::warn!(
                    queue = queue.name(),
                    sqs.code = refusal.code,
                    "queue `{queue}` did not change the visibility of a message; it comes back when its present time is over"
                );
            }
        }
        Ok(())
    }

    fn url(&self, queue: Queue) -> Result<&str, QueueError> {
        self.urls.queues.get(&queue).map(String::as_str).ok_or(QueueError::NoUrl { queue })
    }
}

/// An entry of a batch that the queue did not keep.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    index: usize,
    code: String,
    is_sender_fault: bool,
}

/// What of `indices` the answer does not say was done. SQS answers 200 with some entries failed, and what it names in neither
/// list we do not believe it has done:
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html>.
fn refusals(indices: &[usize], kept: &[&str], failed: &[BatchResultErrorEntry]) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for &index in indices {
        let id = index.to_string();
        if kept.contains(&id.as_str()) {
            continue;
        }
        let told = failed.iter().find(|it| it.id() == id);
        refusals.push(Refusal {
            index,
            code: told.map_or_else(|| "NotInAnswer".to_owned(), |it| it.code().to_owned()),
            is_sender_fault: told.is_some_and(BatchResultErrorEntry::sender_fault),
        });
    }
    refusals
}

/// Entries as they are sent, in their order, in batches that SQS takes.
fn batches(queue: Queue, entries: Vec<Entry>) -> Result<Vec<Vec<Entry>>, QueueError> {
    let mut batches: Vec<Vec<Entry>> = Vec::new();
    let mut batch_bytes = 0;
    for mut entry in entries {
        if let Cow::Owned(escaped) = sendable(&entry.body) {
            entry.body = escaped;
        }
        let bytes = entry.body.len();
        if bytes > MESSAGE_BYTES {
            return Err(QueueError::Oversize { queue, bytes });
        }
        match batches.last_mut() {
            Some(batch) if batch.len() < BATCH_ENTRIES && batch_bytes + bytes <= BATCH_BYTES => {
                batch.push(entry);
                batch_bytes += bytes;
            }
            _ => {
                batches.push(vec![entry]);
                batch_bytes = bytes;
            }
        }
    }
    Ok(batches)
}

/// The body with the characters that SQS refuses written as JSON escapes. JSON allows U+FFFE and U+FFFF in its strings, and
/// SQS does not; control characters are escaped by any JSON writer already.
fn sendable(body: &str) -> Cow<'_, str> {
    if !body.contains(is_refused) {
        return Cow::Borrowed(body);
    }
    let mut escaped = String::with_capacity(body.len() + 16);
    for character in body.chars() {
        if is_refused(character) {
            escaped.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// What may be in a body is told at
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html>.
fn is_refused(character: char) -> bool {
    !matches!(character, '\t' | '\n' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'..)
}

fn visibility_entry(index: usize, change: &(String, Duration)) -> ChangeMessageVisibilityBatchRequestEntry {
    ChangeMessageVisibilityBatchRequestEntry::builder()
        .id(index.to_string())
        .receipt_handle(&change.0)
        .visibility_timeout(visibility_seconds(change.1))
        .build()
        .expect("an id and a receipt handle are all that an entry requires")
}

fn visibility_seconds(duration: Duration) -> i32 {
    let whole = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0));
    i32::try_from(whole.min(VISIBILITY_SECONDS)).expect("12 hours of seconds fit")
}

fn received(message: aws_sdk_sqs::types::Message) -> Received {
    let attribute = |name| message.attributes.as_ref().and_then(|it| it.get(&name)).cloned();
    let number = |name| attribute(name).and_then(|it| it.parse::<i64>().ok());
    Received {
        group: attribute(MessageSystemAttributeName::MessageGroupId),
        delivery: Delivery {
            receive_count: number(MessageSystemAttributeName::ApproximateReceiveCount).and_then(|it| u32::try_from(it).ok()).unwrap_or(1),
            sent_at_ms: number(MessageSystemAttributeName::SentTimestamp),
            message_id: message.message_id.clone().unwrap_or_default(),
        },
        body: message.body.unwrap_or_default(),
        receipt_handle: message.receipt_handle.unwrap_or_default(),
    }
}

fn unavailable(queue: Queue, action: &'static str, source: impl Error + Send + Sync + 'static) -> QueueError {
    QueueError::Unavailable { queue, action, source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(body: impl Into<String>) -> Entry {
        Entry { body: body.into(), group: None, deduplication: None }
    }

    fn failed(id: &str, code: &str, is_sender_fault: bool) -> BatchResultErrorEntry {
        BatchResultErrorEntry::builder().id(id).code(code).sender_fault(is_sender_fault).build().expect("complete")
    }

    #[test]
    fn fifo_is_what_is_named_so() {
        for queue in Queue::ALL {
            assert_eq!(queue.is_fifo(), queue.name().ends_with(".fifo"), "{queue}");
        }
    }

    #[test]
    fn nothing_makes_no_call() {
        assert!(batches(Queue::Events, vec![]).expect("fits").is_empty());
    }

    #[test]
    fn one_message_may_fill_a_batch_and_no_more() {
        let full = batches(Queue::Events, vec![entry("a"), entry("x".repeat(MESSAGE_BYTES)), entry("b")]).expect("fits");
        assert_eq!(full.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
        let error = batches(Queue::Turns, vec![entry("x".repeat(MESSAGE_BYTES + 1))]).expect_err("too long");
        assert!(matches!(error, QueueError::Oversize { queue: Queue::Turns, bytes } if bytes == MESSAGE_BYTES + 1));
        assert!(!error.is_retryable());
    }

    #[test]
    fn the_length_that_counts_is_the_escaped_one() {
        let body = "\u{ffff}".repeat(MESSAGE_BYTES / 3);
        assert!(matches!(batches(Queue::Events, vec![entry(body)]), Err(QueueError::Oversize { .. })));
    }

    proptest! {
        // Megabytes a case.
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn batches_keep_everything_in_order_within_the_limits(
            lengths in proptest::collection::vec(prop_oneof![0usize..400, 90_000usize..400_000], 0..40),
        ) {
            let entries: Vec<Entry> =
                lengths.iter().enumerate().map(|(index, it)| entry(format!("{index} {}", "x".repeat(*it)))).collect();
            let batches = batches(Queue::Events, entries.clone()).expect("each fits");
            for batch in &batches {
                prop_assert!((1..=10).contains(&batch.len()));
                prop_assert!(batch.iter().map(|it| it.body.len()).sum::<usize>() <= MESSAGE_BYTES);
            }
            prop_assert_eq!(batches.concat(), entries);
        }
    }

    proptest! {
        #[test]
        fn json_means_the_same_and_sqs_takes_it(text in any::<String>(), refused in "[\u{0}\u{8}\u{1f}\u{fffd}-\u{ffff}]{0,3}") {
            let value = serde_json::Value::String(text + &refused);
            let body = serde_json::to_string(&value).expect("strings are JSON");
            let sent = sendable(&body);
            prop_assert!(!sent.contains(is_refused));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&sent).expect("still JSON"), value);
        }
    }

    #[test]
    fn refused_characters_are_those_of_the_documentation() {
        for (character, refused) in [
            ('\u{0}', true),
            ('\u{b}', true),
            ('\t', false),
            (' ', false),
            ('\u{7f}', false),
            ('\u{d7ff}', false),
            ('\u{e000}', false),
            ('\u{fffd}', false),
            ('\u{fffe}', true),
            ('\u{ffff}', true),
            ('\u{10000}', false),
            ('\u{10ffff}', false),
        ] {
            assert_eq!(is_refused(character), refused, "{character:?}");
        }
    }

    #[test]
    fn what_the_answer_leaves_out_is_refused() {
        let found = refusals(&[0, 1, 2, 3], &["0"], &[failed("2", "InternalError", false), failed("3", "Bad", true)]);
        let expected = [(1, "NotInAnswer", false), (2, "InternalError", false), (3, "Bad", true)]
            .map(|(index, code, is_sender_fault)| Refusal { index, code: code.to_owned(), is_sender_fault });
        assert_eq!(found, expected);
    }

    #[test]
    fn visibility_is_whole_seconds_up_to_twelve_hours() {
        for (duration, seconds) in [
            (Duration::ZERO, 0),
            (Duration::from_millis(1), 1),
            (Duration::from_secs(15), 15),
            (Duration::from_millis(15_001), 16),
            (Duration::MAX, 43_200),
        ] {
            assert_eq!(visibility_seconds(duration), seconds, "{duration:?}");
        }
    }
}
