/* I9: whatever is changed, removed, reordered or cut off is found, and the first bad entry named.
 */
#include "tests/unit/server/store_fixture.h"

#define COUNT 3000

static void fill(struct fixture *fixture)
{
	fixture_begin(fixture);
	for (int base = 0; base < COUNT; base += 1000) {
		struct store_txn *txn = store_txn_new(fixture->store);
		for (int i = base; i < base + 1000; i++) {
			struct entry entry =
				fixture_entry(i % 2 ? ENTRY_GRANTED : ENTRY_ESTABLISHED);
			snprintf(entry.gateway, sizeof entry.gateway, "gw%d", i % 4);
			snprintf(entry.filter, sizeof entry.filter, "ftp");
			entry.grant = id_new();
			entry.session = id_new();
			cr_assert(addr_parse("10.77.1.2", &entry.client) &&
				addr_parse("fd77:2::2", &entry.remote.addr));
			entry.notify = i % 3 == 0;
			entry.time_us = 1000000 + i;
			store_txn_entry(txn, &entry);
		}
		cr_assert_eq(fixture_commit(fixture, txn, NULL), STATUS_OK);
	}
}

Test(store_verify, an_untouched_journal_is_intact)
{
	struct fixture fixture;
	fill(&fixture);
	struct store_verification result = fixture_verify(&fixture, 0, NULL), again;
	cr_expect(result.intact, "%s", result.fault);
	cr_expect_eq(result.entries, COUNT);
	cr_expect_eq(result.head_sequence, COUNT);
	again = fixture_verify(&fixture, COUNT, result.head_hash);
	cr_expect(again.intact, "%s", again.fault);
	struct entry entry = fixture_entry(ENTRY_SERVER_STOPPED);
	cr_assert_eq(fixture_commit_entry(&fixture, &entry, NULL), STATUS_OK);
	fixture_close(&fixture);
	fixture_open(&fixture);
	again = fixture_verify(&fixture, COUNT, result.head_hash);
	cr_expect(again.intact, "an older head is still in the chain: %s", again.fault);
	cr_expect_eq(again.head_sequence, COUNT + 1);
	fixture_end(&fixture);
}

Test(store_verify, an_empty_journal_is_intact)
{
	struct fixture fixture;
	fixture_begin(&fixture);
	struct store_verification result = fixture_verify(&fixture, 0, NULL);
	cr_expect(result.intact, "%s", result.fault);
	cr_expect_eq(result.entries, 0);
	fixture_end(&fixture);
}

Test(store_verify, every_tampering_is_found_and_named)
{
	static const struct {
		const char *sql;
		uint64_t bad;
		const char *says;
	} table[] = {
		{"UPDATE journal SET body = CAST(body || x'00' AS BLOB) WHERE sequence = 1", 1,
			"changed"},
		{"UPDATE journal SET body = (SELECT body FROM journal WHERE sequence = 7) WHERE "
		 "sequence = 2500",
			2500, "changed"},
		{"UPDATE journal SET body = x'' WHERE sequence = 3000", 3000, "changed"},
		{"UPDATE journal SET hash = zeroblob(32) WHERE sequence = 10", 10, "changed"},
		{"UPDATE journal SET hash = x'00' WHERE sequence = 10", 10, "changed"},
		{"UPDATE journal SET time_us = time_us + 1 WHERE sequence = 11", 11,
			"column time_us"},
		{"UPDATE journal SET kind = kind + 1 WHERE sequence = 12", 12, "column kind"},
		{"UPDATE journal SET gateway = 'gw9' WHERE sequence = 13", 13, "column gateway"},
		{"UPDATE journal SET gateway = NULL WHERE sequence = 14", 14, "column gateway"},
		{"UPDATE journal SET filter = 'sip' WHERE sequence = 15", 15, "column filter"},
		{"UPDATE journal SET session = randomblob(16) WHERE sequence = 16", 16,
			"column session"},
		{"UPDATE journal SET session = NULL WHERE sequence = 16", 16, "column session"},
		{"UPDATE journal SET grant_id = randomblob(16) WHERE sequence = 17", 17,
			"column grant_id"},
		{"UPDATE journal SET grant_id = CAST(grant_id || x'00' AS BLOB) WHERE sequence = "
		 "17",
			17, "column grant_id"},
		{"UPDATE journal SET client = '10.77.1.3' WHERE sequence = 18", 18,
			"column client"},
		{"UPDATE journal SET remote = 'fd77:2::0002' WHERE sequence = 19", 19,
			"column remote"},
		{"UPDATE journal SET notify = 1 - notify WHERE sequence = 20", 20, "column notify"},
		{"UPDATE journal SET notify = 2 WHERE sequence = 1", 1, "column notify"},
		{"DELETE FROM journal WHERE sequence = 1", 1, "entry 1 is gone"},
		{"DELETE FROM journal WHERE sequence BETWEEN 2001 AND 2010", 2001,
			"entries 2001 to 2010 are gone"},
		{"DELETE FROM journal WHERE sequence > 2990", 2991, "this server knows entry 3000"},
		{"DELETE FROM journal", 1, "this server knows entry 3000"},
		{"UPDATE journal SET sequence = -1 WHERE sequence = 40; UPDATE journal SET "
		 "sequence = 40 WHERE sequence = 41; "
		 "UPDATE journal SET sequence = 41 WHERE sequence = -1",
			40, "changed"},
		{"UPDATE journal SET sequence = 0 WHERE sequence = 41", 1, "out of place"},
		{"UPDATE journal SET sequence = -5 WHERE sequence = 41", 1, "out of place"},
		{"DELETE FROM journal WHERE sequence = 50; UPDATE journal SET sequence = sequence "
		 "- 1 WHERE sequence > 50",
			50, "changed"},
		{"INSERT INTO journal SELECT 3001, time_us, kind, gateway, filter, session, "
		 "grant_id, client, remote, notify, body, hash "
		 "FROM journal WHERE sequence = 3000",
			3001, "changed"},
		{"UPDATE journal_zones SET max_us = max_us - 1 WHERE zone = 1", 1025,
			"journal_zones"},
		{"DELETE FROM journal_zones WHERE zone = 0", 1, "journal_zones"},
		{"INSERT INTO journal_zones VALUES (2, 0, 0)", 3001, "journal_zones"},
	};
	struct fixture fixture;
	fill(&fixture);
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		fixture_tamper(&fixture,
			"CREATE TABLE kept AS SELECT * FROM journal; CREATE TABLE kept_zones AS "
			"SELECT * FROM journal_zones");
		fixture_tamper(&fixture, table[i].sql);
		struct store_verification result = fixture_verify(&fixture, 0, NULL);
		cr_expect_not(result.intact, "%s", table[i].sql);
		cr_expect_eq(result.bad_sequence, table[i].bad, "%s: named %llu", table[i].sql,
			(unsigned long long)result.bad_sequence);
		cr_expect_not_null(strstr(result.fault, table[i].says), "%s: \"%s\"", table[i].sql,
			result.fault);
		fixture_tamper(&fixture,
			"BEGIN; DELETE FROM journal; INSERT INTO journal SELECT * FROM kept; "
			"DELETE FROM journal_zones; "
			"INSERT INTO journal_zones SELECT * FROM kept_zones; DROP TABLE kept; DROP "
			"TABLE kept_zones; COMMIT");
	}
	cr_expect(fixture_verify(&fixture, 0, NULL).intact);
	fixture_end(&fixture);
}

/* What the server itself cannot notice after a restart, an auditor who noted a head can. */
Test(store_verify, a_cut_off_tail_is_found_by_a_known_head)
{
	struct fixture fixture;
	fill(&fixture);
	struct store_verification whole = fixture_verify(&fixture, 0, NULL);
	fixture_close(&fixture);
	fixture_tamper(&fixture, "DELETE FROM journal WHERE sequence > 2995");
	fixture_open(&fixture);
	struct store_verification result = fixture_verify(&fixture, 0, NULL);
	cr_expect(result.intact, "%s", result.fault);
	result = fixture_verify(&fixture, whole.head_sequence, whole.head_hash);
	cr_expect_not(result.intact);
	cr_expect_eq(result.bad_sequence, 2996);
	cr_expect_not_null(strstr(result.fault, "the caller knows entry 3000"), "%s", result.fault);
	/* Somebody writes a new tail: the chain is good in itself, but not the one that was known.
	 */
	struct entry entry = fixture_entry(ENTRY_GRANTED);
	for (int i = 0; i < 10; i++)
		cr_assert_eq(fixture_commit_entry(&fixture, &entry, NULL), STATUS_OK);
	cr_expect(fixture_verify(&fixture, 0, NULL).intact);
	result = fixture_verify(&fixture, whole.head_sequence, whole.head_hash);
	cr_expect_not(result.intact);
	cr_expect_eq(result.bad_sequence, 3000);
	cr_expect_not_null(strstr(result.fault, "rewritten"), "%s", result.fault);
	fixture_end(&fixture);
}

/* Somebody who knows how the chain is made can hash nonsense, but not turn it into an entry. */
Test(store_verify, a_well_hashed_body_that_is_no_entry_is_named)
{
	struct fixture fixture;
	uint8_t hash[ENTRY_HASH_SIZE];
	char sql[400], hex[2 * ENTRY_HASH_SIZE + 1];
	fill(&fixture);
	struct store_verification whole = fixture_verify(&fixture, 0, NULL);
	entry_hash(whole.head_hash, COUNT + 1, (const uint8_t *)"\xff\xff", 2, hash);
	for (size_t i = 0; i < sizeof hash; i++)
		snprintf(hex + 2 * i, 3, "%02x", hash[i]);
	snprintf(sql, sizeof sql,
		"INSERT INTO journal (sequence, time_us, kind, notify, body, hash) VALUES (%d, 1, "
		"1, 0, x'ffff', x'%s')",
		COUNT + 1, hex);
	fixture_tamper(&fixture, sql);
	struct store_verification result = fixture_verify(&fixture, 0, NULL);
	cr_expect_not(result.intact);
	cr_expect_eq(result.bad_sequence, COUNT + 1);
	cr_expect_not_null(strstr(result.fault, "not a journal entry"), "%s", result.fault);
	fixture_end(&fixture);
}
