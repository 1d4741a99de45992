//! The variables of a template: where each stands, what it takes, and whether a send can do without it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Button, Card, Category, Component, HeaderFormat, ParameterFormat, Template};

/// The part of a template, by the member of [`Values`](super::Values) that fills it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "TemplatePart")]
pub enum Part {
    /// The line, file or place above the text.
    Header,
    /// The text.
    Body,
    /// The buttons.
    Buttons,
    /// The cards of a carousel.
    Cards,
    /// The code of an authentication template.
    Code,
    /// When a limited-time offer ends.
    ExpiresAt,
    /// A part that is not known here, by Meta's name.
    #[serde(untagged)]
    Unknown(String),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Body => "body",
            Self::Buttons => "buttons",
            Self::Cards => "cards",
            Self::Code => "code",
            Self::ExpiresAt => "expires_at",
            Self::Unknown(kind) => kind,
        })
    }
}

/// Where in a template something stands: `body {{2}}`, `cards[0].buttons[1] {{1}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "TemplatePlace")]
pub struct Place {
    /// The part.
    pub component: Part,
    /// The card that the part belongs to, from 0, if it is not the message's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<usize>,
    /// Which button, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub button: Option<usize>,
    /// The number or name of the variable, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variable: Option<String>,
}

impl Place {
    pub(super) fn of(card: Option<usize>, component: Part) -> Self {
        Self { component, card, button: None, variable: None }
    }

    /// A button's.
    #[must_use]
    pub fn button(card: Option<usize>, index: usize) -> Self {
        Self { button: Some(index), ..Self::of(card, Part::Buttons) }
    }

    pub(super) fn variable(&self, name: &str) -> Self {
        Self { variable: Some(name.to_owned()), ..self.clone() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(card) = self.card {
            write!(f, "cards[{card}].")?;
        }
        write!(f, "{}", self.component)?;
        if let Some(button) = self.button {
            write!(f, "[{button}]")?;
        }
        match &self.variable {
            Some(variable) => write!(f, " {{{{{variable}}}}}"),
            None => Ok(()),
        }
    }
}

/// What a variable takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "VariableKind")]
pub enum Kind {
    /// A line of text.
    Text,
    /// A picture.
    Image,
    /// A film.
    Video,
    /// A document.
    Document,
    /// A place.
    Location,
    /// The end of a page's address.
    UrlSuffix,
    /// What a quick reply comes back with.
    Payload,
    /// A code to copy, or to log in with.
    Code,
    /// A flow's token and data.
    Flow,
    /// When an offer ends.
    Expiry,
}

/// One thing that a send gives to a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "TemplateVariable")]
pub struct Variable {
    /// Where it stands.
    #[serde(flatten)]
    pub place: Place,
    /// What it takes.
    pub kind: Kind,
    /// Is it refused without it?
    pub required: bool,
}

impl Template {
    /// All that a send may give, in the order of the template: what a form asks for. A variable that repeats in a text is one.
    #[must_use]
    pub fn variables(&self) -> Vec<Variable> {
        let mut variables = Vec::new();
        self.face_variables(None, &self.components, &mut variables);
        for (at, card) in self.cards().iter().enumerate() {
            self.face_variables(Some(at), &card.components, &mut variables);
        }
        if self.takes_code() {
            variables.push(Variable { place: Place::of(None, Part::Code), kind: Kind::Code, required: true });
        }
        if self.takes_expiry() {
            variables.push(Variable { place: Place::of(None, Part::ExpiresAt), kind: Kind::Expiry, required: true });
        }
        variables
    }

    fn face_variables(&self, card: Option<usize>, components: &[Component], variables: &mut Vec<Variable>) {
        let mut add = |place: Place, kind: Kind, required: bool| variables.push(Variable { place, kind, required });
        for component in components {
            match component {
                Component::TextHeader { text } => {
                    let place = Place::of(card, Part::Header);
                    names(text, self.format).into_iter().for_each(|it| add(place.variable(it), Kind::Text, true));
                }
                Component::MediaHeader { format } => match format {
                    HeaderFormat::Image => add(Place::of(card, Part::Header), Kind::Image, true),
                    HeaderFormat::Video => add(Place::of(card, Part::Header), Kind::Video, true),
                    HeaderFormat::Document => add(Place::of(card, Part::Header), Kind::Document, true),
                    HeaderFormat::Location => add(Place::of(card, Part::Header), Kind::Location, true),
                    HeaderFormat::Gif => {}
                },
                // The text of a template that takes a code gets the code.
                Component::Body { .. } if self.takes_code() => {}
                Component::Body { text } => {
                    let place = Place::of(card, Part::Body);
                    names(text, self.format).into_iter().for_each(|it| add(place.variable(it), Kind::Text, true));
                }
                Component::Buttons { buttons } => {
                    for (index, button) in buttons.iter().enumerate() {
                        let place = Place::button(card, index);
                        match button {
                            Button::QuickReply { .. } => add(place, Kind::Payload, false),
                            Button::Url { url, .. } => {
                                if let Some(name) = url_variable(url) {
                                    add(place.variable(name), Kind::UrlSuffix, true);
                                }
                            }
                            Button::CopyCode => add(place, Kind::Code, true),
                            Button::Flow { .. } => add(place, Kind::Flow, false),
                            Button::PhoneNumber { .. } | Button::Otp { .. } | Button::Other { .. } => {}
                        }
                    }
                }
                Component::Footer { .. } | Component::Carousel { .. } | Component::LimitedTimeOffer { .. } | Component::Unknown { .. } => {}
            }
        }
    }

    /// The cards of its carousel.
    pub(super) fn cards(&self) -> &[Card] {
        let cards = self.components.iter().find_map(|it| if let Component::Carousel { cards } = it { Some(cards) } else { None });
        cards.map_or(&[], Vec::as_slice)
    }

    /// Is it filled with a login code, which Meta wants in the text and in the button?
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/authentication-templates/authentication-templates>
    pub(super) fn takes_code(&self) -> bool {
        let has_button = buttons(&self.components).iter().any(|it| matches!(it, Button::Otp { .. }));
        let has_place = body(&self.components).is_some_and(|it| names(it, self.format).len() == 1);
        has_button || (self.category == Category::Authentication && has_place)
    }

    /// Does it hold an offer whose end a send must say?
    pub(super) fn takes_expiry(&self) -> bool {
        self.components.iter().any(|it| matches!(it, Component::LimitedTimeOffer { has_expiration: true, .. }))
    }
}

/// The text among the components.
pub(super) fn body(components: &[Component]) -> Option<&str> {
    components.iter().find_map(|it| if let Component::Body { text } = it { Some(text.as_str()) } else { None })
}

/// The buttons among the components.
pub(super) fn buttons(components: &[Component]) -> &[Button] {
    let buttons = components.iter().find_map(|it| if let Component::Buttons { buttons } = it { Some(buttons) } else { None });
    buttons.map_or(&[], Vec::as_slice)
}

/// The variable of a page's address: numbered, whatever the template's other variables are called.
pub(super) fn url_variable(url: &str) -> Option<&str> {
    names(url, ParameterFormat::Positional).first().copied()
}

/// A piece of a template's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Words that stay.
    Words(&'a str),
    /// A variable, by its number or name.
    Variable(&'a str),
}

/// The text, cut at its variables: whatever letters, digits and underscores stand in double braces.
pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut begin, mut at) = (0, 0);
    while let Some(found) = text[at..].find("{{") {
        let open = at + found;
        let inside = text[open + 2..].split_once("}}").map(|(it, _)| it);
        match inside.filter(|it| is_name(it.trim())) {
            Some(inside) => {
                pieces.extend([Piece::Words(&text[begin..open]), Piece::Variable(inside.trim())]);
                begin = open + inside.len() + 4;
                at = begin;
            }
            None => at = open + 1,
        }
    }
    pieces.push(Piece::Words(&text[begin..]));
    pieces
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_')
}

/// The variables of one text, each once: numbered ones by number, named ones as they come. Numbering begins anew in every text.
pub(super) fn names(text: &str, format: ParameterFormat) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for piece in pieces(text) {
        if let Piece::Variable(name) = piece
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    if format == ParameterFormat::Positional {
        names.sort_by_key(|it| it.parse().unwrap_or(u32::MAX));
    }
    names
}
