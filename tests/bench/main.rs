//! The load generator: what sending costs and how fast it is, as counts and ratios, each beside its goal. Ends in failure if one is missed.
//!
//! `campaign`: a campaign beside customers who are answered, in the world of the suite, whose clock is turned. `faults`: the same with
//! everything going wrong. `stops`: a campaign that a person stops, and starts again. `parts`: what the parts of the code take, in
//! nanoseconds. Without a name: these four. `local`: a small campaign on the local stack.

mod campaign;
mod goals;
mod local;
mod parts;

use anyhow::{Context as _, Result, bail};

use campaign::Scale;
use goals::Findings;

fn main() -> Result<()> {
    let mut scale = Scale { jobs: 10_000, numbers: 4, per_second: 80 };
    let mut runs = Vec::new();
    // cargo adds `--bench`.
    let mut words = std::env::args().skip(1).filter(|it| it != "--bench");
    while let Some(word) = words.next() {
        let mut value = || words.next().and_then(|it| it.parse().ok()).with_context(|| format!("{word} wants a whole number"));
        match word.as_str() {
            "--jobs" => scale.jobs = value()?,
            "--numbers" => scale.numbers = value()?,
            "--per-second" => scale.per_second = u32::try_from(value()?)?,
            "campaign" | "faults" | "stops" | "parts" | "local" => runs.push(word),
            other => bail!("{other} is none of: campaign, faults, stops, parts, local, --jobs N, --numbers N, --per-second N"),
        }
    }
    if runs.is_empty() {
        runs = ["campaign", "faults", "stops", "parts"].map(str::to_owned).to_vec();
    }
    // One thread: the world knows by that when nothing goes on.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut findings = Findings::default();
    for run in &runs {
        match run.as_str() {
            "campaign" => runtime.block_on(campaign::campaign(&scale, &mut findings)),
            "faults" => runtime.block_on(campaign::faults(&scale, &mut findings)),
            "stops" => runtime.block_on(campaign::stops(&scale, &mut findings)),
            "local" => runtime.block_on(local::local(&mut findings))?,
            _ => runtime.block_on(parts::parts(&mut findings))?,
        }
        println!();
    }
    if !findings.are_good() {
        bail!("a goal is missed");
    }
    Ok(())
}
