//! What a run has other than the standard: the size of items, and how many ask at once.

use clap::Args;

/// Size of the items of streams, passes and paced streams, unless another is asked for: a token
/// with its metadata.
pub(crate) const ITEM_BYTES: u32 = 64;

/// Size of a small request and of its answer, unless another is asked for.
pub(crate) const BODY_BYTES: u32 = 128;

/// Beyond these are large bodies, which have workloads of their own.
const MOST_BYTES: i64 = 64 << 10;

/// As many as there are requests that a common peer takes at once on one connection.
const MOST_CALLERS: i64 = 1_000;

/// Options that let somebody see whether the order of the peers holds elsewhere too.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct Variation {
    /// Size of all items, and of the bodies of unary calls; large bodies stay at 1 MiB
    /// [default: items of 64, bodies of 128]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MOST_BYTES))]
    item_bytes: Option<u32>,
    /// Callers of the workloads unary-N and stream-N, which are named after them
    /// [default: 1,16,64,256 and 1,16,64]
    #[arg(long, value_name = "N,..", value_delimiter = ',')]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=MOST_CALLERS))]
    callers: Vec<u32>,
}

impl Variation {
    /// Bytes of an item of a stream.
    pub(crate) fn item_bytes(&self) -> u32 {
        self.item_bytes.unwrap_or(ITEM_BYTES)
    }

    /// Bytes of the request and of the answer of a unary call.
    pub(crate) fn body_bytes(&self) -> u32 {
        self.item_bytes.unwrap_or(BODY_BYTES)
    }

    /// How many ask at once, in ascending order; `standard` unless something else was asked for.
    pub(crate) fn callers(&self, standard: &[usize]) -> Vec<usize> {
        if self.callers.is_empty() {
            return standard.to_owned();
        }
        let mut callers: Vec<_> = self.callers.iter().map(|callers| *callers as usize).collect();
        callers.sort_unstable();
        callers.dedup();
        callers
    }

    /// What to type for it.
    pub(crate) fn options(&self) -> Vec<String> {
        let item_bytes = self.item_bytes.map(|bytes| format!("--item-bytes {bytes}"));
        let callers: Vec<_> = self.callers.iter().map(u32::to_string).collect();
        let callers = (!callers.is_empty()).then(|| format!("--callers {}", callers.join(",")));
        item_bytes.into_iter().chain(callers).collect()
    }
}
