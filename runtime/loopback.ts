// Owns which host names mean this machine alone.

/** A name or address, an IPv6 one with its brackets or without. */
export function isLoopbackHost(host: string): boolean {
  return ["localhost", "::1", "[::1]"].includes(host.toLowerCase()) || /^127(\.\d{1,3}){3}$/.test(host);
}
