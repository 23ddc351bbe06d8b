#!/usr/bin/env bash
# A Vulkan driver that executes subgroup matrices on a CPU: Mesa 26's lavapipe (8x8x8, f16 with f32 sums), from Debian sid, beside the
# system's own libraries. Linux x64.
#   tools/matrix-driver.sh prepare [MIRROR]     installs it (as root, needs debootstrap; 0.7 GB, about two minutes)
#   tools/matrix-driver.sh run COMMAND...       runs a command with every Node process in it on that driver, e.g.
#   WICK_TIER=matrix tools/matrix-driver.sh run npx vitest run --project gpu packages/tensor/test/gpu/matmul.test.ts
# The folder is $WICK_MATRIX_DRIVER, or node_modules/.cache/wick/debian-sid.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=${WICK_MATRIX_DRIVER:-$root/node_modules/.cache/wick/debian-sid}
libraries=$folder/usr/lib/x86_64-linux-gnu

prepare() {
  command -v debootstrap >/dev/null || { echo "debootstrap is missing: apt-get install debootstrap" >&2; exit 1; }
  if [ ! -e "$libraries/libvulkan_lvp.so" ]; then
    mkdir -p "$folder"
    debootstrap --variant=minbase sid "$folder" "$@"
    chroot "$folder" apt-get install -y --no-install-recommends mesa-vulkan-drivers libvulkan1
  fi
  mkdir -p "$folder/wick"
  cat >"$folder/wick/lavapipe.json" <<JSON
{ "file_format_version": "1.0.0", "ICD": { "library_path": "$libraries/libvulkan_lvp.so", "api_version": "1.4.0" } }
JSON
  # Its glibc is newer than the system's, so Node itself has to run on its loader and libraries.
  cat >"$folder/wick/node" <<NODE
#!/bin/sh
exec "$folder/lib64/ld-linux-x86-64.so.2" --library-path "$libraries:$folder/lib/x86_64-linux-gnu" "\$WICK_NODE" "\$@"
NODE
  chmod +x "$folder/wick/node"
  # Child processes are started by process.execPath, which would be the loader.
  echo 'process.execPath = process.env.WICK_EXEC_PATH;' >"$folder/wick/exec-path.cjs"
}

run() {
  [ -e "$folder/wick/node" ] || { echo "no driver in $folder: run tools/matrix-driver.sh prepare as root first" >&2; exit 1; }
  export WICK_NODE WICK_EXEC_PATH=$folder/wick/node
  WICK_NODE=$(command -v node)
  export VK_DRIVER_FILES=$folder/wick/lavapipe.json MESA_SHADER_CACHE_DIR=$folder/wick/shaders
  export NODE_OPTIONS="--require $folder/wick/exec-path.cjs ${NODE_OPTIONS:-}"
  export PATH=$folder/wick:$PATH
  exec "$@"
}

case "${1:-}" in
  prepare | run) "$@" ;;
  *) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
