//! SQS: groups, deduplication, visibility, delays, dead letters, limits.

use std::time::Duration;

use aws_sdk_sqs::error::ProvideErrorMetadata;
use aws_sdk_sqs::operation::send_message::builders::SendMessageFluentBuilder;
use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::{Message, MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName, SendMessageBatchRequestEntry};

use super::{Difference, Engines};

/// A queue of the contract's own.
pub(super) struct Queue<'a> {
    engines: &'a Engines,
    pub(super) url: String,
}

pub(super) const VISIBILITY: Duration = Duration::from_secs(1);

impl<'a> Queue<'a> {
    /// A queue whose messages are visible again after [`VISIBILITY`]; FIFO and of high throughput if its name says so.
    pub(super) async fn create(engines: &'a Engines, name: &str, attributes: &[(QueueAttributeName, &str)]) -> Self {
        let create = engines.sqs.create_queue().queue_name(name).attributes(QueueAttributeName::VisibilityTimeout, "1");
        let create = match name.ends_with(".fifo") {
            true => create
                .attributes(QueueAttributeName::FifoQueue, "true")
                .attributes(QueueAttributeName::DeduplicationScope, "messageGroup")
                .attributes(QueueAttributeName::FifoThroughputLimit, "perMessageGroupId"),
            false => create,
        };
        let create = attributes.iter().fold(create, |create, (name, value)| create.attributes(name.clone(), *value));
        let url = create.send().await.expect("is created").queue_url.expect("has a URL");
        Self { engines, url }
    }

    pub(super) fn send(&self, body: &str) -> SendMessageFluentBuilder {
        self.engines.sqs.send_message().queue_url(&self.url).message_body(body)
    }

    /// Sends to a FIFO queue, with the body as deduplication id.
    async fn send_in(&self, group: &str, body: &str) {
        self.send(body).message_group_id(group).message_deduplication_id(body).send().await.expect("is sent");
    }

    /// What can be received at once.
    async fn receive(&self, most: i32) -> Vec<Message> {
        self.receive_within(most, 0).await
    }

    /// What can be received, or comes within that many seconds.
    async fn receive_within(&self, most: i32, seconds: i32) -> Vec<Message> {
        let receive = self.engines.sqs.receive_message().queue_url(&self.url).max_number_of_messages(most).wait_time_seconds(seconds);
        let receive = receive.message_system_attribute_names(MessageSystemAttributeName::All).message_attribute_names("All");
        receive.send().await.expect("is received").messages.unwrap_or_default()
    }

    /// What comes after this time has passed.
    async fn receive_after(&self, time: Duration, most: i32) -> Vec<Message> {
        self.engines.pass(time);
        let seconds = if self.engines.turned_clock().is_some() { 0 } else { 10 };
        self.receive_within(most, seconds).await
    }

    async fn delete(&self, message: &Message) -> Result<(), aws_sdk_sqs::Error> {
        let delete = self.engines.sqs.delete_message().queue_url(&self.url).set_receipt_handle(message.receipt_handle.clone());
        Ok(delete.send().await.map(|_| ())?)
    }

    async fn let_go_after(&self, message: &Message, seconds: i32) -> Result<(), aws_sdk_sqs::Error> {
        let change = self.engines.sqs.change_message_visibility().queue_url(&self.url).visibility_timeout(seconds);
        Ok(change.set_receipt_handle(message.receipt_handle.clone()).send().await.map(|_| ())?)
    }

    /// How many messages can be received, and how many are with somebody.
    pub(super) async fn depth(&self) -> (u32, u32) {
        let attributes = self.engines.sqs.get_queue_attributes().queue_url(&self.url).attribute_names(QueueAttributeName::All);
        let attributes = attributes.send().await.expect("is answered").attributes.unwrap_or_default();
        let number = |name| attributes.get(&name).and_then(|it| it.parse().ok()).expect("is a number");
        (number(QueueAttributeName::ApproximateNumberOfMessages), number(QueueAttributeName::ApproximateNumberOfMessagesNotVisible))
    }

    async fn arn(&self) -> String {
        let attributes = self.engines.sqs.get_queue_attributes().queue_url(&self.url).attribute_names(QueueAttributeName::QueueArn);
        attributes.send().await.expect("is answered").attributes.expect("are told")[&QueueAttributeName::QueueArn].clone()
    }
}

fn bodies(messages: &[Message]) -> Vec<&str> {
    messages.iter().filter_map(Message::body).collect()
}

fn attribute(message: &Message, name: MessageSystemAttributeName) -> Option<&str> {
    message.attributes().and_then(|it| it.get(&name)).map(String::as_str)
}

fn entry(id: &str, body: &str) -> SendMessageBatchRequestEntry {
    SendMessageBatchRequestEntry::builder().id(id).message_body(body).build().expect("is complete")
}

pub(super) async fn a_group_is_locked_and_keeps_its_order(engines: &Engines) {
    let queue = Queue::create(engines, "group-lock.fifo", &[]).await;
    for body in ["a1", "a2", "b1"] {
        queue.send_in(&body[..1], body).await;
    }
    let first = queue.receive(1).await;
    assert_eq!(bodies(&first), ["a1"]);
    assert_eq!(bodies(&queue.receive(10).await), ["b1"], "the group is locked by its first");
    queue.delete(&first[0]).await.expect("is deleted");
    let second = queue.receive(10).await;
    assert_eq!(bodies(&second), ["a2"]);
    let number = |message| attribute(message, MessageSystemAttributeName::SequenceNumber).map(str::to_owned);
    assert!(number(&first[0]) < number(&second[0]));

    queue.let_go_after(&second[0], 0).await.expect("is in flight");
    queue.send_in("a", "a3").await;
    let both = queue.receive(10).await;
    assert_eq!(bodies(&both), ["a2", "a3"], "what comes again comes first");
    queue.let_go_after(&both[0], 0).await.expect("is in flight");
    assert!(queue.receive(10).await.is_empty(), "its successor is still with somebody");
}

pub(super) async fn one_group_is_handed_over_before_the_next(engines: &Engines) {
    let queue = Queue::create(engines, "group-first.fifo", &[]).await;
    for body in ["a1", "b1", "a2", "b2", "a3"] {
        queue.send_in(&body[..1], body).await;
    }
    let received = queue.receive(4).await;
    if engines.differ(Difference::MixesGroupsByArrival) {
        assert_eq!(bodies(&received), ["a1", "b1", "a2", "b2"]);
    } else {
        assert_eq!(bodies(&received), ["a1", "a2", "a3", "b1"]);
    }
}

pub(super) async fn an_id_is_kept_once_even_after_its_message_is_deleted(engines: &Engines) {
    let queue = Queue::create(engines, "dedupe.fifo", &[]).await;
    let send = || queue.send("x").message_group_id("g").message_deduplication_id("id").send();
    let first = send().await.expect("is sent");
    let repeated = send().await.expect("is accepted");
    assert_eq!(first.message_id(), repeated.message_id());
    let received = queue.receive(10).await;
    assert_eq!(received.len(), 1);
    queue.delete(&received[0]).await.expect("is deleted");
    send().await.expect("is accepted");
    assert!(queue.receive(10).await.is_empty(), "the id is remembered after the message");

    let Some(clock) = engines.turned_clock() else { return };
    clock.advance(Duration::from_secs(299));
    send().await.expect("is accepted");
    assert!(queue.receive(10).await.is_empty());
    clock.advance(Duration::from_secs(1));
    send().await.expect("is sent");
    assert_eq!(queue.receive(10).await.len(), 1, "five minutes have passed");
}

pub(super) async fn ids_count_in_their_group_only(engines: &Engines) {
    let queue = Queue::create(engines, "dedupe-scope.fifo", &[]).await;
    for group in ["a", "b", "a"] {
        queue.send(group).message_group_id(group).message_deduplication_id("same").send().await.expect("is sent");
    }
    assert_eq!(bodies(&queue.receive(10).await), ["a", "b"]);
}

pub(super) async fn an_id_may_come_from_the_content(engines: &Engines) {
    let without = Queue::create(engines, "dedupe-none.fifo", &[]).await;
    let refused = without.send("x").message_group_id("g").send().await.expect_err("has no id");
    assert_eq!(refused.code(), Some("InvalidParameterValue"));
    let queue = Queue::create(engines, "dedupe-content.fifo", &[(QueueAttributeName::ContentBasedDeduplication, "true")]).await;
    for body in ["x", "y", "x"] {
        queue.send(body).message_group_id("g").send().await.expect("is sent");
    }
    assert_eq!(bodies(&queue.receive(10).await), ["x", "y"]);
    assert_eq!(queue.send("z").send().await.expect_err("has no group").code(), Some("MissingParameter"));
}

pub(super) async fn visibility_passes_and_can_be_changed(engines: &Engines) {
    let queue = Queue::create(engines, "visibility", &[]).await;
    queue.send("x").send().await.expect("is sent");
    let first = queue.receive(10).await;
    assert_eq!(attribute(&first[0], MessageSystemAttributeName::ApproximateReceiveCount), Some("1"));
    assert!(queue.receive(10).await.is_empty());
    let second = queue.receive_after(VISIBILITY, 10).await;
    assert_eq!(attribute(&second[0], MessageSystemAttributeName::ApproximateReceiveCount), Some("2"));
    assert_eq!(first[0].message_id(), second[0].message_id());
    queue.let_go_after(&second[0], 0).await.expect("is in flight");
    let third = queue.receive(10).await;
    assert_eq!(third.len(), 1, "is visible at once");
    queue.let_go_after(&third[0], 600).await.expect("is in flight");
    engines.pass(Duration::from_secs(599));
    assert!(queue.receive(10).await.is_empty(), "is hidden for longer than the queue's timeout");
    queue.delete(&third[0]).await.expect("is deleted");
    let again = queue.delete(&third[0]).await;
    assert_eq!(again.is_err(), engines.differ(Difference::RefusesOldReceipts));
    queue.let_go_after(&third[0], 0).await.expect_err("is not there any more");
}

pub(super) async fn delayed_messages_come_later(engines: &Engines) {
    let queue = Queue::create(engines, "delay", &[]).await;
    queue.send("later").delay_seconds(1).send().await.expect("is sent");
    queue.send("now").send().await.expect("is sent");
    assert_eq!(bodies(&queue.receive(10).await), ["now"]);
    let fifo = Queue::create(engines, "delay.fifo", &[]).await;
    let refused = fifo.send("x").message_group_id("g").message_deduplication_id("x").delay_seconds(1).send().await;
    assert_eq!(refused.expect_err("only the queue may delay").code(), Some("InvalidParameterValue"));
    let later = queue.receive_after(Duration::from_secs(1), 1).await;
    assert!(matches!(bodies(&later)[..], ["later"] | ["now"]));
    let other = queue.receive_after(Duration::ZERO, 1).await;
    let mut both = [bodies(&later), bodies(&other)].concat();
    both.sort_unstable();
    assert_eq!(both, ["later", "now"]);
}

pub(super) async fn dead_letters_free_their_group(engines: &Engines) {
    let dead = Queue::create(engines, "dead.fifo", &[]).await;
    let policy = format!(r#"{{"deadLetterTargetArn":"{}","maxReceiveCount":2}}"#, dead.arn().await);
    let queue = Queue::create(engines, "poison.fifo", &[(QueueAttributeName::RedrivePolicy, &policy)]).await;
    queue.send_in("g", "poison").await;
    queue.send_in("g", "next").await;
    for _ in 0..2 {
        let received = queue.receive(1).await;
        assert_eq!(bodies(&received), ["poison"]);
        queue.let_go_after(&received[0], 0).await.expect("is in flight");
    }
    assert_eq!(bodies(&queue.receive(1).await), ["next"], "the third receive buries the first and hands over the next");
    let buried = dead.receive(10).await;
    assert_eq!(bodies(&buried), ["poison"]);
    assert_eq!(attribute(&buried[0], MessageSystemAttributeName::MessageGroupId), Some("g"));
}

pub(super) async fn batches_fail_by_entry(engines: &Engines) {
    let queue = Queue::create(engines, "batches", &[]).await;
    let send = engines.sqs.send_message_batch().queue_url(&queue.url);
    let sent = send.entries(entry("good", "x")).entries(entry("bad", "\u{0}")).entries(entry("fine", "y")).send().await;
    let sent = sent.expect("is answered with 200");
    assert_eq!(sent.successful().iter().map(|it| it.id()).collect::<Vec<_>>(), ["good", "fine"]);
    let failed: Vec<_> = sent.failed().iter().map(|it| (it.id(), it.code(), it.sender_fault())).collect();
    assert_eq!(failed, [("bad", "InvalidMessageContents", true)]);

    let received = queue.receive(10).await;
    assert_eq!(received.len(), 2);
    let delete = |id: &str, receipt: &str| {
        let entry = aws_sdk_sqs::types::DeleteMessageBatchRequestEntry::builder().id(id).receipt_handle(receipt);
        entry.build().expect("is complete")
    };
    let receipt = received[0].receipt_handle().expect("has one");
    let deleted = engines.sqs.delete_message_batch().queue_url(&queue.url);
    let deleted = deleted.entries(delete("good", receipt)).entries(delete("bad", "no-receipt")).send().await.expect("is answered with 200");
    assert_eq!(deleted.successful().iter().map(|it| it.id()).collect::<Vec<_>>(), ["good"]);
    assert_eq!(deleted.failed().iter().map(|it| (it.id(), it.code())).collect::<Vec<_>>(), [("bad", "ReceiptHandleIsInvalid")]);
}

pub(super) async fn batches_have_limits(engines: &Engines) {
    let queue = Queue::create(engines, "batch-limits", &[]).await;
    let send = async |entries: Vec<SendMessageBatchRequestEntry>| {
        let send = engines.sqs.send_message_batch().queue_url(&queue.url).set_entries(Some(entries)).send().await;
        send.map_err(|it| it.code().unwrap_or_default().to_owned())
    };
    let eleven = (0..11).map(|it| entry(&it.to_string(), "x")).collect();
    assert_eq!(send(eleven).await.expect_err("are too many"), "AWS.SimpleQueueService.TooManyEntriesInBatchRequest");
    let twins = vec![entry("a", "x"), entry("a", "y")];
    assert_eq!(send(twins).await.expect_err("have one id"), "AWS.SimpleQueueService.BatchEntryIdsNotDistinct");
    assert_eq!(send(vec![entry("a b", "x")]).await.expect_err("is no id"), "AWS.SimpleQueueService.InvalidBatchEntryId");
    let half = "x".repeat(1_048_576 / 2);
    let more = format!("{half}x");
    let too_much = send(vec![entry("a", &half), entry("b", &more)]).await;
    assert_eq!(too_much.expect_err("are too much"), "AWS.SimpleQueueService.BatchRequestTooLong");
    assert_eq!(queue.depth().await, (0, 0));
    assert_eq!(send(vec![entry("a", &half), entry("b", &half)]).await.expect("fit").successful().len(), 2);
}

pub(super) async fn messages_have_limits(engines: &Engines) {
    let queue = Queue::create(engines, "limits", &[]).await;
    let most = "x".repeat(1_048_576);
    queue.send(&most).send().await.expect("one mebibyte fits");
    let code = async |send: SendMessageFluentBuilder| send.send().await.map_err(|it| it.code().unwrap_or_default().to_owned()).map(|_| ());
    assert_eq!(code(queue.send(&format!("{most}x"))).await, Err("InvalidParameterValue".to_owned()));
    assert_eq!(code(queue.send("\u{FFFE}")).await, Err("InvalidMessageContents".to_owned()));
    let delayed = code(queue.send("x").delay_seconds(901)).await;
    if engines.differ(Difference::AcceptsAnyDelay) {
        assert_eq!(delayed, Ok(()));
    } else {
        assert_eq!(delayed, Err("InvalidParameterValue".to_owned()));
    }
    for most in [0, 11] {
        let receive = engines.sqs.receive_message().queue_url(&queue.url).max_number_of_messages(most);
        assert!(receive.send().await.is_err(), "{most} messages");
    }
    // The message that is there ends the wait, where it is accepted.
    let waiting = engines.sqs.receive_message().queue_url(&queue.url).wait_time_seconds(21).send().await;
    assert_eq!(waiting.is_ok(), engines.differ(Difference::AcceptsAnyWait));
}

pub(super) async fn old_receipts_delete_nothing(engines: &Engines) {
    let queue = Queue::create(engines, "old-receipts", &[]).await;
    queue.send("x").send().await.expect("is sent");
    let old = queue.receive(1).await.remove(0);
    let new = queue.receive_after(VISIBILITY, 1).await.remove(0);
    let outcome = queue.delete(&old).await;
    if engines.differ(Difference::RefusesOldReceipts) {
        assert!(outcome.is_err());
    } else {
        outcome.expect("is accepted");
    }
    assert_ne!(queue.depth().await, (0, 0), "it is still there");
    queue.delete(&new).await.expect("is deleted");
    assert_eq!(queue.depth().await, (0, 0));
}

pub(super) async fn fifo_receipts_end_with_their_visibility(engines: &Engines) {
    let queue = Queue::create(engines, "ended-receipts.fifo", &[]).await;
    queue.send_in("g", "x").await;
    let message = queue.receive(1).await.remove(0);
    engines.pass(VISIBILITY);
    while queue.depth().await != (1, 0) {
        assert!(engines.turned_clock().is_none(), "the clock was turned, and it is not visible");
    }
    let outcome = queue.delete(&message).await;
    if engines.differ(Difference::DeletesFifoMessagesAfterTheirVisibility) {
        outcome.expect("is accepted");
        assert_eq!(queue.depth().await, (0, 0));
    } else {
        assert_eq!(outcome.expect_err("is refused").code(), Some("InvalidParameterValue"));
        assert_eq!(queue.depth().await, (1, 0));
    }
}

pub(super) async fn fair_groups_do_not_lock(engines: &Engines) {
    let queue = Queue::create(engines, "fair", &[]).await;
    for body in ["x", "x"] {
        queue.send(body).message_group_id("connection").send().await.expect("is sent");
    }
    let first = queue.receive(1).await;
    assert_eq!(attribute(&first[0], MessageSystemAttributeName::MessageGroupId), Some("connection"));
    assert_eq!(queue.receive(1).await.len(), 1, "the same group, at the same time, with the same body");
}

pub(super) async fn attributes_arrive_as_sent(engines: &Engines) {
    let queue = Queue::create(engines, "attributes.fifo", &[]).await;
    let kind = MessageAttributeValue::builder().data_type("String").string_value("turn").build().expect("is complete");
    let raw = MessageAttributeValue::builder().data_type("Binary").binary_value(Blob::new([0, 255])).build().expect("is complete");
    let send = queue.send("héllo").message_group_id("g").message_deduplication_id("d");
    let sent = send.message_attributes("kind", kind.clone()).message_attributes("raw", raw.clone()).send().await.expect("is sent");
    let received = queue.receive(1).await.remove(0);
    assert_eq!(received.message_id(), sent.message_id());
    assert_eq!(received.md5_of_body(), sent.md5_of_message_body());
    assert_eq!(received.md5_of_body(), Some("be50e8478cf24ff3595bc7307fb91b50"));
    assert_eq!(received.md5_of_message_attributes(), sent.md5_of_message_attributes());
    let attributes = received.message_attributes().expect("are there");
    assert_eq!((attributes.get("kind"), attributes.get("raw")), (Some(&kind), Some(&raw)));
    assert_eq!(attribute(&received, MessageSystemAttributeName::MessageDeduplicationId), Some("d"));
    assert_eq!(attribute(&received, MessageSystemAttributeName::SequenceNumber), sent.sequence_number());
    assert!(attribute(&received, MessageSystemAttributeName::SentTimestamp).is_some_and(|it| it.len() == 13));
}

pub(super) async fn unknown_queues_are_named_by_their_code(engines: &Engines) {
    let missing = engines.sqs.get_queue_url().queue_name("nowhere").send().await.expect_err("is not there");
    assert_eq!(missing.code(), Some("AWS.SimpleQueueService.NonExistentQueue"));
    assert!(missing.into_service_error().is_queue_does_not_exist());
}
