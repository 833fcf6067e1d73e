#!/usr/bin/env bash
# What a GPU is for, in under 6 minutes: tests/benchmarks/gpu.sh
# A dry run without one, within a minute on a free core: tests/benchmarks/gpu.sh cpu
set -uo pipefail
cd "$(dirname "$0")/../.."
device=${1:-cuda}
export CUBLAS_WORKSPACE_CONFIG=:4096:8  # which deterministic algorithms ask for
failed=0
check() {
    echo "== $*"
    "$@" || failed=1
}

if [ "$device" = cpu ]; then
    check python -m pytest -q -k cpu tests/functional/test_cosine.py
else
    check python -m pytest -q -k "$device" \
        tests/functional tests/losses tests/distillation tests/attachment tests/evaluation
    if [ "$(python -c 'import torch; print(torch.cuda.device_count())')" -ge 2 ]; then
        check torchrun --nproc_per_node 2 examples/ddp_training.py --steps 100  # with nccl
    fi
fi
check python -m tests.benchmarks.device "$device"
exit $failed
