//! Files at Meta: looked up, downloaded, uploaded, piece by piece, so that none lies in memory whole.
//!
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/media>

use std::error::Error;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::ids::NumberId;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Response, Url};
use serde_json::Value;

use super::{Credentials, Graph, Unread, is_on_this_machine};
use crate::fault::Class;

/// The largest file that customers can send, and that can be sent to them, in bytes:
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/media#supported-media-types>.
pub const FILE_LIMIT: u64 = 100 << 20;

/// The hosts that hold customers' files, and the domains of such hosts.
const HOSTS: [&str; 2] = ["graph.facebook.com", "lookaside.fbsbx.com"];
const DOMAINS: [&str; 3] = [".fbsbx.com", ".fbcdn.net", ".whatsapp.net"];

/// Longest wait for a download as a whole.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(45);

/// Longest wait for an upload as a whole, and for Meta's answer to it.
pub const UPLOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// What Meta says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaRecord {
    /// Where it is, for five minutes.
    pub url: String,
    /// MIME type, with its parameters.
    pub mime_type: Option<String>,
    /// Its SHA-256, as Meta writes it.
    pub sha256: Option<String>,
    /// In bytes.
    pub size: Option<u64>,
}

/// Why a file could not be downloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undownloaded {
    /// The address is nobody's whom the token is for: nothing was asked.
    Elsewhere,
    /// The address is too old, or the file is gone: it is to be looked up again.
    NotFound,
    /// Meta does not let us.
    Refused,
    /// It is larger than [`FILE_LIMIT`].
    TooLarge,
    /// Meta had trouble, or the connection did.
    Broken,
}

impl Undownloaded {
    /// A word for logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Elsewhere => "elsewhere",
            Self::NotFound => "not_found",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
            Self::Broken => "broken",
        }
    }
}

/// A file that is being downloaded.
#[derive(Debug)]
pub struct Download {
    response: Response,
    left: u64,
}

impl Download {
    /// The next piece of it; nothing at its end.
    ///
    /// # Errors
    /// [`Undownloaded`].
    pub async fn chunk(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>, Undownloaded> {
        let Some(chunk) = self.response.chunk().await.map_err(|_| Undownloaded::Broken)? else { return Ok(None) };
        self.left = self.left.checked_sub(chunk.len() as u64).ok_or(Undownloaded::TooLarge)?;
        Ok(Some(chunk))
    }
}

/// A file to upload.
pub struct FileToUpload<S> {
    /// The name that Meta is told.
    pub filename: String,
    /// MIME type, as Meta lists it.
    pub mime_type: String,
    /// In bytes.
    pub size: u64,
    /// What is in it.
    pub content: S,
}

impl<S> fmt::Debug for FileToUpload<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileToUpload").field("mime_type", &self.mime_type).field("size", &self.size).finish_non_exhaustive()
    }
}

impl Graph {
    /// Where a customer's file is, and what it is. `number` is the one that it was sent to.
    ///
    /// # Errors
    /// [`Unread`].
    pub async fn media(&self, number: &NumberId, credentials: &Credentials, id: &str) -> Result<MediaRecord, Unread> {
        // What stands in a path has no path in it.
        if id.is_empty() || !id.bytes().all(|it| it.is_ascii_alphanumeric() || b"_-.".contains(&it)) {
            return Err(Unread { class: Class::Permanent, fault: super::unanswered("the file's id is none"), http: 0 });
        }
        self.get(id, &[("phone_number_id", number.as_str())], credentials, record).await
    }

    /// Downloads a file from where [`Self::media`] says it is. The token goes to Meta's hosts only, and nowhere that they redirect to.
    ///
    /// # Errors
    /// [`Undownloaded`].
    pub async fn download(&self, credentials: &Credentials, url: &str) -> Result<Download, Undownloaded> {
        let url = Url::parse(url).ok().filter(|it| self.holds_files(it)).ok_or(Undownloaded::Elsewhere)?;
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", credentials.token)).map_err(|_| Undownloaded::Refused)?;
        authorization.set_sensitive(true);
        let request = self.client.get(url).header(AUTHORIZATION, authorization).timeout(DOWNLOAD_TIMEOUT);
        let response = request.send().await.map_err(|_| Undownloaded::Broken)?;
        match response.status().as_u16() {
            200..=299 if response.content_length().is_some_and(|it| it > FILE_LIMIT) => Err(Undownloaded::TooLarge),
            200..=299 => Ok(Download { response, left: FILE_LIMIT }),
            404 | 410 => Err(Undownloaded::NotFound),
            // What is redirected goes where we did not look.
            300..=399 => Err(Undownloaded::Elsewhere),
            408 | 429 => Err(Undownloaded::Broken),
            400..=499 => Err(Undownloaded::Refused),
            _ => Err(Undownloaded::Broken),
        }
    }

    /// Uploads a file for a number: Meta's id of it, which is good for 30 days and for this number. Doing it twice makes two.
    ///
    /// # Errors
    /// [`Unread`]; [`Class::Unknown`] if there is no answer.
    pub async fn upload<S, E>(&self, number: &NumberId, credentials: &Credentials, file: FileToUpload<S>) -> Result<String, Unread>
    where
        S: futures::Stream<Item = Result<bytes::Bytes, E>> + Send + 'static,
        E: Error + Send + Sync + 'static,
    {
        let part = Part::stream_with_length(Body::wrap_stream(file.content), file.size).file_name(file.filename);
        let part = part.mime_str(&file.mime_type).map_err(|_| {
            let fault = super::unanswered("the file's type is none");
            Unread { class: Class::Permanent, fault, http: 0 }
        })?;
        let form = Form::new().text("messaging_product", "whatsapp").text("type", file.mime_type).part("file", part);
        let request = self.client.post(format!("{}/{number}/media", self.root)).multipart(form);
        self.ask_within(UPLOAD_TIMEOUT, request, credentials, |body| {
            let answer: Value = serde_json::from_slice(body).ok()?;
            answer["id"].as_str().filter(|it| !it.is_empty()).map(str::to_owned)
        })
        .await
    }

    fn holds_files(&self, url: &Url) -> bool {
        if self.allow_loopback && is_on_this_machine(url) {
            return true;
        }
        let host = url.host_str().unwrap_or_default();
        let is_metas = HOSTS.contains(&host) || DOMAINS.iter().any(|it| host.ends_with(it));
        is_metas && url.scheme() == "https" && url.port().is_none() && url.username().is_empty() && url.password().is_none()
    }
}

/// `file_size` comes as text or as a number.
fn record(body: &[u8]) -> Option<MediaRecord> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let text = |name: &str| answer[name].as_str().map(str::to_owned);
    let size = answer["file_size"].as_u64().or_else(|| answer["file_size"].as_str().and_then(|it| it.parse().ok()));
    Some(MediaRecord { url: text("url")?, mime_type: text("mime_type"), sha256: text("sha256"), size })
}

/// Is this hash the one that Meta wrote? It writes hex in some places and base64 in others, and says so in none; what is neither, or absent,
/// says nothing against it.
#[must_use]
pub fn is_hash(hash: &[u8; 32], written: Option<&str>) -> bool {
    let written = written.unwrap_or_default().trim();
    match written.len() {
        64 => hash.iter().map(|it| format!("{it:02x}")).collect::<String>().eq_ignore_ascii_case(written),
        44 => STANDARD.encode(hash) == written,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Settings;

    #[test]
    fn the_token_goes_to_hosts_that_hold_files_only() {
        let holds = |allow_loopback, url: &str| {
            let settings = Settings { allow_loopback, ..Settings::meta("v25.0") };
            Graph::new(&settings).expect("settings").holds_files(&Url::parse(url).expect("an address"))
        };
        for url in [
            "https://lookaside.fbsbx.com/whatsapp_business/attachments/?mid=1",
            "https://graph.facebook.com/v25.0/1",
            "https://scontent.xx.fbcdn.net/1",
            "https://mmg.whatsapp.net/1",
        ] {
            assert!(holds(false, url), "{url}");
        }
        for url in [
            "http://lookaside.fbsbx.com/1",
            "https://lookaside.fbsbx.com:8443/1",
            "https://lookaside.fbsbx.com.example.com/1",
            "https://lookaside.fbsbx.com@example.com/1",
            "https://user@lookaside.fbsbx.com/1",
            "https://evilfbsbx.com/1",
            "https://fbcdn.net.example.com/1",
            "https://example.com/lookaside.fbsbx.com",
            "https://169.254.169.254/latest/meta-data",
            "http://127.0.0.1:8090/1",
            "ftp://lookaside.fbsbx.com/1",
        ] {
            assert!(!holds(false, url), "{url}");
        }
        assert!(holds(true, "http://127.0.0.1:8090/1"));
        assert!(!holds(true, "http://10.0.0.1/1"));
    }

    #[test]
    fn a_hash_is_compared_as_meta_wrote_it() {
        let hash = [0x9f; 32];
        let (hex, base64) = ("9f".repeat(32), STANDARD.encode(hash));
        for written in [Some(hex.as_str()), Some(&hex.to_uppercase()), Some(&base64), Some(""), Some("short"), None] {
            assert!(is_hash(&hash, written), "{written:?}");
        }
        for written in ["9e".repeat(32), STANDARD.encode([0x9e; 32])] {
            assert!(!is_hash(&hash, Some(&written)), "{written}");
        }
    }

    #[test]
    fn a_size_is_text_or_a_number() {
        let size = |it: &str| record(format!(r#"{{"url":"https://lookaside.fbsbx.com/1","file_size":{it}}}"#).as_bytes()).and_then(|it| it.size);
        assert_eq!((size("20481"), size("\"20481\""), size("null")), (Some(20_481), Some(20_481), None));
        assert_eq!(record(b"{}"), None);
    }

    #[tokio::test]
    async fn an_id_that_is_a_path_is_asked_of_nobody() {
        let settings = Settings { base_url: "http://127.0.0.1:9".to_owned(), allow_loopback: true, ..Settings::meta("v25.0") };
        let (graph, number) = (Graph::new(&settings).expect("settings"), NumberId::parse("700800900100200").expect("an id"));
        for id in ["", "1/../2", "1?fields=x", "1#2"] {
            let unread = graph.media(&number, &Credentials::new("a-token", None), id).await.expect_err("no id");
            assert_eq!(unread.class, Class::Permanent, "{id}");
        }
    }
}
