//! Logs: one JSON object a line, which can be understood without its neighbours.
//!
//! The fields of all spans around an event (request, record, what a use-case adds) stand in its line, beside its own; the
//! innermost wins. Must not know what is logged; what must never be logged is kept out where we can: a panic's formatted message,
//! and the words of JSON errors, both of which may quote content.

use std::error::Error;
use std::fmt;
use std::panic::PanicHookInfo;

use serde::Serialize;
use serde_json::{Map, Value};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

/// Crates whose own logs begin at `warn` whatever the level: at `debug` they print requests and answers.
const QUIET: [&str; 8] = ["aws_", "h2", "hyper", "lambda_http", "lambda_runtime", "reqwest", "rustls", "tower"];

/// Starts logging to standard output, which Lambda sends to CloudWatch, at this level. Panics are logged too, by place.
///
/// Called once, by `main`; a second call changes nothing.
pub fn start(level: Level) {
    // It fails only if there is a subscriber already.
    if tracing::subscriber::set_global_default(subscriber(level, std::io::stdout)).is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
}

/// What [`start`] sets up, over any writer: for tests.
pub fn subscriber<W>(level: Level, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let quiet = LevelFilter::from_level(level).min(LevelFilter::WARN);
    let targets = Targets::new().with_default(level).with_targets(QUIET.map(|it| (it, quiet)));
    let lines = tracing_subscriber::fmt::layer().fmt_fields(JsonFields::new()).event_format(Flat).with_writer(writer);
    tracing_subscriber::registry().with(targets).with(lines)
}

/// A failure and its causes in one line, outermost first, each in its own words, but for JSON errors: see [`place`].
pub fn chain(error: &dyn Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.downcast_ref::<serde_json::Error>().map_or_else(|| error.to_string(), place);
        told.push_str(": ");
        told.push_str(&words);
        cause = error.source();
    }
    told
}

/// What is wrong with a JSON text and where, without quoting it, as the error's own words do.
pub fn place(error: &serde_json::Error) -> String {
    format!("JSON {:?} error at line {}, column {}", error.classify(), error.line(), error.column())
}

/// Tells where a panic was, and its message only if it is a literal: a formatted one may hold content.
fn log_panic(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let message = info.payload().downcast_ref::<&'static str>().copied().unwrap_or("(not told)");
    tracing::error!(panic.place = place, panic.message = message, "panicked at {place}");
}

/// One line of the log.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'a str,
    message: Value,
    target: &'a str,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

/// Writes an event and the spans around it as one flat object.
struct Flat;

impl<S> FormatEvent<S, JsonFields> for Flat
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn format_event(&self, context: &FmtContext<'_, S, JsonFields>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Map::new();
        for span in context.event_scope().into_iter().flat_map(|it| it.from_root()) {
            if let Some(formatted) = span.extensions().get::<FormattedFields<JsonFields>>() {
                fields.extend(parsed(formatted));
            }
        }
        let mut own = String::new();
        context.format_fields(Writer::new(&mut own), event)?;
        fields.extend(parsed(&own));

        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let message = fields.remove("message").unwrap_or_default();
        for taken in ["timestamp", "level", "target"] {
            fields.remove(taken);
        }
        let metadata = event.metadata();
        let line = Line { timestamp, level: metadata.level().as_str(), message, target: metadata.target(), fields };
        let line = serde_json::to_string(&line).map_err(|_| fmt::Error)?;
        writeln!(writer, "{line}")
    }
}

/// Fields as `JsonFields` has written them.
fn parsed(fields: &str) -> Map<String, Value> {
    serde_json::from_str(fields).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `log` writes at `level`.
    fn written(level: Level, log: impl FnOnce()) -> Vec<Map<String, Value>> {
        let written = Written::default();
        let writer = written.clone();
        tracing::subscriber::with_default(subscriber(level, move || writer.clone()), log);
        let bytes = written.0.lock().expect("no panic").clone();
        let text = String::from_utf8(bytes).expect("UTF-8");
        text.lines().map(|it| serde_json::from_str(it).expect("a JSON object a line")).collect()
    }

    #[test]
    fn a_line_holds_the_fields_of_all_spans_and_the_innermost_wins() {
        let lines = written(Level::INFO, || {
            let _invocation = tracing::info_span!("invocation", request.id = "r1", queue = "outer").entered();
            let record = tracing::info_span!("record", sqs.message_id = "m1", queue = "inner", connection.id = tracing::field::Empty);
            record.record("connection.id", "demo");
            let _record = record.entered();
            tracing::warn!(attempt = 2, level = "mine", "a \"quoted\"\nmessage");
        });
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        for (name, value) in [
            ("request.id", Value::from("r1")),
            ("sqs.message_id", "m1".into()),
            ("connection.id", "demo".into()),
            ("queue", "inner".into()),
            ("attempt", 2.into()),
            ("level", "WARN".into()),
            ("message", "a \"quoted\"\nmessage".into()),
            ("target", "lambda::logging::tests".into()),
        ] {
            assert_eq!(line[name], value, "{name}");
        }
        assert!(line["timestamp"].as_str().is_some_and(|it| it.ends_with('Z') && it.contains('T')), "{line:?}");
        assert_eq!(line.len(), 9);
    }

    #[test]
    fn levels_hold_and_other_crates_start_at_warn() {
        let lines = written(Level::DEBUG, || {
            tracing::trace!("no");
            tracing::debug!("yes");
            tracing::info!(target: "aws_smithy_runtime::client", "no");
            tracing::warn!(target: "aws_smithy_runtime::client", "yes");
            tracing::info!(target: "hyper_util::client", "no");
            tracing::info!(target: "lambda::batches", "yes");
        });
        assert_eq!(lines.iter().map(|it| it["message"].clone()).collect::<Vec<_>>(), ["yes", "yes", "yes"]);
        let lines = written(Level::ERROR, || {
            tracing::warn!(target: "aws_sdk_sqs", "no");
            tracing::warn!("no");
            tracing::error!("yes");
        });
        assert_eq!(lines.len(), 1);
    }

    #[derive(Debug, thiserror::Error)]
    #[error("item `1` does not decode")]
    struct Outer(#[source] serde_json::Error);

    #[test]
    fn a_chain_tells_every_cause_and_quotes_no_content() {
        let inner = serde_json::from_str::<u32>("\"the customer's words\"").expect_err("not a number");
        assert!(inner.to_string().contains("the customer's words"), "else this test shows nothing");
        assert_eq!(chain(&Outer(inner)), "item `1` does not decode: JSON Data error at line 1, column 22");
        let cause = io::Error::other("the cause");
        assert_eq!(chain(&crate::run::RunError::Runtime(cause)), "no runtime for the function: the cause");
    }

    #[test]
    fn a_panic_is_told_by_place_without_its_words() {
        use std::panic::{catch_unwind, set_hook, take_hook};
        let lines = written(Level::INFO, || {
            let before = take_hook();
            set_hook(Box::new(log_panic));
            let text = String::from("the customer's words");
            let ended = [catch_unwind(|| panic!("{text}")), catch_unwind(|| panic!("a literal"))];
            set_hook(before);
            assert!(ended.iter().all(Result::is_err));
        });
        let [formatted, literal] = lines.as_slice() else { panic!("{lines:?}") };
        assert!(formatted["panic.place"].as_str().is_some_and(|it| it.contains("logging.rs")), "{formatted:?}");
        assert_eq!(formatted["panic.message"], "(not told)");
        assert!(!format!("{formatted:?}").contains("words"));
        assert_eq!(literal["panic.message"], "a literal");
    }
}
