//! Who holds which number and app: claimed by a start once Meta has confirmed them, released by an edit or a deletion.
//!
//! A number belongs to one connection over all tenants, an app to one tenant or to the server. All that a start claims, it claims at once.

use std::time::Duration;

use domain::connection::{Connection, State};
use domain::ids::{AgentId, AppId, ConnectionId, NumberId, WabaId};
use domain::time::Timestamp;

use super::config::{App, AppOwner, NumberItem, Pointer, StoredConnection};
use super::dynamo::{Condition, Read, Update, Versioned, Write};
use super::keys;
use super::{RACES, Store, StoreError};
use crate::vault::Sealed;

/// After a connection has let go of a number, nobody else may claim it for so long: what is remembered of owners is a minute old at most.
pub const RESTS_FOR: Duration = Duration::from_mins(2);

/// The note of a release is cleaned away after this long.
const RELEASED_FOR: Duration = Duration::from_hours(24);

/// What a start claims of an app.
#[derive(Debug, Clone)]
pub struct AppClaim {
    /// The app.
    pub id: AppId,
    /// The secret that Meta has confirmed, unless the app has it already.
    pub secret: Option<Sealed>,
    /// The verify token of an app that is new.
    pub verify_token: Sealed,
    /// How long the secret before is accepted.
    pub overlap: Duration,
}

impl AppClaim {
    /// An app that nobody had.
    fn first(&self, owner: AppOwner, secret: Sealed) -> App {
        let (id, verify_token) = (self.id.clone(), self.verify_token.clone());
        App { id, owner, secret: Some(secret), previous_secret: None, previous_until: None, verify_token }
    }
}

/// What came of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// All of it is the connection's.
    Done,
    /// Another connection holds this number: nothing was claimed.
    NumberHeld(NumberId),
    /// Another connection held this number until a moment ago: nothing was claimed.
    NumberRests {
        /// The number.
        number: NumberId,
        /// From when on it may be claimed.
        until: Timestamp,
    },
    /// The app is another tenant's, or the server's: nothing was claimed.
    AppHeld,
    /// The connection is not being started any more, or anew: nothing was claimed.
    Overtaken,
}

impl Store {
    /// Claims a connection's numbers for itself and its agent with Inbound, its app and its place in the list of its account, if it is being
    /// started since `began` still: all of it, or nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim_for_start(
        &self,
        connection: &Connection,
        began: Timestamp,
        app: Option<&AppClaim>,
        now: Timestamp,
    ) -> Result<Claimed, StoreError> {
        for _ in 0..RACES {
            if !self.connection(&connection.id).await?.is_some_and(|it| it.is_starting_since(began)) {
                return Ok(Claimed::Overtaken);
            }
            let agent = self.inbound_agent(&connection.id).await?;
            let is_starting = Update::existing().set("lifecycle.since", &began)?;
            let is_starting = is_starting.when("lifecycle.since", &began)?.when("lifecycle.state", &State::Starting)?;
            let pointer = Pointer { connection: connection.id.clone() };
            let mut writes = vec![
                Write::put(keys::connection_of_waba(&connection.waba, &connection.id), &pointer, None, Condition::Always)?,
                Write::Update { key: keys::connection(&connection.id), update: is_starting },
                Write::put(keys::claimed(&connection.id), &pointer, None, Condition::Always)?,
                // Whoever attaches or detaches meanwhile has the claim made anew.
                Write::Update { key: keys::inbound_agent(&connection.id), update: Update::unchanged("agent", agent.as_ref())? },
            ];
            for number in &connection.numbers {
                match self.claim_of_number(connection, number, agent.as_ref(), now).await? {
                    Ok(write) => writes.extend(write),
                    Err(claimed) => return Ok(claimed),
                }
            }
            if let Some(app) = app {
                match self.claim_of_app(connection, app, now).await? {
                    Ok(write) => writes.extend(write),
                    Err(claimed) => return Ok(claimed),
                }
            }
            if self.dynamo.transact(writes).await? {
                return Ok(Claimed::Done);
            }
        }
        Err(StoreError::Contended { what: "number" })
    }

    async fn claim_of_number(
        &self,
        connection: &Connection,
        number: &NumberId,
        agent: Option<&AgentId>,
        now: Timestamp,
    ) -> Result<Result<Option<Write>, Claimed>, StoreError> {
        let key = keys::number(number);
        let item = NumberItem::claimed(number.clone(), connection.id.clone(), agent.cloned(), now);
        let Some(found) = self.dynamo.get::<NumberItem>(&key, Read::Strong).await? else {
            return Ok(Ok(Some(Write::put(key, &item, Some(1), Condition::Absent)?)));
        };
        let Versioned { version, value: held } = found;
        if held.connection == connection.id && held.released_at.is_none() {
            return Ok(Ok(None));
        }
        if held.connection != connection.id {
            let rests_until = held.released_at.unwrap_or(held.claimed_at).plus(RESTS_FOR);
            let is_held = held.released_at.is_none() && self.lists(&held, number).await?;
            if is_held {
                return Ok(Err(Claimed::NumberHeld(number.clone())));
            }
            if now < rests_until {
                return Ok(Err(Claimed::NumberRests { number: number.clone(), until: rests_until }));
            }
        }
        Ok(Ok(Some(Write::put(key, &item, Some(version + 1), Condition::Version(version))?)))
    }

    /// Is the connection that claimed a number still there, and does it still name it? One that crashed while it let go of it does not.
    async fn lists(&self, held: &NumberItem, number: &NumberId) -> Result<bool, StoreError> {
        let holder = self.connection(&held.connection).await?;
        Ok(holder.is_some_and(|it| it.deleted_at.is_none() && it.connection.numbers.contains(number)))
    }

    async fn claim_of_app(
        &self,
        connection: &Connection,
        claim: &AppClaim,
        now: Timestamp,
    ) -> Result<Result<Option<Write>, Claimed>, StoreError> {
        let key = keys::app(&claim.id);
        let Some(found) = self.dynamo.get::<App>(&key, Read::Strong).await? else {
            let Some(secret) = claim.secret.clone() else { return Ok(Ok(None)) };
            let app = claim.first(AppOwner::Tenant(connection.tenant.clone()), secret);
            return Ok(Ok(Some(Write::put(key, &app, Some(1), Condition::Absent)?)));
        };
        let Versioned { version, value: app } = found;
        // Whoever signs in with Meta uses the server's app, and has no secret of it.
        let is_theirs = app.may_be_used_by(&connection.tenant) && (app.owner != AppOwner::Server || claim.secret.is_none());
        if !is_theirs {
            return Ok(Err(Claimed::AppHeld));
        }
        let Some(secret) = claim.secret.clone() else { return Ok(Ok(None)) };
        let app = app.rotated(secret, claim.overlap, now);
        Ok(Ok(Some(Write::put(key, &app, Some(version + 1), Condition::Version(version))?)))
    }

    /// Has a connection ever claimed its numbers? Only then customers' messages can have come in for it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn has_claimed(&self, connection: &ConnectionId) -> Result<bool, StoreError> {
        Ok(self.dynamo.get::<Pointer>(&keys::claimed(connection), Read::Strong).await?.is_some())
    }

    /// A connection lets go of a number, if it holds it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn release_number(&self, connection: &Connection, number: &NumberId, now: Timestamp) -> Result<(), StoreError> {
        let Some(held) = self.number(number, true).await?.filter(|it| it.connection == connection.id) else { return Ok(()) };
        let expires_at = now.plus(RELEASED_FOR).as_millis() / 1_000;
        let update = Update::existing().set("released_at", &now)?.set("expires_at", &expires_at)?.remove("agent");
        let update = update.when("connection", &connection.id)?.when("claimed_at", &held.claimed_at)?;
        let _: Result<NumberItem, Option<NumberItem>> = self.dynamo.update(&keys::number(number), update).await?;
        Ok(())
    }

    /// A connection is no longer told what changes at an account.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn release_waba(&self, connection: &Connection, waba: &WabaId) -> Result<(), StoreError> {
        self.dynamo.delete(&keys::connection_of_waba(waba, &connection.id)).await
    }

    /// The server's own app, for whoever signs in with Meta, with this secret from now on. False if a tenant holds it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_server_app(&self, claim: &AppClaim, now: Timestamp) -> Result<bool, StoreError> {
        let Some(secret) = &claim.secret else { return Ok(false) };
        for _ in 0..RACES {
            let key = keys::app(&claim.id);
            let found: Option<Versioned<App>> = self.dynamo.get(&key, Read::Strong).await?;
            let (next, version, condition) = match found {
                None => (claim.first(AppOwner::Server, secret.clone()), 0, Condition::Absent),
                Some(it) if it.value.owner != AppOwner::Server => return Ok(false),
                Some(it) => (it.value.rotated(secret.clone(), claim.overlap, now), it.version, Condition::Version(it.version)),
            };
            if self.dynamo.transact(vec![Write::put(key, &next, Some(version + 1), condition)?]).await? {
                return Ok(true);
            }
        }
        Err(StoreError::Contended { what: "app" })
    }

    /// Writes a connection that is new, and names it in its tenant's list. False if it is there already.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create_connection(&self, connection: &StoredConnection) -> Result<bool, StoreError> {
        let it = &connection.connection;
        let pointer = Pointer { connection: it.id.clone() };
        let writes = vec![
            Write::put(keys::connection(&it.id), connection, Some(1), Condition::Absent)?,
            Write::put(keys::connection_of_tenant(&it.tenant, &it.id), &pointer, None, Condition::Always)?,
        ];
        self.dynamo.transact(writes).await
    }
}
