/**
 * What a transfer may cost without a question of its own: the limits of `chain/fees.py`, the same numbers.
 * @module
 */
import { coins } from "./show.js";

const GWEI = 10n ** 9n;
/** Wei, base fees, wei per gas, gas. Where the base fee is next to nothing, no multiple of it would get a transaction in. */
export const LIMITS = Object.freeze({ maxFee: 2n * 10n ** 16n, tipMultiple: 10n, lowTip: 5n * GWEI, maxGas: 30_000_000n });
export const DEFAULT_TIP = GWEI;

/** @param {bigint} wei */
const inGwei = (wei) => `${wei / GWEI} gwei`;

/**
 * @param {{gas: bigint, fee: bigint, tip: bigint, baseFee: bigint, chainId: bigint}} price all but gas and chain in wei per gas
 * @returns {string[]} what is out of proportion, in words; none: nothing
 */
export function tooDear({ gas, fee, tip, baseFee, chainId }) {
  const found = [];
  const allowed = LIMITS.tipMultiple * baseFee > LIMITS.lowTip ? LIMITS.tipMultiple * baseFee : LIMITS.lowTip;
  if (tip > allowed) found.push(`the tip is ${inGwei(tip)} per gas, usually at most ${inGwei(allowed)}`);
  if (gas > LIMITS.maxGas) found.push(`it may use ${gas} gas, usually at most ${LIMITS.maxGas}`);
  if (gas * fee > LIMITS.maxFee) found.push(`the fee may be ${coins(gas * fee, chainId)}, usually at most ${coins(LIMITS.maxFee, chainId)}`);
  return found;
}
