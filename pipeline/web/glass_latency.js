// Latency as this browser sees it: from when a picture of the source arrived here until what the pipeline made of it
// was on the screen. The two are known to be the same picture by their timestamp, which the pipeline keeps.

const FRESH_MS = 3000;

/** {total, pipeline, player}, each {p50, p95} in ms; null while there is nothing to compare. `pipeline` ends when the
 *  processed picture arrives here, `player` is from there to the screen. */
export function glassLatency(inputTap, outputTap, shownPictures) {
  const since = performance.now() - FRESH_MS;
  const total = [];
  const pipeline = [];
  const player = [];
  for (const { pts, at } of shownPictures.recent()) {
    const [came, processed] = [inputTap.arrivalOf(pts), outputTap.arrivalOf(pts)];
    if (at < since || came === undefined || processed === undefined) continue;
    total.push(at - came);
    pipeline.push(processed - came);
    player.push(at - processed);
  }
  if (!total.length) return null;
  return { total: quantiles(total), pipeline: quantiles(pipeline), player: quantiles(player) };
}

function quantiles(values) {
  values.sort((a, b) => a - b);
  const at = (part) => values[Math.min(values.length - 1, Math.floor(part * values.length))];
  return { p50: at(0.5), p95: at(0.95) };
}
