//! How Meta says what a token opens, and how an account and its app are set up.
//!
//! This file must not know what follows from it.

use std::collections::BTreeSet;

use domain::ids::{AppId, NumberId, WabaId};
use domain::time::Timestamp;

use crate::numbers::{self, NumberState};
use crate::wire::{Object, text};

/// The permission to manage an account: numbers, templates, subscriptions.
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/permissions>
pub const MANAGEMENT: &str = "whatsapp_business_management";

/// The permission to send, and to hear of messages.
pub const MESSAGING: &str = "whatsapp_business_messaging";

/// The fields that an app subscribes to: what comes in, what becomes of what was sent, and what changes an account, its numbers or its
/// templates. <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/overview>
pub const FIELDS: [&str; 18] = [
    "messages",
    "user_preferences",
    "calls",
    "standby",
    "messaging_handovers",
    "message_template_status_update",
    "message_template_quality_update",
    "message_template_components_update",
    "template_category_update",
    "account_update",
    "account_alerts",
    "account_review_update",
    "account_settings_update",
    "business_capability_update",
    "phone_number_quality_update",
    "phone_number_name_update",
    "smb_message_echoes",
    "security",
];

/// What a token opens. <https://developers.facebook.com/docs/facebook-login/guides/access-tokens/debugging>
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenState {
    /// Does it hold?
    pub is_valid: bool,
    /// Why not, in Meta's words.
    pub problem: Option<String>,
    /// The app that it was made for.
    pub app: Option<AppId>,
    /// When it expires, if it does.
    pub expires_at: Option<Timestamp>,
    /// When it ceases to open data, if it does.
    pub data_access_expires_at: Option<Timestamp>,
    grants: Vec<(String, Option<BTreeSet<String>>)>,
}

impl TokenState {
    /// Was this permission granted, for anything?
    #[must_use]
    pub fn has(&self, scope: &str) -> bool {
        self.grants.iter().any(|(it, _)| it == scope)
    }

    /// Was this permission granted for this account? A permission without targets is for all of them.
    #[must_use]
    pub fn covers(&self, scope: &str, waba: &WabaId) -> bool {
        self.grants.iter().any(|(it, targets)| it == scope && targets.as_ref().is_none_or(|it| it.contains(waba.as_str())))
    }
}

/// The answer of `GET /debug_token`; nothing if it is something else.
pub(crate) fn token(body: &[u8]) -> Option<TokenState> {
    let body = String::from_utf8_lossy(body);
    let data = Object::parse(&body)?.object("data")?;
    data.get("is_valid")?;
    // Zero is never. <https://developers.facebook.com/docs/facebook-login/guides/access-tokens>
    let time = |name: &str| data.time(name).filter(|it| it.as_millis() > 0);
    let granular: Vec<Object<'_>> = data.elements("granular_scopes").into_iter().filter_map(Object::read).collect();
    let targets = |scope: &str| {
        let granted = granular.iter().find(|it| it.text("scope").as_deref() == Some(scope))?;
        granted.get("target_ids")?;
        Some(granted.elements("target_ids").into_iter().filter_map(text).map(std::borrow::Cow::into_owned).collect())
    };
    let scopes = data.elements("scopes").into_iter().filter_map(text);
    let problem = data.object("error").and_then(|it| it.words("message"));
    Some(TokenState {
        is_valid: data.is_true("is_valid"),
        problem,
        app: data.words("app_id").and_then(|it| AppId::parse(it).ok()),
        expires_at: time("expires_at"),
        data_access_expires_at: time("data_access_expires_at"),
        grants: scopes.map(|it| (it.clone().into_owned(), targets(&it))).collect(),
    })
}

/// How an account stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccountState {
    /// What its owner calls it.
    pub name: Option<String>,
    /// Meta's review of it: `APPROVED`, `PENDING`, `REJECTED`.
    pub review: Option<String>,
    /// How many customers its business may write to first within 24 hours, in Meta's word: `TIER_250`, …, `TIER_UNLIMITED`.
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/messaging-limits>
    pub messaging_limit: Option<String>,
}

/// The answer of `GET /{waba}`; nothing if it is no object of Meta's.
pub(crate) fn account(body: &[u8]) -> Option<AccountState> {
    let body = String::from_utf8_lossy(body);
    let account = Object::parse(&body)?;
    account.get("id")?;
    Some(AccountState {
        name: account.words("name"),
        review: account.words("account_review_status"),
        messaging_limit: account.words("whatsapp_business_manager_messaging_limit"),
    })
}

/// A number as its account lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberRecord {
    /// Meta's id.
    pub id: NumberId,
    /// As people read it.
    pub display: Option<String>,
    /// The name that customers see.
    pub verified_name: Option<String>,
    /// Meta's word for its review of that name.
    pub name_status: Option<String>,
    /// `VERIFIED` once its owner has shown the code that Meta sent.
    pub code_verification: Option<String>,
    /// Where it is registered: `CLOUD_API`, or `NOT_APPLICABLE` before it is.
    pub platform: Option<String>,
    /// Is it an official business account, with the mark that customers see?
    pub is_official: bool,
    /// How it stands.
    pub state: NumberState,
}

/// A page of a list, and the cursor of the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// What it holds.
    pub items: Vec<T>,
    /// Where the next one begins, if there is one.
    pub after: Option<String>,
}

/// A page of `GET /{waba}/phone_numbers`; nothing if it is no list.
pub(crate) fn numbers(body: &[u8]) -> Option<Listed<NumberRecord>> {
    let body = String::from_utf8_lossy(body);
    let page = Object::parse(&body)?;
    page.get("data")?;
    let items = page.elements("data").into_iter().filter_map(Object::read).filter_map(|it| number(&it)).collect();
    let paging = page.object("paging").filter(|it| it.get("next").is_some());
    let after = paging.and_then(|it| it.object("cursors")).and_then(|it| it.words("after"));
    Some(Listed { items, after })
}

fn number(it: &Object<'_>) -> Option<NumberRecord> {
    Some(NumberRecord {
        id: NumberId::parse(it.words("id")?).ok()?,
        display: it.words("display_phone_number"),
        verified_name: it.words("verified_name"),
        name_status: it.words("name_status"),
        code_verification: it.words("code_verification_status"),
        platform: it.words("platform_type"),
        is_official: it.is_true("is_official_business_account"),
        state: numbers::state_of(it),
    })
}

/// An app that hears of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscriber {
    /// The app.
    pub app: AppId,
    /// Where it hears of messages, if not at its own address.
    pub callback: Option<String>,
}

/// The answer of `GET /{waba}/subscribed_apps`; nothing if it is no list.
pub(crate) fn subscribed(body: &[u8]) -> Option<Vec<Subscriber>> {
    let body = String::from_utf8_lossy(body);
    let list = Object::parse(&body)?;
    list.get("data")?;
    let subscriber = |it: Object<'_>| {
        let app = AppId::parse(it.object("whatsapp_business_api_data")?.words("id")?).ok()?;
        Some(Subscriber { app, callback: it.words("override_callback_uri") })
    };
    Some(list.elements("data").into_iter().filter_map(Object::read).filter_map(subscriber).collect())
}

/// Where an app hears of accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The address that Meta calls.
    pub callback: String,
    /// Does Meta call it?
    pub is_active: bool,
    /// Of what it is told.
    pub fields: BTreeSet<String>,
}

impl Subscription {
    /// Is all of [`FIELDS`] told to this address?
    #[must_use]
    pub fn is_whole(&self, callback: &str) -> bool {
        self.is_active && self.callback == callback && FIELDS.iter().all(|it| self.fields.contains(*it))
    }
}

/// The answer of `GET /{app}/subscriptions`: that for accounts, if there is one; nothing at all if it is no list.
pub(crate) fn subscription(body: &[u8]) -> Option<Option<Subscription>> {
    let body = String::from_utf8_lossy(body);
    let list = Object::parse(&body)?;
    list.get("data")?;
    let of_accounts = |it: &Object<'_>| it.text("object").as_deref() == Some("whatsapp_business_account");
    let found = list.elements("data").into_iter().filter_map(Object::read).find(of_accounts);
    Some(found.and_then(|it| {
        let fields = it.elements("fields").into_iter();
        // Each is an object with a name; older versions of the Graph API list plain names.
        let name = |raw| Object::read(raw).map_or_else(|| text(raw).map(std::borrow::Cow::into_owned), |it| it.words("name"));
        Some(Subscription {
            callback: it.words("callback_url")?,
            is_active: it.is_true("active"),
            fields: fields.filter_map(name).collect(),
        })
    }))
}

/// `{"success": true}`, or nothing.
pub(crate) fn success(body: &[u8]) -> Option<()> {
    let body = String::from_utf8_lossy(body);
    Object::parse(&body)?.is_true("success").then_some(())
}

/// Any object with an id, or nothing.
pub(crate) fn is_object(body: &[u8]) -> Option<()> {
    let body = String::from_utf8_lossy(body);
    Object::parse(&body)?.get("id").map(|_| ())
}

/// The token in the answer of `/oauth/access_token`, or nothing.
pub(crate) fn exchanged(body: &[u8]) -> Option<String> {
    let body = String::from_utf8_lossy(body);
    Object::parse(&body)?.words("access_token")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{ANSWERS, named};

    fn answer(name: &str) -> &'static [u8] {
        named(ANSWERS, name).as_bytes()
    }

    #[test]
    fn a_token_says_what_it_opens_and_until_when() {
        let told = token(answer("debug_token")).expect("a token");
        assert!(told.is_valid && told.app.is_some() && told.expires_at.is_none());
        let waba = |id: &str| WabaId::parse(id).expect("an id");
        assert!(told.has(MANAGEMENT) && told.has(MESSAGING) && !told.has("ads_management"));
        assert!(told.covers(MANAGEMENT, &waba("200300400500600")) && !told.covers(MANAGEMENT, &waba("1")));
        let for_all = token(br#"{"data":{"is_valid":true,"scopes":["whatsapp_business_messaging"],"expires_at":1790000000}}"#);
        let for_all = for_all.expect("a token");
        assert!(for_all.covers(MESSAGING, &waba("1")) && !for_all.covers(MANAGEMENT, &waba("1")));
        assert_eq!(for_all.expires_at, Some(Timestamp::from_millis(1_790_000_000_000)));
        let invalid = token(answer("debug_token_invalid")).expect("a token");
        assert!(!invalid.is_valid && invalid.problem.is_some());
        assert_eq!(token(br#"{"data":{}}"#), None);
    }

    #[test]
    fn numbers_and_subscriptions_are_read_as_meta_lists_them() {
        let listed = numbers(answer("phone_numbers")).expect("a list");
        assert_eq!(listed.items[0].id.as_str(), "700800900100200");
        assert_eq!(listed.items[0].state.status.as_deref(), Some("CONNECTED"));
        assert_eq!(listed.after, None, "a cursor without a next page leads nowhere");
        let apps = subscribed(answer("subscribed_apps")).expect("a list");
        assert_eq!(apps[0].callback.as_deref(), Some("https://hooks.example.com/webhooks/634900000000001"));
        let found = subscription(answer("subscriptions")).expect("a list").expect("one for accounts");
        assert!(found.is_active && found.fields.contains("messages") && !found.is_whole(&found.callback));
        assert_eq!(subscription(br#"{"data":[]}"#), Some(None));
        assert_eq!((subscription(b"{}"), subscribed(b"[]"), numbers(b"{}").is_none()), (None, None, true));
    }
}
