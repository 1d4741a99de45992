//! One person: which addresses belong together, and what new evidence of it does.
//!
//! A customer may be known by a phone number, by a business-scoped user id, or by both; the user id outranks the phone.
//! Evidence is an event of Meta's that names two addresses, with Meta's time; older evidence moves nothing.

use crate::conversation::Conversation;
use crate::customer::Address;
use crate::time::Timestamp;

/// What evidence that `address` belongs to a conversation's customer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joining {
    /// Nothing: it is known, or newer evidence says otherwise.
    Nothing,
    /// The address is added.
    Add,
    /// The two conversations are with one person, and become one.
    Merge,
    /// The address was given away: it leads to this conversation from now on, and leaves the other's.
    Repoint,
}

/// What it means that Meta told at `at` that `address` is an address of `home`'s customer, where `other` is the conversation
/// to which the address leads today, if any.
#[must_use]
pub fn join(home: &Conversation, address: &Address, other: Option<&Conversation>, at: Timestamp) -> Joining {
    let Some(other) = other.filter(|it| it.id != home.id) else {
        return match home.known(address) {
            // A phone that was given up is the customer's again once they are heard under it later.
            Some(it) if it.retired && matches!(address, Address::Phone(_)) && at > it.at => Joining::Add,
            Some(_) => Joining::Nothing,
            None => Joining::Add,
        };
    };
    // A user id stays a person's for ever, so two conversations that share one are one. A phone may change hands: if its conversation has
    // another user id than this one, it has.
    let changed_hands = match address {
        Address::Phone(_) => match (home.bsuid(), other.bsuid()) {
            (Some(ours), Some(theirs)) => ours != theirs,
            // Of two conversations by phone alone each has a form of one number.
            (None, _) | (_, None) => false,
        },
        Address::Bsuid(_) => false,
    };
    if !changed_hands {
        return Joining::Merge;
    }
    let is_newer = other.known(address).is_none_or(|it| at > it.at);
    if is_newer { Joining::Repoint } else { Joining::Nothing }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::customer::{Bsuid, Phone};
    use crate::ids::{ConnectionId, ConversationId};

    fn phone(digits: &str) -> Address {
        Address::Phone(Phone::parse(digits).expect("a phone"))
    }

    fn bsuid(text: &str) -> Address {
        Address::Bsuid(Bsuid::parse(text).expect("a user id"))
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn conversation(name: char, addresses: &[(&Address, i64)]) -> Conversation {
        let id = ConversationId::parse(name.to_string().repeat(22)).expect("an id");
        let mut it = Conversation::new(id, ConnectionId::parse("demo").expect("an id"));
        for (address, time) in addresses {
            it.add_address(address, at(*time));
        }
        it
    }

    #[test]
    fn an_address_that_leads_nowhere_is_added() {
        let home = conversation('a', &[(&bsuid("ES.1"), 1)]);
        assert_eq!(join(&home, &phone("34600111222"), None, at(2)), Joining::Add);
        assert_eq!(join(&home, &bsuid("ES.1"), Some(&home), at(2)), Joining::Nothing);
    }

    #[test]
    fn a_phone_that_was_given_up_comes_back_with_later_evidence_only() {
        let number = phone("34600111222");
        let mut home = conversation('a', &[(&bsuid("ES.1"), 1), (&number, 1)]);
        home.give_up(&number, at(5));
        assert!(home.phone().is_none());
        assert_eq!(join(&home, &number, None, at(5)), Joining::Nothing);
        assert_eq!(join(&home, &number, None, at(6)), Joining::Add);
        home.add_address(&number, at(6));
        assert!(home.phone().is_some());
    }

    #[test]
    fn a_phone_without_a_user_id_is_the_same_person() {
        let home = conversation('a', &[(&bsuid("ES.1"), 1)]);
        let other = conversation('b', &[(&phone("34600111222"), 1)]);
        assert_eq!(join(&home, &phone("34600111222"), Some(&other), at(2)), Joining::Merge);
    }

    #[test]
    fn two_forms_of_one_number_are_one_person() {
        let home = conversation('a', &[(&phone("5511987654321"), 1)]);
        let other = conversation('b', &[(&phone("551187654321"), 1)]);
        assert_eq!(join(&home, &phone("551187654321"), Some(&other), at(2)), Joining::Merge);
    }

    #[test]
    fn a_phone_of_somebody_else_was_given_away() {
        let number = phone("34600111222");
        let home = conversation('a', &[(&bsuid("ES.2"), 5)]);
        let other = conversation('b', &[(&number, 5), (&bsuid("ES.1"), 5)]);
        assert_eq!(join(&home, &number, Some(&other), at(6)), Joining::Repoint);
        assert_eq!(join(&home, &number, Some(&other), at(5)), Joining::Nothing, "older evidence moves nothing");
    }
}
