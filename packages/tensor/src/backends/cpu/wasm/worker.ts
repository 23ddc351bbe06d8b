// What worker threads run: they take the queue's jobs in order, and of each job the tasks that no other thread has taken yet.
import { queuedJobs } from "./blocking.ts";

/** Words of a cache line: what different threads write lies on different ones. */
const line = 16;

/** Words of the control block that all threads share. Jobs are numbered; the place of job i in the ring is i modulo `queuedJobs`. */
export const word = {
  /** Number of the job that will be recorded next; negative when the workers should end. */
  tail: 0,
  /** Number of the oldest job that the calling thread has not seen finished. */
  head: line,
  /** Workers that look for work rather than sleep. */
  awake: 2 * line,
  failed: 2 * line + 1,
  modules: 2 * line + 2,
  /** Tasks that each thread has run, for reports. */
  done: 4 * line,
  /** Scratch memory of each thread. */
  scratch: 6 * line,
  /** Per worker, a line each: number of the job it is in, or -1. */
  inside: 8 * line,
  /** The ring, a line for each job. */
  jobs: 64 * line,
  /** Address and length of each module. */
  directory: 128 * line,
} as const;

/** Words of a job in the ring. */
export const jobWord = { number: 0, next: 1, finished: 2, tasks: 3, kernel: 4, args: 5, arena: 6 } as const;

/** Numbers of jobs wrap around here. */
export const numberMask = 2 ** 30 - 1;

/** First word of a job in the ring. */
export const placeOf = (number: number): number => word.jobs + line * (number & (queuedJobs - 1));
/** The word that says which job a worker is in. */
export const insideOf = (thread: number): number => word.inside + line * thread;

/**
 * How often a waiting thread looks before it sleeps, about 0.8 ms: as long as the small kernels between two products take. Waking a
 * worker costs 20 to 100 microseconds, and milliseconds where other processes hold its core.
 */
export const spins = 100_000;

/** The script, as text; see `startThread`. */
export const poolScript = `
const main = ({ control, memories, kernels, thread }) => {
  const c = new Int32Array(control);
  const instances = [];
  const instanceOf = (i) => {
    const found = (instances[i] ??= { exports: {}, table: new WebAssembly.Table({ element: "anyfunc", initial: 1024 }), count: 0 });
    const { table, exports } = found;
    for (const count = Atomics.load(c, ${word.modules}); found.count < count; ) {
      const at = c[${word.directory} + 2 * found.count], length = c[${word.directory} + 1 + 2 * found.count++];
      const module = new WebAssembly.Module(new Uint8Array(control, at, length).slice());
      const own = new WebAssembly.Instance(module, { env: { memory: memories[i], table, ...exports } }).exports;
      if (own.run) table.set(found.count, own.run);
      else Object.assign(exports, own);
    }
    return found;
  };
  const work = (job) => {
    const tasks = c[job + ${jobWord.tasks}], args = c[job + ${jobWord.args}], scratch = c[${word.scratch} + thread];
    const finished = job + ${jobWord.finished};
    let kernel;
    try { kernel = instanceOf(c[job + ${jobWord.arena}]).exports[kernels[c[job + ${jobWord.kernel}]]]; } catch { Atomics.store(c, ${word.failed}, 1); return; }
    for (let t; (t = Atomics.add(c, job + ${jobWord.next}, 1)) < tasks; ) {
      try { kernel(t, args, scratch); } catch { Atomics.store(c, ${word.failed}, 1); }
      c[${word.done} + thread]++;
      if (Atomics.add(c, finished, 1) === tasks - 1) Atomics.notify(c, finished);
    }
    for (let i = 0, n; (n = Atomics.load(c, finished)) < tasks && Atomics.load(c, ${word.tail}) >= 0; i++) if (i > ${spins}) Atomics.wait(c, finished, n, 1);
  };
  const inside = ${word.inside} + ${line} * thread;
  Atomics.add(c, ${word.awake}, 1);
  for (let mine = 0; ; ) {
    let tail = Atomics.load(c, ${word.tail});
    for (let i = 0; i < ${spins} && tail === mine; i++) tail = Atomics.load(c, ${word.tail});
    if (tail < 0) break;
    if (tail === mine) {
      Atomics.sub(c, ${word.awake}, 1);
      Atomics.wait(c, ${word.tail}, tail);
      Atomics.add(c, ${word.awake}, 1);
      continue;
    }
    const job = ${word.jobs} + ${line} * (mine & ${queuedJobs - 1});
    // First say which job, then look whether it is still there: its place is reused only while nobody is inside.
    Atomics.store(c, inside, mine);
    if (Atomics.load(c, job) === mine) {
      work(job);
      mine = (mine + 1) & ${numberMask};
    } else mine = Atomics.load(c, ${word.head});
    Atomics.store(c, inside, -1);
  }
};
`;
