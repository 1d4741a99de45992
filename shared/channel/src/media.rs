//! Customers' files: fetched from Meta into the bucket, piece by piece, and handed to the agent with the turn.
//!
//! What goes this way is handed over in its order, whatever has a file and whatever waits behind one. What cannot be had in a minute does not
//! hold the conversation up: the turn goes on, and says why there is no file.

use std::time::Duration;

use domain::connection::State;
use domain::conversation::{Conversation, LATE_AFTER};
use domain::ids::{AgentId, MessageId, MessageKey, Wamid};
use domain::message::{Content, Event, Media, Message};
use domain::time::Timestamp;
use meta::fault::Class;
use meta::graph::{DownloadError, FileHash, Graph};
use sha2::{Digest, Sha256};

use crate::blobs::{BlobError, Blobs};
use crate::connections::{self, CHECK};
use crate::counts::Counts;
use crate::directory::{Directory, DirectoryError, KnownConnection};
use crate::jobs::{GatheredMessage, MediaJob, MediaTask, Missing, Transcript, Turn, TurnFile};
use crate::outbox::credentials;
use crate::owed;
use crate::queues::{Queue, QueueError, Queues};
use crate::redelivery::{Delivery, Progress, Retryable};
use crate::store::{
    Attachment, FileItem, Found, HandedOver, MessageItem, Room, Sorted, SpeechToText, Store, StoreError, StoredFile, inbound_object,
};
use crate::transcripts::{self, AUDIO_LIMIT, Heard, Unheard, transcribe};
use crate::turns;
use crate::vault::{AdditionalData, Secret, Vault};
use crate::web::Web;

/// How long a turn's link to its file is good.
pub const LINK_FOR: Duration = Duration::from_hours(1);
/// What fails is tried again after so many seconds each time, a minute in all; then the turn goes on without its file.
const PAUSES: [u64; 6] = [1, 2, 4, 8, 15, 30];
/// A message that is not kept yet will be in a moment.
const SOON: Duration = Duration::from_secs(1);
/// So many voice messages of one agent are made out at once, of those that began within a minute: an endpoint that hangs leaves room for others.
const SPEECH_AT_ONCE: i64 = 10;
const A_MINUTE: Duration = Duration::from_mins(1);
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
            Self::TooLarge => {
                ("media_too_large", "The file is larger than the 100 MB that WhatsApp passes on. Ask for a smaller one, or a link.")
            }
            Self::Refused => ("media_refused", "Meta does not give us this file. See the connection's health."),
            Self::Unavailable => (
                "media_unavailable",
                "Meta did not give us this file within a minute. It can be fetched again while Meta keeps it: seven days.",
            ),
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
    async fn fetch_for_people(&self, job: &MediaJob, media: &Media, delivery: &Delivery, now: Timestamp) -> Result<Progress, MediaError> {
        let Some(conversation) = self.conversation(&job.message).await? else { return Ok(Progress::Done) };
        let Some(known) = self.directory.connection_afresh(&job.connection, now).await? else { return Ok(Progress::Done) };
        if self.is_erased(&conversation, &job.message).await? {
            return Ok(Progress::Done);
        }
        if known.connection.lifecycle.state == State::Error {
            // Meta is not asked with a token that it refuses. An owed turn has it fetched later; so has whoever asks for it.
            let missing = Some(Absence::Refused.told());
            let item = FileItem { at: now, file: None, missing, transcript: None };
            if self.store.file(&job.message).await?.is_none() {
                self.store.keep_file(&job.message, &item, known.connection.files_kept_for()).await?;
            }
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
        let Some(mut conversation) = self.conversation(key).await? else { return Ok(Progress::Done) };
        let Some(known) = self.directory.connection(&job.connection, now).await? else { return Ok(Progress::Done) };
        let mut kept = self.store.message(conversation.everywhere(), key.at, &key.id).await?;
        if kept.as_ref().is_some_and(is_told_with_another) {
            return self.settle(&conversation, key).await;
        }
        if kept.as_ref().is_some_and(|it| owed::is_deleted(&it.1)) {
            // What was to be told in its turn is told by itself.
            let behind = self.told_with(&conversation, key).await?;
            if behind.is_empty() {
                return self.settle(&conversation, key).await;
            }
            return self.pass_on(&conversation, key, &turn.agent, &behind, &known, now).await;
        }
        let mut attachment = self.store.attachment(&job.connection, &turn.agent).await?;
        let mut turn = turn.clone();
        if let Some(media) = turn.content.media().filter(|it| it.id.is_some()).cloned() {
            let known = self.directory.connection_afresh(&job.connection, now).await?.unwrap_or_else(|| known.clone());
            if known.connection.lifecycle.state == State::Error {
                return self.owe(&conversation, key, &turn.agent, std::slice::from_ref(key), now).await;
            }
            let Some(item) = self.file(job, &media, turn.content.kind(), &known, delivery, now).await? else {
                return Ok(Progress::Wait(pause(delivery)));
            };
            let item = match &attachment {
                Some(attachment) => self.transcribed(key, item, &turn, attachment, &known, is_last_try(delivery), now).await?,
                None => Some(item),
            };
            let Some(item) = item else { return Ok(Progress::Wait(pause(delivery))) };
            turn.file = Some(self.told(&item, &media, now).await?);
            turn.transcript = item.transcript;
            // That may have taken minutes: what holds by now decides.
            let Some(it) = self.conversation(key).await? else { return Ok(Progress::Done) };
            conversation = it;
            kept = self.store.message(conversation.everywhere(), key.at, &key.id).await?;
            if kept.as_ref().is_some_and(|it| owed::is_deleted(&it.1)) {
                return self.settle(&conversation, key).await;
            }
            attachment = self.store.attachment(&job.connection, &turn.agent).await?;
        }
        let Some(attachment) = attachment else { return self.miss(&conversation, key).await };
        if conversation.has_person(now) {
            return self.miss(&conversation, key).await;
        }
        let queued_at = delivery.sent_at_ms.map_or(job.queued_at, Timestamp::from_millis);
        let must_wait = owed::must_wait(self.store, &conversation, key, kept.as_ref().map(|it| &it.1), queued_at).await?;
        if must_wait || attachment.down_since.is_some() {
            let mut messages = vec![key.clone()];
            messages.extend(self.told_with(&conversation, key).await?);
            return if attachment.down_since.is_some() {
                self.owe(&conversation, key, &turn.agent, &messages, now).await
            } else {
                self.pass_on(&conversation, key, &turn.agent, &messages, &known, now).await
            };
        }
        if let Some(wait) = self.gather(job, &mut turn, &conversation, &attachment, kept.as_ref(), now).await? {
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
        Ok(self.store.message(conversation.everywhere(), key.at, &key.id).await?.is_some_and(|it| owed::is_deleted(&it.1)))
    }

    /// What was under way is done: what comes next goes straight to the agent, if nothing has followed.
    async fn settle(&self, conversation: &Conversation, key: &MessageKey) -> Result<Progress, MediaError> {
        self.store.change_conversation(&conversation.id, |it| it.out_of_media(key)).await?;
        Ok(Progress::Done)
    }

    /// Nobody takes the turn now: the next one names its message as missed.
    async fn miss(&self, conversation: &Conversation, key: &MessageKey) -> Result<Progress, MediaError> {
        let behind = self.told_with(conversation, key).await?;
        let missed = |it: &mut Conversation| std::iter::once(key).chain(&behind).for_each(|key| it.miss(key));
        self.store.change_conversation(&conversation.id, missed).await?;
        self.settle(conversation, key).await
    }

    /// These messages are owed, and nobody hands them over by now.
    async fn owe(
        &self,
        conversation: &Conversation,
        key: &MessageKey,
        agent: &AgentId,
        messages: &[MessageKey],
        now: Timestamp,
    ) -> Result<Progress, MediaError> {
        if !owed::owe(self.store, conversation, agent, messages, now).await? {
            return Ok(Progress::Wait(SOON));
        }
        self.settle(conversation, key).await
    }

    /// These messages are owed, and are handed over behind what was owed before them.
    async fn pass_on(
        &self,
        conversation: &Conversation,
        key: &MessageKey,
        agent: &AgentId,
        messages: &[MessageKey],
        known: &KnownConnection,
        now: Timestamp,
    ) -> Result<Progress, MediaError> {
        let owed = self.owe(conversation, key, agent, messages, now).await?;
        connections::probe(self.queues, &known.connection, connections::OWED, now).await?;
        Ok(owed)
    }

    /// The messages that were to be told in the turn of this one: whoever named them may have died before it was told.
    async fn told_with(&self, conversation: &Conversation, key: &MessageKey) -> Result<Vec<MessageKey>, MediaError> {
        let behind = self.store.messages(conversation.everywhere(), key.at, Timestamp::MAX).await?;
        let is_named = |item: &MessageItem| matches!(item, MessageItem::Inbound(it) if it.told_with.as_ref() == Some(&key.id));
        Ok(behind.into_iter().filter(|it| it.0.id != key.id && is_named(&it.1)).map(|it| it.0).collect())
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
        let is_last_try = is_last_try(delivery);
        let (file, missing) = match self.fetch(job, media, kind, known, delivery).await? {
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

    /// One try to bring a file from Meta into the bucket.
    async fn fetch(
        &self,
        job: &MediaJob,
        media: &Media,
        kind: &str,
        known: &KnownConnection,
        delivery: &Delivery,
    ) -> Result<Fetched, MediaError> {
        let Some(id) = &media.id else { return Ok(Fetched::Absent(Absence::Expired)) };
        let (connection, opens) = (&known.connection.id, credentials(known));
        let record = match self.graph.media(&job.number, &opens, id).await {
            Ok(it) => it,
            Err(unread) => return Ok(unknown_media(unread.class)),
        };
        let undownloaded = |why: DownloadError| {
            tracing::info!(connection.id = %connection, "a customer's file is not fetched: {why}");
            without_file(why)
        };
        let mut download = match self.graph.download(&opens, &record.url).await {
            Ok(it) => it,
            Err(why) => return Ok(undownloaded(why)),
        };
        let mime_type = safe_mime_type(media.mime_type.clone().or(record.mime_type));
        let key = inbound_object(connection, &job.message);
        let (mut upload, mut hash) = (self.blobs.begin(&key, &mime_type), Sha256::new());
        let broken = loop {
            match download.chunk().await {
                Ok(Some(chunk)) => {
                    hash.update(&chunk);
                    if let Err(error) = upload.push(&chunk).await {
                        return Ok(not_put(&error));
                    }
                }
                Ok(None) => break None,
                Err(why) => break Some(why),
            }
        };
        if let Some(why) = broken {
            // What is not given up here goes after a day.
            drop(upload.abort().await);
            return Ok(undownloaded(why));
        }
        let hash = FileHash::new(hash.finalize().into());
        let announced = media.sha256.as_deref().and_then(FileHash::parse).or(record.sha256);
        let differs = announced.is_some_and(|it| it != hash);
        if differs && delivery.receive_count <= 1 {
            // What Meta gives the second time is kept, and said to differ.
            drop(upload.abort().await);
            return Ok(Fetched::Again);
        }
        let size = match upload.finish().await {
            Ok(it) => it,
            Err(error) => return Ok(not_put(&error)),
        };
        let filename = safe_filename(media.filename.as_deref(), kind, &mime_type);
        Ok(Fetched::Here(StoredFile { key, mime_type, size, sha256: hash.to_string(), filename, differs }))
    }

    /// What was said in a voice message, if the agent has that made out: once, whoever asks again. Nothing while too much is made out for it.
    #[expect(clippy::too_many_arguments, reason = "a file, whose it is, and when; a struct for it would be used once")]
    async fn transcribed(
        &self,
        key: &MessageKey,
        item: FileItem,
        turn: &Turn,
        attachment: &Attachment,
        known: &KnownConnection,
        is_last_try: bool,
        now: Timestamp,
    ) -> Result<Option<FileItem>, MediaError> {
        let is_voice = matches!(&turn.content, Content::Audio(it) if it.voice);
        let (Some(by), Some(file)) = (&attachment.speech_to_text, item.file.as_ref().filter(|_| is_voice && item.transcript.is_none()))
        else {
            return Ok(Some(item));
        };
        let room = Room::of("speech", SPEECH_AT_ONCE, A_MINUTE, now);
        if !is_last_try && !self.store.endpoint_has_room(attachment, room, now.plus(A_MINUTE * 2)).await? {
            return Ok(None);
        }
        let heard = self.heard(by, file, attachment).await;
        if !is_last_try && self.store.endpoint_is_left(attachment, room).await.is_err() {
            self.counts.one("media.not_left");
        }
        let heard = match heard {
            Err(error) if is_last_try => {
                tracing::error!(connection.id = %known.connection.id, error.code = error.code(), "a voice message is not transcribed: {error}");
                Err(Unheard::Failed { why: error.code().to_owned() })
            }
            it => it?,
        };
        let transcript = match heard {
            Ok(it) => Transcript { text: Some(it.text), missing: None },
            Err(why) => Transcript { text: None, missing: Some(Missing { code: why.code().to_owned(), note: why.note() }) },
        };
        let item = FileItem { transcript: Some(transcript), ..item };
        self.store.keep_file(key, &item, known.connection.files_kept_for()).await?;
        Ok(Some(item))
    }

    async fn heard(&self, by: &SpeechToText, file: &StoredFile, attachment: &Attachment) -> Result<Result<Heard, Unheard>, MediaError> {
        if file.size > AUDIO_LIMIT as u64 {
            return Ok(Err(Unheard::TooLong));
        }
        let Some(mut blob) = self.blobs.get(&file.key).await? else { return Ok(Err(Unheard::Unreadable)) };
        let mut audio = Vec::new();
        while let Some(it) = blob.chunk().await? {
            audio.extend_from_slice(&it);
        }
        let key = match &by.key {
            Some(sealed) => {
                let field = AdditionalData::of_attachment(attachment.connection.as_str(), attachment.agent.as_str(), "speech_to_text_key");
                self.vault.open(sealed, &field).await.map_err(|source| DirectoryError::Vault { what: "agent", source })?
            }
            None => Secret::new(String::new()),
        };
        let by = transcripts::SpeechToText { url: by.url.clone(), model: by.model.clone(), language: by.language.clone() };
        Ok(transcribe(self.web, &by, &key, audio, &file.mime_type).await)
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
        kept: Option<&Sorted>,
        now: Timestamp,
    ) -> Result<Option<Duration>, MediaError> {
        let key = &job.message;
        let Content::Text { text } = &turn.content else { return Ok(None) };
        if attachment.quiet_ms == 0 || turn.quoted.is_some() || turn.referral.is_some() || kept.is_some_and(|it| owed::is_owed(&it.1)) {
            return Ok(None);
        }
        let Some((_, MessageItem::Inbound(own))) = kept else { return Ok(Some(SOON)) };
        // Of one second of Meta's any may have come first: what was heard earlier has been told.
        let mut behind = self.store.messages(conversation.everywhere(), key.at, Timestamp::MAX).await?;
        // Of one second of Meta's, what was heard first was said first.
        behind.sort_by_key(|it| (it.0.at, heard_at(&it.1)));
        let behind = behind.into_iter().filter(|it| it.0.id != key.id).filter(|it| heard_at(&it.1) >= Some(own.heard_at));
        let behind = behind.map_while(|it| gathered(it, turn)).filter(|it| it.with.as_ref().is_none_or(|with| *with == key.id));
        let mut run: Vec<Gathered> = behind.take(GATHERED_AT_MOST - 1).collect();
        if own.told_with.is_some() {
            // It was told before, or was about to be: a repeat tells the same messages as one turn.
            run.retain(|it| it.with.is_some());
        } else {
            let quiet = Duration::from_millis(u64::from(attachment.quiet_ms));
            let last = run.iter().map(|it| it.heard_at).max().unwrap_or(own.heard_at);
            let closes = conversation.window(&job.number).closes_at().map_or(Timestamp::MAX, |it| it.minus(SOON));
            let until = last.plus(quiet).min(own.heard_at.plus(quiet * WAITS)).min(closes);
            if now < until && run.len() + 1 < GATHERED_AT_MOST {
                return Ok(Some(until.since(now)));
            }
            // Itself last: then the others are named.
            for it in run.iter().map(|it| &it.key).chain([key]) {
                self.store.tell_with(it, &key.id).await?;
            }
        }
        if run.is_empty() {
            return Ok(None);
        }
        let mut words = text.clone();
        turn.gathered = vec![GatheredMessage { wamid: turn.wamid.clone(), at: turn.at }];
        for it in run {
            words.push('\n');
            words.push_str(&it.text);
            turn.gathered.push(GatheredMessage { wamid: it.wamid, at: it.key.at });
        }
        turn.content = Content::Text { text: words };
        Ok(None)
    }
}

/// A plain text that may become one turn with the one before it.
struct Gathered {
    key: MessageKey,
    wamid: Wamid,
    text: String,
    heard_at: Timestamp,
    /// The message in whose turn it was told.
    with: Option<MessageId>,
}

fn gathered((key, item): Sorted, turn: &Turn) -> Option<Gathered> {
    let MessageItem::Inbound(inbound) = item else { return None };
    let is_handed = matches!(&inbound.handed, HandedOver::Agent(it) if *it == turn.agent) && inbound.number == turn.number;
    match inbound.event() {
        Some(Event::Message(Message { wamid, content: Content::Text { text }, quoted: None, referral: None, .. })) if is_handed => {
            Some(Gathered { key, wamid, text, heard_at: inbound.heard_at, with: inbound.told_with })
        }
        _ => None,
    }
}

/// Was it told in the turn of another one?
fn is_told_with_another((key, item): &Sorted) -> bool {
    matches!(item, MessageItem::Inbound(it) if it.told_with.as_ref().is_some_and(|with| *with != key.id))
}

fn heard_at(item: &MessageItem) -> Option<Timestamp> {
    match item {
        MessageItem::Inbound(it) => Some(it.heard_at),
        MessageItem::Outbound(_) | MessageItem::Body { .. } | MessageItem::File(_) | MessageItem::Shell => None,
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

/// What follows when Meta does not give a file.
fn without_file(why: DownloadError) -> Fetched {
    match why {
        // Its address lives for five minutes: it is looked up anew the next time.
        DownloadError::Gone | DownloadError::Trouble { .. } => Fetched::Again,
        DownloadError::Credentials => Fetched::Credentials,
        DownloadError::TooLarge => Fetched::Absent(Absence::TooLarge),
        DownloadError::Address | DownloadError::Refused { .. } => Fetched::Absent(Absence::Refused),
    }
}

fn pause(delivery: &Delivery) -> Duration {
    let index = usize::try_from(delivery.receive_count.saturating_sub(1)).unwrap_or(usize::MAX).min(PAUSES.len() - 1);
    Duration::from_secs(PAUSES[index])
}

/// A file that the bucket did not take is fetched once more: what does not come within a minute holds nobody up.
fn not_put(error: &BlobError) -> Fetched {
    tracing::error!(error.code = error.code(), "a customer's file is not kept: {error}");
    Fetched::Again
}

fn is_last_try(delivery: &Delivery) -> bool {
    usize::try_from(delivery.receive_count).unwrap_or(usize::MAX) > PAUSES.len()
}

/// The MIME type, which is any text at all of the customer's, if it can be one.
fn safe_mime_type(text: Option<String>) -> String {
    const LONGEST: usize = 255;
    let is_type = |it: &String| it.len() <= LONGEST && it.contains('/') && it.bytes().all(|it| it == b' ' || it.is_ascii_graphic());
    text.filter(is_type).unwrap_or_else(|| "application/octet-stream".to_owned())
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
