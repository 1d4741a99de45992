//! Meta's refusals: the error codes the simulator answers with, and the JSON they travel in.
//!
//! Codes, titles and HTTP statuses are those of
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes>;
//! the access token's subcodes are those of <https://developers.facebook.com/docs/graph-api/guides/error-handling>.
//! Knows nothing of books, requests or HTTP servers.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Where Meta sends the reader of an error in a `failed` status.
pub(crate) const HREF: &str = "https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes";

/// A refusal by the Graph API, or the reason of a message that failed later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// HTTP status of the answer.
    pub status: u16,
    /// Meta's error code, on which callers decide.
    pub code: u32,
    /// Meta's subcode, where it gives one.
    pub subcode: Option<u32>,
    /// The `type` member, such as `OAuthException`.
    pub kind: String,
    /// Meta's short name of the code; the `message` is made from it.
    pub title: String,
    /// What was wrong with this very request.
    pub details: Option<String>,
}

/// Code, HTTP status, title. Codes that may be asked for as a fault but are not listed here answer 400.
const TABLE: &[(u32, u16, &str)] = &[
    (0, 401, "AuthException"),
    (1, 400, "API Unknown"),
    (2, 503, "API Service"),
    (3, 500, "API Method"),
    (4, 400, "Application request limit reached"),
    (10, 403, "Application does not have permission for this action"),
    (33, 400, "Parameter value is not valid"),
    (100, 400, "Invalid parameter"),
    (104, 400, "API calls from the server require an appsecret_proof argument"),
    (190, 401, "Invalid OAuth access token."),
    (200, 403, "You do not have the necessary permissions required to send messages on behalf of this WhatsApp Business Account"),
    (368, 403, "Temporarily blocked for policies violations"),
    (2200, 400, "Callback verification failed"),
    (80007, 400, "Rate limit issues"),
    (130_403, 400, "User is blocked by the business"),
    (130_429, 400, "Rate limit hit"),
    (130_472, 400, "User's number is part of an experiment"),
    (130_497, 403, "Business account is restricted from messaging users in this country."),
    (131_000, 500, "Something went wrong"),
    (131_005, 403, "Access denied"),
    (131_008, 400, "Required parameter is missing"),
    (131_009, 400, "Parameter value is not valid"),
    (131_016, 500, "Service unavailable"),
    (131_021, 400, "Recipient cannot be sender"),
    (131_026, 400, "Message undeliverable"),
    (131_030, 400, "Recipient phone number not in allowed list"),
    (131_031, 403, "Business Account locked"),
    (131_037, 400, "Display name approval needed"),
    (131_042, 400, "Business eligibility payment issue"),
    (131_045, 500, "Incorrect certificate"),
    (131_047, 400, "Re-engagement message"),
    (131_048, 400, "Spam rate limit hit"),
    (131_049, 400, "Meta chose not to deliver"),
    (131_050, 400, "User has stopped marketing messages"),
    (131_051, 400, "Unsupported message type"),
    (131_052, 400, "Media download error"),
    (131_053, 400, "Media upload error"),
    (131_055, 400, "Method not allowed"),
    (131_056, 400, "(Business Account, Consumer Account) pair rate limit hit"),
    (131_057, 500, "Business Account is in maintenance mode"),
    (131_059, 400, "Invalid cursor"),
    (131_062, 400, "Message type not supported for this recipient"),
    (131_063, 400, "Marketing templates are disabled on Cloud API"),
    (132_000, 400, "Number of parameters does not match the expected number of params"),
    (132_001, 404, "Template name does not exist in the translation"),
    (132_005, 400, "Translated text too long"),
    (132_007, 400, "Template format character policy violated"),
    (132_012, 400, "Parameter format does not match format in the created template"),
    (132_015, 400, "Template is paused"),
    (132_016, 400, "Template is disabled"),
    (132_018, 400, "Template parameter validation failed"),
    (132_068, 400, "Flow is in blocked state"),
    (132_069, 400, "Flow is in throttled state"),
    (133_000, 500, "Incomplete deregistration"),
    (133_004, 503, "Server temporarily unavailable"),
    (133_005, 400, "Two step verification PIN mismatch"),
    (133_006, 400, "Phone number re-verification needed"),
    (133_008, 400, "Too many two step verification PIN guesses"),
    (133_010, 400, "Phone number not registered"),
    (133_016, 400, "Account register deregister rate limit exceeded"),
    (134_011, 400, "WhatsApp Payments terms of service has not been accepted"),
    (134_100, 400, "Only marketing messages supported"),
    (134_101, 400, "Template is syncing"),
    (134_102, 500, "Template cannot be used with Marketing Messages API"),
    (135_000, 400, "Generic user error"),
];

impl Refusal {
    /// The refusal `code` of Meta's table, as an `OAuthException`, without details.
    pub fn new(code: u32) -> Self {
        let (status, title) =
            TABLE.iter().find(|(known, ..)| *known == code).map_or((400, "Unknown error"), |(_, status, title)| (*status, *title));
        Self { status, code, subcode: None, kind: "OAuthException".into(), title: title.into(), details: None }
    }

    /// The refusal `code`, saying what was wrong.
    pub fn with(code: u32, details: impl Into<String>) -> Self {
        Self { details: Some(details.into()), ..Self::new(code) }
    }

    /// A parameter that must be there and is not.
    pub fn missing(parameter: &str) -> Self {
        Self::with(131_008, format!("The parameter {parameter} is required."))
    }

    /// A parameter whose value Meta does not take.
    pub fn invalid(details: impl Into<String>) -> Self {
        Self::with(131_009, details)
    }

    /// No such object, or none that the token may see: Graph does not tell which.
    pub fn no_object(method: &str, id: &str) -> Self {
        Self {
            subcode: Some(33),
            kind: "GraphMethodException".into(),
            title: format!(
                "Unsupported {method} request. Object with ID '{id}' does not exist, cannot be loaded due to missing permissions, or does not support this \
                 operation. Please read the Graph API documentation at https://developers.facebook.com/docs/graph-api"
            ),
            ..Self::new(100)
        }
    }

    /// A token that is no longer, or never was, valid: 463 expired, 460 password changed, 467 invalid, 458 app removed.
    pub fn token(subcode: Option<u32>, message: &str) -> Self {
        Self { subcode, title: message.into(), ..Self::new(190) }
    }

    /// The body of the HTTP answer.
    pub fn body(&self, trace_id: &str) -> Value {
        // Graph's own refusals (tokens, unknown objects) are whole sentences; WhatsApp's carry the code in front.
        let is_plain = self.code == 190 || self.subcode == Some(33);
        let message = if is_plain { self.title.clone() } else { format!("(#{}) {}", self.code, self.title) };
        let mut error = json!({ "message": message, "type": self.kind, "code": self.code, "fbtrace_id": trace_id });
        if let Some(subcode) = self.subcode {
            error["error_subcode"] = subcode.into();
        }
        // WhatsApp's own codes come with an explanation, Graph's mostly without.
        if self.details.is_some() || self.code >= 100_000 {
            error["error_data"] = json!({ "messaging_product": "whatsapp", "details": self.explained() });
        }
        json!({ "error": error })
    }

    /// The member of `errors` in a `failed` status.
    pub fn in_status(&self) -> Value {
        let mut error = self.in_message();
        error["href"] = HREF.into();
        error
    }

    /// The member of `errors` in a customer's message that Meta does not carry.
    pub fn in_message(&self) -> Value {
        json!({ "code": self.code, "title": self.title, "message": self.title, "error_data": { "details": self.explained() } })
    }

    /// What was wrong, or at least the title as a sentence.
    fn explained(&self) -> String {
        self.details.clone().unwrap_or_else(|| format!("{}.", self.title.trim_end_matches('.')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_shape_of_metas_sample() {
        let body = Refusal::with(131_056, "Too many messages sent from this number to one user.").body("AbCd123");
        let expected = json!({ "error": {
            "message": "(#131056) (Business Account, Consumer Account) pair rate limit hit", "type": "OAuthException", "code": 131_056,
            "error_data": { "messaging_product": "whatsapp", "details": "Too many messages sent from this number to one user." },
            "fbtrace_id": "AbCd123" } });
        assert_eq!(body, expected);
    }

    #[test]
    fn an_unknown_object_is_100_with_subcode_33() {
        let refusal = Refusal::no_object("post", "42");
        let body = refusal.body("A");
        assert_eq!((refusal.status, &body["error"]["code"], &body["error"]["error_subcode"]), (400, &json!(100), &json!(33)));
        assert!(body["error"]["message"].as_str().expect("a message").starts_with("Unsupported post request. Object with ID '42'"));
    }

    #[test]
    fn statuses_are_those_of_metas_page() {
        let told: Vec<u16> = [190, 10, 2, 131_000, 132_001, 131_047, 133_010].map(|code| Refusal::new(code).status).into();
        assert_eq!(told, [401, 403, 503, 500, 404, 400, 400]);
    }
}
