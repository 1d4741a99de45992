//! How much memory a customer's file takes on its way into the bucket: as much as a part of it, however large it is.
//!
//! The function's own handler runs here, in a program of its own, so that nothing else is counted. Meta is a server here that makes the

use std::convert::Infallible;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::routing::get;
use channel::blobs::PART;
use channel::jobs::{MediaJob, MediaTask, V1};
use channel::web::{Web, WebSettings};
use domain::ids::{MessageId, MessageKey, NumberId, TenantId};
use domain::message::Media;
use meta::graph::{Graph, Settings};
use peak_alloc::PeakAlloc;
use serde_json::json;
use world::mapping::event;
use world::story::{ANA, NUMBER, World, connection_id, vault};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What the server gives at once.
const CHUNK: usize = 64 << 10;

/// A Graph API that knows files of any size: the id is the number of megabytes.
async fn graph() -> Graph {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port on this machine");
    let base_url = format!("http://{}", listener.local_addr().expect("bound"));
    let files = format!("{base_url}/files");
    let record =
        move |Path(id): Path<String>| async move { axum::Json(json!({ "url": format!("{files}/{id}"), "mime_type": "application/pdf" })) };
    let file = |Path(megabytes): Path<usize>| async move {
        let chunks = (megabytes << 20) / CHUNK;
        let chunk = Bytes::from_static(&[7; CHUNK]);
        Body::from_stream(futures::stream::iter((0..chunks).map(move |_| Ok::<_, Infallible>(chunk.clone()))))
    };
    let router = Router::new().route("/v25.0/{id}", get(record)).route("/files/{megabytes}", get(file));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Graph::new(&Settings { base_url, allow_loopback: true, ..Settings::meta("v25.0") }).expect("settings on this machine")
}

/// The most memory that is taken while a file of this size is fetched beyond what was taken before, in bytes.
async fn taken(world: &World, graph: &Graph, megabytes: usize) -> usize {
    let conversation = world.conversation(ANA).await.id;
    let id = MessageId::parse(format!("file-of-{megabytes}")).expect("an id");
    let message = MessageKey { conversation, at: world.now(), id };
    let job = MediaJob {
        v: V1,
        tenant: TenantId::parse("demo").expect("an id"),
        connection: connection_id(),
        number: NumberId::parse(NUMBER).expect("an id"),
        message: message.clone(),
        queued_at: world.now(),
        task: MediaTask::Fetch { media: Media { id: Some(megabytes.to_string()), ..Media::default() } },
    };
    let body = serde_json::to_string(&job).expect("it is data");
    let event = event("media.fifo", &[json!({ "MessageId": "1", "Body": body, "Attributes": { "ApproximateReceiveCount": "1" } })]);
    let web = Web::new(&WebSettings { allow_loopback: true, connect_timeout: std::time::Duration::from_secs(3) }).expect("a client");
    let engines = (world.store.clone(), world.queues.clone(), world.s3.blobs("media"));
    let handles = media::Handles::over(engines, vault(), graph.clone(), web);
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let answer = media::handle(&handles, event, world.now(), None).await;
    let taken = MEMORY.peak_usage().saturating_sub(before);
    assert!(answer.batch_item_failures.is_empty(), "it is not fetched");
    let kept = world.store.file(&message).await.expect("the store answers").and_then(|it| it.file).expect("it is here");
    assert_eq!(kept.size, (megabytes as u64) << 20);
    println!(
        "a file of {megabytes} MB takes {:.1} MB of memory on its way, the bucket's engine among it",
        taken as f64 / f64::from(1 << 20)
    );
    taken
}

#[tokio::test]
async fn a_file_of_100_mb_takes_no_more_memory_than_one_of_24() {
    let world = World::new().await;
    world.writes(ANA, "here it comes");
    world.settle().await;
    let graph = graph().await;
    // What is set up once is not counted.
    taken(&world, &graph, 9).await;
    let small = taken(&world, &graph, 24).await;
    let large = taken(&world, &graph, 100).await;
    // A part that is filled, a part that is sent, and what signing and the engine in the same process copy of it.
    assert!(large < 6 * PART, "{large} bytes");
    assert!(large < small + PART, "{large} bytes, and {small} for a quarter of it");
}
