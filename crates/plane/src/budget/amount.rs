//! How much memory a process may use: what its control groups or the machine allow.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where the kernel shows control groups of either version.
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// Largest value of `memory.limit_in_bytes` that means something: version 1 says no limit with the
/// largest multiple of the page size that fits into 63 bits.
const LARGEST_LIMIT: u64 = 1 << 60;

/// The memory that this process may use, in bytes: the smallest limit of its control groups
/// (version 1 or 2) and their parents, or else the memory of the machine. `None` if neither can be
/// read.
pub fn available_memory() -> Option<usize> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let bytes = available(&read)?;
    Some(usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// The same over files that `read` knows.
fn available(read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| machine_memory(&text));
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().filter_map(|line| group_limit(line, read));
    limits.chain(machine).min()
}

/// `MemTotal:   16303412 kB`
fn machine_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The smallest limit of one line of `/proc/self/cgroup`, `ID:CONTROLLERS:PATH`.
fn group_limit(line: &str, read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let (root, file) = if controllers.is_empty() {
        (PathBuf::from(CGROUP_ROOT), "memory.max")
    } else if controllers.split(',').any(|one| one == "memory") {
        (Path::new(CGROUP_ROOT).join("memory"), "memory.limit_in_bytes")
    } else {
        return None;
    };
    // Within a container the path may be that of the host, of which only the root is seen.
    let own = root.join(path.trim_start_matches('/'));
    let folders = own.ancestors().take_while(|folder| folder.starts_with(&root));
    folders.filter_map(|folder| limit(&read(&folder.join(file))?)).min()
}

/// A limit as the file has it; `None` for none.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes < LARGEST_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: (&str, &str) = ("/proc/meminfo", "MemTotal:  16777216 kB\nMemFree: 1 kB\n");
    const GIB: u64 = 1 << 30;

    fn found(files: &[(&str, &str)]) -> Option<u64> {
        available(&|path| {
            let text = files.iter().find(|(name, _)| Path::new(name) == path)?.1;
            Some(text.to_owned())
        })
    }

    #[test]
    fn the_machine_counts_where_no_group_limits() {
        assert_eq!(found(&[MACHINE]), Some(16 * GIB));
        let group = ("/proc/self/cgroup", "0::/user.slice\n");
        let open = ("/sys/fs/cgroup/user.slice/memory.max", "max\n");
        assert_eq!(found(&[MACHINE, group, open]), Some(16 * GIB));
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn the_smallest_of_nested_groups_counts_in_version_2() {
        let group = ("/proc/self/cgroup", "0::/outer/inner\n");
        let inner = ("/sys/fs/cgroup/outer/inner/memory.max", "max\n");
        let outer = ("/sys/fs/cgroup/outer/memory.max", "1073741824\n");
        assert_eq!(found(&[MACHINE, group, inner, outer]), Some(GIB));
        let inner = ("/sys/fs/cgroup/outer/inner/memory.max", "536870912\n");
        assert_eq!(found(&[MACHINE, group, inner, outer]), Some(GIB / 2));
    }

    #[test]
    fn in_a_container_the_root_is_its_own_group() {
        let group = ("/proc/self/cgroup", "0::/kubepods/pod1/abc\n");
        let root = ("/sys/fs/cgroup/memory.max", "268435456\n");
        assert_eq!(found(&[MACHINE, group, root]), Some(GIB / 4));
    }

    #[test]
    fn version_1_has_its_own_file_and_a_number_for_no_limit() {
        let groups = ("/proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/docker/abc\n0::/x\n");
        let own = ("/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "2147483648\n");
        assert_eq!(found(&[MACHINE, groups, own]), Some(2 * GIB));
        let none = ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(found(&[MACHINE, groups, none]), Some(16 * GIB));
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(available_memory().is_none_or(|bytes| bytes > 1 << 20));
    }
}
