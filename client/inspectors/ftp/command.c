#include "client/inspectors/ftp/command.h"

#include <strings.h>

enum command command_of(const char *line, size_t length)
{
	static const struct {
		const char *verb;
		enum command command;
	} verbs[] = {{"PASV", COMMAND_PASV}, {"EPSV", COMMAND_EPSV}, {"PORT", COMMAND_PORT},
		{"EPRT", COMMAND_EPRT}, {"AUTH", COMMAND_AUTH}, {"LPRT", COMMAND_PORT},
		{"LPSV", COMMAND_PORT}};
	size_t at = 0;
	/* Interrupt and synch before ABOR, as RFC 959 wants them: IAC IP IAC DM. */
	while (at < length && ((unsigned char)line[at] >= 0xf0 || line[at] == ' '))
		at++;
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
		size_t end = at + 4;
		if (length >= end && strncasecmp(line + at, verbs[i].verb, 4) == 0 &&
			(length == end || line[end] == ' ' || line[end] == '\t'))
			return verbs[i].command;
	}
	return COMMAND_OTHER;
}
