#!/usr/bin/env bash
# Tries README's two commands as a new user would: in a minimal Debian root, with the Rust toolchain and a fresh clone of the
# commit that is checked out, and nothing else. Prints the time and the status of each step, and the skipped tests.
#
#   tests/fresh/run.sh [root] [user]        else both, one after the other; each builds from nothing, 15 to 20 minutes
#
# As `root`, the commands install what they need. As `user`, without sudo, they must first fail within seconds, with status 2
# and a command in the message; root runs that command, and then they must succeed.
#
# Needs root, mmdebstrap, and network for the registries. The minimal root is made once, in target/fresh/base.tar, and
# unpacked for each trial, which takes 6 GB of disk. It runs in mount and PID namespaces of its own: with the script, its
# mounts and its processes are gone. What the host has set up for its registries goes in by these variables:
#
#   FRESH_SUITE         the release; else the host's
#   FRESH_SOURCES       files for apt's sources.list.d, separated by spaces; else the host's
#   FRESH_APT_CONF      a file for apt's apt.conf.d
#   FRESH_CERTIFICATES  a bundle to use instead of Debian's ca-certificates; else that package is left for tests/setup
#   FRESH_CARGO_CONFIG  a file for cargo's config.toml
#   FRESH_FILES         more files to copy to the same path, such as the settings of pip and npm
#   FRESH_PASS          names of variables to pass into the trial, such as those of a proxy
#   FRESH_PACKAGES      packages that are there before, such as those of `tests/setup all`
#   FRESH_SECONDS       a limit for one trial, 5400 if unset
#   FRESH_KEEP          if set, the root of the trial is not removed
set -euo pipefail
cd "$(dirname "$0")/../.."

say() { printf 'tests/fresh: %s\n' "$*" >&2; }
base=$PWD/target/fresh

# The part inside: $1 is the root of the trial, $2 who tries.
trial() {
    local root=$1 who=$2 failed=0
    mount -t proc proc "$root/proc"
    mount --rbind /sys "$root/sys"
    mount -t tmpfs -o mode=755 tmpfs "$root/dev"
    mkdir "$root/dev/pts" "$root/dev/shm"
    local node
    for node in null zero full random urandom tty; do
        touch "$root/dev/$node"
        mount --bind "/dev/$node" "$root/dev/$node"
    done
    mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    local number=0
    for node in stdin stdout stderr; do
        ln -s "/proc/self/fd/$((number++))" "$root/dev/$node"
    done
    mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
    mount --bind "$(rustc --print sysroot)" "$root/opt/rust"
    mount -o remount,bind,ro "$root/opt/rust"

    local home=/root
    [ "$who" = root ] || home=/home/$who
    local vars=(PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 TERM=xterm) name
    for name in ${FRESH_PASS:-}; do
        [ -z "${!name+set}" ] || vars+=("$name=${!name}")
    done
    inside() {
        local as=$1 at=/root
        [ "$as" = root ] || at=$home
        shift
        # Without the host's groups and with the account's; su(1) would need a terminal to end its children well.
        env -i "${vars[@]}" HOME="$at" USER="$as" LOGNAME="$as" chroot "$root" \
            setpriv --reuid "$as" --regid "$as" --init-groups bash -c "cd '$home/firelink' && $1"
    }
    # A step: what it is, the status that is right, who does it, the command.
    step() {
        local what=$1 right=$2 as=$3 began=$SECONDS status=0
        printf '\n== %s: %s\n' "$who" "$what"
        inside "$as" "$4" </dev/null 2>&1 | tee "$base/$who.log" || status=${PIPESTATUS[0]}
        printf '== %s: %s: status %s, %s s\n' "$who" "$what" "$status" "$((SECONDS - began))" | tee -a "$base/$who.steps"
        [ "$status" = "$right" ] || failed=1
        [ "$status" = "$right" ]
    }
    # The command after a marker of the README, as it stands there.
    readme() { sed -n "/<!-- the $1 command -->/,/^\`\`\`\$/p" README.md | grep -v -e '^<!--' -e '^```'; }
    local first test
    first=$(readme first)
    test=$(readme test)

    : >"$base/$who.steps"
    if [ "$who" != root ]; then
        step "nothing is installed: $test" 2 "$who" "$test" || true
        step "nothing is installed: $first" 2 "$who" "$first" || true
        # One message names all that both commands need.
        local command
        command=$(sed -n 's/^  \(apt-get .*\)/\1/p' "$base/$who.log")
        step "$command" 0 root "export DEBIAN_FRONTEND=noninteractive; ${command/apt-get install/apt-get install -y -q}" || true
    fi
    # The first command runs a daemon until it is stopped; .ci/quickstart runs it as it stands and checks what the README says.
    step "$first" 0 "$who" ".ci/quickstart '$first'" || true
    step "$test" 0 "$who" "$test" || true
    printf '\n== %s, on %s, %s processors\n' "$who" "$(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' "$root/etc/os-release")" "$(nproc)"
    cat "$base/$who.steps"
    sed -n '/^skipped tests:$/,$p' "$base/$who.log"
    return "$failed"
}

if [ "${1:-}" = --inside ]; then
    trial "$2" "$3"
    exit
fi

[ "$(id -u)" = 0 ] || { say "only root can make another root"; exit 2; }
for tool in mmdebstrap unshare setpriv git rustc; do
    command -v "$tool" >/dev/null || { say "there is no $tool"; exit 2; }
done
[ $# -gt 0 ] || set -- root user
mkdir -p "$base"

if [ ! -f "$base/base.tar" ]; then
    say "makes a minimal root"
    # shellcheck source=/dev/null
    suite=${FRESH_SUITE:-$(. /etc/os-release && echo "$VERSION_CODENAME")}
    if [ -z "${FRESH_SOURCES:-}" ]; then
        shopt -s nullglob
        sources=(/etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources)
        shopt -u nullglob
        for file in "${sources[@]}"; do [ ! -s "$file" ] || FRESH_SOURCES="${FRESH_SOURCES:-} $file"; done
    fi
    include=$(printf '%s' "${FRESH_PACKAGES:-}" | tr -s ' ' ,)
    # shellcheck disable=SC2086 # lists of words
    mmdebstrap --format=tar --variant=minbase --quiet ${include:+--include="$include"} ${FRESH_APT_CONF:+--aptopt="$FRESH_APT_CONF"} \
        "$suite" "$base/base.tar.new" $FRESH_SOURCES
    mv "$base/base.tar.new" "$base/base.tar"
fi

root='' job=''
finish() {
    [ -z "$job" ] || { kill "$job" && wait "$job"; } 2>/dev/null || true
    job=''
    [ -z "$root" ] || [ -n "${FRESH_KEEP:-}" ] || rm -rf --one-file-system "$root"
}
trap finish EXIT
trap 'exit 130' INT TERM
status=0
for who in "$@"; do
    root=$base/$who
    rm -rf --one-file-system "$root"
    mkdir "$root"
    tar -C "$root" -xf "$base/base.tar"
    mkdir -p "$root/opt/rust"
    home=/root
    if [ "$who" != root ]; then
        chroot "$root" useradd --create-home --user-group --shell /bin/bash "$who"
        home=/home/$who
    fi
    # Names of hosts and their addresses, as this machine resolves them.
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    if [ -n "${FRESH_CERTIFICATES:-}" ]; then
        install -D -m 644 "$FRESH_CERTIFICATES" "$root/etc/ssl/certs/ca-certificates.crt"
    fi
    for file in ${FRESH_FILES:-}; do install -D -m 644 "$file" "$root$file"; done
    [ -z "${FRESH_CARGO_CONFIG:-}" ] || install -D -m 644 "$FRESH_CARGO_CONFIG" "$root$home/.cargo/config.toml"
    git clone --quiet --no-hardlinks . "$root$home/firelink"
    git -C "$root$home/firelink" checkout --quiet --detach "$(git rev-parse HEAD)"
    [ "$who" = root ] || chroot "$root" chown -R "$who:$who" "$home"
    # Nothing of the trial outlives `unshare`, which `timeout` ends at the limit.
    timeout --kill-after=10 "${FRESH_SECONDS:-5400}" \
        unshare --mount --pid --fork --kill-child bash tests/fresh/run.sh --inside "$root" "$who" &
    job=$!
    wait "$job" || status=1
    job=''
    finish
    root=''
done
exit "$status"
