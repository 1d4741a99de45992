//! Which number a customer who has none is sent to from, and when a number may send next.

use std::time::Duration;

use crate::connection::Quality;
use crate::ids::NumberId;
use crate::time::Timestamp;

/// A number, as far as the choice of a sender goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The number.
    pub number: NumberId,
    /// Can it send at all?
    pub can_send: bool,
    /// Meta's judgement, if it has said.
    pub quality: Option<Quality>,
}

/// The numbers among which first sends rotate, in their order: those that can send, and of these the ones of low quality only while there
/// are no better ones.
#[must_use]
pub fn rotating(candidates: &[Candidate]) -> Vec<NumberId> {
    let able: Vec<&Candidate> = candidates.iter().filter(|it| it.can_send).collect();
    let has_better = able.iter().any(|it| it.quality != Some(Quality::Red));
    able.into_iter().filter(|it| !has_better || it.quality != Some(Quality::Red)).map(|it| it.number.clone()).collect()
}

/// The number of a place in the rotation.
#[must_use]
pub fn number_at(place: u64, rotating: &[NumberId]) -> Option<&NumberId> {
    let count = u64::try_from(rotating.len()).ok().filter(|it| *it > 0)?;
    rotating.get(usize::try_from(place % count).ok()?)
}

/// How fast a number may send: one message every so often, without bursts (the generic cell rate algorithm with no tolerance).
///
/// What is remembered of a number is one time: when it is free next, in microseconds since the Unix epoch, since at a thousand messages a
/// second a millisecond is too coarse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    interval_us: i64,
}

/// Slots that a number has free, one every [`Pace`] from the first on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slots {
    /// The first, in microseconds since the Unix epoch.
    pub first_us: i64,
    /// How many.
    pub count: usize,
}

impl Pace {
    /// Of a number that may send so many messages a second, of which this share (above 0, at most 1) is ours.
    #[must_use]
    pub fn new(per_second: u32, share: f64) -> Self {
        let rate = f64::from(per_second.max(1)) * share.clamp(0.01, 1.0);
        // Rounded up: a number is never faster than its share.
        Self { interval_us: (1e6 / rate).ceil() as i64 }
    }

    /// How many slots, at most `wanted`, a number has that is free from `free_at_us` on (`None`: it has never sent), counting those that
    /// begin before `now + horizon`.
    #[must_use]
    pub fn room(self, free_at_us: Option<i64>, wanted: usize, now: Timestamp, horizon: Duration) -> Slots {
        let first_us = free_at_us.unwrap_or(0).max(micros(now));
        let left_us = micros(now.plus(horizon)) - first_us;
        let fitting = if left_us > 0 { (left_us - 1) / self.interval_us + 1 } else { 0 };
        Slots { first_us, count: wanted.min(usize::try_from(fitting).unwrap_or(0)) }
    }

    /// How long so many slots take, in microseconds.
    #[must_use]
    pub fn length_us(self, count: usize) -> i64 {
        self.interval_us.saturating_mul(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// When so many slots begin, of which the first is at `first_us`: each in the millisecond after it, so never too early.
    #[must_use]
    pub fn times(self, first_us: i64, count: usize) -> Vec<Timestamp> {
        (0..count).map(|index| Timestamp::from_millis((first_us + self.length_us(index) + 999) / 1_000)).collect()
    }
}

/// A time in microseconds since the Unix epoch.
#[must_use]
pub fn micros(at: Timestamp) -> i64 {
    at.as_millis().saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    fn numbers(count: usize) -> Vec<NumberId> {
        (0..count).map(|it| NumberId::parse(format!("10{it}")).expect("an id")).collect()
    }

    fn candidate(number: &str, can_send: bool, quality: Option<Quality>) -> Candidate {
        Candidate { number: NumberId::parse(number).expect("an id"), can_send, quality }
    }

    #[test]
    fn a_red_number_is_used_only_while_there_is_no_better_one() {
        let (red, faulty, green) =
            (candidate("1", true, Some(Quality::Red)), candidate("2", false, None), candidate("3", true, Some(Quality::Green)));
        assert_eq!(rotating(&[red.clone(), faulty.clone(), green.clone()]), [green.number]);
        assert_eq!(rotating(&[red.clone(), faulty.clone()]), [red.number]);
        assert!(rotating(&[faulty]).is_empty());
        assert_eq!(number_at(7, &[]), None);
    }

    #[test]
    fn a_number_that_never_sent_is_free_now_and_one_that_is_booked_up_has_no_room() {
        let pace = Pace::new(80, 0.75);
        let horizon = Duration::from_secs(2);
        let slots = pace.room(None, 25, NOW, horizon);
        assert_eq!((slots.first_us, slots.count), (micros(NOW), 25));
        let times = pace.times(slots.first_us, 4);
        assert_eq!((times[0], times[3]), (NOW, NOW.plus(Duration::from_millis(51))), "every 16,667 microseconds");
        assert_eq!(pace.room(Some(micros(NOW.plus(horizon))), 25, NOW, horizon).count, 0);
        assert_eq!(pace.room(None, 1_000, NOW, horizon).count, 120, "two seconds of sixty");
        assert_eq!(Pace::new(5, 1.0).room(Some(micros(NOW) + 1_900_000), 25, NOW, horizon).count, 1);
    }

    proptest! {
        #[test]
        fn over_n_places_each_number_is_used_equally_often(count in 1_usize..7, places in 0_u64..200, from in 0_u64..1_000) {
            let numbers = numbers(count);
            let mut used = vec![0_u64; count];
            for place in from..from + places {
                let number = number_at(place, &numbers).expect("there is one");
                used[numbers.iter().position(|it| it == number).expect("one of them")] += 1;
            }
            let (least, most) = (used.iter().min().expect("one"), used.iter().max().expect("one"));
            prop_assert!(most - least <= 1);
        }

        #[test]
        fn leases_never_overlap_never_exceed_the_rate_and_end_within_the_horizon(
            per_second in 1_u32..1_001,
            share in 0.1_f64..1.0,
            asked in proptest::collection::vec((1_usize..40, 0_u64..1_500), 1..40),
        ) {
            let pace = Pace::new(per_second, share);
            let horizon = Duration::from_secs(2);
            let (mut free_at, mut now, mut given) = (None, NOW, Vec::new());
            for (wanted, pause) in asked {
                now = now.plus(Duration::from_millis(pause));
                let slots = pace.room(free_at, wanted, now, horizon);
                for (index, at) in pace.times(slots.first_us, slots.count).into_iter().enumerate() {
                    prop_assert!(now <= at && at <= now.plus(horizon));
                    given.push(slots.first_us + pace.length_us(index));
                }
                free_at = Some(slots.first_us + pace.length_us(slots.count));
            }
            let interval = 1e6 / (f64::from(per_second) * share);
            for pair in given.windows(2) {
                prop_assert!((pair[1] - pair[0]) as f64 >= interval);
            }
        }
    }
}
