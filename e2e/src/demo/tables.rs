//! The tables of the demo: which parts of objects they show, and in which tone.
//!
//! This module sends no request.

use std::collections::BTreeMap;
use std::io;

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use policy_baseline::{ConditionType, PolicyBaselineStatus};

use super::page::{Cell, Page, Tone};

/// Prints for each namespace how many of `all` policies it has, and how the status counts it.
pub fn namespaces(page: &mut Page, held: BTreeMap<String, usize>, all: usize) -> io::Result<()> {
    let row = |(namespace, held): (String, usize)| {
        let word = match held {
            0 => Cell::new("REPORTED", Tone::Notice),
            held if held == all => Cell::new("PROTECTED", Tone::Good),
            _ => Cell::new("INCOMPLETE", Tone::Bad),
        };
        [namespace.into(), format!("{held} of {all}").into(), word]
    };
    page.table(["NAMESPACE", "POLICIES", "STATE"], &held.into_iter().map(row).collect::<Vec<_>>())
}

/// Prints events almost as kubectl does.
pub fn events(page: &mut Page, mut events: Vec<Event>) -> io::Result<()> {
    events.sort_by(|a, b| a.event_time.cmp(&b.event_time));
    let row = |event: &Event| {
        let [kind, reason, note] = [&event.type_, &event.reason, &event.note].map(|text| text.as_deref().unwrap_or_default());
        [kind.into(), reason.into(), regarding(event).into(), note.into()]
    };
    page.table(["TYPE", "REASON", "NETWORKPOLICY", "MESSAGE"], &events.iter().map(row).collect::<Vec<_>>())
}

/// The name of the object that the event is about.
pub fn regarding(event: &Event) -> &str {
    event.regarding.as_ref().and_then(|object| object.name.as_deref()).unwrap_or_default()
}

pub fn conditions<'a>(page: &mut Page, conditions: impl Iterator<Item = &'a Condition>) -> io::Result<()> {
    let row = |condition: &Condition| {
        let good = [ConditionType::Ready, ConditionType::ExistingNamespacesClosed].map(|kind| kind.into_str());
        let as_it_should = good.contains(&&*condition.type_) == (condition.status == "True");
        let tone = if as_it_should { Tone::Good } else { Tone::Notice };
        let [kind, reason, message] = [&condition.type_, &condition.reason, &condition.message].map(|text| text.as_str().into());
        [kind, Cell::new(&condition.status, tone), reason, message]
    };
    page.table(["CONDITION", "STATUS", "REASON", "MESSAGE"], &conditions.map(row).collect::<Vec<_>>())
}

pub fn recent_drift(page: &mut Page, status: &PolicyBaselineStatus) -> io::Result<()> {
    let rows = status.recent_drift.iter().map(|drift| {
        let policy = format!("{}/{}", drift.namespace, drift.policy);
        [policy.into(), drift.class.as_str().into(), drift.field_manager.as_str().into(), drift.action.as_str().into()]
    });
    page.table(["RECENT DRIFT", "CLASS", "WHO (CLAIMED)", "ACTION"], &rows.collect::<Vec<_>>())
}
