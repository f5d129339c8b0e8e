//! A minimal HTTP file server: files stay open, and a response is a header and sendfile(2).

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
};

use clap::Parser;
use rustix::{
    fs::sendfile,
    net::{SendFlags, send},
};

#[derive(Parser)]
struct Options {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    directory: PathBuf,
}

fn main() -> io::Result<()> {
    let Options { listen, directory } = Options::parse();
    fdsplice_bench_peers::bare::accept(listen, directory, serve)
}

fn serve(client: TcpStream, directory: PathBuf) -> io::Result<()> {
    let mut requests = BufReader::new(&client);
    let mut files = HashMap::new();
    while let Some(path) = next(&mut requests)? {
        if !files.contains_key(&path) {
            let file = File::open(directory.join(path.trim_start_matches('/')))?;
            let size = file.metadata()?.len();
            files.insert(path.clone(), (file, size));
        }
        let (file, size) = &files[&path];
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
        // The send queue is empty or draining, so a few dozen bytes fit at once.
        send(
            &client,
            head.as_bytes(),
            SendFlags::MORE | SendFlags::NOSIGNAL,
        )?;
        let mut position = 0;
        while position < *size {
            let left = usize::try_from(size - position).map_err(io::Error::other)?;
            if sendfile(&client, file, Some(&mut position), left)? == 0 {
                return Err(io::Error::other("the file has become shorter"));
            }
        }
    }
    Ok(())
}

/// The path of the next request; `None` at the end.
fn next(requests: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    if requests.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    while line.trim_end() != "" {
        line.clear();
        requests.read_line(&mut line)?;
    }
    Ok(Some(path))
}
