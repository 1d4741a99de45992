//! What the last check of a connection with Meta read: kept for people to look at, decided on by nobody.

use domain::connection::{Connection, Quality};
use domain::ids::{AppId, ConnectionId, NumberId, WabaId};
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::dynamo::{Condition, Read, Written};
use super::keys;
use super::{Store, StoreError};

/// What Meta made of something we hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It holds.
    Good,
    /// It does not.
    Bad {
        /// What a person is told of it.
        why: String,
    },
}

/// Where the webhooks of a connection's app go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Callback {
    /// To us, with every field that we read.
    Ours,
    /// To somebody else.
    Elsewhere {
        /// The host.
        host: String,
    },
    /// Meta does not take our address.
    Refused {
        /// What a person is told of it.
        why: String,
    },
    /// It cannot be asked without an App ID and its secret: a person sees to it.
    ByHand,
}

/// A number as Meta showed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedNumber {
    /// Meta's id.
    pub id: NumberId,
    /// As people read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<String>,
    /// The name that customers see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_name: Option<String>,
    /// Meta's word for its review of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_status: Option<String>,
    /// Meta's word for whether its owner has shown the code that was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_verification: Option<String>,
    /// Where it is registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Has it the mark of an official business account?
    #[serde(default)]
    pub is_official: bool,
    /// Meta's word for how it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Meta's judgement of its messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// How many messages a second it may send and receive together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput: Option<u32>,
}

impl CheckedNumber {
    /// A number of which Meta has shown nothing yet.
    pub(crate) fn unseen(id: NumberId) -> Self {
        Self {
            id,
            display: None,
            verified_name: None,
            name_status: None,
            code_verification: None,
            platform: None,
            is_official: false,
            status: None,
            quality: None,
            throughput: None,
        }
    }
}

/// What was checked: what Meta said of other credentials, or of another account, says nothing of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedSubject {
    /// Which of the connection's access tokens.
    token_generation: u64,
    /// The Meta app.
    app: Option<AppId>,
    /// The account.
    waba: WabaId,
}

impl CheckedSubject {
    /// What a connection holds now.
    #[must_use]
    pub fn of(connection: &Connection) -> Self {
        Self { token_generation: connection.token_generation, app: connection.app.clone(), waba: connection.waba.clone() }
    }
}

/// What the last check read, as far as it came.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Checked {
    /// When it was.
    pub checked_at: Timestamp,
    /// What was checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<CheckedSubject>,
    /// The access token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Verdict>,
    /// When the token expires, or ceases to open data, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When a person was last warned of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warned_at: Option<Timestamp>,
    /// The app secret, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_secret: Option<Verdict>,
    /// The account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Verdict>,
    /// What its owner calls the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_name: Option<String>,
    /// Meta's word for its review of the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_review: Option<String>,
    /// How many customers the business may write to first within 24 hours, in Meta's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messaging_limit: Option<String>,
    /// The connection's numbers.
    #[serde(default)]
    pub numbers: Vec<CheckedNumber>,
    /// Is the app told of the account?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_subscribed: Option<bool>,
    /// Where the app's webhooks go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<Callback>,
}

impl Store {
    /// What the last check of a connection read, if there was one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn checked(&self, connection: &ConnectionId) -> Result<Option<Checked>, StoreError> {
        Ok(self.dynamo.get(&keys::checked(connection), Read::Strong).await?.map(|it| it.value))
    }

    /// Notes what a check read.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_checked(&self, connection: &ConnectionId, checked: &Checked) -> Result<(), StoreError> {
        let _: Written<Checked> = self.dynamo.put(&keys::checked(connection), checked, None, None, Condition::Always).await?;
        Ok(())
    }
}
