//! Which pods, endpoints and flows a cause is about: what others of them show is no cause.

use super::*;

const WORKS: (&str, &str, &str) = ("shop/web-1", "shop/svc/db", "5432");

fn blocked(objects: &[Value], asked: (&str, &str, &str)) -> SymptomAnswer {
    traffic(objects, Symptom::Blocked, asked)
}

#[test]
fn one_ready_endpoint_is_enough_and_the_source_need_not_be_ready() {
    let unready = |of: &'static [&str]| {
        changed(move |all| {
            all.retain(|object| object["kind"] != "EndpointSlice" || object["metadata"]["namespace"] != "shop");
            for pod in of {
                object(all, "Pod", pod)["status"]["conditions"][0]["status"] = "False".into();
            }
        })
    };
    is_ruled_out(&blocked(&unready(&["shop/db-1"]), WORKS), CauseName::NotReady);
    is_found(&blocked(&unready(&["shop/db-1", "shop/db-2"]), WORKS), CauseName::NotReady, "shop/db-1 is not ready; shop/db-2");
    let source = unready(&["shop/web-1"]);
    is_ruled_out(&blocked(&source, WORKS), CauseName::NotReady);
    let pending = changed(|all| object(all, "Pod", "shop/web-1")["status"]["phase"] = "Pending".into());
    is_found(&blocked(&pending, WORKS), CauseName::NotReady, "shop/web-1 is pending");
}

#[test]
fn a_service_may_lead_to_pods_that_are_not_ready() {
    let published = changed(|all| {
        all.retain(|object| object["kind"] != "EndpointSlice" || object["metadata"]["namespace"] != "shop");
        for pod in ["shop/db-1", "shop/db-2"] {
            object(all, "Pod", pod)["status"]["conditions"][0]["status"] = "False".into();
        }
        object(all, "Service", "shop/db")["spec"]["clusterIP"] = "None".into();
        object(all, "Service", "shop/db")["spec"]["publishNotReadyAddresses"] = true.into();
    });
    let answer = blocked(&published, WORKS);
    is_ruled_out(&answer, CauseName::NoEndpoints);
    is_not_known(&answer, CauseName::NotReady, "shop/db-1 is not ready");
}

#[test]
fn a_port_that_the_pod_declares_is_no_wrong_port() {
    let both = changed(|all| {
        object(all, "Service", "shop/db")["spec"]["ports"][0]["port"] = 80.into();
        object(all, "Pod", "shop/db-1")["spec"]["containers"][0]["ports"] =
            json!([{"name": "sql", "containerPort": 5432}, {"containerPort": 80}]);
    });
    is_ruled_out(&blocked(&both, ("shop/web-1", "shop/db-1", "80")), CauseName::WrongPort);
    is_found(&blocked(&both, ("shop/web-1", "shop/db-2", "80")), CauseName::WrongPort, "is reached on port 5432");
}
