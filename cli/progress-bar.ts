// Owns how a download is told while it runs: a bar that redraws itself, a line each tenth, or events for programs.
import type { Output } from "./output.ts";
import type { Terminal } from "./terminal.ts";

export type Download = { event: string; receivedBytes: number; totalBytes: number } & Record<string, unknown>;
export type DownloadTeller = { tell(download: Download): void; end(): void };

const WIDTH = 24;
const UNITS = ["kB", "MB", "GB"];

/** Tells of one download, called `what`; `end` leaves the cursor on a line of its own. */
export function tellDownload(output: Output, terminal: Terminal, what: string): DownloadTeller {
  const isBar = terminal.isWatched && !output.json && !output.quiet;
  const step = isBar || output.json ? 1 : 10;
  let shown = -1;
  let isOpen = false;
  return {
    tell(download) {
      const { receivedBytes, totalBytes } = download;
      if (totalBytes === 0) return;
      const percent = Math.floor((100 * receivedBytes) / totalBytes / step) * step;
      // The sum grows with each part that is announced: what was shown once is not taken back.
      if (percent <= shown) return;
      shown = percent;
      const text = `${what}: ${percent}% of ${formatBytes(totalBytes)}`;
      if (!isBar) return output.progress(download, text);
      const filled = Math.round((percent * WIDTH) / 100);
      terminal.stderr.write(`\r\u001b[K[${"#".repeat(filled)}${".".repeat(WIDTH - filled)}] ${text}`);
      isOpen = true;
    },
    end() {
      if (isOpen) terminal.stderr.write("\n");
      isOpen = false;
    },
  };
}

/** A size as people read it: 1.3 GB. */
function formatBytes(bytes: number): string {
  const power = Math.max(1, Math.min(UNITS.length, Math.floor(Math.log10(Math.max(bytes, 1)) / 3)));
  const amount = bytes / 1000 ** power;
  return `${amount.toFixed(amount < 10 ? 1 : 0)} ${UNITS[power - 1]}`;
}
