//! Validators of others judge our manifests: kubeconform and kubectl their shape, kube-score what they ask for. `make validators` builds
//! the tools.

mod inputs;
mod rules;
mod schemas;
mod shape;
