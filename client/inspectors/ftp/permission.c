/* Design.
 *
 * Threads. libpostern calls back on its own thread. A callback copies what it was told into the
 * request (or a note) and posts that to the loop; everything else here runs on the loop. Requests
 * belong to this file from their birth to the callback on the loop; a session that goes away
 * forgets its request, and the answer then only serves to give back what was got: a late session is
 * closed, a late door cancelled.
 *
 * The first connection is connector.c's; sessions asked for before it wait in `early`.
 *
 * Closing sessions must not be lost with the connection: what could not be delivered stands in
 * `unclosed`, bounded, and is tried again every RETRY_US. Past the bound, and after a kill, the
 * server's own idle limit ends the sessions.
 *
 * Events are a log, not state: when the loop does not keep up, they are dropped and counted. */
#include "client/inspectors/ftp/permission.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/inspectors/ftp/config.h"
#include "client/inspectors/ftp/connector.h"
#include "client/inspectors/ftp/gatekeeper.h"
#include "common/clock.h"
#include "common/loop.h"
#include "postern/postern.h"

#define RETRY_US 5000000
#define RETRIES_AT_ONCE 64
#define UNCLOSED_MAX 8192
#define NOTES_MAX 4096
#define SESSION_DEADLINE_MS 5000

enum request_kind { REQUEST_OPEN, REQUEST_ASK, REQUEST_CLOSE };

struct gatekeeper_request {
	struct loop_task task;
	struct permission *permission;
	enum request_kind kind;
	gatekeeper_cb cb;
	void *arg;
	bool forgotten;
	struct gatekeeper_request *next, **link; /* early, unclosed */
	struct endpoint client, server; /* OPEN */
	uint32_t deadline_ms;
	char id[GATEKEEPER_ID_SIZE]; /* the outcome; CLOSE: what to close */
	struct endpoint external; /* ASK, the outcome */
	struct error err;
};

struct note {
	struct loop_task task;
	struct permission *permission;
	enum { NOTE_LINK, NOTE_EVENT } kind;
	struct error err;
	struct permission_event event;
};

struct permission {
	struct gatekeeper base;
	struct loop *loop;
	struct permission_options options;
	char *gateway, *protocol;
	struct permission_counts counts;

	struct connector *connector;
	struct postern *postern; /* NULL = not yet connected */
	struct postern_watch *watch;
	struct gatekeeper_request *early, **early_end, *unclosed;
	size_t outstanding; /* requests that libpostern holds */
	size_t unclosed_count;
	struct loop_timer retry_timer;
	bool leaving;

	atomic_size_t notes;
	atomic_ullong notes_dropped;
};

static void take_error(const struct postern_error *from, struct error *ret_err)
{
	memset(ret_err, 0, sizeof(*ret_err));
	ret_err->status = (enum status)from->status;
	ret_err->reason = (enum reason)from->reason;
	snprintf(ret_err->rule, sizeof(ret_err->rule), "%s", from->rule);
	snprintf(ret_err->grant, sizeof(ret_err->grant), "%s", from->grant);
	snprintf(ret_err->field, sizeof(ret_err->field), "%s", from->field);
	snprintf(ret_err->text, sizeof(ret_err->text), "%s", from->text);
}

/* ---- notes from other threads ---- */

static void on_note(void *arg)
{
	struct note *note = arg;
	struct permission *permission = note->permission;

	atomic_fetch_sub(&permission->notes, 1);
	if (!permission->leaving) {
		switch (note->kind) {
		case NOTE_LINK:
			permission->options.on_link(permission->options.arg, &note->err);
			break;
		case NOTE_EVENT:
			permission->options.on_event(permission->options.arg, &note->event);
			break;
		}
	}
	free(note);
}

static void post_note(struct permission *permission, struct note *note)
{
	note->permission = permission;
	loop_post(permission->loop, &note->task, on_note, note);
}

static struct note *new_note(struct permission *permission)
{
	struct note *note = NULL;

	if (atomic_fetch_add(&permission->notes, 1) < NOTES_MAX)
		note = calloc(1, sizeof(*note));
	if (!note) {
		atomic_fetch_sub(&permission->notes, 1);
		atomic_fetch_add(&permission->notes_dropped, 1);
	}
	return note;
}

static void on_link(void *arg, enum postern_status status, const struct postern_error *err)
{
	struct permission *permission = arg;
	struct note *note = new_note(permission);

	if (!note)
		return;
	note->kind = NOTE_LINK;
	if (err)
		take_error(err, &note->err);
	note->err.status = (enum status)status;
	post_note(permission, note);
}

static void join_endpoint(char *text, size_t size, const char *address, uint16_t port)
{
	snprintf(text, size, strchr(address, ':') ? "[%s]:%u" : "%s:%u", address, (unsigned)port);
}

static void on_event(void *arg, const struct postern_event *event)
{
	struct permission *permission = arg;
	struct note *note;

	if (event->kind != POSTERN_EVENT_ESTABLISHED && event->kind != POSTERN_EVENT_CLOSED)
		return;
	/* Inspectors of several gateways may share one filter. */
	if (strcmp(event->gateway, permission->gateway) != 0)
		return;
	note = new_note(permission);
	if (!note)
		return;
	note->kind = NOTE_EVENT;
	note->event.closed = event->kind == POSTERN_EVENT_CLOSED;
	note->event.accounted = event->accounted;
	note->event.bytes_sent = event->bytes_sent;
	note->event.bytes_received = event->bytes_received;
	note->event.duration_us = event->duration_us;
	snprintf(note->event.session, sizeof(note->event.session), "%s", event->session);
	snprintf(note->event.grant, sizeof(note->event.grant), "%s", event->grant);
	join_endpoint(
		note->event.client, sizeof(note->event.client), event->client, event->client_port);
	join_endpoint(
		note->event.remote, sizeof(note->event.remote), event->remote, event->remote_port);
	post_note(permission, note);
}

/* ---- requests ---- */

static struct gatekeeper_request *new_request(struct permission *permission, enum request_kind kind,
	gatekeeper_cb cb, void *arg, struct error *err)
{
	struct gatekeeper_request *request = calloc(1, sizeof(*request));

	if (!request) {
		error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	request->permission = permission;
	request->kind = kind;
	request->cb = cb;
	request->arg = arg;
	return request;
}

static void link_request(struct gatekeeper_request **list, struct gatekeeper_request *request)
{
	request->next = *list;
	request->link = list;
	if (request->next)
		request->next->link = &request->next;
	*list = request;
}

static void unlink_request(struct gatekeeper_request *request)
{
	struct permission *permission = request->permission;

	if (permission->early_end == &request->next)
		permission->early_end = request->link;
	*request->link = request->next;
	if (request->next)
		request->next->link = request->link;
	request->next = NULL;
	request->link = NULL;
}

static void close_session(struct gatekeeper *gatekeeper, const char *session);
static void on_retry(void *arg);

/* What is lost with the connection ends with its session, or by its time limit. */
static void cancel(struct gatekeeper *gatekeeper, const char *grant)
{
	struct permission *permission = (struct permission *)gatekeeper;

	if (permission->postern)
		postern_cancel_async(permission->postern, grant, NULL, NULL, NULL);
}

static void give_back(struct permission *permission, const struct gatekeeper_request *request)
{
	if (request->kind == REQUEST_OPEN)
		close_session(&permission->base, request->id);
	else if (request->kind == REQUEST_ASK)
		cancel(&permission->base, request->id);
}

static bool is_temporary(enum status status)
{
	return status == STATUS_UNAVAILABLE || status == STATUS_DEADLINE_EXCEEDED ||
		status == STATUS_RESOURCE_EXHAUSTED;
}

static void close_ended(struct permission *permission, struct gatekeeper_request *request)
{
	if (permission->leaving || !is_temporary(request->err.status)) {
		free(request);
		return;
	}
	if (permission->unclosed_count >= UNCLOSED_MAX) {
		permission->counts.closes_dropped++;
		free(request);
		return;
	}
	permission->unclosed_count++;
	link_request(&permission->unclosed, request);
	if (!permission->retry_timer.armed)
		loop_timer_set(permission->loop, &permission->retry_timer,
			clock_mono_us() + RETRY_US, on_retry, permission);
}

static void on_answer(void *arg)
{
	struct gatekeeper_request *request = arg;
	struct permission *permission = request->permission;
	const struct gatekeeper_answer answer = {request->id, request->external};
	bool ok = request->err.status == STATUS_OK;

	permission->outstanding--;
	if (request->kind == REQUEST_CLOSE) {
		close_ended(permission, request);
		return;
	}
	if (!request->forgotten)
		request->cb(request->arg, ok ? &answer : NULL, &request->err);
	else if (ok)
		give_back(permission, request);
	free(request);
}

/* On libpostern's thread. */
static void answer(
	struct gatekeeper_request *request, const char *id, const struct postern_error *err)
{
	take_error(err, &request->err);
	if (id && request->kind != REQUEST_CLOSE)
		snprintf(request->id, sizeof(request->id), "%s", id);
	loop_post(request->permission->loop, &request->task, on_answer, request);
}

static void on_session(
	void *arg, const struct postern_session *session, const struct postern_error *err)
{
	answer(arg, session ? session->id : NULL, err);
}

static void on_grant(void *arg, const struct postern_grant *grant, const struct postern_error *err)
{
	struct gatekeeper_request *request = arg;

	if (grant && addr_parse(grant->external, &request->external.addr))
		request->external.port = grant->external_port;
	answer(request, grant ? grant->id : NULL, err);
}

/* The answer of a request that libpostern did not take. */
static void answer_refused(struct gatekeeper_request *request, const struct postern_error *err)
{
	request->permission->outstanding++;
	answer(request, NULL, err);
}

static void send_open(struct gatekeeper_request *request)
{
	struct permission *permission = request->permission;
	char client[ADDR_TEXT_SIZE], server[ADDR_TEXT_SIZE];
	struct postern_connection primary = {
		.transport = POSTERN_TCP,
		.client = client,
		.client_port = request->client.port,
		.remote = server,
		.remote_port = request->server.port,
	};
	struct postern_session_request wish = {
		.gateway = permission->gateway,
		.client = client,
		.protocol = permission->protocol,
		.primary = &primary,
		.deadline_ms = request->deadline_ms,
	};
	struct postern_error err;

	addr_format(&request->client.addr, client);
	addr_format(&request->server.addr, server);
	if (postern_session_open_async(permission->postern, &wish, on_session, request, &err) !=
		POSTERN_OK)
		answer_refused(request, &err);
	else
		permission->outstanding++;
}

static struct gatekeeper_request *open_session(struct gatekeeper *gatekeeper,
	const struct endpoint *client, const struct endpoint *server, uint32_t deadline_ms,
	gatekeeper_cb cb, void *arg, struct error *err)
{
	struct permission *permission = (struct permission *)gatekeeper;
	struct gatekeeper_request *request = new_request(permission, REQUEST_OPEN, cb, arg, err);

	if (!request)
		return NULL;
	request->client = *client;
	request->server = *server;
	request->deadline_ms = deadline_ms;
	if (permission->postern) {
		send_open(request);
	} else {
		request->link = permission->early_end;
		*permission->early_end = request;
		permission->early_end = &request->next;
	}
	return request;
}

static enum postern_status ask_outbound(struct gatekeeper_request *request,
	const struct gatekeeper_door *door, const char *external, struct postern_error *err)
{
	struct permission *permission = request->permission;
	char remote[ADDR_TEXT_SIZE];
	const struct postern_grant_request wish = {
		.session = door->session,
		.remote = remote,
		.remote_port = door->remote.port,
		.transport = POSTERN_TCP,
		.flags = POSTERN_TIMEOUT,
		.protocol = permission->protocol,
		.external = external,
		.notify = 1,
		.context = door->context,
		.context_size = strlen(door->context),
		.deadline_ms = door->deadline_ms,
	};

	addr_format(&door->remote.addr, remote);
	return postern_allow_future_connect_async(
		permission->postern, &wish, on_grant, request, err);
}

static enum postern_status ask_inbound(struct gatekeeper_request *request,
	const struct gatekeeper_door *door, const char *external, struct postern_error *err)
{
	struct permission *permission = request->permission;
	char remote[ADDR_TEXT_SIZE];
	const char *const remotes[] = {remote};
	const struct postern_accept_request wish = {
		.session = door->session,
		.client_port = door->client_port,
		.transport = POSTERN_TCP,
		.remotes = remotes,
		.remote_count = 1,
		.external = external,
		.flags = POSTERN_TIMEOUT,
		.protocol = permission->protocol,
		.notify = 1,
		.context = door->context,
		.context_size = strlen(door->context),
		.deadline_ms = door->deadline_ms,
	};

	addr_format(&door->remote.addr, remote);
	return postern_allow_future_accept_async(
		permission->postern, &wish, on_grant, request, err);
}

static struct gatekeeper_request *ask(struct gatekeeper *gatekeeper,
	const struct gatekeeper_door *door, gatekeeper_cb cb, void *arg, struct error *err)
{
	struct permission *permission = (struct permission *)gatekeeper;
	struct gatekeeper_request *request = new_request(permission, REQUEST_ASK, cb, arg, err);
	char text[ADDR_TEXT_SIZE];
	const char *external = door->external.family == ADDR_NONE ? NULL : text;
	enum postern_status status;
	struct postern_error failure;

	if (!request)
		return NULL;
	addr_format(&door->external, text);
	status = door->inbound ? ask_inbound(request, door, external, &failure)
			       : ask_outbound(request, door, external, &failure);
	if (status != POSTERN_OK)
		answer_refused(request, &failure);
	else
		permission->outstanding++;
	return request;
}

static void forget(struct gatekeeper *gatekeeper, struct gatekeeper_request *request)
{
	(void)gatekeeper;
	request->forgotten = true;
	if (request->link) {
		unlink_request(request);
		free(request);
	}
}

static void send_close(struct gatekeeper_request *request)
{
	struct permission *permission = request->permission;
	struct postern_error err;

	if (postern_session_close_async(
		    permission->postern, request->id, on_session, request, &err) != POSTERN_OK)
		answer_refused(request, &err);
	else
		permission->outstanding++;
}

static void close_session(struct gatekeeper *gatekeeper, const char *session)
{
	struct permission *permission = (struct permission *)gatekeeper;
	struct gatekeeper_request *request = NULL;
	struct error ignored;

	if (permission->postern)
		request = new_request(permission, REQUEST_CLOSE, NULL, NULL, &ignored);
	if (!request) {
		permission->counts.closes_dropped++;
		return;
	}
	snprintf(request->id, sizeof(request->id), "%s", session);
	send_close(request);
}

static void on_retry(void *arg)
{
	struct permission *permission = arg;
	struct gatekeeper_request *request;

	for (int i = 0; i < RETRIES_AT_ONCE && permission->unclosed; i++) {
		request = permission->unclosed;
		unlink_request(request);
		permission->unclosed_count--;
		send_close(request);
	}
	if (permission->unclosed)
		loop_timer_set(permission->loop, &permission->retry_timer,
			clock_mono_us() + RETRY_US, on_retry, permission);
}

static const struct gatekeeper_ops ops = {open_session, ask, forget, cancel, close_session};

/* ---- life ---- */

static void on_connected(void *arg, struct postern *postern)
{
	struct permission *permission = arg;
	struct gatekeeper_request *request;
	static const struct error fine;
	struct postern_error failure;
	struct error err;

	permission->postern = postern;
	permission->options.on_link(permission->options.arg, &fine);
	if (postern_watch_start(permission->postern, POSTERN_FROM_NOW, on_event, permission,
		    &permission->watch, &failure) != POSTERN_OK) {
		take_error(&failure, &err);
		permission->options.on_link(permission->options.arg, &err);
	}
	while (permission->early) {
		request = permission->early;
		unlink_request(request);
		if (request->deadline_ms < SESSION_DEADLINE_MS)
			request->deadline_ms = SESSION_DEADLINE_MS;
		send_open(request);
	}
}

static void free_permission(struct permission *permission)
{
	connector_free(permission->connector);
	free(permission->gateway);
	free(permission->protocol);
	free(permission);
}

enum status permission_new(const struct permission_options *options,
	struct permission **ret_permission, struct error *err)
{
	const struct ftp_config *config = options->config;
	struct permission *permission = calloc(1, sizeof(*permission));
	const struct connector_options connector = {
		.loop = options->loop,
		.config = config,
		.arg = permission,
		.on_connected = on_connected,
		.on_link = on_link,
	};
	enum status status;

	if (!permission)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	permission->base.ops = &ops;
	permission->loop = options->loop;
	permission->options = *options;
	permission->options.config = NULL;
	permission->early_end = &permission->early;
	permission->gateway = strdup(config->gateway);
	permission->protocol = strdup(config->protocol);
	if (!permission->gateway || !permission->protocol)
		status = error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	else
		status = connector_new(&connector, &permission->connector, err);
	if (status != STATUS_OK) {
		free_permission(permission);
		return status;
	}
	*ret_permission = permission;
	return STATUS_OK;
}

static void free_list(struct gatekeeper_request *list)
{
	while (list) {
		struct gatekeeper_request *next = list->next;

		free(list);
		list = next;
	}
}

void permission_free(struct permission *permission, uint32_t wait_ms)
{
	int64_t until = clock_mono_us() + (int64_t)wait_ms * 1000;
	struct postern *fresh;

	if (!permission)
		return;
	while (permission->outstanding > 0 && clock_mono_us() < until)
		loop_step(permission->loop, 50);
	permission->leaving = true;
	fresh = connector_stop(permission->connector);
	if (fresh)
		permission->postern = fresh;
	postern_watch_stop(permission->watch);
	postern_close(permission->postern);
	/* Every answer and note is posted by now. */
	permission->postern = NULL;
	while (permission->outstanding > 0 || atomic_load(&permission->notes) > 0 ||
		!connector_is_idle(permission->connector))
		loop_step(permission->loop, 0);
	loop_timer_clear(permission->loop, &permission->retry_timer);
	free_list(permission->early);
	free_list(permission->unclosed);
	free_permission(permission);
}

struct gatekeeper *permission_gatekeeper(struct permission *permission)
{
	return &permission->base;
}

struct permission_counts permission_counts(const struct permission *permission)
{
	struct permission_counts counts = permission->counts;

	counts.events_dropped = atomic_load(&((struct permission *)permission)->notes_dropped);
	return counts;
}
