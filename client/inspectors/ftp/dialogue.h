/* One control connection as a dialogue: decides for every byte of both directions whether it
 * passes, waits or is replaced. Pure: it moves bytes between buffers and asks its owner for
 * verdicts. */
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

enum dialogue_problem { /* why a passive reply is refused without asking anybody */
	DIALOGUE_FINE,
	DIALOGUE_UNREADABLE,
	DIALOGUE_FOREIGN_HOST, /* bounce guard */
	DIALOGUE_LOW_PORT,
	DIALOGUE_OVERLONG,
};

enum dialogue_result {
	DIALOGUE_IDLE, /* nothing more to do with what is there */
	DIALOGUE_ASK, /* a reply is held: `held` names the door; release or refuse it */
	DIALOGUE_REFUSE, /* a reply is held: refuse it for held.problem */
};

struct dialogue_counts {
	uint64_t passive_replies; /* that answered PASV or EPSV */
	uint64_t unsolicited; /* 227 or 229 that nobody asked for */
	uint64_t active_refused; /* PORT and its like */
	uint64_t auth_refused;
};

struct dialogue {
	struct endpoint server;
	bool refuse_auth;
	bool opaque; /* encrypted: everything passes unread */
	struct command_parser commands;
	struct reply_parser replies;
	struct pending pending;
	bool discarding; /* the rest of an overlong passive reply */
	struct {
		bool active;
		size_t size; /* at the front of the server's buffer */
		enum command_kind command; /* COMMAND_PASV or COMMAND_EPSV */
		struct endpoint door;
		enum dialogue_problem problem;
	} held;
	struct dialogue_counts *counts;
};

/* `counts` is shared by many and must outlive the dialogue. */
void dialogue_init(struct dialogue *dialogue, const struct endpoint *server, bool refuse_auth,
	struct dialogue_counts *counts);
/* Client to server. `last`: nothing follows what is in `in`. */
void dialogue_commands(
	struct dialogue *dialogue, struct buffer *in, struct buffer *to_server, bool last);
/* Server to client, and our own answers in their turn. */
enum dialogue_result dialogue_replies(
	struct dialogue *dialogue, struct buffer *in, struct buffer *to_client, bool last);
/* The verdict on the held reply; `line` is one line with CR LF. False when memory is out. */
bool dialogue_release(struct dialogue *dialogue, struct buffer *in, struct buffer *to_client);
bool dialogue_refuse(
	struct dialogue *dialogue, struct buffer *in, struct buffer *to_client, const char *line);
/* We owe an answer and wait for the server to answer an earlier command, though no transfer runs.
 */
bool dialogue_is_owing(const struct dialogue *dialogue);
/* Gives up on those earlier commands; the next dialogue_replies() gives our answer. */
void dialogue_stop_waiting(struct dialogue *dialogue);
/* A transfer runs: silence on the control connection is normal. */
bool dialogue_in_transfer(const struct dialogue *dialogue);

#endif
