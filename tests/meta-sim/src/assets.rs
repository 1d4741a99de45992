//! What Graph knows besides messages: tokens, numbers, subscriptions, templates, files.
//!
//! Each function is one Graph call on the books, without HTTP.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::book::{Account, Book, FIELDS, MANAGEMENT, MESSAGING, Medium, Number, Override, Token};
use crate::errors::Refusal;
use crate::graph::{Call, Credentials, Upload};
use crate::outbox::{hex, hmac_hex};

/// How long a media URL is good.
const URL_MS: i64 = 5 * 60 * 1000;
/// How long Meta keeps a file that a business uploaded.
const UPLOAD_MS: i64 = 30 * 24 * 60 * 60 * 1000;
/// How often a number may be registered and deregistered in [`REGISTRATIONS_MS`].
const REGISTRATIONS: usize = 10;
/// The time over which registrations are counted.
const REGISTRATIONS_MS: i64 = 72 * 60 * 60 * 1000;
/// How long a code of Embedded Signup is good.
pub const CODE_MS: i64 = 30 * 1000;
/// The code that the simulator "sends" in the SMS of `request_code`.
pub const SMS_CODE: &str = "123456";

/// MIME type, and the largest file of it in bytes.
///
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/media#supported-media-types>
const UPLOADABLE: &[(&str, usize)] = &[
    ("audio/aac", 16 << 20),
    ("audio/amr", 16 << 20),
    ("audio/mpeg", 16 << 20),
    ("audio/mp4", 16 << 20),
    ("audio/ogg", 16 << 20),
    ("text/plain", 100 << 20),
    ("application/pdf", 100 << 20),
    ("application/msword", 100 << 20),
    ("application/vnd.ms-excel", 100 << 20),
    ("application/vnd.ms-powerpoint", 100 << 20),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", 100 << 20),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", 100 << 20),
    ("application/vnd.openxmlformats-officedocument.presentationml.presentation", 100 << 20),
    ("image/jpeg", 5 << 20),
    ("image/png", 5 << 20),
    ("image/webp", 500 << 10),
    ("video/mp4", 16 << 20),
    ("video/3gpp", 16 << 20),
];

impl Book {
    /// Whether the token is one, and still good.
    ///
    /// # Errors
    ///
    /// 200 without a token, 190 for a bad one, 100 or 104 by `appsecret_proof`.
    pub(crate) fn check_token(&self, now_ms: i64, credentials: Credentials<'_>) -> Result<(), Refusal> {
        let app_id = self.check_token_alone(now_ms, credentials.token)?;
        let Some(app) = self.apps.get(app_id) else { return Ok(()) };
        let given = credentials.token.unwrap_or_default();
        match credentials.proof {
            Some(proof) if !proof.eq_ignore_ascii_case(&hmac_hex(app.secret.as_bytes(), given.as_bytes())) => Err(Refusal {
                kind: "GraphMethodException".into(),
                title: "Invalid appsecret_proof provided in the API argument".into(),
                ..Refusal::new(100)
            }),
            None if app.requires_secret_proof => {
                Err(Refusal { kind: "GraphMethodException".into(), title: Refusal::new(104).title, ..Refusal::new(100) })
            }
            _ => Ok(()),
        }
    }

    /// The app that a token is of, whatever is given to prove it.
    fn check_token_alone(&self, now_ms: i64, given: Option<&str>) -> Result<&String, Refusal> {
        let Some(given) = given else { return Err(Refusal { title: "Provide valid app ID".into(), ..Refusal::new(200) }) };
        match (self.tokens.get(given), self.app_of_token(given)) {
            (Some(token), _) => self.check_validity(now_ms, token).map(|()| &token.app_id),
            (None, Some(app_id)) => Ok(app_id),
            // Meta says it back, so we do.
            (None, None) => Err(Refusal::token(None, &format!("Malformed access token {given}"))),
        }
    }

    fn check_validity(&self, now_ms: i64, token: &Token) -> Result<(), Refusal> {
        if let Some(subcode) = token.revoked {
            let message = match subcode {
                458 => "Error validating access token: The user has not authorized application.",
                460 => {
                    "Error validating access token: The session has been invalidated because the user changed their password or Facebook has changed the session for security reasons."
                }
                _ => "Error validating access token: The session is invalid.",
            };
            return Err(Refusal::token(Some(subcode), message));
        }
        match token.expires_at_ms {
            Some(expires_at_ms) if now_ms >= expires_at_ms => Err(Refusal::token(
                Some(463),
                &format!("Error validating access token: Session has expired at unix time {}.", expires_at_ms / 1000),
            )),
            _ => Ok(()),
        }
    }

    /// The app whose own token (`app_id|app_secret`) this is.
    fn app_of_token(&self, token: &str) -> Option<&String> {
        let (app_id, secret) = token.split_once('|')?;
        self.apps.get(app_id).filter(|it| it.secret == secret).map(|it| &it.id)
    }

    /// Whether the token reaches this account, and with this permission.
    ///
    /// # Errors
    ///
    /// 200 if it does not reach the account, 10 without the permission.
    pub(crate) fn check_access(&self, credentials: Credentials<'_>, account: &str, scope: &str) -> Result<(), Refusal> {
        let token = credentials.token.and_then(|it| self.tokens.get(it)).filter(|it| it.accounts.contains(account));
        let Some(token) = token else { return Err(Refusal::new(200)) };
        if token.scopes.contains(scope) {
            return Ok(());
        }
        Err(Refusal::with(10, format!("The permission {scope} was not granted or was removed.")))
    }

    /// The app that a call acts for: that of its token.
    fn calling_app(&self, credentials: Credentials<'_>) -> Result<String, Refusal> {
        let given = credentials.token.unwrap_or_default();
        let app_id = self.tokens.get(given).map(|it| &it.app_id).or_else(|| self.app_of_token(given));
        app_id.cloned().ok_or_else(|| Refusal::token(None, "Invalid OAuth access token - Cannot parse access token"))
    }

    /// An app token of this very app.
    ///
    /// # Errors
    ///
    /// 100 with subcode 33 for any other token, as for an unknown app.
    pub(crate) fn check_app_token(&self, credentials: Credentials<'_>, app_id: &str, method: &str) -> Result<(), Refusal> {
        match credentials.token.and_then(|it| self.app_of_token(it)) {
            Some(own) if own == app_id => Ok(()),
            _ => Err(Refusal::no_object(method, app_id)),
        }
    }

    /// `GET /debug_token`.
    pub(crate) fn debug_token(&self, now_ms: i64, input: &str) -> Value {
        if let Some(app) = self.app_of_token(input).and_then(|it| self.apps.get(it)) {
            return json!({ "data": { "app_id": app.id, "type": "APP", "application": app.name, "is_valid": true, "scopes": [] } });
        }
        let Some(token) = self.tokens.get(input) else {
            return json!({ "data": { "error": { "code": 190, "message": "Invalid OAuth access token - Cannot parse access token" }, "is_valid": false, "scopes": [] } });
        };
        let validity = self.check_validity(now_ms, token);
        let granular: Vec<Value> = token.scopes.iter().map(|it| json!({ "scope": it, "target_ids": token.accounts })).collect();
        let mut data = json!({ "app_id": token.app_id, "type": "SYSTEM_USER", "application": self.apps.get(&token.app_id).map(|it| &it.name),
            "is_valid": validity.is_ok(), "expires_at": token.expires_at_ms.map_or(0, |it| it / 1000), "data_access_expires_at": 0,
            "issued_at": token.issued_at_ms / 1000, "scopes": token.scopes, "granular_scopes": granular });
        if let Err(refusal) = validity {
            data["error"] = json!({ "code": refusal.code, "message": refusal.title, "subcode": refusal.subcode });
        }
        json!({ "data": data })
    }

    /// `/oauth/access_token`: the token for a code of Embedded Signup, once and within its 30 seconds.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/embedded-signup/overview>
    pub(crate) fn exchange(&mut self, now_ms: i64, call: &Call) -> Result<Value, Refusal> {
        let given = |name: &str| call.body[name].as_str().or_else(|| call.query.get(name).map(String::as_str)).unwrap_or_default();
        let (app_id, secret, code) = (given("client_id"), given("client_secret"), given("code"));
        let plain = |code: u32, subcode: Option<u32>, title: &str| Refusal { title: title.into(), subcode, ..Refusal::new(code) };
        if self.apps.get(app_id).is_none_or(|it| it.secret != secret) {
            return Err(plain(1, None, "Error validating client secret."));
        }
        let code = self.codes.get_mut(code).filter(|it| it.app_id == app_id);
        let Some(code) = code else { return Err(plain(100, Some(36_008), "Invalid verification code format.")) };
        if code.used {
            return Err(plain(100, Some(36_009), "This authorization code has been used."));
        }
        if now_ms >= code.expires_at_ms {
            return Err(plain(100, Some(36_007), "This authorization code has expired."));
        }
        code.used = true;
        Ok(json!({ "access_token": code.token, "token_type": "bearer" }))
    }

    /// A number as Graph shows it: the fields asked for, or the usual ones.
    pub(crate) fn number_fields(&self, number: &Number, fields: Option<&String>) -> Value {
        let is_connected = number.registered && number.status == "CONNECTED";
        let can_send = if is_connected { "AVAILABLE" } else { "BLOCKED" };
        let all = json!({
            "id": number.id, "display_phone_number": number.display_phone_number, "verified_name": number.verified_name,
            "status": if number.registered { number.status.as_str() } else { "DISCONNECTED" }, "quality_rating": number.quality_rating,
            "code_verification_status": number.code_verification_status, "name_status": "APPROVED",
            "platform_type": if number.registered { "CLOUD_API" } else { "NOT_APPLICABLE" },
            "throughput": { "level": if number.throughput > 80 { "HIGH" } else { "STANDARD" } }, "account_mode": "LIVE", "is_official_business_account": false,
            "whatsapp_business_manager_messaging_limit": self.limits.tier(), "webhook_configuration": self.callbacks(number),
            "health_status": { "can_send_message": can_send, "entities": [
                { "entity_type": "PHONE_NUMBER", "id": number.id, "can_send_message": can_send },
                { "entity_type": "WABA", "id": number.account, "can_send_message": "AVAILABLE" } ] },
        });
        let usual =
            "verified_name,code_verification_status,display_phone_number,quality_rating,platform_type,throughput,webhook_configuration,id";
        chosen(&all, fields.map_or(usual, String::as_str))
    }

    /// An account as Graph shows it: the fields asked for, or the usual ones.
    pub(crate) fn account_fields(&self, account: &Account, fields: Option<&String>) -> Value {
        let all = json!({ "id": account.id, "name": account.name, "currency": "USD", "timezone_id": "1",
            "account_review_status": account.account_review_status,
            "whatsapp_business_manager_messaging_limit": self.limits.tier(),
            "marketing_messages_lite_api_status": account.marketing_messages_lite_api_status,
            "disable_marketing_messages_on_cloud_api": account.disable_marketing_messages_on_cloud_api });
        chosen(&all, fields.map_or("id,name,currency,timezone_id", String::as_str))
    }

    /// Counts a call of the management API, if those are limited.
    ///
    /// # Errors
    ///
    /// 80007 if there were too many in the last hour.
    pub(crate) fn count_call(&mut self, now_ms: i64, credentials: Credentials<'_>, account: &str) -> Result<(), Refusal> {
        let Some(most) = self.limits.calls_per_hour else { return Ok(()) };
        let app = self.calling_app(credentials)?;
        if self.counts.may_call(now_ms, &app, account, most) {
            return Ok(());
        }
        Err(Refusal::with(80007, "There have been too many calls to this WhatsApp Business account. Wait a bit and try again."))
    }

    fn callbacks(&self, number: &Number) -> Value {
        let account = self.accounts.get(&number.account);
        let application =
            account.and_then(|it| it.subscribed.keys().next()).and_then(|it| self.apps.get(it)).and_then(|it| it.callback.clone());
        let of_account = account.and_then(|it| it.subscribed.values().flatten().next()).map(|it| it.url.clone());
        let mut callbacks = json!({});
        for (name, url) in [
            ("phone_number", number.webhook.as_ref().map(|it| it.url.clone())),
            ("whatsapp_business_account", of_account),
            ("application", application),
        ] {
            crate::webhooks::put(&mut callbacks, name, url.as_deref());
        }
        callbacks
    }

    /// `POST /{phone_number_id}`: the number's own callback, or a new PIN.
    pub(crate) fn change_number(&mut self, id: &str, body: &Value) -> Result<Value, Refusal> {
        let number = self.numbers.get_mut(id).ok_or_else(|| Refusal::no_object("post", id))?;
        if let Some(webhook) = body.get("webhook_configuration") {
            number.webhook = overriding(webhook);
        }
        if let Some(pin) = body.get("pin") {
            number.pin = Some(six_digits(pin)?);
        }
        Ok(json!({ "success": true }))
    }

    /// `POST /{phone_number_id}/register`.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/registration>
    pub(crate) fn register(&mut self, now_ms: i64, id: &str, body: &Value) -> Result<Value, Refusal> {
        let number = self.numbers.get_mut(id).ok_or_else(|| Refusal::no_object("post", id))?;
        if body["messaging_product"] != "whatsapp" {
            return Err(Refusal::with(100, "The parameter messaging_product is required."));
        }
        let pin = six_digits(&body["pin"])?;
        if number.code_verification_status != "VERIFIED" {
            return Err(Refusal::new(133_006));
        }
        count_registration(number, now_ms)?;
        if number.pin.as_ref().is_some_and(|it| *it != pin) {
            return Err(Refusal::new(133_005));
        }
        (number.pin, number.registered, number.status) = (Some(pin), true, "CONNECTED".into());
        Ok(json!({ "success": true }))
    }

    /// `POST /{phone_number_id}/deregister`.
    pub(crate) fn deregister(&mut self, now_ms: i64, id: &str) -> Result<Value, Refusal> {
        let number = self.numbers.get_mut(id).ok_or_else(|| Refusal::no_object("post", id))?;
        if !number.registered {
            return Err(Refusal::new(133_010));
        }
        count_registration(number, now_ms)?;
        number.registered = false;
        Ok(json!({ "success": true }))
    }

    /// `POST /{phone_number_id}/request_code`: the simulator's SMS always says [`SMS_CODE`].
    pub(crate) fn request_code(&self, id: &str, body: &Value) -> Result<Value, Refusal> {
        let number = self.number("post", id)?;
        if !matches!(body["code_method"].as_str(), Some("SMS" | "VOICE")) {
            return Err(Refusal::with(100, "Param code_method must be one of {SMS, VOICE}"));
        }
        if !body["language"].is_string() {
            return Err(Refusal::with(100, "The parameter language is required."));
        }
        if number.code_verification_status == "VERIFIED" {
            return Err(Refusal::with(136_024, "The phone number is already verified."));
        }
        Ok(json!({ "success": true }))
    }

    /// `POST /{phone_number_id}/verify_code`.
    pub(crate) fn verify_code(&mut self, id: &str, body: &Value) -> Result<Value, Refusal> {
        let number = self.numbers.get_mut(id).ok_or_else(|| Refusal::no_object("post", id))?;
        if body["code"] != SMS_CODE {
            return Err(Refusal::with(136_025, "The code is wrong."));
        }
        number.code_verification_status = "VERIFIED".into();
        Ok(json!({ "success": true }))
    }

    /// `GET /{waba}/phone_numbers`.
    pub(crate) fn phone_numbers(&self, account: &str, call: &Call) -> Result<Value, Refusal> {
        let numbers =
            self.numbers.values().filter(|it| it.account == account).map(|it| self.number_fields(it, call.query.get("fields"))).collect();
        self.page(numbers, call)
    }

    /// `GET /{waba}/message_templates`.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/template-management>
    pub(crate) fn message_templates(&self, account: &str, call: &Call) -> Result<Value, Refusal> {
        let asked = |name: &str, value: &str| call.query.get(name).is_none_or(|it| it.eq_ignore_ascii_case(value));
        let fields = call.query.get("fields").map_or("name,parameter_format,components,language,status,category,id", String::as_str);
        let of_account = self.templates.iter().filter(|(owner, _)| owner == account).map(|(_, it)| it);
        let listed = of_account.filter(|it| {
            asked("status", &it.status) && asked("name", &it.name) && asked("language", &it.language) && asked("category", &it.category)
        });
        self.page(listed.map(|it| chosen(&it.listed(), fields)).collect(), call)
    }

    /// One page of `items`, after the cursor of the call.
    ///
    /// <https://developers.facebook.com/docs/graph-api/results>
    fn page(&self, items: Vec<Value>, call: &Call) -> Result<Value, Refusal> {
        let limit = call.query.get("limit").and_then(|it| it.parse().ok()).unwrap_or(25).clamp(1, 1000);
        let start = match call.query.get("after") {
            None => 0,
            Some(cursor) => position(cursor)
                .filter(|it| *it <= items.len())
                .ok_or_else(|| Refusal::with(131_059, "The cursor is invalid or has expired."))?,
        };
        let end = items.len().min(start + limit);
        let mut page = json!({ "data": items[start..end] });
        if start < end {
            page["paging"] = json!({ "cursors": { "before": cursor(start), "after": cursor(end) } });
        }
        if end < items.len() {
            // Meta's own link carries the access token: following or storing it leaks the token.
            let base = self.base_url.as_deref().unwrap_or("https://graph.facebook.com");
            let token = call.token.as_deref().unwrap_or_default();
            page["paging"]["next"] =
                format!("{base}/{}?access_token={token}&limit={limit}&after={}", call.path.join("/"), cursor(end)).into();
        }
        Ok(page)
    }

    /// `GET /{waba}/subscribed_apps`.
    pub(crate) fn subscribed_apps(&self, account: &Account) -> Value {
        let apps = account.subscribed.iter().map(|(id, overriding)| {
            let name = self.apps.get(id).map(|it| it.name.as_str()).unwrap_or_default();
            let mut app = json!({ "whatsapp_business_api_data": { "id": id, "name": name, "link": format!("https://www.facebook.com/games/?app_id={id}") } });
            crate::webhooks::put(&mut app, "override_callback_uri", overriding.as_ref().map(|it| it.url.as_str()));
            app
        });
        json!({ "data": apps.collect::<Vec<Value>>() })
    }

    /// `POST` and `DELETE /{waba}/subscribed_apps`: the calling app, with or without an override.
    ///
    /// <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/override>
    pub(crate) fn subscribe(
        &mut self,
        account: &str,
        credentials: Credentials<'_>,
        subscribes: bool,
        body: &Value,
    ) -> Result<Value, Refusal> {
        let app_id = self.calling_app(credentials)?;
        let account = self.accounts.get_mut(account).ok_or_else(|| Refusal::no_object("post", account))?;
        if subscribes {
            account.subscribed.insert(app_id, overriding(body));
        } else {
            account.subscribed.remove(&app_id);
        }
        Ok(json!({ "success": true }))
    }

    /// `GET /{app}/subscriptions`.
    pub(crate) fn subscriptions(&self, app_id: &str) -> Result<Value, Refusal> {
        let app = self.apps.get(app_id).ok_or_else(|| Refusal::no_object("get", app_id))?;
        let Some(callback) = &app.callback else { return Ok(json!({ "data": [] })) };
        let fields: Vec<Value> = app.fields.iter().map(|it| json!({ "name": it, "version": "v25.0" })).collect();
        Ok(json!({ "data": [{ "object": "whatsapp_business_account", "callback_url": callback, "active": true, "fields": fields }] }))
    }

    /// `POST /{app}/subscriptions`, once the callback has passed the handshake.
    pub(crate) fn set_subscription(&mut self, app_id: &str, body: &Value) -> Result<Value, Refusal> {
        let app = self.apps.get_mut(app_id).ok_or_else(|| Refusal::no_object("post", app_id))?;
        let fields: Vec<&str> = match &body["fields"] {
            Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
            names => names.as_str().unwrap_or_default().split(',').filter(|it| !it.is_empty()).collect(),
        };
        if let Some(unknown) = fields.iter().find(|it| !FIELDS.contains(it)) {
            return Err(Refusal::with(100, format!("Param fields must be one of the webhook fields, got {unknown}")));
        }
        app.callback = body["callback_url"].as_str().map(str::to_owned);
        app.verify_token = body["verify_token"].as_str().unwrap_or_default().into();
        if !fields.is_empty() {
            app.fields = fields.into_iter().map(str::to_owned).collect();
        }
        Ok(json!({ "success": true }))
    }

    /// `POST /{phone_number_id}/media`.
    pub(crate) fn upload(&mut self, now_ms: i64, number: &str, upload: Option<&Upload>) -> Result<Value, Refusal> {
        let Some(upload) = upload else { return Err(Refusal::with(100, "The parameter file is required.")) };
        if upload.messaging_product.as_deref() != Some("whatsapp") {
            return Err(Refusal::with(100, "The parameter messaging_product is required."));
        }
        let essence = upload.mime_type.split(';').next().unwrap_or_default().trim();
        let Some((_, most)) = UPLOADABLE.iter().find(|(it, _)| *it == essence) else {
            return Err(Refusal::with(
                100,
                format!("Param file must be a file with one of the supported types. Received file of type '{essence}'."),
            ));
        };
        if upload.bytes.is_empty() || upload.bytes.len() > *most {
            return Err(Refusal::with(131_053, format!("The file must have between 1 and {most} bytes.")));
        }
        let id = self.fresh_id();
        let medium = Medium {
            id: id.clone(),
            number: number.into(),
            mime_type: upload.mime_type.clone(),
            name: upload.name.clone(),
            bytes: STANDARD.encode(&upload.bytes),
            kept_until_ms: now_ms + UPLOAD_MS,
        };
        self.media.insert(id.clone(), medium);
        *self.uploads.entry(number.into()).or_default() += 1;
        Ok(json!({ "id": id }))
    }

    /// The medium, if the caller may see it.
    pub(crate) fn medium(&self, now_ms: i64, id: &str, call: &Call) -> Result<&Medium, Refusal> {
        let absent = || Refusal::no_object(call.method.name(), id);
        let medium = self.media.get(id).filter(|it| it.kept_until_ms > now_ms).ok_or_else(absent)?;
        self.check_access(call.credentials(), &self.number(call.method.name(), &medium.number)?.account, MESSAGING)?;
        match call.query.get("phone_number_id") {
            Some(number) if *number != medium.number => Err(absent()),
            _ => Ok(medium),
        }
    }

    /// `GET /{media_id}`.
    pub(crate) fn medium_fields(&self, now_ms: i64, medium: &Medium) -> Value {
        json!({ "messaging_product": "whatsapp", "url": self.media_url(medium, now_ms), "mime_type": medium.mime_type,
                "sha256": hex(&medium.sha256()), "file_size": medium.content().len().to_string(), "id": medium.id })
    }

    /// Where the file is fetched from in the next five minutes.
    pub(crate) fn media_url(&self, medium: &Medium, now_ms: i64) -> String {
        let base = self.base_url.as_deref().unwrap_or("https://lookaside.fbsbx.com");
        let until = (now_ms + URL_MS) / 1000;
        format!("{base}/whatsapp_business/attachments/?mid={}&ext={until}&hash={}", medium.id, url_hash(medium, until))
    }

    /// The file behind a media URL: 401 without a good token, 404 once the URL or the file is too old.
    pub(crate) fn download(&self, now_ms: i64, call: &Call) -> Result<Medium, u16> {
        // The host of files is not the Graph API, and asks for no proof.
        self.check_token_alone(now_ms, call.token.as_deref()).map_err(|_| 401_u16)?;
        let until: i64 = call.query.get("ext").and_then(|it| it.parse().ok()).unwrap_or(0);
        let medium = call.query.get("mid").and_then(|it| self.media.get(it)).filter(|it| it.kept_until_ms > now_ms).ok_or(404_u16)?;
        let is_good = now_ms < until * 1000 && call.query.get("hash") == Some(&url_hash(medium, until));
        if is_good { Ok(medium.clone()) } else { Err(404) }
    }

    /// The account, for a caller who may manage it.
    pub(crate) fn managed_account(&self, id: &str, call: &Call) -> Result<&Account, Refusal> {
        let account = self.accounts.get(id).ok_or_else(|| Refusal::no_object(call.method.name(), id))?;
        self.check_access(call.credentials(), id, MANAGEMENT).map(|()| account)
    }
}

fn url_hash(medium: &Medium, until: i64) -> String {
    hmac_hex(medium.id.as_bytes(), until.to_string().as_bytes()).chars().take(32).collect()
}

fn cursor(position: usize) -> String {
    STANDARD.encode(format!("position {position}"))
}

fn position(cursor: &str) -> Option<usize> {
    let text = String::from_utf8(STANDARD.decode(cursor).ok()?).ok()?;
    text.strip_prefix("position ")?.parse().ok()
}

/// The members of `all` that `fields` names; `id` always. What is in braces or parentheses behind a name is not looked at.
fn chosen(all: &Value, fields: &str) -> Value {
    let mut chosen = json!({ "id": all["id"] });
    for name in fields.split([',', '{', '}', '(', ')']).map(str::trim) {
        if let Some(value) = all.get(name) {
            chosen[name] = value.clone();
        }
    }
    chosen
}

/// A callback of its own; the empty address takes it away.
fn overriding(body: &Value) -> Option<Override> {
    let url = body["override_callback_uri"].as_str().filter(|it| !it.is_empty())?;
    Some(Override { url: url.into(), verify_token: body["verify_token"].as_str().unwrap_or_default().into() })
}

fn six_digits(pin: &Value) -> Result<String, Refusal> {
    match pin.as_str() {
        Some(pin) if pin.len() == 6 && pin.bytes().all(|it| it.is_ascii_digit()) => Ok(pin.into()),
        Some(_) => Err(Refusal::with(100, "Param pin must be 6 characters long.")),
        None => Err(Refusal::with(100, "The parameter pin is required.")),
    }
}

fn count_registration(number: &mut Number, now_ms: i64) -> Result<(), Refusal> {
    number.registrations_ms.retain(|it| now_ms - it < REGISTRATIONS_MS);
    if number.registrations_ms.len() >= REGISTRATIONS {
        return Err(Refusal::new(133_016));
    }
    number.registrations_ms.push(now_ms);
    Ok(())
}
