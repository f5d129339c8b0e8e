//! Starts the peer, sends commands to it and receives its answers.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Lines, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};

/// A running peer. Dropping it ends the process.
pub(crate) struct Driver {
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    last: u64,
    early: HashMap<u64, Value>,
}

impl Driver {
    pub(crate) fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_fdsplice-testpeer"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the peer starts");
        let stdin = child.stdin.take().expect("stdin is piped");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        Self {
            child,
            stdin,
            stdout,
            last: 0,
            early: HashMap::new(),
        }
    }

    /// Sends a command without waiting. Returns its number, which `answer` takes.
    pub(crate) fn send(&mut self, mut command: Value) -> u64 {
        self.last += 1;
        command["id"] = self.last.into();
        writeln!(self.stdin, "{command}").expect("the peer reads commands");
        self.last
    }

    /// Waits for the answer to one command. Other answers may arrive before it.
    pub(crate) fn answer(&mut self, id: u64) -> Value {
        if let Some(value) = self.early.remove(&id) {
            return value;
        }
        loop {
            let line = self
                .stdout
                .next()
                .expect("the peer is alive")
                .expect("the peer writes text");
            let value: Value = serde_json::from_str(&line).expect("the peer writes JSON");
            let number = value["id"].as_u64().expect("an answer has an id");
            if number == id {
                return value;
            }
            self.early.insert(number, value);
        }
    }

    /// Sends a command and waits for its answer.
    pub(crate) fn request(&mut self, command: Value) -> Value {
        let id = self.send(command);
        self.answer(id)
    }

    /// Two ends of one TCP connection inside the peer.
    pub(crate) fn pair(&mut self) -> (u64, u64) {
        let listening = self.request(json!({ "op": "listen", "port": 0 }));
        let connected = self.request(json!({ "op": "connect", "port": listening["port"] }));
        let accepted = self.request(json!({ "op": "accept", "listener": listening["listener"] }));
        (number(&connected, "conn"), number(&accepted, "conn"))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // This fails when the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn number(answer: &Value, field: &str) -> u64 {
    answer[field]
        .as_u64()
        .unwrap_or_else(|| panic!("no {field} in {answer}"))
}
