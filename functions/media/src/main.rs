//! The Lambda function `media`.

use domain::time::Timestamp;
use lambda::configuration::Environment;
use media::{Config, Handles, handle};

fn main() -> anyhow::Result<()> {
    let config = Config::read(Environment::of_process())?;
    lambda::run::observe("media", config.installation.log_level);
    let handles = Handles::new(config)?;
    lambda::run::serve(async |event, deadline| handle(&handles, event, Timestamp::from_millis(lambda::run::now()), deadline).await)?;
    Ok(())
}
