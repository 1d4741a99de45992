//! The goals, in one table, and the table that shows what was found beside them.

/// What a value must be.
#[derive(Clone, Copy, Debug)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
    Exactly(f64),
}

/// By the name of what is measured. What has no goal here is only shown.
const GOALS: &[(&str, Bound)] = &[
    ("rate per number, of its share: the slowest", Bound::AtLeast(0.95)),
    ("rate per number, of its share: the fastest", Bound::AtMost(1.001)),
    ("throttled by Meta (130429)", Bound::Exactly(0.0)),
    ("customers who got nothing, unexplained", Bound::Exactly(0.0)),
    ("customers who got it twice", Bound::Exactly(0.0)),
    ("replies lost", Bound::Exactly(0.0)),
    ("replies doubled, and no second attempt by name", Bound::Exactly(0.0)),
    ("customers answered out of order", Bound::Exactly(0.0)),
    ("sent while it was stopped", Bound::Exactly(0.0)),
    ("refused", Bound::Exactly(0.0)),
    ("dead letters", Bound::Exactly(0.0)),
    ("longest delay of a reply beside the campaign, more than without, ms", Bound::AtMost(0.0)),
    ("local: customers who got it twice", Bound::Exactly(0.0)),
    ("local: customers who got nothing", Bound::Exactly(0.0)),
    ("write units per inbound", Bound::AtMost(2.05)),
    ("write units per reply", Bound::AtMost(2.0)),
    // Three, and the leases of places and slots, once a batch and number.
    ("write units per template to somebody known", Bound::AtMost(3.35)),
    // On top two for the new address and its state.
    ("write units per template to somebody new", Bound::AtMost(5.35)),
    ("write units per status, templates to somebody known", Bound::AtMost(1.0)),
    ("verify, parse and split a webhook of 600 bytes, ns", Bound::AtMost(10_000.0)),
];

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    missed: Vec<String>,
}

impl Findings {
    /// Shows a value beside its goal, if it has one.
    pub(crate) fn found(&mut self, what: &str, value: f64) {
        let goal = GOALS.iter().find(|it| it.0 == what).map(|it| it.1);
        let (goal, is_met) = match goal {
            None => (String::new(), true),
            Some(Bound::AtLeast(it)) => (format!("≥ {}", shown(it)), value >= it),
            Some(Bound::AtMost(it)) => (format!("≤ {}", shown(it)), value <= it),
            Some(Bound::Exactly(it)) => (format!("= {}", shown(it)), (value - it).abs() < f64::EPSILON),
        };
        let verdict = if is_met { "" } else { "   MISSED" };
        println!("  {what:<70} {:>12}   {goal}{verdict}", shown(value));
        if !is_met {
            self.missed.push(format!("{what}: {}, and the goal is {goal}", shown(value)));
        }
    }

    /// Whether every goal that was looked at is met; says which are not.
    pub(crate) fn are_good(&self) -> bool {
        self.missed.iter().for_each(|it| println!("MISSED  {it}"));
        self.missed.is_empty()
    }
}

/// Whole numbers whole, others with three digits after the point.
fn shown(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}
