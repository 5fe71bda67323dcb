#!/usr/bin/env bash
# Run a command on one thread per process, and end it with all its children when told to.
#   job.sh COMMAND ARGUMENTS
set -uo pipefail
export OMP_NUM_THREADS=1

# With job control a command in the background is the head of a process group of its own.
set -m
"$@" &
group=$!

finish() {
    trap '' TERM INT
    kill -TERM -- "-$group" 2>/dev/null
    for _ in $(seq 50); do
        kill -0 -- "-$group" 2>/dev/null || exit 143
        sleep 0.2
    done
    kill -KILL -- "-$group" 2>/dev/null
    exit 143
}
trap finish TERM INT

wait "$group"
status=$?
# A worker that was killed may have left children behind.
kill -KILL -- "-$group" 2>/dev/null
exit "$status"
