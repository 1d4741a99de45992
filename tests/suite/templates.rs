//! What may fill a template is written down twice, by two hands: in `domain` before a send, in the simulator as Meta judges it.
//!
//! Generated templates go through Meta's list into ours, generated values through both. What we pass is taken, and shows the customer what
//! our preview shows; what the simulator refuses, we have refused before.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::customer::Phone;
use domain::outgoing::Source;
use domain::template::{
    ButtonInput, ButtonValue, CardValues, HeaderValue, Kind, ParameterFormat, Part, Preview, PreviewButton, PreviewHeader, Template, Texts,
    Value as Given, Values, Variable,
};
use domain::time::Timestamp;
use meta::outgoing::{Recipient, addressed};
use meta_sim::{ManualClock, Setup, Simulator};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use world::story::{ACCESS_TOKEN, NUMBER, WABA};

/// How many templates are tried, each with values of its own.
const CASES: usize = 1_500;

/// A text as Meta lists it, with so many variables, the first ones again at its end.
fn text(is_named: bool, count: usize, again: usize) -> String {
    let name = |it: usize| if is_named { format!("{{{{name_{it}}}}}") } else { format!("{{{{{}}}}}", it + 1) };
    (0..count).chain(0..again.min(count)).fold("Hola".to_owned(), |text, it| format!("{text} {} y", name(it)))
}

fn headers(is_named: bool) -> impl Strategy<Value = Option<Value>> {
    let media = prop::sample::select(vec!["IMAGE", "VIDEO", "DOCUMENT", "LOCATION"]);
    prop_oneof![
        Just(None),
        media.prop_map(|format| Some(json!({ "type": "HEADER", "format": format }))),
        (0..2_usize).prop_map(move |it| Some(json!({ "type": "HEADER", "format": "TEXT", "text": text(is_named, it, 0) }))),
    ]
}

fn buttons() -> impl Strategy<Value = Option<Value>> {
    let button = prop::sample::select(vec![
        json!({ "type": "QUICK_REPLY", "text": "Confirmar" }),
        json!({ "type": "URL", "text": "Web", "url": "https://example.com" }),
        json!({ "type": "URL", "text": "Cambiar", "url": "https://example.com/c/{{1}}" }),
        json!({ "type": "PHONE_NUMBER", "text": "Llamar", "phone_number": "+525512345678" }),
        json!({ "type": "COPY_CODE", "example": ["AHORRE20"] }),
        json!({ "type": "FLOW", "text": "Abrir", "flow_id": 123_456_789_012_345_u64 }),
        json!({ "type": "CATALOG", "text": "Ver" }),
    ]);
    prop::collection::vec(button, 0..5).prop_map(|it| (!it.is_empty()).then(|| json!({ "type": "BUTTONS", "buttons": it })))
}

/// What a message and a card have alike.
fn faces(is_named: bool) -> impl Strategy<Value = Vec<Value>> {
    (headers(is_named), (0..4_usize, 0..3_usize), buttons()).prop_map(move |(header, (count, again), buttons)| {
        let body = json!({ "type": "BODY", "text": text(is_named, count, again) });
        header.into_iter().chain([body]).chain(buttons).collect()
    })
}

/// Category, format and components of a template.
fn templates() -> impl Strategy<Value = (&'static str, &'static str, Vec<Value>)> {
    let login = prop::sample::select(vec!["OTP", "URL"]).prop_map(|kind| {
        let url = "https://www.whatsapp.com/otp/code/?otp_type=COPY_CODE&code=otp{{1}}";
        let button = json!({ "type": kind, "otp_type": "COPY_CODE", "text": "Copiar", "url": url });
        let body = json!({ "type": "BODY", "text": "*{{1}}* es tu código de verificación." });
        ("AUTHENTICATION", "POSITIONAL", vec![body, json!({ "type": "BUTTONS", "buttons": [button] })])
    });
    let others = any::<bool>().prop_flat_map(|is_named| {
        let offer = prop::option::weighted(0.3, any::<bool>());
        let cards = prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(faces(is_named), 2..4)];
        (faces(is_named), offer, cards).prop_map(move |(mut components, offer, cards)| {
            let limited = |it: bool| json!({ "type": "LIMITED_TIME_OFFER", "limited_time_offer": { "text": "Hoy", "has_expiration": it } });
            components.extend(offer.map(limited));
            if !cards.is_empty() {
                let cards: Vec<Value> = cards.into_iter().map(|it| json!({ "components": it })).collect();
                components.push(json!({ "type": "CAROUSEL", "cards": cards }));
            }
            components.push(json!({ "type": "FOOTER", "text": "Clínica Sur" }));
            ("UTILITY", if is_named { "NAMED" } else { "POSITIONAL" }, components)
        })
    });
    prop_oneof![1 => login, 6 => others]
}

/// What one variable is given: nothing, or a text, which for what is no text says only whether it is good.
fn deeds() -> impl Strategy<Value = Vec<Option<Given>>> {
    let literal = |text: &str| Some(Given::Literal(text.to_owned()));
    let good = "[a-z{}1-3%&?é]{1,8}".prop_map(|it| Some(Given::Literal(it)));
    let braces = prop::sample::select(vec![literal("{{1}}"), literal("{{name_1}}"), Some(Given::Field { field: "name".into() })]);
    let long = (60..1_100_usize).prop_map(|it| Some(Given::Literal("é".repeat(it))));
    let bad = prop::sample::select(vec![
        None,
        literal(""),
        literal("a\nb"),
        literal("a\tb"),
        literal("a     b"),
        Some(Given::Field { field: "absent".into() }),
    ]);
    prop::collection::vec(prop_oneof![40 => good, 10 => braces, 1 => long, 2 => bad], 48)
}

/// What is done to the values as a whole.
#[derive(Debug, Clone, Copy)]
enum Twist {
    None,
    OneValueMore,
    OneValueLess,
    OtherNames,
    OtherFormat,
    OtherHeader,
    NoHeader,
    ButtonBeyond,
    OtherButton,
    OneCardLess,
    Expiry,
    Code,
}

fn twists() -> impl Strategy<Value = Twist> {
    use Twist::{
        ButtonBeyond, Code, Expiry, NoHeader, None, OneCardLess, OneValueLess, OneValueMore, OtherButton, OtherFormat, OtherHeader,
        OtherNames,
    };
    let one = prop::sample::select(vec![
        OneValueMore,
        OneValueLess,
        OtherNames,
        OtherFormat,
        OtherHeader,
        NoHeader,
        ButtonBeyond,
        OtherButton,
        OneCardLess,
        Expiry,
        Code,
    ]);
    prop_oneof![1 => Just(None), 1 => one]
}

fn participant() -> BTreeMap<String, String> {
    BTreeMap::from([("name".to_owned(), "Ana".to_owned())])
}

/// The text that a value stands for; of a field that is absent, none.
fn words(value: &Given) -> String {
    match value {
        Given::Literal(text) => text.clone(),
        Given::Field { field } => participant().get(field).cloned().unwrap_or_default(),
    }
}

fn is_good(given: &Given) -> bool {
    !words(given).trim().is_empty() && !words(given).contains(['\n', '\t']) && !words(given).contains("     ")
}

/// The header that a variable gets.
fn header_value(kind: Kind, given: &Given) -> HeaderValue {
    let source = Source::Link(if is_good(given) { "https://example.org/a" } else { "ftp://example.org/a" }.to_owned());
    match kind {
        Kind::Image => HeaderValue::Image(source),
        Kind::Video => HeaderValue::Video(source),
        Kind::Document => HeaderValue::Document { source, filename: Some("receta.pdf".into()) },
        Kind::Location => HeaderValue::Location {
            latitude: if is_good(given) { "19.4" } else { "91" }.into(),
            longitude: "-99.1".into(),
            name: None,
            address: None,
        },
        Kind::Text | Kind::UrlSuffix | Kind::Payload | Kind::Code | Kind::Flow | Kind::Expiry => HeaderValue::Text(given.clone()),
    }
}

/// What a button gets.
fn button_value(index: usize, kind: Kind, given: &Given) -> ButtonValue {
    let value = match kind {
        Kind::UrlSuffix => ButtonInput::Url(given.clone()),
        Kind::Code => ButtonInput::Code(given.clone()),
        Kind::Flow => ButtonInput::Flow { token: Some("88".into()), data: Some(r#"{"visit":88}"#.into()) },
        _ => ButtonInput::Payload(given.clone()),
    };
    ButtonValue { index, value }
}

fn put(texts: &mut Texts, name: String, value: Given) {
    match texts {
        Texts::Named(map) => drop(map.insert(name, value)),
        Texts::Positional(list) => list.push(value),
    }
}

/// The values for a template, variable by variable, and then the twist.
fn values(template: &Template, deeds: &[Option<Given>], twist: Twist, now: Timestamp) -> Values {
    let empty = || if template.format == ParameterFormat::Named { Texts::Named(BTreeMap::new()) } else { Texts::default() };
    let cards = template.blank_preview().cards.len();
    let mut values =
        Values { body: empty(), cards: vec![CardValues { body: empty(), ..CardValues::default() }; cards], ..Values::default() };
    for (Variable { place, kind, .. }, given) in template.variables().into_iter().zip(deeds) {
        let Some(given) = given else { continue };
        let name = place.variable.unwrap_or_default();
        let (header, body, buttons) = match place.card.map(|it| &mut values.cards[it]) {
            Some(card) => (&mut card.header, &mut card.body, &mut card.buttons),
            None => (&mut values.header, &mut values.body, &mut values.buttons),
        };
        match place.component {
            Part::Header => *header = Some(header_value(kind, given)),
            Part::Body => put(body, name, given.clone()),
            Part::Buttons => buttons.push(button_value(place.button.unwrap_or_default(), kind, given)),
            Part::Code => values.code = Some(given.clone()),
            Part::ExpiresAt => values.expires_at = Some(Timestamp::from_millis(now.as_millis() + i64::from(is_good(given)))),
            Part::Cards | Part::Unknown(_) => {}
        }
    }
    let extra = Given::Literal("x".into());
    match twist {
        Twist::None => {}
        Twist::OneValueMore => put(&mut values.body, "one_more".into(), extra),
        Twist::OneValueLess => match &mut values.body {
            Texts::Positional(list) => drop(list.pop()),
            Texts::Named(map) => drop(map.pop_last()),
        },
        Twist::OtherNames => {
            if let Texts::Named(map) = &mut values.body
                && let Some((_, value)) = map.pop_last()
            {
                map.insert("other".into(), value);
            }
        }
        Twist::OtherFormat => {
            values.body = match std::mem::take(&mut values.body) {
                Texts::Positional(list) => Texts::Named(list.into_iter().enumerate().map(|(at, it)| (format!("name_{at}"), it)).collect()),
                Texts::Named(map) => Texts::Positional(map.into_values().collect()),
            }
        }
        Twist::OtherHeader => values.header = Some(header_value(Kind::Image, &extra)),
        Twist::NoHeader => values.header = None,
        Twist::ButtonBeyond => values.buttons.push(button_value(7, Kind::Payload, &extra)),
        Twist::OtherButton => values.buttons.insert(0, button_value(0, Kind::Code, &extra)),
        Twist::OneCardLess => drop(values.cards.pop()),
        Twist::Expiry => values.expires_at = Some(now),
        Twist::Code => values.code = Some(extra),
    }
    values
}

/// The values as somebody prints them who looks at nothing: what Meta would be asked without our check.
fn careless(listed: &Value, values: &Values) -> Value {
    let is_named = listed["parameter_format"] == "NAMED";
    let all = listed["components"].as_array().cloned().unwrap_or_default();
    let mut components = careless_face(&all, is_named, values.header.as_ref(), &values.body, &values.buttons);
    if let Some(code) = &values.code {
        let parameter = json!({ "type": "text", "text": words(code) });
        components.push(json!({ "type": "body", "parameters": [parameter] }));
        components.push(json!({ "type": "button", "sub_type": "url", "index": "0", "parameters": [parameter] }));
    }
    if let Some(at) = values.expires_at {
        let offer = json!({ "type": "limited_time_offer", "limited_time_offer": { "expiration_time_ms": at.as_millis() } });
        components.push(json!({ "type": "limited_time_offer", "parameters": [offer] }));
    }
    let made = all.iter().find(|it| it["type"] == "CAROUSEL").and_then(|it| it["cards"].as_array()).cloned().unwrap_or_default();
    let cards = values.cards.iter().zip(made).enumerate().map(|(at, (it, made))| {
        let made = made["components"].as_array().cloned().unwrap_or_default();
        json!({ "card_index": at, "components": careless_face(&made, is_named, it.header.as_ref(), &it.body, &it.buttons) })
    });
    let cards: Vec<Value> = cards.collect();
    if !cards.is_empty() {
        components.push(json!({ "type": "carousel", "cards": cards }));
    }
    json!({ "name": listed["name"], "language": { "code": listed["language"] }, "components": components })
}

fn careless_face(made: &[Value], is_named: bool, header: Option<&HeaderValue>, body: &Texts, buttons: &[ButtonValue]) -> Vec<Value> {
    let mut components = Vec::new();
    let named = |mut parameter: Value, name: &str| {
        if is_named {
            parameter["parameter_name"] = name.into();
        }
        parameter
    };
    let file = |it: &Source| match it {
        Source::Id(id) => json!({ "id": id }),
        Source::Link(link) => json!({ "link": link }),
        Source::File(_) | Source::Content { .. } => unreachable!("a template takes neither"),
    };
    if let Some(header) = header {
        let parameter = match header {
            HeaderValue::Text(it) => named(json!({ "type": "text", "text": words(it) }), "name_0"),
            HeaderValue::Image(it) => json!({ "type": "image", "image": file(it) }),
            HeaderValue::Video(it) => json!({ "type": "video", "video": file(it) }),
            HeaderValue::Document { source, .. } => json!({ "type": "document", "document": file(source) }),
            HeaderValue::Location { latitude, longitude, .. } => {
                json!({ "type": "location", "location": { "latitude": latitude, "longitude": longitude } })
            }
        };
        components.push(json!({ "type": "header", "parameters": [parameter] }));
    }
    let texts: Vec<Value> = match body {
        Texts::Positional(list) => list.iter().map(|it| json!({ "type": "text", "text": words(it) })).collect(),
        Texts::Named(map) => map.iter().map(|(name, it)| json!({ "type": "text", "parameter_name": name, "text": words(it) })).collect(),
    };
    if !texts.is_empty() {
        components.push(json!({ "type": "body", "parameters": texts }));
    }
    let mut button = |index: usize, kind: &str, parameter: Value| {
        components.push(json!({ "type": "button", "sub_type": kind, "index": index.to_string(), "parameters": [parameter] }));
    };
    for ButtonValue { index, value } in buttons {
        match value {
            ButtonInput::Url(it) => button(*index, "url", json!({ "type": "text", "text": words(it) })),
            ButtonInput::Payload(it) => button(*index, "quick_reply", json!({ "type": "payload", "payload": words(it) })),
            ButtonInput::Code(it) => button(*index, "copy_code", json!({ "type": "coupon_code", "coupon_code": words(it) })),
            ButtonInput::Flow { .. } => button(*index, "flow", json!({ "type": "action", "action": {} })),
        }
    }
    // A flow's button is to be named even without values.
    let listed = made.iter().find(|it| it["type"] == "BUTTONS").and_then(|it| it["buttons"].as_array()).cloned().unwrap_or_default();
    for (index, it) in listed.iter().enumerate() {
        if it["type"] == "FLOW" && !buttons.iter().any(|it| it.index == index) {
            button(index, "flow", json!({ "type": "action", "action": {} }));
        }
    }
    components
}

/// What there is to read on a message or a card, as our preview has it.
fn previewed(header: Option<&PreviewHeader>, body: &str, buttons: &[PreviewButton]) -> Value {
    let header = if let Some(PreviewHeader::Text { text }) = header { Some(text) } else { None };
    json!({ "header": header, "body": body, "urls": buttons.iter().map(|it| &it.url).collect::<Vec<_>>() })
}

/// The same as the simulator's customer has it.
fn seen(shown: &Value) -> Value {
    let buttons = shown["buttons"].as_array().cloned().unwrap_or_default();
    // Made as `OTP`, the button has an address in the simulator; it is no page that anybody opens.
    let url = |it: &Value| if it["url"].as_str().is_some_and(|it| it.contains("/otp/")) { Value::Null } else { it["url"].clone() };
    json!({ "header": shown["header"]["text"], "body": shown["body"], "urls": buttons.iter().map(url).collect::<Vec<_>>() })
}

fn assert_shown(preview: &Preview, shown: &Value, case: &str) {
    assert_eq!(previewed(preview.header.as_ref(), &preview.body, &preview.buttons), seen(shown), "{case}");
    assert_eq!(preview.footer.as_deref(), shown["footer"].as_str(), "{case}");
    let ends_at = preview.offer.as_ref().and_then(|it| it.expires_at).map(Timestamp::as_millis);
    assert_eq!(ends_at, shown["limited_time_offer"]["expiration_time_ms"].as_i64(), "{case}");
    let cards: Vec<Value> = preview.cards.iter().map(|it| previewed(it.header.as_ref(), &it.body, &it.buttons)).collect();
    let shown: Vec<Value> = shown["cards"].as_array().into_iter().flatten().map(seen).collect();
    assert_eq!(cards, shown, "{case}");
}

/// The simulator with a clock, and a customer for each send, so that no limit but the template's own is met.
struct Meta {
    simulator: Simulator,
    clock: ManualClock,
    customers: u64,
}

impl Meta {
    fn new() -> Self {
        let clock = ManualClock::new(1_790_000_000_000);
        Self { simulator: Simulator::new(clock.clone(), Setup::demo()), clock, customers: 0 }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.simulator.now_ms())
    }

    fn next_customer(&mut self) -> Recipient {
        self.customers += 1;
        Recipient::Phone(Phone::parse(&format!("52155{:08}", self.customers)).expect("a phone number"))
    }

    /// What the customer then sees, or the code of the refusal.
    fn send(&self, body: &Value) -> Result<Value, u32> {
        let answer = self.simulator.send(NUMBER, ACCESS_TOKEN, body).map_err(|it| it.code)?;
        let message = answer["messages"][0]["id"].as_str().and_then(|it| self.simulator.message(it)).expect("a message");
        Ok(message.content["shown"].clone())
    }

    /// Makes the template there, and reads it as it is listed.
    fn make(&self, name: &str, (category, format, components): (&str, &str, Vec<Value>)) -> (Value, Template) {
        let mut made = meta_sim::Template::of_body("812345678901234", name, "es_MX", "").in_category(category);
        made.parameter_format = format.to_owned();
        made.components = components;
        let listed = made.listed();
        self.simulator.put_template(WABA, made);
        let page = meta::templates::page(json!({ "data": [listed] }).to_string().as_bytes()).expect("a page");
        (listed, page.templates.into_iter().next().expect("a template"))
    }
}

#[test]
fn what_fills_a_template_is_what_meta_takes() {
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let cases = (templates(), deeds(), twists());
    let mut meta = Meta::new();
    let (mut taken, mut refused, mut same_code, mut stricter) = (0, 0, 0, 0);
    for number in 0..CASES {
        let (made, deeds, twist) = cases.new_tree(&mut runner).expect("a case").current();
        let (listed, template) = meta.make(&format!("case_{number}"), made);
        // A second later, so that the number's throughput is no matter.
        meta.clock.advance(Duration::from_secs(1));
        let to = meta.next_customer();
        let values = values(&template, &deeds, twist, meta.now());
        let case = format!("{number}: {twist:?} {listed} {values:?}");
        let asked = meta.send(&addressed(&to, "template", careless(&listed, &values), "1/example/1"));
        match (template.fill(&values, &participant(), meta.now()), asked) {
            (Ok(filled), asked) => {
                assert_eq!(asked.err(), None, "we pass what is refused: {case}");
                let to = meta.next_customer();
                let shown =
                    meta.send(&meta::templates::request(&to, &filled, "1/example/1")).unwrap_or_else(|code| panic!("{code} {case}"));
                assert_shown(filled.preview(), &shown, &case);
                taken += 1;
            }
            (Err(problems), Err(code)) => {
                refused += 1;
                same_code += usize::from(problems.iter().any(|it| it.code == code));
            }
            // What nobody means: a tab in a code to copy, a value for the button of a catalogue.
            (Err(_), Ok(_)) => stricter += 1,
        }
    }
    assert!(taken >= 500 && refused >= 500 && stricter <= 30, "{taken} taken, {refused} refused by both, {stricter} only by us");
    // Meta's pages leave the code of some refusals open, and each hand chose one.
    assert!(same_code * 3 >= refused * 2, "{same_code} of {refused} refusals have the code that Meta gives");
}
