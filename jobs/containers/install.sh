#!/bin/sh
# The steps of building an image, the same for Dockerfile and qtrl_hpc.def, which call it in the folder of the sources:
#
#   system        Debian's Python, and a user who is not root
#   dependencies  what setup.cfg requires at the versions of constraints.txt, into /opt/qtrl; needs no source of ours
#   package       qtrl_hpc itself
#   check         two ranks train for three updates
#
# DEVICE: cpu or gpu, which build of torch. AER: cpu or gpu, which build of Qiskit Aer. EXTRAS: those of setup.cfg.
set -eu

DEVICE=${DEVICE:-cpu} AER=${AER:-cpu} EXTRAS=${EXTRAS:-mpi}
pip="/opt/qtrl/bin/python -m pip --disable-pip-version-check --no-cache-dir"

refuse() {
    echo "error: $1: got $2, expected $3" >&2
    exit 2
}

one_of_cpu_gpu() {
    case $2 in cpu | gpu) ;; *) refuse "$1" "$2" "cpu or gpu" ;; esac
}

# The version that constraints.txt pins a package to.
pinned() {
    sed -n "s/^$1==\([^ ;]*\).*/\1/p" constraints.txt
}

system() {
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates python3 python3-venv
    rm -rf /var/lib/apt/lists/*
    id qtrl >/dev/null 2>&1 || useradd --create-home --uid 1000 qtrl
    # /work: where a run directory is mounted. /var/cache/qtrl_hpc: compiled kernels. Both for whatever user is chosen
    # when the image is run.
    mkdir -p /work /var/cache/qtrl_hpc
    chmod 1777 /work /var/cache/qtrl_hpc
}

dependencies() {
    one_of_cpu_gpu DEVICE "$DEVICE"
    one_of_cpu_gpu AER "$AER"
    python3 -m venv /opt/qtrl
    # PyPI's torch is the CUDA build, which brings all of CUDA but the driver.
    if [ "$DEVICE" = cpu ]; then
        $pip install -c constraints.txt --no-deps --index-url https://download.pytorch.org/whl/cpu torch
    fi
    # In place of the sources, which change more often than this: a package that has nothing but its requirements.
    stub=$(mktemp -d)
    cp LICENSE constraints.txt pyproject.toml setup.cfg "$stub"
    mkdir "$stub/qtrl_hpc"
    echo '__version__ = "0"' >"$stub/qtrl_hpc/__init__.py"
    $pip install -c constraints.txt setuptools
    (cd "$stub" && $pip install -c constraints.txt --no-build-isolation ".[$EXTRAS]")
    rm -r "$stub"
    # It has the same modules as qtrl_hpc's requirement qiskit-aer, and stands in for it.
    if [ "$AER" = gpu ]; then
        $pip uninstall -y qiskit-aer
        $pip install -c constraints.txt "qiskit-aer-gpu==$(pinned qiskit-aer)"
    fi
}

package() {
    $pip install --no-build-isolation --no-deps .
    rm -rf build ./*.egg-info
}

check() {
    . jobs/env.sh
    runs=$(mktemp -d)
    (cd "$runs" && mpirun -n 2 /opt/qtrl/bin/python -m qtrl_hpc.train --updates 3 --run-dir check)
    rm -r "$runs"
    # Numba passes over a folder that it cannot write to, also for what is in it already.
    if [ -n "${NUMBA_CACHE_DIR-}" ]; then
        chmod -R a+rwX "$NUMBA_CACHE_DIR"/*
    fi
}

case ${1-} in
    system | dependencies | package | check) "$1" ;;
    *) refuse "step" "${1-nothing}" "system, dependencies, package or check" ;;
esac
