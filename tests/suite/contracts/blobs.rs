//! S3, as far as files need it: in parts, by links, by their names.

use std::time::Duration;

use aws_sdk_s3::config::{BehaviorVersion, RequestChecksumCalculation, ResponseChecksumValidation};
use channel::blobs::{Blobs, Head, PART};
use world::s3::Bucket;

use super::{Engines, Kind};

const VALID: Duration = Duration::from_mins(5);

impl Engines {
    /// An empty bucket of this name.
    async fn bucket(&self, name: &str) -> Blobs {
        match &self.kind {
            Kind::World { clock, .. } => Bucket::new(name, clock).await.blobs("contract"),
            Kind::Ministack(ministack) => {
                let config = ministack.s3();
                let client = aws_sdk_s3::Client::from_conf(config.clone().behavior_version(BehaviorVersion::latest()).build());
                client.create_bucket().bucket(name).send().await.expect("is made");
                let config = config.request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
                let config = config.response_checksum_validation(ResponseChecksumValidation::WhenRequired);
                Blobs::new(config.behavior_version(BehaviorVersion::latest()).build(), name)
            }
        }
    }
}

/// All of an object.
async fn all(blobs: &Blobs, key: &str) -> Vec<u8> {
    let mut blob = blobs.get(key).await.expect("is read").expect("is there");
    let mut all = Vec::new();
    while let Some(it) = blob.chunk().await.expect("is read") {
        all.extend_from_slice(&it);
    }
    all
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().tls_backend_preconfigured(meta::graph::tls().expect("ring")).build().expect("a client")
}

pub(super) async fn a_file_that_is_put_in_parts_is_whole(engines: &Engines) {
    let blobs = engines.bucket("parts").await;
    let bytes: Vec<u8> = (0..20 << 20).map(|it: u32| it.to_le_bytes()[1]).collect();
    for length in [0, 1, PART - 1, PART, PART + 1, bytes.len()] {
        let mut upload = blobs.begin("demo/file", "application/pdf");
        for chunk in bytes[..length].chunks(100_000) {
            upload.push(chunk).await.expect("is taken");
        }
        assert_eq!(blobs.head("demo/other").await.expect("is told"), None);
        assert_eq!(upload.finish().await.expect("is put"), length as u64);
        assert!(all(&blobs, "demo/file").await == bytes[..length], "{length} bytes");
        let head = blobs.head("demo/file").await.expect("is told");
        let Some(Head { size, content_type, etag }) = head else { panic!("{length} bytes are not there") };
        assert_eq!((size, content_type.as_deref()), (length as u64, Some("application/pdf")), "{length} bytes");
        // The name tells how many parts it was sent in: none but whole ones, and the rest.
        // https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
        let etag = etag.unwrap_or_default();
        let parts = etag.trim_matches('"').split_once('-').map(|it| it.1.parse::<usize>().expect("a number"));
        assert_eq!(parts, (length >= PART).then(|| length.div_ceil(PART)), "{length} bytes are {etag}");
    }
}

pub(super) async fn what_is_given_up_or_never_finished_is_not_there(engines: &Engines) {
    let blobs = engines.bucket("given-up").await;
    for is_given_up in [true, false] {
        let mut upload = blobs.begin("demo/file", "application/pdf");
        upload.push(&vec![7; PART + 1]).await.expect("is taken");
        if is_given_up {
            upload.abort().await.expect("is given up");
        }
        assert_eq!(blobs.head("demo/file").await.expect("is told"), None);
        assert_eq!(blobs.list("demo/", None, 10).await.expect("is listed"), Vec::<String>::new());
    }
}

pub(super) async fn the_first_bytes_of_a_file_are_read_alone(engines: &Engines) {
    let blobs = engines.bucket("first").await;
    blobs.put("demo/voice", "audio/ogg", "OggS and so on".as_bytes()).await.expect("is put");
    assert_eq!(blobs.first("demo/voice", 4).await.expect("is read"), Some(b"OggS".to_vec()));
    assert_eq!(blobs.first("demo/voice", 1_000).await.expect("is read"), Some(b"OggS and so on".to_vec()));
    blobs.put("demo/empty", "audio/ogg", Vec::new()).await.expect("is put");
    assert_eq!(blobs.first("demo/empty", 4).await.expect("is read"), Some(Vec::new()));
}

pub(super) async fn what_is_not_there_is_no_error(engines: &Engines) {
    let blobs = engines.bucket("nothing").await;
    assert!(blobs.get("demo/none").await.expect("is told").is_none());
    assert_eq!(blobs.head("demo/none").await.expect("is told"), None);
    assert_eq!(blobs.first("demo/none", 4).await.expect("is told"), None);
    blobs.put("demo/one", "text/plain", "one".as_bytes()).await.expect("is put");
    blobs.delete(&["demo/none".to_owned(), "demo/one".to_owned()]).await.expect("is deleted");
    blobs.delete(&[]).await.expect("nothing is asked");
    assert_eq!(blobs.head("demo/one").await.expect("is told"), None);
}

pub(super) async fn objects_are_listed_in_order_from_a_place_on(engines: &Engines) {
    let blobs = engines.bucket("listed").await;
    for key in ["demo/b/2", "demo/a/9", "other/a", "demo/a/10", "demo-other"] {
        blobs.put(key, "text/plain", key.as_bytes()).await.expect("is put");
    }
    let list = async |after, limit| blobs.list("demo/", after, limit).await.expect("is listed");
    assert_eq!(list(None, 10).await, ["demo/a/10", "demo/a/9", "demo/b/2"]);
    assert_eq!(list(None, 2).await, ["demo/a/10", "demo/a/9"]);
    assert_eq!(list(Some("demo/a/9"), 10).await, ["demo/b/2"]);
    assert_eq!(blobs.list("nobody/", None, 10).await.expect("is listed"), Vec::<String>::new());
}

pub(super) async fn a_link_opens_a_file_and_saves_it_under_its_name(engines: &Engines) {
    let blobs = engines.bucket("links").await;
    blobs.put("demo/file", "application/pdf", "a quote".as_bytes()).await.expect("is put");
    let get = async |filename: Option<&str>| {
        let link = blobs.link("demo/file", VALID, filename).await.expect("is signed");
        let answer = client().get(&link).send().await.expect("is answered");
        assert_eq!(answer.status(), 200, "{filename:?}");
        let header = |name: &str| answer.headers().get(name).map(|it| it.to_str().expect("text").to_owned());
        let told = (header("content-type"), header("content-disposition"));
        assert_eq!(answer.bytes().await.expect("all of it"), "a quote");
        (link, told)
    };
    let (link, (content_type, disposition)) = get(None).await;
    assert_eq!((content_type.as_deref(), disposition), (Some("application/pdf"), None));
    let (_, (_, disposition)) = get(Some("quote \"7\" for Zoë\r\n.pdf")).await;
    let expected = "attachment; filename=\"quote _7_ for Zo___.pdf\"; filename*=UTF-8''quote%20%227%22%20for%20Zo%C3%AB__.pdf";
    assert_eq!(disposition.as_deref(), Some(expected));
    // Whoever changes anything in it opens nothing.
    let other = link.replace("demo/file", "demo/other");
    blobs.put("demo/other", "application/pdf", "another".as_bytes()).await.expect("is put");
    let status = client().get(&other).send().await.expect("is answered").status();
    assert_eq!(status, 403);
}

pub(super) async fn an_upload_link_takes_what_it_was_made_for(engines: &Engines) {
    let blobs = engines.bucket("uploads").await;
    let link = blobs.upload_link("demo/upload", "application/pdf", 7, VALID).await.expect("is signed");
    let put = async |content_type: &str, body: &'static str| {
        let request = client().put(&link).header("content-type", content_type).body(body);
        request.send().await.expect("is answered").status().as_u16()
    };
    assert_eq!(put("text/html", "a quote").await, 403, "another type");
    assert_eq!(put("application/pdf", "a longer quote").await, 403, "another length");
    assert_eq!(put("application/pdf", "a quote").await, 200);
    assert_eq!(all(&blobs, "demo/upload").await, b"a quote");
}
