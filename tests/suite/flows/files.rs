//! Files in what we send: of the connection's own, of the right type and size, taken to Meta once for each number.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use channel::jobs::{Author, Reply};
use domain::connection::State;
use domain::ids::ConversationId;
use domain::outgoing::{Action, Header, Outgoing, ReplyButton, Source};
use meta_sim::{KeptFile, Line, smallest_file};
use serde_json::json;
use world::story::{ACCESS_TOKEN, ANA, NUMBER, OTHER_NUMBER, World, connection_id, reply};

use super::{DAY, HOUR, MINUTE, SECOND};
use crate::{in_each_way, in_every_way};

const PDF: &str = "application/pdf";
const OGG: &str = "audio/ogg; codecs=opus";
/// A key under the demo connection.
const KEY: &str = "demo/uploads/20717/1";

/// Something lies in the bucket, as if it had been uploaded there.
async fn lies(world: &World, key: &str, mime_type: &str, bytes: Vec<u8>) {
    world.s3.blobs("test").put(key, mime_type, bytes).await.expect("the bucket takes it");
}

fn file(key: &str) -> Source {
    Source::File(key.to_owned())
}

fn content(mime_type: &str, bytes: &[u8]) -> Source {
    Source::Content { base64: STANDARD.encode(bytes), mime_type: mime_type.to_owned() }
}

fn document(source: Source) -> Outgoing {
    Outgoing::Document { source, caption: Some("Your quote".to_owned()), filename: Some("quote.pdf".to_owned()) }
}

fn image(source: Source) -> Outgoing {
    Outgoing::Image { source, caption: None }
}

/// The agent's reply of its own accord, told apart from others by a serial number.
async fn of_agent(world: &World, message: Outgoing, serial: u32) -> Reply {
    Reply { message: Some(message), ..world.of_agent(&world.conversation(ANA).await.id, "", serial) }
}

/// Ana has written to this number, and nobody has answered yet.
async fn ana_wrote(world: &World, number: &str) {
    world.agent_is_silent();
    world.writes_to(number, ANA, "hello");
    world.sleep(SECOND).await;
}

/// What has reached Ana's phone of us.
fn reached(world: &World) -> Vec<Line> {
    let mut lines = world.meta.phone(ANA).screen();
    lines.retain(|it| it.from == meta_sim::Author::Business && it.delivered.is_some());
    lines
}

/// The file that reached her last, as Meta keeps it.
fn last_file(world: &World) -> KeptFile {
    let line = reached(world).pop().expect("something came");
    let part = if line.kind == "interactive" { &line.content["header"]["image"] } else { &line.content };
    world.meta.file(part["id"].as_str().expect("it was sent by id")).expect("Meta keeps it")
}

#[tokio::test]
async fn an_agents_document_goes_out_from_its_key() {
    in_every_way(async |world: &World| {
        lies(world, KEY, PDF, smallest_file(PDF)).await;
        ana_wrote(world, NUMBER).await;
        world.sends(&of_agent(world, document(file(KEY)), 1).await).await;
        world.settle().await;
        let line = reached(world).pop().expect("it came");
        assert_eq!((line.kind.as_str(), line.text.as_deref()), ("document", Some("Your quote")));
        assert_eq!(line.content["filename"], "quote.pdf");
        let at_meta = last_file(world);
        assert_eq!((at_meta.mime_type.as_str(), at_meta.name.as_deref()), (PDF, Some("document.pdf")));
        assert_eq!(at_meta.bytes, smallest_file(PDF));
        assert_eq!(world.history(ANA).await, ["> hello", "< [document] (example, Delivered)"]);
    })
    .await;
}

#[tokio::test]
async fn a_persons_picture_comes_along_and_is_kept_in_the_bucket_only() {
    in_every_way(async |world: &World| {
        ana_wrote(world, NUMBER).await;
        let png = [smallest_file("image/png"), b"Ana's garden".to_vec()].concat();
        let conversation = world.conversation(ANA).await.id;
        let said = Reply { message: Some(image(content("image/png", &png))), ..of_person(&conversation, world) };
        world.sends(&said).await;
        world.settle().await;
        assert_eq!(last_file(world).bytes, png);
        let keys = world.s3.keys();
        assert!(keys.len() == 1 && keys[0].starts_with("demo/uploads/"), "{keys:?}");
        let base64 = STANDARD.encode(&png);
        assert!(world.everything().iter().all(|it| !it.contains(&base64)), "no item holds the file");
        world.erases(&conversation).await;
        world.pass(HOUR).await;
        assert_eq!(world.s3.keys(), Vec::<String>::new(), "it goes with the conversation");
    })
    .await;
}

/// A person's message under an id of its own.
fn of_person(conversation: &ConversationId, world: &World) -> Reply {
    Reply { id: Some(world.job_id(1)), ..reply(conversation, Author::Person("Eva".to_owned()), "") }
}

#[tokio::test]
async fn a_voice_note_plays_as_voice() {
    in_every_way(async |world: &World| {
        lies(world, KEY, "audio/ogg", smallest_file(OGG)).await;
        ana_wrote(world, NUMBER).await;
        world.sends(&of_agent(world, Outgoing::Audio { source: file(KEY), voice: true }, 1).await).await;
        world.settle().await;
        let at_meta = last_file(world);
        assert_eq!((at_meta.mime_type.as_str(), at_meta.name.as_deref()), (OGG, Some("voice.ogg")));
        let voice = reached(world).pop().expect("it came");
        assert_eq!(voice.content["voice"], true);
        world.meta.phone(ANA).plays(&voice.id).expect("it is a voice message");
        world.settle().await;
        assert_eq!(world.history(ANA).await, ["> hello", "< [audio] (example, Read)"]);
    })
    .await;
}

#[tokio::test]
async fn a_picture_stands_over_buttons() {
    let world = World::new().await;
    ana_wrote(&world, NUMBER).await;
    let buttons = vec![ReplyButton { id: "yes".to_owned(), title: "Yes".to_owned() }];
    let message = Outgoing::Interactive {
        header: Some(Header::Image(content("image/jpeg", &smallest_file("image/jpeg")))),
        body: "This one?".to_owned(),
        footer: None,
        action: Action::Buttons { buttons },
    };
    world.sends(&of_agent(&world, message, 1).await).await;
    world.settle().await;
    assert_eq!(last_file(&world).bytes, smallest_file("image/jpeg"));
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_before_anything_is() {
    in_every_way(async |world: &World| {
        lies(world, "other/uploads/20717/1", PDF, smallest_file(PDF)).await;
        lies(world, "demo/uploads/20717/page", "text/html", b"<p>".to_vec()).await;
        lies(world, "demo/uploads/20717/empty", PDF, Vec::new()).await;
        lies(world, "demo/uploads/20717/large", "image/png", vec![0; (5 << 20) + 1]).await;
        lies(world, "demo/uploads/20717/vorbis", "audio/ogg", b"OggS and something else than opus in it".to_vec()).await;
        lies(world, KEY, PDF, smallest_file(PDF)).await;
        ana_wrote(world, NUMBER).await;
        let voice = |key: &str| Outgoing::Audio { source: file(key), voice: true };
        let refused = [
            (document(file("other/uploads/20717/1")), "file_not_yours"),
            (document(file("other/uploads/20717/2")), "file_not_yours"),
            (document(file("demo/uploads/../../other/uploads/20717/1")), "file_not_yours"),
            (document(file("demo/uploads/20717/nothing")), "file_not_found"),
            (document(file("demo/uploads/20717/page")), "file_type"),
            (document(file("demo/uploads/20717/empty")), "file_type"),
            (image(file(KEY)), "file_type"),
            (image(file("demo/uploads/20717/large")), "file_too_large"),
            (voice(KEY), "file_type"),
            (voice("demo/uploads/20717/vorbis"), "file_type"),
            (image(content("image/gif", b"GIF89a")), "invalid"),
            (image(Source::Content { base64: "Ana's secret".to_owned(), mime_type: "image/png".to_owned() }), "invalid"),
            (document(Source::Link("http://example.com/a.pdf".to_owned())), "invalid"),
        ];
        for (index, (message, _)) in (1..).zip(&refused) {
            world.sends(&of_agent(world, message.clone(), index).await).await;
            world.settle().await;
        }
        let codes: Vec<&str> = refused.iter().map(|it| it.1).collect();
        assert_eq!(world.codes(), codes);
        let notes: Vec<String> = world.refusals().into_iter().map(|it| it.note).collect();
        assert_eq!(notes[0], notes[1], "it does not tell whether another's file is there");
        assert_eq!(
            notes[7],
            "The file is larger than WhatsApp takes: at most 5242880 bytes. Make it smaller, or send a link to it as text."
        );
        assert_eq!((world.meta.uploads(NUMBER), reached(world).len()), (0, 0));
        assert!(world.everything().iter().all(|it| !it.contains("Ana's secret")));
    })
    .await;
}

#[tokio::test]
async fn a_file_is_taken_to_meta_once_for_each_number_and_anew_after_a_month() {
    let world = World::new().await;
    lies(&world, KEY, PDF, smallest_file(PDF)).await;
    lies(&world, "demo/uploads/20717/2", PDF, smallest_file(PDF)).await;
    ana_wrote(&world, NUMBER).await;
    let uploads = || (world.meta.uploads(NUMBER), world.meta.uploads(OTHER_NUMBER));
    let sends = async |key: &str, index| {
        world.sends(&of_agent(&world, document(file(key)), index).await).await;
        world.settle().await;
    };
    sends(KEY, 1).await;
    sends(KEY, 2).await;
    assert_eq!(uploads(), (1, 0), "its id is used again");
    sends("demo/uploads/20717/2", 3).await;
    assert_eq!(uploads(), (1, 0), "another key with the same in it is the same file");
    lies(&world, KEY, PDF, b"%PDF of another kind".to_vec()).await;
    sends(KEY, 4).await;
    assert_eq!(uploads(), (2, 0), "the same key with something else in it is another");
    world.writes_to(OTHER_NUMBER, ANA, "hello");
    world.settle().await;
    sends(KEY, 5).await;
    assert_eq!(uploads(), (2, 1), "an id is good for its number");
    world.pass(DAY * 29 - MINUTE).await;
    world.writes_to(OTHER_NUMBER, ANA, "hello again");
    world.settle().await;
    sends(KEY, 6).await;
    assert_eq!(uploads(), (2, 1));
    world.pass(MINUTE).await;
    sends(KEY, 7).await;
    assert_eq!(uploads(), (2, 2), "Meta may forget it any day now");
    assert_eq!(reached(&world).len(), 7);
    assert_eq!(world.accepted(), (1, 7));
}

#[tokio::test]
async fn an_id_that_meta_does_not_know_any_more_is_asked_for_anew_once() {
    in_each_way(async |world: &World| {
        lies(world, KEY, PDF, smallest_file(PDF)).await;
        ana_wrote(world, NUMBER).await;
        world.sends(&of_agent(world, document(file(KEY)), 1).await).await;
        world.settle().await;
        let id = reached(world)[0].content["id"].as_str().expect("an id").to_owned();
        assert!(world.meta.forget_file(&id));
        world.sends(&of_agent(world, document(file(KEY)), 2).await).await;
        world.settle().await;
        assert_eq!((reached(world).len(), world.meta.uploads(NUMBER)), (2, 2));
        // What Meta refuses of a file that was taken there just now, it will always refuse.
        assert!(world.meta.forget_file(reached(world)[1].content["id"].as_str().expect("an id")));
        world.meta.fail_next(None, None, meta_sim::Fault::Error { code: 131_009, subcode: None });
        world.sends(&of_agent(world, document(file(KEY)), 3).await).await;
        world.settle().await;
        assert_eq!(world.codes(), ["131009"]);
        assert_eq!(world.meta.uploads(NUMBER), 3);
    })
    .await;
}

#[tokio::test]
async fn while_meta_does_not_take_the_file_the_reply_waits_and_then_goes_out_once() {
    in_each_way(async |world: &World| {
        lies(world, KEY, PDF, smallest_file(PDF)).await;
        ana_wrote(world, NUMBER).await;
        world.meta.fail_calls(&format!("{NUMBER}/media"), None, 3);
        world.sends(&of_agent(world, document(file(KEY)), 1).await).await;
        world.sends(&of_agent(world, Outgoing::Text { text: "as promised".to_owned(), preview_url: false }, 2).await).await;
        world.settle().await;
        assert_eq!(reached(world).len(), 0);
        world.pass(5 * MINUTE).await;
        let kinds: Vec<String> = reached(world).into_iter().map(|it| it.kind).collect();
        assert_eq!(kinds, ["document", "text"], "in their order");
        assert_eq!(world.codes(), [""; 0]);
        // The answer is lost, and the file is taken there: it is taken again.
        world.meta.cut_call(0, true);
        lies(world, KEY, PDF, b"%PDF of another kind".to_vec()).await;
        world.sends(&of_agent(world, document(file(KEY)), 3).await).await;
        world.pass(5 * MINUTE).await;
        assert_eq!((reached(world).len(), world.meta.uploads(NUMBER)), (3, 3));
    })
    .await;
}

#[tokio::test]
async fn a_file_that_meta_will_not_take_ends_the_reply_with_metas_words() {
    in_every_way(async |world: &World| {
        lies(world, KEY, PDF, smallest_file(PDF)).await;
        ana_wrote(world, NUMBER).await;
        world.meta.fail_calls(&format!("{NUMBER}/media"), Some(131_053), u32::MAX);
        world.sends(&of_agent(world, document(file(KEY)), 1).await).await;
        world.settle().await;
        assert_eq!(world.codes(), ["131053"]);
        assert_eq!(world.history(ANA).await, ["> hello", "< [document] (example, Failed)"]);
        assert_eq!(world.accepted().1, 0);
    })
    .await;
}

#[tokio::test]
async fn a_file_that_meta_always_has_trouble_with_keeps_nothing_behind_it_for_long() {
    let world = World::new().await;
    lies(&world, KEY, PDF, smallest_file(PDF)).await;
    ana_wrote(&world, NUMBER).await;
    world.meta.fail_calls(&format!("{NUMBER}/media"), None, u32::MAX);
    world.sends(&of_agent(&world, document(file(KEY)), 1).await).await;
    world.sends(&of_agent(&world, Outgoing::Text { text: "as promised".to_owned(), preview_url: false }, 2).await).await;
    world.pass(20 * MINUTE).await;
    assert_eq!(reached(&world).len(), 0, "it is tried for a while");
    world.pass(20 * MINUTE).await;
    assert_eq!(reached(&world).into_iter().map(|it| it.kind).collect::<Vec<_>>(), ["text"]);
    assert_eq!(world.codes().len(), 1, "the file's reply is told as failed");
    let later = world.every_event().into_iter().map(|it| serde_json::to_value(it).expect("JSON")).any(|it| it["retry"] == "later");
    assert!(later, "it may be sent again");
}

#[tokio::test]
async fn a_dead_token_is_noticed_at_the_file_and_the_reply_goes_out_with_the_next() {
    let world = World::new().await;
    lies(&world, KEY, PDF, smallest_file(PDF)).await;
    ana_wrote(&world, NUMBER).await;
    world.meta.expire_token(ACCESS_TOKEN);
    world.sends(&of_agent(&world, document(file(KEY)), 1).await).await;
    world.settle().await;
    assert_eq!(world.state(&connection_id()).await, State::Error);
    assert_eq!(reached(&world).len(), 0);
    world.meta.change_token(ACCESS_TOKEN, |it| it.expires_at_ms = None);
    world.run().await;
    world.pass(5 * MINUTE).await;
    assert_eq!(reached(&world).len(), 1);
    assert_eq!(world.accepted(), (1, 1));
}

#[tokio::test]
async fn what_meta_finds_wrong_in_a_file_later_stands_on_the_message() {
    in_every_way(async |world: &World| {
        lies(world, KEY, "image/png", b"no picture at all".to_vec()).await;
        ana_wrote(world, NUMBER).await;
        world.sends(&of_agent(world, image(file(KEY)), 1).await).await;
        world.settle().await;
        world.sleep(SECOND).await;
        assert_eq!(world.accepted(), (1, 1), "Meta takes it first");
        assert_eq!(world.codes(), ["131053"]);
        assert_eq!(world.history(ANA).await, ["> hello", "< [image] (example, Failed)"]);
    })
    .await;
}

#[tokio::test]
async fn a_closed_window_is_told_before_a_file_goes_anywhere_and_later_it_is_sent_again() {
    let world = World::new().await;
    ana_wrote(&world, NUMBER).await;
    world.pass(DAY).await;
    let png = smallest_file("image/png");
    world.sends(&of_agent(&world, image(content("image/png", &png)), 1).await).await;
    world.settle().await;
    assert_eq!(world.codes(), ["template_only"]);
    assert_eq!(world.meta.uploads(NUMBER), 0);
    world.writes(ANA, "I am back");
    world.settle().await;
    let told = world.events().into_iter().map(|it| serde_json::to_value(it).expect("JSON"));
    let refused = told.filter(|it| it["code"] == "template_only").find_map(|it| it["message"].as_str().map(str::to_owned));
    let path = format!("/v1/conversations/{}/resend", refused.expect("a message").replacen('/', "/messages/", 1));
    let key = [("idempotency-key", "again")];
    let answer = world.api_of("demo", "POST", &path, &key, Some(json!({ "person": "Eva" }))).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    world.settle().await;
    assert_eq!(last_file(&world).bytes, png, "what came along is kept");
}

#[tokio::test]
async fn a_person_sends_files_through_the_api_and_is_told_at_once_what_cannot_be_sent() {
    let world = World::new().await;
    lies(&world, KEY, PDF, smallest_file(PDF)).await;
    lies(&world, "other/uploads/20717/1", PDF, smallest_file(PDF)).await;
    ana_wrote(&world, NUMBER).await;
    let path = format!("/v1/conversations/{}/messages", world.conversation(ANA).await.id);
    let sends = async |key: &str, message: Outgoing| {
        let body = json!({ "message": message, "person": "Eva" });
        let answer = world.api_of("demo", "POST", &path, &[("idempotency-key", key)], Some(body)).await;
        world.settle().await;
        (answer.status, answer.body["code"].as_str().unwrap_or_default().to_owned())
    };
    let refused = |code: &str| (409, code.to_owned());
    assert_eq!(sends("1", document(file("other/uploads/20717/1"))).await, refused("file_not_yours"));
    assert_eq!(sends("2", document(file("demo/uploads/20717/2"))).await, refused("file_not_found"));
    assert_eq!(sends("3", image(file(KEY))).await, refused("file_type"));
    assert_eq!(sends("4", document(Source::Link("https://10.0.0.1/a.pdf".to_owned()))).await, (422, "invalid".to_owned()));
    assert_eq!(world.events().len(), 1, "nothing was begun: {:?}", world.events());
    assert_eq!(sends("5", document(file(KEY))).await, (202, String::new()));
    assert_eq!(last_file(&world).bytes, smallest_file(PDF));
    let most = [smallest_file("image/png"), vec![0; meta::outgoing::files::CONTENT_LIMIT - smallest_file("image/png").len()]].concat();
    assert_eq!(sends("6", image(content("image/png", &most))).await, (202, String::new()));
    assert!(last_file(&world).bytes == most, "the largest that may come along");
    let more = [most, vec![0]].concat();
    assert_eq!(sends("7", image(content("image/png", &more))).await, (422, "invalid".to_owned()));
    assert_eq!(reached(&world).len(), 2);
}
