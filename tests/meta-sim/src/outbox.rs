//! Webhooks on their way out: batched, doubled, shuffled and delayed on demand, signed, and repeated until answered with 200.
//!
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/overview>. Knows neither customers nor numbers.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::faults::{GOLDEN, mixed};

/// How long Meta repeats a webhook that was not answered with 200.
pub const REPEATED_FOR_MS: i64 = 7 * 24 * 60 * 60 * 1000;
/// How long a webhook that was taken may stay unanswered before it counts as failed.
pub const UNANSWERED_FOR_MS: i64 = 20_000;
/// The first pause before a repeat; each further one is twice as long, up to [`LONGEST_PAUSE_MS`].
pub const FIRST_PAUSE_MS: i64 = 10_000;
/// The longest pause between two repeats.
pub const LONGEST_PAUSE_MS: i64 = 6 * 60 * 60 * 1000;
/// Meta puts up to this many updates into one body.
pub(crate) const MOST_UPDATES: usize = 1000;

/// Fields about threads with customers: in Meta's samples their entries have no time of their own, those about accounts have.
const OF_THREADS: &[&str] = &[
    "messages",
    "standby",
    "messaging_handovers",
    "calls",
    "user_preferences",
    "message_echoes",
    "smb_message_echoes",
    "smb_app_state_sync",
    "history",
];

/// How webhooks are made and sent out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mode {
    /// Up to how many updates travel in one body, 1 to 1000.
    pub batch: usize,
    /// How many further copies of each body are sent.
    pub duplicate: u32,
    /// Whether due updates and bodies go out in a made-up order, the same one in each run.
    pub shuffle: bool,
    /// How long each update waits before it is due, in milliseconds.
    pub delay_ms: i64,
    /// Whether `failed` statuses carry `biz_opaque_callback_data` too.
    pub echo_on_failed: bool,
    /// Whether a send outside the window is accepted and fails later with 131047, instead of being refused at once.
    pub late_window_refusals: bool,
}

impl Default for Mode {
    fn default() -> Self {
        Self { batch: 1, duplicate: 0, shuffle: false, delay_ms: 0, echo_on_failed: false, late_window_refusals: false }
    }
}

/// Where an app takes its webhooks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Destination {
    /// The app, whose secret signs.
    pub app_id: String,
    /// Its callback, or an override; none if the app has no callback and is only stepped.
    pub url: Option<String>,
}

/// One change of one WhatsApp Business Account, as one app is to hear it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Update {
    destination: Destination,
    account: String,
    field: String,
    value: Value,
    at_ms: i64,
    due_ms: i64,
}

/// A signed body, ready to be POSTed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Names it to [`crate::Simulator::answered`].
    pub id: u64,
    /// The app that it is for.
    pub app_id: String,
    /// The path of the callback; `/webhooks/{app_id}` if the app has none.
    pub path: String,
    /// The whole callback URL, if the app has one.
    pub url: Option<String>,
    /// The raw bytes that were signed: JSON in ASCII.
    pub body: Vec<u8>,
    /// The value of `X-Hub-Signature-256`.
    pub signature: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Queued {
    id: u64,
    /// Equal for the copies of one body that several apps get.
    delivery: u64,
    destination: Destination,
    /// All who hear this body; a repeat goes to each of them.
    everyone: Vec<Destination>,
    body: String,
    attempts: u32,
    first_at_ms: i64,
    due_ms: i64,
    taken_at_ms: Option<i64>,
}

/// The updates and bodies that were not yet answered with 200. Both are found by when they are due: there may be many thousands.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "Kept", into = "Kept")]
pub(crate) struct Outbox {
    /// How webhooks are made and sent out.
    pub mode: Mode,
    /// With all who hear of each, by when it is due and in the order of noting.
    updates: BTreeMap<(i64, u64), (Vec<Destination>, Update)>,
    noted: u64,
    queue: BTreeMap<u64, Queued>,
    /// When each of the queue is due, and its id.
    due: BTreeSet<(i64, u64)>,
    next_id: u64,
}

/// The outbox in the file.
#[derive(Serialize, Deserialize)]
struct Kept {
    mode: Mode,
    updates: Vec<(Vec<Destination>, Update)>,
    queue: Vec<Queued>,
    next_id: u64,
}

impl From<Outbox> for Kept {
    fn from(outbox: Outbox) -> Self {
        let Outbox { mode, updates, queue, next_id, .. } = outbox;
        Self { mode, updates: updates.into_values().collect(), queue: queue.into_values().collect(), next_id }
    }
}

impl From<Kept> for Outbox {
    fn from(kept: Kept) -> Self {
        let mut outbox = Self { mode: kept.mode, next_id: kept.next_id, ..Self::default() };
        kept.updates.into_iter().for_each(|(everyone, update)| outbox.note(everyone, update));
        kept.queue.into_iter().for_each(|it| outbox.enqueue(it));
        outbox
    }
}

impl Outbox {
    fn note(&mut self, everyone: Vec<Destination>, update: Update) {
        self.noted += 1;
        self.updates.insert((update.due_ms, self.noted), (everyone, update));
    }

    fn enqueue(&mut self, queued: Queued) {
        self.due.insert((queued.next_due_ms(), queued.id));
        self.queue.insert(queued.id, queued);
    }

    /// Takes a body out of the queue: to change it, put it back by [`Outbox::enqueue`].
    fn remove(&mut self, id: u64) -> Option<Queued> {
        let queued = self.queue.remove(&id)?;
        self.due.remove(&(queued.next_due_ms(), id));
        Some(queued)
    }

    /// Notes a change for `destinations`, due `mode.delay_ms` after `at_ms`.
    pub(crate) fn push(&mut self, destinations: &[Destination], account: &str, field: &str, value: &Value, at_ms: i64) {
        for destination in destinations {
            let update = Update {
                destination: destination.clone(),
                account: account.into(),
                field: field.into(),
                value: value.clone(),
                at_ms,
                due_ms: at_ms + self.mode.delay_ms,
            };
            self.note(destinations.to_vec(), update);
        }
    }

    /// How many updates and bodies are unsent or unanswered.
    pub(crate) fn unsent(&self) -> usize {
        self.updates.len() + self.queue.len()
    }

    /// When the next webhook is due, in milliseconds; `None` if there is none.
    pub(crate) fn next_due_ms(&self) -> Option<i64> {
        let update = self.updates.first_key_value().map(|(it, _)| it.0);
        let queued = self.due.first().map(|it| it.0);
        update.into_iter().chain(queued).min()
    }

    /// What is due at `now_ms`, each to be reported by [`Outbox::answered`]; `secret_of` gives an app's secret.
    pub(crate) fn take(&mut self, now_ms: i64, secret_of: impl Fn(&str) -> String) -> Vec<Webhook> {
        self.form(now_ms);
        let mut taken: Vec<u64> = self.due.range(..=(now_ms, u64::MAX)).map(|it| it.1).collect();
        taken.sort_unstable();
        if self.mode.shuffle {
            shuffle(&mut taken, self.next_id);
        }
        let mut webhooks = Vec::with_capacity(taken.len());
        for mut queued in taken.into_iter().filter_map(|id| self.remove(id)).collect::<Vec<_>>() {
            webhooks.push(queued.take(now_ms, &secret_of));
            self.enqueue(queued);
        }
        webhooks
    }

    /// Tells what the app answered to webhook `id`: 200 settles it, all else is repeated to every app that hears of it.
    pub(crate) fn answered(&mut self, id: u64, status: u16, now_ms: i64) {
        let Some(mut queued) = self.remove(id) else { return };
        if status == 200 {
            return;
        }
        queued.attempts += 1;
        queued.taken_at_ms = None;
        queued.due_ms = now_ms + pause_ms(queued.attempts);
        if queued.due_ms - queued.first_at_ms > REPEATED_FOR_MS {
            return;
        }
        self.enqueue(queued.clone());
        self.repeat_to_others(&queued);
    }

    /// A taken webhook whose taker is gone counts as never taken.
    pub(crate) fn forget_takers(&mut self) {
        for mut queued in std::mem::take(&mut self.queue).into_values() {
            self.due.remove(&(queued.next_due_ms(), queued.id));
            queued.taken_at_ms = None;
            self.enqueue(queued);
        }
    }

    fn repeat_to_others(&mut self, failed: &Queued) {
        for other in failed.everyone.iter().filter(|it| **it != failed.destination) {
            let is_queued = self.queue.values().any(|it| it.delivery == failed.delivery && it.destination == *other);
            if !is_queued {
                self.next_id += 1;
                self.enqueue(Queued { id: self.next_id, destination: other.clone(), ..failed.clone() });
            }
        }
    }

    /// Turns due updates into bodies.
    fn form(&mut self, now_ms: i64) {
        let later = self.updates.split_off(&(now_ms + 1, 0));
        // Statuses are noted ahead of their time: they go out in the order of events, not of noting.
        let mut due: Vec<_> = std::mem::replace(&mut self.updates, later).into_values().collect();
        if self.mode.shuffle {
            shuffle(&mut due, self.next_id);
        }
        let batch = self.mode.batch.clamp(1, MOST_UPDATES);
        let mut groups: Vec<(Vec<Destination>, Destination, Vec<Update>)> = Vec::new();
        for (everyone, update) in due {
            let open = groups.iter_mut().rev().find(|(all, one, _)| *all == everyone && *one == update.destination);
            match open {
                Some((_, _, updates)) if updates.len() < batch => updates.push(update),
                _ => groups.push((everyone, update.destination.clone(), vec![update])),
            }
        }
        // The same body for another app is the same delivery.
        let mut deliveries: HashMap<(Vec<Destination>, String), u64> = HashMap::new();
        for (everyone, destination, updates) in groups {
            let body = escaped(&envelope(&updates).to_string());
            let delivery = *deliveries.entry((everyone.clone(), body.clone())).or_insert(self.next_id + 1);
            for _ in 0..=self.mode.duplicate {
                self.next_id += 1;
                self.enqueue(Queued {
                    id: self.next_id,
                    delivery,
                    destination: destination.clone(),
                    everyone: everyone.clone(),
                    body: body.clone(),
                    attempts: 0,
                    first_at_ms: now_ms,
                    due_ms: now_ms,
                    taken_at_ms: None,
                });
            }
        }
    }
}

impl Queued {
    fn next_due_ms(&self) -> i64 {
        self.taken_at_ms.map_or(self.due_ms, |taken_at_ms| taken_at_ms + UNANSWERED_FOR_MS)
    }

    fn take(&mut self, now_ms: i64, secret_of: &impl Fn(&str) -> String) -> Webhook {
        self.taken_at_ms = Some(now_ms);
        let body = self.body.clone().into_bytes();
        let Destination { app_id, url } = self.destination.clone();
        let path = url.as_deref().and_then(path_of).unwrap_or_else(|| format!("/webhooks/{app_id}"));
        let signature = signature(&secret_of(&app_id), &body);
        Webhook { id: self.id, app_id, path, url, body, signature }
    }
}

fn path_of(url: &str) -> Option<String> {
    reqwest::Url::parse(url).ok().map(|it| it.path().to_owned())
}

fn pause_ms(attempts: u32) -> i64 {
    let doublings = attempts.saturating_sub(1).min(20);
    (FIRST_PAUSE_MS << doublings).min(LONGEST_PAUSE_MS)
}

/// `sha256=` and the HMAC-SHA256 of `body` under the app secret, in lower-case hex.
///
/// <https://developers.facebook.com/docs/graph-api/webhooks/getting-started#validate-payloads>
pub fn signature(secret: &str, body: &[u8]) -> String {
    format!("sha256={}", hmac_hex(secret.as_bytes(), body))
}

/// HMAC-SHA256 in lower-case hex.
pub(crate) fn hmac_hex(key: &[u8], message: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    hex(&mac.finalize().into_bytes())
}

/// Lower-case hex of `bytes`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

/// Meta signs and sends non-ASCII as `\uXXXX` with lower-case digits, and slashes as `\/`.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let mut units = [0; 2];
    for letter in json.chars() {
        match letter {
            // A slash stands only inside JSON strings, where it may always be escaped.
            '/' => text.push_str("\\/"),
            _ if letter.is_ascii() => text.push(letter),
            _ => letter.encode_utf16(&mut units).iter().for_each(|it| text.push_str(&format!("\\u{it:04x}"))),
        }
    }
    text
}

/// One body: an entry per account, a change per update; messages, or statuses, of one number that follow each other share a change.
fn envelope(updates: &[Update]) -> Value {
    let mut entries: Vec<Value> = Vec::new();
    for update in updates {
        let has_time = !OF_THREADS.contains(&update.field.as_str());
        let is_open = entries.last().is_some_and(|it| it["id"] == update.account.as_str() && it["time"].is_null() != has_time);
        if !is_open {
            let mut entry = json!({ "id": update.account, "changes": [] });
            if has_time {
                entry["time"] = (update.at_ms / 1000).into();
            }
            entries.push(entry);
        }
        let changes = entries.last_mut().and_then(|it| it["changes"].as_array_mut()).expect("an entry was pushed");
        match changes.last_mut() {
            Some(last) if joins(last, update) => join(&mut last["value"], &update.value),
            _ => changes.push(json!({ "field": update.field, "value": update.value })),
        }
    }
    json!({ "object": "whatsapp_business_account", "entry": entries })
}

fn joins(last: &Value, update: &Update) -> bool {
    let (one, other) = (&last["value"], &update.value);
    let both_have = |name: &str| one[name].is_array() && other[name].is_array();
    last["field"] == "messages"
        && update.field == "messages"
        && one["metadata"] == other["metadata"]
        && (both_have("messages") || both_have("statuses"))
}

fn join(value: &mut Value, other: &Value) {
    for name in ["contacts", "messages", "statuses"] {
        for item in other[name].as_array().into_iter().flatten() {
            match value[name].as_array_mut() {
                Some(items) if name == "contacts" && items.contains(item) => {}
                Some(items) => items.push(item.clone()),
                None => value[name] = json!([item]),
            }
        }
    }
}

/// Fisher-Yates with numbers that are the same in each run (SplitMix64).
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed.wrapping_add(0x5eed);
    for index in (1..items.len()).rev() {
        state = state.wrapping_add(GOLDEN);
        let bound = u64::try_from(index + 1).expect("a length fits in 64 bits");
        let chosen = usize::try_from(mixed(state) % bound).expect("below a length");
        items.swap(index, chosen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(app_id: &str) -> Destination {
        Destination { app_id: app_id.into(), url: None }
    }

    fn message(id: &str) -> Value {
        json!({ "messaging_product": "whatsapp", "metadata": { "phone_number_id": "1" }, "contacts": [{ "wa_id": "52" }], "messages": [{ "id": id }] })
    }

    fn outbox(count: usize, mode: Mode) -> Outbox {
        let mut outbox = Outbox { mode, ..Outbox::default() };
        for id in 0..count {
            outbox.push(&[to("app")], "waba", "messages", &message(&id.to_string()), 0);
        }
        outbox
    }

    fn take(outbox: &mut Outbox, now_ms: i64) -> Vec<Webhook> {
        outbox.take(now_ms, |app_id| format!("secret of {app_id}"))
    }

    fn ids(webhook: &Webhook) -> Vec<String> {
        let body: Value = serde_json::from_slice(&webhook.body).expect("JSON");
        let messages = body["entry"].as_array().expect("entries").iter().flat_map(|it| it["changes"].as_array().expect("changes"));
        let messages = messages.flat_map(|it| it["value"]["messages"].as_array().expect("messages"));
        messages.map(|it| it["id"].as_str().expect("an id").to_owned()).collect()
    }

    #[test]
    fn the_signature_is_that_of_a_known_vector() {
        // RFC 4231, test case 2.
        let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature("Jefe", b"what do ya want for nothing?"), expected);
    }

    #[test]
    fn non_ascii_is_escaped_in_lower_case_and_reads_back() {
        let value = json!({ "body": "Sí 👍 a/b \u{0}\"" });
        let text = escaped(&value.to_string());
        assert_eq!(text, r#"{"body":"S\u00ed \ud83d\udc4d a\/b \u0000\""}"#);
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), value);
    }

    #[test]
    fn one_body_per_update_unless_batched() {
        let single = take(&mut outbox(3, Mode::default()), 0);
        assert_eq!(single.iter().map(ids).collect::<Vec<_>>(), [["0"], ["1"], ["2"]]);
        let batched = take(&mut outbox(3, Mode { batch: 2, ..Mode::default() }), 0);
        assert_eq!(batched.iter().map(ids).collect::<Vec<_>>(), [vec!["0", "1"], vec!["2"]]);
        let body: Value = serde_json::from_slice(&batched[0].body).expect("JSON");
        assert_eq!(body["entry"][0]["changes"][0]["value"]["contacts"], json!([{ "wa_id": "52" }]));
    }

    #[test]
    fn updates_of_several_accounts_numbers_and_fields_share_a_body() {
        let mut outbox = Outbox { mode: Mode { batch: 10, ..Mode::default() }, ..Outbox::default() };
        let mut other = message("1");
        other["metadata"]["phone_number_id"] = "2".into();
        outbox.push(&[to("app")], "waba", "messages", &message("0"), 5000);
        outbox.push(&[to("app")], "waba", "messages", &other, 5000);
        outbox.push(&[to("app")], "waba", "account_update", &json!({}), 5000);
        outbox.push(&[to("app")], "other", "messages", &message("2"), 5000);
        let bodies = take(&mut outbox, 5000);
        let body: Value = serde_json::from_slice(&bodies[0].body).expect("JSON");
        let shape: Vec<_> = body["entry"]
            .as_array()
            .expect("entries")
            .iter()
            .map(|it| (it["id"].clone(), it["time"].clone(), it["changes"].as_array().map_or(0, Vec::len)))
            .collect();
        assert_eq!(shape, [(json!("waba"), Value::Null, 2), (json!("waba"), json!(5), 1), (json!("other"), Value::Null, 1)]);
    }

    #[test]
    fn copies_disorder_and_delay_on_demand() {
        let mut doubled = outbox(1, Mode { duplicate: 2, ..Mode::default() });
        let copies = take(&mut doubled, 0);
        assert_eq!(copies.len(), 3);
        assert!(copies.iter().all(|it| it.body == copies[0].body));

        let shuffled = take(&mut outbox(20, Mode { shuffle: true, ..Mode::default() }), 0);
        let mut order: Vec<u32> = shuffled.iter().map(|it| ids(it)[0].parse().expect("a number")).collect();
        assert_ne!(order, (0..20).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..20).collect::<Vec<_>>());

        let mut late = outbox(1, Mode { delay_ms: 500, ..Mode::default() });
        assert!(take(&mut late, 499).is_empty());
        assert_eq!(take(&mut late, 500).len(), 1);
    }

    #[test]
    fn anything_but_200_is_repeated_with_growing_pauses_for_seven_days() {
        let mut outbox = outbox(1, Mode::default());
        let (mut now_ms, mut pauses, mut first) = (0, Vec::new(), None);
        while let Some(due_ms) = outbox.next_due_ms() {
            pauses.push(due_ms - now_ms);
            now_ms = due_ms;
            let [webhook] = take(&mut outbox, now_ms).try_into().expect("one webhook");
            assert_eq!(*first.get_or_insert_with(|| webhook.body.clone()), webhook.body);
            outbox.answered(webhook.id, if pauses.len() % 2 == 0 { 202 } else { 500 }, now_ms);
        }
        assert_eq!(&pauses[..4], [0, 10_000, 20_000, 40_000]);
        assert!(pauses.is_sorted() && pauses.iter().max() == Some(&LONGEST_PAUSE_MS));
        assert!((REPEATED_FOR_MS - LONGEST_PAUSE_MS..=REPEATED_FOR_MS).contains(&now_ms), "{now_ms}");
        assert_eq!(outbox.unsent(), 0);
    }

    #[test]
    fn two_hundred_settles_and_silence_does_not() {
        let mut outbox = outbox(1, Mode::default());
        let id = take(&mut outbox, 0)[0].id;
        assert!(take(&mut outbox, UNANSWERED_FOR_MS - 1).is_empty());
        assert_eq!(take(&mut outbox, UNANSWERED_FOR_MS)[0].id, id);
        outbox.answered(id, 200, UNANSWERED_FOR_MS);
        assert_eq!((outbox.unsent(), take(&mut outbox, REPEATED_FOR_MS).len()), (0, 0));
    }

    #[test]
    fn what_is_unsent_outlives_the_file() {
        let mut outbox = outbox(1, Mode::default());
        let id = take(&mut outbox, 0)[0].id;
        outbox.answered(id, 500, 0);
        outbox.push(&[to("app")], "waba", "messages", &message("later"), 20_000);
        let text = serde_json::to_string(&outbox).expect("JSON");
        let mut read: Outbox = serde_json::from_str(&text).expect("an outbox");
        assert_eq!((read.next_due_ms(), read.unsent()), (Some(FIRST_PAUSE_MS), 2));
        let told: Vec<_> = [FIRST_PAUSE_MS, 20_000].map(|at_ms| take(&mut read, at_ms).iter().flat_map(ids).collect::<Vec<_>>()).into();
        assert_eq!(told, [["0"], ["later"]]);
    }

    #[test]
    fn a_repeat_goes_to_every_app_also_to_those_that_had_answered() {
        let mut outbox = Outbox::default();
        outbox.push(&[to("a"), to("b")], "waba", "messages", &message("0"), 0);
        let both = take(&mut outbox, 0);
        assert_eq!((both.len(), both[0].body == both[1].body, both[0].signature == both[1].signature), (2, true, false));
        outbox.answered(both[0].id, 200, 0);
        outbox.answered(both[1].id, 500, 0);
        let again = take(&mut outbox, FIRST_PAUSE_MS);
        let mut apps: Vec<_> = again.iter().map(|it| it.app_id.as_str()).collect();
        apps.sort_unstable();
        assert_eq!(apps, ["a", "b"]);
    }
}
