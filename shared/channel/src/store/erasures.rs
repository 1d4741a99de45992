//! What is left of a customer's data that were erased, and the way there: shells, and the list of what is being erased.

use std::time::Duration;

use domain::conversation::Erased;
use domain::customer::Address;
use domain::ids::{ConnectionId, ConversationId, MessageKey};
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::conversations::{AddressItem, ErasedOf};
use super::dynamo::{Condition, Range, Read, Update, Versioned, Written};
use super::keys::{self, Key, SHARDS, Table};
use super::messages::message_key;
use super::{MessageItem, RACES, Store, StoreError, Stored};

/// Shells are kept for so long, which is longer than Meta repeats a webhook:
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/overview>.
const KEPT_FOR: Duration = Duration::from_hours(14 * 24);
/// So many items of the table are gone through together, in search of a connection's addresses.
const GONE_THROUGH: i32 = 500;
/// So many items are looked at together.
const TOGETHER: usize = 100;

/// A conversation that is being erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ErasingItem {
    /// As of when.
    at: Timestamp,
}

/// A connection whose conversations are all being erased.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ErasingAll {
    /// Up to which key the table was gone through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<(String, String)>,
}

/// As much of an item of a conversation as says what to do with it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Kind {
    #[serde(default)]
    direction: Option<String>,
}

/// What came of erasing items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wiped {
    /// How many were erased.
    pub items: usize,
    /// Is nothing left to erase?
    pub is_all: bool,
}

/// When the shell of what was erased as of `at` may go, in seconds, as TTL wants it.
fn expires_at(at: Timestamp) -> i64 {
    at.plus(KEPT_FOR).as_millis() / 1_000
}

impl Store {
    /// Lists a conversation as being erased, as of `at` unless it is listed already. As of when it is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_erasing(&self, connection: &ConnectionId, id: &ConversationId, at: Timestamp) -> Result<Timestamp, StoreError> {
        let item = ErasingItem { at };
        let written: Written<ErasingItem> = self.dynamo.put(&keys::erasing(connection, id), &item, None, None, Condition::Absent).await?;
        Ok(match written {
            Written::Lost(Some(there)) => there.at,
            Written::Lost(None) | Written::Done => at,
        })
    }

    /// As of when a conversation is being erased, if it is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn erasing(&self, connection: &ConnectionId, id: &ConversationId) -> Result<Option<Timestamp>, StoreError> {
        let found: Option<Versioned<ErasingItem>> = self.dynamo.get(&keys::erasing(connection, id), Read::Strong).await?;
        Ok(found.map(|it| it.value.at))
    }

    /// The conversations of a connection that are being erased, and as of when.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn listed_erasing(&self, connection: &ConnectionId) -> Result<Vec<(ConversationId, Timestamp)>, StoreError> {
        let mut listed = Vec::new();
        for shard in 0..SHARDS {
            let range = Range { from: "ERASING#", to: "ERASING#~", newest_first: false, limit: None };
            let found: Vec<(String, ErasingItem)> =
                self.dynamo.query(Table::Conversations, &keys::listed(connection, shard), range).await?;
            let ids = found.into_iter().filter_map(|(sk, it)| Some((ConversationId::parse(sk.strip_prefix("ERASING#")?).ok()?, it.at)));
            listed.extend(ids);
        }
        Ok(listed)
    }

    /// The conversation is erased: it is on the list no more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unlist_erasing(&self, connection: &ConnectionId, id: &ConversationId, at: Timestamp) -> Result<(), StoreError> {
        self.dynamo.delete_when(&keys::erasing(connection, id), "at", &at).await
    }

    /// Marks an address of a conversation as one whose data were erased, if it leads to the conversation or to a part of it, or nowhere:
    /// an address that was given up was the customer's too. Somebody else's is left alone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn erase_address(&self, of: &Stored, address: &Address, erased: &Erased) -> Result<(), StoreError> {
        let (id, key) = (&of.conversation.id, keys::address(&of.conversation.connection, address));
        let erased_of = ErasedOf { conversation: id.clone(), erased: *erased };
        let expires_at = (!erased.holds_a_word()).then(|| expires_at(erased.at));
        for _ in 0..RACES {
            let there: Option<Versioned<AddressItem>> = self.dynamo.get(&key, Read::Strong).await?;
            let is_done = match there.map(|it| it.value.conversation) {
                Some(leads) if of.conversation.everywhere().any(|it| *it == leads) => {
                    let update = Update::existing().when("conversation", &leads)?.set("conversation", id)?.set("erased", &erased_of)?;
                    let update = match expires_at {
                        Some(at) => update.set("expires_at", &at)?,
                        None => update.remove("expires_at"),
                    };
                    let updated: Result<AddressItem, Option<AddressItem>> = self.dynamo.update(&key, update).await?;
                    updated.is_ok()
                }
                Some(_) => true,
                None => {
                    let item = AddressItem { conversation: id.clone(), erased: Some(erased_of.clone()) };
                    let written: Written<AddressItem> = self.dynamo.put(&key, &item, None, expires_at, Condition::Absent).await?;
                    matches!(written, Written::Done)
                }
            };
            if is_done {
                return Ok(());
            }
        }
        Err(StoreError::Contended { what: "address" })
    }

    /// Writes the shell of a conversation if it is still as it was read; else false, and nothing is written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_shell(&self, stored: &Stored, erased: &Erased) -> Result<bool, StoreError> {
        let (key, shell) = (keys::conversation(&stored.conversation.id), stored.conversation.clone().shell(erased.at));
        let condition = Condition::Version(stored.version);
        let written: Written<domain::conversation::Conversation> =
            self.dynamo.put(&key, &shell, Some(stored.version + 1), Some(expires_at(erased.at)), condition).await?;
        Ok(matches!(written, Written::Done))
    }

    /// Erases what belongs to a part of a conversation beside its state, at most so many items: of messages the shells stay for a while,
    /// everything else goes.
    ///
    /// # Errors
    /// [`StoreError`]: what is erased is erased.
    pub async fn wipe(&self, part: &ConversationId, at: Timestamp, limit: usize) -> Result<Wiped, StoreError> {
        self.dynamo.delete(&keys::contact(part)).await?;
        let (pk, mut from, mut items) = (keys::messages(part), " ".to_owned(), 0);
        loop {
            let range = Range { from: &from, to: "~", newest_first: false, limit: Some(TOGETHER) };
            let found: Vec<(String, Kind)> = self.dynamo.query(Table::Messages, &pk, range).await?;
            let (is_last, last) = (found.len() < TOGETHER, found.last().map(|it| it.0.clone()));
            for (sk, kind) in found {
                let is_message = message_key(part, &sk).is_some();
                if is_message && kind.direction.as_deref() == Some("shell") {
                    continue;
                }
                if items == limit {
                    return Ok(Wiped { items, is_all: false });
                }
                let key = Key { table: Table::Messages, pk: pk.clone(), sk };
                if is_message {
                    let expires_at = Some(expires_at(at));
                    let _: Written<MessageItem> = self.dynamo.put(&key, &MessageItem::Shell, None, expires_at, Condition::Always).await?;
                } else {
                    self.dynamo.delete(&key).await?;
                }
                items += 1;
            }
            match last.filter(|_| !is_last) {
                // What stands at the end is looked at again, and is a shell or gone by then.
                Some(last) => from = last,
                None => return Ok(Wiped { items, is_all: true }),
            }
        }
    }

    /// The keys of all messages that lie in a part of a conversation, shells too.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn message_keys(&self, part: &ConversationId) -> Result<Vec<MessageKey>, StoreError> {
        let range = Range { from: "0000000000000#", to: "9999999999999#~", newest_first: false, limit: None };
        let found: Vec<(String, Kind)> = self.dynamo.query(Table::Messages, &keys::messages(part), range).await?;
        Ok(found.iter().filter_map(|it| message_key(part, &it.0)).collect())
    }

    /// Lists a connection as one whose conversations are all being erased, unless it is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_erasing_all(&self, connection: &ConnectionId) -> Result<(), StoreError> {
        let key = keys::erasing_all(connection);
        let _: Written<ErasingAll> = self.dynamo.put(&key, &ErasingAll::default(), None, None, Condition::Absent).await?;
        Ok(())
    }

    /// How far the search for a connection's conversations has come, if all of them are being erased.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn erasing_all(&self, connection: &ConnectionId) -> Result<Option<ErasingAll>, StoreError> {
        let found: Option<Versioned<ErasingAll>> = self.dynamo.get(&keys::erasing_all(connection), Read::Strong).await?;
        Ok(found.map(|it| it.value))
    }

    /// Remembers how far it has come; at the end there is nothing to remember.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_erasing_all(&self, connection: &ConnectionId, next: Option<&ErasingAll>) -> Result<(), StoreError> {
        let key = keys::erasing_all(connection);
        let Some(next) = next else { return self.dynamo.delete(&key).await };
        let _: Written<ErasingAll> = self.dynamo.put(&key, next, None, None, Condition::Always).await?;
        Ok(())
    }

    /// The conversations to which the next addresses of a connection lead, and where to go on. A campaign's unanswered conversations are on
    /// no list, so the whole table is gone through.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn addressed(
        &self,
        connection: &ConnectionId,
        at: ErasingAll,
    ) -> Result<(Vec<ConversationId>, Option<ErasingAll>), StoreError> {
        let prefix = keys::addresses(connection);
        let (found, next): (Vec<AddressItem>, _) = self.dynamo.scan(Table::Conversations, &prefix, at.from, GONE_THROUGH).await?;
        let mut ids: Vec<ConversationId> = found.into_iter().map(|it| it.conversation).collect();
        ids.sort_unstable();
        ids.dedup();
        Ok((ids, next.map(|it| ErasingAll { from: Some(it) })))
    }

    /// Lets the way from a part to its conversation's shell go with the shell.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn expire_part(&self, part: &ConversationId, at: Timestamp) -> Result<(), StoreError> {
        let update = Update::existing().when_present("moved_to").set("expires_at", &expires_at(at))?;
        let _: Result<Kind, Option<Kind>> = self.dynamo.update(&keys::conversation(part), update).await?;
        Ok(())
    }
}
