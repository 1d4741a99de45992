//! What a function is told by its environment, read once at the start, with every mistake told at once.
//!
//! The only file that reads environment variables. Must not know which variables a function wants; values are never told in an
//! error, since some are secrets.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use channel::aws::Aws;
use channel::queues::{Queue, QueueUrls, Queues};
use channel::signup::ServerApp;
use channel::store::{Store, Tables};
use channel::vault::{KeySource, MASTER_KEY_ID, Secret, Vault};

/// Reads variables and remembers what is wrong with them. Each reading gives an option; the configuration is built in
/// [`Environment::finish`], where `?` on each is safe, because what is not there has been noted.
///
/// ```
/// use lambda::configuration::Environment;
///
/// struct Config { table: String, cache_seconds: u64, proxy: Option<String> }
///
/// let mut environment = Environment::of(|name| (name == "CONFIG_TABLE").then(|| "config".to_owned()));
/// let table = environment.required("CONFIG_TABLE");
/// let cache_seconds = environment.parsed_or("CACHE_SECONDS", 60);
/// let proxy = environment.optional("PROXY");
/// let config = environment.finish(|| Some(Config { table: table?, cache_seconds: cache_seconds?, proxy })).unwrap();
/// assert_eq!((config.table.as_str(), config.cache_seconds, config.proxy), ("config", 60, None));
/// ```
pub struct Environment {
    lookup: Box<Lookup>,
    problems: BTreeMap<String, Problem>,
}

/// Gives the value of the variable of a name.
type Lookup = dyn Fn(&str) -> Option<String>;

/// What is wrong with one variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Problem {
    Missing,
    Malformed,
}

impl Environment {
    /// The variables of this process.
    pub fn of_process() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
        Self::of(|name| std::env::var(name).ok())
    }

    /// Variables from elsewhere, for tests.
    pub fn of(lookup: impl Fn(&str) -> Option<String> + 'static) -> Self {
        Self { lookup: Box::new(lookup), problems: BTreeMap::new() }
    }

    /// A variable that must be there. An empty one counts as missing.
    pub fn required(&mut self, name: &str) -> Option<String> {
        let value = self.optional(name);
        if value.is_none() {
            self.problems.insert(name.to_owned(), Problem::Missing);
        }
        value
    }

    /// A variable that may be missing or empty.
    pub fn optional(&self, name: &str) -> Option<String> {
        (self.lookup)(name).filter(|it| !it.is_empty())
    }

    /// A variable that must be there and parse.
    pub fn parsed<T: FromStr>(&mut self, name: &str) -> Option<T> {
        let text = self.required(name)?;
        self.parse(name, &text)
    }

    /// A variable that must parse if it is there. None only if it does not parse.
    pub fn parsed_or<T: FromStr>(&mut self, name: &str, otherwise: T) -> Option<T> {
        match self.optional(name) {
            Some(text) => self.parse(name, &text),
            None => Some(otherwise),
        }
    }

    fn parse<T: FromStr>(&mut self, name: &str, text: &str) -> Option<T> {
        let value = text.parse().ok();
        if value.is_none() {
            self.problems.insert(name.to_owned(), Problem::Malformed);
        }
        value
    }

    /// Notes that the value of a variable is wrong for a reason that only the caller can see.
    pub fn malformed(&mut self, name: &str) {
        self.problems.insert(name.to_owned(), Problem::Malformed);
    }

    /// `LOG_LEVEL`: `error`, `warn`, `info` (if it is not set), `debug` or `trace`.
    pub fn log_level(&mut self) -> Option<tracing::Level> {
        self.parsed_or("LOG_LEVEL", tracing::Level::INFO)
    }

    /// What AWS clients need: the variables that Lambda sets, and `AWS_ENDPOINT_URL` with its forms for each service, which a
    /// local stack sets: <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>.
    pub fn aws(&mut self) -> Option<channel::aws::Environment> {
        let region = self.required("AWS_REGION");
        let access_key_id = self.required("AWS_ACCESS_KEY_ID");
        let secret_access_key = self.required("AWS_SECRET_ACCESS_KEY");
        let everywhere = self.optional("AWS_ENDPOINT_URL");
        Some(channel::aws::Environment {
            region: region?,
            access_key_id: access_key_id?,
            secret_access_key: secret_access_key?,
            session_token: self.optional("AWS_SESSION_TOKEN"),
            endpoint_url_dynamodb: self.optional("AWS_ENDPOINT_URL_DYNAMODB").or_else(|| everywhere.clone()),
            endpoint_url_sqs: self.optional("AWS_ENDPOINT_URL_SQS").or_else(|| everywhere.clone()),
            endpoint_url_kms: self.optional("AWS_ENDPOINT_URL_KMS").or_else(|| everywhere.clone()),
            endpoint_url_s3: self.optional("AWS_ENDPOINT_URL_S3").or(everywhere),
        })
    }

    /// The tables: `TABLE_CONFIG`, `TABLE_CONVERSATIONS`, `TABLE_MESSAGES`.
    pub fn tables(&mut self) -> Option<Tables> {
        let config = self.required("TABLE_CONFIG");
        let conversations = self.required("TABLE_CONVERSATIONS");
        let messages = self.required("TABLE_MESSAGES");
        Some(Tables { config: config?, conversations: conversations?, messages: messages? })
    }

    /// What every function is told: `LOG_LEVEL`, AWS, these tables, and a `QUEUE_…` for each queue that it `sends` to and for the one that it
    /// `consumes`, of which it knows the `DEAD_LETTERS_…` too.
    pub fn installation(&mut self, tables: Option<Tables>, consumes: Option<Queue>, sends: &[Queue]) -> Option<Installation> {
        let log_level = self.log_level();
        let aws = self.aws();
        let known: Vec<_> = consumes.iter().chain(sends).map(|it| (*it, self.required(&variable("QUEUE", *it)))).collect();
        let dead_letters = consumes.map(|it| (it, self.required(&variable("DEAD_LETTERS", it))));
        let mut queues = QueueUrls::new();
        for (queue, url) in known {
            queues = queues.with(queue, url?);
        }
        if let Some((queue, url)) = dead_letters {
            queues = queues.with_dead_letters(queue, url?);
        }
        Some(Installation { log_level: log_level?, aws: aws?, tables: tables?, queues })
    }

    /// How tenants' addresses are reached: only on one machine they may be of this machine.
    pub fn web(&self) -> channel::web::WebSettings {
        channel::web::WebSettings { allow_loopback: self.is_local(), connect_timeout: Duration::from_secs(3) }
    }

    /// The bucket in which files lie: `BUCKET`.
    pub fn bucket(&mut self) -> Option<String> {
        self.required("BUCKET")
    }

    /// Where the vault's keys come from: `KMS_KEY` names the key that wraps them. On one machine `MASTER_KEY`, 32 bytes in base64, is the key.
    pub fn vault(&mut self) -> Option<KeySource> {
        let Some(key) = self.optional("MASTER_KEY") else {
            return self.required("KMS_KEY").map(KeySource::Kms);
        };
        let vault = Vault::new(MASTER_KEY_ID, &Secret::new(key)).ok();
        if vault.is_none() {
            self.malformed("MASTER_KEY");
        }
        vault.map(KeySource::Master)
    }

    /// `APP_SECRET_OVERLAP_HOURS`: how long an app's previous secret is accepted; a day if nothing is said.
    pub fn secret_overlap(&mut self) -> Option<Duration> {
        self.parsed_or("APP_SECRET_OVERLAP_HOURS", 24_u32).map(|it| Duration::from_hours(u64::from(it)))
    }

    /// The server's own Meta app, `META_APP_ID` and `META_APP_SECRET`, if it has one. `None` only if it is malformed.
    pub fn server_app(&mut self) -> Option<Option<ServerApp>> {
        let overlap = self.secret_overlap();
        let Some(id) = self.optional("META_APP_ID") else { return Some(None) };
        let secret = self.required("META_APP_SECRET")?;
        let app = ServerApp::new(&id, Secret::new(secret), overlap?);
        if app.is_none() {
            self.malformed("META_APP_ID");
        }
        app.map(Some)
    }

    /// Is this a stack on one machine? Only there SQS has an endpoint of its own, and only there others may be reached on this machine.
    pub fn is_local(&self) -> bool {
        self.optional("AWS_ENDPOINT_URL_SQS").or_else(|| self.optional("AWS_ENDPOINT_URL")).is_some()
    }

    /// The Graph API: `GRAPH_URL`, `GRAPH_VERSION`. Only on one machine Meta may be a simulator.
    pub fn graph(&mut self) -> Option<channel::GraphSettings> {
        let base_url = self.required("GRAPH_URL");
        let version = self.required("GRAPH_VERSION");
        let allow_loopback = self.is_local();
        Some(channel::GraphSettings { base_url: base_url?, allow_loopback, ..channel::GraphSettings::meta(version?) })
    }

    /// Builds the configuration from what was read.
    ///
    /// # Errors
    /// Every variable that is missing or malformed, together.
    pub fn finish<T>(self, build: impl FnOnce() -> Option<T>) -> Result<T, Misconfigured> {
        match build() {
            Some(configuration) if self.problems.is_empty() => Ok(configuration),
            _ => Err(Misconfigured { problems: self.problems }),
        }
    }
}

/// `template-sends` is `QUEUE_TEMPLATE_SENDS`, `turns.fifo` is `QUEUE_TURNS`.
fn variable(prefix: &str, queue: Queue) -> String {
    format!("{prefix}_{}", queue.name().trim_end_matches(".fifo").replace('-', "_").to_ascii_uppercase())
}

/// What every function stands on.
pub struct Installation {
    /// From which severity on it logs.
    pub log_level: tracing::Level,
    aws: channel::aws::Environment,
    tables: Tables,
    queues: QueueUrls,
}

impl Installation {
    /// The clients of AWS, over one HTTP client.
    #[must_use]
    pub fn connect(self) -> (Aws, Store, Queues) {
        let aws = Aws::new(self.aws);
        let (store, queues) = (Store::over(&aws, self.tables), Queues::new(aws.sqs(), self.queues));
        (aws, store, queues)
    }
}

/// Says which variables are wrong, by name, and no value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct Misconfigured {
    problems: BTreeMap<String, Problem>,
}

impl Misconfigured {
    fn names(&self, problem: Problem) -> Vec<&str> {
        self.problems.iter().filter(|(_, it)| **it == problem).map(|(name, _)| name.as_str()).collect()
    }
}

impl fmt::Display for Misconfigured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the environment is incomplete")?;
        for (problem, word) in [(Problem::Missing, "missing"), (Problem::Malformed, "malformed")] {
            let names = self.names(problem);
            if !names.is_empty() {
                write!(f, "; {word}: {}", names.join(", "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &'static [(&'static str, &'static str)]) -> Environment {
        Environment::of(|name| variables.iter().find(|it| it.0 == name).map(|it| it.1.to_owned()))
    }

    #[test]
    fn all_mistakes_are_told_at_once_and_no_value() {
        let mut environment = environment(&[("EMPTY", ""), ("SECONDS", "example-secret"), ("MINUTES", "x"), ("GOOD", "1")]);
        let found = (
            environment.required("ABSENT"),
            environment.required("EMPTY"),
            environment.parsed::<u8>("SECONDS"),
            environment.parsed_or::<u8>("MINUTES", 5),
            environment.parsed::<u8>("GOOD"),
            environment.parsed_or::<u8>("OTHER", 5),
        );
        assert_eq!(found, (None, None, None, None, Some(1), Some(5)));
        environment.malformed("KEY");
        let error = environment.finish(|| Some(())).expect_err("five are wrong");
        assert_eq!(error.to_string(), "the environment is incomplete; missing: ABSENT, EMPTY; malformed: KEY, MINUTES, SECONDS");
        assert!(!format!("{error:?}").contains("example-secret"));
    }

    #[test]
    fn nothing_is_built_from_what_is_not_there() {
        let environment = environment(&[]);
        let forgotten = environment.optional("ABSENT");
        assert!(environment.finish(|| forgotten).is_err());
    }

    #[test]
    fn aws_wants_its_three_and_takes_endpoints_for_each_service_before_the_one_for_all() {
        let error = {
            let mut environment = environment(&[("AWS_REGION", "eu-central-1")]);
            let aws = environment.aws();
            environment.finish(|| aws).expect_err("two are missing")
        };
        assert_eq!(error.to_string(), "the environment is incomplete; missing: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY");
        let mut environment = environment(&[
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_SESSION_TOKEN", "token"),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
            ("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:2"),
        ]);
        let aws = environment.aws().expect("complete");
        assert_eq!((aws.region.as_str(), aws.access_key_id.as_str()), ("eu-central-1", "id"));
        assert_eq!((aws.secret_access_key.as_str(), aws.session_token.as_deref()), ("secret", Some("token")));
        assert_eq!(aws.endpoint_url_dynamodb.as_deref(), Some("http://127.0.0.1:1"));
        assert_eq!(aws.endpoint_url_sqs.as_deref(), Some("http://127.0.0.1:2"));
    }

    #[test]
    fn an_installation_wants_every_queue_and_the_dead_letters_of_the_one_that_is_consumed() {
        let mut environment = environment(&[("AWS_REGION", "eu-central-1"), ("QUEUE_EVENTS", "events-url")]);
        let tables = environment.tables();
        let installation = environment.installation(tables, Some(Queue::TemplateSends), &[Queue::Events, Queue::Turns]);
        let error = environment.finish(|| installation).err().expect("most of it is missing");
        let expected = "the environment is incomplete; missing: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, DEAD_LETTERS_TEMPLATE_SENDS, \
            QUEUE_TEMPLATE_SENDS, QUEUE_TURNS, TABLE_CONFIG, TABLE_CONVERSATIONS, TABLE_MESSAGES";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn the_vault_is_kmss_but_for_a_machine_that_gives_a_key() {
        const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let of = |variables| environment(variables).vault();
        assert!(matches!(of(&[("KMS_KEY", "arn")]), Some(KeySource::Kms(it)) if it == "arn"));
        assert!(matches!(of(&[("KMS_KEY", "arn"), ("MASTER_KEY", KEY)]), Some(KeySource::Master(_))));
        for (variables, problem) in [(&[][..], "missing: KMS_KEY"), (&[("MASTER_KEY", "short")][..], "malformed: MASTER_KEY")] {
            let mut environment = environment(variables);
            let vault = environment.vault();
            assert_eq!(environment.finish(|| vault).expect_err("no key").to_string(), format!("the environment is incomplete; {problem}"));
        }
    }

    #[test]
    fn the_log_level_is_info_unless_told() {
        assert_eq!(environment(&[]).log_level(), Some(tracing::Level::INFO));
        assert_eq!(environment(&[("LOG_LEVEL", "debug")]).log_level(), Some(tracing::Level::DEBUG));
        let mut wrong = environment(&[("LOG_LEVEL", "loud")]);
        assert_eq!(wrong.log_level(), None);
        assert!(wrong.finish(|| Some(())).is_err());
    }

    #[test]
    fn the_process_is_read() {
        // Cargo sets it for every test.
        assert_eq!(Environment::of_process().required("CARGO_PKG_NAME").as_deref(), Some("lambda"));
    }
}
