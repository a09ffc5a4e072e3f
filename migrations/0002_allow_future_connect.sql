-- AllowFutureConnect in full and its inbound sibling. Protocol definitions and filters of before keep what they could do.

ALTER TABLE grants ADD COLUMN direction INTEGER NOT NULL DEFAULT 0; -- Direction of types.proto
ALTER TABLE grants ADD COLUMN client_port INTEGER NOT NULL DEFAULT 0;
ALTER TABLE grants ADD COLUMN remotes TEXT NOT NULL DEFAULT ''; -- inbound, several: comma-separated addresses
ALTER TABLE grants ADD COLUMN remote_port_last INTEGER NOT NULL DEFAULT 0;
ALTER TABLE grants ADD COLUMN external_chosen INTEGER NOT NULL DEFAULT 0; -- the port is the server's choice
ALTER TABLE grants ADD COLUMN bundle BLOB;
ALTER TABLE grants ADD COLUMN clamped INTEGER NOT NULL DEFAULT 0;
ALTER TABLE grants ADD COLUMN cut INTEGER NOT NULL DEFAULT 0;
ALTER TABLE grants ADD COLUMN renewals INTEGER NOT NULL DEFAULT 0;

-- Reserved grants (state 8) live too.
DROP INDEX grants_live;
CREATE INDEX grants_live ON grants (id) WHERE state < 3 OR state = 8;
CREATE INDEX grants_bundle ON grants (bundle) WHERE bundle IS NOT NULL;

ALTER TABLE flows ADD COLUMN external TEXT NOT NULL DEFAULT '';

ALTER TABLE protocols ADD COLUMN shared INTEGER NOT NULL DEFAULT 1;
ALTER TABLE protocols ADD COLUMN remote_scope INTEGER NOT NULL DEFAULT 0;
ALTER TABLE protocols ADD COLUMN low_ports INTEGER NOT NULL DEFAULT 1;
ALTER TABLE protocols ADD COLUMN max_ports INTEGER NOT NULL DEFAULT 0;

ALTER TABLE principals ADD COLUMN clients TEXT NOT NULL DEFAULT ''; -- comma-separated networks
ALTER TABLE principals ADD COLUMN destinations TEXT NOT NULL DEFAULT '';
ALTER TABLE principals ADD COLUMN protocols TEXT NOT NULL DEFAULT '';
ALTER TABLE principals ADD COLUMN grants_per_second INTEGER NOT NULL DEFAULT 0;
ALTER TABLE principals ADD COLUMN max_lifetime_ms INTEGER NOT NULL DEFAULT 0;
