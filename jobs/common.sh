# What the scripts of jobs/ share; sourced into bash, in the top folder of the clone. Nothing to change here.

if [[ -d .venv/bin ]]; then
    PATH="$PWD/.venv/bin:$PATH"
fi
. jobs/env.sh

# listen
#   From here on note HUP, INT, TERM and USR1 in "signals" instead of dying of them.
listen() {
    local name
    signals=
    launcher_pid=
    for name in HUP INT TERM USR1; do
        trap "heard $name" "$name"
    done
}

# Every first signal becomes SIGUSR1 to the launcher (mpirun, srun), which it passes on to all ranks: they write a
# checkpoint and exit with 75. A second INT (Ctrl-C) ends it at once.
heard() {
    local earlier=$signals
    signals="$signals $1"
    if [[ -n $launcher_pid && -z $earlier ]]; then
        kill -USR1 "$launcher_pid" 2>/dev/null || true
    elif [[ -n $launcher_pid && $1 == INT ]]; then
        kill -TERM "$launcher_pid" 2>/dev/null || true
    fi
}

# stoppable LAUNCHER...
#   Run a launcher, passing signals on (listen); not at all if one has come already. Leaves its exit code in "code".
#
#   mpirun answers INT and TERM by killing the ranks (jobs/env.sh). So it is kept out of the terminal's reach, in a
#   process group of its own (set -m) that reads no keys.
stoppable() {
    local seen
    code=75
    if [[ -n $signals ]]; then
        return
    fi
    set -m
    "$@" </dev/null &
    launcher_pid=$!
    set +m
    if [[ -n $signals ]]; then # it came before there was anything to pass it on to
        kill -USR1 "$launcher_pid" 2>/dev/null || true
    fi
    while :; do # wait returns early at each signal
        seen=$signals
        code=0
        wait "$launcher_pid" || code=$?
        if [[ $signals == "$seen" ]]; then
            break
        fi
    done
    launcher_pid=
}

# train RUN_DIR FLAGS...
#   Train with the launcher in the array "launcher" (listen comes first), going on from RUN_DIR's checkpoint where there
#   is one. Leaves how it ended in "outcome" (done, stopped, refused, failed) and the exit code for it in "code".
train() {
    local run_dir=$1 before state=
    shift
    local resume=()
    if has_checkpoint "$run_dir"; then
        resume=(--resume)
    fi
    before=$(cat "$run_dir/status.json" 2>/dev/null || true)
    stoppable "${launcher[@]}" python -m qtrl_hpc.train --run-dir "$run_dir" ${resume[@]+"${resume[@]}"} "$@"
    # The run itself says how it ended; a launcher's exit code may not (a fault-tolerant mpirun's is 0 though a rank has
    # died). What stood there before is of an earlier run.
    if [[ $(cat "$run_dir/status.json" 2>/dev/null || true) != "$before" ]]; then
        # Of a directory that is gone, or a file cut off, it is nothing.
        state=$(python -c 'import json, sys; print(json.load(open(sys.argv[1]))["state"])' "$run_dir/status.json" \
            2>/dev/null || true)
    fi
    case $code:$state in
        2:*) outcome=refused ;; # failed too: code of the user's own that returns something else later than at the start
        *:done) outcome=done code=0 ;;
        *:stopped | 75:) outcome=stopped code=75 ;;
        0:*) outcome=failed code=1 ;;
        *) outcome=failed ;;
    esac
}

# own_modules RUN_DIR KEY...
#   Leave in the array "modules" the flags that let further commands import what RUN_DIR's configuration has by
#   MODULE:OBJECT under the keys: training, which the user has asked for, has imported it already.
own_modules() {
    local flags
    flags=$(python -c '
import sys, yaml
run_dir, *keys = sys.argv[1:]
with open(f"{run_dir}/config.yaml") as file:
    config = yaml.safe_load(file)
print(*("--" + key.replace("_", "-") + " " + config[key] for key in keys if ":" in config[key]))' "$@")
    read -ra modules <<<"$flags"
}

has_checkpoint() {
    compgen -G "$1/checkpoint*.h5" >/dev/null
}
