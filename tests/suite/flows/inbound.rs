//! The table of *Agents and people*, row by row: what is kept, what opens the window, what becomes a turn; and repeats, lateness, disorder.

use std::time::Duration;

use channel::store::RemarkKind;
use domain::message::Preference;
use meta_sim::{File, Inbound, Mode, Written};
use serde_json::{Value, json};
use world::story::{ANA, NUMBER, WABA, World};

use super::{DAY, HOUR, MINUTE, SECOND};
use crate::in_every_way;

/// One row: what a customer does, what is kept of it, whether it opens the window, and what the agent is told.
struct Row {
    does: Does,
    kept: &'static [&'static str],
    opens: bool,
    told: Option<&'static str>,
}

enum Does {
    Sends(Written),
    /// Sends what speaks of their first message.
    SendsAbout(fn(&str) -> Inbound),
    Else(fn(&World, &str)),
}

fn row(inbound: Inbound, kept: &'static [&'static str], opens: bool, told: Option<&'static str>) -> Row {
    Row { does: Does::Sends(inbound.into()), kept, opens, told }
}

fn cards(cards: Value) -> Inbound {
    Inbound::Contacts { contacts: cards }
}

fn table() -> Vec<Row> {
    let text = |it: &str| it.to_owned();
    let card = |origin: &str| json!([{ "name": { "formatted_name": "Ana" }, "phones": [{ "phone": "+34 600 999 888", "wa_id": "34600999888" }], "origin": origin }]);
    let basket = json!([{ "product_retailer_id": "1", "quantity": 1, "item_price": 9, "currency": "EUR" }]);
    vec![
        row(Inbound::text("hi"), &["> hi"], true, Some("hi")),
        row(Inbound::Image(File::default()), &["> [image]"], true, Some("image")),
        row(Inbound::Video(File::default()), &["> [video]"], true, Some("video")),
        row(Inbound::Audio(File::default()), &["> [audio]"], true, Some("audio")),
        row(Inbound::Document(File::default()), &["> [document]"], true, Some("document")),
        row(Inbound::Sticker(File::default()), &["> [sticker]"], true, Some("sticker")),
        row(Inbound::Button { text: text("Yes"), payload: text("YES") }, &["> Yes"], true, Some("Yes")),
        row(Inbound::ButtonReply { id: text("a"), title: text("Shoes") }, &["> Shoes"], true, Some("Shoes")),
        row(Inbound::ListReply { id: text("b"), title: text("Hats"), description: None }, &["> Hats"], true, Some("Hats")),
        row(Inbound::FlowReply { response_json: text(r#"{"a":1}"#) }, &["> [flow_reply]"], true, Some("flow_reply")),
        row(Inbound::Location { latitude: 40.4, longitude: -3.7, name: None }, &["> [unsupported location]"], true, Some("unsupported")),
        row(cards(card("other")), &["> [unsupported contacts]"], true, Some("unsupported")),
        row(Inbound::Order { catalog_id: text("1"), product_items: basket }, &["> [unsupported order]"], true, Some("unsupported")),
        row(Inbound::Unsupported { kind: text("poll") }, &["> [unsupported poll]"], true, Some("unsupported")),
        row(
            Inbound::Other { kind: text("hologram"), content: json!({ "rays": 7 }) },
            &["> [unsupported hologram]"],
            true,
            Some("unsupported"),
        ),
        row(cards(card("contact_request")), &["> [contact_shared]"], true, Some("contact_shared")),
        Row {
            does: Does::SendsAbout(|first| Inbound::Reaction { message_id: first.to_owned(), emoji: Some("👍".to_owned()) }),
            kept: &[],
            opens: true,
            told: None,
        },
        Row {
            does: Does::SendsAbout(|first| Inbound::Edit { message_id: first.to_owned(), text: "changed".to_owned() }),
            kept: &[],
            opens: false,
            told: None,
        },
        Row { does: Does::SendsAbout(|first| Inbound::Revoke { message_id: first.to_owned() }), kept: &[], opens: false, told: None },
        Row {
            does: Does::Else(|world, who| drop(world.meta.phone(who).calls(NUMBER).expect("can call"))),
            kept: &["· call connect", "· call terminate"],
            opens: true,
            told: None,
        },
        row(Inbound::RequestWelcome, &["· request_welcome"], false, None),
        row(Inbound::Group { group_id: text("g1"), text: text("hi all") }, &["> [unsupported text]"], false, None),
        Row { does: Does::Sends(Written::from("to the other").on_standby()), kept: &["> to the other"], opens: true, told: None },
        Row {
            does: Does::Else(|world, who| drop(world.meta.person_writes(who, NUMBER, "Eva here").expect("is there"))),
            kept: &["< Eva here (WhatsApp Business app, Accepted)"],
            opens: false,
            told: None,
        },
        Row {
            does: Does::Else(|world, who| world.meta.phone(who).prefers(NUMBER, "stop").expect("is there")),
            kept: &[],
            opens: false,
            told: None,
        },
        Row {
            does: Does::Else(|world, who| world.meta.hand_over(who, NUMBER, "control_taken").expect("is there")),
            kept: &[],
            opens: false,
            told: None,
        },
        Row { does: Does::Else(tells_history), kept: &[], opens: false, told: None },
    ]
}

/// The history of a number that is also used in the WhatsApp Business app.
fn tells_history(world: &World, who: &str) {
    let message = json!({ "from": who, "id": "wamid.history", "timestamp": "1772442000", "type": "text", "text": { "body": "long ago" } });
    let value = json!({
        "messaging_product": "whatsapp",
        "metadata": { "display_phone_number": "15550100001", "phone_number_id": NUMBER },
        "history": [{ "metadata": { "phase": 0, "chunk_order": 1, "progress": 100 }, "threads": [{ "id": who, "messages": [message] }] }],
    });
    world.meta.tell_account(WABA, "history", &value);
}

#[tokio::test]
async fn each_kind_of_inbound_is_kept_opens_the_window_and_becomes_a_turn_as_the_table_says() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        let rows: Vec<(String, Row)> = table().into_iter().enumerate().map(|(at, it)| (format!("346000001{at:02}"), it)).collect();
        let firsts: Vec<String> = rows.iter().map(|(who, _)| world.writes(who, "first")).collect();
        world.settle().await;
        world.sleep(DAY + HOUR).await;
        for ((who, row), first) in rows.iter().zip(&firsts) {
            match &row.does {
                Does::Sends(it) => drop(world.writes_to(NUMBER, who, it.clone())),
                Does::SendsAbout(it) => drop(world.writes_to(NUMBER, who, it(first))),
                Does::Else(it) => it(world, who),
            }
            world.settle().await;
            let mut kept = world.history(who).await;
            // What Meta tells of one call has one time, and no order.
            kept[1..].sort();
            let first = if kept[0] == "> [erased]" { "> [erased]" } else { "> first" };
            let expected: Vec<&str> = std::iter::once(first).chain(row.kept.iter().copied()).collect();
            assert_eq!(kept, expected, "{who}");
            assert_eq!(world.is_open(who, NUMBER).await, row.opens, "{expected:?}");
            let told: Vec<&str> = std::iter::once("first").chain(row.told).collect();
            assert_eq!(world.told_of(who).await, told, "{expected:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_agent_is_told_of_unsupported_messages_at_most_once_an_hour_in_a_conversation() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        let place = || Inbound::Location { latitude: 40.4, longitude: -3.7, name: None };
        for (who, wait) in [(ANA, MINUTE), (ANA, MINUTE), ("34600333444", MINUTE * 57), (ANA, SECOND * 59), (ANA, SECOND), (ANA, MINUTE)] {
            world.writes_to(NUMBER, who, place());
            world.settle().await;
            world.sleep(wait).await;
        }
        assert_eq!(world.told_of(ANA).await.len(), 2, "at 0:00 and at 1:00");
        assert_eq!(world.told_of("34600333444").await.len(), 1);
        assert_eq!(world.history(ANA).await.len(), 5, "all of them are kept");
        world.writes(ANA, "words");
        world.settle().await;
        assert_eq!(world.told_of(ANA).await.len(), 3, "words are always told");
    })
    .await;
}

#[tokio::test]
async fn a_phone_that_the_customer_shares_when_asked_becomes_an_address_of_theirs() {
    in_every_way(async |world: &World| {
        let who = "ES.9007199254740993";
        world.meta.add_customer(meta_sim::Customer::with_user_id(who, "ana.ruiz"));
        world.writes(who, "hello");
        world.settle().await;
        assert!(world.find("34600999888").await.is_none());
        world.sleep(MINUTE).await;
        let phones = json!([{ "phone": "+34 600 999 888", "wa_id": "34600999888" }]);
        world.writes_to(
            NUMBER,
            who,
            cards(json!([{ "name": { "formatted_name": "Ana" }, "phones": phones, "origin": "contact_request" }])),
        );
        world.settle().await;
        assert_eq!(world.conversation("34600999888").await, world.conversation(who).await);
        assert_eq!(world.turns()[1].customer.phone().map(|it| it.digits().to_owned()).as_deref(), Some("34600999888"));
        assert_eq!(world.screen(who), ["> hello", "< You said: hello", "> contacts", "< You said: contact_shared"]);
    })
    .await;
}

#[tokio::test]
async fn a_call_that_the_customer_accepts_opens_the_window_and_one_that_only_rings_does_not() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.settle().await;
        world.sleep(DAY * 2).await;
        for (status, opens) in [("RINGING", false), ("REJECTED", false), ("ACCEPTED", true)] {
            world.sleep(SECOND).await;
            let at = (world.now().as_millis() / 1_000).to_string();
            let call = json!({ "id": "wacid.1", "type": "call", "status": status, "timestamp": at, "recipient_id": ANA });
            let value = json!({ "messaging_product": "whatsapp",
                "metadata": { "display_phone_number": "15550100001", "phone_number_id": NUMBER }, "statuses": [call] });
            world.meta.tell_account(WABA, "calls", &value);
            world.settle().await;
            let window = world.conversation(ANA).await.window(&domain::ids::NumberId::parse(NUMBER).expect("an id"));
            assert_eq!(window.is_open(world.now()), opens, "{status}");
        }
        let kept = world.history(ANA).await;
        assert_eq!(kept, ["> hello", "· call RINGING", "· call REJECTED", "· call ACCEPTED"]);
        assert_eq!(world.words_told(), ["hello"]);
    })
    .await;
}

#[tokio::test]
async fn a_changed_number_is_a_note_and_opens_nothing() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.settle().await;
        world.sleep(HOUR).await;
        world.meta.phone(ANA).changes_phone("34600555666").expect("the customer is there");
        world.settle().await;
        assert_eq!(world.history("34600555666").await, ["> hello", "· changed"]);
        assert!(!world.is_open("34600555666", NUMBER).await, "what Meta thinks of the window is not known");
        assert_eq!(world.words_told(), ["hello"]);
    })
    .await;
}

#[tokio::test]
async fn a_group_is_never_answered() {
    in_every_way(async |world: &World| {
        world.writes_to(NUMBER, ANA, Inbound::Group { group_id: "g1".to_owned(), text: "hi all".to_owned() });
        world.settle().await;
        let conversation = world.conversation(ANA).await.id;
        world.sends(&world.of_agent(&conversation, "hi", 1)).await;
        world.settle().await;
        assert_eq!((world.screen(ANA), world.codes()), (vec!["> hi all".to_owned()], vec!["template_only".to_owned()]));
        assert_eq!(world.words_told(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_reaction_is_kept_on_its_message_and_the_latest_wins() {
    in_every_way(async |world: &World| {
        let first = world.writes(ANA, "hello");
        world.settle().await;
        let react = |emoji: Option<&str>| Inbound::Reaction { message_id: first.clone(), emoji: emoji.map(str::to_owned) };
        for (emoji, kept) in [(Some("👍"), Some("👍")), (Some("❤️"), Some("❤️")), (None, None)] {
            world.sleep(MINUTE).await;
            world.writes_to(NUMBER, ANA, react(emoji));
            world.settle().await;
            assert_eq!(world.remark(ANA, &first, RemarkKind::Reaction).await, Some(kept.map(str::to_owned)));
        }
        world.writes_to(NUMBER, ANA, Written::from(react(Some("😡"))).ago(30));
        world.settle().await;
        assert_eq!(world.remark(ANA, &first, RemarkKind::Reaction).await, Some(None), "an older one changes nothing");
        assert_eq!(world.words_told(), ["hello"]);
    })
    .await;
}

/// The customer writes, and does something about it before the message itself is told; then it is told.
async fn before_its_message(world: &World, text: &str, about: impl Fn(&str) -> Inbound) -> String {
    world.meta.set_mode(Mode { delay_ms: 60_000, ..Mode::default() });
    let first = world.writes(ANA, text);
    world.meta.set_mode(Mode::default());
    world.sleep(SECOND * 10).await;
    world.writes_to(NUMBER, ANA, about(&first));
    world.settle().await;
    assert_eq!(world.history(ANA).await, [""; 0], "the message is not told yet");
    world.pass(MINUTE).await;
    first
}

#[tokio::test]
async fn a_reaction_and_an_edit_that_come_before_their_message_are_kept_on_it() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        let first =
            before_its_message(world, "hello", |it| Inbound::Reaction { message_id: it.to_owned(), emoji: Some("👍".to_owned()) }).await;
        assert_eq!(world.remark(ANA, &first, RemarkKind::Reaction).await, Some(Some("👍".to_owned())));
        assert_eq!(world.words_told(), ["hello"]);
    })
    .await;
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        let first = before_its_message(world, "hello", |it| Inbound::Edit { message_id: it.to_owned(), text: "hello!".to_owned() }).await;
        let edit = world.remark(ANA, &first, RemarkKind::Edit).await.flatten().expect("an edit");
        assert!(edit.contains("hello!"), "{edit}");
        assert_eq!((world.words_told(), world.history(ANA).await), (vec!["hello".to_owned()], vec!["> hello".to_owned()]));
    })
    .await;
}

#[tokio::test]
async fn a_message_that_was_revoked_before_it_comes_is_kept_without_content_and_is_no_turn() {
    in_every_way(async |world: &World| {
        before_its_message(world, "a secret word", |it| Inbound::Revoke { message_id: it.to_owned() }).await;
        assert_eq!(world.history(ANA).await, ["> [erased]"]);
        assert_eq!(world.words_told(), [""; 0]);
        assert!(world.is_open(ANA, NUMBER).await, "the customer has written all the same");
        assert_nowhere(world, "a secret word");
        assert!(world.conversation(ANA).await.revoked.is_empty(), "it is here: there is nothing left to remember");
    })
    .await;
}

/// No table holds these words.
fn assert_nowhere(world: &World, words: &str) {
    let tables = world.dynamo.dump().expect("the engine answers");
    let items = tables.values().flatten().map(ToString::to_string);
    let holding: Vec<String> = items.filter(|it| it.contains(words)).collect();
    assert!(holding.is_empty(), "{words} is kept in {holding:?}");
}

#[tokio::test]
async fn a_revoke_erases_the_content_everywhere() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        let secret = "a secret word ".repeat(60);
        let first = world.writes(ANA, &secret);
        world.settle().await;
        world.sleep(MINUTE).await;
        world.writes_to(NUMBER, ANA, Inbound::Edit { message_id: first.clone(), text: "a secret word, changed".to_owned() });
        world.settle().await;
        world.sleep(MINUTE).await;
        world.writes_to(NUMBER, ANA, Inbound::Revoke { message_id: first.clone() });
        world.settle().await;
        assert_eq!(world.history(ANA).await, ["> [erased]"]);
        assert_nowhere(world, "a secret word");
        world.sleep(MINUTE).await;
        world.writes_to(NUMBER, ANA, Written::from("forget it").quoting(&first));
        world.settle().await;
        let quoted = world.turns()[1].quoted.clone().expect("a quote");
        assert_eq!((quoted.kind.as_deref(), quoted.text), (Some("erased"), None));
    })
    .await;
}

#[tokio::test]
async fn an_edit_that_comes_after_the_revoke_is_kept_without_content() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        let first = world.writes(ANA, "hello");
        world.settle().await;
        world.meta.set_mode(Mode { delay_ms: 60_000, ..Mode::default() });
        world.writes_to(NUMBER, ANA, Inbound::Edit { message_id: first.clone(), text: "a secret word".to_owned() });
        world.meta.set_mode(Mode::default());
        world.sleep(SECOND * 10).await;
        world.writes_to(NUMBER, ANA, Inbound::Revoke { message_id: first.clone() });
        world.pass(MINUTE * 2).await;
        assert_eq!(world.history(ANA).await, ["> [erased]"]);
        assert_nowhere(world, "a secret word");
    })
    .await;
}

#[tokio::test]
async fn the_newest_word_on_marketing_wins_and_each_is_told() {
    in_every_way(async |world: &World| {
        let said = async |world: &World| world.conversation(ANA).await.opt_out.map(|it| it.preference);
        world.meta.phone(ANA).prefers(NUMBER, "stop").expect("the customer is there");
        world.settle().await;
        assert_eq!(said(world).await, Some(Preference::Stop), "of a customer who never wrote");
        world.meta.set_mode(Mode { delay_ms: 60_000, ..Mode::default() });
        world.meta.phone(ANA).prefers(NUMBER, "stop").expect("the customer is there");
        world.meta.set_mode(Mode::default());
        world.sleep(SECOND * 10).await;
        world.meta.phone(ANA).prefers(NUMBER, "resume").expect("the customer is there");
        world.pass(MINUTE * 2).await;
        assert_eq!(said(world).await, Some(Preference::Resume), "though the stop before it was heard last");
        assert_eq!(world.opt_outs(), [Preference::Stop, Preference::Resume]);
        world.writes(ANA, "hello");
        world.settle().await;
        assert_eq!(world.screen(ANA), ["> hello", "< You said: hello"], "it is a word on marketing and on nothing else");
    })
    .await;
}

#[tokio::test]
async fn of_two_words_on_marketing_in_one_second_the_one_against_it_wins_and_both_are_told() {
    in_every_way(async |world: &World| {
        for choice in ["resume", "stop"] {
            world.meta.phone(ANA).prefers(NUMBER, choice).expect("the customer is there");
            world.settle().await;
        }
        assert_eq!(world.conversation(ANA).await.opt_out.map(|it| it.preference), Some(Preference::Stop));
        assert_eq!(world.opt_outs(), [Preference::Resume, Preference::Stop]);
    })
    .await;
}

#[tokio::test]
async fn an_inbound_that_is_older_than_eight_days_is_kept_and_is_no_turn() {
    in_every_way(async |world: &World| {
        world.sleep(DAY * 10).await;
        let eight_days = 8 * 24 * 60 * 60;
        world.writes_to(NUMBER, ANA, Written::from("too old").ago(eight_days + 1));
        world.settle().await;
        world.writes_to(NUMBER, ANA, Written::from("old").ago(eight_days));
        world.settle().await;
        assert_eq!(world.words_told(), ["old"]);
        assert_eq!(world.history(ANA).await[..2], ["> too old", "> old"]);
    })
    .await;
}

#[tokio::test]
async fn an_inbound_that_is_older_than_the_numbers_claim_is_kept_and_is_no_turn() {
    in_every_way(async |world: &World| {
        world.writes_to(NUMBER, ANA, Written::from("to somebody else").ago(60));
        world.settle().await;
        world.writes(ANA, "to you");
        world.settle().await;
        assert_eq!(world.words_told(), ["to you"]);
        assert_eq!(world.history(ANA).await[..2], ["> to somebody else", "> to you"]);
    })
    .await;
}

#[tokio::test]
async fn a_webhook_that_meta_repeats_has_no_second_answer_not_after_ten_minutes_nor_after_six_days() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        world.settle().await;
        world.writes_to(NUMBER, ANA, Inbound::Location { latitude: 40.4, longitude: -3.7, name: None });
        world.meta.phone(ANA).calls(NUMBER).expect("the customer is there");
        world.settle().await;
        let (screen, told, history) = (world.screen(ANA), world.words_told(), world.history(ANA).await);
        for wait in [MINUTE * 10, DAY * 6] {
            world.sleep(wait).await;
            world.meta_repeats_all().await;
            world.meta_repeats_all_in_one().await;
            assert_eq!((world.screen(ANA), world.words_told(), world.history(ANA).await), (screen.clone(), told.clone(), history.clone()));
        }
        assert_eq!(world.times_told(), 2, "the agent is not even told twice");
    })
    .await;
}

#[tokio::test]
async fn a_message_that_comes_again_with_another_within_a_minute_brings_the_other() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "one");
        world.settle().await;
        world.sleep(SECOND * 20).await;
        world.writes(ANA, "two");
        world.meta_joins_what_is_due_with_all_before().await;
        world.settle().await;
        assert_eq!(world.words_told(), ["one", "two"]);
        assert_eq!(world.history(ANA).await, ["> one", "> two"]);
    })
    .await;
}

#[tokio::test]
async fn late_and_disordered_messages_are_each_told_once_and_kept_in_metas_order() {
    in_every_way(async |world: &World| {
        world.sleep(HOUR).await;
        for (ago, text) in [(10, "three"), (30, "one"), (20, "two"), (0, "four")] {
            world.writes_to(NUMBER, ANA, Written::from(text).ago(ago));
            world.settle().await;
        }
        let mut told = world.words_told();
        told.sort();
        assert_eq!(told, ["four", "one", "three", "two"]);
        let kept: Vec<String> = world.history(ANA).await.into_iter().filter(|it| it.starts_with('>')).collect();
        assert_eq!(kept, ["> one", "> two", "> three", "> four"]);
        assert_eq!(world.screen(ANA).iter().filter(|it| it.starts_with('<')).count(), 4);
    })
    .await;
}

#[tokio::test]
async fn many_messages_in_one_body_are_told_in_order() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.meta.set_mode(Mode { batch: 100, duplicate: 1, ..Mode::default() });
        let texts: Vec<String> = (0..60).map(|it| format!("line {it}")).collect();
        for text in &texts {
            world.writes(ANA, text);
            world.clock.advance(Duration::from_secs(1));
        }
        world.settle().await;
        assert_eq!(world.words_told(), texts);
    })
    .await;
}
