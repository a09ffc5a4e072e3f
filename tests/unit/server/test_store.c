/* The store: atomic commits in order, entries before completions, reads beside them, and refusals
 * at its door. */
#include "tests/unit/server/store_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "server/store/migration.h"

/* ---- commits ---- */

struct order {
	unsigned entries, done;
	uint64_t last;
	bool in_order, entries_first;
};

static void saw_entries(void *arg, const struct entry *entries, size_t count)
{
	struct order *order = arg;
	for (size_t i = 0; i < count; i++) {
		order->in_order &= entries[i].sequence == order->last + 1;
		order->last = entries[i].sequence;
		order->entries++;
	}
}

static void saw_done(void *arg, uint64_t first_sequence, const struct error *err)
{
	struct order *order = arg;
	order->done++;
	order->in_order &=
		err->status == STATUS_OK && first_sequence == 2 * (uint64_t)order->done - 1;
	order->entries_first &= order->entries >= 2 * order->done;
}

/* I1: a completion means that it is on disk, and a subscriber has seen the entry before anybody
 * acts on it. */
Test(store, transactions_commit_in_order_of_submission)
{
	struct fixture fixture;
	struct order order = {.in_order = true, .entries_first = true};
	fixture_begin(&fixture);
	store_on_committed(fixture.store, saw_entries, &order);
	for (unsigned i = 0; i < 3000; i++) {
		struct store_txn *txn = store_txn_new(fixture.store);
		struct entry entry = fixture_entry(ENTRY_GRANTED);
		cr_assert_not_null(txn);
		entry.count = i;
		store_txn_entry(txn, &entry);
		entry.kind = ENTRY_INSTALLED;
		store_txn_entry(txn, &entry);
		store_submit(fixture.store, txn, saw_done, &order);
	}
	fixture_wait(&fixture, &order.done, 3000);
	cr_expect(order.in_order);
	cr_expect(order.entries_first);
	cr_expect_eq(order.entries, 6000);
	cr_expect_eq(store_head(fixture.store), 6000);
	struct store_stats stats;
	store_stats(fixture.store, &stats);
	cr_expect_eq(stats.transactions, 3000);
	cr_expect_eq(stats.entries, 6000);
	cr_expect_lt(stats.commits, 1000, "%llu commits for 3000 transactions: no group commit",
		(unsigned long long)stats.commits);
	cr_expect_eq(stats.backlog, 0);
	struct store_verification result = fixture_verify(&fixture, 0, NULL);
	cr_expect(result.intact, "%s", result.fault);
	cr_expect_eq(result.entries, 6000);
	fixture_end(&fixture);
}

/* A transaction that fails takes no other along, has no sequence, and leaves no gap. */
Test(store, a_bad_transaction_fails_alone)
{
	struct fixture fixture;
	struct answer answers[9] = {0};
	struct rule_record rule = {.name = "twice", .type = 1};
	fixture_begin(&fixture);
	for (int i = 0; i < 9; i++) {
		struct store_txn *txn = store_txn_new(fixture.store);
		struct entry entry = fixture_entry(ENTRY_RULE_ADDED);
		if (i % 3 != 0) {
			snprintf(rule.name, sizeof rule.name, "rule %d", i);
			store_txn_put_rule(txn, &rule);
		} else {
			snprintf(rule.name, sizeof rule.name, "twice");
			store_txn_entry(txn, &entry);
			store_txn_put_rule(txn, &rule);
		}
		store_txn_entry(txn, &entry);
		store_submit(fixture.store, txn, fixture_answered, &answers[i]);
	}
	for (int i = 0; i < 9; i++)
		fixture_wait(&fixture, &answers[i].calls, 1);
	cr_expect_eq(answers[0].err.status, STATUS_OK);
	cr_expect_eq(answers[3].err.status, STATUS_ALREADY_EXISTS);
	cr_expect_eq(answers[6].err.status, STATUS_ALREADY_EXISTS);
	uint64_t expected[] = {1, 3, 4, 0, 5, 6, 0, 7, 8};
	for (int i = 0; i < 9; i++)
		if (expected[i])
			cr_expect_eq(answers[i].first_sequence, expected[i], "%d: %llu", i,
				(unsigned long long)answers[i].first_sequence);
	cr_expect_eq(store_head(fixture.store), 8);
	cr_expect_eq(fixture_number(&fixture, "SELECT count(*) FROM rules"), 8);
	cr_expect(fixture_verify(&fixture, 0, NULL).intact);
	fixture_end(&fixture);
}

Test(store, a_reference_to_no_gateway_is_refused)
{
	struct fixture fixture;
	struct answer answer;
	struct grant_record grant = {.id = id_new(), .gateway = "nowhere", .state = 1};
	fixture_begin(&fixture);
	struct store_txn *txn = store_txn_new(fixture.store);
	store_txn_put_grant(txn, &grant);
	cr_expect_eq(fixture_commit(&fixture, txn, &answer), STATUS_FAILED_PRECONDITION);
	cr_expect_not_null(strstr(answer.err.text, "gateway"), "%s", answer.err.text);
	fixture_end(&fixture);
}

Test(store, what_cannot_be_encoded_fails_its_transaction_only)
{
	struct fixture fixture;
	static uint8_t context[ENTRY_CONTEXT_MAX + 1];
	struct entry entry = fixture_entry(ENTRY_GRANTED);
	fixture_begin(&fixture);
	entry.context = context;
	entry.context_size = sizeof context;
	cr_expect_eq(fixture_commit_entry(&fixture, &entry, NULL), STATUS_INVALID_ARGUMENT);
	entry.context_size = ENTRY_CONTEXT_MAX;
	struct answer answer;
	cr_expect_eq(fixture_commit_entry(&fixture, &entry, &answer), STATUS_OK);
	cr_expect_eq(answer.first_sequence, 1);
	fixture_end(&fixture);
}

Test(store, close_commits_what_was_submitted_and_answers_everything)
{
	struct fixture fixture;
	struct answer answer = {0};
	struct verified verified = {0};
	struct entry entry = fixture_entry(ENTRY_SERVER_STOPPED);
	fixture_begin(&fixture);
	for (int i = 0; i < 100; i++) {
		struct store_txn *txn =
			i % 2 ? store_txn_new_fact(fixture.store) : store_txn_new(fixture.store);
		store_txn_entry(txn, &entry);
		store_submit(fixture.store, txn, fixture_answered, &answer);
		store_verify(fixture.store, 0, NULL, fixture_verified, &verified);
	}
	fixture_close(&fixture);
	cr_expect_eq(answer.calls, 100);
	cr_expect_eq(verified.calls, 100);
	cr_expect_eq(answer.err.status, STATUS_OK);
	cr_expect_eq(fixture_number(&fixture, "SELECT count(*) FROM journal"), 100);
	fixture_open(&fixture);
	cr_expect_eq(store_head(fixture.store), 100);
	fixture_end(&fixture);
}

struct late {
	struct fixture *fixture;
	struct answer answer;
};

static void submit_late(void *arg, uint64_t first_sequence, const struct error *err)
{
	struct late *late = arg;
	struct entry entry = fixture_entry(ENTRY_SERVER_STOPPED);
	struct store_txn *txn = store_txn_new_fact(late->fixture->store);
	(void)first_sequence;
	(void)err;
	store_txn_entry(txn, &entry);
	store_submit(late->fixture->store, txn, fixture_answered, &late->answer);
}

Test(store, what_a_completion_submits_while_closing_is_refused)
{
	struct fixture fixture;
	struct late late = {.fixture = &fixture};
	fixture_begin(&fixture);
	store_submit(fixture.store, store_txn_new(fixture.store), submit_late, &late);
	store_close(fixture.store);
	fixture.store = NULL;
	cr_expect_eq(late.answer.calls, 1);
	cr_expect_eq(late.answer.err.status, STATUS_UNAVAILABLE);
	fixture_end(&fixture);
}

/* ---- doors of the store ---- */

Test(store, create_refuses_an_existing_file)
{
	struct fixture fixture;
	struct error err;
	struct stat st;
	fixture_begin(&fixture);
	cr_expect_eq(store_create(fixture.path, &err), STATUS_ALREADY_EXISTS);
	cr_assert_eq(stat(fixture.path, &st), 0);
	cr_expect_eq(st.st_mode & 0777, 0600);
	fixture_end(&fixture);
}

Test(store, a_second_server_is_refused)
{
	struct fixture fixture;
	struct store *second = NULL;
	struct error err;
	fixture_begin(&fixture);
	cr_expect_eq(
		store_open(fixture.path, fixture.loop, &second, &err), STATUS_FAILED_PRECONDITION);
	cr_expect_not_null(strstr(err.text, "another posternd"), "%s", err.text);
	cr_expect_null(second);
	struct entry entry = fixture_entry(ENTRY_SERVER_STARTED);
	cr_expect_eq(fixture_commit_entry(&fixture, &entry, NULL), STATUS_OK);
	fixture_end(&fixture);
}

Test(store, a_newer_schema_is_refused_and_both_numbers_named)
{
	struct fixture fixture;
	struct error err;
	char numbers[2][16];
	fixture_begin(&fixture);
	fixture_close(&fixture);
	fixture_tamper(&fixture, "PRAGMA user_version = 4711");
	cr_expect_eq(store_open(fixture.path, fixture.loop, &fixture.store, &err),
		STATUS_FAILED_PRECONDITION);
	snprintf(numbers[0], sizeof numbers[0], "%d", 4711);
	snprintf(numbers[1], sizeof numbers[1], "knows %u", migration_count);
	cr_expect_not_null(strstr(err.text, numbers[0]), "%s", err.text);
	cr_expect_not_null(strstr(err.text, numbers[1]), "%s", err.text);
	fixture_end(&fixture);
}

Test(store, what_is_no_database_of_ours_is_refused_and_left_alone)
{
	struct fixture fixture;
	struct error err;
	fixture_begin(&fixture);
	fixture_close(&fixture);
	fixture_tamper(&fixture, "PRAGMA application_id = 0; PRAGMA user_version = 0");
	cr_expect_eq(store_open(fixture.path, fixture.loop, &fixture.store, &err),
		STATUS_FAILED_PRECONDITION, "%s", err.text);
	unlink(fixture.path);
	cr_expect_eq(
		store_open(fixture.path, fixture.loop, &fixture.store, &err), STATUS_NOT_FOUND);
	cr_expect_not_null(strstr(err.text, "posternd init"), "%s", err.text);
	cr_expect_neq(access(fixture.path, F_OK), 0, "open must not make one");
	int fd = open(fixture.path, O_CREAT | O_WRONLY, 0600);
	for (int i = 0; i < 300; i++)
		cr_assert_eq(write(fd, "this is a text file\n", 20), 20);
	close(fd);
	cr_expect_eq(store_open(fixture.path, fixture.loop, &fixture.store, &err), STATUS_DATA_LOSS,
		"%s", err.text);
	fixture_end(&fixture);
}

Test(store, a_fresh_database_has_the_default_rules)
{
	struct fixture fixture;
	fixture_begin(&fixture);
	cr_expect_eq(fixture_number(&fixture, "SELECT count(*) FROM rules"), 1);
	cr_expect_eq(
		fixture_number(&fixture,
			"SELECT count(*) FROM rules WHERE type = 2 AND deny = 0 AND protocol = ''"),
		1);
	cr_expect_eq(fixture_number(&fixture, "PRAGMA user_version"), migration_count);
	fixture_end(&fixture);
}
