//! Reads the deployment template, the only description of tables, queues, functions, mappings and routes, as
//! CloudFormation would resolve it with every parameter at its default.
//!
//! It knows the intrinsic functions and resource types that the template uses, and refuses what it does not know rather
//! than pass over it. <https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/intrinsic-function-reference.html>

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use serde_yaml_ng::Value as Yaml;

/// The region in which tests take place.
pub const REGION: &str = "us-east-1";

/// The account in which tests take place.
pub const ACCOUNT: &str = "000000000000";

/// The stack as which tests deploy.
pub const STACK: &str = "whatsapp";

/// The URL of a queue; engines go by its last part.
#[must_use]
pub fn queue_url(name: &str) -> String {
    format!("https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{name}")
}

/// The ARN of a queue.
#[must_use]
pub fn queue_arn(name: &str) -> String {
    format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}")
}

/// Why a template cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not YAML.
    #[error("the template is not YAML")]
    NotYaml(#[source] serde_yaml_ng::Error),
    /// It refers to something that does not exist, or uses what is not known here.
    #[error("in the template: {0}")]
    NotUnderstood(String),
}

fn not_understood<T>(what: impl Into<String>) -> Result<T, TemplateError> {
    Err(TemplateError::NotUnderstood(what.into()))
}

/// The template with everything resolved.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template {
    /// Tables by logical id.
    pub tables: BTreeMap<String, Table>,
    /// Queues by logical id.
    pub queues: BTreeMap<String, Queue>,
    /// Functions by logical id.
    pub functions: BTreeMap<String, Function>,
    /// Event source mappings by logical id.
    pub mappings: BTreeMap<String, Mapping>,
    /// Routes of the HTTP API.
    pub routes: Vec<Route>,
    /// Resources of all types by logical id, with their properties resolved.
    pub resources: BTreeMap<String, Resource>,
}

/// A resource of whatever type.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// `AWS::SQS::Queue` and the like.
    pub kind: String,
    /// Its resolved properties.
    pub properties: Value,
    /// It stays when the stack is deleted, or an update puts another in its place.
    pub is_kept: bool,
}

/// An `AWS::DynamoDB::Table`.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Physical name; the logical id if the template gives none.
    pub name: String,
    /// The attribute by which items expire.
    pub expires_by: Option<String>,
    /// All properties.
    pub properties: Value,
}

impl Table {
    /// The body of DynamoDB's `CreateTable`.
    #[must_use]
    pub fn create_request(&self) -> Value {
        const SAME: [&str; 5] = ["AttributeDefinitions", "KeySchema", "BillingMode", "GlobalSecondaryIndexes", "LocalSecondaryIndexes"];
        let mut request = json!({ "TableName": self.name });
        for property in SAME.into_iter().filter(|it| !self.properties[*it].is_null()) {
            request[property] = self.properties[property].clone();
        }
        request
    }
}

/// An `AWS::SQS::Queue`.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    /// Physical name.
    pub name: String,
    /// Its properties as the attributes of SQS's API, the redrive policy as JSON text.
    pub attributes: BTreeMap<String, String>,
    /// The queue of its dead letters, by logical id.
    pub dead_letters: Option<String>,
}

impl Queue {
    /// Whether it is a FIFO queue.
    #[must_use]
    pub fn is_fifo(&self) -> bool {
        self.attributes.get("FifoQueue").is_some_and(|it| it == "true")
    }

    /// A numeric attribute, or AWS's default of it.
    #[must_use]
    pub fn number(&self, attribute: &str) -> u64 {
        let given = self.attributes.get(attribute).and_then(|it| it.parse().ok());
        given.unwrap_or(match attribute {
            "VisibilityTimeout" => 30,
            "MessageRetentionPeriod" => 345_600,
            _ => 0,
        })
    }
}

/// An `AWS::Serverless::Function`.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// Physical name; the logical id if the template gives none.
    pub name: String,
    /// Seconds that one invocation may take.
    pub timeout_s: u64,
    /// Memory in MB.
    pub memory_mb: u64,
    /// Environment variables, resolved; what comes from a parameter without default is empty.
    pub environment: BTreeMap<String, String>,
    /// All properties, with those of `Globals` filled in.
    pub properties: Value,
}

/// An SQS event source mapping.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapping {
    /// The queue, by logical id.
    pub queue: String,
    /// The function, by logical id.
    pub function: String,
    /// Most records in one invocation.
    pub batch_size: usize,
    /// Seconds that it gathers records for one invocation.
    pub window_s: u64,
    /// Whether the function's answer says which records failed.
    pub reports_failures: bool,
    /// Most invocations at a time.
    pub max_concurrency: Option<u64>,
}

/// A route of an HTTP API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// HTTP method, or `ANY`.
    pub method: String,
    /// Path with `{placeholders}`.
    pub path: String,
    /// The function that answers, by logical id.
    pub function: String,
}

impl Template {
    /// Reads `infra/template.yaml` of this repository.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub fn load() -> Result<Self, TemplateError> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../infra/template.yaml");
        let text = std::fs::read_to_string(&path).map_err(|source| TemplateError::Unreadable { path, source })?;
        Self::parse(&text)
    }

    /// Reads a template.
    ///
    /// # Errors
    /// When it cannot be understood.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let yaml: Yaml = serde_yaml_ng::from_str(text).map_err(TemplateError::NotYaml)?;
        let source = plain(yaml)?;
        let resolver = Resolver { source: &source };
        let mut template = Self::default();
        for (id, resource) in members(&source["Resources"]) {
            if !resolver.exists(resource)? {
                continue;
            }
            let kind = resource["Type"].as_str().unwrap_or_default().to_owned();
            let properties = resolver.resolve(&resource["Properties"])?;
            template.add(id, &kind, &properties, &resolver)?;
            let is_kept = resource["DeletionPolicy"] == "Retain" && resource["UpdateReplacePolicy"] == "Retain";
            template.resources.insert(id.clone(), Resource { kind, properties, is_kept });
        }
        Ok(template)
    }

    fn add(&mut self, id: &str, kind: &str, properties: &Value, resolver: &Resolver<'_>) -> Result<(), TemplateError> {
        match kind {
            "AWS::DynamoDB::Table" => {
                self.tables.insert(id.to_owned(), table(id, properties));
            }
            "AWS::SQS::Queue" => {
                self.queues.insert(id.to_owned(), queue(id, properties, resolver)?);
            }
            "AWS::Serverless::Function" => {
                let globals = resolver.resolve(&resolver.source["Globals"]["Function"])?;
                self.functions.insert(id.to_owned(), function(id, with_globals(properties, &globals)));
            }
            "AWS::Lambda::EventSourceMapping" => {
                self.mappings.insert(id.to_owned(), mapping(id, properties, resolver)?);
            }
            "AWS::ApiGatewayV2::Route" => self.routes.push(route(id, properties, resolver)?),
            _ => {}
        }
        Ok(())
    }

    /// The queue with this logical id.
    ///
    /// # Panics
    /// When the template has none: whoever names it is wrong.
    #[must_use]
    pub fn queue(&self, id: &str) -> &Queue {
        self.queues.get(id).unwrap_or_else(|| panic!("the template has no queue {id}"))
    }
}

/// CloudFormation's short forms (`!Ref`, `!GetAtt`, …) as its long ones.
fn plain(yaml: Yaml) -> Result<Value, TemplateError> {
    Ok(match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(it) => it.into(),
        Yaml::Number(it) => match (it.as_i64(), it.as_f64()) {
            (Some(whole), _) => whole.into(),
            (None, fraction) => fraction.into(),
        },
        Yaml::String(it) => it.into(),
        Yaml::Sequence(values) => values.into_iter().map(plain).collect::<Result<Vec<_>, _>>()?.into(),
        Yaml::Mapping(members) => {
            let named = members.into_iter().map(|(name, value)| match plain(name)? {
                Value::String(name) => Ok((name, plain(value)?)),
                Value::Number(number) => Ok((number.to_string(), plain(value)?)),
                other => not_understood(format!("{other} is no name")),
            });
            named.collect::<Result<Map<_, _>, _>>()?.into()
        }
        Yaml::Tagged(tagged) => {
            let tag = tagged.tag.to_string();
            let name = tag.trim_start_matches('!');
            let name = if matches!(name, "Ref" | "Condition") { name.to_owned() } else { format!("Fn::{name}") };
            json!({ name: plain(tagged.value)? })
        }
    })
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// Resolves intrinsic functions against the template they stand in.
struct Resolver<'a> {
    source: &'a Value,
}

impl Resolver<'_> {
    fn resolve(&self, value: &Value) -> Result<Value, TemplateError> {
        match value {
            Value::Array(values) => {
                let resolved = values.iter().map(|it| self.resolve(it)).collect::<Result<Vec<_>, _>>()?;
                Ok(resolved.into_iter().filter(|it| !it.is_null()).collect())
            }
            Value::Object(members) => match members.iter().next().filter(|_| members.len() == 1) {
                Some((name, argument)) if name == "Ref" || name.starts_with("Fn::") => self.call(name, argument),
                _ => {
                    let resolved = members.iter().map(|(name, it)| Ok((name.clone(), self.resolve(it)?)));
                    let resolved: Map<_, _> = resolved.collect::<Result<_, TemplateError>>()?;
                    Ok(resolved.into_iter().filter(|(_, it)| !it.is_null()).collect::<Map<_, _>>().into())
                }
            },
            other => Ok(other.clone()),
        }
    }

    fn call(&self, function: &str, argument: &Value) -> Result<Value, TemplateError> {
        match (function, argument) {
            ("Ref", Value::String(name)) => self.reference(name),
            ("Fn::GetAtt", Value::String(path)) => match path.split_once('.') {
                Some((id, attribute)) => self.attribute(id, attribute),
                None => not_understood(format!("!GetAtt {path}")),
            },
            ("Fn::GetAtt", Value::Array(path)) => match (path.first().and_then(Value::as_str), path.get(1).and_then(Value::as_str)) {
                (Some(id), Some(attribute)) => self.attribute(id, attribute),
                _ => not_understood("a !GetAtt without resource and attribute"),
            },
            ("Fn::Sub", Value::String(text)) => self.substitute(text, &Value::Null),
            ("Fn::Sub", Value::Array(parts)) => match parts.first().and_then(Value::as_str) {
                Some(text) => self.substitute(text, &self.resolve(parts.get(1).unwrap_or(&Value::Null))?),
                None => not_understood("a !Sub without text"),
            },
            ("Fn::Join", Value::Array(parts)) => {
                let separator = parts.first().and_then(Value::as_str).unwrap_or_default();
                let values = self.resolve(parts.get(1).unwrap_or(&Value::Null))?;
                let values: Vec<String> = values.as_array().into_iter().flatten().map(text).collect();
                Ok(values.join(separator).into())
            }
            ("Fn::If", Value::Array(parts)) => {
                let holds = self.condition(parts.first().and_then(Value::as_str).unwrap_or_default())?;
                self.resolve(parts.get(if holds { 1 } else { 2 }).unwrap_or(&Value::Null))
            }
            _ => not_understood(format!("{function} with {argument}")),
        }
    }

    fn reference(&self, name: &str) -> Result<Value, TemplateError> {
        let pseudo = match name {
            "AWS::Region" => Some(REGION),
            "AWS::AccountId" => Some(ACCOUNT),
            "AWS::StackName" => Some(STACK),
            "AWS::Partition" => Some("aws"),
            "AWS::URLSuffix" => Some("amazonaws.com"),
            "AWS::NoValue" => return Ok(Value::Null),
            _ => None,
        };
        if let Some(pseudo) = pseudo {
            return Ok(pseudo.into());
        }
        if let Some(parameter) = self.source["Parameters"].get(name) {
            return Ok(match &parameter["Default"] {
                Value::Null => "".into(),
                default => default.clone(),
            });
        }
        let physical = self.physical_name(name)?;
        Ok(if self.kind(name) == "AWS::SQS::Queue" { queue_url(&physical) } else { physical }.into())
    }

    fn attribute(&self, id: &str, attribute: &str) -> Result<Value, TemplateError> {
        let name = self.physical_name(id)?;
        Ok(match (self.kind(id), attribute) {
            ("AWS::SQS::Queue", "Arn") => queue_arn(&name),
            ("AWS::SQS::Queue", "QueueName") => name,
            ("AWS::SQS::Queue", "QueueUrl") => queue_url(&name),
            ("AWS::DynamoDB::Table", "Arn") => format!("arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{name}"),
            ("AWS::S3::Bucket", "Arn") => format!("arn:aws:s3:::{name}"),
            ("AWS::Serverless::Function", "Arn") => format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"),
            ("AWS::Logs::LogGroup", "Arn") => format!("arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{name}:*"),
            (_, attribute) => format!("{name}.{attribute}"),
        }
        .into())
    }

    fn kind(&self, id: &str) -> &str {
        self.source["Resources"][id]["Type"].as_str().unwrap_or_default()
    }

    /// The name that the template gives a resource, else its logical id.
    fn physical_name(&self, id: &str) -> Result<String, TemplateError> {
        let Some(resource) = self.source["Resources"].get(id) else {
            return not_understood(format!("nothing is called {id}"));
        };
        let name = match self.kind(id) {
            "AWS::SQS::Queue" => "QueueName",
            "AWS::DynamoDB::Table" => "TableName",
            "AWS::Serverless::Function" => "FunctionName",
            "AWS::Logs::LogGroup" => "LogGroupName",
            // Buckets are named in small letters.
            "AWS::S3::Bucket" => return Ok(id.to_lowercase()),
            _ => return Ok(id.to_owned()),
        };
        Ok(match self.resolve(&resource["Properties"][name])? {
            Value::String(name) => name,
            _ => id.to_owned(),
        })
    }

    fn substitute(&self, text_with_names: &str, given: &Value) -> Result<Value, TemplateError> {
        let mut resolved = String::new();
        let mut rest = text_with_names;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, after)) = after.split_once('}') else {
                return not_understood(format!("a ${{ without }} in {text_with_names:?}"));
            };
            resolved.push_str(before);
            let value = match (name.strip_prefix('!'), given.get(name), name.split_once('.')) {
                (Some(literal), ..) => format!("${{{literal}}}").into(),
                (None, Some(value), _) => value.clone(),
                (None, None, Some((id, attribute))) => self.attribute(id, attribute)?,
                (None, None, None) => self.reference(name)?,
            };
            resolved.push_str(&text(&value));
            rest = after;
        }
        resolved.push_str(rest);
        Ok(resolved.into())
    }

    fn exists(&self, resource: &Value) -> Result<bool, TemplateError> {
        resource["Condition"].as_str().map_or(Ok(true), |name| self.condition(name))
    }

    fn condition(&self, name: &str) -> Result<bool, TemplateError> {
        match self.source["Conditions"].get(name) {
            Some(condition) => self.holds(condition),
            None => not_understood(format!("there is no condition {name}")),
        }
    }

    fn holds(&self, condition: &Value) -> Result<bool, TemplateError> {
        let Some((function, argument)) = members(condition).next() else {
            return not_understood(format!("{condition} is no condition"));
        };
        let arguments = argument.as_array().map(Vec::as_slice).unwrap_or_default();
        match (function.as_str(), arguments) {
            ("Condition", _) => self.condition(argument.as_str().unwrap_or_default()),
            ("Fn::Equals", [left, right]) => Ok(self.resolve(left)? == self.resolve(right)?),
            ("Fn::Not", [inner]) => Ok(!self.holds(inner)?),
            ("Fn::And", inner) => inner.iter().map(|it| self.holds(it)).try_fold(true, |all, it| Ok(all && it?)),
            ("Fn::Or", inner) => inner.iter().map(|it| self.holds(it)).try_fold(false, |any, it| Ok(any || it?)),
            _ => not_understood(format!("{condition} is no condition")),
        }
    }

    /// The logical id of the resource of this type whose ARN, URL or name this is.
    fn id_of(&self, kind: &str, reference: &Value) -> Option<String> {
        let reference = reference.as_str()?;
        let ids = members(&self.source["Resources"]).filter(|(_, it)| it["Type"] == kind).map(|(id, _)| id);
        let mut ids = ids.filter(|id| {
            let refers = |it: Result<Value, TemplateError>| it.is_ok_and(|it| it == reference);
            refers(self.reference(id)) || refers(self.attribute(id, "Arn"))
        });
        ids.next().cloned()
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn table(id: &str, properties: &Value) -> Table {
    let expiry = &properties["TimeToLiveSpecification"];
    let is_on = expiry["Enabled"].as_bool() == Some(true);
    Table {
        name: properties["TableName"].as_str().unwrap_or(id).to_owned(),
        expires_by: expiry["AttributeName"].as_str().filter(|_| is_on).map(str::to_owned),
        properties: properties.clone(),
    }
}

fn queue(id: &str, properties: &Value, resolver: &Resolver<'_>) -> Result<Queue, TemplateError> {
    let own = members(properties).filter(|(name, _)| !matches!(name.as_str(), "QueueName" | "Tags"));
    let policy = &properties["RedrivePolicy"];
    let dead_letters = resolver.id_of("AWS::SQS::Queue", &policy["deadLetterTargetArn"]);
    if !policy.is_null() && dead_letters.is_none() {
        return not_understood(format!("{id}'s dead letters go to no queue of the template"));
    }
    Ok(Queue {
        name: resolver.physical_name(id)?,
        attributes: own.map(|(name, value)| (name.clone(), text(value))).collect(),
        dead_letters,
    })
}

/// <https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-specification-template-anatomy-globals.html>
fn with_globals(own: &Value, globals: &Value) -> Value {
    match (own, globals) {
        (Value::Object(own), Value::Object(globals)) => {
            let mut merged = globals.clone();
            for (name, value) in own {
                let value = globals.get(name).map_or_else(|| value.clone(), |global| with_globals(value, global));
                merged.insert(name.clone(), value);
            }
            merged.into()
        }
        (Value::Array(own), Value::Array(globals)) => globals.iter().chain(own).cloned().collect(),
        (own, _) => own.clone(),
    }
}

fn function(id: &str, properties: Value) -> Function {
    let variables = members(&properties["Environment"]["Variables"]);
    Function {
        name: properties["FunctionName"].as_str().unwrap_or(id).to_owned(),
        // What Lambda takes when nothing is said.
        timeout_s: properties["Timeout"].as_u64().unwrap_or(3),
        memory_mb: properties["MemorySize"].as_u64().unwrap_or(128),
        environment: variables.map(|(name, value)| (name.clone(), text(value))).collect(),
        properties,
    }
}

fn mapping(id: &str, properties: &Value, resolver: &Resolver<'_>) -> Result<Mapping, TemplateError> {
    let queue = resolver.id_of("AWS::SQS::Queue", &properties["EventSourceArn"]);
    let function = resolver.id_of("AWS::Serverless::Function", &properties["FunctionName"]);
    let (Some(queue), Some(function)) = (queue, function) else {
        return not_understood(format!("{id} does not lead from a queue to a function of the template"));
    };
    let response_types = properties["FunctionResponseTypes"].as_array();
    Ok(Mapping {
        queue,
        function,
        batch_size: properties["BatchSize"].as_u64().and_then(|it| usize::try_from(it).ok()).unwrap_or(10),
        window_s: properties["MaximumBatchingWindowInSeconds"].as_u64().unwrap_or(0),
        reports_failures: response_types.is_some_and(|it| it.iter().any(|it| it == "ReportBatchItemFailures")),
        max_concurrency: properties["ScalingConfig"]["MaximumConcurrency"].as_u64(),
    })
}

fn route(id: &str, properties: &Value, resolver: &Resolver<'_>) -> Result<Route, TemplateError> {
    let key = properties["RouteKey"].as_str().unwrap_or_default();
    let (method, path) = key.split_once(' ').unwrap_or(("ANY", key));
    let integration = properties["Target"].as_str().and_then(|it| it.strip_prefix("integrations/")).unwrap_or_default();
    let uri = resolver.resolve(&resolver.source["Resources"][integration]["Properties"]["IntegrationUri"])?;
    match resolver.id_of("AWS::Serverless::Function", &uri) {
        Some(function) => Ok(Route { method: method.to_owned(), path: path.to_owned(), function }),
        None => not_understood(format!("{id} does not lead to a function of the template")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"
Parameters:
  Stage: { Type: String, Default: dev }
  Secret: { Type: String }
Conditions:
  IsProduction: !Equals [!Ref Stage, prod]
  IsNot: !Not [!Condition IsProduction]
Globals:
  Function:
    MemorySize: 256
    Environment: { Variables: { LOG_LEVEL: info } }
Resources:
  Api: { Type: "AWS::ApiGatewayV2::Api", Properties: { Name: api } }
  Integration:
    Type: AWS::ApiGatewayV2::Integration
    Properties: { IntegrationUri: !GetAtt Work.Arn }
  Route:
    Type: AWS::ApiGatewayV2::Route
    Properties: { RouteKey: "POST /webhooks/{app_id}", Target: !Sub "integrations/${Integration}" }
  Jobs:
    Type: AWS::SQS::Queue
    Properties:
      QueueName: !Sub ${AWS::StackName}-jobs.fifo
      FifoQueue: true
      VisibilityTimeout: 60
      RedrivePolicy: { deadLetterTargetArn: !GetAtt [Dead, Arn], maxReceiveCount: 3 }
  Dead: { Type: "AWS::SQS::Queue", Properties: { QueueName: !Join ["-", [a, dead.fifo]], FifoQueue: true } }
  OnlyInProduction: { Type: "AWS::SQS::Queue", Condition: IsProduction }
  Items:
    Type: AWS::DynamoDB::Table
    Properties:
      KeySchema: [{ AttributeName: pk, KeyType: HASH }]
      TimeToLiveSpecification: { AttributeName: expires_at, Enabled: true }
  Work:
    Type: AWS::Serverless::Function
    Properties:
      Timeout: !If [IsNot, 10, 20]
      Environment:
        Variables:
          TABLE: !Ref Items
          QUEUE: !Ref Jobs
          SECRET: !Ref Secret
          LITERAL: !Sub ["${!kept} ${given} ${Dead.QueueName}", { given: !Ref Stage }]
          NOTHING: !Ref AWS::NoValue
  Mapping:
    Type: AWS::Lambda::EventSourceMapping
    Properties:
      FunctionName: !Ref Work
      EventSourceArn: !GetAtt Jobs.Arn
      BatchSize: 7
      FunctionResponseTypes: [ReportBatchItemFailures]
      ScalingConfig: { MaximumConcurrency: 9 }
"#;

    #[test]
    fn resources_are_resolved_as_cloudformation_would() {
        let template = Template::parse(SAMPLE).expect("is understood");
        assert_eq!(template.queues.keys().collect::<Vec<_>>(), ["Dead", "Jobs"]);
        let jobs = template.queue("Jobs");
        assert_eq!((jobs.name.as_str(), jobs.is_fifo(), jobs.number("VisibilityTimeout")), ("whatsapp-jobs.fifo", true, 60));
        assert_eq!(jobs.dead_letters.as_deref(), Some("Dead"));
        let policy: Value = serde_json::from_str(&jobs.attributes["RedrivePolicy"]).expect("is JSON");
        assert_eq!(policy, json!({ "deadLetterTargetArn": queue_arn("a-dead.fifo"), "maxReceiveCount": 3 }));
        let work = &template.functions["Work"];
        assert_eq!((work.timeout_s, work.memory_mb), (10, 256));
        let variables = work.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>();
        let url = queue_url("whatsapp-jobs.fifo");
        let expected =
            [("LITERAL", "${kept} dev a-dead.fifo"), ("LOG_LEVEL", "info"), ("QUEUE", url.as_str()), ("SECRET", ""), ("TABLE", "Items")];
        assert_eq!(variables, expected);
        assert_eq!(template.tables["Items"].expires_by.as_deref(), Some("expires_at"));
        let mapping = Mapping {
            queue: "Jobs".into(),
            function: "Work".into(),
            batch_size: 7,
            window_s: 0,
            reports_failures: true,
            max_concurrency: Some(9),
        };
        assert_eq!(template.mappings["Mapping"], mapping);
        let route = Route { method: "POST".into(), path: "/webhooks/{app_id}".into(), function: "Work".into() };
        assert_eq!(template.routes, [route]);
    }

    #[test]
    fn what_refers_to_nothing_is_not_passed_over() {
        for (right, wrong) in [
            ("!GetAtt [Dead, Arn]", "!GetAtt [Gone, Arn]"),
            ("!Ref Items", "!Ref Gone"),
            ("!Sub ${AWS::StackName}-jobs.fifo", "!Sub ${Gone}-jobs.fifo"),
            ("!If [IsNot, 10, 20]", "!If [Gone, 10, 20]"),
            ("!GetAtt Jobs.Arn", "!Select [0, [a]]"),
            ("FunctionName: !Ref Work", "FunctionName: other"),
        ] {
            assert!(SAMPLE.contains(right), "{right}");
            let outcome = Template::parse(&SAMPLE.replace(right, wrong));
            assert!(matches!(outcome, Err(TemplateError::NotUnderstood(_))), "{wrong}");
        }
    }

    #[test]
    fn the_template_of_this_repository_is_understood() {
        let template = Template::load().expect("is understood");
        assert!(!template.mappings.is_empty() && !template.tables.is_empty() && !template.routes.is_empty());
    }
}
