//! Who is meant by which text.

use super::*;

#[test]
fn texts_name_users() {
    let own = own_user();
    for (text, strangers, is_own) in [
        ("own", false, true),
        ("any", true, false),
        ("54321", true, false),
        (" 0, 54321 ", true, false),
    ] {
        let owners: Owners = text.parse().unwrap();
        assert!(owners.include(own) && owners.include(0), "{text}");
        assert_eq!((owners.include(STRANGER), owners.are_own()), (strangers, is_own), "{text}");
    }
    assert!("0".parse::<Owners>().unwrap().are_own());
    assert_eq!("1,2".parse::<Owners>().unwrap().to_string(), "1,2");
    let many = vec!["1"; 65].join(",");
    for bad in ["", "root", "-1", "1,,2", "4294967295", "4294967296", "Any", &many] {
        assert!(bad.parse::<Owners>().is_err(), "{bad}");
    }
}
