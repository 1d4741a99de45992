//! Sharing out a batch's sends: places in the rotation for customers who have no number yet, and slots of each number.
//!
//! Leased once for a whole batch, so that they cost next to nothing. Places that were not used stay here for the next batch; a slot that
//! passes unused is lost.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::ids::{ConnectionId, NumberId};
use domain::rotation::{Pace, micros};
use domain::time::Timestamp;

use crate::store::{Leased, Store, StoreError};

/// A slot is given out at most so long before it begins: a batch that holds slots of a slow number for longer keeps fast ones waiting.
pub const HORIZON: Duration = Duration::from_secs(2);
/// How often the slots of a number are asked for again when others were faster.
const TRIES: usize = 4;

/// What one container has leased and not used.
#[derive(Debug, Default)]
pub struct Leases {
    places: Mutex<HashMap<ConnectionId, Vec<u64>>>,
    paused: Mutex<HashMap<NumberId, Timestamp>>,
}

impl Leases {
    /// Nothing leased yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// So many places in a connection's rotation, the oldest first: what was left over, then new ones.
    ///
    /// # Errors
    /// [`StoreError`]; what was left over stays.
    pub async fn places(&self, store: &Store, connection: &ConnectionId, count: usize) -> Result<Vec<u64>, StoreError> {
        let mut places = self.left_over(connection, count);
        let missing = u64::try_from(count - places.len()).unwrap_or(0);
        if missing > 0 {
            match store.lease_places(connection, missing).await {
                Ok(first) => places.extend(first..first + missing),
                Err(error) => {
                    places.into_iter().for_each(|it| self.give_back(connection, it));
                    return Err(error);
                }
            }
        }
        Ok(places)
    }

    fn left_over(&self, connection: &ConnectionId, count: usize) -> Vec<u64> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left) = places.get_mut(connection) else { return Vec::new() };
        left.sort_unstable();
        left.drain(..count.min(left.len())).collect()
    }

    /// A place that was not used.
    pub fn give_back(&self, connection: &ConnectionId, place: u64) {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).entry(connection.clone()).or_default().push(place);
    }

    /// How many places are leased and not used.
    #[must_use]
    pub fn unused(&self) -> usize {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).values().map(Vec::len).sum()
    }

    /// Slots of one number, at most `wanted` and perhaps none, each the time at which a message may go out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn slots(
        &self,
        store: &Store,
        number: &NumberId,
        pace: Pace,
        wanted: usize,
        now: Timestamp,
    ) -> Result<Vec<Timestamp>, StoreError> {
        // Nothing is known of the number yet; a campaign that runs keeps it busy, so that is tried first.
        let (now_us, latest_us) = (micros(now), micros(now.plus(HORIZON)) - 1);
        let all_fit_us = latest_us - pace.length_us(wanted.saturating_sub(1));
        let mut count = wanted;
        let mut leased = if all_fit_us >= now_us {
            store.lease_after_others(number, now_us, all_fit_us, pace.length_us(wanted)).await?
        } else {
            Leased::FreeAt(None)
        };
        for _ in 0..TRIES {
            let free_at = match leased {
                Leased::From(first_us) => return Ok(pace.times(first_us, count)),
                Leased::FreeAt(it) => it,
            };
            count = pace.room(free_at, wanted, now, HORIZON).count;
            if count == 0 {
                return Ok(Vec::new());
            }
            let length = pace.length_us(count);
            leased = match free_at.filter(|it| *it >= now_us) {
                // Fewer fit than were wanted, and those exactly from here on: whoever was faster moves it on.
                Some(free_at) => store.lease_after_others(number, free_at, free_at, length).await?,
                None => store.lease_from_now(number, now_us, length).await?,
            };
        }
        // Others are always faster: the number is busy enough without us.
        Ok(Vec::new())
    }

    /// Meta says that a number sends too fast: nobody sends from it before `until`, but for what others have leased within the horizon: they
    /// pause after that.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn pause(&self, store: &Store, number: &NumberId, until: Timestamp) -> Result<(), StoreError> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner).insert(number.clone(), until);
        store.pause(number, micros(until.plus(HORIZON))).await
    }

    /// Is a number paused, as far as this container has heard? Its slots from before that are void.
    #[must_use]
    pub fn is_paused(&self, number: &NumberId, now: Timestamp) -> bool {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner).get(number).is_some_and(|it| now < *it)
    }
}

/// What of each key there is how often, in the order of the keys.
pub(crate) fn counted<K: Ord + Clone>(all: impl IntoIterator<Item = K>) -> BTreeMap<K, usize> {
    let mut counted = BTreeMap::new();
    for it in all {
        *counted.entry(it).or_default() += 1;
    }
    counted
}
