//! The life of one connection: it is routed, connected and relayed by one task.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fdsplice::{Reason, Side, TransferError, relay};
use rustix::io::Errno;
use rustix::net::getsockname;
use tokio::time::timeout;

use crate::address::Address;
use crate::connect::{self, ConnectError, Connected, Progress};
use crate::incoming::{Decision, Incoming};
use crate::live::Live;
use crate::race::{First, race};
use crate::record::{ConnectionError, Event, Refusal};
use crate::route::Route;
use crate::server::Shared;
use crate::socket::Socket;
use crate::target::TargetAddress;

/// Why a connection ended before its relay.
enum Stop {
    Refused(Refusal, Option<ConnectError>),
    Failed(TransferError),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal, None)
    }
}

impl From<ConnectError> for Stop {
    fn from(error: ConnectError) -> Self {
        Self::Refused(Refusal::Connect, Some(error))
    }
}

fn failed(errno: Errno, syscall: &'static str, side: Side) -> Stop {
    Stop::Failed(TransferError::system(errno, syscall, side))
}

/// A connection in the accounts of its server. Dropping it without [`Running::end`], because its worker
/// ends or its task has panicked, counts it as aborted.
pub(crate) struct Running {
    shared: Arc<Shared>,
    worker: usize,
    live: Arc<Live>,
    connect_time: Duration,
    has_ended: bool,
}

/// Serves one connection. Arguments are dropped from the last to the first, so the socket is closed before
/// the end is reported.
pub(crate) async fn serve(mut running: Running, mut client: Socket, route: Option<Route>) {
    // On the heap: the task lives as long as the relay, which needs none of this.
    let opened = Box::pin(running.open(&mut client, route)).await;
    let ends = opened.map(|target| (client.into_end(), target.into_end()));
    match ends {
        Ok((Some(a), Some(b))) => {
            let control = running.live.control.clone();
            let options = running.shared.settings.relay_options(control);
            let result = relay(a, b, options).await;
            running.end(None, result.error.map(ConnectionError::Transfer));
        }
        Ok(_) => drop(running),
        Err(Stop::Refused(refusal, error)) => {
            running.end(Some(refusal), error.map(ConnectionError::Connect));
        }
        Err(Stop::Failed(error)) => running.end(None, Some(ConnectionError::Transfer(error))),
    }
}

impl Running {
    pub(crate) fn new(shared: Arc<Shared>, worker: usize, live: Arc<Live>) -> Self {
        Self {
            shared,
            worker,
            live,
            connect_time: Duration::ZERO,
            has_ended: false,
        }
    }

    /// Connects to the target. Both sockets are then registered.
    async fn open(&mut self, client: &mut Socket, route: Option<Route>) -> Result<Socket, Stop> {
        let route = match route {
            Some(route) => route,
            None => self.decide(client).await?,
        };
        let share = route.pick(&self.shared.targets).ok_or(Refusal::NoRoute)?;
        let state = Arc::clone(share.state());
        self.live.set_target(share);
        let target = &state.target;
        let start = Instant::now();
        let connected = match connect::at_once(target)? {
            Progress::Connected(fd) => Connected::Bare(fd),
            progress => {
                let limit = self.shared.settings.connect_timeout;
                let connect = connect::finish(progress, target, limit);
                self.unless_stopped(client, connect).await??
            }
        };
        self.connect_time = start.elapsed();
        state.set_connect_time(self.connect_time);
        let mut socket = match connected {
            Connected::Bare(fd) => {
                Socket::bare(fd, !matches!(target.address(), TargetAddress::Unix(_)))
            }
            Connected::Registered(socket) => Socket::registered(socket),
        };
        socket.set_keep_alive(self.shared.settings.keep_alive);
        for (socket, side) in [(client, Side::A), (&mut socket, Side::B)] {
            let registered = socket.register();
            registered.map_err(|errno| failed(errno, "epoll_ctl", side))?;
        }
        Ok(socket)
    }

    /// Returns the route that the decision names.
    async fn decide(&self, client: &mut Socket) -> Result<Route, Stop> {
        let settings = &self.shared.settings;
        let decide = settings.decide.as_ref().ok_or(Refusal::NoRoute)?;
        let local = client.fd().and_then(|fd| getsockname(fd).ok());
        let decision = decide(Incoming {
            id: self.live.id,
            listener: self.live.listener,
            remote_address: self.live.client.clone(),
            local_address: local
                .and_then(Address::from_any)
                .unwrap_or(Address::Unix(None)),
        });
        let decision = timeout(settings.decision_timeout, decision);
        match self.unless_stopped(client, decision).await? {
            Ok(Decision::Route(route)) => Ok(route),
            Ok(Decision::Refuse) => Err(Refusal::NoRoute.into()),
            Ok(Decision::Failed) => Err(Refusal::RouteFailed.into()),
            Err(_) => Err(Refusal::RouteTimeout.into()),
        }
    }

    /// Waits for a step of the connection, unless its client is lost or it is ended before.
    async fn unless_stopped<T>(
        &self,
        client: &mut Socket,
        step: impl Future<Output = T>,
    ) -> Result<T, Stop> {
        client
            .register()
            .map_err(|errno| failed(errno, "epoll_ctl", Side::A))?;
        let stopped = race(client.failure(), self.live.control.aborted());
        match race(step, stopped).await {
            First::One(output) => Ok(output),
            First::Other(First::One(errno)) => Err(failed(errno, "epoll_wait", Side::A)),
            First::Other(First::Other(())) => {
                Err(Stop::Failed(TransferError::other(Reason::Aborted, None)))
            }
        }
    }

    /// Records the end of the connection, whose sockets are closed.
    pub(crate) fn end(&mut self, refusal: Option<Refusal>, error: Option<ConnectionError>) {
        self.has_ended = true;
        let (shared, live) = (&*self.shared, &*self.live);
        let worker = &shared.workers[self.worker];
        let target = live.target();
        let mut state = worker.lock();
        let removed = state.connections.remove(&live.id);
        for counts in [Some(&worker.counts), target.map(|it| &it.counts)]
            .into_iter()
            .flatten()
        {
            match refusal {
                Some(refusal) => counts.count_refusal(refusal),
                None => counts.count_end(live.control.traffic(), error.is_some()),
            }
        }
        drop(state);
        drop(removed);
        shared.left(worker, target);
        if !shared.wants(refusal) {
            return;
        }
        let record = live.record(self.connect_time, error);
        shared.report(match refusal {
            Some(refusal) => Event::Refused(refusal, record),
            None => Event::Relayed(record),
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended {
            let error = TransferError::other(Reason::Aborted, None);
            self.end(None, Some(ConnectionError::Transfer(error)));
        }
    }
}
