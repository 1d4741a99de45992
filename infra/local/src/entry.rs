//! The functions under `cargo lambda watch`: hot reload, and the HTTP entry that API Gateway is in AWS.
//!
//! Routes are in the root manifest, `[workspace.metadata.lambda.watch.router]`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::children::Program;
use crate::settings::Settings;
use crate::stack::{ACCESS_KEY, REGION, Stack, invocation_url};

/// What cargo and rustc are told by people's environments, and must be told alike by ours, or they build everything again.
const TOOLCHAIN: [&str; 14] = [
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "CARGO_HOME",
    "CARGO_BUILD_JOBS",
    "CARGO_INCREMENTAL",
    "CARGO_NET_OFFLINE",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "RUSTFLAGS",
    "RUSTC_WRAPPER",
    "CC",
    "CFLAGS",
];

/// How long the first invocation of a function may take: cargo looks whether it is fresh, and builds it if it is not. A function
/// that ended leaves its caller waiting for ever.
const FIRST_ANSWER: Duration = Duration::from_secs(120);

/// `cargo lambda watch` as a program.
///
/// The functions get what the template gives them, with Meta's place taken by the simulator, and AWS's by the emulator: no
/// function is started without, or it would call AWS.
pub(crate) fn functions(settings: &Settings, stack: &Stack, variable: impl Fn(&str) -> Option<String>) -> Program {
    let aws = format!("http://{}", settings.aws);
    let mut environment: BTreeMap<String, String> = stack.variables.clone();
    for name in TOOLCHAIN {
        environment.extend(variable(name).map(|value| (name.to_owned(), value)));
    }
    if !settings.campaign_share.is_empty() {
        environment.insert("CAMPAIGN_SHARE".to_owned(), settings.campaign_share.clone());
    }
    let ours = [
        ("CARGO_TARGET_DIR", settings.places.target.display().to_string()),
        ("GRAPH_URL", format!("http://{}", settings.meta_sim)),
        ("API_TOKEN", settings.api_token.clone()),
        ("API_TENANT", settings.demo.tenant.clone()),
        ("WEBHOOK_URL", format!("http://{}/webhooks", settings.gateway)),
        ("AWS_ENDPOINT_URL", aws),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", ACCESS_KEY.to_owned()),
        ("AWS_CONFIG_FILE", "/dev/null".to_owned()),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".to_owned()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
    ];
    environment.extend(ours.map(|(name, value)| (name.to_owned(), value)));
    let address = settings.gateway.ip().to_string();
    let port = settings.gateway.port().to_string();
    // No `--timeout`: it would cut off the functions' own waiting for work as well, and they end when that happens.
    let arguments = ["lambda", "watch", "--invoke-address", &address, "--invoke-port", &port, "--concurrency", "4"];
    Program {
        name: "functions",
        path: settings.places.tool("cargo-lambda"),
        arguments: arguments.map(str::to_owned).into(),
        environment,
        directory: settings.places.workspace.clone(),
        patience: Duration::from_secs(10),
    }
}

/// Whether anything answers at the gateway.
pub(crate) async fn answers(http: &reqwest::Client, settings: &Settings) -> bool {
    // cargo-lambda has no health page; any answer, a 404 too, says that it listens.
    http.get(format!("http://{}/", settings.gateway)).send().await.is_ok()
}

/// Starts a function that a queue feeds by an empty batch, so that the first customer waits for no cargo.
///
/// # Errors
/// It does not start, or does not answer as such a function must.
pub(crate) async fn wake(http: &reqwest::Client, settings: &Settings, function: &str) -> Result<()> {
    let response = http
        .post(invocation_url(settings.gateway, function))
        .timeout(FIRST_ANSWER)
        .header("content-type", "application/json")
        .body(r#"{"Records":[]}"#)
        .send()
        .await
        .with_context(|| format!("the function {function} does not answer"))?;
    let status = response.status();
    let text = response.text().await?;
    if !status.is_success() || !text.contains("batchItemFailures") {
        bail!("The function {function} answers an empty batch with {status}: {text}");
    }
    Ok(())
}

/// Knocks at `webhook` as nobody, which proves its route. That it knows the app is what Meta asks when the connection starts.
///
/// # Errors
/// The answer is not the one that strangers get.
pub(crate) async fn knock(http: &reqwest::Client, settings: &Settings) -> Result<()> {
    let response = http.get(callback(settings)).timeout(FIRST_ANSWER).send().await.context("the function webhook does not answer")?;
    let status = response.status();
    if status != reqwest::StatusCode::FORBIDDEN {
        bail!("The function webhook answers a stranger with {status}");
    }
    Ok(())
}

/// Asks `control` for the description of the API, which proves its route.
///
/// # Errors
/// It does not answer with such a document.
pub(crate) async fn describe(http: &reqwest::Client, settings: &Settings) -> Result<()> {
    let url = format!("http://{}/v1/openapi.json", settings.gateway);
    let response = http.get(url).timeout(FIRST_ANSWER).send().await.context("the function control does not answer")?;
    let status = response.status();
    let text = response.text().await?;
    if !status.is_success() || !text.contains("openapi") {
        bail!("The function control does not describe the API: {status}");
    }
    Ok(())
}

/// Where Meta sends the demo app's webhooks.
pub(crate) fn callback(settings: &Settings) -> String {
    format!("http://{}/webhooks/{}", settings.gateway, settings.demo.app_id)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::settings::Places;

    #[test]
    fn functions_have_every_endpoint_and_nothing_that_was_not_named() {
        let places = Places::of(Path::new("/somewhere/target/debug/local")).expect("the path is deep enough");
        let settings = Settings::read(places, |it| (it == "CAMPAIGN_SHARE").then(|| "0.5".to_owned())).expect("a share is good");
        let stack = Stack {
            variables: BTreeMap::from([
                ("CAMPAIGN_SHARE".to_owned(), "0.75".to_owned()),
                ("TABLE_CONFIG".to_owned(), "config".to_owned()),
                ("GRAPH_URL".to_owned(), "https://graph.facebook.com".to_owned()),
            ]),
        };
        let people = |name: &str| match name {
            "PATH" => Some("/bin".to_owned()),
            "AWS_PROFILE" | "AWS_ACCESS_KEY_ID" | "HTTPS_PROXY" => Some("theirs".to_owned()),
            _ => None,
        };
        let environment = functions(&settings, &stack, people).environment;
        let value = |name: &str| environment.get(name).map(String::as_str);
        assert_eq!(value("AWS_ENDPOINT_URL"), Some("http://127.0.0.1:4566"));
        assert_eq!(value("GRAPH_URL"), Some("http://127.0.0.1:8090"));
        assert_eq!(value("AWS_ACCESS_KEY_ID"), Some("local"));
        assert_eq!((value("API_TOKEN"), value("API_TENANT")), (Some("local-api-token"), Some("demo")));
        assert_eq!(value("TABLE_CONFIG"), Some("config"));
        assert_eq!(value("CAMPAIGN_SHARE"), Some("0.5"));
        assert_eq!(value("PATH"), Some("/bin"));
        assert_eq!(value("CARGO_TARGET_DIR"), Some("/somewhere/target"));
        assert!(!environment.values().any(|it| it == "theirs"), "{environment:?}");
    }
}
