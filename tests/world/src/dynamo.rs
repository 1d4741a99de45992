//! DynamoDB for one test: an embedded engine (dynoxide, in memory) behind a [`Wire`] that meters what is consumed.
//!
//! What the engine does not have by itself, throttles, transaction conflicts and lost answers, comes from the wire's faults.
//! It must not know what the items mean.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region, SharedHttpClient, retry::RetryConfig};
use dynoxide::{Database, DynoxideError};
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::clock::Clock;
use crate::template::{ACCOUNT, REGION, Table};
use crate::wire::{Answer, Call, Fault, Faults, Service, Wire};

/// The embedded engine with its faults and its meter. Clones are the same tables.
#[derive(Clone, Debug)]
pub struct Dynamo {
    wire: Wire<Engine>,
}

/// What calls have consumed, in DynamoDB's units:
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html>.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Units {
    /// Read units: 1 for a strongly consistent read of up to 4 KB, half for an eventually consistent one.
    pub read: f64,
    /// Write units: 1 for a write of up to 1 KB, 2 in a transaction.
    pub write: f64,
    /// Writes refused by their condition. DynamoDB charges them too, but its answer does not say how much.
    pub refused: u64,
}

impl std::ops::AddAssign for Units {
    fn add_assign(&mut self, other: Self) {
        self.read += other.read;
        self.write += other.write;
        self.refused += other.refused;
    }
}

/// Why the engine could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum DynamoError {
    /// The engine refuses what it was asked.
    #[error("the embedded engine refuses {action}")]
    Engine {
        /// What it was asked to do.
        action: &'static str,
        /// What it says.
        #[source]
        source: DynoxideError,
    },
    /// A request that was built here is not one.
    #[error("a request does not have the form of {action}")]
    Request {
        /// What was to be asked.
        action: &'static str,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

impl Dynamo {
    /// An empty engine in memory whose expiry goes by `clock`.
    ///
    /// # Errors
    /// When the engine's memory cannot be set up.
    pub fn new(clock: &Clock) -> Result<Self, DynamoError> {
        let database = Database::memory_with_clock(Arc::new(clock.clone()));
        let database = database.map_err(|source| DynamoError::Engine { action: "start", source })?;
        let engine = Engine { database, meter: Mutex::default() };
        Ok(Self { wire: Wire::new(engine, clock.clone()) })
    }

    /// Creates the tables of the template, with their expiry.
    ///
    /// # Errors
    /// When the engine refuses one.
    pub fn create_tables<'a>(&self, tables: impl IntoIterator<Item = &'a Table>) -> Result<(), DynamoError> {
        for table in tables {
            let action = "CreateTable";
            let request = serde_json::from_value(table.create_request());
            let request = request.map_err(|source| DynamoError::Request { action, source })?;
            self.database().create_table(request).map_err(|source| DynamoError::Engine { action, source })?;
            let Some(attribute) = &table.expires_by else { continue };
            let action = "UpdateTimeToLive";
            let specification = json!({ "Enabled": true, "AttributeName": attribute });
            let request = json!({ "TableName": table.name, "TimeToLiveSpecification": specification });
            let request = serde_json::from_value(request).map_err(|source| DynamoError::Request { action, source })?;
            self.database().update_time_to_live(request).map_err(|source| DynamoError::Engine { action, source })?;
        }
        Ok(())
    }

    /// What is to go wrong, and what was called.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        self.wire.faults()
    }

    /// The HTTP client for an SDK configuration made elsewhere; its calls and units are booked under the name `who`.
    #[must_use]
    pub fn http_client(&self, who: &str) -> SharedHttpClient {
        self.wire.http_client(who)
    }

    /// A configuration for the SDK's client, without retries, so that a test sees each fault.
    #[must_use]
    pub fn sdk_config(&self, who: &str) -> aws_sdk_dynamodb::config::Builder {
        aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .credentials_provider(Credentials::from_keys("local", "local", None))
            .endpoint_url("http://dynamodb.invalid")
            .retry_config(RetryConfig::disabled())
            .http_client(self.http_client(who))
    }

    /// A client made of [`Self::sdk_config`].
    #[must_use]
    pub fn client(&self, who: &str) -> aws_sdk_dynamodb::Client {
        aws_sdk_dynamodb::Client::from_conf(self.sdk_config(who).build())
    }

    /// What `who` has consumed since the start or the last reset.
    #[must_use]
    pub fn units(&self, who: &str) -> Units {
        let mut sum = Units::default();
        self.wire.service().metered(|meter| {
            meter.iter().filter(|((it, _), _)| it == who).for_each(|(_, units)| sum += *units);
        });
        sum
    }

    /// What `who` has consumed since the start or the last reset, by action.
    #[must_use]
    pub fn units_by_action(&self, who: &str) -> BTreeMap<String, Units> {
        self.wire.service().metered(|meter| {
            let own = meter.iter().filter(|((it, _), _)| it == who);
            own.map(|((_, action), units)| (action.clone(), *units)).collect()
        })
    }

    /// Starts metering from zero, for everybody.
    pub fn reset_units(&self) {
        self.wire.service().metered(BTreeMap::clear);
    }

    /// Removes what has expired by the clock, as DynamoDB does within days, and says how many items went.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn sweep_expired(&self) -> Result<usize, DynamoError> {
        self.database().sweep_ttl().map_err(|source| DynamoError::Engine { action: "sweep", source })
    }

    /// All items of all tables, in DynamoDB's JSON, sorted by key and with their sets sorted: equal contents are equal dumps.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn dump(&self) -> Result<BTreeMap<String, Vec<Value>>, DynamoError> {
        let list = execute(self.database(), "ListTables", &json!({}));
        let list = list.map_err(|source| DynamoError::Engine { action: "ListTables", source })?;
        let names = list["TableNames"].as_array().into_iter().flatten().filter_map(Value::as_str);
        names.map(|name| Ok((name.to_owned(), self.items(name)?))).collect()
    }

    /// All items of one table, as in [`Self::dump`].
    ///
    /// # Errors
    /// When there is no such table.
    pub fn items(&self, table: &str) -> Result<Vec<Value>, DynamoError> {
        let mut items = Vec::new();
        let mut request = json!({ "TableName": table, "ConsistentRead": true });
        loop {
            let page = execute(self.database(), "Scan", &request);
            let mut page = page.map_err(|source| DynamoError::Engine { action: "Scan", source })?;
            if let Value::Array(found) = page["Items"].take() {
                items.extend(found.into_iter().map(sorted));
            }
            match page["LastEvaluatedKey"].take() {
                Value::Null => break,
                key => request["ExclusiveStartKey"] = key,
            }
        }
        items.sort_by_cached_key(|item| (item["pk"].to_string(), item["sk"].to_string(), item.to_string()));
        Ok(items)
    }

    fn database(&self) -> &Database {
        &self.wire.service().database
    }
}

type Meter = BTreeMap<(String, String), Units>;

struct Engine {
    database: Database,
    meter: Mutex<Meter>,
}

impl Engine {
    fn metered<T>(&self, look: impl FnOnce(&mut Meter) -> T) -> T {
        look(&mut self.meter.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs the request with the consumed units asked for, books them, and shows them only to a caller who asked.
    fn run(&self, call: &Call) -> Result<Value, DynoxideError> {
        let mut request: Value =
            serde_json::from_slice(&call.body).map_err(|error| DynoxideError::SerializationException(error.to_string()))?;
        let is_asked = request.get("ReturnConsumedCapacity").is_some_and(|it| it != "NONE");
        if METERED.contains(&call.action.as_str()) && !is_asked {
            request["ReturnConsumedCapacity"] = "TOTAL".into();
        }
        let mut outcome = execute(&self.database, &call.action, &request);
        let units = consumed(&call.action, &outcome);
        self.metered(|meter| *meter.entry((call.who.clone(), call.action.clone())).or_default() += units);
        if let (Ok(Value::Object(answer)), false) = (&mut outcome, is_asked) {
            answer.remove("ConsumedCapacity");
        }
        outcome
    }
}

impl Service for Engine {
    fn execute(&self, call: Call) -> BoxFuture<'_, Answer> {
        let answer = match self.run(&call) {
            Ok(body) => answer(200, body.to_string()),
            Err(error) => answer(error.status_code(), error.to_json()),
        };
        Box::pin(std::future::ready(answer))
    }

    fn needs(&self, call: &Call) -> Vec<(String, String)> {
        needs(call)
    }

    fn fault(&self, call: &Call, fault: &Fault) -> Answer {
        match fault {
            Fault::Throttled => refusal(400, "dynamodb.v20120810#ProvisionedThroughputExceededException", "Too many requests."),
            Fault::Stale => answer(200, "{}".to_owned()),
            Fault::AccessDenied => refusal(400, "coral.service#AccessDeniedException", "The caller may not do this."),
            Fault::TransactionConflict if call.action == "TransactWriteItems" => cancelled_by_conflict(call),
            Fault::TransactionConflict => {
                refusal(400, "dynamodb.v20120810#TransactionConflictException", "Transaction is ongoing for the item")
            }
            Fault::InternalError
            | Fault::CutBefore
            | Fault::CutAfter
            | Fault::Delayed(_)
            | Fault::FailedEntries(_)
            | Fault::Unconditional => refusal(500, "dynamodb.v20120810#InternalServerError", "Internal server error"),
        }
    }
}

/// One write of a transaction needs the permission of its own kind:
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis-iam.html>.
fn needs(call: &Call) -> Vec<(String, String)> {
    let request: Value = serde_json::from_slice(&call.body).unwrap_or_default();
    let need = |action: &str, of: &Value| {
        let table = of["TableName"].as_str().unwrap_or_default();
        (format!("dynamodb:{action}"), format!("arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{table}"))
    };
    let Some(writes) = request["TransactItems"].as_array() else { return vec![need(&call.action, &request)] };
    let each = writes.iter().filter_map(Value::as_object).flatten();
    let action = |kind: &str| if kind == "ConditionCheck" { "ConditionCheckItem".to_owned() } else { format!("{kind}Item") };
    each.map(|(kind, write)| need(&action(kind), write)).collect()
}

/// Actions whose answer says what they consumed, if it is asked for.
const METERED: [&str; 10] = [
    "BatchGetItem",
    "BatchWriteItem",
    "DeleteItem",
    "GetItem",
    "PutItem",
    "Query",
    "Scan",
    "TransactGetItems",
    "TransactWriteItems",
    "UpdateItem",
];

fn consumed(action: &str, outcome: &Result<Value, DynoxideError>) -> Units {
    let answer = match outcome {
        Ok(answer) => answer,
        Err(DynoxideError::ConditionalCheckFailedException(..) | DynoxideError::TransactionCanceledException(..)) => {
            return Units { refused: 1, ..Units::default() };
        }
        Err(_) => return Units::default(),
    };
    let of_table = |it: &Value| it["CapacityUnits"].as_f64().unwrap_or_default();
    let sum = match &answer["ConsumedCapacity"] {
        Value::Array(tables) => tables.iter().map(of_table).sum(),
        one => of_table(one),
    };
    match action {
        "BatchGetItem" | "GetItem" | "Query" | "Scan" | "TransactGetItems" => Units { read: sum, ..Units::default() },
        _ => Units { write: sum, ..Units::default() },
    }
}

/// Calls the engine's own typed API: the same code as behind its HTTP server.
fn execute(database: &Database, action: &str, request: &Value) -> Result<Value, DynoxideError> {
    match action {
        "BatchGetItem" => typed(request, |it| database.batch_get_item(it)),
        "BatchWriteItem" => typed(request, |it| database.batch_write_item(it)),
        "CreateTable" => typed(request, |it| database.create_table(it)),
        "DeleteItem" => typed(request, |it| database.delete_item(it)),
        "DescribeTable" => typed(request, |it| database.describe_table(it)),
        "DescribeTimeToLive" => typed(request, |it| database.describe_time_to_live(it)),
        "GetItem" => typed(request, |it| database.get_item(it)),
        "ListTables" => typed(request, |it| database.list_tables(it)),
        "PutItem" => typed(request, |it| database.put_item(it)),
        "Query" => typed(request, |it| database.query(it)),
        "Scan" => typed(request, |it| database.scan(it)),
        "TransactGetItems" => typed(request, |it| database.transact_get_items(it)),
        "TransactWriteItems" => typed(request, |it| database.transact_write_items(it)),
        "UpdateItem" => typed(request, |it| database.update_item(it)),
        "UpdateTimeToLive" => typed(request, |it| database.update_time_to_live(it)),
        _ => Err(DynoxideError::ValidationException(format!("{action} is not among the actions of this engine"))),
    }
}

fn typed<Q: DeserializeOwned, A: Serialize>(
    request: &Value,
    run: impl FnOnce(Q) -> Result<A, DynoxideError>,
) -> Result<Value, DynoxideError> {
    let request = Q::deserialize(request).map_err(|error| {
        // The engine's requests say this way that a value, not the form, is wrong.
        match error.to_string().strip_prefix("VALIDATION:") {
            Some(message) => DynoxideError::ValidationException(message.to_owned()),
            None => DynoxideError::SerializationException(error.to_string()),
        }
    })?;
    let answer = run(request)?;
    serde_json::to_value(answer).map_err(|error| DynoxideError::InternalServerError(error.to_string()))
}

/// The first item meets another transaction; the others would have gone through:
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>.
fn cancelled_by_conflict(call: &Call) -> Answer {
    let request: Value = serde_json::from_slice(&call.body).unwrap_or_default();
    let items = request["TransactItems"].as_array().map_or(1, Vec::len);
    let reasons: Vec<Value> = (0..items)
        .map(|position| match position {
            0 => json!({ "Code": "TransactionConflict", "Message": "Transaction is ongoing for the item" }),
            _ => json!({ "Code": "None" }),
        })
        .collect();
    let body = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": "Transaction cancelled, please refer cancellation reasons for specific reasons [TransactionConflict]",
        "CancellationReasons": reasons,
    });
    answer(400, body.to_string())
}

fn refusal(status: u16, kind: &str, message: &str) -> Answer {
    let body = json!({ "__type": format!("com.amazonaws.{kind}"), "message": message });
    answer(status, body.to_string())
}

fn answer(status: u16, body: String) -> Answer {
    Answer { status, headers: Vec::new(), body: body.into_bytes() }
}

/// The same value with its sets in order, at any depth: DynamoDB's sets have none.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(members.into_iter().map(sorted_member).collect::<Map<_, _>>()),
        Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
        other => other,
    }
}

fn sorted_member((name, value): (String, Value)) -> (String, Value) {
    let mut value = sorted(value);
    if let ("SS" | "NS" | "BS", Value::Array(members)) = (name.as_str(), &mut value) {
        members.sort_by_cached_key(Value::to_string);
    }
    (name, value)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_sdk_dynamodb::Client;
    use aws_sdk_dynamodb::error::ProvideErrorMetadata;
    use aws_sdk_dynamodb::types::{AttributeValue, Put, ReturnConsumedCapacity, TransactWriteItem};
    use futures::FutureExt;

    use super::*;
    use crate::wire::Rule;

    fn engine(clock: &Clock) -> Dynamo {
        let dynamo = Dynamo::new(clock).expect("starts");
        let properties = json!({
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [
                { "AttributeName": "pk", "AttributeType": "S" }, { "AttributeName": "sk", "AttributeType": "S" },
            ],
            "KeySchema": [{ "AttributeName": "pk", "KeyType": "HASH" }, { "AttributeName": "sk", "KeyType": "RANGE" }],
        });
        let table = Table { name: "things".to_owned(), expires_by: Some("expires_at".to_owned()), properties };
        dynamo.create_tables([&table]).expect("are created");
        dynamo
    }

    fn put(client: &Client, sk: &str, body: &str) -> aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder {
        let text = |it: &str| AttributeValue::S(it.to_owned());
        client.put_item().table_name("things").item("pk", text("p")).item("sk", text(sk)).item("body", text(body))
    }

    #[tokio::test]
    async fn units_are_summed_by_who_and_shown_only_when_asked() {
        let dynamo = engine(&Clock::turned());
        let (inbound, replies) = (dynamo.client("inbound"), dynamo.client("replies"));
        let silent = put(&inbound, "1", "x").send().await.expect("is put");
        assert!(silent.consumed_capacity().is_none());
        let asked = put(&inbound, "2", &"x".repeat(1_500)).return_consumed_capacity(ReturnConsumedCapacity::Total);
        let asked = asked.send().await.expect("is put");
        assert_eq!(asked.consumed_capacity().and_then(|it| it.capacity_units()), Some(2.0));
        let refused = put(&inbound, "1", "x").condition_expression("attribute_not_exists(pk)").send().await;
        assert!(refused.is_err());
        let key = |it: &str| AttributeValue::S(it.to_owned());
        replies.get_item().table_name("things").key("pk", key("p")).key("sk", key("1")).send().await.expect("is got");
        assert_eq!(dynamo.units("inbound"), Units { read: 0.0, write: 3.0, refused: 1 });
        assert_eq!(dynamo.units_by_action("replies")["GetItem"], Units { read: 0.5, ..Units::default() });
        dynamo.reset_units();
        assert_eq!(dynamo.units("inbound"), Units::default());
    }

    #[tokio::test]
    async fn faults_are_answered_as_dynamodb_words_them() {
        let dynamo = engine(&Clock::turned());
        let client = dynamo.client("test");
        for (fault, code) in [
            (Fault::Throttled, "ProvisionedThroughputExceededException"),
            (Fault::InternalError, "InternalServerError"),
            (Fault::AccessDenied, "AccessDeniedException"),
            (Fault::TransactionConflict, "TransactionConflictException"),
        ] {
            dynamo.faults().add(Rule::every(fault).times(1));
            assert_eq!(put(&client, "1", "x").send().await.expect_err("is refused").code(), Some(code));
        }
        assert!(dynamo.items("things").expect("are read").is_empty());
    }

    #[tokio::test]
    async fn a_conflict_cancels_a_transaction_with_a_reason_for_each_item() {
        let dynamo = engine(&Clock::turned());
        let text = |it: &str| AttributeValue::S(it.to_owned());
        let item = |sk: &str| {
            let put = Put::builder().table_name("things").item("pk", text("p")).item("sk", text(sk)).build().expect("is complete");
            TransactWriteItem::builder().put(put).build()
        };
        dynamo.faults().add(Rule::every(Fault::TransactionConflict).times(1));
        let client = dynamo.client("test");
        let write = || client.transact_write_items().transact_items(item("1")).transact_items(item("2")).send();
        let error = write().await.expect_err("is cancelled").into_service_error();
        let aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError::TransactionCanceledException(error) = error else {
            panic!("{error:?}");
        };
        let codes: Vec<_> = error.cancellation_reasons().iter().filter_map(|it| it.code()).collect();
        assert_eq!(codes, ["TransactionConflict", "None"]);
        write().await.expect("is written");
        assert_eq!(dynamo.units("test"), Units { write: 4.0, ..Units::default() });
    }

    #[tokio::test]
    async fn a_lost_answer_leaves_the_item_written() {
        let dynamo = engine(&Clock::turned());
        dynamo.faults().add(Rule::every(Fault::CutAfter).of("PutItem").times(1));
        let error = put(&dynamo.client("test"), "1", "x").send().await.expect_err("has no answer");
        assert!(error.as_service_error().is_none(), "{error:?}");
        assert_eq!(dynamo.items("things").expect("are read").len(), 1);
    }

    /// So a test that polls two callers by hand decides alone which request comes next.
    #[tokio::test]
    async fn a_call_waits_nowhere_but_where_it_yields() {
        let dynamo = engine(&Clock::turned());
        dynamo.faults().yield_before_each(1);
        let client = dynamo.client("test");
        let mut two_calls = Box::pin(async {
            put(&client, "1", "x").send().await.expect("is put");
            put(&client, "2", "x").send().await.expect("is put");
        });
        for kept in 0..2 {
            assert!((&mut two_calls).now_or_never().is_none());
            assert_eq!(dynamo.items("things").expect("are read").len(), kept);
        }
        assert!((&mut two_calls).now_or_never().is_some());
        assert_eq!(dynamo.items("things").expect("are read").len(), 2);
    }

    #[tokio::test]
    async fn items_expire_by_the_turned_clock() {
        let clock = Clock::turned();
        let dynamo = engine(&clock);
        let at = (clock.now_ms() / 1_000 + 60).to_string();
        put(&dynamo.client("test"), "1", "x").item("expires_at", AttributeValue::N(at)).send().await.expect("is put");
        assert_eq!(dynamo.sweep_expired().expect("sweeps"), 0);
        clock.advance(Duration::from_secs(61));
        assert_eq!(dynamo.sweep_expired().expect("sweeps"), 1);
    }

    #[tokio::test]
    async fn dumps_are_in_the_order_of_keys_whatever_the_order_of_writing() {
        let dynamo = engine(&Clock::turned());
        let written = ["f", "b", "d", "a", "e", "c"];
        for pk in written {
            put(&dynamo.client("test"), "1", "x").item("pk", AttributeValue::S(pk.to_owned())).send().await.expect("is put");
        }
        let dump = dynamo.dump().expect("is dumped");
        let keys: Vec<_> = dump["things"].iter().map(|it| it["pk"]["S"].clone()).collect();
        assert_eq!(keys, ["a", "b", "c", "d", "e", "f"]);
    }

    #[test]
    fn sets_are_in_order_at_any_depth_and_lists_are_as_they_are() {
        let item = json!({ "a": { "M": { "b": { "SS": ["2", "1"] } } }, "c": { "L": [{ "N": "2" }, { "N": "1" }] } });
        let expected = json!({ "a": { "M": { "b": { "SS": ["1", "2"] } } }, "c": { "L": [{ "N": "2" }, { "N": "1" }] } });
        assert_eq!(sorted(item), expected);
    }

    #[tokio::test]
    async fn what_is_no_request_is_refused_and_not_executed() {
        let dynamo = engine(&Clock::turned());
        let missing = dynamo.client("test").put_item().table_name("nowhere").item("pk", AttributeValue::S("p".into())).send().await;
        assert_eq!(missing.expect_err("is refused").code(), Some("ResourceNotFoundException"));
        let keyless = dynamo.client("test").put_item().table_name("things").item("pk", AttributeValue::S("p".into())).send().await;
        assert_eq!(keyless.expect_err("is refused").code(), Some("ValidationException"));
        let malformed = put(&dynamo.client("test"), "1", "x").condition_expression("pk ==").send().await;
        assert_eq!(malformed.expect_err("is refused").code(), Some("ValidationException"));
        assert!(dynamo.items("things").expect("are read").is_empty());
    }
}
