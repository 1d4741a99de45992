//! The Lambda function `inbound`.

use domain::time::Timestamp;
use inbound::{Config, Handles, handle};
use lambda::configuration::Environment;

fn main() -> anyhow::Result<()> {
    let config = Config::read(Environment::of_process())?;
    lambda::run::observe("inbound", config.installation.log_level);
    let handles = Handles::new(config);
    lambda::run::serve(async |event, deadline| handle(&handles, event, Timestamp::from_millis(lambda::run::now()), deadline).await)?;
    Ok(())
}
