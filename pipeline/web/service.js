// Asks the REST service, with the token if it wants one. docs/api.md says what there is to ask.

/** What a request got that was not done. `path` names the field that is wrong, `allowed` what may stand there. */
export class Refusal extends Error {
  constructor(status, problem) {
    super(problem.error ?? `the service answered ${status}`);
    this.status = status;
    this.path = problem.path ?? "";
    this.allowed = problem.allowed ?? "";
    this.code = problem.code ?? "";
  }

  /** In one line, for people. */
  get text() {
    return this.allowed ? `${this.message}; allowed: ${this.allowed}` : this.message;
  }
}

export class Service {
  /** `token` is what a person gave before; `askForToken()` gives a promise of another, when the service wants one. */
  constructor(token, askForToken) {
    this.token = token;
    this.askForToken = askForToken;
    this.asking = null;
  }

  get headers() {
    return this.token ? { Authorization: `Bearer ${this.token}` } : {};
  }

  /** The answer as JSON. Throws Refusal, and TypeError while the service cannot be reached. */
  async ask(method, path, body) {
    const headers = body === undefined ? {} : { "Content-Type": "application/json" };
    const response = await this.open(path, { method, headers, body: body && JSON.stringify(body) });
    return response.json();
  }

  get(path) {
    return this.ask("GET", path);
  }

  post(path, body = {}) {
    return this.ask("POST", path, body);
  }

  /** The answer as it comes. Throws as `ask` does. */
  async open(path, options = {}) {
    for (;;) {
      const shown = this.token;
      const response = await fetch(path, { ...options, headers: { ...options.headers, ...this.headers } });
      if (response.ok) return response;
      const problem = await response.json().catch(() => ({}));
      if (response.status !== 401) throw new Refusal(response.status, problem);
      await this.renewToken(shown);
    }
  }

  async renewToken(shown) {
    if (this.token !== shown) return; // Somebody else was given one meanwhile.
    this.asking ??= this.askForToken(shown !== "").finally(() => (this.asking = null));
    this.token = await this.asking;
  }
}
