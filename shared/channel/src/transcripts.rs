//! What is said in a voice note, in words: by whatever endpoint the agent's tenant names, if it speaks as OpenAI's does.
//!
//! <https://platform.openai.com/docs/api-reference/audio/createTranscription>
//!
//! A voice note without words is no failure of the message: it goes on, with the reason. This file must not know what becomes of the words.

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::Deserialize;

use crate::redelivery::Retryable as _;
use crate::vault::Secret;
use crate::web::{AddressError, FormFile, Web, WebError};

/// Largest audio that is sent, in bytes: what OpenAI takes. <https://platform.openai.com/docs/guides/speech-to-text>
pub const AUDIO_LIMIT: usize = 25_000_000;

/// Longest wait for the words.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Who turns speech into text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpeechToText {
    /// Where: the whole address, as `https://api.openai.com/v1/audio/transcriptions`.
    pub url: String,
    /// By which model, as `whisper-1`.
    pub model: String,
    /// The language that is spoken, as `es`, if it is known: <https://www.iso.org/iso-639-language-code>. Without it the model guesses.
    pub language: Option<String>,
}

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The words; empty if none were spoken.
    pub text: String,
}

/// Why there are no words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unheard {
    /// The endpoint takes no requests with this key.
    Refused,
    /// The endpoint cannot make anything of the audio, or of the model or language.
    Unreadable,
    /// More audio than is sent or taken, or more words than are read.
    TooLong,
    /// The endpoint was not reached, or answered something else.
    Failed {
        /// A stable name, as `private_address` or `http_503`.
        why: String,
    },
    /// It took longer than [`TIMEOUT`].
    Timeout,
}

impl Unheard {
    /// A stable name: lower case with underscores.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused => "speech_refused",
            Self::Unreadable => "speech_unreadable",
            Self::TooLong => "speech_too_long",
            Self::Failed { .. } => "speech_failed",
            Self::Timeout => "speech_timeout",
        }
    }

    /// What an agent, or who looks after it, reads in the words' place.
    #[must_use]
    pub fn note(&self) -> String {
        match self {
            Self::Refused => "The speech-to-text endpoint refuses the key that the agent was attached with.".to_owned(),
            Self::Unreadable => "The speech-to-text endpoint cannot read the audio, or does not know the model or the language.".to_owned(),
            Self::TooLong => format!("The audio is longer than {} MB, or than the speech-to-text endpoint takes.", AUDIO_LIMIT / 1_000_000),
            Self::Failed { why } => format!("The speech-to-text endpoint gave no transcript ({why})."),
            Self::Timeout => format!("The speech-to-text endpoint did not answer within {} seconds.", TIMEOUT.as_secs()),
        }
    }
}

/// OpenAI's answer, as far as we read it.
#[derive(Deserialize)]
struct Transcription {
    text: String,
}

/// Asks for the words of a voice note, once. The audio goes out as it came.
///
/// # Errors
/// [`Unheard`]. What is spoken, and the key, are in none.
pub async fn transcribe(web: &Web, by: &SpeechToText, key: &Secret, audio: Vec<u8>, mime_type: &str) -> Result<Heard, Unheard> {
    transcribe_within(TIMEOUT, web, by, key, audio, mime_type).await
}

async fn transcribe_within(
    timeout: Duration,
    web: &Web,
    by: &SpeechToText,
    key: &Secret,
    audio: Vec<u8>,
    mime_type: &str,
) -> Result<Heard, Unheard> {
    if audio.len() > AUDIO_LIMIT {
        return Err(Unheard::TooLong);
    }
    let address = web.address(&by.url).map_err(|it: AddressError| failed(it.code()))?;
    let authorization = format!("Bearer {}", key.expose());
    let mut fields = vec![("model", by.model.as_str()), ("response_format", "json")];
    fields.extend(by.language.as_deref().map(|it| ("language", it)));
    let (name, mime_type) = named(mime_type);
    let file = FormFile { field: "file", name, mime_type, bytes: audio };
    let answer = web.post_form(&address, &[("authorization", &authorization)], &fields, file, timeout).await.map_err(|it| match it {
        WebError::Timeout => Unheard::Timeout,
        WebError::AnswerTooLong => Unheard::TooLong,
        // Of all that is said here only the key can hold what a header cannot.
        WebError::Unsayable => Unheard::Refused,
        other => failed(other.code()),
    })?;
    match answer.status {
        200..=299 => match serde_json::from_slice::<Transcription>(&answer.body) {
            Ok(it) => Ok(Heard { text: it.text.trim().to_owned() }),
            Err(_) => Err(failed("not_understood")),
        },
        401 | 403 => Err(Unheard::Refused),
        413 => Err(Unheard::TooLong),
        400 | 415 | 422 => Err(Unheard::Unreadable),
        status => Err(failed(&format!("http_{status}"))),
    }
}

fn failed(why: &str) -> Unheard {
    Unheard::Failed { why: why.to_owned() }
}

/// What the file is called, by which endpoints know what is in it, and its type without parameters.
fn named(mime_type: &str) -> (&'static str, &str) {
    let essence = mime_type.split(';').next().unwrap_or_default().trim();
    match essence {
        "audio/aac" => ("voice.aac", essence),
        "audio/amr" => ("voice.amr", essence),
        "audio/mpeg" => ("voice.mp3", essence),
        "audio/mp4" => ("voice.m4a", essence),
        // What WhatsApp records.
        _ => ("voice.ogg", "audio/ogg"),
    }
}
