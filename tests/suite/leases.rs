//! Places and slots are shared out over the real engine: whoever asks at once, nobody gets another's.

use std::collections::BTreeSet;
use std::time::Duration;

use channel::leases::{HORIZON, Leases};
use domain::ids::NumberId;
use domain::rotation::Pace;
use domain::time::Timestamp;
use futures::future::join_all;
use world::story::{NUMBER, World, connection_id};

fn number() -> NumberId {
    NumberId::parse(NUMBER).expect("an id")
}

/// What so many containers get that ask for slots at once.
async fn asked(world: &World, containers: usize, wanted: usize, pace: Pace) -> Vec<Timestamp> {
    let (number, now) = (number(), world.now());
    let all =
        (0..containers).map(|_| async { Leases::new().slots(&world.store, &number, pace, wanted, now).await.expect("the store answers") });
    let mut slots: Vec<Timestamp> = join_all(all).await.concat();
    slots.sort();
    slots
}

#[tokio::test]
async fn of_a_hundred_who_ask_at_once_nobody_gets_anothers_place() {
    let world = World::new().await;
    let connection = connection_id();
    let all = (0..100).map(|it| {
        let (store, connection) = (&world.store, &connection);
        async move { Leases::new().places(store, connection, 1 + it % 5).await.expect("the store answers") }
    });
    let places: Vec<u64> = join_all(all).await.concat();
    assert_eq!(places.len(), 300);
    assert_eq!(places.into_iter().collect::<BTreeSet<u64>>(), (0..300).collect());
}

#[tokio::test]
async fn what_a_container_did_not_use_it_uses_first() {
    let world = World::new().await;
    let (leases, connection) = (Leases::new(), connection_id());
    let places = leases.places(&world.store, &connection, 3).await.expect("the store answers");
    assert_eq!(places, [0, 1, 2]);
    leases.give_back(&connection, 2);
    leases.give_back(&connection, 0);
    assert_eq!(leases.unused(), 2);
    assert_eq!(leases.places(&world.store, &connection, 4).await.expect("the store answers"), [0, 2, 3, 4]);
    assert_eq!(leases.unused(), 0);
}

#[tokio::test]
async fn a_number_is_never_asked_for_more_than_its_pace() {
    let world = World::new().await;
    let pace = Pace::new(80, 0.75);
    let slots = asked(&world, 60, 25, pace).await;
    assert!(slots.len() <= 120, "two seconds of sixty are no more than {}", slots.len());
    assert!(slots.len() >= 100, "and hardly fewer: {}", slots.len());
    assert!(slots.windows(2).all(|it| it[1].since(it[0]) >= Duration::from_millis(16)), "{slots:?}");
    assert!(slots.iter().all(|it| *it >= world.now() && *it <= world.now().plus(HORIZON)));
    // All is given away; as time passes, so many more come free.
    assert!(asked(&world, 5, 25, pace).await.len() <= 20);
    world.clock.advance(HORIZON);
    assert!(!asked(&world, 1, 25, pace).await.is_empty());
}

#[tokio::test]
async fn a_slow_number_gives_a_batch_only_what_fits() {
    let world = World::new().await;
    // Twenty-five slots of it would take seven seconds.
    assert_eq!(asked(&world, 1, 25, Pace::new(5, 0.75)).await.len(), 8);
    assert_eq!(asked(&world, 3, 25, Pace::new(5, 0.75)).await.len(), 0);
}

#[tokio::test]
async fn a_pause_holds_for_everybody() {
    let world = World::new().await;
    let (leases, number, pace) = (Leases::new(), number(), Pace::new(80, 0.75));
    // Others have booked all that the horizon holds, so the pause follows on that.
    let booked = asked(&world, 10, 25, pace).await;
    let last = booked.last().expect("some").plus(Duration::from_millis(1));
    let until = world.now().plus(Duration::from_secs(1));
    leases.pause(&world.store, &number, until).await.expect("the store answers");
    assert!(leases.is_paused(&number, world.now()) && !leases.is_paused(&number, until), "slots from before are void here");
    // One that ends earlier brings nothing forward.
    leases.pause(&world.store, &number, world.now()).await.expect("the store answers");
    world.clock.advance(HORIZON);
    let slots = asked(&world, 2, 5, pace).await;
    assert!(last < until.plus(HORIZON) && slots.len() == 10 && slots.iter().all(|it| *it >= until.plus(HORIZON)), "{slots:?}");
}
