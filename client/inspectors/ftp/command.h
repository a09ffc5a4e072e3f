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
	char argument[4]; /* of EPSV */
	unsigned argument_size;
};

void command_init(struct command_parser *parser);
struct command_step command_next(struct command_parser *parser, const uint8_t *data, size_t size);

#endif
