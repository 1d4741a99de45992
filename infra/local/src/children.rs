//! The programs that the stack starts: each in a process group of its own, watched, and stopped in order.
//!
//! Knows nothing of what they do.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// How much of a log is shown when its program has died.
const LAST_LINES: usize = 20;

/// A program to start. Its environment is what is listed here and nothing else.
pub(crate) struct Program {
    /// How people call it; also the name of its log.
    pub(crate) name: &'static str,
    /// What is run.
    pub(crate) path: PathBuf,
    /// With which arguments.
    pub(crate) arguments: Vec<String>,
    /// The whole environment.
    pub(crate) environment: BTreeMap<String, String>,
    /// In which folder.
    pub(crate) directory: PathBuf,
    /// How long it may take to end after being asked to.
    pub(crate) patience: Duration,
}

/// What is told of a program that ended without being asked to.
pub(crate) struct Death {
    name: &'static str,
    status: String,
    log: PathBuf,
}

impl std::fmt::Display for Death {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} ended: {}. The last lines of {}:", self.name, self.status, self.log.display())?;
        let text = fs::read(&self.log).unwrap_or_default();
        for line in last_lines(&String::from_utf8_lossy(&text), LAST_LINES) {
            writeln!(f, "    {line}")?;
        }
        Ok(())
    }
}

/// What runs now, oldest first.
pub(crate) struct Children {
    logs: PathBuf,
    running: Mutex<Vec<Running>>,
    deaths: mpsc::UnboundedSender<Death>,
}

struct Running {
    name: &'static str,
    group: Pid,
    ended: watch::Receiver<bool>,
    patience: Duration,
}

impl Children {
    /// Nothing runs yet. Logs go into the folder `logs`; whoever ends early is told by the receiver.
    pub(crate) fn new(logs: &Path) -> (Self, mpsc::UnboundedReceiver<Death>) {
        let (deaths, told) = mpsc::unbounded_channel();
        (Self { logs: logs.to_owned(), running: Mutex::default(), deaths }, told)
    }

    /// Where a program's output goes.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    /// Starts a program in a process group of its own, so that Ctrl-C reaches us alone and we decide the order.
    ///
    /// # Errors
    /// It cannot be started, or its log cannot be written.
    pub(crate) fn start(&self, program: Program) -> Result<()> {
        let log = self.log(program.name);
        // What led to a restart is read after it.
        let output = File::options().create(true).append(true).open(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut child = Command::new(&program.path)
            .args(&program.arguments)
            .env_clear()
            .envs(&program.environment)
            .current_dir(&program.directory)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {} ({})", program.name, program.path.display()))?;
        let group =
            child.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("a child that has just been started has a process id")?;
        let (end, ended) = watch::channel(false);
        let name = program.name;
        let deaths = self.deaths.clone();
        tokio::spawn(async move {
            let status = describe(child.wait().await);
            end.send_replace(true);
            // Nobody listens any more once we stop it ourselves.
            let _ = deaths.send(Death { name, status, log });
        });
        let mut running = self.running.lock().expect("no code panics while it holds the list");
        running.push(Running { name, group, ended, patience: program.patience });
        Ok(())
    }

    /// Ends all, the youngest first: asked politely, then by force with all that it started.
    pub(crate) async fn stop(&self) {
        let running = std::mem::take(&mut *self.running.lock().expect("no code panics while it holds the list"));
        for mut child in running.into_iter().rev() {
            // An error means that the whole group is gone, which is what we want.
            let _ = kill_process_group(child.group, Signal::TERM);
            if timeout(child.patience, child.ended.wait_for(|it| *it)).await.is_err() {
                println!("{} did not stop within {:?} and is ended by force.", child.name, child.patience);
            }
            let _ = kill_process_group(child.group, Signal::KILL);
        }
    }
}

fn describe(status: std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => format!("its end could not be heard ({error})"),
    }
}

/// The last `count` lines that are not empty.
fn last_lines(text: &str, count: usize) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().filter(|it| !it.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].to_vec()
}

/// Whether every address can be listened on, looked at before anything is started.
///
/// # Errors
/// A sentence for each that is taken, naming the variable that chooses another.
pub(crate) fn ports_are_free(ports: &[(SocketAddr, &str, &str)]) -> Result<(), Vec<String>> {
    let taken: Vec<String> = ports
        .iter()
        .filter(|(address, ..)| TcpListener::bind(address).is_err())
        .map(|(address, variable, what)| {
            let other = SocketAddr::new(address.ip(), address.port().checked_add(10_000).unwrap_or(18_080));
            format!(
                "Port {} is taken, so {what} cannot listen on {address}. Stop what listens there (an earlier run?), or choose another: make run {variable}={other}",
                address.port()
            )
        })
        .collect();
    if taken.is_empty() { Ok(()) } else { Err(taken) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(name: &'static str, script: &str, directory: &Path) -> Program {
        Program {
            name,
            path: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            environment: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
            directory: directory.to_owned(),
            patience: Duration::from_secs(60),
        }
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("local-children-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("the temporary folder is writable");
        folder
    }

    #[test]
    fn last_lines_leaves_out_empty_ones_and_takes_no_more_than_asked() {
        assert_eq!(last_lines("one\n\ntwo\n  \nthree\n", 2), ["two", "three"]);
        assert_eq!(last_lines("one", 20), ["one"]);
        assert!(last_lines("", 20).is_empty());
    }

    #[test]
    fn a_taken_port_is_named_with_its_variable() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let taken = listener.local_addr().expect("it listens");
        let told = ports_are_free(&[(taken, "GATEWAY_ADDRESS", "the gateway")]).expect_err("it is taken");
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with(&format!("Port {} is taken, so the gateway cannot listen", taken.port())), "{told:?}");
        assert!(told[0].contains("make run GATEWAY_ADDRESS=127.0.0.1:"), "{told:?}");
        drop(listener);
        assert_eq!(ports_are_free(&[(taken, "GATEWAY_ADDRESS", "the gateway")]), Ok(()));
    }

    #[tokio::test]
    async fn a_dead_child_is_named_with_its_last_lines() {
        let folder = folder("dead");
        let (children, mut deaths) = Children::new(&folder);
        children.start(shell("unlucky", "echo it went wrong >&2; exit 7", &folder)).expect("sh starts");
        let told = deaths.recv().await.expect("it ended").to_string();
        assert!(told.starts_with("unlucky ended: exit status: 7."), "{told}");
        assert!(told.contains("    it went wrong\n"), "{told}");
        fs::remove_dir_all(folder).expect("the folder is ours");
    }

    #[tokio::test]
    async fn the_youngest_stops_first_and_takes_its_own_children_along() {
        let folder = folder("order");
        let (children, mut deaths) = Children::new(&folder);
        // Each writes its name when asked to stop; `wait` returns at once when a signal comes.
        let script = |name: &str| format!("trap 'echo {name} >> order; exit 0' TERM; sleep 1000 & touch {name}.up; wait");
        children.start(shell("first", &script("first"), &folder)).expect("sh starts");
        children.start(shell("second", &script("second"), &folder)).expect("sh starts");
        while !(folder.join("first.up").exists() && folder.join("second.up").exists()) {
            tokio::task::yield_now().await;
        }
        children.stop().await;
        assert_eq!(fs::read_to_string(folder.join("order")).expect("both wrote"), "second\nfirst\n");
        assert!(deaths.recv().await.is_some() && deaths.recv().await.is_some(), "both are gone");
        fs::remove_dir_all(folder).expect("the folder is ours");
    }

    #[tokio::test]
    async fn a_child_sees_only_the_environment_it_is_given() {
        let folder = folder("environment");
        let (children, mut deaths) = Children::new(&folder);
        children.start(shell("curious", "env", &folder)).expect("sh starts");
        deaths.recv().await.expect("it ended");
        let seen = fs::read_to_string(children.log("curious")).expect("it has a log");
        // The shell itself adds PWD, SHLVL and _.
        let foreign: Vec<&str> =
            seen.lines().filter(|it| !["PATH=", "PWD=", "SHLVL=", "_=", "OLDPWD="].iter().any(|own| it.starts_with(own))).collect();
        assert!(foreign.is_empty(), "{foreign:?}");
        fs::remove_dir_all(folder).expect("the folder is ours");
    }
}
