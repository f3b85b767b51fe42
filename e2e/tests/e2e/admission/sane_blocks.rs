//! sane-policies: addresses that no peer has are no exception. Left out, or missing, they do not make a rule for everybody narrower.

use policy_baseline_e2e::World;
use serde_json::json;

use super::DECIDED;
use super::sane_policies::{as_the_component_says, block, blocks, both_ways, sane_policies};
use crate::scene::tenant;

#[tokio::test]
async fn sane_policies_lets_nobody_leave_out_what_no_peer_has() {
    let world = World::new().await.unwrap();
    sane_policies(&world).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    let tenant = tenant(&world, &[&ns]).await;
    let (v4, v6, pods) = (Some("every IPv4 address"), Some("every IPv6 address"), Some("every pod of the cluster"));
    let but = |cidr: &str, except: &[&str]| json!([block(cidr, except)]);
    let exists = |key: &str| json!([{ "namespaceSelector": { "matchExpressions": [{ "key": key, "operator": "Exists" }] } }]);
    for (peers, expected) in [
        (but("0.0.0.0/0", &["224.0.0.0/3"]), v4),
        (but("0.0.0.0/0", &["224.0.0.0/4", "240.0.0.0/4", "127.0.0.0/8", "0.0.0.0/8", "169.254.0.0/16"]), v4),
        (but("0.0.0.0/0", &["232.0.0.0/5", "255.0.0.0/8", "255.255.255.255/32"]), v4),
        (but("0.0.0.0/0", &["240.0.0.0/9"]), v4),
        (but("0.0.0.0/0", &["127.0.0.0/9", "127.128.0.0/9"]), v4),
        // Others that begin with the same digits.
        (but("0.0.0.0/0", &["22.0.0.0/8"]), None),
        (but("0.0.0.0/0", &["23.0.0.0/8"]), None),
        (but("0.0.0.0/0", &["25.0.0.0/8"]), None),
        (but("0.0.0.0/0", &["12.0.0.0/8"]), None),
        (but("0.0.0.0/0", &["169.0.0.0/8"]), None),
        (but("0.0.0.0/0", &["223.0.0.0/8"]), None),
        // More than such ranges.
        (but("0.0.0.0/0", &["192.0.0.0/2"]), None),
        (but("0.0.0.0/0", &["0.0.0.0/7"]), None),
        (but("0.0.0.0/0", &["126.0.0.0/7"]), None),
        (but("0.0.0.0/0", &["224.0.0.0/3", "10.0.0.0/8"]), None),
        (but("0.0.0.0/0", &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "224.0.0.0/4"]), None),
        // As blocks that are missing.
        (blocks(&["0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/3"]), v4),
        (
            blocks(&[
                "1.0.0.0/8",
                "2.0.0.0/7",
                "4.0.0.0/6",
                "8.0.0.0/5",
                "16.0.0.0/4",
                "32.0.0.0/3",
                "64.0.0.0/2",
                "128.0.0.0/1",
            ]),
            v4,
        ),
        (blocks(&["128.0.0.0/1"]), None),
        (blocks(&["224.0.0.0/3", "127.0.0.0/8"]), None),
        // Each peer leaves out something else. Then only the ranges that no peer has are missing in both.
        (json!([block("0.0.0.0/0", &["224.0.0.0/3"]), block("0.0.0.0/0", &["10.0.0.0/8"])]), v4),
        (but("::/0", &["ff00::/8", "fe80::/10", "::1/128"]), v6),
        (but("::/0", &["FF00::/8", "FE80::/10", "0:0::1/128"]), v6),
        (but("::/0", &["::/3"]), v6),
        // All global unicast addresses of IPv6 are in 2000::/3, and so are the pods of many clusters.
        (blocks(&["2000::/3"]), v6),
        (blocks(&["2000::/4", "3000::/4"]), v6),
        (but("2000::/3", &["2001:db8::/32"]), v6),
        (but("::/0", &["fc00::/7"]), v6),
        (blocks(&["::/1"]), v6),
        (but("::/0", &["::/2"]), None),
        (but("::/0", &["3000::/4"]), None),
        (blocks(&["2000::/4"]), None),
        (blocks(&["fc00::/7"]), None),
        (blocks(&["4000::/2", "8000::/1", "::/3"]), None),
        // With no-gap, every namespace gets this label.
        (exists(DECIDED), pods),
        (exists("policybaseline.io/instance"), None),
    ] {
        let spec = both_ways(&json!([{ "from": peers }]));
        assert_eq!(as_the_component_says(&tenant, &ns, &spec).await.as_deref(), expected, "{peers}");
    }
}
