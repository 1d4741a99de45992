//! What a message may be, and how SQS refuses what it may not: parsing, limits, digests, error codes. It knows no queue.
//!
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};

/// The most that a message, and a batch of messages, may weigh: 1 MiB.
pub(super) const LARGEST_MESSAGE: usize = 1_048_576;

/// How SQS refuses: the code of its older query protocol, which the SDKs go by, and the status.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html>
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct SqsError {
    /// The code, as in `x-amzn-query-error`.
    pub code: &'static str,
    /// HTTP status.
    pub status: u16,
    /// What is wrong, in a sentence.
    pub message: String,
}

impl SqsError {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, status: 400, message: message.into() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterValue", message)
    }

    pub(super) fn missing(parameter: &str) -> Self {
        Self::new("MissingParameter", format!("The request must contain the parameter {parameter}."))
    }

    /// The name of the error in the JSON protocol.
    pub(super) fn shape(&self) -> &'static str {
        match self.code {
            "AWS.SimpleQueueService.NonExistentQueue" => "QueueDoesNotExist",
            "QueueAlreadyExists" => "QueueNameExists",
            code => code.strip_prefix("AWS.SimpleQueueService.").unwrap_or(code),
        }
    }

    pub(super) fn is_senders_fault(&self) -> bool {
        self.status < 500
    }
}

/// A message attribute: its type, and its value as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attribute {
    pub(super) data_type: String,
    value: Vec<u8>,
    json: Value,
}

pub(super) type Attributes = BTreeMap<String, Attribute>;

/// What a sender gives.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    pub(super) body: String,
    pub(super) attributes: Attributes,
    pub(super) trace_header: Option<String>,
    pub(super) group: Option<String>,
    pub(super) dedupe_id: Option<String>,
    pub(super) delay_s: Option<i64>,
}

impl Draft {
    /// Reads a `SendMessage` request or one entry of a batch.
    pub(super) fn parse(request: &Value) -> Result<Self, SqsError> {
        let draft = Self {
            body: text(request, "MessageBody").unwrap_or_default(),
            attributes: attributes(&request["MessageAttributes"])?,
            trace_header: text(&request["MessageSystemAttributes"]["AWSTraceHeader"], "StringValue"),
            group: text(request, "MessageGroupId"),
            dedupe_id: text(request, "MessageDeduplicationId"),
            delay_s: number(request, "DelaySeconds", 0..=900)?,
        };
        if draft.body.is_empty() {
            return Err(SqsError::missing("MessageBody"));
        }
        if !draft.body.chars().all(is_allowed) {
            return Err(SqsError::new(
                "InvalidMessageContents",
                "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF",
            ));
        }
        for (name, id) in [("MessageGroupId", &draft.group), ("MessageDeduplicationId", &draft.dedupe_id)] {
            if id.as_deref().is_some_and(|id| !is_id(id)) {
                return Err(SqsError::invalid(format!(
                    "{name} can only include alphanumeric and punctuation characters. 1 to 128 in length."
                )));
            }
        }
        Ok(draft)
    }

    /// Bytes of body and attributes, as they count for the limits.
    pub(super) fn size(&self) -> usize {
        let attribute = |(name, it): (&String, &Attribute)| name.len() + it.data_type.len() + it.value.len();
        self.body.len() + self.attributes.iter().map(attribute).sum::<usize>()
    }
}

/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html>
fn is_allowed(character: char) -> bool {
    matches!(character, '\u{9}' | '\u{A}' | '\u{D}' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

fn is_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

fn attributes(given: &Value) -> Result<Attributes, SqsError> {
    let given = given.as_object().into_iter().flatten();
    let attributes: Attributes = given.map(|(name, json)| Ok((name.clone(), attribute(name, json)?))).collect::<Result<_, SqsError>>()?;
    if attributes.len() > 10 {
        return Err(SqsError::invalid("Number of message attributes exceeds the allowed maximum [10]."));
    }
    Ok(attributes)
}

fn attribute(name: &str, json: &Value) -> Result<Attribute, SqsError> {
    let invalid = |why: &str| SqsError::invalid(format!("The message attribute '{name}' {why}."));
    let data_type = text(json, "DataType").ok_or_else(|| invalid("must contain a non-empty attribute type"))?;
    let value = match data_type.split('.').next() {
        Some("String" | "Number") => text(json, "StringValue").map(String::into_bytes),
        Some("Binary") => text(json, "BinaryValue").and_then(|it| BASE64_STANDARD.decode(it).ok()),
        _ => return Err(invalid("has an invalid message attribute type")),
    };
    let value = value.filter(|it| !it.is_empty()).ok_or_else(|| invalid("must contain a non-empty message attribute value"))?;
    Ok(Attribute { data_type, value, json: json.clone() })
}

/// Only the attributes that a receiver asks for: by name, by prefix (`prefix.*`), or all.
pub(super) fn wanted(attributes: &Attributes, names: &[&str]) -> Attributes {
    let is_wanted = |name: &String| {
        names.iter().any(|it| matches!(*it, "All" | ".*") || it == name || it.strip_suffix(".*").is_some_and(|it| name.starts_with(it)))
    };
    attributes.iter().filter(|(name, _)| is_wanted(name)).map(|(name, it)| (name.clone(), it.clone())).collect()
}

pub(super) fn as_json(attributes: &Attributes) -> Map<String, Value> {
    attributes.iter().map(|(name, it)| (name.clone(), it.json.clone())).collect()
}

pub(super) fn md5_of_body(body: &str) -> String {
    format!("{:x}", md5::compute(body))
}

/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html#sqs-attributes-md5-message-digest-calculation>
pub(super) fn md5_of_attributes(attributes: &Attributes) -> String {
    let mut encoded = Vec::new();
    for (name, it) in attributes {
        append(&mut encoded, name.as_bytes());
        append(&mut encoded, it.data_type.as_bytes());
        encoded.push(if it.data_type.starts_with("Binary") { 2 } else { 1 });
        append(&mut encoded, &it.value);
    }
    format!("{:x}", md5::compute(encoded))
}

fn append(encoded: &mut Vec<u8>, field: &[u8]) {
    encoded.extend(u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
    encoded.extend(field);
}

/// A parameter that is text and not empty.
pub(super) fn text(request: &Value, name: &str) -> Option<String> {
    request[name].as_str().filter(|it| !it.is_empty()).map(str::to_owned)
}

/// A parameter that is a number within its limits, if it is there.
pub(super) fn number(request: &Value, name: &str, limits: std::ops::RangeInclusive<i64>) -> Result<Option<i64>, SqsError> {
    let Some(given) = request[name].as_i64() else { return Ok(None) };
    if !limits.contains(&given) {
        let (least, most) = limits.into_inner();
        return Err(SqsError::invalid(format!(
            "Value {given} for parameter {name} is invalid. Reason: Must be between {least} and {most}, if provided."
        )));
    }
    Ok(Some(given))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn code(request: &Value) -> &'static str {
        Draft::parse(request).expect_err("is refused").code
    }

    #[test]
    fn bodies_that_are_no_xml_text_or_empty_are_refused() {
        assert_eq!(code(&json!({ "MessageBody": "a\u{0}b" })), "InvalidMessageContents");
        assert_eq!(code(&json!({ "MessageBody": "\u{FFFF}" })), "InvalidMessageContents");
        assert_eq!(code(&json!({})), "MissingParameter");
        assert_eq!(
            Draft::parse(&json!({ "MessageBody": "tab\tnew\nline \u{1F600}" })).expect("is allowed").body,
            "tab\tnew\nline \u{1F600}"
        );
    }

    #[test]
    fn ids_and_delays_have_limits() {
        assert_eq!(code(&json!({ "MessageBody": "b", "MessageGroupId": "a b" })), "InvalidParameterValue");
        assert_eq!(code(&json!({ "MessageBody": "b", "MessageDeduplicationId": "x".repeat(129) })), "InvalidParameterValue");
        assert_eq!(code(&json!({ "MessageBody": "b", "DelaySeconds": 901 })), "InvalidParameterValue");
        assert!(Draft::parse(&json!({ "MessageBody": "b", "MessageGroupId": "x".repeat(128), "DelaySeconds": 900 })).is_ok());
    }

    #[test]
    fn attributes_count_for_the_size_and_are_digested_as_aws_documents() {
        let attributes = json!({ "kind": { "DataType": "String", "StringValue": "text" } });
        let draft = Draft::parse(&json!({ "MessageBody": "body", "MessageAttributes": attributes })).expect("is allowed");
        assert_eq!(draft.size(), 4 + 4 + 6 + 4);
        // Length and bytes of name, type and value, with the transport type (1, text) before the value.
        let encoded = b"\0\0\0\x04kind\0\0\0\x06String\x01\0\0\0\x04text";
        assert_eq!(md5_of_attributes(&draft.attributes), format!("{:x}", md5::compute(encoded)));
        assert_eq!(md5_of_body("hello"), "5d41402abc4b2a76b9719d911017c592");
    }

    #[test]
    fn a_receiver_sees_the_attributes_it_names() {
        let given = json!({ "a.b": { "DataType": "String", "StringValue": "1" }, "c": { "DataType": "Binary", "BinaryValue": "AQ==" } });
        let given = attributes(&given).expect("are allowed");
        assert_eq!(wanted(&given, &["a.*"]).into_keys().collect::<Vec<_>>(), ["a.b"]);
        assert_eq!(wanted(&given, &["All"]).len(), 2);
        assert!(wanted(&given, &[]).is_empty());
        assert_eq!(
            attributes(&json!({ "a": { "DataType": "Date", "StringValue": "1" } })).expect_err("is refused").code,
            "InvalidParameterValue"
        );
    }
}
