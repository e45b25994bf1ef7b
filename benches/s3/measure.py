"""Measures the S3 watch; see run.sh, which starts this with the release binary."""

import datetime
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from servers import BUCKET, PREFIX

HERE = Path(__file__).resolve().parent
FIGURES = HERE.parent.parent / "docs" / "figures.md"
NEW_OBJECTS = 1_000
LARGEST_GROWTH = 32_000_000
TEST_TIMEOUT = 1_800
TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A promise that does not hold."""


def wait_for(what, condition):
    deadline = time.monotonic() + TEST_TIMEOUT
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise Failed(f"{what} did not come in {TEST_TIMEOUT} s")


class Server:
    """One of servers.py, until `close`."""

    def __init__(self, kind):
        command = [sys.executable, str(HERE / "servers.py"), kind]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.endpoint = self.child.stdout.readline().strip()

    def ask(self, command):
        self.child.stdin.write(command + "\n")
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())

    def polls(self, since=0.0):
        """The whole listings that began after an instant: from the first request to the last answer."""
        polls, begun = [], None
        for page in self.ask("pages"):
            if page["begins"]:
                begun = page["asked"]
            if page["ends"] and begun is not None:
                if begun >= since:
                    polls.append((begun, page["answered"]))
                begun = None
        return polls

    def close(self):
        self.child.stdin.close()
        self.child.wait()


class Daemon:
    """A firelink at work, with one watch."""

    def __init__(self, firelink, place, server, prefix, interval="1s", ordered=False):
        self.firelink, self.place = firelink, place
        place.mkdir(exist_ok=True)
        config = place / "firelink.yaml"
        trigger = f'{{ type: watch, source: "s3://{BUCKET}/{prefix}", poll_interval: {interval}, ordered: {str(ordered).lower()} }}'
        # A job without a command is a run all the same, and what it costs is the watch's.
        config.write_text(f"jobs:\n  - {{ name: each, trigger: {trigger}, output: {{ keep_runs: 100000 }} }}\n")
        env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        env |= {"AWS_ENDPOINT_URL": server.endpoint, "AWS_REGION": "us-east-1"}
        env |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "NO_PROXY": "127.0.0.1"}
        command = [firelink, "run", str(config), "--state-dir", str(place / "state"), "--socket", str(place / "socket")]
        self.child = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        self.log = []
        threading.Thread(target=lambda: self.log.extend(self.child.stderr), daemon=True).start()
        self.proc = Path("/proc") / str(self.child.pid)

    def wait_for_log(self, part):
        wait_for(f"`{part}`", lambda: any(part in line for line in list(self.log)))

    def cpu(self):
        """Seconds of the processor so far."""
        fields = (self.proc / "stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self):
        """RSS, private dirty memory and the highest RSS so far, in bytes."""
        rollup = (self.proc / "smaps_rollup").read_text()
        status = (self.proc / "status").read_text()
        of = lambda text, name: int(re.search(rf"^{name}:\s+(\d+) kB", text, re.M)[1]) * 1024
        return {"rss": of(rollup, "Rss"), "dirty": of(rollup, "Private_Dirty"), "peak": of(status, "VmHWM")}

    def written(self):
        """Bytes that it made the kernel write to disk."""
        return int(re.search(r"^write_bytes: (\d+)", (self.proc / "io").read_text(), re.M)[1])

    def wakeups(self):
        """How often a thread of it went to sleep."""
        texts = [(task / "status").read_text() for task in (self.proc / "task").iterdir()]
        return sum(int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.M)[1]) for text in texts)

    def runs(self):
        command = [self.firelink, "history", "--format", "json", "--limit", "100000", "--state-dir", str(self.place / "state")]
        return json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)

    def close(self):
        self.child.send_signal(signal.SIGTERM)
        self.child.wait()
        warnings = [line for line in self.log if "WARN" in line or "ERROR" in line]
        if warnings:
            raise Failed("the daemon had to warn:\n" + "".join(warnings))


def quiet_poll(daemon, server):
    """Time and processor time of a poll that finds nothing."""
    count = len(server.polls())
    wait_for("a poll", lambda: len(server.polls()) > count)
    cpu, count = daemon.cpu(), len(server.polls())
    polls = wait_for("two polls", lambda: (found := server.polls())[count + 1 :] and found)
    return polls[-1][1] - polls[-1][0], (daemon.cpu() - cpu) / (len(polls) - count)


def measure(firelink, scratch, kind, keys):
    """All about one server with so many keys."""
    say(f"{kind}: {keys:,} keys are made")
    server = Server(kind)
    figures = {"keys": keys}
    server.ask(f"put 0 {keys}")

    say(f"{kind}: a prefix without a key")
    daemon = Daemon(firelink, scratch / f"{kind}-none", server, "none/")
    daemon.wait_for_log("the first scan is done")
    quiet_poll(daemon, server)
    figures["before"] = daemon.memory()
    daemon.close()

    say(f"{kind}: the baseline")
    place = scratch / kind
    started = time.time()
    daemon = Daemon(firelink, place, server, PREFIX)
    daemon.wait_for_log("the first scan is done")
    began, ended = server.polls(started)[0]
    figures["baseline"] = (ended - began, daemon.cpu())
    figures["written"] = daemon.written()
    say(f"{kind}: quiet polls")
    figures["quiet"] = quiet_poll(daemon, server)
    figures["after"] = daemon.memory()

    say(f"{kind}: {NEW_OBJECTS:,} new keys")
    server.ask(f"put {keys} {NEW_OBJECTS}")
    # Two whole polls after the one that finds them: none of them may find one again.
    put = time.time()
    wait_for("three polls", lambda: len(server.polls(put)) >= 3)
    runs = wait_for("the end of all runs", lambda: all_ended(daemon.runs()))
    distinct = {run["event"]["key"] for run in runs}
    figures["runs"] = len(runs)
    if len(runs) != NEW_OBJECTS or len(distinct) != NEW_OBJECTS or {run["state"] for run in runs} != {"succeeded"}:
        raise Failed(f"{NEW_OBJECTS} new objects made {len(runs)} runs of {len(distinct)} objects")
    daemon.close()

    say(f"{kind}: a restart, and `ordered`")
    started = time.time()
    daemon = Daemon(firelink, place, server, PREFIX, ordered=True)
    wait_for("the full listing", lambda: server.polls(started))
    figures["ordered"] = quiet_poll(daemon, server)
    figures["restarted"] = daemon.memory()
    if len(daemon.runs()) != NEW_OBJECTS:
        raise Failed("a restart made runs of objects seen before")
    daemon.close()
    server.close()
    return figures


def idle_wakeups(firelink, scratch):
    """Wakeups of all threads in 20 s between two polls, ten seconds after the first."""
    server = Server("listing")
    server.ask("put 0 10")
    daemon = Daemon(firelink, scratch / "idle", server, PREFIX, interval="60s")
    daemon.wait_for_log("the first scan is done")
    time.sleep(10)
    before, cpu = daemon.wakeups(), daemon.cpu()
    time.sleep(20)
    wakeups, cpu = daemon.wakeups() - before, daemon.cpu() - cpu
    daemon.close()
    server.close()
    return wakeups, cpu


def all_ended(runs):
    return [] if any(run["state"] in ("pending", "running") for run in runs) else runs


def check(figures):
    for when in ("after", "restarted"):
        for what in ("rss", "dirty", "peak"):
            growth = figures[when][what] - figures["before"][what]
            if growth > LARGEST_GROWTH:
                raise Failed(f"{figures['keys']:,} keys cost {growth / 1e6:.1f} MB ({what}, {when}), more than 32 MB")


def table(columns, idle):
    def mb(value):
        return f"{value / 1e6:.1f} MB"

    def pair(figures, name):
        seconds, cpu = figures[name]
        return f"{seconds:.2f} s / {cpu:.2f} s"

    def memory(what, *names):
        return lambda figures: " / ".join(mb(figures[name][what]) for name in names)

    def per_key(figures):
        return f"{(figures['after']['dirty'] - figures['before']['dirty']) / figures['keys']:.1f}"

    rows = [
        ("first scan: time / CPU time", lambda figures: pair(figures, "baseline")),
        ("first scan: written to disk", lambda figures: mb(figures["written"])),
        ("poll that finds nothing: time / CPU time", lambda figures: pair(figures, "quiet")),
        ("the same with `ordered: true`", lambda figures: pair(figures, "ordered")),
        (f"runs of {NEW_OBJECTS:,} new objects", lambda figures: f"{figures['runs']:,}"),
        ("RSS without a key / with all", memory("rss", "before", "after")),
        ("private dirty memory without a key / with all", memory("dirty", "before", "after")),
        ("private dirty bytes a key", per_key),
        ("highest RSS without a key / first scan / after a restart", memory("peak", "before", "after", "restarted")),
    ]
    heads = [f"{figures['keys']:,} keys, {kind}" for kind, figures in columns]
    lines = ["| | " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(heads)]
    lines += [f"| {name} | " + " | ".join(of(figures) for _, figures in columns) + " |" for name, of in rows]
    lines.append("")
    lines.append(f"Between two polls, in 20 s: {idle[0]} wakeups of all threads, {idle[1]:.2f} s of CPU time.")
    return "\n".join(lines)


def machine():
    found = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    model = f", {found[1]}" if found else ""
    return f"{platform.machine()}{model}, {os.cpu_count()} cores, Linux {platform.release().split('-')[0]}"


def write(text):
    """Puts the text between the markers of docs/figures.md."""
    whole = FIGURES.read_text()
    begin, end = "<!-- benches/s3/run.sh writes from here -->\n", "<!-- to here -->"
    before, rest = whole.split(begin, 1)
    _, after = rest.split(end, 1)
    FIGURES.write_text(f"{before}{begin}{text}\n{end}{after}")


def say(text):
    print(f"[{datetime.datetime.now():%H:%M:%S}] {text}", file=sys.stderr, flush=True)


def main():
    firelink, what = os.path.abspath(sys.argv[1]), sys.argv[2]
    scratch = Path(tempfile.mkdtemp(prefix="firelink-s3-"))
    try:
        columns = [("a listing server of our own", measure(firelink, scratch, "listing", 1_000_000))]
        idle = idle_wakeups(firelink, scratch)
        if what == "all":
            columns.insert(0, ("moto", measure(firelink, scratch, "moto", 100_000)))
        text = table(columns, idle)
        print(text)
        for _, figures in columns:
            check(figures)
        if what == "all":
            write(f"{datetime.date.today()}, {machine()}.\n\n{text}")
    except Failed as failed:
        sys.exit(f"FAILED: {failed}")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
