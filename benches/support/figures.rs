//! The output of a bench's figures: to stdout, and with `-- --write` between its markers in `docs/figures.md`.

use std::path::Path;

/// Prints the table, and writes it down if asked to.
pub fn publish(bench: &str, table: &str) {
    let text = format!("{}\n\n{table}", circumstances());
    println!("{text}");
    if !std::env::args().any(|arg| arg == "--write") {
        return;
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/figures.md");
    let old = std::fs::read_to_string(&page).expect("docs/figures.md");
    let (begin, end) = (format!("<!-- benches/{bench}.rs writes from here -->\n"), "<!-- to here -->");
    let (before, rest) = old.split_once(&begin).expect("the marker of this bench");
    let (_, after) = rest.split_once(end).expect("the marker of its end");
    std::fs::write(&page, format!("{before}{begin}{text}{end}{after}")).expect("docs/figures.md");
}

/// When and on what.
fn circumstances() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned();
    format!(
        "{}, {}, {}, {cores} cores, Linux {}, load average {load} before the end.",
        chrono::Utc::now().format("%Y-%m-%d"),
        std::env::consts::ARCH,
        model.unwrap_or("an unnamed processor"),
        read("/proc/sys/kernel/osrelease").trim().split('-').next().unwrap_or_default(),
    )
}
