# Functions that the checks share. Source this file from the project's root.
# shellcheck shell=bash

step() { printf '\n=== %s [%ss]\n' "$*" "$SECONDS"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

# no_skips LOG: fails if pytest's output in LOG has a skipped test. Tests against PyTorch may be skipped if it is not installed.
no_skips() {
  local allowed=': PyTorch is not installed$'
  if [[ ${FASTLENET_REQUIRE_ORACLE:-} == 1 ]]; then allowed='^$'; fi
  if grep -E '^(SKIPPED|XFAIL|XPASS)' "$1" | grep -v "$allowed"; then fail "tests were skipped"; fi
}

# debian NAME PACKAGE...: installs Debian's packages if a command or a file is missing, which needs root. One at a time, since checks
# run beside each other.
debian() {
  local install="apt-get install -y --no-install-recommends ${*:2}"
  if [[ -e $1 ]] || command -v "$1" > /dev/null; then return; fi
  command -v apt-get > /dev/null || fail "$1 is missing; install it"
  (( EUID == 0 )) || fail "$1 is missing; as root, run: $install"
  step "$install"
  (
    flock 9
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $install > /dev/null
  ) 9< /var/lib/apt
}

# configure BUILD-FOLDER [SOURCE-FOLDER [OPTION...]]: its output is shown only if it fails.
configure() {
  local build=$1 source=${2:-.}
  mkdir -p "$build"
  cmake -S "$source" -B "$build" -DPython_EXECUTABLE="$(command -v python)" "${@:3}" \
    > "$build/configure.log" 2>&1 || { cat "$build/configure.log"; return 1; }
}

# compile BUILD-FOLDER: by all CPUs; the output is shown only if it fails.
compile() {
  cmake --build "$1" -j "$(nproc)" > "$1/compile.log" 2>&1 || { cat "$1/compile.log"; return 1; }
}

# copy_sources FOLDER: what a build needs, as FOLDER/source, for a build of its own or with a fault planted.
copy_sources() {
  mkdir -p "$1/source"
  cp -r CMakeLists.txt pyproject.toml cpp cuda python "$1/source/"
}
