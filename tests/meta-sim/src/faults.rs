//! Faults on demand: what goes wrong with the next sends. Knows only whose turn it is, not what a fault looks like on the wire.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What goes wrong with a send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// Refused with this code of Meta's, in Meta's JSON.
    Error {
        /// Meta's error code.
        code: u32,
        /// Meta's subcode.
        #[serde(default)]
        subcode: Option<u32>,
    },
    /// A 5xx whose body is no JSON.
    Server {
        /// The HTTP status.
        status: u16,
        /// Whether the message was accepted all the same.
        #[serde(default)]
        accepted: bool,
    },
    /// A page of HTML, as from an edge in front of Meta.
    Html {
        /// The HTTP status.
        status: u16,
        /// Whether the message was accepted all the same.
        #[serde(default)]
        accepted: bool,
    },
    /// Accepted, but the answer takes this long.
    Slow {
        /// Milliseconds of real time.
        millis: u64,
    },
    /// The connection is closed without an answer and the message is lost.
    CutBefore,
    /// The connection is closed without an answer, but the message was accepted.
    CutAfter,
    /// Accepted, then failed with this code in a status.
    FailLater {
        /// Meta's error code.
        code: u32,
    },
}

/// A fault, and which sends it is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Names the rule when it is cleared.
    #[serde(default)]
    pub id: u64,
    /// Only sends of this phone number id; of any number if absent.
    #[serde(default)]
    pub number: Option<String>,
    /// How many sends are left for it; until cleared if absent.
    #[serde(default)]
    pub times: Option<u32>,
    /// The share of the sends that it is for, 0 to 1; of all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// What goes wrong.
    #[serde(flatten)]
    pub fault: Fault,
}

/// The faults that are to come. The oldest rule that fits is used first.
///
/// Each send draws one number below 1, and the rules with a share lie side by side: shares of 0.3 and 0.05 make 30 % the one, another
/// 5 % the other, and leave 65 % whole. The numbers are the same in each run with the same seed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Faults {
    rules: Vec<Rule>,
    last_id: u64,
    /// Where the draws begin.
    seed: u64,
    drawn: u64,
    /// How many sends each rule has met, cleared ones too.
    met: BTreeMap<u64, u64>,
}

impl Faults {
    /// Adds a rule and gives its id.
    pub(crate) fn add(&mut self, rule: Rule) -> u64 {
        self.last_id += 1;
        self.rules.push(Rule { id: self.last_id, ..rule });
        self.last_id
    }

    /// Begins the draws anew.
    pub(crate) fn sow(&mut self, seed: u64) {
        (self.seed, self.drawn) = (seed, 0);
    }

    /// How many sends a rule has met.
    pub(crate) fn met(&self, id: u64) -> u64 {
        self.met.get(&id).copied().unwrap_or_default()
    }

    /// The rules that are left.
    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Forgets one rule, or all.
    pub(crate) fn clear(&mut self, id: Option<u64>) {
        self.rules.retain(|it| id.is_some_and(|id| it.id != id));
    }

    /// The fault of this send of `number`, used up.
    pub(crate) fn take(&mut self, number: &str) -> Option<Fault> {
        let drawn = self.draw();
        let mut below = 0.0;
        let is_met = |it: &&mut Rule| {
            below += it.share.unwrap_or_default();
            it.share.is_none() || drawn < below
        };
        let mut fitting = self.rules.iter_mut().filter(|it| it.times != Some(0) && it.number.as_deref().is_none_or(|it| it == number));
        let rule = fitting.find(is_met)?;
        if let Some(times) = &mut rule.times {
            *times -= 1;
        }
        *self.met.entry(rule.id).or_default() += 1;
        let fault = rule.fault.clone();
        self.rules.retain(|it| it.times != Some(0));
        Some(fault)
    }

    /// The next number of the run, from 0 to below 1.
    fn draw(&mut self) -> f64 {
        self.drawn += 1;
        let bits = mixed(self.seed.wrapping_add(self.drawn.wrapping_mul(GOLDEN)));
        f64::from(u32::try_from(bits >> 32).unwrap_or_default()) / 4_294_967_296.0
    }
}

/// The step of SplitMix64.
pub(crate) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's mixing of a state.
pub(crate) fn mixed(state: u64) -> u64 {
    let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_used_as_often_as_told_and_only_for_its_number() {
        let mut faults = Faults::default();
        let rule = |number: Option<&str>, times, fault| Rule { id: 0, number: number.map(str::to_owned), times, share: None, fault };
        let twice = faults.add(rule(Some("1"), Some(2), Fault::CutAfter));
        let all = faults.add(rule(None, None, Fault::CutBefore));
        let taken: Vec<_> = ["2", "1", "1", "1", "2"].iter().map(|it| faults.take(it)).collect();
        let (before, after) = (Some(Fault::CutBefore), Some(Fault::CutAfter));
        assert_eq!(taken, [before.clone(), after.clone(), after, before.clone(), before]);
        faults.clear(Some(all));
        assert_eq!(faults.take("1"), None);
        assert_eq!([twice, all].map(|it| faults.met(it)), [2, 3]);
    }

    #[test]
    fn shares_lie_side_by_side_and_a_seed_repeats_the_run() {
        let run = |seed: u64| {
            let mut faults = Faults::default();
            faults.sow(seed);
            for (share, fault) in [(0.3, Fault::CutAfter), (0.05, Fault::Error { code: 130_429, subcode: None }), (0.01, Fault::CutBefore)]
            {
                faults.add(Rule { id: 0, number: None, times: None, share: Some(share), fault });
            }
            (0..10_000).map(|_| faults.take("1")).collect::<Vec<_>>()
        };
        let (one, other) = (run(7), run(8));
        let count = |run: &[Option<Fault>], fault: &Fault| run.iter().filter(|it| it.as_ref() == Some(fault)).count();
        assert!(one == run(7) && one != other);
        for run in [one, other] {
            assert!((2_850..=3_150).contains(&count(&run, &Fault::CutAfter)), "{}", count(&run, &Fault::CutAfter));
            assert!((430..=570).contains(&count(&run, &Fault::Error { code: 130_429, subcode: None })));
            assert!((60..=140).contains(&count(&run, &Fault::CutBefore)));
        }
    }
}
