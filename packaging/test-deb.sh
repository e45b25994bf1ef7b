#!/usr/bin/env bash
# Installs the package in a clean Debian root, verifies its unit there, runs the daemon from it, and removes it again.
#
#   packaging/test-deb.sh [firelink_VERSION_ARCH.deb]       else the package is built (cargo install cargo-deb)
#
# Needs root and debootstrap. The root is made once, in target/packaging/root.tar, and unpacked for each test. The
# mirror is the first of apt's own sources, or $DEBIAN_MIRROR.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }
step() { printf '== %s\n' "$*"; }
fail() { say "FAILED: $*"; exit 1; }

[ "$(id -u)" = 0 ] || { say "only root can change into another root"; exit 1; }
command -v debootstrap >/dev/null || { say "there is no debootstrap: apt-get install debootstrap"; exit 1; }

deb=${1:-}
if [ -z "$deb" ]; then
    command -v cargo-deb >/dev/null || { say "there is no cargo-deb: cargo install cargo-deb"; exit 1; }
    step "the package"
    deb=$(cargo deb --quiet)
fi
[ -f "$deb" ] || fail "there is no $deb"
deb=$(realpath "$deb")

base=$PWD/target/packaging
root=$base/root
mkdir -p "$base"
daemon=''
finish() {
    [ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true
    ! mountpoint -q "$root/proc" || umount "$root/proc"
}
trap finish EXIT

if [ ! -f "$base/root.tar" ]; then
    step "a clean root"
    mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -m 1 '/debian$')}
    # shellcheck source=/dev/null
    . /etc/os-release
    rm -rf "$base/root.new"
    # systemd is for its tools: nothing of it runs.
    debootstrap --variant=minbase --include=systemd,ca-certificates "$VERSION_CODENAME" "$base/root.new" "$mirror" >"$base/debootstrap.log" 2>&1 ||
        { tail -5 "$base/debootstrap.log" >&2; fail "debootstrap; see $base/debootstrap.log"; }
    tar -C "$base/root.new" -cf "$base/root.tar" .
    rm -rf "$base/root.new"
fi
! mountpoint -q "$root/proc" || umount "$root/proc"
rm -rf "$root" && mkdir -p "$root" && tar -C "$root" -xf "$base/root.tar"
mount -t proc proc "$root/proc"
inside() { env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 chroot "$root" "$@"; }

step "install"
cp "$deb" "$root/tmp/firelink.deb"
inside dpkg -i /tmp/firelink.deb
for file in /usr/bin/firelink /usr/lib/systemd/system/firelink.service /etc/firelink/firelink.yaml \
    /usr/share/man/man1/firelink.1.gz /usr/share/man/man5/firelink.yaml.5.gz \
    /usr/share/bash-completion/completions/firelink /usr/share/zsh/vendor-completions/_firelink \
    /usr/share/fish/vendor_completions.d/firelink.fish; do
    # minbase leaves manuals out where the mirror's configuration says so; the package's list is what counts.
    inside dpkg -L firelink | grep -qx "$file" || fail "$file is not in the package"
done
inside dpkg -V firelink
inside firelink --version
[ "$(inside stat -c '%U %a' /etc/firelink/firelink.yaml)" = "root 644" ] || fail "the configuration is not root's alone"
inside test -L /etc/systemd/system/multi-user.target.wants/firelink.service || fail "the service does not start at boot"

step "the unit"
inside systemd-analyze verify --man=no /usr/lib/systemd/system/firelink.service
inside systemd-analyze security --offline=true firelink.service | tail -1
for service in packaging/openrc/firelink packaging/procd/firelink; do sh -n "$service"; done

step "the daemon"
inside firelink check /etc/firelink/firelink.yaml
inside firelink run /etc/firelink/firelink.yaml --socket /run/firelink.sock &
daemon=$!
for _ in $(seq 200); do
    ! inside firelink status >/dev/null 2>&1 || break
    kill -0 "$daemon" 2>/dev/null || fail "the daemon has ended"
    sleep 0.05
done
inside firelink status
inside firelink ctl trigger hello --wait | grep -q succeeded || fail "the job of the example did not succeed"
[ "$(inside firelink ctl logs hello)" = "firelink is here" ] || fail "its output is not there"
inside firelink stop
wait "$daemon" || fail "the daemon did not end well"
daemon=''
inside firelink history | grep -q succeeded || fail "the history is not there without a daemon"

step "remove and purge"
inside dpkg -r firelink
inside test -d /var/lib/firelink || fail "the state is gone before the purge"
inside test -f /etc/firelink/firelink.yaml || fail "the configuration is gone before the purge"
inside dpkg -P firelink
! inside test -e /var/lib/firelink || fail "the state is still there"
! inside test -e /etc/firelink || fail "the configuration is still there"
! inside test -L /etc/systemd/system/multi-user.target.wants/firelink.service || fail "the service still starts at boot"
step "all is well"
