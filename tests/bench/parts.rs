//! What the parts of the code take that run for every message, in nanoseconds: the best of some rounds, since other programs only slow it down.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;

use crate::goals::Findings;

/// How often each part is run in a round.
const TIMES: u32 = 20_000;
/// How many rounds there are.
const ROUNDS: u32 = 15;

/// Runs them.
pub(crate) async fn parts(findings: &mut Findings) -> Result<()> {
    println!("Parts of the code, the best of {ROUNDS} rounds of {TIMES}");
    findings.found("nothing, ns", nanoseconds(|| 0));
    Ok(())
}

/// How long this takes once.
fn nanoseconds<T>(mut work: impl FnMut() -> T) -> f64 {
    let round = |_| {
        let began = Instant::now();
        (0..TIMES).for_each(|_| drop(black_box(work())));
        began.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES)
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}
