//! policy-baseline: an operator that keeps default-deny NetworkPolicies, with DNS allowed, in every selected namespace.
//!
//! The top modules, from the highest to the lowest layer; each imports only those below it (`docs/ARCHITECTURE.md`):
//! `cli`, `operator`, `cluster`, `engine`, `policy`, `api`. `api`, `policy` and `engine` use no client, no runtime and no clock.
//!
//! Only what the binary, the end-to-end suites and the fuzzer use is public, so that the compiler can find unused code.

#![cfg_attr(test, allow(clippy::needless_pass_by_value, clippy::default_trait_access, reason = "tests read better so"))]

mod api;
mod cli;
mod cluster;
mod engine;
mod operator;
mod policy;

#[cfg(test)]
mod testkit;

pub use self::{
    api::{
        BaselineOptOut, BaselineOptOutSpec, NamespaceName, PolicyBaseline, PolicyBaselineSpec, PolicyBaselineStatus, Purpose,
        Role, SlimPolicy, Uid,
        baseline::{MAX_NOTICES, MAX_RECENT_DRIFT, MAX_VIOLATIONS, Violation},
        names::{LABEL_ID, LABEL_MANAGED_BY, MANAGER, SYSTEM_NAMESPACES, check_label_key, check_label_value, is_dns_label},
        other_tools::OtherTools,
        peers::Protocol,
        reason::{ConditionType, NoticeReason},
    },
    cli::main,
    cluster::client::{Clients, Stack, connect},
    engine::facts::{baseline::RawBaseline, namespaces::Observed, opt_out::RawOptOut},
    policy::{
        diff::{DiffSide, FlowDiff, MarkdownDiff, compare, worlds},
        dns::{
            ClusterDns, DnsEvent, KEPT, Memory, OPENSHIFT_DNS, Object, SlimDaemonSet, SlimPod, SlimService, SlimSlice, Source,
            Sources,
        },
        drift::{
            Class, Drift, Fingerprint, Interner, PlannedPolicies, PlannedPolicy, Policies, Repair, diff, residue, spec_digest,
            targets,
        },
        flow::{CompiledPolicies, Flow, FlowDecider, FlowDecision, FlowDump, FlowSnapshot, Party, Way},
        lint::{LintFormat, LintSettings, lint, passed_over},
        netpol::{Opening, Openings, Peers, Ports},
        plan::{
            Baseline, BaselineError, Namespace, NamespaceOptOuts, OptOut, OptOutVerdict, PolicyScope, Rendered, Ruling, own_id,
            verdict,
        },
        preview::ManifestText,
        status::{ConditionInputs, Ledger},
        would_break::Recording,
    },
};
