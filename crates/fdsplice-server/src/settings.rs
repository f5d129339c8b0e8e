//! The settings of a server, and the builder that collects them.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use fdsplice::{Control, RateLimiter, RelayOptions};

use crate::connect::DEFAULT_TIMEOUT;
use crate::incoming::{Decision, Incoming};
use crate::record::Event;
use crate::route::Route;
use crate::server::RelayServer;

const DECISION_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// A limit on bytes per second.
#[derive(Clone, Debug)]
pub enum Rate {
    /// Each connection has a limit of its own, of this many bytes per second, above 0.
    Each(f64),
    /// All connections share one.
    Shared(RateLimiter),
}

impl Rate {
    fn limiter(&self) -> RateLimiter {
        match self {
            Self::Each(bytes_per_second) => RateLimiter::new(*bytes_per_second),
            Self::Shared(limiter) => limiter.clone(),
        }
    }
}

type Deciding = Pin<Box<dyn Future<Output = Decision> + Send>>;
type Decide = Box<dyn Fn(Incoming) -> Deciding + Send + Sync>;
type OnEvent = Box<dyn Fn(Event) + Send + Sync>;

/// The settings of a server.
pub(crate) struct Settings {
    pub(crate) decide: Option<Decide>,
    pub(crate) decision_timeout: Duration,
    pub(crate) max_connections: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) keep_alive: Option<Duration>,
    pub(crate) on_event: Option<OnEvent>,
    idle_timeout: Option<Duration>,
    half_close_timeout: Option<Duration>,
    /// Both directions together, to the target, to the client.
    rates: [Option<Rate>; 3],
    pipe_size: Option<usize>,
    copy_only: bool,
}

impl Settings {
    /// The options of the relay of one connection.
    pub(crate) fn relay_options(&self, control: Control) -> RelayOptions {
        // Accepted sockets inherit TCP_NODELAY, and `connect` sets it.
        let mut options = RelayOptions::new()
            .control(control)
            .set_nodelay(false)
            .zero_copy(!self.copy_only);
        if let Some(bytes) = self.pipe_size {
            options = options.pipe_size(bytes);
        }
        if let Some(limit) = self.idle_timeout {
            options = options.idle_timeout(limit);
        }
        if let Some(limit) = self.half_close_timeout {
            options = options.half_close_timeout(limit);
        }
        let [both, tx, rx] = &self.rates;
        match (both, tx, rx) {
            (Some(both), _, _) => options.rate_limit(both.limiter()),
            (None, None, None) => options,
            (None, tx, rx) => {
                let limiter = |rate: &Option<Rate>| rate.as_ref().map(Rate::limiter);
                options.rate_limits(limiter(tx), limiter(rx))
            }
        }
    }
}

/// The builder of a [`RelayServer`].
#[must_use]
pub struct ServerBuilder {
    settings: Settings,
    routes: Option<Route>,
    workers: Option<usize>,
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder").finish_non_exhaustive()
    }
}

impl ServerBuilder {
    pub(crate) fn new() -> Self {
        Self {
            settings: Settings {
                decide: None,
                decision_timeout: DECISION_TIMEOUT,
                max_connections: usize::MAX,
                connect_timeout: DEFAULT_TIMEOUT,
                keep_alive: Some(KEEP_ALIVE),
                on_event: None,
                idle_timeout: None,
                half_close_timeout: None,
                rates: [None, None, None],
                pipe_size: None,
                copy_only: false,
            },
            routes: None,
            workers: None,
        }
    }

    /// The route of every connection whose listener has none.
    pub fn routes(mut self, routes: impl Into<Route>) -> Self {
        self.routes = Some(routes.into());
        self
    }

    /// Decides where a connection goes that no route is there for. The future runs on the worker of the
    /// connection, so it must not block. It is dropped at its time limit, and when the connection ends
    /// before.
    pub fn decide<F>(mut self, decide: impl Fn(Incoming) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Decision> + Send + 'static,
    {
        self.settings.decide = Some(Box::new(move |incoming| Box::pin(decide(incoming))));
        self
    }

    /// The longest time of a decision. Default 5 s.
    pub fn decision_timeout(mut self, limit: Duration) -> Self {
        self.settings.decision_timeout = limit;
        self
    }

    /// The most connections at one time. Further ones are refused with
    /// [`Refusal::Limit`](crate::Refusal::Limit). Default: no limit.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.settings.max_connections = connections;
        self
    }

    /// The longest time until the connection to a target stands, for targets without one of their own.
    /// Default 10 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.settings.connect_timeout = limit;
        self
    }

    /// As [`RelayOptions::idle_timeout`], for each connection. Default: no limit.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.settings.idle_timeout = Some(limit);
        self
    }

    /// As [`RelayOptions::half_close_timeout`], for each connection. Default: no limit.
    pub fn half_close_timeout(mut self, limit: Duration) -> Self {
        self.settings.half_close_timeout = Some(limit);
        self
    }

    /// Limits both directions of a connection together. Default: no limit.
    pub fn rate_limit(mut self, rate: Rate) -> Self {
        self.settings.rates[0] = Some(rate);
        self
    }

    /// Limits each direction: `tx` the bytes to the target, `rx` the bytes to the client.
    pub fn rate_limits(mut self, tx: Option<Rate>, rx: Option<Rate>) -> Self {
        self.settings.rates = [None, tx, rx];
        self
    }

    /// As [`RelayOptions::pipe_size`].
    pub fn pipe_size(mut self, bytes: usize) -> Self {
        self.settings.pipe_size = Some(bytes);
        self
    }

    /// As [`RelayOptions::zero_copy`].
    pub fn zero_copy(mut self, zero_copy: bool) -> Self {
        self.settings.copy_only = !zero_copy;
        self
    }

    /// The time of silence until the first keep-alive probe, on both sides, in whole seconds. `None`
    /// sends none. Default 60 s.
    pub fn keep_alive(mut self, idle: Option<Duration>) -> Self {
        self.settings.keep_alive = idle;
        self
    }

    /// The number of threads, at least 1. Default: one per CPU.
    pub fn workers(mut self, threads: usize) -> Self {
        self.workers = Some(threads.max(1));
        self
    }

    /// Receives what the server reports, on the thread of a worker: it must not block. Records are built
    /// only as [`RelayServer::set_interest`] says.
    pub fn on_event(mut self, on_event: impl Fn(Event) + Send + Sync + 'static) -> Self {
        self.settings.on_event = Some(Box::new(on_event));
        self
    }

    /// Starts the threads.
    ///
    /// # Errors
    /// When the process has no thread or descriptor left for them.
    pub fn build(self) -> io::Result<RelayServer> {
        RelayServer::start(self.settings, self.routes.as_ref(), self.workers)
    }
}
