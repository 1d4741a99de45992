//! A campaign beside customers who write and are answered, on the same numbers: in the world of the suite, by its clock and its engines.
//!
//! Judged by the simulator's books. Nothing here is a speed of this machine but the wall time.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use channel::connections::{self, NewConnection, StartOptions};
use channel::directory::REMEMBERED_TO_SEND;
use channel::jobs::{Happened, Label, TemplateSend};
use domain::ids::NumberId;
use domain::template::Template;
use futures::future::join;
use meta::numbers::NumberState;
use meta_sim::{App, Fault, Mode, Received, Setup, demo_templates};
use serde_json::json;
use world::mapping::{Delivery, Freely};
use world::story::{ACCESS_TOKEN, APP, APP_SECRET, CAMPAIGN_SHARE, VERIFY_TOKEN, WABA, World, connection_id, demo};

use crate::goals::Findings;

/// How many customers write in turns to each number.
const TALKERS: usize = 60;
/// How many of them write each second, to each number. With the answers they stay in what campaigns leave of a number of 80 a second.
const TALKS: usize = 5;
/// The functions that send, as their calls are booked.
const FUNCTIONS: [&str; 5] = ["webhook", "inbound", "replies", "templates", "statuses"];
/// The rate is taken until so many of a number's sends are out. What finds no slot waits for tens of seconds, however long the campaign is:
/// in the end there are only those.
const STEADY: f64 = 0.5;

/// A campaign that is stopped is so after this long…
const STOPS_AFTER: Duration = Duration::from_secs(10);
/// …and started again after this long.
const STARTS_AFTER: Duration = Duration::from_secs(45);

/// How much is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Jobs of the campaign, each to a customer of its own.
    pub(crate) jobs: usize,
    /// Numbers of the connection.
    pub(crate) numbers: usize,
    /// What each number may send and receive a second.
    pub(crate) per_second: u32,
}

impl Scale {
    /// What campaigns may send from one number a second.
    fn share(&self) -> f64 {
        f64::from(self.per_second) * CAMPAIGN_SHARE
    }

    /// For how long customers write: a little longer than the campaign should take.
    fn talking(&self) -> Duration {
        let campaign = self.jobs as f64 / (self.share() * self.numbers as f64);
        Duration::from_secs_f64((campaign * 1.3).max(20.0))
    }
}

/// How a campaign without trouble goes, and what the customers who write beside it notice.
pub(crate) async fn campaign(scale: &Scale, findings: &mut Findings) {
    println!(
        "A campaign of {} jobs over {} numbers of {} a second, {CAMPAIGN_SHARE} of it for campaigns, beside {} customers a second who are answered",
        scale.jobs,
        scale.numbers,
        scale.per_second,
        TALKS * scale.numbers
    );
    let freely = Freely { workers: 50, trouble: None };
    let alone = Run::of(world(scale).await, scale, Vec::new(), freely, |_| ()).await;
    let beside = Run::of(world(scale).await, scale, phones(scale.jobs), freely, |_| ()).await;
    beside.rates(scale, findings);
    beside.replies(findings);
    let (delays, alone) = (beside.delays(), alone.delays());
    for (name, delays) in [("without", &alone), ("beside", &delays)] {
        findings.found(&format!("delay of a reply {name} a campaign: median, ms"), at(delays, 0.5));
        findings.found(&format!("delay of a reply {name} a campaign: longest, ms"), at(delays, 1.0));
    }
    findings.found("longest delay of a reply beside the campaign, more than without, ms", at(&delays, 1.0) - at(&alone, 1.0));
    beside.costs("somebody new", findings);
    beside.outcome(findings);

    // The same customers a day later: their addresses are known, and their numbers.
    beside.world.clock.advance(Duration::from_hours(25));
    let known = scale.jobs.div_ceil(5);
    println!("\nThe next day a campaign of {known} jobs to some of the same customers");
    let Run { world, .. } = beside;
    let again = Run::of(world, scale, phones(known), freely, |_| ()).await;
    again.costs("somebody known", findings);
    again.outcome(findings);
}

/// The same when everything goes wrong: each customer gets it once, or it is told by name that nobody knows.
pub(crate) async fn faults(scale: &Scale, findings: &mut Findings) {
    println!(
        "A campaign of {} jobs in trouble: of Meta's answers 30 % are cut after it has accepted, 5 % are 130429, 1 % are 500 (half of them accepted);\n\
         its webhooks come twice and in any order, batches of any size in any order, one in eight twice",
        scale.jobs
    );
    let freely = Freely { workers: 50, trouble: Some(7) };
    let run = Run::of(world(scale).await, scale, phones(scale.jobs), freely, |world| {
        world.meta.set_mode(Mode { duplicate: 1, shuffle: true, batch: 10, ..Mode::default() });
        world.meta.sow(7);
        world.meta.fail_share(None, 0.30, Fault::CutAfter);
        world.meta.fail_share(None, 0.05, Fault::Error { code: 130_429, subcode: None });
        world.meta.fail_share(None, 0.005, Fault::Server { status: 500, accepted: true });
        world.meta.fail_share(None, 0.005, Fault::Server { status: 500, accepted: false });
    })
    .await;
    run.replies(findings);
    run.outcome(findings);
}

/// A campaign that a person stops in its middle, and starts again within a minute: nothing is sent meanwhile, everything afterwards.
pub(crate) async fn stops(scale: &Scale, findings: &mut Findings) {
    println!("A campaign of {} jobs that is stopped after {STOPS_AFTER:?} and started {STARTS_AFTER:?} later", scale.jobs);
    let freely = Freely { workers: 50, trouble: None };
    let meanwhile = Cell::new((0, 0));
    let stops = async |world: &World| {
        world.clock.until(world.now().plus(STOPS_AFTER).as_millis()).await;
        let stopped_ms = world.clock.now_ms();
        connections::stop(&world.store, &world.queues, &connection_id(), world.now()).await.expect("the store answers");
        world.clock.until(world.now().plus(STARTS_AFTER).as_millis()).await;
        meanwhile.set((stopped_ms, world.clock.now_ms()));
        world.starts(&connection_id(), StartOptions::default()).await;
    };
    let run = Run::beside(world(scale).await, scale, phones(scale.jobs), freely, |_| (), stops).await;
    let (stopped_ms, started_ms) = meanwhile.get();
    // Whoever sends remembers a connection for so long.
    let stopped = stopped_ms.saturating_add_unsigned(REMEMBERED_TO_SEND.as_millis() as u64)..started_ms;
    let times: Vec<i64> = run.received().into_values().flatten().map(|it| it.at_ms).collect();
    findings.found("sent before the stop", times.iter().filter(|it| **it < stopped_ms).count() as f64);
    findings.found("sent while it was stopped", times.iter().filter(|it| stopped.contains(it)).count() as f64);
    findings.found("refused", run.world.codes().len() as f64);
    run.replies(findings);
    run.outcome(findings);
}

/// The telephones of the customers of a campaign.
fn phones(count: usize) -> Vec<String> {
    (0..count).map(|it| format!("346{it:08}")).collect()
}

/// A customer who writes to a number in turns with others.
fn talker(index: usize) -> String {
    format!("347{index:08}")
}

/// A world in which something was measured.
struct Run {
    world: World,
    /// When the campaign began.
    began_ms: i64,
    /// Whom it was to reach.
    phones: BTreeSet<String>,
    numbers: Vec<String>,
    /// The words that were written, by whom and when, in order.
    written: Vec<(String, String, i64)>,
    /// What the functions counted, by name.
    counts: BTreeMap<&'static str, u64>,
    took: Duration,
}

impl Run {
    /// The campaign is enqueued at once; customers write while it runs; all ends when nothing is left to do.
    async fn of(world: World, scale: &Scale, phones: Vec<String>, freely: Freely, arrange: impl FnOnce(&World)) -> Self {
        Self::beside(world, scale, phones, freely, arrange, async |_| ()).await
    }

    /// The same, with something that is done meanwhile.
    async fn beside(
        world: World,
        scale: &Scale,
        phones: Vec<String>,
        freely: Freely,
        arrange: impl FnOnce(&World),
        meanwhile: impl AsyncFnOnce(&World),
    ) -> Self {
        // Everybody has written before in this hour: conversations are there, and what is remembered is warm.
        let calm = Freely { trouble: None, ..freely };
        world.run_until(calm, talk(&world, scale, TALKERS * scale.numbers)).await;
        // And that second's messages are out of Meta's count.
        world.clock.advance(Duration::from_secs(2));
        arrange(&world);
        let (began, began_ms) = (Instant::now(), world.clock.now_ms());
        lambda::metrics::start("bench");
        world.dynamo.reset_units();
        world.dynamo.faults().reset_calls();
        world.sqs.faults().reset_calls();
        let campaign = Label::try_from("bench".to_owned()).ok();
        let job = |(phone, serial): (&String, u32)| TemplateSend { campaign: campaign.clone(), ..world.offer(phone, serial) };
        let jobs: Vec<TemplateSend> = phones.iter().zip(0..).map(job).collect();
        let talks = usize::try_from(scale.talking().as_secs()).unwrap_or_default() * TALKS * scale.numbers;
        let story = async {
            world.campaigns_all(&jobs).await;
            join(talk(&world, scale, talks), meanwhile(&world)).await.0
        };
        let written = world.run_until(freely, story).await;
        let numbers = (0..scale.numbers).map(number).collect();
        let counts = lambda::metrics::take();
        Self { world, began_ms, phones: phones.into_iter().collect(), numbers, written, counts, took: began.elapsed() }
    }

    /// What each customer has received since the campaign began.
    fn received(&self) -> BTreeMap<String, Vec<Received>> {
        let mut all = self.world.meta.all_received();
        all.values_mut().for_each(|it| it.retain(|it| it.at_ms >= self.began_ms));
        all
    }

    /// The templates that were received, by number, as the milliseconds since the campaign began.
    fn templates(&self) -> BTreeMap<String, Vec<i64>> {
        let mut times: BTreeMap<String, Vec<i64>> = self.numbers.iter().map(|it| (it.clone(), Vec::new())).collect();
        for it in self.received().into_values().flatten().filter(|it| it.template.is_some()) {
            times.entry(it.number).or_default().push(it.at_ms - self.began_ms);
        }
        times.values_mut().for_each(|it| it.sort_unstable());
        times
    }

    fn rates(&self, scale: &Scale, findings: &mut Findings) {
        let mut ratios = Vec::new();
        for (number, times) in self.templates() {
            let rate = |count: usize| {
                let seconds = (times[count - 1] - times[0]) as f64 / 1_000.0;
                (count - 1) as f64 / seconds / scale.share()
            };
            findings.found(&format!("sent by {number}"), times.len() as f64);
            if times.len() < 2 {
                ratios.push(0.0);
                continue;
            }
            let steady = ((times.len() as f64 * STEADY) as usize).max(2);
            findings.found(&format!("  rate, of its share of {} a second, until half are out", scale.share()), rate(steady));
            findings.found("  the same until all are out, with the waits at the end", rate(times.len()));
            ratios.push(rate(steady));
        }
        ratios.sort_unstable_by(f64::total_cmp);
        findings.found("rate per number, of its share: the slowest", at(&ratios, 0.0));
        findings.found("rate per number, of its share: the fastest", at(&ratios, 1.0));
        let throttled: u64 = self.numbers.iter().map(|it| self.world.meta.throttled_of(it)).sum();
        findings.found("throttled by Meta (130429)", throttled as f64);
    }

    /// Of each answer, how long after the customer's words it was accepted by Meta, in order of length.
    fn delays(&self) -> Vec<f64> {
        let written: BTreeMap<&str, i64> = self.written.iter().map(|it| (it.0.as_str(), it.2)).collect();
        let received = self.received();
        let answers = received.values().flatten().filter_map(|it| Some((asked(it)?, it.at_ms)));
        let mut delays: Vec<f64> = answers.filter_map(|(words, at_ms)| Some((at_ms - written.get(words)?) as f64)).collect();
        delays.sort_unstable_by(f64::total_cmp);
        delays
    }

    /// Whether everybody who wrote was answered, once and in order.
    fn replies(&self, findings: &mut Findings) {
        let received = self.received();
        let mut answers: BTreeMap<&str, usize> = BTreeMap::new();
        let mut disordered = 0;
        for received in received.values() {
            let asked: Vec<&str> = received.iter().filter_map(asked).collect();
            asked.iter().for_each(|it| *answers.entry(it).or_default() += 1);
            let order = |words: &&str| words.rsplit(' ').next().and_then(|it| it.parse::<u64>().ok());
            disordered += usize::from(!asked.iter().map(order).is_sorted());
        }
        let lost = self.written.iter().filter(|it| !answers.contains_key(it.0.as_str())).count();
        let doubled = answers.values().filter(|it| **it > 1).count();
        let again = self.count("send.second_attempt");
        findings.found("customers' messages answered", answers.len() as f64);
        findings.found("replies lost", lost as f64);
        findings.found("replies doubled, and no second attempt by name", (doubled as f64 - again).max(0.0));
        findings.found("customers answered out of order", disordered as f64);
    }

    /// What the campaign came to, by Meta's books and ours.
    fn outcome(&self, findings: &mut Findings) {
        let received = self.received();
        let times = |phone: &String| received.get(phone).map_or(0, |it| it.iter().filter(|it| it.template.is_some()).count());
        let none = self.phones.iter().filter(|it| times(it) == 0).count();
        let unconfirmed = self.unconfirmed_templates();
        findings.found("jobs", self.phones.len() as f64);
        findings.found("customers who got it once", self.phones.iter().filter(|it| times(it) == 1).count() as f64);
        findings.found("customers who got it twice", self.phones.iter().filter(|it| times(it) > 1).count() as f64);
        findings.found("customers who got nothing, and whose send is unconfirmed", unconfirmed as f64);
        findings.found("customers who got nothing, unexplained", none as f64 - unconfirmed as f64);
        for name in ["send.unknown", "send.second_attempt", "send.witnessed", "send.unconfirmed", "slot.wasted", "batch.nap"] {
            findings.found(&format!("counted by name: {name}"), self.count(name));
        }
        let left = self.world.sqs.depths();
        let dead: usize = left.iter().filter(|it| it.0.contains("dead-letters")).map(|it| it.1).sum();
        findings.found("dead letters", dead as f64);
        let (messages, ends) = (self.world.clock.now_ms() - self.began_ms, self.took);
        findings.found("time until nothing was left to do, by the turned clock, s", messages as f64 / 1_000.0);
        findings.found("wall time on this machine, s", ends.as_secs_f64());
    }

    /// How many templates ended so, by the feed.
    fn unconfirmed_templates(&self) -> usize {
        let of_campaign = |what: &Happened| match what {
            Happened::MessageState { step, campaign, .. } => step == "unconfirmed" && campaign.is_some(),
            _ => false,
        };
        self.world.events().iter().filter(|it| of_campaign(&it.what)).count()
    }

    /// Units and calls, per message.
    fn costs(&self, to: &str, findings: &mut Findings) {
        let sends: usize = self.templates().values().map(Vec::len).sum();
        let (templates, replies) = (sends as f64, self.written.len() as f64);
        let units = FUNCTIONS.map(|it| self.world.dynamo.units(it));
        let [_, inbound, answers, sent, statuses] = units;
        findings.found("write units per inbound", inbound.write / replies);
        findings.found("write units per reply", answers.write / replies);
        findings.found("read units per reply", answers.read / replies);
        findings.found(&format!("write units per template to {to}"), sent.write / templates);
        findings.found(&format!("read units per template to {to}"), sent.read / templates);
        findings.found("writes refused by their condition, per template", sent.refused as f64 / templates);
        // Two each: sent and delivered. The first one to somebody new tells their user id.
        findings.found(&format!("write units per status, templates to {to}"), statuses.write / (2.0 * (templates + replies)));
        let calls = |all: BTreeMap<String, u64>| all.values().sum::<u64>() as f64;
        findings.found("DynamoDB calls per template", calls(self.world.dynamo.faults().calls_by("templates")) / templates);
        findings.found("SQS calls of the function per template", calls(self.world.sqs.faults().calls_by("templates")) / templates);
        findings.found("SQS calls of the function per reply", calls(self.world.sqs.faults().calls_by("replies")) / replies);
    }

    fn count(&self, name: &str) -> f64 {
        self.counts.get(name).copied().unwrap_or_default() as f64
    }
}

/// So many customers write, steadily and to all numbers alike, and all that follows from it happens: the words, by whom and when.
async fn talk(world: &World, scale: &Scale, talks: usize) -> Vec<(String, String, i64)> {
    let (began_ms, pause_us) = (world.clock.now_ms(), 1_000_000 / (TALKS * scale.numbers));
    let mut written = Vec::new();
    for index in 0..talks {
        let at_ms = began_ms.saturating_add_unsigned(u64::try_from(index * pause_us / 1_000).unwrap_or_default());
        world.clock.until(at_ms).await;
        let (who, words) = (talker(index % (TALKERS * scale.numbers)), format!("question {index}"));
        world.meta.customer_writes(&who, &number(index % scale.numbers), words.as_str()).expect("the customer can write");
        written.push((words, who, at_ms));
    }
    world.comes_true(is_quiet).await;
    written
}

/// The customer's words that a reply answers.
fn asked(received: &Received) -> Option<&str> {
    received.text.as_deref()?.strip_prefix("You said: ")
}

/// Whether nothing is left to do: no job, no webhook, nobody who waits.
fn is_quiet(world: &World) -> bool {
    let waits = world.sqs.next_visible_ms().is_some() || world.meta.next_webhook_at_ms().is_some() || world.clock.next_wake_ms().is_some();
    !waits && world.template.mappings.values().all(|it| !world.sqs.has_visible(&world.template.queue(&it.queue).name))
}

/// The value that this part of the others, in order, does not exceed; nothing is 0.
fn at(sorted: &[f64], part: f64) -> f64 {
    let index = (sorted.len().saturating_sub(1) as f64 * part).round() as usize;
    sorted.get(index).copied().unwrap_or_default()
}

fn number(index: usize) -> String {
    format!("1000000000{:05}", index + 1)
}

/// A connection with these numbers.
async fn world(scale: &Scale) -> World {
    let numbers: Vec<String> = (0..scale.numbers).map(number).collect();
    let ids: Vec<&str> = numbers.iter().map(String::as_str).collect();
    let app = App { verify_token: VERIFY_TOKEN.to_owned(), ..App::new(APP, APP_SECRET) };
    let mut setup = Setup::of(app, WABA, ACCESS_TOKEN, &ids);
    setup.numbers.iter_mut().for_each(|it| it.throughput = scale.per_second as usize);
    let numbers: Vec<NumberId> = ids.iter().map(|it| NumberId::parse(*it).expect("an id")).collect();
    let world = World::connected(Delivery::Once, setup, &NewConnection { numbers: numbers.clone(), ..demo() }).await;
    // Meta names levels only, and has said so already: this is said later.
    let (state, later) =
        (NumberState { per_second: Some(scale.per_second), ..NumberState::default() }, world.now().plus(Duration::from_millis(1)));
    for it in &numbers {
        world.store.note_number(it, &connection_id(), &state, later).await.expect("the store answers");
    }
    // What lies in dead letters in the end is a finding, told with the others.
    world.may_leave_messages();
    world
}

/// The demo templates, as we read Meta's list of them.
pub(crate) fn listed() -> Vec<Template> {
    let entries = demo_templates().map(|it| {
        json!({ "id": it.id, "name": it.name, "language": it.language, "status": it.status, "category": it.category,
                "parameter_format": it.parameter_format, "components": it.components })
    });
    let page = meta::templates::page(json!({ "data": entries }).to_string().as_bytes());
    page.expect("a list").templates
}
