//! The body of a response, and the errors that end one.

use anyhow::anyhow;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Bytes;
use serde_json::json;

pub type Body = UnsyncBoxBody<Bytes, Trouble>;

/// An error after which a part of the proxy cannot continue.
pub type Trouble = Box<dyn std::error::Error + Send + Sync>;

pub fn trouble(text: &'static str) -> Trouble {
    anyhow!(text).into()
}

/// A Status object with this code.
pub fn status(code: u16) -> serde_json::Value {
    let reason = match code {
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    };
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("the proxy says {code}"), "reason": reason, "code": code,
    })
}

/// The error that breaks a stream in the middle.
pub fn broken() -> Trouble {
    trouble("the stream was cut")
}
