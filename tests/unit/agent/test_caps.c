/* The agent keeps CAP_NET_ADMIN and nothing else. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/caps.h"

/* The value of a line of /proc/self/status. */
static void status_line(const char *name, char *value, size_t size)
{
	char line[256];
	FILE *file = fopen("/proc/self/status", "r");
	cr_assert_not_null(file);
	value[0] = '\0';
	while (fgets(line, sizeof line, file)) {
		size_t length = strlen(name);
		if (strncmp(line, name, length) != 0 || line[length] != ':')
			continue;
		snprintf(value, size, "%s", line + length + 1 + strspn(line + length + 1, " \t"));
		value[strcspn(value, " \n")] = '\0';
	}
	fclose(file);
}

static void check(const char *name, const char *wanted)
{
	char value[128];
	status_line(name, value, sizeof value);
	cr_assert_str_eq(value, wanted, "%s: %s", name, value);
}

static void check_all(void)
{
	check("CapEff", "0000000000001000");
	check("CapPrm", "0000000000001000");
	check("CapInh", "0000000000000000");
	check("CapAmb", "0000000000000000");
	check("CapBnd", "0000000000000000");
	check("NoNewPrivs", "1");
}

static void drop(const char *user)
{
	struct error err = {0};
	if (geteuid() != 0)
		cr_skip_test("needs root");
	cr_assert_eq(caps_drop(user, &err), STATUS_OK, "%s", err.text);
}

Test(caps, root_without_a_user)
{
	int size = 16 << 20, got = 0;
	socklen_t length = sizeof got;
	drop(NULL);
	check_all();
	/* It works: only CAP_NET_ADMIN may exceed the limit. */
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size), 0);
	cr_assert_eq(getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &got, &length), 0);
	cr_assert_geq(got, size);
	/* The bare call: the C library's would also ask Criterion's own threads. */
	cr_assert_neq(syscall(SYS_setuid, 1), 0, "no other capability");
}

Test(caps, root_becomes_a_user)
{
	drop("nobody");
	check_all();
	cr_assert_neq(getuid(), 0);
	cr_assert_neq(geteuid(), 0);
	cr_assert_neq(getgid(), 0);
	check("Groups", "");
	cr_assert_neq(setuid(0), 0, "no way back");
}

Test(caps, unknown_user)
{
	struct error err = {0};
	cr_assert_eq(caps_drop("no-such-user-here", &err), STATUS_INVALID_ARGUMENT);
	cr_assert_not_null(strstr(err.text, "no-such-user-here"));
}

/* As a systemd service: another user, with the one capability and no right to change bounds. */
Test(caps, twice_is_as_good_as_once)
{
	struct error err = {0};
	drop("nobody");
	cr_assert_eq(caps_drop("nobody", &err), STATUS_OK, "%s", err.text);
	check_all();
	cr_assert_eq(caps_drop(NULL, &err), STATUS_OK, "%s", err.text);
	check_all();
}

Test(caps, without_the_capability_it_says_so)
{
	struct error err = {0};
	if (geteuid() != 0)
		cr_skip_test("needs root");
	cr_assert_eq(setgid(65534), 0);
	cr_assert_eq(setuid(65534), 0);
	cr_assert_eq(caps_drop(NULL, &err), STATUS_PERMISSION_DENIED);
	cr_assert_not_null(strstr(err.text, "AmbientCapabilities"), "%s", err.text);
}
