//! Who is meant: by a phone number, by a business-scoped user id, or by both, in whichever member Meta puts them.
//!
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-scoped-user-ids>

use domain::customer::{Bsuid, Customer, Phone};
use domain::message::Profile;
use serde_json::value::RawValue;

use crate::wire::Object;

/// The addresses that one element names.
#[derive(Debug, Clone, Default)]
pub(super) struct Named {
    phone: Option<Phone>,
    bsuid: Option<Bsuid>,
    /// Of a group of portfolios; a person's address only where there is no other.
    parent: Option<Bsuid>,
}

impl Named {
    /// From the members of those names. An id in the phone's place is taken as an id: some resellers put it there.
    pub(super) fn of(object: &Object<'_>, phone: &str, bsuid: &str, parents: &[&str]) -> Self {
        let id = |name: &str| object.text(name).and_then(|it| Bsuid::parse(&it).ok());
        let phone_text = object.text(phone);
        Self {
            phone: phone_text.as_deref().and_then(|it| Phone::parse(it).ok()),
            bsuid: id(bsuid).or_else(|| phone_text.as_deref().and_then(|it| Bsuid::parse(it).ok())),
            parent: parents.iter().find_map(|it| id(it)),
        }
    }

    /// Is this id one of theirs?
    pub(super) fn has(&self, id: &Bsuid) -> bool {
        self.bsuid.as_ref() == Some(id) || self.parent.as_ref() == Some(id)
    }

    pub(super) fn phone(&self) -> Option<&Phone> {
        self.phone.as_ref()
    }

    pub(super) fn bsuid(&self) -> Option<&Bsuid> {
        self.bsuid.as_ref()
    }

    fn is_nobody(&self) -> bool {
        self.phone.is_none() && self.bsuid.is_none() && self.parent.is_none()
    }

    /// What is missing here, from what is told elsewhere of the same person.
    fn or(self, other: &Self) -> Self {
        Self {
            phone: self.phone.or_else(|| other.phone.clone()),
            bsuid: self.bsuid.or_else(|| other.bsuid.clone()),
            parent: self.parent.or_else(|| other.parent.clone()),
        }
    }

    /// The customer so named; nobody if there is no address.
    pub(super) fn customer(self) -> Option<Customer> {
        Customer::known_by(self.phone, self.bsuid.or(self.parent))
    }
}

/// The people that stand in a value's `contacts`.
pub(super) struct Contacts(Vec<(Named, Profile)>);

impl Contacts {
    pub(super) fn read(elements: &[&RawValue]) -> Self {
        let contact = |raw: &&RawValue| {
            let object = Object::read(raw)?;
            let named = Named::of(&object, "wa_id", "user_id", &["parent_user_id"]);
            let profile = object.object("profile").unwrap_or_default();
            let username = profile.words("username").map(|it| it.trim_start_matches('@').to_owned()).filter(|it| !it.is_empty());
            Some((named, Profile { name: profile.words("name"), username }))
        };
        Self(elements.iter().filter_map(contact).collect())
    }

    /// The customer whom an element names, with what the contact of the same address adds. Never paired by position: only an element that
    /// is `alone` and names nobody is taken to be by the only contact.
    pub(super) fn complete(&self, named: Named, alone: bool) -> Option<(Customer, Profile)> {
        let of_only_contact = || self.0.first().filter(|_| alone && self.0.len() == 1);
        let contact = if named.is_nobody() { of_only_contact() } else { self.find(&named) };
        // A contact without any address is a profile only; it can be nobody else's if there is one element.
        let profile = contact.or_else(|| of_only_contact().filter(|(it, _)| it.is_nobody())).map(|(_, it)| it.clone());
        let named = match contact {
            Some((it, _)) => named.or(it),
            None => named,
        };
        Some((named.customer()?, profile.unwrap_or_default()))
    }

    fn find(&self, named: &Named) -> Option<&(Named, Profile)> {
        let by_id = |(it, _): &&(Named, Profile)| it.bsuid.is_some() && it.bsuid == named.bsuid;
        let is_other = |it: &Named| it.bsuid.is_some() && named.bsuid.is_some() && it.bsuid != named.bsuid;
        let by_phone = |(it, _): &&(Named, Profile)| it.phone.is_some() && it.phone == named.phone && !is_other(it);
        let by_form = || {
            let forms = named.phone.as_ref()?.forms();
            self.0.iter().find(|(it, _)| it.phone.as_ref().is_some_and(|it| forms.contains(it)) && !is_other(it))
        };
        self.0.iter().find(by_id).or_else(|| self.0.iter().find(by_phone)).or_else(by_form)
    }
}
