// Figures as people read them; a dash where there is none.

export const NONE = "–";

export const ms = (value) => (isNumber(value) ? `${value >= 100 ? Math.round(value) : value.toFixed(1)} ms` : NONE);

export const rate = (value) => (isNumber(value) ? value.toFixed(1) : NONE);

export const percent = (value) => (isNumber(value) ? `${Math.round(value)} %` : NONE);

export function bytes(value) {
  if (!isNumber(value) || value <= 0) return NONE;
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log(value) / Math.log(1000)));
  const scaled = value / 1000 ** power;
  return `${scaled >= 100 || power === 0 ? Math.round(scaled) : scaled.toFixed(1)} ${units[power]}`;
}

export function duration(seconds) {
  if (!isNumber(seconds)) return NONE;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

export const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour12: false });

/** {late: 3, crash: 1} as "late 3, crash 1"; only what is not 0. */
export function counts(reasons) {
  const parts = Object.entries(reasons).filter(([, count]) => count);
  return parts.map(([reason, count]) => `${reason} ${count}`).join(", ");
}

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}
