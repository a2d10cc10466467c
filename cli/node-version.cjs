// Owns the question whether this Node can run infernet; plain JavaScript, because it is asked on a Node that cannot.
"use strict";

/** The oldest SQLite without the WAL-reset bug; a Node that has it also has all else that we use. */
const OLDEST_SQLITE = [3, 51, 3];

function isNodeNewEnough() {
  const version = (process.versions.sqlite || "0.0.0").split(".").map(Number);
  const different = version.findIndex((part, index) => part !== OLDEST_SQLITE[index]);
  return different === -1 || version[different] > OLDEST_SQLITE[different];
}

module.exports = { isNodeNewEnough };
