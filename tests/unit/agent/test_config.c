/* agent.conf: defaults, and errors that say what to do. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/config.h"

#define GOOD "server = ipc:///run/postern/posternd.sock\ntoken_file = /etc/postern/agent.token\n"

static struct agent_config config;
static struct error err;

static enum status parse(const char *text)
{
	char path[] = "/tmp/postern-agent-conf-XXXXXX";
	int fd = mkstemp(path);
	cr_assert(fd >= 0);
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	memset(&err, 0, sizeof err);
	enum status status = agent_config_read(path, &config, &err);
	unlink(path);
	return status;
}

Test(config, defaults)
{
	cr_assert_eq(parse(GOOD), STATUS_OK, "%s", err.text);
	cr_assert_eq(config.mode, AGENT_ENFORCE);
	cr_assert_eq(config.mark, 0x80000000);
	cr_assert_eq(config.mark_oneway, 0x40000000);
	cr_assert_eq(config.mark_session, 0x20000000);
	cr_assert_eq(config.external_port_first, 61000);
	cr_assert_eq(config.external_port_last, 65535);
	cr_assert_eq(config.renewal, 0, "auto");
	cr_assert_str_eq(config.table, "postern");
	cr_assert_eq(config.priority, -10);
	cr_assert_eq(config.event_buffer, 4 << 20);
	cr_assert_null(config.user);
	agent_config_fini(&config);
}

Test(config, everything_can_be_set)
{
	cr_assert_eq(parse(GOOD "mode = overlay\nmark = 0x100\nmark_oneway = 512\nmark_session = "
				"1\ntable = my_doors-2\n"
				"priority = 25\nuser = nobody\nmax_reports = 5000\n"
				"external_ports = 5000-5000\nrenewal = replace\n"
				"event_buffer = 1m\nmax_event_buffer = 2m\n"),
		STATUS_OK, "%s", err.text);
	cr_assert_eq(config.mode, AGENT_OVERLAY);
	cr_assert_eq(config.mark, 0x100);
	cr_assert_eq(config.mark_session, 1);
	cr_assert_eq(config.external_port_first, 5000);
	cr_assert_eq(config.external_port_last, 5000);
	cr_assert_eq(config.renewal, 2);
	cr_assert_eq(config.priority, 25);
	cr_assert_str_eq(config.user, "nobody");
	agent_config_fini(&config);
}

Test(config, errors_name_what_is_wrong)
{
	static const struct {
		const char *text, *says;
	} rows[] = {
		{"token_file = x\n", "server"},
		{"server = ipc:///x\n", "token_file"},
		{GOOD "mark = 3\n", "single bits"},
		{GOOD "mark = 0x40000000\n", "different single bits"},
		{GOOD "mark_oneway = 0\n", "mark_oneway"},
		{GOOD "mark_session = 0x40000000\n", "three different"},
		{GOOD "mark_session = 0x30000000\n", "single bits"},
		{GOOD "external_ports = 65535-61000\n", "external_ports"},
		{GOOD "external_ports = 0-5\n", "use a range"},
		{GOOD "external_ports = 61000-65536\n", "external_ports"},
		{GOOD "external_ports = some\n", "external_ports"},
		{GOOD "external_ports = -\n", "external_ports"},
		{GOOD "renewal = never\n", "renewal"},
		{GOOD "table = a b\n", "table"},
		{GOOD "table = 1st\n", "a letter first"},
		{GOOD "priority = soon\n", "priority"},
		{GOOD "priority = -\n", "priority"},
		{GOOD "priority = 99999999\n", "priority"},
		{GOOD "mode = strict\n", "mode"},
		{GOOD "max_event_buffer = 1m\n", "smaller than event_buffer"},
		{GOOD "colour = red\n", "colour"},
		{"server = tls+tcp://p:7411\ntoken_file = x\n", "ca_file is needed"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		cr_assert_eq(parse(rows[i].text), STATUS_INVALID_ARGUMENT, "%s", rows[i].text);
		cr_assert_not_null(strstr(err.text, rows[i].says), "\"%s\" does not say \"%s\"",
			err.text, rows[i].says);
	}
}
