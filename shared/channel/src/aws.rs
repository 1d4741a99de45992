//! How the AWS clients are built: from values in hand, over one HTTP client.
//!
//! The SDK's own `aws-config` chain (profiles, metadata servers, single sign-on) is left out: in Lambda the environment has
//! everything. Must not know where the values come from; `lambda` reads the environment.

use std::fmt;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Region, SharedCredentialsProvider, SharedHttpClient};
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};

/// The root certificates under which AWS's public endpoints are certified, and no others:
/// <https://www.amazontrust.com/repository/>. A handful parses in microseconds where the system's store takes milliseconds of
/// every cold start. What is certified elsewhere (a proxy, a local stack over TLS) needs [`Aws::trusting`].
const AMAZON_ROOTS: &str = include_str!("amazon_roots.pem");

/// How long a TCP and TLS connection may take. In one region it takes a few milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long one attempt may take, the connection included.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a call may take with all its attempts: under the timeout of every function, which then still answers.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(7);

/// How long S3 may take for a part of a file, each time that it is tried.
const PART_TIMEOUT: Duration = Duration::from_secs(12);

/// How long a call of S3 may take with all its attempts: under the timeout of every function that has the bucket.
pub const BUCKET_TIMEOUT: Duration = PART_TIMEOUT.saturating_mul(2);

/// One first attempt and two more, with exponential back-off and a token bucket:
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html>.
const ATTEMPTS: u32 = 3;

/// What the clients need to know, under the names of the variables that Lambda sets:
/// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html>.
#[derive(Clone)]
pub struct Environment {
    /// `AWS_REGION`, for example `eu-central-1`.
    pub region: String,
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: String,
    /// `AWS_SESSION_TOKEN`: always set in Lambda, which renews all three only with the sandbox; not set for long-lived keys.
    pub session_token: Option<String>,
    /// Where DynamoDB is, if not at AWS: <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>.
    pub endpoint_url_dynamodb: Option<String>,
    /// Where SQS is, if not at AWS.
    pub endpoint_url_sqs: Option<String>,
    /// Where KMS is, if not at AWS.
    pub endpoint_url_kms: Option<String>,
    /// Where S3 is, if not at AWS.
    pub endpoint_url_s3: Option<String>,
}

/// Prints no credentials.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("region", &self.region)
            .field("endpoint_url_dynamodb", &self.endpoint_url_dynamodb)
            .field("endpoint_url_sqs", &self.endpoint_url_sqs)
            .finish_non_exhaustive()
    }
}

/// The configuration of one service's client: each crate of the SDK has a builder of its own, and all are alike.
macro_rules! configuration {
    ($aws:ident, $sdk:ident, $endpoint_url:ident) => {{
        let mut builder = $sdk::Config::builder();
        builder.set_endpoint_url($aws.environment.$endpoint_url.clone());
        builder
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new($aws.environment.region.clone()))
            .credentials_provider($aws.credentials.clone())
            .http_client($aws.http_client.clone())
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(timeouts())
            .build()
    }};
}

/// The clients' common configuration. Build it once: clients from one `Aws` share their connections.
#[derive(Clone, Debug)]
pub struct Aws {
    environment: Environment,
    credentials: SharedCredentialsProvider,
    http_client: SharedHttpClient,
}

impl Aws {
    /// Trusts Amazon's roots. Opens nothing yet: connections are made at the first use.
    pub fn new(environment: Environment) -> Self {
        Self::trusting(environment, "")
    }

    /// Trusts the certificates of `more_roots` too, which is PEM text such as a file that `AWS_CA_BUNDLE` names.
    ///
    /// # Panics
    /// The first client that is built panics if one of them does not parse.
    pub fn trusting(environment: Environment, more_roots: &str) -> Self {
        let credentials = Credentials::new(
            environment.access_key_id.clone(),
            environment.secret_access_key.clone(),
            environment.session_token.clone(),
            None,
            "environment",
        );
        Self { credentials: SharedCredentialsProvider::new(credentials), http_client: https_client(more_roots), environment }
    }

    /// The configuration of a DynamoDB client.
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Config {
        configuration!(self, aws_sdk_dynamodb, endpoint_url_dynamodb)
    }

    /// The configuration of an SQS client.
    pub fn sqs(&self) -> aws_sdk_sqs::Config {
        configuration!(self, aws_sdk_sqs, endpoint_url_sqs)
    }

    /// The configuration of an S3 client. Elsewhere than at AWS a bucket is a path and no host of its own.
    ///
    /// What is put there is held to its hash by whoever puts it, or signed away by a link, which can hold no checksum of what it does not know.
    pub fn s3(&self) -> aws_sdk_s3::Config {
        configuration!(self, aws_sdk_s3, endpoint_url_s3)
            .to_builder()
            .force_path_style(self.environment.endpoint_url_s3.is_some())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .timeout_config(timeouts().to_builder().operation_attempt_timeout(PART_TIMEOUT).operation_timeout(BUCKET_TIMEOUT).build())
            .build()
    }

    /// The configuration of a KMS client.
    pub fn kms(&self) -> aws_sdk_kms::Config {
        configuration!(self, aws_sdk_kms, endpoint_url_kms)
    }
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build()
}

fn https_client(more_roots: &str) -> SharedHttpClient {
    let roots = TrustStore::empty().with_pem_certificate(AMAZON_ROOTS).with_pem_certificate(more_roots);
    let tls = TlsContext::builder().with_trust_store(roots).build().expect("a trust store makes no context that can fail to build");
    Builder::new().tls_provider(Provider::rustls(CryptoMode::Ring)).tls_context(tls).build_https()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        Environment {
            region: "eu-central-1".into(),
            access_key_id: "AKIAEXAMPLE".into(),
            secret_access_key: "example-secret-key".into(),
            session_token: Some("example-session-token".into()),
            endpoint_url_dynamodb: Some("http://127.0.0.1:4567".into()),
            endpoint_url_sqs: None,
            endpoint_url_kms: None,
            endpoint_url_s3: None,
        }
    }

    #[test]
    fn credentials_are_not_printed() {
        let aws = Aws::new(environment());
        for printed in [format!("{:?}", environment()), format!("{aws:?}"), format!("{:?}", aws.sqs())] {
            for secret in ["example-secret-key", "example-session-token"] {
                assert!(!printed.contains(secret), "{printed}");
            }
        }
    }

    #[test]
    fn clients_have_their_region_and_retries() {
        let aws = Aws::new(environment());
        assert_eq!(aws.sqs().region().map(AsRef::as_ref), Some("eu-central-1"));
        assert_eq!(aws.dynamodb().retry_config().map(RetryConfig::max_attempts), Some(3));
        assert_eq!(aws.sqs().timeout_config().and_then(TimeoutConfig::connect_timeout), Some(CONNECT_TIMEOUT));
    }

    #[test]
    fn the_pinned_roots_are_amazons_five() {
        assert_eq!(AMAZON_ROOTS.matches("-----BEGIN CERTIFICATE-----").count(), 5);
        assert_eq!(AMAZON_ROOTS.matches("# Amazon Root CA ").count(), 4);
    }
}
