//! Sign in with Meta: `/v1/connections/embedded-signup`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{Method, StatusCode};
use channel::signup::{self, NOT_CONFIGURED, SignUp, SignedUp};
use channel::vault::Secret;
use domain::ids::{NumberId, WabaId};

use crate::access::{Caller, Manage};
use crate::answers::Created;
use crate::connections::{ShownConnection, invalid, shown};
use crate::document::{Api, Route};
use crate::fields::{Body, Entered, fields};
use crate::problems::{FieldError, Problem};
use crate::{Handles, Now};

const SIGN_UP: &str = "/v1/connections/embedded-signup";
const SIGNS_UP: &str = "Makes a connection of a sign-in with Meta (Embedded Signup), registers its new numbers, and starts it.";
const REFUSALS: &[(StatusCode, &str)] = &[(StatusCode::CONFLICT, "The server has no Meta app of its own.")];

/// The route.
pub(crate) fn routes(api: Api) -> Api {
    api.route(Route { method: Method::POST, path: SIGN_UP, id: "embeddedSignup", summary: SIGNS_UP, refusals: REFUSALS }, sign_up)
}

fields! {
    /// What the browser brings back from Meta.
    FromMeta {
        /// What people are to call the connection: at most 100 characters.
        name: Entered,
        /// The code: good for 30 seconds, and once.
        code: String,
        /// The WhatsApp Business account.
        business_account_id: WabaId,
        /// Its phone numbers, in order; none to have the account's only one taken.
        phone_number_ids: Option<Vec<NumberId>>,
    }
}

async fn sign_up(
    caller: Caller<Manage>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Body(from): Body<FromMeta>,
) -> Result<Created<ShownConnection>, Problem> {
    let sign_up = SignUp {
        tenant: caller.tenant,
        name: from.name.0,
        code: Secret::new(from.code),
        waba: from.business_account_id,
        numbers: from.phone_number_ids.unwrap_or_default(),
    };
    let Handles { store, queues, vault, meta, .. } = &*handles;
    let refused = |field: &str, code: &str, why: String| Err(Problem::invalid(vec![FieldError::new(field, code, why)]));
    match signup::sign_up(store, queues, vault, &meta.graph, meta.server_app.as_ref(), &sign_up, now.0).await? {
        SignedUp::Starting(it) => shown(&handles, &it).await.map(Created),
        SignedUp::NotConfigured => {
            let problem = Problem::new(StatusCode::CONFLICT, "server_app_missing", NOT_CONFIGURED);
            Err(problem.saying("Create the connection with credentials of your own app."))
        }
        SignedUp::Invalid(problems) => Err(invalid(problems)),
        SignedUp::CodeRefused(why) => refused("code", "refused", format!("{why} Sign in with Meta again.")),
        SignedUp::Unproven(why) => refused("business_account_id", "unproven", format!("{why} Sign in with Meta again, and grant it.")),
        SignedUp::Unanswered(why) => Err(Problem::meta_silent(&why)),
    }
}
