//! Contacts: what is known of a customer beside the conversation, for the values of templates.

use domain::contact::Contact;
use domain::ids::ConversationId;
use domain::template::{Template, Values};

use crate::store::{ContactItem, Store, StoreError};

/// A contact, and the version under which it was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// Changes whenever the contact does, by a merge too; 0 if nothing was ever saved.
    pub version: u64,
    /// The contact.
    pub contact: Contact,
}

/// What became of the wish to save a contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saved {
    /// It is saved.
    Saved(Known),
    /// It has changed since it was read: as it is now.
    Moved(Known),
    /// There is no such conversation.
    NoConversation,
}

/// The contact of a conversation. After a merge the fields of both are joined, the conversation's own first. `None` if there is no such
/// conversation.
///
/// # Errors
/// [`StoreError`].
pub async fn get(store: &Store, id: &ConversationId) -> Result<Option<Known>, StoreError> {
    let Some(stored) = store.conversation(id).await? else { return Ok(None) };
    let (known, _) = read(store, &stored.conversation.everywhere().cloned().collect::<Vec<_>>()).await?;
    Ok(Some(known))
}

/// Saves a contact in place of what was read under `version`, unless it has changed since.
///
/// # Errors
/// [`StoreError`].
pub async fn put(store: &Store, id: &ConversationId, contact: Contact, version: Option<u64>) -> Result<Saved, StoreError> {
    let Some(stored) = store.conversation(id).await? else { return Ok(Saved::NoConversation) };
    let parts: Vec<ConversationId> = stored.conversation.everywhere().cloned().collect();
    let (known, own) = read(store, &parts).await?;
    if version.is_some_and(|it| it != known.version) {
        return Ok(Saved::Moved(known));
    }
    let item = ContactItem { contact: contact.clone(), joined: parts[1..].to_vec(), revision: known.version + 1 };
    if store.keep_contact(&parts[0], &item, own).await? {
        return Ok(Saved::Saved(Known { version: known.version + 1, contact }));
    }
    Ok(Saved::Moved(read(store, &parts).await?.0))
}

/// The contact as its own item and those of the parts that it has not taken in yet make it, and the version of its own item.
async fn read(store: &Store, parts: &[ConversationId]) -> Result<(Known, u64), StoreError> {
    let (mut known, mut own, mut joined) = (Known::default(), 0, Vec::new());
    for (position, part) in parts.iter().enumerate() {
        let Some((version, item)) = store.contact(part).await? else { continue };
        if position == 0 {
            own = version;
        }
        if joined.contains(part) {
            continue;
        }
        // What the revisions add up to grows with a save and with a merge.
        known.version += item.revision;
        known.contact = known.contact.joined(item.contact);
        joined.extend(item.joined);
    }
    Ok((known, own))
}

/// What a form for a template begins with: what it was given last, and the contact's fields where they fit.
#[must_use]
pub fn prefill(contact: &Contact, template: &Template, mapping: Option<&Values>) -> Values {
    template.prefilled(contact, mapping.unwrap_or(&Values::default()))
}
