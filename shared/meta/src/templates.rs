//! stub
use domain::template::Filled;
use serde_json::Value;
/// stub
#[must_use]
pub fn request(_to: &crate::outgoing::Recipient, _filled: &Filled, _opaque: &str) -> Value {
    Value::Null
}
