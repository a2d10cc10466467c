// Owns `infernet wallet balance`: everything that is the wallet's, in its hands and in the Escrow.
import { Option } from "commander";
import type { Address } from "../../../protocol/bytes.ts";
import { formatUsdc } from "../../../protocol/price.ts";
import type { CommandSpec } from "../../command.ts";
import { walletAddress } from "../../identity.ts";
import { formatTable } from "../../output.ts";
import { parseAddress } from "../../values.ts";

type Options = { address?: Address };
/** `nativeWei` is the chain's own coin, which pays for gas. */
type Result = {
  address: Address;
  chainId: number;
  nativeWei: bigint;
  walletUsdc: string;
  creditUsdc: string;
  earnedUsdc: string;
};

export const balanceCommand: CommandSpec<Options, Result> = {
  name: "balance",
  summary: "Show what the wallet owns, in hand and in the Escrow",
  options: [new Option("--address <address>", "another account than the wallet").argParser(parseAddress)],
  examples: ["wallet balance", "wallet balance --json"],
  async run(context, options) {
    const address = options.address ?? (await walletAddress(context));
    const chain = await context.chain();
    const [nativeWei, usdc, credit, earned] = await Promise.all([
      chain.getNative(address),
      chain.getUsdc(address),
      chain.getCredit(address),
      chain.getEarned(address),
    ]);
    return {
      address,
      chainId: chain.chainId,
      nativeWei,
      walletUsdc: formatUsdc(usdc),
      creditUsdc: formatUsdc(credit),
      earnedUsdc: formatUsdc(earned),
    };
  },
  render: (balance, style) =>
    formatTable([
      [style.dim("address"), balance.address, `chain ${balance.chainId}`],
      [style.dim("in the wallet"), `${balance.walletUsdc} USDC`, "deposit it to open jobs"],
      [style.dim("credit"), `${balance.creditUsdc} USDC`, "in the Escrow, ready for jobs or to be withdrawn"],
      [style.dim("earned"), `${balance.earnedUsdc} USDC`, "in the Escrow, ready to be paid out"],
      [style.dim("for gas"), `${balance.nativeWei} wei`, ""],
    ]),
};
