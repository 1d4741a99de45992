//! The one HTTP client for addresses that tenants give: of their agents, of what turns speech into text.
//!
//! No tenant reaches through us what it could not reach by itself: https only, public addresses only, no redirects, no proxy, no cookies.
//! An address is judged when it is read, and a name again whenever a connection is made: what was resolved and judged is what is connected
//! to, so a name that changes its mind gains nothing. No error repeats an address, which may hold a secret in its path or query.

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use domain::internet::is_public;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::multipart::{Form, Part};
use reqwest::{Client, RequestBuilder, Url};
use url::Host;

use crate::redelivery::Retryable;

/// Largest answer that is read, in bytes.
pub const ANSWER_LIMIT: usize = 64 << 10;

/// How long an unused connection is kept. Short: a Lambda's sandbox is frozen between invocations, and the other side hangs up meanwhile.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// An address that a tenant may have us ask: https at port 443 of a public host, without a user. Where loopback is allowed, any port of
/// this machine too, by http as well.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    url: Url,
    is_here: bool,
}

/// Why an address is not one to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It cannot be read as a URL.
    #[error("it is not an address such as https://agent.example/turns")]
    NotUnderstood,
    /// What is sent there could be read on the way.
    #[error("it must begin with https://")]
    NotHttps,
    /// Only the port of https is asked.
    #[error("it must not name a port other than 443")]
    OtherPort,
    /// A name or password before the host: it would stand in the clear wherever the address does.
    #[error("it must not hold a user or a password")]
    HasUser,
    /// It is, or its name leads to, an address that is not public.
    #[error("it does not lead to a public address")]
    Private,
}

impl AddressError {
    /// A stable name: lower case with underscores.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NotUnderstood => "not_an_address",
            Self::NotHttps => "not_https",
            Self::OtherPort => "not_port_443",
            Self::HasUser => "has_user",
            Self::Private => "private_address",
        }
    }
}

impl Address {
    /// Reads an address. Hosts in decimal, octal, hexadecimal or short form are the addresses that they mean:
    /// <https://url.spec.whatwg.org/#concept-ipv4-parser>. A name is only resolved when it is asked.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn parse(text: &str, allow_loopback: bool) -> Result<Self, AddressError> {
        let url = Url::parse(text).map_err(|_| AddressError::NotUnderstood)?;
        let host = url.host().ok_or(AddressError::NotUnderstood)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(AddressError::HasUser);
        }
        let is_here = allow_loopback && is_loopback_host(&host);
        match url.scheme() {
            "https" => {}
            "http" if is_here => {}
            _ => return Err(AddressError::NotHttps),
        }
        let may_be_public = match host {
            Host::Domain(name) => is_public_name(name),
            Host::Ipv4(ip) => is_public(ip.into()),
            Host::Ipv6(ip) => is_public(ip.into()),
        };
        if !is_here && !may_be_public {
            return Err(AddressError::Private);
        }
        if !is_here && url.port().is_some() {
            return Err(AddressError::OtherPort);
        }
        Ok(Self { url, is_here })
    }

    /// The whole of it, normalised: to be kept, or shown to its tenant, and never to be logged.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }
}

/// Prints that there is one.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address(…)")
    }
}

/// Is it this machine? <https://www.rfc-editor.org/rfc/rfc6761#section-6.3>
fn is_loopback_host(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    }
}

/// May this name lead to a public address? A name without a dot is looked for in the networks nearby.
fn is_public_name(name: &str) -> bool {
    name.trim_end_matches('.').contains('.') && !is_loopback_host(&Host::Domain(name))
}

/// How the web of tenants is reached.
#[derive(Debug, Clone)]
pub struct WebSettings {
    /// Takes addresses of this machine, by http and at any port too: for tests and the local stack.
    pub allow_loopback: bool,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
}

/// Why no client can be made.
#[derive(Debug, thiserror::Error)]
pub enum WebSettingsError {
    /// The TLS settings do not hold together.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
}

/// Why the clients of a function that asks Meta and tenants' addresses cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// The Graph API's address or version cannot be.
    #[error("the Graph API cannot be set up")]
    Graph(#[from] meta::graph::SettingsError),
    /// The client for tenants' addresses cannot be.
    #[error("the client for tenants' addresses cannot be set up")]
    Web(#[from] WebSettingsError),
}

/// An answer, whatever its status: what it means is the caller's to say. A redirect is an answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body, [`ANSWER_LIMIT`] bytes at most.
    pub body: Vec<u8>,
}

/// Prints no body: it is what a tenant or a customer wrote.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({}, {} bytes)", self.status, self.body.len())
    }
}

/// Why there is no answer. The request may have been heard all the same, but where it says that nobody was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WebError {
    /// The address is not one to ask; nobody was reached.
    #[error("the address is not one to ask")]
    Address(#[source] AddressError),
    /// A header holds what no header may hold, or a file's type is none; nobody was reached.
    #[error("the request cannot be made")]
    Unsayable,
    /// The name leads nowhere; nobody was reached.
    #[error("the name was not found")]
    NameNotFound,
    /// Nobody takes connections there; nobody was reached.
    #[error("no connection was made")]
    Refused,
    /// The other side's certificate is not good for its name, or it does not speak TLS; nobody was reached.
    #[error("no secure connection was made")]
    Tls,
    /// No connection or no whole answer in time.
    #[error("it took too long")]
    Timeout,
    /// The connection broke off, or what came is not HTTP.
    #[error("the connection broke off")]
    BrokenOff,
    /// The answer is longer than is read.
    #[error("the answer is too long")]
    AnswerTooLong,
}

impl Retryable for WebError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::NameNotFound | Self::Refused | Self::Tls | Self::Timeout | Self::BrokenOff | Self::AnswerTooLong => true,
            // Names are mended; what is written is not.
            Self::Address(error) => *error == AddressError::Private,
            Self::Unsayable => false,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Address(error) => error.code(),
            Self::Unsayable => "unsayable",
            Self::NameNotFound => "name_not_found",
            Self::Refused => "refused",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::BrokenOff => "broken_off",
            Self::AnswerTooLong => "answer_too_long",
        }
    }
}

/// A file in a form.
pub struct FormFile<'a> {
    /// The field that it is in.
    pub field: &'static str,
    /// What it is called.
    pub name: &'a str,
    /// Its type, as `audio/ogg`.
    pub mime_type: &'a str,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// A client for the addresses of tenants. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Web {
    client: Client,
    allow_loopback: bool,
}

impl Web {
    /// A client.
    ///
    /// # Errors
    /// [`WebSettingsError`].
    pub fn new(settings: &WebSettings) -> Result<Self, WebSettingsError> {
        Self::over(settings, Arc::new(System))
    }

    /// A client that asks these for names.
    fn over(settings: &WebSettings, names: Arc<dyn Resolve>) -> Result<Self, WebSettingsError> {
        let allow_loopback = settings.allow_loopback;
        let client = Client::builder()
            .tls_backend_preconfigured(meta::graph::tls().map_err(WebSettingsError::Tls)?)
            .https_only(!allow_loopback)
            .dns_resolver(PublicOnly { names, allow_loopback })
            .connect_timeout(settings.connect_timeout)
            .pool_idle_timeout(IDLE_TIMEOUT)
            // What is redirected, sent through a proxy, or repeated behind our back goes where we did not look.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .retry(reqwest::retry::never())
            .user_agent("whatsapp-channel")
            .build()
            .map_err(WebSettingsError::Client)?;
        Ok(Self { client, allow_loopback })
    }

    /// Reads an address, as [`Address::parse`], for this client.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn address(&self, text: &str) -> Result<Address, AddressError> {
        Address::parse(text, self.allow_loopback)
    }

    /// POSTs JSON. `timeout` is the longest wait for the whole answer, the connection included.
    ///
    /// # Errors
    /// [`WebError`] if there is no answer; one with an error's status is an answer.
    pub async fn post_json(
        &self,
        address: &Address,
        headers: &[(&'static str, &str)],
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<Answer, WebError> {
        let request = self.post(address, headers, timeout)?;
        answered(request.header(CONTENT_TYPE, "application/json").body(body)).await
    }

    /// POSTs a form of fields and one file: <https://www.rfc-editor.org/rfc/rfc7578>.
    ///
    /// # Errors
    /// [`WebError`] if there is no answer; one with an error's status is an answer.
    pub async fn post_form(
        &self,
        address: &Address,
        headers: &[(&'static str, &str)],
        fields: &[(&'static str, &str)],
        file: FormFile<'_>,
        timeout: Duration,
    ) -> Result<Answer, WebError> {
        let part = Part::bytes(file.bytes).file_name(file.name.to_owned()).mime_str(file.mime_type);
        let form = fields.iter().fold(Form::new(), |form, (name, value)| form.text(*name, (*value).to_owned()));
        let form = form.part(file.field, part.map_err(|_| WebError::Unsayable)?);
        answered(self.post(address, headers, timeout)?.multipart(form)).await
    }

    fn post(&self, address: &Address, headers: &[(&'static str, &str)], timeout: Duration) -> Result<RequestBuilder, WebError> {
        if address.is_here && !self.allow_loopback {
            return Err(WebError::Address(AddressError::Private));
        }
        let mut request = self.client.post(address.url.clone()).timeout(timeout);
        for (name, value) in headers {
            let mut value = HeaderValue::try_from(*value).map_err(|_| WebError::Unsayable)?;
            // Keys and signatures go here.
            value.set_sensitive(true);
            request = request.header(*name, value);
        }
        Ok(request)
    }
}

/// Sends a request and reads its answer.
async fn answered(request: RequestBuilder) -> Result<Answer, WebError> {
    let mut response = request.send().await.map_err(|it| understood(&it))?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|it| understood(&it))? {
        if body.len() + chunk.len() > ANSWER_LIMIT {
            return Err(WebError::AnswerTooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status: response.status().as_u16(), body })
}

/// What an error means. The error itself holds the address: it goes no further.
fn understood(error: &reqwest::Error) -> WebError {
    let because_of_tls = || causes(error).any(|it| it.is::<rustls::Error>());
    match causes(error).find_map(|it| it.downcast_ref::<AddressError>()) {
        Some(cause) => WebError::Address(*cause),
        None if error.is_builder() => WebError::Unsayable,
        None if error.is_timeout() => WebError::Timeout,
        None if error.is_dns() => WebError::NameNotFound,
        None if because_of_tls() => WebError::Tls,
        None if error.is_connect() => WebError::Refused,
        None => WebError::BrokenOff,
    }
}

/// An error's causes, those inside of errors of the system included.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |it| match it.downcast_ref::<std::io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static)),
        None => it.source(),
    })
}

/// Resolves names to public addresses. A name with any other among its addresses is refused: which of them is connected to is chance.
struct PublicOnly {
    names: Arc<dyn Resolve>,
    allow_loopback: bool,
}

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let (resolving, allow_loopback) = (self.names.resolve(name), self.allow_loopback);
        Box::pin(async move {
            let found: Vec<SocketAddr> = resolving.await?.collect();
            let may_be_asked = |ip: IpAddr| is_public(ip) || (allow_loopback && ip.is_loopback());
            if found.iter().all(|it| may_be_asked(it.ip())) {
                Ok(Box::new(found.into_iter()) as Addrs)
            } else {
                Err(AddressError::Private.into())
            }
        })
    }
}

/// The machine's own way to resolve names.
struct System;

impl Resolve for System {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // The client puts its own port where there is none.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(Box::new(found.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}
