//! The loop's side of the window: opening and closing it with the configuration, and what is asked through it.

use std::any::Any;

use super::Reactor;
use super::bridge::WINDOW;
use super::clocks::Clocks;
use crate::config::{Listen, Web};
use crate::control::commands::events::{Happened, What};
#[cfg(feature = "metrics")]
use crate::web::Scrape;
use crate::web::{Ask, Listener, Settings, Told, Window as Open, bind, read_token};

/// The window as it is meant to be, and as it is.
#[derive(Default)]
pub(super) struct Window {
    /// What the configuration says; what it is opened with.
    asked: Option<(Web, Settings)>,
    open: Option<Open>,
    listener: Option<Listener>,
    /// Why it is not open although it should be.
    trouble: Option<String>,
}

impl Window {
    pub fn is_followed(&self) -> bool {
        self.open.as_ref().is_some_and(Open::is_followed)
    }

    /// Tells followers what happened; `line` says it in JSON.
    pub fn tell(&self, happened: &Happened, line: &str) {
        if let Some(open) = &self.open {
            let ended = happened.run.filter(|_| happened.what == What::Ended);
            open.tell(Told { ended, line: line.to_owned() });
        }
    }

    pub fn trouble(&self) -> Option<String> {
        self.trouble.clone()
    }
}

impl<C: Clocks> Reactor<C> {
    /// Opens, moves or closes the window, as the configuration has it now. A window that can't be opened is a warning:
    /// jobs matter more than who looks at them.
    pub(super) fn open_window(&mut self) {
        self.window.trouble = None;
        let Some(web) = self.config.web.clone() else {
            if self.window.asked.take().is_some() {
                log::info!("the window is closed");
            }
            self.window = Window::default();
            return;
        };
        match self.try_open(web) {
            Ok(()) => {}
            Err(why) => {
                let trouble = format!("the window is not open: {why}; mend it and reload");
                log::error!("{trouble}");
                self.window = Window { trouble: Some(trouble), ..Window::default() };
            }
        }
    }

    fn try_open(&mut self, web: Web) -> Result<(), String> {
        let token = web.token_file.as_deref().map(read_token).transpose()?;
        let settings = Settings {
            address: match &web.listen {
                Listen::Tcp(address) => Some(address.ip()),
                Listen::Unix(_) => None,
            },
            token,
            allowed_hosts: web.allowed_hosts.clone(),
            state_dir: self.state_dir.clone(),
            zone: self.config.zone,
        };
        let asked = (web, settings);
        if self.window.open.is_some() && self.window.asked.as_ref() == Some(&asked) {
            return Ok(());
        }
        let old = std::mem::take(&mut self.window);
        let same_place = old.asked.is_some_and(|(was, _)| was.listen == asked.0.listen);
        // Connections end with the old settings; the listener of another place lets go of it before this one is taken.
        drop(old.open);
        let listener = match old.listener.filter(|_| same_place) {
            Some(listener) => listener,
            None => bind(&asked.0.listen)?,
        };
        let open = self.serve_window(&listener, asked.1.clone()).map_err(|error| error.to_string())?;
        log::info!("the window is open: {}", listener.address());
        self.window = Window { asked: Some(asked), open: Some(open), listener: Some(listener), trouble: None };
        Ok(())
    }

    fn serve_window(&mut self, listener: &Listener, settings: Settings) -> std::io::Result<Open> {
        let runtime = self.bridge.runtime()?;
        Open::open(&runtime, listener, settings, self.bridge.mailbox(WINDOW))
    }

    /// Somebody asks through the window.
    pub(super) fn asked_by_window(&mut self, message: Box<dyn Any + Send>) {
        #[cfg(feature = "metrics")]
        let message = match message.downcast::<Scrape>() {
            // Whoever asked may be gone by now.
            Ok(scrape) => return drop(scrape.answer.send(Box::new(self.snapshot()))),
            Err(message) => message,
        };
        let Ok(ask) = message.downcast::<Ask>() else { return debug_assert!(false, "only the window has its mailbox") };
        let Ask { request, answer } = *ask;
        // Whoever asked may be gone by the time of the answer.
        let peer = self.peers.ask_from_elsewhere(Box::new(move |reply| drop(answer.send(reply))));
        self.answer(peer, request);
    }
}
