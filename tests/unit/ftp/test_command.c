/* FTP commands: those that matter are recognised however a client writes them. */
#include <criterion/criterion.h>
#include <string.h>

#include "client/inspectors/ftp/command.h"

static const struct {
	const char *line;
	enum command command;
} vectors[] = {
	{"PASV", COMMAND_PASV},
	{"pasv", COMMAND_PASV},
	{"PASV ", COMMAND_PASV},
	{"PASVX", COMMAND_OTHER},
	{"EPSV", COMMAND_EPSV},
	{"EPSV ALL", COMMAND_EPSV},
	{"PORT 10,0,0,1,0,22", COMMAND_PORT},
	{"EPRT |1|10.0.0.1|22|", COMMAND_EPRT},
	{"AUTH TLS", COMMAND_AUTH},
	{"\xff\xf4\xff\xf2PASV", COMMAND_PASV},
	{"USER PASV", COMMAND_OTHER},
	{"PAS", COMMAND_OTHER},
	{"", COMMAND_OTHER},
};

Test(command, vectors)
{
	for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++)
		cr_expect_eq(command_of(vectors[i].line, strlen(vectors[i].line)),
			vectors[i].command, "%s", vectors[i].line);
}
