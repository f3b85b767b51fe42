//! The log is only for people. The operator works without it (I9).

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    time::Duration,
};

use serde_json::json;

/// The process ends with the test.
struct Operator(Child);

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn livez(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET /livez HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[tokio::test]
async fn i9_an_operator_whose_log_cannot_be_written_lives_on() {
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = dir.path().join("kubeconfig");
    let nowhere = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "a",
        "clusters": [{ "name": "a", "cluster": { "server": "https://127.0.0.1:9" } }],
        "users": [{ "name": "a", "user": { "token": "x" } }],
        "contexts": [{ "name": "a", "context": { "cluster": "a", "user": "a" } }],
    });
    fs::write(&kubeconfig, nowhere.to_string()).unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    // Writing there fails, as on a full disk.
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_policy-baseline"));
    run.args(["run", "--log-level=debug", "--admin-address", &address]).env("KUBECONFIG", &kubeconfig).stderr(full);
    let mut operator = Operator(run.spawn().unwrap());
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    for _ in 0..1500 {
        beat.tick().await;
        assert_eq!(operator.0.try_wait().unwrap(), None, "it ended");
        if livez(&address).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            return;
        }
    }
    panic!("it does not answer");
}
