//! The sources of the cluster's DNS as one stream: watches of a few named objects, and the operator's own resolv.conf.
//! A source that cannot be read is logged once and retried; it blocks nothing else.

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use k8s_openapi::NamespaceResourceScope;
use kube::{Client, Resource, ResourceExt};
use kube_runtime::{WatchStreamExt, watcher};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::{backoff::WatchBackoff, kinds::WatchProblem, stream::watch_dynamic};
use crate::{
    cluster::telemetry::Telemetry,
    engine::facts::event::{Event, ListRefusal},
    policy::dns::{
        APP_LABEL, DnsEvent, KUBE_DNS, KUBE_SYSTEM, NODE_LOCAL, OPENSHIFT_DNS, OPENSHIFT_NAME, Object, SlimDaemonSet, SlimPod,
        SlimService, SlimSlice, Source,
    },
};

/// How often the resolv.conf is read again. Kubelet replaces the file without a notification.
const REREAD: Duration = Duration::from_mins(1);

/// The events of all DNS sources. Without a path no resolv.conf is read: outside of a pod, the file is not the one that pods get.
pub fn everything(
    client: &Client,
    resolv_conf: Option<PathBuf>,
    telemetry: &Arc<dyn Telemetry>,
) -> impl Stream<Item = Event> + Send + use<> {
    let problem = |source: Source| WatchProblem::about(source.into_str(), false, telemetry);
    let watch = |source| (client.clone(), source, problem(source));
    let all = watcher::Config::default;
    let named = |name: &str| all().fields(&format!("metadata.name={name}"));
    let dns_pods = all().labels(&format!("{APP_LABEL}={KUBE_DNS}"));
    let sources = [
        watched::<SlimService>(watch(Source::Services), KUBE_SYSTEM, all()),
        watched::<SlimSlice>(watch(Source::Slices), KUBE_SYSTEM, all()),
        watched::<SlimPod>(watch(Source::Pods), KUBE_SYSTEM, dns_pods),
        watched::<SlimDaemonSet>(watch(Source::NodeLocal), KUBE_SYSTEM, named(NODE_LOCAL)),
        watched::<SlimService>(watch(Source::OpenShiftService), OPENSHIFT_DNS, named(OPENSHIFT_NAME)),
        watched::<SlimDaemonSet>(watch(Source::OpenShiftDaemonSet), OPENSHIFT_DNS, named(OPENSHIFT_NAME)),
        reread(resolv_conf),
    ];
    stream::select_all(sources).map(|news| Event::Dns(Box::new(news)))
}

fn watched<K>(
    (client, source, mut problem): (Client, Source, WatchProblem),
    namespace: &str,
    config: watcher::Config,
) -> BoxStream<'static, DnsEvent>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Into<Object> + 'static,
{
    watch_dynamic::<K>(&client, Some(namespace), config)
        .backoff(WatchBackoff::default())
        .filter_map(move |event| {
            let news = match event {
                Ok(event) => {
                    problem.recovered(&event);
                    Some(news(source, event))
                }
                Err(error) => {
                    let (refusal, why) = problem.failed(&error);
                    (refusal != ListRefusal::Unavailable).then_some(DnsEvent::Unreadable(source, why))
                }
            };
            futures::future::ready(news)
        })
        .boxed()
}

fn news<K: ResourceExt + Into<Object>>(source: Source, event: watcher::Event<K>) -> DnsEvent {
    match event {
        watcher::Event::Init => DnsEvent::ListBegins(source),
        watcher::Event::InitDone => DnsEvent::ListEnds(source),
        watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
            DnsEvent::Seen(source, object.name_any(), object.into())
        }
        watcher::Event::Delete(object) => DnsEvent::Gone(source, object.name_any()),
    }
}

/// Emits the text of the resolv.conf now, and again whenever it has changed.
fn reread(path: Option<PathBuf>) -> BoxStream<'static, DnsEvent> {
    let Some(path) = path else {
        info!("not in a pod: no resolv.conf is read for the nameservers of pods; name one with --resolv-conf");
        let none = DnsEvent::ResolvConf(String::new());
        return stream::once(futures::future::ready(none)).chain(stream::pending()).boxed();
    };
    let read = move |last: Option<Result<String, String>>| {
        let path = path.clone();
        async move {
            let mut due = Instant::now();
            if last.is_some() {
                due += REREAD;
            }
            loop {
                sleep_until(due).await;
                let now = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()));
                if last.as_ref() != Some(&now) {
                    return Some((now.clone(), Some(now)));
                }
                due = Instant::now() + REREAD;
            }
        }
    };
    let mut fails = false;
    let tell = move |read: Result<String, String>| match read {
        Ok(text) => {
            if std::mem::take(&mut fails) {
                info!("the nameservers of pods can be read again");
            }
            DnsEvent::ResolvConf(text)
        }
        Err(why) => {
            fails = true;
            warn!("the nameservers of pods cannot be read, trying again every minute: {why}");
            DnsEvent::Unreadable(Source::ResolvConf, why)
        }
    };
    stream::unfold(None, read).map(tell).boxed()
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Mutex};

    use http::{Request, Response};
    use kube::{client::Body, core::Status};
    use serde_json::json;
    use tokio::time::timeout;
    use tower_test::mock;
    use tracing::{Dispatch, subscriber::NoSubscriber};

    use super::*;
    use crate::cluster::telemetry::Recorded;

    #[tokio::test(start_paused = true)]
    async fn a_source_whose_resumed_watch_was_refused_is_listed_again_and_so_says_that_it_can_be_read() {
        for code in [403, 404] {
            let (service, mut server) = mock::pair::<Request<Body>, Response<Body>>();
            let telemetry: Arc<dyn Telemetry> = Arc::new(Recorded::default());
            let problem = WatchProblem::about("services in kube-system", false, &telemetry);
            let of = (Client::new(service, "default"), Source::Services, problem);
            let mut news = watched::<SlimService>(of, KUBE_SYSTEM, watcher::Config::default());
            let answering = tokio::spawn(async move {
                while let Some((request, respond)) = server.next_request().await {
                    let (code, body) = if request.uri().query().unwrap_or_default().contains("sendInitialEvents") {
                        let ends = json!({"resourceVersion": "7", "annotations": {"k8s.io/initial-events-end": "true"}});
                        let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": ends});
                        (200, format!("{}\n", json!({"type": "BOOKMARK", "object": object})).into_bytes())
                    } else {
                        (code, serde_json::to_vec(&Status { code, ..Status::default() }).unwrap())
                    };
                    respond.send_response(Response::builder().status(code).body(Body::from(body)).unwrap());
                }
            });
            for expected in ["begins", "ends", "refused", "begins", "ends"] {
                let heard = match news.next().await.unwrap() {
                    DnsEvent::ListBegins(Source::Services) => "begins",
                    DnsEvent::ListEnds(Source::Services) => "ends",
                    DnsEvent::Unreadable(Source::Services, _) => "refused",
                    other => panic!("{other:?}"),
                };
                assert_eq!(heard, expected);
            }
            answering.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolv_conf_is_read_at_once_and_again_when_it_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 10.96.0.10\n").unwrap();
        let mut news = reread(Some(path.clone()));
        let mut next = async || match news.next().await {
            Some(DnsEvent::ResolvConf(text)) => Ok(text),
            Some(DnsEvent::Unreadable(Source::ResolvConf, why)) => Err(why),
            other => panic!("{other:?}"),
        };
        assert_eq!(next().await, Ok("nameserver 10.96.0.10\n".into()));
        std::fs::write(&path, "nameserver 10.96.0.11\n").unwrap();
        assert_eq!(next().await, Ok("nameserver 10.96.0.11\n".into()));
        std::fs::remove_file(&path).unwrap();
        assert!(next().await.is_err_and(|why| why.contains("resolv.conf")));
    }

    /// What is logged.
    #[derive(Clone, Default)]
    struct Logged(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Logged {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Logged {
        fn lines(&self) -> Vec<String> {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(|line| line.trim().to_owned()).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn i9_a_resolv_conf_that_cannot_be_read_is_logged_once_when_it_begins_and_once_when_it_ends() {
        let logged = Logged::default();
        let writer = logged.clone();
        let log =
            tracing_subscriber::fmt().without_time().with_target(false).with_ansi(false).with_writer(move || writer.clone());
        // With a single subscriber, tracing asks only the one of the thread that comes to a line first. Another test may come first.
        let _second = Dispatch::new(NoSubscriber::new());
        let _logs = tracing::subscriber::set_default(log.finish());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        let lacks = || drop(std::fs::remove_file(&path));
        let is_a_folder = || std::fs::create_dir(&path).unwrap();
        let is_no_text = || std::fs::write(&path, [0xff, 0xfe]).unwrap();
        let cases: [(&dyn Fn(), &str); 3] =
            [(&lacks, "No such file"), (&is_a_folder, "Is a directory"), (&is_no_text, "valid UTF-8")];
        for (breaks, why) in cases {
            let before = logged.lines().len();
            let mut news = reread(Some(path.clone()));
            breaks();
            assert!(matches!(news.next().await, Some(DnsEvent::Unreadable(Source::ResolvConf, text)) if text.contains(why)));
            assert!(timeout(REREAD * 10, news.next()).await.is_err(), "{why}: nothing has changed");
            let begins = &logged.lines()[before..];
            let about = format!("WARN the nameservers of pods cannot be read, trying again every minute: {}: ", path.display());
            assert!(begins.len() == 1 && begins[0].starts_with(&about) && begins[0].contains(why), "{begins:?}");

            let _ = std::fs::remove_dir(&path);
            std::fs::write(&path, "nameserver 10.96.0.10\n").unwrap();
            assert!(matches!(news.next().await, Some(DnsEvent::ResolvConf(_))));
            assert!(timeout(REREAD * 10, news.next()).await.is_err(), "{why}: nothing has changed");
            assert_eq!(logged.lines()[before + 1..], ["INFO the nameservers of pods can be read again"], "{why}");
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[tokio::test]
    async fn outside_of_a_pod_no_resolv_conf_is_read() {
        assert!(matches!(reread(None).next().await, Some(DnsEvent::ResolvConf(text)) if text.is_empty()));
    }
}
