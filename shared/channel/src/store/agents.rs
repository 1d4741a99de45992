//! Agents on connections, and which of them has Inbound: one per connection, so one per number.

use std::time::Duration;

use domain::connection::Connection;
use domain::ids::{AgentId, ConnectionId};
use domain::time::Timestamp;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::config::{Attachment, DownBecause, NumberItem};
use super::dynamo::{Range, Read, Update, Versioned, Write};
use super::keys::{self, Table};
use super::{Slice, Store, StoreError};

#[derive(Deserialize)]
struct InboundItem {
    #[serde(default)]
    agent: Option<AgentId>,
}

/// How much one agent's endpoints are asked at once: whoever hangs, or thinks long of much, leaves room for others. What died over it is counted
/// no longer than its time.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// `turns` or `speech`.
    pub what: &'static str,
    /// So much of what began within the same time.
    pub at_most: i64,
    /// Which time.
    pub within: i64,
}

impl Room {
    /// Room of this time, which lasts longer than what is asked.
    #[must_use]
    pub fn of(what: &'static str, at_most: i64, lasts: Duration, now: Timestamp) -> Self {
        Self { what, at_most, within: now.as_millis().div_euclid(i64::try_from(lasts.as_millis()).unwrap_or(i64::MAX)) }
    }
}

impl Store {
    /// The agents on a connection, in the order of their ids, after those of a page before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn agents(&self, connection: &ConnectionId, after: Option<&str>, limit: usize) -> Result<Slice<Attachment>, StoreError> {
        let range = Range { from: "AGENT#", to: "AGENT#~", newest_first: false, limit: Some(limit) };
        let key = keys::connection(connection);
        let found: Slice<(String, Attachment)> = self.dynamo.slice(Table::Config, &key.pk, range, after).await?;
        Ok(Slice { items: found.items.into_iter().map(|it| it.1).collect(), ended_at: found.ended_at })
    }

    /// The agent that has Inbound on a connection, if there is one. The items of its numbers follow it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn inbound_agent(&self, connection: &ConnectionId) -> Result<Option<AgentId>, StoreError> {
        let found: Option<Versioned<InboundItem>> = self.dynamo.get(&keys::inbound_agent(connection), Read::Strong).await?;
        Ok(found.and_then(|it| it.value.agent))
    }

    /// Has the numbers that a connection holds follow its agent with Inbound: a start may have claimed them while that changed. False if it
    /// changes again meanwhile: then nothing is written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn settle_inbound(&self, connection: &Connection) -> Result<bool, StoreError> {
        let agent = self.inbound_agent(&connection.id).await?;
        let astray: Vec<NumberItem> = self.numbers_held(connection).await?.into_iter().filter(|it| it.agent != agent).collect();
        if astray.is_empty() {
            return Ok(true);
        }
        let mut writes =
            vec![Write::Update { key: keys::inbound_agent(&connection.id), update: Update::unchanged("agent", agent.as_ref())? }];
        for it in astray {
            let update = Update::existing().when("connection", &connection.id)?;
            let update = match &agent {
                Some(agent) => update.set("agent", agent)?,
                None => update.remove("agent"),
            };
            writes.push(Write::Update { key: keys::number(&it.id), update });
        }
        self.dynamo.transact(writes).await
    }

    /// Writes an agent as it is attached from now on, where `before` is how it is, in one transaction with the Inbound that it gets or gives
    /// up, on the connection and on each number that it holds. False if another agent has Inbound, or if any of it has moved: then nothing is
    /// written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn attach(&self, connection: &Connection, next: &Attachment, before: Option<&Attachment>) -> Result<bool, StoreError> {
        let own = Write::Update { key: keys::attachment(&connection.id, &next.agent), update: attached(next, before)? };
        match next.inbound {
            true => self.with_inbound(connection, &next.agent, own).await,
            false => self.without_inbound(connection, &next.agent, own).await,
        }
    }

    /// Takes an agent off a connection, with the Inbound that it had. False if that has moved: then nothing is written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn detach(&self, connection: &Connection, agent: &AgentId) -> Result<bool, StoreError> {
        self.without_inbound(connection, agent, Write::Delete { key: keys::attachment(&connection.id, agent) }).await
    }

    async fn with_inbound(&self, connection: &Connection, agent: &AgentId, own: Write) -> Result<bool, StoreError> {
        let taken = Update::of_any().set("agent", agent)?.when_absent_or("agent", agent)?;
        let mut writes = vec![own, Write::Update { key: keys::inbound_agent(&connection.id), update: taken }];
        for it in self.numbers_held(connection).await? {
            let update = Update::existing().set("agent", agent)?.when("connection", &connection.id)?;
            writes.push(Write::Update { key: keys::number(&it.id), update });
        }
        self.dynamo.transact(writes).await
    }

    async fn without_inbound(&self, connection: &Connection, agent: &AgentId, own: Write) -> Result<bool, StoreError> {
        let mut writes = vec![own];
        if self.inbound_agent(&connection.id).await?.as_ref() == Some(agent) {
            let update = Update::existing().remove("agent").when("agent", agent)?;
            writes.push(Write::Update { key: keys::inbound_agent(&connection.id), update });
        }
        for it in self.numbers_held(connection).await?.into_iter().filter(|it| it.agent.as_ref() == Some(agent)) {
            let update = Update::existing().remove("agent").when("connection", &connection.id)?.when("agent", agent)?;
            writes.push(Write::Update { key: keys::number(&it.id), update });
        }
        self.dynamo.transact(writes).await
    }

    /// An agent's endpoint has failed once more, while it is at this address and not known to be down. How the agent is attached then; nothing
    /// if that is so no more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn endpoint_failed(&self, of: &Attachment, url: &str) -> Result<Option<Attachment>, StoreError> {
        self.endpoint(of, Update::existing().add("failures", 1).when("endpoint.url", &url)?.when_absent("down_since")).await
    }

    /// An agent's endpoint takes turns: its failures are forgotten, while it is at this address and not known to be down.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn endpoint_took(&self, of: &Attachment, url: &str) -> Result<Option<Attachment>, StoreError> {
        self.endpoint(of, Update::existing().remove("failures").when("endpoint.url", &url)?.when_absent("down_since")).await
    }

    /// An agent's endpoint at this address is down since `at`, if it was not before, and that is to be told.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn endpoint_down(
        &self,
        of: &Attachment,
        url: &str,
        because: &DownBecause,
        at: Timestamp,
    ) -> Result<Option<Attachment>, StoreError> {
        let update = Update::existing().set("down_since", &at)?.set("down_because", because)?.set_first("failures", &1)?;
        self.endpoint(of, update.when("endpoint.url", &url)?.when_absent("down_since")).await
    }

    /// It is told that an agent's endpoint is down since then.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn endpoint_down_told(&self, of: &Attachment, since: Timestamp) -> Result<Option<Attachment>, StoreError> {
        self.endpoint(of, Update::existing().remove("failures").when("down_since", &since)?).await
    }

    /// An agent's endpoint that is down since then is asked whether it answers again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn endpoint_probed(&self, of: &Attachment, since: Timestamp, at: Timestamp) -> Result<Option<Attachment>, StoreError> {
        self.endpoint(of, Update::existing().set("probed_at", &at)?.when("down_since", &since)?).await
    }

    /// An agent's endpoint that was down since then answers again, since `at` if that was not known.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn endpoint_up(&self, of: &Attachment, since: Timestamp, at: Timestamp) -> Result<Option<Attachment>, StoreError> {
        self.endpoint(of, Update::existing().set_first("up_since", &at)?.when("down_since", &since)?).await
    }

    /// It is told that an agent's endpoint answers again: from now on it takes turns.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn endpoint_up_told(&self, of: &Attachment, since: Timestamp) -> Result<Option<Attachment>, StoreError> {
        self.endpoint(of, forgotten(Update::existing()).when("down_since", &since)?).await
    }

    /// Something more is about to be asked of an agent's endpoints, among at most so much that began within the same time. Is there room for
    /// it?
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn endpoint_has_room(&self, of: &Attachment, room: Room, expires_at: Timestamp) -> Result<bool, StoreError> {
        let expires_at = expires_at.as_millis() / 1_000;
        let update = Update::of_any().add("at_once", 1).set("expires_at", &expires_at)?.when_absent_or_below("at_once", room.at_most);
        let key = keys::asked_at_once(&of.connection, &of.agent, room.what, room.within);
        Ok(self.dynamo.update::<IgnoredAny>(&key, update).await?.is_ok())
    }

    /// It is answered, or not: there is room for another.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn endpoint_is_left(&self, of: &Attachment, room: Room) -> Result<(), StoreError> {
        let key = keys::asked_at_once(&of.connection, &of.agent, room.what, room.within);
        let _ = self.dynamo.update::<IgnoredAny>(&key, Update::existing().add("at_once", -1)).await?;
        Ok(())
    }

    async fn endpoint(&self, of: &Attachment, update: Update) -> Result<Option<Attachment>, StoreError> {
        Ok(self.dynamo.update(&keys::attachment(&of.connection, &of.agent), update).await?.ok())
    }

    /// The connection's numbers, as far as it has claimed them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn numbers_held(&self, connection: &Connection) -> Result<Vec<NumberItem>, StoreError> {
        let mut held = Vec::with_capacity(connection.numbers.len());
        for id in &connection.numbers {
            held.extend(self.number(id, true).await?.filter(|it| it.connection == connection.id));
        }
        Ok(held)
    }
}

/// Only if its endpoints are as they were. How one stands that is replaced says nothing of the next.
fn attached(next: &Attachment, before: Option<&Attachment>) -> Result<Update, StoreError> {
    let update = Update::of_any().set("connection", &next.connection)?.set("agent", &next.agent)?.set("inbound", &next.inbound)?;
    let update = changed(update, "endpoint", before.and_then(|it| it.endpoint.as_ref()), next.endpoint.as_ref())?;
    let update = changed(update, "speech_to_text", before.and_then(|it| it.speech_to_text.as_ref()), next.speech_to_text.as_ref())?;
    let update = match next.quiet_ms {
        0 => update.remove("quiet_ms"),
        it => update.set("quiet_ms", &it)?,
    };
    let url = |it: &Attachment| it.endpoint.as_ref().map(|it| it.url.clone());
    Ok(if before.and_then(url) == url(next) { update } else { forgotten(update) })
}

fn changed<T: Serialize>(update: Update, name: &str, before: Option<&T>, next: Option<&T>) -> Result<Update, StoreError> {
    let update = match before {
        Some(it) => update.when(name, it)?,
        None => update.when_absent(name),
    };
    match next {
        Some(it) => update.set(name, it),
        None => Ok(update.remove(name)),
    }
}

/// What was noted of how an endpoint stands.
fn forgotten(update: Update) -> Update {
    update.remove("failures").remove("down_since").remove("down_because").remove("probed_at").remove("up_since")
}
