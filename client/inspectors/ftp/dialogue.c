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
 * Our own answers (to PORT, EPRT, AUTH, ...) are given when every earlier command was answered, and
 * only between two replies of the server. PENDING_LOCAL_MAX of them fit into DIALOGUE_ROOM together
 * with a passive reply; with that many owed, no further command is read.
 *
 * AUTH that passes (auth_tls = pass) stops the client's direction until its reply is known: behind
 * a 234 come TLS records, which no parser may touch. */
#include "client/inspectors/ftp/dialogue.h"

#include <assert.h>
#include <string.h>

#include "client/inspectors/ftp/passive.h"
#include "common/buffer.h"

static_assert(PENDING_LOCAL_MAX * DIALOGUE_REFUSAL_CAP + REPLY_CAP < DIALOGUE_ROOM,
	"own answers and a passive reply must fit");

void dialogue_init(struct dialogue *dialogue, const struct endpoint *server, bool refuse_auth,
	struct dialogue_counts *counts)
{
	memset(dialogue, 0, sizeof(*dialogue));
	dialogue->server = *server;
	dialogue->refuse_auth = refuse_auth;
	dialogue->counts = counts;
	command_init(&dialogue->commands);
	reply_init(&dialogue->replies);
	/* The greeting answers the connection itself; a client need not wait for it. */
	pending_push(&dialogue->pending, COMMAND_OTHER, false);
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

/* RFC 959 5.4 lets PORT be answered with 500, 501 and 421 besides success, and any command with
 * 502 "not implemented"; RFC 2428 has 522 for EPRT; RFC 1639 lets LPRT and LPSV fail as PORT and
 * PASV do; RFC 2228 has 534 "request denied for policy reasons" for AUTH. */
static const char *own_answer(enum command_kind kind)
{
	switch (kind) {
	case COMMAND_PORT:
		return "502 Postern: active mode is not available here; use PASV or EPSV\r\n";
	case COMMAND_EPRT:
		return "522 Postern: active mode is not available here; use EPSV\r\n";
	case COMMAND_LPRT:
		return "502 Postern: active mode is not available here; use EPSV\r\n";
	case COMMAND_LPSV:
		return "502 Postern: LPSV is not available here; use EPSV\r\n";
	case COMMAND_AUTH:
		return "534 Postern: no encryption here: the gateway must read the replies that "
		       "name data connections\r\n";
	case COMMAND_OTHER:
	case COMMAND_BLANK:
	case COMMAND_PASV:
	case COMMAND_EPSV:
	case COMMAND_EPSV_ALL:
		break;
	}
	return NULL;
}

static bool is_ours(const struct dialogue *dialogue, enum command_kind kind)
{
	if (kind == COMMAND_AUTH)
		return dialogue->refuse_auth;
	return own_answer(kind) != NULL;
}

static void command_ended(struct dialogue *dialogue, enum command_kind kind)
{
	bool ours = is_ours(dialogue, kind);

	if (kind == COMMAND_BLANK)
		return;
	if (kind == COMMAND_EPSV_ALL)
		kind = COMMAND_OTHER;
	if (ours && kind == COMMAND_AUTH)
		dialogue->counts->auth_refused++;
	else if (ours)
		dialogue->counts->active_refused++;
	pending_push(&dialogue->pending, kind, ours);
}

static bool may_read_commands(const struct dialogue *dialogue)
{
	return dialogue->pending.locals < PENDING_LOCAL_MAX &&
		!pending_has(&dialogue->pending, COMMAND_AUTH);
}

void dialogue_commands(
	struct dialogue *dialogue, struct buffer *in, struct buffer *to_server, bool last)
{
	while (!dialogue->opaque && in->length > 0 && may_read_commands(dialogue)) {
		size_t room = room_of(to_server), size = in->length < room ? in->length : room;
		struct command_step step;

		if (room < COMMAND_PREFIX_CAP)
			return;
		/* So that the bytes move once the parser has seen them. */
		if (!buffer_reserve(to_server, size))
			return;
		step = command_next(&dialogue->commands, buffer_bytes(in), size);
		if (step.size == 0) {
			if (last)
				move(in, to_server, size);
			return;
		}
		if (is_ours(dialogue, step.kind))
			buffer_consume(in, step.size);
		else
			move(in, to_server, step.size);
		if (step.ends)
			command_ended(dialogue, step.kind);
	}
	if (dialogue->opaque)
		move_all(in, to_server);
}

/* ---- server to client ---- */

static void answer_what_is_due(struct dialogue *dialogue, struct buffer *to_client)
{
	enum command_kind kind;

	while (pending_first_is_local(&dialogue->pending, &kind)) {
		const char *text = own_answer(kind);

		if (!buffer_append(to_client, text, strlen(text)))
			return;
		pending_pop(&dialogue->pending);
	}
}

static enum dialogue_problem judge(
	struct dialogue *dialogue, unsigned code, const uint8_t *reply, size_t size)
{
	struct endpoint *door = &dialogue->held.door;

	*door = dialogue->server;
	if (code == 227 ? !passive_parse_227(reply, size, door)
			: !passive_parse_229(reply, size, &door->port))
		return DIALOGUE_UNREADABLE;
	if (!addr_equal(&door->addr, &dialogue->server.addr))
		return DIALOGUE_FOREIGN_HOST;
	if (door->port < DIALOGUE_LOWEST_PORT)
		return DIALOGUE_LOW_PORT;
	return DIALOGUE_FINE;
}

/* The command that a passive reply answers; everything asked before it counts as answered. */
static bool match(struct dialogue *dialogue, unsigned code, struct buffer *to_client)
{
	enum command_kind wanted = code == 227 ? COMMAND_PASV : COMMAND_EPSV;

	if (!pending_has(&dialogue->pending, wanted)) {
		dialogue->counts->unsolicited++;
		return false;
	}
	while (!pending_first_is(&dialogue->pending, wanted)) {
		answer_what_is_due(dialogue, to_client);
		if (!pending_first_is(&dialogue->pending, wanted))
			pending_pop(&dialogue->pending);
	}
	pending_pop(&dialogue->pending);
	dialogue->counts->passive_replies++;
	dialogue->held.command = wanted;
	return true;
}

static void reply_ended(struct dialogue *dialogue, unsigned code)
{
	if (code == 0)
		return;
	if (code == 234 && pending_first_is(&dialogue->pending, COMMAND_AUTH))
		dialogue->opaque = true;
	pending_answered(&dialogue->pending, code);
}

static enum dialogue_result hold(
	struct dialogue *dialogue, size_t size, enum dialogue_problem problem)
{
	dialogue->held.active = true;
	dialogue->held.size = size;
	dialogue->held.problem = problem;
	return problem == DIALOGUE_FINE ? DIALOGUE_ASK : DIALOGUE_REFUSE;
}

/* One step of the parser. True when a reply is held now. */
static bool take_step(struct dialogue *dialogue, const struct reply_step *step, struct buffer *in,
	struct buffer *to_client, enum dialogue_result *ret_result)
{
	switch (step->action) {
	case REPLY_MORE:
		return false;
	case REPLY_PASSIVE:
		if (match(dialogue, step->code, to_client)) {
			*ret_result = hold(dialogue, step->size,
				judge(dialogue, step->code, buffer_bytes(in), step->size));
			return true;
		}
		move(in, to_client, step->size);
		reply_ended(dialogue, step->code);
		return false;
	case REPLY_OVERLONG:
		dialogue->discarding = match(dialogue, step->code, to_client);
		if (dialogue->discarding)
			buffer_consume(in, step->size);
		else
			move(in, to_client, step->size);
		return false;
	case REPLY_PASS:
		if (!dialogue->discarding) {
			move(in, to_client, step->size);
			reply_ended(dialogue, step->code);
			return false;
		}
		buffer_consume(in, step->size);
		if (step->code == 0)
			return false;
		dialogue->discarding = false;
		*ret_result = hold(dialogue, 0, DIALOGUE_OVERLONG);
		return true;
	}
	return false;
}

enum dialogue_result dialogue_replies(
	struct dialogue *dialogue, struct buffer *in, struct buffer *to_client, bool last)
{
	enum dialogue_result result;

	if (dialogue->held.active)
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
		if (take_step(dialogue, &step, in, to_client, &result))
			return result;
	}
	move_all(in, to_client);
	return DIALOGUE_IDLE;
}

static void unhold(struct dialogue *dialogue)
{
	memset(&dialogue->held, 0, sizeof(dialogue->held));
}

bool dialogue_release(struct dialogue *dialogue, struct buffer *in, struct buffer *to_client)
{
	assert(dialogue->held.active && dialogue->held.problem == DIALOGUE_FINE);
	if (move(in, to_client, dialogue->held.size) == 0)
		return false;
	unhold(dialogue);
	return true;
}

bool dialogue_refuse(
	struct dialogue *dialogue, struct buffer *in, struct buffer *to_client, const char *line)
{
	size_t size = strlen(line);

	assert(dialogue->held.active && size <= DIALOGUE_REFUSAL_CAP);
	if (!buffer_append(to_client, line, size))
		return false;
	buffer_consume(in, dialogue->held.size);
	unhold(dialogue);
	return true;
}

/* ---- what the owner's timers ask ---- */

bool dialogue_is_owing(const struct dialogue *dialogue)
{
	return dialogue->pending.locals > 0 && !dialogue->pending.preliminary &&
		!dialogue->held.active;
}

void dialogue_stop_waiting(struct dialogue *dialogue)
{
	enum command_kind kind;

	while (dialogue->pending.locals > 0 && !pending_first_is_local(&dialogue->pending, &kind))
		pending_pop(&dialogue->pending);
}

bool dialogue_in_transfer(const struct dialogue *dialogue)
{
	return dialogue->pending.preliminary;
}
