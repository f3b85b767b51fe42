//! The end-to-end suites, in one binary: they share a few control planes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admin;
mod bootstrap;
mod client;
mod crd_rules;
mod demo;
mod election;
mod faults;
mod faults_cluster;
mod faults_crash;
mod faults_hostile;
mod faults_soak;
mod faults_storms;
mod faults_watches;
mod faults_writes;
mod harness;
mod install;
mod installs;
mod judge;
mod lifecycle;
mod lists;
mod others;
mod proxy;
mod rbac;
mod release;
mod repair;
mod restart;
mod rollout;
mod samples;
mod scene;
mod selection;
mod signals;
mod stalled;
mod support;
mod suspend;
mod writes_failing;
