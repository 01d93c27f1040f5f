#!/usr/bin/env bash
# Runs the tests in two processes: bash launch/test.sh [pytest's arguments]
# Makes .venv with the test extra first, if need be.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh
make_environment test
# A file's tests stay in one process, because they share what they prepare.
exec .venv/bin/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder "$@"
