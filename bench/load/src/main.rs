//! The load generator of the benchmark: the same traffic on loopback for every relay.
//!
//! `fdsplice-load origin` is the server behind the relay, `fdsplice-load run` the client in front of it. Both ends check
//! every byte count: a relay that loses, adds or truncates anything fails the run instead of looking fast.

#[cfg(not(target_os = "linux"))]
compile_error!("fdsplice-load needs Linux");
#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
mod content;
#[cfg(target_os = "linux")]
mod latency;
#[cfg(target_os = "linux")]
mod origin;
#[cfg(target_os = "linux")]
mod request;
#[cfg(target_os = "linux")]
mod resets;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod shards;
#[cfg(target_os = "linux")]
mod wire;
#[cfg(target_os = "linux")]
mod work;

#[cfg(target_os = "linux")]
use std::process::ExitCode;

#[cfg(target_os = "linux")]
use clap::Parser;

#[cfg(target_os = "linux")]
#[derive(Parser)]
#[command(about, version)]
enum Command {
    /// Serve connections: the end behind the relay
    Origin(origin::Options),
    /// Connect, run one work, print its figures as one line of JSON
    Run(run::Options),
    /// Make, check or evict the files for `run --work files`
    Files(content::Options),
}

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    let outcome = match Command::parse() {
        Command::Origin(options) => origin::serve(&options),
        Command::Run(options) => run::run(&options),
        Command::Files(options) => content::perform(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fdsplice-load: {error}");
            ExitCode::FAILURE
        }
    }
}
