//! firelink: a job scheduler for Linux boxes that have little to spare.
//!
//! One thread sleeps in `epoll_wait` until something is due; what runs and when is in one YAML file. The crate is the
//! daemon and its command line; nothing here is meant as an API for other programs, which talk to the control socket.
//!
//! # Rooms
//!
//! | room | what it is for | what it may do |
//! | --- | --- | --- |
//! | [`model`] | the words: ids, the two clocks, run states, units | nothing |
//! | [`config`] | YAML into a checked [`config::Config`], or every mistake in it | read files |
//! | [`triggers`] | what makes a job want to run: a file a type; cron arithmetic; the S3 watch | ask its host |
//! | [`dag`] | the graph of dependencies, and the credit rule | nothing: pure |
//! | [`engine`] | run states, deadlines, concurrency, retries, catch-up: (now, event) into effects | nothing: pure |
//! | [`exec`] | processes, their output, their logs | system calls |
//! | [`files`] | replacing a file atomically | write the file that it is given |
//! | [`store`] | SQLite: runs, what was seen, what a restart needs | write the state directory |
//! | [`control`] | the socket's protocol: types, a connection's state, the client | nothing but bytes |
//! | `web` | the window: pages, the HTTP API, live events; on the other thread, only if the configuration asks | ask the loop |
//! | `metrics` | numbers for Prometheus: plain counts, and their text | look at its own process |
//! | `notify` | webhooks and dead man's switches: queues, deliveries; on the other thread, only if there is one to call | call out |
//! | [`reactor`] | the loop: readiness in, effects out | wait |
//! | [`cli`] | one file a command | print |
//!
//! Data flows one way: reactor, engine, effects, reactor. The engine reads no clock and makes no system call, so that a
//! test can drive it through years and crashes.
//!
//! # How an event travels
//!
//! An object is put into a bucket that a job watches:
//!
//! 1. The watch's poll runs as a future on the other thread, lists a page and posts what is new to the reactor's
//!    [`triggers::Mailbox`]: an eventfd wakes the loop.
//! 2. The reactor reads both clocks once, and calls the source, which hands over a [`triggers::Batch`]: the events, and
//!    the objects that count as seen from now on.
//! 3. The engine gets an [`engine::Event::Fired`]. It makes a run for each event, looks at the job's concurrency,
//!    dependencies and the slots that are free, and answers with effects: records, and the processes to start.
//! 4. The reactor commits all records of the turn and the objects seen in one transaction. A crash before it finds the
//!    objects again; a crash after it has their runs. (A turn without objects, while turns follow each other closely, goes
//!    into the state's journal by one write first.) Then it tells the source, starts the processes and tells the followers.
//! 5. The process's pidfd becomes readable when it ends: [`engine::Event::Exited`]. The engine decides what that means
//!    (an end, a retry, jobs downstream that are now satisfied or skipped), and it goes round again.

pub mod cli;
pub mod config;
pub mod control;
pub mod cron;
pub mod dag;
pub mod drawing;
pub mod engine;
pub mod exec;
pub mod files;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod model;
#[cfg(feature = "notify")]
pub mod notify;
#[doc(hidden)]
pub mod planted;
pub mod reactor;
pub mod store;
pub mod text;
pub mod triggers;
#[cfg(feature = "web")]
pub mod web;
