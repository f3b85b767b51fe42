//! Random worlds: what is found agrees with what `explain flow` says, and no question ends in a panic.

use proptest::prelude::*;

use super::*;
use crate::policy::flow::{
    AskedPort, DirectionVerdict,
    tests::properties::{flow_texts, objects},
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_direction_is_found_denied_where_explain_flow_says_so(world in objects(), skip in 0..7_usize) {
        let snapshot = snapshot(&world);
        let compiled = CompiledPolicies::of(&snapshot);
        for [from, to, port] in flow_texts(&snapshot).into_iter().skip(skip).step_by(17).take(8) {
            let (from, to, port): (FlowEnd, FlowEnd, AskedPort) = (from.parse().unwrap(), to.parse().unwrap(), port.parse().unwrap());
            for symptom in [Symptom::Blocked, Symptom::Passes, Symptom::BlockedThoughAllowed, Symptom::ComesAndGoes] {
                let question = TrafficQuestion { symptom, from: from.clone(), to: to.clone(), port: port.clone(), policy: None };
                let Ok(answer) = of_traffic(&compiled, &nothing_else(), &question) else { continue };
                let Ok(flow) = compiled.answer(&from, &to, &port.clone()) else { continue };
                if symptom == Symptom::Blocked {
                    let is_denied = flow.cases.iter().any(|case| matches!(case.ingress, DirectionVerdict::Denied { .. }));
                    prop_assert_eq!(found(&answer).contains(&CauseName::IngressDenied), is_denied);
                }
            }
            if let FlowEnd::Pod { namespace, name } = from {
                let _ = dns_hangs(&compiled, &nothing_else(), &DnsAskers::Pods(FlowEnd::Pod { namespace, name }));
            }
        }
    }
}
