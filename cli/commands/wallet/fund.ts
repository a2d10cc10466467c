// Owns `infernet wallet fund`: where and how to send USDC to the wallet, as text and as a QR code.
import { Option } from "commander";
import { formatUsdc } from "../../../protocol/price.ts";
import type { CommandSpec } from "../../command.ts";
import { type FundingFlags, WAIT_FUNDS_OPTION, waitForUsdc } from "../../funding.ts";
import { walletAddress } from "../../identity.ts";
import { describePayment, type PaymentRequest, renderPayment } from "../../payment-request.ts";
import { parseAmount } from "../../values.ts";

type Options = FundingFlags & { amount?: bigint };

export const fundCommand: CommandSpec<Options, undefined> = {
  name: "fund",
  summary: "Show how to send USDC to the wallet, with a QR code",
  options: [
    new Option("--amount <usdc>", "how much to ask for, and to wait for").argParser(parseAmount),
    WAIT_FUNDS_OPTION,
  ],
  examples: ["wallet fund", "wallet fund --amount 5", "wallet fund --amount 5 --wait-funds 30m --json"],
  async run(context, { amount, waitFunds }) {
    const { output, terminal } = context;
    const owner = await walletAddress(context);
    const chain = await context.chain();
    const { chainId, deployment } = chain;
    const request: PaymentRequest = {
      ...{ address: owner, chainId, asset: "usdc", usdc: deployment.usdc },
      ...(amount ? { amount } : {}),
    };
    const isShown = waitFunds === undefined ? terminal.isRead : terminal.isWatched;
    const text = await renderPayment(request, { qr: isShown && !output.quiet });
    const described = describePayment(request);
    if (waitFunds !== undefined) {
      const wanted = (await chain.getUsdc(owner)) + (amount || 1n);
      output.progress({ event: "fundsAwaited", ...described }, text);
      await waitForUsdc(context, { owner, wanted, waitFunds });
    }
    const walletUsdc = formatUsdc(await chain.getUsdc(owner));
    output.result({ ...described, walletUsdc }, () =>
      waitFunds === undefined ? text : `It is there: the wallet holds ${walletUsdc} USDC.`,
    );
    return undefined;
  },
  render: () => "",
};
