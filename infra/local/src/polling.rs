//! Taking messages from a queue as a platform does: poll, work, delete, until told to stop.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use channel::queues::{Queue, Queues};
use tokio::sync::watch;

/// How long a poll waits for a message. Short, since it is always waited for when all is stopped: a poll that is cut off may
/// still be given a message, which then comes back only after the queue's visibility timeout.
const POLL: Duration = Duration::from_secs(1);

/// How long a failure is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// One queue that is polled.
pub(crate) struct Polling {
    /// The queues, among them the polled one.
    pub(crate) queues: Queues,
    /// The one that is polled.
    pub(crate) queue: Queue,
    /// Where every message is kept, one JSON document a line.
    pub(crate) log: PathBuf,
    /// True once no more messages are to be taken.
    pub(crate) stopping: watch::Receiver<bool>,
}

impl Polling {
    /// Hands each message's body to `work` and deletes it if that went well, else it comes again. Failures are printed.
    pub(crate) async fn run<W: Future<Output = Result<()>>>(self, work: impl Fn(String) -> W) {
        while !*self.stopping.borrow() {
            if let Err(error) = self.poll(&work).await
                && !*self.stopping.borrow()
            {
                println!("{}: {error:#}", self.queue);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn poll<W: Future<Output = Result<()>>>(&self, work: impl Fn(String) -> W) -> Result<()> {
        for message in self.queues.receive(self.queue, 10, POLL).await? {
            append(&self.log, &message.body)?;
            work(message.body).await?;
            self.queues.delete(self.queue, &message.receipt_handle).await?;
        }
        Ok(())
    }
}

/// Adds one line to a file.
fn append(log: &Path, line: &str) -> Result<()> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .and_then(|mut it| writeln!(it, "{line}"))
        .with_context(|| format!("cannot write {}", log.display()))
}
