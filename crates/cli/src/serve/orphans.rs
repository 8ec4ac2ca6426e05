//! Processes that others have left behind, as the first process of a container inherits them.

use std::{collections::HashSet, fs, io, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rustix::process::{Pid, WaitOptions, waitpid};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;

/// Pause between two looks: ended orphans are in nobody's way for that long, and a busy worker
/// does not look for each of its own programs.
const PAUSE: Duration = Duration::from_millis(500);

/// Our own children, which are waited for by whoever has started them.
#[derive(Debug, Default)]
pub(crate) struct Children(Mutex<HashSet<u32>>);

impl Children {
    /// Starts a child of our own and notes its number before anyone can take it for an orphan.
    pub(crate) fn start<T, E>(
        &self,
        start: impl FnOnce() -> Result<(Option<u32>, T), E>,
    ) -> Result<T, E> {
        let mut own = self.0.lock();
        let (number, child) = start()?;
        own.extend(number);
        Ok(child)
    }

    /// Somebody has waited for it.
    pub(crate) fn ended(&self, number: u32) {
        self.0.lock().remove(&number);
    }

    /// Collects the children that have ended and are not our own.
    fn reap(&self) {
        // Held throughout: no child of our own is started meanwhile.
        let own = self.0.lock();
        let me = std::process::id();
        let Ok(entries) = fs::read_dir("/proc") else { return };
        let numbers =
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        for number in numbers.filter(|number| !own.contains(number)) {
            let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            if !is_ended_child(&stat, me) {
                continue;
            }
            if let Some(pid) = i32::try_from(number).ok().and_then(Pid::from_raw) {
                let _ = waitpid(Some(pid), WaitOptions::NOHANG);
                tracing::debug!(number, "an orphan has ended");
            }
        }
    }
}

/// Reads `NUMBER (NAME) STATE PARENT ...`; a name may hold anything.
fn is_ended_child(stat: &str, parent: u32) -> bool {
    let Some((_, rest)) = stat.rsplit_once(')') else { return false };
    let mut words = rest.split_ascii_whitespace();
    words.next() == Some("Z") && words.next().and_then(|it| it.parse().ok()) == Some(parent)
}

/// True for a process that inherits orphans: the first one of a container.
pub(crate) fn inherits_orphans() -> bool {
    std::process::id() == 1
}

/// Collects orphans in a task, until it is dropped.
pub(crate) fn collect(children: Arc<Children>) -> io::Result<AbortOnDropHandle<()>> {
    let mut ended = signal(SignalKind::child())?;
    let work = async move {
        while ended.recv().await.is_some() {
            children.reap();
            tokio::time::sleep(PAUSE).await;
        }
    };
    Ok(AbortOnDropHandle::new(tokio::spawn(work)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ended_children_are_orphans_of_ours() {
        assert!(is_ended_child("7 (sh) Z 1 7 7 0", 1));
        assert!(is_ended_child("7 (a) S 9 (b) Z 1 7", 1), "a name may look like anything");
        for stat in ["7 (sh) S 1 7", "7 (sh) Z 2 7", "7 (Z) R 1", "", "7 sh Z 1", "7 (sh) Z"] {
            assert!(!is_ended_child(stat, 1), "{stat}");
        }
    }
}
