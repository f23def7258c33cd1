#!/usr/bin/env bash
# One node of a job over several nodes; run it on every node at the same time, with node numbers from 0.
#
#   NODE=0 SERVER=10.0.0.1:7777 RECIPE=recipe.toml RANKS=8 launch/torchrun.sh
#
# Node 0 also serves. NCCL (or gloo without GPUs) stays inside a node; one compressed message a round leaves it.
# A killed rank is started again by torchrun and a killed node by running this again: both resume where the run is.
# Beyond loopback give the server TLS: SERVER_FLAGS="--tls-cert ... --tls-key ..." and NODE_FLAGS="--tls-ca ...", with the
# secret that both share in $SADDLEBAG_TOKEN; or SERVER_FLAGS=--insecure on a network of your own.
set -euo pipefail

: "${NODE:?number of this node, from 0}" "${SERVER:?HOST:PORT of node 0}" "${RECIPE:?recipe file}"
RANKS=${RANKS:-1} OUT=${OUT:-runs/cluster} RESTARTS=${RESTARTS:-10}
read -ra server_flags <<< "${SERVER_FLAGS:-}"
read -ra node_flags <<< "${NODE_FLAGS:-}"

if [ "$NODE" = 0 ]; then
  resume=()
  if [ -d "$OUT/server/checkpoints" ]; then resume=(--resume); fi
  saddlebag server "$RECIPE" --address "$SERVER" --out "$OUT/server" "${resume[@]}" "${server_flags[@]}" &
  trap 'kill "$!" 2> /dev/null || true' EXIT
fi

torchrun --standalone --nproc-per-node "$RANKS" --max-restarts "$RESTARTS" -m saddlebag.launch.node \
  "$RECIPE" --server "$SERVER" --worker "$NODE" --out "$OUT/node-$NODE" "${node_flags[@]}"

if [ "$NODE" = 0 ]; then wait; fi
