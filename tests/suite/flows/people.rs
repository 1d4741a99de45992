//! *Agents and people*: who answers, what the agent is told, and what it may not do.

use channel::jobs::{Author, StandingNow, Turn};
use domain::conversation::Answerer;
use domain::ids::AgentId;
use domain::message::Content;
use meta_sim::{Inbound, Mode, Written};
use serde_json::json;
use world::story::{ANA, NUMBER, World, answer, words};

use super::{DAY, HOUR, MINUTE, SECOND};
use crate::in_every_way;

/// What a turn names as missed: side and words.
fn missed(turn: &Turn) -> Vec<String> {
    let side = |it| if it == channel::jobs::From::Customer { '>' } else { '<' };
    turn.missed.iter().map(|it| format!("{} {}", side(it.from), it.text.clone().unwrap_or_else(|| it.kind.clone()))).collect()
}

#[tokio::test]
async fn while_a_person_has_the_conversation_inbound_is_kept_and_no_turn_is_handed_over() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        world.settle().await;
        world.sleep(MINUTE).await;
        world.hand(ANA, true).await;
        world.sleep(MINUTE).await;
        world.writes(ANA, "is anybody there?");
        world.settle().await;
        assert_eq!(world.words_told(), ["hello"]);
        assert_eq!(world.history(ANA).await[2], "> is anybody there?");
        assert_eq!(world.handlings(), [Answerer::Person]);
    })
    .await;
}

#[tokio::test]
async fn the_first_turn_after_the_release_names_what_was_missed_and_no_later_one() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        world.settle().await;
        let conversation = world.conversation(ANA).await.id;
        world.sleep(MINUTE).await;
        world.hand(ANA, true).await;
        for (serial, text) in [(1, "is anybody there?"), (2, "my order is late")] {
            world.sleep(MINUTE).await;
            world.writes(ANA, text);
            world.settle().await;
            world.sleep(MINUTE).await;
            world.sends(&world.of_person(&conversation, &format!("Eva here, number {serial}"), serial)).await;
            world.sends(&world.of_agent(&conversation, "I would say", 10 + serial)).await;
            world.settle().await;
        }
        world.sleep(MINUTE).await;
        world.hand(ANA, false).await;
        for text in ["thank you", "bye"] {
            world.sleep(MINUTE).await;
            world.writes(ANA, text);
            world.settle().await;
        }
        let turns = world.turns();
        assert_eq!(world.words_told(), ["hello", "thank you", "bye"]);
        let expected = ["> is anybody there?", "< Eva here, number 1", "> my order is late", "< Eva here, number 2"];
        assert_eq!(missed(&turns[1]), expected, "what the agent was refused to say was never said");
        assert!(missed(&turns[0]).is_empty() && missed(&turns[2]).is_empty());
        assert_eq!(world.handlings().last(), Some(&Answerer::Agent));
    })
    .await;
}

#[tokio::test]
async fn a_person_who_takes_a_conversation_outside_the_window_has_it_when_the_customer_writes() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        world.settle().await;
        world.sleep(DAY * 2).await;
        world.hand(ANA, true).await;
        world.sleep(HOUR).await;
        world.writes(ANA, "good morning");
        world.settle().await;
        assert_eq!(world.words_told(), ["hello"]);
        world.sleep(DAY).await;
        world.writes(ANA, "good night");
        world.settle().await;
        assert_eq!(world.words_told(), ["hello", "good night"], "until the end of that window");
    })
    .await;
}

#[tokio::test]
async fn an_agents_reply_is_refused_while_a_person_has_the_conversation() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.settle().await;
        world.hand(ANA, true).await;
        world.sends(&answer(&world.turns()[0], 0, "I say")).await;
        world.settle().await;
        let refused = &world.refusals()[0];
        assert_eq!(refused.code, "taken_by_person");
        assert_eq!(refused.note, "A person has this conversation. The agent may answer again once it is released.");
        assert_eq!(world.screen(ANA), ["> hello"]);
    })
    .await;
}

#[tokio::test]
async fn an_agents_long_reply_ends_where_a_person_takes_the_conversation() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.settle().await;
        world.sleep(SECOND * 5).await;
        // Meta takes one message a second now, and asks for a pause at the second part.
        world.meta.change_number(NUMBER, |it| it.throughput = 1).expect("the number is there");
        let text = format!("{}\n\n{}", "a".repeat(4_000), "b".repeat(4_000));
        world.sends(&answer(&world.turns()[0], 0, &text)).await;
        world.settle().await;
        world.hand(ANA, true).await;
        world.pass(MINUTE).await;
        assert_eq!(world.screen(ANA), ["> hello".to_owned(), format!("< {}", "a".repeat(4_000))]);
        assert_eq!(world.codes()[0], "taken_by_person");
    })
    .await;
}

#[tokio::test]
async fn a_persons_message_takes_the_conversation() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        world.settle().await;
        world.sleep(MINUTE).await;
        world.sends(&world.of_person(&world.conversation(ANA).await.id, "Eva here", 1)).await;
        world.settle().await;
        world.sleep(MINUTE).await;
        world.writes(ANA, "hello Eva");
        world.settle().await;
        assert_eq!(world.words_told(), ["hello"]);
        assert_eq!(world.screen(ANA), ["> hello", "< You said: hello", "< Eva here", "> hello Eva"]);
        assert_eq!(world.handlings(), [Answerer::Person]);
    })
    .await;
}

#[tokio::test]
async fn a_persons_message_takes_the_conversation_when_it_is_accepted_and_not_when_it_is_sent() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        world.settle().await;
        world.stop().await;
        let accepted = world.of_person(&world.conversation(ANA).await.id, "Eva here", 1);
        world.sleep(MINUTE).await;
        world.hand(ANA, false).await;
        world.sends(&accepted).await;
        world.pass(MINUTE).await;
        world.run().await;
        world.pass(MINUTE).await;
        world.writes(ANA, "hello Eva");
        world.settle().await;
        assert_eq!(world.words_told(), ["hello", "hello Eva"], "it was given back since");
        assert_eq!(world.screen(ANA)[2], "< Eva here", "and the message goes out all the same");
    })
    .await;
}

#[tokio::test]
async fn the_end_of_the_window_gives_the_conversation_back() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        world.settle().await;
        world.sleep(HOUR).await;
        world.hand(ANA, true).await;
        world.sleep(HOUR).await;
        world.writes(ANA, "how long will it take?");
        world.settle().await;
        world.sleep(DAY).await;
        world.writes(ANA, "good morning");
        world.settle().await;
        let turns = world.turns();
        assert_eq!(world.words_told(), ["hello", "good morning"]);
        assert_eq!(missed(&turns[1]), ["> how long will it take?"]);
        assert_eq!(world.screen(ANA).last().map(String::as_str), Some("< You said: good morning"));
        assert_eq!(world.handlings(), [Answerer::Person, Answerer::Agent], "and the platform is told");
    })
    .await;
}

#[tokio::test]
async fn an_agent_may_ask_for_a_person() {
    in_every_way(async |world: &World| {
        world.agent_answers(|turn| {
            let mut reply = answer(turn, 0, "A colleague will answer you.");
            reply.handover = true;
            vec![reply]
        });
        world.writes(ANA, "I want to talk to a person");
        world.settle().await;
        world.sleep(MINUTE).await;
        world.writes(ANA, "hello?");
        world.settle().await;
        assert_eq!(world.words_told(), ["I want to talk to a person"]);
        assert_eq!(world.screen(ANA), ["> I want to talk to a person", "< A colleague will answer you.", "> hello?"]);
        assert_eq!(world.handlings(), [Answerer::Person]);
    })
    .await;
}

#[tokio::test]
async fn an_agent_may_ask_for_a_person_without_a_word() {
    in_every_way(async |world: &World| {
        world.agent_answers(|turn| {
            let mut reply = answer(turn, 0, "");
            (reply.message, reply.handover) = (None, true);
            vec![reply]
        });
        world.writes(ANA, "I want to talk to a person");
        world.settle().await;
        assert_eq!((world.screen(ANA).len(), world.handlings()), (1, vec![Answerer::Person]));
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_is_not_attached_may_not_send() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.settle().await;
        let mut reply = world.of_agent(&world.conversation(ANA).await.id, "I am new here", 1);
        reply.author = Author::Agent(AgentId::parse("stranger").expect("an id"));
        world.sends(&reply).await;
        world.settle().await;
        let refused = &world.refusals()[0];
        assert_eq!((refused.code.as_str(), refused.retry), ("not_attached", domain::refusal::Retry::Fix));
        assert_eq!(world.screen(ANA), ["> hello"]);
    })
    .await;
}

#[tokio::test]
async fn every_message_of_ours_carries_its_author() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        world.settle().await;
        world.sleep(MINUTE).await;
        world.sends(&world.of_person(&world.conversation(ANA).await.id, "Eva here", 1)).await;
        world.settle().await;
        let kept = world.history(ANA).await;
        assert_eq!(kept, ["> hello", "< You said: hello (example, Delivered)", "< Eva here (Eva, Delivered)"]);
    })
    .await;
}

#[tokio::test]
async fn a_turn_holds_all_that_the_agent_needs() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        let first = world.writes(ANA, "do you have these?");
        world.settle().await;
        world.sleep(MINUTE).await;
        let list = Inbound::ListReply { id: "shoes-42".to_owned(), title: "Shoes".to_owned(), description: Some("Size 42".to_owned()) };
        let referral =
            json!({ "source_type": "ad", "source_id": "120000000000001", "source_url": "https://fb.me/1", "headline": "Shoes!" });
        let mut written = Written { referral: Some(referral), forwarded: true, ..Written::from(list) };
        written = written.quoting(&first);
        let at = world.now();
        let wamid = world.writes_to(NUMBER, ANA, written);
        world.settle().await;
        let turn = &world.turns()[1];
        assert_eq!((turn.tenant.as_str(), turn.agent.as_str(), turn.connection.as_str()), ("demo", "example", "demo"));
        assert_eq!((turn.number.as_str(), &turn.conversation), (NUMBER, &world.conversation(ANA).await.id));
        assert_eq!(turn.customer.phone().map(|it| it.digits().to_owned()).as_deref(), Some(ANA));
        assert!(turn.customer.bsuid().is_some(), "by both addresses");
        assert_eq!(turn.profile.name.as_deref(), Some("Customer"));
        assert_eq!((turn.wamid.as_str(), turn.at), (wamid.as_str(), at));
        let Content::ListReply { id, title, description } = &turn.content else { panic!("{:?}", turn.content) };
        assert_eq!((id.as_str(), title.as_str(), description.as_deref()), ("shoes-42", "Shoes", Some("Size 42")));
        let quoted = turn.quoted.as_ref().expect("a quote");
        assert_eq!((quoted.wamid.as_str(), quoted.text.as_deref()), (first.as_str(), Some("do you have these?")));
        assert_eq!(quoted.from, Some(channel::jobs::From::Customer));
        let referral = turn.referral.as_ref().expect("an ad");
        assert_eq!((referral.source_id.as_deref(), referral.headline.as_deref()), (Some("120000000000001"), Some("Shoes!")));
        assert_eq!((turn.forwarded, turn.late), (true, false));
        assert_eq!(turn.standing, StandingNow::Open { until: at.plus(DAY) });
    })
    .await;
}

#[tokio::test]
async fn a_turn_quotes_a_message_of_ours_too() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        world.settle().await;
        let ours = world.meta.phone(ANA).screen()[1].id.clone();
        world.sleep(MINUTE).await;
        world.writes_to(NUMBER, ANA, Written::from("what do you mean?").quoting(&ours));
        world.settle().await;
        let quoted = world.turns()[1].quoted.clone().expect("a quote");
        assert_eq!((quoted.from, quoted.text.as_deref()), (Some(channel::jobs::From::Business), Some("You said: hello")));
    })
    .await;
}

#[tokio::test]
async fn a_turn_that_is_handed_over_more_than_five_minutes_after_metas_time_is_late() {
    in_every_way(async |world: &World| {
        world.sleep(HOUR).await;
        for (ago, text) in [(301, "late"), (300, "in time")] {
            world.writes_to(NUMBER, ANA, Written::from(text).ago(ago));
            world.settle().await;
        }
        let late: Vec<(String, bool)> = world.turns().iter().map(|it| (words(&it.content), it.late)).collect();
        assert_eq!(late, [("late".to_owned(), true), ("in time".to_owned(), false)]);
    })
    .await;
}

#[tokio::test]
async fn what_a_person_writes_in_the_business_app_is_kept_as_theirs_and_takes_the_conversation() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        world.settle().await;
        world.sleep(MINUTE).await;
        world.meta.person_writes(ANA, NUMBER, "Eva here, from my phone").expect("the customer is there");
        world.settle().await;
        world.sleep(MINUTE).await;
        world.writes(ANA, "hello Eva");
        world.settle().await;
        assert_eq!(world.words_told(), ["hello"]);
        assert_eq!(world.handlings(), [Answerer::Person]);
        assert_eq!(world.history(ANA).await[2], "< Eva here, from my phone (WhatsApp Business app, Accepted)");
        world.sleep(MINUTE).await;
        world.hand(ANA, false).await;
        world.sleep(MINUTE).await;
        world.writes(ANA, "bye");
        world.settle().await;
        assert_eq!(missed(&world.turns()[1]), ["> hello Eva"]);
    })
    .await;
}

#[tokio::test]
async fn a_late_echo_does_not_take_what_was_given_back_since() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        world.settle().await;
        world.sleep(MINUTE).await;
        world.meta.set_mode(Mode { delay_ms: 10 * 60_000, ..Mode::default() });
        world.meta.person_writes(ANA, NUMBER, "Eva here, from my phone").expect("the customer is there");
        world.meta.set_mode(Mode::default());
        world.sleep(MINUTE).await;
        world.hand(ANA, false).await;
        world.pass(MINUTE * 10).await;
        world.writes(ANA, "bye");
        world.settle().await;
        assert_eq!(world.words_told(), ["hello", "bye"]);
        assert_eq!(world.handlings(), [Answerer::Agent], "what a later word has overtaken is not told");
    })
    .await;
}

#[tokio::test]
async fn while_another_responder_has_the_thread_the_agent_hears_nothing_and_may_not_answer() {
    in_every_way(async |world: &World| {
        world.writes(ANA, "hello");
        world.settle().await;
        world.sleep(MINUTE).await;
        world.writes_to(NUMBER, ANA, Written::from("to the other one").on_standby());
        world.settle().await;
        assert_eq!(world.words_told(), ["hello"]);
        world.sends(&answer(&world.turns()[0], 1, "I say")).await;
        world.settle().await;
        let refused = &world.refusals()[0];
        assert_eq!(refused.code, "handled_elsewhere");
        assert_eq!(refused.note, "Another app answers this customer now. Wait until control is passed or the customer writes to us again.");
        world.sends(&world.of_person(&world.conversation(ANA).await.id, "Eva here", 1)).await;
        world.settle().await;
        world.sleep(SECOND).await;
        world.hand(ANA, false).await;
        assert_eq!(world.screen(ANA).last().map(String::as_str), Some("< Eva here"), "a person may answer all the same");
        world.sleep(MINUTE).await;
        world.writes(ANA, "to you again");
        world.settle().await;
        assert_eq!(world.words_told(), ["hello", "to you again"]);
        assert_eq!(world.screen(ANA).last().map(String::as_str), Some("< You said: to you again"));
    })
    .await;
}

#[tokio::test]
async fn control_that_is_taken_and_passed_silences_the_agent_and_gives_it_its_voice_back() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.settle().await;
        let conversation = world.conversation(ANA).await.id;
        for (serial, kind) in [(1, "control_taken"), (2, "control_passed"), (3, "control_taken")] {
            world.sleep(MINUTE).await;
            world.meta.hand_over(ANA, NUMBER, kind).expect("the customer is there");
            world.settle().await;
            world.sends(&world.of_agent(&conversation, kind, serial)).await;
            world.settle().await;
        }
        assert_eq!(world.screen(ANA), ["> hello", "< control_passed"]);
        assert_eq!(world.codes(), ["handled_elsewhere", "handled_elsewhere"]);
    })
    .await;
}

#[tokio::test]
async fn of_two_words_on_control_the_one_with_the_later_time_of_metas_wins() {
    in_every_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.settle().await;
        world.sleep(MINUTE).await;
        world.meta.set_mode(Mode { delay_ms: 60_000, ..Mode::default() });
        world.meta.hand_over(ANA, NUMBER, "control_taken").expect("the customer is there");
        world.meta.set_mode(Mode::default());
        world.sleep(SECOND * 10).await;
        world.meta.hand_over(ANA, NUMBER, "control_passed").expect("the customer is there");
        world.settle().await;
        world.pass(MINUTE * 2).await;
        world.sends(&world.of_agent(&world.conversation(ANA).await.id, "mine again", 1)).await;
        world.settle().await;
        assert_eq!(world.screen(ANA), ["> hello", "< mine again"]);
    })
    .await;
}
