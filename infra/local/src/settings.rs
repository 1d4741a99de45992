//! What the local stack is told: addresses, the demo data, where its state lies. Read from the environment, all mistakes at once.
//!
//! Knows nothing of processes or of AWS.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Everything that can be chosen, with its default.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Where Meta (the simulator) and browsers reach the functions. `GATEWAY_ADDRESS`.
    pub(crate) gateway: SocketAddr,
    /// Where the Meta simulator answers as the Graph API. `META_SIM_ADDRESS`.
    pub(crate) meta_sim: SocketAddr,
    /// Where the AWS emulator listens. `AWS_EMULATOR_ADDRESS`.
    pub(crate) aws: SocketAddr,
    /// Where a speech-to-text endpoint listens, if there is to be one. `SPEECH=1` wants it, `SPEECH_ADDRESS`.
    pub(crate) speech: Option<SocketAddr>,
    /// What that endpoint takes as a key. `SPEECH_KEY`.
    pub(crate) speech_key: String,
    /// The connection that is there after the start.
    pub(crate) demo: Demo,
    /// Where state and logs lie: `<target>/local`. `LOCAL_STATE`.
    pub(crate) state: PathBuf,
    /// Whether the example agent takes turns; without it they wait for one of yours. `EXAMPLE_AGENT=0` leaves it out.
    pub(crate) has_agent: bool,
    /// Whether the state of earlier runs is thrown away first. `FRESH=1`.
    pub(crate) is_fresh: bool,
    /// Which part of a number's throughput campaigns may use, if not what the template says. `CAMPAIGN_SHARE`.
    pub(crate) campaign_share: String,
    /// What the JSON API's callers prove themselves by, as the demo tenant. `API_TOKEN`.
    pub(crate) api_token: String,
    /// Where programs, state and logs lie.
    pub(crate) places: Places,
}

/// The demo connection and whom it talks to. Made-up values, shared with the Meta simulator.
#[derive(Debug)]
pub(crate) struct Demo {
    /// `DEMO_TENANT`.
    pub(crate) tenant: String,
    /// `DEMO_APP_ID`.
    pub(crate) app_id: String,
    /// `DEMO_APP_SECRET`: the key of the webhooks' signatures.
    pub(crate) app_secret: String,
    /// `DEMO_WABA_ID`: the WhatsApp Business Account.
    pub(crate) waba_id: String,
    /// `DEMO_NUMBERS`: phone number ids, comma separated.
    pub(crate) numbers: Vec<String>,
    /// `DEMO_ACCESS_TOKEN`: what the Graph API is called with.
    pub(crate) access_token: String,
    /// `DEMO_AGENT`: the agent attached with inbound on.
    pub(crate) agent: String,
    /// `DEMO_PHONE`: the customer of the conversation that is played after the start; international, digits only.
    pub(crate) phone: String,
    /// Whether a conversation is played after the start. `DEMO_CONVERSATION=0` leaves it out.
    pub(crate) is_played: bool,
}

/// Folders, from the place of this program: `<target>/debug/local`.
#[derive(Debug)]
pub(crate) struct Places {
    /// The workspace, where cargo runs.
    pub(crate) workspace: PathBuf,
    /// cargo's target directory, absolute.
    pub(crate) target: PathBuf,
    /// Where our own binaries are.
    pub(crate) binaries: PathBuf,
}

impl Places {
    /// From the path of this program, which cargo put into `<target>/<profile>/`.
    ///
    /// None if the path is too short to be in a target directory.
    pub(crate) fn of(program: &Path) -> Option<Self> {
        let binaries = program.parent()?;
        Some(Self {
            workspace: Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?.to_owned(),
            target: binaries.parent()?.to_owned(),
            binaries: binaries.to_owned(),
        })
    }

    /// A program of the virtual environment that `make` fills.
    pub(crate) fn tool(&self, name: &str) -> PathBuf {
        self.target.join("venv/bin").join(name)
    }
}

impl Settings {
    /// Reads the settings through `variable`, which answers what the environment holds under a name.
    ///
    /// # Errors
    /// Every value that is not acceptable, one sentence each.
    pub(crate) fn read(places: Places, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<String>> {
        let mut reader = Reader { variable, mistakes: Vec::new() };
        let settings = Self {
            gateway: reader.loopback("GATEWAY_ADDRESS", "127.0.0.1:8080"),
            meta_sim: reader.loopback("META_SIM_ADDRESS", "127.0.0.1:8090"),
            aws: reader.loopback("AWS_EMULATOR_ADDRESS", "127.0.0.1:4566"),
            speech: (reader.text("SPEECH", "0") == "1").then(|| reader.loopback("SPEECH_ADDRESS", "127.0.0.1:8091")),
            speech_key: reader.text("SPEECH_KEY", "local-speech-key"),
            demo: Demo {
                tenant: reader.text("DEMO_TENANT", "demo"),
                app_id: reader.digits("DEMO_APP_ID", "200000000000001"),
                app_secret: reader.text("DEMO_APP_SECRET", "local-app-secret"),
                waba_id: reader.digits("DEMO_WABA_ID", "300000000000001"),
                numbers: reader.numbers("DEMO_NUMBERS", "100000000000001,100000000000002"),
                access_token: reader.text("DEMO_ACCESS_TOKEN", "local-access-token"),
                agent: reader.text("DEMO_AGENT", "example"),
                phone: reader.digits("DEMO_PHONE", "15550100123"),
                is_played: reader.text("DEMO_CONVERSATION", "1") != "0",
            },
            state: reader.text("LOCAL_STATE", &places.target.join("local").to_string_lossy()).into(),
            has_agent: reader.text("EXAMPLE_AGENT", "1") != "0",
            is_fresh: reader.text("FRESH", "0") == "1",
            campaign_share: reader.text("CAMPAIGN_SHARE", ""),
            api_token: reader.text("API_TOKEN", "local-api-token"),
            places,
        };
        if reader.mistakes.is_empty() { Ok(settings) } else { Err(reader.mistakes) }
    }

    /// The addresses that must be free, each with the variable that chooses another and what will listen there.
    pub(crate) fn ports(&self) -> Vec<(SocketAddr, &'static str, &'static str)> {
        let speech = self.speech.map(|it| (it, "SPEECH_ADDRESS", "the speech-to-text endpoint"));
        let always = [
            (self.gateway, "GATEWAY_ADDRESS", "the gateway"),
            (self.meta_sim, "META_SIM_ADDRESS", "the Meta simulator"),
            (self.aws, "AWS_EMULATOR_ADDRESS", "the AWS emulator"),
        ];
        always.into_iter().chain(speech).collect()
    }
}

/// Reads one variable after the other and remembers what was wrong.
struct Reader<V> {
    variable: V,
    mistakes: Vec<String>,
}

impl<V: Fn(&str) -> Option<String>> Reader<V> {
    /// The variable, or its default when it is not set or empty.
    fn text(&mut self, name: &str, default: &str) -> String {
        (self.variable)(name).filter(|it| !it.is_empty()).unwrap_or_else(|| default.to_owned())
    }

    fn digits(&mut self, name: &str, default: &str) -> String {
        let value = self.text(name, default);
        if !value.bytes().all(|it| it.is_ascii_digit()) {
            self.mistakes.push(format!("{name} must be digits only, it is {value:?}."));
        }
        value
    }

    fn numbers(&mut self, name: &str, default: &str) -> Vec<String> {
        let value = self.text(name, default);
        let numbers: Vec<String> = value.split(',').map(|it| it.trim().to_owned()).collect();
        if numbers.iter().any(|it| it.is_empty() || !it.bytes().all(|byte| byte.is_ascii_digit())) {
            self.mistakes.push(format!("{name} must be phone number ids with commas between them, it is {value:?}."));
        }
        numbers
    }

    /// An address of this machine that no other machine reaches: the stack has well-known secrets.
    fn loopback(&mut self, name: &str, default: &str) -> SocketAddr {
        let value = self.text(name, default);
        match value.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() && address.port() != 0 => return address,
            Ok(_) => self.mistakes.push(format!("{name} must be a loopback address with a port, it is {value:?}.")),
            Err(_) => self.mistakes.push(format!("{name} must look like {default}, it is {value:?}.")),
        }
        SocketAddr::from(([127, 0, 0, 1], 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places::of(Path::new("/somewhere/target/debug/local")).expect("the path is deep enough")
    }

    fn read(variables: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
        Settings::read(places(), |name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn nothing_set_gives_the_documented_defaults() {
        let settings = read(&[]).expect("defaults are good");
        assert_eq!(settings.gateway.to_string(), "127.0.0.1:8080");
        assert_eq!(settings.meta_sim.to_string(), "127.0.0.1:8090");
        assert_eq!(settings.demo.numbers, ["100000000000001", "100000000000002"]);
        assert_eq!(settings.demo.app_secret, "local-app-secret");
        assert!(!settings.is_fresh);
        assert!(settings.has_agent);
        assert_eq!((settings.speech, settings.ports().len()), (None, 3));
        assert!(settings.demo.is_played);
        assert_eq!(settings.state, Path::new("/somewhere/target/local"));
        assert_eq!(settings.places.tool("ministack"), Path::new("/somewhere/target/venv/bin/ministack"));
    }

    #[test]
    fn what_is_set_wins_and_empty_counts_as_not_set() {
        let settings = read(&[
            ("GATEWAY_ADDRESS", "[::1]:9000"),
            ("DEMO_NUMBERS", "1, 2 ,3"),
            ("DEMO_TENANT", ""),
            ("FRESH", "1"),
            ("DEMO_CONVERSATION", "0"),
            ("EXAMPLE_AGENT", "0"),
            ("SPEECH", "1"),
            ("SPEECH_KEY", "another"),
        ])
        .expect("all are good");
        assert_eq!((settings.ports()[3].0.to_string(), settings.speech_key.as_str()), ("127.0.0.1:8091".to_owned(), "another"));
        assert!(!settings.has_agent);
        assert_eq!(settings.gateway.to_string(), "[::1]:9000");
        assert_eq!(settings.demo.numbers, ["1", "2", "3"]);
        assert_eq!(settings.demo.tenant, "demo");
        assert!(settings.is_fresh);
        assert!(!settings.demo.is_played);
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let mistakes = read(&[
            ("GATEWAY_ADDRESS", "0.0.0.0:8080"),
            ("META_SIM_ADDRESS", "here"),
            ("AWS_EMULATOR_ADDRESS", "127.0.0.1:0"),
            ("DEMO_NUMBERS", "1,,2"),
            ("DEMO_PHONE", "+1555"),
        ])
        .expect_err("none is good");
        assert_eq!(
            mistakes,
            [
                "GATEWAY_ADDRESS must be a loopback address with a port, it is \"0.0.0.0:8080\".",
                "META_SIM_ADDRESS must look like 127.0.0.1:8090, it is \"here\".",
                "AWS_EMULATOR_ADDRESS must be a loopback address with a port, it is \"127.0.0.1:0\".",
                "DEMO_NUMBERS must be phone number ids with commas between them, it is \"1,,2\".",
                "DEMO_PHONE must be digits only, it is \"+1555\".",
            ]
        );
    }
}
