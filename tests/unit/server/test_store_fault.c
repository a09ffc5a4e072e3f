/* I1 at the system calls: nothing is acknowledged before it is synced, and a write or sync that
 * fails, the n-th for n from 1 until none is left to fail, refuses or is repaired, but never lies.
 */
#include "tests/unit/server/store_fixture.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>

/* SQLite's calls arrive here, because the program's symbols come before the C library's. */
static atomic_uint syncs, calls;
static atomic_uint fail_at; /* 0 = never */
static atomic_bool fail_on; /* and all calls behind it */

static bool fails(void)
{
	unsigned call = ++calls;
	bool failing = fail_at && (call == fail_at || (fail_on && call > fail_at));
	if (failing)
		errno = EIO;
	return failing;
}

int fdatasync(int fd)
{
	int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
	if (fails())
		return -1;
	int rc = real(fd);
	syncs++;
	return rc;
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at)
{
	ssize_t (*real)(int, const void *, size_t, off64_t) =
		(ssize_t(*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
	return fails() ? -1 : real(fd, bytes, size, at);
}

static void arm(unsigned at, bool on)
{
	calls = 0;
	fail_on = on;
	fail_at = at;
}

struct ordered {
	struct answer answer;
	unsigned syncs_before;
	bool synced;
};

static void on_done(void *arg, uint64_t first_sequence, const struct error *err)
{
	struct ordered *ordered = arg;
	ordered->synced = syncs > ordered->syncs_before;
	fixture_answered(&ordered->answer, first_sequence, err);
}

Test(store_fault, nothing_is_acknowledged_before_it_is_synced)
{
	struct fixture fixture;
	fixture_begin(&fixture);
	for (int i = 0; i < 200; i++) {
		struct ordered ordered = {.syncs_before = syncs};
		struct entry entry = fixture_entry(ENTRY_GRANTED);
		struct store_txn *txn = store_txn_new(fixture.store);
		store_txn_entry(txn, &entry);
		store_submit(fixture.store, txn, on_done, &ordered);
		fixture_wait(&fixture, &ordered.answer.calls, 1);
		cr_assert_eq(ordered.answer.err.status, STATUS_OK);
		cr_assert(ordered.synced, "commit %d was acknowledged without a sync", i);
	}
	fixture_end(&fixture);
}

/* Three single ones, then a group of ten; how many were acknowledged. */
static unsigned attempt(struct fixture *fixture)
{
	struct answer answers[13] = {0};
	unsigned good = 0;
	for (int i = 0; i < 13; i++) {
		struct entry entry = fixture_entry(ENTRY_GRANTED);
		struct store_txn *txn = store_txn_new(fixture->store);
		entry.count = (uint64_t)i;
		store_txn_entry(txn, &entry);
		store_submit(fixture->store, txn, fixture_answered, &answers[i]);
		if (i < 3)
			fixture_wait(fixture, &answers[i].calls, 1);
	}
	for (int i = 0; i < 13; i++) {
		fixture_wait(fixture, &answers[i].calls, 1);
		good += answers[i].err.status == STATUS_OK;
		if (answers[i].err.status)
			cr_assert_eq(answers[i].err.reason, REASON_JOURNAL_UNAVAILABLE, "%s",
				answers[i].err.text);
	}
	return good;
}

static void expect_whole(struct fixture *fixture, unsigned acknowledged, unsigned n)
{
	struct store_verification result = fixture_verify(fixture, 0, NULL);
	cr_assert(result.intact, "call %u: %s", n, result.fault);
	cr_assert_eq(result.entries, acknowledged, "call %u: %llu entries, %u acknowledged", n,
		(unsigned long long)result.entries, acknowledged);
}

static void fail_each(bool on)
{
	for (unsigned n = 1;; n++) {
		struct fixture fixture;
		cr_assert_lt(n, 1000);
		fixture_begin(&fixture);
		arm(n, on);
		unsigned good = attempt(&fixture);
		bool met = calls >= n;
		arm(0, false);
		if (on && met)
			cr_assert_lt(good, 13, "call %u failed, and all after it, unnoticed", n);
		expect_whole(&fixture, good, n);
		struct entry entry = fixture_entry(ENTRY_DENIED);
		struct answer answer;
		cr_assert_eq(fixture_commit_entry(&fixture, &entry, &answer), STATUS_OK,
			"call %u: %s", n, answer.err.text);
		cr_assert_eq(answer.first_sequence, good + 1);
		fixture_close(&fixture);
		fixture_open(&fixture);
		expect_whole(&fixture, good + 1, n);
		fixture_end(&fixture);
		if (!met)
			return;
	}
}

Test(store_fault, each_call_fails_once, .timeout = 100)
{
	fail_each(false);
}

Test(store_fault, each_call_fails_and_all_after_it, .timeout = 100)
{
	fail_each(true);
}

/* A checkpoint that fails loses nothing: the log keeps what could not be moved. */
Test(store_fault, checkpoints_fail, .timeout = 100)
{
	struct fixture fixture;
	struct entry entry = fixture_entry(ENTRY_GRANTED);
	unsigned acknowledged = 0, seed = 5;
	fixture_begin(&fixture);
	for (int i = 0; i < 1500; i++) {
		struct answer answer;
		seed = seed * 1103515245 + 12345;
		arm(seed / 65536 % 23 == 0 ? 1 + seed / 1048576 % 12 : 0, false);
		acknowledged += fixture_commit_entry(&fixture, &entry, &answer) == STATUS_OK;
	}
	arm(0, false);
	cr_expect_gt(acknowledged, 1000);
	expect_whole(&fixture, acknowledged, 0);
	fixture_close(&fixture);
	fixture_open(&fixture);
	expect_whole(&fixture, acknowledged, 0);
	fixture_end(&fixture);
}
