//! What we do about what WhatsApp tells us and what agents ask of it, and where we keep it.
//!
//! Use-cases take the handles they use first, then the job, then `now`: their parameters are their permissions. This crate must not know
//! Lambda's events, environment variables, or the clock.

pub mod agents;
pub mod aws;
pub mod blobs;
pub mod bridge;
pub mod catalogue;
pub mod checks;
pub mod clock;
pub mod connections;
pub mod contacts;
pub mod counts;
pub mod directory;
mod endings;
mod endpoints;
pub mod erasure;
mod feed;
pub mod files;
pub mod handling;
pub mod health;
pub mod history;
pub mod inbound;
pub mod inbox;
pub mod ingest;
pub mod jobs;
pub mod leases;
pub mod media;
pub mod numbers;
mod opaque;
mod outbox;
pub mod owed;
pub mod people;
pub mod preferences;
pub mod queues;
pub mod redelivery;
pub mod replies;
pub mod report;
pub mod resends;
pub mod retention;
pub mod sending;
pub mod signup;
pub mod statuses;
pub mod store;
pub mod templates;
pub mod transcripts;
mod turns;
pub mod uploads;
pub mod vault;
pub mod watch;
pub mod web;

pub use meta::graph::{Settings as GraphSettings, SettingsError as GraphSettingsError};
pub use outbox::{Fence, SendError};
pub use turns::TurnError;
