//! The AWS emulator (ministack) with `infra/template.yaml` deployed in it.
//!
//! Knows nothing of what the functions do: names of tables, URLs of queues and the functions' environment are what the
//! deployed stack says.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_yaml_ng::{Mapping, Value};

use crate::children::Program;
use crate::settings::Settings;
use crate::state::State;

/// The region that everything local is in. The emulator keeps what it has by region.
pub(crate) const REGION: &str = "us-east-1";

/// Both halves of the key that clients sign with. The emulator looks at neither.
pub(crate) const ACCESS_KEY: &str = "local";

/// The name of the stack, which its queues carry as in AWS.
const STACK: &str = "whatsapp-channel";

/// How long creating or updating the stack may take; it takes less than a second.
const DEPLOYMENT: Duration = Duration::from_secs(60);

/// How often we look whether something is ready.
const LOOK: Duration = Duration::from_millis(100);

/// The emulator as a program.
///
/// `functions` are invoked by its event source mappings through the gateway, where cargo-lambda runs them.
///
/// # Errors
/// The disk refuses a folder.
pub(crate) fn emulator(settings: &Settings, state: &State, functions: &[String]) -> Result<Program> {
    let endpoint = format!("http://{}", settings.aws);
    let text = |it: &Path| it.display().to_string();
    let mut environment: BTreeMap<String, String> = [
        ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
        ("HOME", text(&state.subfolder("aws")?)),
        ("TMPDIR", text(&state.subfolder("aws/tmp")?)),
        ("LANG", "C.UTF-8".to_owned()),
        ("PYTHONUNBUFFERED", "1".to_owned()),
        // It listens on every interface unless told otherwise.
        ("BIND_HOST", settings.aws.ip().to_string()),
        ("GATEWAY_PORT", settings.aws.port().to_string()),
        ("MINISTACK_REGION", REGION.to_owned()),
        // Its state is machine-wide unless told otherwise, and written at an orderly stop.
        ("PERSIST_STATE", "1".to_owned()),
        ("STATE_DIR", text(&state.subfolder("aws/state")?)),
        ("S3_PERSIST", "1".to_owned()),
        ("S3_DATA_DIR", text(&state.subfolder("aws/s3")?)),
        // These would open ports of their own.
        ("IOT_MTLS_ENABLED", "0".to_owned()),
        ("SFTP_ENABLED", "0".to_owned()),
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", ACCESS_KEY.to_owned()),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_DEFAULT_REGION", REGION.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    for function in functions {
        environment.insert(format!("MINISTACK_LAMBDA_PROXY_{function}"), invocation_url(settings.gateway, function));
    }
    Ok(Program {
        name: "aws",
        path: settings.places.tool("ministack"),
        arguments: Vec::new(),
        environment,
        directory: settings.places.workspace.clone(),
        patience: Duration::from_secs(60),
    })
}

/// Where a function is invoked as Lambda's API does it.
/// <https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html>
pub(crate) fn invocation_url(gateway: SocketAddr, function: &str) -> String {
    format!("http://{gateway}/2015-03-31/functions/{function}/invocations")
}

/// The template as the emulator takes it.
#[derive(Debug)]
pub(crate) struct Template {
    /// YAML, ready for CreateStack.
    pub(crate) body: String,
    /// The functions' names, in the order of the template.
    pub(crate) functions: Vec<String>,
}

impl Template {
    /// Gives each function the name of the folder that its code is built into, by which cargo-lambda knows it too, and puts an
    /// S3 place where the folder was: CreateStack takes no folder, as in AWS, and since the functions run elsewhere nobody
    /// looks into that place.
    ///
    /// # Errors
    /// It is not YAML, or a function's `CodeUri` is not a folder.
    pub(crate) fn rewrite(text: &str) -> Result<Self> {
        let mut template: Value = serde_yaml_ng::from_str(text).context("the template is not YAML")?;
        let resources = template.get_mut("Resources").and_then(Value::as_mapping_mut).context("the template has no Resources")?;
        let mut functions = Vec::new();
        for (id, resource) in resources {
            if resource.get("Type").and_then(Value::as_str) != Some("AWS::Serverless::Function") {
                continue;
            }
            let name = rewrite_function(resource)
                .with_context(|| format!("{} has no CodeUri that is a folder", id.as_str().unwrap_or_default()))?;
            functions.push(name);
        }
        let body = serde_yaml_ng::to_string(&template).context("the template cannot be written again")?;
        Ok(Self { body, functions })
    }
}

/// Changes one function resource and answers its name.
fn rewrite_function(resource: &mut Value) -> Option<String> {
    let properties = resource.get_mut("Properties")?.as_mapping_mut()?;
    let folder = properties.get("CodeUri")?.as_str()?.trim_end_matches('/');
    let name = folder.rsplit('/').next().filter(|it| !it.is_empty())?.to_owned();
    let mut place = Mapping::new();
    place.insert("Bucket".into(), "local".into());
    place.insert("Key".into(), format!("{name}.zip").into());
    properties.insert("CodeUri".into(), Value::Mapping(place));
    properties.insert("FunctionName".into(), name.clone().into());
    Some(name)
}

/// The deployed stack.
pub(crate) struct Stack {
    /// What the functions are given, of all of them together: they share one environment here.
    pub(crate) variables: BTreeMap<String, String>,
}

impl Stack {
    /// What the template puts into a variable.
    ///
    /// # Errors
    /// No function has it.
    pub(crate) fn variable(&self, name: &str) -> Result<&str> {
        self.variables.get(name).map(String::as_str).with_context(|| format!("no function has the variable {name}"))
    }
}

/// Whether the emulator answers.
pub(crate) async fn answers(http: &reqwest::Client, address: SocketAddr) -> bool {
    let health = http.get(format!("http://{address}/_ministack/health")).send().await;
    health.is_ok_and(|it| it.status().is_success())
}

/// Creates the stack, or brings the one that an earlier run left up to date, and reads what it says.
///
/// # Errors
/// The emulator refuses the template, with its reason.
pub(crate) async fn deploy(http: &reqwest::Client, address: SocketAddr, template: &Template, master_key: &str) -> Result<Stack> {
    let cloud = CloudFormation { http, address };
    let is_there = cloud.status().await?.is_some();
    let action = if is_there { "UpdateStack" } else { "CreateStack" };
    let url = put_template(http, address, &template.body).await?;
    let parameters = [
        ("TemplateURL", url.as_str()),
        ("Capabilities.member.1", "CAPABILITY_IAM"),
        ("Capabilities.member.2", "CAPABILITY_AUTO_EXPAND"),
        ("Parameters.member.1.ParameterKey", "Stage"),
        ("Parameters.member.1.ParameterValue", "local"),
        ("Parameters.member.2.ParameterKey", "MasterKey"),
        ("Parameters.member.2.ParameterValue", master_key),
    ];
    match cloud.call(action, &parameters).await? {
        Ok(_) => cloud.settle().await?,
        // The words are CloudFormation's own.
        Err(reason) if reason.contains("No updates are to be performed") => {}
        Err(reason) => bail!("The emulator refuses infra/template.yaml ({action}): {reason}"),
    }
    let mut variables = BTreeMap::new();
    for function in &template.functions {
        merge(&mut variables, environment(http, address, function).await?, function)?;
    }
    Ok(Stack { variables })
}

/// Puts the template into the emulator's S3, from where CloudFormation takes what is larger than a request may be; its address there.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html>
async fn put_template(http: &reqwest::Client, address: SocketAddr, body: &str) -> Result<String> {
    let bucket = format!("http://{address}/{STACK}-template");
    let url = format!("{bucket}/template.yaml");
    for (place, content) in [(&bucket, String::new()), (&url, body.to_owned())] {
        let put = http.put(place).header("authorization", authorization("s3")).body(content).send().await?;
        // The bucket may be there from an earlier run.
        if !put.status().is_success() && put.status() != reqwest::StatusCode::CONFLICT {
            bail!("The emulator does not take infra/template.yaml: {}", put.text().await?);
        }
    }
    Ok(url)
}

/// CloudFormation's Query protocol, as far as we need it: a form goes in, XML comes out.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/>
struct CloudFormation<'a> {
    http: &'a reqwest::Client,
    address: SocketAddr,
}

impl CloudFormation<'_> {
    /// The answer, or the reason of a refusal.
    async fn call(&self, action: &str, parameters: &[(&str, &str)]) -> Result<Result<String, String>> {
        let common = [("Action", action), ("Version", "2010-05-15"), ("StackName", STACK)];
        let form = reqwest::Url::parse_with_params("http://form/", common.iter().chain(parameters))?;
        let response = self
            .http
            .post(format!("http://{}/", self.address))
            .header("authorization", authorization("cloudformation"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.query().unwrap_or_default().to_owned())
            .send()
            .await?;
        let is_success = response.status().is_success();
        let text = response.text().await?;
        if is_success {
            return Ok(Ok(text));
        }
        Ok(Err(element(&text, "Message").unwrap_or(&text).to_owned()))
    }

    /// The stack's status, None if there is no stack.
    async fn status(&self) -> Result<Option<String>> {
        Ok(self.call("DescribeStacks", &[]).await?.ok().and_then(|it| element(&it, "StackStatus").map(str::to_owned)))
    }

    /// Waits until creation or update have come to their end.
    async fn settle(&self) -> Result<()> {
        let mut waited = Duration::ZERO;
        loop {
            let status = self.status().await?.unwrap_or_default();
            match status.as_str() {
                "CREATE_COMPLETE" | "UPDATE_COMPLETE" => return Ok(()),
                it if it.ends_with("_IN_PROGRESS") && waited < DEPLOYMENT => {}
                it => bail!("The stack of infra/template.yaml is {it} (see the log). If the change asks for it, start with FRESH=1."),
            }
            tokio::time::sleep(LOOK).await;
            waited += LOOK;
        }
    }
}

/// What the deployed template gives a function, with names and URLs resolved.
/// <https://docs.aws.amazon.com/lambda/latest/api/API_GetFunctionConfiguration.html>
async fn environment(http: &reqwest::Client, address: SocketAddr, function: &str) -> Result<BTreeMap<String, String>> {
    let text = http
        .get(format!("http://{address}/2015-03-31/functions/{function}/configuration"))
        .header("authorization", authorization("lambda"))
        .send()
        .await?
        .error_for_status()
        .with_context(|| format!("the emulator has no function {function}"))?
        .text()
        .await?;
    let configuration: serde_json::Value = serde_json::from_str(&text)?;
    serde_json::from_value(configuration["Environment"]["Variables"].clone())
        .with_context(|| format!("the emulator tells no environment of {function}"))
}

/// Adds a function's variables to those of the others. Here one process environment serves them all.
fn merge(all: &mut BTreeMap<String, String>, more: BTreeMap<String, String>, function: &str) -> Result<()> {
    for (name, value) in more {
        match all.entry(name) {
            Entry::Vacant(entry) => {
                entry.insert(value);
            }
            Entry::Occupied(entry) if *entry.get() == value => {}
            Entry::Occupied(entry) => {
                bail!("{} has another value in {function} than in the functions before it; locally they share one environment", entry.key())
            }
        }
    }
    Ok(())
}

/// A signature's first part, by which the emulator tells services and regions apart. It checks none.
fn authorization(service: &str) -> String {
    format!("AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20260101/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=none")
}

/// The text of the first element of that name. The emulator's XML is flat enough for that.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "
Resources:
  Queue:
    Type: AWS::SQS::Queue
    Properties: { QueueName: !Sub '${AWS::StackName}-jobs' }
  WorkerFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: ../target/lambda/worker/
      Timeout: 5
      Environment: { Variables: { QUEUE: !Ref Queue, ARN: !GetAtt Queue.Arn } }
";

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_function_gets_a_name_and_an_s3_place_and_nothing_else_changes() {
        let rewritten = Template::rewrite(SAMPLE).expect("the sample is good");
        assert_eq!(rewritten.functions, ["worker"]);
        let mut changed: Value = serde_yaml_ng::from_str(&rewritten.body).expect("it is YAML again");
        let properties = changed["Resources"]["WorkerFunction"]["Properties"].as_mapping_mut().expect("it is a map");
        assert_eq!(properties.remove("FunctionName"), Some("worker".into()));
        let place: Value = serde_yaml_ng::from_str("{ Bucket: local, Key: worker.zip }").expect("it is YAML");
        assert_eq!(properties.insert("CodeUri".into(), "../target/lambda/worker/".into()), Some(place));
        // The short forms (!Ref, !Sub, !GetAtt) come through with everything else.
        let original: Value = serde_yaml_ng::from_str(SAMPLE).expect("it is YAML");
        assert_eq!(changed, original);
        assert!(rewritten.body.contains("!GetAtt"), "{}", rewritten.body);
    }

    #[test]
    fn a_function_without_a_folder_is_named() {
        let broken = SAMPLE.replace("CodeUri: ../target/lambda/worker/", "CodeUri: s3://");
        let told = Template::rewrite(&broken.replace("s3://", "''")).expect_err("there is no folder").to_string();
        assert_eq!(told, "WorkerFunction has no CodeUri that is a folder");
    }

    #[test]
    fn the_shipped_template_has_the_functions_that_the_workspace_has() {
        let text = include_str!("../../template.yaml");
        let template = Template::rewrite(text).expect("the template is good");
        let folders = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../functions")).expect("it is there");
        let mut programs: Vec<String> =
            folders.map(|it| it.expect("it can be read").file_name().into_string().expect("names are plain")).collect();
        programs.sort();
        let mut functions = template.functions;
        functions.sort();
        assert_eq!(functions, programs);
    }

    #[test]
    fn functions_share_one_environment_so_a_second_value_is_refused() {
        let mut all = BTreeMap::new();
        merge(&mut all, variables(&[("A", "1"), ("B", "2")]), "one").expect("nothing was there");
        merge(&mut all, variables(&[("B", "2"), ("C", "3")]), "two").expect("B is the same");
        assert_eq!(all, variables(&[("A", "1"), ("B", "2"), ("C", "3")]));
        let told = merge(&mut all, variables(&[("A", "other")]), "three").expect_err("A differs").to_string();
        assert!(told.starts_with("A has another value in three"), "{told}");
    }

    #[test]
    fn element_reads_the_first_of_its_name() {
        let xml = "<E><Code>X</Code><Message>no &amp; never</Message><Message>later</Message></E>";
        assert_eq!(element(xml, "Message"), Some("no &amp; never"));
        assert_eq!(element(xml, "StackStatus"), None);
    }
}
