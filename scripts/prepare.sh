# shellcheck shell=bash
# What the scripts need before they can start: packages and a Rust toolchain. Sourced, not run.

# The oldest toolchain that builds the workspace; Cargo.toml says why.
rust_version_min=1.91

say() { printf '%s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

need_root() {
    [ "$(id -u)" -eq 0 ] || fail "$1 makes network namespaces and AF_XDP sockets, which needs root. Run it again as: sudo $1"
}

# Packages are installed by the program that they are needed for: install_packages "program:package" …
install_packages() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null 2>&1 || missing+=("${pair#*:}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null 2>&1 ||
        fail "Missing: ${missing[*]} (names of Debian packages). There is no apt-get here; install them by other means."
    [ "$(id -u)" -eq 0 ] || fail "Missing Debian packages: ${missing[*]}. Install them with: sudo apt-get install ${missing[*]}"
    say "Installing Debian packages: ${missing[*]}"
    without_starting_services apt_install "${missing[@]}"
    disable_services "${missing[@]}"
}

# What the feature `dpdk` is built with. Libraries are no programs, so pkg-config is asked. False where there is no DPDK 22.11 to be had.
install_dpdk() {
    has_dpdk && return 0
    [ "$(id -u)" -eq 0 ] && command -v apt-cache >/dev/null 2>&1 || return 1
    apt-cache show libdpdk-dev 2>/dev/null | grep -q '^Version: .*22\.11' || return 1
    say "Installing Debian packages: DPDK"
    without_starting_services apt_install pkg-config clang libclang-dev libdpdk-dev dpdk
    has_dpdk
}

has_dpdk() {
    command -v clang >/dev/null 2>&1 && pkg-config --exists 'libdpdk >= 22.11 libdpdk < 23' >/dev/null 2>&1
}

apt_install() {
    local log
    log=$(mktemp)
    if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@"; } \
        >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

# redis-server and memcached would be started by their packages. The lab starts its own, on hosts of its own; a machine that
# runs one already keeps it untouched. policy-rc.d is Debian's way to forbid starting, for the time of the installation.
without_starting_services() {
    local policy=/usr/sbin/policy-rc.d status=0
    if [ -e "$policy" ]; then
        "$@" || fail "apt-get failed; see above."
        return
    fi
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    "$@" || status=$?
    rm -f "$policy"
    trap - EXIT
    [ "$status" -eq 0 ] || fail "apt-get failed; see above."
}

# They would also start at the next boot. Only services that were installed just now are disabled.
disable_services() {
    command -v systemctl >/dev/null 2>&1 || return 0
    local package
    for package in "$@"; do
        case "$package" in
            redis-server | memcached | nutcracker) systemctl disable --quiet "$package" >/dev/null 2>&1 || true ;;
        esac
    done
}

# Under sudo, cargo is the invoking user's: root neither has it in its PATH nor should it own target/. `builder` runs cargo as
# that user; `root_builder` runs the same toolchain as root, for tests that need it, and keeps away from the user's files.
builder=(env)
root_builder=(env)
find_cargo() {
    local home=$HOME
    if [ "$(id -u)" -eq 0 ] && [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ]; then
        home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
        builder=(sudo -u "$SUDO_USER" --)
        root_builder+=("CARGO_HOME=$home/.cargo" "RUSTUP_HOME=$home/.rustup" CARGO_TARGET_DIR=target/root CARGO_NET_OFFLINE=true)
    fi
    builder+=(env "PATH=$home/.cargo/bin:$PATH")
    root_builder+=("PATH=$home/.cargo/bin:$PATH")
    local found
    # The version that a toolchain file or an override chooses for this directory is the one that counts.
    found=$("${builder[@]}" cargo --version 2>/dev/null | cut -d' ' -f2) || true
    if [ -z "$found" ]; then
        if [ "$(id -u)" -eq 0 ] && command -v apt-cache >/dev/null 2>&1 && apt-cache show rustup >/dev/null 2>&1; then
            install_packages rustup:rustup cc:build-essential
            "${builder[@]}" rustup default stable >&2
            found=$("${builder[@]}" cargo --version | cut -d' ' -f2)
        else
            no_cargo "There is no cargo here."
        fi
    fi
    if ! printf '%s\n%s\n' "$rust_version_min" "$found" | sort -CV; then
        no_cargo "cargo $found is too old."
    fi
}

no_cargo() {
    fail "$1 Tidegate needs Rust $rust_version_min or newer, which Debian 12 does not package. Get it with rustup (https://rustup.rs):
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh
or, where rustup is installed already:
    rustup update stable && rustup default stable
and run this again."
}
