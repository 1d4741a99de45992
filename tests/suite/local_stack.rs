//! The local stack as a user meets it: started, driven over HTTP alone, interrupted, started again, and told off.
//!
//! The stories in which no time passes are told here once more, on the real functions in processes of their own, over kept emulators.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::speech;

const NUMBER: &str = "100000000000001";
const OTHER_NUMBER: &str = "100000000000002";
/// What the API takes from callers where nothing else is set.
const TOKEN: &str = "local-api-token";
/// How long anything may take that takes a second: machines are slow, and what was interrupted is held for as long as its queue's
/// visibility, which is four minutes for replies.
const PATIENCE: Duration = Duration::from_secs(420);

/// A running stack with a folder and ports of its own.
struct Stack {
    process: Child,
    lines: Receiver<String>,
    gateway: String,
    simulator: String,
    aws: String,
    state: PathBuf,
    http: reqwest::Client,
}

/// The ports of one stack.
#[derive(Clone, Copy)]
struct Ports {
    gateway: u16,
    simulator: u16,
    aws: u16,
    speech: u16,
}

impl Ports {
    fn free() -> Self {
        // All are held until all are known, so that no two are the same.
        let held: Vec<TcpListener> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port is free")).collect();
        let port = |at: usize| held[at].local_addr().expect("bound").port();
        Self { gateway: port(0), simulator: port(1), aws: port(2), speech: port(3) }
    }
}

/// The program behind `make run`, beside this test's own.
fn program() -> PathBuf {
    let own = std::env::current_exe().expect("this program has a path");
    let program = own.parent().and_then(Path::parent).expect("it lies in deps").join("local");
    assert!(program.exists(), "{} is missing: `make test` builds it before it runs the tests", program.display());
    program
}

fn command(state: &Path, ports: Ports) -> Command {
    let mut command = Command::new(program());
    command
        .env("LOCAL_STATE", state)
        .env("GATEWAY_ADDRESS", format!("127.0.0.1:{}", ports.gateway))
        .env("META_SIM_ADDRESS", format!("127.0.0.1:{}", ports.simulator))
        .env("AWS_EMULATOR_ADDRESS", format!("127.0.0.1:{}", ports.aws))
        .env("SPEECH", "1")
        .env("SPEECH_ADDRESS", format!("127.0.0.1:{}", ports.speech))
        .env("DEMO_CONVERSATION", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

impl Stack {
    fn start(state: &Path, ports: Ports) -> Self {
        // Installed once in a process; whoever was first chose the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut process = command(state, ports).spawn().expect("the stack starts");
        let (sender, lines) = channel();
        let readers: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(process.stdout.take().expect("piped")), Box::new(process.stderr.take().expect("piped"))];
        for reader in readers {
            let sender = sender.clone();
            // Reads on until the end: a full pipe would stop the process.
            std::thread::spawn(move || BufReader::new(reader).lines().map_while(Result::ok).for_each(|it| drop(sender.send(it))));
        }
        Self {
            process,
            lines,
            gateway: format!("http://127.0.0.1:{}", ports.gateway),
            simulator: format!("http://127.0.0.1:{}", ports.simulator),
            aws: format!("http://127.0.0.1:{}", ports.aws),
            state: state.to_owned(),
            http: reqwest::Client::builder().no_proxy().build().expect("a client"),
        }
    }

    /// Waits for a line that holds these words; everything that was said until then.
    fn says(&mut self, words: &str) -> String {
        let mut said = String::new();
        let deadline = Instant::now() + PATIENCE;
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            said.push_str(&line);
            said.push('\n');
            if line.contains(words) {
                return said;
            }
        }
        panic!("the stack did not say {words:?}, but:\n{said}");
    }

    fn ready(mut self) -> Self {
        self.says("Ctrl-C stops everything");
        self
    }

    /// Ctrl-C, and the end of it.
    fn interrupt(&mut self) -> ExitStatus {
        signal("INT", self.process.id());
        self.process.wait().expect("it ends")
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let answer =
            self.http.post(format!("{}{path}", self.simulator)).body(body.to_string()).send().await.expect("the simulator answers");
        assert!(answer.status().is_success(), "{path} with {body}: {}", answer.status());
        serde_json::from_str(&answer.text().await.expect("a body")).unwrap_or_default()
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.http.get(format!("{}{path}", self.simulator)).send().await.expect("the simulator answers");
        serde_json::from_str(&answer.text().await.expect("a body")).expect("JSON")
    }

    /// The JSON API, as the demo tenant: the answer's status, headers and body.
    async fn api(&self, method: &str, path: &str, body: Option<Value>) -> (u16, reqwest::header::HeaderMap, Value) {
        self.api_with(TOKEN, &[], method, path, body).await
    }

    /// The same, with a token and headers of one's own.
    async fn api_with(
        &self,
        token: &str,
        headers: &[(&str, &str)],
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (u16, reqwest::header::HeaderMap, Value) {
        let method = method.parse().expect("a method");
        let mut request = self.http.request(method, format!("{}{path}", self.gateway)).bearer_auth(token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(it) = body {
            request = request.header("content-type", "application/json").body(it.to_string());
        }
        let answer = request.send().await.expect("the API answers");
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        (status, headers, serde_json::from_str(&answer.text().await.expect("a body")).unwrap_or_default())
    }

    /// What the API answers to something that goes well.
    async fn done(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let (status, _, answer) = self.api(method, path, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// Waits until what is at `path` is so.
    async fn until(&self, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let mut look = tokio::time::interval(Duration::from_millis(100));
        let mut seen = Value::Null;
        while Instant::now() < deadline {
            look.tick().await;
            seen = self.done("GET", path, None).await;
            if is_so(&seen) {
                return seen;
            }
        }
        panic!("{path} stays {seen}");
    }

    /// The id of the demo connection.
    async fn demo(&self) -> String {
        let all = self.done("GET", "/v1/connections", None).await;
        let demo = all["items"].as_array().and_then(|it| it.iter().find(|it| it["name"] == "Demo"));
        demo.and_then(|it| it["id"].as_str()).expect("the demo connection").to_owned()
    }

    /// A campaign engine puts a job into its queue, as any SQS client does.
    async fn campaigns(&self, job: &Value) {
        let url = format!("{}/000000000000/whatsapp-channel-template-sends", self.aws);
        let body = json!({ "QueueUrl": url, "MessageBody": job.to_string(), "MessageGroupId": job["connection"] });
        let request = self.http.post(&self.aws).header("content-type", "application/x-amz-json-1.0");
        let request = request.header("x-amz-target", "AmazonSQS.SendMessage").header("authorization", signed("sqs"));
        let answer = request.body(body.to_string()).send().await.expect("the queue answers");
        assert!(answer.status().is_success(), "{}: {}", answer.status(), answer.text().await.unwrap_or_default());
    }

    async fn writes(&self, who: &str, message: Value) -> String {
        let mut message = message;
        if message["to"].is_null() {
            message["to"] = json!(NUMBER);
        }
        let answer = self.post(&format!("/sim/phones/{who}/messages"), &message).await;
        answer["id"].as_str().expect("an id").to_owned()
    }

    async fn screen(&self, who: &str) -> Vec<Value> {
        self.get(&format!("/sim/phones/{who}")).await["messages"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until the screen shows this many messages of the business that were read, and gives all of the business's.
    async fn answers(&self, who: &str, count: usize) -> Vec<Value> {
        let of_business = |screen: Vec<Value>| screen.into_iter().filter(|it| it["from"] == "business").collect::<Vec<_>>();
        let deadline = Instant::now() + PATIENCE;
        let mut look = tokio::time::interval(Duration::from_millis(100));
        while Instant::now() < deadline {
            look.tick().await;
            let answers = of_business(self.screen(who).await);
            if answers.iter().filter(|it| !it["read"].is_null()).count() >= count {
                return answers;
            }
        }
        panic!("{who} did not get {count} answers, but: {:?}", self.screen(who).await);
    }

    /// The lines of a log of jobs, once one of them holds these words.
    async fn told(&self, log: &str, words: &str) -> Vec<Value> {
        let deadline = Instant::now() + PATIENCE;
        let mut look = tokio::time::interval(Duration::from_millis(100));
        while Instant::now() < deadline {
            look.tick().await;
            let text = std::fs::read_to_string(self.state.join(log)).unwrap_or_default();
            if text.contains(words) {
                return text.lines().filter_map(|it| serde_json::from_str(it).ok()).collect();
            }
        }
        panic!("{log} never told {words:?}");
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            signal("TERM", self.process.id());
            let _ = self.process.wait();
        }
    }
}

/// A signature by which the emulator tells services apart. It checks none.
fn signed(service: &str) -> String {
    format!("AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=local")
}

fn signal(name: &str, process: u32) {
    let status = Command::new("kill").args([format!("-{name}"), process.to_string()]).status().expect("kill runs");
    assert!(status.success(), "process {process} takes {name}");
}

fn folder(name: &str) -> PathBuf {
    let target = program().parent().and_then(Path::parent).expect("it lies in a target directory").to_owned();
    let folder = target.join("local-tests").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder.join("state")
}

/// The stack and everything that it started.
fn family(process: u32) -> Vec<u32> {
    let parent_of = |it: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{it}/stat")).ok()?;
        // The name, in parentheses, may hold anything.
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let all: Vec<u32> = std::fs::read_dir("/proc").expect("/proc").filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok()).collect();
    let mut family = vec![process];
    loop {
        let more: Vec<u32> =
            all.iter().copied().filter(|it| !family.contains(it) && parent_of(*it).is_some_and(|it| family.contains(&it))).collect();
        if more.is_empty() {
            return family;
        }
        family.extend(more);
    }
}

fn name(process: u32) -> String {
    std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default().trim().to_owned()
}

/// The addresses on which these processes listen, as the kernel writes them: hexadecimal.
fn listening(processes: &[u32]) -> Vec<String> {
    let sockets: Vec<String> = processes
        .iter()
        .filter_map(|it| std::fs::read_dir(format!("/proc/{it}/fd")).ok())
        .flatten()
        .filter_map(|it| std::fs::read_link(it.ok()?.path()).ok()?.to_str().map(str::to_owned))
        .filter_map(|it| Some(it.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let mut addresses = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in std::fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // 0A is LISTEN.
            if fields.get(3) == Some(&"0A") && fields.get(9).is_some_and(|it| sockets.iter().any(|socket| socket == it)) {
                addresses.push(fields[1].to_owned());
            }
        }
    }
    addresses
}

#[tokio::test]
async fn the_stories_in_which_no_time_passes_hold_on_the_local_stack() {
    let ports = Ports::free();
    let state = folder("stories");
    let mut stack = Stack::start(&state, ports).ready();

    // A customer writes, the agent answers, the ticks come back.
    stack.writes("34600000001", json!({ "text": "hello" })).await;
    let answers = stack.answers("34600000001", 1).await;
    assert!(answers[0]["text"].as_str().is_some_and(|it| it.contains("hello")), "{answers:?}");
    let events = stack.told("events.jsonl", "\"step\":\"read\"").await;
    for step in ["accepted", "sent", "delivered", "read"] {
        assert!(events.iter().any(|it| it["step"] == step), "{step} is told");
    }

    // A customer with a username and no phone.
    stack.post("/sim/customers", &json!({ "user_id": "ES.1234567890", "username": "ana", "auto_read": true })).await;
    stack.writes("ES.1234567890", json!({ "text": "no phone" })).await;
    assert_eq!(stack.answers("ES.1234567890", 1).await.len(), 1);

    // A customer of the other number is answered from there.
    stack.writes("34600000002", json!({ "to": OTHER_NUMBER, "text": "on B" })).await;
    assert_eq!(stack.answers("34600000002", 1).await[0]["number"], OTHER_NUMBER);

    // Three messages in a row are answered in order, each once, though Meta tells everything three times.
    stack.post("/sim/webhooks/mode", &json!({ "duplicate": 2, "shuffle": false })).await;
    for text in ["one", "two", "three"] {
        stack.writes("34600000003", json!({ "text": text })).await;
        stack.told("turns.jsonl", &format!("\"{text}\"")).await;
    }
    let answers = stack.answers("34600000003", 3).await;
    let said: Vec<&str> = answers.iter().filter_map(|it| it["text"].as_str()).collect();
    assert_eq!(said.len(), 3, "{said:?}");
    for (said, word) in said.iter().zip(["one", "two", "three"]) {
        assert!(said.contains(word), "{said} answers {word}");
    }
    stack.post("/sim/webhooks/mode", &json!({ "duplicate": 0 })).await;

    // Meta accepts the answer and cuts the connection: the customer gets it once.
    stack.post("/sim/faults", &json!({ "fault": "cut_after", "times": 1 })).await;
    stack.writes("34600000004", json!({ "text": "cut" })).await;
    assert_eq!(stack.answers("34600000004", 1).await.len(), 1);

    // A reaction and a deletion are no turns; what is unsupported is one, and says so.
    let liked = stack.writes("34600000005", json!({ "text": "like this" })).await;
    stack.answers("34600000005", 1).await;
    stack.writes("34600000005", json!({ "type": "reaction", "message_id": liked, "emoji": "👍" })).await;
    stack.writes("34600000005", json!({ "type": "revoke", "message_id": liked })).await;
    stack.writes("34600000005", json!({ "type": "unsupported", "kind": "poll" })).await;
    assert_eq!(stack.answers("34600000005", 2).await.len(), 2);
    let turns = stack.told("turns.jsonl", "\"unsupported\"").await;
    let told: Vec<&str> =
        turns.iter().filter(|it| it["customer"]["phone"] == "34600000005").filter_map(|it| it["content"]["kind"].as_str()).collect();
    assert_eq!(told, ["text", "unsupported"]);

    hold_the_rows_of_the_table(&stack).await;
    a_campaign_goes_out(&stack).await;
    a_person_works_over_the_api(&stack).await;
    the_agents_of_the_readme_answer(&stack).await;

    // What is spoken is heard, where that is asked for.
    let url = format!("http://127.0.0.1:{}/v1/audio/transcriptions", ports.speech);
    let heard = speech::heard(&url, "en", "local-speech-key", &speech::spoken(speech::SENTENCE)).await.expect("words");
    assert!(speech::holds_the_content(&heard.text), "{heard:?}");

    // The schedule is there, and what it says is understood.
    let schedule = stack.http.get(format!("{}/schedules/HealthFunctionSchedule", stack.aws)).header("authorization", signed("scheduler"));
    let schedule = schedule.send().await.expect("the emulator answers").text().await.expect("a body");
    let schedule: Value = serde_json::from_str(&schedule).expect("JSON");
    let said = schedule["Target"]["Input"].as_str().expect("what health is invoked with").to_owned();
    let looked = stack.http.post(format!("{}/2015-03-31/functions/health/invocations", stack.gateway)).body(said);
    let looked = looked.send().await.expect("the gateway answers").text().await.expect("a body");
    assert_eq!(looked, "{\"batchItemFailures\":[]}", "{schedule}");

    // A stranger's webhook is refused, with nothing said.
    let answer = stack.http.post(format!("{}/webhooks/200000000000001", stack.gateway)).body("{}").send().await.expect("answered");
    assert_eq!(answer.status(), 403);
    assert_eq!(answer.text().await.expect("a body"), "");

    // Nothing but this machine reaches any of it.
    let open = listening(&family(stack.process.id()));
    assert!(open.len() >= 4, "the stack listens: {open:?}");
    for address in &open {
        let is_loopback = address.starts_with("0100007F:") || address.starts_with("00000000000000000000000001000000:");
        assert!(is_loopback, "{address} is no loopback address");
    }

    // Ctrl-C in the middle of a conversation, and on again: nothing lost, nothing twice.
    stack.writes("34600000006", json!({ "text": "before the end" })).await;
    let family = family(stack.process.id());
    let demo = stack.demo().await;
    assert!(stack.interrupt().success(), "Ctrl-C is an orderly end");
    let left: Vec<String> = family.iter().filter(|it| Path::new(&format!("/proc/{it}")).exists()).map(|it| name(*it)).collect();
    assert!(left.is_empty(), "still there: {left:?}");
    let stack = Stack::start(&state, ports).ready();
    assert_eq!(stack.demo().await, demo, "the demo connection is found again");
    assert_eq!(stack.answers("34600000006", 1).await.len(), 1);
    stack.writes("34600000001", json!({ "text": "again" })).await;
    let answers = stack.answers("34600000001", 2).await;
    assert_eq!(answers.len(), 2, "the conversation goes on where it was");
    let accepted = stack.get("/sim/accepted").await;
    let counts: Vec<u64> = accepted
        .as_object()
        .into_iter()
        .flatten()
        .flat_map(|it| it.1.as_object().into_iter().flatten().filter_map(|it| it.1.as_u64()))
        .collect();
    assert!(counts.iter().all(|it| *it == 1), "{accepted}");
}

/// A program that is ended with its handle.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The first block of this language in the README's section on agents, word for word.
fn of_readme(language: &str) -> String {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")).expect("the README");
    let section = readme.split_once("### An agent in a dozen lines\n").expect("its section").1.split("\n### ").next().unwrap_or_default();
    let block = section.split_once(&format!("```{language}\n")).expect("a block").1;
    block.split_once("```").expect("its end").0.to_owned()
}

/// The agents of the README, as they stand there, listen on this machine and answer what a customer writes.
async fn the_agents_of_the_readme_answer(stack: &Stack) {
    let number = "100000000000004";
    let line = json!({ "id": number, "account": "300000000000001", "display_phone_number": "+1 555-010-0004" });
    stack.post("/sim/numbers", &line).await;
    let port = || TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port is free").port();
    let at = |port: u16| json!({ "https": { "url": format!("http://127.0.0.1:{port}/") } });
    let ports = [port(), port()];
    let draft = json!({
        "name": "Over HTTPS", "app_id": "200000000000001", "app_secret": "local-app-secret", "access_token": "local-access-token",
        "business_account_id": "300000000000001", "phone_number_ids": [number], "start": true,
        "attach": { "agent": "readme", "delivery": at(ports[0]) },
    });
    let made = stack.done("POST", "/v1/connections", Some(draft)).await;
    let secret = made["attached"]["signing_secret"]["text"].as_str().expect("it is shown once").to_owned();
    let connection = format!("/v1/connections/{}", made["id"].as_str().expect("an id"));
    stack.until(&connection, |it| it["state"] == "RUNNING").await;
    let programs = [("python", "python3", "agent.py", "34600000070", "Python"), ("js", "node", "agent.mjs", "34600000071", "Node")];
    for ((language, program, file, who, name), port) in programs.into_iter().zip(ports) {
        if Command::new(program).arg("--version").stdout(Stdio::null()).status().is_err() {
            assert!(std::env::var_os("CI").is_none_or(|it| it != "true"), "{program} is not here");
            println!("skipped: the README's agent in {language}, since {program} is not here");
            continue;
        }
        let path = stack.state.join(file);
        std::fs::write(&path, of_readme(language)).expect("it can be written");
        let mut command = Command::new(program);
        let _agent = Program(command.arg(&path).env("SECRET", &secret).env("PORT", port.to_string()).spawn().expect("it starts"));
        listens(port).await;
        stack.done("PUT", &format!("{connection}/agents/readme"), Some(json!({ "delivery": at(port) }))).await;
        stack.writes(who, json!({ "to": number, "text": "Is anybody there?" })).await;
        let answers = stack.answers(who, 1).await;
        assert_eq!(answers[0]["text"], format!("{name} heard: Is anybody there?"));
        // What is not signed is not answered.
        let forged = stack.http.post(format!("http://127.0.0.1:{port}/")).header("webhook-id", "1").header("webhook-timestamp", "1");
        let forged = forged.header("webhook-signature", "v1,AAAA v1,é").body(r#"{"type":"turn","data":{"content":{"text":"hi"}}}"#);
        let answer = forged.send().await.expect("it answers");
        assert_eq!((answer.status().as_u16(), answer.text().await.expect("a body").contains("hi")), (401, false));
    }
}

/// Waits until a program of this machine takes connections.
async fn listens(port: u16) {
    let deadline = Instant::now() + PATIENCE;
    let mut look = tokio::time::interval(Duration::from_millis(50));
    while Instant::now() < deadline {
        look.tick().await;
        if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return;
        }
    }
    panic!("nobody listens on port {port}");
}

/// Every kind of inbound that can be told over HTTP: what is answered, what is only kept, and who is silent.
async fn hold_the_rows_of_the_table(stack: &Stack) {
    // A customer who moves to the other number is answered from there.
    stack.writes("34600000010", json!({ "text": "on A" })).await;
    stack.answers("34600000010", 1).await;
    stack.writes("34600000010", json!({ "to": OTHER_NUMBER, "text": "on B" })).await;
    let numbers: Vec<Value> = stack.answers("34600000010", 2).await.iter().map(|it| it["number"].clone()).collect();
    assert_eq!(numbers, [NUMBER, OTHER_NUMBER]);

    // A quote names the message that it answers; a long answer goes out in parts, in order.
    stack.writes("34600000011", json!({ "text": "first" })).await;
    let answer = stack.answers("34600000011", 1).await.remove(0);
    stack.writes("34600000011", json!({ "text": "about that", "quote": answer["id"] })).await;
    stack.answers("34600000011", 2).await;
    let turns = stack.told("turns.jsonl", "about that").await;
    let quoted = turns.iter().find(|it| it["content"]["text"] == "about that").expect("its turn");
    assert_eq!(quoted["quoted"]["from"], "business");
    stack.writes("34600000012", json!({ "text": "word ".repeat(830) })).await;
    let parts = stack.answers("34600000012", 2).await;
    assert!(parts.iter().all(|it| it["text"].as_str().is_some_and(|it| it.chars().count() <= 4_096)), "each part fits");
    assert!(parts[0]["text"].as_str().is_some_and(|it| it.starts_with("You wrote")), "the first part comes first");

    // Files, buttons and lists are turns; a shared contact is one too.
    for (index, (message, kind)) in [
        (json!({ "type": "audio" }), "audio"),
        (json!({ "type": "image", "caption": "my receipt" }), "image"),
        (json!({ "type": "document", "filename": "quote.pdf" }), "document"),
        (json!({ "type": "button", "text": "Yes", "payload": "yes-1" }), "button"),
        (json!({ "type": "button_reply", "id": "b1", "title": "Yes" }), "button_reply"),
        (json!({ "type": "list_reply", "id": "r1", "title": "Monday" }), "list_reply"),
        (json!({ "type": "flow_reply", "response_json": "{}" }), "flow_reply"),
    ]
    .into_iter()
    .enumerate()
    {
        let who = format!("3460000002{index}");
        stack.writes(&who, message).await;
        stack.answers(&who, 1).await;
        let turns = stack.told("turns.jsonl", &who).await;
        assert!(turns.iter().any(|it| it["customer"]["phone"] == who.as_str() && it["content"]["kind"] == kind), "{kind} is a turn");
    }

    // What another responder has, what a person has, and what is written in a group is not answered; a word on marketing is told.
    stack.writes("34600000030", json!({ "text": "not for you", "standby": true })).await;
    stack.writes("34600000031", json!({ "type": "group", "group_id": "g1", "text": "in a group" })).await;
    stack.writes("34600000032", json!({ "text": "hello" })).await;
    stack.answers("34600000032", 1).await;
    stack.post(&format!("/sim/numbers/{NUMBER}/echoes"), &json!({ "to": "34600000032", "text": "Eva here" })).await;
    stack.told("events.jsonl", "\"type\":\"handling\"").await;
    stack.writes("34600000032", json!({ "text": "hello Eva" })).await;
    stack.post("/sim/phones/34600000032/preference", &json!({ "to": NUMBER, "value": "stop" })).await;
    stack.told("events.jsonl", "\"type\":\"opt_out\"").await;
    // A later customer of the same queues is answered: the ones before have been worked on.
    stack.writes("34600000033", json!({ "text": "last" })).await;
    let turns = stack.told("turns.jsonl", "\"last\"").await;
    for silent in ["not for you", "in a group", "hello Eva"] {
        assert!(!turns.iter().any(|it| it["content"]["text"] == silent), "{silent:?} is no turn");
    }
    stack.answers("34600000033", 1).await;
}

/// From a new connection to the story of a delivered template, by nothing but the API and the customer's phone.
async fn a_person_works_over_the_api(stack: &Stack) {
    let (who, number) = ("34600000060", "100000000000003");
    let (status, _, answer) = stack.api_with("not-the-token", &[], "GET", "/v1/connections", None).await;
    assert!(status == 401 && answer["code"] == "unauthorized", "{status} {answer}");

    // A number of the account, a connection of it, and its start.
    let line = json!({ "id": number, "account": "300000000000001", "display_phone_number": "+1 555-010-0003" });
    stack.post("/sim/numbers", &line).await;
    let draft = json!({
        "name": "Shop", "app_id": "200000000000001", "app_secret": "local-app-secret", "access_token": "local-access-token",
        "business_account_id": "300000000000001", "phone_number_ids": [number], "attach": { "agent": "example" },
    });
    let made = stack.done("POST", "/v1/connections", Some(draft)).await;
    assert!(made["state"] == "STOPPED" && made["access_token"] == json!({ "set": true, "hint": "oken" }), "{made}");
    let connection = format!("/v1/connections/{}", made["id"].as_str().expect("an id"));
    assert_eq!(stack.done("POST", &format!("{connection}/start"), None).await["state"], "STARTING");
    stack.until(&connection, |it| it["state"] == "RUNNING").await;
    let logs = stack.done("GET", &format!("{connection}/logs"), None).await;
    assert_eq!(logs["items"][0]["text"], "RUNNING: Running.");

    // The agent answers; a person takes over, writes, and gives it back with what was missed.
    stack.writes(who, json!({ "to": number, "text": "hello" })).await;
    stack.answers(who, 1).await;
    let list = format!("/v1/conversations?connection={}", made["id"].as_str().expect("an id"));
    let listed = stack.until(&list, |it| it["items"][0]["phone"] == who).await;
    assert!(listed["items"][0]["standing"] == "open" && listed["items"][0]["unread"] == true, "{listed}");
    let conversation = format!("/v1/conversations/{}", listed["items"][0]["id"].as_str().expect("an id"));
    assert_eq!(stack.done("POST", &format!("{conversation}/take"), None).await["answered_by"], "person");
    stack.writes(who, json!({ "to": number, "text": "a person, please" })).await;
    stack.until(&format!("{conversation}/messages"), |it| it.to_string().contains("a person, please")).await;
    let sends = async |key: &str, what: &str, body: Value| {
        let (status, _, answer) =
            stack.api_with(TOKEN, &[("idempotency-key", key)], "POST", &format!("{conversation}/{what}"), Some(body)).await;
        assert_eq!(status, 202, "{answer}");
        answer["message"].as_str().expect("a message").to_owned()
    };
    let words = json!({ "message": { "type": "text", "text": "Eva here." }, "person": "Eva" });
    let sent = sends("one", "messages", words.clone()).await;
    assert_eq!(sends("one", "messages", words).await, sent, "the same key is the same message");
    assert_eq!(stack.answers(who, 2).await[1]["text"], "Eva here.");
    assert_eq!(stack.done("POST", &format!("{conversation}/release"), None).await["answered_by"], "agent");
    stack.writes(who, json!({ "to": number, "text": "thanks" })).await;
    assert_eq!(stack.answers(who, 3).await.len(), 3);
    let turns = stack.told("turns.jsonl", "\"thanks\"").await;
    let turn = turns.iter().find(|it| it["content"]["text"] == "thanks").expect("its turn");
    assert_eq!(turn["missed"].as_array().map(Vec::len), Some(2), "{turn}");

    // A template as the preview showed it, and all that happened to it.
    let values = json!({ "body": [{ "field": "first_name" }] });
    let filled = json!({ "values": values, "fields": { "first_name": "Ana" } });
    let preview = stack.done("POST", &format!("{connection}/templates/spring_offer/en_US/preview"), Some(filled)).await;
    let template = json!({
        "template": "spring_offer", "language": "en_US", "values": values, "fields": { "first_name": "Ana" }, "person": "Eva",
    });
    let sent = sends("two", "templates", template).await;
    let received = stack.answers(who, 4).await;
    assert_eq!(preview["preview"]["body"], received[3]["text"], "{preview}");
    let (_, key) = sent.split_once('/').expect("a conversation, a time and an id");
    let story = stack.until(&format!("{conversation}/messages/{key}/story"), |it| it.to_string().contains("\"read\"")).await;
    let told: Vec<&str> = story.as_array().expect("a list").iter().filter_map(|it| it["step"].as_str()).collect();
    assert_eq!(told, ["sent", "delivered", "read"], "{story}");
}

/// A template reaches the phone once, the guard holds the second, and an answer opens it.
async fn a_campaign_goes_out(stack: &Stack) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();
    let connection = stack.demo().await;
    let job = |serial: u32| {
        json!({ "v": 1, "id": format!("{:08x}-{:04x}-7000-8000-{serial:012x}", now >> 16, now & 0xffff), "tenant": "demo",
                "connection": connection, "to": { "phone": "34600000040" }, "template": "spring_offer", "language": "en-US",
                "values": { "body": [{ "field": "first_name" }] }, "participant": { "first_name": "Ana" }, "campaign": "spring" })
    };
    // The same job twice is one send.
    stack.campaigns(&job(1)).await;
    stack.campaigns(&job(1)).await;
    let received = stack.answers("34600000040", 1).await;
    assert_eq!(received[0]["text"], "Hello Ana, everything is half price today.");
    stack.campaigns(&job(2)).await;
    let events = stack.told("events.jsonl", "\"code\":\"awaiting_reply\"").await;
    let refused = events.iter().find(|it| it["code"] == "awaiting_reply").expect("it is told");
    assert!(refused["campaign"] == "spring" && refused["retry"] == "later" && refused["conversation"].is_string(), "{refused}");
    stack.writes("34600000040", json!({ "text": "which ones?" })).await;
    assert_eq!(stack.answers("34600000040", 2).await.len(), 2, "the agent answers");
    stack.campaigns(&job(3)).await;
    assert_eq!(stack.answers("34600000040", 3).await.len(), 3, "in the open window a template may follow");
}

#[tokio::test]
async fn the_api_answers_nothing_but_what_it_describes() {
    let stack = Stack::start(&folder("description"), Ports::free()).ready();
    let connection = stack.demo().await;
    // One is for erasing, one for all else; so with the connections.
    let mut conversations = Vec::new();
    for who in ["34600000050", "34600000051"] {
        stack.writes(who, json!({ "text": "hello" })).await;
        stack.answers(who, 1).await;
        let page = stack.until(&format!("/v1/conversations?connection={connection}"), |it| it.to_string().contains(who)).await;
        let found = page["items"].as_array().expect("a list").iter().find(|it| it["phone"] == who).expect("it is listed");
        conversations.push(found["id"].as_str().expect("an id").to_owned());
    }
    let messages = stack.done("GET", &format!("/v1/conversations/{}/messages", conversations[0]), None).await;
    let answer: Vec<&str> = messages["items"][0]["id"].as_str().expect("an id").split('/').collect();
    let draft = json!({ "name": "To delete", "access_token": "local-access-token", "business_account_id": "300000000000001" });
    let deleted = stack.done("POST", "/v1/connections", Some(draft)).await["id"].as_str().expect("an id").to_owned();
    let configuration = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemathesis.toml");
    let asking = Command::new(program().with_file_name("../venv/bin/schemathesis"))
        .arg("--config-file")
        .arg(&configuration)
        .args(["run", "--no-color", &format!("{}/v1/openapi.json", stack.gateway)])
        .env("HOOKS", configuration.with_file_name("schemathesis_hooks.py"))
        .env("TOKEN", TOKEN)
        .env("AGENT", "example")
        .env("NUMBER", NUMBER)
        .env("CONNECTION", connection)
        .env("DELETED_CONNECTION", deleted)
        .env("CONVERSATION", &conversations[0])
        .env("ERASED_CONVERSATION", &conversations[1])
        .env("AT", answer[1])
        .env("MESSAGE", answer[2])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(stack.state.parent().expect("a folder"))
        .output()
        .expect("`make test` installs schemathesis before it runs the tests");
    let said = String::from_utf8_lossy(&asking.stdout);
    assert!(asking.status.success(), "{said}{}", String::from_utf8_lossy(&asking.stderr));
    println!("{said}");
}

#[test]
fn a_taken_port_is_told_in_a_sentence() {
    let held = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let taken = held.local_addr().expect("bound").port();
    let ports = Ports { simulator: taken, ..Ports::free() };
    let output = command(&folder("taken-port"), ports).output().expect("it ends by itself");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&taken.to_string()) && said.contains("META_SIM_ADDRESS"), "{said}");
}

#[test]
fn a_child_that_dies_is_named() {
    let mut stack = Stack::start(&folder("dead-child"), Ports::free()).ready();
    let simulator = family(stack.process.id()).into_iter().find(|it| name(*it) == "meta-sim").expect("the simulator runs");
    signal("KILL", simulator);
    let said = stack.says("Stopping");
    let status = stack.process.wait().expect("it ends");
    assert!(!status.success());
    let said = stack.lines.iter().fold(said, |said, line| said + &line + "\n");
    assert!(said.to_lowercase().contains("meta") && said.contains("simulator"), "{said}");
}
