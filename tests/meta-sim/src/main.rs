//! `meta-sim`: the simulated Meta as a program on the loopback. Configured by the environment; see README.md.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use meta_sim::{App, Pace, Setup, Simulator, SystemClock};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// How fast the phones of the program are: slow enough to watch.
const PACE: Pace = Pace { sent_ms: 100, delivered_ms: 300, read_ms: 1_200 };

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("meta-sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let address = variable("META_SIM_ADDRESS", "127.0.0.1:8090");
    let listener = listen(&address).await?;
    let simulator = match std::env::var("META_SIM_STATE") {
        Ok(file) if !file.is_empty() => Simulator::open(SystemClock, setup(), Path::new(&file))?,
        _ => Simulator::new(SystemClock, setup()),
    };
    let (mut terminated, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    println!("meta-sim: listening on http://{}", listener.local_addr()?);
    let ended = tokio::select! {
        served = simulator.serve(listener) => served.context("the server broke"),
        saved = simulator.keep_saved() => saved.context("the books could not be saved"),
        () = simulator.deliver() => Ok(()),
        _ = terminated.recv() => Ok(()),
        _ = interrupted.recv() => Ok(()),
    };
    simulator.save()?;
    ended
}

async fn listen(address: &str) -> anyhow::Result<TcpListener> {
    let parsed: SocketAddr = address.parse().with_context(|| format!("META_SIM_ADDRESS `{address}` is not an address with a port"))?;
    ensure!(
        parsed.ip().is_loopback(),
        "META_SIM_ADDRESS {address} is not on the loopback, and this simulator must not be reached from elsewhere"
    );
    match TcpListener::bind(parsed).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            bail!("the port of {address} is taken by another program; stop that one or set META_SIM_ADDRESS")
        }
        Err(error) => Err(error).with_context(|| format!("cannot listen on {address}")),
    }
}

/// The demo connection, as the environment names it.
fn setup() -> Setup {
    let mut app = App::new(&variable("DEMO_APP_ID", "200000000000001"), &variable("DEMO_APP_SECRET", "local-app-secret"));
    app.verify_token = variable("DEMO_VERIFY_TOKEN", "local-verify-token");
    app.callback = std::env::var("META_SIM_CALLBACK").ok().filter(|it| !it.is_empty());
    app.callback = app.callback.map(|base| format!("{}/webhooks/{}", base.trim_end_matches('/'), app.id));
    let numbers = variable("DEMO_NUMBERS", "100000000000001,100000000000002");
    let numbers: Vec<&str> = numbers.split(',').map(str::trim).filter(|it| !it.is_empty()).collect();
    let demo = Setup::of(app, &variable("DEMO_WABA_ID", "300000000000001"), &variable("DEMO_ACCESS_TOKEN", "local-access-token"), &numbers);
    Setup { auto_read: true, pace: PACE, ..demo }
}

fn variable(name: &str, usual: &str) -> String {
    std::env::var(name).ok().filter(|it| !it.is_empty()).unwrap_or_else(|| usual.to_owned())
}
