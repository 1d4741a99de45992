//! Several connections, tenants and agents: each sees its own and nothing else.

use channel::connections::NewConnection;
use channel::jobs::Author;
use channel::vault::Secret;
use domain::ids::{AgentId, AppId, ConnectionId, NumberId, TenantId, WabaId};
use meta_sim::{Account, App, Number, Token};
use world::story::{ANA, APP_SECRET, NUMBER, World, answer, demo, reply, words};

use super::MINUTE;
use crate::in_every_way;

pub(super) const THEIR_NUMBER: &str = "100000000000009";
const THEIR_APP: &str = "200000000000009";
const THEIR_WABA: &str = "300000000000009";

fn their_connection() -> ConnectionId {
    ConnectionId::parse("theirs").expect("an id")
}

/// A second connection, of another tenant, with an app, an account, a number and, if named, an agent of its own.
pub(super) async fn neighbour(world: &World, agent: Option<&str>) {
    world.meta.put_app(App::new(THEIR_APP, "their-secret"));
    world.meta.put_account(Account::new(THEIR_WABA, THEIR_APP));
    world.meta.put_number(Number::new(THEIR_NUMBER, THEIR_WABA, "+1 555-010-0009"));
    world.meta.put_token(Token::new("their-token", THEIR_APP, &[THEIR_WABA]));
    let theirs = NewConnection {
        id: their_connection(),
        tenant: TenantId::parse("neighbour").expect("an id"),
        name: "Theirs".to_owned(),
        app: AppId::parse(THEIR_APP).expect("an id"),
        app_secret: Secret::new("their-secret"),
        verify_token: Secret::new("their-verify-token"),
        waba: WabaId::parse(THEIR_WABA).expect("an id"),
        numbers: vec![NumberId::parse(THEIR_NUMBER).expect("an id")],
        access_token: Secret::new("their-token"),
        agent: agent.map(|it| AgentId::parse(it).expect("an id")),
    };
    assert!(world.install(&theirs).await, "nothing of it is there yet");
}

#[tokio::test]
async fn one_customer_of_two_connections_has_two_conversations_each_with_its_own_agent() {
    in_every_way(async |world: &World| {
        neighbour(world, Some("their-agent")).await;
        world.agent_answers(|turn| vec![answer(turn, 0, &format!("{} heard: {}", turn.agent, words(&turn.content)))]);
        world.writes(ANA, "to you");
        world.settle().await;
        world.writes_to(THEIR_NUMBER, ANA, "to them");
        world.settle().await;
        let turns = world.turns();
        let mut told: Vec<(String, String, String)> =
            turns.iter().map(|it| (it.tenant.to_string(), it.agent.to_string(), words(&it.content))).collect();
        told.sort();
        let expected = [("demo", "example", "to you"), ("neighbour", "their-agent", "to them")];
        assert_eq!(told, expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())));
        assert_ne!(turns[0].conversation, turns[1].conversation);
        let ours: Vec<(String, String)> = world
            .meta
            .phone(ANA)
            .screen()
            .into_iter()
            .filter(|it| it.from == meta_sim::Author::Business)
            .map(|it| (it.number, it.text.unwrap_or_default()))
            .collect();
        assert!(ours.contains(&(NUMBER.to_owned(), "example heard: to you".to_owned())), "{ours:?}");
        assert!(ours.contains(&(THEIR_NUMBER.to_owned(), "their-agent heard: to them".to_owned())), "{ours:?}");
    })
    .await;
}

#[tokio::test]
async fn an_agent_cannot_send_through_a_connection_or_into_a_conversation_of_others() {
    in_every_way(async |world: &World| {
        neighbour(world, Some("their-agent")).await;
        world.agent_is_silent();
        world.writes_to(THEIR_NUMBER, ANA, "to them");
        world.settle().await;
        let theirs = world.turns()[0].conversation.clone();
        // Through their connection, as our agent.
        let mut intrudes = world.of_agent(&theirs, "I am in", 1);
        intrudes.connection = their_connection();
        world.sends(&intrudes).await;
        // Through ours, into their conversation.
        world.sends(&world.of_agent(&theirs, "I am in", 2)).await;
        world.settle().await;
        let mut codes = world.codes();
        codes.sort();
        assert_eq!(codes, ["not_attached", "unknown_conversation"]);
        assert_eq!(world.screen(ANA), ["> to them"]);
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_stops_stops_nobody_else() {
    in_every_way(async |world: &World| {
        neighbour(world, Some("their-agent")).await;
        world.stop().await;
        world.writes(ANA, "to you");
        world.writes_to(THEIR_NUMBER, ANA, "to them");
        world.settle().await;
        assert_eq!(world.words_told(), ["to them"]);
        let screen = world.screen(ANA);
        assert_eq!(screen.iter().filter(|it| it.starts_with('<')).collect::<Vec<_>>(), ["< You said: to them"]);
        world.run().await;
        world.walk().await;
        world.settle().await;
        assert_eq!(world.words_told(), ["to them", "to you"]);
    })
    .await;
}

#[tokio::test]
async fn a_person_who_takes_one_conversation_takes_no_other() {
    in_every_way(async |world: &World| {
        for who in [ANA, "34600333444"] {
            world.writes(who, "hello");
            world.settle().await;
        }
        world.hand(ANA, true).await;
        world.sleep(MINUTE).await;
        for who in [ANA, "34600333444"] {
            world.writes(who, "and now?");
            world.settle().await;
        }
        assert_eq!(world.told_of(ANA).await, ["hello"]);
        assert_eq!(world.told_of("34600333444").await, ["hello", "and now?"]);
    })
    .await;
}

#[tokio::test]
async fn without_an_agent_messages_are_kept_for_people_who_may_answer() {
    in_every_way(async |world: &World| {
        neighbour(world, None).await;
        world.writes_to(THEIR_NUMBER, ANA, "is anybody there?");
        world.settle().await;
        assert_eq!(world.words_told(), [""; 0]);
        let kept = world.events().into_iter().find_map(|it| match it.what {
            channel::jobs::Happened::MessageKept { conversation, .. } => Some(conversation),
            _ => None,
        });
        let mut by_person = reply(&kept.expect("the feed tells of it"), Author::Person("Eva".to_owned()), "I am");
        by_person.connection = their_connection();
        by_person.id = Some(world.job_id(1));
        world.sends(&by_person).await;
        world.settle().await;
        assert_eq!(world.screen(ANA), ["> is anybody there?", "< I am"]);
    })
    .await;
}

#[tokio::test]
async fn an_agent_with_inbound_off_may_only_send() {
    in_every_way(async |world: &World| {
        let sender = AgentId::parse("sender").expect("an id");
        world.attaches_sender(&sender).await;
        world.writes(ANA, "hello");
        world.settle().await;
        assert!(world.turns().iter().all(|it| it.agent.as_str() == "example"));
        let mut by_sender = world.of_agent(&world.conversation(ANA).await.id, "by the way", 1);
        by_sender.author = Author::Agent(sender);
        world.sends(&by_sender).await;
        world.settle().await;
        assert_eq!(world.screen(ANA), ["> hello", "< You said: hello", "< by the way"]);
    })
    .await;
}

#[tokio::test]
async fn a_webhook_that_one_app_signs_for_anothers_number_is_dropped() {
    in_every_way(async |world: &World| {
        neighbour(world, Some("their-agent")).await;
        world.writes_to(THEIR_NUMBER, ANA, "to them");
        let due = world.meta.take_webhooks();
        for webhook in &due {
            let signature = meta_sim::signature(APP_SECRET, &webhook.body);
            let path = format!("/webhooks/{}", demo().app);
            assert_eq!(world.post_bytes(&path, &webhook.body, Some(&signature)).await, 200);
        }
        world.settle().await;
        assert_eq!(world.words_told(), [""; 0], "our app may not speak for their number");
        for webhook in &due {
            assert_eq!(world.post(webhook).await, 200);
            world.meta.answered(webhook.id, 200);
        }
        world.settle().await;
        assert_eq!(world.words_told(), ["to them"]);
    })
    .await;
}
