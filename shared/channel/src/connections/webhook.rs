//! What a person enters in Meta's console to have an app's webhooks come here, where a start does not do it.
//!
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/create-webhook-endpoint>

use domain::ids::AppId;
use meta::account::FIELDS;

use super::ConnectionError;
use crate::store::{Store, StoredConnection};
use crate::vault::{AdditionalData, Secret, Vault};

/// What a person enters in the webhook settings of a connection's app.
#[derive(Debug)]
pub struct WebhookSetUp {
    /// The app.
    pub app: AppId,
    /// The callback URL.
    pub callback: String,
    /// The verify token; none before the first start, nor for the server's own app, which is no tenant's to point anywhere.
    pub verify_token: Option<Secret>,
    /// The fields to subscribe to.
    pub fields: &'static [&'static str],
}

/// The callback of an app, where `webhook_url` is the address at which Meta reaches the webhook.
#[must_use]
pub(crate) fn callback(webhook_url: &str, app: &AppId) -> String {
    format!("{}/{app}", webhook_url.trim_end_matches('/'))
}

/// What a person enters in the webhook settings of a connection's app; nothing if it has none.
///
/// # Errors
/// [`ConnectionError`].
pub async fn webhook(
    store: &Store,
    vault: &Vault,
    webhook_url: &str,
    stored: &StoredConnection,
) -> Result<Option<WebhookSetUp>, ConnectionError> {
    let connection = &stored.connection;
    let Some(id) = connection.app.clone() else { return Ok(None) };
    let verify_token = match store.app(&id).await?.filter(|it| it.is_of_tenant(&connection.tenant)) {
        Some(it) => Some(vault.open(&it.verify_token, &AdditionalData::of_app(id.as_str(), "verify_token")).await?),
        None => None,
    };
    Ok(Some(WebhookSetUp { callback: callback(webhook_url, &id), app: id, verify_token, fields: &FIELDS }))
}
