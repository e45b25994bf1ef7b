//! The capabilities of the terminal: its size, colours, and characters past ASCII.

use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;

/// How to draw on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terminal {
    /// Whether escape sequences for colours may be written: on a terminal, unless `NO_COLOR` is set.
    pub colour: bool,
    /// Whether the locale's characters are UTF-8's.
    pub unicode: bool,
    /// Columns.
    pub width: usize,
    /// Lines; none where there is no terminal.
    pub height: Option<usize>,
}

/// The width without a terminal, or if the terminal does not report it.
const WIDTH: usize = 80;

impl Terminal {
    /// The terminal on standard output.
    pub fn of_stdout() -> Terminal {
        let stdout = std::io::stdout();
        let is_terminal = stdout.is_terminal();
        let size = if is_terminal { crate::exec::terminal_size(stdout.as_fd()) } else { None };
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = variable("TERM").is_none_or(|term| term == "dumb");
        Terminal {
            colour: is_terminal && !dumb && variable("NO_COLOR").is_none(),
            // POSIX, XBD 8.2: the first of these that is set and not empty.
            unicode: ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| variable(name)).is_some_and(|locale| {
                let locale = locale.to_string_lossy().to_ascii_lowercase();
                locale.contains("utf-8") || locale.contains("utf8")
            }),
            width: size.map_or(WIDTH, |(width, _)| usize::from(width)),
            height: size.map(|(_, height)| usize::from(height)),
        }
    }

    /// A text in a colour, or as it is.
    pub fn paint(self, colour: Colour, text: &str) -> String {
        match colour {
            _ if !self.colour || text.is_empty() => text.to_owned(),
            Colour::Plain => text.to_owned(),
            colour => format!("\x1b[{}m{text}\x1b[0m", colour as u8),
        }
    }

    /// A text cut to a width, with a mark where it was cut.
    pub fn cut(self, text: &str, width: usize) -> String {
        if text.chars().count() <= width {
            return text.to_owned();
        }
        let mark = if self.unicode { "…" } else { "~" };
        let kept: String = text.chars().take(width.saturating_sub(1)).collect();
        format!("{kept}{mark}")
    }
}

/// The colours in use, by their SGR numbers (ECMA-48).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    Plain = 0,
    Bold = 1,
    Dim = 2,
    Red = 31,
    Green = 32,
    Yellow = 33,
    Cyan = 36,
}
