/* A database of an earlier release opens: its rows keep their meaning and its chain verifies. The
 * bodies and hashes below are what that release wrote. */
#include "server/journal/entry.h"
#include "server/store/migration.h"
#include "tests/unit/server/store_fixture.h"

#define GRANT "01890000-0000-7000-8000-000000000001"

static const struct {
	const char *columns, *body, *hash;
} journal[] = {
	{"1700000000000000, 1, NULL, NULL, NULL, NULL, NULL, NULL, 0",
		"108080f9c0c1c482031801aa010c706f737465726e6420302e31",
		"f009d974999bb036d5dff3abfe53c7c292b58e4ad9c7c2021c758802497b68f6"},
	{"1700000000100000, 30, 'gw1', 'ftp', NULL, x'01890000000070008000000000000001', "
	 "'10.77.1.2', '10.77.2.2', 1",
		"10a08dffc0c1c48203181e22036674702a036777313a2430313839303030302d303030302d37303030"
		"2d383030302d30303030303030303030303142036674704a0931302e37372e312e32520931302e3737"
		"2e322e3258960860066a086674702d64617461700478e0d40380010192010172b00101ba0103"
		"0001ff",
		"40368694407fceb46bc40d8cdd35196d957532595ab0f43faa98dfadc6bc2651"},
	{"1700000000200000, 33, 'gw1', 'ftp', NULL, x'01890000000070008000000000000001', "
	 "'10.77.1.2', '10.77.2.2', 0",
		"10c09a85c1c1c4820318212a036777313a2430313839303030302d303030302d373030302d38303030"
		"2d30303030303030303030303142036674704a0931302e37372e312e32520931302e37372e322e3258"
		"960860066a086674702d646174619a0121084d120931302e37372e312e3218c0b802220931302e3737"
		"2e322e322896083006",
		"c0c1ff71aaa3c9553b377e90d52dea9d7b6b089c2da3679f9bdb2b7981871eec"},
};

static void exec(struct sqlite3 *db, const char *sql)
{
	struct error err = {0};
	cr_assert_eq(db_exec(db, sql, &err), STATUS_OK, "%s: %s", sql, err.text);
}

/* As a release with the schema of `version` left it: a journal, a live grant, an ended one with an
 * open flow. */
static void make_old(const char *path, unsigned version)
{
	struct sqlite3 *db;
	struct error err = {0};
	char sql[2048];
	unlink(path);
	cr_assert_eq(db_open(path, DB_CREATE, &db, &err), STATUS_OK, "%s", err.text);
	cr_assert_eq(migrations[0].number, 1);
	exec(db, migrations[0].sql);
	exec(db, "PRAGMA application_id = 1349743730");
	for (size_t i = 0; i < sizeof journal / sizeof *journal; i++) {
		snprintf(sql, sizeof sql,
			"INSERT INTO journal (sequence, time_us, kind, gateway, filter, session, "
			"grant_id, client, remote, notify, body, hash) "
			"VALUES (%zu, %s, x'%s', x'%s')",
			i + 1, journal[i].columns, journal[i].body, journal[i].hash);
		exec(db, sql);
	}
	exec(db, "INSERT INTO gateways VALUES ('gw1', '', 1, 'boot', 'i', 9, 2)");
	exec(db,
		"INSERT INTO grants VALUES (x'01890000000070008000000000000001', NULL, NULL, "
		"'gw1', 'ftp', 'ftp-data', 'r', '10.77.1.2', '10.77.2.2:1046', '', 6, 4, 1, 2, "
		"0, 60000, 1, 0, 10, 20, 0, x'0001ff')");
	exec(db,
		"INSERT INTO grants VALUES (x'01890000000070008000000000000002', NULL, NULL, "
		"'gw1', 'ftp', 'ftp-data', 'r', '10.77.1.2', '10.77.2.2:1047', '', 6, 0, 0, 3, "
		"1, 60000, 1, 1, 10, 20, 30, NULL)");
	exec(db,
		"INSERT INTO flows VALUES (x'01890000000070008000000000000002', 77, 'gw1', "
		"'boot', '10.77.1.2:40000', '10.77.2.2:1047', 6, 25, 0)");
	for (unsigned i = 1; i < version; i++)
		exec(db, migrations[i].sql);
	snprintf(sql, sizeof sql, "PRAGMA user_version = %u", version);
	exec(db, sql);
	if (version == 2)
		exec(db, "UPDATE grants SET renewals = 3, cut = 1 WHERE state = 3");
	db_close(db);
}

struct seen {
	struct grant_record grants[2];
	struct flow_record flow;
	int grant_count, flow_count, rule_count, revision_count;
};

static void on_grant(void *arg, const struct grant_record *record)
{
	struct seen *seen = arg;
	cr_assert_lt(seen->grant_count, 2);
	seen->grants[seen->grant_count++] = *record;
}

static void on_flow(void *arg, const struct flow_record *record)
{
	struct seen *seen = arg;
	seen->flow = *record;
	seen->flow_count++;
}

static void on_rule(void *arg, const struct rule_record *record)
{
	struct seen *seen = arg;
	cr_expect_str_eq(record->name, "allow all sites");
	seen->rule_count++;
}

static void on_revision(void *arg, const struct revision_record *record)
{
	(void)record;
	((struct seen *)arg)->revision_count++;
}

static void expect_migrated(unsigned version)
{
	struct fixture fixture;
	struct seen seen = {0};
	struct error err = {0};
	struct store_visitor visitor = {.arg = &seen,
		.rule = on_rule,
		.revision = on_revision,
		.grant = on_grant,
		.flow = on_flow};
	fixture_begin(&fixture);
	fixture_close(&fixture);
	make_old(fixture.path, version);
	fixture_open(&fixture);
	cr_expect_eq(fixture_number(&fixture, "PRAGMA user_version"), migration_count);
	struct store_verification result = fixture_verify(&fixture, 0, NULL);
	cr_expect(result.intact, "%s", result.fault);
	cr_expect_eq(result.entries, 3);
	cr_assert_eq(store_load(fixture.store, &visitor, &err), STATUS_OK, "%s", err.text);
	cr_assert_eq(seen.grant_count, 2);
	const struct grant_record *grant = &seen.grants[0];
	cr_expect(!grant->inbound && !grant->cut && !grant->clamped && !grant->external_chosen);
	cr_expect_eq(grant->remote_count + grant->client_port + grant->remote_port_last, 0);
	cr_expect(id_is_zero(&grant->bundle));
	cr_expect_eq(grant->revision, 0);
	cr_expect_str_eq(grant->user, "");
	cr_expect_str_eq(grant->site_rule, "");
	cr_expect_eq(seen.grants[1].renewals, version == 2 ? 3 : 0);
	cr_expect_eq(seen.rule_count, 1);
	cr_expect_eq(seen.revision_count, 0, "the first revision is not the store's to make");
	cr_assert_eq(seen.flow_count, 1);
	cr_expect_eq(seen.flow.flow.external.addr.family, ADDR_NONE);
	/* The chain goes on behind what it found. */
	struct entry entry = fixture_entry(ENTRY_RENEWED);
	cr_assert(id_parse(GRANT, &entry.grant));
	entry.inbound = true;
	entry.client_port = 4000;
	cr_assert_eq(fixture_commit_entry(&fixture, &entry, NULL), STATUS_OK);
	result = fixture_verify(&fixture, 0, NULL);
	cr_expect(result.intact, "%s", result.fault);
	cr_expect_eq(result.entries, 4);
	fixture_end(&fixture);
}

Test(store_migrate, a_database_of_the_first_schema_opens_and_verifies)
{
	expect_migrated(1);
}

Test(store_migrate, a_database_of_before_the_policy_document_opens_and_verifies)
{
	expect_migrated(2);
}

/* Nothing of what it says is lost or invented on the way through the struct. */
Test(store_migrate, older_bodies_are_read_and_written_as_they_were)
{
	for (size_t i = 0; i < sizeof journal / sizeof *journal; i++) {
		uint8_t old[512], *body;
		size_t size = strlen(journal[i].body) / 2, again;
		struct entry entry;
		struct error err = {0};
		for (size_t at = 0; at < size; at++) {
			char digits[3] = {journal[i].body[2 * at], journal[i].body[2 * at + 1], 0};
			old[at] = (uint8_t)strtoul(digits, NULL, 16);
		}
		cr_assert_eq(entry_decode(old, size, &entry, &err), STATUS_OK, "%s", err.text);
		cr_assert_eq(entry_encode(&entry, &body, &again, &err), STATUS_OK);
		cr_expect_eq(again, size);
		cr_expect_eq(memcmp(old, body, size), 0);
		free(body);
		entry_fini(&entry);
	}
}
