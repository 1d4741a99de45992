//! What use-cases count: names and numbers, for whoever publishes them. No tenant, no connection, no person.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Counts of one invocation, by name and, where there are several of one name, by kind (else empty).
#[derive(Debug, Default)]
pub struct Counts(Mutex<BTreeMap<(&'static str, &'static str), u64>>);

impl Counts {
    /// Nothing counted yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One more of `name`.
    pub fn one(&self, name: &'static str) {
        self.add(name, "", 1);
    }

    /// One more of a kind of `name`. Kinds are few: each is a metric that is paid for.
    pub fn one_of(&self, name: &'static str, kind: &'static str) {
        self.add(name, kind, 1);
    }

    /// So many more of a kind of `name`.
    pub fn add(&self, name: &'static str, kind: &'static str, more: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((name, kind)).or_default() += more;
    }

    /// What was counted; afterwards nothing is.
    #[must_use]
    pub fn take(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
