// The hops of a frame's way, as GET /traces names them, in words.

const WORDS = {
  wait_decode: "waits for decode",
  decode: "decode",
  wait_inference: "waits for inference",
  process: "inference",
  wait_egress: "waits for egress",
  encode: "encode",
  send: "send",
};

export const inWords = (hop) => WORDS[hop] ?? hop;
