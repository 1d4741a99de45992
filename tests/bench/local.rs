//! A small campaign beside customers who write, on the local stack: the real functions in processes of their own, by the machine's clock.
//!
//! The AWS emulator carries about a hundred messages a second for all queues together, so the numbers here are slow ones. A write takes
//! tenths of a second there: sends leave late, some together, and Meta may throttle a few. Rates are shown, not judged.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use channel::aws::{Aws, Environment};
use channel::queues::{Entry, Queue, QueueUrls, Queues};
use serde_json::{Value, json};
use world::story::campaigns::{LANGUAGE, OFFER};
use world::template::{ACCOUNT, REGION};

use crate::goals::Findings;

/// Customers of the campaign.
const CUSTOMERS: usize = 60;
/// The demo connection's numbers.
const NUMBERS: [&str; 2] = ["100000000000001", "100000000000002"];
/// Where campaigns put their jobs.
const QUEUE: &str = "whatsapp-channel-template-sends";
/// What Meta lets each of them send and receive a second.
const PER_SECOND: f64 = 5.0;
/// Meta has no such level, so a number counts as one of 80: campaigns are given this part of it, three a second: a customer who writes and is answered takes two.
const SHARE: f64 = 0.0375;
const SHARE_PER_SECOND: f64 = 80.0 * SHARE;
/// How often a customer writes beside it.
const TALKS_EVERY: Duration = Duration::from_secs(2);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// Starts a stack of its own, sends, and stops it.
pub(crate) async fn local(findings: &mut Findings) -> Result<()> {
    println!(
        "A campaign of {CUSTOMERS} jobs over {} numbers of {PER_SECOND} a second on the local stack, {SHARE_PER_SECOND} of it for campaigns",
        NUMBERS.len()
    );
    let stack = Stack::start()?;
    for number in NUMBERS {
        stack.post(&format!("/sim/numbers/{number}"), &json!({ "throughput": PER_SECOND as usize })).await?;
    }
    let alone = stack.talk("alone", 5).await?;
    stack.begin().await?;
    stack.enqueue(0..=CUSTOMERS - 1).await?;
    let beside = stack.talk("beside", 10).await?;
    let received = stack.until_all_received().await?;

    let mut times: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let templates: Vec<Vec<&Value>> = received.iter().map(|it| it.iter().filter(|it| !it["template"].is_null()).collect()).collect();
    for it in templates.iter().flatten() {
        times.entry(it["number"].as_str().unwrap_or_default().to_owned()).or_default().push(it["at_ms"].as_i64().unwrap_or_default());
    }
    let mut throttled = 0.0;
    for number in NUMBERS {
        let mut times = times.remove(number).unwrap_or_default();
        times.sort_unstable();
        let half = &times[..times.len().div_ceil(2)];
        let rate = |times: &[i64]| match times {
            [first, .., last] => (times.len() - 1) as f64 * 1_000.0 / (last - first) as f64,
            _ => 0.0,
        };
        let busiest = times.iter().map(|at| times.iter().filter(|it| (*at..at + 1_000).contains(it)).count()).max().unwrap_or_default();
        findings.found(&format!("local: templates sent by {number}"), times.len() as f64);
        findings.found("  rate, of its share, until half are out", rate(half) / SHARE_PER_SECOND);
        findings.found("  the most within a second", busiest as f64);
        throttled += stack.get(&format!("/sim/numbers/{number}/sends")).await?["throttled"].as_f64().unwrap_or_default();
    }
    findings.found("local: throttled by Meta (130429)", throttled);
    findings.found("local: customers who got it twice", templates.iter().filter(|it| it.len() > 1).count() as f64);
    findings.found("local: customers who got nothing", (CUSTOMERS - templates.iter().filter(|it| !it.is_empty()).count()) as f64);
    findings.found("local: delay of a reply without a campaign: median, ms", median(alone));
    findings.found("local: delay of a reply beside a campaign: median, ms", median(beside));
    Ok(())
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_unstable_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}

fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

fn phone(index: usize) -> String {
    format!("346{index:08}")
}

/// A local stack with a folder and ports of its own; stopped when dropped.
struct Stack {
    process: Child,
    gateway: String,
    simulator: String,
    queues: Queues,
    http: reqwest::Client,
}

impl Stack {
    fn start() -> Result<Self> {
        let target = std::env::current_exe()?.ancestors().nth(3).context("this program is not in a target directory")?.to_owned();
        let program = target.join("debug/local");
        ensure!(program.exists(), "{} is missing: `make setup` builds it", program.display());
        // All are held until all are known, so that no two are the same.
        let held: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
        let addresses: Vec<String> = held.iter().map(|it| Ok(it.local_addr()?.to_string())).collect::<Result<_>>()?;
        drop(held);
        let process = command(&program, &target.join("bench-local"), &addresses).spawn()?;
        let [gateway, simulator, aws] = [0, 1, 2].map(|it| format!("http://{}", addresses[it]));
        let mut stack = Self { process, gateway, simulator, queues: queues(&aws)?, http: meta_sim::loopback_client() };
        stack.says_that_it_is_ready()?;
        Ok(stack)
    }

    fn says_that_it_is_ready(&mut self) -> Result<()> {
        let mut said = String::new();
        let mut lines = BufReader::new(self.process.stdout.take().context("its output is a pipe")?).lines();
        for line in lines.by_ref() {
            let line = line?;
            said.push_str(&line);
            said.push('\n');
            if line.contains("Ctrl-C stops everything") {
                // Reads on until the end: a full pipe would stop the process.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(());
            }
        }
        bail!("the local stack did not start:\n{said}")
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let answer = self.http.post(format!("{}{path}", self.simulator)).body(body.to_string()).send().await?.error_for_status()?;
        Ok(serde_json::from_str(&answer.text().await?)?)
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let answer = self.http.get(format!("{}{path}", self.simulator)).send().await?.error_for_status()?;
        Ok(serde_json::from_str(&answer.text().await?)?)
    }

    /// Customers write, one after the other; how long each waited for the answer, in milliseconds.
    async fn talk(&self, word: &str, times: usize) -> Result<Vec<f64>> {
        let mut delays = Vec::new();
        let mut ticks = tokio::time::interval(TALKS_EVERY);
        for index in 0..times {
            ticks.tick().await;
            let who = format!("347{:08}", index % 5);
            let (words, written_ms) = (format!("{word} {index}"), now_ms());
            let message = json!({ "to": NUMBERS[index % 5 % 2], "text": words });
            self.post(&format!("/sim/phones/{who}/messages"), &message).await?;
            let is_answer = |it: &&Value| it["text"].as_str().is_some_and(|it| it.contains(&words));
            let answer = self
                .look(&format!("/sim/received?who={who}"), |it| it["received"].as_array()?.iter().find(is_answer).cloned())
                .await
                .with_context(|| format!("{words:?} is not answered"))?;
            delays.push(answer["at_ms"].as_f64().unwrap_or_default() - written_ms as f64);
        }
        Ok(delays)
    }

    /// The id of the demo connection, which is the only one.
    async fn connection(&self) -> Result<String> {
        let request = self.http.get(format!("{}/v1/connections", self.gateway)).bearer_auth("local-api-token");
        let answer: Value = serde_json::from_str(&request.send().await?.error_for_status()?.text().await?)?;
        answer["items"][0]["id"].as_str().map(str::to_owned).context("the API lists no connection")
    }

    /// One customer gets it before all others: until then nobody may have read Meta's list of templates, and functions may be asleep.
    async fn begin(&self) -> Result<()> {
        self.enqueue(CUSTOMERS..=CUSTOMERS).await?;
        let path = format!("/sim/received?who={}", phone(CUSTOMERS));
        self.post("/sim/customers", &json!({ "phone": phone(CUSTOMERS) })).await?;
        let is_there = |it: &Value| it["received"].as_array().filter(|it| !it.is_empty()).map(drop);
        self.look(&path, is_there).await.context("the first template does not arrive")
    }

    /// Puts jobs for these customers into the campaigns' queue.
    async fn enqueue(&self, customers: RangeInclusive<usize>) -> Result<()> {
        let (millis, connection) = (now_ms(), self.connection().await?);
        let job = |index: usize| {
            let id = format!("{:08x}-{:04x}-7000-8000-0000{index:08x}", millis >> 16, millis & 0xffff);
            let job = json!({
                "v": 1, "id": id, "tenant": "demo", "connection": connection, "to": { "phone": phone(index) },
                "template": OFFER, "language": LANGUAGE, "values": { "body": ["Ana"] },
            });
            Entry { body: job.to_string(), group: Some(connection.clone()), deduplication: None }
        };
        Ok(self.queues.send(Queue::TemplateSends, customers.map(job).collect()).await?)
    }

    /// What each customer of the campaign has received, once all have received something.
    async fn until_all_received(&self) -> Result<Vec<Vec<Value>>> {
        let of_all = |it: &Value| (0..CUSTOMERS).map(|index| it["received"][phone(index)].as_array().cloned()).collect::<Option<Vec<_>>>();
        self.look("/sim/received", of_all).await.context("not all customers of the campaign have received it")
    }

    async fn look<T>(&self, path: &str, look: impl Fn(&Value) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        while Instant::now() < deadline {
            ticks.tick().await;
            if let Some(it) = look(&self.get(path).await?) {
                return Ok(it);
            }
        }
        bail!("waited {} s in vain", PATIENCE.as_secs())
    }
}

impl Drop for Stack {
    /// An orderly end: the stack stops its children.
    fn drop(&mut self) {
        let asked = Command::new("kill").args(["-INT", &self.process.id().to_string()]).status();
        if asked.is_ok_and(|it| it.success()) {
            let _ = self.process.wait();
        }
    }
}

fn command(program: &Path, state: &Path, addresses: &[String]) -> Command {
    let mut command = Command::new(program);
    command
        .env("LOCAL_STATE", state)
        .env("FRESH", "1")
        .env("DEMO_CONVERSATION", "0")
        .env("CAMPAIGN_SHARE", SHARE.to_string())
        .env("GATEWAY_ADDRESS", &addresses[0])
        .env("META_SIM_ADDRESS", &addresses[1])
        .env("AWS_EMULATOR_ADDRESS", &addresses[2])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// The queue of the campaign, at the emulator.
fn queues(aws: &str) -> Result<Queues> {
    let environment = Environment {
        region: REGION.to_owned(),
        access_key_id: "local".to_owned(),
        secret_access_key: "local".to_owned(),
        session_token: None,
        endpoint_url_dynamodb: Some(aws.to_owned()),
        endpoint_url_sqs: Some(aws.to_owned()),
        endpoint_url_kms: None,
        endpoint_url_s3: None,
    };
    let url = format!("{aws}/{ACCOUNT}/{QUEUE}");
    Ok(Queues::new(Aws::new(environment).sqs(), QueueUrls::new().with(Queue::TemplateSends, url)))
}
