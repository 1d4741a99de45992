//! Lists, page by page: where a page ended is told as a text that means nothing to callers.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::fields::fields;
use crate::problems::{FieldError, Problem};

/// How many a page holds if nothing is said.
const LIMIT: usize = 50;

/// How many a page holds: 1 to 100.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "u64")]
pub(crate) struct Limit(usize);

impl JsonSchema for Limit {
    fn schema_name() -> Cow<'static, str> {
        "Limit".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": 100 })
    }
}

impl TryFrom<u64> for Limit {
    type Error = &'static str;

    fn try_from(number: u64) -> Result<Self, Self::Error> {
        match usize::try_from(number) {
            Ok(it @ 1..=100) => Ok(Self(it)),
            _ => Err("expected a number from 1 to 100"),
        }
    }
}

fields! {
    /// Which page.
    Paging {
        /// How many items a page holds at most: 1 to 100, 50 if nothing is said.
        limit: Option<Limit>,
        /// `next` of the page before; without it, the first page.
        cursor: Option<String>,
    }
}

impl Paging {
    /// How many.
    pub(crate) fn limit(&self) -> usize {
        self.limit.map_or(LIMIT, |it| it.0)
    }

    /// Where the page before ended.
    ///
    /// # Errors
    /// The problem that it is no cursor.
    pub(crate) fn after(&self) -> Result<Option<String>, Problem> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let decoded = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|it| String::from_utf8(it).ok());
        decoded.map(Some).ok_or_else(|| Problem::invalid(vec![bad_cursor()]))
    }
}

fn bad_cursor() -> FieldError {
    FieldError::new("cursor", "invalid", "It is no cursor. Take `next` of the page before, or leave it out.")
}

/// One page of a list.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PageOf{T}")]
pub(crate) struct Page<T> {
    /// The items.
    items: Vec<T>,
    /// The cursor of the page that follows; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl<T> Page<T> {
    /// These items, and where they ended, if more follow.
    pub(crate) fn new(items: Vec<T>, ended_at: Option<String>) -> Self {
        Self { items, next: ended_at.map(|it| URL_SAFE_NO_PAD.encode(it)) }
    }
}
