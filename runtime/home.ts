// Owns where this user's Infernet lives on disk, and what each file there is called.
import { join } from "node:path";
import envPaths from "env-paths";

export type Environment = Record<string, string | undefined>;

/** INFERNET_HOME, else the system's folder for data of programs. */
export function homeFolder(env: Environment): string {
  return env.INFERNET_HOME || envPaths("infernet", { suffix: "" }).data;
}

export type HomePaths = {
  config: string;
  walletKey: string;
  nodeKey: string;
  requesterStore: string;
  providerStore: string;
  tlsFolder: string;
  /** Which process the worker is, while it runs. */
  workerProcess: string;
};

/** The files of a home folder. None need exist. */
export function homePaths(home: string): HomePaths {
  return {
    config: join(home, "config.json"),
    walletKey: join(home, "wallet.json"),
    nodeKey: join(home, "node.json"),
    requesterStore: join(home, "requester.db"),
    providerStore: join(home, "provider.db"),
    tlsFolder: join(home, "tls"),
    workerProcess: join(home, "worker.json"),
  };
}
