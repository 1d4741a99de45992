//! The request as OpenAI documents it, and every way in which there are no words.

use std::net::TcpListener;

use super::*;
use crate::web::WebSettings;
use crate::web::tests::{Server, web};

fn by(port: u16) -> SpeechToText {
    SpeechToText {
        url: format!("http://127.0.0.1:{port}/v1/audio/transcriptions"),
        model: "whisper-1".to_owned(),
        language: Some("es".to_owned()),
    }
}

async fn heard(by: &SpeechToText, mime_type: &str) -> Result<Heard, Unheard> {
    transcribe(&web(), by, &Secret::new("a-key"), b"OggS opus".to_vec(), mime_type).await
}

async fn answered(http: &str, body: &str) -> Result<Heard, Unheard> {
    heard(&by(Server::with(http, body).port), "audio/ogg").await
}

fn words(text: &str) -> Result<Heard, Unheard> {
    Ok(Heard { text: text.to_owned() })
}

#[tokio::test]
async fn a_voice_note_goes_out_as_it_came_and_words_come_back() {
    let server = Server::with("200 OK", r#"{"text":" Hola, ¿dónde está mi pedido?\n","usage":{"type":"duration","seconds":3}}"#);
    assert_eq!(heard(&by(server.port), "audio/ogg; codecs=opus").await, words("Hola, ¿dónde está mi pedido?"));
    let request = server.request();
    assert!(request.starts_with("POST /v1/audio/transcriptions HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("authorization: Bearer a-key\r\n"), "{request}");
    assert!(request.contains("content-type: multipart/form-data; boundary="), "{request}");
    let part = |head: &str, body: &str| format!("\r\nContent-Disposition: form-data; {head}\r\n\r\n{body}\r\n");
    for (name, value) in [("model", "whisper-1"), ("language", "es"), ("response_format", "json")] {
        assert!(request.contains(&part(&format!("name=\"{name}\""), value)), "{request}");
    }
    assert!(request.contains(&part("name=\"file\"; filename=\"voice.ogg\"\r\nContent-Type: audio/ogg", "OggS opus")), "{request}");
}

#[tokio::test]
async fn a_language_that_is_not_known_is_not_named() {
    let server = Server::with("200 OK", r#"{"text":"hello"}"#);
    assert_eq!(heard(&SpeechToText { language: None, ..by(server.port) }, "audio/ogg").await, words("hello"));
    assert!(!server.request().contains("language"));
}

#[tokio::test]
async fn a_recorded_file_is_named_by_its_type() {
    for (mime_type, head) in [
        ("audio/mpeg", "filename=\"voice.mp3\"\r\nContent-Type: audio/mpeg\r\n"),
        ("audio/mp4; codecs=mp4a", "filename=\"voice.m4a\"\r\nContent-Type: audio/mp4\r\n"),
        ("audio/aac", "filename=\"voice.aac\"\r\nContent-Type: audio/aac\r\n"),
        ("audio/amr", "filename=\"voice.amr\"\r\nContent-Type: audio/amr\r\n"),
        ("audio/ogg;codecs=opus", "filename=\"voice.ogg\"\r\nContent-Type: audio/ogg\r\n"),
        ("", "filename=\"voice.ogg\"\r\nContent-Type: audio/ogg\r\n"),
    ] {
        let server = Server::with("200 OK", r#"{"text":""}"#);
        assert_eq!(heard(&by(server.port), mime_type).await, words(""));
        let request = server.request();
        assert!(request.contains(head), "{mime_type}: {request}");
    }
}

#[tokio::test]
async fn silence_is_a_transcript_without_words() {
    assert_eq!(answered("200 OK", r#"{"text":""}"#).await, words(""));
}

#[tokio::test]
async fn an_answer_without_words_says_why() {
    let failed = |why: &str| Unheard::Failed { why: why.to_owned() };
    let too_long = format!("{{\"text\":\"{}\"}}", "word ".repeat(crate::web::ANSWER_LIMIT / 5));
    for (http, body, expected) in [
        ("401 Unauthorized", r#"{"error":{"message":"Incorrect API key provided: a-key"}}"#, Unheard::Refused),
        ("403 Forbidden", "", Unheard::Refused),
        ("400 Bad Request", r#"{"error":{"message":"Invalid file format."}}"#, Unheard::Unreadable),
        ("415 Unsupported Media Type", "", Unheard::Unreadable),
        ("422 Unprocessable Content", "", Unheard::Unreadable),
        ("413 Content Too Large", "", Unheard::TooLong),
        ("200 OK", &too_long, Unheard::TooLong),
        ("404 Not Found", "", failed("http_404")),
        ("429 Too Many Requests", "", failed("http_429")),
        ("503 Service Unavailable", "", failed("http_503")),
        ("302 Found", "", failed("http_302")),
        ("200 OK", "hello", failed("not_understood")),
        ("200 OK", "{}", failed("not_understood")),
        ("200 OK", r#"{"text":null}"#, failed("not_understood")),
    ] {
        assert_eq!(answered(http, body).await, Err(expected), "{http} {body:.40}");
    }
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_asked_says_why() {
    let failed = |why: &str| Err(Unheard::Failed { why: why.to_owned() });
    let closed = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address").port();
    assert_eq!(heard(&by(closed), "audio/ogg").await, failed("refused"));
    let to = |url: &str| SpeechToText { url: url.to_owned(), ..by(closed) };
    assert_eq!(heard(&to("https://169.254.169.254/v1/audio/transcriptions"), "audio/ogg").await, failed("private_address"));
    assert_eq!(heard(&to("http://speech.example/v1/audio/transcriptions"), "audio/ogg").await, failed("not_https"));
    let for_the_public = WebSettings { allow_loopback: false, connect_timeout: TIMEOUT };
    let web = Web::new(&for_the_public).expect("a client");
    let asked = transcribe(&web, &to("https://127.0.0.1/"), &Secret::new("a-key"), Vec::new(), "audio/ogg").await;
    assert_eq!(asked, failed("private_address"));
}

#[tokio::test]
async fn an_endpoint_that_is_silent_is_not_waited_for() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let by = by(silent.local_addr().expect("an address").port());
    let asked = transcribe_within(Duration::from_millis(50), &web(), &by, &Secret::new("a-key"), Vec::new(), "audio/ogg").await;
    assert_eq!(asked, Err(Unheard::Timeout));
}

#[tokio::test]
async fn a_key_that_no_header_can_hold_is_refused() {
    let asked = transcribe(&web(), &by(1), &Secret::new("a\nkey"), Vec::new(), "audio/ogg").await;
    assert_eq!(asked, Err(Unheard::Refused));
}

#[tokio::test]
async fn audio_is_sent_to_its_limit_and_no_further() {
    let server = Server::with("200 OK", r#"{"text":"much"}"#);
    let send = async |length: usize| transcribe(&web(), &by(server.port), &Secret::new("a-key"), vec![b'x'; length], "audio/ogg").await;
    assert_eq!(send(AUDIO_LIMIT + 1).await, Err(Unheard::TooLong));
    assert_eq!(send(AUDIO_LIMIT).await, words("much"));
}

#[test]
fn each_reason_has_a_code_and_a_note() {
    let all = [Unheard::Refused, Unheard::Unreadable, Unheard::TooLong, Unheard::Failed { why: "http_503".to_owned() }, Unheard::Timeout];
    let told = all.map(|it| format!("{}: {}", it.code(), it.note()));
    assert_eq!(
        told,
        [
            "speech_refused: The speech-to-text endpoint refuses the key that the agent was attached with.",
            "speech_unreadable: The speech-to-text endpoint cannot read the audio, or does not know the model or the language.",
            "speech_too_long: The audio is longer than 25 MB, or than the speech-to-text endpoint takes.",
            "speech_failed: The speech-to-text endpoint gave no transcript (http_503).",
            "speech_timeout: The speech-to-text endpoint did not answer within 30 seconds.",
        ]
    );
}
