# Wheels: built as a release is, repaired, and installed where there is no compiler. Source this file, after common.sh, from the
# project's root.
# shellcheck shell=bash

# The highest tag that a wheel of this project may need. Debian 12's GCC 12 reaches it; docs/reliability.md names the symbols.
newest_tag=manylinux_2_34

# release_tools FOLDER: a virtual environment with what builds a release, each file checked by its hash.
release_tools() {
  "${PYTHON:-python3}" -m venv "$1"
  "$1/bin/pip" install -q --require-hashes --only-binary :all: -r requirements/build.txt
}

# clean_copy FOLDER: the last commit's files, and nothing else; of an unpacked source distribution, all of its files.
clean_copy() {
  mkdir -p "$1"
  if git rev-parse -q --verify HEAD > /dev/null 2>&1; then
    git archive HEAD | tar xm -C "$1"
  else
    tar c --exclude=./build . | tar xm -C "$1"
  fi
}

# commit_time: the last commit's; of an unpacked source distribution, that of its files.
commit_time() { git log -1 --format=%ct 2> /dev/null || stat -c %Y pyproject.toml; }

# build_release TOOLS SOURCES FOLDER: the source distribution, and the wheel from it, with the commit's time in both.
build_release() {
  local epoch
  epoch=$(commit_time)
  (cd "$2" && PATH="$1/bin:$PATH" SOURCE_DATE_EPOCH="$epoch" "$1/bin/python" -m build --no-isolation -o "$3") > "$3.log" 2>&1 ||
    { tail -n 50 "$3.log"; fail "the build"; }
}

# repair TOOLS WHEEL FOLDER: auditwheel's wheel, with the lowest tag; fails if that tag is newer than it was, or a library was copied in.
repair() {
  local epoch wheel tag
  epoch=$(commit_time)
  PATH="$1/bin:$PATH" SOURCE_DATE_EPOCH="$epoch" auditwheel repair --plat auto -w "$3" "$2" > "$3.log" 2>&1 ||
    { cat "$3.log"; fail "auditwheel"; }
  wheel=$(ls "$3"/*.whl)
  tag=$(grep -o 'manylinux_[0-9]*_[0-9]*' <<< "${wheel##*/}" | sort -V | head -1)
  [[ -n $tag ]] || fail "auditwheel gives ${wheel##*/} no manylinux tag"
  [[ $(printf '%s\n' "$tag" "$newest_tag" | sort -V | tail -1) == "$newest_tag" ]] ||
    { "$1/bin/auditwheel" show "$2"; fail "the wheel needs $tag, newer than $newest_tag"; }
  if "$1/bin/python" -m zipfile -l "$wheel" | grep -F 'fastlenet.libs/'; then fail "auditwheel copied libraries into the wheel"; fi
  echo "${wheel##*/}: nothing newer than $tag is needed, and no library was copied in"
}

# without_compiler FOLDER: a folder with every command of this machine that is not a compiler, a linker or a build system: for PATH.
without_compiler() {
  local path folder name
  mkdir -p "$1"
  for folder in /bin /sbin /usr/sbin /usr/bin; do
    for path in "$folder"/*; do
      name=${path##*/}
      [[ $name =~ (^|-)(cc|c89|c99|c\+\+|cpp|g\+\+|gcc|clang|clang\+\+|ld|as|gold|lld|tcc|make|gmake|cmake|ninja|meson)(-?[0-9.]+)?$ ]] ||
        ln -sf "$path" "$1/$name"
    done
  done
  for name in cc c++ gcc g++ clang clang++ cmake ninja make; do
    if PATH=$1 command -v "$name"; then fail "there is a $name in $1"; fi
  done
}

# compiler_free COMMANDS VENV COMMAND...: runs it with the commands of the virtual environment and of that folder alone.
compiler_free() { CC=/nowhere/cc CXX=/nowhere/c++ PATH="$2/bin:$1" "${@:3}"; }

# install_wheel COMMANDS VENV WHEEL: a fresh virtual environment with the locked run-time packages, each file checked by its hash, the
# wheel, and what its tests need. Nothing may be compiled.
install_wheel() {
  "${PYTHON:-python3}" -m venv "$2"
  compiler_free "$1" "$2" pip install -q --require-hashes --only-binary :all: -r requirements/run.txt
  compiler_free "$1" "$2" pip install -q --only-binary :all: "$3[test]"
  compiler_free "$1" "$2" python - << 'PYTHON'
import shutil
found = [name for name in ("cc", "c++", "gcc", "g++", "clang", "cmake", "ninja", "make") if shutil.which(name)]
assert not found, f"there is a compiler: {found}"
PYTHON
}
