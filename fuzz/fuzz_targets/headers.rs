//! Header blocks: no panic, and what decodes keeps every rule and is rebuilt to the same block.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sinew_plane::Headers;

fuzz_target!(|data: &[u8]| {
    let block = Bytes::copy_from_slice(data);
    let Ok(headers) = Headers::decode(block.clone()) else { return };
    assert_eq!(headers.as_block(), &block);
    let mut rebuilt = Headers::new();
    for (name, value) in headers.iter() {
        assert_eq!(headers.get(name), Some(value));
        assert!(!value.chars().any(char::is_control));
        rebuilt.insert(name, value).expect("what decodes can be set");
    }
    assert_eq!(rebuilt, headers);
});
