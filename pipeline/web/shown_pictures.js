// Which picture of the stream is on the screen: from a player's own clock back to the stream's timestamps.

const KEPT = 90;
const WINDOW = 30; // Pictures by which the player's zero is judged.

export class ShownPictures {
  /** Follows `video`, which plays what passes `tap`. */
  constructor(video, tap) {
    this.video = video;
    this.tap = tap;
    this.shown = []; // {media: ms on the player's clock, at: performance.now() of its display}
    const note = (_now, frame) => {
      this.shown.push({ media: Math.round(frame.mediaTime * 1000), at: frame.expectedDisplayTime });
      if (this.shown.length > KEPT) this.shown.shift();
      video.requestVideoFrameCallback(note);
    };
    if ("requestVideoFrameCallback" in video) video.requestVideoFrameCallback(note);
    for (const event of ["emptied", "loadstart"]) video.addEventListener(event, () => (this.shown = []));
  }

  /** Pictures shown of late, newest last: {pts: ms, at}. Empty while it cannot be told which they are. */
  recent() {
    const zero = this.zero();
    if (zero === null) return [];
    return this.shown
      .map(({ media, at }) => ({ pts: this.nearest(zero + media), at }))
      .filter(({ pts }) => pts !== null);
  }

  /** The stream's time at the player's 0. The player takes the first sound's or the first picture's, whichever is
   *  earlier in what it gets first; the right one of the two is that at which pictures lie on pictures. */
  zero() {
    const { firstVideo, firstAudio } = this.tap;
    const latest = this.shown.slice(-WINDOW);
    let best = null;
    let most = latest.length / 2;
    for (const zero of [firstVideo, firstAudio]) {
      if (zero === null) continue;
      const hits = latest.filter(({ media }) => this.nearest(zero + media) !== null).length;
      if (hits > most) [best, most] = [zero, hits];
    }
    return best;
  }

  /** The time of a picture that has passed the tap, a rounding away at most. */
  nearest(ptsMs) {
    return [0, -1, 1].map((off) => ptsMs + off).find((pts) => this.tap.has(pts)) ?? null;
  }
}
