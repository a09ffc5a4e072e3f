/* What the tests of the whole server share: a real posternd in this process, on a database of its
 * own, spoken to over ipc:// by an administrator, filters and scripted agents, all on one loop.
 * Nothing sleeps: everything waits for an event, with a deadline. */
#ifndef POSTERN_TESTS_UNIT_SERVER_WORLD_H
#define POSTERN_TESTS_UNIT_SERVER_WORLD_H

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/id.h"
#include "common/log.h"
#include "common/loop.h"
#include "postern/v1/agents.pb-c.h"
#include "postern/v1/audit.pb-c.h"
#include "postern/v1/events.pb-c.h"
#include "postern/v1/gateways.pb-c.h"
#include "postern/v1/grants.pb-c.h"
#include "postern/v1/policy.pb-c.h"
#include "postern/v1/sessions.pb-c.h"
#include "proto/rpc/rpc.h"
#include "server/auth/token.h"
#include "server/grants/state.h"
#include "server/server.h"
#include "server/store/store.h"

#define WORLD_DEADLINE_US 20000000
#define WORLD_ITEMS_MAX 4096
#define TEXT(text) ((char *)(uintptr_t)(text))

enum world_token {
	TOKEN_ADMIN,
	TOKEN_AUDITOR,
	TOKEN_FTP,
	TOKEN_SIP,
	TOKEN_GW1,
	TOKEN_GW2,
	TOKEN_COUNT
};

struct world {
	char dir[64], url[128], config_path[160];
	struct loop *loop;
	struct server_config config;
	struct server *server;
	char tokens[TOKEN_COUNT][TOKEN_TEXT_SIZE];
	struct rpc_client *admin, *auditor, *ftp, *sip;
};

#define WAIT_UNTIL(world, condition)                                                               \
	do {                                                                                       \
		int64_t deadline_ = clock_mono_us() + WORLD_DEADLINE_US;                           \
		while (!(condition)) {                                                             \
			cr_assert_lt(clock_mono_us(), deadline_, "in vain: " #condition);          \
			loop_step((world)->loop, 100);                                             \
		}                                                                                  \
	} while (0)

/* Proves that something does not happen: for as long as it would take if it did. */
static inline void world_idle(struct world *world, int ms)
{
	int64_t until = clock_mono_us() + ms * 1000;
	while (clock_mono_us() < until)
		loop_step(world->loop, (int)((until - clock_mono_us()) / 1000) + 1);
}

/* ---- calls ---- */

struct result {
	unsigned done;
	struct error err;
	ProtobufCMessage *reply;
	ProtobufCMessage *items[WORLD_ITEMS_MAX];
	size_t item_count;
	uint64_t id;
};

static inline ProtobufCMessage *message_copy(const ProtobufCMessage *message)
{
	size_t size = protobuf_c_message_get_packed_size(message);
	uint8_t *bytes = malloc(size + 1);
	protobuf_c_message_pack(message, bytes);
	ProtobufCMessage *copy = protobuf_c_message_unpack(message->descriptor, NULL, size, bytes);
	free(bytes);
	return copy;
}

static inline void result_clear(struct result *result)
{
	if (result->reply)
		protobuf_c_message_free_unpacked(result->reply, NULL);
	for (size_t i = 0; i < result->item_count; i++)
		protobuf_c_message_free_unpacked(result->items[i], NULL);
	memset(result, 0, sizeof *result);
}

static inline void on_result(void *arg, const ProtobufCMessage *reply, const struct error *err)
{
	struct result *result = arg;
	result->done++;
	result->err = *err;
	if (reply)
		result->reply = message_copy(reply);
}

static inline void on_result_item(void *arg, const ProtobufCMessage *item)
{
	struct result *result = arg;
	cr_assert_lt(result->item_count, WORLD_ITEMS_MAX);
	result->items[result->item_count++] = message_copy(item);
}

static inline void start_call(struct rpc_client *client, const ProtobufCServiceDescriptor *service,
	const char *method, const ProtobufCMessage *request, uint32_t deadline_ms,
	struct result *result)
{
	bool streams = strncmp(method, "List", 4) == 0 || strcmp(method, "Query") == 0 ||
		strcmp(method, "Watch") == 0;
	struct rpc_call_options options = {
		.deadline_ms = deadline_ms, .on_item = streams ? on_result_item : NULL};
	struct error err = {0};
	memset(result, 0, sizeof *result);
	cr_assert_eq(rpc_client_call(client, service, method, request, &options, on_result, result,
			     &result->id, &err),
		STATUS_OK, "%s: %s", method, err.text);
}

static inline enum status call(struct world *world, struct rpc_client *client,
	const ProtobufCServiceDescriptor *service, const char *method,
	const ProtobufCMessage *request, struct result *result)
{
	start_call(client, service, method, request, 0, result);
	WAIT_UNTIL(world, result->done);
	return result->err.status;
}

/* ---- the world ---- */

static inline void nothing_happens(void *arg, enum rpc_client_state state,
	const struct rpc_welcome *welcome, const struct error *err)
{
	(void)arg;
	(void)state;
	(void)welcome;
	(void)err;
}

static inline struct rpc_client *world_connect(struct world *world, enum world_token token)
{
	struct rpc_client_config config = {.loop = world->loop,
		.limits = rpc_default_limits,
		.url = world->url,
		.token = world->tokens[token],
		.name = "test",
		.on_state = nothing_happens};
	struct rpc_client *client = NULL;
	struct error err = {0};
	cr_assert_eq(rpc_client_new(&config, &client, &err), STATUS_OK, "%s", err.text);
	rpc_client_start(client);
	WAIT_UNTIL(world, rpc_client_is_ready(client));
	return client;
}

/* To break a connection without a word from either side: note what is open, connect, break. */
struct open_files {
	bool is_open[1024];
};

static inline struct open_files note_open_files(void)
{
	struct open_files files;
	for (int fd = 0; fd < 1024; fd++)
		files.is_open[fd] = fcntl(fd, F_GETFD) >= 0;
	return files;
}

static inline void break_new_connections(const struct open_files *before)
{
	for (int fd = 0; fd < 1024; fd++)
		if (!before->is_open[fd])
			(void)shutdown(fd, SHUT_RDWR);
}

static inline void world_start(struct world *world)
{
	struct error err = {0};
	cr_assert_eq(server_start(world->loop, &world->config, &world->server, &err), STATUS_OK,
		"%s", err.text);
	world->admin = world_connect(world, TOKEN_ADMIN);
	world->auditor = world_connect(world, TOKEN_AUDITOR);
	world->ftp = world_connect(world, TOKEN_FTP);
	world->sip = world_connect(world, TOKEN_SIP);
}

static inline void world_stop(struct world *world)
{
	rpc_client_free(world->admin);
	rpc_client_free(world->auditor);
	rpc_client_free(world->ftp);
	rpc_client_free(world->sip);
	world->admin = world->auditor = world->ftp = world->sip = NULL;
	server_stop(world->server);
	world->server = NULL;
}

static inline void world_principal(struct world *world, struct store_txn *txn,
	enum world_token token, enum rpc_role role, const char *name, const char *scope)
{
	struct principal_record record = {.role = (uint8_t)role};
	snprintf(record.name, sizeof record.name, "%s", name);
	snprintf(record.gateways, sizeof record.gateways, "%s", scope);
	if (role == RPC_ROLE_AGENT)
		snprintf(record.gateway, sizeof record.gateway, "%s", name);
	token_new(rpc_role_name(role), world->tokens[token]);
	token_hash(world->tokens[token], record.token_hash);
	store_txn_put_principal(txn, &record);
}

static inline void on_populated(void *arg, uint64_t sequence, const struct error *err)
{
	(void)sequence;
	cr_assert_eq(err->status, STATUS_OK, "%s", err->text);
	*(bool *)arg = true;
}

/* Filters ftp-filter (everywhere) and sip-filter (gw2 only); gateways gw1, gw2; protocols ftp
 * (allowed) and dns. */
static inline void world_populate(struct world *world)
{
	struct store *store = NULL;
	struct error err = {0};
	bool done = false;
	cr_assert_eq(store_create(world->config.database, &err), STATUS_OK, "%s", err.text);
	cr_assert_eq(store_open(world->config.database, world->loop, &store, &err), STATUS_OK);
	struct store_txn *txn = store_txn_new(store);
	for (int i = 1; i <= 2; i++) {
		struct gateway_record gateway = {.added_us = 1};
		snprintf(gateway.name, sizeof gateway.name, "gw%d", i);
		store_txn_put_gateway(txn, &gateway);
	}
	world_principal(world, txn, TOKEN_ADMIN, RPC_ROLE_ADMIN, "admin", "");
	world_principal(world, txn, TOKEN_AUDITOR, RPC_ROLE_AUDITOR, "auditor", "");
	world_principal(world, txn, TOKEN_FTP, RPC_ROLE_FILTER, "ftp-filter", "");
	world_principal(world, txn, TOKEN_SIP, RPC_ROLE_FILTER, "sip-filter", "gw2");
	world_principal(world, txn, TOKEN_GW1, RPC_ROLE_AGENT, "gw1", "");
	world_principal(world, txn, TOKEN_GW2, RPC_ROLE_AGENT, "gw2", "");
	struct protocol_record ftp = {
		.guid = id_new(), .name = "ftp", .transport = 6, .shared = true};
	struct protocol_record dns = {
		.guid = id_new(), .name = "dns", .transport = 17, .shared = true};
	struct rule_record rule = {.name = "allow ftp", .type = 1, .protocol = "ftp"};
	store_txn_put_protocol(txn, &ftp);
	store_txn_put_protocol(txn, &dns);
	store_txn_put_rule(txn, &rule);
	store_submit(store, txn, on_populated, &done);
	WAIT_UNTIL(world, done);
	store_close(store);
}

static inline void world_configure(struct world *world, const char *more)
{
	struct error err = {0};
	FILE *file = fopen(world->config_path, "w");
	cr_assert_not_null(file);
	fprintf(file, "listen = %s\n%s\n", world->url, more);
	fclose(file);
	cr_assert_eq(server_config_read(world->config_path, &world->config, &err), STATUS_OK, "%s",
		err.text);
}

/* `more` lines of configuration; the database lies in `parent`. */
static inline void world_begin_in(struct world *world, const char *parent, const char *more)
{
	struct error err = {0};
	memset(world, 0, sizeof *world);
	log_init("test", LOG_LEVEL_ERR);
	snprintf(world->dir, sizeof world->dir, "%s/postern-world-XXXXXX", parent);
	cr_assert_not_null(mkdtemp(world->dir));
	snprintf(world->url, sizeof world->url, "ipc://%s/s.sock", world->dir);
	snprintf(world->config_path, sizeof world->config_path, "%s/posternd.conf", world->dir);
	world_configure(world, more);
	cr_assert_eq(loop_new(&world->loop, &err), STATUS_OK);
	world_populate(world);
	world_start(world);
}

static inline void world_begin(struct world *world, const char *more)
{
	world_begin_in(world, "/tmp", more);
}

static inline void world_end(struct world *world)
{
	world_stop(world);
	loop_free(world->loop);
	server_config_fini(&world->config);
	DIR *dir = opendir(world->dir);
	for (struct dirent *file = dir ? readdir(dir) : NULL; file; file = readdir(dir))
		if (file->d_name[0] != '.')
			unlinkat(dirfd(dir), file->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(world->dir);
}

/* ---- grants ---- */

static inline Postern__V1__GrantRequest grant_request(void)
{
	Postern__V1__GrantRequest request = POSTERN__V1__GRANT_REQUEST__INIT;
	request.gateway = TEXT("gw1");
	request.client = TEXT("10.77.1.2");
	request.remote = TEXT("10.77.2.2");
	request.remote_port = 1046;
	request.transport = POSTERN__V1__TRANSPORT__TRANSPORT_TCP;
	request.protocol = TEXT("ftp");
	return request;
}

static inline void start_request(struct rpc_client *client,
	const Postern__V1__GrantRequest *request, uint32_t deadline_ms, struct result *result)
{
	start_call(client, &postern__v1__grants__descriptor, "Request", &request->base, deadline_ms,
		result);
}

static inline enum status ask(struct world *world, struct rpc_client *client,
	const Postern__V1__GrantRequest *request, struct result *result)
{
	start_request(client, request, 0, result);
	WAIT_UNTIL(world, result->done);
	return result->err.status;
}

static inline const Postern__V1__Grant *granted(const struct result *result)
{
	cr_assert_eq(result->err.status, STATUS_OK, "%s: %s", status_name(result->err.status),
		result->err.text);
	return ((const Postern__V1__GrantReply *)result->reply)->grant;
}

/* Asks and expects to be granted; the id. */
static inline void get_grant(
	struct world *world, const Postern__V1__GrantRequest *request, char id[static ID_TEXT_SIZE])
{
	struct result result;
	(void)ask(world, world->ftp, request, &result);
	snprintf(id, ID_TEXT_SIZE, "%s", granted(&result)->id);
	result_clear(&result);
}

static inline enum status cancel(
	struct world *world, struct rpc_client *client, const char *id, struct result *result)
{
	Postern__V1__GrantCancelRequest request = POSTERN__V1__GRANT_CANCEL_REQUEST__INIT;
	request.id = TEXT(id);
	return call(
		world, client, &postern__v1__grants__descriptor, "Cancel", &request.base, result);
}

struct shown {
	unsigned state, reason;
	uint64_t connections;
};

static inline struct shown show(struct world *world, const char *id)
{
	Postern__V1__GrantShowRequest request = POSTERN__V1__GRANT_SHOW_REQUEST__INIT;
	struct result result;
	request.id = TEXT(id);
	(void)call(world, world->admin, &postern__v1__grants__descriptor, "Show", &request.base,
		&result);
	const Postern__V1__Grant *grant = granted(&result);
	struct shown shown = {(unsigned)grant->state, (unsigned)grant->reason, grant->connections};
	result_clear(&result);
	return shown;
}

static inline void expect_state(
	struct world *world, const char *id, enum grant_state state, unsigned reason)
{
	struct shown shown = show(world, id);
	cr_expect_eq(shown.state, state, "%s", grant_state_name((enum grant_state)shown.state));
	cr_expect_eq(shown.reason, reason, "%s", end_reason_name((enum end_reason)shown.reason));
}

/* ---- sessions ---- */

/* With the primary connection 10.77.1.2:40000 to 10.77.2.2:21. */
static inline void start_watched_session(
	struct rpc_client *client, uint32_t deadline_ms, struct result *result)
{
	Postern__V1__SessionOpenRequest request = POSTERN__V1__SESSION_OPEN_REQUEST__INIT;
	Postern__V1__Flow primary = POSTERN__V1__FLOW__INIT;
	request.gateway = TEXT("gw1");
	request.client = TEXT("10.77.1.2");
	request.primary = &primary;
	primary.client = TEXT("10.77.1.2");
	primary.client_port = 40000;
	primary.remote = TEXT("10.77.2.2");
	primary.remote_port = 21;
	primary.transport = POSTERN__V1__TRANSPORT__TRANSPORT_TCP;
	start_call(client, &postern__v1__sessions__descriptor, "Open", &request.base, deadline_ms,
		result);
}

static inline enum status open_session(
	struct world *world, struct rpc_client *client, struct result *result)
{
	Postern__V1__SessionOpenRequest request = POSTERN__V1__SESSION_OPEN_REQUEST__INIT;
	request.gateway = TEXT("gw1");
	request.client = TEXT("10.77.1.2");
	return call(
		world, client, &postern__v1__sessions__descriptor, "Open", &request.base, result);
}

static inline void get_session(struct world *world, char id[static ID_TEXT_SIZE])
{
	struct result result;
	cr_assert_eq(open_session(world, world->ftp, &result), STATUS_OK, "%s", result.err.text);
	snprintf(id, ID_TEXT_SIZE, "%s", ((Postern__V1__Session *)result.reply)->id);
	result_clear(&result);
}

static inline enum status close_session(
	struct world *world, struct rpc_client *client, const char *id, struct result *result)
{
	Postern__V1__SessionCloseRequest request = POSTERN__V1__SESSION_CLOSE_REQUEST__INIT;
	request.id = TEXT(id);
	return call(
		world, client, &postern__v1__sessions__descriptor, "Close", &request.base, result);
}

/* ---- the journal ---- */

/* Entries of this kind about this grant (NULL = any); the last of them is copied into `ret_last`
 * (may be NULL). */
static inline size_t count_entries(struct world *world, Postern__V1__EntryKind kind,
	const char *grant, Postern__V1__Entry **ret_last)
{
	Postern__V1__AuditQuery query = POSTERN__V1__AUDIT_QUERY__INIT;
	struct result result;
	size_t count = 0;
	query.n_kinds = 1;
	query.kinds = &kind;
	if (grant)
		query.grant = TEXT(grant);
	cr_assert_eq(call(world, world->auditor, &postern__v1__audit__descriptor, "Query",
			     &query.base, &result),
		STATUS_OK, "%s", result.err.text);
	const Postern__V1__Entry *last = NULL;
	for (size_t i = 0; i < result.item_count; i++) {
		const Postern__V1__AuditPage *page =
			(const Postern__V1__AuditPage *)result.items[i];
		count += page->n_entries;
		last = page->n_entries ? page->entries[page->n_entries - 1] : last;
	}
	if (ret_last)
		*ret_last = last ? (Postern__V1__Entry *)message_copy(&last->base) : NULL;
	result_clear(&result);
	return count;
}

#define KIND(kind) POSTERN__V1__ENTRY_KIND__ENTRY_KIND_##kind
#define COUNT(world, kind, grant) count_entries((world), KIND(kind), (grant), NULL)

static inline void entry_free(Postern__V1__Entry *entry)
{
	if (entry)
		postern__v1__entry__free_unpacked(entry, NULL);
}

/* I9. */
static inline void expect_intact(struct world *world)
{
	Postern__V1__AuditVerifyRequest request = POSTERN__V1__AUDIT_VERIFY_REQUEST__INIT;
	struct result result;
	cr_assert_eq(call(world, world->auditor, &postern__v1__audit__descriptor, "Verify",
			     &request.base, &result),
		STATUS_OK, "%s", result.err.text);
	cr_expect(((Postern__V1__AuditVerifyReply *)result.reply)->intact, "%s",
		((Postern__V1__AuditVerifyReply *)result.reply)->fault);
	result_clear(&result);
}

#endif
