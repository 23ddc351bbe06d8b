// Is there a GPU that WebGPU can use, and if not, why? Prints one line of JSON with the adapter, or the remedy and status 3.
import { existsSync } from "node:fs";
import { webgpu } from "@wick/tensor";
import { commandOutput, commit, machine } from "./machine.ts";

const loaderListed = (): boolean =>
  /libvulkan\.so\.1/.test(commandOutput("ldconfig", ["-p"]) ?? commandOutput("/sbin/ldconfig", ["-p"]) ?? "");
const nvidiaListed = (): boolean =>
  /libGLX_nvidia\.so\.0/.test(commandOutput("ldconfig", ["-p"]) ?? commandOutput("/sbin/ldconfig", ["-p"]) ?? "");
const manifests = [
  "/etc/vulkan/icd.d/nvidia_icd.json",
  "/usr/share/vulkan/icd.d/nvidia_icd.json",
  "/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json",
];

/** What is probably missing, most basic first. */
function remedies(): string[] {
  const out: string[] = [];
  if (!loaderListed() && !process.env["LD_LIBRARY_PATH"])
    out.push("no Vulkan loader (libvulkan.so.1): install libvulkan1 (Debian, Ubuntu) or vulkan-loader (Fedora)");
  if (commandOutput("nvidia-smi", ["-L"])) {
    if (!nvidiaListed())
      out.push(
        "the NVIDIA driver's graphics part is not visible: start the container with NVIDIA_DRIVER_CAPABILITIES=all, or install libnvidia-gl",
      );
    else if (!process.env["VK_DRIVER_FILES"] && !manifests.some((m) => existsSync(m)))
      out.push(
        'no NVIDIA driver manifest: write {"file_format_version":"1.0.0","ICD":{"library_path":"libGLX_nvidia.so.0","api_version":"1.3.0"}} to a file and set VK_DRIVER_FILES to it',
      );
  } else out.push("no NVIDIA GPU answers (nvidia-smi); for AMD, Intel or no GPU install mesa-vulkan-drivers");
  return out;
}

try {
  using device = await webgpu();
  const what = { device: device.description, ...device.capabilities };
  process.stdout.write(
    `${JSON.stringify({ benchmark: "check", date: new Date().toISOString(), commit: commit(), machine: machine(), ...what })}\n`,
  );
  process.exitCode = 0;
} catch (error) {
  const reason = error instanceof Error ? error.message : String(error);
  process.stderr.write(
    `no WebGPU device: ${reason}\n${remedies()
      .map((r) => `  ${r}\n`)
      .join("")}`,
  );
  process.exitCode = 3;
}
