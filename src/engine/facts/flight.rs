//! What happens during our writes to a namespace.

use std::{collections::HashMap, sync::Arc};

/// What the watches report about a namespace while our writes to it are under way.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct Flight {
    /// Each changed policy with its latest version. When the writes end, it turns out which changes were our own.
    pub touched: HashMap<Arc<str>, u64>,
    /// The deleted policies, with the version of their deletion. The answer to an older write must not bring them back.
    pub deleted: HashMap<Arc<str>, u64>,
    /// A list began, or the namespace was deleted or replaced, during the writes. Deletions may have been missed. So only the watch can
    /// confirm a policy.
    pub doubtful: bool,
    /// The namespace was deleted or replaced during the writes. An answer may tell of the former one.
    pub replaced: bool,
}
