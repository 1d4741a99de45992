//! Starts ministack for the contracts, on loopback, with nothing of the machine's, and stops it at the end.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region, SharedHttpClient};
use serde_json::{Value, json};
use world::template::{ACCOUNT, REGION};

/// A running ministack. It ends with this value.
pub(super) struct Ministack {
    process: Child,
    endpoint: String,
    state: PathBuf,
}

impl Drop for Ministack {
    fn drop(&mut self) {
        // It may have ended by itself, and its state is worth nothing without it.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.state);
    }
}

impl Ministack {
    /// Starts it on a free port and returns once it says that it is ready.
    pub(super) async fn start() -> Self {
        // Installed once in a process; whoever was first chose the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port is free").port();
        let state = std::env::temp_dir().join(format!("contracts-{}-{port}", std::process::id()));
        let mut process = Command::new(program())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("BIND_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.to_string())
            .env("STATE_DIR", &state)
            .env("TMPDIR", std::env::temp_dir())
            .env("IOT_MTLS_ENABLED", "0")
            .env("PYTHONUNBUFFERED", "1")
            // Links are signed by these.
            .env("AWS_ACCESS_KEY_ID", "local")
            .env("AWS_SECRET_ACCESS_KEY", "local")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ministack starts");
        let lines = BufReader::new(process.stderr.take().expect("it is piped")).lines();
        let ministack = Self { process, endpoint: format!("http://127.0.0.1:{port}"), state };
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        // Reads on until the end: a full pipe would stop the process.
        std::thread::spawn(move || {
            let mut ready = Some(ready);
            let mut said = Vec::new();
            for line in lines.map_while(Result::ok) {
                if line.contains("Running on") {
                    ready.take().map(|it| it.send(Ok(())));
                }
                if ready.is_some() {
                    said.push(line);
                }
            }
            ready.map(|it| it.send(Err(said.join("\n"))));
        });
        if let Err(said) = is_ready.await.expect("the reader tells") {
            panic!("ministack ended before it was ready:\n{said}");
        }
        ministack
    }

    pub(super) fn dynamo(&self) -> aws_sdk_dynamodb::Client {
        let config = aws_sdk_dynamodb::Config::builder().behavior_version(BehaviorVersion::latest());
        let config = config.region(Region::new(REGION)).credentials_provider(credentials());
        aws_sdk_dynamodb::Client::from_conf(config.endpoint_url(&self.endpoint).http_client(http_client()).build())
    }

    pub(super) fn sqs(&self) -> aws_sdk_sqs::Client {
        let config = aws_sdk_sqs::Config::builder().behavior_version(BehaviorVersion::latest());
        let config = config.region(Region::new(REGION)).credentials_provider(credentials());
        aws_sdk_sqs::Client::from_conf(config.endpoint_url(&self.endpoint).http_client(http_client()).build())
    }

    pub(super) fn kms(&self) -> aws_sdk_kms::Config {
        let config = aws_sdk_kms::Config::builder().behavior_version(BehaviorVersion::latest());
        let config = config.region(Region::new(REGION)).credentials_provider(credentials());
        config.endpoint_url(&self.endpoint).http_client(http_client()).build()
    }

    pub(super) fn s3(&self) -> aws_sdk_s3::config::Builder {
        let config = aws_sdk_s3::Config::builder().region(Region::new(REGION)).credentials_provider(credentials());
        config.endpoint_url(&self.endpoint).force_path_style(true).http_client(http_client())
    }

    /// Maps a queue to a function whose invocations go to `url`.
    /// <https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html>
    pub(super) async fn map(&self, queue: &str, url: &str) {
        let function = json!({
            "FunctionName": queue, "Runtime": "provided.al2023", "Handler": "bootstrap",
            "Role": format!("arn:aws:iam::{ACCOUNT}:role/contract"),
            // An empty archive: the function itself runs at the URL.
            "Code": { "ZipFile": "UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA==" },
            "Environment": { "Variables": { "MINISTACK_LAMBDA_PROXY_URL": url } },
        });
        self.lambda("/2015-03-31/functions", &function).await;
        let mapping = json!({
            "FunctionName": queue, "EventSourceArn": world::template::queue_arn(queue),
            "BatchSize": 10, "FunctionResponseTypes": ["ReportBatchItemFailures"],
        });
        self.lambda("/2015-03-31/event-source-mappings", &mapping).await;
    }

    async fn lambda(&self, path: &str, body: &Value) {
        // Ministack takes service and region from here and checks no signature.
        let scope = format!("Credential=local/20260302/{REGION}/lambda/aws4_request");
        let answer = reqwest::Client::new()
            .post(format!("{}{path}", self.endpoint))
            .header("authorization", format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=none"))
            .header("content-type", "application/json")
            .body(body.to_string());
        let answer = answer.send().await.expect("ministack answers");
        let status = answer.status();
        assert!(status.is_success(), "{path}: {status} {}", answer.text().await.unwrap_or_default());
    }
}

fn credentials() -> Credentials {
    Credentials::from_keys("local", "local", None)
}

fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().build_http()
}

/// From the variable `MINISTACK_BIN`, else from the virtual environment beside the build in which this test was made, else
/// from one of the repository's.
fn program() -> PathBuf {
    let given = std::env::var_os("MINISTACK_BIN").map(PathBuf::from);
    let test = std::env::current_exe().expect("a test is a program");
    // <target>/debug/deps/<test>
    let target = test.ancestors().nth(3).map(|it| it.join("venv"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let own = target.into_iter().chain([root.join("target/venv"), root.join(".venv")]).map(|it| it.join("bin/ministack"));
    let found = given.into_iter().chain(own).find(|it| it.is_file());
    found.expect("ministack is missing: `make test` installs it beside the build and runs the tests")
}
