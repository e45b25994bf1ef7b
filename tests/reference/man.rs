//! The man pages: firelink(1) from the help of every command, firelink.yaml(5) from the tables of keys.

use std::fmt::Write as _;

use firelink::config::reference::{EXECUTION, JOB, Section, TOP, TRIGGERS};

use super::commands::{Command, tree};

/// A text as roff: nothing in it is a request or an escape, and code is bold.
fn roff(text: &str) -> String {
    let mut out = String::new();
    let mut bold = false;
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '`' => {
                bold = !bold;
                out.push_str(if bold { "\\fB" } else { "\\fR" });
            }
            c => out.push(c),
        }
    }
    // A line that begins with a dot or a quote would be a request.
    if out.starts_with(['.', '\'']) { format!("\\&{out}") } else { out }
}

/// Links of Markdown are their text.
fn without_links(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[') {
        let Some((label, link)) = after.split_once("](") else { break };
        let Some((_, tail)) = link.split_once(')') else { break };
        out.push_str(before);
        out.push_str(label);
        rest = tail;
    }
    out + rest
}

fn head(name: &str, section: u8, about: &str) -> String {
    let title = name.to_uppercase();
    format!(
        ".\\\" Made by FIRELINK_UPDATE=1 cargo test --test reference; what is changed here is lost.\n\
         .TH {title} {section} \"\" \"firelink {}\"\n.SH NAME\n{} \\- {}\n",
        env!("CARGO_PKG_VERSION"),
        roff(name),
        roff(about)
    )
}

fn command_page(tree: &Command) -> String {
    let mut page = head("firelink", 1, &tree.about);
    let _ = writeln!(page, ".SH SYNOPSIS\n.B firelink\n{}", roff(&tree.usage));
    page.push_str(
        ".SH DESCRIPTION\nfirelink runs jobs at instants of the clock, on a grid of elapsed time, for each new object of an S3 \
         bucket or file of a folder, for events of plugins, and after other jobs. One YAML file says what to run and when; see\n\
         .BR firelink.yaml (5).\nText goes to standard output, what is wrong to standard error.\n.SH COMMANDS\n",
    );
    for command in tree.all().into_iter().filter(|command| command.commands.is_empty()) {
        let _ = writeln!(page, ".SS firelink {}", roff(&command.path.join(" ")));
        let _ = writeln!(
            page,
            ".B firelink {}\n{}\n.PP\n{}.",
            roff(&command.path.join(" ")),
            roff(&command.usage),
            roff(&sentence(&command.about))
        );
        for (name, about) in &command.arguments {
            let _ = writeln!(page, ".TP\n.I {}\n{}.", roff(name), roff(&sentence(about)));
        }
        for option in &command.options {
            let short = option.short.as_ref().map_or_else(String::new, |short| format!("\\fB{}\\fR, ", roff(short)));
            let value = if option.takes_value {
                format!(" \\fI{}\\fR", roff(option.long.trim_start_matches('-')))
            } else {
                String::new()
            };
            let _ = writeln!(page, ".TP\n{short}\\fB{}\\fR{value}\n{}.", roff(&option.long), roff(&sentence(&option.about)));
        }
    }
    page.push_str(
        ".SH EXIT STATUS\n.TP\n0\nDone.\n.TP\n1\nThe command failed: no such job, a run that failed with \\fB\\-\\-wait\\fR.\n\
         .TP\n2\nUsage or configuration.\n.TP\n3\nNo daemon.\n\
         .SH SIGNALS\n.TP\nTERM, INT\nStart nothing new, wait for running jobs up to \\fBshutdown_timeout\\fR, then end them. A second one ends them at once.\n\
         .TP\nHUP\nRead the configuration anew; a wrong one changes nothing.\n\
         .SH ENVIRONMENT\n.TP\n.B FIRELINK_SOCKET\nThe control socket.\n.TP\n.B XDG_RUNTIME_DIR\nElse the socket is \\fIfirelink.sock\\fR in it.\n\
         .TP\n.B XDG_STATE_HOME\nThe state of a user who is not root is in \\fIfirelink\\fR below it.\n.TP\n.B NO_COLOR\nNo colours.\n\
         .SH FILES\n.TP\n.I /etc/firelink/firelink.yaml\nThe configuration of the service of the packages.\n\
         .TP\n.I /var/lib/firelink\nRoot's state and the logs of runs.\n.TP\n.I /run/firelink.sock\nThe socket, if no variable names another.\n\
         .SH SEE ALSO\n.BR firelink.yaml (5),\n.BR crontab (5)\n",
    );
    page
}

/// Begins like a sentence.
fn sentence(text: &str) -> String {
    let mut chars = text.trim_end_matches('.').chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn file_page() -> String {
    let mut page = head("firelink.yaml", 5, "configuration of firelink");
    page.push_str(
        ".SH DESCRIPTION\nOne YAML file. An unknown key is an error that names the nearest;\n.B firelink check\nshows every mistake at once.\n.PP\n\
         A duration is 250ms, 10s, 5m, 1h30m or 2d; a size is 64KiB, 10MiB or 1MB. A text is what stands there, whatever YAML \
         calls its type. A command is a text, which /bin/sh \\-c runs, or a list of texts, which is run directly. Relative \
         paths start from the job's \\fBcwd\\fR.\n.SH EXAMPLE\n.nf\n",
    );
    for line in include_str!("../../examples/three-jobs.yaml").lines() {
        let _ = writeln!(page, "{}", roff(line));
    }
    page.push_str(".fi\n");
    section(&mut page, &TOP, ".SH THE FILE");
    below(&mut page, &TOP);
    section(&mut page, &JOB, ".SH JOBS");
    section(&mut page, &EXECUTION, ".SH EXECUTION");
    below(&mut page, &EXECUTION);
    page.push_str(".SH TRIGGERS\nA trigger is a word with its keys beside it in the job, or a map with its \\fBtype\\fR; both mean the same.\n");
    for trigger in TRIGGERS {
        section(&mut page, trigger, &format!(".SS {}", trigger.name));
        below(&mut page, trigger);
    }
    page.push_str(".SH SEE ALSO\n.BR firelink (1)\n");
    page
}

fn below(page: &mut String, section_above: &'static Section) {
    for map in section_above.keys.iter().flat_map(|key| key.kind.maps()).filter(|map| map.name != EXECUTION.name) {
        section(page, map, &format!(".SS {}", map.name));
        below(page, map);
    }
}

fn section(page: &mut String, section: &Section, title: &str) {
    let _ = writeln!(page, "{title}\n{}", roff(&without_links(section.about)));
    for key in section.keys {
        let kind = without_links(&key.kind.in_words()).replace('`', "");
        let _ = writeln!(page, ".TP\n\\fB{}\\fR (\\fI{}\\fR)\n{}", roff(key.name), roff(&kind), roff(key.about));
        match key.unset.in_words() {
            None if section.needs.contains(&key.name) => page.push_str("Required.\n"),
            None => {}
            Some(unset) => {
                let _ = writeln!(page, "Default: {}.", roff(&unset));
            }
        }
    }
}

#[test]
fn the_man_pages_are_up_to_date() {
    super::assert_current("packaging/man/firelink.1", &command_page(&tree()));
    super::assert_current("packaging/man/firelink.yaml.5", &file_page());
}
