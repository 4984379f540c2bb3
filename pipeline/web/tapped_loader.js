// How mpegts.js gets its bytes here: over the service, with its token, and past a tap.

/** A class of loaders for mpegts.js, all of them past `tap`. */
export function tappedLoader(service, tap) {
  const { BaseLoader, LoaderStatus, LoaderErrors } = window.mpegts;

  return class TappedLoader extends BaseLoader {
    constructor() {
      super("tapped-loader");
      this._needStash = false;
      this.abortion = new AbortController();
    }

    destroy() {
      this.abort();
      super.destroy();
    }

    abort() {
      this.abortion.abort();
      this._status = LoaderStatus.kComplete;
    }

    async open(source) {
      this._status = LoaderStatus.kConnecting;
      tap.reset();
      let received = 0;
      try {
        const response = await service.open(source.url, { signal: this.abortion.signal });
        this._status = LoaderStatus.kBuffering;
        const reader = response.body.getReader();
        for (;;) {
          const { value, done } = await reader.read();
          if (this.abortion.signal.aborted) return;
          if (done) break;
          tap.feed(value);
          const begin = received;
          received += value.byteLength;
          this._onDataArrival?.(
            value.buffer.slice(value.byteOffset, value.byteOffset + value.byteLength),
            begin,
            received,
          );
        }
        this._status = LoaderStatus.kComplete;
        this._onComplete?.(0, received - 1);
      } catch (problem) {
        if (this.abortion.signal.aborted) return;
        this._status = LoaderStatus.kError;
        const info = { code: problem.status ?? -1, msg: problem.text ?? problem.message };
        this._onError?.(LoaderErrors.EXCEPTION, info);
      }
    }
  };
}
