// Owns the systemd unit that runs a worker as a service: with the flags that were given, and as few rights as it needs.
import { basename, isAbsolute, resolve } from "node:path";

export type ServiceCall = {
  /** The Node and the script that run now. */
  program: string;
  script: string;
  /** What stands behind the script's name on the command line. */
  args: readonly string[];
  env: NodeJS.ProcessEnv;
  cwd: string;
  user: string;
  /** The most seconds that an orderly stop takes. */
  stopSeconds: number;
};

const PASSPHRASE_FILE = "/etc/infernet/passphrase";
const SETTINGS_FILE = "/etc/infernet/environment";
/** Flags whose value is a path: a service has another current folder. */
const PATH_FLAGS = ["--home", "--deployment", "--model-file"];
/** Flags of the call that prints the unit, which the service does without. */
const OWN_FLAGS = ["--print-service", "--json", "--quiet"];
/** Time for what a stop does besides waiting: closing the model, the last words of the log. */
const SPARE_SECONDS = 30;
const HOMES = /^\/(home|root)(\/|$)/;

/** The unit's text. A home that was named is used as it is, by its user; else the service has one of its own. */
export function renderServiceUnit(call: ServiceCall): string {
  const { home, words } = readArgs(call);
  const namedHome = home ?? absolute(call.env.INFERNET_HOME, call.cwd);
  const passphraseFile = absolute(call.env.INFERNET_PASSPHRASE_FILE, call.cwd) ?? PASSPHRASE_FILE;
  const isContainer = words.includes("--docker");
  const units = ["network-online.target", ...(isContainer ? ["docker.service"] : ["ollama.service"])];
  const lines = [
    ...adviceOf(call, namedHome, passphraseFile),
    "[Unit]",
    "Description=Infernet node: sells LLM inference for USDC",
    "Wants=network-online.target",
    `After=${units.join(" ")}`,
    "",
    "[Service]",
    `ExecStart=${[call.program, call.script, ...words].map(quoteWord).join(" ")}`,
    ...ownerOf(namedHome, call.user),
    ...(isContainer ? ["SupplementaryGroups=docker"] : []),
    `LoadCredential=passphrase:${passphraseFile.replaceAll("%", "%%")}`,
    "Environment=INFERNET_PASSPHRASE_FILE=%d/passphrase",
    `EnvironmentFile=-${SETTINGS_FILE}`,
    "",
    "# Ctrl-C's signal: running answers may end, what is owed is settled. A wrong command line is not tried again.",
    "KillSignal=SIGINT",
    "KillMode=mixed",
    `TimeoutStopSec=${call.stopSeconds + SPARE_SECONDS}`,
    "Restart=on-failure",
    "RestartSec=10",
    "RestartPreventExitStatus=2",
    "",
    ...hardening(
      words,
      [call.program, call.script, namedHome ?? "", ...words].some((path) => HOMES.test(path)),
    ),
    "",
    "[Install]",
    "WantedBy=multi-user.target",
  ];
  return lines.join("\n");
}

/** The words of the service's command line, paths made absolute, and the home folder that they named. */
function readArgs({ args, cwd }: ServiceCall): { words: string[]; home: string | undefined } {
  const words: string[] = [];
  let home: string | undefined;
  const rest = [...args];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    const [name, joined] = splitFlag(word);
    if (OWN_FLAGS.includes(name)) continue;
    if (PATH_FLAGS.includes(name)) {
      const value = resolve(cwd, joined ?? rest.shift() ?? "");
      if (name === "--home") home = value;
      else words.push(name, value);
    } else words.push(word.replace(/^((?:--upstream=)?embedded=)(?!\/)/, (start) => `${start}${cwd}/`));
  }
  return { words, home };
}

function splitFlag(word: string): [name: string, value: string | undefined] {
  const at = word.startsWith("--") ? word.indexOf("=") : -1;
  return at < 0 ? [word, undefined] : [word.slice(0, at), word.slice(at + 1)];
}

function ownerOf(home: string | undefined, user: string): string[] {
  if (home !== undefined) {
    return [
      `User=${user}`,
      `Environment=${quoteWord(`INFERNET_HOME=${home}`)}`,
      `ReadWritePaths=${quoteWord(home)}`,
    ];
  }
  return [
    "DynamicUser=yes",
    "StateDirectory=infernet",
    "StateDirectoryMode=0700",
    "Environment=INFERNET_HOME=%S/infernet",
  ];
}

/** Everything is forbidden but what a worker does. No MemoryDenyWriteExecute: JavaScript is compiled as it runs. */
function hardening(words: readonly string[], isInHome: boolean): string[] {
  const port = Number(words[words.indexOf("--port") + 1]);
  const isHighPort = words.includes("--port") && port >= 1024;
  const capabilities = isHighPort ? "" : "CAP_NET_BIND_SERVICE";
  return [
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    `ProtectHome=${isInHome ? "read-only" : "yes"}`,
    "PrivateTmp=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "LockPersonality=yes",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_UNIX",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "UMask=0077",
    `CapabilityBoundingSet=${capabilities}`,
    `AmbientCapabilities=${capabilities}`,
  ];
}

/** What is to be done by hand, as comments: nothing of a person's environment is copied into a file that all can read. */
function adviceOf(
  { program, script, env }: ServiceCall,
  home: string | undefined,
  passphraseFile: string,
): string[] {
  const settings = Object.keys(env).filter(
    (name) => /^(INFERNET_|OLLAMA_HOST$)/.test(name) && !/^INFERNET_(HOME|PASSPHRASE)/.test(name),
  );
  const steps = [
    "Put this into /etc/systemd/system/infernet.service, then: systemctl enable --now infernet",
    `The passphrase of the keys stands in ${passphraseFile}, which only root can read.`,
    ...(home === undefined
      ? [
          "Bring your keys: infernet backup FOLDER, then as root: infernet restore FOLDER --home /var/lib/infernet",
        ]
      : []),
    ...(settings.length > 0
      ? [`Set in ${SETTINGS_FILE} what is set now: ${settings.sort().join(", ")}`]
      : []),
    ...([program, script].some((path) => HOMES.test(path))
      ? [
          `${basename(script)} or ${basename(program)} lies in a home folder: install both where every user can read them.`,
        ]
      : []),
  ];
  return steps.map((step) => `# ${step.replaceAll(/[\r\n]/g, " ")}`);
}

function absolute(path: string | undefined, cwd: string): string | undefined {
  if (!path) return undefined;
  return isAbsolute(path) ? path : resolve(cwd, path);
}

/** A word as systemd reads it: in quotes where it must be, with its own meanings of %, $ and \ taken away. */
function quoteWord(word: string): string {
  const escaped = word.replaceAll("\\", "\\\\").replaceAll("%", "%%").replaceAll("$", "$$$$");
  return /^[\w@%+=:,./$-]+$/.test(escaped)
    ? escaped
    : `"${escaped.replaceAll('"', '\\"').replaceAll("\n", "\\n")}"`;
}
