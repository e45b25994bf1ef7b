//! firelink: a job scheduler for Linux boxes that have little to spare.
//!
//! One thread sleeps in `epoll_wait` until something is due; what runs and when is in one YAML file. The crate is the
//! daemon and its command line; nothing here is meant as an API for other programs, which talk to the control socket.
//!
//! # Rooms
//!
//! A room imports what its line names, and nothing else of this crate; `tests/rooms.rs` reads this table and the sources.
//!
//! | room | subject | may | imports |
//! | --- | --- | --- | --- |
//! | [`model`] | ids, the two clocks, run states, units, objects seen | nothing | |
//! | [`text`] | text for people: nearest known name | nothing | |
//! | [`files`] | replacing a file atomically; opening files below a directory's descriptor | write the file that it is given | |
//! | [`logs`] | the log of a run on disk: segments, joining, reading | write the files that it is given | `files`, `model` |
//! | [`cron`] | schedules, zones: the instants at which they fire | nothing: pure | `model`, `text` |
//! | [`dag`] | the graph of dependencies, and the credit rule | nothing: pure | `model` |
//! | [`drawing`] | layers and lanes of a graph, for the terminal and the web UI | nothing: pure | `dag`, `model` |
//! | [`engine`] | run states, deadlines, concurrency, retries, catch-up: (now, event) into effects | nothing: pure | `cron`, `dag`, `model` |
//! | [`exec`] | processes, and their output into their logs | system calls | `files`, `logs`, `model` |
//! | [`helper`] | looking at paths that may hang: another process, requests and answers | system calls, in a process of its own | `exec`, `files`, `model` |
//! | [`triggers`] | what makes a job want to run: a file or folder a type | ask its host | `cron`, `engine`, `exec`, `helper`, `model`, `text` |
//! | [`store`] | SQLite and the journal: runs, objects seen, recovery | write the state directory | `cron`, `engine`, `files`, `logs`, `model` |
//! | [`config`] | YAML into a checked [`config::Config`], or every error in it | read files | `cron`, `dag`, `engine`, `exec`, `model`, `store`, `text`, `triggers` |
//! | [`control`] | the socket's protocol: types, a connection's state, the client | nothing but bytes | `model`, `text` |
//! | `metrics` | numbers for Prometheus: counts, and their text format | look at its own process | `model` |
//! | `notify` | webhooks and dead man's switches: queues, deliveries; on the other thread, only if one is configured | call out | `config`, `control`, `cron`, `model`, `triggers` |
//! | `web` | the web UI: pages, the HTTP API, live events; on the other thread, only if it is configured | ask the loop | `config`, `control`, `cron`, `logs`, `metrics`, `model`, `store`, `text`, `triggers` |
//! | [`reactor`] | the loop: readiness in, effects out | wait | every room but `cli` |
//! | [`cli`] | one file a command | print | every room |
//!
//! Data flows one way: reactor, engine, effects, reactor. The engine reads no clock and makes no system call, so that a
//! test can drive it through years and crashes.
//!
//! # How an event travels
//!
//! An object is put into a bucket that a job watches:
//!
//! 1. The watch's poll runs as a future on the other thread, lists a page and posts the new objects to the reactor's
//!    [`triggers::Mailbox`]: an eventfd wakes the loop.
//! 2. The reactor reads both clocks once and calls the source, which hands over a [`model::Batch`]: the events, and
//!    the objects that count as seen from now on.
//! 3. The engine gets an [`engine::Event::Fired`]. It makes a run for each event, checks the job's concurrency,
//!    dependencies and free slots, and answers with effects: records, and the processes to start.
//! 4. The reactor commits all records of the turn and the objects seen in one transaction. A crash before it finds the
//!    objects again; a crash after it has their runs. (A turn without objects, while turns follow each other closely, is
//!    appended to the state's journal by one write first.) Then it notifies the source, starts the processes and notifies
//!    the observers.
//! 5. The process's pidfd becomes readable when it ends: [`engine::Event::Exited`]. The engine decides what that means
//!    (an end, a retry, downstream jobs that are now satisfied or skipped), and the next turn begins.

pub mod cli;
pub mod config;
pub mod control;
pub mod cron;
pub mod dag;
pub mod drawing;
pub mod engine;
pub mod exec;
pub mod files;
pub mod helper;
pub mod logs;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod model;
#[cfg(feature = "notify")]
pub mod notify;
pub mod reactor;
#[cfg(test)]
#[path = "../tests/support/skip.rs"]
mod skip;
pub mod store;
pub mod text;
pub mod triggers;
#[cfg(feature = "web")]
pub mod web;
