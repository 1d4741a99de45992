//! What the engine has beyond what it shares with AWS (see the contract suite), and semantics that only a turned clock shows.

use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::ProvideErrorMetadata;
use aws_sdk_sqs::types::{MessageSystemAttributeName, QueueAttributeName, SendMessageBatchRequestEntry};
use futures::FutureExt;

use super::*;
use crate::wire::Rule;

const STANDARD: &str = "work";
const FIFO: &str = "work.fifo";

struct Test {
    clock: Clock,
    queues: Queues,
    client: Client,
}

fn attributes(given: &[(&str, &str)]) -> BTreeMap<String, String> {
    given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn redrive_to(queue: &str, max_receives: u32) -> String {
    json!({ "deadLetterTargetArn": template::queue_arn(queue), "maxReceiveCount": max_receives }).to_string()
}

/// A standard and a FIFO queue, each with dead letters after two receives.
fn test() -> Test {
    let clock = Clock::turned();
    let queues = Queues::new(&clock);
    let fifo = [("FifoQueue", "true"), ("DeduplicationScope", "messageGroup"), ("FifoThroughputLimit", "perMessageGroupId")];
    queues.create("dead", &attributes(&[("MessageRetentionPeriod", "1209600")])).expect("is created");
    queues.create("dead.fifo", &attributes(&fifo)).expect("is created");
    queues.create(STANDARD, &attributes(&[("RedrivePolicy", &redrive_to("dead", 2))])).expect("is created");
    let policy = redrive_to("dead.fifo", 2);
    queues.create(FIFO, &attributes(&[&fifo[..], &[("RedrivePolicy", &policy)]].concat())).expect("is created");
    let client = queues.client("test");
    Test { clock, queues, client }
}

impl Test {
    async fn receive(&self, queue: &str, most: i32) -> Vec<aws_sdk_sqs::types::Message> {
        let request = self.client.receive_message().queue_url(template::queue_url(queue)).max_number_of_messages(most);
        let request = request.message_system_attribute_names(MessageSystemAttributeName::All);
        request.send().await.expect("is received").messages.unwrap_or_default()
    }

    async fn bodies(&self, queue: &str, most: i32) -> Vec<String> {
        self.receive(queue, most).await.into_iter().filter_map(|it| it.body).collect()
    }

    fn seed(&self, queue: &str, body: &str, group: &str) {
        let is_fifo = queue.ends_with(".fifo");
        self.queues.seed(queue, body, Some(group), is_fifo.then_some(body)).expect("is seeded");
    }
}

#[tokio::test]
async fn standard_queues_deliver_twice_when_told_and_both_must_be_deleted() {
    let test = test();
    test.seed(STANDARD, "a", "g");
    test.queues.duplicate(STANDARD, 1);
    let first = test.receive(STANDARD, 10).await;
    let second = test.receive(STANDARD, 10).await;
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_eq!(first[0].message_id, second[0].message_id);
    for message in [&first[0], &second[0]] {
        assert_eq!(test.queues.messages(STANDARD).len(), if message == &first[0] { 2 } else { 1 });
        let delete = test.client.delete_message().queue_url(template::queue_url(STANDARD));
        delete.set_receipt_handle(message.receipt_handle.clone()).send().await.expect("is deleted");
    }
    assert!(test.queues.depths().is_empty());
}

#[tokio::test]
async fn faults_are_answered_as_sqs_words_them() {
    let test = test();
    let list = || test.client.list_queues().send();
    for (fault, status, code) in [
        (Fault::Throttled, 400, "RequestThrottled"),
        (Fault::AccessDenied, 403, "AccessDenied"),
        (Fault::InternalError, 500, "InternalFailure"),
    ] {
        test.queues.faults().add(Rule::every(fault).times(1));
        let error = list().await.expect_err("is refused");
        assert_eq!(error.raw_response().map(|it| it.status().as_u16()), Some(status));
        assert_eq!(error.code(), Some(code));
    }
    assert_eq!(list().await.expect("is listed").queue_urls().len(), 4);
    assert_eq!(test.queues.faults().calls("ListQueues"), 4);
}

#[tokio::test]
async fn chosen_entries_of_a_batch_fail_and_are_not_kept() {
    let test = test();
    let entry = |id: &str| SendMessageBatchRequestEntry::builder().id(id).message_body(id).build().expect("is complete");
    test.queues.faults().add(Rule::every(Fault::FailedEntries(vec![1])).of("SendMessageBatch").times(1));
    let send = test.client.send_message_batch().queue_url(template::queue_url(STANDARD));
    let answer = send.entries(entry("a")).entries(entry("b")).entries(entry("c")).send().await.expect("is answered");
    let failed: Vec<_> = answer.failed().iter().map(|it| (it.id(), it.sender_fault())).collect();
    assert_eq!(failed, [("b", false)]);
    assert_eq!(test.queues.bodies(STANDARD), ["a", "c"]);
}

#[tokio::test]
async fn a_lost_answer_leaves_the_message_in_the_queue_over_http_too() {
    let test = test();
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = test.queues.sdk_config("test").endpoint_url(test.queues.listen().await.expect("listens")).http_client(http);
    let client = Client::from_conf(config.build());
    test.queues.faults().add(Rule::every(Fault::CutAfter).of("SendMessage").times(1));
    let send = || client.send_message().queue_url(template::queue_url(STANDARD)).message_body("a").send();
    let lost = send().await.expect_err("has no answer");
    assert!(lost.as_service_error().is_none(), "{lost:?}");
    assert_eq!(test.queues.bodies(STANDARD), ["a"]);
    send().await.expect("is sent");
    assert_eq!(test.queues.bodies(STANDARD), ["a", "a"]);
    assert_eq!(test.queues.faults().calls_by("http")["SendMessage"], 2);
}

#[tokio::test]
async fn a_long_poll_ends_with_a_message_or_by_the_clock() {
    let test = test();
    let poll = || test.client.receive_message().queue_url(template::queue_url(STANDARD)).wait_time_seconds(20).send();
    let mut waiting = Box::pin(poll());
    assert!((&mut waiting).now_or_never().is_none());
    test.seed(STANDARD, "a", "g");
    assert_eq!(waiting.await.expect("is answered").messages().len(), 1);

    let mut waiting = Box::pin(poll());
    assert!((&mut waiting).now_or_never().is_none());
    test.clock.advance(Duration::from_secs(20));
    assert!(waiting.await.expect("is answered").messages().is_empty());

    let mut waiting = Box::pin(poll());
    assert!((&mut waiting).now_or_never().is_none());
    test.clock.advance(Duration::from_secs(10));
    assert_eq!(waiting.await.expect("its visibility has passed").messages().len(), 1);
}

#[tokio::test]
async fn noisy_groups_of_a_standard_queue_wait_for_quiet_ones() {
    let test = test();
    (0..40).for_each(|_| test.seed(STANDARD, "noisy", "n"));
    test.seed(STANDARD, "quiet", "q");
    for _ in 0..3 {
        assert_eq!(test.bodies(STANDARD, 10).await, ["noisy"; 10]);
    }
    let next = test.bodies(STANDARD, 10).await;
    assert_eq!(next[0], "quiet");
    assert_eq!(next[1..], ["noisy"; 9]);
}

#[tokio::test]
async fn messages_end_with_their_retention_and_standard_dead_letters_keep_their_age() {
    let test = test();
    test.seed(STANDARD, "a", "g");
    test.seed(FIFO, "b", "g");
    for _ in 0..3 {
        test.receive(STANDARD, 1).await;
        test.receive(FIFO, 1).await;
        test.clock.advance(Duration::from_secs(24 * 60 * 60));
    }
    let bodies = |queue| test.queues.dead_letters(queue).into_iter().map(|it| it.body).collect::<Vec<_>>();
    assert_eq!((bodies(STANDARD), bodies(FIFO)), (vec!["a".to_owned()], vec!["b".to_owned()]));
    // The FIFO dead letters have the usual four days from the third receive on, the others fourteen from the sending.
    test.clock.advance(Duration::from_secs(2 * 24 * 60 * 60));
    assert_eq!(bodies(FIFO), ["b"]);
    test.clock.advance(Duration::from_secs(24 * 60 * 60));
    assert!(bodies(FIFO).is_empty());
    assert_eq!(bodies(STANDARD), ["a"]);
    test.clock.advance(Duration::from_secs(8 * 24 * 60 * 60));
    assert!(bodies(STANDARD).is_empty());
}

#[tokio::test]
async fn a_move_task_puts_dead_letters_back_behind_newer_messages() {
    let test = test();
    test.seed(FIFO, "old", "g");
    for _ in 0..3 {
        test.receive(FIFO, 1).await;
        test.clock.advance(Duration::from_secs(31));
    }
    test.seed(FIFO, "new", "g");
    let start = |queue: &str| test.client.start_message_move_task().source_arn(template::queue_arn(queue)).send();
    start("dead.fifo").await.expect("is started");
    assert_eq!(test.queues.bodies(FIFO), ["new", "old"]);
    let tasks = test.client.list_message_move_tasks().source_arn(template::queue_arn("dead.fifo")).send().await.expect("are listed");
    let task = &tasks.results()[0];
    assert_eq!((task.status(), task.approximate_number_of_messages_moved()), (Some("COMPLETED"), 1));
    assert!(start(STANDARD).await.is_err(), "it is no dead-letter queue");
    let missing = start("missing").await.expect_err("there is no such queue");
    assert!(missing.into_service_error().is_resource_not_found_exception());
}

#[tokio::test]
async fn no_message_stays_invisible_for_more_than_twelve_hours() {
    let test = test();
    test.seed(STANDARD, "a", "g");
    let message = test.receive(STANDARD, 1).await.remove(0);
    let change = |seconds| {
        let change = test.client.change_message_visibility().queue_url(template::queue_url(STANDARD));
        change.set_receipt_handle(message.receipt_handle.clone()).visibility_timeout(seconds).send()
    };
    change(43_200).await.expect("is allowed");
    test.clock.advance(Duration::from_secs(60));
    assert_eq!(change(43_200).await.expect_err("is too long").code(), Some("InvalidParameterValue"));
    change(43_140).await.expect("is allowed");
    test.clock.advance(Duration::from_secs(43_140));
    let late = change(10).await.expect_err("is not in flight any more").into_service_error();
    assert!(late.is_message_not_inflight());
}

#[tokio::test]
async fn attributes_are_checked_and_counted() {
    let test = test();
    let wrong = [
        ("VisibilityTimeout", "43201"),
        ("MessageRetentionPeriod", "59"),
        ("DelaySeconds", "901"),
        ("MaximumMessageSize", "1048577"),
        ("DeduplicationScope", "messageGroup"),
    ];
    for (attribute, value) in wrong {
        let error = test.queues.create("other", &attributes(&[(attribute, value)])).expect_err("is refused");
        assert_eq!(error.code, "InvalidAttributeValue", "{attribute}");
    }
    let of_other_kind = test.queues.create("other", &attributes(&[("RedrivePolicy", &redrive_to("dead.fifo", 2))]));
    assert_eq!(of_other_kind.expect_err("is refused").code, "InvalidAttributeValue");
    assert_eq!(test.queues.create("other", &attributes(&[("Colour", "red")])).expect_err("is refused").code, "InvalidAttributeName");
    assert_eq!(test.queues.create("other.fifo", &attributes(&[])).expect_err("is refused").code, "InvalidParameterValue");
    assert_eq!(test.queues.create(STANDARD, &attributes(&[("DelaySeconds", "1")])).expect_err("differs").code, "QueueAlreadyExists");

    test.seed(STANDARD, "a", "g");
    test.seed(STANDARD, "b", "g");
    test.receive(STANDARD, 1).await;
    let url = template::queue_url(STANDARD);
    test.client.send_message().queue_url(&url).message_body("c").delay_seconds(5).send().await.expect("is sent");
    let answer = test.client.get_queue_attributes().queue_url(&url).attribute_names(QueueAttributeName::All).send().await;
    let found = answer.expect("is answered").attributes.unwrap_or_default();
    for count in ["", "NotVisible", "Delayed"] {
        let name = QueueAttributeName::from(format!("ApproximateNumberOfMessages{count}").as_str());
        assert_eq!(found.get(&name).map(String::as_str), Some("1"), "{name:?}");
    }
    let seen: Vec<_> = test.queues.messages(STANDARD).into_iter().map(|it| (it.is_in_flight, it.is_visible)).collect();
    assert_eq!(seen, [(true, false), (false, true), (false, false)]);
    assert_eq!((test.queues.in_flight(STANDARD).len(), test.queues.visible(STANDARD).len()), (1, 1));
}

#[tokio::test]
async fn nothing_overtakes_a_delayed_message_of_its_group() {
    let test = test();
    let url = template::queue_url(FIFO);
    let delay =
        |seconds: &str| test.client.set_queue_attributes().queue_url(&url).attributes(QueueAttributeName::DelaySeconds, seconds).send();
    delay("5").await.expect("is set");
    test.seed(FIFO, "first", "g");
    delay("0").await.expect("is set");
    test.seed(FIFO, "second", "g");
    test.seed(FIFO, "other", "h");
    assert_eq!(test.bodies(FIFO, 10).await, ["other"]);
    test.clock.advance(Duration::from_secs(5));
    assert_eq!(test.bodies(FIFO, 10).await, ["first", "second"]);
}

#[tokio::test]
async fn purging_empties_a_queue_once_a_minute() {
    let test = test();
    test.seed(STANDARD, "a", "g");
    let purge = || test.client.purge_queue().queue_url(template::queue_url(STANDARD)).send();
    purge().await.expect("is purged");
    assert!(test.queues.messages(STANDARD).is_empty());
    assert!(purge().await.expect_err("is too soon").into_service_error().is_purge_queue_in_progress());
    test.clock.advance(Duration::from_secs(60));
    purge().await.expect("is purged");
}

#[test]
fn what_is_hidden_and_what_is_visible_follow_the_clock_in_both_directions() {
    let test = test();
    for group in ["a", "b"] {
        test.queues.seed(STANDARD, group, Some(group), None).expect("is seeded");
    }
    let receive = |most| test.queues.receive(STANDARD, most, Order::Arrival).len();
    let start_ms = test.clock.now_ms();
    assert_eq!((receive(1), receive(0), test.queues.has_visible(STANDARD)), (1, 0, true));
    assert_eq!(receive(10), 1);
    assert_eq!((test.queues.has_visible(STANDARD), test.queues.next_visible_ms()), (false, Some(start_ms + 30_000)));
    test.clock.advance(Duration::from_secs(30));
    assert_eq!((test.queues.has_visible(STANDARD), test.queues.next_visible_ms()), (true, None));
    test.clock.set(start_ms + 29_999);
    assert_eq!((test.queues.has_visible(STANDARD), receive(10), test.queues.in_flight(STANDARD).len()), (false, 0, 2));
    test.clock.set(start_ms + 30_000);
    assert_eq!(receive(10), 2);
}

#[test]
fn what_stands_behind_dead_messages_is_received_with_the_same_request() {
    let test = test();
    (0..3).for_each(|it| test.queues.seed(STANDARD, &it.to_string(), None, None).expect("is seeded"));
    for _ in 0..2 {
        assert_eq!(test.queues.receive(STANDARD, 2, Order::Arrival).len(), 2);
        test.clock.advance(Duration::from_secs(30));
    }
    let received = test.queues.receive(STANDARD, 2, Order::Arrival);
    assert_eq!(received.iter().map(|it| it["Body"].as_str().unwrap_or_default()).collect::<Vec<_>>(), ["2"]);
    assert_eq!(test.queues.bodies("dead"), ["0", "1"]);
}
