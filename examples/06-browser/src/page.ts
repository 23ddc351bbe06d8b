// The visible half: the form, the picture, the film of previews and the tables. It computes nothing itself.
import { isTrainedPrompt, nearestNames, tinyZImageNames } from "@wick/tiny-zimage";
import type { Check, DeviceChoice, Order, Picture, Report } from "./messages.ts";

const find = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;
const prompt = find<HTMLInputElement>("prompt");
const device = find<HTMLSelectElement>("device");
const buttons = { draw: find<HTMLButtonElement>("draw"), stop: find<HTMLButtonElement>("stop"), verify: find<HTMLButtonElement>("verify") };
const picture = find<HTMLCanvasElement>("picture");
const progress = find<HTMLProgressElement>("progress");
const statusLine = find("status");

const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
const order = (message: Order): void => worker.postMessage(message);

worker.onmessage = ({ data }: MessageEvent<Report>) => show(data);
worker.onerror = (event) => show({ type: "failed", message: event.message || "the worker did not start" });

function show(report: Report): void {
  if (report.type === "ready") {
    fillFacts("adapter", report.facts);
    setIdle(report.note || "Ready.");
  } else if (report.type === "progress") setProgress(report.text, report.fraction);
  else if (report.type === "step") showStep(report);
  else if (report.type === "done") {
    paint(picture, report.picture);
    fillFacts("facts", report.facts);
    setIdle(`“${prompt.value}”, ${report.facts[0]![1]}`);
  } else if (report.type === "check") find("checks").append(checkRow(report.check));
  else if (report.type === "verified") {
    const seconds = (report.totalMs / 1000).toFixed(1);
    document.body.dataset["verified"] = String(report.isPassed);
    setIdle(report.isPassed ? `All checks passed in ${seconds} s.` : `Some checks failed (${seconds} s).`);
  } else if (report.type === "stopped") setIdle("Stopped.");
  else setIdle(`Failed: ${report.message}`);
}

function showStep({ step, steps, picture: preview, elapsedMs }: Extract<Report, { type: "step" }>): void {
  paint(picture, preview);
  const frame = document.createElement("canvas");
  paint(frame, preview);
  const item = document.createElement("li");
  item.append(frame, `${step}: ${elapsedMs.toFixed(0)} ms`);
  find("film").append(item);
  item.scrollIntoView({ block: "nearest", inline: "end" });
  setProgress(`Step ${step} of ${steps}`, step / steps);
}

function paint(canvas: HTMLCanvasElement, { width, height, rgb }: Picture): void {
  canvas.width = width;
  canvas.height = height;
  const rgba = new Uint8ClampedArray(width * height * 4).fill(255);
  for (let i = 0; i < width * height; i++) rgba.set(rgb.subarray(i * 3, i * 3 + 3), i * 4);
  canvas.getContext("2d")!.putImageData(new ImageData(rgba, width, height), 0, 0);
}

function fillFacts(id: string, facts: readonly (readonly [string, string])[]): void {
  const cells = facts.flatMap(([name, value]) => [element("dt", name), element("dd", value)]);
  find(id).replaceChildren(...cells);
}

function checkRow({ name, measured, allowed, unit, isPassed }: Check): HTMLTableRowElement {
  const format = (value: number) => (unit === "relative L2" ? value.toExponential(1) : String(value));
  const row = document.createElement("tr");
  const verdict = element("td", isPassed ? "✓ passed" : "✗ failed");
  verdict.className = isPassed ? "good" : "bad";
  row.append(element("td", name), element("td", `${format(measured)} ${unit}`), element("td", format(allowed)), verdict);
  return row;
}

function element(tag: string, text: string): HTMLElement {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

function setProgress(text: string, fraction: number): void {
  statusLine.textContent = text;
  progress.value = fraction;
}

function setBusy(text: string): void {
  document.body.dataset["state"] = "busy";
  buttons.draw.disabled = buttons.verify.disabled = device.disabled = true;
  buttons.stop.disabled = false;
  setProgress(text, 0);
}

function setIdle(text: string): void {
  document.body.dataset["state"] = "idle";
  buttons.draw.disabled = buttons.verify.disabled = device.disabled = false;
  buttons.stop.disabled = true;
  setProgress(text, 0);
}

/** Says what the model can draw when the prompt is not one of its names. */
function showHint(): void {
  const near = isTrainedPrompt(prompt.value) ? [] : nearestNames(prompt.value, 4);
  const text = near.length > 0 ? `Not one of its emoji; the nearest are ${near.join(", ")}.` : "Not one of its emoji.";
  find("hint").textContent = isTrainedPrompt(prompt.value) ? "" : text;
}

function fillSuggestions(): void {
  find("name-count").textContent = String(tinyZImageNames.length);
  find("names").append(...tinyZImageNames.map((name) => Object.assign(document.createElement("option"), { value: name })));
  for (const name of ["red apple", "fox", "pizza", "rocket", "octopus", "hot air balloon"].filter(isTrainedPrompt)) {
    const chip = Object.assign(document.createElement("button"), { type: "button", textContent: name });
    chip.onclick = () => {
      prompt.value = name;
      showHint();
    };
    find("chips").append(chip);
  }
}

function openDevice(): void {
  setBusy("Opening the device…");
  order({ type: "open", device: device.value as DeviceChoice });
}

find("request").onsubmit = (event) => {
  event.preventDefault();
  const number = (id: string) => find<HTMLInputElement>(id).valueAsNumber;
  find("film").replaceChildren();
  setBusy("Loading the model…");
  order({ type: "draw", prompt: prompt.value, seed: number("seed"), steps: number("steps"), guidance: number("guidance") });
};
buttons.stop.onclick = () => order({ type: "stop" });
buttons.verify.onclick = () => {
  find("checks").replaceChildren();
  delete document.body.dataset["verified"];
  setBusy("Verifying…");
  order({ type: "verify" });
};
prompt.oninput = showHint;
device.onchange = openDevice;

fillSuggestions();
const asked = new URLSearchParams(location.search).get("device");
if (asked === "cpu" || asked === "webgpu") device.value = asked;
openDevice();
