/* Design.
 *
 * Each direction has an input buffer (as received) and an output buffer (to be sent). The parsers
 * look at the front of the input; the dialogue then moves bytes to the output, drops them, or
 * leaves them where they are until a verdict comes. What is held is bounded by REPLY_CAP and
 * COMMAND_PREFIX_CAP; what follows a held reply waits behind it in the input buffer, and when that
 * is full the owner stops reading: back-pressure.
 *
 * Passive replies. A 227 (229) is asked for when a PASV (EPSV) is pending. Then it is held and the
 * owner asks for the door. Otherwise it passes and opens nothing.
 *
 * PORT and EPRT never go on as they came: their bytes are dropped while the parser keeps the
 * argument, and once the owner has the door the command is written anew (see active.c for why).
 * Until then the client's further commands wait, while the server's replies to earlier ones go on.
 * A held command and a held reply may thus wait side by side.
 *
 * Our own answers (to LPRT, AUTH, a refused PORT, ...) are given when every earlier command was
 * answered, and only between two replies of the server. PENDING_LOCAL_MAX of them fit into
 * DIALOGUE_ROOM together with a passive reply; with that many owed, no further command is read.
 *
 * AUTH that passes (auth_tls = pass) stops the client's direction until its reply is known: behind
 * a 234 come TLS records, which no parser may touch. */
#include "client/inspectors/ftp/dialogue.h"

#include <assert.h>
#include <string.h>

#include "client/inspectors/ftp/active.h"
#include "client/inspectors/ftp/passive.h"
#include "common/buffer.h"

static_assert(PENDING_LOCAL_MAX * DIALOGUE_REFUSAL_CAP + REPLY_CAP < DIALOGUE_ROOM,
	"own answers and a passive reply must fit");
static_assert(ACTIVE_LINE_SIZE <= COMMAND_PREFIX_CAP, "a command written anew must fit");

void dialogue_init(struct dialogue *dialogue, const struct dialogue_options *options)
{
	memset(dialogue, 0, sizeof(*dialogue));
	dialogue->options = *options;
	command_init(&dialogue->commands);
	reply_init(&dialogue->replies);
	/* The greeting answers the connection itself; a client need not wait for it. */
	pending_push(&dialogue->pending, COMMAND_OTHER, NULL);
}

static size_t room_of(const struct buffer *buffer)
{
	return buffer->cap - buffer->length;
}

/* Moves what fits; memory may be out, then the bytes stay. */
static size_t move(struct buffer *from, struct buffer *to, size_t size)
{
	if (!buffer_append(to, buffer_bytes(from), size))
		return 0;
	buffer_consume(from, size);
	return size;
}

static void move_all(struct buffer *from, struct buffer *to)
{
	size_t size = from->length < room_of(to) ? from->length : room_of(to);

	if (size > 0)
		move(from, to, size);
}

/* ---- client to server ---- */

/* RFC 1639 lets LPRT and LPSV fail as PORT and PASV do, with 502 "not implemented"; RFC 2228 has
 * 534 "request denied for policy reasons" for AUTH. NULL: not ours to answer. */
static const char *own_answer(const struct dialogue *dialogue, enum command_kind kind)
{
	switch (kind) {
	case COMMAND_LPRT:
		return "502 Postern: LPRT is not available here; use EPRT\r\n";
	case COMMAND_LPSV:
		return "502 Postern: LPSV is not available here; use EPSV\r\n";
	case COMMAND_AUTH:
		return dialogue->options.refuse_auth
			? "534 Postern: no encryption here: the gateway must read the replies that "
			  "name data connections\r\n"
			: NULL;
	case COMMAND_OTHER:
	case COMMAND_BLANK:
	case COMMAND_PASV:
	case COMMAND_EPSV:
	case COMMAND_EPSV_ALL:
	case COMMAND_PORT:
	case COMMAND_EPRT:
	case COMMAND_ABOR:
		break;
	}
	return NULL;
}

static bool is_active(enum command_kind kind)
{
	return kind == COMMAND_PORT || kind == COMMAND_EPRT;
}

static enum dialogue_problem judge_command(struct dialogue *dialogue, enum command_kind kind)
{
	struct endpoint *door = &dialogue->held_command.door;
	const struct addr *client = &dialogue->options.client.addr;
	enum active_outcome outcome = ACTIVE_UNREADABLE;
	const uint8_t *argument;
	size_t size;

	if (dialogue->epsv_only)
		return DIALOGUE_EPSV_ONLY;
	if (command_argument(&dialogue->commands, &argument, &size))
		outcome = kind == COMMAND_PORT ? active_parse_port(argument, size, door)
					       : active_parse_eprt(argument, size, door);
	if (outcome == ACTIVE_UNREADABLE)
		return DIALOGUE_UNREADABLE;
	if (outcome == ACTIVE_OTHER_PROTOCOL || door->addr.family != client->family)
		return DIALOGUE_OTHER_FAMILY;
	if (!addr_equal(&door->addr, client))
		return DIALOGUE_FOREIGN_HOST;
	if (door->port < DIALOGUE_LOWEST_PORT)
		return DIALOGUE_LOW_PORT;
	return DIALOGUE_FINE;
}

static enum dialogue_result hold_command(struct dialogue *dialogue, enum command_kind kind)
{
	struct dialogue_held *held = &dialogue->held_command;

	dialogue->options.counts->active_commands++;
	held->active = true;
	held->command = kind;
	held->problem = judge_command(dialogue, kind);
	return held->problem == DIALOGUE_FINE ? DIALOGUE_ASK : DIALOGUE_REFUSE;
}

static enum dialogue_result command_ended(struct dialogue *dialogue, enum command_kind kind)
{
	const char *answer = own_answer(dialogue, kind);

	if (kind == COMMAND_BLANK)
		return DIALOGUE_IDLE;
	if (is_active(kind))
		return hold_command(dialogue, kind);
	if (answer && kind == COMMAND_AUTH)
		dialogue->options.counts->auth_refused++;
	else if (answer)
		dialogue->options.counts->long_refused++;
	pending_push(&dialogue->pending, kind, answer);
	return kind == COMMAND_ABOR ? DIALOGUE_ABORTED : DIALOGUE_IDLE;
}

static bool may_read_commands(const struct dialogue *dialogue)
{
	return !dialogue->held_command.active && dialogue->pending.locals < PENDING_LOCAL_MAX &&
		!pending_has(&dialogue->pending, COMMAND_AUTH);
}

enum dialogue_result dialogue_commands(
	struct dialogue *dialogue, struct buffer *in, struct buffer *to_server, bool last)
{
	enum dialogue_result result;

	while (!dialogue->opaque && in->length > 0 && may_read_commands(dialogue)) {
		size_t room = room_of(to_server), size = in->length < room ? in->length : room;
		struct command_step step;

		if (room < COMMAND_PREFIX_CAP)
			return DIALOGUE_IDLE;
		/* So that the bytes move once the parser has seen them. */
		if (!buffer_reserve(to_server, size))
			return DIALOGUE_IDLE;
		step = command_next(&dialogue->commands, buffer_bytes(in), size);
		if (step.size == 0) {
			if (last)
				move(in, to_server, size);
			return DIALOGUE_IDLE;
		}
		if (is_active(step.kind) || own_answer(dialogue, step.kind))
			buffer_consume(in, step.size);
		else
			move(in, to_server, step.size);
		if (!step.ends)
			continue;
		result = command_ended(dialogue, step.kind);
		if (result != DIALOGUE_IDLE)
			return result;
	}
	if (dialogue->opaque)
		move_all(in, to_server);
	return DIALOGUE_IDLE;
}

bool dialogue_release_command(
	struct dialogue *dialogue, struct buffer *to_server, const struct endpoint *as)
{
	struct dialogue_held *held = &dialogue->held_command;
	char line[ACTIVE_LINE_SIZE];

	assert(held->active && held->problem == DIALOGUE_FINE);
	assert(as->addr.family == held->door.addr.family);
	if (held->command == COMMAND_PORT)
		active_format_port(as, line);
	else
		active_format_eprt(as, line);
	if (!buffer_append(to_server, line, strlen(line)))
		return false;
	if (!endpoint_equal(as, &held->door))
		dialogue->options.counts->translated++;
	pending_push(&dialogue->pending, held->command, NULL);
	memset(held, 0, sizeof(*held));
	return true;
}

void dialogue_refuse_command(struct dialogue *dialogue, const char *line)
{
	struct dialogue_held *held = &dialogue->held_command;

	assert(held->active && strlen(line) <= DIALOGUE_REFUSAL_CAP);
	pending_push(&dialogue->pending, held->command, line);
	memset(held, 0, sizeof(*held));
}

/* ---- server to client ---- */

static void answer_what_is_due(struct dialogue *dialogue, struct buffer *to_client)
{
	const char *text;

	while (pending_first_is_local(&dialogue->pending, &text)) {
		if (!buffer_append(to_client, text, strlen(text)))
			return;
		pending_pop(&dialogue->pending);
	}
}

static enum dialogue_problem judge_reply(
	struct dialogue *dialogue, unsigned code, const uint8_t *reply, size_t size)
{
	const struct dialogue_options *options = &dialogue->options;
	struct dialogue_held *held = &dialogue->held_reply;

	held->door = options->server;
	if (code == 227 ? !passive_parse_227(reply, size, &held->door)
			: !passive_parse_229(reply, size, &held->door.port))
		return DIALOGUE_UNREADABLE;
	if (!addr_equal(&held->door.addr, &options->server.addr)) {
		/* A 227 has no way to name an IPv6 address. */
		if (!options->server_address || options->server.addr.family != ADDR_IPV4)
			return DIALOGUE_FOREIGN_HOST;
		held->door.addr = options->server.addr;
		held->rewrite = true;
	}
	if (held->door.port < DIALOGUE_LOWEST_PORT)
		return DIALOGUE_LOW_PORT;
	return DIALOGUE_FINE;
}

/* The command that a passive reply answers; everything asked before it counts as answered. */
static bool match(struct dialogue *dialogue, unsigned code, struct buffer *to_client)
{
	enum command_kind wanted = code == 227 ? COMMAND_PASV : COMMAND_EPSV;

	if (!pending_has(&dialogue->pending, wanted)) {
		dialogue->options.counts->unsolicited++;
		return false;
	}
	while (!pending_first_is(&dialogue->pending, wanted)) {
		answer_what_is_due(dialogue, to_client);
		if (!pending_first_is(&dialogue->pending, wanted))
			pending_pop(&dialogue->pending);
	}
	pending_pop(&dialogue->pending);
	dialogue->options.counts->passive_replies++;
	dialogue->held_reply.command = wanted;
	return true;
}

static enum dialogue_result reply_ended(struct dialogue *dialogue, unsigned code)
{
	struct pending *pending = &dialogue->pending;
	enum dialogue_result result = DIALOGUE_IDLE;

	if (code == 0)
		return DIALOGUE_IDLE;
	if (code == 234 && pending_first_is(pending, COMMAND_AUTH))
		dialogue->opaque = true;
	if (code / 100 == 2 && pending_first_is(pending, COMMAND_EPSV_ALL))
		dialogue->epsv_only = true;
	if (code >= 400 &&
		(pending_first_is(pending, COMMAND_PORT) ||
			pending_first_is(pending, COMMAND_EPRT)))
		result = DIALOGUE_PORT_REFUSED;
	else if (code / 100 == 2 && pending->preliminary)
		result = DIALOGUE_TRANSFERRED;
	pending_answered(pending, code);
	return result;
}

static enum dialogue_result hold_reply(
	struct dialogue *dialogue, size_t size, enum dialogue_problem problem)
{
	dialogue->held_reply.active = true;
	dialogue->held_reply.size = size;
	dialogue->held_reply.problem = problem;
	return problem == DIALOGUE_FINE ? DIALOGUE_ASK : DIALOGUE_REFUSE;
}

/* One step of the parser; not REPLY_MORE. */
static enum dialogue_result take_step(struct dialogue *dialogue, const struct reply_step *step,
	struct buffer *in, struct buffer *to_client)
{
	if (step->action == REPLY_PASSIVE && match(dialogue, step->code, to_client))
		return hold_reply(dialogue, step->size,
			judge_reply(dialogue, step->code, buffer_bytes(in), step->size));
	if (step->action == REPLY_OVERLONG) {
		dialogue->discarding = match(dialogue, step->code, to_client);
		if (dialogue->discarding)
			buffer_consume(in, step->size);
		else
			move(in, to_client, step->size);
		return DIALOGUE_IDLE;
	}
	if (!dialogue->discarding) {
		move(in, to_client, step->size);
		return reply_ended(dialogue, step->code);
	}
	buffer_consume(in, step->size);
	if (step->code == 0)
		return DIALOGUE_IDLE;
	dialogue->discarding = false;
	return hold_reply(dialogue, 0, DIALOGUE_OVERLONG);
}

enum dialogue_result dialogue_replies(
	struct dialogue *dialogue, struct buffer *in, struct buffer *to_client, bool last)
{
	enum dialogue_result result;

	if (dialogue->held_reply.active)
		return DIALOGUE_IDLE;
	while (!dialogue->opaque) {
		size_t own = dialogue->pending.locals * DIALOGUE_REFUSAL_CAP;
		size_t room = room_of(to_client), size;
		struct reply_step step;

		if (room < DIALOGUE_ROOM)
			return DIALOGUE_IDLE;
		size = in->length < room - own ? in->length : room - own;
		/* So that nothing can fail once the parsers have moved on. */
		if (size + own == 0 || !buffer_reserve(to_client, size + own))
			return DIALOGUE_IDLE;
		if (reply_is_between(&dialogue->replies))
			answer_what_is_due(dialogue, to_client);
		if (size == 0)
			return DIALOGUE_IDLE;
		step = reply_next(&dialogue->replies, buffer_bytes(in), size);
		if (step.action == REPLY_MORE) {
			if (last)
				move(in, to_client, size);
			return DIALOGUE_IDLE;
		}
		result = take_step(dialogue, &step, in, to_client);
		if (result != DIALOGUE_IDLE)
			return result;
	}
	move_all(in, to_client);
	return DIALOGUE_IDLE;
}

static void unhold_reply(struct dialogue *dialogue)
{
	memset(&dialogue->held_reply, 0, sizeof(dialogue->held_reply));
}

/* The server's words are not kept: its number may stand in them more than once. */
static bool rewrite_reply(struct dialogue *dialogue, struct buffer *in, struct buffer *to_client)
{
	char line[PASSIVE_LINE_SIZE];

	passive_format_227(&dialogue->held_reply.door, line);
	if (!buffer_append(to_client, line, strlen(line)))
		return false;
	buffer_consume(in, dialogue->held_reply.size);
	dialogue->options.counts->translated++;
	return true;
}

bool dialogue_release(struct dialogue *dialogue, struct buffer *in, struct buffer *to_client)
{
	const struct dialogue_held *held = &dialogue->held_reply;

	assert(held->active && held->problem == DIALOGUE_FINE);
	if (held->rewrite ? !rewrite_reply(dialogue, in, to_client)
			  : move(in, to_client, held->size) == 0)
		return false;
	unhold_reply(dialogue);
	return true;
}

bool dialogue_refuse(
	struct dialogue *dialogue, struct buffer *in, struct buffer *to_client, const char *line)
{
	size_t size = strlen(line);

	assert(dialogue->held_reply.active && size <= DIALOGUE_REFUSAL_CAP);
	if (!buffer_append(to_client, line, size))
		return false;
	buffer_consume(in, dialogue->held_reply.size);
	unhold_reply(dialogue);
	return true;
}

/* ---- what the owner's timers ask ---- */

unsigned dialogue_ports_waiting(const struct dialogue *dialogue)
{
	return dialogue->pending.ports;
}

bool dialogue_is_owing(const struct dialogue *dialogue)
{
	return dialogue->pending.locals > 0 && !dialogue->pending.preliminary &&
		!dialogue->held_reply.active;
}

void dialogue_stop_waiting(struct dialogue *dialogue)
{
	const char *answer;

	while (dialogue->pending.locals > 0 && !pending_first_is_local(&dialogue->pending, &answer))
		pending_pop(&dialogue->pending);
}

bool dialogue_in_transfer(const struct dialogue *dialogue)
{
	return dialogue->pending.preliminary;
}
