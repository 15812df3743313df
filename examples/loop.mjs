// A round's training in a loop of one's own, in JavaScript: softmax regression on Node 18 or newer, and nothing else.
//
//     primep2p run join RUN --own-loop
//     node examples/loop.mjs HOME RUN DATA.json
//
// DATA.json is {"x": [[0.5, ...], ...], "y": [3, ...]}. The run may be one of the trainer `softmax`, which others use.
// What goes over the socket is in docs/jobs.md.

import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";

const [home, run, data] = process.argv.slice(2);
const { x, y } = JSON.parse(fs.readFileSync(data, "utf8"));

// ---- JSON-RPC: one object a line

class Socket {
  #calls = 0;
  #waiting = new Map();
  #rest = "";

  constructor(file) {
    this.connection = net.connect(file);
    this.connection.setEncoding("utf8");
    this.connection.on("data", (text) => {
      const lines = (this.#rest + text).split("\n");
      this.#rest = lines.pop();
      for (const line of lines) this.#hear(JSON.parse(line));
    });
    const gone = (error) => this.#waiting.forEach(({ reject }) => reject(error ?? new Error("the daemon has gone")));
    this.connection.on("error", gone).on("close", () => gone());
  }

  #hear({ id, result, error }) {
    const { resolve, reject } = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error) reject(new Error(`${error.message} (${error.data.hint})`));
    else resolve(result);
  }

  call(method, params) {
    const id = ++this.#calls;
    this.connection.write(JSON.stringify({ jsonrpc: "2.0", id, method, params }) + "\n");
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }
}

// ---- safetensors: the header's length in 8 bytes, the header as JSON, the tensors' bytes

function readTensors(file) {
  const raw = fs.readFileSync(file);
  const start = 8 + Number(raw.readBigUInt64LE(0));
  const tensors = {};
  for (const [name, { data_offsets: [from, to] }] of Object.entries(JSON.parse(raw.toString("utf8", 8, start)))) {
    const bytes = new Uint8Array(raw.subarray(start + from, start + to)); // a copy begins where a float may
    tensors[name] = new Float32Array(bytes.buffer);
  }
  return tensors;
}

function writeTensors(file, tensors, shapes) {
  const header = {};
  const parts = [];
  let from = 0;
  for (const [name, values] of Object.entries(tensors)) {
    const to = from + values.byteLength;
    header[name] = { dtype: "F32", shape: shapes[name], data_offsets: [from, to] };
    parts.push(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    from = to;
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  fs.writeFileSync(file, Buffer.concat([length, text, ...parts]), { mode: 0o600 });
}

// ---- the model

function probabilities({ "layer0.weight": weight, "layer0.bias": bias }, row) {
  const shares = Float64Array.from(bias);
  row.forEach((value, i) => {
    if (value) for (let j = 0; j < shares.length; j++) shares[j] += value * weight[i * shares.length + j];
  });
  const largest = Math.max(...shares);
  let sum = 0;
  for (let j = 0; j < shares.length; j++) sum += shares[j] = Math.exp(shares[j] - largest);
  return shares.map((share) => share / sum);
}

function epoch(params, rate, random) {
  const order = y.map((_, row) => [random(), row]).sort(([a], [b]) => a - b);
  let loss = 0;
  for (const [, row] of order) { // SGD, an example at a time
    const error = probabilities(params, x[row]);
    loss -= Math.log(error[y[row]] + 1e-9) / order.length;
    error[y[row]] -= 1;
    for (let j = 0; j < error.length; j++) {
      params["layer0.bias"][j] -= rate * error[j];
      x[row].forEach((value, i) => (params["layer0.weight"][i * error.length + j] -= rate * error[j] * value));
    }
  }
  return loss;
}

function generator(seed) { // mulberry32
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

// ---- round after round

const socket = new Socket(fs.realpathSync(path.join(home, "control.sock"))); // a link, as sockets want short paths
const scratch = fs.mkdtempSync(path.join(os.tmpdir(), "loop-"));
for (;;) {
  const job = await socket.call("job.next", { run, wait_s: 60 });
  if (job.answer === "rejected") {
    if (job.retry_after_s === null) break;
    continue; // it has waited already
  }
  const params = readTensors(job.path);
  const epochs = job.config.epochs ?? 1;
  const random = generator(job.seed % 2 ** 32);
  let loss = 0;
  for (let done = 1; done <= epochs; done++) {
    loss = epoch(params, (job.config.learning_rate ?? 0.1) / 8, random); // a rate for batches is too much for one
    await socket.call("job.report", { job: job.job, step: done, steps: epochs, loss });
  }
  const file = path.join(scratch, "update.safetensors");
  writeTensors(file, params, Object.fromEntries(job.tensors.map(({ name, shape }) => [name, shape])));
  const update = { job: job.job, path: file, kind: "params", examples: x.length, metrics: { loss } };
  const answer = await socket.call("job.submit", update);
  console.log(`round ${job.round}: loss ${loss.toFixed(4)}, ${answer.sentence ?? answer.answer}`);
}
fs.rmSync(scratch, { recursive: true });
socket.connection.destroy();
