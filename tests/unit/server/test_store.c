/* The store: what is committed is there, what fails is not, and the chain shows every change (I1,
 * I9). */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/loop.h"
#include "server/store/record.h"
#include "server/store/sqlite.h"
#include "server/store/store.h"

static struct loop *loop;
static struct store *store;
static char folder[64], path[96];

static void open_store(void)
{
	struct error err = {0};
	cr_assert_eq(store_open(path, loop, &store, &err), STATUS_OK, "%s", err.text);
}

static void setup(void)
{
	struct error err = {0};
	snprintf(folder, sizeof folder, "/tmp/postern-store-XXXXXX");
	cr_assert_not_null(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/postern.db", folder);
	cr_assert_eq(loop_new(&loop, &err), STATUS_OK);
	cr_assert_eq(store_create(path, &err), STATUS_OK, "%s", err.text);
	open_store();
}

static void teardown(void)
{
	static const char *const names[] = {
		"postern.db", "postern.db-wal", "postern.db-shm", "postern.db.lock"};
	char file[128];
	store_close(store);
	loop_free(loop);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(file, sizeof file, "%s/%s", folder, names[i]);
		unlink(file);
	}
	cr_expect_eq(rmdir(folder), 0, "nothing is left behind");
}

TestSuite(store, .init = setup, .fini = teardown, .timeout = 60);

struct outcome {
	bool done;
	uint64_t first;
	struct error err;
};

static void on_done(void *arg, uint64_t first, const struct error *err)
{
	struct outcome *outcome = arg;
	*outcome = (struct outcome){true, first, *err};
}

static struct entry make_entry(unsigned i)
{
	struct entry entry = {
		.time_us = 1000000 + i, .kind = ENTRY_GRANTED, .transport = 6, .notify = i % 2};
	snprintf(entry.gateway, sizeof entry.gateway, "gw%u", i % 3);
	snprintf(entry.filter, sizeof entry.filter, "ftp");
	entry.grant.bytes[15] = (uint8_t)(i + 1);
	cr_assert(addr_parse(i % 2 ? "fd77:1::2" : "10.77.1.2", &entry.client));
	return entry;
}

static struct outcome submit(unsigned first, unsigned count)
{
	struct outcome outcome = {0};
	struct store_txn *txn = store_txn_new(store);
	cr_assert_not_null(txn);
	for (unsigned i = first; i < first + count; i++) {
		struct entry entry = make_entry(i);
		store_txn_entry(txn, &entry);
	}
	store_submit(store, txn, on_done, &outcome);
	while (!outcome.done)
		loop_step(loop, 1000);
	return outcome;
}

struct read {
	bool done, at_end;
	size_t count;
	uint64_t next_after, first, last;
	struct error err;
};

static void on_page(void *arg, const struct entry *entries, size_t count, uint64_t next_after,
	bool at_end, const struct error *err)
{
	struct read *read = arg;
	*read = (struct read){true, at_end, count, next_after, count ? entries[0].sequence : 0,
		count ? entries[count - 1].sequence : 0, *err};
}

static struct read read_page_of(const struct store_query *query)
{
	struct read read = {0};
	store_read(store, query, on_page, &read);
	while (!read.done)
		loop_step(loop, 1000);
	return read;
}

static struct store_verification verification;
static bool verified;

static void on_verified(void *arg, const struct store_verification *result, const struct error *err)
{
	(void)arg;
	cr_assert_eq(err->status, STATUS_OK, "%s", err->text);
	verification = *result;
	verified = true;
}

static void verify(uint64_t known, const uint8_t *hash)
{
	verified = false;
	store_verify(store, known, hash, on_verified, NULL);
	while (!verified)
		loop_step(loop, 1000);
}

Test(store, sequences_are_contiguous)
{
	struct outcome a = submit(0, 3), b = submit(3, 2);
	cr_expect_eq(a.first, 1);
	cr_expect_eq(b.first, 4);
	cr_expect_eq(store_head(store), 5);
}

Test(store, pages_and_filters)
{
	submit(0, 30);
	struct store_query query = {.limit = 10};
	struct read read = read_page_of(&query);
	cr_expect_eq(read.count, 10);
	cr_expect_eq(read.next_after, 10);
	cr_expect_not(read.at_end);
	snprintf(query.gateway, sizeof query.gateway, "gw1");
	query.limit = 100;
	read = read_page_of(&query);
	cr_expect_eq(read.count, 10);
	cr_expect(read.at_end);
	query = (struct store_query){.notify_only = true, .limit = 100};
	cr_expect_eq(read_page_of(&query).count, 15);
	query = (struct store_query){.since_us = 1000025, .limit = 100};
	read = read_page_of(&query);
	cr_expect_eq(read.count, 5);
	cr_expect_eq(read.first, 26);
	query = (struct store_query){.client = "fd77:1::2", .limit = 100};
	cr_expect_eq(read_page_of(&query).count, 15);
}

Test(store, a_failing_transaction_takes_no_other_along_and_leaves_no_gap)
{
	struct outcome good = {0}, bad = {0}, last = {0};
	struct protocol_record protocol = {.guid = {{7}}, .name = "ftp", .transport = 6};
	struct store_txn *txns[3] = {
		store_txn_new(store), store_txn_new(store), store_txn_new(store)};
	for (unsigned i = 0; i < 3; i++) {
		struct entry entry = make_entry(i);
		store_txn_entry(txns[i], &entry);
	}
	store_txn_put_protocol(txns[0], &protocol);
	store_txn_put_protocol(txns[1], &protocol); /* the same again: refused */
	store_submit(store, txns[0], on_done, &good);
	store_submit(store, txns[1], on_done, &bad);
	store_submit(store, txns[2], on_done, &last);
	while (!last.done)
		loop_step(loop, 1000);
	cr_expect_eq(good.err.status, STATUS_OK, "%s", good.err.text);
	cr_expect_eq(bad.err.status, STATUS_ALREADY_EXISTS, "%s", bad.err.text);
	cr_expect_eq(last.err.status, STATUS_OK);
	cr_expect_eq(store_head(store), 2);
	verify(0, NULL);
	cr_expect(verification.intact, "%s", verification.fault);
}

Test(store, the_chain_goes_on_after_a_restart)
{
	submit(0, 5);
	store_close(store);
	open_store();
	cr_expect_eq(submit(5, 1).first, 6);
	verify(0, NULL);
	cr_expect(verification.intact, "%s", verification.fault);
	cr_expect_eq(verification.entries, 6);
}

static void tamper(const char *sql)
{
	struct sqlite3 *db = NULL;
	struct error err = {0};
	store_close(store);
	store = NULL;
	cr_assert_eq(db_open(path, DB_WRITE, &db, &err), STATUS_OK, "%s", err.text);
	cr_assert_eq(db_exec(db, sql, &err), STATUS_OK, "%s", err.text);
	db_close(db);
	open_store();
}

static const struct {
	const char *sql;
	uint64_t bad;
	const char *fault;
} tamperings[] = {
	{"UPDATE journal SET body = x'0801' WHERE sequence = 4", 4, "changed"},
	{"UPDATE journal SET client = '10.0.0.1' WHERE sequence = 3", 3, "changed: column client"},
	{"UPDATE journal SET time_us = 5 WHERE sequence = 2", 2, "changed: column time_us"},
	{"UPDATE journal SET notify = 1 - notify WHERE sequence = 5", 5, "changed: column notify"},
	{"DELETE FROM journal WHERE sequence = 3", 3, "missing"},
	{"UPDATE journal SET sequence = 100 WHERE sequence = 3; UPDATE journal SET sequence = 3 "
	 "WHERE sequence = 4; "
	 "UPDATE journal SET sequence = 4 WHERE sequence = 100",
		3, "changed"},
	{"UPDATE journal SET hash = zeroblob(32) WHERE sequence = 5", 5, "changed"},
};

Test(store, every_change_is_found_and_named)
{
	for (size_t i = 0; i < sizeof tamperings / sizeof *tamperings; i++) {
		if (i > 0) {
			teardown();
			setup();
		}
		submit(0, 6);
		tamper(tamperings[i].sql);
		verify(0, NULL);
		cr_expect_not(verification.intact, "%s", tamperings[i].sql);
		cr_expect_eq(verification.bad_sequence, tamperings[i].bad, "%s: %llu",
			tamperings[i].sql, (unsigned long long)verification.bad_sequence);
		cr_expect_eq(strncmp(verification.fault, tamperings[i].fault,
				     strlen(tamperings[i].fault)),
			0, "%s", verification.fault);
	}
}

Test(store, a_cut_tail_is_found_with_a_known_head)
{
	uint8_t hash[32];
	submit(0, 6);
	verify(0, NULL);
	memcpy(hash, verification.head_hash, sizeof hash);
	tamper("DELETE FROM journal WHERE sequence = 6");
	verify(0, NULL);
	cr_expect(verification.intact, "the chain alone cannot tell");
	verify(6, hash);
	cr_expect_not(verification.intact);
	cr_expect_eq(verification.bad_sequence, 6);
}

Test(store, a_second_server_is_refused)
{
	struct store *second = NULL;
	struct error err = {0};
	cr_expect_eq(store_open(path, loop, &second, &err), STATUS_FAILED_PRECONDITION);
	cr_expect_not_null(strstr(err.text, "another posternd"), "%s", err.text);
}

Test(store, a_newer_schema_is_refused)
{
	struct error err = {0};
	struct sqlite3 *db = NULL;
	store_close(store);
	store = NULL;
	cr_assert_eq(db_open(path, DB_WRITE, &db, &err), STATUS_OK);
	cr_assert_eq(db_exec(db, "PRAGMA user_version = 999", &err), STATUS_OK);
	db_close(db);
	cr_expect_eq(store_open(path, loop, &store, &err), STATUS_FAILED_PRECONDITION);
	cr_expect_not_null(strstr(err.text, "999"), "%s", err.text);
}
