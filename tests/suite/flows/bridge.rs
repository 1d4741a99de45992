//! Agents that listen on HTTPS: what they are told, what becomes of what they answer, and of what they do not.

use channel::jobs::{EndpointState, Happened};
use serde_json::{Value, json};
use world::story::{ANA, AgentAnswer, HttpsAgent, World, connection_id, texts};

use super::{DAY, HOUR, MINUTE, SECOND};
use crate::{in_each_way, in_every_way};

const LUIS: &str = "34600333444";
const AGENT: &str = "/v1/connections/demo/agents/example";

/// What the feed told of the agent's endpoint.
fn told(world: &World) -> Vec<(EndpointState, Option<String>)> {
    let states = world.events().into_iter().filter_map(|it| match it.what {
        Happened::AgentEndpoint { state, code, .. } => Some((state, code)),
        _ => None,
    });
    states.collect()
}

/// The lines on the phone of a customer that are the business's.
fn answers(world: &World, who: &str) -> Vec<String> {
    world.screen(who).iter().filter_map(|it| it.strip_prefix("< ").map(str::to_owned)).collect()
}

/// Every request holds by the secret that the agent knows.
fn all_are_signed(agent: &HttpsAgent, secret: &str) -> bool {
    agent.asked().iter().all(|it| it.is_signed_with(secret))
}

#[tokio::test]
async fn an_agent_on_https_is_told_a_signed_turn_and_its_answer_goes_out_once() {
    in_every_way(async |world: &World| {
        let agent = world.agent_listens_on_https().await;
        agent.answers(|it| AgentAnswer::Says(200, texts(&[&format!("You said: {}", it.words()), "And now?"])));
        world.writes(ANA, "hello");
        world.settle().await;
        assert_eq!(answers(world, ANA), ["You said: hello", "And now?"]);
        let asked = agent.asked();
        assert!(asked.iter().all(|it| it.is_turn() && it.id == asked[0].id), "told again, it has the same id: {asked:?}");
        let turn = &asked[0].json()["data"];
        assert_eq!((&turn["agent"], &turn["connection"], &turn["late"]), (&json!("example"), &json!("demo"), &json!(false)));
        assert!(turn["turn"].as_str().is_some_and(|it| it.ends_with(&format!("/{}", asked[0].id))), "{turn}");
        let seconds: i64 = asked[0].timestamp.parse().expect("a number");
        assert_eq!(seconds, asked[0].at_ms / 1_000);
        assert_eq!(world.turns(), [], "nothing goes to the other agents' queue");
        assert_eq!(world.codes(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_says_nothing_is_asked_once_and_a_handover_or_a_mark_needs_no_words() {
    in_each_way(async |world: &World| {
        let agent = world.agent_listens_on_https().await;
        for silence in ["", " \n", "{}", r#"{"replies":[]}"#] {
            agent.says(if silence.is_empty() { 204 } else { 200 }, silence);
            world.writes(ANA, "hello");
            world.settle().await;
        }
        assert_eq!(agent.words().len(), 4);
        assert_eq!(answers(world, ANA), [""; 0]);
        agent.says(200, r#"{"replies":[{"handover":true}]}"#);
        world.writes(ANA, "a person, please");
        world.settle().await;
        assert!(world.conversation(ANA).await.has_person(world.now()));
        assert_eq!(world.codes(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn what_an_endpoint_does_not_take_is_told_again_in_order() {
    in_each_way(async |world: &World| {
        let agent = world.agent_listens_on_https().await;
        agent.says(500, "");
        world.writes(ANA, "one");
        world.settle().await;
        world.writes(ANA, "two");
        world.settle().await;
        assert_eq!(agent.words(), ["one"], "the second waits for the first");
        agent.says_back();
        world.pass(MINUTE).await;
        assert_eq!(agent.words(), ["one", "two"]);
        assert_eq!(answers(world, ANA), ["You said: one", "You said: two"]);
        assert_eq!(told(world), [], "a failure or two is nothing to tell");
        let attachment = world.attachment().await;
        assert_eq!((attachment.failures, attachment.down_since), (0, None), "they are forgotten");
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_goes_on_failing_is_down_until_it_answers_a_ping() {
    in_each_way(async |world: &World| {
        let agent = world.agent_listens_on_https().await;
        agent.says(503, "");
        world.writes(ANA, "one");
        world.settle().await;
        world.pass(MINUTE).await;
        assert_eq!(told(world), [(EndpointState::Down, Some("http_503".to_owned()))]);
        assert!(world.attachment().await.down_since.is_some());
        let asked = agent.turns().len();
        world.writes(ANA, "two");
        world.pass(MINUTE * 10).await;
        assert_eq!(agent.turns().len(), asked, "nothing is told to an endpoint that is down");
        assert!(agent.asked().len() > asked, "it is asked how it is");
        agent.says_back();
        world.pass(MINUTE * 20).await;
        assert_eq!(told(world).last(), Some(&(EndpointState::Up, None)));
        assert_eq!(told(world).len(), 2);
        assert_eq!(agent.words(), ["one", "two"]);
        assert_eq!(answers(world, ANA), ["You said: one", "You said: two"]);
        let late: Vec<Value> = agent.turns().iter().skip(asked).map(|it| it.json()["data"]["late"].clone()).collect();
        assert!(late.iter().all(|it| *it == json!(true)), "{late:?}");
        assert!(world.conversation(ANA).await.owed.is_none());
        let attachment = world.attachment().await;
        assert_eq!((attachment.failures, attachment.down_since, attachment.probed_at, attachment.up_since), (0, None, None, None));
        let logs = world.logs(&connection_id()).await;
        let of_agent: Vec<&String> = logs.iter().filter(|it| it.contains("turns")).collect();
        assert_eq!(of_agent.len(), 2, "{of_agent:?}");
        assert!(of_agent[1].contains("it answers with 503") && of_agent[0].contains("takes its turns again"), "{of_agent:?}");
        world.writes(ANA, "three");
        world.settle().await;
        assert_eq!(answers(world, ANA).last().map(String::as_str), Some("You said: three"));
    })
    .await;
}
