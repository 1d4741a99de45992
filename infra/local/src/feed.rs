//! What `events` tells of our messages, as a platform reads it.

use serde_json::Value;

/// What an event says of one of our messages.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    /// Meta's step (`sent`, `delivered`, `read`, `failed`) or one of ours.
    pub(crate) step: String,
    /// When, by Meta's clock, in milliseconds since 1970.
    pub(crate) at_ms: i64,
}

/// What an event says of a message, None if it is about something else.
pub(crate) fn decode(body: &str) -> Option<Told> {
    let event: Value = serde_json::from_str(body).ok()?;
    let step = event["step"].as_str().filter(|_| event["type"] == "message.state")?;
    Some(Told { step: step.to_owned(), at_ms: event["at"].as_i64()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_became_of_a_message_is_told_on() {
        let told = decode(r#"{"v":1,"type":"message.state","step":"delivered","at":1790000000123}"#);
        assert_eq!(told, Some(Told { step: "delivered".to_owned(), at_ms: 1_790_000_000_123 }));
        assert_eq!(decode(r#"{"v":1,"type":"message.kept","at":1790000000123}"#), None);
        assert_eq!(decode(r#"{"v":1,"type":"message.state","step":"read"}"#), None);
        assert_eq!(decode("no JSON"), None);
    }
}
