//! What travels with a message to Meta as `biz_opaque_callback_data` and comes back in its statuses: where the message is kept.
//!
//! Every app on the account reads it, and whoever holds the app's secret can forge it: so it holds no secret and proves nothing.
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages/status>

use domain::ids::MessageKey;

/// Its form; another version is somebody else's.
const VERSION: &str = "wc1";

/// Where a message is kept, and which attempt of it went out.
#[must_use]
pub(crate) fn print(key: &MessageKey, attempt: u8) -> String {
    format!("{VERSION}|{attempt}|{key}")
}

/// The same, read; nothing if it is not ours.
#[must_use]
pub(crate) fn parse(text: &str) -> Option<(MessageKey, u8)> {
    let rest = text.strip_prefix(VERSION)?.strip_prefix('|')?;
    let (attempt, key) = rest.split_once('|')?;
    let attempt = match attempt {
        "1" => 1,
        "2" => 2,
        _ => return None,
    };
    Some((MessageKey::parse(key).ok()?, attempt))
}

#[cfg(test)]
mod tests {
    use domain::ids::{ConversationId, MessageId};
    use domain::time::Timestamp;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_printed_parses_and_fits(conversation in "[A-Za-z0-9_-]{22}", at in 0_i64..9_999_999_999_999, id in "[A-Za-z0-9_.-]{1,64}", attempt in 1_u8..=2) {
            let key = MessageKey {
                conversation: ConversationId::parse(conversation).expect("valid"),
                at: Timestamp::from_millis(at),
                id: MessageId::parse(id).expect("valid"),
            };
            let text = print(&key, attempt);
            prop_assert!(text.len() < 512);
            prop_assert_eq!(parse(&text), Some((key, attempt)));
        }

        #[test]
        fn anything_else_is_somebody_elses(text in "\\PC{0,80}") {
            prop_assume!(!text.starts_with("wc1|"));
            prop_assert_eq!(parse(&text), None);
        }
    }

    #[test]
    fn a_third_attempt_is_nobodys() {
        assert_eq!(parse("wc1|3|abcdefghijklmnopqrstuv/1790000001000/x"), None);
    }
}
