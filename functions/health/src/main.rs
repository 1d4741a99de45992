//! The Lambda function `health`.

use domain::time::Timestamp;
use health::{Config, Handles, answer};
use lambda::configuration::Environment;

fn main() -> anyhow::Result<()> {
    let config = Config::read(Environment::of_process())?;
    lambda::run::observe("health", config.installation.log_level);
    let handles = Handles::new(config)?;
    lambda::run::serve(async |event, deadline| answer(&handles, event, Timestamp::from_millis(lambda::run::now()), deadline).await)?;
    Ok(())
}
