//! The last step of a job, at its slot: reserve, claim, send once; and what Meta's answer means.

use std::time::Duration;

use domain::conversation::Admitted;
use domain::customer::Customer;
use domain::ids::{MessageId, NumberId, hash};
use domain::refusal::Refusal;
use domain::status::{Fault, Phase};
use domain::template::Category;
use domain::time::Timestamp;
use meta::fault::Class;
use meta::graph::{Endpoint, Sent};
use meta::outgoing::Recipient;

use crate::directory::KnownConnection;
use crate::outbox::{Draft, Fence, Outcome, credentials, recipient};
use crate::redelivery::Progress;
use crate::store::{Claim, RACES};
use crate::{connections, endings, handling, opaque};

use super::{Planned, Ready, Slot, TemplateError, Templates, progress, reachable};

/// Meta's code for a number that sends faster than it may: <https://developers.facebook.com/documentation/business-messaging/whatsapp/throughput>.
const TOO_FAST: u32 = 130_429;
/// How long a number that sent too fast is left alone, by everybody.
const PAUSE: Duration = Duration::from_secs(2);
/// Without a slot a job comes back after this long for each time it was received…
const NO_SLOT_AGAIN: Duration = Duration::from_secs(10);
/// …and at most after this long.
const NO_SLOT_AT_MOST: Duration = Duration::from_mins(1);

impl Templates<'_> {
    /// At its slot: reserves the conversation, claims the message, sends it once.
    ///
    /// # Errors
    /// [`TemplateError`]: the next delivery goes on.
    pub async fn finish(&self, planned: Planned) -> Result<Progress, TemplateError> {
        let Planned { ready, slot } = planned;
        let Some(slot) = slot else {
            self.counts.one("gcra.full");
            return Ok(Progress::Wait(no_slot_again(ready.receive_count, &ready.key.id)));
        };
        self.clock.until(slot.at).await;
        let (connection, place, now) = (ready.known.connection.id.clone(), slot.place, self.clock.now());
        if self.leases.is_paused(&slot.number, now) {
            self.give_back(&connection, place);
            return Ok(Progress::Wait(PAUSE));
        }
        let sent = self.send(ready, &slot, now).await;
        if !matches!(sent, Ok((_, Used::Place))) {
            self.give_back(&connection, place);
            self.counts.one("slot.wasted");
        }
        Ok(progress(sent?.0))
    }

    async fn send(&self, mut ready: Ready, slot: &Slot, now: Timestamp) -> Result<(Outcome, Used), TemplateError> {
        if let Some(step) = ready.message.once.clone() {
            let conversation = &ready.stored.conversation;
            if let Some(unconfirmed) = &ready.resends {
                self.store.give_once_back(conversation, &step, &unconfirmed.id).await?;
            }
            if !self.store.take_once(conversation, &step, &ready.key.id).await? {
                return Ok((self.refuse(&ready.draft(), &Refusal::Duplicate, now).await?, Used::Nothing));
            }
        }
        let reserved = match self.reserve(&mut ready, &slot.number, now).await? {
            Ok(it) => it,
            Err(refusal) => return Ok((self.refuse(&ready.draft(), &refusal, now).await?, Used::Nothing)),
        };
        let used = if reserved.number == slot.number { Used::Place } else { Used::Nothing };
        // Nothing that can fail stands between the claim and the send.
        self.taken_by_author(&ready).await?;
        ready.message.template_badge = reserved.admitted.has_badge;
        let draft = ready.draft();
        let claimed = draft.message.clone().claimed(reserved.number.clone(), reserved.to.clone(), now);
        let throttled = match self.store.claim(&draft.key, claimed, draft.known.connection.messages_kept_for()).await? {
            Claim::Ours => 0,
            Claim::Existing(it) if it.phase == Phase::Released => {
                if !self.store.reclaim(&draft.key, 1, &reserved.number, &reserved.to, now).await? {
                    return Ok((Outcome::Wait(Duration::from_secs(1)), Used::Nothing));
                }
                it.throttled
            }
            Claim::Existing(it) => return Ok((self.existing(&draft, &it, now).await?, Used::Nothing)),
        };
        Ok((self.post(&ready, &draft, &reserved, (throttled, now)).await?, used))
    }

    /// Guard, sender and badge in one conditional write; whoever loses the race reads again, and decides again.
    async fn reserve(&self, ready: &mut Ready, candidate: &NumberId, now: Timestamp) -> Result<Result<Reserved, Refusal>, TemplateError> {
        let usable = ready.usable();
        for _ in 0..RACES {
            let mut next = ready.stored.clone();
            let admitted = match next.conversation.reserve(&ready.wish(), &usable, candidate, now) {
                Ok(it) => it,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let to = match reachable(ready, &next.conversation) {
                Ok(it) => it,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let number = next.conversation.sender_among(&usable).unwrap_or(candidate).clone();
            // What a person begins is in the inbox at once; a campaign is not, until somebody answers.
            if ready.is_of_person() {
                self.store.mark_active(&mut next.conversation, now).await?;
            }
            if next.conversation == ready.stored.conversation || self.store.keep_conversation(&mut next).await? {
                match &ready.stored.conversation.sender {
                    None => self.counts.one("sticky.assigned"),
                    Some(it) if it.number != number => self.counts.one("sticky.reassigned"),
                    Some(_) => {}
                }
                ready.stored = next;
                return Ok(Ok(Reserved { admitted, number, to }));
            }
            // A merge may have moved the conversation; the message lies where it was claimed, or will lie where the customer is now.
            let clock = || self.clock.now();
            if let Some(moved) = self.store.conversation(&ready.stored.conversation.id).await? {
                let it = &moved.conversation;
                ready.key = self.outbox(&clock).key_of(&it.id, &it.parts, ready.key.at, &ready.key.id).await?;
                ready.stored = moved;
            }
        }
        Err(TemplateError::Contended)
    }

    /// A person's message takes the conversation, as of the job's own time.
    async fn taken_by_author(&self, ready: &Ready) -> Result<(), TemplateError> {
        if ready.is_of_person() {
            let (tenant, id) = (&ready.known.connection.tenant, &ready.stored.conversation.id);
            handling::take(self.store, self.queues, tenant, id, ready.key.at).await?;
        }
        Ok(())
    }

    async fn post(&self, ready: &Ready, draft: &Draft<'_>, reserved: &Reserved, claim: (u32, Timestamp)) -> Result<Outcome, TemplateError> {
        let clock = || self.clock.now();
        let outbox = self.outbox(&clock);
        let to = match ready.filled.category() {
            Category::Authentication => Recipient::of(&reserved.to),
            Category::Marketing | Category::Utility | Category::Other(_) => recipient(&reserved.to),
        };
        let through = match ready.filled.category() {
            Category::Marketing if ready.known.connection.marketing_messages => Endpoint::MarketingMessages,
            _ => Endpoint::Messages,
        };
        let opaque = opaque::print(&draft.key, 1);
        let post = async |known: &KnownConnection| {
            self.graph.send(through, &reserved.number, &credentials(known), &to, &ready.filled, &opaque).await
        };
        let posted = outbox.attempt(draft, post).await?;
        let known = posted.fresh.as_deref().unwrap_or(draft.known);
        match posted.sent {
            Sent::Accepted { wamid, customer, held } => Ok(outbox.accepted(draft, 1, &wamid, customer, held).await?),
            Sent::Unknown { why } => Ok(outbox.unknown(draft, why)),
            Sent::Refused { class, fault, http } => {
                outbox.refused_by_meta(draft, &fault, http);
                self.refused_by_meta(draft, known, class, &fault, &reserved.number, claim).await
            }
        }
    }

    async fn refused_by_meta(
        &self,
        draft: &Draft<'_>,
        known: &KnownConnection,
        class: Class,
        fault: &Fault,
        number: &NumberId,
        (throttled, claimed_at): (u32, Timestamp),
    ) -> Result<Outcome, TemplateError> {
        let clock = || self.clock.now();
        let (outbox, now) = (self.outbox(&clock), clock());
        let fence = Fence { attempt: 1, claimed_at };
        match class {
            Class::NotSent => {
                // Too fast for this number: whoever else sends from it is told, by its pace.
                if fault.code == TOO_FAST {
                    self.leases.pause(self.store, number, now.plus(PAUSE)).await?;
                }
                return Ok(outbox.throttled(draft, class, throttled, fence).await?);
            }
            Class::Pair => return Ok(outbox.throttled(draft, class, throttled, fence).await?),
            Class::Unknown => return Ok(outbox.unknown(draft, "Meta had trouble with the request")),
            Class::Credentials | Class::Account => return Ok(outbox.connection_refused(draft, known, class, fault, fence).await?),
            Class::Number => {
                // Definitely not sent, and the next number may: nothing of a campaign is lost with a number.
                self.store.released(&draft.key, fence, false).await?;
                connections::mark_number(self.store, self.queues, &known.connection, number, fault, now, now).await?;
                self.directory.forget_numbers(&known.connection.id);
                return Ok(Outcome::Wait(Duration::from_secs(1)));
            }
            Class::OptedOut => outbox.opted_out(draft, now).await?,
            Class::TemplateMissing => self.catalogue.ask(self.queues, &known.connection, now).await?,
            Class::Window
            | Class::Permanent
            | Class::Later
            | Class::MarketingLimit
            | Class::TemplatePaused
            | Class::TemplateDisabled
            | Class::Fix => {}
        }
        let outcome = outbox.fail(draft, endings::of_fault(class, fault, now), fence).await?;
        self.settle(draft, &draft.message, Some((class, fault.code))).await?;
        Ok(outcome)
    }
}

/// A conversation that waits for this template to go out.
struct Reserved {
    admitted: Admitted,
    number: NumberId,
    to: Customer,
}

/// What a send used of its slot.
#[derive(PartialEq, Eq)]
enum Used {
    /// The number that the rotation gave, or the customer's own.
    Place,
    Nothing,
}

/// Half as long up to half as long again, told apart by the message: those that found no slot together do not come back together.
fn no_slot_again(receive_count: u32, id: &MessageId) -> Duration {
    let about = NO_SLOT_AGAIN.saturating_mul(receive_count.max(1)).min(NO_SLOT_AT_MOST);
    let spread =
        hash(&["spread", id.as_str(), &receive_count.to_string()]).bytes().fold(0_u32, |sum, it| (sum * 31 + u32::from(it)) % 1_000);
    about / 2 + about.mul_f64(f64::from(spread) / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_slot_a_job_comes_back_later_each_time_and_never_with_all_others() {
        let id = |it: u32| MessageId::parse(format!("job-{it}")).expect("an id");
        for (receives, about) in [(1, 10), (3, 30), (6, 60), (500, 60)] {
            let waits: Vec<u64> = (0..200).map(|it| no_slot_again(receives, &id(it)).as_secs()).collect();
            assert!(waits.iter().all(|it| (about / 2..=about * 3 / 2).contains(it)), "{receives}: {waits:?}");
            let (least, most) = (waits.iter().min().expect("some"), waits.iter().max().expect("some"));
            assert!(most - least > about / 2, "spread over {least} to {most}");
        }
    }
}
