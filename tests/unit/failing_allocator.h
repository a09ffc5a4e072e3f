/* Allocators that fail when the including test says so. Linked with --wrap for each of them
 * (tests/unit/CMakeLists.txt); further ones are added with FAILING. */
#ifndef POSTERN_TESTS_UNIT_FAILING_ALLOCATOR_H
#define POSTERN_TESTS_UNIT_FAILING_ALLOCATOR_H

#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* The including test's: whether the allocation that is asked for now fails. */
static bool allocation_fails(void);

#define FAILING(result, name, parameters, arguments)                                               \
	result __real_##name parameters;                                                           \
	result __wrap_##name parameters;                                                           \
	result __wrap_##name parameters                                                            \
	{                                                                                          \
		return allocation_fails() ? NULL : __real_##name arguments;                        \
	}

FAILING(void *, malloc, (size_t size), (size))
FAILING(void *, calloc, (size_t count, size_t size), (count, size))
FAILING(void *, realloc, (void *old, size_t size), (old, size))
FAILING(char *, strdup, (const char *text), (text))

static atomic_int until_failure; /* 0 = never */

/* Counts one allocation; true when it is the one to fail. */
static inline bool is_the_nth(void)
{
	int left = until_failure;

	while (left > 0 && !atomic_compare_exchange_weak(&until_failure, &left, left - 1))
		;
	return left == 1;
}

/* Each allocation of `attempt` fails once, and makes it fail; returns how many there are. */
static inline int fail_each(const char *name, bool (*attempt)(void))
{
	for (int n = 1;; n++) {
		until_failure = n;
		bool succeeded = attempt();
		bool reached = until_failure == 0;
		until_failure = 0;
		if (!reached) {
			cr_assert(succeeded, "%s fails without a failing allocation", name);
			return n - 1;
		}
		cr_assert_not(succeeded, "%s: allocation %d failed unnoticed", name, n);
		cr_assert_lt(n, 1000);
	}
}

/* The same of a `life` that may go well although an allocation failed. */
static inline int survive_each(bool (*life)(void))
{
	for (int n = 1;; n++) {
		cr_assert_lt(n, 2000);
		until_failure = n;
		bool succeeded = life();
		bool reached = until_failure == 0;
		until_failure = 0;
		if (!reached) {
			cr_assert(succeeded, "fails without a failing allocation");
			return n - 1;
		}
	}
}

#endif
