//! What is known of a customer beside the conversation: fields by name, for the values of templates.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How many fields a contact has at most: so it stays far below what one item of a table holds.
pub const FIELDS: usize = 50;
/// The longest name of a field, in characters.
pub const NAME_LIMIT: usize = 64;
/// The longest field, in characters: no template takes a longer text.
pub const FIELD_LIMIT: usize = 1_024;

/// The fields of a contact, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Contact {
    fields: BTreeMap<String, String>,
}

impl Contact {
    /// A contact of these fields.
    ///
    /// # Errors
    /// All that is wrong, each as `fields.name: what is wrong; what to do`. No field's text is repeated.
    pub fn of(fields: BTreeMap<String, String>) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        if fields.len() > FIELDS {
            problems.push(format!("fields: are more than {FIELDS}; keep those that templates need."));
        }
        for (name, text) in &fields {
            if name.trim().is_empty() || name.chars().count() > NAME_LIMIT || name.contains(char::is_control) {
                let shown: String = name.chars().filter(|it| !it.is_control()).take(NAME_LIMIT).collect();
                problems.push(format!("fields.{shown}: is no name of 1 to {NAME_LIMIT} characters; choose another."));
            }
            if text.chars().count() > FIELD_LIMIT {
                problems.push(format!("fields.{name}: is longer than {FIELD_LIMIT} characters; shorten it."));
            }
        }
        if problems.is_empty() { Ok(Self { fields }) } else { Err(problems) }
    }

    /// The fields, by name.
    #[must_use]
    pub fn fields(&self) -> &BTreeMap<String, String> {
        &self.fields
    }

    /// Takes in the fields of another contact of the same person that this one does not have.
    #[must_use]
    pub fn joined(mut self, other: Self) -> Self {
        for (name, text) in other.fields {
            if self.fields.len() < FIELDS {
                self.fields.entry(name).or_insert(text);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(fields: &[(&str, &str)]) -> Contact {
        Contact::of(fields.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()).expect("well")
    }

    #[test]
    fn what_is_too_much_is_told_all_at_once_and_repeats_no_text() {
        let secret = "s".repeat(FIELD_LIMIT + 1);
        let mut fields: BTreeMap<String, String> = (0..FIELDS).map(|it| (format!("field{it}"), String::new())).collect();
        assert!(Contact::of(fields.clone()).is_ok());
        fields.extend([(String::new(), String::new()), ("note".to_owned(), secret.clone()), ("n".repeat(NAME_LIMIT + 1), String::new())]);
        let problems = Contact::of(fields).expect_err("too much");
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(problems.iter().all(|it| it.starts_with("fields") && !it.contains(&secret)), "{problems:?}");
    }

    #[test]
    fn of_two_contacts_of_one_person_no_field_is_lost_and_the_first_one_s_text_holds() {
        let one = contact(&[("name", "Ana"), ("city", "Madrid")]);
        let other = contact(&[("name", "Anna"), ("clinic", "North")]);
        assert_eq!(one.joined(other), contact(&[("name", "Ana"), ("city", "Madrid"), ("clinic", "North")]));
    }
}
