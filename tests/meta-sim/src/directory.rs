//! All customers, found by each of their names without a look at the others: a campaign asks thousands of times.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Index;

use serde::{Deserialize, Serialize};

use crate::book::{Book, Customer};
use crate::dialling;

/// The customers by [`Customer::key`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Directory {
    customers: BTreeMap<String, Customer>,
    /// Keys of the customers by telephone, username, and user id in each portfolio.
    #[serde(skip)]
    keys: BTreeMap<Name, BTreeSet<String>>,
    #[serde(skip)]
    portfolios: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Phone(String),
    UserId(String),
    Username(String),
}

impl<K: AsRef<str> + ?Sized> Index<&K> for Directory {
    type Output = Customer;

    fn index(&self, key: &K) -> &Customer {
        &self.customers[key.as_ref()]
    }
}

impl Directory {
    /// The portfolios in whose user ids customers are found from now on.
    pub(crate) fn set_portfolios(&mut self, portfolios: BTreeSet<String>) {
        self.portfolios = portfolios;
        self.keys.clear();
        for (key, customer) in &self.customers {
            for name in names(customer, &self.portfolios) {
                self.keys.entry(name).or_default().insert(key.clone());
            }
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Customer> {
        self.customers.get(key)
    }

    /// All of them, by key.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Customer> {
        self.customers.values()
    }

    /// Enters a customer under the key that it carries.
    pub(crate) fn insert(&mut self, customer: Customer) {
        let key = customer.key.clone();
        self.forget_names(&key);
        for name in names(&customer, &self.portfolios) {
            self.keys.entry(name).or_default().insert(key.clone());
        }
        self.customers.insert(key, customer);
    }

    /// Changes a customer, if there is one, whose key stays.
    pub(crate) fn change(&mut self, key: &str, change: impl FnOnce(&mut Customer)) {
        let Some(mut customer) = self.customers.get(key).cloned() else { return };
        change(&mut customer);
        self.insert(Customer { key: key.to_owned(), ..customer });
    }

    /// Whom `who` names: a telephone in any form, a user id of any portfolio, a username, or a key.
    pub(crate) fn find(&self, who: &str) -> Option<&Customer> {
        self.all_named(who).next()
    }

    /// Everybody whom `who` names, by key.
    pub(crate) fn all_named(&self, who: &str) -> impl Iterator<Item = &Customer> {
        let is_phone = !who.is_empty() && who.chars().all(|it| it.is_ascii_digit() || "+ -()".contains(it));
        let phones = if is_phone { dialling::forms(&dialling::digits(who)) } else { Vec::new() };
        let others = [Name::UserId(who.to_owned()), Name::Username(who.trim_start_matches('@').to_owned())];
        let names = phones.into_iter().map(Name::Phone).chain(others);
        let customers = names.filter_map(|it| self.keys.get(&it)).flatten().filter_map(|it| self.customers.get(it));
        let by_key: BTreeMap<&str, &Customer> = customers.chain(self.customers.get(who)).map(|it| (it.key.as_str(), it)).collect();
        by_key.into_values()
    }

    fn forget_names(&mut self, key: &str) {
        let Some(before) = self.customers.get(key) else { return };
        for name in names(before, &self.portfolios) {
            if let Some(keys) = self.keys.get_mut(&name) {
                keys.remove(key);
            }
        }
    }
}

fn names<'a>(customer: &'a Customer, portfolios: &'a BTreeSet<String>) -> impl Iterator<Item = Name> + 'a {
    let phone = customer.phone.clone().map(Name::Phone);
    let username = customer.username.clone().map(Name::Username);
    let user_ids = portfolios.iter().filter_map(|it| Book::user_id_in(it, customer)).map(Name::UserId);
    phone.into_iter().chain(username).chain(user_ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::PORTFOLIO;

    #[test]
    fn a_customer_is_found_by_the_names_of_now() {
        let mut directory = Directory::default();
        directory.set_portfolios([PORTFOLIO.to_owned()].into());
        let ana = Customer { username: Some("ana".into()), ..Customer::with_phone("5215512345678") }.and_user_id("MX.1");
        directory.insert(Customer { key: "c1".into(), ..ana });
        let found = |directory: &Directory, who: &str| directory.find(who).map(|it| it.key.clone());
        for who in ["c1", "@ana", "ana", "MX.1", "+52 1 55 1234 5678", "525512345678"] {
            assert_eq!(found(&directory, who).as_deref(), Some("c1"), "{who}");
        }
        directory.change("c1", |it| (it.phone, it.username) = (Some("5215598765432".into()), None));
        assert_eq!(["5215512345678", "ana"].map(|it| found(&directory, it)), [None, None]);
        assert_eq!(found(&directory, "525598765432").as_deref(), Some("c1"));

        directory.set_portfolios([PORTFOLIO.to_owned(), "elsewhere".to_owned()].into());
        let there = Book::user_id_in("elsewhere", &directory["c1"]).expect("a user id");
        assert_eq!(found(&directory, &there).as_deref(), Some("c1"));
        let text = serde_json::to_string(&directory).expect("JSON");
        let mut read: Directory = serde_json::from_str(&text).expect("customers");
        read.set_portfolios([PORTFOLIO.to_owned()].into());
        assert_eq!(found(&read, "MX.1").as_deref(), Some("c1"));
    }
}
