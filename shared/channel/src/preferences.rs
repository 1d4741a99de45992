//! Words for and against templates that an operator or an agent was told by a customer: marketing or none, and no templates at all.
//!
//! What Meta tells of marketing comes by other ways (its preferences, its refusals); of all words the newest wins.

use domain::conversation::Conversation;
use domain::ids::{ConversationId, TenantId};
use domain::message::Preference;
use domain::time::Timestamp;

use crate::SendError;
use crate::feed;
use crate::jobs::Happened;
use crate::queues::Queues;
use crate::store::Store;

/// Writes down a customer's word on marketing, as of `at`. The conversation as it stands; `None` if there is none.
///
/// # Errors
/// [`SendError`].
pub async fn set_marketing(
    store: &Store,
    queues: &Queues,
    tenant: &TenantId,
    id: &ConversationId,
    preference: Preference,
    at: Timestamp,
) -> Result<Option<Conversation>, SendError> {
    let Some(it) = store.change_conversation(id, |it| it.prefer(preference, at)).await? else { return Ok(None) };
    // Told again on a repeat, as the same event; what a later word has overtaken is not told.
    if it.opt_out.is_some_and(|it| it.preference == preference && it.at == at) {
        feed::tell_preference(queues, tenant, &it.connection, &it.id, preference, at).await?;
    }
    Ok(Some(it))
}

/// Writes down whether templates may be sent to a customer at all, as of `at`. The conversation as it stands; `None` if there is none.
///
/// # Errors
/// [`SendError`].
pub async fn set_do_not_contact(
    store: &Store,
    queues: &Queues,
    tenant: &TenantId,
    id: &ConversationId,
    is_set: bool,
    at: Timestamp,
) -> Result<Option<Conversation>, SendError> {
    let Some(it) = store.change_conversation(id, |it| it.set_do_not_contact(is_set, at)).await? else { return Ok(None) };
    if it.do_not_contact.is_some_and(|it| it.is_set == is_set && it.at == at) {
        let (conversation, time) = (it.id.to_string(), at.sortable());
        let word = if is_set { "set" } else { "lifted" };
        let what = Happened::DoNotContact { conversation: it.id.clone(), is_set };
        let parts = ["do_not_contact", conversation.as_str(), time.as_str(), word];
        feed::tell(queues, tenant, &it.connection, at, &parts, what).await?;
    }
    Ok(Some(it))
}
