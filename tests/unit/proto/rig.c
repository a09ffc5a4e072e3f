#include "tests/unit/proto/rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct loop *loop;
struct rpc_server *server;
struct rpc_client *client;
char folder[64], url[160];
enum rpc_client_state state;
struct error state_error;
unsigned ready_count;
struct rpc_call *held;
unsigned held_ended;
enum status held_why;
uint64_t sent_items;
struct answer one;
unsigned answers;

static uint64_t to_send;

/* ---- services ---- */

static void on_held_end(void *arg, enum status why)
{
	struct rpc_call *call = arg;
	struct error err = {0};
	held_ended++;
	held_why = why;
	held = NULL;
	error_set(&err, why, "nobody waits");
	rpc_fail(call, &err);
}

static void show(Postern__V1__Gateways_Service *service,
	const Postern__V1__GatewayShowRequest *input, Postern__V1__Gateway_Closure closure,
	void *data)
{
	struct rpc_call *call = data;
	Postern__V1__Gateway reply = POSTERN__V1__GATEWAY__INIT;
	struct error err = {0};
	(void)service;
	(void)closure;
	if (strcmp(input->name, "hold") == 0) {
		held = call;
		rpc_on_end(call, on_held_end, call);
	} else if (strcmp(input->name, "fail") == 0) {
		error_reason(&err, STATUS_PERMISSION_DENIED, REASON_DENIED_PROTOCOL_RULES,
			"no rule allows it");
		snprintf(err.rule, sizeof err.rule, "a rule");
		rpc_fail(call, &err);
	} else if (strcmp(input->name, "large") == 0) {
		reply.name = malloc(rpc_default_limits.max_frame_bytes + 1);
		memset(reply.name, 'x', rpc_default_limits.max_frame_bytes);
		reply.name[rpc_default_limits.max_frame_bytes] = '\0';
		rpc_reply(call, &reply.base);
		free(reply.name);
	} else {
		reply.name = input->name;
		rpc_reply(call, &reply.base);
	}
}

static void add(Postern__V1__Gateways_Service *service, const Postern__V1__GatewayAddRequest *input,
	Postern__V1__GatewayAddReply_Closure closure, void *data)
{
	Postern__V1__GatewayAddReply reply = POSTERN__V1__GATEWAY_ADD_REPLY__INIT;
	(void)service;
	(void)input;
	(void)closure;
	rpc_reply(data, &reply.base);
}

static void list(Postern__V1__Gateways_Service *service,
	const Postern__V1__GatewayListRequest *input, Postern__V1__Gateway_Closure closure,
	void *data)
{
	(void)service;
	(void)input;
	(void)closure;
	rpc_end(data);
}

static void pump(void *arg)
{
	struct rpc_call *call = arg;
	Postern__V1__EventBatch batch = POSTERN__V1__EVENT_BATCH__INIT;
	while (to_send > 0 && rpc_credit(call) > 0) {
		batch.cursor = sent_items + 1;
		if (rpc_item(call, &batch.base))
			return; /* the connection is gone: on_end follows */
		sent_items++;
		to_send--;
	}
	if (to_send == 0)
		rpc_end(call);
}

static void on_stream_end(void *arg, enum status why)
{
	struct error err = {0};
	error_set(&err, why, "stopped");
	rpc_fail(arg, &err);
}

static void watch(Postern__V1__Events_Service *service, const Postern__V1__WatchRequest *input,
	Postern__V1__EventBatch_Closure closure, void *data)
{
	(void)service;
	(void)closure;
	to_send = input->cursor;
	sent_items = 0;
	rpc_on_end(data, on_stream_end, data);
	rpc_on_credit(data, pump, data);
	pump(data);
}

static Postern__V1__Gateways_Service gateways = POSTERN__V1__GATEWAYS__INIT();
static Postern__V1__Events_Service events = POSTERN__V1__EVENTS__INIT();
static Postern__V1__Sessions_Service sessions = {.base = POSTERN__V1__SESSIONS__BASE_INIT};

static enum status authenticate(void *arg, const char *token, const char *name,
	struct rpc_principal *ret, struct error *err)
{
	(void)arg;
	(void)name;
	if (strcmp(token, "right") != 0)
		return error_set(err, STATUS_UNAUTHENTICATED, "unknown token");
	memset(ret, 0, sizeof *ret);
	ret->role = RPC_ROLE_ADMIN;
	snprintf(ret->name, sizeof ret->name, "tester");
	return STATUS_OK;
}

static enum status authorise(
	void *arg, const struct rpc_principal *principal, const char *method, struct error *err)
{
	(void)arg;
	(void)principal;
	if (strcmp(method, "postern.v1.Gateways/Add") == 0)
		return error_set(err, STATUS_PERMISSION_DENIED, "not for you");
	return STATUS_OK;
}

/* ---- both sides ---- */

static void on_state(void *arg, enum rpc_client_state now, const struct rpc_welcome *welcome,
	const struct error *err)
{
	(void)arg;
	state = now;
	state_error = *err;
	if (now == RPC_CLIENT_READY) {
		ready_count++;
		cr_expect_str_eq(welcome->principal, "tester");
		cr_expect_str_eq(welcome->role, "admin");
	}
}

void step_until(bool (*done)(void))
{
	int64_t until = clock_mono_us() + DEADLINE_US;
	while (!done() && clock_mono_us() < until)
		loop_step(loop, 50);
	cr_assert(done(), "not before the deadline; client: %s", state_error.text);
}

bool is_ready(void)
{
	return state == RPC_CLIENT_READY;
}

bool is_lost(void)
{
	return state != RPC_CLIENT_READY;
}

bool is_error(void)
{
	return state_error.status != STATUS_OK;
}

bool is_held(void)
{
	return held != NULL;
}

struct rpc_stats rig_stats(void)
{
	struct rpc_stats now;
	rpc_server_stats(server, &now);
	return now;
}

bool all_gone(void)
{
	struct rpc_stats now = rig_stats();
	return now.accepted > 0 && now.connections == 0;
}

char *rig_path(const char *name)
{
	static char paths[8][160];
	static unsigned next;
	char *path = paths[next++ % 8];
	snprintf(path, sizeof paths[0], "%s/%s", folder, name);
	return path;
}

void rig_make_certificates(void)
{
	static const char script[] =
		"cd %s && new='openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes' && "
		"exec 2>/dev/null && "
		"$new -x509 -keyout ca.key -out ca.pem -days 2 -subj /CN=ca && "
		"$new -x509 -keyout other.key -out other.pem -days 2 -subj /CN=other && "
		"sign() { $new -keyout $1.key -out $1.csr -subj /CN=$1 && "
		"echo subjectAltName=$2 > $1.ext && "
		"openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 "
		"-extfile $1.ext -out $1.pem; } && "
		"sign cert DNS:localhost,DNS:127.0.0.1,IP:127.0.0.1,DNS:::1,IP:::1 && "
		"sign elsewhere DNS:elsewhere.example && sign person DNS:person";
	char command[sizeof script + sizeof folder];
	snprintf(command, sizeof command, script, folder);
	/* allowed: a test makes its certificates with a fixed command */
	cr_assert_eq(system(command), 0);
}

void rig_serve_as(const char *transport, const struct rpc_limits *limits, const char *cert,
	const char *client_ca)
{
	struct error err = {0};
	char key[64];
	snprintf(key, sizeof key, "%.*s.key", (int)strcspn(cert, "."), cert);
	struct rpc_server_config config = {.loop = loop,
		.limits = limits ? *limits : rpc_default_limits,
		.identity = "test server",
		.tls_cert_file = rig_path(cert),
		.tls_key_file = rig_path(key),
		.tls_client_ca_file = client_ca ? rig_path(client_ca) : NULL,
		.authenticate = authenticate,
		.authorise = authorise};
	cr_assert_eq(rpc_server_new(&config, &server, &err), STATUS_OK, "%s", err.text);
	cr_assert_eq(rpc_server_add(server, &gateways.base, &err), STATUS_OK);
	cr_assert_eq(rpc_server_add(server, &events.base, &err), STATUS_OK);
	cr_assert_eq(rpc_server_add(server, &sessions.base, &err), STATUS_OK);
	if (strcmp(transport, "ipc") == 0)
		snprintf(url, sizeof url, "ipc://%s/sock", folder);
	else if (strstr(transport, "://"))
		snprintf(url, sizeof url, "%s", transport);
	else
		snprintf(url, sizeof url, "%s://127.0.0.1:0", transport);
	cr_assert_eq(rpc_server_listen(server, url, &err), STATUS_OK, "%s", err.text);
	snprintf(url, sizeof url, "%s", rpc_server_url(server, 0));
}

bool rig_try_serve(const char *transport, struct error *err)
{
	struct rpc_server_config config = {.loop = loop,
		.limits = rpc_default_limits,
		.authenticate = authenticate,
		.authorise = authorise};
	if (rpc_server_new(&config, &server, err)) {
		server = NULL;
		return false;
	}
	snprintf(url, sizeof url, "%s://%s/sock", transport, folder);
	return rpc_server_add(server, &gateways.base, err) == STATUS_OK &&
		rpc_server_add(server, &events.base, err) == STATUS_OK &&
		rpc_server_listen(server, url, err) == STATUS_OK;
}

bool rig_try_dial(struct error *err)
{
	struct rpc_client_config config = {.loop = loop,
		.limits = rpc_default_limits,
		.url = url,
		.token = "right",
		.reconnect = true,
		.on_state = on_state};
	if (rpc_client_new(&config, &client, err)) {
		client = NULL;
		return false;
	}
	rpc_client_start(client);
	return true;
}

void rig_serve(const char *transport, const struct rpc_limits *limits)
{
	rig_serve_as(transport, limits, "cert.pem", NULL);
}

void rig_dial(const struct rig_dial *how)
{
	struct error err = {0};
	char key[64] = "";
	if (how->cert)
		snprintf(key, sizeof key, "%.*s.key", (int)strcspn(how->cert, "."), how->cert);
	struct rpc_client_config config = {.loop = loop,
		.limits = how->limits ? *how->limits : rpc_default_limits,
		.url = url,
		.token = how->token ? how->token : "right",
		.name = "test",
		.ca_file = rig_path(how->ca ? how->ca : "ca.pem"),
		.server_name = how->server_name,
		.cert_file = how->cert ? rig_path(how->cert) : NULL,
		.key_file = how->cert ? rig_path(key) : NULL,
		.reconnect = !how->once,
		.on_state = on_state};
	state = RPC_CLIENT_CONNECTING;
	memset(&state_error, 0, sizeof state_error);
	cr_assert_eq(rpc_client_new(&config, &client, &err), STATUS_OK, "%s", err.text);
	rpc_client_start(client);
}

void rig_connect(const char *transport)
{
	if (strncmp(transport, "tls", 3) == 0)
		rig_make_certificates();
	rig_serve(transport, NULL);
	rig_dial(&(struct rig_dial){0});
	step_until(is_ready);
}

void rig_setup(void)
{
	struct error err;
	snprintf(folder, sizeof folder, "/tmp/postern-rpc-XXXXXX");
	cr_assert_not_null(mkdtemp(folder));
	cr_assert_eq(loop_new(&loop, &err), STATUS_OK);
}

void rig_teardown(void)
{
	char command[128];
	rpc_client_free(client);
	rpc_server_free(server);
	loop_free(loop);
	snprintf(command, sizeof command, "rm -rf %s", folder);
	/* allowed: a fixed command on the test's own folder */
	cr_expect_eq(system(command), 0);
}

/* ---- calls ---- */

void on_answer(void *arg, const ProtobufCMessage *reply, const struct error *err)
{
	struct answer *answer = arg;
	cr_assert_not(answer->done, "answered twice");
	answer->done = true;
	answer->err = *err;
	if (reply)
		snprintf(answer->name, sizeof answer->name, "%s",
			((const Postern__V1__Gateway *)reply)->name);
	answers++;
}

enum status ask(const char *name, const struct rpc_call_options *options, struct answer *answer,
	uint64_t *ret_call)
{
	Postern__V1__GatewayShowRequest request = POSTERN__V1__GATEWAY_SHOW_REQUEST__INIT;
	request.name = (char *)(uintptr_t)name;
	memset(answer, 0, sizeof *answer);
	return rpc_client_call(client, &postern__v1__gateways__descriptor, "Show", &request.base,
		options, on_answer, answer, ret_call, &answer->err);
}

bool one_done(void)
{
	return one.done;
}
