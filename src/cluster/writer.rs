//! The only code of the operator that writes to the cluster, except for the Lease (`removal.rs` is for `uninstall`). Every write has a
//! timeout on both sides, and no write is sent while another instance may lead (I6).
//! It decides nothing: the engine decides what to write, and later judges the results.
//!
//! One file, so that no other code sends a request that changes the cluster: each request passes the fence here.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use futures::future::join_all;
use http::Request;
use k8s_openapi::api::{
    apps::v1::ControllerRevision,
    core::v1::Namespace,
    events::v1::Event,
    networking::v1::{NetworkPolicy, NetworkPolicySpec},
};
use kube::{
    Client, Resource,
    api::{GetParams, Patch, PatchParams, PostParams},
    core::{PartialObjectMeta, Request as Requests},
};
use serde::{
    Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::{Value, json};

use super::{
    deletion::only,
    fence::WriteFence,
    telemetry::{Verb, WriteOutcome},
};
use crate::{
    api::{
        BaselineOptOut, PolicyBaseline, PolicyBaselineStatus, SlimNamespace, SlimPolicy, Uid,
        lenient::AnyObject,
        names::{FINALIZER, LABEL_DECIDED, LABEL_OPT_OUT, MANAGER},
        other_tools::OtherTools,
        reason::Failure,
        resource_version,
        text::shown,
    },
    cluster::{error::ApiProblem, telemetry::Telemetry},
    engine::{
        outbox::{
            Write, Written,
            baseline_status::{FinalizerWrite, StatusWrite, StoredStatus},
            namespace_labels::NamespaceLabelWrite,
            opt_out_state::{OptOutWrite, StoredOptOut},
            revisions::RevisionChange,
        },
        writes::{Done, Job, WriteError, Wrote},
    },
    policy::{
        drift::{Class, Drift, Repair, residue},
        plan::Rendered,
    },
};

/// How long a repair waits for the content of the policy that it takes over.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest text of a policy in the log, in bytes.
const MAX_READ: usize = 8192;
/// How long the operator waits for an answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);

/// The content of a policy for the log, with the most important part first.
#[derive(Serialize)]
struct PolicyContent<'a> {
    spec: &'a Option<NetworkPolicySpec>,
    labels: &'a Option<BTreeMap<String, String>>,
    annotations: &'a Option<BTreeMap<String, String>>,
}

/// Sends writes to the cluster.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    gate: WriteFence,
    telemetry: Arc<dyn Telemetry>,
    tools: Arc<OtherTools>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writer")
    }
}

impl Writer {
    /// A writer that uses this client and sends only while this fence is open.
    pub fn new(client: Client, gate: WriteFence, telemetry: Arc<dyn Telemetry>) -> Self {
        Self { client, gate, telemetry, tools: Arc::default() }
    }

    /// Sets the tools whose marks on policies are known.
    #[must_use]
    pub fn knowing(self, tools: &Arc<OtherTools>) -> Self {
        Self { tools: tools.clone(), ..self }
    }

    /// Carries out a write and returns its result. Each kind of write has one match arm here.
    pub async fn send(&self, write: Write) -> Written {
        match write {
            Write::Policies(job) => Written::Policies(repair(self, job).await),
            Write::Status(write) => {
                let StatusWrite { name, uid, status } = *write;
                let result = self.put_status(&name, &uid, &status).await;
                Written::Status(name, uid, result)
            }
            Write::Finalizer(FinalizerWrite { name, version, present, wanted }) => {
                let result = self.set_finalizer(&name, version, &present, wanted).await;
                Written::Finalizer(name, result)
            }
            Write::OptOut(write) => {
                let result = self.put_opt_out(&write).await;
                Written::OptOut(write, result)
            }
            Write::Revision(own, write) => {
                let result = match &write.what {
                    RevisionChange::Store(revision) => self.store_revision(&own, revision).await,
                    RevisionChange::Delete(uid) => self.delete_revision(&own, &write.object, uid).await.map(|()| None),
                };
                Written::Revision(write, result)
            }
            Write::NamespaceLabel(write) => {
                let result = self.label_namespace(&write).await;
                Written::NamespaceLabel(write, result)
            }
        }
    }

    /// Applies a planned policy, and removes what an apply leaves behind. Returns the stored object.
    pub async fn apply_policy(
        &self,
        namespace: &str,
        policy: &Rendered,
        uid: Option<&str>,
        former_keys: Option<&str>,
    ) -> Result<NetworkPolicy, WriteError> {
        let body = policy.body(namespace, uid);
        let requests = policies(namespace);
        let apply = || requests.patch(&policy.name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&body));
        let stored: SlimPolicy = match self.request(Verb::Apply, apply()).await {
            Err(WriteError::Failed { message, .. }) if uid.is_some() && is_full(&message) => {
                let patch = emptied(&policy.object(namespace, uid));
                self.request::<IgnoredAny>(Verb::Patch, json_patch(&requests, &policy.name, &patch)).await?;
                self.request(Verb::Apply, apply()).await?
            }
            answer => answer?,
        };
        let stored = NetworkPolicy::from(stored);
        let Some(patch) = residue(&stored, &policy.labels, &policy.annotations, former_keys, &self.tools) else {
            return Ok(stored);
        };
        let patched = self.request::<SlimPolicy>(Verb::Patch, json_patch(&requests, &policy.name, &patch)).await;
        patched.map(Into::into).map_err(|error| match error {
            // The test of the resourceVersion failed: somebody wrote in between.
            WriteError::Failed { reason: Failure::Rejected, message } => failed(Failure::Conflict, message),
            other => other,
        })
    }

    /// The content of a policy as text of limited length; `None` if it cannot be read within 2 s.
    pub async fn read_policy(&self, namespace: &str, name: &str) -> Option<String> {
        let request = policies(namespace).get(name, &GetParams::default()).ok()?;
        let read = tokio::time::timeout(READ_TIMEOUT, self.client.request::<SlimPolicy>(request)).await;
        let object = NetworkPolicy::from(read.ok()?.ok()?);
        let meta = &object.metadata;
        let mut text =
            serde_json::to_string(&PolicyContent { spec: &object.spec, labels: &meta.labels, annotations: &meta.annotations })
                .ok()?;
        text.truncate(text.floor_char_boundary(MAX_READ));
        Some(text)
    }

    /// Deletes a policy if it still is the object and version that was seen. A `version` of 0 is not checked. Returns `Removed`, or
    /// `Terminating` if a finalizer holds the policy: then the API server answers with the object, and not with a Status.
    pub async fn delete_policy(&self, namespace: &str, name: &str, uid: &str, version: u64) -> Result<Wrote, WriteError> {
        let params = only(uid, (version > 0).then(|| version.to_string()));
        let answer: AnyObject = self.request(Verb::Delete, policies(namespace).delete(name, &params)).await?;
        Ok(if answer.meta().deletion_timestamp.is_some() { Wrote::Terminating } else { Wrote::Removed })
    }

    /// Removes a finalizer from a policy if it still is the object and version that was seen. Other finalizers stay. Returns the object as
    /// it was stored last.
    pub async fn remove_finalizer(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        version: u64,
        finalizer: &str,
    ) -> Result<NetworkPolicy, WriteError> {
        let patch = json!({"metadata": {
            "uid": uid, "resourceVersion": version.to_string(), "$deleteFromPrimitiveList/finalizers": [finalizer],
        }});
        let request = policies(namespace).patch(name, &in_our_name(), &Patch::Strategic(&patch));
        self.request::<SlimPolicy>(Verb::Finalizer, request).await.map(Into::into)
    }

    /// Writes the status of the baseline with this uid. Returns what is stored.
    pub async fn put_status(&self, name: &str, uid: &str, status: &PolicyBaselineStatus) -> Result<StoredStatus, WriteError> {
        let object = json!({
            "apiVersion": PolicyBaseline::api_version(&()), "kind": PolicyBaseline::kind(&()),
            "metadata": {"name": name, "uid": uid}, "status": status,
        });
        let request = baselines().patch_subresource("status", name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&object));
        let mut stored: Value = self.request(Verb::Status, request).await?;
        let version = resource_version(stored["metadata"]["resourceVersion"].as_str());
        // The spec may not be decodable, so only the status is decoded.
        let status = serde_json::from_value(stored["status"].take()).unwrap_or_else(|_| status.clone());
        Ok(StoredStatus { status, version })
    }

    /// Writes the status and the label of the opt-out with this uid, each only if it is given. Returns what is stored.
    pub async fn put_opt_out(&self, write: &OptOutWrite) -> Result<StoredOptOut, WriteError> {
        let OptOutWrite { namespace, name, uid, status, label } = write;
        let requests = Requests::new(BaselineOptOut::url_path(&(), Some(namespace.as_str())));
        let mut stored = StoredOptOut::default();
        if let Some(label) = label {
            let patch = json!({"metadata": {"uid": &**uid, "labels": {LABEL_OPT_OUT: label}}});
            let object: Value = self.request(Verb::OptOut, requests.patch(name, &in_our_name(), &Patch::Merge(&patch))).await?;
            stored.note(&object);
        }
        if let Some(status) = status {
            let object = json!({
                "apiVersion": BaselineOptOut::api_version(&()), "kind": BaselineOptOut::kind(&()),
                "metadata": {"name": &**name, "namespace": namespace.as_str(), "uid": &**uid}, "status": status,
            });
            let params = PatchParams::apply(MANAGER).force();
            let request = requests.patch_subresource("status", name, &params, &Patch::Apply(&object));
            let mut object: Value = self.request(Verb::OptOut, request).await?;
            stored.note(&object);
            stored.status = serde_json::from_value(object["status"].take()).ok();
        }
        Ok(stored)
    }

    /// Labels the namespace with this uid. The patch cannot create a namespace. Returns the stored value of the label.
    pub async fn label_namespace(&self, write: &NamespaceLabelWrite) -> Result<Option<String>, WriteError> {
        let NamespaceLabelWrite { namespace, uid, mark } = write;
        let patch = json!({"metadata": {"uid": uid.to_string(), "labels": {LABEL_DECIDED: mark.value(uid)}}});
        let request =
            Requests::new(Namespace::url_path(&(), None)).patch(namespace.as_str(), &in_our_name(), &Patch::Merge(&patch));
        let stored: SlimNamespace = self.request(Verb::Namespace, request).await?;
        Ok(stored.metadata.labels.and_then(|mut labels| labels.remove(LABEL_DECIDED)))
    }

    /// Adds our finalizer to a baseline, or removes it. Other finalizers stay.
    pub async fn set_finalizer(&self, name: &str, version: u64, present: &[String], wanted: bool) -> Result<(), WriteError> {
        let mut finalizers: Vec<&str> = present.iter().map(String::as_str).filter(|f| *f != FINALIZER).collect();
        if wanted {
            finalizers.push(FINALIZER);
        }
        let patch = json!({"metadata": {"resourceVersion": version.to_string(), "finalizers": finalizers}});
        let request = baselines().patch(name, &in_our_name(), &Patch::Merge(&patch));
        self.request::<IgnoredAny>(Verb::Finalizer, request).await.map(drop)
    }

    /// Stores a revision of a baseline. Returns its uid.
    pub async fn store_revision(&self, namespace: &str, revision: &ControllerRevision) -> Result<Option<Uid>, WriteError> {
        let body = serde_json::to_vec(revision).map_err(|e| failed(Failure::Rejected, e.to_string()))?;
        let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
        let stored: PartialObjectMeta<ControllerRevision> =
            self.request(Verb::Revision, revisions(namespace).create(&params, body)).await?;
        Ok(stored.metadata.uid.as_deref().map(Into::into))
    }

    /// Deletes a stored revision if it still has this uid.
    pub async fn delete_revision(&self, namespace: &str, name: &str, uid: &Uid) -> Result<(), WriteError> {
        let params = only(&uid.to_string(), None);
        self.request::<IgnoredAny>(Verb::Revision, revisions(namespace).delete(name, &params)).await.map(drop)
    }

    /// Creates an event.
    pub async fn record_event(&self, namespace: &str, event: &Event) -> Result<(), WriteError> {
        let body = serde_json::to_vec(event).map_err(|e| failed(Failure::Rejected, e.to_string()))?;
        let request = Requests::new(Event::url_path(&(), Some(namespace))).create(&PostParams::default(), body);
        self.request::<IgnoredAny>(Verb::Event, request).await.map(drop)
    }

    async fn request<T: DeserializeOwned>(
        &self,
        verb: Verb,
        request: Result<Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<T, WriteError> {
        let answer = self.request_uncounted(request).await;
        if let Some(answer) = answer.as_ref().map_or_else(WriteError::answer, |_| Some(WriteOutcome::Ok)) {
            self.telemetry.write_ended(verb, answer);
        }
        answer
    }

    async fn request_uncounted<T: DeserializeOwned>(
        &self,
        request: Result<Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<T, WriteError> {
        let request = request.map_err(|e| failed(Failure::Rejected, e.to_string()))?;
        let request = with_timeout(request, self.gate.longest_write())?;
        let mut sent = pin!(self.client.request(request));
        let given_up = tokio::time::Instant::now() + CLIENT_TIMEOUT;
        loop {
            // A request may wait for a connection, so the future is polled only while the fence is open.
            let answer = poll_fn(|cx| if self.gate.is_open() { sent.as_mut().poll(cx).map(Some) } else { Poll::Ready(None) });
            let closes = tokio::time::Instant::now() + CLIENT_TIMEOUT.min(self.gate.left(Instant::now()).unwrap_or_default());
            match tokio::time::timeout_at(closes.min(given_up), answer).await {
                Ok(Some(answer)) => return answer.map_err(|e| classify(&e)),
                Ok(None) => return Err(WriteError::NotLeading),
                Err(_) if !self.gate.is_open() => return Err(WriteError::NotLeading),
                // A renewal has extended the time of the fence since this request was sent.
                Err(_) if tokio::time::Instant::now() < given_up => {}
                Err(_) => {
                    let message = format!("no answer from the API server in {} s", CLIENT_TIMEOUT.as_secs());
                    return Err(failed(Failure::TimedOut, message));
                }
            }
        }
    }
}

/// Whether the API server refused our keys because the object is full. There is no reason code for that, so the text decides.
fn is_full(message: &str) -> bool {
    ["metadata.annotations: Too long", "request is too large", "larger than max"].iter().any(|text| message.contains(text))
}

/// A patch to the planned policy that also removes the labels and annotations of others. Otherwise a full object could never be repaired.
fn emptied(object: &Value) -> Value {
    let meta = &object["metadata"];
    json!([
        {"op": "test", "path": "/metadata/uid", "value": meta["uid"]},
        {"op": "add", "path": "/metadata/labels", "value": meta["labels"]},
        {"op": "add", "path": "/metadata/annotations", "value": meta["annotations"]},
        {"op": "add", "path": "/spec", "value": object["spec"]},
    ])
}

fn policies(namespace: &str) -> Requests {
    Requests::new(NetworkPolicy::url_path(&(), Some(namespace)))
}

fn revisions(namespace: &str) -> Requests {
    Requests::new(ControllerRevision::url_path(&(), Some(namespace)))
}

fn baselines() -> Requests {
    Requests::new(PolicyBaseline::url_path(&(), None))
}

/// The parameters of a patch that is not an apply.
fn in_our_name() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() }
}

fn json_patch(requests: &Requests, name: &str, operations: &Value) -> Result<Request<Vec<u8>>, kube::core::request::Error> {
    // `Patch::Json` needs a type of another crate. Only the content type of the request differs.
    let mut request = requests.patch(name, &in_our_name(), &Patch::Merge(operations))?;
    request.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json-patch+json"));
    Ok(request)
}

fn with_timeout(mut request: Request<Vec<u8>>, limit: Duration) -> Result<Request<Vec<u8>>, WriteError> {
    let uri = request.uri().to_string();
    let separator = match uri.split_once('?') {
        None => "?",
        Some((_, "")) => "",
        Some(_) => "&",
    };
    *request.uri_mut() = format!("{uri}{separator}timeout={}ms", limit.as_millis())
        .parse()
        .map_err(|e: http::uri::InvalidUri| failed(Failure::Rejected, e.to_string()))?;
    Ok(request)
}

const fn failed(reason: Failure, message: String) -> WriteError {
    WriteError::Failed { reason, message }
}

/// Classifies an error of the client. The API server has no reason code for a quota, an admission policy or an unavailable webhook,
/// so the text of the message decides.
fn classify(error: &kube::Error) -> WriteError {
    let kube::Error::Api(status) = error else {
        return failed(Failure::Unavailable, ApiProblem::of(error).summary());
    };
    let causes = || status.details.iter().flat_map(|d| &d.causes);
    let cause = |reason: &str| causes().any(|c| c.reason == reason);
    let is_about = |field: &str| causes().any(|c| c.field == field);
    let says = |text: &str| status.message.contains(text);
    if cause("NamespaceTerminating") || (status.code == 404 && says("namespaces \"")) {
        return WriteError::NamespaceTerminating;
    }
    let reason = match status.code {
        404 => return WriteError::NotFound,
        _ if says("exceeded quota") => Failure::QuotaExceeded,
        _ if says("failed calling webhook") || says("failed to call webhook") => Failure::WebhookDown,
        _ if says("denied the request") || says("denied request") => Failure::DeniedByAdmission,
        _ if says("no params found for policy binding") => Failure::DeniedByAdmission,
        // The server answers 500 to an apply of fields that an older CRD does not have.
        _ if says("field not declared in schema") => Failure::Rejected,
        401 | 403 => Failure::Forbidden,
        409 => Failure::Conflict,
        // The name now belongs to another object: the intended object was deleted in between.
        422 if is_about("metadata.uid") => Failure::Conflict,
        400 | 405 | 413 | 415 | 422 => Failure::Rejected,
        429 => Failure::Throttled,
        504 => Failure::TimedOut,
        _ => Failure::Unavailable,
    };
    failed(reason, shown(&status.message).into_owned())
}

/// Writes missing or wrong policies, the allows first. If all writes are confirmed, removes what is no longer planned.
async fn repair(writer: &Writer, mut job: Job) -> Done {
    job.put_in_order();
    let mut results = Vec::with_capacity(job.tasks.len());
    while results.len() < job.tasks.len() {
        let next = job.next_writes(&results);
        let tasks = job.tasks.iter().skip(results.len()).zip(next);
        let job = &job;
        let sent = tasks.map(
            async |(task, may_send)| {
                if may_send { write(writer, job, &task.drift).await } else { Ok(Wrote::Withheld) }
            },
        );
        results.extend(join_all(sent).await);
    }
    Done { job, results }
}

async fn write(writer: &Writer, job: &Job, drift: &Drift) -> Result<Wrote, WriteError> {
    let namespace = job.namespace.as_str();
    match &drift.fix {
        Repair::WaitForFinalizer => Ok(Wrote::Withheld),
        Repair::Apply { index, uid, former_keys, .. } => {
            let Some(policy) = job.baseline.as_ref().and_then(|b| b.policies.get(*index)) else { return Ok(Wrote::Withheld) };
            // Read a policy before taking it over, to log its content. A failed read must not prevent the takeover (I9).
            let before = match drift.class {
                Class::Unmanaged => writer.read_policy(namespace, &drift.policy).await,
                _ => None,
            };
            let uid = uid.as_ref().map(Uid::to_string);
            let stored = writer.apply_policy(namespace, policy, uid.as_deref(), former_keys.as_deref()).await?;
            Ok(Wrote::Applied { stored: Box::new(stored), before })
        }
        Repair::Delete { uid, version } => match writer.delete_policy(namespace, &drift.policy, &uid.to_string(), *version).await
        {
            Err(WriteError::NotFound) => Ok(Wrote::Removed),
            other => other,
        },
        Repair::RemoveFinalizer { uid, version, finalizer } => {
            let (uid, finalizer) = (uid.to_string(), finalizer.into_str());
            let stored = writer.remove_finalizer(namespace, &drift.policy, &uid, *version, finalizer).await?;
            Ok(Wrote::FinalizerRemoved(Box::new(stored)))
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Response;
    use http_body_util::BodyExt;
    use kube::{client::Body, core::Status};
    use tower_test::mock;

    use super::*;
    use crate::cluster::telemetry::Recorded;
    use crate::testkit::{checked, observed};

    fn api_error(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(Box::new(Status { code, message: message.into(), ..Status::default() }))
    }

    fn reason(code: u16, message: &str) -> String {
        match classify(&api_error(code, message)) {
            WriteError::Failed { reason, .. } => reason.into_str().into(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn each_cause_has_a_reason_of_its_own() {
        for (code, message, want) in [
            (403, "networkpolicies \"x\" is forbidden: exceeded quota: q, requested: 1, used: 2, limited: 2", "QuotaExceeded"),
            (
                422,
                "networkpolicies \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
                "DeniedByAdmission",
            ),
            (403, "admission webhook \"w\" denied the request: no", "DeniedByAdmission"),
            (500, "Internal error occurred: failed calling webhook \"w\": connection refused", "WebhookDown"),
            (403, "networkpolicies is forbidden: User \"x\" cannot patch resource", "Forbidden"),
            (409, "uid mismatch", "Conflict"),
            (422, "spec: Invalid value", "Rejected"),
            (500, "failed to create typed patch object (a/o; v1, Kind=K): .status.x: field not declared in schema", "Rejected"),
            (429, "too many requests", "Throttled"),
            (503, "apiserver not ready", "Unavailable"),
            (404, "namespaces \"gone\" not found", "NamespaceTerminating"),
            (404, "networkpolicies.networking.k8s.io \"x\" not found", "NotFound"),
        ] {
            assert_eq!(reason(code, message), want, "{code} {message}");
        }
    }

    #[test]
    fn an_object_that_was_replaced_in_between_is_a_conflict_and_no_fault_of_what_is_written() {
        let refused = |field: &str| {
            let message = format!("NetworkPolicy.networking.k8s.io \"x\" is invalid: {field}: Invalid value: field is immutable");
            let causes = json!([{"reason": "FieldValueInvalid", "field": field}]);
            let answer = json!({"code": 422, "reason": "Invalid", "message": message, "details": {"causes": causes}});
            kube::Error::Api(Box::new(serde_json::from_value(answer).unwrap()))
        };
        for (field, want) in [("metadata.uid", Failure::Conflict), ("spec.podSelector", Failure::Rejected)] {
            assert!(matches!(classify(&refused(field)), WriteError::Failed { reason, .. } if reason == want), "{field}");
        }
    }

    /// Answers each request from the script, then asserts that no further request came.
    async fn scripted<T>(answers: Vec<Value>, call: impl AsyncFnOnce(Writer) -> T) -> (T, Vec<(String, Value)>) {
        let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
        let server = tokio::spawn(async move {
            let mut seen = Vec::new();
            let mut answers = answers.into_iter();
            while let Some((request, respond)) = handle.next_request().await {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                seen.push((format!("{} {}", parts.method, parts.uri), serde_json::from_slice(&body).unwrap()));
                let answer = answers.next().expect("one request more than the script has answers");
                respond.send_response(Response::new(Body::from(serde_json::to_vec(&answer).unwrap())));
            }
            assert!(answers.next().is_none(), "an answer was never asked for");
            seen
        });
        let result = call(Writer::new(Client::new(service, "default"), WriteFence::open(), Arc::new(Recorded::default()))).await;
        (result, server.await.unwrap())
    }

    #[tokio::test]
    async fn i3_a_repair_is_one_forced_apply_of_all_four_fields_with_the_uid() {
        let b = checked("b", json!({}));
        let policy = b.policies[0].clone();
        let stored = serde_json::to_value(observed(&policy, "team-a")).unwrap();
        let (result, seen) = scripted(vec![stored], async |w| w.apply_policy("team-a", &policy, Some("u-1"), None).await).await;
        result.unwrap();
        let [(line, body)] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!(
            line,
            "PATCH /apis/networking.k8s.io/v1/namespaces/team-a/networkpolicies/baseline-default-deny-ingress?&force=true&fieldManager=policy-baseline&timeout=5000ms"
        );
        assert_eq!(body["metadata"]["uid"], "u-1");
        assert_eq!(body["spec"], json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [], "egress": []}));
    }

    #[tokio::test]
    async fn what_an_apply_leaves_behind_is_patched_away_with_a_test_on_the_version() {
        let b = checked("b", json!({}));
        let policy = b.policies[0].clone();
        let clean = serde_json::to_value(observed(&policy, "team-a")).unwrap();
        let mut pinned = clean.clone();
        pinned["metadata"]["ownerReferences"] = owner();
        pinned["metadata"]["finalizers"] = json!(["x.example/y"]);
        let (result, seen) =
            scripted(vec![pinned, clean], async |w| w.apply_policy("team-a", &policy, Some("u-1"), None).await).await;
        result.unwrap();
        assert_eq!(seen.len(), 2);
        assert_eq!(
            seen[1].1,
            json!([
                {"op": "test", "path": "/metadata/resourceVersion", "value": "1"},
                {"op": "remove", "path": "/metadata/ownerReferences"},
            ])
        );
    }

    fn owner() -> Value {
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}])
    }

    #[tokio::test]
    async fn every_delete_carries_uid_and_version() {
        let answer = json!({"kind": "Status", "status": "Success"});
        let (result, seen) = scripted(vec![answer], async |w| w.delete_policy("a", "p", "u", 7).await).await;
        result.unwrap();
        assert_eq!(seen[0].0, "DELETE /apis/networking.k8s.io/v1/namespaces/a/networkpolicies/p?timeout=5000ms");
        assert_eq!(seen[0].1["preconditions"], json!({"uid": "u", "resourceVersion": "7"}));
    }

    #[tokio::test]
    async fn i4_only_one_finalizer_is_removed_and_only_from_the_object_and_version_that_was_seen() {
        let left = json!({"metadata": {"name": "p", "finalizers": ["x.example/y"]}});
        let (result, seen) = scripted(vec![left], async |w| w.remove_finalizer("a", "p", "u", 7, "z.example/z").await).await;
        assert_eq!(result.unwrap().metadata.finalizers.unwrap(), ["x.example/y"]);
        let [(line, body)] = &seen[..] else { panic!("{seen:?}") };
        let path = "/apis/networking.k8s.io/v1/namespaces/a/networkpolicies/p";
        assert_eq!(*line, format!("PATCH {path}?&fieldManager=policy-baseline&timeout=5000ms"));
        let removed = json!({"uid": "u", "resourceVersion": "7", "$deleteFromPrimitiveList/finalizers": ["z.example/z"]});
        assert_eq!(*body, json!({"metadata": removed}));
    }

    #[tokio::test]
    async fn a_policy_that_a_finalizer_holds_is_terminating_and_not_removed() {
        let held = json!({"metadata": {"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x.example/y"]}});
        let gone = json!({"kind": "Status", "metadata": {}, "status": "Success"});
        for (answer, is_gone) in [(held, false), (gone, true)] {
            let (result, _) = scripted(vec![answer], async |w| w.delete_policy("a", "p", "u", 7).await).await;
            assert_eq!(matches!(result.unwrap(), Wrote::Removed), is_gone);
        }
    }

    #[tokio::test]
    async fn i6_nothing_is_sent_while_the_gate_is_closed_not_even_the_second_half_of_a_repair() {
        let b = checked("b", json!({}));
        let policy = b.policies[0].clone();
        let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
        let gate = WriteFence::closed(Duration::from_millis(1500));
        let writer = Writer::new(Client::new(service, "default"), gate.clone(), Arc::new(Recorded::default()));
        assert!(matches!(writer.delete_policy("a", "p", "u", 7).await, Err(WriteError::NotLeading)));

        gate.set(Some(Instant::now() + Duration::from_mins(1)));
        let mut pinned = serde_json::to_value(observed(&policy, "team-a")).unwrap();
        pinned["metadata"]["ownerReferences"] = owner();
        let server = tokio::spawn(async move {
            let (request, respond) = handle.next_request().await.unwrap();
            assert!(request.uri().to_string().ends_with("&timeout=1500ms"), "{}", request.uri());
            respond.send_response(Response::new(Body::from(serde_json::to_vec(&pinned).unwrap())));
            gate.set(None);
            handle.next_request().await.is_none()
        });
        let result = writer.apply_policy("team-a", &policy, Some("u-1"), None).await;
        assert!(matches!(result, Err(WriteError::NotLeading)), "{result:?}");
        drop(writer);
        assert!(server.await.unwrap(), "a second request was sent");
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_gives_a_write_that_was_sent_before_it_the_time_that_every_write_has() {
        let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
        let gate = WriteFence::closed(Duration::from_secs(1));
        let writer = Writer::new(Client::new(service, "default"), gate.clone(), Arc::new(Recorded::default()));
        gate.set(Some(Instant::now() + Duration::from_secs(2)));
        let server = tokio::spawn(async move {
            let (_, respond) = handle.next_request().await.unwrap();
            gate.set(Some(Instant::now() + Duration::from_mins(1)));
            tokio::time::advance(Duration::from_secs(3)).await;
            respond.send_response(Response::new(Body::from(b"{}".to_vec())));
            // The next request is never answered.
            let started = tokio::time::Instant::now();
            let unanswered = handle.next_request().await.unwrap();
            assert!(handle.next_request().await.is_none());
            drop(unanswered);
            started.elapsed()
        });
        writer.delete_policy("a", "p", "u", 7).await.unwrap();
        let late = writer.delete_policy("a", "p", "u", 7).await.unwrap_err();
        assert_eq!(late.to_string(), "TimedOut: no answer from the API server in 10 s");
        drop(writer);
        assert!(server.await.unwrap() >= CLIENT_TIMEOUT);
    }
}
