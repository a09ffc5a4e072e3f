/* Design.
 *
 *   client ──commands──▶ [lines] ──▶ server          Every forwarded command is noted in
 * `expected`; every final reply (2xx to 5xx) client ◀──replies─── [lines] ◀── server answers the
 * oldest. So a 227 counts only as the answer to the client's PASV.
 *
 * Held: when a 227/229 is complete, reading from the server stops, the reply waits in `held`, and
 * the gate is asked. The answer releases it, or puts a 425 in its place. What the server says
 * behind it stays in its socket until then: order is kept.
 *
 * Refused: PORT, EPRT and AUTH are answered here. Their turn comes when every earlier command has
 * its reply; until then reading from the client stops.
 *
 * Buffers are bounded: a side is read only while the other side's output is below OUTPUT_MOST. A
 * line longer than LINE_MOST is passed on in pieces and never interpreted. Everything ends in
 * session_free(). */
#include "client/inspectors/ftp/session.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/inspectors/ftp/command.h"
#include "client/inspectors/ftp/reply.h"
#include "common/buffer.h"
#include "common/clock.h"
#include "common/log.h"

#define LINE_MOST 8192
#define OUTPUT_MOST 65536
#define EXPECTED_MOST 64
#define LOWEST_PORT 1024
#define BIND_TRIES 16

struct side {
	int fd;
	struct loop_io io;
	uint32_t events;
	struct buffer input, output;
	bool ended; /* it sends no more */
	bool inside_long_line;
	bool shut; /* we send no more */
};

struct session {
	struct ftp *ftp;
	struct session *next, *previous;
	struct gate_session gate;
	struct side client, server;
	uint16_t upstream_port;
	bool connected, held_back;
	struct reply reply;
	struct buffer held;
	enum command expected[EXPECTED_MOST];
	size_t expected_first, expected_count;
	struct gate_ask *ask;
	struct loop_timer timer;
	int64_t active_us;
	char name[2 * ENDPOINT_TEXT_SIZE + 8];
};

static void update(struct session *session);

static void side_close(struct session *session, struct side *side)
{
	loop_io_remove(session->ftp->loop, &side->io);
	if (side->fd >= 0)
		close(side->fd);
	side->fd = -1;
	buffer_fini(&side->input);
	buffer_fini(&side->output);
}

static void session_free(struct session *session)
{
	struct ftp *ftp = session->ftp;
	if (session->ask)
		gate_forget(session->ask);
	gate_close_session(ftp->gate, &session->gate);
	loop_timer_clear(ftp->loop, &session->timer);
	side_close(session, &session->client);
	side_close(session, &session->server);
	buffer_fini(&session->held);
	if (session->previous)
		session->previous->next = session->next;
	else
		ftp->sessions = session->next;
	if (session->next)
		session->next->previous = session->previous;
	ftp->session_count--;
	free(session);
}

static void say(struct session *session, const char *line)
{
	(void)buffer_append(&session->client.output, line, strlen(line));
}

/* ---- replies ---- */

static enum command expected_pop(struct session *session)
{
	if (session->expected_count == 0)
		return COMMAND_OTHER;
	enum command command = session->expected[session->expected_first];
	session->expected_first = (session->expected_first + 1) % EXPECTED_MOST;
	session->expected_count--;
	return command;
}

static bool expected_push(struct session *session, enum command command)
{
	if (session->expected_count == EXPECTED_MOST)
		return false;
	session->expected[(session->expected_first + session->expected_count++) % EXPECTED_MOST] =
		command;
	return true;
}

static void release(struct session *session, const char *refusal)
{
	char line[600];
	if (!refusal) {
		(void)buffer_append(&session->client.output, buffer_bytes(&session->held),
			session->held.length);
	} else {
		log_warn("%s: transfer refused: %s", session->name, refusal);
		snprintf(line, sizeof line, "425 Postern: %.500s\r\n", refusal);
		say(session, line);
	}
	buffer_consume(&session->held, session->held.length);
	session->held_back = false;
}

static void on_gate(void *arg, const char *refusal)
{
	struct session *session = arg;
	session->ask = NULL;
	release(session, refusal);
	update(session);
}

/* The complete 227 or 229 is in `held`. */
static void ask_gate(struct session *session, const struct reply_end *end)
{
	struct endpoint remote = end->named;
	const char *why = NULL;
	session->held_back = true;
	if (end->code == 229)
		remote.addr = session->gate.server.addr;
	if (!addr_equal(&remote.addr, &session->gate.server.addr))
		why = "the server names another host than itself (bounce guard)";
	else if (remote.port < LOWEST_PORT)
		why = "the server names a port below 1024";
	if (!why)
		session->ask = gate_request(
			session->ftp->gate, &session->gate, &remote, on_gate, session, &why);
	if (!session->ask)
		release(session, why);
}

/* One line of the server, with its end. False: stop reading for now. */
static bool server_line(struct session *session, const uint8_t *bytes, size_t size)
{
	struct reply_end end;
	size_t length = size;
	while (length > 0 && (bytes[length - 1] == '\n' || bytes[length - 1] == '\r'))
		length--;
	bool over = reply_line(&session->reply, (const char *)bytes, length, &end);
	bool passive = over ? end.code == 227 || end.code == 229
			    : session->reply.code == 227 || session->reply.code == 229;
	struct buffer *to = passive ? &session->held : &session->client.output;
	if (!buffer_append(to, bytes, size)) {
		/* A passive reply of more lines than we hold is nobody's: pass it on uninterpreted.
		 */
		(void)buffer_append(&session->client.output, buffer_bytes(&session->held),
			session->held.length);
		buffer_consume(&session->held, session->held.length);
		(void)buffer_append(&session->client.output, bytes, size);
		memset(&session->reply, 0, sizeof session->reply);
		return true;
	}
	if (!over)
		return true;
	enum command asked = end.code >= 200 ? expected_pop(session) : COMMAND_OTHER;
	if (!passive)
		return true;
	bool wanted = end.has_endpoint &&
		((end.code == 227 && asked == COMMAND_PASV) ||
			(end.code == 229 && asked == COMMAND_EPSV));
	if (!wanted) {
		release(session, NULL); /* nobody asked: it opens nothing */
		return true;
	}
	ask_gate(session, &end);
	return !session->held_back;
}

/* ---- commands ---- */

static const char *refusal_of(const struct session *session, enum command command)
{
	switch (command) {
	case COMMAND_PORT:
		return "502 Postern: active mode (PORT) is not supported here: use passive "
		       "mode\r\n";
	case COMMAND_EPRT:
		return "502 Postern: active mode (EPRT) is not supported here: use passive "
		       "mode\r\n";
	case COMMAND_AUTH:
		return session->ftp->config->auth_tls == AUTH_TLS_REFUSE
			? "534 Postern: an encrypted control connection cannot be inspected: go on "
			  "in clear\r\n"
			: NULL;
	case COMMAND_OTHER:
	case COMMAND_PASV:
	case COMMAND_EPSV:
		break;
	}
	return NULL;
}

/* One line of the client, with its end. False: not yet, it stays where it is. */
static bool client_line(struct session *session, const uint8_t *bytes, size_t size)
{
	size_t length = size;
	while (length > 0 && (bytes[length - 1] == '\n' || bytes[length - 1] == '\r'))
		length--;
	enum command command = command_of((const char *)bytes, length);
	const char *refusal = refusal_of(session, command);
	if (refusal) {
		if (session->expected_count > 0 || session->held_back)
			return false; /* earlier commands are answered first */
		log_info("%s: refused: %.40s", session->name, refusal);
		say(session, refusal);
		return true;
	}
	if (!expected_push(session, command))
		return false;
	return buffer_append(&session->server.output, bytes, size);
}

/* ---- lines ---- */

/* Hands whole lines on, and pieces of lines that are too long. */
static void take_lines(struct session *session, struct side *from, bool is_server)
{
	struct side *to = is_server ? &session->client : &session->server;
	while (from->input.length > 0 && to->output.length < OUTPUT_MOST &&
		!(is_server && session->held_back)) {
		const uint8_t *bytes = buffer_bytes(&from->input);
		const uint8_t *end = memchr(bytes, '\n', from->input.length);
		size_t size = end ? (size_t)(end - bytes) + 1 : from->input.length;
		bool raw = from->inside_long_line || size > LINE_MOST || (!end && from->ended);
		if (!end && !raw && size < LINE_MOST)
			return;
		if (raw || !end) {
			from->inside_long_line = !end;
			if (!buffer_append(&to->output, bytes, size))
				return;
		} else if (is_server) {
			bool more = server_line(session, bytes, size);
			buffer_consume(&from->input, size);
			if (!more)
				return;
			continue;
		} else if (!client_line(session, bytes, size)) {
			return;
		}
		buffer_consume(&from->input, size);
	}
}

static void relay(struct session *session)
{
	take_lines(session, &session->server, true);
	take_lines(session, &session->client, false);
}

/* ---- sockets ---- */

/* False: the session was freed. */
static bool write_out(struct session *session, struct side *side)
{
	while (side->output.length > 0) {
		ssize_t n = send(
			side->fd, buffer_bytes(&side->output), side->output.length, MSG_NOSIGNAL);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return true;
		if (n < 0) {
			session_free(session);
			return false;
		}
		buffer_consume(&side->output, (size_t)n);
	}
	return true;
}

static void set_events(struct session *session, struct side *side, uint32_t events)
{
	if (side->events == events)
		return;
	side->events = events;
	(void)loop_io_modify(session->ftp->loop, &side->io, events);
}

static uint32_t wanted_events(const struct side *side, const struct side *other, bool may_read)
{
	uint32_t events = 0;
	if (may_read && !side->ended && side->input.length < LINE_MOST &&
		other->output.length < OUTPUT_MOST)
		events |= EPOLLIN;
	if (side->output.length > 0)
		events |= EPOLLOUT;
	return events;
}

/* When one side has said all, the other hears of it after the last byte. */
static void pass_end_on(struct side *from, struct side *to)
{
	if (from->ended && from->input.length == 0 && to->output.length == 0 && !to->shut) {
		to->shut = true;
		(void)shutdown(to->fd, SHUT_WR);
	}
}

static void update(struct session *session)
{
	if (!session->connected)
		return;
	relay(session);
	if (!write_out(session, &session->client) || !write_out(session, &session->server))
		return;
	relay(session);
	if (!session->held_back)
		pass_end_on(&session->server, &session->client);
	pass_end_on(&session->client, &session->server);
	if ((session->server.ended && session->client.shut) ||
		(session->client.ended && session->server.ended)) {
		session_free(session);
		return;
	}
	set_events(
		session, &session->client, wanted_events(&session->client, &session->server, true));
	set_events(session, &session->server,
		wanted_events(&session->server, &session->client, !session->held_back));
}

/* False: the session was freed. */
static bool read_in(struct session *session, struct side *side)
{
	uint8_t *place = buffer_reserve(&side->input, 4096);
	if (!place)
		return true;
	ssize_t n = recv(side->fd, place, 4096, 0);
	if (n > 0) {
		buffer_commit(&side->input, (size_t)n);
		session->active_us = clock_mono_us();
	} else if (n == 0) {
		side->ended = true;
	} else if (errno != EAGAIN && errno != EINTR) {
		session_free(session);
		return false;
	}
	return true;
}

static void on_client(void *arg, uint32_t events)
{
	struct session *session = arg;
	if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !read_in(session, &session->client))
		return;
	update(session);
}

static void on_idle(void *arg)
{
	struct session *session = arg;
	int64_t due = session->active_us + (int64_t)session->ftp->config->idle_timeout_ms * 1000;
	if (clock_mono_us() < due) {
		loop_timer_set(session->ftp->loop, &session->timer, due, on_idle, session);
		return;
	}
	log_info("%s: closed: idle", session->name);
	session_free(session);
}

static void on_server(void *arg, uint32_t events)
{
	struct session *session = arg;
	if (!session->connected) {
		int error = 0;
		socklen_t size = sizeof error;
		(void)getsockopt(session->server.fd, SOL_SOCKET, SO_ERROR, &error, &size);
		if (error) {
			log_warn("%s: cannot reach the server: %s", session->name, strerror(error));
			session_free(session); /* the client sees the connection end, as it would
						  without us */
			return;
		}
		session->connected = true;
		session->active_us = clock_mono_us();
		on_idle(session);
		set_events(session, &session->server, EPOLLIN);
		set_events(session, &session->client, EPOLLIN);
		return;
	}
	if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !read_in(session, &session->server))
		return;
	update(session);
}

static void on_connect_late(void *arg)
{
	struct session *session = arg;
	log_warn("%s: cannot reach the server: no answer", session->name);
	session_free(session);
}

/* Does this client already use the port towards this server? Then the two flows would be one for
 * conntrack. */
static bool port_is_taken(const struct ftp *ftp, const struct endpoint *client,
	const struct endpoint *server, uint16_t port)
{
	for (const struct session *other = ftp->sessions; other; other = other->next)
		if ((other->gate.client.port == port || other->upstream_port == port) &&
			addr_equal(&other->gate.client.addr, &client->addr) &&
			endpoint_equal(&other->gate.server, server))
			return true;
	return client->port == port;
}

/* A socket bound to the client's own address, so that the server sees the client on control and
 * data connection alike. */
static int bound_socket(const struct ftp *ftp, const struct endpoint *client,
	const struct endpoint *server, uint16_t *ret_port)
{
	bool ipv6 = client->addr.family == ADDR_IPV6;
	for (int i = 0; i < BIND_TRIES; i++) {
		struct endpoint from = {.addr = client->addr}, bound;
		struct sockaddr_storage sa;
		socklen_t size = (socklen_t)endpoint_to_sockaddr(&from, &sa);
		int one = 1,
		    fd = socket(ipv6 ? AF_INET6 : AF_INET,
			    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (fd < 0)
			return -1;
		if (ftp->transparent &&
			(setsockopt(fd, ipv6 ? SOL_IPV6 : SOL_IP,
				 ipv6 ? IPV6_TRANSPARENT : IP_TRANSPARENT, &one, sizeof one) != 0 ||
				bind(fd, (struct sockaddr *)&sa, size) != 0)) {
			close(fd);
			return -1;
		}
		size = sizeof sa;
		if (!ftp->transparent)
			return fd;
		if (getsockname(fd, (struct sockaddr *)&sa, &size) == 0 &&
			endpoint_from_sockaddr((struct sockaddr *)&sa, &bound) &&
			!port_is_taken(ftp, client, server, bound.port)) {
			*ret_port = bound.port;
			return fd;
		}
		close(fd);
	}
	errno = EADDRINUSE;
	return -1;
}

static bool connect_upstream(struct session *session)
{
	struct sockaddr_storage sa;
	socklen_t size = (socklen_t)endpoint_to_sockaddr(&session->gate.server, &sa);
	session->server.fd = bound_socket(session->ftp, &session->gate.client,
		&session->gate.server, &session->upstream_port);
	if (session->server.fd < 0)
		return false;
	return connect(session->server.fd, (struct sockaddr *)&sa, size) == 0 ||
		errno == EINPROGRESS;
}

void session_start(
	struct ftp *ftp, int fd, const struct endpoint *client, const struct endpoint *server)
{
	struct session *session =
		ftp->session_count < ftp->config->max_sessions ? calloc(1, sizeof *session) : NULL;
	char from[ENDPOINT_TEXT_SIZE], to[ENDPOINT_TEXT_SIZE];
	if (!session) {
		static const char busy[] = "421 Postern: too many sessions: try again later\r\n";
		(void)send(fd, busy, sizeof busy - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		close(fd);
		return;
	}
	session->ftp = ftp;
	session->client.fd = fd;
	session->server.fd = -1;
	session->gate.client = *client;
	session->gate.server = *server;
	endpoint_format(client, from);
	endpoint_format(server, to);
	snprintf(session->name, sizeof session->name, "%s to %s", from, to);
	buffer_init(&session->client.input, 2 * LINE_MOST);
	buffer_init(&session->server.input, 2 * LINE_MOST);
	buffer_init(&session->client.output, 2 * OUTPUT_MOST);
	buffer_init(&session->server.output, 2 * OUTPUT_MOST);
	buffer_init(&session->held, LINE_MOST * 4);
	(void)expected_push(session, COMMAND_OTHER); /* the greeting */
	bool reachable = connect_upstream(session);
	int cause = errno;
	session->next = ftp->sessions;
	if (session->next)
		session->next->previous = session;
	ftp->sessions = session;
	ftp->session_count++;
	if (!reachable || loop_io_add(ftp->loop, &session->client.io, fd, 0, on_client, session) ||
		loop_io_add(ftp->loop, &session->server.io, session->server.fd, EPOLLOUT, on_server,
			session)) {
		log_warn("%s: cannot reach the server: %s", session->name, strerror(cause));
		session_free(session);
		return;
	}
	session->server.events = EPOLLOUT;
	loop_timer_set(ftp->loop, &session->timer,
		clock_mono_us() + (int64_t)ftp->config->connect_timeout_ms * 1000, on_connect_late,
		session);
}

void sessions_end(struct ftp *ftp)
{
	while (ftp->sessions)
		session_free(ftp->sessions);
}
