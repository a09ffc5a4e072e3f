/* Cuts a client's stream into commands and names those that concern doors. Pure.
 *
 * The bytes stay in the caller's buffer and are not copied: each step speaks of its first bytes.
 * Nothing of a command is handed out before its verb is known. */
#ifndef POSTERN_FTP_COMMAND_H
#define POSTERN_FTP_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COMMAND_PREFIX_CAP 64 /* bytes that may wait for a verb: telnet codes, spaces, the verb */
#define COMMAND_ARGUMENT_CAP 64 /* the longest EPRT has 55 */

enum command_kind {
	COMMAND_OTHER,
	COMMAND_BLANK, /* an empty line: servers need not answer */
	COMMAND_PASV, /* also vsftpd's P@SW */
	COMMAND_EPSV,
	COMMAND_EPSV_ALL,
	COMMAND_PORT, /* also vsftpd's P@RT */
	COMMAND_EPRT,
	COMMAND_LPRT, /* RFC 1639 */
	COMMAND_LPSV,
	COMMAND_AUTH,
	COMMAND_ABOR,
};

struct command_step {
	size_t size; /* 0 = nothing yet: bring these bytes again with more behind them */
	bool ends; /* they end with the command's LF */
	enum command_kind kind; /* EPSV_ALL and BLANK are known only where the command ends */
};

struct command_parser {
	size_t looked; /* bytes at the front of the caller's buffer that were looked at before */
	bool in_rest; /* behind the verb */
	enum command_kind kind;
	unsigned telnet; /* what a telnet sequence still needs, see command.c */
	char verb[4];
	unsigned verb_size;
	uint8_t argument[COMMAND_ARGUMENT_CAP]; /* of PORT, EPRT and EPSV */
	size_t argument_size; /* past the cap: it is longer */
	size_t last_size; /* what command_argument() speaks of */
};

void command_init(struct command_parser *parser);
struct command_step command_next(struct command_parser *parser, const uint8_t *data, size_t size);
/* Of the PORT, EPRT or EPSV that ended last, without the white space around it; valid until the
 * next command_next(). False when it is longer than COMMAND_ARGUMENT_CAP, counted up to the LF. */
bool command_argument(
	const struct command_parser *parser, const uint8_t **ret_argument, size_t *ret_size);
/* "PASV" and so on; "-" for what has no one name. */
const char *command_name(enum command_kind kind);

#endif
