# Sourced by the other scripts: makes .venv from the lock file in $1, once for each content of it. Needs Python 3.11 or newer.
# Everything comes with a hash, the build backend too, so two installations of one commit are the same.

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root" || exit 1
python=$root/.venv/bin/python

find_python() {
  for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return 0
    fi
  done
  echo "no Python 3.11 or newer found; install one, or set PYTHON to its path" >&2
  return 1
}

digest() {
  "$1" -c 'import hashlib, sys; print(hashlib.sha256(b"".join(open(f, "rb").read() for f in sys.argv[1:])).hexdigest())' \
    "$2" requirements-build.lock pyproject.toml
}

prepare() {
  lock=$1
  found=$(find_python) || exit 1
  wanted=$(digest "$found" "$lock")
  # What was installed from the dev lock has all the other one has.
  for stamp in ".venv/stamp-$lock" .venv/stamp-requirements-dev.lock; do
    [ -x "$python" ] || break
    [ -f "$stamp" ] || continue
    of=${stamp#.venv/stamp-}
    [ "$(cat "$stamp")" = "$(digest "$found" "$of")" ] && return 0
  done
  echo "installing from $lock into .venv ($wanted)" >&2
  if command -v uv >/dev/null 2>&1 && uv --version >/dev/null 2>&1; then
    [ -x "$python" ] || uv venv --quiet --python "$found" .venv || exit 1
    uv pip install --quiet --python "$python" --require-hashes -r requirements-build.lock || exit 1
    uv pip install --quiet --python "$python" --require-hashes --no-build-isolation -r "$lock" || exit 1
    uv pip install --quiet --python "$python" --no-deps --no-build-isolation --editable . || exit 1
  else
    [ -x "$python" ] || "$found" -m venv .venv || exit 1
    "$python" -m pip --version >/dev/null 2>&1 || "$python" -m ensurepip --upgrade >/dev/null || exit 1
    pip="$python -m pip --disable-pip-version-check --quiet"
    $pip install --require-hashes -r requirements-build.lock || exit 1
    $pip install --require-hashes --no-build-isolation -r "$lock" || exit 1
    $pip install --no-deps --no-build-isolation --editable . || exit 1
  fi
  echo "$wanted" >".venv/stamp-$lock"
}
