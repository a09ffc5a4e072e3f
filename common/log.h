/* Logging of the programs (never of libpostern): one line a fact, to standard error or the journal
 * of systemd. */
#ifndef POSTERN_COMMON_LOG_H
#define POSTERN_COMMON_LOG_H

#include <stdbool.h>

enum log_level { LOG_LEVEL_ERR = 3, LOG_LEVEL_WARN = 4, LOG_LEVEL_INFO = 6, LOG_LEVEL_DEBUG = 7 };

/* Not safe against concurrent logging; call before threads start. When standard error is systemd's
 * journal stream
 * ($JOURNAL_STREAM) lines carry "<level>" prefixes, otherwise a time stamp. `program` must outlive
 * the process. */
void log_init(const char *program, enum log_level level);
/* Time stamps even on the journal's stream (option -d). Call after log_init. */
void log_human(void);

/* Safe from any thread. errno is preserved. Text is `area: fact: cause`, with the grant, gateway or
 * session id first. The whole line is escaped: control bytes that a peer put into a string cannot
 * forge lines. */
void log_err(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Safe from any thread. */
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

#endif
