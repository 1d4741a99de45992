//! The Graph API over HTTPS: one request, one try, three kinds of answer.
//!
//! Tokens go in the Authorization header, to Meta's hosts only, and no error holds one, or an address with a query.
//! This file must not know what is in a message, and it repeats nothing: whoever calls decides what an unknown outcome costs.
//!
//! <https://developers.facebook.com/docs/graph-api/overview>

mod media;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use domain::customer::{Bsuid, Customer, Phone};
use domain::ids::{AppId, NumberId, WabaId, Wamid};
use domain::status::Fault;
use domain::template::Filled;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, RequestBuilder, Url};
use serde_json::Value;

use crate::account::{self, AccountState, FIELDS, Listed, NumberRecord, Subscriber, Subscription, TokenState};
use crate::fault::{self, Class, GraphError, UNKNOWN_CODE, classify, without_explanation};
use crate::numbers::{self, NumberState};
use crate::outgoing;
use crate::signature::appsecret_proof;
use crate::templates::{self, Page};
use crate::wire::Object;

pub use media::{CHUNK_TIMEOUT, DOWNLOAD_LIMIT, Download, DownloadError, FILE_TIMEOUT, FileHash, MediaRecord, NewFile};

/// Meta's address of the Graph API.
pub const META: &str = "https://graph.facebook.com";

/// Longest wait for the answer to a send, the connection included.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest wait for the answer to a mark as read: a send may wait behind it, and nothing is lost without it.
pub const MARK_READ_TIMEOUT: Duration = Duration::from_secs(2);

/// Largest answer to a send that is read, in bytes.
const ANSWER_LIMIT: usize = 1 << 20;

/// Largest list that is read, in bytes: a hundred templates of many cards are some megabytes.
const READ_LIMIT: usize = 8 << 20;

/// What we ask of each template.
const TEMPLATE_FIELDS: &str = "id,name,language,status,category,parameter_format,components,quality_score";

/// The same, and whether Meta made it by itself.
const TEMPLATE_FIELDS_AND_SOURCE: &str = "id,name,language,status,category,parameter_format,components,quality_score,source";

/// What we ask of a number.
const NUMBER_FIELDS: &str = "id,status,quality_rating,throughput";

/// So many pages of an account's numbers are read.
const NUMBER_PAGES: usize = 100;

/// What we ask of a number in an account's list.
const LISTED_NUMBER_FIELDS: &str = "id,display_phone_number,verified_name,name_status,code_verification_status,platform_type,status,quality_rating,throughput,is_official_business_account";

/// What we ask of an account.
const ACCOUNT_FIELDS: &str = "id,name,account_review_status,whatsapp_business_manager_messaging_limit";

/// Meta's code where a cursor is too old: the list is read from its start again.
const CURSOR_EXPIRED: u32 = 131_059;

/// Where the Graph API is, and how long we wait for it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// [`META`], or a simulator's address on this machine.
    pub base_url: String,
    /// The version, as `v25.0`: <https://developers.facebook.com/docs/graph-api/changelog/versions>.
    pub version: String,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for the answer to a send or a reading, the connection included.
    pub timeout: Duration,
    /// Longest wait for the answer to a mark as read, the connection included.
    pub mark_read_timeout: Duration,
    /// Longest wait for a whole file, in either direction.
    pub file_timeout: Duration,
    /// Longest wait for the next bytes of a file.
    pub chunk_timeout: Duration,
    /// How long an unused connection is kept. Short: a Lambda's sandbox is frozen between invocations, Meta closes the connection meanwhile,
    /// and a request on a dead connection has an unknown outcome.
    pub idle_timeout: Duration,
    /// Takes a `base_url` on this machine, without TLS too: for tests and the local stack.
    pub allow_loopback: bool,
}

impl Settings {
    /// Meta's own Graph API.
    #[must_use]
    pub fn meta(version: impl Into<String>) -> Self {
        Self {
            base_url: META.to_owned(),
            version: version.into(),
            connect_timeout: Duration::from_secs(2),
            timeout: SEND_TIMEOUT,
            mark_read_timeout: MARK_READ_TIMEOUT,
            file_timeout: FILE_TIMEOUT,
            chunk_timeout: CHUNK_TIMEOUT,
            idle_timeout: Duration::from_secs(4),
            allow_loopback: false,
        }
    }
}

/// Why no client can be made of the settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Tokens would go to somebody else.
    #[error("the Graph API's address must be https at a host of facebook.com, or on this machine where that is allowed")]
    BaseUrl,
    /// It would become part of a path.
    #[error("the Graph API's version must look like `v25.0`")]
    Version,
    /// The TLS settings do not hold together.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
}

/// What opens the Graph API for one connection.
#[derive(Clone)]
pub struct Credentials {
    token: String,
    app_secret: Option<String>,
}

impl Credentials {
    /// An access token, and the secret of its app if we hold it, which then is proved with every call.
    #[must_use]
    pub fn new(token: impl Into<String>, app_secret: Option<String>) -> Self {
        Self { token: token.into(), app_secret: app_secret.filter(|it| !it.is_empty()) }
    }

    /// An app's own: they open its settings, and nothing of an account.
    /// <https://developers.facebook.com/docs/facebook-login/guides/access-tokens#apptokens>
    #[must_use]
    pub fn of_app(app: &AppId, secret: &str) -> Self {
        Self::new(format!("{app}|{secret}"), Some(secret.to_owned()))
    }

    fn secrets(&self) -> [&str; 2] {
        [&self.token, self.app_secret.as_deref().unwrap_or_default()]
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// What came of a send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// Meta took it. Whether it is delivered is told by statuses.
    Accepted {
        /// Meta's id of it.
        wamid: Wamid,
        /// The recipient as Meta names them: may be another form of the number than was dialled.
        customer: Option<Customer>,
        /// Meta holds it for a check of quality.
        held: bool,
    },
    /// Definitely not sent.
    Refused {
        /// What follows.
        class: Class,
        /// Meta's words, or ours where there are none.
        fault: Fault,
        /// The HTTP status; 0 if Meta was not reached.
        http: u16,
    },
    /// It may have been sent, or not.
    Unknown {
        /// What happened, for logs.
        why: &'static str,
    },
}

/// Why something could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// What follows, as for a send; [`Class::Unknown`] if there is no answer, or none that can be read.
    pub class: Class,
    /// Meta's words, or ours where there are none.
    pub fault: Fault,
    /// The HTTP status; 0 if there is no answer.
    pub http: u16,
}

impl Unread {
    /// The cursor has expired: the list is to be read from its start again.
    #[must_use]
    pub fn is_of_cursor(&self) -> bool {
        self.fault.code == CURSOR_EXPIRED
    }

    /// "Tried accessing nonexistent field (source)": <https://developers.facebook.com/docs/graph-api/guides/error-handling>.
    fn is_of_source(&self) -> bool {
        let words = [&self.fault.title, &self.fault.details];
        self.fault.code == 100 && words.into_iter().flatten().any(|it| it.contains("(source)"))
    }
}

/// A client of the Graph API. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Graph {
    client: Client,
    /// Address and version.
    root: String,
    timeout: Duration,
    mark_read_timeout: Duration,
    file_timeout: Duration,
    chunk_timeout: Duration,
    /// May files be fetched from this machine?
    allow_loopback: bool,
}

/// Through what a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// The Cloud API.
    Messages,
    /// The Marketing Messages API: marketing templates only, with the same answers and statuses.
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/marketing-messages/overview>
    MarketingMessages,
}

impl Endpoint {
    fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::MarketingMessages => "marketing_messages",
        }
    }
}

/// The Graph API for whoever may send templates and nothing else: there is no way from here to another message.
///
/// ```
/// # use {domain::ids::NumberId, domain::template::Filled, meta::graph::*, meta::outgoing::Recipient};
/// async fn sends(graph: &TemplateGraph, from: &NumberId, credentials: &Credentials, to: &Recipient, what: &Filled) {
///     graph.send(Endpoint::Messages, from, credentials, to, what, "").await;
/// }
/// ```
/// ```compile_fail
/// # use {domain::ids::NumberId, domain::outgoing::Outgoing, meta::graph::*, meta::outgoing::Recipient};
/// async fn sends(graph: &TemplateGraph, from: &NumberId, credentials: &Credentials, to: &Recipient, what: &Outgoing) {
///     graph.send(Endpoint::Messages, from, credentials, to, what, "").await;
/// }
/// ```
#[derive(Debug, Clone)]
pub struct TemplateGraph(Graph);

impl TemplateGraph {
    /// A client.
    ///
    /// # Errors
    /// [`SettingsError`], as [`Graph::new`].
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        Graph::new(settings).map(Self)
    }

    /// Sends a template from `number`. `opaque` comes back in every status of the message.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/overview>
    pub async fn send(
        &self,
        through: Endpoint,
        number: &NumberId,
        credentials: &Credentials,
        to: &outgoing::Recipient,
        template: &Filled,
        opaque: &str,
    ) -> Sent {
        let body = match through {
            Endpoint::Messages => templates::request(to, template, opaque),
            Endpoint::MarketingMessages => templates::marketing_request(to, template, opaque),
        };
        self.0.send_through(through, number, credentials, &body).await
    }
}

/// How an exchange ended.
enum Exchange {
    /// An answer, whole.
    Answer { http: u16, body: Vec<u8> },
    /// An answer whose body broke off or was too long.
    Cut { http: u16 },
    /// Nothing of the request was sent.
    Unsent { class: Class, why: &'static str },
    /// Some of the request may have been sent, and there is no answer.
    Silence { why: &'static str },
}

impl Graph {
    /// A client.
    ///
    /// # Errors
    /// [`SettingsError`] if the settings name no place for tokens, or TLS cannot be set up.
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let base =
            Url::parse(&settings.base_url).ok().filter(|it| is_allowed(it, settings.allow_loopback)).ok_or(SettingsError::BaseUrl)?;
        if !is_version(&settings.version) {
            return Err(SettingsError::Version);
        }
        let client = Client::builder()
            .tls_backend_preconfigured(tls().map_err(SettingsError::Tls)?)
            .connect_timeout(settings.connect_timeout)
            .pool_idle_timeout(settings.idle_timeout)
            // What is redirected, sent through a proxy, or repeated behind our back goes where we did not look.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .retry(reqwest::retry::never())
            .user_agent("whatsapp-channel")
            .build()
            .map_err(SettingsError::Client)?;
        let root = format!("{}/{}", base.as_str().trim_end_matches('/'), settings.version);
        let Settings { timeout, mark_read_timeout, file_timeout, chunk_timeout, allow_loopback, .. } = *settings;
        Ok(Self { client, root, timeout, mark_read_timeout, file_timeout, chunk_timeout, allow_loopback })
    }

    /// Sends the message of `body` (see [`outgoing::request`]) from `number`.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/send-messages>
    pub async fn send(&self, number: &NumberId, credentials: &Credentials, body: &Value) -> Sent {
        self.send_through(Endpoint::Messages, number, credentials, body).await
    }

    async fn send_through(&self, through: Endpoint, number: &NumberId, credentials: &Credentials, body: &Value) -> Sent {
        match self.post(through, number, credentials, body, self.timeout).await {
            Exchange::Answer { http, body } => judged(http, &body, credentials),
            Exchange::Cut { http } => match by_http_status_only(http) {
                Class::Unknown => Sent::Unknown { why: "Meta's answer broke off" },
                class => Sent::Refused { class, fault: without_explanation(http), http },
            },
            Exchange::Unsent { class, why } => Sent::Refused { class, fault: unanswered(why), http: 0 },
            Exchange::Silence { why } => Sent::Unknown { why },
        }
    }

    /// Marks a customer's message, and all before it, as read, and with `typing` shows that an answer is being written. Saying it twice
    /// does no harm.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/typing-indicators>
    ///
    /// # Errors
    /// The class of what went wrong; [`Class::Unknown`] if there is no answer.
    pub async fn mark_read(&self, number: &NumberId, credentials: &Credentials, wamid: &Wamid, typing: bool) -> Result<(), Class> {
        match self.post(Endpoint::Messages, number, credentials, &outgoing::read(wamid, typing), self.mark_read_timeout).await {
            Exchange::Answer { http, body } => match GraphError::parse(&body) {
                None if (200..300).contains(&http) => Ok(()),
                error => Err(classify(http, error.as_ref())),
            },
            Exchange::Cut { http } => Err(by_http_status_only(http)),
            Exchange::Unsent { class, .. } => Err(class),
            Exchange::Silence { .. } => Err(Class::Unknown),
        }
    }

    async fn post(&self, through: Endpoint, number: &NumberId, credentials: &Credentials, body: &Value, timeout: Duration) -> Exchange {
        let request = self.client.post(format!("{}/{number}/{}", self.root, through.name()));
        let request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        exchange(request.timeout(timeout), credentials, ANSWER_LIMIT).await
    }

    /// A page of an account's templates: the first, or the one after the cursor `after`, which [`Page`] named.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/template-management>
    ///
    /// # Errors
    /// [`Unread`].
    pub async fn templates(&self, waba: &WabaId, credentials: &Credentials, after: Option<&str>) -> Result<Page, Unread> {
        let listed = self.templates_with(waba, credentials, TEMPLATE_FIELDS_AND_SOURCE, after).await;
        match listed {
            // Where no template can be made without a person, the field may not be there: one that is not there fails the whole list.
            Err(unread) if unread.is_of_source() => self.templates_with(waba, credentials, TEMPLATE_FIELDS, after).await,
            other => other,
        }
    }

    async fn templates_with(&self, waba: &WabaId, credentials: &Credentials, fields: &str, after: Option<&str>) -> Result<Page, Unread> {
        let mut query = vec![("fields", fields), ("limit", "100")];
        query.extend(after.map(|it| ("after", it)));
        self.get(&format!("{waba}/message_templates"), &query, credentials, templates::page).await
    }

    /// How a number stands.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/phone-numbers>
    ///
    /// # Errors
    /// [`Unread`].
    pub async fn number(&self, number: &NumberId, credentials: &Credentials) -> Result<NumberState, Unread> {
        self.get(number.as_str(), &[("fields", NUMBER_FIELDS)], credentials, numbers::state).await
    }

    /// What the token of these credentials opens. The one call in which a token stands in an address: Meta takes it nowhere else.
    ///
    /// <https://developers.facebook.com/docs/graph-api/reference/debug_token>
    ///
    /// # Errors
    /// [`Unread`].
    pub async fn token(&self, credentials: &Credentials) -> Result<TokenState, Unread> {
        self.get("debug_token", &[("input_token", &credentials.token)], credentials, account::token).await
    }

    /// Is the app's secret what these credentials say it is?
    ///
    /// <https://developers.facebook.com/docs/graph-api/reference/application>
    ///
    /// # Errors
    /// [`Unread`]; a wrong secret is of [`Class::Credentials`].
    pub async fn app(&self, app: &AppId, credentials: &Credentials) -> Result<(), Unread> {
        self.get(app.as_str(), &[("fields", "id,name")], credentials, account::is_object).await
    }

    /// How an account stands.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/reference/whatsapp-business-account/whatsapp-business-account-api>
    ///
    /// # Errors
    /// [`Unread`].
    pub async fn account(&self, waba: &WabaId, credentials: &Credentials) -> Result<AccountState, Unread> {
        self.get(waba.as_str(), &[("fields", ACCOUNT_FIELDS)], credentials, account::account).await
    }

    /// An account's numbers, up to 10,000.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/phone-numbers>
    ///
    /// # Errors
    /// [`Unread`].
    pub async fn numbers(&self, waba: &WabaId, credentials: &Credentials) -> Result<Vec<NumberRecord>, Unread> {
        let (mut numbers, mut after) = (Vec::new(), None);
        for _ in 0..NUMBER_PAGES {
            let mut query = vec![("fields", LISTED_NUMBER_FIELDS), ("limit", "100")];
            query.extend(after.as_deref().map(|it| ("after", it)));
            let page: Listed<NumberRecord> = self.get(&format!("{waba}/phone_numbers"), &query, credentials, account::numbers).await?;
            numbers.extend(page.items);
            // A cursor that leads to itself ends nowhere.
            if page.after.is_none() || page.after == after {
                break;
            }
            after = page.after;
        }
        Ok(numbers)
    }

    /// The apps that hear of an account.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/reference/whatsapp-business-account/subscribed-apps-api>
    ///
    /// # Errors
    /// [`Unread`].
    pub async fn subscribed_apps(&self, waba: &WabaId, credentials: &Credentials) -> Result<Vec<Subscriber>, Unread> {
        self.get(&format!("{waba}/subscribed_apps"), &[], credentials, account::subscribed).await
    }

    /// Has the token's app hear of an account, at the app's own address. Saying it twice does no harm.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/override>
    ///
    /// # Errors
    /// [`Unread`].
    pub async fn subscribe(&self, waba: &WabaId, credentials: &Credentials) -> Result<(), Unread> {
        let request = self.client.post(format!("{}/{waba}/subscribed_apps", self.root));
        self.ask(request, credentials, account::success).await
    }

    /// Has the token's app hear no more of an account. Saying it twice does no harm.
    ///
    /// # Errors
    /// [`Unread`].
    pub async fn unsubscribe(&self, waba: &WabaId, credentials: &Credentials) -> Result<(), Unread> {
        let request = self.client.delete(format!("{}/{waba}/subscribed_apps", self.root));
        self.ask(request, credentials, account::success).await
    }

    /// Where an app hears of accounts, if anywhere; by the app's own credentials.
    ///
    /// <https://developers.facebook.com/docs/graph-api/reference/application/subscriptions>
    ///
    /// # Errors
    /// [`Unread`].
    pub async fn subscription(&self, app: &AppId, credentials: &Credentials) -> Result<Option<Subscription>, Unread> {
        self.get(&format!("{app}/subscriptions"), &[], credentials, account::subscription).await
    }

    /// Has an app hear of accounts at `callback`, of all [`FIELDS`]. Meta calls it before it answers, with `verify_token`.
    ///
    /// # Errors
    /// [`Unread`].
    pub async fn point(&self, app: &AppId, credentials: &Credentials, callback: &str, verify_token: &str) -> Result<(), Unread> {
        let body = serde_json::json!({
            "object": "whatsapp_business_account", "callback_url": callback, "verify_token": verify_token, "fields": FIELDS.join(","),
        });
        self.tell(&format!("{app}/subscriptions"), &body, credentials).await
    }

    /// Has Meta send the code that proves who owns a number, by `SMS` or `VOICE`, in a language such as `es`.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/phone-numbers>
    ///
    /// # Errors
    /// [`Unread`].
    pub async fn request_code(&self, number: &NumberId, credentials: &Credentials, method: &str, language: &str) -> Result<(), Unread> {
        let body = serde_json::json!({ "code_method": method, "language": language });
        self.tell(&format!("{number}/request_code"), &body, credentials).await
    }

    /// Shows Meta the code that it sent.
    ///
    /// # Errors
    /// [`Unread`].
    pub async fn verify_code(&self, number: &NumberId, credentials: &Credentials, code: &str) -> Result<(), Unread> {
        self.tell(&format!("{number}/verify_code"), &serde_json::json!({ "code": code }), credentials).await
    }

    /// Registers a number for the Cloud API with its two-step PIN, which is set if it had none. Ten times in 72 hours at most, with
    /// [`Self::deregister`].
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/registration>
    ///
    /// # Errors
    /// [`Unread`].
    pub async fn register(&self, number: &NumberId, credentials: &Credentials, pin: &str) -> Result<(), Unread> {
        let body = serde_json::json!({ "messaging_product": "whatsapp", "pin": pin });
        self.tell(&format!("{number}/register"), &body, credentials).await
    }

    /// Takes a number from the Cloud API.
    ///
    /// # Errors
    /// [`Unread`].
    pub async fn deregister(&self, number: &NumberId, credentials: &Credentials) -> Result<(), Unread> {
        self.ask(self.client.post(format!("{}/{number}/deregister", self.root)), credentials, account::success).await
    }

    /// The access token for a code of Embedded Signup, which is good for 30 seconds and once.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/embedded-signup/overview>
    ///
    /// # Errors
    /// [`Unread`].
    pub async fn exchange(&self, app: &AppId, secret: &str, code: &str) -> Result<String, Unread> {
        let credentials = Credentials::of_app(app, secret);
        let fields = [("client_id", app.as_str()), ("client_secret", secret), ("code", code), ("grant_type", "authorization_code")];
        let request = self.client.post(format!("{}/oauth/access_token", self.root));
        // A form is written as a query is.
        let body = Url::parse_with_params(META, fields).ok().and_then(|it| it.query().map(str::to_owned)).unwrap_or_default();
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
        self.ask(request, &credentials, account::exchanged).await
    }

    /// One try to read what is there; `understand` answers nothing for what is something else.
    async fn get<T>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        credentials: &Credentials,
        understand: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, Unread> {
        self.ask(self.client.get(format!("{}/{path}", self.root)).query(query), credentials, understand).await
    }

    /// One try to have something done.
    async fn tell(&self, path: &str, body: &Value, credentials: &Credentials) -> Result<(), Unread> {
        let request = self.client.post(format!("{}/{path}", self.root));
        let request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        self.ask(request, credentials, account::success).await
    }

    async fn ask<T>(
        &self,
        request: RequestBuilder,
        credentials: &Credentials,
        understand: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, Unread> {
        self.ask_within(self.timeout, request, credentials, understand).await
    }

    async fn ask_within<T>(
        &self,
        timeout: Duration,
        request: RequestBuilder,
        credentials: &Credentials,
        understand: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, Unread> {
        let request = request.timeout(timeout);
        let silent = |why: &str, class| Unread { class, fault: unanswered(why), http: 0 };
        match exchange(request, credentials, READ_LIMIT).await {
            Exchange::Answer { http, body } => {
                let error = GraphError::parse_hiding(&body, &credentials.secrets());
                if error.is_none() && (200..300).contains(&http) {
                    let trouble = || Unread { class: Class::Unknown, fault: without_explanation(http), http };
                    return understand(&body).ok_or_else(trouble);
                }
                let class = classify(http, error.as_ref());
                Err(Unread { class, fault: error.map_or_else(|| without_explanation(http), |it| it.fault), http })
            }
            Exchange::Cut { http } => Err(Unread { class: by_http_status_only(http), fault: without_explanation(http), http }),
            Exchange::Unsent { class, why } => Err(silent(why, class)),
            Exchange::Silence { why } => Err(silent(why, Class::Unknown)),
        }
    }
}

/// Sends a request with what opens the Graph API, and reads the answer, if it is no longer than `limit` bytes.
async fn exchange(request: RequestBuilder, credentials: &Credentials, limit: usize) -> Exchange {
    let Some(authorization) = authorization(credentials) else {
        return Exchange::Unsent { class: Class::Credentials, why: "the access token holds characters that no token has" };
    };
    let secret = credentials.app_secret.as_ref();
    let proof = secret.map(|it| ("appsecret_proof", appsecret_proof(it.as_bytes(), &credentials.token)));
    match request.header(AUTHORIZATION, authorization).query(proof.as_slice()).send().await {
        Ok(response) => read(response, limit).await,
        // The error itself holds the address with its query: it goes no further.
        Err(error) if error.is_builder() => Exchange::Unsent { class: Class::Permanent, why: "the request could not be made" },
        Err(error) if error.is_connect() => Exchange::Unsent { class: Class::NotSent, why: "no connection to Meta" },
        Err(error) if error.is_timeout() => Exchange::Silence { why: "Meta did not answer in time" },
        Err(_) => Exchange::Silence { why: "the connection to Meta broke off" },
    }
}

/// What the token is shown with; none if it holds characters that no token has.
fn authorization(credentials: &Credentials) -> Option<HeaderValue> {
    let mut authorization = HeaderValue::try_from(format!("Bearer {}", credentials.token)).ok()?;
    authorization.set_sensitive(true);
    Some(authorization)
}

/// Reads an answer, as far as we read answers.
async fn read(mut response: reqwest::Response, limit: usize) -> Exchange {
    let http = response.status().as_u16();
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= limit => body.extend_from_slice(&chunk),
            Ok(None) => return Exchange::Answer { http, body },
            Ok(Some(_)) | Err(_) => return Exchange::Cut { http },
        }
    }
}

/// Our words for what has none of Meta's.
fn unanswered(why: &str) -> Fault {
    Fault { code: UNKNOWN_CODE, title: Some(why.to_owned()), details: None }
}

/// What an answer to a send says, without what opens the Graph API.
fn judged(http: u16, body: &[u8], credentials: &Credentials) -> Sent {
    let error = GraphError::parse_hiding(body, &credentials.secrets());
    if error.is_none() && (200..300).contains(&http) {
        return accepted(body).unwrap_or(Sent::Unknown { why: "Meta's answer names no message" });
    }
    match classify(http, error.as_ref()) {
        Class::Unknown => Sent::Unknown { why: "Meta had trouble with the request" },
        class => Sent::Refused { class, fault: error.map_or_else(|| without_explanation(http), |it| it.fault), http },
    }
}

fn accepted(body: &[u8]) -> Option<Sent> {
    let body = String::from_utf8_lossy(body);
    let answer = Object::parse(&body)?;
    let message = answer.elements("messages").into_iter().find_map(Object::read)?;
    let wamid = Wamid::parse(message.words("id")?).ok()?;
    let held = message.text("message_status").is_some_and(|it| matches!(it.as_ref(), "held_for_quality_assessment" | "paused"));
    let contact = answer.elements("contacts").into_iter().find_map(Object::read).unwrap_or_default();
    let phone = contact.text("wa_id").and_then(|it| Phone::parse(&it).ok());
    let bsuid = contact.text("user_id").and_then(|it| Bsuid::parse(&it).ok());
    Some(Sent::Accepted { wamid, customer: Customer::known_by(phone, bsuid), held })
}

/// What follows from a status whose explanation is lost. A 4xx was not sent, but whether it may be repeated stood in what is lost: it may.
fn by_http_status_only(http: u16) -> Class {
    match fault::classify(http, None) {
        Class::Permanent => Class::NotSent,
        class => class,
    }
}

/// May tokens go there?
fn is_allowed(url: &Url, allow_loopback: bool) -> bool {
    let host = url.host_str().unwrap_or_default();
    let is_metas = url.scheme() == "https" && (host == "facebook.com" || host.ends_with(".facebook.com"));
    let is_plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    is_plain && (is_metas || (allow_loopback && is_loopback(url)))
}

/// Is it on this machine?
fn is_loopback(url: &Url) -> bool {
    matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]")) && matches!(url.scheme(), "http" | "https")
}

fn is_version(text: &str) -> bool {
    let is_number = |it: &str| (1..=3).contains(&it.len()) && it.bytes().all(|it| it.is_ascii_digit());
    text.strip_prefix('v').and_then(|it| it.split_once('.')).is_some_and(|(major, minor)| is_number(major) && is_number(minor))
}

/// TLS with ring and Mozilla's roots: neither a provider nor a certificate store of the machine is needed.
pub fn tls() -> Result<rustls::ClientConfig, rustls::Error> {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::fixtures::{ANSWERS, named};

    /// A server for one connection: gives the request that it read, and answers with these bytes, after which it hangs up.
    pub(super) struct Server {
        pub(super) base_url: String,
        requests: Receiver<String>,
    }

    impl Server {
        #[expect(clippy::disallowed_methods, reason = "a server that outlives its test harms nobody")]
        pub(super) fn answering(answer: Vec<u8>) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let base_url = format!("http://{}", listener.local_addr().expect("an address"));
            let (told, requests) = channel();
            std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("a connection");
                told.send(read_request(&mut stream)).expect("the test listens");
                // The client may have had enough.
                let _ = stream.write_all(&answer);
            });
            Self { base_url, requests }
        }

        pub(super) fn with(http: &str, body: &str) -> Self {
            Self::answering(format!("HTTP/1.1 {http}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes())
        }

        pub(super) fn request(&self) -> String {
            self.requests.recv().expect("a request came")
        }
    }

    pub(super) fn read_request(stream: &mut TcpStream) -> String {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            reader.read_line(&mut head).expect("a head");
        }
        let length = head.lines().find_map(|it| it.strip_prefix("content-length: ")).and_then(|it| it.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a body");
        head + &String::from_utf8(body).expect("text")
    }

    pub(super) fn graph(base_url: &str) -> Graph {
        let settings = Settings { base_url: base_url.to_owned(), allow_loopback: true, ..Settings::meta("v25.0") };
        Graph::new(&settings).expect("settings")
    }

    pub(super) fn number() -> NumberId {
        NumberId::parse("700800900100200").expect("an id")
    }

    pub(super) fn credentials() -> Credentials {
        Credentials::new("a-token", Some("an-app-secret".to_owned()))
    }

    async fn send(base_url: &str) -> Sent {
        graph(base_url).send(&number(), &credentials(), &serde_json::json!({ "type": "text" })).await
    }

    async fn answered(http: &str, body: &str) -> Sent {
        send(&Server::with(http, body).base_url).await
    }

    fn customer(phone: Option<&str>, bsuid: Option<&str>) -> Option<Customer> {
        Customer::known_by(phone.and_then(|it| Phone::parse(it).ok()), bsuid.and_then(|it| Bsuid::parse(it).ok()))
    }

    #[tokio::test]
    async fn an_accepted_message_and_the_request_that_made_it() {
        let server = Server::with("200 OK", named(ANSWERS, "sent"));
        let sent = send(&server.base_url).await;
        let wamid = Wamid::parse("wamid.HBgNNTIxNTUxMjM0NTY3OBUCABIYFsentAA==").expect("an id");
        assert_eq!(sent, Sent::Accepted { wamid, customer: customer(Some("5215512345678"), None), held: false });

        let request = server.request();
        let proof = appsecret_proof(b"an-app-secret", "a-token");
        assert!(request.starts_with(&format!("POST /v25.0/700800900100200/messages?appsecret_proof={proof} HTTP/1.1\r\n")), "{request}");
        assert!(request.contains("authorization: Bearer a-token\r\n"), "{request}");
        assert!(request.contains("content-type: application/json\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\n{\"type\":\"text\"}"), "{request}");
    }

    #[tokio::test]
    async fn without_the_secret_there_is_no_proof() {
        let server = Server::with("200 OK", named(ANSWERS, "sent"));
        let credentials = Credentials::new("a-token", Some(String::new()));
        graph(&server.base_url).send(&number(), &credentials, &Value::Null).await;
        assert!(server.request().starts_with("POST /v25.0/700800900100200/messages HTTP/1.1\r\n"));
    }

    #[tokio::test]
    async fn the_recipient_as_meta_names_them() {
        let Sent::Accepted { customer: told, held, .. } = answered("200 OK", named(ANSWERS, "sent_to_user_id")).await else {
            panic!("accepted")
        };
        assert_eq!((told, held), (customer(None, Some("MX.9007199254740993")), false));
        let held = |sent| matches!(sent, Sent::Accepted { held: true, .. });
        assert!(held(answered("200 OK", named(ANSWERS, "sent_template_held")).await));
        assert!(!held(answered("200 OK", named(ANSWERS, "sent_template")).await));
    }

    #[tokio::test]
    async fn refusals_by_their_codes() {
        let cases = [
            ("400 Bad Request", "error_pair", Class::Pair, 131_056),
            ("400 Bad Request", "error_window", Class::Window, 131_047),
            ("400 Bad Request", "error_throughput", Class::NotSent, 130_429),
            ("401 Unauthorized", "error_token_expired", Class::Credentials, 190),
            ("400 Bad Request", "error_number_unknown", Class::Number, 100),
            ("400 Bad Request", "error_parameter", Class::Permanent, 131_009),
            ("404 Not Found", "error_template_missing", Class::TemplateMissing, 132_001),
            ("403 Forbidden", "error_data_is_text", Class::Account, 131_031),
            // An error is an error whatever the status says.
            ("200 OK", "error_window", Class::Window, 131_047),
            ("500 Internal Server Error", "error_pair", Class::Pair, 131_056),
        ];
        for (http, name, expected, code) in cases {
            let Sent::Refused { class, fault, http: status } = answered(http, named(ANSWERS, name)).await else {
                panic!("{name} is a refusal")
            };
            assert_eq!((class, fault.code), (expected, code), "{name}");
            assert!(http.starts_with(&status.to_string()), "{name}");
        }
    }

    #[tokio::test]
    async fn no_fault_repeats_a_token_or_a_secret() {
        let foreign = "EAAGm0PX4ZCpsBAOtherTokenOfSomebody9ZD";
        let message = format!("Malformed access token a-token, an-app-secret or {foreign}; EAA is a prefix. {} a-token", "x".repeat(220));
        let error = serde_json::json!({ "error": { "message": message, "code": 190, "error_data": { "details": message } } });
        let Sent::Refused { fault, .. } = answered("401 Unauthorized", &error.to_string()).await else { panic!("refused") };
        let expected = format!("Malformed access token …, … or …; EAA is a prefix. {} …", "x".repeat(220));
        assert_eq!((fault.title, fault.details), (Some(expected.clone()), Some(expected)));
        let Sent::Refused { fault, .. } = answered("401 Unauthorized", "{\"error\":\"Malformed access token a-token\"}").await else {
            panic!("refused")
        };
        assert_eq!(fault.title.as_deref(), Some("Malformed access token …"));
    }

    #[tokio::test]
    async fn what_may_have_been_sent_is_unknown() {
        let is_unknown = |sent| matches!(sent, Sent::Unknown { .. });
        assert!(is_unknown(answered("503 Service Unavailable", named(ANSWERS, "error_unavailable")).await));
        assert!(is_unknown(answered("502 Bad Gateway", "<html>Bad Gateway</html>").await));
        assert!(is_unknown(answered("500 Internal Server Error", "").await));
        assert!(is_unknown(answered("200 OK", "<html>fine</html>").await));
        assert!(is_unknown(answered("200 OK", "{\"messages\":[{}]}").await));
        assert!(is_unknown(answered("200 OK", "{\"messages\":[{\"id\":\"\"}]}").await));
        let endless = format!("{}{}", named(ANSWERS, "sent"), " ".repeat(ANSWER_LIMIT));
        assert!(is_unknown(answered("200 OK", &endless).await));
        assert!(is_unknown(send(&Server::answering(Vec::new()).base_url).await), "cut after the request");
        assert!(is_unknown(send(&Server::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{".to_vec()).base_url).await));
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a server that outlives its test harms nobody")]
    async fn a_list_whose_cursor_leads_to_itself_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let base_url = format!("http://{}", listener.local_addr().expect("an address"));
        std::thread::spawn(move || {
            for id in 1..9 {
                let (mut stream, _) = listener.accept().expect("a connection");
                read_request(&mut stream);
                let body = format!(
                    r#"{{"data":[{{"id":"{id}"}}],"paging":{{"cursors":{{"after":"here"}},"next":"https://graph.facebook.com/"}}}}"#
                );
                let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).expect("it is read");
            }
        });
        let numbers = graph(&base_url).numbers(&WabaId::parse("1").expect("an id"), &credentials()).await.expect("it is listed");
        assert_eq!(numbers.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["1", "2"]);
    }

    #[tokio::test]
    async fn no_answer_in_time_is_unknown() {
        // It takes the connection into its backlog and never speaks.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let base_url = format!("http://{}", listener.local_addr().expect("an address"));
        let settings = Settings { base_url, timeout: Duration::from_millis(50), allow_loopback: true, ..Settings::meta("v25.0") };
        let sent = Graph::new(&settings).expect("settings").send(&number(), &credentials(), &Value::Null).await;
        assert_eq!(sent, Sent::Unknown { why: "Meta did not answer in time" });
    }

    #[tokio::test]
    async fn a_mark_as_read_has_its_own_time() {
        let wamid = Wamid::parse("wamid.1").expect("an id");
        let server = Server::with("200 OK", named(ANSWERS, "success"));
        let none = Settings { base_url: server.base_url.clone(), allow_loopback: true, timeout: Duration::ZERO, ..Settings::meta("v25.0") };
        let graph = Graph::new(&none).expect("settings");
        assert_eq!(graph.mark_read(&number(), &credentials(), &wamid, false).await, Ok(()));
        let none = Settings { timeout: SEND_TIMEOUT, mark_read_timeout: Duration::ZERO, ..none };
        let graph = Graph::new(&none).expect("settings");
        assert!(graph.mark_read(&number(), &credentials(), &wamid, false).await.is_err());
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "the server is joined")]
    async fn what_never_left_us_is_not_sent() {
        let is_not_sent = |sent| matches!(sent, Sent::Refused { class: Class::NotSent, http: 0, .. });
        let closed = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
        assert!(is_not_sent(send(&format!("http://{closed}")).await), "nobody listens");

        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let handshake = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("the client reads");
        });
        assert!(is_not_sent(send(&format!("https://{address}")).await), "no TLS there");
        handshake.join().expect("the server ends");
    }

    #[tokio::test]
    async fn a_refusal_whose_explanation_is_lost_may_be_tried_again() {
        let cut = |head: &str| Server::answering(format!("HTTP/1.1 {head}\r\ncontent-length: 99\r\n\r\n{{").into_bytes());
        let Sent::Refused { class, http, .. } = send(&cut("400 Bad Request").base_url).await else { panic!("refused") };
        assert_eq!((class, http), (Class::NotSent, 400));
        let Sent::Refused { class, .. } = send(&cut("401 Unauthorized").base_url).await else { panic!("refused") };
        assert_eq!(class, Class::Credentials);
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let target = TcpListener::bind("127.0.0.1:0").expect("a free port");
        target.set_nonblocking(true).expect("a listener");
        let location = target.local_addr().expect("an address");
        let answer = format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: http://{location}/\r\ncontent-length: 0\r\n\r\n");
        let sent = send(&Server::answering(answer.into_bytes()).base_url).await;
        assert_eq!(sent, Sent::Unknown { why: "Meta had trouble with the request" });
        assert!(target.accept().is_err(), "nobody came");
    }

    #[tokio::test]
    async fn a_token_that_is_no_token_goes_nowhere() {
        let graph = graph("http://127.0.0.1:9");
        let sent = graph.send(&number(), &Credentials::new("a\ntoken", None), &Value::Null).await;
        assert!(matches!(sent, Sent::Refused { class: Class::Credentials, http: 0, .. }), "{sent:?}");
    }

    #[tokio::test]
    async fn reading_is_marked() {
        let wamid = Wamid::parse("wamid.1").expect("an id");
        let server = Server::with("200 OK", named(ANSWERS, "success"));
        assert_eq!(graph(&server.base_url).mark_read(&number(), &credentials(), &wamid, true).await, Ok(()));
        let request = server.request();
        assert!(request.contains("\"status\":\"read\"") && request.contains("typing_indicator"), "{request}");

        let server = Server::with("401 Unauthorized", named(ANSWERS, "error_token_expired"));
        assert_eq!(graph(&server.base_url).mark_read(&number(), &credentials(), &wamid, false).await, Err(Class::Credentials));
        let server = Server::answering(Vec::new());
        assert_eq!(graph(&server.base_url).mark_read(&number(), &credentials(), &wamid, false).await, Err(Class::Unknown));
    }

    async fn page(server: &Server, after: Option<&str>) -> Result<Page, Unread> {
        let waba = WabaId::parse("200300400500600").expect("an id");
        graph(&server.base_url).templates(&waba, &credentials(), after).await
    }

    #[tokio::test]
    async fn a_list_is_read_by_its_cursor_and_never_by_metas_link() {
        let body = serde_json::json!({ "data": [{ "id": "8", "name": "visit_reminder", "language": "en_US", "status": "APPROVED",
                "category": "UTILITY", "components": [] }, { "id": "9" }],
            "paging": { "cursors": { "after": "QVFI/+=&x" }, "next": "https://graph.facebook.com/?access_token=a-token" } });
        let server = Server::with("200 OK", &body.to_string());
        let page = page(&server, Some("QV&fields=name")).await.expect("a page");
        assert_eq!((page.templates.len(), page.skipped, page.after.as_deref()), (1, 1, Some("QVFI/+=&x")));
        assert!(!format!("{page:?}").contains("a-token"));

        let request = server.request();
        let proof = appsecret_proof(b"an-app-secret", "a-token");
        assert!(request.starts_with("GET /v25.0/200300400500600/message_templates?fields=id%2Cname%2C"), "{request}");
        assert!(
            request.contains(&format!("%2Csource&limit=100&after=QV%26fields%3Dname&appsecret_proof={proof} HTTP/1.1\r\n")),
            "{request}"
        );
        assert!(request.contains("authorization: Bearer a-token\r\n"), "{request}");
    }

    #[tokio::test]
    async fn what_cannot_be_read_says_why() {
        let large = format!("{{\"data\":[]}}{}", " ".repeat(READ_LIMIT));
        let cases = [
            ("400 Bad Request", r#"{"error":{"code":80007,"message":"too many calls"}}"#, Class::NotSent, 80_007),
            ("401 Unauthorized", named(ANSWERS, "error_token_expired"), Class::Credentials, 190),
            ("400 Bad Request", r#"{"error":{"code":131059,"message":"expired"}}"#, Class::Permanent, 131_059),
            ("503 Service Unavailable", "<html>", Class::Unknown, UNKNOWN_CODE),
            ("200 OK", "{}", Class::Unknown, UNKNOWN_CODE),
            ("200 OK", large.as_str(), Class::Unknown, UNKNOWN_CODE),
        ];
        for (http, body, class, code) in cases {
            let unread = page(&Server::with(http, body), None).await.expect_err("no page");
            assert_eq!((unread.class, unread.fault.code), (class, code), "{http} {}", &body[..body.len().min(80)]);
            assert!(http.starts_with(&unread.http.to_string()), "{http}");
            assert_eq!(unread.is_of_cursor(), code == 131_059);
        }
        let silent = page(&Server::answering(Vec::new()), None).await.expect_err("no answer");
        assert_eq!((silent.class, silent.http), (Class::Unknown, 0));
        let just_fits = format!("{{\"data\":[]}}{}", " ".repeat(READ_LIMIT - 11));
        assert!(page(&Server::with("200 OK", &just_fits), None).await.is_ok());
    }

    #[tokio::test]
    async fn a_number_is_read() {
        let body = r#"{"id":"700800900100200","status":"CONNECTED","quality_rating":"GREEN","throughput":{"level":"STANDARD"}}"#;
        let server = Server::with("200 OK", body);
        let state = graph(&server.base_url).number(&number(), &credentials()).await.expect("a number");
        assert_eq!((state.status.as_deref(), state.per_second), (Some("CONNECTED"), Some(80)));
        let request = server.request();
        assert!(request.starts_with("GET /v25.0/700800900100200?fields=id%2Cstatus%2Cquality_rating%2Cthroughput&appsecret_"), "{request}");
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "the server is joined")]
    async fn where_a_field_is_not_there_the_list_is_read_without_it() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let base_url = format!("http://{}", listener.local_addr().expect("an address"));
        let server = std::thread::spawn(move || {
            let error = r#"{"error":{"code":100,"message":"(#100) Tried accessing nonexistent field (source)"}}"#;
            for (http, body) in [("400 Bad Request", error), ("200 OK", r#"{"data":[]}"#)] {
                let (mut stream, _) = listener.accept().expect("a connection");
                let asked_for = read_request(&mut stream).contains("source");
                let answer = format!("HTTP/1.1 {http}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).expect("the client reads");
                assert_eq!(asked_for, http != "200 OK");
            }
        });
        let waba = WabaId::parse("200300400500600").expect("an id");
        assert_eq!(graph(&base_url).templates(&waba, &credentials(), None).await, Ok(Page::default()));
        server.join().expect("it was asked so");
    }

    #[test]
    fn tokens_go_to_meta_or_to_this_machine_where_allowed() {
        let is_taken = |base_url: &str, allow_loopback| {
            let settings = Settings { base_url: base_url.to_owned(), allow_loopback, ..Settings::meta("v25.0") };
            Graph::new(&settings).is_ok()
        };
        assert!(is_taken(META, false));
        for url in ["http://127.0.0.1:8090", "http://localhost:8090/", "http://[::1]:8090", "https://127.0.0.1"] {
            assert!(is_taken(url, true), "{url}");
            assert!(!is_taken(url, false), "{url}");
        }
        for url in [
            "http://graph.facebook.com",
            "https://evilfacebook.com",
            "https://graph.facebook.com.example.com",
            "https://graph.facebook.com@example.com",
            "https://user@graph.facebook.com",
            "https://graph.facebook.com/?a=b",
            "http://127.0.0.1.example.com",
            "http://10.0.0.1",
            "ftp://127.0.0.1",
            "graph.facebook.com",
            "",
        ] {
            assert!(!is_taken(url, true), "{url}");
        }
    }

    #[test]
    fn a_version_is_no_path() {
        for version in ["25.0", "v25", "v25.0/..", "v.0", "v25.0?", "", "v25.0000"] {
            assert!(matches!(Graph::new(&Settings::meta(version)), Err(SettingsError::Version)), "{version}");
        }
    }

    #[test]
    fn credentials_are_not_printed() {
        assert_eq!(format!("{:?}", credentials()), "Credentials(…)");
    }
}
