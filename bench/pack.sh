#!/usr/bin/env bash
# Packs what gpu.sh needs into one archive for a Linux x64 machine without a network and without Node: Node itself, the benchmarks as single
# files, Dawn, the Vulkan loader and the goldens. Usage: bench/pack.sh [ARCHIVE], default bench-gpu.tar.gz (about 40 MB).
# There: tar xf bench-gpu.tar.gz && wick-gpu/bench/gpu.sh --out results
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
archive=$(realpath "${1:-bench-gpu.tar.gz}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
to=$work/wick-gpu
mkdir -p "$to/bench/peers" "$to/bench/vulkan" "$to/node_modules/webgpu/dist"

scripts=()
for name in gpu-check gpu-summary gpu-conformance gpu-step webgpu-kernels load run wick-peer; do
  [ -f "bench/$name.ts" ] && scripts+=("bench/$name.ts")
done
npx --no-install esbuild "${scripts[@]}" --bundle --platform=node --format=esm --target=node20 --conditions=@wick/source \
  --external:webgpu --external:onnxruntime-* --out-extension:.js=.mjs --outdir="$to/bench" --log-level=warning
cp bench/gpu.sh "$to/bench/"
cp bench/peers/*.py "$to/bench/peers/"
cp -r packages/tensor/test/goldens "$to/goldens"
mkdir -p "$to/packages/tensor" && cp packages/tensor/package.json "$to/packages/tensor/"
cp node_modules/webgpu/package.json node_modules/webgpu/index.js "$to/node_modules/webgpu/"
cp -r node_modules/webgpu/dist/linux-x64 "$to/node_modules/webgpu/dist/"
cp "$(node -p process.execPath)" "$to/bench/node"
loader=$(npx --no-install tsx -e 'import { unpackSwiftShader } from "./tools/vulkan.ts"; console.log(unpackSwiftShader() ?? "")')
[ -z "$loader" ] || cp "$loader/libvulkan.so.1" "$to/bench/vulkan/"
git rev-parse --short HEAD > "$to/commit"
strip "$to/bench/node" 2> /dev/null || true
tar -C "$work" -czf "$archive" wick-gpu
ls -lh "$archive" | awk '{ print $9 ": " $5 }'
