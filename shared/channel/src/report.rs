//! The health report of a connection: what is well, what is not and why, and what a person does about it.
//!
//! It is made of what is kept, the last check's readings first of all, and asks Meta nothing.

use std::time::Duration;

use domain::connection::{Quality, State};
use domain::ids::NumberId;
use domain::time::Timestamp;

use crate::connections::ConnectionError;
use crate::endpoints;
use crate::numbers::{self, NumberView};
use crate::store::{Attachment, Callback, Checked, CheckedSubject, Store, StoredConnection, Verdict, can_send_as};

/// A token that expires within this time is told of.
const EXPIRES_SOON: Duration = Duration::from_hours(7 * 24);

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedCheck {
    /// What: `state`, `access_token`, `token_expiry`, `app_secret`, `account`, `subscription`, `callback`, `number`, `messaging_limit`, `agent`,
    /// `inbound`, `agent_endpoint`, `speech_to_text` or `templates`.
    pub name: &'static str,
    /// Of which number, if it is one's.
    pub number: Option<NumberId>,
    /// Is it well?
    pub ok: bool,
    /// How it stands.
    pub why: String,
    /// What a person does about it, if it is not well.
    pub what_to_do: Option<String>,
}

/// How a connection stands, all told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthReport {
    /// Where it stands.
    pub state: State,
    /// When Meta was last asked.
    pub checked_at: Option<Timestamp>,
    /// How many customers the business may write to first within 24 hours, in Meta's word.
    pub messaging_limit: Option<String>,
    /// Its numbers.
    pub numbers: Vec<NumberView>,
    /// Everything that was looked at.
    pub checks: Vec<ReportedCheck>,
}

/// Reports on a connection.
///
/// # Errors
/// [`ConnectionError`].
pub async fn report(store: &Store, stored: &StoredConnection, now: Timestamp) -> Result<HealthReport, ConnectionError> {
    let connection = &stored.connection;
    let checked = store.checked(&connection.id).await?;
    let current = checked.as_ref().filter(|it| it.subject == Some(CheckedSubject::of(connection)));
    let mut checks = Vec::new();
    checks.push(state(stored));
    checks.extend(credentials(stored, current, now));
    checks.extend(account(current));
    checks.extend(webhooks(stored, current));
    let numbers = numbers::list(store, connection, checked.as_ref()).await?;
    checks.extend(numbers.iter().map(number));
    let attachments = store.attachments(&connection.id).await?;
    checks.push(if attachments.is_empty() {
        bad("agent", "No agent is attached: messages that come in are kept for people.", "Attach an agent to the connection.")
    } else {
        good("agent", format!("{} attached.", counted(attachments.len(), "agent is", "agents are")))
    });
    checks.push(if attachments.iter().any(|it| it.inbound) {
        good("inbound", "An agent takes what comes in.".to_owned())
    } else {
        bad("inbound", "No agent has Inbound on: nobody answers but people.", "Switch Inbound on for an agent of this connection.")
    });
    checks.extend(attachments.iter().filter(|it| it.endpoint.is_some()).map(endpoint));
    checks.extend(attachments.iter().filter(|it| it.inbound).map(speech_to_text));
    checks.push(match store.catalogue(&connection.id).await? {
        Some(_) => good("templates", "The templates are listed.".to_owned()),
        None => bad("templates", "The templates were not read from Meta yet.", "Start the connection, or refresh its templates."),
    });
    Ok(HealthReport {
        state: connection.lifecycle.state,
        checked_at: checked.as_ref().map(|it| it.checked_at),
        messaging_limit: checked.as_ref().and_then(|it| it.messaging_limit.clone()),
        numbers,
        checks,
    })
}

fn good(name: &'static str, why: String) -> ReportedCheck {
    ReportedCheck { name, number: None, ok: true, why, what_to_do: None }
}

fn bad(name: &'static str, why: impl Into<String>, what_to_do: impl Into<String>) -> ReportedCheck {
    ReportedCheck { name, number: None, ok: false, why: why.into(), what_to_do: Some(what_to_do.into()) }
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn endpoint(it: &Attachment) -> ReportedCheck {
    let name = "agent_endpoint";
    match it.down_since {
        Some(_) => bad(name, endpoints::down_note(it), endpoints::DOWN_ADVICE),
        None => good(name, format!("Agent {} takes its turns over HTTPS.", it.agent)),
    }
}

/// Not to have it is no fault: an agent may listen itself.
fn speech_to_text(it: &Attachment) -> ReportedCheck {
    let name = "speech_to_text";
    match it.speech_to_text {
        Some(_) => good(name, format!("Agent {} is told the words of voice messages.", it.agent)),
        None => good(
            name,
            format!(
                "Voice messages arrive without transcription. Configure speech-to-text for agent {} if it is to have their words.",
                it.agent
            ),
        ),
    }
}

const START_IT: &str = "Start the connection: it is checked with Meta then.";

fn state(stored: &StoredConnection) -> ReportedCheck {
    let why = stored.problem.clone();
    match stored.connection.lifecycle.state {
        State::Running => good("state", "RUNNING.".to_owned()),
        State::Starting => good("state", "STARTING: it is being checked with Meta.".to_owned()),
        State::Stopped => bad("state", "STOPPED: it sends nothing; what comes in is kept.", "Start the connection."),
        State::Error => bad("state", format!("ERROR: {}", why.unwrap_or_default()), "Mend what is named, then start the connection again."),
    }
}

/// A verdict of the last check.
fn judged(name: &'static str, verdict: Option<&Verdict>, well: &str) -> ReportedCheck {
    match verdict {
        Some(Verdict::Good) => good(name, well.to_owned()),
        Some(Verdict::Bad { why }) => bad(name, why.clone(), "Edit the connection, then stop and start it."),
        None => bad(name, "Not checked with Meta yet.", START_IT),
    }
}

fn credentials(stored: &StoredConnection, checked: Option<&Checked>, now: Timestamp) -> Vec<ReportedCheck> {
    let token = judged("access_token", checked.and_then(|it| it.token.as_ref()), "The access token holds and covers the account.");
    let is_known = token.ok;
    let mut checks = vec![token];
    if is_known {
        checks.push(match checked.and_then(|it| it.expires_at) {
            None => good("token_expiry", "The access token does not expire.".to_owned()),
            Some(at) if at <= now.plus(EXPIRES_SOON) => {
                let days = at.since(now).as_secs() / (24 * 60 * 60);
                let why = match at <= now {
                    true => "The access token has expired.".to_owned(),
                    false => format!("The access token expires in {}.", counted(usize::try_from(days).unwrap_or(0), "day", "days")),
                };
                bad("token_expiry", why, "Replace the access token, then stop and start the connection.")
            }
            Some(_) => good("token_expiry", "The access token holds for more than a week.".to_owned()),
        });
    }
    checks.push(app_secret(stored, checked));
    checks
}

fn app_secret(stored: &StoredConnection, checked: Option<&Checked>) -> ReportedCheck {
    let name = "app_secret";
    if stored.connection.app.is_none() {
        return bad(
            name,
            "No App ID is entered: nothing comes in.",
            "Enter the App ID and the App secret, then stop and start the connection.",
        );
    }
    match checked.and_then(|it| it.app_secret.as_ref()) {
        _ if stored.pending_app_secret.is_some() => bad(name, "The App secret waits for the next start to be confirmed by Meta.", START_IT),
        None => bad(
            name,
            "No App secret is known: signatures cannot be checked, so messages that come in are refused.",
            "Enter the App secret from the app's basic settings, then stop and start the connection.",
        ),
        verdict => judged(name, verdict, "The App secret is the app's."),
    }
}

fn account(checked: Option<&Checked>) -> Vec<ReportedCheck> {
    let read = judged("account", checked.and_then(|it| it.account.as_ref()), "The account is there.");
    let Some(checked) = checked.filter(|_| read.ok) else { return vec![read] };
    let read = match checked.account_review.as_deref() {
        None | Some("APPROVED") => read,
        Some(word) => {
            bad("account", format!("Meta's review of the account says {word}."), "Look into the account in Meta's Business Manager.")
        }
    };
    let limit = checked.messaging_limit.as_ref().map(|it| {
        let word = it.trim_start_matches("TIER_").to_ascii_lowercase();
        good("messaging_limit", format!("The business may write first to {word} customers within 24 hours."))
    });
    [Some(read), limit].into_iter().flatten().collect()
}

fn webhooks(stored: &StoredConnection, checked: Option<&Checked>) -> Vec<ReportedCheck> {
    if stored.connection.app.is_none() {
        return Vec::new();
    }
    let subscription = match checked.and_then(|it| it.is_subscribed) {
        Some(true) => good("subscription", "The app is subscribed to the account.".to_owned()),
        Some(false) | None => bad("subscription", "The app is not known to be subscribed to the account: nothing comes in.", START_IT),
    };
    let name = "callback";
    let callback = match checked.and_then(|it| it.callback.as_ref()) {
        Some(Callback::Ours) => good(name, "The app tells us of all that happens.".to_owned()),
        Some(Callback::Elsewhere { host }) => bad(
            name,
            format!("The app's messages go to {host}."),
            "Stop the connection and start it with replace_callback, if they are to come here.",
        ),
        Some(Callback::Refused { why }) => bad(name, format!("Meta does not take our callback: {why}."), START_IT),
        Some(Callback::ByHand) => bad(
            name,
            "Without the App secret nobody knows where the app's messages go.",
            "Enter the App secret from the app's basic settings, then stop and start the connection.",
        ),
        None => bad(name, "Not checked with Meta yet.", START_IT),
    };
    vec![subscription, callback]
}

fn number(view: &NumberView) -> ReportedCheck {
    let id = &view.number.id;
    let check = match view.is_held {
        true => of_number(id, view),
        false => bad("number", format!("Number {id} is not this connection's yet."), START_IT),
    };
    ReportedCheck { number: Some(id.clone()), ..check }
}

fn of_number(id: &NumberId, view: &NumberView) -> ReportedCheck {
    let (status, name_status) = (view.number.status.as_deref(), view.number.name_status.as_deref());
    if let Some(code) = view.fault {
        let why = format!("Number {id} cannot send (code {code}).");
        return bad("number", why, "Look at it in WhatsApp Manager, then stop and start the connection.");
    }
    if !can_send_as(status) {
        let why = format!("Number {id} is not connected: Meta says {}.", status.unwrap_or_default());
        return bad("number", why, "Verify and register the number, then stop and start the connection.");
    }
    if matches!(name_status, Some("DECLINED" | "EXPIRED")) {
        let why = format!("The name of number {id} is not approved: Meta says {}.", name_status.unwrap_or_default());
        return bad("number", why, "Ask for another display name in WhatsApp Manager.");
    }
    if view.number.quality == Some(Quality::Red) {
        let why = format!("Customers rate number {id} low (RED): first messages go out from better numbers.");
        return bad("number", why, "Send less, and only what customers asked for.");
    }
    good("number", format!("Number {id} is connected, and sends {} messages a second at most.", view.per_second))
}
