//! Finding the conversation of a customer, and keeping one person in one conversation.

use domain::conversation::{Conversation, Erased};
use domain::customer::{Address, Bsuid, Customer, Phone};
use domain::ids::{ConnectionId, ConversationId, hash};
use domain::person::{Joining, join};
use domain::time::Timestamp;

use crate::store::{Addressed, Found, RACES, Store, StoreError, Stored};

/// The conversation of a customer, made if there is none; what is told of the customer's addresses is taken in. `None` if what was said was
/// erased since: nothing of it is taken in.
///
/// `seed` names the message that would begin a new conversation, `said_at` is its time, `at` the time of Meta's evidence that the addresses
/// belong together. The conversation that comes back may hold addresses that are not written yet: the caller writes its state anyway.
///
/// # Errors
/// [`StoreError`].
pub async fn home(
    store: &Store,
    connection: &ConnectionId,
    customer: &Customer,
    seed: &str,
    said_at: Timestamp,
    at: Timestamp,
) -> Result<Option<Stored>, StoreError> {
    let Some(mut home) = begin(store, connection, customer, seed, said_at).await? else { return Ok(None) };
    for address in customer.addresses() {
        home = belong(store, home, &address, at).await?;
        // Newer evidence of what is known costs nothing here, and keeps a late notice from undoing it.
        if home.conversation.known(&address).is_some_and(|it| !it.retired) {
            home.conversation.add_address(&address, at);
        }
    }
    Ok(Some(home))
}

/// The conversation to which the customer's first known address leads, or a new one; `None` if what was said at `said_at` was erased.
async fn begin(
    store: &Store,
    connection: &ConnectionId,
    customer: &Customer,
    seed: &str,
    said_at: Timestamp,
) -> Result<Option<Stored>, StoreError> {
    let is_there = |it: Stored| Some(it).filter(|it| !it.conversation.is_erased_before(said_at));
    if let Some(it) = known(store, connection, customer, false).await?.live {
        return Ok(is_there(it));
    }
    // The address may have been written a moment ago. A new conversation is worth a strong look: it would swallow the one that is there.
    let known = known(store, connection, customer, true).await?;
    if let Some(it) = known.live {
        return Ok(is_there(it));
    }
    let mut begun = Stored::unwritten(ConversationId::derived(connection, seed), connection.clone());
    for erased in &known.erased {
        begun.conversation.begin_after(erased);
    }
    Ok(is_there(begun))
}

/// What is known of a customer: their conversation, and what outlived data that were erased.
#[derive(Default)]
struct Known {
    live: Option<Stored>,
    erased: Vec<Erased>,
}

async fn known(store: &Store, connection: &ConnectionId, customer: &Customer, fresh: bool) -> Result<Known, StoreError> {
    let mut erased = Vec::new();
    if let Some(bsuid) = customer.bsuid() {
        match led(store, connection, &Address::Bsuid(bsuid.clone()), fresh).await? {
            Led::Live(it) => return Ok(Known { live: Some(it), erased }),
            Led::Erased(_, it) => erased.push(it),
            Led::Nowhere => {}
        }
    }
    let Some(phone) = customer.phone() else { return Ok(Known { live: None, erased }) };
    let by_phone = led_by_phone(store, connection, phone, fresh).await?;
    erased.extend(by_phone.erased);
    // If the phone's conversation has another user id, the number was given away, and this is somebody else.
    let live = by_phone.live.filter(|it| customer.bsuid().is_none() || it.conversation.bsuid().is_none());
    Ok(Known { live, erased })
}

async fn led_by_phone(store: &Store, connection: &ConnectionId, phone: &Phone, fresh: bool) -> Result<Known, StoreError> {
    let mut known = Known::default();
    for form in phone.forms() {
        match led(store, connection, &Address::Phone(form), fresh).await? {
            Led::Live(it) => return Ok(Known { live: Some(it), ..known }),
            Led::Erased(_, it) => known.erased.push(it),
            Led::Nowhere => {}
        }
    }
    Ok(known)
}

/// Where an address leads.
#[expect(clippy::large_enum_variant, reason = "nearly always the large one, and unpacked at once")]
enum Led {
    /// To a conversation. An address without a state is an empty one.
    Live(Stored),
    /// To the shell of this conversation, or to what outlived it.
    Erased(ConversationId, Erased),
    Nowhere,
}

async fn led(store: &Store, connection: &ConnectionId, address: &Address, fresh: bool) -> Result<Led, StoreError> {
    let Some(lead) = store.lead(connection, address, fresh).await? else { return Ok(Led::Nowhere) };
    if let Some(erased) = lead.erased.filter(|_| lead.is_erased) {
        return Ok(Led::Erased(lead.conversation, erased));
    }
    Ok(match store.find_conversation(&lead.conversation).await? {
        Found::Live(it) => Led::Live(it),
        // Somebody wrote the address while the conversation was being erased.
        Found::Shell(_, erased) => Led::Erased(lead.conversation, erased),
        Found::Nothing => {
            let mut empty = empty(lead.conversation, connection, address);
            lead.erased.iter().for_each(|it| empty.conversation.begin_after(it));
            Led::Live(empty)
        }
    })
}

/// A conversation of which nothing is kept but that this address leads to it. Since when is not known: any evidence is newer.
fn empty(id: ConversationId, connection: &ConnectionId, address: &Address) -> Stored {
    let mut empty = Stored::unwritten(id, connection.clone());
    empty.conversation.add_address(address, Timestamp::default());
    empty
}

/// Takes in that an address is this conversation's customer's, as of `at`.
///
/// # Errors
/// [`StoreError`].
pub async fn belong(store: &Store, mut home: Stored, address: &Address, at: Timestamp) -> Result<Stored, StoreError> {
    for _ in 0..RACES {
        if home.conversation.known(address).is_some_and(|it| !it.retired || at <= it.at) {
            return Ok(home);
        }
        let connection = home.conversation.connection.clone();
        // Whoever has just begun the other has written no more than the address, which a merge must take along.
        let other = match led(store, &connection, address, true).await? {
            Led::Live(it) => Some(it).filter(|it| it.conversation.id != home.conversation.id),
            Led::Nowhere => None,
            Led::Erased(shell, erased) => {
                // A shell takes no address back, and gives one up only to what is newer than it.
                let is_newer = at > erased.at || home.conversation.is_erased_before(erased.at);
                if !is_newer || join(&home.conversation, address, None, at) != Joining::Add {
                    return Ok(home);
                }
                if store.take_address(&connection, address, &shell, &erased, &home.conversation.id).await? {
                    home.conversation.begin_after(&erased);
                    home.conversation.add_address(address, at);
                    return Ok(home);
                }
                continue;
            }
        };
        match join(&home.conversation, address, other.as_ref().map(|it| &it.conversation), at) {
            Joining::Nothing => return Ok(home),
            Joining::Add => match store.address(&connection, address, &home.conversation.id).await? {
                Addressed::Here => {
                    home.conversation.add_address(address, at);
                    return Ok(home);
                }
                // Somebody was faster: look again at where it leads.
                Addressed::Elsewhere(_) => {}
            },
            Joining::Merge => {
                if let Some(other) = other {
                    home = merge(store, home, other, at).await?;
                }
            }
            Joining::Repoint => {
                if let Some(other) = other {
                    home = repoint(store, home, other, address, at).await?;
                }
            }
        }
    }
    Err(StoreError::Contended { what: "address" })
}

/// One attempt to make two conversations one; the caller looks again.
async fn merge(store: &Store, home: Stored, other: Stored, now: Timestamp) -> Result<Stored, StoreError> {
    if other.conversation.owed.is_some() {
        store.list_owed(&home.conversation.connection, &home.conversation.id, now).await?;
    }
    store.merge(&home, &other).await?;
    again(store, home).await
}

/// One attempt to give an address to the conversation whose it is now; the caller looks again.
async fn repoint(store: &Store, home: Stored, mut other: Stored, address: &Address, at: Timestamp) -> Result<Stored, StoreError> {
    let mut given = home.clone();
    given.conversation.add_address(address, at);
    other.conversation.forget(address);
    store.repoint(address, &other, &given).await?;
    again(store, home).await
}

async fn again(store: &Store, home: Stored) -> Result<Stored, StoreError> {
    Ok(store.conversation(&home.conversation.id).await?.unwrap_or(home))
}

/// The conversation of a customer, if there is one.
///
/// # Errors
/// [`StoreError`].
pub async fn find(store: &Store, connection: &ConnectionId, customer: &Customer) -> Result<Option<Conversation>, StoreError> {
    Ok(find_stored(store, connection, customer).await?.map(|it| it.conversation))
}

/// The same, to be changed.
pub(crate) async fn find_stored(store: &Store, connection: &ConnectionId, customer: &Customer) -> Result<Option<Stored>, StoreError> {
    if let Some(bsuid) = customer.bsuid()
        && let Led::Live(it) = led(store, connection, &Address::Bsuid(bsuid.clone()), false).await?
    {
        return Ok(Some(it));
    }
    match customer.phone() {
        Some(phone) => Ok(led_by_phone(store, connection, phone, false).await?.live),
        None => Ok(None),
    }
}

/// Takes in whom Meta says it reached with what was sent to `dialled` in a conversation, as of `at`.
///
/// What went to a number reached whoever has it now: if that is somebody else, the number was given away, and the message stays where it is.
///
/// # Errors
/// [`StoreError`].
pub async fn reached(
    store: &Store,
    conversation: &ConversationId,
    dialled: &Customer,
    told: &Customer,
    at: Timestamp,
) -> Result<(), StoreError> {
    let Some(home) = store.conversation(conversation).await? else { return Ok(()) };
    let is_somebody_else = |it: &Bsuid| {
        let is_known = home.conversation.known(&Address::Bsuid(it.clone())).is_some();
        home.conversation.bsuid().is_some() && !is_known
    };
    match (dialled.bsuid(), dialled.phone(), told.bsuid()) {
        (None, Some(phone), Some(bsuid)) if is_somebody_else(bsuid) => {
            let Some(person) = Customer::known_by(Some(phone.clone()), Some(bsuid.clone())) else { return Ok(()) };
            let seed = hash(&["reached", conversation.as_str(), bsuid.as_str()]);
            let theirs = self::home(store, &home.conversation.connection, &person, &seed, at, at).await?;
            let Some(theirs) = theirs else { return Ok(()) };
            evidence(store, &theirs.conversation.id, &person, at).await
        }
        _ => evidence(store, conversation, told, at).await,
    }
}

/// Takes in that Meta named these addresses for the customer of a conversation, as of `at`.
///
/// # Errors
/// [`StoreError`].
async fn evidence(store: &Store, conversation: &ConversationId, customer: &Customer, at: Timestamp) -> Result<(), StoreError> {
    for address in customer.addresses() {
        evidence_of(store, conversation, &address, at).await?;
    }
    Ok(())
}

async fn evidence_of(store: &Store, conversation: &ConversationId, address: &Address, at: Timestamp) -> Result<(), StoreError> {
    for _ in 0..RACES {
        let Some(home) = store.conversation(conversation).await? else { return Ok(()) };
        let before = home.conversation.clone();
        let mut home = belong(store, home, address, at).await?;
        if home.conversation == before || store.conversation(conversation).await?.is_some_and(|it| it.conversation == home.conversation) {
            return Ok(());
        }
        if store.keep_conversation(&mut home).await? {
            return Ok(());
        }
    }
    Err(StoreError::Contended { what: "conversation" })
}

/// Takes in Meta's notice that a customer's number or user id changed, as of `at`: the new addresses are added, the old user id receives
/// still and is never sent to, the old phone is free, and windows count as closed. `None` if what it tells was erased since.
///
/// # Errors
/// [`StoreError`].
pub async fn changed(
    store: &Store,
    connection: &ConnectionId,
    previous: &Customer,
    current: &Customer,
    seed: &str,
    at: Timestamp,
) -> Result<Option<Stored>, StoreError> {
    let home = match before(store, connection, previous, at).await? {
        Some(it) => Some(it).filter(|it| !it.conversation.is_erased_before(at)),
        None => self::home(store, connection, current, seed, at, at).await?,
    };
    let Some(mut home) = home else { return Ok(None) };
    for _ in 0..RACES {
        let mut next = renamed(store, home.clone(), previous, current, at).await?;
        let freed = freed(&next.conversation, previous, current, at);
        if let Some(address) = &freed {
            next.conversation.give_up(address, at);
        }
        let kept = store.conversation(&next.conversation.id).await?;
        let written = match &freed {
            Some(address) => store.free(address, &next).await?,
            None if kept.is_some_and(|it| it.conversation == next.conversation) => true,
            None => store.keep_conversation(&mut next).await?,
        };
        if written && freed.is_none() {
            return Ok(Some(next));
        }
        home = again(store, next).await?;
    }
    Err(StoreError::Contended { what: "conversation" })
}

/// The conversation of whoever had these addresses until `at`. A phone that is known for somebody else, or newer, is theirs no longer.
async fn before(store: &Store, connection: &ConnectionId, previous: &Customer, at: Timestamp) -> Result<Option<Stored>, StoreError> {
    if let Some(bsuid) = previous.bsuid()
        && let Led::Live(it) = led(store, connection, &Address::Bsuid(bsuid.clone()), false).await?
    {
        return Ok(Some(it));
    }
    let Some(phone) = previous.phone() else { return Ok(None) };
    let is_theirs = |it: &Conversation| {
        let is_somebody_elses = previous.bsuid().is_some() && it.bsuid().is_some();
        let is_newer = phone.forms().into_iter().any(|form| it.known(&Address::Phone(form)).is_some_and(|it| it.at > at));
        !is_somebody_elses && !is_newer
    };
    Ok(led_by_phone(store, connection, phone, false).await?.live.filter(|it| is_theirs(&it.conversation)))
}

/// The conversation with the old and the new addresses taken in, as of the notice.
async fn renamed(store: &Store, mut home: Stored, previous: &Customer, current: &Customer, at: Timestamp) -> Result<Stored, StoreError> {
    for address in previous.addresses() {
        home = belong(store, home, &address, at).await?;
    }
    for address in current.addresses() {
        home = belong(store, home, &address, at).await?;
        // So that the phone beside it is judged by the user id that the customer has now.
        if matches!(address, Address::Bsuid(_)) {
            retire_others(&mut home.conversation, &address, at);
        }
    }
    retire_old(&mut home.conversation, previous, current, at);
    home.conversation.close_windows(at);
    Ok(home)
}

fn retire_others(conversation: &mut Conversation, current: &Address, at: Timestamp) {
    let old: Vec<Address> = conversation
        .addresses
        .iter()
        .filter(|it| matches!(it.address, Address::Bsuid(_)) && it.address != *current && it.at <= at)
        .map(|it| it.address.clone())
        .collect();
    for address in old {
        conversation.retire(&address);
    }
}

fn retire_old(conversation: &mut Conversation, previous: &Customer, current: &Customer, at: Timestamp) {
    if let Some(bsuid) = current.bsuid() {
        retire_others(conversation, &Address::Bsuid(bsuid.clone()), at);
    }
    if let Some(bsuid) = previous.bsuid().filter(|it| current.bsuid() != Some(it)) {
        conversation.retire(&Address::Bsuid(bsuid.clone()));
    }
}

/// The phone that the customer gave up with the notice, if it still counts as theirs.
fn freed(conversation: &Conversation, previous: &Customer, current: &Customer, at: Timestamp) -> Option<Address> {
    let new = current.phone();
    let told = previous.phone().filter(|it| new.is_some_and(|new| new != *it)).cloned();
    // A notice about the user id alone does not say which number was given up; one with a new number does.
    let known = conversation.addresses.iter().filter(|it| !it.retired && it.at <= at).filter_map(|it| match &it.address {
        Address::Phone(phone) if new.is_some_and(|new| !new.is_same_number(phone)) => Some(phone.clone()),
        Address::Phone(_) | Address::Bsuid(_) => None,
    });
    told.into_iter().chain(known).map(Address::Phone).find(|it| conversation.known(it).is_some_and(|it| !it.retired && it.at <= at))
}
