//! Meta's errors: the table of codes with what each means for a send, and the tolerant reading of error bodies.
//!
//! Decisions are made on the code, as Meta asks, not on titles or HTTP statuses; the HTTP status speaks only where no code is known.
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes>

use std::ops::RangeInclusive;

use domain::status::Fault;
use serde_json::value::RawValue;

use crate::wire::{Object, text};

/// Meta's code for "something went wrong": stands in a [`Fault`] where Meta gave no code that can be read. Never zero, which is a code.
pub const UNKNOWN_CODE: u32 = 131_000;

/// Longest text kept of an answer that is no error of the Graph API, in characters.
const DETAILS_LIMIT: usize = 300;

/// What an error means for whoever wanted to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Definitely not sent; back off and try again.
    NotSent,
    /// Definitely not sent: too many messages from this number to this customer. Back off for this pair only, 4^n seconds.
    Pair,
    /// It may have been sent, or not.
    Unknown,
    /// The customer service window is closed: only a template goes out.
    Window,
    /// Never as it is.
    Permanent,
    /// Not now; in hours, or more.
    Later,
    /// Marketing to this customer is limited: not within a day.
    MarketingLimit,
    /// The customer has opted out of marketing.
    OptedOut,
    /// The template does not exist, or not in this language, or is not approved.
    TemplateMissing,
    /// The template is paused.
    TemplatePaused,
    /// The template is disabled for good.
    TemplateDisabled,
    /// The business number cannot send.
    Number,
    /// The access token or its permissions do not hold.
    Credentials,
    /// The account is locked, blocked, or cannot pay.
    Account,
    /// Something else has to be mended at Meta first.
    Fix,
}

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The codes that it covers.
    pub codes: RangeInclusive<u32>,
    /// What they mean for a send.
    pub class: Class,
    /// What it is, in our words.
    pub about: &'static str,
    /// Meta's page.
    pub link: &'static str,
}

const CODES: &str = "https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes";
const GRAPH: &str = "https://developers.facebook.com/docs/graph-api/guides/error-handling";
const GRAPH_LIMITS: &str = "https://developers.facebook.com/docs/graph-api/overview/rate-limiting";
const GROUPS: &str = "https://developers.facebook.com/documentation/business-messaging/whatsapp/groups/error-codes";
const CALLING: &str = "https://developers.facebook.com/documentation/business-messaging/whatsapp/calling/troubleshooting";
const BSUID: &str = "https://developers.facebook.com/documentation/business-messaging/whatsapp/business-scoped-user-ids";
const FLOWS: &str = "https://developers.facebook.com/docs/whatsapp/flows/reference/error-codes";
const BLOCKING: &str = "https://developers.facebook.com/documentation/business-messaging/whatsapp/block-users";
const TEMPLATES: &str = "https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/template-management";

const fn row(from: u32, to: u32, class: Class, about: &'static str, link: &'static str) -> Entry {
    Entry { codes: from..=to, class, about, link }
}

const fn code(code: u32, class: Class, about: &'static str) -> Entry {
    row(code, code, class, about, CODES)
}

/// The table, by code.
pub const TABLE: &[Entry] = &[
    code(0, Class::Credentials, "the access token does not hold any more"),
    code(1, Class::Unknown, "a bad request, or trouble at Meta"),
    code(2, Class::Unknown, "Meta is down or overloaded"),
    code(3, Class::Credentials, "the app lacks a capability or permission"),
    code(4, Class::NotSent, "the app calls too often"),
    code(10, Class::Credentials, "a permission is not granted, or was removed"),
    row(17, 17, Class::NotSent, "the user of the token calls too often", GRAPH_LIMITS),
    row(32, 32, Class::NotSent, "the page calls too often", GRAPH_LIMITS),
    code(33, Class::Number, "the business number was deleted, or its id is wrong"),
    code(100, Class::Permanent, "a parameter is not supported or misspelt"),
    row(104, 104, Class::Credentials, "the access token or the proof of the app secret is missing", GRAPH),
    code(190, Class::Credentials, "the access token has expired or was withdrawn"),
    code(200, Class::Credentials, "the access token has no access to this account or number"),
    row(201, 299, Class::Credentials, "a permission is not granted, or was removed", CODES),
    code(368, Class::Account, "the account is blocked for a time for breaking a policy"),
    row(613, 613, Class::NotSent, "this endpoint is called too often", GRAPH_LIMITS),
    code(80_007, Class::NotSent, "the WhatsApp Business account calls too often"),
    code(130_403, Class::Permanent, "the business has blocked this customer"),
    code(130_429, Class::NotSent, "the number sends faster than it may"),
    code(130_472, Class::MarketingLimit, "the customer is part of an experiment of Meta's and gets no marketing"),
    code(130_497, Class::Permanent, "the account may not write to this country"),
    row(130_501, 130_501, Class::Permanent, "not for this kind of group", GROUPS),
    code(131_000, Class::Unknown, "something went wrong at Meta"),
    code(131_005, Class::Credentials, "a permission is not granted, or was removed"),
    code(131_008, Class::Permanent, "a parameter is missing"),
    code(131_009, Class::Permanent, "the value of a parameter is not valid"),
    code(131_016, Class::Unknown, "a service of Meta's is not available"),
    row(131_020, 131_020, Class::Permanent, "the group is not valid", GROUPS),
    code(131_021, Class::Permanent, "sender and recipient are the same number"),
    code(131_026, Class::Permanent, "it cannot be delivered: not on WhatsApp, an old client, terms not accepted, or blocked"),
    code(131_030, Class::Permanent, "a test number, and the recipient is not on its list"),
    code(131_031, Class::Account, "the account is locked"),
    code(131_035, Class::Permanent, "messages to us were lost because they could not be delivered in time"),
    code(131_036, Class::Permanent, "not delivered to the customer's primary device"),
    code(131_037, Class::Number, "the number's display name is not approved"),
    row(131_041, 131_041, Class::Permanent, "the group is not known", GROUPS),
    code(131_042, Class::Account, "the account has a problem with its payment"),
    row(131_044, 131_044, Class::Fix, "the account has a problem with its payment for calls", CALLING),
    code(131_045, Class::Number, "the number is not registered"),
    code(131_047, Class::Window, "more than 24 hours have passed since the customer last wrote"),
    code(131_048, Class::Later, "too many messages of this number were blocked or reported"),
    code(131_049, Class::MarketingLimit, "the customer gets no more marketing for now"),
    code(131_050, Class::OptedOut, "the customer has opted out of marketing"),
    code(131_051, Class::Permanent, "the kind of message is not supported"),
    code(131_052, Class::Permanent, "the file could not be downloaded"),
    code(131_053, Class::Permanent, "the file could not be uploaded, or is of another type than it says"),
    code(131_055, Class::Permanent, "not allowed here: only for marketing"),
    code(131_056, Class::Pair, "too many messages from this number to this customer"),
    code(131_057, Class::NotSent, "the number or account is in maintenance"),
    code(131_059, Class::Permanent, "a page of a list is asked for that is no longer there"),
    code(131_060, Class::Permanent, "the content of a customer's message is not available"),
    row(131_062, 131_062, Class::Permanent, "this kind of message cannot go to a business-scoped user id", BSUID),
    code(131_063, Class::Fix, "marketing is switched off for this account on this endpoint"),
    code(131_064, Class::Later, "limited because templates were of the wrong category"),
    row(131_201, 131_215, Class::Permanent, "an operation on a group failed", GROUPS),
    code(132_000, Class::Permanent, "the number of the template's values is not right"),
    code(132_001, Class::TemplateMissing, "the template does not exist in this language, or is not approved"),
    code(132_005, Class::Permanent, "the template's text is too long with these values"),
    code(132_007, Class::Permanent, "the template's content breaks a policy"),
    code(132_008, Class::Permanent, "a value of the template is not valid"),
    code(132_012, Class::Permanent, "a value of the template has the wrong form"),
    code(132_015, Class::TemplatePaused, "the template is paused for its low quality"),
    code(132_016, Class::TemplateDisabled, "the template is disabled for good"),
    code(132_018, Class::Permanent, "the template's values are not valid"),
    row(132_068, 132_068, Class::Permanent, "the flow is blocked", FLOWS),
    row(132_069, 132_069, Class::Later, "the flow is throttled", FLOWS),
    code(133_000, Class::Fix, "deregistering the number failed before"),
    code(133_004, Class::NotSent, "the server is not available for a moment"),
    code(133_005, Class::Fix, "the two-step PIN is wrong"),
    code(133_006, Class::Fix, "the number must be verified before it is registered"),
    code(133_008, Class::Later, "too many guesses of the two-step PIN"),
    code(133_009, Class::NotSent, "the two-step PIN was entered too fast"),
    code(133_010, Class::Number, "the number is not registered"),
    code(133_015, Class::NotSent, "the number was deleted a moment ago"),
    code(133_016, Class::Later, "the number was registered and deregistered too often in 72 hours"),
    code(134_011, Class::Fix, "the terms for payments are not accepted"),
    code(134_100, Class::Permanent, "not a marketing template"),
    code(134_101, Class::NotSent, "the template is still being synchronised"),
    code(134_102, Class::Fix, "the template cannot be used on this endpoint"),
    code(134_103, Class::Fix, "the template cannot be used on this endpoint"),
    code(135_000, Class::Permanent, "a parameter is not right"),
    row(135_002, 135_002, Class::Permanent, "an operation on blocked customers failed", BLOCKING),
    code(136_024, Class::Later, "no code can be asked for now"),
    code(137_000, Class::Permanent, "the customer's identity has changed and was not acknowledged"),
    row(138_000, 138_025, Class::Permanent, "a call failed", CALLING),
    row(139_000, 139_006, Class::Permanent, "the flow cannot be sent", FLOWS),
    row(139_100, 139_103, Class::Permanent, "an operation on blocked customers failed", BLOCKING),
    code(141_002, Class::TemplateMissing, "the template is not approved"),
    code(147_001, Class::Fix, "the username is taken or not valid"),
    code(147_002, Class::Fix, "the messaging limit is too low for a username"),
    row(147_003, 147_005, Class::Fix, "the username belongs to another account of the business", CODES),
    row(200_005, 200_007, Class::Permanent, "the figures of templates are not available", TEMPLATES),
    code(1_752_041, Class::Permanent, "the account has already been asked to join"),
    code(2_388_001, Class::Permanent, "the number cannot be moved"),
    code(2_388_012, Class::Permanent, "the number cannot be moved"),
    row(2_388_019, 2_388_019, Class::Fix, "the account has as many templates as it may", TEMPLATES),
    row(2_388_039, 2_388_040, Class::Permanent, "the template cannot be made like this", TEMPLATES),
    row(2_388_047, 2_388_047, Class::Permanent, "the template's header is not right", TEMPLATES),
    row(2_388_072, 2_388_073, Class::Permanent, "the template's body or footer is not right", TEMPLATES),
    code(2_388_091, Class::Permanent, "the number cannot be moved"),
    code(2_388_093, Class::Permanent, "the number cannot be moved"),
    code(2_388_103, Class::Permanent, "the number cannot be moved"),
    row(2_388_293, 2_388_293, Class::Permanent, "the template has too many variables for its text", TEMPLATES),
    row(2_388_299, 2_388_299, Class::Permanent, "the template begins or ends with a variable", TEMPLATES),
    code(2_494_100, Class::NotSent, "the account is in maintenance"),
    row(2_494_164, 2_494_179, Class::Permanent, "signing up failed", CODES),
    code(2_593_079, Class::Permanent, "synchronising with the WhatsApp Business app failed"),
    code(2_593_085, Class::Permanent, "synchronising with the WhatsApp Business app failed"),
    row(2_593_107, 2_593_109, Class::Permanent, "the history of the WhatsApp Business app is not shared", CODES),
];

/// The row for a code.
#[must_use]
pub fn entry(code: u32) -> Option<&'static Entry> {
    let after = TABLE.partition_point(|it| *it.codes.start() <= code);
    TABLE[..after].last().filter(|it| it.codes.contains(&code))
}

/// An error of the Graph API: <https://developers.facebook.com/docs/graph-api/guides/error-handling>.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphError {
    /// Code, title and details.
    pub fault: Fault,
    /// Meta's code within the code. Meta asks not to decide on it; one case has no other sign.
    pub subcode: Option<u32>,
    /// Meta has no code here, or none that can be read.
    pub is_uncoded: bool,
    /// Meta's name of the call, for its support.
    pub trace: Option<String>,
}

impl GraphError {
    /// From the body of an answer; nothing if it holds no error of the Graph API (an HTML page, say, or nothing).
    #[must_use]
    pub fn parse(body: &[u8]) -> Option<Self> {
        Self::parse_hiding(body, &[])
    }

    /// As [`GraphError::parse`], with `…` in place of each of `secrets`, which Meta's words may repeat ("Malformed access token …").
    #[must_use]
    pub fn parse_hiding(body: &[u8], secrets: &[&str]) -> Option<Self> {
        let body = String::from_utf8_lossy(body);
        let answer = Object::parse(&body)?;
        let raw = answer.get("error")?;
        let object = Object::read(raw).unwrap_or_default();
        Some(Self {
            fault: read_hiding(raw, secrets),
            subcode: number(&object, "error_subcode"),
            is_uncoded: number(&object, "code").is_none(),
            trace: object.words("fbtrace_id"),
        })
    }
}

/// One element of an `errors` list, or the `error` of an answer: never nothing, whatever stands there.
pub(crate) fn read(raw: &RawValue) -> Fault {
    read_hiding(raw, &[])
}

fn read_hiding(raw: &RawValue, secrets: &[&str]) -> Fault {
    // Hidden before it is cut, or the rest of a secret would stand at the end.
    let told = |text: &str| shortened(&hiding(text, secrets));
    let Some(object) = Object::read(raw) else {
        return Fault { code: UNKNOWN_CODE, title: text(raw).map(|it| told(&it)), details: None };
    };
    let message = object.words("message");
    let details = match object.get("error_data") {
        Some(data) => Object::read(data).map_or_else(|| text(data).map(|it| it.into_owned()), |it| it.words("details")),
        None => None,
    };
    let title = object.words("title").or_else(|| message.clone());
    Fault {
        code: number(&object, "code").unwrap_or(UNKNOWN_CODE),
        details: details.or_else(|| message.filter(|it| title.as_ref() != Some(it))).map(|it| told(&it)),
        title: title.map(|it| told(&it)),
    }
}

fn number(object: &Object<'_>, name: &str) -> Option<u32> {
    object.text(name)?.parse().ok()
}

fn shortened(text: &str) -> String {
    text.chars().take(DETAILS_LIMIT).collect()
}

/// The text with `…` for each secret, and for whatever looks like an access token of Meta's.
fn hiding(text: &str, secrets: &[&str]) -> String {
    let secrets = secrets.iter().filter(|it| !it.is_empty());
    let text = secrets.fold(text.to_owned(), |text, secret| text.replace(secret, "…"));
    let mut hidden = String::with_capacity(text.len());
    // Each a word and the one character after it.
    for part in text.split_inclusive(|it| !is_of_token(it)) {
        let word = part.trim_end_matches(|it| !is_of_token(it));
        hidden.push_str(if looks_like_token(word) { "…" } else { word });
        hidden.push_str(&part[word.len()..]);
    }
    hidden
}

fn is_of_token(it: char) -> bool {
    it.is_ascii_alphanumeric() || matches!(it, '-' | '_')
}

/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/access-tokens>
fn looks_like_token(word: &str) -> bool {
    word.len() >= 20 && word.starts_with("EAA") && word.bytes().any(|it| it.is_ascii_digit())
}

/// The fault of an answer without an error of the Graph API.
#[must_use]
pub fn without_explanation(http_status: u16) -> Fault {
    let title = format!("Meta answered HTTP {http_status} without an explanation");
    Fault { code: UNKNOWN_CODE, title: Some(title), details: None }
}

/// What the answer to a send means: by its code, and where there is none that we know, by its HTTP status.
#[must_use]
pub fn classify(http_status: u16, error: Option<&GraphError>) -> Class {
    let Some(error) = error.filter(|it| !it.is_uncoded) else {
        return by_http_status(http_status);
    };
    match error.fault.code {
        // "Unsupported post request. Object with ID … does not exist": the number.
        100 if error.subcode == Some(33) => Class::Number,
        // An app that requires the proof refuses whatever comes without it.
        100 if mentions_proof(&error.fault) => Class::Credentials,
        code => entry(code).map_or_else(|| by_http_status(http_status), |it| it.class),
    }
}

/// What a `failed` status means. It is final: what would be unknown, or could be tried again, as the answer to a send, has failed here.
#[must_use]
pub fn classify_failed(fault: &Fault) -> Class {
    match entry(fault.code).map_or(Class::Permanent, |it| it.class) {
        Class::NotSent | Class::Pair | Class::Unknown => Class::Permanent,
        class @ (Class::Window
        | Class::Permanent
        | Class::Later
        | Class::MarketingLimit
        | Class::OptedOut
        | Class::TemplateMissing
        | Class::TemplatePaused
        | Class::TemplateDisabled
        | Class::Number
        | Class::Credentials
        | Class::Account
        | Class::Fix) => class,
    }
}

fn by_http_status(http_status: u16) -> Class {
    match http_status {
        401 => Class::Credentials,
        429 => Class::NotSent,
        400..=499 => Class::Permanent,
        // 5xx, and what no server should answer to a send.
        _ => Class::Unknown,
    }
}

fn mentions_proof(fault: &Fault) -> bool {
    [&fault.title, &fault.details].into_iter().flatten().any(|it| it.contains("appsecret_proof"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn coded(code: u32) -> GraphError {
        GraphError { fault: Fault { code, title: None, details: None }, subcode: None, is_uncoded: false, trace: None }
    }

    fn parsed(json: &str) -> GraphError {
        GraphError::parse(json.as_bytes()).expect("an error of the Graph API")
    }

    #[test]
    fn rows_are_in_order_and_do_not_overlap() {
        for pair in TABLE.windows(2) {
            assert!(pair[0].codes.end() < pair[1].codes.start(), "{:?} {:?}", pair[0], pair[1]);
        }
        for it in TABLE {
            assert!(it.link.starts_with("https://developers.facebook.com/"), "{it:?}");
            assert!(entry(*it.codes.start()) == Some(it) && entry(*it.codes.end()) == Some(it), "{it:?}");
        }
        assert_eq!(entry(5), None);
        assert_eq!(entry(300), None);
        assert_eq!(entry(u32::MAX), None);
    }

    #[test]
    fn each_class_by_the_codes_that_decide_what_a_sender_does() {
        let expected: &[(Class, &[u32])] = &[
            (Class::NotSent, &[4, 17, 32, 613, 80_007, 130_429, 131_057, 133_004, 2_494_100]),
            (Class::Pair, &[131_056]),
            (Class::Unknown, &[1, 2, 131_000, 131_016]),
            (Class::Window, &[131_047]),
            (
                Class::Permanent,
                &[100, 130_403, 130_497, 131_008, 131_009, 131_021, 131_026, 131_030, 131_051, 131_062, 132_000, 132_012, 132_018],
            ),
            (Class::Later, &[131_048, 131_064, 133_016]),
            (Class::MarketingLimit, &[130_472, 131_049]),
            (Class::OptedOut, &[131_050]),
            (Class::TemplateMissing, &[132_001]),
            (Class::TemplatePaused, &[132_015]),
            (Class::TemplateDisabled, &[132_016]),
            (Class::Number, &[33, 131_037, 131_045, 133_010]),
            (Class::Credentials, &[0, 3, 10, 104, 190, 200, 201, 250, 299, 131_005]),
            (Class::Account, &[368, 131_031, 131_042]),
            (Class::Fix, &[131_044, 131_063, 134_011]),
        ];
        for (class, codes) in expected {
            for code in *codes {
                for http_status in [200, 400, 401, 429, 500] {
                    assert_eq!(classify(http_status, Some(&coded(*code))), *class, "{code}");
                }
            }
        }
    }

    #[test]
    fn an_unknown_code_is_judged_by_its_http_status() {
        for error in [Some(&coded(424_242)), None] {
            assert_eq!(classify(400, error), Class::Permanent);
            assert_eq!(classify(401, error), Class::Credentials);
            assert_eq!(classify(403, error), Class::Permanent);
            assert_eq!(classify(429, error), Class::NotSent);
            assert_eq!(classify(500, error), Class::Unknown);
            assert_eq!(classify(503, error), Class::Unknown);
            assert_eq!(classify(302, error), Class::Unknown);
        }
    }

    #[test]
    fn a_missing_number_and_a_missing_proof_are_no_misspelt_parameter() {
        assert_eq!(
            classify(400, Some(&parsed(r#"{"error":{"code":100,"error_subcode":33,"message":"Unsupported post request."}}"#))),
            Class::Number
        );
        let proof = r#"{"error":{"code":100,"message":"API calls from the server require an appsecret_proof argument"}}"#;
        assert_eq!(classify(400, Some(&parsed(proof))), Class::Credentials);
        assert_eq!(classify(400, Some(&parsed(r#"{"error":{"code":100,"error_subcode":34}}"#))), Class::Permanent);
    }

    #[test]
    fn error_bodies_of_all_forms() {
        let it = parsed(
            r#"{"error":{"message":"(#131056) Pair rate limit hit","type":"OAuthException","code":131056,"error_data":{"messaging_product":"whatsapp","details":"Too many"},"error_subcode":2494055,"fbtrace_id":"AbCd"}}"#,
        );
        assert_eq!(
            it.fault,
            Fault { code: 131_056, title: Some("(#131056) Pair rate limit hit".into()), details: Some("Too many".into()) }
        );
        assert_eq!((it.subcode, it.trace.as_deref()), (Some(2_494_055), Some("AbCd")));

        assert_eq!(
            parsed(r#"{"error":{"code":"190","error_data":"expired"}}"#).fault,
            Fault { code: 190, title: None, details: Some("expired".into()) }
        );

        let uncoded = parsed(r#"{"error":"out of order"}"#);
        assert_eq!(uncoded.fault.title.as_deref(), Some("out of order"));
        assert_eq!(classify(400, Some(&uncoded)), Class::Permanent, "no code is not the code 0");
        assert_eq!(classify(500, Some(&parsed(r#"{"error":{"message":"?"}}"#))), Class::Unknown);

        for body in ["", "<html>Bad Gateway</html>", "{}", "[]", "{\"error\":null}", "\u{FEFF}"] {
            assert_eq!(GraphError::parse(body.as_bytes()), None, "{body}");
        }
        assert_eq!(GraphError::parse(&[0xFF, 0xFE]), None);
    }

    #[test]
    fn a_failed_status_is_final() {
        for code in [1, 131_000, 131_056, 130_429, 424_242] {
            assert_eq!(classify_failed(&coded(code).fault), Class::Permanent, "{code}");
        }
        assert_eq!(classify_failed(&coded(131_047).fault), Class::Window);
        assert_eq!(classify_failed(&coded(131_050).fault), Class::OptedOut);
    }

    proptest! {
        #[test]
        fn any_body_is_read(body in proptest::collection::vec(any::<u8>(), 0..200), json in "\\{\"error\":[\\[\\]{}a-z\":,0-9]{0,40}\\}") {
            let _ = GraphError::parse(&body);
            let _ = GraphError::parse(json.as_bytes());
        }
    }
}
