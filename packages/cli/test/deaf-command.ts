// A command that does not heed the signal it is given, to see what the second Ctrl-C does.
import { InterruptSignal } from "../src/interrupt.ts";

const interrupt = new InterruptSignal();
interrupt.signal.addEventListener("abort", () => process.stderr.write("asked to stop\n"));
setInterval(() => {}, 1000);
process.stderr.write("running\n");
