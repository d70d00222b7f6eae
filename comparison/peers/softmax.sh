#!/bin/sh
# Compiles the program, with OpenMP if the compiler has it, then runs it on the folder that is its
# argument.
set -e
command -v "${CC:-cc}" >/dev/null || {
  echo "${CC:-cc} is not found: install it, or name a C compiler with CC" >&2
  exit 77
}
source="$(dirname "$0")/softmax.c"
compile() {
  "${CC:-cc}" -O3 -march=native -ffast-math "$@" "$source" -o "$program" -lm
}
program="$1/softmax"
compile -fopenmp 2>/dev/null || compile
exec "$program" "$1"
