// Several callers of one running job: it runs once, a caller that aborts leaves, and the job stops when nobody waits any more.

/** Jobs that are running now, by key. */
export type RunningJobs = Map<string, Job>;

interface Job {
  readonly promise: Promise<unknown>;
  readonly stop: AbortController;
  waiting: number;
}

/**
 * Joins the job `key` of `running`, or starts it with a signal that fires once every caller has aborted. The last caller to
 * abort is answered when the job has wound down, so that no file or lock stays open behind it.
 */
export async function shared<T>(
  running: RunningJobs,
  key: string,
  signal: AbortSignal | undefined,
  start: (stop: AbortSignal) => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  const current = running.get(key);
  const job = current && !current.stop.signal.aborted ? current : startJob(running, key, start);
  job.waiting++;
  try {
    return (await untilAbort(job.promise, signal)) as T;
  } finally {
    job.waiting--;
    if (job.waiting === 0 && signal?.aborted) {
      job.stop.abort(signal.reason);
      await job.promise.catch(() => undefined);
    }
  }
}

function startJob<T>(running: RunningJobs, key: string, start: (stop: AbortSignal) => Promise<T>): Job {
  const stop = new AbortController();
  const job: Job = { promise: start(stop.signal), stop, waiting: 0 };
  running.set(key, job);
  const forget = () => {
    if (running.get(key) === job) running.delete(key);
  };
  job.promise.then(forget, forget);
  return job;
}

function untilAbort<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason as Error);
    signal.addEventListener("abort", stop, { once: true });
    const leave = () => signal.removeEventListener("abort", stop);
    promise.then(resolve, reject).then(leave, leave);
  });
}
