/* What a filter does with grants beyond asking and cancelling: inbound ones, renewals, cuts,
 * reservations, bundles. */
#ifndef POSTERN_TESTS_UNIT_SERVER_GRANT_CALLS_H
#define POSTERN_TESTS_UNIT_SERVER_GRANT_CALLS_H

#include <signal.h>
#include <sys/resource.h>

#include "tests/unit/server/fake_agent.h"

#define EXTERNAL "10.77.2.101"

/* remote 10.77.2.2 → EXTERNAL, a port that the server chooses → 10.77.1.2:4000 */
static inline Postern__V1__GrantRequest accept_request(void)
{
	Postern__V1__GrantRequest request = grant_request();
	request.direction = POSTERN__V1__DIRECTION__DIRECTION_INBOUND;
	request.client_port = 4000;
	request.remote_port = 0;
	request.external = TEXT(EXTERNAL);
	return request;
}

static inline void start_grants_call(struct rpc_client *client, const char *method,
	const ProtobufCMessage *request, uint32_t deadline_ms, struct result *result)
{
	start_call(client, &postern__v1__grants__descriptor, method, request, deadline_ms, result);
}

static inline enum status grants_call(struct world *world, struct rpc_client *client,
	const char *method, const ProtobufCMessage *request, struct result *result)
{
	start_grants_call(client, method, request, 0, result);
	WAIT_UNTIL(world, result->done);
	return result->err.status;
}

static inline enum status renew(
	struct world *world, const char *id, uint64_t lifetime_ms, struct result *result)
{
	Postern__V1__GrantRenewRequest request = POSTERN__V1__GRANT_RENEW_REQUEST__INIT;
	request.id = TEXT(id);
	request.lifetime_ms = lifetime_ms;
	return grants_call(world, world->ftp, "Renew", &request.base, result);
}

static inline Postern__V1__GrantCommitRequest commit_request(const char *id)
{
	Postern__V1__GrantCommitRequest request = POSTERN__V1__GRANT_COMMIT_REQUEST__INIT;
	request.id = TEXT(id);
	return request;
}

static inline enum status commit(struct world *world, const char *id, struct result *result)
{
	Postern__V1__GrantCommitRequest request = commit_request(id);
	return grants_call(world, world->ftp, "Commit", &request.base, result);
}

static inline void start_cut(
	struct rpc_client *client, const char *id, uint32_t deadline_ms, struct result *result)
{
	Postern__V1__GrantCancelRequest request = POSTERN__V1__GRANT_CANCEL_REQUEST__INIT;
	request.id = TEXT(id);
	request.cut = true;
	start_grants_call(client, "Cancel", &request.base, deadline_ms, result);
}

static inline enum status cut(struct world *world, const char *id, struct result *result)
{
	start_cut(world->ftp, id, 0, result);
	WAIT_UNTIL(world, result->done);
	return result->err.status;
}

struct bundle {
	Postern__V1__BundleRequest request;
	Postern__V1__GrantRequest grants[65];
	Postern__V1__GrantRequest *pointers[65];
};

/* `count` grants of ports 5000 and on. */
static inline void bundle_init(struct bundle *bundle, size_t count)
{
	postern__v1__bundle_request__init(&bundle->request);
	for (size_t i = 0; i < count; i++) {
		bundle->grants[i] = grant_request();
		bundle->grants[i].remote_port = 5000 + (uint32_t)i;
		bundle->pointers[i] = &bundle->grants[i];
	}
	bundle->request.n_grants = count;
	bundle->request.grants = bundle->pointers;
}

static inline enum status ask_bundle(
	struct world *world, const struct bundle *bundle, struct result *result)
{
	return grants_call(world, world->ftp, "RequestBundle", &bundle->request.base, result);
}

static inline const Postern__V1__BundleReply *bundle_of(const struct result *result)
{
	cr_assert_eq(result->err.status, STATUS_OK, "%s: %s", status_name(result->err.status),
		result->err.text);
	return (const Postern__V1__BundleReply *)result->reply;
}

static inline enum status cancel_bundle(struct world *world, struct rpc_client *client,
	const char *id, bool with_cut, struct result *result)
{
	Postern__V1__BundleCancelRequest request = POSTERN__V1__BUNDLE_CANCEL_REQUEST__INIT;
	request.bundle = TEXT(id);
	request.cut = with_cut;
	return grants_call(world, client, "CancelBundle", &request.base, result);
}

/* Looks at a grant; to be freed with result_clear(). */
static inline const Postern__V1__Grant *look(
	struct world *world, const char *id, struct result *result)
{
	Postern__V1__GrantShowRequest request = POSTERN__V1__GRANT_SHOW_REQUEST__INIT;
	request.id = TEXT(id);
	(void)grants_call(world, world->admin, "Show", &request.base, result);
	return granted(result);
}

static inline void expect_error(
	struct result *result, enum status status, enum reason reason, const char *field)
{
	cr_expect_eq(result->err.status, status, "%s: %s", status_name(result->err.status),
		result->err.text);
	cr_expect_eq(result->err.reason, reason, "%s", result->err.text);
	if (field)
		cr_expect_str_eq(result->err.field, field, "%s", result->err.text);
	cr_expect_gt(strlen(result->err.text), 10);
	result_clear(result);
}

/* Writes behind the first page fail with EFBIG: an I/O error. */
static inline void break_disk(bool broken)
{
	struct rlimit limit = {
		.rlim_cur = broken ? 4096 : RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
	signal(SIGXFSZ, SIG_IGN);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* The server is another process; so is its agent's connection. */
static inline void restart_world(struct world *world, struct fake_agent *agent)
{
	if (agent->client)
		agent_disconnect(agent);
	world_stop(world);
	world_start(world);
}

#endif
