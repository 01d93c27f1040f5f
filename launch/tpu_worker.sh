#!/usr/bin/env bash
# Runs on each worker of a TPU, called by launch/tpu.sh: setup <bucket>, start <main.py's arguments>, status, stop, log.
# Training is a transient systemd unit: it outlives the ssh connection, and when the machine is shut down it gets
# SIGTERM, saves a checkpoint, and ends before the bucket is unmounted.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$HOME/.local/bin:$PATH

install_gcsfuse() {
  local key=/usr/share/keyrings/gcsfuse.asc repository=https://packages.cloud.google.com/apt
  curl -fsSL "$repository/doc/apt-key.gpg" | sudo tee "$key" >/dev/null
  echo "deb [signed-by=$key] $repository gcsfuse-$(lsb_release --codename --short) main" |
    sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
  sudo apt-get -qq update
  sudo apt-get -qq -o DPkg::Lock::Timeout=600 install gcsfuse
}

as_unit() {  # <name> <option of systemd-run>... -- <command line>, as this user
  local name=$1
  shift
  sudo systemctl reset-failed "$name" 2>/dev/null || true
  sudo systemd-run --unit="$name" --uid="$(id -u)" --gid="$(id -g)" "$@"
}

mount_bucket() {
  local bucket=$1 probe
  sudo mkdir -p /mnt/bucket
  if ! mountpoint --quiet /mnt/bucket; then
    sudo chown "$(id -u):$(id -g)" /mnt/bucket
    # Workers must see at once what another one has written: no metadata is cached.
    as_unit bucket --property=Type=forking -- "$(command -v gcsfuse)" --implicit-dirs \
      --metadata-cache-ttl-secs=0 --metadata-cache-negative-ttl-secs=0 "$bucket" /mnt/bucket
  fi
  # A checkpoint is whole as soon as its folder is renamed, which only buckets with a hierarchical namespace can do.
  probe=/mnt/bucket/.probe-$(hostname)
  rm -rf "$probe"
  mkdir -p "$probe/a"
  echo >"$probe/a/file"
  if ! mv "$probe/a" "$probe/b"; then
    echo "folders of gs://$bucket cannot be renamed: make a bucket with --enable-hierarchical-namespace" >&2
    return 1
  fi
  rm -r "$probe"
}

setup() {
  command -v gcsfuse >/dev/null || install_gcsfuse
  mount_bucket "$1"
  # With these, installing builds what decodes only the crop of a JPEG.
  [ -e /usr/include/jpeglib.h ] || sudo apt-get -qq -o DPkg::Lock::Timeout=600 install gcc libjpeg-dev
  # The machine's own Python is 3.10; uv brings a supported one.
  command -v uv >/dev/null || curl -fsSL https://astral.sh/uv/install.sh | sh
  uv venv --quiet --python=3.13 --allow-existing
  uv pip install --quiet --requirement=requirements-tpu.txt
}

unit() { systemctl show mixer_jax --property="$1" --value; }

status() {
  case $(unit SubState) in
    dead) echo absent ;;
    exited) echo finished ;;
    failed)
      # Killed by a signal, or ended by main.py because of one, with 128 + its number.
      if [ "$(unit ExecMainCode)" != 1 ] || [ "$(unit ExecMainStatus)" -ge 128 ]; then
        echo interrupted
      else
        echo failed
      fi
      ;;
    *) echo running ;;
  esac
}

start() {
  if [ "$(status)" = running ]; then
    echo "$(hostname): a run is under way; bash launch/tpu.sh stop ... ends it" >&2
    return 1
  fi
  sudo systemctl stop mixer_jax 2>/dev/null || true  # one that has finished is kept, so that status can say so
  # libtpu locks the memory that it shares with the device.
  as_unit mixer_jax --remain-after-exit --working-directory="$PWD" --property=LimitMEMLOCK=infinity \
    --property=KillMode=mixed --property=TimeoutStopSec=600 \
    --property=Requires=bucket.service --property=After=bucket.service \
    -- "$PWD/.venv/bin/python" main.py "$@"
}

command=$1
shift
case $command in
  setup) setup "$1" ;;
  start) start "$@" ;;
  status) status ;;
  stop) sudo systemctl stop mixer_jax ;;
  log) sudo journalctl --unit=mixer_jax --output=cat --lines=100 "$@" ;;
esac
