// Owns the tables of the provider's store: jobs, their requests and output, offers, block cursors and transactions.

/**
 * Applied in order, once each. Amounts are INTEGER base units (at most 2^63 - 1), ids and addresses lower-case hex,
 * times Unix seconds. A job has any number of requests, so that sessions need no other tables.
 */
export const PROVIDER_MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE cursors (block INTEGER PRIMARY KEY, hash TEXT NOT NULL) STRICT;

  CREATE TABLE offers (
    offer_hash TEXT PRIMARY KEY,
    bytes BLOB NOT NULL,
    signature TEXT NOT NULL,
    issued_at INTEGER NOT NULL,
    expires INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE jobs (
    job_id TEXT PRIMARY KEY,
    requester TEXT NOT NULL,
    signer TEXT NOT NULL,
    node TEXT NOT NULL,
    payee TEXT NOT NULL,
    job_hash TEXT NOT NULL,
    deadline INTEGER NOT NULL,
    deposit INTEGER NOT NULL,
    opened_at INTEGER NOT NULL,
    opened_block INTEGER NOT NULL,
    registered_payee TEXT NOT NULL,
    confirmed_block INTEGER,
    undone INTEGER NOT NULL DEFAULT 0,
    opening_fee INTEGER NOT NULL DEFAULT 0,
    salt TEXT,
    offer_hash TEXT,
    request_hash TEXT,
    state TEXT NOT NULL CHECK (state IN ('seen', 'funded', 'refused', 'settling', 'closed')),
    receipt_amount INTEGER,
    receipt_transcript TEXT,
    receipt_signature TEXT,
    charge INTEGER NOT NULL DEFAULT 0,
    claimed INTEGER NOT NULL DEFAULT 0,
    over_since INTEGER,
    closing_block INTEGER,
    retry_at INTEGER NOT NULL DEFAULT 0
  ) STRICT;
  CREATE INDEX live_jobs ON jobs (state) WHERE state <> 'closed';
  CREATE INDEX jobs_of_requester ON jobs (requester, state);

  CREATE TABLE requests (
    request_id TEXT PRIMARY KEY,
    job_id TEXT NOT NULL REFERENCES jobs (job_id),
    request_hash TEXT NOT NULL,
    model TEXT NOT NULL,
    model_digest TEXT NOT NULL,
    path TEXT NOT NULL,
    input_price INTEGER NOT NULL,
    output_price INTEGER NOT NULL,
    prompt_text_bytes INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('running', 'ended')),
    reserved INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL DEFAULT 0,
    completion_tokens INTEGER NOT NULL DEFAULT 0,
    estimated INTEGER NOT NULL DEFAULT 0,
    last_event_id INTEGER NOT NULL DEFAULT 0,
    transcript TEXT NOT NULL,
    delivery TEXT,
    end_reason TEXT,
    ended_at INTEGER,
    replayable INTEGER NOT NULL DEFAULT 1
  ) STRICT;
  CREATE INDEX requests_of_job ON requests (job_id);
  CREATE INDEX running_requests ON requests (status) WHERE status = 'running';
  CREATE INDEX replayable_requests ON requests (ended_at) WHERE replayable = 1;

  CREATE TABLE payloads (
    request_id TEXT NOT NULL REFERENCES requests (request_id),
    event_id INTEGER NOT NULL,
    payload TEXT NOT NULL,
    PRIMARY KEY (request_id, event_id)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE transactions (
    tx TEXT PRIMARY KEY,
    raw TEXT NOT NULL,
    nonce INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('claim', 'settle', 'refund', 'payOut')),
    state TEXT NOT NULL CHECK (state IN ('signed', 'mined', 'final', 'failed')),
    block INTEGER,
    gas_used INTEGER,
    amount INTEGER NOT NULL,
    signed_at INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX pending_transactions ON transactions (state) WHERE state IN ('signed', 'mined');

  CREATE TABLE transaction_jobs (
    tx TEXT NOT NULL REFERENCES transactions (tx),
    job_id TEXT NOT NULL REFERENCES jobs (job_id),
    amount INTEGER NOT NULL,
    PRIMARY KEY (tx, job_id)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX transactions_of_job ON transaction_jobs (job_id);
  `,
  `
  CREATE TABLE relays (
    tx TEXT PRIMARY KEY,
    raw TEXT NOT NULL,
    nonce INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('open', 'deposit', 'withdraw', 'refund')),
    subject TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('signed', 'mined', 'failed')),
    signed_at INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX relays_of_subject ON relays (subject);
  CREATE INDEX pending_relays ON relays (state) WHERE state = 'signed';

  CREATE TABLE relayed_openings (
    job_id TEXT PRIMARY KEY,
    opening_fee INTEGER NOT NULL,
    salt TEXT NOT NULL,
    offer_hash TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    receipt_amount INTEGER NOT NULL,
    receipt_transcript TEXT NOT NULL,
    receipt_signature TEXT NOT NULL
  ) STRICT;
  `,
];
