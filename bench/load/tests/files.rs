//! The load against HTTP servers that are correct, and against ones that are not.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_fdsplice-load");
const SIZE: usize = 300_000;

/// Makes three files in a directory of this name.
fn files(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&directory);
    assert!(perform("make", &directory).status.success());
    directory
}

fn perform(action: &str, directory: &Path) -> Output {
    Command::new(PROGRAM)
        .args(["files", action, "--files", "3", "--size", &SIZE.to_string()])
        .arg("--directory")
        .arg(directory)
        .output()
        .unwrap()
}

fn run(target: SocketAddr, args: &str) -> Output {
    Command::new(PROGRAM)
        .args(["run", "--timeout", "60", "--target", &target.to_string()])
        .args(["--work", "files", "--size", &SIZE.to_string()])
        .args(args.split(' '))
        .output()
        .unwrap()
}

type Respond = fn(&mut TcpStream, Vec<u8>) -> std::io::Result<()>;

fn respond(stream: &mut TcpStream, body: &[u8]) -> std::io::Result<()> {
    let length = body.len();
    stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").as_bytes())?;
    stream.write_all(body)
}

fn serve(directory: PathBuf, answer: Respond) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, directory) = (client.unwrap(), directory.clone());
            thread::spawn(move || {
                let mut requests = BufReader::new(client.try_clone().unwrap()).lines();
                while let Some(Ok(line)) = requests.next() {
                    let path = line.split(' ').nth(1).unwrap_or_default();
                    let file = path.strip_prefix("/some/").unwrap_or("no such file");
                    let Ok(body) = fs::read(directory.join(file)) else {
                        client
                            .write_all(b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n")
                            .unwrap();
                        return;
                    };
                    requests
                        .by_ref()
                        .find(|line| line.as_ref().is_ok_and(String::is_empty));
                    // The load disconnects at the first error.
                    if answer(&mut client, body).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[test]
fn every_response_is_a_whole_file_and_counted() {
    let server = serve(files("faithful"), |stream, body| respond(stream, &body));
    let Output {
        status,
        stdout,
        stderr,
    } = run(
        server,
        "--connections 3 --threads 2 --files 3 --path /some/ --round-trips 10",
    );
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    let result: Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!(result["count"], 10);
    assert_eq!(result["bytes"], 10 * SIZE);
}

#[test]
fn a_server_that_sends_anything_else_fails_the_run() {
    let cases: [(&str, &str, Respond, &str); 5] = [
        (
            "missing",
            "--path /none",
            |stream, body| respond(stream, &body),
            "status Some(404)",
        ),
        (
            "short",
            "--path /some",
            |stream, body| respond(stream, &body[1..]),
            "content length of Some(299999)",
        ),
        (
            "flipped",
            "--path /some",
            |stream, mut body| {
                body[200_000] ^= 1;
                respond(stream, &body)
            },
            "a wrong byte in the page at",
        ),
        (
            "longer",
            "--path /some",
            |stream, mut body| {
                let length = body.len();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                body.push(0);
                stream.write_all(head.as_bytes())?;
                stream.write_all(&body)
            },
            "more than 300000 bytes",
        ),
        (
            "cut-off",
            "--path /some",
            |stream, body| {
                let length = body.len();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                stream.write_all(head.as_bytes())?;
                stream.write_all(&body[..1000])?;
                stream.shutdown(std::net::Shutdown::Both)
            },
            "an end after 1000 of 300000 bytes",
        ),
    ];
    for (name, path, answer, complaint) in cases {
        let server = serve(files(name), answer);
        let Output { status, stderr, .. } = run(server, &format!("{path} --round-trips 1"));
        let message = String::from_utf8_lossy(&stderr);
        assert!(!status.success(), "{name}");
        assert!(message.contains(complaint), "{name}: {message}");
    }
}

#[test]
fn a_copy_that_is_not_equal_is_found() {
    let directory = files("copies");
    assert!(perform("check", &directory).status.success());
    assert!(perform("evict", &directory).status.success());
    assert!(perform("check", &directory).status.success());
    fs::copy(directory.join("0"), directory.join("2")).unwrap();
    let Output { status, stderr, .. } = perform("check", &directory);
    let message = String::from_utf8_lossy(&stderr);
    assert!(!status.success());
    assert!(
        message.contains("a wrong byte in the page at 0"),
        "{message}"
    );
}
