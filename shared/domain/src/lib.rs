//! What is true of a WhatsApp conversation, whoever asks and wherever it is kept.
//!
//! The rules (window, sender, standing, who answers, one person, status merge) are pure functions of *state, event, now*.
//! This crate must not know AWS, HTTP, Meta's JSON, the clock, or async.

pub mod connection;
pub mod contact;
pub mod conversation;
pub mod customer;
pub mod ids;
pub mod internet;
pub mod message;
pub mod outgoing;
pub mod person;
pub mod refusal;
pub mod rotation;
pub mod status;
pub mod template;
pub mod time;
pub mod window;
