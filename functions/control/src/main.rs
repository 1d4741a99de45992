//! The Lambda function `control`.

use control::{Config, Handles, handle, router};
use domain::time::Timestamp;
use lambda::configuration::Environment;
use lambda_http::{Error, Request, RequestExt as _, service_fn};

fn main() -> anyhow::Result<()> {
    let config = Config::read(Environment::of_process())?;
    lambda::run::observe("control", config.installation.log_level);
    let router = router(Handles::new(config)?);
    let router = &router;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let service = service_fn(async move |request: Request| {
        let now = Timestamp::from_millis(lambda::run::now());
        let span = lambda::run::invocation(&request.lambda_context());
        let response = tracing::Instrument::instrument(handle(router, request, now), span).await;
        lambda::metrics::flush(lambda::run::now());
        Ok::<_, Error>(response)
    });
    runtime.block_on(lambda_http::run(service)).map_err(anyhow::Error::from_boxed)
}
