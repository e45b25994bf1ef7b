//! Connections to a target: TLS with its trusted certificates, and proxies.

use std::path::Path;

use crate::daemon::Place;
use crate::server::{OK, Server, tls};
use crate::tunnel::Tunnel;

const JOBS: &str = "jobs: [{ name: bad, command: exit 3 }]\n";

/// A place with the target `url`.
fn place(url: &str, more: &str, env: &[(&str, &str)]) -> Place {
    Place::new(&format!("{JOBS}notify: [{{ url: \"{url}\"{more} }}]\n")).with_env(env.to_vec())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn tls_trusts_the_file_of_certificates_which_a_reload_reads_again() {
    let server = Server::start_tls("server");
    let more = ", retry: { attempts: 100, delay: 20ms, backoff: fixed, jitter: false }";
    let trusted = tempfile::NamedTempFile::new().unwrap();
    // Some other certificate.
    std::fs::copy(tls("past.pem"), trusted.path()).unwrap();
    let place = place(&server.url, more, &[("SSL_CERT_FILE", text(trusted.path()))]);
    let mut daemon = place.start();
    daemon.trigger("bad");
    let line = daemon.wait_for_log("next try in");
    assert!(line.contains(&format!("https://{}: ", server.authority())) && line.contains("certificate"), "{line}");
    assert!(!line.contains("a-secret-path"), "{line}");
    std::fs::copy(tls("ca.pem"), trusted.path()).unwrap();
    place.prints(&["ctl", "reload"]);
    let call = server.take();
    assert!(call.line.starts_with("POST /a-secret-path "), "{}", call.line);
    assert_eq!((call.header("host"), call.json()["run"]["exit_code"].as_i64()), (Some(server.authority()), Some(3)));
}

#[test]
fn tls_trusts_a_directory_of_certificates() {
    let server = Server::start_tls("server");
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(tls("ca.pem"), folder.path().join("ca.pem")).unwrap();
    let place = place(&server.url, "", &[("SSL_CERT_DIR", text(folder.path()))]);
    let daemon = place.start();
    daemon.trigger("bad");
    server.take();
}

#[test]
fn an_expired_or_foreign_certificate_is_an_error_with_the_reason() {
    let (other, past) = (Server::start_tls_at("127.0.0.2", "server"), Server::start_tls("past"));
    let cases = [(&other.url, "ca.pem", "not valid for name \"127.0.0.2\""), (&past.url, "past.pem", "certificate expired")];
    for (url, trusted, told) in cases {
        let place = place(url, ", retry: 1", &[("SSL_CERT_FILE", text(&tls(trusted)))]);
        let mut daemon = place.start();
        daemon.trigger("bad");
        let line = daemon.wait_for_log("webhook delivery failed");
        assert!(line.contains(told), "{line}");
    }
}

#[test]
fn missing_certificates_are_an_error() {
    let server = Server::start_tls("server");
    let place = place(&server.url, ", retry: 1", &[("SSL_CERT_FILE", "/nonexistent/ca.pem")]);
    let mut daemon = place.start();
    daemon.trigger("bad");
    let line = daemon.wait_for_log("webhook delivery failed");
    assert!(line.contains("certificates can't be read") && line.contains("/nonexistent/ca.pem"), "{line}");
}

#[test]
fn https_goes_through_a_tunnel_unless_the_host_is_an_exception() {
    let server = Server::start_tls("server");
    let proxy = Tunnel::start();
    let ca = tls("ca.pem");
    let env = [("SSL_CERT_FILE", text(&ca)), ("HTTPS_PROXY", &proxy.endpoint())];
    for exception in ["", "localhost"] {
        let place = place(&server.url, "", &[&env[..], &[("NO_PROXY", exception)]].concat());
        let daemon = place.start();
        daemon.trigger("bad");
        let call = server.take();
        assert!(call.line.starts_with("POST /a-secret-path HTTP/1.1"), "{}", call.line);
        assert_eq!(call.header("proxy-authorization"), None);
    }
    assert_eq!(proxy.asked(), [format!("CONNECT {} HTTP/1.1", server.authority())]);
}

#[test]
fn proxy_credentials_are_sent_and_a_refusal_is_an_error() {
    let proxy = Server::start();
    let with_name = proxy.url.replace("http://", "http://Aladdin:opensesame@");
    let ways = [("https://firelink.invalid/x", "HTTPS_PROXY"), ("http://firelink.invalid/x", "HTTP_PROXY")];
    for (url, variable) in ways {
        let ca = tls("ca.pem");
        let place = place(url, ", retry: 1", &[(variable, &with_name), ("SSL_CERT_FILE", text(&ca))]);
        let mut daemon = place.start();
        daemon.trigger("bad");
        let mut call = proxy.call();
        assert_eq!(call.header("proxy-authorization"), Some("Basic QWxhZGRpbjpvcGVuc2VzYW1l"));
        call.answer(b"HTTP/1.1 407 Who are you\r\ncontent-length: 0\r\n\r\n");
        drop(call);
        let line = daemon.wait_for_log("webhook delivery failed");
        assert!(line.contains("407") || line.contains("proxy auth"), "{line}");
        let log = daemon.terminate().join("\n");
        assert!(!log.contains("opensesame"), "{log}");
    }
}

#[test]
fn http_goes_through_a_proxy_with_the_absolute_url_unless_the_host_is_an_exception() {
    let proxy = Server::start();
    let far = "http://firelink.invalid/a-token?and=more";
    let through = place(far, "", &[("HTTP_PROXY", &proxy.url)]);
    let daemon = through.start();
    daemon.trigger("bad");
    let call = proxy.take();
    assert_eq!(call.line, format!("POST {far} HTTP/1.1"));
    assert_eq!((call.header("host"), call.header("proxy-authorization")), (Some("firelink.invalid"), None));
    let server = Server::start();
    for exception in ["127.0.0.0/8", "*"] {
        let direct = place(&server.url, "", &[("ALL_PROXY", &proxy.url), ("NO_PROXY", exception)]);
        let daemon = direct.start();
        daemon.trigger("bad");
        assert!(server.take().line.starts_with("POST /a-secret-path "));
    }
}

#[test]
fn a_ping_goes_the_same_ways() {
    let server = Server::start_tls("server");
    let proxy = Tunnel::start();
    let ca = tls("ca.pem");
    let env = [("SSL_CERT_FILE", text(&ca)), ("HTTPS_PROXY", ""), ("https_proxy", &proxy.endpoint())];
    let place = place("http://127.0.0.1:9/", "", &env);
    place.write("firelink.yaml", &format!("jobs: []\nnotify: [{{ ping: \"{}\", every: 100ms }}]", server.url));
    let _daemon = place.start();
    let mut call = server.call();
    assert!(call.line.starts_with("GET /a-secret-path "), "{}", call.line);
    call.answer(OK);
    assert_eq!(proxy.asked().first(), Some(&format!("CONNECT {} HTTP/1.1", server.authority())));
}

#[test]
fn a_proxy_of_another_scheme_is_an_error() {
    for proxy in ["socks5://127.0.0.1:1080", "https://127.0.0.1:3128"] {
        let place = place("http://firelink.invalid/", ", retry: 1", &[("ALL_PROXY", proxy)]);
        let mut daemon = place.start();
        daemon.trigger("bad");
        daemon.wait_for_log("the proxy of the environment is not an http:// URL");
    }
}
