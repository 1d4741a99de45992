//! Agents on connections, and which of them has Inbound: one per connection, so one per number.

use domain::connection::Connection;
use domain::ids::{AgentId, ConnectionId};
use serde::Deserialize;

use super::config::{Attachment, NumberItem};
use super::dynamo::{Range, Read, Update, Versioned, Write};
use super::keys::{self, Table};
use super::{Slice, Store, StoreError};

#[derive(Deserialize)]
struct InboundItem {
    #[serde(default)]
    agent: Option<AgentId>,
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

    /// Writes an agent with Inbound, on the connection and on each number that it holds, in one transaction. False if another agent has
    /// Inbound, or if the numbers have moved: then nothing is written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn attach_with_inbound(&self, connection: &Connection, agent: &AgentId) -> Result<bool, StoreError> {
        let taken = Update::of_any().set("agent", agent)?.when_absent_or("agent", agent)?;
        let mut writes = vec![
            Write::Update { key: keys::attachment(&connection.id, agent), update: attached(connection, agent, true)? },
            Write::Update { key: keys::inbound_agent(&connection.id), update: taken },
        ];
        for it in self.numbers_held(connection).await? {
            let update = Update::existing().set("agent", agent)?.when("connection", &connection.id)?;
            writes.push(Write::Update { key: keys::number(&it.id), update });
        }
        self.dynamo.transact(writes).await
    }

    /// Writes an agent without Inbound, or takes it off, in one transaction with the Inbound that it had. False if that has moved: then
    /// nothing is written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn attach_without_inbound(&self, connection: &Connection, agent: &AgentId, stays: bool) -> Result<bool, StoreError> {
        let key = keys::attachment(&connection.id, agent);
        let mut writes =
            vec![if stays { Write::Update { key, update: attached(connection, agent, false)? } } else { Write::Delete { key } }];
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

/// What else is set of the agent stays.
fn attached(connection: &Connection, agent: &AgentId, inbound: bool) -> Result<Update, StoreError> {
    Update::of_any().set("connection", &connection.id)?.set("agent", agent)?.set("inbound", &inbound)
}
