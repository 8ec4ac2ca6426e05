//! An id of the machine, which tells whether two processes can share sockets and process ids.

use std::{fs, sync::OnceLock};

use crate::fingerprint::fingerprint;

/// An id of the machine that this process runs on, which two processes can compare; `None` if the
/// system does not provide it (`/proc` is not mounted, or this is not Linux).
///
/// Two fingerprints, `machine-namespaces`: the first is of the kernel's boot id, the second of the
/// mount and process-id namespaces. Two equal ids mean the same boot of the same machine, the same
/// file system tree and the same process ids, so a Unix socket path and a process id have the same
/// meaning in both processes. Containers of one machine differ in the second half. The id changes
/// when the machine boots, and is read once per process. It proves nothing about a peer on the
/// network: transports verify their peers themselves.
pub fn host_id() -> Option<String> {
    static HOST: OnceLock<Option<String>> = OnceLock::new();
    HOST.get_or_init(read).clone()
}

fn read() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let mounts = fs::read_link("/proc/self/ns/mnt").ok()?;
    let processes = fs::read_link("/proc/self/ns/pid").ok()?;
    let machine = fingerprint(&[boot.trim()]);
    let namespaces = fingerprint(&[mounts.to_str()?, processes.to_str()?]);
    Some(format!("{machine:016x}-{namespaces:016x}"))
}

/// True when two host ids are known to be of different machines, not only of different containers.
pub(crate) fn are_different_machines(one: &str, other: &str) -> bool {
    one.split('-').next() != other.split('-').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_of_one_machine_are_not_different_machines() {
        assert!(!are_different_machines("aa-11", "aa-22"));
        assert!(are_different_machines("aa-11", "bb-11"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_child_process_is_on_the_same_host() {
        let links = ["/proc/self/ns/mnt", "/proc/self/ns/pid"];
        let child = std::process::Command::new("readlink").args(links).output().unwrap();
        let child = String::from_utf8(child.stdout).unwrap();
        let seen: Vec<&str> = child.lines().collect();
        let ours = host_id().unwrap();
        let expected = format!("{:016x}", fingerprint(&seen));
        assert_eq!(ours.split('-').nth(1), Some(expected.as_str()));
    }
}
