//! A person on WhatsApp: known by a phone number, by a business-scoped user id, or by both.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{ConnectionId, Malformed, hash};

/// A phone number as Meta writes it in webhooks: digits with the country code, no plus.
///
/// It is a person's: it is never printed by [`fmt::Debug`], and has no `Display`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^\\+?[ ().-]*([0-9][ ().-]*){5,20}$"))]
pub struct Phone(String);

impl Phone {
    /// From digits, with or without a leading plus, and with the spaces, hyphens and parentheses that people write.
    ///
    /// # Errors
    /// [`Malformed`] unless 5 to 20 digits remain.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let malformed = Malformed { what: "phone number", expected: "5 to 20 digits with the country code" };
        let rest = text.trim().strip_prefix('+').unwrap_or(text.trim());
        let digits: String = rest.chars().filter(|it| !matches!(it, ' ' | '-' | '(' | ')' | '.')).collect();
        if (5..=20).contains(&digits.len()) && digits.bytes().all(|it| it.is_ascii_digit()) { Ok(Self(digits)) } else { Err(malformed) }
    }

    /// The digits, no plus.
    #[must_use]
    pub fn digits(&self) -> &str {
        &self.0
    }

    /// All forms under which this number is known, itself first: Meta knows Brazilian numbers with and without the ninth digit,
    /// Mexican ones as `52` and `521`, Argentinian ones as `54` and `549`, and its answer may name another form than was dialled.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/phone-numbers>
    #[must_use]
    pub fn forms(&self) -> Vec<Self> {
        let digits = self.0.as_str();
        let other = if let Some(national) = digits.strip_prefix("55") {
            // Only mobiles have a ninth digit, and only those that are older than it a form without; that begins with 6 to 9.
            let was_mobile = |it: &str| it.starts_with(['6', '7', '8', '9']);
            match (national.len(), national.get(2..).unwrap_or_default()) {
                (11, mobile) => mobile.strip_prefix('9').filter(|it| was_mobile(it)).map(|it| format!("55{}{it}", &national[..2])),
                (10, mobile) if was_mobile(mobile) => Some(format!("55{}9{mobile}", &national[..2])),
                _ => None,
            }
        } else if let Some(national) = digits.strip_prefix("52") {
            match (national.len(), national.strip_prefix('1')) {
                (11, Some(rest)) => Some(format!("52{rest}")),
                (10, _) => Some(format!("521{national}")),
                _ => None,
            }
        } else if let Some(national) = digits.strip_prefix("54") {
            match (national.len(), national.strip_prefix('9')) {
                (11, Some(rest)) => Some(format!("54{rest}")),
                (10, _) => Some(format!("549{national}")),
                _ => None,
            }
        } else {
            None
        };
        std::iter::once(self.clone()).chain(other.map(Self)).collect()
    }

    /// Is this the same number, written in whichever form?
    #[must_use]
    pub fn is_same_number(&self, other: &Self) -> bool {
        self.forms().contains(other)
    }
}

impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Phone(…)")
    }
}

impl TryFrom<String> for Phone {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        Self::parse(&text)
    }
}

impl From<Phone> for String {
    fn from(it: Phone) -> Self {
        it.0
    }
}

/// A business-scoped user id: two letters of a country, a dot (and `ENT.` for a parent id), up to 128 letters and digits.
/// Unique per business portfolio and person; new when the person changes the phone number.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-scoped-user-ids>
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[A-Z]{2}\\.(ENT\\.)?[A-Za-z0-9]{1,128}$"))]
pub struct Bsuid(String);

impl Bsuid {
    /// From text as Meta writes it.
    ///
    /// # Errors
    /// [`Malformed`] if the text does not look like one; a phone number never does.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let malformed = Malformed { what: "business-scoped user id", expected: "`CC.` and 1 to 128 letters or digits" };
        let (country, rest) = text.split_once('.').ok_or(malformed)?;
        let id = rest.strip_prefix("ENT.").unwrap_or(rest);
        let is_country = country.len() == 2 && country.bytes().all(|it| it.is_ascii_uppercase());
        let is_id = (1..=128).contains(&id.len()) && id.bytes().all(|it| it.is_ascii_alphanumeric());
        if is_country && is_id { Ok(Self(text.to_owned())) } else { Err(malformed) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Bsuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bsuid(…)")
    }
}

impl TryFrom<String> for Bsuid {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        Self::parse(&text)
    }
}

impl From<Bsuid> for String {
    fn from(it: Bsuid) -> Self {
        it.0
    }
}

/// One address under which a customer can be found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    /// A phone number.
    Phone(Phone),
    /// A business-scoped user id.
    Bsuid(Bsuid),
}

impl Address {
    /// The hash that stands for this address in keys and groups.
    #[must_use]
    pub fn hash(&self, connection: &ConnectionId) -> String {
        match self {
            Self::Phone(it) => hash(&["phone", connection.as_str(), it.digits()]),
            Self::Bsuid(it) => hash(&["bsuid", connection.as_str(), it.as_str()]),
        }
    }
}

/// A customer as far as one event names them: at least one address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "CustomerParts", into = "CustomerParts")]
#[schemars(with = "CustomerParts")]
pub struct Customer {
    phone: Option<Phone>,
    bsuid: Option<Bsuid>,
}

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Customer")]
struct CustomerParts {
    /// Digits with the country code, no plus; absent for people who use a username.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    phone: Option<Phone>,
    /// Meta's business-scoped user id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bsuid: Option<Bsuid>,
}

impl Customer {
    /// A customer known by what is given; nobody if nothing is.
    #[must_use]
    pub fn known_by(phone: Option<Phone>, bsuid: Option<Bsuid>) -> Option<Self> {
        (phone.is_some() || bsuid.is_some()).then_some(Self { phone, bsuid })
    }

    /// The phone number, if it is known.
    #[must_use]
    pub fn phone(&self) -> Option<&Phone> {
        self.phone.as_ref()
    }

    /// The business-scoped user id, if it is known.
    #[must_use]
    pub fn bsuid(&self) -> Option<&Bsuid> {
        self.bsuid.as_ref()
    }

    /// The address that outranks the other: the business-scoped user id, else the phone.
    ///
    /// # Panics
    /// Never: a customer has an address.
    #[must_use]
    pub fn address(&self) -> Address {
        match (&self.bsuid, &self.phone) {
            (Some(it), _) => Address::Bsuid(it.clone()),
            (None, Some(it)) => Address::Phone(it.clone()),
            (None, None) => unreachable!("a customer has an address"),
        }
    }

    /// All addresses, the one that outranks first.
    #[must_use]
    pub fn addresses(&self) -> Vec<Address> {
        let bsuid = self.bsuid.clone().map(Address::Bsuid);
        let phone = self.phone.clone().map(Address::Phone);
        bsuid.into_iter().chain(phone).collect()
    }
}

impl TryFrom<CustomerParts> for Customer {
    type Error = Malformed;
    fn try_from(it: CustomerParts) -> Result<Self, Malformed> {
        Self::known_by(it.phone, it.bsuid).ok_or(Malformed { what: "customer", expected: "a phone, a bsuid, or both" })
    }
}

impl From<Customer> for CustomerParts {
    fn from(it: Customer) -> Self {
        Self { phone: it.phone, bsuid: it.bsuid }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn phone(text: &str) -> Phone {
        Phone::parse(text).expect("a phone number")
    }

    #[test]
    fn forms_of_brazil_mexico_and_argentina() {
        for (one, other) in [("5511987654321", "551187654321"), ("5215512345678", "525512345678"), ("5491123456789", "541123456789")] {
            assert!(phone(one).is_same_number(&phone(other)), "{one}");
            assert!(phone(other).is_same_number(&phone(one)), "{other}");
        }
        assert_eq!(phone("551133334444").forms().len(), 1, "a Brazilian landline has no ninth digit");
        assert_eq!(phone("5511933334444").forms().len(), 1, "without the nine it would be somebody's landline");
        assert_eq!(phone("34600111222").forms().len(), 1);
    }

    #[test]
    fn nobody_prints_a_person() {
        let customer = Customer::known_by(Some(phone("34600111222")), Bsuid::parse("ES.123").ok()).expect("has addresses");
        let printed = format!("{customer:?}");
        assert!(!printed.contains("34600") && !printed.contains("ES.123"), "{printed}");
    }

    #[test]
    fn an_address_is_needed() {
        assert!(Customer::known_by(None, None).is_none());
        assert!(serde_json::from_str::<Customer>("{}").is_err());
    }

    proptest! {
        #[test]
        fn forms_are_symmetric(digits in "(55|52|54|1|34)[0-9]{8,11}") {
            let one = phone(&digits);
            for form in one.forms() {
                prop_assert!(form.forms().contains(&one), "{} {}", one.digits(), form.digits());
            }
        }

        #[test]
        fn a_phone_number_never_parses_as_a_scoped_id(digits in "\\+?[0-9]{5,20}") {
            prop_assert!(Bsuid::parse(&digits).is_err());
        }

        #[test]
        fn what_is_printed_parses_to_itself(digits in "[0-9]{5,20}", id in "[A-Z]{2}\\.(ENT\\.)?[A-Za-z0-9]{1,128}") {
            let it = Customer::known_by(Phone::parse(&digits).ok(), Bsuid::parse(&id).ok()).expect("has addresses");
            let text = serde_json::to_string(&it).expect("serialises");
            prop_assert_eq!(serde_json::from_str::<Customer>(&text).expect("parses"), it);
        }
    }
}
