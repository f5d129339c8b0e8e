//! The tasks of transfers and of watches. Each reports exactly one outcome: its result, or, if it is
//! dropped before its end, that it died. A task is dropped when it panics, and when its worker ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use fdsplice::{TrafficResult, TransferError};
use pin_project_lite::pin_project;

use crate::delivery::Delivery;
use crate::outcome::NativeOutcome;
use crate::registry::Entry;
use crate::runtime::{self, WorkerSlot};

pin_project! {
    /// A transfer, and what to do at its end. This is a struct because an `async` block would keep room
    /// for the transfer twice, as a captured and as an awaited value: 2.4 KiB per idle relay.
    pub(crate) struct RunningTransfer<F> {
        // The ends are closed before the outcome is reported: fields are dropped in this order.
        #[pin]
        transfer: F,
        at_end: AtEnd,
    }
}

/// Taken at the end of the transfer.
struct AtEnd(Option<(Entry, Arc<Delivery>, WorkerSlot)>);

impl<F> RunningTransfer<F> {
    pub(crate) fn new(
        transfer: F,
        entry: Entry,
        delivery: Arc<Delivery>,
        slot: WorkerSlot,
    ) -> Self {
        Self {
            transfer,
            at_end: AtEnd(Some((entry, delivery, slot))),
        }
    }
}

impl<F: Future<Output = TrafficResult>> Future for RunningTransfer<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let result = ready!(this.transfer.poll(cx));
        if let Some((entry, delivery, slot)) = this.at_end.0.take() {
            let id = entry.id();
            drop(slot);
            runtime::note_size(result.tx + result.rx);
            entry.end(result.error.is_some());
            delivery.push(NativeOutcome::new(id, result));
        }
        Poll::Ready(())
    }
}

impl Drop for AtEnd {
    fn drop(&mut self) {
        let Some((entry, delivery, slot)) = self.0.take() else {
            return;
        };
        let outcome = NativeOutcome::died(entry.id(), entry.traffic());
        drop(slot);
        entry.end(true);
        delivery.push(outcome);
    }
}

pin_project! {
    /// A watch on a socket that no transfer uses yet. One that died has seen no error.
    pub(crate) struct RunningWatch<F> {
        #[pin]
        error: F,
        at_end: AtEndOfWatch,
    }
}

struct AtEndOfWatch(Option<(u32, Arc<Delivery>, WorkerSlot)>);

impl<F> RunningWatch<F> {
    pub(crate) fn new(error: F, id: u32, delivery: Arc<Delivery>, slot: WorkerSlot) -> Self {
        Self {
            error,
            at_end: AtEndOfWatch(Some((id, delivery, slot))),
        }
    }
}

impl<F: Future<Output = Option<TransferError>>> Future for RunningWatch<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let error = ready!(this.error.poll(cx));
        this.at_end.report(error);
        Poll::Ready(())
    }
}

impl AtEndOfWatch {
    fn report(&mut self, error: Option<TransferError>) {
        if let Some((id, delivery, slot)) = self.0.take() {
            drop(slot);
            delivery.push(NativeOutcome::of_watch(id, error));
        }
    }
}

impl Drop for AtEndOfWatch {
    fn drop(&mut self) {
        self.report(None);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::resume_unwind;
    use std::time::{Duration, Instant};

    use fdsplice::Control;

    use super::*;

    /// Runs a task on a worker, and returns the outcomes that it reports.
    fn outcomes<T>(task: impl FnOnce(Arc<Delivery>, WorkerSlot) -> T) -> Vec<NativeOutcome>
    where
        T: Future<Output = ()> + Send + 'static,
    {
        let delivery = Arc::new(Delivery::without_event_loop());
        let slot = WorkerSlot::take(0).expect("a worker");
        slot.run(|slot| task(Arc::clone(&delivery), slot));
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            let outcomes = delivery.take_waiting();
            if !outcomes.is_empty() {
                return outcomes;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Vec::new()
    }

    #[test]
    fn a_transfer_that_panics_reports_that_it_died() {
        let key = (2001, 5);
        let entry = Entry::begin(key, Control::new()).expect("a free number");
        let outcomes = outcomes(|delivery, slot| {
            // Like a panic, but without a message on stderr.
            let transfer = async { resume_unwind(Box::new("on purpose")) };
            RunningTransfer::new(transfer, entry, delivery, slot)
        });
        let [outcome] = &outcomes[..] else {
            panic!("{} outcomes", outcomes.len());
        };
        assert_eq!(outcome.id, 5);
        let reason = outcome.failure.as_ref().and_then(|it| it.reason.as_deref());
        assert_eq!(reason, Some("died"));
        crate::registry::forget(2001, &[5]);
    }

    #[test]
    fn a_watch_that_panics_reports_that_it_has_seen_no_error() {
        let outcomes = outcomes(|delivery, slot| {
            let error = async { resume_unwind(Box::new("on purpose")) };
            RunningWatch::new(error, 6, delivery, slot)
        });
        let [outcome] = &outcomes[..] else {
            panic!("{} outcomes", outcomes.len());
        };
        assert!(outcome.id == 6 && outcome.failure.is_none());
    }
}
