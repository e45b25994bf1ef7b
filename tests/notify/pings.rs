//! Pings, for dead man's switches.

use std::time::Duration;

use crate::daemon::Place;
use crate::server::Server;

#[test]
fn pings_are_sent_periodically_until_the_daemon_is_dead() {
    let server = Server::start();
    let place = Place::new(&format!("jobs: []\nnotify: [{{ ping: \"{}\", every: 100ms }}]", server.url));
    let daemon = place.start();
    for _ in 0..3 {
        let call = server.take();
        assert!(call.line.starts_with("GET /a-secret-path ") && call.body.is_empty(), "{}", call.line);
    }
    assert_eq!(daemon.status()["notify"][0]["kind"], "ping");
    daemon.crash();
    // What was on its way when it died; then nobody can call.
    while let Ok(mut call) = server.within(Duration::from_millis(500)) {
        call.answer(crate::server::OK);
    }
    assert!(server.within(Duration::from_millis(500)).is_err());
}
