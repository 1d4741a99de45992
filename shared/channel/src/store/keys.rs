//! Every key of every item, in one place.
//!
//! No key holds a phone number, a user id or a raw wamid: they hold hashes. Ids that stand in keys have no `#`, so no two keys run into one another.

use domain::customer::Address;
use domain::ids::{AgentId, AppId, ConnectionId, ConversationId, MessageKey, NumberId, TenantId, WabaId, Wamid, hash};
use domain::template::{Language, TemplateName};
use domain::time::Timestamp;

/// Over how many partitions what is listed per connection is spread, so that no partition is hot.
pub(crate) const SHARDS: u8 = 4;

/// One of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    /// Connections, apps, numbers, attachments.
    Config,
    /// Addresses, conversations, marks.
    Conversations,
    /// Messages and what belongs to them.
    Messages,
}

/// Where one item is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) table: Table,
    pub(crate) pk: String,
    pub(crate) sk: String,
}

/// From where an object came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ObjectKind {
    /// A customer sent it.
    Inbound,
    /// It was uploaded to be sent.
    Uploads,
}

impl ObjectKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Uploads => "uploads",
        }
    }
}

impl Key {
    fn new(table: Table, pk: String, sk: impl Into<String>) -> Self {
        Self { table, pk, sk: sk.into() }
    }
}

pub(crate) fn connection(id: &ConnectionId) -> Key {
    Key::new(Table::Config, format!("CONNECTION#{id}"), "META")
}

pub(crate) fn connection_of_tenant(tenant: &TenantId, id: &ConnectionId) -> Key {
    Key::new(Table::Config, self::tenant(tenant), format!("CONNECTION#{id}"))
}

pub(crate) fn tenant(id: &TenantId) -> String {
    format!("TENANT#{id}")
}

pub(crate) fn watched(id: &ConnectionId) -> Key {
    Key::new(Table::Config, watched_in(shard(id.as_str())), format!("CONNECTION#{id}"))
}

pub(crate) fn watched_in(shard: u8) -> String {
    format!("WATCHED#{shard}")
}

/// A key under which secrets are sealed.
pub(crate) fn data_key(id: &str) -> Key {
    Key::new(Table::Config, format!("DATA_KEY#{id}"), "META")
}

/// What the last check of a connection read.
pub(crate) fn checked(id: &ConnectionId) -> Key {
    Key::new(Table::Config, format!("CONNECTION#{id}"), "CHECKED")
}

pub(crate) fn app(id: &AppId) -> Key {
    Key::new(Table::Config, format!("APP#{id}"), "META")
}

pub(crate) fn number(id: &NumberId) -> Key {
    Key::new(Table::Config, format!("NUMBER#{id}"), "META")
}

pub(crate) fn waba(id: &WabaId) -> String {
    format!("WABA#{id}")
}

pub(crate) fn connection_of_waba(waba_id: &WabaId, id: &ConnectionId) -> Key {
    Key::new(Table::Config, waba(waba_id), format!("CONNECTION#{id}"))
}

pub(crate) fn attachment(connection: &ConnectionId, agent: &AgentId) -> Key {
    Key::new(Table::Config, format!("CONNECTION#{connection}"), format!("AGENT#{agent}"))
}

/// How much of `what` an agent's endpoints are asked at once, of what they began to be asked within some time.
pub(crate) fn asked_at_once(connection: &ConnectionId, agent: &AgentId, what: &str, within: i64) -> Key {
    Key::new(Table::Config, format!("CONNECTION#{connection}"), format!("ASKED#{agent}#{what}#{within}"))
}

/// That a connection has claimed what it is made of.
pub(crate) fn claimed(connection: &ConnectionId) -> Key {
    Key::new(Table::Config, format!("CONNECTION#{connection}"), "CLAIMED")
}

/// Which agent has Inbound on a connection.
pub(crate) fn inbound_agent(connection: &ConnectionId) -> Key {
    Key::new(Table::Config, format!("CONNECTION#{connection}"), "INBOUND")
}

/// What was answered to a request that must not be done twice, by the hash of its key.
pub(crate) fn idempotency(tenant: &TenantId, key: &str) -> Key {
    Key::new(Table::Config, format!("TENANT#{tenant}"), format!("IDEMPOTENCY#{}", hash(&["idempotency", key])))
}

/// Lines of one millisecond are told apart by what they say.
pub(crate) fn log_line(connection: &ConnectionId, at: Timestamp, text: &str) -> Key {
    let line = hash(&["log", text]);
    Key::new(Table::Config, format!("CONNECTION#{connection}"), format!("LOG#{}#{line}", at.sortable()))
}

pub(crate) fn address(connection: &ConnectionId, address: &Address) -> Key {
    Key::new(Table::Conversations, format!("ADDRESS#{connection}#{}", address.hash(connection)), "CONVERSATION")
}

pub(crate) fn conversation(id: &ConversationId) -> Key {
    Key::new(Table::Conversations, format!("CONVERSATION#{id}"), "STATE")
}

pub(crate) fn contact(id: &ConversationId) -> Key {
    Key::new(Table::Conversations, format!("CONVERSATION#{id}"), "CONTACT")
}

pub(crate) fn listed(connection: &ConnectionId, shard: u8) -> String {
    format!("CONNECTION#{connection}#{shard}")
}

pub(crate) fn activity(connection: &ConnectionId, hour: i64, id: &ConversationId) -> Key {
    Key::new(Table::Conversations, listed(connection, shard(id.as_str())), format!("ACTIVE#{hour:08}#{id}"))
}

pub(crate) fn owed(connection: &ConnectionId, id: &ConversationId) -> Key {
    Key::new(Table::Conversations, listed(connection, shard(id.as_str())), format!("OWED#{id}"))
}

pub(crate) fn erasing(connection: &ConnectionId, id: &ConversationId) -> Key {
    Key::new(Table::Conversations, listed(connection, shard(id.as_str())), format!("ERASING#{id}"))
}

pub(crate) fn erasing_all(connection: &ConnectionId) -> Key {
    Key::new(Table::Conversations, format!("CONNECTION#{connection}"), "ERASING")
}

/// With what the partitions of a connection's addresses begin.
pub(crate) fn addresses(connection: &ConnectionId) -> String {
    format!("ADDRESS#{connection}#")
}

pub(crate) fn messages(id: &ConversationId) -> String {
    format!("CONVERSATION#{id}")
}

pub(crate) fn message(key: &MessageKey) -> Key {
    Key::new(Table::Messages, messages(&key.conversation), key.sort_key())
}

pub(crate) fn body(key: &MessageKey) -> Key {
    Key::new(Table::Messages, messages(&key.conversation), format!("{}#BODY", key.sort_key()))
}

/// A customer's file beside its message.
pub(crate) fn file(key: &MessageKey) -> Key {
    Key::new(Table::Messages, messages(&key.conversation), format!("{}#FILE", key.sort_key()))
}

/// With what the keys of a connection's objects in the bucket begin.
pub(crate) fn objects(connection: &ConnectionId) -> String {
    format!("{connection}/")
}

/// With what the keys of the files begin that customers sent, or that were uploaded, on a day: in the order of the days, so that what is old
/// is listed first.
pub(crate) fn objects_of(connection: &ConnectionId, kind: ObjectKind, at: Timestamp) -> String {
    format!("{connection}/{}/{:05}/", kind.name(), at.as_millis().div_euclid(24 * 60 * 60 * 1_000))
}

/// The object of a file that was uploaded to be sent.
pub(crate) fn uploaded_object(connection: &ConnectionId, at: Timestamp, id: &str) -> String {
    format!("{}{id}", objects_of(connection, ObjectKind::Uploads, at))
}

/// The object of a file that came along with a message of ours.
pub(crate) fn sent_object(connection: &ConnectionId, message: &MessageKey) -> String {
    format!("{}{}/{}", objects_of(connection, ObjectKind::Uploads, message.at), message.conversation, message.id)
}

/// Is it the key of an object of this connection? Whatever else stands in it is a name that S3 does not read.
pub(crate) fn is_object_of(connection: &ConnectionId, key: &str) -> bool {
    let is_plain =
        key.len() <= 1_024 && key.bytes().all(|it| it.is_ascii_graphic()) && !key.split('/').any(|it| matches!(it, "" | "." | ".."));
    let of = |kind: ObjectKind| key.starts_with(&format!("{}{}/", objects(connection), kind.name()));
    is_plain && [ObjectKind::Inbound, ObjectKind::Uploads].into_iter().any(of)
}

/// Meta's id of a file that was taken there for a number, by the hash of what the file is.
pub(crate) fn file_at_meta(number: &NumberId, hash: &str) -> Key {
    Key::new(Table::Conversations, format!("NUMBER#{number}"), format!("MEDIA#{hash}"))
}

/// The object of a customer's file.
pub(crate) fn inbound_object(connection: &ConnectionId, message: &MessageKey) -> String {
    format!("{}{}/{}", objects_of(connection, ObjectKind::Inbound, message.at), message.conversation, message.id)
}

/// A remark on a message: Meta names the message only by its wamid.
pub(crate) fn remark(conversation: &ConversationId, number: &NumberId, target: &Wamid, kind: &str) -> Key {
    let target = hash(&["inbound", number.as_str(), target.as_str()]);
    Key::new(Table::Messages, messages(conversation), format!("ABOUT#{target}#{kind}"))
}

/// A step of a campaign for one customer, by the hash of the campaign's name for it.
pub(crate) fn once(id: &ConversationId, step: &str) -> Key {
    Key::new(Table::Messages, messages(id), format!("ONCE#{step}"))
}

pub(crate) fn template(connection: &ConnectionId, name: &TemplateName, language: &Language) -> Key {
    Key::new(Table::Config, format!("CONNECTION#{connection}"), format!("TEMPLATE#{name}#{language}"))
}

pub(crate) fn catalogue(connection: &ConnectionId) -> Key {
    Key::new(Table::Config, format!("CONNECTION#{connection}"), "CATALOGUE")
}

pub(crate) fn rotation(connection: &ConnectionId) -> Key {
    Key::new(Table::Conversations, format!("CONNECTION#{connection}"), "ROTATION")
}

pub(crate) fn pace(number: &NumberId) -> Key {
    Key::new(Table::Conversations, format!("NUMBER#{number}"), "PACE")
}

fn shard(id: &str) -> u8 {
    id.bytes().fold(0_u8, |sum, it| sum.wrapping_mul(31).wrapping_add(it)) % SHARDS
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use domain::customer::{Bsuid, Phone};
    use domain::ids::MessageId;
    use proptest::prelude::*;

    use super::*;

    fn all(c: &str, v: &str, n: &str, w: &str, at: i64) -> Vec<(String, Key)> {
        let connection_id = ConnectionId::parse(c).expect("valid");
        let conversation_id = ConversationId::parse(v).expect("valid");
        let number_id = NumberId::parse(n).expect("valid");
        let name = TemplateName::parse(format!("step_{n}")).expect("valid");
        let wamid = Wamid::parse(w).expect("valid");
        let key = MessageKey {
            conversation: conversation_id.clone(),
            at: Timestamp::from_millis(at),
            id: MessageId::of_inbound(&number_id, &wamid),
        };
        let phone = Address::Phone(Phone::parse(&format!("34{at:010}")).expect("valid"));
        let bsuid = Address::Bsuid(Bsuid::parse(&format!("ES.{at}")).expect("valid"));
        let named = [
            (format!("connection {c}"), connection(&connection_id)),
            (format!("tenant {c}"), connection_of_tenant(&TenantId::parse(c).expect("valid"), &connection_id)),
            (format!("watched {c}"), watched(&connection_id)),
            (format!("checked {c}"), checked(&connection_id)),
            (format!("app {n}"), app(&AppId::parse(n).expect("valid"))),
            (format!("number {n}"), number(&number_id)),
            (format!("waba {n} {c}"), connection_of_waba(&WabaId::parse(n).expect("valid"), &connection_id)),
            (format!("attachment {c} {v}"), attachment(&connection_id, &AgentId::parse(v).expect("valid"))),
            (format!("inbound agent {c}"), inbound_agent(&connection_id)),
            (format!("claimed {c}"), claimed(&connection_id)),
            (format!("asked {c} {v} {at}"), asked_at_once(&connection_id, &AgentId::parse(v).expect("valid"), "turns", at)),
            (format!("idempotency {c} {w}"), idempotency(&TenantId::parse(c).expect("valid"), w)),
            (format!("log {c} {at} {w}"), log_line(&connection_id, Timestamp::from_millis(at), w)),
            (format!("phone {c} {at}"), address(&connection_id, &phone)),
            (format!("bsuid {c} {at}"), address(&connection_id, &bsuid)),
            (format!("conversation {v}"), conversation(&conversation_id)),
            (format!("contact {v}"), contact(&conversation_id)),
            (format!("activity {c} {at} {v}"), activity(&connection_id, at, &conversation_id)),
            (format!("owed {c} {v}"), owed(&connection_id, &conversation_id)),
            (format!("erasing {c} {v}"), erasing(&connection_id, &conversation_id)),
            (format!("message {v} {n} {w} {at}"), message(&key)),
            (format!("body {v} {n} {w} {at}"), body(&key)),
            (format!("file {v} {n} {w} {at}"), file(&key)),
            (format!("reaction {v} {n} {w}"), remark(&conversation_id, &number_id, &wamid, "reaction")),
            (format!("edit {v} {n} {w}"), remark(&conversation_id, &number_id, &wamid, "edit")),
            (format!("once {v} {w}"), once(&conversation_id, &hash(&["once", w]))),
            (format!("template {c} {n}"), template(&connection_id, &name, &Language::parse("es").expect("valid"))),
            (format!("catalogue {c}"), catalogue(&connection_id)),
            (format!("rotation {c}"), rotation(&connection_id)),
            (format!("erasing all {c}"), erasing_all(&connection_id)),
            (format!("pace {n}"), pace(&number_id)),
            (format!("file at meta {n} {w}"), file_at_meta(&number_id, &hash(&["file", w]))),
        ];
        named.into_iter().collect()
    }

    #[test]
    fn a_key_from_outside_is_good_under_its_own_connection_only() {
        let (demo, at) = (ConnectionId::parse("demo").expect("valid"), Timestamp::from_millis(1_790_000_000_000));
        let is_demos = |key: &str| is_object_of(&demo, key);
        let message = MessageKey {
            conversation: ConversationId::parse("c".repeat(22)).expect("valid"),
            at,
            id: MessageId::of_inbound(&NumberId::parse("1").expect("valid"), &Wamid::parse("wamid.1").expect("valid")),
        };
        let own = [uploaded_object(&demo, at, "1"), sent_object(&demo, &message), inbound_object(&demo, &message)];
        assert!(own.iter().all(|it| is_demos(it)), "{own:?}");
        assert_eq!(own.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
        for key in [
            "",
            "demo",
            "demo/",
            "demo/uploads/",
            "demo/uploads",
            "demo/other/20717/1",
            "demo2/uploads/20717/1",
            "other/uploads/20717/1",
            "/demo/uploads/20717/1",
            "demo/uploads/../../other/uploads/20717/1",
            "demo/uploads/./1",
            "demo/uploads//1",
            "demo/uploads/20717/a b",
            "demo/uploads/20717/\u{e9}",
            &format!("demo/uploads/{}", "1".repeat(1_024)),
        ] {
            assert!(!is_demos(key), "{key}");
        }
    }

    proptest! {
        #[test]
        fn different_things_never_share_a_key(
            things in proptest::collection::vec(("[A-Za-z0-9_-]{1,6}", "[A-Za-z0-9_-]{22}", "[0-9]{1,5}", "\\PC{1,12}", 0_i64..9_999_999), 1..6)
        ) {
            let mut seen: BTreeMap<Key, String> = BTreeMap::new();
            for (c, v, n, w, at) in &things {
                for (name, key) in all(c, v, n, w, *at) {
                    let before = seen.insert(key, name.clone());
                    prop_assert!(before.as_ref().is_none_or(|it| *it == name), "{before:?} and {name}");
                }
            }
        }

        #[test]
        fn no_key_holds_an_address_or_a_wamid(w in "wamid\\.[A-Z]{20}", at in 1_000_000_000_i64..9_999_999_999) {
            for (_, key) in all("demo", &"v".repeat(22), "1", &w, at) {
                let text = format!("{}{}", key.pk, key.sk);
                prop_assert!(!text.contains(&w) && !text.contains(&format!("34{at:010}")) && !text.contains("ES."), "{text}");
            }
        }
    }
}
