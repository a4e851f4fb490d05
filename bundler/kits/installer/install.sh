#!/bin/sh
# Finds the Python that this kit is for, and runs install.py with it: `sh install.sh [DIR] [--check]`.
# PYTHON=/path/to/python names one. Needs no execute permission, and writes nothing.
set -eu

kit=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
version=
if [ -f "$kit/kit.json" ]; then
    version=$(sed -n '/^ *"python": "3\.[0-9]*"/{s/^ *"python": "\(3\.[0-9]*\)".*/\1/p;q;}' "$kit/kit.json" 2>/dev/null) || :
fi
if [ -z "$version" ]; then
    echo "error: kit.json, beside install.sh, is missing or damaged: copy the kit again" >&2
    exit 1
fi

# Runs the installer with the Python that is named first, or notes in `why` what is the matter with it.
# What is asked is what every Python since 2.6 can answer, in the way that it can.
try() {
    python=$1
    shift
    if ! command -v "$python" >/dev/null 2>&1; then
        absent="${absent:+$absent, }$python"
        return 0
    fi
    found=$("$python" -E -S -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || found=
    case $found in
        "$version") exec "$python" -I -B "$kit/install.py" "$@" ;;
        [23].[0-9] | [23].[0-9][0-9]) why="$why; $python is $found" ;;
        *) why="$why; $python does not work here" ;;
    esac
}

why=
absent=
if [ -n "${PYTHON:-}" ]; then
    try "$PYTHON" "$@"
else
    for python in "python$version" python3 python; do
        try "$python" "$@"
    done
fi
why="$why${absent:+; there is no $absent}"

{
    echo "error: this kit needs Python $version: ${why#; }"
    echo
    echo "hint: install Python $version, or say where it is: PYTHON=/path/to/python$version sh install.sh"
} >&2
exit 1
