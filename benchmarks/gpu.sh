#!/usr/bin/env bash
# What one NVIDIA GPU gives, in under eight minutes: training and scoring at the shape of Qwen3-0.6B, and the tests for GPUs.
#   bash benchmarks/gpu.sh          in an environment with this package's extras dev, quickstart and, where wanted, vLLM
#   DRY=1 bash benchmarks/gpu.sh    tiny shapes on a CPU: whether it runs; nothing is recorded
# Results go to benchmarks/results/; `python benchmarks/readme_tables.py` then writes them into the README.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

if [ -n "${DRY:-}" ]; then
    export CUDA_VISIBLE_DEVICES=
    "$python" benchmarks/gpu_scoring.py --shape tiny --rows 4 --groups 1 --rounds 1
    exit
fi
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
"$python" -c 'import torch; assert torch.cuda.is_available(), "torch sees no GPU"; print("torch", torch.__version__)'
vllm=
if "$python" -c 'import vllm' 2>/dev/null; then vllm=--vllm; else echo "vLLM is not installed: left out"; fi

status=0
part() { # seconds, command: what fails or runs too long is said, and the rest goes on
    local limit=$1
    shift
    echo "== $*"
    timeout "$limit" "$@" || { echo "!! ended with status $?: $*"; status=1; }
}
# useful tokens a second and share of peak, against Trainer and a padded loop
part 210 "$python" benchmarks/train_reward.py --shape 0.6b --rows 256 --rows-per-step 256 --compile
# tokens scored a second, best-of-8, exported scores
part 150 "$python" benchmarks/gpu_scoring.py $vllm
part 110 "$python" -m pytest -q -x -m gpu tests/integration/test_gpu.py
exit "$status"
