#!/usr/bin/env bash
# Builds firelink for musl, statically, and shows that it starts a process as the usual build does: by one clone3(2).
#
#   tests/musl/run.sh
#
# Rust's own target needs a std that rustup brings; where that can't be had, this builds one from Debian's source package.
# Needs Debian with rustc-web, cargo-web, rust-web-src, musl-tools and strace, and network for the registry. Not part of CI: ten
# minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$PWD/target/musl
mkdir -p "$work/lib"

for package in rustc-web cargo-web rust-web-src musl-tools strace; do
    dpkg -s "$package" >/dev/null 2>&1 || { echo "tests/musl: install it first: apt-get install $package" >&2; exit 2; }
done

# std's panics unwind by -lunwind; gcc's unwinder is one, but for a function that only glibc has.
cp "$(gcc -print-file-name=libgcc_eh.a)" "$work/lib/libunwind.a"
echo 'int _dl_find_object(void *pc, void *result) { (void)pc; (void)result; return -1; }' >"$work/lib/find.c"
musl-gcc -c -o "$work/lib/find.o" "$work/lib/find.c"
ar r "$work/lib/libunwind.a" "$work/lib/find.o" 2>/dev/null

target=x86_64-unknown-linux-musl
export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CC_x86_64_unknown_linux_musl=musl-gcc
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER=musl-gcc
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUSTFLAGS="-C link-self-contained=no -C target-feature=+crt-static -L native=$work/lib"
PATH=/usr/bin:/bin /usr/bin/cargo build -Zbuild-std=std,panic_abort --target "$target" --target-dir "$work" --no-default-features
firelink=$work/$target/debug/firelink
ldd "$firelink" 2>&1 | grep -q 'statically linked\|not a dynamic executable'

place=$(mktemp -d)
daemon=
trap '[ -z "$daemon" ] || kill -9 "$daemon" 2>/dev/null || :; rm -rf "$place"' EXIT
printf 'jobs:\n  - { name: j, trigger: manual, command: [/bin/true] }\n' >"$place/c.yaml"
export FIRELINK_SOCKET=$place/socket
strace -f -e trace=clone,clone3,fork,vfork,execve -o "$place/trace" "$firelink" run "$place/c.yaml" --state-dir "$place/state" 2>"$place/log" &
daemon=$!
for _ in $(seq 100); do
    grep -q 'ask it from another terminal' "$place/log" && break
    sleep 0.1
done
"$firelink" ctl trigger j --wait
"$firelink" stop
wait "$daemon"
daemon=
grep -q 'clone3({flags=CLONE_VM' "$place/trace" || { cat "$place/trace" >&2; exit 1; }
echo "tests/musl: passed: $(grep -c clone3 "$place/trace") process, by clone3 with shared memory"
