//! The load generator of the benchmark: the same traffic on loopback for every relay.
//!
//! `fdsplice-load origin` is the server behind the relay, `fdsplice-load run` the client in front of it. Both ends check
//! every byte count: a relay that loses, adds or truncates anything fails the run instead of looking fast.

mod content;
mod latency;
mod origin;
mod request;
mod run;
mod shards;
mod wire;
mod work;

use std::process::ExitCode;

use clap::Parser;

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
