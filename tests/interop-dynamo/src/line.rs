//! One JSON value per line on standard output, whole and flushed.

use std::io::Write;

use serde_json::Value;

/// Prints `value`. Ends the process when nobody reads any more: there is no test left to serve.
pub fn print(value: &Value) {
    let mut line = value.to_string();
    line.push('\n');
    let mut out = std::io::stdout().lock();
    if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}
