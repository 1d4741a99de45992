//! The Lambda function `replies`.

use domain::time::Timestamp;
use lambda::configuration::Environment;
use replies::{Config, Handles, handle};

fn main() -> anyhow::Result<()> {
    let config = Config::read(Environment::of_process())?;
    lambda::run::observe("replies", config.installation.log_level);
    let handles = Handles::new(config)?;
    let clock = || Timestamp::from_millis(lambda::run::now());
    lambda::run::serve(async |event, deadline| handle(&handles, event, &clock, deadline).await)?;
    Ok(())
}
