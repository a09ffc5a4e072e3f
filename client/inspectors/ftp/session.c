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
 * Doors. What the dialogue holds is asked for through doors.c, which also keeps the times; its
 * verdict releases or refuses what is held. Doors to the client live until used or overtaken:
 * - a new PORT, EPRT or passive reply makes those before it useless, from the moment on that the
 *   server has answered it: a pipelining client may send it while the server still uses the one
 *   before;
 * - ABOR, and the server's refusal of the command, make them useless at once;
 * - a transfer that succeeded has used them.
 *
 * Translation. With `external` the connection to the server leaves from that address, and so the
 * server sees one address for control and data. It is the gateway's own, so an ordinary socket
 * serves. */
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
#include "client/inspectors/ftp/doors.h"
#include "client/inspectors/ftp/gatekeeper.h"
#include "client/inspectors/ftp/ports.h"
#include "client/inspectors/ftp/refusal.h"
#include "client/inspectors/ftp/transparent.h"
#include "common/clock.h"
#include "common/log.h"

#define SOURCE_PORT_TRIES 16
/* How long the client may take to close behind the server. */
#define CLOSING_LIMIT_MS 30000
/* How long our answer to PORT waits for a server that owes one to an earlier command. */
#define OWING_LIMIT_MS 5000

struct session {
	struct session_host *host;
	struct session_links links;
	struct endpoint client_end, server_end;
	struct addr external; /* ADDR_NONE = no translation */

	struct channel client, server;
	bool connected;
	struct port_use client_port, own_port;
	struct dialogue dialogue;

	struct doors doors;

	int64_t active_us; /* last byte moved */
	uint64_t bytes_up, bytes_down;
	struct loop_timer idle_timer, owing_timer;
};

static void work(struct session *session);

static const char *id_of(const struct session *session)
{
	return doors_session(&session->doors);
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
	loop_timer_clear(host->loop, &session->owing_timer);
	ports_give_back(host->ports, &session->client_port);
	ports_give_back(host->ports, &session->own_port);
	free(session);
}

void session_end(struct session *session, const char *why)
{
	struct session_host *host = session->host;

	log_info("%s: %s: session ended: %s (%" PRIu64 " bytes up, %" PRIu64 " down)",
		id_of(session), session->doors.label, why, session->bytes_up, session->bytes_down);
	doors_fini(&session->doors);
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

/* ---- doors ---- */

static const struct dialogue_held *held_of(const struct session *session, enum door_kind kind)
{
	return kind == DOOR_TO_CLIENT ? &session->dialogue.held_command
				      : &session->dialogue.held_reply;
}

/* "to 10.77.2.2:1046" or "from 10.77.2.2 to 10.77.1.2:1046". */
#define DOOR_TEXT_SIZE (ENDPOINT_TEXT_SIZE + ADDR_TEXT_SIZE + 16)

static void format_door(const struct session *session, enum door_kind kind, char *text)
{
	const struct dialogue_held *held = held_of(session, kind);
	char to[ENDPOINT_TEXT_SIZE], from[ADDR_TEXT_SIZE];

	endpoint_format(&held->door, to);
	addr_format(&session->server_end.addr, from);
	if (kind == DOOR_TO_CLIENT)
		snprintf(text, DOOR_TEXT_SIZE, "from %s to %s", from, to);
	else
		snprintf(text, DOOR_TEXT_SIZE, "to %s", to);
}

/* False when memory is out. */
static bool refuse(struct session *session, enum door_kind kind, const char *line)
{
	session->active_us = clock_mono_us();
	if (kind == DOOR_TO_SERVER)
		return dialogue_refuse(
			&session->dialogue, &session->server.in, &session->client.out, line);
	dialogue_refuse_command(&session->dialogue, line);
	return true;
}

static bool refuse_door(struct session *session, enum door_kind kind, const struct error *err)
{
	char door[DOOR_TEXT_SIZE];

	format_door(session, kind, door);
	if (err->status == STATUS_PERMISSION_DENIED) {
		session->host->counts.denied++;
		log_info("%s: %s: door %s denied: %s", id_of(session), session->doors.label, door,
			err->text);
	} else {
		session->host->counts.failed++;
		log_warn("%s: %s: no door %s: %s: %s", id_of(session), session->doors.label, door,
			status_name(err->status), err->text);
	}
	return refuse(session, kind, refusal_of_error(err));
}

static bool refuse_problem(struct session *session, enum door_kind kind)
{
	const struct dialogue_held *held = held_of(session, kind);
	char door[ENDPOINT_TEXT_SIZE] = "";

	if (held->door.addr.family != ADDR_NONE)
		endpoint_format(&held->door, door);
	session->host->counts.guarded++;
	log_warn("%s: %s: %s%s refused: %s%s%s", id_of(session), session->doors.label,
		command_name(held->command), kind == DOOR_TO_CLIENT ? "" : " reply",
		refusal_reason(held->problem), door[0] ? ": " : "", door);
	return refuse(session, kind,
		kind == DOOR_TO_CLIENT ? refusal_of_command(held->problem,
						 (enum addr_family)session->client_end.addr.family)
				       : refusal_of_reply(held->problem));
}

static bool ask(struct session *session, enum door_kind kind)
{
	const struct dialogue_held *held = held_of(session, kind);
	const struct door_wish wish = {command_name(held->command), held->door};
	struct error err;

	if (doors_ask(&session->doors, kind, &wish, (uint32_t)session->host->config->deadline_ms,
		    &err) == STATUS_OK)
		return true;
	return refuse_door(session, kind, &err);
}

/* False when memory is out. */
static bool release(
	struct session *session, enum door_kind kind, const struct gatekeeper_answer *answer)
{
	struct endpoint as = session->dialogue.held_command.door;

	session->active_us = clock_mono_us();
	if (kind == DOOR_TO_SERVER)
		return dialogue_release(
			&session->dialogue, &session->server.in, &session->client.out);
	if (session->external.family != ADDR_NONE)
		as = answer->external;
	return dialogue_release_command(&session->dialogue, &session->server.out, &as);
}

static void on_verdict(void *arg, enum door_kind kind, const struct gatekeeper_answer *answer,
	const struct error *err)
{
	struct session *session = arg;
	char door[DOOR_TEXT_SIZE], external[ENDPOINT_TEXT_SIZE] = "";
	bool good;

	if (answer) {
		format_door(session, kind, door);
		if (answer->external.port > 0)
			endpoint_format(&answer->external, external);
		log_info("%s: %s: door %s is open%s%s: grant %s", id_of(session),
			session->doors.label, door, external[0] ? " at " : "", external,
			answer->id);
		session->host->counts.granted++;
		good = release(session, kind, answer);
	} else {
		good = refuse_door(session, kind, err);
	}
	if (!good)
		session->client.failed = ENOMEM;
}

static void on_settled(void *arg)
{
	work(arg);
}

/* What the dialogue wants, from either direction. False when memory is out. */
static bool serve(struct session *session, enum door_kind kind, enum dialogue_result result)
{
	struct doors *doors = &session->doors;
	unsigned waiting = dialogue_ports_waiting(&session->dialogue);

	switch (result) {
	case DIALOGUE_IDLE:
		return true;
	case DIALOGUE_ASK:
		/* The server has answered PASV or EPSV, and everything before it. */
		if (kind == DOOR_TO_SERVER)
			doors_cancel_older(doors, waiting);
		return ask(session, kind);
	case DIALOGUE_REFUSE:
		return refuse_problem(session, kind);
	case DIALOGUE_PORT_REFUSED:
		doors_cancel_one(doors, waiting);
		return true;
	case DIALOGUE_TRANSFERRED:
		doors_forget_older(doors, waiting);
		return true;
	case DIALOGUE_ABORTED:
		doors_cancel_older(doors, 0);
		return true;
	}
	return true;
}

/* ---- moving bytes ---- */

/* The client's direction. False when memory is out. */
static bool serve_commands(struct session *session)
{
	enum dialogue_result result;

	do {
		result = dialogue_commands(&session->dialogue, &session->client.in,
			&session->server.out, session->client.eof);
		if (!serve(session, DOOR_TO_CLIENT, result))
			return false;
	} while (result != DIALOGUE_IDLE);
	return true;
}

static bool serve_replies(struct session *session)
{
	enum dialogue_result result;

	do {
		result = dialogue_replies(&session->dialogue, &session->server.in,
			&session->client.out, session->server.eof);
		if (!serve(session, DOOR_TO_SERVER, result))
			return false;
	} while (result != DIALOGUE_IDLE);
	/* The last PORT that the server has answered is the one that counts. */
	doors_cancel_older(&session->doors, dialogue_ports_waiting(&session->dialogue) + 1);
	return true;
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
		if (!serve_commands(session) || !serve_replies(session))
			return false;
		sent = send_both(session);
	} while (sent > 0 || waiting != session->client.in.length + session->server.in.length);
	return true;
}

static void pass_ends_on(struct session *session)
{
	/* A held command has left the buffer and may still go on. */
	if (session->client.eof && session->client.in.length == 0 && session->connected &&
		!session->dialogue.held_command.active)
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

	if (session->dialogue.held_reply.active || session->dialogue.held_command.active) {
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

	if (getsockopt(session->server.fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
		error = errno;
	if (error) {
		fail_to_connect(session, error);
		return;
	}
	session->connected = true;
	session->active_us = clock_mono_us();
	transparent_tune(session->server.fd);
	doors_open(&session->doors, (uint32_t)session->host->config->deadline_ms);
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
	bool translate = session->external.family != ADDR_NONE;
	struct endpoint from = session->client_end;

	if (translate)
		from.addr = session->external;
	for (int i = 0; i < SOURCE_PORT_TRIES; i++) {
		if (!ports_pick(host->ports, &session->own_port, &from, &session->server_end,
			    (uint16_t)host->config->lowest_source_port,
			    (uint16_t)host->config->highest_source_port))
			return EADDRINUSE;
		session->server.fd = transparent_connect(&session->own_port.client,
			&session->server_end, host->transparent && !translate);
		if (session->server.fd >= 0)
			return 0;
		if (errno != EADDRINUSE && errno != EADDRNOTAVAIL)
			return errno;
		ports_give_back(host->ports, &session->own_port);
	}
	return EADDRNOTAVAIL;
}

static const char *begin(struct session *session, int fd)
{
	struct session_host *host = session->host;
	char external[ADDR_TEXT_SIZE];
	int error;

	/* Its port is one that we use ourselves in its name (see ports.c): such a connection could
	 * not be told from ours. */
	if (!ports_take(
		    host->ports, &session->client_port, &session->client_end, &session->server_end))
		return "the client's port is in use";
	error = connect_to_server(session);
	if (error) {
		host->counts.connect_failures++;
		addr_format(&session->external, external);
		errno = error;
		log_warn("-: %s: cannot connect to the server%s%s: %m", session->doors.label,
			external[0] ? " from external = " : "", external);
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

static void init_parts(struct session *session)
{
	struct session_host *host = session->host;
	const struct dialogue_options dialogue = {
		.client = session->client_end,
		.server = session->server_end,
		.refuse_auth = host->config->auth_tls == FTP_AUTH_TLS_REFUSE,
		.server_address = host->config->passive_address == FTP_PASSIVE_SERVER,
		.counts = &host->counts.dialogue,
	};
	const struct doors_options doors = {
		.loop = host->loop,
		.gatekeeper = host->gatekeeper,
		.client = session->client_end,
		.server = session->server_end,
		.external = session->external,
		.arg = session,
		.on_verdict = on_verdict,
		.on_settled = on_settled,
	};

	channel_init(&session->client, host->loop, on_client, session);
	channel_init(&session->server, host->loop, on_server, session);
	dialogue_init(&session->dialogue, &dialogue);
	doors_init(&session->doors, &doors);
}

struct session *session_new(struct session_host *host, int fd, const struct endpoint *client,
	const struct endpoint *server)
{
	struct session *session = calloc(1, sizeof(*session));
	char from[ENDPOINT_TEXT_SIZE];
	const char *failure;

	if (!session) {
		session_turn_away(fd, "421 Postern: out of memory; try again\r\n");
		return NULL;
	}
	session->host = host;
	session->client_end = *client;
	session->server_end = *server;
	session->external =
		ftp_config_external(host->config, (enum addr_family)client->addr.family);
	session->active_us = clock_mono_us();
	init_parts(session);
	failure = begin(session, fd);
	if (failure) {
		log_warn("-: %s: turned away: %s", session->doors.label, failure);
		session_turn_away(fd, "421 Postern: the server cannot be reached; try again\r\n");
		free_session(session);
		return NULL;
	}
	loop_timer_set(host->loop, &session->idle_timer,
		session->active_us + (int64_t)host->config->connect_timeout_ms * 1000,
		on_connect_timer, session);
	endpoint_format(&session->own_port.client, from);
	log_debug("-: %s: connecting from %s", session->doors.label, from);
	return session;
}
