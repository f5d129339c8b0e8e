//! `FDSPLICE_LOG`: writes the log of the core to stderr. It is off by default.

use std::io;

use napi_derive::module_init;
use tracing_subscriber::EnvFilter;

/// Runs once per process, when the addon is loaded. Without the variable, no subscriber is set, and a
/// log statement costs the load of one static.
#[module_init]
fn init() {
    let Ok(filter) = std::env::var("FDSPLICE_LOG") else {
        return;
    };
    let filter = match EnvFilter::try_new(&filter) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("fdsplice: FDSPLICE_LOG is not a filter: {error}");
            return;
        }
    };
    // This fails when the process already has a subscriber, which then receives the log.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .try_init();
}
