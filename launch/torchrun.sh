#!/usr/bin/env bash
# One node of a job over several nodes; run it on every node, with node numbers from 0, in any order.
#
#   NODE=0 SERVER=10.0.0.1:7777 RECIPE=recipe.toml RANKS=8 launch/torchrun.sh
#
# Node 0 also serves. NCCL (or gloo without GPUs) stays inside a node; one compressed message a round leaves it. The recipe's
# `workers` is the number of nodes. With SERVER=10.0.0.1:7777,10.0.0.2:7777 node 1 serves, too: each has a slice (server.shards).
#
#   RANKS        processes of this node, one for each GPU (1)
#   OUT          folder of checkpoints and results, the same path at every start (runs/cluster)
#   RESTARTS     how often torchrun starts the ranks of this node again (10)
#   SERVER_FLAGS, NODE_FLAGS   more options. Beyond loopback give the server TLS: SERVER_FLAGS="--tls-cert ... --tls-key ..."
#                and NODE_FLAGS="--tls-ca ...", and to both the run's secret in $SADDLEBAG_TOKEN or by --token-file; slurm.sbatch
#                makes all of these. SERVER_FLAGS=--insecure serves everybody on the network
#   OMP_NUM_THREADS   threads of each rank, for training on CPUs (1)
#
# A killed rank is started again by torchrun, a killed server by this script, a killed node by whoever runs it again: all resume
# where the run is.
set -euo pipefail

: "${NODE:?number of this node, from 0}" "${SERVER:?HOST:PORT of node 0, or of the first nodes with commas}" "${RECIPE:?recipe file}"
RANKS=${RANKS:-1} OUT=${OUT:-runs/cluster} RESTARTS=${RESTARTS:-10}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
IFS=, read -ra servers <<< "$SERVER"
shards=${#servers[@]} folder=$OUT/server
if [ "$shards" -gt 1 ]; then
  folder=$OUT/shard-$NODE
  SERVER_FLAGS="--set server.shards=$shards --shard $NODE ${SERVER_FLAGS:-}"
  NODE_FLAGS="--set server.shards=$shards ${NODE_FLAGS:-}"
fi
read -ra server_flags <<< "${SERVER_FLAGS:-}"
read -ra node_flags <<< "${NODE_FLAGS:-}"

serve() {
  local status=0 child
  trap 'kill "$child" 2> /dev/null' TERM # the script ends before the run does
  while true; do
    saddlebag server "$RECIPE" --address "${servers[$NODE]}" --out "$folder" --resume "${server_flags[@]}" &
    child=$!
    wait "$child" && return 0 || status=$?
    if [ "$status" -le 2 ] || [ "$status" = 143 ]; then return "$status"; fi # an error that would come again, or told to end
    echo "the server ended with status $status; starting it again" >&2
    sleep 1
  done
}

if [ "$NODE" -lt "$shards" ]; then
  serve &
  server=$!
  trap 'kill "$server" 2> /dev/null || true' EXIT
fi

torchrun --standalone --local-addr 127.0.0.1 --nproc-per-node "$RANKS" --max-restarts "$RESTARTS" -m saddlebag node \
  "$RECIPE" --server "$SERVER" --worker "$NODE" --out "$OUT/node-$NODE" "${node_flags[@]}"

if [ "$NODE" -lt "$shards" ]; then wait "$server"; fi
