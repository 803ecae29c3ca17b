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
    local run_dir=$1 restarts=${SLURM_RESTART_COUNT:-0} max_restarts=${MAX_RESTARTS:-20}
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
    mkdir -p "$run_dir"

    say "start $((restarts + 1)) on $SLURM_JOB_NODELIST: ${launcher[*]}, run directory $run_dir"
    train "$@"

    if [[ $outcome == done ]]; then
        python -m qtrl_hpc.export "$run_dir" --output "$run_dir/policy.h5"
        return
    fi
    say "training $outcome (exit code $code${signals:+, after$signals})"
    if [[ $outcome == refused ]]; then
        exit 2
    elif [[ $signals == *TERM* && $signals != " USR1"* ]]; then # scancel; or Slurm puts an end to the job, and restarts it itself if it means to
        say "ended from outside, not requeued; sbatch it again to go on"
    elif [[ $outcome == failed && -z $signals ]] && ! has_checkpoint "$run_dir"; then
        say "no checkpoint to go on from, not requeued"
    elif ((restarts >= max_restarts)); then
        say "restarted $restarts times already (MAX_RESTARTS=$max_restarts), not requeued; sbatch it again to go on"
    elif scontrol requeue "$SLURM_JOB_ID"; then
        say "requeued, to go on from the newest checkpoint"
    else
        say "Slurm does not requeue it; sbatch it again to go on"
    fi
    exit "$code"
}
