/* A crash at any moment (kill -9) leaves a chain that verifies and everything that was acknowledged
 * (I1, I9).
 *
 * A child writes and tells through a pipe what has been committed; it is killed at a random moment;
 * the parent opens the database again. What the child told must be there; a little more may be. */
#include "tests/unit/server/store_fixture.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#define ROUNDS 25
#define BEFORE_KILL_MAX_MS 120

struct child {
	struct fixture *fixture;
	int pipe;
	uint64_t next;
};

static void submit_next(struct child *child);

static void told(void *arg, uint64_t first_sequence, const struct error *err)
{
	struct child *child = arg;
	uint64_t last = first_sequence + 2;
	if (err->status || write(child->pipe, &last, sizeof last) != (ssize_t)sizeof last)
		_exit(3);
	submit_next(child);
}

static void submit_next(struct child *child)
{
	struct store_txn *txn = store_txn_new(child->fixture->store);
	struct entry entry = {.time_us = (int64_t)++child->next, .kind = ENTRY_GRANTED};
	struct grant_record grant = {
		.id = id_new(), .gateway = "gw1", .state = 2, .created_us = entry.time_us};
	struct id grant_id = grant.id;
	if (!txn)
		_exit(4);
	entry.grant = grant_id;
	snprintf(entry.gateway, sizeof entry.gateway, "gw1");
	for (int i = 0; i < 3; i++)
		store_txn_entry(txn, &entry);
	store_txn_put_grant(txn, &grant);
	store_submit(child->fixture->store, txn, told, child);
}

static void be_killed(struct fixture *fixture, int pipe)
{
	struct child child = {.fixture = fixture, .pipe = pipe};
	struct error err;
	if (loop_new(&fixture->loop, &err) ||
		store_open(fixture->path, fixture->loop, &fixture->store, &err))
		_exit(2);
	for (int i = 0; i < 40; i++)
		submit_next(&child);
	for (;;)
		loop_step(fixture->loop, -1);
}

static uint64_t last_told(int pipe)
{
	uint64_t last = 0, one;
	while (read(pipe, &one, sizeof one) == (ssize_t)sizeof one)
		last = one > last ? one : last;
	return last;
}

Test(store_crash, a_kill_at_any_moment_loses_nothing_acknowledged, .timeout = 60)
{
	struct fixture fixture;
	unsigned seed = (unsigned)time(NULL);
	uint64_t before = 0, told_in_all = 0;
	fixture_begin(&fixture);
	fixture_add_gateway(&fixture, "gw1");
	for (int round = 0; round < ROUNDS; round++) {
		int pipes[2], status;
		fixture_close(&fixture);
		loop_free(fixture.loop);
		cr_assert_eq(pipe(pipes), 0);
		pid_t pid = fork();
		cr_assert_geq(pid, 0);
		if (pid == 0) {
			close(pipes[0]);
			be_killed(&fixture, pipes[1]);
		}
		close(pipes[1]);
		seed = seed * 1103515245 + 12345;
		struct timespec moment = {
			.tv_nsec = (long)(seed / 65536 % (BEFORE_KILL_MAX_MS * 1000)) * 1000};
		nanosleep(&moment, NULL); /* allowed: a random moment is the test */
		cr_assert_eq(kill(pid, SIGKILL), 0);
		cr_assert_eq(waitpid(pid, &status, 0), pid);
		cr_assert(
			WIFSIGNALED(status), "the writer ended by itself: %d", WEXITSTATUS(status));
		uint64_t last = last_told(pipes[0]);
		close(pipes[0]);
		struct error err;
		cr_assert_eq(loop_new(&fixture.loop, &err), STATUS_OK);
		fixture_open(&fixture);
		struct store_verification result = fixture_verify(&fixture, 0, NULL);
		cr_assert(result.intact, "round %d: entry %llu: %s", round,
			(unsigned long long)result.bad_sequence, result.fault);
		cr_assert_geq(result.head_sequence, last, "round %d: acknowledged entries are gone",
			round);
		cr_assert_geq(result.head_sequence, before);
		cr_assert_eq(result.head_sequence % 3, 0, "half a transaction");
		cr_assert_eq(fixture_number(&fixture, "SELECT count(*) FROM grants") * 3,
			(int64_t)result.head_sequence);
		before = result.head_sequence;
		told_in_all = last > told_in_all ? last : told_in_all;
	}
	cr_expect_gt(told_in_all, 0, "the writer was always killed before its first commit");
	cr_expect_eq(fixture_number(&fixture, "SELECT count(*) FROM journal_zones"),
		(int64_t)(before / 1024));
	fixture_end(&fixture);
}
