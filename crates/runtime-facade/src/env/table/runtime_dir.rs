//! Settings of the folders of the user.

use std::path::{Path, PathBuf};

use crate::env::{form::Form, setting::Setting};

/// Reads the absolute path of a folder. A relative path would name another folder for each process
/// that starts in another place.
fn whole_path(text: &str) -> Result<PathBuf, String> {
    match Path::new(text).is_absolute() {
        true => Ok(text.into()),
        false => Err("is not an absolute path, so it would be another folder for each process \
                      that is started elsewhere: write it from the root on"
            .to_owned()),
    }
}

const FORM: &str = "an absolute path";

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "XDG_RUNTIME_DIR",
        Form::Text {
            form: FORM,
            set: |draft, text| {
                draft.runtime_dir.xdg = Some(whole_path(text)?);
                Ok(())
            },
        },
        "",
        "the folder in which sinew/discovery and sinew/sockets lie; without it they lie in \
         sinew-UID in the folder for temporary files",
    ),
    Setting::new(
        "TMPDIR",
        Form::Text {
            form: FORM,
            set: |draft, text| {
                draft.runtime_dir.tmp = Some(whole_path(text)?);
                Ok(())
            },
        },
        "the system's, mostly /tmp",
        "the folder for temporary files",
    ),
];
