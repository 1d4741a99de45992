//! How Meta says it: signatures, webhooks, the bodies we send, the Graph API, and its errors.
//!
//! Everything that depends on the shape of Meta's JSON is here and nowhere else. This crate must not know DynamoDB, SQS, or which
//! use-case is running; the clock is not read, and nothing is logged.

pub mod account;
pub mod fault;
#[doc(hidden)]
pub mod fixtures;
pub mod graph;
pub mod numbers;
pub mod outgoing;
pub mod signature;
pub mod templates;
pub mod webhook;
mod wire;
