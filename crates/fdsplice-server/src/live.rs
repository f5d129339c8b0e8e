//! A connection that has not ended, as the server sees it.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use fdsplice::Control;

use crate::address::Address;
use crate::record::{ConnectionError, Record};
use crate::route::{TargetState, TargetUse};
use crate::stats::ConnectionInfo;

/// What the server knows of a connection, from its accept to its end.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) id: u64,
    pub(crate) listener: u32,
    pub(crate) client: Address,
    pub(crate) control: Control,
    accepted: Instant,
    target: OnceLock<TargetUse>,
}

impl Live {
    pub(crate) fn new(id: u64, listener: u32, client: Address) -> Self {
        Self {
            id,
            listener,
            client,
            control: Control::new(),
            accepted: Instant::now(),
            target: OnceLock::new(),
        }
    }

    /// Gives the connection its target, which is set once.
    pub(crate) fn set_target(&self, target: TargetUse) {
        let _ = self.target.set(target);
    }

    pub(crate) fn target(&self) -> Option<&Arc<TargetState>> {
        self.target.get().map(TargetUse::state)
    }

    pub(crate) fn info(&self) -> ConnectionInfo {
        ConnectionInfo {
            id: self.id,
            listener: self.listener,
            client: self.client.clone(),
            target: self.target().map(|it| it.target.clone()),
            traffic: self.control.traffic(),
            age: self.accepted.elapsed(),
        }
    }

    pub(crate) fn record(&self, connect_time: Duration, error: Option<ConnectionError>) -> Record {
        Record {
            id: self.id,
            listener: self.listener,
            client: self.client.clone(),
            target: self.target().map(|it| it.target.clone()),
            traffic: self.control.traffic(),
            connect_time,
            duration: self.accepted.elapsed(),
            error,
        }
    }
}
