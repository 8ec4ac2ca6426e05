//! How many files the process may open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// No more than this is asked for: enough for all connections that a server takes, and programs
/// inherit it.
const MOST: u64 = 65_536;

/// Raises the soft limit to the hard one. The usual soft limit, 1,024, is there for programs that
/// cannot use more.
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let Some(raised) = raised(limit.current, limit.maximum) else { return };
    let wanted = Rlimit { current: Some(raised), maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::debug!(%error, raised, "the limit of open files stays as it is");
    }
}

/// The new soft limit, if it is to be another.
fn raised(soft: Option<u64>, hard: Option<u64>) -> Option<u64> {
    let most = hard.unwrap_or(MOST).min(MOST);
    (soft? < most).then_some(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_goes_up_and_never_down() {
        assert_eq!(raised(Some(1_024), Some(1_048_576)), Some(MOST));
        assert_eq!(raised(Some(1_024), Some(4_096)), Some(4_096));
        assert_eq!(raised(Some(256), Some(256)), None);
        assert_eq!(raised(Some(1_000_000), None), None);
        assert_eq!(raised(None, None), None, "there is no limit");
    }
}
