//! How the code is ordered: who may import what, what files are called, what they begin with, and what documents point at.
//!
//! Each rule reads the sources as they lie there and names what violates it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use lambda::configuration::{Environment, Misconfigured};
use world::template::Template;

/// What ships.
const SHIPPED: [&str; 2] = ["shared", "functions"];

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository is there")
}

/// All files below the folders with one of these endings, by their path from the root.
fn files(folders: &[&str], endings: &[&str]) -> BTreeMap<String, String> {
    let root = root();
    let mut found = BTreeMap::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|it| root.join(it)).collect();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").map(|it| it.expect("an entry")) {
            let (path, name) = (entry.path(), entry.file_name().into_string().expect("a name in UTF-8"));
            if path.is_dir() {
                open.extend((name != "target" && !name.starts_with('.')).then_some(path));
            } else if endings.iter().any(|it| name.ends_with(it)) {
                let from_root = path.strip_prefix(&root).expect("below the root").display().to_string();
                found.insert(from_root, std::fs::read_to_string(&path).expect("text"));
            }
        }
    }
    assert!(!found.is_empty(), "nothing is looked at in {folders:?}");
    found
}

/// The folders of all packages of the workspace.
fn packages() -> Vec<String> {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    let members = manifest.split_once("members = [").and_then(|(_, rest)| rest.split_once(']')).expect("a workspace").0;
    members.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What a package names under one heading of its manifest.
fn dependencies(package: &str, heading: &str) -> BTreeSet<String> {
    let manifest = std::fs::read_to_string(root().join(package).join("Cargo.toml")).expect("a manifest");
    let section = manifest.split_once(&format!("[{heading}]\n")).map_or("", |(_, rest)| rest.split("\n[").next().unwrap_or_default());
    let name = |line: &str| line.split(['.', ' ', '=']).next().unwrap_or_default().to_owned();
    section.lines().filter(|it| !it.is_empty() && !it.starts_with('#')).map(name).collect()
}

/// The lines of code that name a crate or path beginning with `prefix`; comments and texts do not count.
fn names<'a>(source: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    let is_part = |it: char| it.is_ascii_alphanumeric() || it == '_' || it == '"';
    source.lines().map(str::trim).filter(move |line| {
        let code = line.split("//").next().unwrap_or_default();
        code.match_indices(prefix).any(|(at, _)| !code[..at].ends_with(is_part) && code[at..].contains("::"))
    })
}

/// Files below the folders that name something beginning with `prefix` and are not among `allowed`. Files of tests only may name anything.
fn strangers(folders: &[&str], prefix: &str, allowed: &[&str]) -> Vec<String> {
    let mut files = files(folders, &[".rs"]);
    files.retain(|path, _| !path.ends_with("/tests.rs"));
    for it in allowed {
        assert!(files.get(*it).is_some_and(|source| names(source, prefix).next().is_some()), "{it} needs no leave to name {prefix}");
    }
    let others = files.iter().filter(|(path, _)| !allowed.contains(&path.as_str()));
    others.flat_map(|(path, source)| names(source, prefix).map(move |line| format!("{path}: {line}"))).collect()
}

#[test]
fn a_line_that_names_a_crate_is_found_and_a_comment_or_another_name_is_not() {
    let source = "use reqwest::Url;\n    reqwest::get(x)\n// reqwest::Url\nmy_reqwest::Url\n\"reqwest::Url\"\nlet reqwest = 1;";
    assert_eq!(names(source, "reqwest").collect::<Vec<_>>(), ["use reqwest::Url;", "reqwest::get(x)"]);
}

#[test]
fn only_the_files_that_speak_to_aws_name_its_sdk() {
    let speakers = [
        "shared/channel/src/aws.rs",
        "shared/channel/src/blobs.rs",
        "shared/channel/src/queues.rs",
        "shared/channel/src/store/dynamo.rs",
        "shared/channel/src/vault/kms.rs",
    ];
    assert_eq!(strangers(&SHIPPED, "aws_sdk_", &speakers), Vec::<String>::new());
    assert_eq!(strangers(&SHIPPED, "aws_smithy_", &speakers[..1]), Vec::<String>::new());
    assert_eq!(strangers(&SHIPPED, "serde_dynamo", &speakers[3..4]), Vec::<String>::new());
}

#[test]
fn only_who_asks_meta_the_issuer_of_tokens_or_tenants_names_the_http_client() {
    let askers =
        ["shared/meta/src/graph.rs", "shared/meta/src/graph/media.rs", "shared/channel/src/web.rs", "functions/control/src/issuer.rs"];
    assert_eq!(strangers(&SHIPPED, "reqwest", &askers), Vec::<String>::new());
}

#[test]
fn of_the_use_cases_only_the_web_of_tenants_which_resolves_names_names_the_runtime() {
    assert_eq!(strangers(&["shared/channel"], "tokio", &["shared/channel/src/web.rs"]), Vec::<String>::new());
}

#[test]
fn only_the_configuration_reads_the_environment_and_only_run_the_clock() {
    assert_eq!(strangers(&SHIPPED, "std::env", &["shared/lambda/src/configuration.rs"]), Vec::<String>::new());
    assert_eq!(strangers(&SHIPPED, "std::time::SystemTime", &["shared/lambda/src/run.rs"]), Vec::<String>::new());
}

#[test]
fn imports_go_one_way() {
    let own: BTreeSet<String> = packages().iter().filter_map(|it| it.rsplit('/').next()).map(str::to_owned).collect();
    let of = |package: &str| dependencies(package, "dependencies");
    let own_of = |package: &str| of(package).intersection(&own).cloned().collect::<Vec<_>>();
    assert_eq!(own_of("shared/domain"), Vec::<String>::new());
    assert_eq!(own_of("shared/meta"), ["domain"]);
    assert_eq!(own_of("shared/channel"), ["domain", "meta"]);
    assert_eq!(own_of("shared/lambda"), ["channel"]);
    let functions: Vec<String> = packages().into_iter().filter(|it| it.starts_with("functions/")).collect();
    assert!(!functions.is_empty());
    for function in functions {
        assert!(own_of(&function).iter().all(|it| ["channel", "domain", "lambda", "meta"].contains(&it.as_str())), "{function}");
    }
    assert_eq!(own_of("tests/meta-sim"), Vec::<String>::new(), "Meta's rules are written twice, by two hands");
}

#[test]
fn a_crate_depends_on_nothing_that_it_must_not_know() {
    let cannot_know = [
        ("shared/domain", ["serde_json", "tokio", "futures", "reqwest", "http", "aws", "lambda", "tracing"].as_slice()),
        ("shared/meta", &["aws", "lambda", "serde_dynamo", "tracing"]),
        ("shared/channel", &["lambda", "aws_lambda", "http"]),
        ("shared/lambda", &["aws-", "reqwest", "meta"]),
    ];
    for (package, forbidden) in cannot_know {
        let known: Vec<String> =
            dependencies(package, "dependencies").into_iter().filter(|it| forbidden.iter().any(|no| it.starts_with(no))).collect();
        assert_eq!(known, Vec::<String>::new(), "{package}");
    }
}

#[test]
fn a_package_is_called_as_its_folder() {
    for package in packages() {
        let manifest = std::fs::read_to_string(root().join(&package).join("Cargo.toml")).expect("a manifest");
        let folder = package.rsplit('/').next().unwrap_or_default();
        assert!(manifest.contains(&format!("[package]\nname = \"{folder}\"\n")), "{package}");
    }
}

const ALL: [&str; 4] = ["shared", "functions", "infra", "tests"];

#[test]
fn nothing_is_left_undone_or_in_debugging() {
    for (path, source) in files(&ALL, &[".rs"]) {
        for name in ["todo", "unimplemented", "dbg"] {
            let call = format!("{name}!(");
            assert!(!source.contains(&call), "{path} has {call}…)");
        }
    }
}

#[test]
fn nothing_is_called_by_a_name_that_says_nothing() {
    let empty = ["util", "utils", "helper", "helpers", "manager", "common", "session", "context", "misc"];
    for (path, source) in files(&ALL, &[".rs"]) {
        let parts = path.trim_end_matches(".rs").split('/');
        let modules = source.lines().filter_map(|it| it.trim_start_matches("pub(crate) ").trim_start_matches("pub ").strip_prefix("mod "));
        let modules = modules.map(|it| it.trim_end_matches([';', ' ', '{']));
        let named: Vec<&str> = parts.chain(modules).filter(|it| empty.contains(it)).collect();
        assert_eq!(named, Vec::<&str>::new(), "{path}");
    }
}

#[test]
fn every_file_says_first_what_it_is() {
    let silent: Vec<String> = files(&ALL, &[".rs"]).into_iter().filter(|(_, source)| !source.starts_with("//! ")).map(|it| it.0).collect();
    assert_eq!(silent, Vec::<String>::new());
}

/// What a document links to, and what it names in backticks by a path from the root or an identifier of the code.
fn references(text: &str) -> (Vec<&str>, Vec<&str>, Vec<&str>) {
    let links = text.split("](").skip(1).filter_map(|it| it.split([')', '#']).next());
    let links = links.filter(|it| !it.is_empty() && !it.contains("://")).collect();
    let prose: Vec<&str> = text.split("```").step_by(2).collect();
    let quoted: Vec<&str> = prose.iter().flat_map(|it| it.split('`').skip(1).step_by(2)).collect();
    let is_plain = |it: &&str| !it.contains(|it: char| it.is_whitespace() || "*{}<>…$".contains(it));
    let paths = quoted.iter().copied().filter(|it| ALL.iter().any(|top| it.starts_with(&format!("{top}/")))).filter(is_plain).collect();
    let is_identifier =
        |it: &&str| it.matches('_').count() >= 2 && it.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_');
    (links, paths, quoted.iter().copied().filter(is_identifier).collect())
}

#[test]
fn documents_point_at_what_is_there() {
    let mut documents = files(&ALL, &[".md"]);
    if let Ok(readme) = std::fs::read_to_string(root().join("README.md")) {
        documents.insert("README.md".to_owned(), readme);
    }
    let code: String = files(&ALL, &[".rs", ".yaml"]).into_values().collect();
    let mut missing = Vec::new();
    for (path, text) in &documents {
        let folder = root().join(path).parent().expect("a file lies in a folder").to_owned();
        let (links, paths, identifiers) = references(text);
        missing.extend(links.iter().filter(|it| !folder.join(it).exists()).map(|it| format!("{path} links to {it}")));
        missing.extend(paths.iter().filter(|it| !root().join(it).exists()).map(|it| format!("{path} names {it}")));
        missing.extend(identifiers.iter().filter(|it| !code.contains(**it)).map(|it| format!("{path} names {it}")));
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn what_a_document_points_at_is_found_in_it() {
    let text = "[a](b/c.md#d) [e](https://f/) `tests/x.rs` `tests/*.rs` `what_is_named` `not this` ```\n`tests/in_a_block.rs`\n```";
    assert_eq!(references(text), (vec!["b/c.md"], vec!["tests/x.rs"], vec!["what_is_named"]));
}

/// The variables that a function asks for, those of AWS itself and the level of the log aside.
fn asked(read: impl Fn(Environment) -> Result<(), Misconfigured>) -> BTreeSet<String> {
    let names = Arc::new(Mutex::new(BTreeSet::new()));
    let noted = Arc::clone(&names);
    let environment = Environment::of(move |name| {
        noted.lock().expect("no panic").insert(name.to_owned());
        let value = match name {
            // It is asked for first, and KMS where it is not there.
            "MASTER_KEY" => return None,
            "LOG_LEVEL" => "info",
            "CAMPAIGN_SHARE" => "0.5",
            "JWT_ISSUER" => "https://issuer.example",
            "APP_SECRET_OVERLAP_HOURS" => "24",
            "META_APP_ID" => "200000000000001",
            _ => "something",
        };
        Some(value.to_owned())
    });
    read(environment).expect("nothing else is wanted of the values");
    let names = names.lock().expect("no panic").clone();
    names.into_iter().filter(|it| !it.starts_with("AWS_") && it != "LOG_LEVEL").collect()
}

#[test]
fn a_function_is_given_exactly_the_variables_that_it_asks_for() {
    let template = Template::load().expect("is understood");
    let functions = [
        ("WebhookFunction", asked(|it| webhook::Config::read(it).map(drop))),
        ("InboundFunction", asked(|it| inbound::Config::read(it).map(drop))),
        ("BridgeFunction", asked(|it| bridge::Config::read(it).map(drop))),
        ("MediaFunction", asked(|it| media::Config::read(it).map(drop))),
        ("RepliesFunction", asked(|it| replies::Config::read(it).map(drop))),
        ("TemplatesFunction", asked(|it| templates::Config::read(it).map(drop))),
        ("StatusesFunction", asked(|it| statuses::Config::read(it).map(drop))),
        ("HealthFunction", asked(|it| health::Config::read(it).map(drop))),
        ("ControlFunction", asked(|it| control::Config::read(it).map(drop))),
    ];
    assert_eq!(template.functions.keys().collect::<Vec<_>>().len(), functions.len(), "every function is looked at");
    for (function, asked) in functions {
        let given: BTreeSet<String> = template.functions[function].environment.keys().filter(|it| *it != "LOG_LEVEL").cloned().collect();
        assert_eq!(given, asked, "{function}");
    }
}
