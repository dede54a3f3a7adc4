# Builds of the package with sanitizers, and Python with them. Source this file, after common.sh, from the project's root.
# shellcheck shell=bash

# build_package FOLDER SANITIZERS: the package in FOLDER/package, built from the sources in FOLDER/source.
build_package() {
  configure "$1/build" "$1/source" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DFASTLENET_SANITIZE="$2"
  compile "$1/build"
  cp -r "$1/source/python" "$1/package"
  cp "$1"/build/_core*.so "$1/package/fastlenet/"
}

# sanitized FOLDER ARGUMENT...: Python, with the sanitized extension of FOLDER before the installed one; the sanitizers must be the
# first libraries. What is too large to allocate is to be a MemoryError, as it is without them.
sanitized() {
  local package=$1; shift
  (cd tests && PYTHONPATH="$package/package" ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 \
    UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
    LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libstdc++.so)" \
    python "$@")
}

# race_detecting FOLDER ARGUMENT...: the same with the thread sanitizer, whose exceptions are in tsan.supp.
# die_after_fork=0: the programs fork, on purpose, while threads run.
race_detecting() {
  local package=$1 suppressions=$PWD/tools/tsan.supp; shift
  (cd tests && PYTHONPATH="$package/package" LD_PRELOAD="$(g++ -print-file-name=libtsan.so)" \
    TSAN_OPTIONS="suppressions=$suppressions:die_after_fork=0:halt_on_error=1" \
    timeout 300 python "$@")
}
