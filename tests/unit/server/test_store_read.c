/* Queries: every filter, pages without gaps or repeats, times out of order, grants by id, request
 * id and listing. */
#include "tests/unit/server/store_fixture.h"

#define MAX_FOUND 8192

struct found {
	unsigned calls;
	uint64_t sequences[MAX_FOUND];
	size_t count;
	uint64_t next_after;
	bool at_end;
	struct error err;
};

static void on_page(void *arg, const struct entry *entries, size_t count, uint64_t next_after,
	bool at_end, const struct error *err)
{
	struct found *found = arg;
	found->calls++;
	for (size_t i = 0; i < count && found->count < MAX_FOUND; i++)
		found->sequences[found->count++] = entries[i].sequence;
	found->next_after = next_after;
	found->at_end = at_end;
	found->err = *err;
}

/* All pages of a query. */
static struct found *ask(struct fixture *fixture, const struct store_query *query)
{
	static struct found found;
	struct store_query page = *query;
	memset(&found, 0, sizeof found);
	do {
		unsigned calls = found.calls;
		store_read(fixture->store, &page, on_page, &found);
		fixture_wait(fixture, &found.calls, calls + 1);
		cr_assert_eq(found.err.status, STATUS_OK, "%s", found.err.text);
		cr_assert(found.at_end || found.next_after > page.after, "no progress");
		page.after = found.next_after;
	} while (!found.at_end);
	cr_expect_geq(found.next_after, store_head(fixture->store));
	return &found;
}

static void commit_all(struct fixture *fixture, const struct entry *entries, size_t count)
{
	struct store_txn *txn = store_txn_new(fixture->store);
	for (size_t i = 0; i < count; i++)
		store_txn_entry(txn, &entries[i]);
	cr_assert_eq(fixture_commit(fixture, txn, NULL), STATUS_OK);
}

Test(store_read, every_filter)
{
	struct fixture fixture;
	struct id grant = id_new(), session = id_new();
	struct entry entries[6];
	struct addr client, remote;
	cr_assert(addr_parse("10.77.1.2", &client) && addr_parse("fd77:2::2", &remote));
	fixture_begin(&fixture);
	for (int i = 0; i < 6; i++) {
		entries[i] = fixture_entry(ENTRY_GRANTED);
		entries[i].time_us = 1000 * (i + 1);
	}
	snprintf(entries[0].gateway, sizeof entries[0].gateway, "gw1");
	entries[1].grant = grant;
	entries[2].session = session;
	entries[3].client = client;
	entries[4].remote.addr = remote;
	entries[5].kind = ENTRY_CLOSED;
	snprintf(entries[5].filter, sizeof entries[5].filter, "ftp");
	entries[4].notify = true;
	commit_all(&fixture, entries, 6);
	const struct {
		struct store_query query;
		uint64_t first, count;
	} table[] = {
		{{.limit = 100}, 1, 6},
		{{.limit = 1}, 1, 6},
		{{.limit = 0}, 1, 6},
		{{.after = 4}, 5, 2},
		{{.after = 6}, 0, 0},
		{{.after = 600}, 0, 0},
		{{.gateway = "gw1"}, 1, 1},
		{{.gateway = "gw2"}, 0, 0},
		{{.grant = grant}, 2, 1},
		{{.session = session}, 3, 1},
		{{.client = "10.77.1.2"}, 4, 1},
		{{.remote = "fd77:2::2"}, 5, 1},
		{{.kinds = 1ULL << ENTRY_CLOSED}, 6, 1},
		{{.kinds = 1ULL << ENTRY_CLOSED | 1ULL << ENTRY_GRANTED}, 1, 6},
		{{.filter = "ftp"}, 6, 1},
		{{.notify_only = true}, 5, 1},
		{{.filter = "ftp", .notify_only = true}, 0, 0},
		{{.since_us = 3000}, 3, 4},
		{{.until_us = 3000}, 1, 2},
		{{.since_us = 2000, .until_us = 4001}, 2, 3},
		{{.since_us = 2000, .gateway = "gw1"}, 0, 0},
	};
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		struct found *found = ask(&fixture, &table[i].query);
		cr_expect_eq(found->count, table[i].count, "row %zu: %zu", i, found->count);
		for (size_t j = 0; j < found->count; j++)
			cr_expect_eq(found->sequences[j], table[i].first + j, "row %zu", i);
	}
	fixture_end(&fixture);
}

Test(store_read, an_entry_comes_back_whole)
{
	struct fixture fixture;
	struct entry entry = fixture_entry(ENTRY_ESTABLISHED);
	struct found found = {0};
	struct store_query query = {0};
	fixture_begin(&fixture);
	snprintf(entry.detail, sizeof entry.detail, "bad \xff byte");
	commit_all(&fixture, &entry, 1);
	store_read(fixture.store, &query, on_page, &found);
	fixture_wait(&fixture, &found.calls, 1);
	cr_expect_eq(found.count, 1);
	cr_expect(fixture_verify(&fixture, 0, NULL).intact, "a cleaned text is what was hashed");
	fixture_end(&fixture);
}

/* Agents report late and clocks are set back: no order of times may hide an entry from a query by
 * time. */
Test(store_read, times_out_of_order_are_all_found)
{
	struct fixture fixture;
	enum { COUNT = 5000 };
	static int64_t times[COUNT];
	unsigned seed = 7;
	fixture_begin(&fixture);
	for (int base = 0; base < COUNT; base += 500) {
		struct store_txn *txn = store_txn_new(fixture.store);
		for (int i = base; i < base + 500; i++) {
			struct entry entry = fixture_entry(ENTRY_GRANTED);
			seed = seed * 1103515245 + 12345;
			times[i] = 1000000 + i * 100 +
				(i % 97 == 0 ? -(int64_t)(seed % 900000) : (int64_t)(seed % 50));
			entry.time_us = times[i];
			snprintf(entry.gateway, sizeof entry.gateway, "gw%d", i % 3);
			store_txn_entry(txn, &entry);
		}
		cr_assert_eq(fixture_commit(&fixture, txn, NULL), STATUS_OK);
	}
	cr_expect_eq(fixture_number(&fixture, "SELECT count(*) FROM journal_zones"), COUNT / 1024);
	for (int round = 0; round < 60; round++) {
		struct store_query query = {.limit = round % 2 ? 256 : 100};
		seed = seed * 1103515245 + 12345;
		query.since_us = round % 5 == 0 ? 0 : 100000 + (int64_t)(seed % 1400000);
		query.until_us = round % 7 == 0 ? 0 : query.since_us + 1 + (int64_t)(seed % 200000);
		if (round % 3 == 0)
			snprintf(query.gateway, sizeof query.gateway, "gw%d", round % 3);
		struct found *found = ask(&fixture, &query);
		size_t next = 0;
		for (int i = 0; i < COUNT; i++) {
			bool wanted = (!query.since_us || times[i] >= query.since_us) &&
				(!query.until_us || times[i] < query.until_us) &&
				(!query.gateway[0] || query.gateway[2] - '0' == i % 3);
			if (!wanted)
				continue;
			cr_assert_lt(
				next, found->count, "round %d: entry %d is missing", round, i + 1);
			cr_assert_eq(found->sequences[next], (uint64_t)i + 1, "round %d", round);
			next++;
		}
		cr_assert_eq(next, found->count, "round %d: too many", round);
	}
	fixture_end(&fixture);
}

/* The first and the last entries of zones, where a walk begins and ends. */
Test(store_read, zones_are_walked_from_end_to_end)
{
	static const int64_t places[] = {1, 2, 1023, 1024, 1025, 2047, 2048, 2049, 2999, 3000};
	struct fixture fixture;
	fixture_begin(&fixture);
	for (int base = 0; base < 3000; base += 1000) {
		struct store_txn *txn = store_txn_new(fixture.store);
		for (int i = base; i < base + 1000; i++) {
			struct entry entry = fixture_entry(ENTRY_GRANTED);
			entry.time_us = 1000 + i + 1;
			store_txn_entry(txn, &entry);
		}
		cr_assert_eq(fixture_commit(&fixture, txn, NULL), STATUS_OK);
	}
	for (size_t i = 0; i < sizeof places / sizeof *places; i++)
		for (size_t j = i; j < sizeof places / sizeof *places; j++) {
			struct store_query query = {
				.since_us = 1000 + places[i], .until_us = 1000 + places[j] + 1};
			struct found *found = ask(&fixture, &query);
			cr_assert_eq(found->count, (size_t)(places[j] - places[i] + 1), "%d to %d",
				(int)places[i], (int)places[j]);
			cr_assert_eq(found->sequences[0], (uint64_t)places[i]);
		}
	fixture_end(&fixture);
}

/* A query that matches nothing is answered in bounded steps, each of which says how far it came. */
Test(store_read, a_long_walk_comes_in_steps)
{
	struct fixture fixture;
	struct found found = {0};
	struct store_query query = {.client = "10.99.99.99"};
	fixture_begin(&fixture);
	for (int base = 0; base < 25000; base += 5000) {
		struct store_txn *txn = store_txn_new(fixture.store);
		struct entry entry = fixture_entry(ENTRY_GRANTED);
		for (int i = 0; i < 5000; i++)
			store_txn_entry(txn, &entry);
		cr_assert_eq(fixture_commit(&fixture, txn, NULL), STATUS_OK);
	}
	store_read(fixture.store, &query, on_page, &found);
	fixture_wait(&fixture, &found.calls, 1);
	cr_expect_eq(found.count, 0);
	cr_expect_not(found.at_end);
	cr_expect_eq(found.next_after, 20000);
	query.after = found.next_after;
	store_read(fixture.store, &query, on_page, &found);
	fixture_wait(&fixture, &found.calls, 2);
	cr_expect(found.at_end);
	cr_expect_eq(found.next_after, 25000);
	fixture_end(&fixture);
}

/* ---- grants ---- */

struct grants {
	unsigned calls;
	struct id ids[STORE_PAGE_MAX];
	size_t count;
	struct error err;
};

static void on_grants(
	void *arg, const struct grant_record *records, size_t count, const struct error *err)
{
	struct grants *grants = arg;
	grants->calls++;
	grants->count = count;
	for (size_t i = 0; i < count; i++)
		grants->ids[i] = records[i].id;
	grants->err = *err;
}

static struct grants look_up(struct fixture *fixture, const struct store_grant_query *query)
{
	struct grants grants = {0};
	store_read_grants(fixture->store, query, on_grants, &grants);
	fixture_wait(fixture, &grants.calls, 1);
	cr_assert_eq(grants.err.status, STATUS_OK, "%s", grants.err.text);
	return grants;
}

enum { GRANTS = 12000 };

static struct grant_record numbered_grant(int i, const struct id *request, const struct id *session)
{
	struct grant_record grant = {
		.id = id_new(), .filter = "ftp", .gateway = "gw1", .state = 3, .created_us = i};
	snprintf(grant.filter, sizeof grant.filter, i % 2 ? "ftp" : "sip");
	if (i == 5)
		cr_assert(addr_parse("fd77::5", &grant.client));
	if (i == 7)
		grant.request_id = *request;
	if (i == 9)
		grant.session = *session;
	return grant;
}

Test(store_read, grants_by_id_by_request_and_newest_first)
{
	struct fixture fixture;
	static struct id ids[GRANTS];
	struct id request = id_new(), session = id_new();
	fixture_begin(&fixture);
	fixture_add_gateway(&fixture, "gw1");
	for (int base = 0; base < GRANTS; base += 1000) {
		struct store_txn *txn = store_txn_new(fixture.store);
		for (int i = base; i < base + 1000; i++) {
			struct grant_record grant = numbered_grant(i, &request, &session);
			ids[i] = grant.id;
			store_txn_put_grant(txn, &grant);
		}
		cr_assert_eq(fixture_commit(&fixture, txn, NULL), STATUS_OK);
	}
	struct grants grants = look_up(&fixture, &(struct store_grant_query){.id = ids[3]});
	cr_assert_eq(grants.count, 1);
	cr_expect(id_equal(&grants.ids[0], &ids[3]));
	grants = look_up(&fixture, &(struct store_grant_query){.id = request});
	cr_expect_eq(grants.count, 0);
	grants = look_up(
		&fixture, &(struct store_grant_query){.request_id = request, .filter = "ftp"});
	cr_assert_eq(grants.count, 1);
	cr_expect(id_equal(&grants.ids[0], &ids[7]));
	grants = look_up(
		&fixture, &(struct store_grant_query){.request_id = request, .filter = "sip"});
	cr_expect_eq(grants.count, 0, "a request id is its filter's own");
	/* The oldest of all: several steps. */
	grants = look_up(&fixture, &(struct store_grant_query){.client = "fd77::5", .limit = 10});
	cr_assert_eq(grants.count, 1);
	cr_expect(id_equal(&grants.ids[0], &ids[5]));
	grants = look_up(&fixture, &(struct store_grant_query){.session = session});
	cr_assert_eq(grants.count, 1);
	cr_expect(id_equal(&grants.ids[0], &ids[9]));
	int next = GRANTS - 1;
	struct store_grant_query page = {.filter = "ftp", .gateway = "gw1", .limit = 200};
	do {
		grants = look_up(&fixture, &page);
		for (size_t i = 0; i < grants.count; i++, next -= 2)
			cr_assert(id_equal(&grants.ids[i], &ids[next]), "grant %d", next);
		if (grants.count)
			page.before = grants.ids[grants.count - 1];
	} while (grants.count == 200);
	cr_expect_eq(next, -1);
	fixture_end(&fixture);
}

/* I6: the database itself refuses a second grant for the same request of the same filter. */
Test(store_read, a_request_id_is_taken_once)
{
	struct fixture fixture;
	struct id request = id_new(), session = {0};
	fixture_begin(&fixture);
	fixture_add_gateway(&fixture, "gw1");
	for (int i = 0; i < 2; i++) {
		struct store_txn *txn = store_txn_new(fixture.store);
		struct grant_record grant = numbered_grant(7, &request, &session);
		struct entry entry = fixture_entry(ENTRY_GRANTED);
		store_txn_entry(txn, &entry);
		store_txn_put_grant(txn, &grant);
		cr_expect_eq(
			fixture_commit(&fixture, txn, NULL), i ? STATUS_ALREADY_EXISTS : STATUS_OK);
	}
	cr_expect_eq(store_head(fixture.store), 1);
	fixture_end(&fixture);
}
