//! Reads the nameservers of a resolv.conf, as described in resolv.conf(5).

use std::net::IpAddr;

/// The addresses of the nameservers, in order. Ignores what is not an address, as resolvers do, and the zone of an address.
pub fn nameservers(text: &str) -> Vec<IpAddr> {
    let value = |line: &str| {
        let mut words = line.split_whitespace();
        let is_nameserver = words.next() == Some("nameserver");
        let address = words.next().filter(|_| is_nameserver)?;
        address.split('%').next()?.parse().ok()
    };
    text.lines().filter_map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameservers_are_read_as_a_resolver_reads_them() {
        let text = "# nameserver 9.9.9.9\nsearch a.svc.cluster.local\nnameserver 10.96.0.10\n nameserver\tfd00::a \noptions ndots:5\nnameserver fe80::1%eth0\nnameserver nonsense\nnameserver\n;nameserver 1.1.1.1\nnameserver 127.0.0.53 # local";
        let read: Vec<String> = nameservers(text).iter().map(ToString::to_string).collect();
        assert_eq!(read, ["10.96.0.10", "fd00::a", "fe80::1", "127.0.0.53"]);
        assert!(nameservers("").is_empty());
    }
}
