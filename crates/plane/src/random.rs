//! Random numbers, from one place that a simulation can set.
//!
//! All ids, jitter and random choices come from here, so a simulation that sets the source and runs
//! its tasks in one order can be repeated with its seed. Do not use these numbers for secrets:
//! tokens come from the operating system.
//!
//! ```
//! use sinew_plane::random;
//!
//! assert!((0.0..1.0).contains(&random::fraction()));
//! let mut random = random::generator();
//! assert!((1..=6).contains(&random.u8(1..=6)));
//! ```

use std::sync::OnceLock;

pub use fastrand::Rng;

static SOURCE: OnceLock<fn() -> u64> = OnceLock::new();

/// Sets the source of random numbers for the whole process. For simulations, before any number is
/// drawn. False if a source is set already; that one stays.
pub fn set_source(source: fn() -> u64) -> bool {
    SOURCE.set(source).is_ok()
}

/// Returns 64 random bits: from the source of the simulation if there is one, else from the
/// generator of the thread.
pub fn u64() -> u64 {
    match SOURCE.get() {
        Some(source) => source(),
        // tidy-allow: random, this is where all others draw
        None => fastrand::u64(..),
    }
}

/// 64 random bits that are not all zero.
pub fn non_zero_u64() -> u64 {
    loop {
        match u64() {
            0 => {}
            drawn => return drawn,
        }
    }
}

/// 128 random bits that are not all zero.
pub fn non_zero_u128() -> u128 {
    loop {
        match u128::from(u64()) << 64 | u128::from(u64()) {
            0 => {}
            drawn => return drawn,
        }
    }
}

/// A number from 0 (included) to 1 (excluded), drawn evenly.
pub fn fraction() -> f64 {
    generator().f64()
}

/// Makes a generator for many draws, with a random seed.
pub fn generator() -> Rng {
    Rng::with_seed(u64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_differ_and_fractions_fill_their_range() {
        assert_ne!(u64(), u64());
        assert_ne!(non_zero_u128(), non_zero_u128());
        assert_ne!(generator().u64(..), generator().u64(..));
        let low = (0..400).filter(|_| fraction() < 0.5).count();
        assert!((120..280).contains(&low), "{low} of 400 below the middle");
    }
}
