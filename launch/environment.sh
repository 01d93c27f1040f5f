# shellcheck shell=bash
# Sourced by the other scripts: `make_environment [extra]` makes .venv with the versions of requirements.lock, unless
# it is there already. PYTHON names the interpreter to use; by default the newest supported one that is found.

supported() {
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3 python}; do
    if supported "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
  echo "${PYTHON:-python3} is no Python 3.11, 3.12 or 3.13; install one, or name it: PYTHON=/path/to/python bash $0" >&2
  return 1
}

make_environment() {
  local extra=${1:-} python content stamp
  if ! supported .venv/bin/python || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=$(find_python) || return 1
    echo "Making .venv with $("$python" --version)" >&2
    "$python" -m venv --clear .venv || {
      echo "$python cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2
      return 1
    }
  fi
  # A stamp holds what was installed from; the environment with an extra serves those without it, too.
  content=$(cat setup.py pyproject.toml requirements.lock mixer_jax/data/region.c | cksum)
  for stamp in ".venv/installed-$extra" .venv/installed-test; do
    if [ "$(cat "$stamp" 2>/dev/null)" = "$content" ]; then
      return
    fi
  done
  echo "Installing mixer_jax${extra:+[$extra]} into .venv; the first time takes a minute or more" >&2
  .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --constraint requirements.lock --editable ".${extra:+[$extra]}" || return 1
  echo "$content" >".venv/installed-$extra"
}
