//! The demo data: one connection, ready to receive and to send.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use channel::aws::Aws;
use channel::store::{App, AppOwner, Attachment, NumberItem, Store, StoredConnection, Tables};
use channel::vault::{AdditionalData, MASTER_KEY_ID, Secret, Vault};
use domain::connection::{Connection, Lifecycle};
use domain::ids::{AgentId, AppId, ConnectionId, NumberId, TenantId, WabaId};
use domain::time::Timestamp;

use crate::settings::Demo;
use crate::stack::Stack;

/// Writes the demo connection (RUNNING), its app, its numbers, and the example agent attached with inbound on. If it is there
/// already everything stays as it is, so that a restart goes on where the last run was.
///
/// # Errors
/// A value is no such id, or the config table does not take it.
pub(crate) async fn seed(demo: &Demo, stack: &Stack, aws: &Aws, master_key: &str) -> Result<()> {
    let tables = Tables {
        config: stack.variable("TABLE_CONFIG")?.to_owned(),
        conversations: stack.variable("TABLE_CONVERSATIONS")?.to_owned(),
        messages: stack.variable("TABLE_MESSAGES")?.to_owned(),
    };
    let vault = Vault::new(MASTER_KEY_ID, &Secret::new(master_key))?;
    let now = now();
    let app = app(demo, &vault)?;
    let connection = connection(demo, &vault, now)?;
    let agent = AgentId::parse(demo.agent.as_str())?;
    let id = connection.connection.id.clone();
    let numbers: Vec<NumberItem> = connection
        .connection
        .numbers
        .iter()
        .map(|number| NumberItem { id: number.clone(), connection: id.clone(), claimed_at: now, agent: Some(agent.clone()), fault: None })
        .collect();
    let attachment = Attachment { connection: id, agent, inbound: true };
    // False if it is there already, which is as good.
    let _is_new = Store::over(aws, tables).install(&connection, &app, &numbers, &[attachment]).await?;
    Ok(())
}

/// The app whose webhooks carry the connection's messages.
fn app(demo: &Demo, vault: &Vault) -> Result<App> {
    let seal = |secret: &str, field| vault.seal(&Secret::new(secret), &AdditionalData::of_app(&demo.app_id, field));
    Ok(App {
        id: AppId::parse(demo.app_id.as_str())?,
        owner: AppOwner::Tenant(TenantId::parse(demo.tenant.as_str())?),
        secret: Some(seal(&demo.app_secret, "secret")?),
        previous_secret: None,
        verify_token: seal(&demo.verify_token, "verify_token")?,
    })
}

/// The connection itself, running since `now`.
fn connection(demo: &Demo, vault: &Vault, now: Timestamp) -> Result<StoredConnection> {
    let field = AdditionalData::of_connection(&demo.connection, "access_token");
    Ok(StoredConnection {
        connection: Connection {
            id: ConnectionId::parse(demo.connection.as_str())?,
            tenant: TenantId::parse(demo.tenant.as_str())?,
            name: "Demo".to_owned(),
            app: AppId::parse(demo.app_id.as_str())?,
            waba: WabaId::parse(demo.waba_id.as_str())?,
            numbers: demo.numbers.iter().map(|it| NumberId::parse(it.as_str())).collect::<Result<_, _>>()?,
            lifecycle: Lifecycle::running(now),
            token_generation: 1,
        },
        access_token: vault.seal(&Secret::new(demo.access_token.as_str()), &field)?,
    })
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
