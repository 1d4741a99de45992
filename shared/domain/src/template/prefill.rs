//! Values with the fields of a contact, or of a participant, in the places that name them.

use std::collections::BTreeMap;

use super::variables::Part;
use super::{ButtonInput, ButtonValue, CardValues, HeaderValue, ParameterFormat, Template, Texts, Value, Values};
use crate::contact::Contact;

impl Values {
    /// The same values, with every field that is known given as its text. A field that is not known stays as it is named.
    #[must_use]
    pub fn with_fields(&self, fields: &BTreeMap<String, String>) -> Self {
        let card = |it: &CardValues| CardValues {
            header: it.header.as_ref().map(|it| header(it, fields)),
            body: texts(&it.body, fields),
            buttons: buttons(&it.buttons, fields),
        };
        Self {
            header: self.header.as_ref().map(|it| header(it, fields)),
            body: texts(&self.body, fields),
            buttons: buttons(&self.buttons, fields),
            code: self.code.as_ref().map(|it| value(it, fields)),
            cards: self.cards.iter().map(card).collect(),
            expires_at: self.expires_at,
        }
    }
}

impl Template {
    /// What a form for this template begins with: the values that it was given last, with the contact's fields where they name them, and
    /// for each variable of its text that has no value yet the contact's field of the same name.
    #[must_use]
    pub fn prefilled(&self, contact: &Contact, mapping: &Values) -> Values {
        let mut values = mapping.with_fields(contact.fields());
        if self.format != ParameterFormat::Named {
            return values;
        }
        let mut named = match std::mem::take(&mut values.body) {
            Texts::Named(it) => it,
            // A template without names before, or without values: there is nothing to keep.
            Texts::Positional(_) => BTreeMap::new(),
        };
        let of_text = self.variables().into_iter().filter(|it| it.place.component == Part::Body && it.place.card.is_none());
        for name in of_text.filter_map(|it| it.place.variable) {
            if let Some(text) = contact.fields().get(&name) {
                named.entry(name).or_insert_with(|| Value::Literal(text.clone()));
            }
        }
        if !named.is_empty() {
            values.body = Texts::Named(named);
        }
        values
    }
}

fn value(it: &Value, fields: &BTreeMap<String, String>) -> Value {
    match it {
        Value::Field { field } => fields.get(field).map_or_else(|| it.clone(), |text| Value::Literal(text.clone())),
        Value::Literal(_) => it.clone(),
    }
}

fn texts(it: &Texts, fields: &BTreeMap<String, String>) -> Texts {
    match it {
        Texts::Positional(all) => Texts::Positional(all.iter().map(|it| value(it, fields)).collect()),
        Texts::Named(all) => Texts::Named(all.iter().map(|(name, it)| (name.clone(), value(it, fields))).collect()),
    }
}

fn header(it: &HeaderValue, fields: &BTreeMap<String, String>) -> HeaderValue {
    match it {
        HeaderValue::Text(it) => HeaderValue::Text(value(it, fields)),
        HeaderValue::Image(_) | HeaderValue::Video(_) | HeaderValue::Document { .. } | HeaderValue::Location { .. } => it.clone(),
    }
}

fn buttons(all: &[ButtonValue], fields: &BTreeMap<String, String>) -> Vec<ButtonValue> {
    let input = |it: &ButtonInput| match it {
        ButtonInput::Url(it) => ButtonInput::Url(value(it, fields)),
        ButtonInput::Payload(it) => ButtonInput::Payload(value(it, fields)),
        ButtonInput::Code(it) => ButtonInput::Code(value(it, fields)),
        ButtonInput::Flow { .. } => it.clone(),
    };
    all.iter().map(|it| ButtonValue { index: it.index, value: input(&it.value) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::{Category, Component, Language, Status, TemplateName};

    fn template(format: ParameterFormat, text: &str) -> Template {
        Template {
            id: "1".to_owned(),
            name: TemplateName::parse("offer").expect("a name"),
            language: Language::parse("es").expect("a language"),
            status: Status::Approved,
            category: Category::Marketing,
            quality: None,
            format,
            is_hidden: false,
            components: vec![Component::Body { text: text.to_owned() }],
        }
    }

    fn field(name: &str) -> Value {
        Value::Field { field: name.to_owned() }
    }

    fn literal(text: &str) -> Value {
        Value::Literal(text.to_owned())
    }

    fn ana() -> Contact {
        let fields = [("first_name", "Ana"), ("city", "Madrid")].map(|(name, text)| (name.to_owned(), text.to_owned()));
        Contact::of(fields.into()).expect("well")
    }

    #[test]
    fn what_the_mapping_names_is_taken_from_the_contact_and_what_the_contact_lacks_stays_named() {
        let mapping = Values { body: Texts::Positional(vec![field("first_name"), field("clinic"), literal("soon")]), ..Values::default() };
        let values = template(ParameterFormat::Positional, "{{1}} {{2}} {{3}}").prefilled(&ana(), &mapping);
        assert_eq!(values.body, Texts::Positional(vec![literal("Ana"), field("clinic"), literal("soon")]));
    }

    #[test]
    fn a_variable_without_a_value_takes_the_field_of_its_name() {
        let it = template(ParameterFormat::Named, "{{first_name}} {{city}} {{clinic}}");
        let mapping = Values { body: Texts::Named([("city".to_owned(), literal("Bilbao"))].into()), ..Values::default() };
        let expected = [("first_name".to_owned(), literal("Ana")), ("city".to_owned(), literal("Bilbao"))];
        assert_eq!(it.prefilled(&ana(), &mapping).body, Texts::Named(expected.into()));
        assert_eq!(it.prefilled(&Contact::default(), &Values::default()), Values::default(), "nothing is known");
    }
}
