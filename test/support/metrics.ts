// Owns reading Prometheus' text as a test does: the value of one series, and the names and labels that there are.

export type Scrape = {
  /** The value of a series, by its name and labels as they stand in the text; undefined when there is none. */
  value(series: string): number | undefined;
  /** Names of metrics, those of a histogram's parts too. */
  names: Set<string>;
  /** Every label's value, by the label's name. */
  labels: Map<string, Set<string>>;
};

/** Reads a text of metrics. Throws on a line that is no metric and no comment. */
export function readMetrics(text: string): Scrape {
  const values = new Map<string, number>();
  const names = new Set<string>();
  const labels = new Map<string, Set<string>>();
  for (const line of text.split("\n")) {
    // What has not happened yet has a type, and no value.
    const typed = /^# TYPE (\S+) (\w+)$/.exec(line);
    if (typed?.[2] === "histogram")
      for (const part of ["bucket", "sum", "count"]) names.add(`${typed[1]}_${part}`);
    else if (typed) names.add(typed[1]!);
    if (line === "" || line.startsWith("#")) continue;
    const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!match) throw new Error(`not a metric: ${line}`);
    const [, name, inside = "", value] = match;
    values.set(line.slice(0, line.lastIndexOf(" ")), Number(value));
    names.add(name!);
    for (const [, label, text] of inside.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g))
      labels.set(label!, (labels.get(label!) ?? new Set()).add(text!));
  }
  return { value: (series) => values.get(series), names, labels };
}
