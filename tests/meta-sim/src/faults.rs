//! Faults on demand: what goes wrong with the next sends. Knows only whose turn it is, not what a fault looks like on the wire.

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// What goes wrong.
    #[serde(flatten)]
    pub fault: Fault,
}

/// The faults that are to come. The oldest rule that fits is used first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Faults {
    rules: Vec<Rule>,
    last_id: u64,
}

impl Faults {
    /// Adds a rule and gives its id.
    pub(crate) fn add(&mut self, number: Option<&str>, times: Option<u32>, fault: Fault) -> u64 {
        self.last_id += 1;
        self.rules.push(Rule { id: self.last_id, number: number.map(str::to_owned), times, fault });
        self.last_id
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
        let rule = self.rules.iter_mut().find(|it| it.times != Some(0) && it.number.as_deref().is_none_or(|it| it == number))?;
        if let Some(times) = &mut rule.times {
            *times -= 1;
        }
        let fault = rule.fault.clone();
        self.rules.retain(|it| it.times != Some(0));
        Some(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_used_as_often_as_told_and_only_for_its_number() {
        let mut faults = Faults::default();
        faults.add(Some("1"), Some(2), Fault::CutAfter);
        let all = faults.add(None, None, Fault::CutBefore);
        let taken: Vec<_> = ["2", "1", "1", "1", "2"].iter().map(|it| faults.take(it)).collect();
        let (before, after) = (Some(Fault::CutBefore), Some(Fault::CutAfter));
        assert_eq!(taken, [before.clone(), after.clone(), after, before.clone(), before]);
        faults.clear(Some(all));
        assert_eq!(faults.take("1"), None);
    }
}
