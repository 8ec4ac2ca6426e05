//! The DNS backend against a name server of our own, over real sockets.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod server;

use std::{sync::Arc, time::Duration};

use sinew_discovery::{
    Discovery as _, DiscoveryError, DnsConfig, DnsDiscovery, Instance, Snapshot, View,
};
use sinew_plane::{EndpointName, InstanceId};

use crate::server::{Answer, Server};

/// Long enough for a busy machine; reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

fn endpoint() -> EndpointName {
    "a/b/c".parse().unwrap()
}

fn quick() -> DnsConfig {
    let ms = Duration::from_millis;
    let (min_ttl, max_ttl, empty_after) = (ms(100), ms(200), ms(1000));
    DnsConfig { min_ttl, max_ttl, empty_after, ..DnsConfig::default() }
}

fn open(server: &Server, name: &str, config: DnsConfig) -> DnsDiscovery {
    let text = format!("dns://{name}?server={}", server.address());
    let discovery = DnsDiscovery::with_config(&text, config).unwrap();
    let _for_good = discovery.want(&endpoint());
    discovery
}

fn addresses(snapshot: &Snapshot) -> Vec<String> {
    let mut all: Vec<_> = snapshot
        .iter()
        .flat_map(|one| one.addresses.iter().map(|address| address.as_str().to_owned()))
        .collect();
    all.sort();
    all
}

async fn until(view: &mut View, is_so: impl Fn(&Snapshot) -> bool) {
    while !is_so(&view.snapshot()) {
        tokio::time::timeout(PATIENCE, view.changed()).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn each_address_of_a_name_is_an_instance_of_whatever_is_wanted() {
    let server = Server::start().await;
    server.say("workers.pool.", Answer::a(&["10.0.0.1", "10.0.0.2", "10.0.0.1"]));
    server.say("workers.pool.", Answer::aaaa(&["2001:db8::7"]));
    let discovery = open(&server, "workers.pool:9000", quick());
    let mut view = discovery.watch().await.unwrap();
    let expected = ["tcp://10.0.0.1:9000", "tcp://10.0.0.2:9000", "tcp://[2001:db8::7]:9000"];
    assert_eq!(addresses(&view.snapshot()), expected);
    assert!(view.snapshot().iter().all(|one| one.any_id && one.endpoint == endpoint()));
    // Known already, so there at once; and under the same ids as in any other process.
    let other: EndpointName = "a/b/d".parse().unwrap();
    let _wanted = discovery.want(&other);
    assert!(view.has_instance_of(&other).await);
    let ids = |name: &EndpointName| -> Vec<_> {
        view.snapshot().of(name).map(|one| (one.id, one.incarnation)).collect()
    };
    assert_eq!(ids(&endpoint()), ids(&other));
    let again = open(&server, "workers.pool:9000", quick()).watch().await.unwrap();
    assert_eq!(
        ids(&endpoint()),
        again.snapshot().iter().map(|one| (one.id, one.incarnation)).collect::<Vec<_>>()
    );
    let mine = Instance::new(endpoint(), InstanceId(1), Vec::new());
    let error = discovery.register(mine).await.unwrap_err();
    assert!(matches!(error, DiscoveryError::ReadOnly { backend: "dns" }));
    let tcp = sinew_plane::TransportId::from_static("tcp");
    let policy = sinew_discovery::PlanePolicy::new(endpoint(), tcp);
    let error = discovery.put_policy(policy).await.unwrap_err();
    assert!(matches!(error, DiscoveryError::NoPolicies { backend: "dns" }), "{error}");
    assert!(discovery.watch_policy(&endpoint()).unwrap().is_none());
    discovery.shutdown().await;
    assert!(view.snapshot().of(&endpoint()).count() > 0, "a view keeps what it shows");
    let error = discovery.watch().await.unwrap_err();
    assert!(error.to_string().contains("shut down"), "{error}");
    discovery.shutdown().await;
}

#[tokio::test]
async fn a_shutdown_wakes_who_waits_for_the_first_answer() {
    let server = Server::start().await;
    server.say("pool.", Answer::silence());
    let discovery = open(&server, "pool:1", quick());
    let watching = tokio::spawn({
        let discovery = discovery.clone();
        async move { discovery.watch().await }
    });
    server.until_asked("pool.", 1).await;
    discovery.shutdown().await;
    let error = tokio::time::timeout(PATIENCE, watching).await.unwrap().unwrap().unwrap_err();
    assert!(error.to_string().contains("shut down"), "{error}");
}

#[tokio::test]
async fn changes_are_seen_when_the_time_of_an_answer_is_over() {
    let server = Server::start().await;
    server.say("pool.", Answer::a(&["10.0.0.1"]));
    let discovery = open(&server, "pool:1", quick());
    let mut view = discovery.watch().await.unwrap();
    server.say("pool.", Answer::a(&["10.0.0.2", "10.0.0.3"]));
    until(&mut view, |now| now.len() == 2).await;
    server.say("pool.", Answer::a(&["10.0.0.3"]));
    until(&mut view, |now| addresses(now) == ["tcp://10.0.0.3:1"]).await;
}

#[tokio::test]
async fn the_time_of_an_answer_is_honoured_within_its_bounds() {
    let server = Server::start().await;
    server.say("long.", Answer::a(&["10.0.0.1"]).ttl(3600));
    server.say("short.", Answer::a(&["10.0.0.1"]).ttl(0));
    let wide = DnsConfig { max_ttl: PATIENCE * 60, ..quick() };
    let (long, short) = (open(&server, "long:1", wide.clone()), open(&server, "short:1", wide));
    let _views = (long.watch().await.unwrap(), short.watch().await.unwrap());
    let asked_for_long = server.asked("long.");
    let begun = std::time::Instant::now();
    server.until_asked("short.", server.asked("short.") + 10).await;
    // Two questions per look, for both kinds of address.
    assert!(begun.elapsed() >= Duration::from_millis(400), "the floor holds");
    assert_eq!(server.asked("long."), asked_for_long, "an hour is an hour");
}

#[tokio::test]
async fn services_bring_their_ports_and_weights() {
    let server = Server::start().await;
    let service = "_sinew._tcp.pool.";
    server.say(
        service,
        Answer::srv(&[
            (10, 5, 9001, "one.pool."),
            (10, 0, 9002, "two.pool."),
            (10, 7, 0, "two.pool."),
            (20, 1, 9009, "spare.pool."),
        ]),
    );
    server.say("one.pool.", Answer::a(&["10.0.0.1", "10.0.0.11"]));
    server.say("two.pool.", Answer::a(&["10.0.0.2"]));
    server.say("spare.pool.", Answer::a(&["10.0.0.9"]));
    let discovery = open(&server, "_sinew._tcp.pool", quick());
    let mut view = discovery.watch().await.unwrap();
    let shown = |now: &Snapshot| -> Vec<(u32, Vec<String>)> {
        let one = |one: &Arc<Instance>| {
            (one.weight, one.addresses.iter().map(|to| to.as_str().to_owned()).collect())
        };
        let mut all: Vec<_> = now.iter().map(one).collect();
        all.sort();
        all
    };
    let two = ["tcp://10.0.0.1:9001", "tcp://10.0.0.11:9001"].map(str::to_owned).to_vec();
    let expected = [(1, vec!["tcp://10.0.0.2:9002".to_owned()]), (5, two)];
    assert_eq!(shown(&view.snapshot()), expected);
    // The spare ones are there when none of the others has an address.
    server.say("one.pool.", Answer::nothing());
    server.say("two.pool.", Answer::nothing());
    until(&mut view, |now| addresses(now) == ["tcp://10.0.0.9:9009"]).await;
    server.say(service, Answer::srv(&[(10, 0, 1, ".")]));
    until(&mut view, Snapshot::is_empty).await;
}

#[tokio::test]
async fn a_server_that_fails_or_is_silent_leaves_the_last_answer() {
    let server = Server::start().await;
    server.say("pool.", Answer::a(&["10.0.0.1"]));
    let discovery = open(&server, "pool:1", quick());
    let mut view = discovery.watch().await.unwrap();
    for fault in [Answer::failure(), Answer::garbage(), Answer::silence()] {
        server.say("pool.", fault);
        server.until_asked("pool.", server.asked("pool.") + 8).await;
        assert_eq!(view.snapshot().len(), 1);
        assert_eq!(discovery.watch().await.unwrap().snapshot().len(), 1);
    }
    server.say("pool.", Answer::a(&["10.0.0.2"]));
    until(&mut view, |now| addresses(now) == ["tcp://10.0.0.2:1"]).await;
}

#[tokio::test]
async fn nothing_is_believed_when_it_is_said_for_long_enough() {
    let server = Server::start().await;
    server.say("pool.", Answer::a(&["10.0.0.1"]));
    let discovery = open(&server, "pool:1", quick());
    let mut view = discovery.watch().await.unwrap();
    // A moment without the name is none.
    server.say("pool.", Answer::no_such_name());
    server.until_asked("pool.", server.asked("pool.") + 4).await;
    assert_eq!(view.snapshot().len(), 1);
    server.say("pool.", Answer::a(&["10.0.0.1"]));
    server.until_asked("pool.", server.asked("pool.") + 4).await;
    let begun = std::time::Instant::now();
    server.say("pool.", Answer::no_such_name());
    until(&mut view, Snapshot::is_empty).await;
    assert!(begun.elapsed() >= quick().empty_after / 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_name_that_is_not_there_yet_is_an_answer_and_no_server_is_none() {
    let server = Server::start().await;
    server.say("pool.", Answer::no_such_name());
    let discovery = open(&server, "pool:1", quick());
    let mut view = discovery.watch().await.unwrap();
    assert!(view.snapshot().is_empty());
    server.say("pool.", Answer::a(&["10.0.0.1"]));
    assert!(view.has_instance_of(&endpoint()).await);

    server.say("lost.", Answer::failure());
    let error = open(&server, "lost:1", quick()).watch().await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Unavailable { backend: "dns", .. }), "{error}");
    assert!(error.to_string().contains("lost:1"), "{error}");
}

/// What there is to say when there is nobody: the name, what DNS said, and who said it.
#[tokio::test]
async fn why_nobody_is_there_is_told() {
    let server = Server::start().await;
    server.say("gone.pool.", Answer::no_such_name());
    server.say("empty.pool.", Answer::nothing());
    server.say("_none._tcp.pool.", Answer::nothing());
    server.say("_off._tcp.pool.", Answer::srv(&[(0, 0, 1, ".")]));
    server.say("_lost._tcp.pool.", Answer::srv(&[(0, 0, 1, "gone.pool.")]));
    for (target, said) in [
        ("gone.pool:1", "gone.pool does not exist (NXDOMAIN)"),
        ("empty.pool:1", "empty.pool exists and has neither an A nor an AAAA record"),
        ("_none._tcp.pool", "_none._tcp.pool exists and has no SRV record"),
        ("_off._tcp.pool", "_off._tcp.pool says that the service is not available"),
        ("_lost._tcp.pool", "_lost._tcp.pool names targets of which none has an address"),
    ] {
        let discovery = open(&server, target, quick());
        assert_eq!(discovery.trouble(), None, "nobody was asked yet");
        let view = discovery.watch().await.unwrap();
        assert!(view.snapshot().is_empty(), "{target}");
        let by = format!("{said}, according to the server {}", server.address());
        assert_eq!(discovery.trouble().unwrap(), by, "{target}");
    }
    // It is over when there is somebody.
    let discovery = open(&server, "gone.pool:1", quick());
    let mut view = discovery.watch().await.unwrap();
    server.say("gone.pool.", Answer::a(&["10.0.0.1"]));
    assert!(view.has_instance_of(&endpoint()).await);
    assert_eq!(discovery.trouble(), None);
}

/// A question without an answer says who was asked, and how it failed.
#[tokio::test]
async fn why_there_is_no_answer_is_told() {
    let server = Server::start().await;
    server.say("refused.pool.", Answer::failure());
    server.say("silent.pool.", Answer::silence());
    for (target, said) in [
        ("refused.pool:1", "refused to answer: Server Failure"),
        ("silent.pool:1", "gave no answer in time (timeout; perhaps no server is there)"),
    ] {
        let discovery = open(&server, target, quick());
        let error = discovery.watch().await.unwrap_err().to_string();
        let by = format!("asking for dns://{target}?server={0}: the server {0} ", server.address());
        assert!(error.contains(&by) && error.contains(said), "{error}");
        let trouble = discovery.trouble().unwrap();
        assert!(trouble.contains(target.trim_end_matches(":1")), "{trouble}");
        assert!(trouble.contains(said), "{trouble}");
    }
}

#[tokio::test]
async fn a_thousand_servers_come_over_tcp_and_no_more_than_can_be_used_are_kept() {
    let server = Server::start().await;
    let many: Vec<_> = (0..1200_u32).map(|n| format!("10.1.{}.{}", n / 250, n % 250 + 1)).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    server.say("pool.", Answer::a(&many));
    let discovery = open(&server, "pool:1", quick());
    assert_eq!(discovery.watch().await.unwrap().snapshot().len(), 1024);
}

#[tokio::test]
async fn an_address_needs_no_server() {
    let discovery = DnsDiscovery::new("dns://127.0.0.1:9?server=127.0.0.1:1").unwrap();
    let _wanted = discovery.want(&endpoint());
    assert_eq!(addresses(&discovery.watch().await.unwrap().snapshot()), ["tcp://127.0.0.1:9"]);
}

/// Services at so many targets, each of which gets this answer.
fn service(server: &Server, targets: u16, answer: impl Fn(u16) -> Answer) -> DnsDiscovery {
    let name = |number: u16| format!("t{number:03}.pool.");
    let names: Vec<_> = (0..targets).map(name).collect();
    let records: Vec<_> = names.iter().map(|name| (10, 1, 9000, name.as_str())).collect();
    server.say("_many._tcp.pool.", Answer::srv(&records));
    for (number, name) in (0..).zip(&names) {
        server.say(name, answer(number));
    }
    open(server, "_many._tcp.pool", quick())
}

#[tokio::test]
async fn the_first_target_that_cannot_be_asked_for_ends_the_answer() {
    let server = Server::start().await;
    let discovery = service(&server, 200, |_| Answer::silence());
    let begun = std::time::Instant::now();
    assert!(discovery.watch().await.is_err());
    // One after the other they would take ten minutes.
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    let asked = (0..200).filter(|number| server.asked(&format!("t{number:03}.pool.")) > 0);
    assert!(asked.count() <= 16);
}

#[tokio::test]
async fn targets_that_take_their_time_do_not_take_all_of_it() {
    let server = Server::start().await;
    let discovery = service(&server, 200, |_| Answer::a(&["10.0.0.1"]));
    // Each has an answer, once the other kind has been waited for in vain.
    for number in 0..200 {
        server.say(&format!("t{number:03}.pool."), Answer::silence().over_ipv6());
    }
    let begun = std::time::Instant::now();
    let error = discovery.watch().await.unwrap_err();
    assert!(error.to_string().contains("(timeout"), "{error}");
    let took = begun.elapsed();
    // None of them failed by itself, which would have shown after some seconds.
    assert!((Duration::from_secs(9)..PATIENCE / 2).contains(&took), "{took:?}");
}

#[tokio::test]
async fn of_too_many_targets_the_same_ones_are_taken_every_time() {
    let server = Server::start().await;
    let discovery = service(&server, 300, |number| {
        Answer::a(&[&format!("10.0.{}.{}", number / 250, number % 250)])
    });
    let view = discovery.watch().await.unwrap();
    assert_eq!(view.snapshot().len(), 256);
    assert_eq!((server.asked("t255.pool."), server.asked("t256.pool.")), (2, 0));
}

/// As a process has it that sets nothing, but does not wait for long.
fn usual() -> DnsConfig {
    DnsConfig { min_ttl: Duration::from_millis(100), ..DnsConfig::default() }
}

#[tokio::test]
async fn a_name_that_is_missing_for_a_moment_is_asked_for_again_within_seconds() {
    let server = Server::start().await;
    let service = "_sinew._tcp.pool.";
    // Neither comes with a time, and both would count for five minutes.
    for (name, target) in [("pool.", "pool:1"), (service, "_sinew._tcp.pool")] {
        server.say(name, Answer::no_such_name());
        let discovery = open(&server, target, usual());
        let mut view = discovery.watch().await.unwrap();
        server.until_asked(name, server.asked(name) + 6).await;
        server.say("one.pool.", Answer::a(&["10.0.0.1"]).ttl(3600));
        server.say("pool.", Answer::a(&["10.0.0.1"]).ttl(3600));
        server.say(service, Answer::srv(&[(1, 1, 9, "one.pool.")]).ttl(3600));
        assert!(view.has_instance_of(&endpoint()).await);
    }
}

#[tokio::test]
async fn a_target_that_is_missing_for_a_moment_is_asked_for_again_within_seconds() {
    let server = Server::start().await;
    let service = "_sinew._tcp.pool.";
    server.say(service, Answer::srv(&[(1, 1, 9, "one.pool."), (1, 1, 9, "two.pool.")]).ttl(3600));
    server.say("one.pool.", Answer::a(&["10.0.0.1"]).ttl(3600));
    server.say("two.pool.", Answer::no_such_name());
    let discovery = open(&server, "_sinew._tcp.pool", usual());
    let mut view = discovery.watch().await.unwrap();
    assert_eq!(addresses(&view.snapshot()), ["tcp://10.0.0.1:9"]);
    server.say("two.pool.", Answer::a(&["10.0.0.2"]).ttl(3600));
    let both = ["tcp://10.0.0.1:9", "tcp://10.0.0.2:9"];
    until(&mut view, |now| addresses(now) == both).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_changed_resolv_conf_is_followed() {
    // Its servers listen on port 53, which is root's to give.
    let (Some(first), Some(second)) = (Server::at_port_53().await, Server::at_port_53().await)
    else {
        eprintln!("not run: port 53 cannot be bound");
        return;
    };
    first.say("pool.", Answer::a(&["10.0.0.1"]).ttl(3600));
    second.say("pool.", Answer::a(&["10.0.0.2"]).ttl(3600));
    let folder = tempfile::tempdir().unwrap();
    let settings_file = folder.path().join("resolv.conf");
    let name = |server: &Server| format!("nameserver {}\n", server.address().ip());
    std::fs::write(&settings_file, name(&first)).unwrap();
    let config = DnsConfig { settings_file: settings_file.clone(), ..DnsConfig::default() };
    let discovery = DnsDiscovery::with_config("dns://pool:1", config).unwrap();
    let _for_good = discovery.want(&endpoint());
    let mut view = discovery.watch().await.unwrap();
    assert_eq!(addresses(&view.snapshot()), ["tcp://10.0.0.1:1"]);
    // One that says nothing changes nothing.
    std::fs::write(&settings_file, "").unwrap();
    let new = folder.path().join("new");
    std::fs::write(&new, name(&second)).unwrap();
    std::fs::rename(&new, &settings_file).unwrap();
    until(&mut view, |now| addresses(now) == ["tcp://10.0.0.2:1"]).await;
}
