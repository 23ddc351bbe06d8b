#!/usr/bin/env bash
# Drivers of Mesa 26 from Debian sid, beside the system's own libraries, for what no GPU is needed for. Linux x64.
#   tools/matrix-driver.sh prepare [MIRROR]     installs them (as root, needs debootstrap; 0.7 GB, about two minutes)
#   tools/matrix-driver.sh run COMMAND...       runs a command with every Node process in it on lavapipe, which executes subgroup matrices on a
#   CPU (8x8x8, f16 with f32 sums), e.g.
#   WICK_TIER=matrix tools/matrix-driver.sh run npx vitest run --project gpu packages/tensor/test/gpu/matmul.test.ts
#   tools/matrix-driver.sh compile CHIP COMMAND...   the same on a GPU that is not there: the driver's compiler makes its machine code, nothing
#   is executed, and results are whatever lies in memory. CHIP: hopper, ada, ampere, turing (NVK); navi31, gfx1201 (RADV). bench/gpu-code.ts
#   reads what the compilers print.
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
  if [ ! -e "$libraries/libnouveau_noop_drm_shim.so" ]; then
    # A mirror may serve an index that is a few days too old.
    chroot "$folder" apt-get -o Acquire::Check-Valid-Until=false update
    chroot "$folder" apt-get install -y --no-install-recommends mesa-drm-shim
  fi
  mkdir -p "$folder/wick"
  local driver
  for driver in lvp nouveau radeon; do
    cat >"$folder/wick/$driver.json" <<JSON
{ "file_format_version": "1.0.0", "ICD": { "library_path": "$libraries/libvulkan_$driver.so", "api_version": "1.4.0" } }
JSON
  done
  # Its glibc is newer than the system's, so Node itself has to run on its loader and libraries.
  cat >"$folder/wick/node" <<NODE
#!/bin/sh
exec "$folder/lib64/ld-linux-x86-64.so.2" \${WICK_PRELOAD:+--preload "\$WICK_PRELOAD"} --library-path "$libraries:$folder/lib/x86_64-linux-gnu" "\$WICK_NODE" "\$@"
NODE
  chmod +x "$folder/wick/node"
  # Child processes are started by process.execPath, which would be the loader.
  echo 'process.execPath = process.env.WICK_EXEC_PATH;' >"$folder/wick/exec-path.cjs"
}

# Runs a command on a driver of the folder.
on() {
  local driver=$1
  shift
  [ -e "$folder/wick/$driver.json" ] || { echo "no such driver in $folder: run tools/matrix-driver.sh prepare as root first" >&2; exit 1; }
  export WICK_NODE WICK_EXEC_PATH=$folder/wick/node
  WICK_NODE=$(command -v node)
  export VK_DRIVER_FILES=$folder/wick/$driver.json MESA_SHADER_CACHE_DIR=$folder/wick/shaders
  export NODE_OPTIONS="--require $folder/wick/exec-path.cjs ${NODE_OPTIONS:-}"
  export PATH=$folder/wick:$PATH
  exec "$@"
}

run() {
  on lvp "$@"
}

compile() {
  local chip=$1 driver=nouveau
  shift
  case "$chip" in
    hopper) export NOUVEAU_CHIPSET=0x180 ;;
    ada) export NOUVEAU_CHIPSET=0x192 ;;
    ampere) export NOUVEAU_CHIPSET=0x174 ;;
    turing) export NOUVEAU_CHIPSET=0x164 ;;
    navi31 | gfx1201) driver=radeon AMDGPU_GPU_ID=$chip && export AMDGPU_GPU_ID ;;
    *) echo "unknown chip $chip: hopper, ada, ampere, turing, navi31 or gfx1201" >&2; exit 2 ;;
  esac
  local kernel=$driver
  [ "$driver" = radeon ] && kernel=amdgpu
  # NVK does not open chips it has not been tested on unless told so.
  export WICK_PRELOAD=$libraries/lib${kernel}_noop_drm_shim.so NVK_I_WANT_A_BROKEN_VULKAN_DRIVER=1 MESA_SHADER_CACHE_DISABLE=1
  on "$driver" "$@"
}

case "${1:-}" in
  prepare | run | compile) "$@" ;;
  *) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
