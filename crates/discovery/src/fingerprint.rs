//! A number for a text that is the same in every process, build and version.

/// FNV-1a, 64 bits, over the parts in order; never zero, so that it can serve as an id. The
/// standard library's hasher promises no stable result, and nobody gains from a collision here.
pub(crate) fn fingerprint(parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        // 0xff never occurs in UTF-8, so ("ab", "c") and ("a", "bc") differ.
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash.max(1)
}

#[cfg(test)]
mod tests {
    use super::fingerprint;

    #[test]
    fn parts_do_not_run_together_and_results_are_fixed() {
        assert_ne!(fingerprint(&["ab", "c"]), fingerprint(&["a", "bc"]));
        // Fixed: an id derived by one version must be the one derived by the next.
        assert_eq!(fingerprint(&["tcp://127.0.0.1:9001"]), 0x8410_770e_bded_476c);
    }
}
