//! What a status says of the allows of a baseline.

use crate::{api::baseline::KubernetesApiStatus, policy::kubernetes_api::ApiGap};

/// What is known of the allows of a baseline.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AllowFacts {
    /// The allows that open to everybody, each with its name and what it opens, in words.
    pub openings: Vec<String>,
    /// Where the API server was found. `None` if no allow needs that.
    pub api: Option<KubernetesApiStatus>,
    /// Why an allow may not let pods reach the API server. `None` if there is no such gap.
    pub api_gap: Option<ApiGap>,
}
