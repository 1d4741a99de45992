//! Files at Meta: where one lies, its bytes, and ours on their way there. Whole files are never held in memory.
//!
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/media>
//! This file must not know what a file is for, or where it is kept.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use domain::ids::NumberId;
use futures::TryStream;
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Url};

use super::{Credentials, Graph, Unread, authorization, is_loopback, unanswered};
use crate::fault::Class;
use crate::wire::Object;

/// Longest wait for a whole file, in either direction.
pub const FILE_TIMEOUT: Duration = Duration::from_secs(90);

/// Longest wait for the next bytes of a file.
pub const CHUNK_TIMEOUT: Duration = Duration::from_secs(15);

/// Largest file that is read, in bytes: Meta's 100 MB and a little, since it does not say which megabytes are meant.
pub const DOWNLOAD_LIMIT: u64 = 101 << 20;

/// The SHA-256 of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHash([u8; 32]);

impl FileHash {
    /// Of a file that was hashed here.
    #[must_use]
    pub fn new(sha256: [u8; 32]) -> Self {
        Self(sha256)
    }

    /// As Meta writes it: webhooks have base64, the answers of the Graph API hex, and no page says which. The length tells.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_end_matches('=');
        let bytes = match text.len() {
            64 => (0..64).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect::<Option<Vec<u8>>>()?,
            43 => STANDARD_NO_PAD.decode(text).ok()?,
            _ => return None,
        };
        bytes.try_into().ok().map(Self)
    }
}

/// In hex.
impl fmt::Display for FileHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|it| write!(f, "{it:02x}"))
    }
}

/// What Meta knows of a file. Its address opens the file for five minutes to whoever holds the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaRecord {
    /// Where its bytes are.
    pub url: String,
    /// MIME type.
    pub mime_type: Option<String>,
    /// The hash of its bytes.
    pub sha256: Option<FileHash>,
    /// In bytes.
    pub size: Option<u64>,
}

/// Why a file, or the rest of it, did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DownloadError {
    /// It is none of Meta's addresses: no token goes there.
    #[error("the file's address is none of Meta's")]
    Address,
    /// Addresses live for five minutes: look the file up again.
    #[error("the file's address is not good any more")]
    Gone,
    /// The token does not open it.
    #[error("the access token does not open the file")]
    Credentials,
    /// Another refusal, a redirection among them; the same will be answered again.
    #[error("Meta refused to give the file with status {http}")]
    Refused {
        /// The HTTP status.
        http: u16,
    },
    /// Silence, a cut connection, or trouble at Meta: again.
    #[error("the file did not come whole: {why}")]
    Trouble {
        /// What happened, for logs.
        why: &'static str,
    },
    /// More than [`DOWNLOAD_LIMIT`].
    #[error("the file is larger than {DOWNLOAD_LIMIT} bytes")]
    TooLarge,
}

/// A file on its way to us.
#[derive(Debug)]
pub struct Download {
    response: reqwest::Response,
    chunk_timeout: Duration,
    read: u64,
}

impl Download {
    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// [`DownloadError::Trouble`] or [`DownloadError::TooLarge`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, DownloadError> {
        let trouble = |why| DownloadError::Trouble { why };
        let chunk = match tokio::time::timeout(self.chunk_timeout, self.response.chunk()).await {
            Ok(Ok(chunk)) => chunk,
            Ok(Err(error)) if error.is_timeout() => return Err(trouble("it took too long")),
            Ok(Err(_)) => return Err(trouble("the connection to Meta broke off")),
            Err(_) => return Err(trouble("Meta fell silent")),
        };
        self.read += chunk.as_ref().map_or(0, |it| it.len() as u64);
        if self.read > DOWNLOAD_LIMIT { Err(DownloadError::TooLarge) } else { Ok(chunk) }
    }
}

impl Graph {
    /// Where a file is that was sent to `number` or uploaded for it.
    ///
    /// # Errors
    /// [`Unread`].
    pub async fn media(&self, number: &NumberId, credentials: &Credentials, media_id: &str) -> Result<MediaRecord, Unread> {
        if !is_media_id(media_id) {
            return Err(Unread { class: Class::Permanent, fault: unanswered("a media id has other characters"), http: 0 });
        }
        self.get(media_id, &[("phone_number_id", number.as_str())], credentials, record).await
    }

    /// Opens the file at `url`, an address that [`Self::media`] or a webhook named.
    ///
    /// # Errors
    /// [`DownloadError`].
    pub async fn download(&self, credentials: &Credentials, url: &str) -> Result<Download, DownloadError> {
        let url = Url::parse(url).ok().filter(|it| is_of_file(it, self.allow_loopback)).ok_or(DownloadError::Address)?;
        let authorization = authorization(credentials).ok_or(DownloadError::Credentials)?;
        // The address is signed as it is: nothing is added to it.
        let request = self.client.get(url).header(reqwest::header::AUTHORIZATION, authorization).timeout(self.file_timeout);
        let trouble = |why| DownloadError::Trouble { why };
        // The error itself holds the address: it goes no further.
        let response = match tokio::time::timeout(self.timeout, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.is_connect() => return Err(trouble("no connection to Meta")),
            Ok(Err(_)) => return Err(trouble("the connection to Meta broke off")),
            Err(_) => return Err(trouble("Meta did not answer in time")),
        };
        match response.status().as_u16() {
            200 if response.content_length().is_some_and(|it| it > DOWNLOAD_LIMIT) => Err(DownloadError::TooLarge),
            200 => Ok(Download { response, chunk_timeout: self.chunk_timeout, read: 0 }),
            404 | 410 => Err(DownloadError::Gone),
            401 | 403 => Err(DownloadError::Credentials),
            408 | 429 | 500.. => Err(trouble("Meta had trouble with the request")),
            http => Err(DownloadError::Refused { http }),
        }
    }

    /// Takes a file of `size` bytes to Meta, for sends from `number` within 30 days; Meta's id of it. A file that is taken there twice
    /// has two ids, and nobody sees any of it.
    ///
    /// # Errors
    /// [`Unread`].
    pub async fn upload<S>(&self, number: &NumberId, credentials: &Credentials, file: &NewFile<'_>, bytes: S) -> Result<String, Unread>
    where
        S: TryStream<Ok = Bytes> + Send + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let unsent = |why| Unread { class: Class::Permanent, fault: unanswered(why), http: 0 };
        let part = Part::stream_with_length(Body::wrap_stream(bytes), file.size).file_name(file.name.to_owned());
        let part = part.mime_str(file.mime_type).map_err(|_| unsent("the file's MIME type is none"))?;
        let form = Form::new().text("messaging_product", "whatsapp").text("type", file.mime_type.to_owned()).part("file", part);
        let request = self.client.post(format!("{}/{number}/media", self.root)).multipart(form);
        self.ask_within(self.file_timeout, request, credentials, uploaded).await
    }
}

/// A file that is taken to Meta.
#[derive(Debug, Clone, Copy)]
pub struct NewFile<'a> {
    /// Its name: Meta looks at the ending.
    pub name: &'a str,
    /// MIME type.
    pub mime_type: &'a str,
    /// In bytes: exactly so many must come.
    pub size: u64,
}

fn record(body: &[u8]) -> Option<MediaRecord> {
    let body = String::from_utf8_lossy(body);
    let answer = Object::parse(&body)?;
    Some(MediaRecord {
        url: answer.words("url")?,
        mime_type: answer.words("mime_type"),
        sha256: answer.text("sha256").and_then(|it| FileHash::parse(&it)),
        // A string or a number.
        size: answer.text("file_size").and_then(|it| it.parse().ok()),
    })
}

fn uploaded(body: &[u8]) -> Option<String> {
    let body = String::from_utf8_lossy(body);
    Object::parse(&body)?.words("id").filter(|it| is_media_id(it))
}

/// It becomes part of a path.
fn is_media_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_'))
}

/// May the token go there for a file?
fn is_of_file(url: &Url, allow_loopback: bool) -> bool {
    let host = url.host_str().unwrap_or_default();
    let is_below = |domain: &str| host.strip_suffix(domain).is_some_and(|it| it.ends_with('.') && it.len() > 1);
    let is_metas = host == "graph.facebook.com" || ["fbsbx.com", "fbcdn.net", "whatsapp.net"].into_iter().any(is_below);
    let is_plain = url.username().is_empty() && url.password().is_none();
    is_plain && ((is_metas && url.scheme() == "https" && url.port().is_none()) || (allow_loopback && is_loopback(url)))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use futures::stream;

    use super::super::tests::{Server, credentials, graph, number, read_request};
    use super::super::{Graph, Settings};
    use super::*;
    use crate::fixtures::{ANSWERS, named};

    const HEX: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const BASE64: &str = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";

    #[test]
    fn a_hash_is_the_same_in_base64_and_in_hex() {
        let hash = FileHash::parse(HEX).expect("hex");
        assert_eq!(hash.to_string(), HEX);
        for text in [BASE64, BASE64.trim_end_matches('='), &HEX.to_uppercase(), &format!(" {HEX}\n")] {
            assert_eq!(FileHash::parse(text), Some(hash), "{text}");
        }
        assert_ne!(FileHash::parse(&HEX.replace('b', "c")), Some(hash));
        let accents = "é".repeat(32);
        for text in [
            "",
            "ba78",
            &HEX[1..],
            &HEX.replace('b', "g"),
            &BASE64.replace('+', "."),
            &accents,
            "ü234567890123456789012345678901234567890123",
        ] {
            assert_eq!(FileHash::parse(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn a_file_is_looked_up_for_its_number() {
        let server = Server::with("200 OK", named(ANSWERS, "media"));
        let record = graph(&server.base_url).media(&number(), &credentials(), "1003383421387256").await.expect("a record");
        assert!(record.url.starts_with("https://lookaside.fbsbx.com/"), "{}", record.url);
        assert!(record.sha256.is_some() && record.mime_type.is_some(), "{record:?}");
        let request = server.request();
        assert!(request.starts_with("GET /v25.0/1003383421387256?phone_number_id=700800900100200&appsecret_proof="), "{request}");

        for (size, read) in [(r#""20481""#, Some(20_481)), ("20481", Some(20_481)), ("null", None), (r#""much""#, None)] {
            let body = format!(r#"{{"url":"https://lookaside.fbsbx.com/a","file_size":{size}}}"#);
            let record = graph(&Server::with("200 OK", &body).base_url).media(&number(), &credentials(), "1").await;
            let url = "https://lookaside.fbsbx.com/a".to_owned();
            assert_eq!(record, Ok(MediaRecord { url, mime_type: None, sha256: None, size: read }));
        }
        let nowhere = graph(&Server::with("200 OK", r#"{"id":"1"}"#).base_url).media(&number(), &credentials(), "1").await;
        assert_eq!(nowhere.expect_err("no address").class, Class::Unknown);
    }

    #[tokio::test]
    async fn a_media_id_is_no_path() {
        for id in ["", "../1", "1/2", "1?fields=url", "1%2f2"] {
            let unread = graph("http://127.0.0.1:1").media(&number(), &credentials(), id).await.expect_err("nothing is asked");
            assert_eq!(unread.class, Class::Permanent, "{id}");
        }
    }

    async fn whole(graph: &Graph, url: &str) -> Result<Vec<u8>, DownloadError> {
        let mut download = graph.download(&credentials(), url).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = download.chunk().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    #[tokio::test]
    async fn a_file_comes_from_its_address_as_it_is() {
        let server = Server::with("200 OK", "the bytes");
        let url = format!("{}/attachments/?mid=1&ext=2&hash=3", server.base_url);
        assert_eq!(whole(&graph(&server.base_url), &url).await, Ok(b"the bytes".to_vec()));
        let request = server.request();
        assert!(request.starts_with("GET /attachments/?mid=1&ext=2&hash=3 HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("authorization: Bearer a-token\r\n") && request.contains("user-agent: whatsapp-channel\r\n"), "{request}");
    }

    #[tokio::test]
    async fn what_keeps_a_file_away_is_told_apart() {
        let trouble = |it: &DownloadError| matches!(it, DownloadError::Trouble { .. });
        let announced = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", DOWNLOAD_LIMIT + 1);
        let moved = "HTTP/1.1 302 Found\r\nlocation: https://example.com/\r\ncontent-length: 0\r\n\r\n";
        let answer = |http: &str| format!("HTTP/1.1 {http}\r\ncontent-length: 0\r\n\r\n");
        for (answer, expected) in [
            (answer("404 Not Found"), Some(DownloadError::Gone)),
            (answer("401 Unauthorized"), Some(DownloadError::Credentials)),
            (answer("403 Forbidden"), Some(DownloadError::Credentials)),
            (answer("400 Bad Request"), Some(DownloadError::Refused { http: 400 })),
            (moved.to_owned(), Some(DownloadError::Refused { http: 302 })),
            (announced, Some(DownloadError::TooLarge)),
            (answer("429 Too Many Requests"), None),
            (answer("503 Service Unavailable"), None),
            (String::new(), None),
            ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_owned(), None),
        ] {
            let server = Server::answering(answer.clone().into_bytes());
            let error = whole(&graph(&server.base_url), &server.base_url).await.expect_err("no file");
            assert!(expected.as_ref().map_or_else(|| trouble(&error), |it| *it == error), "{answer}: {error}");
        }
        let unreachable = whole(&graph("http://127.0.0.1:1"), "http://127.0.0.1:1").await.expect_err("nobody is there");
        assert!(trouble(&unreachable), "{unreachable}");
    }

    /// A server that says this and then nothing more, until the client has had enough.
    #[expect(clippy::disallowed_methods, reason = "a server that outlives its test harms nobody")]
    fn silent_after(said: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let base_url = format!("http://{}", listener.local_addr().expect("an address"));
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            read_request(&mut stream);
            stream.write_all(said.as_bytes()).expect("the client reads");
            let _hung_up = stream.read(&mut [0]);
        });
        base_url
    }

    #[tokio::test]
    async fn nobody_waits_for_a_file_for_ever() {
        for (said, why) in [("", "Meta did not answer in time"), ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", "Meta fell silent")]
        {
            let base_url = silent_after(said);
            let soon = Duration::from_millis(50);
            let settings = Settings {
                base_url: base_url.clone(),
                timeout: soon,
                chunk_timeout: soon,
                allow_loopback: true,
                ..Settings::meta("v25.0")
            };
            let graph = Graph::new(&settings).expect("settings");
            assert_eq!(whole(&graph, &base_url).await, Err(DownloadError::Trouble { why }));
        }
    }

    #[tokio::test]
    async fn a_file_that_never_ends_is_left() {
        let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", " ".repeat(1 << 20));
        let server = Server::answering(endless.into_bytes());
        let mut download = graph(&server.base_url).download(&credentials(), &server.base_url).await.expect("it begins");
        download.read = DOWNLOAD_LIMIT;
        assert_eq!(download.chunk().await, Err(DownloadError::TooLarge));
    }

    #[test]
    fn the_token_goes_for_files_to_metas_hosts_only() {
        let is_taken = |url: &str, allow_loopback| Url::parse(url).is_ok_and(|it| is_of_file(&it, allow_loopback));
        for url in [
            "https://lookaside.fbsbx.com/whatsapp_business/attachments/?mid=1&ext=2&hash=3",
            "https://graph.facebook.com/a",
            "https://media.xx.fbcdn.net/a",
            "https://mmg.whatsapp.net/a",
            "https://lookaside.fbsbx.com:443/a",
        ] {
            assert!(is_taken(url, false), "{url}");
        }
        for url in [
            "http://lookaside.fbsbx.com/a",
            "https://lookaside.fbsbx.com:8443/a",
            "https://lookaside.fbsbx.com.example.com/a",
            "https://evilfbsbx.com/a",
            "https://.fbsbx.com/a",
            "https://fbsbx.com@example.com/a",
            "https://user@lookaside.fbsbx.com/a",
            "https://business.facebook.com/a",
            "https://169.254.169.254/a",
            "https://example.com/?host=lookaside.fbsbx.com",
            "ftp://lookaside.fbsbx.com/a",
        ] {
            assert!(!is_taken(url, true), "{url}");
        }
        assert!(is_taken("http://127.0.0.1:8090/a", true) && !is_taken("http://127.0.0.1:8090/a", false));
    }

    #[tokio::test]
    async fn no_other_host_is_asked() {
        let error = graph("http://127.0.0.1:1").download(&credentials(), "https://example.com/a").await.expect_err("no address of Meta's");
        assert_eq!(error, DownloadError::Address);
    }

    fn in_pieces(pieces: &[&'static str]) -> impl TryStream<Ok = Bytes, Error = std::io::Error> + Send + use<> {
        stream::iter(pieces.iter().map(|it| Ok(Bytes::from_static(it.as_bytes()))).collect::<Vec<_>>())
    }

    #[tokio::test]
    async fn a_file_goes_to_meta_piece_by_piece_with_its_length_told() {
        let server = Server::with("200 OK", named(ANSWERS, "media_uploaded"));
        let file = NewFile { name: "voice.ogg", mime_type: "audio/ogg; codecs=opus", size: 9 };
        let id = graph(&server.base_url).upload(&number(), &credentials(), &file, in_pieces(&["OggS", " and ", ""])).await;
        assert!(id.as_ref().is_ok_and(|it| is_media_id(it)), "{id:?}");
        let request = server.request();
        assert!(request.starts_with("POST /v25.0/700800900100200/media?appsecret_proof="), "{request}");
        assert!(request.contains("content-length: ") && !request.contains("transfer-encoding"), "{request}");
        let named = "name=\"file\"; filename=\"voice.ogg\"\r\nContent-Type: audio/ogg; codecs=opus\r\n\r\nOggS and \r\n";
        assert!(request.contains(named), "{request}");
        for (name, text) in [("messaging_product", "whatsapp"), ("type", "audio/ogg; codecs=opus")] {
            assert!(request.contains(&format!("name=\"{name}\"\r\n\r\n{text}\r\n")), "{request}");
        }
    }

    #[tokio::test]
    async fn an_upload_that_did_not_end_well_says_what_follows() {
        let pdf = NewFile { name: "a.pdf", mime_type: "application/pdf", size: 4 };
        let upload = async |base_url: &str, file: &NewFile<'_>, pieces: &[&'static str]| {
            graph(base_url).upload(&number(), &credentials(), file, in_pieces(pieces)).await.expect_err("no id").class
        };
        let refused = named(ANSWERS, "error_token_expired");
        assert_eq!(upload(&Server::with("401 Unauthorized", refused).base_url, &pdf, &["%PDF"]).await, Class::Credentials);
        assert_eq!(upload(&Server::with("503 Service Unavailable", "").base_url, &pdf, &["%PDF"]).await, Class::Unknown);
        assert_eq!(upload(&Server::with("200 OK", "{}").base_url, &pdf, &["%PDF"]).await, Class::Unknown);
        assert_eq!(upload("http://127.0.0.1:1", &pdf, &["%PDF"]).await, Class::NotSent);
        assert_eq!(upload("http://127.0.0.1:1", &NewFile { mime_type: "none", ..pdf }, &["%PDF"]).await, Class::Permanent);
    }

    #[tokio::test]
    async fn a_file_that_breaks_off_on_its_way_is_no_file() {
        let base_url = silent_after("");
        let broken = stream::iter([Ok(Bytes::from_static(b"%P")), Err(std::io::Error::other("gone"))]);
        let pdf = NewFile { name: "a.pdf", mime_type: "application/pdf", size: 4 };
        let unread = graph(&base_url).upload(&number(), &credentials(), &pdf, broken).await.expect_err("half a file");
        assert_eq!((unread.class, unread.http), (Class::Unknown, 0));
    }
}
