//! What is read of Meta's lists and webhooks, and what is printed of filled templates.

use std::collections::BTreeMap;

use domain::customer::Phone;
use domain::outgoing::Source;
use domain::template::{ButtonInput, ButtonValue, CardValues, HeaderValue, Texts, Values};
use domain::time::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::fixtures::{ANSWERS, REQUESTS, WEBHOOKS, named as fixture};

const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

fn literal(text: &str) -> domain::template::Value {
    domain::template::Value::Literal(text.to_owned())
}

fn list(texts: &[&str]) -> Texts {
    Texts::Positional(texts.iter().map(|it| literal(it)).collect())
}

fn given(index: usize, value: ButtonInput) -> ButtonValue {
    ButtonValue { index, value }
}

fn link(text: &str) -> Source {
    Source::Link(format!("https://example.com/{text}"))
}

fn listed(fixture_name: &str) -> Page {
    page(fixture(ANSWERS, fixture_name).as_bytes()).expect("a page")
}

fn known(name: &str) -> Template {
    let all = [listed("templates"), listed("templates_of_every_kind")].map(|it| it.templates).concat();
    all.into_iter().find(|it| it.name.as_str() == name).expect("a template of that name")
}

fn filled(name: &str, values: &Values) -> Filled {
    known(name).fill(values, &BTreeMap::new(), NOW).expect("good values")
}

fn phone() -> Recipient {
    Recipient::Phone(Phone::parse("5215512345678").expect("a phone number"))
}

fn reminder() -> Filled {
    let values = Values {
        header: Some(HeaderValue::Text(literal("Ana"))),
        body: list(&["3 de mayo", "10:30"]),
        buttons: vec![given(1, ButtonInput::Url(literal("88"))), given(0, ButtonInput::Payload(literal("ok-88")))],
        ..Values::default()
    };
    filled("visit_reminder", &values)
}

/// Values for each template of the fixtures that can be sent.
fn documented() -> Vec<(&'static str, Values)> {
    let of_header = |header: HeaderValue| Values { header: Some(header), ..Values::default() };
    let card = |price: &str| CardValues {
        header: Some(HeaderValue::Image(Source::Id("1003383421387256".into()))),
        body: list(&[price]),
        buttons: vec![given(1, ButtonInput::Url(literal(price)))],
    };
    let location = HeaderValue::Location {
        latitude: "19.4326".into(),
        longitude: "-99.1332".into(),
        name: Some("Clínica Sur".into()),
        address: Some("Calle 5, Ciudad de México".into()),
    };
    let flow = ButtonInput::Flow { token: Some("88".into()), data: Some(r#"{"visit":88}"#.into()) };
    let names = BTreeMap::from([("first_name".into(), literal("Ana")), ("visit_day".into(), literal("lunes"))]);
    vec![
        ("welcome", Values { body: Texts::Named(names), ..Values::default() }),
        (
            "offer_picture",
            Values { buttons: vec![given(0, ButtonInput::Code(literal("AHORRE20")))], ..of_header(HeaderValue::Image(link("a.jpg"))) },
        ),
        ("offer_film", of_header(HeaderValue::Video(link("a.mp4")))),
        (
            "prescription",
            of_header(HeaderValue::Document { source: Source::Id("1003383421387257".into()), filename: Some("receta.pdf".into()) }),
        ),
        ("how_to_come", of_header(location)),
        ("login_code", Values { code: Some(literal("582910")), ..Values::default() }),
        (
            "check_up",
            Values {
                body: list(&["Ana"]),
                buttons: vec![given(0, ButtonInput::Code(literal("CHEQUEO"))), given(1, ButtonInput::Url(literal("ana maría")))],
                expires_at: Some(Timestamp::from_millis(NOW.as_millis() + 1)),
                ..Values::default()
            },
        ),
        ("services", Values { body: list(&["Ana"]), cards: vec![card("300"), card("500")], ..Values::default() }),
        ("questions", Values { buttons: vec![given(0, flow)], ..Values::default() }),
        ("catalogue", Values::default()),
    ]
}

#[test]
fn a_request_is_as_meta_documents_it() {
    let expected: Value = serde_json::from_str(fixture(REQUESTS, "template")).expect("JSON");
    assert_eq!(request(&phone(), &reminder(), "1/example/1"), expected);
    let mut marketing = expected;
    marketing["product_policy"] = json!("CLOUD_API_FALLBACK");
    assert_eq!(marketing_request(&phone(), &reminder(), "1/example/1"), marketing);
}

#[test]
fn every_kind_of_template_goes_out_in_its_form() {
    for (name, values) in documented() {
        let filled = filled(name, &values);
        insta::assert_json_snapshot!(name, json!({ "template": part(&filled), "preview": filled.preview() }));
    }
}

#[test]
fn the_data_of_a_flow_is_a_json_object() {
    let problems = |data: &str| {
        let flow = ButtonInput::Flow { token: None, data: Some(data.into()) };
        let values = Values { buttons: vec![given(0, flow)], ..Values::default() };
        check(&filled("questions", &values)).iter().map(|it| format!("{} {it}", it.code)).collect::<Vec<_>>()
    };
    assert_eq!(problems(r#"{"visit":88}"#), [""; 0]);
    for data in ["{visit: 88}", "[]", "88", "", r#"{"visit":88}{}"#] {
        let expected = "131009 buttons[0]: has data that is no JSON object; give the data of the first screen as one";
        assert_eq!(problems(data), [expected], "{data}");
    }
}

#[test]
fn a_flow_is_named_even_without_values() {
    let part = part(&filled("questions", &Values::default()));
    let parameter = json!({ "type": "action", "action": { "flow_token": "unused" } });
    assert_eq!(part["components"], json!([{ "type": "button", "sub_type": "flow", "index": "0", "parameters": [parameter] }]));
}

#[test]
fn lists_are_read_whole() {
    let page = listed("templates");
    assert_eq!((page.after.as_deref(), page.skipped, page.templates.len()), (Some("QVFIUafter"), 0, 1));
    let last = listed("templates_of_every_kind");
    assert_eq!((last.after.as_deref(), last.skipped), (None, 0), "without a link to a next page the cursor leads nowhere");
    insta::assert_json_snapshot!("lists_are_read_whole", [page.templates, last.templates].concat());
}

/// The only template of a list.
fn one(entry: &Value) -> Option<Template> {
    let page = page(json!({ "data": [entry] }).to_string().as_bytes()).expect("a page");
    assert_eq!(page.templates.len() + page.skipped, 1);
    page.templates.into_iter().next()
}

fn entry(category: &str, components: Value) -> Value {
    json!({ "id": 812_345_678_901_234_u64, "name": "visit_reminder", "language": "es-MX", "status": "approved", "category": category,
            "components": components })
}

#[test]
fn what_meta_writes_either_way_is_read_either_way() {
    let components = json!([{ "type": "body", "text": "Hola {{1}}" }, { "type": "Header", "format": "image" }]);
    let read = one(&entry("utility", components)).expect("a template");
    assert_eq!(read.id, "812345678901234", "an id may be a number");
    assert_eq!((read.language.as_str(), &read.status, &read.category), ("es_MX", &Status::Approved, &Category::Utility));
    let body = Component::Body { text: "Hola {{1}}".into() };
    assert_eq!(read.components, [body, Component::MediaHeader { format: HeaderFormat::Image }]);
    assert_eq!((read.format, read.quality, read.is_hidden), (ParameterFormat::Positional, None, false));
}

#[test]
fn what_is_not_known_is_kept_by_name() {
    let mut unknown = entry("NEWS", json!([{ "type": "SONG" }, { "type": "HEADER", "format": "SONG" }, { "type": "BODY" }, 7]));
    unknown["status"] = json!("IN_APPEAL");
    let read = one(&unknown).expect("a template");
    assert_eq!((read.status, read.category), (Status::Other("IN_APPEAL".into()), Category::Other("NEWS".into())));
    let kinds = ["SONG", "HEADER SONG", "BODY", "UNREADABLE"].map(|it| Component::Unknown { kind: it.into() });
    assert_eq!(read.components, kinds);
}

#[test]
fn a_broken_entry_harms_only_itself() {
    let good = entry("UTILITY", json!([{ "type": "BODY", "text": "Hola" }]));
    for member in ["id", "name", "language", "status", "category", "components"] {
        let mut broken = good.clone();
        broken[member] = Value::Null;
        let page = page(json!({ "data": [broken, good, 7] }).to_string().as_bytes()).expect("a page");
        assert_eq!((page.templates.len(), page.skipped), (1, 2), "{member}");
    }
    for no_list in ["", "[]", "{}", r#"{"error":{"code":190}}"#, "<html>"] {
        assert_eq!(page(no_list.as_bytes()), None, "{no_list}");
    }
}

#[test]
fn a_login_code_has_its_button_whatever_it_is_listed_as() {
    let button = |category: &str, button: Value| {
        let read = one(&entry(category, json!([{ "type": "BUTTONS", "buttons": [button] }]))).expect("a template");
        let Some(Component::Buttons { buttons }) = read.components.first() else { panic!("no buttons") };
        buttons[0].clone()
    };
    let address = "https://www.whatsapp.com/otp/code/?otp_type=ZERO_TAP&code=otp{{1}}";
    let otp = Button::Otp { text: "Copiar".into() };
    for kind in ["COPY_CODE", "ONE_TAP", "ZERO_TAP"] {
        assert_eq!(button("AUTHENTICATION", json!({ "type": "OTP", "otp_type": kind, "text": "Copiar" })), otp);
    }
    assert_eq!(button("AUTHENTICATION", json!({ "type": "URL", "text": "Copiar", "url": address })), otp);
    assert_eq!(button("AUTHENTICATION", json!({ "type": "COPY_CODE", "text": "Copiar" })), otp);
    assert_eq!(button("MARKETING", json!({ "type": "COPY_CODE", "text": "Copiar" })), Button::CopyCode);
    let page = Button::Url { text: "Copiar".into(), url: address.into() };
    assert_eq!(button("UTILITY", json!({ "type": "URL", "text": "Copiar", "url": address })), page);
}

#[test]
fn the_words_around_a_login_code_may_be_left_out() {
    let read = one(&entry("AUTHENTICATION", json!([{ "type": "BODY", "add_security_recommendation": true }]))).expect("a template");
    assert_eq!(read.components, [Component::Body { text: "{{1}}".into() }]);
}

#[test]
fn webhooks_say_which_template_they_are_about() {
    for name in ["template_category", "template_components", "template_quality", "template_status"] {
        let body: Value = serde_json::from_str(fixture(WEBHOOKS, name)).expect("JSON");
        let (name, language) = named(&body["entry"][0]["changes"][0]["value"].to_string()).expect("a template");
        assert_eq!((name.as_str(), language.as_str()), ("visit_reminder", "es_MX"));
    }
    assert_eq!(named(r#"{"message_template_name":"a","message_template_language":"es-MX"}"#).expect("a template").1.as_str(), "es_MX");
    for nothing in
        ["", "7", "{}", r#"{"message_template_name":"a"}"#, r#"{"message_template_name":"A b","message_template_language":"es"}"#]
    {
        assert_eq!(named(nothing), None, "{nothing}");
    }
}

/// JSON in which Meta's members and words are common.
fn any_json() -> impl Strategy<Value = Value> {
    let words = vec![
        "BODY",
        "HEADER",
        "BUTTONS",
        "CAROUSEL",
        "LIMITED_TIME_OFFER",
        "URL",
        "OTP",
        "TEXT",
        "IMAGE",
        "AUTHENTICATION",
        "a_name",
        "{{1}}",
    ];
    let leaf = prop_oneof![
        prop::sample::select(words).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        "\\PC{0,5}".prop_map(Value::from),
    ];
    let members = vec![
        "data",
        "id",
        "name",
        "language",
        "status",
        "category",
        "components",
        "type",
        "format",
        "text",
        "buttons",
        "url",
        "cards",
        "paging",
        "next",
        "cursors",
        "after",
        "limited_time_offer",
        "quality_score",
    ];
    leaf.prop_recursive(6, 60, 8, move |inner| {
        let object = prop::collection::hash_map(prop::sample::select(members.clone()), inner.clone(), 0..8)
            .prop_map(|it| it.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
        prop_oneof![prop::collection::vec(inner, 0..4).prop_map(Value::from), object]
    })
}

proptest! {
    #[test]
    fn no_list_panics_and_no_entry_is_lost(entries in prop::collection::vec(any_json(), 0..4), components in any_json(), bytes in any::<Vec<u8>>()) {
        let _ = page(&bytes);
        let whole = entry("AUTHENTICATION", components);
        let data: Vec<Value> = entries.into_iter().chain([whole]).collect();
        let page = page(json!({ "data": data }).to_string().as_bytes()).expect("a page");
        prop_assert_eq!(page.templates.len() + page.skipped, data.len());
        for template in page.templates {
            let _ = (template.variables(), template.blank_preview(), template.fill(&Values::default(), &BTreeMap::new(), NOW));
            let kept = serde_json::to_string(&template).expect("JSON");
            prop_assert_eq!(serde_json::from_str::<Template>(&kept).ok(), Some(template));
        }
    }
}
