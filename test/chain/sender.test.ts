import { expect } from "chai";
import { Transaction } from "ethers";
import { type Chain, openChain } from "../../chain/chain.ts";
import { createSender, type SignedTransaction } from "../../chain/sender.ts";
import { type Address, ZERO_WORD } from "../../protocol/bytes.ts";
import { createSigner, generatePrivateKey } from "../../runtime/signers/secp256k1.ts";
import { errorOf } from "../support/errors.ts";
import { type FaultyRpc, startFaultyRpc } from "../support/faulty-rpc.ts";
import { type LocalChain, startLocalChain } from "../support/local-chain.ts";

const MODEL = { name: "tiny", digest: ZERO_WORD, inputPrice: 1n, outputPrice: 1n };
const BLOCK_MS = 50;

describe("the transaction sender", () => {
  let local: LocalChain;
  let faulty: FaultyRpc;
  let chain: Chain;
  let node: Address;

  beforeEach(async () => {
    local = await startLocalChain();
    faulty = await startFaultyRpc(local.rpcUrl);
    chain = await open();
    node = local.accounts[1]!.address;
    await local.sendAs(node, chain.calls.register(node, "https://0", [MODEL]));
  });
  afterEach(async () => {
    await chain.close();
    await faulty.stop();
    await local.stop();
  });

  const open = () => openChain({ rpcUrl: faulty.url, sources: { override: local.deployment } });
  const signerOf = (index: number) => createSigner(local.accounts[index]!.privateKey);
  const moveTo = (endpoint: string) => chain.calls.setEndpoint(endpoint);
  const endpoint = async () => (await chain.getNode(node))?.endpoint;
  const countBroadcasts = () => faulty.calls.filter((method) => method === "eth_sendRawTransaction").length;

  /** From here on transactions wait for the next block. */
  async function mineByInterval(): Promise<void> {
    await local.setAutomine(false);
    await local.setIntervalMining(BLOCK_MS);
  }

  /** A transaction that was signed and kept when its process died, before it was broadcast. */
  async function signOnly(endpoint: string): Promise<SignedTransaction> {
    let kept: SignedTransaction | undefined;
    const crash = new Error("the process died");
    const sending = createSender(chain, signerOf(1)).send(moveTo(endpoint), (transaction) => {
      kept = transaction;
      throw crash;
    });
    expect(await sending.catch((error) => error)).to.equal(crash);
    return kept!;
  }

  it("sends, waits until mined, and tells what it cost", async () => {
    const before = await chain.getNative(node);
    const outcome = await createSender(chain, signerOf(1)).send(moveTo("https://1"));
    expect(outcome.status).to.equal("success");
    expect(await endpoint()).to.equal("https://1");
    expect(before - (await chain.getNative(node))).to.equal(outcome.feeWei);
    expect(outcome.block).to.equal((await chain.getBlock("latest")).number);
  });

  it("lets its user keep the transaction before the RPC sees it", async () => {
    const seen: [SignedTransaction, number][] = [];
    const outcome = await createSender(chain, signerOf(1)).send(moveTo("https://1"), async (transaction) => {
      await chain.getBlock("latest"); // Long enough for a broadcast that did not wait.
      seen.push([transaction, countBroadcasts()]);
    });
    expect(seen).to.have.length(1);
    expect(seen[0]?.[0]).to.deep.include({ hash: outcome.hash, nonce: 1 });
    expect(seen[0]?.[1]).to.equal(0);
  });

  it("sends nothing when the transaction could not be kept", async () => {
    await signOnly("https://1");
    expect(countBroadcasts()).to.equal(0);
    expect(await endpoint()).to.equal("https://0");
    await createSender(chain, signerOf(1)).send(moveTo("https://2"));
    expect(await endpoint()).to.equal("https://2");
  });

  it("after a crash between signing and broadcast, resumes the same transaction", async () => {
    const kept = await signOnly("https://1");
    const outcome = await createSender(chain, signerOf(1)).resume(kept);
    expect(outcome).to.deep.include({ hash: kept.hash, status: "success" });
    expect(await endpoint()).to.equal("https://1");
  });

  it("after a crash between broadcast and mining, waits for the same transaction", async () => {
    await local.setAutomine(false);
    const kept = await signOnly("https://1");
    await chain.rpc.call("eth_sendRawTransaction", [kept.raw]);
    const resumed = createSender(chain, signerOf(1)).resume(kept);
    await local.setIntervalMining(BLOCK_MS);
    expect(await resumed).to.deep.include({ hash: kept.hash, status: "success" });
  });

  it("after a crash, finds a transaction that was mined meanwhile without sending it again", async () => {
    const kept = await signOnly("https://1");
    await chain.rpc.call("eth_sendRawTransaction", [kept.raw]);
    const broadcasts = countBroadcasts();
    expect(await createSender(chain, signerOf(1)).resume(kept)).to.deep.include({ hash: kept.hash });
    expect(countBroadcasts()).to.equal(broadcasts);
  });

  it("tells a resumed transaction whose nonce another one took that it is replaced", async () => {
    const kept = await signOnly("https://1");
    await createSender(chain, signerOf(1)).send(moveTo("https://2"));
    expect(await createSender(chain, signerOf(1)).resume(kept)).to.equal("replaced");
    expect(await endpoint()).to.equal("https://2");
  });

  it("gives sends of the same moment nonces in order", async () => {
    await mineByInterval();
    const sender = createSender(chain, signerOf(1));
    const nonces: number[] = [];
    const calls = [1, 2, 3, 4, 5].map((index) => moveTo(`https://${index}`));
    const sends = calls.map((call) => sender.send(call, ({ nonce }) => void nonces.push(nonce)));
    const outcomes = await Promise.all(sends);
    expect(nonces).to.deep.equal([1, 2, 3, 4, 5]);
    expect(new Set(outcomes.map((outcome) => outcome.hash)).size).to.equal(5);
    expect(await endpoint()).to.equal("https://5");
  });

  it("takes the next nonce when another process with the same key was faster", async () => {
    await mineByInterval();
    const senders = [createSender(chain, signerOf(1)), createSender(chain, signerOf(1))];
    const sends = senders.flatMap((sender, index) => [
      sender.send(moveTo(`https://${index}a`)),
      sender.send(moveTo(`https://${index}b`)),
    ]);
    const outcomes = await Promise.all(sends);
    expect(new Set(outcomes.map((outcome) => outcome.hash)).size).to.equal(4);
    expect(await chain.rpc.call("eth_getTransactionCount", [node, "latest"])).to.equal("0x5");
  });

  it("keeps nonces in order when the RPC's count of pending transactions lags", async () => {
    let pending = "0x1";
    faulty.faultOf = (method, params) =>
      method === "eth_getTransactionCount" && params[1] === "pending" ? { result: pending } : "pass";
    const nonces: number[] = [];
    const keep = ({ nonce }: SignedTransaction) => void nonces.push(nonce);
    const sender = createSender(chain, signerOf(1));
    await sender.send(moveTo("https://1"), keep);
    await sender.send(moveTo("https://2"), keep);
    expect(nonces).to.deep.equal([1, 2]);
    pending = "0x2";
    await createSender(chain, signerOf(1)).send(moveTo("https://3"), keep);
    expect(nonces).to.deep.equal([1, 2, 2, 3]);
    expect(await endpoint()).to.equal("https://3");
  });

  it("counts a broadcast whose answer was lost as made once", async () => {
    await mineByInterval();
    let losses = 2;
    faulty.faultOf = (method) =>
      method === "eth_sendRawTransaction" && losses-- > 0 ? "lose-answer" : "pass";
    await createSender(chain, signerOf(1)).send(moveTo("https://1"));
    expect(countBroadcasts()).to.equal(3);
    expect(await chain.rpc.call("eth_getTransactionCount", [node, "latest"])).to.equal("0x2");
  });

  it("does nothing twice when a lost answer is followed by a server that has no receipt yet", async () => {
    let receiptsLag = 3;
    faulty.faultOf = (method) => {
      if (method === "eth_sendRawTransaction" && countBroadcasts() === 1) return "lose-answer";
      return method === "eth_getTransactionReceipt" && receiptsLag-- > 0 ? { result: null } : "pass";
    };
    const kept: SignedTransaction[] = [];
    const outcome = await createSender(chain, signerOf(1)).send(moveTo("https://1"), (transaction) => {
      kept.push(transaction);
    });
    expect(kept.map((transaction) => transaction.hash)).to.deep.equal([outcome.hash]);
  });

  it("signs anew, at a higher fee and the same nonce, when the fee was too low", async () => {
    let refusals = 2;
    const error = { code: -32000, message: "max fee per gas less than block base fee" };
    faulty.faultOf = (method) => (method === "eth_sendRawTransaction" && refusals-- > 0 ? { error } : "pass");
    const kept: SignedTransaction[] = [];
    const outcome = await createSender(chain, signerOf(1)).send(moveTo("https://1"), (transaction) => {
      kept.push(transaction);
    });
    expect(kept.map((transaction) => transaction.nonce)).to.deep.equal([1, 1, 1]);
    expect(kept.at(-1)?.hash).to.equal(outcome.hash);
    const fees = kept.map((transaction) => Transaction.from(transaction.raw).maxFeePerGas!);
    expect(fees[1]! > fees[0]! && fees[2]! > fees[1]!).to.equal(true);
  });

  it("names the contract's error and its values when a call would revert, and sends nothing", async () => {
    const call = chain.calls.register(node, "https://1", [MODEL]);
    const error = await errorOf(createSender(chain, signerOf(1)).send(call));
    expect(error.code).to.equal("transaction-failed");
    expect(error.message).to.equal(`register would fail: RegistryAlreadyRegistered(node=${node})`);
    expect(error.data).to.deep.equal({ error: "RegistryAlreadyRegistered", node });
    expect(countBroadcasts()).to.equal(0);
  });

  it("gives the token's words when the token refuses", async () => {
    const error = await errorOf(createSender(chain, signerOf(1)).send(chain.calls.deposit(5n)));
    expect(error.message).to.equal("deposit would fail: ERC20: transfer amount exceeds allowance");
  });

  it("asks with the call itself when the estimate does not say why", async () => {
    faulty.faultOf = (method) =>
      method === "eth_estimateGas" ? { error: { code: 3, message: "execution reverted" } } : "pass";
    const call = chain.calls.register(node, "https://1", [MODEL]);
    const error = await errorOf(createSender(chain, signerOf(1)).send(call));
    expect(error.data.error).to.equal("RegistryAlreadyRegistered");
  });

  for (const mining of ["by interval", "at once, with a complaint"]) {
    it(`names the error and the cost of a transaction that reverted when it was mined ${mining}`, async () => {
      // The simulation passes, as it does when the state changes right after it.
      faulty.faultOf = (method) => (method === "eth_estimateGas" ? { result: "0x40000" } : "pass");
      if (mining === "by interval") await mineByInterval();
      const call = chain.calls.register(node, "https://1", [MODEL]);
      const error = await errorOf(createSender(chain, signerOf(1)).send(call));
      expect(error.code).to.equal("transaction-failed");
      expect(error.data.error).to.equal("RegistryAlreadyRegistered");
      expect(BigInt(error.data.feeWei!) > 0n).to.equal(true);
      expect(error.data.tx).to.match(/^0x[0-9a-f]{64}$/);
    });
  }

  it("says which account lacks gas money on which chain", async () => {
    const poor = createSigner(generatePrivateKey());
    const call = chain.calls.register(poor.address, "https://1", [MODEL]);
    const error = await errorOf(createSender(chain, poor).send(call));
    expect(error.code).to.equal("insufficient-funds");
    expect(error.hint).to.contain(poor.address).and.to.contain("31337");
    await local.fundNative(poor.address, BigInt(error.data.neededWei!));
    await createSender(chain, poor).send(call);
  });

  it("goes on with the next call after one that failed", async () => {
    const sender = createSender(chain, signerOf(1));
    const failing = errorOf(sender.send(chain.calls.deposit(5n)));
    await sender.send(moveTo("https://1"));
    expect((await failing).code).to.equal("transaction-failed");
    expect(await endpoint()).to.equal("https://1");
  });

  it("stops waiting when the chain is closed", async () => {
    await local.setAutomine(false);
    const other = await open();
    const sent = Promise.withResolvers<void>();
    const sending = createSender(other, signerOf(1)).send(moveTo("https://1"), () => sent.resolve());
    await sent.promise;
    await other.close();
    expect((await errorOf(sending)).code).to.equal("chain-unreachable");
  });
});
