//! How a function runs: one thread, one invocation at a time, and the only clock.
//!
//! Must not know what the function does. `main` reads its configuration, builds its handles once, and hands over here.

use std::time::Duration;

use aws_lambda_events::event::sqs::SqsBatchResponse;
use channel::clock::Clock;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use lambda_runtime::{Context, LambdaEvent, service_fn};
use serde::de::DeserializeOwned;
use tracing::{Instrument, Level, Span};

use crate::batches::Deadline;
use crate::{logging, metrics};

/// The time, in milliseconds since the Unix epoch.
pub fn now() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    let now = std::time::SystemTime::now();
    let since_epoch = now.duration_since(std::time::UNIX_EPOCH).expect("the clock is after 1970");
    i64::try_from(since_epoch.as_millis()).expect("milliseconds since 1970 fit for 292 million years")
}

/// The machine's clock, to read and to sleep by, for a handler that [`serve`] runs: sleeping needs its runtime.
pub fn clock() -> Clock<'static> {
    Clock::new(&now, &reached)
}

/// Ends once the time is reached. Looks again after each sleep: the machine's time may have been set meanwhile.
fn reached(at_ms: i64) -> LocalBoxFuture<'static, ()> {
    async move {
        while let Some(left_ms) = u64::try_from(at_ms.saturating_sub(now())).ok().filter(|it| *it > 0) {
            #[expect(clippy::disallowed_methods, reason = "this is where the system sleeps")]
            tokio::time::sleep(Duration::from_millis(left_ms)).await;
        }
    }
    .boxed_local()
}

/// Starts logs and metrics of the function of this name.
pub fn observe(function: &str, level: Level) {
    logging::start(level);
    metrics::start(function);
}

/// The span of one invocation, whose fields stand in each of its log lines.
pub fn invocation(context: &Context) -> Span {
    tracing::info_span!("invocation", request.id = context.request_id, trace.id = context.xray_trace_id)
}

/// Why a function does not run, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The asynchronous runtime could not be built.
    #[error("no runtime for the function")]
    Runtime(#[source] std::io::Error),
    /// Lambda's Runtime API could not be asked for work:
    /// <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>.
    #[error("the Lambda Runtime API failed")]
    RuntimeApi(#[source] lambda_runtime::Error),
}

/// Runs a function until its sandbox ends: each event, of a queue or whatever else invokes it, goes to `handler` with the invocation's
/// deadline, then the metrics are written.
///
/// One thread, because a sandbox has one invocation at a time and a second thread costs more CPU than it brings.
///
/// # Errors
/// When the function cannot start, or Lambda cannot be asked for work.
pub fn serve<E: DeserializeOwned>(handler: impl AsyncFn(E, Option<Deadline<'_>>) -> SqsBatchResponse) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RunError::Runtime)?;
    let handler = &handler;
    let service = service_fn(async move |event: LambdaEvent<E>| {
        let span = invocation(&event.context);
        let deadline = i64::try_from(event.context.deadline).ok().and_then(|it| Deadline::new(it, &now));
        let response = handler(event.payload, deadline).instrument(span).await;
        metrics::flush(now());
        Ok::<_, lambda_runtime::Error>(response)
    });
    runtime.block_on(lambda_runtime::run(service)).map_err(RunError::RuntimeApi)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_in_milliseconds() {
        // From 2026 on and before 2100: a clock in seconds or microseconds is outside.
        assert!((1_767_225_600_000..4_102_444_800_000).contains(&now()));
    }

    #[test]
    fn sleeping_ends_when_the_time_is_reached() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let clock = clock();
        let at = clock.now().plus(Duration::from_millis(3));
        runtime.block_on(clock.until(at));
        assert!(clock.now() >= at);
        // What has passed is not slept for: this ends at its first poll.
        assert_eq!(clock.until(at).now_or_never(), Some(()));
    }
}
