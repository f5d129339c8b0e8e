//! The ends of a server and of its targets: no new connections, then none.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::accept::Closing;
use crate::listen::{Kind, hide};
use crate::race::race;
use crate::route::TargetState;
use crate::server::{Group, Shared};

/// How long a hidden listener waits for clients in a handshake, which takes a round trip
/// (docs/decisions/accepting.md).
const HANDSHAKE: Duration = Duration::from_secs(1);
const LOOPBACK_HANDSHAKE: Duration = Duration::from_millis(2);
/// The time after which an abort is repeated, for connections that got their target meanwhile.
const AGAIN: Duration = Duration::from_millis(50);
/// A grace period that never ends in practice. [`Instant`] cannot hold every [`Duration`].
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Stops accepting, waits for the connections, and aborts those that run after `grace`.
pub(crate) async fn end_all(shared: Arc<Shared>, grace: Duration) {
    let deadline = Instant::now() + grace.min(LONGEST);
    let mut groups = shared.take_listeners();
    for group in &mut groups {
        close(group, deadline);
        group.remove_path();
    }
    for mut group in groups {
        for task in std::mem::take(&mut group.tasks) {
            // A task that has panicked accepts nothing.
            let _ = task.await;
        }
    }
    let is_over = || shared.active.load(Ordering::SeqCst) == 0;
    wait(&shared, deadline, &is_over).await;
    while !is_over() {
        shared.abort(|_| true);
        wait(&shared, Instant::now() + AGAIN, &is_over).await;
    }
}

/// Turns new clients of a listener away, and tells its tasks to accept the rest.
fn close(group: &Group, deadline: Instant) {
    // All sockets first: the kernel spreads clients over those of a group that are not hidden.
    let mut is_hidden = true;
    for socket in &group.sockets {
        is_hidden &= hide(group.kind, socket);
    }
    let handshake = match group.kind {
        Kind::Tcp { is_loopback: true } => LOOPBACK_HANDSHAKE,
        Kind::Tcp { .. } if is_hidden => HANDSHAKE,
        _ => Duration::ZERO,
    };
    let now = Instant::now();
    group.closing.send_replace(Some(Closing {
        quiet: deadline.min(now + handshake),
        last: deadline,
    }));
}

/// Waits until a target that gets no new connections has none, and aborts those that it has after
/// `grace`.
pub(crate) async fn drain(shared: Arc<Shared>, target: Arc<TargetState>, grace: Duration) {
    let is_over = || target.active.load(Ordering::SeqCst) == 0;
    wait(&shared, Instant::now() + grace.min(LONGEST), &is_over).await;
    while !is_over() && target.is_draining.load(Ordering::SeqCst) {
        shared.abort(|live| live.target().is_some_and(|it| Arc::ptr_eq(it, &target)));
        wait(&shared, Instant::now() + AGAIN, &is_over).await;
    }
}

/// Waits until `is_over` or until the deadline.
async fn wait(shared: &Shared, deadline: Instant, is_over: &impl Fn() -> bool) {
    loop {
        let mut changed = std::pin::pin!(shared.changed.notified());
        // Before the check, so that no change is missed between both.
        changed.as_mut().enable();
        if is_over() || Instant::now() >= deadline {
            return;
        }
        race(changed, sleep_until(deadline)).await;
    }
}
