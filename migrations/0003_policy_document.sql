-- The policy document and its revisions; what feeds and DNS names last answered.

-- Every version of the document, newest = the one in force. `document` is a packed postern.v1.PolicyDocument; the journal has its
-- hash (POLICY_APPLIED, POLICY_ROLLED_BACK). The table `rules` of 0001 is read once, to make revision 1.
CREATE TABLE revisions (
	number INTEGER PRIMARY KEY,
	author TEXT NOT NULL,
	time_us INTEGER NOT NULL,
	message TEXT NOT NULL,
	rolled_back_to INTEGER NOT NULL,
	confirm_until_us INTEGER NOT NULL,
	rules INTEGER NOT NULL,
	hash BLOB NOT NULL,
	document BLOB NOT NULL
) STRICT;

CREATE TABLE feeds (
	name TEXT NOT NULL,
	is_name INTEGER NOT NULL,
	etag TEXT NOT NULL,
	fetched_us INTEGER NOT NULL,
	checked_us INTEGER NOT NULL,
	url TEXT NOT NULL,
	error TEXT NOT NULL,
	content BLOB,
	held BLOB,
	held_etag TEXT NOT NULL,
	PRIMARY KEY (name, url, is_name)
) STRICT, WITHOUT ROWID;

ALTER TABLE grants ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
ALTER TABLE grants ADD COLUMN user TEXT NOT NULL DEFAULT '';
ALTER TABLE grants ADD COLUMN site_rule TEXT NOT NULL DEFAULT '';
