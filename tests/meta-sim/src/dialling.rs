//! Telephone numbers as Meta takes and gives them: what `to` may look like, and which `wa_id` it becomes.
//!
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/phone-numbers>,
//! *WhatsApp user phone number formats*. Pure; knows no books.

/// Calling codes of two digits; `1` and `7` have one digit and all others three (ITU-T E.164).
const TWO_DIGITS: &[&str] = &[
    "20", "27", "30", "31", "32", "33", "34", "36", "39", "40", "41", "43", "44", "45", "46", "47", "48", "49", "51", "52", "53", "54",
    "55", "56", "57", "58", "60", "61", "62", "63", "64", "65", "66", "81", "82", "84", "86", "90", "91", "92", "93", "94", "95", "98",
];

/// Countries whose business-scoped user ids get their own prefix here; all others are told as `US`.
const COUNTRIES: &[(&str, &str)] = &[
    ("1", "US"),
    ("33", "FR"),
    ("34", "ES"),
    ("39", "IT"),
    ("44", "GB"),
    ("49", "DE"),
    ("51", "PE"),
    ("52", "MX"),
    ("54", "AR"),
    ("55", "BR"),
    ("56", "CL"),
    ("57", "CO"),
    ("91", "IN"),
];

/// The digits of `text`.
pub(crate) fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// The calling code at the front of a full international number.
pub(crate) fn calling_code(number: &str) -> &str {
    let length = match number.as_bytes() {
        [b'1' | b'7', ..] => 1,
        _ if TWO_DIGITS.iter().any(|code| number.starts_with(code)) => 2,
        _ => 3.min(number.len()),
    };
    &number[..length]
}

/// ISO code of the country that a full international number belongs to.
pub(crate) fn country(number: &str) -> &'static str {
    let code = calling_code(number);
    COUNTRIES.iter().find(|(known, _)| *known == code).map_or("US", |(_, country)| country)
}

/// Whether `text` is a business-scoped user id (`MX.9007199254740993`, or `MX.ENT.…` of a parent) and no telephone number.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-scoped-user-ids>
pub(crate) fn is_user_id(text: &str) -> bool {
    let Some((country, id)) = text.split_once('.') else { return false };
    let id = id.strip_prefix("ENT.").unwrap_or(id);
    country.len() == 2
        && country.bytes().all(|it| it.is_ascii_uppercase())
        && (1..=128).contains(&id.len())
        && id.bytes().all(|it| it.is_ascii_alphanumeric())
}

/// The full international digits of `to`, as the business number `own` dials them, or `None` if it is no telephone number.
///
/// Without a plus sign, digits too short to be international get the business's own calling code.
pub(crate) fn dialled(to: &str, own: &str) -> Option<String> {
    let is_phone = !to.is_empty() && to.chars().all(|it| it.is_ascii_digit() || matches!(it, '+' | ' ' | '-' | '(' | ')' | '.'));
    let mut number = digits(to);
    if !to.trim_start().starts_with('+') && number.len() <= 10 {
        number.insert_str(0, calling_code(&digits(own)));
    }
    (is_phone && (7..=15).contains(&number.len()) && !number.starts_with('0')).then_some(number)
}

/// Every form in which one Brazilian, Mexican or Argentine telephone is dialled, the given one first; for other countries only that one.
pub(crate) fn forms(number: &str) -> Vec<String> {
    let other = match (calling_code(number), number.len()) {
        ("55", 13) if number.as_bytes()[4] == b'9' => Some(format!("{}{}", &number[..4], &number[5..])),
        ("55", 12) => Some(format!("{}9{}", &number[..4], &number[4..])),
        ("52", 13) if number.starts_with("521") => Some(format!("52{}", &number[3..])),
        ("52", 12) => Some(format!("521{}", &number[2..])),
        ("54", 13) if number.starts_with("549") => Some(format!("54{}", &number[3..])),
        ("54", 12) => Some(format!("549{}", &number[2..])),
        _ => None,
    };
    std::iter::once(number.to_owned()).chain(other).collect()
}

/// The `wa_id` of a telephone of which nothing else is known: the form with the mobile digit in Mexico and Argentina,
/// in Brazil with the ninth digit only in the area codes up to 28.
pub(crate) fn wa_id(number: &str) -> String {
    let mut forms = forms(number);
    forms.sort_by_key(String::len);
    let keeps_longest = match calling_code(number) {
        "55" => number.get(2..4).and_then(|it| it.parse::<u8>().ok()).is_some_and(|area| area <= 28),
        _ => true,
    };
    let chosen = if keeps_longest { forms.pop() } else { forms.into_iter().next() };
    chosen.unwrap_or_else(|| number.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_is_taken_in_many_spellings() {
        let own = "+91 22 5550 0100";
        let table = [
            ("+52 1 55 1234-5678", Some("5215512345678")),
            ("5215512345678", Some("5215512345678")),
            ("+1 (555) 010-0001", Some("15550100001")),
            ("6315551234", Some("916315551234")),
            ("15550100001", Some("15550100001")),
            ("+6315551234", Some("6315551234")),
            ("+12", None),
            ("+1234567890123456", None),
            ("+05550100001", None),
            ("tomorrow", None),
            ("", None),
        ];
        for (to, expected) in table {
            assert_eq!(dialled(to, own).as_deref(), expected, "{to:?}");
        }
    }

    #[test]
    fn the_wa_id_may_differ_from_what_was_dialled() {
        let table = [
            ("525512345678", "5215512345678"),
            ("5215512345678", "5215512345678"),
            ("541123456789", "5491123456789"),
            ("5511987654321", "5511987654321"),
            ("551187654321", "5511987654321"),
            ("5531987654321", "553187654321"),
            ("553187654321", "553187654321"),
            ("15550100001", "15550100001"),
            ("55", "55"),
        ];
        for (dialled, expected) in table {
            assert_eq!(wa_id(dialled), expected, "{dialled}");
            assert!(forms(dialled).contains(&expected.to_owned()), "{dialled}");
        }
    }

    #[test]
    fn user_ids_are_told_from_telephones() {
        for text in ["MX.9007199254740993", "BR.ENT.77aZ"] {
            assert!(is_user_id(text), "{text}");
        }
        for text in ["5215512345678", "mx.9007", "MX.", "MX.90 07", "MEX.9007", "MX.ENT."] {
            assert!(!is_user_id(text), "{text}");
        }
    }

    #[test]
    fn countries_by_calling_code() {
        assert_eq!(["5215512345678", "15550100001", "447700900001", "972500000001"].map(calling_code), ["52", "1", "44", "972"]);
        assert_eq!(["5215512345678", "15550100001"].map(country), ["MX", "US"]);
    }
}
