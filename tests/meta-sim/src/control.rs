//! `/sim`: the same verbs as the library's, for people and tests with curl. Documented in this crate's README.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, body::Bytes};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::customers::{Impossible, Written};
use crate::faults::Rule;
use crate::outbox::{MOST_UPDATES, Mode};
use crate::templates::{Edit, Template};
use crate::{Account, App, Customer, Limits, Number, Simulator, Token};

type Answer = Result<Json<Value>, Problem>;

/// Why a control call is refused.
struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": { "code": self.code, "message": self.message } }))).into_response()
    }
}

impl From<Impossible> for Problem {
    fn from(impossible: Impossible) -> Self {
        let (status, code) = match &impossible {
            Impossible::NoCustomer(_) => (StatusCode::NOT_FOUND, "unknown_customer"),
            Impossible::NoNumber(_) => (StatusCode::NOT_FOUND, "unknown_number"),
            Impossible::NoAccount(_) => (StatusCode::NOT_FOUND, "unknown_account"),
            Impossible::NoMessage(_) => (StatusCode::NOT_FOUND, "unknown_message"),
            Impossible::NotConnected(_) => (StatusCode::CONFLICT, "number_not_connected"),
        };
        Self { status, code, message: impossible.to_string() }
    }
}

impl Problem {
    fn absent(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, code: "not_found", message: message.into() }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: "invalid_body", message: message.into() }
    }
}

/// All routes under `/sim`.
pub(crate) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/sim/health", get(async || Json(json!({ "ok": true }))))
        .route("/sim/customers", get(customers).post(put_customer))
        .route("/sim/phones/{phone}", get(screen).post(settings))
        .route("/sim/phones/{phone}/messages", post(write))
        .route("/sim/phones/{phone}/{verb}", post(act))
        .route("/sim/messages/{wamid}", get(message))
        .route("/sim/accepted", get(accepted))
        .route("/sim/apps", post(put_app))
        .route("/sim/accounts", post(put_account))
        .route("/sim/accounts/{id}", post(change_account))
        .route("/sim/accounts/{id}/webhooks", post(tell_account))
        .route("/sim/accounts/{id}/templates", post(put_template))
        .route("/sim/accounts/{id}/templates/status", post(template_status))
        .route("/sim/accounts/{id}/templates/edit", post(edit_template))
        .route("/sim/held", post(release_held))
        .route("/sim/limits", get(limits).post(set_limits))
        .route("/sim/received", get(received))
        .route("/sim/numbers", get(numbers).post(put_number))
        .route("/sim/numbers/{id}", post(change_number))
        .route("/sim/numbers/{id}/sends", get(sends))
        .route("/sim/numbers/{id}/echoes", post(echo))
        .route("/sim/numbers/{id}/handovers", post(hand_over))
        .route("/sim/tokens", post(put_token))
        .route("/sim/tokens/expire", post(expire_token))
        .route("/sim/codes", post(put_code))
        .route("/sim/calls/fail", post(fail_calls))
        .route("/sim/faults/seed", post(sow))
        .route("/sim/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/sim/webhooks", get(webhooks))
        .route("/sim/webhooks/mode", post(set_mode))
        .route("/sim/{*rest}", axum::routing::any(nowhere))
        .method_not_allowed_fallback(nowhere)
}

async fn nowhere() -> Problem {
    Problem::absent("there is no such control call: see README.md of the simulator")
}

/// Reads a body; an empty one is `{}`.
fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    let body: &[u8] = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| Problem::invalid(error.to_string()))
}

/// `current` with the members of `body` put over it.
fn changed<T: serde::Serialize + DeserializeOwned>(current: &T, body: &Bytes) -> Result<T, Problem> {
    let mut value = serde_json::to_value(current).map_err(|error| Problem::invalid(error.to_string()))?;
    for (name, member) in read::<Map<String, Value>>(body)? {
        if value.get(&name).is_none() {
            return Err(Problem::invalid(format!("there is no member `{name}`")));
        }
        value[name] = member;
    }
    serde_json::from_value(value).map_err(|error| Problem::invalid(error.to_string()))
}

async fn customers(State(simulator): State<Simulator>) -> Json<Value> {
    Json(json!({ "customers": simulator.look(|book, _| book.customers.values().cloned().collect::<Vec<Customer>>()) }))
}

async fn put_customer(State(simulator): State<Simulator>, body: Bytes) -> Answer {
    let customer: Customer = read(&body)?;
    if customer.phone.is_none() && customer.user_id.is_none() {
        return Err(Problem::invalid("a customer needs `phone` or `user_id`"));
    }
    let key = simulator.change(|book, _| book.add_customer(customer));
    Ok(Json(json!({ "customer": simulator.look(|book, _| book.customers.get(&key).cloned()) })))
}

/// The customer writes; `type` is `text` if absent.
async fn write(State(simulator): State<Simulator>, Path(phone): Path<String>, body: Bytes) -> Answer {
    let mut fields: Map<String, Value> = read(&body)?;
    let Some(Value::String(number)) = fields.remove("to") else { return Err(Problem::invalid("`to` must be a phone number id")) };
    fields.entry("type").or_insert_with(|| "text".into());
    let written: Written = serde_json::from_value(Value::Object(fields)).map_err(|error| Problem::invalid(error.to_string()))?;
    let id = simulator.customer_writes(&phone, &number, written)?;
    Ok(Json(json!({ "id": id })))
}

async fn screen(State(simulator): State<Simulator>, Path(phone): Path<String>) -> Answer {
    let typing = simulator.phone(&phone).sees_typing()?;
    let (customer, messages) = simulator.change(|book, now_ms| -> Result<_, Impossible> {
        let key = book.known_customer(&phone)?;
        Ok((book.customers[&key].clone(), book.screen(now_ms, &phone)?))
    })?;
    Ok(Json(json!({ "phone": customer.phone, "customer": customer, "typing": typing, "messages": messages })))
}

async fn settings(State(simulator): State<Simulator>, Path(phone): Path<String>, body: Bytes) -> Answer {
    let customer = simulator.change(|book, now_ms| {
        let key = book.customer(&phone).ok_or(Impossible::NoCustomer(phone))?;
        let customer: Customer = changed(&book.customers[&key], &body)?;
        let online = customer.online;
        book.customers.insert(Customer { key: key.clone(), ..customer.clone() });
        book.set_online(now_ms, &key, online)?;
        Ok::<_, Problem>(customer)
    })?;
    Ok(Json(json!({ "customer": customer })))
}

/// What the body of the small verbs may name.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Act {
    /// Phone number id.
    to: Option<String>,
    /// A wamid.
    message: Option<String>,
    /// A new telephone number.
    phone: Option<String>,
    /// A new user id.
    user_id: Option<String>,
    /// `stop` or `resume`.
    value: Option<String>,
    /// Seconds.
    ago: i64,
}

async fn act(State(simulator): State<Simulator>, Path((phone, verb)): Path<(String, String)>, body: Bytes) -> Answer {
    let act: Act = read(&body)?;
    let needed = |name: &str, value: &Option<String>| value.clone().ok_or_else(|| Problem::invalid(format!("`{name}` is missing")));
    let who = phone.as_str();
    let answer = match verb.as_str() {
        "read" => json!({ "read": simulator.change(|book, now_ms| book.customer_reads(now_ms, who, act.to.as_deref()))? }),
        "play" => {
            let message = needed("message", &act.message)?;
            simulator.change(|book, now_ms| book.customer_plays(now_ms, who, &message))?;
            json!({ "ok": true })
        }
        "online" | "offline" => {
            simulator.change(|book, now_ms| book.set_online(now_ms, who, verb == "online"))?;
            json!({ "ok": true })
        }
        "block" | "unblock" => {
            let number = needed("to", &act.to)?;
            let number = simulator
                .look(|book, _| book.numbers.contains_key(&number))
                .then_some(number.clone())
                .ok_or(Impossible::NoNumber(number))?;
            simulator.change_customer(who, |it| it.set_blocked(&number, verb == "block"))?;
            json!({ "ok": true })
        }
        "call" => {
            let number = needed("to", &act.to)?;
            json!({ "id": simulator.change(|book, now_ms| book.customer_calls(now_ms, who, &number, act.ago))? })
        }
        "preference" => {
            let (number, choice) = (needed("to", &act.to)?, needed("value", &act.value)?);
            if !matches!(choice.as_str(), "stop" | "resume" | "signup") {
                return Err(Problem::invalid("`value` must be `stop`, `resume` or `signup`"));
            }
            simulator.change(|book, now_ms| book.customer_prefers(now_ms, who, &number, &choice))?;
            json!({ "ok": true })
        }
        "change-phone" => {
            let phone = needed("phone", &act.phone)?;
            simulator.change(|book, now_ms| book.customer_changes_phone(now_ms, who, &phone))?;
            json!({ "ok": true })
        }
        "change-user-id" => {
            let user_id = needed("user_id", &act.user_id)?;
            simulator.change(|book, now_ms| book.customer_changes_user_id(now_ms, who, &user_id))?;
            json!({ "ok": true })
        }
        _ => return Err(Problem::absent(format!("a phone cannot `{verb}`"))),
    };
    Ok(Json(answer))
}

async fn message(State(simulator): State<Simulator>, Path(wamid): Path<String>) -> Answer {
    let message = simulator.message(&wamid).ok_or(Impossible::NoMessage(wamid))?;
    Ok(Json(json!({ "message": message })))
}

#[derive(Debug, Deserialize)]
struct Asked {
    id: Option<String>,
}

async fn accepted(State(simulator): State<Simulator>, Query(asked): Query<Asked>) -> Json<Value> {
    Json(match asked.id {
        Some(id) => json!({ "accepted": simulator.accepted(&id) }),
        None => json!({ "accepted": simulator.all_accepted() }),
    })
}

async fn put_app(State(simulator): State<Simulator>, body: Bytes) -> Answer {
    #[derive(Deserialize)]
    struct Given {
        id: String,
        secret: String,
    }
    let Given { id, secret } = serde_json::from_slice(&body).map_err(|error| Problem::invalid(error.to_string()))?;
    let fields: Map<String, Value> = read(&body)?;
    let members = Bytes::from(Value::Object(fields).to_string());
    let app: App = changed(&App::new(&id, &secret), &members)?;
    simulator.put_app(app);
    Ok(Json(json!({ "ok": true })))
}

async fn put_account(State(simulator): State<Simulator>, body: Bytes) -> Answer {
    #[derive(Deserialize)]
    struct Given {
        id: String,
        app_id: String,
        portfolio: Option<String>,
    }
    let given: Given = read(&body)?;
    let account = Account::new(&given.id, &given.app_id);
    simulator.put_account(Account { portfolio: given.portfolio.unwrap_or_else(|| account.portfolio.clone()), ..account });
    Ok(Json(json!({ "ok": true })))
}

async fn tell_account(State(simulator): State<Simulator>, Path(id): Path<String>, body: Bytes) -> Answer {
    #[derive(Deserialize)]
    struct Given {
        field: String,
        value: Value,
    }
    let Given { field, value } = read(&body)?;
    if !simulator.look(|book, _| book.accounts.contains_key(&id)) {
        return Err(Problem::absent(format!("there is no account `{id}`")));
    }
    simulator.tell_account(&id, &field, &value);
    Ok(Json(json!({ "ok": true })))
}

async fn put_template(State(simulator): State<Simulator>, Path(id): Path<String>, body: Bytes) -> Answer {
    let template: Template = read(&body)?;
    simulator.put_template(&id, template);
    Ok(Json(json!({ "ok": true })))
}

async fn template_status(State(simulator): State<Simulator>, Path(id): Path<String>, body: Bytes) -> Answer {
    #[derive(Deserialize)]
    struct Given {
        name: String,
        language: String,
        status: String,
    }
    let given: Given = read(&body)?;
    if !simulator.set_template_status(&id, &given.name, &given.language, &given.status) {
        return Err(Problem::absent(format!("there is no template `{}` in `{}`", given.name, given.language)));
    }
    Ok(Json(json!({ "ok": true })))
}

async fn edit_template(State(simulator): State<Simulator>, Path(id): Path<String>, body: Bytes) -> Answer {
    #[derive(Deserialize)]
    struct Given {
        name: String,
        language: String,
        #[serde(flatten)]
        edit: Edit,
    }
    let Given { name, language, edit } = read(&body)?;
    if !simulator.edit_template(&id, &name, &language, &edit) {
        return Err(Problem::absent(format!("there is no template `{name}` in `{language}`")));
    }
    Ok(Json(json!({ "ok": true })))
}

async fn change_account(State(simulator): State<Simulator>, Path(id): Path<String>, body: Bytes) -> Answer {
    let account = simulator.change(|book, _| {
        let before = book.accounts.get(&id).cloned().ok_or(Impossible::NoAccount(id))?;
        let account: Account = changed(&before, &body)?;
        book.put_account(Account { id: before.id, ..account.clone() });
        Ok::<_, Problem>(account)
    })?;
    Ok(Json(json!({ "account": account })))
}

async fn limits(State(simulator): State<Simulator>) -> Json<Value> {
    Json(json!({ "limits": simulator.look(|book, _| book.limits.clone()) }))
}

async fn set_limits(State(simulator): State<Simulator>, body: Bytes) -> Answer {
    let limits: Limits = changed(&simulator.look(|book, _| book.limits.clone()), &body)?;
    simulator.set_limits(limits.clone());
    Ok(Json(json!({ "limits": limits })))
}

#[derive(Debug, Deserialize)]
struct Whose {
    who: Option<String>,
}

async fn received(State(simulator): State<Simulator>, Query(whose): Query<Whose>) -> Answer {
    Ok(Json(match whose.who {
        Some(who) => {
            simulator.look(|book, _| book.known_customer(&who))?;
            json!({ "received": simulator.received(&who) })
        }
        None => json!({ "received": simulator.all_received() }),
    }))
}

async fn sends(State(simulator): State<Simulator>, Path(id): Path<String>) -> Answer {
    if !simulator.look(|book, _| book.numbers.contains_key(&id)) {
        return Err(Impossible::NoNumber(id).into());
    }
    Ok(Json(json!({ "sends": simulator.sends_of(&id), "throttled": simulator.throttled_of(&id) })))
}

async fn release_held(State(simulator): State<Simulator>, body: Bytes) -> Answer {
    #[derive(Deserialize)]
    struct Given {
        delivered: bool,
    }
    let Given { delivered } = read(&body)?;
    Ok(Json(json!({ "released": simulator.release_held(delivered) })))
}

async fn numbers(State(simulator): State<Simulator>) -> Json<Value> {
    Json(json!({ "numbers": simulator.look(|book, _| book.numbers.values().cloned().collect::<Vec<Number>>()) }))
}

async fn put_number(State(simulator): State<Simulator>, body: Bytes) -> Answer {
    #[derive(Deserialize)]
    struct Given {
        id: String,
        account: String,
        display_phone_number: String,
    }
    let given: Given = read(&body)?;
    let number: Number = changed(&Number::new(&given.id, &given.account, &given.display_phone_number), &body)?;
    if !simulator.look(|book, _| book.accounts.contains_key(&number.account)) {
        return Err(Problem::absent(format!("there is no account `{}`", number.account)));
    }
    simulator.put_number(number);
    Ok(Json(json!({ "ok": true })))
}

/// Changes a number; a higher throughput and another quality are told by `phone_number_quality_update`.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/phone_number_quality_update>
async fn change_number(State(simulator): State<Simulator>, Path(id): Path<String>, body: Bytes) -> Answer {
    let number = simulator.change(|book, now_ms| {
        let before = book.numbers.get(&id).cloned().ok_or(Impossible::NoNumber(id))?;
        let number: Number = changed(&before, &body)?;
        let event = match number.quality_rating != before.quality_rating {
            true if number.quality_rating == "RED" => Some("FLAGGED"),
            true => Some("UNFLAGGED"),
            false => (number.throughput > before.throughput).then_some("THROUGHPUT_UPGRADE"),
        };
        book.numbers.insert(before.id, number.clone());
        if let Some(event) = event {
            let value =
                json!({ "display_phone_number": number.digits(), "event": event, "max_daily_conversations_per_business": book.limits.tier() });
            book.tell(&number.account, None, "phone_number_quality_update", &value, now_ms);
        }
        Ok::<_, Problem>(number)
    })?;
    Ok(Json(json!({ "number": number })))
}

#[derive(Debug, Deserialize)]
struct Toward {
    /// The customer.
    to: String,
    /// The words.
    #[serde(default)]
    text: String,
    /// `control_passed` or `control_taken`.
    #[serde(default, rename = "type")]
    kind: String,
}

async fn echo(State(simulator): State<Simulator>, Path(id): Path<String>, body: Bytes) -> Answer {
    let toward: Toward = read(&body)?;
    Ok(Json(json!({ "id": simulator.person_writes(&toward.to, &id, &toward.text)? })))
}

async fn hand_over(State(simulator): State<Simulator>, Path(id): Path<String>, body: Bytes) -> Answer {
    let toward: Toward = read(&body)?;
    if !matches!(toward.kind.as_str(), "control_passed" | "control_taken") {
        return Err(Problem::invalid("`type` must be `control_passed` or `control_taken`"));
    }
    simulator.hand_over(&toward.to, &id, &toward.kind)?;
    Ok(Json(json!({ "ok": true })))
}

async fn put_token(State(simulator): State<Simulator>, body: Bytes) -> Answer {
    #[derive(Deserialize)]
    struct Given {
        token: String,
        app_id: String,
        accounts: Vec<String>,
        scopes: Option<Vec<String>>,
        expires_in: Option<i64>,
    }
    let given: Given = read(&body)?;
    let accounts: Vec<&str> = given.accounts.iter().map(String::as_str).collect();
    let token = Token::new(&given.token, &given.app_id, &accounts);
    let now_ms = simulator.now_ms();
    simulator.put_token(Token {
        scopes: given.scopes.map_or_else(|| token.scopes.clone(), |it| it.into_iter().collect()),
        issued_at_ms: now_ms,
        expires_at_ms: given.expires_in.map(|seconds| now_ms + seconds * 1000),
        ..token
    });
    Ok(Json(json!({ "ok": true })))
}

async fn expire_token(State(simulator): State<Simulator>, body: Bytes) -> Answer {
    #[derive(Deserialize)]
    struct Given {
        token: String,
        subcode: Option<u32>,
    }
    let Given { token, subcode } = read(&body)?;
    let is_known = subcode.map_or_else(|| simulator.expire_token(&token), |subcode| simulator.revoke_token(&token, subcode));
    if is_known { Ok(Json(json!({ "ok": true }))) } else { Err(Problem::absent("there is no such token")) }
}

async fn put_code(State(simulator): State<Simulator>, body: Bytes) -> Answer {
    #[derive(Deserialize)]
    struct Given {
        code: String,
        app_id: String,
        token: String,
    }
    let Given { code, app_id, token } = read(&body)?;
    simulator.put_code(&code, &app_id, &token);
    Ok(Json(json!({ "ok": true })))
}

async fn fail_calls(State(simulator): State<Simulator>, body: Bytes) -> Answer {
    #[derive(Deserialize)]
    struct Given {
        path: String,
        code: Option<u32>,
        times: Option<u32>,
    }
    let Given { path, code, times } = read(&body)?;
    simulator.fail_calls(&path, code, times.unwrap_or(1));
    Ok(Json(json!({ "ok": true })))
}

async fn faults(State(simulator): State<Simulator>) -> Json<Value> {
    let faults = simulator.look(|book, _| {
        let told = |rule: &Rule| {
            let mut told = json!(rule);
            told["met"] = book.faults.met(rule.id).into();
            told
        };
        book.faults.rules().iter().map(told).collect::<Vec<_>>()
    });
    Json(json!({ "faults": faults }))
}

async fn add_fault(State(simulator): State<Simulator>, body: Bytes) -> Answer {
    let rule: Rule = read(&body)?;
    if rule.share.is_some_and(|it| !(0.0..=1.0).contains(&it)) {
        return Err(Problem::invalid("`share` must be 0 to 1"));
    }
    Ok(Json(json!({ "id": simulator.change(|book, _| book.faults.add(rule)) })))
}

async fn sow(State(simulator): State<Simulator>, body: Bytes) -> Answer {
    #[derive(Deserialize)]
    struct Given {
        seed: u64,
    }
    let Given { seed } = read(&body)?;
    simulator.sow(seed);
    Ok(Json(json!({ "ok": true })))
}

#[derive(Debug, Deserialize)]
struct Which {
    id: Option<u64>,
}

async fn clear_faults(State(simulator): State<Simulator>, Query(which): Query<Which>) -> Json<Value> {
    simulator.clear_faults(which.id);
    Json(json!({ "ok": true }))
}

async fn webhooks(State(simulator): State<Simulator>) -> Json<Value> {
    let (unsent, next_due_ms, mode) = simulator.look(|book, _| (book.outbox.unsent(), book.outbox.next_due_ms(), book.outbox.mode.clone()));
    Json(json!({ "unsent": unsent, "next_due_ms": next_due_ms, "mode": mode }))
}

async fn set_mode(State(simulator): State<Simulator>, body: Bytes) -> Answer {
    let current = simulator.look(|book, _| book.outbox.mode.clone());
    let mode: Mode = changed(&current, &body)?;
    if !(1..=MOST_UPDATES).contains(&mode.batch) {
        return Err(Problem::invalid(format!("`batch` must be 1 to {MOST_UPDATES}")));
    }
    simulator.set_mode(mode.clone());
    Ok(Json(json!({ "mode": mode })))
}
