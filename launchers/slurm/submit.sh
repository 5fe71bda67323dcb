#!/usr/bin/env bash
# Keep jobs of one category in the queue as long as there is work for them:
#   submit.sh cpu|dft|gpu [MOST_JOBS_AT_A_TIME]
# Run it on a login node, one for each category, in tmux or the like.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
category=${1:?name a category: cpu, dft or gpu}
jobs=${2:-4}
: "${AL_CHARGE_CAMPAIGN:?set it to the name of the campaign}"
: "${AL_CHARGE_DATABASE:?set it to mongodb://host:port/name, which the nodes must reach}"

export AL_CHARGE_LAUNCHERS=$here FW_CONFIG_FILE=$here/FW_config.yaml
exec "$here/../fireworks.sh" qlaunch \
    -w "$here/my_fworker_$category.yaml" -q "$here/my_qadapter_$category.yaml" \
    rapidfire --maxjobs_queue "$jobs" --nlaunches infinite --sleep 30
