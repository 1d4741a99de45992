//! The speech-to-text endpoint as a program: `recogniser.py`, which `make run SPEECH=1` has what it needs installed for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::children::Program;
use crate::settings::Settings;

/// The recogniser as a program.
pub(crate) fn program(settings: &Settings, address: SocketAddr) -> Program {
    let environment: BTreeMap<String, String> = [
        ("SPEECH_ADDRESS", address.to_string()),
        ("SPEECH_KEY", settings.speech_key.clone()),
        ("LANG", "C.UTF-8".to_owned()),
        ("PYTHONUNBUFFERED", "1".to_owned()),
        ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    Program {
        name: "speech",
        path: settings.places.tool("python"),
        arguments: vec![settings.places.workspace.join("infra/local/recogniser.py").display().to_string()],
        environment,
        directory: settings.places.workspace.clone(),
        patience: Duration::from_secs(10),
    }
}

/// Where it takes voice notes.
pub(crate) fn url(address: SocketAddr) -> String {
    format!("http://{address}/v1/audio/transcriptions")
}

/// Whether the recogniser answers.
pub(crate) async fn answers(http: &reqwest::Client, address: SocketAddr) -> bool {
    let health = http.get(format!("http://{address}/health")).send().await;
    health.is_ok_and(|it| it.status().is_success())
}
