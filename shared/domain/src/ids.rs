//! Identifiers, each its own type, built by parsing.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::time::Timestamp;

/// Why a text is no identifier. The text itself is not repeated: it may be a person's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a {what}: expected {expected}")]
pub struct Malformed {
    /// What it should have been.
    pub what: &'static str,
    /// What such a thing looks like.
    pub expected: &'static str,
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $what:literal, $expected:literal, $pattern:literal, $is_valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String", extend("pattern" = $pattern))]
        pub struct $name(String);

        impl $name {
            #[doc = concat!("A ", $what, " from text: ", $expected, ".")]
            ///
            /// # Errors
            /// [`Malformed`] if the text does not look like one.
            pub fn parse(text: impl Into<String>) -> Result<Self, Malformed> {
                let text = text.into();
                let is_valid: fn(&str) -> bool = $is_valid;
                if is_valid(&text) { Ok(Self(text)) } else { Err(Malformed { what: $what, expected: $expected }) }
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Malformed;
            fn try_from(text: String) -> Result<Self, Malformed> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(it: $name) -> Self {
                it.0
            }
        }
    };
}

/// Identifiers that may stand in logs.
macro_rules! printable {
    ($($name:ident),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

/// Identifiers of people: never printed, so that no log holds them.
macro_rules! personal {
    ($($name:ident),+) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    )+};
}

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-' || it == b'_')
}

fn is_meta_id(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_digit())
}

identifier!(
    /// Who the platform's client is: owns connections.
    TenantId, "tenant id", "1 to 64 letters, digits, `-` or `_`", "^[A-Za-z0-9_-]{1,64}$", is_name
);
identifier!(
    /// The credentials of one WhatsApp Business account with its numbers.
    ConnectionId, "connection id", "1 to 64 letters, digits, `-` or `_`", "^[A-Za-z0-9_-]{1,64}$", is_name
);
identifier!(
    /// A recipient of turns, outside this system.
    AgentId, "agent id", "1 to 64 letters, digits, `-` or `_`", "^[A-Za-z0-9_-]{1,64}$", is_name
);
identifier!(
    /// Meta's id of an app: <https://developers.facebook.com/docs/development/create-an-app>.
    AppId, "app id", "1 to 32 digits", "^[0-9]{1,32}$", is_meta_id
);
identifier!(
    /// Meta's id of a WhatsApp Business account.
    WabaId, "WhatsApp Business account id", "1 to 32 digits", "^[0-9]{1,32}$", is_meta_id
);
identifier!(
    /// One business phone number, by Meta's `phone_number_id`: the only name of a number that is the same everywhere.
    NumberId, "phone number id", "1 to 32 digits", "^[0-9]{1,32}$", is_meta_id
);
identifier!(
    /// Meta's id of a message (`wamid.…`): opaque, and it contains a phone number, so it is never logged and never a key.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages>
    Wamid, "WhatsApp message id", "1 to 1024 bytes", "^[!-~]{1,1024}$", |it| (1..=1024).contains(&it.len())
);
identifier!(
    /// Everything between one connection and one customer. A hash, so it may stand in keys and logs.
    ConversationId, "conversation id", "22 characters of base64url", "^[A-Za-z0-9_-]{22}$", is_hash
);
identifier!(
    /// One message: for an inbound one the hash of number and wamid, for an outbound one a UUIDv7, with `.NN` for a further part.
    MessageId, "message id", "1 to 64 letters, digits, `-`, `_` or `.`", "^[A-Za-z0-9_.-]{1,64}$",
    |it| (1..=64).contains(&it.len()) && it.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.'))
);

identifier!(
    /// The name of a template. Names repeat across languages: name and [`Language`](crate::template::Language) together say which is meant.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/components>
    TemplateName, "template name", "1 to 512 of a to z, 0 to 9 and _", "^[a-z0-9_]{1,512}$",
    |it| (1..=512).contains(&it.len()) && it.bytes().all(|it| matches!(it, b'a'..=b'z' | b'0'..=b'9' | b'_'))
);

printable!(TenantId, ConnectionId, AgentId, AppId, WabaId, NumberId, ConversationId, MessageId, TemplateName);
personal!(Wamid);

fn is_hash(text: &str) -> bool {
    text.len() == 22 && text.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-' || it == b'_')
}

/// Twenty-two characters of base64url of the SHA-256 of `parts`: what stands in keys, groups and logs for a person's address or a wamid.
///
/// Each part goes in with its length, so that no two lists of parts run into one another.
#[must_use]
pub fn hash(parts: &[&str]) -> String {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update((part.len() as u64).to_be_bytes());
        sha.update(part.as_bytes());
    }
    URL_SAFE_NO_PAD.encode(&sha.finalize()[..16])
}

impl ConversationId {
    /// The id of the conversation that `seed` began (the message that was first): the same on every redelivery.
    #[must_use]
    pub fn derived(connection: &ConnectionId, seed: &str) -> Self {
        Self(hash(&["conversation", connection.as_str(), seed]))
    }
}

impl MessageId {
    /// The id of a customer's message: the same on every redelivery.
    #[must_use]
    pub fn of_inbound(number: &NumberId, wamid: &Wamid) -> Self {
        Self(hash(&["inbound", number.as_str(), wamid.as_str()]))
    }

    /// The id of the `index`-th reply to `turn`: a UUIDv7 whose time is the turn's, `index` + 1 milliseconds on, and whose rest is a hash.
    ///
    /// An agent that is told a turn twice derives the same ids, so it is answered once.
    #[must_use]
    pub fn of_reply(turn: &MessageKey, index: u16) -> Self {
        Self::of_digest(reply_time(turn.at, index), &Sha256::digest(format!("reply/{}/{}/{index}", turn.conversation, turn.id)))
    }

    /// The id of a message that a tenant's program asks for at `at` under a key of its own: a UUIDv7 of that time, whose rest is a hash.
    #[must_use]
    pub fn of_request(tenant: &TenantId, key: &str, at: Timestamp) -> Self {
        Self::of_digest(at, &Sha256::digest(format!("request/{tenant}/{}/{key}", at.as_millis())))
    }

    fn of_digest(at: Timestamp, digest: &[u8]) -> Self {
        let mut bytes = [0_u8; 16];
        bytes.copy_from_slice(&digest[..16]);
        bytes[..6].copy_from_slice(&at.as_millis().to_be_bytes()[2..]);
        let id = uuid::Builder::from_bytes(bytes).with_version(uuid::Version::SortRand).with_variant(uuid::Variant::RFC4122);
        Self(id.into_uuid().to_string())
    }

    /// A UUIDv7 given by whoever made the job, and the time in it.
    ///
    /// # Errors
    /// [`Malformed`] if the text is no UUIDv7.
    pub fn of_job(text: &str) -> Result<(Self, Timestamp), Malformed> {
        let malformed = Malformed { what: "job id", expected: "a UUIDv7" };
        let id = uuid::Uuid::try_parse(text).map_err(|_| malformed)?;
        if id.get_version() != Some(uuid::Version::SortRand) {
            return Err(malformed);
        }
        let bytes = id.as_bytes();
        let mut millis = [0_u8; 8];
        millis[2..].copy_from_slice(&bytes[..6]);
        Ok((Self(id.to_string()), Timestamp::from_millis(i64::from_be_bytes(millis))))
    }

    /// The id of the `part`-th part (from 0) of a message that was split: the first keeps the message's own id, and text sorts as the parts do.
    #[must_use]
    pub fn part(&self, part: usize) -> Self {
        if part == 0 { self.clone() } else { Self(format!("{}.{part:03}", self.0)) }
    }
}

/// The time in a reply's key: after its turn, before the reply that follows.
#[must_use]
pub fn reply_time(turn: Timestamp, index: u16) -> Timestamp {
    turn.plus(std::time::Duration::from_millis(u64::from(index) + 1))
}

/// Where one message is kept; it can be computed from what is in hand.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[A-Za-z0-9_-]{22}/[0-9]{13}/[A-Za-z0-9_.-]{1,64}$"))]
pub struct MessageKey {
    /// The conversation (or the part of a merged one) in which the item lies.
    pub conversation: ConversationId,
    /// Inbound: Meta's time. Outbound: the job's own.
    pub at: Timestamp,
    /// The message.
    pub id: MessageId,
}

impl MessageKey {
    /// From text as [`fmt::Display`] prints it: `<conversation>/<13 digits>/<id>`.
    ///
    /// # Errors
    /// [`Malformed`] if the text is not of that form.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let malformed = Malformed { what: "message key", expected: "<conversation>/<13 digits>/<id>" };
        let mut parts = text.splitn(3, '/');
        let (Some(conversation), Some(at), Some(id)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed);
        };
        if at.len() != 13 || !at.bytes().all(|it| it.is_ascii_digit()) {
            return Err(malformed);
        }
        Ok(Self {
            conversation: ConversationId::parse(conversation)?,
            at: Timestamp::from_millis(at.parse().map_err(|_| malformed)?),
            id: MessageId::parse(id)?,
        })
    }

    /// The sort key of the item: `<13-digit ms>#<id>`.
    #[must_use]
    pub fn sort_key(&self) -> String {
        format!("{}#{}", self.at.sortable(), self.id)
    }
}

impl fmt::Display for MessageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.conversation, self.at.sortable(), self.id)
    }
}

impl TryFrom<String> for MessageKey {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        Self::parse(&text)
    }
}

impl From<MessageKey> for String {
    fn from(it: MessageKey) -> Self {
        it.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::customer::{Bsuid, Phone};
    use crate::template::Language;

    #[test]
    fn a_reply_derives_the_same_id_from_the_same_turn() {
        let turn = MessageKey {
            conversation: ConversationId::parse("abcdefghijklmnopqrstuv").expect("valid"),
            at: Timestamp::from_millis(1_790_000_001_000),
            id: MessageId::parse("abc").expect("valid"),
        };
        let first = MessageId::of_reply(&turn, 0);
        assert_eq!(first, MessageId::of_reply(&turn, 0));
        assert_ne!(first, MessageId::of_reply(&turn, 1));
        let (parsed, at) = MessageId::of_job(first.as_str()).expect("a UUIDv7");
        assert_eq!((parsed, at.as_millis()), (first, 1_790_000_001_001));
    }

    #[test]
    fn a_request_makes_an_id_of_its_own_time_that_nobody_else_makes() {
        let (tenant, at) = (TenantId::parse("demo").expect("valid"), Timestamp::from_millis(1_790_000_001_000));
        let id = MessageId::of_request(&tenant, "k", at);
        assert_eq!(MessageId::of_job(id.as_str()).expect("a UUIDv7"), (id.clone(), at));
        assert_ne!(id, MessageId::of_request(&tenant, "l", at));
        assert_ne!(id, MessageId::of_request(&TenantId::parse("other").expect("valid"), "k", at));
    }

    #[test]
    fn a_job_id_that_is_no_uuid_v7_is_refused() {
        assert!(MessageId::of_job("8c1f8d0e-7f3b-4c2a-9a55-0d7c4ea2f001").is_err());
        assert!(MessageId::of_job("later").is_err());
    }

    /// A text that the JSON Schema of a type allows.
    fn allowed<T: JsonSchema>() -> impl Strategy<Value = String> {
        let schema = schemars::schema_for!(T);
        let pattern = schema.get("pattern").and_then(|it| it.as_str()).expect("a pattern");
        let inner = pattern.trim_start_matches('^').trim_end_matches('$');
        proptest::string::string_regex(inner).expect("a pattern that strings are made from")
    }

    proptest! {
        #[test]
        fn what_the_schema_allows_is_taken(
            name in allowed::<TenantId>(), digits in allowed::<NumberId>(), wamid in allowed::<Wamid>(), template in allowed::<TemplateName>(),
            conversation in allowed::<ConversationId>(), message in allowed::<MessageId>(), phone in allowed::<Phone>(),
            bsuid in allowed::<Bsuid>(), language in allowed::<Language>()
        ) {
            prop_assert!(TenantId::parse(name).is_ok() && NumberId::parse(digits).is_ok() && Wamid::parse(wamid).is_ok());
            prop_assert!(TemplateName::parse(template).is_ok() && ConversationId::parse(conversation).is_ok());
            prop_assert!(MessageId::parse(message).is_ok() && Phone::parse(&phone).is_ok() && Bsuid::parse(&bsuid).is_ok());
            prop_assert!(Language::parse(language).is_ok());
        }

        #[test]
        fn different_parts_never_share_a_hash(a in proptest::collection::vec(".{0,8}", 0..4), b in proptest::collection::vec(".{0,8}", 0..4)) {
            prop_assume!(a != b);
            let left: Vec<&str> = a.iter().map(String::as_str).collect();
            let right: Vec<&str> = b.iter().map(String::as_str).collect();
            prop_assert_ne!(hash(&left), hash(&right));
        }

        #[test]
        fn a_message_key_prints_and_parses_to_itself(at in 0_i64..9_999_999_999_999, id in "[A-Za-z0-9_.-]{1,64}", conversation in "[A-Za-z0-9_-]{22}") {
            let key = MessageKey {
                conversation: ConversationId::parse(conversation).expect("valid"),
                at: Timestamp::from_millis(at),
                id: MessageId::parse(id).expect("valid"),
            };
            prop_assert_eq!(MessageKey::parse(&key.to_string()).expect("parses"), key);
        }

        #[test]
        fn whatever_meta_puts_into_a_wamid_ids_differ(a in "\\PC{1,60}", b in "\\PC{1,60}", n in "[0-9]{1,8}", m in "[0-9]{1,8}") {
            prop_assume!((&a, &n) != (&b, &m));
            let id = |number: &str, wamid: &str| {
                MessageId::of_inbound(&NumberId::parse(number).expect("valid"), &Wamid::parse(wamid).expect("valid"))
            };
            prop_assert_ne!(id(&n, &a), id(&m, &b));
        }
    }
}
