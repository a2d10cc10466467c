// Proves that TestUSDC behaves like USDC where the project relies on it, also behind a proxy.
import { expect } from "chai";
import { usdcTypes } from "./typed-data.ts";
import { DAY, deployWorld, ethers, loadFixture, random32, time, USDC } from "./world.ts";

const transferTerms = "address,address,uint256,uint256,uint256,bytes32";

/** A world in which the requester signs for the token, whose `domain` is TestUSDC's own. */
async function deployToken() {
  const world = await deployWorld();
  const { usdc, requester, stranger, domains } = world;
  const domain = domains.usdc;
  const authorization = {
    from: requester.address,
    to: stranger.address,
    value: USDC,
    validAfter: 0,
    validBefore: (await time.latest()) + DAY,
    nonce: random32(),
  };
  const { from, to, value, validAfter, validBefore, nonce } = authorization;
  const terms = [from, to, value, validAfter, validBefore, nonce] as const;
  const sign = (type: "TransferWithAuthorization" | "ReceiveWithAuthorization", signer = requester) =>
    signer.signTypedData(domain, usdcTypes[type], authorization);
  const transferByBytes = usdc[`transferWithAuthorization(${transferTerms},bytes)`];
  const receiveByBytes = usdc.connect(stranger)[`receiveWithAuthorization(${transferTerms},bytes)`];
  return { ...world, domain, authorization, terms, sign, transferByBytes, receiveByBytes };
}

/** Splits a signature as the v, r, s overloads take it. */
function split(signature: string) {
  const { v, r, s } = ethers.Signature.from(signature);
  return [v, r, s] as const;
}

describe("TestUSDC", () => {
  it("names itself and its domain as USDC does", async () => {
    const { usdc, domain } = await loadFixture(deployToken);
    expect(await usdc.name()).to.equal("USD Coin");
    expect(await usdc.symbol()).to.equal("USDC");
    expect(await usdc.version()).to.equal("2");
    expect(await usdc.decimals()).to.equal(6);
    expect(await usdc.DOMAIN_SEPARATOR()).to.equal(ethers.TypedDataEncoder.hashDomain(domain));
    const hashes = [
      ["Permit", await usdc.PERMIT_TYPEHASH()],
      ["TransferWithAuthorization", await usdc.TRANSFER_WITH_AUTHORIZATION_TYPEHASH()],
      ["ReceiveWithAuthorization", await usdc.RECEIVE_WITH_AUTHORIZATION_TYPEHASH()],
      ["CancelAuthorization", await usdc.CANCEL_AUTHORIZATION_TYPEHASH()],
    ] as const;
    for (const [type, hash] of hashes) {
      expect(hash).to.equal(ethers.id(ethers.TypedDataEncoder.from(usdcTypes[type]).encodeType(type)));
    }
  });

  it("mints, transfers and keeps the sum", async () => {
    const { usdc, requester, stranger } = await loadFixture(deployToken);
    const supply = await usdc.totalSupply();
    await expect(usdc.connect(requester).transfer(stranger.address, USDC)).to.changeTokenBalances(
      ethers,
      usdc,
      [requester, stranger],
      [-USDC, USDC],
    );
    expect(await usdc.totalSupply()).to.equal(supply);
    await expect(usdc.connect(stranger).transfer(requester.address, 2n * USDC)).to.be.revertedWith(
      "ERC20: transfer amount exceeds balance",
    );
    await expect(usdc.connect(stranger).transfer(ethers.ZeroAddress, 1)).to.be.revertedWith(
      "ERC20: transfer to the zero address",
    );
    await expect(usdc.mint(stranger.address, 2n ** 255n - 1n)).to.be.revertedWith(
      "FiatTokenV2_2: Balance exceeds (2^255 - 1)",
    );
  });

  it("spends allowances", async () => {
    const { usdc, requester, stranger, relayer } = await loadFixture(deployToken);
    await usdc.connect(requester).approve(relayer.address, USDC);
    await usdc.connect(relayer).transferFrom(requester.address, stranger.address, USDC - 1n);
    expect(await usdc.allowance(requester.address, relayer.address)).to.equal(1);
    await expect(
      usdc.connect(relayer).transferFrom(requester.address, stranger.address, 2),
    ).to.be.revertedWith("ERC20: transfer amount exceeds allowance");
    await expect(usdc.connect(requester).approve(ethers.ZeroAddress, 1)).to.be.revertedWith(
      "ERC20: approve from or to the zero address",
    );
  });

  it("moves nothing while paused, and all again afterwards", async () => {
    const { usdc, requester, stranger } = await loadFixture(deployToken);
    await expect(usdc.pause()).to.emit(usdc, "Pause");
    await expect(usdc.connect(requester).transfer(stranger.address, 1)).to.be.revertedWith(
      "Pausable: paused",
    );
    await expect(usdc.unpause()).to.emit(usdc, "Unpause");
    await usdc.connect(requester).transfer(stranger.address, 1);
  });

  it("moves nothing of or to a blacklisted account, whose balance stays", async () => {
    const { usdc, requester, stranger } = await loadFixture(deployToken);
    const balance = await usdc.balanceOf(requester.address);
    await expect(usdc.blacklist(requester.address)).to.emit(usdc, "Blacklisted").withArgs(requester.address);
    expect(await usdc.isBlacklisted(requester.address)).to.equal(true);
    expect(await usdc.balanceOf(requester.address)).to.equal(balance);
    for (const transfer of [
      usdc.connect(requester).transfer(stranger.address, 1),
      usdc.connect(stranger).transfer(requester.address, 0),
      usdc.connect(stranger).transferFrom(requester.address, stranger.address, 0),
    ]) {
      await expect(transfer).to.be.revertedWith("Blacklistable: account is blacklisted");
    }
    await usdc.unBlacklist(requester.address);
    expect(await usdc.isBlacklisted(requester.address)).to.equal(false);
    await usdc.connect(requester).transfer(stranger.address, 1);
  });

  it("permits by both kinds of signature", async () => {
    const { usdc, requester, relayer, domain } = await loadFixture(deployToken);
    const signPermit = async (nonce: number, deadline: number) =>
      requester.signTypedData(domain, usdcTypes.Permit, {
        owner: requester.address,
        spender: relayer.address,
        value: 7n,
        nonce,
        deadline,
      });
    const terms = [requester.address, relayer.address, 7n] as const;
    const deadline = (await time.latest()) + DAY;
    const byBytes = usdc["permit(address,address,uint256,uint256,bytes)"];
    const byParts = usdc["permit(address,address,uint256,uint256,uint8,bytes32,bytes32)"];
    await byBytes(...terms, deadline, await signPermit(0, deadline));
    await expect(byBytes(...terms, deadline, await signPermit(0, deadline))).to.be.revertedWith(
      "EIP2612: invalid signature",
    );
    await byParts(...terms, deadline, ...split(await signPermit(1, deadline)));
    expect(await usdc.nonces(requester.address)).to.equal(2);
    expect(await usdc.allowance(requester.address, relayer.address)).to.equal(7);
    await expect(byBytes(...terms, 1, await signPermit(2, 1))).to.be.revertedWith(
      "FiatTokenV2: permit is expired",
    );
  });

  it("transfers by both kinds of signature, once a nonce", async () => {
    const { usdc, stranger, terms, sign, transferByBytes } = await loadFixture(deployToken);
    const [from, , , , , nonce] = terms;
    const signature = await sign("TransferWithAuthorization");
    const byParts = usdc[`transferWithAuthorization(${transferTerms},uint8,bytes32,bytes32)`];
    await expect(byParts(...terms, ...split(signature)))
      .to.emit(usdc, "AuthorizationUsed")
      .withArgs(from, nonce);
    expect(await usdc.authorizationState(from, nonce)).to.equal(true);
    expect(await usdc.balanceOf(stranger.address)).to.equal(USDC);
    await expect(transferByBytes(...terms, signature)).to.be.revertedWith(
      "FiatTokenV2: authorization is used or canceled",
    );
  });

  it("is received by both kinds of signature, by the receiver only", async () => {
    const { usdc, stranger, relayer, terms, sign, receiveByBytes } = await loadFixture(deployToken);
    const signature = await sign("ReceiveWithAuthorization");
    const byParts = `receiveWithAuthorization(${transferTerms},uint8,bytes32,bytes32)` as const;
    await expect(usdc.connect(relayer)[byParts](...terms, ...split(signature))).to.be.revertedWith(
      "FiatTokenV2: caller must be the payee",
    );
    await expect(receiveByBytes(...terms, await sign("TransferWithAuthorization"))).to.be.revertedWith(
      "FiatTokenV2: invalid signature",
    );
    await usdc.connect(stranger)[byParts](...terms, ...split(signature));
    expect(await usdc.balanceOf(stranger.address)).to.equal(USDC);
  });

  it("cancels an authorisation by both kinds of signature", async () => {
    const { usdc, requester, domain, authorization, terms, sign, transferByBytes } =
      await loadFixture(deployToken);
    const cancel = (nonce: string, signer = requester) =>
      signer.signTypedData(domain, usdcTypes.CancelAuthorization, { authorizer: requester.address, nonce });
    const byBytes = usdc["cancelAuthorization(address,bytes32,bytes)"];
    const byParts = usdc["cancelAuthorization(address,bytes32,uint8,bytes32,bytes32)"];
    const { nonce } = authorization;
    const other = random32();
    await expect(byBytes(requester.address, nonce, await cancel(other))).to.be.revertedWith(
      "FiatTokenV2: invalid signature",
    );
    await expect(byBytes(requester.address, nonce, await cancel(nonce)))
      .to.emit(usdc, "AuthorizationCanceled")
      .withArgs(requester.address, nonce);
    await byParts(requester.address, other, ...split(await cancel(other)));
    await expect(byBytes(requester.address, nonce, await cancel(nonce))).to.be.revertedWith(
      "FiatTokenV2: authorization is used or canceled",
    );
    await expect(transferByBytes(...terms, await sign("TransferWithAuthorization"))).to.be.revertedWith(
      "FiatTokenV2: authorization is used or canceled",
    );
  });

  it("works behind a proxy, in the proxy's domain", async () => {
    const { usdc, requester, deployer, stranger } = await loadFixture(deployToken);
    const proxy = await ethers.deployContract("TestProxy", [await usdc.getAddress(), deployer.address]);
    const proxied = await ethers.getContractAt("TestUSDC", await proxy.getAddress(), requester);
    await proxied.mint(requester.address, USDC);
    await proxied.transfer(stranger.address, 1);
    expect(await proxied.balanceOf(stranger.address)).to.equal(1);
    expect(await proxied.DOMAIN_SEPARATOR()).not.to.equal(await usdc.DOMAIN_SEPARATOR());
    await expect(proxied.transfer(stranger.address, USDC)).to.be.revertedWith(
      "ERC20: transfer amount exceeds balance",
    );
    await expect(proxied.connect(deployer).transfer(stranger.address, 0)).to.be.revertedWithoutReason(ethers);
  });
});
