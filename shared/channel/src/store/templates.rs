//! Items of the table `config` that hold what Meta lists of templates.

use domain::ids::ConnectionId;
use domain::template::{Language, Template, TemplateName, Values};
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::dynamo::{Condition, Range, Read, Update, Versioned, Written};
use super::keys::{self, Table};
use super::{RACES, Slice, Store, StoreError};

/// A template of a connection's account, with what we know of it beside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateItem {
    /// As Meta listed it last.
    pub template: Template,
    /// When it was last listed otherwise than before.
    pub changed_at: Timestamp,
    /// Meta refused a send of it since: it is not sent until Meta says that it may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
    /// Since when Meta lets it be sent again after it did not: what was refused before that is out of date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freed_at: Option<Timestamp>,
    /// The values that were last given to it, for the next who fills it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<Values>,
}

/// Why a template is not sent, though it is listed as approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// Meta's code: 132015 paused, 132016 disabled.
    pub code: u32,
    /// When Meta said so.
    pub at: Timestamp,
}

/// What is known of a connection's list of templates as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogueItem {
    /// When the reading began that it is from: it holds everything that Meta said before that.
    pub listed_at: Timestamp,
}

impl Store {
    /// A template, as it is now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn template(
        &self,
        connection: &ConnectionId,
        name: &TemplateName,
        language: &Language,
    ) -> Result<Option<TemplateItem>, StoreError> {
        Ok(self.dynamo.get(&keys::template(connection, name, language), Read::Strong).await?.map(|it| it.value))
    }

    /// Templates of a connection by name and language, after those of a page before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn templates_after(
        &self,
        connection: &ConnectionId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Slice<TemplateItem>, StoreError> {
        let range = Range { from: "TEMPLATE#", to: "TEMPLATE#~", newest_first: false, limit: Some(limit) };
        let key = keys::connection(connection);
        let found: Slice<(String, TemplateItem)> = self.dynamo.slice(Table::Config, &key.pk, range, after).await?;
        Ok(Slice { items: found.items.into_iter().map(|it| it.1).collect(), ended_at: found.ended_at })
    }

    /// Every template of a connection.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn templates(&self, connection: &ConnectionId) -> Result<Vec<TemplateItem>, StoreError> {
        let range = Range { from: "TEMPLATE#", to: "TEMPLATE#~", newest_first: false, limit: None };
        let found: Vec<(String, TemplateItem)> = self.dynamo.query(Table::Config, &keys::connection(connection).pk, range).await?;
        Ok(found.into_iter().map(|it| it.1).collect())
    }

    /// Changes a template's item as it is now; what `change` answers `None` for is left as it is. The item as it stands afterwards.
    /// `change` tells what it changes before it is written: it is asked again if another was faster.
    ///
    /// # Errors
    /// [`StoreError`], or that of `change`.
    pub async fn change_template<E: From<StoreError>>(
        &self,
        connection: &ConnectionId,
        name: &TemplateName,
        language: &Language,
        change: impl AsyncFn(Option<&TemplateItem>) -> Result<Option<TemplateItem>, E>,
    ) -> Result<Option<TemplateItem>, E> {
        let key = keys::template(connection, name, language);
        for _ in 0..RACES {
            let found: Option<Versioned<TemplateItem>> = self.dynamo.get(&key, Read::Strong).await?;
            let Some(next) = change(found.as_ref().map(|it| &it.value)).await? else { return Ok(found.map(|it| it.value)) };
            let (version, condition) = found.map_or((0, Condition::Absent), |it| (it.version, Condition::Version(it.version)));
            let written: Written<TemplateItem> = self.dynamo.put(&key, &next, Some(version + 1), None, condition).await?;
            if matches!(written, Written::Done) {
                return Ok(Some(next));
            }
        }
        Err(StoreError::Contended { what: "template" }.into())
    }

    /// Notes the values that were last given to a template, if it is listed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_mapping(
        &self,
        connection: &ConnectionId,
        name: &TemplateName,
        language: &Language,
        mapping: &Values,
    ) -> Result<(), StoreError> {
        // Whoever has read the item to change it must read it again.
        let update = Update::existing().set("mapping", mapping)?.add("version", 1);
        let _: Result<TemplateItem, Option<TemplateItem>> = self.dynamo.update(&keys::template(connection, name, language), update).await?;
        Ok(())
    }

    /// Forgets a template that Meta does not list any more, unless it was listed otherwise since it was read.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_template(&self, connection: &ConnectionId, item: &TemplateItem) -> Result<(), StoreError> {
        let key = keys::template(connection, &item.template.name, &item.template.language);
        self.dynamo.delete_when(&key, "changed_at", &item.changed_at).await
    }

    /// When a connection's templates were last read, if they were.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn catalogue(&self, connection: &ConnectionId) -> Result<Option<CatalogueItem>, StoreError> {
        Ok(self.dynamo.get(&keys::catalogue(connection), Read::Strong).await?.map(|it| it.value))
    }

    /// Notes that a connection's templates were read, unless a later reading is noted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_catalogue(&self, connection: &ConnectionId, item: CatalogueItem) -> Result<(), StoreError> {
        let update = Update::of_any().set("listed_at", &item.listed_at)?.when_absent_or_below("listed_at", item.listed_at.as_millis());
        let _: Result<CatalogueItem, Option<CatalogueItem>> = self.dynamo.update(&keys::catalogue(connection), update).await?;
        Ok(())
    }
}
