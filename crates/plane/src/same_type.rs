//! Converts a value to a generic type that is the same type.

use std::any::Any;

/// Returns the value as a `B` if `A` and `B` are the same type, which generic code cannot express.
/// Does not copy or allocate.
///
/// # Errors
/// The value itself, if the types differ.
#[inline]
pub fn same_type<A: 'static, B: 'static>(value: A) -> Result<B, A> {
    let mut value = Some(value);
    let same = (&mut value as &mut dyn Any).downcast_mut::<Option<B>>();
    if let Some(same) = same.and_then(Option::take) {
        return Ok(same);
    }
    #[expect(clippy::expect_used, reason = "only a `B` is taken out, and is returned above")]
    Err(value.expect("a value that was not taken"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_its_own_type_and_no_other() {
        assert_eq!(same_type::<String, String>("a".into()), Ok("a".to_owned()));
        assert_eq!(same_type::<String, u32>("a".into()), Err("a".to_owned()));
    }
}
