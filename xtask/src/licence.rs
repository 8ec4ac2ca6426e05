//! Licence expressions as crates write them (SPDX), and whether a list of licences satisfies one.

use anyhow::{Result, bail};

/// True if `expression` can be met with the licences for which `allowed` says yes.
///
/// `AND`, `OR`, `WITH` and parentheses mean what SPDX says; a `/`, as old crates write, means `OR`.
pub(crate) fn is_met(expression: &str, allowed: &dyn Fn(&str) -> bool) -> Result<bool> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Reader { words: &words, allowed };
    let met = reader.any_of();
    match (met, reader.words) {
        (Some(met), []) => Ok(met),
        _ => bail!("`{expression}` is not a licence expression"),
    }
}

/// A recursive descent over the words that are left; `None` is a syntax error.
struct Reader<'r, 'e> {
    words: &'r [&'e str],
    allowed: &'r dyn Fn(&str) -> bool,
}

impl<'e> Reader<'_, 'e> {
    fn any_of(&mut self) -> Option<bool> {
        let mut met = self.all_of()?;
        while self.take("OR") {
            // Both sides are read in any case, so that a mistake on the right is found.
            met |= self.all_of()?;
        }
        Some(met)
    }

    fn all_of(&mut self) -> Option<bool> {
        let mut met = self.one()?;
        while self.take("AND") {
            met &= self.one()?;
        }
        Some(met)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let met = self.any_of()?;
            return self.take(")").then_some(met);
        }
        let licence = self.name()?;
        if self.take("WITH") {
            let exception = self.name()?;
            return Some((self.allowed)(&format!("{licence} WITH {exception}")));
        }
        Some((self.allowed)(licence))
    }

    fn name(&mut self) -> Option<&'e str> {
        let (first, rest) = self.words.split_first()?;
        if ["AND", "OR", "WITH", "(", ")"].contains(first) {
            return None;
        }
        self.words = rest;
        Some(first)
    }

    fn take(&mut self, word: &str) -> bool {
        match self.words.split_first() {
            Some((first, rest)) if *first == word => {
                self.words = rest;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expression: &str, allowed: &[&str], expected: bool) {
        let met = is_met(expression, &|name| allowed.contains(&name)).unwrap();
        assert_eq!(met, expected, "{expression} with {allowed:?}");
    }

    #[test]
    fn one_side_of_or_and_both_sides_of_and_are_needed() {
        check("MIT", &["MIT"], true);
        check("GPL-3.0", &["MIT"], false);
        check("MIT OR GPL-3.0", &["MIT"], true);
        check("MIT AND GPL-3.0", &["MIT"], false);
        check("MIT/Apache-2.0", &["Apache-2.0"], true);
    }

    #[test]
    fn and_binds_tighter_than_or_and_parentheses_tighter_still() {
        check("MIT OR ISC AND GPL-3.0", &["MIT"], true);
        check("(MIT OR ISC) AND GPL-3.0", &["MIT"], false);
        check("ISC AND (Apache-2.0 OR ISC)", &["ISC"], true);
    }

    #[test]
    fn an_exception_is_a_licence_of_its_own() {
        check("Apache-2.0 WITH LLVM-exception", &["Apache-2.0"], false);
        check("Apache-2.0 WITH LLVM-exception", &["Apache-2.0 WITH LLVM-exception"], true);
    }

    #[test]
    fn what_is_no_expression_is_an_error() {
        for text in ["", "MIT OR", "(MIT", "MIT ISC", "AND MIT", "MIT WITH"] {
            assert!(is_met(text, &|_| true).is_err(), "{text:?}");
        }
    }
}
