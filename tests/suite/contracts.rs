//! What we rely on from AWS, asserted once and run against both engines that the project stands on: the world of the suite
//! and ministack, on which the local stack runs. So neither is tuned to, and where one of them is known to differ from
//! AWS, the difference has a name in [`Difference`] and is asserted too.

mod blobs;
mod dynamo;
mod mapping;
mod ministack;
mod sqs;
mod vault;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use aws_sdk_dynamodb::Client as DynamoClient;
use aws_sdk_sqs::Client as SqsClient;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use world::clock::Clock;
use world::dynamo::Dynamo;
use world::sqs::Queues;

use self::ministack::Ministack;

/// The engines under contract, and how to let time pass there.
struct Engines {
    dynamo: DynamoClient,
    sqs: SqsClient,
    kind: Kind,
}

enum Kind {
    World { clock: Clock, queues: Queues },
    Ministack(Ministack),
}

/// Where ministack 1.5.33 is known not to do what AWS does; the world has no such difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    /// A strongly consistent read of more than 4 KB costs one unit; AWS charges one for each 4 KB:
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html>.
    ChargesEachReadAsSmall,
    /// A FIFO message is deleted by a receipt whose visibility has passed; AWS refuses:
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteMessage.html>.
    DeletesFifoMessagesAfterTheirVisibility,
    /// A receipt of a standard message that was received again, or is deleted, cannot be used to delete; AWS accepts it, and
    /// normally nothing happens: the same page.
    RefusesOldReceipts,
    /// `DelaySeconds` may be more than 900:
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html>.
    AcceptsAnyDelay,
    /// `WaitTimeSeconds` may be more than 20:
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html>.
    AcceptsAnyWait,
    /// One receive mixes groups by arrival; AWS hands over as many of one group as possible first:
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/FIFO-queues-understanding-logic.html>.
    MixesGroupsByArrival,
    /// An answer that names an unknown or an empty record lets the mapping delete the batch; AWS repeats it:
    /// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html>.
    DeletesBatchesAfterBadAnswers,
    /// A list of failures that is null repeats the batch; for AWS it is as empty as an empty one: the same page.
    RepeatsBatchesAfterNull,
}

type Contract = for<'a> fn(&'a Engines) -> LocalBoxFuture<'a, ()>;

/// Declares each contract as a test against the world, and as one of those that ministack is held to.
macro_rules! contracts {
    ($($module:ident :: $name:ident),* $(,)?) => {
        const CONTRACTS: &[(&str, Contract)] = &[
            $((concat!(stringify!($module), "::", stringify!($name)), |engines| Box::pin($module::$name(engines)))),*
        ];

        mod world_keeps {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$module::$name(&super::Engines::world()).await;
                }
            )*
        }
    };
}

contracts! {
    dynamo::a_refused_put_tells_what_is_there,
    dynamo::a_conditional_update_moves_only_what_has_not_moved,
    dynamo::of_many_racers_exactly_one_wins,
    dynamo::counters_lose_nothing,
    dynamo::a_cancelled_transaction_changes_nothing_and_says_why,
    dynamo::the_first_of_a_kind_stays,
    dynamo::units_go_by_the_size_of_items,
    dynamo::a_query_ends_its_page_at_one_megabyte,
    dynamo::a_batch_get_returns_what_exists,
    sqs::a_group_is_locked_and_keeps_its_order,
    sqs::one_group_is_handed_over_before_the_next,
    sqs::an_id_is_kept_once_even_after_its_message_is_deleted,
    sqs::ids_count_in_their_group_only,
    sqs::an_id_may_come_from_the_content,
    sqs::visibility_passes_and_can_be_changed,
    sqs::delayed_messages_come_later,
    sqs::dead_letters_free_their_group,
    sqs::batches_fail_by_entry,
    sqs::batches_have_limits,
    sqs::messages_have_limits,
    sqs::old_receipts_delete_nothing,
    sqs::fifo_receipts_end_with_their_visibility,
    sqs::fair_groups_do_not_lock,
    sqs::attributes_arrive_as_sent,
    sqs::unknown_queues_are_named_by_their_code,
    mapping::only_reported_records_come_again,
    mapping::an_empty_report_deletes_all,
    mapping::a_null_report_deletes_all,
    mapping::a_failed_invocation_deletes_nothing,
    mapping::a_bad_report_deletes_nothing,
    blobs::a_file_that_is_put_in_parts_is_whole,
    blobs::what_is_given_up_or_never_finished_is_not_there,
    blobs::the_first_bytes_of_a_file_are_read_alone,
    blobs::what_is_not_there_is_no_error,
    blobs::objects_are_listed_in_order_from_a_place_on,
    blobs::a_link_opens_a_file_and_saves_it_under_its_name,
    blobs::an_upload_link_takes_what_it_was_made_for,
}

/// One process for all contracts: it takes a second to start. They share it one after the other, each on queues and tables
/// of its own.
#[tokio::test]
async fn ministack_keeps_them_all_but_for_known_differences() {
    let engines = Engines::ministack().await;
    let mut broken = Vec::new();
    let of_kms: (&str, Contract) =
        ("vault::secrets_are_sealed_under_keys_that_kms_wraps", |it| Box::pin(vault::secrets_are_sealed_under_keys_that_kms_wraps(it)));
    for (name, contract) in CONTRACTS.iter().chain([&of_kms]) {
        println!("ministack, {name}");
        // Not a measure, but an end: what is waited for there may never come.
        let ended = tokio::time::timeout(Duration::from_secs(60), AssertUnwindSafe(contract(&engines)).catch_unwind()).await;
        if !matches!(ended, Ok(Ok(()))) {
            broken.push(*name);
        }
    }
    assert!(broken.is_empty(), "not kept by ministack, in vain awaited or as printed above: {broken:?}");
}

impl Engines {
    fn world() -> Self {
        let clock = Clock::turned();
        let dynamo = Dynamo::new(&clock).expect("starts").client("contract");
        let queues = Queues::new(&clock);
        Self { dynamo, sqs: queues.client("contract"), kind: Kind::World { clock, queues } }
    }

    async fn ministack() -> Self {
        let ministack = Ministack::start().await;
        Self { dynamo: ministack.dynamo(), sqs: ministack.sqs(), kind: Kind::Ministack(ministack) }
    }

    fn differ(&self, difference: Difference) -> bool {
        let is_known = matches!(self.kind, Kind::Ministack(_));
        if is_known {
            println!("known difference: {difference:?}");
        }
        is_known
    }

    /// Turns the clock, if there is one to turn. Where there is none, what follows asks the service until time has passed.
    fn pass(&self, time: Duration) {
        if let Kind::World { clock, .. } = &self.kind {
            clock.advance(time);
        }
    }

    /// The clock, if it can be turned: for what takes minutes.
    fn turned_clock(&self) -> Option<&Clock> {
        match &self.kind {
            Kind::World { clock, .. } => Some(clock),
            Kind::Ministack(_) => None,
        }
    }
}
