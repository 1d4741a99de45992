//! The Graph API over HTTP: reads a request into a [`Call`], lets the books answer it, and writes the answer.
//!
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/reference>. No rule of Meta's is decided here.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Multipart, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::Simulator;
use crate::book::{Book, CutCall, MANAGEMENT, MESSAGING, Medium};
use crate::errors::Refusal;
use crate::faults::Fault;
use crate::sends::Way;
use crate::server::Cut;

/// Larger than the largest file that may be uploaded.
const LARGEST_BODY: usize = 128 << 20;

/// How the caller shows who it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Credentials<'a> {
    /// The bearer token.
    pub(crate) token: Option<&'a str>,
    /// `appsecret_proof`.
    pub(crate) proof: Option<&'a str>,
}

/// The HTTP methods that Graph knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Post,
    Delete,
}

impl Method {
    /// As Graph spells it in its refusals.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Delete => "delete",
        }
    }
}

/// An uploaded file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Upload {
    pub(crate) messaging_product: Option<String>,
    pub(crate) mime_type: String,
    pub(crate) name: Option<String>,
    pub(crate) bytes: Bytes,
}

/// A request, read.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// The path's parts, the version first.
    pub(crate) path: Vec<String>,
    pub(crate) query: BTreeMap<String, String>,
    /// The body's JSON, or its form as an object.
    pub(crate) body: Value,
    pub(crate) token: Option<String>,
    file: Option<Upload>,
    /// Whether the callback in it has passed the handshake.
    verified: bool,
}

/// What is answered.
pub(crate) enum Reply {
    Json(u16, Value),
    File(Medium),
    /// An answer that is not Meta's JSON.
    Text(u16, &'static str, &'static str),
    /// First the callback must pass the handshake; then the call is made again.
    Verify {
        url: String,
        verify_token: String,
    },
    /// The connection is closed without an answer.
    Cut,
    Slow(Duration, Box<Reply>),
}

impl Call {
    async fn read(request: Request) -> Result<Self, Refusal> {
        let method = match *request.method() {
            axum::http::Method::GET => Method::Get,
            axum::http::Method::POST => Method::Post,
            axum::http::Method::DELETE => Method::Delete,
            _ => return Err(Refusal::with(100, "Unsupported method")),
        };
        let path = request.uri().path().split('/').filter(|it| !it.is_empty()).map(str::to_owned).collect();
        let query = form(request.uri().query().unwrap_or_default());
        // Meta also takes the token from the query, from where it gets into logs: nobody may rely on that here.
        let token = text_of(&request, &header::AUTHORIZATION).and_then(|it| it.strip_prefix("Bearer ")).map(str::to_owned);
        let content_type = text_of(&request, &header::CONTENT_TYPE).unwrap_or_default().to_owned();
        let mut call = Self { method, path, query, body: Value::Null, token, file: None, verified: false };
        if content_type.starts_with("multipart/form-data") {
            call.file = upload(request).await?;
            return Ok(call);
        }
        let bytes =
            axum::body::to_bytes(request.into_body(), LARGEST_BODY).await.map_err(|_| Refusal::with(100, "The body is too large."))?;
        call.body = if content_type.starts_with("application/x-www-form-urlencoded") {
            json!(form(&String::from_utf8_lossy(&bytes)))
        } else if bytes.is_empty() {
            json!(call.query)
        } else {
            serde_json::from_slice(&bytes).map_err(|_| Refusal::with(100, "Invalid JSON in the request body."))?
        };
        Ok(call)
    }

    pub(crate) fn credentials(&self) -> Credentials<'_> {
        let proof = self.query.get("appsecret_proof").map(String::as_str).or_else(|| self.body["appsecret_proof"].as_str());
        Credentials { token: self.token.as_deref(), proof }
    }

    fn version(&self) -> &str {
        self.path.first().map_or("", String::as_str)
    }

    fn callback(&self, url: &str, verify_token: &Value) -> Option<Reply> {
        let verify_token = verify_token.as_str().unwrap_or_default().to_owned();
        (!self.verified && !url.is_empty()).then(|| Reply::Verify { url: url.into(), verify_token })
    }
}

fn text_of<'a>(request: &'a Request, name: &header::HeaderName) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok()
}

fn form(text: &str) -> BTreeMap<String, String> {
    reqwest::Url::parse(&format!("http://localhost/?{text}")).map(|it| it.query_pairs().into_owned().collect()).unwrap_or_default()
}

async fn upload(request: Request) -> Result<Option<Upload>, Refusal> {
    let unreadable = |_| Refusal::with(100, "The multipart body cannot be read.");
    let mut parts = Multipart::from_request(request, &()).await.map_err(|_| Refusal::with(100, "The multipart body cannot be read."))?;
    let (mut upload, mut has_file) = (Upload::default(), false);
    while let Some(part) = parts.next_field().await.map_err(unreadable)? {
        match part.name() {
            Some("file") => {
                has_file = true;
                if let Some(mime_type) = part.content_type() {
                    upload.mime_type = mime_type.into();
                }
                upload.name = part.file_name().map(str::to_owned);
                upload.bytes = part.bytes().await.map_err(unreadable)?;
            }
            Some("messaging_product") => upload.messaging_product = Some(part.text().await.map_err(unreadable)?),
            Some("type") => upload.mime_type = part.text().await.map_err(unreadable)?,
            _ => {}
        }
    }
    Ok(has_file.then_some(upload))
}

/// Answers any path outside `/sim`.
pub(crate) async fn handle(State(simulator): State<Simulator>, request: Request) -> Response {
    let mut call = match Call::read(request).await {
        Ok(call) => call,
        Err(refusal) => return json_response("v0.0", refusal.status, &refusal.body("A")),
    };
    let mut reply = simulator.change(|book, now_ms| book.answer(now_ms, &call));
    if let Reply::Verify { url, verify_token } = &reply {
        reply = match simulator.handshake(url, verify_token).await {
            Ok(()) => {
                call.verified = true;
                simulator.change(|book, now_ms| book.answer(now_ms, &call))
            }
            Err(why) => Reply::Json(
                400,
                Refusal { title: format!("Callback verification failed with the following errors: {why}"), ..Refusal::new(2200) }.body("A"),
            ),
        };
    }
    if let Reply::Slow(wait, then) = reply {
        tokio::time::sleep(wait).await;
        reply = *then;
    }
    respond(call.version(), reply)
}

fn respond(version: &str, reply: Reply) -> Response {
    match reply {
        Reply::Json(status, body) => json_response(version, status, &body),
        Reply::Text(status, content_type, body) => (status_code(status), [(header::CONTENT_TYPE, content_type)], body).into_response(),
        Reply::File(medium) => ([(header::CONTENT_TYPE, medium.mime_type.clone())], medium.content()).into_response(),
        Reply::Slow(_, then) => respond(version, *then),
        Reply::Cut | Reply::Verify { .. } => {
            let mut response = Response::new(Body::empty());
            response.extensions_mut().insert(Cut);
            response
        }
    }
}

fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn json_response(version: &str, status: u16, body: &Value) -> Response {
    let version = HeaderValue::from_str(version).unwrap_or(HeaderValue::from_static("v0.0"));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8")),
        (header::HeaderName::from_static("facebook-api-version"), version),
    ];
    (status_code(status), headers, body.to_string()).into_response()
}

/// `v25.0`: any version is served, as if all were alive.
fn is_version(text: &str) -> bool {
    let parts = text.strip_prefix('v').and_then(|it| it.split_once('.'));
    parts.is_some_and(|(major, minor)| [major, minor].iter().all(|it| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit())))
}

impl Book {
    /// Answers a call.
    pub(crate) fn answer(&mut self, now_ms: i64, call: &Call) -> Reply {
        let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
        if path == ["whatsapp_business", "attachments"] {
            if let Some(failing) = self.failing_call(&path) {
                return failing
                    .map_or_else(|| server_error(503), |status| Reply::Text(u16::try_from(status).unwrap_or(500), "text/html", ""));
            }
            return match self.download(now_ms, call) {
                Ok(medium) => Reply::File(self.altered(medium)),
                Err(status) => Reply::Text(status, "text/html", ""),
            };
        }
        let answer = match path.as_slice() {
            [version, rest @ ..] if is_version(version) && !rest.is_empty() => self.route(now_ms, call, rest),
            _ => Err(Refusal { title: format!("Unknown path components: /{}", path.join("/")), ..Refusal::new(2500) }),
        };
        answer.unwrap_or_else(|refusal| Reply::Json(refusal.status, refusal.body(&self.trace_id())))
    }

    fn route(&mut self, now_ms: i64, call: &Call, path: &[&str]) -> Result<Reply, Refusal> {
        match (call.method, path) {
            (Method::Post, [number, "messages"]) => return self.answer_message(now_ms, number, Way::Messages, call),
            (Method::Post, [number, "marketing_messages"]) => return self.answer_message(now_ms, number, Way::MarketingMessages, call),
            _ => {}
        }
        if let Some(failing) = self.failing_call(path) {
            return failing.map_or_else(|| Ok(server_error(503)), |code| Err(Refusal::new(code)));
        }
        match self.cut_call.take() {
            // A call that is made again after the handshake was counted before.
            Some(cut) if call.verified != cut.is_in_handshake => {
                self.cut_call = Some(cut);
                self.execute(now_ms, call, path)
            }
            Some(cut) if cut.after > 0 => {
                self.cut_call = Some(CutCall { after: cut.after - 1, ..cut });
                self.execute(now_ms, call, path)
            }
            Some(cut) if cut.is_done => {
                let answer = self.execute(now_ms, call, path);
                if !matches!(answer, Ok(Reply::Verify { .. })) {
                    return Ok(Reply::Cut);
                }
                self.cut_call = Some(CutCall { is_in_handshake: true, ..cut });
                answer
            }
            Some(_) => Ok(Reply::Cut),
            None => self.execute(now_ms, call, path),
        }
    }

    /// The file as it is given out.
    fn altered(&mut self, medium: Medium) -> Medium {
        if self.altered_files == 0 {
            return medium;
        }
        self.altered_files -= 1;
        Medium { bytes: STANDARD.encode("something else"), ..medium }
    }

    /// Fails this call? Then with which code, if with any.
    fn failing_call(&mut self, path: &[&str]) -> Option<Option<u32>> {
        let joined = path.join("/");
        let failing = self.failing_calls.iter_mut().find(|it| it.times > 0 && joined.starts_with(&it.path))?;
        failing.times -= 1;
        Some(failing.code)
    }

    fn execute(&mut self, now_ms: i64, call: &Call, path: &[&str]) -> Result<Reply, Refusal> {
        if path == ["oauth", "access_token"] {
            return self.exchange(now_ms, call).map(|it| Reply::Json(200, it));
        }
        self.check_token(now_ms, call.credentials())?;
        let body = match (call.method, path) {
            (Method::Get, ["debug_token"]) => self.debug_token(now_ms, call.query.get("input_token").map_or("", String::as_str)),
            (method, [app_id, "subscriptions"]) if method != Method::Delete => return self.answer_subscriptions(app_id, call),
            (_, [account, rest]) if self.accounts.contains_key(*account) => return self.answer_account(now_ms, account, rest, call),
            (_, [number, rest]) if self.numbers.contains_key(*number) => self.answer_number(now_ms, number, rest, call)?,
            (_, [id]) => return self.answer_object(now_ms, id, call),
            (method, [id, ..]) => return Err(Refusal::no_object(method.name(), id)),
            (method, []) => return Err(Refusal::no_object(method.name(), "")),
        };
        Ok(Reply::Json(200, body))
    }

    fn answer_message(&mut self, now_ms: i64, id: &str, way: Way, call: &Call) -> Result<Reply, Refusal> {
        let number = self.admit_sender(now_ms, id, call.credentials())?;
        // A typing indicator must not use up a fault that was meant for the answer.
        let is_send = call.body.get("status").is_none();
        let fault = if is_send { self.faults.take(id) } else { None };
        match fault {
            Some(Fault::Error { code, subcode }) => return Err(Refusal { subcode, ..Refusal::new(code) }),
            Some(Fault::Server { status, accepted: false }) => return Ok(server_error(status)),
            Some(Fault::Html { status, accepted: false }) => return Ok(page(status)),
            Some(Fault::CutBefore) => return Ok(Reply::Cut),
            _ => {}
        }
        let forced = if let Some(Fault::FailLater { code }) = fault { Some(Refusal::new(code)) } else { None };
        let answer = self.post_message(now_ms, &number, way, &call.body, forced);
        match fault {
            Some(Fault::CutAfter) => Ok(Reply::Cut),
            Some(Fault::Server { status, .. }) => Ok(server_error(status)),
            Some(Fault::Html { status, .. }) => Ok(page(status)),
            Some(Fault::Slow { millis }) => answer.map(|it| Reply::Slow(Duration::from_millis(millis), Box::new(Reply::Json(200, it)))),
            _ => answer.map(|it| Reply::Json(200, it)),
        }
    }

    fn answer_subscriptions(&mut self, app_id: &str, call: &Call) -> Result<Reply, Refusal> {
        self.check_app_token(call.credentials(), app_id, call.method.name())?;
        if call.method == Method::Get {
            return self.subscriptions(app_id).map(|it| Reply::Json(200, it));
        }
        if call.body["object"] != "whatsapp_business_account" {
            return Err(Refusal::with(100, "Param object must be one of {WHATSAPP_BUSINESS_ACCOUNT}"));
        }
        let url = call.body["callback_url"]
            .as_str()
            .filter(|it| !it.is_empty())
            .ok_or_else(|| Refusal::with(100, "The parameter callback_url is required."))?;
        match call.callback(url, &call.body["verify_token"]) {
            Some(verify) => Ok(verify),
            None => self.set_subscription(app_id, &call.body).map(|it| Reply::Json(200, it)),
        }
    }

    fn answer_account(&mut self, now_ms: i64, id: &str, rest: &str, call: &Call) -> Result<Reply, Refusal> {
        let account = self.managed_account(id, call)?.clone();
        self.count_call(now_ms, call.credentials(), id)?;
        let body = match (call.method, rest) {
            (Method::Get, "phone_numbers") => self.phone_numbers(id, call)?,
            (Method::Get, "message_templates") => {
                if call.query.contains_key("after") && self.expired_cursors > 0 {
                    self.expired_cursors -= 1;
                    return Err(Refusal::with(131_059, "The cursor is invalid or has expired."));
                }
                self.message_templates(id, call)?
            }
            (Method::Get, "subscribed_apps") => self.subscribed_apps(&account),
            (Method::Post, "subscribed_apps") => {
                let url = call.body["override_callback_uri"].as_str().unwrap_or_default();
                if url.chars().count() > 200 {
                    return Err(Refusal::with(100, "Param override_callback_uri must be at most 200 characters long."));
                }
                if let Some(verify) = call.callback(url, &call.body["verify_token"]) {
                    return Ok(verify);
                }
                self.subscribe(id, call.credentials(), true, &call.body)?
            }
            (Method::Delete, "subscribed_apps") => self.subscribe(id, call.credentials(), false, &call.body)?,
            (method, _) => return Err(Refusal::no_object(method.name(), id)),
        };
        Ok(Reply::Json(200, body))
    }

    fn answer_number(&mut self, now_ms: i64, id: &str, rest: &str, call: &Call) -> Result<Value, Refusal> {
        let account = self.number(call.method.name(), id)?.account.clone();
        let scope = if rest == "media" { MESSAGING } else { MANAGEMENT };
        self.check_access(call.credentials(), &account, scope)?;
        match (call.method, rest) {
            (Method::Post, "media") => self.upload(now_ms, id, call.file.as_ref()),
            (Method::Post, "register") => self.register(now_ms, id, &call.body),
            (Method::Post, "deregister") => self.deregister(now_ms, id),
            (Method::Post, "request_code") => self.request_code(id, &call.body),
            (Method::Post, "verify_code") => self.verify_code(id, &call.body),
            (method, _) => Err(Refusal::no_object(method.name(), id)),
        }
    }

    /// An object by its id alone: a number, an account, an app or a file.
    fn answer_object(&mut self, now_ms: i64, id: &str, call: &Call) -> Result<Reply, Refusal> {
        let body = if let Some(number) = self.numbers.get(id).cloned() {
            self.check_access(call.credentials(), &number.account, MANAGEMENT)?;
            self.count_call(now_ms, call.credentials(), &number.account)?;
            match call.method {
                Method::Get => self.number_fields(&number, call.query.get("fields")),
                Method::Post => {
                    let webhook = &call.body["webhook_configuration"];
                    if let Some(verify) =
                        call.callback(webhook["override_callback_uri"].as_str().unwrap_or_default(), &webhook["verify_token"])
                    {
                        return Ok(verify);
                    }
                    self.change_number(id, &call.body)?
                }
                Method::Delete => return Err(Refusal::no_object("delete", id)),
            }
        } else if self.accounts.contains_key(id) && call.method == Method::Get {
            let account = self.managed_account(id, call)?.clone();
            self.count_call(now_ms, call.credentials(), id)?;
            self.account_fields(&account, call.query.get("fields"))
        } else if let Some(app) = self.apps.get(id).filter(|_| call.method == Method::Get) {
            json!({ "id": app.id, "name": app.name })
        } else if call.method == Method::Delete {
            self.medium(now_ms, id, call)?;
            self.media.remove(id);
            json!({ "success": true })
        } else if call.method == Method::Get {
            let medium = self.medium(now_ms, id, call)?;
            self.medium_fields(now_ms, medium)
        } else {
            return Err(Refusal::no_object(call.method.name(), id));
        };
        Ok(Reply::Json(200, body))
    }
}

fn server_error(status: u16) -> Reply {
    Reply::Text(status, "text/plain", "upstream connect error or disconnect/reset before headers")
}

fn page(status: u16) -> Reply {
    Reply::Text(
        status,
        "text/html; charset=utf-8",
        "<!DOCTYPE html><html><head><title>Error</title></head><body><h1>Sorry, something went wrong.</h1></body></html>",
    )
}
