//! What an answer is made of, and what ends one.

use anyhow::anyhow;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Bytes;
use serde_json::json;

pub type Body = UnsyncBoxBody<Bytes, Trouble>;

/// What a part of the proxy cannot go on after.
pub type Trouble = Box<dyn std::error::Error + Send + Sync>;

pub fn trouble(text: &'static str) -> Trouble {
    anyhow!(text).into()
}

/// A Status of that code.
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

/// Nothing more, without an end.
pub fn broken() -> Trouble {
    trouble("the stream was cut")
}
