//! S3 for one test: an embedded engine (s3s over a folder of its own), reached in process through a [`Wire`], and by links over HTTP.
//!
//! Signatures are checked by the real clock, and so is how long a link is good: both sides take it from the machine.

use aws_credential_types::Credentials;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation};
use futures::future::BoxFuture;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;

use crate::clock::Clock;
use crate::template::REGION;
use crate::wire::{Answer, Call, Fault, Faults, Head, Service, Wire};

/// The keys that open the engine.
const KEY: &str = "local";

/// The bucket of a test.
#[derive(Clone, Debug)]
pub struct Bucket {
    wire: Wire<Engine>,
    name: String,
    endpoint: String,
}

impl Bucket {
    /// An empty bucket of this name. Its links are served on a port of this machine.
    ///
    /// # Panics
    /// When this machine has no folder or port for it.
    pub async fn new(name: &str, clock: &Clock) -> Self {
        let folder = tempfile::tempdir().expect("a folder of its own");
        std::fs::create_dir(folder.path().join(name)).expect("a folder for the bucket");
        let mut builder = S3ServiceBuilder::new(FileSystem::new(folder.path()).expect("a folder"));
        builder.set_auth(SimpleAuth::from_single(KEY, KEY));
        let service = builder.build();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port on this machine");
        let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
        let served = service.clone();
        let router = axum::Router::new().fallback(move |request: axum::extract::Request| {
            let served = served.clone();
            async move {
                let answer = served.call(request.map(s3s::Body::http_body_unsync)).await.expect("the engine answers");
                answer.map(axum::body::Body::new)
            }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        let engine = Engine { service, folder, clock: clock.clone() };
        Self { wire: Wire::new(engine, clock.clone()), name: name.to_owned(), endpoint }
    }

    /// What is to go wrong, and what was called.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        self.wire.faults()
    }

    /// The bucket as production code sees it, without retries, so that a test sees each fault.
    #[must_use]
    pub fn blobs(&self, who: &str) -> channel::blobs::Blobs {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .credentials_provider(Credentials::from_keys(KEY, KEY, None))
            .endpoint_url(&self.endpoint)
            .force_path_style(true)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .retry_config(RetryConfig::disabled())
            .http_client(self.wire.http_client(who))
            .build();
        channel::blobs::Blobs::new(config, &self.name)
    }

    /// The keys of all objects, in order.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let root = self.wire.service().folder.path().join(&self.name);
        let (mut open, mut keys) = (vec![root.clone()], Vec::new());
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder").map(|it| it.expect("an entry").path()) {
                if entry.is_dir() {
                    open.push(entry);
                } else {
                    keys.push(entry.strip_prefix(&root).expect("below the bucket").display().to_string());
                }
            }
        }
        keys.sort();
        keys
    }
}

#[derive(Debug)]
struct Engine {
    service: S3Service,
    folder: TempDir,
    clock: Clock,
}

impl Service for Engine {
    fn execute(&self, call: Call) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            // It reads and writes on threads of its own.
            let _at_work = self.clock.work();
            let mut request = http::Request::builder().method(call.head.method.as_str()).uri(&call.head.uri);
            for (name, value) in &call.head.headers {
                request = request.header(name, value);
            }
            // Signed with the others, and sent by whoever opens the connection.
            let host = call.head.uri.split('/').nth(2).unwrap_or_default();
            let request = request.header("host", host).body(s3s::Body::from(call.body)).expect("the SDK makes requests");
            let answer = self.service.call(request).await.expect("the engine answers");
            let (head, body) = answer.into_parts();
            let text = |it: &http::HeaderValue| String::from_utf8_lossy(it.as_bytes()).into_owned();
            let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
            let body = axum::body::to_bytes(axum::body::Body::new(body), usize::MAX).await.expect("the engine answers to the end");
            // Over HTTP the answer to a HEAD has none, whatever the engine says.
            let body = if call.head.method == "HEAD" { Vec::new() } else { body.to_vec() };
            Answer { status: head.status.as_u16(), headers, body }
        })
    }

    fn action(&self, head: &Head) -> String {
        let (path, query) = head.uri.split_once('?').unwrap_or((&head.uri, ""));
        let has = |name: &str| query.split('&').any(|it| it.split('=').next() == Some(name));
        let is_bucket = path.splitn(4, '/').nth(3).is_none_or(|it| it.trim_matches('/').matches('/').count() == 0);
        let action = match head.method.as_str() {
            "PUT" if has("partNumber") => "UploadPart",
            "PUT" => "PutObject",
            "POST" if has("uploads") => "CreateMultipartUpload",
            "POST" if has("uploadId") => "CompleteMultipartUpload",
            "POST" => "DeleteObjects",
            "DELETE" if has("uploadId") => "AbortMultipartUpload",
            "DELETE" => "DeleteObject",
            "HEAD" => "HeadObject",
            _ if is_bucket => "ListObjectsV2",
            _ => "GetObject",
        };
        action.to_owned()
    }

    fn fault(&self, _: &Call, fault: &Fault) -> Answer {
        let (status, code) = match fault {
            Fault::AccessDenied => (403, "AccessDenied"),
            Fault::Throttled => (503, "SlowDown"),
            _ => (500, "InternalError"),
        };
        let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code></Error>").into_bytes();
        Answer { status, headers: vec![("content-type".to_owned(), "application/xml".to_owned())], body }
    }

    /// By which permission S3 lets each action pass: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html>.
    fn needs(&self, call: &Call) -> Vec<(String, String)> {
        let permission = match call.action.as_str() {
            "PutObject" | "UploadPart" | "CreateMultipartUpload" | "CompleteMultipartUpload" => "s3:PutObject",
            "AbortMultipartUpload" => "s3:AbortMultipartUpload",
            "DeleteObject" | "DeleteObjects" => "s3:DeleteObject",
            "ListObjectsV2" => "s3:ListBucket",
            _ => "s3:GetObject",
        };
        let path = call.head.uri.split('?').next().unwrap_or_default();
        let (bucket, key) = path.splitn(4, '/').nth(3).map_or(("", ""), |it| it.split_once('/').unwrap_or((it, "")));
        let listed = ("s3:ListBucket".to_owned(), format!("arn:aws:s3:::{bucket}"));
        if permission == "s3:ListBucket" {
            return vec![listed];
        }
        let needed = (permission.to_owned(), format!("arn:aws:s3:::{bucket}/*"));
        // Our keys are in a URL as they are. Whoever may not list is not told either that one is missing, but denied:
        // <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>.
        let is_missing = permission == "s3:GetObject" && !self.folder.path().join(bucket).join(key).exists();
        if is_missing { vec![needed, listed] } else { vec![needed] }
    }
}
