//! The platform's side of `events`: everything that it tells is kept in a file and shown to whoever looks on.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use channel::queues::{Queue, Queues};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

/// The longest that SQS lets a poll wait.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html>
const POLL: Duration = Duration::from_secs(20);

/// What an event says of one of our messages.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    /// Meta's step (`sent`, `delivered`, `read`, `failed`) or one of ours.
    pub(crate) step: String,
    /// When, by Meta's clock, in milliseconds since 1970.
    pub(crate) at_ms: i64,
}

/// Reads events for ever: each goes into `log`, one JSON document a line, and what it says of a message to `watcher`.
///
/// # Errors
/// The queue does not answer, or the log cannot be written.
pub(crate) async fn follow(queues: &Queues, log: &Path, watcher: &UnboundedSender<Told>) -> Result<()> {
    loop {
        for message in queues.receive(Queue::Events, 10, POLL).await? {
            append(log, &message.body)?;
            if let Some(told) = decode(&message.body) {
                // Once the played conversation is over nobody watches.
                let _ = watcher.send(told);
            }
            queues.delete(Queue::Events, &message.receipt_handle).await?;
        }
    }
}

/// What an event says of a message, None if it is about something else.
fn decode(body: &str) -> Option<Told> {
    let event: Value = serde_json::from_str(body).ok()?;
    let step = event["step"].as_str().filter(|_| event["type"] == "message.state")?;
    Some(Told { step: step.to_owned(), at_ms: event["at"].as_i64()? })
}

/// Adds one line to a file.
///
/// # Errors
/// The disk refuses.
pub(crate) fn append(log: &Path, line: &str) -> Result<()> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .and_then(|mut it| writeln!(it, "{line}"))
        .with_context(|| format!("cannot write {}", log.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_became_of_a_message_is_told_on() {
        let told = decode(r#"{"v":1,"type":"message.state","step":"delivered","at":1790000000123}"#);
        assert_eq!(told, Some(Told { step: "delivered".to_owned(), at_ms: 1_790_000_000_123 }));
        assert_eq!(decode(r#"{"v":1,"type":"message.kept","at":1790000000123}"#), None);
        assert_eq!(decode(r#"{"v":1,"type":"message.state","step":"read"}"#), None);
        assert_eq!(decode("no JSON"), None);
    }
}
