//! The open connections of the peer, by number.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::io::Errno;

use crate::{connection::Connection, reply::Failure};

/// All open connections by their number, shared by the threads that open them.
#[derive(Clone, Default)]
pub(crate) struct Connections(Arc<(AtomicU64, Mutex<HashMap<u64, Connection>>)>);

impl Connections {
    pub(crate) fn add(&self, connection: Connection) -> u64 {
        let number = self.0.0.fetch_add(1, Ordering::Relaxed) + 1;
        self.lock().insert(number, connection);
        number
    }

    pub(crate) fn with<T>(
        &self,
        number: u64,
        use_it: impl FnOnce(&Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        use_it(self.lock().get(&number).ok_or(Errno::BADF)?)
    }

    pub(crate) fn take(&self, number: u64) -> Result<Connection, Failure> {
        Ok(self.lock().remove(&number).ok_or(Errno::BADF)?)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Connection>> {
        self.0.1.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
