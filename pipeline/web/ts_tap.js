// Reads the times of pictures in an MPEG-TS as it passes by: which picture arrived in this browser when. It changes
// nothing and decodes nothing (ISO 13818-1, 2.4.3.2 packets, 2.4.3.7 PES).

const PACKET_BYTES = 188;
const SYNC = 0x47;
const TICKS_PER_MS = 90;
const WRAP = 2 ** 33;
const KEPT = 900; // Pictures: half a minute at 30 a second.
const SETTLE_MS = 1500; // What was written before the tap was opened comes in a burst.

export class TsTap {
  constructor() {
    this.reset();
  }

  /** Another stream begins. */
  reset() {
    this.rest = new Uint8Array(0);
    this.arrivals = new Map(); // PTS in whole ms -> performance.now()
    this.firstVideo = null; // DTS in whole ms
    this.firstAudio = null;
    this.openedAt = null;
  }

  feed(chunk) {
    const now = performance.now();
    this.openedAt ??= now;
    const data = new Uint8Array(this.rest.length + chunk.length);
    data.set(this.rest);
    data.set(chunk, this.rest.length);
    let at = 0;
    for (; at + PACKET_BYTES <= data.length; at += PACKET_BYTES) {
      if (data[at] === SYNC) this.packet(data.subarray(at, at + PACKET_BYTES), now);
    }
    this.rest = data.slice(at);
  }

  /** When the picture of this time arrived; undefined if it did not, or in the burst at the beginning. */
  arrivalOf(ptsMs) {
    const at = this.arrivals.get(ptsMs);
    return at !== undefined && at - this.openedAt > SETTLE_MS ? at : undefined;
  }

  /** Whether a picture of this time has passed. */
  has(ptsMs) {
    return this.arrivals.has(ptsMs);
  }

  packet(packet, now) {
    const starts = (packet[1] & 0x40) !== 0;
    const adaptation = packet[3] >> 4;
    if (!starts || !(adaptation & 1)) return;
    const at = adaptation & 2 ? 5 + packet[4] : 4;
    if (packet[at] !== 0 || packet[at + 1] !== 0 || packet[at + 2] !== 1 || at + 19 > PACKET_BYTES) return;
    const streamId = packet[at + 3];
    const flags = packet[at + 7] >> 6;
    if (!(flags & 2)) return;
    const pts = timeAt(packet, at + 9);
    const dts = flags === 3 ? timeAt(packet, at + 14) : pts;
    if (streamId >= 0xe0 && streamId <= 0xef) {
      this.firstVideo ??= dts;
      this.arrivals.set(pts, now);
      if (this.arrivals.size > KEPT) this.arrivals.delete(this.arrivals.keys().next().value);
    } else if ((streamId >= 0xc0 && streamId <= 0xdf) || streamId === 0xbd) {
      this.firstAudio ??= dts;
    }
  }
}

/** Whole ms, as the player counts them. */
function timeAt(packet, at) {
  const high = (packet[at] >> 1) & 7;
  const middle = ((packet[at + 1] << 8) | packet[at + 2]) >> 1;
  const low = ((packet[at + 3] << 8) | packet[at + 4]) >> 1;
  return Math.floor(((high * 2 ** 30 + middle * 2 ** 15 + low) % WRAP) / TICKS_PER_MS);
}
