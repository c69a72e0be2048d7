//! The rings into the pinned thread: never does it wait for who writes into them.
//!
//! Contract: any thread pushes, one at a time; the pinned thread pops. Neither allocates or blocks. `ArrayQueue::pop` by itself polls
//! for a push that has taken its place but is not done: if the pinned thread has just preempted the very thread that pushes, on
//! the CPU that both share, that would last until the kernel moves it elsewhere (a tenth of a second was seen). Here, what is
//! pushed counts once it is done, and only what counts is popped. (What the pinned thread writes into, torques and telemetry, are
//! bare queues: there it could wait for a reader only if the queue were full just when that reader stood still in the middle of a
//! pop, a quarter of a second or more behind.)

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

pub(super) struct Ring<T> {
    queue: ArrayQueue<T>,
    pushed: CachePadded<AtomicU64>,
    popped: CachePadded<AtomicU64>,
}

impl<T> Ring<T> {
    pub(super) fn new(capacity: usize) -> Self {
        let zero = || CachePadded::new(AtomicU64::new(0));
        Ring { queue: ArrayQueue::new(capacity), pushed: zero(), popped: zero() }
    }

    /// Hands the value back if the ring is full.
    pub(super) fn push(&self, value: T) -> Result<(), T> {
        self.queue.push(value)?;
        self.pushed.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// The oldest value of which the push is done.
    pub(super) fn pop(&self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        self.popped.fetch_add(1, Ordering::Relaxed);
        self.queue.pop()
    }

    /// Whether there is nothing to pop, as the thread that pops sees it.
    pub(super) fn is_empty(&self) -> bool {
        self.pushed.load(Ordering::Acquire) == self.popped.load(Ordering::Relaxed)
    }

    /// How many values are in it.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_is_popped_in_order_and_a_full_ring_keeps_the_oldest() {
        let ring = Ring::new(2);
        assert!(ring.is_empty() && ring.pop().is_none());
        assert_eq!([ring.push(1), ring.push(2), ring.push(3)], [Ok(()), Ok(()), Err(3)]);
        assert_eq!((ring.len(), ring.is_empty()), (2, false));
        assert_eq!([ring.pop(), ring.pop(), ring.pop()], [Some(1), Some(2), None]);
        assert_eq!((ring.push(4), ring.pop()), (Ok(()), Some(4)));
    }

    #[test]
    fn a_push_that_is_not_done_does_not_count() {
        let ring = Ring::new(2);
        assert!(ring.queue.push(1).is_ok());
        assert!(ring.is_empty() && ring.pop().is_none());
        ring.pushed.fetch_add(1, Ordering::Release);
        assert_eq!(ring.pop(), Some(1));
    }
}
