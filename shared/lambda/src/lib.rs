//! How AWS calls us: batches record by record, configuration, logs, metrics.
//!
//! Must not know what any job means. The only shared crate that reads the environment and the clock, each in one place.

pub mod batches;
pub mod configuration;
pub mod logging;
pub mod metrics;
pub mod run;
