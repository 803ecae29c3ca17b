#!/usr/bin/env bash
# The main job on this machine: train 8 agents, export the policy, write a report, evaluate and draw it. "make train"
# runs this.
#
#   bash jobs/local.sh [flags of qtrl_hpc.train]      AGENTS=8 RUN_DIR=runs/main are the defaults
#
# Ctrl-C ends it with a checkpoint (twice: at once). Run again, it goes on from there; when training is done, it only
# exports, reports, evaluates and draws. Needs the extra "report".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. jobs/common.sh
run_dir=${RUN_DIR:-runs/main}

launcher=(mpirun -n "${AGENTS:-8}")
listen
train "$run_dir" "$@"
trap - HUP INT TERM USR1
if [[ $outcome == stopped ]]; then
    echo "stopped with a checkpoint: run this again to go on" >&2
fi
if [[ $outcome != done ]]; then
    exit "$code"
fi

own_modules "$run_dir" env_id policy_network
python -m qtrl_hpc.export "$run_dir" --output "$run_dir/policy.h5" ${modules[@]+"${modules[@]}"}
own_modules "$run_dir" env_id policy_network ansatz
python -m qtrl_hpc.report "$run_dir" ${modules[@]+"${modules[@]}"}
# Last, since there are environments that draw nothing.
own_modules "$run_dir" env_id policy_network
python -m qtrl_hpc.evaluate "$run_dir/policy.h5" --gif "$run_dir/policy.gif" ${modules[@]+"${modules[@]}"}
