//! `make run`: the whole system on one machine. Starts and wires kept parts and our own, and holds no emulator itself.
//!
//! | part | file |
//! |---|---|
//! | what can be chosen | `settings.rs` |
//! | the folder that outlives a run | `state.rs` |
//! | programs: started, watched, stopped in order | `children.rs` |
//! | the AWS emulator and the template in it | `stack.rs` |
//! | the Meta simulator | `simulator.rs` |
//! | the speech-to-text endpoint, if it is asked for | `recogniser.rs`, which runs `../recogniser.py` |
//! | the functions and the HTTP entry | `entry.rs` |
//! | the demo connection, made through the JSON API | `demo.rs` |
//! | the platform's side: how queues are polled, the example agent, what events tell | `polling.rs`, `agent.rs`, `feed.rs` |
//! | the conversation that is played | `conversation.rs` |

mod agent;
mod children;
mod conversation;
mod demo;
mod entry;
mod feed;
mod polling;
mod recogniser;
mod settings;
mod simulator;
mod stack;
mod state;

use std::convert::Infallible;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use channel::aws::{Aws, Environment};
use channel::queues::{Queue, QueueUrls, Queues};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::children::Children;
use crate::demo::{Api, Shown};
use crate::polling::Polling;
use crate::settings::{Places, Settings};
use crate::simulator::Phone;
use crate::stack::{Stack, Template};
use crate::state::State;

/// How often we look whether a program answers.
const LOOK: Duration = Duration::from_millis(100);

/// How long a program may take until it answers. They take a second or two; a busy machine takes longer.
const START: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    // Nothing here speaks TLS, but an HTTP client wants to know who would.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let outcome =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime").and_then(|it| it.block_on(run()));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\n{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// From the first look at the settings to the last program stopped.
async fn run() -> Result<()> {
    let settings = settings()?;
    let state = State::take(&settings.state)?;
    children::ports_are_free(&settings.ports()).map_err(|it| anyhow::anyhow!(it.join("\n")))?;
    state.prepare(settings.is_fresh)?;
    let (children, mut deaths) = Children::new(&settings.state);
    let (stop, stopping) = watch::channel(false);
    let mut platform = JoinSet::new();
    let outcome = tokio::select! {
        outcome = serve(&settings, &state, &children, &mut platform, stopping) => outcome.map(|never| match never {}),
        Some(death) = deaths.recv() => Err(anyhow::anyhow!("{death}")),
        signal = asked_to_stop() => signal,
    };
    println!("\nStopping: agent, functions, Meta simulator, AWS emulator.");
    stop.send_replace(true);
    while platform.join_next().await.is_some() {}
    children.stop().await;
    outcome
}

fn settings() -> Result<Settings> {
    let program = std::env::current_exe().context("this program's own path is unknown")?;
    let places = Places::of(&program).context("this program is not in a target directory; start it by `make run`")?;
    let tools = ["ministack", "cargo-lambda"].map(|it| places.tool(it)).into_iter();
    for tool in tools.chain([places.binaries.join("meta-sim")]) {
        if !tool.exists() {
            bail!("{} is missing. `make run` makes it.", tool.display());
        }
    }
    Settings::read(places, |name| std::env::var(name).ok()).map_err(|it| anyhow::anyhow!(it.join("\n")))
}

/// Until Ctrl-C, or a polite signal, or the terminal goes away.
async fn asked_to_stop() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}

/// Starts everything in order, plays the conversation, and stays.
async fn serve(
    settings: &Settings,
    state: &State,
    children: &Children,
    platform: &mut JoinSet<()>,
    stopping: watch::Receiver<bool>,
) -> Result<Infallible> {
    // Everything is on this machine; what does not answer soon is looked at again.
    let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().context("no HTTP client")?;
    let master_key = state.master_key()?;
    let phone = Phone::new(&http, settings.meta_sim, &settings.demo.phone);
    println!("State and logs: {} ({})", settings.state.display(), if settings.is_fresh { "emptied" } else { "kept; FRESH=1 empties it" });

    let step = Step::new("AWS emulator");
    let text = include_str!("../../template.yaml");
    let template = Template::rewrite(text)?;
    children.start(stack::emulator(settings, state, &template.functions)?)?;
    until("the AWS emulator answers", async || stack::answers(&http, settings.aws).await).await?;
    step.done();

    let step = Step::new("infra/template.yaml deployed");
    let stack = stack::deploy(&http, settings.aws, &template, &master_key).await?;
    step.done();

    let step = Step::new("Meta simulator");
    children.start(simulator::program(settings, state))?;
    until("the Meta simulator answers", async || phone.is_there().await).await?;
    step.done();

    if let Some(address) = settings.speech {
        let step = Step::new("speech-to-text");
        children.start(recogniser::program(settings, address))?;
        until("the speech-to-text endpoint answers", async || recogniser::answers(&http, address).await).await?;
        step.done();
    }

    let step = Step::new("functions");
    children.start(entry::functions(settings, &stack, |name| std::env::var(name).ok()))?;
    until("the gateway answers", async || entry::answers(&http, settings).await).await?;
    wake_functions(&http, settings, &template).await.map_err(|it| anyhow::anyhow!("{it:#}\n{}", look_at_log(children)))?;
    step.done();

    let step = Step::new("demo connection");
    let connection = demo(&Api::new(&http, settings)).await?;
    step.done();

    let mut events = start_platform(platform, state, queues(&aws(settings), &stack)?, &stopping, settings.has_agent);
    if settings.demo.is_played && settings.has_agent && connection.is_running() {
        println!("\nA customer ({}) writes to number {}. Times are UTC.\n", settings.demo.phone, settings.demo.numbers[0]);
        if let Err(error) = conversation::play(&phone, &settings.demo.numbers[0], &mut events).await {
            // The stack stays up, so that the reason can be looked for.
            println!("\n{error:#}\n{}", look_at_log(children));
        }
    }
    print_addresses(settings, &connection.id);
    std::future::pending().await
}

/// Starts the example agent and the reader of `events`, until `stopping`. What events tell of our messages comes out.
fn start_platform(
    platform: &mut JoinSet<()>,
    state: &State,
    queues: Queues,
    stopping: &watch::Receiver<bool>,
    has_agent: bool,
) -> mpsc::UnboundedReceiver<feed::Told> {
    let polling = |queue, log| Polling { queues: queues.clone(), queue, log: state.file(log), stopping: stopping.clone() };
    let turns = polling(Queue::Turns, "turns.jsonl");
    let events = polling(Queue::Events, "events.jsonl");
    let (watcher, told) = mpsc::unbounded_channel();
    platform.spawn(events.run(move |body| {
        if let Some(it) = feed::decode(&body) {
            // Once the played conversation is over nobody watches.
            let _ = watcher.send(it);
        }
        std::future::ready(Ok(()))
    }));
    if has_agent {
        platform.spawn(turns.run(move |body| agent::answer(queues.clone(), body)));
    }
    told
}

/// The clients' configuration: the emulator, with keys that open nothing.
fn aws(settings: &Settings) -> Aws {
    let endpoint = format!("http://{}", settings.aws);
    Aws::new(Environment {
        region: stack::REGION.to_owned(),
        access_key_id: stack::ACCESS_KEY.to_owned(),
        secret_access_key: stack::ACCESS_KEY.to_owned(),
        session_token: None,
        endpoint_url_dynamodb: Some(endpoint.clone()),
        endpoint_url_sqs: Some(endpoint),
        endpoint_url_kms: None,
        endpoint_url_s3: None,
    })
}

/// The queues that a platform uses: it takes turns and events, and puts replies.
fn queues(aws: &Aws, stack: &Stack) -> Result<Queues> {
    let urls = QueueUrls::new()
        .with(Queue::Turns, stack.variable("QUEUE_TURNS")?)
        .with(Queue::Replies, stack.variable("QUEUE_REPLIES")?)
        .with(Queue::Events, stack.variable("QUEUE_EVENTS")?);
    Ok(Queues::new(aws.sqs(), urls))
}

/// Looks again and again until `is_so`.
async fn until(what: &str, is_so: impl AsyncFn() -> bool) -> Result<()> {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(START, wait).await.with_context(|| format!("Waited {} s in vain until {what}", START.as_secs()))
}

/// Lets every function answer once, so that the first customer waits for none.
async fn wake_functions(http: &reqwest::Client, settings: &Settings, template: &Template) -> Result<()> {
    for function in template.functions.iter().filter(|it| !["webhook", "control"].contains(&it.as_str())) {
        entry::wake(http, settings, function).await?;
    }
    entry::knock(http, settings).await?;
    entry::describe(http, settings).await
}

/// The demo connection, once its start has come to an end. If it does not run, a person reads why.
async fn demo(api: &Api<'_>) -> Result<Shown> {
    let connection = tokio::time::timeout(START, api.demo()).await;
    let connection = connection.with_context(|| format!("The demo connection is STARTING for {} s", START.as_secs()))??;
    if !connection.is_running() {
        let Shown { id, state } = &connection;
        println!("  The demo connection is {state}, and is left so; POST /v1/connections/{id}/start starts it.");
        println!("  Its Logs say: {}", api.last_line(id).await?);
    }
    Ok(connection)
}

fn look_at_log(children: &Children) -> String {
    format!("What the functions say is in {}", children.log("functions").display())
}

fn print_addresses(settings: &Settings, connection: &str) {
    let Settings { gateway, meta_sim, aws, demo, api_token, speech_key, .. } = settings;
    let speech = settings
        .speech
        .map(|it| format!("Speech-to-text {} (hears English; any model; key: {speech_key}, from SPEECH_KEY)\n", recogniser::url(it)));
    println!(
        "
Webhooks       {}
Graph API      http://{meta_sim} (Meta simulator; its switches are under /sim)
AWS            http://{aws} (region {}, any key)
JSON API       http://{gateway}/v1 (described by /v1/openapi.json; bearer token: {api_token}, from API_TOKEN)
{}Connection     {connection}
Functions      http://{gateway}/2015-03-31/functions/<name>/invocations

Go on as the customer, then look at the phone:

  curl -s http://{meta_sim}/sim/phones/{phone}/messages -H 'content-type: application/json' -d '{{\"to\":\"{number}\",\"text\":\"Thank you!\"}}'
  curl -s http://{meta_sim}/sim/phones/{phone}

Look at the connection as the platform does:

  curl -s http://{gateway}/v1/connections/{connection}/logs -H 'authorization: Bearer {api_token}'

Changed code is loaded at the next call. Ctrl-C stops everything; `make run` goes on from there.",
        entry::callback(settings),
        stack::REGION,
        speech.unwrap_or_default(),
        phone = demo.phone,
        number = demo.numbers[0],
    );
}

/// One line of progress with the time that it took.
struct Step {
    what: &'static str,
    started: Instant,
}

impl Step {
    fn new(what: &'static str) -> Self {
        Self { what, started: Instant::now() }
    }

    fn done(self) {
        println!("  {:<28} {:>5.1} s", self.what, self.started.elapsed().as_secs_f64());
    }
}
