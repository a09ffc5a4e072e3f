/* One control connection as a dialogue: decides for every byte of both directions whether it
 * passes, waits or is replaced. Pure: it moves bytes between buffers and asks its owner for
 * verdicts, on passive replies (doors to the server) and on PORT and EPRT (doors to the client). */
#ifndef POSTERN_FTP_DIALOGUE_H
#define POSTERN_FTP_DIALOGUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/inspectors/ftp/command.h"
#include "client/inspectors/ftp/pending.h"
#include "client/inspectors/ftp/reply.h"
#include "common/addr.h"

struct buffer;

#define DIALOGUE_REFUSAL_CAP 240 /* longest line of our own, with CR LF */
#define DIALOGUE_ROOM 8192 /* the output buffers' caps must exceed this */
#define DIALOGUE_LOWEST_PORT 1024

enum dialogue_problem { /* why something is refused without asking anybody */
	DIALOGUE_FINE,
	DIALOGUE_UNREADABLE,
	DIALOGUE_FOREIGN_HOST, /* bounce guard */
	DIALOGUE_LOW_PORT,
	DIALOGUE_OVERLONG,
	DIALOGUE_OTHER_FAMILY, /* PORT, EPRT: not the control connection's */
	DIALOGUE_EPSV_ONLY, /* PORT, EPRT: the client had said EPSV ALL */
};

enum dialogue_result {
	DIALOGUE_IDLE, /* nothing more to do with what is there */
	DIALOGUE_ASK, /* something is held: `held_reply` or `held_command` names the door; release
			 or refuse it */
	DIALOGUE_REFUSE, /* something is held: refuse it for its problem */
	/* What doors to the client need no more; call again. */
	DIALOGUE_PORT_REFUSED, /* by the server: the last PORT or EPRT that it answered */
	DIALOGUE_TRANSFERRED, /* a transfer has succeeded */
	DIALOGUE_ABORTED, /* the client aborts what it had begun */
};

struct dialogue_counts {
	uint64_t passive_replies; /* that answered PASV or EPSV */
	uint64_t active_commands; /* PORT and EPRT */
	uint64_t unsolicited; /* 227 or 229 that nobody asked for */
	uint64_t translated; /* replies and commands that passed with another address */
	uint64_t long_refused; /* LPRT, LPSV */
	uint64_t auth_refused;
};

struct dialogue_options {
	struct endpoint client, server; /* the ends of the control connection */
	bool refuse_auth;
	bool server_address; /* a 227 that names another host means the server itself */
	struct dialogue_counts *counts; /* shared by many; outlives the dialogue */
};

struct dialogue_held {
	bool active;
	enum command_kind command; /* PASV, EPSV; PORT, EPRT */
	struct endpoint door; /* where the data connection goes to */
	enum dialogue_problem problem;
	size_t size; /* replies: at the front of the server's buffer */
	bool rewrite; /* replies: `door` is not what it says */
};

struct dialogue {
	struct dialogue_options options;
	bool opaque; /* encrypted: everything passes unread */
	bool epsv_only; /* EPSV ALL was accepted */
	struct command_parser commands;
	struct reply_parser replies;
	struct pending pending;
	bool discarding; /* the rest of an overlong passive reply */
	struct dialogue_held held_reply, held_command;
};

void dialogue_init(struct dialogue *dialogue, const struct dialogue_options *options);
/* Client to server. `last`: nothing follows what is in `in`. */
enum dialogue_result dialogue_commands(
	struct dialogue *dialogue, struct buffer *in, struct buffer *to_server, bool last);
/* Server to client, and our own answers in their turn. */
enum dialogue_result dialogue_replies(
	struct dialogue *dialogue, struct buffer *in, struct buffer *to_client, bool last);
/* The verdict on the held reply; `line` is one line with CR LF. False when memory is out. */
bool dialogue_release(struct dialogue *dialogue, struct buffer *in, struct buffer *to_client);
bool dialogue_refuse(
	struct dialogue *dialogue, struct buffer *in, struct buffer *to_client, const char *line);
/* The verdict on the held command: it goes to the server and names `as`, which is of the same
 * family; or the client gets `line` in its turn, which is for ever valid. */
bool dialogue_release_command(
	struct dialogue *dialogue, struct buffer *to_server, const struct endpoint *as);
void dialogue_refuse_command(struct dialogue *dialogue, const char *line);
/* How many PORT and EPRT went to the server and wait for its answer. */
unsigned dialogue_ports_waiting(const struct dialogue *dialogue);
/* We owe an answer and wait for the server to answer an earlier command, though no transfer runs.
 */
bool dialogue_is_owing(const struct dialogue *dialogue);
/* Gives up on those earlier commands; the next dialogue_replies() gives our answer. */
void dialogue_stop_waiting(struct dialogue *dialogue);
/* A transfer runs: silence on the control connection is normal. */
bool dialogue_in_transfer(const struct dialogue *dialogue);

#endif
