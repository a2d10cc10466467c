// Owns where Infernet's contracts live on a chain: what the user names, or what a deployment left in its folder.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Address, type Hex, toAddress } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import { ESCROW, readView } from "./contracts.ts";
import type { Rpc } from "./rpc.ts";

/** The contracts of one chain. `fromBlock` is a block before which none of them existed. */
export type Deployment = {
  chainId: number;
  registry: Address;
  escrow: Address;
  usdc: Address;
  fromBlock: number;
};

/**
 * `override` wins over the folder, field by field. `ignitionFolder` holds `deployed_addresses.json`, or is the parent
 * of folders named `chain-<id>` that do.
 */
export type DeploymentSources = { override?: Partial<Deployment>; ignitionFolder?: string };

/**
 * The deployment on this chain, checked to be there: both contracts have code and the Escrow holds this USDC.
 * Throws `no-deployment`.
 */
export async function findDeployment(
  chainId: number,
  rpc: Rpc,
  sources: DeploymentSources,
): Promise<Deployment> {
  const { override = {}, ignitionFolder } = sources;
  if (override.chainId !== undefined && override.chainId !== chainId) {
    throw noDeployment(chainId, `the named contracts are on chain ${override.chainId}`);
  }
  const isNamed = override.registry !== undefined && override.escrow !== undefined;
  const folder = isNamed || !ignitionFolder ? {} : await readIgnitionFolder(ignitionFolder, chainId);
  const { registry, escrow, usdc, fromBlock = 0 } = { ...folder, ...override };
  if (!registry || !escrow) throw noDeployment(chainId, "no contracts are known there");
  for (const address of [registry, escrow]) {
    const code = await rpc.call<Hex>("eth_getCode", [address, "latest"]);
    if (code === "0x") throw noDeployment(chainId, `there is no contract at ${address}`);
  }
  const held = await readHeldToken(rpc, escrow).catch((cause) => {
    throw noDeployment(chainId, `the contract at ${escrow} is not an Escrow`, cause);
  });
  if (usdc && usdc !== held) throw noDeployment(chainId, `the Escrow holds ${held}, not ${usdc}`);
  return { chainId, registry, escrow, usdc: held, fromBlock };
}

async function readHeldToken(rpc: Rpc, escrow: Address): Promise<Address> {
  return toAddress(await readView<string>(rpc, { abi: ESCROW, to: escrow, method: "usdc" }));
}

type FolderDeployment = Pick<Partial<Deployment>, "registry" | "escrow" | "fromBlock">;

async function readIgnitionFolder(folder: string, chainId: number): Promise<FolderDeployment> {
  for (const candidate of [join(folder, `chain-${chainId}`), folder]) {
    const text = await readIfThere(join(candidate, "deployed_addresses.json"));
    if (text === undefined) continue;
    const journal = parseJournal((await readIfThere(join(candidate, "journal.jsonl"))) ?? "");
    if (journal.chainId !== undefined && journal.chainId !== chainId) continue;
    return { ...parseAddresses(text, chainId, candidate), fromBlock: journal.fromBlock };
  }
  return {};
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

function parseAddresses(text: string, chainId: number, folder: string): FolderDeployment {
  try {
    const addresses = JSON.parse(text) as Record<string, string>;
    return {
      registry: toAddress(String(addresses["Infernet#Registry"])),
      escrow: toAddress(String(addresses["Infernet#Escrow"])),
    };
  } catch (cause) {
    throw noDeployment(chainId, `${folder} does not name both contracts`, cause);
  }
}

/** Ignition's journal: one JSON object a line, of which we read the chain and the first confirmed block. */
function parseJournal(text: string): { chainId: number | undefined; fromBlock: number } {
  const chainId = /"chainId":(\d+)/.exec(text)?.[1];
  const blocks = [...text.matchAll(/"blockNumber":(\d+)/g)].map((match) => Number(match[1]));
  return {
    chainId: chainId === undefined ? undefined : Number(chainId),
    fromBlock: blocks.length ? Math.min(...blocks) : 0,
  };
}

function noDeployment(chainId: number, reason: string, cause?: unknown): InfernetError {
  return new InfernetError("no-deployment", `Infernet is not deployed on chain ${chainId}: ${reason}`, {
    hint: "Deploy it with `npx hardhat ignition deploy ignition/modules/Infernet.ts --network localhost`, or name the contracts.",
    cause,
  });
}
