//! Items of the table `conversations`: addresses, states, activity marks, owed turns.

use domain::contact::Contact;
use domain::conversation::{Conversation, Erased, Known};
use domain::customer::Address;
use domain::ids::{ConnectionId, ConversationId};
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::dynamo::{Condition, Range, Read, Update, Versioned, Write, Written};
use super::keys::{self, SHARDS, Table};
use super::{RACES, Store, StoreError};

const HOUR_MILLIS: i64 = 60 * 60 * 1_000;
/// A mark of activity is kept for this long, in seconds: 400 days, more than messages are.
const MARK_SECONDS: i64 = 400 * 24 * 60 * 60;
/// How many merges a conversation may have gone through: each of them is one step on the way to where it is now.
const MOVES: usize = 16;

/// A conversation as it was read: it is written only if it has not moved since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub(crate) version: u64,
    /// The conversation.
    pub conversation: Conversation,
}

impl Stored {
    /// A conversation that is not kept yet.
    #[must_use]
    pub fn unwritten(id: ConversationId, connection: ConnectionId) -> Self {
        Self { version: 0, conversation: Conversation::new(id, connection) }
    }
}

/// What became of the wish that an address leads to a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addressed {
    /// It does now, or did before.
    Here,
    /// It leads to another one.
    Elsewhere(ConversationId),
}

/// The mark that a conversation was active in an hour.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Active {
    /// The hour, since 1970.
    pub hour: i64,
    /// The conversation.
    pub conversation: ConversationId,
}

/// A contact as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactItem {
    /// The contact.
    #[serde(default)]
    pub contact: Contact,
    /// The parts of the conversation whose contacts it has taken in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joined: Vec<ConversationId>,
    /// Grows with every save.
    pub revision: u64,
}

/// Where an address leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lead {
    /// The conversation.
    pub conversation: ConversationId,
    /// What outlived the data that were erased under this address.
    pub erased: Option<Erased>,
    /// Are they those of this very conversation? Then there is nothing where it leads.
    pub is_erased: bool,
}

/// What is kept under a conversation's id, at the end of the way that merges have laid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A conversation.
    Live(Stored),
    /// The shell of one.
    Shell(Stored, Erased),
    /// Nothing was written yet, or nothing is left.
    Nothing,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AddressItem {
    pub(super) conversation: ConversationId,
    /// Of which conversation the data were erased, and what outlives them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) erased: Option<ErasedOf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ErasedOf {
    pub(super) conversation: ConversationId,
    #[serde(flatten)]
    pub(super) erased: Erased,
}

impl AddressItem {
    fn of(conversation: &ConversationId) -> Self {
        Self { conversation: conversation.clone(), erased: None }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Mark {
    at: Timestamp,
}

impl Store {
    /// Where an address leads; strongly if `fresh`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lead(&self, connection: &ConnectionId, address: &Address, fresh: bool) -> Result<Option<Lead>, StoreError> {
        let read = if fresh { Read::Strong } else { Read::Eventual };
        let found: Option<Versioned<AddressItem>> = self.dynamo.get(&keys::address(connection, address), read).await?;
        Ok(found.map(|Versioned { value: AddressItem { conversation, erased }, .. }| Lead {
            is_erased: erased.as_ref().is_some_and(|it| it.conversation == conversation),
            erased: erased.map(|it| it.erased),
            conversation,
        }))
    }

    /// Makes an address that leads to a shell lead to a conversation that was begun after it; what outlived the data stays beside it. False if
    /// it leads elsewhere by now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take_address(
        &self,
        connection: &ConnectionId,
        address: &Address,
        from: &ConversationId,
        erased: &Erased,
        to: &ConversationId,
    ) -> Result<bool, StoreError> {
        let of = ErasedOf { conversation: from.clone(), erased: *erased };
        let update = Update::existing().when("conversation", from)?.set("conversation", to)?.set("erased", &of)?.remove("expires_at");
        let updated: Result<AddressItem, Option<AddressItem>> = self.dynamo.update(&keys::address(connection, address), update).await?;
        Ok(updated.is_ok())
    }

    /// Makes an address lead to a conversation, unless it leads elsewhere.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn address(&self, connection: &ConnectionId, address: &Address, to: &ConversationId) -> Result<Addressed, StoreError> {
        match self.dynamo.put(&keys::address(connection, address), &AddressItem::of(to), None, None, Condition::Absent).await? {
            Written::Done => Ok(Addressed::Here),
            Written::Lost(Some(AddressItem { conversation, .. })) if conversation != *to => Ok(Addressed::Elsewhere(conversation)),
            Written::Lost(_) => Ok(Addressed::Here),
        }
    }

    /// A conversation as every write before left it, at the end of the way that merges have laid; `None` if nothing was written yet, or if
    /// its data were erased: to whoever asks for it, it is gone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn conversation(&self, id: &ConversationId) -> Result<Option<Stored>, StoreError> {
        match self.find_conversation(id).await? {
            Found::Live(it) => Ok(Some(it)),
            Found::Shell(..) | Found::Nothing => Ok(None),
        }
    }

    /// The same, with the shells.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_conversation(&self, id: &ConversationId) -> Result<Found, StoreError> {
        let mut id = id.clone();
        for _ in 0..MOVES {
            let found: Option<Versioned<Conversation>> = self.dynamo.get(&keys::conversation(&id), Read::Strong).await?;
            let Some(Versioned { version, value }) = found else { return Ok(Found::Nothing) };
            match (value.moved_to.clone(), value.erased) {
                (Some(to), _) => id = to,
                (None, Some(erased)) => return Ok(Found::Shell(Stored { version, conversation: value }, erased)),
                (None, None) => return Ok(Found::Live(Stored { version, conversation: value })),
            }
        }
        Err(StoreError::Contended { what: "conversation" })
    }

    /// Writes a conversation if it is still as it was read; else false, and nothing is written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_conversation(&self, stored: &mut Stored) -> Result<bool, StoreError> {
        let condition = if stored.version == 0 { Condition::Absent } else { Condition::Version(stored.version) };
        let next = stored.version + 1;
        let key = keys::conversation(&stored.conversation.id);
        let written: Written<Conversation> = self.dynamo.put(&key, &stored.conversation, Some(next), None, condition).await?;
        if matches!(written, Written::Done) {
            stored.version = next;
        }
        Ok(matches!(written, Written::Done))
    }

    /// Changes a conversation where it is now; what `change` leaves as it was is not written. The conversation as it stands afterwards.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn change_conversation(
        &self,
        id: &ConversationId,
        change: impl Fn(&mut Conversation),
    ) -> Result<Option<Conversation>, StoreError> {
        for _ in 0..RACES {
            let Some(mut stored) = self.conversation(id).await? else { return Ok(None) };
            let before = stored.conversation.clone();
            change(&mut stored.conversation);
            if stored.conversation == before || self.keep_conversation(&mut stored).await? {
                return Ok(Some(stored.conversation));
            }
        }
        Err(StoreError::Contended { what: "conversation" })
    }

    /// Makes two conversations one, in one transaction: `into` as merged, `from` as the way there, and every address of `from` re-pointed.
    /// False if either has moved: then nothing is written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn merge(&self, into: &Stored, from: &Stored) -> Result<bool, StoreError> {
        let connection = &into.conversation.connection;
        let mut writes = Vec::new();
        // A phone that was given up may be somebody else's by now; an old user id goes on leading to its person.
        let given_up = |it: &&Known| it.retired && matches!(it.address, Address::Phone(_));
        for it in from.conversation.addresses.iter().filter(|it| !given_up(it)) {
            let item = AddressItem::of(&into.conversation.id);
            writes.push(Write::put(keys::address(connection, &it.address), &item, None, Condition::Always)?);
        }
        let merged = into.conversation.clone().merged(from.conversation.clone());
        let moved = from.conversation.clone().moved(into.conversation.id.clone());
        writes.push(state(&merged, into.version)?);
        writes.push(state(&moved, from.version)?);
        self.dynamo.transact(writes).await
    }

    /// Gives an address to another conversation, in one transaction that also takes it out of the old one's state.
    /// False if either has moved: then nothing is written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn repoint(&self, address: &Address, from: &Stored, to: &Stored) -> Result<bool, StoreError> {
        let mut writes = vec![state(&from.conversation, from.version)?, state(&to.conversation, to.version)?];
        let item = AddressItem::of(&to.conversation.id);
        writes.push(Write::put(keys::address(&to.conversation.connection, address), &item, None, Condition::Always)?);
        self.dynamo.transact(writes).await
    }

    /// Takes an address away from a conversation, in one transaction with its state. False if it has moved: then nothing is written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn free(&self, address: &Address, from: &Stored) -> Result<bool, StoreError> {
        let delete = Write::Delete { key: keys::address(&from.conversation.connection, address) };
        self.dynamo.transact(vec![state(&from.conversation, from.version)?, delete]).await
    }

    /// Marks a conversation as active in the hour of `at`: once per conversation and hour, before its state says so. The state is the
    /// caller's to write.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mark_active(&self, conversation: &mut Conversation, at: Timestamp) -> Result<(), StoreError> {
        let hour = at.as_millis() / HOUR_MILLIS;
        if conversation.active_hour.is_some_and(|it| it >= hour) {
            return Ok(());
        }
        let key = keys::activity(&conversation.connection, hour, &conversation.id);
        let expires_at = Some(at.as_millis() / 1_000 + MARK_SECONDS);
        let _: Written<Mark> = self.dynamo.put(&key, &Mark { at }, None, expires_at, Condition::Always).await?;
        conversation.active_hour = Some(hour);
        Ok(())
    }

    /// The newest marks of activity of a connection, newest hour first, at most so many; those before `before`, if that is given.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn active(&self, connection: &ConnectionId, before: Option<&Active>, limit: usize) -> Result<Vec<Active>, StoreError> {
        let to = before.map_or_else(|| "ACTIVE#~".to_owned(), |it| keys::activity(connection, it.hour, &it.conversation).sk);
        let mut found = Vec::new();
        for shard in 0..SHARDS {
            // One more: what stands at the end of the range was seen before.
            let range = Range { from: "ACTIVE#", to: &to, newest_first: true, limit: Some(limit + 1) };
            let marks: Vec<(String, Mark)> = self.dynamo.query(Table::Conversations, &keys::listed(connection, shard), range).await?;
            found.extend(marks.iter().filter_map(|it| active(&it.0)).filter(|it| before != Some(it)));
        }
        found.sort_unstable_by(|one, other| other.cmp(one));
        found.truncate(limit);
        Ok(found)
    }

    /// Was a conversation marked as active in an hour?
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_marked(&self, connection: &ConnectionId, hour: i64, id: &ConversationId) -> Result<bool, StoreError> {
        let found: Option<Versioned<Mark>> = self.dynamo.get(&keys::activity(connection, hour, id), Read::Strong).await?;
        Ok(found.is_some())
    }

    /// The contact that is kept of one part of a conversation, and the version of its item.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn contact(&self, part: &ConversationId) -> Result<Option<(u64, ContactItem)>, StoreError> {
        let found: Option<Versioned<ContactItem>> = self.dynamo.get(&keys::contact(part), Read::Strong).await?;
        Ok(found.map(|it| (it.version, it.value)))
    }

    /// Keeps a contact if its item is still as it was read under `version`, 0 if there was none; else false, and nothing is written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_contact(&self, id: &ConversationId, item: &ContactItem, version: u64) -> Result<bool, StoreError> {
        let condition = if version == 0 { Condition::Absent } else { Condition::Version(version) };
        let written: Written<ContactItem> = self.dynamo.put(&keys::contact(id), item, Some(version + 1), None, condition).await?;
        Ok(matches!(written, Written::Done))
    }

    /// Lists a conversation among those with owed turns.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_owed(&self, connection: &ConnectionId, id: &ConversationId, at: Timestamp) -> Result<(), StoreError> {
        let _: Written<Mark> = self.dynamo.put(&keys::owed(connection, id), &Mark { at }, None, None, Condition::Always).await?;
        Ok(())
    }

    /// Takes a conversation off the list of those with owed turns, unless it was listed again since.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unlist_owed(&self, connection: &ConnectionId, id: &ConversationId, listed_at: Timestamp) -> Result<(), StoreError> {
        self.dynamo.delete_when(&keys::owed(connection, id), "at", &listed_at).await
    }

    /// The conversations that were listed as having owed turns, each with the time of its listing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn listed_owed(&self, connection: &ConnectionId) -> Result<Vec<(ConversationId, Timestamp)>, StoreError> {
        let mut listed = Vec::new();
        for shard in 0..SHARDS {
            let range = Range { from: "OWED#", to: "OWED#~", newest_first: false, limit: None };
            let found: Vec<(String, Mark)> = self.dynamo.query(Table::Conversations, &keys::listed(connection, shard), range).await?;
            let ids = found.into_iter().filter_map(|(sk, it)| Some((ConversationId::parse(sk.strip_prefix("OWED#")?).ok()?, it.at)));
            listed.extend(ids);
        }
        Ok(listed)
    }
}

fn active(sort_key: &str) -> Option<Active> {
    let (hour, conversation) = sort_key.strip_prefix("ACTIVE#")?.split_once('#')?;
    Some(Active { hour: hour.parse().ok()?, conversation: ConversationId::parse(conversation).ok()? })
}

fn state(conversation: &Conversation, version: u64) -> Result<Write, StoreError> {
    let condition = if version == 0 { Condition::Absent } else { Condition::Version(version) };
    Write::put(keys::conversation(&conversation.id), conversation, Some(version + 1), condition)
}
