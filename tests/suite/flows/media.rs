//! Customers' files: what the agent gets of them, in which order, and what it is told when there is none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use channel::jobs::{Turn, TurnFile};
use channel::store::FileItem;
use domain::connection::State;
use domain::ids::MessageKey;
use meta_sim::{File, Inbound, Token, Written};
use sha2::{Digest, Sha256};
use world::mapping::Freely;
use world::story::{ACCESS_TOKEN, ANA, APP, NUMBER, OTHER_NUMBER, WABA, World, connection_id};
use world::wire::{Fault, Rule};

use super::{DAY, HOUR, MINUTE, SECOND};
use crate::speech::{KEY, Recogniser, SENTENCE, holds_the_content, spoken};
use crate::{in_each_way, in_every_way};

/// A file of these words.
fn file(words: &str) -> File {
    File { base64: Some(STANDARD.encode(words)), mime_type: None, caption: None, filename: None }
}

/// The file of the turn that was told last.
fn last_file(world: &World) -> TurnFile {
    world.turns().last().expect("a turn").file.clone().expect("it has a file")
}

/// What lies behind a turn's link.
async fn opened(file: &TurnFile) -> Vec<u8> {
    let client = reqwest::Client::builder().tls_backend_preconfigured(meta::graph::tls().expect("ring")).build().expect("a client");
    let answer = client.get(file.url.as_deref().expect("there is a link")).send().await.expect("the bucket answers");
    assert_eq!(answer.status(), 200);
    answer.bytes().await.expect("all of it").to_vec()
}

/// What became of the file of a turn, as it is kept.
async fn kept(world: &World, turn: &Turn) -> Option<FileItem> {
    world.store.file(&MessageKey::parse(&turn.turn).expect("a key")).await.expect("the store answers")
}

#[tokio::test]
async fn the_agent_gets_a_file_that_it_can_open() {
    in_every_way(async |world: &World| {
        let document =
            File { filename: Some("../quote \"7\".pdf".to_owned()), mime_type: Some("application/pdf".to_owned()), ..file("a quote") };
        let cases = [
            (Inbound::Image(file("a photo")), "a photo", "image/jpeg", "image.jpg"),
            (Inbound::Video(file("a film")), "a film", "video/mp4", "video.mp4"),
            (Inbound::Audio(file("a voice")), "a voice", "audio/ogg; codecs=opus", "audio.ogg"),
            (Inbound::Document(document), "a quote", "application/pdf", "quote 7.pdf"),
            (Inbound::Sticker(file("a sticker")), "a sticker", "image/webp", "sticker.webp"),
        ];
        for (inbound, words, mime_type, filename) in cases {
            world.writes_to(NUMBER, ANA, inbound);
            world.settle().await;
            let file = last_file(world);
            assert_eq!(opened(&file).await, words.as_bytes());
            assert_eq!((file.mime_type.as_deref(), file.filename.as_deref()), (Some(mime_type), Some(filename)));
            let sha256: String = Sha256::digest(words).iter().map(|it| format!("{it:02x}")).collect();
            assert_eq!((file.size, file.sha256), (Some(words.len() as u64), Some(sha256)));
            assert_eq!(file.expires_at, Some(world.now().plus(HOUR)));
            assert_eq!((file.differs, file.missing), (false, None));
        }
        assert_eq!(world.s3.keys().len(), 5, "each file lies there once");
    })
    .await;
}

#[tokio::test]
async fn a_text_does_not_overtake_the_file_before_it_nor_does_the_one_behind_it() {
    in_each_way(async |world: &World| {
        world.meta.fail_calls("whatsapp_business/attachments", None, 3);
        world.writes(ANA, "look at this");
        world.settle().await;
        world.writes_to(NUMBER, ANA, Inbound::Image(file("a photo")));
        world.settle().await;
        world.writes(ANA, "do you see it?");
        world.settle().await;
        world.writes(ANA, "well?");
        world.settle().await;
        assert_eq!(world.told_of(ANA).await, ["look at this"], "Meta does not give the photo yet");
        world.pass(MINUTE).await;
        assert_eq!(world.told_of(ANA).await, ["look at this", "image", "do you see it?", "well?"]);
        let conversation = world.conversation(ANA).await;
        assert_eq!(conversation.in_media, None);
        let before = world.sqs.faults().calls_by("media").values().sum::<u64>();
        world.writes(ANA, "thanks");
        world.settle().await;
        assert_eq!(world.told_of(ANA).await.last().map(String::as_str), Some("thanks"));
        assert_eq!(world.sqs.faults().calls_by("media").values().sum::<u64>(), before, "it went straight to the agent");
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_had_in_a_minute_does_not_hold_the_conversation_up() {
    in_each_way(async |world: &World| {
        world.meta.fail_calls("whatsapp_business/attachments", None, u32::MAX);
        world.writes_to(NUMBER, ANA, Inbound::Image(file("a photo")));
        world.settle().await;
        world.writes(ANA, "do you see it?");
        world.pass(2 * MINUTE).await;
        assert_eq!(world.told_of(ANA).await, ["image", "do you see it?"]);
        let missing = world.turns()[0].file.clone().and_then(|it| it.missing).expect("it says why");
        assert_eq!(missing.code, "media_unavailable");
        assert_eq!(world.s3.keys(), Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn an_address_that_grew_too_old_is_looked_up_anew() {
    let world = World::new().await;
    world.meta.fail_calls("whatsapp_business/attachments", Some(404), 2);
    world.writes_to(NUMBER, ANA, Inbound::Image(file("a photo")));
    world.pass(MINUTE).await;
    assert_eq!(opened(&last_file(&world)).await, b"a photo");
}

#[tokio::test]
async fn what_is_not_what_meta_announced_is_fetched_once_more_and_then_said_to_differ() {
    let world = World::new().await;
    world.meta.alter_files(1);
    world.writes_to(NUMBER, ANA, Inbound::Image(file("a photo")));
    world.pass(MINUTE).await;
    assert!(!last_file(&world).differs);
    assert_eq!(opened(&last_file(&world)).await, b"a photo");
    world.meta.alter_files(2);
    world.writes_to(NUMBER, ANA, Inbound::Image(file("another")));
    world.pass(MINUTE).await;
    assert!(last_file(&world).differs);
    assert_eq!(opened(&last_file(&world)).await, b"something else");
}

#[tokio::test]
async fn a_file_that_meta_does_not_keep_any_more_is_told_as_such() {
    let world = World::new().await;
    stops(&world).await;
    world.meta.fail_calls("whatsapp_business/attachments", None, 20);
    world.writes_to(NUMBER, ANA, Inbound::Image(file("a photo")));
    world.pass(10 * MINUTE).await;
    assert_eq!(world.s3.keys(), Vec::<String>::new());
    world.pass(DAY * 7).await;
    runs(&world).await;
    world.pass(2 * MINUTE).await;
    let missing = last_file(&world).missing.expect("it says why");
    assert_eq!(missing.code, "media_expired");
}

/// The connection runs again, and what is owed is handed over.
async fn runs(world: &World) {
    world.run().await;
    world.walk().await;
}

/// A person enters a token that works.
async fn gets_another_token(world: &World) {
    world.meta.put_token(Token::new("another-token", APP, &[WABA]));
    world.replace_token("another-token").await;
    world.sleep(6 * SECOND).await;
}

/// The connection is stopped by hand.
async fn stops(world: &World) {
    world.stop().await;
    world.settle().await;
}

#[tokio::test]
async fn a_connection_that_is_stopped_fetches_and_one_in_error_fetches_when_it_runs_again() {
    for is_dead in [false, true] {
        let world = World::new().await;
        if is_dead {
            world.meta.revoke_token(ACCESS_TOKEN, 460);
            world.writes(ANA, "hello");
            world.pass(MINUTE).await;
            assert_eq!(world.state(&connection_id()).await, State::Error);
        } else {
            stops(&world).await;
        }
        world.writes_to(NUMBER, ANA, Inbound::Image(file("a photo")));
        world.pass(SECOND).await;
        world.writes(ANA, "do you see it?");
        world.pass(10 * MINUTE).await;
        assert_eq!(world.s3.keys().len(), usize::from(!is_dead), "dead: {is_dead}");
        if is_dead {
            gets_another_token(&world).await;
        }
        runs(&world).await;
        world.pass(2 * MINUTE).await;
        let told = world.told_of(ANA).await;
        assert_eq!(told[told.len() - 2..], ["image", "do you see it?"]);
        let turns = world.turns();
        let turn = &turns[turns.len() - 2];
        assert!(turn.late);
        assert_eq!(opened(&turn.file.clone().expect("a file")).await, b"a photo");
    }
}

#[tokio::test]
async fn a_voice_message_whose_file_has_gone_when_its_turn_is_handed_over_holds_nobody_up() {
    let world = World::new().await;
    stops(&world).await;
    world.writes_to(NUMBER, ANA, Inbound::Audio(file("a voice")));
    world.pass(SECOND).await;
    world.writes(ANA, "did you hear it?");
    world.pass(MINUTE).await;
    let speech = serde_json::json!({ "speech_to_text": { "url": "http://127.0.0.1:9/transcriptions", "model": "any", "key": KEY } });
    assert_eq!(world.api("PUT", "/v1/connections/demo/agents/example", Some(speech)).await.0, 200);
    world.s3.blobs("test").delete(&world.s3.keys()).await.expect("the bucket answers");
    runs(&world).await;
    world.pass(MINUTE).await;
    assert_eq!(world.told_of(ANA).await, ["audio", "did you hear it?"]);
    let missing = world.turns()[0].transcript.clone().and_then(|it| it.missing).expect("it says why");
    assert_eq!(missing.code, "speech_unreadable");
}

#[tokio::test]
async fn what_is_owed_anew_is_not_overtaken_by_what_was_owed_behind_it() {
    let world = World::new().await;
    world.meta.revoke_token(ACCESS_TOKEN, 460);
    world.writes_to(NUMBER, ANA, Inbound::Image(file("a photo")));
    world.pass(SECOND).await;
    world.writes(ANA, "do you see it?");
    world.pass(5 * MINUTE).await;
    // It is started again with the token that is dead.
    runs(&world).await;
    world.pass(5 * MINUTE).await;
    assert_eq!(world.told_of(ANA).await, Vec::<String>::new());
    gets_another_token(&world).await;
    runs(&world).await;
    world.pass(2 * MINUTE).await;
    assert_eq!(world.told_of(ANA).await, ["image", "do you see it?"]);
}

#[tokio::test]
async fn a_token_that_dies_in_between_loses_no_file() {
    let world = World::new().await;
    world.meta.revoke_token(ACCESS_TOKEN, 460);
    world.writes_to(NUMBER, ANA, Inbound::Image(file("a photo")));
    world.pass(SECOND).await;
    world.writes(ANA, "do you see it?");
    world.pass(5 * MINUTE).await;
    assert_eq!(world.state(&connection_id()).await, State::Error, "Meta was asked how the token stands");
    assert_eq!(world.told_of(ANA).await, Vec::<String>::new());
    gets_another_token(&world).await;
    runs(&world).await;
    world.pass(2 * MINUTE).await;
    assert_eq!(world.told_of(ANA).await, ["image", "do you see it?"]);
    assert_eq!(opened(&world.turns()[0].file.clone().expect("a file")).await, b"a photo");
}

#[tokio::test]
async fn a_message_that_is_deleted_takes_its_file_with_it() {
    in_each_way(async |world: &World| {
        let wamid = world.writes_to(NUMBER, ANA, Inbound::Image(file("a photo")));
        world.settle().await;
        assert_eq!(world.s3.keys().len(), 1);
        world.writes_to(NUMBER, ANA, Inbound::Revoke { message_id: wamid });
        world.settle().await;
        assert_eq!(world.s3.keys(), Vec::<String>::new());
        assert_eq!(kept(world, &world.turns()[0]).await, None);
    })
    .await;
}

#[tokio::test]
async fn a_message_that_is_deleted_while_its_file_is_fetched_is_told_to_nobody() {
    let world = World::new().await;
    world.meta.fail_calls("whatsapp_business/attachments", None, 3);
    let wamid = world.writes_to(NUMBER, ANA, Inbound::Image(file("a photo")));
    world.settle().await;
    world.writes_to(NUMBER, ANA, Inbound::Revoke { message_id: wamid });
    world.pass(2 * MINUTE).await;
    assert_eq!((world.turns().len(), world.s3.keys()), (0, Vec::new()));
    assert_eq!(world.conversation(ANA).await.in_media, None);
}

#[tokio::test]
async fn what_comes_while_a_person_answers_is_fetched_for_them() {
    let world = World::new().await;
    world.writes(ANA, "hello");
    world.settle().await;
    world.hand(ANA, true).await;
    world.writes_to(NUMBER, ANA, Inbound::Image(file("a photo")));
    world.settle().await;
    assert_eq!(world.told_of(ANA).await, ["hello"]);
    assert_eq!(world.s3.keys().len(), 1);
}

#[tokio::test]
async fn a_person_who_takes_it_while_the_file_is_fetched_has_it() {
    let world = World::new().await;
    world.meta.fail_calls("whatsapp_business/attachments", None, 2);
    world.writes_to(NUMBER, ANA, Inbound::Image(file("a photo")));
    world.settle().await;
    world.hand(ANA, true).await;
    world.pass(MINUTE).await;
    assert_eq!(world.turns().len(), 0);
    world.hand(ANA, false).await;
    world.writes(ANA, "do you see it?");
    world.settle().await;
    assert_eq!(world.turns()[0].missed.len(), 1, "the agent is told what it missed");
}

#[tokio::test]
async fn an_erased_customers_file_on_its_way_is_not_kept() {
    let world = World::new().await;
    world.meta.fail_calls("whatsapp_business/attachments", None, 3);
    world.writes_to(NUMBER, ANA, Inbound::Image(file("a photo")));
    world.settle().await;
    let id = world.conversation(ANA).await.id;
    world.erases(&id).await;
    world.pass(20 * MINUTE).await;
    assert_eq!((world.turns().len(), world.s3.keys()), (0, Vec::new()));
}

#[tokio::test]
async fn an_erased_customers_files_go_those_too_of_which_nothing_was_noted() {
    let world = World::new().await;
    world.writes_to(NUMBER, ANA, Inbound::Image(file("a photo")));
    world.settle().await;
    world.writes(ANA, "do you see it?");
    world.settle().await;
    let [photo] = world.s3.keys().try_into().expect("one file");
    // A function that dies between the file and its note leaves such a one.
    let text = world.turns()[1].turn.rsplit('/').next().expect("an id").to_owned();
    let (folder, _) = photo.rsplit_once('/').expect("a folder");
    let blobs = world.s3.blobs("test");
    blobs.put(&format!("{folder}/{text}"), "image/jpeg", "left behind".as_bytes()).await.expect("the bucket answers");
    let id = world.conversation(ANA).await.id;
    world.erases(&id).await;
    world.settle().await;
    assert_eq!(world.s3.keys(), Vec::<String>::new());
    // So does one that ran still when the data were erased.
    blobs.put(&photo, "image/jpeg", "late".as_bytes()).await.expect("the bucket answers");
    world.pass(20 * MINUTE).await;
    assert_eq!(world.s3.keys(), Vec::<String>::new());
}

#[tokio::test]
async fn files_go_when_their_days_are_over_and_the_others_stay() {
    let world = World::new().await;
    world.writes_to(NUMBER, ANA, Inbound::Image(file("an old photo")));
    world.settle().await;
    world.sleep(50 * DAY).await;
    world.writes_to(NUMBER, ANA, Inbound::Image(file("a newer photo")));
    world.settle().await;
    let [old, newer] = world.s3.keys().try_into().expect("two files");
    for (days, left) in [(38, vec![old.clone(), newer.clone()]), (3, vec![newer.clone()])] {
        world.sleep(days * DAY).await;
        for _ in 0..24 {
            world.sleep(HOUR).await;
            world.schedule_all().await;
        }
        world.settle().await;
        assert_eq!(world.s3.keys(), left, "{days}");
    }
}

#[tokio::test]
async fn a_deleted_connections_files_go_with_it() {
    let world = World::new().await;
    world.writes_to(NUMBER, ANA, Inbound::Image(file("a photo")));
    world.settle().await;
    world.s3.blobs("test").put("another/inbound/00000/a", "image/jpeg", "anothers".as_bytes()).await.expect("the bucket answers");
    world.stop().await;
    assert_eq!(world.api("DELETE", "/v1/connections/demo", None).await.0, 204);
    world.pass(30 * MINUTE).await;
    assert_eq!(world.s3.keys(), ["another/inbound/00000/a"]);
}

#[tokio::test]
async fn what_meta_itself_could_not_take_is_told_as_such() {
    let world = World::new().await;
    world.writes_to(NUMBER, ANA, Inbound::Other { kind: "video".to_owned(), content: serde_json::json!({}) });
    world.settle().await;
    let missing = last_file(&world).missing.expect("it says why");
    assert_eq!(missing.code, "media_not_taken");
}

#[tokio::test]
async fn a_type_that_is_none_and_a_bucket_that_fails_hold_nobody_up() {
    let world = World::new().await;
    for mime_type in ["application/ü", "nonsense", "a/b\r\nx: y", &format!("a/{}", "b".repeat(300))] {
        world.writes_to(NUMBER, ANA, Inbound::Document(File { mime_type: Some(mime_type.to_owned()), ..file("a quote") }));
        world.settle().await;
        let told = last_file(&world);
        assert_eq!((told.mime_type.as_deref(), told.size), (Some("application/octet-stream"), Some(7)), "{mime_type}");
    }
    world.s3.faults().add(Rule::every(Fault::InternalError).by("media"));
    world.writes_to(NUMBER, ANA, Inbound::Image(file("a photo")));
    world.pass(SECOND).await;
    world.writes(ANA, "do you see it?");
    world.pass(3 * MINUTE).await;
    assert_eq!(world.told_of(ANA).await[4..], ["image", "do you see it?"]);
    let missing = world.turns()[4].file.clone().and_then(|it| it.missing).expect("it says why");
    assert_eq!(missing.code, "media_unavailable");
}

#[tokio::test]
async fn what_happens_while_a_file_is_on_its_way_decides_about_its_turn() {
    for is_deleted in [false, true] {
        let world = World::new().await;
        world.writes(ANA, "hello");
        world.settle().await;
        world.s3.faults().add(Rule::every(Fault::Delayed(10 * SECOND)).by("media").of("PutObject"));
        let freely = Freely { workers: 10, trouble: None };
        world
            .run_until(freely, async {
                let wamid = world.writes_to(NUMBER, ANA, Inbound::Image(file("a photo")));
                world.comes_true(|it| it.s3.faults().calls_by("media").contains_key("PutObject")).await;
                if is_deleted {
                    world.writes_to(NUMBER, ANA, Inbound::Revoke { message_id: wamid });
                } else {
                    world.hand(ANA, true).await;
                }
                world.comes_true(|it| it.lying_in("MediaQueue").is_empty()).await;
            })
            .await;
        world.pass(20 * MINUTE).await;
        assert_eq!(world.told_of(ANA).await, ["hello"], "deleted: {is_deleted}");
        assert_eq!(world.conversation(ANA).await.missed.is_some(), !is_deleted);
    }
}

#[tokio::test]
async fn what_a_turn_names_as_missed_is_named_by_the_next_if_it_is_turned_back() {
    let world = World::new().await;
    world.writes(ANA, "hello");
    world.settle().await;
    world.hand(ANA, true).await;
    world.pass(SECOND).await;
    world.writes(ANA, "to a person");
    world.pass(SECOND).await;
    world.hand(ANA, false).await;
    world.meta.fail_calls("whatsapp_business/attachments", None, 1);
    world.writes_to(NUMBER, ANA, Inbound::Image(file("a photo")));
    world.settle().await;
    // A person takes it again before the photo is told, with what was missed.
    world.hand(ANA, true).await;
    world.pass(MINUTE).await;
    world.hand(ANA, false).await;
    world.writes(ANA, "hello again");
    world.pass(MINUTE).await;
    let last = world.turns().pop().expect("a turn");
    let missed: Vec<String> = last.missed.iter().map(|it| it.text.clone().unwrap_or_else(|| it.kind.clone())).collect();
    assert_eq!(missed, ["to a person", "image"]);
}

#[tokio::test]
async fn a_file_of_a_connection_in_error_is_said_to_be_missing_and_may_be_fetched_again_and_again() {
    let world = World::new().await;
    world.agent_is_silent();
    world.writes(ANA, "hello");
    world.settle().await;
    world.hand(ANA, true).await;
    world.meta.expire_token(ACCESS_TOKEN);
    world.schedule_all().await;
    world.settle().await;
    assert_eq!(world.state(&connection_id()).await, State::Error);
    world.writes_to(NUMBER, ANA, Inbound::Image(file("a photo")));
    world.settle().await;
    let listed = world.api("GET", &format!("/v1/conversations/{}/messages", world.conversation(ANA).await.id), None).await.1;
    let photo = listed["items"].as_array().expect("a list").iter().find(|it| it["content"]["kind"] == "image").expect("it is kept");
    let path = format!("/v1/conversations/{}/media", photo["id"].as_str().expect("an id").replacen('/', "/messages/", 1));
    let (status, problem) = world.api("GET", &path, None).await;
    assert_eq!((status, &problem["code"]), (409, &"media_refused".into()), "{problem}");
    gets_another_token(&world).await;
    runs(&world).await;
    // Meta has trouble for a minute with what is asked for first.
    world.meta.fail_calls("whatsapp_business/attachments", None, 7);
    assert_eq!(world.api("POST", &path, None).await.0, 202);
    world.pass(2 * MINUTE).await;
    assert_eq!(world.api("GET", &path, None).await.0, 409);
    assert_eq!(world.api("POST", &path, None).await.0, 202);
    world.pass(MINUTE).await;
    assert_eq!(world.api("GET", &path, None).await.0, 200);
}

#[tokio::test]
async fn a_speech_endpoint_that_hangs_delays_nobody_elses_files() {
    let world = World::new().await;
    // It takes connections into its backlog and never speaks.
    let hangs = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/transcriptions", hangs.local_addr().expect("an address"));
    let settings = serde_json::json!({ "speech_to_text": { "url": url, "model": "any", "key": KEY } });
    assert_eq!(world.api("PUT", "/v1/connections/demo/agents/example", Some(settings)).await.0, 200);
    for who in 0..25 {
        world.writes_to(NUMBER, &format!("346110000{who:02}"), Inbound::Audio(file("a voice")));
    }
    let began = world.clock.now_ms();
    let told_ms = world
        .run_until(Freely { workers: 15, trouble: None }, async {
            world.comes_true(|it| it.s3.keys().len() >= 10).await;
            world.writes_to(NUMBER, ANA, Inbound::Image(file("a photo")));
            world.comes_true(|it| !it.turns().is_empty()).await;
            world.clock.now_ms()
        })
        .await;
    assert!(told_ms - began < 5_000, "the photo is told after {} ms", told_ms - began);
    world.may_leave_messages();
}

/// The agent wants several short messages as one turn.
async fn gathers(world: &World, quiet_ms: u16) {
    let (status, _) = world.api("PUT", "/v1/connections/demo/agents/example", Some(serde_json::json!({ "quiet_ms": quiet_ms }))).await;
    assert_eq!(status, 200);
    world.sleep(6 * SECOND).await;
}

#[tokio::test]
async fn short_messages_of_a_customer_become_one_turn() {
    in_each_way(async |world: &World| {
        gathers(world, 3_000).await;
        for it in ["hi", "I have a question", "about my order"] {
            world.writes(ANA, it);
            world.pass(2 * SECOND).await;
        }
        assert_eq!(world.turns().len(), 0, "the customer may go on");
        world.pass(4 * SECOND).await;
        assert_eq!(world.told_of(ANA).await, ["hi\nI have a question\nabout my order"]);
        let turn = &world.turns()[0];
        assert_eq!(turn.gathered.len(), 3);
        assert_eq!(turn.gathered[0].wamid, turn.wamid);
        world.writes(ANA, "thanks");
        world.pass(4 * SECOND).await;
        assert_eq!(world.told_of(ANA).await.last().map(String::as_str), Some("thanks"));
        assert_eq!(world.conversation(ANA).await.in_media, None);
    })
    .await;
}

#[tokio::test]
async fn whoever_never_stops_writing_is_heard_all_the_same() {
    let world = World::new().await;
    gathers(&world, 3_000).await;
    for it in 0..20 {
        world.writes(ANA, &format!("word {it}"));
        world.pass(2 * SECOND).await;
        assert_eq!(world.turns().is_empty(), it < 7, "it is waited for five times the quiet time, and no longer: {it}");
    }
    world.pass(MINUTE).await;
    let words: Vec<String> = world.told_of(ANA).await.iter().flat_map(|it| it.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    assert_eq!(words, (0..20).map(|it| format!("word {it}")).collect::<Vec<_>>(), "each once, in order");
}

#[tokio::test]
async fn a_burst_is_told_when_it_is_long_enough_and_before_its_window_ends() {
    let world = World::new().await;
    gathers(&world, 3_000).await;
    for it in 0..25 {
        world.writes(ANA, &format!("{it}"));
        world.settle().await;
        world.clock.advance(SECOND / 10);
    }
    world.pass(SECOND).await;
    assert_eq!(world.turns().iter().map(|it| it.gathered.len()).collect::<Vec<_>>(), [20], "nobody waits for more");
    world.pass(MINUTE).await;
    assert_eq!(world.turns()[1].gathered.len(), 5);
    world.pass(2 * DAY).await;
    // What Meta tells so late that its window is almost over.
    let late = Written { ago: 24 * 60 * 60 - 3, ..Written::from("hurry") };
    world.meta.customer_writes("34611000001", NUMBER, late).expect("the customer can write");
    world.pass(MINUTE).await;
    let told = serde_json::to_value(&world.turns()[2]).expect("JSON");
    assert_eq!(told["standing"], "open", "it may be answered still");
}

#[tokio::test]
async fn a_burst_holds_what_is_plain_of_one_number_and_was_not_owed() {
    let world = World::new().await;
    gathers(&world, 2_000).await;
    let first = world.writes(ANA, "one");
    world.pass(SECOND).await;
    let quoting = Written { quote: Some(first), ..Written::from("I mean this") };
    world.meta.customer_writes(ANA, NUMBER, quoting).expect("the customer can write");
    world.pass(MINUTE).await;
    assert_eq!(world.told_of(ANA).await, ["one", "I mean this"], "a quote is of one message");
    world.writes_to(NUMBER, ANA, Inbound::text("to the one"));
    world.writes_to(OTHER_NUMBER, ANA, Inbound::text("to the other"));
    world.pass(MINUTE).await;
    assert!(world.turns()[2..].iter().all(|it| it.gathered.is_empty()), "two numbers are asked two things");
    assert_eq!(world.turns().len(), 4);
    stops(&world).await;
    world.writes(ANA, "is anybody there?");
    world.pass(SECOND).await;
    world.writes(ANA, "hello?");
    world.pass(MINUTE).await;
    runs(&world).await;
    world.settle().await;
    assert_eq!(world.told_of(ANA).await[4..], ["is anybody there?", "hello?"], "what is owed is waited for no longer");
}

#[tokio::test]
async fn a_photo_among_short_messages_keeps_its_place() {
    let world = World::new().await;
    gathers(&world, 2_000).await;
    world.writes(ANA, "look");
    world.pass(SECOND).await;
    world.writes_to(NUMBER, ANA, Inbound::Image(file("a photo")));
    world.pass(SECOND).await;
    world.writes(ANA, "do you");
    world.pass(SECOND).await;
    world.writes(ANA, "see it?");
    world.pass(MINUTE).await;
    assert_eq!(world.told_of(ANA).await, ["look", "image", "do you\nsee it?"]);
}

/// Where the API has the file of a turn's message.
fn media_path(turn: &Turn) -> String {
    let [conversation, at, message] = turn.turn.splitn(3, '/').collect::<Vec<_>>().try_into().expect("a key");
    format!("/v1/conversations/{conversation}/messages/{at}/{message}/media")
}

#[tokio::test]
async fn whoever_looks_at_a_message_gets_a_fresh_link_to_its_file() {
    let world = World::new().await;
    let named = File { filename: Some("quote 7.pdf".to_owned()), mime_type: Some("application/pdf".to_owned()), ..file("a quote") };
    world.writes_to(NUMBER, ANA, Inbound::Document(named));
    world.settle().await;
    world.writes(ANA, "do you see it?");
    world.settle().await;
    let turns = world.turns();
    let (status, found) = world.api("GET", &media_path(&turns[0]), None).await;
    assert_eq!((status, &found["filename"], &found["size"]), (200, &"quote 7.pdf".into(), &7.into()));
    let link = TurnFile { url: found["url"].as_str().map(str::to_owned), ..TurnFile::default() };
    assert_eq!(opened(&link).await, b"a quote");
    assert_eq!(world.api("GET", &media_path(&turns[1]), None).await.0, 404, "a text has no file");
    let others = world.api_of("neighbour", "GET", &media_path(&turns[0]), &[], None).await;
    assert_eq!(others.status, 404);
}

#[tokio::test]
async fn a_file_that_could_not_be_had_is_fetched_when_somebody_wants_it() {
    let world = World::new().await;
    world.meta.fail_calls("whatsapp_business/attachments", None, 7);
    world.writes_to(NUMBER, ANA, Inbound::Image(file("a photo")));
    world.pass(2 * MINUTE).await;
    let path = media_path(&world.turns()[0]);
    let (status, problem) = world.api("GET", &path, None).await;
    assert_eq!((status, &problem["code"]), (409, &"media_unavailable".into()));
    assert_eq!(world.api("POST", &path, None).await.0, 202);
    world.settle().await;
    assert_eq!(world.api("GET", &path, None).await.0, 200);
    assert_eq!(world.turns().len(), 1, "nobody is told again");
}

#[tokio::test]
async fn a_file_that_is_to_be_sent_is_uploaded_to_a_place_of_its_own() {
    let world = World::new().await;
    let asked = |content_type: &str, size: u64| Some(serde_json::json!({ "content_type": content_type, "size": size }));
    let (status, made) = world.api("POST", "/v1/connections/demo/uploads", asked("application/pdf", 7)).await;
    assert_eq!(status, 201);
    let upload = &made["upload"];
    let client = reqwest::Client::builder().tls_backend_preconfigured(meta::graph::tls().expect("ring")).build().expect("a client");
    let put = client.put(upload["url"].as_str().expect("an address")).header("content-type", "application/pdf").body("a quote");
    assert_eq!(put.send().await.expect("the bucket answers").status(), 200);
    assert_eq!(world.s3.keys(), [made["file"].as_str().expect("a key")]);
    for (content_type, size, field) in [("text/html", 7, "content_type"), ("image/jpeg", 6 << 20, "size"), ("application/pdf", 0, "size")] {
        let (status, problem) = world.api("POST", "/v1/connections/demo/uploads", asked(content_type, size)).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &field.into()), "{content_type} {problem}");
    }
}

#[tokio::test]
async fn what_is_spoken_arrives_as_words() {
    let recogniser = Recogniser::start();
    let world = World::new().await;
    let settings =
        serde_json::json!({ "speech_to_text": { "url": recogniser.url, "model": "pocketsphinx", "language": "en", "key": KEY } });
    assert_eq!(world.api("PUT", "/v1/connections/demo/agents/example", Some(settings)).await.0, 200);
    let note = File { base64: Some(STANDARD.encode(spoken(SENTENCE))), ..file("") };
    world.writes_to(NUMBER, ANA, Inbound::Audio(note.clone()));
    world.settle().await;
    let words = world.turns()[0].transcript.clone().and_then(|it| it.text).expect("words");
    assert!(holds_the_content(&words), "{words}");
    assert!(last_file(&world).url.is_some(), "and the sound beside them");
    let (_, page) = world.api("GET", &format!("/v1/conversations/{}/messages", world.turns()[0].conversation), None).await;
    assert!(page["items"].to_string().contains(&words), "people read them too: {page}");

    let wrong =
        serde_json::json!({ "speech_to_text": { "url": recogniser.url, "model": "pocketsphinx", "language": "en", "key": "another" } });
    assert_eq!(world.api("PUT", "/v1/connections/demo/agents/example", Some(wrong)).await.0, 200);
    world.writes_to(NUMBER, ANA, Inbound::Audio(note.clone()));
    world.settle().await;
    let missing = world.turns()[1].transcript.clone().and_then(|it| it.missing).expect("it says why");
    assert_eq!(missing.code, "speech_refused");

    let none = serde_json::json!({ "speech_to_text": null });
    assert_eq!(world.api("PUT", "/v1/connections/demo/agents/example", Some(none)).await.0, 200);
    world.writes_to(NUMBER, ANA, Inbound::Audio(note));
    world.settle().await;
    assert_eq!(world.turns()[2].transcript, None, "without settings nothing is transcribed");
}
