// Owns which examples of --help want a container: `test/docker/examples.test.ts` runs them, in this order.

export const DOCKER_EXAMPLES: readonly string[] = [
  "register --docker --model llama3.2=0.05:0.20",
  "worker --docker --model llama3.2",
  "worker stop --stop-container --json",
];
