//! A body of `template-sends` as it is read: the job, or what is wrong with it, where it can be told to somebody.

use domain::ids::{ConnectionId, MessageId, TenantId};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::jobs::TemplateSend;

/// What stood in a body.
#[derive(Debug, Clone)]
pub enum Submitted {
    /// A job.
    Job(Box<TemplateSend>),
    /// Something else, that says at least whose it is.
    Broken(Broken),
}

/// A body that breaks the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Its id, as it stands there.
    pub id: String,
    /// Whose it is.
    pub tenant: TenantId,
    /// For which connection.
    pub connection: ConnectionId,
    /// The campaign's own words for itself, if they can be read.
    pub campaign: Option<String>,
    /// Where it breaks the schema, and how; it holds no value of the body.
    pub problem: String,
}

impl<'de> Deserialize<'de> for Submitted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let body = Value::deserialize(deserializer)?;
        match serde_path_to_error::deserialize::<_, TemplateSend>(&body) {
            Ok(job) => match MessageId::of_job(&job.id) {
                Ok(_) => Ok(Self::Job(Box::new(job))),
                Err(malformed) => told(&body, problem("id", &malformed.to_string())),
            },
            Err(error) => told(&body, problem(&error.path().to_string(), &error.inner().to_string())),
        }
    }
}

fn told<E: serde::de::Error>(body: &Value, problem: String) -> Result<Submitted, E> {
    broken(body, problem).map(Submitted::Broken).ok_or_else(|| E::custom("no job, and nobody to tell"))
}

fn broken(body: &Value, problem: String) -> Option<Broken> {
    let text = |name: &str| body[name].as_str().filter(|it| it.chars().count() <= 200).map(str::to_owned);
    Some(Broken {
        id: text("id")?,
        tenant: TenantId::parse(text("tenant")?).ok()?,
        connection: ConnectionId::parse(text("connection")?).ok()?,
        campaign: text("campaign"),
        problem,
    })
}

/// Most words of the decoder quote what they found, which may be a person's. Those about members and expectations do not.
fn problem(path: &str, words: &str) -> String {
    let path = if path == "." { "the job" } else { path };
    let is_plain = ["missing field", "not a ", "version "].iter().any(|it| words.starts_with(it));
    let words = if is_plain { words } else { "is not as the schema says" };
    format!("{path}: {words}; see template-sends.v1.json.")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job() -> Value {
        json!({ "v": 1, "id": "01920000-0000-7000-8000-000000000001", "tenant": "demo", "connection": "demo",
                "to": { "phone": "+34 600 111 222" }, "template": "hello", "language": "en-US" })
    }

    fn read(body: &Value) -> Submitted {
        serde_json::from_value(body.clone()).expect("it says whose it is")
    }

    #[test]
    fn a_job_is_read_and_a_language_is_one_however_it_is_written() {
        let Submitted::Job(job) = read(&job()) else { panic!("a job") };
        assert_eq!(job.language.as_str(), "en_US");
    }

    #[test]
    fn what_breaks_the_schema_is_told_with_its_place_and_without_its_value() {
        for (pointer, value, problem) in [
            ("id", json!("8c1f8d0e-7f3b-4c2a-9a55-0d7c4ea2f001"), "id: not a job id: expected a UUIDv7"),
            ("to", json!({ "phone": "secret-words" }), "to.phone: not a phone number: expected 5 to 20 digits with the country code"),
            ("to", json!({ "pigeon": "secret-words" }), "to: is not as the schema says"),
            ("values", json!({ "body": [1] }), "values.body: is not as the schema says"),
            ("values", json!({ "bodi": ["secret-words"] }), "values.bodi: is not as the schema says"),
            ("participant", json!({ "name": ["secret-words"] }), "participant.name: is not as the schema says"),
            ("campaign", json!("x".repeat(201)), "campaign: not a label: expected 1 to 200 characters"),
            ("template", Value::Null, "template: is not as the schema says"),
            ("v", json!(2), "v: version 2 is not known here; this is version 1"),
        ] {
            let mut body = job();
            body[pointer] = value;
            let Submitted::Broken(it) = read(&body) else { panic!("{pointer} is broken") };
            assert_eq!(it.problem, format!("{problem}; see template-sends.v1.json."));
        }
        let mut body = job();
        body.as_object_mut().expect("an object").remove("language");
        let Submitted::Broken(it) = read(&body) else { panic!("it is broken") };
        assert_eq!(it.problem, "the job: missing field `language`; see template-sends.v1.json.");
    }

    #[test]
    fn what_does_not_say_whose_it_is_is_told_to_nobody() {
        for name in ["id", "tenant", "connection"] {
            let mut body = job();
            body[name] = Value::Null;
            assert!(serde_json::from_value::<Submitted>(body).is_err(), "{name}");
        }
    }
}
