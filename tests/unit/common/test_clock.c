#include "common/clock.h"

#include <criterion/criterion.h>

Test(clock, format)
{
	char text[CLOCK_TEXT_SIZE];

	clock_format(INT64_C(1795507357123456), text);
	cr_assert_str_eq(text, "2026-11-24T08:02:37.123456Z");
	clock_format(0, text);
	cr_assert_str_eq(text, "1970-01-01T00:00:00.000000Z");
	clock_format(-1, text);
	cr_assert_str_eq(text, "1969-12-31T23:59:59.999999Z");
	clock_format(CLOCK_NEVER, text); /* whatever it is, it stays within the buffer */
}

Test(clock, monotonic_never_decreases)
{
	int64_t last = clock_mono_us(), now;

	for (int i = 0; i < 1000; i++) {
		now = clock_mono_us();
		cr_assert_geq(now, last);
		last = now;
	}
	cr_assert_gt(clock_real_us(), INT64_C(1700000000000000));
}
