//! What is heard of Meta's examples, of each departure from them that has been seen, and of anything at all.

use domain::message::{Content, Message};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::fixtures::WEBHOOKS;
use crate::signature::{AppSecrets, header};

fn hear_bytes(body: &[u8]) -> Result<Heard, NotJson> {
    let secrets = AppSecrets::new(b"secret", None);
    parse(&secrets.verify(body, Some(&header(b"secret", body))).expect("signed"))
}

fn hear(body: &str) -> Heard {
    hear_bytes(body.as_bytes()).expect("JSON")
}

/// What is heard of one change.
fn hear_change(field: &str, value: &Value) -> Heard {
    hear(
        &json!({ "object": "whatsapp_business_account", "entry": [{ "id": "200", "changes": [{ "field": field, "value": value }] }] })
            .to_string(),
    )
}

/// What is heard of these messages.
fn hear_messages(messages: &Value) -> Heard {
    hear_change("messages", &json!({ "metadata": { "phone_number_id": "700" }, "messages": messages }))
}

fn text(id: &str, from: &str, body: &str) -> Value {
    json!({ "from": from, "id": id, "timestamp": "1790000001", "type": "text", "text": { "body": body } })
}

/// All of it, with what `Debug` hides.
fn as_json(heard: &Heard) -> Value {
    let update = |it: &Update| {
        let what = match &it.what {
            What::Customer { customer, profile, event } => json!({ "customer": customer, "profile": profile, "event": event }),
            What::Status(it) => json!({ "status": {
                "wamid": it.wamid, "step": it.step, "at": it.at, "recipient": it.recipient,
                "opaque": it.opaque, "pricing": it.pricing, "faults": it.faults,
            } }),
            What::Account(it) => {
                json!({ "account": { "field": it.field, "at": it.at, "value": it.value.parse::<Value>().expect("JSON") } })
            }
            What::History { messages } => json!({ "history": messages }),
            What::Lost(fault) => json!({ "lost": fault }),
        };
        json!({ "waba": it.waba, "number": it.number, "what": what })
    };
    let ignored = |it: &Ignored| json!({ "reason": it.reason.name(), "field": it.field, "raw": it.raw.parse::<Value>().expect("JSON") });
    json!({
        "updates": heard.updates.iter().map(update).collect::<Vec<_>>(),
        "ignored": heard.ignored.iter().map(ignored).collect::<Vec<_>>(),
    })
}

#[track_caller]
fn event(heard: &Heard) -> &Event {
    match heard.updates.as_slice() {
        [Update { what: What::Customer { event, .. }, .. }] => event,
        other => panic!("one event, not {other:?}"),
    }
}

#[track_caller]
fn customer(heard: &Heard) -> (Option<&str>, Option<&str>) {
    match heard.updates.as_slice() {
        [Update { what: What::Customer { customer, .. }, .. }] => {
            (customer.phone().map(|it| it.digits()), customer.bsuid().map(|it| it.as_str()))
        }
        other => panic!("one event, not {other:?}"),
    }
}

#[track_caller]
fn content(heard: &Heard) -> &Content {
    match event(heard) {
        Event::Message(it) => &it.content,
        other => panic!("a message, not {other:?}"),
    }
}

fn ignored_as(heard: &Heard) -> Vec<(&str, &str)> {
    heard.ignored.iter().map(|it| (it.reason.name(), it.field.as_str())).collect()
}

#[test]
fn every_example_of_metas() {
    for (name, body) in WEBHOOKS {
        insta::assert_json_snapshot!(*name, as_json(&hear(body)));
    }
}

#[test]
fn only_what_is_no_json_is_an_error() {
    for body in ["", "hello", "{", "{\"a\":1", "{}{}", "<html>", "\"\\x\"", "nul"] {
        assert_eq!(hear_bytes(body.as_bytes()), Err(NotJson), "{body}");
    }
    for body in ["null", "3", "\"\"", "[]", "[{}]", "true"] {
        assert_eq!(ignored_as(&hear(body)), [("unreadable", "body")], "{body}");
    }
    assert_eq!(ignored_as(&hear("{}")), [("object", "object=")]);
    assert_eq!(ignored_as(&hear(" {\"object\":\"page\"} ")), [("object", "object=page")]);
}

#[test]
fn an_envelope_of_another_shape_is_kept() {
    let of = |entry: Value| hear(&json!({ "object": "whatsapp_business_account", "entry": entry, "time": 1 }).to_string());
    let member = ("unknown_member", "time");
    assert_eq!(ignored_as(&of(json!(null))), [member, ("empty", "entry")]);
    assert_eq!(ignored_as(&of(json!([]))), [member, ("empty", "entry")]);
    assert_eq!(ignored_as(&of(json!([3]))), [member, ("unreadable", "entry")]);
    assert_eq!(
        ignored_as(&of(json!([{ "id": "1", "messaging": [] }]))),
        [member, ("unknown_member", "entry.messaging"), ("empty", "entry.changes")]
    );
    assert_eq!(
        ignored_as(&of(json!([{ "changes": [null, "x"] }]))),
        [member, ("unreadable", "entry.changes"), ("unreadable", "entry.changes")]
    );
    assert_eq!(ignored_as(&of(json!([{ "changes": [{ "field": "messages" }] }]))), [member, ("empty", "messages.value")]);
    assert_eq!(ignored_as(&of(json!([{ "changes": [{ "field": "messages", "value": 5 }] }]))), [member, ("unreadable", "messages.value")]);
    assert_eq!(ignored_as(&of(json!([{ "changes": [{ "value": {} }] }]))), [member, ("unknown_field", "")]);
    assert_eq!(
        ignored_as(&of(json!([{ "changes": [{ "field": "message_reads", "value": {} }] }]))),
        [member, ("unknown_field", "message_reads")]
    );
    assert_eq!(ignored_as(&hear_change("messages", &json!({ "metadata": {} }))), [("empty", "messages.value")]);
}

#[test]
fn what_cannot_belong_anywhere_is_kept_with_the_reason() {
    let message = |without: &str| {
        let mut it = text("wamid.1", "5215512345678", "hi");
        it.as_object_mut().expect("an object").remove(without);
        hear_messages(&json!([it]))
    };
    assert_eq!(ignored_as(&message("id")), [("no_id", "messages.messages")]);
    assert_eq!(ignored_as(&message("timestamp")), [("no_time", "messages.messages")]);
    assert_eq!(ignored_as(&message("from")), [("nobody", "messages.messages")]);
    assert_eq!(
        ignored_as(&hear_messages(&json!(["hello", 3]))),
        [("unreadable", "messages.messages"), ("unreadable", "messages.messages")]
    );
    for kind in ["reaction", "edit", "revoke"] {
        let it = json!({ "from": "5215512345678", "id": "wamid.1", "timestamp": "1", "type": kind });
        assert_eq!(ignored_as(&hear_messages(&json!([it]))), [("no_target", "messages.messages")], "{kind}");
    }
}

#[test]
fn ids_and_times_may_be_numbers_and_milliseconds() {
    let value = json!({
        "metadata": { "phone_number_id": 700 },
        "messages": [{ "from": 5_215_512_345_678_u64, "id": 77, "timestamp": 1_790_000_001_234_u64, "type": "text", "text": { "body": 42 } }],
    });
    let body =
        json!({ "object": "whatsapp_business_account", "entry": [{ "id": 200, "changes": [{ "field": "messages", "value": value }] }] });
    let heard = hear(&body.to_string());
    assert_eq!(
        (heard.updates[0].waba.as_ref().map(WabaId::as_str), heard.updates[0].number.as_ref().map(NumberId::as_str)),
        (Some("200"), Some("700"))
    );
    assert_eq!(customer(&heard), (Some("5215512345678"), None));
    let Event::Message(message) = event(&heard) else { panic!("a message") };
    assert_eq!((message.wamid.as_str(), message.at.as_millis()), ("77", 1_790_000_001_234));
    assert_eq!(message.content, Content::Text { text: "42".to_owned() });
}

#[test]
fn people_are_known_by_whatever_names_them() {
    let of = |message: Value, contacts: Value| {
        let mut it = json!({ "id": "wamid.1", "timestamp": "1", "type": "text", "text": { "body": "hi" } });
        it.as_object_mut().expect("an object").extend(message.as_object().expect("an object").clone());
        hear_change("messages", &json!({ "contacts": contacts, "messages": [it] }))
    };
    let phone = Some("5511987654321");
    let id = Some("BR.1");
    assert_eq!(customer(&of(json!({ "from": "BR.1" }), json!([]))), (None, id), "an id in the phone's place");
    assert_eq!(customer(&of(json!({ "from": "5511987654321", "from_user_id": "BR.1" }), json!(null))), (phone, id));
    assert_eq!(customer(&of(json!({ "from": "5511987654321" }), json!([{ "wa_id": "5511987654321", "user_id": "BR.1" }]))), (phone, id));
    assert_eq!(
        customer(&of(json!({ "from": "5511987654321" }), json!([{ "wa_id": "551187654321", "user_id": "BR.1" }]))),
        (phone, id),
        "another form of the number"
    );
    assert_eq!(customer(&of(json!({ "from_user_id": "BR.1" }), json!([{ "wa_id": "5511987654321", "user_id": "BR.1" }]))), (phone, id));
    assert_eq!(
        customer(&of(json!({}), json!([{ "wa_id": "5511987654321", "user_id": "BR.1" }]))),
        (phone, id),
        "the only contact of the only message"
    );
    assert_eq!(customer(&of(json!({ "from": "5511987654321" }), json!([{ "wa_id": "BR.1" }]))), (phone, None), "somebody else");
    assert_eq!(
        customer(&of(json!({ "from": "5511987654321", "from_user_id": "BR.2" }), json!([{ "wa_id": "5511987654321", "user_id": "BR.1" }]))),
        (phone, Some("BR.2")),
        "a contact with another id is another person"
    );
    assert_eq!(customer(&of(json!({ "from": "", "from_parent_user_id": "BR.ENT.9" }), json!([]))), (None, Some("BR.ENT.9")));
    assert_eq!(
        ignored_as(&of(json!({}), json!([{ "wa_id": "5511987654321" }, { "wa_id": "5511987654322" }]))),
        [("nobody", "messages.messages")],
        "never by position"
    );
    assert_eq!(ignored_as(&of(json!({ "from": "nobody", "from_user_id": 5 }), json!([]))), [("nobody", "messages.messages")]);
}

#[test]
fn a_contact_of_the_same_phone_and_another_id_is_another_person() {
    let contacts = json!([{ "wa_id": "34600000001", "user_id": "ES.1", "profile": { "name": "Old" } }, { "wa_id": "34600000009" }]);
    let mut message = text("wamid.1", "34600000001", "hi");
    message["from_user_id"] = json!("ES.2");
    let heard = hear_change("messages", &json!({ "contacts": contacts, "messages": [message] }));
    assert_eq!(customer(&heard), (Some("34600000001"), Some("ES.2")));
    assert!(matches!(&heard.updates[0].what, What::Customer { profile, .. } if *profile == Profile::default()));
}

#[test]
fn a_change_of_the_id_alone_leaves_the_phone() {
    let of = |notice: Value| {
        let it = json!({ "from": "34600000001", "id": "wamid.1", "timestamp": "1", "type": "system", "system": notice });
        hear_messages(&json!([it]))
    };
    let heard = of(json!({ "type": "user_changed_user_id", "wa_id": "34600000001", "user_id": "ES.2", "previous_user_id": "ES.1" }));
    assert_eq!(customer(&heard), (Some("34600000001"), Some("ES.2")));
    let Event::Changed { previous, .. } = event(&heard) else { panic!("a change") };
    assert_eq!((previous.phone(), previous.bsuid().map(|it| it.as_str())), (None, Some("ES.1")));

    let heard = of(json!({ "type": "user_changed_number", "wa_id": "34600000001", "body": "?" }));
    assert!(matches!(event(&heard), Event::Note { what, .. } if what == "user_changed_number"), "nobody has changed");
}

#[test]
fn contacts_are_paired_by_address() {
    let contacts = json!([
        { "wa_id": "34600000002", "profile": { "name": "Two", "username": "@two" } },
        { "wa_id": "34600000001", "profile": { "name": "One" } },
        "?",
    ]);
    let messages = json!([text("wamid.1", "34600000001", "a"), text("wamid.2", "34600000002", "b"), text("wamid.3", "34600000003", "c")]);
    let heard = hear_change("messages", &json!({ "contacts": contacts, "messages": messages }));
    let profiles: Vec<_> = heard
        .updates
        .iter()
        .map(|it| match &it.what {
            What::Customer { profile, .. } => (profile.name.as_deref(), profile.username.as_deref()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(profiles, [(Some("One"), None), (Some("Two"), Some("two")), (None, None)]);
}

#[test]
fn a_change_that_names_the_new_id_as_the_sender_tells_of_the_old_phone_only() {
    let notice = json!({ "type": "user_changed_number", "wa_id": "34600000002", "user_id": "ES.2" });
    let it =
        json!({ "from": "34600000001", "from_user_id": "ES.2", "id": "wamid.1", "timestamp": "1", "type": "system", "system": notice });
    let heard = hear_messages(&json!([it]));
    assert_eq!(customer(&heard), (Some("34600000002"), Some("ES.2")));
    let Event::Changed { previous, .. } = event(&heard) else { panic!("a change") };
    assert_eq!((previous.phone().map(|it| it.digits()), previous.bsuid()), (Some("34600000001"), None));
}

#[test]
fn a_recording_may_stand_under_the_newer_name() {
    let it = json!({ "from": "34600000001", "id": "wamid.1", "timestamp": "1", "type": "voice", "audio": { "id": "9" } });
    let heard = hear_messages(&json!([it]));
    let Event::Message(message) = event(&heard) else { panic!("a message") };
    let media = message.content.media().expect("a file");
    assert_eq!((media.id.as_deref(), media.voice, message.unknown.as_str()), (Some("9"), true, ""));
}

#[test]
fn half_a_surrogate_pair_costs_one_character() {
    let body = r#"{"object":"whatsapp_business_account","entry":[{"id":"2","changes":[{"field":"messages","value":{"messages":[
        {"from":"34600000001","id":"wamid.1","timestamp":"1","type":"text","text":{"body":"a\ud83d\u0000b"}},
        {"from":"34600000001","id":"wamid.2","timestamp":"1","type":"text","text":{"body":"\ud83d\udc4b"}},
        {"from":"34600000001","id":"wamid.3","timestamp":"1","type":"\udc4b","\udc4b":{"x":"\udc4b"}}]}}]}]}"#;
    let texts: Vec<_> = hear(body)
        .updates
        .into_iter()
        .map(|it| match it.what {
            What::Customer { event: Event::Message(Message { content, .. }), .. } => content,
            other => panic!("{other:?}"),
        })
        .collect();
    let text = |it: &str| Content::Text { text: it.to_owned() };
    let unsupported = Content::Unsupported { r#type: "\u{FFFD}".to_owned(), raw: r#"{"x":"\ufffd"}"#.to_owned() };
    assert_eq!(texts, [text("a\u{FFFD}b"), text("👋"), unsupported]);
}

#[test]
fn a_broken_byte_costs_one_character() {
    let body = json!({ "object": "whatsapp_business_account", "entry": [{ "changes": [{ "field": "messages", "value": { "messages": [text("wamid.1", "34600000001", "a?b")] } }] }] });
    let bytes: Vec<u8> = body.to_string().bytes().map(|it| if it == b'?' { 0xFF } else { it }).collect();
    assert_eq!(content(&hear_bytes(&bytes).expect("JSON")), &Content::Text { text: "a\u{FFFD}b".to_owned() });
}

#[test]
fn of_repeated_members_the_last_counts() {
    let body = r#"{"object":"page","object":"whatsapp_business_account","entry":[{"changes":[{"field":"x","field":"messages","value":{"messages":[
        {"from":"1","from":"34600000001","id":"wamid.1","timestamp":"1","type":"text","text":{"body":"a","body":"b"}}]}}]}]}"#;
    assert_eq!(content(&hear(body)), &Content::Text { text: "b".to_owned() });
}

#[test]
fn contents_that_are_not_as_documented_are_kept_by_their_kind() {
    let of = |kind: &str, body: Value| {
        let heard = hear_messages(&json!([{ "from": "34600000001", "id": "wamid.1", "timestamp": "1", "type": kind, kind: body }]));
        content(&heard).clone()
    };
    let unsupported = |kind: &str, raw: &str| Content::Unsupported { r#type: kind.to_owned(), raw: raw.to_owned() };
    assert_eq!(of("text", json!({})), unsupported("text", "{}"));
    assert_eq!(of("text", json!({ "body": "" })), unsupported("text", r#"{"body":""}"#));
    assert_eq!(of("text", json!("hi")), unsupported("text", "\"hi\""));
    assert_eq!(of("button", json!({})), unsupported("button", "{}"));
    assert_eq!(of("interactive", json!({})), unsupported("interactive", "{}"));
    assert_eq!(of("interactive", json!({ "type": "button_reply" })), unsupported("button_reply", r#"{"type":"button_reply"}"#));
    assert_eq!(
        of("interactive", json!({ "type": "new_reply", "new_reply": {} })),
        unsupported("new_reply", r#"{"new_reply":{},"type":"new_reply"}"#)
    );
    assert_eq!(of("image", json!("?")), unsupported("image", "\"?\""));
    assert_eq!(of("poll_update", json!([1])), unsupported("poll_update", "[1]"));
    assert_eq!(
        of("voice", json!({ "id": "9" })),
        Content::Audio(domain::message::Media { id: Some("9".into()), voice: true, ..Default::default() })
    );
    assert_eq!(of("unsupported", json!(null)), unsupported("unsupported", ""));
}

#[test]
fn a_flows_answer_may_be_anything() {
    for (response, expected) in
        [(json!("[1,2]"), "[1,2]"), (json!("plain words"), "plain words"), (json!({ "a": 1 }), r#"{"a":1}"#), (json!(5), "5")]
    {
        let body = json!({ "type": "nfm_reply", "nfm_reply": { "name": "flow", "response_json": response } });
        let heard = hear_messages(
            &json!([{ "from": "34600000001", "id": "wamid.1", "timestamp": "1", "type": "interactive", "interactive": body }]),
        );
        assert_eq!(content(&heard), &Content::FlowReply { name: "flow".into(), body: None, response_json: expected.into() });
    }
}

#[test]
fn a_shared_card_of_somebody_else_is_no_address_of_the_sender() {
    let of = |user_id: &str| {
        let card = json!([{ "origin": "contact_request", "phones": [{ "phone": "+34 600 000 009", "user_id": user_id }] }]);
        let it = json!({ "from_user_id": "ES.1", "id": "wamid.1", "timestamp": "1", "type": "contacts", "contacts": card });
        content(&hear_messages(&json!([it]))).clone()
    };
    assert!(matches!(of("ES.1"), Content::ContactShared { phone: Some(phone) } if phone.digits() == "34600000009"));
    assert!(matches!(of("ES.2"), Content::Unsupported { r#type, .. } if r#type == "contacts"));
}

#[test]
fn nothing_in_a_group_is_said_to_us() {
    for kind in ["text", "reaction", "edit", "revoke", "system", "request_welcome"] {
        let body = json!({ "body": "hi", "message_id": "wamid.0", "original_message_id": "wamid.0" });
        let it = json!({ "from": "34600000001", "id": "wamid.1", "timestamp": "1", "type": kind, "group_id": "g", kind: body });
        let heard = hear_messages(&json!([it]));
        let Event::Message(message) = event(&heard) else { panic!("{kind}") };
        assert!(message.in_group && matches!(message.content, Content::Unsupported { .. }), "{kind}");
    }
}

#[test]
fn members_that_we_do_not_know_are_kept_by_name() {
    let mut message = text("wamid.1", "34600000001", "hi");
    message["text"]["tone"] = json!("loud");
    message["new"] = json!({ "a": [1] });
    message["context"] = json!({ "id": "wamid.0", "mood": 1 });
    let heard = hear_messages(&json!([message]));
    let Event::Message(it) = event(&heard) else { panic!("a message") };
    assert_eq!(it.unknown.parse::<Value>().expect("JSON"), json!({ "new": { "a": [1] }, "context.mood": 1, "text.tone": "loud" }));

    let value = json!({
        "user_actions": [{ "action_type": "marketing_messages_link_click" }],
        "messages": [{ "from": "34600000001", "id": "wamid.1", "timestamp": "1", "type": "reaction", "reaction": { "message_id": "wamid.0", "skin": 3 } }],
        "statuses": [{ "id": "wamid.2", "status": "sent", "timestamp": "1", "new": 1, "pricing": { "tier": "A" } }],
    });
    let heard = hear_change("messages", &value);
    assert_eq!(heard.updates.len(), 2);
    assert_eq!(
        ignored_as(&heard),
        [
            ("unknown_member", "messages.messages.reaction.skin"),
            ("unknown_member", "messages.statuses.new"),
            ("unknown_member", "messages.statuses.pricing.tier"),
            ("unknown_member", "messages.user_actions"),
        ]
    );
}

#[test]
fn statuses_that_we_do_not_know_are_kept_and_harm_no_neighbour() {
    let status = |status: &str| json!({ "id": "wamid.2", "status": status, "timestamp": "1" });
    let value = json!({ "statuses": [status("deleted"), status("read"), status("warning"), status(""), { "id": "", "status": "read", "timestamp": "1" }, { "id": "wamid.2", "status": "read" }] });
    let heard = hear_change("messages", &value);
    assert!(matches!(heard.updates.as_slice(), [Update { what: What::Status(StatusHeard { step: Step::Read, recipient: None, .. }), .. }]));
    assert_eq!(
        ignored_as(&heard),
        [
            ("unknown_value", "messages.statuses.status=deleted"),
            ("unknown_value", "messages.statuses.status=warning"),
            ("unknown_value", "messages.statuses.status="),
            ("no_id", "messages.statuses"),
            ("no_time", "messages.statuses"),
        ]
    );
}

#[test]
fn a_failure_without_a_code_is_not_the_code_zero() {
    let value = json!({ "statuses": [{ "id": "wamid.2", "status": "failed", "timestamp": "1", "errors": [{ "title": "?" }, "broken"] }] });
    let heard = hear_change("messages", &value);
    let [Update { what: What::Status(it), .. }] = heard.updates.as_slice() else { panic!("a status") };
    assert_eq!(it.faults.iter().map(|it| it.code).collect::<Vec<_>>(), [fault::UNKNOWN_CODE; 2]);
}

#[test]
fn of_a_thread_that_another_has_only_what_carries_our_data_is_ours() {
    let value = json!({ "standby": { "statuses": [
        { "id": "wamid.1", "status": "failed", "timestamp": "1" },
        { "id": "wamid.2", "status": "read", "timestamp": "1", "biz_opaque_callback_data": "ours" },
    ] } });
    let heard = hear_change("standby", &value);
    assert!(matches!(heard.updates.as_slice(), [Update { what: What::Status(it), .. }] if it.opaque.as_deref() == Some("ours")));
    assert_eq!(ignored_as(&heard), [("standby_status", "standby.statuses")]);
}

#[test]
fn handovers_of_older_shapes() {
    let of = |value: Value| hear_change("messaging_handovers", &value);
    let older = json!({ "recipient": { "phone_number_id": "700" }, "sender": { "wa_id": "34600000001" }, "timestamp": 1, "control_taken": { "metadata": "{}" } });
    let heard = of(older);
    assert_eq!(heard.updates[0].number.as_ref().map(NumberId::as_str), Some("700"));
    assert!(matches!(event(&heard), Event::Handover { handover: domain::message::Handover::Taken, .. }));
    assert_eq!(
        ignored_as(&of(json!({ "type": "control_passed", "timestamp": "1", "control_passed": {} }))),
        [("nobody", "messaging_handovers.value")]
    );
    assert_eq!(ignored_as(&of(json!({ "type": "control_shared", "timestamp": "1" }))), [("unknown_value", "messaging_handovers.value")]);
    assert_eq!(ignored_as(&of(json!({ "type": "control_taken" }))), [("no_time", "messaging_handovers.value")]);
}

#[test]
fn calls_and_preferences_that_say_nothing_known_are_kept() {
    let call = |it: Value| {
        ignored_as(&hear_change("calls", &json!({ "calls": [it] }))).into_iter().map(|(reason, _)| reason.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(call(json!({ "id": "c", "timestamp": "1", "from": "34600000001" })), ["unreadable"]);
    assert_eq!(call(json!({ "event": "connect", "timestamp": "1", "from": "34600000001" })), ["no_id"]);
    assert_eq!(call(json!({ "event": "connect", "id": "c", "from": "34600000001" })), ["no_time"]);
    assert_eq!(call(json!({ "event": "connect", "id": "c", "timestamp": "1" })), ["nobody"]);
    let preference = |value: &str, category: &str| {
        let it = json!({ "wa_id": "34600000001", "timestamp": 1, "value": value, "category": category });
        hear_change("user_preferences", &json!({ "user_preferences": [it] }))
    };
    assert_eq!(ignored_as(&preference("pause", "marketing_messages")), [("unknown_value", "user_preferences.user_preferences")]);
    assert_eq!(ignored_as(&preference("stop", "calls")), [("unknown_value", "user_preferences.user_preferences")]);
    assert!(matches!(
        event(&preference("signup", "marketing_messages")),
        Event::Preference { preference: domain::message::Preference::Resume, .. }
    ));
}

#[test]
fn depth_is_no_danger() {
    let deep = format!("{}1{}", "[".repeat(200_000), "]".repeat(200_000));
    let body = format!("{{\"object\":\"whatsapp_business_account\",\"entry\":[{deep}],\"new\":{deep}}}");
    assert_eq!(ignored_as(&hear(&body)), [("unknown_member", "new"), ("unreadable", "entry")]);
}

#[test]
fn a_long_name_is_cut() {
    let heard = hear_change(&"x".repeat(1_000), &json!({}));
    assert_eq!(heard.ignored[0].field.len(), NAME_LIMIT);
}

#[test]
fn a_thousand_updates_keep_their_order() {
    let messages: Vec<Value> =
        (0..1_000).map(|at| text(&format!("wamid.{at}"), &format!("3460000000{}", at % 7), &at.to_string())).collect();
    let heard = hear_messages(&Value::Array(messages));
    let heard: Vec<String> = heard
        .updates
        .iter()
        .map(|it| match &it.what {
            What::Customer { event: Event::Message(Message { content: Content::Text { text }, .. }), .. } => text.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(heard, (0..1_000).map(|at| at.to_string()).collect::<Vec<_>>());
}

/// Any JSON, whose names and words are often Meta's.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        proptest::sample::select(vec![
            "object",
            "whatsapp_business_account",
            "entry",
            "changes",
            "field",
            "value",
            "messages",
            "statuses",
            "contacts",
            "errors",
            "metadata",
            "phone_number_id",
            "id",
            "from",
            "timestamp",
            "type",
            "text",
            "body",
            "standby",
            "calls",
            "history",
            "threads",
            "system",
            "context",
            "reaction",
            "interactive",
            "nfm_reply",
            "user_preferences",
            "message_echoes",
            "smb_message_echoes",
            "edit",
            "message",
            "to",
            "unknown",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,8}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            proptest::collection::vec((word.clone(), inner), 0..6).prop_map(|it| Value::Object(it.into_iter().collect())),
        ]
    })
}

/// The lists of a value of that field, by Meta's documents: each of their elements must come out, once.
fn lists_of(field: &str) -> &'static [&'static str] {
    match field {
        "messages" | "standby" => &["messages", "statuses", "errors"],
        "calls" => &["calls", "statuses", "errors"],
        "smb_message_echoes" | "message_echoes" => &["message_echoes", "errors"],
        "user_preferences" => &["user_preferences", "errors"],
        "messaging_handovers" | "history" => &["errors"],
        // A notice, or a field that we do not know, is one thing as a whole.
        _ => &[],
    }
}

/// How many things there are in a value of that field.
fn count_in(field: &str, value: &Value) -> usize {
    let elements = lists_of(field).iter().map(|it| value[it].as_array().map_or(0, Vec::len)).sum::<usize>();
    // These are one thing as a whole, beside their errors.
    let is_whole = matches!(field, "messaging_handovers" | "history");
    if is_whole { elements + 1 } else { elements.max(1) }
}

fn any_change() -> impl Strategy<Value = (String, Value)> {
    let fields = [
        "messages",
        "standby",
        "calls",
        "smb_message_echoes",
        "message_echoes",
        "user_preferences",
        "messaging_handovers",
        "history",
        "account_update",
        "flows",
        "consumer_profile",
        "new_field",
    ];
    let element = prop_oneof![
        3 => any_json(),
        1 => Just(text("wamid.1", "34600000001", "hi")),
        1 => Just(json!({ "id": "wamid.2", "status": "read", "timestamp": "1" })),
        1 => Just(json!({ "id": "c", "event": "connect", "from": "34600000001", "timestamp": "1" })),
        1 => Just(json!({ "wa_id": "34600000001", "timestamp": 1, "value": "stop" })),
        1 => Just(json!({ "id": "wamid.3", "to": "34600000001", "timestamp": 1, "type": "text", "text": { "body": "hi" } })),
    ];
    let list = proptest::collection::vec(element, 0..5).prop_map(Value::Array);
    proptest::sample::select(fields.to_vec()).prop_flat_map(move |field| {
        let lists = lists_of(field);
        let value = proptest::collection::vec(list.clone(), lists.len());
        value.prop_map(move |value| {
            (field.to_owned(), lists.iter().zip(value).map(|(name, list)| ((*name).to_owned(), list)).collect::<Value>())
        })
    })
}

/// Where a member could be put into this JSON: pointers to its objects.
fn objects(value: &Value, at: String, out: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, inner) in members {
                objects(inner, format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), out);
            }
            out.push(at);
        }
        Value::Array(elements) => {
            for (index, inner) in elements.iter().enumerate() {
                objects(inner, format!("{at}/{index}"), out);
            }
        }
        _ => {}
    }
}

/// What was heard, without the JSON texts that are kept as they came.
fn without_raw(heard: &Heard) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.retain(|name, _| !["raw", "unknown", "value"].contains(&name.as_str()));
                // The body of a note may be JSON text.
                if members.get("event").is_some_and(|it| it == "note") {
                    members.remove("body");
                }
                members.values_mut().for_each(strip);
            }
            Value::Array(elements) => elements.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut all = as_json(heard);
    strip(&mut all);
    let ignored = all["ignored"].as_array_mut().expect("a list");
    ignored.retain(|it| it["reason"] != "unknown_member");
    all
}

fn any_example() -> impl Strategy<Value = Value> {
    proptest::sample::select(WEBHOOKS.to_vec()).prop_map(|(_, json)| json.parse().expect("JSON"))
}

proptest! {
    #[test]
    fn any_json_is_heard(value in any_json()) {
        let body = json!({ "object": "whatsapp_business_account", "entry": value }).to_string();
        let _ = as_json(&hear(&body));
        let _ = as_json(&hear(&value.to_string()));
    }

    #[test]
    fn any_change_is_heard(value in any_json(), field in proptest::sample::select(vec!["messages", "standby", "calls", "history", "messaging_handovers", "user_preferences", "smb_message_echoes", "message_echoes"])) {
        let heard = hear_change(field, &value);
        prop_assert!(heard.updates.len() + heard.ignored.len() > 0);
        let _ = as_json(&heard);
    }

    #[test]
    fn mutated_examples_are_heard(example in any_example(), at in any::<prop::sample::Index>(), value in any_json()) {
        let mut pointers = Vec::new();
        objects(&example, String::new(), &mut pointers);
        let mut mutated = example.clone();
        let members = mutated.pointer_mut(&pointers[at.index(pointers.len())]).and_then(Value::as_object_mut).expect("an object");
        if !members.is_empty() {
            let name = members.keys().nth(at.index(members.len())).cloned().expect("a member");
            members.insert(name, value);
        }
        let _ = as_json(&hear(&mutated.to_string()));
    }

    #[test]
    fn damaged_examples_are_heard_or_no_json(example in any_example(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = example.to_string().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let is_json = serde_json::from_str::<Value>(&String::from_utf8_lossy(&bytes)).is_ok();
        prop_assert!(hear_bytes(&bytes).is_ok() || !is_json);
    }

    #[test]
    fn what_goes_in_comes_out_once(entries in proptest::collection::vec(proptest::collection::vec(any_change(), 1..4), 1..4)) {
        let count: usize = entries.iter().flatten().map(|(field, value)| count_in(field, value)).sum();
        let change = |(field, value): &(String, Value)| json!({ "field": field, "value": value });
        let entries: Vec<Value> = entries.iter().map(|it| json!({ "id": "1", "changes": it.iter().map(change).collect::<Vec<_>>() })).collect();
        let heard = hear(&json!({ "object": "whatsapp_business_account", "entry": entries }).to_string());
        // An unknown member stands beside what it belongs to.
        let beside = heard.ignored.iter().filter(|it| it.reason == Reason::Member).count();
        prop_assert_eq!(heard.updates.len() + heard.ignored.len() - beside, count, "{:?}", heard);
    }

    #[test]
    fn unknown_members_anywhere_change_nothing_else(example in any_example(), at in any::<prop::sample::Index>(), value in any_json()) {
        let mut pointers = Vec::new();
        objects(&example, String::new(), &mut pointers);
        let mut changed = example.clone();
        let members = changed.pointer_mut(&pointers[at.index(pointers.len())]).and_then(Value::as_object_mut).expect("an object");
        members.insert("a_new_member".to_owned(), value);
        prop_assert_eq!(without_raw(&hear(&changed.to_string())), without_raw(&hear(&example.to_string())));
    }

    #[test]
    fn neighbours_of_anything_are_unharmed(value in any_json(), at in 0_usize..3) {
        let whole = [text("wamid.1", "34600000001", "a"), text("wamid.2", "34600000002", "b")];
        let mut messages = whole.to_vec();
        messages.insert(at, value);
        let expected = hear_messages(&json!(whole)).updates;
        let heard = hear_messages(&Value::Array(messages)).updates;
        prop_assert!(expected.iter().all(|it| heard.contains(it)));
        prop_assert!(heard.len() <= 3);
    }
}

#[test]
fn an_event_is_a_word_of_metas_and_nothing_else() {
    let word = event_word;
    assert_eq!(word(r#"{"event":"DISABLED_UPDATE","about":"x"}"#).as_deref(), Some("DISABLED_UPDATE"));
    assert_eq!(word(r#"{"display_phone_number":"15550100001","decision":"APPROVED"}"#).as_deref(), Some("APPROVED"));
    let long = format!(r#"{{"event":"{}"}}"#, "A".repeat(65));
    for value in ["", "[]", "{}", r#"{"event":""}"#, r#"{"event":"call 34600111222"}"#, r#"{"event":{"A":"B"}}"#, &long] {
        assert_eq!(word(value), None, "{value}");
    }
}
