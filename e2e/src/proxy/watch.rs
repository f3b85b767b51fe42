//! The stream of a watch, event by event.

use std::sync::Arc;
use std::time::Duration;

use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::answer::{Body, Trouble, broken, status};
use super::asked::Asked;
use super::rules::EventFault;
use super::shared::Shared;

const ON_THE_WIRE: Duration = Duration::from_millis(50);

type Piece = Result<Frame<Bytes>, Trouble>;

/// The stream of the API server, with the faults of the rules applied.
pub fn events(shared: Arc<Shared>, asked: Asked, from: Incoming) -> Body {
    let (to, pieces) = mpsc::channel(16);
    tokio::spawn(pump(shared, asked, from, to));
    let pieces = stream::unfold(pieces, |mut pieces| async { pieces.recv().await.map(|piece| (piece, pieces)) });
    StreamBody::new(pieces).boxed_unsync()
}

async fn pump(shared: Arc<Shared>, asked: Asked, mut from: Incoming, to: mpsc::Sender<Piece>) {
    let mut cuts = shared.watches.subscribe();
    let mut rest = Vec::new();
    loop {
        let frame = tokio::select! {
            () = to.closed() => return,
            _ = cuts.changed() => {
                let _ = to.send(Err(broken())).await;
                return;
            }
            frame = from.frame() => frame,
        };
        let data = match frame {
            None => return,
            Some(Err(error)) => {
                let _ = to.send(Err(error.into())).await;
                return;
            }
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
        let searched = rest.len();
        rest.extend_from_slice(&data);
        let Some(end) = rest[searched..].iter().rposition(|byte| *byte == b'\n') else { continue };
        let lines: Vec<u8> = rest.drain(..=searched + end).collect();
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            if !pass(&shared, &asked, line, &to).await {
                return;
            }
        }
    }
}

/// Passes on one event. Returns whether the stream continues.
async fn pass(shared: &Shared, asked: &Asked, line: &[u8], to: &mpsc::Sender<Piece>) -> bool {
    let send = async |bytes: Bytes| to.send(Ok(Frame::data(bytes))).await.is_ok();
    match shared.decide_event(asked, line) {
        None => send(Bytes::copy_from_slice(line)).await,
        Some(EventFault::Lose) => true,
        Some(EventFault::Delay(by)) => {
            sleep(by).await;
            send(Bytes::copy_from_slice(line)).await
        }
        Some(EventFault::Cut) => {
            let _ = send(Bytes::copy_from_slice(&line[..line.len() / 2])).await;
            // The end of the stream overtakes data that is not yet on the wire, so wait a moment.
            sleep(ON_THE_WIRE).await;
            let _ = to.send(Err(broken())).await;
            false
        }
        Some(EventFault::Expire) => {
            let _ = send(Bytes::from(format!("{}\n", json!({ "type": "ERROR", "object": status(410) })))).await;
            false
        }
        Some(EventFault::Rewrite(rewrite)) => {
            let mut event: Value = serde_json::from_slice(line).unwrap_or_default();
            rewrite(&mut event);
            send(Bytes::from(format!("{event}\n"))).await
        }
    }
}
