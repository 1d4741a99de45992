//! How a message ends when it is not sent, and what the feed is told of each step of a message.

use std::time::Duration;

use domain::ids::{MessageKey, TenantId};
use domain::refusal::{Refusal, Retry};
use domain::status::{Fault, State, Step};
use domain::time::Timestamp;
use meta::fault::Class;

use crate::feed;
use crate::jobs::Happened;
use crate::queues::{QueueError, Queues};
use crate::store::{Ending, Outbound};

/// What Meta will not take now it may take after this long.
const LATER: Duration = Duration::from_hours(1);
/// Marketing to a customer who gets no more of it: Meta advises to send none within a day.
pub(crate) const MARKETING_LATER: Duration = Duration::from_hours(24);

/// Whether to send the same again after a fault of this class.
pub(crate) fn retry(class: Class, now: Timestamp) -> Retry {
    match class {
        Class::Later | Class::NotSent | Class::Pair | Class::TemplatePaused => Retry::Later { retry_at: now.plus(LATER) },
        Class::MarketingLimit => Retry::Later { retry_at: now.plus(MARKETING_LATER) },
        Class::Number | Class::Credentials | Class::Account | Class::Fix | Class::TemplateMissing => Retry::Fix,
        Class::Unknown | Class::Window | Class::Permanent | Class::OptedOut | Class::TemplateDisabled => Retry::Never,
    }
}

/// How a fault of Meta's ends a message: with its code and its own words as the note.
pub(crate) fn of_fault(class: Class, fault: &Fault, now: Timestamp) -> Ending {
    Ending { code: Some(fault.code.to_string()), note: Some(note(fault)), retry: Some(retry(class, now)) }
}

/// How a refusal of ours ends a message.
pub(crate) fn of_refusal(refusal: &Refusal) -> Ending {
    Ending { code: Some(refusal.code().to_owned()), note: Some(refusal.note()), retry: Some(refusal.retry()) }
}

/// How a message ends of which nobody knows whether it was sent.
pub(crate) fn unconfirmed() -> Ending {
    let note = "Meta did not say whether it took this message, and no status came. It may have arrived; send it again only if it may arrive twice.";
    Ending { code: Some("unconfirmed".to_owned()), note: Some(note.to_owned()), retry: Some(Retry::Never) }
}

/// Meta's title and details, as a person reads them.
pub(crate) fn note(fault: &Fault) -> String {
    // The title of an answer begins with the code, which stands beside the note anyway.
    let code = format!("(#{}) ", fault.code);
    let title = fault.title.as_deref().map(|it| it.strip_prefix(&code).unwrap_or(it));
    match (title, &fault.details) {
        (Some(title), Some(details)) if !details.contains(title) => format!("{title}: {details}"),
        (_, Some(details)) => details.clone(),
        (Some(title), None) => title.to_owned(),
        (None, None) => format!("Meta's code {}", fault.code),
    }
}

/// A step of a message, for the feed.
pub(crate) struct Stepped<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) key: &'a MessageKey,
    pub(crate) message: &'a Outbound,
    pub(crate) attempt: u8,
    /// `sending`, `accepted`, `held`, `unconfirmed`, or a step of Meta's.
    pub(crate) step: &'a str,
    pub(crate) at: Timestamp,
}

/// Tells the feed of a step. Told again, it is the same event.
pub(crate) async fn tell(queues: &Queues, it: Stepped<'_>) -> Result<(), QueueError> {
    let fault = it.message.attempt(it.attempt).and_then(|it| it.fault.as_ref()).filter(|_| it.step == Step::Failed.name());
    let (code, note, retry) = match fault {
        Some(fault) => {
            let class = meta::fault::classify_failed(fault);
            (Some(fault.code.to_string()), Some(note(fault)), Some(retry(class, it.at)))
        }
        // What ended it holds no longer once Meta tells that it went out after all.
        None if matches!(it.message.state(), State::Failed | State::Unconfirmed) => {
            (it.message.code.clone(), it.message.note.clone(), it.message.retry)
        }
        None => (None, None, None),
    };
    let what = Happened::MessageState {
        conversation: it.key.conversation.clone(),
        message: it.key.to_string(),
        number: it.message.number.clone(),
        step: it.step.to_owned(),
        state: it.message.state(),
        attempt: it.attempt,
        code,
        note,
        retry,
        pricing: it.message.pricing.clone(),
        campaign: it.message.campaign.clone(),
        template_badge: it.message.template_badge,
    };
    let attempt = it.attempt.to_string();
    let parts = ["state", it.key.id.as_str(), attempt.as_str(), it.step];
    feed::tell(queues, it.tenant, &it.message.connection, it.at, &parts, what).await
}
