/* postern: the command line of the policy server; see postern(1). */
#include <signal.h>

#include "client/cli/cli.h"

int main(int argc, char **argv)
{
	struct cli cli = {0};
	signal(SIGPIPE, SIG_DFL); /* a reader that has seen enough ends us quietly */
	int code = args_parse(&cli, argc, argv);
	if (code == EXIT_GOOD)
		code = cli.command->run(&cli);
	cli_fini(&cli);
	return code < 0 ? EXIT_GOOD : code;
}
