//! Which files Meta takes, and as what.
//!
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/media#supported-media-types>
//! This file must not know where a file lies, or how it gets to Meta.

use domain::outgoing::FileKind;

/// Largest file that comes in a job itself, in bytes: in base64 it still fits into a queue's message, of 1 MiB.
pub const CONTENT_LIMIT: usize = 512 << 10;

/// So many of a file's first bytes tell what [`check_inside`] must know.
pub const FIRST_BYTES: usize = 48;

const MB: u64 = 1 << 20;
const KB: u64 = 1 << 10;

/// Largest sticker that does not move, in bytes.
const STILL_STICKER: u64 = 100 * KB;

/// A type that Meta takes.
#[derive(Debug, Clone, Copy)]
struct FileType {
    /// MIME type.
    essence: &'static str,
    /// What names of such files end in.
    ending: &'static str,
    /// What it can be sent as, besides a document.
    kinds: &'static [FileKind],
    /// In bytes.
    limit: u64,
}

const fn kind(essence: &'static str, ending: &'static str, kinds: &'static [FileKind], limit: u64) -> FileType {
    FileType { essence, ending, kinds, limit }
}

/// A larger one does not play by itself: the customer has to load it first.
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/audio-messages>
const VOICE_LIMIT: u64 = 512 * KB;

/// The table of Meta's page. Whatever it takes can be sent as a document too.
const TYPES: &[FileType] = &[
    kind("image/jpeg", "jpg", &[FileKind::Image], 5 * MB),
    kind("image/png", "png", &[FileKind::Image], 5 * MB),
    kind("image/webp", "webp", &[FileKind::Sticker], 500 * KB),
    kind("video/mp4", "mp4", &[FileKind::Video], 16 * MB),
    kind("video/3gpp", "3gp", &[FileKind::Video], 16 * MB),
    kind("audio/aac", "aac", &[FileKind::Audio], 16 * MB),
    kind("audio/amr", "amr", &[FileKind::Audio], 16 * MB),
    kind("audio/mpeg", "mp3", &[FileKind::Audio], 16 * MB),
    kind("audio/mp4", "m4a", &[FileKind::Audio], 16 * MB),
    kind("audio/ogg", "ogg", &[FileKind::Audio, FileKind::Voice], 16 * MB),
    kind("text/plain", "txt", &[], 100 * MB),
    kind("application/pdf", "pdf", &[], 100 * MB),
    kind("application/msword", "doc", &[], 100 * MB),
    kind("application/vnd.ms-excel", "xls", &[], 100 * MB),
    kind("application/vnd.ms-powerpoint", "ppt", &[], 100 * MB),
    kind("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx", &[], 100 * MB),
    kind("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx", &[], 100 * MB),
    kind("application/vnd.openxmlformats-officedocument.presentationml.presentation", "pptx", &[], 100 * MB),
];

/// Why Meta would not take a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misfit {
    /// Of a type that it does not take, or not as this.
    Type {
        /// What is wrong with it, and what to do.
        advice: String,
    },
    /// Larger than it takes.
    Size {
        /// What it takes, in bytes.
        limit: u64,
    },
}

impl Misfit {
    /// What is wrong with it, and what to do.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            Self::Type { advice } => advice.clone(),
            Self::Size { limit } => format!("is larger than WhatsApp takes; give at most {limit} bytes"),
        }
    }
}

fn no_type(advice: impl Into<String>) -> Misfit {
    Misfit::Type { advice: advice.into() }
}

/// The MIME type without its parameters.
fn essence(mime_type: &str) -> String {
    mime_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn of(mime_type: &str) -> Option<&'static FileType> {
    let essence = essence(mime_type);
    TYPES.iter().find(|it| it.essence == essence)
}

fn takes(it: &FileType, kind: FileKind) -> bool {
    kind == FileKind::Document || it.kinds.contains(&kind)
}

/// Would Meta take a file of this type and so many bytes at all?
///
/// # Errors
/// [`Misfit`].
pub fn check_upload(mime_type: &str, size: u64) -> Result<(), Misfit> {
    check_file(FileKind::Document, mime_type, size)
}

/// Would Meta take a file of this type and so many bytes as this?
///
/// # Errors
/// [`Misfit`].
pub fn check_file(kind: FileKind, mime_type: &str, size: u64) -> Result<(), Misfit> {
    let Some(found) = of(mime_type).filter(|it| takes(it, kind)) else {
        let taken: Vec<_> = TYPES.iter().filter(|it| takes(it, kind)).map(|it| it.essence).collect();
        let (name, taken) = (name_of(kind), taken.join(", "));
        return Err(no_type(format!("is of no type that can be sent as {name}; give one of {taken}")));
    };
    let limit = if kind == FileKind::Voice { VOICE_LIMIT } else { found.limit };
    match size {
        0 => Err(no_type("is empty; give a file with something in it")),
        it if it > limit => Err(Misfit::Size { limit }),
        _ => Ok(()),
    }
}

/// The same, as far as the [`FIRST_BYTES`] of the file tell: sound in ogg is Opus, and a sticker that does not move is small.
///
/// # Errors
/// [`Misfit`].
pub fn check_inside(kind: FileKind, mime_type: &str, size: u64, first: &[u8]) -> Result<(), Misfit> {
    match kind {
        FileKind::Audio | FileKind::Voice if essence(mime_type) == "audio/ogg" && !is_opus(first) => {
            Err(no_type("is no Opus in Ogg, the only sound in Ogg that WhatsApp plays; convert it"))
        }
        FileKind::Sticker if size > STILL_STICKER && !is_animated(first) => Err(Misfit::Size { limit: STILL_STICKER }),
        FileKind::Image | FileKind::Video | FileKind::Audio | FileKind::Voice | FileKind::Document | FileKind::Sticker => Ok(()),
    }
}

/// Must its first bytes be looked at?
#[must_use]
pub fn looks_inside(kind: FileKind) -> bool {
    matches!(kind, FileKind::Audio | FileKind::Voice | FileKind::Sticker)
}

/// The name under which Meta is given a file, and its type: Meta looks at the ending, and sound in ogg must be said to be Opus.
#[must_use]
pub fn told(kind: FileKind, mime_type: &str) -> (String, String) {
    let essence = essence(mime_type);
    let ending = of(&essence).map_or("bin", |it| it.ending);
    let name = match kind {
        FileKind::Image => "image",
        FileKind::Video => "video",
        FileKind::Audio => "audio",
        FileKind::Voice => "voice",
        FileKind::Document => "document",
        FileKind::Sticker => "sticker",
    };
    let mime_type = if essence == "audio/ogg" { "audio/ogg; codecs=opus".to_owned() } else { essence };
    (format!("{name}.{ending}"), mime_type)
}

fn name_of(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Image => "a picture",
        FileKind::Video => "a film",
        FileKind::Audio => "sound",
        FileKind::Voice => "a voice message",
        FileKind::Document => "a document",
        FileKind::Sticker => "a sticker",
    }
}

/// The first page of Ogg has one packet, which begins behind a header of 28 bytes, and that of Opus names itself:
/// <https://www.rfc-editor.org/rfc/rfc7845#section-5.1>.
fn is_opus(first: &[u8]) -> bool {
    first.starts_with(b"OggS") && first.get(28..).is_some_and(|it| it.starts_with(b"OpusHead"))
}

/// Only files of the extended form move, and their flags say so:
/// <https://developers.google.com/speed/webp/docs/riff_container#extended_file_format>.
fn is_animated(first: &[u8]) -> bool {
    first.get(12..16) == Some(b"VP8X") && first.get(20).is_some_and(|it| it & 0b10 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [FileKind; 6] = [FileKind::Image, FileKind::Video, FileKind::Audio, FileKind::Voice, FileKind::Document, FileKind::Sticker];

    /// What is taken as what, read from Meta's page again.
    fn kinds(mime_type: &str) -> Vec<FileKind> {
        ALL.into_iter().filter(|it| check_file(*it, mime_type, 1).is_ok()).collect()
    }

    #[test]
    fn each_type_is_sent_as_what_meta_takes_it_as() {
        use FileKind::{Audio, Document, Image, Sticker, Video, Voice};
        for (mime_type, expected) in [
            ("image/jpeg", &[Image, Document][..]),
            ("IMAGE/PNG", &[Image, Document]),
            ("image/webp", &[Document, Sticker]),
            ("image/gif", &[]),
            ("video/mp4", &[Video, Document]),
            ("video/3gpp", &[Video, Document]),
            ("video/quicktime", &[]),
            ("audio/mpeg", &[Audio, Document]),
            ("audio/ogg; codecs=opus", &[Audio, Voice, Document]),
            ("audio/wav", &[]),
            ("application/pdf", &[Document]),
            ("text/plain;charset=utf-8", &[Document]),
            ("text/html", &[]),
            ("application/octet-stream", &[]),
            ("", &[]),
        ] {
            assert_eq!(kinds(mime_type), expected, "{mime_type}");
        }
    }

    #[test]
    fn each_type_has_its_limit() {
        for (kind, mime_type, limit) in [
            (FileKind::Image, "image/jpeg", 5 * MB),
            (FileKind::Document, "image/jpeg", 5 * MB),
            (FileKind::Video, "video/mp4", 16 * MB),
            (FileKind::Voice, "audio/ogg", 512 * KB),
            (FileKind::Audio, "audio/ogg", 16 * MB),
            (FileKind::Document, "application/pdf", 100 * MB),
            (FileKind::Sticker, "image/webp", 500 * KB),
        ] {
            assert_eq!(check_file(kind, mime_type, limit), Ok(()), "{mime_type}");
            assert_eq!(check_file(kind, mime_type, limit + 1), Err(Misfit::Size { limit }), "{mime_type}");
            assert!(matches!(check_file(kind, mime_type, 0), Err(Misfit::Type { .. })), "{mime_type}: empty");
        }
        assert!(check_upload("application/pdf", 100 * MB).is_ok() && check_upload("text/html", 1).is_err());
    }

    #[test]
    fn who_gives_another_type_is_told_which_are_taken() {
        let advice = check_file(FileKind::Image, "image/gif", 1).expect_err("no picture").advice();
        assert_eq!(advice, "is of no type that can be sent as a picture; give one of image/jpeg, image/png");
        let advice = Misfit::Size { limit: 5 * MB }.advice();
        assert_eq!(advice, "is larger than WhatsApp takes; give at most 5242880 bytes");
    }

    #[test]
    fn the_first_bytes_tell_opus_from_other_sound_and_what_moves_from_what_does_not() {
        let ogg = |codec: &str| [b"OggS".as_slice(), &[0; 24], codec.as_bytes()].concat();
        let inside = |kind, mime_type: &str, size, first: &[u8]| check_inside(kind, mime_type, size, first).is_ok();
        for kind in [FileKind::Voice, FileKind::Audio] {
            assert!(inside(kind, "audio/ogg; codecs=opus", 1, &ogg("OpusHead")));
            for first in [ogg("\u{1}vorbis"), ogg(""), b"OggS".to_vec(), b"ID3".to_vec(), Vec::new()] {
                assert!(!inside(kind, "audio/ogg", 1, &first), "{first:?}");
            }
        }
        assert!(inside(FileKind::Audio, "audio/mpeg", 1, b"ID3"), "no ogg");
        let webp = |form: &str, flags: u8| [b"RIFF\0\0\0\0WEBP", form.as_bytes(), &[10, 0, 0, 0, flags]].concat();
        assert!(inside(FileKind::Sticker, "image/webp", STILL_STICKER, &webp("VP8 ", 0)));
        assert!(!inside(FileKind::Sticker, "image/webp", STILL_STICKER + 1, &webp("VP8 ", 2)));
        assert!(!inside(FileKind::Sticker, "image/webp", STILL_STICKER + 1, &webp("VP8X", 0x10)));
        assert!(inside(FileKind::Sticker, "image/webp", STILL_STICKER + 1, &webp("VP8X", 0x12)));
        assert!(inside(FileKind::Image, "image/png", STILL_STICKER + 1, b""));
        assert!(ALL.into_iter().filter(|it| looks_inside(*it)).eq([FileKind::Audio, FileKind::Voice, FileKind::Sticker]));
    }

    #[test]
    fn meta_is_told_a_name_that_ends_as_the_type_does() {
        let told = |kind, mime_type| {
            let (name, mime_type) = told(kind, mime_type);
            format!("{name} {mime_type}")
        };
        assert_eq!(told(FileKind::Voice, "audio/ogg"), "voice.ogg audio/ogg; codecs=opus");
        assert_eq!(told(FileKind::Audio, "audio/mpeg"), "audio.mp3 audio/mpeg");
        assert_eq!(told(FileKind::Document, "Text/Plain; charset=utf-8"), "document.txt text/plain");
        assert_eq!(told(FileKind::Image, "image/jpeg"), "image.jpg image/jpeg");
    }
}
