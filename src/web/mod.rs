//! The window: pages, an HTTP API, events as they happen.
//!
//! Everything here runs on the one extra thread ([`crate::reactor`] starts it on first need), and only if the
//! configuration says `web:`. The room never touches the engine and never writes the state: what is asked becomes a
//! [`Request`] of the control protocol in an [`Ask`], which goes to the loop through a
//! [`Mailbox`] and is answered by the same code that answers the control socket; past runs and
//! output are read here, read-only.
//!
//! ```text
//!   browser --HTTP--> serve -> guard -> routes --Ask--> loop
//!                                  ^                     |
//!                                  '--- hub <---Told-----'   only while somebody follows
//! ```
//!
//! * `serve` accepts, and bounds what a connection may cost;
//! * `guard` decides who may ask: names of the host, origins, the token;
//! * `routes` has one line a path, `api` and `output` the handlers, `pages` the files, `hub` the live events;
//! * `pack` sends long answers gzipped.
//!
//! While nobody looks there is no wake-up: the listener sleeps in epoll, connections that are silent are closed, and
//! the loop tells this thread nothing.

mod answer;
mod api;
mod guard;
mod hub;
mod output;
mod pack;
mod pages;
mod routes;
mod serve;
mod settings;

use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::control::protocol::{Reply, Request};
use crate::triggers::Mailbox;
pub use hub::Told;
use hub::{Hub, Teller};
pub use serve::{Listener, bind};
pub use settings::{Settings, read_token};

/// Something to ask the loop.
#[derive(Debug)]
pub struct Ask {
    /// What.
    pub request: Request,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Reply>,
}

/// Somebody wants the numbers.
#[cfg(feature = "metrics")]
#[derive(Debug)]
pub struct Scrape {
    /// Where they go.
    pub answer: oneshot::Sender<Box<crate::metrics::Snapshot>>,
}

/// What every handler shares.
#[derive(Debug)]
struct Shared {
    settings: Settings,
    mailbox: Mailbox,
    hub: Hub,
    refusals: guard::Refusals,
}

/// The open window, as the loop holds it. Dropping it closes every connection and this share of the listener.
#[derive(Debug)]
pub struct Window {
    teller: Teller,
    task: AbortHandle,
}

impl Window {
    /// Serves on this runtime until the window is dropped. What is asked arrives in the mailbox as an [`Ask`].
    ///
    /// # Errors
    /// What the OS said about watching the listener.
    pub fn open(
        runtime: &tokio::runtime::Handle,
        listener: &Listener,
        settings: Settings,
        mailbox: Mailbox,
    ) -> std::io::Result<Window> {
        let (teller, hub, pump) = hub::channel();
        let shared = std::sync::Arc::new(Shared { settings, mailbox, hub, refusals: guard::Refusals::default() });
        let _inside = runtime.enter();
        let listening = listener.share()?;
        let task = runtime.spawn(serve::serve(listening, shared, pump)).abort_handle();
        Ok(Window { teller, task })
    }

    /// True while somebody follows what happens; if nobody does, telling is a waste.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        self.teller.is_followed()
    }

    /// Tells every follower. Never waits: followers that do not read are dropped.
    pub fn tell(&self, told: Told) {
        self.teller.tell(told);
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.task.abort();
    }
}
