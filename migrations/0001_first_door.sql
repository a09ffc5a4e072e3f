-- The first schema. STRICT tables; ids are 16-byte UUIDv7 blobs; addresses are text; times are microseconds since 1970 UTC.

-- The journal: append-only, hash-chained. `body` is a packed postern.v1.Entry; the columns beside it repeat what queries
-- filter by, and verification compares them with the body. Two indexes only, because each costs every insert (20-45 us of CPU a
-- row is the limit, not the disk). What a query costs:
--   by grant: its rows, whatever the journal's size; by gateway: the gateway's rows behind the cursor;
--   by client, remote, session, filter or kind alone: a walk over every entry of its range, about 1 us each and in bounded
--   steps. Narrow such a query by time: it then walks only the zones (below) that the time touches.
CREATE TABLE journal (
	sequence INTEGER PRIMARY KEY,
	time_us INTEGER NOT NULL,
	kind INTEGER NOT NULL,
	gateway TEXT,
	filter TEXT,
	session BLOB,
	grant_id BLOB,
	client TEXT,
	remote TEXT,
	notify INTEGER NOT NULL,
	body BLOB NOT NULL,
	hash BLOB NOT NULL
) STRICT;
CREATE INDEX journal_gateway ON journal (gateway, sequence) WHERE gateway IS NOT NULL;
CREATE INDEX journal_grant ON journal (grant_id, sequence) WHERE grant_id IS NOT NULL;

-- Times are not in the order of sequences: agents report late, clocks are set back. Instead of an index on time, one row for
-- every 1024 entries (zone z: sequences z * 1024 + 1 to (z + 1) * 1024) says between which times they lie.
CREATE TABLE journal_zones (
	zone INTEGER PRIMARY KEY,
	min_us INTEGER NOT NULL,
	max_us INTEGER NOT NULL
) STRICT;

CREATE TABLE gateways (
	name TEXT PRIMARY KEY,
	labels TEXT NOT NULL,
	added_us INTEGER NOT NULL,
	boot_id TEXT NOT NULL,
	instance TEXT NOT NULL,
	last_report INTEGER NOT NULL,
	joined_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE principals (
	name TEXT PRIMARY KEY,
	role INTEGER NOT NULL,
	token_hash BLOB NOT NULL UNIQUE,
	gateway TEXT NOT NULL,
	gateways TEXT NOT NULL,
	max_grants INTEGER NOT NULL,
	added_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE protocols (
	guid BLOB PRIMARY KEY,
	name TEXT NOT NULL UNIQUE,
	transport INTEGER NOT NULL,
	primary_ports TEXT NOT NULL,
	owner TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE rules (
	name TEXT PRIMARY KEY,
	type INTEGER NOT NULL,
	deny INTEGER NOT NULL,
	protocol TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- ISA's default: no protocol rule, so that everything is denied; one site-and-content rule that allows all.
INSERT INTO rules (name, type, deny, protocol) VALUES ('allow all sites', 2, 0, '');

CREATE TABLE sessions (
	id BLOB PRIMARY KEY,
	gateway TEXT NOT NULL REFERENCES gateways (name),
	filter TEXT NOT NULL,
	user TEXT NOT NULL,
	protocol TEXT NOT NULL,
	client TEXT NOT NULL,
	primary_client TEXT NOT NULL,
	primary_remote TEXT NOT NULL,
	primary_transport INTEGER NOT NULL,
	idle_limit_ms INTEGER NOT NULL,
	opened_us INTEGER NOT NULL,
	closed_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_open ON sessions (id) WHERE closed_us = 0;

CREATE TABLE grants (
	id BLOB PRIMARY KEY,
	request_id BLOB,
	session BLOB,
	gateway TEXT NOT NULL REFERENCES gateways (name),
	filter TEXT NOT NULL,
	protocol TEXT NOT NULL,
	rule TEXT NOT NULL,
	client TEXT NOT NULL,
	remote TEXT NOT NULL,
	external TEXT NOT NULL,
	transport INTEGER NOT NULL,
	flags INTEGER NOT NULL,
	notify INTEGER NOT NULL,
	state INTEGER NOT NULL,
	reason INTEGER NOT NULL,
	lifetime_ms INTEGER NOT NULL,
	max_connections INTEGER NOT NULL,
	connections INTEGER NOT NULL,
	created_us INTEGER NOT NULL,
	expires_us INTEGER NOT NULL,
	ended_us INTEGER NOT NULL,
	context BLOB
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX grants_request ON grants (request_id, filter) WHERE request_id IS NOT NULL;
CREATE INDEX grants_live ON grants (id) WHERE state < 3;

-- Flows between their ESTABLISHED entry and some time after CLOSED: what recognises a report that comes twice. No foreign keys:
-- a flow that the kernel admitted is a fact, and its report must not be refused for want of another row.
CREATE TABLE flows (
	grant_id BLOB NOT NULL,
	flow INTEGER NOT NULL,
	gateway TEXT NOT NULL,
	boot_id TEXT NOT NULL,
	client TEXT NOT NULL,
	remote TEXT NOT NULL,
	transport INTEGER NOT NULL,
	opened_us INTEGER NOT NULL,
	closed_us INTEGER NOT NULL,
	PRIMARY KEY (grant_id, flow, opened_us)
) STRICT, WITHOUT ROWID;
CREATE INDEX flows_open ON flows (grant_id) WHERE closed_us = 0;
CREATE INDEX flows_closed ON flows (closed_us) WHERE closed_us > 0;
