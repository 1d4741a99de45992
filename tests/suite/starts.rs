//! Races of starts: a person stops, edits or starts anew while a check with Meta is under way, and two connections start at once that want
//! the same. Each order stops whoever runs before each call about a connection, a number or an app.

use std::collections::BTreeSet;
use std::time::Duration;

use channel::agents::{self, AgentEdit, Attached};
use channel::connections::{self, ConnectionDraft, ConnectionEdit, Edited, StartOptions, Started};
use channel::people;
use channel::store::NumberItem;
use channel::vault::Secret;
use domain::connection::State;
use domain::customer::{Customer, Phone};
use domain::ids::{AgentId, AppId, ConnectionId, NumberId, TenantId};
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
const RIVALS_NUMBER: &str = "100000000000008";
const RIVALS_APP: &str = "200000000000008";
const RIVALS_WABA: &str = "300000000000008";
const RIVALS_SECRET: &str = "rivals-app-secret-0123";
const RIVALS_TOKEN: &str = "rivals-access-token-0123";
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
        message_days: None,
        file_days: None,
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
    let mut tries = 0;
    loop {
        let edited = connections::edit((&world.store, &world.queues, &vault()), (&tenant("acme"), id), None, edit, world.now()).await;
        match edited.expect("the store answers") {
            Edited::Done(_) => return,
            // A check has written meanwhile: a person reads it again.
            Edited::Moved if tries < 9 => tries += 1,
            other => panic!("{other:?}"),
        }
    }
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

#[tokio::test]
async fn a_secret_that_is_entered_beside_a_check_is_never_lost() {
    beside_a_check(async |world: &World, id, choose, order| {
        let edit = ConnectionEdit { app_secret: Some(Secret::new("their-new-app-secret")), ..ConnectionEdit::default() };
        let person = async {
            edits(world, id, &edit).await;
            let app = world.meta.app(THEIR_APP).expect("there");
            world.meta.put_app(App { secret: "their-new-app-secret".to_owned(), ..app });
        };
        world.race_over_connections(vec![health(world), person.boxed_local()], choose).await;
        world.pass(MINUTE).await;
        // What came after the check waits for the next start.
        stops(world, id).await;
        world.pass(SECOND).await;
        starts(world, id).await;
        world.pass(MINUTE).await;
        assert_eq!(world.state(id).await, State::Running, "{order}: {:?}", world.logs(id).await);
        let (path, body) = (format!("/webhooks/{THEIR_APP}"), b"{}");
        let signature = meta_sim::signature("their-new-app-secret", body);
        assert_eq!(world.post_bytes(&path, body, Some(&signature)).await, 200, "{order}: it is the app's");
    })
    .await;
}

#[tokio::test]
async fn the_numbers_follow_the_agent_with_inbound_whoever_comes_or_goes_beside_a_check() {
    let (one, other) = (AgentId::parse("one").expect("an id"), AgentId::parse("other").expect("an id"));
    for is_there_before in [false, true] {
        beside_a_check(async |world: &World, id, choose, order| {
            let connection = world.store.connection(id).await.expect("answers").expect("there").connection;
            let attach = async |agent: &AgentId| {
                let connection = world.store.connection(id).await.expect("answers").expect("there").connection;
                let handles = (&world.store, &world.queues, &vault());
                agents::attach(handles, (&connection, agent), &AgentEdit::default(), false, world.now()).await.expect("the store answers")
            };
            if is_there_before {
                attach(&one).await;
            }
            let person = async {
                match is_there_before {
                    true => drop(agents::detach(&world.store, &connection, &one, world.now()).await.expect("the store answers")),
                    false => drop(attach(&one).await),
                }
            };
            world.race_over_connections(vec![health(world), person.boxed_local()], choose).await;
            world.pass(MINUTE).await;
            assert_eq!(world.state(id).await, State::Running, "{order}");
            let agent = number(world, THEIR_NUMBER).await.expect("it is claimed").agent;
            assert_eq!(agent, (!is_there_before).then(|| one.clone()), "{order}");
            let attached = attach(&other).await;
            assert_eq!(matches!(attached, Attached::Done(_)), is_there_before, "{order}: {attached:?}");
            world.settle().await;
        })
        .await;
    }
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
    assert_eq!(number(world, THEIR_NUMBER).await.map(|it| it.connection), Some(id.clone()), "{place}: the number is its own");
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
            world.pass(MINUTE).await;
            assert_eq!(world.state(&id).await, State::Running, "call {call} to Meta, done: {is_done}: it is asked again at once");
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

/// Assets of another tenant at Meta, with a token that was made for this app and covers this account.
fn rivals_assets(world: &World, app: &str, waba: &str) {
    world.meta.put_app(App::new(RIVALS_APP, RIVALS_SECRET));
    world.meta.put_account(Account::new(RIVALS_WABA, RIVALS_APP));
    world.meta.put_number(Number::new(RIVALS_NUMBER, RIVALS_WABA, "+1 555-010-0008"));
    world.meta.put_token(Token::new(RIVALS_TOKEN, app, &[waba]));
}

/// The other tenant enters this app, with this secret, and this account; its only number is adopted.
async fn rival_enters(world: &World, (app, app_secret): (&str, &str), waba: &str) -> ConnectionId {
    let entered = ConnectionDraft {
        tenant: tenant("rival"),
        name: "Rival".to_owned(),
        app: app.to_owned(),
        app_secret: Some(Secret::new(app_secret)),
        access_token: Some(Secret::new(RIVALS_TOKEN)),
        waba: waba.to_owned(),
        ..draft()
    };
    created(world, &entered).await
}

/// Whose a number is, as it is kept.
async fn number(world: &World, id: &str) -> Option<NumberItem> {
    world.store.number(&NumberId::parse(id).expect("an id"), true).await.expect("the store answers")
}

/// What is kept of a number and of the app that both want, as text.
async fn held(world: &World) -> String {
    let app = world.store.app(&AppId::parse(THEIR_APP).expect("an id")).await.expect("the store answers");
    format!("{:?} {app:?}", number(world, THEIR_NUMBER).await)
}

/// Its last start was refused, and why says nothing of who has what it wants.
async fn was_refused_without_a_name(world: &World, id: &ConnectionId, others: &ConnectionId, order: &str) {
    assert_eq!(world.state(id).await, State::Error, "{order}");
    for line in world.logs(id).await {
        let line = line.to_lowercase();
        assert!(!["acme", "rival", &others.to_string().to_lowercase()].iter().any(|it| line.contains(it)), "{order}: {line}");
    }
}

/// Two tenants start at once and want the same: one has it, in every order, and keeps it whatever the other tries.
async fn one_of_two_has_it(app: (&str, &str), waba: &str) {
    let mut winners = BTreeSet::new();
    beside_a_check(async |world: &World, id, choose, order| {
        rivals_assets(world, app.0, waba);
        let rival = rival_enters(world, app, waba).await;
        let starts_too = async {
            starts(world, &rival).await;
            world.hands_over("ProbesQueue").await;
        };
        world.race_over_connections(vec![health(world), starts_too.boxed_local()], choose).await;
        world.pass(MINUTE).await;
        let has_won = world.state(id).await == State::Running;
        let (winner, loser) = if has_won { (id, &rival) } else { (&rival, id) };
        assert_eq!(world.state(winner).await, State::Running, "{order}: one of them runs");
        was_refused_without_a_name(world, loser, winner, order).await;
        winners.insert(has_won);
        let before = held(world).await;
        starts(world, loser).await;
        world.pass(MINUTE).await;
        was_refused_without_a_name(world, loser, winner, order).await;
        assert_eq!(held(world).await, before, "{order}: nothing changed for its holder");
        // All or nothing: whoever lost has no number of its own either.
        for it in [THEIR_NUMBER, RIVALS_NUMBER] {
            assert!(number(world, it).await.is_none_or(|it| it.connection == *winner), "{order}: {it}");
        }
        let app = world.store.connection(winner).await.expect("the store answers").expect("there").connection.app.expect("entered");
        let secret = if app.as_str() == THEIR_APP { THEIR_SECRET } else { RIVALS_SECRET };
        let signature = meta_sim::signature(secret, b"{}");
        assert_eq!(world.post_bytes(&format!("/webhooks/{app}"), b"{}", Some(&signature)).await, 200, "{order}: the winner's webhooks");
    })
    .await;
    assert_eq!(winners.len(), 2, "both may win");
}

#[tokio::test]
async fn of_two_tenants_that_start_at_once_with_one_app_one_has_it_and_the_other_is_told_of_nobody() {
    one_of_two_has_it((THEIR_APP, THEIR_SECRET), RIVALS_WABA).await;
}

#[tokio::test]
async fn of_two_tenants_that_start_at_once_with_one_number_one_has_it_and_the_other_is_told_of_nobody() {
    one_of_two_has_it((RIVALS_APP, RIVALS_SECRET), THEIR_WABA).await;
}

#[tokio::test]
async fn anothers_app_with_a_secret_of_ones_own_and_anothers_account_are_refused_whatever_the_order() {
    for (app, waba, token) in [(THEIR_APP, RIVALS_WABA, (THEIR_APP, RIVALS_WABA)), (RIVALS_APP, THEIR_WABA, (RIVALS_APP, RIVALS_WABA))] {
        beside_a_check(async |world: &World, id, choose, order| {
            rivals_assets(world, token.0, token.1);
            let rival = rival_enters(world, (app, RIVALS_SECRET), waba).await;
            let starts_too = async {
                starts(world, &rival).await;
                world.hands_over("ProbesQueue").await;
            };
            world.race_over_connections(vec![health(world), starts_too.boxed_local()], choose).await;
            was_refused_without_a_name(world, &rival, id, order).await;
            let place = format!("{order}, app {app}, account {waba}");
            has_started_whole(world, id, &place).await;
            assert_eq!(number(world, RIVALS_NUMBER).await, None, "{place}");
        })
        .await;
    }
}
