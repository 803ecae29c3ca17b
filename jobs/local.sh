#!/usr/bin/env bash
# The main job on this machine: train 8 agents, export the policy, evaluate it. "make train" runs this.
#
#   bash jobs/local.sh [flags of qtrl_hpc.train]      AGENTS=8 RUN_DIR=runs/main are the defaults
#
# Ctrl-C ends it with a checkpoint (twice: at once). Run again, it goes on from there; when training is done, it only
# exports and evaluates.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. jobs/env.sh
if [[ -d .venv/bin ]]; then
    PATH="$PWD/.venv/bin:$PATH"
fi
agents=${AGENTS:-8}
run_dir=${RUN_DIR:-runs/main}

resume=()
if [[ -e $run_dir/checkpoint.h5 ]]; then
    resume=(--resume)
fi

# mpirun answers Ctrl-C and SIGTERM by killing the ranks (jobs/env.sh), but passes SIGUSR1 on. So it is kept out of the
# terminal's reach, in a process group of its own (set -m) that reads no keys, and this script passes the wish on.
mpirun=
interrupts=0
interrupt() {
    interrupts=$((interrupts + 1))
    if [[ -z $mpirun ]]; then
        exit 75
    elif ((interrupts == 1)); then
        kill -USR1 "$mpirun" 2>/dev/null || true
    else
        kill -TERM "$mpirun" 2>/dev/null || true
    fi
}
trap interrupt HUP INT TERM USR1
set -m
mpirun -n "$agents" python -m qtrl_hpc.train --run-dir "$run_dir" "${resume[@]}" "$@" </dev/null &
mpirun=$!
set +m

# wait returns early at each signal.
while :; do
    seen=$interrupts
    code=0
    wait "$mpirun" || code=$?
    if ((interrupts == seen)); then
        break
    fi
done
trap - HUP INT TERM USR1
if ((code == 75)); then
    echo "stopped with a checkpoint: run this again to go on" >&2
fi
if ((code != 0)); then
    exit "$code"
fi

python -m qtrl_hpc.export "$run_dir" --output "$run_dir/policy.h5"
python -m qtrl_hpc.evaluate "$run_dir/policy.h5"
