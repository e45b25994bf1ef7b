#!/usr/bin/env bash
# What the S3 watch costs: builds the release binary, lets it watch 100,000 keys on moto (an S3 server in Python) and a
# million on a listing server of its own, and writes the table of docs/figures.md. Fails when a new object does not make
# exactly one run, or when a million keys cost more than 32 MB.
#
#   benches/s3/run.sh            all of it: about a quarter of an hour, most of it moto's
#   benches/s3/run.sh million    only the million keys; writes nothing
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo build --release
firelink=${CARGO_TARGET_DIR:-target}/release/firelink
# The pages of a file just written count as the process's own dirty memory until the disk has them.
sync "$firelink"

# moto is put into from within, which is ten times as fast as by requests: its own Python runs the script.
python=
[ -z "${FIRELINK_TEST_MOTO:-}" ] || python=$(dirname "$FIRELINK_TEST_MOTO")/python
if [ "${1:-all}" = million ]; then
    python=python3
elif [ ! -x "$python" ]; then
    venv=${CARGO_TARGET_DIR:-target}/moto
    [ -x "$venv/bin/moto_server" ] || { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet 'moto[server]'; }
    python=$venv/bin/python
fi
export PYTHONDONTWRITEBYTECODE=1
exec "$python" benches/s3/measure.py "$firelink" "${1:-all}"
