//! The first step of a job, alone: its connection, its template, its customer's conversation. What cannot go out ends here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::connection::Sending;
use domain::customer::Customer;
use domain::ids::{MessageId, MessageKey, hash};
use domain::refusal::Refusal;
use domain::status::{Phase, State};
use domain::template::{Category, Filled};
use domain::time::Timestamp;

use crate::catalogue::Found;
use crate::directory::KnownConnection;
use crate::feed::{self, body};
use crate::jobs::{Author, Happened, TemplateSend, To};
use crate::outbox::{AHEAD, Draft, NOT_RUNNING_AGAIN, Outcome, writer};
use crate::queues::QueueError;
use crate::redelivery::{Delivery, Prepared, Progress};
use crate::resends::KeptTemplate;
use crate::store::{MessageItem, Outbound, StoreError, Stored, TemplateUsed, Writer};
use crate::{connections, people};

use super::{Broken, LOOKS_AFTER, Ready, Submitted, TemplateError, Templates, ended, reachable, retry};

/// A job without a word on it is worth sending for so long after its own time.
const WORTH_FOR: Duration = Duration::from_hours(24);
/// A template that is not known here is looked for again after this long for each time the job was received, while the list is being read…
const UNLISTED_AGAIN: Duration = Duration::from_secs(5);
/// …and at most after this long…
const UNLISTED_AT_MOST: Duration = Duration::from_mins(1);
/// …and counts as missing once the job has waited for so long in vain.
const UNLISTED_FOR: Duration = Duration::from_mins(10);

impl Templates<'_> {
    /// Checks a job, and finds its template, its customer's conversation and its numbers; what cannot go out ends here.
    ///
    /// # Errors
    /// [`TemplateError`]: the next delivery goes on, but for a body that breaks the schema.
    pub async fn prepare(&self, submitted: Submitted, delivery: &Delivery) -> Result<Prepared<Ready>, TemplateError> {
        let job = match submitted {
            Submitted::Job(it) => it,
            Submitted::Broken(it) => {
                self.refuse_broken(&it).await?;
                return Err(TemplateError::Malformed);
            }
        };
        let now = self.clock.now();
        let known = self.directory.connection(&job.connection, now).await?.filter(|it| it.connection.tenant == job.tenant);
        let Some(mut known) = known else { return self.refuse_unkept(&job, &Refusal::UnknownConnection, now).await };
        if known.connection.lifecycle.sending(now) != Sending::Allowed
            && let Some(fresh) = self.directory.connection_afresh(&job.connection, now).await?
        {
            known = fresh;
        }
        let (id, at) = match identify(&job, now) {
            Ok(it) => it,
            Err(refusal) => return self.refuse_unkept(&job, &refusal, now).await,
        };
        let checked = match self.check(&job, &known, at, delivery, now).await? {
            Checked::Wait(again) => return Ok(Prepared::Ended(Progress::Wait(again))),
            Checked::Filled(it) => Ok(*it),
            Checked::Refused(it) => Err(it),
        };
        let Some(stored) = self.conversation(&job, &id, at, checked.is_ok()).await? else {
            let unknown = match &job.to {
                To::Conversation(_) => Refusal::UnknownConversation,
                // One is begun for an address, unless its data were erased since the job was made.
                To::Phone(_) | To::Bsuid(_) => Refusal::Erased,
            };
            let refusal = checked.err().unwrap_or(unknown);
            return self.refuse_unkept(&job, &refusal, now).await;
        };
        self.admit(job, known, (id, at), checked, stored, delivery).await
    }

    async fn admit(
        &self,
        job: Box<TemplateSend>,
        known: Arc<KnownConnection>,
        (id, at): (MessageId, Timestamp),
        checked: Result<(Filled, String), Refusal>,
        stored: Stored,
        delivery: &Delivery,
    ) -> Result<Prepared<Ready>, TemplateError> {
        let clock = || self.clock.now();
        let (outbox, now) = (self.outbox(&clock), clock());
        let conversation = &stored.conversation;
        let key = match conversation.unanswered.as_ref().map(|it| &it.message).filter(|it| (it.at, &it.id) == (at, &id)) {
            // A reservation names the part of the conversation in which its claim lies.
            Some(own) => own.clone(),
            None => outbox.key_of(&conversation.id, &conversation.parts, at, &id).await?,
        };
        let mut message = self.draft(&job);
        if let Ok((_, content)) = &checked {
            message = message.with_content(content.clone());
        }
        let draft = Draft { known: &known, key: key.clone(), message: message.clone(), looks_after: &LOOKS_AFTER };
        let filled = match (checked, known.connection.lifecycle.sending(now)) {
            (Err(refusal), _) => Err(refusal),
            (Ok(_), Sending::Refused) => Err(Refusal::NotRunning),
            (Ok(_), Sending::Waits) => {
                self.is_held_back.set(true);
                return Ok(ended(outbox.wait_for_connection(&draft, now).await?));
            }
            (Ok(it), Sending::Allowed) => Ok(it),
        };
        let filled = match filled {
            Ok((it, _)) => it,
            Err(refusal) => return Ok(ended(self.refuse(&draft, &refusal, now).await?)),
        };
        // Most jobs are delivered once: only a later delivery may find a message of its own.
        if delivery.receive_count > 1
            && let Some(outcome) = self.found(&draft, now).await?
        {
            return Ok(ended(outcome));
        }
        let resends = self.resends(&job).await?;
        let numbers = self.directory.numbers(&known.connection, now).await?;
        let ready = Ready { job, key, message, filled, resends, stored, numbers, known, receive_count: delivery.receive_count };
        let usable = ready.usable();
        if usable.is_empty() {
            // Whoever marked the last of them may have died before saying so.
            connections::fail_without_numbers(self.store, self.queues, &ready.known.connection, now).await?;
            self.is_held_back.set(true);
            return Ok(Prepared::Ended(Progress::Wait(NOT_RUNNING_AGAIN)));
        }
        let admitted = ready.stored.conversation.admit_template(&ready.wish(), &usable, now).map(drop);
        if let Err(refusal) = admitted.and_then(|()| reachable(&ready, &ready.stored.conversation).map(drop)) {
            return Ok(ended(self.refuse(&ready.draft(), &refusal, now).await?));
        }
        Ok(Prepared::Ready(ready))
    }

    /// Everything that can be said without the customer's conversation.
    async fn check(
        &self,
        job: &TemplateSend,
        known: &KnownConnection,
        at: Timestamp,
        delivery: &Delivery,
        now: Timestamp,
    ) -> Result<Checked, TemplateError> {
        let connection = &known.connection;
        if now > job.not_after.unwrap_or_else(|| at.plus(WORTH_FOR)) {
            return Ok(Checked::Refused(Refusal::Expired));
        }
        if let Some(Author::Agent(agent)) = &job.author
            && !self.directory.is_attached(&connection.id, agent, now).await?
        {
            return Ok(Checked::Refused(Refusal::NotAttached));
        }
        let found = self.catalogue.find(&connection.id, &job.template, &job.language, now).await?;
        let template = match found {
            Found::Known(it) => it,
            // What is newer than the list may have been made since: the list is read once more before anybody is refused.
            Found::Unlisted { listed_at } if listed_at.is_none_or(|it| it < at) => {
                return match connection.lifecycle.sending(now) {
                    Sending::Allowed if delivery.sent_at_ms.is_some_and(|it| now.since(Timestamp::from_millis(it)) > UNLISTED_FOR) => {
                        Ok(Checked::Refused(Refusal::TemplateMissing))
                    }
                    Sending::Allowed => {
                        self.catalogue.ask(self.queues, connection, now).await?;
                        self.is_held_back.set(delivery.receive_count > 1);
                        Ok(Checked::Wait(UNLISTED_AGAIN.saturating_mul(delivery.receive_count.max(1)).min(UNLISTED_AT_MOST)))
                    }
                    Sending::Waits => {
                        self.is_held_back.set(true);
                        Ok(Checked::Wait(NOT_RUNNING_AGAIN))
                    }
                    Sending::Refused => Ok(Checked::Refused(Refusal::NotRunning)),
                };
            }
            Found::Unlisted { .. } => return Ok(Checked::Refused(Refusal::TemplateMissing)),
        };
        if connection.lifecycle.sending(now) == Sending::Allowed {
            self.catalogue.keep_fresh(self.queues, connection, now).await?;
        }
        if let Some(status) = template.refused_status() {
            return Ok(Checked::Refused(Refusal::TemplateNotApproved { status }));
        }
        let participant: BTreeMap<String, String> = job.participant.iter().map(|(name, it)| (name.clone(), it.0.clone())).collect();
        let filled = template.template.fill(&job.values, &participant, now).and_then(|it| {
            let problems = meta::templates::check(&it);
            if problems.is_empty() { Ok(it) } else { Err(problems) }
        });
        Ok(match filled {
            Ok(filled) => {
                // Nobody reads a login code later on.
                let is_code = *filled.category() == Category::Authentication;
                let kept = if is_code {
                    KeptTemplate { preview: template.template.blank_preview(), values: None }
                } else {
                    KeptTemplate { preview: filled.preview().clone(), values: Some(job.values.with_fields(&participant)) }
                };
                let content = body(&kept);
                Checked::Filled(Box::new((filled, content)))
            }
            Err(problems) => Checked::Refused(Refusal::Invalid { problems: problems.iter().map(ToString::to_string).collect() }),
        })
    }

    /// The customer's conversation; begun if there is none and `begins`.
    async fn conversation(&self, job: &TemplateSend, id: &MessageId, at: Timestamp, begins: bool) -> Result<Option<Stored>, StoreError> {
        let customer = match &job.to {
            To::Conversation(id) => {
                let found = self.store.conversation(id).await?;
                return Ok(found.filter(|it| it.conversation.connection == job.connection));
            }
            To::Phone(it) => Customer::known_by(Some(it.clone()), None),
            To::Bsuid(it) => Customer::known_by(None, Some(it.clone())),
        };
        let Some(customer) = customer else { return Ok(None) };
        if begins {
            // Our own wish to write is no evidence of Meta's that the address is theirs: any of that is newer.
            return people::home(self.store, &job.connection, &customer, id.as_str(), at, Timestamp::default()).await;
        }
        people::find_stored(self.store, &job.connection, &customer).await
    }

    fn draft(&self, job: &TemplateSend) -> Outbound {
        let author = job.author.as_ref().map_or(Writer::Campaign, writer);
        let mut message = Outbound::draft(job.connection.clone(), "template", String::new(), author);
        message.template = Some(TemplateUsed { name: job.template.clone(), language: job.language.clone() });
        message.resends = job.resends.as_deref().and_then(|it| MessageKey::parse(it).ok());
        message.campaign = job.campaign.as_ref().map(|it| it.as_str().to_owned());
        message.once = job.once.as_ref().map(|it| hash(&["once", it.as_str()]));
        message
    }

    /// The message that this one is sent again for, if nobody knows what became of that.
    async fn resends(&self, job: &TemplateSend) -> Result<Option<MessageKey>, TemplateError> {
        let Some(key) = job.resends.as_deref().and_then(|it| MessageKey::parse(it).ok()) else { return Ok(None) };
        let found = self.store.message([&key.conversation], key.at, &key.id).await?;
        Ok(match found {
            Some((key, MessageItem::Outbound(it))) if it.state() == State::Unconfirmed && it.connection == job.connection => Some(key),
            Some(_) | None => None,
        })
    }

    /// What became of the job's own message, if it has one that does not want to be sent (again).
    async fn found(&self, draft: &Draft<'_>, now: Timestamp) -> Result<Option<Outcome>, TemplateError> {
        let found = self.store.message([&draft.key.conversation], draft.key.at, &draft.key.id).await?;
        let Some((_, MessageItem::Outbound(existing))) = found else { return Ok(None) };
        match existing.phase {
            Phase::Released => Ok(None),
            Phase::Sending | Phase::Accepted | Phase::Held | Phase::Failed | Phase::Unconfirmed => {
                self.existing(draft, &existing, now).await.map(Some)
            }
        }
    }

    /// A refusal of a job that leads to no conversation.
    async fn refuse_unkept(&self, job: &TemplateSend, refusal: &Refusal, now: Timestamp) -> Result<Prepared<Ready>, TemplateError> {
        self.counts.one("send.refused");
        let conversation = match &job.to {
            To::Conversation(it) => Some(it.clone()),
            To::Phone(_) | To::Bsuid(_) => None,
        };
        let what = Happened::SendRefused {
            conversation,
            message: job.id.clone(),
            code: refusal.code().to_owned(),
            note: refusal.note(),
            closed_at: None,
            retry: retry(refusal, now),
            campaign: job.campaign.as_ref().map(|it| it.as_str().to_owned()),
        };
        feed::tell(self.queues, &job.tenant, &job.connection, now, &["refused", job.id.as_str(), refusal.code()], what).await?;
        Ok(Prepared::Ended(Progress::Done))
    }

    async fn refuse_broken(&self, broken: &Broken) -> Result<(), QueueError> {
        self.counts.one("send.refused");
        let refusal = Refusal::Invalid { problems: vec![broken.problem.clone()] };
        let what = Happened::SendRefused {
            conversation: None,
            message: broken.id.clone(),
            code: refusal.code().to_owned(),
            note: refusal.note(),
            closed_at: None,
            retry: refusal.retry(),
            campaign: broken.campaign.clone(),
        };
        feed::tell(self.queues, &broken.tenant, &broken.connection, self.clock.now(), &["broken", broken.id.as_str()], what).await
    }
}

/// What a look at the job and its template says.
enum Checked {
    /// The template, and what of it is kept.
    Filled(Box<(Filled, String)>),
    Refused(Refusal),
    Wait(Duration),
}

/// The job's id and own time. A time ahead of ours would stand at the end of its conversation until then.
fn identify(job: &TemplateSend, now: Timestamp) -> Result<(MessageId, Timestamp), Refusal> {
    let invalid = |problem: &str| Refusal::Invalid { problems: vec![problem.to_owned()] };
    let (id, at) =
        MessageId::of_job(&job.id).map_err(|_| invalid("id: is no UUIDv7; make one, and use it again only for the same template send."))?;
    if at > now.plus(AHEAD) {
        return Err(invalid("id: its time is more than five minutes ahead; set the sender's clock."));
    }
    Ok((id, at))
}
