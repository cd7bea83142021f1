/**
 * Waiting until the nodes have seen a block: what takes something away is done when no t of them can still miss it.
 *
 * The page cannot ask nodes itself, so the gateway tells how far each is. A lie makes the page say "done" a moment too
 * early or too late, and nothing else: what was taken away stands on the chain by then.
 * @module
 */
import { told } from "./gateway.js";

const SECONDS = 10;
const PAUSE = 400;

/**
 * @param {import("./chain.js").Network} network
 * @param {number} block
 * @param {number} [seconds]
 * @returns {Promise<boolean>} whether fewer than t nodes may still not know it
 */
export async function untilSeen({ nodes, threshold }, block, seconds = SECONDS) {
  for (let left = 1000 * seconds; ; left -= PAUSE) {
    const found = await told();
    const seen = nodes.filter(({ party }) => (found.get(party)?.block ?? -1) >= block);
    if (nodes.length - seen.length < threshold) return true;
    if (left < PAUSE) return false;
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
}

/** @param {boolean} settled @param {string} done */
export const afterwards = (settled, done) =>
  settled ? done : `${done} It stands on the chain; some nodes have not seen it yet, so it may take a moment until it counts everywhere.`;
