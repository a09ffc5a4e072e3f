/* What the tests of the store share: a database in a folder of its own, a loop, and commits that
 * wait for their answer. */
#ifndef POSTERN_TESTS_UNIT_SERVER_STORE_FIXTURE_H
#define POSTERN_TESTS_UNIT_SERVER_STORE_FIXTURE_H

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/loop.h"
#include "server/store/record.h"
#include "server/store/sqlite.h"
#include "server/store/store.h"

#define FIXTURE_DEADLINE_US 20000000

struct fixture {
	char dir[64], path[160];
	struct loop *loop;
	struct store *store;
};

struct answer {
	unsigned calls;
	uint64_t first_sequence;
	struct error err;
};

static inline void fixture_open(struct fixture *fixture)
{
	struct error err = {0};
	cr_assert_eq(store_open(fixture->path, fixture->loop, &fixture->store, &err), STATUS_OK,
		"%s", err.text);
}

static inline void fixture_close(struct fixture *fixture)
{
	store_close(fixture->store);
	fixture->store = NULL;
}

static inline void fixture_begin_in(struct fixture *fixture, const char *parent)
{
	struct error err = {0};
	memset(fixture, 0, sizeof *fixture);
	snprintf(fixture->dir, sizeof fixture->dir, "%s/postern-store-XXXXXX", parent);
	cr_assert_not_null(mkdtemp(fixture->dir));
	snprintf(fixture->path, sizeof fixture->path, "%s/postern.db", fixture->dir);
	cr_assert_eq(loop_new(&fixture->loop, &err), STATUS_OK, "%s", err.text);
	cr_assert_eq(store_create(fixture->path, &err), STATUS_OK, "%s", err.text);
	fixture_open(fixture);
}

static inline void fixture_begin(struct fixture *fixture)
{
	fixture_begin_in(fixture, "/tmp");
}

static inline void fixture_end(struct fixture *fixture)
{
	fixture_close(fixture);
	loop_free(fixture->loop);
	DIR *dir = opendir(fixture->dir);
	for (struct dirent *file = dir ? readdir(dir) : NULL; file; file = readdir(dir))
		if (file->d_name[0] != '.')
			unlinkat(dirfd(dir), file->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(fixture->dir);
}

static inline void fixture_wait(struct fixture *fixture, const unsigned *calls, unsigned wanted)
{
	int64_t deadline = clock_mono_us() + FIXTURE_DEADLINE_US;
	while (*calls < wanted) {
		cr_assert_lt(clock_mono_us(), deadline, "no answer");
		loop_step(fixture->loop, 100);
	}
}

static inline void fixture_answered(void *arg, uint64_t first_sequence, const struct error *err)
{
	struct answer *answer = arg;
	answer->calls++;
	answer->first_sequence = first_sequence;
	answer->err = *err;
}

static inline struct entry fixture_entry(enum entry_kind kind)
{
	struct entry entry = {.time_us = clock_real_us(), .kind = kind};
	return entry;
}

/* Submits and waits; the status of the commit. */
static inline enum status fixture_commit(
	struct fixture *fixture, struct store_txn *txn, struct answer *ret_answer)
{
	struct answer answer = {0};
	cr_assert_not_null(txn);
	store_submit(fixture->store, txn, fixture_answered, &answer);
	fixture_wait(fixture, &answer.calls, 1);
	if (ret_answer)
		*ret_answer = answer;
	return answer.err.status;
}

static inline enum status fixture_commit_entry(
	struct fixture *fixture, const struct entry *entry, struct answer *ret_answer)
{
	struct store_txn *txn = store_txn_new(fixture->store);
	store_txn_entry(txn, entry);
	return fixture_commit(fixture, txn, ret_answer);
}

static inline void fixture_add_gateway(struct fixture *fixture, const char *name)
{
	struct store_txn *txn = store_txn_new(fixture->store);
	struct gateway_record gateway = {.added_us = 1};
	snprintf(gateway.name, sizeof gateway.name, "%s", name);
	store_txn_put_gateway(txn, &gateway);
	cr_assert_eq(fixture_commit(fixture, txn, NULL), STATUS_OK);
}

/* Behind the store's back. */
static inline void fixture_tamper(struct fixture *fixture, const char *sql)
{
	struct sqlite3 *db = NULL;
	struct error err = {0};
	cr_assert_eq(db_open(fixture->path, DB_WRITE, &db, &err), STATUS_OK, "%s", err.text);
	cr_assert_eq(db_exec(db, sql, &err), STATUS_OK, "%s: %s", sql, err.text);
	db_close(db);
}

static inline int64_t fixture_number(struct fixture *fixture, const char *sql)
{
	struct sqlite3 *db = NULL;
	struct error err = {0};
	int64_t number = -1;
	cr_assert_eq(db_open(fixture->path, DB_READ, &db, &err), STATUS_OK, "%s", err.text);
	cr_assert_eq(db_number(db, sql, &number, &err), STATUS_OK, "%s: %s", sql, err.text);
	db_close(db);
	return number;
}

struct verified {
	unsigned calls;
	struct store_verification result;
	struct error err;
};

static inline void fixture_verified(
	void *arg, const struct store_verification *result, const struct error *err)
{
	struct verified *verified = arg;
	verified->calls++;
	verified->result = *result;
	verified->err = *err;
}

static inline struct store_verification fixture_verify(
	struct fixture *fixture, uint64_t known_sequence, const uint8_t *known_hash)
{
	struct verified verified = {0};
	store_verify(fixture->store, known_sequence, known_hash, fixture_verified, &verified);
	fixture_wait(fixture, &verified.calls, 1);
	cr_assert_eq(verified.err.status, STATUS_OK, "%s", verified.err.text);
	return verified.result;
}

#endif
