//! Which caller may name which address, on a host with made-up interfaces.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::*;
use crate::{TcpStreamClientConfig, worker::own_networks::Interface};

/// This host: two networks, and both kinds of address on the first.
fn interfaces() -> Vec<Interface> {
    [
        ("lo", "127.0.0.1", 8),
        ("lo", "::1", 128),
        ("eth0", "10.0.0.5", 24),
        ("eth0", "fd00:a::5", 64),
        ("eth1", "10.1.0.5", 24),
    ]
    .map(|(name, ip, prefix)| {
        let ip: IpAddr = ip.parse().unwrap();
        let network = Network::new(ip, prefix).unwrap();
        Interface { name: name.to_owned(), ip, network }
    })
    .into()
}

fn policy(allowed: &[&str]) -> DialPolicy {
    let allowed_networks = allowed.iter().map(|it| it.parse().unwrap()).collect();
    let config = TcpStreamClientConfig { allowed_networks, ..Default::default() };
    let own = OwnNetworks::read_by(|| Ok(interfaces()));
    DialPolicy::with_networks(&config.checked().unwrap(), own)
}

fn peer(ip: &str) -> Origin {
    Origin::Peer(ip.parse().unwrap())
}

fn dials(policy: &DialPolicy, address: &str, origin: Origin) -> bool {
    let error = policy.check(address.parse().unwrap(), origin, address).err();
    for error in error.iter() {
        assert_eq!((error.code(), error.executed()), (Code::NoTransport, Executed::No));
        assert!(error.message().contains(address), "{error}");
    }
    error.is_none()
}

/// Where no caller may send a worker, whoever it is.
const NEVER: [&str; 9] = [
    "0.0.0.0:22",
    "[::]:22",
    "[::ffff:0.0.0.0]:22",
    "127.0.0.1:0",
    "224.0.0.1:80",
    "[ff02::1]:80",
    "[::ffff:224.0.0.1]:80",
    "255.255.255.255:80",
    "10.0.0.5:0",
];

const CLOUD_METADATA: [&str; 4] =
    ["169.254.169.254:80", "[::ffff:169.254.169.254]:80", "[fe80::1]:80", "[fd00:ec2::254]:80"];

#[test]
fn what_is_no_host_is_dialled_for_nobody_whatever_is_allowed() {
    let policy = policy(&["0.0.0.0/0", "::/0", "169.254.0.0/16"]);
    let broker = Origin::Broker { is_local: true };
    for origin in [peer("127.0.0.1"), peer("10.0.0.7"), Origin::SameHost, broker] {
        for address in NEVER {
            assert!(!dials(&policy, address, origin), "{address} for {origin}");
        }
    }
}

#[test]
fn a_caller_is_dialled_at_its_own_address_and_nowhere_else() {
    let policy = policy(&[]);
    let far = peer("203.0.113.9");
    assert!(dials(&policy, "203.0.113.9:4000", far));
    assert!(dials(&policy, "[::ffff:203.0.113.9]:4000", far));
    assert!(dials(&policy, "203.0.113.9:4000", peer("::ffff:203.0.113.9")));
    assert!(dials(&policy, "[2001:db8::9]:4000", peer("2001:db8::9")));
    for other in [
        "203.0.113.10:4000",
        "198.51.100.1:80",
        "127.0.0.1:6379",
        "127.9.9.9:6379",
        "[::1]:6379",
        "[::ffff:127.0.0.1]:6379",
        "10.0.0.5:22",
        "10.0.0.9:22",
        "10.1.0.5:22",
        "[fd00:a::5]:22",
        "[2001:db8::10]:4000",
    ] {
        assert!(!dials(&policy, other, far), "{other}");
    }
    for metadata in CLOUD_METADATA {
        for origin in [far, peer("10.0.0.7"), peer("127.0.0.1"), Origin::SameHost] {
            assert!(!dials(&policy, metadata, origin), "{metadata} for {origin}");
        }
    }
}

/// A stock router asks from whichever address the route to the worker has, and names the first
/// that it finds on its host.
#[test]
fn a_caller_on_this_host_is_dialled_at_any_address_of_this_host() {
    let policy = policy(&[]);
    for origin in [
        peer("127.0.0.1"),
        peer("::1"),
        peer("10.0.0.5"),
        peer("::ffff:10.1.0.5"),
        peer("fd00:a::5"),
        Origin::SameHost,
    ] {
        for own in ["127.0.0.1:80", "127.0.0.2:80", "[::1]:80", "10.0.0.5:80", "10.1.0.5:80"] {
            assert!(dials(&policy, own, origin), "{own} for {origin}");
        }
        for other in ["10.0.0.7:80", "10.1.0.7:80", "203.0.113.9:80"] {
            assert!(!dials(&policy, other, origin), "{other} for {origin}");
        }
    }
}

/// What is on its own link a caller reaches without the worker, so it gains nothing.
#[test]
fn a_caller_with_several_addresses_may_name_another_on_its_own_link() {
    let policy = policy(&[]);
    assert!(dials(&policy, "10.0.0.8:80", peer("10.0.0.7")));
    assert!(dials(&policy, "10.0.0.8:80", peer("fd00:a::7")), "the same interface");
    assert!(!dials(&policy, "10.1.0.8:80", peer("10.0.0.7")), "across the worker");
    assert!(!dials(&policy, "10.0.0.5:80", peer("10.0.0.7")), "the worker's own");
    assert!(!dials(&policy, "10.1.0.5:80", peer("10.0.0.7")), "the worker's other one");
    assert!(!dials(&policy, "10.0.0.255:80", peer("10.0.0.7")), "all of the network");
    assert!(!dials(&policy, "10.0.0.0:80", peer("10.0.0.7")), "the network itself");
    let named = self::policy(&["10.1.0.0/24"]);
    assert!(dials(&named, "10.1.0.8:80", peer("10.0.0.7")));
}

#[test]
fn over_a_broker_the_networks_of_the_interfaces_are_dialled() {
    let policy = policy(&[]);
    for is_local in [false, true] {
        let broker = Origin::Broker { is_local };
        for near in ["10.0.0.5:80", "10.0.0.7:80", "10.1.0.7:80", "[fd00:a::7]:80"] {
            assert!(dials(&policy, near, broker), "{near}");
        }
        for far in ["10.2.0.7:80", "203.0.113.9:80", "10.0.0.255:80", "[2001:db8::9]:80"] {
            assert!(!dials(&policy, far, broker), "{far}");
        }
        for metadata in CLOUD_METADATA {
            assert!(!dials(&policy, metadata, broker), "{metadata}");
        }
        for loopback in ["127.0.0.1:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            assert_eq!(dials(&policy, loopback, broker), is_local, "{loopback}");
        }
    }
}

#[test]
fn a_setting_widens_it_and_link_local_has_to_be_meant() {
    let wide = policy(&["0.0.0.0/0", "::/0"]);
    for origin in [peer("127.0.0.1"), peer("10.0.0.7"), Origin::Broker { is_local: false }] {
        assert!(dials(&wide, "203.0.113.9:80", origin));
        assert!(dials(&wide, "127.0.0.1:80", origin));
        assert!(!dials(&wide, "169.254.169.254:80", origin));
        assert!(!dials(&wide, "[fe80::1]:80", origin));
    }
    let meant = policy(&["169.254.7.0/24", "fe80::/10"]);
    assert!(dials(&meant, "169.254.7.7:80", peer("10.0.0.7")));
    assert!(dials(&meant, "[fe80::1]:80", peer("10.0.0.7")));
    assert!(!dials(&meant, "169.254.169.254:80", peer("10.0.0.7")));
}

#[test]
fn interfaces_are_read_when_needed_and_again_when_told() {
    let reads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&reads);
    let own = OwnNetworks::read_by(move || match counted.fetch_add(1, Ordering::Relaxed) {
        0 => Err(io::Error::other("no list")),
        1 => Ok(Vec::new()),
        _ => Ok(interfaces()),
    });
    let config = TcpStreamClientConfig::default().checked().unwrap();
    let policy = DialPolicy::with_networks(&config, own);
    let read = || reads.load(Ordering::Relaxed);
    assert!(dials(&policy, "10.9.9.9:80", peer("10.9.9.9")));
    assert!(dials(&policy, "127.0.0.1:80", peer("127.0.0.1")));
    assert_eq!(read(), 0, "most requests need none");
    assert!(!dials(&policy, "10.0.0.5:80", peer("127.0.0.1")), "unknown while unread");
    assert!(!dials(&policy, "10.0.0.5:80", peer("127.0.0.1")), "not there");
    assert!(!dials(&policy, "10.0.0.5:80", peer("127.0.0.1")), "as it was read");
    assert_eq!(read(), 2);
    policy.look_again();
    assert!(dials(&policy, "10.0.0.5:80", peer("127.0.0.1")), "come up since");
    assert_eq!(read(), 3);
}
