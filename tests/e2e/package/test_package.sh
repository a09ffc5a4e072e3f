#!/bin/sh
# libpostern as a stranger meets it: installed into an empty prefix (and a DESTDIR), found by pkg-config and by CMake,
# used from C and C++, exporting exactly what its header declares. Needs no root.
# usage: test_package.sh [BUILD]    BUILD has libpostern built; default: build/ beside the sources
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
build=${1:-$root/build}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() { echo "package: $*" >&2; exit 1; }
for tool in cmake pkg-config cc c++ nm readelf; do
	command -v $tool >/dev/null || { echo "package: skipped: no $tool"; exit 77; }
done

install_to() { # PREFIX [DESTDIR]
	for component in runtime development; do
		DESTDIR=${2:-} cmake --install "$build" --prefix "$1" --component $component >"$work/install.log" 2>&1 ||
			{ cat "$work/install.log" >&2; fail "cmake --install failed"; }
	done
}

# The program's output is the same whichever way it was built.
run() { # PROGRAM
	env -u POSTERN_SERVER LD_LIBRARY_PATH="$libdir" "$1" "$work/token" >"$work/out" || fail "$1 failed"
	grep -q '^version 0\.' "$work/out" || fail "$1: $(cat "$work/out")"
	grep -q '^INVALID_ARGUMENT server$' "$work/out" || fail "$1: $(cat "$work/out")"
	grep -q '^UNAVAILABLE$' "$work/out" || fail "$1: $(cat "$work/out")"
}

(umask 077 && echo pst_filter_none >"$work/token")
install_to "$work/prefix"
pc=$(find "$work/prefix" -name postern.pc)
libdir=$(dirname "$(dirname "$pc")")
library=$libdir/libpostern.so

# ---- what is exported, and under which names ----
sed -n 's/^POSTERN_API .*[ *]\(postern_[a-z_]*\)(.*/\1/p' "$work/prefix/include/postern/postern.h" | sort >"$work/declared"
nm -D --defined-only "$library" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort >"$work/exported"
diff -u "$work/declared" "$work/exported" >&2 || fail "declared (-) and exported (+) functions differ"
[ "$(wc -l <"$work/declared")" -ge 16 ] || fail "the header's functions were not found"
readelf -d "$library" | grep -q 'SONAME.*\[libpostern\.so\.0\]' || fail "wrong SONAME"
readelf -d "$library" | grep -Eq 'R(UN)?PATH' && fail "the installed library has an RPATH"

# ---- pkg-config ----
export PKG_CONFIG_PATH="$libdir/pkgconfig"
[ "$(pkg-config --modversion postern)" = "$(sed -n 's/.*POSTERN_VERSION "\(.*\)"/\1/p' "$root/common/version.h")" ] ||
	fail "postern.pc and version.h differ"
strict="-Wall -Wextra -Wpedantic -Werror"
# shellcheck disable=SC2046,SC2086
{
	cc -std=c99 $strict -o "$work/pc_c" "$here/try.c" $(pkg-config --cflags --libs postern)
	c++ -std=c++11 $strict -o "$work/pc_cpp" "$here/try.cpp" $(pkg-config --cflags --libs postern)
}
run "$work/pc_c"
run "$work/pc_cpp"

# ---- CMake ----
cmake -S "$here" -B "$work/cmake" -DCMAKE_PREFIX_PATH="$work/prefix" >"$work/cmake.log" 2>&1 &&
	cmake --build "$work/cmake" >>"$work/cmake.log" 2>&1 || { cat "$work/cmake.log" >&2; fail "the CMake project failed"; }
run "$work/cmake/try_c"
run "$work/cmake/try_cpp"

# ---- DESTDIR, as packagers do it ----
install_to /usr "$work/destdir"
staged=$(find "$work/destdir" -name postern.pc)
grep -q '^prefix=/usr$' "$staged" || fail "postern.pc of a DESTDIR installation names another prefix: $(head -1 "$staged")"
[ -f "$work/destdir/usr/include/postern/postern.h" ] || fail "no header below DESTDIR"

echo "package: ok"
