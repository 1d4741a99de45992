//! The Lambda function `webhook`.

use domain::time::Timestamp;
use lambda::configuration::Environment;
use lambda_http::{Error, Request, RequestExt as _, service_fn};
use webhook::{Config, Handles, handle};

fn main() -> anyhow::Result<()> {
    let config = Config::read(Environment::of_process())?;
    lambda::run::observe("webhook", config.installation.log_level);
    let handles = Handles::new(config);
    let handles = &handles;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let service = service_fn(async move |request: Request| {
        let now = Timestamp::from_millis(lambda::run::now());
        let span = lambda::run::invocation(&request.lambda_context());
        let response = tracing::Instrument::instrument(handle(handles, request, now), span).await;
        lambda::metrics::flush(lambda::run::now());
        Ok::<_, Error>(response)
    });
    runtime.block_on(lambda_http::run(service)).map_err(anyhow::Error::from_boxed)
}
