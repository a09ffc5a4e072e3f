#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/cli/cli.h"
#include "common/clock.h"
#include "common/config.h"
#include "postern/v1/audit.pb-c.h"

#define SERVICE &postern__v1__audit__descriptor
#define KINDS_MAX 64

static char *text(const char *from)
{
	return (char *)(uintptr_t)(from ? from : "");
}

/* RFC 3339 in UTC ("2026-11-24T08:00:00Z", "2026-11-24"), microseconds since 1970, or a duration
 * back from now. */
static bool parse_time(const char *from, int64_t *ret_us)
{
	struct tm tm = {0};
	uint64_t number;
	const char *end = strptime(from, "%Y-%m-%dT%H:%M:%S", &tm);
	if (!end) {
		memset(&tm, 0, sizeof tm);
		end = strptime(from, "%Y-%m-%d", &tm);
	}
	if (end && (*end == '\0' || strcmp(end, "Z") == 0)) {
		*ret_us = (int64_t)timegm(&tm) * 1000000;
		return true;
	}
	if (!end && parse_number(from, 1000000000000ULL, INT64_MAX, &number, NULL) == STATUS_OK) {
		*ret_us = (int64_t)number;
		return true;
	}
	if (!end && parse_duration(from, &number, NULL) == STATUS_OK) {
		*ret_us = clock_real_us() - (int64_t)number * 1000;
		return true;
	}
	return false;
}

static void on_page(struct cli *cli, const ProtobufCMessage *message, void *arg)
{
	const Postern__V1__AuditPage *page = (const Postern__V1__AuditPage *)message;
	(void)arg;
	for (size_t i = 0; i < page->n_entries; i++)
		print_entry(cli, page->entries[i]);
}

int audit_query(struct cli *cli)
{
	Postern__V1__AuditQuery query = POSTERN__V1__AUDIT_QUERY__INIT;
	Postern__V1__EntryKind kinds[KINDS_MAX];
	const char *since = args_get(cli, "since"), *until = args_get(cli, "until"),
		   *after = args_get(cli, "after");
	const char *limit = args_get(cli, "limit"), *kind;
	uint64_t most = 0;
	struct error err;
	if (since && !parse_time(since, &query.since_us))
		return usage_error(
			cli, "--since %s: write 1h, 2026-11-24 or 2026-11-24T08:00:00Z", since);
	if (until && !parse_time(until, &query.until_us))
		return usage_error(
			cli, "--until %s: write 1h, 2026-11-24 or 2026-11-24T08:00:00Z", until);
	if (after && parse_number(after, 0, INT64_MAX, &query.after, &err))
		return usage_error(cli, "--after: %s", err.text);
	if (limit && parse_number(limit, 1, UINT32_MAX, &most, &err))
		return usage_error(cli, "--limit: %s", err.text);
	query.kinds = kinds;
	for (; query.n_kinds < KINDS_MAX && (kind = args_nth(cli, "kind", query.n_kinds));) {
		int value;
		if (!enum_parse(&postern__v1__entry_kind__descriptor, kind, &value))
			return unknown_enum(
				cli, "kind", &postern__v1__entry_kind__descriptor, kind);
		kinds[query.n_kinds++] = (Postern__V1__EntryKind)value;
	}
	query.gateway = text(args_get(cli, "gateway"));
	query.grant = text(args_get(cli, "grant"));
	query.session = text(args_get(cli, "session"));
	query.client = text(args_get(cli, "client"));
	query.remote = text(args_get(cli, "remote"));
	query.limit = (uint32_t)most;
	return call(cli, SERVICE, "Query", &query.base, true, on_page, NULL);
}

static void on_verified(struct cli *cli, const ProtobufCMessage *message, void *arg)
{
	const Postern__V1__AuditVerifyReply *reply = (const Postern__V1__AuditVerifyReply *)message;
	char hash[80] = "";
	*(bool *)arg = reply->intact;
	if (cli->json) {
		print_json(message);
		return;
	}
	if (reply->head_hash.len == 32)
		sodium_bin2hex(hash, sizeof hash, reply->head_hash.data, reply->head_hash.len);
	if (reply->intact)
		printf("intact: %llu entries\nhead:   %llu:%s\nnote the head: `postern audit "
		       "verify --head` proves later that nothing up to it was removed\n",
			(unsigned long long)reply->entries,
			(unsigned long long)reply->head_sequence, hash);
	else
		printf("BROKEN at entry %llu: %s\n%llu entries before it are intact, up to "
		       "%llu:%s\n",
			(unsigned long long)reply->bad_sequence, reply->fault,
			(unsigned long long)reply->entries,
			(unsigned long long)reply->head_sequence, hash);
}

int audit_verify(struct cli *cli)
{
	Postern__V1__AuditVerifyRequest request = POSTERN__V1__AUDIT_VERIFY_REQUEST__INIT;
	const char *head = args_get(cli, "head");
	uint8_t hash[32];
	bool intact = false;
	if (head) {
		char *end;
		size_t size = 0;
		request.known_sequence = strtoull(head, &end, 10);
		if (request.known_sequence == 0 || *end != ':' ||
			sodium_hex2bin(hash, sizeof hash, end + 1, strlen(end + 1), NULL, &size,
				NULL) != 0 ||
			size != sizeof hash)
			return usage_error(cli,
				"--head %s: write SEQUENCE:HASH as an earlier verify printed it",
				head);
		request.known_hash.data = hash;
		request.known_hash.len = sizeof hash;
	}
	/* A long journal takes its time. */
	if (!cli->deadline_ms)
		cli->deadline_ms = 3600000;
	int code = call(cli, SERVICE, "Verify", &request.base, false, on_verified, &intact);
	return code ? code : intact ? EXIT_GOOD : EXIT_OTHER;
}
