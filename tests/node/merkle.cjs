// What OpenZeppelin's library says of proofs and of a dump.
// in:  {"encoding": […], "proofs": [{"root", "value", "proof"}], "dump": a standard-v1 dump or null,
//       "values": indices of dump.values}
// out: {"verified": [whether each proof holds], "root": the dump's, "made": [the library's proof of each value]}
const { readFileSync } = require("node:fs");
const { StandardMerkleTree } = require("@openzeppelin/merkle-tree");

const { encoding, proofs, dump, values } = JSON.parse(readFileSync(0, "utf8"));
const answer = {
  verified: proofs.map(({ root, value, proof }) => StandardMerkleTree.verify(root, encoding, value, proof)),
};
if (dump) {
  const tree = StandardMerkleTree.load(dump); // validates: each value's leaf, each node
  answer.root = tree.root;
  answer.made = values.map((index) => tree.getProof(index));
}
process.stdout.write(JSON.stringify(answer));
