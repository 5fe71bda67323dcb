#!/usr/bin/env bash
# Run a campaign on this machine: PROCESSES workers for proposals and labels, one for training, which
# has the GPU to itself.
#   workers.sh CAMPAIGN [PROCESSES]
set -uo pipefail
campaign=${1:?name a campaign or its file}
processes=${2:-2}
export OMP_NUM_THREADS=1

# With job control each command in the background is the head of a process group of its own.
set -m
al-charge worker "$campaign" --category cpu --category dft --processes "$processes" &
science=$!
al-charge worker "$campaign" --category gpu &
training=$!

finish() {
    trap "" TERM INT USR1 USR2
    kill -TERM -- "-$science" "-$training" 2>/dev/null
    wait
    exit 143
}
trap finish TERM INT USR1 USR2

status=0
wait "$science" || status=$?
wait "$training" || status=$?
exit "$status"
