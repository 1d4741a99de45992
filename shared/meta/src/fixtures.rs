//! Meta's documented examples, in their shape, with values of our own: `fixtures/README.md` names the page of each.
//!
//! For tests, ours and the simulator's. They are constants, so a program that does not name them does not hold them.

/// An example: its name (file name without `.json`) and its JSON text.
pub type Fixture = (&'static str, &'static str);

macro_rules! fixtures {
    ($folder:literal: $($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../fixtures/", $folder, "/", $name, ".json")))),+]
    };
}

/// What Meta sends us.
pub const WEBHOOKS: &[Fixture] = fixtures![
    "webhooks":
    "account_alert",
    "account_disabled",
    "account_partner_app_installed",
    "account_partner_removed",
    "account_restricted",
    "account_review",
    "business_capability",
    "business_username",
    "call_accepted",
    "call_by_business",
    "call_connect",
    "call_terminate",
    "flow",
    "handover_passed",
    "handover_taken",
    "history",
    "history_declined",
    "message_echoes",
    "messages_audio",
    "messages_button",
    "messages_button_reply",
    "messages_call_permission_reply",
    "messages_contacts",
    "messages_contacts_requested",
    "messages_document",
    "messages_edit",
    "messages_flow_reply",
    "messages_image",
    "messages_image_too_large",
    "messages_list_reply",
    "messages_location",
    "messages_lost",
    "messages_order",
    "messages_reaction",
    "messages_reaction_removed",
    "messages_request_welcome",
    "messages_revoke",
    "messages_sticker",
    "messages_system_identity_changed",
    "messages_system_number_changed",
    "messages_system_number_changed_older",
    "messages_system_user_id_changed",
    "messages_text",
    "messages_text_forwarded",
    "messages_text_from_ad",
    "messages_text_in_group",
    "messages_text_of_product",
    "messages_text_quoting",
    "messages_text_without_body",
    "messages_text_without_phone",
    "messages_unsupported",
    "messages_video",
    "phone_name",
    "phone_quality",
    "security",
    "smb_app_state_sync",
    "smb_message_echoes",
    "smb_message_echoes_revoke",
    "standby_echo",
    "standby_message",
    "standby_status",
    "status_deleted",
    "status_delivered",
    "status_failed",
    "status_in_group",
    "status_played",
    "status_read",
    "status_sent",
    "status_sent_with_conversation",
    "status_to_user_id",
    "template_category",
    "template_components",
    "template_quality",
    "template_status",
    "user_preferences",
];

/// What we send to `/{phone-number-id}/messages`.
pub const REQUESTS: &[Fixture] = fixtures![
    "requests":
    "audio",
    "buttons",
    "contacts",
    "cta_url",
    "document",
    "flow",
    "image",
    "image_by_link",
    "list",
    "location",
    "reaction",
    "reaction_removed",
    "read",
    "read_typing",
    "sticker",
    "template",
    "text",
    "text_quoting",
    "text_to_user_id",
    "video",
];

/// What the Graph API answers.
pub const ANSWERS: &[Fixture] = fixtures![
    "answers":
    "debug_token",
    "debug_token_invalid",
    "error_data_is_text",
    "error_number_unknown",
    "error_pair",
    "error_parameter",
    "error_template_missing",
    "error_throughput",
    "error_token_expired",
    "error_unavailable",
    "error_window",
    "health_status",
    "media",
    "media_uploaded",
    "message_history",
    "phone_numbers",
    "sent",
    "sent_template",
    "sent_template_held",
    "sent_to_user_id",
    "subscribed_apps",
    "subscriptions",
    "success",
    "templates",
    "templates_of_every_kind",
];

/// The example of that name in one of the lists.
///
/// # Panics
/// If there is none: a test names what does not exist.
#[must_use]
pub fn named(list: &[Fixture], name: &str) -> &'static str {
    let found = list.iter().find(|(it, _)| *it == name);
    found.map(|(_, json)| *json).expect("a test names an example that exists")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_is_listed_here_and_in_the_readme() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        let readme = std::fs::read_to_string(folder.join("README.md")).expect("a readme");
        for (group, list) in [("webhooks", WEBHOOKS), ("requests", REQUESTS), ("answers", ANSWERS)] {
            let entries = std::fs::read_dir(folder.join(group)).expect("a folder").map(|it| it.expect("an entry").file_name());
            let files: BTreeSet<String> = entries.filter_map(|it| it.into_string().ok()).collect();
            let listed: BTreeSet<String> = list.iter().map(|(name, _)| format!("{name}.json")).collect();
            assert_eq!(files, listed);
            for file in files {
                let row = readme.lines().find(|it| it.starts_with(&format!("| `{group}/{file}` | <https://developers.facebook.com/")));
                assert!(row.is_some(), "{group}/{file} has no page");
            }
        }
    }

    #[test]
    fn every_file_is_json() {
        for (name, json) in [WEBHOOKS, REQUESTS, ANSWERS].concat() {
            assert!(serde_json::from_str::<serde_json::Value>(json).is_ok(), "{name}");
        }
    }
}
