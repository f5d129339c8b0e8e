//! Names to addresses, by the resolver of the system, which blocks its thread.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use dns_lookup::{AddrInfoHints, LookupError, LookupErrorKind, SockType, getaddrinfo};
use tokio::sync::watch;

use super::error::ConnectError;

/// How long addresses are used again. Busy names cost one lookup in this time.
const KNOWN: Duration = Duration::from_secs(2);
/// How long a failure is used again, so that a name without an address costs no lookup per connection.
const UNKNOWN: Duration = Duration::from_secs(1);
/// How many names are kept at most.
const MAX_NAMES: usize = 1024;
/// How many lookups run at most. Further ones wait: a resolver that does not answer keeps its threads.
const MAX_THREADS: usize = 64;

/// Addresses with the port 0. The one of a link has its zone.
type Answer = Result<Arc<[SocketAddr]>, ConnectError>;
type Publish = watch::Sender<Option<Answer>>;

enum Entry {
    Pending(watch::Receiver<Option<Answer>>),
    Known(Answer, Instant),
}

#[derive(Default)]
struct Resolver {
    names: HashMap<Box<str>, Entry>,
    queue: VecDeque<(Box<str>, Publish)>,
    threads: usize,
}

static RESOLVER: LazyLock<Mutex<Resolver>> = LazyLock::new(Mutex::default);

fn lock() -> MutexGuard<'static, Resolver> {
    RESOLVER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The addresses of a name, in the order of the resolver. Callers that ask for one name at the same time
/// share a lookup, which goes on when they are dropped.
pub(super) async fn resolve(host: &str) -> Answer {
    let mut pending = match lock().find_or_start(&host.to_ascii_lowercase()) {
        Ok(answer) => return answer,
        Err(pending) => pending,
    };
    match pending.wait_for(Option::is_some).await {
        Ok(answer) => answer.clone().unwrap_or(Err(ABANDONED)),
        Err(_) => Err(ABANDONED),
    }
}

/// The thread of the lookup has ended without an answer.
const ABANDONED: ConnectError = ConnectError::Resolve { code: "EAI_FAIL" };

impl Resolver {
    fn find_or_start(&mut self, host: &str) -> Result<Answer, watch::Receiver<Option<Answer>>> {
        match self.names.get(host) {
            Some(Entry::Known(answer, until)) if Instant::now() < *until => {
                return Ok(answer.clone());
            }
            // Without a publisher the lookup was abandoned, and starts again.
            Some(Entry::Pending(pending)) if pending.has_changed().is_ok() => {
                return Err(pending.clone());
            }
            _ => {}
        }
        let (publish, pending) = watch::channel(None);
        self.queue.push_back((host.into(), publish));
        if self.threads < MAX_THREADS {
            let started = thread::Builder::new()
                .name("fdsplice-names".to_owned())
                .spawn(work);
            match started {
                Ok(_) => self.threads += 1,
                // A running thread takes the lookup when it has ended its own.
                Err(_) if self.threads > 0 => {}
                Err(error) => {
                    self.queue.pop_back();
                    return Ok(Err(ConnectError::io(&error, "clone")));
                }
            }
        }
        self.make_room();
        let entry = Entry::Pending(pending.clone());
        self.names.insert(host.into(), entry);
        Err(pending)
    }

    /// Removes names that are no longer needed when there are many.
    fn make_room(&mut self) {
        if self.names.len() < MAX_NAMES {
            return;
        }
        let now = Instant::now();
        self.names.retain(|_, entry| match entry {
            Entry::Pending(_) => true,
            Entry::Known(_, until) => now < *until,
        });
        if self.names.len() >= MAX_NAMES {
            self.names
                .retain(|_, entry| matches!(entry, Entry::Pending(_)));
        }
    }
}

/// Looks names up until none waits.
fn work() {
    let mut resolver = lock();
    while let Some((host, publish)) = resolver.queue.pop_front() {
        drop(resolver);
        let answer = look_up(&host);
        let life = if answer.is_ok() { KNOWN } else { UNKNOWN };
        resolver = lock();
        let known = Entry::Known(answer.clone(), Instant::now() + life);
        resolver.names.insert(host, known);
        publish.send_replace(Some(answer));
    }
    resolver.threads -= 1;
}

fn look_up(host: &str) -> Answer {
    let hints = AddrInfoHints {
        // Otherwise each address comes once for each type of socket.
        socktype: SockType::Stream.into(),
        ..AddrInfoHints::default()
    };
    let found = getaddrinfo(Some(host), None, Some(hints)).map_err(failure)?;
    let mut addresses = Vec::new();
    for each in found.flatten() {
        let address = each.sockaddr;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(ConnectError::Resolve { code: "ENOTFOUND" });
    }
    Ok(addresses.into())
}

fn failure(error: LookupError) -> ConnectError {
    if matches!(error.kind(), LookupErrorKind::System) {
        return ConnectError::io(&error.into(), "getaddrinfo");
    }
    let code = match error.kind() {
        // The name that Node has for both.
        LookupErrorKind::NoName | LookupErrorKind::NoData => "ENOTFOUND",
        LookupErrorKind::Again => "EAI_AGAIN",
        LookupErrorKind::Memory => "EAI_MEMORY",
        _ => "EAI_FAIL",
    };
    ConnectError::Resolve { code }
}
