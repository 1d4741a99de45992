//! The way from an AWS client to an embedded engine, in process, and everything that can go wrong on it.
//!
//! An engine is a [`Service`]: action and JSON body in, answer out. The AWS SDK is given a [`Wire`] as its HTTP client, so that
//! production code, signing and retries included, runs unchanged and without a socket: between two requests nothing but
//! the caller's own code decides what happens next, which makes races repeatable. It must not know what any action means.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use futures::channel::oneshot;
use futures::future::BoxFuture;

use crate::clock::Clock;
use crate::roles::Role;

/// One request on its way to an engine.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who calls: the name under which the client was made, usually a function's.
    pub who: String,
    /// The API's name of the action, `PutItem` or `SendMessage`.
    pub action: String,
    /// The request's body: JSON, but for S3.
    pub body: Vec<u8>,
    /// How it came over HTTP, for an engine that must know.
    pub head: Head,
    /// Positions of batch entries that are to be answered as failed and not executed.
    pub failing_entries: Vec<usize>,
}

/// The head of a request.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// Its method.
    pub method: String,
    /// Its address, whole.
    pub uri: String,
    /// Its headers.
    pub headers: Vec<(String, String)>,
}

/// What an engine answers, as it goes over HTTP.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers; without a content type the answer is JSON as AWS has it.
    pub headers: Vec<(String, String)>,
    /// The answer's body.
    pub body: Vec<u8>,
}

/// An engine that speaks AWS JSON 1.0, or what else AWS speaks.
pub trait Service: Send + Sync + 'static {
    /// The API's name of the action that a request asks for.
    fn action(&self, head: &Head) -> String {
        let target = head.headers.iter().find(|it| it.0 == "x-amz-target").map(|it| it.1.as_str()).unwrap_or_default();
        target.rsplit('.').next().unwrap_or_default().to_owned()
    }

    /// Executes one request.
    fn execute(&self, call: Call) -> BoxFuture<'_, Answer>;

    /// How this service words a fault that it answers without executing the request.
    fn fault(&self, call: &Call, fault: &Fault) -> Answer;

    /// The permissions that the request needs: each an action and the ARN of a resource.
    fn needs(&self, call: &Call) -> Vec<(String, String)>;
}

/// What goes wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The service answers that it is called too often; nothing is executed.
    Throttled,
    /// The service answers 500; nothing is executed.
    InternalError,
    /// The service answers that the caller may not do this; nothing is executed.
    AccessDenied,
    /// DynamoDB answers that another transaction is at work on the item; nothing is executed.
    TransactionConflict,
    /// The connection is lost before the request arrives; nothing is executed.
    CutBefore,
    /// The request is executed and the connection is lost before the answer arrives.
    CutAfter,
    /// A read that need not be consistent does not see the item yet; anything else is executed as ever.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.ReadConsistency.html>
    Stale,
    /// The request arrives later, by the clock of the world.
    Delayed(Duration),
    /// Of a batch, the entries at these positions are answered as failed by the service and not executed.
    FailedEntries(Vec<usize>),
    /// A put is executed whatever its condition says, as if a careless caller had forgotten it; anything else is executed as ever.
    Unconditional,
}

/// When something goes wrong, and what. Starts as *every call of everybody*, narrowed by the methods.
#[derive(Clone, Debug)]
pub struct Rule {
    fault: Fault,
    who: Option<String>,
    action: Option<String>,
    skip: u64,
    times: u64,
}

impl Rule {
    /// Every call of everybody fails like this.
    #[must_use]
    pub fn every(fault: Fault) -> Self {
        Self { fault, who: None, action: None, skip: 0, times: u64::MAX }
    }

    /// Only calls of this action.
    #[must_use]
    pub fn of(mut self, action: &str) -> Self {
        self.action = Some(action.to_owned());
        self
    }

    /// Only calls of this caller.
    #[must_use]
    pub fn by(mut self, who: &str) -> Self {
        self.who = Some(who.to_owned());
        self
    }

    /// Not the first `calls` that match: with `after(2)` the third is the first to fail.
    #[must_use]
    pub fn after(mut self, calls: u64) -> Self {
        self.skip = calls;
        self
    }

    /// Not more than this many calls.
    #[must_use]
    pub fn times(mut self, calls: u64) -> Self {
        self.times = calls;
        self
    }

    fn applies(&mut self, who: &str, action: &str) -> bool {
        let is_meant = self.who.as_deref().is_none_or(|it| it == who) && self.action.as_deref().is_none_or(|it| it == action);
        if !is_meant || self.times == 0 {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.times -= 1;
        true
    }
}

/// What is to go wrong at one engine, and what it has been asked so far.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    rules: Vec<Rule>,
    calls: BTreeMap<(String, String), u64>,
    roles: BTreeMap<String, Role>,
    denied: Vec<String>,
    yields: usize,
    stops: Stops,
}

/// Runners that are stopped before each call that matters.
#[derive(Debug, Default)]
struct Stops {
    matters: Option<fn(&Call) -> bool>,
    /// Whose calls are made now.
    runs: Option<usize>,
    stopped: BTreeMap<usize, Vec<oneshot::Sender<()>>>,
}

impl Faults {
    /// Adds a rule; of several that apply to a call, the oldest decides.
    pub fn add(&self, rule: Rule) {
        self.with(|book| book.rules.push(rule));
    }

    /// Nothing goes wrong any more; requests still yield as set.
    pub fn clear(&self) {
        self.with(|book| book.rules.clear());
    }

    /// How often each request lets other tasks run before it is executed; 0 at first.
    pub fn yield_before_each(&self, times: usize) {
        self.with(|book| book.yields = times);
    }

    /// From now on runners are stopped before each call that matters, or no more.
    pub(crate) fn stop_at(&self, matters: Option<fn(&Call) -> bool>) {
        self.with(|book| book.stops = Stops { matters, ..Stops::default() });
    }

    /// The calls that are made from now on are this runner's.
    pub(crate) fn runs(&self, runner: Option<usize>) {
        self.with(|book| book.stops.runs = runner);
    }

    /// Is it stopped before a call?
    pub(crate) fn is_stopped(&self, runner: usize) -> bool {
        self.with(|book| book.stops.stopped.contains_key(&runner))
    }

    /// It may make that call.
    pub(crate) fn go_on(&self, runner: usize) {
        let stopped = self.with(|book| book.stops.stopped.remove(&runner)).unwrap_or_default();
        // Whoever does not wait any more needs no word.
        for it in stopped {
            let _ = it.send(());
        }
    }

    /// Returns once the call may be made: at once if it does not matter.
    async fn may_be_made(&self, call: &Call) {
        let stopped = self.with(|book| {
            let stops = &mut book.stops;
            let runner = stops.runs.filter(|_| stops.matters.is_some_and(|matters| matters(call)))?;
            let (go_on, stopped) = oneshot::channel();
            stops.stopped.entry(runner).or_default().push(go_on);
            Some(stopped)
        });
        if let Some(stopped) = stopped {
            // Nobody is stopped any more when the sender is dropped.
            let _ = stopped.await;
        }
    }

    /// How often an action was asked for, by anybody, refused calls included.
    #[must_use]
    pub fn calls(&self, action: &str) -> u64 {
        self.with(|book| book.calls.iter().filter(|((_, it), _)| it == action).map(|(_, count)| count).sum())
    }

    /// How often each action was asked for by this caller, refused calls included.
    #[must_use]
    pub fn calls_by(&self, who: &str) -> BTreeMap<String, u64> {
        self.with(|book| {
            let own = book.calls.iter().filter(|((it, _), _)| it == who);
            own.map(|((_, action), count)| (action.clone(), *count)).collect()
        })
    }

    /// Starts counting calls from zero.
    pub fn reset_calls(&self) {
        self.with(|book| book.calls.clear());
    }

    /// This caller may do only what the role allows; callers without a role may do anything.
    pub fn hold_to(&self, who: &str, role: Role) {
        self.with(|book| drop(book.roles.insert(who.to_owned(), role)));
    }

    /// What callers asked for beyond their roles, in order.
    #[must_use]
    pub fn denied(&self) -> Vec<String> {
        self.with(|book| book.denied.clone())
    }

    /// Whether the caller's role allows all of it; what it does not allow is noted.
    fn is_allowed(&self, who: &str, needs: &[(String, String)]) -> bool {
        self.with(|book| {
            let Some(role) = book.roles.get(who) else { return true };
            let beyond: Vec<String> = needs
                .iter()
                .filter(|(action, resource)| !role.allows(action, resource))
                .map(|(action, resource)| format!("{who}: {action} on {resource}"))
                .collect();
            book.denied.extend_from_slice(&beyond);
            beyond.is_empty()
        })
    }

    fn next(&self, who: &str, action: &str) -> Option<Fault> {
        self.with(|book| {
            *book.calls.entry((who.to_owned(), action.to_owned())).or_default() += 1;
            book.rules.iter_mut().find_map(|rule| rule.applies(who, action).then(|| rule.fault.clone()))
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut Book) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Is it a read that DynamoDB may answer from a copy that lags behind?
fn may_lag(call: &Call) -> bool {
    let asks_for_consistency = b"\"ConsistentRead\":true";
    call.action == "GetItem" && !call.body.windows(asks_for_consistency.len()).any(|it| it == asks_for_consistency)
}

/// Takes the condition from a put.
fn without_condition(call: &mut Call) {
    if call.action != "PutItem" {
        return;
    }
    let mut request: serde_json::Value = serde_json::from_slice(&call.body).unwrap_or_default();
    if let Some(request) = request.as_object_mut() {
        request.retain(|name, _| name != "ConditionExpression" && !name.starts_with("ExpressionAttribute"));
        call.body = serde_json::Value::Object(std::mem::take(request)).to_string().into_bytes();
    }
}

/// The connection was lost: the caller has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection was lost")]
pub struct Cut;

/// A connection to an engine, with its faults. Clones share both.
pub struct Wire<S> {
    service: Arc<S>,
    faults: Faults,
    clock: Clock,
}

impl<S> Clone for Wire<S> {
    fn clone(&self) -> Self {
        Self { service: Arc::clone(&self.service), faults: self.faults.clone(), clock: self.clock.clone() }
    }
}

impl<S> fmt::Debug for Wire<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Wire").field("faults", &self.faults).finish_non_exhaustive()
    }
}

impl<S: Service> Wire<S> {
    /// A faultless connection; delays go by `clock`.
    pub fn new(service: S, clock: Clock) -> Self {
        Self { service: Arc::new(service), faults: Faults::default(), clock }
    }

    /// The engine behind.
    #[must_use]
    pub fn service(&self) -> &S {
        &self.service
    }

    /// What is to go wrong, and what was called.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Carries one request to the engine and its answer back.
    ///
    /// # Errors
    /// [`Cut`] when a fault says that the connection is lost.
    pub async fn call(&self, mut call: Call) -> Result<Answer, Cut> {
        self.clock.stir();
        for _ in 0..self.faults.with(|book| book.yields) {
            yield_once().await;
        }
        self.faults.may_be_made(&call).await;
        if !self.faults.is_allowed(&call.who, &self.service.needs(&call)) {
            return Ok(self.service.fault(&call, &Fault::AccessDenied));
        }
        match self.faults.next(&call.who, &call.action) {
            None => {}
            Some(Fault::CutBefore) => return Err(Cut),
            Some(Fault::CutAfter) => {
                self.service.execute(call).await;
                return Err(Cut);
            }
            Some(Fault::Delayed(by)) => {
                let by_ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
                self.clock.until(self.clock.now_ms().saturating_add(by_ms)).await;
            }
            Some(Fault::Stale) if !may_lag(&call) => {}
            Some(Fault::Unconditional) => without_condition(&mut call),
            Some(Fault::FailedEntries(positions)) => call.failing_entries = positions,
            Some(fault) => return Ok(self.service.fault(&call, &fault)),
        }
        Ok(self.service.execute(call).await)
    }

    /// The HTTP client to give to the SDK's configuration; its calls are counted and hit by faults under the name `who`.
    #[must_use]
    pub fn http_client(&self, who: &str) -> SharedHttpClient {
        SharedHttpClient::new(Connector { wire: self.clone(), who: who.to_owned() })
    }
}

/// Lets other tasks run once, whoever polls: unlike tokio's own it needs no runtime, so that a test may poll by hand.
async fn yield_once() {
    let mut has_yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

struct Connector<S> {
    wire: Wire<S>,
    who: String,
}

impl<S> Clone for Connector<S> {
    fn clone(&self) -> Self {
        Self { wire: self.wire.clone(), who: self.who.clone() }
    }
}

impl<S> fmt::Debug for Connector<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Connector").field("who", &self.who).finish_non_exhaustive()
    }
}

impl<S: Service> HttpClient for Connector<S> {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl<S: Service> HttpConnector for Connector<S> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Self { wire, who } = self.clone();
        HttpConnectorFuture::new(async move {
            let headers = request.headers().iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            let head = Head { method: request.method().to_owned(), uri: request.uri().to_owned(), headers };
            let (action, body) = (wire.service.action(&head), request.body().bytes().unwrap_or_default().to_vec());
            let answer = wire.call(Call { who, action, body, head, failing_entries: Vec::new() }).await;
            response(answer.map_err(|cut| ConnectorError::io(Box::new(cut)))?)
        })
    }
}

fn response(answer: Answer) -> Result<HttpResponse, ConnectorError> {
    let status = answer.status.try_into().map_err(|error| ConnectorError::other(Box::new(error), None))?;
    let mut response = HttpResponse::new(status, SdkBody::from(answer.body));
    if !answer.headers.iter().any(|it| it.0 == "content-type") {
        response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
    }
    for (name, value) in answer.headers {
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures::FutureExt;

    use super::*;

    /// Counts what it executes, and says who asked for which entries to fail.
    #[derive(Default)]
    struct Counting(AtomicU64);

    impl Service for Counting {
        fn execute(&self, call: Call) -> BoxFuture<'_, Answer> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let body = format!("{} {:?}", call.who, call.failing_entries).into_bytes();
            Box::pin(async { Answer { status: 200, headers: Vec::new(), body } })
        }

        fn fault(&self, _: &Call, fault: &Fault) -> Answer {
            Answer { status: 400, headers: Vec::new(), body: format!("{fault:?}").into_bytes() }
        }

        fn needs(&self, call: &Call) -> Vec<(String, String)> {
            vec![(format!("counting:{}", call.action), "arn:all".to_owned())]
        }
    }

    fn wire() -> Wire<Counting> {
        Wire::new(Counting::default(), Clock::turned())
    }

    fn call(who: &str, action: &str) -> Call {
        Call { who: who.to_owned(), action: action.to_owned(), body: Vec::new(), head: Head::default(), failing_entries: Vec::new() }
    }

    fn executed(wire: &Wire<Counting>) -> u64 {
        wire.service().0.load(Ordering::Relaxed)
    }

    async fn status(wire: &Wire<Counting>, who: &str, action: &str) -> Result<u16, Cut> {
        wire.call(call(who, action)).await.map(|answer| answer.status)
    }

    #[tokio::test]
    async fn the_nth_call_of_an_action_by_one_caller_fails_and_only_that() {
        let wire = wire();
        wire.faults().add(Rule::every(Fault::Throttled).of("PutItem").by("inbound").after(1).times(1));
        assert_eq!(status(&wire, "inbound", "PutItem").await, Ok(200));
        assert_eq!(status(&wire, "replies", "PutItem").await, Ok(200));
        assert_eq!(status(&wire, "inbound", "GetItem").await, Ok(200));
        assert_eq!(status(&wire, "inbound", "PutItem").await, Ok(400));
        assert_eq!(status(&wire, "inbound", "PutItem").await, Ok(200));
        assert_eq!(wire.faults().calls("PutItem"), 4);
        assert_eq!(wire.faults().calls_by("inbound"), BTreeMap::from([("GetItem".into(), 1), ("PutItem".into(), 3)]));
        assert_eq!(executed(&wire), 4);
    }

    #[tokio::test]
    async fn a_caller_with_a_role_may_do_only_what_it_allows() {
        let wire = wire();
        wire.faults().hold_to("a", Role::default());
        assert_eq!(status(&wire, "b", "X").await, Ok(200));
        assert_eq!(status(&wire, "a", "X").await, Ok(400));
        assert_eq!((executed(&wire), wire.faults().denied()), (1, vec!["a: counting:X on arn:all".to_owned()]));
    }

    #[tokio::test]
    async fn a_cut_before_executes_nothing_and_a_cut_after_everything() {
        let wire = wire();
        wire.faults().add(Rule::every(Fault::CutBefore).times(1));
        wire.faults().add(Rule::every(Fault::CutAfter).times(1));
        assert_eq!(status(&wire, "a", "X").await, Err(Cut));
        assert_eq!(executed(&wire), 0);
        assert_eq!(status(&wire, "a", "X").await, Err(Cut));
        assert_eq!(executed(&wire), 1);
        wire.faults().add(Rule::every(Fault::CutBefore));
        wire.faults().clear();
        assert_eq!(status(&wire, "a", "X").await, Ok(200));
    }

    #[tokio::test]
    async fn a_delayed_request_arrives_when_the_clock_is_turned() {
        let wire = wire();
        wire.faults().add(Rule::every(Fault::Delayed(Duration::from_secs(3))));
        let mut request = Box::pin(status(&wire, "a", "X"));
        assert!((&mut request).now_or_never().is_none());
        assert_eq!(executed(&wire), 0);
        wire.clock.advance(Duration::from_secs(3));
        assert_eq!(request.await, Ok(200));
    }

    #[test]
    fn a_request_lets_others_run_as_often_as_it_is_told() {
        let wire = wire();
        wire.faults().yield_before_each(2);
        let mut request = Box::pin(status(&wire, "a", "X"));
        assert!((&mut request).now_or_never().is_none());
        assert!((&mut request).now_or_never().is_none());
        assert_eq!((&mut request).now_or_never(), Some(Ok(200)));
    }

    #[tokio::test]
    async fn entries_that_are_to_fail_reach_the_engine() {
        let wire = wire();
        wire.faults().add(Rule::every(Fault::FailedEntries(vec![0, 2])));
        let answer = wire.call(call("a", "X")).await.expect("is not cut");
        assert_eq!(answer.body, b"a [0, 2]");
    }
}
