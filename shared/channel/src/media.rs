//! Customers' files: fetched from Meta into the bucket, piece by piece, and handed to the agent with the turn.
//!
//! What goes this way is handed over in its order, whatever has a file and whatever waits behind one. What cannot be had in a minute does not
//! hold the conversation up: the turn goes on, and says why there is no file.

use std::time::Duration;

use domain::connection::{Connection, State};
use domain::conversation::{Conversation, LATE_AFTER};
use domain::ids::{AgentId, MessageKey};
use domain::message::{Content, Event, Media, Message};
use domain::time::Timestamp;
use meta::fault::Class;
use meta::graph::Graph;
use meta::graph::media::{Undownloaded, is_hash};
use sha2::{Digest, Sha256};

use crate::blobs::{BlobError, Blobs};
use crate::connections::{self, CHECK};
use crate::counts::Counts;
use crate::directory::{Directory, DirectoryError, KnownConnection};
use crate::jobs::{GatheredMessage, MediaJob, MediaTask, Missing, Turn, TurnFile};
use crate::outbox::credentials;
use crate::owed;
use crate::queues::{Queue, QueueError, Queues};
use crate::redelivery::{Delivery, Progress, Retryable};
use crate::store::{Attachment, FileItem, Found, HandedOver, MessageItem, Sorted, Store, StoreError, StoredFile, inbound_object};
use crate::turns;
use crate::vault::Vault;
use crate::web::Web;

/// How long a turn's link to its file is good.
pub const LINK_FOR: Duration = Duration::from_hours(1);
/// What fails is tried again after so many seconds each time, a minute in all; then the turn goes on without its file.
const PAUSES: [u64; 6] = [1, 2, 4, 8, 15, 30];
/// A message that is not kept yet will be in a moment.
const SOON: Duration = Duration::from_secs(1);
/// So many messages become one turn at most…
const GATHERED_AT_MOST: usize = 20;
/// …and for so many times the quiet time it is waited for them.
const WAITS: u32 = 5;

/// Why a job of `media.fifo` did not end.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// The store failed.
    #[error("what belongs to a customer's file could not be kept")]
    Store {
        /// The cause.
        #[from]
        source: StoreError,
    },
    /// The connection could not be looked up.
    #[error("the connection of a customer's file could not be looked up")]
    Directory {
        /// The cause.
        #[from]
        source: DirectoryError,
    },
    /// A queue did not take the turn, or the wish to have the connection checked.
    #[error("the turn of a customer's file could not be handed over")]
    Queue {
        /// The cause.
        #[from]
        source: QueueError,
    },
    /// The bucket failed.
    #[error("a customer's file could not be kept")]
    Blob {
        /// The cause.
        #[from]
        source: BlobError,
    },
}

impl Retryable for MediaError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Store { source } => source.is_retryable(),
            Self::Directory { source } => source.is_retryable(),
            Self::Queue { source } => source.is_retryable(),
            Self::Blob { source } => source.is_retryable(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Store { source } => source.code(),
            Self::Directory { source } => source.code(),
            Self::Queue { source } => source.code(),
            Self::Blob { source } => source.code(),
        }
    }
}

/// Why a file is not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absence {
    /// Meta does not keep it any more.
    Expired,
    /// It is larger than can be sent.
    TooLarge,
    /// Meta does not let us.
    Refused,
    /// Meta, or the way there, had trouble for a minute.
    Unavailable,
}

impl Absence {
    fn told(self) -> Missing {
        let (code, note) = match self {
            Self::Expired => ("media_expired", "Meta does not keep this file any longer: it keeps what customers send for seven days."),
            Self::TooLarge => ("media_too_large", "The file is larger than the 100 MB that WhatsApp passes on. Ask for a smaller one, or a link."),
            Self::Refused => ("media_refused", "Meta does not give us this file. See the connection's health."),
            Self::Unavailable => ("media_unavailable", "Meta did not give us this file within a minute. It can be fetched again while Meta keeps it: seven days."),
        };
        Missing { code: code.to_owned(), note: note.to_owned() }
    }
}

/// What came of one try to fetch a file.
enum Fetched {
    /// It is here.
    Here(StoredFile),
    /// It never will be.
    Absent(Absence),
    /// Another try may have it.
    Again,
    /// Meta refuses the connection's token.
    Credentials,
}

/// The handles of what sees to customers' files.
pub struct Files<'a> {
    /// Messages, conversations and their agents.
    pub store: &'a Store,
    /// The agents' queues.
    pub queues: &'a Queues,
    /// Where files lie.
    pub blobs: &'a Blobs,
    /// Connections with their tokens.
    pub directory: &'a Directory,
    /// What opens the keys of speech-to-text.
    pub vault: &'a Vault,
    /// Meta.
    pub graph: &'a Graph,
    /// Where speech is turned into text.
    pub web: &'a Web,
    /// What is counted.
    pub counts: &'a Counts,
}

impl Files<'_> {
    /// Does one job.
    ///
    /// # Errors
    /// [`MediaError`]: the next delivery goes on.
    pub async fn see_to(&self, job: &MediaJob, delivery: &Delivery, now: Timestamp) -> Result<Progress, MediaError> {
        match &job.task {
            MediaTask::Erase => self.erase(&job.message).await.map(|()| Progress::Done),
            MediaTask::Fetch { media } => self.fetch_for_people(job, media, delivery, now).await,
            MediaTask::HandOver { turn, owed_at } => self.hand_over(job, turn, *owed_at, delivery, now).await,
        }
    }

    /// The customer deleted the message: its file goes with it.
    async fn erase(&self, message: &MessageKey) -> Result<(), MediaError> {
        if let Some(file) = self.store.file(message).await?.and_then(|it| it.file) {
            self.blobs.delete(&[file.key]).await?;
        }
        Ok(self.store.forget_file(message).await?)
    }

    /// Fetches a file of which nobody is told now.
    async fn fetch_for_people(
        &self,
        job: &MediaJob,
        media: &Media,
        delivery: &Delivery,
        now: Timestamp,
    ) -> Result<Progress, MediaError> {
        let Some(conversation) = self.conversation(&job.message).await? else { return Ok(Progress::Done) };
        let Some(known) = self.directory.connection_afresh(&job.connection, now).await? else { return Ok(Progress::Done) };
        if self.is_erased(&conversation, &job.message).await? {
            return Ok(Progress::Done);
        }
        match self.file(job, media, "file", &known, delivery, now).await? {
            Some(_) => Ok(Progress::Done),
            None => Ok(Progress::Wait(pause(delivery))),
        }
    }

    async fn hand_over(
        &self,
        job: &MediaJob,
        turn: &Turn,
        owed_at: Option<Timestamp>,
        delivery: &Delivery,
        now: Timestamp,
    ) -> Result<Progress, MediaError> {
        let key = &job.message;
        let Some(conversation) = self.conversation(key).await? else { return Ok(Progress::Done) };
        let Some(known) = self.directory.connection(&job.connection, now).await? else { return Ok(Progress::Done) };
        let kept = self.store.message(conversation.everywhere(), key.at, &key.id).await?;
        if is_of_another(&conversation, key) || kept.as_ref().is_some_and(|it| is_deleted(&it.1)) {
            // It was told with the one before it, or the customer deleted it.
            return self.settle(&conversation, key).await;
        }
        let mut turn = turn.clone();
        if let Some(media) = turn.content.media().filter(|it| it.id.is_some()).cloned() {
            let known = self.directory.connection_afresh(&job.connection, now).await?.unwrap_or(known);
            if known.connection.lifecycle.state == State::Error {
                return self.owe(&conversation, key, &turn.agent, now).await;
            }
            let Some(item) = self.file(job, &media, turn.content.kind(), &known, delivery, now).await? else {
                return Ok(Progress::Wait(pause(delivery)));
            };
            turn.file = Some(self.told(&item, &media, now).await?);
            turn.transcript = item.transcript;
        }
        let Some(attachment) = self.store.attachment(&job.connection, &turn.agent).await?.filter(|it| it.inbound) else {
            return self.miss(&conversation, key).await;
        };
        if conversation.has_person(now) {
            return self.miss(&conversation, key).await;
        }
        let is_owed = kept.as_ref().is_some_and(|it| matches!(&it.1, MessageItem::Inbound(it) if matches!(it.handed, HandedOver::Owed(_))));
        if attachment.down_since.is_some() || (!is_owed && conversation.owes_before(key)) {
            return self.owe(&conversation, key, &turn.agent, now).await;
        }
        if let Some(wait) = self.gather(job, &mut turn, &conversation, &attachment, is_owed, now).await? {
            return Ok(Progress::Wait(wait));
        }
        turn.standing = conversation.standing(now).into();
        turn.late = now.since(turn.at) > LATE_AFTER;
        let queue = if attachment.endpoint.is_some() { Queue::Bridge } else { Queue::Turns };
        turns::send(self.queues, queue, &turn, key, owed_at).await?;
        self.counts.one("turn.handed_over");
        self.settle(&conversation, key).await
    }

    /// The conversation of a message, where it is now; nothing if its data were erased.
    async fn conversation(&self, key: &MessageKey) -> Result<Option<Conversation>, StoreError> {
        Ok(match self.store.find_conversation(&key.conversation).await? {
            Found::Live(it) => Some(it.conversation).filter(|it| !it.is_erased_before(key.at)),
            Found::Shell(..) | Found::Nothing => None,
        })
    }

    async fn is_erased(&self, conversation: &Conversation, key: &MessageKey) -> Result<bool, StoreError> {
        Ok(self.store.message(conversation.everywhere(), key.at, &key.id).await?.is_some_and(|it| is_deleted(&it.1)))
    }

    /// What was under way is done: what comes next goes straight to the agent, if nothing has followed.
    async fn settle(&self, conversation: &Conversation, key: &MessageKey) -> Result<Progress, MediaError> {
        self.store
            .change_conversation(&conversation.id, |it| {
                it.out_of_media(key);
                // The first of them was told, and names the others until each of them is done with.
                if let Some(at) = it.gathered.iter().skip(1).position(|it| it == key) {
                    it.gathered.remove(at + 1);
                }
                if it.gathered.len() == 1 {
                    it.gathered.clear();
                }
            })
            .await?;
        Ok(Progress::Done)
    }

    /// Nobody takes the turn now: the next one names its message as missed.
    async fn miss(&self, conversation: &Conversation, key: &MessageKey) -> Result<Progress, MediaError> {
        self.store.change_conversation(&conversation.id, |it| it.miss(key)).await?;
        self.settle(conversation, key).await
    }

    async fn owe(&self, conversation: &Conversation, key: &MessageKey, agent: &AgentId, now: Timestamp) -> Result<Progress, MediaError> {
        if !owed::owe(self.store, conversation, key, agent, now).await? {
            return Ok(Progress::Wait(SOON));
        }
        self.settle(conversation, key).await
    }

    /// What became of a file: fetched now, unless it was before; nothing if it is to be tried again.
    async fn file(
        &self,
        job: &MediaJob,
        media: &Media,
        kind: &str,
        known: &KnownConnection,
        delivery: &Delivery,
        now: Timestamp,
    ) -> Result<Option<FileItem>, MediaError> {
        if let Some(it) = self.store.file(&job.message).await?.filter(|it| it.file.is_some()) {
            return Ok(Some(it));
        }
        let is_last_try = usize::try_from(delivery.receive_count).unwrap_or(usize::MAX) > PAUSES.len();
        let (file, missing) = match self.fetch(job, media, kind, known, now).await? {
            Fetched::Here(it) => (Some(it), None),
            Fetched::Absent(it) => (None, Some(it)),
            Fetched::Again if is_last_try => (None, Some(Absence::Unavailable)),
            Fetched::Credentials if is_last_try || known.connection.lifecycle.state == State::Error => (None, Some(Absence::Refused)),
            Fetched::Again => return Ok(None),
            Fetched::Credentials => {
                // Meta is asked how the token stands: if it is dead, the turn is owed until there is another.
                connections::probe(self.queues, &known.connection, CHECK, now).await?;
                return Ok(None);
            }
        };
        self.counts.one(if file.is_some() { "media.kept" } else { "media.missing" });
        let item = FileItem { at: now, file, missing: missing.map(Absence::told), transcript: None };
        self.store.keep_file(&job.message, &item, known.connection.files_kept_for()).await?;
        Ok(Some(item))
    }

    /// One try to bring a file from Meta into the bucket. One that is not what Meta announced is fetched once more, and then kept as it is.
    async fn fetch(
        &self,
        job: &MediaJob,
        media: &Media,
        kind: &str,
        known: &KnownConnection,
        now: Timestamp,
    ) -> Result<Fetched, MediaError> {
        let Some(id) = &media.id else { return Ok(Fetched::Absent(Absence::Expired)) };
        let opens = credentials(known);
        for is_last in [false, true] {
            let record = match self.graph.media(&job.number, &opens, id).await {
                Ok(it) => it,
                Err(unread) => return Ok(unknown_media(unread.class)),
            };
            let mut download = match self.graph.download(&opens, &record.url).await {
                Ok(it) => it,
                Err(why) => return Ok(undownloaded(why, &known.connection)),
            };
            let mime_type = media.mime_type.clone().or(record.mime_type).unwrap_or_else(|| "application/octet-stream".to_owned());
            let key = inbound_object(&known.connection.id, &job.message);
            let (mut upload, mut hash) = (self.blobs.begin(&key, &mime_type), Sha256::new());
            let broken = loop {
                match download.chunk().await {
                    Ok(Some(chunk)) => {
                        hash.update(chunk.as_ref());
                        upload.push(chunk.as_ref()).await?;
                    }
                    Ok(None) => break None,
                    Err(why) => break Some(why),
                }
            };
            if let Some(why) = broken {
                upload.abort().await?;
                return Ok(undownloaded(why, &known.connection));
            }
            let hash: [u8; 32] = hash.finalize().into();
            let differs = !is_hash(&hash, media.sha256.as_deref().or(record.sha256.as_deref()));
            if differs && !is_last {
                upload.abort().await?;
                continue;
            }
            let size = upload.finish().await?;
            let sha256 = hash.iter().map(|it| format!("{it:02x}")).collect();
            let filename = safe_filename(media.filename.as_deref(), kind, &mime_type);
            tracing::info!(connection.id = %known.connection.id, size, differs, elapsed_since_ms = now.since(job.queued_at).as_millis() as u64, "a customer's file is kept");
            return Ok(Fetched::Here(StoredFile { key, mime_type, size, sha256, filename, differs }));
        }
        Ok(Fetched::Again)
    }

    /// A file as a turn tells of it.
    async fn told(&self, item: &FileItem, media: &Media, now: Timestamp) -> Result<TurnFile, MediaError> {
        let Some(file) = &item.file else {
            return Ok(TurnFile { mime_type: media.mime_type.clone(), missing: item.missing.clone(), ..TurnFile::default() });
        };
        Ok(TurnFile {
            url: Some(self.blobs.link(&file.key, LINK_FOR, None).await?),
            expires_at: Some(now.plus(LINK_FOR)),
            mime_type: Some(file.mime_type.clone()),
            size: Some(file.size),
            sha256: Some(file.sha256.clone()),
            filename: Some(file.filename.clone()),
            differs: file.differs,
            missing: None,
        })
    }

    /// Makes one turn of several short messages, if the agent wants that; or how long to wait until the customer is quiet.
    async fn gather(
        &self,
        job: &MediaJob,
        turn: &mut Turn,
        conversation: &Conversation,
        attachment: &Attachment,
        is_owed: bool,
        now: Timestamp,
    ) -> Result<Option<Duration>, MediaError> {
        let key = &job.message;
        let is_begun = conversation.gathered.first() == Some(key);
        if !is_begun && (attachment.quiet_ms == 0 || is_owed || turn.quoted.is_some() || turn.referral.is_some()) {
            return Ok(None);
        }
        let Content::Text { text } = &turn.content else { return Ok(None) };
        let behind = self.store.messages(conversation.everywhere(), key.at, Timestamp::MAX).await?;
        let run: Vec<(MessageKey, Message, Timestamp)> = behind
            .into_iter()
            .filter(|it| (it.0.at, &it.0.id) > (key.at, &key.id))
            .map_while(|it| gatherable(it, turn))
            .take(GATHERED_AT_MOST - 1)
            .filter(|it| !is_begun || conversation.gathered.contains(&it.0))
            .collect();
        if !is_begun {
            let quiet = Duration::from_millis(u64::from(attachment.quiet_ms));
            let last = run.last().map_or(job.queued_at, |it| it.2);
            let closes = conversation.window(&job.number).closes_at().map_or(Timestamp::MAX, |it| it.minus(SOON));
            let until = last.plus(quiet).min(job.queued_at.plus(quiet * WAITS)).min(closes);
            if now < until && run.len() + 1 < GATHERED_AT_MOST {
                return Ok(Some(until.since(now)));
            }
            if run.is_empty() {
                return Ok(None);
            }
            // Before it is told: a repeat tells the same messages as one turn.
            let keys: Vec<MessageKey> = std::iter::once(key.clone()).chain(run.iter().map(|it| it.0.clone())).collect();
            self.store.change_conversation(&conversation.id, |it| it.gathered.clone_from(&keys)).await?;
        }
        let mut words = text.clone();
        turn.gathered = vec![GatheredMessage { wamid: turn.wamid.clone(), at: turn.at }];
        for (_, message, _) in run {
            if let Content::Text { text } = &message.content {
                words.push('\n');
                words.push_str(text);
            }
            turn.gathered.push(GatheredMessage { wamid: message.wamid, at: message.at });
        }
        turn.content = Content::Text { text: words };
        Ok(None)
    }
}

/// A plain text that may become one turn with the one before it.
fn gatherable((key, item): Sorted, turn: &Turn) -> Option<(MessageKey, Message, Timestamp)> {
    let MessageItem::Inbound(inbound) = item else { return None };
    let is_handed = matches!(&inbound.handed, HandedOver::Agent(it) if *it == turn.agent) && inbound.number == turn.number;
    match inbound.event() {
        Some(Event::Message(it)) if is_handed && it.quoted.is_none() && it.referral.is_none() && matches!(it.content, Content::Text { .. }) => {
            Some((key, it, inbound.heard_at))
        }
        _ => None,
    }
}

/// Is it told with another message, as one turn?
fn is_of_another(conversation: &Conversation, key: &MessageKey) -> bool {
    conversation.gathered.iter().skip(1).any(|it| it == key)
}

fn is_deleted(item: &MessageItem) -> bool {
    match item {
        MessageItem::Inbound(it) => it.erased,
        MessageItem::Shell => true,
        MessageItem::Outbound(_) | MessageItem::Body { .. } | MessageItem::File(_) => false,
    }
}

/// What follows when Meta does not tell where a file is.
fn unknown_media(class: Class) -> Fetched {
    match class {
        Class::Credentials | Class::Account => Fetched::Credentials,
        Class::NotSent | Class::Pair | Class::Unknown | Class::Later => Fetched::Again,
        Class::Permanent | Class::Number | Class::Fix => Fetched::Absent(Absence::Expired),
        Class::Window
        | Class::MarketingLimit
        | Class::OptedOut
        | Class::TemplateMissing
        | Class::TemplatePaused
        | Class::TemplateDisabled => Fetched::Absent(Absence::Refused),
    }
}

fn undownloaded(why: Undownloaded, connection: &Connection) -> Fetched {
    tracing::info!(connection.id = %connection.id, why = why.word(), "a customer's file is not downloaded: {}", why.word());
    match why {
        // Its address lives for five minutes: it is looked up anew the next time.
        Undownloaded::NotFound | Undownloaded::Broken => Fetched::Again,
        Undownloaded::Refused => Fetched::Credentials,
        Undownloaded::TooLarge => Fetched::Absent(Absence::TooLarge),
        Undownloaded::Elsewhere => Fetched::Absent(Absence::Refused),
    }
}

fn pause(delivery: &Delivery) -> Duration {
    let index = usize::try_from(delivery.receive_count.saturating_sub(1)).unwrap_or(usize::MAX).min(PAUSES.len() - 1);
    Duration::from_secs(PAUSES[index])
}

/// A name under which the file can be saved anywhere, made of the customer's, which is any text at all.
fn safe_filename(filename: Option<&str>, kind: &str, mime_type: &str) -> String {
    const LONGEST: usize = 100;
    let filename = filename.unwrap_or_default();
    let last = filename.rsplit(['/', '\\']).next().unwrap_or_default();
    let clean: String = last.chars().filter(|it| it.is_alphanumeric() || " -_.()".contains(*it)).collect();
    let clean = clean.trim_matches([' ', '.']);
    match clean.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() && (1..=5).contains(&extension.chars().count()) => {
            let stem: String = stem.chars().take(LONGEST).collect();
            format!("{stem}.{extension}")
        }
        _ => {
            let stem: String = if clean.is_empty() { kind.to_owned() } else { clean.chars().take(LONGEST).collect() };
            match extension(mime_type) {
                Some(it) => format!("{stem}.{it}"),
                None => stem,
            }
        }
    }
}

/// The usual ending of the types that WhatsApp passes on most.
fn extension(mime_type: &str) -> Option<&'static str> {
    let essence = mime_type.split(';').next().unwrap_or_default().trim();
    Some(match essence {
        "image/jpeg" => "jpg",
        "image/png" => "png",
        "image/webp" => "webp",
        "video/mp4" => "mp4",
        "video/3gpp" => "3gp",
        "audio/ogg" => "ogg",
        "audio/mpeg" => "mp3",
        "audio/mp4" => "m4a",
        "audio/aac" => "aac",
        "audio/amr" => "amr",
        "application/pdf" => "pdf",
        "text/plain" => "txt",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_makes_a_safe_name() {
        let cases = [
            (Some("quote 7.pdf"), "quote 7.pdf"),
            (Some("../../etc/passwd"), "passwd.pdf"),
            (Some("..\\..\\boot.ini"), "boot.ini"),
            (Some("a\r\nb\".pdf"), "ab.pdf"),
            (Some("Angebot für Zoë.pdf"), "Angebot für Zoë.pdf"),
            (Some("..."), "document.pdf"),
            (Some(""), "document.pdf"),
            (None, "document.pdf"),
            (Some(".bashrc"), "bashrc.pdf"),
            (Some("\u{202e}fdp.exe"), "fdp.exe"),
        ];
        for (given, expected) in cases {
            assert_eq!(safe_filename(given, "document", "application/pdf"), expected, "{given:?}");
        }
        let long = safe_filename(Some(&format!("{}.pdf", "x".repeat(300))), "document", "application/pdf");
        assert_eq!(long, format!("{}.pdf", "x".repeat(100)));
        assert_eq!(safe_filename(None, "audio", "audio/ogg; codecs=opus"), "audio.ogg");
        assert_eq!(safe_filename(None, "document", "application/x-unheard-of"), "document");
    }

    #[test]
    fn what_fails_is_tried_for_a_minute() {
        let delivery = |receive_count| Delivery { receive_count, sent_at_ms: None, message_id: String::new() };
        let total: u64 = (1..=6).map(|it| pause(&delivery(it)).as_secs()).sum();
        assert_eq!(total, 60);
        assert_eq!(pause(&delivery(900)), Duration::from_secs(30));
    }
}
