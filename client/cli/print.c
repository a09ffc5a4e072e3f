#include <stdio.h>
#include <string.h>
#include <time.h>

#include "client/cli/cli.h"

void print_time(int64_t time_us, char *text, size_t size)
{
	time_t seconds = (time_t)(time_us / 1000000);
	struct tm tm;
	if (time_us == 0) {
		snprintf(text, size, "-");
		return;
	}
	localtime_r(&seconds, &tm);
	size_t used = strftime(text, size, "%Y-%m-%d %H:%M:%S", &tm);
	snprintf(text + used, size - used, ".%03d", (int)(time_us / 1000 % 1000));
}

void print_endpoint(const char *addr, uint32_t port, char *text, size_t size)
{
	snprintf(text, size, strchr(addr, ':') ? "[%s]:%u" : "%s:%u", addr, port);
}
