//! A server of AWS's services that is not Rust: moto, whose command `FIRELINK_TEST_MOTO` names (`pip install
//! 'moto[server]'` makes a `moto_server`). Without the variable a test is skipped.

#![allow(clippy::expect_used, reason = "a helper that fails fails its test")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::skip::skip;

/// A server, until it is dropped.
pub struct Moto {
    child: Child,
    pub endpoint: String,
}

impl Moto {
    pub fn start() -> Option<Moto> {
        let Some(command) = std::env::var_os("FIRELINK_TEST_MOTO") else {
            skip("FIRELINK_TEST_MOTO names no moto_server");
            return None;
        };
        let mut child = Command::new(command)
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .env("PYTHONUNBUFFERED", "1")
            .spawn()
            .expect("moto_server starts");
        let mut lines = BufReader::new(child.stderr.take().expect("its stderr")).lines();
        let endpoint = lines.find_map(|line| {
            let line = line.expect("a line of moto's");
            line.split_once("Running on ").map(|(_, url)| url.trim().to_owned())
        });
        // The pipe is read on, or moto blocks when it is full.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Moto { child, endpoint: endpoint.expect("moto says where it runs") })
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
