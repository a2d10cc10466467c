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
  // Sums over a job's requests, kept by the rows themselves: a session has thousands. A cost is its units and millionths.
  `
  ALTER TABLE requests ADD COLUMN cost_units INTEGER
    AS (prompt_tokens * (input_price / 1000000) + completion_tokens * (output_price / 1000000)) VIRTUAL;
  ALTER TABLE requests ADD COLUMN cost_millionths INTEGER
    AS (prompt_tokens * (input_price % 1000000) + completion_tokens * (output_price % 1000000)) VIRTUAL;

  ALTER TABLE jobs ADD COLUMN ended_units INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE jobs ADD COLUMN ended_millionths INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE jobs ADD COLUMN running_units INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE jobs ADD COLUMN running_millionths INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE jobs ADD COLUMN running_reserved INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE jobs ADD COLUMN running_requests INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE jobs DROP COLUMN charge;
  ALTER TABLE jobs ADD COLUMN charge INTEGER AS (opening_fee + ended_units + running_units
    + (ended_millionths + running_millionths + 999999) / 1000000) VIRTUAL;
  ALTER TABLE jobs ADD COLUMN ended_charge INTEGER
    AS (opening_fee + ended_units + (ended_millionths + 999999) / 1000000) VIRTUAL;
  ALTER TABLE jobs ADD COLUMN close_asked INTEGER NOT NULL DEFAULT 0;

  UPDATE jobs SET ended_units = sums.units, ended_millionths = sums.millionths
  FROM (SELECT job_id, SUM(cost_units) AS units, SUM(cost_millionths) AS millionths
    FROM requests WHERE status = 'ended' GROUP BY job_id) AS sums
  WHERE jobs.job_id = sums.job_id;
  UPDATE jobs SET running_units = sums.units, running_millionths = sums.millionths,
    running_reserved = sums.reserved, running_requests = sums.requests
  FROM (SELECT job_id, SUM(cost_units) AS units, SUM(cost_millionths) AS millionths, SUM(reserved) AS reserved,
      COUNT(*) AS requests
    FROM requests WHERE status = 'running' GROUP BY job_id) AS sums
  WHERE jobs.job_id = sums.job_id;

  CREATE TRIGGER sum_started AFTER INSERT ON requests BEGIN
    UPDATE jobs SET running_requests = running_requests + 1, running_reserved = running_reserved + NEW.reserved
    WHERE job_id = NEW.job_id;
  END;
  CREATE TRIGGER sum_running AFTER UPDATE ON requests WHEN NEW.status = 'running' BEGIN
    UPDATE jobs SET running_units = running_units + NEW.cost_units - OLD.cost_units,
      running_millionths = running_millionths + NEW.cost_millionths - OLD.cost_millionths,
      running_reserved = running_reserved + NEW.reserved - OLD.reserved
    WHERE job_id = NEW.job_id;
  END;
  CREATE TRIGGER sum_ended AFTER UPDATE ON requests WHEN NEW.status = 'ended' AND OLD.status = 'running' BEGIN
    UPDATE jobs SET ended_units = ended_units + NEW.cost_units,
      ended_millionths = ended_millionths + NEW.cost_millionths,
      running_units = running_units - OLD.cost_units,
      running_millionths = running_millionths - OLD.cost_millionths,
      running_reserved = running_reserved - OLD.reserved,
      running_requests = running_requests - 1
    WHERE job_id = NEW.job_id;
  END;
  CREATE TRIGGER sum_forgotten AFTER DELETE ON requests WHEN OLD.status = 'running' BEGIN
    UPDATE jobs SET running_units = running_units - OLD.cost_units,
      running_millionths = running_millionths - OLD.cost_millionths,
      running_reserved = running_reserved - OLD.reserved,
      running_requests = running_requests - 1
    WHERE job_id = OLD.job_id;
  END;

  CREATE INDEX ended_requests_of_job ON requests (job_id, ended_at) WHERE status = 'ended';
  `,
  // What a transaction added to a job's claimed amount, known at finality: a job may be claimed of several times.
  `
  ALTER TABLE transaction_jobs ADD COLUMN gained INTEGER NOT NULL DEFAULT 0;
  UPDATE transaction_jobs SET gained = jobs.claimed
  FROM jobs WHERE jobs.job_id = transaction_jobs.job_id AND jobs.state = 'closed'
    AND transaction_jobs.tx = (SELECT tx FROM transaction_jobs AS items JOIN transactions USING (tx)
      WHERE items.job_id = jobs.job_id AND kind = 'settle' AND transactions.state IN ('mined', 'final')
      ORDER BY signed_at DESC, nonce DESC LIMIT 1);
  `,
];
