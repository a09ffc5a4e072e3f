/* Design.
 *
 *   accepted --> connecting --> relaying --> ended
 *                    |             |           ^
 *                    +-------------+-----------+   (one teardown: session_end)
 *
 * Every event (socket, timer, answer of the policy server) changes some state and then calls
 * work(), which moves what can be moved, answers what is decided, and arms sockets and timers for
 * the rest. work() may end the session, so it is always the last thing that a callback does.
 *
 * Back-pressure: a socket is read only while its input buffer has room; the dialogue moves bytes
 * only while the output buffer has room. A slow side, or a held reply, thus slows its own session.
 *
 * The door. A held reply starts a hold: with `id` known the door is asked for at once, otherwise
 * behind the opening of the policy server's session, all within config->deadline. The timer of the
 * hold comes HOLD_GRACE_MS later than the deadline that the server got, because its answer says
 * more than our silence. A hold may try a second time when the server has ended the session
 * meanwhile (it was idle), or when the opening had failed before the hold.
 *
 * Who may outlive whom: requests to the gatekeeper are forgotten when the session ends; the
 * gatekeeper gives back what they may still get. */
#include "client/inspectors/ftp/session.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/inspectors/ftp/channel.h"
#include "client/inspectors/ftp/config.h"
#include "client/inspectors/ftp/gatekeeper.h"
#include "client/inspectors/ftp/ports.h"
#include "client/inspectors/ftp/refusal.h"
#include "client/inspectors/ftp/transparent.h"
#include "common/clock.h"
#include "common/log.h"

#define HOLD_GRACE_MS 250
#define SOURCE_PORT_TRIES 16
/* How long the client may take to close behind the server. */
#define CLOSING_LIMIT_MS 30000
/* How long our answer to PORT waits for a server that owes one to an earlier command. */
#define OWING_LIMIT_MS 5000
#define LABEL_SIZE (2 * ENDPOINT_TEXT_SIZE + 4)

struct session {
	struct session_host *host;
	struct session_links links;
	struct endpoint client_end, server_end;
	char label[LABEL_SIZE];

	struct channel client, server;
	bool connected;
	struct port_use client_port, own_port;
	struct dialogue dialogue;

	char id[GATEKEEPER_ID_SIZE]; /* on the policy server; "" = none yet */
	struct gatekeeper_request *opening, *asking;
	int64_t hold_until_us;
	bool tried_again;

	int64_t active_us; /* last byte moved */
	uint64_t bytes_up, bytes_down;
	struct loop_timer idle_timer, hold_timer, owing_timer;
};

static void work(struct session *session);

static const char *id_of(const struct session *session)
{
	return session->id[0] ? session->id : "-";
}

const struct endpoint *session_client(const struct session *session)
{
	return &session->client_end;
}

struct session_links *session_links(struct session *session)
{
	return &session->links;
}

void session_turn_away(int fd, const char *line)
{
	/* Best effort: a fresh connection's buffer is empty. */
	send(fd, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT);
	shutdown(fd, SHUT_WR);
	close(fd);
}

/* ---- the end ---- */

static void free_session(struct session *session)
{
	struct session_host *host = session->host;

	channel_fini(&session->client);
	channel_fini(&session->server);
	loop_timer_clear(host->loop, &session->idle_timer);
	loop_timer_clear(host->loop, &session->hold_timer);
	loop_timer_clear(host->loop, &session->owing_timer);
	ports_give_back(host->ports, &session->client_port);
	ports_give_back(host->ports, &session->own_port);
	free(session);
}

static void leave_policy_server(struct session *session)
{
	struct gatekeeper *gatekeeper = session->host->gatekeeper;

	if (session->asking)
		gatekeeper->ops->forget(gatekeeper, session->asking);
	if (session->opening)
		gatekeeper->ops->forget(gatekeeper, session->opening);
	if (session->id[0])
		gatekeeper->ops->close(gatekeeper, session->id);
}

void session_end(struct session *session, const char *why)
{
	struct session_host *host = session->host;

	log_info("%s: %s: session ended: %s (%" PRIu64 " bytes up, %" PRIu64 " down)",
		id_of(session), session->label, why, session->bytes_up, session->bytes_down);
	leave_policy_server(session);
	host->on_end(host, session);
	free_session(session);
}

/* Ends it with a last line to the client, unless that would land inside a reply. */
static void say_and_end(struct session *session, const char *line, const char *why)
{
	struct channel *client = &session->client;

	if (!session->dialogue.opaque && client->out.length == 0 &&
		reply_is_between(&session->dialogue.replies)) {
		channel_receive(client); /* unread bytes would turn our FIN into a reset */
		send(client->fd, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT);
		channel_shut(client);
	}
	session_end(session, why);
}

/* ---- the door ---- */

static void end_hold(struct session *session)
{
	loop_timer_clear(session->host->loop, &session->hold_timer);
	session->active_us = clock_mono_us();
}

static bool refuse_door(struct session *session, const struct error *err)
{
	char door[ENDPOINT_TEXT_SIZE];

	endpoint_format(&session->dialogue.held.door, door);
	if (err->status == STATUS_PERMISSION_DENIED) {
		session->host->counts.denied++;
		log_info("%s: %s: door to %s denied: %s", id_of(session), session->label, door,
			err->text);
	} else {
		session->host->counts.failed++;
		log_warn("%s: %s: no door to %s: %s: %s", id_of(session), session->label, door,
			status_name(err->status), err->text);
	}
	end_hold(session);
	return dialogue_refuse(&session->dialogue, &session->server.in, &session->client.out,
		refusal_of_error(err));
}

static bool refuse_problem(struct session *session)
{
	static const char *const problems[] = {
		[DIALOGUE_FINE] = "",
		[DIALOGUE_UNREADABLE] = "its address cannot be read",
		[DIALOGUE_FOREIGN_HOST] = "bounce guard: it names another host",
		[DIALOGUE_LOW_PORT] = "it names a port below 1024",
		[DIALOGUE_OVERLONG] = "it is too long",
	};
	enum dialogue_problem problem = session->dialogue.held.problem;
	char door[ENDPOINT_TEXT_SIZE];

	endpoint_format(&session->dialogue.held.door, door);
	session->host->counts.guarded++;
	log_warn("%s: %s: passive reply refused: %s: %s", id_of(session), session->label,
		problems[problem], door);
	return dialogue_refuse(&session->dialogue, &session->server.in, &session->client.out,
		refusal_of_problem(problem));
}

static void on_opened(void *arg, const char *id, const struct error *err);
static void on_asked(void *arg, const char *id, const struct error *err);

static enum status open_session(struct session *session, uint32_t deadline_ms, struct error *err)
{
	struct gatekeeper *gatekeeper = session->host->gatekeeper;

	session->opening = gatekeeper->ops->open(gatekeeper, &session->client_end,
		&session->server_end, deadline_ms, on_opened, session, err);
	return session->opening ? STATUS_OK : err->status;
}

/* The next step of a hold: open the session if there is none, then ask. */
static enum status ask(struct session *session, struct error *err)
{
	struct gatekeeper *gatekeeper = session->host->gatekeeper;
	int64_t left_ms = (session->hold_until_us - clock_mono_us()) / 1000;
	char context[LABEL_SIZE + 32];
	struct gatekeeper_door door = {
		.session = session->id,
		.remote = session->dialogue.held.door,
		.context = context,
		.deadline_ms = (uint32_t)left_ms,
	};

	if (left_ms <= 0)
		return error_reason(err, STATUS_DEADLINE_EXCEEDED, REASON_DEADLINE,
			"the deadline passed before it was asked for");
	if (session->opening)
		return STATUS_OK;
	if (!session->id[0])
		return open_session(session, (uint32_t)left_ms, err);
	snprintf(context, sizeof(context), "ftp %s %s",
		session->dialogue.held.command == COMMAND_PASV ? "PASV" : "EPSV", session->label);
	session->asking = gatekeeper->ops->ask(gatekeeper, &door, on_asked, session, err);
	return session->asking ? STATUS_OK : err->status;
}

static void on_hold_timer(void *arg)
{
	struct session *session = arg;
	struct gatekeeper *gatekeeper = session->host->gatekeeper;
	struct error err;

	if (session->asking)
		gatekeeper->ops->forget(gatekeeper, session->asking);
	session->asking = NULL;
	error_reason(&err, STATUS_DEADLINE_EXCEEDED, REASON_DEADLINE,
		"no answer of the policy server within the deadline");
	if (!refuse_door(session, &err))
		session->client.failed = ENOMEM;
	work(session);
}

static bool start_hold(struct session *session)
{
	const struct session_host *host = session->host;
	int64_t now = clock_mono_us(), deadline_us = (int64_t)host->config->deadline_ms * 1000;
	struct error err;

	session->hold_until_us = now + deadline_us;
	session->tried_again = false;
	if (ask(session, &err) != STATUS_OK)
		return refuse_door(session, &err);
	loop_timer_set(host->loop, &session->hold_timer,
		session->hold_until_us + HOLD_GRACE_MS * 1000, on_hold_timer, session);
	return true;
}

/* A step of the hold failed: once more, or refuse. */
static void fail_hold(struct session *session, const struct error *cause, bool may_try_again)
{
	struct error err = *cause;

	if (may_try_again && !session->tried_again) {
		session->tried_again = true;
		if (ask(session, &err) == STATUS_OK)
			return;
	}
	if (!refuse_door(session, &err))
		session->client.failed = ENOMEM;
}

static void on_opened(void *arg, const char *id, const struct error *err)
{
	struct session *session = arg;
	struct error failure;
	bool held =
		session->dialogue.held.active && session->dialogue.held.problem == DIALOGUE_FINE;

	session->opening = NULL;
	if (id) {
		snprintf(session->id, sizeof(session->id), "%s", id);
		log_info("%s: %s: session opened", session->id, session->label);
		if (held && ask(session, &failure) != STATUS_OK)
			fail_hold(session, &failure, false);
	} else {
		log_warn("-: %s: no session on the policy server: %s: %s", session->label,
			status_name(err->status), err->text);
		if (held)
			fail_hold(session, err, true);
	}
	work(session);
}

/* The policy server ends idle sessions; that is no reason to refuse a transfer. */
static bool is_session_gone(const struct error *err)
{
	return (err->status == STATUS_NOT_FOUND || err->status == STATUS_FAILED_PRECONDITION) &&
		(err->reason == REASON_NONE || err->reason == REASON_ALREADY_ENDED);
}

static void on_asked(void *arg, const char *id, const struct error *err)
{
	struct session *session = arg;
	struct gatekeeper *gatekeeper = session->host->gatekeeper;
	char door[ENDPOINT_TEXT_SIZE];

	session->asking = NULL;
	if (!id) {
		if (is_session_gone(err)) {
			gatekeeper->ops->close(gatekeeper, session->id);
			session->id[0] = '\0';
		}
		fail_hold(session, err, !session->id[0]);
		work(session);
		return;
	}
	endpoint_format(&session->dialogue.held.door, door);
	log_info("%s: %s: door to %s is open: grant %s", session->id, session->label, door, id);
	session->host->counts.granted++;
	end_hold(session);
	if (!dialogue_release(&session->dialogue, &session->server.in, &session->client.out))
		session->client.failed = ENOMEM;
	work(session);
}

/* ---- moving bytes ---- */

static bool serve_replies(struct session *session)
{
	for (;;) {
		switch (dialogue_replies(&session->dialogue, &session->server.in,
			&session->client.out, session->server.eof)) {
		case DIALOGUE_IDLE:
			return true;
		case DIALOGUE_ASK:
			if (!start_hold(session))
				return false;
			break;
		case DIALOGUE_REFUSE:
			if (!refuse_problem(session))
				return false;
			break;
		}
	}
}

static size_t send_both(struct session *session)
{
	size_t up = session->connected ? channel_send(&session->server) : 0;
	size_t down = channel_send(&session->client);

	session->bytes_up += up;
	session->bytes_down += down;
	session->host->counts.bytes_up += up;
	session->host->counts.bytes_down += down;
	if (up + down > 0)
		session->active_us = clock_mono_us();
	return up + down;
}

/* Ends when nothing moves any more; each round sends or consumes bytes that were read before. */
static bool move_bytes(struct session *session)
{
	size_t waiting, sent;

	do {
		waiting = session->client.in.length + session->server.in.length;
		dialogue_commands(&session->dialogue, &session->client.in, &session->server.out,
			session->client.eof);
		if (!serve_replies(session))
			return false;
		sent = send_both(session);
	} while (sent > 0 || waiting != session->client.in.length + session->server.in.length);
	return true;
}

static void pass_ends_on(struct session *session)
{
	if (session->client.eof && session->client.in.length == 0 && session->connected)
		channel_shut(&session->server);
	if (session->server.eof && session->server.in.length == 0)
		channel_shut(&session->client);
}

static bool is_over(const struct session *session)
{
	return session->client.shut && (session->server.shut || session->client.eof);
}

/* ---- timers ---- */

static uint64_t idle_limit_ms(const struct session *session)
{
	const struct ftp_config *config = session->host->config;

	if (session->client.shut)
		return CLOSING_LIMIT_MS;
	return dialogue_in_transfer(&session->dialogue) ? config->transfer_idle_limit_ms
							: config->idle_limit_ms;
}

static void on_idle_timer(void *arg)
{
	struct session *session = arg;

	if (session->dialogue.held.active) {
		session->active_us = clock_mono_us(); /* it waits for us */
		work(session);
		return;
	}
	say_and_end(session, "421 Postern: this connection was idle for too long\r\n", "idle");
}

static void on_connect_timer(void *arg)
{
	struct session *session = arg;

	session->host->counts.connect_failures++;
	say_and_end(session, "421 Postern: the server does not answer\r\n",
		"the server does not answer");
}

static void on_owing_timer(void *arg)
{
	struct session *session = arg;

	dialogue_stop_waiting(&session->dialogue);
	work(session);
}

static void set_timers(struct session *session)
{
	struct loop *loop = session->host->loop;

	if (session->connected)
		loop_timer_set(loop, &session->idle_timer,
			session->active_us + (int64_t)idle_limit_ms(session) * 1000, on_idle_timer,
			session);
	if (!dialogue_is_owing(&session->dialogue))
		loop_timer_clear(loop, &session->owing_timer);
	else if (!session->owing_timer.armed)
		loop_timer_set(loop, &session->owing_timer, clock_mono_us() + OWING_LIMIT_MS * 1000,
			on_owing_timer, session);
}

static void work(struct session *session)
{
	if (!session->client.failed && !session->server.failed && !move_bytes(session))
		session->client.failed = ENOMEM;
	if (!session->client.failed && !session->server.failed) {
		pass_ends_on(session);
		channel_arm(&session->client, false);
		channel_arm(&session->server, !session->connected);
	}
	if (session->client.failed || session->server.failed) {
		char why[128];
		bool by_client = session->client.failed != 0;

		errno = by_client ? session->client.failed : session->server.failed;
		snprintf(why, sizeof(why), "%s: %m", by_client ? "client" : "server");
		session_end(session, why);
		return;
	}
	if (is_over(session)) {
		session_end(session, "closed");
		return;
	}
	set_timers(session);
}

/* ---- sockets ---- */

static void on_client(void *arg, uint32_t events)
{
	struct session *session = arg;

	(void)events;
	if (channel_receive(&session->client) > 0)
		session->active_us = clock_mono_us();
	work(session);
}

static void fail_to_connect(struct session *session, int error)
{
	char why[128];

	errno = error;
	snprintf(why, sizeof(why), "cannot connect to the server: %m");
	session->host->counts.connect_failures++;
	say_and_end(session,
		error == ECONNREFUSED ? "421 Postern: the server refuses the connection\r\n"
				      : "421 Postern: the server cannot be reached\r\n",
		why);
}

static void on_connected(struct session *session)
{
	int error = 0;
	socklen_t size = sizeof(error);
	struct error err;

	if (getsockopt(session->server.fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
		error = errno;
	if (error) {
		fail_to_connect(session, error);
		return;
	}
	session->connected = true;
	session->active_us = clock_mono_us();
	transparent_tune(session->server.fd);
	if (open_session(session, (uint32_t)session->host->config->deadline_ms, &err) != STATUS_OK)
		log_warn("-: %s: no session on the policy server: %s", session->label, err.text);
	work(session);
}

static void on_server(void *arg, uint32_t events)
{
	struct session *session = arg;

	(void)events;
	if (!session->connected) {
		on_connected(session);
		return;
	}
	if (channel_receive(&session->server) > 0)
		session->active_us = clock_mono_us();
	work(session);
}

/* ---- the beginning ---- */

/* 0 or errno. */
static int connect_to_server(struct session *session)
{
	const struct session_host *host = session->host;

	for (int i = 0; i < SOURCE_PORT_TRIES; i++) {
		if (!ports_pick(host->ports, &session->own_port, &session->client_end,
			    &session->server_end, (uint16_t)host->config->lowest_source_port,
			    (uint16_t)host->config->highest_source_port))
			return EADDRINUSE;
		session->server.fd = transparent_connect(
			&session->own_port.client, &session->server_end, host->transparent);
		if (session->server.fd >= 0)
			return 0;
		if (errno != EADDRINUSE && errno != EADDRNOTAVAIL)
			return errno;
		ports_give_back(host->ports, &session->own_port);
	}
	return EADDRNOTAVAIL;
}

static void make_label(struct session *session)
{
	char client[ENDPOINT_TEXT_SIZE], server[ENDPOINT_TEXT_SIZE];

	endpoint_format(&session->client_end, client);
	endpoint_format(&session->server_end, server);
	snprintf(session->label, sizeof(session->label), "%s>%s", client, server);
}

static const char *begin(struct session *session, int fd)
{
	struct session_host *host = session->host;
	int error;

	/* Its port is one that we use ourselves in its name (see ports.c): such a connection could
	 * not be told from ours. */
	if (!ports_take(
		    host->ports, &session->client_port, &session->client_end, &session->server_end))
		return "the client's port is in use";
	error = connect_to_server(session);
	if (error) {
		host->counts.connect_failures++;
		errno = error;
		log_warn("-: %s: cannot connect to the server: %m", session->label);
		return "no connection to the server";
	}
	session->client.fd = fd;
	transparent_tune(fd);
	channel_arm(&session->client, false);
	channel_arm(&session->server, true);
	if (session->client.failed || session->server.failed) {
		session->client.fd = -1;
		loop_io_remove(host->loop, &session->client.io);
		return "out of memory";
	}
	return NULL;
}

struct session *session_new(struct session_host *host, int fd, const struct endpoint *client,
	const struct endpoint *server)
{
	struct session *session = calloc(1, sizeof(*session));
	const char *failure;

	if (!session) {
		session_turn_away(fd, "421 Postern: out of memory; try again\r\n");
		return NULL;
	}
	session->host = host;
	session->client_end = *client;
	session->server_end = *server;
	make_label(session);
	channel_init(&session->client, host->loop, on_client, session);
	channel_init(&session->server, host->loop, on_server, session);
	dialogue_init(&session->dialogue, server, host->config->auth_tls == FTP_AUTH_TLS_REFUSE,
		&host->counts.dialogue);
	session->active_us = clock_mono_us();
	failure = begin(session, fd);
	if (failure) {
		log_warn("-: %s: turned away: %s", session->label, failure);
		session_turn_away(fd, "421 Postern: the server cannot be reached; try again\r\n");
		free_session(session);
		return NULL;
	}
	loop_timer_set(host->loop, &session->idle_timer,
		session->active_us + (int64_t)host->config->connect_timeout_ms * 1000,
		on_connect_timer, session);
	log_debug("-: %s: connecting from port %u", session->label,
		(unsigned)session->own_port.client.port);
	return session;
}
