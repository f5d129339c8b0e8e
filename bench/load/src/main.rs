//! Load for relays on loopback, the same for every relay that is measured.
//!
//! `fdsplice-load origin` is the server behind the relay, `fdsplice-load run` the client in front of it. Every byte count
//! is checked at both ends: a relay that loses, adds or truncates anything fails the run instead of looking fast.

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
    /// Make connections, do one work over them, print its figures as one line of JSON
    Run(run::Options),
    /// Make, check or evict the files that `run --work files` asks for
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
