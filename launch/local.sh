#!/usr/bin/env bash
# Trains on this machine: bash launch/local.sh --config=configs/digits.py
# Makes .venv first, if need be; all arguments go to main.py.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/launch/environment.sh"
(cd "$root" && make_environment "")
exec "$root/.venv/bin/python" "$root/main.py" "$@"
