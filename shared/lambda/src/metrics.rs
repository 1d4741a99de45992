//! Metrics in CloudWatch's embedded format: log lines from which CloudWatch makes metrics, without a call:
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.
//!
//! Counts are added up and written once an invocation. Must not know what is counted; the only dimensions are the function, a kind
//! and an outcome, never a tenant, a connection or a customer: each combination of values is a metric that is paid for.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};

/// Under which name CloudWatch shows them.
const NAMESPACE: &str = "WhatsAppChannel";

/// What a count may be told apart by, besides the function (`fn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dimension {
    /// `kind`: what was counted, such as a queue or a class of faults.
    Kind,
    /// `outcome`: what became of it.
    Outcome,
}

impl Dimension {
    const fn name(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::Outcome => "outcome",
        }
    }
}

/// What this process counts. None until [`start`]: tests run many functions in one process, and count nothing.
static METRICS: Mutex<Option<Metrics>> = Mutex::new(None);

/// Starts counting, under the function's name. Called once, by `main`.
pub fn start(function: &str) {
    *METRICS.lock().unwrap_or_else(PoisonError::into_inner) = Some(Metrics::new(function));
}

/// Adds to a count. Use few names and few values: see the module's documentation.
pub fn count(name: &'static str, value: u64, dimensions: &[(Dimension, &str)]) {
    if let Some(metrics) = METRICS.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        metrics.count(name, value, dimensions);
    }
}

/// Adds what a use-case counted.
pub fn publish(counts: &channel::counts::Counts) {
    for ((name, kind), value) in counts.take() {
        count(name, value, &[(Dimension::Kind, kind)]);
    }
}

/// Writes to standard output what was counted since the last time. `now` in milliseconds of Unix time.
pub fn flush(now: i64) {
    let mut metrics = METRICS.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(metrics) = metrics.as_mut() else {
        return;
    };
    if let Err(error) = metrics.flush(now, &mut io::stdout().lock()) {
        tracing::warn!(error.chain = crate::logging::chain(&error), "metrics could not be written");
    }
}

/// What was counted since the last time, by name and over all dimensions, for whoever looks at it in this process instead of in CloudWatch.
#[must_use]
pub fn take() -> BTreeMap<&'static str, u64> {
    let mut metrics = METRICS.lock().unwrap_or_else(PoisonError::into_inner);
    metrics.as_mut().map(Metrics::take).unwrap_or_default()
}

/// Which dimensions a count has, in their order.
type Dimensions = Vec<(Dimension, String)>;

/// Counts of one function, not yet written.
struct Metrics {
    function: String,
    counts: BTreeMap<Dimensions, BTreeMap<&'static str, u64>>,
}

impl Metrics {
    fn new(function: &str) -> Self {
        Self { function: function.to_owned(), counts: BTreeMap::new() }
    }

    fn count(&mut self, name: &'static str, value: u64, dimensions: &[(Dimension, &str)]) {
        // CloudWatch refuses an empty value.
        let mut dimensions: Dimensions = dimensions.iter().filter(|it| !it.1.is_empty()).map(|it| (it.0, it.1.to_owned())).collect();
        dimensions.sort();
        let count = self.counts.entry(dimensions).or_default().entry(name).or_default();
        *count = count.saturating_add(value);
    }

    fn take(&mut self) -> BTreeMap<&'static str, u64> {
        let mut sums: BTreeMap<&'static str, u64> = BTreeMap::new();
        for (name, value) in std::mem::take(&mut self.counts).into_values().flatten() {
            let sum = sums.entry(name).or_default();
            *sum = sum.saturating_add(value);
        }
        sums
    }

    /// One line for each set of dimensions; each line is written whole, so that no log line falls into it.
    fn flush(&mut self, now: i64, writer: &mut impl Write) -> io::Result<()> {
        for (dimensions, counts) in std::mem::take(&mut self.counts) {
            let mut line = line(&self.function, now, &dimensions, &counts).to_string();
            line.push('\n');
            writer.write_all(line.as_bytes())?;
        }
        writer.flush()
    }
}

fn line(function: &str, now: i64, dimensions: &Dimensions, counts: &BTreeMap<&'static str, u64>) -> Value {
    let names: Vec<&str> = ["fn"].into_iter().chain(dimensions.iter().map(|it| it.0.name())).collect();
    let metrics: Vec<Value> = counts.keys().map(|it| json!({"Name": it, "Unit": "Count"})).collect();
    let mut line = Map::new();
    line.insert(
        "_aws".to_owned(),
        json!({
            "Timestamp": now,
            "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": [names], "Metrics": metrics}],
        }),
    );
    line.insert("fn".to_owned(), function.into());
    for (dimension, value) in dimensions {
        line.insert(dimension.name().to_owned(), value.as_str().into());
    }
    for (name, value) in counts {
        line.insert((*name).to_owned(), (*value).into());
    }
    Value::Object(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(metrics: &mut Metrics) -> Vec<Value> {
        let mut written = Vec::new();
        metrics.flush(1_795_000_000_000, &mut written).expect("writes");
        let text = String::from_utf8(written).expect("UTF-8");
        text.lines().map(|it| serde_json::from_str(it).expect("a JSON object a line")).collect()
    }

    #[test]
    fn counts_are_added_up_into_one_line_for_each_set_of_dimensions() {
        let mut metrics = Metrics::new("webhook");
        metrics.count("webhook.accepted", 1, &[(Dimension::Outcome, "kept"), (Dimension::Kind, "messages")]);
        metrics.count("webhook.accepted", 2, &[(Dimension::Kind, "messages"), (Dimension::Outcome, "kept")]);
        metrics.count("webhook.bytes", 600, &[(Dimension::Kind, "messages"), (Dimension::Outcome, "kept")]);
        metrics.count("webhook.accepted", 1, &[(Dimension::Kind, "")]);
        let expected = [
            json!({
                "_aws": {
                    "Timestamp": 1_795_000_000_000_i64,
                    "CloudWatchMetrics": [{
                        "Namespace": "WhatsAppChannel",
                        "Dimensions": [["fn"]],
                        "Metrics": [{"Name": "webhook.accepted", "Unit": "Count"}],
                    }],
                },
                "fn": "webhook",
                "webhook.accepted": 1,
            }),
            json!({
                "_aws": {
                    "Timestamp": 1_795_000_000_000_i64,
                    "CloudWatchMetrics": [{
                        "Namespace": "WhatsAppChannel",
                        "Dimensions": [["fn", "kind", "outcome"]],
                        "Metrics": [
                            {"Name": "webhook.accepted", "Unit": "Count"},
                            {"Name": "webhook.bytes", "Unit": "Count"},
                        ],
                    }],
                },
                "fn": "webhook",
                "kind": "messages",
                "outcome": "kept",
                "webhook.accepted": 3,
                "webhook.bytes": 600,
            }),
        ];
        assert_eq!(lines(&mut metrics), expected);
    }

    #[test]
    fn what_is_taken_is_summed_over_dimensions_and_gone() {
        let mut metrics = Metrics::new("templates");
        metrics.count("slot.wasted", 1, &[]);
        metrics.count("send.accepted", 2, &[(Dimension::Kind, "template")]);
        metrics.count("send.accepted", 3, &[(Dimension::Kind, "reply")]);
        assert_eq!(metrics.take(), BTreeMap::from([("send.accepted", 5), ("slot.wasted", 1)]));
        assert!(metrics.take().is_empty());
    }

    #[test]
    fn what_was_written_is_not_written_again() {
        let mut metrics = Metrics::new("inbound");
        metrics.count("records", u64::MAX, &[]);
        metrics.count("records", 1, &[]);
        assert_eq!(lines(&mut metrics)[0]["records"], u64::MAX);
        assert!(lines(&mut metrics).is_empty());
    }
}
