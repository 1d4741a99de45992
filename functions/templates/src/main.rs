//! The Lambda function `templates`.

use lambda::configuration::Environment;
use templates::{Config, Handles, handle};

fn main() -> anyhow::Result<()> {
    let config = Config::read(Environment::of_process())?;
    lambda::run::observe("templates", config.installation.log_level);
    let handles = Handles::new(config)?;
    lambda::run::serve(async |event, deadline| handle(&handles, event, lambda::run::clock(), deadline).await)?;
    Ok(())
}
