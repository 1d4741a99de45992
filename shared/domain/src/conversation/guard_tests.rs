//! The repeat guard, the sticky sender and the words against templates, as properties and at their boundaries.

use proptest::prelude::*;

use super::*;
use crate::ids::{MessageId, Wamid};
use crate::message::{Content, Message};

const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);
const MILLISECOND: Duration = Duration::from_millis(1);

fn number(index: usize) -> NumberId {
    NumberId::parse((100_000_000_000_001 + index).to_string()).expect("digits")
}

fn conversation() -> Conversation {
    let id = ConversationId::parse("c".repeat(22)).expect("22 characters");
    Conversation::new(id, ConnectionId::parse("demo").expect("a name"))
}

fn key(name: usize) -> MessageKey {
    let id = MessageId::parse(format!("template-{name}")).expect("an id");
    MessageKey { conversation: conversation().id, at: NOW, id }
}

fn send<'a>(message: &'a MessageKey, category: &'a Category) -> TemplateSend<'a> {
    TemplateSend { message, category, utility_exempt: false, resends: None }
}

fn writes(conversation: &mut Conversation, on: usize, at: Timestamp, now: Timestamp) {
    let wamid = Wamid::parse(format!("wamid.{}", at.as_millis())).expect("not empty");
    let event = Event::Message(Message {
        wamid: wamid.clone(),
        at,
        content: Content::Text { text: "hello".to_owned() },
        quoted: None,
        referral: None,
        forwarded: false,
        in_group: false,
        faults: Vec::new(),
        unknown: String::new(),
    });
    let message = MessageKey { conversation: conversation.id.clone(), at, id: MessageId::of_inbound(&number(on), &wamid) };
    let facts = Facts {
        agent: None,
        is_running: true,
        is_behind: false,
        is_behind_media: false,
        may_fetch: true,
        claimed_at: Timestamp::default(),
    };
    conversation.receive(&number(on), &message, &event, &facts, now);
}

fn reserve(it: &mut Conversation, name: usize, category: &Category, now: Timestamp) -> Result<Admitted, Refusal> {
    it.reserve(&send(&key(name), category), &[number(0), number(1)], &number(0), now)
}

#[derive(Debug, Clone)]
enum Step {
    Sends(usize, Category),
    Fails(usize),
    Writes(usize),
    Passes(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let category = prop_oneof![Just(Category::Marketing), Just(Category::Utility), Just(Category::Authentication)];
    let step = prop_oneof![
        4 => (0_usize..6, category).prop_map(|(name, category)| Step::Sends(name, category)),
        1 => (0_usize..6).prop_map(Step::Fails),
        1 => (0_usize..2).prop_map(Step::Writes),
        3 => (0_u64..40).prop_map(Step::Passes),
    ];
    proptest::collection::vec(step, 0..40)
}

proptest! {
    /// Judged by a history of its own: what began a conversation and was neither answered nor taken back within a day lets no other begin it.
    #[test]
    fn nobody_gets_a_second_unanswered_template_within_a_day(steps in steps()) {
        let mut it = conversation();
        let mut now = NOW;
        let (mut waiting, mut opened_at): (Option<(usize, Timestamp)>, Option<Timestamp>) = (None, None);
        for step in steps {
            match step {
                Step::Sends(name, category) => {
                    let is_open = opened_at.is_some_and(|it| now < it.plus(AWAITS_FOR));
                    let is_waiting = waiting.is_some_and(|(other, since)| other != name && now < since.plus(AWAITS_FOR));
                    let is_free = is_open || category == Category::Authentication;
                    let reserved = reserve(&mut it, name, &category, now);
                    prop_assert_eq!(reserved.is_ok(), is_free || !is_waiting, "{:?} {:?}", category, waiting);
                    if let Ok(admitted) = reserved {
                        prop_assert_eq!(admitted, Admitted { has_badge: !is_open, reserves: !is_free });
                        if admitted.reserves && waiting.is_none_or(|(other, _)| other != name) {
                            waiting = Some((name, now));
                        }
                    }
                }
                Step::Fails(name) => {
                    it.release_reservation(&key(name));
                    waiting = waiting.filter(|(other, _)| *other != name);
                }
                Step::Writes(on) => {
                    writes(&mut it, on, now, now);
                    (waiting, opened_at) = (None, Some(now));
                }
                Step::Passes(hours) => now = now.plus(Duration::from_hours(hours)),
            }
        }
    }

    #[test]
    fn the_sender_stays_until_the_customer_writes_elsewhere(candidates in proptest::collection::vec((0_usize..3, any::<bool>()), 1..12)) {
        let mut it = conversation();
        let usable: Vec<NumberId> = (0..3).map(number).collect();
        let (mut now, mut expected) = (NOW, None);
        for (index, (candidate, is_written)) in candidates.into_iter().enumerate() {
            now = now.plus(Duration::from_hours(30));
            if is_written {
                writes(&mut it, candidate, now, now);
                expected = Some(number(candidate));
            } else {
                let admitted = it.reserve(&send(&key(index), &Category::Marketing), &usable, &number(candidate), now);
                prop_assert!(admitted.is_ok());
                expected = expected.or(Some(number(candidate)));
            }
            prop_assert_eq!(it.sender_among(&usable), expected.as_ref());
        }
    }
}

#[test]
fn the_day_ends_to_the_millisecond() {
    let mut it = conversation();
    assert!(reserve(&mut it, 1, &Category::Marketing, NOW).is_ok());
    let refused = reserve(&mut it, 2, &Category::Marketing, NOW.plus(AWAITS_FOR).minus(MILLISECOND));
    assert_eq!(refused, Err(Refusal::AwaitingReply { since: NOW }));
    assert!(reserve(&mut it, 2, &Category::Marketing, NOW.plus(AWAITS_FOR)).is_ok());
    assert!(it.unanswered.is_some_and(|it| it.is_of(&key(2))));
}

#[test]
fn the_same_job_again_finds_its_own_reservation_and_keeps_its_time() {
    let mut it = conversation();
    let later = NOW.plus(Duration::from_mins(1));
    assert!(reserve(&mut it, 1, &Category::Marketing, NOW).is_ok());
    assert_eq!(reserve(&mut it, 1, &Category::Marketing, later), Ok(Admitted { has_badge: true, reserves: true }));
    assert_eq!(it.unanswered.as_ref().map(|it| it.since), Some(NOW));
}

#[test]
fn a_resend_passes_the_reservation_of_what_it_resends_and_of_nothing_else() {
    let mut it = conversation();
    assert!(reserve(&mut it, 1, &Category::Marketing, NOW).is_ok());
    let (again, unconfirmed, other) = (key(2), key(1), key(3));
    let resend = |resends| TemplateSend { resends, ..send(&again, &Category::Marketing) };
    assert!(it.admit_template(&resend(Some(&other)), &[number(0)], NOW).is_err());
    assert!(it.reserve(&resend(Some(&unconfirmed)), &[number(0)], &number(0), NOW).is_ok());
    assert!(it.unanswered.as_ref().is_some_and(|it| it.is_of(&again)), "the guard is the new one's now");
    it.release_reservation(&unconfirmed);
    assert!(it.unanswered.is_some(), "a late failure of the old one does not open it");
}

#[test]
fn login_codes_pass_uncounted_and_utility_does_if_the_connection_says_so() {
    let mut it = conversation();
    for name in 0..3 {
        let admitted = reserve(&mut it, name, &Category::Authentication, NOW);
        assert_eq!(admitted, Ok(Admitted { has_badge: true, reserves: false }));
    }
    assert_eq!(it.unanswered, None);
    assert!(reserve(&mut it, 4, &Category::Utility, NOW).is_ok());
    assert!(reserve(&mut it, 5, &Category::Utility, NOW).is_err());
    let fifth = key(5);
    let exempt = TemplateSend { utility_exempt: true, ..send(&fifth, &Category::Utility) };
    assert_eq!(it.admit_template(&exempt, &[number(0)], NOW), Ok(Admitted { has_badge: true, reserves: false }));
    assert!(reserve(&mut it, 6, &Category::Authentication, NOW).is_ok(), "nor is it refused");
}

#[test]
fn who_wants_no_marketing_gets_none_and_who_must_not_be_contacted_gets_nothing() {
    let mut it = conversation();
    it.prefer(Preference::Stop, NOW);
    assert_eq!(reserve(&mut it, 1, &Category::Marketing, NOW), Err(Refusal::OptedOut));
    assert_eq!(
        reserve(&mut it, 1, &Category::Other("NEWS".to_owned()), NOW),
        Err(Refusal::OptedOut),
        "an unknown kind is taken for marketing"
    );
    assert!(reserve(&mut it, 1, &Category::Utility, NOW).is_ok());
    it.prefer(Preference::Resume, NOW.plus(MILLISECOND));
    it.release_reservation(&key(1));
    assert!(reserve(&mut it, 2, &Category::Marketing, NOW).is_ok());
    it.set_do_not_contact(true, NOW);
    for category in [Category::Marketing, Category::Utility, Category::Authentication] {
        assert_eq!(reserve(&mut it, 2, &category, NOW), Err(Refusal::DoNotContact));
    }
    it.set_do_not_contact(false, NOW);
    assert!(it.do_not_contact.is_some_and(|it| it.is_set), "of two words of one time the one that forbids wins");
    it.set_do_not_contact(false, NOW.plus(MILLISECOND));
    assert!(reserve(&mut it, 2, &Category::Marketing, NOW).is_ok());
}

#[test]
fn metas_limit_of_marketing_holds_its_day_and_for_marketing_only() {
    let mut it = conversation();
    let until = NOW.plus(AWAITS_FOR);
    it.limit_marketing(until);
    it.limit_marketing(NOW);
    assert_eq!(reserve(&mut it, 1, &Category::Marketing, until.minus(MILLISECOND)), Err(Refusal::MarketingLimit { until }));
    assert!(it.admit_template(&send(&key(1), &Category::Utility), &[number(0)], NOW).is_ok());
    assert!(reserve(&mut it, 1, &Category::Marketing, until).is_ok());
}

#[test]
fn whoever_writes_moves_the_sender_that_a_template_chose_in_any_order() {
    // The customer wrote to the other number in the second before the template, and that is heard only afterwards.
    let mut it = conversation();
    assert!(reserve(&mut it, 1, &Category::Marketing, NOW.plus(Duration::from_millis(500))).is_ok());
    writes(&mut it, 1, NOW, NOW.plus(Duration::from_secs(1)));
    assert_eq!(it.sender_among(&[number(0), number(1)]), Some(&number(1)));
}

#[test]
fn a_customer_of_a_number_that_is_gone_gets_another_and_the_old_window_counts_for_nothing() {
    let mut it = conversation();
    writes(&mut it, 2, NOW, NOW);
    let admitted = reserve(&mut it, 1, &Category::Marketing, NOW);
    assert_eq!(admitted, Ok(Admitted { has_badge: true, reserves: true }), "the open window is on a number that cannot send");
    assert_eq!(it.sender_among(&[number(0), number(1)]), Some(&number(0)));
}

#[test]
fn a_merge_keeps_the_words_against_templates() {
    let (mut one, mut other) = (conversation(), conversation());
    one.set_do_not_contact(true, NOW);
    other.set_do_not_contact(false, NOW.minus(MILLISECOND));
    other.limit_marketing(NOW);
    let merged = one.clone().merged(other.clone());
    assert!(merged.do_not_contact.is_some_and(|it| it.is_set));
    assert_eq!(merged.marketing_limited_until, Some(NOW));
    assert_eq!(other.merged(one).do_not_contact, merged.do_not_contact);
}
