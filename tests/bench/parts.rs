//! What the parts of the code take that run for every message, in nanoseconds: the best of some rounds, since others can only slow it down.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use channel::counts::Counts;
use channel::directory::{Directory, Owners};
use channel::ingest::Ingest;
use channel::queues::{QueueUrls, Queues};
use domain::conversation::{Conversation, TemplateSend};
use domain::ids::{ConversationId, MessageKey, NumberId};
use domain::rotation::Pace;
use futures::FutureExt as _;
use meta::signature::AppSecrets;
use world::story::campaigns::OFFER;
use world::story::{ANA, APP, APP_SECRET, CAMPAIGN_SHARE, NUMBER, World, connection_id, vault};

use crate::campaign::listed;
use crate::goals::Findings;

/// How often each part is run in a round: for less than a millisecond, so that most rounds are not interrupted.
const TIMES: u32 = 100;
/// How many rounds there are.
const ROUNDS: u32 = 2_000;

/// Runs them.
pub(crate) async fn parts(findings: &mut Findings) -> Result<()> {
    println!("Parts of the code, the best of {ROUNDS} rounds of {TIMES}");
    let world = World::new().await;
    world.may_leave_messages();
    webhook(&world, findings).await?;
    template(&world, findings)
}

/// One text message of a customer, signed, as Meta sends it.
async fn webhook(world: &World, findings: &mut Findings) -> Result<()> {
    world.writes(ANA, "Hello! Is my order on its way? I would like to change the address.");
    let webhook = world.meta.take_webhooks().pop().context("Meta tells of the message")?;
    let (bytes, signature) = (webhook.body.as_slice(), webhook.signature.as_str());
    findings.found("the webhook, bytes", bytes.len() as f64);
    let secrets = AppSecrets::new(APP_SECRET.as_bytes(), None);
    findings.found("verify, ns", nanoseconds(|| secrets.verify(bytes, Some(signature)).is_ok()));
    let verified = secrets.verify(bytes, Some(signature))?;
    findings.found("parse, ns", nanoseconds(|| meta::webhook::parse(&verified)));
    // All that the function does before SQS is called: it has no queue to send to, and that is found out last.
    let (directory, owners) = (Directory::new(world.store.clone(), vault()), Owners::new(world.store.clone()));
    let queues = Queues::new(world.sqs.sdk_config("bench").build(), QueueUrls::new());
    let counts = Counts::new();
    let ingest = Ingest { queues: &queues, directory: &directory, owners: &owners, counts: &counts };
    let receive = || ingest.receive(APP, Some(signature), bytes, world.now());
    // The first one reads the app and the number; from then on they are remembered.
    anyhow::ensure!(receive().await.is_err(), "there is a queue");
    anyhow::ensure!(receive().now_or_never().is_some(), "the app and the number are remembered");
    findings.found("verify, parse and split a webhook of 600 bytes, ns", nanoseconds(|| receive().now_or_never().is_some()));
    Ok(())
}

fn template(world: &World, findings: &mut Findings) -> Result<()> {
    let job = world.offer(ANA, 1);
    let template = listed().into_iter().find(|it| it.name.as_str() == OFFER).context("the template is listed")?;
    let (now, nobody) = (world.now(), BTreeMap::new());
    let filled = template.fill(&job.values, &nobody, now).ok().context("the values fit")?;
    findings.found("check and fill a template, ns", nanoseconds(|| template.fill(&job.values, &nobody, now).is_ok()));

    let pace = Pace::new(80, CAMPAIGN_SHARE);
    let horizon = Duration::from_secs(2);
    let lease = || {
        let slots = pace.room(black_box(None), 25, now, horizon);
        pace.times(slots.first_us, slots.count)
    };
    findings.found("the slots of a batch of 25, ns", nanoseconds(lease));

    let conversation = ConversationId::parse("m3Jx0iCkXqA1v9sZ4tYbWg")?;
    let message = MessageKey::parse(&format!("{conversation}/{:013}/{}", now.as_millis(), job.id))?;
    let number = NumberId::parse(NUMBER)?;
    let (usable, fresh) = ([number.clone()], Conversation::new(conversation, connection_id()));
    let wish = TemplateSend { message: &message, category: filled.category(), utility_exempt: false, resends: None };
    let reserve = || fresh.clone().reserve(&wish, &usable, &number, now).is_ok();
    findings.found("reserve a conversation, with a copy of it, ns", nanoseconds(reserve));
    Ok(())
}

/// How long this takes once.
fn nanoseconds<T>(mut work: impl FnMut() -> T) -> f64 {
    let round = |_| {
        let began = Instant::now();
        (0..TIMES).for_each(|_| drop(black_box(work())));
        (began.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES)).round()
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}
