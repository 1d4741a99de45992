//! One queue as a state machine of request and time: order, visibility, groups, deduplication, delays, dead letters.
//! It knows no other queue, no clock and no HTTP.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::message::{Attributes, Draft, LARGEST_MESSAGE, SqsError};

/// How long a FIFO queue remembers a deduplication id:
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/using-messagededuplicationid-property.html>.
const DEDUPLICATION_MS: i64 = 5 * 60 * 1_000;

/// The longest that a message stays invisible after it was received, 12 hours:
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html>.
const LONGEST_VISIBILITY_MS: i64 = 12 * 60 * 60 * 1_000;

/// Among how many of the oldest messages of a standard queue those are chosen that disorder hands over.
const DISORDER: usize = 200;

/// In what order a receiver is served.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// Oldest first; of a FIFO queue one group after the other.
    Arrival,
    /// By chance, repeatable by its seed; of a FIFO queue groups in turns, each in its order.
    Shuffled(u64),
}

#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) body: String,
    pub(super) attributes: Attributes,
    pub(super) trace_header: Option<String>,
    pub(super) group: Option<String>,
    pub(super) dedupe_id: Option<String>,
    pub(super) sent_ms: i64,
    pub(super) first_received_ms: Option<i64>,
    pub(super) receives: u32,
    /// The queue from which SQS itself moved it here.
    pub(super) dead_letter_source: Option<String>,
    visible_ms: i64,
    received_ms: Option<i64>,
}

impl Message {
    pub(super) fn is_in_flight(&self, now_ms: i64) -> bool {
        self.received_ms.is_some() && self.visible_ms > now_ms
    }

    pub(super) fn is_visible(&self, now_ms: i64) -> bool {
        self.visible_ms <= now_ms
    }
}

/// What a sender is told; of a duplicate, what was told of the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) id: String,
    pub(super) sequence: u64,
}

/// A message as it was handed to a receiver.
#[derive(Clone, Debug)]
pub(super) struct Handed {
    pub(super) message: Message,
    pub(super) receipt: String,
    pub(super) sequence: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Queue {
    pub(super) name: String,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) created_ms: i64,
    pub(super) purged_ms: Option<i64>,
    /// How many of the next receives also leave a copy behind, as at-least-once delivery allows.
    pub(super) duplicates_due: usize,
    messages: BTreeMap<u64, Message>,
    /// The time by which messages are hidden or visible: that of the latest look at the queue.
    looked_ms: i64,
    /// Hidden messages by the time at which they become visible.
    hidden: BTreeSet<(i64, u64)>,
    /// Visible messages by group.
    visible: BTreeMap<Option<String>, BTreeSet<u64>>,
    /// How many messages of each group are in flight.
    in_flight: BTreeMap<Option<String>, usize>,
    /// No message was sent before this time.
    oldest_ms: i64,
    remembered: HashMap<(Option<String>, String), (i64, Sent)>,
    /// When ids past their five minutes are forgotten next: until then they only take room.
    forgets_ms: i64,
}

impl Queue {
    pub(super) fn new(name: String, attributes: BTreeMap<String, String>, now_ms: i64) -> Self {
        Self {
            name,
            attributes,
            created_ms: now_ms,
            purged_ms: None,
            duplicates_due: 0,
            messages: BTreeMap::new(),
            looked_ms: now_ms,
            hidden: BTreeSet::new(),
            visible: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            oldest_ms: i64::MAX,
            remembered: HashMap::new(),
            forgets_ms: now_ms,
        }
    }

    pub(super) fn is_fifo(&self) -> bool {
        self.name.ends_with(".fifo")
    }

    /// A numeric attribute, which every queue has.
    pub(super) fn number(&self, attribute: &str) -> i64 {
        self.attributes.get(attribute).and_then(|it| it.parse().ok()).unwrap_or_default()
    }

    fn has(&self, attribute: &str, value: &str) -> bool {
        self.attributes.get(attribute).is_some_and(|it| it == value)
    }

    /// Adds a message to the queue and to what finds it.
    fn put(&mut self, key: u64, message: Message) {
        self.oldest_ms = self.oldest_ms.min(message.sent_ms);
        if message.visible_ms > self.looked_ms {
            self.hidden.insert((message.visible_ms, key));
            if message.received_ms.is_some() {
                *self.in_flight.entry(message.group.clone()).or_default() += 1;
            }
        } else {
            self.visible.entry(message.group.clone()).or_default().insert(key);
        }
        self.messages.insert(key, message);
    }

    /// Takes a message out of the queue and of what finds it.
    fn take(&mut self, key: u64) -> Option<Message> {
        let message = self.messages.remove(&key)?;
        if self.hidden.remove(&(message.visible_ms, key)) {
            if message.received_ms.is_some() {
                self.landed(&message.group);
            }
        } else if let Some(keys) = self.visible.get_mut(&message.group) {
            keys.remove(&key);
            if keys.is_empty() {
                self.visible.remove(&message.group);
            }
        }
        Some(message)
    }

    /// One message less of this group is in flight.
    fn landed(&mut self, group: &Option<String>) {
        if let Some(count) = self.in_flight.get_mut(group) {
            *count -= 1;
            if *count == 0 {
                self.in_flight.remove(group);
            }
        }
    }

    /// Shows what has become visible by now, and forgets what is past its time. To be called before the queue is looked at.
    pub(super) fn look_at(&mut self, now_ms: i64) {
        if now_ms < self.looked_ms {
            // The clock was turned back.
            let messages = std::mem::take(&mut self.messages);
            self.clear();
            self.looked_ms = now_ms;
            messages.into_iter().for_each(|(key, message)| self.put(key, message));
        }
        self.looked_ms = now_ms;
        while let Some((_, key)) = self.hidden.first().filter(|(visible_ms, _)| *visible_ms <= now_ms).copied() {
            if let Some(message) = self.take(key) {
                self.put(key, message);
            }
        }
        self.expire(now_ms);
    }

    pub(super) fn messages(&self) -> impl Iterator<Item = (&u64, &Message)> {
        self.messages.iter()
    }

    /// Checks a draft against this queue and fills in what the queue derives.
    pub(super) fn check(&self, mut draft: Draft) -> Result<Draft, SqsError> {
        let most = usize::try_from(self.number("MaximumMessageSize")).unwrap_or(LARGEST_MESSAGE);
        if draft.size() > most {
            return Err(SqsError::invalid(format!(
                "One or more parameters are invalid. Reason: Message must be shorter than {most} bytes."
            )));
        }
        if !self.is_fifo() {
            return match draft.dedupe_id {
                Some(_) => Err(SqsError::invalid("The request includes a parameter that is not valid for this queue type.")),
                None => Ok(draft),
            };
        }
        if draft.group.is_none() {
            return Err(SqsError::missing("MessageGroupId"));
        }
        if draft.delay_s.is_some_and(|it| it > 0) {
            return Err(SqsError::invalid("The request includes a parameter that is not valid for this queue type: DelaySeconds."));
        }
        if draft.dedupe_id.is_none() && self.has("ContentBasedDeduplication", "true") {
            draft.dedupe_id = Some(hex(&Sha256::digest(&draft.body)));
        }
        if draft.dedupe_id.is_none() {
            return Err(SqsError::invalid(
                "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly",
            ));
        }
        Ok(draft)
    }

    /// Keeps a checked draft, unless it repeats one of the last five minutes: then the first is told again.
    pub(super) fn send(&mut self, draft: Draft, sequence: u64, now_ms: i64) -> Sent {
        let scope = self.has("DeduplicationScope", "messageGroup").then(|| draft.group.clone()).flatten();
        let key = draft.dedupe_id.clone().filter(|_| self.is_fifo()).map(|id| (scope, id));
        if let Some((until_ms, sent)) = key.as_ref().and_then(|key| self.remembered.get(key))
            && *until_ms > now_ms
        {
            return sent.clone();
        }
        let sent = Sent { id: message_id(&self.name, sequence), sequence };
        if let Some(key) = key {
            self.remembered.insert(key, (now_ms + DEDUPLICATION_MS, sent.clone()));
        }
        let delay_s = draft.delay_s.filter(|_| !self.is_fifo()).unwrap_or_else(|| self.number("DelaySeconds"));
        let message = Message {
            id: sent.id.clone(),
            body: draft.body,
            attributes: draft.attributes,
            trace_header: draft.trace_header,
            group: draft.group,
            dedupe_id: draft.dedupe_id,
            sent_ms: now_ms,
            first_received_ms: None,
            receives: 0,
            dead_letter_source: None,
            visible_ms: now_ms + delay_s * 1_000,
            received_ms: None,
        };
        self.put(sequence, message);
        sent
    }

    /// Takes in a message that SQS itself moves: at once visible, with its id; a FIFO queue gives it a new sending time.
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html>
    pub(super) fn take_in(&mut self, mut message: Message, sequence: u64, now_ms: i64) {
        message.visible_ms = now_ms;
        message.received_ms = None;
        message.first_received_ms = None;
        message.receives = 0;
        if self.is_fifo() {
            message.sent_ms = now_ms;
        }
        self.put(sequence, message);
    }

    /// Gives up all messages that nobody has received: for a move task.
    pub(super) fn give_up(&mut self, now_ms: i64) -> Vec<Message> {
        let given: Vec<u64> = self.messages.iter().filter(|(_, it)| !it.is_in_flight(now_ms)).map(|(key, _)| *key).collect();
        given.into_iter().filter_map(|key| self.take(key)).collect()
    }

    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.hidden.clear();
        self.visible.clear();
        self.in_flight.clear();
    }

    /// Forgets messages past their retention and, now and then, ids past their five minutes.
    fn expire(&mut self, now_ms: i64) {
        let retention_ms = self.number("MessageRetentionPeriod") * 1_000;
        if self.oldest_ms.saturating_add(retention_ms) <= now_ms {
            let expired = |it: &Message| it.sent_ms + retention_ms <= now_ms;
            let expired: Vec<u64> = self.messages.iter().filter(|(_, it)| expired(it)).map(|(key, _)| *key).collect();
            expired.into_iter().for_each(|key| drop(self.take(key)));
            self.oldest_ms = self.messages.values().map(|it| it.sent_ms).min().unwrap_or(i64::MAX);
        }
        if self.forgets_ms <= now_ms {
            self.remembered.retain(|_, (until_ms, _)| *until_ms > now_ms);
            self.forgets_ms = now_ms + DEDUPLICATION_MS;
        }
    }

    /// Hands over up to `most` messages and hides them. Those received `max_receives` times already come back as dead instead.
    pub(super) fn receive(
        &mut self,
        most: usize,
        visibility_ms: i64,
        max_receives: Option<u32>,
        order: Order,
        now_ms: i64,
    ) -> (Vec<Handed>, Vec<Message>) {
        let (mut handed, mut dead) = (Vec::new(), Vec::new());
        // A second look finds what stands behind dead ones.
        while handed.len() < most {
            let candidates = self.candidates(order, most - handed.len(), now_ms);
            if candidates.is_empty() {
                break;
            }
            for key in candidates {
                let Some(mut message) = self.take(key) else { continue };
                if max_receives.is_some_and(|it| message.receives >= it) {
                    dead.push(message);
                    continue;
                }
                message.receives += 1;
                message.first_received_ms.get_or_insert(now_ms);
                message.received_ms = Some(now_ms);
                message.visible_ms = now_ms + visibility_ms;
                let receipt = format!("{}/{key}/{}", self.name, message.receives);
                handed.push(Handed { message: message.clone(), receipt, sequence: key });
                self.put(key, message);
            }
        }
        (handed, dead)
    }

    /// Leaves visible copies of what was just handed over, while duplicates are due; `next` numbers them.
    pub(super) fn leave_duplicates(&mut self, handed: &[Handed], mut next: impl FnMut() -> u64, now_ms: i64) {
        for it in handed.iter().take(self.duplicates_due) {
            let copy = Message { visible_ms: now_ms, received_ms: None, ..it.message.clone() };
            self.put(next(), copy);
        }
        self.duplicates_due -= self.duplicates_due.min(handed.len());
    }

    /// Leaves a visible copy of what was received with this receipt, if it is still there.
    pub(super) fn copy(&mut self, receipt: &str, sequence: u64) {
        let received = self.read_receipt(receipt).ok().and_then(|(key, _)| self.messages.get(&key));
        let copy = received.map(|it| Message { visible_ms: self.looked_ms, received_ms: None, ..it.clone() });
        copy.into_iter().for_each(|it| self.put(sequence, it));
    }

    /// Up to `most` of what may be received now, in the order in which it is handed over.
    fn candidates(&self, order: Order, most: usize, now_ms: i64) -> Vec<u64> {
        let mut candidates = match (self.is_fifo(), order) {
            (true, Order::Arrival) => self.free_groups(now_ms).into_iter().flatten().collect(),
            (true, Order::Shuffled(seed)) => interleave(self.free_groups(now_ms), seed),
            (false, Order::Arrival) => self.visible_fairly(most),
            (false, Order::Shuffled(seed)) => shuffle(self.visible_fairly(most.max(DISORDER)), seed),
        };
        candidates.truncate(most);
        candidates
    }

    /// The messages of each group of which none is in flight, up to the first that is delayed. SQS hands over as many of
    /// one group as it can before the next:
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/FIFO-queues-understanding-logic.html>.
    fn free_groups(&self, now_ms: i64) -> Vec<Vec<u64>> {
        let is_locked = |it: &&Message| it.is_in_flight(now_ms);
        let mut closed: BTreeSet<&Option<String>> = self.messages.values().filter(is_locked).map(|it| &it.group).collect();
        let mut groups: Vec<Vec<u64>> = Vec::new();
        let mut positions: BTreeMap<&Option<String>, usize> = BTreeMap::new();
        for (key, message) in &self.messages {
            if closed.contains(&message.group) {
                continue;
            }
            if !message.is_visible(now_ms) {
                closed.insert(&message.group);
                continue;
            }
            let position = *positions.entry(&message.group).or_insert(groups.len());
            if position == groups.len() {
                groups.push(Vec::new());
            }
            groups[position].push(*key);
        }
        groups
    }

    /// The first `most` visible messages, those of noisy groups last. A group is noisy with at least 30 messages and more than a tenth
    /// of all in flight: <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues.html>.
    fn visible_fairly(&self, most: usize) -> Vec<u64> {
        let all: usize = self.in_flight.values().sum();
        let is_noisy =
            |group: &Option<String>| group.is_some() && self.in_flight.get(group).is_some_and(|count| *count >= 30 && count * 10 > all);
        let first = self.visible.iter().flat_map(|(group, keys)| {
            let is_noisy = is_noisy(group);
            keys.iter().take(most).map(move |key| (is_noisy, *key))
        });
        let mut first: Vec<(bool, u64)> = first.collect();
        first.sort_unstable();
        first.into_iter().map(|(_, key)| key).take(most).collect()
    }

    /// Deletes by receipt. A standard queue accepts an old receipt of a message that was received again, and keeps it; a FIFO
    /// queue refuses one whose visibility has passed:
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteMessage.html>.
    pub(super) fn delete(&mut self, receipt: &str, now_ms: i64) -> Result<(), SqsError> {
        let (key, number) = self.read_receipt(receipt)?;
        let Some(message) = self.messages.get(&key) else { return Ok(()) };
        let is_latest = message.receives == number;
        if self.is_fifo() && !(is_latest && message.is_in_flight(now_ms)) {
            return Err(expired(receipt));
        }
        if is_latest {
            self.take(key);
        }
        Ok(())
    }

    /// Lets a received message become visible `seconds` from now.
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html>
    pub(super) fn change_visibility(&mut self, receipt: &str, seconds: i64, now_ms: i64) -> Result<(), SqsError> {
        let (key, number) = self.read_receipt(receipt)?;
        let Some(message) = self.messages.get(&key) else {
            return Err(SqsError::invalid(format!(
                "Value {receipt} for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not available for visibility timeout change."
            )));
        };
        if message.receives != number {
            return Err(expired(receipt));
        }
        let received_ms = message.received_ms.filter(|_| message.is_in_flight(now_ms));
        let received_ms =
            received_ms.ok_or_else(|| SqsError::new("AWS.SimpleQueueService.MessageNotInflight", "The message is not in flight."))?;
        let visible_ms = now_ms + seconds * 1_000;
        if visible_ms > received_ms + LONGEST_VISIBILITY_MS {
            return Err(SqsError::invalid(format!(
                "Value {seconds} for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout for the message is beyond the limit [43200 seconds]."
            )));
        }
        if let Some(mut message) = self.take(key) {
            message.visible_ms = visible_ms;
            self.put(key, message);
        }
        Ok(())
    }

    /// When a message that is hidden now becomes visible next.
    pub(super) fn next_visible_ms(&self, now_ms: i64) -> Option<i64> {
        self.hidden.range((now_ms + 1, 0)..).next().map(|(visible_ms, _)| *visible_ms)
    }

    /// Whether any message can be received, as far as it depends on itself and not on its group.
    pub(super) fn in_flight_count(&self) -> usize {
        self.in_flight.values().sum()
    }

    pub(super) fn has_visible(&self) -> bool {
        !self.visible.is_empty()
    }

    fn read_receipt(&self, receipt: &str) -> Result<(u64, u32), SqsError> {
        let parsed = receipt.strip_prefix(&self.name).and_then(|rest| rest.strip_prefix('/')).and_then(|rest| rest.split_once('/'));
        let parsed = parsed.and_then(|(key, number)| Some((key.parse().ok()?, number.parse().ok()?)));
        parsed.ok_or_else(|| SqsError::new("ReceiptHandleIsInvalid", format!("The input receipt handle \"{receipt}\" is not valid.")))
    }
}

fn expired(receipt: &str) -> SqsError {
    SqsError::invalid(format!("Value {receipt} for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired."))
}

/// An id of the form that SQS gives, the same in every run of a test.
fn message_id(queue: &str, sequence: u64) -> String {
    let digest = hex(&Sha256::digest(format!("{queue}/{sequence}")));
    format!("{}-{}-4{}-8{}-{}", &digest[..8], &digest[8..12], &digest[13..16], &digest[17..20], &digest[20..32])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

/// Numbers by chance, the same for the same seed (SplitMix64); enough for a test's disorder.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// A number below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        usize::try_from((mixed ^ (mixed >> 31)) % limit).unwrap_or_default()
    }
}

fn shuffle(mut keys: Vec<u64>, seed: u64) -> Vec<u64> {
    let mut chance = Chance(seed);
    for last in (1..keys.len()).rev() {
        keys.swap(last, chance.below(last + 1));
    }
    keys
}

/// Takes from the groups by chance; what is left of a group stays in its order.
fn interleave(groups: Vec<Vec<u64>>, seed: u64) -> Vec<u64> {
    let mut chance = Chance(seed);
    let mut groups: Vec<VecDeque<u64>> = groups.into_iter().map(VecDeque::from).collect();
    let mut mixed = Vec::new();
    while !groups.is_empty() {
        let position = chance.below(groups.len());
        mixed.extend(groups[position].pop_front());
        groups.retain(|keys| !keys.is_empty());
    }
    mixed
}
