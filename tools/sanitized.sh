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
