#!/usr/bin/env bash
# Measures firelink beside its peers on this machine; writes the tables into docs/figures.md, and the main figures with a
# plot into README.md.
#
#   benches/peers/run.sh [PART...]          footprint idle latency burst dag flat; all by default, about ten minutes; one that is
#                                           named takes the place of its table from the last run
#
# On Debian as root it brings in the peers that are missing (cron, make, ninja-build, strace, a C compiler; busybox is measured
# where its crond applet is there, APScheduler comes into a virtual environment); otherwise those that are there are measured.
# The machine should have nothing else to do.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=${PEERS_DIR:-$PWD/target/peers}
mkdir -p "$work"

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && [ -z "${NO_INSTALL:-}" ]; then
    need=()
    for package in cron make ninja-build strace gcc libc6-dev python3-venv; do
        dpkg -s "$package" >/dev/null 2>&1 || need+=("$package")
    done
    if [ ${#need[@]} -gt 0 ]; then
        apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "${need[@]}" >/dev/null ||
            echo "not installed: ${need[*]}; what is missing is left out" >&2
    fi
fi
if [ ! -e "$work/venv/ok" ] && [ -z "${NO_INSTALL:-}" ]; then
    { python3 -m venv "$work/venv" && "$work/venv/bin/pip" -q install 'APScheduler<4' && touch "$work/venv/ok"; } ||
        { rm -rf "$work/venv"; echo "no APScheduler: it is left out" >&2; }
fi
cc -O2 -static -o "$work/floor" benches/peers/floor.c
[ -n "${FIRELINK:-}" ] || cargo build --release
# Pages of a program that was just written count as dirty memory of its process.
sync
PEERS_DIR=$work python3 benches/peers/measure.py "$work/result.json" "$@"
python3 benches/peers/report.py "$work/result.json" docs/figures.md README.md docs/peers.svg
echo "the tables are in docs/figures.md, the main figures in README.md, the plot is docs/peers.svg"
