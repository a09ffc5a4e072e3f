/* A WHERE clause put together from constant parts; values are bound, never pasted. Internal to the
 * store. */
#ifndef POSTERN_SERVER_STORE_CONDITION_H
#define POSTERN_SERVER_STORE_CONDITION_H

#include <stdio.h>

struct condition {
	char sql[1024];
	size_t length;
};

/* The parts are constants of this program and fit. */
static inline void condition_add(struct condition *condition, const char *sql)
{
	int n = snprintf(condition->sql + condition->length,
		sizeof condition->sql - condition->length, "%s", sql);
	condition->length += (size_t)n;
}

#endif
