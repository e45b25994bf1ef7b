//! The bridge to the other thread: one with a tokio current-thread runtime, for S3, the web UI and the webhooks, started when
//! the first of them asks; and the way back: a queue and an eventfd that wakes the loop.

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use mio::{Registry, Token, Waker};

use crate::triggers::Mailbox;

/// The address of the observers' messages; sources are addressed by their numbers.
pub(super) const OBSERVERS: u32 = u32::MAX;

/// A message from the other thread and its address.
pub(super) type Addressed = (u32, Box<dyn Any + Send>);

#[derive(Debug)]
pub(super) struct Bridge {
    waker: Arc<Waker>,
    sender: Sender<Addressed>,
    receiver: Receiver<Addressed>,
    #[cfg(any(feature = "s3", feature = "web", feature = "notify"))]
    runtime: Option<Runtime>,
}

/// The other thread. Dropping it ends the thread; its tasks are dropped at their next await.
#[cfg(any(feature = "s3", feature = "web", feature = "notify"))]
#[derive(Debug)]
struct Runtime {
    handle: tokio::runtime::Handle,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// The SDK's futures nest deeply: its search for credentials needs more than half a MiB without optimisation, and a
/// stack that is too small is the daemon's end. One that is too large costs address space only.
#[cfg(any(feature = "s3", feature = "web", feature = "notify"))]
const STACK: usize = 2 * 1024 * 1024;

impl Bridge {
    pub fn new(registry: &Registry, token: Token) -> io::Result<Bridge> {
        let (sender, receiver) = channel();
        Ok(Bridge {
            waker: Arc::new(Waker::new(registry, token)?),
            sender,
            receiver,
            #[cfg(any(feature = "s3", feature = "web", feature = "notify"))]
            runtime: None,
        })
    }

    pub fn mailbox(&self, address: u32) -> Mailbox {
        let (sender, waker) = (self.sender.clone(), Arc::clone(&self.waker));
        Mailbox::new(Arc::new(move |message| {
            // Both fail only after the end of the loop, which reads no more messages.
            if sender.send((address, message)).is_ok() {
                let _ = waker.wake();
            }
        }))
    }

    pub fn take(&self) -> Option<Addressed> {
        self.receiver.try_recv().ok()
    }

    #[cfg(any(feature = "s3", feature = "web", feature = "notify"))]
    pub fn runtime(&mut self) -> io::Result<tokio::runtime::Handle> {
        if let Some(runtime) = &self.runtime {
            return Ok(runtime.handle.clone());
        }
        // Names are resolved on tokio's blocking pool: one helper at most, and it goes away when it is idle.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(1)
            .thread_stack_size(STACK)
            .thread_keep_alive(std::time::Duration::from_millis(10))
            .build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::Builder::new().name("firelink-io".into()).stack_size(STACK).spawn(move || {
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
        self.runtime = Some(Runtime { handle: handle.clone(), stop: Some(stop), thread: Some(thread) });
        Ok(handle)
    }
}

#[cfg(any(feature = "s3", feature = "web", feature = "notify"))]
impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
