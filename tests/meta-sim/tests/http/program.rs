//! The program itself: its port, its file, its end.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::{ANA, ONE};

/// A program that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has usually ended by itself.
        let _ended = self.0.kill();
    }
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meta-sim"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).env("META_SIM_ADDRESS", "127.0.0.1:0");
    command
}

#[test]
fn a_taken_port_is_told_in_one_sentence() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = program().env("META_SIM_ADDRESS", &address).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(told, format!("meta-sim: the port of {address} is taken by another program; stop that one or set META_SIM_ADDRESS\n"));
}

#[test]
fn only_the_loopback_is_served() {
    let output = program().env("META_SIM_ADDRESS", "0.0.0.0:0").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("is not on the loopback"));
}

#[tokio::test]
async fn it_ends_orderly_and_goes_on_where_it_was() {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("program-goes-on.json");
    let _absent = std::fs::remove_file(&file);
    for round in 1..=2 {
        let Running(child) = &mut Running(program().env("META_SIM_STATE", &file).spawn().unwrap());
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let base = line.trim().strip_prefix("meta-sim: listening on ").unwrap().to_owned();
        let client = meta_sim::loopback_client();
        let written = client
            .post(format!("{base}/sim/phones/{ANA}/messages"))
            .body(json!({ "to": ONE, "text": "hola" }).to_string())
            .send()
            .await
            .unwrap();
        assert_eq!(written.status().as_u16(), 200);
        let screen = client.get(format!("{base}/sim/phones/{ANA}")).send().await.unwrap().text().await.unwrap();
        let screen: serde_json::Value = serde_json::from_str(&screen).unwrap();
        assert_eq!(screen["messages"].as_array().unwrap().len(), round);
        assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
        assert!(child.wait().unwrap().success());
    }
}
