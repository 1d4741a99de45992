//! Orders in which runners may make their calls: all of them for two, some by chance for more.
//!
//! A runner is stopped before each call that matters, and goes on when it is chosen: what it does between two such calls nobody sees.
//! It must not know what runs.

use std::future::poll_fn;
use std::task::Poll;

use futures::future::LocalBoxFuture;

use crate::sqs::Chance;
use crate::wire::{Call, Faults};

/// All orders, one after the other: each run follows the one before as far as it can, and turns off at the last place where it may.
#[derive(Debug, Default)]
pub struct Orders {
    /// Which of how many was chosen at each place.
    chosen: Vec<(usize, usize)>,
    place: usize,
}

impl Orders {
    /// Which of `count` goes on.
    pub fn choose(&mut self, count: usize) -> usize {
        if self.place == self.chosen.len() {
            self.chosen.push((0, count));
        }
        let chosen = self.chosen[self.place].0;
        self.place += 1;
        chosen
    }

    /// Makes ready for the next order; false if there is none left.
    pub fn advance(&mut self) -> bool {
        self.place = 0;
        while let Some((chosen, count)) = self.chosen.pop() {
            if chosen + 1 < count {
                self.chosen.push((chosen + 1, count));
                return true;
            }
        }
        false
    }
}

/// Chooses by chance, the same way for the same seed.
pub fn by_chance(seed: u64) -> impl FnMut(usize) -> usize {
    let mut chance = Chance(seed);
    move |count| chance.below(count)
}

/// Runs all of them to their ends, in the order that `choose` says: given how many are left, which of them makes its next call. Calls
/// that do not matter are made on the way.
pub async fn race(
    faults: &Faults,
    matters: fn(&Call) -> bool,
    runners: Vec<LocalBoxFuture<'_, ()>>,
    mut choose: impl FnMut(usize) -> usize,
) {
    faults.stop_at(Some(matters));
    let mut running = Vec::new();
    for (index, mut runner) in runners.into_iter().enumerate() {
        if !runs_on(faults, index, &mut runner).await {
            running.push((index, runner));
        }
    }
    while !running.is_empty() {
        let chosen = choose(running.len());
        let (index, runner) = &mut running[chosen];
        faults.go_on(*index);
        if runs_on(faults, *index, runner).await {
            drop(running.remove(chosen));
        }
    }
    faults.stop_at(None);
}

/// Runs one until it is stopped or has ended; whether it has ended.
async fn runs_on(faults: &Faults, index: usize, runner: &mut LocalBoxFuture<'_, ()>) -> bool {
    poll_fn(|context| {
        faults.runs(Some(index));
        let has_ended = runner.as_mut().poll(context).is_ready();
        faults.runs(None);
        if has_ended || faults.is_stopped(index) { Poll::Ready(has_ended) } else { Poll::Pending }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_order_comes_once() {
        let mut orders = Orders::default();
        let mut seen = BTreeSet::new();
        loop {
            // Two with two calls each.
            let (mut left, mut order) = (vec![('a', 2), ('b', 2)], String::new());
            while !left.is_empty() {
                let chosen = orders.choose(left.len());
                order.push(left[chosen].0);
                left[chosen].1 -= 1;
                left.retain(|it| it.1 > 0);
            }
            assert!(seen.insert(order), "each once");
            if !orders.advance() {
                break;
            }
        }
        assert_eq!(seen.len(), 6);
    }
}
