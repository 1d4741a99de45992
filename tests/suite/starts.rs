//! Races of starts: a person stops, edits or starts anew while a check with Meta is under way, and two connections start at once that want
//! the same. Each order stops whoever runs before each call about a connection, a number or an app.

use std::time::Duration;

use channel::connections::{self, ConnectionDraft, ConnectionEdit, Edited, StartOptions, Started};
use channel::people;
use channel::vault::Secret;
use domain::connection::State;
use domain::customer::{Customer, Phone};
use domain::ids::{ConnectionId, NumberId, TenantId};
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use meta_sim::{Account, App, Number, Token};
use serde_json::Value;
use world::orders::by_chance;
use world::story::{ANA, World, vault};
use world::wire::{Fault, Rule};

const THEIR_NUMBER: &str = "100000000000009";
const THEIR_APP: &str = "200000000000009";
const THEIR_WABA: &str = "300000000000009";
const THEIR_SECRET: &str = "their-app-secret-0123";
const THEIR_TOKEN: &str = "their-access-token-0123";
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).expect("an id")
}

/// An app, an account with one number, and a token at Meta.
fn assets(world: &World) {
    world.meta.put_app(App::new(THEIR_APP, THEIR_SECRET));
    let mut account = Account::new(THEIR_WABA, THEIR_APP);
    account.subscribed.clear();
    world.meta.put_account(account);
    world.meta.put_number(Number::new(THEIR_NUMBER, THEIR_WABA, "+1 555-010-0009"));
    world.meta.put_token(Token::new(THEIR_TOKEN, THEIR_APP, &[THEIR_WABA]));
}

/// What a person enters for them.
fn draft() -> ConnectionDraft {
    ConnectionDraft {
        tenant: tenant("acme"),
        name: "Acme".to_owned(),
        description: String::new(),
        app: THEIR_APP.to_owned(),
        app_secret: Some(Secret::new(THEIR_SECRET)),
        access_token: Some(Secret::new(THEIR_TOKEN)),
        numbers: Vec::new(),
        waba: THEIR_WABA.to_owned(),
        marketing_messages: false,
        utility_exempt: false,
    }
}

async fn created(world: &World, draft: &ConnectionDraft) -> ConnectionId {
    let made = connections::create(&world.store, &vault(), draft, world.now()).await.expect("the store answers");
    made.expect("the fields are good").connection.id
}

async fn stops(world: &World, id: &ConnectionId) {
    // A moment later than what a check has begun.
    let now = world.now().plus(Duration::from_millis(1));
    connections::stop(&world.store, &world.queues, id, now).await.expect("the store answers");
}

async fn edits(world: &World, id: &ConnectionId, edit: &ConnectionEdit) {
    let edited = connections::edit(&world.store, &vault(), (&tenant("acme"), id), None, edit, world.now()).await;
    assert!(matches!(edited.expect("the store answers"), Edited::Done(_)));
}

async fn starts(world: &World, id: &ConnectionId) {
    assert_eq!(world.starts(id, StartOptions::default()).await, Started::Starting);
}

/// What waits for `health` is looked at.
fn health(world: &World) -> LocalBoxFuture<'_, ()> {
    world.hands_over("ProbesQueue").boxed_local()
}

/// The states that the feed told of a connection, and when it was in each.
fn told(world: &World, id: &ConnectionId) -> Vec<(i64, String)> {
    let told = world.events().into_iter().filter(|it| it.connection == *id).map(|it| serde_json::to_value(it).expect("JSON"));
    let state = |it: Value| (it["at"].as_i64().expect("a time"), it["state"].as_str().expect("a state").to_owned());
    told.filter(|it| it["type"] == "connection.state").map(state).collect()
}

/// How many orders are tried by chance beside those in which what a person does is not interrupted.
const SEEDS: u64 = 40;

/// A world in which a check of a start is due, and its connection.
async fn being_started() -> (World, ConnectionId) {
    let world = World::new().await;
    assets(&world);
    let id = created(&world, &draft()).await;
    starts(&world, &id).await;
    world.clock.advance(SECOND * 10);
    (world, id)
}

/// Tells what happens beside a check: in one go after each of its calls in turn, then in orders by chance.
async fn beside_a_check(mut story: impl AsyncFnMut(&World, &ConnectionId, &mut dyn FnMut(usize) -> usize, &str)) {
    for place in 0.. {
        let (world, id) = being_started().await;
        let mut chosen = 0;
        let mut choose = |left: usize| {
            chosen += 1;
            left - 1 - usize::from(left == 2 && chosen <= place)
        };
        story(&world, &id, &mut choose, &format!("after {place} calls")).await;
        if chosen < place {
            println!("after each of {place} calls");
            break;
        }
    }
    for seed in 0..SEEDS {
        let (world, id) = being_started().await;
        story(&world, &id, &mut by_chance(seed), &format!("by chance, {seed}")).await;
    }
}

#[tokio::test]
async fn a_stop_beside_a_check_leaves_it_stopped_whatever_the_order() {
    beside_a_check(async |world: &World, id, choose, order| {
        world.race_over_connections(vec![health(world), stops(world, id).boxed_local()], choose).await;
        for _ in 0..2 {
            world.pass(MINUTE * 3).await;
            assert_eq!(world.state(id).await, State::Stopped, "{order}");
            world.schedule_all().await;
        }
        let mut states = told(world, id);
        states.sort_by_key(|it| it.0);
        let states: Vec<&str> = states.iter().map(|it| it.1.as_str()).collect();
        assert!(states == ["STARTING", "STOPPED"] || states == ["STARTING", "RUNNING", "STOPPED"], "{order}: {states:?}");
        let newest = &world.logs(id).await[0];
        assert!(newest.starts_with("STOPPED"), "{order}: {newest}");
        // And it can be started again.
        starts(world, id).await;
        world.pass(MINUTE).await;
        assert_eq!(world.state(id).await, State::Running, "{order}");
    })
    .await;
}

#[tokio::test]
async fn a_check_that_was_overtaken_by_another_start_decides_nothing() {
    beside_a_check(async |world: &World, id, choose, order| {
        let edit = ConnectionEdit { access_token: Some(Secret::new("a-token-that-nobody-made")), ..ConnectionEdit::default() };
        let person = async {
            stops(world, id).await;
            edits(world, id, &edit).await;
            world.clock.advance(SECOND);
            starts(world, id).await;
        };
        world.race_over_connections(vec![health(world), person.boxed_local()], choose).await;
        world.pass(MINUTE).await;
        assert_eq!(world.state(id).await, State::Error, "{order}: what was entered last is no token: {:?}", world.logs(id).await);
        let mut states = told(world, id);
        states.sort_by_key(|it| it.0);
        let last: Vec<&str> = states.iter().rev().take(2).map(|it| it.1.as_str()).collect();
        assert_eq!(last, ["ERROR", "STARTING"], "{order}: it never ran with it");
    })
    .await;
}

#[tokio::test]
async fn a_check_that_was_overtaken_leaves_the_secret_that_was_entered_since() {
    beside_a_check(async |world: &World, id, choose, order| {
        let edit = ConnectionEdit { app_secret: Some(Secret::new("their-new-app-secret")), ..ConnectionEdit::default() };
        let person = async {
            stops(world, id).await;
            let app = world.meta.app(THEIR_APP).expect("there");
            world.meta.put_app(App { secret: "their-new-app-secret".to_owned(), ..app });
            edits(world, id, &edit).await;
            world.clock.advance(SECOND);
            starts(world, id).await;
        };
        world.race_over_connections(vec![health(world), person.boxed_local()], choose).await;
        world.pass(MINUTE).await;
        assert_eq!(world.state(id).await, State::Running, "{order}: {:?}", world.logs(id).await);
        let (path, body) = (format!("/webhooks/{THEIR_APP}"), b"{}");
        let signature = meta_sim::signature("their-new-app-secret", body);
        assert_eq!(world.post_bytes(&path, body, Some(&signature)).await, 200, "{order}: it is the app's");
    })
    .await;
}

/// A start has done all that it does, once.
async fn has_started_whole(world: &World, id: &ConnectionId, place: &str) {
    world.pass(MINUTE * 3).await;
    // The schedule goes on with what a crash left.
    world.schedule_all().await;
    world.pass(MINUTE * 3).await;
    assert_eq!(world.state(id).await, State::Running, "{place}: {:?}", world.logs(id).await);
    let states: Vec<String> = told(world, id).into_iter().map(|it| it.1).collect();
    assert_eq!(states, ["STARTING", "RUNNING"], "{place}");
    let number = world.store.number(&NumberId::parse(THEIR_NUMBER).expect("an id"), true).await.expect("the store answers");
    assert_eq!(number.map(|it| it.connection), Some(id.clone()), "{place}: the number is its own");
    let stored = world.store.connection(id).await.expect("the store answers").expect("there");
    assert!(stored.pending_app_secret.is_none(), "{place}: the secret is the app's");
    assert_eq!(stored.connection.numbers.len(), 1, "{place}: the account's only number was adopted");
    assert!(world.meta.account(THEIR_WABA).expect("there").subscribed.contains_key(THEIR_APP), "{place}");
    let callback = world.meta.app(THEIR_APP).expect("there").callback.unwrap_or_default();
    assert!(callback.ends_with(&format!("/webhooks/{THEIR_APP}")), "{place}: {callback}");
    world.writes_to(THEIR_NUMBER, ANA, "hello");
    world.settle().await;
    assert_eq!((world.words_told().len(), world.webhooks_refused()), (0, 0), "{place}: it is kept for people");
    assert!(people::find(&world.store, id, &customer()).await.expect("the store answers").is_some(), "{place}: what comes in is kept");
}

fn customer() -> Customer {
    Customer::known_by(Phone::parse(ANA).ok(), None).expect("an address")
}

#[tokio::test]
async fn a_first_start_goes_on_wherever_metas_answer_is_lost() {
    for is_done in [false, true] {
        for call in 0.. {
            let world = World::new().await;
            assets(&world);
            let id = created(&world, &draft()).await;
            world.meta.cut_call(call, is_done);
            starts(&world, &id).await;
            world.pass(SECOND * 4).await;
            if world.meta.will_cut() {
                println!("{call} calls to Meta");
                // The secret, the token, the account, its numbers, who is subscribed, the subscription, the callback, its change.
                assert!(call >= 8);
                break;
            }
            has_started_whole(&world, &id, &format!("cut at call {call} to Meta, done: {is_done}")).await;
        }
    }
}

#[tokio::test]
async fn a_first_start_goes_on_wherever_it_dies() {
    for engine in ["DynamoDB", "SQS"] {
        for call in 0.. {
            let (world, id) = being_started().await;
            let faults = if engine == "SQS" { world.sqs.faults() } else { world.dynamo.faults() };
            faults.reset_calls();
            faults.add(Rule::every(Fault::CutAfter).by("health").after(call).times(1));
            has_started_whole(&world, &id, &format!("dead after call {call} to {engine}")).await;
            if faults.calls_by("health").values().sum::<u64>() <= call {
                println!("{call} calls to {engine}");
                break;
            }
        }
    }
}
