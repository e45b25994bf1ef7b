//! The web UI: opened and closed with the configuration; its followers, and the requests that come through it.

use std::any::Any;

use super::{Context, Handled, Observer, Report};
use crate::config::{Listen, Web};
use crate::control::commands::events::What;
use crate::reactor::bridge::OBSERVERS;
use crate::web::{ApiRequest, EventLine, Listener, Server, Settings, bind, read_token};

/// The web UI as it is meant to be, and as it is.
#[derive(Default)]
pub(super) struct WebUi {
    /// What the configuration says; what it is opened with.
    asked: Option<(Web, Settings)>,
    open: Option<Server>,
    listener: Option<Listener>,
    /// Why it is not open although it should be.
    trouble: Option<String>,
}

impl Observer for WebUi {
    /// Opens, moves or closes the web UI. One that can't be opened is a warning: jobs matter more than who looks at them.
    fn configure(&mut self, cx: &mut Context<'_>) {
        self.trouble = None;
        let Some(web) = cx.core.config.web.clone() else {
            if self.asked.take().is_some() {
                log::info!("the web UI is closed");
            }
            *self = WebUi::default();
            return;
        };
        if let Err(why) = self.try_open(web, cx) {
            let trouble = format!("the web UI is not open: {why}; fix it and reload");
            log::error!("{trouble}");
            *self = WebUi { trouble: Some(trouble), ..WebUi::default() };
        }
    }

    /// Followers get every event.
    fn on_notice(&mut self, report: &Report<'_>, cx: &mut Context<'_>) {
        if let Some(open) = self.open.as_ref().filter(|open| open.is_followed()) {
            let event = report.event(cx.core);
            let ended = event.run.filter(|_| event.what == What::Ended);
            open.publish(EventLine { ended, line: report.line(cx.core).trim_end().to_owned() });
        }
    }

    fn on_message(&mut self, message: Box<dyn Any + Send>, _cx: &mut Context<'_>) -> Handled {
        match message.downcast::<ApiRequest>() {
            Ok(ask) => {
                let ApiRequest { request, answer } = *ask;
                // The connection may be closed by the time of the reply.
                Handled::Request(request, Box::new(move |reply| drop(answer.send(reply))))
            }
            Err(other) => Handled::Other(other),
        }
    }

    fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }
}

impl WebUi {
    fn try_open(&mut self, web: Web, cx: &mut Context<'_>) -> Result<(), String> {
        let token = web.token_file.as_deref().map(read_token).transpose()?;
        let settings = Settings {
            address: match &web.listen {
                Listen::Tcp(address) => Some(address.ip()),
                Listen::Unix(_) => None,
            },
            token,
            allowed_hosts: web.allowed_hosts.clone(),
            state_dir: cx.core.ledger.state_dir().to_owned(),
            zone: cx.core.config.zone,
        };
        let asked = (web, settings);
        if self.open.is_some() && self.asked.as_ref() == Some(&asked) {
            return Ok(());
        }
        let old = std::mem::take(self);
        let same_place = old.asked.is_some_and(|(was, _)| was.listen == asked.0.listen);
        // Connections end with the old settings; a listener of another place is closed before this one is opened.
        drop(old.open);
        let listener = match old.listener.filter(|_| same_place) {
            Some(listener) => listener,
            None => bind(&asked.0.listen)?,
        };
        let runtime = cx.bridge.runtime().map_err(|error| error.to_string())?;
        let mailbox = cx.bridge.mailbox(OBSERVERS);
        let open = Server::open(&runtime, &listener, asked.1.clone(), mailbox).map_err(|error| error.to_string())?;
        log::info!("the web UI is open: {}", listener.address());
        *self = WebUi { asked: Some(asked), open: Some(open), listener: Some(listener), trouble: None };
        Ok(())
    }
}
