#!/usr/bin/env bash
# All figures of a machine with a GPU, unattended: ./benchmarks/gpu_figures.sh measure|tests|plaid SECONDS
#
#   measure   benchmarks/gpu.py; the kernels that it compiles serve the others, too
#   tests     pytest -m gpu
#   plaid     policykd plaid --device cuda, without videos; PRESET and SET choose another recipe and other settings
#
# Everything is written to $OUT (default results/gpu) as it is known. PY is the Python of an installation with the extras
# [sim,gpu,dev]. DEV=cpu tries the script on a machine without a GPU. On a machine without network, install from wheels
# that were downloaded elsewhere, and carry the kernels that benchmarks/precompile.py compiles without a GPU: set
# WARP_CACHE_PATH to their folder. Kernels that are missing there are compiled, which takes about a minute.
set -uo pipefail
cd "$(dirname "$0")/.."
MODE=${1:?measure, tests or plaid} LIMIT=${2:?seconds}
PY=${PY:-python3} DEV=${DEV:-cuda} OUT=${OUT:-results/gpu}
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1
mkdir -p "$OUT"
command -v nvidia-smi >/dev/null && nvidia-smi >"$OUT/nvidia-smi.txt"
case $MODE in
measure)
    timeout "$LIMIT" "$PY" benchmarks/gpu.py --device "$DEV" --limit "$LIMIT" --out "$OUT/figures.jsonl" ${SET:-} 2>&1 |
        tee "$OUT/figures.log"
    ;;
tests)
    timeout "$LIMIT" "$PY" -m pytest -m gpu -n 0 -p no:cacheprovider -rs --durations=0 tests 2>&1 | tee "$OUT/pytest.log"
    ;;
plaid)
    began=$SECONDS
    timeout "$LIMIT" "$PY" -m policykd.cli.main plaid --preset "${PRESET:-standard}" --device "$DEV" --no-video \
        --out "$OUT/plaid" ${SET:+--set $SET} 2>&1 | tee "$OUT/plaid.log"
    echo "{\"what\": \"plaid\", \"rc\": ${PIPESTATUS[0]}, \"seconds\": $((SECONDS - began))}" | tee "$OUT/plaid.jsonl"
    ;;
*)
    echo "'$MODE' is not a mode; valid: measure, tests, plaid" >&2
    exit 2
    ;;
esac
