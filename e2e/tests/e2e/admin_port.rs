//! Reads the admin port of an operator, for all suites.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use policy_baseline_e2e::{Operator, TIMEOUT, World};

/// The address of the admin port, read from the log.
pub async fn address(world: &World) -> String {
    address_of(world, world.operator().unwrap()).await
}

pub async fn address_of(world: &World, operator: &Operator) -> String {
    let named = async || {
        let log = operator.log();
        let line = log.lines().find(|line| line.contains("admin port is open")).map(str::to_owned);
        line.and_then(|line| Some(line.split("address=").nth(1)?.split_whitespace().next()?.to_owned()))
    };
    world.eventually("the log names the admin port", TIMEOUT, named).await.unwrap()
}

/// Sends a GET. Returns status, head and body.
pub fn get(address: &str, path: &str) -> (u16, String, String) {
    get_as(address, path, "*/*")
}

/// Like [`get`], with this Accept header.
pub fn get_as(address: &str, path: &str, accept: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: admin\r\nAccept: {accept}\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, head.to_lowercase(), body.to_owned())
}

/// The metrics of the operator.
pub async fn metrics_of(world: &World) -> String {
    get(&address(world).await, "/metrics").2
}

/// The value of a series.
pub fn metric(text: &str, series: &str) -> f64 {
    let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    line.unwrap_or_else(|| panic!("{series} is not in\n{text}")).rsplit(' ').next().unwrap().parse().unwrap()
}
