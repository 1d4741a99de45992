//! The Lambda function `bridge`.

use bridge::{Config, Handles, handle};
use lambda::configuration::Environment;

fn main() -> anyhow::Result<()> {
    let config = Config::read(Environment::of_process())?;
    lambda::run::observe("bridge", config.installation.log_level);
    let handles = Handles::new(config)?;
    lambda::run::serve(async |event, deadline| handle(&handles, event, lambda::run::clock(), deadline).await)?;
    Ok(())
}
