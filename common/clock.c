#include "common/clock.h"

#include <stdio.h>
#include <time.h>

static int64_t read_us(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_mono_us(void)
{
	return read_us(CLOCK_MONOTONIC);
}

int64_t clock_real_us(void)
{
	return read_us(CLOCK_REALTIME);
}

void clock_format(int64_t real_us, char text[static CLOCK_TEXT_SIZE])
{
	int64_t us = real_us % 1000000;
	time_t seconds;
	struct tm tm;
	size_t used;

	if (us < 0)
		us += 1000000;
	seconds = (time_t)((real_us - us) / 1000000);
	text[0] = '\0';
	if (!gmtime_r(&seconds, &tm))
		return;
	used = strftime(text, CLOCK_TEXT_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + used, CLOCK_TEXT_SIZE - used, ".%06uZ", (unsigned)us);
}
