//! What fills a template, what does not, and what is said of it.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

fn literal(text: &str) -> Value {
    Value::Literal(text.to_owned())
}

fn field(name: &str) -> Value {
    Value::Field { field: name.to_owned() }
}

fn link(text: &str) -> Source {
    Source::Link(text.to_owned())
}

fn list(texts: &[&str]) -> Texts {
    Texts::Positional(texts.iter().map(|it| literal(it)).collect())
}

fn named(texts: &[(&str, &str)]) -> Texts {
    Texts::Named(texts.iter().map(|(name, text)| ((*name).to_owned(), literal(text))).collect())
}

fn text_header(text: &str) -> Component {
    Component::TextHeader { text: text.to_owned() }
}

fn body(text: &str) -> Component {
    Component::Body { text: text.to_owned() }
}

fn url(url: &str) -> Button {
    Button::Url { text: "Cambiar".into(), url: url.to_owned() }
}

fn quick_reply() -> Button {
    Button::QuickReply { text: "Confirmar".into() }
}

fn given(index: usize, value: ButtonInput) -> ButtonValue {
    ButtonValue { index, value }
}

fn template(components: Vec<Component>) -> Template {
    Template {
        id: "812345678901234".into(),
        name: TemplateName::parse("visit_reminder").expect("a name"),
        language: Language::parse("es_MX").expect("a language"),
        status: Status::Approved,
        category: Category::Utility,
        quality: None,
        format: ParameterFormat::Positional,
        is_hidden: false,
        components,
    }
}

fn reminder() -> Template {
    template(vec![
        text_header("Hola {{1}}"),
        body("Su cita es el {{1}} a las {{2}}. ¿Viene el {{1}}?"),
        Component::Footer { text: "Clínica Sur".into() },
        Component::Buttons { buttons: vec![quick_reply(), url("https://example.com/c/{{1}}")] },
    ])
}

fn reminder_values() -> Values {
    Values {
        header: Some(HeaderValue::Text(field("nombre"))),
        body: list(&["3 de mayo", "10:30"]),
        buttons: vec![given(0, ButtonInput::Payload(literal("ok-88"))), given(1, ButtonInput::Url(literal("88?de=niño")))],
        ..Values::default()
    }
}

fn ana() -> BTreeMap<String, String> {
    BTreeMap::from([("nombre".to_owned(), "Ana".to_owned()), ("vacío".to_owned(), " ".to_owned())])
}

fn problems(template: &Template, values: &Values) -> Vec<String> {
    let problems = template.fill(values, &ana(), NOW).err().unwrap_or_default();
    problems.iter().map(|it| format!("{} {it}", it.code)).collect()
}

/// What is wrong with the values of a template that has only this.
fn problem_of(component: Component, values: Values) -> Vec<String> {
    problems(&template(vec![component]), &values)
}

fn of_body(body: Texts) -> Values {
    Values { body, ..Values::default() }
}

fn of_header(header: HeaderValue) -> Values {
    Values { header: Some(header), ..Values::default() }
}

fn of_buttons(buttons: Vec<ButtonValue>) -> Values {
    Values { buttons, ..Values::default() }
}

#[test]
fn values_stand_where_they_belong() {
    let filled = reminder().fill(&reminder_values(), &ana(), NOW).expect("good values");
    let text = |text: &str| FilledText { name: None, text: text.to_owned() };
    assert_eq!(filled.message().header, Some(FilledHeader::Text(text("Ana"))));
    assert_eq!(filled.message().body, [text("3 de mayo"), text("10:30")]);
    let payload = FilledButton { index: 0, input: FilledInput::Payload("ok-88".into()) };
    assert_eq!(filled.message().buttons, [payload, FilledButton { index: 1, input: FilledInput::Url("88?de=ni%C3%B1o".into()) }]);
    assert_eq!((filled.name().as_str(), filled.language().as_str(), filled.category()), ("visit_reminder", "es_MX", &Category::Utility));

    let preview = filled.preview();
    assert_eq!(preview.header, Some(PreviewHeader::Text { text: "Hola Ana".into() }));
    assert_eq!(preview.text(), "Su cita es el 3 de mayo a las 10:30. ¿Viene el 3 de mayo?");
    assert_eq!(preview.footer.as_deref(), Some("Clínica Sur"));
    assert_eq!(preview.buttons[1].url.as_deref(), Some("https://example.com/c/88?de=ni%C3%B1o"));
    assert_eq!(preview.buttons[0].text.as_deref(), Some("Confirmar"));
}

#[test]
fn a_blank_preview_shows_the_variables() {
    let preview = reminder().blank_preview();
    assert_eq!(preview.header, Some(PreviewHeader::Text { text: "Hola {{1}}".into() }));
    assert_eq!(preview.text(), "Su cita es el {{1}} a las {{2}}. ¿Viene el {{1}}?");
    assert_eq!(preview.buttons[1].url.as_deref(), Some("https://example.com/c/{{1}}"));
}

#[test]
fn variables_are_listed_by_component_each_once() {
    let listed: Vec<String> = reminder().variables().iter().map(|it| format!("{} {:?} {}", it.place, it.kind, it.required)).collect();
    let expected = ["header {{1}} Text true", "body {{1}} Text true", "body {{2}} Text true", "buttons[0] Payload false"];
    assert_eq!(listed, [expected.as_slice(), &["buttons[1] {{1}} UrlSuffix true"]].concat());
}

#[test]
fn a_value_that_looks_like_a_variable_is_not_filled_again() {
    let filled = template(vec![body("{{1}} y {{2}}")]).fill(&of_body(list(&["{{2}}", "{{1}}"])), &ana(), NOW).expect("good values");
    assert_eq!(filled.preview().text(), "{{2}} y {{1}}");
}

#[test]
fn numbers_are_sorted_as_numbers() {
    let text: String = (1..=11).rev().map(|it| format!("{{{{{it}}}}} ")).collect();
    let texts: Vec<String> = (1..=11).map(|it| format!("v{it}")).collect();
    let values = of_body(Texts::Positional(texts.into_iter().map(Value::Literal).collect()));
    let filled = template(vec![body(&text)]).fill(&values, &ana(), NOW).expect("good values");
    assert_eq!(filled.preview().text(), "v11 v10 v9 v8 v7 v6 v5 v4 v3 v2 v1 ");
}

#[test]
fn braces_that_hold_no_name_are_text() {
    let filled = template(vec![body("{{{1}}} {{ 1 }} {{}} {{a b}} {{")]).fill(&of_body(list(&["x"])), &ana(), NOW);
    assert_eq!(filled.expect("good values").preview().text(), "{x} x {{}} {{a b}} {{");
}

#[test]
fn texts_are_counted_per_component() {
    let two = || body("Su cita es el {{1}} a las {{2}}.");
    let cases: Vec<(Component, Values, &[&str])> = vec![
        (two(), Values::default(), &["132000 body {{1}}: is missing; give it a value", "132000 body {{2}}: is missing; give it a value"]),
        (two(), of_body(list(&["a"])), &["132000 body {{2}}: is missing; give it a value"]),
        (two(), of_body(list(&["a", "b", "c"])), &["132000 body: has 3 values and 2 variables; leave the last ones out"]),
        (two(), of_body(named(&[("a", "b")])), &["132012 body: has numbered variables; give a list of values"]),
        (body("Hola"), of_body(list(&["a"])), &["132000 body: takes no values; leave them out"]),
        (two(), of_body(list(&["", "b"])), &["131008 body {{1}}: is empty; give it a value"]),
        (two(), of_body(list(&[" ", "b"])), &["131008 body {{1}}: is empty; give it a value"]),
        (
            two(),
            of_body(list(&["a\nb", "\t"])),
            &[
                "132018 body {{1}}: has a line break, a tab or another control character; write it in one line",
                "131008 body {{2}}: is empty; give it a value",
            ],
        ),
        (two(), of_body(list(&["a    b", "a     b"])), &["132018 body {{2}}: has more than four spaces in a row; leave some out"]),
        (
            two(),
            of_body(Texts::Positional(vec![field("nombre"), field("apellido")])),
            &["131008 body {{2}}: is the participant's field `apellido`, which is missing or empty; give the participant one"],
        ),
        (
            two(),
            of_body(Texts::Positional(vec![field("vacío"), field("nombre")])),
            &["131008 body {{1}}: is the participant's field `vacío`, which is missing or empty; give the participant one"],
        ),
        (text_header("Hola"), of_header(HeaderValue::Text(literal("Ana"))), &["132000 header: takes no value; leave it out"]),
        (text_header("Hola {{1}}"), Values::default(), &["132000 header {{1}}: is missing; give it a value"]),
        (text_header("Hola {{1}}"), of_header(HeaderValue::Image(link("https://a"))), &["132012 header: is a line of text; give text"]),
        (body("Hola"), of_header(HeaderValue::Text(literal("Ana"))), &["132000 header: is not in this template; leave it out"]),
    ];
    for (component, values, expected) in cases {
        assert_eq!(problem_of(component.clone(), values.clone()), expected, "{component:?} {values:?}");
    }
}

#[test]
fn named_variables_get_their_values_by_name() {
    let of = |body_text: &str| Template { format: ParameterFormat::Named, ..template(vec![text_header("{{name}}"), body(body_text)]) };
    let values = |body| Values { body, ..of_header(HeaderValue::Text(literal("Ana"))) };
    let filled = of("{{day}}, {{hour}}").fill(&values(named(&[("hour", "10:30"), ("day", "lunes")])), &ana(), NOW).expect("good");
    assert_eq!(filled.preview().text(), "lunes, 10:30");
    let names: Vec<Option<&str>> = filled.message().body.iter().map(|it| it.name.as_deref()).collect();
    assert_eq!(names, [Some("day"), Some("hour")]);
    assert_eq!(filled.message().header, Some(FilledHeader::Text(FilledText { name: Some("name".into()), text: "Ana".into() })));
    assert_eq!(
        problems(&of("{{day}}, {{hour}}"), &values(named(&[("Hour", "10:30"), ("day", "lunes")]))),
        ["132000 body {{Hour}}: is no variable of the text; leave it out", "132000 body {{hour}}: is missing; give it a value"]
    );
    assert_eq!(problems(&of("{{day}}"), &values(list(&["lunes"]))), ["132012 body: has named variables; give values by their names"]);
}

#[test]
fn lengths_are_those_of_the_filled_text_in_characters() {
    let long = |length: usize| "é".repeat(length);
    let offer = Component::LimitedTimeOffer { text: "Hoy".into(), has_expiration: false };
    let carousel = || Component::Carousel { cards: vec![Card { components: vec![body("x {{1}}")] }] };
    let of_card =
        |length: usize| Values { cards: vec![CardValues { body: list(&[&long(length)]), ..CardValues::default() }], ..Values::default() };
    let of_url = |length: usize| of_buttons(vec![given(0, ButtonInput::Url(literal(&"a".repeat(length))))]);
    let button = Component::Buttons { buttons: vec![url("https://a.mx/{{1}}")] };
    let pairs = [
        (
            vec![body("x {{1}}")],
            of_body(list(&[&long(1_022)])),
            of_body(list(&[&long(1_023)])),
            "132005 body: has 1025 characters with its values; shorten them to 1024 in all",
        ),
        (
            vec![body("x {{1}}"), offer],
            of_body(list(&[&long(598)])),
            of_body(list(&[&long(599)])),
            "132005 body: has 601 characters with its values; shorten them to 600 in all",
        ),
        (
            vec![text_header("x {{1}}")],
            of_header(HeaderValue::Text(literal(&long(58)))),
            of_header(HeaderValue::Text(literal(&long(59)))),
            "132005 header: has 61 characters with its values; shorten them to 60 in all",
        ),
        (
            vec![carousel()],
            of_card(158),
            of_card(159),
            "132005 cards[0].body: has 161 characters with its values; shorten them to 160 in all",
        ),
        (
            vec![button],
            of_url(1_987),
            of_url(1_988),
            "132005 buttons[0] {{1}}: makes an address of 2001 characters; shorten it to 2000 in all",
        ),
    ];
    for (components, good, bad, expected) in pairs {
        let template = template(components);
        assert_eq!(problems(&template, &good), Vec::<String>::new(), "{expected}");
        assert_eq!(problems(&template, &bad), [expected]);
    }
}

#[test]
fn a_media_header_takes_what_it_shows() {
    let image = || Component::MediaHeader { format: HeaderFormat::Image };
    let document = || Component::MediaHeader { format: HeaderFormat::Document };
    let place = || Component::MediaHeader { format: HeaderFormat::Location };
    let document_value = |filename: &str| HeaderValue::Document { source: Source::Id("1".into()), filename: Some(filename.into()) };
    let location = |latitude: &str, longitude: &str, name: &str| HeaderValue::Location {
        latitude: latitude.into(),
        longitude: longitude.into(),
        name: Some(name.into()),
        address: None,
    };
    let cases: Vec<(Component, Values, &[&str])> = vec![
        (image(), of_header(HeaderValue::Image(link("https://example.org/a.png"))), &[]),
        (image(), Values::default(), &["132012 header: is missing; give an image"]),
        (image(), of_header(HeaderValue::Video(link("https://example.org/a.mp4"))), &["132012 header: is of another kind; give an image"]),
        (
            image(),
            of_header(HeaderValue::Image(link("http://a"))),
            &["131009 header: is no public https link; give one that anybody can open"],
        ),
        (image(), of_header(HeaderValue::Image(Source::Id(" ".into()))), &["131009 header: is an empty id; upload the file first"]),
        (
            image(),
            of_header(HeaderValue::Image(Source::File("main/uploads/1/a".into()))),
            &["131009 header: is a file of ours; a template takes an id of Meta's or a link"],
        ),
        (document(), of_header(document_value("receta.pdf")), &[]),
        (document(), of_header(document_value("")), &["131009 header: has an empty filename; leave that out"]),
        (place(), of_header(location("19.4326", "-99.1332", "Clínica Sur")), &[]),
        (
            place(),
            of_header(location("91", "x", " ")),
            &[
                "131009 header: has a latitude that is no number from -90 to 90; give decimal degrees",
                "131009 header: has a longitude that is no number from -180 to 180; give decimal degrees",
                "131009 header: has an empty name; leave that out",
            ],
        ),
        (
            Component::MediaHeader { format: HeaderFormat::Gif },
            Values::default(),
            &["132012 header: is of a kind that cannot be sent here yet; choose another template"],
        ),
        (
            Component::Unknown { kind: "PRODUCT".into() },
            Values::default(),
            &["132012 PRODUCT: is a part that cannot be sent here yet; choose another template"],
        ),
    ];
    for (component, values, expected) in cases {
        assert_eq!(problem_of(component.clone(), values.clone()), expected, "{component:?} {values:?}");
    }
}

#[test]
fn a_button_takes_what_it_is_for() {
    let flow = || Button::Flow { text: "Abrir".into() };
    let other = |kind: &str| Button::Other { kind: kind.into(), text: None };
    let flow_data = |data: &str| ButtonInput::Flow { token: Some(String::new()), data: Some(data.into()) };
    let cases: Vec<(Button, Option<ButtonInput>, &[&str])> = vec![
        (quick_reply(), None, &[]),
        (quick_reply(), Some(ButtonInput::Payload(literal("dos\nlíneas"))), &[]),
        (quick_reply(), Some(ButtonInput::Payload(literal(&"é".repeat(256)))), &[]),
        (
            quick_reply(),
            Some(ButtonInput::Payload(literal(&"é".repeat(257)))),
            &["131009 buttons[0]: has 257 characters; shorten it to 256"],
        ),
        (quick_reply(), Some(ButtonInput::Payload(literal(""))), &["131008 buttons[0]: is empty; give it a value"]),
        (
            quick_reply(),
            Some(ButtonInput::Url(literal("a"))),
            &["132012 buttons[0]: is given what another kind of button takes; give a payload"],
        ),
        (url("https://a"), None, &[]),
        (url("https://a"), Some(ButtonInput::Url(literal("a"))), &["132018 buttons[0]: takes no value; leave it out"]),
        (url("https://a/{{1}}"), None, &["131008 buttons[0] {{1}}: is missing; give the end of the address"]),
        (
            url("https://a/{{1}}"),
            Some(ButtonInput::Url(literal("a\nb"))),
            &["132018 buttons[0] {{1}}: has a line break, a tab or another control character; write it in one line"],
        ),
        (
            url("https://a/{{1}}"),
            Some(ButtonInput::Code(literal("a"))),
            &["132012 buttons[0] {{1}}: is given what another kind of button takes; give the end of the address"],
        ),
        (Button::CopyCode, None, &["131008 buttons[0]: is missing; give a code"]),
        (Button::CopyCode, Some(ButtonInput::Code(literal(&"é".repeat(20)))), &[]),
        (Button::CopyCode, Some(ButtonInput::Code(literal(&"é".repeat(21)))), &["131009 buttons[0]: has 21 characters; shorten it to 20"]),
        (
            Button::PhoneNumber { text: "Llamar".into() },
            Some(ButtonInput::Payload(literal("a"))),
            &["132018 buttons[0]: takes no value; leave it out"],
        ),
        (flow(), None, &[]),
        (flow(), Some(flow_data("{}")), &["131009 buttons[0]: has an empty token; leave that out"]),
        (other("CATALOG"), None, &[]),
        (other("CATALOG"), Some(ButtonInput::Code(literal("a"))), &["132018 buttons[0]: takes no value; leave it out"]),
        (other("mpm"), None, &["131008 buttons[0]: is of a kind that cannot be sent here yet; choose another template"]),
    ];
    for (button, input, expected) in cases {
        let values = of_buttons(input.into_iter().map(|it| given(0, it)).collect());
        assert_eq!(problem_of(Component::Buttons { buttons: vec![button.clone()] }, values.clone()), expected, "{button:?} {values:?}");
    }
}

#[test]
fn a_button_is_named_by_where_it_stands() {
    let payload = |index: usize| given(index, ButtonInput::Payload(literal("a")));
    let buttons = || Component::Buttons { buttons: vec![quick_reply(), quick_reply()] };
    assert_eq!(
        problem_of(buttons(), of_buttons(vec![payload(2), payload(1), payload(1)])),
        [
            "132018 buttons[2]: is not there: the template has 2 buttons, counted from 0; leave it out",
            "132018 buttons[1]: is given twice; give it once"
        ]
    );
    assert_eq!(
        problem_of(body("Hola"), of_buttons(vec![payload(0)])),
        ["132018 buttons[0]: is not there: the template has 0 buttons, counted from 0; leave it out"]
    );
}

#[test]
fn a_login_code_is_given_once_and_stands_twice() {
    let login = |format: ParameterFormat, text: &str| Template {
        category: Category::Authentication,
        format,
        ..template(vec![body(text), Component::Buttons { buttons: vec![Button::Otp { text: "Copiar".into() }] }])
    };
    let positional = || login(ParameterFormat::Positional, "*{{1}}* es su código.");
    let of_code = |code: Option<&str>| Values { code: code.map(literal), ..Values::default() };
    for template in [positional(), login(ParameterFormat::Named, "*{{code}}* es su código.")] {
        let filled = template.fill(&of_code(Some("582910")), &ana(), NOW).expect("a good code");
        assert_eq!(filled.preview().text(), "*582910* es su código.");
        assert_eq!(filled.preview().buttons[0].code.as_deref(), Some("582910"));
        assert_eq!(filled.message().body[0].text, "582910");
        assert_eq!(filled.message().buttons, [FilledButton { index: 0, input: FilledInput::LoginCode("582910".into()) }]);
    }
    let without_button = Template { category: Category::Authentication, ..template(vec![body("{{1}} es su código.")]) };
    assert_eq!(without_button.fill(&of_code(Some("582910")), &ana(), NOW).expect("a good code").preview().text(), "582910 es su código.");

    let cases: Vec<(Template, Values, &[&str])> = vec![
        (positional(), of_code(Some(&"1".repeat(15))), &[]),
        (positional(), of_code(Some(&"1".repeat(16))), &["131009 code: has 16 characters; shorten it to 15"]),
        (positional(), of_code(None), &["131008 code: is missing; give the code"]),
        (positional(), of_code(Some("")), &["131008 code: is empty; give it a value"]),
        (positional(), of_code(Some("5\n8")), &["132018 code: has a line break, a tab or another control character; write it in one line"]),
        (
            positional(),
            Values { body: list(&["582910"]), ..of_code(Some("582910")) },
            &["132000 body: takes the code only; leave its values out"],
        ),
        (
            positional(),
            Values { buttons: vec![given(0, ButtonInput::Url(literal("582910")))], ..of_code(Some("582910")) },
            &["132018 buttons[0]: takes no value; leave it out"],
        ),
        (template(vec![body("Hola")]), of_code(Some("1")), &["132000 code: is not taken by this template; leave it out"]),
    ];
    for (template, values, expected) in cases {
        assert_eq!(problems(&template, &values), expected, "{values:?}");
    }
}

#[test]
fn an_offer_ends_after_now() {
    let offer = |has_expiration| template(vec![Component::LimitedTimeOffer { text: "Hoy".into(), has_expiration }, body("Hola")]);
    let ends = |at: Option<Timestamp>| Values { expires_at: at, ..Values::default() };
    let later = Timestamp::from_millis(NOW.as_millis() + 1);
    let filled = offer(true).fill(&ends(Some(later)), &ana(), NOW).expect("a time to come");
    assert_eq!(filled.expires_at(), Some(later));
    assert_eq!(filled.preview().offer, Some(PreviewOffer { text: "Hoy".into(), expires_at: Some(later) }));
    assert_eq!(problems(&offer(true), &ends(Some(NOW))), ["131009 expires_at: is past; give a time to come"]);
    assert_eq!(problems(&offer(true), &ends(None)), ["131008 expires_at: is missing; say when the offer ends"]);
    assert_eq!(problems(&offer(false), &ends(Some(later))), ["132018 expires_at: is not taken by this template; leave it out"]);
    assert_eq!(problems(&offer(false), &ends(None)), Vec::<String>::new());
}

#[test]
fn every_card_gets_its_values() {
    let card = || Card {
        components: vec![
            Component::MediaHeader { format: HeaderFormat::Image },
            body("Para {{1}}"),
            Component::Buttons { buttons: vec![url("https://example.com/{{1}}")] },
        ],
    };
    let carousel = template(vec![body("Vea"), Component::Carousel { cards: vec![card(), card()] }]);
    let values = |name: &str| CardValues {
        header: Some(HeaderValue::Image(Source::Id("1".into()))),
        body: list(&[name]),
        buttons: vec![given(0, ButtonInput::Url(literal(name)))],
    };
    let of_cards = |cards: Vec<CardValues>| Values { cards, ..Values::default() };
    let filled = carousel.fill(&of_cards(vec![values("a"), values("b")]), &ana(), NOW).expect("good values");
    assert_eq!(filled.cards().len(), 2);
    assert_eq!(filled.preview().cards[1].body, "Para b");
    assert_eq!(filled.preview().cards[1].buttons[0].url.as_deref(), Some("https://example.com/b"));
    assert_eq!(
        problems(&carousel, &of_cards(vec![values("a")])),
        ["132000 cards: are 1 in the values and 2 in the template; give each card its values"]
    );
    assert_eq!(
        problems(&carousel, &of_cards(vec![values("a"), CardValues::default()])),
        [
            "132012 cards[1].header: is missing; give an image",
            "132000 cards[1].body {{1}}: is missing; give it a value",
            "131008 cards[1].buttons[0] {{1}}: is missing; give the end of the address"
        ]
    );
    assert_eq!(
        problems(&template(vec![body("Hola")]), &of_cards(vec![CardValues::default()])),
        ["132000 cards: are 1 in the values and 0 in the template; give each card its values"]
    );
}

#[test]
fn an_end_of_an_address_is_encoded_where_it_must_be() {
    let of = |text: &str| {
        let values = of_buttons(vec![given(0, ButtonInput::Url(literal(text)))]);
        let filled = template(vec![Component::Buttons { buttons: vec![url("https://a/{{1}}")] }]).fill(&values, &ana(), NOW);
        filled.expect("good values").preview().buttons[0].url.clone().expect("an address")
    };
    assert_eq!(of("c/88?a=1&b=2#d"), "https://a/c/88?a=1&b=2#d", "an end may have parts");
    assert_eq!(of("José María"), "https://a/Jos%C3%A9%20Mar%C3%ADa");
    assert_eq!(of("100% a%20b%2"), "https://a/100%25%20a%20b%252", "what is encoded stays");
    assert_eq!(of("{{2}}<\"|"), "https://a/%7B%7B2%7D%7D%3C%22%7C");
}

#[test]
fn a_preview_and_a_problem_are_plain_json() {
    let filled = reminder().fill(&reminder_values(), &ana(), NOW).expect("good values");
    let json = serde_json::to_value(filled.preview()).expect("JSON");
    assert_eq!(json["header"], serde_json::json!({ "type": "text", "text": "Hola Ana" }));
    assert_eq!(serde_json::from_value::<Preview>(json).ok().as_ref(), Some(filled.preview()));
    let problems = reminder().fill(&Values::default(), &ana(), NOW).expect_err("nothing is given");
    let last = serde_json::to_value(problems.last()).expect("JSON");
    let advice = "is missing; give the end of the address";
    assert_eq!(last, serde_json::json!({ "component": "buttons", "button": 1, "variable": "1", "code": 131_008, "advice": advice }));
}

/// What is done to one variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Good,
    GoodField,
    Empty,
    NoField,
    LineBreak,
    Spaces,
    Left,
}

impl Deed {
    fn value(self, text: &str) -> Option<Value> {
        match self {
            Self::Good => Some(literal(text)),
            Self::GoodField => Some(field("nombre")),
            Self::Empty => Some(literal("")),
            Self::NoField => Some(field("apellido")),
            Self::LineBreak => Some(literal("a\nb")),
            Self::Spaces => Some(literal("a     b")),
            Self::Left => None,
        }
    }

    /// Does it fill this variable?
    fn is_good(self, variable: &Variable) -> bool {
        match (self, variable.kind) {
            (Self::Good | Self::GoodField, _) => true,
            (Self::Left, _) => !variable.required,
            // A payload is no line of text, and the rest is made good or bad as a whole.
            (Self::LineBreak | Self::Spaces, Kind::Payload) => true,
            (Self::Empty | Self::NoField | Self::LineBreak | Self::Spaces, _) => false,
        }
    }
}

/// What a file, a place, a flow or a time is when it should be good, or not.
fn source(is_good: bool) -> Source {
    Source::Link(if is_good { "https://example.org/a" } else { "http://example.org/a" }.into())
}

/// The values that do this to the variables, one after another.
fn values(template: &Template, deeds: &[(Deed, String)]) -> Values {
    let cards = template.variables().iter().filter_map(|it| it.place.card).max().map_or(0, |it| it + 1);
    let mut values = Values { cards: vec![CardValues::default(); cards], ..Values::default() };
    for (variable, (deed, text)) in template.variables().iter().zip(deeds) {
        let CardValues { header, body, buttons } = variable.place.card.map(|it| values.cards[it].clone()).unwrap_or_else(|| CardValues {
            header: values.header.clone(),
            body: values.body.clone(),
            buttons: values.buttons.clone(),
        });
        let (mut header, mut body, mut buttons) = (header, body, buttons);
        let is_good = matches!(deed, Deed::Good | Deed::GoodField);
        let is_given = *deed != Deed::Left;
        let index = variable.place.button.unwrap_or_default();
        let name = variable.place.variable.clone().unwrap_or_default();
        let value = deed.value(text);
        match (&variable.place.component, variable.kind) {
            (Part::Header, Kind::Text) => header = value.map(HeaderValue::Text),
            (Part::Header, Kind::Image) => header = is_given.then(|| HeaderValue::Image(source(is_good))),
            (Part::Header, Kind::Video) => header = is_given.then(|| HeaderValue::Video(source(is_good))),
            (Part::Header, Kind::Document) => {
                header = is_given.then(|| HeaderValue::Document { source: source(is_good), filename: None });
            }
            (Part::Header, Kind::Location) => {
                let latitude = if is_good { "1" } else { "91" }.to_owned();
                header = is_given.then(|| HeaderValue::Location { latitude, longitude: "1".into(), name: None, address: None });
            }
            (Part::Body, _) => match (&mut body, template.format, value) {
                (Texts::Positional(list), ParameterFormat::Positional, Some(value)) => list.push(value),
                // A list has no gaps: what is left out in its middle is empty.
                (Texts::Positional(list), ParameterFormat::Positional, None) => list.push(literal("")),
                (Texts::Named(map), _, Some(value)) => drop(map.insert(name, value)),
                (body, ParameterFormat::Named, Some(value)) => *body = Texts::Named(BTreeMap::from([(name, value)])),
                (_, ParameterFormat::Named, None) | (Texts::Named(_), _, None) => {}
            },
            (Part::Buttons, Kind::UrlSuffix) => buttons.extend(value.map(|it| given(index, ButtonInput::Url(it)))),
            (Part::Buttons, Kind::Payload) => buttons.extend(value.map(|it| given(index, ButtonInput::Payload(it)))),
            (Part::Buttons, Kind::Code) => buttons.extend(value.map(|it| given(index, ButtonInput::Code(it)))),
            (Part::Buttons, Kind::Flow) => {
                let token = (!is_good).then(String::new);
                buttons.extend(is_given.then(|| given(index, ButtonInput::Flow { token, data: None })));
            }
            (Part::Code, _) => values.code = value,
            (Part::ExpiresAt, _) => {
                values.expires_at = is_given.then(|| Timestamp::from_millis(NOW.as_millis() + i64::from(is_good)));
            }
            (part, kind) => panic!("no test gives {kind:?} to {part}"),
        }
        match variable.place.card {
            Some(it) => values.cards[it] = CardValues { header, body, buttons },
            None => (values.header, values.body, values.buttons) = (header, body, buttons),
        }
    }
    values
}

/// A text with so many variables, the first ones again at its end.
fn text_with(format: ParameterFormat, count: usize, again: usize) -> String {
    let name = |it: usize| match format {
        ParameterFormat::Positional => format!("{{{{{}}}}}", it + 1),
        ParameterFormat::Named => format!("{{{{name_{it}}}}}"),
    };
    let all = (0..count).chain(0..again.min(count));
    all.fold("Hola".to_owned(), |text, it| format!("{text} {} y", name(it)))
}

fn headers(format: ParameterFormat) -> impl Strategy<Value = Option<Component>> {
    let media = vec![HeaderFormat::Image, HeaderFormat::Video, HeaderFormat::Document, HeaderFormat::Location];
    let media = prop::sample::select(media).prop_map(|format| Some(Component::MediaHeader { format }));
    prop_oneof![Just(None), media, (0..2_usize).prop_map(move |it| Some(text_header(&text_with(format, it, 0))))]
}

fn all_buttons() -> impl Strategy<Value = Component> {
    let button = prop::sample::select(vec![
        quick_reply(),
        url("https://example.com"),
        url("https://example.com/{{1}}"),
        Button::PhoneNumber { text: "Llamar".into() },
        Button::CopyCode,
        Button::Flow { text: "Abrir".into() },
        Button::Other { kind: "CATALOG".into(), text: None },
    ]);
    prop::collection::vec(button, 0..5).prop_map(|buttons| Component::Buttons { buttons })
}

fn faces(format: ParameterFormat) -> impl Strategy<Value = Vec<Component>> {
    (headers(format), (0..4_usize, 0..3_usize), all_buttons()).prop_map(move |(header, (count, again), buttons)| {
        header.into_iter().chain([body(&text_with(format, count, again)), buttons]).collect()
    })
}

fn templates() -> impl Strategy<Value = Template> {
    let logins = (any::<bool>(), any::<bool>()).prop_map(|(has_button, has_place)| {
        let otp = Component::Buttons { buttons: vec![Button::Otp { text: "Copiar".into() }] };
        let text = if has_place || !has_button { "{{1}} es su código." } else { "Su código:" };
        let components = [body(text)].into_iter().chain(has_button.then_some(otp)).collect();
        Template { category: Category::Authentication, ..template(components) }
    });
    let format = prop::sample::select(vec![ParameterFormat::Positional, ParameterFormat::Named]);
    let others = format.prop_flat_map(|format| {
        let offer = prop::option::of(any::<bool>());
        let cards = prop::collection::vec(faces(format), 0..3);
        (faces(format), offer, cards).prop_map(move |(mut components, offer, cards)| {
            components.extend(offer.map(|has_expiration| Component::LimitedTimeOffer { text: "Hoy".into(), has_expiration }));
            if !cards.is_empty() {
                let cards = cards.into_iter().map(|components| Card { components }).collect();
                components.push(Component::Carousel { cards });
            }
            Template { format, ..template(components) }
        })
    });
    prop_oneof![1 => logins, 6 => others]
}

fn deeds() -> impl Strategy<Value = Vec<(Deed, String)>> {
    let bad = prop::sample::select(vec![Deed::Empty, Deed::NoField, Deed::LineBreak, Deed::Spaces, Deed::Left]);
    let deed = prop_oneof![20 => Just(Deed::Good), 5 => Just(Deed::GoodField), 1 => bad];
    prop::collection::vec((deed, "[a-zé{}1-3%]{1,6}"), 40)
}

/// Texts, many of which look like variables.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z{}1-3]{1,9}", prop::sample::select(vec!["{{1}}", "{{2}}", "{{name_0}}", "{{name_1}}"]).prop_map(str::to_owned)]
}

/// Does the template have what the place names?
fn holds(template: &Template, place: &Place) -> bool {
    let components = match place.card {
        Some(card) => template.cards().get(card).map(|it| it.components.as_slice()),
        None => Some(template.components.as_slice()),
    };
    components.is_some_and(|it| {
        it.iter().any(|it| match (&place.component, it) {
            (Part::Header, Component::TextHeader { .. } | Component::MediaHeader { .. }) => true,
            (Part::Body, Component::Body { .. }) => true,
            (Part::Buttons, Component::Buttons { buttons }) => place.button.is_some_and(|it| it < buttons.len()),
            (Part::Cards, Component::Carousel { .. }) => true,
            (Part::Code, Component::Body { .. }) => template.takes_code(),
            (Part::ExpiresAt, Component::LimitedTimeOffer { .. }) => true,
            _ => false,
        })
    })
}

proptest! {
    #[test]
    fn a_template_is_filled_exactly_when_each_variable_has_a_good_value(template in templates(), deeds in deeds()) {
        let cards = template.cards().len();
        let mut values = values(&template, &deeds);
        values.cards.resize(cards, CardValues::default());
        let pairs = template.variables().into_iter().zip(&deeds);
        let bad: BTreeSet<String> = pairs.filter(|(it, (deed, _))| !deed.is_good(it)).map(|(it, _)| it.place.to_string()).collect();
        let problems = template.fill(&values, &ana(), NOW).err().unwrap_or_default();
        prop_assert!(problems.iter().all(|it| holds(&template, &it.place)), "{:?}", problems);
        let told: BTreeSet<String> = problems.iter().map(|it| it.place.to_string()).collect();
        prop_assert_eq!(told, bad);
    }

    #[test]
    fn a_preview_holds_the_values_and_no_variable(template in templates(), texts in prop::collection::vec(texts(), 40)) {
        let good = |texts: Vec<String>| -> Vec<(Deed, String)> { texts.into_iter().map(|it| (Deed::Good, it)).collect() };
        let preview = |texts: Vec<String>| {
            let mut values = values(&template, &good(texts));
            values.cards.resize(template.cards().len(), CardValues::default());
            template.fill(&values, &ana(), NOW).map(|it| it.preview().clone())
        };
        // Values without braces leave none; each then makes way for its own text, in one step, and nothing else has changed.
        let marks: Vec<String> = (0..texts.len()).map(|it| format!("<{it}>")).collect();
        let marked = preview(marks.clone()).expect("good values");
        prop_assert!(!serde_json::to_string(&marked).expect("JSON").contains("{{"));
        let place = |text: &str| marks.iter().zip(&texts).fold(text.to_owned(), |text, (mark, value)| text.replace(mark, value));
        let filled = preview(texts.clone()).expect("good values");
        prop_assert_eq!(&filled.body, &place(&marked.body));
        for (card, marked) in filled.cards.iter().zip(&marked.cards) {
            prop_assert_eq!(&card.body, &place(&marked.body));
        }
        if let (Some(PreviewHeader::Text { text }), Some(PreviewHeader::Text { text: marked })) = (&filled.header, &marked.header) {
            prop_assert_eq!(text, &place(marked));
        }
    }

    #[test]
    fn any_values_for_any_texts_end_in_a_message_or_in_problems(text in "[ a{}1-3]{0,30}", value in "\\PC{0,10}", count in 0..5_usize) {
        let template = template(vec![text_header(&text), body(&text), Component::Buttons { buttons: vec![url(&text)] }]);
        let values = Values {
            header: Some(HeaderValue::Text(literal(&value))),
            body: Texts::Positional(vec![literal(&value); count]),
            buttons: vec![given(count, ButtonInput::Url(literal(&value)))],
            ..Values::default()
        };
        match template.fill(&values, &ana(), NOW) {
            Ok(filled) => prop_assert_eq!(filled.message().body.len(), count),
            Err(problems) => prop_assert!(!problems.is_empty()),
        }
    }

    #[test]
    fn encoding_twice_changes_nothing(text in "\\PC{1,20}") {
        let button = Component::Buttons { buttons: vec![url("https://a/{{1}}")] };
        let once = |text: &str| {
            let values = of_buttons(vec![given(0, ButtonInput::Url(literal(text)))]);
            let filled = template(vec![button.clone()]).fill(&values, &ana(), NOW).ok()?;
            match filled.message().buttons.first()?.input.clone() {
                FilledInput::Url(it) => Some(it),
                _ => None,
            }
        };
        if let Some(encoded) = once(&text) {
            prop_assert!(encoded.is_ascii() && !encoded.contains(' '));
            prop_assert_eq!(once(&encoded), Some(encoded));
        }
    }
}

#[test]
fn a_mapping_names_fields_and_holds_nothing_of_a_customer() {
    let values: Values = serde_json::from_value(serde_json::json!({
        "header": { "text": { "field": "name" } },
        "body": ["Ana", { "field": "order" }],
        "buttons": [{ "index": 0, "url": { "field": "path" } }, { "index": 1, "payload": "Ana" }],
        "cards": [{ "header": { "image": { "link": "https://example.com/ana.jpg" } }, "body": { "x": "Ana" } }],
    }))
    .expect("values");
    let expected = serde_json::json!({
        "header": { "text": { "field": "name" } },
        "body": ["", { "field": "order" }],
        "buttons": [{ "index": 0, "url": { "field": "path" } }],
        "cards": [{ "body": { "x": "" } }],
    });
    assert_eq!(serde_json::to_value(values.mapping()).expect("JSON"), expected);
    let literal: Values = serde_json::from_value(serde_json::json!({ "body": ["Ana"], "cards": [{ "body": ["Ana"] }] })).expect("values");
    assert_eq!(literal.mapping(), None);
}
