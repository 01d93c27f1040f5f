#!/usr/bin/env bash
# Uses the project as somebody who installed it: builds the wheel, installs it where the dependencies are and the
# checkout is not, and works from an empty folder that has a package `configs` of its own.
# bash tests/wheel.sh [python]; the interpreter, by default the checkout's .venv, has the dependencies and pip.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${1:-$root/.venv/bin/python}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export JAX_PLATFORMS=cpu PYTHONDONTWRITEBYTECODE=1
# The commands compile the same programs, and run them for a moment.
export JAX_COMPILATION_CACHE_DIR=$scratch/cache JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0
export JAX_DISABLE_MOST_OPTIMIZATIONS=1

# A copy is built, so that nothing of an earlier build gets into the wheel and nothing of this one into the checkout.
mkdir "$scratch/source"
(cd "$root" && git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
  [ ! -e "$file" ] || printf '%s\0' "$file"
done | tar --null --files-from=- --create) | tar --extract --directory="$scratch/source"
"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir="$scratch" "$scratch/source"

# The dependencies by a line of a .pth file, which leaves out the editable installation of the checkout beside them.
"$python" -m venv --without-pip "$scratch/venv"
installed=$("$scratch/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
"$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$installed/dependencies.pth"
"$python" -m pip --python="$scratch/venv/bin/python" install --quiet --disable-pip-version-check --no-deps \
  --ignore-installed --no-warn-script-location "$scratch"/*.whl
rm -r "$scratch/source"

mkdir -p "$scratch/elsewhere/configs"
cd "$scratch/elsewhere"
echo 'raise RuntimeError("this is not the package configs that was meant")' >configs/__init__.py
unset PYTHONPATH
PATH=$scratch/venv/bin:$PATH

say() { printf '== %s\n' "$*"; }
expect() { # text, command ...
  local text=$1 output
  shift
  say "$@"
  output=$("$@" 2>&1) || { echo "$output" && return 1; }
  case $output in
    *"$text"*) ;;
    *) echo "$output" && echo "expected: $text" && return 1 ;;
  esac
}

where=$(python -c 'import mixer_jax; print(mixer_jax.__file__)')
case $where in
  "$installed"/*) ;;
  *) echo "mixer_jax is imported from $where" && exit 1 ;;
esac

short=(--config.steps=4 --config.schedule.warmup_steps=1 --config.eval.every=2 --config.checkpoint.every=2)
expect 'evaluate' mixer_jax --help
expect 'finished step 4' mixer_jax train --config=digits "${short[@]}"
rm -r runs/digits/checkpoints/4
expect 'resuming from' mixer_jax train --config=digits "${short[@]}"
expect 'finished step 6' mixer_jax train --config=digits "${short[@]}" --config.steps=6 --extend
python -c 'import cv2, numpy; cv2.imwrite("image.png", numpy.zeros((9, 8, 3), numpy.uint8))'
cp -r runs/digits/checkpoints/6 copied
expect 'image.png' mixer_jax predict --checkpoint=copied image.png
probe=(--config.fewshot.source=digits --config.fewshot.train_split=train --config.fewshot.test_split=test)
expect 'fewshot/5/top1' mixer_jax evaluate --suite=fewshot --checkpoint=runs/digits "${probe[@]}" --config.fewshot.resize=8
expect 'digits/top1' mixer_jax evaluate --suite=imagenet --checkpoint=runs/digits --config.imagenet.source=digits \
  --config.imagenet.split=test
expect 'runs/digits' python -m mixer_jax report
expect 'layer' mixer_jax replay --workdir=runs/digits --step=3
sweep=(--config.sweep.train_split=train --config.sweep.held_out_split=test --config.checkpoint.best=None)
expect '0.003' mixer_jax sweep --config=digits "${short[@]}" "${sweep[@]}" '--config.sweep.learning_rates=(0.003,)'
expect 'img/sec/core' mixer_jax benchmark --config=digits --batch_sizes=4 --rounds=1 --seconds=0
expect 'wrote digits.npz' mixer_jax convert --source=runs/digits --target=digits.npz
say 'the library'
python - <<'PYTHON'
import sys

import mixer_jax

config = mixer_jax.load_config("digits", {"steps": 2, "schedule.warmup_steps": 1})
assert mixer_jax.train(config, "runs/library").step == 2
assert mixer_jax.load_trained("runs/library").logits([bytes(open("image.png", "rb").read())]).shape == (1, 10)
assert "configs" not in sys.modules
PYTHON
say 'a wheel is enough'
