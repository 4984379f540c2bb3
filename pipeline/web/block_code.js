// Reads the frame number that the project's test pattern burns into its pictures: pipeline/media/blockcode.py, which
// says how it is laid out, in the browser.

const COLUMNS = 9;
const ROWS = 4;
const CELLS_PER_HEIGHT = 18;
const INDEX_BITS = 24;
const MIN_CONTRAST = 20;

/** The number in the picture that `video` shows now; null if there is none that can be trusted. */
export function readIndex(video, canvas = document.createElement("canvas")) {
  const { videoWidth: width, videoHeight: height } = video;
  if (!width || !height) return null;
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(video, 0, 0);
  const cell = height / CELLS_PER_HEIGHT;
  const left = width / 2 - (COLUMNS * cell) / 2;
  const top = (height * 15) / 16 - ROWS * cell;
  const at = (start, number) => Math.max(0, Math.round(start + number * cell));
  const levels = [];
  for (let row = 0; row < ROWS; row++) {
    for (let column = 0; column < COLUMNS; column++) {
      const [x, right] = [at(left, column), at(left, column + 1)];
      const [y, bottom] = [at(top, row), at(top, row + 1)];
      levels.push(innerMean(context, x, right, y, bottom));
    }
  }
  return decode(levels);
}

function decode(levels) {
  const high = (levels[0] + levels.at(-1)) / 2;
  const low = (levels[1] + levels.at(-2)) / 2;
  if (Math.abs(high - low) < MIN_CONTRAST) return null;
  const inverted = high < low;
  const bits = levels.map((level) => level > (high + low) / 2 !== inverted);
  if (!bits[0] || bits[1] || bits.at(-2) || !bits.at(-1)) return null;
  const index = number(bits.slice(2, 2 + INDEX_BITS));
  return number(bits.slice(2 + INDEX_BITS, -2)) === crc8(index) ? index : null;
}

function innerMean(context, x, right, y, bottom) {
  const [marginX, marginY] = [Math.floor((right - x) / 4), Math.floor((bottom - y) / 4)];
  const width = Math.max(1, right - x - 2 * marginX);
  const height = Math.max(1, bottom - y - 2 * marginY);
  const { data } = context.getImageData(x + marginX, y + marginY, width, height);
  let sum = 0;
  for (let at = 0; at < data.length; at += 4) sum += data[at] + data[at + 1] + data[at + 2];
  return sum / (3 * width * height);
}

const number = (bits) => bits.reduce((sum, bit) => sum * 2 + (bit ? 1 : 0), 0);

function crc8(index) {
  let crc = 0xa5;
  for (const byte of [(index >> 16) & 0xff, (index >> 8) & 0xff, index & 0xff]) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 0x80 ? (crc << 1) ^ 0x2f : crc << 1) & 0xff;
  }
  return crc;
}
