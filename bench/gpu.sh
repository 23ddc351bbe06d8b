#!/usr/bin/env bash
# Everything that a machine with a GPU can tell: correctness of each kernel tier, kernel rates, operators beside the peers, one step of
# FLUX.1-dev and Z-Image at the real width, at both precisions of products, beside PyTorch's bf16. No network is needed when node_modules is there (or in a folder made by pack.sh).
#
#   bench/gpu.sh [--out FOLDER] [--quick] [--seconds N] [stage ...]
#   stages: check conformance kernels operators steps torch load summary
#
# What has a target comes first. --seconds: ends within N seconds; a step that needs more than what is left waits for the next call. Called again
# with the same FOLDER, it goes on: steps that ended well (FOLDER/done) are not repeated. --quick: the smallest setting of everything, to see on
# any driver that it works. A step may take LIMIT_SECONDS (default 540), and one that fails does not stop the others. WICK_PYTHON names a python
# with torch (and diffusers). Results, as soon as they exist: FOLDER/results.jsonl, one JSON a line, and FOLDER/<stage>.log; at the end
# FOLDER/summary.md, which is also printed last; in a checkout, unless --quick, also bench/results/<date>-gpu-<name>.json.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/.."

out=bench-gpu quick= seconds=
stages=()
while [ $# -gt 0 ]; do
  case $1 in
    --out) out=$2; shift 2 ;;
    --quick) quick=1; shift ;;
    --seconds) seconds=$2; shift 2 ;;
    check | conformance | kernels | operators | steps | torch | load | summary) stages+=("$1"); shift ;;
    *) echo "gpu.sh: unknown argument $1" >&2; sed -n 2,14p "${BASH_SOURCE[0]}" >&2; exit 2 ;;
  esac
done
[ ${#stages[@]} -gt 0 ] || stages=(check conformance kernels operators steps torch load summary)
mkdir -p "$out"
limit=${LIMIT_SECONDS:-540}
touch "$out/done" "$out/results.jsonl"
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

failed=0 waiting=0
left() { # seconds until this call has to end; a few are for the summary
  [ -n "$seconds" ] && echo $((seconds - SECONDS - 5)) || echo 1000000
}
wanted() { [[ " ${stages[*]} " == *" $1 "* ]]; }

stage() { # stage NAME SECONDS COMMAND...: lines of JSON go to the results, everything to the log. It should take
  # no more than so many seconds and is ended after three times as many, so that it does not take the time of the others.
  local name=$1 needs=$2 status=0 most=$limit
  shift 2
  wanted "$name" || return 0
  local key # How much time there was is no part of what was done.
  key=$(sed "s/--seconds [0-9]* //" <<< "$*")
  grep -qxF -- "$key" "$out/done" && return 0
  [ -n "$quick" ] || most=$((3 * needs < most ? 3 * needs : most))
  [ "$most" -le "$(left)" ] || most=$(left)
  if [ "$most" -lt "$needs" ]; then
    echo "== $name: $* waits for the next call"
    waiting=$((waiting + 1))
    return 0
  fi
  echo "== $name: $*"
  timeout "$most" bash -c '"$@"' step "$@" > >(tee -a "$out/$name.log" | tee >(grep --line-buffered '^{' >> "$out/results.jsonl") | grep -v '^{') 2> >(tee -a "$out/$name.log" >&2) || status=$?
  if [ $status -eq 0 ]; then
    [ "$name" = check ] || echo "$key" >> "$out/done" # each call looks at its machine
    return 0
  fi
  failed=$((failed + 1))
  echo "{\"benchmark\":\"$name\",\"command\":\"$*\",\"failed\":$status}" >> "$out/results.jsonl"
  echo "   ended with $status$([ $status = 124 ] && echo " (more than $most s)")"
}
# timeout cannot run a function: another shell does.
export -f script
export here node

conformance() { # conformance SECONDS TIER [--sample]
  local most=$((3 * $1 < $(left) && 3 * $1 < limit ? 3 * $1 : $(left) < limit ? $(left) : limit))
  stage conformance "$1" script gpu-conformance --seconds $((most - 10)) --tier "$2" ${3:+"$3"}
}
step() { # step MODEL SIZE DTYPE PRECISION
  stage steps 100 script gpu-step --model "$1" --size "$2" --dtype "$3" --precision "$4" --profile
}
torch() { # torch MODEL SIZE
  stage torch 60 "$python" "$here/peers/torch_step.py" --model "$1" --size "$2" --device cuda
}

everything() {
  local model dtype tier
  conformance 60 matrix --sample
  stage kernels 60 script webgpu-kernels --tier subgroups --tier matrix --only '^(matmul 4608x3072x12288 f16|attention 24x4608x128 f16)'
  for model in flux1-dev z-image; do
    step $model 1024 bf16 high
    torch $model 1024
  done
  stage load 60 script load --gb 4 --device webgpu --dir "$out/load" --json
  for model in flux1-dev z-image; do step $model 1024 q8_0 high; done
  for model in flux1-dev z-image; do step $model 1024 bf16 highest; done
  for tier in subgroups plain; do conformance 60 $tier --sample; done
  stage kernels 240 script webgpu-kernels
  for model in flux1-dev z-image; do
    step $model 512 bf16 high
    torch $model 512
    step $model 512 q8_0 high
  done
  stage operators 120 script run --device webgpu --into "$out/operators.json" --full --only "$which"
  for tier in matrix subgroups plain; do conformance 200 $tier; done
  for model in flux1-dev z-image; do
    step $model 1024 q8_0 highest
    step $model 512 bf16 highest
    step $model 512 q8_0 highest
  done
}
smallest() {
  local model precision tier flags="--size 64 --text 32 --blocks 1 --steps 1" device=cpu
  for tier in matrix subgroups plain; do conformance 60 $tier --sample; done
  stage kernels 15 script webgpu-kernels --quick
  nvidia-smi -L > /dev/null 2>&1 && device=cuda
  for model in flux1-dev z-image; do
    for precision in highest high; do stage steps 15 script gpu-step --model $model $flags --dtype q8_0 --precision $precision; done
    stage torch 15 "$python" "$here/peers/torch_step.py" --model $model $flags --device $device
  done
  stage operators 15 script run --device webgpu --into "$out/operators.json" --rounds 1 --only '^matmul 512'
  stage load 15 script load --gb 0.1 --device webgpu --dir "$out/load" --json
}

which='^(?!included)' # a packed folder has no model in it
[ -f "$here/gpu-check.mjs" ] || which=
stage check 15 script gpu-check
# Without an adapter nothing else can run on it.
[ $failed -eq 0 ] || exit 3
if [ -n "$quick" ]; then smallest; else everything; fi

sleep 1 # the last lines pass through the pipes
[ -n "$quick" ] || [ -f "$here/gpu-check.mjs" ] || ! wanted summary || script gpu-collect "$out/results.jsonl"
echo "results: $out/results.jsonl ($failed steps failed, $waiting wait for the next call)"
if wanted summary; then script gpu-summary "$out/results.jsonl" | tee "$out/summary.md"; fi
exit $((failed > 0))
