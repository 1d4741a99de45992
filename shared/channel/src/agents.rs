//! Agents on connections: which may send through them, which of them takes the turns, and how.

use domain::connection::Connection;
use domain::ids::{AgentId, ConnectionId};
use domain::time::Timestamp;

use crate::connections::{self, ConnectionError, MaskedSecret, OWED};
use crate::endpoints::{self, SECRET_OVERLAP};
use crate::queues::Queues;
use crate::store::{Attachment, Endpoint, RACES, SpeechToText, Store, StoreError};
use crate::vault::{AdditionalData, Secret, Vault};
use crate::web::Address;

/// Longest address, in bytes.
const URL_LIMIT: usize = 2_000;
/// Longest name of a model, in characters.
const MODEL_LIMIT: usize = 100;
/// Longest key of a transcription endpoint, in bytes.
const KEY_LIMIT: usize = 2_048;
/// Longest quiet time, in milliseconds.
pub const QUIET_LIMIT: u64 = 3_000;

/// How an agent's turns reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// Over `turns.fifo`.
    Turns,
    /// To this address.
    Https {
        /// The address.
        url: String,
    },
}

/// What a person says of an agent on a connection; what is absent stays, or is as it is for a new one.
#[derive(Debug, Clone, Default)]
pub struct AgentEdit {
    /// Does it take the turns? A new one does.
    pub inbound: Option<bool>,
    /// How its turns reach it: a new one's over `turns.fifo`.
    pub delivery: Option<Delivery>,
    /// What turns voice messages into words for it; `Some(None)` to have it without.
    pub speech_to_text: Option<Option<SpeechToTextEdit>>,
    /// For how many milliseconds it is waited whether the customer goes on writing.
    pub quiet_ms: Option<u64>,
    /// Another secret is made for its endpoint, and the one before holds beside it for a day.
    pub rotate_secret: bool,
}

/// A transcription endpoint as a person enters it.
#[derive(Debug, Clone)]
pub struct SpeechToTextEdit {
    /// Its address.
    pub url: String,
    /// The model that is asked for.
    pub model: String,
    /// The language that is spoken.
    pub language: Option<String>,
    /// The key that opens it; the one that is there if it is absent or masked.
    pub key: Option<Secret>,
}

/// A field of an agent on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentField {
    /// The address of its endpoint.
    Url,
    /// The address of what turns speech into text.
    SpeechUrl,
    /// The model of it.
    SpeechModel,
    /// The language of it.
    SpeechLanguage,
    /// The key of it.
    SpeechKey,
    /// The quiet time.
    Quiet,
    /// Another secret.
    Rotate,
}

/// A field that cannot be as it was entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentProblem {
    /// The field.
    pub field: AgentField,
    /// The kind of problem: lower case with underscores.
    pub code: &'static str,
    /// What is wrong with it, and what to do. It repeats nothing that was entered.
    pub problem: String,
}

/// An agent on a connection as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentView {
    /// How it is attached.
    pub attachment: Attachment,
    /// What its turns are signed with.
    pub signing_secret: MaskedSecret,
    /// The same in clear: only where it was made just now.
    pub new_secret: Option<Secret>,
    /// The key of what turns speech into text for it.
    pub speech_key: MaskedSecret,
}

/// What came of the wish to attach an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attached {
    /// It is attached so.
    Done(Box<AgentView>),
    /// Another agent has Inbound: nothing has changed.
    Held {
        /// Which.
        holder: AgentId,
    },
    /// Some fields cannot be so: nothing has changed.
    Invalid(Vec<AgentProblem>),
}

/// What of an edit cannot be so, whatever agent it is for. Only on one machine addresses may be of this machine.
#[must_use]
pub fn check(edit: &AgentEdit, allow_loopback: bool) -> Vec<AgentProblem> {
    let mut problems = Problems(Vec::new());
    if let Some(Delivery::Https { url }) = &edit.delivery {
        problems.url(AgentField::Url, url, allow_loopback);
    }
    if let Some(Some(it)) = &edit.speech_to_text {
        problems.url(AgentField::SpeechUrl, &it.url, allow_loopback);
        problems.model(&it.model);
        problems.unless(
            it.language.as_ref().is_none_or(|it| it.len() == 2 && it.bytes().all(|it| it.is_ascii_lowercase())),
            (AgentField::SpeechLanguage, "malformed"),
            "It is no language of two small letters, as `es` or `en`. Leave it out to have the language found out.",
        );
        problems.unless(
            it.key.as_ref().is_none_or(|it| it.is_masked() || is_key(it)),
            (AgentField::SpeechKey, "malformed"),
            "It holds blanks or characters that no key has, or is too long. Copy it again, without anything around it.",
        );
    }
    problems.unless(
        edit.quiet_ms.is_none_or(|it| it <= QUIET_LIMIT),
        (AgentField::Quiet, "out_of_range"),
        &format!("It is 0 to {QUIET_LIMIT} milliseconds."),
    );
    problems.0
}

/// The same, its addresses as they are kept.
fn normalised(mut edit: AgentEdit, allow_loopback: bool) -> AgentEdit {
    let speech = edit.speech_to_text.as_mut().and_then(Option::as_mut).map(|it| &mut it.url);
    let own = match &mut edit.delivery {
        Some(Delivery::Https { url }) => Some(url),
        Some(Delivery::Turns) | None => None,
    };
    for url in own.into_iter().chain(speech) {
        if let Ok(it) = Address::parse(url, allow_loopback) {
            *url = it.as_str().to_owned();
        }
    }
    edit
}

/// Attaches an agent to a connection, or changes how it is attached. Without Inbound it may only send.
///
/// # Errors
/// [`ConnectionError`].
pub async fn attach(
    (store, queues, vault): (&Store, &Queues, &Vault),
    (connection, agent): (&Connection, &AgentId),
    edit: &AgentEdit,
    allow_loopback: bool,
    now: Timestamp,
) -> Result<Attached, ConnectionError> {
    let problems = check(edit, allow_loopback);
    if !problems.is_empty() {
        return Ok(Attached::Invalid(problems));
    }
    let edit = normalised(edit.clone(), allow_loopback);
    for _ in 0..RACES {
        let before = store.attachment(&connection.id, agent).await?;
        let blank = || Attachment::new(connection.id.clone(), agent.clone(), true);
        let (next, new_secret) = match changed(vault, before.clone().unwrap_or_else(blank), &edit, now).await? {
            Ok(it) => it,
            Err(problem) => return Ok(Attached::Invalid(vec![problem])),
        };
        if store.attach(connection, &next, before.as_ref()).await? {
            settle_inbound(store, &connection.id).await?;
            store.log(&connection.id, now, &line(&next)).await?;
            if before.as_ref().is_some_and(|it| it.down_since.is_some()) {
                see_to_what_was_down(store, queues, connection, agent, now).await?;
            } else if next.inbound && !before.as_ref().is_some_and(|it| it.inbound) {
                // What was owed to another is this one's.
                connections::probe(queues, connection, OWED, now).await?;
            }
            let attachment = store.attachment(&connection.id, agent).await?.unwrap_or(next);
            return Ok(Attached::Done(Box::new(AgentView { new_secret, ..view(vault, attachment).await? })));
        }
        if let Some(holder) = store.inbound_agent(&connection.id).await?.filter(|it| next.inbound && it != agent) {
            return Ok(Attached::Held { holder });
        }
    }
    Err(StoreError::Contended { what: "attachment" }.into())
}

/// An agent on a connection as it is shown.
///
/// # Errors
/// [`ConnectionError`].
pub async fn view(vault: &Vault, attachment: Attachment) -> Result<AgentView, ConnectionError> {
    let secret = attachment.endpoint.as_ref().map(|it| &it.secret);
    let signing_secret = connections::masked(vault, secret, &endpoints::of_secret(&attachment)).await?;
    let key = attachment.speech_to_text.as_ref().and_then(|it| it.key.as_ref());
    let speech_key = connections::masked(vault, key, &of_speech_key(&attachment)).await?;
    Ok(AgentView { attachment, signing_secret, new_secret: None, speech_key })
}

/// Takes an agent off a connection: it may send no more, and takes no turns. False if it was not attached.
///
/// # Errors
/// [`StoreError`].
pub async fn detach(store: &Store, connection: &Connection, agent: &AgentId, now: Timestamp) -> Result<bool, StoreError> {
    for _ in 0..RACES {
        if store.attachment(&connection.id, agent).await?.is_none() {
            return Ok(false);
        }
        if store.detach(connection, agent).await? {
            settle_inbound(store, &connection.id).await?;
            store.log(&connection.id, now, &format!("Agent {agent} is detached.")).await?;
            return Ok(true);
        }
    }
    Err(StoreError::Contended { what: "attachment" })
}

/// Of which field of an attachment the key of its transcription endpoint is.
pub(crate) fn of_speech_key(attachment: &Attachment) -> AdditionalData {
    AdditionalData::of_attachment(attachment.connection.as_str(), attachment.agent.as_str(), "speech_to_text_key")
}

/// The attachment with its changes, and the secret that was made for it, if one was.
async fn changed(
    vault: &Vault,
    mut it: Attachment,
    edit: &AgentEdit,
    now: Timestamp,
) -> Result<Result<(Attachment, Option<Secret>), AgentProblem>, ConnectionError> {
    it.inbound = edit.inbound.unwrap_or(it.inbound);
    if let Some(quiet_ms) = edit.quiet_ms {
        it.quiet_ms = u16::try_from(quiet_ms).unwrap_or(u16::MAX);
    }
    let mut new_secret = None;
    match (&edit.delivery, &mut it.endpoint) {
        (None, _) => {}
        (Some(Delivery::Turns), endpoint) => *endpoint = None,
        (Some(Delivery::Https { url }), Some(endpoint)) => endpoint.url.clone_from(url),
        (Some(Delivery::Https { url }), None) => {
            let (secret, sealed) = made(vault, &it, now).await?;
            new_secret = Some(secret);
            it.endpoint = Some(Endpoint { url: url.clone(), secret: sealed, previous: None });
        }
    }
    if edit.rotate_secret && new_secret.is_none() {
        let (secret, sealed) = made(vault, &it, now).await?;
        let Some(endpoint) = &mut it.endpoint else {
            let problem = "The agent has no secret: it does not listen on HTTPS. Give it an address, and it gets one.".to_owned();
            return Ok(Err(AgentProblem { field: AgentField::Rotate, code: "not_https", problem }));
        };
        let before = std::mem::replace(&mut endpoint.secret, sealed);
        // Whoever asks again, since the answer was lost, has not seen the one in between: the agent knows the first.
        if endpoint.previous.as_ref().is_none_or(|it| now >= it.1) {
            endpoint.previous = Some((before, now.plus(SECRET_OVERLAP)));
        }
        new_secret = Some(secret);
    }
    match &edit.speech_to_text {
        None => {}
        Some(None) => it.speech_to_text = None,
        Some(Some(by)) => match speech_to_text(vault, &it, by, now).await? {
            Ok(by) => it.speech_to_text = Some(by),
            Err(problem) => return Ok(Err(problem)),
        },
    }
    Ok(Ok((it, new_secret)))
}

/// A secret that was made just now, in clear and sealed.
async fn made(vault: &Vault, of: &Attachment, now: Timestamp) -> Result<(Secret, crate::vault::Sealed), ConnectionError> {
    let secret = Secret::generate_signing()?;
    let sealed = vault.seal(&secret, &endpoints::of_secret(of), now).await?;
    Ok((secret, sealed))
}

async fn speech_to_text(
    vault: &Vault,
    of: &Attachment,
    by: &SpeechToTextEdit,
    now: Timestamp,
) -> Result<Result<SpeechToText, AgentProblem>, ConnectionError> {
    let before = of.speech_to_text.as_ref();
    let key = match by.key.as_ref().filter(|it| !it.is_masked()) {
        Some(key) => Some(vault.seal(key, &of_speech_key(of), now).await?),
        // A key goes nowhere but where whoever knew it had it go.
        None if before.is_some_and(|it| it.key.is_some() && it.url != by.url) => {
            let problem = "The address is another one: enter the key of it.".to_owned();
            return Ok(Err(AgentProblem { field: AgentField::SpeechKey, code: "required", problem }));
        }
        None => before.and_then(|it| it.key.clone()),
    };
    Ok(Ok(SpeechToText { url: by.url.clone(), model: by.model.trim().to_owned(), language: by.language.clone(), key }))
}

/// An agent whose endpoint was down has another way now: what it is owed goes it. One that has the same is asked at once.
async fn see_to_what_was_down(
    store: &Store,
    queues: &Queues,
    connection: &Connection,
    agent: &AgentId,
    now: Timestamp,
) -> Result<(), ConnectionError> {
    match store.attachment(&connection.id, agent).await?.and_then(|it| it.down_since) {
        Some(since) => endpoints::probe(queues, connection, agent, since).await,
        None => Ok(connections::probe(queues, connection, OWED, now).await?),
    }
}

/// What the Logs say of it.
fn line(it: &Attachment) -> String {
    let inbound = if it.inbound { "with Inbound" } else { "without Inbound" };
    let https = if it.endpoint.is_some() { ", over HTTPS" } else { "" };
    format!("Agent {} is attached {inbound}{https}.", it.agent)
}

/// What was found wrong so far.
struct Problems(Vec<AgentProblem>);

impl Problems {
    fn unless(&mut self, is_well: bool, (field, code): (AgentField, &'static str), problem: &str) {
        if !is_well {
            self.0.push(AgentProblem { field, code, problem: problem.to_owned() });
        }
    }

    fn url(&mut self, field: AgentField, url: &str, allow_loopback: bool) {
        self.unless(url.len() <= URL_LIMIT, (field, "too_long"), &format!("It is longer than {URL_LIMIT} bytes."));
        if let Err(error) = Address::parse(url, allow_loopback) {
            self.unless(false, (field, error.code()), &format!("It cannot be used: {error}."));
        }
    }

    fn model(&mut self, model: &str) {
        let length = model.trim().chars().count();
        let is_well = (1..=MODEL_LIMIT).contains(&length) && !model.chars().any(char::is_control);
        self.unless(is_well, (AgentField::SpeechModel, "malformed"), &format!("It is the name of a model: 1 to {MODEL_LIMIT} characters."));
    }
}

fn is_key(key: &Secret) -> bool {
    let text = key.expose();
    (1..=KEY_LIMIT).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_graphic())
}

/// Has the numbers follow that a start has claimed while the agent with Inbound changed.
async fn settle_inbound(store: &Store, id: &ConnectionId) -> Result<(), StoreError> {
    for _ in 0..RACES {
        let Some(connection) = store.connection(id).await?.map(|it| it.connection) else { return Ok(()) };
        if store.settle_inbound(&connection).await? {
            return Ok(());
        }
    }
    Err(StoreError::Contended { what: "attachment" })
}
