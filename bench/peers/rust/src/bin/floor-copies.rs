//! Copies files by copy_file_range(2) in a loop. Each line of input is a number of files; the answer follows their copies.

use std::{
    fs::File,
    io::{self, BufRead},
    path::{Path, PathBuf},
};

use clap::Parser;
use rustix::fs::copy_file_range;

#[derive(Parser)]
struct Options {
    #[arg(long)]
    from: PathBuf,
    #[arg(long)]
    to: PathBuf,
}

fn main() -> io::Result<()> {
    let Options { from, to } = Options::parse();
    println!("ready");
    for line in io::stdin().lock().lines() {
        let count: usize = line?.parse().map_err(io::Error::other)?;
        for index in 0..count {
            copy(&from.join(index.to_string()), &to.join(index.to_string()))?;
        }
        println!("done");
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (File::open(from)?, File::create(to)?);
    while copy_file_range(&from, None, &to, None, 1 << 30)? > 0 {}
    Ok(())
}
