//! A pool of threads. The kernel reports the CPU time of ended threads only in hundredths of a second, so none ends.

use std::{
    sync::{
        Mutex, PoisonError,
        mpsc::{Sender, channel},
    },
    thread,
};

type Job = Box<dyn FnOnce() + Send>;

static IDLE: Mutex<Vec<Sender<Job>>> = Mutex::new(Vec::new());

pub(crate) fn run(job: impl FnOnce() + Send + 'static) {
    let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let thread = idle.unwrap_or_else(start);
    // An idle thread waits for a job.
    let _ = thread.send(Box::new(job));
}

fn start() -> Sender<Job> {
    let (sender, jobs) = channel::<Job>();
    let own = sender.clone();
    thread::spawn(move || {
        for job in jobs {
            job();
            IDLE.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(own.clone());
        }
    });
    sender
}
