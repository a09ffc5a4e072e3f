/* FTP commands (client to server), one line at a time: which of those that matter it is. Pure. */
#ifndef POSTERN_FTP_COMMAND_H
#define POSTERN_FTP_COMMAND_H

#include <stddef.h>

enum command {
	COMMAND_OTHER,
	COMMAND_PASV,
	COMMAND_EPSV,
	COMMAND_PORT,
	COMMAND_EPRT,
	COMMAND_AUTH
};

/* A line without its CR LF. Telnet sequences (IAC ...) in front are passed over; the verb's case
 * does not matter. */
enum command command_of(const char *line, size_t length);

#endif
