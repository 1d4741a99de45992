//! The numbers of a connection, and their set-up: `/v1/connections/{connection}/numbers`.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{Method, StatusCode};
use channel::numbers::{self, NumberView, SetUp, Step};
use channel::vault::Secret;
use domain::connection::Quality;
use domain::ids::{ConnectionId, NumberId, TenantId};
use domain::template::Language;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::access::{Caller, Manage, Read};
use crate::answers::{Done, Found};
use crate::connections::{OfConnection, owned, stored};
use crate::document::{Api, Route};
use crate::fields::{Body, Path, fields};
use crate::paging::Page;
use crate::problems::{FieldError, Problem};
use crate::{Handles, Now};

const LIST: &str = "/v1/connections/{connection}/numbers";
const REQUEST_CODE: &str = "/v1/connections/{connection}/numbers/{number}/request-code";
const VERIFY_CODE: &str = "/v1/connections/{connection}/numbers/{number}/verify-code";
const REGISTER: &str = "/v1/connections/{connection}/numbers/{number}/register";
const DEREGISTER: &str = "/v1/connections/{connection}/numbers/{number}/deregister";
const REFUSALS: &[(StatusCode, &str)] = &[(StatusCode::CONFLICT, "Meta does not do it.")];

/// The routes.
pub(crate) fn routes(api: Api) -> Api {
    let list_route = Route {
        method: Method::GET,
        path: LIST,
        id: "listNumbers",
        summary: "Lists a connection's numbers, in their order.",
        refusals: &[],
    };
    let route = |path, id, summary| Route { method: Method::POST, path, id, summary, refusals: REFUSALS };
    api.route(list_route, list)
        .route(route(REQUEST_CODE, "requestCode", "Has Meta send the code that proves whose a number is."), request_code)
        .route(route(VERIFY_CODE, "verifyCode", "Shows Meta the code that it sent. It is not the PIN."), verify_code)
        .route(route(REGISTER, "registerNumber", REGISTERS), register)
        .route(route(DEREGISTER, "deregisterNumber", "Takes a number from the Cloud API: it sends and receives no more."), deregister)
}

const REGISTERS: &str = "Registers a number with its two-step PIN, which it gets if it has none. Meta takes this ten times in 72 hours.";

/// Names a number of a connection.
#[derive(Debug, Deserialize, JsonSchema)]
struct OfNumber {
    /// The connection.
    connection: ConnectionId,
    /// The number: Meta's id.
    number: NumberId,
}

/// A number. What Meta says of it is as of the last check, or of its last webhook.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ShownNumber {
    /// Meta's id.
    id: NumberId,
    /// Is it this connection's? Not before its first start.
    held: bool,
    /// As people read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    display_number: Option<String>,
    /// The name that customers see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    display_name: Option<String>,
    /// Meta's word for its review of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name_status: Option<String>,
    /// Meta's word for how it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    /// Meta's code of the fault that keeps it from sending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fault: Option<u32>,
    /// Meta's judgement of its messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quality: Option<Quality>,
    /// How many messages a second it may send and receive together.
    throughput: u32,
    /// Meta's word for whether its owner has shown the code that was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code_verification: Option<String>,
    /// Meta's word for where it is registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    platform: Option<String>,
    /// Has it the mark of an official business account?
    official: bool,
}

impl ShownNumber {
    pub(crate) fn of(it: NumberView) -> Self {
        let number = it.number;
        Self {
            id: number.id,
            held: it.is_held,
            display_number: number.display,
            display_name: number.verified_name,
            name_status: number.name_status,
            status: number.status,
            fault: it.fault,
            quality: number.quality,
            throughput: it.per_second,
            code_verification: number.code_verification,
            platform: number.platform,
            official: number.is_official,
        }
    }
}

/// How Meta sends a code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CodeMethod {
    /// By SMS.
    #[default]
    Sms,
    /// By a call.
    Voice,
}

/// Six digits: a code that was sent, or a PIN.
pub(crate) struct SixDigits(Secret);

impl<'de> Deserialize<'de> for SixDigits {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_so = text.len() == 6 && text.bytes().all(|it| it.is_ascii_digit());
        is_so.then(|| Self(Secret::new(text))).ok_or_else(|| serde::de::Error::custom("expected six digits"))
    }
}

impl JsonSchema for SixDigits {
    fn schema_name() -> Cow<'static, str> {
        "SixDigits".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]{6}$" })
    }
}

fields! {
    /// How the code is sent.
    HowToSend {
        /// By SMS, if nothing is said, or by a call.
        method: Option<CodeMethod>,
        /// In which language, such as `es` or `en_US`.
        language: Language,
    }
}

fields! {
    /// The code that was sent.
    SentCode {
        /// Six digits.
        code: SixDigits,
    }
}

fields! {
    /// The two-step PIN.
    TwoStepPin {
        /// Six digits: the number's, or a new one if it has none. Without it, the one that a sign-in with Meta has left with us.
        pin: Option<SixDigits>,
    }
}

async fn list(
    caller: Caller<Read>,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConnection>,
) -> Result<Found<Page<ShownNumber>>, Problem> {
    let connection = owned(&handles, &caller.tenant, &it.connection).await?;
    let checked = handles.store.checked(&connection.id).await?;
    let found = numbers::list(&handles.store, &connection, checked.as_ref()).await?;
    Ok(Found(Page::new(found.into_iter().map(ShownNumber::of).collect(), None::<NumberId>)))
}

async fn request_code(
    caller: Caller<Manage>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfNumber>,
    Body(how): Body<HowToSend>,
) -> Result<Done, Problem> {
    let by_voice = how.method.unwrap_or_default() == CodeMethod::Voice;
    set_up(&caller.tenant, &handles, &it, Step::RequestCode { by_voice, language: how.language.to_string() }, now).await
}

async fn verify_code(
    caller: Caller<Manage>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfNumber>,
    Body(sent): Body<SentCode>,
) -> Result<Done, Problem> {
    set_up(&caller.tenant, &handles, &it, Step::VerifyCode { code: sent.code.0 }, now).await
}

async fn register(
    caller: Caller<Manage>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfNumber>,
    Body(with): Body<TwoStepPin>,
) -> Result<Done, Problem> {
    set_up(&caller.tenant, &handles, &it, Step::Register { pin: with.pin.map(|it| it.0) }, now).await
}

async fn deregister(
    caller: Caller<Manage>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfNumber>,
) -> Result<Done, Problem> {
    set_up(&caller.tenant, &handles, &it, Step::Deregister, now).await
}

async fn set_up(tenant: &TenantId, handles: &Handles, of: &OfNumber, step: Step, now: Now) -> Result<Done, Problem> {
    let stored = stored(handles, tenant, &of.connection).await?;
    let at = (&handles.store, &handles.queues, &handles.vault, &handles.meta.graph);
    match numbers::set_up(at, &stored, &of.number, &step, now.0).await? {
        SetUp::Done => Ok(Done),
        SetUp::Unknown => Err(Problem::not_found()),
        SetUp::NoPin => {
            Err(Problem::invalid(vec![FieldError::new("pin", "required", "No PIN of this number is kept here: say which it is.")]))
        }
        SetUp::Refused { code, why } => {
            let problem = Problem::new(StatusCode::CONFLICT, "meta_refused", "Meta does not do it.");
            Err(problem.saying(format!("{why} (Meta's code {code}). Mend that, or wait, then try again.")))
        }
        SetUp::Later { why } => Err(Problem::meta_silent(&why)),
    }
}
