//! The second step, for all jobs of a batch together: numbers by the rotation, and their slots.

use std::collections::HashMap;
use std::time::Duration;

use domain::ids::{ConnectionId, NumberId};
use domain::rotation::{Candidate, Pace, number_at, rotating};
use domain::time::Timestamp;
use futures::future::join_all;

use crate::leases::counted;
use crate::redelivery::Retryable;
use crate::store::{NumberItem, StoreError};

use super::{Planned, Ready, Slot, Templates};

/// A batch in which nothing can be sent now rests for so long, so that polling slows.
const NAP: Duration = Duration::from_secs(10);

impl Templates<'_> {
    /// Gives each job its number and its slot, as far as there are any; a batch in which nothing can be sent now takes a nap.
    pub async fn plan(&self, ready: Vec<Ready>) -> Vec<Planned> {
        let now = self.clock.now();
        let mut places = self.places(&ready).await;
        let wishes: Vec<Option<(NumberId, Option<u64>)>> = ready
            .iter()
            .map(|it| {
                let usable = it.usable();
                if let Some(sender) = it.stored.conversation.sender_among(&usable) {
                    return Some((sender.clone(), None));
                }
                let place = places.get_mut(&it.known.connection.id)?.next()?;
                Some((number_at(place, &rotating_among(&it.numbers))?.clone(), Some(place)))
            })
            .collect();
        let mut slots = self.slots(&ready, &wishes, now).await;
        let planned: Vec<Planned> = ready
            .into_iter()
            .zip(wishes)
            .map(|(ready, wish)| {
                let slot = wish.and_then(|(number, place)| match slots.get_mut(&number).and_then(Iterator::next) {
                    Some(at) => Some(Slot { number, at, place }),
                    None => {
                        self.give_back(&ready.known.connection.id, place);
                        None
                    }
                });
                Planned { ready, slot }
            })
            .collect();
        let has_slot = planned.iter().any(|it| it.slot.is_some());
        if !has_slot && (self.is_held_back.get() || !planned.is_empty()) {
            self.counts.one("batch.nap");
            self.clock.until(now.plus(NAP)).await;
        }
        planned
    }

    /// Places in the rotation for the customers who have no number yet, by connection.
    async fn places(&self, ready: &[Ready]) -> HashMap<ConnectionId, std::vec::IntoIter<u64>> {
        let unpinned = ready.iter().filter(|it| it.stored.conversation.sender_among(&it.usable()).is_none());
        let mut places = HashMap::new();
        for (connection, count) in counted(unpinned.map(|it| it.known.connection.id.clone())) {
            match self.leases.places(self.store, &connection, count).await {
                Ok(it) => drop(places.insert(connection, it.into_iter())),
                Err(error) => self.not_leased(&error),
            }
        }
        places
    }

    /// Slots of the numbers that are asked for.
    async fn slots(
        &self,
        ready: &[Ready],
        wishes: &[Option<(NumberId, Option<u64>)>],
        now: Timestamp,
    ) -> HashMap<NumberId, std::vec::IntoIter<Timestamp>> {
        // All at once: a number whose lease takes long must not let the slots of another pass.
        let leased = counted(wishes.iter().flatten().map(|it| it.0.clone())).into_iter().map(async |(number, count)| {
            let item = ready.iter().flat_map(|it| it.numbers.iter()).find(|it| it.id == number);
            let pace = Pace::new(item.map_or(1, NumberItem::per_second), self.share);
            (self.leases.slots(self.store, &number, pace, count, now).await, number)
        });
        let mut slots = HashMap::new();
        for (leased, number) in join_all(leased).await {
            match leased {
                Ok(it) => drop(slots.insert(number, it.into_iter())),
                Err(error) => self.not_leased(&error),
            }
        }
        slots
    }

    /// The jobs concerned come back, as they do when there is no slot.
    fn not_leased(&self, error: &StoreError) {
        tracing::warn!(error.code = error.code(), "places and slots could not be leased; their jobs come back");
        self.counts.one("lease.failed");
    }

    pub(super) fn give_back(&self, connection: &ConnectionId, place: Option<u64>) {
        if let Some(place) = place {
            self.leases.give_back(connection, place);
        }
    }
}

fn rotating_among(numbers: &[NumberItem]) -> Vec<NumberId> {
    let candidate = |it: &NumberItem| Candidate { number: it.id.clone(), can_send: it.can_send(), quality: it.quality };
    rotating(&numbers.iter().map(candidate).collect::<Vec<_>>())
}
