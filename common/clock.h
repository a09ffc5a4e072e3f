/* The two clocks, in microseconds: monotonic for intervals and deadlines, real for what people
 * read. */
#ifndef POSTERN_COMMON_CLOCK_H
#define POSTERN_COMMON_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#define CLOCK_NEVER INT64_MAX
#define CLOCK_TEXT_SIZE 32

int64_t clock_mono_us(void);
int64_t clock_real_us(void); /* since 1970 UTC */

/* "2026-11-24T08:02:37.123456Z"; buffer of CLOCK_TEXT_SIZE. */
void clock_format(int64_t real_us, char text[static CLOCK_TEXT_SIZE]);

#endif
