#!/usr/bin/env bash
# Run a command on one thread per process. When the queue warns of the end, or ends the job, tell the
# command and all its children, and give them time to save.
#   job.sh COMMAND ARGUMENTS
set -uo pipefail
save=180 # s; the queue has to warn earlier than that
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export OPENBLAS_NUM_THREADS="$OMP_NUM_THREADS" MKL_NUM_THREADS="$OMP_NUM_THREADS"

group=
timer=

leave() { # STATUS
    if [[ -n "$timer" ]]; then kill -KILL -- "-$timer" 2>/dev/null; fi
    # A worker that was killed may have left children behind.
    if [[ -n "$group" ]]; then kill -KILL -- "-$group" 2>/dev/null; fi
    exit "$1"
}

finish() {
    trap '' TERM INT USR1 USR2 XCPU
    if [[ -n "$group" ]] && kill -TERM -- "-$group" 2>/dev/null; then
        for _ in $(seq "$((5 * save))"); do
            kill -0 -- "-$group" 2>/dev/null || break
            sleep 0.2
        done
    fi
    leave 143
}
trap finish TERM INT USR1 USR2 XCPU

# With job control a command in the background is the head of a process group of its own.
set -m
"$@" &
group=$!

# Some queues give only seconds between warning and end: there the job script says how long it may run.
if [[ -n "${AL_CHARGE_WALLTIME:-}" ]]; then
    IFS=: read -r hours minutes seconds <<<"$AL_CHARGE_WALLTIME"
    left=$((10#$hours * 3600 + 10#$minutes * 60 + 10#$seconds - save - 60))
    (sleep "$((left > 0 ? left : 0))" && kill -TERM $$) &
    timer=$!
fi

wait "$group"
leave $?
