// Plays one end of the pipeline at its live edge, and begins again by itself when the stream breaks, ends or stalls.

import { tappedLoader } from "./tapped_loader.js";
import { TsTap } from "./ts_tap.js";

const RETRY_MS = 1000;
const MAX_RETRY_MS = 10000;
const WATCH_MS = 500;
const STALLED_MS = 3000; // Without a new picture, though bytes come: begin again.
const TARGET_S = 0.25; // Behind the newest picture, when it is played faster to catch up.
const BEHIND_S = 0.5;
const LOST_S = 1.2; // So far behind, or in a gap, that only a jump helps.
const FASTER = 1.15;

export class Player {
  /** `end` is "input" or "output"; `said(text)` hears how it is. */
  constructor(service, end, video, said) {
    this.service = service;
    this.end = end;
    this.video = video;
    this.said = said;
    this.tap = new TsTap();
    this.engine = null;
    this.stream = "";
    this.wanted = false;
    this.wait = RETRY_MS; // before the next try; twice as long after each that shows no picture
    this.seen = { time: -1, at: 0 };
    setInterval(() => this.watch(), WATCH_MS);
    // A page that is not looked at decodes nothing; it comes back at the live edge.
    document.addEventListener("visibilitychange", () => this.keepUp());
  }

  /** The stream of this name; empty: the only one. */
  play(stream) {
    this.stream = stream;
    this.wanted = true;
    this.keepUp();
  }

  stop() {
    this.wanted = false;
    this.keepUp();
    this.said("stopped");
  }

  keepUp() {
    const should = this.wanted && !document.hidden;
    if (should && !this.engine) this.open();
    if (!should && this.engine) this.close();
  }

  open() {
    const { mpegts } = window;
    if (!mpegts?.isSupported()) {
      this.said("this browser cannot play MPEG-TS: it has no Media Source Extensions with H.264");
      return;
    }
    mpegts.LoggingControl.enableAll = false;
    this.said("waiting for the stream");
    const source = {
      type: "mpegts",
      isLive: true,
      url: `/watch/${this.end}.ts?${new URLSearchParams({ stream: this.stream })}`,
    };
    const config = {
      customLoader: tappedLoader(this.service, this.tap),
      enableStashBuffer: false,
      lazyLoad: false,
      autoCleanupSourceBuffer: true,
      autoCleanupMaxBackwardDuration: 20,
      autoCleanupMinBackwardDuration: 10,
      liveSync: true,
      liveSyncMaxLatency: BEHIND_S,
      liveSyncTargetLatency: TARGET_S,
      liveSyncPlaybackRate: FASTER,
    };
    const engine = mpegts.createPlayer(source, config);
    this.engine = engine;
    this.begun = false;
    this.seen = { time: -1, at: performance.now() };
    // Not at once: the engine is still at work with what it tells of, and may not be taken away under it.
    const again = (why) => setTimeout(() => this.engine === engine && this.retry(why));
    engine.on(mpegts.Events.ERROR, (_type, _detail, info) => again(info?.msg ?? "the stream broke"));
    engine.on(mpegts.Events.LOADING_COMPLETE, () => again("the stream has ended"));
    engine.attachMediaElement(this.video);
    engine.load();
    Promise.resolve(engine.play()).catch(() => {}); // Told by what the video element does, or does not, show.
  }

  close() {
    const { engine } = this;
    this.engine = null;
    engine?.destroy();
  }

  retry(why) {
    this.close();
    this.said(why);
    setTimeout(() => this.keepUp(), this.wait);
    this.wait = Math.min(MAX_RETRY_MS, this.wait * 2);
  }

  /** Where the picture stands still although there are newer ones. */
  watch() {
    if (!this.engine || this.video.paused) {
      this.seen.at = performance.now();
      return;
    }
    const { buffered, currentTime } = this.video;
    const now = performance.now();
    if (currentTime !== this.seen.time) {
      this.seen = { time: currentTime, at: now };
      if (currentTime > 0) this.wait = RETRY_MS;
    }
    if (!buffered.length) return;
    const edge = buffered.end(buffered.length - 1);
    const late = edge - currentTime;
    const lost = late > (this.begun ? LOST_S : BEHIND_S); // It begins with a segment that is as old as its key picture.
    this.begun ||= currentTime > 0;
    if (lost) this.video.currentTime = edge - TARGET_S;
    else if (now - this.seen.at > STALLED_MS && late > BEHIND_S) this.retry("the picture stood still");
    else this.said(now - this.seen.at > STALLED_MS ? "no new picture comes" : "");
  }
}
