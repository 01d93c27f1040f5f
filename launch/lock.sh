#!/usr/bin/env bash
# Writes requirements.lock anew: the newest versions that resolve on the oldest and the newest supported Python.
# bash launch/lock.sh python3.11 python3.13; then run the tests on both.
set -euo pipefail
cd "$(dirname "$0")/.."
oldest=$1 newest=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for python in "$oldest" "$newest"; do
  "$python" -m venv "$scratch/venv"
  "$scratch/venv/bin/python" -m pip install --quiet --editable ".[test]"
  "$scratch/venv/bin/python" -m pip list --format=freeze --exclude-editable --exclude pip --exclude setuptools |
    sort >"$scratch/$([ "$python" = "$oldest" ] && echo oldest || echo newest)"
  rm -rf "$scratch/venv"
done
# A newest version that differs is used from the first Python on that jax's newest release supports.
{
  echo "# Tested versions, for pip's --constraint. Written by launch/lock.sh; do not edit."
  comm -12 "$scratch/oldest" "$scratch/newest"
  comm -23 "$scratch/oldest" "$scratch/newest" | sed 's/$/ ; python_version < "3.12"/'
  comm -13 "$scratch/oldest" "$scratch/newest" | sed 's/$/ ; python_version >= "3.12"/'
} >requirements.lock
