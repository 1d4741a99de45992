//! What a job may answer to the queue that delivered it, and what it may know of the delivery.
//!
//! Knows no queue and no Lambda event: use-cases take these types and stay free of both. [`Retryable`] lives here and not
//! beside the batch runner in `lambda`, because the use-cases' errors are this crate's: were the trait `lambda`'s, the orphan
//! rule would let neither crate implement it without `channel` importing `lambda`, and every function would need a wrapper.

use std::time::Duration;

/// How a job that did not fail leaves its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All is done: the message may be deleted.
    Done,
    /// To be looked at again after about this long. The message stays in its queue, invisible for that time, and a FIFO group
    /// waits with it: waiting is done by visibility, never by sending to our own queue, which Lambda's loop detection would
    /// stop: <https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html>.
    Wait(Duration),
}

/// What comes of a record's first step, where the records of a batch are finished after one plan for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepared<P> {
    /// It ends here.
    Ended(Progress),
    /// It is to be planned with the others of its batch, and finished.
    Ready(P),
}

/// A failure that knows whether another delivery can mend it.
pub trait Retryable: std::error::Error {
    /// Whether the same job may succeed later. If not, its message goes to the dead letters at once.
    ///
    /// Write it as an exhaustive `match`, so that a new variant does not compile until someone has decided.
    fn is_retryable(&self) -> bool;

    /// A stable name for logs, metrics and dead letters: lower case with underscores, no ids, no content.
    fn code(&self) -> &'static str;
}

/// What SQS says of the delivery that is being worked on.
///
/// The meaning of each is told at <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html>.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// How often the message was received and not deleted, this time included: 1 at the first delivery. Waits count too, so
    /// this is no count of attempts.
    pub receive_count: u32,
    /// When the message was sent to the queue, in milliseconds of Unix time, by SQS's clock.
    pub sent_at_ms: Option<i64>,
    /// SQS's id of the message: the same on every delivery of it, and another one when it is sent again.
    pub message_id: String,
}
