//! Lists, page by page: where a page ended is told as a text that means nothing to callers.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

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
    pub(crate) fn after<T: DeserializeOwned>(&self) -> Result<Option<T>, Problem> {
        self.cursor.as_deref().map(place).transpose()
    }
}

/// The place that a cursor is of.
pub(crate) fn place<T: DeserializeOwned>(cursor: &str) -> Result<T, Problem> {
    let decoded = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|it| serde_json::from_slice(&it).ok());
    let error = || FieldError::new("cursor", "invalid", "It is no cursor. Take `next` of the page before, or leave it out.");
    decoded.ok_or_else(|| Problem::invalid(vec![error()]))
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
    pub(crate) fn new(items: Vec<T>, ended_at: Option<impl Serialize>) -> Self {
        Self { items, next: ended_at.map(|it| URL_SAFE_NO_PAD.encode(json!(it).to_string())) }
    }
}
