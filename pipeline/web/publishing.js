// Sends a camera's recording, or a file, over a WebSocket to the service, which publishes it: pipeline/api/publish.py.

const PROTOCOL = "livepipe.publish";
const TOKEN_PROTOCOL = "bearer.";
const CHUNK_MS = 100;
const PART_BYTES = 256 * 1024;
const MAX_UNSENT_BYTES = 4 * 1024 * 1024;
const LOOK_MS = 50;
const TYPES = ["video/webm;codecs=vp8,opus", "video/webm;codecs=vp8", "video/webm", "video/mp4"];
const BITS_PER_SECOND = 2_500_000;

/** One publication, until `end` or until the service says so. `said(state, text)` hears how it goes: ready, received,
 *  done, error. */
export class Publication {
  constructor(service, channel, said) {
    const url = new URL(`/publish/${encodeURIComponent(channel)}`, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const protocols = service.token ? [PROTOCOL, TOKEN_PROTOCOL + base64url(service.token)] : [PROTOCOL];
    this.said = said;
    this.over = false;
    this.socket = new WebSocket(url, protocols);
    this.socket.addEventListener("message", (event) => this.hear(JSON.parse(event.data)));
    this.socket.addEventListener("close", () => this.finish("error", "the connection to the service is lost"));
    this.ready = null; // called once the service takes the media
  }

  /** What the camera shows, from now on. */
  camera(stream) {
    const mimeType = TYPES.find((type) => MediaRecorder.isTypeSupported(type));
    this.recorder = new MediaRecorder(stream, { mimeType, videoBitsPerSecond: BITS_PER_SECOND });
    this.recorder.addEventListener("dataavailable", ({ data }) => {
      if (this.socket.readyState !== WebSocket.OPEN || !data.size) return;
      if (this.socket.bufferedAmount > MAX_UNSENT_BYTES) this.finish("error", "the network does not carry the camera");
      else this.socket.send(data);
    });
    this.begin({ kind: "camera" }, () => this.recorder.start(CHUNK_MS));
  }

  /** All of a file, which the service then plays. */
  file(file) {
    this.begin({ kind: "file", size: file.size }, async () => {
      for (let at = 0; at < file.size && this.socket.readyState === WebSocket.OPEN; at += PART_BYTES) {
        while (this.socket.bufferedAmount > MAX_UNSENT_BYTES) await new Promise((done) => setTimeout(done, LOOK_MS));
        this.socket.send(await file.slice(at, at + PART_BYTES).arrayBuffer());
        this.said("sending", `${Math.round((100 * Math.min(file.size, at + PART_BYTES)) / file.size)} % sent`);
      }
    });
  }

  begin(first, ready) {
    this.ready = ready;
    this.socket.addEventListener("open", () => this.socket.send(JSON.stringify(first)));
  }

  hear(message) {
    if (message.state === "ready") this.ready();
    if (message.state === "done") this.finish("done", `published, ${message.segments ?? 0} segments`);
    else if (message.state === "error") this.finish("error", message.error);
    else this.said(message.state, "");
  }

  /** The last part goes out, and the channel ends. */
  end() {
    if (this.over) return;
    if (this.recorder?.state === "recording") {
      this.recorder.addEventListener("stop", () => this.sayEnd());
      this.recorder.stop();
    } else this.sayEnd();
  }

  sayEnd() {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send("end");
    else this.finish("error", "stopped");
  }

  finish(state, text) {
    if (this.over) return;
    this.over = true;
    if (this.recorder?.state === "recording") this.recorder.stop();
    this.socket.close();
    this.said(state, text);
  }
}

function base64url(text) {
  const bytes = String.fromCharCode(...new TextEncoder().encode(text));
  return btoa(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
