//! The conversation that is played after the start, printed as it happens: a customer writes, the agent answers, the ticks
//! come back, as our `events` tell them beside what the phone shows.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout};

use crate::feed::Told;
use crate::simulator::Phone;

/// What the customer writes.
const WORDS: &str = "Hello! Is my order on its way?";

/// How long all of it may take. It takes two or three seconds, unless the last run was stopped in the middle: what a function
/// had in hand then holds the conversation until its queue's visibility timeout is over.
const PATIENCE: Duration = Duration::from_secs(240);

/// After how long the reason for waiting is told.
const UNUSUAL: Duration = Duration::from_secs(10);

/// How often the phone is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// The ticks in the order in which they come.
const STEPS: [&str; 3] = ["sent", "delivered", "read"];

/// Plays it.
///
/// # Errors
/// The answer or a tick did not come in time, with what is missing.
pub(crate) async fn play(phone: &Phone<'_>, number: &str, events: &mut UnboundedReceiver<Told>) -> Result<()> {
    let before = phone.screen().await?.len();
    let started_ms = now_ms();
    phone.write(number, WORDS).await?;
    show(started_ms, "customer", WORDS);
    let mut play = Play { started_ms, told: BTreeMap::new(), answer: None };
    let started = Instant::now();
    let mut is_usual = true;
    while started.elapsed() < PATIENCE {
        // An event is shown when it comes; the phone is looked at now and then.
        if let Ok(Some(told)) = timeout(LOOK, events.recv()).await {
            play.hear(&told);
        }
        let screen = phone.screen().await?;
        // Phones in the simulator read on their own what arrives.
        play.see(screen.get(before..).unwrap_or_default());
        if play.is_over() {
            play.compare();
            return Ok(());
        }
        if is_usual && started.elapsed() > UNUSUAL {
            is_usual = false;
            println!("    (waiting: what was in hand when the last run stopped comes back first, within three minutes)");
        }
    }
    bail!("{}", play.missing())
}

/// What was seen so far.
struct Play {
    started_ms: i64,
    /// When each step happened, by our events.
    told: BTreeMap<String, i64>,
    /// The agent's answer as the phone shows it.
    answer: Option<Value>,
}

impl Play {
    /// Takes in an event. Those of earlier runs, which may come now, are left out.
    fn hear(&mut self, told: &Told) {
        // Meta's times are whole seconds.
        let is_ours = told.at_ms >= self.started_ms - self.started_ms % 1000;
        if is_ours && self.told.insert(told.step.clone(), told.at_ms).is_none() {
            show(now_ms(), "events", &format!("{} at {}", told.step, clock(told.at_ms)));
        }
    }

    /// Looks at what the phone shows since the start.
    fn see(&mut self, messages: &[Value]) {
        let Some(answer) = messages.iter().find(|it| it["from"] == "business") else {
            return;
        };
        if self.answer.is_none() {
            show(now_ms(), "agent", answer["text"].as_str().unwrap_or("(no text)"));
        }
        self.answer = Some(answer.clone());
    }

    /// When a step happened, by the phone.
    fn phone_ms(&self, step: &str) -> Option<i64> {
        self.answer.as_ref().and_then(|it| it[step].as_i64())
    }

    fn is_over(&self) -> bool {
        STEPS.iter().all(|step| self.told.contains_key(*step) && self.phone_ms(step).is_some())
    }

    /// Prints the ticks as both sides have them.
    fn compare(&self) {
        let line = |time: &dyn Fn(&str) -> Option<i64>| {
            let ticks = STEPS.map(|step| format!("{step} {}", time(step).map_or("-".to_owned(), clock)));
            ticks.join("   ")
        };
        println!("    our events say     {}", line(&|step| self.told.get(step).copied()));
        println!("    the phone shows    {}", line(&|step| self.phone_ms(step)));
    }

    /// What did not come, in a sentence.
    fn missing(&self) -> String {
        let seconds = PATIENCE.as_secs();
        if self.answer.is_none() {
            return format!("No answer came to the customer's phone within {seconds} s.");
        }
        let missing: Vec<String> = STEPS
            .iter()
            .flat_map(|step| {
                let events = (!self.told.contains_key(*step)).then(|| format!("`{step}` in our events"));
                let phone = self.phone_ms(step).is_none().then(|| format!("`{step}` on the phone"));
                [events, phone]
            })
            .flatten()
            .collect();
        format!("The answer came, but not within {seconds} s: {}.", missing.join(", "))
    }
}

fn show(at_ms: i64, who: &str, what: &str) {
    println!("    {}  {who:<9}  {what}", clock(at_ms));
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The time of day in UTC, to the millisecond.
fn clock(at_ms: i64) -> String {
    let ms = at_ms.rem_euclid(86_400_000);
    format!("{:02}:{:02}:{:02}.{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const STARTED: i64 = 1_790_000_000_500;

    fn told(step: &str, at_ms: i64) -> Told {
        Told { step: step.to_owned(), at_ms }
    }

    #[test]
    fn it_is_over_when_both_sides_have_every_tick() {
        let mut play = Play { started_ms: STARTED, told: BTreeMap::new(), answer: None };
        assert_eq!(play.missing(), "No answer came to the customer's phone within 240 s.");
        let customer = json!({"from": "customer", "text": "Hello"});
        let mut business = json!({"from": "business", "text": "Hi", "sent": STARTED, "delivered": STARTED, "read": null});
        play.see(std::slice::from_ref(&customer));
        assert!(play.answer.is_none(), "the customer's own words are no answer");
        play.see(&[customer.clone(), business.clone()]);
        for step in STEPS {
            play.hear(&told(step, STARTED + 1));
        }
        assert!(!play.is_over(), "the phone was not read");
        assert_eq!(play.missing(), "The answer came, but not within 240 s: `read` on the phone.");
        business["read"] = json!(STARTED + 2);
        play.see(&[customer, business]);
        assert!(play.is_over());
    }

    #[test]
    fn events_of_earlier_runs_are_left_out_and_whole_seconds_are_not() {
        let mut play = Play { started_ms: STARTED, told: BTreeMap::new(), answer: None };
        play.hear(&told("sent", STARTED - 60_000));
        assert!(play.told.is_empty());
        play.hear(&told("sent", STARTED - 500));
        assert_eq!(play.told["sent"], STARTED - 500);
    }

    #[test]
    fn the_clock_is_utc() {
        assert_eq!(clock(0), "00:00:00.000");
        assert_eq!(clock(1_790_000_000_123), "14:13:20.123");
    }
}
