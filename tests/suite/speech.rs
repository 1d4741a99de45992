//! A spoken sentence, through a real recogniser: `infra/local/recogniser.py`, as a process of its own.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use channel::transcripts::{Heard, SpeechToText, Unheard, transcribe};
use channel::vault::Secret;
use channel::web::{Web, WebSettings};

/// A sentence whose [`CONTENT`] the recogniser has heard at every pace, loudness and noise that was tried.
pub(crate) const SENTENCE: &str = "Can you send the package on Friday afternoon?";
/// The words that it is about.
const CONTENT: [&str; 3] = ["package", "friday", "afternoon"];
/// What the recogniser takes as a key.
pub(crate) const KEY: &str = "a-key-for-speech";

/// A recogniser of one's own, until it is dropped.
pub(crate) struct Recogniser {
    process: Child,
    /// Where it takes voice notes.
    pub(crate) url: String,
}

impl Recogniser {
    pub(crate) fn start() -> Self {
        let mut command = Command::new(python());
        command.arg(script("recogniser.py")).env("SPEECH_ADDRESS", "127.0.0.1:0").env("SPEECH_KEY", KEY).stdout(Stdio::piped());
        let mut process = command.stderr(Stdio::null()).spawn().expect("the recogniser starts");
        let mut said = String::new();
        BufReader::new(process.stdout.as_mut().expect("piped")).read_line(&mut said).expect("it speaks");
        let url = said.trim().rsplit(' ').next().filter(|it| it.starts_with("http")).expect("it says where it listens").to_owned();
        Self { process, url }
    }
}

impl Drop for Recogniser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A text as a voice note: Opus in Ogg.
pub(crate) fn spoken(text: &str) -> Vec<u8> {
    static NOTES: AtomicUsize = AtomicUsize::new(0);
    let name = format!("spoken-{}-{}.ogg", std::process::id(), NOTES.fetch_add(1, Ordering::Relaxed));
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let status = Command::new(python()).arg(script("speak.py")).arg(text).arg(&file).status().expect("a voice is there");
    assert!(status.success(), "nothing is spoken: {status}");
    let note = std::fs::read(&file).expect("a voice note");
    std::fs::remove_file(&file).expect("it was there");
    note
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../infra/local").join(name)
}

/// Python in the virtual environment beside the build in which this test was made: `<target>/debug/deps/<test>`.
fn python() -> PathBuf {
    let test = std::env::current_exe().expect("a test is a program");
    let python = test.ancestors().nth(3).expect("it lies in a target directory").join("venv/bin/python");
    assert!(python.is_file(), "{} is missing: `make test` makes it before it runs the tests", python.display());
    python
}

/// What a speech-to-text endpoint hears in a voice note.
pub(crate) async fn heard(url: &str, language: &str, key: &str, audio: &[u8]) -> Result<Heard, Unheard> {
    let web = Web::new(&WebSettings { allow_loopback: true, connect_timeout: Duration::from_secs(10) }).expect("a client");
    let by = SpeechToText { url: url.to_owned(), model: "pocketsphinx".to_owned(), language: Some(language.to_owned()) };
    transcribe(&web, &by, &Secret::new(key), audio.to_vec(), "audio/ogg; codecs=opus").await
}

/// Are the words that [`SENTENCE`] is about all there?
pub(crate) fn holds_the_content(text: &str) -> bool {
    CONTENT.iter().all(|it| text.split(' ').any(|word| word == *it))
}

#[tokio::test]
async fn a_spoken_sentence_becomes_its_words() {
    let recogniser = Recogniser::start();
    let url = &recogniser.url;
    let note = spoken(SENTENCE);
    let text = heard(url, "en", KEY, &note).await.expect("words").text;
    assert!(holds_the_content(&text), "{text}");
    let other = heard(url, "en", KEY, &spoken("The computer is broken and I want my money back.")).await.expect("words").text;
    assert!(other.contains("money") && !holds_the_content(&other), "it hears what is said: {other}");

    assert_eq!(heard(url, "en", "another-key", &note).await, Err(Unheard::Refused));
    assert_eq!(heard(url, "es", KEY, &note).await, Err(Unheard::Unreadable), "it does not know the language");
    assert_eq!(heard(url, "en", KEY, b"OggS, and no more").await, Err(Unheard::Unreadable));
    assert_eq!(heard(url, "en", KEY, &note[..note.len() / 20]).await, Err(Unheard::Unreadable));
}
