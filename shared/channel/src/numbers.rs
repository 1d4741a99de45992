//! How a connection's numbers stand at Meta: their quality, their throughput, and whether they are in use at all.

use domain::connection::Connection;
use domain::ids::{ConnectionId, NumberId, TenantId};
use domain::time::Timestamp;
use meta::fault::Class;
use meta::graph::{Graph, Unread};
use meta::numbers::NumberState;

use crate::connections::{self, ConnectionError};
use crate::directory::{Directory, DirectoryError, KnownConnection};
use crate::endings;
use crate::feed::{self, body};
use crate::health::is_passing;
use crate::jobs::Happened;
use crate::outbox::credentials;
use crate::queues::Queues;
use crate::store::{NumberItem, Store};
use crate::vault::Secret;

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

/// What came of a step of a number's set-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetUp {
    /// Meta has done it.
    Done,
    /// The connection is not there, or has no such number.
    Unknown,
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
        /// The PIN.
        pin: Secret,
    },
    /// It is taken from the Cloud API.
    Deregister,
}

/// Does a step of the set-up of one of a connection's numbers.
///
/// # Errors
/// [`DirectoryError`]: the connection could not be read.
pub async fn set_up(
    directory: &Directory,
    graph: &Graph,
    (tenant, connection): (&TenantId, &ConnectionId),
    number: &NumberId,
    step: &Step,
    now: Timestamp,
) -> Result<SetUp, DirectoryError> {
    let known = directory.connection_afresh(connection, now).await?;
    let known = known.filter(|it| it.connection.tenant == *tenant && it.connection.numbers.contains(number));
    let Some(known) = known else { return Ok(SetUp::Unknown) };
    let credentials = credentials(&known);
    let done = match step {
        Step::RequestCode { by_voice, language } => {
            graph.request_code(number, &credentials, if *by_voice { "VOICE" } else { "SMS" }, language).await
        }
        Step::VerifyCode { code } => graph.verify_code(number, &credentials, code.expose()).await,
        Step::Register { pin } => graph.register(number, &credentials, pin.expose()).await,
        Step::Deregister => graph.deregister(number, &credentials).await,
    };
    let Err(unread) = done else { return Ok(SetUp::Done) };
    let why = endings::note(&unread.fault);
    Ok(if is_passing(&unread) { SetUp::Later { why } } else { SetUp::Refused { code: unread.fault.code, why } })
}
