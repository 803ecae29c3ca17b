# How the batch scripts train under Slurm and come back by themselves; sourced by them. Nothing to change here.
# docs/cluster.md says what happens when.

. jobs/common.sh
listen

say() {
    echo "$(date +%FT%T) job $SLURM_JOB_ID: $*" >&2
}

refuse() {
    say "error: $*"
    exit 2
}

# train_under_slurm RUN_DIR FLAGS...
#   Train and export the policy. Stopped by a signal ahead of preemption or of the time limit, or failed with a
#   checkpoint, hand the job back to Slurm, which starts it again: MAX_RESTARTS times at most.
train_under_slurm() {
    local run_dir=$1 restarts max_restarts
    begin_under_slurm "$run_dir"
    train "$@"
    if [[ $outcome == done ]]; then
        own_modules "$run_dir" env_id policy_network
        python -m qtrl_hpc.export "$run_dir" --output "$run_dir/policy.h5" ${modules[@]+"${modules[@]}"}
        return
    fi
    if has_checkpoint "$run_dir"; then
        end_under_slurm training
    else
        end_under_slurm training "no checkpoint to go on from"
    fi
}

# search_under_slurm SWEEP_DIR FLAGS...
#   Work on the trials of a sweep, beside other jobs that do (docs/sweeps.md); handed back to Slurm as training is.
search_under_slurm() {
    local sweep_dir=$1 restarts max_restarts
    shift
    begin_under_slurm "$sweep_dir"
    stoppable "${launcher[@]}" python -m qtrl_hpc.sweep --sweep-dir "$sweep_dir" "$@"
    case $code in
        0) ;;
        1) outcome=failed && end_under_slurm search "it would fail again" ;;
        2) outcome=refused && end_under_slurm search ;;
        75) outcome=stopped && end_under_slurm search ;;
        *) outcome=failed && end_under_slurm search ;; # a rank that died
    esac
}

# begin_under_slurm DIRECTORY
#   Refuse a start too many, and set the array "launcher"; "restarts" and "max_restarts" are the caller's.
begin_under_slurm() {
    restarts=${SLURM_RESTART_COUNT:-0} max_restarts=${MAX_RESTARTS:-20}
    if [[ ! $max_restarts =~ ^[0-9]+$ ]]; then
        refuse "MAX_RESTARTS: got $max_restarts, expected a whole number"
    fi
    if ((restarts > max_restarts)); then # Slurm itself restarts a job that was preempted, or whose node has died
        say "restart $restarts of at most $max_restarts (MAX_RESTARTS): given up; sbatch it again to go on"
        exit 75
    fi
    case ${LAUNCHER:-mpirun} in
        mpirun)
            launcher=(python jobs/without_sigterm.py mpirun -n "${SLURM_NTASKS:-$SLURM_JOB_NUM_NODES}")
            export PRTE_MCA_prte_launch_agent="${PRTE_MCA_prte_launch_agent:-python jobs/without_sigterm.py prted}"
            ;;
        srun) launcher=(srun --mpi="${SRUN_MPI:-pmix}") ;;
        *) refuse "LAUNCHER: got $LAUNCHER, expected mpirun or srun" ;;
    esac
    read -ra flags <<<"${LAUNCHER_FLAGS-}"
    launcher+=(${flags[@]+"${flags[@]}"})
    mkdir -p "$1"
    say "start $((restarts + 1)) on $SLURM_JOB_NODELIST: ${launcher[*]}, directory $1"
}

# end_under_slurm WORK [WHY_NOT]
#   End a job whose work is not done, by "outcome" and "code": requeued where that helps. WHY_NOT says why a failure is
#   not to be tried again.
end_under_slurm() {
    say "$1 $outcome (exit code $code${signals:+, after$signals})"
    if [[ $outcome == refused ]]; then
        exit 2
    elif [[ $signals == *TERM* && $signals != " USR1"* ]]; then # scancel; or Slurm ends it, and restarts it if it means to
        say "ended from outside, not requeued; sbatch it again to go on"
    elif [[ $outcome == failed && -z $signals && -n ${2-} ]]; then
        say "$2, not requeued"
    elif ((restarts >= max_restarts)); then
        say "restarted $restarts times already (MAX_RESTARTS=$max_restarts), not requeued; sbatch it again to go on"
    elif scontrol requeue "$SLURM_JOB_ID"; then
        say "requeued, to go on from the newest checkpoint"
    else
        say "Slurm does not requeue it; sbatch it again to go on"
    fi
    exit "$code"
}
