// What npm's canonicalize and Node's own SHA-256 make of JSON texts.
// in:  [a JSON text, …]
// out: [{"form", "hash"}, or {"refused": why}, …]
const { createHash } = require("node:crypto");
const { readFileSync } = require("node:fs");
const { default: canonicalize } = require("canonicalize");

const answers = JSON.parse(readFileSync(0, "utf8")).map((text) => {
  try {
    const form = canonicalize(JSON.parse(text));
    return { form, hash: createHash("sha256").update(form, "utf8").digest("hex") };
  } catch (error) {
    return { refused: error.message };
  }
});
process.stdout.write(JSON.stringify(answers));
