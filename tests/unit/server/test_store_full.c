/* No journal, no permission: a full or failing disk refuses clearly, changes nothing, and is
 * forgiven when it works again. */
#include "tests/unit/server/store_fixture.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

static uint8_t context[ENTRY_CONTEXT_MAX];

static struct entry bulky(enum entry_kind kind)
{
	struct entry entry = fixture_entry(kind);
	entry.context = context;
	entry.context_size = sizeof context;
	return entry;
}

/* Commits until the journal refuses; how many were taken. */
static unsigned fill(struct fixture *fixture, struct answer *ret_refusal)
{
	struct entry entry = bulky(ENTRY_GRANTED);
	for (unsigned i = 0; i < 100000; i++)
		if (fixture_commit_entry(fixture, &entry, ret_refusal))
			return i;
	cr_assert_fail("the disk does not become full");
	return 0;
}

static void expect_journal_unavailable(const struct answer *answer)
{
	cr_expect_eq(answer->err.status, STATUS_UNAVAILABLE, "%d: %s", answer->err.status,
		answer->err.text);
	cr_expect_eq(answer->err.reason, REASON_JOURNAL_UNAVAILABLE);
	cr_expect_gt(strlen(answer->err.text), 10);
}

static void set_limit(rlim_t bytes)
{
	struct rlimit limit = {.rlim_cur = bytes, .rlim_max = RLIM_INFINITY};
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Writes fail with EFBIG: an I/O error. */
Test(store_full, an_io_error_refuses_and_passes, .timeout = 60)
{
	struct fixture fixture;
	struct answer refusal, answer;
	signal(SIGXFSZ, SIG_IGN);
	fixture_begin(&fixture);
	set_limit(400000);
	unsigned taken = fill(&fixture, &refusal);
	cr_expect_gt(taken, 3);
	expect_journal_unavailable(&refusal);
	cr_expect_eq(store_head(fixture.store), taken);
	struct entry entry = bulky(ENTRY_DENIED);
	cr_expect_eq(fixture_commit_entry(&fixture, &entry, &answer), STATUS_UNAVAILABLE);
	struct store_verification result = fixture_verify(&fixture, 0, NULL);
	cr_expect(result.intact, "%s", result.fault);
	cr_expect_eq(result.entries, taken);
	set_limit(RLIM_INFINITY);
	cr_expect_eq(
		fixture_commit_entry(&fixture, &entry, &answer), STATUS_OK, "%s", answer.err.text);
	cr_expect_eq(answer.first_sequence, taken + 1, "no gap");
	result = fixture_verify(&fixture, 0, NULL);
	cr_expect(result.intact, "%s", result.fault);
	cr_expect_eq(result.entries, taken + 1);
	fixture_end(&fixture);
}

static struct gateway_record gateway(const char *labels)
{
	struct gateway_record record = {.name = "gw1"};
	snprintf(record.labels, sizeof record.labels, "%s", labels);
	return record;
}

/* Leaves the log room for a small transaction, and not for a large one. */
static void leave_little_room(struct fixture *fixture)
{
	struct stat st;
	char log[200];
	struct entry tiny = fixture_entry(ENTRY_GRANTED);
	cr_assert_eq(fixture_commit_entry(fixture, &tiny, NULL), STATUS_OK);
	snprintf(log, sizeof log, "%s-wal", fixture->path);
	cr_assert_eq(stat(log, &st), 0);
	set_limit((rlim_t)st.st_size + 8 * 4120);
	cr_assert_eq(fixture_commit_entry(fixture, &tiny, NULL), STATUS_OK, "a small one fits");
}

/* Facts wait for the disk, in order: nothing that was submitted later is written before them, even
 * if it would fit, so that the newest state stays. */
Test(store_full, facts_wait_and_keep_their_order, .timeout = 60)
{
	struct fixture fixture;
	struct answer first = {0}, second = {0}, small, large;
	struct gateway_record old = gateway("old"), new = gateway("new");
	signal(SIGXFSZ, SIG_IGN);
	fixture_begin(&fixture);
	leave_little_room(&fixture);
	uint64_t head = store_head(fixture.store);
	struct store_txn *txn = store_txn_new_fact(fixture.store);
	struct entry entry = bulky(ENTRY_ESTABLISHED);
	for (int i = 0; i < 1200; i++) /* more than one group takes */
		store_txn_entry(txn, &entry);
	store_txn_put_gateway(txn, &old);
	store_submit(fixture.store, txn, fixture_answered, &first);
	txn = store_txn_new_fact(fixture.store);
	store_txn_put_gateway(txn, &new);
	store_submit(fixture.store, txn, fixture_answered, &second);
	struct entry tiny = fixture_entry(ENTRY_GRANTED);
	for (int i = 0; i < 3; i++) {
		cr_expect_neq(fixture_commit_entry(&fixture, &tiny, &small), STATUS_OK,
			"it overtook a fact");
		expect_journal_unavailable(&small);
	}
	cr_expect_eq(first.calls + second.calls, 0, "a fact was given up, or overtaken by another");
	cr_expect_eq(fixture_number(&fixture, "SELECT count(*) FROM gateways"), 0);
	set_limit(RLIM_INFINITY);
	fixture_wait(&fixture, &first.calls, 1); /* by itself, without another submission */
	fixture_wait(&fixture, &second.calls, 1);
	cr_expect_eq(first.err.status, STATUS_OK);
	cr_expect_eq(first.first_sequence, head + 1);
	cr_expect_eq(second.err.status, STATUS_OK);
	cr_expect_eq(
		fixture_number(&fixture, "SELECT count(*) FROM gateways WHERE labels = 'new'"), 1);
	cr_expect_eq(fixture_commit_entry(&fixture, &tiny, &large), STATUS_OK);
	cr_expect_eq(large.first_sequence, head + 1201);
	cr_expect(fixture_verify(&fixture, 0, NULL).intact);
	struct store_stats stats;
	store_stats(fixture.store, &stats);
	cr_expect_eq(stats.backlog, 0);
	fixture_end(&fixture);
}

/* At the end of the server a fact that the disk still refuses is answered, not lost in silence. */
Test(store_full, close_answers_facts_that_still_wait, .timeout = 60)
{
	struct fixture fixture;
	struct answer fact = {0}, refusal;
	signal(SIGXFSZ, SIG_IGN);
	fixture_begin(&fixture);
	set_limit(300000);
	unsigned taken = fill(&fixture, &refusal);
	for (int i = 0; i < 3; i++) {
		struct store_txn *txn = store_txn_new_fact(fixture.store);
		struct entry entry = bulky(ENTRY_ESTABLISHED);
		store_txn_entry(txn, &entry);
		store_submit(fixture.store, txn, fixture_answered, &fact);
	}
	fixture_close(&fixture);
	cr_expect_eq(fact.calls, 3);
	expect_journal_unavailable(&fact);
	set_limit(RLIM_INFINITY);
	fixture_open(&fixture);
	cr_expect_eq(store_head(fixture.store), taken);
	cr_expect(fixture_verify(&fixture, 0, NULL).intact);
	fixture_end(&fixture);
}

static off_t free_bytes_of(const char *dir)
{
	char path[128];
	off_t size = 0;
	snprintf(path, sizeof path, "%s/filler", dir);
	int fd = open(path, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
	cr_assert_geq(fd, 0);
	for (ssize_t n = 1; n > 0; size += n > 0 ? n : 0)
		n = write(fd, context, sizeof context);
	close(fd);
	return size;
}

/* A really full disk: a small tmpfs in a mount namespace of this test's own. */
Test(store_full, a_full_file_system_refuses_and_recovers, .timeout = 60)
{
	struct fixture fixture;
	struct answer refusal, answer;
	char mounted[] = "/tmp/postern-full-XXXXXX", filler[160];
	cr_assert_not_null(mkdtemp(mounted));
	if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
		mount("tmpfs", mounted, "tmpfs", 0, "size=2m,mode=0700") != 0) {
		rmdir(mounted);
		cr_skip_test("no right to mount a tmpfs");
	}
	fixture_begin_in(&fixture, mounted);
	snprintf(filler, sizeof filler, "%s/filler", fixture.dir);
	cr_expect_gt(free_bytes_of(fixture.dir), 500000);
	unsigned taken = fill(&fixture, &refusal);
	expect_journal_unavailable(&refusal);
	cr_expect_not_null(strstr(refusal.err.text, "full"), "%s", refusal.err.text);
	struct store_verification result = fixture_verify(&fixture, 0, NULL);
	cr_expect(result.intact, "%s", result.fault);
	cr_expect_eq(result.entries, taken);
	unlink(filler);
	struct entry entry = bulky(ENTRY_GRANTED);
	cr_expect_eq(
		fixture_commit_entry(&fixture, &entry, &answer), STATUS_OK, "%s", answer.err.text);
	cr_expect_eq(answer.first_sequence, taken + 1);
	taken += 1 + fill(&fixture, &refusal);
	expect_journal_unavailable(&refusal);
	fixture_close(&fixture);
	fixture_open(&fixture); /* a restart on the full disk */
	result = fixture_verify(&fixture, 0, NULL);
	cr_expect(result.intact, "%s", result.fault);
	cr_expect_eq(result.entries, taken);
	fixture_end(&fixture);
	umount(mounted);
	rmdir(mounted);
}
