//! The web UI: pages, an HTTP API, live events.
//!
//! Everything here runs on the one extra thread ([`crate::reactor`] starts it on first need), and only if the configuration
//! says `web:`. The room never touches the engine and never writes the state: a request becomes one of the control protocol
//! in an [`ApiRequest`], which reaches the loop through a [`Mailbox`] and is answered by the code that answers the control
//! socket. Past runs and their output are read here, read-only.
//!
//! ```text
//!   browser --HTTP--> serve -> guard -> routes --ApiRequest--> loop
//!                                  ^                             |
//!                                  '--- hub <-----EventLine------'   only while there are followers
//! ```
//!
//! * `serve` accepts connections and bounds their cost;
//! * `guard` is the access control: host names, origins, the token;
//! * `routes` has one line per path, `api` and `output` the handlers, `pages` the static files, `hub` the live events;
//! * `pack` compresses long answers.
//!
//! An idle web UI causes no wake-up: the listener waits in epoll, idle connections are closed, and without followers the
//! loop sends no events.

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
pub use hub::EventLine;
use hub::{Hub, Publisher};
pub use serve::{Listener, bind};
pub use settings::{Settings, read_token};

/// How much of foreign text (a path, a host name) a message shows, in characters.
const LONGEST_SHOWN: usize = 100;

/// A request for the loop, as a control socket would carry it.
#[derive(Debug)]
pub struct ApiRequest {
    /// The request.
    pub request: Request,
    /// Receives the reply.
    pub answer: oneshot::Sender<Reply>,
}

/// A request for the metrics, from a scrape of `/metrics`.
#[cfg(feature = "metrics")]
#[derive(Debug)]
pub struct Scrape {
    /// Receives a copy of all metrics.
    pub answer: oneshot::Sender<Box<crate::metrics::Snapshot>>,
}

/// State shared by all handlers.
#[derive(Debug)]
struct Shared {
    settings: Settings,
    mailbox: Mailbox,
    hub: Hub,
    refusals: guard::Refusals,
}

/// The running web server, as the loop holds it. Dropping it closes every connection and its duplicate of the listener.
#[derive(Debug)]
pub struct Server {
    publisher: Publisher,
    task: AbortHandle,
}

impl Server {
    /// Serves on this runtime until the server is dropped. Requests arrive in the mailbox as [`ApiRequest`]s.
    ///
    /// # Errors
    /// When the listener can't be duplicated or registered with the runtime.
    pub fn open(
        runtime: &tokio::runtime::Handle,
        listener: &Listener,
        settings: Settings,
        mailbox: Mailbox,
    ) -> std::io::Result<Server> {
        let (publisher, hub, pump) = hub::channel();
        let shared = std::sync::Arc::new(Shared { settings, mailbox, hub, refusals: guard::Refusals::default() });
        let _inside = runtime.enter();
        let listening = listener.share()?;
        let task = runtime.spawn(serve::serve(listening, shared, pump)).abort_handle();
        Ok(Server { publisher, task })
    }

    /// True while there are followers; without any, [`Server::publish`] is a waste.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        self.publisher.is_followed()
    }

    /// Sends an event to every follower. Never blocks: followers that do not read are dropped.
    pub fn publish(&self, line: EventLine) {
        self.publisher.publish(line);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
