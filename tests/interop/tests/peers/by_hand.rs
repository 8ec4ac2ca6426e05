//! A stock worker as discovery sees it: a file in the store, written here and kept alive.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde_json::json;
use tokio::task::JoinHandle;

use crate::place::Place;

/// Both kinds of peer take an entry for dead that was not touched for ten seconds.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// An entry, there until it is dropped.
pub(crate) struct Entry {
    file: PathBuf,
    heart: JoinHandle<()>,
}

impl Entry {
    /// Says that instance `id` of the endpoint listens at `host`, in JSON.
    pub(crate) fn write(place: &Place, id: u64, host: &str) -> Self {
        let name = &place.endpoint;
        let value = json!({
            "type": "Endpoint",
            "component": name.component(), "endpoint": name.endpoint(),
            "namespace": name.namespace(), "instance_id": id,
            "transport": { "tcp": format!("{host}/{id:x}/{name}") },
            "request_plane_codec": "json",
        });
        let folder = place.folder.path().join("v1/instances");
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join(file_name(&format!("{name}/{id:x}")));
        // Under another name first: nobody may see half of it.
        let draft = folder.join(format!(".tmp_{id:016x}"));
        fs::write(&draft, value.to_string()).unwrap();
        fs::rename(&draft, &file).unwrap();
        let heart = tokio::spawn(beat(file.clone()));
        Self { file, heart }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.heart.abort();
        // Somebody may have removed it before.
        let _ = fs::remove_file(&self.file);
    }
}

/// A key with everything escaped that is neither letter nor digit.
fn file_name(key: &str) -> String {
    let escaped = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    key.bytes().map(escaped).collect()
}

async fn beat(file: PathBuf) {
    let mut beats = tokio::time::interval(HEARTBEAT);
    loop {
        beats.tick().await;
        touch(&file);
    }
}

fn touch(file: &Path) {
    if let Ok(file) = File::options().write(true).open(file) {
        // It fails when the file is gone, and then there is nothing to keep alive.
        let _ = file.set_modified(SystemTime::now());
    }
}
