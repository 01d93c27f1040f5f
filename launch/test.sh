#!/usr/bin/env bash
# Runs the tests: bash launch/test.sh [pytest's arguments]
# Makes .venv with the test extra first, if need be.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh
make_environment test
exec .venv/bin/python -m pytest "$@"
