//! The jobs' contract: their JSON Schemas are committed, and what was ever queued decodes for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use schemars::schema_for;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

/// One job: what it is called in file names, its schema, and how its JSON is read and printed again.
struct Job {
    name: &'static str,
    schema: Value,
    again: fn(&Value) -> Result<Value, serde_json::Error>,
}

fn job<T: JsonSchema + Serialize + DeserializeOwned>(name: &'static str) -> Job {
    Job { name, schema: schema_for!(T).to_value(), again: |it| serde_json::to_value(T::deserialize(it)?) }
}

/// Every job, under the name of its queue.
fn jobs() -> [Job; 9] {
    [
        job::<Written>("inbound"),
        job::<Told>("statuses"),
        job::<MediaJob>("media"),
        job::<Turn>("turns"),
        job::<Reply>("replies"),
        job::<TemplateSend>("template-sends"),
        job::<FeedEvent>("events"),
        job::<Probe>("probes"),
        job::<Quarantined>("quarantine"),
    ]
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn file_names(folder: &Path) -> BTreeSet<String> {
    let files = fs::read_dir(folder).expect("the folder is committed");
    files.map(|it| it.expect("it can be listed").file_name().into_string().expect("a plain name")).collect()
}

/// The committed samples of a job, by file name.
fn samples(job: &Job) -> BTreeMap<String, Value> {
    let folder = folder("samples/v1");
    let names = file_names(&folder).into_iter().filter(|it| it.split('.').next() == Some(job.name));
    names
        .map(|name| {
            let text = fs::read_to_string(folder.join(&name)).expect("it can be read");
            let value = serde_json::from_str(&text).unwrap_or_else(|it| panic!("samples/v1/{name}: {it}"));
            (name, value)
        })
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "only to be told to write the schemas anew")]
fn is_update() -> bool {
    std::env::var_os("UPDATE_SCHEMAS").is_some()
}

#[test]
fn the_committed_schemas_are_those_of_the_jobs() {
    let folder = folder("schemas");
    let mut expected = BTreeSet::new();
    for job in jobs() {
        let name = format!("{}.v1.json", job.name);
        let text = format!("{:#}\n", job.schema);
        if is_update() {
            fs::write(folder.join(&name), &text).expect("it can be written");
        }
        let committed = fs::read_to_string(folder.join(&name)).unwrap_or_default();
        assert!(
            committed == text,
            "schemas/{name} is not the schema of the job. If the change is meant, and what older versions queued decodes still, run: \
             UPDATE_SCHEMAS=1 cargo test -p channel jobs"
        );
        expected.insert(name);
    }
    assert_eq!(file_names(&folder), expected, "a schema without a job, or a job without a schema");
}

#[test]
fn every_sample_decodes_and_prints_as_it_was() {
    let mut seen = BTreeSet::new();
    for job in jobs() {
        let samples = samples(&job);
        assert!(samples.len() > 1, "{} has {} samples", job.name, samples.len());
        for (name, sample) in samples {
            let printed = (job.again)(&sample).unwrap_or_else(|it| panic!("samples/v1/{name} does not decode any more: {it}"));
            assert_eq!(printed, sample, "samples/v1/{name}: samples are never edited, so it is the job that must still say this");
            seen.insert(name);
        }
    }
    assert_eq!(file_names(&folder("samples/v1")), seen, "a sample is named after its job: <job>.<what>.json");
}

/// What a newer version adds is no reason to lose what an older one understands.
#[test]
fn a_member_that_is_not_known_here_is_passed_over() {
    for job in jobs() {
        for (name, sample) in samples(&job) {
            let mut newer = sample.clone();
            newer["tomorrow"] = json!({ "v": 1 });
            assert_eq!((job.again)(&newer).expect("it decodes"), sample, "samples/v1/{name}");
        }
    }
}

#[test]
fn another_version_is_refused_and_so_is_none() {
    for job in jobs() {
        for (name, mut sample) in samples(&job) {
            sample["v"] = json!(2);
            let error = (job.again)(&sample).expect_err("it is of version 2").to_string();
            assert!(error.contains("version 2 is not known here"), "samples/v1/{name}: {error}");
            sample.as_object_mut().expect("a job is an object").remove("v");
            assert!((job.again)(&sample).is_err(), "samples/v1/{name} has no version");
        }
    }
}

/// An agent that is written by hand leaves out what it does not need.
#[test]
fn a_reply_needs_its_conversation_its_author_and_nothing_else() {
    let reply: Reply = serde_json::from_value(json!({
        "v": 1,
        "connection": "demo",
        "conversation": "conversation-example-1",
        "author": { "agent": "sales" },
        "read": { "wamid": "wamid.EXAMPLE0001" },
    }))
    .expect("it decodes");
    assert_eq!((reply.index, reply.handover, reply.message.is_none()), (0, false, true));
    assert!(!reply.read.expect("it was given").typing);
}

/// Notes every member that a schema names, and every value that it lists: `member`, `member = value`, and `= value` where the value may stand
/// at more than one member.
fn note_schema(schema: &Value, notes: &mut BTreeSet<String>) {
    match schema {
        Value::Object(members) => {
            if let Some(value) = members.get("const").and_then(Value::as_str) {
                notes.insert(format!("= {value}"));
            }
            for (name, value) in members.get("properties").and_then(Value::as_object).into_iter().flatten() {
                notes.insert(name.clone());
                if let Some(value) = value["const"].as_str() {
                    notes.insert(format!("{name} = {value}"));
                }
            }
            members.values().for_each(|it| note_schema(it, notes));
        }
        Value::Array(values) => values.iter().for_each(|it| note_schema(it, notes)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Notes the same of what a sample holds.
fn note_sample(sample: &Value, notes: &mut BTreeSet<String>) {
    match sample {
        Value::Object(members) => {
            for (name, value) in members {
                notes.insert(name.clone());
                if let Some(value) = value.as_str() {
                    notes.insert(format!("= {value}"));
                    notes.insert(format!("{name} = {value}"));
                }
                note_sample(value, notes);
            }
        }
        Value::Array(values) => values.iter().for_each(|it| note_sample(it, notes)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Every optional member and every variant of a job's content is held by a sample: what has none could change its name unnoticed.
#[test]
fn every_member_and_every_variant_is_in_a_sample() {
    for job in jobs() {
        let (mut named, mut held) = (BTreeSet::new(), BTreeSet::new());
        note_schema(&job.schema, &mut named);
        samples(&job).values().for_each(|it| note_sample(it, &mut held));
        let missing: Vec<_> = named.difference(&held).collect();
        assert!(missing.is_empty(), "no sample of {} holds {missing:?}: add one under samples/v1", job.name);
    }
}
