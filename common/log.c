#include "common/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"

#define LINE_SIZE 2048

static const char *program_name = "postern";
static atomic_int threshold = LOG_LEVEL_INFO;
static bool for_journal;

/* systemd sets JOURNAL_STREAM=DEV:INODE of the socket it connected; a redirected child must not
 * believe it. */
static bool stderr_is_journal(void)
{
	const char *text = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	if (!text || sscanf(text, "%llu:%llu", &device, &inode) != 2)
		return false;
	return fstat(STDERR_FILENO, &st) == 0 && st.st_dev == (dev_t)device &&
		st.st_ino == (ino_t)inode;
}

void log_init(const char *program, enum log_level level)
{
	program_name = program;
	threshold = (int)level;
	for_journal = stderr_is_journal();
}

void log_human(void)
{
	for_journal = false;
}

void log_set_level(enum log_level level)
{
	threshold = (int)level;
}

bool log_enabled(enum log_level level)
{
	return (int)level <= threshold;
}

/* Bytes that a terminal or a line-based reader could take for more than text: C0, DEL, and UTF-8's
 * C1. */
static bool is_unsafe(const unsigned char *byte, bool after_c2)
{
	return *byte < 0x20 || *byte == 0x7f || (after_c2 && *byte >= 0x80 && *byte < 0xa0);
}

/* Writes `text` escaped into line[used..], leaves room for the line feed, returns the new length.
 */
static size_t escape(char line[static LINE_SIZE], size_t used, const char *text)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *byte;
	bool after_c2 = false;

	for (byte = (const unsigned char *)text; *byte && used + 8 < LINE_SIZE; byte++) {
		if (is_unsafe(byte, after_c2)) {
			line[used++] = '\\';
			line[used++] = 'x';
			line[used++] = digits[*byte >> 4];
			line[used++] = digits[*byte & 15];
		} else {
			line[used++] = (char)*byte;
		}
		after_c2 = *byte == 0xc2;
	}
	if (*byte) {
		memcpy(line + used, "...", 3);
		used += 3;
	}
	return used;
}

static const char *level_word(enum log_level level)
{
	switch (level) {
	case LOG_LEVEL_ERR:
		return "error: ";
	case LOG_LEVEL_WARN:
		return "warning: ";
	case LOG_LEVEL_INFO:
		return "";
	case LOG_LEVEL_DEBUG:
		return "debug: ";
	}
	return "";
}

static __attribute__((format(printf, 2, 0))) void write_line(
	enum log_level level, const char *format, va_list args)
{
	char text[LINE_SIZE], line[LINE_SIZE], stamp[CLOCK_TEXT_SIZE];
	int saved = errno, used;
	size_t length;
	ssize_t ignored;

	vsnprintf(text, sizeof(text), format, args);
	if (for_journal) {
		used = snprintf(line, 8, "<%d>", (int)level);
	} else {
		clock_format(clock_real_us(), stamp);
		used = snprintf(line, 256, "%s %.64s[%d]: %s", stamp, program_name, (int)getpid(),
			level_word(level));
	}
	length = escape(line, (size_t)used, text);
	line[length++] = '\n';
	/* One write a line: lines of several threads and processes do not mix. Nobody can be told
	 * when it fails. */
	ignored = write(STDERR_FILENO, line, length);
	(void)ignored;
	errno = saved;
}

void log_err(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	write_line(LOG_LEVEL_ERR, format, args);
	va_end(args);
}

void log_warn(const char *format, ...)
{
	va_list args;

	if (!log_enabled(LOG_LEVEL_WARN))
		return;
	va_start(args, format);
	write_line(LOG_LEVEL_WARN, format, args);
	va_end(args);
}

void log_info(const char *format, ...)
{
	va_list args;

	if (!log_enabled(LOG_LEVEL_INFO))
		return;
	va_start(args, format);
	write_line(LOG_LEVEL_INFO, format, args);
	va_end(args);
}

void log_debug(const char *format, ...)
{
	va_list args;

	if (!log_enabled(LOG_LEVEL_DEBUG))
		return;
	va_start(args, format);
	write_line(LOG_LEVEL_DEBUG, format, args);
	va_end(args);
}
