#!/usr/bin/env bash
# Trains on this machine: bash launch/local.sh --config=configs/digits.py
# Makes .venv first, if need be; all arguments go to main.py.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh
make_environment ""
exec .venv/bin/python main.py "$@"
