#!/bin/sh
# Finds the Python that this kit is for, and runs install.py with it: `sh install.sh [DIR] [--check]`.
# PYTHON=/path/to/python names one. Needs no execute permission, and writes nothing.
set -eu

kit=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
version=$(sed -n 's/^ *"python": "\(3\.[0-9]*\)".*/\1/p' "$kit/kit.json")

fits() {
    "$1" -I -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$version')" >/dev/null 2>&1
}

if [ -n "${PYTHON:-}" ]; then
    exec "$PYTHON" -I -B "$kit/install.py" "$@"
fi
any=
for python in "python$version" python3 python; do
    command -v "$python" >/dev/null 2>&1 || continue
    if fits "$python"; then
        exec "$python" -I -B "$kit/install.py" "$@"
    fi
    any=${any:-$python}
done

echo "error: this kit needs Python $version${any:+, and $any is another}." >&2
echo >&2
echo "hint: install Python $version, or say where it is: PYTHON=/path/to/python$version sh install.sh" >&2
exit 1
