# Settings of the place where a job runs: your machine, or your cluster. The scripts of jobs/ source it; to call mpirun
# yourself, source it into your shell (". jobs/env.sh"). What is set already it leaves as it is.

if [ -n "${SLURM_JOB_ID-}" ]; then
    # --- A cluster with Slurm: make your changes here.
    #
    # CHANGE 1: load what your site offers, the MPI that mpi4py was built with above all ("module avail" lists it).
    #module purge
    #module load python openmpi

    # CHANGE 2: where you have installed qtrl_hpc (README.md, "On a cluster"). Not needed for .venv in this folder.
    #. "$HOME/qtrl/bin/activate"
    #conda activate qtrl_hpc

    # As many threads as a rank has cores (--cpus-per-task); libraries take all of the node's cores if they are let.
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}"
    # srun no longer takes --cpus-per-task from sbatch by itself.
    if [ -n "${SLURM_CPUS_PER_TASK-}" ]; then
        export SRUN_CPUS_PER_TASK="${SRUN_CPUS_PER_TASK:-$SLURM_CPUS_PER_TASK}"
    fi

    # mpirun of Open MPI 5 asks a node that has been silent for 30 s whether it is there, every 5 s, and ends the job when
    # three questions had no answer; by itself it would take 8 minutes (docs/hosts.md).
    export PRTE_MCA_oob_tcp_keepalive_time="${PRTE_MCA_oob_tcp_keepalive_time:-30}"
    export PRTE_MCA_oob_tcp_keepalive_intvl="${PRTE_MCA_oob_tcp_keepalive_intvl:-5}"
    export PRTE_MCA_oob_tcp_keepalive_probes="${PRTE_MCA_oob_tcp_keepalive_probes:-3}"

    # CHANGE 3: compiled kernels are kept beside the package or in your home. Where the jobs can write to neither:
    #export NUMBA_CACHE_DIR="$SCRATCH/numba"
else
    # --- One machine: a laptop, a workstation, a CI runner. After this "mpirun -n 8 python -m ..." works on any number
    # of cores. The names are those of Open MPI 5, whose launcher is called PRRTE (hence PRTE_); other MPIs ignore them.

    # mpirun starts one rank a core and refuses more ("not enough slots"). 8 agents on 2 cores are fine here: let it.
    export PRTE_MCA_rmaps_default_mapping_policy="${PRTE_MCA_rmaps_default_mapping_policy:-:oversubscribe}"

    # mpirun would tie rank 0 to core 0, rank 1 to core 1 and so on, and so would a second mpirun on the same machine,
    # to the same cores. Leave the placing to the operating system.
    export PRTE_MCA_hwloc_default_binding_policy="${PRTE_MCA_hwloc_default_binding_policy:-none}"

    # A rank that waits for a message asks for it over and over, which keeps its core busy. Where ranks share cores, let
    # it give the core to a rank that has work.
    export OMPI_MCA_mpi_yield_when_idle="${OMPI_MCA_mpi_yield_when_idle:-1}"
fi

# mpirun refuses to run as root, since a mistake could then break the system. In a container everybody is root, and root
# has asked for it by sourcing this file.
if [ "$(id -u)" = 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1
    export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

# How to stop a run; tried with Open MPI 5.0.8 and 5.0.11, and ranks that need 5 s to finish.
#   SIGUSR1 to mpirun: it passes the signal on to all ranks and waits as long as they take. They finish their update and
#       write a checkpoint; its exit code is theirs, 75.
#   Ctrl-C (SIGINT) or SIGTERM to mpirun: it sends SIGTERM to all ranks, and SIGKILL a quarter of a second later; no
#       setting prolongs that. It may do for a checkpoint; else the last regular one is the newest. What the ranks
#       print from then on is lost, and its exit code is 1 whatever theirs.
#   SIGTERM, SIGINT or SIGUSR1 to any one rank: like SIGUSR1 to mpirun, since the ranks agree to stop.
# So the scripts of jobs/ turn all of them into SIGUSR1 (jobs/common.sh).
