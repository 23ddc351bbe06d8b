// Vitest global setup of the gpu project: finds a Vulkan driver before the test processes start and hands it to them
// through the environment. `npm test` has done so already and says it with WICK_TEST_DRIVER.
import { describeDriver, findDriver, noDriverAdvice } from "./vulkan.ts";

/** Sets the driver's variables for the test processes; throws when no driver works. */
export default async function setup(): Promise<void> {
  if (process.env["WICK_TEST_DRIVER"]) return;
  const driver = await findDriver();
  if (!driver) throw new Error(noDriverAdvice);
  Object.assign(process.env, driver.env, { WICK_TEST_DRIVER: describeDriver(driver) });
}
