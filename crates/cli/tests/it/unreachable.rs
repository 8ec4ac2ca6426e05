//! Who is announced and cannot be called, and names that lead to nobody.

use std::{fs, io::BufRead, net::UdpSocket, thread};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::world::{Running, World, assert_code, stderr, stdout};

/// Announces `text/words/split` in the folder `kv`, as the worker of another machine would.
fn announce(world: &World, id: u64, addresses: &[&str]) {
    let records = world.path("kv/v1/instances");
    fs::create_dir_all(&records).unwrap();
    let record = json!({
        "type": "Endpoint", "namespace": "text", "component": "words", "endpoint": "split",
        "instance_id": id, "transport": { "tcp": "127.0.0.1:9000/2a/text/words/split" },
        "sinew": {
            "v": 1, "incarnation": "1", "addresses": addresses, "codecs": ["raw"], "process": "7",
            "host": "00000000000000aa-00000000000000bb",
        },
    });
    fs::write(records.join(format!("text%2Fwords%2Fsplit%2F{id:x}")), record.to_string()).unwrap();
}

#[test]
fn loopback_of_another_machine_is_listed_with_the_reason() {
    let world = World::new();
    announce(&world, 0x2a, &["tcp://127.0.0.1:9000", "unix:///run/a.sock"]);
    let here = ["--discovery", "file:kv"];
    let table = stdout(&world.run([&here[..], &["ls"]].concat()));
    let reason = "not reachable from here: loopback of another machine";
    assert!(table.contains(&format!("tcp://127.0.0.1:9000 ({reason})")), "{table}");
    assert!(table.contains("unix:///run/a.sock (not reachable from here: a socket"), "{table}");

    let list = stdout(&world.run([&here[..], &["ls", "--json"]].concat()));
    let list: Vec<Value> = serde_json::from_str(&list).unwrap();
    assert_eq!(list[0]["addresses"], json!([]));
    assert_eq!(list[0]["unreachable"][0]["address"], "tcp://127.0.0.1:9000");
    assert_eq!(list[0]["unreachable"][0]["reason"], "loopback of another machine");

    let watch = world.sinew([&here[..], &["ls", "--watch"]].concat());
    let (watch, mut lines) = Running::start_reading(watch);
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert!(line.starts_with("+ text/words/split 2a ") && line.contains(reason), "{line}");
    watch.signal(Signal::INT);
    assert_code(&watch.finish(), 0);
}

#[test]
fn a_call_says_who_is_there_and_why_it_does_not_reach_them() {
    let world = World::new();
    announce(&world, 0x2a, &["tcp://127.0.0.1:9000"]);
    let call = ["--discovery", "file:kv", "call", "text/words/split", "--data", "x"];
    for more in [&["--wait", "0s"][..], &["--wait", "0s", "--instance", "2a"]] {
        let output = world.run([&call[..], more].concat());
        assert_code(&output, 6);
        let said = stderr(&output);
        let there = "2a at tcp://127.0.0.1:9000, which is loopback of another machine";
        assert!(said.contains(there) && said.contains("file:kv"), "{said}");
        assert!(said.contains("--advertise") && said.contains("nothing ran"), "{said}");
        assert!(!said.contains("No instances found"), "{said}");
    }
    // One that is within reach is called, whoever else is announced.
    let _server = world.serve(["--discovery", "file:kv", "text/words/split", "--", "cat"]);
    for _ in 0..4 {
        let output = world.run(call);
        assert_code(&output, 0);
        assert_eq!(stdout(&output), "x");
    }
}

/// A name server that says of every name that it does not exist.
fn nothing_exists() -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    // Ends with the process of the tests.
    thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, asker)) = socket.recv_from(&mut packet) {
            // An answer, with the code NXDOMAIN, to the same question.
            (packet[2], packet[3]) = (packet[2] | 0x80, 0x83);
            (packet[10], packet[11]) = (0, 0);
            let question = packet[12..length].iter().position(|byte| *byte == 0).unwrap();
            let _ = socket.send_to(&packet[..12 + question + 5], asker);
        }
    });
    format!("dns://nosuch.pool:9000?server={address}")
}

#[test]
fn a_name_that_does_not_exist_is_named_with_what_dns_said() {
    let world = World::new();
    let place = nothing_exists();
    let call = world.run(["--discovery", &place, "call", "a/b/c", "--data", "x", "--wait", "0s"]);
    assert_code(&call, 4);
    let list = world.run(["--discovery", &place, "ls", "a/b/c"]);
    assert_code(&list, 0);
    let json = world.run(["--discovery", &place, "ls", "a/b/c", "--json"]);
    assert_eq!(stdout(&json), "[]\n");
    for output in [&call, &list] {
        let said = stderr(output);
        // A worker with this discovery could not announce itself.
        assert!(said.contains("sinew serve a/b/c --listen IP:PORT"), "{said}");
        assert!(said.contains("none can announce itself there"), "{said}");
    }
    for output in [call, list, json] {
        let said = stderr(&output);
        assert!(said.contains("nosuch.pool does not exist (NXDOMAIN)"), "{said}");
        assert!(said.contains("the server 127.0.0.1:"), "{said}");
    }
}
