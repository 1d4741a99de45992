//! A template and its values become what is sent, or the list of all that Meta would refuse.
//!
//! The rules are Meta's: <https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/components>, with its codes
//! from <https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes>.
//! Nothing is mended on the way but an address: a value with a line break is a problem, not a value without one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::preview::{Preview, PreviewButton, PreviewCard, PreviewHeader, blank};
use super::variables::{Part, Piece, Place, body, buttons, names, pieces, url_variable};
use super::{
    Button, ButtonInput, ButtonValue, CardValues, Category, Component, HeaderFormat, HeaderValue, Language, ParameterFormat, Template,
    TemplateName, Texts, Value, Values,
};
use crate::outgoing::{Source, is_degrees};
use crate::time::Timestamp;

/// Longest header, text, text of a limited-time offer, text of a card, and address of a page, once they are filled, in characters.
const HEADER_LIMIT: usize = 60;
const BODY_LIMIT: usize = 1_024;
const OFFER_BODY_LIMIT: usize = 600;
const CARD_BODY_LIMIT: usize = 160;
const URL_LIMIT: usize = 2_000;

/// Longest payload, code to copy, and code to log in with, in characters.
const PAYLOAD_LIMIT: usize = 256;
const COPY_CODE_LIMIT: usize = 20;
const LOGIN_CODE_LIMIT: usize = 15;

/// Meta's codes for what is wrong with the values of a template.
const MISSING: u32 = 131_008;
const INVALID: u32 = 131_009;
const COUNT: u32 = 132_000;
const TOO_LONG: u32 = 132_005;
const FORMAT: u32 = 132_012;
const PARAMETER: u32 = 132_018;

/// What cannot stand in an address, and the brackets of variables. A per cent sign is looked at apart.
const NOT_IN_ADDRESS: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'[').add(b'\\').add(b']').add(b'^').add(b'`').add(b'{').add(b'|').add(b'}');

/// One thing that Meta would refuse. It never repeats a value, which is a person's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "TemplateProblem")]
pub struct Problem {
    /// Where it is.
    #[serde(flatten)]
    pub place: Place,
    /// The code that Meta would refuse it with.
    pub code: u32,
    /// What is wrong, and what to do.
    pub advice: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.advice)
    }
}

/// A template with its values, as Meta takes it: only [`Template::fill`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled {
    name: TemplateName,
    language: Language,
    category: Category,
    message: FilledCard,
    cards: Vec<FilledCard>,
    expires_at: Option<Timestamp>,
    preview: Preview,
}

impl Filled {
    /// The template's name.
    #[must_use]
    pub fn name(&self) -> &TemplateName {
        &self.name
    }

    /// The template's language.
    #[must_use]
    pub fn language(&self) -> &Language {
        &self.language
    }

    /// What the template is for.
    #[must_use]
    pub fn category(&self) -> &Category {
        &self.category
    }

    /// What fills the message itself.
    #[must_use]
    pub fn message(&self) -> &FilledCard {
        &self.message
    }

    /// What fills the cards of its carousel, in their order.
    #[must_use]
    pub fn cards(&self) -> &[FilledCard] {
        &self.cards
    }

    /// When its offer ends.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// What the customer sees.
    #[must_use]
    pub fn preview(&self) -> &Preview {
        &self.preview
    }
}

/// What fills a message, or a card of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FilledCard {
    /// The header, if it takes anything.
    pub header: Option<FilledHeader>,
    /// The variables of the text, in their order.
    pub body: Vec<FilledText>,
    /// The buttons that are given anything, and those that Meta wants named even so, by index.
    pub buttons: Vec<FilledButton>,
}

/// The text for one variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilledText {
    /// The variable's name, where it has one and no number.
    pub name: Option<String>,
    /// The text.
    pub text: String,
}

/// What fills a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilledHeader {
    /// The variable of a line.
    Text(FilledText),
    /// A picture.
    Image(Source),
    /// A film.
    Video(Source),
    /// A document.
    Document {
        /// The file.
        source: Source,
        /// The name that the customer sees.
        filename: Option<String>,
    },
    /// A place.
    Location {
        /// Degrees north.
        latitude: String,
        /// Degrees east.
        longitude: String,
        /// What it is called.
        name: Option<String>,
        /// Its address.
        address: Option<String>,
    },
}

/// What fills a button.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilledButton {
    /// Which button, from 0.
    pub index: usize,
    /// What it is given.
    pub input: FilledInput,
}

/// What a button is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilledInput {
    /// The end of the page's address, percent-encoded.
    Url(String),
    /// What the quick reply comes back with.
    Payload(String),
    /// The code that is copied.
    CopyCode(String),
    /// The login code, the same as in the text.
    LoginCode(String),
    /// A flow, named even without a token.
    Flow {
        /// Ours, comes back with the answer.
        token: Option<String>,
        /// JSON text of an object.
        data: Option<String>,
    },
}

/// What the values give to a message, or to a card of it.
struct Given<'a> {
    header: Option<&'a HeaderValue>,
    /// None where a code should be, but is not good.
    body: Option<&'a Texts>,
    buttons: &'a [ButtonValue],
    code: Option<&'a str>,
}

/// The work of filling one template: every problem is noted, and the work goes on.
struct Filling<'a> {
    format: ParameterFormat,
    participant: &'a BTreeMap<String, String>,
    problems: Vec<Problem>,
}

impl Template {
    /// Puts the values in place. Fields are taken from the `participant`; an offer must end after `now`.
    ///
    /// Whether the template may be sent at all is not asked: see [`Template::status`]. Lengths are counted in Unicode characters. The
    /// data of a flow is not read: that it is JSON, only who knows Meta's JSON can say.
    ///
    /// # Errors
    /// Every [`Problem`] that there is.
    pub fn fill(&self, values: &Values, participant: &BTreeMap<String, String>, now: Timestamp) -> Result<Filled, Vec<Problem>> {
        let mut filling = Filling { format: self.format, participant, problems: Vec::new() };
        let code = filling.code(self.takes_code(), values.code.as_ref());
        let code_texts = code.as_deref().map(|it| self.code_texts(it));
        if self.takes_code() && !values.body.is_empty() {
            filling.problem(Place::of(None, Part::Body), COUNT, "takes the code only; leave its values out");
        }
        let given = Given {
            header: values.header.as_ref(),
            body: if self.takes_code() { code_texts.as_ref() } else { Some(&values.body) },
            buttons: &values.buttons,
            code: code.as_deref(),
        };
        let has_offer = self.components.iter().any(|it| matches!(it, Component::LimitedTimeOffer { .. }));
        let body_limit = if has_offer { OFFER_BODY_LIMIT } else { BODY_LIMIT };
        let (message, shown) = filling.face(None, &self.components, &given, body_limit);
        let (cards, shown_cards) = filling.cards(self, &values.cards);
        let expires_at = filling.expiry(self.takes_expiry(), values.expires_at, now);
        if !filling.problems.is_empty() {
            return Err(filling.problems);
        }
        let PreviewCard { header, body, buttons } = shown;
        let mut preview = Preview { header, body, buttons, cards: shown_cards, ..self.blank_preview() };
        if let Some(offer) = &mut preview.offer {
            offer.expires_at = expires_at;
        }
        let (name, language, category) = (self.name.clone(), self.language.clone(), self.category.clone());
        Ok(Filled { name, language, category, message, cards, expires_at, preview })
    }

    /// The code as the value of the text's variable, however that is called.
    fn code_texts(&self, code: &str) -> Texts {
        let code = Value::Literal(code.to_owned());
        match (self.format, names(body(&self.components).unwrap_or_default(), self.format).first()) {
            (_, None) => Texts::default(),
            (ParameterFormat::Positional, Some(_)) => Texts::Positional(vec![code]),
            (ParameterFormat::Named, Some(name)) => Texts::Named(BTreeMap::from([((*name).to_owned(), code)])),
        }
    }
}

impl Filling<'_> {
    fn problem(&mut self, place: Place, code: u32, advice: impl Into<String>) {
        self.problems.push(Problem { place, code, advice: advice.into() });
    }

    /// The login code, if it is good.
    fn code(&mut self, is_taken: bool, given: Option<&Value>) -> Option<String> {
        let place = Place::of(None, Part::Code);
        match (is_taken, given) {
            (false, None) => None,
            (false, Some(_)) => {
                self.problem(place, COUNT, "is not taken by this template; leave it out");
                None
            }
            (true, None) => {
                self.problem(place, MISSING, "is missing; give the code");
                None
            }
            (true, Some(value)) => self.short_line(&place, value, LOGIN_CODE_LIMIT),
        }
    }

    /// What fills a message or a card, and what is seen of it.
    fn face(&mut self, card: Option<usize>, components: &[Component], given: &Given<'_>, body_limit: usize) -> (FilledCard, PreviewCard) {
        for component in components {
            if let Component::Unknown { kind } = component {
                let place = Place::of(card, Part::Unknown(kind.clone()));
                self.problem(place, FORMAT, "is a part that cannot be sent here yet; choose another template");
            }
        }
        let mut shown = blank(components);
        let header = self.header(card, components, given.header, &mut shown);
        let place = Place::of(card, Part::Body);
        let text = body(components).unwrap_or_default();
        let body = given.body.and_then(|it| self.texts(&place, text, it, body_limit)).unwrap_or_default();
        if !body.is_empty() {
            shown.body = rendered(text, &body, self.format);
        }
        let buttons = self.buttons(card, buttons(components), given, &mut shown.buttons);
        (FilledCard { header, body, buttons }, shown)
    }

    fn cards(&mut self, template: &Template, given: &[CardValues]) -> (Vec<FilledCard>, Vec<PreviewCard>) {
        let cards = template.cards();
        if cards.len() != given.len() {
            let advice = format!("are {} in the values and {} in the template; give each card its values", given.len(), cards.len());
            self.problem(Place::of(None, Part::Cards), COUNT, advice);
        }
        let filled = cards.iter().zip(given).enumerate().map(|(at, (card, CardValues { header, body, buttons }))| {
            let given = Given { header: header.as_ref(), body: Some(body), buttons, code: None };
            self.face(Some(at), &card.components, &given, CARD_BODY_LIMIT)
        });
        filled.unzip()
    }

    fn expiry(&mut self, is_taken: bool, given: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        let place = Place::of(None, Part::ExpiresAt);
        match (is_taken, given) {
            (true, None) => self.problem(place, MISSING, "is missing; say when the offer ends"),
            (true, Some(it)) if it <= now => self.problem(place, INVALID, "is past; give a time to come"),
            (false, Some(_)) => self.problem(place, PARAMETER, "is not taken by this template; leave it out"),
            (true, Some(_)) | (false, None) => {}
        }
        given
    }

    fn header(
        &mut self,
        card: Option<usize>,
        components: &[Component],
        given: Option<&HeaderValue>,
        shown: &mut PreviewCard,
    ) -> Option<FilledHeader> {
        let place = Place::of(card, Part::Header);
        for component in components {
            match component {
                Component::TextHeader { text } => return self.text_header(&place, text, given, shown),
                Component::MediaHeader { format } => {
                    let filled = self.media_header(&place, *format, given)?;
                    shown.header = seen(&filled);
                    return Some(filled);
                }
                Component::Body { .. }
                | Component::Footer { .. }
                | Component::Buttons { .. }
                | Component::Carousel { .. }
                | Component::LimitedTimeOffer { .. }
                | Component::Unknown { .. } => {}
            }
        }
        if given.is_some() {
            self.problem(place, COUNT, "is not in this template; leave it out");
        }
        None
    }

    fn text_header(&mut self, place: &Place, text: &str, given: Option<&HeaderValue>, shown: &mut PreviewCard) -> Option<FilledHeader> {
        let names = names(text, self.format);
        let value = match (names.is_empty(), given) {
            (_, None) => None,
            (true, Some(_)) => {
                self.problem(place.clone(), COUNT, "takes no value; leave it out");
                return None;
            }
            (false, Some(HeaderValue::Text(value))) => Some(value),
            (false, Some(_)) => {
                self.problem(place.clone(), FORMAT, "is a line of text; give text");
                return None;
            }
        };
        let filled = self.variables(place, text, &|it| value.filter(|_| names.first() == Some(&it)), HEADER_LIMIT)?;
        shown.header = Some(PreviewHeader::Text { text: rendered(text, &filled, self.format) });
        filled.into_iter().next().map(FilledHeader::Text)
    }

    fn media_header(&mut self, place: &Place, format: HeaderFormat, given: Option<&HeaderValue>) -> Option<FilledHeader> {
        let what = match format {
            HeaderFormat::Image => "an image",
            HeaderFormat::Video => "a video",
            HeaderFormat::Document => "a document",
            HeaderFormat::Location => "a location",
            HeaderFormat::Gif => {
                self.problem(place.clone(), FORMAT, "is of a kind that cannot be sent here yet; choose another template");
                return None;
            }
        };
        match (format, given) {
            (_, None) => {
                self.problem(place.clone(), FORMAT, format!("is missing; give {what}"));
                None
            }
            (HeaderFormat::Image, Some(HeaderValue::Image(source))) => self.file(place, source).map(FilledHeader::Image),
            (HeaderFormat::Video, Some(HeaderValue::Video(source))) => self.file(place, source).map(FilledHeader::Video),
            (HeaderFormat::Document, Some(HeaderValue::Document { source, filename })) => {
                self.not_blank(place, "filename", filename.as_deref());
                self.file(place, source).map(|source| FilledHeader::Document { source, filename: filename.clone() })
            }
            (HeaderFormat::Location, Some(HeaderValue::Location { latitude, longitude, name, address })) => {
                for (member, text, limit) in [("latitude", latitude, 90.0), ("longitude", longitude, 180.0)] {
                    if !is_degrees(text, limit) {
                        let advice = format!("has a {member} that is no number from -{limit} to {limit}; give decimal degrees");
                        self.problem(place.clone(), INVALID, advice);
                    }
                }
                self.not_blank(place, "name", name.as_deref());
                self.not_blank(place, "address", address.as_deref());
                let (latitude, longitude) = (latitude.trim().to_owned(), longitude.trim().to_owned());
                Some(FilledHeader::Location { latitude, longitude, name: name.clone(), address: address.clone() })
            }
            (_, Some(_)) => {
                self.problem(place.clone(), FORMAT, format!("is of another kind; give {what}"));
                None
            }
        }
    }

    fn file(&mut self, place: &Place, source: &Source) -> Option<Source> {
        let problem = source.problem().or(match source {
            Source::File(_) | Source::Content { .. } => Some("is a file of ours; a template takes an id of Meta's or a link"),
            Source::Id(_) | Source::Link(_) => None,
        });
        match problem {
            Some(advice) => {
                self.problem(place.clone(), INVALID, advice);
                None
            }
            None => Some(source.clone()),
        }
    }

    fn not_blank(&mut self, place: &Place, member: &str, text: Option<&str>) {
        if text.is_some_and(|it| it.trim().is_empty()) {
            self.problem(place.clone(), INVALID, format!("has an empty {member}; leave that out"));
        }
    }

    /// The values for the variables of a text, if all of them are good.
    fn texts(&mut self, place: &Place, text: &str, given: &Texts, limit: usize) -> Option<Vec<FilledText>> {
        let names = names(text, self.format);
        match (self.format, given) {
            (_, given) if given.is_empty() => self.variables(place, text, &|_| None, limit),
            _ if names.is_empty() => {
                self.problem(place.clone(), COUNT, "takes no values; leave them out");
                None
            }
            (ParameterFormat::Positional, Texts::Positional(list)) => {
                if list.len() > names.len() {
                    let advice = format!("has {} values and {} variables; leave the last ones out", list.len(), names.len());
                    self.problem(place.clone(), COUNT, advice);
                }
                let at = |name: &str| names.iter().position(|it| *it == name).and_then(|it| list.get(it));
                self.variables(place, text, &at, limit)
            }
            (ParameterFormat::Named, Texts::Named(map)) => {
                for unknown in map.keys().filter(|it| !names.contains(&it.as_str())) {
                    self.problem(place.variable(unknown), COUNT, "is no variable of the text; leave it out");
                }
                self.variables(place, text, &|name| map.get(name), limit)
            }
            (ParameterFormat::Positional, Texts::Named(_)) => {
                self.problem(place.clone(), FORMAT, "has numbered variables; give a list of values");
                None
            }
            (ParameterFormat::Named, Texts::Positional(_)) => {
                self.problem(place.clone(), FORMAT, "has named variables; give values by their names");
                None
            }
        }
    }

    /// The variables of a text with what `given` has for each, if all of it is good.
    fn variables<'v>(
        &mut self,
        place: &Place,
        text: &str,
        given: &dyn Fn(&str) -> Option<&'v Value>,
        limit: usize,
    ) -> Option<Vec<FilledText>> {
        let mut filled = Some(Vec::new());
        for name in names(text, self.format) {
            let place = place.variable(name);
            let value = match given(name) {
                Some(value) => self.line(&place, value),
                None => {
                    self.problem(place, COUNT, "is missing; give it a value");
                    None
                }
            };
            let name = (self.format == ParameterFormat::Named).then(|| name.to_owned());
            filled = filled.zip(value).map(|(mut filled, text)| {
                filled.push(FilledText { name, text });
                filled
            });
        }
        let filled = filled?;
        let length = rendered(text, &filled, self.format).chars().count();
        if length > limit && !filled.is_empty() {
            self.problem(place.clone(), TOO_LONG, format!("has {length} characters with its values; shorten them to {limit} in all"));
            return None;
        }
        Some(filled)
    }

    /// What the value says, if it says anything.
    fn resolved(&mut self, place: &Place, value: &Value) -> Option<String> {
        let text = match value {
            Value::Literal(text) => Some(text),
            Value::Field { field } => self.participant.get(field),
        };
        let text = text.filter(|it| !it.trim().is_empty()).cloned();
        match (&text, value) {
            (Some(_), _) => {}
            (None, Value::Literal(_)) => self.problem(place.clone(), MISSING, "is empty; give it a value"),
            (None, Value::Field { field }) => {
                let advice = format!("is the participant's field `{field}`, which is missing or empty; give the participant one");
                self.problem(place.clone(), MISSING, advice);
            }
        }
        text
    }

    /// What the value says, if it says anything; Meta takes one line for a variable.
    fn line(&mut self, place: &Place, value: &Value) -> Option<String> {
        let text = self.resolved(place, value)?;
        let told = self.problems.len();
        if text.contains(|it: char| it.is_control() || matches!(it, '\u{2028}' | '\u{2029}')) {
            self.problem(place.clone(), PARAMETER, "has a line break, a tab or another control character; write it in one line");
        }
        if text.contains("     ") {
            self.problem(place.clone(), PARAMETER, "has more than four spaces in a row; leave some out");
        }
        (self.problems.len() == told).then_some(text)
    }

    /// What the value says, if it is a line of at most so many characters.
    fn short_line(&mut self, place: &Place, value: &Value, limit: usize) -> Option<String> {
        let text = self.line(place, value)?;
        self.at_most(place, text, limit)
    }

    fn at_most(&mut self, place: &Place, text: String, limit: usize) -> Option<String> {
        let length = text.chars().count();
        if length > limit {
            self.problem(place.clone(), INVALID, format!("has {length} characters; shorten it to {limit}"));
            return None;
        }
        Some(text)
    }

    fn buttons(&mut self, card: Option<usize>, buttons: &[Button], given: &Given<'_>, shown: &mut [PreviewButton]) -> Vec<FilledButton> {
        let mut seen = BTreeSet::new();
        for ButtonValue { index, .. } in given.buttons {
            if *index >= buttons.len() {
                let advice = format!("is not there: the template has {} buttons, counted from 0; leave it out", buttons.len());
                self.problem(Place::button(card, *index), PARAMETER, advice);
            } else if !seen.insert(index) {
                self.problem(Place::button(card, *index), PARAMETER, "is given twice; give it once");
            }
        }
        let mut filled = Vec::new();
        for (index, (button, shown)) in buttons.iter().zip(shown).enumerate() {
            let input = given.buttons.iter().find(|it| it.index == index).map(|it| &it.value);
            if let Some(input) = self.button(&Place::button(card, index), button, input, given.code, shown) {
                filled.push(FilledButton { index, input });
            }
        }
        filled
    }

    fn button(
        &mut self,
        place: &Place,
        button: &Button,
        given: Option<&ButtonInput>,
        code: Option<&str>,
        shown: &mut PreviewButton,
    ) -> Option<FilledInput> {
        let place = &match button {
            Button::Url { url, .. } => url_variable(url).map_or_else(|| place.clone(), |it| place.variable(it)),
            _ => place.clone(),
        };
        let needed = match (button, given) {
            (Button::QuickReply { .. } | Button::PhoneNumber { .. }, None) => return None,
            (Button::QuickReply { .. }, Some(ButtonInput::Payload(value))) => {
                let payload = self.resolved(place, value)?;
                return self.at_most(place, payload, PAYLOAD_LIMIT).map(FilledInput::Payload);
            }
            (Button::QuickReply { .. }, Some(_)) => "a payload",

            (Button::Url { url, .. }, None) if url_variable(url).is_none() => return None,
            (Button::Url { url, .. }, Some(_)) if url_variable(url).is_none() => return self.takes_nothing(place),
            (Button::Url { url, .. }, Some(ButtonInput::Url(value))) => return self.url(place, url, value, shown),
            (Button::Url { .. }, _) => "the end of the address",

            (Button::CopyCode, Some(ButtonInput::Code(value))) => {
                shown.code = self.short_line(place, value, COPY_CODE_LIMIT);
                return shown.code.clone().map(FilledInput::CopyCode);
            }
            (Button::CopyCode, _) => "a code",

            (Button::Otp { .. }, None) => {
                shown.code = code.map(str::to_owned);
                return shown.code.clone().map(FilledInput::LoginCode);
            }

            (Button::Flow { .. }, None) => return Some(FilledInput::Flow { token: None, data: None }),
            (Button::Flow { .. }, Some(ButtonInput::Flow { token, data })) => {
                self.not_blank(place, "token", token.as_deref());
                return Some(FilledInput::Flow { token: token.clone(), data: data.clone() });
            }
            (Button::Flow { .. }, Some(_)) => "a flow's token and data",

            (Button::Other { kind, .. }, _) if ["MPM", "ORDER_DETAILS"].iter().any(|it| kind.eq_ignore_ascii_case(it)) => {
                self.problem(place.clone(), MISSING, "is of a kind that cannot be sent here yet; choose another template");
                return None;
            }
            (Button::Other { .. }, None) => return None,
            (Button::PhoneNumber { .. } | Button::Otp { .. } | Button::Other { .. }, Some(_)) => return self.takes_nothing(place),
        };
        match given {
            None => self.problem(place.clone(), MISSING, format!("is missing; give {needed}")),
            Some(_) => self.problem(place.clone(), FORMAT, format!("is given what another kind of button takes; give {needed}")),
        }
        None
    }

    fn takes_nothing(&mut self, place: &Place) -> Option<FilledInput> {
        self.problem(place.clone(), PARAMETER, "takes no value; leave it out");
        None
    }

    fn url(&mut self, place: &Place, url: &str, value: &Value, shown: &mut PreviewButton) -> Option<FilledInput> {
        let suffix = encoded(&self.line(place, value)?);
        let whole: String = pieces(url).into_iter().map(|it| if let Piece::Words(words) = it { words } else { &suffix }).collect();
        let length = whole.chars().count();
        if length > URL_LIMIT {
            self.problem(place.clone(), TOO_LONG, format!("makes an address of {length} characters; shorten it to {URL_LIMIT} in all"));
            return None;
        }
        shown.url = Some(whole);
        Some(FilledInput::Url(suffix))
    }
}

/// The text with its values in place. A value that looks like a variable stays as it is.
fn rendered(text: &str, filled: &[FilledText], format: ParameterFormat) -> String {
    let names = names(text, format);
    let value = |name: &str| names.iter().position(|it| *it == name).and_then(|it| filled.get(it)).map_or("", |it| it.text.as_str());
    let words = pieces(text).into_iter().map(|it| match it {
        Piece::Words(words) => words,
        Piece::Variable(name) => value(name),
    });
    words.collect()
}

/// What is seen of a header.
fn seen(header: &FilledHeader) -> Option<PreviewHeader> {
    let file = |format, source: &Source, filename: Option<&String>| PreviewHeader::File {
        format,
        source: Some(source.clone()),
        filename: filename.cloned(),
    };
    Some(match header {
        FilledHeader::Text(_) => return None,
        FilledHeader::Image(source) => file(HeaderFormat::Image, source, None),
        FilledHeader::Video(source) => file(HeaderFormat::Video, source, None),
        FilledHeader::Document { source, filename } => file(HeaderFormat::Document, source, filename.as_ref()),
        FilledHeader::Location { latitude, longitude, name, address } => PreviewHeader::Location {
            latitude: Some(latitude.clone()),
            longitude: Some(longitude.clone()),
            name: name.clone(),
            address: address.clone(),
        },
    })
}

/// The end of an address as it may stand in one.
///
/// Encoded is what can stand in no address: spaces, quotes, brackets, letters beyond ASCII. What gives an address its parts (`/`, `?`, `&`,
/// `=`, `#`) stays, since an end may have parts; and so does what is encoded already, so that encoding twice changes nothing.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, piece) in text.split('%').enumerate() {
        if at > 0 {
            let is_encoded = piece.as_bytes().get(..2).is_some_and(|it| it.iter().all(u8::is_ascii_hexdigit));
            out.push_str(if is_encoded { "%" } else { "%25" });
        }
        out.extend(utf8_percent_encode(piece, NOT_IN_ADDRESS));
    }
    out
}
