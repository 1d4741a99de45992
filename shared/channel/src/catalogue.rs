//! The templates of a connection's account, as Meta listed them last.
//!
//! Whoever sends looks here, and asks by a probe that the list be read again; reading it is the function `health`'s.

use std::sync::Arc;
use std::time::Duration;

use domain::connection::Connection;
use domain::ids::{ConnectionId, TenantId};
use domain::template::{Language, Status, TemplateName};
use domain::time::Timestamp;

use crate::SendError;
use crate::directory::Memory;
use crate::feed::body;
use crate::jobs::{Probe, V1};
use crate::queues::{Entry, Queue, QueueError, Queues};
use crate::store::{Stopped, Store, StoreError, TemplateItem};

/// Templates are remembered for so long by whoever sends them.
const REMEMBERED: Duration = Duration::from_secs(30);
/// A list is asked for at most so often by one container.
const ASKED_EVERY: Duration = Duration::from_secs(30);
/// A list that is older than this is read again when it is next used: a webhook may have been missed.
const FRESH_FOR: Duration = Duration::from_hours(24);
/// The field of a probe that asks for the list.
pub const FIELD: &str = "message_templates";

/// What is found of a template.
#[derive(Debug, Clone)]
pub enum Found {
    /// It is listed.
    Known(Arc<TemplateItem>),
    /// It is not.
    Unlisted {
        /// When the list was read, if it ever was.
        listed_at: Option<Timestamp>,
    },
}

type Identity = (ConnectionId, TemplateName, Language);

/// What is known of templates, with a memory of seconds.
#[derive(Debug)]
pub struct Catalogue {
    store: Store,
    templates: Memory<Identity, Arc<TemplateItem>>,
    listed: Memory<ConnectionId, Option<Timestamp>>,
    asked: Memory<ConnectionId, ()>,
}

impl Catalogue {
    /// Over this store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, templates: Memory::new(), listed: Memory::new(), asked: Memory::new() }
    }

    /// A template, as it was within half a minute; what may not be sent is looked up afresh, at most once a second.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find(
        &self,
        connection: &ConnectionId,
        name: &TemplateName,
        language: &Language,
        now: Timestamp,
    ) -> Result<Found, StoreError> {
        let identity = (connection.clone(), name.clone(), language.clone());
        let remembered = match self.templates.recall(&identity, REMEMBERED, now) {
            Some(Some(it)) if it.refused_status().is_some() => self.templates.recall(&identity, Duration::from_secs(1), now),
            other => other,
        };
        let found = match remembered {
            Some(it) => it,
            None => {
                let read = self.store.template(connection, name, language).await?.map(Arc::new);
                self.templates.remember(&identity, read.clone(), now);
                read
            }
        };
        match found {
            Some(it) => Ok(Found::Known(it)),
            None => Ok(Found::Unlisted { listed_at: self.store.catalogue(connection).await?.map(|it| it.listed_at) }),
        }
    }

    /// Asks that a connection's list be read if it is a day old, for a webhook may have been missed.
    ///
    /// # Errors
    /// [`StoreError`]-s and [`QueueError`]-s as [`SendError`].
    pub async fn keep_fresh(&self, queues: &Queues, connection: &Connection, now: Timestamp) -> Result<(), SendError> {
        let listed_at = match self.listed.recall(&connection.id, ASKED_EVERY, now) {
            Some(it) => it.flatten(),
            None => {
                let read = self.store.catalogue(&connection.id).await?.map(|it| it.listed_at);
                self.listed.remember(&connection.id, Some(read), now);
                read
            }
        };
        if listed_at.is_none_or(|it| now.since(it) > FRESH_FOR) {
            self.ask(queues, connection, now).await?;
        }
        Ok(())
    }

    /// Asks that a connection's list be read, unless that was asked for a moment ago.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn ask(&self, queues: &Queues, connection: &Connection, now: Timestamp) -> Result<(), QueueError> {
        if self.asked.recall(&connection.id, ASKED_EVERY, now).is_some() {
            return Ok(());
        }
        ask(queues, connection, now).await?;
        self.asked.remember(&connection.id, Some(()), now);
        Ok(())
    }

    /// A template has changed: it is read again when it is next looked for.
    pub fn forget(&self, connection: &ConnectionId, name: &TemplateName, language: &Language) {
        self.templates.forget(&(connection.clone(), name.clone(), language.clone()));
    }
}

impl TemplateItem {
    /// Why it may not be sent, in Meta's words, if so.
    #[must_use]
    pub fn refused_status(&self) -> Option<String> {
        match (&self.template.status, self.stopped) {
            (Status::Approved, None) => None,
            (Status::Approved, Some(Stopped { code: 132_016, .. })) | (Status::Disabled, _) => Some("DISABLED".to_owned()),
            (Status::Approved, Some(_)) | (Status::Paused, _) => Some("PAUSED".to_owned()),
            (Status::Other(it), _) => Some(it.clone()),
        }
    }
}

/// Asks that a connection's list be read.
///
/// # Errors
/// [`QueueError`].
pub async fn ask(queues: &Queues, connection: &Connection, now: Timestamp) -> Result<(), QueueError> {
    let probe = Probe {
        v: V1,
        tenant: connection.tenant.clone(),
        connection: connection.id.clone(),
        heard_at: now,
        field: FIELD.to_owned(),
        waba: Some(connection.waba.clone()),
        number: None,
        value: String::new(),
    };
    queues.send(Queue::Probes, vec![Entry { body: body(&probe), group: None, deduplication: None }]).await
}

/// A template that Meta refused to send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stop<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) connection: &'a ConnectionId,
    pub(crate) name: &'a TemplateName,
    pub(crate) language: &'a Language,
    pub(crate) code: u32,
    pub(crate) at: Timestamp,
}

/// Meta refused a send because its template is paused or disabled: nobody sends it until Meta frees it.
pub(crate) async fn stop(store: &Store, queues: &Queues, it: Stop<'_>) -> Result<(), SendError> {
    let stopped = Stopped { code: it.code, at: it.at };
    let stop = |known: Option<&TemplateItem>| {
        let known = known.filter(|known| known.stopped.is_none_or(|before| before.at < stopped.at))?;
        Some(TemplateItem { stopped: Some(stopped), ..known.clone() })
    };
    store.change_template(it.connection, it.name, it.language, stop).await?;
    let _ = (queues, it.tenant);
    Ok(())
}
