//! Names of signals.

/// A signal's name: `SIGTERM`, `SIGRTMIN+3`, or `signal 99` for one without a name.
#[must_use]
pub fn signal_name(number: i32) -> String {
    if let Ok(signal) = nix::sys::signal::Signal::try_from(number) {
        return signal.as_str().to_owned();
    }
    let first = nix::libc::SIGRTMIN();
    if (first..=nix::libc::SIGRTMAX()).contains(&number) {
        return if number == first { "SIGRTMIN".into() } else { format!("SIGRTMIN+{}", number - first) };
    }
    format!("signal {number}")
}

#[cfg(test)]
mod tests {
    use super::signal_name;

    #[test]
    fn signals_have_their_usual_names() {
        assert_eq!(signal_name(15), "SIGTERM");
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(nix::libc::SIGRTMIN() + 3), "SIGRTMIN+3");
        assert_eq!(signal_name(99), "signal 99");
    }
}
