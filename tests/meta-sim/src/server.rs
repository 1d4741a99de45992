//! The HTTP server: one task per connection, and a way to close a connection without an answer.
//!
//! `axum::serve` always answers; a cut connection needs the step below it.

use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::Simulator;
use crate::{control, graph};

/// In a response's extensions: close the connection instead.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the connection is cut")]
pub(crate) struct Cut;

/// A request from its arrival until it is answered or given up, counted.
struct Begun(Simulator);

impl Begun {
    fn new(simulator: Simulator) -> Self {
        simulator.0.begun.fetch_add(1, Ordering::Relaxed);
        Self(simulator)
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// Serves until dropped, and with it every connection.
pub(crate) async fn serve(simulator: Simulator, listener: TcpListener) -> std::io::Result<()> {
    let control = control::routes().with_state(simulator.clone());
    let graph = Router::new().fallback(graph::handle).with_state(simulator.clone());
    let router = control.fallback_service(graph).layer(DefaultBodyLimit::disable());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                connections.spawn(answer(simulator.clone(), accepted?.0, router.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(simulator: Simulator, stream: TcpStream, router: Router) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let response = router.call(request.map(axum::body::Body::new));
        let begun = Begun::new(simulator.clone());
        async move {
            let _until_answered = begun;
            let Ok(response) = response.await;
            match response.extensions().get::<Cut>() {
                Some(cut) => Err(*cut),
                None => Ok(response),
            }
        }
    });
    // How a connection ends, cut ones too, is the client's to see.
    let _ended = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
