#!/usr/bin/env bash
# Release binaries without dependencies on the target box, each smoke-tested under qemu-user.
#
#   packaging/build.sh                                  all three boxes
#   packaging/build.sh aarch64-unknown-linux-musl       one of them
#   packaging/build.sh --small                          without S3, for the smallest boxes
#
# x86_64 and aarch64 are linked statically with musl. armv7 is, too, where rustup has that target
# (armv7-unknown-linux-musleabihf); elsewhere name armv7-unknown-linux-gnueabihf, which wants the box's own C library
# (Debian 12 or later, when built there).
#
# The C parts (SQLite; ring, for TLS) are compiled by zig's clang for musl, which comes from PyPI, and by Debian's
# cross compiler for the C library of GNU. A missing tool is reported with the command that installs it.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }
need() { command -v "$1" >/dev/null || { say "there is no $1: $2"; exit 1; }; }

features=() suffix='' targets=()
for word in "$@"; do
    case $word in
    --small) features=(--no-default-features) suffix=-small ;;
    -*) say "usage: packaging/build.sh [--small] [TARGET...]"; exit 2 ;;
    *) targets+=("$word") ;;
    esac
done
[ ${#targets[@]} -gt 0 ] || targets=(x86_64-unknown-linux-musl aarch64-unknown-linux-musl armv7-unknown-linux-musleabihf)

need cargo "install Rust with rustup"
need rustup "the standard library of another box comes with it"

# zig's clang as a C compiler for one musl target.
zig_cc() {
    local zig=target/packaging/zig wrapper=target/packaging/cc-$1
    if [ ! -x $zig/bin/python ] || ! $zig/bin/python -m ziglang version >/dev/null 2>&1; then
        need python3 "apt-get install python3-venv"
        python3 -m venv $zig && $zig/bin/pip install --quiet ziglang || { say "no zig: pip install ziglang failed"; exit 1; }
    fi
    # The target's name is rustc's; clang's stands in the wrapper, so cc's own is dropped. zig's checks for undefined
    # behaviour need a runtime that is not linked.
    cat >"$wrapper" <<END
#!/usr/bin/env bash
words=()
for word in "\$@"; do
    case \$word in --target=*) ;; *) words+=("\$word") ;; esac
done
exec "$PWD/$zig/bin/python" -m ziglang cc -target $2 -fno-sanitize=all "\${words[@]}"
END
    chmod +x "$wrapper"
    printf '%s\n' "$PWD/$wrapper"
}

build() {
    local target=$1 small=${1//-/_} cc linker
    rustup target list --installed | grep -qx "$target" || rustup target add "$target" 2>/dev/null || {
        say "rustup has no standard library for $target here"
        return 1
    }
    mkdir -p target/packaging
    linker=rust-lld
    case $target in
    x86_64-unknown-linux-musl) cc=$(zig_cc "$target" x86_64-linux-musl) ;;
    aarch64-unknown-linux-musl) cc=$(zig_cc "$target" aarch64-linux-musl) ;;
    armv7-unknown-linux-musleabihf) cc=$(zig_cc "$target" arm-linux-musleabihf) ;;
    armv7-unknown-linux-gnueabihf)
        need arm-linux-gnueabihf-gcc "apt-get install gcc-arm-linux-gnueabihf libc6-dev-armhf-cross"
        cc=arm-linux-gnueabihf-gcc linker=arm-linux-gnueabihf-gcc
        ;;
    *) say "$target is none of the boxes that this script knows"; return 1 ;;
    esac
    local upper=${small^^} self_contained=''
    [ "$linker" != rust-lld ] || self_contained='-C link-self-contained=yes'
    env "CC_$small=$cc" "CARGO_TARGET_${upper}_LINKER=$linker" "CARGO_TARGET_${upper}_RUSTFLAGS=$self_contained" \
        cargo build --release --target "$target" "${features[@]}"
    mkdir -p target/packaging/bin
    cp "target/$target/release/firelink" "target/packaging/bin/firelink-$target$suffix"
}

# The binary must print, read a file and keep time; a daemon under qemu is not asked for (it lacks some system calls).
smoke() {
    local binary=target/packaging/bin/firelink-$1$suffix
    local run=() machine=${1%%-*}
    if [ "$machine" != "$(uname -m)" ]; then
        local qemu=qemu-${machine/armv7/arm}
        if ! command -v "$qemu" >/dev/null; then
            say "$binary: built, not tried: there is no $qemu (apt-get install qemu-user)"
            return
        fi
        run=("$qemu")
        case $1 in *-gnueabihf) run+=(-L /usr/arm-linux-gnueabihf) ;; esac
    fi
    [ "$("${run[@]}" "$binary" --version)" = "firelink $(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)" ]
    "${run[@]}" "$binary" check examples/quickstart.yaml >/dev/null
    [ "$("${run[@]}" "$binary" next --schedule '0 18 * * *' --timezone Europe/Berlin --after 2026-03-28T12:00:00Z --count 2 --format json |
        tr -d ' \n')" = '["2026-03-28T18:00:00+01:00","2026-03-29T18:00:00+02:00"]' ]
    printf '%s: %s bytes, checked %s\n' "$binary" "$(stat -c %s "$binary")" "${run[*]:+under ${run[0]}}"
}

failed=0
for target in "${targets[@]}"; do
    if build "$target"; then smoke "$target"; else failed=1; fi
done
exit "$failed"
