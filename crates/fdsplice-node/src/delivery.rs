//! The delivery of outcomes to JavaScript.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use napi::Status;
use napi::bindgen_prelude::{Function, Result};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};

use crate::outcome::{Batch, NativeOutcome};

/// A weak function, which does not keep the event loop alive. The TypeScript side keeps it alive
/// while transfers run.
type Deliver = ThreadsafeFunction<(), (), Batch, Status, false, true>;

#[derive(Default)]
struct Queue {
    waiting: Vec<NativeOutcome>,
    /// The numbers of the transfers whose outcomes were passed to JavaScript.
    delivered: Vec<u32>,
}

#[derive(Clone, Default)]
struct SharedQueue(Arc<Mutex<Queue>>);

impl SharedQueue {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Outcomes on their way to JavaScript. The first one wakes the event loop, which then takes all
/// that wait: a thousand transfers that end together wake it once.
pub(crate) struct Delivery {
    queue: SharedQueue,
    /// Absent in unit tests, which have no event loop.
    deliver: Option<Deliver>,
}

impl Delivery {
    /// `settled` receives the batches.
    ///
    /// # Errors
    /// When Node is shutting the environment down.
    pub(crate) fn new(settled: &Function<Batch, ()>) -> Result<Self> {
        let queue = SharedQueue::default();
        let waiting = queue.clone();
        let deliver = settled
            .build_threadsafe_function::<()>()
            .weak::<true>()
            .build_callback(move |_| {
                let mut queue = waiting.lock();
                let outcomes = std::mem::take(&mut queue.waiting);
                queue
                    .delivered
                    .extend(outcomes.iter().map(|outcome| outcome.id));
                drop(queue);
                Ok(NativeOutcome::encode(outcomes))
            })?;
        Ok(Self {
            queue,
            deliver: Some(deliver),
        })
    }

    pub(crate) fn push(&self, outcome: NativeOutcome) {
        let mut queue = self.queue.lock();
        queue.waiting.push(outcome);
        let is_first = queue.waiting.len() == 1;
        drop(queue);
        if is_first && let Some(deliver) = &self.deliver {
            // This fails when the environment has ended; then no caller waits for the outcome.
            deliver.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }

    /// The numbers of the transfers whose outcomes were delivered since the last call.
    pub(crate) fn take_delivered(&self) -> Vec<u32> {
        std::mem::take(&mut self.queue.lock().delivered)
    }
    #[cfg(test)]
    pub(crate) fn without_event_loop() -> Self {
        Self {
            queue: SharedQueue::default(),
            deliver: None,
        }
    }

    /// Takes the outcomes that wait for the event loop.
    #[cfg(test)]
    pub(crate) fn take_waiting(&self) -> Vec<NativeOutcome> {
        std::mem::take(&mut self.queue.lock().waiting)
    }
}
