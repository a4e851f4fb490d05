# Sourced by the scripts beside it. `prepare EXTRAS` makes .venv with the project and these extras, or brings it up to
# date; it does nothing when pyproject.toml is the one that was installed before.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
        if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: Python 3.11 or later is needed" >&2
    return 1
}

prepare() {
    local extras=$1 python stamp
    python=$(find_python)
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    stamp=$(.venv/bin/python -c 'import hashlib, sys; print(hashlib.sha256(open("pyproject.toml", "rb").read() + sys.argv[1].encode()).hexdigest())' "$extras")
    if [ ! -f ".venv/.installed-$stamp" ]; then
        echo "installing the project with [$extras] into .venv" >&2
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$extras]" >&2
        touch ".venv/.installed-$stamp"
    fi
}
