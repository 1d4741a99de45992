//! DynamoDB, as far as the store needs it: items in and out of Rust, conditions, updates, transactions.
//!
//! It knows no item of ours. Every answer is read whole: cancellation reasons, the item that won a race, the next page.

use std::any::type_name;
use std::collections::HashMap;

pub(super) use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    AttributeValue, Delete, Put, ReturnConsumedCapacity, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::keys::{Key, Table};
use super::{Slice, StoreError};

/// The names of the tables.
#[derive(Debug, Clone)]
pub struct Tables {
    /// The table `config`.
    pub config: String,
    /// The table `conversations`.
    pub conversations: String,
    /// The table `messages`.
    pub messages: String,
}

type Item = HashMap<String, AttributeValue>;

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// What every write before it left: costs twice as much.
    Strong,
    /// May lag behind by some tens of milliseconds.
    Eventual,
}

/// On what a write depends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Always,
    /// The item does not exist.
    Absent,
    /// The item is as it was read.
    Version(u64),
}

/// An item with the version under which it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Versioned<T> {
    pub(crate) version: u64,
    pub(crate) value: T,
}

/// What became of a conditional write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Written<T> {
    Done,
    /// The condition did not hold: what is there, if anything is.
    Lost(Option<T>),
}

/// One write of a transaction.
pub(crate) enum Write {
    Put { key: Key, item: Item, condition: Condition },
    Update { key: Key, update: Update },
    Delete { key: Key },
}

impl Write {
    pub(crate) fn put(key: Key, value: &impl Serialize, version: Option<u64>, condition: Condition) -> Result<Self, StoreError> {
        let item = item_of(&key, value, version, None)?;
        Ok(Self::Put { key, item, condition })
    }
}

/// A merge into an item that is true in any order: so it needs no read.
pub(crate) struct Update {
    sets: Vec<(Vec<String>, AttributeValue, bool)>,
    adds: Vec<(String, i64)>,
    removes: Vec<Vec<String>>,
    conditions: Vec<UpdateCondition>,
}

enum UpdateCondition {
    Present(Vec<String>),
    Equals(Vec<String>, AttributeValue),
    Between(Vec<String>, AttributeValue, AttributeValue),
    AbsentOrBelow(Vec<String>, AttributeValue),
    AbsentOrEquals(Vec<String>, AttributeValue),
    Absent(Vec<String>),
}

fn path(text: &str) -> Vec<String> {
    text.split('.').map(str::to_owned).collect()
}

impl Update {
    /// An update of an item that exists.
    pub(crate) fn existing() -> Self {
        Self { conditions: vec![UpdateCondition::Present(path("pk"))], ..Self::of_any() }
    }

    /// An update of an item that comes to be by it, if it is not there.
    pub(crate) fn of_any() -> Self {
        Self { sets: Vec::new(), adds: Vec::new(), removes: Vec::new(), conditions: Vec::new() }
    }

    /// Changes nothing: only if the attribute has this value, or is not there where there is none.
    pub(crate) fn unchanged(name: &str, value: Option<&impl Serialize>) -> Result<Self, StoreError> {
        match value {
            Some(it) => Self::of_any().set(name, it)?.when(name, it),
            None => Ok(Self { conditions: vec![UpdateCondition::Absent(path(name))], ..Self::of_any().remove(name) }),
        }
    }

    /// Sets an attribute (`a` or `a.b`).
    pub(crate) fn set(mut self, name: &str, value: &impl Serialize) -> Result<Self, StoreError> {
        self.sets.push((path(name), attribute(value)?, false));
        Ok(self)
    }

    /// Sets an attribute unless it is there: what was seen first stays.
    pub(crate) fn set_first(mut self, name: &str, value: &impl Serialize) -> Result<Self, StoreError> {
        self.sets.push((path(name), attribute(value)?, true));
        Ok(self)
    }

    /// Adds to a number, which is nothing where it is absent.
    pub(crate) fn add(mut self, name: &str, more: i64) -> Self {
        self.adds.push((name.to_owned(), more));
        self
    }

    pub(crate) fn remove(mut self, name: &str) -> Self {
        self.removes.push(path(name));
        self
    }

    /// Only if the attribute has this value.
    pub(crate) fn when(mut self, name: &str, value: &impl Serialize) -> Result<Self, StoreError> {
        self.conditions.push(UpdateCondition::Equals(path(name), attribute(value)?));
        Ok(self)
    }

    /// Only if the attribute is there.
    pub(crate) fn when_present(mut self, name: &str) -> Self {
        self.conditions.push(UpdateCondition::Present(path(name)));
        self
    }

    /// Only if the attribute is not there.
    pub(crate) fn when_absent(mut self, name: &str) -> Self {
        self.conditions.push(UpdateCondition::Absent(path(name)));
        self
    }

    /// Only if the attribute is one of these numbers, both included.
    pub(crate) fn when_between(mut self, name: &str, from: i64, to: i64) -> Self {
        self.conditions.push(UpdateCondition::Between(path(name), number(from), number(to)));
        self
    }

    /// Only if the attribute is not there, or below this number.
    pub(crate) fn when_absent_or_below(mut self, name: &str, limit: i64) -> Self {
        self.conditions.push(UpdateCondition::AbsentOrBelow(path(name), number(limit)));
        self
    }

    /// Only if the attribute is not there, or has this value.
    pub(crate) fn when_absent_or(mut self, name: &str, value: &impl Serialize) -> Result<Self, StoreError> {
        self.conditions.push(UpdateCondition::AbsentOrEquals(path(name), attribute(value)?));
        Ok(self)
    }

    fn expressions(self) -> Expressions {
        let mut it = Expressions::default();
        let mut clauses = Vec::new();
        let mut sets = Vec::new();
        for (path, value, first) in self.sets {
            let (name, value) = (it.name(&path), it.value(value));
            sets.push(if first { format!("{name} = if_not_exists({name}, {value})") } else { format!("{name} = {value}") });
        }
        if !sets.is_empty() {
            clauses.push(format!("SET {}", sets.join(", ")));
        }
        let removes: Vec<String> = self.removes.iter().map(|path| it.name(path)).collect();
        if !removes.is_empty() {
            clauses.push(format!("REMOVE {}", removes.join(", ")));
        }
        let adds: Vec<String> =
            self.adds.iter().map(|(name, more)| format!("{} {}", it.name(std::slice::from_ref(name)), it.value(number(*more)))).collect();
        if !adds.is_empty() {
            clauses.push(format!("ADD {}", adds.join(", ")));
        }
        let conditions: Vec<String> = self
            .conditions
            .into_iter()
            .map(|condition| match condition {
                UpdateCondition::Present(path) => format!("attribute_exists({})", it.name(&path)),
                UpdateCondition::Absent(path) => format!("attribute_not_exists({})", it.name(&path)),
                UpdateCondition::Equals(path, value) => format!("{} = {}", it.name(&path), it.value(value)),
                UpdateCondition::Between(path, from, to) => format!("{} BETWEEN {} AND {}", it.name(&path), it.value(from), it.value(to)),
                UpdateCondition::AbsentOrBelow(path, limit) => {
                    let name = it.name(&path);
                    format!("(attribute_not_exists({name}) OR {name} < {})", it.value(limit))
                }
                UpdateCondition::AbsentOrEquals(path, value) => {
                    let name = it.name(&path);
                    format!("(attribute_not_exists({name}) OR {name} = {})", it.value(value))
                }
            })
            .collect();
        it.update = clauses.join(" ");
        it.condition = conditions.join(" AND ");
        it
    }
}

/// An update as DynamoDB wants it: every name and value by a placeholder, since any name may be a reserved word.
#[derive(Default)]
struct Expressions {
    update: String,
    condition: String,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

impl Expressions {
    fn name(&mut self, path: &[String]) -> String {
        let parts: Vec<String> = path
            .iter()
            .map(|part| {
                let placeholder = format!("#{}", part.replace(|it: char| !it.is_ascii_alphanumeric(), "_"));
                self.names.insert(placeholder.clone(), part.clone());
                placeholder
            })
            .collect();
        parts.join(".")
    }

    fn value(&mut self, value: AttributeValue) -> String {
        let placeholder = format!(":v{}", self.values.len());
        self.values.insert(placeholder.clone(), value);
        placeholder
    }
}

/// Items of one partition, in the order of their sort keys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range<'a> {
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    pub(crate) newest_first: bool,
    /// At most so many; all, if nothing is said.
    pub(crate) limit: Option<usize>,
}

/// The client and the names of the tables.
#[derive(Debug, Clone)]
pub(crate) struct Dynamo {
    client: Client,
    tables: Tables,
}

impl Dynamo {
    pub(crate) fn new(client: Client, tables: Tables) -> Self {
        Self { client, tables }
    }

    fn table(&self, table: Table) -> &str {
        match table {
            Table::Config => &self.tables.config,
            Table::Conversations => &self.tables.conversations,
            Table::Messages => &self.tables.messages,
        }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, key: &Key, read: Read) -> Result<Option<Versioned<T>>, StoreError> {
        let answer = self
            .client
            .get_item()
            .table_name(self.table(key.table))
            .key("pk", AttributeValue::S(key.pk.clone()))
            .key("sk", AttributeValue::S(key.sk.clone()))
            .consistent_read(read == Read::Strong)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|it| failure("GetItem", it))?;
        answer.item.map(|it| versioned(key, it)).transpose()
    }

    pub(crate) async fn put<T: DeserializeOwned>(
        &self,
        key: &Key,
        value: &impl Serialize,
        version: Option<u64>,
        expires_at: Option<i64>,
        condition: Condition,
    ) -> Result<Written<T>, StoreError> {
        let item = item_of(key, value, version, expires_at)?;
        let (expression, names, values) = condition_of(condition);
        let answer = self
            .client
            .put_item()
            .table_name(self.table(key.table))
            .set_item(Some(item))
            .set_condition_expression(expression)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await;
        match answer {
            Ok(_) => Ok(Written::Done),
            Err(SdkError::ServiceError(it)) => match it.err() {
                PutItemError::ConditionalCheckFailedException(failed) => lost(key, failed.item().cloned()),
                _ => Err(failure("PutItem", SdkError::ServiceError(it))),
            },
            Err(it) => Err(failure("PutItem", it)),
        }
    }

    /// The item as the update left it, or as it is where the condition did not hold.
    pub(crate) async fn update<T: DeserializeOwned>(&self, key: &Key, update: Update) -> Result<Result<T, Option<T>>, StoreError> {
        let expressions = update.expressions();
        let answer = self
            .client
            .update_item()
            .table_name(self.table(key.table))
            .key("pk", AttributeValue::S(key.pk.clone()))
            .key("sk", AttributeValue::S(key.sk.clone()))
            .update_expression(expressions.update)
            .set_condition_expression(Some(expressions.condition).filter(|it| !it.is_empty()))
            .set_expression_attribute_names(Some(expressions.names))
            .set_expression_attribute_values(Some(expressions.values).filter(|it| !it.is_empty()))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await;
        match answer {
            Ok(it) => Ok(Ok(versioned(key, it.attributes.unwrap_or_default())?.value)),
            Err(SdkError::ServiceError(it)) => match it.err() {
                UpdateItemError::ConditionalCheckFailedException(failed) => match lost(key, failed.item().cloned())? {
                    Written::Lost(item) => Ok(Err(item)),
                    Written::Done => Ok(Err(None)),
                },
                _ => Err(failure("UpdateItem", SdkError::ServiceError(it))),
            },
            Err(it) => Err(failure("UpdateItem", it)),
        }
    }

    pub(crate) async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.client
            .delete_item()
            .table_name(self.table(key.table))
            .key("pk", AttributeValue::S(key.pk.clone()))
            .key("sk", AttributeValue::S(key.sk.clone()))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|it| failure("DeleteItem", it))?;
        Ok(())
    }

    /// Deletes an item if an attribute has this value still.
    pub(crate) async fn delete_when(&self, key: &Key, name: &str, value: &impl Serialize) -> Result<(), StoreError> {
        let answer = self
            .client
            .delete_item()
            .table_name(self.table(key.table))
            .key("pk", AttributeValue::S(key.pk.clone()))
            .key("sk", AttributeValue::S(key.sk.clone()))
            .condition_expression("#name = :value")
            .expression_attribute_names("#name", name)
            .expression_attribute_values(":value", attribute(value)?)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(SdkError::ServiceError(it)) if matches!(it.err(), DeleteItemError::ConditionalCheckFailedException(_)) => Ok(()),
            Err(it) => Err(failure("DeleteItem", it)),
        }
    }

    /// Every item of a range with its sort key: all pages are read.
    pub(crate) async fn query<T: DeserializeOwned>(
        &self,
        table: Table,
        pk: &str,
        range: Range<'_>,
    ) -> Result<Vec<(String, T)>, StoreError> {
        let mut found = Vec::new();
        let mut start = None;
        loop {
            let answer = self
                .client
                .query()
                .table_name(self.table(table))
                .key_condition_expression("pk = :pk AND sk BETWEEN :from AND :to")
                .expression_attribute_values(":pk", AttributeValue::S(pk.to_owned()))
                .expression_attribute_values(":from", AttributeValue::S(range.from.to_owned()))
                .expression_attribute_values(":to", AttributeValue::S(range.to.to_owned()))
                .scan_index_forward(!range.newest_first)
                .consistent_read(true)
                .set_limit(range.limit.map(|it| i32::try_from(it - found.len()).unwrap_or(i32::MAX)))
                .set_exclusive_start_key(start)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send()
                .await
                .map_err(|it| failure("Query", it))?;
            for item in answer.items.unwrap_or_default() {
                let sk = item.get("sk").and_then(|it| it.as_s().ok()).cloned().unwrap_or_default();
                let key = Key { table, pk: pk.to_owned(), sk: sk.clone() };
                found.push((sk, versioned(&key, item)?.value));
            }
            start = answer.last_evaluated_key;
            if start.is_none() || range.limit.is_some_and(|it| found.len() >= it) {
                return Ok(found);
            }
        }
    }

    /// So many items of a range as its limit says, after the one with this sort key, each with its own.
    pub(crate) async fn slice<T: DeserializeOwned>(
        &self,
        table: Table,
        pk: &str,
        range: Range<'_>,
        after: Option<&str>,
    ) -> Result<Slice<(String, T)>, StoreError> {
        let limit = range.limit.unwrap_or(usize::MAX);
        // Whoever made up where a page ended does not leave the range.
        let after = after.map(|it| it.clamp(range.from, range.to));
        let (from, to) = match (after, range.newest_first) {
            (Some(it), true) => (range.from, it),
            (Some(it), false) => (it, range.to),
            (None, _) => (range.from, range.to),
        };
        // The bounds belong to a range: the one that it is after comes along, and one more says whether there is more.
        let mut items = self.query(table, pk, Range { from, to, limit: Some(limit.saturating_add(2)), ..range }).await?;
        items.retain(|it: &(String, T)| Some(it.0.as_str()) != after);
        let has_more = items.len() > limit;
        items.truncate(limit);
        let ended_at = items.last().map(|it| it.0.clone()).filter(|_| has_more);
        Ok(Slice { items, ended_at })
    }

    /// Items of a table whose partition's name begins with `prefix`, among the next so many of it from a place on, and the place where to go
    /// on. It reads, and pays for, all of them: for what has no list and is wanted once.
    pub(crate) async fn scan<T: DeserializeOwned>(
        &self,
        table: Table,
        prefix: &str,
        from: Option<(String, String)>,
        limit: i32,
    ) -> Result<(Vec<T>, Option<(String, String)>), StoreError> {
        let key = |(pk, sk)| HashMap::from([("pk".to_owned(), AttributeValue::S(pk)), ("sk".to_owned(), AttributeValue::S(sk))]);
        let answer = self
            .client
            .scan()
            .table_name(self.table(table))
            .filter_expression("begins_with(pk, :prefix)")
            .expression_attribute_values(":prefix", AttributeValue::S(prefix.to_owned()))
            .limit(limit)
            .set_exclusive_start_key(from.map(key))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|it| failure("Scan", it))?;
        let text = |item: &Item, name: &str| item.get(name).and_then(|it| it.as_s().ok()).cloned().unwrap_or_default();
        let next = answer.last_evaluated_key.map(|it| (text(&it, "pk"), text(&it, "sk")));
        let items = answer.items.unwrap_or_default().into_iter().map(|it| {
            let key = Key { table, pk: text(&it, "pk"), sk: text(&it, "sk") };
            Ok(versioned(&key, it)?.value)
        });
        Ok((items.collect::<Result<_, StoreError>>()?, next))
    }

    /// All or nothing; false if a condition did not hold or another transaction was in the way.
    pub(crate) async fn transact(&self, writes: Vec<Write>) -> Result<bool, StoreError> {
        let items = writes.into_iter().map(|it| self.transaction_item(it)).collect::<Result<Vec<_>, _>>()?;
        let answer = self
            .client
            .transact_write_items()
            .set_transact_items(Some(items))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await;
        match answer {
            Ok(_) => Ok(true),
            Err(SdkError::ServiceError(it)) if was_raced(it.err()) => Ok(false),
            Err(SdkError::ServiceError(it)) if is_unwritable(it.err()) => Err(StoreError::Unwritable { source: Box::new(it.into_err()) }),
            Err(it) => Err(failure("TransactWriteItems", it)),
        }
    }

    fn transaction_item(&self, write: Write) -> Result<TransactWriteItem, StoreError> {
        let broken = |source| StoreError::Unavailable { action: "TransactWriteItems", code: None, source: Box::new(source) };
        Ok(match write {
            Write::Put { key, item, condition } => {
                let (expression, names, values) = condition_of(condition);
                let put = Put::builder()
                    .table_name(self.table(key.table))
                    .set_item(Some(item))
                    .set_condition_expression(expression)
                    .set_expression_attribute_names(names)
                    .set_expression_attribute_values(values)
                    .build()
                    .map_err(broken)?;
                TransactWriteItem::builder().put(put).build()
            }
            Write::Update { key, update } => {
                let expressions = update.expressions();
                let update = aws_sdk_dynamodb::types::Update::builder()
                    .table_name(self.table(key.table))
                    .key("pk", AttributeValue::S(key.pk))
                    .key("sk", AttributeValue::S(key.sk))
                    .update_expression(expressions.update)
                    .set_condition_expression(Some(expressions.condition).filter(|it| !it.is_empty()))
                    .set_expression_attribute_names(Some(expressions.names))
                    .set_expression_attribute_values(Some(expressions.values).filter(|it| !it.is_empty()))
                    .build()
                    .map_err(broken)?;
                TransactWriteItem::builder().update(update).build()
            }
            Write::Delete { key } => {
                let delete = Delete::builder()
                    .table_name(self.table(key.table))
                    .key("pk", AttributeValue::S(key.pk))
                    .key("sk", AttributeValue::S(key.sk))
                    .build()
                    .map_err(broken)?;
                TransactWriteItem::builder().delete(delete).build()
            }
        })
    }
}

/// Was the transaction cancelled because somebody else was first, and for no other reason?
fn was_raced(error: &TransactWriteItemsError) -> bool {
    let TransactWriteItemsError::TransactionCanceledException(it) = error else { return false };
    let mut codes = it.cancellation_reasons().iter().filter_map(|it| it.code()).filter(|it| *it != "None").peekable();
    codes.peek().is_some() && codes.all(|it| matches!(it, "ConditionalCheckFailed" | "TransactionConflict"))
}

/// Was the transaction cancelled because of what one of its writes is?
fn is_unwritable(error: &TransactWriteItemsError) -> bool {
    let TransactWriteItemsError::TransactionCanceledException(it) = error else { return false };
    it.cancellation_reasons().iter().any(|it| it.code() == Some("ValidationError"))
}

fn number(value: i64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn attribute(value: &impl Serialize) -> Result<AttributeValue, StoreError> {
    serde_dynamo::to_attribute_value(value).map_err(|source| StoreError::Unwritable { source: Box::new(source) })
}

fn item_of(key: &Key, value: &impl Serialize, version: Option<u64>, expires_at: Option<i64>) -> Result<Item, StoreError> {
    let mut item: Item = serde_dynamo::to_item(value).map_err(|source| StoreError::Unwritable { source: Box::new(source) })?;
    item.insert("pk".to_owned(), AttributeValue::S(key.pk.clone()));
    item.insert("sk".to_owned(), AttributeValue::S(key.sk.clone()));
    if let Some(version) = version {
        item.insert("version".to_owned(), AttributeValue::N(version.to_string()));
    }
    if let Some(at) = expires_at {
        item.insert("expires_at".to_owned(), AttributeValue::N(at.to_string()));
    }
    Ok(item)
}

fn versioned<T: DeserializeOwned>(key: &Key, item: Item) -> Result<Versioned<T>, StoreError> {
    let version = item.get("version").and_then(|it| it.as_n().ok()).and_then(|it| it.parse().ok()).unwrap_or(0);
    let value = serde_dynamo::from_item(item)
        // serde_dynamo's own words quote what it read, which may be a customer's.
        .map_err(|_| StoreError::Corrupt { key: format!("{}/{}", key.pk, key.sk), source: Box::new(NotA(type_name::<T>())) })?;
    Ok(Versioned { version, value })
}

fn lost<T: DeserializeOwned>(key: &Key, item: Option<Item>) -> Result<Written<T>, StoreError> {
    let item = item.filter(|it| !it.is_empty()).map(|it| versioned(key, it)).transpose()?;
    Ok(Written::Lost(item.map(|it| it.value)))
}

/// Which type an item should have been.
#[derive(Debug, thiserror::Error)]
#[error("it is no {0}")]
struct NotA(&'static str);

type ConditionParts = (Option<String>, Option<HashMap<String, String>>, Option<Item>);

fn condition_of(condition: Condition) -> ConditionParts {
    match condition {
        Condition::Always => (None, None, None),
        Condition::Absent => (Some("attribute_not_exists(pk)".to_owned()), None, None),
        Condition::Version(version) => (
            Some("#version = :version".to_owned()),
            Some(HashMap::from([("#version".to_owned(), "version".to_owned())])),
            Some(HashMap::from([(":version".to_owned(), AttributeValue::N(version.to_string()))])),
        ),
    }
}

fn failure<E>(action: &'static str, error: SdkError<E>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let code = error.as_service_error().and_then(|it| it.code()).map(str::to_owned);
    // An item of more than 400 KB, an empty key: it will be so the next time, and would hold its group till then.
    // https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html
    if code.as_deref() == Some("ValidationException") {
        return StoreError::Unwritable { source: Box::new(error) };
    }
    StoreError::Unavailable { action, code, source: Box::new(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_that_dynamodb_never_takes_is_not_tried_again() {
        use crate::redelivery::Retryable as _;
        use aws_sdk_dynamodb::config::http::HttpResponse;
        use aws_sdk_dynamodb::error::ErrorMetadata;
        use aws_sdk_dynamodb::types::CancellationReason;
        use aws_sdk_dynamodb::types::error::TransactionCanceledException;

        for (code, is_retryable) in [("ValidationException", false), ("ThrottlingException", true), ("ResourceNotFoundException", true)] {
            let error = PutItemError::generic(ErrorMetadata::builder().code(code).build());
            let answer = HttpResponse::new(400.try_into().expect("a status"), "".into());
            assert_eq!(failure("PutItem", SdkError::service_error(error, answer)).is_retryable(), is_retryable, "{code}");
        }
        let cancelled = |code: &str| {
            let reason = CancellationReason::builder().code(code).build();
            let exception = TransactionCanceledException::builder().cancellation_reasons(reason).build();
            is_unwritable(&TransactWriteItemsError::TransactionCanceledException(exception))
        };
        assert!(cancelled("ValidationError") && !cancelled("ConditionalCheckFailed"));
    }

    #[test]
    fn an_item_that_does_not_decode_is_not_quoted() {
        use domain::message::Preference;

        let key = Key { table: Table::Config, pk: "a".to_owned(), sk: "b".to_owned() };
        let item = || HashMap::from([("at".to_owned(), AttributeValue::S("the customer's words".to_owned()))]);
        let words = serde_dynamo::from_item::<_, HashMap<String, Preference>>(item()).expect_err("no preference").to_string();
        assert!(words.contains("words"), "else this test shows nothing: {words}");
        let error = versioned::<HashMap<String, Preference>>(&key, item()).expect_err("no preference");
        let cause = std::error::Error::source(&error).expect("a cause").to_string();
        assert_eq!(cause, format!("it is no {}", type_name::<HashMap<String, Preference>>()));
        assert!(!format!("{error:?}").contains("words"));
    }

    #[test]
    fn an_update_names_every_attribute_by_a_placeholder() {
        let update = Update::existing()
            .set_first("attempt_1.sent", &5)
            .and_then(|it| it.set("phase", &"accepted"))
            .and_then(|it| it.when("number", &"1"))
            .expect("serialises")
            .add("throttled", 1)
            .remove("agent");
        let it = update.expressions();
        assert_eq!(it.update, "SET #attempt_1.#sent = if_not_exists(#attempt_1.#sent, :v0), #phase = :v1 REMOVE #agent ADD #throttled :v2");
        assert_eq!(it.condition, "attribute_exists(#pk) AND #number = :v3");
        assert_eq!(it.names["#attempt_1"], "attempt_1");
        let it = Update::of_any().add("next", 3).when_between("free_at", 1, 5).when_absent_or_below("until", 7).expressions();
        assert_eq!(it.update, "ADD #next :v0");
        assert_eq!(it.condition, "#free_at BETWEEN :v1 AND :v2 AND (attribute_not_exists(#until) OR #until < :v3)");
        assert_eq!(it.values[":v2"], number(5));
    }
}
