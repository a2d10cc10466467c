// Owns what is written to the log: JSON lines on stderr, with everything secret or private taken out before.
import type { Writable } from "node:stream";
import { destination, type Logger, pino } from "pino";
import { redact } from "./redaction.ts";

export type LogLevel = "debug" | "info" | "warn" | "error" | "silent";

/** `fields` may name `job`, `node` and `tx`; `message` is a fixed sentence without values. */
export type Log = {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  child(fields: object): Log;
};

/** A logger to stderr, or to `destination`. Fields that could hold secrets or texts of users are redacted. */
export function createLogger(options: { level: LogLevel; destination?: Writable }): Log {
  const settings = {
    level: options.level,
    base: null,
    messageKey: "message",
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: {
      level: (label: string) => ({ level: label }),
      log: redact,
    },
  };
  // Written at once, so that the last words before a crash are not lost.
  return wrap(pino(settings, options.destination ?? destination({ dest: 2, sync: true })));
}

function wrap(logger: Logger): Log {
  return {
    debug: (fields, message) => logger.debug(fields, message),
    info: (fields, message) => logger.info(fields, message),
    warn: (fields, message) => logger.warn(fields, message),
    error: (fields, message) => logger.error(fields, message),
    child: (fields) => wrap(logger.child(redact(fields))),
  };
}
