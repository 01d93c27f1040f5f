#!/usr/bin/env bash
# Trains on a Cloud TPU VM or pod slice, from a machine with gcloud. docs/tpu.md says what has to be there first.
#
#   bash launch/tpu.sh train --name=b16 --project=my-project --zone=europe-west4-a --type=v3-32 --bucket=my-bucket \
#     --spot -- --config=configs/mixer_b16_i1k.py --config.data.data_dir=/mnt/bucket/data
#
# makes the TPU, starts main.py with what stands behind -- on all workers, and watches: a TPU that was preempted is
# made anew, and the run goes on from its newest checkpoint in the bucket. When the run has finished, the TPU is
# deleted. The steps alone, with the same options:
#
#   create    make the TPU
#   setup     copy this working tree to all workers, install it and mount the bucket; again after every change here.
#             What was copied is kept in runs/<name>.tar.gz
#   start     start main.py on all workers; its work directory is runs/<name> in the bucket
#   status    say how the run on the first worker is: absent, running, finished, interrupted or failed
#   watch     follow the log of the first worker
#   stop      save a checkpoint and end the run; end train first, which would start it again
#   collect   copy the work directory from the bucket to runs/<name> here
#   delete    delete the TPU
#
#   --name=NAME --project=PROJECT --zone=ZONE    which TPU; NAME is the name of the run, too
#   --type=TYPE        such as v2-8, v3-32, v4-64, v5litepod-16, v5p-32 or v6e-8
#   --bucket=BUCKET    Cloud Storage bucket of the runs, without gs://
#   --spot             cheaper, and preempted at any time
#   --queued           wait in the queue of requests (queued resources) instead of failing where no TPU is free
#   --every=SECONDS    between two looks at the TPU; 60
#   --dry-run          print the commands and run none of them
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
  echo "launch/tpu.sh: $*" >&2
  exit 2
}

need() {
  local option
  for option in "$@"; do
    [ -n "${!option}" ] || fail "$command needs --$option=..."
  done
}

run() {
  printf '%q ' "$@"
  echo
  $dry_run || "$@"
}

# Cloud TPU's runtime versions for JAX: https://cloud.google.com/tpu/docs/runtimes
runtime_version() {
  case $type in
    v2-* | v3-* | v4-*) echo tpu-ubuntu2204-base ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v6e-*) echo v2-alpha-tpuv6e ;;
    *) fail "--type=$type is unknown; expected v2-N, v3-N, v4-N, v5litepod-N, v5p-N or v6e-N" ;;
  esac
}

create() {
  set -- --accelerator-type="$type" "${where[@]}"
  if $spot; then set -- "$@" --spot; fi
  if $queued; then
    run gcloud compute tpus queued-resources create "$name" --node-id="$name" --runtime-version="$version" "$@"
  else
    run gcloud compute tpus tpu-vm create "$name" --version="$version" "$@"
  fi
}

delete() {
  if $queued; then
    run gcloud compute tpus queued-resources delete "$name" "${where[@]}" --force --quiet
  else
    run gcloud compute tpus tpu-vm delete "$name" "${where[@]}" --quiet
  fi
}

tpu_state() {
  if $queued; then
    gcloud compute tpus queued-resources describe "$name" "${where[@]}" --format='value(state.state)' 2>/dev/null
  else
    gcloud compute tpus tpu-vm describe "$name" "${where[@]}" --format='value(state)' 2>/dev/null
  fi || echo ABSENT
}

on_workers() {  # <which> <command line>; gcloud runs it on all of them at the same time
  run gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker="$1" --command="$2"
}

worker() {  # <which> <command of launch/tpu_worker.sh> <arguments>
  local which=$1
  shift
  on_workers "$which" "bash mixer_jax/launch/tpu_worker.sh$(printf ' %q' "$@")"
}

setup() {
  local archive=runs/$name.tar.gz
  run mkdir -p runs &&
    run sh -c "git ls-files -z --cached --others --exclude-standard | tar -czf $archive --null -T -" &&
    run gcloud compute tpus tpu-vm scp "$archive" "$name:mixer_jax.tar.gz" "${where[@]}" --worker=all &&
    on_workers all "mkdir -p mixer_jax && tar -xzf mixer_jax.tar.gz -C mixer_jax" &&
    worker all setup "$bucket"
}

start() { worker all start --workdir="/mnt/bucket/runs/$name" "$@"; }

collect() {
  run mkdir -p "runs/$name"
  run gcloud storage rsync --recursive "gs://$bucket/runs/$name" "runs/$name" --project="$project"
}

# What fails here is tried again at the next look, because a TPU can be taken away at any moment; a run that failed by
# itself would fail again, and ends the loop.
train() {
  local state progress
  if $dry_run; then  # a run that nothing disturbs
    create && setup && start "$@" && worker 0 status && delete
    return
  fi
  while true; do
    state=$(tpu_state) progress=
    case $state in
      READY | ACTIVE) progress=$(worker 0 status 2>/dev/null | tail -n 1) || progress=unreachable ;;
    esac
    echo "$(date +%T) TPU $name: $state${progress:+, run: $progress}"
    case $state/$progress in
      ABSENT/) create || true ;;
      PREEMPTED/ | TERMINATED/ | STOPPED/ | SUSPENDED/ | FAILED/) delete || true ;;
      */absent | */interrupted) { setup && start "$@"; } || true ;;
      */finished) break ;;
      */failed)
        worker 0 log || true
        echo "launch/tpu.sh: the run has failed; $name is still there, delete it when you have looked" >&2
        exit 1
        ;;
    esac
    sleep "$every"
  done
  delete
}

command=${1:-help} name='' project='' zone='' type='' bucket='' spot=false queued=false every=60 dry_run=false
version=''
[ $# -eq 0 ] || shift
while [ $# -gt 0 ]; do
  case $1 in
    --name=*) name=${1#*=} ;;
    --project=*) project=${1#*=} ;;
    --zone=*) zone=${1#*=} ;;
    --type=*) type=${1#*=} ;;
    --bucket=*) bucket=${1#*=} ;;
    --every=*) every=${1#*=} ;;
    --spot) spot=true ;;
    --queued) queued=true ;;
    --dry-run) dry_run=true ;;
    --)
      shift
      break
      ;;
    *) fail "unknown argument $1; main.py's arguments stand behind --" ;;
  esac
  shift
done
where=(--project="$project" --zone="$zone")
[ -z "$type" ] || version=$(runtime_version)

case $command in
  create) need name project zone type; create ;;
  setup) need name project zone bucket; setup ;;
  start) need name project zone; start "$@" ;;
  status) need name project zone; worker 0 status ;;
  watch) need name project zone; worker 0 log --follow ;;
  stop) need name project zone; worker all stop ;;
  collect) need name project bucket; collect ;;
  delete) need name project zone; delete ;;
  train) need name project zone type bucket; train "$@" ;;
  help | --help | -h) sed -n '2,/^set/ s/^# \{0,1\}//p' "$0" ;;
  *) fail "unknown command $command; known: create setup start status watch stop collect delete train" ;;
esac
