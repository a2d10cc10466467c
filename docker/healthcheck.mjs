// Owns the container's health: whether the node's own server says that it can sell.

import { request as plain } from "node:http";
import { request as secure } from "node:https";

const url = new URL(process.env.INFERNET_HEALTH_URL ?? "https://127.0.0.1:8443/healthz");
const request = url.protocol === "https:" ? secure : plain;
// The certificate is the node's own, and this is the node's own machine.
const options = { rejectUnauthorized: false, timeout: 4000 };
const end = (isHealthy) => process.exit(isHealthy ? 0 : 1);
request(url, options, (response) => end(response.statusCode === 200))
  .on("error", () => end(false))
  .on("timeout", () => end(false))
  .end();
