//! `web`: the web UI.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::fields::Fields;
use super::keys;
use super::{Listen, Surroundings, Web};
use crate::text::quoted;

/// Reads the map `web`.
pub(super) fn read_web(fields: &Fields<'_>, surroundings: &Surroundings) -> Option<Web> {
    let web = fields.map("web", keys::WEB)?;
    let findings = web.cx.findings;
    let token_file = web.path("token_file").map(|file| surroundings.start_dir.join(file));
    let allowed_hosts: Vec<String> =
        web.list("allowed_hosts").unwrap_or_default().iter().map(|host| host.value.to_ascii_lowercase()).collect();
    if !web.has("listen") {
        let help = "for example `listen: \"127.0.0.1:8080\"`, or `listen: \"unix:/run/firelink-web.sock\"`";
        findings.error(web.place, "`web` needs `listen`", help);
        return None;
    }
    let text = web.word("listen")?;
    let Some(listen) = parse_listen(text.value, surroundings) else {
        let help = "write an address with its port, like `127.0.0.1:8080` or `[::1]:8080`, or `unix:` and a path";
        findings.error(text.place, format!("invalid address {} for `listen`", quoted(text.value)), help);
        return None;
    };
    if let Listen::Tcp(address) = &listen
        && !address.ip().is_loopback()
        && !web.has("token_file")
    {
        let message = format!("{} is reachable from other machines, but `token_file` is not set", quoted(text.value));
        let help = "name a file whose first line is the token that requests must carry, or listen on 127.0.0.1";
        findings.error(text.place, message, help);
        return None;
    }
    Some(Web { listen, token_file, allowed_hosts })
}

fn parse_listen(text: &str, surroundings: &Surroundings) -> Option<Listen> {
    if let Some(path) = text.strip_prefix("unix:") {
        return (!path.is_empty()).then(|| Listen::Unix(surroundings.start_dir.join(PathBuf::from(path))));
    }
    let local = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
    let local = local.map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    local.or_else(|| text.parse().ok()).map(Listen::Tcp)
}
