//! Files: places for what is to be sent, and what customers sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{Method, StatusCode};
use channel::files::{self, FetchedAgain, FileOf};
use channel::{history, uploads};
use domain::refusal::Refusal;
use domain::time::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::access::{Caller, Read, Send};
use crate::answers::{Accepted, Created, Found};
use crate::connections::{OfConnection, owned};
use crate::conversations::{OfMessage, of_tenant};
use crate::document::{Api, Route};
use crate::fields::{Body, Path, fields};
use crate::problems::{FieldError, Problem};
use crate::{Handles, Now};

const UPLOADS: &str = "/v1/connections/{connection}/uploads";
const MEDIA: &str = "/v1/conversations/{conversation}/messages/{at}/{message}/media";
const NOT_HERE: (StatusCode, &str) = (StatusCode::CONFLICT, "The file is not here; `code` and `detail` say why, and what to do.");

/// The routes.
pub(crate) fn routes(api: Api) -> Api {
    let route = |method, path, id, summary, refusals| Route { method, path, id, summary, refusals };
    api.route(route(Method::POST, UPLOADS, "makeUpload", "Makes a place for a file that is to be sent.", &[]), upload)
        .route(route(Method::GET, MEDIA, "getMedia", "Gives a fresh link to the file that a customer sent.", &[NOT_HERE]), media)
        .route(route(Method::POST, MEDIA, "fetchMedia", "Has a customer's file fetched from Meta that is not here.", &[NOT_HERE]), fetch)
}

fields! {
    /// A file that is to be uploaded.
    NewUpload {
        /// Its MIME type, one that Meta takes.
        content_type: String,
        /// Exactly how many bytes it has.
        size: u64,
    }
}

/// A place for one file.
#[derive(Debug, Serialize, JsonSchema)]
struct Upload {
    /// What the file is called from then on: `{"file":"…"}` as the source of a message.
    file: String,
    /// How it is put there.
    upload: UploadRequest,
}

/// The request that puts a file there.
#[derive(Debug, Serialize, JsonSchema)]
struct UploadRequest {
    /// The address.
    url: String,
    /// The method.
    method: &'static str,
    /// Headers that it must have.
    headers: BTreeMap<&'static str, String>,
    /// Until when it can begin, in milliseconds since the Unix epoch.
    expires_at: Timestamp,
}

/// A customer's file.
#[derive(Debug, Serialize, JsonSchema)]
struct MediaFile {
    /// Where it can be fetched, by whoever has this link; browsers save it under its name.
    url: String,
    /// Until when the link is good, in milliseconds since the Unix epoch.
    expires_at: Timestamp,
    /// MIME type, as Meta names it.
    mime_type: String,
    /// In bytes.
    size: u64,
    /// SHA-256, in hex.
    sha256: String,
    /// A name that is safe for a file, made of the customer's.
    filename: String,
    /// It is not the file that Meta announced: the hashes differ.
    differs: bool,
}

/// A file that is being fetched.
#[derive(Debug, Serialize, JsonSchema)]
struct Fetching {
    /// Always `true`.
    fetching: bool,
}

async fn upload(
    caller: Caller<Send>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfConnection>,
    Body(new): Body<NewUpload>,
) -> Result<Created<Upload>, Problem> {
    let connection = owned(&handles, &caller.tenant, &it.connection).await?;
    match uploads::place(&handles.blobs, &connection.id, &new.content_type, new.size, now.0).await? {
        Ok(place) => {
            let headers = BTreeMap::from([("content-type", new.content_type)]);
            let upload = UploadRequest { url: place.url, method: "PUT", headers, expires_at: place.expires_at };
            Ok(Created(Upload { file: place.key, upload }))
        }
        Err(refusal) => {
            let is_of_size = new.size == 0 || matches!(refusal, Refusal::FileTooLarge { .. });
            let field = if is_of_size { "size" } else { "content_type" };
            Err(Problem::invalid(vec![FieldError::new(field, refusal.code(), refusal.note())]))
        }
    }
}

async fn media(
    caller: Caller<Read>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfMessage>,
) -> Result<Found<MediaFile>, Problem> {
    let (_, conversation) = of_tenant(&handles, &caller.tenant, &it.conversation).await?;
    let (_, item) = history::message(&handles.store, &conversation, &it.key()).await?.ok_or_else(Problem::not_found)?;
    match files::of(&handles.blobs, &item, now.0).await? {
        FileOf::Here { url, expires_at, file } => Ok(Found(MediaFile {
            url,
            expires_at,
            mime_type: file.mime_type,
            size: file.size,
            sha256: file.sha256,
            filename: file.filename,
            differs: file.differs,
        })),
        FileOf::Missing(missing) => Err(not_here(&missing.code).saying(missing.note)),
        FileOf::Awaited => {
            Err(not_here("media_awaited").saying("It is being fetched: ask again in some seconds, or have it fetched by POST."))
        }
        FileOf::None => Err(no_file()),
    }
}

async fn fetch(
    caller: Caller<Send>,
    now: Now,
    State(handles): State<Arc<Handles>>,
    Path(it): Path<OfMessage>,
) -> Result<Accepted<Fetching>, Problem> {
    let (connection, conversation) = of_tenant(&handles, &caller.tenant, &it.conversation).await?;
    let (key, item) = history::message(&handles.store, &conversation, &it.key()).await?.ok_or_else(Problem::not_found)?;
    match files::fetch_again(&handles.queues, &connection, &conversation, (&key, &item), now.0).await? {
        FetchedAgain::Asked | FetchedAgain::Here => Ok(Accepted(Fetching { fetching: true })),
        FetchedAgain::NotRunning => {
            Err(not_here("not_running").saying("Meta refuses the connection's token: replace it, then Stop and Start."))
        }
        FetchedAgain::None => Err(no_file()),
    }
}

fn not_here(code: &str) -> Problem {
    Problem::new(StatusCode::CONFLICT, code, "The file is not here.")
}

fn no_file() -> Problem {
    Problem::not_found().saying("This message has no file of the customer's.")
}
