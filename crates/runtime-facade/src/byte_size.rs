//! Amounts of memory as people write them.

use std::{fmt, str::FromStr};

/// A number of bytes, written as a number with a unit or without one: `33554432`, `32MiB`, `2G`. K,
/// M, G and T count in 1024, with or without a following `iB` or `B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub usize);

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "must be a number of bytes, with or without a unit: 64MiB, 2G";
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = unit.trim().to_ascii_lowercase();
        let shift = match unit.trim_end_matches('b').trim_end_matches('i') {
            "" => 0,
            "k" => 10,
            "m" => 20,
            "g" => 30,
            "t" => 40,
            _ => return Err(FORM.to_owned()),
        };
        let number: usize = number.parse().map_err(|_| FORM.to_owned())?;
        let bytes = number.checked_mul(1 << shift).ok_or("is too large")?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        let whole = |shift: &u32| self.0 > 0 && self.0.trailing_zeros() >= *shift;
        match units.iter().find(|(shift, _)| whole(shift)) {
            Some((shift, unit)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_and_written() {
        for (text, bytes, shown) in [
            ("0", 0, "0"),
            ("1000", 1000, "1000"),
            ("64KiB", 64 << 10, "64KiB"),
            ("32MiB", 32 << 20, "32MiB"),
            ("32m", 32 << 20, "32MiB"),
            ("2 GB", 2 << 30, "2GiB"),
            ("1t", 1 << 40, "1TiB"),
            ("1536M", 1536 << 20, "1536MiB"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, shown), "{text}");
        }
        for bad in ["", "MiB", "-1", "1.5G", "1x", "99999999999999999999", "99999999999T"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }
}
