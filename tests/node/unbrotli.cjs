// Decompress: node unbrotli.cjs SOURCE.br TARGET (Python's standard library has no brotli).
const { createReadStream, createWriteStream } = require("node:fs");
const { pipeline } = require("node:stream");
const { createBrotliDecompress } = require("node:zlib");

const [source, target] = process.argv.slice(2);
pipeline(createReadStream(source), createBrotliDecompress(), createWriteStream(target), (error) => {
  if (error) throw error;
});
