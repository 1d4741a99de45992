//! Turns of agents that listen on HTTPS: told as signed requests, whose answers may carry replies.
//!
//! A turn that is told twice has the same `webhook-id`, and the replies of both answers have the same ids, so that each goes out once. What
//! the agent has not taken is told again, each conversation in its order; an endpoint that goes on failing is down, and its turns are owed.

use std::convert::Infallible;
use std::time::Duration;

use domain::connection::Sending;
use domain::conversation::{Author as Who, Conversation};
use domain::ids::{Malformed, MessageKey, Wamid};
use domain::outgoing::Outgoing;
use domain::time::Timestamp;
use futures::future::{Either, select};
use meta::graph::Graph;
use meta::outgoing::check;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::connections::{self, ConnectionError};
use crate::counts::Counts;
use crate::directory::{Directory, DirectoryError, KnownConnection};
use crate::endpoints::{self, Untaken};
use crate::feed::{self, body};
use crate::jobs::{AnswerProblem, Author, Happened, MarkRead, Reply, Turn, V1};
use crate::outbox::credentials;
use crate::owed;
use crate::queues::{Entry, Queue, QueueError, Queues};
use crate::redelivery::{Delivery, Progress, Retryable};
use crate::store::{Attachment, DownBecause, Endpoint, Found, Room, Store, StoreError};
use crate::vault::{Vault, VaultError};
use crate::web::{Answer, Web, WebError};

/// How long an agent has to answer a turn.
pub const ANSWERS_WITHIN: Duration = Duration::from_secs(25);
/// What an endpoint did not take is told again after so many seconds each time.
const PAUSES: [u64; 6] = [1, 2, 4, 8, 15, 30];
/// An endpoint that has failed so often in a row is down.
const FAILURES: u16 = 6;
/// A turn that was not taken so often, and for so long, is given up: the endpoint takes others, or answers pings, in between.
const TRIES: u32 = 18;
const TRIED_FOR: Duration = Duration::from_mins(30);
/// One answer may hold so many replies, and so many of its faults are told.
const REPLIES: usize = 20;
const PROBLEMS: usize = 20;
/// Longest name of a fault's place, in characters.
const PLACE_LIMIT: usize = 100;
/// So many turns of one agent are under way at once, of those that began within the same half minute, which none outlasts: an endpoint that
/// hangs, or thinks long of many, leaves room for others.
const AT_ONCE: i64 = 25;
const HALF_A_MINUTE: Duration = Duration::from_secs(30);
/// Where there is no room, it is looked for again after a second, and later less and less often. A thousand times are most of a day.
const LONGEST_WAIT: u64 = 60;
/// A message that is not kept yet will be in a moment.
const SOON: Duration = Duration::from_secs(1);

/// Why a turn was not told.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// The job names no message.
    #[error("a turn names no message")]
    Malformed {
        /// The cause.
        #[source]
        source: Malformed,
    },
    /// The store failed.
    #[error("what belongs to a turn could not be read or kept")]
    Store {
        /// The cause.
        #[from]
        source: StoreError,
    },
    /// The connection could not be looked up.
    #[error("the connection of a turn could not be looked up")]
    Directory {
        /// The cause.
        #[from]
        source: DirectoryError,
    },
    /// The secret of the agent's endpoint could not be opened.
    #[error("a turn could not be signed")]
    Vault {
        /// The cause.
        #[from]
        source: VaultError,
    },
    /// The replies, or what is told of the answer, were not taken.
    #[error("the answer to a turn could not be handed on")]
    Queue {
        /// The cause.
        #[from]
        source: QueueError,
    },
    /// That the endpoint is down was not told.
    #[error("how an agent's endpoint stands could not be told")]
    Tell {
        /// The cause.
        #[from]
        source: ConnectionError,
    },
}

impl Retryable for BridgeError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Malformed { .. } => false,
            Self::Store { source } => source.is_retryable(),
            Self::Directory { source } => source.is_retryable(),
            Self::Vault { source } => source.is_retryable(),
            Self::Queue { source } => source.is_retryable(),
            Self::Tell { source } => source.is_retryable(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed_turn",
            Self::Store { source } => source.code(),
            Self::Directory { source } => source.code(),
            Self::Vault { source } => source.code(),
            Self::Queue { source } => source.code(),
            Self::Tell { source } => source.code(),
        }
    }
}

/// The handles of what tells turns to agents.
pub struct Bridge<'a> {
    /// Conversations, messages and agents.
    pub store: &'a Store,
    /// Replies, probes and the feed.
    pub queues: &'a Queues,
    /// Connections with their tokens.
    pub directory: &'a Directory,
    /// What opens the secrets of endpoints.
    pub vault: &'a Vault,
    /// Meta: the customer sees that an answer is being written.
    pub graph: &'a Graph,
    /// Where agents listen.
    pub web: &'a Web,
    /// What is counted.
    pub counts: &'a Counts,
    /// The time: an agent thinks for seconds.
    pub clock: Clock<'a>,
}

/// A turn, and whom it is told.
struct Telling<'a> {
    turn: &'a Turn,
    key: &'a MessageKey,
    conversation: &'a Conversation,
    known: &'a KnownConnection,
    attachment: &'a Attachment,
    endpoint: &'a Endpoint,
}

impl Bridge<'_> {
    /// Tells an agent a turn, and hands on what it answers.
    ///
    /// # Errors
    /// [`BridgeError`]: the next delivery goes on.
    pub async fn tell(&self, turn: &Turn, delivery: &Delivery) -> Result<Progress, BridgeError> {
        let now = self.clock.now();
        let key = MessageKey::parse(&turn.turn).map_err(|source| BridgeError::Malformed { source })?;
        let Some(conversation) = self.conversation(&key).await? else { return Ok(Progress::Done) };
        let Some(known) = self.directory.connection(&turn.connection, now).await? else { return Ok(Progress::Done) };
        let kept = self.store.message(conversation.everywhere(), key.at, &key.id).await?.map(|it| it.1);
        if turn.gathered.is_empty() && kept.as_ref().is_some_and(owed::is_deleted) {
            return Ok(Progress::Done);
        }
        if conversation.has_person(now) {
            return self.miss(&conversation, turn).await;
        }
        let attachment = self.store.attachment(&turn.connection, &turn.agent).await?.filter(|it| it.inbound);
        let Some((attachment, endpoint)) = attachment.and_then(|it| Some((it.clone(), it.endpoint?))) else {
            // It goes the way that there is now, to the agent that there is now.
            return self.pass_on(&conversation, turn, &known, now).await;
        };
        if !turn.gathered.is_empty() && owed::left_of(self.store, &conversation, turn).await?.len() < turn.gathered.len() {
            // It tells what the customer has deleted: what is left of it is told piece by piece.
            return self.pass_on(&conversation, turn, &known, now).await;
        }
        if attachment.down_since.is_some() {
            endpoints::tell_down(self.store, self.queues, &known.connection, &attachment).await?;
            return self.owe(&conversation, turn, now).await;
        }
        let queued_at = delivery.sent_at_ms.map_or(now, Timestamp::from_millis);
        if owed::must_wait(self.store, &conversation, &key, kept.as_ref(), queued_at).await? {
            return self.pass_on(&conversation, turn, &known, now).await;
        }
        let telling = Telling { turn, key: &key, conversation: &conversation, known: &known, attachment: &attachment, endpoint: &endpoint };
        let room = Room::of("turns", AT_ONCE, HALF_A_MINUTE, now);
        if !self.store.endpoint_has_room(&attachment, room, now.plus(HALF_A_MINUTE * 2)).await? {
            self.counts.one("bridge.waits");
            return Ok(Progress::Wait(Duration::from_secs(u64::from(delivery.receive_count).clamp(1, LONGEST_WAIT))));
        }
        let asked = self.ask(&telling).await;
        if self.store.endpoint_is_left(&attachment, room).await.is_err() {
            // The turn is told: its place becomes free with the half minute.
            self.counts.one("bridge.not_left");
        }
        match asked? {
            Ok(answer) => self.taken(&telling, &answer).await,
            Err(untaken) => self.untaken(&telling, untaken, delivery).await,
        }
    }

    /// The conversation of a message, where it is now; nothing if its data were erased.
    async fn conversation(&self, key: &MessageKey) -> Result<Option<Conversation>, StoreError> {
        Ok(match self.store.find_conversation(&key.conversation).await? {
            Found::Live(it) => Some(it.conversation).filter(|it| !it.is_erased_before(key.at)),
            Found::Shell(..) | Found::Nothing => None,
        })
    }

    /// Nobody takes the turn now: the next one names its messages as missed.
    async fn miss(&self, conversation: &Conversation, turn: &Turn) -> Result<Progress, BridgeError> {
        let messages = owed::messages_of(turn);
        self.store.change_conversation(&conversation.id, |conversation| messages.iter().for_each(|it| conversation.miss(it))).await?;
        Ok(Progress::Done)
    }

    async fn owe(&self, conversation: &Conversation, turn: &Turn, now: Timestamp) -> Result<Progress, BridgeError> {
        self.counts.one("bridge.owed");
        let left = owed::left_of(self.store, conversation, turn).await?;
        let is_owed = owed::owe(self.store, conversation, &turn.agent, &left, now).await?;
        Ok(if is_owed { Progress::Done } else { Progress::Wait(SOON) })
    }

    /// The turn is owed, and is handed over behind what was owed before it.
    async fn pass_on(
        &self,
        conversation: &Conversation,
        turn: &Turn,
        known: &KnownConnection,
        now: Timestamp,
    ) -> Result<Progress, BridgeError> {
        let owed = self.owe(conversation, turn, now).await?;
        if owed == Progress::Done {
            connections::probe(self.queues, &known.connection, connections::OWED, now).await?;
        }
        Ok(owed)
    }

    /// Posts the turn. Until the answer comes, the customer sees that one is being written.
    async fn ask(&self, telling: &Telling<'_>) -> Result<Result<Answer, Untaken>, VaultError> {
        let asked_at = self.clock.now();
        let told = json!({ "type": "turn", "data": telling.turn }).to_string();
        let to = (telling.attachment, telling.endpoint);
        let posted = endpoints::post((self.web, self.vault), to, telling.key.id.as_str(), told, ANSWERS_WITHIN, asked_at);
        let beside = async {
            let over = self.clock.until(asked_at.plus(ANSWERS_WITHIN));
            match select(Box::pin(over), Box::pin(self.shows_typing(telling))).await {
                Either::Left(((), _)) => {}
                Either::Right((never, _)) => match never {},
            }
        };
        match select(Box::pin(posted), Box::pin(beside)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(((), _)) => Ok(Err(Untaken::Unanswered(WebError::Timeout))),
        }
    }

    /// Shows the customer that an answer is being written, for 25 seconds, and never ends. A courtesy: nothing hangs on it.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/typing-indicators>
    async fn shows_typing(&self, telling: &Telling<'_>) -> Infallible {
        let Telling { turn, conversation, known, .. } = telling;
        let now = self.clock.now();
        let runs = known.connection.lifecycle.sending(now) == Sending::Allowed;
        if runs && conversation.admit_reply(Who::Agent, &known.connection.numbers, now).is_ok() {
            let newest = turn.gathered.last().map_or(&turn.wamid, |it| &it.wamid);
            let marked = self.graph.mark_read(&turn.number, &credentials(known), newest, true).await;
            if marked.is_err() {
                self.counts.one("read.not_marked");
            }
        }
        std::future::pending().await
    }

    /// The agent has taken the turn: what it answers is sent.
    async fn taken(&self, telling: &Telling<'_>, answer: &Answer) -> Result<Progress, BridgeError> {
        let Telling { turn, attachment, endpoint, .. } = telling;
        self.counts.one("bridge.taken");
        let (replies, problems) = replies(turn, &answer.body);
        let entries = replies.iter().map(|it| {
            let deduplication = Some(format!("{}/{}", turn.turn, it.index));
            Entry { body: body(it), group: Some(turn.conversation.to_string()), deduplication }
        });
        self.queues.send(Queue::Replies, entries.collect()).await?;
        if !problems.is_empty() {
            self.tell_problems(telling, problems).await?;
        }
        if attachment.failures > 0 {
            self.store.endpoint_took(attachment, &endpoint.url).await?;
        }
        Ok(Progress::Done)
    }

    /// Says what of an answer was not sent. It is not asked for again: the agent has seen the turn.
    async fn tell_problems(&self, telling: &Telling<'_>, problems: Vec<AnswerProblem>) -> Result<(), BridgeError> {
        let Telling { turn, known, key, .. } = telling;
        self.counts.one("bridge.answer_refused");
        let agent = &turn.agent;
        let first = problems.first().map(|it| format!("{} {}", it.place, it.note)).unwrap_or_default();
        let line = format!("What agent {agent} answers is not all sent: {}", first.trim_start());
        // Many answers of one minute have the same fault.
        self.store.log(&turn.connection, self.minute(), &line).await?;
        let (agent, conversation) = (agent.clone(), turn.conversation.clone());
        let what = Happened::AgentAnswerRefused { agent, conversation, turn: turn.turn.clone(), problems };
        let parts = ["answer", turn.turn.as_str()];
        Ok(feed::tell(self.queues, &known.connection.tenant, &turn.connection, key.at, &parts, what).await?)
    }

    /// The agent has not taken the turn: it is told again, unless the endpoint is down.
    async fn untaken(&self, telling: &Telling<'_>, untaken: Untaken, delivery: &Delivery) -> Result<Progress, BridgeError> {
        let Telling { turn, conversation, known, attachment, endpoint, key } = telling;
        let (now, because) = (self.clock.now(), untaken.because());
        self.counts.one("bridge.untaken");
        tracing::info!(connection.id = %turn.connection, agent.id = %turn.agent, code = because.code, "an agent did not take a turn: {}", because.code);
        let tried = self.store.turn_untaken(key, now).await?;
        if tried.is_some_and(|it| it.times >= TRIES && now.since(it.since) >= TRIED_FOR) {
            return self.give_up(telling, because).await;
        }
        let Some(failed) = self.store.endpoint_failed(attachment, &endpoint.url).await? else {
            // It was changed meanwhile, or is known to be down.
            return Ok(Progress::Wait(SOON));
        };
        if failed.failures < FAILURES && !untaken.is_for_good() {
            return Ok(Progress::Wait(pause(delivery)));
        }
        if let Some(down) = self.store.endpoint_down(attachment, &endpoint.url, &because, now).await? {
            endpoints::tell_down(self.store, self.queues, &known.connection, &down).await?;
        }
        self.owe(conversation, turn, now).await
    }

    /// The agent does not take this turn, whatever becomes of others: those behind it go on, and the next names it as missed.
    async fn give_up(&self, telling: &Telling<'_>, because: DownBecause) -> Result<Progress, BridgeError> {
        let Telling { turn, conversation, known, key, .. } = telling;
        self.counts.one("bridge.given_up");
        let (agent, at) = (&turn.agent, self.minute());
        let note = format!("Agent {agent} did not take a turn for half an hour: {}. The next one names it as missed.", because.why);
        self.store.log(&turn.connection, at, &note).await?;
        let (agent, conversation_id) = (agent.clone(), turn.conversation.clone());
        let what = Happened::AgentTurnGivenUp { agent, conversation: conversation_id, turn: turn.turn.clone(), code: because.code, note };
        feed::tell(self.queues, &known.connection.tenant, &turn.connection, key.at, &["given up", turn.turn.as_str()], what).await?;
        self.miss(conversation, turn).await
    }

    /// Now, by the minute: a line in the Logs that is written again within it is written once.
    fn minute(&self) -> Timestamp {
        let at = self.clock.now().as_millis();
        Timestamp::from_millis(at - at.rem_euclid(60_000))
    }
}

fn pause(delivery: &Delivery) -> Duration {
    let index = usize::try_from(delivery.receive_count.saturating_sub(1)).unwrap_or(usize::MAX).min(PAUSES.len() - 1);
    Duration::from_secs(PAUSES[index])
}

/// What an agent answers to a turn.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answered {
    #[serde(default)]
    replies: Vec<Value>,
}

/// One reply of an answer: a [`Reply`] without what the turn says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnsweredReply {
    #[serde(default)]
    message: Option<Outgoing>,
    #[serde(default)]
    quote: Option<Wamid>,
    #[serde(default)]
    read: Option<MarkRead>,
    #[serde(default)]
    handover: bool,
}

/// The replies of an answer that can be sent, each under its place in the list, and what is wrong with the others.
fn replies(turn: &Turn, answer: &[u8]) -> (Vec<Reply>, Vec<AnswerProblem>) {
    let whole = |note: &str| (Vec::new(), vec![AnswerProblem { place: String::new(), note: note.to_owned() }]);
    if answer.iter().all(u8::is_ascii_whitespace) {
        return (Vec::new(), Vec::new());
    }
    let Ok(value) = serde_json::from_slice::<Value>(answer) else {
        return whole("It is no JSON: answer nothing, or an object with `replies`.");
    };
    let Some(answered) = Some(value).filter(Value::is_object).and_then(|it| serde_json::from_value::<Answered>(it).ok()) else {
        return whole("It must be an object with a list of `replies`, and nothing else.");
    };
    let (mut replies, mut problems) = (Vec::new(), Vec::new());
    if answered.replies.len() > REPLIES {
        let note = format!(
            "It has {} replies: the first {REPLIES} are sent. Say the rest in the answer to the next turn.",
            answered.replies.len()
        );
        problems.push(AnswerProblem { place: "replies".to_owned(), note });
    }
    for (index, value) in (0..=u16::MAX).zip(answered.replies.into_iter().take(REPLIES)) {
        match reply(turn, index, value) {
            Ok(it) => replies.push(it),
            Err(found) => problems.extend(found),
        }
    }
    problems.truncate(PROBLEMS);
    for it in &mut problems {
        it.place = it.place.chars().take(PLACE_LIMIT).collect();
    }
    (replies, problems)
}

fn sentence(advice: &str) -> String {
    format!("It {advice}.")
}

fn reply(turn: &Turn, index: u16, value: Value) -> Result<Reply, Vec<AnswerProblem>> {
    let problem = |member: &str, note: String| AnswerProblem { place: format!("replies[{index}]{member}"), note };
    if !value.is_object() {
        return Err(vec![problem("", "It must be an object.".to_owned())]);
    }
    let it: AnsweredReply = serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let member = if path == "." { String::new() } else { format!(".{path}") };
        vec![problem(&member, "It is not as the schema of replies says.".to_owned())]
    })?;
    if it.message.is_none() && it.read.is_none() && !it.handover {
        return Err(vec![problem("", "It says nothing: give `message`, `read` or `handover`.".to_owned())]);
    }
    if let Some(Err(found)) = it.message.as_ref().map(check) {
        return Err(found.into_iter().map(|it| problem(&format!(".message.{}", it.member), sentence(&it.advice))).collect());
    }
    Ok(Reply {
        v: V1,
        connection: turn.connection.clone(),
        conversation: turn.conversation.clone(),
        author: Author::Agent(turn.agent.clone()),
        turn: Some(turn.turn.clone()),
        index,
        id: None,
        message: it.message,
        quote: it.quote,
        read: it.read,
        handover: it.handover,
        resends: None,
    })
}
