/* Revisions and feeds on disk; the journal vouches for every document (I9). */
#include "server/journal/digest.h"
#include "tests/unit/server/store_fixture.h"

#define LARGE (20U * 1024 * 1024) /* more than one step of a reader */

static struct revision_record revision_of(uint64_t number, uint8_t *document, size_t size)
{
	struct revision_record revision = {.number = number,
		.author = "anna",
		.time_us = (int64_t)number * 10,
		.message = "why",
		.rolled_back_to = number - 1,
		.confirm_until_us = 77,
		.rules = 3,
		.document = document,
		.document_size = size};
	digest_of(document, size, revision.hash);
	return revision;
}

static void apply(struct fixture *fixture, const struct revision_record *revision)
{
	struct store_txn *txn = store_txn_new(fixture->store);
	struct entry entry = fixture_entry(
		revision->number % 2 ? ENTRY_POLICY_APPLIED : ENTRY_POLICY_ROLLED_BACK);
	entry.revision = revision->number;
	memcpy(entry.document_hash, revision->hash, sizeof revision->hash);
	store_txn_entry(txn, &entry);
	store_txn_put_revision(txn, revision);
	cr_assert_eq(fixture_commit(fixture, txn, NULL), STATUS_OK);
}

/* Three, of one byte, of none and of many. */
static void fill(struct fixture *fixture)
{
	static uint8_t large[LARGE];
	for (size_t i = 0; i < LARGE; i++)
		large[i] = (uint8_t)(i * 2654435761U >> 13);
	struct revision_record first = revision_of(1, large, 1), second = revision_of(2, large, 0),
			       third = revision_of(3, large, LARGE);
	fixture_begin(fixture);
	apply(fixture, &first);
	apply(fixture, &second);
	apply(fixture, &third);
}

struct found {
	unsigned calls;
	struct revision_record revisions[4];
	uint8_t hash[DIGEST_SIZE];
	size_t count;
	struct error err;
};

static void on_revisions(
	void *arg, const struct revision_record *revisions, size_t count, const struct error *err)
{
	struct found *found = arg;
	cr_assert_leq(count, 4);
	for (size_t i = 0; i < count; i++)
		found->revisions[i] = revisions[i];
	if (count == 1 && revisions[0].document)
		digest_of(revisions[0].document, revisions[0].document_size, found->hash);
	found->count = count;
	found->err = *err;
	found->calls++;
}

static struct found ask(struct fixture *fixture, uint64_t number, uint64_t before, uint32_t limit)
{
	struct store_revision_query query = {number, before, limit};
	struct found found = {0};
	store_read_revisions(fixture->store, &query, on_revisions, &found);
	fixture_wait(fixture, &found.calls, 1);
	return found;
}

Test(store_revisions, are_listed_newest_first_and_read_whole)
{
	struct fixture fixture;
	fill(&fixture);
	struct found found = ask(&fixture, 0, 0, 0);
	cr_assert_eq(found.count, 3);
	for (size_t i = 0; i < 3; i++) {
		cr_expect_eq(found.revisions[i].number, 3 - i);
		cr_expect_null(found.revisions[i].document);
	}
	cr_expect_eq(found.revisions[0].document_size, LARGE);
	cr_expect_str_eq(found.revisions[0].author, "anna");
	cr_expect_str_eq(found.revisions[0].message, "why");
	cr_expect_eq(found.revisions[0].time_us, 30);
	cr_expect_eq(found.revisions[0].rolled_back_to, 2);
	cr_expect_eq(found.revisions[0].confirm_until_us, 77);
	cr_expect_eq(found.revisions[0].rules, 3);
	found = ask(&fixture, 0, 3, 1);
	cr_assert_eq(found.count, 1);
	cr_expect_eq(found.revisions[0].number, 2);
	cr_expect_eq(ask(&fixture, 0, 1, 9).count, 0);
	for (uint64_t number = 1; number <= 3; number++) {
		found = ask(&fixture, number, 0, 0);
		cr_assert_eq(found.count, 1, "%s", found.err.text);
		cr_assert_not_null(found.revisions[0].document);
		cr_expect_eq(memcmp(found.hash, found.revisions[0].hash, DIGEST_SIZE), 0);
	}
	cr_expect_eq(ask(&fixture, 4, 0, 0).count, 0);
	fixture_end(&fixture);
}

Test(store_revisions, a_confirmation_changes_nothing_else)
{
	struct fixture fixture;
	fill(&fixture);
	struct revision_record confirmed = {.number = 3, .author = "eve"}, unknown = {.number = 9};
	struct store_txn *txn = store_txn_new(fixture.store);
	store_txn_put_revision(txn, &confirmed);
	cr_assert_eq(fixture_commit(&fixture, txn, NULL), STATUS_OK);
	struct found found = ask(&fixture, 3, 0, 0);
	cr_assert_eq(found.count, 1, "%s", found.err.text);
	cr_expect_eq(found.revisions[0].confirm_until_us, 0);
	cr_expect_str_eq(found.revisions[0].author, "anna");
	txn = store_txn_new(fixture.store);
	store_txn_put_revision(txn, &unknown);
	cr_expect_eq(fixture_commit(&fixture, txn, NULL), STATUS_NOT_FOUND);
	fixture_end(&fixture);
}

struct loaded {
	struct revision_record revision;
	struct feed_record feeds[2];
	uint8_t hash[DIGEST_SIZE], content[8];
	bool has_content[2], has_held[2];
	int revisions, feed_count;
};

static void on_revision(void *arg, const struct revision_record *revision)
{
	struct loaded *loaded = arg;
	loaded->revision = *revision;
	digest_of(revision->document, revision->document_size, loaded->hash);
	loaded->revisions++;
}

static void on_feed(void *arg, const struct feed_record *feed)
{
	struct loaded *loaded = arg;
	int at = loaded->feed_count++;
	cr_assert_lt(at, 2);
	loaded->feeds[at] = *feed;
	loaded->has_content[at] = feed->content != NULL;
	loaded->has_held[at] = feed->held != NULL;
	if (feed->content_size == sizeof loaded->content)
		memcpy(loaded->content, feed->content, sizeof loaded->content);
}

Test(store_revisions, the_newest_is_loaded_and_feeds_are)
{
	struct fixture fixture;
	struct loaded loaded = {0};
	struct error err = {0};
	struct store_visitor visitor = {.arg = &loaded, .revision = on_revision, .feed = on_feed};
	uint8_t content[8] = {1, 2, 3, 4, 5, 6, 7, 8};
	struct feed_record feed = {.name = "bogons",
				   .etag = "\"7\"",
				   .fetched_us = 1,
				   .checked_us = 2,
				   .url = "https://feeds.example/list.txt",
				   .error = "timed out",
				   .content = content,
				   .content_size = sizeof content,
				   .held = content,
				   .held_etag = "\"8\""},
			   name = {.name = "bogons", .is_name = true};
	fill(&fixture);
	struct store_txn *txn = store_txn_new(fixture.store);
	store_txn_put_feed(txn, &name);
	store_txn_put_feed(txn, &name);
	store_txn_put_feed(txn, &feed);
	cr_assert_eq(fixture_commit(&fixture, txn, NULL), STATUS_OK);
	fixture_close(&fixture);
	fixture_open(&fixture);
	cr_assert_eq(store_load(fixture.store, &visitor, &err), STATUS_OK, "%s", err.text);
	cr_assert_eq(loaded.revisions, 1);
	cr_expect_eq(loaded.revision.number, 3);
	cr_expect_eq(memcmp(loaded.hash, loaded.revision.hash, DIGEST_SIZE), 0);
	cr_assert_eq(loaded.feed_count, 2);
	cr_expect_str_eq(loaded.feeds[0].etag, "\"7\"");
	cr_expect_str_eq(loaded.feeds[0].error, "timed out");
	cr_expect_str_eq(loaded.feeds[0].held_etag, "\"8\"");
	cr_expect_eq(loaded.feeds[0].fetched_us, 1);
	cr_expect_eq(loaded.feeds[0].checked_us, 2);
	cr_expect_str_eq(loaded.feeds[0].url, "https://feeds.example/list.txt");
	cr_expect_eq(memcmp(loaded.content, content, sizeof content), 0);
	cr_expect(loaded.has_content[0] && loaded.has_held[0], "empty is not absent");
	cr_expect_eq(loaded.feeds[0].held_size, 0);
	cr_expect(loaded.feeds[1].is_name && !loaded.has_content[1] && !loaded.has_held[1]);
	fixture_tamper(&fixture, "UPDATE revisions SET document = x'00' WHERE number = 3");
	cr_expect_eq(store_load(fixture.store, &visitor, &err), STATUS_DATA_LOSS);
	fixture_end(&fixture);
}

Test(store_revisions, every_tampering_is_found_and_named)
{
	static const struct {
		const char *sql;
		uint64_t bad;
		const char *says;
	} table[] = {
		{"UPDATE revisions SET document = x'00' WHERE number = 2", 2,
			"document of revision 2 is not the one"},
		{"UPDATE revisions SET document = CAST(document || x'00' AS BLOB) WHERE number = 3",
			3, "document of revision 3 is not the one"},
		{"UPDATE revisions SET hash = zeroblob(32) WHERE number = 1", 1,
			"column hash of revision 1"},
		{"DELETE FROM revisions WHERE number = 3", 3, "revision 3 is gone"},
		{"INSERT INTO revisions SELECT 4, author, time_us, message, 0, 0, 0, hash, "
		 "document FROM revisions WHERE number = 1",
			4, "revision 4 is in no entry"},
		{"INSERT INTO revisions SELECT 0, author, time_us, message, 0, 0, 0, hash, "
		 "document FROM revisions WHERE number = 1",
			4, "4 revisions, the journal has 3"},
	};
	struct fixture fixture;
	fill(&fixture);
	struct store_verification result = fixture_verify(&fixture, 0, NULL);
	cr_expect(result.intact, "%s", result.fault);
	cr_expect_eq(result.entries, 3);
	fixture_tamper(&fixture, "CREATE TABLE kept AS SELECT * FROM revisions");
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		fixture_tamper(&fixture, table[i].sql);
		result = fixture_verify(&fixture, 0, NULL);
		cr_expect_not(result.intact, "%s", table[i].sql);
		cr_expect_eq(result.bad_sequence, table[i].bad, "%s: named %llu", table[i].sql,
			(unsigned long long)result.bad_sequence);
		cr_expect_not_null(strstr(result.fault, table[i].says), "%s: \"%s\"", table[i].sql,
			result.fault);
		fixture_tamper(&fixture,
			"DELETE FROM revisions; INSERT INTO revisions SELECT * FROM kept");
	}
	fixture_tamper(&fixture, "UPDATE revisions SET document = x'00' WHERE number = 3");
	cr_expect_eq(ask(&fixture, 3, 0, 0).err.status, STATUS_DATA_LOSS);
	fixture_end(&fixture);
}
