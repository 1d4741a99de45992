//! How a connection's numbers stand at Meta: their quality, their throughput, and whether they are in use at all.

use domain::connection::Connection;
use domain::ids::NumberId;
use domain::time::Timestamp;
use meta::fault::Class;
use meta::graph::{Graph, Unread};
use meta::numbers::NumberState;

use crate::connections::{self, ConnectionError};
use crate::directory::KnownConnection;
use crate::endings;
use crate::feed::{self, body};
use crate::health::is_passing;
use crate::jobs::Happened;
use crate::outbox::credentials;
use crate::queues::Queues;
use crate::store::{Checked, CheckedNumber, NumberItem, STANDARD_THROUGHPUT, Store, StoreError, StoredConnection};
use crate::vault::{AdditionalData, Secret, Vault};

/// Reads a connection's numbers anew for a reason that was heard at `heard_at`, but for those that were read since, and tells what has
/// changed. The first that cannot be read ends it; the next try goes on there.
///
/// # Errors
/// [`ConnectionError`].
pub async fn read(
    store: &Store,
    queues: &Queues,
    graph: &Graph,
    known: &KnownConnection,
    heard_at: Timestamp,
    now: Timestamp,
) -> Result<Result<(), Unread>, ConnectionError> {
    let connection = &known.connection;
    for number in &connection.numbers {
        let item = store.number(number, true).await?.filter(|it| it.connection == connection.id);
        let Some(item) = item.filter(|it| it.read_at.is_none_or(|it| it < heard_at)) else { continue };
        match graph.number(number, &credentials(known)).await {
            Ok(state) => {
                tell(queues, connection, &item, &state, now).await?;
                store.note_number(number, &connection.id, &state, now).await?;
            }
            Err(Unread { class: Class::Number, fault, .. }) => {
                connections::mark_number(store, queues, connection, number, &fault, now, now).await?;
            }
            Err(unread) => return Ok(Err(unread)),
        }
    }
    connections::fail_without_numbers(store, queues, connection, now).await?;
    Ok(Ok(()))
}

/// Keeps how a number of a connection stands, and tells what has changed.
///
/// # Errors
/// [`ConnectionError`].
pub(crate) async fn note(
    store: &Store,
    queues: &Queues,
    connection: &Connection,
    number: &NumberId,
    state: &NumberState,
    now: Timestamp,
) -> Result<(), ConnectionError> {
    let Some(item) = store.number(number, true).await?.filter(|it| it.connection == connection.id) else { return Ok(()) };
    tell(queues, connection, &item, state, now).await?;
    Ok(store.note_number(number, &connection.id, state, now).await?)
}

/// What Meta says otherwise than before: told before it is written, and the same event until it is.
async fn tell(
    queues: &Queues,
    connection: &Connection,
    item: &NumberItem,
    state: &NumberState,
    now: Timestamp,
) -> Result<(), ConnectionError> {
    let (quality, throughput) = (state.quality.or(item.quality), state.per_second.or(item.throughput));
    if (quality, throughput) == (item.quality, item.throughput) {
        return Ok(());
    }
    let number: NumberId = item.id.clone();
    let (word, read_at) = (body(&(quality, throughput)), item.read_at.unwrap_or_default().sortable());
    let parts = ["number.quality", item.id.as_str(), word.as_str(), read_at.as_str()];
    let what = Happened::NumberQuality { number, quality, throughput };
    Ok(feed::tell(queues, &connection.tenant, &connection.id, now, &parts, what).await?)
}

/// A number of a connection, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberView {
    /// As Meta last showed it: at a check, or since.
    pub number: CheckedNumber,
    /// Is it the connection's? If not, it has not been started with it, or the number was taken by another since.
    pub is_held: bool,
    /// Meta's code of the fault that keeps it from sending, if there is one.
    pub fault: Option<u32>,
    /// How many messages a second it may send and receive together, as we take it.
    pub per_second: u32,
}

/// The numbers of a connection, in their order. Meta is not asked.
///
/// # Errors
/// [`StoreError`].
pub async fn list(store: &Store, connection: &Connection, checked: Option<&Checked>) -> Result<Vec<NumberView>, StoreError> {
    let mut views = Vec::with_capacity(connection.numbers.len());
    for id in &connection.numbers {
        let shown = checked.and_then(|it| it.numbers.iter().find(|it| it.id == *id)).cloned();
        let shown = shown.unwrap_or_else(|| CheckedNumber::unseen(id.clone()));
        let item = store.number(id, true).await?.filter(|it| it.connection == connection.id && it.released_at.is_none());
        views.push(match item {
            None => NumberView { per_second: shown.throughput.unwrap_or(STANDARD_THROUGHPUT), number: shown, is_held: false, fault: None },
            Some(item) => NumberView {
                is_held: true,
                fault: item.fault,
                per_second: item.per_second(),
                number: CheckedNumber {
                    status: item.status.or(shown.status),
                    quality: item.quality.or(shown.quality),
                    throughput: item.throughput.or(shown.throughput),
                    ..shown
                },
            },
        });
    }
    Ok(views)
}

/// What came of a step of a number's set-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetUp {
    /// Meta has done it.
    Done,
    /// The connection has no such number.
    Unknown,
    /// It is to be registered without a PIN, and none is kept.
    NoPin,
    /// Meta refuses it.
    Refused {
        /// Meta's code.
        code: u32,
        /// What a person is told.
        why: String,
    },
    /// Meta does not answer, or not now.
    Later {
        /// What a person is told.
        why: String,
    },
}

/// A step of a number's set-up.
#[derive(Debug, Clone)]
pub enum Step {
    /// Meta sends the code that proves who owns it, by SMS or by voice, in a language such as `es`.
    RequestCode {
        /// By a call, not by SMS?
        by_voice: bool,
        /// The language.
        language: String,
    },
    /// The code is shown to Meta: not the PIN.
    VerifyCode {
        /// The code.
        code: Secret,
    },
    /// It is registered with its two-step PIN: not the code. Meta takes this ten times in 72 hours.
    Register {
        /// The PIN; without one, that which a sign-in with Meta has left in the vault.
        pin: Option<Secret>,
    },
    /// It is taken from the Cloud API.
    Deregister,
}

/// Does a step of the set-up of one of a connection's numbers. A connection that runs is checked with Meta after it.
///
/// # Errors
/// [`ConnectionError`].
pub async fn set_up(
    (store, queues, vault, graph): (&Store, &Queues, &Vault, &Graph),
    stored: &StoredConnection,
    number: &NumberId,
    step: &Step,
    now: Timestamp,
) -> Result<SetUp, ConnectionError> {
    if !stored.connection.numbers.contains(number) {
        return Ok(SetUp::Unknown);
    }
    let credentials = connections::credentials(store, vault, stored).await?;
    let done = match step {
        Step::RequestCode { by_voice, language } => {
            graph.request_code(number, &credentials, if *by_voice { "VOICE" } else { "SMS" }, language).await
        }
        Step::VerifyCode { code } => graph.verify_code(number, &credentials, code.expose()).await,
        Step::Register { pin: Some(pin) } => graph.register(number, &credentials, pin.expose()).await,
        Step::Register { pin: None } => {
            let Some(sealed) = stored.pins.get(number) else { return Ok(SetUp::NoPin) };
            let pin = vault.open(sealed, &AdditionalData::of_number(number.as_str(), "pin")).await?;
            graph.register(number, &credentials, pin.expose()).await
        }
        Step::Deregister => graph.deregister(number, &credentials).await,
    };
    let Err(unread) = done else {
        if let Step::Register { .. } = step {
            // That it was not registered is held against it no longer.
            store.clear_number(number, &stored.connection.id).await?;
        }
        connections::probe(queues, &stored.connection, connections::CHECK, now).await?;
        return Ok(SetUp::Done);
    };
    let why = endings::note(&unread.fault);
    // "Not for hours" is an answer: nobody should ask again soon.
    let is_silent = is_passing(&unread) && unread.class != Class::Later;
    Ok(if is_silent { SetUp::Later { why } } else { SetUp::Refused { code: unread.fault.code, why } })
}
