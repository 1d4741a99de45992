//! The demo data: one connection, ready to receive and to send.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use channel::aws::Aws;
use channel::catalogue;
use channel::connections::{self, NewConnection};
use channel::queues::{Queue, QueueUrls, Queues};
use channel::store::{Store, Tables};
use channel::vault::{MASTER_KEY_ID, Secret, Vault};
use domain::ids::{AgentId, AppId, ConnectionId, NumberId, TenantId, WabaId};
use domain::time::Timestamp;

use crate::settings::Demo;
use crate::stack::Stack;

/// Writes the demo connection (RUNNING), its app, its numbers, and the example agent attached with inbound on. If it is there
/// already everything stays as it is, so that a restart goes on where the last run was.
///
/// # Errors
/// A value is no such id, or the config table or the queue `probes` does not take it.
pub(crate) async fn seed(demo: &Demo, stack: &Stack, aws: &Aws, master_key: &str) -> Result<()> {
    let vault = Vault::new(MASTER_KEY_ID, &Secret::new(master_key))?;
    // False if it is there already, which is as good.
    let _is_new = connections::install(&store(stack, aws)?, &queues(stack, aws)?, &vault, &connection(demo)?, now()).await?;
    Ok(())
}

/// Asks that the demo connection's templates be read. What asked for it when the connection was made came before the functions were up.
///
/// # Errors
/// The config table or the queue `probes` does not answer.
pub(crate) async fn list_templates(demo: &Demo, stack: &Stack, aws: &Aws) -> Result<()> {
    let id = ConnectionId::parse(demo.connection.as_str())?;
    let stored = store(stack, aws)?.connection(&id).await?.context("The demo connection is not there")?;
    Ok(catalogue::ask(&queues(stack, aws)?, &stored.connection, now()).await?)
}

fn store(stack: &Stack, aws: &Aws) -> Result<Store> {
    let tables = Tables {
        config: stack.variable("TABLE_CONFIG")?.to_owned(),
        conversations: stack.variable("TABLE_CONVERSATIONS")?.to_owned(),
        messages: stack.variable("TABLE_MESSAGES")?.to_owned(),
    };
    Ok(Store::over(aws, tables))
}

fn queues(stack: &Stack, aws: &Aws) -> Result<Queues> {
    Ok(Queues::new(aws.sqs(), QueueUrls::new().with(Queue::Probes, stack.variable("QUEUE_PROBES")?)))
}

/// The connection, with its app and the example agent.
fn connection(demo: &Demo) -> Result<NewConnection> {
    Ok(NewConnection {
        id: ConnectionId::parse(demo.connection.as_str())?,
        tenant: TenantId::parse(demo.tenant.as_str())?,
        name: "Demo".to_owned(),
        app: AppId::parse(demo.app_id.as_str())?,
        app_secret: Secret::new(demo.app_secret.as_str()),
        verify_token: Secret::new(demo.verify_token.as_str()),
        waba: WabaId::parse(demo.waba_id.as_str())?,
        numbers: demo.numbers.iter().map(|it| NumberId::parse(it.as_str())).collect::<Result<_, _>>()?,
        access_token: Secret::new(demo.access_token.as_str()),
        agent: Some(AgentId::parse(demo.agent.as_str())?),
    })
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
