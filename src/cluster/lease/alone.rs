//! An instance without an election: it always leads. No Lease shows it that the API server's data was restored from a backup, so it asks
//! for the version of the data from time to time. It writes nothing.

use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Client, api::ListParams};
use tokio::{
    sync::{oneshot, watch},
    time::{sleep, timeout},
};

use super::driver::{Election, ElectionEnd, Leadership};
use crate::{
    api::resource_version,
    cluster::{fence::WriteFence, lists},
};

/// The time between two requests, and the longest time for an answer.
const PERIOD: Duration = Duration::from_secs(5);

/// An instance without an election, until [`Election::resign`] is used or dropped, or the API server's data went back.
pub fn stand_alone(client: &Client) -> Election {
    let (resign, resigned) = oneshot::channel();
    let leadership = Leadership::always(WriteFence::open(), watch::channel(true).1);
    Election { leadership, resign, task: follow(client.clone(), resigned).boxed() }
}

async fn follow(client: Client, mut resigned: oneshot::Receiver<()>) -> ElectionEnd {
    let mut history = History::default();
    loop {
        let ends = tokio::select! {
            _ = &mut resigned => Some(ElectionEnd::Resigned),
            found = latest(&client) => history.shows(found),
        };
        if let Some(end) = ends {
            return end;
        }
        tokio::select! {
            _ = &mut resigned => return ElectionEnd::Resigned,
            () = sleep(PERIOD) => {}
        }
    }
}

/// The version of the API server's data now. A list without a version is of the most recent state. 0 if there is no answer.
async fn latest(client: &Client) -> u64 {
    let one = ListParams::default().limit(1);
    let Ok(Ok(list)) = timeout(PERIOD, lists::list_metadata::<Namespace>(client, None, &one)).await else { return 0 };
    resource_version(list.metadata.resource_version.as_deref())
}

/// The highest version that was shown so far.
#[derive(Default)]
struct History(u64);

impl History {
    fn shows(&mut self, found: u64) -> Option<ElectionEnd> {
        let seen = self.0;
        self.0 = seen.max(found);
        ElectionEnd::if_older(seen, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i15_a_lower_version_than_before_shows_that_history_went_back() {
        let mut history = History::default();
        for found in [0, 7, 7, 0, 9] {
            assert_eq!(history.shows(found), None, "{found}");
        }
        assert_eq!(history.shows(8), Some(ElectionEnd::WentBack { seen: 9, found: 8 }));
    }
}
