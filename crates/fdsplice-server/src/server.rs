//! A server: its listeners, workers and connections.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;

use crate::accept::{Accepting, Closing, ListenerState};
use crate::address::Address;
use crate::connection::{Running, serve};
use crate::listen::{Kind, Listen, ListenError, Listener, Opened, remove};
use crate::live::Live;
use crate::record::{Event, Interest, Refusal};
use crate::route::{Route, TargetState, Targets};
use crate::settings::{ServerBuilder, Settings};
use crate::socket::Socket;
use crate::stats::{ConnectionInfo, ServerStats};
use crate::target::Target;
use crate::worker::{Thread, Worker, choose};
use crate::{closing, stats};

/// Accepts connections, connects each to a target, and relays it, on threads of its own.
///
/// Clones are handles of one server, which ends at once when the last one is dropped: see
/// [`RelayServer::shutdown`].
///
/// ```
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use fdsplice_server::{Listen, RelayServer, Target};
///
/// let target: Target = "127.0.0.1:8080".parse()?;
/// let server = RelayServer::builder().routes(target).build()?;
/// let listener = server.listen(Listen::tcp("127.0.0.1:0".parse()?))?;
/// println!("listening on {}", listener.address);
/// server.close(Duration::from_secs(10)).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RelayServer(Arc<Owner>);

/// Ends the server when it is dropped.
struct Owner {
    shared: Arc<Shared>,
    threads: Mutex<Vec<Thread>>,
}

/// The parts of a server that its tasks share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) workers: Vec<Arc<Worker>>,
    pub(crate) targets: Targets,
    /// Connections that have not ended.
    pub(crate) active: AtomicUsize,
    /// Notified when no connection is left, in the server or at a target that is being drained.
    pub(crate) changed: Notify,
    /// Bits: 1 for records of relayed connections, 2 for those of refused ones.
    interest: AtomicU8,
    listeners: Mutex<Listeners>,
}

#[derive(Default)]
struct Listeners {
    open: Vec<Group>,
    opened: u32,
    is_closed: bool,
}

/// The sockets of one listener, and the tasks that accept from them.
pub(crate) struct Group {
    pub(crate) kind: Kind,
    pub(crate) sockets: Vec<Arc<OwnedFd>>,
    path: Option<PathBuf>,
    pub(crate) closing: watch::Sender<Option<Closing>>,
    pub(crate) tasks: Vec<JoinHandle<()>>,
}

impl Group {
    /// Removes the path of a Unix listener, once: another server may use it from then on.
    pub(crate) fn remove_path(&mut self) {
        if let Some(path) = self.path.take() {
            remove(&path);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.remove_path();
    }
}

impl Shared {
    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the listeners. None can be added from then on.
    pub(crate) fn take_listeners(&self) -> Vec<Group> {
        let mut listeners = self.listeners();
        listeners.is_closed = true;
        std::mem::take(&mut listeners.open)
    }

    /// Takes a connection into the accounts, and starts its task on a worker.
    pub(crate) fn accepted(
        self: &Arc<Self>,
        own: usize,
        listener: &ListenerState,
        socket: Socket,
        client: Address,
    ) {
        let spreads = matches!(listener.kind, Kind::Tcp { .. });
        let index = choose(&self.workers, own, spreads);
        let worker = &self.workers[index];
        let is_over_limit =
            self.active.fetch_add(1, Ordering::SeqCst) >= self.settings.max_connections;
        worker.load.fetch_add(1, Ordering::Relaxed);
        let mut state = worker.lock();
        let id = state.begun * self.workers.len() as u64 + index as u64;
        state.begun += 1;
        let live = Arc::new(Live::new(id, listener.number, client));
        state.connections.insert(id, Arc::clone(&live));
        let route = listener.routes.clone().or_else(|| state.routes.clone());
        drop(state);
        let mut running = Running::new(Arc::clone(self), index, live);
        if is_over_limit {
            drop(socket);
            running.end(Some(Refusal::Limit), None);
        } else {
            worker.spawn(serve(running, socket, route));
        }
    }

    /// A connection has left the accounts of its worker.
    pub(crate) fn left(&self, worker: &Worker, target: Option<&Arc<TargetState>>) {
        worker.load.fetch_sub(1, Ordering::Relaxed);
        let was_last = self.active.fetch_sub(1, Ordering::SeqCst) == 1;
        if was_last || target.is_some_and(|it| it.is_draining.load(Ordering::SeqCst)) {
            self.changed.notify_waiters();
        }
    }

    /// Whether the record of a connection is wanted.
    pub(crate) fn wants(&self, refusal: Option<Refusal>) -> bool {
        let bit = if refusal.is_some() { 2 } else { 1 };
        self.settings.on_event.is_some() && self.interest.load(Ordering::Relaxed) & bit != 0
    }

    pub(crate) fn report(&self, event: Event) {
        if let Some(on_event) = &self.settings.on_event {
            on_event(event);
        }
    }

    /// Aborts the connections for which `is_meant` is true.
    pub(crate) fn abort(&self, is_meant: impl Fn(&Live) -> bool) {
        for worker in &self.workers {
            let state = worker.lock();
            let meant: Vec<_> = state
                .connections
                .values()
                .filter(|live| is_meant(live))
                .map(Arc::clone)
                .collect();
            drop(state);
            for live in meant {
                live.control.abort();
            }
        }
    }
}

impl RelayServer {
    /// The options of a server.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }

    pub(crate) fn start(
        settings: Settings,
        routes: Option<&Route>,
        workers: Option<usize>,
    ) -> io::Result<Self> {
        let count = workers.unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
        let started: Vec<_> = (0..count)
            .map(|index| Thread::start(index, routes.cloned()))
            .collect::<io::Result<_>>()?;
        let (workers, threads) = started.into_iter().unzip();
        Ok(Self(Arc::new(Owner {
            shared: Arc::new(Shared {
                settings,
                workers,
                targets: Targets::new(),
                active: AtomicUsize::new(0),
                changed: Notify::new(),
                interest: AtomicU8::new(0),
                listeners: Mutex::default(),
            }),
            threads: Mutex::new(threads),
        })))
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    /// Listens on an address as well. Connections are accepted from now on. This neither blocks nor
    /// needs a runtime.
    ///
    /// # Errors
    /// [`ListenError`]. Nothing is left behind.
    pub fn listen(&self, mut listen: Listen) -> Result<Listener, ListenError> {
        let shared = self.shared();
        let routes = listen.routes.take();
        let count = shared.workers.len();
        let mut listeners = shared.listeners();
        if listeners.is_closed {
            return Err(ListenError::Closed);
        }
        let opened = Opened::open(listen, count, shared.settings.keep_alive)?;
        let number = listeners.opened;
        listeners.opened += 1;
        let (closing, receiver) = watch::channel(None);
        let state = Arc::new(ListenerState {
            number,
            kind: opened.kind,
            routes,
        });
        let sockets: Vec<_> = opened.sockets.into_iter().map(Arc::new).collect();
        // A group begins with the first worker, a single socket with any of them.
        let first = if sockets.len() == 1 {
            number as usize % count
        } else {
            0
        };
        let accept = |(index, socket): (usize, &Arc<OwnedFd>)| {
            let worker = first + index;
            let accepting = Accepting {
                shared: Arc::clone(shared),
                worker,
                listener: Arc::clone(&state),
                socket: Arc::clone(socket),
                closing: receiver.clone(),
            };
            shared.workers[worker].runtime.spawn(accepting.run())
        };
        let tasks = sockets.iter().enumerate().map(accept).collect();
        listeners.open.push(Group {
            kind: opened.kind,
            sockets,
            path: opened.path,
            closing,
            tasks,
        });
        Ok(Listener {
            number,
            address: opened.address,
        })
    }

    /// Sets the routes of new connections whose listener has none. Running connections stay. Targets
    /// that are named take connections again if they were drained. `None`: each connection is decided.
    pub fn set_routes(&self, routes: Option<&Route>) {
        let shared = self.shared();
        if let Some(routes) = routes {
            shared.targets.lift_drains(routes);
        }
        for worker in &shared.workers {
            let previous = std::mem::replace(&mut worker.lock().routes, routes.cloned());
            drop(previous);
        }
    }

    /// Sets which records are built. Default: none.
    pub fn set_interest(&self, interest: Interest) {
        let bits = u8::from(interest.relayed) | u8::from(interest.refused) << 1;
        self.shared().interest.store(bits, Ordering::Relaxed);
    }

    /// Gives a target no new connection, and waits until it has none. Those that run after `grace` are
    /// aborted. The target stays out of use until [`RelayServer::set_routes`] names it.
    ///
    /// # Cancel safety
    /// The drain goes on without its future.
    pub fn drain(
        &self,
        target: &Target,
        grace: Duration,
    ) -> impl Future<Output = ()> + Send + 'static {
        let shared = self.shared();
        let state = shared.targets.intern(target);
        state.is_draining.store(true, Ordering::SeqCst);
        self.run(closing::drain(Arc::clone(shared), state, grace))
    }

    /// Aborts one connection. `false`: it has ended, or never was.
    pub fn end(&self, id: u64) -> bool {
        let workers = &self.shared().workers;
        let index = usize::try_from(id % workers.len() as u64).unwrap_or(0);
        let live = workers[index].lock().connections.get(&id).map(Arc::clone);
        if let Some(live) = &live {
            live.control.abort();
        }
        live.is_some()
    }

    /// The connections that have not ended, in no order.
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        let of_worker = |worker: &Arc<Worker>| -> Vec<Arc<Live>> {
            worker.lock().connections.values().map(Arc::clone).collect()
        };
        let workers = self.shared().workers.iter();
        workers
            .flat_map(of_worker)
            .map(|live| live.info())
            .collect()
    }

    /// The counts so far.
    pub fn stats(&self) -> ServerStats {
        stats::of_server(self.shared())
    }

    /// Closes the server: [`RelayServer::end_all`], then [`RelayServer::shutdown`].
    ///
    /// # Cancel safety
    /// Without its future the connections still end, but the threads go on.
    pub async fn close(&self, grace: Duration) {
        self.end_all(grace).await;
        self.shutdown();
    }

    /// Stops accepting and waits until no connection is left. Those that run after `grace` are aborted.
    ///
    /// A connection that the kernel has queued is served, not reset. A listener beyond loopback turns new
    /// clients away at once, and waits up to 1 s for those in a handshake.
    ///
    /// # Cancel safety
    /// It goes on without its future.
    pub fn end_all(&self, grace: Duration) -> impl Future<Output = ()> + Send + 'static {
        self.run(closing::end_all(Arc::clone(self.shared()), grace))
    }

    /// Ends the server at once: its connections are reset, its threads have ended when this returns.
    pub fn shutdown(&self) {
        self.0.shutdown();
    }

    /// Runs a future on a worker of this server. It is dropped when the server ends.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.shared().workers[0].spawn(future);
    }

    /// Runs a future on a worker, which has a clock, and waits for it on any runtime.
    fn run(
        &self,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (done, wait) = oneshot::channel::<()>();
        self.spawn(async move {
            future.await;
            // The caller may have dropped its future.
            let _ = done.send(());
        });
        async move {
            // An error: the server has ended, so nothing is left to wait for.
            let _ = wait.await;
        }
    }
}

impl fmt::Debug for RelayServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayServer").finish_non_exhaustive()
    }
}

impl Owner {
    fn shutdown(&self) {
        drop(self.shared.take_listeners());
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let threads = std::mem::take(&mut *threads);
        for thread in threads {
            thread.stop();
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shutdown();
    }
}
