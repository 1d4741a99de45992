//! DynamoDB: conditions, races, transactions, units, pages.

use std::collections::HashMap;

use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, ConditionCheck, ConsumedCapacity, KeySchemaElement, KeyType, KeysAndAttributes, Put,
    ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure, ScalarAttributeType, TransactWriteItem,
};
use futures::future::join_all;

use super::{Difference, Engines};

/// A table of the contract's own.
pub(super) struct Table<'a> {
    engines: &'a Engines,
    name: &'static str,
}

pub(super) fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn count(value: usize) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

impl<'a> Table<'a> {
    pub(super) async fn create(engines: &'a Engines, name: &'static str) -> Self {
        let attribute = |name: &str| {
            let attribute = AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S);
            attribute.build().expect("is complete")
        };
        let key = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build().expect("is complete");
        let create = engines.dynamo.create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
        let create = create.attribute_definitions(attribute("pk")).attribute_definitions(attribute("sk"));
        create.key_schema(key("pk", KeyType::Hash)).key_schema(key("sk", KeyType::Range)).send().await.expect("is created");
        Self { engines, name }
    }

    fn put(&self, sk: &str) -> PutItemFluentBuilder {
        self.engines.dynamo.put_item().table_name(self.name).item("pk", text("p")).item("sk", text(sk))
    }

    fn update(&self, sk: &str, expression: &str) -> UpdateItemFluentBuilder {
        let update = self.engines.dynamo.update_item().table_name(self.name).update_expression(expression);
        update.key("pk", text("p")).key("sk", text(sk))
    }

    async fn get(&self, sk: &str) -> Option<HashMap<String, AttributeValue>> {
        let get = self.engines.dynamo.get_item().table_name(self.name).consistent_read(true);
        get.key("pk", text("p")).key("sk", text(sk)).send().await.expect("is read").item
    }
}

pub(super) async fn a_refused_put_tells_what_is_there(engines: &Engines) {
    let table = Table::create(engines, "refused_put").await;
    let put = |owner: &str| {
        let put = table.put("1").item("owner", text(owner)).condition_expression("attribute_not_exists(pk)");
        put.return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld).send()
    };
    put("first").await.expect("nothing is there");
    let PutItemError::ConditionalCheckFailedException(refused) = put("second").await.expect_err("is refused").into_service_error() else {
        panic!("another error");
    };
    assert_eq!(refused.item().and_then(|it| it.get("owner")), Some(&text("first")));
    assert_eq!(table.get("1").await.expect("is there")["owner"], text("first"));
}

pub(super) async fn a_conditional_update_moves_only_what_has_not_moved(engines: &Engines) {
    let table = Table::create(engines, "conditional_update").await;
    table.put("1").item("version", count(7)).send().await.expect("is put");
    let update = || {
        let update = table.update("1", "SET version = :next").condition_expression("version = :seen");
        let update = update.expression_attribute_values(":seen", count(7)).expression_attribute_values(":next", count(8));
        update.return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld).send()
    };
    update().await.expect("has not moved");
    let UpdateItemError::ConditionalCheckFailedException(refused) = update().await.expect_err("has moved").into_service_error() else {
        panic!("another error");
    };
    assert_eq!(refused.item().and_then(|it| it.get("version")), Some(&count(8)));
    let absent = table.update("2", "SET version = :next").condition_expression("attribute_exists(pk)");
    let absent = absent.expression_attribute_values(":next", count(1)).send().await;
    assert_eq!(absent.expect_err("is not there").code(), Some("ConditionalCheckFailedException"));
    assert!(table.get("2").await.is_none());
}

pub(super) async fn of_many_racers_exactly_one_wins(engines: &Engines) {
    let table = Table::create(engines, "racers").await;
    let racers = (0..64).map(|racer| {
        let put = table.put("1").item("owner", count(racer)).condition_expression("attribute_not_exists(pk)").send();
        async move { put.await.is_ok().then_some(racer) }
    });
    let winners: Vec<usize> = join_all(racers).await.into_iter().flatten().collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(table.get("1").await.expect("is there")["owner"], count(winners[0]));
}

pub(super) async fn counters_lose_nothing(engines: &Engines) {
    let table = Table::create(engines, "counters").await;
    let adders = (0..64).map(|_| table.update("1", "ADD places :one").expression_attribute_values(":one", count(1)).send());
    assert!(join_all(adders).await.iter().all(Result::is_ok));
    assert_eq!(table.get("1").await.expect("is there")["places"], count(64));
}

pub(super) async fn a_cancelled_transaction_changes_nothing_and_says_why(engines: &Engines) {
    let table = Table::create(engines, "transactions").await;
    table.put("taken").item("owner", text("first")).send().await.expect("is put");
    let put = |sk: &str| {
        let put = Put::builder().table_name(table.name).item("pk", text("p")).item("sk", text(sk)).item("owner", text("second"));
        let put = put.condition_expression("attribute_not_exists(pk)");
        let put = put.return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        TransactWriteItem::builder().put(put.build().expect("is complete")).build()
    };
    let check = ConditionCheck::builder().table_name(table.name).key("pk", text("p")).key("sk", text("absent"));
    let check = check.condition_expression("attribute_not_exists(pk)").build().expect("is complete");
    let check = TransactWriteItem::builder().condition_check(check).build();
    let write = |items| engines.dynamo.transact_write_items().set_transact_items(Some(items)).send();

    let outcome = write(vec![put("new"), put("taken"), check.clone()]).await;
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = outcome.expect_err("is cancelled").into_service_error() else {
        panic!("another error");
    };
    let codes: Vec<_> = cancelled.cancellation_reasons().iter().map(|it| it.code().unwrap_or_default()).collect();
    assert_eq!(codes, ["None", "ConditionalCheckFailed", "None"]);
    let found = cancelled.cancellation_reasons()[1].item().and_then(|it| it.get("owner"));
    assert_eq!(found, Some(&text("first")));
    assert!(table.get("new").await.is_none());

    write(vec![put("new"), put("other"), check]).await.expect("is written");
    assert!(table.get("new").await.is_some() && table.get("other").await.is_some());
}

pub(super) async fn the_first_of_a_kind_stays(engines: &Engines) {
    let table = Table::create(engines, "first_stays").await;
    for (seen, attempts) in [("10", &["1"][..]), ("20", &["1", "2"])] {
        let update = table.update("1", "SET delivered = if_not_exists(delivered, :seen) ADD attempts :attempts");
        let attempts = AttributeValue::Ss(attempts.iter().map(|it| (*it).to_owned()).collect());
        let update = update.expression_attribute_values(":seen", text(seen)).expression_attribute_values(":attempts", attempts);
        update.send().await.expect("is merged");
    }
    let item = table.get("1").await.expect("is there");
    assert_eq!(item["delivered"], text("10"));
    let mut attempts = item["attempts"].as_ss().expect("is a set").clone();
    attempts.sort();
    assert_eq!(attempts, ["1", "2"]);
}

/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html>
pub(super) async fn units_go_by_the_size_of_items(engines: &Engines) {
    let table = Table::create(engines, "units").await;
    let units = |it: Option<ConsumedCapacity>| it.and_then(|it| it.capacity_units());
    let put = async |sk: &str, bytes: usize| {
        let put = table.put(sk).item("body", text(&"x".repeat(bytes)));
        units(put.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await.expect("is put").consumed_capacity)
    };
    // Names and values count: pk, p, sk, one letter and body are ten bytes more.
    assert_eq!(put("1", 1_014).await, Some(1.0));
    assert_eq!(put("2", 1_015).await, Some(2.0));
    assert_eq!(put("3", 3_500).await, Some(4.0));

    let update = async |sk: &str| {
        let update = table.update(sk, "SET seen = :one").expression_attribute_values(":one", count(1));
        units(update.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await.expect("is updated").consumed_capacity)
    };
    assert_eq!(update("3").await, Some(4.0), "an update is charged for the whole item");
    assert_eq!(update("4").await, Some(1.0));

    let get = async |sk: &str, is_strong: bool| {
        let get = engines.dynamo.get_item().table_name(table.name).key("pk", text("p")).key("sk", text(sk));
        let get = get.consistent_read(is_strong).return_consumed_capacity(ReturnConsumedCapacity::Total);
        units(get.send().await.expect("is read").consumed_capacity)
    };
    assert_eq!(get("3", true).await, Some(1.0));
    assert_eq!(get("3", false).await, Some(0.5));
    put("5", 4_200).await;
    let large = get("5", true).await;
    if engines.differ(Difference::ChargesEachReadAsSmall) {
        assert_eq!(large, Some(1.0));
    } else {
        assert_eq!(large, Some(2.0));
    }

    let item = |sk: &str| {
        let put = Put::builder().table_name(table.name).item("pk", text("p")).item("sk", text(sk)).build().expect("is complete");
        TransactWriteItem::builder().put(put).build()
    };
    let write = engines.dynamo.transact_write_items().transact_items(item("6")).transact_items(item("7"));
    let written = write.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await.expect("is written");
    assert_eq!(written.consumed_capacity().iter().filter_map(|it| it.capacity_units()).sum::<f64>(), 4.0);
}

/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Query.Pagination.html>
pub(super) async fn a_query_ends_its_page_at_one_megabyte(engines: &Engines) {
    let table = Table::create(engines, "pages").await;
    for sk in 1..=5 {
        table.put(&sk.to_string()).item("body", text(&"x".repeat(300_000))).send().await.expect("is put");
    }
    let query = || {
        let query = engines.dynamo.query().table_name(table.name).key_condition_expression("pk = :pk");
        query.expression_attribute_values(":pk", text("p"))
    };
    let keys = |items: &[HashMap<String, AttributeValue>]| -> Vec<String> {
        items.iter().filter_map(|it| it["sk"].as_s().ok().cloned()).collect()
    };
    let first = query().send().await.expect("is answered");
    assert!(first.count() < 5, "all fitted into one page");
    let next = query().set_exclusive_start_key(first.last_evaluated_key.clone()).send().await.expect("is answered");
    assert_eq!([keys(first.items()), keys(next.items())].concat(), ["1", "2", "3", "4", "5"]);
    assert!(next.last_evaluated_key().is_none());
    let newest = query().scan_index_forward(false).limit(2).send().await.expect("is answered");
    assert_eq!(keys(newest.items()), ["5", "4"]);
}

pub(super) async fn a_batch_get_returns_what_exists(engines: &Engines) {
    let table = Table::create(engines, "batch_get").await;
    for sk in ["1", "2"] {
        table.put(sk).send().await.expect("is put");
    }
    let get = async |sks: &[&str]| {
        let key = |sk: &&str| HashMap::from([("pk".to_owned(), text("p")), ("sk".to_owned(), text(sk))]);
        let keys = KeysAndAttributes::builder().set_keys(Some(sks.iter().map(key).collect())).consistent_read(true).build();
        engines.dynamo.batch_get_item().request_items(table.name, keys.expect("is complete")).send().await
    };
    let found = get(&["1", "2", "3"]).await.expect("is answered");
    assert_eq!(found.responses().map(|it| it[table.name].len()), Some(2));
    assert!(found.unprocessed_keys().is_none_or(HashMap::is_empty));
    assert_eq!(get(&["1", "1"]).await.expect_err("names a key twice").code(), Some("ValidationException"));
    let many: Vec<String> = (0..101).map(|it| it.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(get(&many).await.expect_err("is too much").code(), Some("ValidationException"));
}
