//! How Meta says that a number stands.
//!
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/phone-numbers>
//! This file must not know what follows from it.

use domain::connection::Quality;

use crate::wire::Object;

/// How a number stands. What Meta does not say, or not in words that are known here, is absent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NumberState {
    /// Meta's word: `CONNECTED`, `FLAGGED`, `RESTRICTED`, `DISCONNECTED`, `BANNED`, ….
    pub status: Option<String>,
    /// Meta's judgement of its messages.
    pub quality: Option<Quality>,
    /// How many messages a second it may send and receive together.
    pub per_second: Option<u32>,
}

/// The answer of `GET /{phone-number-id}`; nothing if it is no number at all.
#[must_use]
pub fn state(body: &[u8]) -> Option<NumberState> {
    let body = String::from_utf8_lossy(body);
    let number = Object::parse(&body)?;
    number.get("id")?;
    Some(state_of(&number))
}

/// The same of a number in a list.
pub(crate) fn state_of(number: &Object<'_>) -> NumberState {
    let word = |object: &Object<'_>, name: &str| object.words(name).map(|it| it.to_ascii_uppercase());
    let quality = word(number, "quality_rating").map(|it| match it.as_str() {
        "GREEN" => Quality::Green,
        "YELLOW" => Quality::Yellow,
        "RED" => Quality::Red,
        _ => Quality::Unknown,
    });
    let level = number.object("throughput").and_then(|it| word(&it, "level"));
    NumberState { status: word(number, "status"), quality, per_second: level.and_then(|it| per_second(&it)) }
}

/// Meta names levels, and their figures elsewhere: <https://developers.facebook.com/documentation/business-messaging/whatsapp/throughput>.
///
/// A number to which levels do not apply is shared with the WhatsApp Business app, and has the lowest figure of all.
fn per_second(level: &str) -> Option<u32> {
    match level {
        "STANDARD" => Some(80),
        "HIGH" => Some(1_000),
        "NOT_APPLICABLE" => Some(20),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_word_by_word() {
        let read = |json: &str| state(json.as_bytes());
        let told = |status: &str, quality, per_second| Some(NumberState { status: Some(status.to_owned()), quality, per_second });
        let table = [
            ("CONNECTED", "GREEN", "STANDARD", Some(Quality::Green), Some(80)),
            ("flagged", "yellow", "high", Some(Quality::Yellow), Some(1_000)),
            ("RESTRICTED", "RED", "NOT_APPLICABLE", Some(Quality::Red), Some(20)),
            ("BANNED", "NA", "LATER", Some(Quality::Unknown), None),
        ];
        for (status, quality, level, expected, per_second) in table {
            let json = format!(r#"{{"id":"1","status":"{status}","quality_rating":"{quality}","throughput":{{"level":"{level}"}}}}"#);
            assert_eq!(read(&json), told(&status.to_ascii_uppercase(), expected, per_second), "{json}");
        }
        assert_eq!(read(r#"{"id":"1"}"#), Some(NumberState::default()), "what is not said is absent");
        for other in ["{}", "[]", "", "<html>", r#"{"status":"CONNECTED"}"#] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
