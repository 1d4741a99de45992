//! How the template must be wired. Each rule is a function from a template to what violates it; one test holds the
//! repository's template to all of them, and each rule has a test that a broken template is noticed.

use std::collections::{BTreeMap, BTreeSet};

use channel::aws::{BUCKET_TIMEOUT, OPERATION_TIMEOUT};
use meta::graph::{MARK_READ_TIMEOUT, SEND_TIMEOUT};
use serde_json::Value;
use world::template::{Mapping, Queue, STACK, Template};

type Rule = fn(&Template) -> Vec<String>;

const RULES: [(&str, Rule); 17] = [
    ("functions outlast a call of AWS", functions_outlast_a_call_of_aws),
    ("functions outlast a call of the bucket", functions_outlast_a_call_of_the_bucket),
    ("functions outlast their sends", functions_outlast_their_sends),
    ("visibility outlasts the function", visibility_outlasts_the_function),
    ("mappings report failures", mappings_report_failures),
    ("batches suit the kind of queue", batches_suit_the_kind_of_queue),
    ("concurrency is bounded", concurrency_is_bounded),
    ("consumed queues have dead letters", consumed_queues_have_dead_letters),
    ("dead letters raise an alarm", dead_letters_raise_an_alarm),
    ("FIFO exactly where order matters", fifo_exactly_where_order_matters),
    ("FIFO queues have high throughput", fifo_queues_have_high_throughput),
    ("no policy allows everything", no_policy_allows_everything),
    ("logs are not kept for ever", logs_are_not_kept_for_ever),
    ("tables are as the store expects", tables_are_as_the_store_expects),
    ("tables are protected", tables_are_protected),
    ("buckets are private and tidy", buckets_are_private_and_tidy),
    ("data outlive the stack", data_outlive_the_stack),
];

/// The queues in which order carries meaning, without the stack's prefix.
const FIFO: [&str; 5] = ["bridge.fifo", "inbound.fifo", "media.fifo", "replies.fifo", "turns.fifo"];

#[test]
fn the_template_keeps_every_rule() {
    let template = Template::load().expect("is understood");
    let violations: Vec<String> =
        RULES.iter().flat_map(|(name, rule)| rule(&template).into_iter().map(move |it| format!("{name}: {it}"))).collect();
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

/// The text of the template, with these defaults of its parameters.
fn template_with(defaults: &[(&str, &str)]) -> Template {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../infra/template.yaml");
    let mut text = std::fs::read_to_string(path).expect("the template is there");
    for (parameter, value) in defaults {
        let empty = format!("  {parameter}:\n    Type: String\n    Default: \"\"\n");
        assert!(text.contains(&empty), "{parameter} is not empty by default");
        text = text.replace(&empty, &format!("  {parameter}:\n    Type: String\n    Default: \"{value}\"\n"));
    }
    Template::parse(&text).expect("is understood")
}

fn routes_of_control(template: &Template) -> Vec<&Value> {
    let routes = template.resources.values().filter(|it| it.kind == "AWS::ApiGatewayV2::Route").map(|it| &it.properties);
    routes.filter(|it| it["RouteKey"].as_str().is_some_and(|it| it.contains("/v1"))).collect()
}

#[test]
fn the_api_has_a_route_only_where_callers_prove_who_they_are() {
    let (issuer, audience) = (("JwtIssuer", "https://issuer.example"), ("JwtAudience", "channel"));
    for closed in [vec![], vec![issuer], vec![audience]] {
        assert!(routes_of_control(&template_with(&closed)).is_empty(), "{closed:?}");
    }
    let open = template_with(&[issuer, audience]);
    let routes = routes_of_control(&open);
    assert_eq!(routes.len(), 1);
    for route in routes {
        assert_eq!((&route["AuthorizationType"], &route["AuthorizerId"]), (&Value::from("JWT"), &Value::from("ControlAuthorizer")));
    }
    let authorizer = &open.resources["ControlAuthorizer"].properties;
    assert_eq!(authorizer["JwtConfiguration"]["Issuer"], "https://issuer.example");
    assert_eq!(authorizer["JwtConfiguration"]["Audience"][0], "channel");
}

fn short(queue: &Queue) -> &str {
    queue.name.strip_prefix(STACK).and_then(|it| it.strip_prefix('-')).unwrap_or(&queue.name)
}

/// Each mapping with its queue.
fn mapped(template: &Template) -> impl Iterator<Item = (&String, &Mapping, &Queue)> {
    template.mappings.iter().map(|(id, mapping)| (id, mapping, template.queue(&mapping.queue)))
}

/// The ids of queues that take others' dead letters.
fn dead_letter_queues(template: &Template) -> BTreeSet<&String> {
    template.queues.values().filter_map(|it| it.dead_letters.as_ref()).collect()
}

/// Six times the function's timeout and the batching window:
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html>.
fn visibility_outlasts_the_function(template: &Template) -> Vec<String> {
    let too_short = mapped(template).filter_map(|(id, mapping, queue)| {
        let needed_s = 6 * template.functions[&mapping.function].timeout_s + mapping.window_s;
        let given_s = queue.number("VisibilityTimeout");
        (given_s < needed_s).then(|| format!("{id}: {given_s} s, and {needed_s} s are needed"))
    });
    too_short.collect()
}

/// Else a call that hangs ends the whole invocation, without an answer for the other records.
fn functions_outlast_a_call_of_aws(template: &Template) -> Vec<String> {
    let needed_s = OPERATION_TIMEOUT.as_secs();
    let short = template.functions.iter().filter(|(_, function)| function.timeout_s <= needed_s);
    short.map(|(id, function)| format!("{id}: {} s, and more than {needed_s} s are needed", function.timeout_s)).collect()
}

/// A part of a file takes longer than anything else that is asked of AWS.
fn functions_outlast_a_call_of_the_bucket(template: &Template) -> Vec<String> {
    let needed_s = BUCKET_TIMEOUT.as_secs();
    let short = template.functions.iter().filter(|(_, it)| it.environment.contains_key("BUCKET") && it.timeout_s <= needed_s);
    short.map(|(id, function)| format!("{id}: {} s, and more than {needed_s} s are needed", function.timeout_s)).collect()
}

/// A mark as read, a send, the send again with credentials read afresh, and ten seconds for the store and the queues: what is ended in
/// the middle of a send has an unknown outcome. Who sends has a queue and is told where the Graph API is.
fn functions_outlast_their_sends(template: &Template) -> Vec<String> {
    let needed_s = (MARK_READ_TIMEOUT + 2 * SEND_TIMEOUT).as_secs() + 10;
    let has_queue = |id: &String| template.mappings.values().any(|it| it.function == *id);
    let senders = template.functions.iter().filter(|(id, it)| has_queue(id) && it.environment.contains_key("GRAPH_URL"));
    let short = senders.filter(|(_, function)| function.timeout_s < needed_s);
    short.map(|(id, function)| format!("{id}: {} s, and {needed_s} s are needed", function.timeout_s)).collect()
}

/// Else one failure repeats the whole batch, or loses it.
fn mappings_report_failures(template: &Template) -> Vec<String> {
    template.mappings.iter().filter(|(_, mapping)| !mapping.reports_failures).map(|(id, _)| id.clone()).collect()
}

/// FIFO: at most 10 records and no window; standard: more than 10 only with a window of a second or more:
/// <https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html>.
fn batches_suit_the_kind_of_queue(template: &Template) -> Vec<String> {
    let wrong = mapped(template).filter(|(_, mapping, queue)| match queue.is_fifo() {
        true => mapping.batch_size > 10 || mapping.window_s > 0,
        false => mapping.batch_size > 10_000 || (mapping.batch_size > 10 && mapping.window_s == 0),
    });
    wrong.map(|(id, mapping, _)| format!("{id}: {} records, window of {} s", mapping.batch_size, mapping.window_s)).collect()
}

/// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html#events-sqs-max-concurrency>
fn concurrency_is_bounded(template: &Template) -> Vec<String> {
    let is_bounded = |mapping: &Mapping| mapping.max_concurrency.is_some_and(|it| (2..=1_000).contains(&it));
    let unbounded = template.mappings.iter().filter(|(_, mapping)| !is_bounded(mapping));
    unbounded.map(|(id, mapping)| format!("{id}: {:?}", mapping.max_concurrency)).collect()
}

/// Of the same kind, for each queue its own, and kept longer than the source's messages, whose age they inherit:
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html>.
fn consumed_queues_have_dead_letters(template: &Template) -> Vec<String> {
    let mut taken = BTreeMap::new();
    let mut violations = Vec::new();
    for (_, mapping, queue) in mapped(template) {
        let Some(id) = &queue.dead_letters else {
            violations.push(format!("{} has none", mapping.queue));
            continue;
        };
        let dead = template.queue(id);
        if dead.is_fifo() != queue.is_fifo() {
            violations.push(format!("{}'s are of the other kind", mapping.queue));
        }
        if dead.number("MessageRetentionPeriod") <= queue.number("MessageRetentionPeriod") {
            violations.push(format!("{}'s are not kept longer", mapping.queue));
        }
        if let Some(other) = taken.insert(id, &mapping.queue) {
            violations.push(format!("{} and {other} share theirs", mapping.queue));
        }
    }
    violations
}

/// At the first message. What SQS itself moves is not counted as sent, so the depth is watched:
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html>.
fn dead_letters_raise_an_alarm(template: &Template) -> Vec<String> {
    let alarms = template.resources.values().filter(|it| it.kind == "AWS::CloudWatch::Alarm").map(|it| &it.properties);
    let watches = |alarm: &Value, queue: &Queue| {
        alarm["MetricName"] == "ApproximateNumberOfMessagesVisible"
            && alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
            && alarm["Threshold"] == 1
            && alarm["Dimensions"].as_array().is_some_and(|it| it.iter().any(|it| it["Value"] == queue.name.as_str()))
    };
    let dead_letters = dead_letter_queues(template).into_iter();
    dead_letters.filter(|id| !alarms.clone().any(|alarm| watches(alarm, template.queue(id)))).cloned().collect()
}

fn fifo_exactly_where_order_matters(template: &Template) -> Vec<String> {
    let dead_letters = dead_letter_queues(template);
    let own = || template.queues.iter().filter(|(id, _)| !dead_letters.contains(id)).map(|(_, queue)| queue);
    let needless = own().filter(|it| it.is_fifo() && !FIFO.contains(&short(it))).map(|it| format!("{} needs no order", it.name));
    let missing = FIFO.iter().filter(|name| !own().any(|it| it.is_fifo() && short(it) == **name)).map(|it| format!("{it} is missing"));
    let misnamed = template.queues.values().filter(|it| it.is_fifo() != it.name.ends_with(".fifo"));
    needless.chain(missing).chain(misnamed.map(|it| format!("{} is not named by its kind", it.name))).collect()
}

/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/high-throughput-fifo.html>
fn fifo_queues_have_high_throughput(template: &Template) -> Vec<String> {
    let is = |queue: &Queue, attribute: &str, value: &str| queue.attributes.get(attribute).is_some_and(|it| it == value);
    let is_high = |queue: &Queue| is(queue, "DeduplicationScope", "messageGroup") && is(queue, "FifoThroughputLimit", "perMessageGroupId");
    template.queues.iter().filter(|(_, queue)| queue.is_fifo() && !is_high(queue)).map(|(id, _)| id.clone()).collect()
}

/// A key's own policy is left out: it names the account as its owner with `kms:*`, or nobody could ever change the key.
/// <https://docs.aws.amazon.com/kms/latest/developerguide/key-policy-default.html>
fn no_policy_allows_everything(template: &Template) -> Vec<String> {
    let mut violations = Vec::new();
    for (id, resource) in template.resources.iter().filter(|(_, it)| it.kind != "AWS::KMS::Key") {
        let mut actions = Vec::new();
        collect_actions(&resource.properties, &mut actions);
        violations.extend(actions.into_iter().filter(|it| it.contains('*')).map(|it| format!("{id} allows {it}")));
    }
    violations
}

/// The actions of all policy statements, wherever they are.
fn collect_actions(value: &Value, actions: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(action)) = members.get("Action") {
                actions.push(action.clone());
            }
            if let Some(Value::Array(several)) = members.get("Action") {
                actions.extend(several.iter().filter_map(Value::as_str).map(str::to_owned));
            }
            members.values().for_each(|it| collect_actions(it, actions));
        }
        Value::Array(values) => values.iter().for_each(|it| collect_actions(it, actions)),
        _ => {}
    }
}

/// A log group that Lambda creates itself is kept for ever:
/// <https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs.html>.
fn logs_are_not_kept_for_ever(template: &Template) -> Vec<String> {
    let groups = template.resources.iter().filter(|(_, it)| it.kind == "AWS::Logs::LogGroup");
    let kept: BTreeSet<&str> = groups
        .clone()
        .filter(|(_, it)| it.properties["RetentionInDays"].as_u64().is_some())
        .filter_map(|(_, it)| it.properties["LogGroupName"].as_str())
        .collect();
    let endless = groups.filter(|(_, it)| it.properties["RetentionInDays"].is_null()).map(|(id, _)| format!("{id} has no retention"));
    let homeless = template.functions.iter().filter(|(_, function)| {
        let default = format!("/aws/lambda/{}", function.name);
        !kept.contains(function.properties["LoggingConfig"]["LogGroup"].as_str().unwrap_or(&default))
    });
    endless.chain(homeless.map(|(id, _)| format!("{id} has no log group of ours"))).collect()
}

/// On demand, `pk` and `sk`, expiry by `expires_at`, no secondary index.
fn tables_are_as_the_store_expects(template: &Template) -> Vec<String> {
    let mut violations = Vec::new();
    for (id, table) in &template.tables {
        let properties = &table.properties;
        let keys = properties["KeySchema"].as_array().into_iter().flatten();
        let keys: Vec<_> = keys.map(|it| (it["AttributeName"].as_str(), it["KeyType"].as_str())).collect();
        let checks = [
            (properties["BillingMode"] == "PAY_PER_REQUEST", "is not on demand"),
            (keys == [(Some("pk"), Some("HASH")), (Some("sk"), Some("RANGE"))], "has other keys"),
            (table.expires_by.as_deref() == Some("expires_at"), "does not expire"),
            (properties["GlobalSecondaryIndexes"].is_null() && properties["LocalSecondaryIndexes"].is_null(), "has an index"),
        ];
        violations.extend(checks.into_iter().filter(|(holds, _)| !holds).map(|(_, what)| format!("{id} {what}")));
    }
    violations
}

fn tables_are_protected(template: &Template) -> Vec<String> {
    let mut violations = Vec::new();
    for (id, table) in &template.tables {
        let checks = [
            (table.properties["SSESpecification"]["SSEEnabled"] == true, "is not encrypted with a key of the account"),
            (table.properties["DeletionProtectionEnabled"] == true, "can be deleted"),
        ];
        violations.extend(checks.into_iter().filter(|(holds, _)| !holds).map(|(_, what)| format!("{id} {what}")));
    }
    violations
}

/// Nobody reads a file but by a link, and of a function that died in the middle of one nothing is left:
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpu-abort-incomplete-mpu-lifecycle-config.html>.
fn buckets_are_private_and_tidy(template: &Template) -> Vec<String> {
    let mut violations = Vec::new();
    for (id, bucket) in template.resources.iter().filter(|(_, it)| it.kind == "AWS::S3::Bucket") {
        let properties = &bucket.properties;
        let blocks = &properties["PublicAccessBlockConfiguration"];
        let closed = ["BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"];
        let encryption = &properties["BucketEncryption"]["ServerSideEncryptionConfiguration"][0]["ServerSideEncryptionByDefault"];
        let mut rules = properties["LifecycleConfiguration"]["Rules"].as_array().into_iter().flatten();
        let is_of_all = |it: &Value| it["Status"] == "Enabled" && it["Prefix"].is_null() && it["TagFilters"].is_null();
        let gives_up = |it: &Value| is_of_all(it) && it["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == 1;
        let checks = [
            (closed.iter().all(|it| blocks[*it] == true), "may be opened to the public"),
            (properties["OwnershipControls"]["Rules"][0]["ObjectOwnership"] == "BucketOwnerEnforced", "may be opened by lists of access"),
            (encryption["SSEAlgorithm"].is_string(), "is not said to be encrypted"),
            (rules.any(gives_up), "keeps what was never finished"),
            (properties["BucketName"].is_null(), "has a name that another account may have taken"),
        ];
        violations.extend(checks.into_iter().filter(|(holds, _)| !holds).map(|(_, what)| format!("{id} {what}")));
    }
    violations
}

/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-attribute-deletionpolicy.html>
fn data_outlive_the_stack(template: &Template) -> Vec<String> {
    let holds_data = |kind: &str| matches!(kind, "AWS::DynamoDB::Table" | "AWS::S3::Bucket" | "AWS::KMS::Key");
    template.resources.iter().filter(|(_, it)| holds_data(&it.kind) && !it.is_kept).map(|(id, _)| id.clone()).collect()
}

/// Keeps every rule; each test of a rule breaks one thing.
const SAMPLE: &str = r#"
Resources:
  Table:
    Type: AWS::DynamoDB::Table
    DeletionPolicy: Retain
    UpdateReplacePolicy: Retain
    Properties:
      BillingMode: PAY_PER_REQUEST
      KeySchema: [{ AttributeName: pk, KeyType: HASH }, { AttributeName: sk, KeyType: RANGE }]
      TimeToLiveSpecification: { AttributeName: expires_at, Enabled: true }
      SSESpecification: { SSEEnabled: true }
      DeletionProtectionEnabled: true
  Files:
    Type: AWS::S3::Bucket
    DeletionPolicy: Retain
    UpdateReplacePolicy: Retain
    Properties:
      PublicAccessBlockConfiguration: { BlockPublicAcls: true, BlockPublicPolicy: true, IgnorePublicAcls: true, RestrictPublicBuckets: true }
      OwnershipControls: { Rules: [{ ObjectOwnership: BucketOwnerEnforced }] }
      BucketEncryption: { ServerSideEncryptionConfiguration: [{ ServerSideEncryptionByDefault: { SSEAlgorithm: AES256 } }] }
      LifecycleConfiguration: { Rules: [{ Status: Enabled, AbortIncompleteMultipartUpload: { DaysAfterInitiation: 1 } }] }
  Inbound:
    Type: AWS::SQS::Queue
    Properties:
      QueueName: inbound.fifo
      FifoQueue: true
      DeduplicationScope: messageGroup
      FifoThroughputLimit: perMessageGroupId
      VisibilityTimeout: 60
      RedrivePolicy: { deadLetterTargetArn: !GetAtt InboundDead.Arn, maxReceiveCount: 100 }
  InboundDead:
    Type: AWS::SQS::Queue
    Properties:
      QueueName: dead.fifo
      FifoQueue: true
      DeduplicationScope: messageGroup
      FifoThroughputLimit: perMessageGroupId
      MessageRetentionPeriod: 1209600
  Replies:
    Type: AWS::SQS::Queue
    Properties: { QueueName: replies.fifo, FifoQueue: true, DeduplicationScope: messageGroup, FifoThroughputLimit: perMessageGroupId }
  Media:
    Type: AWS::SQS::Queue
    Properties: { QueueName: media.fifo, FifoQueue: true, DeduplicationScope: messageGroup, FifoThroughputLimit: perMessageGroupId }
  Bridge:
    Type: AWS::SQS::Queue
    Properties: { QueueName: bridge.fifo, FifoQueue: true, DeduplicationScope: messageGroup, FifoThroughputLimit: perMessageGroupId }
  Turns:
    Type: AWS::SQS::Queue
    Properties: { QueueName: turns.fifo, FifoQueue: true, DeduplicationScope: messageGroup, FifoThroughputLimit: perMessageGroupId }
  Statuses:
    Type: AWS::SQS::Queue
    Properties:
      QueueName: statuses
      VisibilityTimeout: 65
      RedrivePolicy: { deadLetterTargetArn: !GetAtt StatusesDead.Arn, maxReceiveCount: 10 }
  StatusesDead: { Type: "AWS::SQS::Queue", Properties: { QueueName: dead, MessageRetentionPeriod: 1209600 } }
  InboundAlarm:
    Type: AWS::CloudWatch::Alarm
    Properties:
      MetricName: ApproximateNumberOfMessagesVisible
      Dimensions: [{ Name: QueueName, Value: !GetAtt InboundDead.QueueName }]
      Threshold: 1
      ComparisonOperator: GreaterThanOrEqualToThreshold
  StatusesAlarm:
    Type: AWS::CloudWatch::Alarm
    Properties:
      MetricName: ApproximateNumberOfMessagesVisible
      Dimensions: [{ Name: QueueName, Value: !GetAtt StatusesDead.QueueName }]
      Threshold: 1
      ComparisonOperator: GreaterThanOrEqualToThreshold
  Logs: { Type: "AWS::Logs::LogGroup", Properties: { LogGroupName: /aws/lambda/work, RetentionInDays: 30 } }
  Work:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: work
      Timeout: 10
      Policies: [{ Statement: [{ Effect: Allow, Action: [sqs:SendMessage], Resource: !GetAtt Turns.Arn }] }]
  InboundMapping:
    Type: AWS::Lambda::EventSourceMapping
    Properties:
      FunctionName: !Ref Work
      EventSourceArn: !GetAtt Inbound.Arn
      BatchSize: 10
      FunctionResponseTypes: [ReportBatchItemFailures]
      ScalingConfig: { MaximumConcurrency: 200 }
  StatusesMapping:
    Type: AWS::Lambda::EventSourceMapping
    Properties:
      FunctionName: !Ref Work
      EventSourceArn: !GetAtt Statuses.Arn
      BatchSize: 100
      MaximumBatchingWindowInSeconds: 5
      FunctionResponseTypes: [ReportBatchItemFailures]
      ScalingConfig: { MaximumConcurrency: 50 }
"#;

#[test]
fn the_sample_keeps_every_rule() {
    let template = Template::parse(SAMPLE).expect("is understood");
    for (name, rule) in RULES {
        assert_eq!(rule(&template), Vec::<String>::new(), "{name}");
    }
}

/// Each break of the sample is noticed by the rule that is about it.
#[track_caller]
fn noticed(rule: Rule, breaks: &[(&str, &str, &str)]) {
    for (right, wrong, violation) in breaks {
        assert!(SAMPLE.contains(right), "the sample has no {right:?}");
        let template = Template::parse(&SAMPLE.replacen(right, wrong, 1)).expect("is understood");
        assert_eq!(rule(&template), [*violation], "{right} -> {wrong}");
    }
}

#[test]
fn a_short_visibility_is_noticed() {
    noticed(
        visibility_outlasts_the_function,
        &[
            ("VisibilityTimeout: 60", "VisibilityTimeout: 59", "InboundMapping: 59 s, and 60 s are needed"),
            ("VisibilityTimeout: 65", "VisibilityTimeout: 64", "StatusesMapping: 64 s, and 65 s are needed"),
            ("      VisibilityTimeout: 60\n", "", "InboundMapping: 30 s, and 60 s are needed"),
        ],
    );
}

#[test]
fn a_function_that_ends_before_its_calls_is_noticed() {
    let breaks = [("Timeout: 10\n", "Timeout: 7\n", "Work: 7 s, and more than 7 s are needed")];
    noticed(functions_outlast_a_call_of_aws, &breaks);
    let files = |timeout_s: u64| format!("Timeout: {timeout_s}\n      Environment: {{ Variables: {{ BUCKET: files }} }}\n");
    noticed(functions_outlast_a_call_of_the_bucket, &[("Timeout: 10\n", &files(24), "Work: 24 s, and more than 24 s are needed")]);
    let enough = SAMPLE.replacen("Timeout: 10\n", &files(25), 1);
    assert_eq!(functions_outlast_a_call_of_the_bucket(&Template::parse(&enough).expect("is understood")), Vec::<String>::new());
    let sends = "Timeout: 31\n      Environment: { Variables: { GRAPH_URL: somewhere } }\n";
    noticed(functions_outlast_their_sends, &[("Timeout: 10\n", sends, "Work: 31 s, and 32 s are needed")]);
    let enough = SAMPLE.replacen("Timeout: 10\n", &sends.replace("31", "32"), 1);
    assert_eq!(functions_outlast_their_sends(&Template::parse(&enough).expect("is understood")), Vec::<String>::new());
}

#[test]
fn unreported_failures_are_noticed() {
    noticed(mappings_report_failures, &[("      FunctionResponseTypes: [ReportBatchItemFailures]\n", "", "InboundMapping")]);
}

#[test]
fn unsuitable_batches_are_noticed() {
    noticed(
        batches_suit_the_kind_of_queue,
        &[
            ("BatchSize: 10\n", "BatchSize: 11\n", "InboundMapping: 11 records, window of 0 s"),
            ("BatchSize: 10\n", "BatchSize: 10\n      MaximumBatchingWindowInSeconds: 1\n", "InboundMapping: 10 records, window of 1 s"),
            ("      MaximumBatchingWindowInSeconds: 5\n", "", "StatusesMapping: 100 records, window of 0 s"),
            ("BatchSize: 100\n", "BatchSize: 10001\n", "StatusesMapping: 10001 records, window of 5 s"),
        ],
    );
}

#[test]
fn unbounded_concurrency_is_noticed() {
    noticed(
        concurrency_is_bounded,
        &[
            ("MaximumConcurrency: 200", "MaximumConcurrency: 1", "InboundMapping: Some(1)"),
            ("MaximumConcurrency: 50", "MaximumConcurrency: 1001", "StatusesMapping: Some(1001)"),
            ("      ScalingConfig: { MaximumConcurrency: 50 }\n", "", "StatusesMapping: None"),
        ],
    );
}

#[test]
fn wrong_dead_letters_are_noticed() {
    noticed(
        consumed_queues_have_dead_letters,
        &[
            ("      RedrivePolicy: { deadLetterTargetArn: !GetAtt StatusesDead.Arn, maxReceiveCount: 10 }\n", "", "Statuses has none"),
            ("MessageRetentionPeriod: 1209600\n", "MessageRetentionPeriod: 345600\n", "Inbound's are not kept longer"),
            ("      QueueName: dead.fifo\n      FifoQueue: true\n", "      QueueName: other\n", "Inbound's are of the other kind"),
        ],
    );
    let shared = SAMPLE.replace("!GetAtt StatusesDead.Arn", "!GetAtt InboundDead.Arn");
    let violations = consumed_queues_have_dead_letters(&Template::parse(&shared).expect("is understood"));
    assert_eq!(violations, ["Statuses's are of the other kind", "Statuses and Inbound share theirs"]);
}

#[test]
fn a_missing_alarm_is_noticed() {
    noticed(
        dead_letters_raise_an_alarm,
        &[
            ("!GetAtt InboundDead.QueueName", "!GetAtt Inbound.QueueName", "InboundDead"),
            ("Threshold: 1\n", "Threshold: 2\n", "InboundDead"),
            ("MetricName: ApproximateNumberOfMessagesVisible", "MetricName: NumberOfMessagesSent", "InboundDead"),
            ("ComparisonOperator: GreaterThanOrEqualToThreshold", "ComparisonOperator: GreaterThanThreshold", "InboundDead"),
        ],
    );
}

#[test]
fn a_wrong_kind_of_queue_is_noticed() {
    noticed(
        fifo_exactly_where_order_matters,
        &[
            ("{ QueueName: replies.fifo, FifoQueue: true,", "{ QueueName: replies,", "replies.fifo is missing"),
            ("QueueName: statuses\n", "QueueName: statuses.fifo\n      FifoQueue: true\n", "statuses.fifo needs no order"),
            ("QueueName: dead,", "QueueName: dead, FifoQueue: true,", "dead is not named by its kind"),
        ],
    );
}

#[test]
fn low_throughput_is_noticed() {
    noticed(
        fifo_queues_have_high_throughput,
        &[
            ("      DeduplicationScope: messageGroup\n", "", "Inbound"),
            ("      FifoThroughputLimit: perMessageGroupId\n", "      FifoThroughputLimit: perQueue\n", "Inbound"),
        ],
    );
}

#[test]
fn a_policy_that_allows_everything_is_noticed() {
    noticed(
        no_policy_allows_everything,
        &[
            ("Action: [sqs:SendMessage]", "Action: [sqs:SendMessage, \"sqs:*\"]", "Work allows sqs:*"),
            ("Action: [sqs:SendMessage]", "Action: \"*\"", "Work allows *"),
        ],
    );
}

#[test]
fn endless_logs_are_noticed() {
    noticed(logs_are_not_kept_for_ever, &[("FunctionName: work\n", "FunctionName: other\n", "Work has no log group of ours")]);
    let endless = SAMPLE.replace(", RetentionInDays: 30", "");
    let violations = logs_are_not_kept_for_ever(&Template::parse(&endless).expect("is understood"));
    assert_eq!(violations, ["Logs has no retention", "Work has no log group of ours"]);
}

#[test]
fn other_tables_are_noticed() {
    noticed(
        tables_are_as_the_store_expects,
        &[
            ("PAY_PER_REQUEST", "PROVISIONED", "Table is not on demand"),
            ("AttributeName: sk", "AttributeName: id", "Table has other keys"),
            ("expires_at", "ttl", "Table does not expire"),
            ("expires_at, Enabled: true", "expires_at, Enabled: false", "Table does not expire"),
            (
                "      SSESpecification",
                "      GlobalSecondaryIndexes: [{ IndexName: by_phone }]\n      SSESpecification",
                "Table has an index",
            ),
        ],
    );
}

#[test]
fn unprotected_tables_are_noticed() {
    noticed(
        tables_are_protected,
        &[
            ("SSEEnabled: true", "SSEEnabled: false", "Table is not encrypted with a key of the account"),
            ("      DeletionProtectionEnabled: true\n", "", "Table can be deleted"),
        ],
    );
}

#[test]
fn an_open_or_untidy_bucket_is_noticed() {
    noticed(
        buckets_are_private_and_tidy,
        &[
            ("BlockPublicAcls: true", "BlockPublicAcls: false", "Files may be opened to the public"),
            (", RestrictPublicBuckets: true", "", "Files may be opened to the public"),
            ("BucketOwnerEnforced", "ObjectWriter", "Files may be opened by lists of access"),
            ("SSEAlgorithm: AES256", "", "Files is not said to be encrypted"),
            ("Status: Enabled", "Status: Disabled", "Files keeps what was never finished"),
            ("Status: Enabled", "Status: Enabled, Prefix: demo", "Files keeps what was never finished"),
            ("DaysAfterInitiation: 1", "DaysAfterInitiation: 30", "Files keeps what was never finished"),
            (
                "      OwnershipControls",
                "      BucketName: files\n      OwnershipControls",
                "Files has a name that another account may have taken",
            ),
        ],
    );
}

#[test]
fn data_that_go_with_the_stack_are_noticed() {
    let table = "Table:\n    Type: AWS::DynamoDB::Table\n    DeletionPolicy: Retain\n";
    let files = "Files:\n    Type: AWS::S3::Bucket\n    DeletionPolicy: Retain\n    UpdateReplacePolicy: Retain\n";
    noticed(
        data_outlive_the_stack,
        &[(table, &table.replace("Retain", "Delete"), "Table"), (files, &files.replace("    UpdateReplacePolicy: Retain\n", ""), "Files")],
    );
}
