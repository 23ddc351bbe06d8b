#!/usr/bin/env bash
# Everything that a machine with a GPU can tell: correctness of each kernel tier, kernel rates, operators beside the peers, one step of
# FLUX.1-dev and Z-Image at the real width, at both precisions of products, beside PyTorch's bf16. No network is needed when node_modules is there (or in a folder made by pack.sh).
#
#   bench/gpu.sh [--out FOLDER] [--quick] [stage ...]      stages: check conformance kernels operators steps torch load
#
# --quick: the smallest setting of everything, to see on any driver that it works. Each stage is limited by LIMIT_SECONDS (default 540), and
# a stage that fails does not stop the others. WICK_PYTHON names a python with torch (and diffusers). Results: FOLDER/results.jsonl, one JSON
# a line, and FOLDER/<stage>.log; in a checkout, unless --quick, also bench/results/<date>-gpu-<name>.json.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/.."

out=bench-gpu quick=
stages=()
while [ $# -gt 0 ]; do
  case $1 in
    --out) out=$2; shift 2 ;;
    --quick) quick=1; shift ;;
    check | conformance | kernels | operators | steps | torch | load) stages+=("$1"); shift ;;
    *) echo "gpu.sh: unknown argument $1" >&2; sed -n 2,11p "${BASH_SOURCE[0]}" >&2; exit 2 ;;
  esac
done
[ ${#stages[@]} -gt 0 ] || stages=(check conformance kernels operators steps torch load)
mkdir -p "$out"
limit=${LIMIT_SECONDS:-540}
python=${WICK_PYTHON:-python3}

# A packed folder brings its own Node, bundled scripts and the Vulkan loader.
if [ -x "$here/node" ]; then
  node=$here/node
elif command -v node > /dev/null; then
  node=node
else
  echo "gpu.sh: no node here; install Node 20.19 or newer, or use a folder made by bench/pack.sh" >&2
  exit 3
fi
script() { # script NAME ARGS...
  local name=$1
  shift
  if [ -f "$here/$name.mjs" ]; then "$node" "$here/$name.mjs" "$@"; else "$node" --conditions=@wick/source --import tsx "$here/$name.ts" "$@"; fi
}
if [ ! -f "$here/gpu-check.mjs" ] && [ ! -d node_modules/webgpu ]; then
  echo "installing the packages of package-lock.json"
  npm ci --no-audit --no-fund || { echo "gpu.sh: npm ci failed; without a network carry node_modules, or use bench/pack.sh" >&2; exit 3; }
fi

# The loader: the system's, else the one carried. The driver's manifest: the system's, else one that names NVIDIA's library.
libraries=$(ldconfig -p 2> /dev/null || /sbin/ldconfig -p 2> /dev/null)
if [[ $libraries != *libvulkan.so.1* ]]; then
  carried=$here/vulkan
  [ -d "$carried" ] || carried=$(cd "$here/.." && "$node" --import tsx -e 'import { unpackSwiftShader } from "./tools/vulkan.ts"; console.log(unpackSwiftShader() ?? "")' 2> /dev/null)
  [ -n "$carried" ] && export LD_LIBRARY_PATH=$carried${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} && echo "Vulkan loader: carried along"
fi
if [ -z "${VK_DRIVER_FILES:-}" ] && nvidia-smi -L > /dev/null 2>&1; then
  if [ -f /usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json ]; then
    export VK_DRIVER_FILES=/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json
  elif [ ! -f /etc/vulkan/icd.d/nvidia_icd.json ] && [ ! -f /usr/share/vulkan/icd.d/nvidia_icd.json ] && [[ $libraries == *libGLX_nvidia.so.0* ]]; then
    echo '{"file_format_version":"1.0.0","ICD":{"library_path":"libGLX_nvidia.so.0","api_version":"1.3.277"}}' > "$out/nvidia_icd.json"
    VK_DRIVER_FILES=$(cd "$out" && pwd)/nvidia_icd.json
    export VK_DRIVER_FILES
  fi
fi

failed=0
stage() { # stage NAME COMMAND...: lines of JSON go to the results, everything to the log
  local name=$1 status=0
  shift
  echo "== $name: $*"
  "$@" > >(tee -a "$out/$name.log" | tee >(grep --line-buffered '^{' >> "$out/results.jsonl") | grep -v '^{') 2> >(tee -a "$out/$name.log" >&2) || status=$?
  if [ $status -ne 0 ]; then
    failed=$((failed + 1))
    echo "{\"benchmark\":\"$name\",\"command\":\"$*\",\"failed\":$status}" >> "$out/results.jsonl"
    echo "   ended with $status$([ $status = 124 ] && echo " (more than $limit s)")"
  fi
}
# timeout cannot run a function: the script's own interpreter runs itself.
export -f script
export here node
timed() { timeout "$limit" bash -c 'script "$@"' script "$@"; }

check() { stage check timed gpu-check; }
conformance() {
  for tier in plain subgroups matrix; do stage conformance timed gpu-conformance --tier $tier --seconds $((limit - 30)) ${quick:+--sample}; done
}
kernels() {
  if [ -f "$here/webgpu-kernels.ts" ] || [ -f "$here/webgpu-kernels.mjs" ]; then
    stage kernels timed webgpu-kernels ${quick:+--quick}
  else echo "== kernels: not in this version"; fi
}
operators() {
  local which='^(?!included)' # a packed folder has no model in it
  [ -f "$here/gpu-check.mjs" ] || which=
  if [ -n "$quick" ]; then stage operators timed run --device webgpu --into "$out/operators.json" --rounds 1 --only '^matmul 512'
  else stage operators timed run --device webgpu --into "$out/operators.json" --full --only "$which"; fi
}
steps() {
  local model size dtype precision
  if [ -n "$quick" ]; then
    for model in flux1-dev z-image; do for precision in highest high; do
      stage steps timed gpu-step --model $model --size 64 --text 32 --blocks 1 --steps 1 --dtype q8_0 --precision $precision
    done; done
    return
  fi
  # What has a target comes first, in case time runs out.
  for size in 1024 512; do for dtype in bf16 q8_0; do for model in flux1-dev z-image; do for precision in high highest; do
    stage steps timed gpu-step --model $model --size $size --dtype $dtype --precision $precision --profile
  done; done; done; done
}
torch() {
  local model size flags="--device cuda"
  nvidia-smi -L > /dev/null 2>&1 || flags="--device cpu"
  if [ -n "$quick" ]; then
    for model in flux1-dev z-image; do stage torch timeout "$limit" "$python" "$here/peers/torch_step.py" --model $model --size 64 --text 32 --blocks 1 --steps 1 $flags; done
    return
  fi
  [ "$flags" = "--device cuda" ] || { echo "== torch: no NVIDIA GPU"; return; }
  for size in 1024 512; do for model in flux1-dev z-image; do
    stage torch timeout "$limit" "$python" "$here/peers/torch_step.py" --model $model --size $size $flags
  done; done
}
load() {
  # The CLI's loader is exercised by the steps; this one reads a real file: page cache to device.
  stage load timed load --gb "$([ -n "$quick" ] && echo 0.1 || echo 4)" --device webgpu --dir "$out/load" --json
}

for s in "${stages[@]}"; do
  $s
  # Without an adapter nothing else can run on it.
  if [ "$s" = check ] && [ $failed -gt 0 ]; then exit 3; fi
done
sleep 1 # the last lines pass through the pipes
[ -n "$quick" ] || [ -f "$here/gpu-check.mjs" ] || script gpu-collect "$out/results.jsonl"
echo "results: $out/results.jsonl ($failed stages failed)"
exit $((failed > 0))
