//! A minimal HTTP client for the operator's admin port and for etcd, both on loopback.

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub async fn get(address: &str, path: &str) -> Result<String> {
    ask(address, &format!("GET {path}"), "").await
}

pub async fn post(address: &str, path: &str, body: &str) -> Result<String> {
    ask(address, &format!("POST {path}"), body).await
}

/// Sends a request. Returns the whole response, head and body.
async fn ask(address: &str, what: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
    let head = format!("{what} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Whether the response has status 200.
pub fn is_ok(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200")
}
