//! A relay on loopback in front of the API server. It counts the bytes that the API server sends. That is the only exact byte count
//! that works both for the operator and for our own list. It sees only TLS and changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const BUFFER: usize = 128 * 1024;

pub struct Relay {
    server: String,
    received: Arc<AtomicU64>,
    // Dropping it ends the accept loop and every connection.
    _accept: JoinSet<()>,
}

impl Relay {
    /// Opens a relay in front of the API server of this kubeconfig.
    pub async fn open(kubeconfig: &Path) -> Result<Self> {
        let config = read(kubeconfig)?;
        let server = config["clusters"][0]["cluster"]["server"].as_str().context("a kubeconfig without a server")?;
        let upstream = server.trim_start_matches("https://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let server = format!("https://{}", listener.local_addr()?);
        let received = Arc::new(AtomicU64::new(0));
        let mut accept = JoinSet::new();
        accept.spawn(serve(listener, upstream, Arc::clone(&received)));
        Ok(Self { server, received, _accept: accept })
    }

    /// Writes a kubeconfig for the same user that goes through the relay. The file is next to the original.
    pub fn kubeconfig(&self, original: &Path) -> Result<PathBuf> {
        let mut config = read(original)?;
        config["clusters"][0]["cluster"]["server"] = self.server.clone().into();
        let path = original.with_extension("relayed.kubeconfig");
        std::fs::write(&path, config.to_string())?;
        Ok(path)
    }

    /// The number of bytes that the API server has sent.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

fn read(kubeconfig: &Path) -> Result<Value> {
    Ok(serde_json::from_slice(&std::fs::read(kubeconfig)?)?)
}

async fn serve(listener: TcpListener, upstream: String, received: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let (upstream, received) = (upstream.clone(), Arc::clone(&received));
        // Either end may close a connection at any time. That ends the connection and is not an error.
        connections.spawn(async move { join(near, &upstream, &received).await.ok() });
        while connections.try_join_next().is_some() {}
    }
}

async fn join(near: TcpStream, upstream: &str, received: &AtomicU64) -> std::io::Result<()> {
    let far = TcpStream::connect(upstream).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let sent = AtomicU64::new(0);
    tokio::try_join!(copy(near_read, far_write, &sent), copy(far_read, near_write, received)).map(drop)
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, count: &AtomicU64) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        count.fetch_add(read as u64, Ordering::Relaxed);
        to.write_all(&buffer[..read]).await?;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_server_sends_arrives_and_is_counted() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let file = tempfile::Builder::new().suffix(".kubeconfig").tempfile().unwrap();
        let address = server.local_addr().unwrap();
        std::fs::write(file.path(), format!(r#"{{"clusters":[{{"cluster":{{"server":"https://{address}"}}}}]}}"#)).unwrap();
        let relay = Relay::open(file.path()).await.unwrap();
        let relayed = relay.kubeconfig(file.path()).unwrap();
        let text = std::fs::read_to_string(&relayed).unwrap();
        std::fs::remove_file(relayed).unwrap();
        assert!(text.contains(&relay.server) && !text.contains(&address.to_string()), "{text}");

        let mut near = TcpStream::connect(relay.server.trim_start_matches("https://")).await.unwrap();
        near.write_all(b"ask").await.unwrap();
        let (mut far, _) = server.accept().await.unwrap();
        let mut asked = [0; 3];
        far.read_exact(&mut asked).await.unwrap();
        far.write_all(&vec![7; 1_000_000]).await.unwrap();
        drop(far);
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).await.unwrap();
        assert_eq!((&asked, answer.len(), relay.received()), (b"ask", 1_000_000, 1_000_000));
    }
}
