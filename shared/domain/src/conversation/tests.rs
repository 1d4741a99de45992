//! The rules of a conversation as properties (any order, any repetition, two conversations that were one person all along) and their
//! boundaries to the millisecond.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::ids::{MessageId, Wamid};
use crate::message::{Call, Content, Media, Message};
use crate::window::OPEN_FOR;

const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);
const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_hours(1);

fn number(index: usize) -> NumberId {
    NumberId::parse((100_000_000_000_001 + index).to_string()).expect("digits")
}

fn numbers() -> Vec<NumberId> {
    (0..3).map(number).collect()
}

fn agent() -> AgentId {
    AgentId::parse("sales").expect("a name")
}

fn facts() -> Facts {
    Facts {
        agent: Some(Listener { agent: agent(), over_https: false, gathers: false }),
        is_running: true,
        is_behind: false,
        is_behind_media: false,
        may_fetch: true,
        claimed_at: Timestamp::default(),
    }
}

fn named(name: char) -> Conversation {
    let id = ConversationId::parse(name.to_string().repeat(22)).expect("22 characters");
    Conversation::new(id, ConnectionId::parse("demo").expect("a name"))
}

fn message(wamid: &str, at: Timestamp, content: Content) -> Message {
    Message {
        wamid: Wamid::parse(wamid).expect("not empty"),
        at,
        content,
        quoted: None,
        referral: None,
        forwarded: false,
        in_group: false,
        faults: Vec::new(),
        unknown: String::new(),
    }
}

fn text(wamid: &str, at: Timestamp) -> Event {
    Event::Message(message(wamid, at, Content::Text { text: "hello".to_owned() }))
}

fn unsupported(wamid: &str, at: Timestamp) -> Event {
    Event::Message(message(wamid, at, Content::Unsupported { r#type: "order".to_owned(), raw: String::new() }))
}

/// The key of the event that is called `name`: events without an id of Meta's get one too, so that all keys are distinct.
fn key(conversation: &Conversation, number: &NumberId, name: &str, at: Timestamp) -> MessageKey {
    let id = MessageId::of_inbound(number, &Wamid::parse(name).expect("not empty"));
    MessageKey { conversation: conversation.id.clone(), at, id }
}

/// Something that Meta told, on a number.
#[derive(Debug, Clone, PartialEq)]
struct Told {
    name: String,
    number: NumberId,
    event: Event,
}

impl Told {
    fn to(&self, conversation: &mut Conversation, facts: &Facts, now: Timestamp) -> Decided {
        let key = key(conversation, &self.number, &self.name, self.event.at());
        conversation.receive(&self.number, &key, &self.event, facts, now)
    }
}

const KINDS: usize = 15;

/// One event of each kind.
fn event(kind: usize, name: &str, at: Timestamp) -> Event {
    let wamid = Wamid::parse(name).expect("not empty");
    let target = Wamid::parse("wamid.target").expect("not empty");
    let plain = || message(name, at, Content::Text { text: "hello".to_owned() });
    match kind {
        0 => text(name, at),
        1 => unsupported(name, at),
        2 => Event::Message(Message { in_group: true, ..plain() }),
        3 => Event::Standby(plain()),
        4 => Event::Standby(Message { in_group: true, ..plain() }),
        5 => Event::Reaction { wamid, at, target, emoji: None },
        6 => Event::Edit { wamid, at, target, content: Content::Text { text: "hullo".to_owned() } },
        7 => Event::Revoke { wamid, at, target },
        8 => Event::Call { id: wamid, at, call: Call::ByCustomer, what: "connect".to_owned() },
        9 => Event::Call { id: wamid, at, call: Call::Other, what: "terminate".to_owned() },
        10 => Event::Preference { at, preference: Preference::Stop },
        11 => Event::Preference { at, preference: Preference::Resume },
        12 => Event::Handover { at, handover: Handover::Passed, raw: String::new() },
        13 => Event::Handover { at, handover: Handover::Taken, raw: String::new() },
        _ => Event::Echo(plain()),
    }
}

/// Meta's times, whole seconds as Meta writes them: few, so that many fall together, and far enough apart for windows to end between them.
fn time() -> impl Strategy<Value = Timestamp> {
    (0_u64..5, 0_u64..2).prop_map(|(half_days, seconds)| NOW.minus(Duration::from_secs(half_days * 43_200 + seconds)))
}

/// What Meta told of one customer: every kind of event, on three numbers, each under a key of its own.
fn told() -> impl Strategy<Value = Vec<Told>> {
    vec((0..3_usize, 0..KINDS, time()), 0..10).prop_map(|all| {
        let named = all.into_iter().enumerate();
        named
            .map(|(index, (on, kind, at))| {
                let name = format!("wamid.{index}");
                Told { event: event(kind, &name, at), number: number(on), name }
            })
            .collect()
    })
}

/// The same, and beside it everything twice, in another order, arriving at various times.
fn told_again() -> impl Strategy<Value = (Vec<Told>, Vec<(Told, Timestamp)>)> {
    told().prop_flat_map(|all| {
        let doubled: Vec<Told> = all.iter().chain(&all).cloned().collect();
        let times = vec(0_u64..100_000, doubled.len());
        let shuffled = (Just(doubled).prop_shuffle(), times)
            .prop_map(|(all, times)| all.into_iter().zip(times.into_iter().map(|it| NOW.plus(Duration::from_secs(it)))).collect());
        (Just(all), shuffled)
    })
}

/// What no order and no repetition may change.
type Settled = (BTreeMap<NumberId, Window>, Option<Sender>, Option<Timestamp>, Option<Control>, Option<OptOut>);

fn settled(it: &Conversation) -> Settled {
    (it.windows.clone(), it.sender.clone(), it.last_inbound_at, it.control, it.opt_out)
}

fn after(all: &[Told]) -> Conversation {
    let mut it = named('a');
    for told in all {
        told.to(&mut it, &facts(), NOW);
    }
    it
}

/// What befalls a conversation beside what Meta tells of the customer.
#[derive(Debug, Clone)]
enum Step {
    Told(Box<Told>),
    Refused(NumberId, Timestamp),
    Reserved(Timestamp),
    Taken(Timestamp),
    Released(Timestamp),
}

/// The name goes into message keys: two conversations never hold the same message.
fn steps(name: char) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..3_usize, prop_oneof![Just(0), 0..KINDS], time()).prop_map(move |(on, kind, at)| {
            let name = format!("wamid.{name}.{on}.{kind}.{}", at.as_millis());
            Step::Told(Box::new(Told { event: event(kind, &name, at), number: number(on), name }))
        }),
        1 => (0..3_usize, time()).prop_map(|(on, at)| Step::Refused(number(on), at)),
        1 => time().prop_map(Step::Reserved),
        1 => time().prop_map(Step::Taken),
        1 => time().prop_map(Step::Released),
    ];
    vec(step, 0..8)
}

fn reserved(conversation: &Conversation, at: Timestamp) -> Unanswered {
    Unanswered { message: key(conversation, &number(0), "template", at), since: at }
}

fn any_address() -> impl Strategy<Value = Address> {
    let phones = ["34600111222", "5511987654321", "551187654321"].map(|it| Address::Phone(Phone::parse(it).expect("digits")));
    let ids = ["ES.1", "ES.2", "BR.3"].map(|it| Address::Bsuid(Bsuid::parse(it).expect("a user id")));
    select([phones, ids].concat())
}

/// What is told of an address, as the change notices and other evidence do it.
#[derive(Debug, Clone)]
enum Evidence {
    Add(Address, Timestamp),
    Retire(Address),
    GiveUp(Address, Timestamp),
    Forget(Address),
}

fn evidence() -> impl Strategy<Value = Vec<Evidence>> {
    let one = prop_oneof![
        4 => (any_address(), time()).prop_map(|(address, at)| Evidence::Add(address, at)),
        1 => any_address().prop_map(Evidence::Retire),
        1 => (any_address(), time()).prop_map(|(address, at)| Evidence::GiveUp(address, at)),
        1 => any_address().prop_map(Evidence::Forget),
    ];
    vec(one, 0..10)
}

fn hear_of_addresses(it: &mut Conversation, all: &[Evidence]) {
    for evidence in all {
        match evidence {
            Evidence::Add(address, at) => it.add_address(address, *at),
            Evidence::Retire(address) => it.retire(address),
            Evidence::GiveUp(address, at) => it.give_up(address, *at),
            Evidence::Forget(address) => it.forget(address),
        }
    }
}

/// A conversation to which anything may have happened.
fn conversation(name: char) -> impl Strategy<Value = Conversation> {
    (steps(name), evidence(), any::<bool>()).prop_map(move |(steps, evidence, is_running)| {
        let mut it = named(name);
        let facts = Facts { is_running, ..facts() };
        hear_of_addresses(&mut it, &evidence);
        for step in steps {
            match step {
                Step::Told(told) => drop(told.to(&mut it, &facts, NOW)),
                Step::Refused(number, at) => it.refused(&number, at),
                Step::Reserved(at) => it.unanswered = Some(reserved(&it, at)),
                Step::Taken(at) => it.take(at),
                Step::Released(at) => it.release(at),
            }
        }
        it
    })
}

/// The same conversation whichever of two it was merged into: the ids it goes by, and lists whose order means nothing, in one order.
fn whichever_way(mut it: Conversation) -> Conversation {
    let mut ids: Vec<ConversationId> = it.everywhere().cloned().collect();
    ids.sort();
    it.id = ids.remove(0);
    it.parts = ids;
    it.addresses.sort_by(|one, other| one.address.cmp(&other.address));
    it.revoked.sort();
    it
}

proptest! {
    #[test]
    fn any_order_and_repetition_ends_the_same((told, again) in told_again()) {
        let mut shuffled = named('a');
        for (it, now) in &again {
            it.to(&mut shuffled, &facts(), *now);
        }
        prop_assert_eq!(settled(&after(&told)), settled(&shuffled));
    }

    #[test]
    fn the_sender_changes_only_when_the_customer_writes_to_another_number_later(told in told()) {
        let mut it = named('a');
        for told in &told {
            let before = it.sender.clone();
            told.to(&mut it, &facts(), NOW);
            let opens = told.event.effect().opens == Opens::Yes;
            match (before, it.sender.clone()) {
                (before, after) if before == after => {
                    let is_later = before.as_ref().is_none_or(|it| told.event.at() > it.at);
                    prop_assert!(!(opens && is_later), "a later message makes its number the sender");
                }
                (before, Some(after)) => {
                    prop_assert!(opens, "only what the customer does moves the sender");
                    prop_assert_eq!((&after.number, after.at), (&told.number, told.event.at()));
                    // In one second either number may answer, so that one order is as good as the other.
                    prop_assert!(before.is_none_or(|it| after.at > it.at || (after.at == it.at && after.number > it.number)));
                }
                (_, None) => prop_assert!(false, "a sender is never lost"),
            }
        }
    }

    #[test]
    fn standing_is_open_exactly_when_whoever_has_the_conversation_is_admitted(it in conversation('a'), hours in 0_u64..60) {
        let now = NOW.plus(HOUR * u32::try_from(hours).expect("small"));
        let standing = it.standing(now);
        let is_open = matches!(standing, Standing::Open { .. });
        let sender = it.sender.as_ref().map(|it| it.number.clone());
        let person = it.admit_reply(Author::Person, &numbers(), now);
        prop_assert_eq!(person.clone().ok(), sender.clone().filter(|_| is_open));
        match standing {
            Standing::Open { until } => {
                prop_assert!(now < until && until <= now.plus(OPEN_FOR), "a window is no longer than a day");
                prop_assert_eq!(it.admit_reply(Author::Person, &[], now), Err(Refusal::SenderGone));
            }
            Standing::AwaitingReply { since } => prop_assert_eq!(person, Err(Refusal::AwaitingReply { since })),
            Standing::TemplateOnly { closed_at } => prop_assert_eq!(person, Err(Refusal::TemplateOnly { closed_at })),
        }
        let is_elsewhere = it.control.is_some_and(|it| !it.is_ours);
        let by_agent = it.admit_reply(Author::Agent, &numbers(), now);
        prop_assert_eq!(by_agent.clone().ok(), sender.filter(|_| is_open && !it.has_person(now) && !is_elsewhere));
        if it.has_person(now) {
            prop_assert_eq!(by_agent, Err(Refusal::TakenByPerson));
        } else if is_elsewhere {
            prop_assert_eq!(by_agent, Err(Refusal::HandledElsewhere));
        }
    }

    #[test]
    fn a_repeat_of_the_last_decided_message_gets_the_same_decision_and_changes_nothing(
        mut it in conversation('a'),
        kind in 0..5_usize,
        at in time(),
        hours in 0_u64..300,
    ) {
        let told = Told { name: "wamid.new".to_owned(), number: number(1), event: event(kind, "wamid.new", at) };
        let first = told.to(&mut it, &facts(), NOW);
        let before = it.clone();
        // By the repeat the connection has stopped and time has passed.
        let facts = Facts { is_running: false, ..facts() };
        let later = NOW.plus(HOUR * u32::try_from(hours).expect("small"));
        prop_assert_eq!(&told.to(&mut it, &facts, later), &first);
        prop_assert_eq!(&it, &before);
        let mut merged = named('z').merged(it);
        prop_assert_eq!(&told.to(&mut merged, &facts, later), &first, "also when the conversation was merged since");
    }

    #[test]
    fn what_was_decided_on_one_number_holds_whatever_is_told_on_another(
        mut it in conversation('a'),
        at in time(),
        on_other in vec((0..KINDS, time()), 0..4),
    ) {
        let told = Told { name: "wamid.new".to_owned(), number: number(1), event: text("wamid.new", at) };
        let first = told.to(&mut it, &facts(), NOW);
        for (index, (kind, at)) in on_other.into_iter().enumerate() {
            let name = format!("wamid.other.{index}");
            Told { event: event(kind, &name, at), number: number(2), name }.to(&mut it, &facts(), NOW);
        }
        prop_assert_eq!(told.to(&mut it, &facts(), NOW), first);
    }

    #[test]
    fn a_release_takes_back_its_own_reservation_and_no_other(mut it in conversation('a'), own in time(), other in time()) {
        prop_assume!(own != other);
        it.unanswered = Some(reserved(&it, own));
        let before = it.clone();
        it.release_reservation(&reserved(&it, other).message);
        prop_assert_eq!(&it, &before);
        it.release_reservation(&reserved(&it, own).message);
        prop_assert_eq!(it, Conversation { unanswered: None, ..before });
    }

    #[test]
    fn merging_agrees_whichever_way_it_goes(a in conversation('a'), b in conversation('b')) {
        let (one, other) = (a.clone().merged(b.clone()), b.merged(a));
        prop_assert_eq!(one.customer(), other.customer());
        prop_assert_eq!(whichever_way(one), whichever_way(other));
    }

    #[test]
    fn what_either_owed_or_missed_is_owed_and_missed_by_both_as_one(a in conversation('a'), b in conversation('b')) {
        let merged = a.clone().merged(b.clone());
        for (whole, parts) in [(merged.owed, [a.owed, b.owed]), (merged.missed, [a.missed, b.missed])] {
            let ends = |of: fn(&Span) -> &MessageKey| parts.iter().flatten().map(move |it| of(it).at);
            prop_assert_eq!(whole.as_ref().map(|it| it.first.at), ends(|it| &it.first).min());
            prop_assert_eq!(whole.as_ref().map(|it| it.last.at), ends(|it| &it.last).max());
        }
    }

    #[test]
    fn merging_agrees_whichever_comes_first(a in conversation('a'), b in conversation('b'), c in conversation('c')) {
        let one = a.clone().merged(b.clone()).merged(c.clone());
        let other = a.merged(b.merged(c));
        prop_assert_eq!(whichever_way(one), whichever_way(other));
    }

    #[test]
    fn a_merged_conversation_is_as_if_all_had_been_told_in_one(told in told(), side in vec(any::<bool>(), 10), since in time()) {
        let (mut one, mut a, mut b) = (named('a'), named('a'), named('b'));
        // A template began one of the two, and the answer may be in the other.
        let template = reserved(&a, since);
        one.unanswered = Some(template.clone());
        a.unanswered = Some(template);
        for (told, is_a) in told.iter().zip(side) {
            told.to(&mut one, &facts(), NOW);
            told.to(if is_a { &mut a } else { &mut b }, &facts(), NOW);
        }
        let merged = a.merged(b);
        prop_assert_eq!(settled(&merged), settled(&one));
        prop_assert_eq!(&merged.unanswered, &one.unanswered);
        prop_assert_eq!(merged.standing(NOW), one.standing(NOW));
    }

    #[test]
    fn what_is_kept_reads_back_as_it_was(it in conversation('a')) {
        let text = serde_json::to_string(&it).expect("it has text keys only");
        prop_assert_eq!(serde_json::from_str::<Conversation>(&text).expect("it reads back"), it);
    }

    #[test]
    fn the_latest_word_on_who_answers_wins((words, shuffled) in vec((any::<bool>(), time()), 1..8).prop_flat_map(|it| {
        let doubled: Vec<_> = it.iter().chain(&it).copied().collect();
        (Just(it), Just(doubled).prop_shuffle())
    })) {
        let all = |words: &[(bool, Timestamp)]| words.iter().fold(named('a'), |mut it, (is_taken, at)| {
            if *is_taken { it.take(*at) } else { it.release(*at) }
            it
        });
        prop_assert_eq!(all(&words).handling, all(&shuffled).handling);
        let latest = words.iter().map(|it| it.1).max().expect("at least one");
        let is_taken = words.iter().any(|it| it.1 == latest && it.0);
        prop_assert_eq!(all(&words).has_person(NOW), is_taken, "of two words of one time the person's wins");
    }

    #[test]
    fn a_person_has_it_until_the_window_ends_in_which_they_took_it(opened in 0_u64..86_400, taken in 0_u64..200_000, then in 0_u64..400_000) {
        let seconds = |it: u64| NOW.plus(Duration::from_secs(it));
        let mut it = named('a');
        Told { name: "wamid.1".to_owned(), number: number(0), event: text("wamid.1", seconds(opened)) }.to(&mut it, &facts(), seconds(opened));
        it.take(seconds(taken));
        let ends = opened + 86_400;
        prop_assert_eq!(it.has_person(seconds(then)), taken >= ends || then < ends);
    }

    #[test]
    fn owed_and_missed_spans_cover_every_message_and_end_on_one(times in vec(time(), 1..8), has_person: bool) {
        let stopped = Facts { is_running: false, ..facts() };
        let mut it = named('a');
        if has_person {
            it.take(NOW);
        }
        let mut keys = Vec::new();
        for (index, at) in times.iter().enumerate() {
            let name = format!("wamid.{index}");
            let decided = Told { event: text(&name, *at), number: number(index % 3), name }.to(&mut it, &stopped, NOW);
            prop_assert_eq!(decided.to, if has_person { HandTo::Nobody } else { HandTo::Owed(agent()) });
            keys.push(decided.message);
        }
        let (span, none) = if has_person { (it.missed, it.owed) } else { (it.owed, it.missed) };
        prop_assert_eq!(none, None);
        let span = span.expect("there were messages");
        prop_assert!(keys.contains(&span.first) && keys.contains(&span.last));
        prop_assert!(keys.iter().all(|it| span.first.at <= it.at && it.at <= span.last.at));
    }

    #[test]
    fn the_agent_is_told_of_unsupported_messages_at_most_hourly(minutes in vec(0_u64..400, 1..12)) {
        let mut it = named('a');
        let mut told: Vec<Timestamp> = Vec::new();
        for (index, minutes) in minutes.iter().enumerate() {
            let (name, at) = (format!("wamid.{index}"), NOW.minus(Duration::from_mins(*minutes)));
            let decided = Told { event: unsupported(&name, at), number: number(index % 3), name }.to(&mut it, &facts(), NOW);
            if decided.to == HandTo::Agent(agent()) {
                prop_assert!(told.iter().all(|it| it.since(at) >= HOUR || at.since(*it) >= HOUR), "{at:?} after {told:?}");
                told.push(at);
            }
        }
        prop_assert_eq!(told.first(), Some(&NOW.minus(Duration::from_mins(minutes[0]))), "the first is always told");
        let last_told = told.iter().max().copied().expect("the first is told");
        let far = last_told.plus(HOUR);
        let decided = Told { name: "far".to_owned(), number: number(0), event: unsupported("far", far) }.to(&mut it, &facts(), NOW.plus(HOUR * 8));
        prop_assert_eq!(decided.to, HandTo::Agent(agent()), "and so is the next one an hour on");
    }

    #[test]
    fn a_template_waits_for_no_answer_once_one_is_here(kind in 0..KINDS, millis in -3_000_i64..3_000) {
        let mut it = named('a');
        it.unanswered = Some(reserved(&it, NOW));
        let at = Timestamp::from_millis(NOW.as_millis() + millis);
        let told = Told { name: "wamid.1".to_owned(), number: number(0), event: event(kind, "wamid.1", at) };
        told.to(&mut it, &facts(), NOW.plus(HOUR));
        // Meta's times are whole seconds: one that is told as of our second may be later than we are.
        let is_answer = told.event.effect().opens == Opens::Yes && millis >= -999;
        prop_assert_eq!(it.unanswered.is_none(), is_answer);
    }

    #[test]
    fn only_the_newest_addresses_in_use_are_sent_to(all in evidence()) {
        let mut it = named('a');
        hear_of_addresses(&mut it, &all);
        let in_use = || it.addresses.iter().filter(|it| !it.retired);
        let newest = |of: fn(&Address) -> bool| in_use().filter(|it| of(&it.address)).map(|it| it.at).max();
        let sent_to: Vec<Address> = it.customer().map(|it| it.addresses()).unwrap_or_default();
        for address in &sent_to {
            let known = it.known(address).expect("a customer is known by what is known");
            prop_assert!(!known.retired);
            let is_phone = |it: &Address| matches!(it, Address::Phone(_));
            let is_bsuid = |it: &Address| matches!(it, Address::Bsuid(_));
            prop_assert_eq!(Some(known.at), newest(if is_phone(address) { is_phone } else { is_bsuid }));
        }
        let kinds = [in_use().any(|it| matches!(it.address, Address::Phone(_))), in_use().any(|it| matches!(it.address, Address::Bsuid(_)))];
        prop_assert_eq!(sent_to.len(), kinds.iter().filter(|it| **it).count());
    }

    #[test]
    fn an_address_that_was_given_up_later_stays_given_up_in_a_merge(address in any_address(), one in time(), other in time()) {
        let (mut a, mut b) = (named('a'), named('b'));
        a.add_address(&address, one.min(other));
        b.add_address(&address, one.min(other));
        b.give_up(&address, one.max(other));
        prop_assert_eq!(a.clone().merged(b.clone()).customer(), None);
        prop_assert_eq!(b.merged(a).customer(), None);
    }

    #[test]
    fn deletions_are_remembered_once_and_only_the_newest_of_them(ids in vec(0_u8..40, 0..60)) {
        let mut it = named('a');
        for id in &ids {
            it.remember_revoked(&id.to_string());
        }
        prop_assert!(it.revoked.len() <= REVOKED_KEPT);
        let mut once = it.revoked.clone();
        once.sort();
        once.dedup();
        prop_assert_eq!(once.len(), it.revoked.len());
        if let Some(last) = ids.last() {
            prop_assert!(it.revoked.contains(&last.to_string()));
        }
    }
}

/// A conversation in which the customer wrote at `NOW`.
fn written_to() -> Conversation {
    let mut it = named('a');
    Told { name: "wamid.1".to_owned(), number: number(0), event: text("wamid.1", NOW) }.to(&mut it, &facts(), NOW);
    it
}

#[test]
fn free_form_is_open_to_the_last_millisecond_of_the_day() {
    let it = written_to();
    let closes_at = NOW.plus(Duration::from_hours(24));
    let last = closes_at.minus(MILLISECOND);
    assert_eq!(it.standing(last), Standing::Open { until: closes_at });
    assert_eq!(it.admit_reply(Author::Agent, &numbers(), last), Ok(number(0)));
    assert_eq!(it.standing(closes_at), Standing::TemplateOnly { closed_at: Some(closes_at) });
    assert_eq!(it.admit_reply(Author::Agent, &numbers(), closes_at), Err(Refusal::TemplateOnly { closed_at: Some(closes_at) }));
}

#[test]
fn a_template_awaits_its_answer_to_the_last_millisecond_of_the_day() {
    let mut it = named('a');
    it.unanswered = Some(reserved(&it, NOW));
    let over_at = NOW.plus(Duration::from_hours(24));
    let last = over_at.minus(MILLISECOND);
    assert_eq!(it.standing(last), Standing::AwaitingReply { since: NOW });
    assert_eq!(it.admit_reply(Author::Person, &numbers(), last), Err(Refusal::AwaitingReply { since: NOW }));
    assert_eq!(it.standing(over_at), Standing::TemplateOnly { closed_at: None });
}

#[test]
fn a_refusal_by_meta_closes_what_was_open_then_and_not_what_came_after() {
    let mut it = written_to();
    let refused_at = NOW.plus(HOUR);
    it.refused(&number(0), refused_at);
    assert_eq!(it.standing(refused_at), Standing::TemplateOnly { closed_at: Some(refused_at) });
    let told = Told { name: "wamid.2".to_owned(), number: number(0), event: text("wamid.2", refused_at.plus(HOUR)) };
    told.to(&mut it, &facts(), refused_at.plus(HOUR));
    it.refused(&number(0), refused_at);
    assert_eq!(it.admit_reply(Author::Agent, &numbers(), refused_at.plus(HOUR)), Ok(number(0)), "heard after the customer wrote again");
}

#[test]
fn a_change_of_the_customer_closes_every_window_as_of_the_notice() {
    let mut it = written_to();
    Told { name: "wamid.2".to_owned(), number: number(1), event: text("wamid.2", NOW) }.to(&mut it, &facts(), NOW);
    it.close_windows(NOW.plus(HOUR));
    assert!(it.windows.values().all(|it| !it.is_open(NOW.plus(HOUR))), "{it:?}");
    assert_eq!(it.windows.len(), 2);
}

/// What is decided on a text of `at`, heard at `now`.
fn decide(at: Timestamp, now: Timestamp, facts: &Facts) -> Decided {
    Told { name: "wamid.1".to_owned(), number: number(0), event: text("wamid.1", at) }.to(&mut named('a'), facts, now)
}

#[test]
fn a_turn_is_late_after_five_minutes_and_not_before() {
    let five_minutes = NOW.plus(Duration::from_mins(5));
    assert!(!decide(NOW, five_minutes, &facts()).is_late);
    assert!(decide(NOW, five_minutes.plus(MILLISECOND), &facts()).is_late);
    assert!(!decide(NOW.plus(HOUR), NOW, &facts()).is_late, "a clock ahead of ours is not late");
}

#[test]
fn what_is_older_than_eight_days_is_never_a_turn() {
    let eight_days = NOW.plus(Duration::from_hours(8 * 24));
    assert_eq!(decide(NOW, eight_days, &facts()).to, HandTo::Agent(agent()));
    assert_eq!(decide(NOW, eight_days.plus(MILLISECOND), &facts()).to, HandTo::Nobody);
    let stopped = Facts { is_running: false, ..facts() };
    assert_eq!(decide(NOW, eight_days.plus(MILLISECOND), &stopped).to, HandTo::Nobody, "nor is it owed");
}

#[test]
fn what_is_older_than_the_claim_of_the_number_is_never_a_turn() {
    let claimed = |claimed_at| Facts { claimed_at, ..facts() };
    assert_eq!(decide(NOW, NOW, &claimed(NOW)).to, HandTo::Agent(agent()));
    assert_eq!(decide(NOW, NOW, &claimed(NOW.plus(Duration::from_millis(999)))).to, HandTo::Agent(agent()), "in the same second of Meta's");
    assert_eq!(decide(NOW, NOW, &claimed(NOW.plus(Duration::from_secs(1)))).to, HandTo::Nobody);
}

#[test]
fn without_an_inbound_agent_a_message_is_for_people() {
    let nobody = Facts { agent: None, ..facts() };
    let mut it = named('a');
    let decided = Told { name: "wamid.1".to_owned(), number: number(0), event: text("wamid.1", NOW) }.to(&mut it, &nobody, NOW);
    assert_eq!(decided.to, HandTo::Nobody);
    assert_eq!((it.owed.clone(), it.missed.clone()), (None, None));
    assert!(matches!(it.standing(NOW), Standing::Open { .. }), "and opens the window all the same");
}

#[test]
fn the_first_turn_after_the_release_names_what_was_missed_and_the_second_does_not() {
    let mut it = written_to();
    it.take(NOW.plus(HOUR));
    let hears = |it: &mut Conversation, name: &str, hours: u32| {
        let at = NOW.plus(HOUR * hours);
        Told { name: name.to_owned(), number: number(0), event: text(name, at) }.to(it, &facts(), at)
    };
    let missed = [hears(&mut it, "wamid.2", 2), hears(&mut it, "wamid.3", 3)];
    assert!(missed.iter().all(|it| it.to == HandTo::Nobody && it.missed.is_none()));
    it.release(NOW.plus(HOUR * 4));
    let first = hears(&mut it, "wamid.5", 5);
    assert_eq!(first.to, HandTo::Agent(agent()));
    assert_eq!(first.missed, Some(Span { first: missed[0].message.clone(), last: missed[1].message.clone() }));
    assert_eq!(hears(&mut it, "wamid.6", 6).missed, None);
}

#[test]
fn what_is_owed_when_a_person_takes_it_is_missed_and_a_word_that_changes_nothing_takes_nothing() {
    let stopped = Facts { is_running: false, ..facts() };
    let owes = |it: &mut Conversation, name: &str, hours: u32| {
        let at = NOW.plus(HOUR * hours);
        Told { name: name.to_owned(), number: number(0), event: text(name, at) }.to(it, &stopped, at).message
    };
    let mut it = written_to();
    let first = owes(&mut it, "wamid.2", 2);
    it.take(NOW.plus(HOUR * 3));
    assert_eq!((it.owed.clone(), it.missed.clone()), (None, Some(Span::of(&first))));
    let second = owes(&mut it, "wamid.3", 40);
    it.take(NOW.plus(HOUR * 3));
    assert_eq!(it.owed, Some(Span::of(&second)), "the window had given it back, and this word is old");
}

#[test]
fn what_was_missed_is_left_for_the_first_of_the_turns_that_are_owed() {
    let mut it = written_to();
    it.take(NOW.plus(HOUR));
    let hears = |it: &mut Conversation, name: &str, hours: u32, is_running: bool| {
        let at = NOW.plus(HOUR * hours);
        Told { name: name.to_owned(), number: number(0), event: text(name, at) }.to(it, &Facts { is_running, ..facts() }, at)
    };
    let missed = hears(&mut it, "wamid.2", 2, true).message;
    it.release(NOW.plus(HOUR * 3));
    hears(&mut it, "wamid.3", 4, false);
    assert_eq!(hears(&mut it, "wamid.4", 5, true).missed, None);
    assert_eq!(it.missed, Some(Span::of(&missed)));
}

#[test]
fn a_person_who_has_it_past_the_night_keeps_it_as_long_as_the_customer_writes() {
    let mut it = written_to();
    it.take(NOW.plus(HOUR));
    let writes = |it: &mut Conversation, name: &str, hours: u32| {
        let at = NOW.plus(HOUR * hours);
        Told { name: name.to_owned(), number: number(0), event: text(name, at) }.to(it, &facts(), at).to
    };
    assert_eq!(writes(&mut it, "wamid.2", 20), HandTo::Nobody);
    assert_eq!(writes(&mut it, "wamid.3", 40), HandTo::Nobody);
    assert_eq!(writes(&mut it, "wamid.4", 64), HandTo::Agent(agent()), "the window has ended in between");
    assert!(!it.has_person(NOW.plus(HOUR * 64)), "and the new one is the agent's");
}

/// The end of the window gave the conversation back; a person's word after that end takes it again, though the end was written down only now,
/// and though it is heard after the customer's next message.
#[test]
fn a_word_of_a_person_after_the_window_takes_the_conversation_in_any_order() {
    let at = |hours: u32| NOW.plus(HOUR * hours);
    let person = Told { name: "wamid.2".to_owned(), number: number(0), event: event(14, "wamid.2", at(25)) };
    let customer = Told { name: "wamid.3".to_owned(), number: number(0), event: text("wamid.3", at(26)) };
    for order in [[&person, &customer], [&customer, &person]] {
        let mut it = written_to();
        it.take(at(1));
        for told in order {
            told.to(&mut it, &facts(), at(26).plus(Duration::from_secs(5)));
        }
        assert!(it.has_person(at(27)), "{order:?}");
    }
}

#[test]
fn another_responder_silences_the_agent_until_the_customer_writes_to_us_again() {
    let mut it = named('a');
    let tells = |it: &mut Conversation, kind: usize, hours: u32| {
        let (name, at) = (format!("wamid.{hours}"), NOW.plus(HOUR * hours));
        Told { event: event(kind, &name, at), number: number(0), name }.to(it, &facts(), at);
        it.admit_reply(Author::Agent, &numbers(), at)
    };
    assert_eq!(tells(&mut it, 3, 1), Err(Refusal::HandledElsewhere), "standby");
    assert_eq!(tells(&mut it, 0, 2), Ok(number(0)), "under `messages`");
    assert_eq!(tells(&mut it, 13, 3), Err(Refusal::HandledElsewhere), "control was taken");
    assert_eq!(tells(&mut it, 12, 4), Ok(number(0)), "control was passed");
    assert_eq!(tells(&mut it, 13, 4), Err(Refusal::HandledElsewhere), "in one second the word that silences us wins");
    assert_eq!(it.admit_reply(Author::Person, &numbers(), NOW.plus(HOUR * 4)), Ok(number(0)), "a person may answer still");
}

#[test]
fn a_user_id_that_was_replaced_is_never_sent_to_again_and_a_phone_may_come_back() {
    let phone = Address::Phone(Phone::parse("34600111222").expect("digits"));
    let bsuid = Address::Bsuid(Bsuid::parse("ES.1").expect("a user id"));
    let mut it = named('a');
    for address in [&phone, &bsuid] {
        it.add_address(address, NOW);
        it.retire(address);
    }
    assert_eq!(it.customer(), None);
    for address in [&phone, &bsuid] {
        it.add_address(address, NOW.plus(HOUR));
    }
    assert_eq!(it.customer().map(|it| it.addresses()), Some(vec![phone]));
    assert_eq!(it.known(&bsuid).map(|it| it.at), Some(NOW.plus(HOUR)), "but it receives still");
}

#[test]
fn what_moved_away_leaves_only_the_way_there() {
    let (it, to) = (written_to(), named('b').id);
    let left = it.clone().moved(to.clone());
    assert_eq!(left, Conversation { moved_to: Some(to), ..named('a') });
}

#[test]
fn a_merged_conversation_finds_its_messages_in_every_part() {
    let it = named('a').merged(named('b').merged(named('c'))).merged(named('b'));
    let parts: Vec<&str> = it.everywhere().map(|it| &it.as_str()[..1]).collect();
    assert_eq!(parts, ["a", "b", "c"]);
}

fn picture(name: &str, at: Timestamp) -> Event {
    let Event::Message(message) = text(name, at) else { unreachable!("a text is a message") };
    let media = Media { id: Some("9100".to_owned()), ..Media::default() };
    Event::Message(Message { content: Content::Image(media), ..message })
}

#[test]
fn nothing_overtakes_a_file_until_all_that_follows_it_is_handed_over() {
    let mut it = named('a');
    let through = |it: &mut Conversation, name: &str, event: Event| {
        let decided = Told { name: name.to_owned(), number: number(0), event }.to(it, &facts(), NOW);
        assert_eq!(decided.to, HandTo::Agent(agent()), "{name}");
        (decided.through, decided.message)
    };
    assert_eq!(through(&mut it, "wamid.1", text("wamid.1", NOW)).0, Through::Turns);
    let (first, picture) = through(&mut it, "wamid.2", picture("wamid.2", NOW));
    let (second, text_behind) = through(&mut it, "wamid.3", text("wamid.3", NOW));
    assert_eq!((first, second), (Through::Media, Through::Media), "the text waits behind the picture");
    it.out_of_media(&picture);
    let (third, last) = through(&mut it, "wamid.4", text("wamid.4", NOW));
    assert_eq!(third, Through::Media, "the text before it is still under way");
    it.out_of_media(&text_behind);
    it.out_of_media(&last);
    assert_eq!(through(&mut it, "wamid.5", text("wamid.5", NOW)).0, Through::Turns);
}

#[test]
fn the_way_of_a_message_is_its_agents() {
    let through = |over_https, gathers, is_behind_media, event: Event| {
        let agent = Some(Listener { agent: agent(), over_https, gathers });
        let facts = Facts { agent, is_behind_media, ..facts() };
        Told { name: "wamid.1".to_owned(), number: number(0), event }.to(&mut named('a'), &facts, NOW).through
    };
    let words = || text("wamid.1", NOW);
    assert_eq!(through(false, false, false, words()), Through::Turns);
    assert_eq!(through(true, false, false, words()), Through::Bridge);
    assert_eq!(through(true, true, false, words()), Through::Media, "it may become one turn with what follows");
    assert_eq!(through(true, false, true, words()), Through::Media, "a file is owed before it");
    assert_eq!(through(true, false, false, picture("wamid.1", NOW)), Through::Media);
}

#[test]
fn a_file_that_nobody_is_told_of_is_fetched_if_the_token_may_be_used() {
    let fetches =
        |facts: Facts, event: Event| Told { name: "wamid.1".to_owned(), number: number(0), event }.to(&mut named('a'), &facts, NOW).fetches;
    let stopped = Facts { is_running: false, ..facts() };
    assert!(fetches(stopped.clone(), picture("wamid.1", NOW)), "its turn is owed");
    assert!(fetches(Facts { agent: None, ..facts() }, picture("wamid.1", NOW)), "people see it");
    assert!(!fetches(Facts { may_fetch: false, ..stopped.clone() }, picture("wamid.1", NOW)));
    assert!(!fetches(stopped, text("wamid.1", NOW)), "there is no file");
    assert!(!fetches(facts(), picture("wamid.1", NOW)), "it is fetched on its way to the agent");
}
