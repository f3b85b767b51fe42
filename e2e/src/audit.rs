//! The audit log of the API server: who sent which request. Each request that has ended has one entry.
//!
//! The API server writes the entry before the request counts as done, but the client may receive the response a moment earlier. So a
//! test that needs an entry must wait for it. A watch gets its entry when it ends.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Deserialize;

#[derive(Debug, Clone)]
pub struct AuditLog {
    path: PathBuf,
}

/// A point in time. Entries of requests that are received later come after it.
#[derive(Debug, Clone, Copy)]
pub struct AuditMark {
    offset: u64,
    at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// The user of the request: the impersonated user if there is one.
    pub user: String,
    pub verb: String,
    pub api_group: String,
    /// Empty for a request that is not about a resource, such as `/version`.
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub code: u16,
    pub user_agent: String,
    /// Path and query, including parameters such as `fieldManager` and `timeout`.
    pub uri: String,
    pub timestamp: Timestamp,
    /// Annotations that admission and authorization added.
    pub annotations: BTreeMap<String, String>,
}

impl AuditLog {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn mark(&self) -> AuditMark {
        AuditMark { offset: fs::metadata(&self.path).map_or(0, |metadata| metadata.len()), at: Timestamp::now() }
    }

    /// The entries of all requests that were received after `mark` and have ended. Leaves out an entry that is logged later for an
    /// earlier request. A line that is only half written is left for the next call.
    pub fn since(&self, mark: AuditMark) -> Result<Vec<AuditEntry>> {
        let mut file = File::open(&self.path).with_context(|| format!("open {}", self.path.display()))?;
        file.seek(SeekFrom::Start(mark.offset)).context("seek in the audit log")?;
        let mut text = String::new();
        file.read_to_string(&mut text).context("read the audit log")?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let entries = whole.lines().map(parse).collect::<Result<Vec<_>>>()?;
        Ok(entries.into_iter().filter(|entry| entry.timestamp >= mark.at).collect())
    }
}

/// Whether the suites run against an external cluster. There the audit log cannot be read, so a test that counts requests is skipped
/// and prints that it was skipped.
pub fn skipped_without_audit_log() -> bool {
    let external = crate::kubeconfig::external_kubeconfig().is_some();
    if external {
        eprintln!("skipped: it reads the audit log, which only a control plane of our own has");
    }
    external
}

impl AuditEntry {
    pub fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }
}

/// The writes of one user, in the order of the log.
pub fn writes_by<'a>(entries: &'a [AuditEntry], user: &str) -> Vec<&'a AuditEntry> {
    entries.iter().filter(|entry| entry.is_write() && entry.user == user).collect()
}

fn parse(line: &str) -> Result<AuditEntry> {
    let event: Event = serde_json::from_str(line).with_context(|| format!("audit entry {line}"))?;
    let object = event.object_ref.unwrap_or_default();
    Ok(AuditEntry {
        user: event.impersonated_user.unwrap_or(event.user).username,
        verb: event.verb,
        api_group: object.api_group,
        resource: object.resource,
        subresource: object.subresource,
        namespace: object.namespace,
        name: object.name,
        code: event.response_status.map_or(0, |status| status.code),
        user_agent: event.user_agent,
        uri: event.request_uri,
        timestamp: event.request_received_timestamp,
        annotations: event.annotations,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(default)]
    user: User,
    impersonated_user: Option<User>,
    verb: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<Object>,
    response_status: Option<Status>,
    request_received_timestamp: Timestamp,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Object {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}
