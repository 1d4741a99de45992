//! What is in a file, as far as Meta looks: its first bytes against the type that it says it is.
//!
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/media#supported-media-types>

use crate::book::Medium;
use crate::errors::Refusal;

/// Largest sticker that does not move, in bytes; `UPLOADABLE` has the limit of one that does.
const STILL_STICKER: usize = 100 << 10;

/// The smallest bytes that Meta takes for a file of this type.
#[must_use]
pub fn smallest_file(mime_type: &str) -> Vec<u8> {
    let bytes: &[u8] = match mime_type.split(';').next().unwrap_or_default().trim() {
        "image/jpeg" => &[0xff, 0xd8, 0xff, 0xe0],
        "image/png" => b"\x89PNG\r\n\x1a\n",
        "image/webp" => b"RIFF\x04\0\0\0WEBP",
        "audio/ogg" => b"OggS\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x13OpusHead\x01\x01\0\0\x80\x3e\0\0\0\0\0",
        "audio/amr" => b"#!AMR\n",
        "video/mp4" | "video/3gpp" | "audio/mp4" => b"\0\0\0\x08ftyp",
        "application/pdf" => b"%PDF-1.4\n",
        _ => b"a file",
    };
    bytes.to_vec()
}

impl Medium {
    /// Why Meta cannot make a message of this kind of the file, found only once the send is accepted.
    pub(crate) fn misfit(&self, kind: &str, is_voice: bool) -> Option<Refusal> {
        let essence = self.mime_type.split(';').next().unwrap_or_default().trim();
        let bytes = self.content();
        let refused = |why: String| Some(Refusal::with(131_053, why));
        let is_fitting = match kind {
            "document" => true,
            "sticker" => essence == "image/webp",
            "image" => essence.starts_with("image/") && essence != "image/webp",
            "gif" => essence.starts_with("video/"),
            kind => essence.starts_with(kind),
        };
        if !is_fitting {
            return refused(format!("Media of type {essence} cannot be sent as {kind}."));
        }
        if !is_what_it_says(essence, &bytes) {
            return refused(format!(
                "Media file type mismatch: on first processing detected application/octet-stream, expected {essence}."
            ));
        }
        if is_voice && !is_opus(&bytes) {
            return refused("A voice message must be OGG with the OPUS codec.".into());
        }
        if kind == "sticker" && bytes.len() > STILL_STICKER && !is_animated(&bytes) {
            return refused(format!("A static sticker has at most {STILL_STICKER} bytes."));
        }
        None
    }
}

fn is_what_it_says(essence: &str, bytes: &[u8]) -> bool {
    let at = |from: usize, signature: &[u8]| bytes.get(from..).is_some_and(|it| it.starts_with(signature));
    match essence {
        "image/jpeg" => at(0, &[0xff, 0xd8, 0xff]),
        "image/png" => at(0, b"\x89PNG\r\n\x1a\n"),
        "image/webp" => at(0, b"RIFF") && at(8, b"WEBP"),
        "audio/ogg" => at(0, b"OggS"),
        "audio/amr" => at(0, b"#!AMR"),
        "video/mp4" | "video/3gpp" | "audio/mp4" => at(4, b"ftyp"),
        "application/pdf" => at(0, b"%PDF"),
        _ => true,
    }
}

/// The first packet of Opus in Ogg names itself behind a page header of 28 bytes: <https://www.rfc-editor.org/rfc/rfc7845#section-5.1>.
fn is_opus(bytes: &[u8]) -> bool {
    bytes.starts_with(b"OggS") && bytes.get(28..).is_some_and(|it| it.starts_with(b"OpusHead"))
}

/// The flag of the extended format: <https://developers.google.com/speed/webp/docs/riff_container#extended_file_format>.
fn is_animated(bytes: &[u8]) -> bool {
    bytes.get(12..16) == Some(b"VP8X") && bytes.get(20).is_some_and(|it| it & 0x02 != 0)
}
