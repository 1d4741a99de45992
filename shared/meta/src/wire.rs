//! Reading Meta's JSON without ever failing: each object as its members, each member as its text, nothing decoded before it is asked for.
//!
//! Members may repeat (the last one counts), be of another type than documented, be unknown, or hold half of a surrogate pair, which
//! `serde_json` refuses; none of it harms a neighbour. This file must not know what any member means.

use std::borrow::Cow;
use std::fmt;

use domain::time::Timestamp;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of a JSON object, borrowed from the text.
#[derive(Default)]
pub(crate) struct Object<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Object<'a> {
    /// The members of `raw`, if it is an object.
    pub(crate) fn read(raw: &'a RawValue) -> Option<Self> {
        Self::parse(raw.get())
    }

    /// The members of a JSON text, if it is an object.
    pub(crate) fn parse(json: &'a str) -> Option<Self> {
        // A text that is no object is not worth an error value.
        json.trim_start().starts_with('{').then(|| serde_json::from_str(json).ok()).flatten()
    }

    /// The member of that name; `null` is none.
    pub(crate) fn get(&self, name: &str) -> Option<&'a RawValue> {
        let (_, raw) = self.members.iter().rev().find(|(it, _)| it == name)?;
        (raw.get() != "null").then_some(*raw)
    }

    /// The member of that name, if it is an object.
    pub(crate) fn object(&self, name: &str) -> Option<Self> {
        self.get(name).and_then(Self::read)
    }

    /// The elements of the member of that name.
    pub(crate) fn elements(&self, name: &str) -> Vec<&'a RawValue> {
        self.get(name).map(elements).unwrap_or_default()
    }

    /// The member of that name as text; see [`text`].
    pub(crate) fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        self.get(name).and_then(text)
    }

    /// The member of that name as text of its own, unless it is empty.
    pub(crate) fn words(&self, name: &str) -> Option<String> {
        self.text(name).filter(|it| !it.is_empty()).map(Cow::into_owned)
    }

    /// Is the member of that name `true`?
    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|it| it.get() == "true")
    }

    /// The member of that name as a time; see [`time`].
    pub(crate) fn time(&self, name: &str) -> Option<Timestamp> {
        self.get(name).and_then(time)
    }

    /// The members that `known` does not name, with what they hold.
    pub(crate) fn others(&self, known: &[&str]) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.members.iter().filter(|(name, _)| !known.contains(&name.as_ref())).map(|(name, raw)| (name.as_ref(), *raw))
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                // Most of Meta's objects have up to eight members.
                let mut members = Vec::with_capacity(8);
                while let Some((name, raw)) = map.next_entry::<&RawValue, &RawValue>()? {
                    members.push((string(name.get()), raw));
                }
                Ok(Object { members })
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// The elements of an array; of `null` none; anything else is its own only element, so that nothing is lost where a list was expected.
pub(crate) fn elements(raw: &RawValue) -> Vec<&RawValue> {
    match raw.get().as_bytes().first() {
        Some(b'[') => serde_json::from_str(raw.get()).unwrap_or_default(),
        Some(b'n') => Vec::new(),
        _ => vec![raw],
    }
}

/// A string without its NULs, or a number as it is written: Meta sends ids and times as either.
pub(crate) fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let json = raw.get();
    match json.as_bytes().first()? {
        b'"' => Some(string(json)),
        b'-' | b'0'..=b'9' => Some(Cow::Borrowed(json)),
        _ => None,
    }
}

/// A time in seconds or milliseconds, as a string or a number.
pub(crate) fn time(raw: &RawValue) -> Option<Timestamp> {
    let text = text(raw)?;
    let text = text.trim();
    let whole = text.parse().ok();
    #[expect(clippy::cast_possible_truncation, reason = "a time beyond what fits is cut to the latest one anyhow")]
    let value = whole.or_else(|| text.parse::<f64>().ok().filter(|it| it.is_finite()).map(|it| it as i64))?;
    Some(Timestamp::from_meta(value))
}

/// The JSON text as it is kept: as it came, but such that any reader of JSON takes it.
pub(crate) fn kept(raw: &RawValue) -> String {
    let json = raw.get();
    if json.contains("\\u") { repaired(json) } else { json.to_owned() }
}

/// The value of a JSON string.
fn string(json: &str) -> Cow<'_, str> {
    let inner = json.get(1..json.len().saturating_sub(1)).unwrap_or_default();
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let decoded = serde_json::from_str::<String>(json).or_else(|_| serde_json::from_str(&repaired(json)));
    let mut text = decoded.unwrap_or_else(|_| inner.to_owned());
    text.retain(|it| it != '\0');
    Cow::Owned(text)
}

/// The same JSON text, with U+FFFD for each half of a surrogate pair whose other half is missing.
fn repaired(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        // An escape is two bytes, or six for `\uXXXX`, or twelve for a pair of surrogates.
        let length = match unit(rest) {
            None => 2,
            Some(0xD800..=0xDBFF) if matches!(rest.get(6..).and_then(unit), Some(0xDC00..=0xDFFF)) => 12,
            Some(0xD800..=0xDFFF) => {
                out.push_str("\\ufffd");
                rest = &rest[6..];
                continue;
            }
            Some(_) => 6,
        };
        let (escape, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        out.push_str(escape);
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The UTF-16 unit of a `\uXXXX` at the start of `json`.
fn unit(json: &str) -> Option<u16> {
    u16::from_str_radix(json.strip_prefix("\\u")?.get(..4)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw(json: &str) -> &RawValue {
        serde_json::from_str(json).expect("JSON")
    }

    #[test]
    fn half_a_surrogate_pair_is_replaced_and_nothing_else() {
        assert_eq!(text(raw(r#""a \ud83d b""#)).as_deref(), Some("a \u{FFFD} b"));
        assert_eq!(text(raw(r#""a \udc4b""#)).as_deref(), Some("a \u{FFFD}"));
        assert_eq!(text(raw(r#""\ud83d\ud83d\udc4b""#)).as_deref(), Some("\u{FFFD}👋"));
        assert_eq!(text(raw(r#""\\ud83d \ud83d""#)).as_deref(), Some("\\ud83d \u{FFFD}"), "an escaped backslash is no escape");
        assert_eq!(kept(raw(r#"{"a":"\ud83d","b":"\u00e9"}"#)), r#"{"a":"\ufffd","b":"\u00e9"}"#);
    }

    #[test]
    fn nul_is_dropped() {
        assert_eq!(text(raw(r#""a\u0000b""#)).as_deref(), Some("ab"));
    }

    #[test]
    fn strings_and_numbers_are_text_and_nothing_else_is() {
        assert_eq!(text(raw("1689556908129832")).as_deref(), Some("1689556908129832"));
        assert_eq!(text(raw("18446744073709551616")).as_deref(), Some("18446744073709551616"));
        for json in ["null", "true", "[]", "{}"] {
            assert_eq!(text(raw(json)), None, "{json}");
        }
    }

    #[test]
    fn times_come_as_strings_numbers_seconds_and_milliseconds() {
        for json in
            ["1790000001", "\"1790000001\"", "\" 1790000001\"", "1790000001.0", "1790000001000", "\"1790000001000\"", "1.790000001e9"]
        {
            assert_eq!(time(raw(json)).map(Timestamp::as_millis), Some(1_790_000_001_000), "{json}");
        }
        for json in ["null", "\"\"", "\"soon\"", "\"NaN\"", "[]", "true"] {
            assert_eq!(time(raw(json)), None, "{json}");
        }
        assert_eq!(time(raw("1e300")), Some(Timestamp::MAX));
    }

    #[test]
    fn of_repeated_members_the_last_counts() {
        let it = Object::parse(r#"{"a":1,"\u0061":2,"b":3}"#).expect("an object");
        assert_eq!(it.text("a").as_deref(), Some("2"));
        assert_eq!(it.others(&["a"]).map(|(name, _)| name).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn where_a_list_was_expected_anything_else_is_its_only_element() {
        assert_eq!(elements(raw("[1,2]")).len(), 2);
        assert_eq!(elements(raw("{\"a\":[1,2]}")).len(), 1);
        assert!(elements(raw("null")).is_empty());
    }

    proptest! {
        #[test]
        fn what_is_kept_can_be_read_by_all(units in proptest::collection::vec(any::<u16>(), 0..40)) {
            let escapes: String = units.iter().map(|it| format!("\\u{it:04x}")).collect();
            let json = format!("{{\"{escapes}\":[\"{escapes}\",1]}}");
            let kept = kept(raw(&json));
            prop_assert!(serde_json::from_str::<serde_json::Value>(&kept).is_ok(), "{}", kept);
            let expected: String = String::from_utf16_lossy(&units).replace('\0', "");
            let quoted = format!("\"{escapes}\"");
            let read = string(&quoted).into_owned();
            prop_assert_eq!(read, expected);
        }
    }
}
