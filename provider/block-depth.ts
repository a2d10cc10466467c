// Owns the blocks that a chain calls safe or final: a young chain has none yet.
import { type Block, type BlockTag, type Chain, findBlock } from "../chain/chain.ts";
import { RpcError } from "../chain/rpc.ts";

/** The block of this tag, or undefined when the chain has none yet, which some servers tell as an error. */
export async function findTaggedBlock(chain: Chain, tag: BlockTag): Promise<Block | undefined> {
  try {
    return await findBlock(chain.rpc, tag);
  } catch (error) {
    if (error instanceof RpcError) return undefined;
    throw error;
  }
}
