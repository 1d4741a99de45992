//! The templates of a connection's account, as Meta listed them last.
//!
//! Whoever sends looks here, and asks by a probe that the list be read again; reading it is the function `health`'s.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::connection::Connection;
use domain::ids::{ConnectionId, TenantId};
use domain::template::{Language, Status, Template, TemplateName, Values};
use domain::time::Timestamp;
use meta::graph::{Graph, Unread};

use crate::SendError;
use crate::directory::{KnownConnection, Memory};
use crate::feed::{self, body};
use crate::jobs::{Happened, Probe, V1};
use crate::outbox::credentials;
use crate::queues::{Entry, Queue, QueueError, Queues};
use crate::redelivery::Retryable;
use crate::store::{CatalogueItem, Stopped, Store, StoreError, TemplateItem};

/// Templates are remembered for so long by whoever sends them.
const REMEMBERED: Duration = Duration::from_secs(30);
/// What may not be sent is not looked for again for so long.
const REFUSED_FOR: Duration = Duration::from_secs(1);
/// A list is asked for at most so often by one container.
const ASKED_EVERY: Duration = Duration::from_secs(30);
/// A list that is older than this is read again when it is next used: a webhook may have been missed.
const FRESH_FOR: Duration = Duration::from_hours(24);
/// The field of a probe that asks for the list.
pub const FIELD: &str = "message_templates";
/// The field of a probe by which a person asks for it.
pub const ASKED_FOR: &str = "message_templates_asked_for";
/// At most so many pages of a hundred are read: Meta allows 6,000 templates an account.
const PAGES: usize = 100;
/// A list whose cursor expires is begun so often before it is left to the next delivery.
const STARTS: usize = 3;

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

impl Found {
    fn is_sendable(&self) -> bool {
        match self {
            Self::Known(it) => it.refused_status().is_none(),
            Self::Unlisted { .. } => false,
        }
    }
}

type Identity = (ConnectionId, TemplateName, Language);

/// What is known of templates, with a memory of seconds.
#[derive(Debug)]
pub struct Catalogue {
    store: Store,
    templates: Memory<Identity, Found>,
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
        let remembered = self.templates.recall(&identity, REMEMBERED, now).flatten().filter(Found::is_sendable);
        if let Some(it) = remembered.or_else(|| self.templates.recall(&identity, REFUSED_FOR, now).flatten()) {
            return Ok(it);
        }
        // The list before the template: were it read after, a template that was listed in between would count as missing from it.
        let listed_at = self.store.catalogue(connection).await?.map(|it| it.listed_at);
        let read = self.store.template(connection, name, language).await?;
        let found = read.map_or(Found::Unlisted { listed_at }, |it| Found::Known(Arc::new(it)));
        self.templates.remember(&identity, Some(found.clone()), now);
        Ok(found)
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
    /// Whether it may be sent: what Meta lists, unless a send was refused since.
    #[must_use]
    pub fn status(&self) -> Status {
        match (&self.template.status, self.stopped) {
            (Status::Approved, Some(Stopped { code: 132_016, .. })) => Status::Disabled,
            (Status::Approved, Some(_)) => Status::Paused,
            (listed, _) => listed.clone(),
        }
    }

    /// Why it may not be sent, in Meta's words, if so.
    #[must_use]
    pub fn refused_status(&self) -> Option<String> {
        match self.status() {
            Status::Approved => None,
            Status::Paused => Some("PAUSED".to_owned()),
            Status::Disabled => Some("DISABLED".to_owned()),
            Status::Other(it) => Some(it),
        }
    }

    /// As Meta lists it, by a reading that began at `began`; nothing if that is no news.
    fn listed(known: Option<&Self>, template: &Template, began: Timestamp) -> Option<Self> {
        let Some(known) = known else {
            return Some(Self { template: template.clone(), changed_at: began, stopped: None, freed_at: None, mapping: None });
        };
        if known.template == *template || known.changed_at > began {
            return None;
        }
        let is_free = template.status == Status::Approved && known.template.status != Status::Approved;
        let next = Self { template: template.clone(), changed_at: began, ..known.clone() };
        Some(if is_free { next.freed(began) } else { next })
    }

    /// A send of it was refused; nothing if that is no news. Of the sends that are refused for one pause the first says it, and one that
    /// was refused before Meta let it be sent again says nothing.
    fn halted(known: &Self, stopped: Stopped) -> Option<Self> {
        let is_news = known.stopped.is_none_or(|it| it.code < stopped.code) && known.freed_at.is_none_or(|it| it < stopped.at);
        is_news.then(|| Self { stopped: Some(stopped), ..known.clone() })
    }

    /// Meta lets it be sent, as of `at`: what was refused before is out of date.
    fn freed(self, at: Timestamp) -> Self {
        let stopped = self.stopped.filter(|it| it.at >= at);
        Self { stopped, freed_at: self.freed_at.max(Some(at)), ..self }
    }

    /// Meta, or a person, says at `at` that it may be sent again; nothing if it is not listed so, or if that is no news.
    fn lifted(known: &Self, at: Timestamp) -> Option<Self> {
        let is_stopped = known.stopped.is_some_and(|it| it.at < at);
        (is_stopped && known.template.status == Status::Approved).then(|| known.clone().freed(at))
    }

    /// What it is known by when something is told of it: the same until that is written.
    fn era(&self) -> String {
        format!("{}{}", self.changed_at.sortable(), self.freed_at.unwrap_or_default().sortable())
    }
}

/// Asks that a connection's list be read.
///
/// # Errors
/// [`QueueError`].
pub async fn ask(queues: &Queues, connection: &Connection, now: Timestamp) -> Result<(), QueueError> {
    send(queues, connection, FIELD, now).await
}

/// A person asks that a connection's list be read: what Meta lists as approved by then is sent again, though a send was refused before.
///
/// # Errors
/// [`QueueError`].
pub async fn ask_for_person(queues: &Queues, connection: &Connection, now: Timestamp) -> Result<(), QueueError> {
    send(queues, connection, ASKED_FOR, now).await
}

async fn send(queues: &Queues, connection: &Connection, field: &str, now: Timestamp) -> Result<(), QueueError> {
    let probe = Probe {
        v: V1,
        tenant: connection.tenant.clone(),
        connection: connection.id.clone(),
        heard_at: now,
        field: field.to_owned(),
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
    let teller = Teller { queues, tenant: it.tenant, connection: it.connection, at: it.at };
    let stop = async |known: Option<&TemplateItem>| {
        let Some((known, next)) = known.and_then(|it| Some((it, TemplateItem::halted(it, stopped)?))) else { return Ok(None) };
        teller.tell(Some(known), &next).await?;
        Ok(Some(next))
    };
    store.change_template(it.connection, it.name, it.language, stop).await.map(drop)
}

/// Remembers the values that were last given to a template, for the next who fills it.
///
/// # Errors
/// [`StoreError`].
pub async fn remember_mapping(
    store: &Store,
    connection: &ConnectionId,
    name: &TemplateName,
    language: &Language,
    mapping: &Values,
) -> Result<(), StoreError> {
    store.keep_mapping(connection, name, language, mapping).await
}

/// Why a list is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It may be out of date.
    Outdated,
    /// Meta said something of this template's status.
    Status(TemplateName, Language),
    /// A person wants it.
    Person,
}

/// What came of a reading.
#[derive(Debug)]
pub enum Refreshed {
    /// The list is newer than the reason to read it.
    Known,
    /// It was read.
    Listed,
    /// It could not be read, and is as it was.
    Unread(Unread),
}

/// Why what was read could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The store failed.
    #[error("the templates of a connection could not be kept")]
    Store {
        /// The cause.
        #[from]
        source: StoreError,
    },
    /// The feed did not take an event.
    #[error("a change of a template could not be told")]
    Feed {
        /// The cause.
        #[from]
        source: QueueError,
    },
}

impl Retryable for CatalogueError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Store { source } => source.is_retryable(),
            Self::Feed { source } => source.is_retryable(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Store { source } => source.code(),
            Self::Feed { source } => source.code(),
        }
    }
}

/// Reads the list anew for a reason that was heard at `heard_at`, unless it was read since, and tells what has changed.
///
/// A template that was stopped by a refused send goes on when Meta, or a person, says so after that and the list has it as approved; or when
/// the list has had it otherwise in between.
///
/// # Errors
/// [`CatalogueError`]: the next try goes on.
pub async fn refresh(
    store: &Store,
    queues: &Queues,
    graph: &Graph,
    known: &KnownConnection,
    (why, heard_at): (&Why, Timestamp),
    now: Timestamp,
) -> Result<Refreshed, CatalogueError> {
    let connection = &known.connection;
    let teller = Teller { queues, tenant: &connection.tenant, connection: &connection.id, at: now };
    let read_at = store.catalogue(&connection.id).await?.map(|it| it.listed_at);
    let refreshed = if read_at.is_some_and(|it| it >= heard_at) {
        Refreshed::Known
    } else {
        let list = match list(graph, known).await {
            Ok(it) => it,
            Err(unread) => return Ok(Refreshed::Unread(unread)),
        };
        keep(store, &teller, list, now).await?;
        Refreshed::Listed
    };
    let lift = async |item: Option<&TemplateItem>| {
        let Some((item, next)) = item.and_then(|it| Some((it, TemplateItem::lifted(it, heard_at)?))) else { return Ok(None) };
        teller.tell(Some(item), &next).await?;
        Ok::<_, CatalogueError>(Some(next))
    };
    match why {
        Why::Outdated => {}
        Why::Status(name, language) => drop(store.change_template(&connection.id, name, language, lift).await?),
        Why::Person => {
            for it in store.templates(&connection.id).await?.into_iter().filter(|it| it.stopped.is_some()) {
                store.change_template(&connection.id, &it.template.name, &it.template.language, lift).await?;
            }
        }
    }
    Ok(refreshed)
}

/// What Meta lists.
struct List {
    templates: BTreeMap<(TemplateName, Language), Template>,
    /// Nothing of it was left out.
    is_whole: bool,
}

async fn list(graph: &Graph, known: &KnownConnection) -> Result<List, Unread> {
    let mut starts = 1;
    loop {
        match list_once(graph, known).await {
            Err(unread) if unread.is_of_cursor() && starts < STARTS => starts += 1,
            other => return other,
        }
    }
}

async fn list_once(graph: &Graph, known: &KnownConnection) -> Result<List, Unread> {
    let credentials = credentials(known);
    let mut list = List { templates: BTreeMap::new(), is_whole: true };
    let mut after = None;
    for _ in 0..PAGES {
        let page = graph.templates(&known.connection.waba, &credentials, after.as_deref()).await?;
        list.is_whole &= page.skipped == 0;
        // Meta lists some for a while after they were deleted.
        let templates = page.templates.into_iter().filter(|it| it.status != deleted());
        list.templates.extend(templates.map(|it| ((it.name.clone(), it.language.clone()), it)));
        after = page.after;
        if after.is_none() {
            return Ok(list);
        }
    }
    Ok(List { is_whole: false, ..list })
}

fn deleted() -> Status {
    Status::Other("DELETED".to_owned())
}

/// Writes what differs from what is known, unless a later reading was kept meanwhile.
async fn keep(store: &Store, teller: &Teller<'_>, list: List, began: Timestamp) -> Result<(), CatalogueError> {
    let connection = teller.connection;
    let catalogue = store.catalogue(connection).await?;
    if catalogue.is_some_and(|it| it.listed_at >= began) {
        return Ok(());
    }
    let identity = |it: &TemplateItem| (it.template.name.clone(), it.template.language.clone());
    let mut items: BTreeMap<_, _> = store.templates(connection).await?.into_iter().map(|it| (identity(&it), it)).collect();
    for ((name, language), template) in &list.templates {
        let item = items.remove(&(name.clone(), language.clone()));
        if TemplateItem::listed(item.as_ref(), template, began).is_none() {
            continue;
        }
        let change = async |known: Option<&TemplateItem>| {
            let Some(next) = TemplateItem::listed(known, template, began) else { return Ok(None) };
            // The first list is no news.
            if catalogue.is_some() {
                teller.tell(known, &next).await?;
            }
            Ok::<_, CatalogueError>(Some(next))
        };
        store.change_template(connection, name, language, change).await?;
    }
    // What is left is not listed; of a list that is not whole, nobody knows.
    for gone in items.into_values().filter(|it| list.is_whole && it.changed_at <= began) {
        teller.tell_status(Some(&gone), &gone.template, deleted()).await?;
        store.forget_template(connection, &gone).await?;
    }
    Ok(store.note_catalogue(connection, CatalogueItem { listed_at: began }).await?)
}

/// Tells the platform of a connection's templates. The same change is the same event until it is written.
struct Teller<'a> {
    queues: &'a Queues,
    tenant: &'a TenantId,
    connection: &'a ConnectionId,
    at: Timestamp,
}

impl Teller<'_> {
    async fn tell(&self, before: Option<&TemplateItem>, next: &TemplateItem) -> Result<(), QueueError> {
        let it = &next.template;
        if before.map(TemplateItem::status) != Some(next.status()) {
            self.tell_status(before, it, next.status()).await?;
        }
        let Some(before) = before else { return Ok(()) };
        if before.template.category != it.category {
            let (category, previous) = (it.category.clone(), before.template.category.clone());
            let what = Happened::TemplateCategory { template: it.name.clone(), language: it.language.clone(), category, previous };
            self.say("template.category", Some(before), it, &body(&it.category), what).await?;
        }
        if let Some(quality) = it.quality.clone().filter(|it| before.template.quality.as_ref() != Some(it)) {
            let previous = before.template.quality.clone();
            let what = Happened::TemplateQuality { template: it.name.clone(), language: it.language.clone(), quality, previous };
            self.say("template.quality", Some(before), it, it.quality.as_deref().unwrap_or_default(), what).await?;
        }
        Ok(())
    }

    async fn tell_status(&self, before: Option<&TemplateItem>, it: &Template, status: Status) -> Result<(), QueueError> {
        let (word, previous) = (body(&status), before.map(TemplateItem::status));
        let what = Happened::TemplateStatus { template: it.name.clone(), language: it.language.clone(), status, previous };
        self.say("template.status", before, it, &word, what).await
    }

    async fn say(&self, kind: &str, before: Option<&TemplateItem>, it: &Template, word: &str, what: Happened) -> Result<(), QueueError> {
        let era = before.map(TemplateItem::era).unwrap_or_default();
        let parts = [kind, it.name.as_str(), it.language.as_str(), word, era.as_str()];
        feed::tell(self.queues, self.tenant, self.connection, self.at, &parts, what).await
    }
}

#[cfg(test)]
mod tests {
    use domain::template::{Category, ParameterFormat};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    fn at(seconds: u64) -> Timestamp {
        NOW.plus(Duration::from_secs(seconds))
    }

    fn template(status: Status) -> Template {
        Template {
            id: "8101".to_owned(),
            name: TemplateName::parse("spring_offer").expect("a name"),
            language: Language::parse("en_US").expect("a language"),
            status,
            category: Category::Marketing,
            quality: None,
            format: ParameterFormat::Positional,
            is_hidden: false,
            components: Vec::new(),
        }
    }

    fn item(status: Status) -> TemplateItem {
        TemplateItem::listed(None, &template(status), NOW).expect("news")
    }

    fn stopped(status: Status, code: u32, seconds: u64) -> TemplateItem {
        TemplateItem { stopped: Some(Stopped { code, at: at(seconds) }), mapping: Some(Values::default()), ..item(status) }
    }

    #[test]
    fn a_stop_counts_only_where_the_list_says_nothing_worse() {
        let cases = [
            (item(Status::Approved), None),
            (stopped(Status::Approved, 132_015, 1), Some("PAUSED")),
            (stopped(Status::Approved, 132_016, 1), Some("DISABLED")),
            (stopped(Status::Paused, 132_016, 1), Some("PAUSED")),
            (item(Status::Disabled), Some("DISABLED")),
            (item(Status::Other("IN_APPEAL".to_owned())), Some("IN_APPEAL")),
        ];
        for (item, expected) in cases {
            assert_eq!(item.refused_status().as_deref(), expected, "{item:?}");
        }
    }

    #[test]
    fn the_first_refused_send_of_a_pause_stops_it_and_none_from_before_it_was_freed() {
        let halted = |known: &TemplateItem, code, seconds| TemplateItem::halted(known, Stopped { code, at: at(seconds) }).is_some();
        assert!(halted(&item(Status::Approved), 132_015, 1));
        let paused = stopped(Status::Approved, 132_015, 1);
        assert_eq!([132_015, 132_016].map(|code| halted(&paused, code, 2)), [false, true], "disabled is worse than paused");
        let freed = paused.freed(at(5));
        assert_eq!([4, 5, 6].map(|seconds| halted(&freed, 132_015, seconds)), [false, false, true]);
    }

    #[test]
    fn a_list_frees_what_it_had_otherwise_before_and_nothing_else() {
        let listed = |known: &TemplateItem, status, seconds| TemplateItem::listed(Some(known), &template(status), at(seconds));
        let was_paused = listed(&stopped(Status::Paused, 132_015, 1), Status::Approved, 2).expect("news");
        assert_eq!((was_paused.stopped, was_paused.freed_at, was_paused.mapping), (None, Some(at(2)), Some(Values::default())));
        assert_eq!(listed(&stopped(Status::Approved, 132_015, 1), Status::Approved, 2), None, "the same again is no news");
        // A send that was refused after the reading had begun knows more.
        let refused_later = listed(&stopped(Status::Paused, 132_015, 3), Status::Approved, 2).expect("news");
        assert_eq!(refused_later.stopped, Some(Stopped { code: 132_015, at: at(3) }));
        // What was listed by a later reading stays.
        let newer = TemplateItem { changed_at: at(9), ..item(Status::Paused) };
        assert_eq!(listed(&newer, Status::Approved, 8), None);
    }

    #[test]
    fn a_word_after_the_stop_lifts_it_if_the_list_agrees() {
        let lifted = |status, stopped_at, told_at| TemplateItem::lifted(&stopped(status, 132_015, stopped_at), at(told_at)).is_some();
        assert!(lifted(Status::Approved, 1, 2));
        assert!(!lifted(Status::Approved, 2, 2), "at once is not after");
        assert!(!lifted(Status::Approved, 3, 2));
        assert!(!lifted(Status::Paused, 1, 2));
        assert_eq!(TemplateItem::lifted(&item(Status::Approved), at(2)), None);
    }
}
