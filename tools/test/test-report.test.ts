// Counting vitest's JSON report.
import { describe, expect, it } from "vitest";
import { closingLine, countTests, type VitestReport } from "../test-report.ts";

const report = (part: Partial<VitestReport>): VitestReport => ({
  numPassedTests: 0,
  numFailedTests: 0,
  numPendingTests: 0,
  testResults: [],
  ...part,
});

describe("countTests", () => {
  it("counts passed, failed and skipped", () => {
    const counts = countTests(report({ numPassedTests: 5, numPendingTests: 1, numTodoTests: 1 }), 0);
    expect(counts).toEqual({ passed: 5, failed: 0, skipped: 2 });
    expect(closingLine(counts)).toBe("5 passed, 0 failed, 2 skipped");
    expect(closingLine({ ...counts, skipped: 0 })).toBe("5 passed, 0 failed");
  });

  it("counts a file that did not load as one failure, but not a file whose failed tests are counted already", () => {
    const broken = { status: "failed", assertionResults: [] };
    const counted = { status: "failed", assertionResults: [{ status: "failed" }] };
    expect(countTests(report({ numPassedTests: 1, numFailedTests: 1, testResults: [broken, counted] }), 1).failed).toBe(2);
  });

  it("never reports success for a vitest that failed or left no report", () => {
    expect(countTests(report({ numPassedTests: 3 }), 1).failed).toBe(1);
    expect(countTests(null, 0).failed).toBe(1);
  });
});
