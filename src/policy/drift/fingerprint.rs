//! What is kept of an observed policy: its identity, two digests, and the facts that decide whether it is ours. The object is not kept.
//!
//! One file: what is kept decides also what a repair must remove, because both ask which keys are ours.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::Hash,
    ops::Deref,
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::networking::v1::{NetworkPolicy, NetworkPolicySpec},
    apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta},
};
use serde_json::{Value, json};

use super::{normal::spec_digest, ours::is_ours};
use crate::{
    api::{
        Uid,
        finalizers::KnownFinalizers,
        names::{ANNOTATION_ASKED, ANNOTATION_KEYS, ANNOTATION_PLAN, DOMAIN, LABEL_BASELINE, LABEL_ID, MANAGER},
        other_tools::OtherTools,
        resource_version,
        text::shown,
    },
    policy::{
        digest::Digest,
        netpol::{MAX_ENTRIES, Openings, Shares, Wide, has_more_entries, judge},
    },
};

/// The fingerprint of an observed policy: its identity, and a shared part.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fingerprint {
    /// The uid of the object.
    pub uid: Uid,
    /// The resourceVersion; 0 if it is not a number.
    pub version: u64,
    make: Arc<SharedFingerprint>,
}

impl Deref for Fingerprint {
    type Target = SharedFingerprint;

    fn deref(&self) -> &SharedFingerprint {
        &self.make
    }
}

/// The part of a fingerprint that is equal for many policies, such as those of one role in all namespaces. Stored once.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct SharedFingerprint {
    /// The digest of the spec: of its normal form if the policy is ours, of its JSON if it is only large. `Digest::NONE` of other specs, and
    /// of those that are too large to judge.
    pub spec: Digest,
    /// The digest of the operator's keys and the keys listed in `ANNOTATION_KEYS`; `Digest::NONE` if the policy is not ours.
    pub meta: Digest,
    /// It carries our label and the id for its namespace and name.
    pub ours: bool,
    /// It has foreign ownerReferences or tracking keys.
    pub pinned: bool,
    /// Its deletionTimestamp: somebody deleted it then, and a finalizer keeps it. `None` if it is not being deleted.
    pub terminating: Option<Timestamp>,
    /// The names of its finalizers for messages; `None` if it has none, or is not ours.
    pub finalizers: Option<Arc<str>>,
    /// Those of its finalizers whose owner can be told; none if it is not ours.
    pub known_finalizers: KnownFinalizers,
    /// What it opens although baselines close it. Also if the policy is ours: anybody can copy our labels.
    pub opens: Openings,
    /// What it opens to everybody for the pods that it selects; `None` if that is nothing, or if it is not ours.
    pub wide: Option<Arc<Wide>>,
    /// What it opens in part, so that other policies may make it whole. `None` of most policies.
    pub shares: Option<Arc<Shares>>,
    /// The baseline that its label names; `None` if the policy is not ours.
    pub baseline: Option<Arc<str>>,
    /// The hash of the plan that it was written for, from its annotation; `None` if the policy is not ours.
    pub plan: Option<Arc<str>>,
    /// The hash of what was asked for, from its annotation; `None` if the policy is not ours.
    pub asked: Option<Arc<str>>,
    /// The value of `ANNOTATION_KEYS`; `None` if the policy is not ours.
    pub keys: Option<Arc<str>>,
    /// The last other writer that managedFields name. It is only shown; no decision uses it.
    pub who: Option<Arc<str>>,
}

/// Stores values that many fingerprints share, each once.
#[derive(Debug, Default)]
pub struct Interner {
    texts: Shared<str>,
    makes: Shared<SharedFingerprint>,
    judged: HashMap<Digest, Judged>,
}

/// What a spec opens.
#[derive(Clone, Debug, Default)]
struct Judged {
    opens: Openings,
    shares: Option<Arc<Shares>>,
    wide: Option<Arc<Wide>>,
}

impl Judged {
    fn of(spec: &NetworkPolicySpec, ours: bool) -> Self {
        let (opens, shares) = judge(spec);
        let wide = ours.then(|| Wide::of(spec)).filter(|wide| !wide.is_none());
        Self { opens, shares: shares.map(Arc::new), wide: wide.map(Arc::new) }
    }
}

#[derive(Debug)]
struct Shared<T: ?Sized> {
    kept: HashSet<Arc<T>>,
    /// When this many values are stored, values that nobody uses are dropped.
    room: usize,
}

impl<T: ?Sized> Default for Shared<T> {
    fn default() -> Self {
        Self { kept: HashSet::new(), room: 0 }
    }
}

impl<T: Eq + Hash + ?Sized> Shared<T> {
    fn keep(&mut self, new: Arc<T>) -> Arc<T> {
        // Tenants choose some of these values, so unused ones must not stay forever.
        if self.kept.len() >= self.room.max(ROOM) {
            self.kept.retain(|known| Arc::strong_count(known) > 1);
            self.room = self.kept.len() * 2;
        }
        self.kept.insert(new.clone());
        new
    }
}

/// A spec with more entries than this is large.
const LARGE: usize = 512;
/// The smallest limit for stored values of one kind.
const ROOM: usize = 4096;
/// A fingerprint with larger shares is not stored for others. The shares of a usual policy, such as one for the internet without the
/// private networks, are smaller. `ROOM` of them take 1.5 MB.
const MAX_STORED: usize = 384;
/// The most specs of ours of which it is kept what they open. A baseline has one for each of its policies, in most cases.
const MOST_JUDGED: usize = 256;
/// Longer lists of extra keys are not ours: ours have at most 32 keys of at most 317 characters.
const MAX_KEYS: usize = 16 * 1024;
/// Longer hashes are not ours.
const MAX_PLAN: usize = 64;
/// How many finalizers of a policy a message names.
const FINALIZERS_TOLD: usize = 3;

#[cfg(test)]
impl Clone for Interner {
    /// The interner only saves memory, so a copy may start empty.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Interner {
    /// The stored copy of a text; stores it if it is new.
    pub fn get(&mut self, text: &str) -> Arc<str> {
        self.texts.kept.get(text).cloned().unwrap_or_else(|| self.texts.keep(text.into()))
    }

    /// What a spec of ours opens. The specs of one policy are equal in all namespaces, so they are judged once. `digest` is that of the spec.
    fn judged(&mut self, digest: Digest, spec: &NetworkPolicySpec) -> Judged {
        if let Some(judged) = self.judged.get(&digest) {
            return judged.clone();
        }
        let judged = Judged::of(spec, true);
        if judged.shares.as_ref().is_none_or(|shares| shares.bytes() <= MAX_STORED) {
            // Anybody can write specs that look like ours. So the store is emptied when it is full, and not only of what is unused.
            if self.judged.len() >= MOST_JUDGED {
                self.judged.clear();
            }
            self.judged.insert(digest, judged.clone());
        }
        judged
    }

    fn make(&mut self, make: SharedFingerprint) -> Arc<SharedFingerprint> {
        // Stored values stay for a while when nobody holds them. So a large one is not stored here; few policies would share it.
        if make.shares.as_ref().is_some_and(|shares| shares.bytes() > MAX_STORED) {
            return Arc::new(make);
        }
        self.makes.kept.get(&make).cloned().unwrap_or_else(|| self.makes.keep(Arc::new(make)))
    }
}

impl Fingerprint {
    /// [`Self::with`], with no other tools than those that are known.
    pub fn of(object: &NetworkPolicy, texts: &mut Interner) -> Self {
        Self::with(object, None, &OtherTools::default(), texts)
    }

    /// Computes the fingerprint of an object. A tracking key of `tools` pins it. `known` is the last fingerprint of the object: what a large
    /// spec opens is not judged again while the spec stays the same.
    pub fn with(object: &NetworkPolicy, known: Option<&Self>, tools: &OtherTools, texts: &mut Interner) -> Self {
        let meta = &object.metadata;
        let label = |key: &str| meta.labels.as_ref().and_then(|l| l.get(key)).map(String::as_str);
        let ours = is_ours(meta);
        let annotation = |key: &str| meta.annotations.as_ref().and_then(|a| a.get(key)).map(String::as_str);
        // Policies that are not ours are compared with no plan, so their digests are not computed. Only of a large spec the digest says
        // whether it changed: to judge a small one costs less. No plan is too large to judge, and to judge such a spec costs less too.
        let spec = match &object.spec {
            Some(spec) if has_more_entries(spec, MAX_ENTRIES) => Digest::NONE,
            spec if ours => spec_digest(spec.as_ref()),
            Some(spec) if has_more_entries(spec, LARGE) => Digest::of_json(spec),
            _ => Digest::NONE,
        };
        let finalizers = meta.finalizers.as_deref().filter(|names| ours && !names.is_empty());
        let digest = if ours { meta_digest(meta.labels.as_ref(), meta.annotations.as_ref()) } else { Digest::NONE };
        // What was cut may have room now.
        let is_cut = |known: &Self| known.shares.as_ref().is_some_and(|shares| shares.is_cut());
        let known = known.filter(|known| spec != Digest::NONE && known.spec == spec && !is_cut(known));
        let Judged { opens, shares, wide } = match (known, &object.spec) {
            (Some(known), _) if known.ours == ours => {
                Judged { opens: known.opens, shares: known.shares.clone(), wide: known.wide.clone() }
            }
            (_, Some(judged)) if ours && spec != Digest::NONE => texts.judged(spec, judged),
            (_, Some(spec)) => Judged::of(spec, ours),
            (_, None) => Judged::default(),
        };
        let make = SharedFingerprint {
            spec,
            meta: digest,
            ours,
            pinned: pins(meta, tools).next().is_some(),
            terminating: meta.deletion_timestamp.as_ref().map(|at| at.0),
            finalizers: finalizers.map(|names| texts.get(&named(names))),
            known_finalizers: finalizers.map(KnownFinalizers::of).unwrap_or_default(),
            opens,
            wide,
            shares,
            baseline: label(LABEL_BASELINE).filter(|_| ours).map(|b| texts.get(b)),
            plan: annotation(ANNOTATION_PLAN).filter(|p| ours && p.len() <= MAX_PLAN).map(|p| texts.get(p)),
            asked: annotation(ANNOTATION_ASKED).filter(|a| ours && a.len() <= MAX_PLAN).map(|a| texts.get(a)),
            keys: annotation(ANNOTATION_KEYS).filter(|k| ours && k.len() <= MAX_KEYS).map(|k| texts.get(k)),
            who: meta.managed_fields.as_deref().and_then(claimed_writer).map(|w| texts.get(&shown(w))),
        };
        Self {
            uid: meta.uid.as_deref().unwrap_or_default().into(),
            version: resource_version(meta.resource_version.as_deref()),
            make: texts.make(make),
        }
    }

    /// About how many bytes the parts take that it keeps of the policy.
    pub fn bytes_of_shares(&self) -> usize {
        self.shares.as_ref().map_or(0, |shares| shares.bytes())
    }

    /// The same without these parts, because the policies of the namespace have too many.
    #[must_use]
    pub fn cut(self, texts: &mut Interner) -> Self {
        let Some(shares) = &self.shares else { return self };
        let make = SharedFingerprint { shares: Some(Arc::new(shares.cut())), ..(*self.make).clone() };
        Self { make: texts.make(make), ..self }
    }
}

/// The digest of the metadata that belongs to the operator. The id label is left out: it differs by namespace, and `ours` covers it.
pub fn meta_digest(labels: Option<&BTreeMap<String, String>>, annotations: Option<&BTreeMap<String, String>>) -> Digest {
    let extra = listed_keys(annotations.and_then(|a| a.get(ANNOTATION_KEYS)).map(String::as_str));
    let mut texts = Vec::new();
    for (kind, map) in [("l", labels), ("a", annotations)] {
        for (key, value) in map.into_iter().flatten() {
            let own = key.starts_with(DOMAIN) && key != LABEL_ID;
            if own || extra.contains(&(kind, &**key)) {
                texts.extend([kind, key, value]);
            }
        }
    }
    Digest::of_texts(texts)
}

/// The extra keys in the annotation: pairs of `l` or `a`, and the key. Anybody can write it, so a list too long to be ours is ignored.
fn listed_keys(list: Option<&str>) -> HashSet<(&str, &str)> {
    let entries = list.filter(|list| list.len() <= MAX_KEYS).into_iter().flat_map(|list| list.split(','));
    entries.filter_map(|entry| entry.split_once(':')).collect()
}

/// The manager of the latest entry that is not ours. Entries without a time count as the oldest.
fn claimed_writer(entries: &[ManagedFieldsEntry]) -> Option<&str> {
    let others = entries.iter().filter(|e| e.manager.as_deref().is_some_and(|m| m != MANAGER));
    others.max_by_key(|e| e.time.as_ref().map(|t| t.0)).and_then(|e| e.manager.as_deref())
}

/// The names of the first finalizers, and how many more there are.
fn named(finalizers: &[String]) -> String {
    let told = finalizers.iter().take(FINALIZERS_TOLD).map(|name| shown(name)).collect::<Vec<_>>().join(", ");
    let more = finalizers.len().saturating_sub(FINALIZERS_TOLD);
    if more > 0 { format!("{told} and {more} more") } else { told }
}

/// JSON paths of the fields that would let somebody else delete the object. A finalizer is none of them: it keeps an object.
fn pins(meta: &ObjectMeta, tools: &OtherTools) -> impl Iterator<Item = String> {
    let owners = meta.owner_references.as_ref().is_some_and(|o| !o.is_empty()).then(|| "/metadata/ownerReferences".to_owned());
    let tracked = |map: &'static str, keys: Option<&BTreeMap<String, String>>| {
        let found: Vec<String> =
            keys.into_iter().flatten().filter(|(k, _)| tools.track_by(k)).map(|(k, _)| pointer(map, k)).collect();
        found
    };
    let labels = tracked("labels", meta.labels.as_ref());
    let annotations = tracked("annotations", meta.annotations.as_ref());
    owners.into_iter().chain(labels).chain(annotations)
}

fn pointer(map: &str, key: &str) -> String {
    format!("/metadata/{map}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// A JSON patch that removes what a forced apply leaves: pins, unplanned keys of ours, and extra keys of a former plan.
/// The patch also tests the resourceVersion. `None` if nothing is left. Finalizers stay: whoever added one may need it.
pub fn residue(
    object: &NetworkPolicy,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
    former_keys: Option<&str>,
    tools: &OtherTools,
) -> Option<Value> {
    let meta = &object.metadata;
    let former = listed_keys(former_keys);
    let mut ops: Vec<Value> = pins(meta, tools).map(|path| json!({"op": "remove", "path": path})).collect();
    for (map, kind, present, planned) in
        [("labels", "l", meta.labels.as_ref(), labels), ("annotations", "a", meta.annotations.as_ref(), annotations)]
    {
        for key in present.into_iter().flatten().map(|(k, _)| k) {
            // The list of former keys is only a claim: anybody can write it.
            let was_ours = key.starts_with(DOMAIN) || former.contains(&(kind, &**key));
            if was_ours && key != LABEL_ID && !planned.contains_key(key) && !tools.track_by(key) {
                ops.push(json!({"op": "remove", "path": pointer(map, key)}));
            }
        }
    }
    if ops.is_empty() {
        return None;
    }
    ops.insert(0, json!({"op": "test", "path": "/metadata/resourceVersion", "value": meta.resource_version}));
    Some(Value::Array(ops))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{checked, observed};

    fn print(object: &NetworkPolicy) -> Fingerprint {
        Fingerprint::of(object, &mut Interner::default())
    }

    #[test]
    fn i7_a_list_of_keys_that_is_too_long_to_be_ours_costs_no_time() {
        let object = observed(&checked("b", json!({})).policies[0], "team-a");
        let keys = "l:,".repeat(80_000);
        let mut hostile = object;
        hostile.metadata.labels.get_or_insert_default().extend((0..30_000).map(|n| (format!("k{n}"), String::new())));
        hostile.metadata.annotations.get_or_insert_default().insert(ANNOTATION_KEYS.to_owned(), keys.clone());
        // Comparing 80,000 entries with 30,000 labels would take far too long.
        let print = print(&hostile);
        assert!(print.ours && print.keys.is_none());
        assert!(
            residue(
                &hostile,
                &BTreeMap::new(),
                &BTreeMap::new(),
                hostile.metadata.annotations.as_ref().unwrap().get(ANNOTATION_KEYS).map(String::as_str),
                &OtherTools::default(),
            )
            .is_some()
        );
    }

    #[test]
    fn i7_what_a_large_spec_opens_is_judged_again_only_when_the_spec_changes() {
        let policy = |rules: usize, note: &str| {
            let rule = json!({"from": [{"namespaceSelector": {}}], "ports": [{"port": 80}]});
            let spec = json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": vec![rule; rules]});
            serde_json::from_value(json!({"metadata": {"name": "x", "annotations": {"note": note}}, "spec": spec})).unwrap()
        };
        // What was known before differs from what judging finds, so that it shows which of them is taken.
        let with = |before: &NetworkPolicy, object: &NetworkPolicy| {
            let mut texts = Interner::default();
            let mut known = Fingerprint::of(before, &mut texts);
            let make = SharedFingerprint { opens: Openings::default(), ..(*known.make).clone() };
            known.make = Arc::new(make);
            Fingerprint::with(object, Some(&known), &OtherTools::default(), &mut texts).opens.is_none()
        };
        let large = LARGE + 1;
        assert!(with(&policy(large, "a"), &policy(large, "b")), "only its annotation changed");
        assert!(!with(&policy(large, "a"), &policy(large + 1, "a")));
        assert!(!with(&policy(1, "a"), &policy(1, "b")), "a small one is judged each time");
    }

    #[test]
    fn i7_equal_specs_of_ours_are_judged_once_and_specs_that_only_look_like_ours_fill_no_memory() {
        let open = |port: usize, namespace: &str| {
            let mut object = observed(&checked("b", json!({})).policies[0], namespace);
            let rule = json!([{"from": [{"namespaceSelector": {}}], "ports": [{"port": port}]}]);
            object.spec =
                serde_json::from_value(json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": rule})).unwrap();
            object
        };
        let mut texts = Interner::default();
        let found = Fingerprint::of(&open(80, "a"), &mut texts);
        assert!(found.ours && found.opens.ingress.is_some() && found.wide.is_some());
        // What is kept of the first differs from what judging finds, so that it shows that the second was not judged.
        texts.judged.values_mut().for_each(|judged| judged.opens = Openings::default());
        assert!(Fingerprint::of(&open(80, "b"), &mut texts).opens.is_none());
        assert!(!Fingerprint::of(&open(81, "b"), &mut texts).opens.is_none(), "another spec");
        let mut copy = open(80, "b");
        copy.metadata.labels = None;
        assert!(!Fingerprint::of(&copy, &mut texts).opens.is_none(), "not ours");
        for port in 0..2 * MOST_JUDGED {
            Fingerprint::of(&open(1000 + port, "c"), &mut texts);
        }
        assert!((1..=MOST_JUDGED).contains(&texts.judged.len()));
    }

    #[test]
    fn i7_large_shares_that_nobody_holds_are_let_go_at_once_and_small_ones_are_stored_once() {
        let policy = |names: usize| -> NetworkPolicy {
            let names: Vec<String> = (0..names).map(|n| format!("n{n}")).collect();
            let names = json!({"key": "kubernetes.io/metadata.name", "operator": "In", "values": names});
            let from = json!([{"namespaceSelector": {"matchExpressions": [names]}}]);
            serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": {"podSelector": {}, "ingress": [{"from": from}]}}))
                .unwrap()
        };
        let mut texts = Interner::default();
        let large = Fingerprint::of(&policy(1_000), &mut texts);
        assert!(large.bytes_of_shares() > 4_000);
        let held = Arc::downgrade(large.shares.as_ref().unwrap());
        drop(large);
        assert!(held.upgrade().is_none());
        let [one, other] = [4, 4].map(|names| Fingerprint::of(&policy(names), &mut texts));
        assert!(Arc::ptr_eq(&one.make, &other.make));
    }

    #[test]
    fn texts_that_nobody_holds_are_let_go_and_the_rest_is_not_swept_at_every_new_one() {
        let mut texts = Interner::default();
        let held: Vec<_> = (0..ROOM).map(|n| texts.get(&format!("held-{n}"))).collect();
        for n in 0..ROOM * 3 {
            texts.get(&format!("gone-{n}"));
        }
        assert!(texts.texts.kept.len() <= held.len() * 2);
    }

    #[test]
    fn a_finalizer_is_no_pin_and_is_known_by_name_on_what_is_ours() {
        let mut object = observed(&checked("b", json!({})).policies[0], "team-a");
        assert_eq!(print(&object).finalizers, None);
        for (finalizers, told) in [
            (vec!["networking.k8s.aws/resources"], "networking.k8s.aws/resources"),
            (vec!["a.b/c", "foregroundDeletion"], "a.b/c, foregroundDeletion"),
            (vec!["a.b/c", "d.e/f", "g.h/i", "j.k/l", "m.n/o"], "a.b/c, d.e/f, g.h/i and 2 more"),
        ] {
            object.metadata.finalizers = Some(finalizers.into_iter().map(Into::into).collect());
            let print = print(&object);
            assert_eq!((print.pinned, print.finalizers.as_deref()), (false, Some(told)));
        }
        object.metadata.labels = None;
        assert_eq!(print(&object).finalizers, None, "policies of others are not described");
    }

    #[test]
    fn a_policy_that_we_wrote_is_ours_and_a_copy_of_it_is_not() {
        let b = checked("b", json!({}));
        let object = observed(&b.policies[0], "team-a");
        assert!(print(&object).ours);
        let mut copy = object.clone();
        copy.metadata.name = Some("my-copy".into());
        assert!(!print(&copy).ours);
        let mut moved = object;
        moved.metadata.namespace = Some("team-b".into());
        assert!(!print(&moved).ours);
    }

    #[test]
    fn foreign_labels_are_the_owners_business() {
        let b = checked("b", json!({}));
        let object = observed(&b.policies[0], "team-a");
        let mut labelled = object.clone();
        labelled.metadata.labels.as_mut().unwrap().insert("team".into(), "a".into());
        assert_eq!(print(&labelled).meta, print(&object).meta);
        assert!(!print(&labelled).pinned);
    }

    #[test]
    fn a_changed_or_added_key_of_ours_is_seen() {
        let b = checked("b", json!({"metadata": {"labels": {"owner": "x"}}}));
        let object = observed(&b.policies[0], "team-a");
        for (key, value) in [("owner", "y"), (LABEL_BASELINE, "other"), ("policybaseline.io/foo", "bar")] {
            let mut edited = object.clone();
            edited.metadata.labels.as_mut().unwrap().insert(key.into(), value.into());
            assert_ne!(print(&edited).meta, print(&object).meta, "{key}");
        }
        let mut less = object.clone();
        less.metadata.labels.as_mut().unwrap().remove("owner");
        assert_ne!(print(&less).meta, print(&object).meta);
    }

    #[test]
    fn what_would_let_others_delete_the_policy_pins_it() {
        let b = checked("b", json!({}));
        let rendered = &b.policies[0];
        let edit = |f: fn(&mut ObjectMeta)| {
            let mut object = observed(rendered, "team-a");
            f(&mut object.metadata);
            let patch = residue(&object, &rendered.labels, &rendered.annotations, None, &OtherTools::default());
            (print(&object).pinned, patch.map_or(Value::Null, |p| p[1]["path"].clone()))
        };
        assert_eq!(edit(|_| ()), (false, Value::Null));
        assert_eq!(edit(|m| m.finalizers = Some(vec!["x.example/y".into()])), (false, Value::Null));
        assert_eq!(edit(|m| m.owner_references = Some(vec![Default::default()])), (true, json!("/metadata/ownerReferences")));
        assert_eq!(
            edit(|m| drop(m.labels.as_mut().unwrap().insert("app.kubernetes.io/instance".into(), "x".into()))),
            (true, json!("/metadata/labels/app.kubernetes.io~1instance"))
        );
    }

    #[test]
    fn keys_that_a_former_plan_asked_for_are_removed_also_when_nobody_owns_them() {
        let now = checked("b", json!({"metadata": {"labels": {"kept": "1"}}}));
        let mut object = observed(&now.policies[0], "team-a");
        object.metadata.labels.as_mut().unwrap().insert("dropped".into(), "1".into());
        object.metadata.labels.as_mut().unwrap().insert("tenant".into(), "1".into());
        let rendered = &now.policies[0];
        let patch =
            residue(&object, &rendered.labels, &rendered.annotations, Some("l:dropped,l:kept,a:tenant"), &OtherTools::default());
        assert_eq!(patch.unwrap().as_array().unwrap()[1..], [json!({"op": "remove", "path": "/metadata/labels/dropped"})]);
    }

    #[test]
    fn who_is_the_latest_other_manager() {
        let entries: Vec<ManagedFieldsEntry> = serde_json::from_value(json!([
            {"manager": "kubectl-edit", "time": "2026-01-02T00:00:00Z"},
            {"manager": "helm", "time": "2026-01-01T00:00:00Z"},
            {"manager": MANAGER, "time": "2026-01-03T00:00:00Z"},
        ]))
        .unwrap();
        assert_eq!(claimed_writer(&entries), Some("kubectl-edit"));
        assert_eq!(claimed_writer(&entries[2..]), None);
    }

    #[test]
    fn texts_that_nobody_holds_are_let_go() {
        let mut texts = Interner::default();
        let kept = texts.get("kept");
        for i in 0..20_000 {
            texts.get(&format!("t{i}"));
        }
        assert!(texts.texts.kept.len() <= ROOM);
        assert!(Arc::ptr_eq(&kept, &texts.get("kept")));
    }
}
