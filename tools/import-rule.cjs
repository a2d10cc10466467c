// Owns the import rule: cli -> provider | requester -> chain, runtime -> protocol -> typechain-types, never upward.
const layers = {
  protocol: ["typechain-types"],
  chain: ["protocol", "typechain-types"],
  runtime: ["protocol", "typechain-types"],
  provider: ["chain", "runtime", "protocol", "typechain-types"],
  requester: ["chain", "runtime", "protocol", "typechain-types"],
  cli: ["provider", "requester", "chain", "runtime", "protocol", "typechain-types"],
};
const folders = [...Object.keys(layers), "test", "tools", "bench", "ignition"];

const oneWay = Object.entries(layers).map(([layer, below]) => ({
  name: `${layer}-looks-down-only`,
  comment: `${layer}/ may import ${below.join(", ")} and nothing beside or above it`,
  severity: "error",
  from: { path: `^${layer}/` },
  to: { path: `^(${folders.filter((folder) => folder !== layer && !below.includes(folder)).join("|")})/` },
}));

module.exports = {
  forbidden: [
    ...oneWay,
    {
      name: "no-circles",
      severity: "error",
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } },
    },
    {
      name: "ethers-behind-its-doors",
      comment: "ethers is slow to load and slow to sign: only chain/ and runtime/signers/ know it",
      severity: "error",
      from: { path: "^(protocol|runtime|provider|requester|cli)/", pathNot: "^runtime/signers/" },
      to: { path: "node_modules/ethers/" },
    },
    {
      name: "the-law-is-pure",
      comment: "protocol/ has no file system, network, clock or environment",
      severity: "error",
      from: { path: "^protocol/" },
      to: { dependencyTypes: ["core"] },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules|typechain-types" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["import", "node", "default", "types"],
    },
  },
};
