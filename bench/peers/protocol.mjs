// How run.ts talks to a contestant: one JSON object a line on stdin, answers on stdout after an "@" (libraries print there too).
//   {"prepare": case}            -> {"coldMs", "note", "sample"} or {"unsupported": reason}
//   {"run": {minMs, maxRuns, warmUp}} -> {"times": [ms, ...], "processorMs"}
//   {"end": true}                -> the process ends
import { createInterface } from "node:readline";
import { inputsOf } from "./data.mjs";

/** Thrown by a peer's `prepare` for a case it has no operator or type for; the table then says so. */
export class Unsupported extends Error {}

const answer = (message) => process.stdout.write(`@${JSON.stringify(message)}\n`);

const processorMs = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

/** 16 values spread over the output: enough to see that every contestant computed the same thing. */
export function sampleOf(values) {
  return Array.from({ length: 16 }, (_, i) => Number(values[Math.floor((i * (values.length - 1)) / 15)]));
}

async function prepared(peer, spec) {
  const job = await peer.prepare(spec, inputsOf(spec));
  const start = performance.now();
  await job.run();
  const coldMs = (job.setupMs ?? 0) + performance.now() - start;
  const output = job.output ? await job.output() : undefined;
  return { job, message: { coldMs, note: job.note, sample: output && sampleOf(output) } };
}

async function timed(job, { minMs, maxRuns, warmUp }) {
  for (let i = 0; i < warmUp; i++) await job.run();
  const times = [];
  const startProcessor = processorMs();
  for (let total = 0; times.length === 0 || (total < minMs && times.length < maxRuns); ) {
    const start = performance.now();
    await job.run();
    times.push(performance.now() - start);
    total += times.at(-1);
  }
  return { times, processorMs: processorMs() - startProcessor, deviceBytes: job.deviceBytes?.() };
}

/** Serves one contestant. `open()` resolves with { version, detail, prepare(case, inputs) -> { run, output?, note? } }. */
export async function serve(open) {
  let peer;
  try {
    peer = await open();
  } catch (error) {
    answer({ missing: error instanceof Error ? error.message.split("\n")[0] : String(error) });
    process.exit(0);
  }
  answer({ ready: { version: peer.version, detail: peer.detail, node: process.version } });
  let job;
  for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line);
    if (request.end) break;
    try {
      if (request.reference) answer(await peer.reference());
      else if (request.run) answer(await timed(job, request.run));
      else {
        const { job: made, message } = await prepared(peer, request.prepare);
        job = made;
        answer(message);
      }
    } catch (error) {
      const reason = error instanceof Error ? error.message.split("\n")[0] : String(error);
      answer(error instanceof Unsupported ? { unsupported: reason } : { failed: reason });
    }
  }
  process.exit(0);
}
