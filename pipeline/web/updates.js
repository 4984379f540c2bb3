// Follows the service's stream of updates (server-sent events), read with fetch: an EventSource cannot show a token.

const FIRST_RETRY_MS = 500;
const MAX_RETRY_MS = 5000;

/** Call `told(kind, content)` for every message, and `lost(problem)` when the stream breaks; it is opened again. */
export async function follow(service, told, lost) {
  let wait = FIRST_RETRY_MS;
  for (;;) {
    try {
      const response = await service.open("/updates");
      told("connected", null);
      for await (const [kind, content] of messages(response.body)) {
        wait = FIRST_RETRY_MS;
        told(kind, content);
      }
      lost("the stream of updates ended");
    } catch (problem) {
      lost(problem.message);
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(MAX_RETRY_MS, wait * 2);
  }
}

async function* messages(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const lines = block.split("\n");
      const field = (name) => lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
      if (field("event")) yield [field("event"), JSON.parse(field("data"))];
    }
  }
}
