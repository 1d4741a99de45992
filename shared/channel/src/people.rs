//! Finding the conversation of a customer, and keeping one person in one conversation.

use domain::conversation::Conversation;
use domain::customer::{Address, Bsuid, Customer, Phone};
use domain::ids::{ConnectionId, ConversationId, hash};
use domain::person::{Joining, join};
use domain::time::Timestamp;

use crate::store::{Addressed, RACES, Store, StoreError, Stored};

/// The conversation of a customer, made if there is none; what is told of the customer's addresses is taken in.
///
/// `seed` names the message that would begin a new conversation, `at` is Meta's time of it: the evidence that the addresses belong together.
/// The conversation that comes back may hold addresses that are not written yet: the caller writes its state anyway.
///
/// # Errors
/// [`StoreError`].
pub async fn home(store: &Store, connection: &ConnectionId, customer: &Customer, seed: &str, at: Timestamp) -> Result<Stored, StoreError> {
    let mut home = begin(store, connection, customer, seed).await?;
    for address in customer.addresses() {
        home = belong(store, home, &address, at).await?;
        // Newer evidence of what is known costs nothing here, and keeps a late notice from undoing it.
        if home.conversation.known(&address).is_some_and(|it| !it.retired) {
            home.conversation.add_address(&address, at);
        }
    }
    Ok(home)
}

/// The conversation to which the customer's first known address leads, or a new one.
async fn begin(store: &Store, connection: &ConnectionId, customer: &Customer, seed: &str) -> Result<Stored, StoreError> {
    if let Some(it) = known(store, connection, customer, false).await? {
        return Ok(it);
    }
    // The address may have been written a moment ago. A new conversation is worth a strong look: it would swallow the one that is there.
    let it = known(store, connection, customer, true).await?;
    Ok(it.unwrap_or_else(|| Stored::unwritten(ConversationId::derived(connection, seed), connection.clone())))
}

async fn known(store: &Store, connection: &ConnectionId, customer: &Customer, fresh: bool) -> Result<Option<Stored>, StoreError> {
    if let Some(bsuid) = customer.bsuid()
        && let Some(it) = led(store, connection, &Address::Bsuid(bsuid.clone()), fresh).await?
    {
        return Ok(Some(it));
    }
    let Some(phone) = customer.phone() else { return Ok(None) };
    let by_phone = led_by_phone(store, connection, phone, fresh).await?;
    // If the phone's conversation has another user id, the number was given away, and this is somebody else.
    Ok(by_phone.filter(|it| customer.bsuid().is_none() || it.conversation.bsuid().is_none()))
}

async fn led_by_phone(store: &Store, connection: &ConnectionId, phone: &Phone, fresh: bool) -> Result<Option<Stored>, StoreError> {
    for form in phone.forms() {
        if let Some(it) = led(store, connection, &Address::Phone(form), fresh).await? {
            return Ok(Some(it));
        }
    }
    Ok(None)
}

/// The conversation to which an address leads. An address without a state is an empty conversation.
async fn led(store: &Store, connection: &ConnectionId, address: &Address, fresh: bool) -> Result<Option<Stored>, StoreError> {
    let Some(id) = store.lead(connection, address, fresh).await? else { return Ok(None) };
    if let Some(it) = store.conversation(&id).await? {
        return Ok(Some(it));
    }
    Ok(Some(empty(id, connection, address)))
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
        let other = match store.lead(&connection, address, true).await? {
            Some(id) if id != home.conversation.id => {
                // Whoever has just begun it has written no more than the address, which a merge must take along.
                Some(store.conversation(&id).await?.unwrap_or_else(|| empty(id, &connection, address)))
            }
            Some(_) | None => None,
        };
        let other = other.filter(|it| it.conversation.id != home.conversation.id);
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
    let by_id = match customer.bsuid() {
        Some(it) => led(store, connection, &Address::Bsuid(it.clone()), false).await?,
        None => None,
    };
    match (by_id, customer.phone()) {
        (Some(it), _) => Ok(Some(it)),
        (None, Some(phone)) => led_by_phone(store, connection, phone, false).await,
        (None, None) => Ok(None),
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
            let theirs = self::home(store, &home.conversation.connection, &person, &seed, at).await?;
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
/// still and is never sent to, the old phone is free, and windows count as closed.
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
) -> Result<Stored, StoreError> {
    let mut home = match before(store, connection, previous, at).await? {
        Some(it) => it,
        None => self::home(store, connection, current, seed, at).await?,
    };
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
            return Ok(next);
        }
        home = again(store, next).await?;
    }
    Err(StoreError::Contended { what: "conversation" })
}

/// The conversation of whoever had these addresses until `at`. A phone that is known for somebody else, or newer, is theirs no longer.
async fn before(store: &Store, connection: &ConnectionId, previous: &Customer, at: Timestamp) -> Result<Option<Stored>, StoreError> {
    if let Some(bsuid) = previous.bsuid()
        && let Some(it) = led(store, connection, &Address::Bsuid(bsuid.clone()), false).await?
    {
        return Ok(Some(it));
    }
    let Some(phone) = previous.phone() else { return Ok(None) };
    let is_theirs = |it: &Conversation| {
        let is_somebody_elses = previous.bsuid().is_some() && it.bsuid().is_some();
        let is_newer = phone.forms().into_iter().any(|form| it.known(&Address::Phone(form)).is_some_and(|it| it.at > at));
        !is_somebody_elses && !is_newer
    };
    Ok(led_by_phone(store, connection, phone, false).await?.filter(|it| is_theirs(&it.conversation)))
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
