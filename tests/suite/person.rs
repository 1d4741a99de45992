//! Stories of *One person*: addresses that turn out to belong together, or to somebody else.
//!
//! A customer who moved between conversations notices nothing: every message is answered on their own phone, once, and the agent is told
//! one conversation.

use std::collections::BTreeSet;
use std::time::Duration;

use channel::jobs::Turn;
use domain::conversation::Answerer;
use domain::message::Preference;
use meta_sim::{Customer, Fault, Inbound, Mode, Written};
use serde_json::json;
use world::story::{ANA, NUMBER, OTHER_NUMBER, WABA, World, answer, words};

use crate::sends::{last_sent, lines, states, status, told, webhooks_take};
use crate::{in_each_way, in_every_way};

const MINUTE: Duration = Duration::from_mins(1);
pub(crate) const ANAS_ID: &str = "ES.1001";
pub(crate) const ANAS_NEXT_ID: &str = "ES.1002";
pub(crate) const BEAS_ID: &str = "ES.2001";
pub(crate) const NEW_PHONE: &str = "34600999888";

/// Which of a customer's addresses Meta tells.
#[derive(Clone, Copy)]
pub(crate) enum Tells {
    Phone,
    UserId,
    Both,
}

/// A customer with a phone and a user id, whom Meta knows.
pub(crate) fn enters(world: &World, phone: &str, user_id: &str) {
    world.meta.add_customer(Customer::with_phone(phone).and_user_id(user_id));
}

/// A customer writes, and Meta tells only these of their addresses.
pub(crate) fn writes_as(world: &World, who: &str, tells: Tells, text: impl Into<Written>) -> String {
    writes_to(world, who, NUMBER, tells, text)
}

fn writes_to(world: &World, who: &str, number: &str, tells: Tells, text: impl Into<Written>) -> String {
    let known = world.meta.phone(who).customer().expect("a customer");
    let before = known.clone();
    let hide = move |it: &mut Customer| match tells {
        Tells::Phone => it.user_id = None,
        Tells::UserId => it.shows_phone = false,
        Tells::Both => {}
    };
    world.meta.change_customer(&known.key, hide).expect("a customer");
    let wamid = world.meta.customer_writes(&known.key, number, text).expect("the customer can write");
    world.meta.change_customer(&known.key, |it| *it = before).expect("a customer");
    wamid
}

/// How many conversations the agent was told of.
fn conversations(world: &World) -> usize {
    world.turns().iter().map(|it| it.conversation.clone()).collect::<BTreeSet<_>>().len()
}

/// The words that a customer was answered, in order.
fn answers(world: &World, who: &str) -> Vec<String> {
    world.screen(who).into_iter().filter(|it| it.starts_with('<')).collect()
}

// Addresses come one by one.

#[tokio::test]
async fn whichever_address_comes_first_both_lead_to_one_conversation_from_then_on() {
    use Tells::{Both, Phone, UserId};
    for order in [[Phone, Both, UserId, Phone], [UserId, Both, Phone, UserId], [Both, Phone, UserId, Both]] {
        in_every_way(async |world: &World| {
            enters(world, ANA, ANAS_ID);
            for (serial, tells) in order.into_iter().enumerate() {
                writes_as(world, ANA, tells, format!("{serial}").as_str());
                world.settle().await;
                world.pass(MINUTE).await;
            }
            assert_eq!(conversations(world), 1);
            assert_eq!(answers(world, ANA), ["< You said: 0", "< You said: 1", "< You said: 2", "< You said: 3"]);
        })
        .await;
    }
}

#[tokio::test]
async fn a_customer_without_a_phone_is_answered() {
    in_every_way(async |world: &World| {
        world.meta.add_customer(Customer::with_user_id(ANAS_ID, "ana.ruiz"));
        world.writes(ANAS_ID, "hello");
        world.settle().await;
        assert_eq!(world.screen(ANAS_ID), ["> hello", "< You said: hello"]);
        assert_eq!(states(world), ["delivered"]);
    })
    .await;
}

#[tokio::test]
async fn the_user_id_that_a_status_tells_makes_one_of_what_was_known_by_phone_and_by_id() {
    in_every_way(async |world: &World| {
        enters(world, ANA, ANAS_ID);
        world.agent_is_silent();
        writes_as(world, ANA, Tells::Phone, "by phone");
        writes_as(world, ANA, Tells::UserId, "by user id");
        world.settle().await;
        assert_eq!(conversations(world), 2, "nothing says yet that they are one person");
        world.pass(MINUTE).await;
        let by_phone = world.conversation(ANA).await.id;
        world.sends(&world.of_agent(&by_phone, "who are you?", 1)).await;
        world.settle().await;
        assert_eq!(world.conversation(ANA).await.id, world.conversation(ANAS_ID).await.id);
        world.agent_answers(|turn| vec![answer(turn, 0, "so it is you")]);
        writes_as(world, ANA, Tells::UserId, "me");
        world.settle().await;
        assert_eq!(world.screen(ANA), ["> by phone", "> by user id", "< who are you?", "> me", "< so it is you"]);
    })
    .await;
}

#[tokio::test]
async fn a_phone_that_the_customer_shares_when_asked_is_theirs() {
    in_every_way(async |world: &World| {
        enters(world, ANA, ANAS_ID);
        let card = json!([{ "origin": "contact_request", "phones": [{ "phone": format!("+{ANA}"), "wa_id": ANA }] }]);
        writes_as(world, ANA, Tells::UserId, Inbound::Contacts { contacts: card });
        world.settle().await;
        writes_as(world, ANA, Tells::Phone, "by phone");
        world.settle().await;
        assert_eq!(conversations(world), 1);
        assert_eq!(world.words_told(), ["contact_shared", "by phone"]);
    })
    .await;
}

#[tokio::test]
async fn an_answer_whose_wa_id_differs_from_what_was_dialled_names_the_same_person() {
    // Brazil's ninth digit, and the mobile digits of Mexico and Argentina.
    for (dialled, wa_id) in [("5531987654321", "553187654321"), ("525512345678", "5215512345678"), ("541123456789", "5491123456789")] {
        in_every_way(async |world: &World| {
            world.agent_is_silent();
            world.meta.add_customer(Customer::with_phone(dialled));
            world.writes(dialled, "hello");
            world.settle().await;
            world.meta.change_customer(dialled, |it| it.phone = Some(wa_id.to_owned())).expect("a customer");
            let conversation = world.conversation(dialled).await.id;
            world.sends(&world.of_agent(&conversation, "hello yourself", 1)).await;
            world.settle().await;
            let addresses = world.conversation(dialled).await.addresses.len();
            assert_eq!(addresses, 2, "what was dialled, and what Meta names it");
            world.writes(wa_id, "again");
            world.settle().await;
            assert_eq!(conversations(world), 1);
            assert_eq!(world.screen(wa_id), ["> hello", "< hello yourself", "> again"]);
        })
        .await;
    }
}

// A number changes hands.

/// Ana has given her number up, and Bea has it now.
pub(crate) fn bea_gets_anas_number(world: &World) {
    world.meta.change_customer(ANAS_ID, |it| it.phone = None).expect("a customer");
    enters(world, ANA, BEAS_ID);
}

#[tokio::test]
async fn a_number_that_was_given_away_leads_to_its_new_owner_and_the_old_one_keeps_her_conversation() {
    in_every_way(async |world: &World| {
        enters(world, ANA, ANAS_ID);
        writes_as(world, ANA, Tells::Both, "I am Ana");
        world.settle().await;
        world.pass(MINUTE).await;
        bea_gets_anas_number(world);
        writes_as(world, BEAS_ID, Tells::Both, "I am Bea");
        world.settle().await;
        writes_as(world, BEAS_ID, Tells::Phone, "by phone, as ever");
        world.settle().await;
        writes_as(world, ANAS_ID, Tells::UserId, "still Ana");
        world.settle().await;
        assert_eq!(conversations(world), 2);
        assert_eq!(world.screen(ANAS_ID), ["> I am Ana", "< You said: I am Ana", "> still Ana", "< You said: still Ana"]);
        let of_bea = ["> I am Bea", "< You said: I am Bea", "> by phone, as ever", "< You said: by phone, as ever"];
        assert_eq!(world.screen(BEAS_ID), of_bea);
        let (ana, bea) = (world.conversation(ANAS_ID).await, world.conversation(BEAS_ID).await);
        assert_ne!(ana.id, bea.id);
        assert_eq!(world.conversation(ANA).await.id, bea.id);
        assert!(ana.phone().is_none() && ana.parts.is_empty() && bea.parts.is_empty(), "never merged");
    })
    .await;
}

#[tokio::test]
async fn what_is_heard_late_of_the_time_before_a_number_was_given_away_moves_nothing() {
    in_every_way(async |world: &World| {
        enters(world, ANA, ANAS_ID);
        writes_as(world, ANA, Tells::Both, "I am Ana");
        world.settle().await;
        world.pass(10 * MINUTE).await;
        // Written while the number was hers, told only after it was not.
        webhooks_take(world, 20 * MINUTE);
        writes_as(world, ANA, Tells::Both, "and one more thing");
        webhooks_take(world, Duration::ZERO);
        world.pass(MINUTE).await;
        bea_gets_anas_number(world);
        writes_as(world, BEAS_ID, Tells::Both, "I am Bea");
        world.pass(30 * MINUTE).await;
        writes_as(world, BEAS_ID, Tells::Phone, "by phone");
        world.settle().await;
        assert_eq!(world.conversation(ANA).await.id, world.conversation(BEAS_ID).await.id);
        assert_eq!(answers(world, BEAS_ID), ["< You said: I am Bea", "< You said: by phone"]);
        assert_eq!(answers(world, ANAS_ID), ["< You said: I am Ana", "< You said: and one more thing"]);
    })
    .await;
}

#[tokio::test]
async fn what_went_to_a_number_and_reached_its_next_owner_gives_her_the_number_and_stays_where_it_is() {
    in_every_way(async |world: &World| {
        enters(world, ANA, ANAS_ID);
        world.agent_is_silent();
        writes_as(world, ANA, Tells::Phone, "by phone");
        world.settle().await;
        let conversation = world.conversation(ANA).await.id;
        world.meta.phone(ANA).goes_offline().expect("a customer");
        world.sends(&world.of_agent(&conversation, "to a number", 1)).await;
        world.settle().await;
        writes_as(world, ANA, Tells::Both, "and this is my user id");
        world.pass(MINUTE).await;
        let wamid = last_sent(world, ANA);
        status(world, &wamid, "delivered", 0, &json!({ "recipient_id": ANA, "recipient_user_id": BEAS_ID }));
        world.settle().await;
        let (ana, bea) = (world.conversation(ANAS_ID).await, world.conversation(BEAS_ID).await);
        assert_ne!(ana.id, bea.id, "never merged");
        assert_eq!(world.conversation(ANA).await.id, bea.id, "the number is hers");
        assert!(ana.phone().is_none() && ana.bsuid().is_some_and(|it| it.as_str() == ANAS_ID));
        assert_eq!(states(world), ["delivered"], "of the message, where it is");
    })
    .await;
}

// Meta's notices of change.

#[tokio::test]
async fn a_customer_who_changes_number_keeps_the_conversation_and_is_answered_once_they_write() {
    in_every_way(async |world: &World| {
        enters(world, ANA, ANAS_ID);
        writes_as(world, ANA, Tells::Both, "hello");
        world.settle().await;
        world.pass(MINUTE).await;
        world.meta.phone(ANA).changes_phone(NEW_PHONE).expect("a customer");
        world.settle().await;
        let changed_at = world.clock.now_ms();
        world.pass(MINUTE).await;
        let conversation = world.conversation(NEW_PHONE).await;
        world.sends(&world.of_agent(&conversation.id, "are you there?", 1)).await;
        world.settle().await;
        assert!(told(world).contains("refused template_only never"), "what Meta thinks of the window is not known");
        let closed = world.events().into_iter().map(|it| serde_json::to_value(it).expect("JSON")).find(|it| it["code"] == "template_only");
        assert_eq!(closed.expect("it was refused")["closed_at"], changed_at);
        world.writes(NEW_PHONE, "my new number");
        world.settle().await;
        assert_eq!(conversations(world), 1);
        assert_eq!(answers(world, NEW_PHONE), ["< You said: hello", "< You said: my new number"]);
        assert_eq!(conversation.phone().map(|it| it.digits().to_owned()).as_deref(), Some(NEW_PHONE));
    })
    .await;
}

#[tokio::test]
async fn the_number_that_a_customer_left_is_free_for_somebody_else() {
    in_every_way(async |world: &World| {
        enters(world, ANA, ANAS_ID);
        writes_as(world, ANA, Tells::Both, "I am Ana");
        world.settle().await;
        world.pass(MINUTE).await;
        world.meta.phone(ANA).changes_phone(NEW_PHONE).expect("a customer");
        world.settle().await;
        world.pass(MINUTE).await;
        enters(world, ANA, BEAS_ID);
        writes_as(world, BEAS_ID, Tells::Phone, "I am Bea");
        world.settle().await;
        world.writes(NEW_PHONE, "and I am Ana still");
        world.settle().await;
        assert_eq!(conversations(world), 2);
        assert_eq!(world.screen(BEAS_ID), ["> I am Bea", "< You said: I am Bea"]);
        assert_eq!(answers(world, NEW_PHONE), ["< You said: I am Ana", "< You said: and I am Ana still"]);
    })
    .await;
}

#[tokio::test]
async fn an_old_user_id_receives_still_and_is_never_sent_to() {
    in_every_way(async |world: &World| {
        enters(world, ANA, ANAS_ID);
        writes_as(world, ANA, Tells::Both, "hello");
        // Written under the old id, told only after the notice.
        webhooks_take(world, 10 * MINUTE);
        writes_as(world, ANA, Tells::UserId, "one more thing");
        webhooks_take(world, Duration::ZERO);
        world.pass(MINUTE).await;
        world.meta.phone(ANA).changes_user_id(ANAS_NEXT_ID).expect("a customer");
        world.settle().await;
        world.pass(MINUTE).await;
        world.writes(ANAS_NEXT_ID, "under the new id");
        world.pass(30 * MINUTE).await;
        assert_eq!(conversations(world), 1);
        assert_eq!(world.words_told(), ["hello", "under the new id", "one more thing"]);
        let all = ["< You said: hello", "< You said: under the new id", "< You said: one more thing"];
        assert_eq!(answers(world, ANA), all, "the last one too went to the new id");
        assert!(!states(world).contains(&"failed".to_owned()));
    })
    .await;
}

#[tokio::test]
async fn a_notice_that_names_no_new_user_id_retires_the_old_one_all_the_same() {
    in_every_way(async |world: &World| {
        enters(world, ANA, ANAS_ID);
        world.agent_is_silent();
        writes_as(world, ANA, Tells::Both, "hello");
        world.settle().await;
        world.pass(MINUTE).await;
        // As Meta told it before there were user ids in it.
        let system = json!({ "type": "user_changed_number", "body": "User A changed from A to B", "wa_id": NEW_PHONE });
        let timestamp = (world.clock.now_ms() / 1_000).to_string();
        let message = json!({ "id": "wamid.notice", "timestamp": timestamp, "type": "system", "from": ANA, "from_user_id": ANAS_ID, "system": system });
        let metadata = json!({ "display_phone_number": "15550100001", "phone_number_id": NUMBER });
        world.meta.tell_account(WABA, "messages", &json!({ "messaging_product": "whatsapp", "metadata": metadata, "messages": [message] }));
        world.settle().await;
        let conversation = world.conversation(NEW_PHONE).await;
        assert_eq!(conversation.id, world.conversation(ANAS_ID).await.id, "the old id receives still");
        assert_eq!(conversation.customer().map(|it| it.addresses().len()), Some(1), "and is not sent to");
        assert!(conversation.bsuid().is_none());
    })
    .await;
}

#[tokio::test]
async fn a_notice_that_names_an_id_which_we_never_heard_finds_the_customer_by_the_phone() {
    in_every_way(async |world: &World| {
        enters(world, ANA, ANAS_ID);
        // A status would tell the user id.
        world.agent_is_silent();
        writes_as(world, ANA, Tells::Phone, "hello");
        world.settle().await;
        world.pass(MINUTE).await;
        world.meta.phone(ANA).changes_phone(NEW_PHONE).expect("a customer");
        world.settle().await;
        world.pass(MINUTE).await;
        world.writes(NEW_PHONE, "my new number");
        world.settle().await;
        assert_eq!(conversations(world), 1);
        assert!(world.find(ANA).await.is_none(), "the old number is free");
        assert_eq!(world.find(ANAS_ID).await.expect("the old id receives still").id, world.conversation(NEW_PHONE).await.id);
    })
    .await;
}

#[tokio::test]
async fn a_notice_of_a_customer_who_never_wrote_is_taken_in_too() {
    in_every_way(async |world: &World| {
        enters(world, ANA, ANAS_ID);
        writes_as(world, ANA, Tells::Both, Inbound::RequestWelcome);
        world.settle().await;
        world.pass(MINUTE).await;
        world.meta.phone(ANA).changes_user_id(ANAS_NEXT_ID).expect("a customer");
        world.settle().await;
        let conversation = world.conversation(ANAS_NEXT_ID).await;
        assert_eq!(conversation.id, world.conversation(ANAS_ID).await.id);
        assert_eq!(conversation.bsuid().map(|it| it.as_str().to_owned()).as_deref(), Some(ANAS_NEXT_ID));
        assert_eq!(conversation.phone().map(|it| it.digits().to_owned()).as_deref(), Some(ANA));
    })
    .await;
}

#[tokio::test]
async fn a_notice_makes_one_of_the_conversations_of_the_old_and_the_new_number() {
    in_every_way(async |world: &World| {
        enters(world, ANA, ANAS_ID);
        writes_as(world, ANA, Tells::Both, "from the old one");
        // The new number has written too, before Meta told user ids.
        world.meta.add_customer(Customer::with_phone(NEW_PHONE));
        world.writes(NEW_PHONE, "from the new one");
        world.settle().await;
        assert_eq!(conversations(world), 2);
        world.pass(MINUTE).await;
        world.meta.phone(ANAS_ID).changes_phone(NEW_PHONE).expect("a customer");
        world.settle().await;
        world.pass(MINUTE).await;
        world.writes(NEW_PHONE, "all of it me");
        world.settle().await;
        let one = world.conversation(NEW_PHONE).await;
        assert_eq!(one.parts.len(), 1);
        assert_eq!(world.turns().last().map(|it| it.conversation.clone()), Some(one.id));
        assert_eq!(answers(world, NEW_PHONE).last().map(String::as_str), Some("< You said: all of it me"));
    })
    .await;
}

#[tokio::test]
async fn a_notice_that_comes_after_the_customer_wrote_under_the_new_number_closes_nothing() {
    in_every_way(async |world: &World| {
        enters(world, ANA, ANAS_ID);
        writes_as(world, ANA, Tells::Both, "hello");
        world.settle().await;
        world.pass(MINUTE).await;
        webhooks_take(world, 10 * MINUTE);
        world.meta.phone(ANA).changes_phone(NEW_PHONE).expect("a customer");
        webhooks_take(world, Duration::ZERO);
        world.pass(MINUTE).await;
        world.writes(NEW_PHONE, "my new number");
        world.pass(20 * MINUTE).await;
        let conversation = world.conversation(NEW_PHONE).await;
        world.sends(&world.of_agent(&conversation.id, "thank you", 1)).await;
        world.settle().await;
        assert_eq!(answers(world, NEW_PHONE).last().map(String::as_str), Some("< thank you"));
        assert!(world.find(ANA).await.is_none(), "the old number is free");
        assert_eq!(world.conversation(ANAS_ID).await.id, conversation.id);
    })
    .await;
}

// Two conversations become one.

/// Ana has written under her phone and under her user id, and nothing says yet that she is one person. The agent is silent.
async fn two_conversations(world: &World) -> [Turn; 2] {
    enters(world, ANA, ANAS_ID);
    world.agent_is_silent();
    writes_as(world, ANA, Tells::Phone, "by phone");
    world.settle().await;
    world.pass(MINUTE).await;
    writes_as(world, ANA, Tells::UserId, "by user id");
    world.settle().await;
    assert_eq!(conversations(world), 2);
    world.turns().try_into().expect("two turns")
}

/// Ana writes, and Meta tells both addresses: it is one person.
async fn it_is_one_person(world: &World) {
    world.pass(MINUTE).await;
    writes_as(world, ANA, Tells::Both, "by both");
    world.settle().await;
    assert_eq!(world.conversation(ANA).await.id, world.conversation(ANAS_ID).await.id);
}

#[tokio::test]
async fn replies_that_name_a_conversation_which_was_merged_reach_the_customer() {
    in_every_way(async |world: &World| {
        let [by_phone, by_id] = two_conversations(world).await;
        it_is_one_person(world).await;
        for turn in [&by_phone, &by_id] {
            world.sends(&answer(turn, 0, &format!("to {}", words(&turn.content)))).await;
            world.settle().await;
        }
        assert_eq!(answers(world, ANA), ["< to by phone", "< to by user id"]);
        assert_eq!(states(world), ["delivered", "delivered"]);
    })
    .await;
}

#[tokio::test]
async fn a_job_that_names_a_merged_conversation_is_judged_by_the_one_that_it_is_now() {
    in_every_way(async |world: &World| {
        let [by_phone, by_id] = two_conversations(world).await;
        it_is_one_person(world).await;
        world.hand(ANA, true).await;
        for turn in [&by_phone, &by_id] {
            world.sends(&answer(turn, 0, "from the agent")).await;
        }
        world.settle().await;
        assert_eq!(told(world), lines(["refused taken_by_person never"]));
        assert_eq!(answers(world, ANA).len(), 0);
    })
    .await;
}

#[tokio::test]
async fn statuses_and_failures_that_come_after_a_merge_find_their_messages() {
    in_every_way(async |world: &World| {
        let [by_phone, by_id] = two_conversations(world).await;
        webhooks_take(world, 10 * MINUTE);
        world.meta.fail_next(None, Some(1), Fault::FailLater { code: 131_026 });
        for turn in [&by_phone, &by_id] {
            world.sends(&answer(turn, 0, &format!("to {}", words(&turn.content)))).await;
            world.settle().await;
        }
        webhooks_take(world, Duration::ZERO);
        it_is_one_person(world).await;
        assert_eq!(states(world), ["accepted", "accepted"]);
        world.pass(20 * MINUTE).await;
        let states: BTreeSet<String> = states(world).into_iter().collect();
        assert_eq!(states, lines(["delivered", "failed"]), "the failure came without our data, and was found in the part");
    })
    .await;
}

#[tokio::test]
async fn what_was_under_way_in_a_part_is_looked_for_there_and_sent_once_more_only() {
    // The two fall due at one instant, each in a group of its own: either may be the first on the screen.
    in_each_way(async |world: &World| {
        let [by_phone, by_id] = two_conversations(world).await;
        world.meta.fail_next(None, Some(2), Fault::CutBefore);
        for turn in [&by_phone, &by_id] {
            world.sends(&answer(turn, 0, &format!("to {}", words(&turn.content)))).await;
        }
        world.settle().await;
        world.pass(20 * Duration::from_secs(1)).await;
        writes_as(world, ANA, Tells::Both, "by both");
        world.pass(10 * MINUTE).await;
        assert_eq!(world.conversation(ANA).await.id, world.conversation(ANAS_ID).await.id);
        assert_eq!(answers(world, ANA).into_iter().collect::<BTreeSet<_>>(), lines(["< to by phone", "< to by user id"]));
        assert_eq!(world.accepted(), (1, 2));
        assert!(told(world).contains("second accepted") && !told(world).contains("accepted"));
    })
    .await;
}

#[tokio::test]
async fn what_was_sent_in_a_part_is_not_sent_again_when_its_job_comes_again_after_the_merge() {
    in_every_way(async |world: &World| {
        let [by_phone, by_id] = two_conversations(world).await;
        for turn in [&by_phone, &by_id] {
            world.sends(&answer(turn, 0, &format!("to {}", words(&turn.content)))).await;
            world.settle().await;
        }
        it_is_one_person(world).await;
        // SQS has forgotten by now that it has seen these.
        world.pass(10 * MINUTE).await;
        for turn in [&by_phone, &by_id] {
            world.sends(&answer(turn, 0, &format!("to {}", words(&turn.content)))).await;
        }
        world.meta_repeats_all().await;
        assert_eq!(world.accepted(), (1, 2));
        assert_eq!(world.turns().len(), 3);
        assert_eq!(answers(world, ANA).len(), 2);
    })
    .await;
}

#[tokio::test]
async fn it_is_one_person_whichever_side_tells_it_first() {
    // An inbound with both addresses makes the phone's conversation a part of the user id's, a status the other way round: the parts differ,
    // what people see does not.
    in_each_way(async |world: &World| {
        let [by_phone, by_id] = two_conversations(world).await;
        webhooks_take(world, 2 * MINUTE);
        for turn in [&by_phone, &by_id] {
            world.sends(&answer(turn, 0, "under way")).await;
        }
        world.settle().await;
        world.pass(MINUTE).await;
        webhooks_take(world, MINUTE);
        writes_as(world, ANA, Tells::Both, "by both");
        writes_to(world, ANA, OTHER_NUMBER, Tells::Both, "to the other number");
        webhooks_take(world, Duration::ZERO);
        world.meta.set_mode(Mode { batch: 10, shuffle: true, ..Mode::default() });
        world.pass(10 * MINUTE).await;
        assert_eq!(world.conversation(ANA).await.id, world.conversation(ANAS_ID).await.id);
        assert_eq!(world.conversation(ANA).await.parts.len(), 1);
        assert_eq!(states(world), ["delivered", "delivered"]);
        assert_eq!(
            world.words_told().into_iter().collect::<BTreeSet<_>>(),
            lines(["by phone", "by user id", "by both", "to the other number"])
        );
    })
    .await;
}

#[tokio::test]
async fn turns_that_were_owed_on_both_sides_are_handed_over_once_each_in_order() {
    in_every_way(async |world: &World| {
        enters(world, ANA, ANAS_ID);
        world.stop().await;
        for (tells, text) in [(Tells::Phone, "one"), (Tells::UserId, "two"), (Tells::Phone, "three"), (Tells::Both, "four")] {
            writes_as(world, ANA, tells, text);
            world.settle().await;
            world.pass(MINUTE).await;
        }
        assert!(world.turns().is_empty());
        world.run().await;
        world.walk().await;
        world.settle().await;
        assert_eq!(world.words_told(), ["one", "two", "three", "four"]);
        world.pass(2 * MINUTE).await;
        world.walk().await;
        assert_eq!(world.walk().await.left, 0);
        world.settle().await;
        assert_eq!(world.times_told(), 4, "once each");
        assert_eq!(answers(world, ANA).len(), 4);
    })
    .await;
}

#[tokio::test]
async fn of_sender_handling_and_opt_out_the_latest_of_metas_times_holds() {
    for person_is_later in [true, false] {
        in_every_way(async |world: &World| {
            let [_, _] = two_conversations(world).await;
            world.pass(MINUTE).await;
            // On the phone's side a person takes it; on the other it goes back to the agent, before or after.
            let sides = if person_is_later { [(ANAS_ID, false), (ANA, true)] } else { [(ANA, true), (ANAS_ID, false)] };
            for (who, to_person) in sides {
                world.hand(who, to_person).await;
                world.pass(MINUTE).await;
            }
            prefers(world, Tells::UserId, "stop").await;
            prefers(world, Tells::Phone, "resume").await;
            writes_to(world, ANA, OTHER_NUMBER, Tells::Phone, "to the other number");
            world.settle().await;
            world.pass(MINUTE).await;
            // That control was passed tells both addresses, and nothing of sender, handling or preference.
            let turns = world.turns().len();
            world.meta.hand_over(ANA, NUMBER, "control_passed").expect("it can be passed");
            world.settle().await;
            let one = world.conversation(ANA).await;
            assert_eq!(one.id, world.conversation(ANAS_ID).await.id);
            assert_eq!(one.opt_out.map(|it| it.preference), Some(Preference::Resume));
            assert_eq!(one.sender.map(|it| it.number.to_string()).as_deref(), Some(OTHER_NUMBER));
            let by = if person_is_later { Answerer::Person } else { Answerer::Agent };
            assert_eq!(one.handling.map(|it| it.by), Some(by));
            world.agent_answers(|turn| vec![answer(turn, 0, "here I am")]);
            writes_to(world, ANA, OTHER_NUMBER, Tells::Both, "who answers?");
            world.settle().await;
            assert_eq!(world.turns().len(), turns + usize::from(!person_is_later));
        })
        .await;
    }
}

async fn prefers(world: &World, tells: Tells, choice: &str) {
    let known = world.meta.phone(ANA).customer().expect("a customer");
    let before = known.clone();
    let hide = move |it: &mut Customer| match tells {
        Tells::Phone => it.user_id = None,
        Tells::UserId => it.shows_phone = false,
        Tells::Both => {}
    };
    world.meta.change_customer(&known.key, hide).expect("a customer");
    world.meta.phone(&known.key).prefers(NUMBER, choice).expect("the customer can choose");
    world.meta.change_customer(&known.key, |it| *it = before).expect("a customer");
    world.settle().await;
    world.pass(MINUTE).await;
}

#[tokio::test]
async fn a_read_that_lags_behind_makes_no_second_conversation() {
    for tells in [Tells::Phone, Tells::UserId, Tells::Both] {
        let world = World::new().await;
        enters(&world, ANA, ANAS_ID);
        writes_as(&world, ANA, tells, "hello");
        world.settle().await;
        world.dynamo.faults().add(world::wire::Rule::every(world::wire::Fault::Stale).by("inbound"));
        world.clock.advance(Duration::from_secs(1));
        writes_as(&world, ANA, tells, "is anybody there?");
        world.settle().await;
        assert_eq!(world.words_told(), ["hello", "is anybody there?"]);
        assert_eq!(conversations(&world), 1);
        let turn = world.turns().remove(0);
        let kept = world.store.conversation(&turn.conversation).await.expect("the store answers").expect("it is kept");
        assert!(kept.conversation.parts.is_empty(), "nothing was merged");
    }
}
