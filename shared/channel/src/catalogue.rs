//! stub
use crate::queues::*;
use crate::store::*;
use domain::connection::Connection;
use domain::ids::*;
use domain::template::*;
use domain::time::Timestamp;
use std::sync::Arc;
/// stub
#[derive(Debug)]
pub struct Catalogue;
/// stub
#[derive(Debug)]
pub struct KnownTemplate {
    /// t
    pub template: Template,
}
impl KnownTemplate {
    /// s
    pub fn refused_status(&self) -> Option<String> {
        None
    }
}
/// stub
pub enum Found {
    /// k
    Known(Arc<KnownTemplate>),
    /// u
    Unlisted {
        /// l
        listed_at: Option<Timestamp>,
    },
}
impl Catalogue {
    /// s
    pub fn new(_s: Store) -> Self { Self }
    /// s
    pub async fn find(&self, _c: &ConnectionId, _n: &TemplateName, _l: &Language, _now: Timestamp) -> Result<Found, StoreError> {
        Ok(Found::Unlisted { listed_at: None })
    }
    /// s
    pub async fn ask(&self, _q: &Queues, _c: &Connection, _now: Timestamp) -> Result<(), QueueError> {
        Ok(())
    }
    /// s
    pub fn forget(&self, _c: &ConnectionId, _n: &TemplateName, _l: &Language) {}
}
pub(crate) struct Stop<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) connection: &'a ConnectionId,
    pub(crate) name: &'a TemplateName,
    pub(crate) language: &'a Language,
    pub(crate) code: u32,
    pub(crate) at: Timestamp,
}
pub(crate) async fn stop(_s: &Store, _q: &Queues, _it: Stop<'_>) -> Result<(), crate::SendError> {
    Ok(())
}
