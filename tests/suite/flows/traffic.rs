//! The lifecycle under traffic: a token dies, a person stops and starts, and all the while customers write, an agent answers and a campaign
//! runs. Judged by Meta's books: what was sent, how often, in which order, and when.

use channel::jobs::Turn;
use domain::connection::State;
use domain::refusal::Retry;
use domain::time::Timestamp;
use meta_sim::Token;
use serde_json::json;
use world::mapping::Freely;
use world::story::{ACCESS_TOKEN, ANA, APP, NUMBER, WABA, World, answer, connection_id, words};

use super::{MINUTE, SECOND};
use crate::in_each_way;

/// Customers who write all the time.
const WRITERS: [&str; 3] = ["34600700001", "34600700002", "34600700003"];

/// Whom the campaign writes to first.
fn phone(serial: u32) -> String {
    format!("3461{serial:07}")
}

/// What has arrived on a customer's phone, in order.
fn received(world: &World, who: &str) -> Vec<String> {
    world.meta.received(who).into_iter().map(|it| it.text.unwrap_or_default()).collect()
}

/// The words of a customer's turns and whether they came late, in the order in which they were told.
fn told(world: &World, who: &str) -> Vec<(String, bool)> {
    let turns = world.turns();
    let of_customer = |it: &&Turn| it.customer.phone().is_some_and(|it| it.digits() == who);
    turns.iter().filter(of_customer).map(|it| (words(&it.content), it.late)).collect()
}

/// A person does this to the connection through the API.
async fn asks(world: &World, what: &str) {
    let (status, body) = world.api("POST", &format!("/v1/connections/demo/{what}"), None).await;
    assert_eq!(status, 202, "{what}: {body}");
}

/// A person has Meta make another token, and enters it through the API.
async fn enters_another_token(world: &World) {
    const ONE: &str = "/v1/connections/demo";
    world.meta.put_token(Token::new("second-token-0123", APP, &[WABA]));
    let read = world.api_of("demo", "GET", ONE, &[], None).await;
    let version = read.headers["etag"].to_str().expect("text");
    let change = json!({ "access_token": "second-token-0123" });
    let edited = world.api_of("demo", "PATCH", ONE, &[("if-match", version)], Some(change)).await;
    assert_eq!(edited.status, 200, "{edited:?}");
}

/// The minutes in which the campaign has a job: few, since in a world that is stepped each job that waits naps by itself.
const CAMPAIGN: [u32; 3] = [0, 3, 11];

/// Each of the writers writes this, and the campaign may have a job.
async fn comes_in(world: &World, minute: u32) {
    for who in WRITERS {
        world.writes(who, &minute.to_string());
    }
    if CAMPAIGN.contains(&minute) {
        world.campaigns(&world.offer(&phone(minute), minute)).await;
    }
}

/// Lets time pass until then. Whoever waits for a slot naps, which takes time too.
async fn reaches(world: &World, at: Timestamp) {
    world.pass(at.since(world.now())).await;
}

#[tokio::test]
async fn a_token_dies_under_traffic_and_with_the_next_one_everything_goes_out_once_and_in_order() {
    in_each_way(async |world: &World| {
        for minute in 0..3 {
            comes_in(world, minute).await;
            world.pass(MINUTE).await;
        }
        let before = world.accepted();
        assert_eq!(before, (1, 10), "nine answers and a template");
        // It dies while answers are on their way.
        comes_in(world, 3).await;
        let (died_at, mut wrote_at) = (world.now(), Vec::new());
        world.hears_meta().await;
        assert!(world.meta.expire_token(ACCESS_TOKEN));
        world.pass(SECOND * 10).await;
        assert_eq!(world.state(&connection_id()).await, State::Error);
        let asked = world.meta.requests().begun;
        for minute in 4..10 {
            reaches(world, died_at.plus(MINUTE * (minute - 3))).await;
            wrote_at.push(world.now());
            comes_in(world, minute).await;
            for (writer, who) in (0..).zip(WRITERS) {
                let conversation = world.conversation(who).await.id;
                world.sends(&world.of_agent(&conversation, &format!("news {minute}"), 100 * minute + writer)).await;
            }
            world.pass(MINUTE).await;
        }
        assert_eq!((world.accepted(), world.meta.requests().begun), (before, asked), "nothing is sent, and Meta is asked for nothing");
        assert_eq!(world.codes(), [""; 0], "nothing is refused: it waits");

        let started_at = world.now();
        enters_another_token(world).await;
        asks(world, "stop").await;
        asks(world, "start").await;
        world.pass(MINUTE * 5).await;
        assert_eq!(world.state(&connection_id()).await, State::Running, "{:?}", world.logs(&connection_id()).await);
        for minute in 10..12 {
            comes_in(world, minute).await;
            world.pass(MINUTE).await;
        }

        let says = |minute: u32| format!("You said: {minute}");
        // What was accepted first goes out first: the answer that the dead token held up, what was said meanwhile, what is owed.
        let expected: Vec<String> = (0..4).map(says).chain((4..10).map(|it| format!("news {it}"))).chain((4..12).map(says)).collect();
        let mut turns: Vec<(String, bool)> = (0..12).map(|it: u32| (it.to_string(), false)).collect();
        wrote_at.iter().zip(&mut turns[4..10]).for_each(|(at, turn)| turn.1 = started_at.since(*at) > MINUTE * 5);
        assert!(turns[4].1 && !turns[9].1, "some come late, and some do not");
        for who in WRITERS {
            assert_eq!(received(world, who), expected, "{who}");
            assert_eq!(told(world, who), turns, "{who}");
        }
        for minute in CAMPAIGN {
            assert_eq!(world.meta.received(&phone(minute)).len(), 1, "the template of minute {minute}");
        }
        assert_eq!(world.accepted(), (1, 3 * expected.len() + CAMPAIGN.len()));
        assert_eq!((world.codes(), world.webhooks_refused()), (vec![], 0));
    })
    .await;
}

/// So many jobs of a campaign wait while the connection is stopped.
const JOBS: u32 = 300;

/// A campaign is stopped in its middle by `stops`, and goes on after `starts` less than a minute later. Meanwhile customers write, and more is
/// to be said to them.
async fn goes_on_after(trouble: Option<u64>, stops: impl AsyncFn(&World), starts: impl AsyncFn(&World)) {
    let world = World::new().await;
    world.agent_is_silent();
    for who in WRITERS {
        world.writes(who, "hello");
    }
    world.settle().await;
    world.agent_answers(|turn| vec![answer(turn, 0, &format!("You said: {}", words(&turn.content)))]);
    world.queue_up((0..JOBS).map(|it| world.offer(&phone(it), it)));
    let freely = Freely { workers: 50, trouble };
    let second = async |seconds: i64| world.clock.until(world.clock.now_ms() + seconds * 1_000).await;
    let story = async {
        second(1).await;
        stops(&world).await;
        // Whoever sends or hands over remembers a connection for five seconds.
        second(6).await;
        let stopped_ms = world.clock.now_ms();
        assert_ne!(world.state(&connection_id()).await, State::Running);
        for round in 0..5 {
            for (writer, who) in (0..).zip(WRITERS) {
                let conversation = world.conversation(who).await.id;
                world.sends(&world.of_agent(&conversation, &format!("news {round}"), JOBS + 10 * round + writer)).await;
                world.writes(who, &round.to_string());
            }
            second(8).await;
        }
        let started_ms = world.clock.now_ms();
        starts(&world).await;
        second(1).await;
        while world.meta.all_received().len() < JOBS as usize + WRITERS.len() {
            second(5).await;
        }
        stopped_ms..started_ms
    };
    let meanwhile = world.run_until(freely, story).await;
    world.run_out(freely).await;

    let sent = world.meta.all_received();
    let before = sent.values().flatten().filter(|it| it.at_ms < meanwhile.start).count();
    println!("{before} were sent before the stop");
    assert!((50..250).contains(&before), "the stop is in the middle of the campaign");
    assert_eq!(sent.values().flatten().filter(|it| meanwhile.contains(&it.at_ms)).count(), 0, "nothing is sent meanwhile");
    let unreached: Vec<String> = (0..JOBS).map(phone).filter(|it| sent.get(it).map(Vec::len) != Some(1)).collect();
    assert_eq!(unreached, [""; 0], "each template once");
    let rounds = |what: &str| (0..5).map(|it: u32| format!("{what}{it}")).collect::<Vec<_>>();
    for who in WRITERS {
        assert_eq!(received(&world, who), [rounds("news "), rounds("You said: ")].concat(), "{who}");
        let words: Vec<String> = told(&world, who).into_iter().map(|it| it.0).collect();
        assert_eq!(words, [vec!["hello".to_owned()], rounds("")].concat(), "{who}");
    }
    assert_eq!((world.accepted().0, world.codes()), (1, vec![]));
}

#[tokio::test]
async fn a_stop_and_a_start_within_a_minute_send_everything_that_waited_once_and_in_order() {
    goes_on_after(None, async |world| asks(world, "stop").await, async |world| asks(world, "start").await).await;
}

#[tokio::test]
async fn a_campaign_whose_token_dies_goes_on_with_the_next_one_and_reaches_everybody_once() {
    let dies = async |world: &World| assert!(world.meta.expire_token(ACCESS_TOKEN));
    let goes_on = async |world: &World| {
        enters_another_token(world).await;
        asks(world, "stop").await;
        asks(world, "start").await;
    };
    goes_on_after(Some(1), dies, goes_on).await;
}

#[tokio::test]
async fn a_stop_of_eleven_minutes_refuses_what_waited_and_hands_over_what_came_in() {
    in_each_way(async |world: &World| {
        world.agent_is_silent();
        world.writes(ANA, "hello");
        world.settle().await;
        asks(world, "stop").await;
        world.pass(SECOND * 6).await;
        let conversation = world.conversation(ANA).await.id;
        for serial in 0..3 {
            world.sends(&world.of_agent(&conversation, &format!("news {serial}"), serial)).await;
            world.writes(ANA, &serial.to_string());
            world.settle().await;
            world.sleep(SECOND * 2).await;
        }
        for serial in 10..30 {
            world.campaigns(&world.offer(&phone(serial), serial)).await;
        }
        world.pass(MINUTE * 11).await;
        let refused: Vec<(String, Retry)> = world.refusals().into_iter().map(|it| (it.code, it.retry)).collect();
        assert_eq!(refused, vec![("not_running".to_owned(), Retry::Fix); 23], "each is told, and what to do");
        assert_eq!(world.accepted(), (0, 0));
        asks(world, "start").await;
        world.pass(MINUTE).await;
        assert_eq!(told(world, ANA)[1..], ["0", "1", "2"].map(|it| (it.to_owned(), true)));
        assert_eq!(world.accepted(), (0, 0), "what was refused is for people to send again");
        world.sends(&answer(&world.turns()[1], 0, "here we are")).await;
        world.pass(MINUTE).await;
        assert_eq!(received(world, ANA), ["here we are"]);
        assert_eq!(world.meta.phone(ANA).screen().iter().filter(|it| it.number == NUMBER).count(), 5);
    })
    .await;
}
