//! What follows when a template was definitely not delivered: told by Meta's answer, or by a status later.

use domain::ids::{ConnectionId, MessageKey, TenantId};
use domain::status::State;
use domain::time::Timestamp;
use meta::fault::Class;

use crate::catalogue::{self, Stop};
use crate::endings::MARKETING_LATER;
use crate::outbox::SendError;
use crate::queues::Queues;
use crate::store::{Outbound, Store};

/// A template that failed.
#[derive(Clone, Copy)]
pub(crate) struct Failed<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) connection: &'a ConnectionId,
    pub(crate) key: &'a MessageKey,
    pub(crate) message: &'a Outbound,
    /// Why, if it was Meta that refused it.
    pub(crate) fault: Option<(Class, u32)>,
    pub(crate) at: Timestamp,
}

/// Gives back what the template held, and remembers what Meta said of customer and template. Told again, it changes nothing more.
pub(crate) async fn settle(store: &Store, queues: &Queues, failed: Failed<'_>) -> Result<(), SendError> {
    let Failed { tenant, connection, key, message, fault, at } = failed;
    // A phone may have shown it before another device failed.
    if matches!(message.state(), State::Delivered | State::Read) {
        return Ok(());
    }
    let class = fault.map(|it| it.0);
    let conversation = store
        .change_conversation(&key.conversation, |it| {
            it.release_reservation(key);
            if class == Some(Class::MarketingLimit) {
                it.limit_marketing(at.plus(MARKETING_LATER));
            }
        })
        .await?;
    if let (Some(conversation), Some(step)) = (conversation, &message.once) {
        store.give_once_back(&conversation, step, &key.id).await?;
    }
    if let (Some(template), Some((Class::TemplatePaused | Class::TemplateDisabled, code))) = (&message.template, fault) {
        let stop = Stop { tenant, connection, name: &template.name, language: &template.language, code, at };
        catalogue::stop(store, queues, stop).await?;
    }
    Ok(())
}
