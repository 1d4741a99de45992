//! Which fields there are, and what each is to us.
//!
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/overview#fields>

use super::{Change, api_echoes, app_echoes, messages, notices, standby};
use crate::wire::Object;

/// What a field is to us.
pub(super) enum Use {
    /// It concerns a thread between a customer and a number, and is read by this.
    Thread(fn(&mut Change<'_, '_>, &Object<'_>)),
    /// It concerns an account, a number or a template.
    Notice,
    /// Meta documents it, and we have no use for it.
    None,
    /// We do not know it.
    Unknown,
}

/// What the field of that name is to us.
pub(super) fn usage(field: &str) -> Use {
    match field {
        "messages" => Use::Thread(messages),
        "standby" => Use::Thread(standby),
        "smb_message_echoes" => Use::Thread(app_echoes),
        "message_echoes" => Use::Thread(api_echoes),
        "messaging_handovers" => Use::Thread(notices::handover),
        "calls" => Use::Thread(notices::calls),
        "user_preferences" => Use::Thread(notices::preferences),
        "history" => Use::Thread(notices::history),
        "account_alerts"
        | "account_review_update"
        | "account_settings_update"
        | "account_update"
        | "business_capability_update"
        | "business_status_update"
        | "business_username_update"
        | "business_username_updates"
        | "flows"
        | "message_template_components_update"
        | "message_template_quality_update"
        | "message_template_status_update"
        | "partner_solutions"
        | "payment_configuration_update"
        | "phone_number_name_update"
        | "phone_number_quality_update"
        | "security"
        | "template_category_update"
        | "template_correct_category_detection" => Use::Notice,
        "automatic_events"
        | "consumer_profile"
        | "group_lifecycle_update"
        | "group_participants_update"
        | "group_settings_update"
        | "group_status_update"
        | "smb_app_state_sync"
        | "tracking_events" => Use::None,
        _ => Use::Unknown,
    }
}
