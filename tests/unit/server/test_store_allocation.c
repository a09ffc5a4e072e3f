/* Every allocation of the store fails once, the n-th for n from 1 until none is left to fail.
 * Linked with --wrap. */
#include "server/journal/digest.h"
#include "tests/unit/failing_allocator.h"
#include "tests/unit/server/store_fixture.h"

static bool allocation_fails(void)
{
	return is_the_nth();
}

static struct fixture fixture;

/* False: it was refused, and said why. */
static bool reopen(void)
{
	struct error err = {0};
	fixture_close(&fixture);
	if (store_open(fixture.path, fixture.loop, &fixture.store, &err) == STATUS_OK)
		return true;
	cr_assert_eq(err.status, STATUS_RESOURCE_EXHAUSTED, "%s", err.text);
	cr_assert_null(fixture.store);
	until_failure = 0;
	fixture_open(&fixture);
	return false;
}

static bool commit(void)
{
	static uint8_t context[100];
	struct entry entry = fixture_entry(ENTRY_GRANTED);
	struct grant_record grant = {.id = id_new(),
		.gateway = "gw1",
		.state = 1,
		.context = context,
		.context_size = sizeof context};
	struct addr remotes[2] = {{ADDR_IPV4, {10, 77, 2, 2}}, {ADDR_IPV4, {10, 77, 2, 3}}};
	struct rule_record rule = {.type = 1};
	static uint64_t number;
	struct revision_record revision = {
		.number = ++number, .document = context, .document_size = sizeof context};
	struct feed_record feed = {.name = "bogons",
		.content = context,
		.content_size = sizeof context,
		.held = context,
		.held_size = 1};
	struct entry applied = fixture_entry(ENTRY_POLICY_APPLIED);
	struct answer answer = {0};
	struct store_txn *txn = store_txn_new(fixture.store);
	if (!txn)
		return false;
	digest_of(context, sizeof context, revision.hash);
	applied.revision = number;
	memcpy(applied.document_hash, revision.hash, sizeof revision.hash);
	store_txn_entry(txn, &applied);
	store_txn_put_revision(txn, &revision);
	store_txn_put_feed(txn, &feed);
	entry.remotes = grant.remotes = remotes;
	entry.remote_count = grant.remote_count = 2;
	entry.context = context;
	entry.context_size = sizeof context;
	snprintf(rule.name, sizeof rule.name, "rule %d", rand() /* allowed: names that differ */);
	store_txn_entry(txn, &entry);
	store_txn_put_grant(txn, &grant);
	store_txn_put_rule(txn, &rule);
	store_submit(fixture.store, txn, fixture_answered, &answer);
	fixture_wait(&fixture, &answer.calls, 1);
	if (answer.err.status)
		cr_assert_eq(answer.err.status, STATUS_RESOURCE_EXHAUSTED, "%s", answer.err.text);
	return answer.err.status == STATUS_OK;
}

static void on_page(void *arg, const struct entry *entries, size_t count, uint64_t next_after,
	bool at_end, const struct error *err)
{
	(void)entries;
	(void)count;
	(void)next_after;
	(void)at_end;
	fixture_answered(arg, 0, err);
}

static bool read_journal(void)
{
	struct store_query query = {.gateway = ""};
	struct answer answer = {0};
	store_read(fixture.store, &query, on_page, &answer);
	fixture_wait(&fixture, &answer.calls, 1);
	return answer.err.status == STATUS_OK;
}

static void on_grants(
	void *arg, const struct grant_record *grants, size_t count, const struct error *err)
{
	(void)grants;
	(void)count;
	fixture_answered(arg, 0, err);
}

static bool read_grants_of_store(void)
{
	struct store_grant_query query = {.limit = 10};
	struct answer answer = {0};
	store_read_grants(fixture.store, &query, on_grants, &answer);
	fixture_wait(&fixture, &answer.calls, 1);
	return answer.err.status == STATUS_OK;
}

static void on_revisions(
	void *arg, const struct revision_record *revisions, size_t count, const struct error *err)
{
	(void)revisions;
	(void)count;
	fixture_answered(arg, 0, err);
}

static bool read_revision(void)
{
	struct store_revision_query query = {
		.number = (uint64_t)fixture_number(&fixture, "SELECT max(number) FROM revisions")};
	struct answer answer = {0};
	store_read_revisions(fixture.store, &query, on_revisions, &answer);
	fixture_wait(&fixture, &answer.calls, 1);
	return answer.err.status == STATUS_OK;
}

static void on_revision(void *arg, const struct revision_record *record)
{
	(void)arg;
	(void)record;
}

static void on_feed(void *arg, const struct feed_record *record)
{
	(void)arg;
	(void)record;
}

static void on_grant(void *arg, const struct grant_record *record)
{
	(void)arg;
	(void)record;
}

static bool load(void)
{
	struct store_visitor visitor = {
		.revision = on_revision, .feed = on_feed, .grant = on_grant};
	struct error err;
	return store_load(fixture.store, &visitor, &err) == STATUS_OK;
}

/* Out of memory is no proof of tampering: verification must say that it could not, not that the
 * journal is bad. */
static bool verify(void)
{
	struct verified verified = {0};
	store_verify(fixture.store, 0, NULL, fixture_verified, &verified);
	fixture_wait(&fixture, &verified.calls, 1);
	if (verified.err.status == STATUS_OK)
		cr_assert(verified.result.intact, "%s", verified.result.fault);
	return verified.err.status == STATUS_OK;
}

Test(store_allocation, each_fails_once, .timeout = 60)
{
	fixture_begin(&fixture);
	fixture_add_gateway(&fixture, "gw1");
	cr_expect_geq(fail_each("commit", commit), 1);
	cr_expect_geq(fail_each("read", read_journal), 1);
	cr_expect_geq(fail_each("grants", read_grants_of_store), 1);
	cr_expect_geq(fail_each("revision", read_revision), 2);
	cr_expect_geq(fail_each("load", load), 1);
	cr_expect_geq(fail_each("verify", verify), 1);
	cr_expect_geq(fail_each("open", reopen), 1);
	cr_expect(fixture_verify(&fixture, 0, NULL).intact);
	fixture_end(&fixture);
}
