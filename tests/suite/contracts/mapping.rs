//! The event source mapping: what of a batch is deleted, and what comes again.

use std::collections::BTreeMap;
use std::rc::Rc;

use aws_lambda_events::event::sqs::SqsEvent;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use world::mapping::{Delivery, Handler, Mappings};
use world::template::Template;

use super::sqs::{Queue, VISIBILITY};
use super::{Difference, Engines, Kind};

/// A batch as a function answers it; nothing if the invocation fails.
type Answer = fn(&SqsEvent) -> Option<Value>;

/// What a function was given: body and message id of each record.
type Batch = Vec<(String, String)>;

fn batch(event: &SqsEvent) -> Batch {
    let text = |it: &Option<String>| it.clone().unwrap_or_default();
    event.records.iter().map(|it| (text(&it.body), text(&it.message_id))).collect()
}

/// A queue mapped to a function.
enum Mapped<'a> {
    World { engines: &'a Engines, mappings: Mappings, batches: mpsc::UnboundedReceiver<Batch> },
    Ministack { batches: mpsc::UnboundedReceiver<Batch> },
}

impl<'a> Mapped<'a> {
    async fn start(engines: &'a Engines, queue: &str, answer: Answer) -> Self {
        let (noted, batches) = mpsc::unbounded_channel();
        match &engines.kind {
            Kind::World { queues, .. } => {
                let handler: Handler = Rc::new(move |event| {
                    // Nobody listens any more when a contract has seen enough.
                    let _ = noted.send(batch(&event));
                    let answered = answer(&event).ok_or_else(|| anyhow::anyhow!("the invocation fails"));
                    Box::pin(std::future::ready(answered))
                });
                let template = Template::parse(&template(queue)).expect("is understood");
                let mappings = Mappings::new(queues, &template, BTreeMap::from([("Function".to_owned(), handler)]));
                Self::World { engines, mappings, batches }
            }
            Kind::Ministack(ministack) => {
                ministack.map(queue, &serve(answer, noted).await).await;
                Self::Ministack { batches }
            }
        }
    }

    /// The bodies of the next batch, in the order of the alphabet: a standard queue has none.
    async fn next(&mut self) -> Vec<String> {
        let batches = match self {
            Self::World { engines, mappings, batches } => {
                if mappings.step("Queue", Delivery::Once).await == 0 {
                    engines.pass(VISIBILITY);
                    assert!(mappings.step("Queue", Delivery::Once).await > 0, "nothing comes");
                }
                batches
            }
            Self::Ministack { batches } => batches,
        };
        let mut bodies: Vec<String> = batches.recv().await.expect("the function is called").into_iter().map(|it| it.0).collect();
        bodies.sort();
        bodies
    }
}

fn template(queue: &str) -> String {
    format!(
        r#"
Resources:
  Queue: {{ Type: "AWS::SQS::Queue", Properties: {{ QueueName: {queue} }} }}
  Function: {{ Type: "AWS::Serverless::Function", Properties: {{ Timeout: 1 }} }}
  Mapping:
    Type: AWS::Lambda::EventSourceMapping
    Properties:
      FunctionName: !Ref Function
      EventSourceArn: !GetAtt Queue.Arn
      FunctionResponseTypes: [ReportBatchItemFailures]
"#
    )
}

type Invoked = (Answer, mpsc::UnboundedSender<Batch>);

/// Answers invocations over HTTP, and returns where.
async fn serve(answer: Answer, noted: mpsc::UnboundedSender<Batch>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("is bound");
    let router = axum::Router::new().fallback(invoke).with_state((answer, noted));
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/")
}

async fn invoke(State((answer, noted)): State<Invoked>, Json(event): Json<SqsEvent>) -> Result<Json<Value>, StatusCode> {
    let _ = noted.send(batch(&event));
    answer(&event).map(Json).ok_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The first delivery, for answers that are better the second time.
fn is_first(event: &SqsEvent) -> bool {
    event.records.iter().all(|it| it.attributes.get("ApproximateReceiveCount").is_some_and(|it| it == "1"))
}

/// A queue with two messages that a function is going to be given in one batch.
async fn two_messages<'a>(engines: &'a Engines, name: &str) -> Queue<'a> {
    let queue = Queue::create(engines, name, &[]).await;
    let entry = |body: &str| {
        let entry = aws_sdk_sqs::types::SendMessageBatchRequestEntry::builder().id(body).message_body(body);
        entry.build().expect("is complete")
    };
    let send = engines.sqs.send_message_batch().queue_url(&queue.url).entries(entry("a")).entries(entry("b"));
    assert_eq!(send.send().await.expect("is sent").successful().len(), 2);
    queue
}

/// The mapping deletes after the answer, so a moment later.
async fn is_emptied(engines: &Engines, queue: &Queue<'_>) {
    while queue.depth().await != (0, 0) {
        assert!(engines.turned_clock().is_none(), "the step is over, and something is left");
    }
}

pub(super) async fn only_reported_records_come_again(engines: &Engines) {
    let queue = two_messages(engines, "mapped-partly").await;
    let mut mapped = Mapped::start(engines, "mapped-partly", |event| {
        let failed = batch(event).into_iter().filter(|(body, _)| body == "b" && is_first(event));
        let failed: Vec<Value> = failed.map(|(_, id)| json!({ "itemIdentifier": id })).collect();
        Some(json!({ "batchItemFailures": failed }))
    })
    .await;
    assert_eq!(mapped.next().await, ["a", "b"]);
    assert_eq!(mapped.next().await, ["b"]);
    is_emptied(engines, &queue).await;
}

pub(super) async fn an_empty_report_deletes_all(engines: &Engines) {
    for (name, answer) in [
        ("mapped-empty", (|_| Some(json!({ "batchItemFailures": [] }))) as Answer),
        ("mapped-nothing", |_| Some(json!({}))),
        ("mapped-all-null", |_| Some(json!(null))),
    ] {
        let queue = two_messages(engines, name).await;
        assert_eq!(Mapped::start(engines, name, answer).await.next().await, ["a", "b"]);
        is_emptied(engines, &queue).await;
    }
}

pub(super) async fn a_null_report_deletes_all(engines: &Engines) {
    let queue = two_messages(engines, "mapped-null").await;
    let answer = |event: &SqsEvent| Some(if is_first(event) { json!({ "batchItemFailures": null }) } else { json!({}) });
    let mut mapped = Mapped::start(engines, "mapped-null", answer).await;
    assert_eq!(mapped.next().await, ["a", "b"]);
    if engines.differ(Difference::RepeatsBatchesAfterNull) {
        assert_eq!(mapped.next().await, ["a", "b"]);
    }
    is_emptied(engines, &queue).await;
}

pub(super) async fn a_failed_invocation_deletes_nothing(engines: &Engines) {
    let queue = two_messages(engines, "mapped-failed").await;
    let answer = |event: &SqsEvent| (!is_first(event)).then(|| json!({}));
    let mut mapped = Mapped::start(engines, "mapped-failed", answer).await;
    assert_eq!(mapped.next().await, ["a", "b"]);
    assert_eq!(mapped.next().await, ["a", "b"]);
    is_emptied(engines, &queue).await;
}

pub(super) async fn a_bad_report_deletes_nothing(engines: &Engines) {
    for (name, answer) in [
        (
            "mapped-unknown",
            (|event| {
                let id = if is_first(event) { json!([{ "itemIdentifier": "unknown" }]) } else { json!([]) };
                Some(json!({ "batchItemFailures": id }))
            }) as Answer,
        ),
        ("mapped-nameless", |event| {
            let id = if is_first(event) { json!([{ "itemIdentifier": "" }]) } else { json!([]) };
            Some(json!({ "batchItemFailures": id }))
        }),
    ] {
        let queue = two_messages(engines, name).await;
        let mut mapped = Mapped::start(engines, name, answer).await;
        assert_eq!(mapped.next().await, ["a", "b"]);
        if !engines.differ(Difference::DeletesBatchesAfterBadAnswers) {
            assert_eq!(mapped.next().await, ["a", "b"]);
        }
        is_emptied(engines, &queue).await;
    }
}
