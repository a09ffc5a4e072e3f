#include <stdio.h>
#include <string.h>

#include "client/cli/cli.h"
#include "common/config.h"
#include "postern/v1/sessions.pb-c.h"

#define SERVICE &postern__v1__sessions__descriptor

static char *text(const char *from)
{
	return (char *)(uintptr_t)(from ? from : "");
}

static void on_session(struct cli *cli, const ProtobufCMessage *message, void *arg)
{
	const Postern__V1__Session *session = (const Postern__V1__Session *)message;
	bool *headed = arg;
	char opened[40];
	if (cli->json) {
		print_json(message);
		return;
	}
	if (headed && !*headed)
		printf("%-36s  %-12s %-16s %-16s %6s  %s\n", "SESSION", "GATEWAY", "CLIENT",
			"FILTER", "GRANTS", "OPENED");
	if (headed)
		*headed = true;
	print_time(session->opened_us, opened, sizeof opened);
	printf("%-36s  %-12s %-16s %-16s %6llu  %s%s\n", session->id, session->gateway,
		session->client, session->filter, (unsigned long long)session->live_grants, opened,
		session->closed_us ? "  closed" : "");
}

int session_open(struct cli *cli)
{
	Postern__V1__SessionOpenRequest request = POSTERN__V1__SESSION_OPEN_REQUEST__INIT;
	const char *limit = args_get(cli, "idle-limit");
	struct error err;
	request.gateway = text(args_get(cli, "gateway"));
	request.client = text(args_get(cli, "client"));
	request.user = text(args_get(cli, "user"));
	request.protocol = text(args_get(cli, "protocol"));
	if (!request.gateway[0] || !request.client[0])
		return usage_error(cli, "--gateway and --client are needed");
	if (limit && parse_duration(limit, &request.idle_limit_ms, &err))
		return usage_error(cli, "--idle-limit: %s", err.text);
	return call(cli, SERVICE, "Open", &request.base, false, on_session, NULL);
}

int session_close(struct cli *cli)
{
	Postern__V1__SessionCloseRequest request = POSTERN__V1__SESSION_CLOSE_REQUEST__INIT;
	request.id = text(cli->operands[0]);
	return call(cli, SERVICE, "Close", &request.base, false, on_session, NULL);
}

int session_list(struct cli *cli)
{
	Postern__V1__SessionListRequest request = POSTERN__V1__SESSION_LIST_REQUEST__INIT;
	bool headed = false;
	request.gateway = text(args_get(cli, "gateway"));
	request.client = text(args_get(cli, "client"));
	int code = call(cli, SERVICE, "List", &request.base, true, on_session, &headed);
	if (code == EXIT_GOOD && !headed && !cli->json)
		puts("no open sessions");
	return code;
}
