//! A whole world to tell stories in: Meta simulated, the functions' own handlers, real engines, an agent, and a clock to turn.
//!
//! Nothing happens by itself: [`World::settle`] lets everything happen that can happen now, [`World::pass`] lets time pass. Or all of it
//! does, as in the cloud and in a time of its own: [`World::run_until`], [`World::run_out`].

mod api;
pub mod campaigns;
mod freely;
mod https;
mod verbs;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use channel::checks::CheckSettings;
use channel::connections::{self, ConnectionEdit, Edited, NewConnection, StartOptions, Started};
use channel::counts::Counts;
use channel::handling;
use channel::jobs::{Author, FeedEvent, Reply, Turn, V1};
use channel::owed::{self, Walked};
use channel::people;
use channel::queues::{Entry, Queue, QueueUrls, Queues};
use channel::signup::ServerApp;
use channel::store::{Store, Tables};
use channel::templates::TemplateGraph;
use channel::vault::{AdditionalData, MASTER_KEY_ID, Secret, Vault};
use channel::web::{Web, WebSettings};
use domain::connection::State;
use domain::conversation::Conversation;
use domain::customer::{Bsuid, Customer, Phone};
use domain::ids::{AgentId, AppId, ConnectionId, ConversationId, NumberId, TenantId, WabaId};
use domain::message::Content;
use domain::outgoing::Outgoing;
use domain::time::Timestamp;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use lambda_http::http;
use meta::graph::{Graph, Settings};
use meta_sim::{Setup, Simulator, Webhook};
use serde_json::{Value, json};

pub use self::api::Answer;
pub use self::https::{AgentAnswer, Asked, HttpsAgent, texts};
use crate::clock::Clock;
use crate::dynamo::Dynamo;
use crate::mapping::{Delivery, Mappings, handler};
use crate::roles::Role;
use crate::s3::Bucket;
use crate::sqs;
use crate::template::{Template, queue_url};

/// The demo connection's first number.
pub const NUMBER: &str = "100000000000001";
/// Its second number.
pub const OTHER_NUMBER: &str = "100000000000002";
/// Its app.
pub const APP: &str = "200000000000001";
/// Its account.
pub const WABA: &str = "300000000000001";
/// The app's secret.
pub const APP_SECRET: &str = "local-app-secret";
/// The app's verify token.
pub const VERIFY_TOKEN: &str = "local-verify-token";
/// Its access token.
pub const ACCESS_TOKEN: &str = "local-access-token";
/// A customer who has a phone and a user id, as most have.
pub const ANA: &str = "34600111222";

/// Which part of a number's throughput campaigns use.
pub const CAMPAIGN_SHARE: f64 = 0.75;

/// How long an app's previous secret is accepted.
pub const SECRET_OVERLAP: Duration = Duration::from_hours(24);

/// How much may happen at one instant before a story is taken to run in circles.
const ROUNDS: usize = 200;

/// Whose calls are held to which function's role.
const ROLES: [(&str, &str); 9] = [
    ("control", "ControlFunction"),
    ("webhook", "WebhookFunction"),
    ("inbound", "InboundFunction"),
    ("media", "MediaFunction"),
    ("bridge", "BridgeFunction"),
    ("replies", "RepliesFunction"),
    ("templates", "TemplatesFunction"),
    ("statuses", "StatusesFunction"),
    ("health", "HealthFunction"),
];

/// The simulator's clock is the world's.
struct SimulatorClock(Clock);

impl meta_sim::Clock for SimulatorClock {
    fn now_ms(&self) -> i64 {
        self.0.now_ms()
    }
}

type Answers = Box<dyn Fn(&Turn) -> Vec<Reply>>;

/// The world.
pub struct World {
    /// The clock to turn.
    pub clock: Clock,
    /// DynamoDB.
    pub dynamo: Dynamo,
    /// SQS.
    pub sqs: sqs::Queues,
    /// S3.
    pub s3: Bucket,
    /// Meta.
    pub meta: Simulator,
    /// The store, as the tests look into it.
    pub store: Store,
    /// The queues, as the platform uses them.
    pub queues: Queues,
    /// The deployment that all of it is built from.
    pub template: Template,
    vault: Vault,
    mappings: Mappings,
    webhook: webhook::Handles,
    /// The API, as each tenant reaches it.
    apis: RefCell<BTreeMap<String, axum::Router>>,
    server_app: RefCell<Option<ServerApp>>,
    /// Where Meta reaches the webhook.
    webhook_url: String,
    health: health::Handles,
    graph: Graph,
    templates: Rc<templates::Handles>,
    delivery: Delivery,
    answers: RefCell<Answers>,
    turns: RefCell<Vec<Turn>>,
    events: RefCell<Vec<FeedEvent>>,
    posted: RefCell<Vec<Webhook>>,
    refused: Cell<usize>,
    may_leave: Cell<bool>,
    rounds: Cell<u64>,
}

/// How long we wait for Meta's answer: by the real clock, so longer than a busy machine needs for one that comes.
const PATIENCE: Duration = Duration::from_mins(5);

impl World {
    /// A world in which everything is delivered once.
    pub async fn new() -> Self {
        Self::with(Delivery::Once).await
    }

    /// A world with the demo connection running, an agent that says back what it is told, and this way of delivery.
    pub async fn with(delivery: Delivery) -> Self {
        Self::of(delivery, Setup::demo()).await
    }

    /// A world with another Meta.
    pub async fn of(delivery: Delivery, setup: Setup) -> Self {
        Self::connected(delivery, setup, &demo()).await
    }

    /// A world with another Meta and, in place of the demo connection, another one to it.
    pub async fn connected(delivery: Delivery, setup: Setup, connection: &NewConnection) -> Self {
        Self::made(delivery, setup, connection, PATIENCE).await
    }

    /// A world whose demo connection has so many numbers: [`number`] of 1, of 2, and so on.
    pub async fn with_numbers(count: usize) -> Self {
        let ids: Vec<String> = (1..=count).map(number).collect();
        let mut setup = Setup::demo();
        setup.numbers = Setup::of(setup.apps[0].clone(), WABA, ACCESS_TOKEN, &ids.iter().map(String::as_str).collect::<Vec<_>>()).numbers;
        let numbers = ids.into_iter().map(|it| NumberId::parse(it).expect("an id")).collect();
        Self::connected(Delivery::Once, setup, &NewConnection { numbers, ..demo() }).await
    }

    /// A world in which we wait for Meta's answer for a second only: for stories in which it does not come.
    pub async fn impatient(delivery: Delivery) -> Self {
        Self::made(delivery, Setup::demo(), &demo(), Duration::from_secs(1)).await
    }

    async fn made(delivery: Delivery, setup: Setup, connection: &NewConnection, graph_timeout: Duration) -> Self {
        let template = Template::load().expect("the template is understood");
        let clock = Clock::turned();
        let dynamo = Dynamo::new(&clock).expect("an engine in memory");
        dynamo.create_tables(template.tables.values()).expect("the template's tables");
        let engine = sqs::Queues::new(&clock);
        engine.create_queues(template.queues.values()).expect("the template's queues");
        let bucket = Bucket::new("filesbucket", &clock).await;
        for (who, function) in ROLES {
            let role = Role::of(&template.functions[function]);
            dynamo.faults().hold_to(who, role.clone());
            bucket.faults().hold_to(who, role.clone());
            engine.faults().hold_to(who, role);
        }
        let meta = Simulator::new(SimulatorClock(clock.clone()), setup);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port on this machine");
        let graph_url = format!("http://{}", listener.local_addr().expect("bound"));
        meta.reachable_at(&graph_url);
        let served = meta.clone();
        tokio::spawn(async move { served.serve(listener).await });
        let mut parts = Parts {
            template: &template,
            dynamo: &dynamo,
            engine: &engine,
            bucket: &bucket,
            clock: &clock,
            graph_url: &graph_url,
            graph_timeout,
            webhook_url: String::new(),
        };
        parts.webhook_url = parts.serve_callback().await;
        let templates = Rc::new(parts.templates());
        let world = Self {
            store: parts.store("test"),
            queues: parts.queues("test"),
            vault: vault(),
            mappings: parts.mappings(&templates).beside_meta(&meta),
            templates,
            health: parts.health(),
            graph: Graph::new(&parts.graph()).expect("settings on this machine"),
            webhook: webhook::Handles::over(parts.store("webhook"), parts.queues("webhook"), vault()),
            apis: RefCell::default(),
            server_app: RefCell::default(),
            webhook_url: parts.webhook_url.clone(),
            delivery,
            answers: RefCell::new(Box::new(says_back)),
            turns: RefCell::default(),
            events: RefCell::default(),
            posted: RefCell::default(),
            refused: Cell::new(0),
            may_leave: Cell::new(false),
            rounds: Cell::new(0),
            clock,
            dynamo,
            sqs: engine,
            s3: bucket,
            meta,
            template,
        };
        assert!(world.install(connection).await, "an empty store takes the connection");
        world
    }

    /// Writes a connection that runs, with its app, numbers and agent, and lets its templates be listed.
    pub async fn install(&self, connection: &NewConnection) -> bool {
        let installed = connections::install(&self.store, &self.queues, &self.vault, connection, self.now()).await;
        self.mappings.settle(Delivery::Once).await;
        installed.expect("the store answers")
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.clock.now_ms())
    }

    /// The agent answers so from now on.
    pub fn agent_answers(&self, answers: impl Fn(&Turn) -> Vec<Reply> + 'static) {
        *self.answers.borrow_mut() = Box::new(answers);
    }

    /// The agent is silent from now on.
    pub fn agent_is_silent(&self) {
        self.agent_answers(|_| Vec::new());
    }

    /// What is left in queues and dead letters at the end is expected.
    pub fn may_leave_messages(&self) {
        self.may_leave.set(true);
    }

    /// A customer writes a text to the first number; Meta's id of it.
    pub fn writes(&self, who: &str, text: &str) -> String {
        self.meta.customer_writes(who, NUMBER, text).expect("the customer can write")
    }

    /// Lets everything happen that can happen now.
    pub async fn settle(&self) {
        for _ in 0..ROUNDS {
            self.rounds.set(self.rounds.get() + 1);
            let webhooks = self.deliver_webhooks().await;
            let records = self.mappings.settle(self.delivery).await;
            let turns = self.agent_takes_turns().await;
            self.hear_events().await;
            if webhooks + records + turns == 0 {
                return;
            }
        }
        panic!("the world does not settle: {:?}", self.sqs.depths());
    }

    /// Lets time pass, and everything happen in its time.
    pub async fn pass(&self, time: Duration) {
        let until = self.now().plus(time).as_millis();
        self.settle().await;
        loop {
            let next = [self.sqs.next_visible_ms(), self.meta.next_webhook_at_ms()]
                .into_iter()
                .flatten()
                .filter(|it| *it > self.clock.now_ms())
                .min();
            match next.filter(|it| *it <= until) {
                Some(next) => self.clock.set(next),
                None => break,
            }
            self.settle().await;
        }
        self.clock.set(until.max(self.clock.now_ms()));
        self.settle().await;
    }

    /// Lets time pass in which nothing is delivered: everything that was due happens at the end of it.
    pub async fn sleep(&self, time: Duration) {
        self.clock.advance(time);
        self.settle().await;
    }

    async fn deliver_webhooks(&self) -> usize {
        let mut due = self.meta.take_webhooks();
        if let Delivery::Shuffled(seed) = self.delivery {
            let turn = usize::try_from(seed.wrapping_add(self.rounds.get()) % 7).expect("small");
            let middle = turn.min(due.len());
            due.rotate_left(middle);
        }
        for webhook in &due {
            let mut status = self.post(webhook).await;
            if matches!(self.delivery, Delivery::Twice | Delivery::CrashBeforeAck) {
                status = self.post(webhook).await;
            }
            self.meta.answered(webhook.id, status);
            self.posted.borrow_mut().push(webhook.clone());
        }
        due.len()
    }

    /// Posts a webhook; the status of the answer.
    pub async fn post(&self, webhook: &Webhook) -> u16 {
        self.post_bytes(&webhook.path, &webhook.body, Some(&webhook.signature)).await
    }

    /// Posts bytes to a path; the status of the answer, whose body must be empty.
    pub async fn post_bytes(&self, path: &str, bytes: &[u8], signature: Option<&str>) -> u16 {
        let mut request = http::Request::post(path);
        if let Some(it) = signature {
            request = request.header("X-Hub-Signature-256", it);
        }
        let request = request.body(lambda_http::Body::from(bytes.to_vec())).expect("a request");
        let response = webhook::handle(&self.webhook, request, self.now()).await;
        assert!(response.body().is_empty(), "an answer to Meta has no body");
        if !response.status().is_success() {
            self.refused.set(self.refused.get() + 1);
        }
        response.status().as_u16()
    }

    /// Meta posts this body, signed as the demo connection's app; the status of the answer.
    pub async fn posts(&self, body: &Value) -> u16 {
        let bytes = body.to_string().into_bytes();
        self.post_bytes(&format!("/webhooks/{APP}"), &bytes, Some(&meta_sim::signature(APP_SECRET, &bytes))).await
    }

    /// Anybody asks the webhook's function anything; its whole answer.
    pub async fn asks(&self, request: http::Request<lambda_http::Body>) -> http::Response<lambda_http::Body> {
        webhook::handle(&self.webhook, request, self.now()).await
    }

    /// The bodies that lie in a queue of the template, oldest first.
    #[must_use]
    pub fn lying_in(&self, queue: &str) -> Vec<Value> {
        let bodies = self.sqs.bodies(&self.template.queue(queue).name);
        bodies.iter().map(|it| serde_json::from_str(it).expect("JSON")).collect()
    }

    /// Meta checks a callback: the status, and the body of the answer.
    pub async fn checks_callback(&self, path: &str, query: &[(&str, &str)]) -> (u16, String) {
        let parameters: BTreeMap<String, Vec<String>> =
            query.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()])).collect();
        let request = http::Request::get(path).body(lambda_http::Body::Empty).expect("a request");
        let parameters: std::collections::HashMap<String, Vec<String>> = parameters.into_iter().collect();
        let request = lambda_http::RequestExt::with_query_string_parameters(request, parameters);
        let response = webhook::handle(&self.webhook, request, self.now()).await;
        let status = response.status().as_u16();
        (status, String::from_utf8(response.body().to_vec()).expect("text"))
    }

    /// Every webhook that Meta has sent so far, once more.
    pub async fn meta_repeats_all(&self) {
        let posted = self.posted.borrow().clone();
        for webhook in &posted {
            assert_eq!(self.post(webhook).await, 200, "a repeat is taken");
        }
        self.settle().await;
    }

    async fn agent_takes_turns(&self) -> usize {
        let mut taken = 0;
        loop {
            let received = self.queues.receive(Queue::Turns, 10, Duration::ZERO).await.expect("the queue answers");
            if received.is_empty() {
                return taken;
            }
            for message in received {
                let turn: Turn = serde_json::from_str(&message.body).expect("a turn");
                let replies = (self.answers.borrow())(&turn);
                for reply in replies {
                    self.sends(&reply).await;
                    if self.delivery == Delivery::Twice {
                        self.sends(&reply).await;
                    }
                }
                self.turns.borrow_mut().push(turn);
                self.queues.delete(Queue::Turns, &message.receipt_handle).await.expect("the queue answers");
                taken += 1;
            }
        }
    }

    /// A reply is put into its queue, as an agent runtime or the platform does it.
    pub async fn sends(&self, reply: &Reply) {
        let name = reply.id.clone().unwrap_or_else(|| format!("{}/{}", reply.turn.clone().unwrap_or_default(), reply.index));
        let deduplication: String = name.chars().map(|it| if it == '#' { '_' } else { it }).collect();
        let entry = Entry {
            body: serde_json::to_string(reply).expect("a reply"),
            group: Some(reply.conversation.to_string()),
            deduplication: Some(deduplication),
        };
        self.queues.send(Queue::Replies, vec![entry]).await.expect("the queue takes it");
    }

    async fn hear_events(&self) {
        let queue = &self.template.queue("EventsQueue").name;
        loop {
            let received = self.sqs.receive(queue, 10, sqs::Order::Arrival);
            if received.is_empty() {
                return;
            }
            let text = |it: &Value, name: &str| it[name].as_str().expect("a text").to_owned();
            let told = received.iter().map(|it| serde_json::from_str::<FeedEvent>(&text(it, "Body")).expect("an event"));
            self.events.borrow_mut().extend(told);
            let receipts: Vec<String> = received.iter().map(|it| text(it, "ReceiptHandle")).collect();
            self.sqs.delete(queue, &receipts);
        }
    }

    /// The turns that the agent was told, each once, in the order in which it was first told.
    #[must_use]
    pub fn turns(&self) -> Vec<Turn> {
        let mut seen = BTreeSet::new();
        self.turns.borrow().iter().filter(|it| seen.insert(it.turn.clone())).cloned().collect()
    }

    /// How often the agent was told anything, repeats included.
    #[must_use]
    pub fn times_told(&self) -> usize {
        self.turns.borrow().len()
    }

    /// The customers' words in the turns, in order.
    #[must_use]
    pub fn words_told(&self) -> Vec<String> {
        self.turns().iter().map(|it| words(&it.content)).collect()
    }

    /// What the feed told, each event once.
    #[must_use]
    pub fn events(&self) -> Vec<FeedEvent> {
        let mut seen = BTreeSet::new();
        self.events.borrow().iter().filter(|it| seen.insert(it.id.clone())).cloned().collect()
    }

    /// What the feed told, repeats included.
    #[must_use]
    pub fn every_event(&self) -> Vec<FeedEvent> {
        self.events.borrow().clone()
    }

    /// The refusals and failures that the feed told: code by code, in order.
    #[must_use]
    pub fn codes(&self) -> Vec<String> {
        let events = self.events();
        let told = events.iter().map(|it| serde_json::to_value(it).expect("JSON"));
        told.filter_map(|it| it["code"].as_str().map(str::to_owned)).collect()
    }

    /// What stands on a customer's screen: `>` before the customer's words, `<` before the business's.
    #[must_use]
    pub fn screen(&self, who: &str) -> Vec<String> {
        let lines = self.meta.phone(who).screen();
        let is_there = |it: &meta_sim::Line| it.from == meta_sim::Author::Customer || it.delivered.is_some() || it.read.is_some();
        lines
            .iter()
            .filter(|it| is_there(it))
            .map(|it| {
                let side = if it.from == meta_sim::Author::Customer { '>' } else { '<' };
                format!("{side} {}", it.text.clone().unwrap_or_else(|| it.kind.clone()))
            })
            .collect()
    }

    /// How often the most often accepted of our sends was accepted by Meta, and how many sends were accepted at all.
    #[must_use]
    pub fn accepted(&self) -> (u32, usize) {
        let all = self.meta.all_accepted();
        (all.values().max().copied().unwrap_or(0), all.len())
    }

    /// The conversation with a customer, by phone digits or user id.
    pub async fn conversation(&self, who: &str) -> Conversation {
        self.find(who).await.expect("there is a conversation")
    }

    /// The conversation with a customer, if there is one.
    pub async fn find(&self, who: &str) -> Option<Conversation> {
        let customer = Customer::known_by(Phone::parse(who).ok(), Bsuid::parse(who).ok()).expect("an address");
        people::find(&self.store, &connection_id(), &customer).await.expect("the store answers")
    }

    /// A free-form message of a person, with an id of its own.
    #[must_use]
    pub fn of_person(&self, conversation: &ConversationId, text: &str, serial: u32) -> Reply {
        let mut reply = reply(conversation, Author::Person("Eva".to_owned()), text);
        reply.id = Some(self.job_id(serial));
        reply
    }

    /// A free-form message of the agent that answers no turn, with an id of its own.
    #[must_use]
    pub fn of_agent(&self, conversation: &ConversationId, text: &str, serial: u32) -> Reply {
        let mut reply = reply(conversation, Author::Agent(agent_id()), text);
        reply.id = Some(self.job_id(serial));
        reply
    }

    /// A UUIDv7 of now, told apart from others of now by its serial.
    #[must_use]
    pub fn job_id(&self, serial: u32) -> String {
        let millis = self.clock.now_ms();
        format!("{:08x}-{:04x}-7000-8000-0000{serial:08x}", millis >> 16, millis & 0xffff)
    }

    /// A person stops the connection.
    pub async fn stop(&self) {
        connections::stop(&self.store, &self.queues, &connection_id(), self.now()).await.expect("the store answers");
        // What is remembered of connections is some seconds old.
        self.clock.advance(Duration::from_secs(6));
    }

    /// Meta, as a function would reach it.
    #[must_use]
    pub fn graph(&self) -> Graph {
        self.graph.clone()
    }

    /// A person starts a connection.
    pub async fn starts(&self, id: &ConnectionId, options: StartOptions) -> Started {
        connections::start(&self.store, &self.queues, id, options, self.now()).await.expect("the store answers")
    }

    /// The schedule looks at what is due now.
    pub async fn schedule(&self) {
        health::answer(&self.health, health::Event::Schedule(health::Schedule::Look), self.now(), None).await;
    }

    /// The schedule looks at everything that is due within an hour, all of it now.
    pub async fn schedule_all(&self) {
        for look in 0..12 {
            let at = self.now().plus(channel::watch::EVERY * look);
            health::answer(&self.health, health::Event::Schedule(health::Schedule::Look), at, None).await;
        }
    }

    /// How many webhooks were not taken.
    #[must_use]
    pub fn webhooks_refused(&self) -> usize {
        self.refused.get()
    }

    /// The newest lines of a connection's Logs, newest first.
    pub async fn logs(&self, id: &ConnectionId) -> Vec<String> {
        self.store.log_lines(id, 50).await.expect("the store answers")
    }

    /// Where a connection stands.
    pub async fn state(&self, id: &ConnectionId) -> State {
        self.store.connection(id).await.expect("the store answers").expect("it is there").connection.lifecycle.state
    }

    /// The connection runs again, as if it had been checked.
    pub async fn run(&self) {
        let (id, now) = (connection_id(), self.now());
        self.store.change_connection(&id, |it| Some(it.starting(now))).await.expect("the store answers");
        let stored = self.store.connection(&id).await.expect("the store answers").expect("it is there");
        for number in &stored.connection.numbers {
            self.store.clear_number(number, &id).await.expect("the store answers");
        }
        connections::run(&self.store, &self.queues, &id, now, now).await.expect("the store answers");
    }

    /// A person enters another access token.
    pub async fn replace_token(&self, token: &str) {
        let edit = ConnectionEdit { access_token: Some(Secret::new(token)), ..ConnectionEdit::default() };
        self.edits(&edit).await;
    }

    /// A person changes the demo connection.
    pub async fn edits(&self, edit: &ConnectionEdit) -> Edited {
        let tenant = TenantId::parse("demo").expect("an id");
        connections::edit((&self.store, &self.queues, &self.vault), (&tenant, &connection_id()), None, edit, self.now())
            .await
            .expect("the store answers")
    }

    /// The app's secret is replaced; the old one is accepted beside it.
    pub async fn rotate_app_secret(&self, secret: &str) {
        let app = AppId::parse(APP).expect("an id");
        let sealed = self.vault.seal(&Secret::new(secret), &AdditionalData::of_app(APP, "secret"), self.now()).await.expect("randomness");
        let overlap = Duration::from_hours(24);
        let rotated = self.store.change_app(&app, |it| it.rotated(sealed.clone(), overlap, self.now())).await;
        assert!(rotated.expect("the store answers").is_some(), "the app is there");
    }

    /// Hands over what is owed.
    pub async fn walk(&self) -> Walked {
        let tenant = TenantId::parse("demo").expect("an id");
        owed::walk(&self.store, &self.queues, &tenant, &connection_id(), self.now()).await.expect("the store and the queue answer")
    }

    /// A person takes the conversation, or the agent gets it back.
    pub async fn hand(&self, who: &str, to_person: bool) {
        let (id, now) = (self.conversation(who).await.id, self.now());
        let tenant = TenantId::parse("demo").expect("an id");
        let handed = if to_person {
            handling::take(&self.store, &self.queues, &tenant, &id, now).await
        } else {
            handling::release(&self.store, &self.queues, &tenant, &id, now).await
        };
        handed.expect("the store and the feed answer");
    }

    /// How the world stands, without what differs from one run of a story to another: versions, and the times of our own clock.
    ///
    /// # Panics
    /// When the engine's tables cannot be read.
    #[must_use]
    pub fn outcome(&self) -> Value {
        let tables = self.dynamo.dump().expect("the engine answers");
        // How many turns an agent is asked at once is counted by the half minute of our own clock.
        let is_kept = |it: &Value| !it["sk"]["S"].as_str().is_some_and(|it| it.starts_with("ASKED#"));
        let tables: BTreeMap<String, Vec<Value>> =
            tables.into_iter().map(|(name, items)| (name, items.into_iter().filter(is_kept).map(without_our_times).collect())).collect();
        let customers: BTreeSet<String> =
            self.turns().iter().filter_map(|it| it.customer.phone().map(|it| it.digits().to_owned())).collect();
        let screens: BTreeMap<String, Vec<String>> = customers.iter().map(|it| (it.clone(), self.screen(it))).collect();
        let events: BTreeSet<String> = self
            .events()
            .iter()
            .map(|it| {
                let it = serde_json::to_value(it).expect("JSON");
                format!("{} {} {} {}", it["type"], it["message"], it["step"], it["code"])
            })
            .collect();
        let mut turns: Vec<Value> = self
            .turns()
            .iter()
            .map(|it| json!({ "turn": it.turn, "words": words(&it.content), "late": it.late, "missed": it.missed.len() }))
            .collect();
        turns.sort_by_key(|it| it["turn"].to_string());
        json!({ "tables": tables, "screens": screens, "turns": turns, "events": events })
    }
}

impl Drop for World {
    /// A story cannot end well by forgetting its effects.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let denied = [self.dynamo.faults().denied(), self.sqs.faults().denied(), self.s3.faults().denied()].concat();
        assert!(denied.is_empty(), "a role of the template does not allow {denied:?}");
        if self.may_leave.get() {
            return;
        }
        for (id, queue) in &self.template.queues {
            let has_consumer = queue.dead_letters.is_some();
            let is_dead_letters = self.template.queues.values().any(|it| it.dead_letters.as_deref() == Some(id));
            let left = self.sqs.messages(&queue.name);
            let may_have = !has_consumer && !is_dead_letters;
            assert!(may_have || left.is_empty(), "{} messages are left in {}", left.len(), queue.name);
        }
    }
}

/// What the handles of the functions are made of.
struct Parts<'a> {
    template: &'a Template,
    dynamo: &'a Dynamo,
    engine: &'a sqs::Queues,
    bucket: &'a Bucket,
    clock: &'a Clock,
    graph_url: &'a str,
    graph_timeout: Duration,
    webhook_url: String,
}

impl Parts<'_> {
    fn store(&self, who: &str) -> Store {
        let name = |id: &str| self.template.tables[id].name.clone();
        let tables = Tables { config: name("ConfigTable"), conversations: name("ConversationsTable"), messages: name("MessagesTable") };
        Store::new(self.dynamo.client(who), tables)
    }

    fn queues(&self, who: &str) -> Queues {
        let name = |id: &str| queue_url(&self.template.queue(id).name);
        let urls = QueueUrls::new()
            .with(Queue::Inbound, name("InboundQueue"))
            .with_dead_letters(Queue::Inbound, name("InboundDeadLetters"))
            .with(Queue::Replies, name("RepliesQueue"))
            .with_dead_letters(Queue::Replies, name("RepliesDeadLetters"))
            .with(Queue::TemplateSends, name("TemplateSendsQueue"))
            .with_dead_letters(Queue::TemplateSends, name("TemplateSendsDeadLetters"))
            .with(Queue::Statuses, name("StatusesQueue"))
            .with_dead_letters(Queue::Statuses, name("StatusesDeadLetters"))
            .with(Queue::Media, name("MediaQueue"))
            .with_dead_letters(Queue::Media, name("MediaDeadLetters"))
            .with(Queue::Turns, name("TurnsQueue"))
            .with(Queue::Bridge, name("BridgeQueue"))
            .with_dead_letters(Queue::Bridge, name("BridgeDeadLetters"))
            .with(Queue::Events, name("EventsQueue"))
            .with(Queue::Probes, name("ProbesQueue"))
            .with_dead_letters(Queue::Probes, name("ProbesDeadLetters"))
            .with(Queue::Quarantine, name("QuarantineQueue"));
        Queues::new(self.engine.sdk_config(who).build(), urls)
    }

    fn graph(&self) -> Settings {
        let (base_url, timeout) = (self.graph_url.to_owned(), self.graph_timeout);
        let meta = Settings::meta("v25.0");
        let mark_read_timeout = meta.mark_read_timeout.min(timeout);
        Settings { base_url, connect_timeout: timeout, timeout, mark_read_timeout, allow_loopback: true, ..meta }
    }

    fn templates(&self) -> templates::Handles {
        let graph = TemplateGraph::new(&self.graph()).expect("settings on this machine");
        templates::Handles::over(self.store("templates"), self.queues("templates"), vault(), graph, CAMPAIGN_SHARE)
    }

    fn health(&self) -> health::Handles {
        let graph = Graph::new(&self.graph()).expect("settings on this machine");
        let checks = CheckSettings { webhook_url: self.webhook_url.clone(), secret_overlap: SECRET_OVERLAP };
        let parts = (self.store("health"), self.queues("health"), self.bucket.blobs("health"));
        health::Handles::over(parts, vault(), (graph, self.web()), (checks, None))
    }

    fn media(&self) -> media::Handles {
        let graph = Graph::new(&self.graph()).expect("settings on this machine");
        media::Handles::over((self.store("media"), self.queues("media"), self.bucket.blobs("media")), vault(), graph, self.web())
    }

    fn bridge(&self) -> bridge::Handles {
        let graph = Graph::new(&self.graph()).expect("settings on this machine");
        bridge::Handles::over(self.store("bridge"), self.queues("bridge"), vault(), graph, self.web())
    }

    /// The web of tenants, of which this machine is a part.
    fn web(&self) -> Web {
        Web::new(&WebSettings { allow_loopback: true, connect_timeout: self.graph_timeout }).expect("a client")
    }

    /// Serves the webhook's function on this machine, for Meta to check the callback; the address. What Meta posts, the world delivers.
    async fn serve_callback(&self) -> String {
        let handles = Arc::new(webhook::Handles::over(self.store("webhook"), self.queues("webhook"), vault()));
        let clock = self.clock.clone();
        let answer = move |request: axum::extract::Request| {
            let (handles, now) = (Arc::clone(&handles), Timestamp::from_millis(clock.now_ms()));
            async move {
                let query: std::collections::HashMap<String, Vec<String>> =
                    axum::extract::Query::<Vec<(String, String)>>::try_from_uri(request.uri())
                        .map(|it| it.0.into_iter().map(|(name, value)| (name, vec![value])).collect())
                        .unwrap_or_default();
                let (head, _) = request.into_parts();
                let request = http::Request::from_parts(head, lambda_http::Body::Empty);
                let request = lambda_http::RequestExt::with_query_string_parameters(request, query);
                let response = webhook::handle(&handles, request, now).await;
                response.map(|it| axum::body::Body::from(it.to_vec()))
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port on this machine");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
        format!("http://{address}/webhooks")
    }

    fn mappings(&self, templates: &Rc<templates::Handles>) -> Mappings {
        let graph = Graph::new(&self.graph()).expect("settings on this machine");
        let inbound = Rc::new(inbound::Handles::over(self.store("inbound"), self.queues("inbound")));
        let statuses = Rc::new(statuses::Handles::over(self.store("statuses"), self.queues("statuses")));
        let replies =
            Rc::new(replies::Handles::over((self.store("replies"), self.queues("replies"), self.bucket.blobs("replies")), vault(), graph));
        let health = Rc::new(self.health());
        let now = |clock: &Clock| Timestamp::from_millis(clock.now_ms());
        let media = Rc::new(self.media());
        let bridge = Rc::new(self.bridge());
        let [a, b, c, d, e, f, g] = std::array::from_fn(|_| self.clock.clone());
        let templates = Rc::clone(templates);
        let handlers = BTreeMap::from([
            (
                "InboundFunction".to_owned(),
                handler(move |event| {
                    let (handles, at) = (inbound.clone(), now(&a));
                    async move { Ok::<_, anyhow::Error>(inbound::handle(&handles, event, at, None).await) }
                }),
            ),
            (
                "MediaFunction".to_owned(),
                handler(move |event| {
                    let (handles, at) = (media.clone(), now(&f));
                    async move { Ok::<_, anyhow::Error>(media::handle(&handles, event, at, None).await) }
                }),
            ),
            (
                "BridgeFunction".to_owned(),
                handler(move |event| {
                    let (handles, clock) = (bridge.clone(), g.clone());
                    async move {
                        let (now_ms, reached) = (|| clock.now_ms(), sleeps(&clock));
                        let clock = channel::clock::Clock::new(&now_ms, &reached);
                        Ok::<_, anyhow::Error>(bridge::handle(&handles, event, clock, None).await)
                    }
                }),
            ),
            (
                "StatusesFunction".to_owned(),
                handler(move |event| {
                    let (handles, at) = (statuses.clone(), now(&b));
                    async move { Ok::<_, anyhow::Error>(statuses::handle(&handles, event, at, None).await) }
                }),
            ),
            (
                "HealthFunction".to_owned(),
                handler(move |event| {
                    let (handles, at) = (health.clone(), now(&e));
                    async move { Ok::<_, anyhow::Error>(health::handle(&handles, event, at, None).await) }
                }),
            ),
            (
                "RepliesFunction".to_owned(),
                handler(move |event| {
                    let (handles, clock) = (replies.clone(), c.clone());
                    async move { Ok::<_, anyhow::Error>(replies::handle(&handles, event, &|| now(&clock), None).await) }
                }),
            ),
            (
                "TemplatesFunction".to_owned(),
                handler(move |event| {
                    let (handles, clock) = (templates.clone(), d.clone());
                    async move {
                        let (now_ms, reached) = (|| clock.now_ms(), sleeps(&clock));
                        let clock = channel::clock::Clock::new(&now_ms, &reached);
                        Ok::<_, anyhow::Error>(templates::handle(&handles, event, clock, None).await)
                    }
                }),
            ),
        ]);
        Mappings::new(self.engine, self.template, handlers)
    }
}

/// How functions sleep by this clock.
fn sleeps(clock: &Clock) -> impl Fn(i64) -> LocalBoxFuture<'static, ()> {
    let clock = clock.clone();
    move |at_ms| {
        let clock = clock.clone();
        async move { clock.until(at_ms).await }.boxed_local()
    }
}

/// The id of the demo connection's `position`-th number, counted from 1.
#[must_use]
pub fn number(position: usize) -> String {
    format!("1{position:014}")
}

/// The demo connection, as it is installed.
#[must_use]
pub fn demo() -> NewConnection {
    NewConnection {
        id: connection_id(),
        tenant: TenantId::parse("demo").expect("an id"),
        name: "Demo".to_owned(),
        app: AppId::parse(APP).expect("an id"),
        app_secret: Secret::new(APP_SECRET),
        verify_token: Secret::new(VERIFY_TOKEN),
        waba: WabaId::parse(WABA).expect("an id"),
        numbers: vec![NumberId::parse(NUMBER).expect("an id"), NumberId::parse(OTHER_NUMBER).expect("an id")],
        access_token: Secret::new(ACCESS_TOKEN),
        agent: Some(agent_id()),
    }
}

/// The demo connection's id.
#[must_use]
pub fn connection_id() -> ConnectionId {
    ConnectionId::parse("demo").expect("an id")
}

/// The agent's id.
#[must_use]
pub fn agent_id() -> AgentId {
    AgentId::parse("example").expect("an id")
}

/// What opens the secrets that are installed.
#[must_use]
pub fn vault() -> Vault {
    // Thirty-two bytes of nothing: there is nothing to protect here.
    Vault::new(MASTER_KEY_ID, &Secret::new("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")).expect("a key")
}

/// A text to a conversation.
#[must_use]
pub fn reply(conversation: &ConversationId, author: Author, text: &str) -> Reply {
    Reply {
        v: V1,
        connection: connection_id(),
        conversation: conversation.clone(),
        author,
        turn: None,
        index: 0,
        id: None,
        message: Some(Outgoing::Text { text: text.to_owned(), preview_url: false }),
        quote: None,
        read: None,
        handover: false,
        resends: None,
    }
}

/// The agent's `index`-th answer to a turn.
#[must_use]
pub fn answer(turn: &Turn, index: u16, text: &str) -> Reply {
    let mut reply = reply(&turn.conversation, Author::Agent(turn.agent.clone()), text);
    reply.connection = turn.connection.clone();
    reply.turn = Some(turn.turn.clone());
    reply.index = index;
    reply
}

/// What the agent says if nothing else is arranged.
fn says_back(turn: &Turn) -> Vec<Reply> {
    vec![answer(turn, 0, &format!("You said: {}", words(&turn.content)))]
}

/// The words of a message, or what kind it is.
#[must_use]
pub fn words(content: &Content) -> String {
    match content {
        Content::Text { text } | Content::Button { text, .. } => text.clone(),
        Content::ButtonReply { title, .. } | Content::ListReply { title, .. } => title.clone(),
        other => other.kind().to_owned(),
    }
}

/// Nothing counted.
#[must_use]
pub fn counts() -> Counts {
    Counts::new()
}

/// Members that differ from run to run: versions, the times of our own clock, Meta's ids of our messages and files (which depend on how
/// often Meta was asked), what was leased, who claimed, what is sealed under a fresh nonce, and the addresses of agents on this machine.
const VARIES: [&str; 36] = [
    "turned_back",
    "untaken_times",
    "untaken_since",
    "down_since",
    "owed_at",
    "probed_at",
    "up_since",
    "url",
    "free_at_us",
    "next",
    "version",
    "heard_at",
    "listed_at",
    "changed_at",
    "freed_at",
    "read_at",
    "claimed_at",
    "released_at",
    "since",
    "running_since",
    "stopped_at",
    "checked_at",
    "warned_at",
    "previous_until",
    "accepted_at",
    "ended_at",
    "expires_at",
    "throttled",
    "wamid",
    "media_id",
    "kept_until",
    "secret",
    "previous_secret",
    "claim",
    "verify_token",
    "access_token",
];

fn without_our_times(value: Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members.into_iter().filter(|it| !VARIES.contains(&it.0.as_str())).map(|it| (it.0, without_our_times(it.1))).collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(without_our_times).collect()),
        other => other,
    }
}
